/* test_who.c - which identity a call has, which methods it opens, and what of a password reaches
 * the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "api/etcd/auth_identity.h"
#include "api/etcd/auth_method.h"
#include "api/etcd/auth_prepare.h"
#include "base/assert.h"
#include "base/mem.h"
#include "engine/auth_base64.h"
#include "engine/store.h"

/* --- a server with root and ann, who may nothing; and a clock
 * ----------------------------------------------------- */

struct scene {
    struct auth *auth;
    struct auth_tokens *tokens;
    struct clock clock;
    struct rows rows;
    uint64_t now_ns;
    struct vfs *disk;
};

static uint64_t now(void *self)
{
    return ((struct scene *)self)->now_ns;
}

static void apply(struct scene *s, Etcdserverpb__InternalRaftRequest *r, uint64_t index)
{
    assert_int_equal(auth_apply(s->auth, r, index, &s->rows, NULL), OK);
}

static void add_user(struct scene *s, const char *name, bool root)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__InternalRaftRequest r2 = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AuthUserAddRequest u = ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
    Etcdserverpb__AuthUserGrantRoleRequest g = ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT;
    u.name = g.user = (char *)(uintptr_t)name;
    g.role = (char *)(uintptr_t) "root";
    r.auth_user_add = &u;
    apply(s, &r, 1);
    if (root) {
        r2.auth_user_grant_role = &g;
        apply(s, &r2, 2);
    }
}

static void turn_on(struct scene *s)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AuthEnableRequest on = ETCDSERVERPB__AUTH_ENABLE_REQUEST__INIT;
    r.auth_enable = &on;
    apply(s, &r, 3);
}

static void log_in(struct scene *s, const char *name, uint64_t index)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__InternalAuthenticateRequest m = ETCDSERVERPB__INTERNAL_AUTHENTICATE_REQUEST__INIT;
    m.name = (char *)(uintptr_t)name;
    m.simple_token = (char *)(uintptr_t) "abc";
    r.authenticate = &m;
    apply(s, &r, index);
}

static int set_up(void **state)
{
    struct scene *s = xcalloc(1, sizeof(*s));
    struct err_ctx ec;
    s->auth = auth_create();
    s->clock = (struct clock){now, now, s};
    s->disk = vfs_mem_create();
    assert_int_equal(auth_tokens_create("simple", 0, s->disk, &s->clock, &s->tokens, &ec), OK);
    auth_set_events(s->auth, &auth_tokens_events, s->tokens);
    add_user(s, "root", true);
    add_user(s, "ann", false);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *s = *state;
    auth_tokens_destroy(&s->tokens);
    auth_destroy(&s->auth);
    rows_deinit(&s->rows);
    vfs_mem_destroy(&s->disk);
    free(s);
    return 0;
}

static struct slice text(const char *t)
{
    return t == NULL ? (struct slice){0} : slice_str(t);
}

/* --- identity
 * -------------------------------------------------------------------------------------- */

