/* Where values end in a text that comes in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/gateway/split.h"
#include "base/assert.h"

static const struct {
    const char *text;
    size_t first; /* length of the first value; 0: not all of it is there */
} rows[] = {
    {"", 0},
    {" \n", 0},
    {"{}", 2},
    {" {} {}", 3},
    {"{\"a\":[{},{}]} ", 13},
    {"{\"}\":1}", 7},
    {"{\"\\\"}\":1}", 9},
    {"{\"\\\\\":1}", 8},
    {"{", 0},
    {"{\"", 0},
    {"{\"\\", 0},
    {"{[}", 0},
    {"{]", 2}, /* the reader's to refuse */
    {"x{}", 3},
    {" [1]", 4},
    {"}", 1},
    {"\"{\"", 3},
};

static void test_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gjson_split s = {0};
        assert_int_equal(gjson_split(&s, slice_str(rows[i].text)), rows[i].first);
    }
}

/* Byte by byte an object ends at the same place. */
static void test_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gjson_split s = {0};
        size_t n = 0, given = 0;
        while (n == 0 && given < strlen(rows[i].text)) {
            given++;
            n = gjson_split(&s, slice_of(rows[i].text, given));
        }
        bool object = rows[i].text[strspn(rows[i].text, " \n")] == '{';
        assert_true(n == rows[i].first || !object);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole), cmocka_unit_test(test_pieces)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
