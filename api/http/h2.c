/* h2.c - HTTP/2 sessions over nghttp2.
 *
 * Input goes through nghttp2_session_mem_recv as it was read; output is taken frame by frame from
 * nghttp2_session_mem_send into one buffer per turn. Streams use RFC 9218 priorities, whose queue
 * is cheaper than RFC 7540's tree and lets bulk replies give way to small ones.
 *
 * A peer that makes work without asking for anything is bounded here and not by nghttp2, whose own
 * limits know neither a rate for all frames (CVE-2019-9512 and its kin) nor streams that it had to
 * reset itself because of what the peer sent; its bound of resets (CVE-2023-44487) is far above
 * ours, that of CONTINUATIONs (CVE-2024-28182) is set to ours.
 *
 * Ping policy, graceful shutdown and their numbers are grpc-go's
 * (internal/transport/http2_server.go).
 */
#include <stdlib.h>

#include "api/http/conn.h"
#include "base/assert.h"
#include "base/mem.h"

#define FRAME_HEAD_BYTES 9u /* RFC 9113 4.1 */

struct allowance {
    uint32_t left;
    uint64_t at_ms; /* of the last refill */
};

enum goaway { GOAWAY_NONE, GOAWAY_NOTICE, GOAWAY_FINAL };

struct h2 {
    nghttp2_session *session; /* owned */
    struct h2_stream *streams;
    size_t n_streams;
    struct h2_stream *recent; /* the stream of the last lookup; may be NULL */
    int32_t head_id;          /* stream whose header block is coming in; 0: none */
    bool settings_seen;
    bool reset_strikes; /* we sent HEADERS or DATA since the last ping */
    bool ping_out;      /* a keepalive ping waits for its answer */
    bool ping_seen;     /* last_ping_ms is set */
    enum goaway goaway;
    bool calmed; /* the connection ends: it was a flood */
    unsigned strikes;
    uint32_t head_bytes; /* of the header list that comes in */
    struct allowance resets, chatter;
    uint8_t frame_head[FRAME_HEAD_BYTES]; /* of the frame that comes in */
    uint8_t n_frame_head;
    uint32_t frame_left; /* of its payload; at first the preface */
    uint64_t since_ms; /* start of the connection, or of the current header block */
    uint64_t last_read_ms;
    uint64_t last_ping_ms;
    uint64_t ping_out_ms;
    uint64_t goaway_ms;
    size_t partial_bytes;
    size_t queued_bytes;
};

static const uint8_t drain_ping[8] = {'d', 'r', 'a', 'i', 'n', 0, 0, 1};

/* --- timers: one per connection, due at the soonest of what is being waited for
 * ------------------------ */

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void rearm(struct conn *c)
{
    const struct h2 *h = c->h2;
    const struct http_config *cfg = c->hub->cfg;
    uint64_t at = UINT64_MAX;
    if (!h->settings_seen || h->head_id != 0) {
        at = sooner(at, h->since_ms + CONN_SETUP_MS);
    }
    if (h->ping_out) {
        at = sooner(at, h->ping_out_ms + cfg->keepalive_timeout_ms);
    } else if (cfg->keepalive_interval_ms != 0) {
        at = sooner(at, h->last_read_ms + cfg->keepalive_interval_ms);
    }
    if (h->goaway == GOAWAY_NOTICE) {
        at = sooner(at, h->goaway_ms + H2_GOAWAY_MS);
    }
    conn_timer_at(c, at);
}

static void final_goaway(struct conn *c)
{
    struct h2 *h = c->h2;
    if (h->goaway != GOAWAY_NOTICE) {
        return;
    }
    h->goaway = GOAWAY_FINAL;
    int32_t last = nghttp2_session_get_last_proc_stream_id(h->session);
    (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0);
    conn_mark_dirty(c);
    if (h->n_streams == 0) {
        conn_finish(c);
        return;
    }
    for (struct h2_stream *s = h->streams, *next; s != NULL; s = next) {
        next = s->next;
        c->hub->cfg->h2->draining(s);
    }
}

