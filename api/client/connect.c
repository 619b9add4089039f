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

enum err client_dial(const char *target, uint32_t timeout_ms, int *fd,
                     char authority[NAME_MAX_BYTES], struct err_ctx *ec)
{
    uint64_t deadline_ms = clock_now_ms(clock_real()) + timeout_ms;
    if (strncmp(target, "unix:", 5) == 0) {
        const char *path = target + 5;
        if (strncmp(path, "//", 2) == 0) {
            path += 2;
        }
        (void)snprintf(authority, NAME_MAX_BYTES, "localhost");
        return err_wrap(ec, dial_unix(path, deadline_ms, fd, ec), "connect to %s", target);
    }
    const char *host_port = strncmp(target, "http://", 7) == 0 ? target + 7 : target;
    size_t n = strlen(host_port);
    if (n >= NAME_MAX_BYTES) {
        return err_set(ec, ERR_INVALID, "target of %zu bytes", n);
    }
    memcpy(authority, host_port, n + 1);
    return err_wrap(ec, dial_tcp(host_port, deadline_ms, fd, ec), "connect to %s", target);
}
