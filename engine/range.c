/* range.c - reading ranges of keys.
 *
 * A small result is collected under one hold of the lock: the index gives the revisions, the tail
 * or a snapshot of the backend begun under the same lock gives the records. That needs no pin. A
 * larger one is first counted and sized by walking the index in bounded steps, and later read again
 * chunk by chunk; between the steps a pin keeps its versions from being compacted. A range with
 * another order than the keys' is collected as a list of revisions, sorted, cut to the limit, and
 * read in that order.
 *
 *     open ── small ──► DONE          open ── large ──► WALK ──► ... ──► end of keys
 *          └─ sorted ──► REFS ──► ... ──► end of list
 */
#include <stdlib.h>

#include "base/wire.h"
#include "engine/range_internal.h"

#define KVS_FIELD 2u
#define REFS_FIRST 64u

struct span span_of(ProtobufCBinaryData key, ProtobufCBinaryData range_end)
{
    struct span s = {.from = slice_pb(key), .single = range_end.len == 0};
    if (range_end.len == 1 && range_end.data[0] == 0) {
        return s; /* to the end */
    }
    s.to = slice_pb(range_end);
    s.empty = !s.single && slice_cmp(s.from, s.to) >= 0;
    return s;
}

size_t range_field_bytes(size_t kv_bytes)
{
    return 1 + wire_varint_size(kv_bytes) + kv_bytes;
}

static bool has_filters(const Etcdserverpb__RangeRequest *r)
{
    return r->min_mod_revision != 0 || r->max_mod_revision != 0 || r->min_create_revision != 0 ||
           r->max_create_revision != 0;
}

static bool passes(const Etcdserverpb__RangeRequest *r, const struct key_version *v)
{
    return (r->max_mod_revision == 0 || v->mod.main <= r->max_mod_revision) &&
           (r->min_mod_revision == 0 || v->mod.main >= r->min_mod_revision) &&
           (r->max_create_revision == 0 || v->create_revision <= r->max_create_revision) &&
           (r->min_create_revision == 0 || v->create_revision >= r->min_create_revision);
}

static bool is_sorted_range(const Etcdserverpb__RangeRequest *r)
{
    return r->sort_target != ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY ||
           r->sort_order == ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
}

/* Survivors of the filters that must be seen before the rest cannot matter: one more than the limit
 * tells `more`. */
static int64_t survivors_wanted(const Etcdserverpb__RangeRequest *r)
{
    bool all = r->limit <= 0 || r->limit == INT64_MAX;
    /* etcd cuts before it sorts when no order is asked for and nothing is filtered. */
    bool sorts_all =
        is_sorted_range(r) &&
        (r->sort_order != ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE || has_filters(r));
    return all || sorts_all ? INT64_MAX : r->limit + 1;
}

static bool pin_lost(const struct range_read *rr)
{
    return rr->pinned && atomic_load_explicit(&rr->pin.lost, memory_order_acquire);
}

/* What the rest of the read would come from is not what it began on, or no longer all there. Under
 * the lock, before anything of the index is touched. */
static enum err still_valid(const struct range_read *rr, struct err_ctx *ec)
{
    if (engine_generation(rr->e) != rr->generation) {
        return err_set(ec, ERR_LEADER_CHANGED, "a snapshot replaced the store");
    }
    return pin_lost(rr) ? err_set(ec, ERR_COMPACTED, "the read was too slow") : OK;
}

/* A record that is gone was compacted if our hold on it was lost, and is damage otherwise. */
static enum err missing(const struct range_read *rr, enum err err, struct err_ctx *ec)
{
    if (err != ERR_NOT_FOUND) {
        return err;
    }
    return pin_lost(rr) ? err_set(ec, ERR_COMPACTED, "the read was too slow")
                        : err_wrap(ec, ERR_CORRUPT, "record is missing");
}

/* --- walking the index
 * ------------------------------------------------------------------------------- */

struct tally {
    int64_t survivors;
    int64_t n_kvs;  /* of them within the limit */
    uint64_t bytes; /* of their kvs fields, as the index knows them */
    bool ended;
};

static void cursor_open(struct range_read *rr)
{
    index_cursor_init(&rr->cursor, rr->e->index, rr->span.from, rr->span.to, rr->at);
    rr->walking = true;
}

static void cursor_close(struct range_read *rr)
{
    if (rr->walking) {
        index_cursor_deinit(&rr->cursor);
        rr->walking = false;
    }
}

