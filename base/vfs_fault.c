/* vfs_fault.c - every call passes a gate that counts it and, when its turn has come, refuses it.
 * Closing a file cannot fail and is not counted. */
#include "base/vfs.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

struct fault_vfs {
    struct vfs vfs;
    struct vfs *inner; /* borrowed */
    struct vfs_fault_plan plan;
    _Atomic uint64_t n_calls;
};

struct fault_file {
    struct vfs_file file;
    struct vfs_file *inner; /* owned */
    struct fault_vfs *disk;
};

enum call_kind { CALL_READ, CALL_WRITE };

static struct fault_vfs *disk_of(struct vfs *v)
{
    return CONTAINER_OF(v, struct fault_vfs, vfs);
}

static struct fault_file *file_of(struct vfs_file *f)
{
    return CONTAINER_OF(f, struct fault_file, file);
}

/* Count this call. The planned error when it must fail, else OK. */
static enum err gate(struct fault_vfs *d, enum call_kind kind, const char *call, struct err_ctx *ec)
{
    if (d->plan.writes_only && kind == CALL_READ) {
        return OK;
    }
    uint64_t n = atomic_fetch_add_explicit(&d->n_calls, 1, memory_order_relaxed) + 1;
    uint64_t at = d->plan.fail_at;
    if (at == 0 || n < at || (n > at && !d->plan.sticky)) {
        return OK;
    }
    return err_set(ec, d->plan.with, "%s: injected failure of call %llu", call,
                   (unsigned long long)n);
}

static enum err fault_open(struct vfs *v, const char *path, int flags, struct vfs_file **out,
                           struct err_ctx *ec)
{
    struct fault_vfs *d = disk_of(v);
    enum err e = gate(d, CALL_READ, "open", ec);
    struct vfs_file *inner = NULL;
    if (e == OK) {
        e = d->inner->ops->open(d->inner, path, flags, &inner, ec);
    }
    if (e != OK) {
        return e;
    }
    struct fault_file *f = xalloc(sizeof(*f));
    *f = (struct fault_file){{v->ops}, inner, d};
    *out = &f->file;
    return OK;
}

static void fault_close(struct vfs_file *file)
{
    if (file == NULL) {
        return;
    }
    struct fault_file *f = file_of(file);
    f->inner->ops->close(f->inner);
    free(f);
}

static enum err fault_pread(struct vfs_file *file, void *data, size_t len, uint64_t offset,
                            size_t *n_read, struct err_ctx *ec)
{
    struct fault_file *f = file_of(file);
    enum err e = gate(f->disk, CALL_READ, "read", ec);
    return e != OK ? e : f->inner->ops->pread(f->inner, data, len, offset, n_read, ec);
}

/* What a failing write leaves behind: the first `tear_bytes` of it. */
static void tear(struct fault_file *f, const struct iovec *iov, int n_iov, uint64_t offset)
{
    uint64_t left = f->disk->plan.tear_bytes;
    for (int i = 0; i < n_iov && left > 0; i++) {
        struct iovec part = iov[i];
        part.iov_len = left < part.iov_len ? (size_t)left : part.iov_len;
        /* The call fails in any case. */
        (void)f->inner->ops->pwritev(f->inner, &part, 1, offset, NULL);
        offset += part.iov_len;
        left -= part.iov_len;
    }
}

static enum err fault_pwritev(struct vfs_file *file, const struct iovec *iov, int n_iov,
                              uint64_t offset, struct err_ctx *ec)
{
    struct fault_file *f = file_of(file);
    enum err e = gate(f->disk, CALL_WRITE, "write", ec);
    if (e != OK) {
        tear(f, iov, n_iov, offset);
        return e;
    }
    return f->inner->ops->pwritev(f->inner, iov, n_iov, offset, ec);
}

static enum err fault_datasync(struct vfs_file *file, struct err_ctx *ec)
{
    struct fault_file *f = file_of(file);
    enum err e = gate(f->disk, CALL_WRITE, "fdatasync", ec);
    return e != OK ? e : f->inner->ops->datasync(f->inner, ec);
}

static enum err fault_sync(struct vfs_file *file, struct err_ctx *ec)
{
    struct fault_file *f = file_of(file);
    enum err e = gate(f->disk, CALL_WRITE, "fsync", ec);
    return e != OK ? e : f->inner->ops->sync(f->inner, ec);
}

static enum err fault_truncate(struct vfs_file *file, uint64_t size, struct err_ctx *ec)
{
    struct fault_file *f = file_of(file);
    enum err e = gate(f->disk, CALL_WRITE, "truncate", ec);
    return e != OK ? e : f->inner->ops->truncate(f->inner, size, ec);
}

