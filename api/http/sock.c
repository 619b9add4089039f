/* sock.c - see sock.h.
 *
 *   listener ──► plain ──► protocols                 (no TLS, or a first letter where both are spoken)
 *          └───► shaking ──► up ──► protocols        (TLS)
 *                   │ └────► asking ──► up           (the certificate's names have to be looked up)
 *                   └──────► rejected, with one line in the log
 *
 * Sealed bytes are written at once; what the kernel does not take waits in `next` while `sending` is on its way, so that they stay in order.
 */
#include "api/http/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "api/http/tls_internal.h"
#include "api/http/tls_names.h"
#include "base/assert.h"
#include "base/mem.h"

/* The part of a connection that TLS needs. */
struct seal {
    struct tls_session *session; /* owned */
    struct bytes sending;        /* owned; libuv has it */
    struct bytes next;           /* owned; behind it */
    bool in_flight;
    bool shut_due; /* once all is on the wire */
    bool told;     /* why it was turned away, or nobody wants to know */
    struct tls_ask *ask; /* name servers are being asked; nothing is read meanwhile */
    struct bytes held;   /* owned; came before that */
};

struct sock {
    struct conn conn;
    uv_write_t write;
    bool closing;
    bool is_unix;
    bool plain_too;
    struct tls *tls;   /* borrowed; NULL: no TLS, or no longer to be decided */
    struct seal *seal; /* owned; NULL: plain */
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } u;
};

static struct sock *sock_of(struct conn *c)
{
    return CONTAINER_OF(c, struct sock, conn);
}

/* --- plain ---------------------------------------------------------------------------------------------------- */

static ssize_t sock_try_write(struct conn *c, const uint8_t *p, size_t n)
{
    uv_buf_t b = uv_buf_init((char *)(uintptr_t)p, (unsigned)n);
    int rc = uv_try_write(&sock_of(c)->u.stream, &b, 1);
    return rc == UV_EAGAIN ? 0 : rc;
}

static void on_written(uv_write_t *w, int status)
{
    struct sock *s = w->data;
    if (!s->closing) {
        conn_written(&s->conn, status == 0);
    }
}

static void sock_write_rest(struct conn *c)
{
    struct sock *s = sock_of(c);
    s->write.data = s;
    uv_buf_t b = uv_buf_init((char *)c->rest.data, (unsigned)c->rest.len);
    if (uv_write(&s->write, &s->u.stream, &b, 1, on_written) != 0) {
        conn_written(c, false);
    }
}

static bool is_shaking(const struct sock *s)
{
    return s->seal != NULL ? !tls_session_is_up(s->seal->session) : s->tls != NULL;
}

/* No room: not in this turn (see on_read). */
static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct sock *s = h->data;
    bool now = !is_shaking(s) || conn_may_shake(&s->conn);
    *out = uv_buf_init((char *)s->conn.hub->in, now ? conn_share(&s->conn) : 0);
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b);

static void sock_read_on(struct conn *c, bool on)
{
    struct sock *s = sock_of(c);
    if (on) {
        (void)uv_read_start(&s->u.stream, on_alloc, on_read);
    } else {
        (void)uv_read_stop(&s->u.stream);
    }
}

static void shut_now(struct sock *s)
{
    int fd;
    if (uv_fileno(&s->u.handle, &fd) == 0) {
        (void)shutdown(fd, SHUT_WR); /* fails when the peer is gone, which the read side tells */
    }
}

static void sock_shut(struct conn *c)
{
    shut_now(sock_of(c));
}

static void on_sock_closed(uv_handle_t *h)
{
    struct sock *s = h->data;
    bytes_deinit(&s->conn.rest);
    if (s->seal != NULL) {
        bytes_deinit(&s->seal->sending);
        bytes_deinit(&s->seal->next);
        bytes_deinit(&s->seal->held);
        free(s->seal);
    }
    free(s);
}

static void sock_close(struct conn *c)
{
    struct sock *s = sock_of(c);
    s->closing = true;
    uv_close(&s->u.handle, on_sock_closed);
}

