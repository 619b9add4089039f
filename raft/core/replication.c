/* replication.c - the leader's side: proposals, appends, snapshots, heartbeats, commit, transfer.
 *
 * The leader counts its own log like everybody else's: a proposal is sent to the followers at once,
 * and acknowledged by the leader when its own log reports it durable (an answer to itself that
 * waits among `after`). An index is committed when a majority has it and its entry is of this term
 * (thesis, 3.6.2).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "raft/core/internal.h"

static uint64_t payload_bytes(const struct raft_entry *e, size_t n)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        total += e[i].data == NULL ? 0 : e[i].data->len;
    }
    return total;
}

/* The first proposal above nothing is always taken, and so is what has no payload: the empty entry
 * of a new term and the leaving of a joint configuration. */
static bool take_uncommitted(struct raft *r, uint64_t bytes)
{
    uint64_t max = r->config.max_uncommitted_bytes;
    if (max != 0 && r->uncommitted_bytes > 0 && bytes > 0 && r->uncommitted_bytes + bytes > max) {
        return false;
    }
    r->uncommitted_bytes += bytes;
    return true;
}

bool raft_append_own(struct raft *r, const struct raft_entry *e, size_t n)
{
    if (!take_uncommitted(r, payload_bytes(e, n))) {
        RAFT_TRACE(r, RAFT_LOG_WARN,
                   "%" PRIx64 " appending new entries to log would exceed uncommitted entry size "
                   "limit; dropping proposal",
                   r->id);
        return false;
    }
    raft_log_push(&r->log, r->term, e, n);
    struct raft_message *self = raft_message_create(RAFT_MSG_APP_RESP, 0);
    self->to = r->id;
    self->index = raft_log_last(&r->log);
    raft_send(r, self);
    return true;
}

/* ---- proposals ---- */

/* Why this conf change cannot be proposed now; NULL: it can. */
static const char *conf_change_refused(const struct raft *r, const struct raft_conf_change *cc,
                                       char *text, size_t text_bytes)
{
    bool joint = r->tracker.conf.voters_outgoing.n > 0;
    bool leaves = cc->n_changes == 0;
    if (r->pending_conf_index > r->log.applied) {
        (void)snprintf(text, text_bytes,
                       "possible unapplied conf change at index %" PRIu64 " (applied to %" PRIu64
                       ")",
                       r->pending_conf_index, r->log.applied);
        return text;
    }
    if (joint && !leaves) {
        return "must transition out of joint config first";
    }
    if (!joint && leaves) {
        return "not in joint state; refusing empty conf change";
    }
    return NULL;
}

static void trace_refused(const struct raft *r, const struct raft_conf_change *cc, const char *why)
{
    struct bytes change = {0};
    struct bytes conf = {0};
    raft_conf_change_text(cc, &change);
    raft_conf_text(&r->tracker.conf, &conf);
    RAFT_TRACE(r, RAFT_LOG_INFO, "%" PRIx64 " ignoring conf change %.*s at config %.*s: %s", r->id,
               (int)change.len, (const char *)change.data, (int)conf.len, (const char *)conf.data,
               why);
    bytes_deinit(&change);
    bytes_deinit(&conf);
}

/* Turn conf changes that cannot be made now into empty entries; note the place of the others. */
static enum err admit_conf_changes(struct raft *r, struct raft_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct raft_conf_change cc;
        if (e[i].type == RAFT_ENTRY_NORMAL) {
            continue;
        }
        enum err err = raft_conf_change_decode(e[i].type, buf_slice(e[i].data), &cc);
        if (err != OK) {
            return ERR_INVALID;
        }
        char text[128];
        const char *why =
            r->config.no_conf_validation ? NULL : conf_change_refused(r, &cc, text, sizeof(text));
        if (why != NULL) {
            trace_refused(r, &cc, why);
            e[i] = (struct raft_entry){.type = RAFT_ENTRY_NORMAL};
        } else {
            r->pending_conf_index = raft_log_last(&r->log) + i + 1;
        }
    }
    return OK;
}

static bool holds_conf_change(const struct raft_message *m)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        if (m->entries[i].type != RAFT_ENTRY_NORMAL) {
            return true;
        }
    }
    return false;
}

