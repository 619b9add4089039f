/* loop.c - the member loop.
 *
 * One turn: take everything from the inbox (ops from the I/O loops, news from log and store threads), tick when it is time, give
 * the gathered proposals to raft in one call, do what raft says (messages, a batch for the log thread, committed entries to
 * apply), hand answers and revisions back to the ports, then look for background work. The loop never waits for a disk: it
 * sleeps only in queue_wait_all, until the next tick at the latest.
 *
 * A batch that raft marks as not needing a sync carries nothing but a newer commit index. It is held back and rides on the next
 * batch: after a crash the log then knows an older commit index, which costs nothing, because the store knows what was applied.
 */
#include "raft/member/internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/lease.h"

#define ANSWER_EVERY 512u /* entries applied before answers are handed on */

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
    (void)m;
    op->err = e;
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

/* Changes first, so that a watch hub is never behind the answers of its own loop. */
static void hand_on(struct member *m)
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

static void on_changed(void *arg, struct event_batch *batch)
{
    struct member *m = arg;
    if (m->n_turn_batches == m->turn_batches_cap) {
        m->turn_batches_cap = m->turn_batches_cap == 0 ? 256 : 2 * m->turn_batches_cap;
        m->turn_batches = xrealloc(m->turn_batches, m->turn_batches_cap * sizeof(*m->turn_batches));
    }
    m->turn_batches[m->n_turn_batches++] = batch;
}

/* --- news from the store thread ------------------------------------------------------------------------ */

static void post_store_news(struct member *m, enum member_op_kind kind, uint64_t index, uint64_t before, int64_t revision)
{
    struct store_news *n = xcalloc(1, sizeof(*n));
    n->news.kind = kind;
    n->index = index;
    n->index_before = before;
    n->revision = revision;
    queue_push_list(&m->inbox, &n->news.node, &n->news.node, 1);
}

static void on_stored(void *arg, uint64_t index, uint64_t index_before)
{
    post_store_news(arg, MEMBER_NEWS_STORED, index, index_before, 0);
}

static void on_compacted(void *arg, int64_t revision)
{
    post_store_news(arg, MEMBER_NEWS_COMPACTED, 0, 0, revision);
}

static void on_failed(void *arg, enum err e, const struct err_ctx *ec)
{
    member_fail(arg, e, ec->text);
}

const struct engine_events member_engine_events = {
    .changed = on_changed,
    .stored = on_stored,
    .compacted = on_compacted,
    .failed = on_failed,
};

/* --- proposals ------------------------------------------------------------------------------------------- */

static struct member_op **waiter_slot(struct member *m, uint64_t request_id)
{
    return &m->waiters[request_id & (WAITER_SLOTS - 1u)];
}

static void waiter_add(struct member *m, struct member_op *op)
{
    struct member_op **slot = waiter_slot(m, op->request_id);
    op->hash_next = *slot;
    *slot = op;
    m->n_waiters++;
    op_list_add(&m->proposals, op);
}

/* The op that waits for this request, taken out; NULL when nobody does. */
static struct member_op *waiter_take(struct member *m, uint64_t request_id)
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
    m->batch[m->n_batch] = (struct raft_entry){.type = RAFT_ENTRY_NORMAL, .data = op->data};
    m->batch_ops[m->n_batch++] = op;
    waiter_add(m, op);
}

/* One call for all. Without a leader they are dropped here, and whoever waits for one of them runs into the timeout. */
static void propose(struct member *m)
{
    if (m->n_batch == 0) {
        return;
    }
    enum err e = raft_propose(m->raft, m->batch, m->n_batch);
    size_t n = m->n_batch; /* a refused duty may propose again, behind these */
    for (size_t i = 0; i < n; i++) {
        /* Too much is uncommitted for all of them: as many as fit. */
        enum err own = e == ERR_BUSY ? raft_propose(m->raft, &m->batch[i], 1) : e;
        struct member_op *op = m->batch_ops[i];
        buf_unref(&m->batch[i].data);
        op->data = NULL;
        if (own != OK) {
            counter_add(m->proposals_failed, 1);
        }
        if (own != OK && own != ERR_NO_LEADER) {
            struct member_op *taken = waiter_take(m, op->request_id);
            ASSERT(taken == op);
            member_complete(m, op, own == ERR_BUSY ? ERR_TOO_MANY_REQUESTS : own);
        }
    }
    ASSERT(m->n_batch == n);
    m->n_batch = 0;
}

