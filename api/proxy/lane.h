/* lane.h - upstream watches that share streams.
 *
 * What        A Watch stream to the cluster carries many watches: an endpoint may allow a connection no more than some hundred streams, and calls
 *             need some of them. Watches in the name of the same login share one, up to PROXY_LANE_WATCHES_MAX. On each stream one creation is
 *             asked for at a time, since another proxy upstream may answer several in any order, and refusals have no id.
 * Callers     api/proxy/watch.c.   Thread  the loop's.
 * Lifetime    The maker of a watch embeds a struct lane_watch and keeps it until it is closed or has ended.
 */
#ifndef API_PROXY_LANE_H
#define API_PROXY_LANE_H

#include "api/proxy/upstream.h"

struct lanes; /* opaque */
struct lane;

struct lane_watch {
    /* An answer for it came, borrowed for the call; it may be closed there. Once one says `canceled` it is closed already. Set by the maker. */
    void (*answer)(struct lane_watch *w, struct slice message);
    /* Its stream has ended, and it is closed. Neither is called from within a function of this header. */
    void (*ended)(struct lane_watch *w, const struct client_status *status);
    /* Private. */
    struct lane *lane; /* NULL: it is not open */
    struct lane_watch *next, **prev;
    struct bytes request; /* owned; its creation, until it is asked for */
    int64_t id;           /* the server's */
    enum { LANE_WAITS, LANE_ASKED, LANE_OPEN } state;
};

struct lanes *lanes_create(struct upstream *up, struct loop *loop);
/* `request`: a whole WatchRequest that creates it; copied. */
void lane_watch_open(struct lanes *all, struct lane_watch *w, struct slice token, struct slice request);
void lane_watch_close(struct lane_watch *w); /* also when it is not open */

#endif
