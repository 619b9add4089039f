/* test_vfs.c - what every implementation of the file calls must do: the machine, the disk in
 * memory, and both under a wrapper that fails nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/vfs.h"

enum disk_kind { DISK_REAL, DISK_MEM, DISK_FAULT_REAL, DISK_FAULT_MEM, DISK_N };

struct disk {
    struct vfs *v;
    struct vfs *inner; /* of a fault disk */
    struct vfs *mem;
    char dir[64];
    char path[2][128];
};

static struct disk *disk_create(enum disk_kind kind)
{
    struct disk *d = xcalloc(1, sizeof(*d));
    bool real = kind == DISK_REAL || kind == DISK_FAULT_REAL;
    if (real) {
        (void)snprintf(d->dir, sizeof(d->dir), "/tmp/pintle-vfs-XXXXXX");
        assert_non_null(mkdtemp(d->dir));
        d->inner = vfs_real();
    } else {
        (void)snprintf(d->dir, sizeof(d->dir), "/data");
        d->mem = vfs_mem_create();
        assert_int_equal(d->mem->ops->mkdir(d->mem, "/data", NULL), OK);
        d->inner = d->mem;
    }
    const struct vfs_fault_plan never = {0};
    bool fault = kind == DISK_FAULT_REAL || kind == DISK_FAULT_MEM;
    d->v = fault ? vfs_fault_create(d->inner, &never) : d->inner;
    return d;
}

static void remove_each(void *arg, const char *name)
{
    struct disk *d = arg;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", d->dir, name);
    (void)remove(path);
}

static void disk_destroy(struct disk *d)
{
    if (d->mem == NULL) {
        (void)d->inner->ops->list(d->inner, d->dir, remove_each, d, NULL);
        assert_int_equal(rmdir(d->dir), 0);
    }
    if (d->v != d->inner) {
        vfs_fault_destroy(&d->v);
    }
    vfs_mem_destroy(&d->mem);
    free(d);
}

/* Two paths at a time. */
static const char *at(struct disk *d, const char *name, int which)
{
    (void)snprintf(d->path[which], sizeof(d->path[which]), "%s/%s", d->dir, name);
    return d->path[which];
}

static struct vfs_file *open_ok(struct disk *d, const char *name, int flags)
{
    struct vfs_file *f = NULL;
    assert_int_equal(d->v->ops->open(d->v, at(d, name, 0), flags, &f, NULL), OK);
    return f;
}

static enum err write_at(struct vfs_file *f, const char *text, uint64_t offset)
{
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
    return f->ops->pwritev(f, &iov, 1, offset, NULL);
}

static void assert_content(struct disk *d, const char *name, const void *want, size_t len)
{
    struct bytes b = {0};
    assert_int_equal(vfs_read_file(d->v, at(d, name, 0), 1u << 20, &b, NULL), OK);
    assert_int_equal(b.len, len);
    assert_memory_equal(b.data, want, len);
    bytes_deinit(&b);
}

static void reading_and_writing(struct disk *d)
{
    struct vfs_file *f = open_ok(d, "a", VFS_CREATE | VFS_EXCL);
    char out[32];
    size_t n = 77;
    assert_int_equal(f->ops->pread(f, out, sizeof(out), 0, &n, NULL), OK);
    assert_int_equal(n, 0);
    assert_int_equal(write_at(f, "hello", 0), OK);
    assert_int_equal(write_at(f, "world", 7), OK); /* leaves a hole */
    assert_int_equal(f->ops->pread(f, out, sizeof(out), 0, &n, NULL), OK);
    assert_int_equal(n, 12);
    assert_memory_equal(out, "hello\0\0world", 12);
    assert_int_equal(f->ops->pread(f, out, 3, 10, &n, NULL), OK);
    assert_int_equal(n, 2);
    assert_int_equal(f->ops->pread(f, out, 3, 100, &n, NULL), OK);
    assert_int_equal(n, 0);
    uint64_t size = 0;
    assert_int_equal(f->ops->size(f, &size, NULL), OK);
    assert_int_equal(size, 12);
    assert_int_equal(f->ops->truncate(f, 3, NULL), OK);
    assert_int_equal(f->ops->allocate(f, 5, NULL), OK);
    assert_int_equal(f->ops->allocate(f, 2, NULL), OK); /* never shrinks */
    assert_int_equal(f->ops->datasync(f, NULL), OK);
    assert_int_equal(f->ops->sync(f, NULL), OK);
    f->ops->close(f);
    assert_content(d, "a", "hel\0\0", 5);
    f = open_ok(d, "a", VFS_READ);
    assert_int_equal(write_at(f, "x", 0), ERR_IO);
    f->ops->close(f);
    assert_content(d, "a", "hel\0\0", 5);
}