void h2_drain(struct conn *c)
{
    struct h2 *h = c->h2;
    if (h->goaway != GOAWAY_NONE) {
        return;
    }
    /* Streams that cross the notice on their way are still served; the answer to the ping tells
     * that the client has seen it. */
    h->goaway = GOAWAY_NOTICE;
    h->goaway_ms = loop_now_ms(c->hub->loop);
    (void)nghttp2_submit_shutdown_notice(h->session);
    (void)nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, drain_ping);
    conn_mark_dirty(c);
    rearm(c);
}

void h2_timer(struct conn *c)
{
    struct h2 *h = c->h2;
    const struct http_config *cfg = c->hub->cfg;
    uint64_t now = loop_now_ms(c->hub->loop);
    if (h->calmed) {
        conn_kill(c); /* it does not even take its last frame */
        return;
    }
    if ((!h->settings_seen || h->head_id != 0) && now >= h->since_ms + CONN_SETUP_MS) {
        conn_kill(c);
        return;
    }
    if (h->ping_out && now >= h->ping_out_ms + cfg->keepalive_timeout_ms) {
        conn_kill(c);
        return;
    }
    if (!h->ping_out && cfg->keepalive_interval_ms != 0 &&
        now >= h->last_read_ms + cfg->keepalive_interval_ms) {
        h->ping_out = true;
        h->ping_out_ms = now;
        (void)nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
        conn_mark_dirty(c);
    }
    if (h->goaway == GOAWAY_NOTICE && now >= h->goaway_ms + H2_GOAWAY_MS) {
        final_goaway(c);
    }
    rearm(c);
}

/* --- floods
 * ----------------------------------------------------------------------------------------- */

static void refill(struct allowance *a, uint32_t burst, uint32_t per_s, uint64_t now)
{
    uint64_t gained = (now - a->at_ms) * per_s / 1000u;
    if (gained > 0) {
        a->left = gained > burst - a->left ? burst : a->left + (uint32_t)gained;
        a->at_ms = a->left == burst ? now : a->at_ms + gained * 1000u / per_s;
    }
}

static bool spend(struct allowance *a, uint32_t n, uint32_t burst, uint32_t per_s, uint64_t now)
{
    refill(a, burst, per_s, now);
    bool enough = n <= a->left;
    a->left = enough ? a->left - n : 0;
    return enough;
}

static void earn(struct allowance *a, uint32_t n, uint32_t burst)
{
    a->left = n > burst - a->left ? burst : a->left + n;
}

/* GOAWAY with these words, and the end: what still comes is not looked at. */
static void calm_down(struct conn *c, const char *why)
{
    struct h2 *h = c->h2;
    if (h->calmed || h->goaway == GOAWAY_FINAL) {
        return;
    }
    h->calmed = true;
    h->goaway = GOAWAY_FINAL;
    (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(h->session),
                                NGHTTP2_ENHANCE_YOUR_CALM, (const uint8_t *)why, strlen(why));
    conn_finish(c);
}

/* A client that gives up 1,000 calls at once, or 200 a second for ever, is served as any other. One that goes on is served in small steps, so that its
 * calls, which it does not wait for, do not hold up those of clients that do, and in the end not at all. */
static void stream_unanswered(struct conn *c, const struct h2_stream *s)
{
    if (loop_now_ms(c->hub->loop) - s->since_ms >= H2_YOUNG_MS) {
        return;
    }
    if (!spend(&c->h2->resets, 1, H2_RESETS_BURST, H2_RESETS_PER_S, loop_now_ms(c->hub->loop))) {
        calm_down(c, "too_many_resets");
    }
}

/* Frames that carry no part of a request. A client sends at most two WINDOW_UPDATEs for each frame of
 * ours, and a PING to see how fast it was. */
