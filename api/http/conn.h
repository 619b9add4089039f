/* conn.h - one connection, between bytes and protocols. Internal to api/http and its tests.
 *
 * What        conn_input takes what was read; conn output is gathered once per turn by hub_flush
 * and goes out through a small table of functions, so that tests and fuzzers drive a connection
 * from memory. Callers     listener.c (sockets), h1.c, h2.c, tests. Thread      the connection's
 * loop. Invariants  A connection is torn down only from hub_flush or hub_deinit, never within
 * conn_input or an answer: who holds a stream or exchange inside a callback need not fear for it.
 *             While `writing`, nothing is gathered: a peer that does not read costs one
 * CONN_WRITE_BYTES buffer.
 */
#ifndef API_HTTP_CONN_H
#define API_HTTP_CONN_H

#include <limits.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "api/http/limits.h"
#include "api/http/server.h"
#include "api/http/slab.h"
#include "base/slice.h"

struct h1;
struct h2;
struct hub;

/*             SNIFF ──► H1 ──► LINGER ──► DEAD       (any ──► DEAD)
 *               └─────► H2 ──────┘                    */
enum conn_state { CONN_SNIFF, CONN_H1, CONN_H2, CONN_LINGER, CONN_DEAD };

#define CONN_HELD SSIZE_MAX /* of try_write: all are taken, and not all of them are on the wire */

struct conn_io {
    ssize_t (*try_write)(struct conn *c, const uint8_t *p,
                         size_t n);     /* bytes taken, or CONN_HELD; negative: broken */
    void (*write_rest)(struct conn *c); /* send c->rest and what is held, then conn_written */
    void (*read_on)(struct conn *c, bool on);
    void (*shut)(struct conn *c);  /* no more bytes from us */
    void (*close)(struct conn *c); /* the last call; frees the memory that conn is embedded in */
    void (*remote)(struct conn *c, char *out, size_t room); /* "host:port" as far as there is one; may be NULL */
};

struct conn {
    const struct conn_io *io;
    struct hub *hub;
    struct conn *next; /* all of the hub's */
    struct conn **prev;
    struct conn *next_dirty;
    enum conn_state state;
    bool dirty;
    bool writing;  /* `rest` is on its way */
    bool read_off; /* we stopped reading */
    bool finish;   /* linger once everything is written */
    bool secure;   /* over TLS */
    bool wary;     /* it asks and gives up, again and again: CONN_WARY_BYTES */
    const char *common_name; /* of the client's verified certificate; "" without one. The io's */
    uint8_t n_sniffed;
    uint8_t sniffed[24];
    struct bytes rest;       /* owned; what one write(2) did not take */
    uint64_t write_since_ms; /* since when `writing` */
    size_t write_held;       /* bytes that are `writing` */
    size_t held;             /* conn_hold */
    bool paused;             /* has had its share of this turn; reads again in the next */
    bool waits;              /* in the hub's line for a step of a handshake */
    bool called;             /* it was first in that line: its next step is free */
    struct conn *next_paused; /* or in the line */
    struct conn **prev_waiting;
    struct h1 *h1;           /* owned; H1 */
    struct h2 *h2;           /* owned; H2 */
    struct loop_timer timer; /* when it fires: on_timer decides by state */
    uint64_t due_ms;         /* conn_timer_at */
};

/* One loop's connections. */
struct hub {
    struct loop *loop;
    struct http_server *server; /* NULL in tests */
    const struct http_config *cfg;
    void *app; /* cfg->h2->attach */
    nghttp2_session_callbacks *h2_callbacks;
    nghttp2_option *h2_option;
    struct conn *conns;
    struct conn *dirty;
    struct conn **dirty_last;
    struct conn *paused;
    size_t n_conns;
    size_t held;     /* of all connections */
    size_t held_max; /* HELD_BYTES, this loop's share */
    uint32_t share;   /* bytes that a connection may bring in a turn; at most CONN_READ_BYTES */
    uint8_t *in;      /* CONN_READ_BYTES, shared: what is read is consumed at once */
    struct bytes out; /* scratch of one connection's flush */
    struct bytes sealed; /* TLS: scratch of what goes out for one connection */
    uint8_t *plain;      /* TLS_RECORD_BYTES, once there is TLS: scratch of what came in */
    unsigned n_shakes;   /* steps of TLS handshakes in this turn, or called for the next; SHAKES_PER_TURN */
    struct conn *waiting; /* the line of those that wait for such a step */
    struct conn **waiting_last;
    unsigned n_asks;     /* questions to name servers that are under way */
    struct slab slab; /* of the sessions */
    bool draining;    /* shutdown has begun */
    void (*conn_gone)(struct hub *h); /* may be NULL */
    struct loop_hook flush_hook;
    struct loop_hook stop_hook;
};

void hub_init(struct hub *h, struct loop *l, const struct http_config *cfg);
void hub_deinit(struct hub *h); /* tears everything down; io->close has been called for all */
void hub_flush(struct hub *h);
void hub_drain(struct hub *h); /* GOAWAY everywhere, close idle HTTP/1.1 */
void hub_cut(struct hub *h);   /* mark every connection dead */

void conn_init(struct conn *c, struct hub *h, const struct conn_io *io);
void conn_input(struct conn *c, struct slice in);
void conn_eof(struct conn *c);
void conn_written(struct conn *c, bool ok);

/* For h1.c and h2.c. */
void conn_mark_dirty(struct conn *c);
void conn_kill(struct conn *c);
void conn_finish(struct conn *c); /* write what is gathered, then linger and close */
void conn_reading(struct conn *c, bool on);
void conn_timer_at(struct conn *c, uint64_t ms); /* h1_timer or h2_timer then; UINT64_MAX: never */
void conn_timer_in(struct conn *c, uint64_t ms); /* from now; 0: never */
/* Bytes that it may bring in this turn. For the io. */
uint32_t conn_share(const struct conn *c);
/* No more input in this turn. For the io; read_on is called when the turn ends. */
void conn_pause(struct conn *c);
/* May it do a step of a handshake in this turn? false: it stands in line then, and read_on is called when it is its turn. */
bool conn_may_shake(struct conn *c);
/* What the connection makes the loop hold was `before` bytes in some place, and is `now`. */
void conn_hold(struct conn *c, size_t before, size_t now);

/* hub.share after a turn that took so long. */
uint32_t hub_next_share(uint32_t share, uint64_t took_ms);

/* h2.c */
void h2_options_create(struct hub *h);
void h2_options_destroy(struct hub *h);
bool h2_start(struct conn *c); /* false: no memory */
void h2_stop(struct conn *c);  /* ends all streams */
void h2_input(struct conn *c, struct slice in);
bool h2_gather(struct conn *c, struct bytes *out); /* true: more is waiting */
void h2_drain(struct conn *c);
void h2_timer(struct conn *c);

/* h1.c */
void h1_start(struct conn *c);
void h1_stop(struct conn *c);
void h1_input(struct conn *c, struct slice in);
bool h1_eof(struct conn *c); /* true: an answer is still on its way out */
bool h1_gather(struct conn *c, struct bytes *out);
void h1_drain(struct conn *c);
void h1_timer(struct conn *c);
void h1_written(struct conn *c); /* the kernel took bytes */

#endif
