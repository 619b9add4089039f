/* read.c - the commands that only look, and the bodies for h2load. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "bench/bench.h"

#define FRAME_HEAD 5u
#define BODY_BYTES_MAX (2u * 1024u * 1024u)
#define RETRY_MS 5u

static const char range_path[] = "/etcdserverpb.KV/Range";

/* limit 1: a plain get of key n; else a range from key n to the end of the bench keys. */
static void pack_range(const struct options *o, uint64_t n, struct bytes *out)
{
    char key[KEY_BYTES_MAX + 1];
    bench_key(o, n, key);
    Etcdserverpb__RangeRequest q = ETCDSERVERPB__RANGE_REQUEST__INIT;
    q.key = bench_binary(key, o->key_bytes);
    if (o->limit != 1) {
        q.range_end = bench_binary("/bench0", 7); /* '0' follows '/' */
        q.limit = o->limit;
    }
    q.serializable = o->serializable;
    bytes_reset(out);
    out->len = etcdserverpb__range_request__pack(
        &q, bytes_reserve(out, etcdserverpb__range_request__get_packed_size(&q)));
}

/* Keys in the reply. */
static uint64_t count_kvs(struct slice reply)
{
    Etcdserverpb__RangeResponse *r =
        etcdserverpb__range_response__unpack(NULL, reply.len, reply.data);
    uint64_t n = r == NULL ? 0 : r->n_kvs;
    etcdserverpb__range_response__free_unpacked(r, NULL);
    return n;
}

int bench_range(const struct options *o)
{
    struct bench b;
    if (!bench_open(&b, o)) {
        return 1;
    }
    struct bytes request = {0};
    struct bytes reply = {0};
    struct client_status status;
    uint64_t n_kvs = 0;
    uint64_t span = o->limit > 0 && (uint64_t)o->limit < o->keys ? o->keys - (uint64_t)o->limit : 1;
    enum err e = OK;
    uint64_t start = bench_now_ns();
    for (uint64_t i = 0; i < o->requests && e == OK; i++) {
        /* A stride coprime to most spans visits pages all over the keys. */
        pack_range(o, o->first + (o->spread ? i * 7919u * 104729u % span : 0), &request);
        uint64_t before = bench_now_ns();
        e = client_call(b.client, range_path, bytes_slice(&request), CALL_MS, &status, &reply);
        histogram_add(b.latency, bench_now_ns() - before);
        if (e == OK && status.code != CLIENT_CODE_OK) {
            bench_failed(&b, &status);
        }
        if (i == 0 && e == OK) {
            n_kvs = count_kvs(bytes_slice(&reply));
        }
    }
    uint64_t elapsed = bench_now_ns() - start;
    (void)printf("keys=%" PRIu64 " bytes=%zu ", n_kvs, reply.len);
    bool good = bench_print(&b, b.latency->n, elapsed) && e == OK;
    bytes_deinit(&request);
    bytes_deinit(&reply);
    bench_close(&b);
    return good ? 0 : 1;
}

/* One try: connect and read. */
static bool answers(const struct options *o)
{
    struct client *c = NULL;
    struct err_ctx ec;
    if (client_connect(o->endpoint, 1000, &c, &ec) != OK) {
        return false;
    }
    struct bytes request = {0};
    struct bytes reply = {0};
    struct client_status status;
    struct options get = *o;
    get.limit = 1;
    get.serializable = false;
    pack_range(&get, o->first, &request);
    bool good = client_call(c, range_path, bytes_slice(&request), CALL_MS, &status, &reply) == OK &&
                status.code == CLIENT_CODE_OK &&
                (o->keys == 0 || count_kvs(bytes_slice(&reply)) == 1);
    bytes_deinit(&request);
    bytes_deinit(&reply);
    client_close(&c);
    return good;
}

int bench_wait(const struct options *o)
{
    uint64_t start = bench_now_ns();
    uint64_t until = start + (uint64_t)o->seconds * 1000000000u;
    struct timespec pause = {0, RETRY_MS * 1000000};
    while (!answers(o)) {
        if (bench_now_ns() >= until) {
            (void)fprintf(stderr, "pintle-bench: no answer from %s in %u s\n", o->endpoint,
                          o->seconds);
            return 1;
        }
        (void)nanosleep(&pause, NULL);
    }
    (void)printf("seconds=%.3f\n", (double)(bench_now_ns() - start) / 1e9);
    return 0;
}

int bench_frame(const struct options *o)
{
    struct bytes body = {0};
    if (strcmp(o->path, "put") == 0) {
        char key[KEY_BYTES_MAX + 1];
        bench_key(o, o->first, key);
        uint8_t *value = xcalloc(1, o->value_bytes + 1u);
        memset(value, 'v', o->value_bytes);
        Etcdserverpb__PutRequest q = ETCDSERVERPB__PUT_REQUEST__INIT;
        q.key = bench_binary(key, o->key_bytes);
        q.value = bench_binary(value, o->value_bytes);
        body.len = etcdserverpb__put_request__pack(
            &q, bytes_reserve(&body, etcdserverpb__put_request__get_packed_size(&q)));
        free(value);
    } else {
        pack_range(o, o->first, &body);
    }
    uint32_t n = (uint32_t)body.len;
    const uint8_t head[FRAME_HEAD] = {0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                                      (uint8_t)n};
    FILE *f = fopen(o->file, "wb");
    bool good = f != NULL && fwrite(head, 1, FRAME_HEAD, f) == FRAME_HEAD &&
                fwrite(body.data, 1, n, f) == n;
    good = (f == NULL || fclose(f) == 0) && good;
    if (!good) {
        perror(o->file);
    }
    bytes_deinit(&body);
    return good ? 0 : 1;
}

int bench_call(const struct options *o)
{
    FILE *f = fopen(o->file, "rb");
    if (f == NULL) {
        perror(o->file);
        return 1;
    }
    uint8_t *body = xalloc(BODY_BYTES_MAX);
    size_t n = fread(body, 1, BODY_BYTES_MAX, f);
    (void)fclose(f); /* only read */
    struct bench b = {0};
    struct client_status status = {0};
    struct bytes reply = {0};
    bool good = n >= FRAME_HEAD && bench_open(&b, o) &&
                client_call(b.client, o->path, slice_of(body + FRAME_HEAD, n - FRAME_HEAD), CALL_MS,
                            &status, &reply) == OK;
    (void)printf("code=%u bytes=%zu %s\n", status.code, reply.len, status.text);
    bytes_deinit(&reply);
    bench_close(&b);
    free(body);
    return good && status.code == CLIENT_CODE_OK ? 0 : 1;
}

int bench_memory(const struct options *o)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/status", o->pid);
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    char line[256];
    unsigned found = 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        char name[32];
        uint64_t kb = 0;
        if (sscanf(line, "%31[^:]: %" SCNu64 " kB", name, &kb) == 2 &&
            (strcmp(name, "RssAnon") == 0 || strcmp(name, "RssFile") == 0 ||
             strcmp(name, "VmHWM") == 0)) {
            (void)printf("%s_kb=%" PRIu64 " ", name, kb);
            found++;
        }
    }
    (void)printf("\n");
    (void)fclose(f);
    return found == 3 ? 0 : 1;
}
