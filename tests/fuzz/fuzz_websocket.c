/* Any bytes from a client that asks for a WebSocket: the handshake, and over a socket that was agreed to (bit 0x80 of the first byte) its frames.
 * The first byte says in which pieces they come, how much of ours the peer takes, and whether the server goes down. */
#include <stdlib.h>

#include "api/gateway/limits.h"
#include "api/gateway/websocket.h"
#include "base/mem.h"
#include "tests/api/http/mem_conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct talk {
    struct http_exchange *x;
    struct websocket *w; /* NULL: none */
};

static void end(struct talk *t, unsigned code)
{
    websocket_close(t->w, code);
    t->w = NULL;
    http_stream_end(t->x);
}

/* Sends back what came, a message for each line, in two pieces. */
static void on_event(void *arg)
{
    struct talk *t = arg;
    if (websocket_is_over(t->w)) {
        end(t, WEBSOCKET_NORMAL);
        return;
    }
    struct bytes *text = websocket_text(t->w);
    ASSERT(text->len <= SOCKET_MESSAGE_BYTES_MAX);
    size_t at = 0;
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i] == '\n') {
            websocket_send(t->w, slice_of(text->data + at, (i - at) / 2), false);
            websocket_send(t->w, slice_of(text->data + at + (i - at) / 2, i - at - (i - at) / 2), true);
            at = i + 1;
        }
    }
    if (at > 0) {
        memmove(text->data, text->data + at, text->len - at);
        text->len -= at;
    }
    if (text->len > 0 && text->data[0] == '!') {
        end(t, WEBSOCKET_TOO_BIG);
    }
}

static void on_gone(void *arg)
{
    end(arg, WEBSOCKET_FAILED);
}

static void on_written(void *arg)
{
    struct talk *t = arg;
    websocket_written(t->w);
}

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct talk *t = arg;
    free(websocket_authorization(r));
    if (!websocket_asked(r) || t->w != NULL) {
        http_respond(x, 200, NULL, NULL, (struct slice){NULL, 0});
        return;
    }
    t->x = x;
    t->w = websocket_accept(x, r, on_event, t);
    if (t->w != NULL) {
        http_exchange_on_gone(x, on_gone, t);
        http_stream_on_written(x, on_written, t);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char ask[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    if (size < 1) {
        return 0;
    }
    size_t piece = (data[0] & 0x70) != 0x70 ? (size_t)(data[0] & 0x70) + 1 : SIZE_MAX;
    struct talk t = {0};
    struct loop *l = loop_create(0);
    const struct http_config cfg = {.http = {handle, &t}};
    struct hub hub;
    struct mem_conn m;
    hub_init(&hub, l, &cfg);
    mem_open(&m, &hub);
    if ((data[0] & 0x80) != 0) {
        conn_input(&m.conn, slice_str(ask));
    }
    for (size_t at = 1; at < size && !m.closed;) {
        size_t n = size - at < piece ? size - at : piece;
        conn_input(&m.conn, slice_of(data + at, n));
        at += n;
        m.room = (data[0] & 3) == 0 ? 7 : SIZE_MAX;
        hub_flush(&hub);
        mem_unblock(&m);
        bytes_reset(&m.out);
    }
    if ((data[0] & 8) != 0) {
        hub_drain(&hub);
    }
    hub_flush(&hub);
    hub_deinit(&hub);
    ASSERT(m.closed && t.w == NULL);
    loop_destroy(&l);
    bytes_deinit(&m.out);
    return 0;
}
