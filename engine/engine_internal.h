/* engine_internal.h - the engine's one struct, shared by its .c files.
 *
 * What        struct engine, its parts, and the few functions that cross files.
 * Callers     engine/{engine,apply,mvcc,txn,range,store,hash,alarm,membership,history}*.c
 * Thread      each group of fields says whose it is.
 * Lock order  engine.lock, then pins.lock or hashes.lock. Nothing is taken below those two.
 */
#ifndef ENGINE_ENGINE_INTERNAL_H
#define ENGINE_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "engine/engine.h"
#include "engine/index.h"
#include "engine/lease.h"
#include "engine/store.h"
#include "engine/watch.h"

#define ENGINE_STEP_KEYS 512u /* keys looked at under one hold of the lock */
#define ENGINE_PINS_MAX 1024u /* stepped reads open at a time; more: ERR_TOO_MANY_REQUESTS */
/* Of one encoded reply body; more: ERR_LIMIT, the entry is applied all the same. With its header it stays below the 256 MiB
 * that a call may have unsent. */
#define ENGINE_REPLY_BYTES_MAX (255u << 20)
#define ENGINE_HASHES_MAX 10u /* compaction hashes remembered, as etcd */
/* Compactions that wait for their pass; more: see passes_add. */
#define ENGINE_PASSES_MAX 64u
#define ENGINE_SCRATCH_FIRST (64u << 10)
#define ENGINE_SCRATCH_MAX (512u << 20) /* a decoded entry larger than this is ERR_INVALID */
#define ENGINE_VERSION_BYTES 16u

/* A revision that a stepped read depends on. Embedded in the reader. */
struct pin {
    struct pin *prev; /* in pins.first's list */
    struct pin *next;
    int64_t revision;
    uint64_t since_ms;
    _Atomic bool lost; /* too old: compaction goes on without it */
};
struct pins {
    pthread_mutex_t lock;
    struct pin *first;
    size_t n;
};

struct hashes {
    pthread_mutex_t lock;
    size_t n;
    struct hash_kv v[ENGINE_HASHES_MAX]; /* by revision ascending; live_revision unused */
};

struct members {
    struct member_info *v; /* owned, with its strings; by id ascending */
    size_t n;
    size_t cap;
    uint64_t *removed; /* owned; ids ascending */
    size_t n_removed;
};

/* raftpb.ConfState; each list ascending. */
struct id_list {
    uint64_t *v; /* owned */
    size_t n;
    size_t cap;
};
struct conf_state {
    struct id_list voters, learners, voters_outgoing, learners_next;
    bool auto_leave;
};

struct witness {
    uint64_t index;
    uint64_t term;
    uint64_t chain;
};

/* --- hash.c: which records count in HashKV --- */
struct hash_rules {
    int64_t compacted; /* -1: never */
    int64_t revision;
    bool keep_is_empty; /* no key lives at `revision` */
};
/* Of a record at or below rules->revision; `x` knows all records. */
bool hash_counts(const struct index *x, const struct hash_rules *rules, struct rev rev, bool tombstone, struct slice key);

/* Of a snapshot that was installed. */
struct origin {
    uint64_t index;
    uint64_t term;
};

/* What one commit makes durable beside records and rows. */
struct mark {
    uint64_t index;
    uint64_t term;
    int64_t revision;
    int64_t compact_revision;
    struct witness witness;
};

/* Whole entries on their way into the backend. */
struct seal {
    bool taken;
    uint64_t from, to; /* records of the tail */
    struct rows rows;  /* owned */
    struct mark mark;
    size_t bytes;
};
void seal_deinit(struct seal *s);

/* A pass of physical compaction that is to be made: the compaction was applied. */
struct pass {
    int64_t target;
    int64_t before; /* compact revision before: what the pass before this one goes to */
    bool hashable;  /* it meets all records that the compaction to `before` left */
};
/* Passes whose turn has not come, in the order in which their compactions were applied. */
struct pass_queue {
    size_t first;
    size_t n;
    struct pass v[ENGINE_PASSES_MAX]; /* a ring */
};

/* The physical compaction under way. Store thread only. */
struct compaction {
    bool active;
    struct pass pass;
    struct rev at; /* looked at up to here */
    uint64_t rests_until_ms;
    bool keep_all; /* nothing stays at `target`: the hash then counts everything */
    uint32_t crc;
    uint64_t n_deleted;
    uint64_t started_ns;
};

