/* internal.h - what the services of this folder share.
 *
 * What        The server, its per-loop part, and the shape of a request under way.
 * Callers     api/etcd only.
 * Thread      a struct etcd_loop and the requests of its calls belong to that loop.
 */
#ifndef API_ETCD_INTERNAL_H
#define API_ETCD_INTERNAL_H

#include "api/etcd/server.h"
#include "api/etcd/status.h"
#include "base/clock.h"
#include "base/wire.h"

#define REPLY_HEADER_MAX 48u              /* encoded ResponseHeader with its tag and length */
#define WATCH_QUEUE_BYTES (1u << 20)      /* queued on one stream: over it, its watchers go back to catching up */
#define WATCH_RESUME_BYTES (256u << 10)   /* ... and come back below this */
#define KEEPALIVE_QUEUE_MAX 65536u        /* requests of one keepalive stream not yet answered; over: ResourceExhausted */
#define STREAM_CHUNK_BYTES (256u << 10)   /* one message of RangeStream, about */
#define STREAM_QUEUE_BYTES (512u << 10)   /* RangeStream pauses above this */

#define STREAM_MESSAGE_BYTES (64u << 20)  /* a decoded message of a stream; over: as for bytes that are none */
#define CLIENT_VERSION_MAX 15u            /* bytes of a client-api-version that is counted by its name; longer ones count as "unknown" */
#define CLIENT_VERSIONS_MAX 16u           /* names counted apart; any more count as "unknown" */

#define TXN_ELEMENTS_MAX 262144u          /* compares and ops of one txn before it is decoded; over: too many operations */

struct etcd_loop {
    struct etcd_server *server;
    struct loop *loop;
    struct member_port port;
    struct loop_hook submit_hook;
    struct loop_hook step_hook;
    struct member_op *first, *last; /* gathered this turn, linked by node.next */
    struct watch_hub *hub;
    struct loop_timer step_timer; /* history goes on next turn */
    struct bytes scratch;         /* reply under construction; empty between calls */
    struct arena *message;        /* owned; one decoded message of a stream, until the next one is */
    struct client_version {
        char text[CLIENT_VERSION_MAX + 1];
        struct counter *requests[2]; /* unary, stream */
    } client_versions[CLIENT_VERSIONS_MAX];
};

struct etcd_server {
    struct etcd_server_config cfg;
    struct member *member; /* borrowed */
    struct engine *engine; /* borrowed */
    struct etcd_loop *loops;
    unsigned n_loops;
    struct member_port **ports;
    struct grpc_method *methods; /* owned: the rows of all tables with `service` set */
    const struct grpc_method *tables[2];
    struct counter *slow_read_indexes, *read_indexes_failed, *health_success, *health_failures;
    struct gauge *watch_streams;
};

struct etcd_server *server_of(const struct grpc_call *c);
struct etcd_loop *loop_of(const struct etcd_server *s, const struct loop *l);

/* One op of one call, in the call's arena. */
struct request {
    struct member_op op;
    struct grpc_call *call; /* referenced while the op is under way */
    /* On the call's loop, when the op is answered; the call may have ended meanwhile. */
    void (*finish)(struct request *r);
    void *message; /* the decoded request */
    void (*next)(struct grpc_call *c, void *message); /* behind a read barrier */
    int64_t number; /* the service's own: a lease, its TTL */
    void *answer;   /* what the member loop found, for `finish` to send and free */
};

/* The request message, decoded into the call's arena; NULL after ending the call with grpc-go's error for bytes that are none. */
void *request_decode(struct grpc_call *c, const ProtobufCMessageDescriptor *d, struct slice bytes);
/* The same for a call that gets many: the message is gone when the loop decodes its next one, so that a long life adds nothing up. */
void *request_decode_stream(struct grpc_call *c, const ProtobufCMessageDescriptor *d, struct slice bytes);
void request_refuse_bytes(struct grpc_call *c); /* end the call: these are no message */
bool text_is_utf8(struct slice s);
struct request *request_create(struct grpc_call *c, enum member_op_kind kind, void (*finish)(struct request *r));
/* Hand the op to the member at the end of this turn. A refusal comes back through `finish`. */
void request_submit(struct request *r);
/* Propose field `number` of InternalRaftRequest with these encoded bytes. */
void request_propose(struct request *r, uint32_t number, struct slice encoded);
/* The usual end of a proposal: header with the result's revision, body, or the error's status. */
void request_finish_proposal(struct request *r);

/* Run `next` once a linearizable read may be served: at once when that is so already. Ends the call on errors. `next` gets the
 * request's `message`. */
void request_read_barrier(struct grpc_call *c, void *message, void (*next)(struct grpc_call *c, void *message));

/* Encode field 1, the header. revision 0 is left out. Returns its length. */
size_t reply_header(const struct etcd_server *s, int64_t revision, uint8_t out[REPLY_HEADER_MAX]);
/* Header and fields behind it as the only reply. */
void reply_send(struct grpc_call *c, int64_t revision, struct slice body);
void reply_raise_nospace(struct grpc_call *c); /* raise the alarm and answer ERR_NO_SPACE */

extern const struct grpc_method kv_methods[];
extern const struct grpc_method watch_methods[];
extern const struct grpc_method lease_methods[];
extern const struct grpc_method cluster_methods[];
extern const struct grpc_method maintenance_methods[];
extern const struct grpc_method health_methods[];

/* Maintenance.Snapshot, a row of maintenance_methods. */
void snapshot_on_message(struct grpc_call *c, struct slice bytes);
void snapshot_on_ended(struct grpc_call *c);

void http_handle(void *arg, struct http_exchange *x, const struct http_request *r);
void server_metrics(struct etcd_server *s);
void server_count_request(struct etcd_loop *l, bool stream, struct slice client_version);

#endif
