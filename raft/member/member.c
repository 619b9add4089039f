/* member.c - the part of member.h that any thread may call. */
#include "raft/member/internal.h"

void member_fail(struct member *m, enum err e, const char *what)
{
    if (!atomic_exchange_explicit(&m->failed, true, memory_order_acq_rel)) {
        m->cfg.failed(m->cfg.arg, e, what);
    }
}

struct engine *member_engine(struct member *m)
{
    return m->engine;
}

enum err member_submit(struct member *m, struct member_op *op)
{
    if (atomic_load_explicit(&m->stopping, memory_order_acquire)) {
        return ERR_STOPPED;
    }
    if (op->kind == MEMBER_PROPOSE) {
        uint64_t committed = atomic_load_explicit(&m->committed_index, memory_order_acquire);
        if (committed > engine_applied_index(m->engine) + MEMBER_APPLY_LAG_MAX) {
            return ERR_TOO_MANY_REQUESTS;
        }
        if (op->data->len > m->cfg.max_request_bytes) {
            return ERR_REQUEST_TOO_LARGE;
        }
    }
    if (queue_push(&m->inbox, &op->node) == OK) {
        return OK;
    }
    /* The loop closes its inbox after `stopping` was set. */
    return atomic_load_explicit(&m->stopping, memory_order_acquire) ? ERR_STOPPED : ERR_TOO_MANY_REQUESTS;
}

uint64_t member_next_request_id(struct member *m)
{
    return atomic_fetch_add_explicit(&m->next_id, 1, memory_order_relaxed) + 1;
}

bool member_read_is_current(const struct member *m)
{
    return atomic_load_explicit(&m->current, memory_order_acquire);
}

struct member_status member_status(const struct member *m)
{
    struct member_status s = {
        .leader = atomic_load_explicit(&m->leader, memory_order_acquire),
        .term = engine_applied_term(m->engine),
        .applied_index = engine_applied_index(m->engine),
        .is_leader = atomic_load_explicit(&m->is_leader, memory_order_acquire),
        .is_learner = atomic_load_explicit(&m->is_learner, memory_order_acquire),
    };
    uint64_t committed = atomic_load_explicit(&m->committed_index, memory_order_acquire);
    s.committed_index = committed > s.applied_index ? committed : s.applied_index;
    return s;
}

uint64_t member_id(const struct member *m)
{
    return m->cfg.member_id;
}

uint64_t member_cluster_id(const struct member *m)
{
    return m->cfg.cluster_id;
}

uint64_t member_request_timeout_ms(const struct member *m)
{
    return m->request_timeout_ms;
}

uint64_t member_now_ms(const struct member *m)
{
    return m->now_ms;
}

void member_answer(struct member *m, struct member_op *op, enum err e)
{
    member_complete(m, op, e);
}
