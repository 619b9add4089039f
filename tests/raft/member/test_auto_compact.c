/* test_auto_compact.c - etcd's schedules of compaction, by tables of times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "raft/member/auto_compact.h"

#define MIN_MS 60000u
#define HOUR_MS 3600000u
#define START_MS 12345u

/* The revision grows by one a minute, from 1000 at the start. */
static int64_t revision_at(uint64_t since_ms)
{
    return 1000 + (int64_t)(since_ms / MIN_MS);
}

struct row {
    const char *claim;
    struct auto_compact_config cfg;
    uint64_t until_ms;      /* of the walk, a step a second */
    uint64_t follows_until; /* before it this member does not lead */
    uint64_t fails_until;   /* before it compactions fail */
    struct { uint64_t at_ms; int64_t target; } expect[8]; /* proposals: when, up to where */
};

static const struct row rows[] = {
    {"periodic: the first after a whole retention, to the oldest sample, then every retention below an hour",
     {AUTO_COMPACT_PERIODIC, 10 * MIN_MS}, 40 * MIN_MS, 0, 0,
     {{10 * MIN_MS, 1000}, {20 * MIN_MS, 1009}, {30 * MIN_MS, 1019}, {40 * MIN_MS, 1029}}},
    {"periodic: a retention above an hour is waited for once, then it goes hourly",
     {AUTO_COMPACT_PERIODIC, 3 * HOUR_MS}, 5 * HOUR_MS + MIN_MS, 0, 0,
     {{3 * HOUR_MS, 1000}, {4 * HOUR_MS, 1054}, {5 * HOUR_MS, 1114}}},
    {"periodic: who does not lead samples and compacts nothing; who begins to lead goes at the next tick",
     {AUTO_COMPACT_PERIODIC, 10 * MIN_MS}, 26 * MIN_MS, 15 * MIN_MS, 0,
     {{15 * MIN_MS, 1004}, {25 * MIN_MS, 1014}}},
    {"periodic: a failure is tried again at the next tick",
     {AUTO_COMPACT_PERIODIC, 10 * MIN_MS}, 13 * MIN_MS, 0, 12 * MIN_MS,
     {{10 * MIN_MS, 1000}, {11 * MIN_MS, 1000}, {12 * MIN_MS, 1001}}},
    {"revision: looked at every five minutes, nothing as long as there is too little",
     {AUTO_COMPACT_REVISION, 1008}, 21 * MIN_MS, 0, 0,
     {{10 * MIN_MS, 2}, {15 * MIN_MS, 7}, {20 * MIN_MS, 12}}},
    {"revision: a follower's look is lost",
     {AUTO_COMPACT_REVISION, 100}, 11 * MIN_MS, 6 * MIN_MS, 0,
     {{10 * MIN_MS, 910}}},
    {"off: never", {AUTO_COMPACT_OFF, 0}, 3 * HOUR_MS, 0, 0, {{0, 0}}},
};

static void schedules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        struct auto_compact a;
        size_t n = 0;
        auto_compact_init(&a, &r->cfg, START_MS, revision_at(0));
        for (uint64_t t = 0; t <= r->until_ms; t += 1000) {
            int64_t target = -1;
            if (!auto_compact_tick(&a, START_MS + t, revision_at(t), t >= r->follows_until, &target)) {
                continue;
            }
            if (n >= 8 || r->expect[n].at_ms != t || r->expect[n].target != target) {
                fail_msg("%s: compaction %zu at %llu ms to %lld", r->claim, n, (unsigned long long)t, (long long)target);
            }
            n++;
            auto_compact_done(&a, START_MS + t, target, t >= r->fails_until);
        }
        if (n < 8 && r->expect[n].target != 0) {
            fail_msg("%s: compaction %zu did not come", r->claim, n);
        }
        auto_compact_deinit(&a);
    }
}

static void unchanged_revision_is_left_alone(void **state)
{
    (void)state;
    const struct auto_compact_config kinds[] = {{AUTO_COMPACT_PERIODIC, 10 * MIN_MS}, {AUTO_COMPACT_REVISION, 10}};
    for (size_t i = 0; i < 2; i++) {
        struct auto_compact a;
        unsigned n = 0;
        auto_compact_init(&a, &kinds[i], 0, 500);
        for (uint64_t t = 0; t <= 3 * HOUR_MS; t += 1000) {
            int64_t target = 0;
            if (auto_compact_tick(&a, t, 500, true, &target)) {
                n++;
                auto_compact_done(&a, t, target, true);
            }
        }
        assert_int_equal(n, 1);
        auto_compact_deinit(&a);
    }
}

static void one_at_a_time(void **state)
{
    (void)state;
    struct auto_compact a;
    int64_t target = 0;
    auto_compact_init(&a, &(struct auto_compact_config){AUTO_COMPACT_REVISION, 1}, 0, 100);
    assert_true(auto_compact_tick(&a, AUTO_COMPACT_REVISION_MS, 100, true, &target));
    assert_false(auto_compact_tick(&a, 2 * AUTO_COMPACT_REVISION_MS, 200, true, &target)); /* the first has not ended */
    auto_compact_done(&a, 2 * AUTO_COMPACT_REVISION_MS, target, true);
    assert_true(auto_compact_tick(&a, 3 * AUTO_COMPACT_REVISION_MS, 200, true, &target));
    assert_int_equal(target, 199);
    auto_compact_deinit(&a);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    struct auto_compact a;
    auto_compact_init(&a, &(struct auto_compact_config){AUTO_COMPACT_PERIODIC, INT64_MAX / 1000000}, 0, 1);
    assert_true(a.n_max <= AUTO_COMPACT_SAMPLES_MAX);
    auto_compact_deinit(&a);
    auto_compact_init(&a, &(struct auto_compact_config){AUTO_COMPACT_PERIODIC, 1}, 0, 1);
    for (uint64_t t = 1; t < 1000; t++) {
        int64_t target = 0;
        if (auto_compact_tick(&a, t, (int64_t)t, true, &target)) {
            auto_compact_done(&a, t, target, true);
        }
    }
    assert_true(a.cap <= 2);
    auto_compact_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedules),
        cmocka_unit_test(unchanged_revision_is_left_alone),
        cmocka_unit_test(one_at_a_time),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