static void many_vectors(struct disk *d)
{
    enum { N = 200 };
    static uint8_t data[N][701];
    struct iovec iov[N];
    struct bytes want = {0};
    for (unsigned i = 0; i < N; i++) {
        memset(data[i], (int)i, sizeof(data[i]));
        iov[i] = (struct iovec){data[i], i % 7 == 3 ? 0 : i * 3 + 1};
        bytes_add(&want, data[i], iov[i].iov_len);
    }
    struct vfs_file *f = open_ok(d, "v", VFS_CREATE);
    assert_int_equal(f->ops->pwritev(f, iov, N, 0, NULL), OK);
    assert_int_equal(f->ops->pwritev(f, iov, 0, 5, NULL), OK);
    f->ops->close(f);
    assert_content(d, "v", want.data, want.len);
    bytes_deinit(&want);
}

static void opening(struct disk *d)
{
    struct vfs_file *f = NULL;
    struct err_ctx ec = {0};
    assert_int_equal(d->v->ops->open(d->v, at(d, "none", 0), 0, &f, &ec), ERR_NOT_FOUND);
    assert_non_null(strstr(ec.text, "none"));
    assert_non_null(strstr(ec.text, "No such file"));
    assert_int_equal(d->v->ops->open(d->v, at(d, "none/x", 0), VFS_CREATE, &f, NULL),
                     ERR_NOT_FOUND);
    f = open_ok(d, "x", VFS_CREATE);
    f->ops->close(f);
    f = NULL;
    assert_int_equal(d->v->ops->open(d->v, at(d, "x", 0), VFS_CREATE | VFS_EXCL, &f, NULL),
                     ERR_EXISTS);
    assert_int_equal(d->v->ops->open(d->v, at(d, "x/y", 0), VFS_CREATE, &f, NULL), ERR_IO);
    assert_int_equal(d->v->ops->open(d->v, d->dir, 0, &f, NULL), ERR_IO);
    assert_null(f);
    f = open_ok(d, "x", VFS_CREATE); /* without EXCL the old one opens */
    f->ops->close(f);
    d->v->ops->close(NULL); /* is allowed */
}

static void locks(struct disk *d)
{
    struct vfs_file *a = open_ok(d, "l", VFS_CREATE);
    struct vfs_file *b = open_ok(d, "l", 0);
    assert_int_equal(a->ops->lock(a, NULL), OK);
    assert_int_equal(a->ops->lock(a, NULL), OK);
    assert_int_equal(b->ops->lock(b, NULL), ERR_LOCKED);
    a->ops->close(a);
    assert_int_equal(b->ops->lock(b, NULL), OK);
    b->ops->close(b);
}

static void collect(void *arg, const char *name)
{
    bytes_printf(arg, "%s ", name);
}

static void assert_listed(struct disk *d, const char *path, const char *want)
{
    struct bytes b = {0};
    assert_int_equal(d->v->ops->list(d->v, path, collect, &b, NULL), OK);
    assert_true(slice_eq(bytes_slice(&b), slice_str(want)));
    bytes_deinit(&b);
}

static void folders_and_names(struct disk *d)
{
    static const char *const names[] = {"b", "a-b", "B", "a", "ab", "z"};
    struct vfs *v = d->v;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct vfs_file *f = open_ok(d, names[i], VFS_CREATE);
        assert_int_equal(write_at(f, names[i], 0), OK);
        f->ops->close(f);
    }
    assert_int_equal(v->ops->mkdir(v, at(d, "dir", 0), NULL), OK);
    assert_int_equal(v->ops->mkdir(v, at(d, "dir", 0), NULL), ERR_EXISTS);
    assert_int_equal(v->ops->mkdir(v, at(d, "none/dir", 0), NULL), ERR_NOT_FOUND);
    assert_listed(d, d->dir, "B a a-b ab b dir z ");
    assert_int_equal(v->ops->list(v, at(d, "none", 0), collect, NULL, NULL), ERR_NOT_FOUND);
    assert_int_equal(v->ops->list(v, at(d, "a", 0), collect, NULL, NULL), ERR_IO);
    assert_int_equal(v->ops->sync_dir(v, d->dir, NULL), OK);
    assert_int_equal(v->ops->sync_dir(v, at(d, "none", 0), NULL), ERR_NOT_FOUND);
    struct vfs_stat st;
    assert_int_equal(v->ops->stat(v, at(d, "a-b", 0), &st, NULL), OK);
    assert_int_equal(st.size, 3);
    assert_int_equal(st.mode, 0600);
    assert_false(st.is_dir);
    assert_int_equal(v->ops->stat(v, at(d, "dir", 0), &st, NULL), OK);
    assert_int_equal(st.mode, 0700);
    assert_true(st.is_dir);
    assert_int_equal(v->ops->stat(v, at(d, "none", 0), &st, NULL), ERR_NOT_FOUND);
    assert_int_equal(v->ops->rename(v, at(d, "a", 0), at(d, "b", 1), NULL), OK);
    assert_content(d, "b", "a", 1);
    assert_int_equal(v->ops->rename(v, at(d, "a", 0), at(d, "b", 1), NULL), ERR_NOT_FOUND);
    assert_int_equal(v->ops->rename(v, at(d, "b", 0), at(d, "b", 1), NULL), OK);
    assert_int_equal(v->ops->rename(v, at(d, "b", 0), at(d, "none/b", 1), NULL), ERR_NOT_FOUND);
    assert_int_equal(v->ops->rename(v, at(d, "b", 0), at(d, "dir", 1), NULL), ERR_IO);
    assert_int_equal(v->ops->rename(v, at(d, "dir", 0), at(d, "b", 1), NULL), ERR_IO);
    assert_int_equal(v->ops->rename(v, at(d, "dir", 0), at(d, "dir/x", 1), NULL), ERR_IO);
    assert_int_equal(v->ops->rename(v, at(d, "b", 0), at(d, "dir/b", 1), NULL), OK);
    assert_int_equal(v->ops->rename(v, at(d, "dir", 0), at(d, "moved", 1), NULL), OK);
    assert_content(d, "moved/b", "a", 1);
    assert_listed(d, at(d, "moved", 0), "b ");
    assert_int_equal(v->ops->unlink(v, at(d, "moved", 0), NULL), ERR_IO);
    assert_int_equal(v->ops->unlink(v, at(d, "moved/b", 0), NULL), OK);
    assert_int_equal(v->ops->unlink(v, at(d, "moved/b", 0), NULL), ERR_NOT_FOUND);
    uint64_t n = 0;
    assert_int_equal(v->ops->free_bytes(v, d->dir, &n, NULL), OK);
    assert_true(n > 0);
}

