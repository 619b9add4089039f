/* write.c - the commands that change the store. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "bench/bench.h"

static const char put_path[] = "/etcdserverpb.KV/Put";
static const char txn_path[] = "/etcdserverpb.KV/Txn";
static const char compact_path[] = "/etcdserverpb.KV/Compact";

/* Incompressible bytes, the same in each run. */
static uint8_t *make_value(uint32_t n)
{
    uint8_t *value = xalloc(n + 1u);
    uint64_t x = 88172645463325252u;
    for (uint32_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        value[i] = (uint8_t)x;
    }
    return value;
}

static void pack_put(const struct options *o, uint64_t n, const uint8_t *value, struct bytes *out)
{
    char key[KEY_BYTES_MAX + 1];
    bench_key(o, o->first + n % o->keys, key);
    Etcdserverpb__PutRequest q = ETCDSERVERPB__PUT_REQUEST__INIT;
    q.key = bench_binary(key, o->key_bytes);
    q.value = bench_binary(value, o->value_bytes);
    bytes_reset(out);
    out->len = etcdserverpb__put_request__pack(
        &q, bytes_reserve(out, etcdserverpb__put_request__get_packed_size(&q)));
}

int bench_put(const struct options *o)
{
    struct bench b;
    if (!bench_open(&b, o)) {
        return 1;
    }
    uint8_t *value = make_value(o->value_bytes);
    struct bytes request = {0};
    struct bytes reply = {0};
    struct client_status status;
    enum err e = OK;
    uint64_t start = bench_now_ns();
    uint64_t before = start;
    for (uint64_t i = 0; i < o->requests && e == OK; i++) {
        pack_put(o, i, value, &request);
        before = bench_now_ns();
        e = client_call(b.client, put_path, bytes_slice(&request), CALL_MS, &status, &reply);
        histogram_add(b.latency, bench_now_ns() - before);
        if (e == OK && status.code != CLIENT_CODE_OK) {
            bench_failed(&b, &status);
        }
    }
    bool good = bench_print(&b, b.latency->n, bench_now_ns() - start) && e == OK;
    bytes_deinit(&request);
    bytes_deinit(&reply);
    free(value);
    bench_close(&b);
    return good ? 0 : 1;
}

/* One outstanding call of the pipelined commands. */
struct slot {
    struct bench *bench;
    uint64_t due_ns;
    struct slot *next_free;
    struct slot **free_list;
};

static void slot_done(void *arg, const struct client_status *status, struct slice reply)
{
    (void)reply;
    struct slot *s = arg;
    histogram_add(s->bench->latency, bench_now_ns() - s->due_ns);
    if (status->code != CLIENT_CODE_OK) {
        bench_failed(s->bench, status);
    }
    s->next_free = *s->free_list;
    *s->free_list = s;
}

static struct slot *make_slots(struct bench *b, uint32_t n, struct slot **free_list)
{
    struct slot *slots = xcalloc(n, sizeof(*slots));
    *free_list = NULL;
    for (uint32_t i = n; i > 0; i--) {
        slots[i - 1] = (struct slot){b, 0, *free_list, free_list};
        *free_list = &slots[i - 1];
    }
    return slots;
}

static enum err drain(struct client *c)
{
    while (client_in_flight(c) > 0) {
        enum err e = client_pump(c, CALL_MS);
        if (e != OK && e != ERR_DEADLINE) {
            return e;
        }
    }
    return OK;
}

/* Submit each put when it is due, however late the answers are, so that a stall of the server
 * counts for every put that falls into it. With more than `depth` outstanding the next waits, and
 * its waiting counts as well. */
static enum err pace(struct bench *b, const uint8_t *value, struct slot **free_list,
                     uint64_t start_ns)
{
    const struct options *o = b->options;
    uint64_t interval_ns = 1000000000u / o->rate;
    uint64_t n = (uint64_t)o->rate * o->seconds;
    struct bytes request = {0};
    enum err e = OK;
    for (uint64_t i = 0; i < n && e == OK; i++) {
        uint64_t due_ns = start_ns + i * interval_ns;
        while (e == OK && (bench_now_ns() < due_ns || *free_list == NULL)) {
            uint64_t until_ns = *free_list == NULL ? due_ns + 1000000000u : due_ns;
            e = client_pump_until(&b->client, 1, until_ns);
            e = e == ERR_DEADLINE ? OK : e;
        }
        if (e == OK) {
            struct slot *s = *free_list;
            *free_list = s->next_free;
            s->due_ns = due_ns;
            pack_put(o, i, value, &request);
            e = client_submit(b->client, put_path, bytes_slice(&request), CALL_MS, slot_done, s);
        }
    }
    bytes_deinit(&request);
    return e != OK ? e : drain(b->client);
}

int bench_paced(const struct options *o)
{
    struct bench b;
    if (!bench_open(&b, o)) {
        return 1;
    }
    struct slot *free_list = NULL;
    struct slot *slots = make_slots(&b, DEPTH_MAX, &free_list);
    uint8_t *value = make_value(o->value_bytes);
    uint64_t start = bench_now_ns();
    enum err e = pace(&b, value, &free_list, start);
    bool good = bench_print(&b, b.latency->n, bench_now_ns() - start) && e == OK;
    bench_close(&b); /* before the slots, which its calls point into */
    free(slots);
    free(value);
    return good ? 0 : 1;
}

