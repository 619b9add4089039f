/* post.c - one message posted to another member: the way while there is no stream. */
#include <stdio.h>
#include <stdlib.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"

struct post {
    struct peer_conn conn;
    struct net_call call;
    struct peer_ask ask;
    struct bytes body;    /* owned; lent to the call */
    struct bytes refusal; /* what the other one said instead of yes */
};

static struct post *of_call(struct net_call *c)
{
    return CONTAINER_OF(c, struct post, call);
}

static void post_free(struct post *s)
{
    peer_conn_remove(&s->conn);
    net_cancel(&s->call);
    bytes_deinit(&s->body);
    bytes_deinit(&s->refusal);
    free(s);
}

static void on_close(struct peer_conn *c)
{
    post_free(CONTAINER_OF(c, struct post, conn));
}

static bool on_data(struct net_call *c, struct slice piece)
{
    struct post *s = of_call(c);
    size_t room = PEER_REFUSAL_BYTES - s->refusal.len;
    bytes_add(&s->refusal, piece.data, piece.len < room ? piece.len : room);
    return true;
}

static void on_ended(struct net_call *c, enum peer_outcome outcome, const char *reason)
{
    struct post *s = of_call(c);
    struct peer *p = s->conn.peer;
    char text[PEER_REASON_BYTES];
    (void)snprintf(text, sizeof(text), "%s", outcome == PEER_OK ? "" : reason);
    if (outcome == PEER_OK) {
        const struct peer_answer answer = {.status = c->status, .body = bytes_slice(&s->refusal)};
        outcome = peer_check_post_answer(&answer);
        metrics_count(p->metrics.sent_bytes, s->body.len);
    }
    struct link_event ev = {
        .kind = LINK_EV_POSTED,
        .conn = s->conn.id,
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
    s->conn.id = a->conn;
    s->conn.close = on_close;
    peer_conn_add(p, &s->conn);
    struct raft_message *m = a->message;
    peer_message_encode(m, &s->body);
    raft_message_destroy(&m);
    peer_ask_post(&p->t->identity, false, &s->ask);
    const struct net_request r = {
        .method = s->ask.method,
        .url = p->urls[a->url],
        .path = s->ask.path,
        .headers = s->ask.headers,
        .n_headers = s->ask.n_headers,
        .body = bytes_slice(&s->body),
    };
    net_start(p->t->net, &s->call, &ops, &r);
}
