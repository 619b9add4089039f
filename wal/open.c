/* open.c - wal_open: find the segments, check them, replay them, settle the end.
 *
 * 1. Heads are read from the newest segment back to the one the log starts at. Nothing older
 *    counts.
 * 2. Segments are replayed oldest first; each head must continue the chain of the segment before
 *    it.
 * 3. Only when all of that is sound is anything written: the last batch once more, byte for byte,
 *    and synced (after a failed sync the kernel may hold it in memory, clean, and not on disk);
 *    then a mark, synced. The mark stands where a torn batch would begin, so that this one can
 *    never come back, and it records that all before it is durable.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "wal/replay.h"
#include "wal/wal_internal.h"

#define REWRITE_BYTES (256u * 1024u)

static enum err open_segment(struct wal *w, uint64_t sequence, struct vfs_file **out,
                             struct err_ctx *ec)
{
    char name[WAL_NAME_BYTES];
    wal_segment_name(sequence, name);
    char *path = wal_path(w->dir, name);
    enum err e = w->vfs->ops->open(w->vfs, path, 0, out, ec);
    free(path);
    return e;
}

/* Read and check the head of an open segment. */
static enum err read_head(struct vfs_file *f, uint64_t sequence, struct wal_segment_head *out,
                          struct err_ctx *ec)
{
    char name[WAL_NAME_BYTES];
    wal_segment_name(sequence, name);
    uint8_t page[WAL_SEGMENT_HEAD_BYTES];
    size_t n;
    enum err e = f->ops->pread(f, page, sizeof page, 0, &n, ec);
    if (e != OK) {
        return e;
    }
    if (n < sizeof page) {
        return err_set(ec, ERR_CORRUPT, "%s: byte 0: segment head: cut short", name);
    }
    bool unsupported;
    const char *reason = wal_segment_head_decode(page, out, &unsupported);
    if (reason != NULL) {
        return err_set(ec, unsupported ? ERR_UNSUPPORTED : ERR_CORRUPT, "%s: byte 0: %s", name,
                       reason);
    }
    if (out->sequence != sequence) {
        return err_set(ec, ERR_CORRUPT, "%s: byte 0: segment head: the file was segment %" PRIu64,
                       name, out->sequence);
    }
    return OK;
}

static enum err load_head(struct wal *w, uint64_t sequence, struct wal_segment_head *out,
                          struct err_ctx *ec)
{
    struct vfs_file *f;
    enum err e = open_segment(w, sequence, &f, ec);
    if (e != OK) {
        return e;
    }
    e = read_head(f, sequence, out, ec);
    f->ops->close(f);
    return e;
}

/* Read heads[i] for the segments from the last back to the first that counts. */
static enum err load_heads(struct wal *w, const struct wal_names *names,
                           struct wal_segment_head *heads, size_t *first, struct err_ctx *ec)
{
    for (size_t i = names->n_segments; i-- > 0;) {
        enum err e = load_head(w, names->segments[i], &heads[i], ec);
        if (e != OK) {
            return e;
        }
        const struct wal_segment_head *newest = &heads[names->n_segments - 1];
        if (heads[i].id.cluster_id != newest->id.cluster_id ||
            heads[i].id.member_id != newest->id.member_id) {
            return err_set(ec, ERR_FOREIGN,
                           "segment %" PRIu64 " is of member %016" PRIx64 " in cluster %016" PRIx64,
                           heads[i].sequence, heads[i].id.member_id, heads[i].id.cluster_id);
        }
        *first = i;
        if (heads[i].starts_over) {
            return OK;
        }
        if (i > 0 && names->segments[i - 1] != names->segments[i] - 1) {
            return err_set(ec, ERR_CORRUPT, "segment %" PRIu64 " is missing",
                           names->segments[i] - 1);
        }
    }
    return OK;
}