/* A txn of puts of the keys first..first+n-1 of the load. */
static void pack_batch(const struct options *o, uint64_t first, uint32_t n, const uint8_t *value,
                       struct bytes *out)
{
    static const Etcdserverpb__PutRequest put_init = ETCDSERVERPB__PUT_REQUEST__INIT;
    static const Etcdserverpb__RequestOp op_init = ETCDSERVERPB__REQUEST_OP__INIT;
    char keys[BATCH_MAX][KEY_BYTES_MAX + 1];
    Etcdserverpb__PutRequest puts[BATCH_MAX];
    Etcdserverpb__RequestOp ops[BATCH_MAX];
    Etcdserverpb__RequestOp *list[BATCH_MAX];
    ASSERT(n <= BATCH_MAX);
    for (uint32_t i = 0; i < n; i++) {
        bench_key(o, o->first + (first + i) % o->keys, keys[i]);
        puts[i] = put_init;
        puts[i].key = bench_binary(keys[i], o->key_bytes);
        puts[i].value = bench_binary(value, o->value_bytes);
        ops[i] = op_init;
        ops[i].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        ops[i].request_put = &puts[i];
        list[i] = &ops[i];
    }
    Etcdserverpb__TxnRequest q = ETCDSERVERPB__TXN_REQUEST__INIT;
    q.n_success = n;
    q.success = list;
    bytes_reset(out);
    out->len = etcdserverpb__txn_request__pack(
        &q, bytes_reserve(out, etcdserverpb__txn_request__get_packed_size(&q)));
}

static enum err load(struct bench *b, const uint8_t *value, struct slot **free_list)
{
    const struct options *o = b->options;
    struct bytes request = {0};
    enum err e = OK;
    for (uint64_t at = 0; at < o->requests && e == OK && b->n_failed == 0;) {
        while (*free_list == NULL && e == OK) {
            e = client_pump(b->client, CALL_MS);
        }
        if (e != OK) {
            break;
        }
        uint64_t left = o->requests - at;
        uint32_t n = left < o->batch ? (uint32_t)left : o->batch;
        if (n == 1) {
            pack_put(o, at, value, &request);
        } else {
            pack_batch(o, at, n, value, &request);
        }
        struct slot *s = *free_list;
        *free_list = s->next_free;
        s->due_ns = bench_now_ns();
        e = client_submit(b->client, n == 1 ? put_path : txn_path, bytes_slice(&request), CALL_MS,
                          slot_done, s);
        at += n;
    }
    bytes_deinit(&request);
    return e != OK ? e : drain(b->client);
}

int bench_load(const struct options *o)
{
    struct bench b;
    if (!bench_open(&b, o)) {
        return 1;
    }
    struct slot *free_list = NULL;
    struct slot *slots = make_slots(&b, o->depth, &free_list);
    uint8_t *value = make_value(o->value_bytes);
    uint64_t start = bench_now_ns();
    enum err e = load(&b, value, &free_list);
    bool good = bench_print(&b, o->requests, bench_now_ns() - start) && e == OK;
    bench_close(&b);
    free(slots);
    free(value);
    return good ? 0 : 1;
}

/* The live revision, from the header of a read; 0 on failure. */
static int64_t live_revision(struct bench *b)
{
    Etcdserverpb__RangeRequest q = ETCDSERVERPB__RANGE_REQUEST__INIT;
    q.key = bench_binary("x", 1);
    q.count_only = 1;
    uint8_t packed[16];
    size_t n = etcdserverpb__range_request__pack(&q, packed);
    struct client_status status;
    struct bytes reply = {0};
    int64_t revision = 0;
    if (client_call(b->client, "/etcdserverpb.KV/Range", slice_of(packed, n), CALL_MS, &status,
                    &reply) == OK &&
        status.code == CLIENT_CODE_OK) {
        Etcdserverpb__RangeResponse *r =
            etcdserverpb__range_response__unpack(NULL, reply.len, reply.data);
        if (r != NULL) {
            revision = r->header == NULL ? 0 : r->header->revision;
            etcdserverpb__range_response__free_unpacked(r, NULL);
        }
    }
    bytes_deinit(&reply);
    return revision;
}

int bench_compact(const struct options *o)
{
    struct bench b;
    if (!bench_open(&b, o)) {
        return 1;
    }
    Etcdserverpb__CompactionRequest q = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    q.revision = o->revision != 0 ? o->revision : live_revision(&b);
    q.physical = o->physical;
    uint8_t packed[32];
    size_t n = etcdserverpb__compaction_request__pack(&q, packed);
    struct client_status status;
    struct bytes reply = {0};
    uint64_t start = bench_now_ns();
    enum err e =
        client_call(b.client, compact_path, slice_of(packed, n), 10 * CALL_MS, &status, &reply);
    uint64_t elapsed = bench_now_ns() - start;
    histogram_add(b.latency, elapsed);
    if (e == OK && status.code != CLIENT_CODE_OK) {
        bench_failed(&b, &status);
    }
    bool good = bench_print(&b, 1, elapsed) && e == OK;
    bytes_deinit(&reply);
    bench_close(&b);
    return good ? 0 : 1;
}