static enum err fault_allocate(struct vfs_file *file, uint64_t size, struct err_ctx *ec)
{
    struct fault_file *f = file_of(file);
    enum err e = gate(f->disk, CALL_WRITE, "allocate", ec);
    return e != OK ? e : f->inner->ops->allocate(f->inner, size, ec);
}

static enum err fault_size(struct vfs_file *file, uint64_t *out, struct err_ctx *ec)
{
    struct fault_file *f = file_of(file);
    enum err e = gate(f->disk, CALL_READ, "stat", ec);
    return e != OK ? e : f->inner->ops->size(f->inner, out, ec);
}

static enum err fault_lock(struct vfs_file *file, struct err_ctx *ec)
{
    struct fault_file *f = file_of(file);
    enum err e = gate(f->disk, CALL_READ, "lock", ec);
    return e != OK ? e : f->inner->ops->lock(f->inner, ec);
}

static enum err fault_rename(struct vfs *v, const char *from, const char *to, struct err_ctx *ec)
{
    struct fault_vfs *d = disk_of(v);
    enum err e = gate(d, CALL_WRITE, "rename", ec);
    return e != OK ? e : d->inner->ops->rename(d->inner, from, to, ec);
}

static enum err fault_unlink(struct vfs *v, const char *path, struct err_ctx *ec)
{
    struct fault_vfs *d = disk_of(v);
    enum err e = gate(d, CALL_WRITE, "remove", ec);
    return e != OK ? e : d->inner->ops->unlink(d->inner, path, ec);
}

static enum err fault_mkdir(struct vfs *v, const char *path, struct err_ctx *ec)
{
    struct fault_vfs *d = disk_of(v);
    enum err e = gate(d, CALL_WRITE, "create directory", ec);
    return e != OK ? e : d->inner->ops->mkdir(d->inner, path, ec);
}

static enum err fault_stat(struct vfs *v, const char *path, struct vfs_stat *out,
                           struct err_ctx *ec)
{
    struct fault_vfs *d = disk_of(v);
    enum err e = gate(d, CALL_READ, "stat", ec);
    return e != OK ? e : d->inner->ops->stat(d->inner, path, out, ec);
}

static enum err fault_list(struct vfs *v, const char *path,
                           void (*each)(void *arg, const char *name), void *arg, struct err_ctx *ec)
{
    struct fault_vfs *d = disk_of(v);
    enum err e = gate(d, CALL_READ, "list", ec);
    return e != OK ? e : d->inner->ops->list(d->inner, path, each, arg, ec);
}

static enum err fault_sync_dir(struct vfs *v, const char *path, struct err_ctx *ec)
{
    struct fault_vfs *d = disk_of(v);
    enum err e = gate(d, CALL_WRITE, "fsync directory", ec);
    return e != OK ? e : d->inner->ops->sync_dir(d->inner, path, ec);
}

static enum err fault_free_bytes(struct vfs *v, const char *path, uint64_t *out, struct err_ctx *ec)
{
    struct fault_vfs *d = disk_of(v);
    enum err e = gate(d, CALL_READ, "statvfs", ec);
    return e != OK ? e : d->inner->ops->free_bytes(d->inner, path, out, ec);
}

static const struct vfs_ops fault_ops = {
    .open = fault_open,
    .close = fault_close,
    .pread = fault_pread,
    .pwritev = fault_pwritev,
    .datasync = fault_datasync,
    .sync = fault_sync,
    .truncate = fault_truncate,
    .allocate = fault_allocate,
    .size = fault_size,
    .lock = fault_lock,
    .rename = fault_rename,
    .unlink = fault_unlink,
    .mkdir = fault_mkdir,
    .stat = fault_stat,
    .list = fault_list,
    .sync_dir = fault_sync_dir,
    .free_bytes = fault_free_bytes,
};

struct vfs *vfs_fault_create(struct vfs *inner, const struct vfs_fault_plan *plan)
{
    ASSERT(plan->fail_at == 0 || plan->with != OK);
    struct fault_vfs *d = xcalloc(1, sizeof(*d));
    d->vfs.ops = &fault_ops;
    d->inner = inner;
    d->plan = *plan;
    atomic_init(&d->n_calls, 0);
    return &d->vfs;
}

void vfs_fault_destroy(struct vfs **v)
{
    if (*v != NULL) {
        ASSERT((*v)->ops == &fault_ops);
        free(disk_of(*v));
        *v = NULL;
    }
}

uint64_t vfs_fault_calls(const struct vfs *v)
{
    ASSERT(v->ops == &fault_ops);
    const struct fault_vfs *d = (const struct fault_vfs *)(const void *)v;
    return atomic_load_explicit(&d->n_calls, memory_order_relaxed);
}

void vfs_fault_arm(struct vfs *v, const struct vfs_fault_plan *plan)
{
    struct fault_vfs *d = disk_of(v);
    d->plan = *plan;
    atomic_store_explicit(&d->n_calls, 0, memory_order_relaxed);
}
