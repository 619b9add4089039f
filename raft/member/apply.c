/* apply.c - committed entries into the engine.
 *
 * Raft hands out a bounded number of bytes; they wait here when the store is too far behind, so that the rest of the loop
 * (heartbeats, votes) goes on.
 */
#include "raft/member/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define ANSWER_EVERY 512u /* entries applied before answers are handed on */

/* Entries are borrowed from raft, and a configuration change calls back into raft: so they are copied. */
void apply_push(struct member *m, const struct raft_entry *entries, size_t n)
{
    struct apply_queue *q = &m->apply;
    if (n == 0) {
        return;
    }
    if (q->first > 0 && q->n == 0) {
        q->first = 0;
    }
    if (q->first + q->n + n > q->cap) {
        if (q->n > 0) {
            memmove(q->v, q->v + q->first, q->n * sizeof(*q->v));
        }
        q->first = 0;
        if (q->n + n > q->cap) {
            q->cap = 2 * (q->n + n);
            q->v = xrealloc(q->v, q->cap * sizeof(*q->v));
        }
    }
    for (size_t i = 0; i < n; i++) {
        struct raft_entry *e = &q->v[q->first + q->n++];
        *e = entries[i];
        if (e->data != NULL) {
            (void)buf_ref(e->data);
        }
    }
}

void apply_drop(struct member *m, uint64_t up_to)
{
    struct apply_queue *q = &m->apply;
    while (q->n > 0 && q->v[q->first].index <= up_to) {
        buf_unref(&q->v[q->first].data);
        q->first++;
        q->n--;
    }
}

bool apply_may(const struct member *m)
{
    return m->apply.n > 0 && !m->installing && engine_pending_bytes(m->engine) < ENGINE_TAIL_BYTES_MAX;
}

static bool is_listed(const struct raft_conf_state *c, uint64_t id)
{
    const struct raft_ids *lists[] = {&c->voters, &c->learners, &c->voters_outgoing, &c->learners_next};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        if (raft_ids_has(lists[i], id)) {
            return true;
        }
    }
    return false;
}

/* `err` is what the engine said to it: a change that it refused is none for raft either. */
static void apply_conf_change(struct member *m, const struct raft_entry *e, enum err err)
{
    struct raft_conf_change *cc = xcalloc(1, sizeof(*cc));
    struct raft_conf_state conf;
    struct err_ctx ec = {{0}};
    bool refused = err != OK;
    if (err == OK) {
        err = raft_conf_change_decode(e->type, buf_slice(e->data), cc);
    }
    if (err == OK) {
        err = raft_apply_conf_change(m->raft, cc, &conf, &ec);
    }
    if (err != OK) {
        log_warn(m->cfg.log, "refused configuration change", F_UINT("index", e->index),
                 F_STR("error", ec.text[0] != '\0' ? ec.text : err_text(err)));
        enum err none = raft_apply_conf_change(m->raft, NULL, &conf, &ec);
        ASSERT(none == OK);
    }
    free(cc);
    if (refused) {
        return;
    }
    if (m->cfg.transport != NULL) {
        m->cfg.transport->members_changed(m->cfg.transport->arg);
    }
    if (conf.voters.n > 0 && !is_listed(&conf, m->cfg.member_id) && engine_member_removed(m->engine, m->cfg.member_id)) {
        follow_removed(m);
    }
}

static void answer_applied(struct member *m, struct apply_result *r)
{
    if (r->over_quota) {
        member_raise_nospace(m);
    }
    struct member_op *op = r->request_id == 0 ? NULL : waiter_take(m, r->request_id);
    if (op == NULL) {
        buf_unref(&r->body);
        return;
    }
    op->result = *r;
    if (r->compacting_to > 0 && r->compacting_to > m->compacted_to) {
        op->revision = r->compacting_to;
        op_list_add(&m->compaction_waits, op);
        return;
    }
    member_complete(m, op, r->err);
}

