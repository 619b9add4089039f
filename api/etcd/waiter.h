/* waiter.h - a call of the Lock or Election service, under way in steps.
 *
 * What        These services do nothing that a client could not do with the others: they make a key per waiter under a common prefix and wait until
 *             it is the oldest there. Each step is a call of KV, Lease or Watch in this process with the caller's own credentials, so that
 *             permissions, quota and errors are theirs. A waiter does one step at a time; when its caller goes away it first finishes what it
 *             was about and then takes its key out of the line.
 *
 *                 lease ──► enter ──► (wait for the older ones)* ──► answered
 *                   │         │                 │
 *                   └─────────┴──── failed ─────┴── gone ──► leave ──► freed
 *
 * Callers     api/etcd/lock.c, election.c.
 * Thread      the call's loop.
 * Lifetime    From waiter_create to the end of its last step; it hangs on grpc_call_state of its call until that is answered or has ended.
 * Source      etcd-v3-api.md 9 and 10.
 */
#ifndef API_ETCD_WAITER_H
#define API_ETCD_WAITER_H

#include "api/etcd/internal.h"
#include "api/grpc/local.h"

#define WAITER_LEASE_TTL_S 60            /* of the lease that is granted to a caller who names none */
#define WAITER_QUEUE_BYTES (256u << 10)  /* of a slow observer; over it the watch behind it rests */

extern const struct grpc_method lock_methods[];
extern const struct grpc_method election_methods[];

struct waiter {
    struct grpc_call *call; /* borrowed; NULL once it is answered or gone */
    struct grpc_server *grpc;
    struct loop *loop;
    char *token, *authorization, *common_name; /* owned, for the steps; NULL: none */
    size_t token_len, authorization_len;
    bool from_gateway;
    /* The step. */
    struct grpc_local local;
    struct bytes in; /* its answer as it comes */
    void (*then)(struct waiter *w, struct slice reply);    /* of a unary step: it went well */
    void (*in_line)(struct waiter *w, const Etcdserverpb__TxnResponse *r);
    /* Of a watch: its next response. False: the watch was closed, or the waiter is gone. */
    bool (*event)(struct waiter *w, const Etcdserverpb__WatchResponse *r);
    const char *lost; /* text for a watch that ends; NULL: its own */
    /* What the service is about. */
    struct bytes prefix; /* of the line, with its slash */
    struct bytes key;
    struct bytes name, value;
    struct bytes header; /* for the answer: an encoded ResponseHeader */
    int64_t lease, rev;  /* rev: create_revision of `key` */
    bool entering;       /* the step that makes the key is under way */
    bool entered;        /* the key stands in the line, and is to be taken out when the caller goes */
    bool leave_on_failure;
    void (*turn)(struct waiter *w); /* what comes after a lease, or when no older key is left */
};

/* For a call that has just come; it is the call's state from now on. `prefix_of` is the line's name, without the slash. */
struct waiter *waiter_create(struct grpc_call *c, struct slice prefix_of);
void waiter_on_ended(struct grpc_call *c);    /* the methods' callbacks */
void waiter_on_draining(struct grpc_call *c);

/* Ends of the call. The waiter is gone afterwards, or does what is left to do without a caller. */
void waiter_reply(struct waiter *w, struct slice reply);
void waiter_fail(struct waiter *w, const char *text); /* code Unknown, as all errors of these services */
/* True: the caller has gone meanwhile, and so has the waiter. */
MUST_CHECK bool waiter_is_gone(struct waiter *w);

/* Steps: `then` gets the reply message. */
void waiter_step(struct waiter *w, const char *method, struct slice request, void (*then)(struct waiter *w, struct slice reply));
void waiter_with_lease(struct waiter *w, void (*then)(struct waiter *w)); /* one is granted when it names none */
void waiter_watch(struct waiter *w, struct slice key, struct slice range_end, int64_t from,
                  bool (*event)(struct waiter *w, const Etcdserverpb__WatchResponse *r));
void waiter_watch_close(struct waiter *w);
void waiter_wait_turn(struct waiter *w); /* until no key of the line is older than `rev`; then `turn` */

/* Stand in line: make `key`, which is prefix and the lease in hexadecimal, with `value`, or read it when it is there already. `then` gets the
 * txn's reply (succeeded: the key is new), once header, rev and entered are those of the key; with `owner` its second response is the oldest key
 * of the line. */
void waiter_enter(struct waiter *w, bool owner, void (*then)(struct waiter *w, const Etcdserverpb__TxnResponse *r));
/* The first key that op `i` has read; NULL: none. */
const Mvccpb__KeyValue *txn_read_key(const Etcdserverpb__TxnResponse *r, size_t i);

/* Pieces of requests, appended. */
void put_range_first(struct bytes *range, const struct bytes *prefix);                   /* the oldest key of the line */
void put_range_key(struct bytes *range, struct slice key);
void put_created(struct bytes *txn, struct slice key, int64_t rev);                      /* compare: create_revision == rev */
enum txn_branch { BRANCH_THEN = 2, BRANCH_ELSE = 3 };
enum txn_op { OP_RANGE = 1, OP_PUT = 2, OP_DELETE = 3 };
void put_op(struct bytes *txn, enum txn_branch branch, enum txn_op op, struct slice request);
void put_put(struct bytes *put, struct slice key, struct slice value, int64_t lease);

/* The bytes of a reply's header; and of the first field `number` that is a message, NULL data when there is none. */
void waiter_keep_header(struct waiter *w, struct slice reply);
struct slice message_field(struct slice message, uint32_t number);
void bytes_set(struct bytes *b, struct slice s);

#endif
