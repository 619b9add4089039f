/* actions.c - what the events made necessary, handed out once; and the views from outside. */
#include "raft/core/internal.h"

static struct raft_hard_state hard_state(const struct raft *r)
{
    return (struct raft_hard_state){r->term, r->vote, r->log.committed};
}

static bool hard_changed(const struct raft *r)
{
    return r->term != r->prev_hard.term || r->vote != r->prev_hard.vote ||
           r->log.committed != r->prev_hard.commit;
}

static bool soft_changed(const struct raft *r)
{
    return r->leader != r->prev_leader || r->role != r->prev_role;
}

static bool snapshot_waits(const struct raft *r)
{
    return r->log.snapshot != NULL && !r->log.snapshot_in_progress;
}

static bool entries_wait(const struct raft *r)
{
    return r->log.in_progress_next <= raft_log_last(&r->log);
}

bool raft_has_actions(const struct raft *r)
{
    return soft_changed(r) || hard_changed(r) || snapshot_waits(r) || r->send.n > 0 ||
           r->after.n > 0 || entries_wait(r) || r->n_read_states > 0 ||
           raft_log_has_committed(&r->log, r->config.apply_before_durable);
}

/* The message that comes back when the batch is durable. It names the end of the log and the
 * present term even if the batch holds no entries: an earlier report may have been void because the
 * term changed under it, and this one then makes good for it. */
static void add_durable_report(struct raft *r, bool with_snapshot)
{
    bool entries = r->log.durable_next <= raft_log_last(&r->log);
    if (!entries && !with_snapshot) {
        return;
    }
    struct raft_message *m = raft_message_create(RAFT_MSG_STORAGE_APPEND_RESP, 0);
    m->to = r->id;
    m->from = RAFT_LOCAL_APPEND;
    m->term = r->term;
    if (entries) {
        m->index = raft_log_last(&r->log);
        m->log_term = raft_log_last_term(&r->log);
    }
    if (with_snapshot) {
        m->snapshot = raft_snapshot_copy(r->log.snapshot);
        buf_unref(&m->snapshot->data);
    }
    raft_push_message(&r->after, m);
}

static void lend(struct raft_messages *filled, struct raft_messages *lent)
{
    struct raft_messages empty = *lent;
    *lent = *filled;
    *filled = empty;
    filled->n = 0;
}

static void fill_log_batch(struct raft *r, struct raft_actions *out)
{
    struct raft_log *l = &r->log;
    raft_snapshot_destroy(&r->snapshot_out);
    out->hard_state = hard_state(r);
    out->hard_state_changed = hard_changed(r);
    if (entries_wait(r)) {
        out->append = raft_log_at(l, l->in_progress_next);
        out->n_append = (size_t)(raft_log_last(l) - l->in_progress_next + 1);
    }
    if (snapshot_waits(r)) {
        r->snapshot_out = raft_snapshot_copy(l->snapshot);
        out->snapshot = r->snapshot_out;
    }
    out->must_sync =
        out->n_append > 0 || r->term != r->prev_hard.term || r->vote != r->prev_hard.vote;
    out->log_batch =
        out->n_append > 0 || out->hard_state_changed || out->snapshot != NULL || r->after.n > 0;
    if (out->log_batch) {
        add_durable_report(r, out->snapshot != NULL);
    }
    l->in_progress_next = raft_log_last(l) + 1;
    l->snapshot_in_progress = l->snapshot != NULL;
}

void raft_actions(struct raft *r, struct raft_actions *out)
{
    bool early = r->config.apply_before_durable;
    uint64_t bytes = 0;
    *out = (struct raft_actions){
        .soft_state_changed = soft_changed(r),
        .leader = r->leader,
        .role = r->role,
        .term = r->term,
    };
    out->n_committed = raft_log_next_committed(&r->log, early, &out->committed, &bytes);
    fill_log_batch(r, out);
    if (out->n_committed > 0) {
        raft_log_hand_out(&r->log, out->committed, out->n_committed, bytes, early);
    }

    lend(&r->send, &r->send_out);
    out->send = r->send_out.v;
    out->n_send = r->send_out.n;
    lend(&r->after, &r->after_out);
    out->after = r->after_out.v;
    out->n_after = r->after_out.n;

    struct raft_read_state *reads = r->read_states;
    size_t cap = r->read_states_cap;
    out->reads = reads;
    out->n_reads = r->n_read_states;
    r->read_states = r->read_states_out;
    r->read_states_cap = r->read_states_out_cap;
    r->read_states_out = reads;
    r->read_states_out_cap = cap;
    r->n_read_states = 0;

    r->prev_hard = out->hard_state;
    r->prev_leader = r->leader;
    r->prev_role = r->role;
}

/* ---- looking inside ---- */

void raft_status(const struct raft *r, struct raft_status *out)
{
    *out = (struct raft_status){
        .id = r->id,
        .hard_state = hard_state(r),
        .leader = r->leader,
        .role = r->role,
        .is_learner = r->is_learner,
        .suspect = r->lost_index != 0,
        .transferee = r->transferee,
        .applied = r->log.applied,
        .first_index = raft_log_first(&r->log),
        .last_index = raft_log_last(&r->log),
        .last_term = raft_log_last_term(&r->log),
        .log_bytes = r->log.bytes,
        .durable_index = raft_durable_index(r),
    };
}

uint64_t raft_durable_index(const struct raft *r)
{
    return r->log.durable_next - 1;
}

const struct raft_conf_state *raft_conf(const struct raft *r)
{
    return &r->tracker.conf;
}

size_t raft_peers(const struct raft *r, struct raft_peer *out, size_t max)
{
    size_t n = r->tracker.n < max ? r->tracker.n : max;
    for (size_t i = 0; i < n; i++) {
        const struct raft_progress *p = &r->tracker.p[i];
        out[i] = (struct raft_peer){
            .id = p->id,
            .match = p->match,
            .next = p->next,
            .pending_snapshot = p->pending_snapshot,
            .state = p->state,
            .is_learner = p->is_learner,
            .paused = raft_progress_paused(p),
            .recent_active = p->recent_active,
            .inflight_full = raft_window_full(&r->tracker, p),
            .n_inflight = p->window.count,
        };
    }
    return n;
}

uint64_t raft_term_of(const struct raft *r, uint64_t index)
{
    uint64_t term = 0;
    return raft_log_term(&r->log, index, &term) ? term : 0;
}
