/* hash.c - etcd's two hashes, bit by bit (etcd-server.md 5.7, etcd-v3-api.md 7.5, 7.6).
 *
 * HashKV walks backend and tail in bounded batches. A pin at the compact revision C keeps
 * compaction from going beyond C meanwhile, so that the answer does not depend on how long it
 * takes. When no key lives at R, etcd hashes whatever happens to be there; we take what stays after
 * the compaction to C is complete, which is what etcd has then too.
 */
#include "base/hash.h"

#include <stdlib.h>

#include "engine/engine_internal.h"

void hashes_init(struct hashes *h)
{
    int rc = pthread_mutex_init(&h->lock, NULL);
    ASSERT(rc == 0);
    h->n = 0;
}

void hashes_deinit(struct hashes *h)
{
    pthread_mutex_destroy(&h->lock);
}

void hashes_forget(struct hashes *h)
{
    pthread_mutex_lock(&h->lock);
    h->n = 0;
    pthread_mutex_unlock(&h->lock);
}

void hashes_add(struct hashes *h, const struct hash_kv *v)
{
    pthread_mutex_lock(&h->lock);
    if (h->n == ENGINE_HASHES_MAX) {
        memmove(&h->v[0], &h->v[1], (ENGINE_HASHES_MAX - 1) * sizeof(h->v[0]));
        h->n--;
    }
    /* Passes ascend, so the newest goes last. */
    h->v[h->n++] = *v;
    pthread_mutex_unlock(&h->lock);
}

static bool hashes_find(struct hashes *h, int64_t revision, struct hash_kv *out)
{
    bool found = false;
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->n && !found; i++) {
        found = h->v[i].hash_revision == revision;
        if (found) {
            *out = h->v[i];
        }
    }
    pthread_mutex_unlock(&h->lock);
    return found;
}

size_t engine_compaction_hashes(struct engine *e, struct hash_kv *out, size_t n_max)
{
    struct hashes *h = &e->hashes;
    pthread_mutex_lock(&h->lock);
    size_t n = h->n < n_max ? h->n : n_max;
    memcpy(out, h->v + (h->n - n), n * sizeof(*out)); /* of too many the newest */
    pthread_mutex_unlock(&h->lock);
    return n;
}

struct hasher {
    struct engine *e;
    struct hash_rules rules;
    uint32_t crc;
    uint64_t generation; /* another: what was hashed so far is of another store */
};

bool hash_counts(const struct index *x, const struct hash_rules *r, struct rev rev, bool tombstone, struct slice key)
{
    struct key_version v;
    if (rev.main > r->compacted) {
        return true;
    }
    if (tombstone) {
        return false; /* below the compact revision it goes, and at it etcd leaves it out */
    }
    bool found = r->keep_is_empty ? index_version_at(x, key, r->compacted, &v) : index_get(x, key, r->revision, &v);
    return found && rev_cmp(v.mod, rev) == 0;
}

/* Whether a record at or below the compact revision counts. The lock is held. */
static bool counts(const struct hasher *h, const struct batch_item *it)
{
    struct kv_view kv;
    enum err err = record_view(it->kv, it->tombstone, &kv);
    ASSERT(err == OK); /* its checksum was right */
    return hash_counts(h->e->index, &h->rules, it->rev, it->tombstone, kv.key);
}

#define HASH_LOOKUPS 64u /* under one hold of the lock */

static void feed(struct hasher *h, const struct batch_item *items, size_t n)
{
    bool take[HASH_LOOKUPS];
    bool locked = n > 0 && items[0].rev.main <= h->rules.compacted;
    if (locked) {
        lock_read(h->e);
    }
    for (size_t i = 0; i < n; i++) {
        take[i] = items[i].rev.main > h->rules.compacted || counts(h, &items[i]);
    }
    if (locked) {
        unlock(h->e);
    }
    for (size_t i = 0; i < n; i++) {
        if (take[i]) {
            uint8_t key[RECORD_KEY_BYTES_MAX];
            size_t len = record_key_encode(key, items[i].rev, items[i].tombstone);
            h->crc = crc32c(h->crc, key, len);
            h->crc = crc32c(h->crc, items[i].kv.data, items[i].kv.len);
        }
    }
}

static enum err still_valid(const struct hasher *h, const struct pin *pin, struct err_ctx *ec)
{
    if (engine_generation(h->e) != h->generation) {
        return err_set(ec, ERR_LEADER_CHANGED, "a snapshot replaced the store");
    }
    bool lost = atomic_load_explicit(&pin->lost, memory_order_acquire);
    return lost ? err_set(ec, ERR_COMPACTED, "the hash took too long") : OK;
}

