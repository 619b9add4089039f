/* session.c - nghttp2's callbacks, and the movement of bytes.
 *
 * nghttp2 is used by its memory interface only: what arrives is fed to it, what it wants to send is
 * gathered in one buffer and written. Window updates are given by hand: the connection's at once,
 * since no single stream may stop the others, a stream's only while its unread messages are few.
 *
 * Callbacks of ended calls do not run inside nghttp2 but afterwards, from the list `over`: so they
 * may start new calls freely.
 */
#include "api/client/client_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define SLEEP_MAX_NS (60 * NS_PER_S)
#define DRIVE_READS_MAX 16u /* reads of READ_MAX in one client_drive */

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undo grpc-message's percent encoding; a malformed escape stands for itself. */
static void decode_text(const uint8_t *v, size_t n, char out[CLIENT_STATUS_TEXT_MAX])
{
    size_t at = 0;
    for (size_t i = 0; i < n && at + 1 < CLIENT_STATUS_TEXT_MAX; i++) {
        int high = v[i] == '%' && i + 2 < n ? hex_digit(v[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(v[i + 2]) : -1;
        if (low >= 0) {
            out[at++] = (char)(high * 16 + low);
            i += 2;
        } else {
            out[at++] = (char)v[i];
        }
    }
    out[at] = '\0';
}

static bool name_is(const uint8_t *name, size_t n, const char *want)
{
    return n == strlen(want) && memcmp(name, want, n) == 0;
}

/* A decimal of at most 9 digits, or `otherwise`. */
static int decimal(const uint8_t *v, size_t n, int otherwise)
{
    int r = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i] < '0' || v[i] > '9' || n > 9) {
            return otherwise;
        }
        r = r * 10 + (v[i] - '0');
    }
    return n == 0 ? otherwise : r;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t n_name, const uint8_t *value, size_t n_value, uint8_t flags, void *user)
{
    (void)flags;
    (void)user;
    struct exchange *x = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (x == NULL) {
        return 0;
    }
    if (name_is(name, n_name, ":status")) {
        x->http_status = decimal(value, n_value, 0);
    } else if (name_is(name, n_name, "grpc-status")) {
        x->has_status = true;
        x->status.code = (uint32_t)decimal(value, n_value, (int)CLIENT_CODE_UNKNOWN);
    } else if (name_is(name, n_name, "grpc-message")) {
        decode_text(value, n_value, x->status.text);
    }
    return 0;
}

bool client_front(const struct exchange *x, size_t *n_message)
{
    size_t have = x->in.len - x->in_at;
    if (have < FRAME_HEAD) {
        return false;
    }
    const uint8_t *p = x->in.data + x->in_at;
    *n_message = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    return have - FRAME_HEAD >= *n_message;
}

void client_give_window(struct exchange *x, bool anyway)
{
    if (x->held == 0 || x->client->session == NULL) {
        return;
    }
    size_t n_message = 0;
    bool unread = x->is_stream && client_front(x, &n_message);
    if (!anyway && unread && x->in.len - x->in_at >= CLIENT_QUEUE_MAX) {
        return;
    }
    /* A stream that is gone needs no window: the error means just that. */
    (void)nghttp2_session_consume_stream(x->client->session, x->id, x->held);
    x->held = 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t n, void *user)
{
    (void)flags;
    (void)user;
    (void)nghttp2_session_consume_connection(session, n);
    struct exchange *x = nghttp2_session_get_stream_user_data(session, id);
    if (x == NULL || x->ended) {
        (void)nghttp2_session_consume_stream(session, id, n);
        return 0;
    }
    bytes_add(&x->in, data, n);
    x->held += n;
    x->client->in_bytes += n;
    if (x->client->in_bytes_max > 0 && x->client->in_bytes > x->client->in_bytes_max) {
        client_reset(x);
        client_end(x, CLIENT_CODE_EXHAUSTED, true, "too many bytes of replies are waiting");
        return 0;
    }
    size_t n_message = 0;
    size_t have = x->in.len - x->in_at;
    bool whole = client_front(x, &n_message);
    bool compressed = have > 0 && x->in.data[x->in_at] != 0;
    bool trailing = !x->is_stream && whole && have > FRAME_HEAD + n_message;
    if ((have >= FRAME_HEAD && n_message > CLIENT_MESSAGE_MAX) || compressed || trailing) {
        client_reset(x);
        client_end(x, CLIENT_CODE_INTERNAL, true, "malformed or oversized reply");
        return 0;
    }
    client_give_window(x, false);
    if (whole) {
        client_news(x);
    }
    return 0;
}

