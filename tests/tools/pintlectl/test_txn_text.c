/* The comparisons of a transaction, and what endpoints' texts mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/assert.h"
#include "tools/pintlectl/failure_texts.h"
#include "tools/pintlectl/txn_text.h"

static void assert_bytes(struct bytes *b, const char *want)
{
    bytes_add(b, "", 1);
    assert_string_equal((const char *)b->data, want);
    bytes_deinit(b);
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
                {"ftp://a:1", "ftp://a:1", false, "ftp://a:1"},
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
        cmocka_unit_test(comparisons),
        cmocka_unit_test(targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
