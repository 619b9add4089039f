/* crowd.c - opens the connections of a scene and keeps them going until standard input ends.
 *
 * One thread and one epoll. Prints "ready" once everybody is served as far as the scene goes, and a line of totals at the end. A connection that the
 * server closes is opened again. Nothing here takes care to be fast for its own sake: what counts is what the server's other clients see meanwhile.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "bench/crowd.h"

#define EVENTS 512
#define NS_PER_S 1000000000u
#define TICK_MS 20
#define OPENING_MAX 256u /* connections on their way at a time: as many as a listener's backlog takes */

struct crowd {
    const struct scene *scene;
    struct sockaddr_in to;
    SSL_CTX *tls; /* owned; NULL: plain */
    int epoll;
    struct guest *guests; /* owned */
    uint32_t n_guests;
    uint32_t n_first;   /* were opened once */
    uint32_t n_opening; /* of those, not served yet */
    uint32_t n_served;  /* once */
    uint64_t n_opened, n_closed, n_answered, sent, received;
    uint8_t *in; /* owned; scratch */
};

/* --- connections -------------------------------------------------------------------------------------------------- */

static void guest_close(struct crowd *c, struct guest *g)
{
    const struct linger at_once = {.l_onoff = 1}; /* no port is left waiting */
    if (g->fd < 0) {
        return;
    }
    SSL_free(g->ssl);
    g->ssl = NULL;
    (void)setsockopt(g->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    (void)close(g->fd);
    g->fd = -1;
    bytes_deinit(&g->out);
    c->n_closed++;
}

static bool guest_open(struct crowd *c, struct guest *g)
{
    uint32_t number = (uint32_t)(g - c->guests);
    bool served = g->served;
    *g = (struct guest){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .number = number, .served = served};
    if (g->fd < 0) {
        return false;
    }
    int on = 1;
    int small = 4096;
    (void)setsockopt(g->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (c->scene->deaf) {
        (void)setsockopt(g->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    }
    if ((ntohl(c->to.sin_addr.s_addr) >> 24) == 127) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / CROWD_SOURCE_CONNECTIONS)};
        (void)setsockopt(g->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
        (void)bind(g->fd, (const struct sockaddr *)&from, sizeof(from));
    }
    struct epoll_event ev = {.events = EPOLLOUT | (c->scene->deaf ? 0u : EPOLLIN), .data.u32 = number};
    if ((connect(g->fd, (const struct sockaddr *)&c->to, sizeof(c->to)) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(c->epoll, EPOLL_CTL_ADD, g->fd, &ev) != 0) {
        (void)close(g->fd);
        g->fd = -1;
        return false;
    }
    if (c->tls != NULL) {
        g->ssl = SSL_new(c->tls);
        ASSERT(g->ssl != NULL && SSL_set_fd(g->ssl, g->fd) == 1);
        SSL_set_connect_state(g->ssl);
    }
    c->scene->first(g);
    c->n_opened++;
    return true;
}

static void want_write(struct crowd *c, struct guest *g, bool write)
{
    struct epoll_event ev = {.events = (write ? EPOLLOUT : 0u) | (c->scene->deaf ? 0u : EPOLLIN), .data.u32 = g->number};
    (void)epoll_ctl(c->epoll, EPOLL_CTL_MOD, g->fd, &ev);
}

static void served(struct crowd *c, struct guest *g)
{
    if (!g->served) {
        g->served = true;
        c->n_served++;
        c->n_opening--;
    }
}

/* Bytes, 0 when it would wait, -1 at the end. */
static ssize_t result(const struct guest *g, ssize_t n)
{
    if (n > 0) {
        return n;
    }
    if (g->ssl != NULL) {
        int e = SSL_get_error(g->ssl, (int)n);
        return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN) ? 0 : -1;
}

static ssize_t guest_write(struct guest *g, size_t n)
{
    const uint8_t *p = g->out.data + g->out_at;
    return result(g, g->ssl != NULL ? SSL_write(g->ssl, p, (int)n) : send(g->fd, p, n, MSG_NOSIGNAL));
}

/* --- what comes and goes -------------------------------------------------------------------------------------------- */

/* Frame heads alone. True when a stream has been answered. */
static bool look(struct crowd *c, struct guest *g, struct slice in)
{
    bool answered = false;
    while (in.len > 0) {
        size_t skip = g->left < in.len ? g->left : in.len;
        g->left -= (uint32_t)skip;
        in = slice_of(in.data + skip, in.len - skip);
        while (in.len > 0 && g->n_head < sizeof(g->head)) {
            g->head[g->n_head++] = in.data[0];
            in = slice_of(in.data + 1, in.len - 1);
        }
        if (g->n_head == sizeof(g->head)) {
            g->n_head = 0;
            g->left = (uint32_t)g->head[0] << 16 | (uint32_t)g->head[1] << 8 | g->head[2];
            answered |= g->head[3] == 1 && (g->head[4] & 1) != 0;
            if (g->head[3] == 4 && c->scene->settings) {
                served(c, g);
            }
        }
    }
    return answered;
}

/* False: it is over. */
static bool take_in(struct crowd *c, struct guest *g)
{
    ssize_t n = g->ssl != NULL ? SSL_read(g->ssl, c->in, (int)CROWD_CHUNK_BYTES) : recv(g->fd, c->in, CROWD_CHUNK_BYTES, 0);
    n = result(g, n);
    if (n < 0) {
        return false;
    }
    c->received += (uint64_t)n;
    if (look(c, g, slice_of(c->in, (size_t)n))) {
        c->n_answered++;
        if (c->scene->once) {
            served(c, g);
            return false;
        }
    }
    return true;
}

static bool give_out(struct crowd *c, struct guest *g)
{
    size_t room = c->scene->trickle ? g->due_ns == 0 ? g->out_at : 0 : SIZE_MAX;
    if (c->scene->trickle && g->due_ns == 0) {
        g->out_at = 0; /* what goes at once */
    }
    size_t left = g->out.len - g->out_at;
    ssize_t n = guest_write(g, left < room ? left : room);
    if (n < 0) {
        return false;
    }
    g->out_at += (size_t)n;
    c->sent += (uint64_t)n;
    if (c->scene->trickle) {
        g->due_ns = bench_now_ns() + NS_PER_S;
        want_write(c, g, false);
        served(c, g);
        return true;
    }
    if (g->out_at < g->out.len) {
        return true;
    }
    bytes_reset(&g->out);
    g->out_at = 0;
    if (!c->scene->settings && !c->scene->once) {
        served(c, g);
    }
    if (c->scene->more != NULL) {
        c->scene->more(g);
    } else {
        want_write(c, g, false);
    }
    return true;
}

static bool step(struct crowd *c, struct guest *g, uint32_t events)
{
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        return false;
    }
    if (g->ssl != NULL && !g->up) {
        ssize_t rc = result(g, SSL_do_handshake(g->ssl));
        if (rc <= 0) {
            want_write(c, g, SSL_want_write(g->ssl) != 0);
            return rc == 0;
        }
        want_write(c, g, true);
    }
    g->up = true;
    if ((events & EPOLLIN) != 0 && !take_in(c, g)) {
        return false;
    }
    return (events & EPOLLOUT) == 0 || g->out_at == g->out.len || give_out(c, g);
}

static void tick(struct crowd *c, uint64_t now)
{
    for (uint32_t i = 0; i < c->n_first; i++) {
        struct guest *g = &c->guests[i];
        if (g->fd < 0) {
            (void)guest_open(c, g);
        } else if (c->scene->trickle && g->due_ns != 0 && now >= g->due_ns && g->out_at < g->out.len) {
            g->due_ns += NS_PER_S;
            ssize_t n = guest_write(g, 1);
            g->out_at += n > 0 ? 1 : 0;
            if (n < 0) {
                guest_close(c, g);
            }
        }
    }
}

/* --- the whole ------------------------------------------------------------------------------------------------------ */

static bool input_ended(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;
    return poll(&p, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

static void turn(struct crowd *c)
{
    struct epoll_event events[EVENTS];
    while (c->n_first < c->n_guests && c->n_opening < OPENING_MAX) {
        c->n_opening++;
        (void)guest_open(c, &c->guests[c->n_first++]);
    }
    int n = epoll_wait(c->epoll, events, EVENTS, TICK_MS);
    for (int i = 0; i < n; i++) {
        struct guest *g = &c->guests[events[i].data.u32];
        if (!step(c, g, events[i].events)) {
            guest_close(c, g);
            (void)guest_open(c, g);
        }
    }
}

static bool crowd_init(struct crowd *c, const struct options *o)
{
    char host[64];
    const char *colon = strrchr(o->endpoint, ':');
    size_t n = colon == NULL ? 0 : (size_t)(colon - o->endpoint);
    c->scene = scene_find(o->path);
    if (c->scene == NULL || n == 0 || n >= sizeof(host)) {
        (void)fputs("pintle-bench: --endpoint ADDRESS:PORT, and --path of", stderr);
        scene_list(stderr);
        return false;
    }
    memcpy(host, o->endpoint, n);
    host[n] = '\0';
    c->to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &c->to.sin_addr) != 1) {
        (void)fprintf(stderr, "pintle-bench: \"%s\" is no IPv4 address\n", host);
        return false;
    }
    if (c->scene->secure) {
        c->tls = SSL_CTX_new(TLS_client_method());
        ASSERT(c->tls != NULL && SSL_CTX_set_alpn_protos(c->tls, (const unsigned char *)"\2h2", 3) == 0);
        (void)SSL_CTX_set_mode(c->tls, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        (void)SSL_CTX_set_session_cache_mode(c->tls, SSL_SESS_CACHE_OFF);
    }
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    ASSERT(c->epoll >= 0);
    c->n_guests = o->connections;
    c->guests = xcalloc(c->n_guests, sizeof(*c->guests));
    for (uint32_t i = 0; i < c->n_guests; i++) {
        c->guests[i].fd = -1;
    }
    c->in = xalloc(CROWD_CHUNK_BYTES);
    return true;
}

static void crowd_deinit(struct crowd *c)
{
    for (uint32_t i = 0; i < c->n_guests; i++) {
        guest_close(c, &c->guests[i]);
    }
    (void)close(c->epoll);
    SSL_CTX_free(c->tls);
    free(c->guests);
    free(c->in);
}

static double seconds(uint64_t ns)
{
    return (double)ns / (double)NS_PER_S;
}

int bench_crowd(const struct options *o)
{
    struct crowd c = {.epoll = -1};
    if (!crowd_init(&c, o)) {
        return 2;
    }
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* too few: connections fail, which the totals show */
    }
    (void)signal(SIGPIPE, SIG_IGN);
    uint64_t start = bench_now_ns();
    uint64_t ready = 0;
    uint64_t ticked = start;
    for (uint64_t now = start; now < start + (uint64_t)o->seconds * NS_PER_S && !input_ended(); now = bench_now_ns()) {
        turn(&c);
        if (now >= ticked + TICK_MS * 1000000u) {
            ticked = now;
            tick(&c, now);
        }
        if (ready == 0 && (c.n_served == c.n_guests || now > start + (uint64_t)CROWD_READY_S * NS_PER_S)) {
            ready = bench_now_ns();
            printf("ready connections=%u seconds=%.3f\n", c.n_served, seconds(ready - start));
            (void)fflush(stdout);
        }
    }
    printf("opened=%llu closed=%llu answered=%llu sent_mib=%.1f received_mib=%.1f seconds=%.3f\n", (unsigned long long)c.n_opened,
           (unsigned long long)c.n_closed, (unsigned long long)c.n_answered, (double)c.sent / 1048576.0, (double)c.received / 1048576.0,
           seconds(bench_now_ns() - start));
    crowd_deinit(&c);
    return ready == 0 ? 1 : 0;
}