enum err raft_lead_proposal(struct raft *r, const struct raft_message *m)
{
    if (raft_tracker_find(&r->tracker, r->id) == NULL) {
        return ERR_NOT_LEADER; /* removed: what is proposed now might never be known to us */
    }
    if (r->transferee != RAFT_NONE) {
        RAFT_TRACE(r, RAFT_LOG_DEBUG,
                   "%" PRIx64 " [term %" PRIu64 "] transfer leadership to %" PRIx64
                   " is in progress; dropping proposal",
                   r->id, r->term, r->transferee);
        return ERR_BUSY;
    }
    enum err e = OK;
    bool appended = false;
    if (!holds_conf_change(m)) {
        appended = raft_append_own(r, m->entries, m->n_entries);
    } else {
        /* A changed copy of the list; the data stay the message's. */
        struct raft_entry *copy = xcalloc(m->n_entries, sizeof(*copy));
        memcpy(copy, m->entries, m->n_entries * sizeof(*copy));
        e = admit_conf_changes(r, copy, m->n_entries);
        appended = e == OK && raft_append_own(r, copy, m->n_entries);
        free(copy);
    }
    if (e != OK) {
        return e;
    }
    if (!appended) {
        return ERR_BUSY;
    }
    raft_broadcast_append(r);
    return OK;
}

/* ---- appends and snapshots ---- */

static bool maybe_send_snapshot(struct raft *r, struct raft_progress *p)
{
    if (!p->recent_active) {
        RAFT_TRACE(r, RAFT_LOG_DEBUG,
                   "ignore sending snapshot to %" PRIx64 " since it is not recently active", p->id);
        return false;
    }
    struct raft_snapshot s = {.index = r->log.applied, .conf = r->applied_conf};
    bool known = raft_log_term(&r->log, s.index, &s.term);
    ASSERT(known); /* nothing above applied is ever compacted */
    char text[RAFT_PROGRESS_TEXT_MAX];
    RAFT_TRACE(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " [firstindex: %" PRIu64 ", commit: %" PRIu64
               "] sent snapshot[index: %" PRIu64 ", term: %" PRIu64 "] to %" PRIx64 " [%s]",
               r->id, raft_log_first(&r->log), r->log.committed, s.index, s.term, p->id,
               raft_progress_text(&r->tracker, p, text));
    raft_progress_become_snapshot(p, s.index);
    RAFT_TRACE(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " paused sending replication messages to %" PRIx64 " [%s]", r->id, p->id,
               raft_progress_text(&r->tracker, p, text));
    struct raft_message *m = raft_message_create(RAFT_MSG_SNAP, 0);
    m->to = p->id;
    m->snapshot = raft_snapshot_copy(&s);
    raft_send(r, m);
    return true;
}

bool raft_maybe_send_append(struct raft *r, struct raft_progress *p, bool even_empty)
{
    if (raft_progress_paused(p)) {
        return false;
    }
    uint64_t prev_term = 0;
    if (!raft_log_term(&r->log, p->next - 1, &prev_term)) {
        return maybe_send_snapshot(r, p);
    }
    /* With a full window an empty append still goes out after each heartbeat: if all that filled
     * the window was lost, its answer is what opens it again. */
    size_t n = 0;
    uint64_t bytes = 0;
    if (p->state != RAFT_REPLICATE || !raft_window_full(&r->tracker, p)) {
        n = raft_log_fit(&r->log, p->next, raft_log_last(&r->log) + 1, r->config.max_append_bytes,
                         &bytes);
    }
    if (n == 0 && !even_empty) {
        return false;
    }
    struct raft_message *m = raft_message_create(RAFT_MSG_APP, n);
    m->to = p->id;
    m->index = p->next - 1;
    m->log_term = prev_term;
    m->commit = r->log.committed;
    for (size_t i = 0; i < n; i++) {
        m->entries[i] = *raft_log_at(&r->log, p->next + i);
        if (m->entries[i].data != NULL) {
            m->entries[i].data = buf_ref(m->entries[i].data);
        }
    }
    uint64_t payload = payload_bytes(m->entries, n);
    raft_send(r, m);
    raft_progress_sent(&r->tracker, p, n, payload);
    p->sent_commit = r->log.committed;
    return true;
}

void raft_broadcast_append(struct raft *r)
{
    for (size_t i = 0; i < r->tracker.n; i++) {
        if (r->tracker.p[i].id != r->id) {
            (void)raft_maybe_send_append(r, &r->tracker.p[i], true);
        }
    }
}

