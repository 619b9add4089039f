/* test_mem.c - allocation, and the clock beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"

static void allocation(void **state)
{
    (void)state;
    void *p = xalloc(0);
    p = xrealloc(p, 0);
    p = xrealloc(p, 100);
    free(p);
    unsigned char *z = xcalloc(10, 10);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(z[i], 0);
    }
    free(z);
    free(xcalloc(0, 8));
    char *s = xstrdup("text");
    assert_string_equal(s, "text");
    free(s);
    s = xstrndup("text", 2);
    assert_string_equal(s, "te");
    free(s);
    s = xstrndup("text", 100);
    assert_string_equal(s, "text");
    free(s);
    s = xasprintf("%s-%d", "a", 7);
    assert_string_equal(s, "a-7");
    free(s);
}

static void the_machines_clock(void **state)
{
    (void)state;
    const struct clock *c = clock_real();
    uint64_t before = clock_now_ns(c);
    uint64_t after = clock_now_ns(c);
    assert_true(after >= before);
    assert_true(clock_now_ms(c) >= before / 1000000u);
    assert_true(clock_wall_ns(c) > UINT64_C(1700000000000000000)); /* November 2023 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation),
        cmocka_unit_test(the_machines_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