/* The next survivor. `*budget` is how many keys may still be looked at under this hold of the lock.
 */
static bool next_survivor(struct range_read *rr, struct tally *t, size_t *budget,
                          struct key_version *v)
{
    while (*budget > 0 && !t->ended) {
        struct slice key;
        (*budget)--;
        if (rr->span.single) {
            t->ended = true;
            if (!index_get(rr->e->index, rr->span.from, rr->at, v)) {
                return false;
            }
        } else if (!index_cursor_next(&rr->cursor, &key, v)) {
            t->ended = true;
            return false;
        }
        if (passes(rr->r, v)) {
            t->survivors++;
            return true;
        }
    }
    return false;
}

/* One step of counting and sizing; with `f`, revisions are gathered too. */
static void walk_step(struct range_read *rr, struct tally *t, struct fetch *f)
{
    int64_t wanted = survivors_wanted(rr->r);
    int64_t limit = rr->r->limit > 0 ? rr->r->limit : INT64_MAX;
    size_t budget = ENGINE_STEP_KEYS;
    struct key_version v;
    while (next_survivor(rr, t, &budget, &v)) {
        if (t->survivors <= limit) {
            t->n_kvs++;
            t->bytes += range_field_bytes(v.kv_bytes);
            if (f != NULL) {
                fetch_add(f, v.mod);
            }
        }
        if (t->survivors >= wanted) {
            t->ended = true;
        }
    }
}

/* --- encoding
 * ----------------------------------------------------------------------------------------- */

static struct slice without_value(struct slice kv, uint8_t **scratch, size_t *cap)
{
    struct kv_view view;
    enum err err = kv_decode(kv, &view);
    ASSERT(err == OK); /* its checksum was right */
    view.value = (struct slice){0};
    size_t n = kv_encoded_size(&view);
    if (n > *cap) {
        *scratch = xrealloc(*scratch, n);
        *cap = n;
    }
    kv_encode(*scratch, &view);
    return slice_of(*scratch, n);
}

static size_t encoded_bytes(const struct range_read *rr, const struct slice *kvs, size_t n)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        size_t len = kvs[i].len;
        if (rr->r->keys_only) {
            struct kv_view view;
            enum err err = kv_decode(kvs[i], &view);
            ASSERT(err == OK);
            view.value = (struct slice){0};
            len = kv_encoded_size(&view);
        }
        total += range_field_bytes(len);
    }
    return total;
}

static void chunk_encode(struct range_read *rr, const struct slice *kvs, size_t n)
{
    size_t total = encoded_bytes(rr, kvs, n);
    if (total > rr->chunk_cap) {
        if (rr->chunk != rr->room) {
            free(rr->chunk);
        }
        rr->chunk = xalloc(total);
        rr->chunk_cap = total;
    }
    uint8_t *p = rr->chunk;
    uint8_t *scratch = NULL;
    size_t scratch_cap = 0;
    for (size_t i = 0; i < n; i++) {
        struct slice kv = rr->r->keys_only ? without_value(kvs[i], &scratch, &scratch_cap) : kvs[i];
        p = wire_put_varint(wire_put_tag(p, KVS_FIELD, WIRE_LEN), kv.len);
        memcpy(p, kv.data, kv.len);
        p += kv.len;
    }
    free(scratch);
    rr->chunk_len = (size_t)(p - rr->chunk);
    rr->chunk_at = 0;
    ASSERT(rr->chunk_len == total);
    rr->left -= (int64_t)n;
}

/* --- chunks of a large range
 * ---------------------------------------------------------------------------- */

static enum err walk_gather(struct range_read *rr, struct fetch *f)
{
    struct tally t = {0};
    size_t budget = ENGINE_STEP_KEYS;
    struct key_version v;
    if (rr->walking) {
        index_cursor_resume(&rr->cursor);
    } else {
        cursor_open(rr);
    }
    while (t.bytes < RANGE_CHUNK_BYTES && (int64_t)f->n < rr->left &&
           next_survivor(rr, &t, &budget, &v)) {
        t.bytes += range_field_bytes(v.kv_bytes);
        fetch_add(f, v.mod);
    }
    if (t.ended && (int64_t)f->n < rr->left) {
        return ERR_NOT_FOUND; /* fewer keys than were counted */
    }
    return OK;
}

static void refs_gather(struct range_read *rr, struct fetch *f)
{
    size_t bytes = 0;
    while (rr->ref_at + f->n < rr->n_refs && f->n < FETCH_MAX && bytes < RANGE_CHUNK_BYTES) {
        const struct range_ref *ref = &rr->refs[rr->ref_at + f->n];
        bytes += range_field_bytes(ref->kv_bytes);
        fetch_add(f, ref->rev);
    }
}

