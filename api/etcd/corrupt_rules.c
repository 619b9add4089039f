/* corrupt_rules.c - see corrupt_rules.h. */
#include "api/etcd/corrupt_rules.h"

size_t corrupt_initial(const struct hash_kv *own, const struct corrupt_answer *answers, size_t n)
{
    size_t n_differ = 0;
    for (size_t i = 0; i < n; i++) {
        const struct corrupt_answer *a = &answers[i];
        n_differ += a->answered && a->kv.compact_revision == own->compact_revision && a->kv.hash != own->hash ? 1u : 0u;
    }
    return n_differ;
}

enum corrupt_reason corrupt_periodic(uint64_t self, const struct hash_kv *before, const struct hash_kv *after, const struct corrupt_answer *answers,
                                     size_t n, uint64_t *offender)
{
    *offender = self;
    if (before->hash != after->hash && before->hash_revision == after->hash_revision && before->compact_revision == after->compact_revision) {
        return CORRUPT_SELF;
    }
    for (size_t i = 0; i < n; i++) {
        const struct corrupt_answer *a = &answers[i];
        if (!a->answered) {
            continue;
        }
        *offender = a->member;
        if (a->kv.live_revision > after->live_revision) {
            return CORRUPT_AHEAD;
        }
        if (a->kv.compact_revision > after->compact_revision) {
            return CORRUPT_COMPACTED_AHEAD;
        }
        if (a->kv.compact_revision == before->compact_revision && a->kv.hash != before->hash) {
            return CORRUPT_DIFFERS;
        }
    }
    return CORRUPT_NONE;
}

static bool counts(const struct corrupt_answer *a, const struct hash_kv *own)
{
    return a->answered && a->kv.compact_revision == own->compact_revision;
}

/* How many hold this hash, this member included. */
static size_t holders(uint32_t hash, const struct hash_kv *own, const struct corrupt_answer *answers, size_t n)
{
    size_t held = own->hash == hash ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        held += counts(&answers[i], own) && answers[i].kv.hash == hash ? 1u : 0u;
    }
    return held;
}

struct corrupt_vote corrupt_compaction(uint64_t self, const struct hash_kv *own, const struct corrupt_answer *answers, size_t n, uint64_t *offenders)
{
    struct corrupt_vote v = {.agreed = true};
    size_t quorum = (n + 1) / 2 + 1; /* of all members, not of those that answered */
    bool majority = holders(own->hash, own, answers, n) >= quorum;
    uint32_t right = own->hash;
    for (size_t i = 0; i < n; i++) {
        if (!counts(&answers[i], own)) {
            continue;
        }
        v.n_counted++;
        v.agreed = v.agreed && answers[i].kv.hash == own->hash;
        if (!majority && holders(answers[i].kv.hash, own, answers, n) >= quorum) {
            majority = true;
            right = answers[i].kv.hash;
        }
    }
    v.settled = !v.agreed || v.n_counted == n;
    v.no_quorum = !v.agreed && !majority;
    if (v.agreed || v.no_quorum) {
        return v;
    }
    if (own->hash != right) {
        offenders[v.n_offenders++] = self;
    }
    for (size_t i = 0; i < n; i++) {
        if (counts(&answers[i], own) && answers[i].kv.hash != right) {
            offenders[v.n_offenders++] = answers[i].member;
        }
    }
    return v;
}
