/* test_metrics.c - the exposition byte by byte, and updates from several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/assert.h"
#include "base/metrics.h"

#define N_THREADS 4
#define N_UPDATES 10000

static double seven(void *arg)
{
    return *(const double *)arg;
}

static void assert_rendered(struct metrics *m, const char *want)
{
    struct bytes b = {0};
    metrics_render(m, &b);
    bytes_add(&b, "", 1);
    assert_string_equal((const char *)b.data, want);
    bytes_deinit(&b);
}

static void the_text_format(void **state)
{
    (void)state;
    struct metrics *m = metrics_create();
    assert_rendered(m, "");
    struct counter *puts = metrics_counter(m, "z_puts_total", "Puts.", NULL);
    struct counter *sent = metrics_counter(m, "sent_total", "Sent \\ to\npeers \"x\".", "To=\"b\"");
    struct counter *other = metrics_counter(m, "sent_total", "ignored", "To=\"a\"");
    struct gauge *size = metrics_gauge(m, "db_size", "Size.", NULL);
    struct histogram *h = metrics_histogram(m, "fsync_seconds", "Syncs.", "t=\"w\"", 0.001, 2, 3);
    struct histogram *bare = metrics_histogram(m, "bare", "Bare.", NULL, 1, 10, 1);
    double value = 7.5;
    metrics_callback(m, "asked", "Asked.", NULL, 0, seven, &value);
    metrics_callback(m, "asked_total", "Asked.", NULL, 1, seven, &value);
    counter_add(puts, 3);
    counter_add(puts, 1234564);
    counter_add(sent, 1);
    counter_add(other, 2);
    gauge_set(size, 10);
    gauge_add(size, -0.5);
    histogram_observe(h, 0.001); /* a bound belongs to its bucket */
    histogram_observe(h, 0.003);
    histogram_observe_ns(h, 2500000);
    histogram_observe(h, 100);
    histogram_observe(bare, 0);
    assert_rendered(m, "# HELP asked Asked.\n"
                       "# TYPE asked gauge\n"
                       "asked 7.5\n"
                       "# HELP asked_total Asked.\n"
                       "# TYPE asked_total counter\n"
                       "asked_total 7.5\n"
                       "# HELP bare Bare.\n"
                       "# TYPE bare histogram\n"
                       "bare_bucket{le=\"1\"} 1\n"
                       "bare_bucket{le=\"+Inf\"} 1\n"
                       "bare_sum 0\n"
                       "bare_count 1\n"
                       "# HELP db_size Size.\n"
                       "# TYPE db_size gauge\n"
                       "db_size 9.5\n"
                       "# HELP fsync_seconds Syncs.\n"
                       "# TYPE fsync_seconds histogram\n"
                       "fsync_seconds_bucket{t=\"w\",le=\"0.001\"} 1\n"
                       "fsync_seconds_bucket{t=\"w\",le=\"0.002\"} 1\n"
                       "fsync_seconds_bucket{t=\"w\",le=\"0.004\"} 3\n"
                       "fsync_seconds_bucket{t=\"w\",le=\"+Inf\"} 4\n"
                       "fsync_seconds_sum{t=\"w\"} 100.0065\n"
                       "fsync_seconds_count{t=\"w\"} 4\n"
                       "# HELP sent_total Sent \\\\ to\\npeers \"x\".\n"
                       "# TYPE sent_total counter\n"
                       "sent_total{To=\"a\"} 2\n"
                       "sent_total{To=\"b\"} 1\n"
                       "# HELP z_puts_total Puts.\n"
                       "# TYPE z_puts_total counter\n"
                       "z_puts_total 1.234567e+06\n");
    metrics_destroy(&m);
    assert_null(m);
    metrics_destroy(&m);
}

static void asking_again_gives_the_same_handle(void **state)
{
    (void)state;
    struct metrics *m = metrics_create();
    struct counter *c = metrics_counter(m, "c", "C.", "a=\"1\"");
    assert_ptr_equal(metrics_counter(m, "c", "C.", "a=\"1\""), c);
    assert_ptr_not_equal(metrics_counter(m, "c", "C.", "a=\"2\""), c);
    struct gauge *g = metrics_gauge(m, "g", "G.", NULL);
    for (int i = 0; i < 100; i++) {
        struct bytes name = {0};
        bytes_printf(&name, "g%d%c", i * 7 % 100, 0);
        (void)metrics_gauge(m, (const char *)name.data, "G.", NULL);
        bytes_deinit(&name);
    }
    assert_ptr_equal(metrics_gauge(m, "g", "G.", NULL), g);
    struct histogram *h = metrics_histogram(m, "h", "H.", NULL, 1, 2, 4);
    assert_ptr_equal(metrics_histogram(m, "h", "H.", NULL, 1, 2, 4), h);
    counter_add(c, 5);
    assert_int_equal(counter_value(c), 5);
    gauge_set(g, 2.5);
    assert_true(gauge_value(g) == 2.5);
    metrics_destroy(&m);
}

static void labels_are_escaped(void **state)
{
    (void)state;
    struct bytes b = {0};
    metrics_label(&b, "a", "x\"y\\z\n");
    metrics_label(&b, "b", "");
    assert_true(slice_eq(bytes_slice(&b), slice_str("a=\"x\\\"y\\\\z\\n\",b=\"\"")));
    bytes_deinit(&b);
}

struct shared {
    struct counter *c;
    struct gauge *g;
    struct histogram *h;
};

static void *update(void *arg)
{
    const struct shared *s = arg;
    for (int i = 0; i < N_UPDATES; i++) {
        counter_add(s->c, 1);
        gauge_add(s->g, 1);
        histogram_observe(s->h, 1);
    }
    return NULL;
}

static void no_update_is_lost(void **state)
{
    (void)state;
    struct metrics *m = metrics_create();
    struct shared s = {metrics_counter(m, "c", "C.", NULL), metrics_gauge(m, "g", "G.", NULL),
                       metrics_histogram(m, "h", "H.", NULL, 1, 2, 1)};
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, update, &s), 0);
    }
    for (int i = 0; i < 20; i++) {
        struct bytes b = {0};
        metrics_render(m, &b);
        bytes_deinit(&b);
    }
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_rendered(m, "# HELP c C.\n# TYPE c counter\nc 40000\n"
                       "# HELP g G.\n# TYPE g gauge\ng 40000\n"
                       "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 40000\n"
                       "h_bucket{le=\"+Inf\"} 40000\nh_sum 40000\nh_count 40000\n");
    metrics_destroy(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_format),
        cmocka_unit_test(asking_again_gives_the_same_handle),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(no_update_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
