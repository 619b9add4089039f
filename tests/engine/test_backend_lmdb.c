/* test_backend_lmdb.c - the store's file: damage, cut tails, leftovers, locks, swapping under
 * readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/backend.h"

#define PAGE 4096
#define MAP_BYTES (1ull << 30)

struct fixture {
    char dir[64];
    char path[96];
    struct backend *b; /* may be NULL */
    struct err_ctx ec;
};

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/pintle-lmdb-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.mdb", f->dir);
    *state = f;
    return 0;
}

static size_t each_file(const struct fixture *f, bool remove)
{
    size_t n = 0;
    DIR *d = opendir(f->dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            n++;
            assert_int_equal(remove ? unlinkat(dirfd(d), e->d_name, 0) : 0, 0);
        }
    }
    (void)closedir(d);
    return n;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->b != NULL) {
        f->b->ops->close(&f->b);
    }
    (void)each_file(f, true);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static void open_ok(struct fixture *f)
{
    enum err e = backend_lmdb_open(f->dir, MAP_BYTES, true, &f->b, &f->ec);
    if (e != OK) {
        print_message("%s\n", f->ec.text);
    }
    assert_int_equal(e, OK);
}

static void shut(struct fixture *f)
{
    f->b->ops->close(&f->b);
}

static struct slice number_key(uint32_t i, uint8_t key[4])
{
    for (unsigned j = 0; j < 4; j++) {
        key[j] = (uint8_t)(i >> (24 - 8 * j));
    }
    return slice_of(key, 4);
}

static void put_range(struct fixture *f, uint32_t from, uint32_t to, size_t value_bytes)
{
    uint8_t *value = xcalloc(1, value_bytes);
    uint8_t key[4];
    assert_int_equal(f->b->ops->begin(f->b, &f->ec), OK);
    for (uint32_t i = from; i < to; i++) {
        memset(value, (int)i & 0xff, value_bytes);
        assert_int_equal(f->b->ops->put(f->b, BUCKET_KEY, number_key(i, key),
                                        slice_of(value, value_bytes), slice_str(""), false, &f->ec),
                         OK);
    }
    assert_int_equal(f->b->ops->commit(f->b, &f->ec), OK);
    free(value);
}

static size_t count(struct fixture *f, struct backend_read *r)
{
    const struct backend_ops *ops = f->b->ops;
    struct backend_cursor *c = NULL;
    struct slice k;
    struct slice v;
    size_t n = 0;
    assert_int_equal(ops->cursor_open(r, BUCKET_KEY, slice_str(""), &c, &f->ec), OK);
    while (ops->cursor_next(c, &k, &v) == OK) {
        assert_int_equal(v.data[0], k.data[3]);
        n++;
    }
    ops->cursor_close(&c);
    return n;
}

static size_t count_now(struct fixture *f)
{
    struct backend_read *r = NULL;
    assert_int_equal(f->b->ops->read_begin(f->b, &r, &f->ec), OK);
    size_t n = count(f, r);
    f->b->ops->read_end(&r);
    return n;
}

static void write_at(const struct fixture *f, off_t at, const void *data, size_t n)
{
    int fd = open(f->path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, n, at), n);
    assert_int_equal(close(fd), 0);
}

static off_t size_of(const struct fixture *f)
{
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    return st.st_size;
}

