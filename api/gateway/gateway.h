/* gateway.h - the services as JSON over HTTP/1.x.
 *
 * What        A POST to a path of routes.h becomes a call of the method, made in this process (api/grpc/local.h); its reply, or the messages of its
 *             stream one by one, go back as JSON while the client takes them.
 * Callers     api/etcd, for the paths under /v3/.
 * Thread      the exchange's loop.
 * Source      etcd-v3-api.md 14.
 */
#ifndef API_GATEWAY_GATEWAY_H
#define API_GATEWAY_GATEWAY_H

#include "api/grpc/server.h"
#include "api/http/exchange.h"

/* Whether `path` is the gateway's. */
bool gateway_takes(const char *path);

/* Answer such a request with a call of `s`. */
void gateway_handle(struct grpc_server *s, struct http_exchange *x, const struct http_request *r);

/* The HTTP status for a gRPC code. */
int gateway_http_status(enum grpc_code code);

#endif
