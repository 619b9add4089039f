/* raft.c - a member's life, the events that enter it, and the rule of terms.
 *
 * raft_step is where every message passes: a higher term makes this member a follower, a lower one
 * is answered so that its sender catches up, or ignored. What is left is for the role to handle.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "raft/core/internal.h"

void raft_trace(const struct raft *r, enum raft_log_level level, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    if ((size_t)n < sizeof(text)) {
        r->config.log(r->config.log_arg, level, text);
        return;
    }
    /* A configuration of many members does not fit; it is printed rarely. */
    char *longer = xalloc((size_t)n + 1);
    va_start(args, fmt);
    (void)vsnprintf(longer, (size_t)n + 1, fmt, args);
    va_end(args);
    r->config.log(r->config.log_arg, level, longer);
    free(longer);
}

/* ---- life ---- */

static enum err check_config(const struct raft_config *c, struct err_ctx *ec)
{
    if (c->id == RAFT_NONE || c->id >= RAFT_LOCAL_APPLY) {
        return err_set(ec, ERR_INVALID, "member id %" PRIx64 " is reserved", c->id);
    }
    if (c->heartbeat_ticks == 0 || c->election_ticks <= c->heartbeat_ticks ||
        c->election_ticks > UINT32_MAX / 2) {
        return err_set(ec, ERR_INVALID,
                       "election ticks (%" PRIu32 ") must be more than heartbeat ticks (%" PRIu32
                       "), and these more than 0",
                       c->election_ticks, c->heartbeat_ticks);
    }
    if (c->max_inflight == 0) {
        return err_set(ec, ERR_INVALID, "max inflight messages must be more than 0");
    }
    if (c->max_inflight_bytes != 0 && c->max_inflight_bytes < c->max_append_bytes) {
        return err_set(ec, ERR_INVALID, "max inflight bytes is less than one append message");
    }
    if (c->lease_reads && !c->check_quorum) {
        return err_set(ec, ERR_INVALID, "lease reads need check quorum");
    }
    return OK;
}

static enum err check_start(const struct raft_config *c, struct err_ctx *ec)
{
    uint64_t index = c->snapshot_index;
    uint64_t term = c->snapshot_term;
    for (size_t i = 0; i < c->n_entries; i++) {
        const struct raft_entry *e = &c->entries[i];
        if (e->index != index + 1 || e->term < term) {
            return err_set(ec, ERR_CORRUPT,
                           "entry %" PRIu64 " of term %" PRIu64 " follows entry %" PRIu64
                           " of term %" PRIu64,
                           e->index, e->term, index, term);
        }
        index = e->index;
        term = e->term;
    }
    uint64_t commit = c->hard_state.commit;
    bool fresh = c->hard_state.term == 0 && c->hard_state.vote == 0 && commit == 0;
    if (!fresh && (commit < c->snapshot_index || commit > index)) {
        return err_set(ec, ERR_CORRUPT,
                       "commit %" PRIu64 " is out of range [%" PRIu64 ", %" PRIu64 "]", commit,
                       c->snapshot_index, index);
    }
    uint64_t committed = fresh ? c->snapshot_index : commit;
    if (c->applied != 0 && (c->applied < c->snapshot_index || c->applied > committed)) {
        return err_set(ec, ERR_CORRUPT,
                       "applied %" PRIu64 " is out of range [%" PRIu64 ", %" PRIu64 "]", c->applied,
                       c->snapshot_index, committed);
    }
    return OK;
}

static void trace_start(const struct raft *r)
{
    struct raft_ids voters;
    struct bytes peers = {0};
    (void)raft_ids_union(&r->tracker.conf.voters, &r->tracker.conf.voters_outgoing, &voters);
    for (size_t i = 0; i < voters.n; i++) {
        bytes_printf(&peers, "%s%" PRIx64, i == 0 ? "" : ",", voters.id[i]);
    }
    raft_trace(r, RAFT_LOG_INFO,
               "newRaft %" PRIx64 " [peers: [%.*s], term: %" PRIu64 ", commit: %" PRIu64
               ", applied: %" PRIu64 ", lastindex: %" PRIu64 ", lastterm: %" PRIu64 "]",
               r->id, (int)peers.len, peers.len == 0 ? "" : (const char *)peers.data, r->term,
               r->log.committed, r->log.applied, raft_log_last(&r->log),
               raft_log_last_term(&r->log));
    bytes_deinit(&peers);
}

