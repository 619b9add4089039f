/* store_compact.c - taking compacted records out of the backend.
 *
 * A pass to revision C walks all records with main <= C in order, a bounded number with each
 * commit, and deletes those that the index does not name as the newest change of their key at C; of
 * tombstones only one exactly at C stays. Because the walk sees what was there before, it also
 * computes etcd's compaction hash.
 *
 * Compactions that were applied wait in a queue, and each has a pass of its own, one after the
 * other: so a pass meets exactly what the one before it left, and its hash is the same on every
 * member, however late it runs. A pass begins when the record of its target is committed, and waits
 * while a stepped read is pinned below C. The index itself is compacted to C only after the pass to
 * C has begun, and never beyond, so that it can answer for C as long as the pass runs.
 *
 *     applied ──► queued ──► committed with a flush ──► pass begins ──► step ... step ──►
 * finishedCompactRev = C
 *
 * Two passes have no hash, because they do the work of several compactions at once: the one that
 * goes on after a restart (only the last target was committed), and one that was merged because the
 * queue was full. Who is asked for the hash at such a revision hashes what is there, and says so by
 * another compact revision; the corruption check compares only hashes with equal ones.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "engine/engine_internal.h"

#define SCAN_RECORDS 64u   /* looked up under one hold of the lock */
#define SCAN_PER_DELETE 8u /* a step looks at no more than this many times the batch limit ... */
#define SCAN_BYTES (16u << 20) /* ... or this many bytes of records */

struct scanned {
    struct rev rev;
    bool tombstone;
    struct slice record_key;
    struct slice kv;
    struct slice key;
    bool keep;
};

/* Is there a tombstone exactly at `revision`? It would be in etcd's set of kept revisions. */
static enum err tombstone_at(struct engine *e, int64_t revision, bool *found, struct err_ctx *ec)
{
    uint8_t from[RECORD_KEY_BYTES_MAX];
    size_t len = record_key_encode(from, (struct rev){revision, 0}, false);
    struct store_read read = {0};
    struct backend_cursor *c = NULL;
    *found = false;
    enum err err = store_read_begin(e, &read, ec);
    if (err != OK) {
        return err;
    }
    const struct backend_ops *ops = store_read_ops(&read);
    err = ops->cursor_open(read.read, BUCKET_KEY, slice_of(from, len), &c, ec);
    while (err == OK && !*found) {
        struct slice key;
        struct slice value;
        struct rev rev = {0};
        bool tombstone = false;
        err = ops->cursor_next(c, &key, &value);
        if (err == OK) {
            err = record_key_decode(key, &rev, &tombstone);
        }
        if (err == OK && rev.main > revision) {
            break;
        }
        *found = err == OK && tombstone;
    }
    ops->cursor_close(&c);
    store_read_end(&read);
    return err == ERR_END ? OK : err;
}

void passes_add(struct engine *e, const struct pass *p)
{
    struct pass_queue *q = &e->passes;
    if (q->n < ENGINE_PASSES_MAX) {
        q->v[(q->first + q->n) % ENGINE_PASSES_MAX] = *p;
        q->n++;
        return;
    }
    /* Full: compactions come faster than the disk takes them. The newest two share a pass, so that
     * applying never waits; which they are depends on this member's disk, so the pass has no hash. */
    struct pass *last = &q->v[(q->first + q->n - 1) % ENGINE_PASSES_MAX];
    last->target = p->target;
    last->hashable = false;
}

bool compact_due(struct engine *e)
{
    const struct pass_queue *q = &e->passes;
    if (e->compaction.active || !compact_more(e)) {
        return false;
    }
    lock_read(e);
    int64_t target = q->n > 0 ? q->v[q->first].target : INT64_MAX;
    unlock(e);
    return target <= e->stored.compact_revision &&
           pins_clear(&e->pins, target, atomic_load_explicit(&e->now_ms, memory_order_relaxed));
}

