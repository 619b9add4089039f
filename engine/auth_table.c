/* auth_table.c - users and roles in memory: sorted arrays, found by halving. */
#include <stdlib.h>

#include "base/wire.h"
#include "engine/auth_internal.h"

/* Fields of authpb.User, Role and Permission. */
enum { USER_NAME = 1, USER_PASSWORD = 2, USER_ROLES = 3, USER_OPTIONS = 4 };
enum { OPTIONS_NO_PASSWORD = 1 };
enum { ROLE_NAME = 1, ROLE_PERMISSION = 2 };
enum { PERMISSION_TYPE = 1, PERMISSION_KEY = 2, PERMISSION_END = 3 };

/* The array's elements begin with a pointer to their name, so one search serves both tables. */
_Static_assert(offsetof(struct user, name) == 0, "the name comes first");
_Static_assert(offsetof(struct role, name) == 0, "the name comes first");

static const char *name_at(void *const *v, size_t i)
{
    return *(char *const *)v[i];
}

/* The first element whose name is not below `name`. */
static size_t place_of(void *const *v, size_t n, const char *name)
{
    size_t low = 0;
    while (low < n) {
        size_t mid = low + (n - low) / 2;
        if (strcmp(name_at(v, mid), name) < 0) {
            low = mid + 1;
        } else {
            n = mid;
        }
    }
    return low;
}

static void *find(void *const *v, size_t n, const char *name)
{
    size_t i = place_of(v, n, name);
    return i < n && strcmp(name_at(v, i), name) == 0 ? v[i] : NULL;
}

/* Room for one more in front of element `at`. */
static void **make_room(void **v, size_t n, size_t *cap, size_t at)
{
    if (n == *cap) {
        *cap = n == 0 ? 8 : n * 2;
        v = xrealloc(v, *cap * sizeof(*v));
    }
    memmove(v + at + 1, v + at, (n - at) * sizeof(*v));
    return v;
}

static void take_out(void **v, size_t *n, const char *name)
{
    size_t at = place_of(v, *n, name);
    ASSERT(at < *n);
    memmove(v + at, v + at + 1, (*n - at - 1) * sizeof(*v));
    (*n)--;
}

/* --- users
 * ----------------------------------------------------------------------------------------- */

struct user *user_find(const struct user_table *t, const char *name)
{
    return find((void *const *)t->v, t->n, name);
}

struct user *user_insert(struct user_table *t, const char *name)
{
    size_t at = place_of((void *const *)t->v, t->n, name);
    struct user *u = xcalloc(1, sizeof(*u));
    u->name = xstrdup(name);
    t->v = (struct user **)make_room((void **)t->v, t->n, &t->cap, at);
    t->v[at] = u;
    t->n++;
    return u;
}

static void user_destroy(struct user *u)
{
    for (size_t i = 0; i < u->n_roles; i++) {
        free(u->roles[i]);
    }
    free(u->roles);
    bytes_deinit(&u->password);
    span_set_deinit(&u->read);
    span_set_deinit(&u->write);
    free(u->name);
    free(u);
}

void user_remove(struct user_table *t, struct user *u)
{
    take_out((void **)t->v, &t->n, u->name);
    user_destroy(u);
}

void user_table_deinit(struct user_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        user_destroy(t->v[i]);
    }
    free(t->v);
    *t = (struct user_table){0};
}

