/* test_model.c - the engine against a naive model, under random requests, flushes, crashes and
 * compactions.
 *
 * The model is a list of all changes ever made; every question is answered by reading it from the
 * start. After each round the whole state is compared at several revisions, and ranges with random
 * orders, limits and filters.
 */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 40
#define VERSIONS_MAX 6000

struct version {
    int key;
    int64_t main, create, version, lease;
    bool deleted;
    char value[24];
};

struct model {
    struct version v[VERSIONS_MAX];
    size_t n;
    int64_t revision;
    int64_t compacted;
    bool leases[4]; /* ids 1 to 3 */
    uint32_t rng;
};

static uint32_t rnd(struct model *m, uint32_t n)
{
    m->rng = m->rng * 1664525u + 1013904223u;
    return (m->rng >> 8) % n;
}

static void key_name(int key, char out[8])
{
    snprintf(out, 8, "k%02d", key);
}

static const struct version *at(const struct model *m, int key, int64_t revision)
{
    const struct version *found = NULL;
    for (size_t i = 0; i < m->n && m->v[i].main <= revision; i++) {
        if (m->v[i].key == key) {
            found = &m->v[i];
        }
    }
    return found == NULL || found->deleted ? NULL : found;
}

static void model_put(struct model *m, int64_t main, int key, const char *value, int64_t lease)
{
    const struct version *old = at(m, key, INT64_MAX);
    assert_true(m->n < VERSIONS_MAX);
    struct version v = {.key = key,
                        .main = main,
                        .create = old == NULL ? main : old->create,
                        .version = old == NULL ? 1 : old->version + 1,
                        .lease = lease};
    snprintf(v.value, sizeof(v.value), "%s", value);
    m->v[m->n++] = v;
}

static size_t model_delete(struct model *m, int64_t main, int from, int to)
{
    size_t n = 0;
    for (int k = from; k < to; k++) {
        if (at(m, k, INT64_MAX) != NULL) {
            m->v[m->n++] = (struct version){.key = k, .main = main, .deleted = true};
            n++;
        }
    }
    return n;
}

/* --- requests
 * ----------------------------------------------------------------------------------------- */

static void do_put(struct fixture *f, struct model *m)
{
    char key[8];
    char value[24];
    int k = (int)rnd(m, KEYS);
    int64_t lease = rnd(m, 4) == 0 ? (int64_t)rnd(m, 4) : 0;
    key_name(k, key);
    snprintf(value, sizeof(value), "%u", rnd(m, 1000000));
    if (rnd(m, 50) == 0) {
        value[0] = 0;
    }
    struct apply_result r = fixture_put_full(f, key, value, lease, false, false, false);
    if (lease != 0 && !m->leases[lease]) {
        assert_int_equal(r.err, ERR_LEASE_NOT_FOUND);
        return;
    }
    assert_int_equal(r.err, OK);
    model_put(m, ++m->revision, k, value, lease);
    assert_int_equal(r.revision, m->revision);
}

static void do_delete(struct fixture *f, struct model *m)
{
    char from[8];
    char to[8];
    int a = (int)rnd(m, KEYS);
    int b = rnd(m, 3) == 0 ? a + (int)rnd(m, 6) : a + 1;
    key_name(a, from);
    key_name(b, to);
    size_t n = model_delete(m, m->revision + 1, a, b < KEYS ? b : KEYS);
    m->revision += n > 0;
    assert_int_equal(fixture_delete(f, from, b == a + 1 ? "" : to), n);
    assert_int_equal(engine_revision(f->e), m->revision);
}

