/* The server on real sockets: several loops, both protocols on one port, bounds, shutdown. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/grpc/server.h"
#include "base/assert.h"
#include "base/mem.h"
#include "nghttp2/nghttp2.h"

#define LOOPS 3u
#define WAIT_MS 20000 /* far more than anything here takes; a hang becomes a failure */

static _Atomic unsigned calls_on[LOOPS];
static _Atomic unsigned n_ended;

static void echo(struct grpc_call *c, struct slice m)
{
    (void)atomic_fetch_add(&calls_on[loop_number(grpc_call_loop(c))], 1);
    grpc_reply(c, &m, 1);
}

static void hold(struct grpc_call *c, struct slice m)
{
    (void)c;
    (void)m;
}

static void ended(struct grpc_call *c)
{
    (void)c;
    (void)atomic_fetch_add(&n_ended, 1);
}

static const struct grpc_method table[] = {
    {.path = "/t.S/Echo", .kind = GRPC_UNARY, .message = echo},
    {.path = "/t.S/Hold", .kind = GRPC_BIDI, .message = hold, .ended = ended},
    {.path = NULL},
};
static const struct grpc_method *const tables[] = {table, NULL};

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    (void)arg;
    http_respond(x, 200, "text/plain", NULL, slice_str(r->path));
}

struct rig {
    struct grpc_server *server;
    struct metrics *metrics;
    struct loop *loops[LOOPS];
    pthread_t threads[LOOPS];
    char path[64];
    int done[2]; /* a pipe that says when the shutdown is over */
};

static void *run(void *arg)
{
    loop_run(arg);
    return NULL;
}

static struct rig *rig_open(unsigned connections_max)
{
    struct rig *g = xcalloc(1, sizeof(*g));
    g->metrics = metrics_create();
    const struct grpc_server_config cfg = {
        .limits = {.recv_bytes_max = 1u << 21,
                   .concurrent_streams_max = 1000,
                   .keepalive_min_ms = 5000},
        .tables = tables,
        .http = {handle, NULL},
        .metrics = g->metrics,
        .connections_max = connections_max,
    };
    g->server = grpc_server_create(&cfg);
    struct err_ctx ec;
    assert_int_equal(grpc_server_bind(g->server, "127.0.0.1", "0", &ec), OK);
    (void)snprintf(g->path, sizeof(g->path), "/tmp/pintle-test-server-%d.sock", (int)getpid());
    assert_int_equal(grpc_server_bind_unix(g->server, g->path, &ec), OK);
    assert_int_equal(pipe(g->done), 0);
    for (unsigned i = 0; i < LOOPS; i++) {
        g->loops[i] = loop_create(i);
    }
    grpc_server_serve(g->server, g->loops, LOOPS);
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_create(&g->threads[i], NULL, run, g->loops[i]), 0);
    }
    return g;
}

static void rig_close(struct rig *g)
{
    for (unsigned i = 0; i < LOOPS; i++) {
        loop_stop(g->loops[i]);
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_join(g->threads[i], NULL), 0);
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        loop_destroy(&g->loops[i]);
    }
    grpc_server_destroy(&g->server);
    metrics_destroy(&g->metrics);
    (void)close(g->done[0]);
    (void)close(g->done[1]);
    assert_int_equal(access(g->path, F_OK), -1); /* the socket's name is gone */
    free(g);
}

static int dial(struct rig *g)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(grpc_server_port(g->server, 0))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static int dial_unix(struct rig *g)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, g->path, strlen(g->path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static bool readable(int fd, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, wait_ms) == 1;
}

static size_t read_some(int fd, uint8_t *out, size_t room)
{
    assert_true(readable(fd, WAIT_MS));
    ssize_t n = read(fd, out, room);
    return n > 0 ? (size_t)n : 0;
}

/* --- a small blocking HTTP/2 client
 * ------------------------------------------------------------------ */

struct client {
    int fd;
    nghttp2_session *session;
    unsigned n_ok;     /* streams that ended with grpc-status 0 */
    unsigned n_closed; /* streams that ended */
    bool goaway;
    bool eof;
};

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_len, const uint8_t *v, size_t len, uint8_t flags, void *arg)
{
    (void)s;
    (void)f;
    (void)flags;
    struct client *c = arg;
    if (slice_eq(slice_of(name, name_len), slice_str("grpc-status")) &&
        slice_eq(slice_of(v, len), slice_str("0"))) {
        c->n_ok++;
    }
    return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    (void)s;
    ((struct client *)arg)->goaway |= f->hd.type == NGHTTP2_GOAWAY;
    return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t error, void *arg)
{
    (void)s;
    (void)id;
    (void)error;
    ((struct client *)arg)->n_closed++;
    return 0;
}