static enum err refs_chunk_of_values(struct range_read *rr)
{
    struct slice kvs[FETCH_MAX];
    size_t n = 0;
    size_t bytes = 0;
    while (rr->ref_at < rr->n_refs && n < FETCH_MAX && bytes < RANGE_CHUNK_BYTES) {
        kvs[n] = buf_slice(rr->refs[rr->ref_at++].kv);
        bytes += kvs[n++].len;
    }
    chunk_encode(rr, kvs, n);
    return OK;
}

/* Fill the chunk with the next kvs. */
static enum err next_chunk(struct range_read *rr, struct err_ctx *ec)
{
    if (rr->mode == RANGE_REFS && rr->refs[rr->ref_at].kv != NULL) {
        return refs_chunk_of_values(rr);
    }
    struct fetch f;
    fetch_init(&f, rr->e);
    lock_read(rr->e);
    enum err err = still_valid(rr, ec);
    if (err == OK && rr->mode == RANGE_WALK) {
        err = walk_gather(rr, &f);
    } else if (err == OK) {
        refs_gather(rr, &f);
    }
    if (err == OK) {
        err = fetch_hold(&f, ec);
    } else {
        f.n = 0;
    }
    unlock(rr->e);
    if (err == OK) {
        err = fetch_read(&f, ec);
    }
    if (err == OK) {
        rr->ref_at += f.n;
        chunk_encode(rr, f.kvs, f.n);
    }
    fetch_release(&f);
    return missing(rr, err, ec);
}

/* --- opening
 * ------------------------------------------------------------------------------------------- */

static struct range_read *create(struct engine *e, const Etcdserverpb__RangeRequest *r, int64_t at,
                                 size_t room)
{
    struct range_read *rr = xalloc(sizeof(*rr) + room);
    memset(rr, 0, sizeof(*rr));
    rr->e = e;
    rr->r = r;
    rr->span = span_of(r->key, r->range_end);
    rr->at = at;
    rr->generation = engine_generation(e);
    rr->chunk = rr->room;
    rr->chunk_cap = room;
    return rr;
}

static int64_t count_keys(const struct engine *e, const struct span *s, int64_t at)
{
    struct key_version v;
    if (s->empty) {
        return 0;
    }
    return s->single ? index_get(e->index, s->from, at, &v)
                     : index_count(e->index, s->from, s->to, at);
}

/* One key, the most frequent of all requests: one allocation, nothing walked. */
static enum err open_one(struct engine *e, const Etcdserverpb__RangeRequest *r, int64_t at,
                         struct range_read **out, struct range_info *info, struct err_ctx *ec)
{
    struct fetch f;
    struct key_version v;
    fetch_init(&f, e);
    bool found = index_get(e->index, slice_pb(r->key), at, &v);
    info->count = found;
    enum err err = OK;
    if (found && !r->count_only && passes(r, &v)) {
        fetch_add(&f, v.mod);
        err = fetch_hold(&f, ec);
    }
    unlock(e);
    if (err == OK) {
        err = fetch_read(&f, ec);
    }
    if (err == OK) {
        *out = create(e, r, at, f.n == 0 ? 0 : range_field_bytes(f.kvs[0].len));
        (*out)->left = (int64_t)f.n;
        chunk_encode(*out, f.kvs, f.n);
        info->n_kvs = (int64_t)f.n;
        info->kvs_bytes = (*out)->chunk_len;
    }
    fetch_release(&f);
    return err == ERR_NOT_FOUND ? err_wrap(ec, ERR_CORRUPT, "record is missing") : err;
}

static enum err add_pin(struct range_read *rr, bool pin, uint64_t now_ms, struct err_ctx *ec)
{
    if (!pin) {
        return OK;
    }
    rr->pinned = pins_add(&rr->e->pins, &rr->pin, rr->at, now_ms);
    return rr->pinned ? OK
                      : err_set(ec, ERR_TOO_MANY_REQUESTS, "%u large ranges are being read",
                                ENGINE_PINS_MAX);
}

/* The lock is released now and then, so that writers get in. */
static enum err breathe(struct range_read *rr, struct err_ctx *ec)
{
    unlock(rr->e);
    lock_read(rr->e);
    enum err err = still_valid(rr, ec);
    if (err == OK && rr->walking) {
        index_cursor_resume(&rr->cursor);
    }
    return err;
}

