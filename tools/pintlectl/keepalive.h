/* keepalive.h - a lease that is renewed again and again.
 *
 * What        One LeaseKeepAlive stream, opened anew when its connection fails, as long as the
 *             lease can still live.
 * Callers     lease.c, session.c.   Thread  one.
 */
#ifndef TOOLS_PINTLECTL_KEEPALIVE_H
#define TOOLS_PINTLECTL_KEEPALIVE_H

#include "api/proto/rpc.pb-c.h"
#include "tools/pintlectl/conn.h"

struct keepalive {
    struct conn *conn; /* borrowed */
    int64_t id;
    struct client_stream *stream;      /* NULL: to be opened */
    unsigned generation;               /* of the connection that the stream is on */
    bool asked;                        /* a request has no answer yet */
    uint64_t ask_at_ns, expires_at_ns; /* 0: not known before the first answer */
};

enum keepalive_news { KEEPALIVE_NONE, KEEPALIVE_RENEWED, KEEPALIVE_EXPIRED, KEEPALIVE_FAILED };

/* `ttl` is in seconds; 0: not known. */
void keepalive_init(struct keepalive *k, struct conn *conn, int64_t id, int64_t ttl);
void keepalive_deinit(struct keepalive *k);
/* Ask when it is time, and wait for an answer up to `timeout_ms`. RENEWED gives the caller
 * *answer. FAILED: see `f`. */
MUST_CHECK enum keepalive_news keepalive_wait(struct keepalive *k, uint32_t timeout_ms,
                                              Etcdserverpb__LeaseKeepAliveResponse **answer,
                                              struct failure *f);

#endif
