/* test_err.c - the story of a failure, and the texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"

static void wrapping_puts_clauses_in_front(void **state)
{
    (void)state;
    struct err_ctx ec = {0};
    assert_int_equal(err_set(&ec, ERR_CORRUPT, "record at byte %d", 8192), ERR_CORRUPT);
    assert_int_equal(err_wrap(&ec, ERR_CORRUPT, "segment %d", 12), ERR_CORRUPT);
    assert_int_equal(err_wrap(&ec, ERR_CORRUPT, "open log in %s", "data"), ERR_CORRUPT);
    assert_string_equal(ec.text, "open log in data: segment 12: record at byte 8192");
}

static void ok_changes_nothing(void **state)
{
    (void)state;
    struct err_ctx ec = {"before"};
    assert_int_equal(err_wrap(&ec, OK, "clause"), OK);
    assert_string_equal(ec.text, "before");
}

static void an_empty_story_starts_with_the_text_of_the_error(void **state)
{
    (void)state;
    struct err_ctx ec = {0};
    assert_int_equal(err_wrap(&ec, ERR_NO_DISK, "write"), ERR_NO_DISK);
    assert_string_equal(ec.text, "write: no space left on device");
}

static void no_story_is_wanted(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, "x"), ERR_IO);
    assert_int_equal(err_wrap(NULL, ERR_IO, "x"), ERR_IO);
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    struct err_ctx ec;
    char text[2 * ERR_TEXT_MAX];
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)err_set(&ec, ERR_IO, "%s", text);
    assert_int_equal(strlen(ec.text), ERR_TEXT_MAX - 1);
    (void)err_wrap(&ec, ERR_IO, "clause");
    assert_int_equal(strlen(ec.text), ERR_TEXT_MAX - 1);
    assert_memory_equal(ec.text, "clause: aaa", 11);
    (void)err_wrap(&ec, ERR_IO, "%s", text);
    assert_int_equal(strlen(ec.text), ERR_TEXT_MAX - 1);
}

static void arguments_may_come_from_the_old_story(void **state)
{
    (void)state;
    struct err_ctx ec = {"old"};
    (void)err_set(&ec, ERR_IO, "new after %s", ec.text);
    assert_string_equal(ec.text, "new after old");
    (void)err_wrap(&ec, ERR_IO, "<%s>", ec.text);
    assert_string_equal(ec.text, "<new after old>: new after old");
}

static void every_error_has_a_text(void **state)
{
    (void)state;
    for (int e = 0; e < ERR_N; e++) {
        assert_non_null(err_text((enum err)e));
        assert_true(strlen(err_text((enum err)e)) > 0);
    }
    assert_string_equal(err_text((enum err)ERR_N), "unknown error");
}

static void errno_values_are_sorted_out(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        enum err want;
    } rows[] = {
        {ENOSPC, ERR_NO_DISK}, {EDQUOT, ERR_NO_DISK}, {ENOENT, ERR_NOT_FOUND},
        {EEXIST, ERR_EXISTS},  {EACCES, ERR_PERM},    {EPERM, ERR_PERM},
        {EROFS, ERR_PERM},     {ENOMEM, ERR_NO_MEM},  {EADDRINUSE, ERR_ADDR_IN_USE},
        {EIO, ERR_IO},         {ENOTEMPTY, ERR_IO},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(err_from_errno(rows[i].errnum), rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrapping_puts_clauses_in_front),
        cmocka_unit_test(ok_changes_nothing),
        cmocka_unit_test(an_empty_story_starts_with_the_text_of_the_error),
        cmocka_unit_test(no_story_is_wanted),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(arguments_may_come_from_the_old_story),
        cmocka_unit_test(every_error_has_a_text),
        cmocka_unit_test(errno_values_are_sorted_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