static void damaged_meta_pages_are_refused_with_a_reason(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        off_t at;
        const char *bytes;
        size_t n;
        const char *reason;
    } rows[] = {
        {"magic of the first", 16, "\0", 1, "meta page 0: magic"},
        {"magic of the second", PAGE + 17, "\0", 1, "meta page 1: magic"},
        {"version", 20, "\x07", 1, "meta page 0: version"},
        {"page size", PAGE + 41, "\x20", 1, "meta page 1: page size"},
        {"page number", 0, "\x05", 1, "meta page 0: page number"},
        {"flags", 10, "\x02", 1, "meta page 0: flags"},
        {"zeroed page", 0, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, "meta page 0: flags"},
        {"root of the free tree", 80, "\xff\xff\0", 3, "root page"},
        {"root of the main tree", PAGE + 128, "\xff\xff\0", 3, "root page"},
        {"root that is a meta page", 128, "\x01\0\0\0\0\0\0\0", 8, "root page 1"},
        {"transaction", 146, "\x01", 1, "transactions"},
        {"transactions in each other's slot", 144, "\x07\0\0\0\0\0\0\0", 8, "transactions"},
    };
    open_ok(f);
    put_range(f, 0, 10, 10);
    put_range(f, 10, 20, 10);
    put_range(f, 20, 30, 10);
    shut(f);
    uint8_t good[2 * PAGE];
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, good, sizeof(good)), sizeof(good));
    (void)close(fd);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        print_message("%s\n", rows[i].name);
        write_at(f, rows[i].at, rows[i].bytes, rows[i].n);
        assert_int_equal(backend_lmdb_open(f->dir, MAP_BYTES, true, &f->b, &f->ec), ERR_CORRUPT);
        assert_null(f->b);
        assert_non_null(strstr(f->ec.text, rows[i].reason));
        assert_non_null(strstr(f->ec.text, "store.mdb"));
        write_at(f, 0, good, sizeof(good));
    }
    open_ok(f);
    assert_int_equal(count_now(f), 30);
}

/* LMDB itself would open this as an empty database. */
static void a_lost_root_is_no_empty_store(void **state)
{
    struct fixture *f = *state;
    open_ok(f);
    put_range(f, 0, 10, 10);
    shut(f);
    for (off_t slot = 0; slot < 2; slot++) {
        write_at(f, slot * PAGE + 128, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    }
    assert_int_equal(backend_lmdb_open(f->dir, MAP_BYTES, true, &f->b, &f->ec), ERR_CORRUPT);
    assert_non_null(strstr(f->ec.text, "bucket: alarm"));
}

static void a_cut_file_is_refused_and_left_as_found(void **state)
{
    struct fixture *f = *state;
    open_ok(f);
    put_range(f, 0, 2000, 500);
    shut(f);
    off_t full = size_of(f);
    for (off_t size = full - PAGE; size >= 0; size -= full > 40 * PAGE ? 37 * PAGE : PAGE) {
        assert_int_equal(truncate(f->path, size), 0);
        assert_int_equal(backend_lmdb_open(f->dir, MAP_BYTES, true, &f->b, &f->ec), ERR_CORRUPT);
        assert_null(f->b);
        assert_int_equal(size_of(f), size);
    }
    assert_int_equal(truncate(f->path, 100), 0);
    assert_int_equal(backend_lmdb_open(f->dir, MAP_BYTES, true, &f->b, &f->ec), ERR_CORRUPT);
    assert_non_null(strstr(f->ec.text, "cut off after 100 bytes"));
}

/* Pages that one transaction takes at the end of the file and gives back need never be written, so
 * a file without its free tail is sound. Here most is deleted, later commits move into the free
 * pages below, and the tail becomes free. */
static void a_free_tail_may_be_missing(void **state)
{
    struct fixture *f = *state;
    uint8_t key[4];
    open_ok(f);
    put_range(f, 0, 5000, 500);
    assert_int_equal(f->b->ops->begin(f->b, &f->ec), OK);
    for (uint32_t i = 400; i < 5000; i++) {
        assert_int_equal(f->b->ops->del(f->b, BUCKET_KEY, number_key(i, key), &f->ec), OK);
    }
    assert_int_equal(f->b->ops->commit(f->b, &f->ec), OK);
    for (uint32_t i = 0; i < 8; i++) {
        put_range(f, 0, 400, 500);
    }
    shut(f);
    off_t full = size_of(f);
    off_t cut = full - PAGE;
    for (; backend_lmdb_open(f->dir, MAP_BYTES, true, &f->b, &f->ec) == OK; cut -= PAGE) {
        assert_int_equal(size_of(f), full);
        assert_int_equal(count_now(f), 400);
        shut(f);
        assert_int_equal(truncate(f->path, cut), 0);
    }
    assert_true(full - cut > 10 * PAGE);
    assert_true(cut > 20 * PAGE);
    assert_non_null(strstr(f->ec.text, "missing pages are in use"));
    assert_int_equal(truncate(f->path, full), 0);
}

static void leftovers_of_a_crash_are_removed(void **state)
{
    struct fixture *f = *state;
    open_ok(f);
    put_range(f, 0, 50, 10);
    shut(f);
    static const char *const names[] = {"store.mdb.new", "store.mdb.new-lock"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, "half", 4), 4);
        (void)close(fd);
    }
    open_ok(f);
    assert_int_equal(each_file(f, false), 2);
    assert_int_equal(count_now(f), 50);
    assert_int_equal(f->b->ops->defrag(f->b, &f->ec), OK);
    assert_int_equal(each_file(f, false), 2);
}