/* CVE-2018-16886: the certificate of the gateway itself opened its owner's account to everybody. */
static void test_identity(void **state)
{
    struct scene *s = *state;
    turn_on(s);
    log_in(s, "ann", 7);
    static const struct {
        const char *name, *token, *authorization, *gateway, *common_name;
        bool flag;
        enum err err;
        const char *user;
        enum auth_source source;
    } rows[] = {
        {"nothing", NULL, NULL, NULL, NULL, true, OK, "", AUTH_BY_NOTHING},
        {"a token", "abc.7", NULL, NULL, NULL, false, OK, "ann", AUTH_BY_TOKEN},
        {"with the word before it", "Bearer abc.7", NULL, NULL, NULL, false, OK, "ann",
         AUTH_BY_TOKEN},
        {"the other name", NULL, "Bearer abc.7", NULL, NULL, false, OK, "ann", AUTH_BY_TOKEN},
        {"token comes first", "bad.7", "abc.7", NULL, NULL, false, ERR_AUTH_TOKEN, "",
         AUTH_BY_NOTHING},
        {"a token beats the certificate", "abc.7", NULL, NULL, "root", true, OK, "ann",
         AUTH_BY_TOKEN},
        {"a bad token is not mended by a certificate", "bad.7", NULL, NULL, "root", true,
         ERR_AUTH_TOKEN, "", AUTH_BY_NOTHING},
        {"an empty token is a bad one", "", NULL, NULL, "root", true, ERR_AUTH_TOKEN, "",
         AUTH_BY_NOTHING},
        {"a certificate", NULL, NULL, NULL, "root", true, OK, "root", AUTH_BY_CERTIFICATE},
        {"without the flag", NULL, NULL, NULL, "root", false, OK, "", AUTH_BY_NOTHING},
        {"the gateway's certificate", NULL, NULL, "application/json", "root", true, OK, "",
         AUTH_BY_NOTHING},
        {"a token through the gateway", NULL, "abc.7", "application/json", "root", true, OK, "ann",
         AUTH_BY_TOKEN},
        {"not applied yet", "abc.9", NULL, NULL, NULL, false, ERR_BUSY, "", AUTH_BY_NOTHING},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct auth_evidence ev = {.token = text(rows[i].token),
                                         .authorization = text(rows[i].authorization),
                                         .gateway = text(rows[i].gateway),
                                         .common_name = text(rows[i].common_name),
                                         .client_cert_auth = rows[i].flag};
        struct auth_who who;
        struct err_ctx ec;
        enum err e = auth_identify(s->auth, s->tokens, &ev, 8, &who, &ec);
        if (e != rows[i].err || strcmp(who.user, rows[i].user) != 0 ||
            who.source != rows[i].source) {
            fail_msg("%s: %s, %s", rows[i].name, err_text(e), who.user);
        }
        assert_int_equal(who.revision, who.source == AUTH_BY_NOTHING ? 0 : auth_revision(s->auth));
        assert_int_equal(who.wait_index, e == ERR_BUSY ? 9 : 0);
    }
    const struct auth_evidence nul = {.common_name = slice_of("root\0.example", 13),
                                      .client_cert_auth = true};
    struct auth_who who;
    struct err_ctx ec;
    assert_int_equal(auth_identify(s->auth, s->tokens, &nul, 8, &who, &ec), OK);
    assert_int_equal(who.revision, 0);
}

static enum err ask(struct scene *s, const char *token)
{
    const struct auth_evidence ev = {.token = slice_str(token)};
    struct auth_who who;
    struct err_ctx ec;
    return auth_identify(s->auth, s->tokens, &ev, 100, &who, &ec);
}

static void test_tokens_end(void **state)
{
    struct scene *s = *state;
    assert_int_equal(ask(s, "whatever"), OK); /* off: not looked at */
    turn_on(s);
    log_in(s, "ann", 7);
    log_in(s, "root", 8);
    s->now_ns = UINT64_C(300) * 1000000000u;
    assert_int_equal(ask(s, "abc.7"), OK);
    s->now_ns += 1000000000u;
    assert_int_equal(ask(s, "abc.8"), ERR_AUTH_TOKEN);
    assert_int_equal(ask(s, "abc.7"), OK);
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AuthUserChangePasswordRequest c =
        ETCDSERVERPB__AUTH_USER_CHANGE_PASSWORD_REQUEST__INIT;
    c.name = (char *)(uintptr_t) "ann";
    r.auth_user_change_password = &c;
    apply(s, &r, 9);
    assert_int_equal(ask(s, "abc.7"), ERR_AUTH_TOKEN);
    log_in(s, "ann", 10);
    assert_int_equal(ask(s, "abc.10"), OK);
    Etcdserverpb__InternalRaftRequest r2 = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AuthDisableRequest off = ETCDSERVERPB__AUTH_DISABLE_REQUEST__INIT;
    r2.auth_disable = &off;
    apply(s, &r2, 11);
    turn_on(s);
    assert_int_equal(ask(s, "abc.10"), ERR_AUTH_TOKEN);
}

