/* auth_apply.c - what the Auth* requests of the log do.
 *
 * Each function checks in etcd's order and then changes tables and rows; a refused request has
 * changed nothing. The auth revision moves with every change but AuthEnable. Nothing here depends
 * on this member: hashes were computed by whoever proposed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/wire.h"
#include "engine/auth_base64.h"
#include "engine/auth_internal.h"
#include "engine/auth_password.h"

#define ROW_ENABLED "authEnabled"
#define ROW_REVISION "authRevision"
#define TOKEN_BYTES_MAX 1024u /* of a simple token's random part; etcd's have 16 letters */

/* Fields of the replies behind the header. */
enum { STATUS_ENABLED = 2, STATUS_REVISION = 3 };
enum { REPLY_TEXT = 2 }; /* token, roles, users, perm */

struct work {
    struct auth *a;
    struct rows *rows;
    struct bytes *body; /* NULL: no reply is wanted */
};

/* --- rows
 * ------------------------------------------------------------------------------------------ */

static void save_enabled(const struct work *w, bool enabled)
{
    const uint8_t row = enabled;
    rows_add(w->rows, BUCKET_AUTH, slice_str(ROW_ENABLED), slice_of(&row, 1));
}

/* The end of every effective change. */
static void advance(const struct work *w)
{
    uint64_t v = auth_revision(w->a) + 1;
    uint8_t row[8];
    for (size_t i = 0; i < sizeof(row); i++) {
        row[i] = (uint8_t)(v >> (56 - 8 * i));
    }
    rows_add(w->rows, BUCKET_AUTH, slice_str(ROW_REVISION), slice_of(row, sizeof(row)));
    atomic_store_explicit(&w->a->revision, v, memory_order_release);
    w->a->generation++;
}

static void save_user(const struct work *w, const struct user *u)
{
    struct bytes row = {0};
    user_encode(u, &row);
    rows_add(w->rows, BUCKET_AUTH_USERS, slice_str(u->name), bytes_slice(&row));
    bytes_deinit(&row);
}

static void save_role(const struct work *w, const struct role *r)
{
    struct bytes row = {0};
    role_encode(r, &row);
    rows_add(w->rows, BUCKET_AUTH_ROLES, slice_str(r->name), bytes_slice(&row));
    bytes_deinit(&row);
}

static bool name_too_long(const char *name)
{
    return strlen(name) > AUTH_NAME_BYTES_MAX;
}

static bool is_root(const char *name)
{
    return strcmp(name, ROOT_NAME) == 0;
}

/* --- on and off
 * ------------------------------------------------------------------------------------ */

static enum err enable(const struct work *w)
{
    if (auth_enabled(w->a)) {
        return OK;
    }
    const struct user *root = user_find(&w->a->users, ROOT_NAME);
    if (root == NULL) {
        return ERR_ROOT_USER_MISSING;
    }
    if (!root->root) {
        return ERR_ROOT_ROLE_MISSING;
    }
    save_enabled(w, true);
    atomic_store_explicit(&w->a->enabled, true, memory_order_release);
    return OK;
}

static enum err disable(const struct work *w)
{
    if (!auth_enabled(w->a)) {
        return OK;
    }
    save_enabled(w, false);
    advance(w);
    atomic_store_explicit(&w->a->enabled, false, memory_order_release);
    return OK;
}

static enum err status(const struct work *w)
{
    if (w->body != NULL) {
        wire_add_bool(w->body, STATUS_ENABLED, auth_enabled(w->a));
        wire_add_uint(w->body, STATUS_REVISION, auth_revision(w->a));
    }
    return OK;
}

/* The password was compared by the member that proposed this. `token` becomes the simple token, if
 * it was proposed with one. */
static enum err authenticate(const struct work *w,
                             const Etcdserverpb__InternalAuthenticateRequest *r, uint64_t index,
                             struct bytes *token)
{
    if (!auth_enabled(w->a)) {
        return ERR_AUTH_NOT_ENABLED;
    }
    const struct user *u = user_find(&w->a->users, r->name);
    if (u == NULL || (u->has_options && u->no_password) ||
        strlen(r->simple_token) > TOKEN_BYTES_MAX) {
        return ERR_AUTH_FAILED;
    }
    if (r->simple_token[0] != 0) {
        bytes_printf(token, "%s.%llu", r->simple_token, (unsigned long long)index);
        if (w->body != NULL) {
            wire_add_bytes(w->body, REPLY_TEXT, bytes_slice(token));
        }
        bytes_add(token, "", 1);
    }
    return OK;
}

