/* test_buf.c - counts, and sharing between threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/buf.h"

#define N_THREADS 4
#define N_ROUNDS 20000

static void a_copy_holds_the_bytes(void **state)
{
    (void)state;
    struct buf *b = buf_copy(slice_str("value"));
    assert_true(slice_eq(buf_slice(b), slice_str("value")));
    struct buf *again = buf_ref(b);
    assert_ptr_equal(again, b);
    buf_unref(&b);
    assert_null(b);
    assert_true(slice_eq(buf_slice(again), slice_str("value")));
    buf_unref(&again);
    buf_unref(&again);
    assert_int_equal(buf_slice(NULL).len, 0);
}

static void an_empty_one_works(void **state)
{
    (void)state;
    struct buf *b = buf_copy(slice_of(NULL, 0));
    assert_int_equal(b->len, 0);
    buf_unref(&b);
}

static void *share(void *arg)
{
    struct buf *mine = arg;
    for (int i = 0; i < N_ROUNDS; i++) {
        struct buf *other = buf_ref(mine);
        buf_unref(&other);
    }
    size_t ok = slice_eq(buf_slice(mine), slice_str("shared"));
    buf_unref(&mine);
    return ok != 0 ? arg : NULL;
}

static void threads_share_one(void **state)
{
    (void)state;
    struct buf *b = buf_copy(slice_str("shared"));
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, share, buf_ref(b)), 0);
    }
    buf_unref(&b);
    for (int i = 0; i < N_THREADS; i++) {
        void *ok = NULL;
        assert_int_equal(pthread_join(threads[i], &ok), 0);
        assert_non_null(ok);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_holds_the_bytes),
        cmocka_unit_test(an_empty_one_works),
        cmocka_unit_test(threads_share_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