static void test_option(void **state)
{
    struct scene *s = *state;
    struct err_ctx ec;
    assert_int_equal(vfs_write_file(s->disk, "/key", slice_str("secret"), &ec), OK);
    static const struct {
        const char *option;
        enum err err;
        enum auth_token_kind kind;
        const char *unknown;
    } rows[] = {
        {"simple", OK, AUTH_TOKENS_SIMPLE, ""},
        {"simple,a=b", OK, AUTH_TOKENS_SIMPLE, ""},
        {"simple,a", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"", OK, AUTH_TOKENS_NONE, ""},
        {"jwt", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"jwt,sign-method=HS256", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"jwt,sign-method=HS256,priv-key=/key", OK, AUTH_TOKENS_JWT, ""},
        {"jwt,sign-method=HS256,priv-key=/key,ttl=10m,nonce=1,b=2", OK, AUTH_TOKENS_JWT, "nonce,b"},
        {"jwt,sign-method=HS256,priv-key=/key,ttl=ten", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"jwt,sign-method=HS256,priv-key=/none", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"jwt,sign-method=HS256,priv-key=/key,priv-key=/key", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"jwt,sign-method=HS256=x,priv-key=/key", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"jwt,sign-method=XS256,priv-key=/key", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"oauth", ERR_INVALID, AUTH_TOKENS_NONE, ""},
        {"simple,", ERR_INVALID, AUTH_TOKENS_NONE, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct auth_tokens *t = NULL;
        enum err e = auth_tokens_create(rows[i].option, 0, s->disk, &s->clock, &t, &ec);
        if (e != rows[i].err) {
            fail_msg("%s: %s", rows[i].option, err_text(e));
        }
        if (e == OK) {
            assert_int_equal(auth_tokens_kind(t), rows[i].kind);
            assert_string_equal(auth_tokens_unknown_options(t), rows[i].unknown);
        }
        auth_tokens_destroy(&t);
    }
}

/* A JWT says at which auth revision it was made, and no change of users makes it say another. */
static void test_jwt_grows_old(void **state)
{
    struct scene *s = *state;
    struct err_ctx ec;
    struct bytes token = {0};
    struct auth_who who;
    char letters[AUTH_TOKEN_LETTERS_BYTES];
    assert_int_equal(vfs_write_file(s->disk, "/key", slice_str("secret"), &ec), OK);
    auth_tokens_destroy(&s->tokens);
    assert_int_equal(auth_tokens_create("jwt,sign-method=HS512,priv-key=/key,ttl=1m", 0, s->disk,
                                        &s->clock, &s->tokens, &ec),
                     OK);
    auth_set_events(s->auth, &auth_tokens_events, s->tokens);
    turn_on(s);
    assert_int_equal(auth_tokens_letters(s->tokens, letters), OK);
    assert_string_equal(letters, "");
    assert_int_equal(auth_tokens_sign(s->tokens, "ann", auth_revision(s->auth), &token), OK);
    const struct auth_evidence ev = {.token = bytes_slice(&token)};
    assert_int_equal(auth_identify(s->auth, s->tokens, &ev, 0, &who, &ec), OK);
    assert_string_equal(who.user, "ann");
    struct auth_identity id = auth_identity_of(&who);
    assert_int_equal(auth_check(s->auth, &id, DEMAND_READ, slice_str("k"), slice_str("")),
                     ERR_PERMISSION_DENIED);
    add_user(s, "bob", false);
    assert_int_equal(auth_identify(s->auth, s->tokens, &ev, 0, &who, &ec), OK);
    id = auth_identity_of(&who);
    assert_int_equal(auth_check(s->auth, &id, DEMAND_READ, slice_str("k"), slice_str("")),
                     ERR_AUTH_OLD_REVISION);
    s->now_ns = UINT64_C(60) * 1000000000u;
    assert_int_equal(auth_identify(s->auth, s->tokens, &ev, 0, &who, &ec), ERR_AUTH_TOKEN);
    bytes_deinit(&token);
}

static void test_letters(void **state)
{
    struct scene *s = *state;
    char a[AUTH_TOKEN_LETTERS_BYTES];
    char b[AUTH_TOKEN_LETTERS_BYTES];
    assert_int_equal(auth_tokens_letters(s->tokens, a), OK);
    assert_int_equal(auth_tokens_letters(s->tokens, b), OK);
    assert_int_equal(strlen(a), 16);
    assert_string_not_equal(a, b);
    struct bytes none = {0};
    assert_int_equal(auth_tokens_sign(s->tokens, "ann", 1, &none), ERR_AUTH_FAILED);
    char print[AUTH_FINGERPRINT_BYTES];
    auth_token_fingerprint(slice_str("abc"), print);
    assert_string_equal(print, "ba7816bf8f01");
}

/* --- methods
 * -------------------------------------------------------------------------------------- */

/* GHSA-q8m4-xhhv-38mg: MemberList, Alarm, leases and Compact answered nobody. */
static void test_methods(void **state)
{
    struct scene *s = *state;
    const struct auth_identity nobody = {"", 0};
    const struct auth_identity ann = {"ann", 100};
    const struct auth_identity root = {"root", 100};
    const struct auth_identity ghost = {"ghost", 100};
    static const struct {
        const char *path;
        enum err nobody, ann;
    } rows[] = {
        {"/etcdserverpb.KV/Compact", ERR_USER_EMPTY, ERR_PERMISSION_DENIED},
        {"/etcdserverpb.Cluster/MemberList", ERR_USER_EMPTY, OK},
        {"/etcdserverpb.Cluster/MemberAdd", ERR_USER_EMPTY, ERR_PERMISSION_DENIED},
        {"/etcdserverpb.Cluster/MemberPromote", ERR_USER_EMPTY, ERR_PERMISSION_DENIED},
        {"/etcdserverpb.Maintenance/Status", ERR_USER_EMPTY, OK},
        {"/etcdserverpb.Maintenance/Snapshot", ERR_USER_EMPTY, ERR_PERMISSION_DENIED},
        {"/etcdserverpb.Maintenance/Hash", ERR_USER_EMPTY, ERR_PERMISSION_DENIED},
        {"/etcdserverpb.Maintenance/Downgrade", ERR_USER_EMPTY, ERR_PERMISSION_DENIED},
        {"/etcdserverpb.Lease/LeaseGrant", ERR_USER_EMPTY, OK},
        {"/etcdserverpb.Lease/LeaseRevoke", ERR_USER_EMPTY, OK},
        {"/etcdserverpb.Lease/LeaseKeepAlive", ERR_USER_EMPTY, OK},
        {"/etcdserverpb.Lease/LeaseTimeToLive", ERR_USER_EMPTY, OK},
        {"/etcdserverpb.Lease/LeaseLeases", ERR_USER_EMPTY, OK},
        {"/etcdserverpb.Auth/Authenticate", OK, OK},
        {"/etcdserverpb.Auth/AuthStatus", OK, OK},
        {"/grpc.health.v1.Health/Check", OK, OK},
        {"/etcdserverpb.KV/Forgotten", ERR_PERMISSION_DENIED, ERR_PERMISSION_DENIED},
    };
    assert_int_equal(auth_method_admit("/etcdserverpb.KV/Compact", s->auth, &nobody), OK);
    turn_on(s);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(auth_method_admit(rows[i].path, s->auth, &nobody), rows[i].nobody);
        assert_int_equal(auth_method_admit(rows[i].path, s->auth, &ann), rows[i].ann);
    }
    assert_int_equal(auth_method_admit("/etcdserverpb.KV/Compact", s->auth, &root), OK);
    assert_int_equal(auth_method_admit("/etcdserverpb.KV/Compact", s->auth, &ghost),
                     ERR_USER_NOT_FOUND);
    Etcdserverpb__AlarmRequest alarm = ETCDSERVERPB__ALARM_REQUEST__INIT;
    assert_int_equal(auth_alarm_admit(&alarm, s->auth, &nobody), ERR_USER_EMPTY);
    assert_int_equal(auth_alarm_admit(&alarm, s->auth, &ann), OK);
    alarm.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
    assert_int_equal(auth_alarm_admit(&alarm, s->auth, &nobody), ERR_USER_EMPTY);
    assert_int_equal(auth_alarm_admit(&alarm, s->auth, &ann), ERR_PERMISSION_DENIED);
    assert_int_equal(auth_alarm_admit(&alarm, s->auth, &root), OK);
    assert_string_equal(auth_path_kv_put, "/etcdserverpb.KV/Put");
}

