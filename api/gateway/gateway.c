/* gateway.c - from an exchange to a call and back.
 *
 *     request ──JSON──► messages ──► call ──bytes──► fields ──JSON──► piece ──► connection
 *
 * Bytes are taken from the call only while the connection has room, and only one field of a message is held at a time, so that a range of any
 * size goes through in little memory. A reply that fits into one piece is sent whole, with its length, once the status is known; errors have
 * their own HTTP status as long as nothing is sent.
 *
 * Over a WebSocket the client's messages are the body, and go on coming while the call runs; each line of the reply is a message.
 */
#include "api/gateway/gateway.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/gateway/limits.h"
#include "api/gateway/message.h"
#include "api/gateway/routes.h"
#include "api/gateway/split.h"
#include "api/gateway/websocket.h"
#include "api/grpc/local.h"
#include "base/assert.h"
#include "base/mem.h"

#define JSON_TYPE "application/json"
#define METADATA_TYPE "Grpc-Metadata-Content-Type: application/grpc\r\n"
#define FRAME_HEAD 5u        /* before each message: a flag and its length */
#define STATUS_SHOWN_MAX 1024 /* bytes of a status text in a header */

struct gateway_call {
    struct grpc_local local;
    struct http_exchange *x; /* until it is answered */
    struct websocket *socket; /* owned; NULL: an exchange like others */
    struct gjson_split split; /* of what the socket brought */
    bool asked;               /* the socket has brought all that the method wants to hear */
    const struct route *route;
    /* The message that is being taken. */
    bool in_message;
    uint8_t head[FRAME_HEAD];
    uint8_t n_head;
    uint64_t left;   /* of it, not yet taken */
    struct bytes in; /* taken and not yet written */
    uint64_t want;   /* bytes that `in` needs for its next field */
    struct gjson_writer writer;
    /* The answer. */
    struct bytes out;
    uint64_t n_messages; /* whole ones in `out` or sent */
    bool begun;          /* its head is out */
    bool pumping;
};

static bool is_stream(const struct route *r)
{
    return r->kind == GRPC_BIDI || r->kind == GRPC_SERVER_STREAM;
}

static void destroy(struct gateway_call *g)
{
    grpc_local_close(&g->local);
    if (g->socket != NULL) {
        websocket_close(g->socket, WEBSOCKET_FAILED);
    }
    bytes_deinit(&g->in);
    bytes_deinit(&g->out);
    free(g);
}

/* --- statuses ----------------------------------------------------------------------------------------------------- */

int gateway_http_status(enum grpc_code code)
{
    static const int statuses[] = {
        [GRPC_OK] = 200,
        [GRPC_CANCELED] = 499,
        [GRPC_UNKNOWN] = 500,
        [GRPC_INVALID_ARGUMENT] = 400,
        [GRPC_DEADLINE_EXCEEDED] = 504,
        [GRPC_NOT_FOUND] = 404,
        [GRPC_ALREADY_EXISTS] = 409,
        [GRPC_PERMISSION_DENIED] = 403,
        [GRPC_RESOURCE_EXHAUSTED] = 429,
        [GRPC_FAILED_PRECONDITION] = 400,
        [GRPC_ABORTED] = 409,
        [GRPC_OUT_OF_RANGE] = 400,
        [GRPC_UNIMPLEMENTED] = 501,
        [GRPC_INTERNAL] = 500,
        [GRPC_UNAVAILABLE] = 503,
        [GRPC_DATA_LOSS] = 500,
        [GRPC_UNAUTHENTICATED] = 401,
    };
    ASSERT((size_t)code < ARRAY_LEN(statuses));
    return statuses[code];
}

static void add_status(struct bytes *b, enum grpc_code code, struct slice text)
{
    bytes_printf(b, "{\"code\":%d", (int)code);
    if (text.len > 0) {
        bytes_add_str(b, ",\"message\":");
        gjson_add_string(b, text);
    }
    bytes_add(b, "}", 1);
}

/* The answer is this error and nothing else. */
static void respond_status(struct http_exchange *x, enum grpc_code code, struct slice text)
{
    struct bytes body = {0}, lines = {0};
    add_status(&body, code, text);
    if (code == GRPC_UNAUTHENTICATED) {
        bytes_add_str(&lines, "WWW-Authenticate: ");
        for (size_t i = 0; i < text.len && i < STATUS_SHOWN_MAX; i++) {
            uint8_t c = text.data[i] < 0x20 || text.data[i] == 0x7f ? ' ' : text.data[i];
            bytes_add(&lines, &c, 1);
        }
        bytes_add_str(&lines, "\r\n");
    }
    bytes_add(&lines, "", 1);
    http_respond(x, gateway_http_status(code), JSON_TYPE, (const char *)lines.data, bytes_slice(&body));
    bytes_deinit(&body);
    bytes_deinit(&lines);
}

