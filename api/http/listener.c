/* listener.c - sockets: binding, accepting, dealing connections out to loops, and the end of
 * serving.
 *
 * Listening sockets are polled by the first loop, which accepts with accept4 and posts each
 * descriptor to the next loop in turn. Every loop has a hub; hubs are made on their own loop's
 * thread and torn down by its stop hook.
 */
#include "api/http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "api/http/conn.h"
#include "api/http/sock.h"
#include "base/assert.h"
#include "base/mem.h"

struct listener {
    int fd;
    bool is_unix;
    char *path; /* owned; unlinked at the end */
    uint16_t port;
    struct tls *tls; /* borrowed; NULL: none is spoken */
    bool plain;      /* HTTP without TLS is spoken */
    bool polling;
    uv_poll_t poll;
    struct http_server *server;
};

/* A loop's share of the server. */
struct seat {
    struct hub hub;
    struct http_server *server;
    struct loop *loop;
    bool up;           /* the hub is initialised; its loop only */
    bool drained_told; /* its loop only */
    struct loop_item start;
    struct loop_item drain;
    struct loop_item cut;
};

struct http_server {
    struct http_config cfg;
    struct listener listeners[LISTENERS_MAX];
    unsigned n_listeners;
    struct tls *tls; /* of listeners that are bound from now on */
    bool plain;
    struct seat *seats; /* owned */
    unsigned n_seats;
    _Atomic unsigned n_conns; /* over all loops, with those on their way to one */
    _Atomic bool resting;     /* the listeners wait for a connection to go */
    /* First loop only. */
    struct loop *first;
    unsigned next_seat;
    struct loop_timer retry;
    struct loop_timer grace;
    struct loop_hook stop_hook;
    bool shutting_down;
    bool done_told;
    unsigned seats_left; /* with connections, during shutdown */
    void (*done)(void *arg);
    void *done_arg;
};

/* A descriptor on its way to its loop, or a word from a loop to the first. */
struct parcel {
    struct loop_item item;
    struct seat *seat;
    int fd;
    const struct listener *listener;
};

/* --- seats
 * ------------------------------------------------------------------------------------------ */

static void listeners_poll(struct http_server *s);

static void on_room(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct parcel *p = CONTAINER_OF(item, struct parcel, item);
    struct http_server *s = p->seat->server;
    free(p);
    listeners_poll(s);
}

static void on_seat_empty(struct loop *l, struct loop_item *item);

static void post_to_first(struct seat *seat, void (*run)(struct loop *l, struct loop_item *item))
{
    struct parcel *p = xcalloc(1, sizeof(*p));
    p->seat = seat;
    p->item.run = run;
    loop_post(seat->server->first, &p->item);
}

static void tell_when_drained(struct seat *seat)
{
    if (seat->hub.draining && seat->hub.n_conns == 0 && !seat->drained_told) {
        seat->drained_told = true;
        post_to_first(seat, on_seat_empty);
    }
}

static void release_place(struct http_server *s, struct seat *seat)
{
    (void)atomic_fetch_sub(&s->n_conns, 1);
    if (atomic_exchange(&s->resting, false)) {
        post_to_first(seat, on_room);
    }
}

static void on_conn_gone(struct hub *h)
{
    struct seat *seat = CONTAINER_OF(h, struct seat, hub);
    release_place(seat->server, seat);
    tell_when_drained(seat);
}

static void on_flush(struct loop *l, void *arg)
{
    (void)l;
    struct seat *seat = arg;
    if (seat->up) {
        hub_flush(&seat->hub);
    }
}

static void on_loop_stop(struct loop *l, void *arg)
{
    (void)l;
    struct seat *seat = arg;
    if (seat->up) {
        hub_deinit(&seat->hub);
        seat->up = false;
    }
}

static void seat_start(struct loop *l, struct loop_item *item)
{
    struct seat *seat = CONTAINER_OF(item, struct seat, start);
    hub_init(&seat->hub, l, &seat->server->cfg);
    size_t share = HELD_BYTES / seat->server->n_seats;
    seat->hub.held_max = share > HELD_BYTES_LEAST ? share : HELD_BYTES_LEAST;
    seat->hub.conn_gone = on_conn_gone;
    seat->hub.flush_hook = (struct loop_hook){.run = on_flush, .arg = seat};
    seat->hub.stop_hook = (struct loop_hook){.run = on_loop_stop, .arg = seat};
    seat->up = true;
    loop_hook_add_last(l, &seat->hub.flush_hook);
    loop_hook_add_stop(l, &seat->hub.stop_hook); /* runs here and now when the loop is over already */
}