/* --- passwords on their way to the log: GHSA-528j-9r78-wffx, CVE-2021-28235
 * --------------------------------------------- */

static bool contains(const struct bytes *b, const char *needle)
{
    return memmem(b->data, b->len, needle, strlen(needle)) != NULL;
}

static void test_no_clear_text(void **state)
{
    (void)state;
    static const uint8_t salt[PASSWORD_SALT_BYTES] = {1, 2, 3};
    struct bytes out = {0};
    char password[] = "clear text";
    Etcdserverpb__AuthUserAddRequest r = ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
    Authpb__UserAddOptions o = AUTHPB__USER_ADD_OPTIONS__INIT;
    r.name = (char *)(uintptr_t) "ann";
    r.password = password;
    r.hashedpassword = (char *)(uintptr_t) "c2VudA==";
    assert_int_equal(auth_prepare_user_add(&r, 4, salt, &out), OK);
    assert_false(contains(&out, "clear"));
    assert_false(contains(&out, "c2VudA=="));
    for (size_t i = 0; i < sizeof(password); i++) {
        assert_int_equal(password[i], 0);
    }
    Etcdserverpb__AuthUserAddRequest *back =
        etcdserverpb__auth_user_add_request__unpack(NULL, out.len, out.data);
    assert_non_null(back);
    struct bytes hash = {0};
    assert_int_equal(base64_decode(slice_str(back->hashedpassword), &hash), OK);
    bytes_add(&hash, "", 1);
    assert_true(password_verify("clear text", (const char *)hash.data));
    assert_string_equal(back->name, "ann");
    assert_null(back->options);
    etcdserverpb__auth_user_add_request__free_unpacked(back, NULL);
    bytes_deinit(&hash);

    /* Who shall have no password leaves none in the log either. */
    char unused[] = "clear text";
    bytes_reset(&out);
    o.no_password = true;
    r.password = unused;
    r.options = &o;
    assert_int_equal(auth_prepare_user_add(&r, 4, salt, &out), OK);
    assert_false(contains(&out, "clear"));
    assert_true(contains(&out, "c2VudA=="));
    assert_int_equal(unused[0], 0);

    char fresh[] = "clear text";
    Etcdserverpb__AuthUserChangePasswordRequest c =
        ETCDSERVERPB__AUTH_USER_CHANGE_PASSWORD_REQUEST__INIT;
    bytes_reset(&out);
    c.name = (char *)(uintptr_t) "ann";
    c.password = fresh;
    assert_int_equal(auth_prepare_change_password(&c, 4, salt, &out), OK);
    assert_false(contains(&out, "clear"));
    assert_int_equal(fresh[0], 0);
    c.hashedpassword = (char *)(uintptr_t) "c2VudA==";
    bytes_reset(&out);
    assert_int_equal(auth_prepare_change_password(&c, 4, salt, &out), OK);
    assert_true(contains(&out, "c2VudA=="));

    char late[PASSWORD_BYTES_MAX + 2];
    memset(late, 'x', sizeof(late));
    late[PASSWORD_BYTES_MAX + 1] = 0;
    c.password = late;
    assert_int_equal(auth_prepare_change_password(&c, 4, salt, &out), ERR_PASSWORD_LENGTH);
    assert_int_equal(late[0], 0);
    bytes_deinit(&out);
}

