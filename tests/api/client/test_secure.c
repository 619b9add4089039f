/* The client under TLS against the project's own gRPC server, and keepalive. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/client/client.h"
#include "api/grpc/server.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "fake_server.h"
#include "tests/api/http/tls_certs.h"

#define WAIT_MS 20000u
#define BIG_BYTES (6u * 1024u * 1024u) /* more than the sockets and one window take at once */
#define CALLS 200u
#define THREADS 3u

static char dir[64];

static const char *path_of(const char *name, char out[128])
{
    (void)snprintf(out, 128, "%s/%s", dir, name);
    return out;
}

/* --- server ------------------------------------------------------------------------------------ */

static void echo(struct grpc_call *c, struct slice m)
{
    grpc_reply(c, &m, 1);
}

static void echo_piece(struct grpc_call *c, struct slice m)
{
    grpc_send(c, &m, 1);
}

static void finish(struct grpc_call *c)
{
    grpc_finish(c, GRPC_OK, NULL);
}

static void who(struct grpc_call *c, struct slice m)
{
    (void)m;
    struct slice name = grpc_call_common_name(c);
    grpc_reply(c, &name, 1);
}

static const struct grpc_method table[] = {
    {.path = "/t.T/Echo", .kind = GRPC_UNARY, .message = echo},
    {.path = "/t.T/Who", .kind = GRPC_UNARY, .message = who},
    {.path = "/t.T/Pieces", .kind = GRPC_BIDI, .message = echo_piece, .half_closed = finish},
    {.path = NULL},
};
static const struct grpc_method *const tables[] = {table, NULL};

struct rig {
    struct grpc_server *server;
    struct metrics *metrics;
    struct tls *tls;
    struct loop *loop;
    pthread_t thread;
    char target[160];
};

static void *run(void *arg)
{
    loop_run(arg);
    return NULL;
}

struct serving {
    const char *cert; /* NULL: ec */
    const char *ca;   /* of clients; NULL: anybody */
    enum tls_version min, max;
    bool local; /* a unix socket */
};

static struct rig *rig_open(const struct serving *how)
{
    static const struct grpc_server_config cfg = {
        .limits = {.recv_bytes_max = 8u << 20, .concurrent_streams_max = 1000},
        .tables = tables,
        .connections_max = 100,
    };
    struct rig *g = xcalloc(1, sizeof(*g));
    char name[32], cert[128], key[128], ca[128];
    struct err_ctx ec = {{0}};
    (void)snprintf(name, sizeof(name), "%s.pem", how->cert != NULL ? how->cert : "server");
    path_of(name, cert);
    (void)snprintf(name, sizeof(name), "%s.key", how->cert != NULL ? how->cert : "server");
    path_of(name, key);
    const struct tls_config tc = {.cert_file = cert,
                                  .key_file = key,
                                  .ca_file = how->ca != NULL ? path_of(how->ca, ca) : NULL,
                                  .min = how->min,
                                  .max = how->max};
    g->metrics = metrics_create();
    struct grpc_server_config c = cfg;
    c.metrics = g->metrics;
    g->server = grpc_server_create(&c);
    assert_int_equal(tls_create(&tc, &g->tls, &ec), OK);
    grpc_server_secure(g->server, g->tls, false);
    if (how->local) {
        char socket_path[128];
        path_of("localhost:1", socket_path);
        assert_int_equal(grpc_server_bind_unix(g->server, socket_path, &ec), OK);
        (void)snprintf(g->target, sizeof(g->target), "unixs://%s", socket_path);
    } else {
        assert_int_equal(grpc_server_bind(g->server, "127.0.0.1", "0", &ec), OK);
        (void)snprintf(g->target, sizeof(g->target), "https://127.0.0.1:%u", grpc_server_port(g->server, 0));
    }
    g->loop = loop_create(0);
    grpc_server_serve(g->server, &g->loop, 1);
    assert_int_equal(pthread_create(&g->thread, NULL, run, g->loop), 0);
    return g;
}

static void rig_close(struct rig *g)
{
    loop_stop(g->loop);
    assert_int_equal(pthread_join(g->thread, NULL), 0);
    loop_destroy(&g->loop);
    grpc_server_destroy(&g->server);
    tls_destroy(&g->tls);
    metrics_destroy(&g->metrics);
    free(g);
}

/* --- who may talk to whom ------------------------------------------------------------------------ */

