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
#include "base/assert.h"
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

#define ASK_RETRY_MS 50u      /* between tries to reach a leader */
#define ASK_TRY_MS 3000u      /* one question to a leader: one that does not answer may have a successor by then */
#define NO_LEADER_CHECKS 3u   /* election timeouts in a row without a leader: streams that want one end */
#define KEEPALIVE_WINDOW 16u  /* renewals of one stream under way at a time */
#define PASSWORD_WORK_MAX 64u /* passwords of one loop at the workers at a time; over: too many requests. At cost 10 a worker does some 15 a second */
#define MEMBER_URLS_ASKED_MAX 64u /* peer URLs in one request; over: bad URLs. What the engine keeps of one member */
#define MEMBER_URL_BYTES_MAX 2048u /* one peer URL; over: bad URLs */

#define TXN_ELEMENTS_MAX 262144u          /* compares and ops of one txn before it is decoded; over: too many operations */

/* A stream whose client wants it to end when there is no leader. */
struct led_stream {
    struct grpc_call *call; /* referenced; let go at the first check after the call's end */
    struct led_stream *next;
};

struct etcd_loop {
    struct etcd_server *server;
    struct loop *loop; /* of the part for the peer port: NULL until the first request there */
    struct member_port port;
    struct loop_hook submit_hook;
    struct loop_hook step_hook;
    struct loop_hook stop_hook;
    struct member_op *first, *last; /* gathered this turn, linked by node.next */
    struct watch_hub *hub;
    struct loop_timer step_timer; /* history goes on next turn */
    struct bytes scratch;         /* reply under construction; empty between calls */
    struct arena *message;        /* owned; one decoded message of a stream, until the next one is */
    struct led_stream *led;       /* owned */
    struct loop_timer led_timer;  /* set while there are any */
    unsigned no_leader_checks;    /* in a row */
    struct leader_ask *asks;      /* waiting for their next try */
    unsigned n_password_work;     /* hashes and comparisons of passwords under way */
    char version_shown[16];       /* the cluster version that etcd_cluster_version has 1 for */
    struct client_version {
        char text[CLIENT_VERSION_MAX + 1];
        struct counter *requests[2]; /* unary, stream */
    } client_versions[CLIENT_VERSIONS_MAX];
};

enum watch_send { WATCH_SEND_EVENTS, WATCH_SEND_EVENT, WATCH_SEND_CONTROL, WATCH_SEND_PROGRESS, N_WATCH_SENDS };

struct etcd_server {
    struct etcd_server_config cfg;
    struct etcd_http_config http;
    struct member *member; /* borrowed */
    struct engine *engine; /* borrowed */
    struct peer_transport *peers; /* borrowed; NULL: this member is alone */
    struct etcd_loop *loops;
    unsigned n_loops;
    struct etcd_loop peer_loop; /* for requests on the peer port: no watchers, no calls */
    struct member_port **ports;
    struct grpc_method *methods; /* owned: the rows of all tables with `service` set, and caller_admit in front of their messages */
    const struct grpc_method **plain; /* owned: the rows as they were */
    const struct grpc_method *tables[2];
    struct counter *read_indexes_failed, *health_success, *health_failures;
    struct counter *lease_renewed, *promote_successes, *slow_apply;
    struct gauge *watch_streams;
    struct histogram *range_seconds[2], *range_request_seconds[2]; /* failed, done */
    struct histogram *snapshot_seconds;
    struct histogram *watch_send[N_WATCH_SENDS];
    struct counter *stream_failures[2]; /* of watches, of keep-alives: messages that are none */
    struct counter *scrapes;
    struct {
        struct loop_timer periodic, compaction;
        bool busy;       /* a check is under way */
        int64_t checked; /* compactions up to this revision were found equal everywhere */
    } corrupt; /* the first loop's */
};

/* What the word about a slow call says of it, of the unary calls of KV but Compact: their state (grpc_call_state). */
struct call_note {
    const ProtobufCMessage *request; /* in the call's arena */
    int64_t response_count;
    bool succeeded; /* of a txn: its first branch was taken */
    bool answered;
};

