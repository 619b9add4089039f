/* lease.c - the Lease service. Grants and revocations go through the log; everything about remaining time is asked of the leader, who keeps it
 * (lease_ask.c). */
#include "api/etcd/auth_method.h"
#include "api/etcd/caller.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/lease.h"

enum { FIELD_LEASE_GRANT = 8, FIELD_LEASE_REVOKE = 9 }; /* of InternalRaftRequest */
#define LEASE_GRANT_COST 64 /* towards the quota, etcd-v3-api.md 12.1 */

#define TWO_INTS_MAX (2u * (1u + WIRE_VARINT_MAX))

/* Two int64 fields, zeroes left out; returns the length. */
static size_t put_two_ints(uint8_t out[TWO_INTS_MAX], uint32_t field1, int64_t v1, uint32_t field2, int64_t v2)
{
    uint8_t *p = out;
    if (v1 != 0) {
        p = wire_put_varint(wire_put_tag(p, field1, WIRE_VARINT), (uint64_t)v1);
    }
    if (v2 != 0) {
        p = wire_put_varint(wire_put_tag(p, field2, WIRE_VARINT), (uint64_t)v2);
    }
    return (size_t)(p - out);
}

/* --- grant, revoke ----------------------------------------------------------------------------------------- */

static void on_grant(struct grpc_call *c, struct slice bytes)
{
    struct etcd_server *s = server_of(c);
    Etcdserverpb__LeaseGrantRequest *q = request_decode(c, &etcdserverpb__lease_grant_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    if (!engine_quota_fits(s->engine, LEASE_GRANT_COST)) {
        reply_raise_nospace(c);
        return;
    }
    struct request *r = request_create(c, MEMBER_PROPOSE, request_finish_proposal);
    if (r == NULL) {
        return;
    }
    while (q->id == 0) {
        q->id = (int64_t)(member_next_request_id(s->member) & INT64_MAX);
    }
    uint8_t encoded[TWO_INTS_MAX];
    request_propose(r, FIELD_LEASE_GRANT, slice_of(encoded, put_two_ints(encoded, 1, q->ttl, 2, q->id)));
}

static void on_revoke(struct grpc_call *c, struct slice bytes)
{
    if (request_decode(c, &etcdserverpb__lease_revoke_request__descriptor, bytes) == NULL) {
        return;
    }
    struct request *r = request_create(c, MEMBER_PROPOSE, request_finish_proposal);
    if (r != NULL) {
        request_propose(r, FIELD_LEASE_REVOKE, bytes);
    }
}

/* --- time to live, leases ------------------------------------------------------------------------------------ */

/* The keys in the answer are what would be told, wherever the leader is: each has to be the caller's to read. Etcd asks before, about the keys that this
 * member knows of. */
static enum err check_keys(struct grpc_call *c, struct slice key_fields)
{
    struct auth *auth = engine_auth(server_of(c)->engine);
    struct auth_who who;
    struct wire_field f;
    enum err e = caller_identify(c, &who);
    caller_renew(server_of(c), &who); /* however long the leader was asked, it is now that this is answered */
    const struct auth_identity id = auth_identity_of(&who);
    if (e == OK) {
        e = auth_check_known(auth, &id);
    }
    if (e != OK || auth_check_root(auth, &id) == OK) {
        return e;
    }
    while (e == OK && wire_next(&key_fields, &f) == OK) {
        e = auth_check(auth, &id, DEMAND_READ, f.bytes, (struct slice){NULL, 0});
    }
    return e;
}

static void on_looked_up(struct leader_ask *ask)
{
    struct lease_ask *a = CONTAINER_OF(ask, struct lease_ask, ask);
    enum err e = ask->err == ERR_LEASE_NOT_FOUND ? OK : ask->err;
    if (e == OK && a->keys) {
        e = check_keys(ask->call, bytes_slice(&a->key_fields));
    }
    if (e != OK) {
        status_finish(ask->call, e);
    } else {
        bool found = ask->err == OK;
        struct bytes b = {0};
        wire_add_int(&b, 2, a->id);
        wire_add_int(&b, 3, found ? a->ttl_s : -1);
        wire_add_int(&b, 4, found ? a->granted_s : 0);
        if (found) {
            bytes_add(&b, a->key_fields.data, a->key_fields.len);
        }
        reply_send(ask->call, engine_revision(server_of(ask->call)->engine), bytes_slice(&b));
        bytes_deinit(&b);
    }
    bytes_deinit(&a->key_fields);
}

static void on_time_to_live(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__LeaseTimeToLiveRequest *q = request_decode(c, &etcdserverpb__lease_time_to_live_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    struct lease_ask *a = arena_calloc(grpc_call_arena(c), 1, sizeof(*a));
    if (a == NULL) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return;
    }
    a->id = q->id;
    a->lookup = true;
    a->keys = q->keys;
    a->ask.done = on_looked_up;
    lease_ask_start(a, loop_of(server_of(c), grpc_call_loop(c)), c);
}

static void add_lease(void *arg, int64_t id)
{
    struct bytes *b = arg;
    size_t n = id == 0 ? 0 : 1 + wire_varint_size((uint64_t)id);
    wire_add_message_head(b, 2, n);
    wire_add_int(b, 1, id);
}

static bool call_leases(struct member *m, struct member_op *op)
{
    struct request *r = CONTAINER_OF(op, struct request, op);
    caller_renew(server_of(r->call), r->message);
    const struct auth_identity id = auth_identity_of(r->message);
    const struct demand_request demands = {.kind = DEMAND_OF_LEASE_LEASES};
    op->err = auth_check_demands(engine_auth(member_engine(m)), &id, &demands, engine_leases(member_engine(m)));
    if (op->err != OK) {
        return true;
    }
    struct bytes *b = xcalloc(1, sizeof(*b));
    lease_each(engine_leases(member_engine(m)), add_lease, b);
    r->answer = b;
    return true;
}

static void finish_leases(struct request *r)
{
    struct bytes *b = r->answer;
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err);
    } else {
        reply_send(r->call, engine_revision(server_of(r->call)->engine), bytes_slice(b));
    }
    if (b != NULL) {
        bytes_deinit(b);
        free(b);
    }
}