static void init_log(struct raft *r, const struct raft_config *c)
{
    struct raft_log *l = &r->log;
    l->base_index = c->snapshot_index;
    l->base_term = c->snapshot_term;
    for (size_t i = 0; i < c->n_entries; i++) {
        raft_log_push(l, c->entries[i].term, &c->entries[i], 1);
    }
    l->durable_next = raft_log_last(l) + 1;
    l->in_progress_next = l->durable_next;
    l->committed = c->hard_state.commit > l->base_index ? c->hard_state.commit : l->base_index;
    l->applied = c->applied > l->base_index ? c->applied : l->base_index;
    l->applying = l->applied;
    l->max_applying_bytes =
        c->max_committed_bytes == 0 ? RAFT_COMMITTED_BYTES : c->max_committed_bytes;
}

enum err raft_create(const struct raft_config *config, struct raft **out, struct err_ctx *ec)
{
    enum err e = check_config(config, ec);
    if (e == OK) {
        e = check_start(config, ec);
    }
    if (e != OK) {
        return e;
    }
    struct raft *r = xcalloc(1, sizeof(*r));
    r->config = *config;
    r->config.entries = NULL;
    r->id = config->id;
    r->random = config->seed ^ (config->id * UINT64_C(0x9E3779B97F4A7C15));
    init_log(r, config);
    r->tracker.max_inflight = config->max_inflight;
    r->tracker.max_inflight_bytes = config->max_inflight_bytes;
    struct raft_tracker next;
    e = raft_conf_restore(&r->tracker, raft_log_last(&r->log), &config->conf, &next, ec);
    if (e != OK) {
        raft_destroy(&r);
        return err_wrap(ec, e, "restore configuration");
    }
    raft_tracker_replace(&r->tracker, &next);
    r->applied_conf = r->tracker.conf;
    raft_switched_config(r);
    r->term = config->hard_state.term;
    r->vote = config->hard_state.vote;
    raft_become_follower(r, r->term, RAFT_NONE);
    r->prev_hard = (struct raft_hard_state){r->term, r->vote, r->log.committed};
    r->prev_leader = r->leader;
    r->prev_role = r->role;
    if (r->config.log != NULL && RAFT_LOG_INFO >= r->config.log_level) {
        trace_start(r);
    }
    *out = r;
    return OK;
}

static void messages_deinit(struct raft_messages *q)
{
    for (size_t i = 0; i < q->n; i++) {
        raft_message_destroy(&q->v[i]);
    }
    free(q->v);
}

void raft_destroy(struct raft **rp)
{
    struct raft *r = *rp;
    if (r == NULL) {
        return;
    }
    raft_log_deinit(&r->log);
    raft_tracker_deinit(&r->tracker);
    raft_reads_deinit(&r->pending_reads);
    raft_reads_deinit(&r->reads);
    messages_deinit(&r->send);
    messages_deinit(&r->after);
    free(r->send_out.v); /* the messages in there belong to who took them */
    free(r->after_out.v);
    free(r->read_states);
    free(r->read_states_out);
    raft_snapshot_destroy(&r->snapshot_out);
    free(r);
    *rp = NULL;
}

/* ---- sending ---- */

void raft_push_message(struct raft_messages *q, struct raft_message *m)
{
    if (q->n == q->cap) {
        q->cap = q->cap == 0 ? 16 : q->cap * 2;
        q->v = xrealloc(q->v, q->cap * sizeof(q->v[0]));
    }
    q->v[q->n++] = m;
}

static bool is_vote(enum raft_message_type type)
{
    return type == RAFT_MSG_VOTE || type == RAFT_MSG_VOTE_RESP || type == RAFT_MSG_PRE_VOTE ||
           type == RAFT_MSG_PRE_VOTE_RESP;
}

