/* proxy.h - etcd's gRPC services, answered by a cluster somewhere else.
 *
 * What        What `grpc-proxy start` serves: reads from a cache where the client allows it, watches of the same range merged, keep-alives of one lease
 *             merged, a namespace put before all keys; everything else forwarded with the client's token.
 *
 *               clients ──► grpc_server ──► kv, watch, lease, cluster, forward ──► upstream ──► a connection per endpoint
 *                               ◄────────── cache, groups, prefix ◄────────────────────┘
 *
 * Callers     tools/pintle/grpc_proxy.c.
 * Thread      one loop does all of it: cache, groups and leases need no lock, and no client's bytes change threads.
 * Lifetime    Lives until the process ends.
 * Bounds      limits.h; a client that does not read is cut off or holds its own stream back, never another's.
 * Source      etcd-server.md 9.2.
 */
#ifndef API_PROXY_PROXY_H
#define API_PROXY_PROXY_H

#include "api/client/client.h"
#include "api/grpc/server.h"
#include "base/log.h"

struct proxy; /* opaque */

struct proxy_config {
    struct loop *loop;
    struct logger *log;
    struct metrics *metrics;
    enum err (*dial)(void *arg, const char *endpoint, uint32_t timeout_ms, struct client **out, struct err_ctx *ec); /* on a worker */
    void *dial_arg;
    uint64_t look_ms; /* connections that need a look for their keepalive get one this often; 0: they do not */
    const char *const *endpoints; /* copied */
    size_t n_endpoints;
    uint64_t sync_interval_ms; /* asks the cluster for its endpoints; 0: never */
    const char *name_space;    /* "": none */
    const char *advertise_url; /* "": MemberList is the cluster's */
    const char *resolver_prefix; /* "": not registered */
    const char *host_name;     /* the member's name that MemberList gives */
    uint32_t resolver_ttl_s;
    uint64_t send_bytes_max;   /* a request to the cluster; over: ResourceExhausted */
    uint64_t recv_bytes_max;   /* an answer of it */
    bool ordering;             /* no read is older than one before it */
};

/* Texts are borrowed until the process ends. */
struct proxy *proxy_create(const struct proxy_config *cfg);
/* What goes into struct grpc_server_config. */
const struct grpc_method *const *proxy_tables(struct proxy *p);
bool proxy_admit(void *proxy, struct grpc_call *c);
/* A line for a unary call that has ended, as struct grpc_server_config.slow. */
void proxy_log_call(void *proxy, struct grpc_call *c, const struct grpc_end *how);
/* The server serves on the loop: connect to the cluster. */
void proxy_start(struct proxy *p, struct grpc_server *s);

/* Endpoints as they are now; borrowed until the loop's next turn. */
size_t proxy_endpoints(const struct proxy *p, const char **out, size_t max);

/* Ask whether the cluster, or this proxy with its cluster behind it, answers. `done` gets "" or etcd's reason why not. */
void proxy_check(struct proxy *p, bool through_proxy, void (*done)(void *arg, const char *reason), void *arg);

#endif
