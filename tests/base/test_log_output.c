/* test_log_output.c - rotating files under a simulated clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#define START_NS UINT64_C(1767323045678000000) /* 2026-01-02T03:04:05.678Z */
#define DAY_NS (UINT64_C(86400) * 1000000000u)

struct fake {
    uint64_t wall_ns;
    uint64_t monotonic_ns;
    struct clock clock;
    char dir[64];
    char *path;
    int news; /* of changes in dir */
    struct logger *l;
};

static uint64_t fake_monotonic(void *self)
{
    return ((struct fake *)self)->monotonic_ns += UINT64_C(1000000000); /* no second has two lines: nothing is sampled */
}

static uint64_t fake_wall(void *self)
{
    return ((struct fake *)self)->wall_ns;
}

static struct fake *setup(const struct log_rotation *r)
{
    struct fake *f = xcalloc(1, sizeof(*f));
    f->wall_ns = START_NS;
    f->clock = (struct clock){fake_monotonic, fake_wall, f};
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/pintle-log-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->news = inotify_init1(IN_CLOEXEC);
    assert_true(inotify_add_watch(f->news, f->dir, IN_CREATE | IN_DELETE | IN_MOVE) >= 0);
    f->path = xasprintf("%s/a.log", f->dir);
    const char *outputs[] = {f->path, NULL};
    struct err_ctx ec = {{0}};
    assert_int_equal(log_open(outputs, r, LOG_INFO, LOG_JSON, &f->clock, &f->l, &ec), OK);
    return f;
}

/* Names of the folder, in order, with a space after each. */
static char *names(const struct fake *f)
{
    struct dirent **list = NULL;
    int n = scandir(f->dir, &list, NULL, alphasort);
    char *out = xstrdup("");
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.') {
            char *longer = xasprintf("%s%s ", out, list[i]->d_name);
            free(out);
            out = longer;
        }
        free(list[i]);
    }
    free(list);
    return out;
}

static void expect(const struct fake *f, const char *wanted)
{
    char *have = names(f);
    assert_string_equal(have, wanted);
    free(have);
}

static void teardown(struct fake *f)
{
    char *have = names(f);
    for (char *save = NULL, *name = strtok_r(have, " ", &save); name != NULL; name = strtok_r(NULL, " ", &save)) {
        char *path = xasprintf("%s/%s", f->dir, name);
        assert_int_equal(unlink(path), 0);
        free(path);
    }
    free(have);
    assert_int_equal(rmdir(f->dir), 0);
    log_destroy(&f->l);
    assert_int_equal(close(f->news), 0);
    free(f->path);
    free(f);
}

static void line(struct fake *f)
{
    log_msg(f->l, LOG_INFO, "a line of about a hundred bytes with its head");
}

static void a_line_that_would_not_fit_begins_a_new_file(void **state)
{
    (void)state;
    struct fake *f = setup(&(struct log_rotation){.file_bytes_max = 300});
    line(f);
    line(f);
    expect(f, "a.log ");
    line(f);
    expect(f, "a-2026-01-02T03-04-05.678.log a.log ");
    line(f);
    line(f);
    expect(f, "a-2026-01-02T03-04-05.678.log a-2026-01-02T03-04-05.679.log a.log "); /* the name of this moment is taken */
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_in_range(st.st_size, 1, 300);
    assert_int_equal(st.st_mode & 0777, 0600);
    teardown(f);
}

static void a_line_longer_than_a_file_is_written_whole(void **state)
{
    (void)state;
    struct fake *f = setup(&(struct log_rotation){.file_bytes_max = 10});
    line(f);
    expect(f, "a.log ");
    line(f);
    expect(f, "a-2026-01-02T03-04-05.678.log a.log ");
    teardown(f);
}

