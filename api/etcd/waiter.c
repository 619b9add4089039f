/* waiter.c - see waiter.h. */
#include "api/etcd/waiter.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define TAKE_BYTES 16384u /* of a step's answer at a time */
#define FRAME_HEAD 5u     /* before each of its messages */

/* --- life ------------------------------------------------------------------------------------------------------- */

static void on_ready(struct grpc_local *l);
static void leave(struct waiter *w);

void bytes_set(struct bytes *b, struct slice s)
{
    bytes_reset(b);
    bytes_add(b, s.data, s.len);
}

static char *keep_metadata(const struct grpc_call *c, const char *key, size_t *len)
{
    struct slice v = grpc_call_metadata(c, key);
    *len = v.len;
    return v.data == NULL ? NULL : xstrndup((const char *)v.data, v.len);
}

struct waiter *waiter_create(struct grpc_call *c, struct slice prefix_of)
{
    struct waiter *w = xcalloc(1, sizeof(*w));
    w->call = c;
    w->grpc = grpc_call_server(c);
    w->loop = grpc_call_loop(c);
    w->token = keep_metadata(c, "token", &w->token_len);
    w->authorization = keep_metadata(c, "authorization", &w->authorization_len);
    struct slice common_name = grpc_call_common_name(c);
    w->common_name = common_name.len > 0 ? xstrndup((const char *)common_name.data, common_name.len) : NULL;
    w->from_gateway = grpc_call_metadata(c, "grpcgateway-accept").data != NULL;
    w->local.ready = on_ready;
    bytes_add(&w->prefix, prefix_of.data, prefix_of.len);
    bytes_add(&w->prefix, "/", 1);
    *grpc_call_state(c) = w;
    return w;
}

static void destroy(struct waiter *w)
{
    ASSERT(w->call == NULL);
    grpc_local_close(&w->local);
    bytes_deinit(&w->in);
    bytes_deinit(&w->prefix);
    bytes_deinit(&w->key);
    bytes_deinit(&w->name);
    bytes_deinit(&w->value);
    bytes_deinit(&w->header);
    free(w->token);
    free(w->authorization);
    free(w->common_name);
    free(w);
}

/* The call is answered: it knows the waiter no more. */
static void let_go(struct waiter *w)
{
    if (w->call != NULL) {
        *grpc_call_state(w->call) = NULL;
        w->call = NULL;
    }
}

void waiter_reply(struct waiter *w, struct slice reply)
{
    if (w->call == NULL) {
        leave(w); /* nobody is there to have it */
        return;
    }
    grpc_reply(w->call, &reply, 1);
    let_go(w);
    destroy(w);
}

void waiter_fail(struct waiter *w, const char *text)
{
    bool gone = w->call == NULL;
    if (!gone) {
        grpc_finish(w->call, GRPC_UNKNOWN, text);
        let_go(w);
    }
    if (gone || w->leave_on_failure) {
        leave(w);
    } else {
        destroy(w);
    }
}

bool waiter_is_gone(struct waiter *w)
{
    if (w->call != NULL) {
        return false;
    }
    leave(w);
    return true;
}

/* The caller has gone. A key that is just being made is taken out once it is known to be there. */
static void gone(struct waiter *w)
{
    if (!w->entering) {
        leave(w);
    }
}

void waiter_on_ended(struct grpc_call *c)
{
    struct waiter *w = *grpc_call_state(c);
    if (w != NULL) {
        let_go(w);
        gone(w);
    }
}

/* Only who waits for others has to be sent away; a step by itself ends soon. */
void waiter_on_draining(struct grpc_call *c)
{
    struct waiter *w = *grpc_call_state(c);
    if (w != NULL && w->event != NULL) {
        status_finish(c, ERR_STOPPED);
        let_go(w);
        gone(w);
    }
}

/* --- steps ---------------------------------------------------------------------------------------------------------- */

static bool open_step(struct waiter *w, const char *method, struct slice request)
{
    struct grpc_local_head head = {
        .path = method,
        .token = slice_of(w->token, w->token_len),
        .authorization = slice_of(w->authorization, w->authorization_len),
        .common_name = w->common_name != NULL ? slice_str(w->common_name) : (struct slice){NULL, 0},
        .from_gateway = w->from_gateway,
        .inner = true,
        .timeout_ms = UINT64_MAX, /* the caller's deadline ends the caller's call, and with it the step */
    };
    grpc_local_close(&w->local);
    bytes_reset(&w->in);
    if (!grpc_local_open(&w->local, w->grpc, w->loop, &head)) {
        return false;
    }
    grpc_local_send(&w->local, request);
    return true;
}

