/* exchange.h - one HTTP/1.x request and its answer, as handlers see them.
 *
 * What        The transport has read the whole request, body included; the handler answers once,
 * now or later: whole (http_respond) or as a stream of chunks (http_stream_*). Callers api/etcd:
 * gateway, health, metrics, version. Thread      the connection's loop. Lifetime    The request is
 * borrowed for the call of `handle`. The exchange lives until it is answered; a client that goes
 * away earlier changes nothing for the handler, whose answer is then dropped.
 */
#ifndef API_HTTP_EXCHANGE_H
#define API_HTTP_EXCHANGE_H

#include <stdbool.h>

#include "api/http/loop.h"
#include "base/slice.h"

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
};
struct http_exchange; /* opaque; kept by a handler that answers later, on the same loop */
struct http_handler {
    /* Must answer exactly once, now or later, with http_respond or http_stream_begin ...
     * http_stream_end. */
    void (*handle)(void *arg, struct http_exchange *x, const struct http_request *r);
    void *arg;
};

/* `headers` is NULL or "Name: value\r\n" lines. The body is copied. Safe when the client has gone.
 * The exchange is gone afterwards. */
void http_respond(struct http_exchange *x, int status, const char *content_type,
                  const char *headers, struct slice body);
struct loop *http_exchange_loop(struct http_exchange *x);

/* An answer of unknown length, chunked (to an HTTP/1.0 client: until close). */
void http_stream_begin(struct http_exchange *x, int status, const char *content_type,
                       const char *headers);
void http_stream_send(struct http_exchange *x, struct slice piece); /* copied */
void http_stream_end(struct http_exchange *x);            /* the exchange is gone afterwards */
size_t http_stream_queued(const struct http_exchange *x); /* bytes not yet given to the socket */
bool http_exchange_gone(
    const struct http_exchange *x); /* the client left: nothing sent arrives any more */
/* Call `fn` once when the client leaves before the answer is complete; `arg` is the handler's. */
void http_exchange_on_gone(struct http_exchange *x, void (*fn)(void *arg), void *arg);

#endif