/* The server has said all it will say, or the stream broke with HTTP/2 error `error`. */
static void finish(struct exchange *x, uint32_t error)
{
    size_t n_message = 0;
    x->untouched = error == NGHTTP2_REFUSED_STREAM;
    if (!x->has_status) {
        char text[128];
        (void)snprintf(text, sizeof(text), "stream closed without a status: HTTP %d, error %u",
                       x->http_status, error);
        client_end(x,
                   error == NGHTTP2_REFUSED_STREAM ? CLIENT_CODE_UNAVAILABLE : CLIENT_CODE_INTERNAL,
                   true, text);
    } else if (x->status.code == CLIENT_CODE_OK && !x->is_stream && !client_front(x, &n_message)) {
        client_end(x, CLIENT_CODE_INTERNAL, true, "status OK without a whole reply");
    } else {
        client_end(x, x->status.code, false, NULL);
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    bool last = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (!last) {
        return 0;
    }
    struct exchange *x = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (x == NULL || x->ended) {
        return 0;
    }
    if (!x->half_closed || x->out_at < x->out.len) {
        client_reset(x); /* our half is still open and would stay so */
    }
    finish(x, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
    (void)user;
    struct exchange *x = nghttp2_session_get_stream_user_data(session, id);
    if (x != NULL && !x->ended) {
        finish(x, error);
    }
    return 0;
}

static ssize_t on_want_data(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t n,
                            uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)id;
    (void)user;
    struct exchange *x = source->ptr;
    size_t left = x->out.len - x->out_at;
    size_t take = left < n ? left : n;
    if (take > 0) {
        memcpy(buffer, x->out.data + x->out_at, take);
        x->out_at += take;
    }
    if (x->out_at == x->out.len) {
        bytes_reset(&x->out);
        x->out_at = 0;
        client_news(x);
        if (x->half_closed) {
            *flags |= NGHTTP2_DATA_FLAG_EOF;
        } else if (take == 0) {
            x->deferred = true;
            return NGHTTP2_ERR_DEFERRED;
        }
    }
    return (ssize_t)take;
}

enum err client_session_create(struct client *c)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    enum err e = ERR_NO_MEM;
    if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0) {
        goto out;
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    if (nghttp2_session_client_new2(&c->session, callbacks, c, option) != 0) {
        goto out;
    }
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
    };
    if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) ==
            0 &&
        nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, SESSION_WINDOW) ==
            0) {
        e = OK;
    }
out:
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return e;
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

enum err client_begin(struct exchange *x, const char *path, const struct client_pair *pairs,
                      size_t n_pairs)
{
    struct client *c = x->client;
    ASSERT(n_pairs <= CLIENT_METADATA_MAX);
    nghttp2_nv headers[7 + 2 * CLIENT_METADATA_MAX];
    size_t n = 0;
    headers[n++] = header(":method", "POST");
    headers[n++] = header(":scheme", c->ssl != NULL ? "https" : "http");
    headers[n++] = header(":path", path);
    headers[n++] = header(":authority", c->authority);
    headers[n++] = header("content-type", "application/grpc");
    headers[n++] = header("user-agent", "pintle/" PINTLE_VERSION);
    headers[n++] = header("te", "trailers");
    for (size_t i = 0; i < c->n_metadata; i++) {
        headers[n++] = header(c->metadata[i].name, c->metadata[i].value);
    }
    for (size_t i = 0; i < n_pairs; i++) {
        headers[n] = header(pairs[i].name, "");
        headers[n].value = (uint8_t *)(uintptr_t)pairs[i].value.data;
        headers[n++].valuelen = pairs[i].value.len;
    }
    nghttp2_data_provider provider = {.source = {.ptr = x}, .read_callback = on_want_data};
    x->id = nghttp2_submit_request(c->session, NULL, headers, n, &provider, x);
    if (x->id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE) {
        return ERR_LIMIT;
    }
    return x->id > 0 ? OK : ERR_NO_MEM;
}

void client_reset(struct exchange *x)
{
    if (x->client->session != NULL && !x->client->dead) {
        (void)nghttp2_submit_rst_stream(x->client->session, NGHTTP2_FLAG_NONE, x->id,
                                        NGHTTP2_CANCEL); /* fails only for a stream already gone */
    }
}

void client_end(struct exchange *x, uint32_t code, bool local, const char *text)
{
    if (x->ended) {
        return;
    }
    x->ended = true;
    x->status.code = code;
    x->status.local = local;
    if (text != NULL) {
        (void)snprintf(x->status.text, sizeof(x->status.text), "%s", text);
    }
    if (x->is_stream) {
        client_news(x);
    } else {
        list_remove(x);
        list_add(&x->client->over, x);
    }
}

void client_news(struct exchange *x)
{
    if (x->news == NULL || x->news_prev != NULL) {
        return;
    }
    struct exchange **head = &x->client->news;
    x->news_next = *head;
    x->news_prev = head;
    if (*head != NULL) {
        (*head)->news_prev = &x->news_next;
    }
    *head = x;
}

