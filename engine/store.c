/* store.c - tail, rows, and reads over tail and backend. */
#include "engine/store.h"

#include <stdlib.h>

#include "engine/engine_internal.h"

#define TAIL_CHUNKS_FIRST 16u
#define ROWS_FIRST 16u
#define FETCH_AHEAD                                                                                \
    16u /* records looked up before the first of them is checked, so that memory delivers          \
           meanwhile */
#define CACHE_LINE_BYTES 64u
#define PREFETCH_BYTES 512u

/* --- tail
 * ------------------------------------------------------------------------------------------- */

void tail_init(struct tail *t, struct rev stored)
{
    *t = (struct tail){.cap = TAIL_CHUNKS_FIRST, .stored = stored};
    t->chunks = xcalloc(t->cap, sizeof(struct tail_chunk *));
}

static struct tail_chunk **chunk_slot(const struct tail *t, uint64_t number)
{
    return &t->chunks[(number / TAIL_CHUNK_RECORDS) & (t->cap - 1)];
}

static struct tail_record *record_at(const struct tail *t, uint64_t number)
{
    return &(*chunk_slot(t, number))->records[number % TAIL_CHUNK_RECORDS];
}

const struct tail_record *tail_at(const struct tail *t, uint64_t number)
{
    return record_at(t, number);
}

static void grow_ring(struct tail *t)
{
    struct tail_chunk **bigger = xcalloc(t->cap * 2, sizeof(struct tail_chunk *));
    uint64_t first = t->head / TAIL_CHUNK_RECORDS;
    for (uint64_t c = first; c < first + t->cap; c++) {
        bigger[c & (t->cap * 2 - 1)] = t->chunks[c & (t->cap - 1)];
    }
    free(t->chunks);
    t->chunks = bigger;
    t->cap *= 2;
}

void tail_append(struct tail *t, struct rev rev, bool tombstone, struct buf *kv)
{
    if (t->end % TAIL_CHUNK_RECORDS == 0) {
        if (t->end / TAIL_CHUNK_RECORDS - t->head / TAIL_CHUNK_RECORDS >= t->cap) {
            grow_ring(t);
        }
        *chunk_slot(t, t->end) = xcalloc(1, sizeof(struct tail_chunk));
    }
    *record_at(t, t->end) = (struct tail_record){rev, tombstone, kv};
    t->end++;
}

uint64_t tail_above(const struct tail *t, struct rev rev)
{
    uint64_t low = t->head;
    uint64_t high = t->end;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (rev_cmp(record_at(t, mid)->rev, rev) > 0) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

const struct tail_record *tail_find(const struct tail *t, struct rev rev)
{
    if (rev_cmp(rev, t->stored) <= 0) {
        return NULL;
    }
    uint64_t above = tail_above(t, rev);
    if (above == t->head) {
        return NULL;
    }
    const struct tail_record *r = record_at(t, above - 1);
    return rev_cmp(r->rev, rev) == 0 ? r : NULL;
}

void tail_drop(struct tail *t, uint64_t upto, struct tail_dropped *out)
{
    ASSERT(upto >= t->head && upto <= t->published);
    *out = (struct tail_dropped){0};
    if (upto == t->head) {
        return;
    }
    t->stored = record_at(t, upto - 1)->rev;
    while (t->head / TAIL_CHUNK_RECORDS < upto / TAIL_CHUNK_RECORDS) {
        struct tail_chunk **slot = chunk_slot(t, t->head);
        (*slot)->next = out->whole;
        out->whole = *slot;
        *slot = NULL;
        t->head = (t->head / TAIL_CHUNK_RECORDS + 1) * TAIL_CHUNK_RECORDS;
    }
    if (t->head < upto) {
        out->part = *chunk_slot(t, t->head);
        out->part_from = t->head % TAIL_CHUNK_RECORDS;
        out->part_to = upto % TAIL_CHUNK_RECORDS;
        t->head = upto;
    }
}

static void free_chunks(struct tail_chunk *list)
{
    while (list != NULL) {
        struct tail_chunk *next = list->next;
        for (size_t i = 0; i < TAIL_CHUNK_RECORDS; i++) {
            buf_unref(&list->records[i].kv);
        }
        free(list);
        list = next;
    }
}

void tail_free_dropped(struct tail_dropped *d)
{
    free_chunks(d->whole);
    for (uint64_t i = d->part_from; i < d->part_to; i++) {
        buf_unref(&d->part->records[i].kv);
    }
    *d = (struct tail_dropped){0};
}

void tail_deinit(struct tail *t)
{
    for (uint64_t i = 0; t->chunks != NULL && i < t->cap; i++) {
        free_chunks(t->chunks[i]);
    }
    free(t->chunks);
    *t = (struct tail){0};
}

/* --- the backend
 * ---------------------------------------------------------------------------------------- */

struct home *home_create(struct backend *b)
{
    struct home *h = xalloc(sizeof(*h));
    atomic_init(&h->refs, 1);
    h->backend = b;
    return h;
}

struct home *home_ref(struct home *h)
{
    (void)atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
    return h;
}

void home_unref(struct home **hp)
{
    struct home *h = *hp;
    *hp = NULL;
    /* Acquire-release: who closes it sees everything that the others did with it. */
    if (h != NULL && atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1) {
        h->backend->ops->close(&h->backend);
        free(h);
    }
}

struct backend *home_release(struct home **hp)
{
    struct home *h = *hp;
    *hp = NULL;
    struct backend *b = h->backend;
    uint32_t refs = atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel);
    ASSERT(refs == 1);
    free(h);
    return b;
}

