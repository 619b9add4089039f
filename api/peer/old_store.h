/* old_store.h - what etcd before 3.7 wants beside a database: its version 2 store, as JSON.
 *
 * What        Those members keep the membership in a second store as well and read it, whole, from the data of a snapshot's message; without
 *             it they end. Pintle and etcd 3.7 do not look at it.
 * Callers     api/peer, tests.   Thread  any; there is no state.
 * Source      etcd 3.4: v2store's Save and Recovery, membership's keys in it.
 */
#ifndef API_PEER_OLD_STORE_H
#define API_PEER_OLD_STORE_H

#include "base/slice.h"
#include "engine/engine.h"

/* Append the store as of `index`. `version`: the cluster's, "" when it is not decided. */
void old_store_encode(const struct member_info *members, size_t n, const char *version, uint64_t index, struct bytes *out);

#endif
