/* client.h - a small blocking gRPC client: one connection, many calls.
 *
 * What        HTTP/2 over TCP or a unix socket, with TLS or without. Unary calls, one at a time
 *             (client_call) or many outstanding at once (client_submit, client_pump), and
 *             bidirectional streams. Messages are bytes: the caller encodes and decodes. Who has an
 *             event loop drives it from there, without waiting (client_drive).
 * Callers     tests, pintle-bench, tools/pintle, pintlectl, api/proxy.
 * Thread      A client and its streams belong to one thread at a time. Nothing is global: threads
 *             may each have clients of their own. Nothing happens behind the caller's back: bytes
 *             move only inside calls of this header.
 * Invariants  Each submitted call's callback runs exactly once, at the latest in client_close.
 *             After the connection failed, every call of this header returns ERR_CLOSED.
 * Source      github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md.
 */
#ifndef API_CLIENT_CLIENT_H
#define API_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/tls/context.h"
#include "base/err.h"
#include "base/slice.h"

#define CLIENT_CALLS_MAX 65536u                   /* unary calls in flight; over: ERR_BUSY */
#define CLIENT_MESSAGE_MAX (512u * 1024u * 1024u) /* bytes of a reply; over: code Internal */
#define CLIENT_QUEUE_MAX                                                                           \
    (4u * 1024u * 1024u)                      /* bytes a stream holds unread; then the             \
                                                 server is held back by flow control */
#define CLIENT_SEND_MAX (64u * 1024u * 1024u) /* bytes a stream holds unsent; ERR_BUSY */
#define CLIENT_STATUS_TEXT_MAX 1024u          /* bytes of a status text; longer is cut */
#define CLIENT_METADATA_MAX 8u                /* pairs; over: ERR_LIMIT */
#define CLIENT_KEEPALIVE_MIN_MS 10000u /* what gRPC's clients raise a shorter interval to: servers     \
                                          hang up on who asks too often. It is the caller's to do. */

/* gRPC status codes that this client makes up itself; others come from the server. */
#define CLIENT_CODE_OK 0u
#define CLIENT_CODE_CANCELED 1u
#define CLIENT_CODE_UNKNOWN 2u
#define CLIENT_CODE_DEADLINE 4u
#define CLIENT_CODE_EXHAUSTED 8u
#define CLIENT_CODE_INTERNAL 13u
#define CLIENT_CODE_UNAVAILABLE 14u

struct client;        /* one connection */
struct client_stream; /* one bidirectional stream on it */

/* How a call ended. */
struct client_status {
    uint32_t code;
    bool local; /* made here (deadline, lost connection, malformed reply), not by the server */
    char text[CLIENT_STATUS_TEXT_MAX];
};

/* A unary call is over. `reply` is valid until the callback returns, and empty unless the code is
 * OK. The callback may submit, call and use streams, but not close the client or pump it. */
typedef void (*client_done_fn)(void *arg, const struct client_status *status, struct slice reply);

/* Who the server has to be, and who we are. Texts may be NULL. Files are read at each connect. */
struct client_tls {
    const char *ca_file;              /* who signs servers' certificates; NULL: whom the system trusts */
    const char *cert_file, *key_file; /* ours; NULL: none */
    const char *server_name; /* that the certificate has to be for; NULL: the target's host */
    bool insecure_skip_verify;
    enum tls_version min, max;
    const char *ciphers; /* of TLS 1.2, from tls_ciphers (api/http/tls.h); NULL: the usual */
};

/* Used until the connecting function returns; all zero is what client_connect does. */
struct client_options {
    struct client_tls tls;
    bool secure; /* "host:port" and "unix:" mean TLS too; "http://" never does */
    /* While calls or streams are open and nothing has come for `keepalive_ms`, ask the server for a
     * sign of life, and take the connection for dead when none comes in `keepalive_timeout_ms`. It
     * happens in the functions that move bytes. 0: never. */
    uint32_t keepalive_ms, keepalive_timeout_ms;
};

/* Connect to `target`: "host:port", "http://host:port", "unix:path" or "unix://path", and with TLS
 * "https://host:port", "unixs:path" or "unixs://path" (whose certificate has to be for the last part
 * of the path up to a colon, as etcd's clients want it). Blocks for at most `timeout_ms`, with the
 * TLS handshake and without looking up names, then sends the HTTP/2 preface without waiting for the
 * peer's settings.
 * Errors: ERR_INVALID, a malformed target or unusable file; ERR_IO; ERR_DEADLINE; ERR_PERM: the
 * handshake failed, be it by us or by them. */
MUST_CHECK enum err client_connect_with(const char *target, const struct client_options *o,
                                        uint32_t timeout_ms, struct client **out,
                                        struct err_ctx *ec);
/* The same with no options. */
MUST_CHECK enum err client_connect(const char *target, uint32_t timeout_ms, struct client **out,
                                   struct err_ctx *ec);

/* End every call and stream with Canceled, free the streams too. Accepts NULL; leaves NULL. */
void client_close(struct client **c);

/* Send `name: value` with every call from now on (such as "token"); a name already there gets the
 * new value, NULL removes it. Both are copied. Errors: ERR_LIMIT. */
