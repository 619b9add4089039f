/* cache.c - see cache.h. Each answer is in a table by request, in a line by use, and, when a write can change it, in a tree by range. */
#include "api/proxy/cache.h"

#include <assert.h>
#include <stdlib.h>

#include "api/proxy/intervals.h"
#include "api/proxy/limits.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

#define BUCKETS 4096u
static_assert(BUCKETS >= PROXY_CACHE_ENTRIES_MAX, "lists of the table are short");

struct entry {
    struct interval range;       /* in the tree: revision 0 */
    struct entry *next;          /* of the bucket */
    struct entry *older, *newer; /* in the line by use */
    uint64_t hash;               /* of token and request */
    int64_t revision;
    size_t n_token, n_request, n_answer, bytes;
    uint8_t data[]; /* token, request, answer, key, end */
};

struct cache {
    struct entry *buckets[BUCKETS];
    struct entry *oldest, *newest;
    struct intervals ranges;
    size_t n;
    size_t bytes;
    uint64_t era; /* counts clears */
    int64_t compacted, wrote;
};

struct cache *cache_create(void)
{
    struct cache *c = xcalloc(1, sizeof(*c));
    c->compacted = -1;
    return c;
}

/* --- the line: who was used longest ago is first --------------------------------------------------------------- */

static void leave_line(struct cache *c, struct entry *e)
{
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
    *(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
}

static void join_line(struct cache *c, struct entry *e)
{
    e->older = c->newest;
    e->newer = NULL;
    *(c->newest != NULL ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

/* --- entries -------------------------------------------------------------------------------------------------------- */

/* It is in no tree. */
static void free_entry(struct cache *c, struct entry *e)
{
    struct entry **p = &c->buckets[e->hash % BUCKETS];
    while (*p != e) {
        p = &(*p)->next;
    }
    *p = e->next;
    leave_line(c, e);
    c->bytes -= e->bytes;
    c->n--;
    free(e);
}

static void drop_entry(struct cache *c, struct entry *e)
{
    if (e->revision == 0) {
        intervals_remove(&c->ranges, &e->range);
    }
    free_entry(c, e);
}

void cache_clear(struct cache *c)
{
    c->ranges.root = NULL; /* its nodes go with their entries */
    while (c->oldest != NULL) {
        free_entry(c, c->oldest);
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

/* NULL: it is not there. */
static struct entry *find(const struct cache *c, const struct cache_read *r)
{
    uint64_t hash = hash_of(r);
    struct entry *e = c->buckets[hash % BUCKETS];
    while (e != NULL && (e->hash != hash || !slice_eq(slice_of(e->data, e->n_token), r->token) ||
                         !slice_eq(slice_of(e->data + e->n_token, e->n_request), r->request))) {
        e = e->next;
    }
    return e;
}

static void make_room(struct cache *c, size_t bytes)
{
    while (c->n == PROXY_CACHE_ENTRIES_MAX || (c->n > 0 && c->bytes + bytes > PROXY_CACHE_BYTES_MAX)) {
        drop_entry(c, c->oldest);
    }
}

/* Returns where it stands now. */
static struct slice add(struct entry *e, struct slice s)
{
    uint8_t *p = e->data + e->bytes;
    if (s.len > 0) {
        memcpy(p, s.data, s.len);
    }
    e->bytes += s.len;
    return slice_of(p, s.len);
}

void cache_put(struct cache *c, const struct cache_read *r, int64_t answer_revision, struct slice answer)
{
    size_t bytes = r->token.len + r->request.len + r->key.len + r->end.len + answer.len;
    struct entry *old = find(c, r);
    if (old != NULL) {
        drop_entry(c, old);
    }
    if (bytes > PROXY_CACHE_ENTRY_BYTES_MAX || r->era != c->era || (r->revision > 0 && r->revision <= c->compacted) || (r->revision == 0 && answer_revision < c->wrote)) {
        return;
    }
    make_room(c, bytes);
    struct entry *e = xalloc(sizeof(*e) + bytes);
    *e = (struct entry){
        .hash = hash_of(r),
        .revision = r->revision,
        .n_token = r->token.len,
        .n_request = r->request.len,
        .n_answer = answer.len,
    };
    (void)add(e, r->token);
    (void)add(e, r->request);
    (void)add(e, answer);
    e->range.key = add(e, r->key);
    e->range.end = add(e, r->end);
    ASSERT(e->bytes == bytes);
    struct entry **bucket = &c->buckets[e->hash % BUCKETS];
    e->next = *bucket;
    *bucket = e;
    join_line(c, e);
    if (e->revision == 0) {
        intervals_add(&c->ranges, &e->range);
    }
    c->bytes += bytes;
    c->n++;
}

enum err cache_get(struct cache *c, const struct cache_read *r, struct slice *answer)
{
    struct entry *e = find(c, r);
    if (r->revision > 0 && r->revision < c->compacted) {
        if (e != NULL) {
            drop_entry(c, e);
        }
        return ERR_COMPACTED;
    }
    if (e == NULL) {
        return ERR_NOT_FOUND;
    }
    leave_line(c, e);
    join_line(c, e);
    *answer = slice_of(e->data + e->n_token + e->n_request, e->n_answer);
    return OK;
}

void cache_drop(struct cache *c, struct slice key, struct slice end)
{
    for (struct interval *i = intervals_take(&c->ranges, key, end), *next; i != NULL; i = next) {
        next = i->right;
        free_entry(c, CONTAINER_OF(i, struct entry, range));
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
