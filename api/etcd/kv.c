/* kv.c - the KV service.
 *
 * Reads are answered on the loop: the engine says how long the reply will be, small ones are assembled at once, large ones are a source that
 * the socket pulls from, so that no huge range ever stands in memory whole. Writes are checked, wrapped and proposed; the request's own
 * bytes go into the log entry as they came.
 */
#include "api/etcd/caller.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

enum { FIELD_PUT = 4, FIELD_DELETE_RANGE = 5, FIELD_TXN = 6, FIELD_COMPACTION = 7 }; /* of InternalRaftRequest */
enum { RESULT = 2 };                                                                 /* of DeleteRangeResponse and TxnResponse */
enum { RANGE_MORE = 3, RANGE_COUNT = 4 };                                            /* of RangeResponse */

/* Remember the request for the word about a slow call. */
static struct call_note *note_of(struct grpc_call *c)
{
    return *grpc_call_state(c);
}

static void note(struct grpc_call *c, const ProtobufCMessage *request)
{
    struct call_note *n = arena_alloc(grpc_call_arena(c), sizeof(*n));
    if (n != NULL) {
        *n = (struct call_note){.request = request};
        *grpc_call_state(c) = n;
    }
}

/* --- Range ------------------------------------------------------------------------------------------------ */

#define RANGE_TAIL_MAX 16u
#define SEND_BYTES_MAX 2147483647u /* of one reply, as etcd tells grpc-go */

static size_t range_tail(const struct range_info *info, uint8_t out[RANGE_TAIL_MAX])
{
    uint8_t *p = out;
    if (info->more) {
        p = wire_put_tag(p, RANGE_MORE, WIRE_VARINT);
        p = wire_put_varint(p, 1);
    }
    if (info->count != 0) {
        p = wire_put_tag(p, RANGE_COUNT, WIRE_VARINT);
        p = wire_put_varint(p, (uint64_t)info->count);
    }
    return (size_t)(p - out);
}

/* A reply too large to assemble: header, kvs as they are pulled, tail. */
struct range_source {
    struct grpc_source source;
    struct grpc_call *call; /* borrowed: the call releases the source before it goes */
    struct range_read *read; /* owned */
    uint64_t kvs_left;
    size_t head_len, head_at, tail_len, tail_at;
    uint8_t head[REPLY_HEADER_MAX];
    uint8_t tail[RANGE_TAIL_MAX];
};

static size_t copy_part(const uint8_t *part, size_t len, size_t *at, uint8_t *dst, size_t room)
{
    size_t n = len - *at < room ? len - *at : room;
    memcpy(dst, part + *at, n);
    *at += n;
    return n;
}

static size_t range_pull(struct grpc_source *source, uint8_t *dst, size_t room)
{
    struct range_source *s = CONTAINER_OF(source, struct range_source, source);
    if (s->head_at < s->head_len) {
        return copy_part(s->head, s->head_len, &s->head_at, dst, room);
    }
    if (s->kvs_left > 0) {
        enum err e = OK;
        size_t want = s->kvs_left < room ? (size_t)s->kvs_left : room;
        size_t n = engine_range_pull(s->read, dst, want, &e);
        if (n == 0) {
            grpc_abort(s->call, status_of(e).code);
            return 0;
        }
        s->kvs_left -= n;
        return n;
    }
    return copy_part(s->tail, s->tail_len, &s->tail_at, dst, room);
}

static void range_release(struct grpc_source *source)
{
    struct range_source *s = CONTAINER_OF(source, struct range_source, source);
    engine_range_close(&s->read);
    free(s);
}

