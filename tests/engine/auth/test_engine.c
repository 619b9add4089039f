/* test_engine.c - users, roles and the check of every entry, through the engine: applied, flushed,
 * restored, replaced. */
#include <stdio.h>
#include <stdlib.h>

#include "../engine_fixture.h"
#include "../install_support.h"
#include "engine/auth.h"

struct scene {
    struct fixture f;
    const char *as;
    int64_t revision; /* of the header; negative: the current one less so many */
};

static struct apply_result send(struct scene *s, Etcdserverpb__InternalRaftRequest *r)
{
    Etcdserverpb__RequestHeader h = ETCDSERVERPB__REQUEST_HEADER__INIT;
    uint64_t now = auth_revision(engine_auth(s->f.e));
    h.id = 77;
    h.username = (char *)(uintptr_t)s->as;
    h.auth_revision = s->as[0] == 0 ? 0 : now + (uint64_t)s->revision;
    r->header = &h;
    struct apply_result out = fixture_request(&s->f, r);
    assert_int_equal(out.request_id, 77);
    r->header = NULL;
    return out;
}

static enum err send_only(struct scene *s, Etcdserverpb__InternalRaftRequest *r)
{
    struct apply_result out = send(s, r);
    buf_unref(&out.body);
    return out.err;
}

#define BEGIN(type, init, field)                                                                   \
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;               \
    type m = init;                                                                                 \
    r.field = &m
#define TEXT(s) ((char *)(uintptr_t)(s))

static ProtobufCBinaryData bin(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

static enum err add_user(struct scene *s, const char *name)
{
    BEGIN(Etcdserverpb__AuthUserAddRequest, ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT,
          auth_user_add);
    m.name = TEXT(name);
    return send_only(s, &r);
}

static enum err add_role(struct scene *s, const char *name)
{
    BEGIN(Etcdserverpb__AuthRoleAddRequest, ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT,
          auth_role_add);
    m.name = TEXT(name);
    return send_only(s, &r);
}

static enum err grant(struct scene *s, const char *user, const char *role)
{
    BEGIN(Etcdserverpb__AuthUserGrantRoleRequest, ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT,
          auth_user_grant_role);
    m.user = TEXT(user);
    m.role = TEXT(role);
    return send_only(s, &r);
}

static enum err permit(struct scene *s, const char *role, const char *key, const char *end)
{
    BEGIN(Etcdserverpb__AuthRoleGrantPermissionRequest,
          ETCDSERVERPB__AUTH_ROLE_GRANT_PERMISSION_REQUEST__INIT, auth_role_grant_permission);
    Authpb__Permission p = AUTHPB__PERMISSION__INIT;
    p.permtype = AUTHPB__PERMISSION__TYPE__READWRITE;
    p.key = bin(key);
    p.range_end = bin(end);
    m.name = TEXT(role);
    m.perm = &p;
    return send_only(s, &r);
}

static enum err turn(struct scene *s, bool on)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AuthEnableRequest e = ETCDSERVERPB__AUTH_ENABLE_REQUEST__INIT;
    Etcdserverpb__AuthDisableRequest d = ETCDSERVERPB__AUTH_DISABLE_REQUEST__INIT;
    if (on) {
        r.auth_enable = &e;
    } else {
        r.auth_disable = &d;
    }
    return send_only(s, &r);
}

static enum err put(struct scene *s, const char *key, int64_t lease, bool prev_kv)
{
    BEGIN(Etcdserverpb__PutRequest, ETCDSERVERPB__PUT_REQUEST__INIT, put);
    m.key = bin(key);
    m.value = bin("v");
    m.lease = lease;
    m.prev_kv = prev_kv;
    return send_only(s, &r);
}

static enum err delete_from(struct scene *s, const char *key, const char *end)
{
    BEGIN(Etcdserverpb__DeleteRangeRequest, ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT, delete_range);
    m.key = bin(key);
    m.range_end = bin(end);
    return send_only(s, &r);
}

static enum err revoke_lease(struct scene *s, int64_t id)
{
    BEGIN(Etcdserverpb__LeaseRevokeRequest, ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT, lease_revoke);
    m.id = id;
    return send_only(s, &r);
}