static bool is_chatter(const uint8_t head[FRAME_HEAD_BYTES])
{
    switch (head[3]) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION: /* H2_CONTINUATIONS_MAX */
        return false;
    case NGHTTP2_DATA:
        return (head[0] | head[1] | head[2]) == 0 && (head[4] & NGHTTP2_FLAG_END_STREAM) == 0;
    default:
        return true;
    }
}

/* Looks at the heads of the frames, since nghttp2 does not report those that it ignores. false: it
 * has been too much. */
static bool count_frames(struct conn *c, struct slice in)
{
    struct h2 *h = c->h2;
    while (in.len > 0) {
        size_t skip = h->frame_left < in.len ? h->frame_left : in.len;
        h->frame_left -= (uint32_t)skip;
        in = slice_of(in.data + skip, in.len - skip);
        while (in.len > 0 && h->n_frame_head < FRAME_HEAD_BYTES) {
            h->frame_head[h->n_frame_head++] = in.data[0];
            in = slice_of(in.data + 1, in.len - 1);
        }
        if (h->n_frame_head < FRAME_HEAD_BYTES) {
            return true;
        }
        const uint8_t *head = h->frame_head;
        h->n_frame_head = 0;
        h->frame_left = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
        /* New settings are worked into every stream. */
        size_t n = head[3] == NGHTTP2_SETTINGS ? 1 + h->n_streams / H2_SETTINGS_STREAMS : 1;
        if (is_chatter(head) && !spend(&h->chatter, (uint32_t)n, H2_CHATTER_BURST, H2_CHATTER_PER_S, h->last_read_ms)) {
            return false;
        }
    }
    return true;
}

static void unlink_stream(struct h2 *h, struct h2_stream *s)
{
    if (h->recent == s) {
        h->recent = NULL;
    }
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
    *s->prev = s->next;
    h->n_streams--;
    h->partial_bytes -= s->partial_bytes;
    h->queued_bytes -= s->queued_bytes;
    conn_hold(s->conn, H2_STREAM_BYTES + s->partial_bytes + s->queued_bytes, 0);
    s->conn = NULL;
}

/* --- what nghttp2 reports
 * --------------------------------------------------------------------------- */

static struct h2_stream *find(nghttp2_session *session, struct h2 *h, int32_t id)
{
    if (h->recent == NULL || h->recent->id != id) {
        h->recent = nghttp2_session_get_stream_user_data(session, id);
    }
    return h->recent;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct conn *c = arg;
    struct h2 *h = c->h2;
    h->head_bytes = 0;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    h->head_id = frame->hd.stream_id;
    earn(&h->chatter, 1, H2_CHATTER_BURST); /* it may be reset: see stream_unanswered */
    if (h->queued_bytes > H2_QUEUED_BYTES_MAX || h->goaway == GOAWAY_FINAL) {
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    struct h2_stream *s = c->hub->cfg->h2->open(c->hub->app);
    s->conn = c;
    s->id = frame->hd.stream_id;
    s->since_ms = loop_now_ms(c->hub->loop);
    s->remote_closed = false;
    s->responded = false;
    s->sent = false;
    s->deferred = false;
    s->reset = false;
    s->partial_bytes = 0;
    s->queued_bytes = 0;
    s->next = h->streams;
    s->prev = &h->streams;
    if (s->next != NULL) {
        s->next->prev = &s->next;
    }
    h->streams = s;
    h->n_streams++;
    conn_hold(c, 0, H2_STREAM_BYTES);
    h->recent = s;
    (void)nghttp2_session_set_stream_user_data(session, s->id, s);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    (void)flags;
    struct conn *c = arg;
    struct h2 *h = c->h2;
    h->head_bytes += (uint32_t)(name_len + value_len + 32);
    if (h->head_bytes > 2 * H2_HEADER_LIST_BYTES_MAX) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0; /* trailers of a request mean nothing in gRPC */
    }
    struct h2_stream *s = find(session, h, frame->hd.stream_id);
    if (s == NULL || s->reset) {
        return 0;
    }
    if (h->head_bytes > H2_HEADER_LIST_BYTES_MAX) {
        h2_reset(s, NGHTTP2_FRAME_SIZE_ERROR);
        return 0;
    }
    c->hub->cfg->h2->header(s, slice_of(name, name_len), slice_of(value, value_len));
    return 0;
}