/* --- the answer ---------------------------------------------------------------------------------------------------- */

static void on_written(void *arg);

static void begin(struct gateway_call *g, int status, const char *type, const char *headers)
{
    g->begun = true;
    http_stream_begin(g->x, status, type, headers);
    http_stream_on_written(g->x, on_written, g);
}

static void send_out(struct gateway_call *g)
{
    if (g->socket != NULL) {
        websocket_send(g->socket, bytes_slice(&g->out), !g->in_message);
        bytes_reset(&g->out);
        return;
    }
    if (!g->begun) {
        begin(g, 200, JSON_TYPE, METADATA_TYPE);
    }
    http_stream_send(g->x, bytes_slice(&g->out));
    bytes_reset(&g->out);
}

/* The answer is complete: give everything back. */
static void end(struct gateway_call *g)
{
    struct http_exchange *x = g->x;
    destroy(g);
    http_stream_end(x);
}

/* The last word over a socket; then it is closed. */
static void end_socket(struct gateway_call *g, unsigned code)
{
    websocket_close(g->socket, code);
    g->socket = NULL;
    end(g);
}

static void fail_socket(struct gateway_call *g, enum grpc_code code, struct slice text)
{
    if (g->in_message) {
        end_socket(g, WEBSOCKET_FAILED);
        return;
    }
    bytes_reset(&g->out);
    if (is_stream(g->route)) {
        bytes_add_str(&g->out, "{\"error\":");
    }
    add_status(&g->out, code, text);
    if (is_stream(g->route)) {
        bytes_add(&g->out, "}", 1);
    }
    send_out(g);
    end_socket(g, WEBSOCKET_NORMAL);
}

static void fail(struct gateway_call *g, enum grpc_code code, struct slice text)
{
    if (g->socket != NULL) {
        fail_socket(g, code, text);
        return;
    }
    if (g->in_message || (g->begun && !is_stream(g->route))) {
        /* Half a reply is out, or would be: better none than one that looks whole. */
        if (g->begun) {
            struct http_exchange *x = g->x;
            destroy(g);
            http_exchange_kill(x);
            return;
        }
        bytes_reset(&g->out);
    }
    if (!is_stream(g->route)) {
        struct http_exchange *x = g->x;
        respond_status(x, code, text);
        destroy(g);
        return;
    }
    if (!g->begun) {
        begin(g, gateway_http_status(code), JSON_TYPE, NULL);
    }
    bytes_add_str(&g->out, "{\"error\":");
    add_status(&g->out, code, text);
    bytes_add_str(&g->out, "}\n");
    send_out(g);
    end(g);
}

static void finish(struct gateway_call *g, enum grpc_code code, struct slice text)
{
    if (code != GRPC_OK) {
        fail(g, code, text);
        return;
    }
    if (g->in_message || (g->n_messages == 0 && !is_stream(g->route))) {
        fail(g, GRPC_INTERNAL, slice_str("unexpected EOF"));
        return;
    }
    if (g->socket != NULL) {
        end_socket(g, WEBSOCKET_NORMAL);
        return;
    }
    if (!g->begun && !is_stream(g->route)) {
        struct http_exchange *x = g->x;
        http_respond(x, 200, JSON_TYPE, METADATA_TYPE, bytes_slice(&g->out));
        destroy(g);
        return;
    }
    if (!g->begun) {
        begin(g, 200, NULL, NULL); /* a stream without messages says nothing about itself */
    }
    send_out(g);
    end(g);
}

/* --- from the call ----------------------------------------------------------------------------------------------------- */

static bool take_head(struct gateway_call *g)
{
    size_t n = grpc_local_take(&g->local, g->head + g->n_head, FRAME_HEAD - g->n_head);
    g->n_head = (uint8_t)(g->n_head + n);
    if (g->n_head < FRAME_HEAD) {
        return n > 0;
    }
    g->n_head = 0;
    g->left = (uint32_t)g->head[1] << 24 | (uint32_t)g->head[2] << 16 | (uint32_t)g->head[3] << 8 | g->head[4];
    g->in_message = true;
    g->want = 0;
    if (is_stream(g->route)) {
        bytes_add_str(&g->out, "{\"result\":");
    }
    gjson_writer_begin(&g->writer, g->route->response, &g->out);
    return true;
}