void raft_send(struct raft *r, struct raft_message *m)
{
    if (m->from == RAFT_NONE) {
        m->from = r->id;
    }
    if (is_vote(m->type)) {
        ASSERT(m->term != 0); /* votes carry the term they are about */
    } else if (m->type == RAFT_MSG_PROP || m->type == RAFT_MSG_READ_INDEX) {
        m->term = 0; /* requests of no term: whoever leads when they arrive answers */
    } else {
        m->term = r->term;
    }
    if (m->type == RAFT_MSG_APP_RESP || m->type == RAFT_MSG_VOTE_RESP ||
        m->type == RAFT_MSG_PRE_VOTE_RESP) {
        raft_push_message(&r->after, m);
    } else {
        ASSERT(m->to != r->id);
        raft_push_message(&r->send, m);
    }
}

static void forward(struct raft *r, const struct raft_message *m)
{
    struct raft_message *copy = raft_message_copy(m);
    copy->to = r->leader;
    raft_send(r, copy);
}

/* ---- steps by role ---- */

static void step_down_below(struct raft *r, const struct raft_message *m)
{
    raft_become_follower(r, m->term, m->from);
}

static enum err step_leader(struct raft *r, const struct raft_message *m)
{
    if (m->type == RAFT_MSG_PROP) {
        return raft_lead_proposal(r, m);
    }
    if (m->type == RAFT_MSG_READ_INDEX) {
        return raft_lead_read(r, m);
    }
    if (m->type == RAFT_MSG_FORGET_LEADER) {
        return OK;
    }
    struct raft_progress *p = raft_tracker_find(&r->tracker, m->from);
    if (p == NULL) {
        RAFT_TRACE(r, RAFT_LOG_DEBUG, "%" PRIx64 " no progress available for %" PRIx64, r->id,
                   m->from);
        return OK;
    }
    if (m->type == RAFT_MSG_APP_RESP) {
        raft_handle_append_resp(r, p, m);
    } else if (m->type == RAFT_MSG_HEARTBEAT_RESP) {
        raft_handle_heartbeat_resp(r, p, m);
    } else if (m->type == RAFT_MSG_SNAP_STATUS) {
        raft_handle_snapshot_status(r, p, m->reject);
    } else if (m->type == RAFT_MSG_UNREACHABLE) {
        raft_handle_unreachable(r, p);
    } else if (m->type == RAFT_MSG_TRANSFER_LEADER) {
        raft_handle_transfer(r, p);
    }
    return OK;
}

static enum err step_candidate(struct raft *r, const struct raft_message *m)
{
    enum raft_message_type my_resp =
        r->role == RAFT_PRE_CANDIDATE ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP;
    if (m->type == my_resp) {
        raft_handle_vote_resp(r, m);
    } else if (m->type == RAFT_MSG_PROP) {
        RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " no leader at term %" PRIu64 "; dropping proposal",
                   r->id, r->term);
        return ERR_NO_LEADER;
    } else if (m->type == RAFT_MSG_READ_INDEX) {
        return ERR_NO_LEADER;
    } else if (m->type == RAFT_MSG_APP) {
        step_down_below(r, m);
        raft_handle_append(r, m);
    } else if (m->type == RAFT_MSG_HEARTBEAT) {
        step_down_below(r, m);
        raft_handle_heartbeat(r, m);
    } else if (m->type == RAFT_MSG_SNAP) {
        step_down_below(r, m);
        raft_handle_snapshot(r, m);
    } else if (m->type == RAFT_MSG_TIMEOUT_NOW) {
        RAFT_TRACE(r, RAFT_LOG_DEBUG,
                   "%" PRIx64 " [term %" PRIu64 " state %s] ignored MsgTimeoutNow from %" PRIx64,
                   r->id, r->term, raft_role_name(r->role), m->from);
    }
    return OK;
}

static void hear_leader(struct raft *r, const struct raft_message *m)
{
    r->election_elapsed = 0;
    r->leader = m->from;
}

static enum err follow_proposal(struct raft *r, const struct raft_message *m)
{
    if (r->leader == RAFT_NONE) {
        RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " no leader at term %" PRIu64 "; dropping proposal",
                   r->id, r->term);
        return ERR_NO_LEADER;
    }
    if (r->config.no_forwarding) {
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "%" PRIx64 " not forwarding to leader %" PRIx64 " at term %" PRIu64
                   "; dropping proposal",
                   r->id, r->leader, r->term);
        return ERR_NO_LEADER;
    }
    forward(r, m);
    return OK;
}

