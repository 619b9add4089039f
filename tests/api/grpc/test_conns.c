/* Rules of HTTP/2 connections: pings, floods, garbage, deadlines, shutdown. */
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

static void ping(struct world *w, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(nghttp2_submit_ping(w->client, 0, NULL), 0);
        world_turn(w);
    }
}

/* --- pings
 * ------------------------------------------------------------------------------------------ */

static void test_two_strikes_are_forgiven_the_third_is_not(void **state)
{
    struct world *w = *state;
    ping(w, 3); /* the first is no strike */
    assert_int_equal(w->n_ping_acks, 3);
    assert_false(w->goaway);
    ping(w, 1);
    assert_true(w->goaway);
    assert_int_equal(w->goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_string_equal(w->goaway_text, "too_many_pings");
    assert_true(w->mc.shut);
    assert_false(w->mc.closed);
    loop_skip(w->loop, CONN_LINGER_MS);
    assert_true(w->mc.closed);
}

static void test_patient_pings_with_a_stream_are_fine(void **state)
{
    struct world *w = *state;
    (void)world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
    world_turn(w);
    for (unsigned i = 0; i < 20; i++) {
        loop_skip(w->loop, 5000);
        ping(w, 1);
    }
    assert_false(w->goaway);
}

static void test_pings_without_streams_need_two_hours(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 4; i++) {
        loop_skip(w->loop, 5000);
        ping(w, 1);
    }
    assert_true(w->goaway);
}

static void test_what_we_send_forgives_pings(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 50; i++) {
        (void)world_call(w, "/t.S/Echo", "x");
        ping(w, 1); /* a client measuring bandwidth pings at every reply */
    }
    assert_false(w->goaway);
}

static void test_server_pings_the_silent_and_cuts_the_dead(void **state)
{
    (void)state;
    const struct world_options o = {.keepalive_interval_ms = 10000};
    struct world *w = world_open(&o);
    loop_skip(w->loop, 9999);
    world_turn(w);
    assert_int_equal(w->n_pings, 0);
    loop_skip(w->loop, 1);
    world_turn(w);
    assert_int_equal(w->n_pings, 1);
    loop_skip(w->loop, 10000); /* it had answered */
    world_turn(w);
    assert_int_equal(w->n_pings, 2);
    w->mute = true;
    loop_skip(w->loop, 10000);
    assert_false(w->mc.closed);
    loop_skip(w->loop, 19999);
    assert_false(w->mc.closed);
    loop_skip(w->loop, 1);
    assert_true(w->mc.closed);
    world_close(&w);
}

/* --- deadlines and garbage
 * -------------------------------------------------------------------------- */

static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void test_connection_must_say_what_it_is(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *claim;
        const char *bytes;
        size_t len;
    } cases[] = {
        {"nothing at all", "", 0},
        {"half a preface", magic, 12},
        {"a preface without SETTINGS", magic, 24},
        {"the start of a frame", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", 26},
        {"half an HTTP/1 head", "GET / HTTP/1.1\r\nHo", 18},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct mem_conn m;
        mem_open(&m, &w->hub);
        conn_input(&m.conn, slice_of(cases[i].bytes, cases[i].len));
        hub_flush(&w->hub);
        loop_skip(w->loop, CONN_SETUP_MS - 1);
        hub_flush(&w->hub);
        if (m.closed) {
            fail_msg("%s: closed too early", cases[i].claim);
        }
        loop_skip(w->loop, 1);
        hub_flush(&w->hub);
        if (!m.closed) {
            fail_msg("%s: still open", cases[i].claim);
        }
        bytes_deinit(&m.out);
    }
    assert_false(w->mc.closed); /* a set-up connection may stay silent */
}

static void test_unfinished_header_block_has_a_deadline(void **state)
{
    struct world *w = *state;
    /* HEADERS without END_HEADERS on stream 1. */
    conn_input(&w->mc.conn, slice_of("\0\0\1\1\0\0\0\0\1\x83", 10));
    hub_flush(&w->hub);
    loop_skip(w->loop, CONN_HEAD_MS - 1);
    hub_flush(&w->hub);
    assert_false(w->mc.closed);
    loop_skip(w->loop, 1);
    hub_flush(&w->hub);
    assert_true(w->mc.closed);
}

