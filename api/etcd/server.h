/* server.h - the etcd v3 services over one member.
 *
 * What        Decodes requests, checks them, proposes or reads, encodes replies. All state that matters is the engine's; this folder holds
 *             what belongs to connections: calls under way, watch streams, keepalive streams.
 * Callers     tools/pintle.
 * Thread      one struct etcd_loop per I/O loop, touched on that loop only; struct etcd_server is immutable once serving.
 */
#ifndef API_ETCD_SERVER_H
#define API_ETCD_SERVER_H

#include "api/etcd/auth_tokens.h"
#include "api/grpc/server.h"
#include "api/peer/transport.h"
#include "raft/member/member.h"

#define ETCD_VERSION "3.7.1"         /* the API that is spoken: Status, /version */
#define ETCD_STORAGE_VERSION "3.7.0"

struct etcd_server; /* opaque */

struct etcd_server_config {
    const struct clock *clock;
    struct logger *log;
    struct metrics *metrics;
    uint32_t max_request_bytes;
    uint32_t max_txn_ops;
    uint64_t slow_apply_ns;       /* --warning-apply-duration; 0: never */
    uint64_t slow_unary_ns;       /* --warning-unary-request-duration */
    int64_t quota_flag;           /* --quota-backend-bytes as Status.dbSizeQuota reports it */
    uint64_t progress_interval_ms; /* --watch-progress-notify-interval */
    uint64_t corrupt_check_ms;      /* --corrupt-check-time; 0: off */
    uint64_t compact_hash_check_ms; /* --compact-hash-check-time; 0: off */
    struct auth_tokens *tokens;    /* --auth-token; borrowed until etcd_server_destroy */
    unsigned bcrypt_cost;          /* --bcrypt-cost, in range */
    bool client_cert_auth;         /* --client-cert-auth: a certificate's name is an identity */
};

/* Two steps, since member and server know each other: create with the loops, take its ports for the member, then attach the
 * member. */
struct etcd_server *etcd_server_create(const struct etcd_server_config *cfg, struct loop *const *loops, unsigned n_loops);
struct member_port *const *etcd_server_ports(struct etcd_server *s); /* NULL-terminated, one per loop */
void etcd_server_attach(struct etcd_server *s, struct member *m);    /* opened, not started; before loops run */
/* The way to the other members, before loops run. Never called: this member is alone, and whatever would be asked of another fails as if that
 * were unknown. */
void etcd_server_attach_peers(struct etcd_server *s, struct peer_transport *t);
/* Compare this member's data with the others', on the first loop (corrupt.c): at the intervals of the configuration, from now on; or once, `done` being called
 * on the first loop, false when the same history has another hash elsewhere. Who cannot be asked is left out. */
void etcd_server_check_data(struct etcd_server *s);
void etcd_server_check_initial(struct etcd_server *s, void (*done)(void *arg, bool consistent), void *arg);
/* Who may send plain HTTP requests, and the JSON gateway. Before loops run; never called: everybody, and none. Copied, what it points to is borrowed. */
struct etcd_http_config {
    struct grpc_server *grpc; /* whose methods the gateway calls; NULL: no gateway */
    const char *const *cors;  /* --cors, NULL-terminated; NULL: all origins */
    const char *const *hosts; /* --host-whitelist, the same; not for TLS */
};
void etcd_server_attach_http(struct etcd_server *s, const struct etcd_http_config *cfg);
void etcd_server_destroy(struct etcd_server **s);                     /* loops have ended, member is stopped and not yet closed */

/* For grpc_server_config: the method tables, what every call passes first, and the handler of plain HTTP requests. */
bool etcd_server_admit(void *server, struct grpc_call *c);
void etcd_server_ended(void *server, struct grpc_call *c, const struct grpc_end *how); /* grpc_server_config.ended */
const struct grpc_method *const *etcd_server_tables(struct etcd_server *s);
struct http_handler etcd_server_http(struct etcd_server *s);
/* What members ask each other beside raft's own traffic (peer_transport_config.other): runs on the peer loop. */
struct http_handler etcd_server_peer_http(struct etcd_server *s);

#endif
