/* dir.h - the names in a log's directory.
 *
 * What        LOCK; SEQUENCE.seg, the segments; SEQUENCE.spare, released segments waiting to be
 *             written again; next.tmp, a segment in the making. SEQUENCE is 16 lower-case hex
 *             digits.
 * Callers     wal/wal.c, wal/open.c.
 * Thread      the caller's.
 */
#ifndef WAL_DIR_H
#define WAL_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vfs.h"

#define WAL_SEGMENTS_MAX 65536u /* in one directory; more: ERR_LIMIT */
#define WAL_NAME_BYTES 32u      /* room for the longest name */
#define WAL_LOCK_NAME "LOCK"
#define WAL_NEXT_NAME "next.tmp"

struct wal_names {
    uint64_t *segments; /* owned; ascending */
    size_t n_segments;
    uint64_t *spares; /* owned; ascending */
    size_t n_spares;
    bool has_next;
    bool has_etcd; /* a file named like one of etcd's log segments */
    bool too_many;
};

/* ERR_LIMIT, ERR_NOT_FOUND, ERR_IO. *out is to be given to wal_names_deinit only on OK. */
MUST_CHECK enum err wal_names_read(struct vfs *vfs, const char *dir, struct wal_names *out,
                                   struct err_ctx *ec);
void wal_names_deinit(struct wal_names *n);

void wal_segment_name(uint64_t sequence, char out[WAL_NAME_BYTES]);
void wal_spare_name(uint64_t sequence, char out[WAL_NAME_BYTES]);
char *wal_path(const char *dir, const char *name); /* dir/name; the caller frees */
char *wal_parent(const char *dir); /* the folder that holds `dir`; the caller frees */

#endif