static void client_open(struct client *c, int fd)
{
    *c = (struct client){.fd = fd};
    nghttp2_session_callbacks *cb;
    assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    assert_int_equal(nghttp2_session_client_new(&c->session, cb, c), 0);
    nghttp2_session_callbacks_del(cb);
    assert_int_equal(nghttp2_submit_settings(c->session, 0, NULL, 0), 0);
}

static void client_close(struct client *c)
{
    nghttp2_session_del(c->session);
    (void)close(c->fd);
}

static ssize_t one_message(nghttp2_session *s, int32_t id, uint8_t *buf, size_t room,
                           uint32_t *flags, nghttp2_data_source *src, void *arg)
{
    (void)s;
    (void)id;
    (void)room;
    (void)arg;
    memcpy(buf, "\0\0\0\0\4ping", 9);
    if (src->fd == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        return 9;
    }
    src->fd++;
    return src->fd == 2 ? 9 : NGHTTP2_ERR_DEFERRED; /* the request stays open */
}

static void request(struct client *c, const char *path, bool open)
{
#define FIELD(n, v)                                                                                \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), 0              \
    }
    const nghttp2_nv nv[] = {FIELD(":method", "POST"), FIELD(":scheme", "http"),
                             FIELD(":path", path), FIELD(":authority", "t"),
                             FIELD("content-type", "application/grpc")};
    const nghttp2_data_provider data = {.source.fd = open ? 1 : 0, .read_callback = one_message};
    assert_true(nghttp2_submit_request(c->session, NULL, nv, ARRAY_LEN(nv), &data, NULL) > 0);
}

static void client_send(struct client *c)
{
    const uint8_t *p;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(c->session, &p)) > 0) {
        assert_int_equal(send(c->fd, p, (size_t)n, MSG_NOSIGNAL), n);
    }
}

static void client_step(struct client *c)
{
    client_send(c);
    uint8_t buf[65536];
    size_t n = read_some(c->fd, buf, sizeof(buf));
    if (n == 0) {
        c->eof = true;
        return;
    }
    assert_int_equal(nghttp2_session_mem_recv(c->session, buf, n), (ssize_t)n);
}

/* --- tests
 * ------------------------------------------------------------------------------------------ */

static void test_connections_are_dealt_to_all_loops(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LOOPS; i++) {
        atomic_store(&calls_on[i], 0);
    }
    struct rig *g = rig_open(0);
    struct client c[2 * LOOPS];
    for (unsigned i = 0; i < 2 * LOOPS; i++) {
        client_open(&c[i], i % 2 == 0 ? dial(g) : dial_unix(g));
        for (unsigned k = 0; k < 50; k++) {
            request(&c[i], "/t.S/Echo", false);
        }
        while (c[i].n_ok < 50) {
            client_step(&c[i]);
        }
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(atomic_load(&calls_on[i]), 100);
    }
    for (unsigned i = 0; i < 2 * LOOPS; i++) {
        client_close(&c[i]);
    }
    struct counter *started =
        metrics_counter(g->metrics, "grpc_server_started_total", "",
                        "grpc_method=\"Echo\",grpc_service=\"t.S\",grpc_type=\"unary\"");
    struct counter *handled = metrics_counter(
        g->metrics, "grpc_server_handled_total", "",
        "grpc_code=\"OK\",grpc_method=\"Echo\",grpc_service=\"t.S\",grpc_type=\"unary\"");
    assert_int_equal(counter_value(started), 300);
    assert_int_equal(counter_value(handled), 300);
    rig_close(g);
}

static void test_http1_on_the_same_port(void **state)
{
    (void)state;
    struct rig *g = rig_open(0);
    int fd = dial(g);
    static const char text[] = "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert_int_equal(write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
    uint8_t buf[4096];
    size_t len = 0;
    for (size_t n = 1; n > 0; len += n) {
        n = read_some(fd, buf + len, sizeof(buf) - len);
    }
    assert_memory_equal(buf, "HTTP/1.1 200 OK\r\n", 17);
    assert_memory_equal(buf + len - 7, "/health", 7);
    (void)close(fd);
    rig_close(g);
}

static void test_connections_beyond_the_bound_wait(void **state)
{
    (void)state;
    struct rig *g = rig_open(2);
    struct client a, b, late;
    client_open(&a, dial(g));
    client_open(&b, dial(g));
    request(&a, "/t.S/Echo", false);
    request(&b, "/t.S/Echo", false);
    while (a.n_ok + b.n_ok < 2) {
        client_step(a.n_ok == 0 ? &a : &b);
    }
    client_open(&late, dial(g)); /* the kernel takes it, the server does not yet */
    request(&late, "/t.S/Echo", false);
    client_send(&late);
    assert_false(readable(late.fd, 50));
    client_close(&a);
    while (late.n_ok == 0) {
        client_step(&late);
    }
    client_close(&b);
    client_close(&late);
    rig_close(g);
}

