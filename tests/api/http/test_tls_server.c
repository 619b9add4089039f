/* A server with several loops on real sockets: TLS and plain on one port, many clients at once, and files that change meanwhile. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/http/server.h"
#include "base/assert.h"
#include "base/mem.h"
#include "tls_certs.h"

#define LOOPS 3u
#define CLIENTS 4u
#define CALLS 40u
#define BIG_BYTES 3000000u /* more than the kernel takes at once */

static char dir[64];
static struct authority root;

static const char *path_of(const char *name, char out[128])
{
    (void)snprintf(out, 128, "%s/%s", dir, name);
    return out;
}

/* --- server -------------------------------------------------------------------------------------------------- */

struct world {
    struct loop *loops[LOOPS];
    pthread_t threads[LOOPS];
    struct http_server *server;
    struct tls *tls;
    uint16_t port;
};

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    (void)arg;
    if (strcmp(r->path, "/big") == 0) {
        struct bytes b = {0};
        memset(bytes_reserve(&b, BIG_BYTES), 'x', BIG_BYTES);
        b.len = BIG_BYTES;
        http_respond(x, 200, "text/plain", NULL, bytes_slice(&b));
        bytes_deinit(&b);
        return;
    }
    char text[96];
    (void)snprintf(text, sizeof(text), "%s %s", http_exchange_is_secure(x) ? "secure" : "plain", http_exchange_common_name(x));
    http_respond(x, 200, "text/plain", NULL, slice_str(text));
}

static void *run(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void world_open(struct world *w)
{
    char cert[128], key[128], ca[128];
    struct err_ctx ec = {{0}};
    const struct http_config hc = {.http = {.handle = handle}};
    const struct tls_config tc = {.cert_file = path_of("live.pem", cert), .key_file = path_of("live.key", key), .ca_file = path_of("ca.pem", ca)};
    assert_int_equal(tls_create(&tc, &w->tls, &ec), OK);
    w->server = http_server_create(&hc);
    http_server_secure(w->server, w->tls, true);
    assert_int_equal(http_server_bind(w->server, "127.0.0.1", "0", &ec), OK);
    w->port = http_server_port(w->server, 0);
    for (unsigned i = 0; i < LOOPS; i++) {
        w->loops[i] = loop_create(i);
    }
    http_server_serve(w->server, w->loops, LOOPS);
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_create(&w->threads[i], NULL, run, w->loops[i]), 0);
    }
}

static void world_close(struct world *w)
{
    for (unsigned i = 0; i < LOOPS; i++) {
        loop_stop(w->loops[i]);
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_join(w->threads[i], NULL), 0);
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        loop_destroy(&w->loops[i]);
    }
    http_server_destroy(&w->server);
    tls_destroy(&w->tls);
}

/* --- clients --------------------------------------------------------------------------------------------------- */

