/* test_random.c - random request trees of random users, judged by the engine and by a naive model:
 * no difference.
 *
 * PINTLE_AUTH_TREES sets how many trees (the full measure is 1000000), PINTLE_AUTH_SEED where the
 * random numbers begin. Between the trees users, roles, permissions and leases change in both.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "model.h"

#define TREES_DEFAULT 100000
#define DEPTH_MAX 4

struct run {
    struct world w;
    struct model m;
    struct lease_table *leases;
    struct arena *arena;
    uint64_t random;
    uint64_t n_allowed, n_denied;
};

static uint64_t next(struct run *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

static int below(struct run *r, int n)
{
    return (int)((next(r) >> 11) % (uint64_t)n);
}

static bool one_in(struct run *r, int n)
{
    return below(r, n) == 0;
}

/* --- changes of users and roles
 * -------------------------------------------------------------------- */

static struct slice key_of(const struct run *r, int key)
{
    return r->m.keys[key];
}

static ProtobufCBinaryData bin(struct slice s)
{
    return (ProtobufCBinaryData){s.len, (uint8_t *)(uintptr_t)s.data};
}

static enum err grant_permission(struct run *r, int role, const struct m_perm *p, bool revoke)
{
    Etcdserverpb__InternalRaftRequest q = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AuthRoleGrantPermissionRequest g =
        ETCDSERVERPB__AUTH_ROLE_GRANT_PERMISSION_REQUEST__INIT;
    Etcdserverpb__AuthRoleRevokePermissionRequest v =
        ETCDSERVERPB__AUTH_ROLE_REVOKE_PERMISSION_REQUEST__INIT;
    Authpb__Permission perm = AUTHPB__PERMISSION__INIT;
    perm.permtype = (Authpb__Permission__Type)p->type;
    perm.key = bin(key_of(r, p->key));
    perm.range_end = bin(model_end(&r->m, p->end));
    g.name = (char *)(uintptr_t)role_names[role];
    g.perm = &perm;
    v.role = g.name;
    v.key = perm.key;
    v.range_end = perm.range_end;
    if (revoke) {
        q.auth_role_revoke_permission = &v;
    } else {
        q.auth_role_grant_permission = &g;
    }
    return world_apply(&r->w, &q);
}

static void change_permission(struct run *r)
{
    struct model *m = &r->m;
    int role = below(r, N_ROLES);
    struct m_role *mr = &m->roles[role];
    struct m_perm p = {below(r, N_KEYS), below(r, N_KEYS + 2), below(r, 3)};
    bool revoke = one_in(r, 3) || mr->n == N_PERMS;
    if (revoke && mr->n > 0) {
        p = mr->v[below(r, mr->n)];
    }
    int at = -1;
    for (int i = 0; i < mr->n; i++) {
        at = mr->v[i].key == p.key && mr->v[i].end == p.end ? i : at;
    }
    /* Key 0 is the byte zero, which as an end is no key. */
    bool valid = p.end >= N_KEYS || p.end == 0 || p.key < p.end;
    enum err expected = !revoke && !valid  ? ERR_AUTH_MANAGEMENT
                        : !mr->exists      ? ERR_ROLE_NOT_FOUND
                        : revoke && at < 0 ? ERR_PERMISSION_NOT_GRANTED
                                           : OK;
    if (p.end == 0) {
        p.end = END_OPEN;
        at = -1;
        for (int i = 0; i < mr->n; i++) {
            at = mr->v[i].key == p.key && mr->v[i].end == p.end ? i : at;
        }
        expected = expected == ERR_PERMISSION_NOT_GRANTED && at >= 0 ? OK : expected;
    }
    assert_int_equal(grant_permission(r, role, &p, revoke), expected);
    if (expected != OK) {
        return;
    }
    m->revision++;
    if (revoke) {
        mr->v[at] = mr->v[--mr->n];
    } else if (at >= 0) {
        mr->v[at].type = p.type;
    } else {
        mr->v[mr->n++] = p;
    }
}

