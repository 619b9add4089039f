/* test_arena.c - caps, alignment, chunks and reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/arena.h"

static void memory_is_aligned_and_apart(void **state)
{
    (void)state;
    struct arena *a = arena_create(64, 1u << 20);
    uint8_t *before = NULL;
    for (size_t size = 0; size < 400; size++) {
        uint8_t *p = arena_alloc(a, size);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_ptr_not_equal(p, before);
        memset(p, (int)size, size);
        if (before != NULL) {
            for (size_t i = 0; i + 1 < size; i++) {
                assert_int_equal(before[i], (uint8_t)(size - 1));
            }
        }
        before = p;
    }
    arena_destroy(&a);
    assert_null(a);
    arena_destroy(&a);
}

static void the_cap_holds_and_a_refusal_costs_nothing(void **state)
{
    (void)state;
    struct arena *a = arena_create(32, 1000);
    assert_non_null(arena_alloc(a, 900));
    size_t used = arena_used(a);
    assert_null(arena_alloc(a, 200));
    assert_null(arena_alloc(a, SIZE_MAX));
    assert_null(arena_alloc(a, SIZE_MAX - 8));
    assert_null(arena_calloc(a, SIZE_MAX / 2, 3));
    assert_int_equal(arena_used(a), used);
    assert_non_null(arena_alloc(a, 80));
    assert_true(arena_used(a) <= 1000);
    arena_destroy(&a);
}

static void many_small_pieces_reach_the_cap_exactly(void **state)
{
    (void)state;
    struct arena *a = arena_create(0, 160000);
    size_t n = 0;
    while (arena_alloc(a, 16) != NULL) {
        n++;
    }
    assert_int_equal(n, 10000);
    assert_int_equal(arena_used(a), 160000);
    arena_reset(a);
    assert_int_equal(arena_used(a), 0);
    assert_non_null(arena_alloc(a, 160000));
    arena_destroy(&a);
}

static void reset_hands_out_the_first_chunk_again(void **state)
{
    (void)state;
    struct arena *a = arena_create(256, 1u << 20);
    void *first = arena_alloc(a, 64);
    assert_non_null(arena_alloc(a, 5000));
    arena_reset(a);
    assert_ptr_equal(arena_alloc(a, 64), first);
    arena_destroy(&a);
}

static void calloc_zeroes_and_dup_copies(void **state)
{
    (void)state;
    struct arena *a = arena_create(256, 4096);
    memset(arena_alloc(a, 128), 0xFF, 128);
    arena_reset(a);
    const uint8_t *z = arena_calloc(a, 16, 8);
    for (size_t i = 0; i < 128; i++) {
        assert_int_equal(z[i], 0);
    }
    assert_memory_equal(arena_dup(a, "hello", 6), "hello", 6);
    assert_non_null(arena_dup(a, NULL, 0));
    arena_destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_and_apart),
        cmocka_unit_test(the_cap_holds_and_a_refusal_costs_nothing),
        cmocka_unit_test(many_small_pieces_reach_the_cap_exactly),
        cmocka_unit_test(reset_hands_out_the_first_chunk_again),
        cmocka_unit_test(calloc_zeroes_and_dup_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
