/* test_demand.c - what requests demand; and etcd's advisories about permissions, each as a user who
 * must not get through. */
#include <stdlib.h>

#include "auth_fixture.h"
#include "engine/engine.h"

#define ZERO_END "*"

static Etcdserverpb__RequestOp op_of_put(Etcdserverpb__PutRequest *p)
{
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT;
    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    op.request_put = p;
    return op;
}

static Etcdserverpb__RequestOp op_of_txn(Etcdserverpb__TxnRequest *t)
{
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT;
    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
    op.request_txn = t;
    return op;
}

/* --- flattening
 * ---------------------------------------------------------------------------------------- */

static void test_depth(void **state)
{
    (void)state;
    Etcdserverpb__TxnRequest t[ENGINE_TXN_DEPTH_MAX + 1];
    Etcdserverpb__RequestOp ops[ENGINE_TXN_DEPTH_MAX + 1];
    Etcdserverpb__RequestOp *slots[ENGINE_TXN_DEPTH_MAX + 1];
    Etcdserverpb__PutRequest p = ETCDSERVERPB__PUT_REQUEST__INIT;
    p.key = pb("deep");
    size_t n = ENGINE_TXN_DEPTH_MAX + 1;
    for (size_t i = 0; i < n; i++) {
        etcdserverpb__txn_request__init(&t[i]);
        ops[i] = i + 1 < n ? op_of_txn(&t[i + 1]) : op_of_put(&p);
        slots[i] = &ops[i];
        t[i].n_failure = 1;
        t[i].failure = &slots[i];
    }
    struct demand_list l;
    struct demand_request r = {.kind = DEMAND_OF_TXN, .of.txn = &t[0]};
    assert_int_equal(demand_list_of(&r, &l), ERR_TOO_MANY_OPS);
    r.of.txn = &t[1];
    assert_int_equal(demand_list_of(&r, &l), OK);
    assert_int_equal(l.n, 1);
    assert_true(slice_eq(l.v[0].key, slice_str("deep")));
    assert_true(demand_list_allows(&l, DEMAND_WRITE, slice_str("deep"), slice_str("")));
    assert_false(demand_list_allows(&l, DEMAND_READ, slice_str("deep"), slice_str("")));
    assert_false(demand_list_allows(&l, DEMAND_WRITE, slice_str("deep"), end_of(ZERO_END)));
    demand_list_deinit(&l);
}

static void test_order(void **state)
{
    (void)state;
    Etcdserverpb__Compare c = ETCDSERVERPB__COMPARE__INIT;
    Etcdserverpb__Compare *cs[] = {&c};
    Etcdserverpb__PutRequest p = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__DeleteRangeRequest d = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    Etcdserverpb__RequestOp nothing = ETCDSERVERPB__REQUEST_OP__INIT;
    Etcdserverpb__RequestOp del = ETCDSERVERPB__REQUEST_OP__INIT;
    Etcdserverpb__TxnRequest inner = ETCDSERVERPB__TXN_REQUEST__INIT;
    Etcdserverpb__TxnRequest outer = ETCDSERVERPB__TXN_REQUEST__INIT;
    c.key = pb("c");
    c.range_end = pb("d");
    p.key = pb("p");
    p.lease = 7;
    p.prev_kv = true;
    d.key = pb("d");
    d.range_end = pb_end(ZERO_END);
    d.prev_kv = true;
    del.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    del.request_delete_range = &d;
    Etcdserverpb__RequestOp put = op_of_put(&p);
    Etcdserverpb__RequestOp txn = op_of_txn(&inner);
    Etcdserverpb__RequestOp *success[] = {&txn, &nothing};
    Etcdserverpb__RequestOp *failure[] = {&del};
    Etcdserverpb__RequestOp *in[] = {&put};
    inner.n_success = 1;
    inner.success = in;
    outer.compare = cs;
    outer.n_compare = 1;
    outer.success = success;
    outer.n_success = 2;
    outer.failure = failure;
    outer.n_failure = 1;
    static const struct {
        enum demand_kind kind;
        enum demand_verb verb;
        const char *key, *end;
    } expected[] = {
        {DEMAND_RANGE, DEMAND_READ, "c", "d"},       {DEMAND_RANGE, DEMAND_WRITE, "p", ""},
        {DEMAND_LEASE_KEYS, DEMAND_WRITE, "", ""},   {DEMAND_RANGE, DEMAND_READ, "p", ""},
        {DEMAND_RANGE, DEMAND_WRITE, "d", ZERO_END}, {DEMAND_RANGE, DEMAND_READ, "d", ZERO_END}};
    struct demand_list l;
    const struct demand_request r = {.kind = DEMAND_OF_TXN, .of.txn = &outer};
    assert_int_equal(demand_list_of(&r, &l), OK);
    assert_int_equal(l.n, ARRAY_LEN(expected));
    for (size_t i = 0; i < l.n; i++) {
        assert_int_equal(l.v[i].kind, expected[i].kind);
        assert_int_equal(l.v[i].verb, expected[i].verb);
        assert_true(slice_eq(l.v[i].key, slice_str(expected[i].key)));
        assert_true(slice_eq(l.v[i].range_end, end_of(expected[i].end)));
    }
    assert_int_equal(l.v[2].lease, 7);
    demand_list_deinit(&l);
}

