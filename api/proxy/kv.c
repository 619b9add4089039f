/* kv.c - KV: reads from the cache, writes past it. */
#include "api/proxy/internal.h"
#include "base/assert.h"
#include "base/wire.h"

enum { KEY = 1, RANGE_END = 2 };                                /* of Range, Put and DeleteRange */
enum { RANGE_REVISION = 4, RANGE_SERIALIZABLE = 7 };
enum { COMPACT_REVISION = 1 };

#define ORDERING_TRIES_MAX 10u /* answers in a row that are older than what was seen; then etcd's error */

static void keep(struct bytes *b, struct slice s)
{
    if (s.len > 0) {
        bytes_add(b, s.data, s.len);
    }
}

static void show_size(const struct proxy *p)
{
    gauge_set(p->cache_keys, (double)cache_size(p->cache));
}

/* --- Range ---------------------------------------------------------------------------------------------------- */

/* `kept` becomes key, end and the request without its word on serializability. */
static bool read_range(struct forward *f, struct slice request)
{
    struct slice rest = request;
    struct slice key = {0};
    struct slice end = {0};
    struct wire_field field;
    enum err e;
    while ((e = wire_next(&rest, &field)) == OK) {
        if (field.number == KEY && field.type == WIRE_LEN) {
            key = field.bytes;
        } else if (field.number == RANGE_END && field.type == WIRE_LEN) {
            end = field.bytes;
        } else if (field.number == RANGE_REVISION && field.type == WIRE_VARINT) {
            f->revision = (int64_t)field.value;
        } else if (field.number == RANGE_SERIALIZABLE && field.type == WIRE_VARINT) {
            f->serializable = field.value != 0;
        }
    }
    if (e != ERR_END) {
        return false;
    }
    keep(&f->kept, key);
    keep(&f->kept, end);
    f->n_key = key.len;
    f->n_end = end.len;
    for (rest = request; rest.len > 0;) {
        const uint8_t *from = rest.data;
        if (wire_next(&rest, &field) != OK) {
            return false;
        }
        if (field.number != RANGE_SERIALIZABLE) {
            keep(&f->kept, slice_of(from, (size_t)(rest.data - from)));
        }
    }
    return true;
}

static struct cache_read read_of(const struct forward *f)
{
    const uint8_t *p = f->kept.data;
    size_t before = f->n_key + f->n_end;
    struct slice none = {NULL, 0};
    return (struct cache_read){
        .key = p == NULL ? none : slice_of(p, f->n_key),
        .end = p == NULL ? none : slice_of(p + f->n_key, f->n_end),
        .request = p == NULL ? none : slice_of(p + before, f->kept.len - before),
        .token = head_for(f->call, "").token,
        .revision = f->revision,
        .era = f->era,
    };
}

/* --experimental-serializable-ordering: is this older than what somebody was told before? */
static bool is_too_old(struct forward *f, int64_t revision)
{
    struct proxy *p = f->proxy;
    if (!p->cfg.ordering || f->revision > 0) {
        return false;
    }
    if (revision < p->seen_revision) {
        return true;
    }
    p->seen_revision = revision;
    return false;
}

