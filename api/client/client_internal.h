/* client_internal.h - what connect.c, wire.c, session.c and call.c share.
 *
 * What        The connection and its exchanges. An exchange is one HTTP/2 stream, unary or not:
 *             bytes to send on one side, received bytes on the other, a status at the end.
 * Callers     the files of this folder.   Thread  the client's owner.
 */
#ifndef API_CLIENT_CLIENT_INTERNAL_H
#define API_CLIENT_CLIENT_INTERNAL_H

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

#include "api/client/client.h"

#define FRAME_HEAD 5u            /* bytes: compressed flag and big-endian length */
#define READ_MAX (256u * 1024u)  /* bytes taken from the socket at once */
#define WRITE_MAX (256u * 1024u) /* bytes gathered before one send */
#define STREAM_WINDOW (4 * 1024 * 1024)
#define SESSION_WINDOW (64 * 1024 * 1024)
#define STREAM_KEEP_BYTES (64u * 1024u) /* a larger buffer is not kept for the next message */
#define NAME_MAX_BYTES 128u /* of an authority or a metadata name */

struct exchange {
    struct exchange *next, *prev; /* in the client's list of live or of ended exchanges */
    struct client *client;
    int32_t id; /* HTTP/2 stream */
    bool is_stream;
    bool half_closed; /* nothing follows what is in `out` */
    bool deferred;    /* nghttp2 waits for resume_data */
    bool ended;       /* status is final */
    bool has_status;  /* grpc-status was seen */
    int http_status;
    uint64_t deadline_ms; /* unary only */
    client_done_fn done;  /* unary only */
    void *arg;
    struct bytes out; /* framed messages; [0, out_at) are sent */
    size_t out_at;
    struct bytes in; /* framed messages; [0, in_at) are taken */
    size_t in_at;
    size_t held; /* received bytes whose window was not given back */
    bool untouched; /* the server says that it did nothing */
    client_news_fn news; /* streams only; may be NULL */
    void *news_arg;
    struct exchange *news_next, **news_prev; /* news_prev NULL: nothing to tell */
    struct client_status status;
};

struct client_stream {
    struct exchange x;
};

struct metadata_pair {
    char *name;
    char *value;
};

struct client {
    int fd;
    bool dead; /* the connection failed; nothing moves any more */
    SSL *ssl;  /* NULL: plain */
    BIO_METHOD *bio_method;
    bool more;             /* bytes may be waiting that poll does not know of */
    bool send_wants_input; /* TLS can send no more before it has read something */
    uint64_t keepalive_ms, keepalive_timeout_ms;
    uint64_t heard_ms;     /* when bytes last came */
    uint64_t ping_ms;      /* when a ping was sent that no byte has followed; 0: none */
    nghttp2_session *session;
    char authority[NAME_MAX_BYTES];
    struct metadata_pair metadata[CLIENT_METADATA_MAX];
    size_t n_metadata;
    struct exchange live;      /* list head: unary calls not over */
    struct exchange streams;   /* list head: streams, whatever their state */
    struct exchange over;      /* list head: unary calls whose callback is due */
    size_t n_live;             /* in `live` and `over` */
    struct exchange *news;     /* streams whose callback is due */
    size_t in_bytes;           /* received and held by all exchanges */
    size_t in_bytes_max;       /* 0: no bound */
    bool corked;
    uint64_t next_deadline_ms; /* no live call ends earlier */
    struct bytes out;          /* [0, out_at) are in the socket */
    size_t out_at;
    uint8_t *read_buffer; /* READ_MAX bytes, owned */
};

/* connect.c: a connected, non-blocking socket in c->fd, with TLS in c->ssl when the target or
 * `o` asks for it; `authority` gets what ":authority" shall say. */
MUST_CHECK enum err client_dial(struct client *c, const char *target,
                                const struct client_options *o, uint32_t timeout_ms,
                                struct err_ctx *ec);

/* wire.c */
/* Shake hands for TLS over c->fd, the server being `host`. */
MUST_CHECK enum err client_wire_secure(struct client *c, const struct client_tls *t,
                                       const char *host, uint64_t deadline_ms, struct err_ctx *ec);
/* Send what can be sent now. OK: *n bytes, at least one; ERR_BUSY: none at present; ERR_CLOSED. */
MUST_CHECK enum err client_wire_send(struct client *c, const uint8_t *data, size_t len, size_t *n,
                                     char why[CLIENT_STATUS_TEXT_MAX]);
/* Take what has come, at most READ_MAX bytes, into the read buffer; the same errors. */
MUST_CHECK enum err client_wire_receive(struct client *c, size_t *n,
                                        char why[CLIENT_STATUS_TEXT_MAX]);
void client_wire_close(struct client *c);

/* session.c */
MUST_CHECK enum err client_session_create(struct client *c);
/* Hand the exchange to nghttp2, which will ask for its bytes. */
MUST_CHECK enum err client_begin(struct exchange *x, const char *path,
                                 const struct client_pair *pairs, size_t n_pairs);
/* There is something to tell about a stream; it is told by client_run_news. */
void client_news(struct exchange *x);
void client_no_news(struct exchange *x);
/* Received bytes are not held any more. */
void client_forget(struct exchange *x, size_t n);
/* The connection is of no use: end everything with Unavailable. */
void client_fail(struct client *c, const char *why);
/* Set the status once and, for a unary call, queue its callback. */
void client_end(struct exchange *x, uint32_t code, bool local, const char *text);
/* Tell the server that nobody waits any more. */
void client_reset(struct exchange *x);
/* Give back window for what was held, unless too much lies unread. */
void client_give_window(struct exchange *x, bool anyway);
/* Size of the message at the front of `in`, or false while it is not whole. */
bool client_front(const struct exchange *x, size_t *n_message);
/* Run callbacks of ended calls and of streams with news. */
bool client_run_done(struct client *c);

static inline void list_init(struct exchange *head)
{
    head->next = head->prev = head;
}

static inline void list_add(struct exchange *head, struct exchange *x)
{
    x->prev = head->prev;
    x->next = head;
    head->prev->next = x;
    head->prev = x;
}

static inline void list_remove(struct exchange *x)
{
    x->prev->next = x->next;
    x->next->prev = x->prev;
    x->next = x->prev = x;
}

#endif
