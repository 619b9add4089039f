/* head.c - request headers: which call this is, and whether it may begin.
 *
 * The checks, their order and texts are grpc-go's (http2_server.go operateHeaders, server.go
 * handleStream).
 */
#include "api/grpc/call.h"
#include "base/assert.h"

static bool is(struct slice s, const char *literal, size_t len)
{
    return s.len == len && memcmp(s.data, literal, len) == 0;
}
#define IS(s, literal) is((s), (literal), sizeof(literal) - 1)

/* "application/grpc", alone or followed by a subtype or parameters. */
static bool is_grpc_type(struct slice v)
{
    static const char type[] = "application/grpc";
    size_t n = sizeof(type) - 1;
    return v.len >= n && memcmp(v.data, type, n) == 0 &&
           (v.len == n || v.data[n] == '+' || v.data[n] == ';');
}

enum err grpc_timeout_parse(struct slice text, uint64_t *ms)
{
    if (text.len < 2 || text.len > 9) {
        return ERR_INVALID;
    }
    uint64_t n = 0;
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return ERR_INVALID;
        }
        n = n * 10 + (uint64_t)(text.data[i] - '0');
    }
    /* Eight digits of hours are far below the range of 64 bits. Parts of a millisecond round up, so
     * that only a true zero is over at once. */
    switch (text.data[text.len - 1]) {
    case 'H':
        *ms = n * 3600000u;
        return OK;
    case 'M':
        *ms = n * 60000u;
        return OK;
    case 'S':
        *ms = n * 1000u;
        return OK;
    case 'm':
        *ms = n;
        return OK;
    case 'u':
        *ms = (n + 999u) / 1000u;
        return OK;
    case 'n':
        *ms = (n + 999999u) / 1000000u;
        return OK;
    default:
        return ERR_INVALID;
    }
}

static void take_timeout(struct grpc_call *c, struct slice value)
{
    uint64_t ms;
    if (grpc_timeout_parse(value, &ms) != OK) {
        c->bad_timeout = true;
        c->timeout = call_keep(c, value);
        return;
    }
    c->deadline_ms = loop_now_ms(c->home->loop) + ms;
}

static void take_path(struct grpc_call *c, struct slice value)
{
    c->row = server_find(c->home->server, value);
    if (c->row != NULL) {
        c->method = c->row->method;
    } else {
        c->path = call_keep(c, value);
    }
}

static void take_key(struct grpc_call *c, enum call_key key, struct slice value)
{
    if (c->keys[key].data == NULL) {
        c->keys[key] = call_keep(c, value);
    }
}

/* RFC 9113 8.2 and 8.3, which nghttp2 does not look at here (h2.c, NO_HTTP_MESSAGING): letters that may stand in a field, no fields of HTTP/1, and the
 * pseudo-headers first, each once. A request with two paths would be checked as one call and served as another. */
static bool field_is_sound(struct grpc_call *c, struct slice name, struct slice value)
{
    static const char *const pseudo[] = {":method", ":scheme", ":path", ":authority"};
    if (nghttp2_check_header_name(name.data, name.len) == 0 || nghttp2_check_header_value(value.data, value.len) == 0) {
        return false;
    }
    if (name.data[0] != ':') {
        c->fields_began = true;
        return !IS(name, "connection");
    }
    for (unsigned i = 0; i < ARRAY_LEN(pseudo); i++) {
        if (is(name, pseudo[i], strlen(pseudo[i]))) {
            bool first = !c->fields_began && (c->pseudo_seen & 1u << i) == 0;
            c->pseudo_seen |= (uint8_t)(1u << i);
            return first;
        }
    }
    return false;
}

/* Names are told apart by length first: most headers of a call are none of ours. */
void call_header(struct grpc_call *c, struct slice name, struct slice value)
{
    if (!field_is_sound(c, name, value)) {
        h2_reset(&c->stream, NGHTTP2_PROTOCOL_ERROR);
        return;
    }
    switch (name.len) {
    case 5:
        if (IS(name, ":path")) {
            take_path(c, value);
        } else if (IS(name, "token")) {
            take_key(c, KEY_TOKEN, value);
        }
        break;
    case 7:
        if (IS(name, ":method")) {
            c->post = IS(value, "POST");
            if (!c->post) {
                c->verb = call_keep(c, value);
            }
        }
        break;
    case 9:
        if (IS(name, "hasleader")) {
            take_key(c, KEY_HASLEADER, value);
        }
        break;
    case 12:
        if (IS(name, "content-type")) {
            c->content_type_ok = is_grpc_type(value);
            if (!c->content_type_ok) {
                c->content_type = call_keep(c, value);
            }
        } else if (IS(name, "grpc-timeout")) {
            take_timeout(c, value);
        }
        break;
    case 13:
        if (IS(name, "grpc-encoding")) {
            c->gzip = IS(value, "gzip");
            c->encoding = c->gzip || IS(value, "identity") ? (struct slice){NULL, 0} : call_keep(c, value);
        } else if (IS(name, "authorization")) {
            take_key(c, KEY_AUTHORIZATION, value);
        }
        break;
    case 18:
        if (IS(name, "client-api-version")) {
            take_key(c, KEY_CLIENT_API_VERSION, value);
        } else if (IS(name, "grpcgateway-accept")) {
            take_key(c, KEY_GATEWAY_ACCEPT, value);
        }
        break;
    default:
        break;
    }
}

