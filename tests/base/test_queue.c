/* test_queue.c - order, bound, wake-ups, and many producers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/assert.h"
#include "base/queue.h"

#define N_PRODUCERS 4
#define N_EACH 20000

struct item {
    struct qnode node;
    unsigned producer;
    unsigned number;
};

static struct item *item_of(struct qnode *n)
{
    return CONTAINER_OF(n, struct item, node);
}

static void count_wake(void *arg)
{
    atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static void order_bound_and_one_wake(void **state)
{
    (void)state;
    _Atomic unsigned n_wakes = 0;
    struct queue q;
    struct item items[4] = {0};
    queue_init(&q, 3, count_wake, &n_wakes);
    assert_null(queue_take_all(&q));
    for (unsigned round = 1; round <= 2; round++) {
        for (unsigned i = 0; i < 4; i++) {
            items[i].number = i;
            assert_int_equal(queue_push(&q, &items[i].node), i < 3 ? OK : ERR_BUSY);
        }
        assert_int_equal(n_wakes, round);
        struct qnode *n = queue_take_all(&q);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(item_of(n)->number, i);
            n = n->next;
        }
        assert_null(n);
    }
    queue_deinit(&q);
}

static void a_list_goes_past_the_bound(void **state)
{
    (void)state;
    _Atomic unsigned n_wakes = 0;
    struct queue q;
    struct item items[3] = {0};
    struct item more = {0};
    queue_init(&q, 1, count_wake, &n_wakes);
    queue_push_list(&q, NULL, NULL, 0);
    assert_int_equal(n_wakes, 0);
    items[0].node.next = &items[1].node;
    items[1].node.next = &items[2].node;
    items[2].node.next = &items[0].node; /* the last link is ignored */
    queue_push_list(&q, &items[0].node, &items[2].node, 3);
    assert_int_equal(n_wakes, 1);
    assert_int_equal(queue_push(&q, &more.node), ERR_BUSY);
    struct qnode *n = queue_take_all(&q);
    for (size_t i = 0; i < 3; i++) {
        assert_ptr_equal(n, &items[i].node);
        n = n->next;
    }
    assert_null(n);
    assert_int_equal(queue_push(&q, &more.node), OK);
    assert_ptr_equal(queue_take_all(&q), &more.node);
    queue_deinit(&q);
}

static void a_deadline_ends_the_wait(void **state)
{
    (void)state;
    struct queue q;
    struct item it = {0};
    queue_init(&q, 1, NULL, NULL);
    assert_null(queue_wait_all(&q, 0)); /* long over */
    struct timespec ts;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
    uint64_t soon = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + 2000000u;
    assert_null(queue_wait_all(&q, soon));
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
    assert_true((uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec >= soon);
    assert_int_equal(queue_push(&q, &it.node), OK);
    assert_ptr_equal(queue_wait_all(&q, 0), &it.node); /* what is there needs no waiting */
    queue_deinit(&q);
}

struct load {
    struct queue *q;
    struct item *items;
    uint64_t n_busy;
};

static void *produce(void *arg)
{
    struct load *l = arg;
    for (unsigned i = 0; i < N_EACH; i++) {
        while (queue_push(l->q, &l->items[i].node) == ERR_BUSY) {
            l->n_busy++;
            (void)sched_yield();
        }
    }
    return NULL;
}

static void producers_keep_their_order(void **state)
{
    (void)state;
    static struct item items[N_PRODUCERS][N_EACH];
    struct queue q;
    struct load loads[N_PRODUCERS];
    pthread_t threads[N_PRODUCERS];
    queue_init(&q, 64, NULL, NULL);
    for (unsigned p = 0; p < N_PRODUCERS; p++) {
        for (unsigned i = 0; i < N_EACH; i++) {
            items[p][i].producer = p;
            items[p][i].number = i;
        }
        loads[p] = (struct load){&q, items[p], 0};
        assert_int_equal(pthread_create(&threads[p], NULL, produce, &loads[p]), 0);
    }
    unsigned next[N_PRODUCERS] = {0};
    for (size_t left = (size_t)N_PRODUCERS * N_EACH; left > 0;) {
        size_t n_taken = 0;
        for (struct qnode *n = queue_wait_all(&q, UINT64_MAX); n != NULL;) {
            struct item *it = item_of(n);
            n = n->next;
            assert_int_equal(it->number, next[it->producer]);
            next[it->producer]++;
            n_taken++;
        }
        assert_in_range(n_taken, 1, 64);
        left -= n_taken;
    }
    for (unsigned p = 0; p < N_PRODUCERS; p++) {
        assert_int_equal(pthread_join(threads[p], NULL), 0);
    }
    assert_null(queue_take_all(&q));
    queue_deinit(&q);
}

static void a_closed_queue_refuses_and_keeps(void **state)
{
    (void)state;
    struct queue q;
    struct item before = {0};
    struct item after = {0};
    struct item listed = {0};
    queue_init(&q, 3, NULL, NULL);
    assert_int_equal(queue_push(&q, &before.node), OK);
    queue_close(&q);
    assert_int_equal(queue_push(&q, &after.node), ERR_BUSY);
    queue_push_list(&q, &listed.node, &listed.node, 1); /* completions still come */
    struct qnode *n = queue_take_all(&q);
    assert_ptr_equal(n, &before.node);
    assert_ptr_equal(n->next, &listed.node);
    assert_int_equal(queue_push(&q, &after.node), ERR_BUSY);
    queue_deinit(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_bound_and_one_wake),
        cmocka_unit_test(a_list_goes_past_the_bound),
        cmocka_unit_test(a_closed_queue_refuses_and_keeps),
        cmocka_unit_test(a_deadline_ends_the_wait),
        cmocka_unit_test(producers_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
