/* The load tool's histogram: percentiles within its promised width, at any scale. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "bench/histogram.h"

static void test_percentiles(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        uint64_t first, step, n;
        uint32_t permyriad;
        uint64_t want;
    } rows[] = {
        {"an empty one has zero", 0, 0, 0, 9900, 0},
        {"small values are exact", 0, 1, 64, 5000, 31},
        {"the last of small values", 0, 1, 64, 10000, 63},
        {"one sample is every percentile", 123456789, 0, 1, 10, 123456789},
        {"the median of a million", 1, 1, 1000000, 5000, 500000},
        {"a thousandth from the end", 1, 1, 1000000, 9990, 999000},
        {"nanoseconds of hours", 3600000000000, 1000000000, 1000, 9000, 4499000000000},
        {"the largest number", UINT64_MAX, 0, 1, 5000, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        print_message("%s\n", rows[i].claim);
        struct histogram *h = xcalloc(1, sizeof(*h));
        for (uint64_t k = 0; k < rows[i].n; k++) {
            histogram_add(h, rows[i].first + k * rows[i].step);
        }
        uint64_t got = histogram_percentile(h, rows[i].permyriad);
        assert_true(got >= rows[i].want);
        assert_true(got - rows[i].want <= rows[i].want / HISTOGRAM_SUB);
        free(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_percentiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
