/* engine.h - the replicated state machine: what the log's entries mean.
 *
 * What        MVCC key space, leases, alarms, membership data, compaction, hashes; and the reads over them.
 *             Applying is a pure function of replicated state and entry: the same bytes give the same
 *             state and the same answer on every member.
 * Callers     raft/member applies, ticks and flushes; api reads.
 * Thread      Three roles, each marked at its functions:
 *               [member]  the member loop, the only writer of state in memory;
 *               [store]   the store thread, the only writer of the backend;
 *               [any]     readers: I/O loops and the worker pool.
 *             One rwlock inside guards index, tail and membership: the member loop takes it for writing for one entry at a
 *             time, readers for bounded steps. It is never held across a system call that may block.
 * Invariants  Revision, compact revision and applied index only grow. What was applied and is not yet in the backend
 *             stands in the tail, so a read never waits for the store thread.
 * Clock       times are handed in (monotonic ms); they steer lease expiry only, never what an entry does.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "api/proto/raft_internal.pb-c.h"
#include "api/proto/rpc.pb-c.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/metrics.h"
#include "engine/backend.h"
#include "engine/record.h"

struct engine; /* opaque */

#define ENGINE_TAIL_BYTES_MAX (256u << 20)     /* applied, not yet in the backend; at this the member loop stops applying */
#define ENGINE_FLUSH_BYTES (8u << 20)          /* the store thread commits when this much is pending ... */
#define ENGINE_FLUSH_MS 1000u /* ... or the oldest pending change is this old: a commit is a sync that the log's syncs wait behind */
#define ENGINE_PIN_MS_MAX 30000u               /* a reader that holds back compaction longer than this loses its revision */
#define ENGINE_TXN_DEPTH_MAX 129u              /* nesting of txns, as deep as 128 ops reach in etcd; deeper: ERR_TOO_MANY_OPS */

struct engine_config {
    struct backend *backend; /* taken: closed by engine_close */
    uint64_t cluster_id, member_id; /* for reply building by callers; apply does not look at them */
    int64_t quota_bytes;     /* > 0; INT64_MAX: off */
    int64_t min_lease_ttl_s;
    uint32_t compaction_batch_limit; /* records per store step; etcd's default 1000 */
    uint64_t compaction_pause_ms; /* no step of a pass before so long after the one before it, by engine_note_time; 0: with each flush */
    struct metrics *metrics; /* may be NULL; etcd_mvcc_*, etcd_debugging_mvcc_*, lease and disk_backend families */
    const struct engine_events *events;
    void *events_arg;
    const struct clock *clock; /* for durations in metrics only; NULL: they stay empty */
};

struct event_batch; /* engine/watch.h: the changes of one revision, shared by all loops */

/* How a pass of physical compaction went. */
struct compaction_report {
    int64_t revision, before; /* the compact revision that this one replaced */
    uint64_t took_ns, n_deleted;
    bool hashed; /* false: what it removed did not all lie there when it began, so its hash says nothing */
    uint32_t hash;
};

/* News for the shell. Called on the thread named; must only hand it on. */
struct engine_events {
    /* [member] after each entry that made a revision; the batch's reference is the callee's. */
    void (*changed)(void *arg, struct event_batch *batch);
    /* [store] the backend durably holds everything up to and including applied `index`, and held `index_before` at the commit before it. */
    void (*stored)(void *arg, uint64_t index, uint64_t index_before);
    /* [store] physical compaction to report->revision is complete and committed. */
    void (*compacted)(void *arg, const struct compaction_report *report);
    /* [store] the backend failed for good; or [member] an entry could not be applied (see engine_apply). */
    void (*failed)(void *arg, enum err e, const struct err_ctx *ec);
};

/* Load all state from the backend: rebuilds the index (checking every record's checksum), leases, alarms, membership; resumes
 * an unfinished compaction. Errors: ERR_CORRUPT with bucket, key and reason; ERR_IO. */
MUST_CHECK enum err engine_open(const struct engine_config *cfg, struct engine **out, struct err_ctx *ec);
void engine_close(struct engine **e); /* no thread uses it any more; does not flush */

