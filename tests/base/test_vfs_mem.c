/* test_vfs_mem.c - what survives a power cut and what may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/vfs.h"

#define SECTOR 512u
#define N_SEEDS 300u

static struct vfs_file *open_ok(struct vfs *v, const char *path, int flags)
{
    struct vfs_file *f = NULL;
    assert_int_equal(v->ops->open(v, path, flags, &f, NULL), OK);
    return f;
}

static void write_ok(struct vfs_file *f, const void *data, size_t len, uint64_t offset)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    assert_int_equal(f->ops->pwritev(f, &iov, 1, offset, NULL), OK);
}

static void fill(struct vfs_file *f, uint8_t byte, uint64_t offset, size_t len)
{
    uint8_t *data = xalloc(len);
    memset(data, byte, len);
    write_ok(f, data, len, offset);
    free(data);
}

static bool exists(struct vfs *v, const char *path)
{
    struct vfs_stat st;
    return v->ops->stat(v, path, &st, NULL) == OK;
}

static struct bytes content(struct vfs *v, const char *path)
{
    struct bytes b = {0};
    assert_int_equal(vfs_read_file(v, path, 1u << 24, &b, NULL), OK);
    return b;
}

/* A file "f" whose name is safe. */
static struct vfs_file *safe_file(struct vfs *v)
{
    struct vfs_file *f = open_ok(v, "f", VFS_CREATE);
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
    return f;
}

static void synced_bytes_survive(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        struct vfs *v = vfs_mem_create();
        struct vfs_file *f = safe_file(v);
        fill(f, 'a', 0, 10000);
        fill(f, 'b', 100, 50);
        assert_int_equal(seed % 2 == 0 ? f->ops->sync(f, NULL) : f->ops->datasync(f, NULL), OK);
        vfs_mem_crash(v, seed);
        f->ops->close(f);
        struct bytes b = content(v, "f");
        assert_int_equal(b.len, 10000);
        for (size_t i = 0; i < b.len; i++) {
            assert_int_equal(b.data[i], i >= 100 && i < 150 ? 'b' : 'a');
        }
        bytes_deinit(&b);
        vfs_mem_destroy(&v);
    }
}

/* Old bytes 'a', synced; new bytes 'b' in sectors 3 to 22, not synced. */
static void unsynced_sectors_are_old_or_new(void **state)
{
    (void)state;
    unsigned n_all_old = 0;
    unsigned n_all_new = 0;
    unsigned n_mixed = 0;
    unsigned n_new_of[32] = {0};
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        struct vfs *v = vfs_mem_create();
        struct vfs_file *f = safe_file(v);
        fill(f, 'a', 0, 32 * SECTOR);
        assert_int_equal(f->ops->sync(f, NULL), OK);
        fill(f, 'b', 3 * SECTOR, 20 * SECTOR);
        vfs_mem_crash(v, seed);
        f->ops->close(f);
        struct bytes b = content(v, "f");
        assert_int_equal(b.len, 32 * SECTOR);
        unsigned n_new = 0;
        for (unsigned s = 0; s < 32; s++) {
            uint8_t first = b.data[s * SECTOR];
            for (unsigned i = 0; i < SECTOR; i++) {
                assert_int_equal(b.data[s * SECTOR + i], first);
            }
            assert_true(first == 'a' || (first == 'b' && s >= 3 && s < 23));
            n_new += first == 'b';
            n_new_of[s] += first == 'b';
        }
        n_all_old += n_new == 0;
        n_all_new += n_new == 20;
        n_mixed += n_new > 0 && n_new < 20;
        bytes_deinit(&b);
        vfs_mem_destroy(&v);
    }
    assert_true(n_all_old > 10 && n_all_new > 10 && n_mixed > 50);
    for (unsigned s = 3; s < 23; s++) {
        assert_in_range(n_new_of[s], 50, N_SEEDS - 50);
    }
}

