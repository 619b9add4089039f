/* corrupt_rules.h - what members' hashes say about each other.
 *
 * What        Pure decisions of etcd's three corruption checks: given this member's hashes and the others' answers, who differs.
 * Callers     api/etcd/corrupt.c.   Thread  any.
 * Source      etcd-server.md 5.8
 */
#ifndef API_ETCD_CORRUPT_RULES_H
#define API_ETCD_CORRUPT_RULES_H

#include "engine/engine.h"

struct corrupt_answer {
    uint64_t member;
    bool answered; /* else `kv` says nothing */
    struct hash_kv kv;
};

enum corrupt_reason {
    CORRUPT_NONE,
    CORRUPT_SELF,            /* this member's own hash changed while its revision did not */
    CORRUPT_AHEAD,           /* a follower has a revision that its leader does not have */
    CORRUPT_COMPACTED_AHEAD, /* ... or has compacted farther */
    CORRUPT_DIFFERS          /* another hash of the same history */
};

/* A member against the others, at its start: the number of those whose history is the same and whose hash is not. */
size_t corrupt_initial(const struct hash_kv *own, const struct corrupt_answer *answers, size_t n);

/* A leader's look at all: `before` is its hash when the others were asked, `after` that behind a read barrier. The first offender of that pass. */
enum corrupt_reason corrupt_periodic(uint64_t self, const struct hash_kv *before, const struct hash_kv *after, const struct corrupt_answer *answers,
                                     size_t n, uint64_t *offender);

/* One compaction's hash. */
struct corrupt_vote {
    bool settled;   /* all have answered and agree, or some differ: older compactions need no look */
    bool agreed;    /* nobody differs among those that answered */
    bool no_quorum; /* some differ, and no hash is that of a majority: the alarm is for member 0 */
    size_t n_counted;
    size_t n_offenders;
};
/* `offenders` has room for n + 1 ids: the members outside the majority's hash. */
struct corrupt_vote corrupt_compaction(uint64_t self, const struct hash_kv *own, const struct corrupt_answer *answers, size_t n, uint64_t *offenders);

#endif