static void forget_leader(struct raft *r)
{
    if (r->config.lease_reads) {
        RAFT_TRACE(r, RAFT_LOG_ERROR, "ignoring MsgForgetLeader due to %s", "ReadOnlyLeaseBased");
        return;
    }
    if (r->leader != RAFT_NONE) {
        RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " forgetting leader %" PRIx64 " at term %" PRIu64,
                   r->id, r->leader, r->term);
        r->leader = RAFT_NONE;
    }
}

static enum err follow_request(struct raft *r, const struct raft_message *m, const char *what)
{
    if (r->leader == RAFT_NONE) {
        RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " no leader at term %" PRIu64 "; dropping %s msg",
                   r->id, r->term, what);
        return ERR_NO_LEADER;
    }
    forward(r, m);
    return OK;
}

static enum err step_follower(struct raft *r, const struct raft_message *m)
{
    if (m->type == RAFT_MSG_PROP) {
        return follow_proposal(r, m);
    }
    if (m->type == RAFT_MSG_APP) {
        hear_leader(r, m);
        raft_handle_append(r, m);
    } else if (m->type == RAFT_MSG_HEARTBEAT) {
        hear_leader(r, m);
        raft_handle_heartbeat(r, m);
    } else if (m->type == RAFT_MSG_SNAP) {
        hear_leader(r, m);
        raft_handle_snapshot(r, m);
    } else if (m->type == RAFT_MSG_TRANSFER_LEADER) {
        return follow_request(r, m, "leader transfer");
    } else if (m->type == RAFT_MSG_READ_INDEX) {
        return follow_request(r, m, "index reading");
    } else if (m->type == RAFT_MSG_FORGET_LEADER) {
        forget_leader(r);
    } else if (m->type == RAFT_MSG_TIMEOUT_NOW) {
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "%" PRIx64 " [term %" PRIu64 "] received MsgTimeoutNow from %" PRIx64
                   " and starts an election to get leadership.",
                   r->id, r->term, m->from);
        raft_hup(r, RAFT_CAMPAIGN_TRANSFER);
    } else if (m->type == RAFT_MSG_READ_INDEX_RESP) {
        raft_add_read_state(r, m->index, buf_slice(m->entries[0].data));
    }
    return OK;
}

/* ---- terms ---- */

static void applied_snapshot(struct raft *r, uint64_t index)
{
    raft_log_snapshot_installed(&r->log, index);
    raft_applied(r, index);
    raft_check_recovered(r);
}

/* Whether the message goes on to be handled; a request for a vote under a leader's lease does not,
 * except when the leader itself asked for the election. */
static bool raise_term(struct raft *r, const struct raft_message *m)
{
    bool asks = m->type == RAFT_MSG_VOTE || m->type == RAFT_MSG_PRE_VOTE;
    if (asks) {
        size_t len = sizeof(RAFT_TRANSFER_CONTEXT) - 1;
        bool force = m->context_len == len && memcmp(m->context, RAFT_TRANSFER_CONTEXT, len) == 0;
        bool in_lease = r->config.check_quorum && r->leader != RAFT_NONE &&
                        r->election_elapsed < r->config.election_ticks;
        if (!force && in_lease) {
            RAFT_TRACE(r, RAFT_LOG_INFO,
                       "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64 ", vote: %" PRIx64
                       "] ignored %s from %" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64
                       "] at term %" PRIu64 ": lease is not expired (remaining ticks: %" PRIu32 ")",
                       r->id, raft_log_last_term(&r->log), raft_log_last(&r->log), r->vote,
                       raft_message_type_name(m->type), m->from, m->log_term, m->index, r->term,
                       r->config.election_ticks - r->election_elapsed);
            return false;
        }
    }
    /* A pre-vote and its granting speak of a term that does not exist yet. */
    if (m->type == RAFT_MSG_PRE_VOTE || (m->type == RAFT_MSG_PRE_VOTE_RESP && !m->reject)) {
        return true;
    }
    RAFT_TRACE(r, RAFT_LOG_INFO,
               "%" PRIx64 " [term: %" PRIu64
               "] received a %s message with higher term from %" PRIx64 " [term: %" PRIu64 "]",
               r->id, r->term, raft_message_type_name(m->type), m->from, m->term);
    bool from_leader =
        m->type == RAFT_MSG_APP || m->type == RAFT_MSG_HEARTBEAT || m->type == RAFT_MSG_SNAP;
    raft_become_follower(r, m->term, from_leader ? m->from : RAFT_NONE);
    return true;
}

