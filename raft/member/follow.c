/* follow.c - what comes from other members, and what is done when the leader is gone.
 *
 * A leader whose process died leaves evidence (raft/peer/link.h, LINK_GONE). A member that sees it forgets the leader and asks for
 * votes soon, not all voters at the same moment: each waits its turn by the order of ids, and asks again while there is no leader.
 * Nothing is decided by that: a new leader still needs a quorum of votes, and whoever still hears the old leader refuses.
 *
 * A member that was removed does not go at once. Its own log may be what made the removal's quorum, and until those who stay have heard of the
 * commit they go by the configuration before, in which its vote counts: of two members the one that stays could do nothing without it, for ever. Who
 * has applied the removal refuses its messages and says why (LINK_NEWS_REMOVED). Once a majority of the new configuration has said so, every
 * election there is won by one who knows, and the removed member ends; or when its patience is over.
 */
#include "raft/member/internal.h"

#include "base/assert.h"
#include "base/mem.h"

uint64_t follow_best_voter(const struct member *m)
{
    const struct member_transport *t = m->cfg.transport;
    const struct raft_ids *voters = &raft_conf(m->raft)->voters;
    uint64_t best = RAFT_NONE;
    uint64_t best_since = UINT64_MAX;
    for (size_t i = 0; t != NULL && i < voters->n; i++) {
        uint64_t since = voters->id[i] == m->cfg.member_id ? 0 : t->active_since_ms(t->arg, voters->id[i]);
        if (since != 0 && since < best_since) {
            best = voters->id[i];
            best_since = since;
        }
    }
    return best;
}

static void tell_removed(struct member *m)
{
    if (!m->removed_told) {
        m->removed_told = true;
        if (m->cfg.removed != NULL) {
            m->cfg.removed(m->cfg.arg);
        }
    }
}

static bool majority_knows(const struct member *m, const struct raft_ids *voters)
{
    size_t n = 0;
    for (size_t i = 0; i < voters->n; i++) {
        n += raft_ids_has(&m->know_removal, voters->id[i]) ? 1u : 0u;
    }
    return voters->n == 0 || n >= voters->n / 2 + 1;
}

void follow_removed(struct member *m)
{
    if (m->leave_by_ms == 0) {
        m->leave_by_ms = m->now_ms + MEMBER_REMOVAL_WAIT_MS;
    }
}

static void heard_removed(struct member *m, uint64_t id)
{
    log_warn(m->cfg.log, "another member says that this one was removed", F_HEX("from", id));
    if (m->leave_by_ms == 0) { /* it may never get the entry that says so */
        tell_removed(m);
    } else if (m->know_removal.n < ARRAY_LEN(m->know_removal.id)) {
        raft_ids_add(&m->know_removal, id);
    }
}

static void mind_removal(struct member *m)
{
    if (m->leave_by_ms == 0 || m->removed_told) {
        return;
    }
    const struct raft_conf_state *conf = raft_conf(m->raft);
    bool known = majority_knows(m, &conf->voters) && majority_knows(m, &conf->voters_outgoing);
    if (!known && m->now_ms >= m->leave_by_ms) {
        log_warn(m->cfg.log, "this member was removed, and those who stay may not know it yet", F_HEX("local-member-id", m->cfg.member_id));
    }
    if (known || m->now_ms >= m->leave_by_ms) {
        tell_removed(m);
    }
}

/* --- messages ------------------------------------------------------------------------------------------- */

static enum err receive(struct member *m, const struct raft_message *message)
{
    enum err e = raft_receive(m->raft, message);
    if (e == ERR_CORRUPT) {
        log_error(m->cfg.log, "message contradicts what this member's log holds", F_HEX("from", message->from),
                  F_STR("type", raft_message_type_name(message->type)), F_UINT("index", message->index), F_UINT("term", message->term));
    }
    return e;
}

static bool is_deferred(const struct raft_message *message, enum err e)
{
    return message->type == RAFT_MSG_PROP && (e == ERR_BUSY || e == ERR_NO_LEADER || e == ERR_NOT_LEADER);
}

void follow_message(struct member *m, struct raft_message *message)
{
    enum err e = receive(m, message);
    if (is_deferred(message, e) && m->n_held_proposals < MEMBER_HELD_PROPOSALS_MAX) {
        if (m->held_proposals == NULL) {
            m->held_proposals = xalloc(MEMBER_HELD_PROPOSALS_MAX * sizeof(m->held_proposals[0]));
        }
        m->held_proposals[m->n_held_proposals++] = (struct held_proposal){message, m->now_ms + m->request_timeout_ms};
        return;
    }
    raft_message_destroy(&message);
}

