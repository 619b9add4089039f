/* ops.c - ops that wait, and how their answers leave.
 *
 * A proposal is found again by its request id when its entry is applied. Without a leader, or while leadership is being handed over,
 * proposals stay in `batch` until there is somebody to take them, or their time is over.
 */
#include "raft/member/internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

void op_list_add(struct op_list *l, struct member_op *op)
{
    op->list_next = NULL;
    op->list_prev = l->last;
    if (l->last != NULL) {
        l->last->list_next = op;
    } else {
        l->first = op;
    }
    l->last = op;
}

void op_list_remove(struct op_list *l, struct member_op *op)
{
    if (op->list_prev != NULL) {
        op->list_prev->list_next = op->list_next;
    } else {
        l->first = op->list_next;
    }
    if (op->list_next != NULL) {
        op->list_next->list_prev = op->list_prev;
    } else {
        l->last = op->list_prev;
    }
    op->list_prev = NULL;
    op->list_next = NULL;
}

/* --- answers ----------------------------------------------------------------------------------------- */

void member_complete(struct member *m, struct member_op *op, enum err e)
{
    op->err = e;
    if (op->kind == MEMBER_PROPOSE) {
        measure_request(m, op->request, e == OK, clock_now_ns(m->cfg.clock) - op->since_ns);
    }
    struct member_port *p = op->port;
    if (p == NULL) {
        if (op->done != NULL) {
            op->done(op);
        }
        return;
    }
    op->node.next = NULL;
    if (p->last != NULL) {
        p->last->node.next = &op->node;
    } else {
        p->first = op;
    }
    p->last = op;
    p->n++;
}

void member_complete_list(struct member *m, struct op_list *l, enum err e)
{
    while (l->first != NULL) {
        struct member_op *op = l->first;
        op_list_remove(l, op);
        member_complete(m, op, e);
    }
}

void ops_changed(struct member *m, struct event_batch *batch)
{
    if (m->n_turn_batches == m->turn_batches_cap) {
        m->turn_batches_cap = m->turn_batches_cap == 0 ? 256 : 2 * m->turn_batches_cap;
        m->turn_batches = xrealloc(m->turn_batches, m->turn_batches_cap * sizeof(*m->turn_batches));
    }
    m->turn_batches[m->n_turn_batches++] = batch;
}

/* Changes first, so that a watch hub is never behind the answers of its own loop. */
void ops_hand_on(struct member *m)
{
    for (struct member_port *const *p = m->cfg.ports; *p != NULL; p++) {
        if (m->n_turn_batches > 0) {
            for (size_t i = 0; i < m->n_turn_batches; i++) {
                (void)event_batch_ref(m->turn_batches[i]);
            }
            (*p)->changed((*p)->arg, m->turn_batches, m->n_turn_batches);
        }
        if ((*p)->n > 0) {
            struct member_op *first = (*p)->first;
            struct member_op *last = (*p)->last;
            size_t n = (*p)->n;
            (*p)->first = NULL;
            (*p)->last = NULL;
            (*p)->n = 0;
            (*p)->answered((*p)->arg, first, last, n);
        }
    }
    for (size_t i = 0; i < m->n_turn_batches; i++) {
        event_batch_unref(&m->turn_batches[i]);
    }
    m->n_turn_batches = 0;
}

/* --- proposals ------------------------------------------------------------------------------------------- */

static struct member_op **waiter_slot(struct member *m, uint64_t request_id)
{
    return &m->waiters[request_id & (WAITER_SLOTS - 1u)];
}

void waiter_add(struct member *m, struct member_op *op)
{
    struct member_op **slot = waiter_slot(m, op->request_id);
    op->hash_next = *slot;
    *slot = op;
    m->n_waiters++;
    op_list_add(&m->proposals, op);
}

struct member_op *waiter_take(struct member *m, uint64_t request_id)
{
    for (struct member_op **p = waiter_slot(m, request_id); *p != NULL; p = &(*p)->hash_next) {
        struct member_op *op = *p;
        if (op->request_id == request_id) {
            *p = op->hash_next;
            op->hash_next = NULL;
            m->n_waiters--;
            op_list_remove(&m->proposals, op);
            return op;
        }
    }
    return NULL;
}

void member_take_proposal(struct member *m, struct member_op *op)
{
    if (m->n_batch == m->batch_cap) {
        m->batch_cap = m->batch_cap == 0 ? 1024 : 2 * m->batch_cap;
        m->batch = xrealloc(m->batch, m->batch_cap * sizeof(*m->batch));
        m->batch_ops = xrealloc(m->batch_ops, m->batch_cap * sizeof(struct member_op *));
    }
    op->deadline_ms = m->now_ms + m->request_timeout_ms;
    op->wait_index = m->n_batch;
    op->since_ns = clock_now_ns(m->cfg.clock);
    op->request = op->kind == MEMBER_PROPOSE ? measure_kind(buf_slice(op->data)) : 0;
    enum raft_entry_type type = op->kind == MEMBER_CHANGE ? RAFT_ENTRY_CONF_CHANGE : RAFT_ENTRY_NORMAL;
    m->batch[m->n_batch] = (struct raft_entry){.type = type, .data = op->data};
    m->batch_ops[m->n_batch++] = op;
    waiter_add(m, op);
}

static void drop_abandoned(struct member *m)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->n_batch; i++) {
        if (m->batch_ops[i] != NULL) {
            m->batch[kept] = m->batch[i];
            m->batch_ops[kept] = m->batch_ops[i];
            m->batch_ops[kept]->wait_index = kept;
            kept++;
        }
    }
    m->n_batch = kept;
}