static void on_leases(struct grpc_call *c, struct slice bytes)
{
    if (request_decode(c, &etcdserverpb__lease_leases_request__descriptor, bytes) == NULL) {
        return;
    }
    struct auth_who *who = arena_alloc(grpc_call_arena(c), sizeof(*who));
    enum err e = who == NULL ? ERR_TOO_MANY_REQUESTS : caller_identify(c, who);
    if (e != OK) {
        status_finish(c, e);
        return;
    }
    struct request *r = request_create(c, MEMBER_CALL, finish_leases);
    if (r != NULL) {
        r->message = who;
        r->op.call = call_leases;
        request_submit(r);
    }
}

/* --- keepalive ---------------------------------------------------------------------------------------------------- */

/* One renewal of a stream, under way or answered and waiting for those before it. In the call's arena, used again and again. */
struct renewal {
    struct request check; /* of whose it is, while authentication is on */
    struct auth_who who;
    struct lease_ask lease;
    struct keepalive *stream;
    int64_t revision; /* sampled before the renewal: never later than an expiry that it might race with */
    bool answered;
};

/* Up to KEEPALIVE_WINDOW renewals are under way at a time, so that a client with many leases does not wait for a leader elsewhere once for each. Their
 * answers go out in the order of the requests; more requests wait as ids. */
struct keepalive {
    struct grpc_call *call; /* borrowed: gone when `ended` */
    struct renewal *window[KEEPALIVE_WINDOW]; /* ring of those under way; NULL: not needed so far */
    size_t window_first, n_window;
    int64_t *ids; /* ring of those that wait, owned */
    size_t first, n, cap;
    bool waiting; /* for what made the stream's token to be applied; once in its life */
    bool waited;
    bool half_closed, ended;
};

static void keepalive_go_on(struct keepalive *k);

static void keepalive_reply(struct grpc_call *c, const struct renewal *r, int64_t ttl)
{
    uint8_t head[REPLY_HEADER_MAX];
    uint8_t body[TWO_INTS_MAX];
    size_t n = put_two_ints(body, 2, r->lease.id, 3, ttl);
    grpc_send(c, (struct slice[]){{head, reply_header(server_of(c), r->revision, head)}, {body, n}}, 2);
}