/* Does the segment continue where the replay is? */
static enum err check_continues(const struct wal_replay *r, const struct wal_segment_head *head,
                                struct err_ctx *ec)
{
    const char *reason = NULL;
    if (head->previous_chain != r->chain) {
        reason = "chain does not continue the segment before";
    } else if (head->first_index != r->last.index + 1 || head->last_term != r->last.term ||
               head->last_chain != r->last.chain) {
        reason = "last entry is not that of the segment before";
    }
    return reason == NULL ? OK
                          : err_set(ec, ERR_CORRUPT, "%016" PRIx64 ".seg: byte 0: segment head: %s",
                                    head->sequence, reason);
}

/* Replay segment i of the heads; the last one stays open as w->file. */
static enum err replay_one(struct wal *w, struct wal_replay *r,
                           const struct wal_segment_head *heads, size_t i, bool is_first,
                           bool is_last, struct err_ctx *ec)
{
    const struct wal_segment_head *head = &heads[i];
    if (is_first) {
        r->last = (struct wal_position){head->first_index - 1, head->last_term, head->last_chain};
    } else {
        enum err e = check_continues(r, head, ec);
        if (e != OK) {
            return e;
        }
    }
    r->chain = head->chain_start;
    struct vfs_file *f;
    enum err e = open_segment(w, head->sequence, &f, ec);
    if (e != OK) {
        return e;
    }
    char name[WAL_NAME_BYTES];
    wal_segment_name(head->sequence, name);
    struct wal_replay_segment_args args = {.file = f,
                                           .name = name,
                                           .head = head,
                                           .sealed_end = is_last ? 0 : heads[i + 1].previous_end};
    e = wal_replay_segment(r, &args, &w->offset, ec);
    if (e == OK && is_last) {
        w->file = f;
        w->chain_start = head->chain_start;
    } else {
        f->ops->close(f);
    }
    return e;
}

static enum err replay_all(struct wal *w, const struct wal_names *names, struct wal_replay *r,
                           struct err_ctx *ec)
{
    size_t n = names->n_segments;
    struct wal_segment_head *heads = xcalloc(n, sizeof *heads);
    size_t first = 0;
    enum err e = load_heads(w, names, heads, &first, ec);
    for (size_t i = first; i < n && e == OK; i++) {
        e = replay_one(w, r, heads, i, i == first, i == n - 1, ec);
    }
    if (e == OK) {
        for (size_t i = 0; i < n; i++) {
            wal_segments_add(w, (struct wal_segment){names->segments[i], heads[i].first_index});
        }
        w->n_void = first;
        w->id = heads[n - 1].id;
        w->chain = r->chain;
        w->last = r->last;
        w->hard_state = r->hard_state;
        w->has_hard_state = r->has_hard_state;
        w->filled = wal_page_align(w->offset);
    }
    free(heads);
    return e;
}

/* Write the bytes from `from` to the end of the log once more, unchanged. */
static enum err rewrite(struct wal *w, uint64_t from, struct err_ctx *ec)
{
    uint8_t *data = xalloc(REWRITE_BYTES);
    enum err e = OK;
    while (from < w->offset && e == OK) {
        size_t want = w->offset - from < REWRITE_BYTES ? (size_t)(w->offset - from) : REWRITE_BYTES;
        size_t n;
        e = w->file->ops->pread(w->file, data, want, from, &n, ec);
        if (e == OK && n < want) {
            e = err_set(ec, ERR_IO, "the last segment shrank while it was read");
        }
        if (e == OK) {
            struct iovec iov = {data, n};
            e = w->file->ops->pwritev(w->file, &iov, 1, from, ec);
        }
        from += want;
    }
    free(data);
    return e;
}

/* Make what was replayed durable, and end it with a mark. */
static enum err settle(struct wal *w, const struct wal_replay *r, struct err_ctx *ec)
{
    enum err e = r->last_batch == 0 ? OK : rewrite(w, r->last_batch, ec);
    if (e == OK) {
        e = w->file->ops->sync(w->file, ec);
    }
    if (e == OK) { /* the segment's name, too, may only be in memory */
        e = w->vfs->ops->sync_dir(w->vfs, w->dir, ec);
    }
    if (e != OK) {
        return e;
    }
    w->durable = w->offset;
    return wal_write_mark(w, !r->ends_in_mark, ec);
}

