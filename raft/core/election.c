/* election.c - who leads.
 *
 *                     ┌──────────────── timeout ────────────────┐
 *   follower ──timeout──► pre-candidate ──majority──► candidate ──majority──► leader
 *      ▲                     │                          │                       │
 *      └──── higher term, or a leader of this term ─────┴─── quorum is silent ──┘
 *
 * A pre-candidate asks whether it would be elected without raising its term, so that a member that
 * was cut off does not disturb the others when it comes back (thesis, 9.6). A leader that hears
 * from no majority during an election timeout steps down; a follower that heard from its leader
 * during that time ignores requests for votes (raise_term in raft.c). The own vote counts, like
 * everybody's, once it is durable: it takes the way of a message that comes back from the log.
 */
#include <inttypes.h>

#include "raft/core/internal.h"

/* splitmix64: small, and its whole state is one number that a simulation can print. */
uint64_t raft_random(struct raft *r)
{
    r->random += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = r->random;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void raft_set_election_timeout(struct raft *r, uint32_t ticks)
{
    r->election_timeout = ticks;
}

static void reset(struct raft *r, uint64_t term)
{
    if (r->term != term) {
        ASSERT(term > r->term);
        r->term = term;
        r->vote = RAFT_NONE;
    }
    r->leader = RAFT_NONE;
    r->election_elapsed = 0;
    r->heartbeat_elapsed = 0;
    uint32_t ticks = r->config.election_ticks;
    r->election_timeout = ticks + (uint32_t)(raft_random(r) % ticks);
    r->transferee = RAFT_NONE;
    uint64_t last = raft_log_last(&r->log);
    for (size_t i = 0; i < r->tracker.n; i++) {
        struct raft_progress *p = &r->tracker.p[i];
        raft_window_reset(p);
        *p = (struct raft_progress){
            .id = p->id,
            .next = last + 1,
            .match = p->id == r->id ? last : 0,
            .is_learner = p->is_learner,
            .window = p->window,
        };
    }
    r->pending_conf_index = 0;
    r->uncommitted_bytes = 0;
    raft_reset_reads(r);
}

void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader)
{
    reset(r, term);
    r->leader = leader;
    r->role = RAFT_FOLLOWER;
    RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " became follower at term %" PRIu64, r->id, r->term);
}

static void become_candidate(struct raft *r)
{
    ASSERT(r->role != RAFT_LEADER);
    reset(r, r->term + 1);
    r->vote = r->id;
    r->role = RAFT_CANDIDATE;
    RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " became candidate at term %" PRIu64, r->id, r->term);
}

/* Neither term nor vote changes, and the timeout goes on. */
static void become_pre_candidate(struct raft *r)
{
    ASSERT(r->role != RAFT_LEADER);
    raft_tracker_reset_votes(&r->tracker);
    r->leader = RAFT_NONE;
    r->role = RAFT_PRE_CANDIDATE;
    RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " became pre-candidate at term %" PRIu64, r->id,
               r->term);
}

static void become_leader(struct raft *r)
{
    ASSERT(r->role == RAFT_CANDIDATE);
    reset(r, r->term);
    r->leader = r->id;
    r->role = RAFT_LEADER;
    struct raft_progress *self = raft_tracker_find(&r->tracker, r->id);
    ASSERT(self != NULL);
    raft_progress_become_replicate(self);
    self->recent_active = true;
    /* There may be a conf change among the entries that are not applied yet: looking for it costs
     * more than waiting for the end of the log. */
    r->pending_conf_index = raft_log_last(&r->log);
    struct raft_entry empty = {0};
    bool appended = raft_append_own(r, &empty, 1);
    ASSERT(appended);
    RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " became leader at term %" PRIu64, r->id, r->term);
}

bool raft_promotable(const struct raft *r)
{
    const struct raft_progress *p = raft_tracker_get(&r->tracker, r->id);
    return p != NULL && !p->is_learner && r->log.snapshot == NULL && r->lost_index == 0;
}

