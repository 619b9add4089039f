/* test_store.c - what each Auth* request answers, in etcd's order of checks, and the rows it
 * leaves. */
#include <stdio.h>
#include <stdlib.h>

#include "auth_fixture.h"
#include "engine/auth_base64.h"
#include "engine/auth_password.h"

static void test_order_of_checks(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    assert_int_equal(auth_revision(w.auth), 1);
    assert_int_equal(auth_on(&w), ERR_ROOT_USER_MISSING);
    assert_int_equal(user_add(&w, ""), ERR_USER_EMPTY);
    assert_int_equal(user_add(&w, "root"), OK);
    assert_int_equal(user_add(&w, "root"), ERR_USER_EXISTS);
    assert_int_equal(auth_on(&w), ERR_ROOT_ROLE_MISSING);
    assert_int_equal(user_grant(&w, "nobody", "nothing"), ERR_USER_NOT_FOUND);
    assert_int_equal(user_grant(&w, "root", "nothing"), ERR_ROLE_NOT_FOUND);
    assert_int_equal(user_grant(&w, "root", "root"), OK); /* the role need not exist */
    assert_int_equal(auth_revision(w.auth), 3);
    assert_int_equal(user_grant(&w, "root", "root"), OK); /* and again changes nothing */
    assert_int_equal(auth_revision(w.auth), 3);
    assert_int_equal(login(&w, "root", "x"), ERR_AUTH_NOT_ENABLED);
    assert_int_equal(auth_on(&w), OK);
    w.as = "root";
    assert_int_equal(auth_on(&w), OK);
    assert_int_equal(auth_revision(w.auth), 3);
    assert_int_equal(user_delete(&w, "root"), ERR_AUTH_MANAGEMENT);
    assert_int_equal(user_revoke(&w, "root", "root"), ERR_AUTH_MANAGEMENT);
    assert_int_equal(role_delete(&w, "root"), ERR_AUTH_MANAGEMENT);
    assert_int_equal(user_delete(&w, "x"), ERR_USER_NOT_FOUND);
    assert_int_equal(user_password(&w, "x", ""), ERR_USER_NOT_FOUND);
    assert_int_equal(user_revoke(&w, "x", "r"), ERR_USER_NOT_FOUND);
    assert_int_equal(user_revoke(&w, "root", "r"), ERR_ROLE_NOT_GRANTED);
    assert_int_equal(user_get(&w, "x"), ERR_USER_NOT_FOUND);
    assert_int_equal(role_add(&w, ""), ERR_ROLE_EMPTY);
    assert_int_equal(role_get(&w, "root"), ERR_ROLE_NOT_FOUND);
    assert_int_equal(role_delete(&w, "r"), ERR_ROLE_NOT_FOUND);
    assert_int_equal(role_add(&w, "r"), OK);
    assert_int_equal(role_add(&w, "r"), ERR_ROLE_EXISTS);
    assert_int_equal(role_grant(&w, "x", -1, "", ""), ERR_PERMISSION_NOT_GIVEN);
    assert_int_equal(role_grant(&w, "x", READ, "", ""), ERR_AUTH_MANAGEMENT);
    assert_int_equal(role_grant(&w, "x", READ, "", "*"), ERR_AUTH_MANAGEMENT);
    assert_int_equal(role_grant(&w, "x", READ, "b", "b"), ERR_AUTH_MANAGEMENT);
    assert_int_equal(role_grant(&w, "x", READ, "b", "a"), ERR_AUTH_MANAGEMENT);
    assert_int_equal(role_grant(&w, "x", READ, "b", "*"), ERR_ROLE_NOT_FOUND);
    assert_int_equal(role_revoke(&w, "x", "b", "*"), ERR_ROLE_NOT_FOUND);
    assert_int_equal(role_grant(&w, "r", READ, "b", "*"), OK);
    assert_int_equal(role_revoke(&w, "r", "b", ""), ERR_PERMISSION_NOT_GRANTED);
    assert_int_equal(role_revoke(&w, "r", "b", "*"), OK);
    assert_int_equal(auth_revision(w.auth), 6);
    assert_int_equal(auth_off(&w), OK);
    assert_int_equal(auth_revision(w.auth), 7);
    assert_int_equal(auth_off(&w), OK);
    assert_int_equal(auth_revision(w.auth), 7);
    assert_int_equal(w.n_all, 2);
    assert_int_equal(user_delete(&w, "root"), OK); /* off: root is like the others */
    world_deinit(&w);
}

