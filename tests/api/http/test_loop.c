/* The loop: timers, inbox, hooks, and stopping. */
#include "api/http/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/mem.h"

#define TIMERS 200u

struct mark {
    struct loop_timer timer;
    uint64_t due_ms;
};

static uint64_t last_fired_ms;
static unsigned n_fired;

static void fired(struct loop *l, struct loop_timer *t)
{
    struct mark *m = CONTAINER_OF(t, struct mark, timer);
    assert_true(m->due_ms >= last_fired_ms);
    assert_true(m->due_ms <= loop_now_ms(l));
    last_fired_ms = m->due_ms;
    n_fired++;
}

static void test_timers_fire_in_order_and_not_when_cleared(void **state)
{
    (void)state;
    struct loop *l = loop_create(3);
    assert_int_equal(loop_number(l), 3);
    uint64_t start = loop_now_ms(l);
    struct mark *m = xcalloc(TIMERS, sizeof(*m));
    uint64_t x = 12345;
    for (size_t i = 0; i < TIMERS; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        m[i].timer.fire = fired;
        m[i].due_ms = start + (x >> 33) % 1000;
        loop_timer_set(l, &m[i].timer, start + 2000);
        loop_timer_set(l, &m[i].timer, m[i].due_ms); /* moved */
    }
    unsigned cleared = 0;
    for (size_t i = 0; i < TIMERS; i += 3) {
        loop_timer_clear(l, &m[i].timer);
        loop_timer_clear(l, &m[i].timer);
        cleared++;
    }
    last_fired_ms = 0;
    n_fired = 0;
    for (unsigned i = 0; i < 100; i++) {
        loop_skip(l, 10);
    }
    assert_int_equal(n_fired, TIMERS - cleared);
    loop_skip(l, 5000);
    assert_int_equal(n_fired, TIMERS - cleared);
    free(m);
    loop_destroy(&l);
    assert_null(l);
}

struct note {
    struct loop_item item;
    unsigned from;
    unsigned number;
};

struct crowd {
    struct loop *loop;
    unsigned next[4]; /* per sender: notes come in the order they were posted */
    unsigned n_seen;
    unsigned n_turns;
};

static struct crowd crowd;

static void seen(struct loop *l, struct loop_item *item)
{
    struct note *n = CONTAINER_OF(item, struct note, item);
    assert_int_equal(n->number, crowd.next[n->from]);
    crowd.next[n->from]++;
    crowd.n_seen++;
    if (crowd.n_seen == 4 * 5000) {
        loop_stop(l);
    }
    free(n);
}

static void *send_notes(void *arg)
{
    unsigned from = *(unsigned *)arg;
    for (unsigned i = 0; i < 5000; i++) {
        struct note *n = xcalloc(1, sizeof(*n));
        n->item.run = seen;
        n->from = from;
        n->number = i;
        loop_post(crowd.loop, &n->item);
    }
    return NULL;
}

static void on_turn(struct loop *l, void *arg)
{
    (void)l;
    struct crowd *c = arg;
    c->n_turns++;
}

static void test_posts_of_many_threads(void **state)
{
    (void)state;
    crowd = (struct crowd){.loop = loop_create(0)};
    struct loop_hook hook = {.run = on_turn, .arg = &crowd};
    loop_hook_add(crowd.loop, &hook);
    pthread_t t[4];
    unsigned ids[4] = {0, 1, 2, 3};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&t[i], NULL, send_notes, &ids[i]), 0);
    }
    loop_run(crowd.loop);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(t[i], NULL), 0);
    }
    assert_int_equal(crowd.n_seen, 4 * 5000);
    assert_true(crowd.n_turns > 0);
    loop_destroy(&crowd.loop);
}

static char order[16];
static size_t n_order;
static unsigned agains;

static void put_letter(struct loop *l, void *arg)
{
    const char *letter = arg;
    if (n_order < sizeof(order) - 1) {
        order[n_order++] = *letter;
    }
    if (*letter == 'c' && agains < 2) {
        agains++;
        loop_again(l); /* the next turn comes without any event */
    } else if (*letter == 'c') {
        loop_stop(l);
    }
}

static void test_hooks_in_order_and_again(void **state)
{
    (void)state;
    struct loop *l = loop_create(0);
    struct loop_hook c = {.run = put_letter, .arg = (void *)(uintptr_t) "c"};
    struct loop_hook a = {.run = put_letter, .arg = (void *)(uintptr_t) "a"};
    struct loop_hook b = {.run = put_letter, .arg = (void *)(uintptr_t) "b"};
    struct loop_hook s = {.run = put_letter, .arg = (void *)(uintptr_t) "s"};
    loop_hook_add_last(l, &c);
    loop_hook_add(l, &a);
    loop_hook_add(l, &b);
    loop_hook_add_stop(l, &s);
    n_order = 0;
    loop_run(l);
    assert_memory_equal(order, "abcabcabc", 9);
    assert_int_equal(order[n_order - 1], 's');
    loop_destroy(&l);
}

static unsigned n_late;

static void late(struct loop *l, struct loop_item *item)
{
    (void)l;
    (void)item;
    n_late++;
}

static void test_items_posted_after_the_end_still_run(void **state)
{
    (void)state;
    struct loop *l = loop_create(0);
    loop_stop(l);
    loop_run(l);
    struct loop_item items[3] = {{.run = late}, {.run = late}, {.run = late}};
    items[0].node.next = &items[1].node;
    items[1].node.next = &items[2].node;
    loop_post_list(l, &items[0], &items[2], 3);
    n_late = 0;
    loop_destroy(&l);
    assert_int_equal(n_late, 3);
}

static void fired_and_done(struct loop *l, struct loop_timer *t)
{
    fired(l, t);
    if (n_fired == 2) {
        loop_stop(l);
    }
}

static void test_alarm_wakes_a_running_loop(void **state)
{
    (void)state;
    struct loop *l = loop_create(0);
    uint64_t now = loop_now_ms(l);
    struct mark m[2] = {{{.fire = fired_and_done}, now + 5}, {{.fire = fired_and_done}, now + 15}};
    last_fired_ms = 0;
    n_fired = 0;
    loop_timer_set(l, &m[1].timer, m[1].due_ms);
    loop_timer_set(l, &m[0].timer, m[0].due_ms);
    loop_run(l);
    assert_int_equal(n_fired, 2);
    loop_destroy(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_fire_in_order_and_not_when_cleared),
        cmocka_unit_test(test_posts_of_many_threads),
        cmocka_unit_test(test_hooks_in_order_and_again),
        cmocka_unit_test(test_items_posted_after_the_end_still_run),
        cmocka_unit_test(test_alarm_wakes_a_running_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
