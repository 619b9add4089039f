/* cache.c - see cache.h. A plain array: 2048 hashes are compared faster than an index over them is kept. */
#include "api/proxy/cache.h"

#include <stdlib.h>

#include "api/proxy/limits.h"
#include "base/hash.h"
#include "base/mem.h"

struct entry {
    uint64_t hash; /* of token and request */
    uint64_t used; /* when, by the cache's clock */
    int64_t revision;
    struct bytes data; /* owned: token, request, key, end, answer */
    size_t n_token, n_request, n_key, n_end;
};

struct cache {
    struct entry entries[PROXY_CACHE_ENTRIES_MAX];
    size_t n;
    size_t bytes;
    uint64_t clock; /* counts uses */
    uint64_t era;   /* counts clears */
    int64_t compacted, wrote;
};

struct cache *cache_create(void)
{
    struct cache *c = xcalloc(1, sizeof(*c));
    c->compacted = -1;
    return c;
}

static void drop_at(struct cache *c, size_t i)
{
    c->bytes -= c->entries[i].data.len;
    bytes_deinit(&c->entries[i].data);
    c->entries[i] = c->entries[--c->n];
}

void cache_clear(struct cache *c)
{
    while (c->n > 0) {
        drop_at(c, c->n - 1);
    }
    c->era++;
}

uint64_t cache_era(const struct cache *c)
{
    return c->era;
}

void cache_destroy(struct cache **cp)
{
    struct cache *c = *cp;
    *cp = NULL;
    if (c == NULL) {
        return;
    }
    cache_clear(c);
    free(c);
}

static uint64_t hash_of(const struct cache_read *r)
{
    return hash64(r->request.data, r->request.len) * 31u + hash64(r->token.data, r->token.len);
}

/* Where it is, or `n`. */
static size_t find(const struct cache *c, const struct cache_read *r)
{
    uint64_t hash = hash_of(r);
    for (size_t i = 0; i < c->n; i++) {
        const struct entry *e = &c->entries[i];
        if (e->hash == hash && slice_eq(slice_of(e->data.data, e->n_token), r->token) &&
            slice_eq(slice_of(e->data.data + e->n_token, e->n_request), r->request)) {
            return i;
        }
    }
    return c->n;
}

static void make_room(struct cache *c, size_t bytes)
{
    while (c->n == PROXY_CACHE_ENTRIES_MAX || (c->n > 0 && c->bytes + bytes > PROXY_CACHE_BYTES_MAX)) {
        size_t oldest = 0;
        for (size_t i = 1; i < c->n; i++) {
            oldest = c->entries[i].used < c->entries[oldest].used ? i : oldest;
        }
        drop_at(c, oldest);
    }
}

static void add(struct bytes *b, struct slice s)
{
    if (s.len > 0) {
        bytes_add(b, s.data, s.len);
    }
}

void cache_put(struct cache *c, const struct cache_read *r, int64_t answer_revision, struct slice answer)
{
    size_t bytes = r->token.len + r->request.len + r->key.len + r->end.len + answer.len;
    size_t i = find(c, r);
    if (i < c->n) {
        drop_at(c, i);
    }
    if (bytes > PROXY_CACHE_ENTRY_BYTES_MAX || r->era != c->era || (r->revision > 0 && r->revision <= c->compacted) || (r->revision == 0 && answer_revision < c->wrote)) {
        return;
    }
    make_room(c, bytes);
    struct entry *e = &c->entries[c->n++];
    *e = (struct entry){
        .hash = hash_of(r),
        .used = ++c->clock,
        .revision = r->revision,
        .n_token = r->token.len,
        .n_request = r->request.len,
        .n_key = r->key.len,
        .n_end = r->end.len,
    };
    (void)bytes_reserve(&e->data, bytes == 0 ? 1 : bytes);
    add(&e->data, r->token);
    add(&e->data, r->request);
    add(&e->data, r->key);
    add(&e->data, r->end);
    add(&e->data, answer);
    c->bytes += bytes;
}

enum err cache_get(struct cache *c, const struct cache_read *r, struct slice *answer)
{
    size_t i = find(c, r);
    if (r->revision > 0 && r->revision < c->compacted) {
        if (i < c->n) {
            drop_at(c, i);
        }
        return ERR_COMPACTED;
    }
    if (i == c->n) {
        return ERR_NOT_FOUND;
    }
    struct entry *e = &c->entries[i];
    size_t before = e->n_token + e->n_request + e->n_key + e->n_end;
    e->used = ++c->clock;
    *answer = slice_of(e->data.data + before, e->data.len - before);
    return OK;
}

/* Is `key` before the end of a range that begins at `begin`? Without an end the range is that one key. */
static bool ends_behind(struct slice begin, struct slice end, struct slice key)
{
    if (end.len == 0) {
        return slice_cmp(key, begin) <= 0;
    }
    return (end.len == 1 && end.data[0] == 0) || slice_cmp(key, end) < 0;
}

void cache_drop(struct cache *c, struct slice key, struct slice end)
{
    for (size_t i = c->n; i > 0; i--) {
        const struct entry *e = &c->entries[i - 1];
        struct slice k = slice_of(e->data.data + e->n_token + e->n_request, e->n_key);
        struct slice x = slice_of(k.data + k.len, e->n_end);
        if (e->revision == 0 && ends_behind(k, x, key) && ends_behind(key, end, k)) {
            drop_at(c, i - 1);
        }
    }
}

void cache_wrote(struct cache *c, int64_t revision)
{
    c->wrote = revision > c->wrote ? revision : c->wrote;
}

void cache_compact(struct cache *c, int64_t revision)
{
    c->compacted = revision > c->compacted ? revision : c->compacted;
}

size_t cache_size(const struct cache *c)
{
    return c->n;
}