/* The admin gate, and the two questions about oneself. */
static void test_gate(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    assert_int_equal(user_add(&w, "eve"), OK);
    assert_int_equal(role_add(&w, "r"), OK);
    assert_int_equal(role_add(&w, "q"), OK);
    assert_int_equal(user_grant(&w, "eve", "r"), OK);
    world_enable(&w);
    static const struct {
        const char *as;
        enum err err;
    } rows[] = {{"", ERR_USER_EMPTY},
                {"ghost", ERR_USER_NOT_FOUND},
                {"eve", ERR_PERMISSION_DENIED},
                {"root", OK}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        w.as = rows[i].as;
        enum err e = rows[i].err;
        assert_int_equal(user_list(&w), e);
        assert_int_equal(role_list(&w), e);
        assert_int_equal(auth_on(&w), e);
        assert_int_equal(user_get(&w, "root"), e);
        assert_int_equal(role_get(&w, "q"), e);
        assert_int_equal(user_password(&w, "eve", ""), e);
        assert_int_equal(auth_status(&w), OK);
        if (e != OK) {
            assert_int_equal(user_add(&w, "new"), e);
            assert_int_equal(user_delete(&w, "eve"), e);
            assert_int_equal(user_grant(&w, "eve", "root"), e);
            assert_int_equal(user_revoke(&w, "eve", "r"), e);
            assert_int_equal(role_add(&w, "new"), e);
            assert_int_equal(role_delete(&w, "r"), e);
            assert_int_equal(role_grant(&w, "r", READ, "a", ""), e);
            assert_int_equal(role_revoke(&w, "r", "a", ""), e);
            assert_int_equal(auth_off(&w), e);
        }
    }
    w.as = "eve";
    assert_int_equal(user_get(&w, "eve"), OK);
    assert_int_equal(role_get(&w, "r"), OK);
    world_deinit(&w);
}

static void expect_body(const struct world *w, const void *bytes, size_t len)
{
    assert_int_equal(w->body.len, len);
    assert_memory_equal(w->body.data, bytes, len);
}

static void test_replies(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    assert_int_equal(user_add(&w, "b"), OK);
    assert_int_equal(user_add(&w, "a"), OK);
    assert_int_equal(user_list(&w), OK);
    expect_body(&w,
                "\x12\x01"
                "a\x12\x01"
                "b",
                6);
    assert_int_equal(role_add(&w, "z"), OK);
    assert_int_equal(role_add(&w, "y"), OK);
    assert_int_equal(role_add(&w, "root"), OK);
    assert_int_equal(role_list(&w), OK);
    expect_body(&w, "\x12\x04root\x12\x01y\x12\x01z", 12);
    assert_int_equal(user_grant(&w, "a", "z"), OK);
    assert_int_equal(user_grant(&w, "a", "y"), OK);
    assert_int_equal(user_get(&w, "a"), OK);
    expect_body(&w, "\x12\x01y\x12\x01z", 6);
    assert_int_equal(role_get(&w, "root"), OK);
    expect_body(&w, "\x12\x05\x08\x02\x1a\x01\x00", 7); /* READWRITE, no key, end zero */
    assert_int_equal(role_grant(&w, "z", WRITE, "k", ""), OK);
    assert_int_equal(role_grant(&w, "z", READ, "c", "d"), OK);
    assert_int_equal(role_grant(&w, "z", READ, "k", ""), OK); /* the type is replaced */
    assert_int_equal(role_get(&w, "z"), OK);
    expect_body(&w,
                "\x12\x06\x12\x01"
                "c\x1a\x01"
                "d\x12\x03\x12\x01k",
                13);
    assert_int_equal(auth_status(&w), OK);
    expect_body(&w, "\x18\x0b", 2);
    world_enable(&w);
    assert_int_equal(auth_status(&w), OK);
    expect_body(&w, "\x10\x01\x18\x0d", 4);
    assert_int_equal(role_delete(&w, "y"), OK);
    assert_int_equal(user_get(&w, "a"), OK);
    expect_body(&w, "\x12\x01z", 3);
    world_deinit(&w);
}

