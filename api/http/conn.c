/* conn.c - protocol sniffing, output once per turn, and the ends of connections. */
#include "api/http/conn.h"

#include <assert.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define FLUSH_ROUNDS_MAX                                                                           \
    4u /* per turn: what drain callbacks queue goes out in the same turn, within reason */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
static_assert(sizeof(preface) - 1 == 24, "fits conn.sniffed");

/* --- state
 * ------------------------------------------------------------------------------------------ */

void conn_mark_dirty(struct conn *c)
{
    if (c->dirty) {
        return;
    }
    c->dirty = true;
    c->next_dirty = NULL;
    *c->hub->dirty_last = c;
    c->hub->dirty_last = &c->next_dirty;
}

void conn_kill(struct conn *c)
{
    c->state = CONN_DEAD;
    conn_mark_dirty(c);
}

void conn_finish(struct conn *c)
{
    c->finish = true;
    conn_mark_dirty(c);
}

void conn_reading(struct conn *c, bool on)
{
    if (c->read_off == on) {
        c->read_off = !on;
        c->io->read_on(c, on);
    }
}

uint32_t conn_share(const struct conn *c)
{
    return c->wary ? CONN_WARY_BYTES : c->hub->share;
}

void conn_pause(struct conn *c)
{
    if (!c->paused) {
        c->paused = true;
        c->next_paused = c->hub->paused;
        c->hub->paused = c;
    }
}

static void leave_line(struct conn *c)
{
    struct hub *h = c->hub;
    c->waits = false;
    *c->prev_waiting = c->next_paused;
    if (c->next_paused != NULL) {
        c->next_paused->prev_waiting = c->prev_waiting;
    } else {
        h->waiting_last = c->prev_waiting;
    }
}

bool conn_may_shake(struct conn *c)
{
    struct hub *h = c->hub;
    if (c->called) {
        c->called = false; /* counted when it was called */
        return true;
    }
    if (h->n_shakes < SHAKES_PER_TURN && h->waiting == NULL) {
        h->n_shakes++;
        return true;
    }
    ASSERT(!c->waits && !c->paused);
    c->waits = true;
    c->next_paused = NULL;
    c->prev_waiting = h->waiting_last;
    *h->waiting_last = c;
    h->waiting_last = &c->next_paused;
    return false;
}

static void read_again(struct conn *c)
{
    if (!c->read_off && c->state != CONN_DEAD) {
        c->io->read_on(c, true);
    }
}

/* At the end of a turn: the next poll reads from them again, behind whoever else has sent. */
static void unpause(struct hub *h)
{
    while (h->paused != NULL) {
        struct conn *c = h->paused;
        h->paused = c->next_paused;
        c->paused = false;
        read_again(c);
    }
    for (h->n_shakes = 0; h->waiting != NULL && h->n_shakes < SHAKES_PER_TURN; h->n_shakes++) {
        struct conn *c = h->waiting;
        leave_line(c);
        c->called = true;
        read_again(c);
    }
    if (h->waiting != NULL) {
        loop_again(h->loop); /* those that were called may be gone */
    }
}

void conn_hold(struct conn *c, size_t before, size_t now)
{
    c->held += now - before;
    c->hub->held += now - before;
}

/* One timer for two times that do not touch each other: the protocol's, and that of the write. */
static void arm(struct conn *c)
{
    uint64_t stall_ms = c->writing ? c->write_since_ms + CONN_STALL_MS : UINT64_MAX;
    uint64_t at_ms = c->due_ms < stall_ms ? c->due_ms : stall_ms;
    if (at_ms == UINT64_MAX) {
        loop_timer_clear(c->hub->loop, &c->timer);
    } else {
        loop_timer_set(c->hub->loop, &c->timer, at_ms);
    }
}

void conn_timer_at(struct conn *c, uint64_t ms)
{
    c->due_ms = ms;
    arm(c);
}

void conn_timer_in(struct conn *c, uint64_t ms)
{
    conn_timer_at(c, ms == 0 ? UINT64_MAX : loop_now_ms(c->hub->loop) + ms);
}

static void on_timer(struct loop *l, struct loop_timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    uint64_t now = loop_now_ms(l);
    if (c->writing && now >= c->write_since_ms + CONN_STALL_MS) {
        conn_kill(c);
        return;
    }
    if (now < c->due_ms) {
        arm(c); /* it was set for a write that is over */
        return;
    }
    c->due_ms = UINT64_MAX;
    switch (c->state) {
    case CONN_H1:
        h1_timer(c);
        break;
    case CONN_H2:
        h2_timer(c);
        break;
    case CONN_SNIFF:
    case CONN_LINGER:
        conn_kill(c);
        break;
    case CONN_DEAD:
        break;
    }
    arm(c);
}