/* Then: put one key if it is older than a revision; else delete a stretch and put another. */
static void do_txn(struct fixture *f, struct model *m)
{
    char k1[8];
    char k2[8];
    char k3[8];
    int a = (int)rnd(m, KEYS);
    int b = (int)rnd(m, KEYS - 5);
    int64_t mod = (int64_t)rnd(m, (uint32_t)m->revision + 2);
    key_name(a, k1);
    key_name(b, k2);
    key_name(b + 3, k3);
    Etcdserverpb__Compare c = ETCDSERVERPB__COMPARE__INIT;
    c.key = fixture_bytes(k1);
    c.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
    c.result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS;
    c.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
    c.mod_revision = mod;
    Etcdserverpb__Compare *compares[] = {&c};
    Etcdserverpb__PutRequest p = ETCDSERVERPB__PUT_REQUEST__INIT;
    p.key = fixture_bytes(k1);
    p.value = fixture_bytes("txn");
    Etcdserverpb__DeleteRangeRequest d = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    d.key = fixture_bytes(k2);
    d.range_end = fixture_bytes(k3);
    Etcdserverpb__RequestOp put = ETCDSERVERPB__REQUEST_OP__INIT;
    put.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    put.request_put = &p;
    Etcdserverpb__RequestOp del = ETCDSERVERPB__REQUEST_OP__INIT;
    del.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    del.request_delete_range = &d;
    Etcdserverpb__RequestOp *yes[] = {&put};
    Etcdserverpb__RequestOp *no[] = {&del, &put};
    Etcdserverpb__TxnRequest t = ETCDSERVERPB__TXN_REQUEST__INIT;
    t.n_compare = 1;
    t.compare = compares;
    t.n_success = 1;
    t.success = yes;
    t.n_failure = 2;
    t.failure = no;
    const struct version *old = at(m, a, INT64_MAX);
    bool holds = (old == NULL ? 0 : old->main) < mod;
    m->revision++;
    if (!holds) {
        model_delete(m, m->revision, b, b + 3);
    }
    model_put(m, m->revision, a, "txn", 0);
    struct apply_result r = fixture_txn(f, &t);
    assert_int_equal(r.err, OK);
    Etcdserverpb__TxnResponse *resp =
        etcdserverpb__txn_response__unpack(NULL, r.body->len, r.body->data);
    assert_int_equal(resp->succeeded, holds);
    etcdserverpb__txn_response__free_unpacked(resp, NULL);
    buf_unref(&r.body);
    assert_int_equal(r.revision, m->revision);
}

static void do_lease(struct fixture *f, struct model *m)
{
    int64_t id = 1 + (int64_t)rnd(m, 3);
    if (!m->leases[id]) {
        assert_int_equal(fixture_grant(f, id, 100), OK);
        m->leases[id] = true;
        return;
    }
    size_t n = 0;
    for (int k = 0; k < KEYS; k++) {
        const struct version *v = at(m, k, INT64_MAX);
        if (v != NULL && v->lease == id) {
            n += model_delete(m, m->revision + 1, k, k + 1);
        }
    }
    m->revision += n > 0;
    assert_int_equal(fixture_revoke(f, id), OK);
    m->leases[id] = false;
}

static void do_compact(struct fixture *f, struct model *m)
{
    int64_t to = m->revision - (int64_t)rnd(m, 60);
    enum err expected = to <= m->compacted ? ERR_COMPACTED : OK;
    assert_int_equal(fixture_compact(f, to), expected);
    m->compacted = expected == OK ? to : m->compacted;
}

static void do_storage(struct fixture *f, struct model *m, bool crashes)
{
    uint32_t what = rnd(m, 10);
    if (what < 5) {
        fixture_flush(f);
    } else if (what < 8) {
        engine_step(f->e);
    } else if (crashes) {
        fixture_crash(f, rnd(m, 2) == 0);
    } else {
        fixture_reopen(f);
    }
}

/* --- comparing
 * ------------------------------------------------------------------------------------------ */

static int64_t sort_key(const struct version *v, int target)
{
    return target == 1 ? v->version : target == 2 ? v->create : target == 3 ? v->main : v->key;
}

static int cmp_versions(const struct version *a, const struct version *b, int target)
{
    if (target == 4) {
        return strcmp(a->value, b->value);
    }
    int64_t x = sort_key(a, target);
    int64_t y = sort_key(b, target);
    return (x > y) - (x < y);
}

struct expected {
    const struct version *all[KEYS];
    size_t n;
    int64_t count;
    int64_t seen; /* the revision looked at */
    bool more;
};

static void range_is(struct fixture *f, const struct model *m, const Etcdserverpb__RangeRequest *r,
                     const struct expected *x)
{
    enum err err;
    Etcdserverpb__RangeResponse *resp = fixture_range(f, r, &err);
    assert_int_equal(err, OK);
    assert_int_equal(resp->count, x->count);
    assert_int_equal(resp->more, x->more && !r->count_only);
    assert_int_equal(resp->n_kvs, r->count_only ? 0 : x->n);
    for (size_t i = 0; i < resp->n_kvs; i++) {
        const Mvccpb__KeyValue *kv = resp->kvs[i];
        const struct version *want = x->all[i];
        struct version got = {.key = (kv->key.data[1] - '0') * 10 + kv->key.data[2] - '0',
                              .main = kv->mod_revision,
                              .create = kv->create_revision,
                              .version = kv->version};
        const struct version *same = at(m, got.key, x->seen);
        assert_non_null(same);
        assert_int_equal(got.key, want->key); /* of equals too: they stay in the order of keys */
        assert_int_equal(got.main, same->main);
        assert_int_equal(got.create, same->create);
        assert_int_equal(got.version, same->version);
        assert_int_equal(kv->lease, same->lease);
        size_t value_len = r->keys_only ? 0 : strlen(same->value);
        assert_int_equal(kv->value.len, value_len);
        assert_true(value_len == 0 || memcmp(kv->value.data, same->value, value_len) == 0);
    }
    etcdserverpb__range_response__free_unpacked(resp, NULL);
}

