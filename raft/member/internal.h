/* internal.h - what the files of raft/member share.
 *
 * What        The struct behind member.h and step.h, and the seams between the files: recover.c (open, bootstrap, replay),
 *             loop.c (one turn), ops.c (ops and their answers), read.c (linearizable reads), act.c (what raft says), apply.c
 *             (committed entries), install.c (snapshots that come), change.c (membership), follow.c (links, failover),
 *             duties*.c (publishing, versions, leases, compacting, alarms), store.c (the store's side), threads.c (all of it with threads).
 * Callers     raft/member only.
 * Thread      see the groups of fields below.
 */
#ifndef RAFT_MEMBER_INTERNAL_H
#define RAFT_MEMBER_INTERNAL_H

#include <pthread.h>

#include "api/proto/raft_internal.pb-c.h"
#include "raft/core/raft.h"
#include "raft/member/limits.h"
#include "raft/member/member.h"
#include "raft/member/step.h"

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

/* One batch at the log. Made by the member loop, borrowed by the log until it comes back as news. */
struct log_batch {
    struct wal_request request;
    struct inbox_head news;
    struct log_batch *next;      /* submitted behind this one */
    struct raft_message **after; /* owned; to be followed once this is durable */
    size_t n_after;
    uint64_t since_ms;           /* submitted */
    struct wal_entry entries[];
};

/* News from the store and the links. */
struct news {
    struct inbox_head head;
    uint64_t index, index_before; /* STORED */
    int64_t revision;             /* COMPACTED */
    struct member_op *op;         /* INSTALLED */
    struct raft_message *message; /* MESSAGE; owned */
    uint64_t id;                  /* LINK */
    enum link_news link;
    char version[16];             /* VERSIONS: the lowest of those that answered */
    bool all;                     /* VERSIONS: everybody did */
};

#define COMPACTION_BATCHES_PER_COMMIT 10u
/* etcd removes a batch and rests 10 ms. The rate is the same here, but with ten batches to a commit: each commit is a sync of the
 * disk that the log's own syncs wait behind. */
#define COMPACTION_PAUSE_MS (10u * COMPACTION_BATCHES_PER_COMMIT)
#define WAITER_SLOTS 16384u /* hash slots; a power of two; chains hold what is more */

/* Entries handed out by raft and not yet applied, oldest first. */
struct apply_queue {
    struct raft_entry *v; /* owned, with a reference to each data */
    size_t first, n, cap;
};

struct threads; /* threads.c */

struct member {
    struct member_config cfg; /* strings and lists borrowed from the caller until member_close */
    uint64_t request_timeout_ms;
    struct engine *engine; /* owned */
    struct engine_config engine_cfg; /* what it was opened with; for staging */
    struct wal *wal;       /* owned until somebody takes it */
    struct member_log log;
    struct member_store store;
    struct threads *threads; /* owned; NULL: not started, or moved on by calls (step.h) */

    /* Any thread. */
    struct queue inbox; /* ops and news; consumer: the member loop */
    _Atomic bool stopping;
    _Atomic bool failed; /* told to the owner, once */
    _Atomic uint64_t next_id;
    _Atomic uint64_t leader;
    _Atomic uint64_t committed_index;
    _Atomic uint64_t no_leader_since_ms;
    _Atomic uint32_t n_messages; /* in the inbox */
    _Atomic bool is_leader;
    _Atomic bool is_learner;
    _Atomic bool current; /* member_read_is_current */
    _Atomic bool staging; /* a snapshot is being built */
    _Atomic bool flush_waits; /* for the log: tell the store when more is durable */

    /* Member loop only. */
    struct raft *raft; /* owned */
    uint64_t now_ms;
    uint64_t tick_at_ms;
    uint64_t last_tick_ms;
    uint64_t doubt_until_ms; /* this loop stood still: leadership has to be confirmed */
    uint64_t started_ms; /* of the first turn; 0: none yet */
    uint64_t elected_ms; /* when this member last became leader; 0: never */
    struct raft_message **out; /* to other members, this turn; owned */
    size_t n_out, out_cap;
    struct held_proposal { /* forwarded here while leadership moves; oldest first */
        struct raft_message *message; /* owned */
        uint64_t deadline_ms;
    } *held_proposals; /* owned */
    size_t n_held_proposals;
    struct snapshot_failure { /* a snapshot that did not arrive */
        uint64_t id;
        uint64_t wait_ms;
        uint64_t report_at_ms; /* to raft; 0: it was */
    } snapshot_failures[RAFT_MEMBERS_MAX];
    size_t n_snapshot_failures;