static void stop_protocol(struct conn *c)
{
    if (c->h2 != NULL) {
        h2_stop(c);
    }
    if (c->h1 != NULL) {
        h1_stop(c);
    }
}

static void tear_down(struct conn *c)
{
    struct hub *h = c->hub;
    ASSERT(!c->dirty && !c->paused);
    c->dirty = true; /* what the ends of its streams queue must not link it again */
    stop_protocol(c);
    if (c->waits) {
        leave_line(c);
    }
    conn_hold(c, c->write_held, 0);
    ASSERT(c->held == 0);
    loop_timer_clear(h->loop, &c->timer);
    *c->prev = c->next;
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    h->n_conns--;
    bytes_deinit(&c->rest);
    c->io->close(c);
    if (h->conn_gone != NULL) {
        h->conn_gone(h);
    }
}

void conn_init(struct conn *c, struct hub *h, const struct conn_io *io)
{
    *c = (struct conn){.io = io, .hub = h, .state = CONN_SNIFF, .timer.fire = on_timer, .common_name = ""};
    c->next = h->conns;
    c->prev = &h->conns;
    if (c->next != NULL) {
        c->next->prev = &c->next;
    }
    h->conns = c;
    h->n_conns++;
    conn_timer_in(c, CONN_SETUP_MS);
}

/* --- input
 * ------------------------------------------------------------------------------------------ */

static void to_protocol(struct conn *c, struct slice in)
{
    if (c->state == CONN_H1) {
        h1_input(c, in);
    } else if (c->state == CONN_H2) {
        h2_input(c, in);
    }
    /* LINGER and DEAD: what still comes is thrown away. */
}

static void sniff(struct conn *c, struct slice in)
{
    size_t have = c->n_sniffed;
    size_t room = sizeof(c->sniffed) - have;
    size_t n = in.len < room ? in.len : room;
    memcpy(c->sniffed + have, in.data, n);
    c->n_sniffed = (uint8_t)(have + n);
    if (c->hub->cfg->h2 != NULL && memcmp(c->sniffed, preface, c->n_sniffed) == 0) {
        if (c->n_sniffed < sizeof(c->sniffed)) {
            return;
        }
        c->state = CONN_H2;
        if (!h2_start(c)) {
            conn_kill(c);
            return;
        }
    } else if (c->hub->cfg->http.handle != NULL && c->sniffed[0] >= 'A' && c->sniffed[0] <= 'Z') {
        c->state = CONN_H1;
        h1_start(c);
    } else {
        /* Neither protocol that is spoken here begins like this. */
        conn_kill(c);
        return;
    }
    to_protocol(c, slice_of(c->sniffed, c->n_sniffed));
    if (n < in.len) {
        to_protocol(c, slice_of(in.data + n, in.len - n));
    }
}

void conn_input(struct conn *c, struct slice in)
{
    if (in.len == 0) {
        return;
    }
    if (c->state == CONN_SNIFF) {
        sniff(c, in);
    } else {
        to_protocol(c, in);
    }
}

/* A client that half-closes still gets an answer that exists; work that it waited for is given up,
 * as Go does. */
void conn_eof(struct conn *c)
{
    if (c->state == CONN_H1 && h1_eof(c)) {
        return;
    }
    conn_kill(c);
}

/* --- output
 * ----------------------------------------------------------------------------------------- */

void conn_written(struct conn *c, bool ok)
{
    c->writing = false;
    conn_hold(c, c->write_held, 0);
    c->write_held = 0;
    bytes_deinit(&c->rest);
    if (!ok) {
        conn_kill(c);
        return;
    }
    conn_mark_dirty(c);
    if (c->state == CONN_H1) {
        h1_written(c);
    }
}

static bool gather(struct conn *c, struct bytes *out)
{
    switch (c->state) {
    case CONN_H1:
        return h1_gather(c, out);
    case CONN_H2:
        return h2_gather(c, out);
    case CONN_SNIFF:
    case CONN_LINGER:
    case CONN_DEAD:
        return false;
    }
    UNREACHABLE();
}

static void linger(struct conn *c)
{
    stop_protocol(c);
    c->state = CONN_LINGER;
    c->io->shut(c);
    conn_reading(c, true);
    conn_timer_in(c, CONN_LINGER_MS);
}

