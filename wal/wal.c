/* wal.c - appending: one batch, one write, one sync.
 *
 * A batch is a head, an optional hard state and entries, each a 40-byte record head followed by its
 * payload and zeroes up to 8 bytes (docs/wal-format.md). Heads and payloads up to COPY_MAX are laid
 * out in one staging buffer; larger payloads are written from where they are.
 */
#include "wal/wal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "wal/wal_internal.h"

#define COPY_MAX 2048u                   /* larger payloads are not copied */
#define STAGE_KEPT_BYTES (1024u * 1024u) /* a larger staging buffer is given back after its batch */

static const uint8_t zero_page[WAL_PAGE_BYTES];

static enum err is_broken(const struct wal *w, struct err_ctx *ec)
{
    return w->broken ? err_set(ec, ERR_IO, "log in %s: failed before and must be reopened", w->dir)
                     : OK;
}

static enum err broke(struct wal *w, enum err e)
{
    if (e != OK) {
        w->broken = true;
    }
    return e;
}

/* ---- creating ---- */

/* Make the folder, durably. */
static enum err make_dir(struct wal *w, struct err_ctx *ec)
{
    enum err e = w->vfs->ops->mkdir(w->vfs, w->dir, ec);
    if (e != OK && e != ERR_EXISTS) {
        return e;
    }
    char *parent = wal_parent(w->dir);
    e = w->vfs->ops->sync_dir(w->vfs, parent, ec);
    free(parent);
    return e;
}

static enum err begin_log(struct wal *w, uint64_t first_index, struct err_ctx *ec)
{
    struct wal_names names;
    enum err e = wal_names_read(w->vfs, w->dir, &names, ec);
    if (e != OK) {
        return e;
    }
    if (names.has_etcd) {
        e = err_set(ec, ERR_FOREIGN, "the folder holds a log of etcd");
    } else if (names.n_segments > 0) {
        e = err_set(ec, ERR_EXISTS, "the folder holds a log already");
    } else {
        e = wal_clean(w, &names, ec);
    }
    wal_names_deinit(&names);
    if (e == OK) {
        e = wal_begin_segment(w, 1, first_index, true, ec);
    }
    return e;
}

enum err wal_create(const struct wal_config *cfg, struct wal_identity id, uint64_t first_index,
                    struct wal **out, struct err_ctx *ec)
{
    ASSERT(first_index > 0);
    struct wal *w = wal_alloc(cfg);
    w->id = id;
    enum err e = make_dir(w, ec);
    if (e == OK) {
        e = wal_lock(w, ec);
    }
    if (e == OK) {
        e = begin_log(w, first_index, ec);
    }
    if (e != OK) {
        wal_free(&w);
        return err_wrap(ec, e, "create log in %s", cfg->dir);
    }
    *out = w;
    return OK;
}

enum err wal_exists(struct vfs *vfs, const char *dir, bool *out, struct err_ctx *ec)
{
    struct wal_names names;
    enum err e = wal_names_read(vfs, dir, &names, ec);
    if (e == ERR_NOT_FOUND) {
        *out = false;
        return OK;
    }
    if (e != OK) {
        return e;
    }
    if (names.has_etcd) {
        e = err_set(ec, ERR_FOREIGN, "%s holds a log of etcd", dir);
    } else {
        *out = names.n_segments > 0;
    }
    wal_names_deinit(&names);
    return e;
}

/* ---- laying out a batch ---- */

/* Where the batch is being put together. */
struct layout {
    struct wal *w;
    uint64_t chain;
    size_t run; /* stage offset where the iovec that is still growing begins */
    size_t n_iov;
};

static size_t entry_bytes(const struct wal_entry *e)
{
    return e->data == NULL ? 0 : e->data->len;
}

struct sizes {
    uint64_t bytes; /* of the batch in the file */
    size_t staged;  /* of them, those that go through the staging buffer */
    size_t n_large; /* payloads that do not */
};

static enum err measure(const struct wal_batch *batch, struct sizes *out, struct err_ctx *ec)
{
    struct sizes z = {.bytes = WAL_BATCH_HEAD_BYTES};
    uint64_t unstaged = 0;
    if (batch->has_hard_state) {
        z.bytes += WAL_RECORD_HEAD_BYTES + WAL_HARD_STATE_BYTES;
    }
    for (size_t i = 0; i < batch->n_entries; i++) {
        size_t len = entry_bytes(&batch->entries[i]);
        if (len > WAL_RECORD_BYTES_MAX - WAL_RECORD_HEAD_BYTES ||
            batch->entries[i].type > UINT16_MAX) {
            return err_set(ec, ERR_LIMIT, "entry %" PRIu64 " of %zu bytes, type %" PRIu32,
                           batch->entries[i].index, len, batch->entries[i].type);
        }
        z.bytes += wal_align(WAL_RECORD_HEAD_BYTES + len);
        if (len > COPY_MAX) {
            unstaged += len;
            z.n_large++;
        }
    }
    z.staged = (size_t)(z.bytes - unstaged);
    *out = z;
    return OK;
}