/* Takes `read`. */
static void range_send_large(struct grpc_call *c, struct range_read *read, const struct range_info *info)
{
    if (info->kvs_bytes > SEND_BYTES_MAX - REPLY_HEADER_MAX - RANGE_TAIL_MAX) {
        char text[96];
        (void)snprintf(text, sizeof(text), "grpc: trying to send message larger than max (%" PRIu64 " vs. %u)", info->kvs_bytes, SEND_BYTES_MAX);
        engine_range_close(&read);
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, text);
        return;
    }
    struct range_source *s = xcalloc(1, sizeof(*s));
    s->source = (struct grpc_source){.pull = range_pull, .release = range_release};
    s->call = c;
    s->read = read;
    s->kvs_left = info->kvs_bytes;
    s->head_len = reply_header(server_of(c), info->header_revision, s->head);
    s->tail_len = range_tail(info, s->tail);
    grpc_send_source(c, s->head_len + s->kvs_left + s->tail_len, &s->source);
    grpc_finish(c, GRPC_OK, NULL);
}

static void range_send_small(struct grpc_call *c, struct range_read *read, const struct range_info *info)
{
    struct etcd_server *server = server_of(c);
    struct bytes *b = &loop_of(server, grpc_call_loop(c))->scratch;
    uint8_t head[REPLY_HEADER_MAX];
    uint8_t tail[RANGE_TAIL_MAX];
    enum err e = OK;
    bytes_reset(b);
    uint8_t *dst = bytes_reserve(b, (size_t)info->kvs_bytes);
    for (size_t got = 0; got < info->kvs_bytes && e == OK;) {
        got += engine_range_pull(read, dst + got, (size_t)info->kvs_bytes - got, &e);
    }
    if (e != OK) {
        status_finish(c, e);
        return;
    }
    struct slice pieces[] = {{head, reply_header(server, info->header_revision, head)}, {dst, (size_t)info->kvs_bytes}, {tail, range_tail(info, tail)}};
    grpc_reply(c, pieces, ARRAY_LEN(pieces));
}

/* A range being opened on the caller's behalf. */
struct range_opening {
    const Etcdserverpb__RangeRequest *request;
    struct range_read *read;
    struct range_info info;
    enum err err;
};

static enum err range_open(struct grpc_call *c, void *arg)
{
    struct range_opening *o = arg;
    struct err_ctx ec = {{0}};
    struct etcd_server *s = server_of(c);
    uint64_t began_ns = clock_now_ns(s->cfg.clock);
    enum err e = engine_range_open(s->engine, o->request, loop_now_ms(grpc_call_loop(c)), &o->read, &o->info, &ec);
    histogram_observe_ns(s->range_seconds[e == OK ? 1 : 0], clock_now_ns(s->cfg.clock) - began_ns);
    if (e != OK && ec.text[0] != '\0') {
        log_debug(s->cfg.log, "failed to read a range", F_STR("error", ec.text));
    }
    return e;
}

static void range_undo(void *arg)
{
    struct range_opening *o = arg;
    engine_range_close(&o->read);
}

/* false: the call has been ended. What is read later is of the revision that was opened for `who`. */
static bool range_open_for_caller(struct grpc_call *c, const Etcdserverpb__RangeRequest *request, struct range_opening *o, struct auth_who *who)
{
    const struct demand_request demands = {.kind = DEMAND_OF_RANGE, .of.range = request};
    const struct caller_read r = {.demands = &demands, .read = range_open, .undo = range_undo, .arg = o};
    *o = (struct range_opening){.request = request};
    o->err = caller_read(c, &r, who);
    if (o->err != OK) {
        status_finish(c, o->err);
    }
    return o->err == OK;
}

static void range_serve(struct grpc_call *c, void *message)
{
    struct range_opening o;
    struct auth_who who;
    bool ok = range_open_for_caller(c, message, &o, &who);
    slow_read(c, message, o.info.n_kvs, o.info.kvs_bytes, o.err);
    uint64_t took_ms = loop_now_ms(grpc_call_loop(c)) - grpc_call_began_ms(c);
    histogram_observe(server_of(c)->range_request_seconds[ok ? 1 : 0], (double)took_ms / 1e3);
    if (!ok) {
        return;
    }
    if (note_of(c) != NULL) {
        note_of(c)->response_count = o.info.count;
    }
    if (o.info.kvs_bytes > GRPC_COPY_MAX) {
        range_send_large(c, o.read, &o.info);
        return;
    }
    range_send_small(c, o.read, &o.info);
    engine_range_close(&o.read);
}

