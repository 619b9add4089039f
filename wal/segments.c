/* segments.c - segment files coming and going.
 *
 * A segment gets its name only when its head is on stable storage, so a file named like a segment
 * always has a sound head, and a crash while one is made leaves a next.tmp or a spare that nobody
 * reads. Every change of a name is followed by a sync of the folder before anything builds on it;
 * segments go oldest first, one sync each, so a crash cannot leave a hole in the middle. A recycled
 * file still holds the records of its former life. They carry the identity of the former segment
 * (its sequence number and chain start) and never verify in the new one.
 */
#include "wal/wal_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define FILL_STEP_PAGES (WAL_FILL_STEP_BYTES / WAL_PAGE_BYTES)
static const uint8_t zero_page[WAL_PAGE_BYTES];

struct wal *wal_alloc(const struct wal_config *cfg)
{
    ASSERT(cfg->segment_bytes >= WAL_SEGMENT_BYTES_MIN);
    struct wal *w = xcalloc(1, sizeof *w);
    w->vfs = cfg->vfs;
    w->dir = xstrdup(cfg->dir);
    w->segment_bytes = cfg->segment_bytes;
    w->no_sync = cfg->no_sync;
    return w;
}

enum err wal_lock(struct wal *w, struct err_ctx *ec)
{
    char *path = wal_path(w->dir, WAL_LOCK_NAME);
    enum err e = w->vfs->ops->open(w->vfs, path, VFS_CREATE, &w->lock, ec);
    if (e == OK) {
        e = w->lock->ops->lock(w->lock, ec);
    }
    free(path);
    return e;
}

static void close_file(struct vfs_file **f)
{
    if (*f != NULL) {
        (*f)->ops->close(*f);
        *f = NULL;
    }
}

void wal_free(struct wal **w)
{
    if (*w == NULL) {
        return;
    }
    close_file(&(*w)->file);
    close_file(&(*w)->next);
    close_file(&(*w)->lock);
    free((*w)->next_path);
    free((*w)->segments);
    free((*w)->iov);
    free((*w)->dir);
    bytes_deinit(&(*w)->stage);
    free(*w);
    *w = NULL;
}

void wal_segments_add(struct wal *w, struct wal_segment s)
{
    if (w->n_segments == w->cap_segments) {
        w->cap_segments = w->cap_segments == 0 ? 8 : w->cap_segments * 2;
        w->segments = xrealloc(w->segments, w->cap_segments * sizeof *w->segments);
    }
    w->segments[w->n_segments++] = s;
}

/* Open the newest spare as the next segment. */
static enum err take_spare(struct wal *w, struct err_ctx *ec)
{
    char name[WAL_NAME_BYTES];
    wal_spare_name(w->spares[w->n_spares - 1], name);
    char *path = wal_path(w->dir, name);
    enum err e = w->vfs->ops->open(w->vfs, path, 0, &w->next, ec);
    if (e != OK) {
        free(path);
        return e;
    }
    w->n_spares--;
    w->next_path = path;
    w->next_filled = w->segment_bytes;
    return OK;
}

/* Have a file for the segment after this one. */
static enum err make_next(struct wal *w, struct err_ctx *ec)
{
    if (w->next != NULL) {
        return OK;
    }
    if (w->n_spares > 0) {
        return take_spare(w, ec);
    }
    char *path = wal_path(w->dir, WAL_NEXT_NAME);
    struct vfs_file *f = NULL;
    enum err e = w->vfs->ops->open(w->vfs, path, VFS_CREATE | VFS_EXCL, &f, ec);
    if (e != OK) {
        free(path);
        return e;
    }
    e = f->ops->allocate(f, w->segment_bytes, ec);
    if (e != OK) {
        close_file(&f);
        (void)w->vfs->ops->unlink(w->vfs, path, NULL); /* wal_open deletes what stays */
        free(path);
        return e;
    }
    w->next = f;
    w->next_path = path;
    w->next_filled = WAL_SEGMENT_HEAD_BYTES;
    return OK;
}

