/* Calls made in the process: the same answers, limits, deadlines and counts as over HTTP/2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/api/grpc/world.h"

struct maker {
    struct grpc_local local;
    unsigned n_ready;
    struct bytes got;
    bool ended;
    enum grpc_code code;
    char text[256];
    bool slow;        /* takes nothing */
    struct maker *also; /* closed when this one hears of anything */
};

static void on_ready(struct grpc_local *l)
{
    struct maker *m = CONTAINER_OF(l, struct maker, local);
    enum grpc_code code;
    struct slice text;
    m->n_ready++;
    if (m->also != NULL) {
        grpc_local_close(&m->also->local);
    }
    for (size_t n = 1; n > 0 && !m->slow;) {
        uint8_t *dst = bytes_reserve(&m->got, 1000);
        n = grpc_local_take(l, dst, 1000);
        m->got.len += n;
    }
    if (grpc_local_ended(l, &code, &text)) {
        m->ended = true;
        m->code = code;
        (void)snprintf(m->text, sizeof(m->text), "%.*s", (int)text.len, text.len == 0 ? "" : (const char *)text.data);
        grpc_local_close(l);
    }
}

static bool make(struct world *w, struct maker *m, const char *path, uint64_t timeout_ms)
{
    m->local.ready = on_ready;
    struct grpc_local_head head = {.path = path, .timeout_ms = timeout_ms};
    return grpc_local_open(&m->local, w->server, w->loop, &head);
}

static void done(struct maker *m)
{
    grpc_local_close(&m->local);
    bytes_deinit(&m->got);
}

static int open_world(void **state)
{
    struct world_options o = {0};
    *state = world_open(&o);
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;
    world_close(&w);
    return 0;
}

static void test_unary(void **state)
{
    struct world *w = *state;
    struct maker m = {0};
    assert_true(make(w, &m, "/t.S/Echo", UINT64_MAX));
    grpc_local_send(&m.local, slice_str("hello"));
    grpc_local_half_close(&m.local);
    assert_int_equal(m.n_ready, 0); /* never from within */
    world_turn(w);
    assert_true(m.ended);
    assert_int_equal(m.code, GRPC_OK);
    assert_int_equal(m.got.len, 10);
    assert_memory_equal(m.got.data, "\0\0\0\0\x05hello", 10);
    assert_int_equal(w->n_ended, 1);
    done(&m);
}

static void test_statuses(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *path;
        uint64_t timeout_ms;
        bool send;
        enum grpc_code code;
        const char *text;
    } rows[] = {
        {"/t.S/Fail", UINT64_MAX, true, GRPC_FAILED_PRECONDITION, "100% wrong\n\xc3\xa9"},
        {"/t.S/None", UINT64_MAX, true, GRPC_UNIMPLEMENTED, "unknown method None for service t.S"},
        {"/t.X/None", UINT64_MAX, true, GRPC_UNIMPLEMENTED, "unknown service t.X"},
        {"/t.S/Echo", 0, true, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded"},
        {"/t.S/Echo", UINT64_MAX, false, GRPC_UNKNOWN, "EOF"},
        {"/t.S/Broken", UINT64_MAX, true, GRPC_INTERNAL, ""}, /* although it had ended well before its source broke */
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct maker m = {0};
        assert_true(make(w, &m, rows[i].path, rows[i].timeout_ms));
        if (rows[i].send) {
            grpc_local_send(&m.local, slice_str("x"));
        }
        grpc_local_half_close(&m.local);
        world_turn(w);
        assert_true(m.ended);
        assert_int_equal(m.code, rows[i].code);
        assert_string_equal(m.text, rows[i].text);
        done(&m);
    }
}

static void test_too_large(void **state)
{
    struct world *w = *state;
    static const uint8_t large[WORLD_RECV_MAX + 1];
    struct maker m = {0};
    assert_true(make(w, &m, "/t.S/Echo", UINT64_MAX));
    grpc_local_send(&m.local, slice_of(large, sizeof(large)));
    grpc_local_half_close(&m.local);
    world_turn(w);
    assert_int_equal(m.code, GRPC_RESOURCE_EXHAUSTED);
    assert_string_equal(m.text, "grpc: received message larger than max (4097 vs. 4096)");
    assert_int_equal(w->n_messages, 0);
    done(&m);
}

