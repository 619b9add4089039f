/* world.h - a gRPC server and an HTTP/2 client that talk through memory, on a clock that stands
 * still.
 *
 * Callers     tests/api/grpc.   Thread  the test's.
 */
#ifndef TESTS_GRPC_WORLD_H
#define TESTS_GRPC_WORLD_H

#include "api/grpc/call.h"
#include "tests/api/http/mem_conn.h"

#define REPLIES_MAX 512u
#define WORLD_RECV_MAX 4096u

struct reply {
    int32_t id;
    char http_status[8];
    char status[8];
    char message[1024];
    char content_type[64];
    struct bytes body; /* frames and all */
    unsigned n_heads;  /* HEADERS frames */
    unsigned n_data;
    bool closed;
    uint32_t error;
    /* The request body. */
    struct bytes request;
    size_t request_at;
    bool request_open; /* more may be added */
};

struct world {
    struct loop *loop;
    struct grpc_server *server;
    struct http_config http;
    struct hub hub;
    struct mem_conn mc;
    nghttp2_session *client;
    struct reply replies[REPLIES_MAX];
    size_t n_replies;
    bool goaway;
    uint32_t goaway_code;
    int32_t goaway_last;
    char goaway_text[64];
    unsigned n_pings; /* from the server, not answers */
    unsigned n_ping_acks;
    bool mute; /* the client answers nothing */
    /* What the service saw. */
    unsigned n_started, n_messages, n_half_closed, n_ended, n_drained, n_released, n_admitted;
    struct grpc_call *kept; /* /t.S/Keep */
    bool refuse_all;
    size_t last_len;
};

struct world_options {
    uint32_t streams_max;
    uint64_t keepalive_interval_ms;
    size_t window; /* the client's, per stream; 0: 64 KiB - 1 */
};

/* cmocka fixtures hand the world over as *state. */
struct world *world_open(const struct world_options *o);
void world_close(struct world **w);
/* Exchange bytes until nobody has anything to say. */
void world_turn(struct world *w);
/* A request with the usual headers and n more "name","value" pairs; NULL body: none yet and still
 * open. */
struct reply *world_request(struct world *w, const char *path, const char *const *more,
                            size_t n_more, const void *body, size_t len, bool open);
struct reply *world_call(struct world *w, const char *path,
                         const char *text); /* unary, one message, a turn */
void world_add(struct world *w, struct reply *r, const void *body, size_t len, bool open);
/* A message with its frame head, into a static buffer. */
size_t world_frame(uint8_t *out, const void *message, size_t len);

#endif
