/* watch_match.c - a hash table for single keys and an interval tree for ranges.
 *
 * The tree is a treap: ordered by (key, end), and a heap over a hash of both, so that it is
 * balanced whatever the order of arrival. Each node knows which range of its subtree ends last; a
 * stab leaves out every subtree whose last end is not above the key, and every right subtree whose
 * keys begin above it.
 *
 * The hash table chains its groups and doubles when there are as many groups as buckets; it never
 * shrinks below what it once was, 8 bytes a bucket.
 */
#include "engine/watch_match.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

#define BUCKETS_MIN ((size_t)64)

struct watch_matcher {
    struct watch_group **buckets; /* owned; a power of two */
    size_t n_buckets;
    size_t n_single;
    struct watch_group *root;
};

static struct slice key_of(const struct watch_group *g)
{
    return slice_of(g->data, g->key_len);
}

static struct slice end_of(const struct watch_group *g)
{
    return slice_of(g->data + g->key_len, g->end_len);
}

/* Does the range of `g` end above `key`? */
static bool ends_above(const struct watch_group *g, struct slice key)
{
    return g->endless || slice_cmp(end_of(g), key) > 0;
}

/* Negative, 0, positive: the range of `a` ends before, with, after that of `b`. */
static int end_cmp(const struct watch_group *a, const struct watch_group *b)
{
    if (a->endless || b->endless) {
        return (a->endless ? 1 : 0) - (b->endless ? 1 : 0);
    }
    return slice_cmp(end_of(a), end_of(b));
}

static int range_cmp(const struct watch_group *a, const struct watch_group *b)
{
    int c = slice_cmp(key_of(a), key_of(b));
    return c != 0 ? c : end_cmp(a, b);
}

static struct watch_group *group_create(struct slice key, struct slice range_end)
{
    bool endless = range_end.len == 1 && range_end.data[0] == 0;
    size_t end_len = endless ? 0 : range_end.len;
    struct watch_group *g = xcalloc(1, sizeof(*g) + key.len + end_len);
    g->single = range_end.len == 0;
    g->endless = endless;
    g->key_len = (uint32_t)key.len;
    g->end_len = (uint32_t)end_len;
    if (key.len > 0) {
        memcpy(g->data, key.data, key.len);
    }
    if (end_len > 0) {
        memcpy(g->data + key.len, range_end.data, end_len);
    }
    g->hash = hash64(g->data, key.len + end_len);
    return g;
}

/* --- single keys
 * ---------------------------------------------------------------------------------- */

static struct watch_group **bucket_of(const struct watch_matcher *m, uint64_t hash)
{
    return &m->buckets[hash & (m->n_buckets - 1)];
}

static struct watch_group *find_single(const struct watch_matcher *m, uint64_t hash,
                                       struct slice key)
{
    struct watch_group *g = *bucket_of(m, hash);
    while (g != NULL && (g->hash != hash || !slice_eq(key_of(g), key))) {
        g = g->left;
    }
    return g;
}

static void grow(struct watch_matcher *m)
{
    struct watch_group **old = m->buckets;
    size_t n_old = m->n_buckets;
    m->n_buckets *= 2;
    m->buckets = xcalloc(m->n_buckets, sizeof(struct watch_group *));
    for (size_t i = 0; i < n_old; i++) {
        while (old[i] != NULL) {
            struct watch_group *g = old[i];
            old[i] = g->left;
            g->left = *bucket_of(m, g->hash);
            *bucket_of(m, g->hash) = g;
        }
    }
    free(old);
}

static void add_single(struct watch_matcher *m, struct watch_group *g)
{
    if (m->n_single >= m->n_buckets) {
        grow(m);
    }
    g->left = *bucket_of(m, g->hash);
    *bucket_of(m, g->hash) = g;
    m->n_single++;
}

static void remove_single(struct watch_matcher *m, const struct watch_group *g)
{
    struct watch_group **at = bucket_of(m, g->hash);
    while (*at != g) {
        ASSERT(*at != NULL);
        at = &(*at)->left;
    }
    *at = g->left;
    m->n_single--;
}

/* --- ranges
 * ------------------------------------------------------------------------------------------ */

/* The children's knowledge is right; make the node's right. */
static void refresh(struct watch_group *g)
{
    g->furthest = g;
    struct watch_group *const children[] = {g->left, g->right};
    for (size_t i = 0; i < ARRAY_LEN(children); i++) {
        if (children[i] != NULL && end_cmp(children[i]->furthest, g->furthest) > 0) {
            g->furthest = children[i]->furthest;
        }
    }
}

/* Part a tree into what is below and what is above `at`, which is not in it. */
static void split(struct watch_group *t, const struct watch_group *at, struct watch_group **below,
                  struct watch_group **above)
{
    if (t == NULL) {
        *below = NULL;
        *above = NULL;
        return;
    }
    if (range_cmp(t, at) < 0) {
        split(t->right, at, &t->right, above);
        *below = t;
    } else {
        split(t->left, at, below, &t->left);
        *above = t;
    }
    refresh(t);
}

static struct watch_group *insert(struct watch_group *t, struct watch_group *g)
{
    if (t == NULL || t->hash < g->hash) {
        split(t, g, &g->left, &g->right);
        refresh(g);
        return g;
    }
    if (range_cmp(g, t) < 0) {
        t->left = insert(t->left, g);
    } else {
        t->right = insert(t->right, g);
    }
    refresh(t);
    return t;
}

static struct watch_group *merge(struct watch_group *a, struct watch_group *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    if (a->hash >= b->hash) {
        a->right = merge(a->right, b);
        refresh(a);
        return a;
    }
    b->left = merge(a, b->left);
    refresh(b);
    return b;
}