/* Send what is answered in order. false: the call has ended. */
static bool keepalive_send(struct keepalive *k)
{
    while (k->n_window > 0 && k->window[k->window_first]->answered) {
        const struct renewal *r = k->window[k->window_first];
        enum err e = r->lease.ask.err;
        if (e != OK && e != ERR_LEASE_NOT_FOUND) {
            status_finish(k->call, e);
            return false;
        }
        keepalive_reply(k->call, r, e == OK ? r->lease.ttl_s : 0);
        k->window_first = (k->window_first + 1) % KEEPALIVE_WINDOW;
        k->n_window--;
    }
    return true;
}

static void keepalive_answered(struct renewal *r)
{
    struct keepalive *k = r->stream;
    r->answered = true;
    if (!k->ended && keepalive_send(k)) {
        keepalive_go_on(k);
    }
}

static void on_renewed(struct leader_ask *ask)
{
    struct renewal *r = CONTAINER_OF(CONTAINER_OF(ask, struct lease_ask, ask), struct renewal, lease);
    bytes_deinit(&r->lease.key_fields);
    keepalive_answered(r);
}

/* Member loop: the lease's keys as this member knows them, as in etcd. Who wants to renew it elsewhere is asked here too. */
static bool call_may_renew(struct member *m, struct member_op *op)
{
    struct renewal *r = CONTAINER_OF(CONTAINER_OF(op, struct request, op), struct renewal, check);
    caller_renew(server_of(r->check.call), &r->who);
    const struct auth_identity id = auth_identity_of(&r->who);
    Etcdserverpb__LeaseKeepAliveRequest q = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    q.id = r->lease.id;
    const struct demand_request demands = {.kind = DEMAND_OF_LEASE_KEEP_ALIVE, .of.lease_keep_alive = &q};
    op->err = auth_check_demands(engine_auth(member_engine(m)), &id, &demands, engine_leases(member_engine(m)));
    return true;
}

static void finish_may_renew(struct request *check)
{
    struct renewal *r = CONTAINER_OF(check, struct renewal, check);
    if (check->op.err != OK) {
        r->lease.ask.err = check->op.err;
        keepalive_answered(r);
    } else if (!r->stream->ended) {
        lease_ask_start(&r->lease, loop_of(server_of(check->call), grpc_call_loop(check->call)), check->call);
    }
}

/* False: the call has been ended. */
static bool keepalive_check(struct keepalive *k, struct renewal *r)
{
    struct auth *a = engine_auth(server_of(k->call)->engine);
    enum err e = caller_identify(k->call, &r->who);
    const struct auth_identity id = auth_identity_of(&r->who);
    if (e == OK) {
        e = auth_method_admit(grpc_call_method(k->call)->path, a, &id);
    }
    if (e != OK) {
        status_finish(k->call, e);
        return false;
    }
    r->check = (struct request){.call = grpc_call_ref(k->call), .finish = finish_may_renew, .op = {.kind = MEMBER_CALL, .call = call_may_renew}};
    request_submit(&r->check);
    return true;
}

/* Let the oldest waiting id be renewed. Its answer never comes before this returns. */
static bool keepalive_begin(struct keepalive *k)
{
    struct renewal **slot = &k->window[(k->window_first + k->n_window) % KEEPALIVE_WINDOW];
    if (*slot == NULL) {
        *slot = arena_alloc(grpc_call_arena(k->call), sizeof(**slot));
    }
    struct renewal *r = *slot;
    if (r == NULL) {
        status_finish(k->call, ERR_TOO_MANY_REQUESTS);
        return false;
    }
    struct etcd_server *s = server_of(k->call);
    *r = (struct renewal){.stream = k, .revision = engine_revision(s->engine), .lease = {.id = k->ids[k->first], .ask = {.done = on_renewed}}};
    k->first = (k->first + 1) % k->cap;
    k->n--;
    k->n_window++;
    if (auth_enabled(engine_auth(s->engine))) {
        return keepalive_check(k, r);
    }
    lease_ask_start(&r->lease, loop_of(s, grpc_call_loop(k->call)), k->call);
    return true;
}

