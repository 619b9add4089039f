/* routes.h - which path is which method.
 *
 * What        One row for each path of the gateway: all are POST, with the whole body as the request message. KV.RangeStream and the health service have none.
 * Callers     api/gateway and its tests.   Thread  a constant table.
 * Source      etcd-v3-api.md 14.1; the google.api.http options of etcd's services.
 */
#ifndef API_GATEWAY_ROUTES_H
#define API_GATEWAY_ROUTES_H

#include <protobuf-c/protobuf-c.h>

#include "api/grpc/server.h"

struct route {
    const char *path;   /* "/v3/kv/put" */
    const char *method; /* "/etcdserverpb.KV/Put" */
    enum grpc_kind kind;
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
};

extern const struct route gateway_routes[]; /* ends with path NULL */

const struct route *route_find(const char *path); /* NULL: none */

#endif
