/* call.c - the connection's life, unary calls and streams, on top of session.c. */
#include "api/client/client_internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"

enum err client_connect_with(const char *target, const struct client_options *o,
                             uint32_t timeout_ms, struct client **out, struct err_ctx *ec)
{
    struct client *c = xcalloc(1, sizeof(*c));
    c->fd = -1;
    c->next_deadline_ms = UINT64_MAX;
    list_init(&c->live);
    list_init(&c->streams);
    list_init(&c->over);
    c->keepalive_ms = o->keepalive_ms;
    c->keepalive_timeout_ms = o->keepalive_timeout_ms;
    enum err e = client_dial(c, target, o, timeout_ms, ec);
    if (e != OK) {
        goto fail;
    }
    c->heard_ms = clock_now_ms(clock_real());
    c->read_buffer = xalloc(READ_MAX);
    e = client_session_create(c);
    if (e != OK) {
        (void)err_set(ec, e, "HTTP/2 session for %s", target);
        goto fail;
    }
    e = client_flush(c);
    if (e != OK) {
        (void)err_set(ec, e, "%s closed the connection", target);
        goto fail;
    }
    *out = c;
    return OK;
fail:
    client_close(&c);
    return e;
}

enum err client_connect(const char *target, uint32_t timeout_ms, struct client **out,
                        struct err_ctx *ec)
{
    const struct client_options none = {0};
    return client_connect_with(target, &none, timeout_ms, out, ec);
}

static void stream_free(struct exchange *x)
{
    list_remove(x);
    client_no_news(x);
    client_forget(x, x->in.len);
    bytes_deinit(&x->in);
    bytes_deinit(&x->out);
    free(CONTAINER_OF(x, struct client_stream, x));
}

void client_close(struct client **client)
{
    struct client *c = *client;
    *client = NULL;
    if (c == NULL) {
        return;
    }
    c->dead = true; /* callbacks that submit again are refused */
    while (c->live.next != &c->live) {
        client_end(c->live.next, CLIENT_CODE_CANCELED, true, "client closed");
    }
    (void)client_run_done(c);
    while (c->streams.next != &c->streams) {
        stream_free(c->streams.next);
    }
    nghttp2_session_del(c->session);
    client_wire_close(c); /* nothing was promised about unsent bytes */
    for (size_t i = 0; i < c->n_metadata; i++) {
        free(c->metadata[i].name);
        free(c->metadata[i].value);
    }
    bytes_deinit(&c->out);
    free(c->read_buffer);
    free(c);
}

enum err client_metadata(struct client *c, const char *name, const char *value)
{
    size_t i = 0;
    while (i < c->n_metadata && strcmp(c->metadata[i].name, name) != 0) {
        i++;
    }
    if (i == c->n_metadata) {
        if (value == NULL) {
            return OK;
        }
        if (i == CLIENT_METADATA_MAX) {
            return ERR_LIMIT;
        }
        c->metadata[c->n_metadata++] = (struct metadata_pair){xstrdup(name), xstrdup(value)};
        return OK;
    }
    free(c->metadata[i].value);
    if (value != NULL) {
        c->metadata[i].value = xstrdup(value);
        return OK;
    }
    free(c->metadata[i].name);
    c->metadata[i] = c->metadata[--c->n_metadata];
    return OK;
}

static void frame_message(struct bytes *out, struct slice message)
{
    ASSERT(message.len <= UINT32_MAX);
    uint32_t n = (uint32_t)message.len;
    const uint8_t head[FRAME_HEAD] = {0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                                      (uint8_t)n};
    (void)bytes_reserve(out, FRAME_HEAD + message.len);
    bytes_add(out, head, FRAME_HEAD);
    if (message.len > 0) {
        bytes_add(out, message.data, message.len);
    }
}

enum err client_submit(struct client *c, const char *path, struct slice request,
                       uint32_t timeout_ms, client_done_fn done, void *arg)
{
    if (c->dead) {
        return ERR_CLOSED;
    }
    if (c->n_live >= CLIENT_CALLS_MAX) {
        return ERR_BUSY;
    }
    struct exchange *x = xcalloc(1, sizeof(*x));
    x->client = c;
    x->half_closed = true;
    x->done = done;
    x->arg = arg;
    x->deadline_ms = clock_now_ms(clock_real()) + timeout_ms;
    frame_message(&x->out, request);
    enum err e = client_begin(x, path, NULL, 0);
    if (e != OK) {
        bytes_deinit(&x->out);
        free(x);
        return e;
    }
    list_add(&c->live, x);
    c->n_live++;
    if (x->deadline_ms < c->next_deadline_ms) {
        c->next_deadline_ms = x->deadline_ms;
    }
    return OK;
}

bool client_usable(const struct client *c)
{
    return !c->dead && nghttp2_session_check_request_allowed(c->session) != 0;
}

size_t client_in_flight(const struct client *c)
{
    return c->n_live;
}

struct one_call {
    bool over;
    struct client_status *status;
    struct bytes *reply;
};

static void one_done(void *arg, const struct client_status *status, struct slice reply)
{
    struct one_call *one = arg;
    one->over = true;
    *one->status = *status;
    if (reply.len > 0) {
        bytes_add(one->reply, reply.data, reply.len);
    }
}

enum err client_call(struct client *c, const char *path, struct slice request, uint32_t timeout_ms,
                     struct client_status *status, struct bytes *reply)
{
    struct one_call one = {.status = status, .reply = reply};
    bytes_reset(reply);
    enum err e = client_submit(c, path, request, timeout_ms, one_done, &one);
    while (e == OK && !one.over) {
        e = client_pump(c, timeout_ms);
        if (e == ERR_DEADLINE) {
            e = OK; /* the call's own deadline ends it */
        }
    }
    if (e != OK && !one.over) {
        /* `one` is on this stack and must not be called later. */
        client_fail(c, "connection failed");
        (void)client_run_done(c);
    }
    return one.over ? OK : e;
}