static void message_ended(struct gateway_call *g)
{
    gjson_writer_end(&g->writer, &g->out);
    g->in_message = false;
    g->n_messages++;
    if (is_stream(g->route)) {
        bytes_add_str(&g->out, g->socket == NULL ? "}\n" : "}");
    }
    if (is_stream(g->route) || g->socket != NULL) {
        send_out(g);
    }
}

static bool take_body(struct gateway_call *g)
{
    uint64_t room = g->want > g->in.len + GATEWAY_PIECE_BYTES ? g->want - g->in.len : GATEWAY_PIECE_BYTES;
    room = room < g->left ? room : g->left;
    uint8_t *dst = bytes_reserve(&g->in, (size_t)room);
    size_t n = grpc_local_take(&g->local, dst, (size_t)room);
    g->in.len += n;
    g->left -= n;
    return n > 0;
}

enum step { STEP_ON, STEP_WAIT, STEP_BROKEN, STEP_TOO_LARGE };

static enum step step_message(struct gateway_call *g)
{
    size_t used = 0;
    if (gjson_writer_feed(&g->writer, bytes_slice(&g->in), GATEWAY_PIECE_BYTES, &g->out, &used, &g->want) != OK) {
        return STEP_BROKEN;
    }
    if (used > 0) {
        memmove(g->in.data, g->in.data + used, g->in.len - used);
        g->in.len -= used;
    }
    if (g->out.len >= GATEWAY_PIECE_BYTES) {
        send_out(g);
        return STEP_ON;
    }
    if (g->left == 0) {
        if (g->in.len > 0) {
            return STEP_BROKEN;
        }
        message_ended(g);
        return STEP_ON;
    }
    if (g->want > GATEWAY_FIELD_BYTES_MAX) {
        return STEP_TOO_LARGE;
    }
    return take_body(g) ? STEP_ON : STEP_WAIT;
}

/* What waits for more of its message, in either direction. */
static void tell_held(struct gateway_call *g)
{
    http_exchange_holds(g->x, g->in.cap + g->out.cap + (g->socket != NULL ? websocket_text(g->socket)->cap : 0));
}

/* Move on until there is nothing to take, no room for it, or the end. */
static void pump(struct gateway_call *g)
{
    enum step step = STEP_ON;
    if (g->pumping) {
        return;
    }
    g->pumping = true;
    while (step == STEP_ON) {
        if (g->begun && http_stream_queued(g->x) > GATEWAY_QUEUE_BYTES) {
            g->pumping = false;
            tell_held(g);
            return;
        }
        step = g->in_message ? step_message(g) : take_head(g) ? STEP_ON : STEP_WAIT;
    }
    g->pumping = false;
    enum grpc_code code;
    struct slice text;
    if (step == STEP_BROKEN) {
        fail(g, GRPC_INTERNAL, slice_str("the reply is no message"));
    } else if (step == STEP_TOO_LARGE) {
        char words[96];
        (void)snprintf(words, sizeof(words), "grpc: received message larger than max (%" PRIu64 " vs. %u)", g->want, GATEWAY_FIELD_BYTES_MAX);
        fail(g, GRPC_RESOURCE_EXHAUSTED, slice_str(words));
    } else if (grpc_local_ended(&g->local, &code, &text)) {
        finish(g, code, text);
    } else {
        tell_held(g);
    }
}

static void on_ready(struct grpc_local *l)
{
    pump(CONTAINER_OF(l, struct gateway_call, local));
}

static void on_written(void *arg)
{
    struct gateway_call *g = arg;
    if (g->socket != NULL) {
        websocket_written(g->socket);
    }
    pump(g);
}

static void on_drain(void *arg)
{
    struct gateway_call *g = arg;
    grpc_local_drain(&g->local);
}

/* Nobody waits for the answer any more: the call is cancelled. */
static void on_gone(void *arg)
{
    struct gateway_call *g = arg;
    struct http_exchange *x = g->x;
    bool begun = g->begun;
    destroy(g);
    if (begun) {
        http_stream_end(x);
    } else {
        http_respond(x, gateway_http_status(GRPC_CANCELED), NULL, NULL, (struct slice){NULL, 0});
    }
}

/* --- to the call ----------------------------------------------------------------------------------------------------------- */

