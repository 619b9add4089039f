/* auth_fixture.h - a store of users and roles under test, driven by encoded entries as the log
 * holds them.
 *
 * Callers     tests/engine/auth.   Thread  the test's.
 */
#ifndef TESTS_ENGINE_AUTH_FIXTURE_H
#define TESTS_ENGINE_AUTH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/auth.h"
#include "engine/store.h"

struct world {
    struct auth *auth;
    struct rows rows;  /* since the beginning */
    struct bytes body; /* of the last request */
    const char *as;    /* user name in the header; "" sends none */
    uint64_t revision; /* in the header; UINT64_MAX: the current one */
    uint64_t index;
    /* Heard. */
    char token[256];
    char user[256];
    int n_tokens, n_users, n_all;
};

void world_init(struct world *w);
void world_deinit(struct world *w);
/* All rows into a new store, as after a restart. */
struct auth *world_restored(const struct world *w);

/* Encode, decode, gate, apply: as the engine does. */
enum err world_apply(struct world *w, Etcdserverpb__InternalRaftRequest *r);

/* Shorthands. In ranges "*" as an end is one zero byte; "" is none. */
enum err user_add(struct world *w, const char *name);
enum err user_delete(struct world *w, const char *name);
enum err user_password(struct world *w, const char *name, const char *hashed);
enum err user_grant(struct world *w, const char *user, const char *role);
enum err user_revoke(struct world *w, const char *user, const char *role);
enum err user_get(struct world *w, const char *name);
enum err user_list(struct world *w);
enum err role_add(struct world *w, const char *name);
enum err role_delete(struct world *w, const char *name);
enum err role_grant(struct world *w, const char *role, int type, const char *key, const char *end);
enum err role_revoke(struct world *w, const char *role, const char *key, const char *end);
enum err role_get(struct world *w, const char *role);
enum err role_list(struct world *w);
enum err auth_on(struct world *w);
enum err auth_off(struct world *w);
enum err auth_status(struct world *w);
enum err login(struct world *w, const char *name, const char *token);

/* user root with role root, and on. */
void world_enable(struct world *w);
/* May `user` with the current revision do that? */
enum err may(struct world *w, const char *user, enum demand_verb verb, const char *key,
             const char *end);
struct slice end_of(const char *end);
ProtobufCBinaryData pb(const char *s);
ProtobufCBinaryData pb_end(const char *end);

#define READ AUTHPB__PERMISSION__TYPE__READ
#define WRITE AUTHPB__PERMISSION__TYPE__WRITE
#define READWRITE AUTHPB__PERMISSION__TYPE__READWRITE

#endif