static void on_range(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__RangeRequest *r = request_decode(c, &etcdserverpb__range_request__descriptor, bytes);
    if (r == NULL || !learner_admits(c, r->serializable)) {
        return;
    }
    note(c, &r->base);
    enum err e = engine_check_range(r);
    if (e != OK) {
        status_finish(c, e);
    } else if (r->serializable) {
        range_serve(c, r);
    } else {
        request_read_barrier(c, r, range_serve);
    }
}

/* --- RangeStream --------------------------------------------------------------------------------------------- */

struct range_stream {
    struct range_read *read; /* owned */
    struct range_info info;
    size_t kvs_per_chunk;
    struct bytes chunk; /* the next message, held back until it is known whether it is the last */
    bool any;
    uint64_t auth_revision; /* that the stream was permitted at; 0: authentication was off */
};

/* One RangeStreamResponse: field 1 is a RangeResponse. Only the last one has header, more and count. */
static void stream_send(struct grpc_call *c, struct range_stream *s, bool last)
{
    uint8_t head[REPLY_HEADER_MAX];
    uint8_t tail[RANGE_TAIL_MAX];
    uint8_t outer[1 + WIRE_VARINT_MAX];
    size_t head_len = last ? reply_header(server_of(c), s->info.header_revision, head) : 0;
    size_t tail_len = last ? range_tail(&s->info, tail) : 0;
    uint8_t *p = wire_put_tag(outer, 1, WIRE_LEN);
    p = wire_put_varint(p, head_len + s->chunk.len + tail_len);
    struct slice pieces[] = {{outer, (size_t)(p - outer)}, {head, head_len}, bytes_slice(&s->chunk), {tail, tail_len}};
    grpc_send(c, pieces, ARRAY_LEN(pieces));
    bytes_reset(&s->chunk);
}

static void stream_go_on(struct grpc_call *c)
{
    struct range_stream *s = *grpc_call_state(c);
    struct bytes next = {0};
    for (;;) {
        if (grpc_call_queued_bytes(c) > STREAM_QUEUE_BYTES) {
            grpc_call_on_drain(c, STREAM_QUEUE_BYTES / 2, stream_go_on);
            break;
        }
        size_t n = 0;
        enum err e = engine_range_chunk(s->read, s->kvs_per_chunk, STREAM_CHUNK_BYTES, &next, &n);
        if (e != OK) {
            status_finish(c, e);
            break;
        }
        e = auth_check_current(engine_auth(server_of(c)->engine), &(struct auth_identity){.user = "", .revision = s->auth_revision});
        if (e != OK) {
            status_finish(c, e);
            break;
        }
        if (n == 0) {
            stream_send(c, s, true);
            grpc_finish(c, GRPC_OK, NULL);
            break;
        }
        if (s->any) {
            stream_send(c, s, false);
        }
        s->any = true;
        struct bytes held = s->chunk;
        s->chunk = next;
        next = held;
        bytes_reset(&next);
        s->kvs_per_chunk = s->kvs_per_chunk < (1u << 20) ? 2 * s->kvs_per_chunk : s->kvs_per_chunk;
    }
    bytes_deinit(&next);
}

static void stream_ended(struct grpc_call *c)
{
    struct range_stream *s = *grpc_call_state(c);
    if (s != NULL) {
        *grpc_call_state(c) = NULL;
        engine_range_close(&s->read);
        bytes_deinit(&s->chunk);
        free(s);
    }
}

static void stream_serve(struct grpc_call *c, void *message)
{
    struct range_opening o;
    struct auth_who who;
    if (!range_open_for_caller(c, message, &o, &who)) {
        return;
    }
    struct range_stream *s = xcalloc(1, sizeof(*s));
    s->read = o.read;
    s->info = o.info;
    s->auth_revision = who.revision;
    s->kvs_per_chunk = 10; /* as etcd begins */
    *grpc_call_state(c) = s;
    stream_go_on(c);
}

