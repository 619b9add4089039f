/* watch_model.c - the past of a feed, made up. */
#include "watch_model.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

struct model_key model_key(unsigned i)
{
    static const uint8_t letters[] = {0x00, 'a', 'b', 0xff};
    struct model_key k = {.len = 1 + i / 20};
    for (size_t j = 0; j < k.len; j++) {
        k.bytes[j] = letters[(i >> (2 * j)) & 3u];
    }
    return k;
}

int64_t engine_revision(const struct engine *e)
{
    return e->live;
}

int64_t engine_compact_revision(const struct engine *e)
{
    return e->compact;
}

enum err engine_history(struct engine *e, int64_t from, int64_t to, size_t n_revisions_max,
                        size_t bytes_max, void (*each)(void *arg, const struct change *c),
                        void *arg, int64_t *next, struct err_ctx *ec)
{
    e->n_history_calls++;
    assert_true(from >= 2);
    assert_true(to <= e->live);
    if (e->broken) {
        return err_set(ec, ERR_CORRUPT, "broken");
    }
    if (from < e->compact) {
        return err_set(ec, ERR_COMPACTED, "compacted");
    }
    size_t n = 0;
    size_t bytes = 0;
    int64_t r = from;
    for (; r <= to && n < n_revisions_max && bytes < bytes_max; r++, n++) {
        struct event_batch *b = e->batches[r];
        for (size_t i = 0; i < b->n; i++) {
            struct change c = b->changes[i]; /* gone after the call, as the engine's may be */
            each(arg, &c);
            bytes += c.kv->len;
            memset(&c, 0xee, sizeof(c));
        }
    }
    *next = r;
    return OK;
}

struct buf *model_kv_at(struct engine *e, struct slice key, int64_t at)
{
    for (int64_t r = at; r >= 2; r--) {
        struct event_batch *b = e->batches[r];
        for (size_t i = b->n; i > 0; i--) {
            if (slice_eq(b->changes[i - 1].key, key)) {
                return b->changes[i - 1].deleted ? NULL : b->changes[i - 1].kv;
            }
        }
    }
    return NULL;
}

enum err engine_kv_at(struct engine *e, struct slice key, int64_t at, struct buf **out,
                      struct err_ctx *ec)
{
    (void)ec;
    struct buf *b = at < e->compact ? NULL : model_kv_at(e, key, at);
    *out = b == NULL ? NULL : buf_ref(b);
    return OK;
}

uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void model_change(struct engine *e, struct event_batch *b, unsigned k, bool deletion)
{
    struct model_key mk = model_key(k);
    struct change *c = &b->changes[b->n];
    e->version[k] = deletion ? 0 : e->version[k] + 1;
    struct kv_view kv = {.key = slice_of(mk.bytes, mk.len), .mod_revision = b->revision};
    if (!deletion) {
        kv.version = e->version[k];
        kv.create_revision = b->revision - e->version[k] + 1;
        kv.value = slice_of(&b->revision, sizeof(b->revision));
    }
    c->rev = (struct rev){b->revision, (int64_t)b->n};
    c->deleted = deletion;
    c->created = !deletion && e->version[k] == 1;
    c->kv = kv_encode_buf(&kv);
    c->key = slice_of(c->kv->data + 2, mk.len); /* behind tag and length */
    b->n++;
}

void model_write(struct engine *e, uint64_t *rng, unsigned n_max)
{
    struct event_batch *b = xcalloc(1, sizeof(*b) + n_max * sizeof(struct change));
    atomic_init(&b->refs, 1);
    ASSERT(e->live + 1 < N_REVISIONS_MAX);
    b->revision = e->live + 1;
    unsigned k = (unsigned)(next_random(rng) % N_KEYS);
    unsigned n = 1 + (unsigned)(next_random(rng) % n_max);
    for (unsigned i = 0; i < n; i++) {
        model_change(e, b, k, e->version[k] > 0 && next_random(rng) % 3 == 0);
        k = (k + 1 + (unsigned)(next_random(rng) % 3)) % N_KEYS;
    }
    e->batches[++e->live] = b;
}

struct engine *model_create(void)
{
    struct engine *e = xcalloc(1, sizeof(*e));
    e->live = 1;
    e->compact = -1;
    return e;
}

void model_destroy(struct engine *e)
{
    for (int64_t r = 2; r <= e->live; r++) {
        assert_int_equal(e->batches[r]->refs, 1);
        event_batch_unref(&e->batches[r]);
        assert_null(e->batches[r]);
    }
    free(e);
}
