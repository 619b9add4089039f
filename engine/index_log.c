/* index_log.c - recent creations and deletions, so that a count at a slightly older revision needs
 * no walk.
 *
 * The count at revision R is the count now, less the creations after R, plus the deletions after R,
 * in the range. Events stand in chunks in the order they happened; when all chunks are full the
 * oldest is forgotten and the floor rises.
 */
#include "engine/index_internal.h"

struct count_chunk {
    struct count_chunk *newer;
    struct count_chunk *older;
    int64_t first_main;
    int64_t last_main;
    uint32_t n;
    uint32_t used;
    uint8_t data[COUNT_LOG_CHUNK_BYTES]; /* struct event, then the key's bytes */
};

struct event {
    int64_t main;
    int32_t delta;
    uint32_t key_len;
};

static void drop_oldest(struct index *x)
{
    struct count_log *log = &x->log;
    struct count_chunk *c = log->oldest;
    log->floor = c->last_main;
    log->oldest = c->newer;
    if (log->oldest != NULL) {
        log->oldest->older = NULL;
    } else {
        log->newest = NULL;
    }
    log->n_chunks--;
    give(x, c, sizeof *c);
}

void count_log_reset(struct index *x, int64_t floor)
{
    while (x->log.oldest != NULL) {
        drop_oldest(x);
    }
    x->log.floor = floor;
}

static struct count_chunk *chunk_add(struct index *x, int64_t main)
{
    struct count_log *log = &x->log;
    if (log->n_chunks == COUNT_LOG_CHUNKS_MAX) {
        drop_oldest(x);
    }
    struct count_chunk *c = take(x, sizeof *c);
    c->newer = NULL;
    c->older = log->newest;
    c->first_main = main;
    c->last_main = main;
    c->n = 0;
    c->used = 0;
    if (log->newest != NULL) {
        log->newest->newer = c;
    } else {
        log->oldest = c;
    }
    log->newest = c;
    log->n_chunks++;
    return c;
}

void count_log_add(struct index *x, struct slice key, int64_t main, int delta)
{
    size_t need = sizeof(struct event) + key.len;
    if (need > COUNT_LOG_CHUNK_BYTES) {
        count_log_reset(x, main); /* such a key is rare; counts before it walk */
        return;
    }
    struct count_chunk *c = x->log.newest;
    if (c == NULL || COUNT_LOG_CHUNK_BYTES - c->used < need) {
        c = chunk_add(x, main);
    }
    struct event e = {main, delta, (uint32_t)key.len};
    memcpy(c->data + c->used, &e, sizeof e);
    bytes_copy(c->data + c->used + sizeof e, key.data, key.len);
    c->used += (uint32_t)need;
    c->n++;
    c->last_main = main;
}

/* The oldest chunk with an event above `at`; NULL when there is none. */
static const struct count_chunk *first_chunk(const struct index *x, int64_t at)
{
    const struct count_chunk *c = x->log.newest;
    if (c == NULL || c->last_main <= at) {
        return NULL;
    }
    while (c->older != NULL && c->older->last_main > at) {
        c = c->older;
    }
    return c;
}

uint64_t count_log_events(const struct index *x, int64_t at)
{
    uint64_t n = 0;
    for (const struct count_chunk *c = first_chunk(x, at); c != NULL; c = c->newer) {
        n += c->n;
    }
    return n;
}

size_t count_log_bytes(const struct index *x)
{
    return x->log.n_chunks * sizeof(struct count_chunk);
}

int64_t count_log_sum(const struct index *x, struct slice from, struct slice to, int64_t at)
{
    int64_t sum = 0;
    for (const struct count_chunk *c = first_chunk(x, at); c != NULL; c = c->newer) {
        for (uint32_t pos = 0; pos < c->used;) {
            struct event e;
            memcpy(&e, c->data + pos, sizeof e);
            struct slice key = slice_of(c->data + pos + sizeof e, e.key_len);
            pos += (uint32_t)sizeof e + e.key_len;
            if (e.main > at && slice_cmp(key, from) >= 0 &&
                (to.data == NULL || slice_cmp(key, to) < 0)) {
                sum += e.delta;
            }
        }
    }
    return sum;
}