struct engine_metrics {
    struct counter *ranges, *puts, *deletes, *txns, *compacted_keys, *leases_granted,
        *leases_revoked;
    struct gauge *put_bytes;
    struct histogram *commit, *defrag, *hash, *hash_rev, *lease_ttl;
    struct histogram *compact_pause, *compact_total, *index_pause;
    struct gauge *defrag_inflight, *compact_last;
};

struct engine {
    int64_t quota_bytes;
    uint32_t compaction_batch_limit;
    uint64_t compaction_pause_ms;
    const struct engine_events *events; /* borrowed; may be NULL */
    void *events_arg;
    const struct clock *clock; /* borrowed; may be NULL */
    struct engine_metrics metrics;

    /* Guarded by `lock`. The member loop is the only writer of the index, so it reads it without.
     */
    pthread_rwlock_t lock;
    struct home *home;   /* ref; another after engine_adopt */
    struct engine *replaced; /* owned; what engine_adopt put aside, to be freed with the next flush */
    struct index *index; /* owned */
    struct tail tail;
    struct rows rows;      /* of whole entries */
    size_t unsealed_bytes; /* pending and not part of the commit under way */
    struct mark mark;      /* as of the last whole entry */
    struct pass_queue passes;
    struct members members;
    struct conf_state conf;
    struct alarm alarms[ENGINE_ALARMS_MAX]; /* by type, then id */
    size_t n_alarms;
    char cluster_version[ENGINE_VERSION_BYTES];
    bool downgrading;
    char downgrade_target[ENGINE_VERSION_BYTES];

    /* Any thread. */
    struct auth *auth; /* owned; the same for the engine's life, with a lock of its own */
    struct pins pins;
    struct hashes hashes;
    _Atomic int64_t revision;
    _Atomic int64_t compact_revision;
    _Atomic uint64_t applied_index;
    _Atomic uint64_t applied_term;
    _Atomic size_t pending_bytes;
    _Atomic int64_t file_bytes;       /* of the backend, as of the last commit */
    _Atomic uint64_t now_ms;          /* latest time heard of */
    _Atomic unsigned alarm_types;     /* bit t: some alarm of type t is active */
    _Atomic int64_t compact_finished; /* physically, committed */
    _Atomic unsigned n_snapshots;     /* open */
    _Atomic uint64_t generation;      /* how often a snapshot took the place of everything; changed
                                         under `lock` */
    _Atomic uint64_t durable_index; /* of the log: no commit goes beyond it */
    _Atomic int64_t compact_passing; /* target of the newest physical pass that began: the index may
                                        go so far */

    /* Member loop only. */
    struct lease_table *leases; /* owned */
    struct arena *scratch;      /* of one entry */
    struct rows entry_rows;
    size_t entry_bytes;
    struct change *changes; /* owned; of one entry */
    size_t n_changes;
    size_t changes_cap;
    int64_t index_target; /* compaction of the index, begun last */
    bool index_compacting;
    struct origin installed; /* index 0: the log follows */
    uint32_t learners_max;   /* 0: no bound; or ENGINE_NO_LEARNERS */
    bool halted;           /* an entry could not be applied: nothing more will be */

    /* Store thread only. */
    bool store_failed;
    struct seal seal;   /* of the commit under way */
    struct mark stored; /* the last commit */
    struct compaction compaction;
    struct witness witness_at_open;
};

static inline uint64_t engine_generation(const struct engine *e)
{
    return atomic_load_explicit(&e->generation, memory_order_acquire);
}

static inline void count(struct counter *c, uint64_t n)
{
    if (c != NULL) {
        counter_add(c, n);
    }
}

/* 0 without a clock: durations then stay unobserved. */
static inline uint64_t now_ns(const struct engine *e)
{
    return e->clock == NULL ? 0 : clock_now_ns(e->clock);
}

static inline void observe_ns(const struct engine *e, struct histogram *h, uint64_t since_ns)
{
    if (h != NULL && e->clock != NULL) {
        histogram_observe_ns(h, now_ns(e) - since_ns);
    }
}

static inline void observe_ms(const struct engine *e, struct histogram *h, uint64_t since_ns)
{
    if (h != NULL && e->clock != NULL) {
        histogram_observe(h, (double)(now_ns(e) - since_ns) / 1e6);
    }
}

