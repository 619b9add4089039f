/* server.h - gRPC calls as services see them.
 *
 * What        A method is a row of a table: path, kind, callbacks. The transport parses frames, metadata and
 *             message boundaries, enforces limits (sizes, deadlines, encodings) and answers what the table
 *             does not know with Unimplemented; services see whole request messages and give whole replies or
 *             streams of them.
 * Callers     api/etcd registers tables; tools/pintle attaches them to listeners.
 * Thread      every function and callback here runs on the call's loop.
 * Lifetime    A call lives until it is finished or cancelled *and* its last reference is gone. After
 *             it ended, sends and finishes are silently dropped, so a completion that comes late needs
 *             only its reference.
 * Source      gRPC over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md); texts as grpc-go's server.
 */
#ifndef API_GRPC_SERVER_H
#define API_GRPC_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "api/http/exchange.h"
#include "api/http/loop.h"
#include "api/http/tls.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/metrics.h"

enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16
};

enum grpc_kind { GRPC_UNARY, GRPC_CLIENT_STREAM, GRPC_SERVER_STREAM, GRPC_BIDI };

struct grpc_call;   /* opaque */
struct grpc_server; /* opaque: one for the process, serving on every loop */

struct grpc_method {
    const char *path; /* "/etcdserverpb.KV/Put" */
    enum grpc_kind kind;
    /* A whole request message, borrowed for the call of this function (unary and server streams: exactly
     * one comes). NULL is not allowed. */
    void (*message)(struct grpc_call *c, struct slice request);
    /* Streams: headers have arrived, before any message. May be NULL. */
    void (*started)(struct grpc_call *c);
    /* The client will send no more. May be NULL. Not called for unary. */
    void (*half_closed)(struct grpc_call *c);
    /* The server goes down; the call may go on for the time of grace. Here streams end that would not end by themselves. May
     * be NULL. */
    void (*draining)(struct grpc_call *c);
    /* The call has ended, by us, by the client or by its connection: free what hangs on
     * grpc_call_state. Called exactly once when not NULL and `message` or `started` ran. */
    void (*ended)(struct grpc_call *c);
    void *service; /* for the callbacks: grpc_call_service */
};

/* --- what a call knows ------------------------------------------------------------------------------ */
void *grpc_call_service(const struct grpc_call *c);
const struct grpc_method *grpc_call_method(const struct grpc_call *c);
struct loop *grpc_call_loop(const struct grpc_call *c);
struct grpc_server *grpc_call_server(const struct grpc_call *c);
struct arena *grpc_call_arena(struct grpc_call *c); /* lives as long as the call */
/* First value of a request metadata key (lower case); NULL data when absent. Kept: token, authorization, hasleader,
 * client-api-version, grpcgateway-accept. */
struct slice grpc_call_metadata(const struct grpc_call *c, const char *key);
/* The common name of the client's verified certificate, empty without one and once the call is closed. Borrowed until then. A call from inside has
 * the name that its maker gave it. */
struct slice grpc_call_common_name(const struct grpc_call *c);
/* The client's "host:port"; "" when it is not known, or the call is made in this process. */
#define GRPC_REMOTE_BYTES 64u
void grpc_call_remote(const struct grpc_call *c, char out[GRPC_REMOTE_BYTES]);
uint64_t grpc_call_began_ns(const struct grpc_call *c); /* of the real clock; 0: not admitted yet, or nobody is told of ended calls */
uint64_t grpc_call_began_ms(const struct grpc_call *c); /* of loop_now_ms; 0: not admitted yet */
uint64_t grpc_call_deadline_ms(const struct grpc_call *c); /* of loop_now_ms; UINT64_MAX: none */
bool grpc_call_ended(const struct grpc_call *c);
void **grpc_call_state(struct grpc_call *c); /* the service's own pointer, NULL at first */
struct grpc_call *grpc_call_ref(struct grpc_call *c); /* loop thread only, not atomic */
void grpc_call_unref(struct grpc_call **c);

/* --- answers ---------------------------------------------------------------------------------------- */

/* Send one message made of `n` pieces one behind the other; the bytes are copied. */
void grpc_send(struct grpc_call *c, const struct slice *pieces, size_t n);

/* Send one message of exactly `len` bytes that a source produces while the socket drains: `pull` writes up to `room`
 * bytes at `dst` and returns how many, at least 1 (0: it failed; the call has then been ended with grpc_abort).
 * One source at a time; messages sent meanwhile queue behind it. `release` is called once when the source is not
 * needed any more. This is how a reply larger than GRPC_COPY_MAX is sent: it never stands in memory whole. */