/* --- users
 * ------------------------------------------------------------------------------------------ */

/* An entry with the clear text comes from a member older than etcd 3.5, which hashes on every
 * member anew. All of ours have to get the same row, so the salt is made from what is replicated; a
 * salt has to be different, not secret. */
static enum err hash_legacy(const struct work *w, const char *name, const char *password,
                            struct bytes *out)
{
    uint8_t salt[PASSWORD_SALT_BYTES];
    char text[PASSWORD_TEXT_BYTES];
    const uint64_t parts[2] = {hash64(name, strlen(name)) ^ auth_revision(w->a),
                               hash64(password, strlen(password))};
    memcpy(salt, parts, sizeof(salt));
    if (password_hash(password, PASSWORD_COST_DEFAULT, salt, text) != OK) {
        return ERR_NO_PASSWORD_USER;
    }
    bytes_add_str(out, text);
    return OK;
}

static enum err choose_password(const struct work *w, const char *name, const char *password,
                                const char *hashed, struct bytes *out)
{
    if (password[0] != 0 && hashed[0] == 0) {
        return hash_legacy(w, name, password, out);
    }
    return base64_decode(slice_str(hashed), out) == OK ? OK : ERR_NO_PASSWORD_USER;
}

static enum err user_add(const struct work *w, const Etcdserverpb__AuthUserAddRequest *r)
{
    struct bytes password = {0};
    bool no_password = r->options != NULL && r->options->no_password;
    if (r->name[0] == 0) {
        return ERR_USER_EMPTY;
    }
    if (name_too_long(r->name)) {
        return ERR_AUTH_MANAGEMENT;
    }
    if (user_find(&w->a->users, r->name) != NULL) {
        return ERR_USER_EXISTS;
    }
    if (w->a->users.n >= AUTH_USERS_MAX) {
        return ERR_LIMIT;
    }
    if (!no_password) {
        enum err err = choose_password(w, r->name, r->password, r->hashedpassword, &password);
        if (err != OK) {
            bytes_deinit(&password);
            return err;
        }
    }
    struct user *u = user_insert(&w->a->users, r->name);
    u->password = password;
    u->has_options = true;
    u->no_password = no_password;
    save_user(w, u);
    advance(w);
    return OK;
}

static enum err user_delete(const struct work *w, const Etcdserverpb__AuthUserDeleteRequest *r)
{
    if (auth_enabled(w->a) && is_root(r->name)) {
        return ERR_AUTH_MANAGEMENT;
    }
    struct user *u = user_find(&w->a->users, r->name);
    if (u == NULL) {
        return ERR_USER_NOT_FOUND;
    }
    rows_add_delete(w->rows, BUCKET_AUTH_USERS, slice_str(r->name));
    user_remove(&w->a->users, u);
    advance(w);
    return OK;
}

static enum err change_password(const struct work *w,
                                const Etcdserverpb__AuthUserChangePasswordRequest *r)
{
    struct bytes password = {0};
    struct user *u = user_find(&w->a->users, r->name);
    if (u == NULL) {
        return ERR_USER_NOT_FOUND;
    }
    if (!(u->has_options && u->no_password)) {
        enum err err = choose_password(w, r->name, r->password, r->hashedpassword, &password);
        if (err != OK) {
            bytes_deinit(&password);
            return err;
        }
    }
    bytes_deinit(&u->password);
    u->password = password;
    save_user(w, u);
    advance(w);
    return OK;
}

static enum err grant_role(const struct work *w, const Etcdserverpb__AuthUserGrantRoleRequest *r)
{
    struct user *u = user_find(&w->a->users, r->user);
    if (u == NULL) {
        return ERR_USER_NOT_FOUND;
    }
    if (!is_root(r->role) && role_find(&w->a->roles, r->role) == NULL) {
        return ERR_ROLE_NOT_FOUND;
    }
    if (user_has_role(u, r->role)) {
        return OK;
    }
    if (u->n_roles >= AUTH_ROLES_OF_USER_MAX) {
        return ERR_LIMIT;
    }
    user_add_role(u, r->role);
    save_user(w, u);
    advance(w);
    return OK;
}