static void expire(struct member *m)
{
    while (m->proposals.first != NULL && m->proposals.first->deadline_ms <= m->now_ms) {
        struct member_op *op = waiter_take(m, m->proposals.first->request_id);
        counter_add(m->proposals_failed, 1);
        member_complete(m, op, ERR_TIMEOUT);
    }
    struct op_list *lists[] = {&m->reads, &m->reads_next, &m->reads_indexed, &m->lease_waits};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        while (lists[i]->first != NULL && lists[i]->first->deadline_ms <= m->now_ms) {
            struct member_op *op = lists[i]->first;
            op_list_remove(lists[i], op);
            member_complete(m, op, ERR_TIMEOUT);
        }
    }
}

/* --- linearizable reads ------------------------------------------------------------------------------------ */

#define READ_RETRY_MS 500u /* etcd's */

static void ask_read_index(struct member *m)
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

/* All reads that wait share one round. Each attempt has a context of its own, never used again. */
static void start_read_round(struct member *m)
{
    if (m->reads.first == NULL && m->reads_next.first != NULL) {
        m->reads = m->reads_next;
        m->reads_next = (struct op_list){0};
        m->read_first_ctx = m->read_last_ctx + 1;
        ask_read_index(m);
    } else if (m->reads.first != NULL && m->now_ms >= m->read_retry_ms) {
        ask_read_index(m);
    }
}

static void on_read_state(struct member *m, const struct raft_read_state *rs)
{
    uint64_t id = 0;
    for (size_t i = 0; i < rs->context_len && i < 8; i++) {
        id = id << 8 | rs->context[i];
    }
    if (id < m->read_first_ctx) {
        return; /* an answer to an earlier round, late */
    }
    while (m->reads.first != NULL) {
        struct member_op *op = m->reads.first;
        op_list_remove(&m->reads, op);
        op->wait_index = rs->index;
        op_list_add(&m->reads_indexed, op);
    }
}

static void release_reads(struct member *m)
{
    uint64_t applied = engine_applied_index(m->engine);
    /* Indexes ascend along the list: rounds are answered in order. */
    while (m->reads_indexed.first != NULL && m->reads_indexed.first->wait_index <= applied) {
        struct member_op *op = m->reads_indexed.first;
        op_list_remove(&m->reads_indexed, op);
        member_complete(m, op, OK);
    }
}

/* --- applying ------------------------------------------------------------------------------------------------ */

/* `err` is what the engine said to it: a change that it refused is none for raft either. */
static void apply_conf_change(struct member *m, const struct raft_entry *e, enum err err)
{
    struct raft_conf_change cc;
    struct slice data = buf_slice(e->data);
    struct err_ctx ec = {{0}};
    if (err == OK) {
        err = raft_conf_change_decode(e->type, data, &cc);
    }
    if (err == OK) {
        err = raft_apply_conf_change(m->raft, &cc, NULL, &ec);
    }
    if (err != OK) {
        log_warn(m->cfg.log, "refused configuration change", F_UINT("index", e->index),
                 F_STR("error", ec.text[0] != '\0' ? ec.text : err_text(err)));
        enum err refused = raft_apply_conf_change(m->raft, NULL, NULL, &ec);
        ASSERT(refused == OK);
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
        store_thread_kick(&m->store, true); /* it begins with the commit of this entry, and somebody waits */
        return;
    }
    member_complete(m, op, r->err);
}