static void an_unsynced_append_may_leave_any_size(void **state)
{
    (void)state;
    unsigned n_old = 0;
    unsigned n_new = 0;
    unsigned n_between = 0;
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        struct vfs *v = vfs_mem_create();
        struct vfs_file *f = safe_file(v);
        fill(f, 'a', 0, 700);
        assert_int_equal(f->ops->sync(f, NULL), OK);
        fill(f, 'b', 700, 9000);
        vfs_mem_crash(v, seed);
        f->ops->close(f);
        struct bytes b = content(v, "f");
        assert_in_range(b.len, 700, 9700);
        for (size_t i = 0; i < b.len; i++) {
            assert_true(i < 700 ? b.data[i] == 'a' : b.data[i] == 'b' || b.data[i] == 0);
        }
        n_old += b.len == 700;
        n_new += b.len == 9700;
        n_between += b.len > 700 && b.len < 9700;
        bytes_deinit(&b);
        vfs_mem_destroy(&v);
    }
    assert_true(n_old > 30 && n_new > 30 && n_between > 30);
}

static void a_cut_file_reads_zeros_when_it_grows_again(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct vfs_file *f = safe_file(v);
    fill(f, 'a', 0, 9000);
    assert_int_equal(f->ops->truncate(f, 100, NULL), OK);
    assert_int_equal(f->ops->allocate(f, 9000, NULL), OK);
    struct bytes b = content(v, "f");
    for (size_t i = 0; i < 9000; i++) {
        assert_int_equal(b.data[i], i < 100 ? 'a' : 0);
    }
    bytes_deinit(&b);
    assert_int_equal(f->ops->sync(f, NULL), OK);
    assert_int_equal(f->ops->truncate(f, 10, NULL), OK);
    vfs_mem_crash(v, 5);
    f->ops->close(f);
    b = content(v, "f");
    assert_true(b.len == 10 || b.len == 9000);
    for (size_t i = 0; i < b.len; i++) {
        assert_true(i < 10 ? b.data[i] == 'a' : b.data[i] == 'a' || b.data[i] == 0);
    }
    bytes_deinit(&b);
    vfs_mem_destroy(&v);
}

static void open_files_are_dead_after_a_crash(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct vfs_file *f = safe_file(v);
    assert_int_equal(f->ops->lock(f, NULL), OK);
    vfs_mem_crash(v, 1);
    struct iovec iov = {(void *)(uintptr_t) "x", 1};
    char out[1];
    size_t n;
    uint64_t size;
    assert_int_equal(f->ops->pwritev(f, &iov, 1, 0, NULL), ERR_IO);
    assert_int_equal(f->ops->pread(f, out, 1, 0, &n, NULL), ERR_IO);
    assert_int_equal(f->ops->sync(f, NULL), ERR_IO);
    assert_int_equal(f->ops->datasync(f, NULL), ERR_IO);
    assert_int_equal(f->ops->truncate(f, 0, NULL), ERR_IO);
    assert_int_equal(f->ops->allocate(f, 1, NULL), ERR_IO);
    assert_int_equal(f->ops->size(f, &size, NULL), ERR_IO);
    assert_int_equal(f->ops->lock(f, NULL), ERR_IO);
    struct vfs_file *again = open_ok(v, "f", 0);
    assert_int_equal(again->ops->lock(again, NULL), OK); /* the dead one's lock is gone */
    f->ops->close(f);
    struct vfs_file *third = open_ok(v, "f", 0);
    assert_int_equal(third->ops->lock(third, NULL), ERR_LOCKED);
    third->ops->close(third);
    again->ops->close(again);
    vfs_mem_destroy(&v);
}

/* How often each outcome of `play` was seen over many seeds; an outcome is a small number that
 * `judge` makes from the disk after the crash. */
struct scenario {
    void (*play)(struct vfs *v);
    unsigned (*judge)(struct vfs *v);
};

#define OUTCOMES 8u

