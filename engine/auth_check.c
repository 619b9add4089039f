/* auth_check.c - may this identity do that?
 *
 * A user's permissions are merged when he is first asked about after a change, under the lock for
 * writing; from then on a check is two searches by halving under the lock for reading.
 */
#include "engine/auth_internal.h"

/* --- one range
 * --------------------------------------------------------------------------------------- */

static void merge(struct auth *a, struct user *u)
{
    u->read.n = 0;
    u->write.n = 0;
    for (size_t i = 0; i < u->n_roles; i++) {
        const struct role *r = role_find(&a->roles, u->roles[i]);
        for (size_t k = 0; r != NULL && k < r->n; k++) { /* a role that is unknown gives nothing */
            const struct permission *p = &r->v[k];
            struct key_span span = key_span_of(permission_key(p), permission_end(p));
            bool both = p->type == AUTHPB__PERMISSION__TYPE__READWRITE;
            if (both || p->type == AUTHPB__PERMISSION__TYPE__READ) {
                span_set_add(&u->read, span);
            }
            if (both || p->type == AUTHPB__PERMISSION__TYPE__WRITE) {
                span_set_add(&u->write, span);
            }
        }
    }
    span_set_merge(&u->read);
    span_set_merge(&u->write);
    u->merged_at = a->generation;
}

/* Under the lock; *merged is false when nothing can be said before the user's permissions are
 * merged. */
static enum err check_locked(struct auth *a, const struct auth_identity *id, enum demand_verb verb,
                             struct slice key, struct slice range_end, bool *merged)
{
    *merged = true;
    if (!atomic_load_explicit(&a->enabled, memory_order_relaxed)) {
        return OK;
    }
    if (id->revision == 0) {
        return ERR_USER_EMPTY;
    }
    if (id->revision < atomic_load_explicit(&a->revision, memory_order_relaxed)) {
        return ERR_AUTH_OLD_REVISION;
    }
    const struct user *u = user_find(&a->users, id->user);
    if (u == NULL) {
        return ERR_PERMISSION_DENIED;
    }
    if (u->root) {
        return OK;
    }
    *merged = u->merged_at == a->generation;
    const struct span_set *set = verb == DEMAND_READ ? &u->read : &u->write;
    return *merged && span_set_covers(set, key, range_end) ? OK : ERR_PERMISSION_DENIED;
}

enum err auth_check(struct auth *a, const struct auth_identity *id, enum demand_verb verb,
                    struct slice key, struct slice range_end)
{
    bool merged;
    if (!auth_enabled(a)) {
        return OK;
    }
    auth_lock_read(a);
    enum err err = check_locked(a, id, verb, key, range_end, &merged);
    auth_unlock(a);
    if (merged) {
        return err;
    }
    auth_lock_write(a);
    err = check_locked(a, id, verb, key, range_end, &merged);
    if (!merged) {
        merge(a, user_find(&a->users, id->user));
        err = check_locked(a, id, verb, key, range_end, &merged);
    }
    ASSERT(merged);
    auth_unlock(a);
    return err;
}

/* --- who
 * -----------------------------------------------------------------------------------------------
 */

enum err auth_check_root(struct auth *a, const struct auth_identity *id)
{
    enum err err = OK;
    if (!auth_enabled(a)) {
        return OK;
    }
    if (id->user[0] == 0) {
        return ERR_USER_EMPTY;
    }
    auth_lock_read(a);
    const struct user *u = user_find(&a->users, id->user);
    if (u == NULL) {
        err = ERR_USER_NOT_FOUND;
    } else if (!u->root) {
        err = ERR_PERMISSION_DENIED;
    }
    auth_unlock(a);
    return err;
}

enum err auth_check_known(struct auth *a, const struct auth_identity *id)
{
    return auth_enabled(a) && id->revision == 0 ? ERR_USER_EMPTY : OK;
}

enum err auth_check_current(const struct auth *a, const struct auth_identity *id)
{
    return id->revision != 0 && id->revision != auth_revision(a) ? ERR_AUTH_OLD_REVISION : OK;
}

enum err auth_password_of(struct auth *a, const char *user, char hash[AUTH_HASH_BYTES],
                          uint64_t *revision)
{
    enum err err = OK;
    if (!auth_enabled(a)) {
        return ERR_AUTH_NOT_ENABLED;
    }
    auth_lock_read(a);
    const struct user *u = user_find(&a->users, user);
    if (u == NULL) {
        err = ERR_AUTH_FAILED;
    } else if (u->has_options && u->no_password) {
        err = ERR_NO_PASSWORD_USER;
    } else {
        size_t len = u->password.len < AUTH_HASH_BYTES ? u->password.len : 0;
        if (len > 0) {
            memcpy(hash, u->password.data, len);
        }
        hash[len] = 0;
        *revision = auth_revision(a);
    }
    auth_unlock(a);
    return err;
}

