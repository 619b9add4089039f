/* stream_out.c - a stream that another member dialled and this one writes: a chunked answer that never ends.
 *
 * Messages stay in the link until the turn ends; then all that gathered is encoded and given to the connection in one piece, which the server
 * writes at the end of the same turn. A connection that takes too little keeps at most PEER_QUEUED_BYTES here; the link bounds the rest.
 */
#include <stdlib.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"

struct stream_out {
    struct peer_conn conn;
    struct http_exchange *exchange;
    enum peer_stream stream;
    struct peer_encoder encoder;
    struct stream_out *next_dirty;
    bool dirty;
    bool full; /* the link has more, the connection takes none */
};

static struct stream_out *of_conn(struct peer_conn *c)
{
    return CONTAINER_OF(c, struct stream_out, conn);
}

static void mark_dirty(struct stream_out *s)
{
    struct peer_transport *t = s->conn.peer->t;
    if (!s->dirty) {
        s->dirty = true;
        s->next_dirty = t->dirty;
        t->dirty = s;
    }
}

static void stream_free(struct stream_out *s)
{
    if (s->dirty) {
        struct stream_out **at = &s->conn.peer->t->dirty;
        while (*at != s) {
            at = &(*at)->next_dirty;
        }
        *at = s->next_dirty;
    }
    peer_conn_remove(&s->conn);
    free(s);
}

static void on_close(struct peer_conn *c)
{
    struct stream_out *s = of_conn(c);
    if (http_stream_drained(s->exchange)) {
        http_stream_end(s->exchange); /* the reader sees an end in good order */
    } else {
        http_exchange_kill(s->exchange);
    }
    stream_free(s);
}

/* The reader went, or a write failed. */
static void on_gone(void *arg)
{
    struct stream_out *s = arg;
    struct peer *p = s->conn.peer;
    struct link_event ev = {.kind = LINK_EV_DETACHED, .conn = s->conn.id, .clean = true, .reason = "connection closed by remote peer"};
    http_stream_end(s->exchange);
    stream_free(s);
    peer_step(p, &ev);
}

static void on_written(void *arg)
{
    struct stream_out *s = arg;
    struct peer_transport *t = s->conn.peer->t;
    if (s->full && http_stream_queued(s->exchange) < PEER_QUEUED_BYTES / 2) {
        s->full = false;
        mark_dirty(s);
        loop_again(t->cfg.loop); /* the turn's own writing is over when the server reports this */
    }
    struct link_event ev = {.kind = LINK_EV_PROGRESS, .conn = s->conn.id, .drained = http_stream_drained(s->exchange)};
    peer_step(s->conn.peer, &ev);
}

/* --- what links order --------------------------------------------------------------------------------------------- */

void stream_out_attach(struct peer *p, struct http_exchange *x, const struct peer_verdict *v, const char *headers)
{
    struct stream_out *s = xcalloc(1, sizeof(*s));
    s->conn.id = link_new_conn(p->link);
    s->conn.close = on_close;
    s->exchange = x;
    s->stream = v->stream;
    peer_encoder_init(&s->encoder, v->stream, p->t->identity.member, p->id);
    http_stream_begin(x, 200, NULL, headers);
    http_exchange_on_gone(x, on_gone, s);
    http_stream_on_written(x, on_written, s);
    peer_conn_add(p, &s->conn);
    struct link_event ev = {.kind = LINK_EV_ATTACHED, .stream = v->stream, .conn = s->conn.id};
    peer_step(p, &ev);
}

void stream_out_write(struct peer_conn *c)
{
    mark_dirty(of_conn(c));
}

void stream_out_beat(struct peer_conn *c)
{
    struct stream_out *s = of_conn(c);
    struct bytes *scratch = &c->peer->t->scratch;
    bytes_reset(scratch);
    peer_encode_heartbeat(&s->encoder, scratch);
    http_stream_send(s->exchange, bytes_slice(scratch));
}

/* --- the end of a turn ---------------------------------------------------------------------------------------------- */

static void write_stream(struct peer_transport *t, struct stream_out *s)
{
    struct peer *p = s->conn.peer;
    struct bytes *scratch = &t->scratch;
    size_t queued = http_stream_queued(s->exchange);
    bytes_reset(scratch);
    s->full = queued >= PEER_QUEUED_BYTES;
    while (!s->full) {
        struct raft_message *m = link_take(p->link, s->stream, s->conn.id);
        if (m == NULL) {
            break;
        }
        peer_encode(&s->encoder, m, scratch);
        raft_message_destroy(&m);
        s->full = queued + scratch->len >= PEER_QUEUED_BYTES;
    }
    if (scratch->len > 0) {
        metrics_count(p->metrics.sent_bytes, scratch->len);
        http_stream_send(s->exchange, bytes_slice(scratch));
    }
    if (scratch->cap > 4u * PEER_QUEUED_BYTES) {
        bytes_deinit(scratch); /* one huge message does not stay in memory */
    }
}

void stream_out_turn(struct peer_transport *t)
{
    while (t->dirty != NULL) {
        struct stream_out *s = t->dirty;
        t->dirty = s->next_dirty;
        s->dirty = false;
        write_stream(t, s);
    }
}