struct row {
    const char *claim;
    struct serving server;
    struct client_tls tls; /* files by their names in the directory */
    const char *error;     /* part of the text; NULL: it works ... */
    const char *who;       /* ... and the server sees this name */
};

static const struct row rows[] = {
    {"a trusted certificate for the address", {0}, {.ca_file = "ca.pem"}, NULL, ""},
    {"nobody trusts it", {0}, {.ca_file = "other.pem"}, "x509: certificate signed by unknown authority", NULL},
    {"the system does not trust it", {0}, {.ca_file = NULL}, "x509: certificate signed by unknown authority", NULL},
    {"asked not to look", {0}, {.insecure_skip_verify = true}, NULL, ""},
    {"for another host", {.cert = "elsewhere"}, {.ca_file = "ca.pem"}, "failed to verify certificate", NULL},
    {"which is who we want", {.cert = "elsewhere"}, {.ca_file = "ca.pem", .server_name = "elsewhere.test"}, NULL, ""},
    {"a wildcard", {.cert = "elsewhere"}, {.ca_file = "ca.pem", .server_name = "a.wild.test"}, NULL, ""},
    {"a wildcard covers one label", {.cert = "elsewhere"}, {.ca_file = "ca.pem", .server_name = "a.b.wild.test"}, "failed to verify", NULL},
    {"a common name is no host name", {.cert = "common"}, {.ca_file = "ca.pem", .server_name = "common.test"}, "failed to verify", NULL},
    {"its authority's namesake", {.cert = "namesake"}, {.ca_file = "ca.pem"}, NULL, ""},
    {"a namesake for another host", {.cert = "namesake"}, {.ca_file = "ca.pem", .server_name = "elsewhere.test"}, "failed to verify", NULL},
    {"a namesake that nobody trusts", {.cert = "namesake"}, {.ca_file = "other.pem"}, "x509: certificate signed by unknown authority", NULL},
    {"a namesake of another authority of that name", {.cert = "forged"}, {.ca_file = "ca.pem"}, "x509: certificate signed by unknown authority", NULL},
    {"expired", {.cert = "old"}, {.ca_file = "ca.pem"}, "certificate has expired or is not yet valid", NULL},
    {"a client with a name", {.ca = "ca.pem"}, {.ca_file = "ca.pem", .cert_file = "client.pem", .key_file = "client.key"}, NULL, "client"},
    {"TLS 1.2 and a client with a name",
     {.ca = "ca.pem", .max = TLS_1_2},
     {.ca_file = "ca.pem", .cert_file = "client.pem", .key_file = "client.key"},
     NULL,
     "client"},
    {"TLS 1.2 and no certificate where one is wanted", {.ca = "ca.pem", .max = TLS_1_2}, {.ca_file = "ca.pem"}, "handshake failed: remote error", NULL},
    {"TLS 1.3 wanted, 1.2 offered", {.max = TLS_1_2}, {.ca_file = "ca.pem", .min = TLS_1_3}, "remote error: tls: protocol version", NULL},
    {"TLS 1.2 with one suite",
     {.max = TLS_1_2},
     {.ca_file = "ca.pem", .ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384"},
     NULL,
     ""},
    {"TLS 1.2 with a suite that the server's key is not for",
     {.max = TLS_1_2},
     {.ca_file = "ca.pem", .ciphers = "ECDHE-RSA-AES256-GCM-SHA384"},
     "handshake failed",
     NULL},
    {"a unix socket is for what its name says", {.local = true}, {.ca_file = "ca.pem"}, NULL, ""},
    {"a key is missing", {0}, {.ca_file = "ca.pem", .cert_file = "client.pem"}, "KeyFile and CertFile must both be present", NULL},
    {"no such file", {0}, {.ca_file = "nowhere.pem"}, "nowhere.pem", NULL},
};

static enum err connect_row(const struct rig *g, const struct client_tls *t, struct client **c, struct err_ctx *ec)
{
    char ca[128], cert[128], key[128];
    struct client_options o = {.tls = *t};
    o.tls.ca_file = t->ca_file != NULL ? path_of(t->ca_file, ca) : NULL;
    o.tls.cert_file = t->cert_file != NULL ? path_of(t->cert_file, cert) : NULL;
    o.tls.key_file = t->key_file != NULL ? path_of(t->key_file, key) : NULL;
    return client_connect_with(g->target, &o, WAIT_MS, c, ec);
}

static void test_handshakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        print_message("%s\n", r->claim);
        struct rig *g = rig_open(&r->server);
        struct client *c = NULL;
        struct err_ctx ec = {{0}};
        enum err e = connect_row(g, &r->tls, &c, &ec);
        if (r->error != NULL) {
            assert_int_not_equal(e, OK);
            if (strstr(ec.text, r->error) == NULL) {
                assert_string_equal(ec.text, r->error);
            }
            assert_null(c);
        } else {
            struct client_status status = {0};
            struct bytes reply = {0};
            assert_string_equal(e == OK ? "" : ec.text, "");
            assert_int_equal(client_call(c, "/t.T/Who", slice_str("?"), WAIT_MS, &status, &reply), OK);
            assert_int_equal(status.code, 0);
            assert_true(slice_eq(bytes_slice(&reply), slice_str(r->who)));
            bytes_deinit(&reply);
        }
        client_close(&c);
        rig_close(g);
    }
}

