/* replay.h - reading segments back, and telling a torn tail from corruption.
 *
 * What        wal_replay_segment walks one segment batch by batch, checks everything and hands
 *             entries and hard states to a visitor. A batch is visited only after all of it
 *             verified. In a sealed segment (the next one's head says where it ends) any damage is
 *             corruption. In the last one, damage is a torn tail unless some later batch head of
 *             the same segment says that the damaged place was durable when it was written.
 * Callers     wal_open.
 * Thread      the caller's.
 * Invariants  Nothing is written.
 */
#ifndef WAL_REPLAY_H
#define WAL_REPLAY_H

#include "wal/format.h"

/* What has been learned so far, carried from segment to segment. */
struct wal_replay {
    const struct wal_visitor *visit; /* may be NULL: verify only */
    uint64_t chain;                  /* after the last record read */
    struct wal_position last;        /* the last entry */
    struct wal_hard_state hard_state;
    bool has_hard_state;
    uint64_t last_batch; /* offset of the last sound batch in the segment read last; 0: none */
    bool ends_in_mark;   /* that batch holds no record */
};

struct wal_replay_segment_args {
    struct vfs_file *file;
    const char *name; /* for messages */
    const struct wal_segment_head *head;
    uint64_t
        sealed_end; /* where the next segment's head says that this one ends; 0: this is the last */
};

/* On OK *end is where the sound records end. ERR_CORRUPT with name, offset and reason; ERR_IO;
 * what the visitor returns. */
MUST_CHECK enum err wal_replay_segment(struct wal_replay *r,
                                       const struct wal_replay_segment_args *args, uint64_t *end,
                                       struct err_ctx *ec);

#endif
