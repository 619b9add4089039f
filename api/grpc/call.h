/* call.h - what the parts of api/grpc share about a call.
 *
 * What        head.c reads request headers, message.c cuts the body into messages, call.c holds the
 *             answer's queue and the life of a call, stall.c watches slow clients, server.c ties them to api/http, local.c makes
 *             calls that come from inside the process.
 * Callers     api/grpc and its tests only.
 * Thread      the call's loop.
 */
#ifndef API_GRPC_CALL_H
#define API_GRPC_CALL_H

#include "api/grpc/local.h"
#include "api/grpc/server.h"
#include "api/http/h2.h"

#define CALL_ARENA_FIRST_BYTES 1024u               /* kept with a pooled call */
#define CALL_ARENA_BYTES_MAX (64u * 1024u * 1024u) /* over: the handler answers ERR_LIMIT */
#define CALL_QUEUE_BYTES_MAX                                                                       \
    (256u * 1024u * 1024u)    /* one call's unsent bytes: ended with ResourceExhausted */
#define CALL_POOL_MAX 4096u   /* idle call objects of one loop; more are freed */
#define CALL_KEEP_BYTES 4096u /* a larger buffer is not kept with a pooled call */
#define CALL_STALL_MS 120000u /* for a request to come whole, and for CALL_STEP_BYTES of an answer to be taken; over: reset. Not of bidirectional streams */
#define CALL_STEP_BYTES 65536u
#define STATUS_TEXT_MAX 8192u /* bytes of a status message as it came; the rest is cut */
#define FRAME_HEAD_BYTES 5u   /* flag and big-endian length before each message */
#define GRPC_CODE_N 17u

/* Request metadata that is kept; everything else is dropped as it comes. */
enum call_key {
    KEY_TOKEN,
    KEY_AUTHORIZATION,
    KEY_HASLEADER,
    KEY_CLIENT_API_VERSION,
    KEY_GATEWAY_ACCEPT,
    KEY_COMMON_NAME, /* no metadata: of who a call made inside is for */
    KEY_N
};

struct method_row;
struct call_home;

struct grpc_call {
    struct h2_stream stream; /* unused when in_process */
    struct call_home *home;
    struct grpc_local *local; /* who made this call, until it has closed it; NULL: over HTTP/2 */
    bool in_process;
    bool inner; /* part of another call: neither admitted nor counted by itself */
    const struct grpc_method *method; /* NULL until known */
    struct method_row *row;
    struct arena *arena;    /* owned; NULL until needed */
    struct grpc_call *next; /* pool */
    uint32_t refs;
    /* Head. */
    bool post;
    bool content_type_ok;
    bool bad_timeout;
    bool fields_began;   /* a header that is no pseudo-header has come */
    uint8_t pseudo_seen; /* one bit for each */
    struct slice verb;         /* arena; when not POST */
    struct slice path;         /* arena; when not known */
    struct slice content_type; /* arena; when not ok */
    bool gzip;                 /* messages may be compressed */
    struct slice encoding;     /* arena; when one that is not known */
    struct slice timeout;      /* arena; when malformed */
    struct slice keys[KEY_N];  /* arena */
    uint64_t deadline_ms;
    struct loop_timer timer; /* fires at the deadline */
    /* Request body. */
    uint8_t in_head[FRAME_HEAD_BYTES];
    uint8_t n_in_head;
    uint32_t n_messages; /* given to the handler */
    struct bytes in;     /* owned; a message that came in pieces */
    /* Answer: `out` from `out_at`, then the source, then `after`. */
    struct bytes out;
    size_t out_at;
    struct grpc_source *source; /* until its release */
    uint64_t source_left;
    struct bytes after;
    enum grpc_code code; /* when finished */
    struct slice text;   /* arena; percent-encoded; when finished */
    void (*drain)(struct grpc_call *c);
    size_t drain_below;
    struct grpc_call *drain_next;
    bool drain_listed;
    /* In its home's line of those that wait for their clients; slow_prev NULL: it does not. */
    struct grpc_call *slow_next, **slow_prev;
    uint64_t slow_since_ms;
    size_t slow_bytes;
    /* For telling how long it took. */
    uint64_t began_ms;
    uint64_t began_ns; /* of the real clock, when somebody wants to hear of its end; else 0 */
    uint64_t received_bytes, sent_bytes; /* of messages */
    /* Life. */
    bool counted;    /* in grpc_server_started_total */
    bool running;    /* `started` or `message` was called */
    bool finished;   /* we have ended it */
    bool closed;     /* its stream is gone */
    bool told_ended; /* `ended` was called */
    bool pulling;    /* inside a source's pull */
    void *state;
};