static void change_role(struct run *r)
{
    struct model *m = &r->m;
    int role = 1 + below(r, N_ROLES - 1);
    bool there = m->roles[role].exists;
    if (one_in(r, 3)) {
        assert_int_equal(role_delete(&r->w, role_names[role]), there ? OK : ERR_ROLE_NOT_FOUND);
        for (int u = 0; there && u < N_USERS; u++) {
            m->users[u].holds[role] = false;
        }
        m->roles[role] = (struct m_role){0};
        m->revision += there;
    } else {
        assert_int_equal(role_add(&r->w, role_names[role]), there ? ERR_ROLE_EXISTS : OK);
        m->roles[role].exists = true;
        m->revision += !there;
    }
}

static void change_user(struct run *r)
{
    struct model *m = &r->m;
    int user = 1 + below(r, N_USERS - 1);
    bool there = m->users[user].exists;
    if (one_in(r, 3)) {
        assert_int_equal(user_delete(&r->w, user_names[user]), there ? OK : ERR_USER_NOT_FOUND);
        m->users[user] = (struct m_user){0};
        m->revision += there;
    } else {
        assert_int_equal(user_add(&r->w, user_names[user]), there ? ERR_USER_EXISTS : OK);
        m->users[user].exists = true;
        m->revision += !there;
    }
}

static void change_membership(struct run *r)
{
    struct model *m = &r->m;
    int user = 1 + below(r, N_USERS - 1);
    int role = one_in(r, 10) ? 0 : 1 + below(r, N_ROLES - 1);
    bool there = m->users[user].exists;
    bool *holds = &m->users[user].holds[role];
    if (one_in(r, role == 0 ? 2 : 4)) {
        enum err expected = !there ? ERR_USER_NOT_FOUND : !*holds ? ERR_ROLE_NOT_GRANTED : OK;
        assert_int_equal(user_revoke(&r->w, user_names[user], role_names[role]), expected);
        m->revision += expected == OK;
        *holds = false;
    } else {
        bool known = role == 0 || m->roles[role].exists;
        enum err expected = !there ? ERR_USER_NOT_FOUND : !known ? ERR_ROLE_NOT_FOUND : OK;
        assert_int_equal(user_grant(&r->w, user_names[user], role_names[role]), expected);
        m->revision += expected == OK && !*holds;
        *holds = *holds || expected == OK;
    }
}

static void change_lease(struct run *r)
{
    int key = below(r, N_KEYS);
    int lease = below(r, N_LEASES + 1) - 1;
    r->m.lease_of_key[key] = lease < 0 ? -1 : lease + 1;
    lease_attach(r->leases, key_of(r, key), lease < 0 ? 0 : lease + 1);
}

static void change_something(struct run *r)
{
    int what = below(r, 20);
    if (what < 8) {
        change_permission(r);
    } else if (what < 10) {
        change_role(r);
    } else if (what < 12) {
        change_user(r);
    } else if (what < 16) {
        change_membership(r);
    } else if (what < 19) {
        change_lease(r);
    } else if (r->m.enabled && one_in(r, 10)) {
        assert_int_equal(auth_off(&r->w), OK);
        r->m.enabled = false;
        r->m.revision++;
    } else {
        assert_int_equal(auth_on(&r->w), OK);
        r->m.enabled = true;
    }
    assert_int_equal(auth_revision(r->w.auth), r->m.revision);
    assert_int_equal(auth_enabled(r->w.auth), r->m.enabled);
}

/* --- random requests
 * ------------------------------------------------------------------------------- */

/* Most ranges are about a few neighbouring keys; some have no key, or end before they begin. */
static void some_range(struct run *r, ProtobufCBinaryData *key, ProtobufCBinaryData *end)
{
    int k = below(r, N_KEYS);
    int e = one_in(r, 2)    ? END_NONE
            : one_in(r, 12) ? END_OPEN
            : one_in(r, 10) ? below(r, N_KEYS)
                            : k + 1 + below(r, 4);
    *key = one_in(r, 200) ? (ProtobufCBinaryData){0} : bin(key_of(r, k));
    *end = bin(model_end(&r->m, e >= N_KEYS && e != END_OPEN ? END_NONE : e));
}

static Etcdserverpb__RangeRequest *some_read(struct run *r)
{
    Etcdserverpb__RangeRequest *q = arena_alloc(r->arena, sizeof(*q));
    etcdserverpb__range_request__init(q);
    some_range(r, &q->key, &q->range_end);
    return q;
}