static void test_deadline(void **state)
{
    struct world *w = *state;
    struct maker m = {0};
    assert_true(make(w, &m, "/t.S/Keep", 50));
    grpc_local_send(&m.local, slice_str("x"));
    world_turn(w);
    assert_false(m.ended);
    loop_skip(w->loop, 51);
    world_turn(w);
    assert_true(m.ended);
    assert_int_equal(m.code, GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(w->n_ended, 1);
    done(&m);
    grpc_call_unref(&w->kept);
}

/* What comes after the maker has closed the call goes nowhere. */
static void test_closed_before_the_answer(void **state)
{
    struct world *w = *state;
    struct maker m = {0};
    assert_true(make(w, &m, "/t.S/Keep", UINT64_MAX));
    grpc_local_send(&m.local, slice_str("x"));
    grpc_local_close(&m.local);
    assert_false(grpc_local_is_open(&m.local));
    assert_int_equal(w->n_ended, 1);
    struct slice late = slice_str("late");
    grpc_reply(w->kept, &late, 1);
    world_turn(w);
    assert_int_equal(m.n_ready, 0);
    grpc_call_unref(&w->kept);
    grpc_local_close(&m.local); /* a second time does nothing */
    done(&m);
}

static void test_streams(void **state)
{
    struct world *w = *state;
    struct maker m = {0};
    assert_true(make(w, &m, "/t.S/Bidi", UINT64_MAX));
    assert_int_equal(w->n_started, 1);
    grpc_local_send(&m.local, slice_str("a"));
    grpc_local_send(&m.local, slice_str("b"));
    world_turn(w);
    assert_int_equal(m.got.len, 12);
    assert_false(m.ended);
    grpc_local_half_close(&m.local);
    world_turn(w);
    assert_true(m.ended);
    assert_int_equal(m.code, GRPC_OK);
    done(&m);
}

/* Who takes nothing leaves it where it is: the source is not asked. */
static void test_slow_maker(void **state)
{
    struct world *w = *state;
    struct maker m = {.slow = true};
    assert_true(make(w, &m, "/t.S/Bulk", UINT64_MAX));
    grpc_local_send(&m.local, slice_str("x"));
    grpc_local_half_close(&m.local);
    world_turn(w);
    assert_int_equal(m.n_ready, 1);
    assert_false(m.ended);
    assert_int_equal(w->n_released, 0);
    m.slow = false;
    on_ready(&m.local);
    assert_true(m.ended);
    assert_int_equal(w->n_released, 1);
    assert_int_equal(m.got.len, 5 + 6 + 5 + 1024 * 1024 + 5 + 5);
    done(&m);
}

/* One that hears may close another that has not heard yet. */
static void test_makers_close_each_other(void **state)
{
    struct world *w = *state;
    struct maker a = {0}, b = {0};
    a.also = &b;
    b.also = &a;
    assert_true(make(w, &a, "/t.S/Echo", UINT64_MAX));
    assert_true(make(w, &b, "/t.S/Echo", UINT64_MAX));
    grpc_local_send(&a.local, slice_str("a"));
    grpc_local_send(&b.local, slice_str("b"));
    world_turn(w);
    assert_int_equal(a.n_ready + b.n_ready, 1);
    assert_int_equal(a.ended + b.ended, 1);
    assert_int_equal(w->n_ended, 2);
    done(&a);
    done(&b);
}

static void test_counts(void **state)
{
    struct world *w = *state;
    for (unsigned inner = 0; inner < 2; inner++) {
        struct maker m = {.local.ready = on_ready};
        struct grpc_local_head head = {.path = "/t.S/Echo", .inner = inner != 0, .timeout_ms = UINT64_MAX};
        unsigned admitted = w->n_admitted;
        assert_true(grpc_local_open(&m.local, w->server, w->loop, &head));
        grpc_local_send(&m.local, slice_str("x"));
        world_turn(w);
        assert_true(m.ended);
        assert_int_equal(w->n_admitted - admitted, 1 - inner);
        done(&m);
    }
}

static void test_refused(void **state)
{
    struct world *w = *state;
    struct maker m = {0};
    w->refuse_all = true;
    assert_true(make(w, &m, "/t.S/Bidi", UINT64_MAX));
    world_turn(w);
    assert_true(m.ended);
    assert_int_not_equal(m.code, GRPC_OK);
    assert_int_equal(w->n_started, 0);
    done(&m);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, open_world, close_world)
    const struct CMUnitTest tests[] = {
        CASE(test_unary),   CASE(test_statuses),   CASE(test_too_large), CASE(test_deadline),
        CASE(test_closed_before_the_answer), CASE(test_streams), CASE(test_slow_maker), CASE(test_makers_close_each_other),
        CASE(test_counts), CASE(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