/* Those that came while nobody could take them. */
static void retry_held(struct member *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->n_held_proposals; i++) {
        struct held_proposal h = m->held_proposals[i];
        if (h.deadline_ms > m->now_ms && is_deferred(h.message, receive(m, h.message))) {
            m->held_proposals[kept++] = h;
        } else {
            raft_message_destroy(&h.message);
        }
    }
    m->n_held_proposals = kept;
}

/* --- snapshots that were refused ------------------------------------------------------------------------------ */

/* Raft sends another one as soon as it hears of a failure: so it hears later, and later each time. */
static void snapshot_failed(struct member *m, uint64_t id)
{
    struct snapshot_failure *f = NULL;
    for (size_t i = 0; i < m->n_snapshot_failures; i++) {
        f = m->snapshot_failures[i].id == id ? &m->snapshot_failures[i] : f;
    }
    if (f == NULL && m->n_snapshot_failures == ARRAY_LEN(m->snapshot_failures)) {
        raft_report_snapshot(m->raft, id, false);
        return;
    }
    if (f == NULL) {
        f = &m->snapshot_failures[m->n_snapshot_failures++];
        *f = (struct snapshot_failure){.id = id, .wait_ms = MEMBER_SNAPSHOT_RETRY_MS / 2};
    }
    f->wait_ms = 2 * f->wait_ms < MEMBER_SNAPSHOT_RETRY_MAX_MS ? 2 * f->wait_ms : MEMBER_SNAPSHOT_RETRY_MAX_MS;
    f->report_at_ms = m->now_ms + f->wait_ms;
}

static void forget_failures(struct member *m, uint64_t id)
{
    for (size_t i = 0; i < m->n_snapshot_failures; i++) {
        if (m->snapshot_failures[i].id == id) {
            m->snapshot_failures[i] = m->snapshot_failures[--m->n_snapshot_failures];
            return;
        }
    }
}

static void report_failures(struct member *m)
{
    for (size_t i = 0; i < m->n_snapshot_failures; i++) {
        struct snapshot_failure *f = &m->snapshot_failures[i];
        if (f->report_at_ms != 0 && m->now_ms >= f->report_at_ms) {
            f->report_at_ms = 0;
            raft_report_snapshot(m->raft, f->id, false);
        }
    }
}

/* --- links ------------------------------------------------------------------------------------------------ */

static void leader_gone(struct member *m, uint64_t id)
{
    if (id != atomic_load_explicit(&m->leader, memory_order_relaxed)) {
        return;
    }
    const struct raft_ids *voters = &raft_conf(m->raft)->voters;
    uint64_t rank = 0;
    size_t own = 0;
    for (; own < voters->n && voters->id[own] != m->cfg.member_id; own++) {
        rank += voters->id[own] != id ? 1u : 0u;
    }
    if (own == voters->n) {
        return; /* no voter: the others elect */
    }
    log_info(m->cfg.log, "the leader's process is gone; asking for votes", F_HEX("local-member-id", m->cfg.member_id), F_HEX("leader", id));
    m->gone_leader = id;
    m->campaign_at_ms = m->now_ms + rank * MEMBER_FAILOVER_STEP_MS;
    m->campaign_until_ms = m->now_ms + m->cfg.election_ms;
    raft_forget_leader(m->raft);
}

void follow_link(struct member *m, uint64_t id, enum link_news news)
{
    switch (news) {
    case LINK_NEWS_UNREACHABLE:
        raft_report_unreachable(m->raft, id);
        return;
    case LINK_NEWS_SNAPSHOT_DELIVERED:
        forget_failures(m, id);
        raft_report_snapshot(m->raft, id, true);
        m->hold_log_until_ms = m->now_ms + MEMBER_SNAPSHOT_HOLD_MS;
        return;
    case LINK_NEWS_SNAPSHOT_FAILED:
        snapshot_failed(m, id);
        return;
    case LINK_NEWS_GONE:
        leader_gone(m, id);
        return;
    case LINK_NEWS_ACTIVE:
        return;
    case LINK_NEWS_REMOVED:
        heard_removed(m, id);
        return;
    }
    UNREACHABLE();
}