/* --- permission ranges
 * --------------------------------------------------------------------------------- */

static void test_merging(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    static const struct {
        const char *role, *key, *end;
        int type;
    } perms[] = {{"one", "a", "c", READ}, {"two", "c", "e", READ},  {"one", "h", "", READWRITE},
                 {"two", "m", "p", READ}, {"one", "n", "o", WRITE}, {"two", "o", "s", READWRITE},
                 {"one", "x", "*", READ}, {"two", "y", "z", WRITE}};
    assert_int_equal(role_add(&w, "one"), OK);
    assert_int_equal(role_add(&w, "two"), OK);
    assert_int_equal(user_add(&w, "u"), OK);
    for (size_t i = 0; i < ARRAY_LEN(perms); i++) {
        assert_int_equal(role_grant(&w, perms[i].role, perms[i].type, perms[i].key, perms[i].end),
                         OK);
    }
    assert_int_equal(user_grant(&w, "u", "one"), OK);
    assert_int_equal(user_grant(&w, "u", "two"), OK);
    world_enable(&w);
    static const struct {
        const char *name;
        enum demand_verb verb;
        const char *key, *end;
        bool allowed;
    } rows[] = {
        {"adjacent ranges of two roles are one", DEMAND_READ, "a", "e", true},
        {"its end does not belong to it", DEMAND_READ, "e", "", false},
        {"one key behind the end", DEMAND_READ, "a", "e0", false},
        {"reading is not writing", DEMAND_WRITE, "a", "", false},
        {"a key is not its prefix", DEMAND_READ, "h", "i", false},
        {"a key is not the keys behind it", DEMAND_READ, "h", "*", false},
        {"a key", DEMAND_WRITE, "h", "", true},
        {"not what begins with it", DEMAND_WRITE, "h0", "", false},
        {"overlapping ranges", DEMAND_READ, "m", "s", true},
        {"adjacent for writing", DEMAND_WRITE, "n", "s", true},
        {"and not before", DEMAND_WRITE, "m", "s", false},
        {"open end", DEMAND_READ, "x", "*", true},
        {"from within on", DEMAND_READ, "zzz", "*", true},
        {"to some key", DEMAND_READ, "y", "zz", true},
        {"open request, closed permission", DEMAND_WRITE, "y", "*", false},
        {"before it begins", DEMAND_READ, "w", "*", false},
        {"no key", DEMAND_READ, "", "*", false},
        {"a hole", DEMAND_READ, "a", "h0", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum err e = may(&w, "u", rows[i].verb, rows[i].key, rows[i].end);
        if (e != (rows[i].allowed ? OK : ERR_PERMISSION_DENIED)) {
            fail_msg("%s: %s", rows[i].name, err_text(e));
        }
        assert_int_equal(may(&w, "root", rows[i].verb, rows[i].key, rows[i].end), OK);
        assert_int_equal(may(&w, "", rows[i].verb, rows[i].key, rows[i].end), ERR_USER_EMPTY);
        assert_int_equal(may(&w, "x", rows[i].verb, rows[i].key, rows[i].end),
                         ERR_PERMISSION_DENIED);
    }
    world_deinit(&w);
}

/* --- advisories
 * ---------------------------------------------------------------------------------------- */

/* Eve may read and write "mine" and read "shown"; "secret" hangs on lease 9, "mine" on lease 5. */
struct scene {
    struct world w;
    struct lease_table *leases;
};

static int set_up(void **state)
{
    struct scene *s = xcalloc(1, sizeof(*s));
    int64_t ttl;
    world_init(&s->w);
    assert_int_equal(role_add(&s->w, "r"), OK);
    assert_int_equal(role_grant(&s->w, "r", READWRITE, "mine", ""), OK);
    assert_int_equal(role_grant(&s->w, "r", READ, "shown", ""), OK);
    assert_int_equal(role_grant(&s->w, "r", WRITE, "drop", ""), OK);
    assert_int_equal(user_add(&s->w, "eve"), OK);
    assert_int_equal(user_grant(&s->w, "eve", "r"), OK);
    world_enable(&s->w);
    s->leases = lease_table_create(1);
    assert_int_equal(lease_grant(s->leases, 9, 60, 0, &ttl), OK);
    assert_int_equal(lease_grant(s->leases, 5, 60, 0, &ttl), OK);
    lease_attach(s->leases, slice_str("secret"), 9);
    lease_attach(s->leases, slice_str("mine"), 5);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;
    lease_table_destroy(&s->leases);
    world_deinit(&s->w);
    free(s);
    return 0;
}

static enum err eve(struct scene *s, const struct demand_request *r)
{
    const struct auth_identity id = {"eve", auth_revision(s->w.auth)};
    return auth_check_demands(s->w.auth, &id, r, s->leases);
}

/* Wraps the put into `depth` transactions, in the branch that compares decide against. */
static enum err eve_puts(struct scene *s, const char *key, int64_t lease, bool prev_kv, int depth)
{
    Etcdserverpb__PutRequest p = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__RequestOp ops[8];
    Etcdserverpb__RequestOp *slots[8];
    Etcdserverpb__TxnRequest t[8];
    p.key = pb(key);
    p.lease = lease;
    p.prev_kv = prev_kv;
    struct demand_request r = {.kind = DEMAND_OF_PUT, .of.put = &p};
    for (int i = 0; i < depth; i++) {
        ops[i] = i == 0 ? op_of_put(&p) : op_of_txn(&t[i - 1]);
        slots[i] = &ops[i];
        etcdserverpb__txn_request__init(&t[i]);
        t[i].n_success = i % 2 == 0;
        t[i].success = &slots[i];
        t[i].n_failure = i % 2 == 1;
        t[i].failure = &slots[i];
        r = (struct demand_request){.kind = DEMAND_OF_TXN, .of.txn = &t[i]};
    }
    return eve(s, &r);
}

/* GHSA-rfx7-8w68-q57q: a nested transaction passed unchecked. */
static void test_nested_txn(void **state)
{
    for (int depth = 0; depth < 8; depth++) {
        assert_int_equal(eve_puts(*state, "mine", 0, true, depth), OK);
        assert_int_equal(eve_puts(*state, "secret", 0, false, depth), ERR_PERMISSION_DENIED);
    }
}

/* GHSA-x35m-3gp4-4fh5: prev_kv read, and a lease was attached, without permission inside a nested
 * put. */
static void test_nested_put_options(void **state)
{
    for (int depth = 0; depth < 8; depth++) {
        assert_int_equal(eve_puts(*state, "drop", 0, false, depth), OK);
        assert_int_equal(eve_puts(*state, "drop", 0, true, depth), ERR_PERMISSION_DENIED);
        assert_int_equal(eve_puts(*state, "mine", 5, false, depth), OK);
        assert_int_equal(eve_puts(*state, "mine", 9, false, depth), ERR_PERMISSION_DENIED);
    }
}

/* GHSA-xg4h-6gfc-h4m8: permission for one key let its owner watch every key from there on. */
static void test_watch_from_a_key_on(void **state)
{
    Etcdserverpb__WatchCreateRequest c = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    const struct demand_request r = {.kind = DEMAND_OF_WATCH, .of.watch = &c};
    c.key = pb("shown");
    assert_int_equal(eve(*state, &r), OK);
    c.range_end = pb_end(ZERO_END);
    assert_int_equal(eve(*state, &r), ERR_PERMISSION_DENIED);
    c.key = pb("");
    assert_int_equal(eve(*state, &r), ERR_PERMISSION_DENIED);
    c.range_end = pb("");
    assert_int_equal(eve(*state, &r), ERR_PERMISSION_DENIED);
    c.key = pb("shown");
    c.range_end = pb("shown0");
    assert_int_equal(eve(*state, &r), ERR_PERMISSION_DENIED);
}

/* CVE-2023-32082: LeaseTimeToLive told the keys of a lease to anybody. */
static void test_lease_keys(void **state)
{
    struct scene *s = *state;
    Etcdserverpb__LeaseTimeToLiveRequest l = ETCDSERVERPB__LEASE_TIME_TO_LIVE_REQUEST__INIT;
    Etcdserverpb__LeaseRevokeRequest v = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    Etcdserverpb__LeaseKeepAliveRequest k = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    const struct demand_request ttl = {.kind = DEMAND_OF_LEASE_TIME_TO_LIVE,
                                       .of.lease_time_to_live = &l};
    const struct demand_request revoke = {.kind = DEMAND_OF_LEASE_REVOKE, .of.lease_revoke = &v};
    const struct demand_request alive = {.kind = DEMAND_OF_LEASE_KEEP_ALIVE,
                                         .of.lease_keep_alive = &k};
    const struct demand_request all = {.kind = DEMAND_OF_LEASE_LEASES};
    l.id = v.id = k.id = 9;
    assert_int_equal(eve(s, &ttl), OK); /* the time is no secret */
    l.keys = true;
    assert_int_equal(eve(s, &ttl), ERR_PERMISSION_DENIED);
    assert_int_equal(eve(s, &revoke), ERR_PERMISSION_DENIED);
    assert_int_equal(eve(s, &alive), ERR_PERMISSION_DENIED);
    assert_int_equal(eve(s, &all), ERR_PERMISSION_DENIED);
    l.id = v.id = k.id = 5;
    assert_int_equal(eve(s, &ttl), OK);
    assert_int_equal(eve(s, &revoke), OK);
    assert_int_equal(eve(s, &alive), OK);
    const struct auth_identity id = {"eve", auth_revision(s->w.auth)};
    const struct auth_identity root = {"root", 1};
    assert_int_equal(auth_check_demands(s->w.auth, &id, &ttl, NULL), ERR_PERMISSION_DENIED);
    assert_int_equal(auth_check_demands(s->w.auth, &root, &ttl, NULL), OK);
}

/* CVE-2018-16886 and others: who has no token is nobody, and nobody may do nothing. */
static void test_nobody(void **state)
{
    struct scene *s = *state;
    const struct auth_identity nobody = {"", 0};
    const struct auth_identity late = {"eve", auth_revision(s->w.auth) - 1};
    assert_int_equal(auth_check_known(s->w.auth, &nobody), ERR_USER_EMPTY);
    assert_int_equal(auth_check_known(s->w.auth, &late), OK);
    assert_int_equal(auth_check_root(s->w.auth, &nobody), ERR_USER_EMPTY);
    assert_int_equal(auth_check(s->w.auth, &nobody, DEMAND_READ, slice_str("shown"), slice_str("")),
                     ERR_USER_EMPTY);
    assert_int_equal(auth_check(s->w.auth, &late, DEMAND_READ, slice_str("shown"), slice_str("")),
                     ERR_AUTH_OLD_REVISION);
    assert_int_equal(auth_check_current(s->w.auth, &late), ERR_AUTH_OLD_REVISION);
    assert_int_equal(auth_check_current(s->w.auth, &nobody), OK);
    assert_int_equal(auth_off(&s->w), OK);
    assert_int_equal(auth_check_root(s->w.auth, &nobody), OK);
    assert_int_equal(auth_check_known(s->w.auth, &nobody), OK);
}

int main(void)
{
#define IN_SCENE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depth),      cmocka_unit_test(test_order),
        cmocka_unit_test(test_merging),    IN_SCENE(test_nested_txn),
        IN_SCENE(test_nested_put_options), IN_SCENE(test_watch_from_a_key_on),
        IN_SCENE(test_lease_keys),         IN_SCENE(test_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