void waiter_step(struct waiter *w, const char *method, struct slice request, void (*then)(struct waiter *w, struct slice reply))
{
    w->event = NULL;
    w->then = then;
    if (!open_step(w, method, request)) {
        w->entered = false; /* nothing can be taken back any more */
        waiter_fail(w, status_of(ERR_STOPPED).text);
        return;
    }
    grpc_local_half_close(&w->local);
}

void waiter_watch(struct waiter *w, struct slice key, struct slice range_end, int64_t from,
                  bool (*event)(struct waiter *w, const Etcdserverpb__WatchResponse *r))
{
    enum { CREATE_REQUEST = 1, KEY = 1, RANGE_END = 2, START_REVISION = 3 };
    struct bytes create = {0}, request = {0};
    wire_add_bytes(&create, KEY, key);
    wire_add_bytes(&create, RANGE_END, range_end);
    wire_add_int(&create, START_REVISION, from);
    wire_add_message(&request, CREATE_REQUEST, bytes_slice(&create));
    w->then = NULL;
    w->event = event;
    bool open = open_step(w, "/etcdserverpb.Watch/Watch", bytes_slice(&request));
    bytes_deinit(&create);
    bytes_deinit(&request);
    if (!open) {
        w->entered = false;
        waiter_fail(w, status_of(ERR_STOPPED).text);
    }
}

void waiter_watch_close(struct waiter *w)
{
    grpc_local_close(&w->local);
    bytes_reset(&w->in);
    w->event = NULL;
}

/* --- what a step answers ---------------------------------------------------------------------------------------------- */