/* Returns true when the connection has more to write in the next turn. */
static bool flush_conn(struct conn *c)
{
    struct bytes *out = &c->hub->out;
    if (c->state == CONN_DEAD) {
        tear_down(c);
        return false;
    }
    if (c->writing) {
        return false;
    }
    bytes_reset(out);
    bool more = gather(c, out);
    if (out->len > 0) {
        ssize_t n = c->io->try_write(c, out->data, out->len);
        if (n < 0) {
            conn_kill(c);
            return false;
        }
        if (n == CONN_HELD || (size_t)n < out->len) {
            size_t taken = n == CONN_HELD ? out->len : (size_t)n;
            bytes_add(&c->rest, out->data + taken, out->len - taken);
            c->writing = true;
            c->write_held = out->len;
            conn_hold(c, 0, c->write_held);
            c->write_since_ms = loop_now_ms(c->hub->loop);
            arm(c);
            c->io->write_rest(c);
            return false; /* conn_written marks it dirty */
        }
    }
    if (c->finish && !more && c->state != CONN_DEAD && c->state != CONN_LINGER) {
        linger(c);
    } else if (out->len > 0 && c->state == CONN_H1) {
        h1_written(c);
    }
    return more;
}

/* One pass over what is dirty now. Connections with more to write are collected for the next turn,
 * so that one busy connection cannot keep the loop from its sockets. */
static void flush_dirty(struct hub *h, struct conn **later)
{
    struct conn *c = h->dirty;
    h->dirty = NULL;
    h->dirty_last = &h->dirty;
    while (c != NULL) {
        struct conn *next = c->next_dirty;
        c->dirty = false;
        if (flush_conn(c) && !c->dirty) {
            c->dirty = true;
            c->next_dirty = *later;
            *later = c;
        }
        c = next;
    }
}

/* Over the bound whoever holds most goes, until what is left fits. */
static void shed(struct hub *h)
{
    if (h->held <= h->held_max) {
        return;
    }
    size_t left = 0;
    for (struct conn *c = h->conns; c != NULL; c = c->next) {
        left += c->state == CONN_DEAD ? 0 : c->held;
    }
    while (left > h->held_max) {
        struct conn *most = NULL;
        for (struct conn *c = h->conns; c != NULL; c = c->next) {
            if (c->state != CONN_DEAD && (most == NULL || c->held > most->held)) {
                most = c;
            }
        }
        ASSERT(most != NULL && most->held > 0);
        left -= most->held;
        conn_kill(most);
    }
}

uint32_t hub_next_share(uint32_t share, uint64_t took_ms)
{
    if (took_ms >= TURN_LONG_MS) {
        return share / 2 < CONN_READ_LEAST_BYTES ? CONN_READ_LEAST_BYTES : share / 2;
    }
    if (took_ms < TURN_LONG_MS / 2) {
        return share * 2 > CONN_READ_BYTES ? CONN_READ_BYTES : share * 2;
    }
    return share;
}

void hub_flush(struct hub *h)
{
    struct conn *later = NULL;
    unpause(h);
    for (unsigned round = 0; round < FLUSH_ROUNDS_MAX; round++) {
        flush_dirty(h, &later);
        bool queued = h->cfg->h2 != NULL && h->cfg->h2->turn_end(h->app);
        if (!queued && h->dirty == NULL) {
            break;
        }
    }
    while (later != NULL) {
        struct conn *c = later;
        later = c->next_dirty;
        c->dirty = false;
        conn_mark_dirty(c);
    }
    shed(h);
    h->share = hub_next_share(h->share, loop_turn_ms(h->loop));
    if (h->dirty != NULL) {
        loop_again(h->loop);
    }
}

/* --- hub
 * -------------------------------------------------------------------------------------------- */

void hub_init(struct hub *h, struct loop *l, const struct http_config *cfg)
{
    *h = (struct hub){.loop = l, .cfg = cfg, .held_max = HELD_BYTES, .share = CONN_READ_BYTES};
    h->dirty_last = &h->dirty;
    h->waiting_last = &h->waiting;
    h->in = xalloc(CONN_READ_BYTES);
    slab_init(&h->slab);
    h2_options_create(h);
    h->app = cfg->h2 == NULL ? NULL : cfg->h2->attach(cfg->h2_arg, l);
}

void hub_drain(struct hub *h)
{
    h->draining = true;
    for (struct conn *c = h->conns; c != NULL; c = c->next) {
        switch (c->state) {
        case CONN_H1:
            h1_drain(c);
            break;
        case CONN_H2:
            h2_drain(c);
            break;
        case CONN_SNIFF:
            conn_kill(c);
            break;
        case CONN_LINGER:
        case CONN_DEAD:
            break;
        }
    }
}

void hub_cut(struct hub *h)
{
    for (struct conn *c = h->conns; c != NULL; c = c->next) {
        conn_kill(c);
    }
}

void hub_deinit(struct hub *h)
{
    hub_cut(h);
    unpause(h);
    while (h->conns != NULL) {
        struct conn *later = NULL;
        flush_dirty(h, &later);
    }
    if (h->cfg->h2 != NULL) {
        h->cfg->h2->detach(h->app);
    }
    h2_options_destroy(h);
    slab_deinit(&h->slab);
    free(h->in);
    free(h->plain);
    bytes_deinit(&h->out);
    bytes_deinit(&h->sealed);
}
