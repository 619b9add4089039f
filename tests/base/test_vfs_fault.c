/* test_vfs_fault.c - the n-th call fails, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/assert.h"
#include "base/vfs.h"

static enum err put(struct vfs_file *f, const char *text, uint64_t offset)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)text, 2},
                           {(void *)(uintptr_t)(text + 2), strlen(text) - 2}};
    return f->ops->pwritev(f, iov, 2, offset, NULL);
}

static void ignore(void *arg, const char *name)
{
    (void)arg;
    (void)name;
}

/* Every call but close once: 16 count, 9 of them as writes. Returns how many failed with ERR_IO. */
static unsigned use_all(struct vfs *v)
{
    struct vfs_file *f = NULL;
    unsigned n = 0;
    char out[8];
    size_t n_read;
    uint64_t size;
    struct vfs_stat st;
    n += v->ops->open(v, "f", VFS_CREATE, &f, NULL) == ERR_IO;
    if (f == NULL) {
        assert_int_equal(v->ops->open(v, "f", VFS_CREATE, &f, NULL), OK);
    }
    n += put(f, "data", 0) == ERR_IO;
    n += f->ops->pread(f, out, sizeof(out), 0, &n_read, NULL) == ERR_IO;
    n += f->ops->datasync(f, NULL) == ERR_IO;
    n += f->ops->sync(f, NULL) == ERR_IO;
    n += f->ops->truncate(f, 3, NULL) == ERR_IO;
    n += f->ops->allocate(f, 9, NULL) == ERR_IO;
    n += f->ops->size(f, &size, NULL) == ERR_IO;
    n += f->ops->lock(f, NULL) == ERR_IO;
    f->ops->close(f);
    n += v->ops->mkdir(v, "d", NULL) == ERR_IO;
    n += v->ops->rename(v, "f", "g", NULL) == ERR_IO;
    n += v->ops->unlink(v, "g", NULL) == ERR_IO;
    n += v->ops->stat(v, "/", &st, NULL) == ERR_IO;
    n += v->ops->list(v, "/", ignore, NULL, NULL) == ERR_IO;
    n += v->ops->sync_dir(v, "/", NULL) == ERR_IO;
    n += v->ops->free_bytes(v, "/", &size, NULL) == ERR_IO;
    return n;
}

static void each_call_fails_in_its_turn(void **state)
{
    (void)state;
    for (unsigned writes = 0; writes <= 1; writes++) {
        unsigned n_counted = writes != 0 ? 9 : 16;
        for (unsigned at = 0; at <= n_counted + 1; at++) {
            struct vfs *mem = vfs_mem_create();
            const struct vfs_fault_plan plan = {
                .fail_at = at, .writes_only = writes != 0, .with = ERR_IO};
            struct vfs *v = vfs_fault_create(mem, &plan);
            assert_int_equal(use_all(v), at >= 1 && at <= n_counted);
            unsigned again = writes == 0 && at == 1; /* the open that failed was repeated */
            assert_int_equal(vfs_fault_calls(v), n_counted + again);
            vfs_fault_destroy(&v);
            assert_null(v);
            vfs_mem_destroy(&mem);
        }
    }
}

static void a_sticky_failure_stays(void **state)
{
    (void)state;
    struct vfs *mem = vfs_mem_create();
    const struct vfs_fault_plan plan = {
        .fail_at = 3, .sticky = true, .writes_only = true, .with = ERR_NO_DISK};
    struct vfs *v = vfs_fault_create(mem, &plan);
    struct vfs_file *f = NULL;
    struct err_ctx ec = {0};
    assert_int_equal(v->ops->open(v, "f", VFS_CREATE, &f, NULL), OK);
    assert_int_equal(put(f, "one", 0), OK);
    assert_int_equal(put(f, "two", 0), OK);
    assert_int_equal(put(f, "3rd", 0), ERR_NO_DISK);
    assert_int_equal(f->ops->datasync(f, &ec), ERR_NO_DISK);
    assert_string_equal(ec.text, "fdatasync: injected failure of call 4");
    char out[4];
    size_t n = 0;
    assert_int_equal(f->ops->pread(f, out, 4, 0, &n, NULL), OK);
    assert_memory_equal(out, "two", 3);
    f->ops->close(f);
    vfs_fault_destroy(&v);
    vfs_mem_destroy(&mem);
}

static void a_torn_write_leaves_its_beginning(void **state)
{
    (void)state;
    for (uint64_t tear = 0; tear <= 8; tear++) {
        struct vfs *mem = vfs_mem_create();
        const struct vfs_fault_plan plan = {
            .fail_at = 1, .writes_only = true, .with = ERR_IO, .tear_bytes = tear};
        struct vfs *v = vfs_fault_create(mem, &plan);
        struct vfs_file *f = NULL;
        assert_int_equal(v->ops->open(v, "f", VFS_CREATE, &f, NULL), OK);
        assert_int_equal(put(f, "abcdef", 0), ERR_IO);
        char out[8];
        size_t n = 77;
        assert_int_equal(f->ops->pread(f, out, sizeof(out), 0, &n, NULL), OK);
        assert_int_equal(n, tear < 6 ? tear : 6);
        assert_memory_equal(out, "abcdef", n);
        f->ops->close(f);
        vfs_fault_destroy(&v);
        vfs_mem_destroy(&mem);
    }
}

static void a_failed_replacement_leaves_the_old_file(void **state)
{
    (void)state;
    for (unsigned at = 1;; at++) {
        struct vfs *mem = vfs_mem_create();
        assert_int_equal(vfs_write_file(mem, "f", slice_str("old"), NULL), OK);
        const struct vfs_fault_plan plan = {
            .fail_at = at, .with = ERR_IO, .sticky = true, .tear_bytes = 1};
        struct vfs *v = vfs_fault_create(mem, &plan);
        enum err e = vfs_write_file(v, "f", slice_str("new"), NULL);
        struct bytes b = {0};
        assert_int_equal(vfs_read_file(mem, "f", 100, &b, NULL), OK);
        bool is_new = slice_eq(bytes_slice(&b), slice_str("new"));
        assert_true(is_new || slice_eq(bytes_slice(&b), slice_str("old")));
        assert_true(e != OK || is_new);
        bytes_deinit(&b);
        bool fired = vfs_fault_calls(v) >= at;
        vfs_fault_destroy(&v);
        vfs_mem_destroy(&mem);
        assert_int_equal(e, fired ? ERR_IO : OK);
        if (!fired) {
            assert_int_equal(at, 7); /* open, truncate, write, sync, rename, sync_dir */
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_fails_in_its_turn),
        cmocka_unit_test(a_sticky_failure_stays),
        cmocka_unit_test(a_torn_write_leaves_its_beginning),
        cmocka_unit_test(a_failed_replacement_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
