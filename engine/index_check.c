/* index_check.c - everything that must hold inside the key index, checked from root to leaf. */
#include "engine/index_internal.h"

struct check {
    const struct index *x;
    const struct leaf *last; /* the leaf before */
    struct bytes key;        /* the key before, while n_keys > 0 */
    uint64_t n_keys;
    uint64_t n_old;
    uint64_t bytes;
};

static void check_history(struct check *c, const struct history *h, struct rev newest)
{
    ASSERT(h->n > 0 && h->n <= h->cap);
    for (uint32_t i = 0; i < h->n; i++) {
        struct rev r = {h->v[i].main, h->v[i].sub};
        struct rev next = i + 1 < h->n ? (struct rev){h->v[i + 1].main, h->v[i + 1].sub} : newest;
        ASSERT(rev_cmp(r, next) < 0);
    }
    c->n_old += h->n;
    c->bytes += sizeof *h + h->cap * sizeof h->v[0];
}

static void check_slot(struct check *c, const struct leaf *l, uint32_t i, struct bytes *key)
{
    const struct slot *s = &leaf_slots(l)[i];
    ASSERT(s->tail <= l->heap && s->tail >= entry_bytes(s->bits));
    leaf_key(l, i, false, key);
    ASSERT(((s->bits & SLOT_LONG) != 0) == (key->len > KEY_INLINE_MAX));
    c->bytes += (s->bits & SLOT_LONG) != 0 ? sizeof(struct long_key) + key->len : 0;
    c->bytes += (s->bits & SLOT_WIDE) != 0 ? sizeof(struct wide) : 0;
    ASSERT(key->len >= l->prefix_len && bytes_cmp(key->data, leaf_prefix(l), l->prefix_len) == 0);
    ASSERT(s->head == head_of(key->data + l->prefix_len, key->len - l->prefix_len));
    struct key_version v;
    payload_version(s->bits, leaf_payload(l, s), &v);
    ASSERT(v.mod.main <= c->x->newest);
    if ((s->bits & SLOT_HIST) != 0) {
        ASSERT((s->bits & SLOT_ROOM) != 0);
        check_history(c, payload_history(leaf_payload(l, s)), v.mod);
    }
    bool found;
    ASSERT(leaf_find(l, bytes_slice(key), &found) == i && found);
}

static int64_t check_leaf(struct check *c, const struct leaf *l, struct slice low,
                          const struct separator *high)
{
    ASSERT(l->prev == c->last);
    ASSERT(c->last == NULL || c->last->next == l);
    ASSERT(l->n > 0 || c->x->height == 0);
    ASSERT(l->cap <= LEAF_BYTES_MAX && leaf_used(l) <= l->cap && leaf_room(l) <= l->cap);
    c->last = l;
    c->bytes += l->cap;
    size_t used = 0;
    uint32_t live = 0;
    uint32_t marked = 0;
    struct bytes key = {0};
    for (uint32_t i = 0; i < l->n; i++) {
        const struct slot *s = &leaf_slots(l)[i];
        used += entry_bytes(s->bits);
        live += (s->bits & SLOT_TOMB) == 0;
        marked += slot_marked(s->bits);
        check_slot(c, l, i, &key);
        ASSERT(c->n_keys == 0 || slice_cmp(bytes_slice(&c->key), bytes_slice(&key)) < 0);
        ASSERT(slice_cmp(low, bytes_slice(&key)) <= 0);
        ASSERT(high == NULL || slice_cmp(bytes_slice(&key), slice_of(high->data, high->len)) < 0);
        bytes_reset(&c->key);
        bytes_add(&c->key, key.data, key.len);
        c->n_keys++;
    }
    bytes_deinit(&key);
    ASSERT(used + l->garbage == l->heap);
    ASSERT(live == l->live);
    ASSERT(marked == l->marked);
    return live;
}

static int64_t check_node(struct check *c, const void *node, uint32_t level, struct slice low,
                          const struct separator *high)
{
    if (level == c->x->height) {
        return check_leaf(c, node, low, high);
    }
    const struct inner *in = node;
    ASSERT(in->n >= (level == 0 ? 2u : 1u) && in->n <= FANOUT);
    c->bytes += sizeof *in;
    int64_t sum = 0;
    for (uint32_t i = 0; i < in->n; i++) {
        const struct separator *end = i + 1 < in->n ? in->sep[i] : high;
        int64_t live = check_node(c, in->child[i], level + 1, low, end);
        ASSERT(live == in->live[i]);
        sum += live;
        if (i + 1 < in->n) {
            c->bytes += sizeof *end + end->len;
            low = slice_of(end->data, end->len);
        }
    }
    return sum;
}

void index_check(const struct index *x)
{
    struct check c = {.x = x};
    int64_t live = check_node(&c, x->root, 0, slice_of(NULL, 0), NULL);
    ASSERT(c.last->next == NULL);
    ASSERT(live == x->live);
    ASSERT(c.n_keys == x->keys);
    ASSERT(c.n_old == x->old_versions);
    ASSERT(c.bytes + count_log_bytes(x) + INDEX_FIXED_BYTES == x->bytes);
    bytes_deinit(&c.key);
}
