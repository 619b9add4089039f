/* message.c - the request body cut into messages.
 *
 * A message that lies whole in what was read is handed over in place; only one that came in pieces
 * is copied. Checks and texts are grpc-go's (rpc_util.go recvMsg, checkRecvPayload; stream.go
 * RecvMsg).
 */
#include <stdio.h>

#include "api/grpc/call.h"
#include "base/assert.h"

static uint32_t announced(const uint8_t *head)
{
    return (uint32_t)head[1] << 24 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 8 | head[4];
}

bool call_length_is_allowed(struct grpc_call *c, size_t len)
{
    uint32_t max = server_config(c->home->server)->limits.recv_bytes_max;
    if (len <= max) {
        return true;
    }
    char text[96];
    (void)snprintf(text, sizeof(text), "grpc: received message larger than max (%zu vs. %u)", len,
                   max);
    grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, text);
    return false;
}

static bool flag_is_allowed(struct grpc_call *c, uint8_t flag)
{
    if (flag == 0) {
        return true;
    }
    if (flag == 1) {
        if (c->gzip) {
            return true;
        }
        /* Calls that name another encoding were refused by their head. */
        grpc_finish(c, GRPC_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
        return false;
    }
    char text[64];
    (void)snprintf(text, sizeof(text), "grpc: received unexpected payload format %u", flag);
    grpc_finish(c, GRPC_INTERNAL, text);
    return false;
}

/* It asks for one answer and has sent its message. */
static bool is_superfluous(const struct grpc_call *c)
{
    bool one_only = c->method->kind == GRPC_UNARY || c->method->kind == GRPC_SERVER_STREAM;
    return one_only && c->n_messages > 0;
}

void call_message(struct grpc_call *c, struct slice message)
{
    if (is_superfluous(c)) {
        if (c->method->kind == GRPC_SERVER_STREAM) {
            grpc_finish(c, GRPC_INTERNAL,
                        "cardinality violation: received multiple request messages for "
                        "non-client-streaming RPC");
        }
        return; /* grpc-go never looks at what follows the message of a unary call */
    }
    c->n_messages++;
    call_slow_end(c);
    if (c->method->kind == GRPC_UNARY && !call_admit(c)) {
        return;
    }
    if (!c->inner) {
        c->home->received_bytes += message.len;
        c->received_bytes += message.len;
        counter_add(c->row->received, 1);
    }
    c->running = true;
    c->method->message(c, message);
}

static void deliver(struct grpc_call *c, uint8_t flag, struct slice message)
{
    if (!flag_is_allowed(c, flag)) {
        return;
    }
    if (flag == 0 || is_superfluous(c)) {
        call_message(c, message);
        return;
    }
    struct bytes whole = {0};
    if (call_gunzip(c, message, &whole)) {
        call_message(c, bytes_slice(&whole));
    }
    bytes_deinit(&whole);
}

/* Take what `c->in` still lacks from `piece`; true when a whole message is there. */
static bool assemble(struct grpc_call *c, struct slice *piece)
{
    size_t lacking = announced(c->in_head) - c->in.len;
    size_t n = piece->len < lacking ? piece->len : lacking;
    if (!h2_partial_set(&c->stream, c->in.len + n)) {
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED,
                    "grpc: too many bytes of incomplete messages on this connection");
        return false;
    }
    bytes_add(&c->in, piece->data, n);
    *piece = slice_of(piece->data + n, piece->len - n);
    return n == lacking;
}

void call_data(struct grpc_call *c, struct slice piece)
{
    while (piece.len > 0 && !c->finished && !c->closed) {
        if (c->n_in_head == 0 && piece.len >= FRAME_HEAD_BYTES) {
            uint32_t len = announced(piece.data);
            if (piece.len - FRAME_HEAD_BYTES >= len) {
                if (!call_length_is_allowed(c, len)) {
                    return;
                }
                const uint8_t *at = piece.data;
                piece = slice_of(at + FRAME_HEAD_BYTES + len, piece.len - FRAME_HEAD_BYTES - len);
                deliver(c, at[0], slice_of(at + FRAME_HEAD_BYTES, len));
                continue;
            }
        }
        if (c->n_in_head < FRAME_HEAD_BYTES) {
            c->in_head[c->n_in_head++] = piece.data[0];
            piece = slice_of(piece.data + 1, piece.len - 1);
            if (c->n_in_head < FRAME_HEAD_BYTES) {
                continue;
            }
            if (!call_length_is_allowed(c, announced(c->in_head))) {
                return;
            }
            if (announced(c->in_head) > 0) {
                continue;
            }
        }
        if (assemble(c, &piece)) {
            c->n_in_head = 0;
            (void)h2_partial_set(&c->stream, 0);
            deliver(c, c->in_head[0], bytes_slice(&c->in));
            bytes_reset(&c->in);
            if (c->in.cap > CALL_KEEP_BYTES) {
                bytes_deinit(&c->in);
            }
        }
    }
}

void call_half_closed(struct grpc_call *c)
{
    if (c->finished || c->closed) {
        return;
    }
    bool unary = c->method->kind == GRPC_UNARY;
    if (c->n_in_head > 0) {
        grpc_finish(c, unary ? GRPC_UNKNOWN : GRPC_INTERNAL, "unexpected EOF");
        return;
    }
    if (c->n_messages == 0 && unary) {
        grpc_finish(c, GRPC_UNKNOWN, "EOF");
        return;
    }
    if (c->n_messages == 0 && c->method->kind == GRPC_SERVER_STREAM) {
        grpc_finish(
            c, GRPC_INTERNAL,
            "cardinality violation: received no request message from non-client-streaming RPC");
        return;
    }
    if (!unary && c->method->half_closed != NULL) {
        c->method->half_closed(c);
    }
}