static void run(const struct scenario *s, unsigned seen[OUTCOMES])
{
    memset(seen, 0, OUTCOMES * sizeof(seen[0]));
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        struct vfs *v = vfs_mem_create();
        s->play(v);
        vfs_mem_crash(v, seed);
        unsigned outcome = s->judge(v);
        assert_in_range(outcome, 0, OUTCOMES - 1);
        seen[outcome]++;
        /* What is there after a crash is safe. */
        vfs_mem_crash(v, seed + 1);
        assert_int_equal(s->judge(v), outcome);
        vfs_mem_destroy(&v);
    }
}

static void create(struct vfs *v, const char *path, const char *text)
{
    struct vfs_file *f = open_ok(v, path, VFS_CREATE);
    write_ok(f, text, strlen(text), 0);
    assert_int_equal(f->ops->sync(f, NULL), OK);
    f->ops->close(f);
}

static bool holds(struct vfs *v, const char *path, const char *text)
{
    struct bytes b = content(v, path);
    bool same = slice_eq(bytes_slice(&b), slice_str(text));
    bytes_deinit(&b);
    return same;
}

static void play_create(struct vfs *v)
{
    create(v, "a", "x");
}

static void play_create_synced(struct vfs *v)
{
    create(v, "a", "x");
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
}

static unsigned judge_a(struct vfs *v)
{
    return !exists(v, "a") ? 0 : holds(v, "a", "x") ? 1 : 2;
}

static void play_unlink(struct vfs *v)
{
    play_create_synced(v);
    assert_int_equal(v->ops->unlink(v, "a", NULL), OK);
}

static void play_unlink_synced(struct vfs *v)
{
    play_unlink(v);
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
}

static void play_rename(struct vfs *v)
{
    create(v, "a", "old");
    create(v, "t", "new");
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
    assert_int_equal(v->ops->rename(v, "t", "a", NULL), OK);
}

static void play_rename_synced(struct vfs *v)
{
    play_rename(v);
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
}

/* 0: not renamed; 1: renamed; 2: anything else. */
static unsigned judge_rename(struct vfs *v)
{
    if (!exists(v, "a")) {
        return 2;
    }
    if (exists(v, "t")) {
        return holds(v, "a", "old") && holds(v, "t", "new") ? 0 : 2;
    }
    return holds(v, "a", "new") ? 1 : 2;
}

/* Without a sync between: t may be there, or a, or neither, never both. */
static void play_create_and_rename(struct vfs *v)
{
    create(v, "t", "new");
    assert_int_equal(v->ops->rename(v, "t", "a", NULL), OK);
}

static unsigned judge_create_and_rename(struct vfs *v)
{
    return (exists(v, "a") ? 1u : 0u) + (exists(v, "t") ? 2u : 0u);
}

/* A file moves between folders; only the target is synced, and the source follows. */
static void play_move_between_folders(struct vfs *v)
{
    assert_int_equal(v->ops->mkdir(v, "from", NULL), OK);
    assert_int_equal(v->ops->mkdir(v, "to", NULL), OK);
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
    create(v, "from/f", "x");
    assert_int_equal(v->ops->rename(v, "from/f", "to/f", NULL), OK);
    assert_int_equal(v->ops->sync_dir(v, "to", NULL), OK);
}

static unsigned judge_move(struct vfs *v)
{
    return (exists(v, "to/f") && holds(v, "to/f", "x") ? 1u : 0u) + (exists(v, "from/f") ? 2u : 0u);
}

/* The inner folder is synced, its own name is not. */
static void play_folder(struct vfs *v)
{
    assert_int_equal(v->ops->mkdir(v, "d", NULL), OK);
    create(v, "d/f", "x");
    assert_int_equal(v->ops->sync_dir(v, "d", NULL), OK);
}

static unsigned judge_folder(struct vfs *v)
{
    return (exists(v, "d") ? 1u : 0u) + (exists(v, "d/f") ? 2u : 0u);
}

/* A new folder gets its final name, as a log directory does. */
static void play_rename_folder(struct vfs *v)
{
    play_folder(v);
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
    assert_int_equal(v->ops->rename(v, "d", "e", NULL), OK);
}