/* --- applying [member] ------------------------------------------------------------------------------ */

/* The answer to one entry, for whoever proposed it. */
struct apply_result {
    enum err err;
    uint64_t request_id;     /* RequestHeader.ID of the entry, or the ID of a ConfChange; 0 when it has none */
    int64_t revision;        /* of the reply's header: live revision after the entry */
    struct buf *body;        /* the reply's fields behind its header, encoded (Put: prev_kv; Txn: succeeded, responses; LeaseGrant: ID, TTL;
                              * Alarm: alarms); NULL when there are none or no answer was wanted. Owned by the caller. */
    int64_t compacting_to;   /* physical compaction was asked for: answer after events.compacted >= this; else 0 */
    bool over_quota;         /* applied although the quota is exceeded: raise NOSPACE, answer ERR_NO_SPACE */
};

/* Apply the entry at `index`, which is applied index + 1 (an entry at or below the applied index is skipped without effect and gives OK
 * with request_id 0). `data` is an InternalRaftRequest (entry type 0; empty at the start of a term) or a raftpb.ConfChange / ConfChangeV2 (types 1 and
 * 2: membership rows and confState). Undecodable data changes nothing but the applied index (ERR_INVALID in the result).
 * A change of membership that cannot be made (ERR_MEMBER_EXISTS, id in use; ERR_PEER_URL_EXISTS; ERR_MEMBER_NOT_FOUND, unknown or removed
 * before; ERR_NOT_LEARNER_MEMBER; ERR_TOO_MANY_LEARNERS; ERR_INVALID) leaves rows and confState as they were: raft must take it for no change.
 * When a record that decides what the entry does cannot be read (ERR_CORRUPT, ERR_IO), nothing happens, the applied index
 * included, events.failed is called on this thread, and no later entry is applied. */
void engine_apply(struct engine *e, uint64_t index, uint64_t term, uint32_t type, struct slice data, bool want_reply,
                  uint64_t now_ms, struct apply_result *out);

/* The log's chain hash at an applied entry, for the store to remember beside the applied index. */
void engine_set_witness(struct engine *e, uint64_t index, uint64_t term, uint64_t chain);
/* The log holds entries up to `index`. Nothing beyond it is committed by engine_flush; before the first call there is no such bound. [member] */
void engine_log_durable(struct engine *e, uint64_t index);
/* What the store remembered at open. index 0: nothing. */
void engine_witness(const struct engine *e, uint64_t *index, uint64_t *term, uint64_t *chain);

/* One bounded piece of background work in memory (compaction of the index). true: more is waiting. To be called once a turn, also
 * after a false: work comes up when a physical pass begins or a slow reader goes. */
bool engine_step(struct engine *e);

/* --- leases [member] --------------------------------------------------------------------------------- */
struct lease_table *engine_leases(struct engine *e);

/* --- users and roles [any], see engine/auth.h ----------------------------------------------------------- */
struct auth *engine_auth(struct engine *e); /* the same as long as the engine lives, also after engine_adopt */

/* --- storing [store] ---------------------------------------------------------------------------------- */

/* Something waits to be written: bytes of it, and since when by the caller's clock nothing is known: the store thread keeps that itself. [any] */
size_t engine_pending_bytes(const struct engine *e);

/* Write what is pending into the backend and commit, together with a bounded step of the compaction under way. A compaction that became
 * durable by that begins at once, in a commit of its own; so do a few that wait behind it, when one step is enough for each.
 * `force`: commit even when nothing is pending. *more: call again after a pause (compaction goes on, or waits for a slow reader).
 * Errors: ERR_BUSY, something pending is not durable in the log yet (engine_log_durable): call again when more of it is, what is left follows.
 * Others are final. */
MUST_CHECK enum err engine_flush(struct engine *e, bool force, bool *more, struct err_ctx *ec);

/* Rewrite the backend's file without free space; reads and applies go on. */
MUST_CHECK enum err engine_defrag(struct engine *e, struct err_ctx *ec);

/* --- reading [any] ------------------------------------------------------------------------------------ */