static void seat_drain(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct seat *seat = CONTAINER_OF(item, struct seat, drain);
    if (seat->up) {
        hub_drain(&seat->hub);
        tell_when_drained(seat);
    }
}

static void seat_cut(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct seat *seat = CONTAINER_OF(item, struct seat, cut);
    if (seat->up) {
        hub_cut(&seat->hub);
    }
}

static void take_socket(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct parcel *p = CONTAINER_OF(item, struct parcel, item);
    struct seat *seat = p->seat;
    int fd = p->fd;
    const struct listener *li = p->listener;
    free(p);
    const struct sock_origin origin = {fd, li->is_unix, li->tls, li->plain};
    bool taken = seat->up && !seat->hub.draining && sock_open(&seat->hub, &origin);
    if (!taken) {
        (void)close(fd);
        release_place(seat->server, seat);
    }
}

/* --- accepting
 * -------------------------------------------------------------------------------------- */

static void listener_rest(struct listener *li)
{
    if (li->polling) {
        li->polling = false;
        (void)uv_poll_stop(&li->poll);
    }
}

static void deal(struct http_server *s, int fd, const struct listener *li)
{
    struct parcel *p = xcalloc(1, sizeof(*p));
    p->seat = &s->seats[s->next_seat];
    p->fd = fd;
    p->listener = li;
    p->item.run = take_socket;
    s->next_seat = (s->next_seat + 1) % s->n_seats;
    if (p->seat->loop == s->first) {
        take_socket(s->first, &p->item);
    } else {
        loop_post(p->seat->loop, &p->item);
    }
}

/* False at the bound: all listeners rest until release_place finds `resting` set. The flag is set
 * before the count is read again, so that a connection which goes in between is not missed. */
static bool place_is_free(struct http_server *s)
{
    unsigned max = s->cfg.connections_max;
    if (max == 0 || atomic_load(&s->n_conns) < max) {
        return true;
    }
    atomic_store(&s->resting, true);
    if (atomic_load(&s->n_conns) < max) {
        atomic_store(&s->resting, false);
        return true;
    }
    for (unsigned i = 0; i < s->n_listeners; i++) {
        listener_rest(&s->listeners[i]);
    }
    return false;
}