enum err store_read_begin(struct engine *e, struct store_read *out, struct err_ctx *ec)
{
    struct backend *b = e->home->backend;
    enum err err = b->ops->read_begin(b, &out->read, ec);
    if (err == OK) {
        out->home = home_ref(e->home);
    }
    return err;
}

void store_read_end(struct store_read *r)
{
    if (r->read != NULL) {
        store_read_ops(r)->read_end(&r->read);
        home_unref(&r->home);
    }
}

/* --- rows
 * ------------------------------------------------------------------------------------------- */

static void add_row(struct rows *r, struct row row)
{
    if (r->n == r->cap) {
        r->cap = r->cap == 0 ? ROWS_FIRST : r->cap * 2;
        r->v = xrealloc(r->v, r->cap * sizeof(*r->v));
    }
    r->v[r->n++] = row;
}

void rows_add(struct rows *r, enum bucket bucket, struct slice key, struct slice value)
{
    add_row(r, (struct row){bucket, buf_copy(key), buf_copy(value)});
    r->bytes += key.len + value.len + RECORD_OVERHEAD_BYTES;
}

void rows_add_delete(struct rows *r, enum bucket bucket, struct slice key)
{
    add_row(r, (struct row){bucket, buf_copy(key), NULL});
    r->bytes += key.len + RECORD_OVERHEAD_BYTES;
}

void rows_move(struct rows *to, struct rows *from)
{
    for (size_t i = 0; i < from->n; i++) {
        add_row(to, from->v[i]);
    }
    to->bytes += from->bytes;
    from->n = 0;
    from->bytes = 0;
}

void rows_deinit(struct rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        buf_unref(&r->v[i].key);
        buf_unref(&r->v[i].value);
    }
    free(r->v);
    *r = (struct rows){0};
}

/* --- reading a few records by revision
 * -------------------------------------------------------------- */

void fetch_init(struct fetch *f, struct engine *e)
{
    /* The arrays are left as they are: this is the hot path, and n says what is set. */
    f->e = e;
    f->read = (struct store_read){0};
    f->n = 0;
    f->n_backend = 0;
}

enum err fetch_hold(struct fetch *f, struct err_ctx *ec)
{
    f->n_backend = 0;
    for (size_t i = 0; i < f->n; i++) {
        const struct tail_record *r = tail_find(&f->e->tail, f->revs[i]);
        f->holds[i] = r == NULL ? NULL : buf_ref(r->kv);
        f->kvs[i] = buf_slice(f->holds[i]);
        f->n_backend += r == NULL;
    }
    if (f->n_backend == 0) {
        return OK;
    }
    return store_read_begin(f->e, &f->read, ec);
}