    size_t n_log_inflight;
    struct log_batch *first_batch, *last_batch; /* at the log, oldest first; NULL when none is */
    uint64_t durable_index;       /* of the own log; the store does not go beyond it */
    bool hs_held;                 /* a hard state that needed no sync waits for the next batch */
    struct wal_hard_state held;
    struct wal_position positions[MEMBER_POSITIONS_MAX]; /* durable, ascending; the last one is the log's end */
    size_t n_positions;
    struct apply_queue apply;
    uint64_t hold_log_until_ms; /* a follower takes a snapshot, or just did */

    struct member_op *install;    /* the snapshot under way; NULL: none */
    bool installing;              /* raft has taken it: nothing else is done until it is in place */
    struct log_batch *install_batch; /* owned; goes to the log once the store is in place */

    struct member_op *waiters[WAITER_SLOTS]; /* proposals by request id */
    size_t n_waiters;
    struct op_list proposals; /* the same ones, by deadline */
    struct raft_entry *batch; /* entries to propose */
    struct member_op **batch_ops; /* NULL: nobody waits any more, and it is not proposed */
    size_t n_batch, batch_cap;
    bool batch_waits; /* for a leader */

    struct op_list reads;      /* the round in flight */
    struct op_list reads_next; /* for the next round */
    uint64_t read_first_ctx, read_last_ctx; /* contexts of the round in flight; 0: none */
    uint64_t read_retry_ms;
    struct op_list reads_indexed; /* wait for wait_index to be applied */

    struct op_list applied_waits; /* WAIT_APPLIED, by wait_index */
    struct op_list transfers;
    struct op_list compaction_waits;
    int64_t compacted_to;
    int64_t compact_kicked; /* the store knows of compactions up to here */
    struct op_list lease_waits; /* `revision` holds the lease id */

    struct event_batch **turn_batches; /* revisions of this turn, not yet handed on */
    size_t n_turn_batches, turn_batches_cap;

    uint64_t gone_leader;   /* its process is gone: others are to be elected; RAFT_NONE: no such thing */
    uint64_t campaign_at_ms;
    uint64_t campaign_until_ms;
    bool forwarded;         /* the start-up rule of fast_forward is done with */
    uint64_t forward_at_ms;
    bool removed_told;
    uint64_t leave_by_ms;       /* the own removal is applied, and those who stay may not know it; 0: no such thing */
    struct raft_ids know_removal; /* said so, since */

    bool promoted; /* leases are kept by this member */
    uint64_t lease_scan_at_ms;
    uint64_t checkpoint_at_ms;
    bool ready_told;
    bool published;
    bool publishing;
    bool version_proposed;
    bool versions_asked;
    uint64_t version_at_ms;
    uint64_t version_look_ms;
    char version_seen[16]; /* the cluster's, as the log was told last */
    bool alarm_proposed;
    struct auto_compact auto_compact; /* begins with the first turn */
    int64_t auto_compact_target;      /* of the proposal under way */
    uint64_t auto_compact_since_ms;
    uint64_t duty_again_ms; /* no publication or version is proposed before */

    struct measure *measure; /* owned */
    struct counter *proposals_failed;
    struct counter *leader_changes;
    struct gauge *proposals_pending;
    struct counter *lease_expired;
    struct counter *heartbeat_failures;
    struct counter *slow_reads;
};

/* --- member.c --- */
/* Log or store is broken for good: tell the owner, the first time. Any thread. */
void member_fail(struct member *m, enum err e, const char *what);
void member_post(struct member *m, struct news *n); /* any thread; past the inbox's bound */

/* --- ops.c --- */
void member_complete(struct member *m, struct member_op *op, enum err e); /* removes nothing from lists */
void member_complete_list(struct member *m, struct op_list *l, enum err e);
/* Take a proposal: it is given to raft at the end of this turn. Consumes one reference of op->data. */
void member_take_proposal(struct member *m, struct member_op *op);
void waiter_add(struct member *m, struct member_op *op);
/* The op that waits for this request, taken out; NULL when nobody does. */
struct member_op *waiter_take(struct member *m, uint64_t request_id);
void ops_propose(struct member *m);
void ops_expire(struct member *m);
void ops_hand_on(struct member *m); /* answers and revisions to the ports */
void ops_changed(struct member *m, struct event_batch *batch);
void ops_answer_all(struct member *m, enum err e);
/* The store is compacted to `revision`: who waits for that is answered. */
void ops_compacted(struct member *m, int64_t revision);

