/* ask.c - what only the leader can do: do it here, or ask the leader.
 *
 *     start -> leads? -> here ----------------> finish
 *        ^       |         \-> does not, after all --\
 *        |       v                                    v
 *        |     question -> final answer -> finish   retry: ASK_RETRY_MS later, until the request timeout
 *        \--------\------> no answer -----------------/
 *
 * A client that goes away stops the next try; what is under way ends by itself.
 */
#include "api/etcd/internal.h"

static void attempt(struct leader_ask *a);

void ask_finish(struct leader_ask *a, enum err e)
{
    struct grpc_call *c = a->call;
    a->err = e;
    a->done(a);
    if (c != NULL) {
        grpc_call_unref(&c); /* what was asked may be gone with it */
    }
}

static void unlist(struct leader_ask *a)
{
    *(a->prev == NULL ? &a->loop->asks : &a->prev->next) = a->next;
    if (a->next != NULL) {
        a->next->prev = a->prev;
    }
    a->prev = NULL;
    a->next = NULL;
}

static void fire_again(struct loop *l, struct loop_timer *t)
{
    (void)l;
    struct leader_ask *a = CONTAINER_OF(t, struct leader_ask, again);
    unlist(a);
    attempt(a);
}

void asks_drop(struct etcd_loop *l)
{
    while (l->asks != NULL) {
        struct leader_ask *a = l->asks;
        loop_timer_clear(l->loop, &a->again);
        unlist(a);
        ask_finish(a, ERR_STOPPED);
    }
}

void ask_retry(struct leader_ask *a)
{
    if (a->only_here) {
        ask_finish(a, ERR_NOT_LEADER);
        return;
    }
    uint64_t now = loop_now_ms(a->loop->loop);
    if (now >= a->deadline_ms) {
        ask_finish(a, member_status(a->loop->server->member).leader == 0 ? ERR_NO_LEADER : ERR_TIMEOUT);
        return;
    }
    a->next = a->loop->asks;
    if (a->next != NULL) {
        a->next->prev = a;
    }
    a->loop->asks = a;
    a->again.fire = fire_again;
    loop_timer_set(a->loop->loop, &a->again, now + ASK_RETRY_MS < a->deadline_ms ? now + ASK_RETRY_MS : a->deadline_ms);
}

void ask_submit(struct leader_ask *a, enum member_op_kind kind, void (*finish)(struct request *r))
{
    const struct request fresh = {.finish = finish};
    bool (*call)(struct member *m, struct member_op *op) = a->r.op.call;
    const struct member_change *change = a->r.op.change;
    a->r = fresh;
    a->r.op.kind = kind;
    a->r.op.call = call;
    a->r.op.change = change;
    request_submit_on(a->loop, &a->r);
}

static void on_question_answered(struct peer_question *q)
{
    struct leader_ask *a = CONTAINER_OF(q, struct leader_ask, question);
    enum err e = OK;
    bool final = q->err == OK && a->kind->read(a, q, &e);
    bytes_deinit(&q->answer);
    if (final) {
        ask_finish(a, e);
    } else {
        ask_retry(a);
    }
}

static void ask_leader(struct leader_ask *a, uint64_t leader)
{
    uint64_t now = loop_now_ms(a->loop->loop);
    uint64_t left = a->deadline_ms > now ? a->deadline_ms - now : 1;
    a->question = (struct peer_question){.member = leader, .method = "POST", .loop = a->loop->loop, .answered = on_question_answered,
                                         .timeout_ms = (uint32_t)(left < ASK_TRY_MS ? left : ASK_TRY_MS)};
    a->kind->write(a, &a->question);
    peer_ask_member(a->loop->server->peers, &a->question);
}

static void attempt(struct leader_ask *a)
{
    struct etcd_server *s = a->loop->server;
    if (a->call != NULL && grpc_call_ended(a->call)) {
        ask_finish(a, ERR_CANCELED);
        return;
    }
    struct member_status st = member_status(s->member);
    if (st.is_leader) {
        a->kind->here(a);
    } else if (a->only_here || st.leader == 0 || st.leader == member_id(s->member) || s->peers == NULL) {
        ask_retry(a);
    } else {
        ask_leader(a, st.leader);
    }
}

void ask_start(struct leader_ask *a, struct etcd_loop *l, struct grpc_call *call)
{
    a->loop = l;
    a->call = call == NULL ? NULL : grpc_call_ref(call);
    a->deadline_ms = loop_now_ms(l->loop) + member_request_timeout_ms(l->server->member);
    attempt(a);
}
