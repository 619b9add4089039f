/* stream_in.c - a stream that this member dialled and reads: a GET whose answer never ends. */
#include <stdio.h>
#include <stdlib.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"

struct stream_in {
    struct question q;
    struct peer_decoder decoder;
    enum peer_stream stream;
    bool up;       /* the other member agreed, and the decoder is ready */
    bool told;     /* and the link knows */
    bool received; /* bytes that the link has not heard of */
    bool broken;   /* given up by this side: `outcome`, `reason` */
    enum peer_outcome outcome;
    char reason[PEER_REASON_BYTES];
};

static struct stream_in *of_call(struct net_call *c)
{
    return CONTAINER_OF(c, struct stream_in, q.call);
}

static void stream_free(struct stream_in *s)
{
    question_end(&s->q);
    peer_decoder_deinit(&s->decoder);
    free(s);
}

static void on_close(struct peer_conn *c)
{
    stream_free(CONTAINER_OF(c, struct stream_in, q.conn));
}

static enum peer_outcome check_answer(struct stream_in *s, unsigned *extras)
{
    const struct peer_answer answer = {
        .status = s->q.call.status,
        .version = slice_str(s->q.call.version),
        .extras = slice_str(s->q.call.extras),
        .body = bytes_slice(&s->q.refusal),
    };
    return peer_check_stream_answer(&s->q.conn.peer->t->identity, &answer, extras);
}

/* --- inside libcurl ------------------------------------------------------------------------------------------- */

static void on_head(struct net_call *c)
{
    struct stream_in *s = of_call(c);
    unsigned extras = 0;
    if (c->status != 200) {
        return; /* the body says why */
    }
    s->outcome = check_answer(s, &extras);
    s->up = s->outcome == PEER_OK;
    s->broken = !s->up;
    if (s->up) {
        peer_decoder_init(&s->decoder, s->stream, s->q.conn.peer->t->identity.member, s->q.conn.peer->id, extras > 0);
    }
}

static void take_message(struct stream_in *s, struct raft_message *m)
{
    struct peer_verdict verdict = {.endpoint = PEER_ENDPOINT_STREAM, .from = s->q.conn.peer->id};
    transport_deliver(s->q.conn.peer->t, m, &verdict);
}

static bool decode(struct stream_in *s, struct slice in)
{
    struct err_ctx ec = {{0}};
    enum peer_frame frame = PEER_FRAME_HEARTBEAT;
    while (frame != PEER_FRAME_NONE) {
        struct raft_message *m = NULL;
        enum err e = peer_decode(&s->decoder, &in, &frame, &m, &ec);
        if (e != OK) {
            (void)snprintf(s->reason, sizeof(s->reason), "%s", ec.text[0] != '\0' ? ec.text : err_text(e));
            metrics_count(s->q.conn.peer->metrics.received_failures, 1);
            return false;
        }
        if (frame == PEER_FRAME_MESSAGE) {
            take_message(s, m);
        } /* a heartbeat says nothing but that bytes came; no kind of extra message is known yet */
    }
    return true;
}

static bool on_data(struct net_call *c, struct slice piece)
{
    struct stream_in *s = of_call(c);
    if (s->broken) {
        return false;
    }
    if (!s->up) {
        question_refused(&s->q.refusal, piece);
        return s->q.refusal.len < PEER_REFUSAL_BYTES;
    }
    s->received = true;
    metrics_count(s->q.conn.peer->metrics.received_bytes, piece.len);
    s->broken = !decode(s, piece);
    return !s->broken;
}

/* --- outside ---------------------------------------------------------------------------------------------------- */

static void tell_up(struct stream_in *s)
{
    s->told = true;
    struct link_event ev = {.kind = LINK_EV_DIALED, .conn = s->q.conn.id, .outcome = PEER_OK};
    peer_step(s->q.conn.peer, &ev);
}

static void end(struct stream_in *s, enum peer_outcome outcome, bool clean, const char *reason)
{
    struct peer *p = s->q.conn.peer;
    char text[PEER_REASON_BYTES];
    (void)snprintf(text, sizeof(text), "%s", reason);
    struct link_event ev = {
        .kind = s->told ? LINK_EV_LOST : LINK_EV_DIALED,
        .conn = s->q.conn.id,
        .outcome = outcome,
        .clean = clean,
        .reason = text[0] != '\0' ? text : NULL,
    };
    stream_free(s);
    peer_step(p, &ev);
}

static void on_settled(struct net_call *c)
{
    struct stream_in *s = of_call(c);
    struct peer *p = s->q.conn.peer;
    uint64_t id = s->q.conn.id;
    if (s->up && !s->told) {
        tell_up(s);
    }
    if (peer_conn_find(p, id) == NULL) {
        return; /* the link closed it: `s` is gone */
    }
    if (s->received) {
        s->received = false;
        struct link_event ev = {.kind = LINK_EV_RECEIVED, .conn = id};
        peer_step(p, &ev);
    }
    if (peer_conn_find(p, id) != NULL && s->broken) {
        if (s->told) {
            log_warn(p->t->cfg.log, "failed to decode a message from remote peer", F_HEX("remote-peer-id", p->id),
                     F_STR("stream", peer_stream_name(s->stream)), F_STR("error", s->reason));
        }
        end(s, s->outcome, false, s->reason);
    }
}

static void on_ended(struct net_call *c, enum peer_outcome outcome, const char *reason)
{
    struct stream_in *s = of_call(c);
    unsigned extras = 0;
    if (s->told) {
        end(s, PEER_FAILED, outcome == PEER_OK && peer_decoder_at_boundary(&s->decoder), outcome == PEER_OK ? "EOF" : reason);
    } else if (outcome == PEER_OK || s->q.refusal.len >= PEER_REFUSAL_BYTES) {
        end(s, check_answer(s, &extras), false, "");
    } else {
        end(s, outcome, false, reason);
    }
}

void stream_in_dial(struct peer *p, const struct link_action *a)
{
    static const struct net_ops ops = {.head = on_head, .data = on_data, .settled = on_settled, .ended = on_ended};
    struct stream_in *s = xcalloc(1, sizeof(*s));
    s->q.conn.close = on_close;
    s->stream = (enum peer_stream)a->path;
    peer_ask_stream(&p->t->identity, s->stream, p->id, &s->q.ask);
    question_start(&s->q, p, a, &ops, (struct net_request){.own_connection = true});
}
