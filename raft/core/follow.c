/* follow.c - the follower's side, and what must not be believed from anybody.
 *
 * raft_check_message refuses what a sound peer never sends, and what would have to be an assertion
 * further on: nothing that arrives over the network may end this process. One case is special: a
 * leader of this term or a later one that counts on entries as acknowledged by us which are not
 * here. Then it is our log that lost something, and ERR_CORRUPT tells the shell.
 */
#include <inttypes.h>

#include "raft/core/internal.h"

static bool known_local(enum raft_message_type t)
{
    return t == RAFT_MSG_HUP || t == RAFT_MSG_BEAT || t == RAFT_MSG_UNREACHABLE ||
           t == RAFT_MSG_SNAP_STATUS || t == RAFT_MSG_CHECK_QUORUM ||
           t == RAFT_MSG_STORAGE_APPEND || t == RAFT_MSG_STORAGE_APPEND_RESP ||
           t == RAFT_MSG_STORAGE_APPLY || t == RAFT_MSG_STORAGE_APPLY_RESP ||
           t == RAFT_MSG_FORGET_LEADER;
}

static bool is_response(enum raft_message_type t)
{
    return t == RAFT_MSG_APP_RESP || t == RAFT_MSG_VOTE_RESP || t == RAFT_MSG_HEARTBEAT_RESP ||
           t == RAFT_MSG_READ_INDEX_RESP || t == RAFT_MSG_PRE_VOTE_RESP;
}

/* Types that may come back to who wrote them: own answers that waited for the log, and requests
 * that a member forwarded to the leader it knew. */
static bool may_return(enum raft_message_type t)
{
    return t == RAFT_MSG_APP_RESP || t == RAFT_MSG_VOTE_RESP || t == RAFT_MSG_PRE_VOTE_RESP ||
           t == RAFT_MSG_PROP || t == RAFT_MSG_READ_INDEX || t == RAFT_MSG_TRANSFER_LEADER;
}

/* The own numbers may be a little above what peers could make us take over. */
static bool numbers_are_sane(const struct raft *r, const struct raft_message *m)
{
    uint64_t max = m->from == r->id ? 2 * RAFT_NUMBER_MAX : RAFT_NUMBER_MAX;
    return m->term < max && m->log_term < max && m->index < max && m->commit < max &&
           m->reject_hint < max && (m->snapshot == NULL || m->snapshot->index < max);
}

static enum err check_sender(const struct raft *r, const struct raft_message *m)
{
    if (m->from == r->id) {
        bool sound = may_return(m->type) && !(m->type == RAFT_MSG_APP_RESP && m->reject);
        return sound ? OK : ERR_INVALID;
    }
    bool nobody = m->from == RAFT_NONE || m->from >= RAFT_LOCAL_APPLY;
    if (nobody) {
        return ERR_INVALID;
    }
    return is_response(m->type) && raft_tracker_get(&r->tracker, m->from) == NULL ? ERR_NOT_FOUND
                                                                                  : OK;
}

static enum err check_append(const struct raft_message *m)
{
    uint64_t index = m->index;
    uint64_t term = m->log_term;
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct raft_entry *e = &m->entries[i];
        if (e->index != index + 1 || e->term < term || raft_entry_type_name(e->type) == NULL) {
            return ERR_INVALID;
        }
        index = e->index;
        term = e->term;
    }
    return term > m->term ? ERR_INVALID : OK;
}

static enum err check_snapshot(const struct raft *r, const struct raft_message *m)
{
    if (m->snapshot == NULL || m->snapshot->index == 0 || m->snapshot->term > m->term) {
        return ERR_INVALID;
    }
    const struct raft_conf_state *c = &m->snapshot->conf;
    if (c->voters.n > RAFT_MEMBERS_MAX || c->learners.n > RAFT_MEMBERS_MAX ||
        c->voters_outgoing.n > RAFT_MEMBERS_MAX || c->learners_next.n > RAFT_MEMBERS_MAX) {
        return ERR_INVALID;
    }
    struct raft_tracker ignored;
    return raft_conf_restore(&r->tracker, m->snapshot->index, c, &ignored, NULL) == OK
               ? OK
               : ERR_INVALID;
}

static enum err check_request(const struct raft_message *m)
{
    if (m->n_entries == 0 || (m->type != RAFT_MSG_PROP && m->n_entries != 1)) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < m->n_entries; i++) {
        if (raft_entry_type_name(m->entries[i].type) == NULL) {
            return ERR_INVALID;
        }
    }
    return OK;
}