bool compact_more(const struct engine *e)
{
    return atomic_load_explicit(&e->compact_revision, memory_order_acquire) >
           atomic_load_explicit(&e->compact_finished, memory_order_relaxed);
}

static enum err begin_pass(struct engine *e, struct err_ctx *ec)
{
    struct compaction *c = &e->compaction;
    struct pass_queue *q = &e->passes;
    lock_write(e);
    ASSERT(q->n > 0);
    struct pass pass = q->v[q->first];
    q->first = (q->first + 1) % ENGINE_PASSES_MAX;
    q->n--;
    unlock(e);
    int64_t target = pass.target;
    ASSERT(pass.before == atomic_load_explicit(&e->compact_finished, memory_order_relaxed));
    *c = (struct compaction){
        .active = true,
        .pass = pass,
        .at = {0, -1},
        .started_ns = now_ns(e),
        .crc = crc32c(0, bucket_name(BUCKET_KEY), strlen(bucket_name(BUCKET_KEY))),
    };
    lock_read(e);
    c->keep_all = index_count(e->index, (struct slice){0}, (struct slice){0}, target) == 0;
    unlock(e);
    if (c->keep_all) {
        bool found;
        enum err err = tombstone_at(e, target, &found, ec);
        if (err != OK) {
            return err;
        }
        c->keep_all = !found;
    }
    atomic_store_explicit(&e->compact_passing, target, memory_order_release);
    return OK;
}

/* Which of the scanned records stay. */
static void judge(struct engine *e, struct scanned *v, size_t n)
{
    int64_t target = e->compaction.pass.target;
    lock_read(e);
    for (size_t i = 0; i < n; i++) {
        struct key_version newest;
        v[i].keep = index_version_at(e->index, v[i].key, target, &newest) &&
                    rev_cmp(newest.mod, v[i].rev) == 0 &&
                    (!v[i].tombstone || v[i].rev.main == target);
    }
    unlock(e);
}

static void take(struct compaction *c, struct compact_step *step, const struct scanned *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool skip = (v[i].rev.main <= c->pass.before && !c->keep_all && !v[i].keep) ||
                    (v[i].rev.main == c->pass.before && v[i].tombstone);
        if (c->pass.hashable && !skip) {
            c->crc = crc32c(c->crc, v[i].record_key.data, v[i].record_key.len);
            c->crc = crc32c(c->crc, v[i].kv.data, v[i].kv.len);
        }
        if (!v[i].keep) {
            uint8_t len = (uint8_t)v[i].record_key.len;
            bytes_add(&step->keys, &len, 1);
            bytes_add(&step->keys, v[i].record_key.data, v[i].record_key.len);
            step->n++;
        }
        c->at = v[i].rev;
    }
}

/* The next record of the pass. ERR_END behind its last. */
static enum err scan_one(const struct compaction *c, const struct backend_ops *ops,
                         struct backend_cursor *cursor, struct scanned *out, struct err_ctx *ec)
{
    struct slice stored;
    struct kv_view view;
    enum err err = ops->cursor_next(cursor, &out->record_key, &stored);
    if (err != OK) {
        return err;
    }
    err = record_key_decode(out->record_key, &out->rev, &out->tombstone);
    if (err == OK && out->rev.main > c->pass.target) {
        return ERR_END;
    }
    if (err == OK) {
        err = record_check(out->record_key, stored, &out->kv);
    }
    if (err == OK) {
        err = record_view(out->kv, out->tombstone, &view);
    }
    if (err != OK) {
        return err_set(ec, err, "compaction: bucket key: record after %lld_%lld does not verify",
                       (long long)c->at.main, (long long)c->at.sub);
    }
    out->key = view.key;
    return OK;
}