/* Look a record up; its bytes are not yet checked. Only live versions are ever asked for, never
 * tombstones. */
static enum err find(const struct store_read *r, struct rev rev, struct slice *stored,
                     struct err_ctx *ec)
{
    uint8_t key[RECORD_KEY_BYTES_MAX];
    size_t len = record_key_encode(key, rev, false);
    enum err e = store_read_ops(r)->get(r->read, BUCKET_KEY, slice_of(key, len), stored);
    return e == OK ? OK
                   : err_set(ec, e, "bucket key: revision %lld_%lld", (long long)rev.main,
                             (long long)rev.sub);
}

/* Check the sum of what was found; *kv becomes the record without it. */
static enum err check(struct rev rev, struct slice *kv, struct err_ctx *ec)
{
    uint8_t key[RECORD_KEY_BYTES_MAX];
    size_t len = record_key_encode(key, rev, false);
    enum err e = record_check(slice_of(key, len), *kv, kv);
    return e == OK ? OK
                   : err_set(ec, e, "bucket key: revision %lld_%lld: checksum mismatch",
                             (long long)rev.main, (long long)rev.sub);
}

static int order_cmp(const void *a, const void *b, void *arg)
{
    const struct fetch *f = arg;
    return rev_cmp(f->revs[*(const uint16_t *)a], f->revs[*(const uint16_t *)b]);
}

enum err fetch_read(struct fetch *f, struct err_ctx *ec)
{
    if (f->n_backend == 0) {
        return OK;
    }
    uint16_t order[FETCH_MAX];
    size_t n = 0;
    bool sorted = true;
    for (size_t i = 0; i < f->n; i++) {
        if (f->holds[i] == NULL) {
            sorted = sorted && (n == 0 || rev_cmp(f->revs[order[n - 1]], f->revs[i]) < 0);
            order[n++] = (uint16_t)i;
        }
    }
    /* In revision order neighbours share pages of the backend's tree. */
    if (!sorted) {
        qsort_r(order, n, sizeof(order[0]), order_cmp, f);
    }
    enum err e = OK;
    for (size_t from = 0; e == OK && from < n; from += FETCH_AHEAD) {
        size_t to = n - from < FETCH_AHEAD ? n : from + FETCH_AHEAD;
        for (size_t i = from; e == OK && i < to; i++) {
            struct slice *kv = &f->kvs[order[i]];
            e = find(&f->read, f->revs[order[i]], kv, ec);
            for (size_t at = 0; e == OK && at < kv->len && at < PREFETCH_BYTES;
                 at += CACHE_LINE_BYTES) {
                __builtin_prefetch(kv->data + at);
            }
        }
        for (size_t i = from; e == OK && i < to; i++) {
            e = check(f->revs[order[i]], &f->kvs[order[i]], ec);
        }
    }
    return e;
}

void fetch_release(struct fetch *f)
{
    for (size_t i = 0; i < f->n; i++) {
        buf_unref(&f->holds[i]);
    }
    store_read_end(&f->read);
    f->n = 0;
    f->n_backend = 0;
}

enum err store_read_one(struct engine *e, struct rev rev, struct buf **out, struct err_ctx *ec)
{
    struct store_read read = {0};
    lock_read(e);
    const struct tail_record *r = tail_find(&e->tail, rev);
    enum err err = OK;
    if (r != NULL) {
        *out = buf_ref(r->kv);
    } else {
        err = store_read_begin(e, &read, ec);
    }
    unlock(e);
    if (r != NULL || err != OK) {
        return err;
    }
    struct slice kv;
    err = find(&read, rev, &kv, ec);
    if (err == OK) {
        err = check(rev, &kv, ec);
    }
    if (err == OK) {
        *out = buf_copy(kv);
    }
    store_read_end(&read);
    return err;
}

