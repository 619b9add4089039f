/* probe.c - a client as there are many: a put, a get, a put ..., one after another, for a time. */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "bench/bench.h"

#define KEYS 100u
#define VALUE_BYTES 256u
#define NS_PER_S 1000000000u
#define PROBE_CALL_MS 10000u

static void pack(bool put, uint64_t n, struct bytes *out)
{
    static const uint8_t value[VALUE_BYTES];
    char key[32];
    size_t len = (size_t)snprintf(key, sizeof(key), "busy/%llu", (unsigned long long)(n % KEYS));
    bytes_reset(out);
    if (put) {
        Etcdserverpb__PutRequest q = ETCDSERVERPB__PUT_REQUEST__INIT;
        q.key = bench_binary(key, len);
        q.value = bench_binary(value, sizeof(value));
        out->len = etcdserverpb__put_request__pack(&q, bytes_reserve(out, etcdserverpb__put_request__get_packed_size(&q)));
    } else {
        Etcdserverpb__RangeRequest q = ETCDSERVERPB__RANGE_REQUEST__INIT;
        q.key = bench_binary(key, len);
        out->len = etcdserverpb__range_request__pack(&q, bytes_reserve(out, etcdserverpb__range_request__get_packed_size(&q)));
    }
}

int bench_probe(const struct options *o)
{
    struct bench b;
    if (!bench_open(&b, o)) {
        return 1;
    }
    struct histogram *latency[2] = {xcalloc(1, sizeof(struct histogram)), xcalloc(1, sizeof(struct histogram))};
    static const char *const paths[2] = {"/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range"};
    struct bytes request = {0};
    struct bytes reply = {0};
    enum err e = OK;
    uint64_t start = bench_now_ns();
    uint64_t now = start;
    uint64_t n = 0;
    for (; e == OK && now < start + (uint64_t)o->seconds * NS_PER_S; n++) {
        struct client_status status;
        pack(n % 2 == 0, n / 2, &request);
        e = client_call(b.client, paths[n % 2], bytes_slice(&request), PROBE_CALL_MS, &status, &reply);
        uint64_t done = bench_now_ns();
        histogram_add(latency[n % 2], done - now);
        now = done;
        if (e == OK && status.code != CLIENT_CODE_OK) {
            bench_failed(&b, &status);
        }
    }
    bench_print_latency("put", latency[0]);
    bench_print_latency("get", latency[1]);
    printf("rate=%.1f failed=%llu %s\n", (double)n * 1e9 / (double)(now - start), (unsigned long long)b.n_failed, b.first_failure);
    bool good = e == OK && b.n_failed == 0;
    bytes_deinit(&request);
    bytes_deinit(&reply);
    free(latency[0]);
    free(latency[1]);
    bench_close(&b);
    return good ? 0 : 1;
}