static enum err txn_put(struct scene *s, const char *key, const char *other)
{
    BEGIN(Etcdserverpb__TxnRequest, ETCDSERVERPB__TXN_REQUEST__INIT, txn);
    Etcdserverpb__PutRequest p[2] = {ETCDSERVERPB__PUT_REQUEST__INIT,
                                     ETCDSERVERPB__PUT_REQUEST__INIT};
    Etcdserverpb__RequestOp op[2] = {ETCDSERVERPB__REQUEST_OP__INIT,
                                     ETCDSERVERPB__REQUEST_OP__INIT};
    Etcdserverpb__RequestOp *ops[2] = {&op[0], &op[1]};
    for (int i = 0; i < 2; i++) {
        p[i].key = bin(i == 0 ? key : other);
        op[i].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        op[i].request_put = &p[i];
    }
    m.n_success = m.n_failure = 1;
    m.success = &ops[0];
    m.failure = &ops[1];
    return send_only(s, &r);
}

static void populate(struct scene *s)
{
    assert_int_equal(add_user(s, "root"), OK);
    assert_int_equal(grant(s, "root", "root"), OK);
    assert_int_equal(add_user(s, "ann"), OK);
    assert_int_equal(add_role(s, "a"), OK);
    assert_int_equal(permit(s, "a", "a", "b"), OK);
    assert_int_equal(grant(s, "ann", "a"), OK);
    assert_int_equal(fixture_grant(&s->f, 5, 60), OK);
    assert_int_equal(fixture_grant(&s->f, 6, 60), OK);
    assert_int_equal(put(s, "z", 5, false), OK);
    assert_int_equal(put(s, "a1", 6, false), OK);
    assert_int_equal(turn(s, true), OK);
}

/* What holds of a populated store, now and after every kind of restart. */
static void check(struct scene *s)
{
    int64_t revision = engine_revision(s->f.e);
    s->as = "";
    assert_int_equal(put(s, "a", 0, false), ERR_USER_EMPTY);
    assert_int_equal(add_user(s, "eve"), ERR_USER_EMPTY);
    s->as = "ghost";
    assert_int_equal(put(s, "a", 0, false), ERR_PERMISSION_DENIED);
    assert_int_equal(add_user(s, "eve"), ERR_USER_NOT_FOUND);
    s->as = "ann";
    assert_int_equal(put(s, "b", 0, false), ERR_PERMISSION_DENIED);
    assert_int_equal(put(s, "a", 5, false), ERR_PERMISSION_DENIED);
    assert_int_equal(delete_from(s, "a", "c"), ERR_PERMISSION_DENIED);
    assert_int_equal(delete_from(s, "a", ""), OK); /* there is none: no new revision */
    assert_int_equal(txn_put(s, "a", "b"), ERR_PERMISSION_DENIED);
    assert_int_equal(revoke_lease(s, 5), ERR_PERMISSION_DENIED);
    assert_int_equal(add_user(s, "eve"), ERR_PERMISSION_DENIED);
    assert_int_equal(turn(s, false), ERR_PERMISSION_DENIED);
    s->revision = -1;
    assert_int_equal(put(s, "a", 0, false), ERR_AUTH_OLD_REVISION);
    s->revision = 0;
    assert_int_equal(engine_revision(s->f.e), revision);
    assert_int_equal(put(s, "a", 0, true), OK);
    assert_int_equal(put(s, "a", 6, true), OK);
    assert_int_equal(txn_put(s, "a", "a2"), OK);
    assert_int_equal(delete_from(s, "a", "a1"), OK);
    assert_int_equal(engine_revision(s->f.e), revision + 4);
    s->as = "root";
    assert_int_equal(put(s, "b", 5, true), OK);
    assert_int_equal(delete_from(s, "b", "c"), OK);
    s->as = "";
}

static void run(enum fixture_kind kind)
{
    struct scene s = {.as = ""};
    fixture_init(&s.f, kind);
    populate(&s);
    check(&s);
    fixture_reopen(&s.f); /* from the log alone */
    check(&s);
    fixture_flush(&s.f);
    fixture_reopen(&s.f); /* from the store */
    check(&s);
    s.as = "root";
    assert_int_equal(revoke_lease(&s, 5), OK);
    s.as = "ann";
    assert_int_equal(revoke_lease(&s, 6), OK);
    s.as = "root";
    assert_int_equal(turn(&s, false), OK);
    s.as = "";
    assert_int_equal(put(&s, "b", 0, false), OK);
    fixture_deinit(&s.f);
}

static void test_in_memory(void **state)
{
    (void)state;
    run(ON_MEMORY);
}

static void test_in_lmdb(void **state)
{
    (void)state;
    run(ON_LMDB);
}

/* Rows come back with the commit they were part of, not before. */
static void test_crash(void **state)
{
    (void)state;
    struct scene s = {.as = ""};
    fixture_init(&s.f, ON_MEMORY);
    populate(&s);
    fixture_flush(&s.f);
    s.as = "root";
    assert_int_equal(add_user(&s, "late"), OK);
    uint64_t revision = auth_revision(engine_auth(s.f.e));
    fixture_flush(&s.f);
    fixture_crash(&s.f, true);
    assert_int_equal(auth_revision(engine_auth(s.f.e)), revision);
    assert_int_equal(add_user(&s, "late"), ERR_USER_EXISTS);
    s.as = "";
    check(&s);
    fixture_deinit(&s.f);
}

