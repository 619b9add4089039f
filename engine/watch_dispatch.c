/* watch_dispatch.c - hits, and the events made of them.
 *
 * An event as it stands in a WatchResponse (rpc.proto, kv.proto; every field number is below 16):
 *
 *     0x5a length                  WatchResponse.events
 *       0x08 0x01                  Event.type, left out for a put
 *       0x12 length KeyValue       Event.kv: the bytes of the change
 *       0x1a length KeyValue       Event.prev_kv, if wanted and there
 *
 * Hits of one group form a list through the array of hits, in order of the changes.
 */
#include "engine/watch_dispatch.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

enum event_field { WATCH_RESPONSE_EVENTS = 11, EVENT_TYPE = 1, EVENT_KV = 2, EVENT_PREV_KV = 3 };
#define EVENT_TYPE_DELETE 1u

#define NO_HIT UINT32_MAX
#define ARENA_FIRST_BYTES ((size_t)64 * 1024)
#define KEEP_MAX ((size_t)16 * 1024) /* entries of an array that outlive a dispatch */
#define N_VARIANTS 8u                /* filters (2 bits), prev_kv */

struct item {
    struct change change;    /* its kv: a reference */
    struct slice encoded[2]; /* without, with prev_kv; data NULL until asked for */
};

struct hit {
    uint32_t item;
    uint32_t next; /* of the same group; NO_HIT: none */
};

/* The events of the chosen group for one kind of watcher, in order. */
struct variant {
    bool made;
    size_t n;
    size_t cap;
    struct slice *events; /* owned */
    int64_t *revisions;   /* owned; of each event */
    size_t *bytes_before; /* owned; lengths of the events before each */
    size_t bytes;
};

struct watch_dispatch {
    struct engine *engine;
    struct arena *arena; /* encodings */
    struct item *items;  /* owned */
    size_t n_items, cap_items;
    struct hit *hits; /* owned */
    size_t n_hits, cap_hits;
    struct watch_group **groups; /* owned */
    size_t n_groups, cap_groups;
    const struct watch_group *chosen;
    struct variant variants[N_VARIANTS];
};

/* Room for one more of `size` bytes each. */
static void *room(void *array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) {
        return array;
    }
    *cap = *cap == 0 ? 16 : *cap * 2;
    return xrealloc(array, *cap * size);
}

/* Arrays that grew far beyond the usual are given back. */
static void *shrink(void *array, size_t *cap)
{
    if (*cap <= KEEP_MAX) {
        return array;
    }
    free(array);
    *cap = 0;
    return NULL;
}

struct watch_dispatch *watch_dispatch_create(struct engine *e)
{
    struct watch_dispatch *d = xcalloc(1, sizeof(*d));
    d->engine = e;
    /* One revision is never split, so the bound is that of a request: the arena needs none. */
    d->arena = arena_create(ARENA_FIRST_BYTES, SIZE_MAX);
    return d;
}

static void drop_variants(struct watch_dispatch *d)
{
    for (size_t i = 0; i < N_VARIANTS; i++) {
        struct variant *v = &d->variants[i];
        v->made = false;
        v->n = 0;
        v->bytes = 0;
        if (v->cap > KEEP_MAX) {
            free(v->events);
            free(v->revisions);
            free(v->bytes_before);
            *v = (struct variant){0};
        }
    }
    d->chosen = NULL;
}

void watch_dispatch_reset(struct watch_dispatch *d)
{
    for (size_t i = 0; i < d->n_groups; i++) {
        d->groups[i]->touched = false;
    }
    for (size_t i = 0; i < d->n_items; i++) {
        buf_unref(&d->items[i].change.kv);
    }
    drop_variants(d);
    d->n_groups = 0;
    d->n_items = 0;
    d->n_hits = 0;
    d->groups = shrink(d->groups, &d->cap_groups);
    d->items = shrink(d->items, &d->cap_items);
    d->hits = shrink(d->hits, &d->cap_hits);
    arena_reset(d->arena);
}