static unsigned judge_rename_folder(struct vfs *v)
{
    return (exists(v, "d/f") ? 1u : 0u) + (exists(v, "e/f") ? 2u : 0u);
}

static void play_two_independent(struct vfs *v)
{
    create(v, "a", "1");
    create(v, "b", "2");
}

static unsigned judge_two(struct vfs *v)
{
    return (exists(v, "a") ? 1u : 0u) + (exists(v, "b") ? 2u : 0u);
}

static void names_after_a_crash(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        struct scenario s;
        unsigned possible; /* bit i: outcome i is seen; all others are not */
    } rows[] = {
        {"a new name may be lost", {play_create, judge_a}, 0x3},
        {"a synced name stays", {play_create_synced, judge_a}, 0x2},
        {"a removed name may come back", {play_unlink, judge_a}, 0x3},
        {"a removal that was synced stays", {play_unlink_synced, judge_a}, 0x1},
        {"a rename is whole or nothing", {play_rename, judge_rename}, 0x3},
        {"a rename that was synced stays", {play_rename_synced, judge_rename}, 0x2},
        {"a rename comes after its file", {play_create_and_rename, judge_create_and_rename}, 0x7},
        {"a move takes both folders", {play_move_between_folders, judge_move}, 0x2},
        {"a folder may be lost with all in it", {play_folder, judge_folder}, 0x9},
        {"a folder moves whole or not", {play_rename_folder, judge_rename_folder}, 0x6},
        {"changes of different names are independent", {play_two_independent, judge_two}, 0xF},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned seen[OUTCOMES];
        run(&rows[i].s, seen);
        for (unsigned k = 0; k < OUTCOMES; k++) {
            bool possible = (rows[i].possible >> k & 1u) != 0;
            if (possible != (seen[k] > 0)) {
                fail_msg("%s: outcome %u seen %u times", rows[i].claim, k, seen[k]);
            }
        }
    }
}

static void a_recycled_file_keeps_old_bytes_under_its_new_name(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        struct vfs *v = vfs_mem_create();
        create(v, "1", "first");
        assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
        assert_int_equal(v->ops->rename(v, "1", "2", NULL), OK);
        struct vfs_file *f = open_ok(v, "2", 0);
        write_ok(f, "again", 5, 0);
        f->ops->close(f);
        vfs_mem_crash(v, seed);
        const char *name = exists(v, "1") ? "1" : "2";
        assert_true(holds(v, name, "first") || holds(v, name, "again"));
        assert_false(exists(v, "1") && exists(v, "2"));
        vfs_mem_destroy(&v);
    }
}

static void the_same_seed_gives_the_same_disk(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct bytes seen[2] = {0};
        for (int k = 0; k < 2; k++) {
            struct vfs *v = vfs_mem_create();
            struct vfs_file *f = safe_file(v);
            fill(f, 'a', 0, 50 * SECTOR);
            create(v, "g", "g");
            vfs_mem_crash(v, seed);
            f->ops->close(f);
            seen[k] = content(v, "f");
            bytes_printf(&seen[k], "%d", exists(v, "g"));
            vfs_mem_destroy(&v);
        }
        assert_true(slice_eq(bytes_slice(&seen[0]), bytes_slice(&seen[1])));
        bytes_deinit(&seen[0]);
        bytes_deinit(&seen[1]);
    }
}

static void bits_flip(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    create(v, "f", "abc");
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), OK);
    assert_int_equal(vfs_mem_flip(v, "f", 8), OK); /* lowest bit of 'b' */
    assert_true(holds(v, "f", "acc"));
    vfs_mem_crash(v, 3);
    assert_true(holds(v, "f", "acc"));
    assert_int_equal(vfs_mem_flip(v, "f", 8), OK);
    assert_true(holds(v, "f", "abc"));
    assert_int_equal(vfs_mem_flip(v, "f", 24), ERR_INVALID);
    assert_int_equal(vfs_mem_flip(v, "none", 0), ERR_NOT_FOUND);
    struct vfs_file *f = open_ok(v, "f", 0);
    assert_int_equal(f->ops->allocate(f, 100000, NULL), OK);
    assert_int_equal(vfs_mem_flip(v, "f", 8 * 99999 + 7), OK); /* in a hole */
    struct bytes b = content(v, "f");
    assert_int_equal(b.data[99999], 0x80);
    bytes_deinit(&b);
    f->ops->close(f);
    vfs_mem_destroy(&v);
}

