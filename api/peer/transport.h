/* transport.h - the sockets between members: raft/peer's protocol over HTTP/1.1.
 *
 * What        Owns one struct link per other member and does what the links say: dials streams and posts (libcurl), serves the streams
 *             and posts of others (api/http), spools received databases, and tells the member what came. Also answers the plain
 *             questions between members that need no more than the transport (probing), and asks others on behalf of the services
 *             (peer_ask_member): versions, lease keepalives, promotions.
 * Callers     tools/pintle (create, attach, start, stop), raft/member (through its table), api/etcd (peer_ask_member).
 * Thread      everything lives on the loop given at create ("peer loop", a thread of its own, so that heartbeats do not wait behind
 *             clients). Functions marked [any] may be called from any thread.
 * Bounds      raft/peer/limits.h, api/peer/limits.h.
 */
#ifndef API_PEER_TRANSPORT_H
#define API_PEER_TRANSPORT_H

#include "api/http/exchange.h"
#include "api/http/loop.h"
#include "api/http/tls.h"
#include "raft/member/member.h"

struct peer_transport; /* opaque */
struct peer_tls;       /* api/peer/secure.h */

struct peer_transport_config {
    struct loop *loop; /* borrowed; runs on its own thread, and is destroyed before the transport */
    const struct clock *clock;
    struct logger *log;      /* may be NULL */
    struct metrics *metrics; /* may be NULL; etcd_network_* families */
    uint64_t cluster_id, member_id;
    const char *version;                /* "3.7.1" */
    const char *const *advertised_urls; /* own peer URLs, NULL-terminated, sorted; borrowed */
    uint32_t election_ms;
    const char *spool_dir; /* for databases that are being received; leftovers in it (*.snap.db.tmp) are removed at start */
    const struct peer_tls *tls; /* of our own requests; borrowed; NULL: as peer_tls_apply has it */
    /* Requests for other paths on the peer port: /members, /version, /leases, ... (api/etcd) */
    struct http_handler other;
};

struct peer_transport *peer_transport_create(const struct peer_transport_config *cfg);
/* After loop_destroy: what other threads posted late, and work on the pool, ends there. */
void peer_transport_destroy(struct peer_transport **t);
/* For member_config.transport. */
const struct member_transport *peer_transport_table(struct peer_transport *t);
/* Before the loop runs. */
void peer_transport_attach(struct peer_transport *t, struct member *m);
MUST_CHECK enum err peer_transport_bind(struct peer_transport *t, const char *host, const char *port, struct err_ctx *ec);
MUST_CHECK enum err peer_transport_bind_unix(struct peer_transport *t, const char *path, struct err_ctx *ec);
/* As http_server_secure: what listeners speak that are bound from now on. */
void peer_transport_secure(struct peer_transport *t, struct tls *tls, bool plain);
/* The port that the kernel chose for the i-th listener when asked for "0". */
uint16_t peer_transport_port(const struct peer_transport *t, unsigned i);
/* Begin to accept and to dial; before or while the loop runs. */
void peer_transport_start(struct peer_transport *t);
/* Close every connection and stop accepting; then `done` on the peer loop. [any] */
void peer_transport_stop(struct peer_transport *t, void (*done)(void *arg), void *arg);

/* --- asking another member [any] ------------------------------------------------------------------------- */

#define PEER_ASK_BODY_MAX (8u << 20) /* of an answer; longer ones fail */

struct peer_question {
    struct loop_item item;  /* private until `answered` */
    uint64_t member;        /* whom; its addresses are tried in turn */
    const char *method;     /* "GET", "POST" */
    char path[160];
    const char *content_type; /* NULL: none */
    const char *authorization; /* value of the Authorization header; NULL: none. Owned by the caller */
    struct bytes body;      /* owned by the caller */
    uint32_t timeout_ms;    /* for everything */
    struct loop *loop;      /* where `answered` runs */
    void (*answered)(struct peer_question *q);
    void *arg;
    /* The answer. ERR_MEMBER_NOT_FOUND: no address known; ERR_TIMEOUT; ERR_IO: no connection; ERR_LIMIT; ERR_STOPPED. */
    enum err err;
    unsigned status;
    struct bytes answer; /* the caller's to release */
};
/* Memory is the caller's and has to live until `answered`. */
void peer_ask_member(struct peer_transport *t, struct peer_question *q);

#endif
