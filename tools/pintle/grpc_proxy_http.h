/* grpc_proxy_http.h - the proxy's pages: /metrics of a server, /proxy/metrics of its own, /health and /proxy/health.
 *
 * What        A handler for the listeners of `grpc-proxy start`.
 * Callers     tools/pintle/grpc_proxy.c.   Thread  the loop's; /metrics is fetched on libuv's workers.
 * Source      etcd-server.md 9.2.
 */
#ifndef TOOLS_PINTLE_GRPC_PROXY_HTTP_H
#define TOOLS_PINTLE_GRPC_PROXY_HTTP_H

#include "api/http/exchange.h"
#include "api/proxy/proxy.h"

struct proxy_pages {
    struct proxy *proxy;
    struct metrics *metrics;
    struct logger *log;
    const char *endpoint;          /* that /metrics is asked of */
    const char *ca, *cert, *key;   /* for https; "": none */
    bool skip_verify;
    unsigned n_fetches; /* under way */
    struct counter *success, *failures;
};

/* `pages` is borrowed until the process ends. */
struct http_handler proxy_pages_handler(struct proxy_pages *pages);

#endif