static void a_preallocated_file_costs_nothing_and_survives(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct vfs_file *f = safe_file(v);
    uint64_t before = 0;
    uint64_t after = 0;
    assert_int_equal(v->ops->free_bytes(v, "/", &before, NULL), OK);
    assert_int_equal(f->ops->allocate(f, 64u << 20, NULL), OK);
    assert_int_equal(f->ops->datasync(f, NULL), OK);
    assert_int_equal(v->ops->free_bytes(v, "/", &after, NULL), OK);
    assert_int_equal(before, after);
    fill(f, 'x', 20u << 20, 100);
    assert_int_equal(f->ops->datasync(f, NULL), OK);
    vfs_mem_crash(v, 9);
    f->ops->close(f);
    f = open_ok(v, "f", VFS_READ);
    uint8_t out[102];
    size_t n = 0;
    assert_int_equal(f->ops->pread(f, out, sizeof(out), (20u << 20) - 1, &n, NULL), OK);
    assert_int_equal(n, sizeof(out));
    assert_int_equal(out[0], 0);
    assert_int_equal(out[1], 'x');
    assert_int_equal(out[100], 'x');
    assert_int_equal(out[101], 0);
    uint64_t size = 0;
    assert_int_equal(f->ops->size(f, &size, NULL), OK);
    assert_int_equal(size, 64u << 20);
    f->ops->close(f);
    vfs_mem_destroy(&v);
}

static void a_full_disk_says_so(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct vfs_file *f = safe_file(v);
    struct iovec iov = {(void *)(uintptr_t) "x", 1};
    assert_int_equal(f->ops->pwritev(f, &iov, 1, UINT64_C(1) << 40, NULL), ERR_NO_DISK);
    assert_int_equal(f->ops->pwritev(f, &iov, 1, UINT64_MAX, NULL), ERR_NO_DISK);
    assert_int_equal(f->ops->allocate(f, UINT64_C(1) << 40, NULL), ERR_NO_DISK);
    f->ops->close(f);
    vfs_mem_destroy(&v);
}

static void replacing_a_file_survives_a_crash_at_any_point(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        for (uint64_t at = 1; at <= 7; at++) {
            struct vfs *mem = vfs_mem_create();
            assert_int_equal(vfs_write_file(mem, "f", slice_str("old"), NULL), OK);
            const struct vfs_fault_plan plan = {.fail_at = at, .sticky = true, .with = ERR_IO};
            struct vfs *v = vfs_fault_create(mem, &plan);
            enum err e = vfs_write_file(v, "f", slice_str("new"), NULL);
            vfs_mem_crash(mem, seed);
            assert_true(holds(mem, "f", "new") || (e != OK && holds(mem, "f", "old")));
            vfs_fault_destroy(&v);
            vfs_mem_destroy(&mem);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_bytes_survive),
        cmocka_unit_test(unsynced_sectors_are_old_or_new),
        cmocka_unit_test(an_unsynced_append_may_leave_any_size),
        cmocka_unit_test(a_cut_file_reads_zeros_when_it_grows_again),
        cmocka_unit_test(open_files_are_dead_after_a_crash),
        cmocka_unit_test(names_after_a_crash),
        cmocka_unit_test(a_recycled_file_keeps_old_bytes_under_its_new_name),
        cmocka_unit_test(the_same_seed_gives_the_same_disk),
        cmocka_unit_test(bits_flip),
        cmocka_unit_test(a_preallocated_file_costs_nothing_and_survives),
        cmocka_unit_test(a_full_disk_says_so),
        cmocka_unit_test(replacing_a_file_survives_a_crash_at_any_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