/* The time of day for pins of stepped reads; engine_apply and engine_range_open tell it too. [any] */
void engine_note_time(struct engine *e, uint64_t now_ms);
int64_t engine_revision(const struct engine *e);         /* live */
int64_t engine_compact_revision(const struct engine *e); /* -1: never */
int64_t engine_physical_compact_revision(const struct engine *e); /* up to which removal is complete and committed; -1: never */
uint64_t engine_applied_index(const struct engine *e);
uint64_t engine_applied_term(const struct engine *e);
struct backend_stats engine_backend_stats(const struct engine *e);
int64_t engine_quota_bytes(const struct engine *e);
/* Does a request of this cost (etcd-v3-api.md 12.1) fit? Cost 0 always does. */
bool engine_quota_fits(const struct engine *e, int64_t cost);
int64_t engine_put_cost(const Etcdserverpb__PutRequest *r);
int64_t engine_txn_cost(const Etcdserverpb__TxnRequest *r);

/* Request checks that need no state, in etcd's order (etcd-v3-api.md 3.3, 3.5, 3.6.1): what the API runs before it proposes or reads. */
MUST_CHECK enum err engine_check_range(const Etcdserverpb__RangeRequest *r);
MUST_CHECK enum err engine_check_put(const Etcdserverpb__PutRequest *r);
MUST_CHECK enum err engine_check_delete(const Etcdserverpb__DeleteRangeRequest *r);
MUST_CHECK enum err engine_check_txn(const Etcdserverpb__TxnRequest *r, uint32_t ops_max);
/* Of an encoded TxnRequest: ERR_TOO_MANY_OPS, it nests deeper than ENGINE_TXN_DEPTH_MAX; ERR_INVALID, it is not well-formed. To be asked before one from
 * outside is decoded, because the decoder recurses once a level without a bound, and goes on behind bytes that are no field. */
MUST_CHECK enum err engine_txn_depth(struct slice encoded_txn);
/* Whole nested request holds only ranges at the top level (3.6.5); *serializable: all of them say so (also when there are none). */
bool engine_txn_is_read_only(const Etcdserverpb__TxnRequest *r, bool *serializable);

/* A range being read. Count, `more` and the exact size of the reply are known at open; the bytes come in steps, each under its own short lock. Small
 * results (most) are collected at open. The revision is pinned: compaction leaves its versions alone until close, or ENGINE_PIN_MS_MAX. */
struct range_read;
struct range_info {
    int64_t header_revision; /* live at open */
    int64_t count;
    bool more;
    int64_t n_kvs;
    uint64_t kvs_bytes; /* all `kvs` fields of the RangeResponse, tags and lengths included */
};
/* `r` is borrowed until close. `now_ms` starts the pin's age. Errors: ERR_COMPACTED, ERR_FUTURE_REV, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum err engine_range_open(struct engine *e, const Etcdserverpb__RangeRequest *r, uint64_t now_ms, struct range_read **out,
                                      struct range_info *info, struct err_ctx *ec);
/* The next up to `room` bytes of the encoded `kvs` fields, in order, filling `room` while bytes are left. 0 with ERR_COMPACTED, ERR_CORRUPT or ERR_IO in *err when the
 * rest cannot be had. */
size_t engine_range_pull(struct range_read *rr, uint8_t *dst, size_t room, enum err *err);
/* For RangeStream: append whole `kvs` fields to `out`: at most n_max of them, ending after bytes_target. *n = 0 at the end. */
MUST_CHECK enum err engine_range_chunk(struct range_read *rr, size_t n_max, size_t bytes_target, struct bytes *out, size_t *n);
void engine_range_close(struct range_read **rr);

/* A read-only txn (engine_txn_is_read_only), whole: appends the TxnResponse's fields behind its header. */
MUST_CHECK enum err engine_txn_read(struct engine *e, const Etcdserverpb__TxnRequest *r, uint64_t now_ms, struct bytes *body, int64_t *revision, struct err_ctx *ec);