/* --- reading a run of records
 * ------------------------------------------------------------------------ */

static void batch_from_tail(struct engine *e, uint64_t from, int64_t main_max, struct batch *b)
{
    size_t bytes = 0;
    uint64_t i = from;
    for (; i < e->tail.published && b->n < BATCH_MAX && bytes < BATCH_BYTES; i++) {
        const struct tail_record *r = tail_at(&e->tail, i);
        if (r->rev.main > main_max) {
            break;
        }
        bytes += r->kv->len;
        b->items[b->n++] =
            (struct batch_item){r->rev, r->tombstone, buf_slice(r->kv), buf_ref(r->kv)};
        b->reached = r->rev;
    }
    b->at_end = i == e->tail.published || tail_at(&e->tail, i)->rev.main > main_max;
}

static enum err batch_item_read(struct batch *b, struct slice key, struct slice stored,
                                size_t *bytes, struct err_ctx *ec)
{
    struct batch_item *it = &b->items[b->n];
    *it = (struct batch_item){0};
    enum err e = record_key_decode(key, &it->rev, &it->tombstone);
    if (e != OK) {
        return err_set(ec, e, "bucket key: not a revision");
    }
    e = record_check(key, stored, &it->kv);
    if (e != OK) {
        return err_set(ec, e, "bucket key: revision %lld_%lld: checksum mismatch",
                       (long long)it->rev.main, (long long)it->rev.sub);
    }
    *bytes += it->kv.len;
    return OK;
}

/* `stored` is how far the backend certainly reaches. */
static enum err batch_from_backend(struct rev after, struct rev stored, int64_t main_max,
                                   struct batch *b, struct err_ctx *ec)
{
    const struct backend_ops *ops = store_read_ops(&b->read);
    uint8_t from[RECORD_KEY_BYTES_MAX];
    bool whole = after.sub == INT64_MAX;
    struct rev next = {after.main + whole, whole ? 0 : after.sub + 1};
    size_t from_len = record_key_encode(from, next, false);
    struct backend_cursor *c = NULL;
    enum err err =
        ops->cursor_open(b->read.read, BUCKET_KEY, slice_of(from, from_len), &c, ec);
    size_t bytes = 0;
    while (err == OK && b->n < BATCH_MAX && bytes < BATCH_BYTES) {
        struct slice key;
        struct slice value;
        err = ops->cursor_next(c, &key, &value);
        if (err == OK) {
            err = batch_item_read(b, key, value, &bytes, ec);
        }
        if (err != OK) {
            break;
        }
        if (b->items[b->n].rev.main > main_max) {
            b->at_end = true;
            break;
        }
        b->reached = b->items[b->n].rev;
        b->n++;
    }
    ops->cursor_close(&c);
    if (err == ERR_END) {
        /* Whatever else there is stands in the tail, or did when we looked. */
        if (rev_cmp(b->reached, stored) < 0) {
            b->reached = stored;
        }
        err = OK;
    }
    return err;
}

enum err store_batch(struct engine *e, struct rev after, int64_t main_max, struct batch *b,
                     struct err_ctx *ec)
{
    b->read = (struct store_read){0};
    b->n = 0;
    b->reached = after;
    b->at_end = false;
    enum err err = OK;
    lock_read(e);
    struct rev stored = e->tail.stored;
    bool in_tail = rev_cmp(after, stored) >= 0;
    if (in_tail) {
        batch_from_tail(e, tail_above(&e->tail, after), main_max, b);
    } else {
        err = store_read_begin(e, &b->read, ec);
    }
    unlock(e);
    if (in_tail || err != OK) {
        return err;
    }
    err = batch_from_backend(after, stored, main_max, b, ec);
    if (err != OK) {
        b->n = 0;
        store_batch_release(b);
        return err;
    }
    if (b->reached.main > main_max) {
        b->at_end = true;
    }
    return OK;
}

void store_batch_release(struct batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        buf_unref(&b->items[i].hold);
    }
    b->n = 0;
    store_read_end(&b->read);
}