static void ping_received(struct conn *c, const nghttp2_ping *ping)
{
    struct h2 *h = c->h2;
    if ((ping->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
        if (memcmp(ping->opaque_data, drain_ping, sizeof(drain_ping)) == 0) {
            final_goaway(c);
        }
        return;
    }
    uint64_t now = loop_now_ms(c->hub->loop);
    uint64_t apart = h->n_streams == 0 ? H2_IDLE_PING_MS : c->hub->cfg->keepalive_min_ms;
    if (h->reset_strikes) {
        h->reset_strikes = false;
        h->strikes = 0;
    } else if (h->ping_seen && now < h->last_ping_ms + apart) {
        h->strikes++;
    }
    h->ping_seen = true;
    h->last_ping_ms = now;
    if (h->strikes > H2_PING_STRIKES_MAX) {
        calm_down(c, "too_many_pings");
    }
}

static void request_received(struct conn *c, struct h2_stream *s, bool ended)
{
    c->h2->head_id = 0;
    if (s == NULL || s->reset) {
        return;
    }
    s->remote_closed = ended;
    c->hub->cfg->h2->request(s);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct conn *c = arg;
    struct h2 *h = c->h2;
    bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            request_received(c, find(session, h, frame->hd.stream_id), ended);
            break;
        }
        /* The trailers of a request end its body as an empty DATA frame does. */
        __attribute__((fallthrough));
    case NGHTTP2_DATA:
        if (ended) {
            struct h2_stream *s = find(session, h, frame->hd.stream_id);
            if (s != NULL && !s->remote_closed) {
                s->remote_closed = true;
                if (!s->reset) {
                    c->hub->cfg->h2->half_closed(s);
                }
            }
        }
        break;
    case NGHTTP2_SETTINGS:
        h->settings_seen = true;
        break;
    case NGHTTP2_PING:
        ping_received(c, &frame->ping);
        break;
    default: /* the rest is nghttp2's business */
        break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *arg)
{
    (void)flags;
    struct conn *c = arg;
    struct h2_stream *s = find(session, c->h2, id);
    if (s != NULL && !s->reset) {
        c->hub->cfg->h2->data(s, slice_of(data, len));
    }
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct conn *c = arg;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) {
        return 0;
    }
    c->h2->reset_strikes = true;
    earn(&c->h2->chatter, 3, H2_CHATTER_BURST);
    struct h2_stream *s = find(session, c->h2, frame->hd.stream_id);
    if (s != NULL) {
        s->sent = true;
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        return 0;
    }
    /* The answer is complete: a client that is still sending may stop. */
    if (s != NULL && !s->remote_closed && !s->reset) {
        h2_reset(s, NGHTTP2_NO_ERROR);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *arg)
{
    struct conn *c = arg;
    struct h2 *h = c->h2;
    if (h->head_id == id) {
        h->head_id = 0;
    }
    struct h2_stream *s = find(session, h, id);
    if (s == NULL) {
        h->recent = NULL;
        return 0;
    }
    if (s->sent) {
        earn(&h->resets, 1, H2_RESETS_BURST);
    } else if (!s->reset) {
        stream_unanswered(c, s); /* by the peer, or by nghttp2 for what the peer sent */
    }
    unlink_stream(h, s);
    c->hub->cfg->h2->closed(s, error_code);
    return 0;
}