static void test_other_protocols_are_closed(void **state)
{
    struct world *w = *state;
    static const struct slice first[] = {
        {(const uint8_t *)"\x16\x03\x01\x02", 4},
        {(const uint8_t *)"\r\n\r\n", 4},
        {(const uint8_t *)"get / HTTP/1.1\r\n", 16},
        {(const uint8_t *)"\0", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(first); i++) {
        struct mem_conn m;
        mem_open(&m, &w->hub);
        conn_input(&m.conn, first[i]);
        hub_flush(&w->hub);
        assert_true(m.closed);
        assert_int_equal(m.out.len, 0);
    }
}

static void test_garbage_ends_just_that_connection(void **state)
{
    struct world *w = *state;
    static const struct slice garbage[] = {
        {(const uint8_t *)"\xff\xff\xff\0\0\0\0\0\0", 9}, /* a frame of 16 MiB */
        {(const uint8_t *)"\0\0\1\0\0\0\0\0\0x", 10},     /* DATA on stream 0 */
        {(const uint8_t *)"\0\0\1\1\4\0\0\0\2\x83", 10},  /* a client's stream is odd */
        {(const uint8_t *)"\0\0\5\1\4\0\0\0\1\xff\xff\xff\xff\xff", 14}, /* no HPACK */
    };
    for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
        struct mem_conn m;
        mem_open(&m, &w->hub);
        conn_input(&m.conn, slice_of(magic, 24));
        conn_input(&m.conn, slice_of("\0\0\0\4\0\0\0\0\0", 9));
        hub_flush(&w->hub);
        conn_input(&m.conn, garbage[i]);
        hub_flush(&w->hub);
        hub_flush(&w->hub);
        assert_true(m.shut || m.closed);
        loop_skip(w->loop, CONN_LINGER_MS);
        assert_true(m.closed);
        bytes_deinit(&m.out);
    }
    assert_string_equal(world_call(w, "/t.S/Echo", "x")->status, "0");
}

/* --- floods
 * ----------------------------------------------------------------------------------------- */

static void flood(struct world *w, const char *frame, size_t len, unsigned n)
{
    struct bytes b = {0};
    for (unsigned i = 0; i < n; i++) {
        bytes_add(&b, frame, len);
    }
    conn_input(&w->mc.conn, bytes_slice(&b));
    bytes_deinit(&b);
    hub_flush(&w->hub);
    hub_flush(&w->hub);
}

static void test_ping_flood(void **state)
{
    struct world *w = *state;
    flood(w, "\0\0\x8\6\0\0\0\0\0abcdefgh", 17, 5000);
    assert_true(w->mc.closed || w->mc.shut);
}

static void test_settings_flood(void **state)
{
    struct world *w = *state;
    flood(w, "\0\0\0\4\0\0\0\0\0", 9, 5000);
    assert_true(w->mc.closed);
}

/* Opens streams and gives them up before (or, with `answered`, after) anything came back, until the server has had enough. Returns how many. */
static unsigned reset_many(struct world *w, bool answered, unsigned most)
{
    unsigned n = 0;
    uint8_t f[16];
    size_t len = world_frame(f, "x", 1);
    while (!w->goaway && n < most) {
        w->n_replies = 0;
        struct reply *r = world_request(w, answered ? "/t.S/Bidi" : "/t.S/Hold", NULL, 0, f, len, true);
        bytes_deinit(&r->body);
        world_turn(w);
        bytes_deinit(&r->body);
        bytes_deinit(&r->request);
        (void)nghttp2_submit_rst_stream(w->client, 0, r->id, NGHTTP2_CANCEL);
        *r = (struct reply){.id = r->id};
        n++;
        world_turn(w);
    }
    w->n_replies = 0;
    return n;
}

static void assert_calmed(struct world *w, const char *text)
{
    world_turn(w);
    assert_true(w->goaway);
    assert_int_equal(w->goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_string_equal(w->goaway_text, text);
    assert_true(w->mc.shut);
    loop_skip(w->loop, CONN_LINGER_MS);
    assert_true(w->mc.closed);
    assert_int_equal(w->hub.held, 0);
}

static void test_rapid_resets(void **state)
{
    struct world *w = *state;
    unsigned n = reset_many(w, false, 2 * H2_RESETS_BURST);
    assert_int_equal(n, H2_RESETS_BURST + 1);
    assert_calmed(w, "too_many_resets");
    assert_int_equal(w->n_ended, w->n_messages);
}

static void test_resets_of_answered_streams_are_no_flood(void **state)
{
    struct world *w = *state;
    assert_int_equal(reset_many(w, true, 2 * H2_RESETS_BURST), 2 * H2_RESETS_BURST);
    assert_false(w->goaway);
    assert_string_equal(world_call(w, "/t.S/Echo", "x")->status, "0");
}

static void test_resets_at_a_bearable_pace(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(reset_many(w, false, H2_RESETS_BURST / 2), H2_RESETS_BURST / 2);
        loop_skip(w->loop, 1000u * (H2_RESETS_BURST / 2) / H2_RESETS_PER_S);
    }
    assert_false(w->goaway);
}