/* As grpc-gateway reads Grpc-Timeout: any int64 before the unit. 0 is none, less than that is over. */
static bool parse_timeout(const char *text, uint64_t *ms)
{
    static const char units[] = "HMSmun";
    static const uint64_t per_unit_us[] = {3600000000u, 60000000u, 1000000u, 1000u, 1u, 0u};
    size_t len = strlen(text);
    const char *unit = len < 2 ? NULL : strchr(units, text[len - 1]);
    bool sign = len > 1 && (text[0] == '-' || text[0] == '+');
    if (unit == NULL || len < 2u + sign || len > 20) {
        return false;
    }
    uint64_t n = 0;
    for (size_t i = sign; i + 1 < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    if (n == 0) {
        *ms = UINT64_MAX;
        return true;
    }
    uint64_t us = *unit == 'n' ? n / 1000u + 1u : n > UINT64_MAX / 2 / per_unit_us[unit - units] ? UINT64_MAX / 2 : n * per_unit_us[unit - units];
    *ms = text[0] == '-' ? 0 : (us + 999u) / 1000u;
    return true;
}

/* As metadata; what is not printable ASCII cannot be. */
static struct slice printable(const char *v)
{
    for (const char *p = v; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e) {
            return (struct slice){NULL, 0};
        }
    }
    return *v == '\0' ? (struct slice){NULL, 0} : slice_str(v);
}

static struct slice metadata(const struct http_request *r, const char *name)
{
    return printable(http_request_header(r, name));
}

static struct grpc_local_head head_of(const struct route *route, const struct http_request *r)
{
    struct grpc_local_head h = {
        .path = route->method,
        .token = metadata(r, "Grpc-Metadata-Token"),
        .authorization = metadata(r, "Authorization"),
        .hasleader = metadata(r, "Grpc-Metadata-Hasleader"),
        .client_api_version = metadata(r, "Grpc-Metadata-Client-Api-Version"),
        .from_gateway = true,
        .timeout_ms = UINT64_MAX,
    };
    if (h.authorization.data == NULL) {
        h.authorization = metadata(r, "Grpc-Metadata-Authorization");
    }
    return h;
}

/* All messages of a stream's body. What is no message ends it, as if the client had said nothing more. */
static void send_stream(struct gateway_call *g, struct slice body)
{
    struct gjson j;
    struct bytes message = {0};
    gjson_init(&j, body, NULL);
    while (message_from_json(&j, g->route->request, &message) == OK) {
        grpc_local_send(&g->local, bytes_slice(&message));
        bytes_reset(&message);
    }
    grpc_local_half_close(&g->local);
    bytes_deinit(&message);
    gjson_deinit(&j);
}

static struct gateway_call *create(const struct route *route, struct http_exchange *x)
{
    struct gateway_call *g = xcalloc(1, sizeof(*g));
    g->local.ready = on_ready;
    g->x = x;
    g->route = route;
    return g;
}

/* Make the call with the one message of `body`, or for a stream all of them. */
static void call(struct grpc_server *s, const struct route *route, struct http_exchange *x, const struct http_request *r,
                 const struct grpc_local_head *head)
{
    struct err_ctx ec = {{0}};
    struct gjson j;
    struct bytes message = {0};
    gjson_init(&j, r->body, &ec);
    enum err e = route->kind == GRPC_BIDI ? OK : message_from_json(&j, route->request, &message);
    gjson_deinit(&j);
    if (e == ERR_INVALID) {
        respond_status(x, GRPC_INVALID_ARGUMENT, slice_str(ec.text));
        bytes_deinit(&message);
        return;
    }
    struct gateway_call *g = create(route, x);
    if (!grpc_local_open(&g->local, s, http_exchange_loop(x), head)) {
        destroy(g);
        respond_status(x, GRPC_UNAVAILABLE, slice_str("etcdserver: server stopped"));
        bytes_deinit(&message);
        return;
    }
    http_exchange_on_gone(x, on_gone, g);
    http_exchange_on_drain(x, on_drain, g);
    if (route->kind == GRPC_BIDI) {
        send_stream(g, r->body);
    } else {
        grpc_local_send(&g->local, bytes_slice(&message));
        grpc_local_half_close(&g->local);
    }
    bytes_deinit(&message);
}

/* --- over a socket ------------------------------------------------------------------------------------------------------- */

static enum err send_value(struct gateway_call *g, struct slice value, struct err_ctx *ec)
{
    bool one = g->route->kind != GRPC_BIDI;
    struct gjson j;
    struct bytes message = {0};
    gjson_init(&j, value, ec);
    enum err e = message_from_json(&j, g->route->request, &message);
    gjson_deinit(&j);
    if (e == OK) {
        grpc_local_send(&g->local, bytes_slice(&message));
    }
    bytes_deinit(&message);
    /* Of a stream, what is no message ends it, as if the client had said nothing more. */
    g->asked = one || e != OK;
    if (g->asked) {
        grpc_local_half_close(&g->local);
    }
    return one ? e : OK;
}

