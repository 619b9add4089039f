/* Rules of single calls: heads, messages, statuses, deadlines. */
#include "tests/api/grpc/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <zlib.h>

static int open_world(void **state)
{
    *state = world_open(NULL);
    return 0;
}

static int close_world(void **state)
{
    world_close((struct world **)state);
    return 0;
}

static void test_unary_reply_is_headers_data_trailers(void **state)
{
    struct world *w = *state;
    struct reply *r = world_call(w, "/t.S/Echo", "hello");
    assert_string_equal(r->http_status, "200");
    assert_string_equal(r->content_type, "application/grpc");
    assert_string_equal(r->status, "0");
    assert_int_equal(r->n_heads, 2);
    assert_int_equal(r->n_data, 1);
    assert_int_equal(r->body.len, 10);
    assert_memory_equal(r->body.data, "\0\0\0\0\5hello", 10);
    assert_true(r->closed);
    assert_int_equal(r->error, 0);
    assert_int_equal(w->n_ended, 1);
    assert_int_equal(w->n_admitted, 1);
}

static void test_empty_message_is_a_message(void **state)
{
    struct world *w = *state;
    struct reply *r = world_call(w, "/t.S/Echo", "");
    assert_string_equal(r->status, "0");
    assert_int_equal(r->body.len, 5);
    assert_int_equal(w->n_messages, 1);
}

static void test_status_text_is_percent_encoded_and_trailers_only(void **state)
{
    struct reply *r = world_call(*state, "/t.S/Fail", "x");
    assert_string_equal(r->status, "9");
    assert_string_equal(r->message, "100%25 wrong%0A%C3%A9");
    assert_int_equal(r->n_heads, 1);
    assert_int_equal(r->n_data, 0);
}

static void test_message_in_single_bytes(void **state)
{
    struct world *w = *state;
    uint8_t f[64];
    size_t n = world_frame(f, "slowly", 6);
    struct reply *r = world_request(w, "/t.S/Echo", NULL, 0, f, 1, true);
    world_turn(w);
    for (size_t i = 1; i < n; i++) {
        assert_int_equal(w->n_messages, 0);
        world_add(w, r, f + i, 1, i + 1 < n);
    }
    assert_string_equal(r->status, "0");
    assert_int_equal(r->body.len, n);
}

struct head_case {
    const char *claim;
    const char *path;
    const char *name, *value; /* one header more, or instead */
    const char *http_status, *status, *message;
};

static const struct head_case head_cases[] = {
    {"an unknown service is unimplemented", "/no.Such/Echo", NULL, NULL, "200", "12",
     "unknown service no.Such"},
    {"an unknown method names its service", "/t.S/Nope", NULL, NULL, "200", "12",
     "unknown method Nope for service t.S"},
    {"a prefix of a service is not the service", "/t/Echo", NULL, NULL, "200", "12",
     "unknown service t"},
    {"a path of one part is malformed", "/Echo", NULL, NULL, "200", "12",
     "malformed method name: \"/Echo\""},
    {"the last slash parts service and method", "/a/b/C", NULL, NULL, "200", "12",
     "unknown service a/b"},
    {"another content type is no gRPC", "/t.S/Echo", "content-type", "text/plain", "415", "3",
     "invalid gRPC request content-type \"text/plain\""},
    {"a longer word is no gRPC", "/t.S/Echo", "content-type", "application/grpc-web", "415", "3",
     "invalid gRPC request content-type \"application/grpc-web\""},
    {"a subtype is gRPC", "/t.S/Echo", "content-type", "application/grpc+proto", "200", "0", ""},
    {"only POST is served", "/t.S/Echo", ":method", "GET", "405", "13",
     "Received a HEADERS frame with :method \"GET\" which should be POST"},
    {"an encoding that is not known is unimplemented", "/t.S/Echo", "grpc-encoding", "snappy", "200", "12",
     "grpc: Decompressor is not installed for grpc-encoding \"snappy\""},
    {"with gzip a message may still come as it is", "/t.S/Echo", "grpc-encoding", "gzip", "200", "0", ""},
    {"identity is no compression", "/t.S/Echo", "grpc-encoding", "identity", "200", "0", ""},
    {"a timeout needs a unit", "/t.S/Echo", "grpc-timeout", "10x", "400", "13",
     "malformed grpc-timeout: transport: timeout unit is not recognized: \"10x\""},
    {"a timeout is a number", "/t.S/Echo", "grpc-timeout", "-1S", "400", "13",
     "malformed grpc-timeout: strconv.ParseUint: parsing \"-1\": invalid syntax"},
    {"a timeout has at most eight digits", "/t.S/Echo", "grpc-timeout", "123456789S", "400", "13",
     "malformed grpc-timeout: transport: timeout string is too long: \"123456789S\""},
    {"a timeout of nothing is over", "/t.S/Echo", "grpc-timeout", "0m", "200", "4",
     "context deadline exceeded"},
    {"a timeout in the future does no harm", "/t.S/Echo", "grpc-timeout", "1S", "200", "0", ""},
};

