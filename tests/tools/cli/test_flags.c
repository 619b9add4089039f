/* Flags as pflag takes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "tools/cli/flags.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags),
        cmocka_unit_test(lists_and_separator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