/* What the socket brought, value by value, to the call; behind the last that is wanted nothing is listened to. */
static void take_text(struct gateway_call *g, struct bytes *text)
{
    struct err_ctx ec = {{0}};
    enum err e = OK;
    size_t at = 0;
    while (!g->asked && at < text->len) {
        size_t n = gjson_split(&g->split, slice_of(text->data + at, text->len - at));
        if (n == 0) {
            break;
        }
        e = send_value(g, slice_of(text->data + at, n), &ec);
        at += n;
    }
    at = g->asked ? text->len : at;
    if (at > 0) {
        struct bytes left = {0}; /* as long as it is: an idle socket holds no large buffer */
        bytes_add(&left, text->data + at, text->len - at);
        bytes_deinit(text);
        *text = left;
    }
    if (e != OK) {
        fail(g, GRPC_INVALID_ARGUMENT, slice_str(ec.text));
    } else if (text->len > SOCKET_MESSAGE_BYTES_MAX) {
        end_socket(g, WEBSOCKET_TOO_BIG);
    } else {
        tell_held(g);
    }
}

static void on_socket(void *arg)
{
    struct gateway_call *g = arg;
    if (websocket_is_over(g->socket)) {
        end_socket(g, WEBSOCKET_NORMAL);
        return;
    }
    take_text(g, websocket_text(g->socket));
}

/* The client is told when the service ends what would not end by itself; who has asked nothing is told at once. */
static void on_socket_drain(void *arg)
{
    struct gateway_call *g = arg;
    if (g->route->kind != GRPC_BIDI && !g->asked) {
        end_socket(g, WEBSOCKET_GOING_AWAY);
        return;
    }
    grpc_local_drain(&g->local);
}

static void open_socket(struct grpc_server *s, const struct route *route, struct http_exchange *x, const struct http_request *r)
{
    struct gateway_call *g = create(route, x);
    g->socket = websocket_accept(x, r, on_socket, g);
    if (g->socket == NULL) {
        destroy(g);
        return;
    }
    g->begun = true;
    http_stream_on_written(x, on_written, g);
    http_exchange_on_gone(x, on_gone, g);
    http_exchange_on_drain(x, on_socket_drain, g);
    if (route == NULL) {
        add_status(&g->out, GRPC_NOT_FOUND, slice_str("Not Found"));
        send_out(g);
        end_socket(g, WEBSOCKET_NORMAL);
        return;
    }
    char *authorization = websocket_authorization(r);
    const struct grpc_local_head head = {
        .path = route->method,
        .authorization = printable(authorization),
        .from_gateway = true,
        .timeout_ms = UINT64_MAX,
    };
    bool open = grpc_local_open(&g->local, s, http_exchange_loop(x), &head);
    free(authorization);
    if (!open) {
        fail(g, GRPC_UNAVAILABLE, slice_str("etcdserver: server stopped"));
    }
}

bool gateway_takes(const char *path)
{
    return strncmp(path, "/v3/", 4) == 0 || strncmp(path, "/v3beta/", 8) == 0;
}

void gateway_handle(struct grpc_server *s, struct http_exchange *x, const struct http_request *r)
{
    char *beta = strncmp(r->path, "/v3beta/", 8) == 0 ? xasprintf("/v3/%s", r->path + 8) : NULL;
    const struct route *route = route_find(beta != NULL ? beta : r->path);
    free(beta);
    if (websocket_asked(r)) {
        open_socket(s, route, x, r);
        return;
    }
    if (route == NULL) {
        respond_status(x, GRPC_NOT_FOUND, slice_str("Not Found"));
        return;
    }
    if (strcmp(r->method, "POST") != 0) {
        respond_status(x, GRPC_UNIMPLEMENTED, slice_str("Method Not Allowed"));
        return;
    }
    struct grpc_local_head head = head_of(route, r);
    const char *timeout = http_request_header(r, "Grpc-Timeout");
    if (*timeout != '\0' && !parse_timeout(timeout, &head.timeout_ms)) {
        char *text = xasprintf("invalid grpc-timeout: %.*s", STATUS_SHOWN_MAX, timeout);
        respond_status(x, GRPC_INVALID_ARGUMENT, slice_str(text));
        free(text);
        return;
    }
    call(s, route, x, r, &head);
}
