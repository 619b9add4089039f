/* websocket.c - see websocket.h. */
#include "api/gateway/websocket.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <strings.h>
#include <wslay/wslay.h>

#include "api/gateway/base64.h"
#include "api/gateway/limits.h"
#include "base/assert.h"
#include "base/mem.h"

#define KEY_BYTES 16u
#define BEARER "Bearer"

struct websocket {
    struct http_exchange *x;
    wslay_event_context_ptr frames; /* owned */
    void (*event)(void *arg);
    void *arg;
    struct slice in;   /* of one read, not yet looked at */
    struct bytes text; /* owned */
    struct slice out;  /* the piece that is being sent */
    bool out_last;
    bool in_message;   /* the client has seen the beginning of one */
    bool text_frame;   /* the frame that comes is a message's, not a control frame */
    bool frame_is_last;
    bool over;
};

/* --- the handshake ------------------------------------------------------------------------------------------------ */

/* Whether the list of a field has `word`, in either case. */
static bool list_has(const char *list, const char *word)
{
    size_t len = strlen(word);
    while (*list != '\0') {
        list += strspn(list, " \t,");
        size_t n = strcspn(list, ",");
        size_t w = n;
        while (w > 0 && (list[w - 1] == ' ' || list[w - 1] == '\t')) {
            w--;
        }
        if (w == len && strncasecmp(list, word, len) == 0) {
            return true;
        }
        list += n;
    }
    return false;
}

bool websocket_asked(const struct http_request *r)
{
    return r->upgrade && list_has(http_request_header(r, "Upgrade"), "websocket");
}

static bool key_is_valid(const char *key)
{
    struct bytes raw = {0};
    bool ok = base64_take(&raw, slice_str(key)) && raw.len == KEY_BYTES;
    bytes_deinit(&raw);
    return ok;
}

static void refuse(struct http_exchange *x, int status, const char *text)
{
    http_respond(x, status, "text/plain; charset=utf-8", "Sec-Websocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\n", slice_str(text));
}

/* RFC 6455 4.2.2: the key and a constant, hashed, show that the protocol was understood. */
static char *accept_lines(const struct http_request *r)
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t digest[SHA_DIGEST_LENGTH];
    struct bytes b = {0};
    bytes_add_str(&b, http_request_header(r, "Sec-WebSocket-Key"));
    bytes_add_str(&b, magic);
    (void)SHA1(b.data, b.len, digest);
    bytes_reset(&b);
    bytes_add_str(&b, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    base64_add(&b, slice_of(digest, sizeof(digest)));
    bytes_add_str(&b, "\r\n");
    if (strncmp(http_request_header(r, "Sec-WebSocket-Protocol"), BEARER, strlen(BEARER)) == 0) {
        bytes_add_str(&b, "Sec-WebSocket-Protocol: " BEARER "\r\n");
    }
    bytes_add(&b, "", 1);
    return (char *)b.data;
}

/* The value of the cookie "token"; NULL data without one. */
static struct slice token_cookie(const struct http_request *r)
{
    static const char name[] = "token=";
    const char *p = http_request_header(r, "Cookie");
    while (*p != '\0') {
        p += strspn(p, " \t;");
        size_t n = strcspn(p, ";");
        if (strncmp(p, name, strlen(name)) == 0) {
            struct slice v = slice_of(p + strlen(name), n - strlen(name));
            bool quoted = v.len >= 2 && v.data[0] == '"' && v.data[v.len - 1] == '"';
            return quoted ? slice_of(v.data + 1, v.len - 2) : v;
        }
        p += n;
    }
    return (struct slice){NULL, 0};
}

char *websocket_authorization(const struct http_request *r)
{
    struct slice cookie = token_cookie(r);
    if (cookie.data != NULL) {
        return xasprintf(BEARER " %.*s", (int)cookie.len, (const char *)cookie.data);
    }
    const char *protocol = strstr(http_request_header(r, "Sec-WebSocket-Protocol"), BEARER ",");
    if (protocol == NULL) {
        return xstrdup("");
    }
    protocol += strlen(BEARER ",");
    protocol += strspn(protocol, " ");
    size_t n = strlen(protocol);
    while (n > 0 && protocol[n - 1] == ' ') {
        n--;
    }
    return xasprintf(BEARER " %.*s", (int)n, protocol);
}

/* --- frames ----------------------------------------------------------------------------------------------------------- */