/* There is nobody to take a proposal now, and that will change. */
static bool must_wait(const struct member *m)
{
    struct raft_status rs;
    raft_status(m->raft, &rs);
    return rs.leader == RAFT_NONE || rs.transferee != RAFT_NONE;
}

/* One call for all. */
void ops_propose(struct member *m)
{
    m->batch_waits = false;
    if (m->n_batch == 0) {
        return;
    }
    if (must_wait(m)) {
        m->batch_waits = true;
        return;
    }
    drop_abandoned(m);
    size_t n = m->n_batch; /* a refused duty may propose again, behind these */
    if (n == 0) {
        return;
    }
    enum err e = raft_propose(m->raft, m->batch, n);
    if (e == ERR_NOT_LEADER) { /* a leader that was removed: another one comes, or the end of this process */
        m->batch_waits = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        /* Too much is uncommitted for all of them: as many as fit. */
        enum err own = e == ERR_BUSY ? raft_propose(m->raft, &m->batch[i], 1) : e;
        struct member_op *op = m->batch_ops[i];
        buf_unref(&m->batch[i].data);
        op->data = NULL;
        if (own != OK) {
            counter_add(m->proposals_failed, 1);
            struct member_op *taken = waiter_take(m, op->request_id);
            ASSERT(taken == op);
            member_complete(m, op, own == ERR_BUSY ? ERR_TOO_MANY_REQUESTS : own);
        }
    }
    for (size_t i = n; i < m->n_batch; i++) {
        m->batch[i - n] = m->batch[i];
        m->batch_ops[i - n] = m->batch_ops[i];
        m->batch_ops[i - n]->wait_index = i - n;
    }
    m->n_batch -= n;
}

void ops_compacted(struct member *m, int64_t revision)
{
    if (revision > m->compacted_to) {
        m->compacted_to = revision;
    }
    struct member_op *next;
    for (struct member_op *op = m->compaction_waits.first; op != NULL; op = next) {
        next = op->list_next;
        if (op->revision <= m->compacted_to) {
            op_list_remove(&m->compaction_waits, op);
            member_complete(m, op, op->kind == MEMBER_PROPOSE ? op->result.err : OK);
        }
    }
}

/* --- time's up ---------------------------------------------------------------------------------------------- */

/* Which of etcd's three: a leader had failed, the way to it was cut, or neither is known. */
static enum err timeout_kind(const struct member *m, const struct member_op *op)
{
    uint64_t start = op->deadline_ms - m->request_timeout_ms;
    if (m->elected_ms != 0 && start < m->elected_ms && start + 2u * m->cfg.election_ms > m->elected_ms) {
        return ERR_TIMEOUT_LEADER;
    }
    uint64_t leader = atomic_load_explicit(&m->leader, memory_order_relaxed);
    if (leader == RAFT_NONE || m->cfg.transport == NULL) {
        return ERR_TIMEOUT;
    }
    const struct member_transport *t = m->cfg.transport;
    if (leader != m->cfg.member_id) {
        uint64_t since = t->active_since_ms(t->arg, leader);
        return since == 0 || since > start ? ERR_TIMEOUT_CONN : ERR_TIMEOUT;
    }
    const struct raft_ids *voters = &raft_conf(m->raft)->voters;
    size_t reached = 0;
    for (size_t i = 0; i < voters->n; i++) {
        uint64_t since = voters->id[i] == m->cfg.member_id ? 1 : t->active_since_ms(t->arg, voters->id[i]);
        reached += since != 0 && since <= start ? 1u : 0u;
    }
    return reached < voters->n / 2 + 1 ? ERR_TIMEOUT_CONN : ERR_TIMEOUT;
}

static void expire_list(struct member *m, struct op_list *l, enum err e)
{
    while (l->first != NULL && l->first->deadline_ms <= m->now_ms) {
        struct member_op *op = l->first;
        op_list_remove(l, op);
        member_complete(m, op, e);
    }
}

void ops_expire(struct member *m)
{
    while (m->proposals.first != NULL && m->proposals.first->deadline_ms <= m->now_ms) {
        struct member_op *op = waiter_take(m, m->proposals.first->request_id);
        if (op->data != NULL) { /* nobody took it */
            ASSERT(m->batch_ops[op->wait_index] == op);
            m->batch_ops[op->wait_index] = NULL;
            buf_unref(&m->batch[op->wait_index].data);
            op->data = NULL;
        }
        counter_add(m->proposals_failed, 1);
        member_complete(m, op, timeout_kind(m, op));
    }
    expire_list(m, &m->reads, ERR_TIMEOUT);
    expire_list(m, &m->reads_next, ERR_TIMEOUT);
    expire_list(m, &m->reads_indexed, ERR_TIMEOUT);
    expire_list(m, &m->lease_waits, ERR_TIMEOUT);
    expire_list(m, &m->applied_waits, ERR_TIMEOUT_APPLIED);
}

void ops_answer_all(struct member *m, enum err e)
{
    for (size_t i = 0; i < m->n_batch; i++) {
        if (m->batch_ops[i] != NULL) {
            m->batch_ops[i]->data = NULL;
            buf_unref(&m->batch[i].data);
        }
    }
    m->n_batch = 0;
    while (m->proposals.first != NULL) {
        member_complete(m, waiter_take(m, m->proposals.first->request_id), e);
    }
    struct op_list *lists[] = {&m->reads,         &m->reads_next, &m->reads_indexed,    &m->applied_waits,
                               &m->transfers,     &m->lease_waits, &m->compaction_waits};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        member_complete_list(m, lists[i], e);
    }
    ops_hand_on(m);
}
