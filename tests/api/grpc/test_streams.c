/* Streams: order, sources, back-pressure, and what a peer that does not read costs. */
#include "tests/api/grpc/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

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

static void test_bidi_echoes_and_ends_with_the_client(void **state)
{
    struct world *w = *state;
    uint8_t f[64];
    struct reply *r = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
    world_turn(w);
    assert_int_equal(w->n_started, 1);
    assert_int_equal(r->n_heads, 0); /* headers wait for the first message */
    world_add(w, r, f, world_frame(f, "one", 3), true);
    assert_int_equal(r->n_heads, 1);
    assert_int_equal(r->body.len, 8);
    world_add(w, r, f, world_frame(f, "two", 3), true);
    assert_int_equal(r->body.len, 16);
    assert_int_equal(w->n_half_closed, 0);
    world_add(w, r, "", 0, false);
    assert_int_equal(w->n_half_closed, 1);
    assert_int_equal(w->n_ended, 1);
    assert_string_equal(r->status, "0");
    assert_memory_equal(r->body.data, "\0\0\0\0\3one\0\0\0\0\3two", 16);
}

static void test_several_messages_in_one_frame(void **state)
{
    struct world *w = *state;
    struct reply *r =
        world_request(w, "/t.S/Bidi", NULL, 0, "\0\0\0\0\1a\0\0\0\0\0\0\0\0\0\2bc", 18, false);
    world_turn(w);
    assert_int_equal(w->n_messages, 3);
    assert_int_equal(r->body.len, 18);
}

static void test_server_stream_sends_in_order(void **state)
{
    struct world *w = *state;
    struct reply *r = world_call(w, "/t.S/Count", "abc");
    assert_memory_equal(r->body.data, "\0\0\0\0\1a\0\0\0\0\1b\0\0\0\0\1c", 18);
    assert_string_equal(r->status, "0");
    assert_int_equal(w->n_started, 1);
}

static void test_second_message_of_a_server_stream_is_a_fault(void **state)
{
    struct world *w = *state;
    struct reply *r = world_request(w, "/t.S/Hold", NULL, 0, "\0\0\0\0\1a\0\0\0\0\1b", 12, false);
    world_turn(w);
    assert_string_equal(r->status, "13");
    assert_string_equal(
        r->message,
        "cardinality violation: received multiple request messages for non-client-streaming RPC");
    assert_int_equal(w->n_messages, 1);
    assert_int_equal(w->n_ended, 1);
}

static void test_source_between_messages(void **state)
{
    struct world *w = *state;
    struct reply *r = world_call(w, "/t.S/Bulk", "x");
    assert_string_equal(r->status, "0");
    assert_int_equal(w->n_released, 1);
    size_t bulk = 1024 * 1024;
    assert_int_equal(r->body.len, 11 + 5 + bulk + 10);
    assert_memory_equal(r->body.data, "\0\0\0\0\6before\0\0\x10\0\0", 16);
    for (size_t i = 0; i < bulk; i++) {
        assert_int_equal(r->body.data[16 + i], (uint8_t)i);
    }
    assert_memory_equal(r->body.data + 16 + bulk, "\0\0\0\0\5after", 10);
}

static void test_small_replies_overtake_a_source(void **state)
{
    struct world *w = *state;
    uint8_t f[16];
    struct reply *big = world_request(w, "/t.S/Bulk", NULL, 0, f, world_frame(f, "x", 1), false);
    struct reply *small = world_request(w, "/t.S/Echo", NULL, 0, f, world_frame(f, "y", 1), false);
    w->mc.room = 0; /* the socket is full: look at the first gathering only */
    const uint8_t *p;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(w->client, &p)) > 0) {
        conn_input(&w->mc.conn, slice_of(p, (size_t)n));
    }
    hub_flush(&w->hub);
    assert_true(w->mc.blocked);
    w->mc.room = SIZE_MAX;
    mem_unblock(&w->mc);
    assert_int_equal(nghttp2_session_mem_recv(w->client, w->mc.out.data, w->mc.out.len),
                     (ssize_t)w->mc.out.len);
    bytes_reset(&w->mc.out);
    assert_true(small->closed);
    assert_false(big->closed);
    world_turn(w);
    assert_true(big->closed);
}

static void test_failing_source_resets_the_stream(void **state)
{
    struct world *w = *state;
    struct reply *r = world_call(w, "/t.S/Broken", "x");
    assert_true(r->closed);
    assert_int_equal(r->error, NGHTTP2_INTERNAL_ERROR);
    assert_string_equal(r->status, "");
    assert_int_equal(w->n_released, 1);
    assert_int_equal(w->n_ended, 1);
    assert_string_equal(world_call(w, "/t.S/Echo", "y")->status, "0");
}