enum err client_stream_open(struct client *c, const char *path, struct client_stream **out)
{
    return client_stream_open_with(c, path, NULL, 0, out);
}

enum err client_stream_open_with(struct client *c, const char *path,
                                 const struct client_pair *pairs, size_t n_pairs,
                                 struct client_stream **out)
{
    if (c->dead) {
        return ERR_CLOSED;
    }
    struct client_stream *s = xcalloc(1, sizeof(*s));
    s->x.client = c;
    s->x.is_stream = true;
    enum err e = client_begin(&s->x, path, pairs, n_pairs);
    if (e != OK) {
        free(s);
        return e;
    }
    list_add(&c->streams, &s->x);
    *out = s;
    return OK;
}

static enum err resume(struct exchange *x)
{
    if (x->deferred) {
        x->deferred = false;
        (void)nghttp2_session_resume_data(x->client->session, x->id); /* fails when it is gone */
    }
    return x->client->corked ? OK : client_flush(x->client);
}

enum err client_stream_send(struct client_stream *s, struct slice message)
{
    struct exchange *x = &s->x;
    if (x->client->dead) {
        return ERR_CLOSED;
    }
    if (x->ended || x->half_closed) {
        return ERR_END;
    }
    if (x->out.len - x->out_at + message.len > CLIENT_SEND_MAX) {
        return ERR_BUSY;
    }
    frame_message(&x->out, message);
    return resume(x);
}

enum err client_stream_half_close(struct client_stream *s)
{
    if (s->x.client->dead) {
        return ERR_CLOSED;
    }
    if (s->x.ended) {
        return ERR_END;
    }
    s->x.half_closed = true;
    return resume(&s->x);
}

bool client_stream_ready(const struct client_stream *s)
{
    size_t n = 0;
    return client_front(&s->x, &n);
}

enum err client_stream_recv(struct client_stream *s, uint32_t timeout_ms, struct bytes *message)
{
    struct exchange *x = &s->x;
    bytes_reset(message);
    uint64_t until_ms = clock_now_ms(clock_real()) + timeout_ms;
    size_t n = 0;
    while (!client_front(x, &n)) {
        if (x->ended) {
            return ERR_END;
        }
        uint64_t now = clock_now_ms(clock_real());
        enum err e = client_pump(x->client, now < until_ms ? (uint32_t)(until_ms - now) : 0);
        if (e == ERR_DEADLINE && !client_front(x, &n)) {
            return x->ended ? ERR_END : ERR_DEADLINE;
        }
        if (e != OK && e != ERR_DEADLINE && !client_front(x, &n)) {
            return e;
        }
    }
    bytes_add(message, x->in.data + x->in_at + FRAME_HEAD, n);
    client_stream_drop(s);
    return OK;
}

bool client_stream_front(const struct client_stream *s, struct slice *message)
{
    size_t n = 0;
    if (!client_front(&s->x, &n)) {
        return false;
    }
    *message = slice_of(s->x.in.data + s->x.in_at + FRAME_HEAD, n);
    return true;
}

void client_stream_drop(struct client_stream *s)
{
    struct exchange *x = &s->x;
    size_t n = 0;
    bool whole = client_front(x, &n);
    ASSERT(whole);
    x->in_at += FRAME_HEAD + n;
    if (x->in_at == x->in.len) {
        client_forget(x, x->in.len);
        if (x->in.cap > STREAM_KEEP_BYTES) {
            bytes_deinit(&x->in);
        } else {
            bytes_reset(&x->in);
        }
        x->in_at = 0;
    } else if (x->in_at >= x->in.len / 2 && x->in_at >= CLIENT_QUEUE_MAX / 4) {
        size_t left = x->in.len - x->in_at;
        memmove(x->in.data, x->in.data + x->in_at, left);
        client_forget(x, x->in_at);
        x->in.len = left;
        x->in_at = 0;
    }
    if (!x->client->dead && !x->ended) {
        client_give_window(x, false);
    }
}

const struct client_status *client_stream_status(const struct client_stream *s)
{
    return s->x.ended ? &s->x.status : NULL;
}

void client_stream_close(struct client_stream **stream)
{
    struct client_stream *s = *stream;
    *stream = NULL;
    if (s == NULL) {
        return;
    }
    struct client *c = s->x.client;
    if (!c->dead) {
        if (!s->x.ended) {
            client_reset(&s->x);
        }
        /* nghttp2 may ask for data or report the end later: it must find nobody. */
        (void)nghttp2_session_set_stream_user_data(c->session, s->x.id, NULL);
        if (!c->corked) {
            client_flush(c);
        }
    }
    stream_free(&s->x);
}

/* --- from an event loop --- */

void client_cork(struct client *c)
{
    c->corked = true;
}

int client_fd(const struct client *c)
{
    return c->fd;
}

bool client_wants_write(const struct client *c)
{
    return !c->dead && !c->send_wants_input && (c->out_at < c->out.len || nghttp2_session_want_write(c->session) != 0);
}

void client_stream_on_news(struct client_stream *s, client_news_fn fn, void *arg)
{
    s->x.news = fn;
    s->x.news_arg = arg;
}

size_t client_stream_unsent(const struct client_stream *s)
{
    return s->x.out.len - s->x.out_at;
}

bool client_stream_untouched(const struct client_stream *s)
{
    return s->x.ended && s->x.untouched;
}

void client_hold_max(struct client *c, size_t bytes)
{
    c->in_bytes_max = bytes;
}
