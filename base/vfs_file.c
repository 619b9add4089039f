/* vfs_file.c - whole small files by way of any vfs. */
#include "base/vfs.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum err vfs_read_file(struct vfs *v, const char *path, size_t bytes_max, struct bytes *out,
                       struct err_ctx *ec)
{
    struct vfs_file *f = NULL;
    enum err e = v->ops->open(v, path, VFS_READ, &f, ec);
    if (e != OK) {
        return e;
    }
    uint64_t size = 0;
    e = f->ops->size(f, &size, ec);
    if (e == OK && size > bytes_max) {
        e = err_set(ec, ERR_LIMIT, "read %s: %llu bytes, at most %zu are taken", path,
                    (unsigned long long)size, bytes_max);
    }
    if (e == OK) {
        size_t n_read = 0;
        uint8_t *at = bytes_reserve(out, (size_t)size);
        e = f->ops->pread(f, at, (size_t)size, 0, &n_read, ec);
        if (e == OK) {
            out->len += n_read;
        }
    }
    f->ops->close(f);
    return e;
}

static enum err write_new(struct vfs *v, const char *path, struct slice content, struct err_ctx *ec)
{
    struct vfs_file *f = NULL;
    enum err e = v->ops->open(v, path, VFS_CREATE, &f, ec);
    if (e != OK) {
        return e;
    }
    e = f->ops->truncate(f, 0, ec); /* a crash may have left an older attempt */
    if (e == OK && content.len > 0) {
        struct iovec iov = {(void *)(uintptr_t)content.data, content.len};
        e = f->ops->pwritev(f, &iov, 1, 0, ec);
    }
    if (e == OK) {
        e = f->ops->sync(f, ec);
    }
    f->ops->close(f);
    return e;
}

/* The folder that `path` lies in, as a new string. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return xstrdup(".");
    }
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

enum err vfs_write_file(struct vfs *v, const char *path, struct slice content, struct err_ctx *ec)
{
    char *temporary = xasprintf("%s.tmp", path);
    char *folder = parent_of(path);
    enum err e = write_new(v, temporary, content, ec);
    if (e == OK) {
        e = v->ops->rename(v, temporary, path, ec);
    }
    if (e == OK) {
        e = v->ops->sync_dir(v, folder, ec);
    }
    free(temporary);
    free(folder);
    return e;
}
