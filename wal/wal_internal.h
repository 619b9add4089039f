/* wal_internal.h - the open log, shared by wal.c (appending), segments.c (files coming and going)
 * and open.c.
 *
 * What        struct wal and the functions that the three files lend each other.
 * Callers     those files only.
 * Thread      the log's owner.
 * Invariants  segments[n_segments - 1] is the one being written, open as `file`. Every byte below
 *             `durable` of it, and all of the earlier ones, are on stable storage. broken: nothing
 *             is written any more.
 */
#ifndef WAL_INTERNAL_H
#define WAL_INTERNAL_H

#include <sys/uio.h>

#include "base/vfs.h"
#include "wal/dir.h"
#include "wal/format.h"

#define WAL_SPARES_MAX 2u                         /* released segments kept for writing again */
#define WAL_FILL_STEP_BYTES (256u * 1024u)        /* zeroes written and synced by one wal_prepare */
#define WAL_FILL_AHEAD_BYTES (4u * 1024u * 1024u) /* zeroes kept ready before the end of the log */
#define WAL_PAGE_BYTES 4096u     /* what a disk may lose at once, and what is filled ahead */
#define WAL_RELEASES_PER_CALL 4u /* each takes a rename or unlink and a sync of the folder */

struct wal_segment {
    uint64_t sequence;
    uint64_t first_index;
};

struct wal {
    struct vfs *vfs;
    char *dir; /* owned */
    uint64_t segment_bytes;
    bool no_sync;
    struct wal_identity id;
    struct vfs_file *lock; /* owned; held as long as the log is open */

    struct wal_segment *segments; /* owned; oldest first */
    size_t n_segments;
    size_t cap_segments;
    size_t n_void;     /* the oldest n hold nothing of this log any more (restart_at) */
    uint64_t released; /* the greatest index given to wal_release */

    struct vfs_file *file; /* owned */
    uint64_t chain_start;  /* of the segment being written */
    uint64_t offset;       /* where the next batch goes */
    uint64_t durable;
    uint64_t filled; /* the file's blocks are written up to here */
    uint64_t marked; /* `offset` after the last mark; the log ends in one when they are equal */

    uint64_t chain;
    struct wal_position last;
    struct wal_hard_state hard_state;
    bool has_hard_state;

    struct vfs_file *next; /* owned; the segment that comes after this one, or NULL */
    char *next_path;       /* owned */
    uint64_t next_filled;
    bool prepare_refused; /* no room at the last wal_prepare; cleared by an append */
    uint64_t spares[WAL_SPARES_MAX];
    size_t n_spares;

    bool broken;
    struct bytes stage; /* heads and small payloads of the batch being written */
    struct iovec *iov;  /* owned */
    size_t cap_iov;
    uint64_t synced_batches;
    uint64_t written_bytes;
    uint64_t last_sync_ns;
};

static inline uint64_t wal_page_align(uint64_t n)
{
    return (n + (WAL_PAGE_BYTES - 1)) & ~(uint64_t)(WAL_PAGE_BYTES - 1);
}

/* segments.c */

/* A closed log with its configuration; the folder is locked by wal_lock. */
struct wal *wal_alloc(const struct wal_config *cfg);
MUST_CHECK enum err wal_lock(struct wal *w, struct err_ctx *ec);
void wal_free(struct wal **w);

void wal_segments_add(struct wal *w, struct wal_segment s);

/* Begin segment `sequence`, whose first entry has `first_index`, and make it the current one.
 * Durable on return. */
MUST_CHECK enum err wal_begin_segment(struct wal *w, uint64_t sequence, uint64_t first_index,
                                      bool starts_over, struct err_ctx *ec);

/* Remove or recycle the oldest segment. */
MUST_CHECK enum err wal_drop_oldest(struct wal *w, struct err_ctx *ec);
bool wal_can_drop(const struct wal *w);

/* Delete a segment in the making and spares of no use, which a crash or another configuration
 * left. */
MUST_CHECK enum err wal_clean(struct wal *w, const struct wal_names *names, struct err_ctx *ec);

/* wal.c */

/* Write and sync a mark, a batch without content: it says that all before it is durable. With
 * `apart` a second one follows in the next page, so that no single lost page takes the last
 * entries and every mark away. The log is durable already. */
MUST_CHECK enum err wal_write_mark(struct wal *w, bool apart, struct err_ctx *ec);

#endif
