/* mvcc.c - puts and deletions. */
#include "engine/mvcc.h"

#include <stdlib.h>

#include "base/wire.h"

#define CHANGES_FIRST 16u
#define DELETE_STEP_KEYS 256u /* gathered, then deleted under one hold of the lock */

void mvcc_begin(struct mvcc_txn *w, struct engine *e)
{
    *w = (struct mvcc_txn){
        .e = e, .begin_revision = atomic_load_explicit(&e->revision, memory_order_relaxed)};
    ASSERT(e->n_changes == 0);
}

static struct rev next_rev(const struct mvcc_txn *w)
{
    return (struct rev){w->begin_revision + 1, w->n_changes};
}

/* Remember the change for the watchers. Takes `kv`, which begins with the field of its key. */
static void add_change(struct mvcc_txn *w, struct rev rev, bool deleted, bool created,
                       struct buf *kv, size_t key_len)
{
    struct engine *e = w->e;
    w->n_changes++;
    if (e->events == NULL || e->events->changed == NULL) {
        buf_unref(&kv);
        return;
    }
    if (e->n_changes == e->changes_cap) {
        e->changes_cap = e->changes_cap == 0 ? CHANGES_FIRST : e->changes_cap * 2;
        e->changes = xrealloc(e->changes, e->changes_cap * sizeof(*e->changes));
    }
    struct slice key = slice_of(kv->data + 1 + wire_varint_size(key_len), key_len);
    e->changes[e->n_changes++] = (struct change){rev, deleted, created, key, kv};
}

void mvcc_put(struct mvcc_txn *w, struct slice key, struct slice value, int64_t lease)
{
    struct engine *e = w->e;
    struct rev rev = next_rev(w);
    struct key_version old;
    bool exists = index_get(e->index, key, INDEX_LATEST, &old);
    struct kv_view kv = {
        .key = key,
        .create_revision = exists ? old.create_revision : rev.main,
        .mod_revision = rev.main,
        .version = exists ? old.version + 1 : 1,
        .value = value,
        .lease = lease,
    };
    struct buf *b = kv_encode_buf(&kv);
    struct key_version v = {rev, kv.create_revision, kv.version, b->len, false};
    struct buf *shared = buf_ref(b);
    lock_write(e);
    index_put(e->index, key, &v);
    tail_append(&e->tail, rev, false, b);
    unlock(e);
    e->entry_bytes += shared->len + RECORD_OVERHEAD_BYTES;
    if (e->metrics.put_bytes != NULL) {
        gauge_add(e->metrics.put_bytes, (double)(key.len + value.len));
    }
    add_change(w, rev, false, kv.version == 1, shared, key.len);
    if (lease != 0 || lease_count(e->leases) > 0) {
        lease_attach(e->leases, key, lease);
    }
    w->n_ops++;
    count(e->metrics.puts, 1);
}

/* The key is alive. The lock is held. */
static void bury(struct mvcc_txn *w, struct slice key)
{
    struct engine *e = w->e;
    struct rev rev = next_rev(w);
    struct kv_view kv = {.key = key};
    struct buf *record = kv_encode_buf(&kv);
    kv.mod_revision = rev.main;
    struct buf *event = kv_encode_buf(&kv);
    index_tombstone(e->index, key, rev);
    e->entry_bytes += record->len + RECORD_OVERHEAD_BYTES;
    tail_append(&e->tail, rev, true, record);
    add_change(w, rev, true, false, event, key.len);
    if (lease_count(e->leases) > 0) {
        lease_attach(e->leases, key, 0);
    }
}

bool mvcc_delete(struct mvcc_txn *w, struct slice key)
{
    struct key_version v;
    if (!index_get(w->e->index, key, INDEX_LATEST, &v)) {
        return false;
    }
    w->n_ops++;
    count(w->e->metrics.deletes, 1);
    lock_write(w->e);
    bury(w, key);
    unlock(w->e);
    return true;
}

static enum err append_prev(struct mvcc_txn *w, struct fetch *f, struct bytes *out, uint32_t field)
{
    lock_read(w->e);
    enum err err = fetch_hold(f, NULL);
    unlock(w->e);
    if (err == OK) {
        err = fetch_read(f, NULL);
    }
    for (size_t i = 0; err == OK && i < f->n; i++) {
        if (out->len + f->kvs[i].len > ENGINE_REPLY_BYTES_MAX) {
            err = ERR_LIMIT;
            break;
        }
        wire_add_message(out, field, f->kvs[i]);
    }
    fetch_release(f);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

/* Keys of one step, copied: the index changes while they are deleted. */
struct doomed {
    struct bytes bytes;
    size_t lens[DELETE_STEP_KEYS];
    size_t n;
};

static int64_t delete_one(struct mvcc_txn *w, struct slice key, struct bytes *prev_kvs,
                          uint32_t field, enum err *read_err)
{
    struct key_version v;
    if (!index_get(w->e->index, key, INDEX_LATEST, &v)) {
        return 0;
    }
    if (prev_kvs != NULL && *read_err == OK) {
        struct fetch f;
        fetch_init(&f, w->e);
        fetch_add(&f, v.mod);
        *read_err = append_prev(w, &f, prev_kvs, field);
    }
    lock_write(w->e);
    bury(w, key);
    unlock(w->e);
    return 1;
}

/* Gather the next keys and what they are now. false: the walk is at its end. */
static bool gather(struct index_cursor *c, struct doomed *d, struct fetch *f)
{
    d->n = 0;
    bytes_reset(&d->bytes);
    while (d->n < DELETE_STEP_KEYS) {
        struct slice key;
        struct key_version v;
        if (!index_cursor_next(c, &key, &v)) {
            return false;
        }
        bytes_add(&d->bytes, key.data, key.len);
        d->lens[d->n++] = key.len;
        fetch_add(f, v.mod);
    }
    return true;
}

static int64_t delete_many(struct mvcc_txn *w, const struct span *s, struct bytes *prev_kvs,
                           uint32_t field, enum err *read_err)
{
    struct engine *e = w->e;
    struct doomed d = {0};
    struct index_cursor c;
    int64_t n_deleted = 0;
    index_cursor_init(&c, e->index, s->from, s->to, INDEX_LATEST);
    for (bool more = true; more;) {
        struct fetch f;
        fetch_init(&f, e);
        more = gather(&c, &d, &f);
        if (prev_kvs != NULL && *read_err == OK && d.n > 0) {
            *read_err = append_prev(w, &f, prev_kvs, field);
        }
        lock_write(e);
        size_t at = 0;
        for (size_t i = 0; i < d.n; at += d.lens[i], i++) {
            bury(w, slice_of(d.bytes.data + at, d.lens[i]));
        }
        unlock(e);
        n_deleted += (int64_t)d.n;
        if (more) {
            index_cursor_resume(&c);
        }
    }
    index_cursor_deinit(&c);
    bytes_deinit(&d.bytes);
    return n_deleted;
}

int64_t mvcc_delete_span(struct mvcc_txn *w, const struct span *s, struct bytes *prev_kvs,
                         uint32_t field, enum err *read_err)
{
    w->n_ops++;
    count(w->e->metrics.deletes, 1);
    if (s->empty) {
        return 0;
    }
    return s->single ? delete_one(w, s->from, prev_kvs, field, read_err)
                     : delete_many(w, s, prev_kvs, field, read_err);
}

void mvcc_end(struct mvcc_txn *w)
{
    if (w->n_ops > 1) {
        count(w->e->metrics.txns, 1);
    }
}
