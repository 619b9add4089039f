/* What one connection may bring, and how many handshakes go on, in one turn of a loop. */
#include <openssl/ssl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "api/http/sock.h"
#include "base/assert.h"
#include "tls_certs.h"

#define CLIENTS 20u

struct world {
    struct loop *loop;
    struct http_config cfg;
    struct hub hub;
    struct http_exchange *x;
    size_t got; /* of the body */
};

static void on_piece(void *arg, struct slice piece)
{
    struct world *w = arg;
    w->got += piece.len;
}

static void on_end(void *arg)
{
    struct world *w = arg;
    http_respond(w->x, 204, NULL, NULL, slice_str(""));
}

static void begin(void *arg, const struct http_request *r, struct http_intake *in)
{
    (void)arg;
    (void)r;
    in->streamed = true;
}

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct world *w = arg;
    (void)r;
    w->x = x;
    http_body_to(x, on_piece, on_end, w);
}

static int open_world(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->loop = loop_create(0);
    w->cfg = (struct http_config){.http = {handle, w}, .begin = begin};
    hub_init(&w->hub, w->loop, &w->cfg);
    *state = w;
    return 0;
}

static void turn(struct world *w)
{
    (void)uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
    hub_flush(&w->hub);
}

static int close_world(void **state)
{
    struct world *w = *state;
    hub_deinit(&w->hub);
    if (w->x != NULL) {
        http_exchange_kill(w->x); /* its client has gone before the end */
    }
    (void)uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
    loop_destroy(&w->loop);
    free(w);
    return 0;
}

/* The client's end. */
static int connect_to(struct world *w, struct tls *tls)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    const struct sock_origin origin = {ends[1], true, tls, tls == NULL};
    assert_true(sock_open(&w->hub, &origin));
    return ends[0];
}

static void test_much_comes_in_shares(void **state)
{
    struct world *w = *state;
    int fd = connect_to(w, NULL);
    static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n";
    assert_int_equal(write(fd, head, sizeof(head) - 1), sizeof(head) - 1);
    turn(w);
    static char body[1u << 20];
    ssize_t sent = 0;
    for (ssize_t n = 0; n >= 0; n = write(fd, body, sizeof(body))) {
        sent += n;
    }
    assert_true(sent > CONN_READ_BYTES);
    w->hub.share = CONN_READ_BYTES; /* whatever the machine was busy with */
    turn(w);
    assert_int_equal(w->got, CONN_READ_BYTES);
    w->hub.share = CONN_READ_LEAST_BYTES; /* as after long turns */
    size_t before = w->got;
    (void)uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
    assert_int_equal(w->got - before, CONN_READ_LEAST_BYTES);
    hub_flush(&w->hub);
    w->hub.conns->wary = true;
    before = w->got;
    (void)uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
    assert_int_equal(w->got - before, CONN_WARY_BYTES);
    w->hub.conns->wary = false;
    hub_flush(&w->hub);
    for (unsigned i = 0; i < 100 && w->got < (size_t)sent; i++) {
        turn(w);
    }
    assert_int_equal(w->got, sent);
    (void)close(fd);
    turn(w);
    turn(w);
}

static void test_shares_follow_the_length_of_turns(void **state)
{
    static const struct {
        const char *claim;
        uint32_t share;
        uint64_t took_ms;
        uint32_t next;
    } rows[] = {
        {"long turns halve it", CONN_READ_BYTES, TURN_LONG_MS, CONN_READ_BYTES / 2},
        {"down to a least", CONN_READ_LEAST_BYTES, 1000, CONN_READ_LEAST_BYTES},
        {"turns of some length leave it", CONN_READ_BYTES / 2, TURN_LONG_MS - 1, CONN_READ_BYTES / 2},
        {"short turns double it", CONN_READ_LEAST_BYTES, 0, 2 * CONN_READ_LEAST_BYTES},
        {"up to a most", CONN_READ_BYTES, 0, CONN_READ_BYTES},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t next = hub_next_share(rows[i].share, rows[i].took_ms);
        if (next != rows[i].next) {
            fail_msg("%s: %u", rows[i].claim, next);
        }
    }
}

/* A client's first flight. */
static size_t hello(uint8_t *out, int room)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *wire = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), wire);
    SSL_set_connect_state(ssl);
    (void)SSL_do_handshake(ssl);
    int n = BIO_read(wire, out, room);
    assert_true(n > 100);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return (size_t)n;
}

static unsigned n_answered(const int *fds)
{
    unsigned n = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct pollfd p = {.fd = fds[i], .events = POLLIN};
        n += fds[i] >= 0 && poll(&p, 1, 0) == 1;
    }
    return n;
}

static void test_handshakes_stand_in_line(void **state)
{
    struct world *w = *state;
    char dir[] = "/tmp/pintle-turns-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct authority root = certs_authority("root", NULL);
    certs_make(dir, "live", &(struct cert_spec){.name = "live", .serial = 2}, &root, NULL);
    char cert[64], key[64];
    (void)snprintf(cert, sizeof(cert), "%s/live.pem", dir);
    (void)snprintf(key, sizeof(key), "%s/live.key", dir);
    struct tls *tls = NULL;
    struct err_ctx ec = {{0}};
    assert_int_equal(tls_create(&(struct tls_config){.cert_file = cert, .key_file = key}, &tls, &ec), OK);
    uint8_t first[4096];
    size_t len = hello(first, sizeof(first));
    int fds[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        fds[i] = connect_to(w, tls);
        assert_int_equal(write(fds[i], first, len), len);
    }
    turn(w);
    assert_int_equal(n_answered(fds), SHAKES_PER_TURN);
    /* Who leaves while it waits is not missed. */
    for (unsigned i = 0; i < CLIENTS; i += CLIENTS - 1) {
        struct pollfd p = {.fd = fds[i], .events = POLLIN};
        if (poll(&p, 1, 0) == 0) {
            (void)close(fds[i]);
            fds[i] = -1;
        }
    }
    turn(w);
    assert_in_range(n_answered(fds), 2 * SHAKES_PER_TURN - 2, 2 * SHAKES_PER_TURN);
    turn(w);
    turn(w);
    unsigned open = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        open += fds[i] >= 0;
    }
    assert_int_equal(n_answered(fds), open);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    /* The deadline of those in line is that of all. */
    int late[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        late[i] = connect_to(w, tls);
        assert_int_equal(write(late[i], first, len), len);
    }
    (void)uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
    loop_skip(w->loop, CONN_SETUP_MS);
    hub_flush(&w->hub);
    hub_flush(&w->hub);
    assert_int_equal(w->hub.n_conns, 0);
    assert_null(w->hub.waiting);
    for (unsigned i = 0; i < CLIENTS; i++) {
        (void)close(late[i]);
    }
    (void)uv_run(loop_uv(w->loop), UV_RUN_NOWAIT);
    tls_destroy(&tls);
    certs_authority_free(&root);
    (void)unlink(cert);
    (void)unlink(key);
    (void)rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_much_comes_in_shares, open_world, close_world),
        cmocka_unit_test(test_shares_follow_the_length_of_turns),
        cmocka_unit_test_setup_teardown(test_handshakes_stand_in_line, open_world, close_world),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* which loop_run blocks */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
