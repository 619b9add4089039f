/* lease_ask.c - renew or look up one lease on the leader, who alone keeps remaining times.
 *
 * On the leader a renewal first makes sure that it still leads: a member that slept might renew what its successor let expire. A lease that is
 * not known may be one that is being granted, so what is committed is applied first, and then it is looked for once more; a lookup
 * waits in any case. Source: etcd-server.md 6.4; the bodies are those of etcd's package leasehttp:
 *   POST /leases           LeaseKeepAliveRequest -> LeaseKeepAliveResponse without a header
 *   POST /leases/internal  {1: LeaseTimeToLiveRequest} -> {1: LeaseTimeToLiveResponse with an empty header}
 * 404: no such lease; 408: applying took too long; anything else: not the leader, try again.
 */
#include "api/etcd/internal.h"

#include <stdio.h>

#include "engine/lease.h"

static struct lease_ask *lease_of(struct leader_ask *a)
{
    return CONTAINER_OF(a, struct lease_ask, ask);
}

/* --- the bodies ----------------------------------------------------------------------------------------------- */

size_t lease_body_write(uint8_t out[32], int64_t id, bool lookup, bool keys)
{
    uint8_t inner[16];
    uint8_t *p = inner;
    if (id != 0) {
        p = wire_put_varint(wire_put_tag(p, 1, WIRE_VARINT), (uint64_t)id);
    }
    if (lookup && keys) {
        p = wire_put_varint(wire_put_tag(p, 2, WIRE_VARINT), 1);
    }
    size_t n = (size_t)(p - inner);
    uint8_t *q = lookup ? wire_put_varint(wire_put_tag(out, 1, WIRE_LEN), n) : out;
    memcpy(q, inner, n);
    return (size_t)(q - out) + n;
}

/* The last field `number` of that type; absent: zero or empty. */
static enum err find_field(struct slice message, uint32_t number, enum wire_type type, struct wire_field *out)
{
    *out = (struct wire_field){0};
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&message, &f)) == OK) {
        if (f.number == number && f.type == type) {
            *out = f;
        }
    }
    return e == ERR_END ? OK : ERR_INVALID;
}

static enum err find_int(struct slice message, uint32_t number, int64_t *out)
{
    struct wire_field f;
    enum err e = find_field(message, number, WIRE_VARINT, &f);
    if (e == OK) {
        *out = (int64_t)f.value;
    }
    return e;
}

static enum err unwrap(struct slice *body, bool wrapped)
{
    struct wire_field f;
    enum err e = wrapped ? find_field(*body, 1, WIRE_LEN, &f) : OK;
    if (e == OK && wrapped) {
        *body = f.bytes;
    }
    return e;
}

enum err lease_body_read(struct slice body, bool lookup, int64_t *id, bool *keys)
{
    int64_t wants_keys = 0;
    enum err e = unwrap(&body, lookup);
    if (e == OK) {
        e = find_int(body, 1, id);
    }
    if (e == OK && lookup) {
        e = find_int(body, 2, &wants_keys);
    }
    *keys = wants_keys != 0;
    return e;
}

void lease_answer_write(struct bytes *out, const struct lease_ask *a)
{
    if (!a->lookup) {
        wire_add_int(out, 2, a->id);
        wire_add_int(out, 3, a->ttl_s);
        return;
    }
    struct bytes b = {0};
    wire_add_message(&b, 1, (struct slice){NULL, 0}); /* the header is there and empty */
    wire_add_int(&b, 2, a->id);
    wire_add_int(&b, 3, a->ttl_s);
    wire_add_int(&b, 4, a->granted_s);
    bytes_add(&b, a->key_fields.data, a->key_fields.len);
    wire_add_message(out, 1, bytes_slice(&b));
    bytes_deinit(&b);
}

static enum err read_keys(struct slice message, struct bytes *out)
{
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&message, &f)) == OK) {
        if (f.number == 5 && f.type == WIRE_LEN) {
            wire_add_message(out, 5, f.bytes);
        }
    }
    return e == ERR_END ? OK : ERR_INVALID;
}

enum err lease_answer_read(struct slice body, struct lease_ask *a)
{
    int64_t id = 0;
    enum err e = unwrap(&body, a->lookup);
    e = e != OK ? e : find_int(body, 2, &id);
    e = e != OK ? e : find_int(body, 3, &a->ttl_s);
    if (e == OK && a->lookup) {
        e = find_int(body, 4, &a->granted_s);
        bytes_reset(&a->key_fields);
        e = e != OK ? e : read_keys(body, &a->key_fields);
    }
    return e == OK && id != a->id ? ERR_INVALID : e;
}

/* --- on the leader --------------------------------------------------------------------------------------------- */

static void add_key(void *arg, struct slice key)
{
    wire_add_message(arg, 5, key);
}