static void apply(struct member *m, const struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct raft_entry *e = &entries[i];
        struct apply_result r = {0};
        /* Whether somebody here waits for the answer is known only after decoding; no waiters at all is the cheap case. */
        engine_apply(m->engine, e->index, e->term, (uint32_t)e->type, buf_slice(e->data), m->n_waiters > 0, m->now_ms, &r);
        if (e->type != RAFT_ENTRY_NORMAL) {
            apply_conf_change(m, e, r.err);
        }
        answer_applied(m, &r);
        if (i % ANSWER_EVERY == ANSWER_EVERY - 1) {
            hand_on(m);
        }
    }
    size_t pending = engine_pending_bytes(m->engine);
    if (pending > 0) {
        store_thread_kick(&m->store, pending >= ENGINE_FLUSH_BYTES);
    }
}

/* Entries are borrowed from raft, and a configuration change calls back into raft: so they are copied. */
static void apply_committed(struct member *m, const struct raft_actions *a)
{
    if (a->n_committed == 0) {
        return;
    }
    size_t n = a->n_committed;
    struct raft_entry *copy = xalloc(n * sizeof(*copy));
    for (size_t i = 0; i < n; i++) {
        copy[i] = a->committed[i];
        if (copy[i].data != NULL) {
            (void)buf_ref(copy[i].data);
        }
    }
    apply(m, copy, n);
    for (size_t i = 0; i < n; i++) {
        buf_unref(&copy[i].data);
    }
    raft_applied(m->raft, copy[n - 1].index);
    free(copy);
    if (m->durable.index != 0 && m->durable.index <= engine_applied_index(m->engine)) {
        engine_set_witness(m->engine, m->durable.index, m->durable.term, m->durable.chain);
    }
    struct raft_status rs;
    raft_status(m->raft, &rs);
    uint64_t keep = 0;
    struct raft_conf_state conf;
    raft_conf_state(m->raft, &conf);
    if (conf.voters.n + conf.learners.n > 1) {
        keep = m->cfg.catch_up_entries;
    }
    if (rs.applied > keep && rs.applied - keep > rs.first_index + 100) {
        raft_compact(m->raft, rs.applied - keep);
    }
}

/* --- the log ---------------------------------------------------------------------------------------------------- */

/* Runs on the log thread. */
void member_log_done(void *arg, struct wal_request *first, struct wal_request *last, size_t n)
{
    struct member *m = arg;
    (void)last;
    struct qnode *head = NULL;
    struct qnode *tail = NULL;
    struct wal_request *r = first;
    for (size_t i = 0; i < n; i++) {
        struct wal_request *next = (struct wal_request *)(void *)r->node.next;
        struct log_batch *b = CONTAINER_OF(r, struct log_batch, request);
        b->news.node.next = NULL;
        if (tail != NULL) {
            tail->next = &b->news.node;
        } else {
            head = &b->news.node;
        }
        tail = &b->news.node;
        r = next;
    }
    queue_push_list(&m->inbox, head, tail, n);
}

/* Promises that rest on what is durable now: to ourselves at once, to peers by the links. */
static void follow(struct member *m, struct raft_message **after, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (after[i]->to == m->cfg.member_id) {
            enum err e = raft_receive(m->raft, after[i]);
            ASSERT(e == OK);
        }
        raft_message_destroy(&after[i]);
    }
}

void member_log_batch_free(struct log_batch *b)
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

static void on_log_durable(struct member *m, struct log_batch *b)
{
    ASSERT(m->first_batch == b); /* they become durable in order */
    m->n_log_inflight--;
    m->first_batch = b->next;
    if (b->next == NULL) {
        m->last_batch = NULL;
    }
    m->durable = b->request.last;
    follow(m, b->after, b->n_after);
    b->n_after = 0;
    member_log_batch_free(b);
}