static Etcdserverpb__PutRequest *some_put(struct run *r)
{
    ProtobufCBinaryData unused;
    Etcdserverpb__PutRequest *q = arena_alloc(r->arena, sizeof(*q));
    etcdserverpb__put_request__init(q);
    some_range(r, &q->key, &unused);
    q->prev_kv = one_in(r, 4);
    q->lease = one_in(r, 3) ? 1 + below(r, N_LEASES + 1) : 0;
    return q;
}

static Etcdserverpb__DeleteRangeRequest *some_delete(struct run *r)
{
    Etcdserverpb__DeleteRangeRequest *q = arena_alloc(r->arena, sizeof(*q));
    etcdserverpb__delete_range_request__init(q);
    some_range(r, &q->key, &q->range_end);
    q->prev_kv = one_in(r, 4);
    return q;
}

static Etcdserverpb__TxnRequest *some_txn(struct run *r, int depth);

static Etcdserverpb__RequestOp *some_op(struct run *r, int depth)
{
    Etcdserverpb__RequestOp *op = arena_alloc(r->arena, sizeof(*op));
    etcdserverpb__request_op__init(op);
    int what = below(r, 9);
    if (what < 3) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        op->request_range = some_read(r);
    } else if (what < 5) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        op->request_put = some_put(r);
    } else if (what < 6) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
        op->request_delete_range = some_delete(r);
    } else if (what < 8 && depth < DEPTH_MAX) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
        op->request_txn = some_txn(r, depth + 1);
    } /* else it is not set */
    return op;
}

static Etcdserverpb__RequestOp **some_ops(struct run *r, int depth, size_t *n)
{
    *n = (size_t)below(r, 3);
    Etcdserverpb__RequestOp **v = arena_alloc(r->arena, (*n + 1) * sizeof(*v));
    for (size_t i = 0; i < *n; i++) {
        v[i] = some_op(r, depth);
    }
    return v;
}

static Etcdserverpb__TxnRequest *some_txn(struct run *r, int depth)
{
    Etcdserverpb__TxnRequest *t = arena_alloc(r->arena, sizeof(*t));
    etcdserverpb__txn_request__init(t);
    t->n_compare = (size_t)below(r, 3) / 2;
    t->compare = arena_alloc(r->arena, (t->n_compare + 1) * sizeof(*t->compare));
    for (size_t i = 0; i < t->n_compare; i++) {
        t->compare[i] = arena_alloc(r->arena, sizeof(**t->compare));
        etcdserverpb__compare__init(t->compare[i]);
        some_range(r, &t->compare[i]->key, &t->compare[i]->range_end);
    }
    t->success = some_ops(r, depth, &t->n_success);
    t->failure = some_ops(r, depth, &t->n_failure);
    return t;
}

static struct demand_request some_request(struct run *r, Etcdserverpb__InternalRaftRequest *entry)
{
    struct demand_request q = {.kind = DEMAND_OF_LEASE_LEASES};
    int what = below(r, 20);
    int64_t lease = 1 + below(r, N_LEASES + 1);
    if (what < 9) {
        q.kind = DEMAND_OF_TXN;
        q.of.txn = entry->txn = some_txn(r, 1);
    } else if (what < 11) {
        q.kind = DEMAND_OF_RANGE;
        q.of.range = entry->range = some_read(r);
    } else if (what < 13) {
        q.kind = DEMAND_OF_PUT;
        q.of.put = entry->put = some_put(r);
    } else if (what < 14) {
        q.kind = DEMAND_OF_DELETE;
        q.of.delete_range = entry->delete_range = some_delete(r);
    } else if (what < 16) {
        Etcdserverpb__WatchCreateRequest *w = arena_alloc(r->arena, sizeof(*w));
        etcdserverpb__watch_create_request__init(w);
        some_range(r, &w->key, &w->range_end);
        q.kind = DEMAND_OF_WATCH;
        q.of.watch = w;
    } else if (what < 17) {
        Etcdserverpb__LeaseRevokeRequest *l = arena_alloc(r->arena, sizeof(*l));
        etcdserverpb__lease_revoke_request__init(l);
        l->id = lease;
        q.kind = DEMAND_OF_LEASE_REVOKE;
        q.of.lease_revoke = entry->lease_revoke = l;
    } else if (what < 18) {
        Etcdserverpb__LeaseKeepAliveRequest *l = arena_alloc(r->arena, sizeof(*l));
        etcdserverpb__lease_keep_alive_request__init(l);
        l->id = lease;
        q.kind = DEMAND_OF_LEASE_KEEP_ALIVE;
        q.of.lease_keep_alive = l;
    } else if (what < 19) {
        Etcdserverpb__LeaseTimeToLiveRequest *l = arena_alloc(r->arena, sizeof(*l));
        etcdserverpb__lease_time_to_live_request__init(l);
        l->id = lease;
        l->keys = one_in(r, 2);
        q.kind = DEMAND_OF_LEASE_TIME_TO_LIVE;
        q.of.lease_time_to_live = l;
    }
    return q;
}