/* Write the head into the prepared file, then give the file its name. */
static enum err name_segment(struct wal *w, const struct wal_segment_head *head, struct err_ctx *ec)
{
    uint8_t page[WAL_SEGMENT_HEAD_BYTES];
    wal_segment_head_encode(head, page);
    struct iovec iov = {page, sizeof page};
    enum err e = w->next->ops->pwritev(w->next, &iov, 1, 0, ec);
    if (e == OK) {
        e = w->next->ops->sync(w->next, ec);
    }
    if (e != OK) {
        return e;
    }
    char name[WAL_NAME_BYTES];
    wal_segment_name(head->sequence, name);
    char *path = wal_path(w->dir, name);
    e = w->vfs->ops->rename(w->vfs, w->next_path, path, ec);
    if (e == OK) {
        e = w->vfs->ops->sync_dir(w->vfs, w->dir, ec);
    }
    free(path);
    return e;
}

enum err wal_begin_segment(struct wal *w, uint64_t sequence, uint64_t first_index, bool starts_over,
                           struct err_ctx *ec)
{
    enum err e = OK;
    if (w->file != NULL &&
        w->durable < w->offset) { /* no_sync: a new head still vouches for what is before it */
        e = w->file->ops->datasync(w->file, ec);
    }
    if (e == OK) {
        e = make_next(w, ec);
    }
    if (e != OK) {
        return e;
    }
    struct wal_segment_head head = {
        .sequence = sequence,
        .id = w->id,
        .first_index = first_index,
        .previous_end = starts_over ? 0 : w->offset,
        .previous_chain = w->chain,
        .last_term = starts_over ? 0 : w->last.term,
        .last_chain = starts_over ? 0 : w->last.chain,
        .hard_state = w->hard_state,
        .has_hard_state = w->has_hard_state,
        .starts_over = starts_over,
    };
    head.chain_start = wal_segment_chain(&head);
    e = name_segment(w, &head, ec);
    if (e != OK) {
        return e;
    }
    close_file(&w->file);
    w->file = w->next;
    w->next = NULL;
    free(w->next_path);
    w->next_path = NULL;
    w->filled = w->next_filled;
    w->offset = WAL_SEGMENT_HEAD_BYTES;
    w->durable = WAL_SEGMENT_HEAD_BYTES;
    w->marked = WAL_SEGMENT_HEAD_BYTES; /* the head says so */
    w->chain = head.chain_start;
    w->chain_start = head.chain_start;
    w->last = (struct wal_position){first_index - 1, head.last_term, head.last_chain};
    if (starts_over) {
        w->n_void = w->n_segments;
    }
    wal_segments_add(w, (struct wal_segment){sequence, first_index});
    return OK;
}

bool wal_can_drop(const struct wal *w)
{
    return w->n_void > 0 || (w->n_segments > 1 && w->segments[1].first_index - 1 <= w->released);
}

/* Is the file fit to be written again as a segment? */
static enum err is_recyclable(struct wal *w, const char *path, bool *out, struct err_ctx *ec)
{
    struct vfs_stat st;
    *out = false;
    if (w->n_spares == WAL_SPARES_MAX) {
        return OK;
    }
    enum err e = w->vfs->ops->stat(w->vfs, path, &st, ec);
    if (e == OK) {
        *out = st.size == w->segment_bytes;
    }
    return e;
}

enum err wal_drop_oldest(struct wal *w, struct err_ctx *ec)
{
    ASSERT(w->n_segments > 1);
    uint64_t sequence = w->segments[0].sequence;
    char name[WAL_NAME_BYTES];
    wal_segment_name(sequence, name);
    char *from = wal_path(w->dir, name);
    wal_spare_name(sequence, name);
    char *to = wal_path(w->dir, name);
    bool recycle;
    enum err e = is_recyclable(w, from, &recycle, ec);
    if (e == OK) {
        e = recycle ? w->vfs->ops->rename(w->vfs, from, to, ec)
                    : w->vfs->ops->unlink(w->vfs, from, ec);
    }
    if (e == OK) {
        e = w->vfs->ops->sync_dir(w->vfs, w->dir, ec);
    }
    free(from);
    free(to);
    if (e != OK) {
        return e;
    }
    if (recycle) {
        w->spares[w->n_spares++] = sequence;
    }
    w->n_segments--;
    memmove(w->segments, w->segments + 1, w->n_segments * sizeof *w->segments);
    w->n_void -= w->n_void > 0 ? 1 : 0;
    return OK;
}

