/* test_index.c - the key index against a naive model: sorted keys with their full histories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/index.h"

/* --- random numbers from a fixed seed --------------------------------------------------------- */

struct rng {
    uint64_t s;
};

static uint64_t next(struct rng *r)
{
    r->s += 0x9e3779b97f4a7c15u;
    uint64_t z = r->s;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(struct rng *r, uint64_t n)
{
    return next(r) % n;
}

/* --- key sets --------------------------------------------------------------------------------- */

struct key_set {
    const char *name;
    size_t n;     /* keys wanted; equal ones are dropped */
    size_t n_ops; /* changes and questions of the random test */
    void (*make)(struct rng *r, size_t i, struct bytes *out);
};

static void make_numbers(struct rng *r, size_t i, struct bytes *out)
{
    (void)r;
    bytes_printf(out, "key-%08zu", i);
}

static void make_random_hex(struct rng *r, size_t i, struct bytes *out)
{
    (void)i;
    bytes_printf(out, "/registry/pods/default/p-%015llx", (unsigned long long)(next(r) >> 4));
}

static void make_objects(struct rng *r, size_t i, struct bytes *out)
{
    static const char *const kinds[] = {"pods", "leases", "events", "configmaps", "services/specs"};
    bytes_printf(out, "/registry/%s/ns-%02llu/name-%zu", kinds[below(r, ARRAY_LEN(kinds))],
                 (unsigned long long)below(r, 40), i);
}

static void make_ends(struct rng *r, size_t i, struct bytes *out)
{
    (void)i;
    static const uint8_t ends[] = {0x00, 0xff, 0x01, 0xfe};
    size_t len = 1 + below(r, 14);
    for (size_t k = 0; k < len; k++) {
        bytes_add(out, &ends[below(r, below(r, 4) == 0 ? 4 : 2)], 1);
    }
}

static void make_nested(struct rng *r, size_t i, struct bytes *out)
{
    size_t len = 1 + i % 600;
    for (size_t k = 0; k < len; k++) {
        bytes_add(out, "a", 1);
    }
    if (below(r, 2) == 0) {
        out->data[below(r, len)] = (uint8_t)('a' + below(r, 2));
    }
}

static void make_deep_prefix(struct rng *r, size_t i, struct bytes *out)
{
    (void)i;
    static const size_t depths[] = {0, 3, 100, 250, 499, 508, 511};
    size_t len = depths[below(r, ARRAY_LEN(depths))];
    for (size_t k = 0; k < len; k++) {
        bytes_add(out, "p", 1);
    }
    bytes_printf(out, "%llx", (unsigned long long)below(r, 1u << 20));
}

static void make_long(struct rng *r, size_t i, struct bytes *out)
{
    size_t len = i == 0 ? 2u << 20 : i == 1 ? 1u << 20 : 505 + below(r, i % 10 == 0 ? 40000 : 16);
    uint8_t *p = bytes_reserve(out, len);
    memset(p, 'x', len);
    out->len = len;
    p[below(r, len)] = (uint8_t)below(r, 256);
    p[len - 1] = (uint8_t)below(r, 256);
}

static void make_bytes(struct rng *r, size_t i, struct bytes *out)
{
    (void)i;
    size_t len = 1 + below(r, 9);
    for (size_t k = 0; k < len; k++) {
        uint8_t c = (uint8_t)next(r);
        bytes_add(out, &c, 1);
    }
}

static const struct key_set key_sets[] = {
    {"numbers in a row", 6000, 500000, make_numbers},
    {"one directory of random names", 6000, 500000, make_random_hex},
    {"objects in namespaces", 6000, 500000, make_objects},
    {"only the lowest and highest bytes", 4000, 500000, make_ends},
    {"prefixes of each other", 3000, 300000, make_nested},
    {"common prefixes as long as leaves keep", 3000, 300000, make_deep_prefix},
    {"longer than a leaf holds", 500, 30000, make_long},
    {"any bytes", 6000, 500000, make_bytes},
};

/* --- the model -------------------------------------------------------------------------------- */

struct model_key {
    struct bytes key;
    struct key_version *v; /* ascending */
    size_t n;
    size_t cap;
};

struct model {
    struct model_key *keys; /* sorted */
    size_t n;
    int64_t main;
    int64_t sub;
    int64_t compacted;
};

static int by_key(const void *a, const void *b)
{
    const struct model_key *x = a;
    const struct model_key *y = b;
    return slice_cmp(bytes_slice(&x->key), bytes_slice(&y->key));
}

static void model_init(struct model *m, const struct key_set *set, struct rng *r)
{
    *m = (struct model){.main = 1};
    m->keys = xcalloc(set->n, sizeof *m->keys);
    for (size_t i = 0; i < set->n; i++) {
        set->make(r, i, &m->keys[i].key);
    }
    qsort(m->keys, set->n, sizeof *m->keys, by_key);
    for (size_t i = 0; i < set->n; i++) {
        if (m->n > 0 &&
            slice_eq(bytes_slice(&m->keys[m->n - 1].key), bytes_slice(&m->keys[i].key))) {
            bytes_deinit(&m->keys[i].key);
        } else {
            m->keys[m->n++] = m->keys[i];
        }
    }
}

static void model_deinit(struct model *m)
{
    for (size_t i = 0; i < m->n; i++) {
        bytes_deinit(&m->keys[i].key);
        free(m->keys[i].v);
    }
    free(m->keys);
}

static struct slice key_of(const struct model *m, size_t i)
{
    return bytes_slice(&m->keys[i].key);
}

static const struct key_version *version_at(const struct model *m, size_t i, int64_t at)
{
    const struct model_key *k = &m->keys[i];
    for (size_t n = k->n; n-- > 0;) {
        if (k->v[n].mod.main <= at) {
            return &k->v[n];
        }
    }
    return NULL;
}

static const struct key_version *alive_at(const struct model *m, size_t i, int64_t at)
{
    const struct key_version *v = version_at(m, i, at);
    return v == NULL || v->tombstone ? NULL : v;
}

static void model_add(struct model *m, size_t i, const struct key_version *v)
{
    struct model_key *k = &m->keys[i];
    if (k->n == k->cap) {
        k->cap = k->cap == 0 ? 2 : 2 * k->cap;
        k->v = xrealloc(k->v, k->cap * sizeof *k->v);
    }
    k->v[k->n++] = *v;
}

/* The next change of key i: a put, or a deletion when asked for and possible. */
static struct key_version next_change(struct model *m, struct rng *r, size_t i, bool deletion)
{
    if (below(r, 3) == 0) {
        m->sub++;
    } else {
        m->main += below(r, 5000) == 0 ? (int64_t)5 << 32 : 1;
        m->sub = 0;
    }
    struct key_version v = {.mod = {m->main, m->sub}};
    const struct key_version *before = alive_at(m, i, INDEX_LATEST);
    if (deletion && before != NULL) {
        v.tombstone = true;
        return v;
    }
    v.create_revision = before != NULL ? before->create_revision : m->main;
    v.version = before != NULL ? before->version + 1 : 1;
    v.version += below(r, 3000) == 0 ? (int64_t)7 << 32 : 0;
    v.kv_bytes = (uint32_t)below(r, 1u << 21);
    return v;
}

static void model_compact(struct model *m, int64_t c)
{
    m->compacted = c;
    for (size_t i = 0; i < m->n; i++) {
        struct model_key *k = &m->keys[i];
        size_t first = 0;
        while (first < k->n && k->v[first].mod.main <= c) {
            first++;
        }
        if (first > 0 && !(k->v[first - 1].tombstone && k->v[first - 1].mod.main < c)) {
            first--;
        }
        if (first > 0) {
            memmove(k->v, k->v + first, (k->n - first) * sizeof *k->v);
            k->n -= first;
        }
    }
}

static void assert_stats(const struct index *x, const struct model *m)
{
    uint64_t keys = 0;
    uint64_t live = 0;
    uint64_t old = 0;
    for (size_t i = 0; i < m->n; i++) {
        keys += m->keys[i].n > 0;
        old += m->keys[i].n > 0 ? m->keys[i].n - 1 : 0;
        live += alive_at(m, i, INDEX_LATEST) != NULL;
    }
    struct index_stats s = index_stats(x);
    assert_int_equal(s.keys, keys);
    assert_int_equal(s.live_keys, live);
    assert_int_equal(s.old_versions, old);
    assert_int_equal(index_live_keys(x), live);
}

static void assert_version(const struct key_version *want, const struct key_version *got)
{
    assert_int_equal(want->mod.main, got->mod.main);
    assert_int_equal(want->mod.sub, got->mod.sub);
    assert_int_equal(want->create_revision, got->create_revision);
    assert_int_equal(want->version, got->version);
    assert_int_equal(want->kv_bytes, got->kv_bytes);
    assert_int_equal(want->tombstone, got->tombstone);
}

/* --- one random run --------------------------------------------------------------------------- */

struct walk {
    struct index_cursor c;
    struct bytes to;
    size_t from_i; /* where the model goes on */
    bool open;
};

#define N_WALKS 3

struct run {
    struct rng rng;
    struct model m;
    struct index *x;
    int64_t compacting_to; /* 0: none under way */
    struct walk walks[N_WALKS];
};

static int64_t some_revision(struct run *t)
{
    int64_t low = t->compacting_to > 0 ? t->compacting_to : t->m.compacted;
    switch (below(&t->rng, 4)) {
    case 0:
        return INDEX_LATEST;
    case 1:
        return t->m.main - (int64_t)below(&t->rng, 3) > low ? t->m.main - (int64_t)below(&t->rng, 3)
                                                            : t->m.main;
    case 2: {
        const struct model_key *k = &t->m.keys[below(&t->rng, t->m.n)];
        int64_t main = k->n == 0 ? t->m.main : k->v[below(&t->rng, k->n)].mod.main;
        return main > low ? main : low;
    }
    default:
        return low + (int64_t)below(&t->rng, (uint64_t)(t->m.main - low + 2));
    }
}

/* A bound near a key: the key, a bit above it, or cut short. `*i`: the first key of the model at or
 * above it. */
static void some_bound(struct run *t, struct bytes *out, size_t *i)
{
    *i = below(&t->rng, t->m.n);
    struct slice key = key_of(&t->m, *i);
    bytes_reset(out);
    bytes_add(out, key.data, key.len);
    uint64_t kind = below(&t->rng, 3);
    if (kind == 1) {
        bytes_add(out, "", 1);
    } else if (kind == 2) {
        out->len = 1 + below(&t->rng, out->len);
    }
    struct slice bound = bytes_slice(out);
    size_t lo = 0;
    size_t hi = t->m.n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (slice_cmp(key_of(&t->m, mid), bound) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    *i = lo;
}

static void do_change(struct run *t)
{
    size_t i = below(&t->rng, t->m.n);
    struct key_version v = next_change(&t->m, &t->rng, i, below(&t->rng, 5) < 2);
    model_add(&t->m, i, &v);
    if (v.tombstone) {
        index_tombstone(t->x, key_of(&t->m, i), v.mod);
    } else {
        index_put(t->x, key_of(&t->m, i), &v);
    }
}

static void do_get(struct run *t)
{
    size_t i = below(&t->rng, t->m.n);
    int64_t at = some_revision(t);
    struct key_version got;
    const struct key_version *want = alive_at(&t->m, i, at);
    bool found = index_get(t->x, key_of(&t->m, i), at, &got);
    assert_int_equal(found, want != NULL);
    if (found) {
        assert_version(want, &got);
    }
    want = version_at(&t->m, i, at);
    found = index_version_at(t->x, key_of(&t->m, i), at, &got);
    if (want != NULL && want->tombstone && want->mod.main < t->compacting_to) {
        want = found ? want : NULL; /* gone or not, as far as the compaction has come */
    }
    assert_int_equal(found, want != NULL);
    if (found) {
        assert_version(want, &got);
    }
}

static void do_count(struct run *t)
{
    struct bytes from = {0};
    struct bytes to = {0};
    size_t lo;
    size_t hi;
    some_bound(t, &from, &lo);
    some_bound(t, &to, &hi);
    bool to_end = below(&t->rng, 8) == 0;
    int64_t at = some_revision(t);
    int64_t want = 0;
    for (size_t i = lo; i < (to_end ? t->m.n : hi); i++) {
        want += alive_at(&t->m, i, at) != NULL;
    }
    struct slice end = to_end ? slice_of(NULL, 0) : bytes_slice(&to);
    assert_int_equal(index_count(t->x, bytes_slice(&from), end, at), want);
    bytes_deinit(&from);
    bytes_deinit(&to);
}

static void walk_close(struct walk *w)
{
    if (w->open) {
        index_cursor_deinit(&w->c);
        bytes_deinit(&w->to);
        w->open = false;
    }
}

/* A few steps of one of the walks, which other changes interrupt. */
static void do_walk(struct run *t)
{
    struct walk *w = &t->walks[below(&t->rng, N_WALKS)];
    if (!w->open) {
        struct bytes from = {0};
        size_t hi;
        some_bound(t, &from, &w->from_i);
        w->to = (struct bytes){0};
        if (below(&t->rng, 3) != 0) {
            some_bound(t, &w->to, &hi);
        }
        index_cursor_init(&w->c, t->x, bytes_slice(&from), bytes_slice(&w->to), some_revision(t));
        bytes_deinit(&from);
        w->open = true;
    }
    if (below(&t->rng, 2) == 0) {
        index_cursor_resume(&w->c);
    }
    for (size_t steps = 1 + below(&t->rng, 40); steps > 0; steps--) {
        while (w->from_i < t->m.n && alive_at(&t->m, w->from_i, w->c.at) == NULL) {
            w->from_i++;
        }
        bool more =
            w->from_i < t->m.n &&
            (w->to.data == NULL || slice_cmp(key_of(&t->m, w->from_i), bytes_slice(&w->to)) < 0);
        struct slice key;
        struct key_version v;
        assert_int_equal(index_cursor_next(&w->c, &key, &v), more);
        if (!more) {
            walk_close(w);
            return;
        }
        assert_true(slice_eq(key, key_of(&t->m, w->from_i)));
        assert_version(alive_at(&t->m, w->from_i, w->c.at), &v);
        w->from_i++;
    }
}

static void do_compact(struct run *t, bool whole)
{
    if (t->compacting_to == 0 || below(&t->rng, 50) == 0) {
        int64_t low = t->compacting_to > 0 ? t->compacting_to : t->m.compacted;
        t->compacting_to = low + (int64_t)below(&t->rng, (uint64_t)(t->m.main - low + 1));
        if (below(&t->rng, 2) == 0) {
            const struct model_key *k = &t->m.keys[below(&t->rng, t->m.n)];
            /* often a tombstone just there */
            int64_t main = k->n == 0 ? 0 : k->v[k->n - 1].mod.main;
            t->compacting_to = main >= low ? main : t->compacting_to;
        }
        t->compacting_to = t->compacting_to == 0 ? 1 : t->compacting_to;
        index_compact_begin(t->x, t->compacting_to);
        for (size_t i = 0; i < N_WALKS; i++) {
            if (t->walks[i].open && t->walks[i].c.at < t->compacting_to) {
                walk_close(&t->walks[i]);
            }
        }
    }
    while (!index_compact_step(t->x, 1 + below(&t->rng, 300))) {
        if (!whole) {
            return;
        }
    }
    model_compact(&t->m, t->compacting_to);
    t->compacting_to = 0;
    assert_stats(t->x, &t->m);
}

struct restored_change {
    size_t i;
    struct key_version v;
};

static int by_revision(const void *a, const void *b)
{
    const struct restored_change *x = a;
    const struct restored_change *y = b;
    return rev_cmp(x->v.mod, y->v.mod);
}

/* Load what the model holds into a new index, as at a start, and question that one from now on. */
static void restore(struct run *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->m.n; i++) {
        n += t->m.keys[i].n;
    }
    struct restored_change *all = xcalloc(n, sizeof *all);
    n = 0;
    for (size_t i = 0; i < t->m.n; i++) {
        for (size_t k = 0; k < t->m.keys[i].n; k++) {
            all[n++] = (struct restored_change){i, t->m.keys[i].v[k]};
        }
    }
    qsort(all, n, sizeof *all, by_revision);
    for (size_t i = 0; i < N_WALKS; i++) {
        walk_close(&t->walks[i]);
    }
    index_destroy(&t->x);
    t->x = index_create();
    index_restore_begin(t->x);
    for (size_t i = 0; i < n; i++) {
        index_restore_put(t->x, key_of(&t->m, all[i].i), &all[i].v);
    }
    index_restore_end(t->x);
    free(all);
    index_check(t->x);
    assert_stats(t->x, &t->m);
}

static void some_operation(struct run *t)
{
    uint64_t kind = below(&t->rng, 1000);
    if (kind < 600) {
        do_change(t);
    } else if (kind < 900) {
        do_get(t);
    } else if (kind < 910) {
        do_count(t);
    } else if (kind < 990) {
        do_walk(t);
    } else {
        do_compact(t, kind == 999);
    }
}

static void random_run(void **state)
{
    const struct key_set *set = *state;
    struct run t = {.rng = {42}};
    model_init(&t.m, set, &t.rng);
    t.x = index_create();
    for (size_t op = 0; op < set->n_ops; op++) {
        some_operation(&t);
        if (op % (set->n_ops / 20) == 0) {
            index_check(t.x);
        }
        if (op == set->n_ops / 2) {
            /* one under way ends with the process; the model has not compacted */
            t.compacting_to = 0;
            restore(&t);
        }
    }
    do_compact(&t, true);
    index_check(t.x);
    for (size_t i = 0; i < N_WALKS; i++) {
        walk_close(&t.walks[i]);
    }
    index_destroy(&t.x);
    assert_null(t.x);
    model_deinit(&t.m);
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(key_sets)];
    for (size_t i = 0; i < ARRAY_LEN(key_sets); i++) {
        tests[i] = (struct CMUnitTest){key_sets[i].name, random_run, NULL, NULL,
                                       (void *)(uintptr_t)&key_sets[i]};
    }
    return cmocka_run_group_tests_name("index against the model", tests, NULL, NULL);
}
