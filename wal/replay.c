/* replay.c - see replay.h.
 *
 * Damage at offset X of the last segment: everything from X to the end of the file is searched for
 * batch heads that were written for this segment and at the place where they stand. Each carries
 * the offset up to which the log was durable then. If one of them lies beyond X, synced bytes are
 * damaged. If none does, X begins the one batch whose sync never returned, and nobody was told that
 * it was kept. The search needs neither record lengths nor the chain, both of which the damage may
 * have taken away. A sound-looking end (zeroes) is searched the same way: a lost sector reads as
 * zeroes, too.
 */
#include "wal/replay.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define WINDOW_BYTES                                                                               \
    (1u << 20) /* read ahead; a larger batch grows the window for as long as it is read */

/* A window on a file. */
struct window {
    struct vfs_file *file;
    uint64_t size; /* of the file */
    uint8_t *data; /* owned */
    size_t cap;
    uint64_t at; /* file offset of data[0] */
    size_t len;
};

/* Make the bytes from `offset` on readable: `want` of them, or fewer at the end of the file. */
static enum err window_get(struct window *w, uint64_t offset, uint64_t want, const uint8_t **p,
                           uint64_t *avail, struct err_ctx *ec)
{
    uint64_t left = offset < w->size ? w->size - offset : 0;
    uint64_t n = want < left ? want : left;
    if (n == 0) {
        *avail = 0;
        return OK;
    }
    if (offset < w->at || offset + n > w->at + w->len) {
        uint64_t ahead = left < WINDOW_BYTES ? left : WINDOW_BYTES;
        size_t fill = (size_t)(n > ahead ? n : ahead);
        if (fill > w->cap) {
            free(w->data);
            w->data = xalloc(fill);
            w->cap = fill;
        }
        w->at = offset;
        w->len = 0;
        enum err e = w->file->ops->pread(w->file, w->data, fill, offset, &w->len, ec);
        if (e != OK) {
            return e;
        }
    }
    uint64_t have = w->at + w->len - offset;
    *p = w->data + (offset - w->at);
    *avail = have < want ? have : want;
    return OK;
}

/* Where, behind `damage`, a sound batch head says that `damage` was durable; 0: nowhere. */
static enum err find_watermark(struct window *w, const struct wal_segment_head *head,
                               uint64_t damage, uint64_t *found, struct err_ctx *ec)
{
    *found = 0;
    for (uint64_t from = damage + WAL_ALIGN; from + WAL_BATCH_HEAD_BYTES <= w->size;) {
        const uint8_t *p;
        uint64_t avail;
        enum err e = window_get(w, from, WINDOW_BYTES, &p, &avail, ec);
        if (e != OK) {
            return e;
        }
        if (avail < WAL_BATCH_HEAD_BYTES) {
            break; /* the file is shorter than it was */
        }
        uint64_t n = 0;
        for (; n + WAL_BATCH_HEAD_BYTES <= avail; n += WAL_ALIGN) {
            struct wal_batch_head b;
            if (wal_get_u64(p + n + WAL_RECORD_HEAD_BYTES) != head->chain_start) {
                continue; /* the segment's identity stands first in the payload of a batch head */
            }
            if (wal_batch_head_check(p + n, head, from + n, &b) == NULL && b.durable > damage) {
                *found = from + n;
                return OK;
            }
        }
        from += n;
    }
    return OK;
}

/* Check the batch of `bytes` bytes at `p` record by record. */
static const char *check_batch(const uint8_t *p, uint64_t bytes, uint32_t n_records,
                               uint64_t *chain)
{
    uint64_t at = 0;
    for (uint64_t n = 0; n <= n_records; n++) { /* the head and its records */
        struct wal_record r;
        const char *reason = wal_record_check(p + at, bytes - at, *chain, &r);
        if (reason != NULL) {
            return reason;
        }
        if (n > 0 && (r.kind <= WAL_KIND_BATCH || r.kind > WAL_KIND_PAD)) {
            return "record head: unknown kind";
        }
        if (r.kind == WAL_KIND_HARD_STATE &&
            r.length != WAL_RECORD_HEAD_BYTES + WAL_HARD_STATE_BYTES) {
            return "hard state: wrong length";
        }
        *chain = r.chain;
        at += wal_align(r.length);
    }
    return at == bytes ? NULL : "batch head: its length is not that of its records";
}

/* Hand over one entry. */
static enum err visit_entry(struct wal_replay *r, const struct wal_record *record,
                            const uint8_t *payload)
{
    size_t len = record->length - WAL_RECORD_HEAD_BYTES;
    r->last = (struct wal_position){record->index, record->term, record->chain};
    if (r->visit == NULL || r->visit->entry == NULL) {
        return OK;
    }
    struct wal_entry entry = {
        .index = record->index,
        .term = record->term,
        .type = record->entry_type,
        .data = len == 0 ? NULL : buf_copy(slice_of(payload, len)),
    };
    enum err e = r->visit->entry(r->visit->arg, &entry, record->chain);
    buf_unref(&entry.data);
    return e;
}

static enum err visit_hard_state(struct wal_replay *r, const struct wal_hard_state *hs)
{
    r->hard_state = *hs;
    r->has_hard_state = true;
    if (r->visit == NULL || r->visit->hard_state == NULL) {
        return OK;
    }
    return r->visit->hard_state(r->visit->arg, hs);
}

