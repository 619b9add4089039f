/* auth.h - users, roles and permissions as replicated state, and the question who may do what.
 *
 * What        The buckets auth, authUsers and authRoles with etcd's rows; what every Auth* request
 * of the log does to them, with etcd's errors in etcd's order; the check of an identity against
 * demands (engine/demand.h). Callers     engine/apply and engine/engine_restore change it; api/etcd
 * asks it before local reads. Thread      One rwlock inside, a leaf: never held while another lock
 * is taken or a callback runs. Functions marked [member] are the member loop's; all others any
 * thread's. Invariants  Roles of a user are sorted by name, permissions of a role by key, then by
 * end. The auth revision only grows, except when a snapshot replaces everything. While
 * authentication is off every check passes. Without a permission for it, a request is refused.
 * Source      etcd-v3-api.md 8; etcd's behaviour at v3.7.
 */
#ifndef ENGINE_AUTH_H
#define ENGINE_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "api/proto/raft_internal.pb-c.h"
#include "base/err.h"
#include "engine/backend.h"
#include "engine/demand.h"
#include "engine/lease.h"

struct auth; /* opaque */
struct rows; /* engine/store.h */

#define AUTH_NAME_BYTES_MAX                                                                        \
    BACKEND_KEY_BYTES_MAX         /* of a user or a role: it is a key of the store; longer:        \
                                     ERR_AUTH_MANAGEMENT */
#define AUTH_USERS_MAX (1u << 20) /* over: ERR_LIMIT, as below */
#define AUTH_ROLES_MAX (1u << 20)
#define AUTH_ROLES_OF_USER_MAX (1u << 14)
#define AUTH_PERMISSIONS_MAX (1u << 14) /* of one role */

/* Who asks. revision 0: nobody (no token, no certificate). */
struct auth_identity {
    const char *user;  /* borrowed; "" when there is none */
    uint64_t revision; /* auth revision when the identity was established */
};

/* What tables of simple tokens want to hear. [member], without any lock. */
struct auth_events {
    /* A user has authenticated; the token is good on every member from now on. */
    void (*token)(void *arg, const char *user, const char *token);
    /* A user was deleted or has a new password: his tokens are void. */
    void (*user_changed)(void *arg, const char *user);
    /* Authentication is off, or all state was replaced: every token is void. */
    void (*all_changed)(void *arg);
};

struct auth *auth_create(void);
void auth_destroy(struct auth **a);
void auth_set_events(struct auth *a, const struct auth_events *events,
                     void *arg); /* before the first apply */

/* --- restoring [member], or before the first use
 * ---------------------------------------------------- */

/* A row of the buckets auth, authUsers and authRoles, in any order. ERR_CORRUPT. */
MUST_CHECK enum err auth_restore_row(struct auth *a, enum bucket b, struct slice key,
                                     struct slice value);
/* Everything in `a` becomes what is in *from, which is destroyed; events.all_changed is called.
 * Readers may be at work in `a`. */
void auth_replace(struct auth *a, struct auth **from);

/* --- applying [member]
 * ------------------------------------------------------------------------------- */

/* In front of everything else that an entry may be refused for: who administers is root, or asks
 * about himself. ERR_USER_EMPTY, ERR_USER_NOT_FOUND, ERR_PERMISSION_DENIED. */
MUST_CHECK enum err auth_gate(struct auth *a, const Etcdserverpb__InternalRaftRequest *r);
/* After the alarms and before anything else: may the user named in the header do this?
 * ERR_USER_EMPTY, ERR_AUTH_OLD_REVISION, ERR_PERMISSION_DENIED, ERR_TOO_MANY_OPS. */
MUST_CHECK enum err auth_check_request(struct auth *a, const Etcdserverpb__InternalRaftRequest *r,
                                       const struct lease_table *leases);
/* One of the Auth* requests? Then auth_apply does it. */
bool auth_takes(const Etcdserverpb__InternalRaftRequest *r);
/* Names are C strings here, so an entry whose user name in the header, or whose strings in an Auth*
 * request, hold a NUL byte would be read as one about somebody else. `data` is the encoded entry.
 * false: refuse it with ERR_AUTH_MANAGEMENT. */
bool auth_strings_fit(struct slice data);
/* Do it. Changed rows are added to `rows`; the reply's fields behind the header to `body` (may be
 * NULL). A refused request changes nothing. `index` is the entry's: it becomes part of a simple
 * token. */
MUST_CHECK enum err auth_apply(struct auth *a, const Etcdserverpb__InternalRaftRequest *r,
                               uint64_t index, struct rows *rows, struct bytes *body);

/* --- asking
 * ---------------------------------------------------------------------------------------------- */

bool auth_enabled(const struct auth *a);
uint64_t auth_revision(const struct auth *a); /* at least 1 */

/* One range. ERR_USER_EMPTY, ERR_AUTH_OLD_REVISION, ERR_PERMISSION_DENIED. */
MUST_CHECK enum err auth_check(struct auth *a, const struct auth_identity *id,
                               enum demand_verb verb, struct slice key, struct slice range_end);
/* All that a request demands. `leases` may be NULL where the table cannot be looked at (off the
 * member loop): then a demand about leases is refused. */
MUST_CHECK enum err auth_check_demands(struct auth *a, const struct auth_identity *id,
                                       const struct demand_request *r,
                                       const struct lease_table *leases);
/* Role root. ERR_USER_EMPTY, ERR_USER_NOT_FOUND, ERR_PERMISSION_DENIED. */
MUST_CHECK enum err auth_check_root(struct auth *a, const struct auth_identity *id);
/* Anybody, but not nobody. ERR_USER_EMPTY. */
MUST_CHECK enum err auth_check_known(struct auth *a, const struct auth_identity *id);
/* To be asked after a local read was served: nothing about users has changed meanwhile.
 * ERR_AUTH_OLD_REVISION. */
MUST_CHECK enum err auth_check_current(const struct auth *a, const struct auth_identity *id);

#define AUTH_HASH_BYTES 64u /* a bcrypt text with its NUL has 61 */
/* The stored hash of a user's password, to be compared off the loops (password_verify), and the
 * auth revision that it belongs to: if that has moved when Authenticate was applied, begin again.
 * ERR_AUTH_NOT_ENABLED; ERR_AUTH_FAILED, unknown user; ERR_NO_PASSWORD_USER. A hash of another
 * length than bcrypt's is given as "", which no password matches. */
MUST_CHECK enum err auth_password_of(struct auth *a, const char *user, char hash[AUTH_HASH_BYTES],
                                     uint64_t *revision);

#endif
