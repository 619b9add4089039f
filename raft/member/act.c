/* act.c - doing what raft says: messages, batches for the log, what follows their durability.
 *
 * A batch that raft marks as not needing a sync carries nothing but a newer commit index. It is held back and rides on the next
 * batch: after a crash the log then knows an older commit index, which costs nothing, because the store knows what was applied. A change of membership
 * is the exception: its commit is written at once.
 */
#include "raft/member/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

/* --- messages to others ------------------------------------------------------------------------------- */

void act_send(struct member *m, struct raft_message *message)
{
    if (m->n_out == m->out_cap) {
        m->out_cap = m->out_cap == 0 ? 64 : 2 * m->out_cap;
        m->out = xrealloc(m->out, m->out_cap * sizeof(struct raft_message *));
    }
    if (message->type == RAFT_MSG_SNAP) {
        m->hold_log_until_ms = UINT64_MAX; /* until its fate is known */
    }
    m->out[m->n_out++] = message;
}

void act_flush_sends(struct member *m)
{
    const struct member_transport *t = m->cfg.transport;
    if (m->n_out == 0) {
        return;
    }
    if (t != NULL) {
        t->send(t->arg, m->out, m->n_out);
    } else {
        for (size_t i = 0; i < m->n_out; i++) {
            raft_message_destroy(&m->out[i]);
        }
    }
    m->n_out = 0;
}

/* --- the log ---------------------------------------------------------------------------------------------- */

void log_batch_free(struct log_batch *b)
{
    for (size_t i = 0; i < b->n_after; i++) {
        raft_message_destroy(&b->after[i]);
    }
    for (size_t i = 0; i < b->request.n_entries; i++) {
        buf_unref(&b->entries[i].data);
    }
    free(b->after);
    free(b);
}

/* Promises that rest on what is durable now: to ourselves at once, to others by the links. */
static void follow(struct member *m, struct raft_message **after, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (after[i]->to != m->cfg.member_id) {
            act_send(m, after[i]);
            after[i] = NULL;
            continue;
        }
        enum err e = raft_receive(m->raft, after[i]);
        ASSERT(e == OK);
        raft_message_destroy(&after[i]);
    }
}

/* The last entries of durable batches, without those that were overwritten since. */
static void remember_position(struct member *m, const struct log_batch *b)
{
    uint64_t first = b->request.restart_at != 0 ? 0 : b->request.n_entries > 0 ? b->request.entries[0].index : UINT64_MAX;
    while (m->n_positions > 0 && m->positions[m->n_positions - 1].index >= first) {
        m->n_positions--;
    }
    if (b->request.n_entries == 0) {
        return;
    }
    if (m->n_positions == MEMBER_POSITIONS_MAX) {
        /* Every other one goes: they stay spread over all that was not applied yet. */
        for (size_t i = 0; i < MEMBER_POSITIONS_MAX / 2; i++) {
            m->positions[i] = m->positions[2 * i + 1];
        }
        m->n_positions = MEMBER_POSITIONS_MAX / 2;
    }
    m->positions[m->n_positions++] = b->request.last;
}

/* How far the own log holds what raft's log holds: less than before when entries are about to be overwritten. */
static void note_durable(struct member *m)
{
    uint64_t durable = raft_durable_index(m->raft);
    if (m->install != NULL) {
        /* A snapshot that raft has taken counts as durable there, and the log is restarted behind it only when it is in place. Until then the
         * old store must not get ahead of the old log, to which batches may be under way. */
        uint64_t end = m->n_positions > 0 ? m->positions[m->n_positions - 1].index : 0;
        durable = end > m->durable_index ? end : m->durable_index;
    }
    if (durable == m->durable_index) {
        return;
    }
    m->durable_index = durable;
    engine_log_durable(m->engine, durable);
    if (atomic_exchange(&m->flush_waits, false)) {
        m->store.retry(m->store.arg);
    }
}

void act_on_durable(struct member *m, struct log_batch *b)
{
    ASSERT(m->first_batch == b); /* they become durable in order */
    m->n_log_inflight--;
    m->first_batch = b->next;
    if (b->next == NULL) {
        m->last_batch = NULL;
    }
    remember_position(m, b);
    if (b->request.restart_at != 0) {
        engine_log_follows(m->engine);
    }
    follow(m, b->after, b->n_after);
    note_durable(m);
    b->n_after = 0;
    log_batch_free(b);
}

static struct wal_hard_state hard_state_of(const struct raft_actions *a)
{
    return (struct wal_hard_state){a->hard_state.term, a->hard_state.vote, a->hard_state.commit};
}

static void add_messages(struct log_batch *b, struct raft_message *const *messages, size_t n)
{
    if (n == 0) {
        return;
    }
    b->after = xrealloc(b->after, (b->n_after + n) * sizeof(struct raft_message *));
    memcpy(b->after + b->n_after, messages, n * sizeof(struct raft_message *));
    b->n_after += n;
}

static void add_after(struct log_batch *b, const struct raft_actions *a)
{
    add_messages(b, a->after, a->n_after);
}

/* What needs no sync: kept for the next batch; its promises wait only for batches that are under way. */
static void hold_batch(struct member *m, const struct raft_actions *a)
{
    if (a->hard_state_changed) {
        m->held = hard_state_of(a);
        m->hs_held = true;
    }
    if (a->n_after == 0) {
        return;
    }
    if (m->last_batch != NULL) {
        add_after(m->last_batch, a);
        return;
    }
    size_t n = a->n_after;
    struct raft_message **copy = xalloc(n * sizeof(struct raft_message *)); /* following calls back into raft */
    memcpy(copy, a->after, n * sizeof(struct raft_message *));
    follow(m, copy, n);
    free(copy);
}