static enum err revoke_role(const struct work *w, const Etcdserverpb__AuthUserRevokeRoleRequest *r)
{
    if (auth_enabled(w->a) && is_root(r->name) && is_root(r->role)) {
        return ERR_AUTH_MANAGEMENT;
    }
    struct user *u = user_find(&w->a->users, r->name);
    if (u == NULL) {
        return ERR_USER_NOT_FOUND;
    }
    if (!user_drop_role(u, r->role)) {
        return ERR_ROLE_NOT_GRANTED;
    }
    save_user(w, u);
    advance(w);
    return OK;
}

static enum err user_get(const struct work *w, const Etcdserverpb__AuthUserGetRequest *r)
{
    const struct user *u = user_find(&w->a->users, r->name);
    if (u == NULL) {
        return ERR_USER_NOT_FOUND;
    }
    for (size_t i = 0; w->body != NULL && i < u->n_roles; i++) {
        wire_add_message(w->body, REPLY_TEXT, slice_str(u->roles[i]));
    }
    return OK;
}

static enum err user_list(const struct work *w)
{
    for (size_t i = 0; w->body != NULL && i < w->a->users.n; i++) {
        wire_add_message(w->body, REPLY_TEXT, slice_str(w->a->users.v[i]->name));
    }
    return OK;
}

/* --- roles
 * ------------------------------------------------------------------------------------------ */

static enum err role_add(const struct work *w, const Etcdserverpb__AuthRoleAddRequest *r)
{
    if (r->name[0] == 0) {
        return ERR_ROLE_EMPTY;
    }
    if (name_too_long(r->name)) {
        return ERR_AUTH_MANAGEMENT;
    }
    if (role_find(&w->a->roles, r->name) != NULL) {
        return ERR_ROLE_EXISTS;
    }
    if (w->a->roles.n >= AUTH_ROLES_MAX) {
        return ERR_LIMIT;
    }
    save_role(w, role_insert(&w->a->roles, r->name));
    advance(w);
    return OK;
}

static enum err role_delete(const struct work *w, const Etcdserverpb__AuthRoleDeleteRequest *r)
{
    if (auth_enabled(w->a) && is_root(r->role)) {
        return ERR_AUTH_MANAGEMENT;
    }
    struct role *role = role_find(&w->a->roles, r->role);
    if (role == NULL) {
        return ERR_ROLE_NOT_FOUND;
    }
    rows_add_delete(w->rows, BUCKET_AUTH_ROLES, slice_str(r->role));
    role_remove(&w->a->roles, role);
    for (size_t i = 0; i < w->a->users.n; i++) {
        struct user *u = w->a->users.v[i];
        if (user_drop_role(u, r->role)) {
            save_user(w, u);
        }
    }
    advance(w);
    return OK;
}

/* Whatever the role root may hold, it means everything. */
static void add_root_permission(struct bytes *body)
{
    struct permission all = {AUTHPB__PERMISSION__TYPE__READWRITE, (uint8_t[]){0}, 0, 1};
    struct bytes one = {0};
    permission_encode(&all, &one);
    wire_add_message(body, REPLY_TEXT, bytes_slice(&one));
    bytes_deinit(&one);
}

static enum err role_get(const struct work *w, const Etcdserverpb__AuthRoleGetRequest *r)
{
    const struct role *role = role_find(&w->a->roles, r->role);
    if (role == NULL) {
        return ERR_ROLE_NOT_FOUND;
    }
    if (w->body == NULL) {
        return OK;
    }
    if (is_root(role->name)) {
        add_root_permission(w->body);
        return OK;
    }
    struct bytes one = {0};
    for (size_t i = 0; i < role->n; i++) {
        bytes_reset(&one);
        permission_encode(&role->v[i], &one);
        wire_add_message(w->body, REPLY_TEXT, bytes_slice(&one));
    }
    bytes_deinit(&one);
    return OK;
}

