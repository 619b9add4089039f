/* sock.h - connections on sockets, plain and over TLS.
 *
 * What        From an accepted descriptor to a struct conn: libuv's reads and writes, and where the listener says so, TLS between them and the
 *             protocols.
 * Callers     api/http/listener.c.   Thread  the hub's loop.
 * Bounds      A handshake is part of CONN_SETUP_MS. Beyond an idle connection's session nothing is held.
 */
#ifndef API_HTTP_SOCK_H
#define API_HTTP_SOCK_H

#include "api/http/conn.h"

#define TLS_UNSENT_BYTES_MAX (1024u * 1024u) /* sealed and not yet on the wire; over: closed */
#define TLS_ASKS_MAX 16u /* certificates of one loop that name servers are asked about at once; over: closed */

struct sock_origin {
    int fd;
    bool is_unix;
    struct tls *tls; /* borrowed; NULL: none is spoken */
    bool plain;
};

/* The connection is the hub's from then on. false: the descriptor is still the caller's. */
MUST_CHECK bool sock_open(struct hub *h, const struct sock_origin *o);

#endif
