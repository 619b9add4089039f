/* test_slice.c - the order of slices, and the array of bytes that grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/assert.h"
#include "base/slice.h"

static int sign(int v)
{
    return (v > 0) - (v < 0);
}

static void order(void **state)
{
    (void)state;
    static const struct {
        const char *a;
        const char *b;
        int want;
    } rows[] = {
        {"", "", 0},     {"", "a", -1},  {"a", "a", 0},
        {"a", "ab", -1}, {"b", "ab", 1}, {"\xff", "a", 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice a = slice_str(rows[i].a);
        struct slice b = slice_str(rows[i].b);
        assert_int_equal(sign(slice_cmp(a, b)), rows[i].want);
        assert_int_equal(sign(slice_cmp(b, a)), -rows[i].want);
        assert_int_equal(slice_eq(a, b), rows[i].want == 0);
    }
    assert_true(slice_eq(slice_of(NULL, 0), slice_str("")));
}

static void bytes_grow(void **state)
{
    (void)state;
    struct bytes b = {0};
    bytes_add(&b, NULL, 0);
    assert_int_equal(b.len, 0);
    for (unsigned i = 0; i < 10000; i++) {
        uint8_t byte = (uint8_t)i;
        bytes_add(&b, &byte, 1);
    }
    assert_int_equal(b.len, 10000);
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(b.data[i], (uint8_t)i);
    }
    size_t cap = b.cap;
    bytes_reset(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, cap);
    bytes_deinit(&b);
    assert_null(b.data);
    assert_non_null(bytes_reserve(&b, 0));
    bytes_deinit(&b);
}

static void printing_appends(void **state)
{
    (void)state;
    struct bytes b = {0};
    bytes_add_str(&b, "a=");
    bytes_printf(&b, "%d", 42);
    bytes_printf(&b, "%0500d", 7); /* longer than the room that is there */
    bytes_printf(&b, "%s", "");
    assert_int_equal(b.len, 4 + 500);
    assert_memory_equal(b.data, "a=42000", 7);
    assert_int_equal(b.data[503], '7');
    bytes_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(bytes_grow),
        cmocka_unit_test(printing_appends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