static void an_unlinked_file_lives_while_open(struct disk *d)
{
    struct vfs_file *f = open_ok(d, "u", VFS_CREATE);
    assert_int_equal(write_at(f, "still", 0), OK);
    assert_int_equal(d->v->ops->unlink(d->v, at(d, "u", 0), NULL), OK);
    struct vfs_file *again = open_ok(d, "u", VFS_CREATE | VFS_EXCL);
    char out[8];
    size_t n = 0;
    assert_int_equal(f->ops->pread(f, out, sizeof(out), 0, &n, NULL), OK);
    assert_int_equal(n, 5);
    assert_int_equal(again->ops->pread(again, out, sizeof(out), 0, &n, NULL), OK);
    assert_int_equal(n, 0);
    f->ops->close(f);
    again->ops->close(again);
}

static void whole_small_files(struct disk *d)
{
    struct bytes b = {0};
    assert_int_equal(vfs_read_file(d->v, at(d, "w", 0), 10, &b, NULL), ERR_NOT_FOUND);
    assert_int_equal(vfs_write_file(d->v, at(d, "w", 0), slice_str("first one"), NULL), OK);
    assert_content(d, "w", "first one", 9);
    assert_int_equal(vfs_write_file(d->v, at(d, "w", 0), slice_str("2nd"), NULL), OK);
    assert_content(d, "w", "2nd", 3);
    assert_int_equal(vfs_read_file(d->v, at(d, "w", 0), 2, &b, NULL), ERR_LIMIT);
    assert_int_equal(b.len, 0);
    assert_int_equal(vfs_read_file(d->v, at(d, "w", 0), 3, &b, NULL), OK);
    assert_int_equal(vfs_read_file(d->v, at(d, "w", 0), 3, &b, NULL), OK);
    assert_true(slice_eq(bytes_slice(&b), slice_str("2nd2nd"))); /* appends */
    bytes_deinit(&b);
    assert_int_equal(vfs_write_file(d->v, at(d, "w", 0), slice_of(NULL, 0), NULL), OK);
    assert_content(d, "w", "", 0);
    assert_listed(d, d->dir, "w ");
    assert_int_equal(vfs_write_file(d->v, at(d, "none/w", 0), slice_str("x"), NULL), ERR_NOT_FOUND);
}

static void on_every_disk(void (*test)(struct disk *d))
{
    for (int kind = 0; kind < DISK_N; kind++) {
        struct disk *d = disk_create((enum disk_kind)kind);
        test(d);
        disk_destroy(d);
    }
}

#define ON_EVERY_DISK(name)                                                                        \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        on_every_disk(name);                                                                       \
    }
ON_EVERY_DISK(reading_and_writing)
ON_EVERY_DISK(many_vectors)
ON_EVERY_DISK(opening)
ON_EVERY_DISK(locks)
ON_EVERY_DISK(folders_and_names)
ON_EVERY_DISK(an_unlinked_file_lives_while_open)
ON_EVERY_DISK(whole_small_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading_and_writing),
        cmocka_unit_test(test_many_vectors),
        cmocka_unit_test(test_opening),
        cmocka_unit_test(test_locks),
        cmocka_unit_test(test_folders_and_names),
        cmocka_unit_test(test_an_unlinked_file_lives_while_open),
        cmocka_unit_test(test_whole_small_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