static ssize_t on_pull(nghttp2_session *session, int32_t id, uint8_t *buf, size_t room,
                       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    (void)session;
    (void)id;
    struct conn *c = arg;
    struct h2_stream *s = source->ptr;
    bool last = false;
    int64_t n = c->hub->cfg->h2->pull(s, buf, room, &last);
    if (n < 0) {
        s->reset = true; /* nghttp2 sends the RST_STREAM */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    } else if (n == 0) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

/* --- session
 * ---------------------------------------------------------------------------------------- */

void h2_options_create(struct hub *h)
{
    ASSERT(nghttp2_session_callbacks_new(&h->h2_callbacks) == 0);
    nghttp2_session_callbacks *cb = h->h2_callbacks;
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    ASSERT(nghttp2_option_new(&h->h2_option) == 0);
    nghttp2_option *o = h->h2_option;
    nghttp2_option_set_no_closed_streams(o, 1);
    /* Go's clients put whole URLs into :authority, which strict checking refuses; what matters of a
     * request's head is checked where it is used. */
    nghttp2_option_set_no_http_messaging(o, 1);
    nghttp2_option_set_max_outbound_ack(o, H2_ACKS_MAX);
    nghttp2_option_set_max_settings(o, H2_SETTINGS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(o, UINT32_MAX, UINT32_MAX); /* stream_unanswered */
    nghttp2_option_set_max_continuations(o, H2_CONTINUATIONS_MAX);
}

void h2_options_destroy(struct hub *h)
{
    nghttp2_session_callbacks_del(h->h2_callbacks);
    nghttp2_option_del(h->h2_option);
}

bool h2_start(struct conn *c)
{
    struct h2 *h = xcalloc(1, sizeof(*h));
    c->h2 = h;
    if (nghttp2_session_server_new3(&h->session, c->hub->h2_callbacks, c, c->hub->h2_option,
                                    &c->hub->slab.mem) != 0) {
        return false;
    }
    uint32_t streams = c->hub->cfg->streams_max;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
         streams < H2_STREAMS_MAX ? streams : H2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_HEADER_LIST_BYTES_MAX},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) !=
            0 ||
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                              (int32_t)H2_CONN_WINDOW_BYTES) != 0) {
        return false;
    }
    h->since_ms = loop_now_ms(c->hub->loop);
    h->last_read_ms = h->since_ms;
    h->resets = (struct allowance){H2_RESETS_BURST, h->since_ms};
    h->chatter = (struct allowance){H2_CHATTER_BURST, h->since_ms};
    h->frame_left = NGHTTP2_CLIENT_MAGIC_LEN;
    rearm(c);
    if (c->hub->draining) {
        h2_drain(c);
    }
    return true;
}

void h2_stop(struct conn *c)
{
    struct h2 *h = c->h2;
    while (h->streams != NULL) {
        struct h2_stream *s = h->streams;
        unlink_stream(h, s);
        c->hub->cfg->h2->closed(s, NGHTTP2_CANCEL);
    }
    nghttp2_session_del(h->session);
    free(h);
    c->h2 = NULL;
}

void h2_input(struct conn *c, struct slice in)
{
    struct h2 *h = c->h2;
    if (h->calmed) {
        return;
    }
    h->last_read_ms = loop_now_ms(c->hub->loop);
    if (h->ping_out) {
        h->ping_out = false; /* any byte proves that the peer lives, as in grpc-go */
        rearm(c);
    }
    if (!count_frames(c, in)) {
        calm_down(c, "too_many_frames");
        return;
    }
    bool settled = h->settings_seen && h->head_id == 0;
    ssize_t n = nghttp2_session_mem_recv(h->session, in.data, in.len);
    if (n < 0) {
        conn_kill(c);
        return;
    }
    refill(&h->resets, H2_RESETS_BURST, H2_RESETS_PER_S, h->last_read_ms);
    c->wary = H2_RESETS_BURST - h->resets.left > H2_RESETS_FEW;
    conn_mark_dirty(c);
    if (settled && h->head_id != 0) {
        h->since_ms = h->last_read_ms;
        rearm(c);
    }
    if (c->writing && nghttp2_session_get_outbound_queue_size(h->session) > H2_FRAMES_WAITING_MAX) {
        conn_reading(c, false);
    }
}