static ssize_t on_recv(wslay_event_context_ptr frames, uint8_t *buf, size_t len, int flags, void *arg)
{
    struct websocket *w = arg;
    (void)flags;
    if (w->in.len == 0) {
        wslay_event_set_error(frames, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    size_t n = len < w->in.len ? len : w->in.len;
    memcpy(buf, w->in.data, n);
    w->in = slice_of(w->in.data + n, w->in.len - n);
    return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr frames, const uint8_t *data, size_t len, int flags, void *arg)
{
    struct websocket *w = arg;
    (void)frames;
    (void)flags;
    http_stream_send(w->x, slice_of(data, len));
    return (ssize_t)len;
}

static void on_frame_start(wslay_event_context_ptr frames, const struct wslay_event_on_frame_recv_start_arg *a, void *arg)
{
    struct websocket *w = arg;
    (void)frames;
    w->text_frame = !wslay_is_ctrl_frame(a->opcode);
    w->frame_is_last = a->fin != 0;
}

static void on_frame_chunk(wslay_event_context_ptr frames, const struct wslay_event_on_frame_recv_chunk_arg *a, void *arg)
{
    struct websocket *w = arg;
    (void)frames;
    if (w->text_frame) {
        bytes_add(&w->text, a->data, a->data_length);
    }
}

static void on_frame_end(wslay_event_context_ptr frames, void *arg)
{
    struct websocket *w = arg;
    (void)frames;
    if (w->text_frame && w->frame_is_last) {
        bytes_add(&w->text, "\n", 1);
    }
}

static ssize_t take_out(wslay_event_context_ptr frames, uint8_t *buf, size_t len, const union wslay_event_msg_source *source, int *eof, void *arg)
{
    struct websocket *w = arg;
    (void)frames;
    (void)source;
    size_t n = len < w->out.len ? len : w->out.len;
    if (n > 0) {
        memcpy(buf, w->out.data, n);
        w->out = slice_of(w->out.data + n, w->out.len - n);
    }
    *eof = w->out_last && w->out.len == 0;
    return (ssize_t)n;
}

static const struct wslay_event_callbacks callbacks = {
    .recv_callback = on_recv,
    .send_callback = on_send,
    .on_frame_recv_start_callback = on_frame_start,
    .on_frame_recv_chunk_callback = on_frame_chunk,
    .on_frame_recv_end_callback = on_frame_end,
};

/* Everything that is queued goes to the exchange, which takes all of it. */
static void flush(struct websocket *w)
{
    if (wslay_event_send(w->frames) != 0) {
        w->over = true;
    }
}

/* With a code from the client, or one of our own. Control frames go before the rest of a message. */
static void say_close(struct websocket *w, unsigned code)
{
    if (wslay_event_get_close_sent(w->frames) == 0) {
        /* It fails when a close is queued already, or without memory: then the connection ends without. */
        (void)wslay_event_queue_close(w->frames, (uint16_t)code, NULL, 0);
        flush(w);
    }
}

static void on_piece(void *arg, struct slice piece)
{
    struct websocket *w = arg;
    if (w->over) {
        return;
    }
    w->in = piece;
    int broken = wslay_event_recv(w->frames);
    flush(w); /* pongs, and the answer to a close or to a fault */
    w->over = w->over || broken != 0 || wslay_event_want_read(w->frames) == 0;
    if (!w->over && http_stream_queued(w->x) > GATEWAY_QUEUE_BYTES) {
        http_body_pause(w->x, true);
    }
    w->event(w->arg);
}

/* --- public ------------------------------------------------------------------------------------------------------------ */

struct websocket *websocket_accept(struct http_exchange *x, const struct http_request *r, void (*event)(void *arg), void *arg)
{
    if (strcmp(r->method, "GET") != 0) {
        refuse(x, 405, "Method Not Allowed\n");
        return NULL;
    }
    if (!list_has(http_request_header(r, "Sec-WebSocket-Version"), "13") || !key_is_valid(http_request_header(r, "Sec-WebSocket-Key"))) {
        refuse(x, 400, "Bad Request\n");
        return NULL;
    }
    struct websocket *w = xcalloc(1, sizeof(*w));
    *w = (struct websocket){.x = x, .event = event, .arg = arg};
    if (wslay_event_context_server_init(&w->frames, &callbacks, w) != 0) {
        free(w);
        http_respond(x, 503, NULL, NULL, (struct slice){NULL, 0});
        return NULL;
    }
    wslay_event_config_set_no_buffering(w->frames, 1);
    wslay_event_config_set_max_recv_msg_length(w->frames, SOCKET_MESSAGE_BYTES_MAX);
    char *lines = accept_lines(r);
    http_upgrade(x, lines, on_piece, w);
    free(lines);
    return w;
}

struct bytes *websocket_text(struct websocket *w)
{
    return &w->text;
}

bool websocket_is_over(const struct websocket *w)
{
    return w->over;
}

void websocket_send(struct websocket *w, struct slice piece, bool last)
{
    if (w->over || (piece.len == 0 && !(last && w->in_message))) {
        return;
    }
    w->out = piece;
    w->out_last = last;
    if (!w->in_message) {
        const struct wslay_event_fragmented_msg m = {.opcode = WSLAY_TEXT_FRAME, .read_callback = take_out};
        if (wslay_event_queue_fragmented_msg(w->frames, &m) != 0) {
            w->over = true;
            return;
        }
    }
    w->in_message = !last;
    flush(w);
}

void websocket_written(struct websocket *w)
{
    if (!w->over && http_stream_queued(w->x) <= GATEWAY_QUEUE_BYTES) {
        http_body_pause(w->x, false);
    }
}

void websocket_close(struct websocket *w, unsigned code)
{
    if (!w->over) {
        say_close(w, code);
    }
    wslay_event_context_free(w->frames);
    bytes_deinit(&w->text);
    free(w);
}
