/* fake_server.c - see the header. Plain blocking loop over nghttp2's server session. */
#include "fake_server.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/slice.h"

struct fake_server {
    pthread_t thread;
    int listener;
    int stop;
    char directory[64];
    char target[128];
    bool hangup;
    _Atomic uint64_t flooded;
    _Atomic uint64_t canceled;
};

struct fake_call {
    struct fake_server *server;
    char path[32];
    struct bytes token;
    struct bytes out; /* framed reply bytes not yet sent start at out_at */
    size_t out_at;
    size_t flood_left;
    bool answered;
    bool ended; /* after `out` come the trailers */
    bool deferred;
};

static bool is(const struct fake_call *c, const char *method)
{
    return strcmp(c->path + strlen("/t.T/"), method) == 0;
}

static nghttp2_nv pair(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static void flood(struct fake_call *c)
{
    if (c->out_at < c->out.len || c->flood_left == 0) {
        return;
    }
    bytes_reset(&c->out);
    c->out_at = 0;
    uint32_t n = FLOOD_BYTES;
    const uint8_t head[5] = {0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8),
                             (uint8_t)n};
    bytes_add(&c->out, head, sizeof(head));
    memset(bytes_reserve(&c->out, n), (int)c->flood_left, n);
    c->out.len += n;
    c->flood_left--;
    c->ended = c->flood_left == 0;
    atomic_fetch_add(&c->server->flooded, n);
}

static ssize_t want_data(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t n,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)user;
    struct fake_call *c = source->ptr;
    flood(c);
    size_t left = c->out.len - c->out_at;
    size_t take = left < n ? left : n;
    if (take > 0) {
        memcpy(buffer, c->out.data + c->out_at, take);
        c->out_at += take;
    }
    if (c->out_at == c->out.len && c->ended) {
        nghttp2_nv trailer = pair("grpc-status", "0");
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        ASSERT(nghttp2_submit_trailer(session, id, &trailer, 1) == 0);
    } else if (take == 0) {
        c->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)take;
}

static void answer(nghttp2_session *session, int32_t id, struct fake_call *c)
{
    if (!c->answered) {
        c->answered = true;
        nghttp2_nv headers[] = {pair(":status", "200"), pair("content-type", "application/grpc")};
        nghttp2_data_provider provider = {.source = {.ptr = c}, .read_callback = want_data};
        ASSERT(nghttp2_submit_response(session, id, headers, ARRAY_LEN(headers), &provider) == 0);
    } else if (c->deferred) {
        c->deferred = false;
        ASSERT(nghttp2_session_resume_data(session, id) == 0);
    }
}

static int begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct fake_call *c = xcalloc(1, sizeof(*c));
    c->server = user;
    return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, c);
}

static int header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                  size_t n_name, const uint8_t *value, size_t n_value, uint8_t flags, void *user)
{
    (void)flags;
    (void)user;
    struct fake_call *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (slice_eq(slice_of(name, n_name), slice_str(":path"))) {
        (void)snprintf(c->path, sizeof(c->path), "%.*s", (int)n_value, (const char *)value);
    } else if (slice_eq(slice_of(name, n_name), slice_str("token"))) {
        bytes_add(&c->token, value, n_value);
    }
    return 0;
}

static int data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t n,
                void *user)
{
    (void)flags;
    (void)user;
    struct fake_call *c = nghttp2_session_get_stream_user_data(session, id);
    if (is(c, "Echo")) {
        bytes_add(&c->out, bytes, n);
        answer(session, id, c);
    }
    return 0;
}

static void end_of_request(nghttp2_session *session, int32_t id, struct fake_call *c)
{
    if (is(c, "Fail")) {
        nghttp2_nv headers[] = {pair(":status", "200"), pair("content-type", "application/grpc"),
                                pair("grpc-status", "5"),
                                pair("grpc-message", "no such \"thing\" 100%25")};
        ASSERT(nghttp2_submit_response(session, id, headers, ARRAY_LEN(headers), NULL) == 0);
    } else if (is(c, "Hangup")) {
        c->server->hangup = true;
    } else if (!is(c, "Never")) {
        c->ended = true;
        if (is(c, "Token")) {
            const uint8_t head[5] = {0, 0, 0, 0, (uint8_t)c->token.len};
            bytes_add(&c->out, head, sizeof(head));
            bytes_add(&c->out, c->token.data, c->token.len);
        } else if (is(c, "Short")) {
            bytes_add(&c->out, "\0\0\0\0\4ab", 7);
        } else if (is(c, "Flood")) {
            c->ended = false;
            c->flood_left = FLOOD_MESSAGES;
        }
        answer(session, id, c);
    }
}