static inline void lock_read(const struct engine *e)
{
    int rc = pthread_rwlock_rdlock((pthread_rwlock_t *)(uintptr_t)&e->lock);
    ASSERT(rc == 0);
}

static inline void lock_write(struct engine *e)
{
    int rc = pthread_rwlock_wrlock(&e->lock);
    ASSERT(rc == 0);
}

static inline void unlock(const struct engine *e)
{
    int rc = pthread_rwlock_unlock((pthread_rwlock_t *)(uintptr_t)&e->lock);
    ASSERT(rc == 0);
}

/* The interval of keys that key and range_end of a request name. */
struct span {
    struct slice from;
    struct slice to; /* data NULL: no end; not used when single */
    bool single;
    bool empty; /* nothing can match */
};
struct span span_of(ProtobufCBinaryData key, ProtobufCBinaryData range_end);

static inline struct slice slice_pb(ProtobufCBinaryData d)
{
    return slice_of(d.data, d.len);
}

/* --- engine.c --- */
void pins_init(struct pins *p);
void pins_deinit(struct pins *p);
/* false: too many. */
bool pins_add(struct pins *p, struct pin *pin, int64_t revision, uint64_t now_ms);
void pins_remove(struct pins *p, struct pin *pin);
/* No live pin below `revision` is left; pins older than ENGINE_PIN_MS_MAX lose their hold. */
bool pins_clear(struct pins *p, int64_t revision, uint64_t now_ms);
/* All of them lose their hold. */
void pins_lose(struct pins *p);
/* Over a backend that others hold too. Without metrics nothing is registered. */
MUST_CHECK enum err engine_open_on(const struct engine_config *cfg, struct home *home,
                                   struct engine **out, struct err_ctx *ec);

/* --- apply.c [member] --- */
/* The rows gathered outside an entry go with the next flush. */
void engine_pend_rows(struct engine *e);

/* --- engine_restore.c --- */
MUST_CHECK enum err engine_restore(struct engine *e, struct err_ctx *ec);

/* --- store_compact.c [store] --- */

/* Records to delete, found by one bounded scan. */
struct compact_step {
    struct bytes keys; /* each one byte of length, then the backend key */
    size_t n;
    bool finished; /* the pass is complete with this step */
};
/* A compaction was applied. [member] The lock is held for writing, or nobody else knows `e`. */
void passes_add(struct engine *e, const struct pass *p);
/* No pass is under way, and the next one may begin. */
bool compact_due(struct engine *e);
/* Some pass is under way or waits: for its turn, for its record to be committed, for a pin. */
bool compact_more(const struct engine *e);
/* Begin a pass when one is due, and look at the next records. */
MUST_CHECK enum err compact_scan(struct engine *e, struct compact_step *step, struct err_ctx *ec);
MUST_CHECK enum err compact_write(struct engine *e, const struct compact_step *step,
                                  struct err_ctx *ec);
/* After the commit. */
void compact_done(struct engine *e, const struct compact_step *step);

/* --- hash.c --- */
void hashes_init(struct hashes *h);
void hashes_deinit(struct hashes *h);
void hashes_forget(struct hashes *h);
void hashes_add(struct hashes *h, const struct hash_kv *v);

/* Big-endian numbers of rows. */
static inline void be64_put(uint8_t out[8], uint64_t v)
{
    for (int i = 7; i >= 0; i--) {
        out[i] = (uint8_t)v;
        v >>= 8;
    }
}

static inline uint64_t be64_get(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

/* Names of rows. */
#define ROW_CONSISTENT_INDEX "consistent_index"
#define ROW_TERM "term"
#define ROW_CONF_STATE "confState"
#define ROW_SCHEDULED_COMPACT "scheduledCompactRev"
#define ROW_FINISHED_COMPACT "finishedCompactRev"
#define ROW_CLUSTER_VERSION "clusterVersion"
#define ROW_DOWNGRADE "downgrade"
#define ROW_REVISION "revision" /* in BUCKET_PINTLE, as those below */
#define ROW_WITNESS "witness"
#define ROW_INSTALLED "installed" /* index and term of the snapshot the store was made of */
#define ROW_FORMAT "format"
#define FORMAT_VERSION 1u

#endif