static void a_store_is_opened_once(void **state)
{
    struct fixture *f = *state;
    struct backend *second = NULL;
    open_ok(f);
    assert_int_equal(backend_lmdb_open(f->dir, MAP_BYTES, true, &second, &f->ec), ERR_LOCKED);
    assert_int_equal(f->b->ops->defrag(f->b, &f->ec), OK);
    assert_int_equal(backend_lmdb_open(f->dir, MAP_BYTES, true, &second, &f->ec), ERR_LOCKED);
    assert_null(second);
    assert_int_equal(backend_lmdb_open("/nowhere/at/all", MAP_BYTES, true, &second, &f->ec),
                     ERR_NOT_FOUND);
}

static void reads_outlive_two_defragmentations(void **state)
{
    struct fixture *f = *state;
    const struct backend_ops *ops;
    struct backend_read *reads[3] = {NULL};
    open_ok(f);
    ops = f->b->ops;
    for (uint32_t i = 0; i < 3; i++) {
        put_range(f, i * 100, i * 100 + 100, 300);
        assert_int_equal(ops->read_begin(f->b, &reads[i], &f->ec), OK);
        assert_int_equal(ops->defrag(f->b, &f->ec), OK);
        put_range(f, 1000 + i, 1001 + i, 300);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(count(f, reads[i]), i * 100 + 100 + i);
    }
    assert_int_equal(ops->stats(f->b).open_reads, 3);
    for (uint32_t i = 0; i < 3; i++) {
        ops->read_end(&reads[i]);
    }
    assert_int_equal(count_now(f), 303);
    assert_int_equal(each_file(f, false), 2);
}

static void defragmentation_packs_half_empty_pages(void **state)
{
    struct fixture *f = *state;
    uint8_t key[4];
    open_ok(f);
    for (uint32_t i = 0; i < 10; i++) {
        put_range(f, i * 1000, i * 1000 + 1000, 300);
    }
    assert_int_equal(f->b->ops->begin(f->b, &f->ec), OK);
    for (uint32_t i = 0; i < 10000; i++) {
        if (i % 3 != 0) {
            assert_int_equal(f->b->ops->del(f->b, BUCKET_KEY, number_key(i, key), &f->ec), OK);
        }
    }
    assert_int_equal(f->b->ops->commit(f->b, &f->ec), OK);
    struct backend_stats before = f->b->ops->stats(f->b);
    assert_true(before.in_use_bytes < before.file_bytes);
    assert_int_equal(f->b->ops->defrag(f->b, &f->ec), OK);
    struct backend_stats after = f->b->ops->stats(f->b);
    assert_true(after.file_bytes < 3334 * 310 * 6 / 5 + 40 * PAGE);
    assert_true(after.in_use_bytes <= after.file_bytes);
    assert_int_equal(size_of(f), after.file_bytes);
    assert_int_equal(count_now(f), 3334);
}

