/* internal.h - what the files of raft/member share.
 *
 * What        The struct behind member.h, and the seams between the files: recover.c (open, bootstrap, replay), loop.c
 *             (the member loop), duties.c (publishing, lease expiry, timeouts), store.c (the store thread).
 * Callers     raft/member only.
 * Thread      see the groups of fields below.
 */
#ifndef RAFT_MEMBER_INTERNAL_H
#define RAFT_MEMBER_INTERNAL_H

#include <pthread.h>

#include "raft/core/raft.h"
#include "raft/member/limits.h"
#include "raft/member/member.h"
#include "wal/writer.h"

struct op_list { /* doubly linked by list_prev and list_next */
    struct member_op *first, *last;
};
void op_list_add(struct op_list *l, struct member_op *op);
void op_list_remove(struct op_list *l, struct member_op *op);

/* What an inbox node is, before its kind is known: the common start of struct member_op and of news. */
struct inbox_head {
    struct qnode node;
    enum member_op_kind kind;
};

/* One batch at the log thread. Made by the member loop, borrowed by the log thread until it comes back as news. */
struct log_batch {
    struct wal_request request;
    struct inbox_head news;
    struct log_batch *next;      /* submitted behind this one */
    struct raft_message **after; /* owned; to be followed once this is durable */
    size_t n_after;
    struct wal_entry entries[];
};

struct store_news {
    struct inbox_head news;
    uint64_t index, index_before; /* STORED */
    int64_t revision;             /* COMPACTED */
};

#define COMPACTION_BATCHES_PER_COMMIT 10u
#define WAITER_SLOTS 16384u /* hash slots; a power of two; chains hold what is more */

/* The store thread: commits what the engine has pending. */
struct store_thread {
    struct member *member;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the fields below; never held across a flush */
    pthread_cond_t cond;
    bool kicked; /* something is pending */
    bool urgent; /* do not wait for more */
    bool stopping;
    struct member_op *requests; /* FLUSH and DEFRAG, newest first, linked by list_next */
};
void store_thread_start(struct store_thread *s, struct member *m);
void store_thread_kick(struct store_thread *s, bool urgent);
void store_thread_request(struct store_thread *s, struct member_op *op);
void store_thread_stop(struct store_thread *s); /* flushes first */

struct member {
    struct member_config cfg; /* strings and lists borrowed from the caller until member_close */
    uint64_t request_timeout_ms;
    struct engine *engine; /* owned */
    struct wal *wal;       /* owned until the writer takes it */
    struct wal_writer *writer;
    struct store_thread store;
    pthread_t thread;
    bool started;

    /* Any thread. */
    struct queue inbox; /* ops and news; consumer: the member loop */
    _Atomic bool stopping;
    _Atomic bool failed; /* told to the owner, once */
    _Atomic uint64_t next_id;
    _Atomic uint64_t leader;
    _Atomic uint64_t committed_index;
    _Atomic bool is_leader;
    _Atomic bool is_learner;
    _Atomic bool current; /* member_read_is_current */

    /* Member loop only. */
    struct raft *raft; /* owned */
    uint64_t now_ms;
    uint64_t tick_at_ms;
    uint64_t lease_scan_at_ms;
    bool promoted; /* leases are kept by this member */
    size_t n_log_inflight;
    struct log_batch *first_batch, *last_batch; /* at the log thread, oldest first; NULL when none is */
    bool hs_held;                 /* a hard state that needed no sync waits for the next batch */
    struct wal_hard_state held;
    struct wal_position durable; /* the log's last durable entry */

    struct member_op *waiters[WAITER_SLOTS]; /* proposals by request id */
    size_t n_waiters;
    struct op_list proposals; /* the same ones, by deadline */
    struct raft_entry *batch; /* entries to propose this turn */
    struct member_op **batch_ops;
    size_t n_batch, batch_cap;

    struct op_list reads;      /* the round in flight */
    struct op_list reads_next; /* for the next round */
    uint64_t read_first_ctx, read_last_ctx; /* contexts of the round in flight; 0: none */
    uint64_t read_retry_ms;
    struct op_list reads_indexed; /* wait for wait_index to be applied */

    struct op_list compaction_waits;
    int64_t compacted_to;
    struct op_list lease_waits; /* `revision` holds the lease id */

    struct event_batch **turn_batches; /* revisions of this turn, not yet handed on */
    size_t n_turn_batches, turn_batches_cap;

    bool published;
    bool publishing;
    bool version_proposed;
    bool alarm_proposed;
    uint64_t duty_again_ms; /* no publication or version is proposed before */

    struct counter *proposals_failed;
    struct counter *leader_changes;
    struct gauge *proposals_pending;
    struct counter *lease_expired;
};

/* loop.c */
void *member_loop_main(void *arg);
void member_log_done(void *arg, struct wal_request *first, struct wal_request *last, size_t n); /* log thread */
void member_complete(struct member *m, struct member_op *op, enum err e); /* removes nothing from lists */
/* Take a proposal: it is given to raft at the end of this turn. Consumes one reference of op->data. */
void member_take_proposal(struct member *m, struct member_op *op);
extern const struct engine_events member_engine_events;

/* Log or store is broken for good: tell the owner, the first time. Any thread. */
void member_fail(struct member *m, enum err e, const char *what);
void member_log_batch_free(struct log_batch *b);

/* duties.c: all on the member loop */
void duties_role_changed(struct member *m, uint64_t leader, bool is_leader);
void duties_turn(struct member *m); /* after each turn's applies */

#endif
