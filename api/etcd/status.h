/* status.h - what a client sees for each error.
 *
 * What        The one table from enum err to gRPC code and etcd's exact text. The official Go client recognises
 *             errors by that text, so its bytes are contract.
 * Callers     api/etcd.   Thread  any.
 * Source      etcd-v3-api.md 1.6 and 1.7.
 */
#ifndef API_ETCD_STATUS_H
#define API_ETCD_STATUS_H

#include "api/grpc/server.h"
#include "base/err.h"

struct status {
    enum grpc_code code;
    const char *text;
};
struct status status_of(enum err e);

/* End the call with the status of `e` (which is not OK). */
void status_finish(struct grpc_call *c, enum err e);

#endif
