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
#include "engine/engine.h"
#include "engine/watch.h"

struct member; /* opaque */

/* --- ports: where news for one I/O loop goes ------------------------------------------------------------- */

struct member_op;

/* Called on the member loop (or store thread for ops that wait for the store); must only hand on to the port's own thread. */
struct member_port {
    /* n finished ops, oldest first, linked by node.next. */
    void (*answered)(void *arg, struct member_op *first, struct member_op *last, size_t n);
    /* The revisions of one turn, in order; the array is borrowed for the call, the references are the callee's. */
    void (*changed)(void *arg, struct event_batch *const *batches, size_t n);
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
    MEMBER_NEWS_LOG,   /* private, and so are those that follow: news from the member's own threads */
    MEMBER_NEWS_STORED,
    MEMBER_NEWS_COMPACTED
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

    /* Set by the member before the answer. */
    enum err err;
    struct apply_result result; /* PROPOSE; body is the caller's to unref */

    /* Private to the member. */
    uint64_t deadline_ms;
    struct member_op *list_prev, *list_next;
    struct member_op *hash_next;
    uint64_t wait_index;
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
    const struct member_peer *initial; /* the cluster's first members by ascending id; used when there is no log yet */
    size_t n_initial;

    struct vfs *vfs;
    const struct clock *clock;
    struct logger *log;      /* may be NULL */
    struct metrics *metrics; /* may be NULL */
    const char *wal_dir;
    uint64_t segment_bytes;
    bool no_sync;
    struct backend *backend; /* taken */

    uint32_t heartbeat_ms;
    uint32_t election_ms;
    bool pre_vote;
    uint64_t catch_up_entries; /* kept in memory behind the applied index */
    int64_t quota_bytes;       /* > 0 */
    uint32_t compaction_batch_limit;
    uint32_t max_request_bytes;

    struct member_port *const *ports; /* NULL-terminated; changed goes to every one of them */
    /* The durability path failed for good: log or store. The process must end (and restart from disk). Runs on any of the member's threads. */
    void (*failed)(void *arg, enum err e, const char *what);
    /* First time this member has published itself through the log: clients may be served. Member loop. */
    void (*ready)(void *arg);
    void *arg;
};

/* Open log and store, recover, check them against each other. Errors: ERR_LOCKED, ERR_FOREIGN, ERR_CORRUPT, ERR_IO with the story in `ec`. */
MUST_CHECK enum err member_open(const struct member_config *cfg, struct member **out, struct err_ctx *ec);
void member_start(struct member *m);
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

struct member_status {
    uint64_t leader; /* 0: none */
    uint64_t term;   /* of the last applied entry, as reply headers carry it */
    uint64_t committed_index;
    uint64_t applied_index;
    bool is_leader;
    bool is_learner;
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
/* Raise the NOSPACE alarm for this member through the log, unless it is raised already. */
void member_raise_nospace(struct member *m);

#endif
