/* Texts as Go's library writes and reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/assert.h"
#include "tools/cli/text.h"

static void assert_bytes(struct bytes *b, const char *want)
{
    bytes_add(b, "", 1);
    assert_string_equal((const char *)b->data, want);
    bytes_deinit(b);
}

static void quoting(void **state)
{
    (void)state;
    static const struct {
        const char *raw;
        size_t n;
        const char *quoted, *json;
    } rows[] = {
        {"plain", 5, "\"plain\"", "\"plain\""},
        {"a\"b\\", 4, "\"a\\\"b\\\\\"", "\"a\\\"b\\\\\""},
        {"\0\x1b\x7f", 3, "\"\\x00\\x1b\\x7f\"", "\"\\u0000\\u001b\x7f\""},
        {"\n\t\a", 3, "\"\\n\\t\\a\"", "\"\\n\\t\\u0007\""},
        {"\xff\xc3", 2, "\"\\xff\\xc3\"", "\"\\ufffd\\ufffd\""},
        {"\xc3\xa9\xe2\x80\x8b", 5, "\"\xc3\xa9\\u200b\"", "\"\xc3\xa9\xe2\x80\x8b\""},
        {"<&>\xe2\x80\xa8", 6, "\"<&>\\u2028\"", "\"\\u003c\\u0026\\u003e\\u2028\""},
        {"\xed\xa0\x80", 3, "\"\\xed\\xa0\\x80\"", "\"\\ufffd\\ufffd\\ufffd\""},
        {"\xf3\xb0\x80\x80", 4, "\"\\U000f0000\"", "\"\xf3\xb0\x80\x80\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes q = {0};
        text_quote(&q, slice_of(rows[i].raw, rows[i].n));
        assert_bytes(&q, rows[i].quoted);
        text_json(&q, slice_of(rows[i].raw, rows[i].n));
        assert_bytes(&q, rows[i].json);
    }
}

static void unquoting(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *value; /* NULL: no literal */
        size_t used;
    } rows[] = {
        {"\"a\\x41\\101\\u00e9\\n\" rest", "aAA\xc3\xa9\n", 19},
        {"`raw\\n` x", "raw\\n", 7},
        {"\"open", NULL, 0},
        {"\"\\q\"", NULL, 0},
        {"\"\\x4\"", NULL, 0},
        {"\"\\ud800\"", NULL, 0},
        {"bare", NULL, 0},
        {"\"\\400\"", NULL, 0},
        {"\"\\", NULL, 0},
        {"", NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes out = {0};
        size_t used = 0;
        enum err e = text_unquote(slice_str(rows[i].text), &out, &used);
        assert_int_equal(e, rows[i].value == NULL ? ERR_INVALID : OK);
        if (e == OK) {
            assert_int_equal(used, rows[i].used);
            assert_bytes(&out, rows[i].value);
        }
        bytes_deinit(&out);
    }
}

static void numbers(void **state)
{
    (void)state;
    int64_t v = 0;
    uint64_t u = 0;
    struct err_ctx why;
    assert_int_equal(text_int("0x1f", 0, &v, NULL), OK);
    assert_int_equal(v, 31);
    assert_int_equal(text_int("-9223372036854775808", 10, &v, NULL), OK);
    assert_true(v == INT64_MIN);
    assert_int_equal(text_int("9223372036854775808", 10, &v, &why), ERR_INVALID);
    assert_string_equal(why.text,
                        "strconv.ParseInt: parsing \"9223372036854775808\": value out of range");
    assert_int_equal(text_uint("zz", 16, &u, &why), ERR_INVALID);
    assert_string_equal(why.text, "strconv.ParseUint: parsing \"zz\": invalid syntax");
    assert_int_equal(text_int("", 10, &v, NULL), ERR_INVALID);
    assert_int_equal(text_int("1_0", 10, &v, NULL), ERR_INVALID);
    char size[TEXT_SIZE_BYTES];
    static const struct {
        uint64_t n;
        const char *text;
    } sizes[] = {{0, "0 B"},       {9, "9 B"},          {20480, "20 kB"},
                 {24576, "25 kB"}, {1234567, "1.2 MB"}, {2147483648, "2.1 GB"},
                 {999, "999 B"}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        text_size(sizes[i].n, size);
        assert_string_equal(size, sizes[i].text);
    }
    assert_int_equal(text_distance("gett", "get"), 1);
    assert_int_equal(text_distance("E", "e"), 0);
}

static void join(void *arg, struct slice w)
{
    struct bytes *b = arg;
    bytes_add_str(b, "<");
    bytes_add(b, w.data, w.len);
    bytes_add_str(b, ">");
}

static void words(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"put a b", "<put><a><b>"},
                                          {"  put 'a b' \"c\\x41 d\" ", "<put><a b><cA d>"},
                                          {"a\"b c\"", "<a\"b><c\">"},
                                          {"put \"open x", "<put><open><x>"},
                                          {"''", "<>"},
                                          {"", ""}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes b = {0};
        assert_int_equal(text_words(rows[i][0], join, &b, NULL), OK);
        assert_bytes(&b, rows[i][1]);
    }
    struct bytes b = {0};
    assert_int_equal(text_words("put \"\\q\"", join, &b, NULL), ERR_INVALID);
    bytes_deinit(&b);
}

static void sizes_and_distances(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        const char *text;
    } sizes[] = {{0, "0 B"},       {9, "9 B"},          {999, "999 B"},       {1000, "1.0 kB"},
                 {25000, "25 kB"}, {82854982, "83 MB"}, {UINT64_MAX, "18 EB"}};
    static const struct {
        const char *a, *b;
        unsigned distance;
    } words[] = {{"get", "get", 0},
                 {"GET", "get", 0},
                 {"gett", "get", 1},
                 {"", "abc", 3},
                 {"memebr", "member", 2}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char out[TEXT_SIZE_BYTES];
        text_size(sizes[i].n, out);
        assert_string_equal(out, sizes[i].text);
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        assert_int_equal(text_distance(words[i].a, words[i].b), words[i].distance);
    }
    char longer[80];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_true(text_distance(longer, longer) > 2); /* far from everything, even from itself */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quoting), cmocka_unit_test(unquoting),           cmocka_unit_test(numbers),
        cmocka_unit_test(words),   cmocka_unit_test(sizes_and_distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