static void on_range_stream(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__RangeRequest *r = request_decode(c, &etcdserverpb__range_request__descriptor, bytes);
    if (r == NULL) {
        return;
    }
    enum err e = engine_check_range(r);
    bool by_key = r->sort_order == ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE ||
                  (r->sort_order == ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND && r->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY);
    if (e != OK) {
        status_finish(c, e);
    } else if (!by_key) {
        grpc_finish(c, GRPC_UNIMPLEMENTED, "RangeStream does not support custom sort orders");
    } else if (r->min_mod_revision != 0 || r->max_mod_revision != 0 || r->min_create_revision != 0 || r->max_create_revision != 0) {
        grpc_finish(c, GRPC_UNIMPLEMENTED, "RangeStream does not support revision filters");
    } else if (r->serializable) {
        stream_serve(c, r);
    } else {
        request_read_barrier(c, r, stream_serve);
    }
}

/* --- writes ---------------------------------------------------------------------------------------------------- */

static void propose(struct grpc_call *c, uint32_t field, struct slice bytes, void (*finish)(struct request *r), void *message)
{
    struct request *r = request_create(c, MEMBER_PROPOSE, finish);
    if (r != NULL) {
        r->message = message;
        request_propose(r, field, bytes);
    }
}

/* Of a DeleteRangeResponse how many were deleted, of a TxnResponse whether its compares held. */
static void note_result(struct grpc_call *c, struct slice body)
{
    struct call_note *n = note_of(c);
    struct wire_field f;
    if (n == NULL) {
        return;
    }
    n->answered = true;
    if (wire_next(&body, &f) == OK && f.number == RESULT && f.type == WIRE_VARINT) {
        n->response_count = (int64_t)f.value;
        n->succeeded = f.value != 0;
    }
}

static void finish_counted(struct request *r)
{
    if (r->op.err == OK && !r->op.result.over_quota) {
        note_result(r->call, buf_slice(r->op.result.body));
    }
    request_finish_proposal(r);
}

static void on_put(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__PutRequest *r = request_decode(c, &etcdserverpb__put_request__descriptor, bytes);
    if (r == NULL) {
        return;
    }
    note(c, &r->base);
    if (!engine_quota_fits(server_of(c)->engine, engine_put_cost(r))) {
        reply_raise_nospace(c);
        return;
    }
    enum err e = engine_check_put(r);
    if (e != OK) {
        status_finish(c, e);
        return;
    }
    propose(c, FIELD_PUT, bytes, request_finish_proposal, NULL);
}

static void on_delete_range(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__DeleteRangeRequest *r = request_decode(c, &etcdserverpb__delete_range_request__descriptor, bytes);
    if (r == NULL) {
        return;
    }
    note(c, &r->base);
    enum err e = engine_check_delete(r);
    if (e != OK) {
        status_finish(c, e);
        return;
    }
    propose(c, FIELD_DELETE_RANGE, bytes, finish_counted, NULL);
}

struct txn_reading {
    const Etcdserverpb__TxnRequest *request;
    struct bytes *reply; /* borrowed */
    int64_t revision;
};

static enum err txn_read(struct grpc_call *c, void *arg)
{
    struct txn_reading *t = arg;
    struct err_ctx ec = {{0}};
    bytes_reset(t->reply);
    return engine_txn_read(server_of(c)->engine, t->request, loop_now_ms(grpc_call_loop(c)), t->reply, &t->revision, &ec);
}

static void txn_serve(struct grpc_call *c, void *message)
{
    struct etcd_server *s = server_of(c);
    struct bytes *b = &loop_of(s, grpc_call_loop(c))->scratch;
    struct txn_reading t = {.request = message, .reply = b};
    const struct demand_request demands = {.kind = DEMAND_OF_TXN, .of.txn = message};
    const struct caller_read r = {.demands = &demands, .read = txn_read, .arg = &t};
    struct auth_who who;
    enum err e = caller_read(c, &r, &who);
    slow_read(c, message, -1, b->len, e);
    if (e == OK) {
        note_result(c, bytes_slice(b));
        reply_send(c, t.revision, bytes_slice(b));
    } else {
        status_finish(c, e);
    }
    if (b->cap > (4u << 20)) {
        bytes_deinit(b); /* one huge reply, or one that grew too large, does not keep its memory */
    }
}

