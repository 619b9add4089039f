/* fuzz_request.c - requests on keys from clients, from their bytes to the answer.
 *
 * The first byte chooses Range, Put, DeleteRange or Txn; the rest is the encoded request. What
 * passes the checks is served by an engine with a few keys, as the API would: reads must keep what
 * they promise at their opening, and a read-only txn must answer as the same txn applied from the
 * log.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/wire.h"
#include "fuzz_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_MS 1000u
#define TERM 1u
#define TXN_OPS_MAX 128u
#define ARENA_BYTES_MAX ((size_t)64 << 20) /* a decoded request takes no more */
#define CHUNK_BYTES 7u

enum { FIELD_PUT = 4, FIELD_DELETE_RANGE = 5, FIELD_TXN = 6 }; /* of InternalRaftRequest */

static void *take(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void give_back(void *arena, void *p)
{
    (void)arena;
    (void)p; /* goes with the arena */
}

static struct apply_result propose(struct engine *e, uint32_t field, struct slice request)
{
    struct bytes entry = {0};
    struct apply_result r;
    wire_add_message(&entry, field, request);
    engine_apply(e, engine_applied_index(e) + 1, TERM, 0, bytes_slice(&entry), true, NOW_MS, &r);
    bytes_deinit(&entry);
    return r;
}

/* Four keys, one of them in several versions, one deleted. */
static void fill(struct engine *e)
{
    static const char *const keys[] = {"a", "b", "b", "b", "c", "\xff\xff"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct bytes put = {0};
        wire_add_bytes(&put, 1, slice_str(keys[i]));
        wire_add_bytes(&put, 2, slice_str("7"));
        struct apply_result r = propose(e, FIELD_PUT, bytes_slice(&put));
        ASSERT(r.err == OK);
        buf_unref(&r.body);
        bytes_deinit(&put);
    }
    struct apply_result r = propose(e, FIELD_DELETE_RANGE, slice_of("\n\1a", 3));
    ASSERT(r.err == OK);
    buf_unref(&r.body);
}

static void read_range(struct engine *e, const Etcdserverpb__RangeRequest *r)
{
    struct range_read *read = NULL;
    struct range_info info;
    struct err_ctx ec = {{0}};
    if (engine_range_open(e, r, NOW_MS, &read, &info, &ec) != OK) {
        ASSERT(read == NULL);
        return;
    }
    ASSERT(info.n_kvs <= info.count);
    uint64_t n_pulled = 0;
    uint8_t chunk[CHUNK_BYTES];
    enum err err = OK;
    for (size_t n = 1; n > 0;) {
        n = engine_range_pull(read, chunk, sizeof(chunk), &err);
        n_pulled += n;
    }
    ASSERT(err == OK);
    ASSERT(n_pulled == info.kvs_bytes);
    engine_range_close(&read);
}

static void serve_txn(struct engine *e, const Etcdserverpb__TxnRequest *r, struct slice encoded)
{
    bool serializable = false;
    bool read_only = engine_txn_is_read_only(r, &serializable);
    struct bytes body = {0};
    int64_t revision = 0;
    struct err_ctx ec = {{0}};
    enum err read_err = OK;
    if (read_only) {
        read_err = engine_txn_read(e, r, NOW_MS, &body, &revision, &ec);
    }
    int64_t before = engine_revision(e);
    struct apply_result applied = propose(e, FIELD_TXN, encoded);
    ASSERT(engine_revision(e) - before <= (read_only ? 0 : 1));
    if (read_only) {
        ASSERT(read_err == applied.err);
        ASSERT(read_err != OK || revision == before);
        ASSERT(read_err != OK || slice_eq(bytes_slice(&body), buf_slice(applied.body)));
    }
    buf_unref(&applied.body);
    bytes_deinit(&body);
}

static void serve_write(struct engine *e, uint32_t field, struct slice encoded)
{
    int64_t before = engine_revision(e);
    struct apply_result r = propose(e, field, encoded);
    ASSERT(engine_revision(e) - before <= 1);
    buf_unref(&r.body);
}

static void serve(struct engine *e, uint8_t kind, struct slice encoded, ProtobufCAllocator *a)
{
    if (kind == 0) {
        Etcdserverpb__RangeRequest *r =
            etcdserverpb__range_request__unpack(a, encoded.len, encoded.data);
        if (r != NULL && engine_check_range(r) == OK) {
            read_range(e, r);
        }
    } else if (kind == 1) {
        Etcdserverpb__PutRequest *r =
            etcdserverpb__put_request__unpack(a, encoded.len, encoded.data);
        if (r != NULL && engine_check_put(r) == OK) {
            ASSERT(engine_put_cost(r) > 0);
            serve_write(e, FIELD_PUT, encoded);
        }
    } else if (kind == 2) {
        Etcdserverpb__DeleteRangeRequest *r =
            etcdserverpb__delete_range_request__unpack(a, encoded.len, encoded.data);
        if (r != NULL && engine_check_delete(r) == OK) {
            serve_write(e, FIELD_DELETE_RANGE, encoded);
        }
    } else if (engine_txn_depth(encoded) == OK) {
        Etcdserverpb__TxnRequest *r =
            etcdserverpb__txn_request__unpack(a, encoded.len, encoded.data);
        if (r != NULL && engine_check_txn(r, TXN_OPS_MAX) == OK) {
            ASSERT(engine_txn_cost(r) >= 0);
            serve_txn(e, r, encoded);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct fuzz_engine f;
    fuzz_engine_open(&f);
    fill(f.e);
    struct arena *arena = arena_create(4096, ARENA_BYTES_MAX);
    ProtobufCAllocator a = {.alloc = take, .free = give_back, .allocator_data = arena};
    serve(f.e, data[0] % 4, slice_of(data + 1, size - 1), &a);
    arena_destroy(&arena);
    engine_close(&f.e);
    return 0;
}