/* keys_only needs the records to know their leases, and with them the size. The walk begins anew.
 */
static enum err size_by_reading(struct range_read *rr, uint64_t *bytes, struct err_ctx *ec)
{
    int64_t n = rr->left;
    enum err err = OK;
    *bytes = 0;
    while (err == OK && rr->left > 0) {
        err = next_chunk(rr, ec);
        *bytes += rr->chunk_len;
    }
    rr->left = n;
    rr->ref_at = 0;
    rr->chunk_len = 0;
    rr->chunk_at = 0;
    cursor_close(rr);
    return err;
}

/* In key order, with the lock held; released on return. */
static enum err open_walk(struct range_read *rr, bool pin, uint64_t now_ms, struct range_info *info,
                          struct err_ctx *ec)
{
    struct tally t = {0};
    struct fetch f;
    fetch_init(&f, rr->e);
    cursor_open(rr);
    walk_step(rr, &t, &f);
    if (t.ended && t.bytes <= RANGE_WHOLE_BYTES) {
        enum err err = fetch_hold(&f, ec);
        unlock(rr->e);
        cursor_close(rr);
        if (err == OK) {
            err = fetch_read(&f, ec);
        }
        if (err == OK) {
            rr->left = t.n_kvs;
            chunk_encode(rr, f.kvs, f.n);
            info->kvs_bytes = rr->chunk_len;
        }
        fetch_release(&f);
        info->n_kvs = t.n_kvs;
        info->more = t.survivors > t.n_kvs;
        return missing(rr, err, ec);
    }
    f.n = 0;
    enum err err = add_pin(rr, pin, now_ms, ec);
    while (err == OK && !t.ended) {
        err = breathe(rr, ec);
        if (err == OK) {
            walk_step(rr, &t, NULL);
        }
    }
    unlock(rr->e);
    cursor_close(rr);
    rr->mode = RANGE_WALK;
    rr->left = t.n_kvs;
    info->n_kvs = t.n_kvs;
    info->more = t.survivors > t.n_kvs;
    info->kvs_bytes = t.bytes;
    if (err == OK && rr->r->keys_only) {
        err = size_by_reading(rr, &info->kvs_bytes, ec);
    }
    return err;
}

/* --- sorted ranges
 * --------------------------------------------------------------------------------------- */

static int64_t order_of(const Etcdserverpb__RangeRequest *r, const struct key_version *v,
                        size_t ordinal)
{
    switch ((int)r->sort_target) {
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VERSION:
        return v->version;
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE:
        return v->create_revision;
    case ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD:
        return v->mod.main;
    default: /* KEY, and VALUE until the values are read */
        return (int64_t)ordinal;
    }
}

/* Who is turned around as a whole is put the other way round before. */
static uint32_t place_of(const Etcdserverpb__RangeRequest *r, size_t ordinal)
{
    bool descends = r->sort_order == ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
    return descends ? UINT32_MAX - (uint32_t)ordinal : (uint32_t)ordinal;
}

static enum err collect_refs(struct range_read *rr, struct tally *t, struct err_ctx *ec)
{
    int64_t wanted = survivors_wanted(rr->r);
    size_t cap = 0;
    for (;;) {
        size_t budget = ENGINE_STEP_KEYS;
        struct key_version v;
        while (next_survivor(rr, t, &budget, &v)) {
            if (rr->n_refs == RANGE_REFS_MAX) {
                return err_set(ec, ERR_LIMIT, "more than %u keys to sort", RANGE_REFS_MAX);
            }
            if (rr->n_refs == cap) {
                cap = cap == 0 ? REFS_FIRST : cap * 2;
                rr->refs = xrealloc(rr->refs, cap * sizeof(*rr->refs));
            }
            rr->refs[rr->n_refs] = (struct range_ref){
                v.mod, v.kv_bytes, place_of(rr->r, rr->n_refs), order_of(rr->r, &v, rr->n_refs), NULL};
            rr->n_refs++;
            if (t->survivors >= wanted) {
                t->ended = true;
            }
        }
        if (t->ended) {
            return OK;
        }
        enum err err = breathe(rr, ec);
        if (err != OK) {
            return err;
        }
    }
}