/* What needs no sync: kept for the next batch; its promises wait only for batches that are under way. */
static void hold_batch(struct member *m, const struct raft_actions *a)
{
    if (a->hard_state_changed) {
        m->held = (struct wal_hard_state){a->hard_state.term, a->hard_state.vote, a->hard_state.commit};
        m->hs_held = true;
    }
    if (a->n_after == 0) {
        return;
    }
    if (m->last_batch == NULL) {
        struct raft_message **copy = xalloc(a->n_after * sizeof(struct raft_message *));
        size_t n = a->n_after;
        memcpy(copy, a->after, n * sizeof(struct raft_message *));
        follow(m, copy, n);
        free(copy);
        return;
    }
    struct log_batch *b = m->last_batch;
    b->after = xrealloc(b->after, (b->n_after + a->n_after) * sizeof(struct raft_message *));
    memcpy(b->after + b->n_after, a->after, a->n_after * sizeof(struct raft_message *));
    b->n_after += a->n_after;
}

static void send_to_log(struct member *m, const struct raft_actions *a)
{
    struct log_batch *b = xcalloc(1, sizeof(*b) + a->n_append * sizeof(b->entries[0]));
    b->news.kind = MEMBER_NEWS_LOG;
    if (a->hard_state_changed || m->hs_held) {
        b->request.has_hard_state = true;
        b->request.hard_state = a->hard_state_changed ? (struct wal_hard_state){a->hard_state.term, a->hard_state.vote, a->hard_state.commit}
                                                      : m->held;
        m->hs_held = false;
    }
    for (size_t i = 0; i < a->n_append; i++) {
        const struct raft_entry *e = &a->append[i];
        b->entries[i] = (struct wal_entry){.index = e->index, .term = e->term, .type = (uint32_t)e->type,
                                           .data = e->data == NULL ? NULL : buf_ref(e->data)};
    }
    b->request.entries = b->entries;
    b->request.n_entries = a->n_append;
    if (a->n_after > 0) {
        b->after = xalloc(a->n_after * sizeof(struct raft_message *));
        memcpy(b->after, a->after, a->n_after * sizeof(struct raft_message *));
        b->n_after = a->n_after;
    }
    if (m->last_batch != NULL) {
        m->last_batch->next = b;
    } else {
        m->first_batch = b;
    }
    m->last_batch = b;
    m->n_log_inflight++;
    enum err e = wal_writer_submit(m->writer, &b->request);
    ASSERT(e == OK); /* MEMBER_LOG_INFLIGHT_MAX is far below the writer's bound */
}

/* --- raft's actions ------------------------------------------------------------------------------------------------ */

static void publish_status(struct member *m)
{
    struct raft_status rs;
    raft_status(m->raft, &rs);
    struct raft_conf_state conf;
    raft_conf_state(m->raft, &conf);
    atomic_store_explicit(&m->committed_index, rs.hard_state.commit, memory_order_release);
    atomic_store_explicit(&m->is_learner, rs.is_learner, memory_order_release);
    bool sole = conf.voters.n == 1 && conf.voters.id[0] == m->cfg.member_id && conf.voters_outgoing.n == 0;
    bool current = sole && rs.role == RAFT_LEADER && engine_applied_term(m->engine) == rs.hard_state.term;
    atomic_store_explicit(&m->current, current, memory_order_release);
    if (sole && rs.leader == RAFT_NONE && rs.role == RAFT_FOLLOWER) {
        raft_campaign(m->raft); /* alone: nobody to wait for, nobody to disturb */
    }
}

static void on_soft_state(struct member *m, const struct raft_actions *a)
{
    uint64_t before = atomic_load_explicit(&m->leader, memory_order_relaxed);
    bool leads = a->role == RAFT_LEADER;
    atomic_store_explicit(&m->leader, a->leader, memory_order_release);
    atomic_store_explicit(&m->is_leader, leads, memory_order_release);
    if (before != 0 && before != a->leader) {
        struct op_list *lists[] = {&m->reads, &m->reads_next};
        for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
            while (lists[i]->first != NULL) {
                struct member_op *op = lists[i]->first;
                op_list_remove(lists[i], op);
                member_complete(m, op, ERR_LEADER_CHANGED);
            }
        }
    }
    if (before != a->leader && a->leader != 0) {
        counter_add(m->leader_changes, 1);
    }
    duties_role_changed(m, a->leader, leads);
}