static enum err check_acknowledged(const struct raft *r, const struct raft_message *m)
{
    bool beyond = m->index > raft_log_last(&r->log);
    return r->role == RAFT_LEADER && m->term == r->term && !m->reject && beyond ? ERR_INVALID : OK;
}

enum err raft_check_message(const struct raft *r, const struct raft_message *m)
{
    if (raft_message_type_name(m->type) == NULL || m->context_len > RAFT_CONTEXT_BYTES_MAX) {
        return ERR_INVALID;
    }
    if (m->type == RAFT_MSG_STORAGE_APPEND_RESP && m->from == RAFT_LOCAL_APPEND) {
        return OK;
    }
    if (known_local(m->type)) {
        return ERR_PERM;
    }
    enum err e = numbers_are_sane(r, m) ? check_sender(r, m) : ERR_INVALID;
    if (e != OK) {
        return e;
    }
    if (m->type == RAFT_MSG_PROP || m->type == RAFT_MSG_READ_INDEX) {
        return m->term == 0 ? check_request(m) : ERR_INVALID;
    }
    if (m->term == 0) {
        return ERR_INVALID;
    }
    if (m->type == RAFT_MSG_APP) {
        return check_append(m);
    }
    if (m->type == RAFT_MSG_SNAP) {
        return check_snapshot(r, m);
    }
    if (m->type == RAFT_MSG_READ_INDEX_RESP) {
        return check_request(m);
    }
    if (m->type == RAFT_MSG_APP_RESP) {
        return check_acknowledged(r, m);
    }
    if (m->type == RAFT_MSG_HEARTBEAT && m->term >= r->term && m->commit > raft_log_last(&r->log)) {
        return ERR_CORRUPT;
    }
    return OK;
}

static struct raft_message *answer(const struct raft_message *m, enum raft_message_type type)
{
    struct raft_message *resp = raft_message_create(type, 0);
    resp->to = m->from;
    return resp;
}

static void acknowledge(struct raft *r, const struct raft_message *m, uint64_t index)
{
    struct raft_message *resp = answer(m, RAFT_MSG_APP_RESP);
    resp->index = index;
    raft_send(r, resp);
}

/* How many entries at the front of the message are here already. */
static size_t count_known(struct raft *r, const struct raft_message *m)
{
    size_t known = 0;
    while (known < m->n_entries &&
           raft_log_matches(&r->log, m->entries[known].index, m->entries[known].term)) {
        known++;
    }
    if (known < m->n_entries && m->entries[known].index <= raft_log_last(&r->log)) {
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "found conflict at index %" PRIu64 " [existing term: %" PRIu64
                   ", conflicting term: %" PRIu64 "]",
                   m->entries[known].index, raft_term_of(r, m->entries[known].index),
                   m->entries[known].term);
    }
    return known;
}

void raft_handle_append(struct raft *r, const struct raft_message *m)
{
    struct raft_log *l = &r->log;
    if (m->index < l->committed) {
        acknowledge(r, m, l->committed);
        return;
    }
    if (raft_log_matches(l, m->index, m->log_term)) {
        size_t known = count_known(r, m);
        raft_log_append(r, m->entries + known, m->n_entries - known);
        uint64_t last_new = m->index + m->n_entries;
        raft_log_commit_to(l, m->commit < last_new ? m->commit : last_new);
        acknowledge(r, m, last_new);
        return;
    }
    RAFT_TRACE(r, RAFT_LOG_DEBUG,
               "%" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64
               "] rejected MsgApp [logterm: %" PRIu64 ", index: %" PRIu64 "] from %" PRIx64,
               r->id, raft_term_of(r, m->index), m->index, m->log_term, m->index, m->from);
    /* Name the largest index here that can match: not above the leader's, of no higher term. */
    uint64_t last = raft_log_last(l);
    struct raft_message *resp = answer(m, RAFT_MSG_APP_RESP);
    resp->index = m->index;
    resp->reject = true;
    resp->reject_hint = raft_log_conflict_by_term(l, m->index < last ? m->index : last, m->log_term,
                                                  &resp->log_term);
    raft_send(r, resp);
}

void raft_handle_heartbeat(struct raft *r, const struct raft_message *m)
{
    raft_log_commit_to(&r->log, m->commit);
    struct raft_message *resp = answer(m, RAFT_MSG_HEARTBEAT_RESP);
    resp->context_len = m->context_len;
    memcpy(resp->context, m->context, m->context_len);
    raft_send(r, resp);
}

/* ---- snapshots and configurations ---- */

