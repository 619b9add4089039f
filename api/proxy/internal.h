/* internal.h - what the services of the proxy share.
 *
 * What        The proxy, its table of methods, and a forwarded call.
 * Callers     api/proxy only.   Thread  the loop's.
 */
#ifndef API_PROXY_INTERNAL_H
#define API_PROXY_INTERNAL_H

#include "api/proxy/cache.h"
#include "api/proxy/limits.h"
#include "api/proxy/prefix.h"
#include "api/proxy/proxy.h"
#include "api/proxy/upstream.h"

struct forward;

/* How one method is served. `handler` NULL: forwarded, with what the rest says. */
struct route {
    const char *path;
    enum grpc_kind kind;
    bool repeatable;
    bool prefixed; /* `ask` and `answer` have keys */
    enum prefix_message ask, answer;
    /* Before it goes out. true: it is answered already. */
    bool (*before)(struct forward *f, struct slice request);
    /* It is over; `reply` is what the client gets, without data when the call failed. true: it is to be asked again. */
    bool (*after)(struct forward *f, struct slice reply);
    void (*message)(struct grpc_call *c, struct slice request);
    void (*started)(struct grpc_call *c);
    void (*half_closed)(struct grpc_call *c);
    void (*ended)(struct grpc_call *c);
};

/* `service` of a row. */
struct route_of {
    struct proxy *proxy;
    const struct route *route;
};

struct watch_groups;
struct keeper;
struct leader;
struct members;

struct proxy {
    struct proxy_config cfg;
    struct slice prefix; /* len 0: no namespace */
    struct upstream *up;
    struct grpc_server *server;
    struct cache *cache;
    struct watch_groups *groups;
    struct keeper *keeper;
    struct leader *leader;
    struct members *members;
    struct grpc_method *methods; /* owned */
    struct route_of *routes;     /* owned */
    const struct grpc_method *tables[2];
    int64_t seen_revision; /* ordering: no read below it */
    struct loop_timer sync_timer;
    struct up_call sync;
    struct gauge *cache_keys, *cache_hits, *cache_misses, *watchers_coalescing;
    struct counter *events_coalescing;
};

/* A call on its way through: unary, or a stream of answers. The call's state. */
struct forward {
    struct up_call up;
    struct proxy *proxy;
    struct grpc_call *call; /* borrowed: `ended` frees this */
    const struct route *route;
    struct bytes kept; /* owned; for `before` and `after` */
    size_t n_key, n_end;
    int64_t revision;
    uint64_t era; /* of the cache, when a read was asked */
    bool serializable, cacheable;
    unsigned asked; /* times again */
    size_t held;    /* of the answer, until the client has it */
};

/* forward.c */
void forward_message(struct grpc_call *c, struct slice request);
void forward_ended(struct grpc_call *c);
struct proxy *proxy_of(const struct grpc_call *c);
/* The head that a call for this client has: its token, and whether it wants a leader. */
struct up_head head_for(const struct grpc_call *c, const char *path);
/* Header revision of any answer of etcd's; 0: it has none. */
int64_t answer_revision(struct slice reply);
/* A status as the client shall see it. */
void finish_like(struct grpc_call *c, const struct client_status *status);

/* `after` of what may change any key, or anyone's right to one: nothing is answered from the cache that was read before. */
bool forget_reads(struct forward *f, struct slice reply);

/* Tables; each ends with a row of path NULL. */
extern const struct route kv_routes[], watch_routes[], lease_routes[], cluster_routes[], plain_routes[];

/* watch.c */
struct watch_groups *watch_groups_create(struct proxy *p);
/* lease.c */
struct keeper *keeper_create(struct proxy *p);
/* leader.c */
struct leader *leader_create(struct proxy *p);
/* A client's stream, which may want to end when there is no leader. Zeroed at first. */
struct led {
    struct led *next, **prev; /* prev NULL: it does not want to, or has left */
    struct grpc_call *call;
};
/* It ends at once when there is none now. To leave when it has ended. */
void led_join(struct led *s, struct grpc_call *c);
void led_leave(struct led *s);
/* members.c */
struct members *members_create(struct proxy *p);
void members_start(struct members *m);

#endif
