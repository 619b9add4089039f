/* read.c - linearizable reads, and waiting for what is committed.
 *
 * All reads that wait share one round of the core's ReadIndex. Each attempt has a context of its own, never used again: after
 * a restart the counter starts from the clock, far above what it was.
 */
#include "raft/member/internal.h"

#include "base/assert.h"
#include "base/mem.h"

#define READ_RETRY_MS 500u /* etcd's */

static void ask(struct member *m)
{
    uint8_t ctx[8];
    uint64_t id = ++m->read_last_ctx;
    for (int i = 0; i < 8; i++) {
        ctx[i] = (uint8_t)(id >> (56 - 8 * i));
    }
    m->read_retry_ms = m->now_ms + READ_RETRY_MS;
    enum err e = raft_read_index(m->raft, slice_of(ctx, sizeof(ctx)));
    if (e != OK) {
        log_debug(m->cfg.log, "read index refused; will ask again", F_STR("error", err_text(e)));
    }
}

void read_start_round(struct member *m)
{
    if (m->reads.first == NULL && m->reads_next.first != NULL) {
        m->reads = m->reads_next;
        m->reads_next = (struct op_list){0};
        m->read_first_ctx = m->read_last_ctx + 1;
        ask(m);
    } else if (m->reads.first != NULL && m->now_ms >= m->read_retry_ms) {
        counter_add(m->slow_reads, 1);
        log_warn(m->cfg.log, "waiting for ReadIndex response took too long, retrying", F_UINT("sent-request-id", m->read_last_ctx),
                 F_UINT("retry-timeout-ms", READ_RETRY_MS));
        ask(m);
    }
}

void read_on_state(struct member *m, const struct raft_read_state *rs)
{
    uint64_t id = 0;
    for (size_t i = 0; i < rs->context_len && i < 8; i++) {
        id = id << 8 | rs->context[i];
    }
    if (id < m->read_first_ctx || id > m->read_last_ctx) {
        return; /* an answer to an earlier round, late */
    }
    while (m->reads.first != NULL) {
        struct member_op *op = m->reads.first;
        op_list_remove(&m->reads, op);
        if (op->kind == MEMBER_CONFIRM_LEADER) {
            bool leads = atomic_load_explicit(&m->is_leader, memory_order_relaxed);
            member_complete(m, op, leads ? OK : ERR_NOT_PRIMARY);
            continue;
        }
        op->wait_index = rs->index;
        op_list_add(&m->reads_indexed, op);
    }
}

void read_release(struct member *m)
{
    uint64_t applied = engine_applied_index(m->engine);
    struct op_list *lists[] = {&m->reads_indexed, &m->applied_waits};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        /* Indexes ascend along the lists: rounds are answered in order, and commits only grow. */
        while (lists[i]->first != NULL && lists[i]->first->wait_index <= applied) {
            struct member_op *op = lists[i]->first;
            op_list_remove(lists[i], op);
            member_complete(m, op, OK);
        }
    }
}

/* A loop that ticked all the time would have stepped down if it had lost its followers; one that stood still a while ago has to ask. */
void read_confirm_leader(struct member *m, struct member_op *op)
{
    if (!atomic_load_explicit(&m->is_leader, memory_order_relaxed)) {
        member_complete(m, op, ERR_NOT_LEADER);
    } else if (m->now_ms - m->last_tick_ms <= 3u * m->cfg.heartbeat_ms && m->now_ms >= m->doubt_until_ms) {
        member_complete(m, op, OK);
    } else {
        op_list_add(&m->reads_next, op);
    }
}

void read_wait_applied(struct member *m, struct member_op *op)
{
    struct raft_status rs;
    raft_status(m->raft, &rs);
    if (rs.hard_state.commit <= engine_applied_index(m->engine)) {
        member_complete(m, op, OK);
        return;
    }
    op->wait_index = rs.hard_state.commit;
    op->deadline_ms = m->now_ms + MEMBER_APPLIED_WAIT_MS;
    op_list_add(&m->applied_waits, op);
}
