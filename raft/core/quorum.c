/* quorum.c - majorities, single and joint.
 *
 * The index that a majority has acknowledged is the one at position n - (n/2 + 1) of the
 * acknowledged indexes in ascending order; who said nothing counts as 0. A joint configuration
 * needs both majorities, so the smaller index and the worse result count. An empty half agrees with
 * everything, which makes a half-empty joint configuration an ordinary one.
 */
#include "raft/core/internal.h"

bool raft_ids_has(const struct raft_ids *s, uint64_t id)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->id[i] == id) {
            return true;
        }
    }
    return false;
}

void raft_ids_add(struct raft_ids *s, uint64_t id)
{
    size_t at = 0;
    while (at < s->n && s->id[at] < id) {
        at++;
    }
    if (at < s->n && s->id[at] == id) {
        return;
    }
    ASSERT(s->n < RAFT_MEMBERS_MAX);
    memmove(&s->id[at + 1], &s->id[at], (s->n - at) * sizeof(s->id[0]));
    s->id[at] = id;
    s->n++;
}

void raft_ids_remove(struct raft_ids *s, uint64_t id)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->id[i] == id) {
            s->n--;
            memmove(&s->id[i], &s->id[i + 1], (s->n - i) * sizeof(s->id[0]));
            return;
        }
    }
}

bool raft_ids_union(const struct raft_ids *a, const struct raft_ids *b, struct raft_ids *out)
{
    struct raft_ids u = *a;
    for (size_t i = 0; i < b->n; i++) {
        if (raft_ids_has(&u, b->id[i])) {
            continue;
        }
        if (u.n == RAFT_MEMBERS_MAX) {
            return false;
        }
        raft_ids_add(&u, b->id[i]);
    }
    *out = u;
    return true;
}

uint64_t raft_quorum_committed(const struct raft_ids *voters, struct raft_acks acks)
{
    if (voters->n == 0) {
        return UINT64_MAX;
    }
    uint64_t sorted[RAFT_MEMBERS_MAX];
    for (size_t i = 0; i < voters->n; i++) {
        uint64_t index = 0;
        if (!acks.acked(acks.arg, voters->id[i], &index)) {
            index = 0;
        }
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > index; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = index;
    }
    return sorted[voters->n - (voters->n / 2 + 1)];
}

uint64_t raft_joint_committed(const struct raft_ids *incoming, const struct raft_ids *outgoing,
                              struct raft_acks acks)
{
    uint64_t a = raft_quorum_committed(incoming, acks);
    uint64_t b = raft_quorum_committed(outgoing, acks);
    return a < b ? a : b;
}

enum raft_vote_result raft_quorum_vote(const struct raft_ids *voters, struct raft_ballots ballots)
{
    if (voters->n == 0) {
        return RAFT_VOTE_WON;
    }
    size_t yes = 0;
    size_t missing = 0;
    for (size_t i = 0; i < voters->n; i++) {
        switch (ballots.ballot(ballots.arg, voters->id[i])) {
        case RAFT_BALLOT_YES:
            yes++;
            break;
        case RAFT_BALLOT_NONE:
            missing++;
            break;
        case RAFT_BALLOT_NO:
            break;
        }
    }
    size_t majority = voters->n / 2 + 1;
    if (yes >= majority) {
        return RAFT_VOTE_WON;
    }
    return yes + missing >= majority ? RAFT_VOTE_PENDING : RAFT_VOTE_LOST;
}

enum raft_vote_result raft_joint_vote(const struct raft_ids *incoming,
                                      const struct raft_ids *outgoing, struct raft_ballots ballots)
{
    enum raft_vote_result a = raft_quorum_vote(incoming, ballots);
    enum raft_vote_result b = raft_quorum_vote(outgoing, ballots);
    if (a == RAFT_VOTE_LOST || b == RAFT_VOTE_LOST) {
        return RAFT_VOTE_LOST;
    }
    return a == RAFT_VOTE_WON && b == RAFT_VOTE_WON ? RAFT_VOTE_WON : RAFT_VOTE_PENDING;
}
