/* upstream.h - calls to the cluster, over whichever of its endpoints answers.
 *
 * What        One connection to each endpoint, dialled ahead and again after it broke; calls take turns among those that stand. A call waits for
 *             an endpoint when there is none. A read that an endpoint could not answer is asked for again elsewhere; so is a write that certainly
 *             was not begun.
 * Callers     api/proxy.
 * Thread      the loop's; `dial` alone runs on libuv's workers.
 * Lifetime    An upstream lives until the process ends. The maker of a call embeds a struct up_call and keeps it until up_close.
 * Bounds      limits.h. Requests are held until they are answered, since they may have to be sent again.
 */
#ifndef API_PROXY_UPSTREAM_H
#define API_PROXY_UPSTREAM_H

#include "api/client/client.h"
#include "api/http/loop.h"
#include "base/log.h"

struct upstream; /* opaque */

struct upstream_config {
    struct loop *loop;
    struct logger *log;
    /* Connect, blocking; called on a worker thread. */
    enum err (*dial)(void *arg, const char *endpoint, uint32_t timeout_ms, struct client **out, struct err_ctx *ec);
    void *dial_arg;
    uint64_t look_ms; /* as struct proxy_config */
};

struct up_call {
    /* Something came, was sent, or ended; never called from within a function of this header. Set by the maker. */
    void (*news)(struct up_call *u);
    /* Private. */
    struct upstream *up; /* NULL: not open */
    struct client_stream *stream; /* NULL: on no link */
    struct up_call *next, **prev; /* of the link's, or of those that wait or shall hear news; prev NULL: in no list */
    const char *path;
    struct bytes request, token;
    bool has_leader, stays_open, repeatable, waits, ended;
    unsigned tries;
    size_t held;
    uint64_t not_before_ms, give_up_ms; /* while it waits */
    struct client_status status;
};

struct up_head {
    const char *path;    /* borrowed until up_close */
    struct slice token;  /* of the client that this is for; empty: none */
    bool has_leader;     /* "hasleader: true" */
    bool stays_open;     /* a stream of requests; else the one request is all */
    bool repeatable;     /* asking twice does no harm */
};

struct upstream *upstream_create(const struct upstream_config *cfg);
/* Copied; first when the server serves on the loop. Connections to endpoints that are not in the list any more end with their last call. */
void upstream_set_endpoints(struct upstream *up, const char *const *endpoints, size_t n);
size_t upstream_endpoints(const struct upstream *up, const char **out, size_t max); /* borrowed until the next set */

/* Begin a call with its first request. A call that cannot be begun ends soon, with its status. */
void up_open(struct upstream *up, struct up_call *u, const struct up_head *head, struct slice request);
bool up_is_open(const struct up_call *u); /* since up_open, until up_close */
/* Another request of a call that stays open. false: it has no connection (yet, or any more), or far too much waits to be sent. */
MUST_CHECK bool up_send(struct up_call *u, struct slice request);
bool up_has_link(const struct up_call *u);
size_t up_unsent(const struct up_call *u);
/* The message that waits, borrowed until anything else is called. */
bool up_front(const struct up_call *u, struct slice *message);
void up_drop(struct up_call *u);
/* How the call ended; NULL while it runs. Messages may wait nevertheless. */
const struct client_status *up_status(const struct up_call *u);
/* Cancel unless it has ended. Allowed for one that is not open. */
void up_close(struct up_call *u);

/* Bytes that the proxy holds on its clients' behalf, beside what calls hold themselves. */
void upstream_hold(struct upstream *up, size_t bytes);
void upstream_release(struct upstream *up, size_t bytes);
bool upstream_is_full(const struct upstream *up);

#endif
