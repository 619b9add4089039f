/* index_tree.c - inner nodes: the way down, splits and merges.
 *
 * An inner node holds short separators and, for each child, how many live keys are below it; the
 * rank of a key is a sum along one path. Leaves are replaced rather than changed in size: a new
 * leaf takes the old one's place in its parent and in the chain of leaves.
 */
#include "engine/index_internal.h"

static uint64_t head64(const uint8_t *p, size_t len)
{
    uint64_t v = 0;
    if (len >= sizeof v) {
        memcpy(&v, p, sizeof v);
        return __builtin_bswap64(v);
    }
    for (size_t i = 0; i < len; i++) {
        v |= (uint64_t)p[i] << (56 - 8 * i);
    }
    return v;
}

static struct slice sep_slice(const struct separator *s)
{
    return slice_of(s->data, s->len);
}

/* The child whose range holds `key`: the number of separators <= key. */
static uint32_t inner_find(const struct inner *node, struct slice key)
{
    if (node->n == 1) {
        return 0;
    }
    size_t common = key.len < node->prefix_len ? key.len : node->prefix_len;
    int c = bytes_cmp(node->prefix, key.data,
                      common < INNER_PREFIX_BYTES ? common : INNER_PREFIX_BYTES);
    if (c == 0 && common > INNER_PREFIX_BYTES) {
        c = bytes_cmp(node->sep[0]->data + INNER_PREFIX_BYTES, key.data + INNER_PREFIX_BYTES,
                      common - INNER_PREFIX_BYTES);
    }
    if (c != 0 || key.len < node->prefix_len) {
        return c >= 0 ? 0 : node->n - 1;
    }
    uint64_t head = head64(key.data == NULL ? NULL : key.data + common, key.len - common);
    uint32_t lo = 0;
    uint32_t hi = node->n - 1;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        bool below = node->head[mid] < head ||
                     (node->head[mid] == head && slice_cmp(sep_slice(node->sep[mid]), key) <= 0);
        lo = below ? mid + 1 : lo;
        hi = below ? hi : mid;
    }
    return lo;
}

/* Recompute what depends on the separators. */
static void inner_reindex(struct inner *node)
{
    if (node->n < 2) {
        node->prefix_len = 0;
        return;
    }
    size_t common = common_prefix(sep_slice(node->sep[0]), sep_slice(node->sep[node->n - 2]));
    node->prefix_len = (uint32_t)common;
    bytes_copy(node->prefix, node->sep[0]->data,
               common < INNER_PREFIX_BYTES ? common : INNER_PREFIX_BYTES);
    for (uint32_t i = 0; i + 1 < node->n; i++) {
        node->head[i] = head64(node->sep[i]->data + common, node->sep[i]->len - common);
    }
}

static int64_t inner_live(const struct inner *node)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < node->n; i++) {
        sum += node->live[i];
    }
    return sum;
}

static struct inner *inner_create(struct index *x)
{
    struct inner *node = take(x, sizeof *node);
    memset(node, 0, sizeof *node);
    return node;
}

static void sep_free(struct index *x, struct separator *s)
{
    give(x, s, sizeof *s + s->len);
}

/* The shortest key that is above `below` and not above `above`. */
static struct separator *sep_between(struct index *x, struct slice below, struct slice above)
{
    size_t len = common_prefix(below, above) + 1;
    ASSERT(len <= above.len);
    struct separator *s = take(x, sizeof *s + len);
    s->len = (uint32_t)len;
    memcpy(s->data, above.data, len);
    return s;
}

/* Put `child` behind child i, with the separator between them. */
static void inner_insert(struct inner *node, uint32_t i, struct separator *sep, void *child,
                         int64_t live)
{
    ASSERT(node->n < FANOUT);
    uint32_t n_behind = node->n - 1 - i;
    memmove(&node->child[i + 2], &node->child[i + 1], n_behind * sizeof node->child[0]);
    memmove(&node->live[i + 2], &node->live[i + 1], n_behind * sizeof node->live[0]);
    memmove(&node->sep[i + 1], &node->sep[i], n_behind * sizeof node->sep[0]);
    node->child[i + 1] = child;
    node->live[i + 1] = live;
    node->sep[i] = sep;
    node->n++;
    inner_reindex(node);
}

