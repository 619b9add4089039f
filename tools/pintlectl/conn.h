/* conn.h - one client over several endpoints.
 *
 * What        Keeps a connection to one of the endpoints, goes on to the next when it fails,
 *             repeats calls where that is safe, and logs in.
 * Callers     all commands.
 * Thread      one.
 * Invariants  A call that may have been executed is never repeated unless it is repeatable.
 * Source      cli.md 4.
 */
#ifndef TOOLS_PINTLECTL_CONN_H
#define TOOLS_PINTLECTL_CONN_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/client/client.h"

#define CONN_ENDPOINTS_MAX 1024u
#define FAILURE_TEXT_MAX (CLIENT_STATUS_TEXT_MAX + 128u)

/* Why a call did not succeed. */
struct failure {
    uint32_t code;
    bool context; /* our own deadline passed, or we were told to stop */
    char text[CLIENT_STATUS_TEXT_MAX];
};

/* As etcd's client words it: known answers bare, others with their gRPC code. */
void failure_text(const struct failure *f, char out[FAILURE_TEXT_MAX]);
bool failure_is(const struct failure *f, const char *text);
/* The deadline has passed. */
void failure_deadline(struct failure *f);
void failure_canceled(struct failure *f);
void failure_from(struct failure *f, const struct client_status *status);

/* Texts are borrowed as long as the connection lives. */
struct conn_options {
    const char *const *endpoints;
    size_t n_endpoints;
    struct client_options client;
    uint64_t dial_timeout_ns, max_send_bytes, max_receive_bytes;
    bool send_given;                     /* max_send_bytes was asked for */
    const char *user, *password, *token; /* NULL: none */
};

struct conn;

/* Log in when there is a user with a password, in dial_timeout_ns. false: with the reason. */
MUST_CHECK bool conn_open(const struct conn_options *o, struct conn **out, struct failure *f);
void conn_close(struct conn **c);

/* Moment of the monotonic clock; 0: never. */
typedef uint64_t deadline_ns;

/* A unary call; on true *reply is the caller's (protobuf_c_message_free_unpacked). */
MUST_CHECK bool conn_call(struct conn *c, const char *path, const ProtobufCMessage *request,
                          bool repeatable, const ProtobufCMessageDescriptor *answer,
                          deadline_ns deadline, void *reply, struct failure *f);
/* The connection, made when there is none; borrowed until conn_drop or the next conn_call. */
MUST_CHECK bool conn_client(struct conn *c, deadline_ns deadline, struct client **out,
                            struct failure *f);
/* The same for one that may have been closed while nobody looked: takes in what came before. */
MUST_CHECK bool conn_fresh_client(struct conn *c, deadline_ns deadline, struct client **out,
                                  struct failure *f);
/* Open a stream and send its first message. */
MUST_CHECK bool conn_stream(struct conn *c, const char *path, const ProtobufCMessage *first,
                            bool wants_leader, deadline_ns deadline, struct client_stream **out,
                            struct failure *f);
MUST_CHECK bool conn_send(struct client_stream *s, const ProtobufCMessage *m);
/* The connection is of no use: the next call takes the next endpoint. Its streams are gone. */
void conn_drop(struct conn *c);
/* Changes whenever a connection is given up: streams opened at another number are gone. */
unsigned conn_generation(const struct conn *c);
/* The failure says that the token has expired: get another one. */
MUST_CHECK bool conn_renew(struct conn *c, const struct failure *why, deadline_ns deadline);

uint64_t now_ns(void);
void sleep_ms(unsigned ms);

#endif
