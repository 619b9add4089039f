/* lease.c - the Lease service. Grants and revocations go through the log; everything about remaining time is asked of the member loop, where the
 * leader keeps it. */
#include "api/etcd/internal.h"

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

struct lookup {
    struct lease_info info;
    struct bytes keys; /* encoded `keys` fields; owned until the reply is sent */
};

static void add_key(void *arg, struct slice key)
{
    wire_add_message(arg, 5, key);
}

static bool call_time_to_live(struct member *m, struct member_op *op)
{
    struct request *r = CONTAINER_OF(op, struct request, op);
    const Etcdserverpb__LeaseTimeToLiveRequest *q = r->message;
    struct lease_table *leases = engine_leases(member_engine(m));
    struct lookup *l = xcalloc(1, sizeof(*l));
    op->err = lease_lookup(leases, q->id, member_now_ms(m), &l->info);
    if (op->err == OK && q->keys) {
        lease_each_key(leases, q->id, add_key, &l->keys);
    }
    r->answer = l;
    return true;
}

static void finish_time_to_live(struct request *r)
{
    const Etcdserverpb__LeaseTimeToLiveRequest *q = r->message;
    struct lookup *l = r->answer;
    if (r->op.err != OK && r->op.err != ERR_LEASE_NOT_FOUND) {
        status_finish(r->call, r->op.err);
    } else {
        bool found = r->op.err == OK;
        struct bytes b = {0};
        wire_add_int(&b, 2, q->id);
        wire_add_int(&b, 3, found ? l->info.remaining_s : -1);
        wire_add_int(&b, 4, found ? l->info.ttl_s : 0);
        bytes_add(&b, l->keys.data, l->keys.len);
        reply_send(r->call, engine_revision(server_of(r->call)->engine), bytes_slice(&b));
        bytes_deinit(&b);
    }
    if (l != NULL) {
        bytes_deinit(&l->keys);
        free(l);
    }
}

static void on_time_to_live(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__LeaseTimeToLiveRequest *q = request_decode(c, &etcdserverpb__lease_time_to_live_request__descriptor, bytes);
    struct request *r = q == NULL ? NULL : request_create(c, MEMBER_CALL, finish_time_to_live);
    if (r != NULL) {
        r->message = q;
        r->op.call = call_time_to_live;
        request_submit(r);
    }
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
    struct bytes *b = xcalloc(1, sizeof(*b));
    lease_each(engine_leases(member_engine(m)), add_lease, b);
    r->answer = b;
    op->err = OK;
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
    struct request *r = request_create(c, MEMBER_CALL, finish_leases);
    if (r != NULL) {
        r->op.call = call_leases;
        request_submit(r);
    }
}

/* --- keepalive ---------------------------------------------------------------------------------------------------- */

/* Answers come in the order of the requests, so one request of a stream is under way at a time and the others wait here. */
struct keepalive {
    struct request request; /* reused for one renewal after the other */
    int64_t *ids;           /* ring, owned */
    size_t first, n, cap;
    bool busy, half_closed;
    int64_t revision; /* sampled before the renewal, by the member loop */
    int64_t ttl;      /* its result */
};

static void keepalive_next(struct grpc_call *c, struct keepalive *k);

static void keepalive_reply(struct grpc_call *c, const struct keepalive *k, int64_t id, int64_t ttl)
{
    uint8_t head[REPLY_HEADER_MAX];
    uint8_t body[TWO_INTS_MAX];
    size_t n = put_two_ints(body, 2, id, 3, ttl);
    grpc_send(c, (struct slice[]){{head, reply_header(server_of(c), k->revision, head)}, {body, n}}, 2);
}

static bool call_renew(struct member *m, struct member_op *op)
{
    struct request *r = CONTAINER_OF(op, struct request, op);
    struct keepalive *k = CONTAINER_OF(r, struct keepalive, request);
    int64_t ttl = 0;
    k->revision = engine_revision(member_engine(m));
    op->err = lease_renew(engine_leases(member_engine(m)), r->number, member_now_ms(m), &ttl);
    k->ttl = ttl;
    if (op->err == ERR_TIMEOUT) {
        member_wait_lease_revoked(m, op, r->number); /* it has expired: the answer is TTL 0, once its keys are gone */
        return false;
    }
    return true;
}

static void finish_renew(struct request *r)
{
    struct grpc_call *c = r->call;
    struct keepalive *k = CONTAINER_OF(r, struct keepalive, request);
    k->busy = false;
    if (*grpc_call_state(c) == NULL) {
        return; /* the call ended while the renewal was under way */
    }
    int64_t id = k->ids[k->first];
    k->first = (k->first + 1) % k->cap;
    k->n--;
    if (r->op.err == OK) {
        keepalive_reply(c, k, id, k->ttl);
    } else if (r->op.err == ERR_LEASE_NOT_FOUND) {
        keepalive_reply(c, k, id, 0);
    } else if (r->op.err == ERR_NOT_LEADER) {
        grpc_finish(c, GRPC_UNAVAILABLE, "etcdserver: no leader");
        return;
    } else {
        status_finish(c, r->op.err);
        return;
    }
    keepalive_next(c, k);
}

static void keepalive_next(struct grpc_call *c, struct keepalive *k)
{
    if (k->busy) {
        return;
    }
    if (k->n == 0) {
        if (k->half_closed) {
            grpc_finish(c, GRPC_OK, NULL);
        }
        return;
    }
    k->busy = true;
    k->request = (struct request){.call = grpc_call_ref(c), .finish = finish_renew, .number = k->ids[k->first]};
    k->request.op.kind = MEMBER_CALL;
    k->request.op.call = call_renew;
    k->request.op.port = &loop_of(server_of(c), grpc_call_loop(c))->port;
    request_submit(&k->request);
}

static void keepalive_started(struct grpc_call *c)
{
    struct keepalive *k = arena_calloc(grpc_call_arena(c), 1, sizeof(*k));
    if (k == NULL) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return;
    }
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
    keepalive_next(c, k);
}

static void keepalive_half_closed(struct grpc_call *c)
{
    struct keepalive *k = *grpc_call_state(c);
    k->half_closed = true;
    keepalive_next(c, k);
}

static void keepalive_ended(struct grpc_call *c)
{
    struct keepalive *k = *grpc_call_state(c);
    *grpc_call_state(c) = NULL;
    if (k != NULL) {
        free(k->ids); /* the rest is in the arena, which lives until a renewal under way has come back */
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