static void test_heads(void **state)
{
    struct world *w = *state;
    uint8_t f[16];
    size_t n = world_frame(f, "abc", 3);
    for (size_t i = 0; i < ARRAY_LEN(head_cases); i++) {
        const struct head_case *c = &head_cases[i];
        const char *more[] = {c->name, c->value};
        struct reply *r = world_request(w, c->path, more, c->name == NULL ? 0 : 1, f, n, false);
        world_turn(w);
        if (strcmp(r->http_status, c->http_status) != 0 || strcmp(r->status, c->status) != 0 ||
            strcmp(r->message, c->message) != 0 || !r->closed) {
            fail_msg("%s: got %s, %s, '%s'", c->claim, r->http_status, r->status, r->message);
        }
    }
    assert_false(w->mc.closed);
}

struct body_case {
    const char *claim;
    const char *path;
    const char *body;
    size_t len;
    const char *status, *message;
};

static const struct body_case body_cases[] = {
    {"unary without a message", "/t.S/Echo", "", 0, "2", "EOF"},
    {"unary cut in the frame head", "/t.S/Echo", "\0\0", 2, "2", "unexpected EOF"},
    {"unary cut in the message", "/t.S/Echo", "\0\0\0\0\3ab", 7, "2", "unexpected EOF"},
    {"a stream cut in the message", "/t.S/Bidi", "\0\0\0\0\3ab", 7, "13", "unexpected EOF"},
    {"a server stream without a message", "/t.S/Count", "", 0, "13",
     "cardinality violation: received no request message from non-client-streaming RPC"},
    {"a bidirectional stream without a message is fine", "/t.S/Bidi", "", 0, "0", ""},
    {"a message over the bound", "/t.S/Echo", "\0\0\0\x10\1", 5, "8",
     "grpc: received message larger than max (4097 vs. 4096)"},
    {"the largest length there is", "/t.S/Echo", "\0\xff\xff\xff\xff", 5, "8",
     "grpc: received message larger than max (4294967295 vs. 4096)"},
    {"a compressed flag without an encoding", "/t.S/Echo", "\1\0\0\0\1x", 6, "13",
     "grpc: compressed flag set with identity or empty encoding"},
    {"a flag that means nothing", "/t.S/Echo", "\7\0\0\0\1x", 6, "13",
     "grpc: received unexpected payload format 7"},
    {"a second message of a unary call is not looked at", "/t.S/Echo", "\0\0\0\0\1x\0\0\0\0\1y", 12,
     "0", ""},
};

static void test_bodies(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < ARRAY_LEN(body_cases); i++) {
        const struct body_case *c = &body_cases[i];
        struct reply *r = world_request(w, c->path, NULL, 0, c->body, c->len, false);
        world_turn(w);
        if (strcmp(r->status, c->status) != 0 || strcmp(r->message, c->message) != 0 ||
            !r->closed) {
            fail_msg("%s: got %s '%s'", c->claim, r->status, r->message);
        }
    }
}