/* ---- a log that lost something ---- */

static bool reaches(uint64_t term, uint64_t index, const struct raft *r)
{
    return term > r->lost_term || (term == r->lost_term && index >= r->lost_index);
}

/* Logs that agree on an entry agree on all before it. So an end of the lost term that is as far, or
 * of a later term, whose leader had all that was committed, holds every committed entry among the
 * lost ones. */
void raft_check_recovered(struct raft *r)
{
    uint64_t term = 0;
    uint64_t last = r->log.durable_next - 1;
    if (r->lost_index != 0 && raft_log_term(&r->log, last, &term) && reaches(term, last, r)) {
        r->lost_index = 0;
        r->lost_term = 0;
    }
}

void raft_suspect(struct raft *r, uint64_t term, uint64_t index)
{
    bool farther = raft_log_up_to_date(&r->log, index, term);
    if (index == 0 || !farther || raft_log_matches(&r->log, index, term)) {
        return;
    }
    r->lost_term = term;
    r->lost_index = index;
    raft_become_follower(r, (term > r->term ? term : r->term) + 1, RAFT_NONE);
}

static void campaign(struct raft *r, enum raft_campaign_kind kind)
{
    enum raft_message_type ask = RAFT_MSG_VOTE;
    enum raft_message_type answer = RAFT_MSG_VOTE_RESP;
    uint64_t term = 0;
    if (kind == RAFT_CAMPAIGN_PRE) {
        become_pre_candidate(r);
        ask = RAFT_MSG_PRE_VOTE;
        answer = RAFT_MSG_PRE_VOTE_RESP;
        term = r->term + 1; /* the one it would have */
    } else {
        become_candidate(r);
        term = r->term;
    }
    struct raft_ids voters;
    bool fits = raft_ids_union(&r->tracker.conf.voters, &r->tracker.conf.voters_outgoing, &voters);
    ASSERT(fits);
    for (size_t i = 0; i < voters.n; i++) {
        bool self = voters.id[i] == r->id;
        struct raft_message *m = raft_message_create(self ? answer : ask, 0);
        m->to = voters.id[i];
        m->term = term;
        if (!self) {
            m->index = raft_log_last(&r->log);
            m->log_term = raft_log_last_term(&r->log);
            RAFT_TRACE(r, RAFT_LOG_INFO,
                       "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64
                       "] sent %s request to %" PRIx64 " at term %" PRIu64,
                       r->id, m->log_term, m->index, raft_message_type_name(ask), m->to, r->term);
            if (kind == RAFT_CAMPAIGN_TRANSFER) {
                m->context_len = sizeof(RAFT_TRANSFER_CONTEXT) - 1;
                memcpy(m->context, RAFT_TRANSFER_CONTEXT, m->context_len);
            }
        }
        raft_send(r, m);
    }
}

static bool unapplied_conf_change(const struct raft *r)
{
    for (uint64_t i = r->log.applied + 1; i <= r->log.committed; i++) {
        if (raft_log_at(&r->log, i)->type != RAFT_ENTRY_NORMAL) {
            return true;
        }
    }
    return false;
}

void raft_hup(struct raft *r, enum raft_campaign_kind kind)
{
    if (r->role == RAFT_LEADER) {
        RAFT_TRACE(r, RAFT_LOG_DEBUG, "%" PRIx64 " ignoring MsgHup because already leader", r->id);
        return;
    }
    if (!raft_promotable(r)) {
        RAFT_TRACE(r, RAFT_LOG_WARN, "%" PRIx64 " is unpromotable and can not campaign", r->id);
        return;
    }
    if (unapplied_conf_change(r)) {
        RAFT_TRACE(r, RAFT_LOG_WARN,
                   "%" PRIx64 " cannot campaign at term %" PRIu64
                   " since there are still pending configuration changes to apply",
                   r->id, r->term);
        return;
    }
    RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " is starting a new election at term %" PRIu64, r->id,
               r->term);
    campaign(r, kind);
}