static void apply_one(struct member *m, const struct raft_entry *e)
{
    struct apply_result r;
    uint64_t before = clock_now_ns(m->cfg.clock);
    /* Whether somebody here waits for the answer is known only after decoding; no waiters at all is the cheap case. */
    engine_apply(m->engine, e->index, e->term, (uint32_t)e->type, buf_slice(e->data), m->n_waiters > 0, m->now_ms, &r);
    measure_apply(m, e, &r, clock_now_ns(m->cfg.clock) - before);
    if (e->type != RAFT_ENTRY_NORMAL) {
        apply_conf_change(m, e, r.err);
    }
    answer_applied(m, &r);
}

/* The newest position that is durable and applied: what the store remembers of the log. */
static void set_witness(struct member *m)
{
    uint64_t applied = engine_applied_index(m->engine);
    uint64_t known = applied < m->durable_index ? applied : m->durable_index;
    size_t n = 0;
    while (n < m->n_positions && m->positions[n].index <= known) {
        n++;
    }
    if (n == 0) {
        return;
    }
    const struct wal_position *p = &m->positions[n - 1];
    engine_set_witness(m->engine, p->index, p->term, p->chain);
    /* The newest stays: it may be the log's end for long. */
    memmove(m->positions, m->positions + (n - 1), (m->n_positions - (n - 1)) * sizeof(m->positions[0]));
    m->n_positions -= n - 1;
}

static bool snapshot_wanted(const struct member *m)
{
    struct raft_peer peers[RAFT_MEMBERS_MAX];
    size_t n = raft_peers(m->raft, peers, ARRAY_LEN(peers));
    for (size_t i = 0; i < n; i++) {
        if (peers[i].state == RAFT_SNAPSHOT) {
            return true;
        }
    }
    return false;
}

/* Old entries leave memory, except for those that a follower which takes a snapshot will need behind it. */
static void compact_log(struct member *m)
{
    struct raft_status rs;
    raft_status(m->raft, &rs);
    const struct raft_conf_state *conf = raft_conf(m->raft);
    uint64_t keep = conf->voters.n + conf->learners.n > 1 ? m->cfg.catch_up_entries : 0;
    if (rs.log_bytes > MEMBER_CATCH_UP_BYTES) { /* as many as fit, by their average size */
        uint64_t n = rs.last_index + 1 - rs.first_index;
        uint64_t fit = n * MEMBER_CATCH_UP_BYTES / rs.log_bytes;
        keep = fit < keep ? fit : keep;
    }
    if (rs.applied <= keep || rs.applied - keep <= rs.first_index + 100) {
        return;
    }
    if (m->hold_log_until_ms == UINT64_MAX && !(rs.role == RAFT_LEADER && snapshot_wanted(m))) {
        m->hold_log_until_ms = m->now_ms + MEMBER_SNAPSHOT_HOLD_MS;
    }
    if (m->now_ms < m->hold_log_until_ms && rs.log_bytes < MEMBER_HELD_BYTES_MAX) {
        return;
    }
    raft_compact(m->raft, rs.applied - keep);
}

void apply_some(struct member *m)
{
    struct apply_queue *q = &m->apply;
    uint64_t before = engine_applied_index(m->engine);
    uint64_t last = 0;
    bool members = false;
    for (size_t i = 0; apply_may(m); i++) {
        struct raft_entry e = q->v[q->first];
        q->first++;
        q->n--;
        apply_one(m, &e);
        last = e.index;
        members = members || e.type != RAFT_ENTRY_NORMAL;
        buf_unref(&e.data);
        if (engine_applied_index(m->engine) < last) {
            break; /* it could not be applied: the owner was told, and the process ends */
        }
        if (i % ANSWER_EVERY == ANSWER_EVERY - 1) {
            ops_hand_on(m);
        }
    }
    if (last == 0) {
        return;
    }
    raft_applied(m->raft, last);
    set_witness(m);
    if (members) { /* who was removed goes when the others know it (follow.c), and a crash must not make them forget */
        act_write_held(m);
    }
    compact_log(m);
    size_t pending = engine_pending_bytes(m->engine);
    int64_t compact_revision = engine_compact_revision(m->engine);
    if (pending > 0 && engine_applied_index(m->engine) > before) {
        /* A compaction begins at once, on every member: it waits only for the commit of its entry. */
        bool compacts = compact_revision > m->compact_kicked;
        m->store.kick(m->store.arg, compacts || pending >= ENGINE_FLUSH_BYTES);
        m->compact_kicked = compact_revision;
    }
}