/* A message of `len` times 'a', compressed, with its head. */
static size_t zipped(size_t len, uint8_t *out, size_t room)
{
    uint8_t plain[8192];
    assert_true(len <= sizeof(plain));
    memset(plain, 'a', len);
    z_stream z = {.next_in = plain, .avail_in = (uInt)len, .next_out = out + 5, .avail_out = (uInt)(room - 5)};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = z.total_out;
    assert_int_equal(deflateEnd(&z), Z_OK);
    const uint8_t head[5] = {1, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    memcpy(out, head, sizeof(head));
    return n + sizeof(head);
}

static void test_compressed_messages(void **state)
{
    struct world *w = *state;
    static const char *const more[] = {"grpc-encoding", "gzip"};
    uint8_t f[512];
    size_t n = zipped(WORLD_RECV_MAX, f, sizeof(f));
    struct reply *r = world_request(w, "/t.S/Echo", more, 1, f, n, false);
    world_turn(w);
    assert_string_equal(r->status, "0");
    assert_int_equal(r->body.len, 5 + WORLD_RECV_MAX);
    assert_int_equal(r->body.data[0], 0);
    assert_int_equal(r->body.data[5 + WORLD_RECV_MAX - 1], 'a');
    n = zipped(WORLD_RECV_MAX + 1, f, sizeof(f));
    r = world_request(w, "/t.S/Echo", more, 1, f, n, false);
    world_turn(w);
    assert_string_equal(r->status, "8");
    assert_string_equal(r->message, "grpc: received message after decompression larger than max 4096");
    for (size_t cut = 1; cut + 5 < n; cut++) { /* however much is lacking */
        uint8_t part[512];
        memcpy(part, f, n);
        part[4] = (uint8_t)cut;
        r = world_request(w, "/t.S/Echo", more, 1, part, 5 + cut, false);
        world_turn(w);
        bool too_large = strcmp(r->status, "8") == 0; /* known before its end */
        assert_true(too_large ? cut > n / 2 : strcmp(r->status, "13") == 0);
        assert_string_equal(r->message, too_large  ? "grpc: received message after decompression larger than max 4096"
                                        : cut < 10 ? "grpc: failed to decompress the message: unexpected EOF"
                                                   : "grpc: failed to read decompressed data: unexpected EOF");
    }
}

static void test_oversized_message_of_an_open_request_resets_without_error(void **state)
{
    struct world *w = *state;
    struct reply *r = world_request(w, "/t.S/Echo", NULL, 0, "\0\0\1\0\0", 5, true);
    world_turn(w);
    assert_string_equal(r->status, "8");
    assert_true(r->closed);
    assert_int_equal(r->error, NGHTTP2_NO_ERROR);
}

static void test_metadata_is_kept(void **state)
{
    struct world *w = *state;
    uint8_t f[16];
    size_t n = world_frame(f, "abc", 3);
    const char *more[] = {"token",   "secret", "hasleader",          "true",
                          "x-other", "1",      "client-api-version", "3.7"};
    struct reply *r = world_request(w, "/t.S/Keep", more, 4, f, n, false);
    world_turn(w);
    assert_non_null(w->kept);
    assert_true(slice_eq(grpc_call_metadata(w->kept, "token"), slice_str("secret")));
    assert_true(slice_eq(grpc_call_metadata(w->kept, "hasleader"), slice_str("true")));
    assert_true(slice_eq(grpc_call_metadata(w->kept, "client-api-version"), slice_str("3.7")));
    assert_null(grpc_call_metadata(w->kept, "authorization").data);
    assert_null(grpc_call_metadata(w->kept, "x-other").data);
    grpc_finish(w->kept, GRPC_OK, NULL);
    grpc_finish(w->kept, GRPC_INTERNAL, "a second end is nothing");
    world_turn(w);
    assert_string_equal(r->status, "0");
    assert_int_equal(w->n_ended, 1);
}

static void test_deadline_ends_the_call(void **state)
{
    struct world *w = *state;
    uint8_t f[16];
    size_t n = world_frame(f, "abc", 3);
    const char *more[] = {"grpc-timeout", "100m"};
    struct reply *r = world_request(w, "/t.S/Keep", more, 1, f, n, false);
    world_turn(w);
    loop_skip(w->loop, 99);
    world_turn(w);
    assert_false(r->closed);
    assert_int_equal(w->n_ended, 0);
    loop_skip(w->loop, 1);
    assert_int_equal(w->n_ended, 1);
    world_turn(w);
    assert_string_equal(r->status, "4");
    assert_string_equal(r->message, "context deadline exceeded");
    assert_true(r->closed);
    /* The late completion is dropped. */
    struct slice late = slice_str("late");
    assert_true(grpc_call_ended(w->kept));
    grpc_reply(w->kept, &late, 1);
    world_turn(w);
    assert_int_equal(r->body.len, 0);
    assert_int_equal(w->n_ended, 1);
}

static void test_client_reset_ends_the_call(void **state)
{
    struct world *w = *state;
    struct reply *r = world_call(w, "/t.S/Keep", "x");
    assert_int_equal(nghttp2_submit_rst_stream(w->client, 0, r->id, NGHTTP2_CANCEL), 0);
    world_turn(w);
    assert_int_equal(w->n_ended, 1);
    assert_true(grpc_call_ended(w->kept));
}

static void test_lost_connection_ends_all_calls(void **state)
{
    struct world *w = *state;
    (void)world_call(w, "/t.S/Keep", "x");
    struct reply *r = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
    world_turn(w);
    assert_int_equal(w->n_started, 1);
    conn_eof(&w->mc.conn);
    hub_flush(&w->hub);
    assert_true(w->mc.closed);
    assert_int_equal(w->n_ended, 2);
    assert_false(r->closed);
    struct slice late = slice_str("late");
    grpc_reply(w->kept, &late, 1);
}

static void test_admit_refuses_before_the_handler(void **state)
{
    struct world *w = *state;
    w->refuse_all = true;
    struct reply *r = world_call(w, "/t.S/Echo", "x");
    assert_string_equal(r->status, "14");
    assert_string_equal(r->message, "not now");
    r = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, false);
    world_turn(w);
    assert_string_equal(r->status, "14");
    assert_int_equal(w->n_messages + w->n_started + w->n_ended, 0);
}