static size_t role_place(const struct user *u, const char *role)
{
    size_t low = 0;
    size_t high = u->n_roles;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(u->roles[mid], role) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

bool user_has_role(const struct user *u, const char *role)
{
    size_t at = role_place(u, role);
    return at < u->n_roles && strcmp(u->roles[at], role) == 0;
}

void user_add_role(struct user *u, const char *role)
{
    size_t at = role_place(u, role);
    u->roles = xrealloc(u->roles, (u->n_roles + 1) * sizeof(*u->roles));
    memmove(u->roles + at + 1, u->roles + at, (u->n_roles - at) * sizeof(*u->roles));
    u->roles[at] = xstrdup(role);
    u->n_roles++;
    u->root = u->root || strcmp(role, ROOT_NAME) == 0;
}

bool user_drop_role(struct user *u, const char *role)
{
    if (!user_has_role(u, role)) {
        return false;
    }
    size_t at = role_place(u, role);
    free(u->roles[at]);
    memmove(u->roles + at, u->roles + at + 1, (u->n_roles - at - 1) * sizeof(*u->roles));
    u->n_roles--;
    u->root = user_has_role(u, ROOT_NAME);
    return true;
}

void user_encode(const struct user *u, struct bytes *out)
{
    wire_add_bytes(out, USER_NAME, slice_str(u->name));
    wire_add_bytes(out, USER_PASSWORD, bytes_slice(&u->password));
    for (size_t i = 0; i < u->n_roles; i++) {
        wire_add_message(out, USER_ROLES, slice_str(u->roles[i]));
    }
    if (u->has_options) {
        struct bytes options = {0};
        wire_add_bool(&options, OPTIONS_NO_PASSWORD, u->no_password);
        wire_add_message(out, USER_OPTIONS, bytes_slice(&options));
        bytes_deinit(&options);
    }
}

/* --- roles
 * ----------------------------------------------------------------------------------------- */

struct role *role_find(const struct role_table *t, const char *name)
{
    return find((void *const *)t->v, t->n, name);
}

struct role *role_insert(struct role_table *t, const char *name)
{
    size_t at = place_of((void *const *)t->v, t->n, name);
    struct role *r = xcalloc(1, sizeof(*r));
    r->name = xstrdup(name);
    t->v = (struct role **)make_room((void **)t->v, t->n, &t->cap, at);
    t->v[at] = r;
    t->n++;
    return r;
}

static void role_destroy(struct role *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->v[i].bytes);
    }
    free(r->v);
    free(r->name);
    free(r);
}

void role_remove(struct role_table *t, struct role *r)
{
    take_out((void **)t->v, &t->n, r->name);
    role_destroy(r);
}

void role_table_deinit(struct role_table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        role_destroy(t->v[i]);
    }
    free(t->v);
    *t = (struct role_table){0};
}

/* By key, then by end: the first permission that is not below. */
static size_t permission_place(const struct role *r, struct slice key, struct slice range_end)
{
    size_t low = 0;
    size_t high = r->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = slice_cmp(permission_key(&r->v[mid]), key);
        c = c != 0 ? c : slice_cmp(permission_end(&r->v[mid]), range_end);
        if (c < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

size_t permission_find(const struct role *r, struct slice key, struct slice range_end)
{
    size_t at = permission_place(r, key, range_end);
    bool same = at < r->n && slice_eq(permission_key(&r->v[at]), key) &&
                slice_eq(permission_end(&r->v[at]), range_end);
    return same ? at : SIZE_MAX;
}

void permission_insert(struct role *r, int type, struct slice key, struct slice range_end)
{
    size_t at = permission_place(r, key, range_end);
    if (r->n == r->cap) {
        r->cap = r->n == 0 ? 4 : r->n * 2;
        r->v = xrealloc(r->v, r->cap * sizeof(*r->v));
    }
    memmove(r->v + at + 1, r->v + at, (r->n - at) * sizeof(*r->v));
    uint8_t *bytes = xalloc(key.len + range_end.len + 1);
    if (key.len > 0) {
        memcpy(bytes, key.data, key.len);
    }
    if (range_end.len > 0) {
        memcpy(bytes + key.len, range_end.data, range_end.len);
    }
    r->v[at] = (struct permission){type, bytes, key.len, range_end.len};
    r->n++;
}

void permission_remove(struct role *r, size_t at)
{
    free(r->v[at].bytes);
    memmove(r->v + at, r->v + at + 1, (r->n - at - 1) * sizeof(*r->v));
    r->n--;
}

void permission_encode(const struct permission *p, struct bytes *out)
{
    wire_add_int(out, PERMISSION_TYPE, p->type);
    wire_add_bytes(out, PERMISSION_KEY, permission_key(p));
    wire_add_bytes(out, PERMISSION_END, permission_end(p));
}

void role_encode(const struct role *r, struct bytes *out)
{
    struct bytes one = {0};
    wire_add_bytes(out, ROLE_NAME, slice_str(r->name));
    for (size_t i = 0; i < r->n; i++) {
        bytes_reset(&one);
        permission_encode(&r->v[i], &one);
        wire_add_message(out, ROLE_PERMISSION, bytes_slice(&one));
    }
    bytes_deinit(&one);
}