static struct log_batch *make_batch(struct member *m, const struct raft_actions *a)
{
    struct log_batch *b = xcalloc(1, sizeof(*b) + a->n_append * sizeof(b->entries[0]));
    b->news.kind = MEMBER_NEWS_LOG;
    if (a->hard_state_changed || m->hs_held) {
        b->request.has_hard_state = true;
        b->request.hard_state = a->hard_state_changed ? hard_state_of(a) : m->held;
        m->hs_held = false;
    }
    for (size_t i = 0; i < a->n_append; i++) {
        const struct raft_entry *e = &a->append[i];
        b->entries[i] = (struct wal_entry){.index = e->index, .term = e->term, .type = (uint32_t)e->type,
                                           .data = e->data == NULL ? NULL : buf_ref(e->data)};
    }
    b->request.entries = b->entries;
    b->request.n_entries = a->n_append;
    b->request.restart_at = a->snapshot != NULL ? a->snapshot->index + 1 : 0;
    add_after(b, a);
    return b;
}

void act_submit(struct member *m, struct log_batch *b)
{
    b->since_ms = m->now_ms;
    if (m->last_batch != NULL) {
        m->last_batch->next = b;
    } else {
        m->first_batch = b;
    }
    m->last_batch = b;
    m->n_log_inflight++;
    m->log.submit(m->log.arg, &b->request);
}

void act_write_held(struct member *m)
{
    if (m->hs_held && m->n_log_inflight < MEMBER_LOG_INFLIGHT_MAX) {
        act_submit(m, make_batch(m, &(struct raft_actions){0}));
    }
}

/* --- raft's actions ------------------------------------------------------------------------------------------------ */

static void on_soft_state(struct member *m, const struct raft_actions *a)
{
    uint64_t before = atomic_load_explicit(&m->leader, memory_order_relaxed);
    bool led = atomic_load_explicit(&m->is_leader, memory_order_relaxed);
    bool leads = a->role == RAFT_LEADER;
    atomic_store_explicit(&m->leader, a->leader, memory_order_release);
    atomic_store_explicit(&m->is_leader, leads, memory_order_release);
    if (a->leader == RAFT_NONE && before != RAFT_NONE) {
        atomic_store_explicit(&m->no_leader_since_ms, m->now_ms, memory_order_release);
    } else if (a->leader != RAFT_NONE) {
        m->read_retry_ms = m->now_ms; /* whoever was asked before, ask this one */
        atomic_store_explicit(&m->no_leader_since_ms, 0, memory_order_release);
        m->gone_leader = RAFT_NONE;
    }
    if (leads && !led) {
        m->elected_ms = m->now_ms;
        m->version_at_ms = m->now_ms;
    }
    if (before != RAFT_NONE && before != a->leader) {
        member_complete_list(m, &m->reads, ERR_LEADER_CHANGED);
        member_complete_list(m, &m->reads_next, ERR_LEADER_CHANGED);
    }
    if (before != a->leader && a->leader != RAFT_NONE) {
        counter_add(m->leader_changes, 1);
        log_info(m->cfg.log, "raft.node: elected leader", F_HEX("local-member-id", m->cfg.member_id), F_HEX("leader", a->leader),
                 F_UINT("term", a->term));
    } else if (before != a->leader) {
        log_info(m->cfg.log, "raft.node: lost leader", F_HEX("local-member-id", m->cfg.member_id), F_HEX("leader", before), F_UINT("term", a->term));
    }
    duties_role_changed(m, leads);
}

/* Votes are asked for once the own term and vote are durable. Asked for earlier, they could make this member the leader of a term that it forgets
 * at a crash; it would ask for the same term again, get the same votes, and lead it twice, with other entries. */
static void send_votes(struct member *m, struct raft_message *const *votes, size_t n)
{
    if (m->last_batch != NULL) {
        add_messages(m->last_batch, votes, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        act_send(m, votes[i]);
    }
}

/* Not while the log is too far behind, nor between a snapshot's acceptance and its being in place. News brings the loop back here. */
bool act_may(const struct member *m)
{
    return !m->installing && m->n_log_inflight < MEMBER_LOG_INFLIGHT_MAX && raft_has_actions(m->raft);
}

void act(struct member *m)
{
    while (act_may(m)) {
        struct raft_actions a;
        raft_actions(m->raft, &a);
        note_durable(m);
        if (a.soft_state_changed) {
            on_soft_state(m, &a);
        }
        for (size_t i = 0; i < a.n_reads; i++) {
            read_on_state(m, &a.reads[i]);
        }
        struct raft_message *votes[RAFT_MEMBERS_MAX];
        size_t n_votes = 0;
        for (size_t i = 0; i < a.n_send; i++) {
            if (a.send[i]->type == RAFT_MSG_VOTE && n_votes < ARRAY_LEN(votes)) {
                votes[n_votes++] = a.send[i];
            } else {
                act_send(m, a.send[i]);
            }
        }
        apply_push(m, a.committed, a.n_committed);
        if (a.snapshot != NULL) {
            ASSERT(a.log_batch);
            install_place(m, make_batch(m, &a));
        } else if (a.log_batch && (a.must_sync || a.n_append > 0)) {
            struct log_batch *b = make_batch(m, &a);
            add_messages(b, votes, n_votes);
            n_votes = 0;
            act_submit(m, b);
        } else if (a.log_batch) {
            hold_batch(m, &a); /* calls back into raft: the arrays of `a` are gone behind it */
        }
        send_votes(m, votes, n_votes);
        act_flush_sends(m); /* others work while this member applies */
        apply_some(m);
    }
}
