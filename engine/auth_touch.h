/* auth_touch.h - what was authorised is all that was written.
 *
 * What        Compares the keys that an entry changed with the flat list of demands that it was authorised by.
 * Callers     engine/apply, at the end of an entry, while authentication is on.   Thread  member loop.
 */
#ifndef ENGINE_AUTH_TOUCH_H
#define ENGINE_AUTH_TOUCH_H

#include "api/proto/raft_internal.pb-c.h"
#include "engine/watch.h"

/* Every changed key of a put, a deletion or a transaction lies in a range that it demanded to write. false: somebody got more than was asked for. (The
 * keys of a revoked lease are looked up after the check, in the same table, and are not compared again.) */
bool auth_touched_is_demanded(const Etcdserverpb__InternalRaftRequest *r, const struct change *changes, size_t n);

#endif
