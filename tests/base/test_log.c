/* test_log.c - lines byte by byte under a simulated clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"

#define FILE_NAME "engine/store.c"

struct fake {
    uint64_t monotonic_ns;
    uint64_t wall_ns;
    struct clock clock;
    int fd;
    struct logger *l;
    char text[65536];
};

static uint64_t fake_monotonic(void *self)
{
    return ((struct fake *)self)->monotonic_ns;
}

static uint64_t fake_wall(void *self)
{
    return ((struct fake *)self)->wall_ns;
}

static struct fake *setup(enum log_level min, enum log_format format)
{
    struct fake *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->monotonic_ns = 5000000000u;
    f->wall_ns = UINT64_C(1767323045678901999); /* 2026-01-02T03:04:05.678901999Z */
    f->clock = (struct clock){fake_monotonic, fake_wall, f};
    f->fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(f->fd >= 0);
    assert_int_equal(fcntl(f->fd, F_SETFL, O_APPEND), 0);
    f->l = log_create(f->fd, min, format, &f->clock);
    return f;
}

/* Everything written since the last call. */
static const char *taken(struct fake *f)
{
    off_t len = lseek(f->fd, 0, SEEK_END);
    assert_in_range(len, 0, sizeof(f->text) - 1);
    ssize_t n = pread(f->fd, f->text, (size_t)len, 0);
    assert_int_equal(n, len);
    f->text[n] = '\0';
    assert_int_equal(ftruncate(f->fd, 0), 0);
    assert_int_equal(lseek(f->fd, 0, SEEK_SET), 0);
    return f->text;
}

static void teardown(struct fake *f)
{
    log_destroy(&f->l);
    assert_null(f->l);
    (void)close(f->fd);
    free(f);
}

static void set_zone(const char *tz)
{
    assert_int_equal(setenv("TZ", tz, 1), 0);
    tzset();
}

static void a_json_line(void **state)
{
    (void)state;
    set_zone("UTC");
    struct fake *f = setup(LOG_INFO, LOG_JSON);
    const char *const urls[] = {"http://a", "http://b", NULL};
    const struct log_field fields[] = {
        F_STR("name", "m1"),     F_INT("delta", -3),           F_UINT("index", UINT64_MAX),
        F_BOOL("ready", true),   F_DOUBLE("ratio", 0.25),      F_HEX("id", 0x8e9e05c52164694d),
        F_NS("took", 1860214),   F_STRS("urls", urls),         F_STR("none", NULL),
        F_STRS("no-list", NULL), F_DOUBLE("bad", (double)NAN), F_BOOL("off", false),
    };
    log_emit(f->l, LOG_INFO, "/src/raft/core/step.c", 123, "ready to serve", fields,
             ARRAY_LEN(fields));
    assert_string_equal(
        taken(f),
        "{\"level\":\"info\",\"ts\":\"2026-01-02T03:04:05.678901Z\",\"caller\":\"core/step.c:123\","
        "\"msg\":\"ready to serve\",\"name\":\"m1\",\"delta\":-3,\"index\":18446744073709551615,"
        "\"ready\":true,\"ratio\":0.25,\"id\":\"8e9e05c52164694d\",\"took\":\"1.860214ms\","
        "\"urls\":[\"http://a\",\"http://b\"],\"none\":\"\",\"no-list\":[],\"bad\":\"NaN\","
        "\"off\":false}\n");
    log_emit(f->l, LOG_WARN, "store.c", 1, "no fields", NULL, 0);
    assert_string_equal(taken(f), "{\"level\":\"warn\",\"ts\":\"2026-01-02T03:04:05.678901Z\","
                                  "\"caller\":\"store.c:1\",\"msg\":\"no fields\"}\n");
    teardown(f);
}

