/* h1.c - HTTP/1.x requests over libhttp-parser, one at a time per connection.
 *
 *     IDLE ──first byte──► HEAD ──► BODY ──► WAIT (the handler has it) ──answer sent──► IDLE
 *       └──────────── a fault: canned answer, then DONE ◄───────────────────────┘
 *
 * A streamed request is given to the handler with its head; the states go on as above, and an answer
 * before the end of the body leads to DONE. An upgrade leads from WAIT to UPGRADED: bytes in both directions until the answer's end, then DONE.
 *
 * The parser is paused at the end of a message; what came behind it is held until the answer is
 * out. Reading goes on meanwhile, up to a bound, so that a client's leaving is seen. The head is
 * kept as NUL-terminated strings: target, then name and value of each field. Canned answers and
 * checks are those of Go's net/http.
 */
#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "api/http/conn.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"

enum h1_state { H1_IDLE, H1_HEAD, H1_BODY, H1_WAIT, H1_UPGRADED, H1_DONE };
enum piece { PIECE_TARGET, PIECE_NAME, PIECE_VALUE };

struct http_exchange {
    struct h1 *h1; /* NULL: the client is gone */
    struct loop *loop;
    bool streaming;
    bool chunked;
    char *headers; /* owned; go out with the answer */
    void (*gone)(void *arg);
    void *gone_arg;
    void (*written)(void *arg);
    void *written_arg;
    void (*drain)(void *arg);
    void *drain_arg;
    void (*body_piece)(void *arg, struct slice piece);
    void (*body_end)(void *arg);
    void *body_arg;
    size_t holds;
};

struct h1 {
    struct conn *conn;
    http_parser parser;
    enum h1_state state;
    enum piece piece;
    bool complete;   /* the parser has seen the whole message */
    bool streamed;   /* the handler takes the body in pieces */
    uint64_t body_max; /* of one that is gathered */
    bool keep_alive; /* after this exchange */
    bool old;        /* HTTP/1.0 */
    bool no_body;    /* the request was HEAD */
    bool eof;        /* the client has sent its last byte */
    unsigned n_headers;
    int fault;         /* status to refuse with, set inside the parser's callbacks; 0: none */
    struct bytes head; /* strings, see above */
    size_t fields_at;  /* behind the target */
    const char *path;  /* into the head, as are the query and what the handler gets */
    const char *query;
    struct bytes body;
    struct bytes held; /* input behind the current request */
    struct bytes out;
    size_t out_at;
    size_t accounted;  /* with conn_hold */
    size_t body_step;  /* of the body; at it the deadline moves on */
    struct http_exchange *exchange; /* shared with the handler until answered */
};

/* What the loop holds for this connection may have changed. */
static void account(struct h1 *h)
{
    size_t kept = h->exchange != NULL ? h->exchange->holds : 0;
    size_t now = h->head.len + h->body.len + h->held.len + (h->out.len - h->out_at) + kept;
    conn_hold(h->conn, h->accounted, now);
    h->accounted = now;
}

/* --- answers ----------------------------------------------------------------------------------------------------- */

static const char *status_text(int status)
{
    switch (status) {
#define STATUS_CASE(num, name, string)                                                             \
    case num:                                                                                      \
        return #string;
        HTTP_STATUS_MAP(STATUS_CASE)
#undef STATUS_CASE
    default:
        return "Unknown";
    }
}

static void refuse(struct h1 *h, int status)
{
    if (h->state == H1_DONE) {
        return;
    }
    h->state = H1_DONE;
    if (h->exchange != NULL) {
        conn_kill(h->conn); /* a streamed body broke off: the answer is the handler's, and it is told */
        return;
    }
    const char *text = status_text(status);
    /* Go names two of them by their older names. */
    text = status == 413 ? "Request Entity Too Large" : text;
    bytes_printf(&h->out,
                 "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: "
                 "close\r\n\r\n%d %s",
                 status, text, status, text);
    conn_finish(h->conn);
}

static void put_date(struct bytes *out)
{
    time_t now = (time_t)(clock_wall_ns(clock_real()) / 1000000000u);
    struct tm tm;
    char text[64];
    if (gmtime_r(&now, &tm) != NULL &&
        strftime(text, sizeof(text), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm) > 0) {
        bytes_add_str(out, text);
    }
}

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