void client_no_news(struct exchange *x)
{
    if (x->news_prev == NULL) {
        return;
    }
    *x->news_prev = x->news_next;
    if (x->news_next != NULL) {
        x->news_next->news_prev = x->news_prev;
    }
    x->news_next = NULL;
    x->news_prev = NULL;
}

void client_forget(struct exchange *x, size_t n)
{
    ASSERT(n <= x->client->in_bytes);
    x->client->in_bytes -= n;
}

/* What is told now may cause news of others, or again of the same: that comes with the next round. */
static bool run_news(struct client *c)
{
    struct exchange *now = c->news;
    bool any = now != NULL;
    c->news = NULL;
    if (any) {
        now->news_prev = &now;
    }
    while (now != NULL) {
        struct exchange *x = now;
        client_no_news(x);
        x->news(x->news_arg);
    }
    return any;
}

void client_fail(struct client *c, const char *why)
{
    c->dead = true;
    while (c->live.next != &c->live) {
        client_end(c->live.next, CLIENT_CODE_UNAVAILABLE, true, why);
    }
    for (struct exchange *x = c->streams.next; x != &c->streams; x = x->next) {
        client_end(x, CLIENT_CODE_UNAVAILABLE, true, why);
    }
}

/* Fill the output buffer from nghttp2. */
static enum err gather(struct client *c)
{
    if (c->out_at == c->out.len) {
        bytes_reset(&c->out);
        c->out_at = 0;
    }
    while (c->out.len - c->out_at < WRITE_MAX) {
        const uint8_t *data = NULL;
        ssize_t n = nghttp2_session_mem_send(c->session, &data);
        if (n < 0) {
            client_fail(c, nghttp2_strerror((int)n));
            return ERR_CLOSED;
        }
        if (n == 0) {
            break;
        }
        bytes_add(&c->out, data, (size_t)n);
    }
    return OK;
}

enum err client_flush(struct client *c)
{
    while (!c->dead) {
        enum err e = gather(c);
        if (e != OK || c->out_at == c->out.len) {
            return e;
        }
        size_t n = 0;
        char why[CLIENT_STATUS_TEXT_MAX];
        e = client_wire_send(c, c->out.data + c->out_at, c->out.len - c->out_at, &n, why);
        if (e == ERR_BUSY) {
            return OK;
        }
        if (e == OK) {
            c->out_at += n;
        } else {
            client_fail(c, why);
        }
    }
    return ERR_CLOSED;
}

/* Read once and let nghttp2 see it. `*moved` tells whether bytes came. */
static enum err receive(struct client *c, uint64_t now_ms, bool *moved)
{
    size_t n = 0;
    char why[CLIENT_STATUS_TEXT_MAX];
    enum err e = client_wire_receive(c, &n, why);
    if (e == ERR_BUSY) {
        return OK;
    }
    if (e != OK) {
        client_fail(c, why);
        return ERR_CLOSED;
    }
    *moved = true;
    c->heard_ms = now_ms;
    c->ping_ms = 0;
    ssize_t used = nghttp2_session_mem_recv(c->session, c->read_buffer, n);
    if (used < 0) {
        client_fail(c, nghttp2_strerror((int)used));
        return ERR_CLOSED;
    }
    return OK;
}

/* When keepalive has something to do next; UINT64_MAX: never. */
static uint64_t keepalive_at(const struct client *c)
{
    bool idle = c->n_live == 0 && c->streams.next == &c->streams;
    if (c->keepalive_ms == 0 || idle) {
        return UINT64_MAX;
    }
    return c->ping_ms != 0 ? c->ping_ms + c->keepalive_timeout_ms : c->heard_ms + c->keepalive_ms;
}

static void keep_alive(struct client *c, uint64_t now_ms)
{
    if (c->dead || now_ms < keepalive_at(c)) {
        return;
    }
    if (c->ping_ms != 0) {
        client_fail(c, "keepalive ping failed to receive ACK within timeout");
        return;
    }
    c->ping_ms = now_ms;
    (void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL); /* out of memory: dead below */
}

static void expire(struct client *c, uint64_t now_ms)
{
    if (now_ms < c->next_deadline_ms) {
        return;
    }
    uint64_t next = UINT64_MAX;
    for (struct exchange *x = c->live.next; x != &c->live;) {
        struct exchange *after = x->next;
        if (x->deadline_ms <= now_ms) {
            client_reset(x);
            client_end(x, CLIENT_CODE_DEADLINE, true, "deadline exceeded at the client");
        } else if (x->deadline_ms < next) {
            next = x->deadline_ms;
        }
        x = after;
    }
    c->next_deadline_ms = next;
}