/* Read every record and keep it, because the order needs the values. */
static enum err load_values(struct range_read *rr, struct err_ctx *ec)
{
    uint64_t total = 0;
    enum err err = OK;
    for (size_t i = 0; err == OK && i < rr->n_refs;) {
        struct fetch f;
        fetch_init(&f, rr->e);
        lock_read(rr->e);
        rr->ref_at = i;
        refs_gather(rr, &f);
        err = still_valid(rr, ec);
        if (err == OK) {
            err = fetch_hold(&f, ec);
        } else {
            f.n = 0;
        }
        unlock(rr->e);
        if (err == OK) {
            err = fetch_read(&f, ec);
        }
        for (size_t k = 0; err == OK && k < f.n; k++) {
            struct kv_view view;
            enum err bad = kv_decode(f.kvs[k], &view);
            ASSERT(bad == OK);
            struct range_ref *ref = &rr->refs[i + k];
            total += f.kvs[k].len;
            if (total > RANGE_SORT_BYTES_MAX) {
                err = err_set(ec, ERR_LIMIT, "more than %u bytes to sort by value",
                              RANGE_SORT_BYTES_MAX);
                break;
            }
            ref->kv = f.holds[k] != NULL ? buf_ref(f.holds[k]) : buf_copy(f.kvs[k]);
            int64_t offset = view.value.len == 0 ? 0 : view.value.data - f.kvs[k].data;
            ref->order = offset << 32 | (int64_t)view.value.len;
        }
        i += f.n;
        fetch_release(&f);
    }
    rr->ref_at = 0;
    return missing(rr, err, ec);
}

static int by_number(const void *a, const void *b)
{
    const struct range_ref *x = a;
    const struct range_ref *y = b;
    return x->order != y->order ? (x->order > y->order) - (x->order < y->order)
                                : (x->place > y->place) - (x->place < y->place);
}

static int by_value(const void *a, const void *b)
{
    const struct range_ref *x = a;
    const struct range_ref *y = b;
    int c = slice_cmp(slice_of(x->kv->data + (x->order >> 32), (size_t)(x->order & UINT32_MAX)),
                      slice_of(y->kv->data + (y->order >> 32), (size_t)(y->order & UINT32_MAX)));
    return c != 0 ? c : (x->place > y->place) - (x->place < y->place);
}

static void sort_refs(struct range_read *rr)
{
    bool by_values = rr->r->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE;
    if (rr->r->sort_target != ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY && rr->n_refs > 0) {
        qsort(rr->refs, rr->n_refs, sizeof(*rr->refs), by_values ? by_value : by_number);
    }
    if (rr->r->sort_order != ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND) {
        return;
    }
    for (size_t i = 0, k = rr->n_refs; i + 1 < k; i++) {
        k--;
        struct range_ref swap = rr->refs[i];
        rr->refs[i] = rr->refs[k];
        rr->refs[k] = swap;
    }
}

static void cut_refs(struct range_read *rr, struct range_info *info)
{
    if (rr->r->limit > 0 && (uint64_t)rr->n_refs > (uint64_t)rr->r->limit) {
        info->more = true;
        for (size_t i = (size_t)rr->r->limit; i < rr->n_refs; i++) {
            buf_unref(&rr->refs[i].kv);
        }
        rr->n_refs = (size_t)rr->r->limit;
    }
    info->n_kvs = (int64_t)rr->n_refs;
    rr->left = info->n_kvs;
    for (size_t i = 0; i < rr->n_refs; i++) {
        info->kvs_bytes += range_field_bytes(rr->refs[i].kv_bytes);
    }
}

/* The lock is held; released on return. */
static enum err open_sorted(struct range_read *rr, bool pin, uint64_t now_ms,
                            struct range_info *info, struct err_ctx *ec)
{
    struct tally t = {0};
    rr->mode = RANGE_REFS;
    enum err err = add_pin(rr, pin, now_ms, ec);
    if (err == OK) {
        cursor_open(rr);
        err = collect_refs(rr, &t, ec);
    }
    unlock(rr->e);
    cursor_close(rr);
    if (err == OK && rr->r->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE) {
        err = load_values(rr, ec);
    }
    if (err != OK) {
        return err;
    }
    sort_refs(rr);
    cut_refs(rr, info);
    if (rr->r->keys_only && rr->n_refs > 0) {
        err = size_by_reading(rr, &info->kvs_bytes, ec);
    }
    /* A small rest is read at once, so that the pin goes soon. */
    if (err == OK && rr->n_refs > 0 && rr->n_refs <= FETCH_MAX &&
        info->kvs_bytes <= RANGE_WHOLE_BYTES) {
        err = next_chunk(rr, ec);
    }
    if (err == OK && rr->left == 0 && rr->pinned) {
        pins_remove(&rr->e->pins, &rr->pin);
        rr->pinned = false;
    }
    return err;
}