static enum err scan(struct engine *e, struct compact_step *step, const struct store_read *read,
                     struct err_ctx *ec)
{
    const struct backend_ops *ops = store_read_ops(read);
    struct compaction *c = &e->compaction;
    struct backend_cursor *cursor = NULL;
    uint8_t from[RECORD_KEY_BYTES_MAX];
    size_t len = record_key_encode(from, (struct rev){c->at.main, c->at.sub + 1}, false);
    size_t n_scanned = 0;
    size_t bytes = 0;
    enum err err = ops->cursor_open(read->read, BUCKET_KEY, slice_of(from, len), &cursor, ec);
    while (err == OK && step->n < e->compaction_batch_limit && bytes < SCAN_BYTES &&
           n_scanned < (size_t)e->compaction_batch_limit * SCAN_PER_DELETE) {
        struct scanned v[SCAN_RECORDS];
        size_t n = 0;
        size_t room = e->compaction_batch_limit - step->n;
        while (n < SCAN_RECORDS && n < room) {
            err = scan_one(c, ops, cursor, &v[n], ec);
            if (err != OK) {
                break;
            }
            bytes += v[n].kv.len;
            n++;
        }
        judge(e, v, n);
        take(c, step, v, n);
        n_scanned += n;
    }
    ops->cursor_close(&cursor);
    if (err == ERR_END) {
        step->finished = true;
        err = OK;
    }
    return err;
}

enum err compact_scan(struct engine *e, struct compact_step *step, struct err_ctx *ec)
{
    if (!e->compaction.active) {
        if (!compact_due(e)) {
            return OK;
        }
        enum err err = begin_pass(e, ec);
        if (err != OK) {
            return err_wrap(ec, err, "begin compaction");
        }
    }
    uint64_t now_ms = atomic_load_explicit(&e->now_ms, memory_order_relaxed);
    if (now_ms < e->compaction.rests_until_ms) {
        return OK;
    }
    e->compaction.rests_until_ms = now_ms + e->compaction_pause_ms;
    struct store_read read = {0};
    uint64_t before = now_ns(e);
    enum err err = store_read_begin(e, &read, ec);
    if (err != OK) {
        return err;
    }
    err = scan(e, step, &read, ec);
    store_read_end(&read);
    observe_ms(e, e->metrics.compact_pause, before);
    return err;
}

enum err compact_write(struct engine *e, const struct compact_step *step, struct err_ctx *ec)
{
    struct backend *b = e->home->backend;
    enum err err = OK;
    for (size_t at = 0; err == OK && at < step->keys.len; at += 1u + step->keys.data[at]) {
        err = b->ops->del(b, BUCKET_KEY, slice_of(step->keys.data + at + 1, step->keys.data[at]),
                          ec);
    }
    if (err == OK && step->finished) {
        uint8_t value[RECORD_KEY_BYTES_MAX];
        size_t len = record_key_encode(value, (struct rev){e->compaction.pass.target, 0}, false);
        err = b->ops->put(b, BUCKET_META, slice_str(ROW_FINISHED_COMPACT), slice_of(value, len),
                          (struct slice){0}, false, ec);
    }
    return err;
}

void compact_done(struct engine *e, const struct compact_step *step)
{
    struct compaction *c = &e->compaction;
    c->n_deleted += step->n;
    count(e->metrics.compacted_keys, step->n);
    if (!step->finished) {
        return;
    }
    c->active = false;
    observe_ms(e, e->metrics.compact_total, c->started_ns);
    if (e->metrics.compact_last != NULL && e->clock != NULL) {
        gauge_set(e->metrics.compact_last, (double)(clock_wall_ns(e->clock) / 1000000000u));
    }
    const struct compaction_report report = {
        .revision = c->pass.target,
        .before = c->pass.before,
        .took_ns = now_ns(e) - c->started_ns,
        .n_deleted = c->n_deleted,
        .hashed = c->pass.hashable,
        .hash = c->crc,
    };
    atomic_store_explicit(&e->compact_finished, report.revision, memory_order_release);
    if (report.hashed) {
        const struct hash_kv h = {.hash = report.hash,
                                  .compact_revision = report.before,
                                  .hash_revision = report.revision};
        hashes_add(&e->hashes, &h);
    }
    if (e->events != NULL && e->events->compacted != NULL) {
        e->events->compacted(e->events_arg, &report);
    }
}