bool client_run_done(struct client *c)
{
    bool any = false;
    while (c->over.next != &c->over) {
        struct exchange *x = c->over.next;
        size_t n_message = 0;
        struct slice reply = {NULL, 0};
        if (x->status.code == CLIENT_CODE_OK && client_front(x, &n_message)) {
            reply = slice_of(x->in.data + x->in_at + FRAME_HEAD, n_message);
        }
        list_remove(x);
        c->n_live--;
        x->done(x->arg, &x->status, reply);
        if (!c->dead) {
            /* nghttp2 may still hold the stream: it must not find freed memory there. */
            (void)nghttp2_session_set_stream_user_data(c->session, x->id, NULL);
        }
        client_forget(x, x->in.len);
        bytes_deinit(&x->in);
        bytes_deinit(&x->out);
        free(x);
        any = true;
    }
    return run_news(c) || any;
}

enum err client_drive(struct client *c, bool *again)
{
    bool moved = true;
    uint64_t now = clock_now_ms(clock_real());
    enum err e = c->dead ? ERR_CLOSED : OK;
    for (unsigned i = 0; i < DRIVE_READS_MAX && e == OK && moved; i++) {
        moved = false;
        e = receive(c, now, &moved);
    }
    keep_alive(c, now);
    expire(c, now);
    enum err flushed = client_flush(c); /* nghttp2's own frames, and news that all is sent */
    (void)client_run_done(c);
    if (flushed == OK) {
        flushed = client_flush(c);
    }
    *again = moved || c->news != NULL || c->over.next != &c->over;
    return e != OK ? e : flushed;
}

/* How long to sleep: until the earliest deadline of any call, at most until `until_ns`. */
static struct timespec sleep_time(struct client *const *clients, size_t n, uint64_t until_ns)
{
    uint64_t now = clock_now_ns(clock_real());
    for (size_t i = 0; i < n; i++) {
        uint64_t alive_ms = keepalive_at(clients[i]);
        uint64_t next_ms = clients[i]->next_deadline_ms;
        next_ms = alive_ms < next_ms ? alive_ms : next_ms;
        if (next_ms < until_ns / NS_PER_MS) {
            until_ns = next_ms * NS_PER_MS;
        }
        if (clients[i]->more) {
            until_ns = 0;
        }
    }
    uint64_t left = until_ns <= now ? 0 : until_ns - now;
    left = left > SLEEP_MAX_NS ? SLEEP_MAX_NS : left;
    return (struct timespec){(time_t)(left / NS_PER_S), (long)(left % NS_PER_S)};
}

/* One turn: flush all, poll, receive, keep alive, expire, flush what that caused, run callbacks. */
static enum err turn(struct client *const *clients, size_t n, uint64_t until_ns, bool *moved)
{
    struct pollfd polls[CLIENT_PUMP_MAX];
    enum err e = OK;
    for (size_t i = 0; i < n; i++) {
        struct client *c = clients[i];
        if (client_flush(c) != OK) {
            e = ERR_CLOSED;
        }
        *moved |= client_run_done(c);
        bool unsent = c->out_at < c->out.len && !c->send_wants_input;
        polls[i] = (struct pollfd){.fd = c->dead ? -1 : c->fd,
                                   .events = (short)(POLLIN | (unsent ? POLLOUT : 0))};
    }
    if (e != OK) {
        return e;
    }
    struct timespec wait = sleep_time(clients, n, *moved ? 0 : until_ns);
    int ready = ppoll(polls, (nfds_t)n, &wait, NULL);
    if (ready < 0 && errno != EINTR) {
        return ERR_IO;
    }
    uint64_t now = clock_now_ms(clock_real());
    for (size_t i = 0; i < n; i++) {
        struct client *c = clients[i];
        bool readable = ready > 0 && (polls[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0;
        if ((readable || c->more) && receive(c, now, moved) != OK) {
            e = ERR_CLOSED;
        }
        keep_alive(c, now);
        expire(c, now);
        if (client_flush(c) != OK) {
            e = ERR_CLOSED;
        }
        *moved |= client_run_done(c);
    }
    return e;
}

enum err client_pump_until(struct client *const *clients, size_t n, uint64_t until_ns)
{
    ASSERT(n > 0);
    ASSERT(n <= CLIENT_PUMP_MAX);
    bool moved = false;
    for (;;) {
        enum err e = turn(clients, n, until_ns, &moved);
        if (e != OK) {
            return e;
        }
        if (moved) {
            return OK;
        }
        if (clock_now_ns(clock_real()) >= until_ns) {
            return ERR_DEADLINE;
        }
    }
}

enum err client_pump_all(struct client *const *clients, size_t n, uint32_t wait_ms)
{
    return client_pump_until(clients, n, clock_now_ns(clock_real()) + wait_ms * NS_PER_MS);
}

enum err client_pump(struct client *c, uint32_t wait_ms)
{
    return client_pump_all(&c, 1, wait_ms);
}