static void test_bind_errors_read_as_in_go(void **state)
{
    (void)state;
    struct rig *g = rig_open(0);
    const struct grpc_server_config cfg = {.tables = tables, .http = {handle, NULL}};
    struct grpc_server *s = grpc_server_create(&cfg);
    char port[8], want[128];
    (void)snprintf(port, sizeof(port), "%u", grpc_server_port(g->server, 0));
    (void)snprintf(want, sizeof(want), "listen tcp 127.0.0.1:%s: bind: address already in use",
                   port);
    struct err_ctx ec = {{0}};
    assert_int_equal(grpc_server_bind(s, "127.0.0.1", port, &ec), ERR_ADDR_IN_USE);
    assert_string_equal(ec.text, want);
    assert_int_equal(grpc_server_bind(s, "no.such.host.invalid", "1", &ec), ERR_INVALID);
    assert_int_equal(grpc_server_bind_unix(s, "/no/such/folder/x.sock", &ec), ERR_NOT_FOUND);
    assert_string_equal(ec.text,
                        "listen unix /no/such/folder/x.sock: bind: no such file or directory");
    grpc_server_destroy(&s);
    rig_close(g);
}

static void test_clients_that_vanish_do_no_harm(void **state)
{
    (void)state;
    struct rig *g = rig_open(0);
    static const char text[] = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
    for (unsigned i = 0; i < 50; i++) {
        int fd = dial(g);
        const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
        for (unsigned k = 0; k < 5; k++) {
            assert_int_equal(send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL),
                             (ssize_t)sizeof(text) - 1);
        }
        (void)close(fd); /* a reset: the answers meet a broken pipe */
    }
    struct client c;
    client_open(&c, dial(g));
    request(&c, "/t.S/Echo", false);
    while (c.n_ok == 0) {
        client_step(&c);
    }
    client_close(&c);
    rig_close(g);
}

struct order {
    struct loop_item item;
    struct rig *rig;
    uint64_t grace_ms;
};

static void on_done(void *arg)
{
    struct rig *g = arg;
    assert_int_equal(write(g->done[1], "x", 1), 1);
}

static void give_order(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct order *o = CONTAINER_OF(item, struct order, item);
    grpc_server_shutdown(o->rig->server, o->grace_ms, on_done, o->rig);
}

static void test_shutdown_says_goodbye_then_cuts(void **state)
{
    (void)state;
    atomic_store(&n_ended, 0);
    struct rig *g = rig_open(0);
    struct client idle, busy;
    client_open(&idle, dial(g));
    client_open(&busy, dial(g));
    request(&idle, "/t.S/Echo", false);
    while (idle.n_ok == 0) {
        client_step(&idle);
    }
    request(&busy, "/t.S/Hold", true);
    client_send(&busy);
    client_step(&busy); /* its SETTINGS: the connection stands */
    struct order o = {.item.run = give_order, .rig = g, .grace_ms = 300};
    loop_post(g->loops[0], &o.item);
    while (!idle.eof) {
        client_step(&idle);
    }
    assert_true(idle.goaway);
    (void)close(idle.fd); /* it saw the end: our side of the linger */
    idle.fd = -1;
    while (!busy.eof) {
        client_step(&busy);
    }
    assert_true(busy.goaway);
    char x;
    assert_true(readable(g->done[0], WAIT_MS));
    assert_int_equal(read(g->done[0], &x, 1), 1);
    assert_int_equal(atomic_load(&n_ended), 1);
    nghttp2_session_del(idle.session);
    client_close(&busy);
    rig_close(g);
}

static void test_stop_without_shutdown_ends_calls(void **state)
{
    (void)state;
    atomic_store(&n_ended, 0);
    struct rig *g = rig_open(0);
    struct client c;
    client_open(&c, dial(g));
    request(&c, "/t.S/Hold", true);
    request(&c, "/t.S/Echo", false);
    while (c.n_ok == 0) {
        client_step(&c);
    }
    rig_close(g);
    assert_int_equal(atomic_load(&n_ended), 1);
    client_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_are_dealt_to_all_loops),
        cmocka_unit_test(test_http1_on_the_same_port),
        cmocka_unit_test(test_connections_beyond_the_bound_wait),
        cmocka_unit_test(test_clients_that_vanish_do_no_harm),
        cmocka_unit_test(test_bind_errors_read_as_in_go),
        cmocka_unit_test(test_shutdown_says_goodbye_then_cuts),
        cmocka_unit_test(test_stop_without_shutdown_ends_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