static void old_files_go_by_number(void **state)
{
    (void)state;
    struct fake *f = setup(&(struct log_rotation){.file_bytes_max = 10, .backups_max = 2});
    char *other = xasprintf("%s/a-notes.log", f->dir);
    FILE *file = fopen(other, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    free(other);
    for (int i = 0; i < 5; i++) {
        line(f);
        f->wall_ns += UINT64_C(1000000000);
    }
    expect(f, "a-2026-01-02T03-04-08.678.log a-2026-01-02T03-04-09.678.log a-notes.log a.log ");
    teardown(f);
}

static void old_files_go_by_age(void **state)
{
    (void)state;
    struct fake *f = setup(&(struct log_rotation){.file_bytes_max = 10, .age_max_days = 2});
    for (int i = 0; i < 6; i++) {
        line(f);
        f->wall_ns += DAY_NS;
    }
    expect(f, "a-2026-01-05T03-04-05.678.log a-2026-01-06T03-04-05.678.log a-2026-01-07T03-04-05.678.log a.log ");
    teardown(f);
}

static void a_file_that_was_there_counts(void **state)
{
    (void)state;
    struct fake *f = setup(&(struct log_rotation){.file_bytes_max = 300});
    line(f);
    line(f);
    log_destroy(&f->l);
    const char *outputs[] = {f->path, NULL};
    struct err_ctx ec = {{0}};
    assert_int_equal(log_open(outputs, &(struct log_rotation){.file_bytes_max = 300}, LOG_INFO, LOG_JSON, &f->clock, &f->l, &ec), OK);
    line(f);
    expect(f, "a-2026-01-02T03-04-05.678.log a.log ");
    teardown(f);
}

/* Wait for what the thread does; false when ten seconds bring no news. */
static bool becomes(const struct fake *f, const char *wanted)
{
    struct pollfd p = {.fd = f->news, .events = POLLIN};
    for (;;) {
        char *have = names(f);
        bool same = strcmp(have, wanted) == 0;
        free(have);
        char events[4096];
        if (same || poll(&p, 1, 10000) != 1 || read(f->news, events, sizeof(events)) <= 0) {
            return same;
        }
    }
}

/* The text of a .gz file that has `n` lines. */
static void expect_lines(const struct fake *f, const char *name, int n)
{
    char *path = xasprintf("%s/%s", f->dir, name);
    gzFile z = gzopen(path, "rb");
    assert_non_null(z);
    char text[512];
    for (int i = 0; i < n; i++) {
        assert_non_null(gzgets(z, text, sizeof(text)));
        assert_non_null(strstr(text, "a line of about a hundred bytes"));
    }
    assert_null(gzgets(z, text, sizeof(text)));
    assert_int_equal(gzeof(z), 1);
    assert_int_equal(gzclose(z), Z_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    free(path);
}

static void old_files_are_compressed(void **state)
{
    (void)state;
    struct fake *f = setup(&(struct log_rotation){.file_bytes_max = 300, .compress = true});
    line(f);
    line(f);
    line(f);
    assert_true(becomes(f, "a-2026-01-02T03-04-05.678.log.gz a.log "));
    expect_lines(f, "a-2026-01-02T03-04-05.678.log.gz", 2);
    line(f);
    line(f); /* the name of this moment is taken by a .gz */
    assert_true(becomes(f, "a-2026-01-02T03-04-05.678.log.gz a-2026-01-02T03-04-05.679.log.gz a.log "));
    teardown(f);
}

/* A .gz beside its original was not finished, and is no second file when files are counted. */
static void a_crash_while_compressing_is_made_good(void **state)
{
    (void)state;
    struct fake *f = setup(&(struct log_rotation){.file_bytes_max = 10, .backups_max = 2, .compress = true});
    static const char *const left[] = {"a-2026-01-01T00-00-00.000.log.gz", "a-2026-01-02T00-00-00.000.log", "a-2026-01-02T00-00-00.000.log.gz"};
    for (size_t i = 0; i < ARRAY_LEN(left); i++) {
        char *path = xasprintf("%s/%s", f->dir, left[i]);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs(i == 1 ? "a line of about a hundred bytes\n" : "half", file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(chmod(path, 0600), 0);
        free(path);
    }
    line(f);
    line(f);
    assert_true(becomes(f, "a-2026-01-02T00-00-00.000.log.gz a-2026-01-02T03-04-05.678.log.gz a.log "));
    expect_lines(f, left[2], 1);
    teardown(f);
}

static void a_folder_that_is_not_there_is_said(void **state)
{
    (void)state;
    struct logger *l = NULL;
    struct err_ctx ec = {{0}};
    const char *outputs[] = {"stderr", "/nonexistent/x", NULL};
    assert_int_equal(log_open(outputs, NULL, LOG_INFO, LOG_JSON, clock_real(), &l, &ec), ERR_IO);
    assert_null(l);
    assert_string_equal(ec.text, "open sink \"/nonexistent/x\": open /nonexistent/x: no such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_that_would_not_fit_begins_a_new_file), cmocka_unit_test(a_line_longer_than_a_file_is_written_whole),
        cmocka_unit_test(old_files_go_by_number),                      cmocka_unit_test(old_files_go_by_age),
        cmocka_unit_test(a_file_that_was_there_counts),
        cmocka_unit_test(old_files_are_compressed),
        cmocka_unit_test(a_crash_while_compressing_is_made_good),
        cmocka_unit_test(a_folder_that_is_not_there_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