enum err range_open_at(struct engine *e, const Etcdserverpb__RangeRequest *r, int64_t at, bool pin,
                       uint64_t now_ms, struct range_read **out, struct range_info *info,
                       struct err_ctx *ec)
{
    count(e->metrics.ranges, 1);
    info->count = 0;
    info->more = false;
    info->n_kvs = 0;
    info->kvs_bytes = 0;
    if (r->range_end.len == 0) {
        return open_one(e, r, at, out, info, ec);
    }
    struct range_read *rr = create(e, r, at, 0);
    info->count = count_keys(e, &rr->span, at);
    if (r->count_only || rr->span.empty) {
        unlock(e);
        *out = rr;
        return OK;
    }
    enum err err = is_sorted_range(r) ? open_sorted(rr, pin, now_ms, info, ec)
                                      : open_walk(rr, pin, now_ms, info, ec);
    if (err != OK) {
        engine_range_close(&rr);
        return err;
    }
    *out = rr;
    return OK;
}

enum err engine_range_open(struct engine *e, const Etcdserverpb__RangeRequest *r, uint64_t now_ms,
                           struct range_read **out, struct range_info *info, struct err_ctx *ec)
{
    engine_note_time(e, now_ms);
    lock_read(e);
    int64_t live = atomic_load_explicit(&e->revision, memory_order_acquire);
    int64_t at = r->revision <= 0 ? live : r->revision;
    int64_t compacted = atomic_load_explicit(&e->compact_revision, memory_order_relaxed);
    info->header_revision = live;
    if (at > live || at < compacted) {
        unlock(e);
        return at > live ? err_set(ec, ERR_FUTURE_REV, "revision %lld, live %lld", (long long)at,
                                   (long long)live)
                         : err_set(ec, ERR_COMPACTED, "revision %lld, compacted %lld",
                                   (long long)at, (long long)compacted);
    }
    return range_open_at(e, r, at, true, now_ms, out, info, ec);
}

/* --- pulling
 * --------------------------------------------------------------------------------------------- */

size_t engine_range_pull(struct range_read *rr, uint8_t *dst, size_t room, enum err *err)
{
    size_t n = 0;
    *err = OK;
    while (n < room) {
        if (rr->chunk_at == rr->chunk_len) {
            if (rr->left == 0) {
                break;
            }
            rr->chunk_len = 0;
            rr->chunk_at = 0;
            *err = next_chunk(rr, NULL);
            if (*err != OK) {
                return 0;
            }
            continue;
        }
        size_t take = rr->chunk_len - rr->chunk_at;
        take = take < room - n ? take : room - n;
        memcpy(dst + n, rr->chunk + rr->chunk_at, take);
        rr->chunk_at += take;
        n += take;
    }
    return n;
}

enum err engine_range_chunk(struct range_read *rr, size_t n_max, size_t bytes_target,
                            struct bytes *out, size_t *n)
{
    size_t start = out->len;
    *n = 0;
    while (*n < n_max && out->len - start < bytes_target) {
        if (rr->chunk_at == rr->chunk_len) {
            if (rr->left == 0) {
                break;
            }
            rr->chunk_len = 0;
            rr->chunk_at = 0;
            enum err err = next_chunk(rr, NULL);
            if (err != OK) {
                return err;
            }
            continue;
        }
        struct slice rest = slice_of(rr->chunk + rr->chunk_at, rr->chunk_len - rr->chunk_at);
        struct wire_field field;
        enum err err = wire_next(&rest, &field);
        ASSERT(err == OK); /* we encoded it */
        size_t len = (size_t)(rest.data - (rr->chunk + rr->chunk_at));
        bytes_add(out, rr->chunk + rr->chunk_at, len);
        rr->chunk_at += len;
        (*n)++;
    }
    return OK;
}

void engine_range_close(struct range_read **rrp)
{
    struct range_read *rr = *rrp;
    *rrp = NULL;
    if (rr == NULL) {
        return;
    }
    if (rr->pinned) {
        pins_remove(&rr->e->pins, &rr->pin);
    }
    cursor_close(rr);
    for (size_t i = 0; i < rr->n_refs; i++) {
        buf_unref(&rr->refs[i].kv);
    }
    free(rr->refs);
    if (rr->chunk != rr->room) {
        free(rr->chunk);
    }
    free(rr);
}