static void answer_lower_term(struct raft *r, const struct raft_message *m)
{
    bool from_leader = m->type == RAFT_MSG_APP || m->type == RAFT_MSG_HEARTBEAT;
    if (from_leader && (r->config.check_quorum || r->config.pre_vote || r->lost_index != 0)) {
        /* That leader cannot be raised to our term by a vote request, for its followers hold to
         * their lease, or we must not ask for votes; this answer does it. */
        struct raft_message *resp = raft_message_create(RAFT_MSG_APP_RESP, 0);
        resp->to = m->from;
        raft_send(r, resp);
    } else if (m->type == RAFT_MSG_PRE_VOTE) {
        /* Silence would let a candidate with a shorter log at a lower term wait for ever. */
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64 ", vote: %" PRIx64
                   "] rejected %s from %" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64
                   "] at term %" PRIu64,
                   r->id, raft_log_last_term(&r->log), raft_log_last(&r->log), r->vote,
                   raft_message_type_name(m->type), m->from, m->log_term, m->index, r->term);
        struct raft_message *resp = raft_message_create(RAFT_MSG_PRE_VOTE_RESP, 0);
        resp->to = m->from;
        resp->term = r->term;
        resp->reject = true;
        raft_send(r, resp);
    } else if (m->type == RAFT_MSG_STORAGE_APPEND_RESP) {
        if (m->index != 0) {
            RAFT_TRACE(r, RAFT_LOG_INFO,
                       "%" PRIx64 " [term: %" PRIu64
                       "] ignored entry appends from a %s message with lower term [term: %" PRIu64
                       "]",
                       r->id, r->term, raft_message_type_name(m->type), m->term);
        }
        if (m->snapshot != NULL) { /* holds committed entries only, whatever the term */
            applied_snapshot(r, m->snapshot->index);
        }
    } else {
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "%" PRIx64 " [term: %" PRIu64
                   "] ignored a %s message with lower term from %" PRIx64 " [term: %" PRIu64 "]",
                   r->id, r->term, raft_message_type_name(m->type), m->from, m->term);
    }
}

enum err raft_step(struct raft *r, const struct raft_message *m)
{
    if (m->term > r->term) {
        if (!raise_term(r, m)) {
            return OK;
        }
    } else if (m->term != 0 && m->term < r->term) {
        answer_lower_term(r, m);
        return OK;
    }
    if (m->type == RAFT_MSG_STORAGE_APPEND_RESP) {
        if (m->index != 0) {
            raft_log_durable_to(r, m->index, m->log_term);
            raft_check_recovered(r);
        }
        if (m->snapshot != NULL) {
            applied_snapshot(r, m->snapshot->index);
        }
        return OK;
    }
    if (m->type == RAFT_MSG_VOTE || m->type == RAFT_MSG_PRE_VOTE) {
        raft_handle_vote(r, m);
        return OK;
    }
    switch (r->role) {
    case RAFT_FOLLOWER:
        return step_follower(r, m);
    case RAFT_CANDIDATE:
    case RAFT_PRE_CANDIDATE:
        return step_candidate(r, m);
    case RAFT_LEADER:
        return step_leader(r, m);
    }
    UNREACHABLE();
}

/* ---- events ---- */

void raft_tick(struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        raft_tick_heartbeat(r);
    } else {
        raft_tick_election(r);
    }
}

void raft_fast_forward(struct raft *r, uint32_t ticks)
{
    for (uint32_t i = 0; i < ticks; i++) {
        raft_tick(r);
    }
}

void raft_campaign(struct raft *r)
{
    raft_hup(r, r->config.pre_vote ? RAFT_CAMPAIGN_PRE : RAFT_CAMPAIGN_ELECTION);
}

enum err raft_propose(struct raft *r, const struct raft_entry *entries, size_t n)
{
    ASSERT(n > 0);
    struct raft_message m = {.type = RAFT_MSG_PROP, .from = r->id, .n_entries = n};
    /* Stepping borrows the message and changes nothing in it. */
    m.entries = (struct raft_entry *)(uintptr_t)entries;
    return raft_step(r, &m);
}

enum err raft_receive(struct raft *r, const struct raft_message *m)
{
    enum err e = raft_check_message(r, m);
    return e != OK ? e : raft_step(r, m);
}