/* --- read.c --- */
void read_start_round(struct member *m);
void read_on_state(struct member *m, const struct raft_read_state *rs);
void read_release(struct member *m);
void read_confirm_leader(struct member *m, struct member_op *op);
void read_wait_applied(struct member *m, struct member_op *op);

/* --- act.c --- */
void act(struct member *m);
bool act_may(const struct member *m);
void act_on_durable(struct member *m, struct log_batch *b);
void act_submit(struct member *m, struct log_batch *b);
void act_write_held(struct member *m); /* a hard state that waits for the next batch waits no longer */
void act_send(struct member *m, struct raft_message *message); /* taken; goes out at the end of the turn */
void act_flush_sends(struct member *m);
void log_batch_free(struct log_batch *b);

/* --- apply.c --- */
void apply_push(struct member *m, const struct raft_entry *entries, size_t n);
void apply_some(struct member *m); /* as many as the tail takes */
bool apply_may(const struct member *m);
void apply_drop(struct member *m, uint64_t up_to); /* superseded by a snapshot */

/* --- install.c --- */
void install_begin(struct member *m, struct member_op *op);
void install_place(struct member *m, struct log_batch *b); /* raft has taken it; `b` starts the log again */
void install_placed(struct member *m, struct member_op *op);
void install_refused(struct member *m); /* raft did not want it: answer */

/* --- change.c --- */
void change_begin(struct member *m, struct member_op *op);
void transfer_begin(struct member *m, struct member_op *op);
void transfer_turn(struct member *m);
/* The data of an entry that makes one change. */
struct buf *change_entry(enum raft_conf_change_type type, uint64_t node, uint64_t request_id, struct slice context);
/* The context of a configuration change: a member as etcd's JSON. `promote` -1: no such field. */
void change_context(struct bytes *out, uint64_t id, const char *name, const char *const *peer_urls, bool learner, int promote);

/* --- follow.c --- */
void follow_message(struct member *m, struct raft_message *message); /* taken */
void follow_link(struct member *m, uint64_t id, enum link_news news);
void follow_turn(struct member *m); /* failover, start-up, a hung disk */
void follow_removed(struct member *m); /* the own removal is applied */
bool follow_disk_hangs(const struct member *m); /* the log has taken nothing for an election timeout */
/* The voter other than this one whose link has been active longest; 0: none is. */
uint64_t follow_best_voter(const struct member *m);

/* --- measure.c --- */
struct measure *measure_create(struct metrics *m);
void measure_destroy(struct measure **x);
/* The kind of request that an encoded InternalRaftRequest holds, as a number. */
unsigned measure_kind(struct slice data);
bool measure_is_priority(unsigned kind);
void measure_apply(struct member *m, const struct raft_entry *e, const struct apply_result *r, uint64_t took_ns);
void measure_request(struct member *m, unsigned kind, bool ok, uint64_t took_ns);
void measure_installing(struct member *m, bool yes);
void measure_compacted(struct member *m, const struct compaction_report *r); /* tell the log about the pass that has just ended [store's thread] */

/* --- duties.c: all on the member loop --- */
void duties_role_changed(struct member *m, bool is_leader);
void duties_turn(struct member *m); /* after each turn's applies */
/* Propose on the member's own behalf; `done` runs on the member loop, asks duty_member, and ends with duty_forget. */
void duty_propose_bytes(struct member *m, struct buf *data, uint64_t request_id, void (*done)(struct member_op *op));
void duty_propose(struct member *m, Etcdserverpb__InternalRaftRequest *r, void (*done)(struct member_op *op));
struct member *duty_member(struct member_op *op);
void duty_forget(struct member_op *op);

/* --- duties_compact.c --- */
void duties_auto_compact(struct member *m);

/* --- duties_version.c --- */
bool duties_may_publish(struct member *m);
void duties_publish(struct member *m);
void duties_versions(struct member *m, const char *lowest, bool all);
void duties_mind_versions(struct member *m); /* a leader */
void duties_note_version(struct member *m);  /* everybody: tell the log */

/* --- duties_lease.c --- */
void duties_answer_lease_waits(struct member *m);
void duties_lease_role(struct member *m, bool is_leader);
void duties_lease_turn(struct member *m); /* a leader */

extern const struct engine_events member_engine_events; /* store.c */

#endif
