/* index.c - the key index: puts, gets, counts, cursors and compaction over the tree.
 *
 * The newest change of a key is packed in its leaf; what it replaces goes to the key's history in
 * the side table until a compaction drops it. Every inner node knows how many live keys are below
 * each child, which makes a count two ranks.
 */
#include "engine/index_internal.h"

struct index *index_create(void)
{
    struct index *x = xcalloc(1, sizeof *x);
    x->items = xalloc(SCRATCH_ITEMS * sizeof *x->items);
    x->scratch = xalloc(SCRATCH_BYTES);
    x->bytes = INDEX_FIXED_BYTES;
    x->root = leaf_create(x, sizeof(struct leaf));
    return x;
}

void index_destroy(struct index **xp)
{
    struct index *x = *xp;
    if (x == NULL) {
        return;
    }
    tree_free(x, x->root, 0);
    count_log_reset(x, 0);
    bytes_deinit(&x->compact_key);
    free(x->items);
    free(x->scratch);
    free(x);
    *xp = NULL;
}

/* --- reading ---------------------------------------------------------------------------------- */

bool index_version_at(const struct index *x, struct slice key, int64_t at, struct key_version *out)
{
    const struct leaf *l = tree_leaf(x, key);
    bool found;
    uint32_t i = leaf_find(l, key, &found);
    return found && leaf_version_at(l, i, at, out);
}

bool index_get(const struct index *x, struct slice key, int64_t at, struct key_version *out)
{
    struct key_version v;
    if (!index_version_at(x, key, at, &v) || v.tombstone) {
        return false;
    }
    *out = v;
    return true;
}