/* Refuse with `before`, the quoted `what`, and `after`. */
static void refuse_quoted(struct grpc_call *c, const char *http_status, enum grpc_code code,
                          const char *before, struct slice what, const char *after)
{
    struct bytes text = {0};
    bytes_add_str(&text, before);
    grpc_quote(&text, what);
    bytes_add(&text, after, strlen(after) + 1);
    call_refuse(c, http_status, code, (const char *)text.data);
    bytes_deinit(&text);
}

static void refuse_timeout(struct grpc_call *c)
{
    struct slice t = c->timeout;
    const char *fault = "malformed grpc-timeout: transport: timeout unit is not recognized: ";
    const char *after = "";
    if (t.len < 2) {
        fault = "malformed grpc-timeout: transport: timeout string is too short: ";
    } else if (t.len > 9) {
        fault = "malformed grpc-timeout: transport: timeout string is too long: ";
    } else if (memchr("HMSmun", t.data[t.len - 1], 6) != NULL) {
        fault = "malformed grpc-timeout: strconv.ParseUint: parsing ";
        after = ": invalid syntax";
        t.len--;
    }
    refuse_quoted(c, "400", GRPC_INTERNAL, fault, t, after);
}

static void refuse_path(struct grpc_call *c)
{
    struct slice p = c->path;
    const uint8_t *slash = p.len == 0 ? NULL : memrchr(p.data, '/', p.len);
    if (slash == NULL || slash == p.data || p.data[0] != '/') {
        refuse_quoted(c, "200", GRPC_UNIMPLEMENTED, "malformed method name: ", p, "");
        return;
    }
    struct slice service = slice_of(p.data + 1, (size_t)(slash - p.data) - 1);
    struct slice method = slice_of(slash + 1, p.len - (size_t)(slash + 1 - p.data));
    struct bytes text = {0};
    if (server_knows_service(c->home->server, service)) {
        bytes_printf(&text, "unknown method %.*s for service ", (int)method.len,
                     (const char *)method.data);
    } else {
        bytes_add_str(&text, "unknown service ");
    }
    bytes_add(&text, service.data, service.len);
    bytes_add(&text, "", 1);
    call_refuse(c, "200", GRPC_UNIMPLEMENTED, (const char *)text.data);
    bytes_deinit(&text);
}

static bool head_is_sound(struct grpc_call *c)
{
    if (!c->content_type_ok) {
        refuse_quoted(c, "415", GRPC_INVALID_ARGUMENT, "invalid gRPC request content-type ",
                      c->content_type, "");
    } else if (c->bad_timeout) {
        refuse_timeout(c);
    } else if (!c->post) {
        refuse_quoted(c, "405", GRPC_INTERNAL, "Received a HEADERS frame with :method ", c->verb,
                      " which should be POST");
    } else if (c->deadline_ms <= loop_now_ms(c->home->loop)) {
        call_refuse(c, "200", GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    } else if (c->method == NULL) {
        refuse_path(c);
    } else if (c->encoding.len > 0) {
        refuse_quoted(c, "200", GRPC_UNIMPLEMENTED,
                      "grpc: Decompressor is not installed for grpc-encoding ", c->encoding, "");
    } else {
        return true;
    }
    return false;
}

void call_request(struct grpc_call *c)
{
    if (!head_is_sound(c)) {
        return;
    }
    if (c->deadline_ms != UINT64_MAX) {
        loop_timer_set(c->home->loop, &c->timer, c->deadline_ms);
    }
    if (c->method->kind != GRPC_UNARY) {
        if (c->method->kind == GRPC_BIDI && !c->in_process) {
            /* Long-lived streams take turns with the calls beside them. */
            h2_urgency(&c->stream, 3, true);
        }
        if (!call_admit(c)) {
            return;
        }
        if (c->method->started != NULL) {
            c->running = true;
            c->method->started(c);
        }
    }
    if (c->stream.remote_closed) {
        call_half_closed(c);
    } else if (c->method->kind == GRPC_UNARY || c->method->kind == GRPC_SERVER_STREAM) {
        call_slow_begin(c); /* until its message is here */
    }
}