/* TLS 1.3 lets a client believe that all is well until it reads. */
static void test_refused_after_the_handshake(void **state)
{
    (void)state;
    const struct serving how = {.ca = "ca.pem", .min = TLS_1_3};
    const struct client_tls nobody = {.ca_file = "ca.pem"};
    struct rig *g = rig_open(&how);
    struct client *c = NULL;
    struct err_ctx ec = {{0}};
    struct client_status status = {0};
    struct bytes reply = {0};
    assert_int_equal(connect_row(g, &nobody, &c, &ec), OK);
    assert_int_equal(client_call(c, "/t.T/Who", slice_str("?"), WAIT_MS, &status, &reply), OK);
    assert_int_equal(status.code, CLIENT_CODE_UNAVAILABLE);
    assert_string_equal(status.text, "remote error: tls: certificate required");
    assert_false(client_usable(c));
    client_close(&c);
    rig_close(g);
}

/* --- bytes --------------------------------------------------------------------------------------- */

struct tally {
    unsigned n;
};

static void count(void *arg, const struct client_status *status, struct slice reply)
{
    struct tally *t = arg;
    assert_int_equal(status->code, 0);
    assert_int_equal(reply.len, 1000);
    t->n++;
}

static void *use(void *arg)
{
    const struct client_tls trusting = {.ca_file = "ca.pem"};
    uint8_t small[1000] = {7};
    struct tally t = {0};
    struct client *c = NULL;
    struct err_ctx ec = {{0}};
    ASSERT(connect_row(arg, &trusting, &c, &ec) == OK);
    for (unsigned i = 0; i < CALLS; i++) {
        ASSERT(client_submit(c, "/t.T/Echo", slice_of(small, sizeof(small)), WAIT_MS, count, &t) == OK);
    }
    while (client_in_flight(c) > 0) {
        ASSERT(client_pump(c, WAIT_MS) == OK);
    }
    client_close(&c);
    ASSERT(t.n == CALLS);
    return NULL;
}

static void test_many_clients(void **state)
{
    (void)state;
    const struct serving how = {0};
    struct rig *g = rig_open(&how);
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use, g), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    rig_close(g);
}

/* More than anything on the way takes at once, both ways at the same time: each side has to go on reading while it cannot write. */
static void test_big_messages(void **state)
{
    (void)state;
    const struct serving how = {0};
    const struct client_tls trusting = {.ca_file = "ca.pem"};
    struct rig *g = rig_open(&how);
    struct client *c = NULL;
    struct client_stream *s = NULL;
    struct err_ctx ec = {{0}};
    struct bytes got = {0};
    uint8_t *big = xalloc(BIG_BYTES);
    for (size_t i = 0; i < BIG_BYTES; i++) {
        big[i] = (uint8_t)(i * 7 + i / 16384);
    }
    assert_int_equal(connect_row(g, &trusting, &c, &ec), OK);
    assert_int_equal(client_stream_open(c, "/t.T/Pieces", &s), OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(client_stream_send(s, slice_of(big, BIG_BYTES)), OK);
    }
    assert_int_equal(client_stream_half_close(s), OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(client_stream_recv(s, WAIT_MS, &got), OK);
        assert_int_equal(got.len, BIG_BYTES);
        assert_memory_equal(got.data, big, BIG_BYTES);
    }
    assert_int_equal(client_stream_recv(s, WAIT_MS, &got), ERR_END);
    client_stream_close(&s);
    client_close(&c);
    bytes_deinit(&got);
    free(big);
    rig_close(g);
}

/* --- servers that say nothing ---------------------------------------------------------------------- */