static int frame_received(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    struct fake_call *c = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (c != NULL && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        end_of_request(session, frame->hd.stream_id, c);
    }
    return 0;
}

static int stream_closed(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
    struct fake_server *f = user;
    struct fake_call *c = nghttp2_session_get_stream_user_data(session, id);
    if (error == NGHTTP2_CANCEL) {
        atomic_fetch_add(&f->canceled, 1);
    }
    if (c != NULL) {
        bytes_deinit(&c->token);
        bytes_deinit(&c->out);
        free(c);
    }
    return 0;
}

static nghttp2_session *make_session(struct fake_server *f)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_session *session = NULL;
    ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame_received);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, stream_closed);
    ASSERT(nghttp2_session_server_new(&session, callbacks, f) == 0);
    nghttp2_session_callbacks_del(callbacks);
    ASSERT(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, NULL, 0) == 0);
    return session;
}

/* Wait for `events` on fd; false when the server is to stop. */
static bool wait_for(const struct fake_server *f, int fd, short events)
{
    struct pollfd polls[] = {{.fd = fd, .events = events}, {.fd = f->stop, .events = POLLIN}};
    while (poll(polls, 2, -1) < 0) {
        ASSERT(errno == EINTR);
    }
    return (polls[1].revents & POLLIN) == 0;
}

/* Send what nghttp2 has, without waiting beyond what the socket takes. */
static bool send_all(const struct fake_server *f, nghttp2_session *session, int fd)
{
    const uint8_t *p = NULL;
    ssize_t n = 0;
    while ((n = nghttp2_session_mem_send(session, &p)) > 0) {
        while (n > 0) {
            ssize_t sent = send(fd, p, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0 && (errno != EAGAIN || !wait_for(f, fd, POLLOUT))) {
                return false;
            }
            if (sent > 0) {
                p += sent;
                n -= sent;
            }
        }
    }
    return n == 0;
}

static void serve(struct fake_server *f, int fd)
{
    nghttp2_session *session = make_session(f);
    f->hangup = false;
    uint8_t buffer[16384];
    while (send_all(f, session, fd) && !f->hangup && wait_for(f, fd, POLLIN)) {
        ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
        if (n <= 0 || nghttp2_session_mem_recv(session, buffer, (size_t)n) != n) {
            break;
        }
    }
    /* Streams that are still open do not get the close callback when the session goes. */
    for (int32_t id = 1; id < 4096; id += 2) {
        if (nghttp2_session_get_stream_user_data(session, id) != NULL) {
            (void)stream_closed(session, id, NGHTTP2_NO_ERROR, f);
        }
    }
    nghttp2_session_del(session);
    (void)close(fd);
}

static void *run(void *arg)
{
    struct fake_server *f = arg;
    while (wait_for(f, f->listener, POLLIN)) {
        int fd = accept(f->listener, NULL, NULL);
        if (fd >= 0) {
            serve(f, fd);
        }
    }
    return NULL;
}

struct fake_server *fake_server_start(void)
{
    struct fake_server *f = xcalloc(1, sizeof(*f));
    (void)snprintf(f->directory, sizeof(f->directory), "/tmp/pintle-fake-XXXXXX");
    ASSERT(mkdtemp(f->directory) != NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", f->directory);
    (void)snprintf(f->target, sizeof(f->target), "unix:%s/s", f->directory);
    f->stop = eventfd(0, EFD_CLOEXEC);
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT(bind(f->listener, (const struct sockaddr *)&address, sizeof(address)) == 0);
    ASSERT(listen(f->listener, 8) == 0);
    ASSERT(pthread_create(&f->thread, NULL, run, f) == 0);
    return f;
}

const char *fake_server_target(const struct fake_server *f)
{
    return f->target;
}

uint64_t fake_server_flooded(const struct fake_server *f)
{
    return atomic_load(&f->flooded);
}

uint64_t fake_server_canceled(const struct fake_server *f)
{
    return atomic_load(&f->canceled);
}

void fake_server_stop(struct fake_server **fake)
{
    struct fake_server *f = *fake;
    *fake = NULL;
    uint64_t one = 1;
    ASSERT(write(f->stop, &one, sizeof(one)) == (ssize_t)sizeof(one));
    ASSERT(pthread_join(f->thread, NULL) == 0);
    (void)close(f->listener);
    (void)close(f->stop);
    (void)unlink(f->target + strlen("unix:"));
    (void)rmdir(f->directory);
    free(f);
}