static void test_tokens(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_enable(&w);
    assert_int_equal(user_add(&w, "u"), OK);
    assert_int_equal(login(&w, "ghost", "abc"), ERR_AUTH_FAILED);
    w.as = ""; /* who authenticates has no identity yet */
    assert_int_equal(login(&w, "u", "abc"), OK);
    char expected[64];
    (void)snprintf(expected, sizeof(expected), "abc.%d", (int)w.index);
    assert_string_equal(w.token, expected);
    assert_string_equal(w.user, "u");
    assert_int_equal(w.n_tokens, 1);
    assert_int_equal(w.body.len, strlen(expected) + 2);
    assert_memory_equal(w.body.data + 2, expected, strlen(expected));
    assert_int_equal(login(&w, "u", ""), OK); /* with JWT the member signs that was asked */
    assert_int_equal(w.n_tokens, 1);
    assert_int_equal(w.body.len, 0);
    w.as = "root";
    assert_int_equal(user_password(&w, "u", "eA=="), OK);
    assert_int_equal(w.n_users, 1);
    assert_int_equal(user_delete(&w, "u"), OK);
    assert_int_equal(w.n_users, 2);
    assert_string_equal(w.user, "u");
    world_deinit(&w);
}

static enum err add_with(struct world *w, const char *name, const char *password,
                         const char *hashed, bool options, bool no_password)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AuthUserAddRequest m = ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
    Authpb__UserAddOptions o = AUTHPB__USER_ADD_OPTIONS__INIT;
    o.no_password = no_password;
    m.name = (char *)(uintptr_t)name;
    m.password = (char *)(uintptr_t)password;
    m.hashedpassword = (char *)(uintptr_t)hashed;
    m.options = options ? &o : NULL;
    r.auth_user_add = &m;
    return world_apply(w, &r);
}

static void test_passwords(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    char hash[AUTH_HASH_BYTES];
    uint64_t revision = 0;
    assert_int_equal(add_with(&w, "bad", "", "no base64!", false, false), ERR_NO_PASSWORD_USER);
    assert_int_equal(add_with(&w, "none", "pw", "no base64!", true, true), OK);
    assert_int_equal(add_with(&w, "old", "pw", "", false, false), OK); /* as etcd 3.4 logs it */
    assert_int_equal(add_with(&w, "empty", "", "", true, false), OK);
    assert_int_equal(auth_password_of(w.auth, "none", hash, &revision), ERR_AUTH_NOT_ENABLED);
    world_enable(&w);
    assert_int_equal(auth_password_of(w.auth, "ghost", hash, &revision), ERR_AUTH_FAILED);
    assert_int_equal(auth_password_of(w.auth, "none", hash, &revision), ERR_NO_PASSWORD_USER);
    assert_int_equal(login(&w, "none", "t"), ERR_AUTH_FAILED);
    assert_int_equal(auth_password_of(w.auth, "old", hash, &revision), OK);
    assert_int_equal(revision, auth_revision(w.auth));
    assert_true(password_verify("pw", hash));
    assert_false(password_verify("px", hash));
    assert_int_equal(auth_password_of(w.auth, "empty", hash, &revision), OK);
    assert_string_equal(hash, "");
    assert_false(password_verify("", hash));
    assert_int_equal(user_password(&w, "none", "eA=="), OK); /* stays without */
    assert_int_equal(auth_password_of(w.auth, "none", hash, &revision), ERR_NO_PASSWORD_USER);
    assert_int_equal(user_password(&w, "old", "!"), ERR_NO_PASSWORD_USER);
    assert_int_equal(user_password(&w, "old", "eA=="), OK);
    assert_int_equal(auth_password_of(w.auth, "old", hash, &revision), OK);
    assert_string_equal(hash, "x");
    world_deinit(&w);
}

/* Two members that apply the same entries have the same rows, those with clear text included. */
static void test_rows_are_the_same_everywhere(void **state)
{
    (void)state;
    struct world w[2];
    for (int i = 0; i < 2; i++) {
        world_init(&w[i]);
        assert_int_equal(add_with(&w[i], "old", "pw", "", false, false), OK);
        assert_int_equal(role_add(&w[i], "r"), OK);
        assert_int_equal(role_grant(&w[i], "r", READWRITE, "a", "*"), OK);
        assert_int_equal(user_grant(&w[i], "old", "r"), OK);
        world_enable(&w[i]);
        assert_int_equal(role_delete(&w[i], "r"), OK);
    }
    assert_int_equal(w[0].rows.n, w[1].rows.n);
    for (size_t i = 0; i < w[0].rows.n; i++) {
        const struct row *a = &w[0].rows.v[i];
        const struct row *b = &w[1].rows.v[i];
        assert_int_equal(a->bucket, b->bucket);
        assert_true(slice_eq(buf_slice(a->key), buf_slice(b->key)));
        assert_true(slice_eq(buf_slice(a->value), buf_slice(b->value)));
    }
    world_deinit(&w[0]);
    world_deinit(&w[1]);
}