/* What was staged since the last large payload becomes one iovec. */
static void end_run(struct layout *l)
{
    struct bytes *s = &l->w->stage;
    if (s->len > l->run) {
        l->w->iov[l->n_iov++] = (struct iovec){s->data + l->run, s->len - l->run};
        l->run = s->len;
    }
}

static void add_payload(struct layout *l, struct slice payload)
{
    struct bytes *s = &l->w->stage;
    if (payload.len > COPY_MAX) {
        end_run(l);
        l->w->iov[l->n_iov++] = (struct iovec){(void *)(uintptr_t)payload.data, payload.len};
    } else if (payload.len > 0) {
        memcpy(s->data + s->len, payload.data, payload.len);
        s->len += payload.len;
    }
    size_t padding = (size_t)(wal_align(payload.len) - payload.len);
    memset(s->data + s->len, 0, padding);
    s->len += padding;
}

static void add_record(struct layout *l, struct wal_record *r, struct slice payload)
{
    struct bytes *s = &l->w->stage;
    r->length = (uint32_t)(WAL_RECORD_HEAD_BYTES + payload.len);
    r->payload_crc = crc32c(0, payload.data, payload.len);
    wal_record_encode(r, l->chain, s->data + s->len);
    l->chain = r->chain;
    s->len += WAL_RECORD_HEAD_BYTES;
    add_payload(l, payload);
}

/* Add the head of a batch of `bytes` bytes at `offset`; the last entry is the log's behind that
 * batch. */
static void add_batch_head(struct layout *l, uint64_t offset, uint64_t bytes, size_t n_records,
                           uint64_t last_index, uint64_t last_term)
{
    struct wal *w = l->w;
    struct wal_batch_head b = {
        .record.index = last_index,
        .record.term = last_term,
        .segment = w->chain_start,
        .sequence = w->segments[w->n_segments - 1].sequence,
        .offset = offset,
        .bytes = bytes,
        .durable = w->durable,
        .n_records = (uint32_t)n_records,
    };
    wal_batch_head_encode(&b, l->chain, w->stage.data + w->stage.len);
    l->chain = b.record.chain;
    w->stage.len += WAL_BATCH_HEAD_BYTES;
}

/* Put the batch together in w->stage and w->iov. Room is reserved first, so that pointers into
 * it stay. */
static void lay_out(struct layout *l, const struct wal_batch *batch, uint64_t bytes,
                    struct wal_position *last)
{
    const struct wal_entry *end =
        batch->n_entries == 0 ? NULL : &batch->entries[batch->n_entries - 1];
    size_t n_records = batch->n_entries + (batch->has_hard_state ? 1 : 0);
    add_batch_head(l, l->w->offset, bytes, n_records, end == NULL ? last->index : end->index,
                   end == NULL ? last->term : end->term);
    if (batch->has_hard_state) {
        const struct wal_hard_state *hs = &batch->hard_state;
        uint8_t vote[WAL_HARD_STATE_BYTES];
        wal_put_u64(vote, hs->vote);
        struct wal_record r = {.kind = WAL_KIND_HARD_STATE, .index = hs->commit, .term = hs->term};
        add_record(l, &r, slice_of(vote, sizeof vote));
    }
    for (size_t i = 0; i < batch->n_entries; i++) {
        const struct wal_entry *e = &batch->entries[i];
        ASSERT(e->index > 0 && e->index <= last->index + 1);
        struct wal_record r = {.kind = WAL_KIND_ENTRY,
                               .entry_type = (uint16_t)e->type,
                               .index = e->index,
                               .term = e->term};
        add_record(l, &r, buf_slice(e->data));
        *last = (struct wal_position){e->index, e->term, r.chain};
        if (batch->positions != NULL) {
            batch->positions[i] = *last;
        }
    }
    end_run(l);
}

/* ---- writing ---- */

/* Write the laid out `bytes` at the end of the log, and sync. */
static enum err write_and_sync(struct wal *w, const struct layout *l, uint64_t bytes, bool sync,
                               struct err_ctx *ec)
{
    enum err e = w->file->ops->pwritev(w->file, w->iov, (int)l->n_iov, w->offset, ec);
    w->last_sync_ns = 0;
    if (e == OK && sync) {
        uint64_t began = clock_now_ns(clock_real());
        e = w->file->ops->datasync(w->file, ec);
        w->last_sync_ns = clock_now_ns(clock_real()) - began;
        w->synced_batches++;
    }
    if (e != OK) {
        w->broken = true;
        return e;
    }
    w->offset += bytes;
    w->durable = sync ? w->offset : w->durable;
    w->filled = w->filled > w->offset ? w->filled : wal_page_align(w->offset);
    w->chain = l->chain;
    w->written_bytes += bytes;
    return OK;
}

/* Begin a new segment when the batch asks for it or does not fit any more. */
static enum err make_room(struct wal *w, const struct wal_batch *batch, uint64_t bytes,
                          struct err_ctx *ec)
{
    uint64_t sequence = w->segments[w->n_segments - 1].sequence + 1;
    if (batch->restart_at != 0) {
        if (batch->has_hard_state) { /* in the head already: the two must not be seen apart */
            w->hard_state = batch->hard_state;
            w->has_hard_state = true;
        }
        return wal_begin_segment(w, sequence, batch->restart_at, true, ec);
    }
    if (w->offset > WAL_SEGMENT_HEAD_BYTES && w->offset + bytes > w->segment_bytes) {
        return wal_begin_segment(w, sequence, w->last.index + 1, false, ec);
    }
    return OK;
}