static void put_head(struct h1 *h, int status, const char *content_type, const char *headers)
{
    h->keep_alive = h->keep_alive && h->complete;
    bytes_printf(&h->out, "HTTP/1.%d %d %s\r\n", h->old ? 0 : 1, status, status_text(status));
    if (h->exchange->headers != NULL) {
        bytes_add_str(&h->out, h->exchange->headers);
    }
    if (headers != NULL) {
        bytes_add_str(&h->out, headers);
    }
    if (content_type != NULL && status_has_body(status)) {
        bytes_printf(&h->out, "Content-Type: %s\r\n", content_type);
    }
    put_date(&h->out);
    if (!h->keep_alive) {
        bytes_add_str(&h->out, "Connection: close\r\n");
    } else if (h->old) {
        bytes_add_str(&h->out, "Connection: keep-alive\r\n");
    }
}

/* The answer is complete; what is left is to send it. */
static void end_exchange(struct http_exchange *x)
{
    struct h1 *h = x->h1;
    if (h != NULL) {
        h->exchange = NULL;
        account(h);
        conn_mark_dirty(h->conn);
        if (!h->complete || h->state == H1_UPGRADED) {
            h->state = H1_DONE;
            conn_finish(h->conn);
        }
    }
    free(x->headers);
    free(x);
}

void http_respond(struct http_exchange *x, int status, const char *content_type, const char *headers, struct slice body)
{
    ASSERT(!x->streaming);
    struct h1 *h = x->h1;
    if (h != NULL) {
        put_head(h, status, content_type, headers);
        if (status_has_body(status)) {
            bytes_printf(&h->out, "Content-Length: %zu\r\n", body.len);
        }
        bytes_add_str(&h->out, "\r\n");
        if (status_has_body(status) && !h->no_body) {
            bytes_add(&h->out, body.data, body.len);
        }
    }
    end_exchange(x);
}

void http_stream_begin(struct http_exchange *x, int status, const char *content_type, const char *headers)
{
    ASSERT(!x->streaming);
    x->streaming = true;
    struct h1 *h = x->h1;
    if (h == NULL) {
        return;
    }
    x->chunked = !h->old;
    if (h->old) {
        h->keep_alive = false; /* the end of the connection is the end of the body */
    }
    put_head(h, status, content_type, headers);
    if (x->chunked) {
        bytes_add_str(&h->out, "Transfer-Encoding: chunked\r\n");
    }
    bytes_add_str(&h->out, "\r\n");
    conn_mark_dirty(h->conn);
}

void http_stream_send(struct http_exchange *x, struct slice piece)
{
    ASSERT(x->streaming);
    struct h1 *h = x->h1;
    if (h == NULL || piece.len == 0 || h->no_body) {
        return;
    }
    if (h->out_at > h->out.len / 2) {
        memmove(h->out.data, h->out.data + h->out_at, h->out.len - h->out_at);
        h->out.len -= h->out_at;
        h->out_at = 0;
    }
    if (h->out.len - h->out_at > H1_QUEUED_BYTES_MAX) {
        conn_kill(h->conn);
        return;
    }
    if (x->chunked) {
        bytes_printf(&h->out, "%zx\r\n", piece.len);
    }
    bytes_add(&h->out, piece.data, piece.len);
    if (x->chunked) {
        bytes_add_str(&h->out, "\r\n");
    }
    account(h);
    conn_mark_dirty(h->conn);
}

void http_stream_end(struct http_exchange *x)
{
    ASSERT(x->streaming);
    if (x->h1 != NULL && x->chunked && !x->h1->no_body) {
        bytes_add_str(&x->h1->out, "0\r\n\r\n");
    }
    end_exchange(x);
}