static void strings_are_escaped_as_json_and_not_as_html(void **state)
{
    (void)state;
    set_zone("UTC");
    static const struct {
        const char *text;
        const char *want;
    } rows[] = {
        {"a\"b\\c", "a\\\"b\\\\c"},
        {"\n\r\t", "\\n\\r\\t"},
        {"\x01\x1f\x7f", "\\u0001\\u001f\x7f"},
        {"<&>", "<&>"},
        {"\xC2\xB5 \xE2\x82\xAC \xF0\x9F\x98\x80", "\xC2\xB5 \xE2\x82\xAC \xF0\x9F\x98\x80"},
        {"\xFF"
         "a",
         "\\ufffda"},
        {"\xC0\x80", "\\ufffd\\ufffd"},                       /* overlong */
        {"\xED\xA0\x80", "\\ufffd\\ufffd\\ufffd"},            /* a surrogate */
        {"\xF4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"}, /* past U+10FFFF */
        {"\xE2\x82", "\\ufffd\\ufffd"},                       /* cut */
        {"\xE2\x82z", "\\ufffd\\ufffdz"},
    };
    struct fake *f = setup(LOG_DEBUG, LOG_JSON);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct log_field field = F_STR("k", rows[i].text);
        log_emit(f->l, LOG_DEBUG, FILE_NAME, 7, "m", &field, 1);
        char want[256];
        (void)snprintf(want, sizeof(want),
                       "{\"level\":\"debug\",\"ts\":\"2026-01-02T03:04:05.678901Z\","
                       "\"caller\":\"engine/store.c:7\",\"msg\":\"m\",\"k\":\"%s\"}\n",
                       rows[i].want);
        assert_string_equal(taken(f), want);
    }
    teardown(f);
}

static void a_console_line(void **state)
{
    (void)state;
    set_zone("UTC");
    struct fake *f = setup(LOG_INFO, LOG_CONSOLE);
    f->wall_ns = 0;
    const char *const list[] = {"x", "y", NULL};
    const struct log_field fields[] = {F_STR("a", "b\n"), F_INT("n", 1), F_STRS("l", list)};
    log_emit(f->l, LOG_ERROR, "/a/engine/store.c", 9, "went wrong", fields, ARRAY_LEN(fields));
    assert_string_equal(taken(f),
                        "1970-01-01T00:00:00.000000Z\terror\tengine/store.c:9\twent wrong\t"
                        "{\"a\": \"b\\n\", \"n\": 1, \"l\": [\"x\", \"y\"]}\n");
    log_emit(f->l, LOG_FATAL, FILE_NAME, 10, "end", NULL, 0);
    assert_string_equal(taken(f), "1970-01-01T00:00:00.000000Z\tfatal\tengine/store.c:10\tend\n");
    teardown(f);
}