static void trace_vote(const struct raft *r, const struct raft_message *m, const char *what,
                       const char *for_or_from)
{
    RAFT_TRACE(r, RAFT_LOG_INFO,
               "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64 ", vote: %" PRIx64
               "] %s %s %s %" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64 "] at term %" PRIu64,
               r->id, raft_log_last_term(&r->log), raft_log_last(&r->log), r->vote, what,
               raft_message_type_name(m->type), for_or_from, m->from, m->log_term, m->index,
               r->term);
}

/* Learners vote too: one that was made a voter may not have heard of it, and its vote may be needed
 * to elect the only member that knows. */
void raft_handle_vote(struct raft *r, const struct raft_message *m)
{
    bool pre = m->type == RAFT_MSG_PRE_VOTE;
    bool free_to = r->vote == m->from || (r->vote == RAFT_NONE && r->leader == RAFT_NONE) ||
                   (pre && m->term > r->term);
    struct raft_message *resp =
        raft_message_create(pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP, 0);
    resp->to = m->from;
    bool has_lost = r->lost_index == 0 || reaches(m->log_term, m->index, r);
    if (free_to && has_lost && raft_log_up_to_date(&r->log, m->index, m->log_term)) {
        trace_vote(r, m, "cast", "for");
        /* The term of the question: a pre-candidate's own is lower, and it would drop ours. */
        resp->term = m->term;
        raft_send(r, resp);
        if (!pre) {
            r->election_elapsed = 0;
            r->vote = m->from;
        }
    } else {
        trace_vote(r, m, "rejected", "from");
        resp->term = r->term;
        resp->reject = true;
        raft_send(r, resp);
    }
}

void raft_handle_vote_resp(struct raft *r, const struct raft_message *m)
{
    RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " received %s%s from %" PRIx64 " at term %" PRIu64,
               r->id, raft_message_type_name(m->type), m->reject ? " rejection" : "", m->from,
               r->term);
    struct raft_progress *p = raft_tracker_find(&r->tracker, m->from);
    if (p != NULL && p->vote == RAFT_BALLOT_NONE) {
        p->vote = m->reject ? RAFT_BALLOT_NO : RAFT_BALLOT_YES;
    }
    size_t granted = 0;
    size_t rejected = 0;
    enum raft_vote_result result = raft_tracker_tally(&r->tracker, &granted, &rejected);
    RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " has received %zu %s votes and %zu vote rejections",
               r->id, granted, raft_message_type_name(m->type), rejected);
    switch (result) {
    case RAFT_VOTE_PENDING:
        break;
    case RAFT_VOTE_WON:
        if (!raft_promotable(r)) { /* removed or demoted while the votes were on their way */
            raft_become_follower(r, r->term, RAFT_NONE);
        } else if (r->role == RAFT_PRE_CANDIDATE) {
            campaign(r, RAFT_CAMPAIGN_ELECTION);
        } else {
            become_leader(r);
            raft_broadcast_append(r);
        }
        break;
    case RAFT_VOTE_LOST:
        raft_become_follower(r, r->term, RAFT_NONE);
        break;
    }
}

void raft_tick_election(struct raft *r)
{
    r->election_elapsed++;
    if (raft_promotable(r) && r->election_elapsed >= r->election_timeout) {
        r->election_elapsed = 0;
        raft_campaign(r);
    }
}

void raft_check_quorum(struct raft *r)
{
    if (!raft_tracker_quorum_active(&r->tracker)) {
        RAFT_TRACE(r, RAFT_LOG_WARN,
                   "%" PRIx64 " stepped down to follower since quorum is not active", r->id);
        raft_become_follower(r, r->term, RAFT_NONE);
    }
    for (size_t i = 0; i < r->tracker.n; i++) {
        if (r->tracker.p[i].id != r->id) {
            r->tracker.p[i].recent_active = false;
        }
    }
}
