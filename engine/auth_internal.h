/* auth_internal.h - the tables behind auth.h.
 *
 * What        Users and roles in memory, and their rows.
 * Callers     engine/auth*.c.
 * Thread      under the lock of struct auth.
 * Invariants  Both tables ascend by name. A user's merged sets are good while `merged_at` is the
 * table's generation: they point into the roles' keys.
 */
#ifndef ENGINE_AUTH_INTERNAL_H
#define ENGINE_AUTH_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/auth.h"
#include "engine/auth_range.h"
#include "engine/store.h"

#define ROOT_NAME "root"

struct permission {
    int type;       /* as sent: a number that is no known type gives nothing */
    uint8_t *bytes; /* owned; key, then end */
    size_t key_len;
    size_t end_len;
};

struct role {
    char *name;           /* owned */
    struct permission *v; /* owned */
    size_t n;
    size_t cap;
};

struct user {
    char *name; /* owned */
    struct bytes password;
    char **roles; /* owned, with its strings */
    size_t n_roles;
    bool has_options;
    bool no_password;
    bool root;          /* one of the roles is root */
    uint64_t merged_at; /* 0: never */
    struct span_set read;
    struct span_set write;
};

struct user_table {
    struct user **v; /* owned */
    size_t n;
    size_t cap;
};
struct role_table {
    struct role **v; /* owned */
    size_t n;
    size_t cap;
};

struct auth {
    pthread_rwlock_t lock; /* guards what follows */
    struct user_table users;
    struct role_table roles;
    uint64_t generation; /* counts changes of any kind */
    /* Any thread; written under the lock. */
    _Atomic bool enabled;
    _Atomic uint64_t revision;
    /* Member loop only. */
    const struct auth_events *events; /* borrowed; may be NULL */
    void *events_arg;
};

void auth_lock_read(struct auth *a);
void auth_lock_write(struct auth *a);
void auth_unlock(struct auth *a);

static inline struct slice permission_key(const struct permission *p)
{
    return slice_of(p->bytes, p->key_len);
}
static inline struct slice permission_end(const struct permission *p)
{
    return slice_of(p->bytes + p->key_len, p->end_len);
}

/* --- auth_table.c --- */

/* NULL: no such user or role. */
struct user *user_find(const struct user_table *t, const char *name);
struct role *role_find(const struct role_table *t, const char *name);
/* A new one, which was not there. */
struct user *user_insert(struct user_table *t, const char *name);
struct role *role_insert(struct role_table *t, const char *name);
void user_remove(struct user_table *t, struct user *u);
void role_remove(struct role_table *t, struct role *r);

bool user_has_role(const struct user *u, const char *role);
void user_add_role(struct user *u, const char *role);  /* which he has not */
bool user_drop_role(struct user *u, const char *role); /* false: he has not */

/* Place of exactly this range; SIZE_MAX when there is none. */
size_t permission_find(const struct role *r, struct slice key, struct slice range_end);
void permission_insert(struct role *r, int type, struct slice key, struct slice range_end);
void permission_remove(struct role *r, size_t at);

void user_encode(const struct user *u, struct bytes *out);
void role_encode(const struct role *r, struct bytes *out);
void permission_encode(const struct permission *p, struct bytes *out);

void user_table_deinit(struct user_table *t);
void role_table_deinit(struct role_table *t);

#endif