static void test_restart(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    assert_int_equal(user_add(&w, "u"), OK);
    assert_int_equal(user_add(&w, "gone"), OK);
    assert_int_equal(add_with(&w, "none", "", "", true, true), OK);
    assert_int_equal(role_add(&w, "r"), OK);
    assert_int_equal(role_grant(&w, "r", READ, "a", "c"), OK);
    assert_int_equal(role_grant(&w, "r", WRITE, "b", ""), OK);
    assert_int_equal(user_grant(&w, "u", "r"), OK);
    assert_int_equal(user_delete(&w, "gone"), OK);
    world_enable(&w);
    struct auth *back = world_restored(&w);
    assert_true(auth_enabled(back));
    assert_int_equal(auth_revision(back), auth_revision(w.auth));
    char hash[AUTH_HASH_BYTES];
    uint64_t revision;
    assert_int_equal(auth_password_of(back, "none", hash, &revision), ERR_NO_PASSWORD_USER);
    assert_int_equal(auth_password_of(back, "gone", hash, &revision), ERR_AUTH_FAILED);
    assert_int_equal(auth_password_of(back, "u", hash, &revision), OK);
    assert_string_equal(hash, "hash");
    const struct auth_identity id = {"u", revision};
    const struct auth_identity root = {"root", revision};
    for (int i = 0; i < 2; i++) { /* restored, and put in the place of another's content */
        assert_int_equal(auth_check(back, &id, DEMAND_READ, slice_str("a"), slice_str("c")), OK);
        assert_int_equal(auth_check(back, &id, DEMAND_WRITE, slice_str("b"), slice_str("")), OK);
        assert_int_equal(auth_check(back, &id, DEMAND_WRITE, slice_str("a"), slice_str("")),
                         ERR_PERMISSION_DENIED);
        assert_int_equal(auth_check_root(back, &root), OK);
        if (i == 0) {
            struct auth *other = auth_create();
            auth_replace(other, &back);
            assert_null(back);
            back = other;
        }
    }
    auth_destroy(&back);
    world_deinit(&w);
}

/* Rows as etcd 3.7 wrote them, byte by byte. */
static void test_foreign_rows(void **state)
{
    (void)state;
    static const char user[] = "\x0a\x01u\x12\x02pw\x1a\x01r\x22\x00";
    static const char role[] = "\x0a\x01r\x12\x08\x08\x02\x12\x01"
                               "a\x1a\x01\x00";
    static const char same[] = "\x0a\x01r\x12\x06\x12\x01"
                               "a\x1a\x01\x00";
    static const char revision[] = "\0\0\0\0\0\0\0\x09";
    struct auth *a = auth_create();
    assert_int_equal(
        auth_restore_row(a, BUCKET_AUTH_ROLES, slice_str("r"), slice_of(role, sizeof(role) - 1)),
        OK);
    assert_int_equal(
        auth_restore_row(a, BUCKET_AUTH_USERS, slice_str("u"), slice_of(user, sizeof(user) - 1)),
        OK);
    assert_int_equal(
        auth_restore_row(a, BUCKET_AUTH, slice_str("authRevision"), slice_of(revision, 8)), OK);
    assert_int_equal(auth_restore_row(a, BUCKET_AUTH, slice_str("authEnabled"), slice_of("\1", 1)),
                     OK);
    assert_int_equal(auth_revision(a), 9);
    const struct auth_identity id = {"u", 9};
    const struct auth_identity old = {"u", 8};
    assert_int_equal(auth_check(a, &id, DEMAND_WRITE, slice_str("a"), end_of("*")), OK);
    assert_int_equal(auth_check(a, &old, DEMAND_WRITE, slice_str("a"), end_of("*")),
                     ERR_AUTH_OLD_REVISION);
    /* Twice, under another name, with a name that is too long, cut short. */
    assert_int_equal(
        auth_restore_row(a, BUCKET_AUTH_ROLES, slice_str("r"), slice_of(same, sizeof(same) - 1)),
        ERR_CORRUPT);
    assert_int_equal(
        auth_restore_row(a, BUCKET_AUTH_ROLES, slice_str("q"), slice_of(same, sizeof(same) - 1)),
        ERR_CORRUPT);
    assert_int_equal(auth_restore_row(a, BUCKET_AUTH_USERS, slice_str("u"), slice_of(user, 4)),
                     ERR_CORRUPT);
    assert_int_equal(auth_restore_row(a, BUCKET_AUTH_USERS, slice_of("u\0x", 3),
                                      slice_of(user, sizeof(user) - 1)),
                     ERR_CORRUPT);
    assert_int_equal(auth_restore_row(a, BUCKET_AUTH, slice_str("authEnabled"), slice_of("\2", 1)),
                     ERR_CORRUPT);
    assert_int_equal(
        auth_restore_row(a, BUCKET_AUTH, slice_str("authRevision"), slice_of(revision, 7)),
        ERR_CORRUPT);
    auth_destroy(&a);
}

