/* vfs_mem.c - a disk in memory that can lose its power: the calls.
 *
 * Names are kept by vfs_mem_names.c, bytes by vfs_mem_data.c. One lock guards the whole disk. A
 * file opened before a crash knows by the number of crashes that it is dead.
 */
#include "base/vfs.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/vfs_mem_internal.h"

#define FILE_MODE 0600u
#define FOLDER_MODE 0700u

struct mem_file {
    struct vfs_file file;
    struct mem_disk *disk;
    struct node *node;  /* ref */
    uint64_t n_crashes; /* of the disk when this was opened; another number: dead */
    bool read_only;
    char *path; /* owned; for error texts */
};

static struct mem_disk *disk_of(struct vfs *v)
{
    return CONTAINER_OF(v, struct mem_disk, vfs);
}

static struct mem_file *file_of(struct vfs_file *f)
{
    return CONTAINER_OF(f, struct mem_file, file);
}

static void lock(struct mem_disk *d)
{
    int rc = pthread_mutex_lock(&d->lock);
    ASSERT(rc == 0);
}

static void unlock(struct mem_disk *d)
{
    int rc = pthread_mutex_unlock(&d->lock);
    ASSERT(rc == 0);
}

/* Give the lock back and tell of `errnum`, 0 for success. */
static enum err finish(struct mem_disk *d, int errnum, const char *call, const char *path,
                       struct err_ctx *ec)
{
    unlock(d);
    if (errnum == 0) {
        return OK;
    }
    return err_set(ec, err_from_errno(errnum), "%s %s: %s", call, path, strerrordesc_np(errnum));
}

static int open_locked(struct mem_disk *d, const char *path, int flags, struct node **out)
{
    struct place p;
    int errnum = mem_walk(d, path, NULL, &p);
    if (errnum != 0) {
        return errnum;
    }
    struct node *n = mem_node_of(&p);
    if (n != NULL) {
        bool refused = (flags & VFS_CREATE) != 0 && (flags & VFS_EXCL) != 0;
        *out = n;
        return refused ? EEXIST : n->is_dir ? EISDIR : 0;
    }
    if ((flags & VFS_CREATE) == 0) {
        return ENOENT;
    }
    n = mem_node_create(d, false);
    mem_change_live(mem_pending_add(d, false), &p, n);
    mem_node_unref(n); /* its entry holds it now */
    *out = n;
    return 0;
}

static enum err mem_open(struct vfs *v, const char *path, int flags, struct vfs_file **out,
                         struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct node *n = NULL;
    lock(d);
    int errnum = open_locked(d, path, flags, &n);
    if (errnum == 0) {
        struct mem_file *f = xcalloc(1, sizeof(*f));
        f->file.ops = v->ops;
        f->disk = d;
        f->node = mem_node_ref(n);
        f->n_crashes = d->n_crashes;
        f->read_only = (flags & VFS_READ) != 0;
        f->path = xstrdup(path);
        d->n_open++;
        *out = &f->file;
    }
    return finish(d, errnum, "open", path, ec);
}

static void mem_close(struct vfs_file *file)
{
    if (file == NULL) {
        return;
    }
    struct mem_file *f = file_of(file);
    struct mem_disk *d = f->disk;
    lock(d);
    if (f->node->locked_by == f) {
        f->node->locked_by = NULL;
    }
    mem_node_unref(f->node);
    d->n_open--;
    unlock(d);
    free(f->path);
    free(f);
}

/* Take the disk's lock for a call on `f`. 0, EIO when the power was cut since, EBADF when the call
 * writes and the file does not. */
static int enter(struct mem_file *f, bool writes)
{
    lock(f->disk);
    if (f->n_crashes != f->disk->n_crashes) {
        return EIO;
    }
    return writes && f->read_only ? EBADF : 0;
}

static enum err mem_pread(struct vfs_file *file, void *data, size_t len, uint64_t offset,
                          size_t *n_read, struct err_ctx *ec)
{
    struct mem_file *f = file_of(file);
    int errnum = enter(f, false);
    if (errnum == 0) {
        *n_read = mem_data_read(&f->node->data, data, len, offset);
    }
    return finish(f->disk, errnum, "read", f->path, ec);
}

static enum err mem_pwritev(struct vfs_file *file, const struct iovec *iov, int n_iov,
                            uint64_t offset, struct err_ctx *ec)
{
    struct mem_file *f = file_of(file);
    int errnum = enter(f, true);
    for (int i = 0; i < n_iov && errnum == 0; i++) {
        if (!mem_data_write(&f->node->data, iov[i].iov_base, iov[i].iov_len, offset)) {
            errnum = ENOSPC;
        }
        offset += iov[i].iov_len;
    }
    return finish(f->disk, errnum, "write", f->path, ec);
}