static int dial(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ASSERT(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    ASSERT(connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0);
    return fd;
}

static SSL_CTX *client_context(void)
{
    char path[128];
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    ASSERT(SSL_CTX_load_verify_file(ctx, path_of("ca.pem", path)) == 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    ASSERT(SSL_CTX_use_certificate_chain_file(ctx, path_of("client.pem", path)) == 1);
    ASSERT(SSL_CTX_use_PrivateKey_file(ctx, path_of("client.key", path), SSL_FILETYPE_PEM) == 1);
    return ctx;
}

/* The answer's length; -1: none. Its beginning in `head`. */
static long ask(SSL_CTX *ctx, uint16_t port, const char *path, char *head, size_t head_bytes)
{
    static const size_t pieces = 16384;
    char request[128];
    int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    int fd = dial(port);
    SSL *ssl = SSL_new(ctx);
    char *buf = xalloc(pieces);
    long got = -1;
    ASSERT(SSL_set_fd(ssl, fd) == 1);
    if (SSL_connect(ssl) == 1 && SSL_write(ssl, request, n) == n) {
        int more;
        got = 0;
        while ((more = SSL_read(ssl, buf, (int)pieces)) > 0) {
            if (got == 0) {
                (void)snprintf(head, head_bytes, "%.*s", more < 500 ? more : 500, buf);
            }
            got += more;
        }
        /* The end is said, not just there. */
        got = SSL_get_error(ssl, more) == SSL_ERROR_ZERO_RETURN ? got : -1;
    }
    free(buf);
    SSL_free(ssl);
    (void)close(fd);
    ERR_clear_error();
    return got;
}

struct crowd {
    uint16_t port;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t more;
    unsigned n_bad, n_done;
};

static void *ask_often(void *arg)
{
    struct crowd *c = arg;
    SSL_CTX *ctx = client_context();
    char head[512] = "";
    for (unsigned i = 0; i < CALLS; i++) {
        bool big = i % 10 == 9;
        long n = ask(ctx, c->port, big ? "/big" : "/", head, sizeof(head));
        bool good = big ? n > (long)BIG_BYTES : n > 0 && strstr(head, "secure client") != NULL;
        (void)pthread_mutex_lock(&c->lock);
        c->n_bad += good ? 0u : 1u;
        c->n_done++;
        (void)pthread_cond_signal(&c->more);
        (void)pthread_mutex_unlock(&c->lock);
    }
    SSL_CTX_free(ctx);
    return NULL;
}

static void exchange_files(unsigned i)
{
    static const char *const endings[] = {"pem", "key"};
    for (unsigned k = 0; k < 2; k++) {
        char from[128], to[128], name[32], tmp[128], buf[8192];
        (void)snprintf(name, sizeof(name), "%s.%s", i % 2 == 0 ? "first" : "second", endings[k]);
        FILE *in = fopen(path_of(name, from), "r");
        FILE *out = fopen(path_of("tmp", tmp), "w");
        ASSERT(in != NULL && out != NULL);
        size_t n = fread(buf, 1, sizeof(buf), in);
        ASSERT(fwrite(buf, 1, n, out) == n);
        ASSERT(fclose(in) == 0 && fclose(out) == 0);
        (void)snprintf(name, sizeof(name), "live.%s", endings[k]);
        ASSERT(rename(tmp, path_of(name, to)) == 0);
    }
}

static void test_files_change_under_many_clients(void **state)
{
    (void)state;
    struct world w = {.server = NULL};
    world_open(&w);
    struct crowd c = {.port = w.port, .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};
    pthread_t clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_create(&clients[i], NULL, ask_often, &c), 0);
    }
    (void)pthread_mutex_lock(&c.lock);
    for (unsigned i = 0; c.n_done < CLIENTS * CALLS; i++) {
        unsigned seen = c.n_done;
        (void)pthread_mutex_unlock(&c.lock);
        exchange_files(i);
        (void)pthread_mutex_lock(&c.lock);
        while (c.n_done < seen + 3 && c.n_done < CLIENTS * CALLS) {
            (void)pthread_cond_wait(&c.more, &c.lock);
        }
    }
    (void)pthread_mutex_unlock(&c.lock);
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(clients[i], NULL), 0);
    }
    assert_int_equal(c.n_bad, 0);
    /* On the same port, without TLS. */
    int fd = dial(w.port);
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    char answer[1024] = "";
    size_t got = 0;
    ssize_t more;
    assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
    while (got < sizeof(answer) - 1 && (more = read(fd, answer + got, sizeof(answer) - 1 - got)) > 0) {
        got += (size_t)more;
    }
    assert_non_null(strstr(answer, "plain "));
    (void)close(fd);
    /* Open when the server goes: a handshake that has just begun, and a client that does not read what it asked for. */
    int half = dial(w.port);
    assert_int_equal(write(half, "\x16\x03\x01", 3), 3);
    SSL_CTX *ctx = client_context();
    SSL *ssl = SSL_new(ctx);
    int slow = dial(w.port);
    static const char big[] = "GET /big HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(SSL_set_fd(ssl, slow), 1);
    assert_int_equal(SSL_connect(ssl), 1);
    assert_int_equal(SSL_write(ssl, big, sizeof(big) - 1), sizeof(big) - 1);
    char first[64];
    assert_true(SSL_read(ssl, first, sizeof(first)) > 0);
    world_close(&w);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    (void)close(slow);
    (void)close(half);
}

static int make_files(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/pintle-tls-server-XXXXXX");
    ASSERT(mkdtemp(dir) != NULL);
    root = certs_authority("root", NULL);
    certs_write_authority(dir, "ca", &root, NULL);
    certs_make(dir, "first", &(struct cert_spec){.name = "server"}, &root, NULL);
    certs_make(dir, "second", &(struct cert_spec){.name = "server"}, &root, NULL);
    certs_make(dir, "client", &(struct cert_spec){.name = "client"}, &root, NULL);
    exchange_files(0);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    char command[128];
    certs_authority_free(&root);
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_change_under_many_clients),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
