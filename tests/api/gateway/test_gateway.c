/* Whole exchanges through memory: an HTTP/1.1 client on one side, services of the test's own under etcd's names on the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/gateway/gateway.h"
#include "api/gateway/limits.h"
#include "api/grpc/call.h"
#include "base/mem.h"
#include "base/wire.h"
#include "tests/api/http/mem_conn.h"

#define BIG_KVS 3000u
#define BIG_VALUE 1000u

struct scene {
    struct loop *loop;
    struct grpc_server *server;
    struct http_config http;
    struct hub hub;
    struct mem_conn mc;
    /* What the services saw. */
    unsigned n_messages, n_half_closed, n_ended, n_drained;
    size_t pulled; /* of the big reply */
    char seen[256]; /* metadata */
    struct grpc_call *kept;
};

static struct scene *scene_of(struct grpc_call *c)
{
    return grpc_call_service(c);
}

/* --- services ---------------------------------------------------------------------------------------------------- */

static void saw(struct grpc_call *c)
{
    static const char *const keys[] = {"token", "authorization", "hasleader", "client-api-version", "grpcgateway-accept"};
    struct scene *s = scene_of(c);
    s->n_messages++;
    s->seen[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct slice v = grpc_call_metadata(c, keys[i]);
        size_t n = strlen(s->seen);
        (void)snprintf(s->seen + n, sizeof(s->seen) - n, "%s=%.*s;", keys[i], (int)v.len, v.len == 0 ? "" : (const char *)v.data);
    }
}

static void on_ended(struct grpc_call *c)
{
    scene_of(c)->n_ended++;
}

static void on_draining(struct grpc_call *c)
{
    scene_of(c)->n_drained++;
    grpc_finish(c, GRPC_UNAVAILABLE, "etcdserver: server stopped");
}

/* A PutResponse with a previous pair whose value is the request. */
static void put(struct grpc_call *c, struct slice m)
{
    struct bytes kv = {0}, b = {0};
    saw(c);
    wire_add_bytes(&kv, 5, m);
    wire_add_message(&b, 2, bytes_slice(&kv));
    struct slice reply = bytes_slice(&b);
    grpc_reply(c, &reply, 1);
    bytes_deinit(&kv);
    bytes_deinit(&b);
}

static void refuse(struct grpc_call *c, struct slice m)
{
    (void)m;
    saw(c);
    grpc_finish(c, GRPC_UNAUTHENTICATED, "etcdserver: \"invalid\"\nauth token");
}

static void keep(struct grpc_call *c, struct slice m)
{
    (void)m;
    saw(c);
    scene_of(c)->kept = c;
}

static void no_message(struct grpc_call *c, struct slice m)
{
    struct slice bad = slice_str("\x0a\x7f");
    (void)m;
    saw(c);
    grpc_reply(c, &bad, 1);
}

/* A range of BIG_KVS pairs that is made while it is taken. */
struct big {
    struct grpc_source source;
    struct scene *scene;
    struct grpc_call *call;
    struct bytes one;
    size_t at;
    unsigned left;
    bool breaks;
};

static size_t big_pull(struct grpc_source *source, uint8_t *dst, size_t room)
{
    struct big *b = CONTAINER_OF(source, struct big, source);
    if (b->breaks && b->left < BIG_KVS / 2) {
        grpc_abort(b->call, GRPC_DATA_LOSS);
        return 0;
    }
    size_t n = b->one.len - b->at < room ? b->one.len - b->at : room;
    memcpy(dst, b->one.data + b->at, n);
    b->at += n;
    b->scene->pulled += n;
    if (b->at == b->one.len) {
        b->at = 0;
        b->left--;
    }
    return n;
}

static void big_release(struct grpc_source *source)
{
    struct big *b = CONTAINER_OF(source, struct big, source);
    bytes_deinit(&b->one);
    free(b);
}

