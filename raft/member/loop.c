/* loop.c - one turn of the member.
 *
 * Take everything from the inbox (ops from the I/O loops, messages from other members, news from log, store and links), tick when it
 * is time, give the gathered proposals to raft in one call, do what raft says, apply, hand answers and revisions back to the ports, then look
 * for background work. A turn never waits for a disk or a socket.
 */
#include "raft/member/internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

static void publish_status(struct member *m)
{
    struct raft_status rs;
    raft_status(m->raft, &rs);
    const struct raft_conf_state *conf = raft_conf(m->raft);
    atomic_store_explicit(&m->committed_index, rs.hard_state.commit, memory_order_release);
    atomic_store_explicit(&m->is_learner, rs.is_learner, memory_order_release);
    bool sole = conf->voters.n == 1 && conf->voters.id[0] == m->cfg.member_id && conf->voters_outgoing.n == 0;
    bool current = sole && rs.role == RAFT_LEADER && engine_applied_term(m->engine) == rs.hard_state.term && m->apply.n == 0;
    atomic_store_explicit(&m->current, current, memory_order_release);
    if (sole && rs.leader == RAFT_NONE && rs.role == RAFT_FOLLOWER) {
        raft_campaign(m->raft); /* alone: nobody to wait for, nobody to disturb */
    }
}

/* --- the inbox ------------------------------------------------------------------------------------------ */

static void take_op(struct member *m, struct member_op *op)
{
    if (atomic_load_explicit(&m->stopping, memory_order_acquire)) {
        struct buf *data = op->data;
        op->data = NULL;
        buf_unref(&data);
        if (op->kind == MEMBER_INSTALL) {
            member_stage_discard(m, &op->staged);
            raft_message_destroy(&op->message);
        }
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
        m->store.request(m->store.arg, op);
        return;
    case MEMBER_COMPACTED:
        if (m->compacted_to >= op->revision) {
            member_complete(m, op, OK);
        } else {
            op_list_add(&m->compaction_waits, op);
        }
        return;
    case MEMBER_CHANGE:
        change_begin(m, op);
        return;
    case MEMBER_TRANSFER:
        transfer_begin(m, op);
        return;
    case MEMBER_WAIT_APPLIED:
        read_wait_applied(m, op);
        return;
    case MEMBER_CONFIRM_LEADER:
        read_confirm_leader(m, op);
        return;
    case MEMBER_INSTALL:
        install_begin(m, op);
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

static void take_news(struct member *m, struct news *n)
{
    switch (n->head.kind) {
    case MEMBER_NEWS_STORED:
        /* Up to what the last but one commit holds, without its last entry: that is where the commit's witness is, nearly
         * always, and as long as it is in the log the two can be compared. */
        if (n->index_before > 1) {
            m->log.release(m->log.arg, n->index_before - 1);
        }
        break;
    case MEMBER_NEWS_COMPACTED:
        ops_compacted(m, n->revision);
        break;
    case MEMBER_NEWS_INSTALLED:
        install_placed(m, n->op);
        break;
    case MEMBER_NEWS_MESSAGE:
        atomic_fetch_sub_explicit(&m->n_messages, 1, memory_order_relaxed);
        follow_message(m, n->message);
        break;
    case MEMBER_NEWS_LINK:
        follow_link(m, n->id, n->link);
        break;
    case MEMBER_NEWS_VERSIONS:
        duties_versions(m, n->version, n->all);
        break;
    case MEMBER_NEWS_LOG:
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
        UNREACHABLE();
    }
    free(n);
}

static void take_inbox(struct member *m, struct qnode *node)
{
    while (node != NULL) {
        struct qnode *next = node->next;
        struct inbox_head *head = (struct inbox_head *)(void *)node;
        if (head->kind == MEMBER_NEWS_LOG) {
            act_on_durable(m, CONTAINER_OF(head, struct log_batch, news));
        } else if (head->kind > MEMBER_NEWS_LOG) {
            take_news(m, CONTAINER_OF(head, struct news, head));
        } else {
            take_op(m, CONTAINER_OF(node, struct member_op, node));
        }
        node = next;
        if (m->install != NULL && !m->installing) {
            act(m); /* whether raft takes the snapshot shows at once, before other messages change the picture */
            if (m->install != NULL && !m->installing) {
                install_refused(m);
            }
        }
    }
}

/* --- one turn --------------------------------------------------------------------------------------------------------- */

static void tick(struct member *m)
{
    if (m->started_ms == 0) {
        m->started_ms = m->now_ms;
        m->last_tick_ms = m->now_ms;
        m->forward_at_ms = m->now_ms;
    }
    if (m->now_ms < m->tick_at_ms) {
        return;
    }
    /* After a pause (a suspended machine, a stopped process) one tick is enough: the missed ones measured nothing. */
    bool alone = m->cfg.transport == NULL;
    if (alone || atomic_load_explicit(&m->is_leader, memory_order_relaxed) || !follow_disk_hangs(m)) {
        raft_tick(m->raft); /* without it there is no campaign: who cannot write down what it promises should not lead */
    }
    bool leads = atomic_load_explicit(&m->is_leader, memory_order_relaxed);
    if (leads && m->now_ms - m->last_tick_ms > 3u * m->cfg.heartbeat_ms) {
        m->doubt_until_ms = m->now_ms + 2u * m->cfg.election_ms; /* others may have elected meanwhile: by then it shows */
        counter_add(m->heartbeat_failures, 1);
        log_warn(m->cfg.log, "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk",
                 F_UINT("heartbeat-interval-ms", m->cfg.heartbeat_ms), F_UINT("took-ms", m->now_ms - m->last_tick_ms));
    }
    m->last_tick_ms = m->now_ms;
    m->tick_at_ms = m->now_ms + m->cfg.heartbeat_ms;
    engine_note_time(m->engine, m->now_ms); /* abandoned reads grow old also when nothing else happens */
    ops_expire(m);
}

bool member_turn(struct member *m)
{
    m->now_ms = clock_now_ms(m->cfg.clock);
    take_inbox(m, queue_take_all(&m->inbox));
    tick(m);
    follow_turn(m);
    ops_propose(m);
    read_start_round(m);
    act(m);
    apply_some(m);
    read_release(m);
    publish_status(m);
    transfer_turn(m);
    duties_turn(m);
    act_flush_sends(m);
    ops_hand_on(m);
    bool busy = false;
    for (unsigned i = 0; i < MEMBER_STEP_BUDGET; i++) {
        busy = engine_step(m->engine);
        if (!busy) {
            break;
        }
    }
    /* Duties may have proposed, a round of reads may have ended with others waiting, a campaign may have begun. */
    bool proposals = m->n_batch > 0 && !m->batch_waits;
    return busy || proposals || (m->reads.first == NULL && m->reads_next.first != NULL) || act_may(m) || apply_may(m);
}

uint64_t member_wake_at_ms(const struct member *m)
{
    uint64_t at = m->tick_at_ms;
    if (m->gone_leader != RAFT_NONE && m->campaign_at_ms < at) {
        at = m->campaign_at_ms;
    }
    if (m->cfg.fast_forward && !m->forwarded && m->forward_at_ms < at) {
        at = m->forward_at_ms;
    }
    return at;
}

void member_last_turn(struct member *m)
{
    atomic_store_explicit(&m->stopping, true, memory_order_release);
    queue_close(&m->inbox);
    m->now_ms = clock_now_ms(m->cfg.clock);
    take_inbox(m, queue_take_all(&m->inbox));
    ops_answer_all(m, ERR_STOPPED);
    act_flush_sends(m);
}