enum err wal_clean(struct wal *w, const struct wal_names *names, struct err_ctx *ec)
{
    enum err e = OK;
    if (names->has_next) {
        char *path = wal_path(w->dir, WAL_NEXT_NAME);
        e = w->vfs->ops->unlink(w->vfs, path, ec);
        free(path);
    }
    for (size_t i = 0; i < names->n_spares && e == OK; i++) {
        char name[WAL_NAME_BYTES];
        wal_spare_name(names->spares[i], name);
        char *path = wal_path(w->dir, name);
        bool recycle;
        e = is_recyclable(w, path, &recycle, ec);
        if (e == OK && recycle) {
            w->spares[w->n_spares++] = names->spares[i];
        } else if (e == OK) {
            e = w->vfs->ops->unlink(w->vfs, path, ec);
        }
        free(path);
    }
    return e;
}

/* ---- zeroes ahead ---- */

/* Where zeroes are wanted up to, in a file whose records end at `offset`. */
static uint64_t fill_target(const struct wal *w, uint64_t offset)
{
    uint64_t ahead = offset + WAL_FILL_AHEAD_BYTES;
    return ahead < w->segment_bytes ? ahead : w->segment_bytes;
}

/* Is a whole step, or the last piece of the file, missing? */
static bool fill_wanted(const struct wal *w, uint64_t filled, uint64_t offset)
{
    uint64_t target = fill_target(w, offset);
    return filled < target &&
           (target - filled >= WAL_FILL_STEP_BYTES || target == w->segment_bytes);
}

static enum err fill_step(struct wal *w, struct vfs_file *f, uint64_t *filled, uint64_t offset,
                          struct err_ctx *ec)
{
    uint64_t left = fill_target(w, offset) - *filled;
    struct iovec iov[FILL_STEP_PAGES];
    uint64_t bytes = 0;
    int n = 0;
    while (n < (int)FILL_STEP_PAGES && bytes < left) {
        size_t len = left - bytes < WAL_PAGE_BYTES ? (size_t)(left - bytes) : WAL_PAGE_BYTES;
        iov[n++] = (struct iovec){(void *)(uintptr_t)zero_page, len};
        bytes += len;
    }
    enum err e = f->ops->pwritev(f, iov, n, *filled, ec);
    if (e == ERR_NO_DISK) {
        w->prepare_refused = true;
    }
    if (e == OK && !w->no_sync) {
        e = f->ops->datasync(f, ec); /* now, so that no batch's sync has to wait for it */
    }
    if (e == OK) {
        *filled += bytes;
    }
    return e;
}

/* The next segment is made when half of this one is used. */
static bool next_wanted(const struct wal *w)
{
    return w->next == NULL && w->offset > w->segment_bytes / 2;
}

bool wal_prepare_wanted(const struct wal *w)
{
    if (w->broken || w->prepare_refused) {
        return false;
    }
    return wal_can_drop(w) || fill_wanted(w, w->filled, w->offset) || next_wanted(w) ||
           (w->next != NULL && fill_wanted(w, w->next_filled, WAL_SEGMENT_HEAD_BYTES));
}

enum err wal_prepare(struct wal *w, struct err_ctx *ec)
{
    if (w->broken) {
        return err_set(ec, ERR_IO, "log in %s: failed before and must be reopened", w->dir);
    }
    enum err e = OK;
    if (wal_can_drop(w)) {
        e = wal_drop_oldest(w, ec);
    } else if (fill_wanted(w, w->filled, w->offset)) {
        e = fill_step(w, w->file, &w->filled, w->offset, ec);
    } else if (next_wanted(w)) {
        e = make_next(w, ec);
        w->prepare_refused = e == ERR_NO_DISK;
    } else if (w->next != NULL && fill_wanted(w, w->next_filled, WAL_SEGMENT_HEAD_BYTES)) {
        e = fill_step(w, w->next, &w->next_filled, WAL_SEGMENT_HEAD_BYTES, ec);
    }
    if (e != OK && !w->prepare_refused) {
        w->broken = true;
        e = ERR_IO; /* ERR_NO_DISK would say that the log goes on */
    }
    return err_wrap(ec, e, "prepare log in %s", w->dir);
}