static void too_many_reads_are_refused(void **state)
{
    struct fixture *f = *state;
    enum { MORE_THAN_ALL = 1024 };
    struct backend_read *reads[MORE_THAN_ALL] = {NULL};
    open_ok(f);
    size_t n = 0;
    enum err e = OK;
    while (n < MORE_THAN_ALL && e == OK) {
        e = f->b->ops->read_begin(f->b, &reads[n], &f->ec);
        n += e == OK ? 1 : 0;
    }
    assert_int_equal(e, ERR_BUSY);
    assert_true(n > 1000);
    f->b->ops->read_end(&reads[0]);
    assert_int_equal(f->b->ops->read_begin(f->b, &reads[0], &f->ec), OK);
    put_range(f, 0, 10, 10); /* the writer needs none of them */
    for (size_t i = 0; i < n; i++) {
        f->b->ops->read_end(&reads[i]);
    }
    assert_int_equal(count_now(f), 10);
}

static void keys_have_a_bound(void **state)
{
    struct fixture *f = *state;
    uint8_t key[BACKEND_KEY_BYTES_MAX + 1];
    memset(key, 'k', sizeof(key));
    struct backend_read *r = NULL;
    struct backend_cursor *c = NULL;
    struct slice k;
    struct slice v;
    open_ok(f);
    const struct backend_ops *ops = f->b->ops;
    assert_int_equal(ops->begin(f->b, &f->ec), OK);
    assert_int_equal(ops->put(f->b, BUCKET_KEY, slice_of(key, sizeof(key)), slice_str("v"),
                              slice_str(""), false, &f->ec),
                     ERR_LIMIT);
    assert_int_equal(
        ops->put(f->b, BUCKET_KEY, slice_str(""), slice_str("v"), slice_str(""), false, &f->ec),
        ERR_LIMIT);
    assert_int_equal(ops->del(f->b, BUCKET_KEY, slice_of(key, sizeof(key)), &f->ec), OK);
    assert_int_equal(ops->put(f->b, BUCKET_KEY, slice_of(key, BACKEND_KEY_BYTES_MAX),
                              slice_str("v"), slice_str(""), false, &f->ec),
                     OK);
    assert_int_equal(
        ops->put(f->b, BUCKET_KEY, slice_str("z"), slice_str(""), slice_str(""), true, &f->ec), OK);
    assert_int_equal(ops->commit(f->b, &f->ec), OK);
    assert_int_equal(ops->read_begin(f->b, &r, &f->ec), OK);
    assert_int_equal(ops->get(r, BUCKET_KEY, slice_of(key, sizeof(key)), &v), ERR_NOT_FOUND);
    assert_int_equal(ops->get(r, BUCKET_KEY, slice_str(""), &v), ERR_NOT_FOUND);
    assert_int_equal(ops->get(r, BUCKET_KEY, slice_of(key, BACKEND_KEY_BYTES_MAX), &v), OK);
    assert_int_equal(ops->cursor_open(r, BUCKET_KEY, slice_of(key, sizeof(key)), &c, &f->ec), OK);
    assert_int_equal(ops->cursor_next(c, &k, &v), OK);
    assert_true(slice_eq(k, slice_str("z")));
    ops->cursor_close(&c);
    ops->read_end(&r);
}

static void fill_disk(const struct fixture *f, off_t leave)
{
    char path[96];
    struct statvfs st;
    (void)snprintf(path, sizeof(path), "%s/filler", f->dir);
    assert_int_equal(statvfs(f->dir, &st), 0);
    off_t n = (off_t)(st.f_bavail * st.f_frsize) - leave;
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, n), 0);
    assert_int_equal(close(fd), 0);
}

static enum err try_put_range(struct fixture *f, uint32_t from, uint32_t to)
{
    static const uint8_t value[4000];
    uint8_t key[4];
    enum err e = f->b->ops->begin(f->b, &f->ec);
    for (uint32_t i = from; e == OK && i < to; i++) {
        e = f->b->ops->put(f->b, BUCKET_LEASE, number_key(i, key), slice_of(value, sizeof(value)), slice_str(""), false, &f->ec);
    }
    return e == OK ? f->b->ops->commit(f->b, &f->ec) : e;
}

