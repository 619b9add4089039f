/* test_number.c - doubles as Go prints them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/number.h"

static void both_layouts(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *g;
        const char *f;
    } rows[] = {
        {0, "0", "0"},
        {-0.0, "-0", "-0"},
        {1, "1", "1"},
        {-1.5, "-1.5", "-1.5"},
        {0.001, "0.001", "0.001"},
        {1.024, "1.024", "1.024"},
        {0.0001, "0.0001", "0.0001"},
        {0.00001, "1e-05", "0.00001"},
        {0.00012345, "0.00012345", "0.00012345"},
        {100000, "100000", "100000"},
        {123456, "123456", "123456"},
        {1000000, "1e+06", "1000000"},
        {1234567, "1.234567e+06", "1234567"},
        {123456.789, "123456.789", "123456.789"},
        {9007199254740993.0, "9.007199254740992e+15", "9007199254740992"},
        {0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"},
        {1e21, "1e+21", "1000000000000000000000"},
        {1e100, "1e+100", NULL},
        {8.192, "8.192", "8.192"},
        {DBL_MAX, "1.7976931348623157e+308", NULL},
        {DBL_TRUE_MIN, "5e-324", NULL},
        {(double)INFINITY, "+Inf", "+Inf"},
        {-(double)INFINITY, "-Inf", "-Inf"},
        {(double)NAN, "NaN", "NaN"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char g[NUMBER_G_BYTES];
        char f[NUMBER_F_BYTES];
        number_format_g(rows[i].v, g);
        assert_string_equal(g, rows[i].g);
        number_format_f(rows[i].v, f);
        if (rows[i].f != NULL) {
            assert_string_equal(f, rows[i].f);
        }
    }
}

static void any_double_reads_back(void **state)
{
    (void)state;
    uint64_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        bits = bits * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double v;
        memcpy(&v, &bits, sizeof(v));
        if (isnan(v) || isinf(v)) {
            continue;
        }
        char g[NUMBER_G_BYTES];
        char f[NUMBER_F_BYTES];
        number_format_g(v, g);
        number_format_f(v, f);
        assert_true(strtod(g, NULL) == v);
        assert_true(strtod(f, NULL) == v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_layouts),
        cmocka_unit_test(any_double_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
