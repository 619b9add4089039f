/* auth_fixture.c - see auth_fixture.h. */
#include "auth_fixture.h"

#include <stdio.h>
#include <stdlib.h>

static void heard_token(void *arg, const char *user, const char *token)
{
    struct world *w = arg;
    (void)snprintf(w->user, sizeof(w->user), "%s", user);
    (void)snprintf(w->token, sizeof(w->token), "%s", token);
    w->n_tokens++;
}

static void heard_user(void *arg, const char *user)
{
    struct world *w = arg;
    (void)snprintf(w->user, sizeof(w->user), "%s", user);
    w->n_users++;
}

static void heard_all(void *arg)
{
    ((struct world *)arg)->n_all++;
}

static const struct auth_events events = {heard_token, heard_user, heard_all};

void world_init(struct world *w)
{
    *w = (struct world){.auth = auth_create(), .as = "", .revision = UINT64_MAX};
    auth_set_events(w->auth, &events, w);
}

void world_deinit(struct world *w)
{
    auth_destroy(&w->auth);
    rows_deinit(&w->rows);
    bytes_deinit(&w->body);
}

struct auth *world_restored(const struct world *w)
{
    struct auth *a = auth_create();
    for (size_t i = 0; i < w->rows.n; i++) {
        const struct row *r = &w->rows.v[i];
        bool last = r->value != NULL;
        for (size_t k = i + 1; last && k < w->rows.n; k++) {
            last = w->rows.v[k].bucket != r->bucket ||
                   !slice_eq(buf_slice(w->rows.v[k].key), buf_slice(r->key));
        }
        if (last) {
            assert_int_equal(auth_restore_row(a, r->bucket, buf_slice(r->key), buf_slice(r->value)),
                             OK);
        }
    }
    return a;
}

enum err world_apply(struct world *w, Etcdserverpb__InternalRaftRequest *r)
{
    Etcdserverpb__RequestHeader h = ETCDSERVERPB__REQUEST_HEADER__INIT;
    h.id = ++w->index;
    h.username = (char *)(uintptr_t)w->as;
    h.auth_revision = w->as[0] == 0               ? 0
                      : w->revision == UINT64_MAX ? auth_revision(w->auth)
                                                  : w->revision;
    r->header = &h;
    size_t len = etcdserverpb__internal_raft_request__get_packed_size(r);
    uint8_t *data = xalloc(len);
    (void)etcdserverpb__internal_raft_request__pack(r, data);
    enum err err = auth_strings_fit(slice_of(data, len)) ? OK : ERR_AUTH_MANAGEMENT;
    Etcdserverpb__InternalRaftRequest *back =
        etcdserverpb__internal_raft_request__unpack(NULL, len, data);
    assert_non_null(back);
    size_t n_rows = w->rows.n;
    uint64_t revision = auth_revision(w->auth);
    bytes_reset(&w->body);
    if (err == OK) {
        err = auth_gate(w->auth, back);
    }
    if (err == OK) {
        err = auth_apply(w->auth, back, w->index, &w->rows, &w->body);
    }
    if (err != OK) {
        assert_int_equal(w->rows.n, n_rows);
        assert_int_equal(auth_revision(w->auth), revision);
        assert_int_equal(w->body.len, 0);
    }
    etcdserverpb__internal_raft_request__free_unpacked(back, NULL);
    free(data);
    r->header = NULL;
    return err;
}

struct slice end_of(const char *end)
{
    static const uint8_t zero[1];
    return strcmp(end, "*") == 0 ? slice_of(zero, 1) : slice_str(end);
}