static enum err open_log(struct wal *w, const struct wal_visitor *visit, struct err_ctx *ec)
{
    struct wal_names names;
    enum err e = wal_names_read(w->vfs, w->dir, &names, ec);
    if (e != OK) {
        return e;
    }
    struct wal_replay r = {.visit = visit};
    if (names.has_etcd) {
        e = err_set(ec, ERR_FOREIGN, "the folder holds a log of etcd");
    } else if (names.n_segments == 0) {
        e = err_set(ec, ERR_NOT_FOUND, "no segment found");
    } else {
        e = replay_all(w, &names, &r, ec);
    }
    if (e == OK) {
        e = wal_clean(w, &names, ec);
    }
    if (e == OK) {
        e = settle(w, &r, ec);
    }
    wal_names_deinit(&names);
    return e;
}

/* Without a log there is nothing to lock, and a LOCK file should not appear. */
static enum err require_log(const struct wal_config *cfg, struct err_ctx *ec)
{
    bool exists = false;
    enum err e = wal_exists(cfg->vfs, cfg->dir, &exists, ec);
    if (e == OK && !exists) {
        e = err_set(ec, ERR_NOT_FOUND, "no segment found");
    }
    return e;
}

enum err wal_open(const struct wal_config *cfg, const struct wal_visitor *visit, struct wal **out,
                  struct wal_identity *id, struct err_ctx *ec)
{
    struct wal *w = wal_alloc(cfg);
    enum err e = require_log(cfg, ec);
    if (e == OK) {
        e = wal_lock(w, ec);
    }
    if (e == OK) {
        e = open_log(w, visit, ec);
    }
    if (e != OK) {
        wal_free(&w);
        return err_wrap(ec, e, "open log in %s", cfg->dir);
    }
    *out = w;
    if (id != NULL) {
        *id = w->id;
    }
    return OK;
}

static enum err stop_at_entry(void *arg, const struct wal_entry *e, uint64_t chain)
{
    (void)e;
    (void)chain;
    *(bool *)arg = true;
    return ERR_END;
}

/* A log in its first segment: read until the first entry, or to the end. */
static enum err look_for_entry(struct vfs_file *f, const struct wal_segment_head *head, bool *found,
                               struct err_ctx *ec)
{
    char name[WAL_NAME_BYTES];
    wal_segment_name(head->sequence, name);
    struct wal_visitor visit = {.entry = stop_at_entry, .arg = found};
    struct wal_replay r = {.visit = &visit, .chain = head->chain_start};
    r.last = (struct wal_position){head->first_index - 1, head->last_term, head->last_chain};
    struct wal_replay_segment_args args = {.file = f, .name = name, .head = head};
    uint64_t end = 0;
    enum err e = wal_replay_segment(&r, &args, &end, ec);
    return *found ? OK : e;
}

enum err wal_identity_of(struct vfs *vfs, const char *dir, struct wal_identity *id,
                         bool *has_entries, struct err_ctx *ec)
{
    struct wal_names names;
    enum err e = wal_names_read(vfs, dir, &names, ec);
    if (e != OK) {
        return err_wrap(ec, e, "look at log in %s", dir);
    }
    struct vfs_file *f = NULL;
    if (names.n_segments == 0) {
        e = err_set(ec, ERR_NOT_FOUND, "no segment found");
    } else {
        char name[WAL_NAME_BYTES];
        wal_segment_name(names.segments[names.n_segments - 1], name);
        char *path = wal_path(dir, name);
        e = vfs->ops->open(vfs, path, VFS_READ, &f, ec);
        free(path);
    }
    struct wal_segment_head head;
    if (e == OK) {
        e = read_head(f, names.segments[names.n_segments - 1], &head, ec);
    }
    bool found = e == OK && (names.n_segments > 1 || head.first_index > 1);
    if (e == OK && !found) {
        e = look_for_entry(f, &head, &found, ec);
    }
    if (f != NULL) {
        f->ops->close(f);
    }
    wal_names_deinit(&names);
    if (e != OK) {
        return err_wrap(ec, e, "look at log in %s", dir);
    }
    *id = head.id;
    *has_entries = found;
    return OK;
}