/* Drop child i, which is empty or was joined with a neighbour, and a separator beside it. */
static void inner_remove(struct index *x, struct inner *node, uint32_t i)
{
    uint32_t n_behind = node->n - 1 - i;
    if (node->n > 1) {
        uint32_t s = i > 0 ? i - 1 : 0;
        sep_free(x, node->sep[s]);
        memmove(&node->sep[s], &node->sep[s + 1], (node->n - 2 - s) * sizeof node->sep[0]);
    }
    memmove(&node->child[i], &node->child[i + 1], n_behind * sizeof node->child[0]);
    memmove(&node->live[i], &node->live[i + 1], n_behind * sizeof node->live[0]);
    node->n--;
    inner_reindex(node);
}

/* Move the upper part of a full node into a new one; *up separates them. */
static struct inner *inner_split(struct index *x, struct inner *node, bool append,
                                 struct separator **up)
{
    /* Keys that only ever grow leave full nodes behind them. */
    uint32_t mid = append ? FANOUT - 4 : FANOUT / 2;
    struct inner *right = inner_create(x);
    right->n = node->n - mid;
    memcpy(right->child, &node->child[mid], right->n * sizeof node->child[0]);
    memcpy(right->live, &node->live[mid], right->n * sizeof node->live[0]);
    memcpy(right->sep, &node->sep[mid], (right->n - 1) * sizeof node->sep[0]);
    *up = node->sep[mid - 1];
    node->n = mid;
    inner_reindex(node);
    inner_reindex(right);
    return right;
}

/* --- the way down ----------------------------------------------------------------------------- */

/* What a search reads first of a node, leaf or inner: header, prefix, and slots or heads. Asked for
 * together they cost one wait for memory. */
static inline void node_prefetch(const void *node)
{
    for (size_t at = 0; at < 10u * CACHE_LINE_BYTES; at += CACHE_LINE_BYTES) {
        __builtin_prefetch((const uint8_t *)node + at);
    }
}

void tree_descend(const struct index *x, struct slice key, struct path *p)
{
    void *node = x->root;
    for (uint32_t level = 0; level < x->height; level++) {
        struct inner *in = node;
        uint32_t i = inner_find(in, key);
        p->step[level].node = in;
        p->step[level].i = i;
        node = in->child[i];
        node_prefetch(node);
    }
    p->leaf = node;
}

const struct leaf *tree_leaf(const struct index *x, struct slice key)
{
    const void *node = x->root;
    for (uint32_t level = 0; level < x->height; level++) {
        const struct inner *in = node;
        node = in->child[inner_find(in, key)];
        node_prefetch(node);
    }
    return node;
}

int64_t tree_rank(const struct index *x, struct slice key)
{
    const void *node = x->root;
    int64_t rank = 0;
    for (uint32_t level = 0; level < x->height; level++) {
        const struct inner *in = node;
        uint32_t at = inner_find(in, key);
        for (uint32_t i = 0; i < at; i++) {
            rank += in->live[i];
        }
        node = in->child[at];
        node_prefetch(node);
    }
    const struct leaf *l = node;
    bool found;
    uint32_t at = leaf_find(l, key, &found);
    if (l->live == l->n) {
        return rank + at;
    }
    const struct slot *slots = leaf_slots(l);
    for (uint32_t i = 0; i < at; i++) {
        rank += (slots[i].bits & SLOT_TOMB) == 0;
    }
    return rank;
}

void tree_add_live(const struct index *x, struct path *p, int64_t delta)
{
    for (uint32_t level = 0; level < x->height; level++) {
        p->step[level].node->live[p->step[level].i] += delta;
    }
}

const struct separator *tree_upper_bound(const struct index *x, const struct path *p)
{
    for (uint32_t level = x->height; level-- > 0;) {
        const struct inner *node = p->step[level].node;
        if (p->step[level].i + 1 < node->n) {
            return node->sep[p->step[level].i];
        }
    }
    return NULL;
}

/* --- growing ---------------------------------------------------------------------------------- */

/* Put `l` where the path's leaf is. */
static void set_child(struct index *x, struct path *p, struct leaf *l)
{
    if (x->height == 0) {
        x->root = l;
    } else {
        p->step[x->height - 1].node->child[p->step[x->height - 1].i] = l;
    }
}