enum err raft_read_index(struct raft *r, struct slice context)
{
    ASSERT(context.len > 0 && context.len <= RAFT_CONTEXT_BYTES_MAX);
    struct raft_entry e = {.data = buf_copy(context)};
    struct raft_message m = {.type = RAFT_MSG_READ_INDEX, .n_entries = 1, .entries = &e};
    enum err result = raft_step(r, &m);
    buf_unref(&e.data);
    return result;
}

/* The proposal has no payload, so only a leadership transfer can refuse it; the end of the transfer
 * tries again. */
void raft_leave_joint(struct raft *r)
{
    if (!r->tracker.conf.auto_leave || r->log.applied < r->pending_conf_index ||
        r->role != RAFT_LEADER) {
        return;
    }
    struct raft_entry e = {.type = RAFT_ENTRY_CONF_CHANGE_V2};
    enum err result = raft_propose(r, &e, 1);
    if (r->config.log == NULL) {
        return;
    }
    struct bytes text = {0};
    raft_conf_text(&r->tracker.conf, &text);
    if (result == OK) {
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "initiating automatic transition out of joint configuration %.*s", (int)text.len,
                   (const char *)text.data);
    } else {
        RAFT_TRACE(r, RAFT_LOG_DEBUG,
                   "not initiating automatic transition out of joint configuration %.*s: raft "
                   "proposal dropped",
                   (int)text.len, (const char *)text.data);
    }
    bytes_deinit(&text);
}

void raft_applied(struct raft *r, uint64_t index)
{
    ASSERT(index <= r->log.committed);
    uint64_t applied = index > r->log.applied ? index : r->log.applied;
    raft_log_applied_to(&r->log, applied);
    uint64_t payload = raft_log_retire(&r->log, applied);
    if (r->applied_conf_stale) {
        r->applied_conf = r->tracker.conf;
        r->applied_conf_stale = false;
    }
    raft_leave_joint(r);
    r->uncommitted_bytes -= payload < r->uncommitted_bytes ? payload : r->uncommitted_bytes;
}

enum err raft_apply_conf_change(struct raft *r, const struct raft_conf_change *cc,
                                struct raft_conf_state *out, struct err_ctx *ec)
{
    if (cc != NULL) {
        struct raft_tracker next;
        uint64_t last = raft_log_last(&r->log);
        bool auto_leave = false;
        enum err e;
        if (raft_conf_leaves_joint(cc)) {
            e = raft_conf_leave_joint(&r->tracker, &next, ec);
        } else if (raft_conf_enters_joint(cc, &auto_leave)) {
            e = raft_conf_enter_joint(&r->tracker, last, auto_leave, cc->changes, cc->n_changes,
                                      &next, ec);
        } else {
            e = raft_conf_simple(&r->tracker, last, cc->changes, cc->n_changes, &next, ec);
        }
        if (e != OK) {
            return e;
        }
        raft_tracker_replace(&r->tracker, &next);
        r->applied_conf_stale = true;
        raft_switched_config(r);
    }
    if (out != NULL) {
        *out = r->tracker.conf;
    }
    return OK;
}

static void step_local(struct raft *r, enum raft_message_type type, uint64_t from, bool reject)
{
    struct raft_message m = {.type = type, .from = from, .reject = reject};
    (void)raft_step(r, &m); /* without a leader there is nobody to tell: dropped, as in etcd */
}

void raft_transfer_leader(struct raft *r, uint64_t to)
{
    step_local(r, RAFT_MSG_TRANSFER_LEADER, to, false);
}

void raft_step_down(struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        raft_become_follower(r, r->term, RAFT_NONE);
    }
}

void raft_forget_leader(struct raft *r)
{
    step_local(r, RAFT_MSG_FORGET_LEADER, RAFT_NONE, false);
}

void raft_report_unreachable(struct raft *r, uint64_t id)
{
    step_local(r, RAFT_MSG_UNREACHABLE, id, false);
}

void raft_report_snapshot(struct raft *r, uint64_t id, bool delivered)
{
    step_local(r, RAFT_MSG_SNAP_STATUS, id, !delivered);
}

void raft_compact(struct raft *r, uint64_t index)
{
    raft_log_compact(&r->log, index);
}