static void keepalive_caught_up(struct grpc_call *c, void *message)
{
    struct keepalive *k = message;
    (void)c;
    k->waiting = false;
    k->waited = true;
    keepalive_go_on(k);
}

static void keepalive_go_on(struct keepalive *k)
{
    if (!k->ended && k->n > 0 && !k->waiting && !k->waited && caller_is_ahead(k->call)) {
        k->waiting = true;
        request_read_barrier(k->call, k, keepalive_caught_up);
        return;
    }
    while (!k->ended && !k->waiting && k->n > 0 && k->n_window < KEEPALIVE_WINDOW) {
        if (!keepalive_begin(k)) {
            return;
        }
    }
    if (!k->ended && !k->waiting && k->n_window == 0 && k->half_closed) {
        grpc_finish(k->call, GRPC_OK, NULL);
    }
}

static void keepalive_started(struct grpc_call *c)
{
    struct keepalive *k = arena_calloc(grpc_call_arena(c), 1, sizeof(*k));
    if (k == NULL) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return;
    }
    k->call = c;
    k->cap = 4;
    k->ids = xcalloc(k->cap, sizeof(*k->ids));
    *grpc_call_state(c) = k;
}

static void keepalive_grow(struct keepalive *k)
{
    int64_t *ids = xcalloc(2 * k->cap, sizeof(*ids));
    for (size_t i = 0; i < k->n; i++) {
        ids[i] = k->ids[(k->first + i) % k->cap];
    }
    free(k->ids);
    k->ids = ids;
    k->first = 0;
    k->cap *= 2;
}

static void on_keepalive(struct grpc_call *c, struct slice bytes)
{
    struct keepalive *k = *grpc_call_state(c);
    int64_t id = 0;
    struct wire_field f;
    struct slice rest = bytes;
    enum err e;
    while ((e = wire_next(&rest, &f)) == OK) {
        if (f.number == 1 && f.type == WIRE_VARINT) {
            id = (int64_t)f.value;
        }
    }
    if (e != ERR_END) {
        counter_add(server_of(c)->stream_failures[1], 1);
        request_refuse_bytes(c);
        return;
    }
    if (k->n >= KEEPALIVE_QUEUE_MAX) {
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests");
        return;
    }
    if (k->n == k->cap) {
        keepalive_grow(k);
    }
    k->ids[(k->first + k->n) % k->cap] = id;
    k->n++;
    keepalive_go_on(k);
}

static void keepalive_half_closed(struct grpc_call *c)
{
    struct keepalive *k = *grpc_call_state(c);
    k->half_closed = true;
    keepalive_go_on(k);
}

static void keepalive_ended(struct grpc_call *c)
{
    struct keepalive *k = *grpc_call_state(c);
    *grpc_call_state(c) = NULL;
    if (k != NULL) {
        k->ended = true;
        free(k->ids); /* the rest is in the arena, which lives until the renewals under way have come back */
        k->ids = NULL;
    }
}

/* A stream stays open as long as its client likes; its client resumes it elsewhere. */
static void keepalive_draining(struct grpc_call *c)
{
    status_finish(c, ERR_STOPPED);
}

const struct grpc_method lease_methods[] = {
    {.path = "/etcdserverpb.Lease/LeaseGrant", .kind = GRPC_UNARY, .message = on_grant},
    {.path = "/etcdserverpb.Lease/LeaseRevoke", .kind = GRPC_UNARY, .message = on_revoke},
    {.path = "/etcdserverpb.Lease/LeaseKeepAlive", .kind = GRPC_BIDI, .started = keepalive_started, .message = on_keepalive,
     .half_closed = keepalive_half_closed, .draining = keepalive_draining, .ended = keepalive_ended},
    {.path = "/etcdserverpb.Lease/LeaseTimeToLive", .kind = GRPC_UNARY, .message = on_time_to_live},
    {.path = "/etcdserverpb.Lease/LeaseLeases", .kind = GRPC_UNARY, .message = on_leases},
    {.path = NULL},
};
