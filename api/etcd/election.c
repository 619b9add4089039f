/* election.c - the Election service: candidates are a line of keys, the leader is the oldest, its value the proclamation. */
#include "api/etcd/waiter.h"
#include "api/proto/election.pb-c.h"

#define NOT_LEADER "election: not leader"
#define NO_LEADER "election: no leader"
#define NO_LEADER_KEY "\"leader\" field must be provided"
#define CLOSED_EARLY "election: observe closed early"

enum { HEADER = 1, KVS = 2 }; /* of RangeResponse */
enum { REPLY_HEADER = 1, REPLY_KV = 2 }; /* of LeaderResponse */

/* --- proclaiming -------------------------------------------------------------------------------------------------- */

static void send_proclaim(struct waiter *w, void (*then)(struct waiter *w, struct slice reply))
{
    struct bytes txn = {0}, put = {0};
    put_created(&txn, bytes_slice(&w->key), w->rev);
    put_put(&put, bytes_slice(&w->key), bytes_slice(&w->value), w->lease);
    put_op(&txn, BRANCH_THEN, OP_PUT, bytes_slice(&put));
    waiter_step(w, "/etcdserverpb.KV/Txn", bytes_slice(&txn), then);
    bytes_deinit(&txn);
    bytes_deinit(&put);
}

static bool txn_succeeded(struct slice reply)
{
    enum { SUCCEEDED = 2 };
    struct wire_field f;
    while (wire_next(&reply, &f) == OK) {
        if (f.number == SUCCEEDED && f.type == WIRE_VARINT) {
            return f.value != 0;
        }
    }
    return false;
}

/* --- Campaign -------------------------------------------------------------------------------------------------------- */

static void elected(struct waiter *w)
{
    enum { LEADER = 2, NAME = 1, KEY = 2, REV = 3, LEASE = 4 };
    struct bytes reply = {0}, leader = {0};
    wire_add_bytes(&leader, NAME, bytes_slice(&w->name));
    wire_add_bytes(&leader, KEY, bytes_slice(&w->key));
    wire_add_int(&leader, REV, w->rev);
    wire_add_int(&leader, LEASE, w->lease);
    wire_add_message(&reply, REPLY_HEADER, bytes_slice(&w->header));
    wire_add_message(&reply, LEADER, bytes_slice(&leader));
    waiter_reply(w, bytes_slice(&reply));
    bytes_deinit(&reply);
    bytes_deinit(&leader);
}

static void wait_for_turn(struct waiter *w)
{
    w->entered = true;
    w->leave_on_failure = false; /* a candidate whose waiting fails stays one, as in etcd; only one who goes away resigns */
    w->turn = elected;
    waiter_wait_turn(w);
}

static void candidate_proclaimed(struct waiter *w, struct slice reply)
{
    if (!txn_succeeded(reply)) {
        waiter_fail(w, NOT_LEADER);
        return;
    }
    wait_for_turn(w);
}

static void entered(struct waiter *w, const Etcdserverpb__TxnResponse *r)
{
    const Mvccpb__KeyValue *there = txn_read_key(r, 0);
    if (r->succeeded || (there != NULL && slice_eq(slice_of(there->value.data, there->value.len), bytes_slice(&w->value)))) {
        wait_for_turn(w);
        return;
    }
    w->entered = true;
    w->leave_on_failure = true;
    send_proclaim(w, candidate_proclaimed);
}

static void enter(struct waiter *w)
{
    waiter_enter(w, false, entered);
}

static void on_campaign(struct grpc_call *c, struct slice bytes)
{
    V3electionpb__CampaignRequest *q = request_decode(c, &v3electionpb__campaign_request__descriptor, bytes);
    if (q != NULL) {
        struct waiter *w = waiter_create(c, slice_of(q->name.data, q->name.len));
        w->lease = q->lease;
        bytes_set(&w->name, slice_of(q->name.data, q->name.len));
        bytes_set(&w->value, slice_of(q->value.data, q->value.len));
        waiter_with_lease(w, enter);
    }
}

/* --- Proclaim, Resign ---------------------------------------------------------------------------------------------------- */