/* CVE-2025-8671: the peer makes the server reset the streams. */
static void test_streams_that_have_to_be_reset(void **state)
{
    struct world *w = *state;
    for (uint32_t i = 0; i < 2 * H2_RESETS_BURST && !w->mc.shut; i++) {
        const uint32_t id = 1 + 2 * i;
        uint8_t frames[] = "\0\0\x1f\1\4IIII\x83\4\x9/t.S/Hold\xf\x10\x10" "application/grpc" /* HEADERS */
                           "\0\0\4\x8\0IIII\x7f\xff\xff\xff"; /* WINDOW_UPDATE beyond all bounds */
        for (unsigned k = 0; k < 4; k++) {
            frames[5 + k] = frames[9 + 31 + 5 + k] = (uint8_t)(id >> (24 - 8 * k));
        }
        bytes_reset(&w->mc.out);
        conn_input(&w->mc.conn, slice_of(frames, sizeof(frames) - 1));
        hub_flush(&w->hub);
        assert_true(i <= H2_RESETS_BURST);
    }
    assert_true(w->mc.shut);
    assert_memory_equal(w->mc.out.data + w->mc.out.len - 15, "too_many_resets", 15);
    assert_int_equal(w->n_messages, 0);
}

/* A client that reads all answers and gives the server time, but never asks for anything. */
static void test_frames_without_requests(void **state)
{
    static const struct {
        const char *claim;
        const char *frame;
        size_t len;
        bool stream; /* an open stream 1 */
    } cases[] = {
        {"SETTINGS", "\0\0\0\4\0\0\0\0\0", 9, false},
        {"PRIORITY", "\0\0\5\2\0\0\0\0\3\0\0\0\0\x10", 14, false},
        {"PRIORITY_UPDATE", "\0\0\7\x10\0\0\0\0\0\0\0\0\1u=1", 16, false},
        {"WINDOW_UPDATE", "\0\0\4\x8\0\0\0\0\0\0\0\0\1", 13, false},
        {"WINDOW_UPDATE of a stream", "\0\0\4\x8\0\0\0\0\1\0\0\0\1", 13, true},
        {"unknown frames", "\0\0\1\x42\0\0\0\0\0x", 10, false},
        {"DATA of nothing", "\0\0\0\0\0\0\0\0\1", 9, true},
        {"unasked answers to PING", "\0\0\x8\6\1\0\0\0\0abcdefgh", 17, false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world *w = world_open(NULL);
        if (cases[i].stream) {
            (void)world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
        }
        world_turn(w);
        unsigned sent = 0;
        while (sent < 2 * H2_CHATTER_BURST && !w->mc.shut) {
            flood(w, cases[i].frame, cases[i].len, 100);
            sent += 100;
            bytes_reset(&w->mc.out);
            assert_false(w->mc.closed);
        }
        if (!w->mc.shut || sent < H2_CHATTER_BURST - 200) {
            fail_msg("%s: %u frames", cases[i].claim, sent);
        }
        loop_skip(w->loop, CONN_LINGER_MS);
        world_close(&w);
    }
}

static void test_settings_cost_by_the_streams_they_change(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 640; i++) {
        w->n_replies = 0;
        struct reply *r = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
        world_turn(w);
        bytes_deinit(&r->request);
        *r = (struct reply){.id = r->id};
    }
    w->n_replies = 0;
    flood(w, "\0\0\0\4\0\0\0\0\0", 9, 900);
    bytes_reset(&w->mc.out); /* the client's session asked for none of this */
    assert_false(w->mc.shut);
    flood(w, "\0\0\0\4\0\0\0\0\0", 9, 100);
    assert_true(w->mc.shut);
    assert_memory_equal(w->mc.out.data + w->mc.out.len - 15, "too_many_frames", 15);
}

static void test_answers_explain_window_updates(void **state)
{
    struct world *w = *state;
    struct bytes b = {0};
    for (unsigned i = 0; i < 2; i++) {
        bytes_add(&b, "\0\0\4\x8\0\0\0\0\0\0\0\0\1", 13);
    }
    for (unsigned i = 0; i < 2 * H2_CHATTER_BURST; i++) {
        w->n_replies = 0;
        struct reply *r = world_call(w, "/t.S/Echo", "x");
        bytes_deinit(&r->body);
        bytes_deinit(&r->request);
        *r = (struct reply){0};
        conn_input(&w->mc.conn, bytes_slice(&b));
    }
    w->n_replies = 0;
    bytes_deinit(&b);
    world_turn(w);
    assert_false(w->goaway);
}