/* A read of KV is answered: say so when it took longer than applying may (slow.c). `n` is how many pairs a range gives; -1: a txn. */
void slow_read(struct grpc_call *c, const ProtobufCMessage *request, int64_t n, uint64_t bytes, enum err e);

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
    /* Of a proposal on behalf of somebody: to be made anew when it turns out that users have changed meanwhile. */
    struct buf *proposed; /* referenced; its first `n_proposed` bytes are the request without its header */
    size_t n_proposed;
    uint64_t auth_revision;
    unsigned tries;
    enum err refused; /* OK, or why it is not handed to the member */
};

/* The request message, decoded into the call's arena; NULL after ending the call with grpc-go's error for bytes that are none. */
void *request_decode(struct grpc_call *c, const ProtobufCMessageDescriptor *d, struct slice bytes);
/* The same for a call that gets many: the message is gone when the loop decodes its next one, so that a long life adds nothing up. */
void *request_decode_stream(struct grpc_call *c, const ProtobufCMessageDescriptor *d, struct slice bytes);
void request_refuse_bytes(struct grpc_call *c); /* end the call: these are no message */
struct request *request_create(struct grpc_call *c, enum member_op_kind kind, void (*finish)(struct request *r));
/* Hand the op to the member at the end of this turn. A refusal comes back through `finish`. */
void request_submit(struct request *r);
void request_submit_on(struct etcd_loop *l, struct request *r); /* the same without a call: on this loop, its own thread */
/* Propose field `number` of InternalRaftRequest with these encoded bytes, on the caller's behalf. Refusals come back through `finish`. */
void request_propose(struct request *r, uint32_t number, struct slice encoded);
/* The same on nobody's behalf, as the log has it of those who log in. */
void request_propose_as_nobody(struct request *r, uint32_t number, struct slice encoded);
/* A proposal has come back. True: it is under way once more, with an identity as of now. */
bool request_goes_again(struct request *r);
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

/* --- ask.c: what only the leader can do --------------------------------------------------------------------------
 *
 * Done here when this member leads, else asked of the leader over its peer port, again and again until the request timeout while there is none
 * or it cannot be reached. Embedded by what is asked: lease.c, promote.c. Everything runs on `loop`. */
struct leader_ask;
struct leader_ask_kind {
    /* This member leads: begin. Ends with ask_finish, or ask_retry when it turns out not to lead. */
    void (*here)(struct leader_ask *a);
    /* The question to the leader: path, headers, body. Called for each try; what it points to lives as long as the ask. */
    void (*write)(struct leader_ask *a, struct peer_question *q);
    /* The leader's answer, of whatever status. true: it is final, ERR_* or OK in *e; false: try again. */
    bool (*read)(struct leader_ask *a, const struct peer_question *q, enum err *e);
};
struct leader_ask {
    struct request r; /* for what this member does; r.call stays NULL */
    struct peer_question question;
    struct loop_timer again;
    struct leader_ask *prev, *next; /* in the loop's list, while the timer is set */
    struct etcd_loop *loop;
    struct grpc_call *call; /* referenced until `done`; NULL for a request on the peer port */
    const struct leader_ask_kind *kind;
    bool only_here; /* do not pass it on: ERR_NOT_LEADER instead */
    uint64_t deadline_ms; /* of the loop's clock */
    enum err err;
    void (*done)(struct leader_ask *a); /* once; the memory may go in it. The call may have ended. */
};
/* Zero-initialised but for kind, done and only_here. `call` may be NULL. */
void ask_start(struct leader_ask *a, struct etcd_loop *l, struct grpc_call *call);
void ask_finish(struct leader_ask *a, enum err e);
void ask_retry(struct leader_ask *a);
/* One op of this member's part of it; `finish` is its request's. */
void ask_submit(struct leader_ask *a, enum member_op_kind kind, void (*finish)(struct request *r));
void asks_drop(struct etcd_loop *l); /* the loop has stopped: no try comes any more */
static inline struct leader_ask *ask_of(struct request *r)
{
    return CONTAINER_OF(r, struct leader_ask, r);
}