/* On a small disk of its own, for which one has to be root. */
static void a_full_disk_is_said_to_be_full(void **state)
{
    struct fixture *f = *state;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount("tmpfs", f->dir, "tmpfs", 0, "size=8m") != 0) {
        skip();
    }
    open_ok(f);
    put_range(f, 0, 400, 4000);
    assert_true(count_now(f) == 400);
    off_t full = size_of(f);
    /* No room for a copy: everything stays as it is, and goes on. */
    fill_disk(f, full / 2);
    assert_int_equal(f->b->ops->defrag(f->b, &f->ec), ERR_NO_DISK);
    assert_non_null(strstr(f->ec.text, "disk is full"));
    put_range(f, 400, 410, 10);
    assert_int_equal(size_of(f) < full + 20 * PAGE, true);
    /* No room for a commit: that is final until the store is opened again, and nothing is lost. */
    uint32_t n = 0;
    enum err e = OK;
    for (; e == OK && n < 4000; n += e == OK ? 50 : 0) {
        e = try_put_range(f, n, n + 50);
    }
    assert_int_equal(e, ERR_NO_DISK);
    assert_int_equal(f->b->ops->begin(f->b, &f->ec), ERR_NO_DISK);
    shut(f);
    for (int room = 0; room < 2; room++) {
        if (room == 1) {
            char path[96];
            (void)snprintf(path, sizeof(path), "%s/filler", f->dir);
            assert_int_equal(unlink(path), 0);
        }
        open_ok(f);
        assert_int_equal(count_now(f), 410);
        assert_int_equal(f->b->ops->defrag(f->b, &f->ec), room == 1 ? OK : ERR_NO_DISK);
        assert_int_equal(try_put_range(f, n, n + 50), room == 1 ? OK : ERR_NO_DISK);
        shut(f);
    }
    assert_int_equal(umount2(f->dir, MNT_DETACH), 0);
}

/* In a child, whose address space is cut down: the map must shrink to what is to be had. */
static void little_address_space_gives_a_smaller_map(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)state;
    skip(); /* sanitizers reserve terabytes themselves */
#else
    struct fixture *f = *state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {4ull << 30, 4ull << 30};
        bool fine = setrlimit(RLIMIT_AS, &limit) == 0 &&
                    backend_lmdb_open(f->dir, BACKEND_MAP_BYTES_DEFAULT, true, &f->b, &f->ec) == OK;
        _exit(fine ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
#endif
}

/* A process that is killed between commits, or in the middle of one, loses nothing it committed. */
static void a_killed_process_loses_no_commit(void **state)
{
    struct fixture *f = *state;
    for (uint32_t round = 0; round < 5; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            bool fine = backend_lmdb_open(f->dir, MAP_BYTES, false, &f->b, &f->ec) == OK;
            put_range(f, round * 10, round * 10 + 10, 100);
            fine = fine && (round % 2 == 0 || f->b->ops->defrag(f->b, &f->ec) == OK);
            fine = fine && f->b->ops->begin(f->b, &f->ec) == OK &&
                   f->b->ops->put(f->b, BUCKET_KEY, slice_str("zzzz"), slice_str("z"),
                                  slice_str(""), false, &f->ec) == OK;
            _exit(fine ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        open_ok(f);
        assert_int_equal(count_now(f), round * 10 + 10);
        shut(f);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(damaged_meta_pages_are_refused_with_a_reason),
        TEST(a_lost_root_is_no_empty_store),
        TEST(a_cut_file_is_refused_and_left_as_found),
        TEST(a_free_tail_may_be_missing),
        TEST(leftovers_of_a_crash_are_removed),
        TEST(a_store_is_opened_once),
        TEST(reads_outlive_two_defragmentations),
        TEST(defragmentation_packs_half_empty_pages),
        TEST(too_many_reads_are_refused),
        TEST(keys_have_a_bound),
        TEST(a_full_disk_is_said_to_be_full),
        TEST(little_address_space_gives_a_smaller_map),
        TEST(a_killed_process_loses_no_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