/* Room for a layout, reserved first so that pointers into the staging buffer stay. */
static struct layout begin_layout(struct wal *w, size_t staged, size_t n_large)
{
    bytes_reset(&w->stage);
    (void)bytes_reserve(&w->stage, staged);
    if (w->cap_iov < 2 * n_large + 1) {
        w->cap_iov = 2 * n_large + 1;
        w->iov = xrealloc(w->iov, w->cap_iov * sizeof *w->iov);
    }
    return (struct layout){.w = w, .chain = w->chain};
}

static enum err write_batch(struct wal *w, const struct wal_batch *batch, struct err_ctx *ec)
{
    ASSERT(batch->n_entries < UINT32_MAX / 4);
    struct sizes z = {0};
    enum err e = measure(batch, &z, ec);
    if (e != OK) {
        return e;
    }
    e = broke(w, make_room(w, batch, z.bytes, ec));
    if (e != OK) {
        return e;
    }
    struct layout l = begin_layout(w, z.staged, z.n_large);
    struct wal_position last = w->last;
    lay_out(&l, batch, z.bytes, &last);
    e = write_and_sync(w, &l, z.bytes, !w->no_sync, ec);
    if (w->stage.cap > STAGE_KEPT_BYTES) {
        bytes_deinit(&w->stage);
    }
    if (e != OK) {
        return e;
    }
    w->last = last;
    if (batch->has_hard_state) {
        w->hard_state = batch->hard_state;
        w->has_hard_state = true;
    }
    return OK;
}

enum err wal_write_mark(struct wal *w, bool apart, struct err_ctx *ec)
{
    ASSERT(w->durable == w->offset);
    if (w->offset >= w->segment_bytes) { /* the new segment's head is the mark */
        enum err e = wal_begin_segment(w, w->segments[w->n_segments - 1].sequence + 1,
                                       w->last.index + 1, false, ec);
        return broke(w, e);
    }
    struct layout l = begin_layout(w, WAL_PAGE_BYTES, 1);
    uint64_t bare = w->offset;
    if (apart) {
        uint64_t least = WAL_BATCH_HEAD_BYTES + WAL_RECORD_HEAD_BYTES;
        bare = wal_page_align(w->offset + least);
        struct wal_record r = {.kind = WAL_KIND_PAD};
        add_batch_head(&l, w->offset, bare - w->offset, 1, w->last.index, w->last.term);
        add_record(&l, &r, slice_of(zero_page, (size_t)(bare - w->offset - least)));
    }
    add_batch_head(&l, bare, WAL_BATCH_HEAD_BYTES, 0, w->last.index, w->last.term);
    end_run(&l);
    enum err e = write_and_sync(w, &l, bare + WAL_BATCH_HEAD_BYTES - w->offset, true, ec);
    w->marked = w->offset;
    return e;
}

enum err wal_append(struct wal *w, const struct wal_batch *batch, struct wal_position *last,
                    struct err_ctx *ec)
{
    enum err e = is_broken(w, ec);
    if (e != OK) {
        return e;
    }
    if (batch->has_hard_state || batch->n_entries > 0 || batch->restart_at != 0) {
        e = write_batch(w, batch, ec);
        w->prepare_refused = false;
    }
    if (e != OK) {
        return err_wrap(ec, e, "append to log in %s", w->dir);
    }
    if (last != NULL) {
        *last = w->last;
    }
    return OK;
}

enum err wal_release(struct wal *w, uint64_t index, struct err_ctx *ec)
{
    enum err e = is_broken(w, ec);
    if (e != OK) {
        return e;
    }
    w->released = index > w->released ? index : w->released;
    for (unsigned i = 0; i < WAL_RELEASES_PER_CALL && wal_can_drop(w) && e == OK; i++) {
        e = broke(w, wal_drop_oldest(w, ec));
    }
    return err_wrap(ec, e, "release log in %s", w->dir);
}

void wal_close(struct wal **w)
{
    if (*w == NULL) {
        return;
    }
    struct wal *l = *w;
    if (!l->broken && !l->no_sync && l->marked != l->offset) {
        /* A mark behind the last batch tells the next wal_open that damage to it is not a torn
         * tail. Without it nothing is lost but that knowledge. */
        (void)!wal_write_mark(l, true, NULL);
    }
    wal_free(w);
}

struct wal_position wal_last(const struct wal *w)
{
    return w->last;
}

struct wal_stats wal_stats(const struct wal *w)
{
    return (struct wal_stats){
        .first_index = w->segments[w->n_void].first_index,
        .last_index = w->last.index,
        .n_segments = w->n_segments - w->n_void,
        .synced_batches = w->synced_batches,
        .written_bytes = w->written_bytes,
        .last_sync_ns = w->last_sync_ns,
    };
}
