/* gRPC calls from hostile clients. The input is a list of orders: open a call with some header,
 * send body bytes in DATA frames, end or reset a call, raw frames, time. */
#include <stdlib.h>

#include "api/grpc/call.h"
#include "base/mem.h"
#include "tests/api/http/mem_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CALLS_MAX 64u

static void echo(struct grpc_call *c, struct slice m)
{
    grpc_reply(c, &m, 1);
}

static void send_back(struct grpc_call *c, struct slice m)
{
    grpc_send(c, &m, 1);
    grpc_send(c, &m, 1);
}

static void finish(struct grpc_call *c)
{
    grpc_finish(c, GRPC_ABORTED, "50%\x01");
}

static void let_go(struct grpc_call *c)
{
    grpc_finish(c, GRPC_UNAVAILABLE, "going down");
}

static void keep(struct grpc_call *c, struct slice m)
{
    (void)m;
    if (*grpc_call_state(c) == NULL) {
        *grpc_call_state(c) = grpc_call_ref(c);
    }
}

static void ended(struct grpc_call *c)
{
    struct grpc_call *kept = *grpc_call_state(c);
    ASSERT(grpc_call_ended(c) || kept == NULL);
    *grpc_call_state(c) = NULL;
    grpc_call_unref(&kept);
}

static const struct grpc_method table[] = {
    {.path = "/t.S/Echo", .kind = GRPC_UNARY, .message = echo},
    {.path = "/t.S/Keep",
     .kind = GRPC_SERVER_STREAM,
     .message = keep,
     .ended = ended,
     .draining = let_go},
    {.path = "/t.S/Bidi", .kind = GRPC_BIDI, .message = send_back, .half_closed = finish},
    {.path = NULL},
};
static const struct grpc_method *const tables[] = {table, NULL};

static void no_http(void *arg, struct http_exchange *x, const struct http_request *r)
{
    (void)arg;
    (void)r;
    http_respond(x, 404, "text/plain", NULL, slice_str(""));
}

static void put_frame(struct bytes *out, uint8_t type, uint8_t flags, uint32_t stream,
                      struct slice payload)
{
    const uint8_t head[9] = {(uint8_t)(payload.len >> 16),
                             (uint8_t)(payload.len >> 8),
                             (uint8_t)payload.len,
                             type,
                             flags,
                             (uint8_t)(stream >> 24),
                             (uint8_t)(stream >> 16),
                             (uint8_t)(stream >> 8),
                             (uint8_t)stream};
    bytes_add(out, head, sizeof(head));
    bytes_add(out, payload.data, payload.len);
}

/* A literal field without indexing or Huffman coding; both parts are short. */
static void put_field(struct bytes *out, struct slice name, struct slice value)
{
    const uint8_t zero = 0;
    const uint8_t name_len = (uint8_t)name.len;
    const uint8_t value_len = (uint8_t)value.len;
    bytes_add(out, &zero, 1);
    bytes_add(out, &name_len, 1);
    bytes_add(out, name.data, name.len);
    bytes_add(out, &value_len, 1);
    bytes_add(out, value.data, value.len);
}

static void put_call(struct bytes *out, uint32_t stream, uint8_t which, struct slice extra)
{
    static const char *const paths[] = {"/t.S/Echo", "/t.S/Keep", "/t.S/Bidi", "/t.S/None"};
    static const char *const names[] = {
        "grpc-timeout",  "grpc-encoding", "token",     "content-type",
        "authorization", "x-any",         "hasleader", "te"};
    struct bytes block = {0};
    put_field(&block, slice_str(":method"), slice_str("POST"));
    put_field(&block, slice_str(":scheme"), slice_str("http"));
    bool own_path = which >= 0xf0;
    put_field(&block, slice_str(":path"), own_path ? extra : slice_str(paths[which % 4]));
    put_field(&block, slice_str("content-type"), slice_str("application/grpc"));
    if (!own_path && extra.len > 0) {
        put_field(&block, slice_str(names[(which >> 2) % 8]), extra);
    }
    put_frame(out, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, bytes_slice(&block));
    bytes_deinit(&block);
}

/* Take one order off the front and write its frames. Returns the milliseconds that pass. */
static uint64_t one_order(struct slice *in, uint32_t *n_calls, struct bytes *out)
{
    uint8_t order = in->data[0];
    uint8_t arg = in->len > 1 ? in->data[1] : 0;
    size_t len = in->len > 2 ? in->data[2] : 0;
    size_t head = in->len < 3 ? in->len : 3;
    len = len < in->len - head ? len : in->len - head;
    struct slice payload = slice_of(in->data + head, len);
    *in = slice_of(in->data + head + len, in->len - head - len);
    uint32_t stream = *n_calls == 0 ? 1 : 2 * (arg % *n_calls) + 1;
    switch (order % 6) {
    case 0:
        if (*n_calls < CALLS_MAX) {
            payload.len = payload.len < 100 ? payload.len : 100;
            put_call(out, 2 * *n_calls + 1, arg, payload);
            (*n_calls)++;
        }
        return 0;
    case 1:
        put_frame(out, NGHTTP2_DATA, order & 0x80 ? NGHTTP2_FLAG_END_STREAM : 0, stream, payload);
        return 0;
    case 2:
        put_frame(out, NGHTTP2_RST_STREAM, 0, stream, slice_of("\0\0\0\x8", 4));
        return 0;
    case 3:
        put_frame(out, arg, order, stream, payload);
        return 0;
    case 4:
        bytes_add(out, payload.data, payload.len);
        return 0;
    default:
        return arg * 10u;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct grpc_server_config cfg = {
        .limits = {.recv_bytes_max = 1000, .concurrent_streams_max = 50, .keepalive_min_ms = 5000},
        .tables = tables,
        .http = {no_http, NULL},
    };
    struct loop *l = loop_create(0);
    struct grpc_server *s = grpc_server_create(&cfg);
    struct http_config http;
    grpc_http_config(s, &http);
    struct hub hub;
    hub_init(&hub, l, &http);
    struct mem_conn m;
    mem_open(&m, &hub);
    static const char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    conn_input(&m.conn, slice_of(start, sizeof(start) - 1));
    struct slice in = slice_of(data, size);
    uint32_t n_calls = 0;
    struct bytes frames = {0};
    while (in.len > 0 && !m.closed) {
        bytes_reset(&frames);
        uint64_t ms = one_order(&in, &n_calls, &frames);
        conn_input(&m.conn, bytes_slice(&frames));
        if (in.len % 3 != 0) {
            hub_flush(&hub);
        }
        if (ms > 0) {
            loop_skip(l, ms);
        }
        bytes_reset(&m.out);
    }
    bytes_deinit(&frames);
    if (size % 2 == 0) { /* the server goes down with calls open */
        hub_drain(&hub);
        hub_flush(&hub);
        loop_skip(l, 2000);
    }
    hub_deinit(&hub);
    ASSERT(m.closed);
    loop_destroy(&l);
    grpc_server_destroy(&s);
    bytes_deinit(&m.out);
    return 0;
}