void raft_broadcast_heartbeat(struct raft *r)
{
    uint64_t position = 0;
    bool reads = raft_read_position(r, &position);
    for (size_t i = 0; i < r->tracker.n; i++) {
        struct raft_progress *p = &r->tracker.p[i];
        if (p->id == r->id) {
            continue;
        }
        struct raft_message *m = raft_message_create(RAFT_MSG_HEARTBEAT, 0);
        m->to = p->id;
        /* Never past what that log is known to share with ours. */
        m->commit = p->match < r->log.committed ? p->match : r->log.committed;
        if (reads) {
            m->context_len = 8;
            for (unsigned k = 0; k < 8; k++) {
                m->context[k] = (uint8_t)(position >> (8 * k));
            }
        }
        p->sent_commit = m->commit;
        raft_send(r, m);
    }
}

bool raft_maybe_commit(struct raft *r)
{
    uint64_t index = raft_tracker_committed(&r->tracker);
    if (index <= r->log.committed || !raft_log_matches(&r->log, index, r->term)) {
        return false;
    }
    raft_log_commit_to(&r->log, index);
    return true;
}

/* ---- answers ---- */

static void send_timeout_now(struct raft *r, uint64_t to)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_TIMEOUT_NOW, 0);
    m->to = to;
    raft_send(r, m);
}

/* The follower names the place where its log may match ours: an index and the term it has there.
 * Below it, an index of ours with a higher term than that cannot match, for terms only rise within
 * a log; so the probe skips to the first one that can. */
static void handle_rejection(struct raft *r, struct raft_progress *p, const struct raft_message *m)
{
    RAFT_TRACE(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " received MsgAppResp(rejected, hint: (index %" PRIu64 ", term %" PRIu64
               ")) from %" PRIx64 " for index %" PRIu64,
               r->id, m->reject_hint, m->log_term, m->from, m->index);
    uint64_t hint = m->reject_hint;
    if (m->log_term > 0) {
        uint64_t ignored = 0;
        hint = raft_log_conflict_by_term(&r->log, hint, m->log_term, &ignored);
    }
    if (!raft_progress_decrease(p, m->index, hint)) {
        return;
    }
    char text[RAFT_PROGRESS_TEXT_MAX];
    RAFT_TRACE(r, RAFT_LOG_DEBUG, "%" PRIx64 " decreased progress of %" PRIx64 " to [%s]", r->id,
               p->id, raft_progress_text(&r->tracker, p, text));
    if (p->state == RAFT_REPLICATE) {
        raft_progress_become_probe(p);
    }
    (void)raft_maybe_send_append(r, p, true);
}

static void advance_state(struct raft *r, struct raft_progress *p, uint64_t index)
{
    char text[RAFT_PROGRESS_TEXT_MAX];
    switch (p->state) {
    case RAFT_PROBE:
        raft_progress_become_replicate(p);
        break;
    case RAFT_SNAPSHOT:
        /* Whichever snapshot it took: it is caught up once our log reaches to it. */
        if (p->match + 1 >= raft_log_first(&r->log)) {
            RAFT_TRACE(r, RAFT_LOG_DEBUG,
                       "%" PRIx64 " recovered from needing snapshot, resumed sending replication "
                       "messages to %" PRIx64 " [%s]",
                       r->id, p->id, raft_progress_text(&r->tracker, p, text));
            raft_progress_become_probe(p);
            raft_progress_become_replicate(p);
        }
        break;
    case RAFT_REPLICATE:
        raft_window_free_to(p, index);
        break;
    }
}

void raft_handle_append_resp(struct raft *r, struct raft_progress *p, const struct raft_message *m)
{
    uint64_t id = p->id;
    p->recent_active = true;
    if (m->reject) {
        handle_rejection(r, p, m);
        return;
    }
    bool news = raft_progress_update(p, m->index);
    if (!news && !(p->match == m->index && p->state == RAFT_PROBE)) {
        return;
    }
    advance_state(r, p, m->index);
    if (raft_maybe_commit(r)) {
        raft_release_pending_reads(r);
        raft_broadcast_append(r);
    } else if (id != r->id && raft_progress_can_bump_commit(p, r->log.committed)) {
        (void)raft_maybe_send_append(r, p, true);
    }
    if (id != r->id) {
        /* As many appends as the window now takes; each moves next on, so this ends. */
        while (raft_maybe_send_append(r, p, false)) {
        }
    }
    if (id == r->transferee && p->match == raft_log_last(&r->log)) {
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "%" PRIx64 " sent MsgTimeoutNow to %" PRIx64 " after received MsgAppResp", r->id,
                   id);
        send_timeout_now(r, id);
    }
}

