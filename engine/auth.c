/* auth.c - life of the store of users and roles, and its rows read back. */
#include "engine/auth.h"

#include <stdlib.h>

#include "engine/auth_internal.h"

#define ROW_ENABLED "authEnabled"
#define ROW_REVISION "authRevision"

void auth_lock_read(struct auth *a)
{
    int rc = pthread_rwlock_rdlock(&a->lock);
    ASSERT(rc == 0);
}

void auth_lock_write(struct auth *a)
{
    int rc = pthread_rwlock_wrlock(&a->lock);
    ASSERT(rc == 0);
}

void auth_unlock(struct auth *a)
{
    int rc = pthread_rwlock_unlock(&a->lock);
    ASSERT(rc == 0);
}

struct auth *auth_create(void)
{
    struct auth *a = xcalloc(1, sizeof(*a));
    pthread_rwlockattr_t attr;
    int rc = pthread_rwlockattr_init(&attr);
    ASSERT(rc == 0);
    /* The member loop must not wait for ever behind readers that come one after the other. */
    rc = pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    ASSERT(rc == 0);
    rc = pthread_rwlock_init(&a->lock, &attr);
    ASSERT(rc == 0);
    pthread_rwlockattr_destroy(&attr);
    a->generation = 1;
    atomic_init(&a->enabled, false);
    atomic_init(&a->revision, 1); /* etcd's first start makes it 1 too */
    return a;
}

void auth_destroy(struct auth **ap)
{
    struct auth *a = *ap;
    if (a == NULL) {
        return;
    }
    user_table_deinit(&a->users);
    role_table_deinit(&a->roles);
    (void)pthread_rwlock_destroy(&a->lock);
    free(a);
    *ap = NULL;
}

void auth_set_events(struct auth *a, const struct auth_events *events, void *arg)
{
    a->events = events;
    a->events_arg = arg;
}

bool auth_enabled(const struct auth *a)
{
    return atomic_load_explicit(&a->enabled, memory_order_acquire);
}

uint64_t auth_revision(const struct auth *a)
{
    return atomic_load_explicit(&a->revision, memory_order_acquire);
}

/* --- rows
 * -------------------------------------------------------------------------------------------- */

/* Names are C strings here; a row whose name holds a NUL byte could not be found again. */
static bool name_fits(struct slice name)
{
    return name.len > 0 && name.len <= AUTH_NAME_BYTES_MAX &&
           memchr(name.data, 0, name.len) == NULL;
}

static enum err restore_user(struct auth *a, struct slice key, struct slice value)
{
    Authpb__User *u = authpb__user__unpack(NULL, value.len, value.data);
    enum err err = ERR_CORRUPT;
    char *name = xstrndup((const char *)key.data, key.len);
    if (u != NULL && slice_eq(slice_of(u->name.data, u->name.len), key) &&
        user_find(&a->users, name) == NULL) {
        struct user *to = user_insert(&a->users, name);
        bytes_add(&to->password, u->password.data, u->password.len);
        for (size_t i = 0; i < u->n_roles; i++) {
            if (!user_has_role(to, u->roles[i])) {
                user_add_role(to, u->roles[i]);
            }
        }
        to->has_options = u->options != NULL;
        to->no_password = u->options != NULL && u->options->no_password;
        err = OK;
    }
    free(name);
    if (u != NULL) {
        authpb__user__free_unpacked(u, NULL);
    }
    return err;
}

static enum err restore_role(struct auth *a, struct slice key, struct slice value)
{
    Authpb__Role *r = authpb__role__unpack(NULL, value.len, value.data);
    enum err err = ERR_CORRUPT;
    char *name = xstrndup((const char *)key.data, key.len);
    if (r != NULL && slice_eq(slice_of(r->name.data, r->name.len), key) &&
        role_find(&a->roles, name) == NULL) {
        struct role *to = role_insert(&a->roles, name);
        for (size_t i = 0; i < r->n_keypermission; i++) {
            const Authpb__Permission *p = r->keypermission[i];
            permission_insert(to, (int)p->permtype, slice_of(p->key.data, p->key.len),
                              slice_of(p->range_end.data, p->range_end.len));
        }
        err = OK;
    }
    free(name);
    if (r != NULL) {
        authpb__role__free_unpacked(r, NULL);
    }
    return err;
}

static enum err restore_number(struct auth *a, struct slice key, struct slice value)
{
    if (slice_eq(key, slice_str(ROW_ENABLED))) {
        if (value.len != 1 || value.data[0] > 1) {
            return ERR_CORRUPT;
        }
        atomic_store(&a->enabled, value.data[0] == 1);
        return OK;
    }
    if (slice_eq(key, slice_str(ROW_REVISION))) {
        uint64_t v = 0;
        for (size_t i = 0; i < value.len; i++) {
            v = v << 8 | value.data[i];
        }
        atomic_store(&a->revision, v == 0 ? 1 : v);
        return value.len == 8 ? OK : ERR_CORRUPT;
    }
    return OK; /* of a newer version */
}

enum err auth_restore_row(struct auth *a, enum bucket b, struct slice key, struct slice value)
{
    enum err err = ERR_CORRUPT;
    auth_lock_write(a);
    if (b == BUCKET_AUTH) {
        err = restore_number(a, key, value);
    } else if (name_fits(key)) {
        ASSERT(b == BUCKET_AUTH_USERS || b == BUCKET_AUTH_ROLES);
        err = b == BUCKET_AUTH_USERS ? restore_user(a, key, value) : restore_role(a, key, value);
    }
    a->generation++;
    auth_unlock(a);
    return err;
}

void auth_replace(struct auth *a, struct auth **from)
{
    struct auth *f = *from;
    auth_lock_write(a);
    struct user_table users = a->users;
    struct role_table roles = a->roles;
    a->users = f->users;
    a->roles = f->roles;
    f->users = users;
    f->roles = roles;
    /* Merged sets are good at one generation: no number may come again. */
    a->generation = (a->generation > f->generation ? a->generation : f->generation) + 1;
    atomic_store(&a->enabled, auth_enabled(f));
    atomic_store(&a->revision, auth_revision(f));
    auth_unlock(a);
    auth_destroy(from);
    if (a->events != NULL) {
        a->events->all_changed(a->events_arg);
    }
}
