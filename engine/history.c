/* history.c - the feed's past, from backend and tail. */
#include <stdlib.h>

#include "engine/engine_internal.h"

/* A record as the watchers' change. The change's kv is a reference of the caller's. */
static struct change change_of(const struct batch_item *it)
{
    struct kv_view kv;
    enum err err = record_view(it->kv, it->tombstone, &kv);
    ASSERT(err == OK); /* its checksum was right */
    struct change c = {.rev = it->rev, .deleted = it->tombstone, .created = kv.version == 1};
    if (it->tombstone) {
        kv.mod_revision = it->rev.main;
        c.kv = kv_encode_buf(&kv);
        err = kv_decode(buf_slice(c.kv), &kv);
        ASSERT(err == OK);
        c.key = kv.key;
        return c;
    }
    c.kv = it->hold != NULL ? buf_ref(it->hold) : buf_copy(it->kv);
    c.key = slice_of(c.kv->data + (kv.key.data - it->kv.data), kv.key.len);
    return c;
}

struct walk {
    void (*each)(void *arg, const struct change *c);
    void *arg;
    size_t n_revisions;
    size_t n_revisions_max;
    size_t bytes;
    size_t bytes_max;
    int64_t last; /* revision of the newest change given */
    bool full;
};

static void give(struct walk *w, const struct batch *b)
{
    for (size_t i = 0; i < b->n && !w->full; i++) {
        if (b->items[i].rev.main != w->last) {
            /* Only between revisions may the walk stop. */
            w->full = w->n_revisions == w->n_revisions_max || w->bytes > w->bytes_max;
            if (w->full) {
                break;
            }
            w->n_revisions++;
            w->last = b->items[i].rev.main;
        }
        struct change c = change_of(&b->items[i]);
        w->bytes += c.kv->len;
        w->each(w->arg, &c);
        buf_unref(&c.kv);
    }
}

enum err engine_history(struct engine *e, int64_t from, int64_t to, size_t n_revisions_max,
                        size_t bytes_max, void (*each)(void *arg, const struct change *c),
                        void *arg, int64_t *next, struct err_ctx *ec)
{
    int64_t live = engine_revision(e);
    int64_t end = to < live ? to : live;
    struct walk w = {.each = each,
                     .arg = arg,
                     .n_revisions_max = n_revisions_max,
                     .bytes_max = bytes_max,
                     .last = -1};
    struct rev at = {from > 0 ? from - 1 : 0, INT64_MAX};
    struct batch *b = xalloc(sizeof(*b));
    enum err err = OK;
    bool ended = from > end;
    while (err == OK && !ended && !w.full) {
        /* Asked after the batch, too: what a batch found above the compact revision was complete
         * only if it still is. */
        err = store_batch(e, at, end, b, ec);
        if (err != OK) {
            break;
        }
        int64_t first = w.last < 0 ? from : at.main;
        if (first < engine_compact_revision(e)) {
            err = err_set(ec, ERR_COMPACTED, "history from %lld, compacted %lld", (long long)first,
                          (long long)engine_compact_revision(e));
        } else {
            give(&w, b);
            at = b->reached;
            ended = b->at_end;
        }
        store_batch_release(b);
    }
    free(b);
    if (err == OK && from < engine_compact_revision(e) && w.last < 0) {
        err = err_set(ec, ERR_COMPACTED, "history from %lld", (long long)from);
    }
    if (err == OK) {
        *next = w.full ? w.last + 1 : end + 1;
    }
    return err;
}

enum err engine_kv_at(struct engine *e, struct slice key, int64_t at, struct buf **out,
                      struct err_ctx *ec)
{
    struct fetch f;
    struct key_version v;
    fetch_init(&f, e);
    *out = NULL;
    enum err err = OK;
    lock_read(e);
    if (at >= atomic_load_explicit(&e->compact_revision, memory_order_relaxed) &&
        index_get(e->index, key, at, &v)) {
        fetch_add(&f, v.mod);
        err = fetch_hold(&f, ec);
    }
    unlock(e);
    if (err == OK) {
        err = fetch_read(&f, ec);
    }
    if (err == OK && f.n > 0) {
        *out = f.holds[0] != NULL ? buf_ref(f.holds[0]) : buf_copy(f.kvs[0]);
    }
    fetch_release(&f);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}