static void compare_range(struct fixture *f, struct model *m)
{
    char from[8];
    char to[8];
    int a = (int)rnd(m, KEYS);
    int b = a + (int)rnd(m, KEYS);
    key_name(a, from);
    key_name(b, to);
    int64_t low = m->compacted < 1 ? 1 : m->compacted;
    int64_t revision =
        rnd(m, 2) == 0 ? 0 : low + (int64_t)rnd(m, (uint32_t)(m->revision - low + 1));
    int64_t seen = revision == 0 ? m->revision : revision;
    Etcdserverpb__RangeRequest r = fixture_range_request(from, to, revision);
    r.limit = rnd(m, 3) == 0 ? (int64_t)rnd(m, 12) : 0;
    r.sort_order = (Etcdserverpb__RangeRequest__SortOrder)rnd(m, 3);
    r.sort_target = (Etcdserverpb__RangeRequest__SortTarget)rnd(m, 5);
    r.keys_only = rnd(m, 4) == 0;
    r.count_only = rnd(m, 8) == 0;
    if (rnd(m, 4) == 0) {
        r.min_mod_revision = (int64_t)rnd(m, (uint32_t)m->revision);
        r.max_create_revision = (int64_t)rnd(m, (uint32_t)m->revision);
    }
    bool filters = r.min_mod_revision != 0 || r.max_create_revision != 0;
    const struct version *all[KEYS];
    size_t n = 0;
    int64_t count = 0;
    for (int k = a; k < b && k < KEYS; k++) {
        const struct version *v = at(m, k, seen);
        if (v == NULL) {
            continue;
        }
        count++;
        if ((r.min_mod_revision == 0 || v->main >= r.min_mod_revision) &&
            (r.max_create_revision == 0 || v->create <= r.max_create_revision)) {
            all[n++] = v;
        }
    }
    if (r.sort_order == 0 && !filters && r.limit > 0 && n > (size_t)r.limit + 1) {
        n = (size_t)r.limit + 1;
    }
    bool down = r.sort_order == 2;
    for (size_t i = 1; i < n; i++) { /* insertion: stable */
        for (size_t k = i; k > 0; k--) {
            int c = cmp_versions(all[k - 1], all[k], (int)r.sort_target);
            if (down ? c >= 0 : c <= 0) {
                break;
            }
            const struct version *swap = all[k];
            all[k] = all[k - 1];
            all[k - 1] = swap;
        }
    }
    bool more = r.limit > 0 && n > (size_t)r.limit;
    n = more ? (size_t)r.limit : n;
    struct expected x = {.n = n, .count = count, .seen = seen, .more = more};
    memcpy(x.all, all, n * sizeof(all[0]));
    range_is(f, m, &r, &x);
}

struct feed {
    const struct model *m;
    size_t at;
};

static void feed_change(void *arg, const struct change *c)
{
    struct feed *fd = arg;
    const struct version *v = &fd->m->v[fd->at++];
    char key[8];
    key_name(v->key, key);
    assert_int_equal(c->rev.main, v->main);
    assert_int_equal(c->deleted, v->deleted);
    assert_int_equal(c->created, v->version == 1);
    assert_true(slice_eq(c->key, slice_str(key)));
}

/* The feed from a revision above the compact revision holds every change, in order. */
static void compare_history(struct fixture *f, struct model *m)
{
    int64_t from = m->compacted + 1 + (int64_t)rnd(m, 50);
    from = from > m->revision ? m->revision : from;
    if (from <= m->compacted) {
        return;
    }
    struct feed fd = {.m = m};
    while (fd.at < m->n && m->v[fd.at].main < from) {
        fd.at++;
    }
    int64_t next = from;
    while (next <= m->revision) {
        int64_t before = next;
        assert_int_equal(engine_history(f->e, next, INT64_MAX - 1, 1 + rnd(m, 9), 1 + rnd(m, 2000),
                                        feed_change, &fd, &next, NULL),
                         OK);
        assert_true(next > before);
    }
    assert_int_equal(fd.at, m->n);
    if (m->compacted > 0) {
        assert_int_equal(engine_history(f->e, m->compacted - 1, m->revision, 5, 5, feed_change, &fd,
                                        &next, NULL),
                         ERR_COMPACTED);
    }
}

