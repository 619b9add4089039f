/* auth_touch.c - see auth_touch.h.
 *
 * Changes come in the order of the operations that made them, as the demands do, so the demand that
 * covers one change most often covers the next: looking begins there, and a deletion of a million
 * keys costs a million comparisons.
 */
#include "engine/auth_touch.h"

#include "engine/auth_range.h"
#include "engine/demand.h"

static bool covers(const struct demand *d, struct slice key)
{
    return d->kind == DEMAND_RANGE && d->verb == DEMAND_WRITE &&
           key_range_covers(d->key, d->range_end, key, (struct slice){0});
}

static bool all_covered(const struct demand_list *l, const struct change *changes, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t tried = 0;
        while (tried < l->n && !covers(&l->v[at], changes[i].key)) {
            at = at + 1 < l->n ? at + 1 : 0;
            tried++;
        }
        if (tried == l->n) {
            return false;
        }
    }
    return true;
}

bool auth_touched_is_demanded(const Etcdserverpb__InternalRaftRequest *r,
                              const struct change *changes, size_t n)
{
    struct demand_request q;
    struct demand_list l;
    if (n == 0 || r->lease_revoke != NULL) {
        return true;
    }
    if (r->put != NULL) {
        q = (struct demand_request){.kind = DEMAND_OF_PUT, .of.put = r->put};
    } else if (r->delete_range != NULL) {
        q = (struct demand_request){.kind = DEMAND_OF_DELETE, .of.delete_range = r->delete_range};
    } else if (r->txn != NULL) {
        q = (struct demand_request){.kind = DEMAND_OF_TXN, .of.txn = r->txn};
    } else {
        return false; /* nothing else writes keys */
    }
    bool sound = demand_list_of(&q, &l) == OK && all_covered(&l, changes, n);
    demand_list_deinit(&l);
    return sound;
}