/* One loop's calls. */
struct call_home {
    struct loop *loop;
    struct grpc_server *server;
    struct call_home *next; /* the server's */
    struct grpc_call *pool;
    size_t n_pool;
    struct grpc_call *drains; /* calls whose drain callback may be due */
    struct grpc_local *locals; /* all that are open */
    struct grpc_local *ready;  /* those with news for their makers */
    struct grpc_call *slow, **slow_last; /* calls that wait for their clients, the longest first */
    struct loop_timer slow_timer;
    bool detached;
    uint64_t received_bytes; /* of messages, since the last turn end */
    uint64_t sent_bytes;
};

struct method_row {
    const struct grpc_method *method;
    uint64_t hash;
    size_t path_len;
    struct counter *started;
    struct counter *received;
    struct counter *sent;
    struct counter *handled[GRPC_CODE_N];
    struct histogram *seconds; /* NULL: not wanted */
};

/* call.c */
struct grpc_call *call_open(struct call_home *h);
void call_closed(struct grpc_call *c);
void call_draining(struct grpc_call *c);
int64_t call_pull(struct grpc_call *c, uint8_t *dst, size_t room, bool *last);
/* An answer made of headers alone. `http_status` "200" unless the request is no gRPC. */
void call_refuse(struct grpc_call *c, const char *http_status, enum grpc_code code,
                 const char *text);
bool call_run_drains(struct call_home *h);
void call_pool_free(struct call_home *h);
void call_handled(struct grpc_call *c, enum grpc_code code); /* count the end */
bool call_admit(struct grpc_call *c); /* count the start, and pass what every call passes first */
struct slice call_keep(struct grpc_call *c, struct slice s); /* copy into the arena */

/* head.c */
void call_header(struct grpc_call *c, struct slice name, struct slice value);
void call_request(struct grpc_call *c);
/* ERR_INVALID when malformed. */
MUST_CHECK enum err grpc_timeout_parse(struct slice text, uint64_t *ms);

/* message.c */
void call_message(struct grpc_call *c, struct slice message); /* a whole one */
MUST_CHECK bool call_length_is_allowed(struct grpc_call *c, size_t len); /* else it has ended */
void call_data(struct grpc_call *c, struct slice piece);
void call_half_closed(struct grpc_call *c);

/* gunzip.c */
/* Append what the compressed message `in` holds. false: the call has ended. */
MUST_CHECK bool call_gunzip(struct grpc_call *c, struct slice in, struct bytes *out);

/* stall.c */
void call_slow_attach(struct call_home *h);
void call_slow_detach(struct call_home *h);
void call_slow_begin(struct grpc_call *c); /* it waits for its client */
void call_slow_moved(struct grpc_call *c, size_t bytes); /* which has taken so many */
void call_slow_end(struct grpc_call *c);

/* local.c */
void local_news(struct grpc_local *l); /* something to take: tell its maker at the end of the turn */
bool local_run(struct call_home *h);
void local_detach(struct call_home *h); /* the loop goes: end all */

/* server.c */
struct call_home *server_home(struct grpc_server *s, const struct loop *l); /* NULL: no such */
struct method_row *server_find(struct grpc_server *s, struct slice path);
bool server_knows_service(const struct grpc_server *s, struct slice service);
const struct grpc_server_config *server_config(const struct grpc_server *s);
bool server_admit(struct grpc_call *c);
struct http_config;
void grpc_http_config(struct grpc_server *s,
                      struct http_config *out); /* for driving connections from memory */

/* status.c */
const char *grpc_code_name(enum grpc_code code);   /* "InvalidArgument", as metrics label them */
const char *grpc_code_digits(enum grpc_code code); /* "3" */
/* Append `text` with every byte outside 0x20..0x7E, and '%', as %XX. */
void grpc_text_encode(struct bytes *out, struct slice text);
/* Append `text` in quotes as Go's %q writes it. */
void grpc_quote(struct bytes *out, struct slice text);

#endif
