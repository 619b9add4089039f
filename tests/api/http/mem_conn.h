/* mem_conn.h - a connection without a socket: bytes in by conn_input, bytes out into `out`.
 *
 * Callers     tests and fuzzers of api/http and api/grpc.
 * Thread      the test's.
 */
#ifndef TESTS_MEM_CONN_H
#define TESTS_MEM_CONN_H

#include "api/http/conn.h"
#include "base/assert.h"

struct mem_conn {
    struct conn conn;
    struct bytes out; /* everything written so far */
    size_t room;      /* what the next try_write takes; SIZE_MAX at first */
    bool blocked;     /* write_rest waits for mem_unblock */
    bool reading;
    bool shut;
    bool closed;
};

static inline struct mem_conn *mem_of(struct conn *c)
{
    return CONTAINER_OF(c, struct mem_conn, conn);
}

static inline ssize_t mem_try_write(struct conn *c, const uint8_t *p, size_t n)
{
    struct mem_conn *m = mem_of(c);
    size_t take = n < m->room ? n : m->room;
    bytes_add(&m->out, p, take);
    return (ssize_t)take;
}

static inline void mem_write_rest(struct conn *c)
{
    mem_of(c)->blocked = true;
}

static inline void mem_read_on(struct conn *c, bool on)
{
    mem_of(c)->reading = on;
}

static inline void mem_shut(struct conn *c)
{
    mem_of(c)->shut = true;
}

static inline void mem_close(struct conn *c)
{
    mem_of(c)->closed = true;
}

static const struct conn_io mem_io = {
    .try_write = mem_try_write,
    .write_rest = mem_write_rest,
    .read_on = mem_read_on,
    .shut = mem_shut,
    .close = mem_close,
};

/* `m` must outlive the hub. */
static inline void mem_open(struct mem_conn *m, struct hub *h)
{
    *m = (struct mem_conn){.room = SIZE_MAX, .reading = true};
    conn_init(&m->conn, h, &mem_io);
}

/* The peer has read everything. */
static inline void mem_unblock(struct mem_conn *m)
{
    if (m->blocked && !m->closed) {
        m->blocked = false;
        bytes_add(&m->out, m->conn.rest.data, m->conn.rest.len);
        conn_written(&m->conn, true);
    }
}

/* A loop with one such connection. */
struct mem_site {
    struct loop *loop;
    struct http_config cfg; /* filled in before the site is opened */
    struct hub hub;
    struct mem_conn mc;
};

static inline void mem_site_open(struct mem_site *s)
{
    s->loop = loop_create(0);
    hub_init(&s->hub, s->loop, &s->cfg);
    mem_open(&s->mc, &s->hub);
}

static inline void mem_site_close(struct mem_site *s)
{
    hub_deinit(&s->hub);
    loop_destroy(&s->loop);
    bytes_deinit(&s->mc.out);
}

static inline void mem_site_flush(struct mem_site *s)
{
    for (unsigned i = 0; i < 8; i++) { /* answers may lead to more */
        hub_flush(&s->hub);
    }
}

static inline void mem_site_feed(struct mem_site *s, const char *text)
{
    conn_input(&s->mc.conn, slice_str(text));
    mem_site_flush(s);
}

/* What was written since the last look, as a string: as much as there is room for. */
static inline void mem_site_take(struct mem_site *s, char *text, size_t room)
{
    size_t n = s->mc.out.len < room - 1 ? s->mc.out.len : room - 1;
    if (n > 0) {
        memcpy(text, s->mc.out.data, n);
    }
    text[n] = '\0';
    bytes_reset(&s->mc.out);
}

#endif