static void range(struct grpc_call *c, struct slice m)
{
    static const uint8_t value[BIG_VALUE];
    struct bytes kv = {0};
    saw(c);
    struct big *b = xcalloc(1, sizeof(*b));
    b->source = (struct grpc_source){.pull = big_pull, .release = big_release};
    b->scene = scene_of(c);
    b->call = c;
    b->left = BIG_KVS;
    b->breaks = m.len > 0;
    wire_add_bytes(&kv, 5, slice_of(value, sizeof(value)));
    wire_add_message(&b->one, 2, bytes_slice(&kv));
    bytes_deinit(&kv);
    uint64_t len = (uint64_t)b->one.len * BIG_KVS;
    grpc_send_source(c, len, &b->source);
    grpc_finish(c, GRPC_OK, NULL);
}

/* Streams: each request is answered by a response with the number of requests so far. */
static void echo(struct grpc_call *c, struct slice m)
{
    struct bytes b = {0};
    saw(c);
    (void)m;
    wire_add_int(&b, 2, scene_of(c)->n_messages);
    struct slice reply = bytes_slice(&b);
    grpc_send(c, &reply, 1);
    bytes_deinit(&b);
}

static void keepalive_half_closed(struct grpc_call *c)
{
    scene_of(c)->n_half_closed++;
    grpc_finish(c, GRPC_OK, NULL);
}

static void watch_half_closed(struct grpc_call *c)
{
    struct scene *s = scene_of(c);
    s->n_half_closed++;
    s->kept = c;
}

static const struct grpc_method rows[] = {
    {.path = "/etcdserverpb.KV/Put", .kind = GRPC_UNARY, .message = put, .ended = on_ended},
    {.path = "/etcdserverpb.KV/Range", .kind = GRPC_UNARY, .message = range, .ended = on_ended},
    {.path = "/etcdserverpb.KV/DeleteRange", .kind = GRPC_UNARY, .message = refuse, .ended = on_ended},
    {.path = "/etcdserverpb.KV/Txn", .kind = GRPC_UNARY, .message = no_message, .ended = on_ended},
    {.path = "/v3lockpb.Lock/Lock", .kind = GRPC_UNARY, .message = keep, .draining = on_draining, .ended = on_ended},
    {.path = "/etcdserverpb.Watch/Watch", .kind = GRPC_BIDI, .message = echo, .half_closed = watch_half_closed, .draining = on_draining, .ended = on_ended},
    {.path = "/etcdserverpb.Lease/LeaseKeepAlive", .kind = GRPC_BIDI, .message = echo, .half_closed = keepalive_half_closed, .ended = on_ended},
    {.path = "/etcdserverpb.Maintenance/Snapshot", .kind = GRPC_SERVER_STREAM, .message = refuse, .ended = on_ended},
    {.path = NULL},
};

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct scene *s = arg;
    gateway_handle(s->server, x, r);
}

/* --- the scene ---------------------------------------------------------------------------------------------------- */

static int open_scene(void **state)
{
    struct scene *s = xcalloc(1, sizeof(*s));
    struct grpc_method *table = xcalloc(ARRAY_LEN(rows), sizeof(*table));
    memcpy(table, rows, sizeof(rows));
    for (size_t i = 0; table[i].path != NULL; i++) {
        table[i].service = s;
    }
    const struct grpc_method **tables = xcalloc(2, sizeof(struct grpc_method *));
    tables[0] = table;
    s->loop = loop_create(0);
    struct grpc_server_config cfg = {.limits = {.recv_bytes_max = 4096}, .tables = tables, .http = {.handle = handle, .arg = s}};
    s->server = grpc_server_create(&cfg);
    grpc_http_config(s->server, &s->http);
    hub_init(&s->hub, s->loop, &s->http);
    mem_open(&s->mc, &s->hub);
    *state = s;
    return 0;
}

static void close_hub(struct scene *s)
{
    if (s->hub.loop != NULL) {
        hub_deinit(&s->hub);
        s->hub.loop = NULL;
    }
}

static int close_scene(void **state)
{
    struct scene *s = *state;
    const struct grpc_method *const *tables = server_config(s->server)->tables;
    close_hub(s);
    loop_destroy(&s->loop);
    free((void *)(uintptr_t)tables[0]);
    free((void *)(uintptr_t)tables);
    grpc_server_destroy(&s->server);
    bytes_deinit(&s->mc.out);
    free(s);
    return 0;
}

