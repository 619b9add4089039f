/* vfs_real.c - the machine's file calls. Each is repeated after EINTR and never otherwise. */
#include "base/vfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"

#define IOV_BATCH 64 /* vectors handed to one pwritev; longer lists take several calls */

struct real_file {
    struct vfs_file file;
    int fd;
    char *path; /* owned; for error texts */
};

static struct real_file *real_of(struct vfs_file *f)
{
    return CONTAINER_OF(f, struct real_file, file);
}

static enum err fail(struct err_ctx *ec, int errnum, const char *call, const char *path)
{
    const char *text = strerrordesc_np(errnum);
    return err_set(ec, err_from_errno(errnum), "%s %s: %s", call, path,
                   text == NULL ? "unknown error" : text);
}

static enum err real_open(struct vfs *v, const char *path, int flags, struct vfs_file **out,
                          struct err_ctx *ec)
{
    (void)v;
    int o = O_CLOEXEC | ((flags & VFS_READ) != 0 ? O_RDONLY : O_RDWR);
    o |= (flags & VFS_CREATE) != 0 ? O_CREAT : 0;
    o |= (flags & VFS_EXCL) != 0 ? O_EXCL : 0;
    int fd;
    do {
        fd = open(path, o, 0600);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return fail(ec, errno, "open", path);
    }
    struct real_file *f = xalloc(sizeof(*f));
    *f = (struct real_file){{v->ops}, fd, xstrdup(path)};
    *out = &f->file;
    return OK;
}

static void real_close(struct vfs_file *file)
{
    if (file == NULL) {
        return;
    }
    struct real_file *f = real_of(file);
    (void)close(f->fd); /* nothing unsynced is promised, so there is nothing to report */
    free(f->path);
    free(f);
}

