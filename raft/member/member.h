/* member.h - the shell that drives one member: raft core, log, engine and store.
 *
 * What        Takes proposals and calls from the I/O loops, feeds the raft core, gives entries to the log thread, applies
 *             what is committed, and hands answers and changes back. Nothing is answered before it is durable on a quorum and
 *             applied here.
 * Callers     api/etcd (proposals, calls, reads), tools/pintle (open, start, stop).
 * Thread      Four of its own: member loop, log thread (wal/writer.h), store thread, and callers' loops through ports.
 *             Functions marked [any] may be called from any thread; [loop] from the member loop only (inside a call's run); the rest from the
 *             main thread before member_start and after member_stop.
 * Bounds      raft/member/limits.h.
 */
#ifndef RAFT_MEMBER_MEMBER_H
#define RAFT_MEMBER_MEMBER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/queue.h"
#include "base/vfs.h"
#include "engine/bolt.h"
#include "engine/engine.h"
#include "engine/install.h"
#include "engine/watch.h"
#include "raft/member/auto_compact.h"
#include "raft/member/transport.h"

struct member; /* opaque */

/* --- ports: where news for one I/O loop goes ------------------------------------------------------------- */

struct member_op;

/* Called on the member loop (or store thread for ops that wait for the store); must only hand on to the port's own thread. */
struct member_port {
    /* n finished ops, oldest first, linked by node.next. */
    void (*answered)(void *arg, struct member_op *first, struct member_op *last, size_t n);
    /* The revisions of one turn, in order; the array is borrowed for the call, the references are the callee's. */
    void (*changed)(void *arg, struct event_batch *const *batches, size_t n);
    /* A snapshot has taken the place of all state: the feed goes on behind `revision` (watch_hub_restored). Comes before later changes. May be NULL. */
    void (*restored)(void *arg, int64_t revision);
    void *arg;
    /* Private to the member loop: answers of this turn. Zero-initialise. */
    struct member_op *first, *last;
    size_t n;
};

/* --- ops: what the loops ask of the member ----------------------------------------------------------------- */

enum member_op_kind {
    MEMBER_PROPOSE,    /* data goes through the log; answered when applied (or refused, or timed out) */
    MEMBER_READ_INDEX, /* answered once everything acknowledged before the op was submitted is applied here */
    MEMBER_CALL,       /* `call` runs on the member loop; answered when it returns true, or later by member_answer */
    MEMBER_FLUSH,      /* answered once everything applied so far is durable in the store */
    MEMBER_DEFRAG,     /* answered when the store's file has been rewritten */
    MEMBER_COMPACTED,  /* answered when physical compaction has reached `revision` */
    MEMBER_CHANGE,     /* change the membership by `change`; answered when applied here, or refused (etcd-server.md 3.8) */
    MEMBER_TRANSFER,   /* hand leadership to `target`; answered when it leads; ERR_NOT_LEADER, ERR_BAD_TRANSFEREE, ERR_TIMEOUT */
    MEMBER_WAIT_APPLIED, /* answered once everything that is committed now is applied; ERR_TIMEOUT_APPLIED after a second */
    MEMBER_CONFIRM_LEADER, /* answered once it is sure that this member still led when the op was submitted; ERR_NOT_LEADER, ERR_NOT_PRIMARY */
    MEMBER_INSTALL,    /* a snapshot from the leader: `message` and `staged`; answered when it is installed and durable, or not needed */
    MEMBER_NEWS_LOG,   /* private, and so are those that follow: news from the member's own threads and links */
    MEMBER_NEWS_STORED,
    MEMBER_NEWS_COMPACTED,
    MEMBER_NEWS_INSTALLED,
    MEMBER_NEWS_MESSAGE,
    MEMBER_NEWS_LINK,
    MEMBER_NEWS_VERSIONS
};

enum member_change_kind { MEMBER_ADD, MEMBER_ADD_LEARNER, MEMBER_REMOVE, MEMBER_UPDATE, MEMBER_PROMOTE };

/* One change of membership. PROMOTE only on the leader: ERR_NOT_LEADER. Errors: ERR_NOT_ENOUGH_STARTED, ERR_UNHEALTHY (strict checks), ERR_LEARNER_NOT_READY,
 * and from applying: ERR_MEMBER_NOT_FOUND, ERR_MEMBER_EXISTS, ERR_PEER_URL_EXISTS, ERR_NOT_LEARNER_MEMBER, ERR_TOO_MANY_LEARNERS. */
struct member_change {
    enum member_change_kind kind;
    uint64_t id;                  /* of a new member: computed by the caller (etcd-server.md 2.2) */
    const char *const *peer_urls; /* ADD, ADD_LEARNER, UPDATE; NULL-terminated, sorted; borrowed until the answer */
};