int64_t index_live_keys(const struct index *x)
{
    return x->live;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Slot i gets `payload`, for which the leaf has no room. */
static void set_payload_growing(struct index *x, struct path *p, uint32_t i, uint16_t flags,
                                const uint8_t *payload)
{
    struct leaf *l = p->leaf;
    size_t used = leaf_used(l) + POINTER_BYTES;
    if (used <= LEAF_BYTES_MAX) {
        tree_replace_leaf(x, p, leaf_copy(x, l, used));
        ASSERT(leaf_set_payload(p->leaf, i, flags, payload));
        return;
    }
    size_t n = l->n;
    (void)leaf_unpack(l, x->items, x->scratch);
    x->items[i].flags = (uint16_t)(flags | (x->items[i].flags & SLOT_ROOM));
    memcpy(x->items[i].payload, payload, PAYLOAD_BYTES_MAX);
    tree_rebuild(x, p, n, i);
}

/* The new change `v` of the key in slot i, whose newest change so far goes to the history. */
static void replace_version(struct index *x, struct path *p, uint32_t i,
                            const struct key_version *v)
{
    const struct slot *s = &leaf_slots(p->leaf)[i];
    const uint8_t *old = leaf_payload(p->leaf, s);
    struct key_version before;
    payload_version(s->bits, old, &before);
    ASSERT(rev_cmp(before.mod, v->mod) < 0);
    struct history *h = (s->bits & SLOT_HIST) != 0 ? payload_history(old) : NULL;
    h = history_push(x, h, &before);
    payload_free_wide(x, s->bits, old);
    uint8_t payload[PAYLOAD_BYTES_MAX];
    uint16_t flags = payload_pack(x, v, h, payload);
    if (leaf_set_payload(p->leaf, i, flags, payload)) {
        return;
    }
    /* The struct wide of the old payload is gone: nothing reads that payload any more. */
    set_payload_growing(x, p, i, flags, payload);
}

static struct long_key *long_key_create(struct index *x, struct slice key)
{
    ASSERT(key.len <= UINT32_MAX);
    struct long_key *k = take(x, sizeof *k + key.len);
    k->len = (uint32_t)key.len;
    memcpy(k->data, key.data, key.len);
    return k;
}

/* Do first and last key of the leaf share more than its prefix? */
static bool prefix_may_grow(const struct leaf *l)
{
    if (l->n < 2 || l->prefix_len == PREFIX_BYTES_MAX) {
        return false;
    }
    const struct slot *slots = leaf_slots(l);
    return slots[0].head >> 24 == slots[l->n - 1].head >> 24;
}

static void insert_key(struct index *x, struct path *p, uint32_t i, struct slice key,
                       const struct key_version *v)
{
    struct item it = {.key = key};
    if (key.len > KEY_INLINE_MAX) {
        it.long_key = long_key_create(x, key);
        it.key = slice_of(it.long_key->data, key.len);
    }
    it.flags = payload_pack(x, v, NULL, it.payload);
    x->keys++;
    struct leaf *l = p->leaf;
    bool shares =
        key.len >= l->prefix_len && bytes_cmp(leaf_prefix(l), key.data, l->prefix_len) == 0;
    if (shares) {
        size_t need = item_bytes(&it, l->prefix_len);
        size_t used = leaf_used(l) + need;
        if (need > leaf_room(l) && used <= LEAF_BYTES_MAX && !prefix_may_grow(l)) {
            l = leaf_copy(x, l, used);
            tree_replace_leaf(x, p, l);
        }
        if (need <= leaf_room(l)) {
            leaf_insert(l, i, &it);
            x->epoch++;
            return;
        }
    }
    size_t n = l->n;
    (void)leaf_unpack(l, x->items, x->scratch);
    memmove(&x->items[i + 1], &x->items[i], (n - i) * sizeof x->items[0]);
    x->items[i] = it;
    tree_rebuild(x, p, n + 1, i);
}

/* Record the change `v`, put or tombstone, of a known or unknown key. */
static void apply_change(struct index *x, struct slice key, const struct key_version *v)
{
    struct path p;
    tree_descend(x, key, &p);
    bool found;
    uint32_t i = leaf_find(p.leaf, key, &found);
    bool was_live = found && (leaf_slots(p.leaf)[i].bits & SLOT_TOMB) == 0;
    ASSERT(was_live || !v->tombstone || x->restoring);
    int delta = (int)!v->tombstone - (int)was_live;
    if (delta != 0) {
        tree_add_live(x, &p, delta);
        x->live += delta;
        if (!x->restoring) {
            count_log_add(x, key, v->mod.main, delta);
        }
    }
    if (found) {
        replace_version(x, &p, i, v);
    } else {
        insert_key(x, &p, i, key, v);
    }
    if (v->mod.main > x->newest) {
        x->newest = v->mod.main;
    }
}

void index_put(struct index *x, struct slice key, const struct key_version *v)
{
    ASSERT(!v->tombstone);
    ASSERT(v->mod.main >= x->newest);
    apply_change(x, key, v);
}

void index_tombstone(struct index *x, struct slice key, struct rev at)
{
    ASSERT(at.main >= x->newest);
    struct key_version v = {.mod = at, .tombstone = true};
    apply_change(x, key, &v);
}

void index_restore_begin(struct index *x)
{
    ASSERT(!x->restoring);
    x->restoring = true;
}

void index_restore_put(struct index *x, struct slice key, const struct key_version *v)
{
    ASSERT(x->restoring);
    apply_change(x, key, v);
}

void index_restore_end(struct index *x)
{
    ASSERT(x->restoring);
    x->restoring = false;
    count_log_reset(x, x->newest);
}

/* --- cursors ---------------------------------------------------------------------------------- */

/* Find the cursor's place and its end by key. */
static void seek(struct index_cursor *c)
{
    struct slice key = bytes_slice(&c->key);
    bool found;
    const struct leaf *l = tree_leaf(c->x, key);
    c->leaf = l;
    c->slot = leaf_find(l, key, &found);
    c->slot += found && c->started;
    c->has_prefix = false;
    c->epoch = c->x->epoch;
    c->end_leaf = NULL;
    if (c->to.data == NULL) {
        return;
    }
    if (slice_cmp(key, c->to) >= 0) {
        c->leaf = NULL;
        return;
    }
    l = tree_leaf(c->x, c->to);
    c->end_leaf = l;
    c->end_slot = leaf_find(l, c->to, &found);
}

void index_cursor_init(struct index_cursor *c, const struct index *x, struct slice from,
                       struct slice to, int64_t at)
{
    *c = (struct index_cursor){.x = x, .to = to, .at = at};
    bytes_add(&c->key, from.data, from.len);
    seek(c);
}

void index_cursor_deinit(struct index_cursor *c)
{
    bytes_deinit(&c->key);
    *c = (struct index_cursor){0};
}

void index_cursor_resume(struct index_cursor *c)
{
    if (c->epoch != c->x->epoch) {
        seek(c);
    }
}

/* A walk reads the whole of a leaf: ask for it at once, and for where the next one begins. */
static inline void prefetch_walk(const struct leaf *l)
{
    const uint8_t *p = (const uint8_t *)l;
    for (size_t at = 0; at < l->cap; at += CACHE_LINE_BYTES) {
        __builtin_prefetch(p + at);
    }
    __builtin_prefetch(l->next);
}

/* Go to the next slot whose key was alive at `at` and give its version. The slot is left for the
 * caller to step over. */
static bool next_visible(struct index_cursor *c, struct key_version *v)
{
    const struct leaf *l = c->leaf;
    while (l != NULL) {
        uint32_t end = l == c->end_leaf ? c->end_slot : l->n;
        const struct slot *slots = leaf_slots(l);
        for (; c->slot < end; c->slot++) {
            if (c->at >= c->x->newest && (slots[c->slot].bits & SLOT_TOMB) != 0) {
                continue;
            }
            if (leaf_version_at(l, c->slot, c->at, v) && !v->tombstone) {
                return true;
            }
        }
        if (l == c->end_leaf) {
            return false;
        }
        l = l->next;
        c->leaf = l;
        c->slot = 0;
        c->has_prefix = false;
        if (l != NULL) {
            prefetch_walk(l);
        }
    }
    return false;
}

bool index_cursor_next(struct index_cursor *c, struct slice *key, struct key_version *v)
{
    index_cursor_resume(c);
    if (!next_visible(c, v)) {
        return false;
    }
    const struct leaf *l = c->leaf;
    leaf_key(l, c->slot, c->has_prefix, &c->key);
    c->has_prefix = (leaf_slots(l)[c->slot].bits & SLOT_LONG) == 0;
    c->started = true;
    c->slot++;
    *key = bytes_slice(&c->key);
    return true;
}

/* --- counting --------------------------------------------------------------------------------- */

/* so many events of the log are read in a fraction of a millisecond; more only when a walk would be
 * longer */
#define EVENTS_FEW 16384u

static int64_t count_live(const struct index *x, struct slice from, struct slice to)
{
    int64_t below = from.len == 0 ? 0 : tree_rank(x, from);
    int64_t end = to.data == NULL ? x->live : tree_rank(x, to);
    return end > below ? end - below : 0;
}

static int64_t count_walking(const struct index *x, struct slice from, struct slice to, int64_t at)
{
    struct index_cursor c;
    struct key_version v;
    int64_t n = 0;
    index_cursor_init(&c, x, from, to, at);
    while (next_visible(&c, &v)) {
        n++;
        c.slot++;
    }
    index_cursor_deinit(&c);
    return n;
}

int64_t index_count(const struct index *x, struct slice from, struct slice to, int64_t at)
{
    int64_t live = count_live(x, from, to);
    if (at >= x->newest) {
        return live;
    }
    if (at >= x->log.floor && count_log_events(x, at) <= (uint64_t)live + EVENTS_FEW) {
        return live - count_log_sum(x, from, to, at);
    }
    return count_walking(x, from, to, at);
}

/* --- compaction ------------------------------------------------------------------------------- */

void index_compact_begin(struct index *x, int64_t c)
{
    ASSERT(c >= x->compact_revision);
    x->compact_revision = c;
    x->compacting = true;
    bytes_reset(&x->compact_key);
}

/* Drop what compaction to `c` drops of slot i. true: the whole key goes, its memory except the slot
 * is released. */
static bool compact_slot(struct index *x, struct leaf *l, uint32_t i, int64_t c)
{
    const struct slot *s = &leaf_slots(l)[i];
    uint16_t flags = s->bits & SLOT_FLAGS;
    uint8_t payload[PAYLOAD_BYTES_MAX];
    memcpy(payload, leaf_payload(l, s), payload_bytes(s->bits));
    struct key_version newest;
    payload_version(flags, payload, &newest);
    struct history *h = (flags & SLOT_HIST) != 0 ? payload_history(payload) : NULL;
    if (newest.mod.main <= c) {
        if (h != NULL) {
            history_free(x, h);
        }
        if (newest.tombstone && newest.mod.main < c) {
            return true;
        }
        h = NULL;
    } else if (h != NULL) {
        uint32_t n_until = history_until(h, c);
        if (n_until > 0) {
            struct key_version kept;
            history_version(h, n_until - 1, &kept);
            bool dead = kept.tombstone && kept.mod.main < c;
            h = history_trim(x, h, dead ? n_until : n_until - 1);
        }
    }
    flags = (uint16_t)(h == NULL ? flags & ~SLOT_HIST : flags);
    if (h != NULL) {
        memcpy(payload + VERSION_BYTES, &h, POINTER_BYTES);
    }
    ASSERT(leaf_set_payload(l, i, flags, payload));
    return false;
}

/* Compact all keys of the path's leaf. */
static void compact_leaf(struct index *x, struct path *p, int64_t c)
{
    struct leaf *l = p->leaf;
    uint32_t n_before = l->n;
    for (uint32_t i = 0; i < l->n;) {
        uint16_t bits = leaf_slots(l)[i].bits;
        if (!slot_marked(bits) || !compact_slot(x, l, i, c)) {
            i++;
            continue;
        }
        if ((bits & SLOT_LONG) != 0) {
            struct long_key *k;
            memcpy(&k, leaf_entry(l, &leaf_slots(l)[i]), POINTER_BYTES);
            give(x, k, sizeof *k + k->len);
        }
        leaf_remove(l, i);
    }
    x->keys -= n_before - l->n;
    x->epoch += n_before != l->n;
    tree_shrink(x, p);
}

bool index_compact_step(struct index *x, size_t n_max)
{
    for (size_t looked = 0; x->compacting && looked < n_max;) {
        struct path p;
        tree_descend(x, bytes_slice(&x->compact_key), &p);
        looked += p.leaf->marked == 0 ? 1 : p.leaf->n;
        const struct separator *end = tree_upper_bound(x, &p);
        bytes_reset(&x->compact_key);
        if (end != NULL) {
            bytes_add(&x->compact_key, end->data, end->len);
        } else {
            x->compacting = false;
        }
        if (p.leaf->marked > 0) {
            compact_leaf(x, &p, x->compact_revision);
        }
    }
    return !x->compacting;
}

struct index_stats index_stats(const struct index *x)
{
    return (struct index_stats){
        .keys = x->keys,
        .live_keys = (uint64_t)x->live,
        .old_versions = x->old_versions,
        .bytes = x->bytes,
    };
}