void http_upgrade(struct http_exchange *x, const char *headers, void (*piece)(void *arg, struct slice piece), void *arg)
{
    struct h1 *h = x->h1;
    ASSERT(!x->streaming && h != NULL && h->state == H1_WAIT);
    x->streaming = true;
    http_body_to(x, piece, NULL, arg);
    h->state = H1_UPGRADED;
    bytes_printf(&h->out, "HTTP/1.1 101 %s\r\n%s\r\n", status_text(101), headers);
    conn_timer_in(h->conn, CONN_IDLE_MS);
    conn_mark_dirty(h->conn);
}

size_t http_stream_queued(const struct http_exchange *x)
{
    return x->h1 == NULL ? 0 : x->h1->out.len - x->h1->out_at;
}

bool http_stream_drained(const struct http_exchange *x)
{
    return x->h1 == NULL || (x->h1->out_at == x->h1->out.len && !x->h1->conn->writing);
}

void http_stream_on_written(struct http_exchange *x, void (*fn)(void *arg), void *arg)
{
    x->written = fn;
    x->written_arg = arg;
}

void http_exchange_kill(struct http_exchange *x)
{
    if (x->h1 != NULL) {
        x->h1->exchange = NULL;
        x->h1->state = H1_DONE;
        conn_kill(x->h1->conn);
    }
    free(x->headers);
    free(x);
}

void http_body_to(struct http_exchange *x, void (*piece)(void *arg, struct slice piece),
                  void (*end)(void *arg), void *arg)
{
    x->body_piece = piece;
    x->body_end = end;
    x->body_arg = arg;
}

void http_body_pause(struct http_exchange *x, bool pause)
{
    struct h1 *h = x->h1;
    if (h == NULL || (h->complete && h->state != H1_UPGRADED)) {
        return;
    }
    conn_reading(h->conn, !pause);
    if (!h->complete) {
        conn_timer_in(h->conn, pause ? 0 : CONN_STALL_MS); /* what we make it wait for does not count */
    }
}

void http_exchange_holds(struct http_exchange *x, size_t bytes)
{
    x->holds = bytes;
    if (x->h1 != NULL) {
        account(x->h1);
    }
}

bool http_exchange_gone(const struct http_exchange *x)
{
    return x->h1 == NULL;
}

void http_exchange_on_gone(struct http_exchange *x, void (*fn)(void *arg), void *arg)
{
    x->gone = fn;
    x->gone_arg = arg;
}

void http_exchange_on_drain(struct http_exchange *x, void (*fn)(void *arg), void *arg)
{
    x->drain = fn;
    x->drain_arg = arg;
}

void http_exchange_headers(struct http_exchange *x, const char *headers)
{
    ASSERT(x->headers == NULL && !x->streaming);
    x->headers = xstrdup(headers);
}

struct loop *http_exchange_loop(struct http_exchange *x)
{
    return x->loop;
}

bool http_exchange_is_secure(const struct http_exchange *x)
{
    return x->h1 != NULL && x->h1->conn->secure;
}

const char *http_exchange_common_name(const struct http_exchange *x)
{
    return x->h1 != NULL ? x->h1->conn->common_name : "";
}

/* --- the parser's callbacks: a negative answer stops it, and `fault` says why ------------------------------------ */

static int stop_with(struct h1 *h, int status)
{
    h->fault = status;
    return -1; /* not 1, which on_headers_complete takes for "no body" */
}

static int add_head(struct h1 *h, enum piece piece, const char *at, size_t len)
{
    if (h->state != H1_HEAD) {
        return 0; /* fields behind a chunked body */
    }
    if (piece != h->piece) {
        bytes_add(&h->head, "", 1);
        h->piece = piece;
        if (piece == PIECE_NAME && ++h->n_headers > H1_HEADERS_MAX) {
            return stop_with(h, 431);
        }
    }
    if (h->head.len + len > H1_HEAD_BYTES_MAX) {
        return stop_with(h, 431);
    }
    /* The parser lets a value begin with a NUL, and takes spaces for a part of a name: "Content-Length : 1" means another thing elsewhere. */
    if (memchr(at, '\0', len) != NULL || (piece == PIECE_NAME && memchr(at, ' ', len) != NULL)) {
        return stop_with(h, 400);
    }
    bytes_add(&h->head, at, len);
    return 0;
}

static int on_url(http_parser *p, const char *at, size_t len)
{
    return add_head(p->data, PIECE_TARGET, at, len);
}