static bool before_range(struct forward *f, struct slice request)
{
    struct proxy *p = f->proxy;
    f->cacheable = read_range(f, request);
    f->era = cache_era(p->cache);
    if (!f->cacheable || !f->serializable) {
        return false;
    }
    struct cache_read read = read_of(f);
    struct slice reply;
    enum err e = cache_get(p->cache, &read, &reply);
    if (e == OK && is_too_old(f, answer_revision(reply))) {
        e = ERR_NOT_FOUND;
    }
    switch ((int)e) {
    case OK:
        gauge_add(p->cache_hits, 1);
        grpc_reply(f->call, &reply, 1);
        return true;
    case ERR_COMPACTED:
        gauge_add(p->cache_hits, 1);
        grpc_finish(f->call, GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted");
        return true;
    default:
        gauge_add(p->cache_misses, 1);
        return false;
    }
}

static bool after_range(struct forward *f, struct slice reply)
{
    if (reply.data == NULL) {
        return false;
    }
    int64_t revision = answer_revision(reply);
    if (is_too_old(f, revision)) {
        if (f->asked++ < ORDERING_TRIES_MAX) {
            return true;
        }
        grpc_finish(f->call, GRPC_UNKNOWN, "etcdclient: no cluster members have a revision higher than the previously received revision");
        return false;
    }
    if (f->cacheable) {
        struct cache_read read = read_of(f);
        cache_put(f->proxy->cache, &read, revision, reply);
        show_size(f->proxy);
    }
    return false;
}

/* --- Put, DeleteRange ----------------------------------------------------------------------------------------------- */

static void drop_kept(struct forward *f)
{
    const uint8_t *k = f->kept.data;
    if (k != NULL) {
        cache_drop(f->proxy->cache, slice_of(k, f->n_key), slice_of(k + f->n_key, f->n_end));
        show_size(f->proxy);
    }
}

static bool before_write(struct forward *f, struct slice request)
{
    struct slice parts[2] = {{0}, {0}};
    struct wire_field field;
    while (wire_next(&request, &field) == OK) {
        bool is_end = field.number == RANGE_END && f->route->ask == PREFIX_DELETE;
        if (field.type == WIRE_LEN && (field.number == KEY || is_end)) {
            parts[is_end ? 1 : 0] = field.bytes;
        }
    }
    keep(&f->kept, parts[0]);
    keep(&f->kept, parts[1]);
    f->n_key = parts[0].len;
    f->n_end = parts[1].len;
    drop_kept(f);
    return false;
}

/* Again, since a read may have filled the cache while the write was under way. */
static bool after_write(struct forward *f, struct slice reply)
{
    cache_wrote(f->proxy->cache, answer_revision(reply));
    drop_kept(f);
    return false;
}

/* --- Txn ----------------------------------------------------------------------------------------------------------- */

static void drop_range(void *arg, struct slice key, struct slice end)
{
    struct forward *f = arg;
    cache_drop(f->proxy->cache, key, end);
}

/* What it compares with is dropped too: a txn that fails says that somebody else wrote there. */
static void drop_txn(struct forward *f)
{
    if (txn_each_range(bytes_slice(&f->kept), drop_range, f) != OK) {
        return; /* nothing that a server would take */
    }
    show_size(f->proxy);
}

static bool before_txn(struct forward *f, struct slice request)
{
    keep(&f->kept, request);
    drop_txn(f);
    return false;
}

static bool after_txn(struct forward *f, struct slice reply)
{
    int64_t revision = answer_revision(reply);
    cache_wrote(f->proxy->cache, revision);
    if (f->proxy->cfg.ordering && revision > f->proxy->seen_revision) {
        f->proxy->seen_revision = revision;
    }
    drop_txn(f);
    return false;
}

/* --- Compact ------------------------------------------------------------------------------------------------------------ */

static bool before_compact(struct forward *f, struct slice request)
{
    struct wire_field field;
    while (wire_next(&request, &field) == OK) {
        if (field.number == COMPACT_REVISION && field.type == WIRE_VARINT) {
            f->revision = (int64_t)field.value;
        }
    }
    return false;
}

bool forget_reads(struct forward *f, struct slice reply)
{
    (void)reply;
    cache_clear(f->proxy->cache);
    show_size(f->proxy);
    return false;
}

static bool after_compact(struct forward *f, struct slice reply)
{
    if (reply.data != NULL) {
        cache_compact(f->proxy->cache, f->revision);
    }
    return false;
}

static void on_range_stream(struct grpc_call *c, struct slice request)
{
    (void)request;
    grpc_finish(c, GRPC_UNIMPLEMENTED, "RangeStream is not supported by the gRPC proxy");
}

const struct route kv_routes[] = {
    {.path = "/etcdserverpb.KV/Range", .repeatable = true, .prefixed = true, .ask = PREFIX_RANGE, .answer = PREFIX_RANGE_REPLY,
     .before = before_range, .after = after_range},
    {.path = "/etcdserverpb.KV/RangeStream", .kind = GRPC_SERVER_STREAM, .message = on_range_stream},
    {.path = "/etcdserverpb.KV/Put", .prefixed = true, .ask = PREFIX_PUT, .answer = PREFIX_PUT_REPLY,
     .before = before_write, .after = after_write},
    {.path = "/etcdserverpb.KV/DeleteRange", .prefixed = true, .ask = PREFIX_DELETE, .answer = PREFIX_DELETE_REPLY,
     .before = before_write, .after = after_write},
    {.path = "/etcdserverpb.KV/Txn", .prefixed = true, .ask = PREFIX_TXN, .answer = PREFIX_TXN_REPLY,
     .before = before_txn, .after = after_txn},
    {.path = "/etcdserverpb.KV/Compact", .before = before_compact, .after = after_compact},
    {.path = NULL},
};
