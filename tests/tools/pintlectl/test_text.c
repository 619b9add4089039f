/* Texts as Go's library writes and reads them, flags as pflag takes them, the comparisons of a transaction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "tools/cli/flags.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/failure_texts.h"
#include "tools/pintlectl/txn_text.h"

#include <stdlib.h>

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

static const struct flag flags_of_test[] = {{"prefix", 0, FLAG_BOOL, NULL, ""},
                                            {"rev", 0, FLAG_INT64, NULL, ""},
                                            {"write-out", 'w', FLAG_STRING, "simple", ""},
                                            {"interactive", 'i', FLAG_BOOL, NULL, ""},
                                            {"endpoints", 0, FLAG_STRINGS, "x:1", ""},
                                            {"wait", 0, FLAG_DURATION, "5s", ""},
                                            {0}};

static void flags(void **state)
{
    (void)state;
    static const struct {
        const char *words[6];
        const char *error; /* NULL: none */
    } rows[] = {
        {{"k", "--prefix", "--rev", "-1", "-w=json"}, NULL},
        {{"-iw", "json", "k", "--rev=-1", "--prefix=t"}, NULL},
        {{"--bad"}, "unknown flag: --bad"},
        {{"-iz"}, "unknown shorthand flag: 'z' in -z"},
        {{"--rev"}, "flag needs an argument: --rev"},
        {{"-w"}, "flag needs an argument: 'w' in -w"},
        {{"--rev", "abc"},
         "invalid argument \"abc\" for \"--rev\" flag: strconv.ParseInt: parsing \"abc\": invalid "
         "syntax"},
        {{"--prefix=x"},
         "invalid argument \"x\" for \"--prefix\" flag: strconv.ParseBool: parsing \"x\": invalid "
         "syntax"},
        {{"--wait", "5"},
         "invalid argument \"5\" for \"--wait\" flag: time: missing unit in duration \"5\""},
        {{"--=x"}, "bad flag syntax: --=x"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena *a = arena_create(4096, 1 << 20);
        struct flag_set s;
        struct err_ctx why = {{0}};
        size_t n = 0;
        while (n < 6 && rows[i].words[n] != NULL) {
            n++;
        }
        flags_init(&s, a);
        flags_add(&s, flags_of_test);
        enum err e = flags_parse(&s, rows[i].words, n, &why);
        assert_int_equal(e, rows[i].error == NULL ? OK : ERR_INVALID);
        if (e != OK) {
            assert_string_equal(why.text, rows[i].error);
        } else {
            assert_true(flag_yes(&s, "prefix"));
            assert_int_equal(flag_number(&s, "rev"), -1);
            assert_string_equal(flag_text(&s, "write-out"), "json");
            assert_int_equal(s.n_args, 1);
        }
        arena_destroy(&a);
    }
}

static void lists_and_separator(void **state)
{
    (void)state;
    static const char *const given[] = {"--endpoints", "a:1,\"b,c\"", "k", "--endpoints=d",
                                        "--",          "--rev",       "x"};
    struct arena *a = arena_create(4096, 1 << 20);
    struct flag_set s;
    flags_init(&s, a);
    flags_add(&s, flags_of_test);
    assert_int_equal(flags_parse(&s, given, ARRAY_LEN(given), NULL), OK);
    const struct flag_value *v = flag(&s, "endpoints");
    assert_int_equal(v->n_list, 3);
    assert_string_equal(v->list[1], "b,c");
    assert_string_equal(v->list[2], "d");
    assert_int_equal(s.n_before, 1);
    assert_int_equal(s.n_args, 3);
    arena_destroy(&a);
}

static void comparisons(void **state)
{
    (void)state;
    static const struct {
        const char *line, *error; /* NULL: none */
        int64_t number;
    } rows[] = {
        {"mod(\"k\") > \"7\"", NULL, 7},
        {"ver( `k`)  != \"-1\" rest", NULL, -1},
        {"lease(\"k\") = \"1f\"", NULL, 31},
        {"garbage", "malformed comparison: garbage", 0},
        {"mod(foo) > \"0\"", "malformed comparison: mod(foo) > \"0\"; got mod(\"\")  \"\"", 0},
        {"mod(\"k\")>\"0\"", "malformed comparison: mod(\"k\")>\"0\"; got mod(\"k\")  \"\"", 0},
        {"xx(\"k\") > \"0\"", "malformed comparison: xx(\"k\") > \"0\" (unknown target xx)", 0},
        {"mod(\"k\") > \"a\"", "invalid txn compare request: mod(\"k\") > \"a\"", 0},
        {"mod(\"k\") >= \"1\"", "malformed comparison: mod(\"k\") >= \"1\"", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena *a = arena_create(4096, 1 << 20);
        Etcdserverpb__Compare c;
        struct bytes why = {0};
        enum err e = txn_compare(a, rows[i].line, &c, &why);
        assert_int_equal(e, rows[i].error == NULL ? OK : ERR_INVALID);
        if (e != OK) {
            assert_bytes(&why, rows[i].error);
        } else {
            assert_true(c.version == rows[i].number);
        }
        bytes_deinit(&why);
        arena_destroy(&a);
    }
}

static void targets(void **state)
{
    (void)state;
    static const struct {
        const char *first, *endpoint;
        bool secure;
        const char *target;
    } rows[] = {{"a:1", "a:1", false, "http://a:1"},
                {"a:1", "a:1", true, "https://a:1"},
                {"http://a:1", "b:2", true, "http://b:2"},
                {"https://a:1", "http://b:2/x", false, "https://b:2"},
                {"unix:///s", "unix:///s", false, "unix:/s"},
                {"unixs://s", "unixs://s", false, "unixs:s"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *t = conn_target(rows[i].first, rows[i].endpoint, rows[i].secure);
        assert_string_equal(t, rows[i].target);
        free(t);
    }
    assert_true(failure_text_known("etcdserver: no leader"));
    assert_false(failure_text_known("etcdserver: something new"));
    assert_string_equal(failure_code_name(14), "Unavailable");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quoting),     cmocka_unit_test(unquoting),
        cmocka_unit_test(numbers),     cmocka_unit_test(words),
        cmocka_unit_test(flags),       cmocka_unit_test(lists_and_separator),
        cmocka_unit_test(comparisons), cmocka_unit_test(targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