/* An alarm is told before a lack of permission, and who administers is asked before the alarm. */
static void test_order_with_alarms(void **state)
{
    (void)state;
    struct scene s = {.as = ""};
    fixture_init(&s.f, ON_MEMORY);
    populate(&s);
    BEGIN(Etcdserverpb__AlarmRequest, ETCDSERVERPB__ALARM_REQUEST__INIT, alarm);
    m.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
    m.memberid = 1;
    m.alarm = ETCDSERVERPB__ALARM_TYPE__NOSPACE;
    assert_int_equal(send_only(&s, &r), OK); /* members raise it themselves, as nobody */
    assert_int_equal(put(&s, "b", 0, false), ERR_NO_SPACE);
    assert_int_equal(delete_from(&s, "b", ""), ERR_USER_EMPTY);
    assert_int_equal(add_user(&s, "eve"), ERR_USER_EMPTY);
    fixture_deinit(&s.f);
}

/* "root" and a NUL is somebody else's name. */
static void test_name_with_a_nul(void **state)
{
    (void)state;
    struct scene s = {.as = ""};
    fixture_init(&s.f, ON_MEMORY);
    populate(&s);
    static const uint8_t entry[] = "\xa2\x06\x0c\x08\x4d\x12\x06root\x00x\x18\x63\x22\x03\x0a\x01z";
    struct apply_result out = fixture_apply(&s.f, RAFTPB__ENTRY_TYPE__EntryNormal,
                                            slice_of(entry, sizeof(entry) - 1), true);
    assert_int_equal(out.err, ERR_AUTH_MANAGEMENT);
    assert_int_equal(out.request_id, 77);
    fixture_deinit(&s.f);
}

static void test_replies(void **state)
{
    (void)state;
    struct scene s = {.as = ""};
    fixture_init(&s.f, ON_MEMORY);
    populate(&s);
    BEGIN(Etcdserverpb__InternalAuthenticateRequest,
          ETCDSERVERPB__INTERNAL_AUTHENTICATE_REQUEST__INIT, authenticate);
    m.name = TEXT("ann");
    m.simple_token = TEXT("letters");
    struct apply_result out = send(&s, &r);
    char token[64];
    (void)snprintf(token, sizeof(token), "letters.%d", (int)s.f.index);
    assert_int_equal(out.err, OK);
    assert_int_equal(out.body->len, strlen(token) + 2);
    assert_memory_equal(out.body->data + 2, token, strlen(token));
    buf_unref(&out.body);
    fixture_deinit(&s.f);
}

/* A snapshot brings its users along, and takes those away that the member had. */
static void snapshot_to(enum fixture_kind kind)
{
    struct scene s = {.as = ""};
    struct target t;
    struct snapshot_info info;
    struct bytes file = {0};
    fixture_init(&s.f, kind);
    install_fill(&s.f, 10);
    populate(&s);
    fixture_flush(&s.f);
    install_take(s.f.e, &file, &info);
    target_init(&t, kind);
    struct auth *a = engine_auth(t.e);
    const struct auth_identity ann = {"ann", auth_revision(engine_auth(s.f.e))};
    assert_false(auth_enabled(a));
    target_install(&t, &file);
    for (int i = 0; i < 2; i++) {
        assert_true(auth_enabled(a));
        assert_int_equal(auth_revision(a), ann.revision);
        assert_int_equal(auth_check(a, &ann, DEMAND_WRITE, slice_str("a"), slice_str("b")), OK);
        assert_int_equal(auth_check(a, &ann, DEMAND_WRITE, slice_str("b"), slice_str("")),
                         ERR_PERMISSION_DENIED);
        if (i == 0) {
            assert_ptr_equal(a, engine_auth(t.e)); /* the same for the engine's life */
            target_crash(&t, false);
            a = engine_auth(t.e);
        }
    }
    target_deinit(&t);
    bytes_deinit(&file);
    fixture_deinit(&s.f);
}

static void test_snapshot(void **state)
{
    (void)state;
    snapshot_to(ON_MEMORY);
    snapshot_to(ON_LMDB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_memory),       cmocka_unit_test(test_in_lmdb),
        cmocka_unit_test(test_crash),           cmocka_unit_test(test_order_with_alarms),
        cmocka_unit_test(test_name_with_a_nul), cmocka_unit_test(test_replies),
        cmocka_unit_test(test_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