static void trace_log_state(const struct raft *r, const struct raft_snapshot *s)
{
    const struct raft_log *l = &r->log;
    RAFT_TRACE(r, RAFT_LOG_INFO,
               "log [committed=%" PRIu64 ", applied=%" PRIu64 ", applying=%" PRIu64
               ", unstable.offset=%" PRIu64 ", unstable.offsetInProgress=%" PRIu64
               ", len(unstable.Entries)=%" PRIu64 "] starts to restore snapshot [index: %" PRIu64
               ", term: %" PRIu64 "]",
               l->committed, l->applied, l->applying, l->durable_next, l->in_progress_next,
               raft_log_last(l) + 1 - l->durable_next, s->index, s->term);
}

static void trace_snapshot(const struct raft *r, const struct raft_snapshot *s, const char *what)
{
    RAFT_TRACE(r, RAFT_LOG_INFO,
               "%" PRIx64 " [commit: %" PRIu64 ", lastindex: %" PRIu64 ", lastterm: %" PRIu64
               "] %s snapshot [index: %" PRIu64 ", term: %" PRIu64 "]",
               r->id, r->log.committed, raft_log_last(&r->log), raft_log_last_term(&r->log), what,
               s->index, s->term);
}

static bool restore(struct raft *r, const struct raft_snapshot *s)
{
    if (s->index <= r->log.committed) {
        return false;
    }
    if (!raft_ids_has(&s->conf.voters, r->id) && !raft_ids_has(&s->conf.learners, r->id) &&
        !raft_ids_has(&s->conf.voters_outgoing, r->id)) {
        RAFT_TRACE(r, RAFT_LOG_WARN,
                   "%" PRIx64 " attempted to restore snapshot but it is not in the ConfState; "
                   "should never happen",
                   r->id);
        return false;
    }
    if (raft_log_matches(&r->log, s->index, s->term)) {
        trace_snapshot(r, s, "fast-forwarded commit to");
        raft_log_commit_to(&r->log, s->index);
        return false;
    }
    struct raft_tracker next;
    if (raft_conf_restore(&r->tracker, s->index, &s->conf, &next, NULL) != OK) {
        return false; /* raft_check_message has tried the same */
    }
    trace_log_state(r, s);
    raft_log_restore(&r->log, s);
    raft_tracker_replace(&r->tracker, &next);
    r->applied_conf_stale = true;
    raft_switched_config(r);
    trace_snapshot(r, s, "restored");
    return true;
}

void raft_handle_snapshot(struct raft *r, const struct raft_message *m)
{
    const struct raft_snapshot *s = m->snapshot;
    bool restored = restore(r, s);
    RAFT_TRACE(r, RAFT_LOG_INFO,
               "%" PRIx64 " [commit: %" PRIu64 "] %s snapshot [index: %" PRIu64 ", term: %" PRIu64
               "]",
               r->id, r->log.committed, restored ? "restored" : "ignored", s->index, s->term);
    acknowledge(r, m, restored ? raft_log_last(&r->log) : r->log.committed);
}

void raft_switched_config(struct raft *r)
{
    if (r->config.log != NULL && RAFT_LOG_INFO >= r->config.log_level) {
        struct bytes text = {0};
        raft_conf_text(&r->tracker.conf, &text);
        raft_trace(r, RAFT_LOG_INFO, "%" PRIx64 " switched to configuration %.*s", r->id,
                   (int)text.len, (const char *)text.data);
        bytes_deinit(&text);
    }
    const struct raft_progress *self = raft_tracker_get(&r->tracker, r->id);
    r->is_learner = self != NULL && self->is_learner;
    if (r->role != RAFT_LEADER) {
        return;
    }
    if (self == NULL || r->is_learner) {
        if (r->config.step_down_on_removal) {
            raft_become_follower(r, r->term, RAFT_NONE);
        }
        return;
    }
    /* A smaller quorum may commit more at once; a new member should not wait for a heartbeat. */
    if (raft_maybe_commit(r)) {
        raft_release_pending_reads(r);
        raft_broadcast_append(r);
    } else {
        for (size_t i = 0; i < r->tracker.n; i++) {
            if (r->tracker.p[i].id != r->id) {
                (void)raft_maybe_send_append(r, &r->tracker.p[i], false);
            }
        }
    }
    if (r->transferee != RAFT_NONE && !raft_ids_has(&r->tracker.conf.voters, r->transferee) &&
        !raft_ids_has(&r->tracker.conf.voters_outgoing, r->transferee)) {
        r->transferee = RAFT_NONE;
    }
}