static void test_header_list_limit(void **state)
{
    struct world *w = *state;
    char long_value[16301];
    memset(long_value, 'a', sizeof(long_value) - 1);
    long_value[sizeof(long_value) - 1] = '\0';
    const char *more[] = {"a", long_value, "b", long_value, "c", long_value, "d", long_value};
    struct reply *r = world_request(w, "/t.S/Echo", more, 3, "\0\0\0\0\0", 5, false);
    world_turn(w);
    assert_string_equal(r->status, "0");
    r = world_request(w, "/t.S/Echo", more, 4, "\0\0\0\0\0", 5, false);
    world_turn(w);
    assert_true(r->closed);
    assert_int_equal(r->error, NGHTTP2_FRAME_SIZE_ERROR);
    r = world_call(w, "/t.S/Echo", "still here");
    assert_string_equal(r->status, "0");
}

static void test_timeouts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err e;
        uint64_t ms;
    } cases[] = {
        {"1H", OK, 3600000},
        {"2M", OK, 120000},
        {"5S", OK, 5000},
        {"100m", OK, 100},
        {"1u", OK, 1},
        {"0u", OK, 0},
        {"1000001n", OK, 2},
        {"99999999H", OK, 359999996400000},
        {"", ERR_INVALID, 0},
        {"S", ERR_INVALID, 0},
        {"-1S", ERR_INVALID, 0},
        {"1.5S", ERR_INVALID, 0},
        {"100000000S", ERR_INVALID, 0},
        {"5s", ERR_INVALID, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t ms = 0;
        assert_int_equal(grpc_timeout_parse(slice_str(cases[i].text), &ms), cases[i].e);
        assert_int_equal(ms, cases[i].ms);
    }
}

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(test_unary_reply_is_headers_data_trailers),
        WORLD_TEST(test_empty_message_is_a_message),
        WORLD_TEST(test_status_text_is_percent_encoded_and_trailers_only),
        WORLD_TEST(test_message_in_single_bytes),
        WORLD_TEST(test_heads),
        WORLD_TEST(test_bodies),
        WORLD_TEST(test_compressed_messages),
        WORLD_TEST(test_oversized_message_of_an_open_request_resets_without_error),
        WORLD_TEST(test_metadata_is_kept),
        WORLD_TEST(test_deadline_ends_the_call),
        WORLD_TEST(test_client_reset_ends_the_call),
        WORLD_TEST(test_lost_connection_ends_all_calls),
        WORLD_TEST(test_admit_refuses_before_the_handler),
        WORLD_TEST(test_header_list_limit),
        cmocka_unit_test(test_timeouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
