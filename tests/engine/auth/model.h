/* model.h - the same rules as engine/auth and engine/demand, as naively as possible.
 *
 * What        Twenty keys over four byte values. Every position that a range over them can begin or
 * end at is a point; between two neighbouring points lies an atom, and a set of keys is a set of
 * atoms: 64 bits. A permission is expanded to its atoms, the union is an OR, covering is a mask.
 * Callers     tests/engine/auth/test_random.c.   Thread  the test's.
 */
#ifndef TESTS_ENGINE_AUTH_MODEL_H
#define TESTS_ENGINE_AUTH_MODEL_H

#include "auth_fixture.h"

#define N_KEYS 20
#define N_USERS 6 /* user 0 is root */
#define N_ROLES 6 /* role 0 is root */
#define N_LEASES 4
#define N_PERMS 12

/* Ends of ranges: a key, or one of these. */
#define END_NONE N_KEYS
#define END_OPEN (N_KEYS + 1)

struct m_perm {
    int key, end, type;
};
struct m_role {
    bool exists;
    struct m_perm v[N_PERMS];
    int n;
};
struct m_user {
    bool exists;
    bool holds[N_ROLES];
};
struct model {
    struct slice keys[N_KEYS]; /* ascending */
    uint8_t bytes[N_KEYS][2];
    int point_of_key[N_KEYS];
    int point_behind_key[N_KEYS];
    int n_points;
    bool enabled;
    uint64_t revision;
    struct m_user users[N_USERS];
    struct m_role roles[N_ROLES];
    int lease_of_key[N_KEYS]; /* -1: none */
};

extern const char *const user_names[N_USERS];
extern const char *const role_names[N_ROLES];

void model_init(struct model *m);
struct slice model_end(const struct model *m, int end);

/* One request of somebody, judged: user -1 has no identity, user N_USERS is unknown. */
struct m_asker {
    const struct model *m;
    int user;
    uint64_t revision;
    /* What the flat list of the real code says, to be compared with every touch met here. */
    const struct demand_list *list;
    size_t n_touched;
};
enum err model_range(struct m_asker *q, bool write, struct slice key, struct slice end);
enum err model_lease_keys(struct m_asker *q, bool write, int64_t lease);
enum err model_request(struct m_asker *q, const struct demand_request *r);

#endif