static enum err mem_sync(struct vfs_file *file, struct err_ctx *ec)
{
    struct mem_file *f = file_of(file);
    int errnum = enter(f, false);
    if (errnum == 0) {
        mem_data_sync(&f->node->data);
    }
    return finish(f->disk, errnum, "fsync", f->path, ec);
}

static enum err mem_truncate(struct vfs_file *file, uint64_t size, struct err_ctx *ec)
{
    struct mem_file *f = file_of(file);
    int errnum = enter(f, true);
    if (errnum == 0 && !mem_data_resize(&f->node->data, size)) {
        errnum = EFBIG;
    }
    return finish(f->disk, errnum, "truncate", f->path, ec);
}

static enum err mem_allocate(struct vfs_file *file, uint64_t size, struct err_ctx *ec)
{
    struct mem_file *f = file_of(file);
    int errnum = enter(f, true);
    if (errnum == 0 && size > f->node->data.size && !mem_data_resize(&f->node->data, size)) {
        errnum = ENOSPC;
    }
    return finish(f->disk, errnum, "allocate", f->path, ec);
}

static enum err mem_size(struct vfs_file *file, uint64_t *out, struct err_ctx *ec)
{
    struct mem_file *f = file_of(file);
    int errnum = enter(f, false);
    if (errnum == 0) {
        *out = f->node->data.size;
    }
    return finish(f->disk, errnum, "stat", f->path, ec);
}

static enum err mem_lock(struct vfs_file *file, struct err_ctx *ec)
{
    struct mem_file *f = file_of(file);
    int errnum = enter(f, true);
    bool held = errnum == 0 && f->node->locked_by != NULL && f->node->locked_by != f;
    if (errnum == 0 && !held) {
        f->node->locked_by = f;
    }
    enum err e = finish(f->disk, errnum, "lock", f->path, ec);
    return held ? err_set(ec, ERR_LOCKED, "lock %s: held by another process", f->path) : e;
}

/* Whether `to` may be replaced by `from`. Returns 0 or an errno. */
static int may_replace(const struct node *from, const struct node *to)
{
    if (from->is_dir != to->is_dir) {
        return to->is_dir ? EISDIR : ENOTDIR;
    }
    for (size_t i = 0; i < to->n_entries; i++) {
        if (to->entries[i]->live != NULL) {
            return ENOTEMPTY;
        }
    }
    return 0;
}

static int rename_locked(struct mem_disk *d, const char *from, const char *to)
{
    struct place source;
    struct place target;
    int errnum = mem_walk(d, from, NULL, &source);
    struct node *n = errnum == 0 ? mem_node_of(&source) : NULL;
    if (n == NULL) {
        return errnum == 0 ? ENOENT : errnum;
    }
    errnum = mem_walk(d, to, n, &target);
    if (errnum != 0) {
        return errnum;
    }
    if (source.name_len == 0 || target.name_len == 0) {
        return EBUSY; /* the root stays where it is */
    }
    struct node *replaced = mem_node_of(&target);
    if (replaced == n) {
        return 0;
    }
    errnum = replaced == NULL ? 0 : may_replace(n, replaced);
    if (errnum != 0) {
        return errnum;
    }
    struct pending *p = mem_pending_add(d, n->is_dir);
    mem_change_live(p, &target, n);
    mem_change_live(p, &source, NULL);
    return 0;
}

static enum err mem_rename(struct vfs *v, const char *from, const char *to, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    lock(d);
    int errnum = rename_locked(d, from, to);
    return finish(d, errnum, "rename", from, ec);
}

static enum err mem_unlink(struct vfs *v, const char *path, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct place p;
    lock(d);
    int errnum = mem_walk(d, path, NULL, &p);
    if (errnum == 0) {
        const struct node *n = mem_node_of(&p);
        errnum = n == NULL ? ENOENT : n->is_dir ? EISDIR : 0;
    }
    if (errnum == 0) {
        mem_change_live(mem_pending_add(d, false), &p, NULL);
    }
    return finish(d, errnum, "remove", path, ec);
}

static enum err mem_mkdir(struct vfs *v, const char *path, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct place p;
    lock(d);
    int errnum = mem_walk(d, path, NULL, &p);
    if (errnum == 0 && mem_node_of(&p) != NULL) {
        errnum = EEXIST;
    }
    if (errnum == 0) {
        struct node *n = mem_node_create(d, true);
        mem_change_live(mem_pending_add(d, false), &p, n);
        mem_node_unref(n); /* its entry holds it now */
    }
    return finish(d, errnum, "create directory", path, ec);
}