static void link_between(struct leaf *prev, struct leaf *l, struct leaf *next)
{
    l->prev = prev;
    l->next = next;
    if (prev != NULL) {
        prev->next = l;
    }
    if (next != NULL) {
        next->prev = l;
    }
}

void tree_replace_leaf(struct index *x, struct path *p, struct leaf *l)
{
    struct leaf *old = p->leaf;
    link_between(old->prev, l, old->next);
    set_child(x, p, l);
    leaf_release(x, old);
    p->leaf = l;
    x->epoch++;
}

/* Make room for one more child behind the path's leaf, splitting upwards as far as needed. */
static void insert_right(struct index *x, const struct path *p, struct separator *sep,
                         struct leaf *leaf)
{
    void *child = leaf;
    int64_t live = leaf->live;
    for (uint32_t level = x->height; level-- > 0;) {
        struct inner *node = p->step[level].node;
        uint32_t i = p->step[level].i;
        if (node->n < FANOUT) {
            inner_insert(node, i, sep, child, live);
            return;
        }
        struct separator *up;
        struct inner *right = inner_split(x, node, i == node->n - 1, &up);
        if (i < node->n) {
            inner_insert(node, i, sep, child, live);
        } else {
            inner_insert(right, i - node->n, sep, child, live);
        }
        if (level > 0) {
            p->step[level - 1].node->live[p->step[level - 1].i] = inner_live(node);
        }
        sep = up;
        child = right;
        live = inner_live(right);
    }
    ASSERT(x->height < HEIGHT_MAX);
    struct inner *root = inner_create(x);
    root->n = 1;
    root->child[0] = x->root;
    root->live[0] = x->height == 0 ? ((struct leaf *)x->root)->live : inner_live(x->root);
    inner_insert(root, 0, sep, child, live);
    x->root = root;
    x->height++;
}

/* Where to cut items that do not fit in one leaf. */
static size_t split_point(const struct index *x, const struct path *p, size_t n, size_t i)
{
    size_t prefix = p->leaf->prefix_len;
    if (common_prefix(x->items[0].key, x->items[n - 1].key) < prefix) {
        /* The new key shares less than the others and would lengthen them all: it stands at an end,
         * and goes alone. */
        return i == 0 ? 1 : n - 1;
    }
    if (i == n - 1 && p->leaf->next == NULL) {
        return n - 1; /* keys that only ever grow leave full leaves behind them */
    }
    size_t total = 0;
    for (size_t k = 0; k < n; k++) {
        total += item_bytes(&x->items[k], prefix);
    }
    size_t sum = 0;
    for (size_t k = 0; k < n - 1; k++) {
        sum += item_bytes(&x->items[k], prefix);
        if (sum >= total / 2) {
            return k + 1;
        }
    }
    return n - 1;
}

void tree_rebuild(struct index *x, struct path *p, size_t n, size_t i)
{
    if (items_bytes(x->items, n) <= LEAF_BYTES_MAX) {
        tree_replace_leaf(x, p, leaf_pack(x, x->items, n));
        return;
    }
    size_t cut = split_point(x, p, n, i);
    struct leaf *left = leaf_pack(x, x->items, cut);
    struct leaf *right = leaf_pack(x, x->items + cut, n - cut);
    struct separator *sep = sep_between(x, x->items[cut - 1].key, x->items[cut].key);
    tree_replace_leaf(x, p, left);
    if (x->height > 0) {
        p->step[x->height - 1].node->live[p->step[x->height - 1].i] = left->live;
    }
    link_between(left, right, left->next);
    insert_right(x, p, sep, right);
}

/* --- shrinking -------------------------------------------------------------------------------- */

/* A root with a single child is no level of its own. */
static void collapse_root(struct index *x)
{
    while (x->height > 0 && ((struct inner *)x->root)->n == 1) {
        struct inner *root = x->root;
        x->root = root->child[0];
        x->height--;
        give(x, root, sizeof *root);
    }
}

