/* The JSON reader and base64: what is taken, what is refused and with which words, and that numbers stay exact. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/gateway/base64.h"
#include "api/gateway/json.h"
#include "api/gateway/limits.h"
#include "base/assert.h"

/* --- values ------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *text;
    const char *fault; /* NULL: a whole value */
} values[] = {
    {"{}", NULL},
    {" [ ] ", NULL},
    {"{\"a\":1,\"b\":[true,false,null,\"x\",{\"c\":{}}]}", NULL},
    {"-0.5e+7", NULL},
    {"\"\\u0041\\ud83d\\ude00\\n\"", NULL},
    {"", "unexpected EOF"},
    {"{", "unexpected EOF"},
    {"{\"a\"", "unexpected EOF"},
    {"{\"a\":", "unexpected EOF"},
    {"[1,", "unexpected EOF"},
    {"\"abc", "unexpected EOF"},
    {"\"\\", "unexpected EOF"},
    {"\"\\u12", "unexpected EOF"},
    {"tru", "unexpected EOF"},
    {"-", "unexpected EOF"},
    {"1.", "unexpected EOF"},
    {"x", "invalid character 'x' looking for beginning of value"},
    {"{a", "invalid character 'a' looking for beginning of object key string"},
    {"{\"a\" 1}", "invalid character '1' after object key"},
    {"{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"},
    {"{\"a\":1,}", "invalid character '}' looking for beginning of object key string"},
    {"[1 2]", "invalid character '2' after array element"},
    {"[1,]", "invalid character ']' looking for beginning of value"},
    {"trux", "invalid character 'x' in literal true (expecting 'e')"},
    {"nul1", "invalid character '1' in literal null (expecting 'l')"},
    {"-x", "invalid character 'x' in numeric literal"},
    {"1.x", "invalid character 'x' after decimal point in numeric literal"},
    {"1ex", "invalid character 'x' in exponent of numeric literal"},
    {"\"a\nb\"", "invalid character '\\x0a' in string literal"},
    {"\"\\x\"", "invalid character 'x' in string escape code"},
    {"\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape"},
    {"\"\\ud800\"", "proto: (line 1:2): invalid escape code in string"},
    {"\"\\udc00\\ud800\"", "proto: (line 1:2): invalid escape code in string"},
    {"\n\"\\ud800\\u0041\"", "proto: (line 2:2): invalid escape code in string"},
    {"'", "invalid character '\\'' looking for beginning of value"},
    {"\x80", "invalid character '\\x80' looking for beginning of value"},
};

static void test_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct err_ctx ec = {{0}};
        struct gjson j;
        gjson_init(&j, slice_str(values[i].text), &ec);
        enum err e = gjson_skip(&j);
        if (values[i].fault == NULL) {
            assert_int_equal(e, OK);
            assert_int_equal(gjson_peek(&j), JSON_END);
        } else {
            assert_int_equal(e, ERR_INVALID);
            assert_string_equal(ec.text, values[i].fault);
        }
        gjson_deinit(&j);
    }
}

