/* wal.h - the durable record of what raft was told and what it decided.
 *
 * What        A directory of numbered, checksummed segment files holding entries and hard states.
 *             One call to wal_append writes everything that has gathered as one batch and makes it durable
 *             with one fdatasync. Segments are recycled: a released one is renamed and overwritten, so
 *             that a sync seldom has to allocate disk blocks.
 * Callers     wal/writer.h (the log thread) appends; raft/member opens and replays; pintleutl reads.
 * Thread      one at a time; there are no locks inside. In the server: opened by the main thread, then
 *             owned by the log thread.
 * Invariants  Entry indexes are contiguous; an entry whose index is not above the last one replaces it and
 *             all that followed (raft overwrote an uncommitted suffix). Bytes before the durable watermark never change.
 *             After one failed write or sync every call returns ERR_IO until reopened.
 * Format      byte by byte in docs/wal-format.md.
 */
#ifndef WAL_WAL_H
#define WAL_WAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/vfs.h"

#define WAL_SEGMENT_BYTES_DEFAULT (64u * 1000u * 1000u) /* etcd's segment size */
#define WAL_SEGMENT_BYTES_MIN (64u * 1024u)             /* small segments are for tests */
#define WAL_RECORD_BYTES_MAX (64u * 1024u * 1024u)      /* a larger length on disk is corruption */

struct wal; /* opaque */

struct wal_identity {
    uint64_t cluster_id;
    uint64_t member_id;
};

struct wal_config {
    struct vfs *vfs; /* borrowed until wal_close */
    const char *dir; /* copied */
    uint64_t segment_bytes;
    bool no_sync; /* --unsafe-no-fsync */
};

struct wal_entry {
    uint64_t index;
    uint64_t term;
    uint32_t type;    /* raftpb.EntryType: 0 normal, 1 conf change, 2 conf change v2 */
    struct buf *data; /* may be NULL: empty */
};

struct wal_hard_state {
    uint64_t term;
    uint64_t vote;
    uint64_t commit;
};

/* What one fsync covers: first the hard state (when has_hard_state), then the entries. */
struct wal_batch {
    bool has_hard_state;
    struct wal_hard_state hard_state;
    const struct wal_entry *entries; /* borrowed for the call */
    size_t n_entries;
};

/* Position and chain hash of an entry: what the store keeps as a witness of the log. */
struct wal_position {
    uint64_t index;
    uint64_t term;
    uint64_t chain; /* hash chained over every record of the log up to this entry */
};

/* Called for each thing replayed, in log order. An entry may replace earlier ones (see Invariants).
 * `e->data` is the callee's to ref. `chain` is the chain hash after this entry. */
struct wal_visitor {
    enum err (*entry)(void *arg, const struct wal_entry *e, uint64_t chain);
    enum err (*hard_state)(void *arg, const struct wal_hard_state *hs);
    void *arg;
};

/* Does `dir` hold a log (any segment file)? ERR_FOREIGN when it holds etcd's own .wal files. */
MUST_CHECK enum err wal_exists(struct vfs *vfs, const char *dir, bool *out, struct err_ctx *ec);

/* Make a new, empty log in `dir` (created when absent; ERR_EXISTS when it holds one), whose first entry will
 * have index `first_index`. Durable on return. A segment that was only half made before a crash is
 * cleaned away by wal_create and wal_open. */
MUST_CHECK enum err wal_create(const struct wal_config *cfg, struct wal_identity id, uint64_t first_index,
                               struct wal **out, struct err_ctx *ec);

/* Open the log, lock it against other processes and replay all of it. A torn tail (damage in the last batch,
 * at or behind the durable watermark) is cut off and is no error: the crash came before its sync.
 * Errors: ERR_LOCKED; ERR_FOREIGN, another cluster's or member's segment; ERR_CORRUPT, damage before the
 * watermark, a missing segment or a broken chain, with file, offset and reason; ERR_IO; what a visitor returns. */
MUST_CHECK enum err wal_open(const struct wal_config *cfg, const struct wal_visitor *visit, struct wal **out,
                             struct wal_identity *id, struct err_ctx *ec);

void wal_close(struct wal **w);

/* Write the batch and make it durable. On OK *last (may be NULL) is the position of the last entry in the log.
 * Errors: ERR_IO, ERR_NO_DISK: nothing of the batch counts as written and the log refuses all further work. */
MUST_CHECK enum err wal_append(struct wal *w, const struct wal_batch *batch, struct wal_position *last,
                               struct err_ctx *ec);

/* Entries up to and including `index` are not needed any more: whole segments that hold nothing younger are recycled or
 * removed. A later wal_open replays from somewhere at or before index + 1. */
MUST_CHECK enum err wal_release(struct wal *w, uint64_t index, struct err_ctx *ec);

/* Prepare the next segment now if none is ready (the log thread calls it when idle), so that rolling over does not
 * wait for zeroes to be written. */
MUST_CHECK enum err wal_prepare(struct wal *w, struct err_ctx *ec);

struct wal_stats {
    uint64_t first_index; /* of the oldest segment kept */
    uint64_t last_index;
    uint64_t n_segments;
    uint64_t synced_batches;
    uint64_t written_bytes;
};
struct wal_stats wal_stats(const struct wal *w);

#endif