static int on_name(http_parser *p, const char *at, size_t len)
{
    return add_head(p->data, PIECE_NAME, at, len);
}

static int on_value(http_parser *p, const char *at, size_t len)
{
    return add_head(p->data, PIECE_VALUE, at, len);
}

/* The first value of a field, or "" ; *n counts how often it came. */
static const char *field(const struct h1 *h, const char *name, unsigned *n)
{
    const char *value = "";
    const char *at = (const char *)h->head.data + h->fields_at;
    const char *end = (const char *)h->head.data + h->head.len;
    *n = 0;
    while (at < end) {
        const char *v = at + strlen(at) + 1;
        if (strcasecmp(at, name) == 0) {
            value = *n == 0 ? v : value;
            (*n)++;
        }
        at = v + strlen(v) + 1;
    }
    return value;
}

const char *http_request_header(const struct http_request *r, const char *name)
{
    unsigned n;
    return r->head == NULL ? "" : field(r->head, name, &n);
}

/* Cut the target, as it stands in the head, into path and query. */
static void split_target(struct h1 *h)
{
    char *p = (char *)h->head.data;
    if (p[0] != '/') {
        char *scheme = strstr(p, "://");
        char *slash = scheme == NULL ? NULL : strchr(scheme + 3, '/');
        p = slash != NULL ? slash : p;
    }
    p[strcspn(p, "#")] = '\0';
    char *mark = strchr(p, '?');
    h->query = "";
    if (mark != NULL) {
        *mark = '\0';
        h->query = mark + 1;
    }
    h->path = p;
}

static struct http_request request_of(const struct h1 *h)
{
    unsigned n;
    return (struct http_request){
        .method = http_method_str((enum http_method)h->parser.method),
        .path = h->path,
        .query = h->query,
        .body = bytes_slice(&h->body),
        .host = field(h, "host", &n),
        .origin = field(h, "origin", &n),
        .authorization = field(h, "authorization", &n),
        .content_type = field(h, "content-type", &n),
        .accept_encoding = field(h, "accept-encoding", &n),
        .upgrade = h->parser.upgrade != 0 && h->parser.method != HTTP_CONNECT && !h->old,
        .head = h,
    };
}

static void choose_intake(struct h1 *h)
{
    const struct http_config *cfg = h->conn->hub->cfg;
    struct http_intake in = {.bytes_max = H1_BODY_BYTES_MAX};
    if (cfg->begin != NULL) {
        struct http_request r = request_of(h);
        cfg->begin(cfg->http.arg, &r, &in);
    }
    h->streamed = in.streamed;
    h->body_max = in.bytes_max;
}

static void dispatch(struct h1 *h)
{
    struct http_exchange *x = xcalloc(1, sizeof(*x));
    x->h1 = h;
    x->loop = h->conn->hub->loop;
    h->exchange = x;
    struct http_request r = request_of(h);
    const struct http_handler *handler = &h->conn->hub->cfg->http;
    handler->handle(handler->arg, x, &r);
}

static void wait_for_answer(struct h1 *h)
{
    h->state = H1_WAIT;
    conn_timer_in(h->conn, 0);
}

static int on_head_complete(http_parser *p)
{
    struct h1 *h = p->data;
    bytes_add(&h->head, "", 1);
    h->fields_at = strlen((const char *)h->head.data) + 1;
    split_target(h);
    h->old = p->http_major == 1 && p->http_minor == 0;
    if (p->http_major != 1) {
        return stop_with(h, p->http_major == 0 ? 400 : 505); /* a line without a version is no request */
    }
    unsigned n;
    (void)field(h, "host", &n);
    if (n > 1 || (n == 0 && !h->old)) {
        return stop_with(h, 400);
    }
    choose_intake(h);
    if (!h->streamed && p->content_length != UINT64_MAX && p->content_length > h->body_max) {
        return stop_with(h, 413);
    }
    h->state = H1_BODY;
    h->body_step = CONN_BODY_STEP_BYTES;
    h->no_body = p->method == HTTP_HEAD;
    h->keep_alive = http_should_keep_alive(p) != 0 && !h->conn->hub->draining;
    conn_timer_in(h->conn, CONN_STALL_MS);
    if (h->streamed) {
        dispatch(h);
    }
    if (h->state == H1_BODY && !h->old &&
        strcasecmp(field(h, "expect", &n), "100-continue") == 0) {
        bytes_add_str(&h->out, "HTTP/1.1 100 Continue\r\n\r\n");
        conn_mark_dirty(h->conn);
    }
    return 0;
}