static void test_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        struct slice value;
    } rows[] = {
        {"\"\"", {(const uint8_t *)"", 0}},
        {"\"plain\"", {(const uint8_t *)"plain", 5}},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", {(const uint8_t *)"\"\\/\b\f\n\r\t", 8}},
        {"\"a\\u0000b\"", {(const uint8_t *)"a\0b", 3}},
        {"\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"", {(const uint8_t *)"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", 11}},
        {"\"\\ud800\\udc00\\uDBFF\\uDFFF\"", {(const uint8_t *)"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gjson j;
        struct slice s;
        gjson_init(&j, slice_str(rows[i].text), NULL);
        assert_int_equal(gjson_string(&j, &s), OK);
        assert_true(slice_eq(s, rows[i].value));
        gjson_deinit(&j);
    }
}

static void test_depth(void **state)
{
    (void)state;
    for (unsigned over = 0; over < 2; over++) {
        char text[2 * (JSON_DEPTH_MAX + 1) + 1];
        unsigned n = JSON_DEPTH_MAX + over;
        memset(text, '[', n);
        memset(text + n, ']', n);
        struct gjson j;
        gjson_init(&j, slice_of(text, 2u * n), NULL);
        assert_int_equal(gjson_skip(&j), over == 0 ? OK : ERR_INVALID);
        gjson_deinit(&j);
    }
}

/* --- numbers -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *as_int, *as_uint; /* NULL: it is none */
} numbers[] = {
    {"0", "0", "0"},
    {"-0", "0", "0"},
    {"7", "7", "7"},
    {"-7", "-7", NULL},
    {"9007199254740993", "9007199254740993", "9007199254740993"},
    {"9223372036854775807", "9223372036854775807", "9223372036854775807"},
    {"9223372036854775808", NULL, "9223372036854775808"},
    {"-9223372036854775808", "-9223372036854775808", NULL},
    {"-9223372036854775809", NULL, NULL},
    {"18446744073709551615", NULL, "18446744073709551615"},
    {"18446744073709551616", NULL, NULL},
    {"1.0", "1", "1"},
    {"1.5", NULL, NULL},
    {"1.50e1", "15", "15"},
    {"1.55e1", NULL, NULL},
    {"2e3", "2000", "2000"},
    {"2E+3", "2000", "2000"},
    {"2000e-3", "2", "2"},
    {"2001e-3", NULL, NULL},
    {"1e19", NULL, "10000000000000000000"},
    {"1e20", NULL, NULL},
    {"0e999999", "0", "0"},
    {"1e999999", NULL, NULL},
    {"1e99999999999999999999", NULL, NULL},
    {"1e-99999999999999999999", NULL, NULL},
    {"0.000", "0", "0"},
};

static void test_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        char text[32];
        int64_t n = 0;
        uint64_t u = 0;
        bool is = gjson_to_int(slice_str(numbers[i].text), &n);
        assert_int_equal(is, numbers[i].as_int != NULL);
        if (is) {
            (void)snprintf(text, sizeof(text), "%lld", (long long)n);
            assert_string_equal(text, numbers[i].as_int);
        }
        is = gjson_to_uint(slice_str(numbers[i].text), &u);
        assert_int_equal(is, numbers[i].as_uint != NULL);
        if (is) {
            (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)u);
            assert_string_equal(text, numbers[i].as_uint);
        }
    }
}

/* --- base64 ----------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *raw; /* NULL: it stands for nothing */
} codes[] = {
    {"", ""},         {"Zg==", "f"},   {"Zm8=", "fo"},    {"Zm9v", "foo"},   {"Zm9vYg==", "foob"}, {"Zg", "f"},       {"Zm8", "fo"},
    {"Zm9vYg", "foob"}, {"++//", "\xfb\xef\xff"}, {"--__", "\xfb\xef\xff"}, {"+-//", NULL}, {"Z", NULL}, {"Zg=", NULL}, {"Zg==Zg==", NULL},
    {"Z===", NULL},   {"====", NULL},  {"Zm9v=", NULL},   {"Zm\n9v\r\nZg", "foof"}, {"Zm9v\nZg\n", NULL}, {"Zm9!", NULL}, {"Zh==", "f"}, {"Zm=v", NULL},
};

static void test_base64(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct bytes b = {0};
        bytes_add_str(&b, "before");
        bool sound = base64_take(&b, slice_str(codes[i].text));
        assert_int_equal(sound, codes[i].raw != NULL);
        struct slice got = slice_of(b.data + 6, b.len - 6);
        assert_true(slice_eq(got, sound ? slice_str(codes[i].raw) : (struct slice){NULL, 0}));
        bytes_deinit(&b);
    }
    uint8_t raw[300];
    for (size_t n = 0; n < sizeof(raw); n++) {
        raw[n] = (uint8_t)(n * 7);
        struct bytes text = {0}, back = {0};
        base64_add(&text, slice_of(raw, n));
        assert_int_equal(text.len, (n + 2) / 3 * 4);
        assert_true(base64_take(&back, bytes_slice(&text)));
        assert_true(slice_eq(bytes_slice(&back), slice_of(raw, n)));
        bytes_deinit(&text);
        bytes_deinit(&back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_strings), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
