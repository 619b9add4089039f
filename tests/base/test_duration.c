/* test_duration.c - durations as Go writes and reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/assert.h"
#include "base/log.h"

static void durations_as_go_prints_them(void **state)
{
    (void)state;
    static const struct {
        int64_t ns;
        const char *want;
    } rows[] = {
        {0, "0s"},
        {1, "1ns"},
        {999, "999ns"},
        {1000, "1\xC2\xB5s"},
        {1100, "1.1\xC2\xB5s"},
        {999999, "999.999\xC2\xB5s"},
        {1000000, "1ms"},
        {1860214, "1.860214ms"},
        {2200000, "2.2ms"},
        {1000000000, "1s"},
        {3300000000, "3.3s"},
        {59999999999, "59.999999999s"},
        {60000000000, "1m0s"},
        {245000000000, "4m5s"},
        {245001000000, "4m5.001s"},
        {7200000000000, "2h0m0s"},
        {18367001000000, "5h6m7.001s"},
        {480000000001, "8m0.000000001s"},
        {-1, "-1ns"},
        {-7200000000000, "-2h0m0s"},
        {INT64_MAX, "2562047h47m16.854775807s"},
        {INT64_MIN, "-2562047h47m16.854775808s"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[32];
        go_duration_format(rows[i].ns, text, sizeof(text));
        assert_string_equal(text, rows[i].want);
        int64_t back = 77;
        assert_int_equal(go_duration_parse(text, &back), OK);
        assert_true(back == rows[i].ns);
    }
}

static void durations_as_go_reads_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {
        {"0", 0},
        {"+0", 0},
        {"-0", 0},
        {"5s", 5000000000},
        {"+5s", 5000000000},
        {"-5s", -5000000000},
        {"300ms", 300000000},
        {"1.5s", 1500000000},
        {"2h45m", 9900000000000},
        {"-1h", -3600000000000},
        {"5.s", 5000000000},
        {".5s", 500000000},
        {"1.004s", 1004000000},
        {"1.0040s", 1004000000},
        {"100.00100s", 100001000000},
        {"10ns", 10},
        {"11us", 11000},
        {"12\xC2\xB5s", 12000},
        {"12\xCE\xBCs", 12000},
        {"14s15ms", 14015000000},
        {"3h30m", 12600000000000},
        {"10.5s4m", 250500000000},
        {"1h2m3s4ms5us6ns", 3723004005006},
        {"39h9m14.425s", 140954425000000},
        {"0.3333333333333333333h", 1200000000000},
        {"9223372036854775807ns", INT64_MAX},
        {"-9223372036854775808ns", INT64_MIN},
        {"9223372036854775.807us", INT64_MAX},
        {"0.100000000000000000000h", 360000000000},
        {"0.9223372036854775807s", 922337203},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t ns = 77;
        if (go_duration_parse(rows[i].text, &ns) != OK || ns != rows[i].ns) {
            fail_msg("%s: %lld", rows[i].text, (long long)ns);
        }
    }
}

static void what_is_no_duration(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "3",
        "-",
        "s",
        ".",
        "-.",
        ".s",
        "+.s",
        "1d",
        "1 s",
        "1s ",
        "1e3s",
        "3000",
        "--1s",
        "1.2.3s",
        "9223372036854775808ns",
        "-9223372036854775809ns",
        "9223372036854775808s",
        "9223372036854ms775us808ns1ns",
        "3000000h",
        "99999999999999999999s",
        "1S",
        "-9223372036854775809ns",
        "1\xC2s",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t ns = 77;
        if (go_duration_parse(rows[i], &ns) != ERR_INVALID || ns != 77) {
            fail_msg("%s: %lld", rows[i], (long long)ns);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_as_go_prints_them),
        cmocka_unit_test(durations_as_go_reads_them),
        cmocka_unit_test(what_is_no_duration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