/* --- lease_ask.c: renewing and looking up one lease, wherever the leader is ------------------------------------------ */
struct lease_ask {
    struct leader_ask ask;
    int64_t id;
    bool lookup;   /* else: renew */
    bool keys;     /* of a lookup: its keys too */
    bool waited;   /* for everything committed to be applied */
    uint8_t body[32]; /* of the question */
    /* The answer, when ask.err is OK. ERR_LEASE_NOT_FOUND is an answer too. */
    int64_t ttl_s; /* of a renewal: granted; of a lookup: remaining */
    int64_t granted_s;
    struct bytes key_fields; /* encoded `keys` fields of LeaseTimeToLiveResponse; whoever takes `done` releases it */
};
void lease_ask_start(struct lease_ask *a, struct etcd_loop *l, struct grpc_call *call);
/* The bodies of /leases and /leases/internal, etcd's lease HTTP protocol. Readers: ERR_INVALID. */
size_t lease_body_write(uint8_t out[32], int64_t id, bool lookup, bool keys);
MUST_CHECK enum err lease_body_read(struct slice body, bool lookup, int64_t *id, bool *keys);
void lease_answer_write(struct bytes *out, const struct lease_ask *a);
MUST_CHECK enum err lease_answer_read(struct slice body, struct lease_ask *a); /* of another lease: ERR_INVALID */

/* --- promote.c: a learner becomes a voter -------------------------------------------------------------------------- */
struct promotion {
    struct leader_ask ask;
    uint64_t id;
    struct member_change change;
    const char *authorization; /* for the leader; NULL: none. Lives as long as this */
    bool elsewhere; /* another member did it: this one may not know yet */
};
void promotion_start(struct promotion *p, struct etcd_loop *l, struct grpc_call *call);
const char *membership_error_text(enum err e); /* as etcd's own members tell each other */

extern const struct grpc_method kv_methods[];
extern const struct grpc_method watch_methods[];
extern const struct grpc_method lease_methods[];
extern const struct grpc_method cluster_methods[];
extern const struct grpc_method maintenance_methods[];
extern const struct grpc_method health_methods[];
extern const struct grpc_method auth_methods[];

/* Maintenance.Downgrade, a row of maintenance_methods, and what follows from it: the storage version that is told, never above the cluster's. */
void downgrade_on_message(struct grpc_call *c, struct slice bytes);
void server_storage_version(const struct etcd_server *s, char out[16]);

/* Maintenance.Snapshot, a row of maintenance_methods. */
void snapshot_on_message(struct grpc_call *c, struct slice bytes);
void snapshot_on_ended(struct grpc_call *c);

/* led.c: streams that end when there is no leader for long. */
void led_stream_add(struct etcd_loop *l, struct grpc_call *c);
void led_streams_drop(struct etcd_loop *l); /* the loop has stopped */

/* What a learner serves of a method. */
enum learner_serves { LEARNER_REFUSES, LEARNER_SERVES, LEARNER_SERVES_SERIALIZABLE };
enum learner_serves learner_serves(const char *path);
/* For the method that depends on its message: ends the call and gives false when this member is a learner. */
bool learner_admits(struct grpc_call *c, bool serializable);

void http_handle(void *arg, struct http_exchange *x, const struct http_request *r);
void peer_http_handle(void *arg, struct http_exchange *x, const struct http_request *r);
void http_version_body(const struct etcd_server *s, struct bytes *out);
/* The members as /members and /members/promote tell them: a JSON array and a line end, as etcd writes it. */
/* The body that asks for a hash ("{"revision":N}", ERR_INVALID), and the one that answers. */
MUST_CHECK enum err hash_kv_request_read(struct slice body, int64_t *revision);
void hash_kv_json(const struct hash_kv *kv, struct bytes *out);
void members_json(const struct member_info *members, size_t n, struct bytes *out);
void server_metrics(struct etcd_server *s);
void server_metrics_families(struct etcd_server *s); /* the part of it that needs no more than names */
void server_show_version(struct etcd_loop *l); /* bring etcd_cluster_version up to date */
void server_show_alarms(struct etcd_server *s); /* the same for etcd_debugging_server_alarms */
void server_count_request(struct etcd_loop *l, bool stream, struct slice client_version);

#endif