static void on_connections(uv_poll_t *h, int status, int events)
{
    (void)events;
    struct listener *li = h->data;
    struct http_server *s = li->server;
    if (status < 0) {
        return;
    }
    for (unsigned i = 0; i < ACCEPTS_PER_TURN && place_is_free(s); i++) {
        int fd = accept4(li->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            (void)atomic_fetch_add(&s->n_conns, 1);
            deal(s, fd, li);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The socket stays readable, so polling on would spin. */
            listener_rest(li);
            loop_timer_set(s->first, &s->retry, loop_now_ms(s->first) + ACCEPT_RETRY_MS);
        }
        if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

static void listeners_poll(struct http_server *s)
{
    if (s->shutting_down) {
        return;
    }
    for (unsigned i = 0; i < s->n_listeners; i++) {
        struct listener *li = &s->listeners[i];
        if (!li->polling) {
            li->polling = true;
            ASSERT(uv_poll_start(&li->poll, UV_READABLE, on_connections) == 0);
        }
    }
}

static void on_retry(struct loop *l, struct loop_timer *t)
{
    (void)l;
    listeners_poll(CONTAINER_OF(t, struct http_server, retry));
}

static void on_listener_closed(uv_handle_t *h)
{
    struct listener *li = h->data;
    (void)close(li->fd);
    li->fd = -1;
    if (li->path != NULL) {
        (void)unlink(li->path); /* it may have been replaced or removed already */
    }
}

static void stop_listening(struct http_server *s)
{
    if (s->shutting_down) {
        return;
    }
    s->shutting_down = true;
    loop_timer_clear(s->first, &s->retry);
    for (unsigned i = 0; i < s->n_listeners; i++) {
        listener_rest(&s->listeners[i]);
        uv_close((uv_handle_t *)&s->listeners[i].poll, on_listener_closed);
    }
}

static void on_first_stop(struct loop *l, void *arg)
{
    struct http_server *s = arg;
    stop_listening(s);
    loop_timer_clear(l, &s->grace);
}

void http_server_serve(struct http_server *s, struct loop *const *loops, unsigned n_loops)
{
    ASSERT(n_loops > 0 && n_loops <= LOOPS_MAX && s->seats == NULL);
    s->first = loops[0];
    s->retry.fire = on_retry;
    s->n_seats = n_loops;
    s->seats = xcalloc(n_loops, sizeof(*s->seats));
    for (unsigned i = 0; i < n_loops; i++) {
        struct seat *seat = &s->seats[i];
        seat->server = s;
        seat->loop = loops[i];
        seat->start.run = seat_start;
        seat->drain.run = seat_drain;
        seat->cut.run = seat_cut;
        if (i == 0) {
            seat_start(loops[0], &seat->start);
        } else {
            loop_post(loops[i], &seat->start);
        }
    }
    s->stop_hook = (struct loop_hook){.run = on_first_stop, .arg = s};
    loop_hook_add_stop(s->first, &s->stop_hook);
    for (unsigned i = 0; i < s->n_listeners; i++) {
        struct listener *li = &s->listeners[i];
        ASSERT(uv_poll_init(loop_uv(s->first), &li->poll, li->fd) == 0);
        li->poll.data = li;
    }
    listeners_poll(s);
}

/* --- shutdown
 * --------------------------------------------------------------------------------------- */

static void tell_done(struct http_server *s)
{
    if (s->done_told) {
        return;
    }
    s->done_told = true;
    loop_timer_clear(s->first, &s->grace);
    if (s->done != NULL) {
        s->done(s->done_arg);
    }
}

static void on_seat_empty(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct parcel *p = CONTAINER_OF(item, struct parcel, item);
    struct http_server *s = p->seat->server;
    free(p);
    s->seats_left--;
    if (s->seats_left == 0) {
        tell_done(s);
    }
}

static void on_grace_over(struct loop *l, struct loop_timer *t)
{
    (void)l;
    struct http_server *s = CONTAINER_OF(t, struct http_server, grace);
    for (unsigned i = 0; i < s->n_seats; i++) {
        loop_post(s->seats[i].loop, &s->seats[i].cut);
    }
}

void http_server_shutdown(struct http_server *s, uint64_t grace_ms, void (*done)(void *arg),
                          void *arg)
{
    ASSERT(s->seats != NULL && !s->shutting_down);
    stop_listening(s);
    s->done = done;
    s->done_arg = arg;
    s->seats_left = s->n_seats;
    for (unsigned i = 0; i < s->n_seats; i++) {
        loop_post(s->seats[i].loop, &s->seats[i].drain);
    }
    s->grace.fire = on_grace_over;
    loop_timer_set(s->first, &s->grace, loop_now_ms(s->first) + grace_ms);
}

/* --- binding
 * ---------------------------------------------------------------------------------------- */

struct http_server *http_server_create(const struct http_config *cfg)
{
    struct http_server *s = xcalloc(1, sizeof(*s));
    s->cfg = *cfg;
    s->plain = true;
    return s;
}

void http_server_secure(struct http_server *s, struct tls *tls, bool plain)
{
    ASSERT(tls != NULL || plain);
    s->tls = tls;
    s->plain = plain;
}

void http_server_destroy(struct http_server **sp)
{
    struct http_server *s = *sp;
    if (s == NULL) {
        return;
    }
    *sp = NULL;
    for (unsigned i = 0; i < s->n_listeners; i++) {
        struct listener *li = &s->listeners[i];
        if (li->fd >= 0) { /* never served */
            (void)close(li->fd);
            if (li->path != NULL) {
                (void)unlink(li->path);
            }
        }
        free(li->path);
    }
    free(s->seats);
    free(s);
}

static enum err bind_failed(struct err_ctx *ec, const char *network, const char *address,
                            const char *step)
{
    int code = errno;
    char text[128];
    const char *reason = strerror_r(code, text, sizeof(text));
    char lower[128];
    size_t n = strlen(reason);
    n = n < sizeof(lower) - 1 ? n : sizeof(lower) - 1;
    memcpy(lower, reason, n);
    lower[n] = '\0';
    if (lower[0] >= 'A' && lower[0] <= 'Z') {
        lower[0] = (char)(lower[0] + ('a' - 'A')); /* Go's texts begin small */
    }
    return err_set(ec, err_from_errno(code), "listen %s %s: %s: %s", network, address, step, lower);
}

static enum err add_listener(struct http_server *s, int fd, const char *path, uint16_t port,
                             struct err_ctx *ec)
{
    if (s->n_listeners == LISTENERS_MAX) {
        (void)close(fd);
        return err_set(ec, ERR_LIMIT, "more than %u listeners", LISTENERS_MAX);
    }
    struct listener *li = &s->listeners[s->n_listeners];
    *li = (struct listener){.fd = fd, .is_unix = path != NULL, .port = port, .server = s};
    li->tls = s->tls;
    li->plain = s->plain;
    li->path = path == NULL ? NULL : xstrdup(path);
    s->n_listeners++;
    return OK;
}

static void format_address(const struct sockaddr *a, char *out, size_t out_bytes)
{
    char ip[INET6_ADDRSTRLEN] = "";
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;
        (void)inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
        (void)snprintf(out, out_bytes, "%s:%u", ip, (unsigned)ntohs(in->sin_port));
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a;
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
        (void)snprintf(out, out_bytes, "[%s]:%u", ip, (unsigned)ntohs(in6->sin6_port));
    }
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0) {
        return 0;
    }
    if (a.ss_family == AF_INET) {
        return ntohs(((struct sockaddr_in *)(void *)&a)->sin_port);
    }
    return ntohs(((struct sockaddr_in6 *)(void *)&a)->sin6_port);
}

