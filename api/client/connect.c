/* connect.c - from a target's text to a connected socket. */
#include "api/client/client_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

static enum err wait_connected(int fd, uint64_t deadline_ms, struct err_ctx *ec)
{
    for (;;) {
        uint64_t now = clock_now_ms(clock_real());
        if (now >= deadline_ms) {
            return err_set(ec, ERR_DEADLINE, "no connection in time");
        }
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int n = poll(&p, 1, (int)(deadline_ms - now));
        if (n > 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            return err_set(ec, ERR_IO, "poll: %s", strerror(errno));
        }
    }
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        error = errno;
    }
    return error == 0 ? OK : err_set(ec, ERR_IO, "connect: %s", strerror(error));
}

static enum err dial_address(const struct sockaddr *address, socklen_t len, uint64_t deadline_ms,
                             int *out, struct err_ctx *ec)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_set(ec, ERR_IO, "socket: %s", strerror(errno));
    }
    enum err e = OK;
    if (connect(fd, address, len) != 0) {
        e = errno == EINPROGRESS ? wait_connected(fd, deadline_ms, ec)
                                 : err_set(ec, ERR_IO, "connect: %s", strerror(errno));
    }
    if (e != OK) {
        (void)close(fd);
        return e;
    }
    if (address->sa_family != AF_UNIX) {
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* only latency */
    }
    *out = fd;
    return OK;
}

static enum err dial_unix(const char *path, uint64_t deadline_ms, int *fd, struct err_ctx *ec)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof(address.sun_path)) {
        return err_set(ec, ERR_INVALID, "socket path of %zu bytes", n);
    }
    memcpy(address.sun_path, path, n);
    return dial_address((const struct sockaddr *)&address, sizeof(address), deadline_ms, fd, ec);
}

static enum err dial_tcp(const char *host_port, uint64_t deadline_ms, int *fd, struct err_ctx *ec)
{
    const char *colon = strrchr(host_port, ':');
    if (colon == NULL || colon[1] == '\0') {
        return err_set(ec, ERR_INVALID, "no port in \"%s\"", host_port);
    }
    const char *start = host_port;
    size_t n = (size_t)(colon - host_port);
    if (n >= 2 && start[0] == '[' && start[n - 1] == ']') {
        start++;
        n -= 2;
    }
    char host[NAME_MAX_BYTES];
    if (n == 0 || n >= sizeof(host)) {
        return err_set(ec, ERR_INVALID, "host name of %zu bytes", n);
    }
    memcpy(host, start, n);
    host[n] = '\0';

    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    struct addrinfo *list = NULL;
    int failed = getaddrinfo(host, colon + 1, &hints, &list);
    if (failed != 0) {
        return err_set(ec, ERR_INVALID, "%s: %s", host_port, gai_strerror(failed));
    }
    enum err e = err_set(ec, ERR_IO, "no address");
    for (const struct addrinfo *a = list; a != NULL && e != OK; a = a->ai_next) {
        e = dial_address(a->ai_addr, a->ai_addrlen, deadline_ms, fd, ec);
    }
    freeaddrinfo(list);
    return e;
}

struct scheme {
    const char *prefix;
    bool is_unix, secure, plain;
};

/* Longer prefixes before what they begin with. */
static const struct scheme schemes[] = {
    {"unixs://", true, true, false}, {"unixs:", true, true, false},   {"unix://", true, false, false},
    {"unix:", true, false, false},   {"https://", false, true, false}, {"http://", false, false, true},
    {"", false, false, false},
};

static const struct scheme *scheme_of(const char *target)
{
    const struct scheme *s = schemes;
    while (strncmp(target, s->prefix, strlen(s->prefix)) != 0) {
        s++;
    }
    return s;
}

/* The host of "host:port", without brackets; of a path its last part up to a colon. */
static void host_of(const char *text, bool is_unix, char host[NAME_MAX_BYTES])
{
    const char *slash = is_unix ? strrchr(text, '/') : NULL;
    const char *start = slash != NULL ? slash + 1 : text;
    const char *end = strrchr(start, ':');
    if (end == NULL) {
        end = start + strlen(start);
    }
    if (end - start >= 2 && start[0] == '[' && end[-1] == ']') {
        start++;
        end--;
    }
    (void)snprintf(host, NAME_MAX_BYTES, "%.*s", (int)(end - start), start);
}

enum err client_dial(struct client *c, const char *target, const struct client_options *o,
                     uint32_t timeout_ms, struct err_ctx *ec)
{
    uint64_t deadline_ms = clock_now_ms(clock_real()) + timeout_ms;
    const struct scheme *s = scheme_of(target);
    const char *rest = target + strlen(s->prefix);
    size_t n = strlen(rest);
    enum err e = OK;
    if (!s->is_unix && n >= NAME_MAX_BYTES) {
        return err_set(ec, ERR_INVALID, "target of %zu bytes", n);
    }
    (void)snprintf(c->authority, sizeof(c->authority), "%s", s->is_unix ? "localhost" : rest);
    e = s->is_unix ? dial_unix(rest, deadline_ms, &c->fd, ec)
                   : dial_tcp(rest, deadline_ms, &c->fd, ec);
    if (e == OK && !s->plain && (s->secure || o->secure)) {
        char host[NAME_MAX_BYTES];
        host_of(rest, s->is_unix, host);
        e = client_wire_secure(c, &o->tls, host, deadline_ms, ec);
    }
    return err_wrap(ec, e, "connect to %s", target);
}