void raft_handle_heartbeat_resp(struct raft *r, struct raft_progress *p,
                                const struct raft_message *m)
{
    p->recent_active = true;
    p->flow_paused = false;
    if (p->match < raft_log_last(&r->log) || p->state == RAFT_PROBE) {
        (void)raft_maybe_send_append(r, p, true);
    }
    if (r->config.lease_reads || m->context_len != 8) {
        return;
    }
    uint64_t position = 0;
    for (unsigned k = 0; k < 8; k++) {
        position |= (uint64_t)m->context[k] << (8 * k);
    }
    if (!p->read_acked || position > p->read_ack) {
        p->read_acked = true;
        p->read_ack = position;
    }
    raft_confirm_reads(r);
}

void raft_handle_snapshot_status(struct raft *r, struct raft_progress *p, bool reject)
{
    if (p->state != RAFT_SNAPSHOT) {
        return;
    }
    if (reject) {
        p->pending_snapshot = 0; /* so that the probe starts at match, not behind the snapshot */
    }
    raft_progress_become_probe(p);
    char text[RAFT_PROGRESS_TEXT_MAX];
    RAFT_TRACE(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " snapshot %s, resumed sending replication messages to %" PRIx64 " [%s]",
               r->id, reject ? "failed" : "succeeded", p->id,
               raft_progress_text(&r->tracker, p, text));
    /* Wait for its answer to the snapshot, or for a heartbeat before the next attempt. */
    p->flow_paused = true;
}

void raft_handle_unreachable(struct raft *r, struct raft_progress *p)
{
    if (p->state == RAFT_REPLICATE) {
        raft_progress_become_probe(p);
    }
    char text[RAFT_PROGRESS_TEXT_MAX];
    RAFT_TRACE(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " failed to send message to %" PRIx64 " because it is unreachable [%s]",
               r->id, p->id, raft_progress_text(&r->tracker, p, text));
}

void raft_handle_transfer(struct raft *r, struct raft_progress *p)
{
    if (p->is_learner) {
        RAFT_TRACE(r, RAFT_LOG_DEBUG, "%" PRIx64 " is learner. Ignored transferring leadership",
                   r->id);
        return;
    }
    if (r->transferee != RAFT_NONE) {
        if (r->transferee == p->id) {
            RAFT_TRACE(r, RAFT_LOG_INFO,
                       "%" PRIx64 " [term %" PRIu64 "] transfer leadership to %" PRIx64
                       " is in progress, ignores request to same node %" PRIx64,
                       r->id, r->term, p->id, p->id);
            return;
        }
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "%" PRIx64 " [term %" PRIu64
                   "] abort previous transferring leadership to %" PRIx64,
                   r->id, r->term, r->transferee);
        r->transferee = RAFT_NONE;
    }
    if (p->id == r->id) {
        RAFT_TRACE(r, RAFT_LOG_DEBUG,
                   "%" PRIx64 " is already leader. Ignored transferring leadership to self", r->id);
        return;
    }
    RAFT_TRACE(r, RAFT_LOG_INFO,
               "%" PRIx64 " [term %" PRIu64 "] starts to transfer leadership to %" PRIx64, r->id,
               r->term, p->id);
    r->election_elapsed = 0; /* the transfer is given up after one election timeout */
    r->transferee = p->id;
    if (p->match == raft_log_last(&r->log)) {
        send_timeout_now(r, p->id);
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "%" PRIx64 " sends MsgTimeoutNow to %" PRIx64 " immediately as %" PRIx64
                   " already has up-to-date log",
                   r->id, p->id, p->id);
    } else {
        (void)raft_maybe_send_append(r, p, true);
    }
}

void raft_tick_heartbeat(struct raft *r)
{
    r->heartbeat_elapsed++;
    r->election_elapsed++;
    if (r->election_elapsed >= r->config.election_ticks) {
        r->election_elapsed = 0;
        if (r->config.check_quorum) {
            raft_check_quorum(r);
        }
        if (r->role == RAFT_LEADER && r->transferee != RAFT_NONE) {
            r->transferee = RAFT_NONE;
            raft_leave_joint(r); /* the transfer may have refused it */
        }
    }
    if (r->role == RAFT_LEADER && r->heartbeat_elapsed >= r->config.heartbeat_ticks) {
        r->heartbeat_elapsed = 0;
        raft_broadcast_heartbeat(r);
    }
}