void watch_dispatch_destroy(struct watch_dispatch **dp)
{
    struct watch_dispatch *d = *dp;
    *dp = NULL;
    if (d == NULL) {
        return;
    }
    watch_dispatch_reset(d);
    for (size_t i = 0; i < N_VARIANTS; i++) {
        free(d->variants[i].events);
        free(d->variants[i].revisions);
        free(d->variants[i].bytes_before);
    }
    free(d->groups);
    free(d->items);
    free(d->hits);
    arena_destroy(&d->arena);
    free(d);
}

/* --- matching
 * ---------------------------------------------------------------------------------------- */

struct adding {
    struct watch_dispatch *d;
    enum watch_list list;
    const struct change *change;
    uint32_t item; /* NO_HIT: not taken in yet */
};

static uint32_t take_in(struct watch_dispatch *d, const struct change *c)
{
    ASSERT(d->n_items < NO_HIT);
    ASSERT(d->n_items == 0 || rev_cmp(d->items[d->n_items - 1].change.rev, c->rev) < 0);
    d->items = room(d->items, d->n_items, &d->cap_items, sizeof(struct item));
    d->items[d->n_items] = (struct item){.change = *c};
    (void)buf_ref(c->kv);
    return (uint32_t)d->n_items++;
}

static void touch(struct watch_dispatch *d, struct watch_group *g)
{
    d->groups = room(d->groups, d->n_groups, &d->cap_groups, sizeof(struct watch_group *));
    d->groups[d->n_groups++] = g;
    g->touched = true;
    g->first_hit = NO_HIT;
    g->last_hit = NO_HIT;
}

static void add_hit(void *arg, struct watch_group *g)
{
    struct adding *a = arg;
    struct watch_dispatch *d = a->d;
    if (g->lists[a->list] == NULL) {
        return;
    }
    if (a->item == NO_HIT) {
        a->item = take_in(d, a->change);
    }
    if (!g->touched) {
        touch(d, g);
    }
    ASSERT(d->n_hits < NO_HIT);
    d->hits = room(d->hits, d->n_hits, &d->cap_hits, sizeof(struct hit));
    uint32_t at = (uint32_t)d->n_hits++;
    d->hits[at] = (struct hit){.item = a->item, .next = NO_HIT};
    if (g->last_hit == NO_HIT) {
        g->first_hit = at;
    } else {
        d->hits[g->last_hit].next = at;
    }
    g->last_hit = at;
}

void watch_dispatch_add(struct watch_dispatch *d, const struct watch_matcher *m,
                        enum watch_list list, const struct change *c)
{
    struct adding a = {.d = d, .list = list, .change = c, .item = NO_HIT};
    watch_matcher_stab(m, c->key, add_hit, &a);
}

struct watch_group *watch_dispatch_group(struct watch_dispatch *d, size_t i)
{
    drop_variants(d);
    if (i >= d->n_groups) {
        return NULL;
    }
    d->chosen = d->groups[i];
    return d->groups[i];
}

/* --- encoding
 * ------------------------------------------------------------------------------------------ */

static size_t message_size(uint32_t field, size_t len)
{
    return wire_tag_size(field) + wire_varint_size(len) + len;
}

static uint8_t *put_head(uint8_t *p, uint32_t field, size_t len)
{
    return wire_put_varint(wire_put_tag(p, field, WIRE_LEN), len);
}

static uint8_t *put_kv(uint8_t *p, uint32_t field, const struct buf *kv)
{
    p = put_head(p, field, kv->len);
    memcpy(p, kv->data, kv->len);
    return p + kv->len;
}

