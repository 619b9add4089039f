/* bench.c - connection, keys and results. */
#include "bench/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"

static const char key_prefix[] = "/bench/";

uint64_t bench_now_ns(void)
{
    return clock_now_ns(clock_real());
}

bool bench_open(struct bench *b, const struct options *o)
{
    *b = (struct bench){.options = o, .latency = xcalloc(1, sizeof(*b->latency))};
    struct err_ctx ec = {{0}};
    if (client_connect(o->endpoint, CONNECT_MS, &b->client, &ec) != OK) {
        (void)fprintf(stderr, "pintle-bench: %s\n", ec.text);
        bench_close(b);
        return false;
    }
    return true;
}

void bench_close(struct bench *b)
{
    client_close(&b->client);
    free(b->latency);
    b->latency = NULL;
}

void bench_failed(struct bench *b, const struct client_status *status)
{
    if (b->n_failed++ == 0) {
        (void)snprintf(b->first_failure, sizeof(b->first_failure), "code %u %s", status->code,
                       status->text);
    }
}

bool bench_print(const struct bench *b, uint64_t units, uint64_t elapsed_ns)
{
    const struct histogram *h = b->latency;
    double seconds = (double)elapsed_ns / 1e9;
    (void)printf("requests=%" PRIu64 " units=%" PRIu64 " failed=%" PRIu64
                 " seconds=%.3f rate=%.1f mean_us=%.1f p50_us=%.1f p90_us=%.1f p99_us=%.1f"
                 " p999_us=%.1f max_us=%.1f\n",
                 h->n, units, b->n_failed, seconds, seconds > 0 ? (double)units / seconds : 0,
                 h->n > 0 ? (double)h->sum / (double)h->n / 1e3 : 0,
                 (double)histogram_percentile(h, 5000) / 1e3,
                 (double)histogram_percentile(h, 9000) / 1e3,
                 (double)histogram_percentile(h, 9900) / 1e3,
                 (double)histogram_percentile(h, 9990) / 1e3, (double)h->max / 1e3);
    if (b->n_failed > 0) {
        (void)fprintf(stderr, "pintle-bench: %" PRIu64 " calls failed, first: %s\n", b->n_failed,
                      b->first_failure);
    }
    return b->n_failed == 0;
}

void bench_key(const struct options *o, uint64_t n, char key[KEY_BYTES_MAX + 1])
{
    int digits = (int)(o->key_bytes - (sizeof(key_prefix) - 1));
    ASSERT(digits > 0);
    (void)snprintf(key, KEY_BYTES_MAX + 1, "%s%0*" PRIu64, key_prefix, digits, n);
}

ProtobufCBinaryData bench_binary(const void *data, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)data};
}

void bench_print_latency(const char *what, const struct histogram *h)
{
    printf("%s_p50_us=%.1f %s_p99_us=%.1f %s_max_us=%.1f ", what, (double)histogram_percentile(h, 5000) / 1e3, what,
           (double)histogram_percentile(h, 9900) / 1e3, what, (double)h->max / 1e3);
}
