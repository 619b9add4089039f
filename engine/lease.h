/* lease.h - leases and the keys that hang on them.
 *
 * What        A pure table: grants and revocations come from the log and are the same on every
 *             member; expiry is local knowledge of the leader, computed from times handed in.
 * Callers     engine (apply, restore) and, through engine.h, the member loop.
 * Thread      member loop only.
 * Invariants  A key is attached to at most one lease. Without promotion nothing ever expires.
 */
#ifndef ENGINE_LEASE_H
#define ENGINE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define LEASE_TTL_MAX_S 9000000000ll /* over: ERR_LEASE_TTL */

struct lease_table; /* opaque */

struct lease_info {
    int64_t id;
    int64_t ttl_s; /* granted, effective */
    /* cut towards zero; granted TTL while not promoted; may be <= 0 when expired and not yet
     * revoked */
    int64_t remaining_s;
    /* remaining time from the last checkpoint; 0: none. Not 0 at a renewal: propose a checkpoint of
     * 0 */
    int64_t checkpoint_s;
    size_t n_keys;
};

struct lease_table *lease_table_create(int64_t min_ttl_s);
void lease_table_destroy(struct lease_table **t);

/* ERR_LEASE_TTL, ERR_LEASE_EXISTS, ERR_LEASE_NOT_FOUND for id 0 (all before any change).
 * *effective_s is the TTL raised to the minimum. When promoted, the lease expires at now_ms
 * + TTL. */
MUST_CHECK enum err lease_grant(struct lease_table *t, int64_t id, int64_t ttl_s, uint64_t now_ms,
                                int64_t *effective_s);
/* From the store at start; `remaining_s` 0 means the whole TTL, which is raised to the minimum here
 * too. The id is new and not 0. */
void lease_restore(struct lease_table *t, int64_t id, int64_t ttl_s, int64_t remaining_s);
/* Removes the lease and detaches its keys (delete them first). ERR_LEASE_NOT_FOUND. */
MUST_CHECK enum err lease_revoke(struct lease_table *t, int64_t id);
bool lease_exists(const struct lease_table *t, int64_t id);

/* Attach `key` (copied) to `id`, off any other lease; id 0 only detaches. The lease exists. */
void lease_attach(struct lease_table *t, struct slice key, int64_t id);
int64_t lease_of_key(const struct lease_table *t, struct slice key); /* 0: none */
/* Keys of a lease in byte order; none when there is no such lease. `each` may detach the key it is
 * given, which ends the slice's life. */
void lease_each_key(const struct lease_table *t, int64_t id,
                    void (*each)(void *arg, struct slice key), void *arg);

/* This member leads from now on: every lease expires at now + its remaining or whole TTL +
 * extend_ms; with >= 1000 leases, spread so that at most 750 fall into one second. */
void lease_promote(struct lease_table *t, uint64_t now_ms, uint64_t extend_ms);
void lease_demote(struct lease_table *t);

/* Keepalive: ERR_NOT_LEADER when not promoted; ERR_LEASE_NOT_FOUND; ERR_TIMEOUT when it has expired
 * and its revocation is under way (the caller waits for that). *ttl_s: granted TTL. Forgets the
 * checkpoint. */
MUST_CHECK enum err lease_renew(struct lease_table *t, int64_t id, uint64_t now_ms, int64_t *ttl_s);
/* ERR_LEASE_NOT_FOUND. */
MUST_CHECK enum err lease_lookup(const struct lease_table *t, int64_t id, uint64_t now_ms,
                                 struct lease_info *out);
/* Ascending remaining time when promoted, else by id. `each` changes nothing in the table. */
void lease_each(const struct lease_table *t, void (*each)(void *arg, int64_t id), void *arg);
size_t lease_count(const struct lease_table *t);

/* Up to n_max expired leases, each reported once per `retry_ms` until revoked. Those that have
 * waited longest for their report come first: by deadline, or by when the report is due again;
 * equal times by id. */
size_t lease_expired(struct lease_table *t, uint64_t now_ms, uint64_t retry_ms, int64_t *ids,
                     size_t n_max);

/* Set the remaining time from a checkpoint entry (0 clears it). It counts from the next promotion
 * on: a deadline that runs is not moved. An unknown id is ignored: the lease was revoked
 * meanwhile. */
void lease_checkpoint(struct lease_table *t, int64_t id, int64_t remaining_s, uint64_t now_ms);

#endif