static enum err mem_stat(struct vfs *v, const char *path, struct vfs_stat *out, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct node *n = NULL;
    lock(d);
    int errnum = mem_look_up(d, path, &n);
    if (errnum == 0) {
        *out = (struct vfs_stat){
            .size = n->data.size, .mode = n->is_dir ? FOLDER_MODE : FILE_MODE, .is_dir = n->is_dir};
    }
    return finish(d, errnum, "stat", path, ec);
}

static int look_up_dir(struct mem_disk *d, const char *path, struct node **out)
{
    int errnum = mem_look_up(d, path, out);
    return errnum == 0 && !(*out)->is_dir ? ENOTDIR : errnum;
}

static enum err mem_list(struct vfs *v, const char *path, void (*each)(void *arg, const char *name),
                         void *arg, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct node *dir = NULL;
    char **names = NULL;
    size_t n_names = 0;
    lock(d);
    int errnum = look_up_dir(d, path, &dir);
    if (errnum == 0) {
        names = xcalloc(dir->n_entries, sizeof(*names));
        for (size_t i = 0; i < dir->n_entries; i++) {
            if (dir->entries[i]->live != NULL) {
                names[n_names++] = xstrdup(dir->entries[i]->name);
            }
        }
    }
    enum err e = finish(d, errnum, "list", path, ec);
    /* Without the lock: the callback may use the disk. */
    for (size_t i = 0; i < n_names; i++) {
        each(arg, names[i]);
        free(names[i]);
    }
    free(names);
    return e;
}

static enum err mem_sync_dir(struct vfs *v, const char *path, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct node *dir = NULL;
    lock(d);
    int errnum = look_up_dir(d, path, &dir);
    if (errnum == 0) {
        mem_names_sync(d, dir);
    }
    return finish(d, errnum, "fsync directory", path, ec);
}

static enum err mem_free_bytes(struct vfs *v, const char *path, uint64_t *out, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct node *n = NULL;
    lock(d);
    int errnum = mem_look_up(d, path, &n);
    if (errnum == 0) {
        *out = d->disk_bytes < MEM_DISK_BYTES ? MEM_DISK_BYTES - d->disk_bytes : 0;
    }
    return finish(d, errnum, "statvfs", path, ec);
}

static const struct vfs_ops mem_ops = {
    .open = mem_open,
    .close = mem_close,
    .pread = mem_pread,
    .pwritev = mem_pwritev,
    .datasync = mem_sync, /* the size of a file counts as data, so both are the same */
    .sync = mem_sync,
    .truncate = mem_truncate,
    .allocate = mem_allocate,
    .size = mem_size,
    .lock = mem_lock,
    .rename = mem_rename,
    .unlink = mem_unlink,
    .mkdir = mem_mkdir,
    .stat = mem_stat,
    .list = mem_list,
    .sync_dir = mem_sync_dir,
    .free_bytes = mem_free_bytes,
};

struct vfs *vfs_mem_create(void)
{
    struct mem_disk *d = xcalloc(1, sizeof(*d));
    d->vfs.ops = &mem_ops;
    int rc = pthread_mutex_init(&d->lock, NULL);
    ASSERT(rc == 0);
    d->nodes.next = &d->nodes;
    d->nodes.prev = &d->nodes;
    d->root = mem_node_create(d, true);
    return &d->vfs;
}

void vfs_mem_destroy(struct vfs **v)
{
    if (*v == NULL) {
        return;
    }
    ASSERT((*v)->ops == &mem_ops);
    struct mem_disk *d = disk_of(*v);
    *v = NULL;
    ASSERT(d->n_open == 0);
    mem_names_deinit(d);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

void vfs_mem_crash(struct vfs *v, uint64_t seed)
{
    ASSERT(v->ops == &mem_ops);
    struct mem_disk *d = disk_of(v);
    lock(d);
    mem_names_crash(d, seed);
    d->n_crashes++;
    unlock(d);
}

enum err vfs_mem_flip(struct vfs *v, const char *path, uint64_t bit)
{
    ASSERT(v->ops == &mem_ops);
    struct mem_disk *d = disk_of(v);
    struct node *n = NULL;
    lock(d);
    int errnum = mem_look_up(d, path, &n);
    bool flipped = errnum == 0 && mem_data_flip(&n->data, bit);
    unlock(d);
    if (errnum != 0) {
        return err_from_errno(errnum);
    }
    return flipped ? OK : ERR_INVALID;
}