/* Join child i + 1 of `parent`, an inner node, into child i. */
static void inner_join(struct index *x, struct inner *parent, uint32_t i)
{
    struct inner *left = parent->child[i];
    struct inner *right = parent->child[i + 1];
    struct separator *between = take(x, sizeof *between + parent->sep[i]->len);
    memcpy(between, parent->sep[i], sizeof *between + parent->sep[i]->len);
    left->sep[left->n - 1] = between;
    memcpy(&left->child[left->n], right->child, right->n * sizeof left->child[0]);
    memcpy(&left->live[left->n], right->live, right->n * sizeof left->live[0]);
    memcpy(&left->sep[left->n], right->sep, (right->n - 1) * sizeof left->sep[0]);
    left->n += right->n;
    inner_reindex(left);
    parent->live[i] = inner_live(left);
    inner_remove(x, parent, i + 1);
    give(x, right, sizeof *right);
}

/* The path's node at `level` lost a child: release it when empty, join it when small; and so on
 * upwards. */
static void fix_upwards(struct index *x, const struct path *p, uint32_t level)
{
    while (level > 0) {
        struct inner *node = p->step[level].node;
        struct inner *parent = p->step[level - 1].node;
        uint32_t i = p->step[level - 1].i;
        if (node->n == 0) {
            inner_remove(x, parent, i);
            give(x, node, sizeof *node);
        } else if (node->n < FANOUT / 4 && parent->n > 1) {
            uint32_t left = i + 1 < parent->n ? i : i - 1;
            const struct inner *a = parent->child[left];
            const struct inner *b = parent->child[left + 1];
            if (a->n + b->n > FANOUT * 3 / 4) {
                return;
            }
            inner_join(x, parent, left);
        } else {
            return;
        }
        level--;
    }
    collapse_root(x);
}

/* Join the leaf with a neighbour below the same parent when both are small enough. */
static bool leaf_join(struct index *x, struct path *p)
{
    struct inner *parent = p->step[x->height - 1].node;
    uint32_t i = p->step[x->height - 1].i;
    if (parent->n < 2) {
        return false;
    }
    uint32_t left_i = i + 1 < parent->n ? i : i - 1;
    struct leaf *left = parent->child[left_i];
    struct leaf *right = parent->child[left_i + 1];
    if (leaf_used(left) + leaf_used(right) > LEAF_JOINED_BYTES) {
        return false;
    }
    uint8_t *scratch = leaf_unpack(left, x->items, x->scratch);
    (void)leaf_unpack(right, x->items + left->n, scratch);
    size_t n = (size_t)left->n + right->n;
    if (items_bytes(x->items, n) > LEAF_JOINED_BYTES) {
        return false;
    }
    struct leaf *joined = leaf_pack(x, x->items, n);
    link_between(left->prev, joined, right->next);
    leaf_release(x, left);
    leaf_release(x, right);
    parent->child[left_i] = joined;
    parent->live[left_i] = joined->live;
    inner_remove(x, parent, left_i + 1);
    fix_upwards(x, p, x->height - 1);
    x->epoch++;
    return true;
}

static void remove_leaf(struct index *x, struct path *p)
{
    struct leaf *l = p->leaf;
    if (l->prev != NULL) {
        l->prev->next = l->next;
    }
    if (l->next != NULL) {
        l->next->prev = l->prev;
    }
    leaf_release(x, l);
    inner_remove(x, p->step[x->height - 1].node, p->step[x->height - 1].i);
    fix_upwards(x, p, x->height - 1);
    x->epoch++;
}

void tree_shrink(struct index *x, struct path *p)
{
    struct leaf *l = p->leaf;
    if (l->n == 0 && x->height > 0) {
        remove_leaf(x, p);
        return;
    }
    if (x->height > 0 && leaf_used(l) < LEAF_MERGE_BYTES && leaf_join(x, p)) {
        return;
    }
    if (leaf_used(l) + 2u * LEAF_BYTES_STEP <= l->cap) {
        (void)leaf_unpack(l, x->items, x->scratch);
        tree_replace_leaf(x, p, leaf_pack(x, x->items, l->n));
    }
}

void tree_free(struct index *x, void *node, uint32_t level)
{
    if (level == x->height) {
        leaf_free_deep(x, node);
        return;
    }
    struct inner *in = node;
    for (uint32_t i = 0; i < in->n; i++) {
        tree_free(x, in->child[i], level + 1);
        if (i + 1 < in->n) {
            sep_free(x, in->sep[i]);
        }
    }
    give(x, in, sizeof *in);
}