/* One op. Embedded in the caller's request; zero-initialise, fill the first block. The memory stays the caller's, must live
 * until `port->answered` got it, and is not touched by the member afterwards. */
struct member_op {
    struct qnode node;
    enum member_op_kind kind;
    struct member_port *port; /* NULL: nobody waits, `done` (if any) runs on the member loop instead */
    void (*done)(struct member_op *op); /* for the port's thread (or member loop without a port); never called by the member when a port is set */
    struct buf *data;       /* PROPOSE: an encoded InternalRaftRequest; reference taken by the member on submit */
    uint64_t request_id;    /* PROPOSE: the RequestHeader.ID inside data */
    bool (*call)(struct member *m, struct member_op *op); /* CALL */
    int64_t revision;       /* COMPACTED */
    const struct member_change *change; /* CHANGE; borrowed until the answer */
    uint64_t target;                    /* TRANSFER */
    struct raft_message *message;       /* INSTALL: a MsgSnap; taken on submit */
    struct staged *staged;              /* INSTALL: from member_stage; taken on submit */

    /* Set by the member before the answer. */
    enum err err;
    struct apply_result result; /* PROPOSE; body is the caller's to unref */

    /* Private to the member. */
    uint64_t deadline_ms;
    struct member_op *list_prev, *list_next;
    struct member_op *hash_next;
    uint64_t wait_index;
    uint64_t since_ns; /* PROPOSE: when it was taken */
    unsigned request;  /* PROPOSE: measure.c's number of its kind */
};

/* --- life ------------------------------------------------------------------------------------------------------ */

struct member_peer {
    uint64_t id;
    const char *name;
    const char *const *peer_urls; /* NULL-terminated, sorted */
};

struct member_config {
    uint64_t cluster_id, member_id;
    const char *name;
    const char *const *client_urls; /* advertised; published through the log */
    /* By ascending id; used when there is no log yet. The cluster's founders, or, when `joining`, its present members: then the log
     * begins empty and everything comes from the leader. */
    const struct member_peer *initial;
    size_t n_initial;
    bool joining;
    bool force_new_cluster; /* once, on a log that exists: drop what is not committed, and every member but this one */
    const char *const *own_peer_urls; /* for force_new_cluster when the member is not in its own list */

    struct vfs *vfs;
    const struct clock *clock;
    struct logger *log;      /* may be NULL */
    struct metrics *metrics; /* borrowed */
    const char *wal_dir;
    uint64_t segment_bytes;
    bool no_sync;
    struct backend *backend; /* taken */
    const struct store_place *place; /* where snapshots from the leader are built and put; NULL: none can be installed */
    const struct member_transport *transport; /* borrowed until member_close; NULL: this member is alone */

    uint32_t heartbeat_ms;
    uint32_t election_ms;
    bool pre_vote;
    uint64_t catch_up_entries; /* kept in memory behind the applied index */
    int64_t quota_bytes;       /* > 0 */
    uint32_t compaction_batch_limit;
    uint64_t compaction_pause_ms; /* between two steps of physical compaction; 0: etcd's 10 ms, and steps are gathered (COMPACTION_BATCHES_PER_COMMIT) */
    uint32_t max_request_bytes;
    uint32_t max_learners;    /* etcd's --max-learners, as engine_set_max_learners wants it */
    struct auto_compact_config auto_compact;
    uint64_t slow_apply_ns; /* applying one entry took longer: a warning; 0: none */
    bool priority_requests; /* etcd's gate PriorityRequest: revocations of leases pass a backlog of twice the usual */
    bool strict_reconfig;     /* etcd's --strict-reconfig-check */
    bool fast_forward;        /* etcd's --initial-election-tick-advance */
    const char *version;      /* "3.7.1": what this member tells others that it is */

    struct member_port *const *ports; /* NULL-terminated; changed goes to every one of them */
    /* The durability path failed for good: log or store. The process must end (and restart from disk). Runs on any of the member's threads. */
    void (*failed)(void *arg, enum err e, const char *what);
    /* First time this member has published itself through the log: clients may be served. Member loop. */
    void (*ready)(void *arg);
    /* This member was removed from the cluster for good: by an entry that it applied (told when those who stay know it, or
     * after MEMBER_REMOVAL_WAIT_MS), or by another member's word. Once. Member loop. May be NULL. */
    void (*removed)(void *arg);
    void *arg;
};