/* --- each turn --------------------------------------------------------------------------------------------- */

static void campaign(struct member *m)
{
    if (m->gone_leader == RAFT_NONE || m->now_ms < m->campaign_at_ms) {
        return;
    }
    const struct raft_ids *voters = &raft_conf(m->raft)->voters;
    struct raft_status rs;
    raft_status(m->raft, &rs);
    if (rs.leader != RAFT_NONE || m->now_ms >= m->campaign_until_ms || follow_disk_hangs(m)) {
        m->gone_leader = RAFT_NONE;
        return;
    }
    m->campaign_at_ms = m->now_ms + voters->n * MEMBER_FAILOVER_STEP_MS;
    if (rs.role != RAFT_CANDIDATE) { /* one that asks for votes already waits for them */
        raft_campaign(m->raft);
    }
}

/* etcd's start-up rule: once two other members are connected there is no need to wait out a whole election timeout. */
static void fast_forward(struct member *m)
{
    if (m->forwarded || m->now_ms < m->forward_at_ms) {
        return;
    }
    m->forward_at_ms = m->now_ms + MEMBER_FORWARD_POLL_MS;
    const struct raft_ids *voters = &raft_conf(m->raft)->voters;
    size_t active = 0;
    for (size_t i = 0; i < voters->n; i++) {
        const struct member_transport *t = m->cfg.transport;
        active += t != NULL && voters->id[i] != m->cfg.member_id && t->active_since_ms(t->arg, voters->id[i]) != 0 ? 1u : 0u;
    }
    bool late = m->now_ms >= m->started_ms + MEMBER_FORWARD_MAX_MS;
    if (active < 2 && !late) {
        return;
    }
    m->forwarded = true;
    uint32_t ticks = m->cfg.election_ms / m->cfg.heartbeat_ms;
    if (active >= 2 && ticks > 2 && atomic_load_explicit(&m->leader, memory_order_relaxed) == RAFT_NONE) {
        log_info(m->cfg.log, "initialized peer connections; fast-forwarding election ticks", F_HEX("local-member-id", m->cfg.member_id),
                 F_UINT("forward-ticks", ticks - 2), F_UINT("active-remote-members", active));
        raft_fast_forward(m->raft, ticks - 2);
    }
}

/* For how long the log has taken nothing although it should. */
static uint64_t log_stuck_ms(const struct member *m)
{
    return m->first_batch == NULL || m->now_ms < m->first_batch->since_ms ? 0 : m->now_ms - m->first_batch->since_ms;
}

bool follow_disk_hangs(const struct member *m)
{
    return log_stuck_ms(m) >= m->cfg.election_ms;
}

/* A leader whose disk takes nothing keeps its followers from electing one that works: so it hands over, and when that does not help within
 * another election timeout it steps down. Until the disk is back it does not campaign (loop.c, tick). */
static void mind_the_disk(struct member *m)
{
    if (!follow_disk_hangs(m) || !atomic_load_explicit(&m->is_leader, memory_order_relaxed)) {
        return;
    }
    struct raft_status rs;
    raft_status(m->raft, &rs);
    uint64_t stuck_ms = log_stuck_ms(m);
    if (raft_conf(m->raft)->voters.n <= 1) {
        return; /* nobody else could do better */
    }
    if (stuck_ms >= 2u * m->cfg.election_ms) {
        log_warn(m->cfg.log, "the disk has taken nothing for two election timeouts; stepping down", F_HEX("local-member-id", m->cfg.member_id),
                 F_UINT("waiting-ms", stuck_ms));
        raft_step_down(m->raft);
        return;
    }
    uint64_t best = rs.transferee == RAFT_NONE ? follow_best_voter(m) : RAFT_NONE;
    if (best != RAFT_NONE) {
        log_warn(m->cfg.log, "the disk has taken nothing for an election timeout; handing over leadership", F_HEX("local-member-id", m->cfg.member_id),
                 F_HEX("transferee-member-id", best), F_UINT("waiting-ms", stuck_ms));
        raft_transfer_leader(m->raft, best);
    }
}

void follow_turn(struct member *m)
{
    if (m->n_held_proposals > 0) {
        retry_held(m);
    }
    report_failures(m);
    campaign(m);
    if (m->cfg.fast_forward) {
        fast_forward(m);
    }
    mind_the_disk(m);
    mind_removal(m);
}