static struct slice encode(struct arena *arena, const struct change *c, const struct buf *prev)
{
    size_t event = message_size(EVENT_KV, c->kv->len);
    if (c->deleted) {
        event += wire_tag_size(EVENT_TYPE) + 1;
    }
    if (prev != NULL) {
        event += message_size(EVENT_PREV_KV, prev->len);
    }
    size_t len = message_size(WATCH_RESPONSE_EVENTS, event);
    uint8_t *start = arena_alloc(arena, len);
    ASSERT(start != NULL); /* out of memory: a restart loses nothing */
    uint8_t *p = put_head(start, WATCH_RESPONSE_EVENTS, event);
    if (c->deleted) {
        p = wire_put_varint(wire_put_tag(p, EVENT_TYPE, WIRE_VARINT), EVENT_TYPE_DELETE);
    }
    p = put_kv(p, EVENT_KV, c->kv);
    if (prev != NULL) {
        p = put_kv(p, EVENT_PREV_KV, prev);
    }
    ASSERT((size_t)(p - start) == len);
    return slice_of(start, len);
}

static struct slice plain_event(struct watch_dispatch *d, struct item *it)
{
    if (it->encoded[0].data == NULL) {
        it->encoded[0] = encode(d->arena, &it->change, NULL);
    }
    return it->encoded[0];
}

/* The previous value may be compacted or unreadable; then the event goes without, as etcd does it:
 * the change itself must not be held back. */
static struct slice prev_event(struct watch_dispatch *d, struct item *it)
{
    if (it->encoded[1].data != NULL) {
        return it->encoded[1];
    }
    struct buf *prev = NULL;
    if (!it->change.created) {
        struct err_ctx ec;
        enum err e = engine_kv_at(d->engine, it->change.key, it->change.rev.main - 1, &prev, &ec);
        ASSERT(e == OK || prev == NULL);
    }
    it->encoded[1] = prev == NULL ? plain_event(d, it) : encode(d->arena, &it->change, prev);
    buf_unref(&prev);
    return it->encoded[1];
}

static void add_event(struct variant *v, struct slice event, int64_t revision)
{
    if (v->n == v->cap) {
        v->cap = v->cap == 0 ? 16 : v->cap * 2;
        v->events = xrealloc(v->events, v->cap * sizeof(struct slice));
        v->revisions = xrealloc(v->revisions, v->cap * sizeof(int64_t));
        v->bytes_before = xrealloc(v->bytes_before, v->cap * sizeof(size_t));
    }
    v->events[v->n] = event;
    v->revisions[v->n] = revision;
    v->bytes_before[v->n] = v->bytes;
    v->bytes += event.len;
    v->n++;
}

static void make_variant(struct watch_dispatch *d, struct variant *v, unsigned filters,
                         bool prev_kv)
{
    for (uint32_t at = d->chosen->first_hit; at != NO_HIT; at = d->hits[at].next) {
        struct item *it = &d->items[d->hits[at].item];
        unsigned dropped_by = it->change.deleted ? WATCH_NO_DELETE : WATCH_NO_PUT;
        if ((filters & dropped_by) == 0) {
            add_event(v, prev_kv ? prev_event(d, it) : plain_event(d, it), it->change.rev.main);
        }
    }
    v->made = true;
}

/* The first event at or after `from`. */
static size_t lower_bound(const struct variant *v, int64_t from)
{
    size_t low = 0;
    size_t high = v->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (v->revisions[mid] < from) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

void watch_dispatch_events(struct watch_dispatch *d, unsigned filters, bool prev_kv, int64_t from,
                           struct watch_delivery *out, int64_t *first, int64_t *last)
{
    ASSERT(d->chosen != NULL);
    filters &= WATCH_NO_PUT | WATCH_NO_DELETE;
    struct variant *v = &d->variants[filters | (prev_kv ? 4u : 0u)];
    if (!v->made) {
        make_variant(d, v, filters, prev_kv);
    }
    size_t at = lower_bound(v, from);
    *out = (struct watch_delivery){.last_of_revision = true};
    if (at < v->n) {
        out->events = v->events + at;
        out->n_events = v->n - at;
        out->bytes = v->bytes - v->bytes_before[at];
        *first = v->revisions[at];
        *last = v->revisions[v->n - 1];
    }
}
