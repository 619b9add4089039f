/* promote.c - a learner becomes a voter. Only the leader knows whether it has caught up, so others ask there:
 *   POST /members/promote/<decimal id> -> 200 and the members; 404: no such member; 412: no learner, or one that is behind; anything else: try again.
 * Source: etcd-v3-api.md 6.5, etcd-server.md 3.8.
 */
#include "api/etcd/internal.h"

#include <inttypes.h>
#include <stdio.h>

static struct promotion *promotion_of(struct leader_ask *a)
{
    return CONTAINER_OF(a, struct promotion, ask);
}

const char *membership_error_text(enum err e)
{
    return e == ERR_MEMBER_NOT_FOUND     ? "membership: ID not found"
           : e == ERR_NOT_LEARNER_MEMBER ? "membership: can only promote a learner member"
                                         : status_of(e).text;
}

static void count_failure(struct etcd_server *s, enum err e)
{
    struct bytes labels = {0};
    metrics_label(&labels, "Reason", membership_error_text(e));
    bytes_add(&labels, "", 1);
    counter_add(metrics_counter(s->cfg.metrics, "etcd_server_learner_promote_failures",
                                "The total number of failed learner promotions (likely learner not ready) while this member is leader.",
                                (const char *)labels.data),
                1);
    bytes_deinit(&labels);
}

static void finish_change(struct request *r)
{
    struct leader_ask *a = ask_of(r);
    enum err e = r->op.err;
    if (e == ERR_NOT_LEADER) {
        ask_retry(a);
        return;
    }
    if (e == OK) {
        counter_add(a->loop->server->promote_successes, 1);
    } else {
        count_failure(a->loop->server, e);
    }
    ask_finish(a, e);
}

static void finish_wait(struct request *r)
{
    struct leader_ask *a = ask_of(r);
    if (r->op.err != OK) {
        count_failure(a->loop->server, r->op.err);
        ask_finish(a, r->op.err);
        return;
    }
    r->op.change = &promotion_of(a)->change;
    ask_submit(a, MEMBER_CHANGE, finish_change);
}

static void begin_here(struct leader_ask *a)
{
    ask_submit(a, MEMBER_WAIT_APPLIED, finish_wait);
}

static void write_question(struct leader_ask *a, struct peer_question *q)
{
    const struct promotion *p = promotion_of(a);
    (void)snprintf(q->path, sizeof(q->path), "/members/promote/%" PRIu64, p->id);
    q->authorization = p->authorization;
}

static bool contains(struct slice text, const char *words)
{
    return text.len > 0 && memmem(text.data, text.len, words, strlen(words)) != NULL;
}

static bool read_answer(struct leader_ask *a, const struct peer_question *q, enum err *e)
{
    struct slice text = bytes_slice(&q->answer);
    promotion_of(a)->elsewhere = true;
    if (q->status == 200) {
        *e = OK;
    } else if (q->status == 404) {
        *e = ERR_MEMBER_NOT_FOUND;
    } else if (q->status == 412 && contains(text, status_of(ERR_LEARNER_NOT_READY).text)) {
        *e = ERR_LEARNER_NOT_READY;
    } else if (q->status == 412 && contains(text, membership_error_text(ERR_NOT_LEARNER_MEMBER))) {
        *e = ERR_NOT_LEARNER_MEMBER;
    } else {
        return false;
    }
    return true;
}

static const struct leader_ask_kind promotion_kind = {.here = begin_here, .write = write_question, .read = read_answer};

void promotion_start(struct promotion *p, struct etcd_loop *l, struct grpc_call *call)
{
    p->ask.kind = &promotion_kind;
    p->change = (struct member_change){.kind = MEMBER_PROMOTE, .id = p->id};
    ask_start(&p->ask, l, call);
}