static enum err role_list(const struct work *w)
{
    for (size_t i = 0; w->body != NULL && i < w->a->roles.n; i++) {
        wire_add_message(w->body, REPLY_TEXT, slice_str(w->a->roles.v[i]->name));
    }
    return OK;
}

static enum err grant_permission(const struct work *w,
                                 const Etcdserverpb__AuthRoleGrantPermissionRequest *r)
{
    if (r->perm == NULL) {
        return ERR_PERMISSION_NOT_GIVEN;
    }
    struct slice key = slice_of(r->perm->key.data, r->perm->key.len);
    struct slice range_end = slice_of(r->perm->range_end.data, r->perm->range_end.len);
    if (!permission_range_valid(key, range_end)) {
        return ERR_AUTH_MANAGEMENT;
    }
    struct role *role = role_find(&w->a->roles, r->name);
    if (role == NULL) {
        return ERR_ROLE_NOT_FOUND;
    }
    size_t at = permission_find(role, key, range_end);
    if (at == SIZE_MAX && role->n >= AUTH_PERMISSIONS_MAX) {
        return ERR_LIMIT;
    }
    if (at == SIZE_MAX) {
        permission_insert(role, (int)r->perm->permtype, key, range_end);
    } else {
        role->v[at].type = (int)r->perm->permtype;
    }
    save_role(w, role);
    advance(w);
    return OK;
}

static enum err revoke_permission(const struct work *w,
                                  const Etcdserverpb__AuthRoleRevokePermissionRequest *r)
{
    struct role *role = role_find(&w->a->roles, r->role);
    if (role == NULL) {
        return ERR_ROLE_NOT_FOUND;
    }
    size_t at = permission_find(role, slice_of(r->key.data, r->key.len),
                                slice_of(r->range_end.data, r->range_end.len));
    if (at == SIZE_MAX) {
        return ERR_PERMISSION_NOT_GRANTED;
    }
    permission_remove(role, at);
    save_role(w, role);
    advance(w);
    return OK;
}

/* --- dispatch
 * --------------------------------------------------------------------------------------- */

static enum err apply_user(const struct work *w, const Etcdserverpb__InternalRaftRequest *r)
{
    if (r->auth_user_add != NULL) {
        return user_add(w, r->auth_user_add);
    }
    if (r->auth_user_delete != NULL) {
        return user_delete(w, r->auth_user_delete);
    }
    if (r->auth_user_change_password != NULL) {
        return change_password(w, r->auth_user_change_password);
    }
    if (r->auth_user_grant_role != NULL) {
        return grant_role(w, r->auth_user_grant_role);
    }
    if (r->auth_user_revoke_role != NULL) {
        return revoke_role(w, r->auth_user_revoke_role);
    }
    return r->auth_user_get != NULL ? user_get(w, r->auth_user_get) : user_list(w);
}

static enum err apply_role(const struct work *w, const Etcdserverpb__InternalRaftRequest *r)
{
    if (r->auth_role_add != NULL) {
        return role_add(w, r->auth_role_add);
    }
    if (r->auth_role_delete != NULL) {
        return role_delete(w, r->auth_role_delete);
    }
    if (r->auth_role_grant_permission != NULL) {
        return grant_permission(w, r->auth_role_grant_permission);
    }
    if (r->auth_role_revoke_permission != NULL) {
        return revoke_permission(w, r->auth_role_revoke_permission);
    }
    return r->auth_role_get != NULL ? role_get(w, r->auth_role_get) : role_list(w);
}

static bool about_users(const Etcdserverpb__InternalRaftRequest *r)
{
    return r->auth_user_add != NULL || r->auth_user_delete != NULL ||
           r->auth_user_change_password != NULL || r->auth_user_grant_role != NULL ||
           r->auth_user_revoke_role != NULL || r->auth_user_get != NULL ||
           r->auth_user_list != NULL;
}

static bool about_roles(const Etcdserverpb__InternalRaftRequest *r)
{
    return r->auth_role_add != NULL || r->auth_role_delete != NULL ||
           r->auth_role_grant_permission != NULL || r->auth_role_revoke_permission != NULL ||
           r->auth_role_get != NULL || r->auth_role_list != NULL;
}

