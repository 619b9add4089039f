/* server.h - listeners, and connections dealt out to loops.
 *
 * What        A server owns listening sockets, polled by the first loop, and one hub per loop with
 * that loop's connections. A connection speaks HTTP/2 or HTTP/1.x, decided by its first bytes.
 * Callers     api/grpc (which tools see as grpc_server_*).
 * Thread      bind before serving, on any thread; serve and shutdown on the first loop's; the rest
 * is internal. Lifetime    Destroyed after its loops are.
 */
#ifndef API_HTTP_SERVER_H
#define API_HTTP_SERVER_H

#include "api/http/exchange.h"
#include "api/http/h2.h"
#include "api/http/loop.h"
#include "api/http/tls.h"
#include "base/err.h"

struct http_config {
    const struct h2_handler *h2; /* borrowed until destroy; NULL: HTTP/1.x alone is spoken */
    void *h2_arg;
    struct http_handler http; /* handle NULL: HTTP/2 alone is spoken */
    /* How the body of a request is taken; called with http.arg when the head is complete. *in is
     * what holds without an answer: gathered, H1_BODY_BYTES_MAX. NULL: that holds for all. */
    void (*begin)(void *arg, const struct http_request *r, struct http_intake *in);
    unsigned connections_max; /* 0: no bound; at it the listeners rest */
    uint32_t streams_max;     /* per connection, SETTINGS_MAX_CONCURRENT_STREAMS */
    uint64_t keepalive_min_ms;
    uint64_t keepalive_interval_ms; /* 0: no pings of ours */
    uint64_t keepalive_timeout_ms;
};

struct http_server; /* opaque */

struct http_server *http_server_create(const struct http_config *cfg);
void http_server_destroy(struct http_server **s);

/* As grpc_server_bind and grpc_server_bind_unix. */
MUST_CHECK enum err http_server_bind(struct http_server *s, const char *host, const char *port,
                                     struct err_ctx *ec);
MUST_CHECK enum err http_server_bind_unix(struct http_server *s, const char *path,
                                          struct err_ctx *ec);
/* What listeners speak that are bound from now on: TLS, or plain HTTP, or both, as each connection's first byte says. At first plain alone.
 * `tls` is borrowed until http_server_destroy. */
void http_server_secure(struct http_server *s, struct tls *tls, bool plain);
/* The port that the kernel chose for the i-th listener when asked for "0"; 0 for a unix socket. */
uint16_t http_server_port(const struct http_server *s, unsigned i);
void http_server_serve(struct http_server *s, struct loop *const *loops, unsigned n_loops);
void http_server_shutdown(struct http_server *s, uint64_t grace_ms, void (*done)(void *arg),
                          void *arg);

#endif