static void test_source_of_a_lost_connection_is_released(void **state)
{
    struct world *w = *state;
    uint8_t f[16];
    (void)world_request(w, "/t.S/Bulk", NULL, 0, f, world_frame(f, "x", 1), false);
    w->mc.room = 10;
    const uint8_t *p;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(w->client, &p)) > 0) {
        conn_input(&w->mc.conn, slice_of(p, (size_t)n));
    }
    hub_flush(&w->hub);
    assert_int_equal(w->n_released, 0);
    conn_eof(&w->mc.conn);
    hub_flush(&w->hub);
    assert_int_equal(w->n_released, 1);
    assert_int_equal(w->n_ended, 1);
}

/* --- a slow reader
 * ---------------------------------------------------------------------------------- */

static void drained(struct grpc_call *c)
{
    struct world *w = grpc_call_service(c);
    w->n_drained++;
}

static void test_drain_is_called_below_the_mark(void **state)
{
    (void)state;
    const struct world_options o = {.window = 1000};
    struct world *w = world_open(&o);
    struct reply *r = world_call(w, "/t.S/Keep", "x");
    uint8_t big[4000] = {0};
    struct slice s = slice_of(big, sizeof(big));
    grpc_send(w->kept, &s, 1);
    grpc_call_on_drain(w->kept, 2000, drained);
    world_turn(w);
    assert_int_equal(grpc_call_queued_bytes(w->kept), 3005);
    assert_int_equal(w->n_drained, 0);
    (void)nghttp2_submit_window_update(w->client, 0, r->id, 1000);
    world_turn(w);
    assert_int_equal(grpc_call_queued_bytes(w->kept), 2005);
    assert_int_equal(w->n_drained, 0);
    (void)nghttp2_submit_window_update(w->client, 0, r->id, 1000);
    world_turn(w);
    assert_int_equal(w->n_drained, 1);
    grpc_call_on_drain(w->kept, 2000, drained); /* already so: at the end of this turn */
    assert_int_equal(w->n_drained, 1);
    hub_flush(&w->hub);
    assert_int_equal(w->n_drained, 2);
    grpc_call_on_drain(w->kept, 0, drained);
    (void)nghttp2_submit_rst_stream(w->client, 0, r->id, NGHTTP2_CANCEL);
    world_turn(w);
    assert_int_equal(w->n_drained, 2); /* never after the end */
    world_close(&w);
}

static void test_deadline_ends_a_stuck_answer(void **state)
{
    (void)state;
    const struct world_options o = {.window = 1};
    struct world *w = world_open(&o);
    uint8_t f[16];
    const char *more[] = {"grpc-timeout", "1S"};
    struct reply *r = world_request(w, "/t.S/Bulk", more, 1, f, world_frame(f, "x", 1), false);
    world_turn(w);
    assert_int_equal(r->body.len, 1);
    loop_skip(w->loop, 1000);
    assert_int_equal(w->n_ended, 1);
    assert_int_equal(w->n_released, 1);
    world_turn(w);
    assert_true(r->closed);
    assert_int_equal(r->error, NGHTTP2_CANCEL);
    world_close(&w);
}

static void test_peer_that_does_not_read_costs_one_buffer(void **state)
{
    struct world *w = *state;
    static const uint8_t message[3000];
    uint8_t f[4096];
    size_t n = world_frame(f, message, sizeof(message));
    struct reply *r = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
    world_turn(w);
    /* The client opens its windows wide, then reads no byte. */
    (void)nghttp2_submit_window_update(w->client, 0, r->id, 1 << 30);
    (void)nghttp2_submit_window_update(w->client, 0, 0, 1 << 30);
    world_turn(w);
    w->mc.room = 0;
    for (unsigned i = 0; i < 300; i++) {
        bytes_add(&r->request, f, n);
    }
    (void)nghttp2_session_resume_data(w->client, r->id);
    const uint8_t *p;
    ssize_t got;
    while ((got = nghttp2_session_mem_send(w->client, &p)) > 0) {
        conn_input(&w->mc.conn, slice_of(p, (size_t)got));
        hub_flush(&w->hub);
    }
    assert_true(w->mc.conn.writing);
    assert_true(w->mc.conn.rest.len <= CONN_WRITE_BYTES + 20000);
    w->mute = true;
    loop_skip(w->loop, CONN_STALL_MS);
    assert_true(w->mc.closed);
    assert_int_equal(w->n_ended, 1);
}

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(test_bidi_echoes_and_ends_with_the_client),
        WORLD_TEST(test_several_messages_in_one_frame),
        WORLD_TEST(test_server_stream_sends_in_order),
        WORLD_TEST(test_second_message_of_a_server_stream_is_a_fault),
        WORLD_TEST(test_source_between_messages),
        WORLD_TEST(test_small_replies_overtake_a_source),
        WORLD_TEST(test_failing_source_resets_the_stream),
        WORLD_TEST(test_source_of_a_lost_connection_is_released),
        cmocka_unit_test(test_drain_is_called_below_the_mark),
        cmocka_unit_test(test_deadline_ends_a_stuck_answer),
        WORLD_TEST(test_peer_that_does_not_read_costs_one_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