static void turn(struct scene *s)
{
    for (unsigned i = 0; i < 20; i++) {
        hub_flush(&s->hub);
        mem_unblock(&s->mc);
    }
}

static void post(struct scene *s, const char *path, const char *headers, const char *body)
{
    struct bytes b = {0};
    bytes_printf(&b, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s", path, headers, strlen(body), body);
    conn_input(&s->mc.conn, bytes_slice(&b));
    bytes_deinit(&b);
}

/* What has come, as text, without the date. */
static const char *came(struct scene *s)
{
    bytes_add(&s->mc.out, "", 1);
    s->mc.out.len--;
    char *text = (char *)s->mc.out.data;
    char *date = strstr(text, "Date: ");
    if (date != NULL) {
        char *end = strstr(date, "\r\n") + 2;
        memmove(date, end, strlen(end) + 1);
    }
    return text;
}

static void ask(struct scene *s, const char *path, const char *headers, const char *body)
{
    bytes_reset(&s->mc.out);
    post(s, path, headers, body);
    turn(s);
}

/* --- cases ------------------------------------------------------------------------------------------------------------ */

/* Cut a reply into its head, without the length, and its body, whose announced lengths are checked. */
static void split(const char *reply, struct bytes *head, struct bytes *body)
{
    const char *end = strstr(reply, "\r\n\r\n");
    assert_non_null(end);
    const char *rest = end + 4;
    const char *length = strstr(reply, "Content-Length: ");
    bytes_reset(head);
    bytes_reset(body);
    bytes_add(head, reply, (size_t)((length != NULL ? length : end + 2) - reply));
    bytes_add(head, "", 1);
    if (length != NULL) {
        assert_int_equal(strtoul(length + 16, NULL, 10), strlen(rest));
        bytes_add(body, rest, strlen(rest) + 1);
        return;
    }
    assert_non_null(strstr((const char *)head->data, "Transfer-Encoding: chunked\r\n"));
    for (size_t n = 1; n > 0;) {
        char *at;
        n = strtoul(rest, &at, 16);
        assert_memory_equal(at, "\r\n", 2);
        bytes_add(body, at + 2, n);
        assert_memory_equal(at + 2 + n, "\r\n", 2);
        rest = at + 2 + n + 2;
    }
    assert_int_equal(*rest, '\0');
    bytes_add(body, "", 1);
}

#define JSON "Content-Type: application/json\r\n"
#define OK_HEAD "HTTP/1.1 200 OK\r\nGrpc-Metadata-Content-Type: application/grpc\r\n" JSON
#define CHUNKED "Transfer-Encoding: chunked\r\n"

static const struct {
    const char *name, *path, *headers, *request, *head, *body;
} whole[] = {
    {"a reply", "/v3/kv/put", "", "{\"key\":\"Zm9v\"}", OK_HEAD, "{\"prev_kv\":{\"value\":\"CgNmb28=\"}}"},
    {"the old path", "/v3beta/kv/put", "", "{}", OK_HEAD, "{\"prev_kv\":{}}"},
    {"no body", "/v3/kv/put", "", "", OK_HEAD, "{\"prev_kv\":{}}"},
    {"an error of the service", "/v3/kv/deleterange", "", "{}",
     "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: etcdserver: \"invalid\" auth token\r\n" JSON,
     "{\"code\":16,\"message\":\"etcdserver: \\\"invalid\\\"\\nauth token\"}"},
    {"a body that is no JSON", "/v3/kv/put", "", "{", "HTTP/1.1 400 Bad Request\r\n" JSON, "{\"code\":3,\"message\":\"unexpected EOF\"}"},
    {"no such path", "/v3/kv/steal", "", "{}", "HTTP/1.1 404 Not Found\r\n" JSON, "{\"code\":5,\"message\":\"Not Found\"}"},
    {"a path whose service this server of the test does not have", "/v3/auth/enable", "", "{}", "HTTP/1.1 501 Not Implemented\r\n" JSON,
     "{\"code\":12,\"message\":\"unknown service etcdserverpb.Auth\"}"},
    {"a timeout that is none", "/v3/kv/put", "Grpc-Timeout: 5x\r\n", "{}", "HTTP/1.1 400 Bad Request\r\n" JSON,
     "{\"code\":3,\"message\":\"invalid grpc-timeout: 5x\"}"},
    {"a timeout that is over", "/v3/kv/put", "Grpc-Timeout: -5S\r\n", "{}", "HTTP/1.1 504 Gateway Timeout\r\n" JSON,
     "{\"code\":4,\"message\":\"context deadline exceeded\"}"},
    {"a timeout of nothing is none", "/v3/kv/put", "Grpc-Timeout: 0S\r\n", "", OK_HEAD, "{\"prev_kv\":{}}"},
    {"a reply that is no message", "/v3/kv/txn", "", "{}", "HTTP/1.1 500 Internal Server Error\r\n" JSON,
     "{\"code\":13,\"message\":\"the reply is no message\"}"},
    {"a stream that ends at once", "/v3/lease/keepalive", "", "", "HTTP/1.1 200 OK\r\n" CHUNKED, ""},
    {"a stream of two", "/v3/lease/keepalive", "", "{\"ID\":1} {\"ID\":2}", OK_HEAD CHUNKED,
     "{\"result\":{\"ID\":\"1\"}}\n{\"result\":{\"ID\":\"2\"}}\n"},
    {"a stream ends where its body is no JSON", "/v3/lease/keepalive", "", "{\"ID\":1} x {\"ID\":2}", OK_HEAD CHUNKED,
     "{\"result\":{\"ID\":\"1\"}}\n"},
    {"a stream that fails before its first message", "/v3/maintenance/snapshot", "", "{}", "HTTP/1.1 401 Unauthorized\r\n" JSON CHUNKED,
     "{\"error\":{\"code\":16,\"message\":\"etcdserver: \\\"invalid\\\"\\nauth token\"}}\n"},
};

static void test_whole(void **state)
{
    struct scene *s = *state;
    struct bytes head = {0}, body = {0};
    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        s->n_messages = 0;
        ask(s, whole[i].path, whole[i].headers, whole[i].request);
        split(came(s), &head, &body);
        if (strcmp((const char *)head.data, whole[i].head) != 0 || strcmp((const char *)body.data, whole[i].body) != 0) {
            fail_msg("%s:\n%s%s", whole[i].name, (const char *)head.data, (const char *)body.data);
        }
    }
    assert_false(s->mc.closed);
    bytes_deinit(&head);
    bytes_deinit(&body);
}

