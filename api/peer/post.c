/* post.c - one message posted to another member: the way while there is no stream. */
#include <stdio.h>
#include <stdlib.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"

struct post {
    struct question q;
    struct bytes body; /* owned; lent to the call */
};

static struct post *of_call(struct net_call *c)
{
    return CONTAINER_OF(c, struct post, q.call);
}

static void post_free(struct post *s)
{
    question_end(&s->q);
    bytes_deinit(&s->body);
    free(s);
}

static void on_close(struct peer_conn *c)
{
    post_free(CONTAINER_OF(c, struct post, q.conn));
}

static bool on_data(struct net_call *c, struct slice piece)
{
    question_refused(&of_call(c)->q.refusal, piece);
    return true;
}

static void on_ended(struct net_call *c, enum peer_outcome outcome, const char *reason)
{
    struct post *s = of_call(c);
    struct peer *p = s->q.conn.peer;
    char text[PEER_REASON_BYTES];
    (void)snprintf(text, sizeof(text), "%s", outcome == PEER_OK ? "" : reason);
    if (outcome == PEER_OK) {
        const struct peer_answer answer = {.status = c->status, .body = bytes_slice(&s->q.refusal)};
        outcome = peer_check_post_answer(&answer);
        metrics_count(p->metrics.sent_bytes, s->body.len);
    }
    struct link_event ev = {
        .kind = LINK_EV_POSTED,
        .conn = s->q.conn.id,
        .outcome = outcome,
        .reason = text[0] != '\0' ? text : NULL,
    };
    post_free(s);
    peer_step(p, &ev);
}

void post_start(struct peer *p, const struct link_action *a)
{
    static const struct net_ops ops = {.data = on_data, .ended = on_ended};
    struct post *s = xcalloc(1, sizeof(*s));
    s->q.conn.close = on_close;
    struct raft_message *m = a->message;
    peer_message_encode(m, &s->body);
    raft_message_destroy(&m);
    peer_ask_post(&p->t->identity, false, &s->q.ask);
    question_start(&s->q, p, a, &ops, (struct net_request){.body = bytes_slice(&s->body)});
}