static void zones(void **state)
{
    (void)state;
    static const struct {
        const char *tz;
        const char *want;
    } rows[] = {
        {"UTC", "2026-01-02T03:04:05.678901Z"},
        {"<+02>-2", "2026-01-02T05:04:05.678901+0200"},
        {"<-0330>3:30", "2026-01-01T23:34:05.678901-0330"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        set_zone(rows[i].tz);
        struct fake *f = setup(LOG_INFO, LOG_CONSOLE);
        log_emit(f->l, LOG_INFO, FILE_NAME, 1, "m", NULL, 0);
        char want[128];
        (void)snprintf(want, sizeof(want), "%s\tinfo\tengine/store.c:1\tm\n", rows[i].want);
        assert_string_equal(taken(f), want);
        teardown(f);
    }
    set_zone("UTC");
}

static void levels(void **state)
{
    (void)state;
    struct fake *f = setup(LOG_WARN, LOG_CONSOLE);
    log_emit(f->l, LOG_INFO, FILE_NAME, 1, "m", NULL, 0);
    assert_string_equal(taken(f), "");
    assert_false(log_enabled(f->l, LOG_INFO));
    log_set_level(f->l, LOG_DEBUG);
    assert_true(log_enabled(f->l, LOG_DEBUG));
    log_emit(f->l, LOG_DEBUG, FILE_NAME, 1, "m", NULL, 0);
    assert_true(strlen(taken(f)) > 0);
    assert_false(log_enabled(NULL, LOG_FATAL));
    log_emit(NULL, LOG_FATAL, FILE_NAME, 1, "m", NULL, 0);
    teardown(f);
    static const struct {
        const char *name;
        enum err e;
        enum log_level level;
    } rows[] = {
        {"debug", OK, LOG_DEBUG}, {"INFO", OK, LOG_INFO},       {"warn", OK, LOG_WARN},
        {"Error", OK, LOG_ERROR}, {"dpanic", OK, LOG_DPANIC},   {"PANIC", OK, LOG_PANIC},
        {"fatal", OK, LOG_FATAL}, {"", ERR_INVALID, LOG_DEBUG}, {"trace", ERR_INVALID, LOG_DEBUG},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum log_level level = LOG_DEBUG;
        assert_int_equal(log_level_parse(rows[i].name, &level), rows[i].e);
        assert_int_equal(level, rows[i].level);
    }
}

static unsigned n_lines(struct fake *f)
{
    unsigned n = 0;
    for (const char *p = taken(f); *p != '\0'; p++) {
        n += *p == '\n' ? 1 : 0;
    }
    return n;
}

static void floods_are_thinned(void **state)
{
    (void)state;
    struct fake *f = setup(LOG_INFO, LOG_CONSOLE);
    for (int i = 0; i < 350; i++) {
        log_emit(f->l, LOG_INFO, FILE_NAME, 1, "flood", NULL, 0);
    }
    assert_int_equal(n_lines(f), 102); /* 1 to 100, 200 and 300 */
    log_emit(f->l, LOG_WARN, FILE_NAME, 1, "flood", NULL, 0);
    log_emit(f->l, LOG_INFO, FILE_NAME, 1, "something else", NULL, 0);
    assert_int_equal(n_lines(f), 2); /* another level, another message */
    f->monotonic_ns += 1000000000u;
    for (int i = 0; i < 150; i++) {
        log_emit(f->l, LOG_INFO, FILE_NAME, 1, "flood", NULL, 0);
    }
    assert_int_equal(n_lines(f), 100); /* the next second counts anew */
    teardown(f);
}

/* Asked first, a line counts once, and what is written by itself not at all. */
static void dear_lines_are_asked_for_first(void **state)
{
    (void)state;
    struct fake *f = setup(LOG_INFO, LOG_CONSOLE);
    unsigned n = 0;
    assert_false(log_take(NULL, LOG_ERROR, "flood"));
    assert_false(log_take(f->l, LOG_DEBUG, "flood"));
    for (int i = 0; i < 350; i++) {
        if (log_take(f->l, LOG_INFO, "flood")) {
            log_write(f->l, LOG_INFO, FILE_NAME, 1, "flood", NULL, 0);
            n++;
        }
    }
    assert_int_equal(n, 102);
    assert_int_equal(n_lines(f), 102);
    for (int i = 350; i < 400; i++) {
        log_emit(f->l, LOG_INFO, FILE_NAME, 1, "flood", NULL, 0);
    }
    assert_int_equal(n_lines(f), 1); /* the 400th */
    teardown(f);
}

static void the_macros_pass_file_and_line(void **state)
{
    (void)state;
    struct fake *f = setup(LOG_DEBUG, LOG_CONSOLE);
    errno = ENOENT;
    log_info(f->l, "m", F_INT("n", 1), F_STR("s", "t"));
    assert_int_equal(errno, ENOENT);
    assert_non_null(strstr(taken(f), "\tinfo\tbase/test_log.c:"));
    log_msg(f->l, LOG_ERROR, "bare");
    assert_non_null(strstr(taken(f), "\terror\tbase/test_log.c:"));
    teardown(f);
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    struct fake *f = setup(LOG_DEBUG, LOG_JSON);
    char *text = malloc(100001);
    assert_non_null(text);
    memset(text, 'x', 100000);
    text[100000] = '\0';
    const struct log_field field = F_STR("k", text);
    log_emit(f->l, LOG_INFO, FILE_NAME, 1, "m", &field, 1);
    const char *line = taken(f);
    assert_in_range(strlen(line), 16384, 16384 + 200);
    assert_string_equal(line + strlen(line) - 4, "x\"}\n");
    free(text);
    teardown(f);
}

static void *emit_many(void *arg)
{
    struct fake *f = arg;
    for (int i = 0; i < 500; i++) {
        log_info(f->l, "from a thread", F_INT("n", i));
    }
    return NULL;
}

static void threads_share_a_logger(void **state)
{
    (void)state;
    struct fake *f = setup(LOG_INFO, LOG_CONSOLE);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, emit_many, f), 0);
    }
    log_set_level(f->l, LOG_INFO);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(n_lines(f), 109); /* of 1000: the first 100, then each 100th */
    teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_json_line),
        cmocka_unit_test(strings_are_escaped_as_json_and_not_as_html),
        cmocka_unit_test(a_console_line),
        cmocka_unit_test(zones),
        cmocka_unit_test(levels),
        cmocka_unit_test(floods_are_thinned),
        cmocka_unit_test(dear_lines_are_asked_for_first),
        cmocka_unit_test(the_macros_pass_file_and_line),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(threads_share_a_logger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
