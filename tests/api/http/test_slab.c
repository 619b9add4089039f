/* Blocks by size class: contents survive, sizes are reused, what is kept is bounded. */
#include "api/http/slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_blocks_are_reused_by_class(void **state)
{
    (void)state;
    struct slab s;
    slab_init(&s);
    void *a = s.mem.malloc(10, &s);
    s.mem.free(a, &s);
    assert_ptr_equal(s.mem.malloc(SLAB_STEP, &s), a);
    void *b = s.mem.malloc(SLAB_STEP + 1, &s);
    assert_ptr_not_equal(a, b);
    s.mem.free(a, &s);
    s.mem.free(b, &s);
    s.mem.free(NULL, &s);
    uint8_t *z = s.mem.calloc(5, 11, &s);
    assert_ptr_equal(z, a);
    for (size_t i = 0; i < 55; i++) {
        assert_int_equal(z[i], 0);
    }
    s.mem.free(z, &s);
    assert_null(s.mem.calloc(SIZE_MAX, 2, &s));
    slab_deinit(&s);
}

static void test_growing_keeps_the_bytes(void **state)
{
    (void)state;
    struct slab s;
    slab_init(&s);
    uint8_t *p = NULL;
    for (size_t n = 1; n < 5000; n += 37) {
        p = s.mem.realloc(p, n, &s);
        p[n - 1] = (uint8_t)n;
        for (size_t k = 1; k <= n; k += 37) {
            assert_int_equal(p[k - 1], (uint8_t)k);
        }
    }
    s.mem.free(p, &s);
    slab_deinit(&s);
}

static void test_what_is_kept_is_bounded(void **state)
{
    (void)state;
    struct slab s;
    slab_init(&s);
    enum { N = 10000 };
    static void *blocks[N];
    for (size_t i = 0; i < N; i++) {
        blocks[i] = s.mem.malloc(SLAB_STEP * SLAB_CLASSES, &s);
        memset(blocks[i], 1, SLAB_STEP * SLAB_CLASSES);
    }
    for (size_t i = 0; i < N; i++) {
        s.mem.free(blocks[i], &s);
        assert_true(s.free_bytes <= SLAB_FREE_BYTES_MAX);
    }
    assert_int_equal(s.free_bytes, SLAB_FREE_BYTES_MAX);
    slab_deinit(&s);
    assert_int_equal(s.free_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_are_reused_by_class),
        cmocka_unit_test(test_growing_keeps_the_bytes),
        cmocka_unit_test(test_what_is_kept_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