static int on_body(http_parser *p, const char *at, size_t len)
{
    struct h1 *h = p->data;
    if (h->streamed) {
        struct http_exchange *x = h->exchange;
        if (x != NULL && x->body_piece != NULL) {
            x->body_piece(x->body_arg, slice_of(at, len));
        }
        return 0;
    }
    if (h->body.len + len > h->body_max) {
        return stop_with(h, 413);
    }
    bytes_add(&h->body, at, len);
    return 0;
}

static int on_complete(http_parser *p)
{
    struct h1 *h = p->data;
    h->complete = true;
    http_parser_pause(p, 1);
    if (h->streamed && h->state == H1_BODY) {
        wait_for_answer(h);
        conn_reading(h->conn, true);
        struct http_exchange *x = h->exchange;
        if (x != NULL && x->body_end != NULL) {
            x->body_end(x->body_arg);
        }
    }
    return 0;
}

static const http_parser_settings callbacks = {
    .on_url = on_url,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_head_complete,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

/* --- requests ---------------------------------------------------------------------------------------------------- */

static void next_request(struct h1 *h)
{
    h->state = H1_IDLE;
    h->piece = PIECE_TARGET;
    h->complete = false;
    h->streamed = false;
    h->n_headers = 0;
    h->fault = 0;
    bytes_deinit(&h->head);
    bytes_deinit(&h->body);
    http_parser_init(&h->parser, HTTP_REQUEST);
    h->parser.data = h;
}

static int status_of_fault(const struct h1 *h)
{
    if (h->fault != 0) {
        return h->fault;
    }
    enum http_errno e = HTTP_PARSER_ERRNO(&h->parser);
    if (e == HPE_HEADER_OVERFLOW) {
        return 431;
    }
    if (e == HPE_INVALID_METHOD) {
        return 405; /* a word of capital letters, but no method that anything here serves */
    }
    return e == HPE_INVALID_VERSION ? 505 : 400;
}

/* Returns how much of `in` belongs to the current request. */
static size_t parse(struct h1 *h, struct slice in)
{
    if (h->state == H1_IDLE) {
        /* A line break between requests is allowed and means nothing. */
        h->state = H1_HEAD;
        conn_timer_in(h->conn, CONN_HEAD_MS);
    }
    size_t n = http_parser_execute(&h->parser, &callbacks, (const char *)in.data, in.len);
    if (h->complete) {
        return n;
    }
    if (HTTP_PARSER_ERRNO(&h->parser) != HPE_OK) {
        refuse(h, status_of_fault(h));
    }
    return in.len;
}

static void hold(struct h1 *h, struct slice in)
{
    bytes_add(&h->held, in.data, in.len);
    if (h->held.len > H1_HEAD_BYTES_MAX) {
        conn_reading(h->conn, false);
    }
}

static void upgraded_input(struct h1 *h, struct slice in)
{
    conn_timer_in(h->conn, 0);
    h->exchange->body_piece(h->exchange->body_arg, in);
}

/* A streamed body moves its deadline with each byte (its handler looks at the pace), one that is
 * gathered with each step. */
static bool body_moved(struct h1 *h)
{
    if (h->streamed) {
        return !h->conn->read_off;
    }
    bool moved = h->body.len >= h->body_step;
    h->body_step += moved ? CONN_BODY_STEP_BYTES : 0;
    return moved;
}

static void take_input(struct h1 *h, struct slice in)
{
    struct conn *c = h->conn;
    if (h->state == H1_DONE) {
        return;
    }
    if (h->state == H1_UPGRADED) {
        upgraded_input(h, in);
        return;
    }
    if (h->state == H1_WAIT) {
        hold(h, in);
        return;
    }
    size_t n = parse(h, in);
    if (h->state == H1_DONE || !h->complete) {
        if (h->state == H1_BODY && body_moved(h)) {
            conn_timer_in(c, CONN_STALL_MS);
        }
        return;
    }
    if (n < in.len) {
        hold(h, slice_of(in.data + n, in.len - n));
    }
    if (!h->streamed) {
        wait_for_answer(h);
        dispatch(h);
    }
    if (h->state == H1_UPGRADED && h->held.len > 0) {
        struct bytes held = h->held;
        h->held = (struct bytes){0};
        conn_reading(h->conn, true);
        upgraded_input(h, bytes_slice(&held));
        bytes_deinit(&held);
    }
}

void h1_input(struct conn *c, struct slice in)
{
    take_input(c->h1, in);
    account(c->h1);
}

bool h1_eof(struct conn *c)
{
    struct h1 *h = c->h1;
    if (h->exchange != NULL) {
        return false;
    }
    if (h->state == H1_WAIT) {
        h->eof = true; /* what it sent before is still served */
        conn_mark_dirty(c);
    } else if (h->state == H1_DONE || c->writing) {
        conn_finish(c);
    } else {
        return false;
    }
    conn_reading(c, false);
    return true;
}

/* The answer is with the socket: go on with what was held, or wait, or end. */
static void answered(struct h1 *h)
{
    struct conn *c = h->conn;
    if (!h->keep_alive || c->hub->draining || (h->eof && h->held.len == 0)) {
        h->state = H1_DONE;
        c->finish = true;
        return;
    }
    next_request(h);
    conn_timer_in(c, CONN_IDLE_MS);
    conn_reading(c, !h->eof);
    if (h->held.len > 0) {
        struct bytes held = h->held;
        h->held = (struct bytes){0};
        h1_input(c, bytes_slice(&held));
        bytes_deinit(&held);
    }
}

bool h1_gather(struct conn *c, struct bytes *out)
{
    struct h1 *h = c->h1;
    size_t n = h->out.len - h->out_at;
    n = n < CONN_WRITE_BYTES ? n : CONN_WRITE_BYTES;
    if (n > 0) {
        bytes_add(out, h->out.data + h->out_at, n);
        h->out_at += n;
    }
    if (h->out_at < h->out.len) {
        account(h);
        return true;
    }
    h->out_at = 0;
    bytes_deinit(&h->out);
    if (h->state == H1_WAIT && h->exchange == NULL) {
        answered(h);
    }
    account(h);
    return false;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

void h1_start(struct conn *c)
{
    struct h1 *h = xcalloc(1, sizeof(*h));
    h->conn = c;
    c->h1 = h;
    next_request(h);
    h->state = H1_HEAD; /* the timer set at accept runs on */
}

void h1_stop(struct conn *c)
{
    struct h1 *h = c->h1;
    struct http_exchange *x = h->exchange;
    if (x != NULL) {
        h->exchange = NULL;
        x->h1 = NULL;
        if (x->gone != NULL) {
            x->gone(x->gone_arg);
        }
    }
    conn_hold(c, h->accounted, 0);
    bytes_deinit(&h->head);
    bytes_deinit(&h->body);
    bytes_deinit(&h->held);
    bytes_deinit(&h->out);
    free(h);
    c->h1 = NULL;
}

void h1_written(struct conn *c)
{
    struct http_exchange *x = c->h1->exchange;
    if (x != NULL && x->written != NULL) {
        x->written(x->written_arg);
    }
}

void h1_drain(struct conn *c)
{
    struct h1 *h = c->h1;
    if (h->state == H1_WAIT || h->state == H1_UPGRADED) {
        h->keep_alive = false;
        if (h->exchange != NULL && h->exchange->drain != NULL) {
            h->exchange->drain(h->exchange->drain_arg);
        }
    } else {
        h->state = H1_DONE;
        conn_finish(c);
    }
}

/* Too slow with a head or body, or idle for too long: Go closes without a word as well. Once it is over, what is left to send has its own time. */
void h1_timer(struct conn *c)
{
    if (c->h1->state != H1_DONE) {
        conn_kill(c);
    }
}