/* HashKV at revision R (0: live) and Hash; long, so from the worker pool. */
struct hash_kv { uint32_t hash; int64_t compact_revision; int64_t hash_revision; int64_t live_revision; };
MUST_CHECK enum err engine_hash_kv(struct engine *e, int64_t revision, struct hash_kv *out, struct err_ctx *ec);
/* The hashes that recent compactions left behind, oldest first; returns how many (10 at most, as etcd). */
size_t engine_compaction_hashes(struct engine *e, struct hash_kv *out, size_t n_max);
/* Over the backend's committed content: flush first. */
MUST_CHECK enum err engine_hash(struct engine *e, uint32_t *hash, int64_t *revision, struct err_ctx *ec);

/* --- alarms and membership [any], copied out under the lock ---------------------------------------------- */
struct alarm { uint64_t member_id; int type; /* 1 NOSPACE, 2 CORRUPT */ };
#define ENGINE_ALARMS_MAX 1024u
size_t engine_alarms(const struct engine *e, struct alarm *out, size_t n_max); /* returns how many there are */
bool engine_alarm_active(const struct engine *e, int type);

struct member_info {
    uint64_t id;
    char *name;
    char **peer_urls;   /* NULL-terminated, sorted */
    char **client_urls; /* NULL-terminated */
    bool is_learner;
};
/* All members by ascending id, as one allocation to be released with free(). */
struct member_info *engine_members(const struct engine *e, size_t *n);
/* Was a member with this id removed at some time? */
bool engine_member_removed(const struct engine *e, uint64_t id);
/* Configuration changes may add learners up to this number; over: ERR_TOO_MANY_LEARNERS. [member], before the first apply. 0: no bound, as before the call;
 * ENGINE_NO_LEARNERS: none at all. */
#define ENGINE_NO_LEARNERS UINT32_MAX
void engine_set_max_learners(struct engine *e, uint32_t n);

/* raftpb.ConfState as of the applied index, each list ascending. */
#define ENGINE_CONF_MAX 64u
struct engine_conf {
    uint64_t voters[ENGINE_CONF_MAX], learners[ENGINE_CONF_MAX], voters_outgoing[ENGINE_CONF_MAX], learners_next[ENGINE_CONF_MAX];
    size_t n_voters, n_learners, n_voters_outgoing, n_learners_next;
    bool auto_leave;
};
void engine_conf(const struct engine *e, struct engine_conf *out); /* [member], or before the first apply */
/* The downgrade job: enabled, and its target version into `target` of at least 16 bytes. */
bool engine_downgrade(const struct engine *e, char *target);
/* "3.7.0", or "" while undecided; into `out` of at least 16 bytes. */
void engine_cluster_version(const struct engine *e, char *out);

/* --- snapshots [any] ------------------------------------------------------------------------------------ */

/* The whole store as one bbolt file, as etcd's tools and members take it: etcd's ten buckets at one applied index, the one of the
 * store's last commit. So flush first. Records are verified while they are read and leave their checksums behind; our own
 * bucket is left out. Each use of a snapshot by one thread at a time, not always the same; long, so from the worker pool.
 * Cost: while a snapshot is open the backend cannot use again the pages that are freed meanwhile, so the file grows by
 * about what is written: whoever hands a snapshot to a client must bound the time. */
struct engine_snapshot;
#define ENGINE_SNAPSHOTS_MAX 8u          /* open at a time; more: ERR_TOO_MANY_REQUESTS */
#define ENGINE_STORAGE_VERSION "3.7.0"   /* of etcd's schema, for a store that does not name another */
struct snapshot_info {
    uint64_t bytes; /* of the file */
    uint64_t index; /* applied: consistent_index */
    uint64_t term;
    struct engine_conf conf; /* as of that index */
};
/* Walks the store once, to find the size. The engine outlives the snapshot. Errors: ERR_TOO_MANY_REQUESTS, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum err engine_snapshot_open(struct engine *e, struct engine_snapshot **out, struct snapshot_info *info, struct err_ctx *ec);
/* The next up to `room` bytes, filling `room` while bytes are left; *n = 0 at the end. Memory: the longest record. After an error only close. */
MUST_CHECK enum err engine_snapshot_read(struct engine_snapshot *s, uint8_t *dst, size_t room, size_t *n, struct err_ctx *ec);
void engine_snapshot_close(struct engine_snapshot **s);

#endif