static size_t frame_len(const uint8_t *head)
{
    return (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
}

static void take(struct waiter *w)
{
    size_t n;
    do {
        uint8_t *dst = bytes_reserve(&w->in, TAKE_BYTES);
        n = grpc_local_take(&w->local, dst, TAKE_BYTES);
        w->in.len += n;
    } while (n > 0);
}

/* False: the watch is closed or the waiter gone. */
static bool give_event(struct waiter *w, struct slice message)
{
    Etcdserverpb__WatchResponse *r = etcdserverpb__watch_response__unpack(NULL, message.len, message.data);
    if (r == NULL) {
        waiter_fail(w, "the watch answers with no message");
        return false;
    }
    bool goes_on = false;
    if (r->canceled) {
        const char *reason = r->compact_revision != 0 ? status_of(ERR_COMPACTED).text : r->cancel_reason;
        waiter_fail(w, w->lost != NULL ? w->lost : reason);
    } else {
        goes_on = w->event(w, r);
    }
    etcdserverpb__watch_response__free_unpacked(r, NULL);
    return goes_on;
}

static void on_caller_drained(struct grpc_call *c)
{
    struct waiter *w = *grpc_call_state(c);
    if (w != NULL && grpc_local_is_open(&w->local)) {
        on_ready(&w->local);
    }
}

/* True: everything was given; false: not to be touched any more this time. */
static bool give_events(struct waiter *w)
{
    for (;;) {
        if (w->call != NULL && grpc_call_queued_bytes(w->call) > WAITER_QUEUE_BYTES) {
            grpc_call_on_drain(w->call, WAITER_QUEUE_BYTES / 2, on_caller_drained);
            return false;
        }
        if (w->in.len < FRAME_HEAD || w->in.len - FRAME_HEAD < frame_len(w->in.data)) {
            take(w);
        }
        if (w->in.len < FRAME_HEAD || w->in.len - FRAME_HEAD < frame_len(w->in.data)) {
            return true;
        }
        size_t n = FRAME_HEAD + frame_len(w->in.data);
        if (!give_event(w, slice_of(w->in.data + FRAME_HEAD, n - FRAME_HEAD))) {
            return false;
        }
        memmove(w->in.data, w->in.data + n, w->in.len - n);
        w->in.len -= n;
    }
}

static void on_ready(struct grpc_local *l)
{
    struct waiter *w = CONTAINER_OF(l, struct waiter, local);
    enum grpc_code code;
    struct slice text;
    if (w->event != NULL) {
        if (!give_events(w)) {
            return;
        }
    } else {
        take(w);
    }
    if (!grpc_local_ended(l, &code, &text)) {
        return;
    }
    if (code == GRPC_OK && w->event == NULL && w->in.len >= FRAME_HEAD && w->in.len - FRAME_HEAD == frame_len(w->in.data)) {
        struct bytes reply = w->in;
        w->in = (struct bytes){0};
        grpc_local_close(l);
        w->then(w, slice_of(reply.data + FRAME_HEAD, reply.len - FRAME_HEAD));
        bytes_deinit(&reply);
        return;
    }
    char *why = text.len > 0 ? xstrndup((const char *)text.data, text.len) : xstrdup(status_of(ERR_STOPPED).text);
    grpc_local_close(l);
    w->entering = false;
    waiter_fail(w, w->event != NULL && w->lost != NULL ? w->lost : why);
    free(why);
}

/* --- requests ------------------------------------------------------------------------------------------------------------ */

enum { RANGE_KEY = 1, RANGE_END = 2, RANGE_LIMIT = 3, RANGE_SORT_ORDER = 5, RANGE_SORT_TARGET = 6, RANGE_MAX_CREATE = 13 };

/* Every key that begins with `prefix`, which ends with a slash: up to the byte after that. */
static void put_prefix(struct bytes *range, const struct bytes *prefix)
{
    wire_add_bytes(range, RANGE_KEY, bytes_slice(prefix));
    struct bytes end = {0};
    bytes_add(&end, prefix->data, prefix->len);
    end.data[end.len - 1]++;
    wire_add_bytes(range, RANGE_END, bytes_slice(&end));
    bytes_deinit(&end);
}

void put_range_first(struct bytes *range, const struct bytes *prefix)
{
    put_prefix(range, prefix);
    wire_add_int(range, RANGE_LIMIT, 1);
    wire_add_int(range, RANGE_SORT_ORDER, ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND);
    wire_add_int(range, RANGE_SORT_TARGET, ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE);
}

void put_range_key(struct bytes *range, struct slice key)
{
    wire_add_bytes(range, RANGE_KEY, key);
}

void put_created(struct bytes *txn, struct slice key, int64_t rev)
{
    enum { COMPARE = 1, TARGET = 2, KEY = 3, CREATE_REVISION = 5 };
    struct bytes compare = {0};
    wire_add_int(&compare, TARGET, ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE);
    wire_add_bytes(&compare, KEY, key);
    uint8_t number[2 * WIRE_VARINT_MAX]; /* one of a oneof: 0 is written too */
    uint8_t *p = wire_put_varint(wire_put_tag(number, CREATE_REVISION, WIRE_VARINT), (uint64_t)rev);
    bytes_add(&compare, number, (size_t)(p - number));
    wire_add_message(txn, COMPARE, bytes_slice(&compare));
    bytes_deinit(&compare);
}

void put_op(struct bytes *txn, enum txn_branch branch, enum txn_op op, struct slice request)
{
    struct bytes b = {0};
    wire_add_message(&b, (uint32_t)op, request);
    wire_add_message(txn, (uint32_t)branch, bytes_slice(&b));
    bytes_deinit(&b);
}

void put_put(struct bytes *put, struct slice key, struct slice value, int64_t lease)
{
    enum { KEY = 1, VALUE = 2, LEASE = 3 };
    wire_add_bytes(put, KEY, key);
    wire_add_bytes(put, VALUE, value);
    wire_add_int(put, LEASE, lease);
}

struct slice message_field(struct slice message, uint32_t number)
{
    struct wire_field f;
    while (wire_next(&message, &f) == OK) {
        if (f.number == number && f.type == WIRE_LEN) {
            return f.bytes;
        }
    }
    return (struct slice){NULL, 0};
}

void waiter_keep_header(struct waiter *w, struct slice reply)
{
    bytes_set(&w->header, message_field(reply, 1));
}

/* --- what both services do -------------------------------------------------------------------------------------------------- */

static void leased(struct waiter *w, struct slice reply)
{
    enum { ID = 2 };
    struct wire_field f;
    struct slice rest = reply;
    while (wire_next(&rest, &f) == OK) {
        if (f.number == ID && f.type == WIRE_VARINT) {
            w->lease = (int64_t)f.value;
        }
    }
    w->turn(w);
}

void waiter_with_lease(struct waiter *w, void (*then)(struct waiter *w))
{
    enum { TTL = 1 };
    w->turn = then;
    if (w->lease != 0) {
        then(w);
        return;
    }
    struct bytes request = {0};
    wire_add_int(&request, TTL, WAITER_LEASE_TTL_S);
    waiter_step(w, "/etcdserverpb.Lease/LeaseGrant", bytes_slice(&request), leased);
    bytes_deinit(&request);
}

static void name_key(struct waiter *w)
{
    uint64_t magnitude = w->lease < 0 ? 0 - (uint64_t)w->lease : (uint64_t)w->lease;
    bytes_set(&w->key, bytes_slice(&w->prefix));
    bytes_printf(&w->key, "%s%" PRIx64, w->lease < 0 ? "-" : "", magnitude);
}

const Mvccpb__KeyValue *txn_read_key(const Etcdserverpb__TxnResponse *r, size_t i)
{
    if (i >= r->n_responses || r->responses[i]->response_case != ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE) {
        return NULL;
    }
    const Etcdserverpb__RangeResponse *range = r->responses[i]->response_range;
    return range->n_kvs == 0 ? NULL : range->kvs[0];
}

static void entered(struct waiter *w, struct slice reply)
{
    w->entering = false;
    Etcdserverpb__TxnResponse *r = etcdserverpb__txn_response__unpack(NULL, reply.len, reply.data);
    if (r == NULL || r->header == NULL) {
        etcdserverpb__txn_response__free_unpacked(r, NULL);
        waiter_fail(w, "the txn answers with no message");
        return;
    }
    const Mvccpb__KeyValue *there = r->succeeded ? NULL : txn_read_key(r, 0);
    w->rev = r->succeeded ? r->header->revision : there != NULL ? there->create_revision : 0;
    w->entered = r->succeeded;
    if (!waiter_is_gone(w)) {
        waiter_keep_header(w, reply);
        w->in_line(w, r);
    }
    etcdserverpb__txn_response__free_unpacked(r, NULL);
}

void waiter_enter(struct waiter *w, bool owner, void (*then)(struct waiter *w, const Etcdserverpb__TxnResponse *r))
{
    struct bytes txn = {0}, put = {0}, get = {0}, first = {0};
    name_key(w);
    put_created(&txn, bytes_slice(&w->key), 0);
    put_put(&put, bytes_slice(&w->key), bytes_slice(&w->value), w->lease);
    put_range_key(&get, bytes_slice(&w->key));
    put_op(&txn, BRANCH_THEN, OP_PUT, bytes_slice(&put));
    put_op(&txn, BRANCH_ELSE, OP_RANGE, bytes_slice(&get));
    if (owner) {
        put_range_first(&first, &w->prefix);
        put_op(&txn, BRANCH_THEN, OP_RANGE, bytes_slice(&first));
        put_op(&txn, BRANCH_ELSE, OP_RANGE, bytes_slice(&first));
    }
    w->entering = true;
    w->in_line = then;
    waiter_step(w, "/etcdserverpb.KV/Txn", bytes_slice(&txn), entered);
    bytes_deinit(&txn);
    bytes_deinit(&put);
    bytes_deinit(&get);
    bytes_deinit(&first);
}

static bool older_changed(struct waiter *w, const Etcdserverpb__WatchResponse *r)
{
    for (size_t i = 0; i < r->n_events; i++) {
        if (r->events[i]->type == MVCCPB__EVENT__EVENT_TYPE__DELETE) {
            waiter_watch_close(w);
            waiter_wait_turn(w);
            return false;
        }
    }
    return true;
}

/* The youngest of the older keys, or none. */
static void older_found(struct waiter *w, struct slice reply)
{
    Etcdserverpb__RangeResponse *r = etcdserverpb__range_response__unpack(NULL, reply.len, reply.data);
    if (r == NULL) {
        waiter_fail(w, "the range answers with no message");
        return;
    }
    if (r->n_kvs == 0) {
        etcdserverpb__range_response__free_unpacked(r, NULL);
        w->turn(w);
        return;
    }
    const Mvccpb__KeyValue *kv = r->kvs[0];
    waiter_watch(w, slice_of(kv->key.data, kv->key.len), (struct slice){NULL, 0}, r->header->revision, older_changed);
    etcdserverpb__range_response__free_unpacked(r, NULL);
}

void waiter_wait_turn(struct waiter *w)
{
    struct bytes range = {0};
    put_prefix(&range, &w->prefix);
    wire_add_int(&range, RANGE_LIMIT, 1);
    wire_add_int(&range, RANGE_SORT_ORDER, ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND);
    wire_add_int(&range, RANGE_SORT_TARGET, ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE);
    wire_add_int(&range, RANGE_MAX_CREATE, w->rev - 1);
    waiter_step(w, "/etcdserverpb.KV/Range", bytes_slice(&range), older_found);
    bytes_deinit(&range);
}

/* --- leaving ------------------------------------------------------------------------------------------------------------------ */

static void left(struct waiter *w, struct slice reply)
{
    (void)reply;
    destroy(w);
}

/* Without a caller: take the key out of the line, if it is still the one that was put there. The waiter ends with that. */
static void leave(struct waiter *w)
{
    enum { DELETE_KEY = 1 };
    ASSERT(w->call == NULL);
    if (!w->entered) {
        destroy(w);
        return;
    }
    w->entered = false;
    w->leave_on_failure = false;
    struct bytes txn = {0}, del = {0};
    put_created(&txn, bytes_slice(&w->key), w->rev);
    wire_add_bytes(&del, DELETE_KEY, bytes_slice(&w->key));
    put_op(&txn, BRANCH_THEN, OP_DELETE, bytes_slice(&del));
    waiter_step(w, "/etcdserverpb.KV/Txn", bytes_slice(&txn), left);
    bytes_deinit(&txn);
    bytes_deinit(&del);
}
