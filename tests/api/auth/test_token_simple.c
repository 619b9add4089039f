/* test_token_simple.c - the table of simple tokens, under a clock of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "api/etcd/auth_token_simple.h"
#include "base/assert.h"

static const char *use(struct simple_tokens *t, const char *token, uint64_t now_ms)
{
    return simple_tokens_use(t, slice_str(token), now_ms);
}

static void test_life(void **state)
{
    (void)state;
    struct simple_tokens *t = simple_tokens_create(300000);
    simple_tokens_add(t, "abc.7", "ann", 1000);
    simple_tokens_add(t, "def.8", "bob", 2000);
    assert_null(use(t, "abc.8", 2000));
    assert_null(use(t, "abc", 2000));
    assert_null(use(t, "", 2000));
    assert_string_equal(use(t, "abc.7", 301000),
                        "ann"); /* to the last moment; used: it begins anew */
    assert_null(use(t, "def.8", 302001));
    assert_int_equal(simple_tokens_count(t), 1);
    assert_string_equal(use(t, "abc.7", 601000), "ann");
    assert_null(use(t, "abc.7", 901001));
    assert_int_equal(simple_tokens_count(t), 0);
    simple_tokens_destroy(&t);
    assert_null(t);
}

static void test_dropped(void **state)
{
    (void)state;
    struct simple_tokens *t = simple_tokens_create(1000);
    for (int i = 0; i < 1000; i++) {
        char token[32];
        (void)snprintf(token, sizeof(token), "x.%d", i);
        simple_tokens_add(t, token, i % 3 == 0 ? "ann" : "bob", 0);
    }
    simple_tokens_add(t, "x.5", "cat", 0); /* a second time: the new owner's */
    assert_int_equal(simple_tokens_count(t), 1000);
    simple_tokens_drop_user(t, "bob");
    assert_int_equal(simple_tokens_count(t), 335);
    assert_null(use(t, "x.1", 0));
    assert_string_equal(use(t, "x.999", 0), "ann");
    assert_string_equal(use(t, "x.5", 0), "cat");
    simple_tokens_clear(t);
    assert_int_equal(simple_tokens_count(t), 0);
    assert_null(use(t, "x.999", 0));
    simple_tokens_add(t, "x.999", "dan", 0);
    assert_string_equal(use(t, "x.999", 0), "dan");
    simple_tokens_destroy(&t);
}

static void test_bound(void **state)
{
    (void)state;
    struct simple_tokens *t = simple_tokens_create(1000);
    char token[32];
    for (unsigned i = 0; i <= SIMPLE_TOKENS_MAX; i++) {
        (void)snprintf(token, sizeof(token), "x.%u", i);
        simple_tokens_add(t, token, "u", 0);
        if (i == 10) {
            assert_non_null(use(t, "x.0", 0));
        }
    }
    assert_int_equal(simple_tokens_count(t), SIMPLE_TOKENS_MAX);
    assert_non_null(use(t, "x.0", 0)); /* was used later than number one, which had to go */
    assert_null(use(t, "x.1", 0));
    assert_non_null(use(t, "x.2", 0));
    simple_tokens_destroy(&t);
}

static void test_form(void **state)
{
    (void)state;
    static const struct {
        const char *token;
        bool sound;
        uint64_t index;
    } rows[] = {{"abc.7", true, 7},
                {".7", true, 7},
                {"abc.18446744073709551615", true, UINT64_MAX},
                {"abc.18446744073709551616", false, 0},
                {"abc", false, 0},
                {"abc.", false, 0},
                {"", false, 0},
                {"a.b.7", false, 0},
                {"abc.-7", false, 0},
                {"abc.+7", false, 0},
                {"abc.7 ", false, 0}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t index = 0;
        assert_int_equal(simple_token_index(slice_str(rows[i].token), &index), rows[i].sound);
        assert_int_equal(index, rows[i].index);
    }
    uint8_t random[SIMPLE_TOKEN_RANDOM_BYTES] = {0};
    char letters[SIMPLE_TOKEN_LETTERS + 1];
    simple_token_letters(random, letters);
    assert_string_equal(letters, "aaaaaaaaaaaaaaaa");
    random[0] = 51;
    random[4] = 52;
    random[60] = 26;
    simple_token_letters(random, letters);
    assert_string_equal(letters, "ZaaaaaaaaaaaaaaA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_life), cmocka_unit_test(test_dropped),
                                       cmocka_unit_test(test_bound), cmocka_unit_test(test_form)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