static struct watch_group *erase(struct watch_group *t, const struct watch_group *g)
{
    ASSERT(t != NULL);
    if (t == g) {
        return merge(t->left, t->right);
    }
    if (range_cmp(g, t) < 0) {
        t->left = erase(t->left, g);
    } else {
        t->right = erase(t->right, g);
    }
    refresh(t);
    return t;
}

static struct watch_group *find_range(const struct watch_matcher *m, const struct watch_group *like)
{
    struct watch_group *t = m->root;
    while (t != NULL) {
        int c = range_cmp(like, t);
        if (c == 0) {
            return t;
        }
        t = c < 0 ? t->left : t->right;
    }
    return NULL;
}

static void stab(struct watch_group *t, struct slice key,
                 void (*each)(void *, struct watch_group *), void *arg)
{
    if (t == NULL || !ends_above(t->furthest, key)) {
        return;
    }
    stab(t->left, key, each, arg);
    if (slice_cmp(key_of(t), key) <= 0) {
        if (ends_above(t, key)) {
            each(arg, t);
        }
        stab(t->right, key, each, arg);
    }
}

/* --- both
 * ------------------------------------------------------------------------------------------------
 */

struct watch_matcher *watch_matcher_create(void)
{
    struct watch_matcher *m = xcalloc(1, sizeof(*m));
    m->n_buckets = BUCKETS_MIN;
    m->buckets = xcalloc(m->n_buckets, sizeof(struct watch_group *));
    return m;
}

void watch_matcher_destroy(struct watch_matcher **m)
{
    if (*m != NULL) {
        ASSERT((*m)->n_single == 0);
        ASSERT((*m)->root == NULL);
        free((*m)->buckets);
        free(*m);
        *m = NULL;
    }
}

struct watch_group *watch_matcher_group(struct watch_matcher *m, struct slice key,
                                        struct slice range_end)
{
    struct watch_group *g = group_create(key, range_end);
    struct watch_group *known = g->single ? find_single(m, g->hash, key) : find_range(m, g);
    if (known != NULL) {
        free(g);
        return known;
    }
    if (g->single) {
        add_single(m, g);
    } else {
        m->root = insert(m->root, g);
    }
    return g;
}

void watch_matcher_remove(struct watch_matcher *m, struct watch_group **g)
{
    ASSERT((*g)->n_watchers == 0);
    if ((*g)->single) {
        remove_single(m, *g);
    } else {
        m->root = erase(m->root, *g);
    }
    free(*g);
    *g = NULL;
}

void watch_matcher_stab(const struct watch_matcher *m, struct slice key,
                        void (*each)(void *arg, struct watch_group *g), void *arg)
{
    if (m->n_single > 0) {
        struct watch_group *g = find_single(m, hash64(key.data, key.len), key);
        if (g != NULL) {
            each(arg, g);
        }
    }
    stab(m->root, key, each, arg);
}

static void clear_tree(struct watch_group *t, void (*each)(void *, struct watch_group *), void *arg)
{
    if (t != NULL) {
        clear_tree(t->left, each, arg);
        clear_tree(t->right, each, arg);
        each(arg, t);
        free(t);
    }
}

static void each_of_tree(struct watch_group *t, void (*each)(void *arg, struct watch_group *g),
                         void *arg)
{
    if (t != NULL) {
        each_of_tree(t->left, each, arg);
        each(arg, t);
        each_of_tree(t->right, each, arg);
    }
}

void watch_matcher_each(const struct watch_matcher *m,
                        void (*each)(void *arg, struct watch_group *g), void *arg)
{
    for (size_t i = 0; i < m->n_buckets; i++) {
        for (struct watch_group *g = m->buckets[i]; g != NULL; g = g->left) {
            each(arg, g);
        }
    }
    each_of_tree(m->root, each, arg);
}

void watch_matcher_clear(struct watch_matcher *m, void (*each)(void *arg, struct watch_group *g),
                         void *arg)
{
    for (size_t i = 0; i < m->n_buckets; i++) {
        while (m->buckets[i] != NULL) {
            struct watch_group *g = m->buckets[i];
            m->buckets[i] = g->left;
            each(arg, g);
            free(g);
        }
    }
    m->n_single = 0;
    clear_tree(m->root, each, arg);
    m->root = NULL;
}

static size_t check_tree(const struct watch_group *t, const struct watch_group *above_this,
                         const struct watch_group *below_this)
{
    if (t == NULL) {
        return 0;
    }
    ASSERT(above_this == NULL || range_cmp(above_this, t) < 0);
    ASSERT(below_this == NULL || range_cmp(t, below_this) < 0);
    ASSERT(t->left == NULL || t->left->hash <= t->hash);
    ASSERT(t->right == NULL || t->right->hash <= t->hash);
    size_t n = 1 + check_tree(t->left, above_this, t) + check_tree(t->right, t, below_this);
    ASSERT(end_cmp(t->furthest, t) >= 0);
    ASSERT(t->left == NULL || end_cmp(t->furthest, t->left->furthest) >= 0);
    ASSERT(t->right == NULL || end_cmp(t->furthest, t->right->furthest) >= 0);
    ASSERT(t->furthest == t || (t->left != NULL && t->furthest == t->left->furthest) ||
           (t->right != NULL && t->furthest == t->right->furthest));
    return n;
}

size_t watch_matcher_check(const struct watch_matcher *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_buckets; i++) {
        for (const struct watch_group *g = m->buckets[i]; g != NULL; g = g->left) {
            ASSERT(g->single);
            ASSERT(bucket_of(m, g->hash) == &m->buckets[i]);
            n++;
        }
    }
    ASSERT(n == m->n_single);
    return n + check_tree(m->root, NULL, NULL);
}