/* A waiter for who claims to lead; NULL after refusing one who does not say as what. */
static struct waiter *leader_create(struct grpc_call *c, const V3electionpb__LeaderKey *leader)
{
    if (leader == NULL) {
        grpc_finish(c, GRPC_UNKNOWN, NO_LEADER_KEY);
        return NULL;
    }
    struct waiter *w = waiter_create(c, slice_of(leader->name.data, leader->name.len));
    bytes_set(&w->key, slice_of(leader->key.data, leader->key.len));
    w->rev = leader->rev;
    w->lease = leader->lease;
    return w;
}

static void reply_header_only(struct waiter *w, struct slice reply)
{
    struct bytes b = {0};
    wire_add_message(&b, REPLY_HEADER, message_field(reply, HEADER));
    waiter_reply(w, bytes_slice(&b));
    bytes_deinit(&b);
}

static void proclaimed(struct waiter *w, struct slice reply)
{
    if (!txn_succeeded(reply)) {
        waiter_fail(w, NOT_LEADER);
        return;
    }
    reply_header_only(w, reply);
}

static void proclaim(struct waiter *w)
{
    send_proclaim(w, proclaimed);
}

static void on_proclaim(struct grpc_call *c, struct slice bytes)
{
    V3electionpb__ProclaimRequest *q = request_decode(c, &v3electionpb__proclaim_request__descriptor, bytes);
    struct waiter *w = q == NULL ? NULL : leader_create(c, q->leader);
    if (w != NULL) {
        bytes_set(&w->value, slice_of(q->value.data, q->value.len));
        waiter_with_lease(w, proclaim);
    }
}

static void resign(struct waiter *w)
{
    struct bytes txn = {0}, del = {0};
    put_created(&txn, bytes_slice(&w->key), w->rev);
    wire_add_bytes(&del, 1, bytes_slice(&w->key));
    put_op(&txn, BRANCH_THEN, OP_DELETE, bytes_slice(&del));
    waiter_step(w, "/etcdserverpb.KV/Txn", bytes_slice(&txn), reply_header_only);
    bytes_deinit(&txn);
    bytes_deinit(&del);
}

static void on_resign(struct grpc_call *c, struct slice bytes)
{
    V3electionpb__ResignRequest *q = request_decode(c, &v3electionpb__resign_request__descriptor, bytes);
    struct waiter *w = q == NULL ? NULL : leader_create(c, q->leader);
    if (w != NULL) {
        waiter_with_lease(w, resign);
    }
}

/* --- Leader ------------------------------------------------------------------------------------------------------------------ */

static void find_leader(struct waiter *w, void (*then)(struct waiter *w, struct slice reply))
{
    struct bytes range = {0};
    put_range_first(&range, &w->prefix);
    waiter_step(w, "/etcdserverpb.KV/Range", bytes_slice(&range), then);
    bytes_deinit(&range);
}

static void leader_found(struct waiter *w, struct slice reply)
{
    struct slice kv = message_field(reply, KVS);
    if (kv.data == NULL) {
        waiter_fail(w, NO_LEADER);
        return;
    }
    struct bytes b = {0};
    wire_add_message(&b, REPLY_HEADER, message_field(reply, HEADER));
    wire_add_message(&b, REPLY_KV, kv);
    waiter_reply(w, bytes_slice(&b));
    bytes_deinit(&b);
}

static void on_leader(struct grpc_call *c, struct slice bytes)
{
    V3electionpb__LeaderRequest *q = request_decode(c, &v3electionpb__leader_request__descriptor, bytes);
    if (q != NULL) {
        find_leader(waiter_create(c, slice_of(q->name.data, q->name.len)), leader_found);
    }
}

/* --- Observe -------------------------------------------------------------------------------------------------------------------
 *
 * look ──a leader──► follow its key ──deleted──► look
 *   └───none───► watch the line until somebody puts a key ──► follow it */

static void observe_send(struct waiter *w, struct slice header, struct slice kv)
{
    struct bytes b = {0};
    struct slice reply;
    wire_add_message(&b, REPLY_HEADER, header);
    wire_add_message(&b, REPLY_KV, kv);
    reply = bytes_slice(&b);
    if (w->call != NULL) {
        grpc_send(w->call, &reply, 1);
    }
    bytes_deinit(&b);
}

