/* h2.h - request streams of HTTP/2 connections, as api/grpc sees them.
 *
 * What        A stream is embedded in its owner's call object. The session reports head, body and
 * end of the request through struct h2_handler; the owner answers with h2_respond and is then asked
 * for body bytes as the socket and the peer's windows have room. Callers     api/grpc. Thread the
 * connection's loop. Invariants  `closed` is called exactly once for every stream `open` returned,
 * as the last thing, never from within a function of this header. Source      RFC 9113; nghttp2's
 * programmer's guide.
 */
#ifndef API_HTTP_H2_H
#define API_HTTP_H2_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/http/loop.h"
#include "base/slice.h"

struct conn;

/* All fields are the session's; the owner reads. */
struct h2_stream {
    struct conn *conn;      /* NULL once closed */
    struct h2_stream *next; /* the connection's open streams */
    struct h2_stream **prev;
    int32_t id;
    bool remote_closed;   /* the request is complete */
    bool responded;       /* response headers are submitted */
    bool sent;            /* and on their way */
    bool deferred;        /* pull had nothing; h2_resume is needed */
    bool reset;           /* we have submitted RST_STREAM */
    uint64_t since_ms;
    size_t partial_bytes; /* h2_partial_set */
    size_t queued_bytes;  /* h2_queued_set */
};

/* What one loop's streams belong to; made by `attach`. */
struct h2_handler {
    /* State for one loop, made on its thread before its first connection; freed by detach. */
    void *(*attach)(void *arg, struct loop *l);
    void (*detach)(void *loop_state);
    struct h2_stream *(*open)(void *loop_state);
    void (*header)(struct h2_stream *s, struct slice name, struct slice value);
    void (*request)(
        struct h2_stream *s); /* the head is complete; s->remote_closed: there is no body */
    void (*data)(struct h2_stream *s, struct slice piece);
    void (*half_closed)(
        struct h2_stream *s); /* after the last data; not for requests without a body */
    /* Write up to `room` body bytes; 0 with *last unset: none now (h2_resume when there are).
     * *last: these are the final ones, trailers have been submitted with h2_trailers. Negative: the
     * stream is reset. */
    int64_t (*pull)(struct h2_stream *s, uint8_t *dst, size_t room, bool *last);
    void (*closed)(struct h2_stream *s,
                   uint32_t error_code); /* 0: both sides ended properly; s->conn is NULL */
    /* The connection goes down once its streams have ended: end what would not by itself. */
    void (*draining)(struct h2_stream *s);
    /* End of turn, after sockets were written to; true: something may have been queued. */
    bool (*turn_end)(void *loop_state);
};

/* Response head; without `body` it ends the stream. */
void h2_respond(struct h2_stream *s, const nghttp2_nv *head, size_t n, bool body);
void h2_trailers(struct h2_stream *s, const nghttp2_nv *trailers, size_t n); /* only from pull */
void h2_resume(struct h2_stream *s);
/* Of the client's verified certificate; "" without one, and once the stream is closed. Borrowed until then. */
const char *h2_common_name(const struct h2_stream *s);
/* The client's "host:port"; "" when it is not known. */
void h2_remote(const struct h2_stream *s, char *out, size_t room);
bool h2_is_secure(const struct h2_stream *s); /* it came over TLS */
void h2_reset(struct h2_stream *s, uint32_t error_code);
/* Lower urgency is served later (0 first, 7 last; 3 is where streams begin); `shared`: takes turns
 * frame by frame. */
void h2_urgency(struct h2_stream *s, int urgency, bool shared);

/* Bytes that the owner now holds for this stream, of a request that is not complete and of an
 * answer that is not sent. false: the connection's would be over H2_PARTIAL_BYTES_MAX, nothing was
 * changed. */
bool h2_partial_set(struct h2_stream *s, size_t bytes);
void h2_queued_set(struct h2_stream *s, size_t bytes);

/* A field from two literals, neither copied. */
#define H2_NV(n, v)                                                                                \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1, sizeof(v) - 1,        \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE                           \
    }

#endif