/* Not while the log or the store is too far behind. News from their threads brings the loop back here. */
static bool may_act(const struct member *m)
{
    return m->n_log_inflight < MEMBER_LOG_INFLIGHT_MAX && engine_pending_bytes(m->engine) < ENGINE_TAIL_BYTES_MAX &&
           raft_has_actions(m->raft);
}

static void act(struct member *m)
{
    while (may_act(m)) {
        struct raft_actions a;
        raft_actions(m->raft, &a);
        if (a.soft_state_changed) {
            on_soft_state(m, &a);
        }
        for (size_t i = 0; i < a.n_reads; i++) {
            on_read_state(m, &a.reads[i]);
        }
        for (size_t i = 0; i < a.n_send; i++) {
            raft_message_destroy(&a.send[i]); /* a sole member has nobody to send to */
        }
        ASSERT(a.snapshot == NULL);
        if (a.log_batch && (a.must_sync || a.n_append > 0)) {
            send_to_log(m, &a);
        }
        /* Both of the following call back into raft, after which the arrays of `a` are gone. */
        struct raft_actions held = a;
        struct raft_message **after = NULL;
        if (a.log_batch && !a.must_sync && a.n_append == 0 && a.n_after > 0) {
            after = xalloc(a.n_after * sizeof(struct raft_message *));
            memcpy(after, a.after, a.n_after * sizeof(struct raft_message *));
            held.after = after;
        }
        apply_committed(m, &a);
        if (held.log_batch && !held.must_sync && held.n_append == 0) {
            hold_batch(m, &held);
        }
        free(after);
    }
}

/* --- one turn --------------------------------------------------------------------------------------------------------- */

static void take_op(struct member *m, struct member_op *op)
{
    if (atomic_load_explicit(&m->stopping, memory_order_acquire)) {
        struct buf *data = op->data;
        op->data = NULL;
        buf_unref(&data);
        member_complete(m, op, ERR_STOPPED);
        return;
    }
    op->deadline_ms = m->now_ms + m->request_timeout_ms;
    switch (op->kind) {
    case MEMBER_PROPOSE:
        member_take_proposal(m, op);
        return;
    case MEMBER_READ_INDEX:
        op_list_add(&m->reads_next, op);
        return;
    case MEMBER_CALL:
        if (op->call(m, op)) {
            member_complete(m, op, op->err);
        }
        return;
    case MEMBER_FLUSH:
    case MEMBER_DEFRAG:
        store_thread_request(&m->store, op);
        return;
    case MEMBER_COMPACTED:
        if (m->compacted_to >= op->revision) {
            member_complete(m, op, OK);
        } else {
            op_list_add(&m->compaction_waits, op);
        }
        return;
    case MEMBER_CHANGE:
    case MEMBER_TRANSFER:
    case MEMBER_WAIT_APPLIED:
    case MEMBER_CONFIRM_LEADER:
    case MEMBER_INSTALL:
        member_complete(m, op, ERR_UNSUPPORTED);
        return;
    case MEMBER_NEWS_LOG:
    case MEMBER_NEWS_STORED:
    case MEMBER_NEWS_COMPACTED:
    case MEMBER_NEWS_INSTALLED:
    case MEMBER_NEWS_MESSAGE:
    case MEMBER_NEWS_LINK:
    case MEMBER_NEWS_VERSIONS:
        break;
    }
    UNREACHABLE();
}