static void test_other_methods(void **state)
{
    struct scene *s = *state;
    static const char get[] = "GET /v3/kv/put HTTP/1.1\r\nHost: x\r\n\r\n";
    conn_input(&s->mc.conn, slice_str(get));
    turn(s);
    assert_non_null(strstr(came(s), "HTTP/1.1 501 Not Implemented\r\n"));
    assert_non_null(strstr(came(s), "{\"code\":12,\"message\":\"Method Not Allowed\"}"));
}

static void test_metadata(void **state)
{
    struct scene *s = *state;
    static const struct {
        const char *headers, *seen;
    } rows_seen[] = {
        {"", "token=;authorization=;hasleader=;client-api-version=;grpcgateway-accept=*/*;"},
        {"Authorization: Bearer abc\r\n", "token=;authorization=Bearer abc;hasleader=;client-api-version=;grpcgateway-accept=*/*;"},
        {"grpc-metadata-token: t\r\nGrpc-Metadata-hasleader: true\r\nGrpc-Metadata-Client-Api-Version: 3.7\r\n",
         "token=t;authorization=;hasleader=true;client-api-version=3.7;grpcgateway-accept=*/*;"},
        {"Grpc-Metadata-Authorization: a\r\n", "token=;authorization=a;hasleader=;client-api-version=;grpcgateway-accept=*/*;"},
        {"Token: t\r\nGrpc-Metadata-Token: \xc3\xa9\r\n", "token=;authorization=;hasleader=;client-api-version=;grpcgateway-accept=*/*;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows_seen); i++) {
        ask(s, "/v3/kv/put", rows_seen[i].headers, "{}");
        assert_string_equal(s->seen, rows_seen[i].seen);
    }
}

static void test_request_too_large(void **state)
{
    struct scene *s = *state;
    struct bytes b = {0};
    bytes_add_str(&b, "{\"value\":\"");
    for (unsigned i = 0; i < 2000; i++) {
        bytes_add_str(&b, "AAAA");
    }
    bytes_add(&b, "\"}", 3);
    ask(s, "/v3/kv/put", "", (const char *)b.data);
    bytes_deinit(&b);
    assert_non_null(strstr(came(s), "HTTP/1.1 429 Too Many Requests\r\n"));
    assert_non_null(strstr(came(s), "{\"code\":8,\"message\":\"grpc: received message larger than max (6003 vs. 4096)\"}"));
    assert_int_equal(s->n_messages, 0);
}

/* A reply far larger than what may wait is made only as fast as the client takes it. */
static void test_slow_reader(void **state)
{
    struct scene *s = *state;
    s->mc.room = 1000;
    bytes_reset(&s->mc.out);
    post(s, "/v3/kv/range", "", "{}");
    hub_flush(&s->hub);
    for (unsigned i = 0; i < 10; i++) {
        hub_flush(&s->hub);
    }
    size_t pulled = s->pulled;
    assert_true(pulled < 2 * GATEWAY_QUEUE_BYTES);
    for (unsigned i = 0; i < 10; i++) {
        hub_flush(&s->hub);
    }
    assert_int_equal(s->pulled, pulled);
    assert_int_equal(s->n_ended, 0);
    s->mc.room = SIZE_MAX;
    for (unsigned i = 0; i < 200; i++) {
        mem_unblock(&s->mc);
        hub_flush(&s->hub);
    }
    assert_int_equal(s->n_ended, 1);
    struct bytes head = {0}, body = {0};
    split(came(s), &head, &body);
    assert_string_equal((const char *)head.data, OK_HEAD CHUNKED);
    unsigned n = 0;
    for (const char *p = (const char *)body.data; (p = strstr(p, "{\"value\":\"")) != NULL; p++) {
        n++;
    }
    assert_int_equal(n, BIG_KVS);
    assert_string_equal((const char *)body.data + body.len - 5, "\"}]}");
    bytes_deinit(&head);
    bytes_deinit(&body);
}

/* A frame of a client's message, masked with zeros. */
static void send_frame(struct scene *s, uint8_t first, const char *fill, size_t n)
{
    struct bytes b = {0};
    const uint8_t small[] = {first, 0x80 | (uint8_t)n, 0, 0, 0, 0};
    const uint8_t large[] = {first, 0xff, 0, 0, 0, 0, 0, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, 0, 0, 0, 0};
    bytes_add(&b, n < 126 ? small : large, n < 126 ? sizeof(small) : sizeof(large));
    memset(bytes_reserve(&b, n), ' ', n);
    memcpy(b.data + b.len, fill, strlen(fill));
    b.len += n;
    conn_input(&s->mc.conn, bytes_slice(&b));
    bytes_deinit(&b);
    turn(s);
}

/* What a socket brought and is no whole value yet counts among what its connection makes us hold. */
static void test_what_it_keeps_is_counted(void **state)
{
    struct scene *s = *state;
    const size_t n = 200000;
    conn_input(&s->mc.conn, slice_str("GET /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"));
    turn(s);
    assert_non_null(strstr(came(s), "101 Switching Protocols"));
    size_t idle = s->hub.held;
    assert_in_range(idle, 1, 1000);
    send_frame(s, 0x01, "{", n);
    assert_in_range(s->hub.held, n, 3 * n);
    send_frame(s, 0x00, "", n);
    assert_in_range(s->hub.held, 2 * n, 5 * n);
    send_frame(s, 0x80, "}", 1);
    assert_int_equal(s->n_messages, 1);
    assert_in_range(s->hub.held, idle, idle + 1000);
    send_frame(s, 0x01, "{", n);
    conn_eof(&s->mc.conn);
    turn(s);
    assert_true(s->mc.closed);
    assert_int_equal(s->hub.held, 0);
}

/* What breaks in the middle must not look whole. */
static void test_breaks_halfway(void **state)
{
    struct scene *s = *state;
    bytes_reset(&s->mc.out);
    post(s, "/v3/kv/range", "", "{\"limit\":1}");
    turn(s);
    turn(s);
    assert_true(s->mc.closed);
    assert_int_equal(s->n_ended, 1);
    assert_null(strstr(came(s), "\r\n0\r\n\r\n"));
}

static void test_client_leaves(void **state)
{
    struct scene *s = *state;
    post(s, "/v3/lock/lock", "", "{}");
    turn(s);
    assert_non_null(s->kept);
    assert_int_equal(s->n_ended, 0);
    conn_eof(&s->mc.conn);
    turn(s);
    assert_int_equal(s->n_ended, 1);
    assert_true(s->mc.closed);
}

static void test_client_leaves_a_stream(void **state)
{
    struct scene *s = *state;
    post(s, "/v3/watch", "", "{\"create_request\":{}}");
    turn(s);
    assert_int_equal(s->n_half_closed, 1);
    assert_int_equal(s->n_ended, 0);
    assert_non_null(strstr(came(s), "{\"result\":{\"watch_id\":\"1\"}}\n"));
    conn_eof(&s->mc.conn);
    turn(s);
    assert_int_equal(s->n_ended, 1);
}

static void test_deadline(void **state)
{
    struct scene *s = *state;
    ask(s, "/v3/lock/lock", "Grpc-Timeout: 100m\r\n", "{}");
    assert_int_equal(s->mc.out.len, 0);
    loop_skip(s->loop, 101);
    turn(s);
    assert_non_null(strstr(came(s), "HTTP/1.1 504 Gateway Timeout\r\n"));
    assert_int_equal(s->n_ended, 1);
    assert_false(s->mc.closed);
}

/* An error behind the first message comes as a last line. */
static void test_stream_fails_later(void **state)
{
    struct scene *s = *state;
    ask(s, "/v3/watch", "", "{}");
    grpc_finish(s->kept, GRPC_UNAVAILABLE, "etcdserver: no leader");
    turn(s);
    const char *text = came(s);
    assert_int_equal(strncmp(text, "HTTP/1.1 200 OK\r\n", 17), 0);
    assert_non_null(strstr(text, "{\"error\":{\"code\":14,\"message\":\"etcdserver: no leader\"}}\n\r\n0\r\n\r\n"));
}

static void test_server_goes_down(void **state)
{
    struct scene *s = *state;
    ask(s, "/v3/watch", "", "{}");
    hub_drain(&s->hub);
    turn(s);
    assert_int_equal(s->n_drained, 1);
    assert_int_equal(s->n_ended, 1);
    assert_non_null(strstr(came(s), "{\"error\":{\"code\":14,\"message\":\"etcdserver: server stopped\"}}\n"));
}

/* The loop goes while calls are open: all end, and none can be opened any more. */
static void test_loop_goes(void **state)
{
    struct scene *s = *state;
    post(s, "/v3/lock/lock", "", "{}");
    hub_flush(&s->hub);
    close_hub(s);
    assert_int_equal(s->n_ended, 1);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, open_scene, close_scene)
    const struct CMUnitTest tests[] = {
        CASE(test_whole),         CASE(test_other_methods), CASE(test_metadata),           CASE(test_request_too_large), CASE(test_slow_reader), CASE(test_what_it_keeps_is_counted),
        CASE(test_breaks_halfway), CASE(test_client_leaves), CASE(test_client_leaves_a_stream), CASE(test_deadline), CASE(test_stream_fails_later),
        CASE(test_server_goes_down), CASE(test_loop_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