/* --- whole requests
 * ------------------------------------------------------------------------------------ */

struct checker {
    struct auth *a;
    const struct auth_identity *id;
    const struct lease_table *leases; /* may be NULL */
    enum demand_verb verb;            /* of the leases' keys */
    enum err err;                     /* first among them */
};

static void check_lease_key(void *arg, struct slice key)
{
    struct checker *c = arg;
    if (c->err == OK) {
        c->err = auth_check(c->a, c->id, c->verb, key, (struct slice){0});
    }
}

static void check_lease(void *arg, int64_t id)
{
    struct checker *c = arg;
    if (c->err == OK) {
        lease_each_key(c->leases, id, check_lease_key, c);
    }
}

static enum err check_demand(void *arg, const struct demand *d)
{
    struct checker *c = arg;
    if (d->kind == DEMAND_RANGE) {
        return auth_check(c->a, c->id, d->verb, d->key, d->range_end);
    }
    if (auth_check_root(c->a, c->id) == OK) {
        return OK; /* in etcd whatever revision his identity has */
    }
    if (c->leases == NULL) {
        return ERR_PERMISSION_DENIED;
    }
    c->verb = d->verb;
    c->err = OK;
    if (d->kind == DEMAND_LEASE_KEYS) {
        check_lease(c, d->lease);
    } else {
        lease_each(c->leases, check_lease, c);
    }
    return c->err;
}

enum err auth_check_demands(struct auth *a, const struct auth_identity *id,
                            const struct demand_request *r, const struct lease_table *leases)
{
    struct checker c = {.a = a, .id = id, .leases = leases};
    return auth_enabled(a) ? demand_each(r, check_demand, &c) : OK;
}

/* --- entries of the log
 * -------------------------------------------------------------------------------- */

static struct auth_identity identity_of(const Etcdserverpb__InternalRaftRequest *r)
{
    bool named = r->header != NULL && r->header->username != NULL;
    return (struct auth_identity){.user = named ? r->header->username : "",
                                  .revision = r->header != NULL ? r->header->auth_revision : 0};
}

enum err auth_check_request(struct auth *a, const Etcdserverpb__InternalRaftRequest *r,
                            const struct lease_table *leases)
{
    const struct auth_identity id = identity_of(r);
    const struct demand_request all[] = {
        {.kind = DEMAND_OF_RANGE, .of.range = r->range},
        {.kind = DEMAND_OF_PUT, .of.put = r->put},
        {.kind = DEMAND_OF_DELETE, .of.delete_range = r->delete_range},
        {.kind = DEMAND_OF_TXN, .of.txn = r->txn},
        {.kind = DEMAND_OF_LEASE_REVOKE, .of.lease_revoke = r->lease_revoke},
    };
    const bool present[] = {r->range != NULL, r->put != NULL, r->delete_range != NULL,
                            r->txn != NULL, r->lease_revoke != NULL};
    enum err err = OK;
    if (!auth_enabled(a)) {
        return OK;
    }
    for (size_t i = 0; err == OK && i < ARRAY_LEN(all); i++) {
        if (present[i]) {
            err = auth_check_demands(a, &id, &all[i], leases);
        }
    }
    return err;
}

static bool needs_root(const Etcdserverpb__InternalRaftRequest *r)
{
    return r->auth_enable != NULL || r->auth_disable != NULL || r->auth_user_add != NULL ||
           r->auth_user_delete != NULL || r->auth_user_change_password != NULL ||
           r->auth_user_grant_role != NULL || r->auth_user_revoke_role != NULL ||
           r->auth_user_list != NULL || r->auth_role_add != NULL || r->auth_role_delete != NULL ||
           r->auth_role_grant_permission != NULL || r->auth_role_revoke_permission != NULL ||
           r->auth_role_list != NULL;
}

static bool holds_role(struct auth *a, const char *user, const char *role)
{
    auth_lock_read(a);
    const struct user *u = user_find(&a->users, user);
    bool holds = u != NULL && user_has_role(u, role);
    auth_unlock(a);
    return holds;
}

enum err auth_gate(struct auth *a, const Etcdserverpb__InternalRaftRequest *r)
{
    const struct auth_identity id = identity_of(r);
    bool own = r->auth_user_get != NULL || r->auth_role_get != NULL;
    if (!auth_enabled(a) || !(own || needs_root(r))) {
        return OK;
    }
    enum err err = auth_check_root(a, &id);
    if (err == OK || needs_root(r)) {
        return err;
    }
    bool about_himself = r->auth_user_get != NULL ? strcmp(r->auth_user_get->name, id.user) == 0
                                                  : holds_role(a, id.user, r->auth_role_get->role);
    return about_himself ? OK : err;
}
