/* test_utf8.c - every first byte, and the edges of each length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"

static void the_first_character(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        const char *text;
        size_t len;
        size_t first; /* 0: not sound */
        uint32_t code;
    } rows[] = {
        {"a NUL is a character", "\0", 1, 1, 0},
        {"ASCII", "az", 2, 1, 'a'},
        {"the last of one byte", "\x7f", 1, 1, 0x7f},
        {"no byte that continues comes first", "\x80", 1, 0, 0},
        {"an overlong NUL", "\xc0\x80", 2, 0, 0},
        {"an overlong DEL", "\xc1\xbf", 2, 0, 0},
        {"the first of two bytes", "\xc2\x80", 2, 2, 0x80},
        {"the last of two bytes", "\xdf\xbf!", 3, 2, 0x7ff},
        {"two bytes, cut", "\xc3", 1, 0, 0},
        {"two bytes, the second is none", "\xc3(", 2, 0, 0},
        {"an overlong one of three", "\xe0\x9f\xbf", 3, 0, 0},
        {"the first of three bytes", "\xe0\xa0\x80", 3, 3, 0x800},
        {"before the surrogates", "\xed\x9f\xbf", 3, 3, 0xd7ff},
        {"the first surrogate", "\xed\xa0\x80", 3, 0, 0},
        {"the last surrogate", "\xed\xbf\xbf", 3, 0, 0},
        {"behind the surrogates", "\xee\x80\x80", 3, 3, 0xe000},
        {"the last of three bytes", "\xef\xbf\xbf", 3, 3, 0xffff},
        {"three bytes, cut", "\xef\xbf", 2, 0, 0},
        {"three bytes, the third is none", "\xe2\x82\xff", 3, 0, 0},
        {"an overlong one of four", "\xf0\x8f\xbf\xbf", 4, 0, 0},
        {"the first of four bytes", "\xf0\x90\x80\x80", 4, 4, 0x10000},
        {"the last of all", "\xf4\x8f\xbf\xbf", 4, 4, 0x10ffff},
        {"past the last", "\xf4\x90\x80\x80", 4, 0, 0},
        {"four bytes, cut", "\xf0\x9f\x98", 3, 0, 0},
        {"past four bytes", "\xf5\x80\x80\x80", 4, 0, 0},
        {"five bytes, once", "\xf8\x88\x80\x80\x80", 5, 0, 0},
        {"never", "\xff", 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t code = 0;
        size_t n = utf8_first(slice_of(rows[i].text, rows[i].len), &code);
        if (n != rows[i].first || (n > 0 && code != rows[i].code)) {
            fail_msg("%s: %zu bytes, U+%04x", rows[i].claim, n, (unsigned)code);
        }
    }
}

static void whole_texts(void **state)
{
    (void)state;
    assert_true(utf8_valid(slice_of(NULL, 0)));
    assert_true(utf8_valid(slice_str("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80.")));
    assert_false(utf8_valid(slice_str("na\xefve")));
    assert_false(utf8_valid(slice_str("cut \xe2\x82")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_character),
        cmocka_unit_test(whole_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
