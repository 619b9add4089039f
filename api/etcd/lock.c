/* lock.c - the Lock service: a mutex is a line of keys, its owner the oldest. */
#include "api/etcd/waiter.h"
#include "api/proto/lock.pb-c.h"

#define SESSION_EXPIRED "mutex: session is expired"

/* --- Lock ------------------------------------------------------------------------------------------------------- */

static void locked(struct waiter *w)
{
    enum { HEADER = 1, KEY = 2 };
    struct bytes reply = {0};
    wire_add_message(&reply, HEADER, bytes_slice(&w->header));
    wire_add_bytes(&reply, KEY, bytes_slice(&w->key));
    waiter_reply(w, bytes_slice(&reply));
    bytes_deinit(&reply);
}

/* It is our turn, if our lease has lived to see it. */
static void looked_again(struct waiter *w, struct slice reply)
{
    enum { KVS = 2 };
    if (message_field(reply, KVS).data == NULL) {
        w->entered = false; /* its key went with the lease */
        waiter_fail(w, SESSION_EXPIRED);
        return;
    }
    waiter_keep_header(w, reply);
    locked(w);
}

static void our_turn(struct waiter *w)
{
    struct bytes range = {0};
    put_range_key(&range, bytes_slice(&w->key));
    waiter_step(w, "/etcdserverpb.KV/Range", bytes_slice(&range), looked_again);
    bytes_deinit(&range);
}

static void entered(struct waiter *w, const Etcdserverpb__TxnResponse *r)
{
    const Mvccpb__KeyValue *owner = txn_read_key(r, 1);
    if (owner == NULL || owner->create_revision == w->rev) {
        locked(w);
        return;
    }
    /* Who asks again with the same lease waits at the place of its first call, and takes that away with it when it goes. */
    w->entered = true;
    w->turn = our_turn;
    waiter_wait_turn(w);
}

static void enter(struct waiter *w)
{
    w->leave_on_failure = true;
    waiter_enter(w, true, entered);
}

static void on_lock(struct grpc_call *c, struct slice bytes)
{
    V3lockpb__LockRequest *q = request_decode(c, &v3lockpb__lock_request__descriptor, bytes);
    if (q != NULL) {
        struct waiter *w = waiter_create(c, slice_of(q->name.data, q->name.len));
        w->lease = q->lease;
        waiter_with_lease(w, enter);
    }
}

/* --- Unlock ------------------------------------------------------------------------------------------------------- */

static void unlocked(struct waiter *w, struct slice reply)
{
    struct bytes b = {0};
    wire_add_message(&b, 1, message_field(reply, 1));
    waiter_reply(w, bytes_slice(&b));
    bytes_deinit(&b);
}

static void on_unlock(struct grpc_call *c, struct slice bytes)
{
    V3lockpb__UnlockRequest *q = request_decode(c, &v3lockpb__unlock_request__descriptor, bytes);
    if (q != NULL) {
        struct waiter *w = waiter_create(c, (struct slice){NULL, 0});
        struct bytes del = {0};
        wire_add_bytes(&del, 1, slice_of(q->key.data, q->key.len));
        waiter_step(w, "/etcdserverpb.KV/DeleteRange", bytes_slice(&del), unlocked);
        bytes_deinit(&del);
    }
}

const struct grpc_method lock_methods[] = {
    {.path = "/v3lockpb.Lock/Lock", .kind = GRPC_UNARY, .message = on_lock, .draining = waiter_on_draining, .ended = waiter_on_ended},
    {.path = "/v3lockpb.Lock/Unlock", .kind = GRPC_UNARY, .message = on_unlock, .draining = waiter_on_draining, .ended = waiter_on_ended},
    {.path = NULL},
};