/* --- one tree
 * -------------------------------------------------------------------------------------- */

static void judge_one(struct run *r)
{
    Etcdserverpb__InternalRaftRequest entry = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__RequestHeader header = ETCDSERVERPB__REQUEST_HEADER__INIT;
    struct demand_list list;
    arena_reset(r->arena);
    struct demand_request q = some_request(r, &entry);
    struct m_asker asker = {.m = &r->m, .list = &list};
    asker.user = one_in(r, 20) ? -1 : below(r, N_USERS + 1);
    asker.revision = asker.user < 0 ? 0 : r->m.revision - (uint64_t)one_in(r, 20);
    if (asker.revision == 0) {
        asker.user = -1;
    }
    const char *name = asker.user < 0          ? ""
                       : asker.user == N_USERS ? "nobody"
                                               : user_names[asker.user];
    const struct auth_identity id = {name, asker.revision};

    assert_int_equal(demand_list_of(&q, &list), OK);
    enum err expected = model_request(&asker, &q);
    size_t n_expected = asker.n_touched;
    assert_int_equal(list.n, n_expected);
    enum err found = auth_check_demands(r->w.auth, &id, &q, r->leases);
    assert_int_equal(found, expected);
    if (entry.txn != NULL || entry.range != NULL || entry.put != NULL ||
        entry.delete_range != NULL || entry.lease_revoke != NULL) {
        header.username = (char *)(uintptr_t)name;
        header.auth_revision = asker.revision;
        entry.header = &header;
        assert_int_equal(auth_check_request(r->w.auth, &entry, r->leases), expected);
    }
    demand_list_deinit(&list);
    r->n_allowed += expected == OK;
    r->n_denied += expected != OK;
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL || text[0] == 0 ? otherwise : strtoull(text, NULL, 10);
}

static void test_no_difference(void **state)
{
    (void)state;
    uint64_t n = number_from("PINTLE_AUTH_TREES", TREES_DEFAULT);
    struct run *r = xcalloc(1, sizeof(*r));
    r->random = number_from("PINTLE_AUTH_SEED", 88172645463325252u);
    world_init(&r->w);
    model_init(&r->m);
    r->leases = lease_table_create(1);
    r->arena = arena_create(1u << 16, 1u << 24);
    for (int i = 1; i <= N_LEASES; i++) {
        int64_t ttl;
        assert_int_equal(lease_grant(r->leases, i, 60, 0, &ttl), OK);
    }
    world_enable(&r->w);
    r->m.enabled = true;
    r->m.users[0].exists = r->m.users[0].holds[0] = true;
    r->m.revision = auth_revision(r->w.auth);
    for (uint64_t i = 0; i < n; i++) {
        if (i < 200 || one_in(r, 16)) {
            change_something(r);
        }
        judge_one(r);
        if (r->w.rows.n > 100000) {
            rows_deinit(&r->w.rows);
            r->w.rows = (struct rows){0};
        }
    }
    print_message("%llu trees: %llu allowed, %llu refused\n", (unsigned long long)n,
                  (unsigned long long)r->n_allowed, (unsigned long long)r->n_denied);
    assert_true(n < 10000 || (r->n_allowed > n / 10 && r->n_denied > n / 10));
    arena_destroy(&r->arena);
    lease_table_destroy(&r->leases);
    world_deinit(&r->w);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_difference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