bool h2_gather(struct conn *c, struct bytes *out)
{
    struct h2 *h = c->h2;
    while (out->len < CONN_WRITE_BYTES) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);
        if (n < 0) {
            conn_kill(c);
            return false;
        }
        if (n == 0) {
            break;
        }
        bytes_add(out, p, (size_t)n);
    }
    conn_reading(c, true);
    if (h->calmed) {
        return false; /* the GOAWAY is ahead of all DATA, and who floods is owed no more */
    }
    if (nghttp2_session_want_write(h->session) != 0) {
        return out->len >= CONN_WRITE_BYTES;
    }
    if (nghttp2_session_want_read(h->session) == 0 ||
        (h->goaway == GOAWAY_FINAL && h->n_streams == 0)) {
        c->finish = true;
    }
    return false;
}

/* --- for the owners of streams
 * ---------------------------------------------------------------------- */

void h2_respond(struct h2_stream *s, const nghttp2_nv *head, size_t n, bool body)
{
    if (s->conn == NULL || s->reset) {
        return;
    }
    ASSERT(!s->responded);
    s->responded = true;
    const nghttp2_data_provider provider = {.source.ptr = s, .read_callback = on_pull};
    if (nghttp2_submit_response(s->conn->h2->session, s->id, head, n, body ? &provider : NULL) !=
        0) {
        conn_kill(s->conn); /* out of memory */
        return;
    }
    conn_mark_dirty(s->conn);
}

void h2_trailers(struct h2_stream *s, const nghttp2_nv *trailers, size_t n)
{
    if (s->conn != NULL && nghttp2_submit_trailer(s->conn->h2->session, s->id, trailers, n) != 0) {
        conn_kill(s->conn);
    }
}

const char *h2_common_name(const struct h2_stream *s)
{
    return s->conn != NULL ? s->conn->common_name : "";
}

void h2_remote(const struct h2_stream *s, char *out, size_t room)
{
    out[0] = '\0';
    if (s->conn != NULL && s->conn->io->remote != NULL) {
        s->conn->io->remote(s->conn, out, room);
    }
}

bool h2_is_secure(const struct h2_stream *s)
{
    return s->conn != NULL && s->conn->secure;
}

void h2_resume(struct h2_stream *s)
{
    if (s->conn == NULL || !s->deferred) {
        return;
    }
    s->deferred = false;
    (void)nghttp2_session_resume_data(s->conn->h2->session, s->id);
    conn_mark_dirty(s->conn);
}

void h2_reset(struct h2_stream *s, uint32_t error_code)
{
    if (s->conn == NULL || s->reset) {
        return;
    }
    s->reset = true;
    (void)nghttp2_submit_rst_stream(s->conn->h2->session, NGHTTP2_FLAG_NONE, s->id, error_code);
    conn_mark_dirty(s->conn);
}

void h2_urgency(struct h2_stream *s, int urgency, bool shared)
{
    if (s->conn == NULL) {
        return;
    }
    const nghttp2_extpri pri = {.urgency = (uint32_t)urgency, .inc = shared ? 1 : 0};
    (void)nghttp2_session_change_extpri_stream_priority(s->conn->h2->session, s->id, &pri, 1);
}

bool h2_partial_set(struct h2_stream *s, size_t bytes)
{
    if (s->conn == NULL) {
        return true;
    }
    struct h2 *h = s->conn->h2;
    size_t others = h->partial_bytes - s->partial_bytes;
    if (bytes > 0 && others + bytes > H2_PARTIAL_BYTES_MAX) {
        return false;
    }
    h->partial_bytes = others + bytes;
    conn_hold(s->conn, s->partial_bytes, bytes);
    s->partial_bytes = bytes;
    return true;
}

void h2_queued_set(struct h2_stream *s, size_t bytes)
{
    if (s->conn == NULL) {
        return;
    }
    s->conn->h2->queued_bytes += bytes - s->queued_bytes;
    conn_hold(s->conn, s->queued_bytes, bytes);
    s->queued_bytes = bytes;
}