static void remote_address(const struct sock *s, char out[TLS_ADDRESS_BYTES], unsigned *port)
{
    struct sockaddr_storage a;
    int len = (int)sizeof(a);
    out[0] = '\0';
    *port = 0;
    if (s->is_unix || uv_tcp_getpeername(&s->u.tcp, (struct sockaddr *)&a, &len) != 0) {
        return;
    }
    if (a.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&a;
        (void)inet_ntop(AF_INET, &in->sin_addr, out, TLS_ADDRESS_BYTES);
        *port = ntohs(in->sin_port);
        return;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&a;
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        (void)inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, out, TLS_ADDRESS_BYTES);
    } else {
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, out, TLS_ADDRESS_BYTES);
    }
    *port = ntohs(in6->sin6_port);
}

static void format_remote(const struct sock *s, char *out, size_t room)
{
    char address[TLS_ADDRESS_BYTES];
    unsigned port;
    remote_address(s, address, &port);
    bool six = strchr(address, ':') != NULL;
    (void)snprintf(out, room, address[0] == '\0' ? "%s%s%s" : "%s%s%s:%u", six ? "[" : "", address[0] == '\0' ? "@" : address, six ? "]" : "", port);
}

static void sock_remote(struct conn *c, char *out, size_t room)
{
    format_remote(sock_of(c), out, room);
}

static const struct conn_io plain_io = {
    .remote = sock_remote,
    .try_write = sock_try_write,
    .write_rest = sock_write_rest,
    .read_on = sock_read_on,
    .shut = sock_shut,
    .close = sock_close,
};

/* --- sealed bytes go out ---------------------------------------------------------------------------------------- */

static void on_sealed_written(uv_write_t *w, int status);

/* Hand `next` to libuv. */
static void push(struct sock *s)
{
    struct seal *t = s->seal;
    if (t->in_flight || t->next.len == 0) {
        return;
    }
    bytes_deinit(&t->sending);
    t->sending = t->next;
    t->next = (struct bytes){0};
    t->in_flight = true;
    s->write.data = s;
    uv_buf_t b = uv_buf_init((char *)t->sending.data, (unsigned)t->sending.len);
    if (uv_write(&s->write, &s->u.stream, &b, 1, on_sealed_written) != 0) {
        t->in_flight = false;
        conn_kill(&s->conn);
    }
}

static void on_sealed_written(uv_write_t *w, int status)
{
    struct sock *s = w->data;
    if (s->closing) {
        return;
    }
    struct seal *t = s->seal;
    t->in_flight = false;
    bytes_deinit(&t->sending);
    if (status != 0) {
        conn_kill(&s->conn);
        return;
    }
    push(s);
    if (!t->in_flight && t->shut_due) {
        shut_now(s);
    }
    if (!t->in_flight && s->conn.writing) {
        conn_written(&s->conn, true);
    }
}

/* What stands in the hub's scratch. */
static void send_sealed(struct sock *s)
{
    struct bytes *out = &s->conn.hub->sealed;
    struct seal *t = s->seal;
    size_t sent = 0;
    if (out->len == 0) {
        return;
    }
    if (!t->in_flight) {
        uv_buf_t b = uv_buf_init((char *)out->data, (unsigned)out->len);
        int rc = uv_try_write(&s->u.stream, &b, 1);
        if (rc < 0 && rc != UV_EAGAIN) {
            conn_kill(&s->conn);
            bytes_reset(out);
            return;
        }
        sent = rc > 0 ? (size_t)rc : 0;
    }
    if (sent < out->len) {
        bytes_add(&t->next, out->data + sent, out->len - sent);
        push(s);
    }
    if (t->next.len > TLS_UNSENT_BYTES_MAX) {
        conn_kill(&s->conn);
    }
    bytes_reset(out);
}

static ssize_t seal_try_write(struct conn *c, const uint8_t *p, size_t n)
{
    struct sock *s = sock_of(c);
    bytes_reset(&c->hub->sealed);
    if (!tls_session_write(s->seal->session, p, n, &c->hub->sealed)) {
        return -1;
    }
    send_sealed(s);
    return c->state == CONN_DEAD ? -1 : s->seal->in_flight ? CONN_HELD : (ssize_t)n;
}

/* Everything is held already; on_sealed_written tells when it has gone. */
static void seal_write_rest(struct conn *c)
{
    ASSERT(c->rest.len == 0);
}