static enum err hash_records(struct hasher *h, const struct pin *pin, struct err_ctx *ec)
{
    struct batch *b = xalloc(sizeof(*b));
    struct rev at = {0, -1};
    enum err err = OK;
    bool ended = h->rules.revision < 0;
    while (err == OK && !ended) {
        err = still_valid(h, pin, ec);
        if (err != OK) {
            break;
        }
        err = store_batch(h->e, at, h->rules.revision, b, ec);
        if (err != OK) {
            break;
        }
        for (size_t i = 0; i < b->n; i += HASH_LOOKUPS) {
            feed(h, &b->items[i], b->n - i < HASH_LOOKUPS ? b->n - i : HASH_LOOKUPS);
        }
        at = b->reached;
        ended = b->at_end;
        store_batch_release(b);
    }
    if (err == OK) {
        err = still_valid(h, pin, ec);
    }
    free(b);
    return err;
}

enum err engine_hash_kv(struct engine *e, int64_t revision, struct hash_kv *out, struct err_ctx *ec)
{
    /* 0 asks for the live revision, also when there was a compaction to 0. */
    if (revision != 0 && hashes_find(&e->hashes, revision, out)) {
        out->live_revision = engine_revision(e);
        return OK;
    }
    uint64_t now_ms = atomic_load_explicit(&e->now_ms, memory_order_relaxed);
    struct pin pin;
    lock_read(e);
    int64_t live = atomic_load_explicit(&e->revision, memory_order_acquire);
    struct hasher h = {
        .e = e,
        .rules = {.compacted = atomic_load_explicit(&e->compact_revision, memory_order_relaxed),
                  .revision = revision == 0 ? live : revision},
        .crc = crc32c(0, bucket_name(BUCKET_KEY), strlen(bucket_name(BUCKET_KEY))),
        .generation = engine_generation(e),
    };
    enum err err = revision > live                          ? ERR_FUTURE_REV
                   : revision > 0 && revision < h.rules.compacted ? ERR_COMPACTED
                                                            : OK;
    bool pinned = err == OK && pins_add(&e->pins, &pin, h.rules.compacted, now_ms);
    if (pinned) {
        h.rules.keep_is_empty = h.rules.revision < 0 || index_count(e->index, (struct slice){0},
                                                        (struct slice){0}, h.rules.revision) == 0;
    }
    unlock(e);
    if (err != OK) {
        return err_set(ec, err, "hash of revision %lld", (long long)revision);
    }
    if (!pinned) {
        return err_set(ec, ERR_TOO_MANY_REQUESTS, "%u large reads are under way", ENGINE_PINS_MAX);
    }
    uint64_t before = now_ns(e);
    err = hash_records(&h, &pin, ec);
    pins_remove(&e->pins, &pin);
    if (err == OK) {
        observe_ns(e, e->metrics.hash_rev, before);
        *out = (struct hash_kv){h.crc, h.rules.compacted, h.rules.revision, live};
    }
    return err;
}

/* --- Hash: everything
 * ---------------------------------------------------------------------------------- */

static bool is_skipped(enum bucket b, struct slice key)
{
    return b == BUCKET_META &&
           (slice_eq(key, slice_str(ROW_CONSISTENT_INDEX)) || slice_eq(key, slice_str(ROW_TERM)) ||
            slice_eq(key, slice_str("storageVersion")));
}

static enum err hash_bucket(const struct store_read *read, enum bucket b, uint32_t *crc,
                            struct err_ctx *ec)
{
    const struct backend_ops *ops = store_read_ops(read);
    struct backend_cursor *c = NULL;
    enum err err = ops->cursor_open(read->read, b, (struct slice){0}, &c, ec);
    *crc = crc32c(*crc, bucket_name(b), strlen(bucket_name(b)));
    while (err == OK) {
        struct slice key;
        struct slice value;
        err = ops->cursor_next(c, &key, &value);
        if (err == OK && b == BUCKET_KEY) {
            err = err_wrap(ec, record_check(key, value, &value), "bucket key");
        }
        if (err == OK && !is_skipped(b, key)) {
            *crc = crc32c(*crc, key.data, key.len);
            *crc = crc32c(*crc, value.data, value.len);
        }
    }
    ops->cursor_close(&c);
    return err == ERR_END ? OK : err;
}

enum err engine_hash(struct engine *e, uint32_t *hash, int64_t *revision, struct err_ctx *ec)
{
    struct store_read read = {0};
    uint64_t before = now_ns(e);
    lock_read(e);
    enum err err = store_read_begin(e, &read, ec);
    unlock(e);
    if (err != OK) {
        return err;
    }
    uint32_t crc = 0;
    for (int b = 0; err == OK && b < BUCKET_PINTLE; b++) {
        err = hash_bucket(&read, (enum bucket)b, &crc, ec);
    }
    store_read_end(&read);
    if (err == OK) {
        observe_ns(e, e->metrics.hash, before);
        *hash = crc;
        *revision = engine_revision(e);
    }
    return err;
}
