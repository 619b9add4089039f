/* store_flush.c - the store thread's work: one commit after the other.
 *
 * A commit holds whole entries: under the lock the end of the last whole entry, its rows and its
 * counters are taken together (the seal). Records are then read from the tail without the lock,
 * because sealed ones do not change. Only after the commit do they leave the tail, so that every
 * reader finds them in one place or the other.
 *
 * An entry may be applied before the own log holds it, when enough others' logs do. The store must
 * not get ahead of the log all the same: a seal that does waits until the log has caught up.
 */
#include "engine/engine_internal.h"

static void seal_take(struct engine *e, struct seal *s)
{
    ASSERT(!s->taken);
    lock_write(e);
    s->taken = true;
    s->from = e->tail.head;
    s->to = e->tail.published;
    s->rows = e->rows;
    e->rows = (struct rows){0};
    s->mark = e->mark;
    s->bytes = e->unsealed_bytes;
    e->unsealed_bytes = 0;
    unlock(e);
}

void seal_deinit(struct seal *s)
{
    rows_deinit(&s->rows);
    *s = (struct seal){0};
}

static enum err put(struct engine *e, enum bucket bucket, struct slice key, struct slice value,
                    struct err_ctx *ec)
{
    struct backend *b = e->home->backend;
    return b->ops->put(b, bucket, key, value, (struct slice){0}, false, ec);
}

static enum err put_u64(struct engine *e, enum bucket bucket, const char *key, uint64_t v,
                        struct err_ctx *ec)
{
    uint8_t value[8];
    be64_put(value, v);
    return put(e, bucket, slice_str(key), slice_of(value, sizeof(value)), ec);
}

static enum err write_records(struct engine *e, const struct seal *s, struct err_ctx *ec)
{
    const struct tail_chunk *chunk = NULL;
    struct backend *b = e->home->backend;
    for (uint64_t i = s->from; i < s->to; i++) {
        if (chunk == NULL || i % TAIL_CHUNK_RECORDS == 0) {
            lock_read(e); /* the ring of chunks may be growing */
            chunk = e->tail.chunks[(i / TAIL_CHUNK_RECORDS) & (e->tail.cap - 1)];
            unlock(e);
        }
        const struct tail_record *r = &chunk->records[i % TAIL_CHUNK_RECORDS];
        uint8_t key[RECORD_KEY_BYTES_MAX];
        uint8_t sum[RECORD_SUM_BYTES];
        struct slice k = slice_of(key, record_key_encode(key, r->rev, r->tombstone));
        record_sum_encode(sum, k, buf_slice(r->kv));
        enum err err = b->ops->put(b, BUCKET_KEY, k, buf_slice(r->kv), slice_of(sum, sizeof(sum)),
                                   true, ec);
        if (err != OK) {
            return err;
        }
    }
    return OK;
}

static enum err write_rows(struct engine *e, const struct rows *rows, struct err_ctx *ec)
{
    struct backend *b = e->home->backend;
    for (size_t i = 0; i < rows->n; i++) {
        const struct row *r = &rows->v[i];
        enum err err = r->value == NULL
                           ? b->ops->del(b, r->bucket, buf_slice(r->key), ec)
                           : put(e, r->bucket, buf_slice(r->key), buf_slice(r->value), ec);
        if (err != OK) {
            return err;
        }
    }
    return OK;
}

/* The counters. They only grow: anything else would be a wrong state made durable. */
static enum err write_mark(struct engine *e, const struct mark *m, struct err_ctx *ec)
{
    ASSERT(m->index >= e->stored.index);
    ASSERT(m->term >= e->stored.term);
    ASSERT(m->revision >= e->stored.revision);
    ASSERT(m->compact_revision >= e->stored.compact_revision);
    enum err err = put_u64(e, BUCKET_META, ROW_CONSISTENT_INDEX, m->index, ec);
    if (err == OK) {
        err = put_u64(e, BUCKET_META, ROW_TERM, m->term, ec);
    }
    if (err == OK) {
        err = put_u64(e, BUCKET_PINTLE, ROW_REVISION, (uint64_t)m->revision, ec);
    }
    if (err == OK) {
        err = put_u64(e, BUCKET_PINTLE, ROW_FORMAT, FORMAT_VERSION, ec);
    }
    if (err == OK && m->witness.index != 0) {
        uint8_t w[24];
        be64_put(w, m->witness.index);
        be64_put(w + 8, m->witness.term);
        be64_put(w + 16, m->witness.chain);
        err = put(e, BUCKET_PINTLE, slice_str(ROW_WITNESS), slice_of(w, sizeof(w)), ec);
    }
    return err;
}

