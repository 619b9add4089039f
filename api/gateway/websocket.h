/* websocket.h - an exchange that became a WebSocket, as a carrier of lines of JSON.
 *
 * What        The handshake of RFC 6455 and, over libwslay, its frames: whatever the client's messages hold is gathered as one text, each message
 *             with a line break behind it; what is sent goes out as text messages, in pieces of any size. Pings are answered, the closing
 *             handshake is made. No extension is agreed on.
 * Callers     api/gateway.
 * Thread      the exchange's loop.
 * Invariants  `event` is called from nowhere but the socket's reading, after everything that came was looked at, so it may end the socket.
 * Bounds      Text that nobody has taken: SOCKET_MESSAGE_BYTES_MAX and one read; over: closed with 1009. While more than GATEWAY_QUEUE_BYTES wait for
 *             the client nothing is read from it, so that pings and requests cannot make more answers than it takes.
 * Source      etcd-v3-api.md 14.3; RFC 6455.
 */
#ifndef API_GATEWAY_WEBSOCKET_H
#define API_GATEWAY_WEBSOCKET_H

#include "api/http/exchange.h"
#include "base/slice.h"

struct websocket; /* opaque */

/* Whether a request asks for one. */
bool websocket_asked(const struct http_request *r);
/* Agree to it. NULL: the handshake was wrong, which has been answered. `event` is called when there is news: more text, or the end. */
struct websocket *websocket_accept(struct http_exchange *x, const struct http_request *r, void (*event)(void *arg), void *arg);
/* "Bearer TOKEN" from the sub-protocol or the cookie of a request that asks for one; "" without. The caller frees. */
char *websocket_authorization(const struct http_request *r);

/* What has come and was not taken. The caller takes it off the front. */
struct bytes *websocket_text(struct websocket *w);
/* Nothing more will come: the client has closed it, or it broke the protocol or a bound. */
bool websocket_is_over(const struct websocket *w);

/* The next piece of a text message; `last` ends it. An empty piece is sent only if it is the last of more. */
void websocket_send(struct websocket *w, struct slice piece, bool last);
/* Bytes of ours were written: go on reading, if there is room. */
void websocket_written(struct websocket *w);
/* Say so to the client unless it is over already, and forget it. The exchange lives on, to be ended. */
void websocket_close(struct websocket *w, unsigned code);

#define WEBSOCKET_NORMAL 1000u
#define WEBSOCKET_GOING_AWAY 1001u
#define WEBSOCKET_TOO_BIG 1009u
#define WEBSOCKET_FAILED 1011u

#endif