/* Visit the records of a batch that check_batch passed. *reason is set, with OK, when they make
 * no sense. */
static enum err visit_batch(struct wal_replay *r, const uint8_t *p, const struct wal_batch_head *b,
                            const char **reason)
{
    *reason = NULL;
    for (uint64_t at = WAL_BATCH_HEAD_BYTES; at < b->bytes;) {
        struct wal_record record;
        ASSERT(wal_record_head_check(p + at, b->bytes - at, &record) == NULL);
        const uint8_t *payload = p + at + WAL_RECORD_HEAD_BYTES;
        enum err e = OK;
        if (record.kind == WAL_KIND_ENTRY) {
            if (record.index == 0 || record.index > r->last.index + 1) {
                *reason = "entry: a gap in the indexes";
                return OK;
            }
            e = visit_entry(r, &record, payload);
        } else if (record.kind == WAL_KIND_HARD_STATE) {
            struct wal_hard_state hs = {record.term, wal_get_u64(payload), record.index};
            e = visit_hard_state(r, &hs);
        }
        if (e != OK) {
            return e;
        }
        r->chain = record.chain;
        at += wal_align(record.length);
    }
    if (b->record.index != r->last.index || b->record.term != r->last.term) {
        *reason = "batch head: its last entry is not that of its records";
    }
    return OK;
}

/* Read the batch at `offset`. *reason is set, with OK, when there is no sound one that ends
 * before `limit`; *senseless when it is sound and yet impossible, which no crash explains. */
static enum err read_batch(struct wal_replay *r, struct window *w,
                           const struct wal_segment_head *head, uint64_t offset, uint64_t limit,
                           uint64_t *bytes, const char **reason, bool *senseless,
                           struct err_ctx *ec)
{
    const uint8_t *p;
    uint64_t avail;
    *senseless = false;
    enum err e = window_get(w, offset, WAL_BATCH_HEAD_BYTES, &p, &avail, ec);
    if (e != OK) {
        return e;
    }
    if (avail < WAL_BATCH_HEAD_BYTES) {
        *reason = "batch head: cut short";
        return OK;
    }
    struct wal_batch_head b;
    *reason = wal_batch_head_check(p, head, offset, &b);
    if (*reason != NULL) {
        return OK;
    }
    if (b.bytes > limit - offset) {
        *reason = "batch head: its batch runs past the end";
        return OK;
    }
    e = window_get(w, offset, b.bytes, &p, &avail, ec);
    if (e != OK) {
        return e;
    }
    if (avail < b.bytes) {
        *reason = "batch: cut short";
        return OK;
    }
    uint64_t chain = r->chain;
    *reason = check_batch(p, b.bytes, b.n_records, &chain);
    if (*reason != NULL) {
        return OK;
    }
    r->chain = b.record.chain;
    e = visit_batch(r, p, &b, reason);
    *senseless = *reason != NULL;
    r->ends_in_mark = b.n_records == 0;
    *bytes = b.bytes;
    return e;
}

static enum err corrupt(struct err_ctx *ec, const char *name, uint64_t offset, const char *reason)
{
    return err_set(ec, ERR_CORRUPT, "%s: byte %" PRIu64 ": %s", name, offset, reason);
}

static enum err replay_batches(struct wal_replay *r, const struct wal_replay_segment_args *args,
                               struct window *w, uint64_t *end, struct err_ctx *ec)
{
    bool sealed = args->sealed_end != 0;
    uint64_t limit = sealed ? args->sealed_end : w->size;
    uint64_t offset = WAL_SEGMENT_HEAD_BYTES;
    const char *reason = NULL;
    while (offset < limit) {
        uint64_t bytes;
        bool senseless;
        enum err e = read_batch(r, w, args->head, offset, limit, &bytes, &reason, &senseless, ec);
        if (e != OK) {
            return e;
        }
        if (reason != NULL && (sealed || senseless)) {
            return corrupt(ec, args->name, offset, reason);
        }
        if (reason != NULL) {
            break;
        }
        r->last_batch = offset;
        offset += bytes;
    }
    if (sealed && offset != limit) {
        return corrupt(ec, args->name, offset, "the segment head that follows names another end");
    }
    if (!sealed && offset < w->size) {
        uint64_t mark;
        enum err e = find_watermark(w, args->head, offset, &mark, ec);
        if (e != OK) {
            return e;
        }
        if (mark != 0) {
            return err_set(ec, ERR_CORRUPT,
                           "%s: byte %" PRIu64 ": %s, but the batch at byte %" PRIu64
                           " says that this was durable",
                           args->name, offset, reason, mark);
        }
    }
    *end = offset;
    return OK;
}

enum err wal_replay_segment(struct wal_replay *r, const struct wal_replay_segment_args *args,
                            uint64_t *end, struct err_ctx *ec)
{
    struct window w = {.file = args->file};
    r->last_batch = 0;
    r->ends_in_mark = false;
    enum err e = args->file->ops->size(args->file, &w.size, ec);
    if (e == OK && args->head->has_hard_state) {
        e = visit_hard_state(r, &args->head->hard_state);
    }
    if (e == OK) {
        e = replay_batches(r, args, &w, end, ec);
    }
    free(w.data);
    return e;
}
