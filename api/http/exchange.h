/* exchange.h - one HTTP/1.x request and its answer, as handlers see them.
 *
 * What        The transport has read the whole request, body included, unless http_config.begin
 * wanted the body in pieces; the handler answers once, now or later: whole (http_respond) or as a
 * stream of chunks (http_stream_*). Callers     api/etcd: gateway, health, metrics, version;
 * api/peer. Thread      the connection's loop. Lifetime    The request is borrowed for the call of
 * `handle`. The exchange lives until it is answered; a client that goes away earlier changes
 * nothing for the handler, whose answer is then dropped.
 */
#ifndef API_HTTP_EXCHANGE_H
#define API_HTTP_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "api/http/loop.h"
#include "base/slice.h"

struct h1;

/* A plain HTTP/1.x request for the mux: /health, /version, /metrics ... */
struct http_request {
    const char *method;
    const char *path;  /* without the query, percent-encoding as it came */
    const char *query; /* without '?'; "" when absent */
    struct slice body;
    const char *host;
    const char *origin;          /* "" when absent */
    const char *authorization;   /* "" when absent */
    const char *content_type;    /* "" when absent */
    const char *accept_encoding; /* "" when absent */
    bool upgrade; /* HTTP/1.1, and its Connection field has "upgrade": http_upgrade may be the answer */
    const struct h1 *head;       /* private: for http_request_header; may be NULL */
};
/* The first value of a field, its name in either case; "" when absent. Borrowed like the request. */
const char *http_request_header(const struct http_request *r, const char *name);

struct http_exchange; /* opaque; kept by a handler that answers later, on the same loop */
struct http_handler {
    /* Must answer exactly once, now or later, with http_respond or http_stream_begin ...
     * http_stream_end. */
    void (*handle)(void *arg, struct http_exchange *x, const struct http_request *r);
    void *arg;
};

/* How the body of a request is taken; decided when its head is complete (http_config.begin). */
struct http_intake {
    uint64_t bytes_max; /* of a body that is gathered before `handle`; over: 413 */
    bool streamed; /* `handle` is called at once with an empty body; what comes goes where
                      http_body_to says, without a bound */
};

/* In `handle` of a streamed request: where its body goes. `piece` gets the bytes in order, borrowed;
 * `end` is called after the last of them. Neither is called once the request is answered: the
 * rest of the body is thrown away then and the connection ends. A client that leaves before the end
 * is told of by http_exchange_on_gone alone. */
void http_body_to(struct http_exchange *x, void (*piece)(void *arg, struct slice piece),
                  void (*end)(void *arg), void *arg);
/* Stop or go on reading. CONN_READ_BYTES may still come after a stop. */
void http_body_pause(struct http_exchange *x, bool pause);

/* `headers` is NULL or "Name: value\r\n" lines. The body is copied. Safe when the client has gone.
 * The exchange is gone afterwards. */
void http_respond(struct http_exchange *x, int status, const char *content_type,
                  const char *headers, struct slice body);
/* "Name: value\r\n" lines that go out with the answer, whatever it will be; copied, once. */
void http_exchange_headers(struct http_exchange *x, const char *headers);
struct loop *http_exchange_loop(struct http_exchange *x);
bool http_exchange_is_secure(const struct http_exchange *x); /* it came over TLS */
/* Of the client's verified certificate; "" without one. Borrowed until the handler returns. */
const char *http_exchange_common_name(const struct http_exchange *x);

/* An answer of unknown length, chunked (to an HTTP/1.0 client: until close). */
void http_stream_begin(struct http_exchange *x, int status, const char *content_type,
                       const char *headers);
void http_stream_send(struct http_exchange *x, struct slice piece); /* copied */
void http_stream_end(struct http_exchange *x);            /* the exchange is gone afterwards */

/* Instead of a stream of chunks: the connection changes its protocol ("101 Switching Protocols", with
 * `headers`), in `handle` of a request that asked for it. What http_stream_send gets goes out as it is, and
 * what the client sends from now on goes to `piece`, borrowed; http_body_pause holds for it.
 * http_stream_end closes the connection when everything is written. A client that sends nothing at all
 * for CONN_IDLE_MS is closed. */
void http_upgrade(struct http_exchange *x, const char *headers,
                  void (*piece)(void *arg, struct slice piece), void *arg);
size_t http_stream_queued(const struct http_exchange *x); /* bytes not yet given to the socket */
/* Call `fn` each time that bytes of the answer have been taken by the kernel. */
void http_stream_on_written(struct http_exchange *x, void (*fn)(void *arg), void *arg);
bool http_stream_drained(const struct http_exchange *x); /* nothing waits to be written any more */
/* Drop the connection and whatever waits on it. The exchange is gone afterwards; `gone` is not
 * called. */
void http_exchange_kill(struct http_exchange *x);
/* The handler keeps so many bytes for it by now, of the body or the answer: they count among those
 * that its connection makes us hold (HELD_BYTES), until the exchange is gone. */
void http_exchange_holds(struct http_exchange *x, size_t bytes);
bool http_exchange_gone(
    const struct http_exchange *x); /* the client left: nothing sent arrives any more */
/* Call `fn` once when the client leaves before the answer is complete; `arg` is the handler's. */
void http_exchange_on_gone(struct http_exchange *x, void (*fn)(void *arg), void *arg);
/* Call `fn` once when the server goes down while the answer is not complete; what would not end by
 * itself ends then. */
void http_exchange_on_drain(struct http_exchange *x, void (*fn)(void *arg), void *arg);

#endif
