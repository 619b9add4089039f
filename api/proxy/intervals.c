/* intervals.c - see intervals.h. Recursion is as deep as the tree: for n ranges some 2 log n, and n at the very worst. */
#include "api/proxy/intervals.h"

#include "base/assert.h"

/* --- what comes before what -------------------------------------------------------------------------------------- */

static bool is_open(struct slice end)
{
    return end.len == 1 && end.data[0] == 0;
}

/* Does the range reach behind `key`? */
static bool reaches(const struct interval *i, struct slice key)
{
    if (i->end.len == 0) {
        return slice_cmp(i->key, key) >= 0;
    }
    return is_open(i->end) || slice_cmp(i->end, key) > 0;
}

/* Does it begin before [key, end) is over? */
static bool begins_before(const struct interval *i, struct slice key, struct slice end)
{
    if (end.len == 0) {
        return slice_cmp(i->key, key) <= 0;
    }
    return is_open(end) || slice_cmp(i->key, end) < 0;
}

/* Does `a` reach at least as far as `b`? A lone key reaches further than a range that ends at it. */
static bool outlasts(const struct interval *a, const struct interval *b)
{
    if (is_open(a->end) || is_open(b->end)) {
        return is_open(a->end);
    }
    int c = slice_cmp(a->end.len == 0 ? a->key : a->end, b->end.len == 0 ? b->key : b->end);
    return c != 0 ? c > 0 : a->end.len == 0 || b->end.len > 0;
}

static bool is_before(const struct interval *a, const struct interval *b)
{
    int c = slice_cmp(a->key, b->key);
    return c != 0 ? c < 0 : a->number < b->number;
}

/* --- the tree -------------------------------------------------------------------------------------------------------- */

static struct interval *look_below(struct interval *i)
{
    i->last = i;
    if (i->left != NULL && outlasts(i->left->last, i->last)) {
        i->last = i->left->last;
    }
    if (i->right != NULL && outlasts(i->right->last, i->last)) {
        i->last = i->right->last;
    }
    return i;
}

/* All of `a` come before all of `b`. */
static struct interval *merge(struct interval *a, struct interval *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (a->weight >= b->weight) {
        a->right = merge(a->right, b);
        return look_below(a);
    }
    b->left = merge(a, b->left);
    return look_below(b);
}

static void split(struct interval *t, const struct interval *at, struct interval **before, struct interval **behind)
{
    if (t == NULL) {
        *before = NULL;
        *behind = NULL;
    } else if (is_before(t, at)) {
        split(t->right, at, &t->right, behind);
        *before = look_below(t);
    } else {
        split(t->left, at, before, &t->left);
        *behind = look_below(t);
    }
}

static struct interval *add_below(struct interval *t, struct interval *i)
{
    if (t == NULL || t->weight < i->weight) {
        split(t, i, &i->left, &i->right);
        return look_below(i);
    }
    struct interval **side = is_before(i, t) ? &t->left : &t->right;
    *side = add_below(*side, i);
    return look_below(t);
}

static struct interval *remove_below(struct interval *t, const struct interval *i)
{
    ASSERT(t != NULL);
    if (t == i) {
        return merge(t->left, t->right);
    }
    struct interval **side = is_before(i, t) ? &t->left : &t->right;
    *side = remove_below(*side, i);
    return look_below(t);
}

struct taking {
    struct slice key, end;
    struct interval **next; /* where the next one that is taken goes */
};

static struct interval *take_below(struct interval *t, struct taking *k)
{
    if (t == NULL || !reaches(t->last, k->key)) {
        return t;
    }
    t->left = take_below(t->left, k);
    if (!begins_before(t, k->key, k->end)) {
        return look_below(t); /* nor do those to the right */
    }
    struct interval *left = t->left;
    if (!reaches(t, k->key)) {
        t->right = take_below(t->right, k);
        return look_below(t);
    }
    struct interval *right = t->right;
    t->left = NULL;
    t->right = NULL;
    *k->next = t;
    k->next = &t->right;
    return merge(left, take_below(right, k));
}

/* --- public -------------------------------------------------------------------------------------------------------- */

/* The finaliser of SplitMix64: a counter's values come out spread evenly. */
static uint64_t spread(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

void intervals_add(struct intervals *t, struct interval *i)
{
    i->number = ++t->n_added;
    i->weight = spread(i->number);
    t->root = add_below(t->root, i);
}

void intervals_remove(struct intervals *t, struct interval *i)
{
    t->root = remove_below(t->root, i);
}

struct interval *intervals_take(struct intervals *t, struct slice key, struct slice end)
{
    struct interval *taken = NULL;
    struct taking k = {.key = key, .end = end, .next = &taken};
    t->root = take_below(t->root, &k);
    return taken;
}
