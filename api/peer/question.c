/* question.c - what requests of a link to the other member have in common: how they begin, what of a refusal is kept, how they end. */
#include "api/peer/internal.h"

void question_start(struct question *q, struct peer *p, const struct link_action *a, const struct net_ops *ops, struct net_request r)
{
    q->conn.id = a->conn;
    peer_conn_add(p, &q->conn);
    r.method = q->ask.method;
    r.url = p->urls[a->url];
    r.path = q->ask.path;
    r.headers = q->ask.headers;
    r.n_headers = q->ask.n_headers;
    net_start(p->t->net, &q->call, ops, &r);
}

void question_end(struct question *q)
{
    peer_conn_remove(&q->conn);
    net_cancel(&q->call);
    bytes_deinit(&q->refusal);
}

void question_refused(struct bytes *refusal, struct slice piece)
{
    size_t room = PEER_REFUSAL_BYTES - refusal->len;
    bytes_add(refusal, piece.data, piece.len < room ? piece.len : room);
}