struct grpc_source {
    size_t (*pull)(struct grpc_source *s, uint8_t *dst, size_t room);
    void (*release)(struct grpc_source *s);
};
void grpc_send_source(struct grpc_call *c, uint64_t len, struct grpc_source *s);
#define GRPC_COPY_MAX (64u * 1024u)

/* End with a status. `message` is plain text (percent-encoded by the transport), may be NULL. */
void grpc_finish(struct grpc_call *c, enum grpc_code code, const char *message);

/* One message and OK: the usual end of a unary call. */
void grpc_reply(struct grpc_call *c, const struct slice *pieces, size_t n);

/* The rest cannot be sent although part of a message is out: reset the stream. */
void grpc_abort(struct grpc_call *c, enum grpc_code code);

/* Back-pressure for streams: bytes accepted by grpc_send and not yet given to the socket. */
size_t grpc_call_queued_bytes(const struct grpc_call *c);
/* Call `fn` once when that falls to `below_bytes` or less (at once, from the end-of-turn hook, if it is so already).
 * Never after `ended`. Setting it again replaces it. */
void grpc_call_on_drain(struct grpc_call *c, size_t below_bytes, void (*fn)(struct grpc_call *c));

/* --- the server side -------------------------------------------------------------------------------- */

struct grpc_limits {
    uint32_t recv_bytes_max;        /* larger message: ResourceExhausted, grpc-go's text */
    uint32_t concurrent_streams_max;
    uint64_t keepalive_min_ms;      /* pings more often: GOAWAY ENHANCE_YOUR_CALM too_many_pings */
    uint64_t keepalive_interval_ms; /* our pings after this much silence; 0: none */
    uint64_t keepalive_timeout_ms;
};

/* A unary call that has ended. */
struct grpc_end {
    uint64_t took_ns;
    uint64_t received_bytes, sent_bytes; /* of its messages */
    enum grpc_code code;
};

struct grpc_server_config {
    struct grpc_limits limits;
    const struct grpc_method *const *tables; /* NULL-terminated list of tables, each ending with a row of path NULL */
    struct http_handler http;
    struct metrics *metrics; /* grpc_server_* families, etcd_network_client_grpc_*_bytes_total */
    unsigned connections_max;
    /* Called for each new call before `started`/`message`; return false after finishing it (not ready, learner, no
     * leader ...). May be NULL. */
    bool (*admit)(void *arg, struct grpc_call *c);
    void *admit_arg;
    bool handling_seconds; /* grpc_server_handling_seconds too, of every method (--metrics=extensive) */
    /* A unary call has ended; with admit_arg. May be NULL. */
    void (*ended)(void *arg, struct grpc_call *c, const struct grpc_end *how);
};

/* `cfg` is copied, what it points to is borrowed. */
struct grpc_server *grpc_server_create(const struct grpc_server_config *cfg);
void grpc_server_destroy(struct grpc_server **s); /* after its loops were destroyed */

/* Bind and listen on host:port or a unix socket path, without accepting yet. Errors: ERR_ADDR_IN_USE, ERR_PERM,
 * ERR_INVALID, with the text Go gives: "listen tcp 127.0.0.1:2379: bind: address already in use". */
MUST_CHECK enum err grpc_server_bind(struct grpc_server *s, const char *host, const char *port, struct err_ctx *ec);
MUST_CHECK enum err grpc_server_bind_unix(struct grpc_server *s, const char *path, struct err_ctx *ec);

/* As http_server_secure: what listeners speak that are bound from now on. */
void grpc_server_secure(struct grpc_server *s, struct tls *tls, bool plain);

/* The port of the i-th bound listener, for those who asked for port 0. */
uint16_t grpc_server_port(const struct grpc_server *s, unsigned i);

/* Start accepting; connections are dealt out to `loops` in turn. Called on the first loop's thread. */
void grpc_server_serve(struct grpc_server *s, struct loop *const *loops, unsigned n_loops);

/* Stop accepting, send GOAWAY on every connection, let running unary calls end, cut what is left after
 * `grace_ms`; `done` runs on the first loop's thread. */
void grpc_server_shutdown(struct grpc_server *s, uint64_t grace_ms, void (*done)(void *arg), void *arg);

#endif