/* A field kept in HPACK's table costs a byte each time that it is named again. */
static void test_a_small_block_for_a_huge_list(void **state)
{
    struct world *w = *state;
    struct bytes b = {0};
    const unsigned again = 10000;
    const unsigned value = 3000;
    const unsigned len = 1 + 2 + 3 + value + again;
    const uint8_t head[] = {0, (uint8_t)(len >> 8), (uint8_t)len, 1, 4, 0, 0, 0, 1, 0x40, 1, 'x', 0x7f, (uint8_t)(0x80 | ((value - 127) & 0x7f)),
                            (uint8_t)((value - 127) >> 7)};
    bytes_add(&b, head, sizeof(head));
    memset(bytes_reserve(&b, value + again), 'v', value);
    memset(b.data + b.len + value, 0xbe, again);
    b.len += value + again;
    conn_input(&w->mc.conn, bytes_slice(&b));
    bytes_deinit(&b);
    hub_flush(&w->hub);
    hub_flush(&w->hub);
    assert_true(w->mc.closed);
}

static void test_who_holds_most_goes(void **state)
{
    struct world *w = *state;
    struct mem_conn small;
    mem_open(&small, &w->hub);
    conn_input(&small.conn, slice_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc", 50));
    hub_flush(&w->hub);
    uint8_t f[FRAME_HEAD_BYTES + 1000] = {0, 0, 0, 0x10, 0};
    for (unsigned i = 0; i < 20; i++) {
        (void)world_request(w, "/t.S/Echo", NULL, 0, f, sizeof(f), true); /* a quarter of a message */
    }
    world_turn(w);
    assert_int_equal(w->mc.conn.held, 20 * (H2_STREAM_BYTES + 1000));
    assert_int_equal(w->hub.held, w->mc.conn.held + small.conn.held);
    assert_false(w->mc.closed);
    w->hub.held_max = w->hub.held - 1;
    hub_flush(&w->hub);
    hub_flush(&w->hub);
    assert_true(w->mc.closed);
    assert_false(small.closed);
    assert_int_equal(w->hub.held, small.conn.held);
    conn_input(&small.conn, slice_of("defghi", 6));
    hub_flush(&w->hub);
    assert_true(small.out.len > 0);
    conn_kill(&small.conn); /* the hub outlives it */
    hub_flush(&w->hub);
    assert_true(small.closed);
    bytes_deinit(&small.out);
}

/* --- slow clients
 * ----------------------------------------------------------------------------------- */

static void test_a_request_has_to_come(void **state)
{
    struct world *w = *state;
    uint8_t f[FRAME_HEAD_BYTES + 10] = {0, 0, 0, 0, 100};
    struct reply *none = world_request(w, "/t.S/Echo", NULL, 0, "", 0, true);
    struct reply *part = world_request(w, "/t.S/Hold", NULL, 0, f, sizeof(f), true);
    struct reply *bidi = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
    world_turn(w);
    struct reply *kept = world_call(w, "/t.S/Keep", "x");
    loop_skip(w->loop, CALL_STALL_MS - 1);
    world_add(w, part, f, 10, true); /* it may move, but it is not complete */
    assert_false(none->closed || part->closed);
    loop_skip(w->loop, 1);
    world_turn(w);
    assert_true(none->closed && part->closed);
    assert_int_equal(none->error, NGHTTP2_CANCEL);
    assert_false(bidi->closed || kept->closed);
    loop_skip(w->loop, 10 * CALL_STALL_MS);
    world_turn(w);
    assert_false(bidi->closed || kept->closed); /* they do not wait for their client */
}

static void test_an_answer_has_to_be_taken(void **state)
{
    (void)state;
    const struct world_options o = {.window = 100000};
    struct world *w = world_open(&o);
    struct reply *r = world_call(w, "/t.S/Bulk", "x");
    for (unsigned i = 0; i < 4; i++) {
        loop_skip(w->loop, CALL_STALL_MS - 1);
        world_turn(w);
        assert_false(r->closed);
        assert_int_equal(w->n_released, 0);
        (void)nghttp2_submit_window_update(w->client, 0, r->id, CALL_STEP_BYTES);
        (void)nghttp2_submit_window_update(w->client, 0, 0, CALL_STEP_BYTES);
        world_turn(w);
    }
    loop_skip(w->loop, CALL_STALL_MS - 1);
    (void)nghttp2_submit_window_update(w->client, 0, r->id, 100); /* too little */
    (void)nghttp2_submit_window_update(w->client, 0, 0, 100);
    world_turn(w);
    loop_skip(w->loop, 1);
    world_turn(w);
    assert_true(r->closed);
    assert_int_equal(w->n_released, 1);
    assert_int_equal(w->n_ended, 1);
    assert_false(w->mc.closed);
    world_close(&w);
}

static void test_streams_beyond_the_limit_are_refused(void **state)
{
    (void)state;
    const struct world_options o = {.streams_max = 2};
    struct world *w = world_open(&o);
    struct reply *a = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
    struct reply *b = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
    struct reply *c = world_request(w, "/t.S/Bidi", NULL, 0, "", 0, true);
    world_turn(w);
    assert_int_equal(w->n_started, 2); /* the client obeys */
    world_add(w, a, "", 0, false);
    assert_int_equal(w->n_started, 3);
    assert_false(b->closed || c->closed);
    world_close(&w);
}

/* --- shutdown
 * --------------------------------------------------------------------------------------- */

static void test_drain_lets_running_calls_end(void **state)
{
    struct world *w = *state;
    struct reply *r = world_call(w, "/t.S/Keep", "x");
    hub_drain(&w->hub);
    world_turn(w);
    assert_true(w->goaway);
    assert_int_equal(w->goaway_code, NGHTTP2_NO_ERROR);
    assert_int_equal(w->goaway_last, r->id); /* the final one: the client answered the ping */
    assert_false(w->mc.closed || w->mc.shut);
    struct slice s = slice_str("done");
    grpc_reply(w->kept, &s, 1);
    world_turn(w);
    assert_string_equal(r->status, "0");
    assert_true(w->mc.shut);
}

static void test_drain_of_a_mute_client_goes_on_by_the_clock(void **state)
{
    struct world *w = *state;
    w->mute = true;
    hub_drain(&w->hub);
    world_turn(w);
    assert_int_equal(w->goaway_last, INT32_MAX);
    assert_false(w->mc.shut);
    loop_skip(w->loop, H2_GOAWAY_MS);
    /* The client's session is content with the notice, so the final frame is looked at here. */
    assert_int_equal(w->mc.out.len, 17);
    assert_memory_equal(w->mc.out.data, "\0\0\x8\7\0\0\0\0\0\0\0\0\0\0\0\0\0", 17);
    assert_true(w->mc.shut);
}

static void test_cut_ends_everything(void **state)
{
    struct world *w = *state;
    (void)world_call(w, "/t.S/Keep", "x");
    hub_cut(&w->hub);
    hub_flush(&w->hub);
    assert_true(w->mc.closed);
    assert_int_equal(w->n_ended, 1);
}

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(test_two_strikes_are_forgiven_the_third_is_not),
        WORLD_TEST(test_patient_pings_with_a_stream_are_fine),
        WORLD_TEST(test_pings_without_streams_need_two_hours),
        WORLD_TEST(test_what_we_send_forgives_pings),
        cmocka_unit_test(test_server_pings_the_silent_and_cuts_the_dead),
        WORLD_TEST(test_connection_must_say_what_it_is),
        WORLD_TEST(test_unfinished_header_block_has_a_deadline),
        WORLD_TEST(test_other_protocols_are_closed),
        WORLD_TEST(test_garbage_ends_just_that_connection),
        WORLD_TEST(test_ping_flood),
        WORLD_TEST(test_settings_flood),
        WORLD_TEST(test_rapid_resets),
        WORLD_TEST(test_resets_of_answered_streams_are_no_flood),
        WORLD_TEST(test_resets_at_a_bearable_pace),
        WORLD_TEST(test_streams_that_have_to_be_reset),
        cmocka_unit_test(test_frames_without_requests),
        WORLD_TEST(test_settings_cost_by_the_streams_they_change),
        WORLD_TEST(test_answers_explain_window_updates),
        WORLD_TEST(test_a_small_block_for_a_huge_list),
        WORLD_TEST(test_who_holds_most_goes),
        WORLD_TEST(test_a_request_has_to_come),
        cmocka_unit_test(test_an_answer_has_to_be_taken),
        cmocka_unit_test(test_streams_beyond_the_limit_are_refused),
        WORLD_TEST(test_drain_lets_running_calls_end),
        WORLD_TEST(test_drain_of_a_mute_client_goes_on_by_the_clock),
        WORLD_TEST(test_cut_ends_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