/* Compares and ops of an encoded txn, at all levels. Asked before decoding, since two bytes of request become a hundred in memory; what
 * a valid txn may have fits into a request only below TXN_ELEMENTS_MAX. The recursion ends where engine_txn_depth has looked. */
static size_t txn_elements(struct slice txn)
{
    enum { COMPARE = 1, SUCCESS = 2, FAILURE = 3, REQUEST_TXN = 4 };
    size_t n = 0;
    struct wire_field f;
    while (wire_next(&txn, &f) == OK) {
        if (f.type != WIRE_LEN || f.number < COMPARE || f.number > FAILURE) {
            continue;
        }
        n++;
        struct wire_field op;
        while (f.number != COMPARE && wire_next(&f.bytes, &op) == OK) {
            if (op.type == WIRE_LEN && op.number == REQUEST_TXN) {
                n += txn_elements(op.bytes);
            }
        }
    }
    return n;
}

static void on_txn(struct grpc_call *c, struct slice bytes)
{
    struct etcd_server *s = server_of(c);
    enum err deep = engine_txn_depth(bytes);
    if (deep == ERR_INVALID) {
        request_refuse_bytes(c);
        return;
    }
    if (deep != OK || txn_elements(bytes) > TXN_ELEMENTS_MAX) {
        status_finish(c, ERR_TOO_MANY_OPS);
        return;
    }
    Etcdserverpb__TxnRequest *r = request_decode(c, &etcdserverpb__txn_request__descriptor, bytes);
    if (r == NULL) {
        return;
    }
    note(c, &r->base);
    if (!engine_quota_fits(s->engine, engine_txn_cost(r))) {
        reply_raise_nospace(c);
        return;
    }
    enum err e = engine_check_txn(r, s->cfg.max_txn_ops);
    bool serializable = false;
    if (e != OK) {
        status_finish(c, e);
    } else if (!engine_txn_is_read_only(r, &serializable)) {
        propose(c, FIELD_TXN, bytes, finish_counted, NULL);
    } else if (serializable) {
        txn_serve(c, r);
    } else {
        request_read_barrier(c, r, txn_serve);
    }
}

/* --- Compact ------------------------------------------------------------------------------------------------------ */

/* The header of a compaction carries the live revision at the time of the reply. */
static void finish_compaction(struct request *r)
{
    struct etcd_server *s = server_of(r->call);
    buf_unref(&r->op.result.body);
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err);
        return;
    }
    reply_send(r->call, engine_revision(s->engine), (struct slice){NULL, 0});
}

static void on_compact(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__CompactionRequest *r = request_decode(c, &etcdserverpb__compaction_request__descriptor, bytes);
    if (r != NULL) {
        propose(c, FIELD_COMPACTION, bytes, finish_compaction, r);
    }
}

const struct grpc_method kv_methods[] = {
    {.path = "/etcdserverpb.KV/Range", .kind = GRPC_UNARY, .message = on_range},
    {.path = "/etcdserverpb.KV/RangeStream", .kind = GRPC_SERVER_STREAM, .message = on_range_stream, .ended = stream_ended},
    {.path = "/etcdserverpb.KV/Put", .kind = GRPC_UNARY, .message = on_put},
    {.path = "/etcdserverpb.KV/DeleteRange", .kind = GRPC_UNARY, .message = on_delete_range},
    {.path = "/etcdserverpb.KV/Txn", .kind = GRPC_UNARY, .message = on_txn},
    {.path = "/etcdserverpb.KV/Compact", .kind = GRPC_UNARY, .message = on_compact},
    {.path = NULL},
};
