/* wal.h - the durable record of what raft was told and what it decided.
 *
 * What        A directory of numbered, checksummed segment files holding entries and hard states.
 *             One call to wal_append writes everything that has gathered as one batch and makes it
 *             durable with one fdatasync. Segments are recycled: a released one is renamed and
 *             overwritten, so that a sync seldom has to allocate disk blocks.
 * Callers     wal/writer.h (the log thread) appends; raft/member opens and replays; pintleutl
 *             reads.
 * Thread      one at a time; there are no locks inside. In the server: opened by the main thread,
 *             then owned by the log thread.
 * Invariants  Entry indexes are contiguous; an entry whose index is not above the last one replaces
 *             it and all that followed (raft overwrote an uncommitted suffix). Bytes before the
 *             durable watermark never change. After one failed write or sync every call returns
 *             ERR_IO until reopened.
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
/* A larger length on disk is corruption. More than what a message between members or a request may have (512 MiB each): an entry that is refused
 * here ends the log. */
#define WAL_RECORD_BYTES_MAX (513u * 1024u * 1024u)

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

/* Position and chain hash of an entry: what the store keeps as a witness of the log. */
struct wal_position {
    uint64_t index;
    uint64_t term;
    uint64_t chain; /* hash chained over every record of the log up to this entry */
};

/* What one fsync covers: first the hard state (when has_hard_state), then the entries. Within a
 * batch, too, an entry may step back and replace what came before it. After a crash all of a
 * batch is there, or nothing; of one with restart_at there may also be the restart and the hard
 * state alone. */
struct wal_batch {
    bool has_hard_state;
    struct wal_hard_state hard_state;
    /* Not 0: forget every entry; the next one has this index. For a snapshot that came from the
     * leader and is already durable in the store: the old log need not reach it. The hard state
     * is kept. */
    uint64_t restart_at;
    const struct wal_entry *entries; /* borrowed for the call */
    size_t n_entries;
    struct wal_position *positions; /* NULL, or room for n_entries, filled in on OK */
};

/* Called for each thing replayed, in log order. An entry may replace earlier ones (see
 * Invariants), also ones that were in segments released since: such a replay begins with entries
 * below wal_stats' first_index. `e->data` is the callee's to ref. `chain` is the chain hash
 * after this entry. Either function may be NULL. */
struct wal_visitor {
    enum err (*entry)(void *arg, const struct wal_entry *e, uint64_t chain);
    enum err (*hard_state)(void *arg, const struct wal_hard_state *hs);
    void *arg;
};

/* Does `dir` hold a log (any segment file)? ERR_FOREIGN when it holds etcd's own .wal files. */
MUST_CHECK enum err wal_exists(struct vfs *vfs, const char *dir, bool *out, struct err_ctx *ec);

/* Whose log lies in `dir`, and whether it holds (or held) any entry, without replaying it: the newest segment's head, and of a log
 * that never got past its first segment, as much as it takes to find one. For whoever has to know the ids before the log is opened;
 * what is read here is checked again by wal_open. Errors: ERR_NOT_FOUND, no log here; ERR_UNSUPPORTED, ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum err wal_identity_of(struct vfs *vfs, const char *dir, struct wal_identity *id,
                                    bool *has_entries, struct err_ctx *ec);

/* Make a new, empty log in `dir` (created when absent; ERR_EXISTS when it holds one), whose
 * first entry will have index `first_index`. Durable on return. A segment that was only half
 * made before a crash is cleaned away by wal_create and wal_open. */
MUST_CHECK enum err wal_create(const struct wal_config *cfg, struct wal_identity id,
                               uint64_t first_index, struct wal **out, struct err_ctx *ec);

/* Open the log, lock it against other processes and replay all of it. A torn tail (damage in the
 * last batch, at or behind the durable watermark) is cut off and is no error: the crash came
 * before its sync. What was replayed is durable on return. `visit` may be NULL: verify only.
 * After an error what was visited is void, and no file has been changed unless the error is
 * ERR_IO or ERR_NO_DISK.
 * Errors: ERR_NOT_FOUND, no log here; ERR_LOCKED; ERR_UNSUPPORTED, a newer format; ERR_FOREIGN,
 * another cluster's or member's segment; ERR_CORRUPT, damage before the watermark, a missing
 * segment or a broken chain, with file, offset and reason; ERR_IO; what a visitor returns. */
MUST_CHECK enum err wal_open(const struct wal_config *cfg, const struct wal_visitor *visit,
                             struct wal **out, struct wal_identity *id, struct err_ctx *ec);

void wal_close(struct wal **w);

/* Write the batch and make it durable. On OK *last (may be NULL) is the position of the last
 * entry in the log.
 * Errors: ERR_LIMIT, an entry over WAL_RECORD_BYTES_MAX (nothing was done, the log is as
 * before); ERR_IO, ERR_NO_DISK: nothing of the batch counts as written and the log refuses all
 * further work (yet after wal_open the batch may be there: it was not acknowledged, and not
 * denied). */
MUST_CHECK enum err wal_append(struct wal *w, const struct wal_batch *batch,
                               struct wal_position *last, struct err_ctx *ec);

/* Entries up to and including `index` are not needed any more: whole segments that hold nothing
 * younger are recycled or removed, a few now and the rest in wal_prepare. A later wal_open
 * replays from somewhere at or before index + 1. */
MUST_CHECK enum err wal_release(struct wal *w, uint64_t index, struct err_ctx *ec);

/* One bounded step of work that makes later syncs cheaper: zeroes ahead of the end, the next
 * segment, releases that are due. The log thread calls it when idle, as long as
 * wal_prepare_wanted. ERR_NO_DISK from here leaves the log as it was; nothing further is wanted
 * until the next append. */
MUST_CHECK enum err wal_prepare(struct wal *w, struct err_ctx *ec);
bool wal_prepare_wanted(const struct wal *w);

/* The last entry in the log: index first_index - 1 and term 0 while there is none. */
struct wal_position wal_last(const struct wal *w);

struct wal_stats {
    uint64_t first_index; /* of the oldest segment kept */
    uint64_t last_index;
    uint64_t n_segments;
    uint64_t synced_batches;
    uint64_t written_bytes;
    uint64_t last_sync_ns; /* how long the last batch's sync took; 0 with no_sync */
};
struct wal_stats wal_stats(const struct wal *w);

#endif
