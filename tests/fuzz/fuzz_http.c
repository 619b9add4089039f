/* Any bytes on a new connection: sniffing, HTTP/1.x, HTTP/2 framing. The input's first byte decides
 * in which pieces the rest arrives, how much the peer reads, and whether the server goes down. */
#include <stdlib.h>

#include "base/mem.h"
#include "tests/api/http/mem_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct plain {
    struct h2_stream stream;
    unsigned sent;
};

static void *attach(void *arg, struct loop *l)
{
    (void)l;
    return arg;
}

static void detach(void *loop_state)
{
    (void)loop_state;
}

static struct h2_stream *open_stream(void *loop_state)
{
    (void)loop_state;
    struct plain *p = xcalloc(1, sizeof(*p));
    return &p->stream;
}

static void header(struct h2_stream *s, struct slice name, struct slice value)
{
    (void)s;
    /* An empty name does come through: nghttp2 calls such fields ignorable. */
    ASSERT(name.len + value.len < H2_HEADER_LIST_BYTES_MAX);
}

static void request(struct h2_stream *s)
{
    static const nghttp2_nv head[] = {H2_NV(":status", "200")};
    h2_respond(s, head, 1, true);
}

static void data_piece(struct h2_stream *s, struct slice piece)
{
    (void)s;
    (void)piece;
}

static void half_closed(struct h2_stream *s)
{
    h2_resume(s);
}

static int64_t pull(struct h2_stream *s, uint8_t *dst, size_t room, bool *last)
{
    struct plain *p = CONTAINER_OF(s, struct plain, stream);
    static const nghttp2_nv trailers[] = {H2_NV("t", "1")};
    if (p->sent == 3) {
        *last = true;
        h2_trailers(s, trailers, 1);
        return 0;
    }
    p->sent++;
    size_t n = room < 5000 ? room : 5000;
    memset(dst, 'x', n);
    return (int64_t)n;
}

static void closed(struct h2_stream *s, uint32_t error_code)
{
    (void)error_code;
    free(CONTAINER_OF(s, struct plain, stream));
}

static bool turn_end(void *loop_state)
{
    (void)loop_state;
    return false;
}

static void draining(struct h2_stream *s)
{
    h2_reset(s, NGHTTP2_CANCEL);
}

static const struct h2_handler handler = {
    .attach = attach,
    .detach = detach,
    .open = open_stream,
    .header = header,
    .request = request,
    .data = data_piece,
    .half_closed = half_closed,
    .pull = pull,
    .closed = closed,
    .draining = draining,
    .turn_end = turn_end,
};

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    (void)arg;
    /* Touch every byte that a handler may. */
    size_t n = strlen(r->method) + strlen(r->path) + strlen(r->query) + strlen(r->host) +
               strlen(r->origin) + strlen(r->authorization) + strlen(r->content_type) +
               strlen(r->accept_encoding);
    for (size_t i = 0; i < r->body.len; i++) {
        n += r->body.data[i];
    }
    if (n % 2 == 0) {
        http_respond(x, 200, "text/plain", NULL, slice_str(r->path));
        return;
    }
    http_stream_begin(x, 200, "text/plain", NULL);
    http_stream_send(x, slice_str(r->path));
    http_stream_end(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    size_t piece = data[0] < 0xf0 ? (size_t)data[0] % 64 + 1 : SIZE_MAX;
    struct loop *l = loop_create(0);
    const struct http_config cfg = {.h2 = &handler,
                                    .http = {handle, NULL},
                                    .streams_max = 100,
                                    .keepalive_min_ms = 5000,
                                    .keepalive_interval_ms = 10000,
                                    .keepalive_timeout_ms = 5000};
    struct hub hub;
    hub_init(&hub, l, &cfg);
    struct mem_conn m;
    mem_open(&m, &hub);
    for (size_t at = 1; at < size && !m.closed;) {
        size_t n = size - at < piece ? size - at : piece;
        conn_input(&m.conn, slice_of(data + at, n));
        at += n;
        m.room = (data[0] & 3) == 0 ? 7 : SIZE_MAX;
        hub_flush(&hub);
        mem_unblock(&m);
        bytes_reset(&m.out);
    }
    hub_flush(&hub);
    if ((data[0] & 8) != 0) { /* the server goes down with this client connected */
        hub_drain(&hub);
        hub_flush(&hub);
    }
    loop_skip(l, 10000);
    hub_flush(&hub);
    hub_deinit(&hub);
    ASSERT(m.closed);
    loop_destroy(&l);
    bytes_deinit(&m.out);
    return 0;
}
