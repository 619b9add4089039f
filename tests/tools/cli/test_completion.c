/* What is offered for a word that is not finished, and the scripts that ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "tools/cli/completion.h"

static const struct flag flags[] = {{"order", 0, FLAG_STRING, NULL, "which way"},
                                    {"prefix", 0, FLAG_BOOL, NULL, "all of them"},
                                    {"write-out", 'w', FLAG_STRING, NULL, "the format"},
                                    {0}};
static const char *const orders[] = {"ASCEND", "DESCEND", NULL};
static const struct completion_values values[] = {
    {"order", orders}, {"write-out", completion_formats}, {0}};

/* The answer for `partial` behind `words`, where two commands are possible. */
static char *answer(const char *const *words, size_t n, const char *partial)
{
    struct arena *arena = arena_create(1024, 1024 * 1024);
    struct flag_set set;
    flags_init(&set, arena);
    flags_add(&set, flags);
    char *text = NULL;
    size_t len = 0;
    struct completion c = {.partial = partial, .out = open_memstream(&text, &len)};
    assert_non_null(c.out);
    if (!completion_offer_values(&c, values, &set, words, n) && !completion_offer_flags(&c, &set)) {
        completion_offer(&c, "get", "Gets");
        completion_offer(&c, "grant", NULL);
    }
    completion_end(&c);
    (void)fclose(c.out);
    arena_destroy(&arena);
    return text;
}

static void candidates(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        const char *words[3];
        size_t n;
        const char *partial, *want;
    } rows[] = {
        {"every command for nothing", {NULL}, 0, "", "get\tGets\ngrant\n:4\n"},
        {"those that begin so", {NULL}, 0, "gr", "grant\n:4\n"},
        {"files where nothing fits", {NULL}, 0, "x", ":0\n"},
        {"a flag", {"get"}, 1, "--pre", "--prefix\tall of them\n:4\n"},
        {"help is a flag", {"get"}, 1, "--h", "--help\thow to use it\n:4\n"},
        {"no files for a flag that is unknown", {"get"}, 1, "--zz", ":4\n"},
        {"a flag's values", {"get", "--order"}, 2, "D", "DESCEND\n:4\n"},
        {"a letter's values", {"-w"}, 1, "j", "json\n:4\n"},
        {"a value behind the flag's name", {NULL}, 0, "--order=A", "--order=ASCEND\n:4\n"},
        {"an equals sign of its own", {"--order"}, 1, "=", "ASCEND\nDESCEND\n:4\n"},
        {"and a value behind it", {"--order", "="}, 2, "D", "DESCEND\n:4\n"},
        {"no values of a flag that has none", {"--prefix"}, 1, "ge", "get\tGets\n:4\n"},
        {"an empty flag", {"--"}, 1, "ge", "get\tGets\n:4\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *got = answer(rows[i].words, rows[i].n, rows[i].partial);
        if (strcmp(got, rows[i].want) != 0) {
            fail_msg("%s: %s", rows[i].claim, got);
        }
        free(got);
    }
}

static void scripts(void **state)
{
    (void)state;
    for (size_t i = 0; completion_shells[i] != NULL; i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *out = open_memstream(&text, &n);
        assert_non_null(out);
        assert_true(completion_script(completion_shells[i], "ctl", out));
        (void)fclose(out);
        assert_non_null(strstr(text, "__complete"));
        assert_non_null(strstr(text, "ctl"));
        free(text);
        assert_null(completion_complaint("ctl completion", &completion_shells[i], 1));
    }
    static const struct {
        const char *words[2];
        size_t n;
        const char *complaint;
    } rows[] = {{{NULL}, 0, "accepts 1 arg(s), received 0"},
                {{"bash", "zsh"}, 2, "accepts 1 arg(s), received 2"},
                {{"foo"}, 1, "invalid argument \"foo\" for \"ctl completion\""}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *got = completion_complaint("ctl completion", rows[i].words, rows[i].n);
        assert_string_equal(got, rows[i].complaint);
        free(got);
    }
    assert_false(completion_script("foo", "ctl", stderr));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates),
        cmocka_unit_test(scripts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