static enum err real_pread(struct vfs_file *file, void *data, size_t len, uint64_t offset,
                           size_t *n_read, struct err_ctx *ec)
{
    struct real_file *f = real_of(file);
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(f->fd, (uint8_t *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(ec, errno, "read", f->path);
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    *n_read = done;
    return OK;
}

/* Copy to `out` what is left of `iov` after `skip` bytes of its first vector; at most IOV_BATCH. */
static int rest_of(const struct iovec *iov, int n_iov, size_t skip, struct iovec *out)
{
    int n = n_iov < IOV_BATCH ? n_iov : IOV_BATCH;
    for (int i = 0; i < n; i++) {
        out[i] = iov[i];
    }
    out[0].iov_base = (uint8_t *)out[0].iov_base + skip;
    out[0].iov_len -= skip;
    return n;
}

static enum err real_pwritev(struct vfs_file *file, const struct iovec *iov, int n_iov,
                             uint64_t offset, struct err_ctx *ec)
{
    struct real_file *f = real_of(file);
    size_t skip = 0; /* bytes of iov[0] that are written */
    while (n_iov > 0) {
        if (skip == iov[0].iov_len) {
            iov++;
            n_iov--;
            skip = 0;
            continue;
        }
        struct iovec part[IOV_BATCH];
        int n_part = rest_of(iov, n_iov, skip, part);
        ssize_t n = pwritev(f->fd, part, n_part, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return fail(ec, n < 0 ? errno : EIO, "write", f->path);
        }
        offset += (uint64_t)n;
        size_t left = (size_t)n;
        while (left > 0 && left >= iov[0].iov_len - skip) {
            left -= iov[0].iov_len - skip;
            iov++;
            n_iov--;
            skip = 0;
        }
        skip += left;
    }
    return OK;
}

static enum err real_datasync(struct vfs_file *file, struct err_ctx *ec)
{
    struct real_file *f = real_of(file);
    int rc;
    do {
        rc = fdatasync(f->fd);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? OK : fail(ec, errno, "fdatasync", f->path);
}

static enum err real_sync(struct vfs_file *file, struct err_ctx *ec)
{
    struct real_file *f = real_of(file);
    int rc;
    do {
        rc = fsync(f->fd);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? OK : fail(ec, errno, "fsync", f->path);
}

static enum err real_truncate(struct vfs_file *file, uint64_t size, struct err_ctx *ec)
{
    struct real_file *f = real_of(file);
    int rc;
    do {
        rc = ftruncate(f->fd, (off_t)size);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? OK : fail(ec, errno, "truncate", f->path);
}

static enum err real_allocate(struct vfs_file *file, uint64_t size, struct err_ctx *ec)
{
    struct real_file *f = real_of(file);
    if (size == 0) {
        return OK;
    }
    int errnum;
    do {
        errnum = posix_fallocate(f->fd, 0, (off_t)size);
    } while (errnum == EINTR);
    return errnum == 0 ? OK : fail(ec, errnum, "allocate", f->path);
}

static enum err real_size(struct vfs_file *file, uint64_t *out, struct err_ctx *ec)
{
    struct real_file *f = real_of(file);
    struct stat st;
    if (fstat(f->fd, &st) != 0) {
        return fail(ec, errno, "stat", f->path);
    }
    *out = (uint64_t)st.st_size;
    return OK;
}

static enum err real_lock(struct vfs_file *file, struct err_ctx *ec)
{
    struct real_file *f = real_of(file);
    /* A lock of the open file description, as etcd takes: it excludes an etcd on the same files,
     * and another open of this process, and goes away with the descriptor. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int rc;
    do {
        rc = fcntl(f->fd, F_OFD_SETLK, &lock);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0) {
        return OK;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return err_set(ec, ERR_LOCKED, "lock %s: held by another process", f->path);
    }
    return fail(ec, errno, "lock", f->path);
}

static enum err real_rename(struct vfs *v, const char *from, const char *to, struct err_ctx *ec)
{
    (void)v;
    return rename(from, to) == 0 ? OK : fail(ec, errno, "rename", from);
}

static enum err real_unlink(struct vfs *v, const char *path, struct err_ctx *ec)
{
    (void)v;
    return unlink(path) == 0 ? OK : fail(ec, errno, "remove", path);
}

static enum err real_mkdir(struct vfs *v, const char *path, struct err_ctx *ec)
{
    (void)v;
    return mkdir(path, 0700) == 0 ? OK : fail(ec, errno, "create directory", path);
}

static enum err real_stat(struct vfs *v, const char *path, struct vfs_stat *out, struct err_ctx *ec)
{
    (void)v;
    struct stat st;
    if (stat(path, &st) != 0) {
        return fail(ec, errno, "stat", path);
    }
    *out = (struct vfs_stat){.size = (uint64_t)st.st_size,
                             .mode = (uint32_t)(st.st_mode & 07777u),
                             .is_dir = S_ISDIR(st.st_mode)};
    return OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Every name of `dir` but the dots, in the order the system gives them. Returns an errno. */
static int read_names(DIR *dir, char ***names, size_t *n_names)
{
    size_t cap = 0;
    for (;;) {
        errno = 0;
        struct dirent *d = readdir(dir);
        if (d == NULL) {
            return errno;
        }
        if (is_dots(d->d_name)) {
            continue;
        }
        if (*n_names == cap) {
            cap = cap == 0 ? 16 : cap * 2;
            *names = xrealloc(*names, cap * sizeof(**names));
        }
        (*names)[(*n_names)++] = xstrdup(d->d_name);
    }
}

static enum err real_list(struct vfs *v, const char *path,
                          void (*each)(void *arg, const char *name), void *arg, struct err_ctx *ec)
{
    (void)v;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return fail(ec, errno, "list", path);
    }
    char **names = NULL;
    size_t n_names = 0;
    int errnum = read_names(dir, &names, &n_names);
    (void)closedir(dir);
    if (errnum == 0 && n_names > 0) {
        qsort(names, n_names, sizeof(*names), by_name);
    }
    for (size_t i = 0; i < n_names; i++) {
        if (errnum == 0) {
            each(arg, names[i]);
        }
        free(names[i]);
    }
    free(names);
    return errnum == 0 ? OK : fail(ec, errnum, "list", path);
}

static enum err real_sync_dir(struct vfs *v, const char *path, struct err_ctx *ec)
{
    (void)v;
    int fd;
    do {
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return fail(ec, errno, "open directory", path);
    }
    int rc;
    do {
        rc = fsync(fd);
    } while (rc != 0 && errno == EINTR);
    int errnum = errno;
    (void)close(fd);
    return rc == 0 ? OK : fail(ec, errnum, "fsync directory", path);
}

static enum err real_free_bytes(struct vfs *v, const char *path, uint64_t *out, struct err_ctx *ec)
{
    (void)v;
    struct statvfs st;
    if (statvfs(path, &st) != 0) {
        return fail(ec, errno, "statvfs", path);
    }
    *out = (uint64_t)st.f_bavail * (uint64_t)st.f_frsize;
    return OK;
}

static const struct vfs_ops real_ops = {
    .open = real_open,
    .close = real_close,
    .pread = real_pread,
    .pwritev = real_pwritev,
    .datasync = real_datasync,
    .sync = real_sync,
    .truncate = real_truncate,
    .allocate = real_allocate,
    .size = real_size,
    .lock = real_lock,
    .rename = real_rename,
    .unlink = real_unlink,
    .mkdir = real_mkdir,
    .stat = real_stat,
    .list = real_list,
    .sync_dir = real_sync_dir,
    .free_bytes = real_free_bytes,
};

struct vfs *vfs_real(void)
{
    /* The type is not const because other implementations have state; this one is never written. */
    static const struct vfs machine = {&real_ops};
    return (struct vfs *)(uintptr_t)&machine;
}