static void seal_shut(struct conn *c)
{
    struct sock *s = sock_of(c);
    bytes_reset(&c->hub->sealed);
    tls_session_shut(s->seal->session, &c->hub->sealed);
    send_sealed(s);
    if (s->seal->in_flight) {
        s->seal->shut_due = true;
    } else {
        shut_now(s);
    }
}

/* --- who is there, and why not ------------------------------------------------------------------------------------- */

static void tell_rejected(struct sock *s, const char *reason)
{
    struct seal *t = s->seal;
    const struct tls_config *cfg = tls_session_config(t->session);
    char address[TLS_ADDRESS_BYTES];
    char remote[TLS_ADDRESS_BYTES + 16];
    unsigned port;
    if (t->told) {
        return;
    }
    t->told = true;
    remote_address(s, address, &port);
    bool v6 = strchr(address, ':') != NULL;
    (void)snprintf(remote, sizeof(remote), v6 ? "[%s]:%u" : "%s:%u", s->is_unix ? "@" : address, port);
    struct tls_sans sans = {.addresses = {NULL}};
    if (tls_session_peer(t->session) != NULL) {
        tls_sans_read(tls_session_peer(t->session), &sans);
    }
    log_warn(cfg->log, cfg->rejected, F_STR("remote-addr", remote), F_STR("server-name", tls_session_server_name(t->session)),
             F_STRS("ip-addresses", (const char *const *)sans.addresses), F_STRS("dns-names", (const char *const *)sans.names),
             F_STR("error", reason));
    tls_sans_deinit(&sans);
}

static void reject(struct sock *s, const char *reason)
{
    tell_rejected(s, reason);
    conn_kill(&s->conn);
}

static void unseal(struct sock *s, struct slice in);

static void on_answered(void *owner, bool right, const char *reason)
{
    struct sock *s = owner;
    s->seal->ask = NULL;
    if (!right) {
        reject(s, reason);
        return;
    }
    struct bytes held = s->seal->held;
    s->seal->held = (struct bytes){0};
    unseal(s, bytes_slice(&held));
    bytes_deinit(&held);
    if (s->conn.state != CONN_DEAD && !s->conn.read_off) {
        sock_read_on(&s->conn, true);
    }
}

/* false: it is not decided yet, or decided against; `left` came behind the handshake. */
static bool check_place(struct sock *s, struct slice left)
{
    struct seal *t = s->seal;
    char address[TLS_ADDRESS_BYTES];
    char reason[TLS_REASON_BYTES];
    unsigned port;
    X509 *peer = tls_session_peer(t->session);
    remote_address(s, address, &port);
    if (!tls_session_config(t->session)->check_address || s->is_unix || peer == NULL) {
        return true;
    }
    struct tls_sans sans;
    tls_sans_read(peer, &sans);
    enum tls_place place = tls_place_of(&sans, address, reason);
    if (place == TLS_PLACE_ASK && s->conn.hub->n_asks < TLS_ASKS_MAX) {
        bytes_add(&t->held, left.data, left.len);
        sock_read_on(&s->conn, false);
        t->ask = tls_ask_start(s->conn.hub->loop, &s->conn.hub->n_asks, address, &sans, on_answered, s);
        return false;
    }
    if (place == TLS_PLACE_ASK) {
        tls_place_reason(&sans, address, "too many certificates are being looked up", reason);
        place = TLS_PLACE_WRONG;
    }
    tls_sans_deinit(&sans);
    if (place == TLS_PLACE_WRONG) {
        reject(s, reason);
    }
    return place == TLS_PLACE_RIGHT;
}

/* --- sealed bytes come in ---------------------------------------------------------------------------------------------- */

/* false: nothing more is read now. */
static bool unseal_step(struct sock *s, struct slice *in)
{
    struct hub *h = s->conn.hub;
    size_t n;
    switch (tls_session_read(s->seal->session, in, h->plain, TLS_RECORD_BYTES, &n, &h->sealed)) {
    case TLS_HUNGRY:
        return false;
    case TLS_UP:
        s->conn.common_name = tls_session_common_name(s->seal->session);
        return check_place(s, *in);
    case TLS_DATA:
        conn_input(&s->conn, slice_of(h->plain, n));
        return true;
    case TLS_END:
        (void)uv_read_stop(&s->u.stream);
        conn_eof(&s->conn);
        return false;
    case TLS_BROKEN:
        if (!tls_session_is_up(s->seal->session)) {
            tell_rejected(s, tls_session_reason(s->seal->session));
        }
        conn_kill(&s->conn);
        return false;
    }
    UNREACHABLE();
}