static void test_entry(void **state)
{
    (void)state;
    struct bytes out = {0};
    const struct auth_identity who = {"ann", 7};
    auth_add_entry_header(&out, 99, &who);
    Etcdserverpb__InternalRaftRequest *r =
        etcdserverpb__internal_raft_request__unpack(NULL, out.len, out.data);
    assert_non_null(r);
    assert_int_equal(r->header->id, 99);
    assert_string_equal(r->header->username, "ann");
    assert_int_equal(r->header->auth_revision, 7);
    etcdserverpb__internal_raft_request__free_unpacked(r, NULL);
    bytes_reset(&out);
    auth_prepare_authenticate("ann", "letters", &out);
    Etcdserverpb__InternalAuthenticateRequest *a =
        etcdserverpb__internal_authenticate_request__unpack(NULL, out.len, out.data);
    assert_non_null(a);
    assert_string_equal(a->name, "ann");
    assert_string_equal(a->simple_token, "letters");
    assert_string_equal(a->password, "");
    etcdserverpb__internal_authenticate_request__free_unpacked(a, NULL);
    bytes_deinit(&out);
}

int main(void)
{
#define IN_SCENE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_SCENE(test_identity),
        IN_SCENE(test_tokens_end),
        IN_SCENE(test_option),
        IN_SCENE(test_jwt_grows_old),
        IN_SCENE(test_letters),
        IN_SCENE(test_methods),
        cmocka_unit_test(test_no_clear_text),
        cmocka_unit_test(test_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