static bool call_lookup(struct member *m, struct member_op *op)
{
    struct lease_ask *a = lease_of(ask_of(CONTAINER_OF(op, struct request, op)));
    struct lease_table *leases = engine_leases(member_engine(m));
    if (!member_status(m).is_leader) {
        op->err = ERR_LEADER_CHANGED; /* whoever lost the lead knows no remaining times any more */
        return true;
    }
    struct lease_info info = {0};
    op->err = lease_lookup(leases, a->id, member_now_ms(m), &info);
    if (op->err == OK) {
        a->ttl_s = info.remaining_s;
        a->granted_s = info.ttl_s;
        if (a->keys) {
            lease_each_key(leases, a->id, add_key, &a->key_fields);
        }
    }
    return true;
}

static bool call_renew(struct member *m, struct member_op *op)
{
    struct lease_ask *a = lease_of(ask_of(CONTAINER_OF(op, struct request, op)));
    struct lease_table *leases = engine_leases(member_engine(m));
    if (!a->waited && !lease_exists(leases, a->id)) {
        op->err = ERR_NOT_FOUND; /* so far */
        return true;
    }
    op->err = lease_renew(leases, a->id, member_now_ms(m), &a->ttl_s);
    if (op->err == ERR_TIMEOUT) {
        member_wait_lease_revoked(m, op, a->id); /* it has expired: it is gone once its keys are */
        return false;
    }
    return true;
}

static void finish_wait(struct request *r);

static void finish_call(struct request *r)
{
    struct lease_ask *a = lease_of(ask_of(r));
    if (r->op.err == ERR_NOT_LEADER) {
        ask_retry(&a->ask);
    } else if (r->op.err == ERR_NOT_FOUND) {
        ask_submit(&a->ask, MEMBER_WAIT_APPLIED, finish_wait);
    } else {
        if (r->op.err == OK && !a->lookup) {
            counter_add(a->ask.loop->server->lease_renewed, 1);
        }
        ask_finish(&a->ask, r->op.err);
    }
}

static void submit_call(struct lease_ask *a)
{
    a->ask.r.op.call = a->lookup ? call_lookup : call_renew;
    ask_submit(&a->ask, MEMBER_CALL, finish_call);
}

static void finish_wait(struct request *r)
{
    struct lease_ask *a = lease_of(ask_of(r));
    if (r->op.err != OK) {
        ask_finish(&a->ask, r->op.err);
        return;
    }
    a->waited = true;
    submit_call(a);
}

static void finish_confirm(struct request *r)
{
    struct lease_ask *a = lease_of(ask_of(r));
    if (r->op.err == OK) {
        submit_call(a);
    } else if (r->op.err == ERR_NOT_LEADER) {
        ask_retry(&a->ask);
    } else {
        /* Whatever kept it from making sure: the client had better go to another member. */
        ask_finish(&a->ask, r->op.err == ERR_STOPPED ? ERR_STOPPED : ERR_NOT_PRIMARY);
    }
}

static void begin_here(struct leader_ask *ask)
{
    struct lease_ask *a = lease_of(ask);
    a->waited = false;
    bytes_reset(&a->key_fields);
    if (member_read_is_current(ask->loop->server->member)) {
        a->waited = true; /* alone: nobody can have taken over, and nothing is committed that is not applied */
        submit_call(a);
    } else if (a->lookup) {
        ask_submit(ask, MEMBER_WAIT_APPLIED, finish_wait);
    } else {
        ask_submit(ask, MEMBER_CONFIRM_LEADER, finish_confirm);
    }
}

/* --- of the leader ------------------------------------------------------------------------------------------------ */

static void write_question(struct leader_ask *ask, struct peer_question *q)
{
    struct lease_ask *a = lease_of(ask);
    (void)snprintf(q->path, sizeof(q->path), "%s", a->lookup ? "/leases/internal" : "/leases");
    q->content_type = "application/protobuf";
    q->body = (struct bytes){.data = a->body, .len = lease_body_write(a->body, a->id, a->lookup, a->keys), .cap = sizeof(a->body)};
}

static bool read_answer(struct leader_ask *ask, const struct peer_question *q, enum err *e)
{
    struct lease_ask *a = lease_of(ask);
    if (q->status == 404) {
        *e = ERR_LEASE_NOT_FOUND;
        return true;
    }
    *e = OK;
    return q->status == 200 && lease_answer_read(bytes_slice(&q->answer), a) == OK;
}

static const struct leader_ask_kind lease_kind = {.here = begin_here, .write = write_question, .read = read_answer};

void lease_ask_start(struct lease_ask *a, struct etcd_loop *l, struct grpc_call *call)
{
    a->ask.kind = &lease_kind;
    ask_start(&a->ask, l, call);
}