static void test_names(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    char name[AUTH_NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof(name));
    name[AUTH_NAME_BYTES_MAX + 1] = 0;
    assert_int_equal(user_add(&w, name), ERR_AUTH_MANAGEMENT);
    assert_int_equal(role_add(&w, name), ERR_AUTH_MANAGEMENT);
    name[AUTH_NAME_BYTES_MAX] = 0;
    assert_int_equal(user_add(&w, name), OK);
    assert_int_equal(role_add(&w, name), OK);
    world_deinit(&w);
    /* A NUL in a string would make another name of it. */
    static const struct {
        const char *name;
        const char *data;
        size_t len;
        bool fits;
    } rows[] = {
        {"a plain name", "\xe2\x44\x03\x0a\x01u", 6, true},
        {"a name with a NUL", "\xe2\x44\x04\x0a\x02u\x00", 7, false},
        {"a NUL in a key of a permission",
         "\x9a\x4b\x0a\x0a\x01r\x12\x05\x12\x03"
         "a\x00"
         "b",
         13, true},
        {"a NUL in the name of its role", "\x9a\x4b\x05\x0a\x03r\x00q", 8, false},
        {"a put by root", "\xa2\x06\x06\x12\x04root\x22\x03\x0a\x01k", 14, true},
        {"a put by somebody who begins like root", "\xa2\x06\x08\x12\x06root\x00x\x22\x03\x0a\x01k",
         16, false},
        {"a NUL in a value that is put", "\x22\x07\x0a\x01k\x12\x02\x00\x00", 9, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (auth_strings_fit(slice_of(rows[i].data, rows[i].len)) != rows[i].fits) {
            fail_msg("%s", rows[i].name);
        }
    }
}

static void test_base64(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *plain; /* NULL: refused */
    } rows[] = {{"", ""},          {"Zg==", "f"},      {"Zm8=", "fo"},  {"Zm9v", "foo"},
                {"Zm9\nv", "foo"}, {"Zh==", "f"},      {"Zg=", NULL},   {"Zg", NULL},
                {"Z", NULL},       {"Zg==Zg==", NULL}, {"Zm9v=", NULL}, {"Z-8=", NULL}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes out = {0};
        enum err e = base64_decode(slice_str(rows[i].text), &out);
        assert_int_equal(e, rows[i].plain == NULL ? ERR_INVALID : OK);
        if (rows[i].plain != NULL) {
            assert_true(slice_eq(bytes_slice(&out), slice_str(rows[i].plain)));
        }
        bytes_deinit(&out);
    }
    for (size_t n = 0; n < 64; n++) {
        uint8_t data[64];
        struct bytes text = {0};
        struct bytes url = {0};
        struct bytes back = {0};
        for (size_t i = 0; i < n; i++) {
            data[i] = (uint8_t)(i * 37u + n * 101u);
        }
        base64_encode(slice_of(data, n), &text);
        base64url_encode(slice_of(data, n), &url);
        assert_int_equal(base64_decode(bytes_slice(&text), &back), OK);
        assert_true(slice_eq(bytes_slice(&back), slice_of(data, n)));
        bytes_reset(&back);
        assert_int_equal(base64url_decode(bytes_slice(&url), &back), OK);
        assert_true(slice_eq(bytes_slice(&back), slice_of(data, n)));
        bytes_deinit(&text);
        bytes_deinit(&url);
        bytes_deinit(&back);
    }
    struct bytes out = {0};
    assert_int_equal(base64url_decode(slice_str("Zh"), &out), ERR_INVALID); /* unused bits set */
    assert_int_equal(base64url_decode(slice_str("Zg=="), &out), ERR_INVALID);
    assert_int_equal(base64url_decode(slice_str("Zm9vZ"), &out), ERR_INVALID);
    bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_checks), cmocka_unit_test(test_gate),
        cmocka_unit_test(test_replies),         cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_passwords),       cmocka_unit_test(test_rows_are_the_same_everywhere),
        cmocka_unit_test(test_restart),         cmocka_unit_test(test_foreign_rows),
        cmocka_unit_test(test_names),           cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
