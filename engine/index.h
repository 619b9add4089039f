/* index.h - from key to revisions, in memory.
 *
 * What        A B+tree over all keys with prefix-truncated leaves and subtree counts. The newest
 *             change of a key sits inline in the leaf; older changes that a read at an earlier
 *             revision may still ask for are in a side table. Counting a range at the live revision
 *             costs O(log n), at a recent one O(log n + creations and deletions since), at an older
 *             one a walk.
 * Callers     engine/mvcc only.
 * Thread      no locks inside. Writers (the member loop) hold the engine's lock for writing,
 *             readers (any thread) for reading; nothing returned here survives the lock except
 *             copied values.
 * Invariants  For each key: versions ascend by revision; a tombstone ends a generation; after
 *             compaction to C a key keeps its newest change <= C (unless that is a tombstone below
 *             C) and all after C.
 * Memory      about 50 bytes a key beside the key's own distinct suffix.
 */
#ifndef ENGINE_INDEX_H
#define ENGINE_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "engine/record.h"

struct index; /* opaque */

/* One change of one key, everything about it that is known without reading the record. */
struct key_version {
    struct rev mod;
    int64_t create_revision; /* of its generation; 0 for a tombstone */
    int64_t version;         /* 1 at creation; 0 for a tombstone */
    uint32_t kv_bytes;       /* size of its encoded KeyValue; 0 for a tombstone */
    bool tombstone;
};

/* "as of": INDEX_LATEST sees everything that was put, also within an unfinished transaction. */
#define INDEX_LATEST INT64_MAX

/* a larger sub revision in a store is refused by whoever restores it */
#define INDEX_SUB_MAX UINT32_MAX

struct index *index_create(void);
void index_destroy(struct index **x);

/* The newest live change of `key` with main <= at. false: no such key then (never made, or
 * deleted). */
bool index_get(const struct index *x, struct slice key, int64_t at, struct key_version *out);

/* The newest change of `key` with main <= at, tombstones included: what compaction to `at` would
 * keep. */
bool index_version_at(const struct index *x, struct slice key, int64_t at, struct key_version *out);

/* Record a put: `v` is above every change so far and carries create revision and version as
 * computed by the caller. */
void index_put(struct index *x, struct slice key, const struct key_version *v);
/* Record a deletion of a live key. */
void index_tombstone(struct index *x, struct slice key, struct rev at);

/* Keys alive at `at` in [from, to); `to` with data NULL: to the end. */
int64_t index_count(const struct index *x, struct slice from, struct slice to, int64_t at);
/* All keys alive at INDEX_LATEST. */
int64_t index_live_keys(const struct index *x);

/* Walk keys alive at `at` in [from, to) in key order. The position is re-found by key, so a walk
 * may be paused (lock dropped) and resumed with index_cursor_resume after the index changed;
 * without changes that is free. */
struct index_cursor {
    const struct index *x;
    struct slice to; /* borrowed by the cursor's user; data NULL: no end */
    int64_t at;
    /* private */
    const void *leaf;
    uint32_t slot;
    bool started;         /* `key` was returned; else it is `from` */
    bool has_prefix;      /* `key` begins with the prefix of `leaf` */
    const void *end_leaf; /* where `to` begins; NULL: no end */
    uint32_t end_slot;
    uint64_t epoch;
    struct bytes key; /* current key, assembled */
};
void index_cursor_init(struct index_cursor *c, const struct index *x, struct slice from,
                       struct slice to, int64_t at);
void index_cursor_deinit(struct index_cursor *c);
/* The next live key; *key is valid until the next call on this cursor. false at the end. */
bool index_cursor_next(struct index_cursor *c, struct slice *key, struct key_version *v);
/* Continue behind the key last returned (or at `from` when none was). */
void index_cursor_resume(struct index_cursor *c);

/* Compaction of the index to C, in bounded steps by the writer. begin makes C known (C ascends; a
 * compaction under way starts again with the new C); each step looks at `n_max` keys, rounded up to
 * a whole leaf, and returns true when all is done. Steps and writes may alternate. */
void index_compact_begin(struct index *x, int64_t c);
bool index_compact_step(struct index *x, size_t n_max);

/* Bulk loading at start: changes of all keys in ascending revision order; between begin and end
 * nothing else is called. */
void index_restore_begin(struct index *x);
void index_restore_put(struct index *x, struct slice key, const struct key_version *v);
void index_restore_end(struct index *x);

struct index_stats {
    uint64_t keys; /* leaf entries, dead ones that are still held included */
    uint64_t live_keys;
    uint64_t old_versions; /* in the side table */
    uint64_t bytes;        /* allocated */
};
struct index_stats index_stats(const struct index *x);

/* Structure check for tests: order, counts, fill, side table; aborts through ASSERT. */
void index_check(const struct index *x);

#endif