ProtobufCBinaryData pb(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

ProtobufCBinaryData pb_end(const char *end)
{
    struct slice s = end_of(end);
    return (ProtobufCBinaryData){s.len, (uint8_t *)(uintptr_t)s.data};
}

/* A request of one kind, with `field` of InternalRaftRequest pointing to it. */
#define BEGIN(type, field, ...)                                                                    \
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;               \
    type m = __VA_ARGS__;                                                                          \
    r.field = &m
#define TEXT(s) ((char *)(uintptr_t)(s))

/* A function that applies a request without fields, with one text, with two. */
#define BARE(function, type, init, field)                                                          \
    enum err function(struct world *w)                                                             \
    {                                                                                              \
        BEGIN(type, field, init);                                                                  \
        return world_apply(w, &r);                                                                 \
    }
#define NAMED(function, type, init, field, text)                                                   \
    enum err function(struct world *w, const char *value)                                          \
    {                                                                                              \
        BEGIN(type, field, init);                                                                  \
        m.text = TEXT(value);                                                                      \
        return world_apply(w, &r);                                                                 \
    }
#define PAIRED(function, type, init, field, text, text2)                                           \
    enum err function(struct world *w, const char *value, const char *value2)                      \
    {                                                                                              \
        BEGIN(type, field, init);                                                                  \
        m.text = TEXT(value);                                                                      \
        m.text2 = TEXT(value2);                                                                    \
        return world_apply(w, &r);                                                                 \
    }

NAMED(user_delete, Etcdserverpb__AuthUserDeleteRequest,
      ETCDSERVERPB__AUTH_USER_DELETE_REQUEST__INIT, auth_user_delete, name)
NAMED(user_get, Etcdserverpb__AuthUserGetRequest, ETCDSERVERPB__AUTH_USER_GET_REQUEST__INIT,
      auth_user_get, name)
NAMED(role_add, Etcdserverpb__AuthRoleAddRequest, ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT,
      auth_role_add, name)
NAMED(role_delete, Etcdserverpb__AuthRoleDeleteRequest,
      ETCDSERVERPB__AUTH_ROLE_DELETE_REQUEST__INIT, auth_role_delete, role)
NAMED(role_get, Etcdserverpb__AuthRoleGetRequest, ETCDSERVERPB__AUTH_ROLE_GET_REQUEST__INIT,
      auth_role_get, role)
BARE(user_list, Etcdserverpb__AuthUserListRequest, ETCDSERVERPB__AUTH_USER_LIST_REQUEST__INIT,
     auth_user_list)
BARE(role_list, Etcdserverpb__AuthRoleListRequest, ETCDSERVERPB__AUTH_ROLE_LIST_REQUEST__INIT,
     auth_role_list)
BARE(auth_on, Etcdserverpb__AuthEnableRequest, ETCDSERVERPB__AUTH_ENABLE_REQUEST__INIT, auth_enable)
BARE(auth_off, Etcdserverpb__AuthDisableRequest, ETCDSERVERPB__AUTH_DISABLE_REQUEST__INIT,
     auth_disable)
BARE(auth_status, Etcdserverpb__AuthStatusRequest, ETCDSERVERPB__AUTH_STATUS_REQUEST__INIT,
     auth_status)
PAIRED(user_password, Etcdserverpb__AuthUserChangePasswordRequest,
       ETCDSERVERPB__AUTH_USER_CHANGE_PASSWORD_REQUEST__INIT, auth_user_change_password, name,
       hashedpassword)
PAIRED(user_grant, Etcdserverpb__AuthUserGrantRoleRequest,
       ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT, auth_user_grant_role, user, role)
PAIRED(user_revoke, Etcdserverpb__AuthUserRevokeRoleRequest,
       ETCDSERVERPB__AUTH_USER_REVOKE_ROLE_REQUEST__INIT, auth_user_revoke_role, name, role)
PAIRED(login, Etcdserverpb__InternalAuthenticateRequest,
       ETCDSERVERPB__INTERNAL_AUTHENTICATE_REQUEST__INIT, authenticate, name, simple_token)

enum err user_add(struct world *w, const char *name)
{
    BEGIN(Etcdserverpb__AuthUserAddRequest, auth_user_add,
          ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT);
    m.name = TEXT(name);
    m.hashedpassword = TEXT("aGFzaA==");
    return world_apply(w, &r);
}

enum err role_grant(struct world *w, const char *role, int type, const char *key, const char *end)
{
    BEGIN(Etcdserverpb__AuthRoleGrantPermissionRequest, auth_role_grant_permission,
          ETCDSERVERPB__AUTH_ROLE_GRANT_PERMISSION_REQUEST__INIT);
    Authpb__Permission p = AUTHPB__PERMISSION__INIT;
    p.permtype = (Authpb__Permission__Type)type;
    p.key = pb(key);
    p.range_end = pb_end(end);
    m.name = TEXT(role);
    m.perm = type < 0 ? NULL : &p;
    return world_apply(w, &r);
}

enum err role_revoke(struct world *w, const char *role, const char *key, const char *end)
{
    BEGIN(Etcdserverpb__AuthRoleRevokePermissionRequest, auth_role_revoke_permission,
          ETCDSERVERPB__AUTH_ROLE_REVOKE_PERMISSION_REQUEST__INIT);
    m.role = TEXT(role);
    m.key = pb(key);
    m.range_end = pb_end(end);
    return world_apply(w, &r);
}

void world_enable(struct world *w)
{
    assert_int_equal(user_add(w, "root"), OK);
    assert_int_equal(user_grant(w, "root", "root"), OK);
    assert_int_equal(auth_on(w), OK);
    w->as = "root";
}

enum err may(struct world *w, const char *user, enum demand_verb verb, const char *key,
             const char *end)
{
    const struct auth_identity id = {user, user[0] == 0 ? 0 : auth_revision(w->auth)};
    return auth_check(w->auth, &id, verb, slice_str(key), end_of(end));
}