static enum err bind_address(struct http_server *s, const struct addrinfo *ai, bool any,
                             struct err_ctx *ec)
{
    char address[80];
    format_address(ai->ai_addr, address, sizeof(address));
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return bind_failed(ec, "tcp", address, "socket");
    }
    int on = 1;
    int v6only = any ? 0 : 1; /* an empty host listens for both families, as Go does */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (ai->ai_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    }
    const char *step = "bind";
    int rc = bind(fd, ai->ai_addr, ai->ai_addrlen);
    if (rc == 0) {
        step = "listen";
        rc = listen(fd, LISTEN_BACKLOG);
    }
    if (rc != 0) {
        enum err e = bind_failed(ec, "tcp", address, step);
        (void)close(fd);
        return e;
    }
    return add_listener(s, fd, NULL, bound_port(fd), ec);
}

enum err http_server_bind(struct http_server *s, const char *host, const char *port,
                          struct err_ctx *ec)
{
    bool any = host[0] == '\0';
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(any ? NULL : host, port, &hints, &list);
    if (rc != 0) {
        return err_set(ec, ERR_INVALID, "listen tcp: lookup %s: %s", host, gai_strerror(rc));
    }
    /* A name is bound at its first IPv4 address if it has one, and "" at the IPv6 wildcard if there
     * is IPv6: Go's choice. */
    int wanted = any ? AF_INET6 : AF_INET;
    const struct addrinfo *pick = list;
    for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
        if (ai->ai_family == wanted) {
            pick = ai;
            break;
        }
    }
    enum err e = bind_address(s, pick, any, ec);
    freeaddrinfo(list);
    return e;
}

enum err http_server_bind_unix(struct http_server *s, const char *path, struct err_ctx *ec)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(a.sun_path)) {
        return err_set(ec, ERR_INVALID, "listen unix %s: bind: invalid argument", path);
    }
    memcpy(a.sun_path, path, len + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return bind_failed(ec, "unix", path, "socket");
    }
    (void)unlink(path); /* left over from an earlier run, as etcd does it */
    if (bind(fd, (const struct sockaddr *)&a, sizeof(a)) != 0) {
        enum err e = bind_failed(ec, "unix", path, "bind");
        (void)close(fd);
        return e;
    }
    if (listen(fd, LISTEN_BACKLOG) != 0) {
        enum err e = bind_failed(ec, "unix", path, "listen");
        (void)close(fd);
        (void)unlink(path);
        return e;
    }
    return add_listener(s, fd, path, 0, ec);
}

uint16_t http_server_port(const struct http_server *s, unsigned i)
{
    ASSERT(i < s->n_listeners);
    return s->listeners[i].port;
}