static enum err write_all(struct engine *e, const struct seal *s, const struct compact_step *step,
                          struct err_ctx *ec)
{
    struct backend *b = e->home->backend;
    enum err err = b->ops->begin(b, ec);
    if (err != OK) {
        return err;
    }
    err = write_records(e, s, ec);
    if (err == OK) {
        err = write_rows(e, &s->rows, ec);
    }
    if (err == OK) {
        err = compact_write(e, step, ec);
    }
    if (err == OK) {
        err = write_mark(e, &s->mark, ec);
    }
    if (err != OK) {
        b->ops->abort(b);
        return err;
    }
    uint64_t before = now_ns(e);
    err = b->ops->commit(b, ec);
    if (err == OK) {
        observe_ns(e, e->metrics.commit, before);
    }
    return err;
}

static void note_file_bytes(struct engine *e)
{
    struct backend *b = e->home->backend;
    atomic_store_explicit(&e->file_bytes, b->ops->stats(b).file_bytes, memory_order_relaxed);
}

static void committed(struct engine *e, const struct seal *s)
{
    struct tail_dropped dropped;
    lock_write(e);
    tail_drop(&e->tail, s->to, &dropped);
    unlock(e);
    tail_free_dropped(&dropped);
    atomic_fetch_sub_explicit(&e->pending_bytes, s->bytes, memory_order_relaxed);
    note_file_bytes(e);
    uint64_t index_before = e->stored.index;
    e->stored = s->mark;
    if (e->events != NULL && e->events->stored != NULL) {
        e->events->stored(e->events_arg, e->stored.index, index_before);
    }
}

/* Free what engine_adopt left behind: a long index and a map of gigabytes take their time. */
static void bury(struct engine *e)
{
    lock_write(e);
    struct engine *dead = e->replaced;
    e->replaced = NULL;
    unlock(e);
    engine_close(&dead);
}

/* Of compactions that follow one another closely, so many begin in one call: as many syncs. */
#define PASSES_PER_FLUSH 8u

static enum err flush_once(struct engine *e, bool force, struct err_ctx *ec)
{
    struct seal *s = &e->seal;
    if (!s->taken) {
        seal_take(e, s);
    }
    if (s->mark.index > atomic_load(&e->durable_index)) {
        return err_set(ec, ERR_BUSY, "the log does not hold all that was applied yet");
    }
    struct compact_step step = {0};
    enum err err = compact_scan(e, &step, ec);
    bool anything = s->bytes > 0 || s->mark.index > e->stored.index || step.n > 0 || step.finished;
    if (err == OK && (anything || force)) {
        err = write_all(e, s, &step, ec);
        if (err == OK) {
            committed(e, s);
            compact_done(e, &step);
        }
    }
    seal_deinit(s);
    bytes_deinit(&step.keys);
    return err;
}

enum err engine_flush(struct engine *e, bool force, bool *more, struct err_ctx *ec)
{
    *more = false;
    bury(e);
    if (e->store_failed) {
        return err_set(ec, ERR_IO, "the store failed before");
    }
    enum err err = flush_once(e, force, ec);
    /* A compaction that the commit made durable begins now: on a member where nobody waits for it no
     * later than on one where somebody does. */
    for (unsigned i = 0; i < PASSES_PER_FLUSH && err == OK && compact_due(e); i++) {
        err = flush_once(e, false, ec);
    }
    *more = err == OK && compact_more(e);
    bool waits = e->seal.taken; /* for the log */
    if (err != OK && !waits) {
        e->store_failed = true;
        err = err_wrap(ec, err == ERR_BUSY ? ERR_LIMIT : err, "store");
        if (e->events != NULL && e->events->failed != NULL) {
            e->events->failed(e->events_arg, err, ec);
        }
    }
    return err;
}

enum err engine_defrag(struct engine *e, struct err_ctx *ec)
{
    if (e->store_failed) {
        return err_set(ec, ERR_IO, "the store failed before");
    }
    uint64_t before = now_ns(e);
    if (e->metrics.defrag_inflight != NULL) {
        gauge_set(e->metrics.defrag_inflight, 1);
    }
    struct backend *b = e->home->backend;
    enum err err = b->ops->defrag(b, ec);
    if (err == OK) {
        observe_ns(e, e->metrics.defrag, before);
    }
    if (e->metrics.defrag_inflight != NULL) {
        gauge_set(e->metrics.defrag_inflight, 0);
    }
    note_file_bytes(e);
    return err_wrap(ec, err, "defragment");
}
