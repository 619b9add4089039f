/* demand.h - what a request wants to touch, as a flat list.
 *
 * What        One function flattens any request, nested transactions included, into demands: a verb
 * and a range of keys, or the keys attached to a lease. The same demands are what is authorised
 *             (auth_check_request) and all that applying may touch (demand_list_allows).
 * Callers     engine/auth (at apply), api/etcd (before a local read or a watch), tests.
 * Thread      any; values.
 * Invariants  Every branch of a transaction is flattened, executed or not. The walk keeps its own
 * stack of ENGINE_TXN_DEPTH_MAX levels, so the depth of a request costs no stack of the thread.
 *             Memory: none, or what the list takes, whose bound the caller gives.
 * Source      etcd-v3-api.md 8.6; etcd's advisories rfx7-8w68-q57q, x35m-3gp4-4fh5, xg4h-6gfc-h4m8.
 */
#ifndef ENGINE_DEMAND_H
#define ENGINE_DEMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "api/proto/rpc.pb-c.h"
#include "base/err.h"
#include "base/slice.h"

enum demand_verb { DEMAND_READ, DEMAND_WRITE };

enum demand_kind {
    DEMAND_RANGE,      /* key, range_end */
    DEMAND_LEASE_KEYS, /* every key attached to `lease`; root needs no such permission */
    DEMAND_ALL_LEASES, /* every key attached to any lease; likewise */
};

struct demand {
    enum demand_kind kind;
    enum demand_verb verb;
    struct slice key;       /* borrowed from the request */
    struct slice range_end; /* empty: the one key; one zero byte: every key from `key` on */
    int64_t lease;
};

/* A request by its kind, as a borrowed message. */
enum demand_request_kind {
    DEMAND_OF_RANGE,
    DEMAND_OF_PUT,
    DEMAND_OF_DELETE,
    DEMAND_OF_TXN,
    DEMAND_OF_WATCH,
    DEMAND_OF_LEASE_REVOKE,
    DEMAND_OF_LEASE_KEEP_ALIVE,
    DEMAND_OF_LEASE_TIME_TO_LIVE,
    DEMAND_OF_LEASE_LEASES,
};
struct demand_request {
    enum demand_request_kind kind;
    union {
        const Etcdserverpb__RangeRequest *range; /* also of RangeStream */
        const Etcdserverpb__PutRequest *put;
        const Etcdserverpb__DeleteRangeRequest *delete_range;
        const Etcdserverpb__TxnRequest *txn;
        const Etcdserverpb__WatchCreateRequest *watch;
        const Etcdserverpb__LeaseRevokeRequest *lease_revoke;
        const Etcdserverpb__LeaseKeepAliveRequest *lease_keep_alive;
        const Etcdserverpb__LeaseTimeToLiveRequest *lease_time_to_live;
    } of; /* not used by DEMAND_OF_LEASE_LEASES */
};

/* Call `each` with every demand, in etcd's order, until one call fails. The watch's demand is that
 * of the range as the client wrote it; an empty key stands for the first one. Errors: the first of
 * `each`; ERR_TOO_MANY_OPS, nested too deep. */
MUST_CHECK enum err demand_each(const struct demand_request *r,
                                enum err (*each)(void *arg, const struct demand *d), void *arg);

struct demand_list {
    struct demand *v; /* owned; slices are borrowed from the request */
    size_t n;
    size_t cap;
};
#define DEMANDS_MAX                                                                                \
    (1u << 20) /* of one list; more: ERR_LIMIT. A request of etcd's largest size holds fewer */

MUST_CHECK enum err demand_list_of(const struct demand_request *r, struct demand_list *out);
void demand_list_deinit(struct demand_list *l);
/* Some one demand of kind DEMAND_RANGE with this verb covers the range. */
bool demand_list_allows(const struct demand_list *l, enum demand_verb verb, struct slice key,
                        struct slice range_end);

#endif
