/* test_fault.c - every file call fails once, and then for good: a clean error, nothing leaks,
 * and the log that is opened afterwards holds everything that was acknowledged. */
#include "tests/wal/script.h"

#define STEPS 50u
#define CALLS_MAX 5000u

struct fault_row {
    const char *name;
    enum err with;
    bool sticky;
    uint64_t tear_bytes;
};

static const struct fault_row rows[] = {
    {"one call fails", ERR_IO, false, 0},
    {"a write fails half way", ERR_IO, false, 700},
    {"all calls fail from here on", ERR_IO, true, UINT64_MAX},
    {"the disk is full for a moment", ERR_NO_DISK, false, 0},
    {"the disk is full", ERR_NO_DISK, true, 300},
};

static bool fail_at(const struct fault_row *row, uint64_t n, uint64_t seed)
{
    struct vfs *disk = vfs_mem_create();
    struct vfs_fault_plan plan = {
        .fail_at = n, .sticky = row->sticky, .with = row->with, .tear_bytes = row->tear_bytes};
    struct vfs *faulty = vfs_fault_create(disk, &plan);
    struct script s = {.disk = faulty, .rng = seed};
    enum err e = script_run(&s, STEPS);
    bool fired = vfs_fault_calls(faulty) >= n;
    if (e != OK && (!fired || (e != row->with && e != ERR_IO))) {
        fail_msg("%s, call %llu: %s", row->name, (unsigned long long)n, err_text(e));
    }
    vfs_fault_destroy(&faulty);
    script_verify(&s, disk, row->name, seed, n);
    script_deinit(&s);
    vfs_mem_destroy(&disk);
    return fired;
}

static void every_call_fails(void **state)
{
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (uint64_t seed = 1; seed <= 4; seed++) {
            uint64_t n = 1;
            while (fail_at(&rows[r], n, seed)) {
                n++;
                assert_true(n < CALLS_MAX);
            }
            assert_true(n > 100);
        }
    }
}

/* After one failed call that writes, the log refuses everything until it is opened again. */
static void a_failed_log_stays_failed(void **state)
{
    (void)state;
    unsigned n_failed = 0;
    for (uint64_t n = 1; n < 40; n++) {
        struct vfs *disk = vfs_mem_create();
        struct wal_config cfg = test_config(disk, WAL_SEGMENT_BYTES_MIN);
        struct history h = {0};
        struct err_ctx ec;
        struct wal *w = must_create(&cfg);
        wal_close(&w);
        struct vfs_fault_plan plan = {.fail_at = n, .writes_only = true, .with = ERR_IO};
        struct vfs *faulty = vfs_fault_create(disk, &plan);
        cfg.vfs = faulty;
        if (wal_open(&cfg, NULL, &w, NULL, &ec) == OK) {
            struct made_batch m;
            batch_make(&m, 1, 1, 1, 2000);
            enum err e = OK;
            for (unsigned i = 0; i < 60 && e == OK; i++) {
                m.entries[0].index = i + 1;
                e = wal_append(w, &m.batch, NULL, &ec);
            }
            if (e != OK) {
                n_failed++;
                assert_int_equal(e, ERR_IO);
                assert_int_equal(wal_append(w, &m.batch, NULL, &ec), ERR_IO);
                assert_int_equal(wal_release(w, 1, &ec), ERR_IO);
                assert_int_equal(wal_prepare(w, &ec), ERR_IO);
                assert_false(wal_prepare_wanted(w));
            }
            batch_deinit(&m);
            wal_close(&w);
        }
        history_deinit(&h);
        vfs_fault_destroy(&faulty);
        vfs_mem_destroy(&disk);
    }
    assert_true(n_failed > 20);
}

/* No room to prepare the next segment is no failure: the log goes on, and tries again later. */
static void preparing_may_wait_for_room(void **state)
{
    (void)state;
    unsigned n_refused = 0;
    for (uint64_t n = 1; n < 60; n++) {
        struct vfs *disk = vfs_mem_create();
        struct wal_config cfg = test_config(disk, WAL_SEGMENT_BYTES_MIN);
        struct history h = {0};
        struct err_ctx ec;
        struct wal *w = must_create(&cfg);
        for (uint64_t i = 1; i <= 20; i++) { /* more than half a segment: the next one is wanted */
            must_append(w, &h, i, 1, 1, 2000);
        }
        wal_close(&w);
        struct vfs_fault_plan plan = {.fail_at = n, .writes_only = true, .with = ERR_NO_DISK};
        struct vfs *faulty = vfs_fault_create(disk, &plan);
        cfg.vfs = faulty;
        enum err e = wal_open(&cfg, NULL, &w, NULL, &ec);
        while (e == OK && wal_prepare_wanted(w)) {
            e = wal_prepare(w, &ec);
        }
        assert_true(e == OK || e == ERR_IO || e == ERR_NO_DISK);
        if (w != NULL && e == ERR_NO_DISK) {
            n_refused++;
            assert_int_equal(wal_append(w, &(struct wal_batch){0}, NULL, &ec), OK);
            assert_false(wal_prepare_wanted(w));
            must_append(w, &h, 21, 1, 1, 100);
            assert_true(wal_prepare_wanted(w));
            while (wal_prepare_wanted(w)) {
                assert_int_equal(wal_prepare(w, &ec), OK);
            }
        }
        wal_close(&w);
        cfg.vfs = disk;
        w = must_open(&cfg, &h, 1);
        wal_close(&w);
        history_deinit(&h);
        vfs_fault_destroy(&faulty);
        vfs_mem_destroy(&disk);
    }
    assert_true(n_refused >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_fails),
        cmocka_unit_test(a_failed_log_stays_failed),
        cmocka_unit_test(preparing_may_wait_for_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