/* A listener whose connections the kernel accepts and nobody serves. */
static int silent(char target[64], const char *scheme)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    (void)snprintf(target, 64, "%s127.0.0.1:%u", scheme, ntohs(a.sin_port));
    return fd;
}

static void test_handshake_deadline(void **state)
{
    (void)state;
    char target[64];
    struct client *c = NULL;
    struct err_ctx ec = {{0}};
    int fd = silent(target, "https://");
    assert_int_equal(client_connect(target, 50, &c, &ec), ERR_DEADLINE);
    assert_null(c);
    const struct client_options all = {.secure = true};
    assert_int_equal(client_connect_with(target + strlen("https://"), &all, 50, &c, &ec), ERR_DEADLINE);
    (void)close(fd);
}

static void test_keepalive(void **state)
{
    (void)state;
    const struct client_options o = {.keepalive_ms = 20, .keepalive_timeout_ms = 60};
    char target[64];
    struct client *c = NULL;
    struct err_ctx ec = {{0}};
    struct client_status status = {0};
    struct bytes reply = {0};
    int fd = silent(target, "");
    assert_int_equal(client_connect_with(target, &o, WAIT_MS, &c, &ec), OK);
    assert_int_equal(client_pump(c, 150), ERR_DEADLINE); /* nothing to keep alive for */
    assert_int_equal(client_call(c, "/t.T/Echo", slice_str("?"), WAIT_MS, &status, &reply), OK);
    assert_int_equal(status.code, CLIENT_CODE_UNAVAILABLE);
    assert_string_equal(status.text, "keepalive ping failed to receive ACK within timeout");
    client_close(&c);
    (void)close(fd);

    struct fake_server *f = fake_server_start();
    assert_int_equal(client_connect_with(fake_server_target(f), &o, WAIT_MS, &c, &ec), OK);
    assert_int_equal(client_call(c, "/t.T/Never", slice_str("?"), 400, &status, &reply), OK);
    assert_int_equal(status.code, CLIENT_CODE_DEADLINE); /* the server lived all the time */
    assert_true(client_usable(c));
    client_close(&c);
    fake_server_stop(&f);
}

/* --- certificates ---------------------------------------------------------------------------------- */

static int make_certs(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/pintle-client-XXXXXX");
    ASSERT(mkdtemp(dir) != NULL);
    struct authority root = certs_authority("root", NULL);
    struct authority other = certs_authority("other", NULL);
    const struct cert_spec server = {.name = "s", .sans = "IP:127.0.0.1,DNS:localhost"};
    const struct cert_spec elsewhere = {.sans = "DNS:elsewhere.test,DNS:*.wild.test"};
    const struct cert_spec common = {.name = "common.test"};
    const struct cert_spec old = {.sans = "IP:127.0.0.1", .from_days = -3, .to_days = -1};
    const struct cert_spec namesake = {.name = "root", .sans = "IP:127.0.0.1"};
    const struct cert_spec client = {.name = "client", .usage = "clientAuth"};
    certs_write_authority(dir, "ca", &root, NULL);
    certs_write_authority(dir, "other", &other, NULL);
    certs_make(dir, "server", &server, &root, NULL);
    certs_make(dir, "elsewhere", &elsewhere, &root, NULL);
    certs_make(dir, "common", &common, &root, NULL);
    certs_make(dir, "old", &old, &root, NULL);
    certs_make(dir, "client", &client, &root, NULL);
    certs_make(dir, "namesake", &namesake, &root, NULL);
    struct authority forger = certs_authority("root", NULL);
    certs_make(dir, "forged", &namesake, &forger, NULL);
    certs_authority_free(&forger);
    certs_authority_free(&root);
    certs_authority_free(&other);
    return 0;
}

static int remove_certs(void **state)
{
    (void)state;
    static const char *const names[] = {"ca", "other", "server", "elsewhere", "common", "old", "client", "namesake", "forged"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char file[32], path[128];
        (void)snprintf(file, sizeof(file), "%s.pem", names[i]);
        (void)unlink(path_of(file, path));
        (void)snprintf(file, sizeof(file), "%s.key", names[i]);
        (void)unlink(path_of(file, path));
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshakes),   cmocka_unit_test(test_refused_after_the_handshake), cmocka_unit_test(test_many_clients),
        cmocka_unit_test(test_big_messages), cmocka_unit_test(test_handshake_deadline),          cmocka_unit_test(test_keepalive),
    };
    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