/* Open log and store, recover, check them against each other. Errors: ERR_LOCKED, ERR_FOREIGN, ERR_CORRUPT, ERR_IO with the story in `ec`. */
MUST_CHECK enum err member_open(const struct member_config *cfg, struct member **out, struct err_ctx *ec);
void member_start(struct member *m);
/* Before a planned stop, on any thread but the member's: if this member leads others, let the voter whose link has been active longest lead, and wait for
 * it, `timeout_ms` at most. The transport must still run. ERR_UNHEALTHY: nobody to hand over to; ERR_TIMEOUT. */
enum err member_hand_over(struct member *m, uint64_t timeout_ms);
/* Refuse new ops (ERR_STOPPED), answer those that wait, write what is applied to the store, stop the threads. */
void member_stop(struct member *m);
void member_close(struct member **m);

/* --- for everybody [any] ------------------------------------------------------------------------------------------ */

struct engine *member_engine(struct member *m);
/* ERR_TOO_MANY_REQUESTS (etcd's back-pressure rule, or our queue is full), ERR_STOPPED, ERR_REQUEST_TOO_LARGE: then the op was not taken and `data` not consumed. */
MUST_CHECK enum err member_submit(struct member *m, struct member_op *op);
uint64_t member_next_request_id(struct member *m);
/* A linearizable read may be served right now from local state: this is the only voter, it leads, and nobody can know of more than is applied. */
bool member_read_is_current(const struct member *m);

/* --- from the links [any] ------------------------------------------------------------------------------------------ */

/* A message from another member that passed the checks of raft/peer/headers.h, taken. Dropped when MEMBER_MESSAGES_MAX wait, as etcd does. Never a MsgSnap
 * (that is MEMBER_INSTALL). */
void member_receive(struct member *m, struct raft_message *message);

enum link_news {
    LINK_NEWS_UNREACHABLE,        /* raft_report_unreachable */
    LINK_NEWS_SNAPSHOT_DELIVERED, /* raft_report_snapshot */
    LINK_NEWS_SNAPSHOT_FAILED,
    LINK_NEWS_GONE,   /* its process is gone (raft/peer/link.h, LINK_GONE) */
    LINK_NEWS_ACTIVE, /* it is there (again) */
    LINK_NEWS_REMOVED /* it says that this member was removed */
};
void member_link_news(struct member *m, uint64_t id, enum link_news news);
/* The answer to ask_versions: the lowest version ("3.6.0") among the other members that could be asked, "" when none could; and whether all could. Copied. */
void member_versions(struct member *m, const char *lowest, bool all);

/* Who is to be linked to: the members as applied, or, before anything was applied, the configuration's. As engine_members: one allocation for free(). */
struct member_info *member_peers(struct member *m, size_t *n);
/* Check a received database and build a store beside the one in use from it. Long: from a worker thread. `message` is its MsgSnap. ERR_BUSY: one is
 * under way; ERR_CORRUPT: damaged, or not of the index that the message names; ERR_IO, ERR_NO_DISK. */
MUST_CHECK enum err member_stage(struct member *m, const struct bolt_source *src, const struct raft_message *message, struct staged **out, struct err_ctx *ec);
void member_stage_discard(struct member *m, struct staged **s);

/* --- looking at it [any] ------------------------------------------------------------------------------------------- */

struct member_status {
    uint64_t leader; /* 0: none */
    uint64_t term;   /* of the last applied entry, as reply headers carry it */
    uint64_t committed_index;
    uint64_t applied_index;
    bool is_leader;
    bool is_learner;
    uint64_t no_leader_since_ms; /* on the member's clock; 0: there is one */
};
struct member_status member_status(const struct member *m);
uint64_t member_id(const struct member *m);
uint64_t member_cluster_id(const struct member *m);
uint64_t member_request_timeout_ms(const struct member *m); /* etcd's ReqTimeout: 5 s + 2 election timeouts */

/* --- inside a call's run [loop] ------------------------------------------------------------------------------------- */
uint64_t member_now_ms(const struct member *m);
void member_answer(struct member *m, struct member_op *op, enum err e);
/* Answer `op` when lease `id` has been revoked (ERR_LEASE_NOT_FOUND), or at the request timeout. */
void member_wait_lease_revoked(struct member *m, struct member_op *op, int64_t id);
/* Lease `id` was renewed while a checkpoint of its remaining time stood (lease_info.checkpoint_s != 0): let every member forget it. */
void member_lease_renewed(struct member *m, int64_t id);
/* Raise the NOSPACE alarm for this member through the log, unless it is raised already. */
void member_raise_nospace(struct member *m);
/* Raise the CORRUPT alarm for a member whose data differs from the others'; 0: nobody knows which one. */
void member_raise_corrupt(struct member *m, uint64_t id);

#endif
