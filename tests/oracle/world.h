/* world.h - what the test knows about the two stores, and the requests it makes up from that.
 *
 * What        Revisions and leases as the oracle reported them, and the seeded generator. Requests
 *             live in an arena that the caller resets between rounds.
 * Callers     the oracle test.   Thread  one.
 */
#ifndef TESTS_ORACLE_WORLD_H
#define TESTS_ORACLE_WORLD_H

#include "api/proto/rpc.pb-c.h"
#include "base/arena.h"
#include "random.h"

enum oracle_version { V34 = 1, V36 = 2, V37 = 4 }; /* bits, for the table of rules */
#define V_ALL (V34 | V36 | V37)

#define LEASES_MAX 32u
#define HISTORY_MAX 64u
#define OPS_MAX 140u    /* of a generated txn's list; the server's own limit is 128 */
#define VALUE_SMALL 24u /* bytes, most values */
#define VALUE_MIDDLE 4096u
#define VALUE_LARGE (96u * 1024u)

struct compaction {
    int64_t revision;
    bool clean; /* the compaction before was known to be over: only then upstream keeps a hash */
};

struct world {
    struct random random;
    enum oracle_version version;
    struct arena *arena;
    int64_t revision;                       /* live */
    int64_t compacted;                      /* -1: never */
    struct compaction history[HISTORY_MAX]; /* the newest ones, a ring */
    size_t n_history;
    int64_t settled;            /* removal up to this compaction is known to be over */
    int64_t leases[LEASES_MAX]; /* that exist */
    size_t n_leases;
    uint64_t member_id;
    bool no_nested; /* make no txns inside txns */
};

/* A random one of the fixed, small set of keys, which has zero bytes, 0xff bytes and prefixes. */
ProtobufCBinaryData world_key(struct world *w);
/* A revision worth asking for: live, old, compacted, future, negative, 0. */
int64_t world_revision(struct world *w);
/* The compaction at just that revision, or NULL. */
const struct compaction *world_compaction_at(const struct world *w, int64_t revision);
void world_compacted(struct world *w, int64_t revision, bool physical);
void world_lease_add(struct world *w, int64_t id);
void world_lease_remove(struct world *w, int64_t id);

Etcdserverpb__RangeRequest *world_range(struct world *w, bool in_txn);
Etcdserverpb__PutRequest *world_put(struct world *w);
Etcdserverpb__DeleteRangeRequest *world_delete(struct world *w);
Etcdserverpb__TxnRequest *world_txn(struct world *w);
/* Only range requests in both branches: executed without the log. */
Etcdserverpb__TxnRequest *world_read_txn(struct world *w);
Etcdserverpb__CompactionRequest *world_compaction(struct world *w);
Etcdserverpb__LeaseGrantRequest *world_grant(struct world *w);
/* An existing lease's id, seldom one that does not exist. */
int64_t world_lease(struct world *w);

#endif