static void unseal(struct sock *s, struct slice in)
{
    struct hub *h = s->conn.hub;
    bytes_reset(&h->sealed);
    while (s->conn.state != CONN_DEAD && unseal_step(s, &in)) {
    }
    send_sealed(s);
}

static void seal_close(struct conn *c)
{
    struct sock *s = sock_of(c);
    struct seal *t = s->seal;
    if (!tls_session_is_up(t->session) && !c->hub->draining) {
        tell_rejected(s, "tls: handshake not completed in time");
    }
    if (t->ask != NULL) {
        tls_ask_forget(t->ask);
        t->ask = NULL;
    }
    c->common_name = "";
    tls_session_close(&t->session);
    sock_close(c);
}

static const struct conn_io seal_io = {
    .remote = sock_remote,
    .try_write = seal_try_write,
    .write_rest = seal_write_rest,
    .read_on = sock_read_on,
    .shut = seal_shut,
    .close = seal_close,
};

static void start_tls(struct sock *s)
{
    struct hub *h = s->conn.hub;
    if (h->plain == NULL) {
        h->plain = xalloc(TLS_RECORD_BYTES);
    }
    s->seal = xcalloc(1, sizeof(*s->seal));
    s->seal->session = tls_session_open(s->tls, h->cfg->http.handle != NULL, h->cfg->h2 != NULL);
    s->tls = NULL;
    s->conn.io = &seal_io;
    s->conn.secure = true;
}

static void pause_reading(struct sock *s)
{
    (void)uv_read_stop(&s->u.stream);
    bool asking = s->seal != NULL && s->seal->ask != NULL; /* its answer reads on */
    if (!asking) {
        conn_pause(&s->conn);
    }
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
    struct sock *s = h->data;
    if (n == UV_ENOBUFS) {
        (void)uv_read_stop(h); /* it stands in line */
        return;
    }
    if (n < 0) {
        (void)uv_read_stop(h);
        if (s->seal != NULL && !tls_session_is_up(s->seal->session)) {
            s->seal->told = true; /* who leaves is not turned away */
        }
        conn_eof(&s->conn);
        return;
    }
    if (n == 0) {
        return;
    }
    struct slice in = slice_of(b->base, (size_t)n);
    if (s->tls != NULL) {
        if (s->plain_too && in.data[0] >= 'A' && in.data[0] <= 'Z') {
            s->tls = NULL; /* both plain protocols begin with a letter, and no TLS does */
        } else {
            start_tls(s);
        }
    }
    if (s->seal != NULL) {
        unseal(s, in);
    } else {
        conn_input(&s->conn, in);
    }
    if ((size_t)n == b->len) {
        pause_reading(s); /* libuv would read on up to 32 times */
    }
}

/* --- open ------------------------------------------------------------------------------------------------------------------- */

static void tune_tcp(int fd)
{
    /* Best effort: a connection without these still works. */
    int on = 1;
    int seconds = (int)TCP_KEEPALIVE_S;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
}

static int open_handle(struct sock *s, struct loop *l, int fd, bool is_unix)
{
    if (is_unix) {
        ASSERT(uv_pipe_init(loop_uv(l), &s->u.pipe, 0) == 0);
        return uv_pipe_open(&s->u.pipe, fd);
    }
    ASSERT(uv_tcp_init(loop_uv(l), &s->u.tcp) == 0);
    return uv_tcp_open(&s->u.tcp, fd);
}

static void free_unopened(uv_handle_t *h)
{
    free(h->data);
}

bool sock_open(struct hub *h, const struct sock_origin *o)
{
    if (!o->is_unix) {
        tune_tcp(o->fd);
    }
    struct sock *s = xcalloc(1, sizeof(*s));
    int rc = open_handle(s, h->loop, o->fd, o->is_unix);
    s->u.handle.data = s;
    if (rc != 0) {
        uv_close(&s->u.handle, free_unopened);
        return false;
    }
    conn_init(&s->conn, h, &plain_io);
    s->is_unix = o->is_unix;
    s->tls = o->tls;
    s->plain_too = o->plain;
    sock_read_on(&s->conn, true);
    return true;
}