static void on_store_news(struct member *m, struct store_news *n)
{
    if (n->news.kind == MEMBER_NEWS_STORED) {
        /* Up to what the last but one commit holds, without its last entry: that is where the commit's witness is, nearly
         * always, and as long as it is in the log the two can be compared. */
        if (n->index_before > 1) {
            wal_writer_release(m->writer, n->index_before - 1);
        }
    } else {
        if (n->revision > m->compacted_to) {
            m->compacted_to = n->revision;
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
    free(n);
}

static void take_inbox(struct member *m, struct qnode *node)
{
    while (node != NULL) {
        struct qnode *next = node->next;
        struct inbox_head *head = (struct inbox_head *)(void *)node;
        switch (head->kind) {
        case MEMBER_NEWS_LOG:
            on_log_durable(m, CONTAINER_OF(head, struct log_batch, news));
            break;
        case MEMBER_NEWS_STORED:
        case MEMBER_NEWS_COMPACTED:
            on_store_news(m, CONTAINER_OF(head, struct store_news, news));
            break;
        case MEMBER_PROPOSE:
        case MEMBER_READ_INDEX:
        case MEMBER_CALL:
        case MEMBER_FLUSH:
        case MEMBER_DEFRAG:
        case MEMBER_COMPACTED:
        case MEMBER_CHANGE:
        case MEMBER_TRANSFER:
        case MEMBER_WAIT_APPLIED:
        case MEMBER_CONFIRM_LEADER:
        case MEMBER_INSTALL:
            take_op(m, CONTAINER_OF(node, struct member_op, node));
            break;
        case MEMBER_NEWS_INSTALLED:
        case MEMBER_NEWS_MESSAGE:
        case MEMBER_NEWS_LINK:
        case MEMBER_NEWS_VERSIONS:
            UNREACHABLE();
        }
        node = next;
    }
}

static void answer_everybody(struct member *m, enum err e)
{
    while (m->proposals.first != NULL) {
        member_complete(m, waiter_take(m, m->proposals.first->request_id), e);
    }
    struct op_list *lists[] = {&m->reads, &m->reads_next, &m->reads_indexed, &m->compaction_waits, &m->lease_waits};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        while (lists[i]->first != NULL) {
            struct member_op *op = lists[i]->first;
            op_list_remove(lists[i], op);
            member_complete(m, op, e);
        }
    }
    hand_on(m);
}

static void tick(struct member *m)
{
    if (m->now_ms < m->tick_at_ms) {
        return;
    }
    /* After a pause (a suspended machine, a stopped process) one tick is enough: the missed ones measured nothing. */
    raft_tick(m->raft);
    m->tick_at_ms = m->now_ms + m->cfg.heartbeat_ms;
    engine_note_time(m->engine, m->now_ms); /* abandoned reads grow old also when nothing else happens */
    expire(m);
}

void *member_loop_main(void *arg)
{
    struct member *m = arg;
    bool busy = false;
    while (!atomic_load_explicit(&m->stopping, memory_order_acquire)) {
        m->now_ms = clock_now_ms(m->cfg.clock);
        uint64_t wait_ms = busy || m->tick_at_ms <= m->now_ms ? 0 : m->tick_at_ms - m->now_ms;
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        uint64_t deadline_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + wait_ms * 1000000u;
        struct qnode *items = wait_ms == 0 ? queue_take_all(&m->inbox) : queue_wait_all(&m->inbox, deadline_ns);
        m->now_ms = clock_now_ms(m->cfg.clock);
        take_inbox(m, items);
        tick(m);
        propose(m);
        start_read_round(m);
        act(m);
        release_reads(m);
        publish_status(m);
        duties_turn(m);
        hand_on(m);
        busy = false;
        for (unsigned i = 0; i < MEMBER_STEP_BUDGET; i++) {
            busy = engine_step(m->engine);
            if (!busy) {
                break;
            }
        }
        /* Duties may have proposed, a round of reads may have ended with others waiting, a campaign may have begun. */
        busy = busy || m->n_batch > 0 || (m->reads.first == NULL && m->reads_next.first != NULL) || may_act(m);
    }
    queue_close(&m->inbox);
    take_inbox(m, queue_take_all(&m->inbox));
    for (size_t i = 0; i < m->n_batch; i++) {
        buf_unref(&m->batch[i].data);
    }
    m->n_batch = 0;
    answer_everybody(m, ERR_STOPPED);
    return NULL;
}