static void send_packed(struct waiter *w, Etcdserverpb__ResponseHeader *header, const Mvccpb__KeyValue *kv)
{
    struct bytes h = {0}, k = {0};
    h.len = etcdserverpb__response_header__pack(header, bytes_reserve(&h, etcdserverpb__response_header__get_packed_size(header)));
    k.len = mvccpb__key_value__pack(kv, bytes_reserve(&k, mvccpb__key_value__get_packed_size(kv)));
    observe_send(w, bytes_slice(&h), bytes_slice(&k));
    bytes_deinit(&h);
    bytes_deinit(&k);
}

static void observe_looked(struct waiter *w, struct slice reply);

static bool leader_changed(struct waiter *w, const Etcdserverpb__WatchResponse *r)
{
    for (size_t i = 0; i < r->n_events; i++) {
        if (r->events[i]->type == MVCCPB__EVENT__EVENT_TYPE__DELETE) {
            waiter_watch_close(w);
            find_leader(w, observe_looked);
            return false;
        }
        send_packed(w, r->header, r->events[i]->kv);
    }
    return true;
}

/* Deletions are of those who never led in this observer's eyes. */
static bool first_candidate(struct waiter *w, const Etcdserverpb__WatchResponse *r)
{
    for (size_t i = 0; i < r->n_events; i++) {
        if (r->events[i]->type != MVCCPB__EVENT__EVENT_TYPE__PUT) {
            continue;
        }
        const Mvccpb__KeyValue *kv = r->events[i]->kv;
        r->header->revision = kv->mod_revision; /* the response may go further than this event */
        send_packed(w, r->header, kv);
        bytes_set(&w->key, slice_of(kv->key.data, kv->key.len));
        waiter_watch_close(w);
        waiter_watch(w, bytes_slice(&w->key), (struct slice){NULL, 0}, kv->mod_revision + 1, leader_changed);
        return false;
    }
    return true;
}

static void observe_looked(struct waiter *w, struct slice reply)
{
    Etcdserverpb__RangeResponse *r = etcdserverpb__range_response__unpack(NULL, reply.len, reply.data);
    if (r == NULL || r->header == NULL) {
        waiter_fail(w, CLOSED_EARLY);
        return;
    }
    int64_t revision = r->header->revision;
    if (r->n_kvs > 0) {
        observe_send(w, message_field(reply, HEADER), message_field(reply, KVS));
        waiter_watch(w, slice_of(r->kvs[0]->key.data, r->kvs[0]->key.len), (struct slice){NULL, 0}, revision + 1, leader_changed);
    } else {
        struct bytes end = {0};
        bytes_set(&end, bytes_slice(&w->prefix));
        end.data[end.len - 1]++;
        waiter_watch(w, bytes_slice(&w->prefix), bytes_slice(&end), revision, first_candidate);
        bytes_deinit(&end);
    }
    etcdserverpb__range_response__free_unpacked(r, NULL);
}

static void on_observe(struct grpc_call *c, struct slice bytes)
{
    V3electionpb__LeaderRequest *q = request_decode(c, &v3electionpb__leader_request__descriptor, bytes);
    if (q != NULL) {
        struct waiter *w = waiter_create(c, slice_of(q->name.data, q->name.len));
        w->lost = CLOSED_EARLY;
        find_leader(w, observe_looked);
    }
}

const struct grpc_method election_methods[] = {
    {.path = "/v3electionpb.Election/Campaign", .kind = GRPC_UNARY, .message = on_campaign, .draining = waiter_on_draining, .ended = waiter_on_ended},
    {.path = "/v3electionpb.Election/Proclaim", .kind = GRPC_UNARY, .message = on_proclaim, .draining = waiter_on_draining, .ended = waiter_on_ended},
    {.path = "/v3electionpb.Election/Leader", .kind = GRPC_UNARY, .message = on_leader, .draining = waiter_on_draining, .ended = waiter_on_ended},
    {.path = "/v3electionpb.Election/Observe", .kind = GRPC_SERVER_STREAM, .message = on_observe, .draining = waiter_on_draining, .ended = waiter_on_ended},
    {.path = "/v3electionpb.Election/Resign", .kind = GRPC_UNARY, .message = on_resign, .draining = waiter_on_draining, .ended = waiter_on_ended},
    {.path = NULL},
};