static void compare_kv_at(struct fixture *f, struct model *m)
{
    int k = (int)rnd(m, KEYS);
    char key[8];
    key_name(k, key);
    int64_t revision = (int64_t)rnd(m, (uint32_t)m->revision + 1);
    struct buf *kv = NULL;
    assert_int_equal(engine_kv_at(f->e, slice_str(key), revision, &kv, NULL), OK);
    const struct version *v = revision < m->compacted ? NULL : at(m, k, revision);
    assert_int_equal(kv != NULL, v != NULL);
    if (kv != NULL) {
        struct kv_view view;
        assert_int_equal(kv_decode(buf_slice(kv), &view), OK);
        assert_int_equal(view.mod_revision, v->main);
        assert_true(slice_eq(view.value, slice_str(v->value)));
    }
    buf_unref(&kv);
}

static void run(uint32_t seed, enum fixture_kind kind, int n_steps)
{
    struct model *m = xcalloc(1, sizeof(*m));
    m->rng = seed;
    m->revision = 1;
    m->compacted = -1;
    struct fixture f;
    fixture_init(&f, kind);
    f.batch_limit = 1 + seed % 40;
    fixture_reopen(&f);
    for (int i = 0; i < n_steps; i++) {
        uint32_t what = rnd(m, 100);
        if (what < 45) {
            do_put(&f, m);
        } else if (what < 60) {
            do_delete(&f, m);
        } else if (what < 70) {
            do_txn(&f, m);
        } else if (what < 75) {
            do_lease(&f, m);
        } else if (what < 77) {
            do_compact(&f, m);
        } else if (what < 87) {
            do_storage(&f, m, kind == ON_MEMORY);
        } else {
            compare_range(&f, m);
            compare_kv_at(&f, m);
        }
        if (what == 99) {
            compare_history(&f, m);
        }
        assert_int_equal(engine_revision(f.e), m->revision);
        assert_int_equal(engine_compact_revision(f.e), m->compacted);
    }
    for (int i = 0; i < 50; i++) {
        compare_range(&f, m);
    }
    /* What is hashed after a restart is what was hashed before. */
    uint32_t before = fixture_hash_kv(&f, 0);
    fixture_settle(&f);
    assert_int_equal(fixture_hash_kv(&f, 0), before);
    fixture_reopen(&f);
    if (m->compacted != m->revision) {
        assert_int_equal(fixture_hash_kv(&f, 0), before);
    }
    fixture_deinit(&f);
    free(m);
}

static void in_memory_with_crashes(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        run(seed, ON_MEMORY, 1500);
    }
}

static void on_lmdb(void **state)
{
    (void)state;
    for (uint32_t seed = 101; seed <= 106; seed++) {
        run(seed, ON_LMDB, 1500);
    }
}

/* The same log gives the same state on every member, whatever was flushed and when it crashed. */
static void members_agree(void **state)
{
    (void)state;
    for (uint32_t seed = 201; seed <= 210; seed++) {
        struct model *m = xcalloc(1, sizeof(*m));
        m->rng = seed;
        m->revision = 1;
        m->compacted = -1;
        struct fixture a;
        struct fixture b;
        fixture_init(&a, ON_MEMORY);
        fixture_init(&b, ON_MEMORY);
        for (int i = 0; i < 800; i++) {
            uint32_t what = rnd(m, 10);
            if (what < 6) {
                do_put(&a, m);
            } else if (what < 8) {
                do_delete(&a, m);
            } else {
                do_lease(&a, m);
            }
            const struct logged *entry = &a.log[a.n_log - 1];
            (void)fixture_apply(&b, entry->type, buf_slice(entry->data), false);
            if (rnd(m, 10) == 0) {
                do_storage(&b, m, true);
            }
        }
        assert_int_equal(fixture_hash_kv(&a, 0), fixture_hash_kv(&b, 0));
        fixture_settle(&a);
        fixture_settle(&b);
        uint32_t ha;
        uint32_t hb;
        int64_t revision;
        assert_int_equal(engine_hash(a.e, &ha, &revision, NULL), OK);
        assert_int_equal(engine_hash(b.e, &hb, &revision, NULL), OK);
        assert_int_equal(ha, hb);
        fixture_deinit(&a);
        fixture_deinit(&b);
        free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_memory_with_crashes),
        cmocka_unit_test(on_lmdb),
        cmocka_unit_test(members_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