bool auth_takes(const Etcdserverpb__InternalRaftRequest *r)
{
    return r->auth_enable != NULL || r->auth_disable != NULL || r->auth_status != NULL ||
           r->authenticate != NULL || about_users(r) || about_roles(r);
}

static enum err dispatch(const struct work *w, const Etcdserverpb__InternalRaftRequest *r,
                         uint64_t index, struct bytes *token)
{
    if (r->auth_enable != NULL) {
        return enable(w);
    }
    if (r->auth_disable != NULL) {
        return disable(w);
    }
    if (r->auth_status != NULL) {
        return status(w);
    }
    if (r->authenticate != NULL) {
        return authenticate(w, r->authenticate, index, token);
    }
    return about_users(r) ? apply_user(w, r) : apply_role(w, r);
}

/* In the order of dispatch: what was done, if it concerns tokens. */
static void tell(struct auth *a, const Etcdserverpb__InternalRaftRequest *r,
                 const struct bytes *token)
{
    const struct auth_events *ev = a->events;
    if (ev == NULL || r->auth_enable != NULL) {
        return;
    }
    if (r->auth_disable != NULL) {
        ev->all_changed(a->events_arg);
    } else if (r->auth_status != NULL) {
        return;
    } else if (r->authenticate != NULL) {
        if (token->len > 0) {
            ev->token(a->events_arg, r->authenticate->name, (const char *)token->data);
        }
    } else if (r->auth_user_add != NULL) {
        return;
    } else if (r->auth_user_delete != NULL) {
        ev->user_changed(a->events_arg, r->auth_user_delete->name);
    } else if (r->auth_user_change_password != NULL) {
        ev->user_changed(a->events_arg, r->auth_user_change_password->name);
    }
}

enum err auth_apply(struct auth *a, const Etcdserverpb__InternalRaftRequest *r, uint64_t index,
                    struct rows *rows, struct bytes *body)
{
    const struct work w = {a, rows, body};
    struct bytes token = {0};
    ASSERT(auth_takes(r));
    auth_lock_write(a);
    enum err err = dispatch(&w, r, index, &token);
    auth_unlock(a);
    if (err == OK) {
        tell(a, r, &token);
    }
    bytes_deinit(&token);
    return err;
}

/* --- strings with a NUL
 * ------------------------------------------------------------------------------ */

/* All fields of the Auth* requests that have a length are strings but these: a permission's message
 * and a range's two ends. */
static bool is_string(uint32_t request, uint32_t field)
{
    static const uint32_t user_add = 1100;
    static const uint32_t role_grant = 1203;
    static const uint32_t role_revoke = 1204;
    static const uint32_t options = 3;
    return !(request == user_add && field == options) && !(request == role_grant && field == 2) &&
           !(request == role_revoke && (field == 2 || field == 3));
}

static bool request_fits(uint32_t request, struct slice message)
{
    struct wire_field f;
    enum err err;
    while ((err = wire_next(&message, &f)) == OK) {
        if (f.type == WIRE_LEN && f.bytes.len > 0 && is_string(request, f.number) &&
            memchr(f.bytes.data, 0, f.bytes.len) != NULL) {
            return false;
        }
    }
    return err == ERR_END; /* the decoder may have gone on where we cannot */
}

/* The name in the header, field 2. */
static bool header_fits(struct slice header)
{
    struct wire_field f;
    enum err err;
    while ((err = wire_next(&header, &f)) == OK) {
        if (f.type == WIRE_LEN && f.number == 2 && f.bytes.len > 0 &&
            memchr(f.bytes.data, 0, f.bytes.len) != NULL) {
            return false;
        }
    }
    return err == ERR_END;
}

bool auth_strings_fit(struct slice data)
{
    static const uint32_t header = 100;
    static const uint32_t first = 1000;
    static const uint32_t last = 1299;
    struct wire_field f;
    enum err err;
    bool fits = true;
    while (fits && (err = wire_next(&data, &f)) == OK) {
        if (f.type == WIRE_LEN && f.number == header) {
            fits = header_fits(f.bytes);
        } else if (f.type == WIRE_LEN && f.number >= first && f.number <= last) {
            fits = request_fits(f.number, f.bytes);
        }
    }
    return fits && err == ERR_END;
}
