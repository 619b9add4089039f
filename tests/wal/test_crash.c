/* test_crash.c - the power fails at every write of a random life of a log: it always opens
 * again, and holds everything that was acknowledged. */
#include <string.h>

#include "tests/wal/script.h"

#define SEEDS 8u
#define STEPS 60u
#define WRITES_MAX 3000u

/* Open under a disk that fails at its n-th write, and cut the power again. */
static void crash_while_opening(struct vfs *disk, uint64_t n, uint64_t seed)
{
    struct vfs_fault_plan plan = {
        .fail_at = n, .sticky = true, .writes_only = true, .with = ERR_IO, .tear_bytes = 100};
    struct vfs *faulty = vfs_fault_create(disk, &plan);
    struct wal_config cfg = test_config(faulty, WAL_SEGMENT_BYTES_MIN);
    struct err_ctx ec;
    struct wal *w = NULL;
    enum err e = wal_open(&cfg, NULL, &w, NULL, &ec);
    assert_true(e == OK || e == ERR_IO || e == ERR_NOT_FOUND);
    vfs_mem_crash(disk, seed);
    wal_close(&w);
    vfs_fault_destroy(&faulty);
}

/* False when the script ended before the n-th write. */
static bool crash_at(uint64_t n, uint64_t seed, bool in_recovery_too)
{
    uint64_t rng = seed * 1000003u + n;
    static const uint64_t tears[] = {0, 100, 512, 4096, UINT64_MAX};
    struct vfs *disk = vfs_mem_create();
    struct vfs_fault_plan plan = {.fail_at = n,
                                  .sticky = true,
                                  .writes_only = true,
                                  .with = ERR_IO,
                                  .tear_bytes =
                                      tears[rng_below(&rng, sizeof tears / sizeof tears[0])]};
    struct vfs *faulty = vfs_fault_create(disk, &plan);
    struct script s = {.disk = faulty, .rng = seed};
    enum err e = script_run(&s, STEPS);
    bool fired = vfs_fault_calls(faulty) >= n;
    assert_true(fired ? e == ERR_IO || e == OK : e == OK); /* OK: it fired in the last wal_close */
    vfs_fault_destroy(&faulty);
    vfs_mem_crash(disk, rng_next(&rng));
    if (in_recovery_too) {
        for (unsigned i = 0; i < 2; i++) {
            crash_while_opening(disk, 1 + rng_below(&rng, 6), rng_next(&rng));
        }
    }
    script_verify(&s, disk, "power cut", seed, n);
    script_deinit(&s);
    vfs_mem_destroy(&disk);
    return fired;
}

static void nothing_acknowledged_is_lost(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t n = 1;
        while (crash_at(n, seed, false)) {
            n++;
            assert_true(n < WRITES_MAX);
        }
        assert_true(n > 100);
    }
}

static void nor_when_recovery_is_cut_short(void **state)
{
    (void)state;
    for (uint64_t seed = 101; seed <= 100 + SEEDS; seed++) {
        uint64_t n = 1;
        while (crash_at(n, seed, true)) {
            n++;
            assert_true(n < WRITES_MAX);
        }
    }
}

/* Without syncs entries may be lost, but only from the end, and never so that the log does not
 * open. */
static void an_unsynced_log_keeps_a_prefix(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct vfs *disk = vfs_mem_create();
        struct wal_config cfg = test_config(disk, WAL_SEGMENT_BYTES_MIN);
        cfg.no_sync = true;
        struct history h = {0};
        struct history got = {0};
        struct wal_visitor visit = history_visitor(&got);
        struct err_ctx ec;
        struct wal *w = must_create(&cfg);
        for (uint64_t i = 1; i <= 150 + seed; i++) {
            must_append(w, &h, i, 1, 1, 700);
        }
        vfs_mem_crash(disk, seed);
        wal_close(&w);
        if (wal_open(&cfg, &visit, &w, NULL, &ec) != OK) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, ec.text);
        }
        assert_true(got.n <= h.n && !got.gap);
        assert_true(got.n > 80); /* the first segment was synced when the second began */
        assert_true(memcmp(got.entries, h.entries, got.n * sizeof *got.entries) == 0);
        wal_close(&w);
        history_deinit(&h);
        history_deinit(&got);
        vfs_mem_destroy(&disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost),
        cmocka_unit_test(nor_when_recovery_is_cut_short),
        cmocka_unit_test(an_unsynced_log_keeps_a_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