MUST_CHECK enum err client_metadata(struct client *c, const char *name, const char *value);

/* One unary call, from "/package.Service/Method" to the end. OK means that there is a status: see
 * status->code. `reply` is emptied first. A call not over after `timeout_ms` is cancelled and ends
 * with code DeadlineExceeded; the server is not told the deadline. */
MUST_CHECK enum err client_call(struct client *c, const char *path, struct slice request,
                                uint32_t timeout_ms, struct client_status *status,
                                struct bytes *reply);

/* Start a unary call; nothing is sent before the next pump. Path and request are copied.
 * Errors: ERR_BUSY, ERR_CLOSED. */
MUST_CHECK enum err client_submit(struct client *c, const char *path, struct slice request,
                                  uint32_t timeout_ms, client_done_fn done, void *arg);

/* A new call would be sent: the connection lives, and the server has not announced its end. Looks
 * at nothing but what came so far; client_pump with no wait takes in what has arrived. */
bool client_usable(const struct client *c);

/* Unary calls whose callback has not run. */
size_t client_in_flight(const struct client *c);

/* Send what is queued, wait up to `wait_ms` for something to happen, and run the callbacks of the
 * calls that ended. Returns OK when bytes came or a call ended, ERR_DEADLINE when nothing did. */
MUST_CHECK enum err client_pump(struct client *c, uint32_t wait_ms);

/* The same over several clients: returns OK when any of them moved, ERR_CLOSED when one is closed.
 * At most CLIENT_PUMP_MAX clients. */
#define CLIENT_PUMP_MAX 64u
MUST_CHECK enum err client_pump_all(struct client *const *clients, size_t n, uint32_t wait_ms);
/* The same up to a moment of clock_real's monotonic time, for callers that keep a pace. */
MUST_CHECK enum err client_pump_until(struct client *const *clients, size_t n, uint64_t until_ns);

/* ---- streams ---- */

/* Open a stream; request headers go out with the next call that moves bytes. */
MUST_CHECK enum err client_stream_open(struct client *c, const char *path,
                                       struct client_stream **out);

/* Queue one message and send what the connection takes without waiting. ERR_BUSY: the unsent bytes
 * would pass CLIENT_SEND_MAX; ERR_END: half closed or over. */
MUST_CHECK enum err client_stream_send(struct client_stream *s, struct slice message);

/* No more messages from us. */
MUST_CHECK enum err client_stream_half_close(struct client_stream *s);

/* Take the next message into `message` (emptied first), waiting up to `timeout_ms`; 0 looks only
 * at what has come. Callbacks of unary calls may run meanwhile. ERR_DEADLINE: none yet; ERR_END:
 * the server ended the stream and all messages were taken, see client_stream_status. */
MUST_CHECK enum err client_stream_recv(struct client_stream *s, uint32_t timeout_ms,
                                       struct bytes *message);

/* A whole message waits to be taken. */
bool client_stream_ready(const struct client_stream *s);

/* How the stream ended; NULL while it runs. Valid until client_stream_close. */
const struct client_status *client_stream_status(const struct client_stream *s);

/* Cancel when still running, and free. Accepts NULL; leaves NULL. */
void client_stream_close(struct client_stream **s);

/* ---- from an event loop ---- */

/* From now on nothing is written before client_drive or client_flush: one write for all that was
 * queued, and no failure comes to light in between. */
void client_cork(struct client *c);
/* The socket, to be polled: for reading always, for writing while client_wants_write. */
int client_fd(const struct client *c);
bool client_wants_write(const struct client *c);
/* Read what has come, write what can be written, and run the callbacks that are due, without
 * waiting. *again: not everything was read, so come back soon even if the socket says nothing.
 * For keepalive and deadlines come from time to time too.
 * ERR_CLOSED: the connection failed; the callbacks that are due because of it have run. */
MUST_CHECK enum err client_drive(struct client *c, bool *again);
/* Only write. ERR_CLOSED as above, but the callbacks are left to client_drive. */
enum err client_flush(struct client *c);

struct client_pair {
    const char *name;
    struct slice value;
};
/* As client_stream_open, with metadata for this call alone; at most CLIENT_METADATA_MAX. */
MUST_CHECK enum err client_stream_open_with(struct client *c, const char *path,
                                            const struct client_pair *pairs, size_t n_pairs,
                                            struct client_stream **out);

/* A message has come whole, all that was queued is sent, or the stream has ended. Called from
 * client_drive and client_pump; it may use and close any stream, but not close or pump the client. */
typedef void (*client_news_fn)(void *arg);
void client_stream_on_news(struct client_stream *s, client_news_fn fn, void *arg);
/* The message that waits, where it lies: borrowed until the next call of this header. false: none. */
bool client_stream_front(const struct client_stream *s, struct slice *message);
void client_stream_drop(struct client_stream *s); /* that message */
/* Bytes queued and not yet given to the connection. */
size_t client_stream_unsent(const struct client_stream *s);
/* The server refused the call before it did anything with it, or never saw it. */
bool client_stream_untouched(const struct client_stream *s);

/* Received bytes that all streams together may hold; over it the stream that received last ends
 * with ResourceExhausted. At first there is no such bound. */
void client_hold_max(struct client *c, size_t bytes);

#endif
