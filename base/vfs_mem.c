/* vfs_mem.c - a disk in memory that can lose its power: folders, names and open files.
 *
 * A folder's entry knows two files for its name: the live one, which every call sees, and the synced
 * one, which survives for sure. Each change of names (create, remove, rename, make a folder) is also
 * kept as a pending change until a sync_dir of its folder. At a crash every pending change happens or
 * does not, by the seed, under three rules that real file systems keep: a rename happens at both of
 * its names or at neither; changes of one name happen in their order; moves of folders happen in
 * their order (else a folder could end up inside itself). A sync_dir makes the changes in its folder
 * happen, with whatever those rules tie to them.
 *
 * Paths are plain: parts between slashes, "." and empty parts skipped, all relative to the root. The
 * root alone exists at the start.
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

struct node;
struct mem_file;

struct entry {
    char *name;          /* owned */
    struct node *live;   /* ref; NULL: no such name */
    struct node *synced; /* ref */
    bool marked;         /* scratch of sync_dir and crash */
};

/* A file or a folder. */
struct node {
    struct node *next; /* all of the disk, in order of creation */
    struct node *prev;
    uint32_t refs; /* entries, pending changes, open files */
    bool is_dir;
    struct mem_data data;             /* of a file */
    const struct mem_file *locked_by; /* of a file */
    struct entry **entries;           /* of a folder: owned, sorted by name */
    size_t n_entries;
};

/* `name` in `dir` now means `to`. */
struct change {
    struct node *dir; /* ref */
    char *name;       /* owned */
    struct node *to;  /* ref; NULL: removed */
};

struct pending {
    struct change changes[2];
    unsigned n_changes;
    bool moves_dir;
    bool needed; /* scratch of sync_dir */
};

struct mem_disk {
    struct vfs vfs;
    pthread_mutex_t lock; /* guards all below and all files */
    struct node nodes;    /* head of the ring of all nodes */
    struct node *root;    /* ref */
    struct pending *pending; /* owned; oldest first */
    size_t n_pending;
    size_t cap_pending;
    uint64_t n_crashes;
    uint64_t disk_bytes;
    size_t n_open;
};

struct mem_file {
    struct vfs_file file;
    struct mem_disk *disk;
    struct node *node;  /* ref */
    uint64_t n_crashes; /* of the disk when this was opened; another number: dead */
    bool read_only;
    char *path; /* owned; for error texts */
};

/* Where a path leads: a name in a folder; no name for the root. */
struct place {
    struct node *dir;
    const char *name;
    size_t name_len;
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

/* ---- nodes and entries ---- */

static struct node *node_create(struct mem_disk *d, bool is_dir)
{
    struct node *n = xcalloc(1, sizeof(*n));
    n->refs = 1;
    n->is_dir = is_dir;
    mem_data_init(&n->data, &d->disk_bytes);
    n->prev = d->nodes.prev;
    n->next = &d->nodes;
    n->prev->next = n;
    n->next->prev = n;
    return n;
}

static struct node *node_ref(struct node *n)
{
    if (n != NULL) {
        n->refs++;
    }
    return n;
}

/* Recursion goes as deep as folders are nested. */
static void node_unref(struct node *n)
{
    if (n == NULL || --n->refs > 0) {
        return;
    }
    for (size_t i = 0; i < n->n_entries; i++) {
        node_unref(n->entries[i]->live);
        node_unref(n->entries[i]->synced);
        free(n->entries[i]->name);
        free(n->entries[i]);
    }
    free(n->entries);
    mem_data_deinit(&n->data);
    n->prev->next = n->next;
    n->next->prev = n->prev;
    free(n);
}

static void slot_set(struct node **slot, struct node *to)
{
    struct node *before = *slot;
    *slot = node_ref(to);
    node_unref(before);
}

static int name_cmp(const char *a, const char *b, size_t b_len)
{
    int c = strncmp(a, b, b_len);
    return c != 0 ? c : a[b_len] != '\0';
}

static bool entry_search(const struct node *dir, const char *name, size_t len, size_t *place)
{
    size_t low = 0;
    size_t high = dir->n_entries;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = name_cmp(dir->entries[mid]->name, name, len);
        if (c == 0) {
            *place = mid;
            return true;
        }
        low = c < 0 ? mid + 1 : low;
        high = c < 0 ? high : mid;
    }
    *place = low;
    return false;
}

static struct node *live_in(const struct node *dir, const char *name, size_t len)
{
    size_t at;
    return entry_search(dir, name, len, &at) ? dir->entries[at]->live : NULL;
}

static struct entry *entry_make(struct node *dir, const char *name, size_t len)
{
    size_t at;
    if (entry_search(dir, name, len, &at)) {
        return dir->entries[at];
    }
    struct entry *e = xcalloc(1, sizeof(*e));
    e->name = xstrndup(name, len);
    dir->entries = xrealloc(dir->entries, (dir->n_entries + 1) * sizeof(struct entry *));
    memmove(dir->entries + at + 1, dir->entries + at,
            (dir->n_entries - at) * sizeof(struct entry *));
    dir->entries[at] = e;
    dir->n_entries++;
    return e;
}

/* Drop the entries that mean nothing any more. Pending changes look entries up by name. */
static void sweep(struct node *dir)
{
    size_t kept = 0;
    for (size_t i = 0; i < dir->n_entries; i++) {
        struct entry *e = dir->entries[i];
        if (e->live == NULL && e->synced == NULL) {
            free(e->name);
            free(e);
        } else {
            dir->entries[kept++] = e;
        }
    }
    dir->n_entries = kept;
}

/* Returns 0 or an errno. A path through `avoid` is EINVAL: it cannot be moved below itself. */
static int walk(struct mem_disk *d, const char *path, const struct node *avoid, struct place *out)
{
    *out = (struct place){d->root, "", 0};
    for (;;) {
        path += strspn(path, "/");
        size_t len = strcspn(path, "/");
        if (len == 0) {
            return 0;
        }
        if (len == 1 && path[0] == '.') {
            path += len;
            continue;
        }
        if (out->name_len > 0) {
            struct node *next = live_in(out->dir, out->name, out->name_len);
            if (next == NULL || !next->is_dir) {
                return next == NULL ? ENOENT : ENOTDIR;
            }
            if (next == avoid) {
                return EINVAL;
            }
            out->dir = next;
        }
        out->name = path;
        out->name_len = len;
        path += len;
    }
}

static struct node *node_of(const struct place *p)
{
    return p->name_len == 0 ? p->dir : live_in(p->dir, p->name, p->name_len);
}

/* The node that `path` names. Returns 0 or an errno. */
static int look_up(struct mem_disk *d, const char *path, struct node **out)
{
    struct place p;
    int errnum = walk(d, path, NULL, &p);
    if (errnum != 0) {
        return errnum;
    }
    *out = node_of(&p);
    return *out == NULL ? ENOENT : 0;
}

/* ---- changes of names ---- */

static struct pending *pending_add(struct mem_disk *d, bool moves_dir)
{
    if (d->n_pending == d->cap_pending) {
        d->cap_pending = d->cap_pending == 0 ? 16 : d->cap_pending * 2;
        d->pending = xrealloc(d->pending, d->cap_pending * sizeof(*d->pending));
    }
    struct pending *p = &d->pending[d->n_pending++];
    *p = (struct pending){.moves_dir = moves_dir};
    return p;
}

/* Make the change live, and a part of `p`. */
static void change_live(struct pending *p, const struct place *at, struct node *to)
{
    struct change *c = &p->changes[p->n_changes++];
    c->dir = node_ref(at->dir);
    c->name = xstrndup(at->name, at->name_len);
    c->to = node_ref(to);
    slot_set(&entry_make(at->dir, at->name, at->name_len)->live, to);
}

static struct entry *entry_of(const struct change *c)
{
    return entry_make(c->dir, c->name, strlen(c->name));
}

static bool any_marked(const struct pending *p)
{
    bool marked = false;
    for (unsigned i = 0; i < p->n_changes; i++) {
        marked = marked || entry_of(&p->changes[i])->marked;
    }
    return marked;
}

static void mark(const struct pending *p, bool marked)
{
    for (unsigned i = 0; i < p->n_changes; i++) {
        entry_of(&p->changes[i])->marked = marked;
    }
}

static void make_synced(const struct pending *p)
{
    for (unsigned i = 0; i < p->n_changes; i++) {
        slot_set(&entry_of(&p->changes[i])->synced, p->changes[i].to);
    }
}

static void pending_deinit(struct pending *p)
{
    for (unsigned i = 0; i < p->n_changes; i++) {
        node_unref(p->changes[i].to);
        node_unref(p->changes[i].dir);
        free(p->changes[i].name);
    }
}

static bool touches(const struct pending *p, const struct node *dir)
{
    return p->changes[0].dir == dir || (p->n_changes == 2 && p->changes[1].dir == dir);
}

/* Backwards: what touches the folder is needed, and what came before it at one of its names. */
static void find_needed(struct mem_disk *d, const struct node *dir)
{
    bool moves_needed = false;
    for (size_t i = d->n_pending; i > 0; i--) {
        struct pending *p = &d->pending[i - 1];
        p->needed = touches(p, dir) || any_marked(p) || (p->moves_dir && moves_needed);
        if (p->needed) {
            mark(p, true);
            moves_needed = moves_needed || p->moves_dir;
        }
    }
}

static void sync_names(struct mem_disk *d, struct node *dir)
{
    find_needed(d, dir);
    size_t kept = 0;
    for (size_t i = 0; i < d->n_pending; i++) {
        struct pending p = d->pending[i];
        if (p.needed) {
            make_synced(&p);
            mark(&p, false);
            pending_deinit(&p);
        } else {
            d->pending[kept++] = p;
        }
    }
    d->n_pending = kept;
    sweep(dir);
}

/* Decide each pending change, oldest first. A change that does not happen marks its names, and
 * nothing later happens to a marked name. */
static void crash_names(struct mem_disk *d, uint64_t *random)
{
    uint64_t mood = mem_random(random) % 4; /* 0: none happens, 1: all, else coins */
    bool moves_lost = false;
    for (size_t i = 0; i < d->n_pending; i++) {
        struct pending *p = &d->pending[i];
        bool coin = mem_random(random) % 2 == 0;
        bool blocked = any_marked(p) || (p->moves_dir && moves_lost);
        if (!blocked && (mood == 1 || (mood != 0 && coin))) {
            make_synced(p);
        } else {
            mark(p, true);
            moves_lost = moves_lost || p->moves_dir;
        }
    }
    for (size_t i = 0; i < d->n_pending; i++) {
        mark(&d->pending[i], false);
    }
    for (size_t i = 0; i < d->n_pending; i++) {
        pending_deinit(&d->pending[i]);
    }
    d->n_pending = 0;
}

/* ---- open files ---- */

static int open_locked(struct mem_disk *d, const char *path, int flags, struct node **out)
{
    struct place p;
    int errnum = walk(d, path, NULL, &p);
    if (errnum != 0) {
        return errnum;
    }
    struct node *n = node_of(&p);
    if (n != NULL) {
        bool refused = (flags & VFS_CREATE) != 0 && (flags & VFS_EXCL) != 0;
        *out = n;
        return refused ? EEXIST : n->is_dir ? EISDIR : 0;
    }
    if ((flags & VFS_CREATE) == 0) {
        return ENOENT;
    }
    n = node_create(d, false);
    change_live(pending_add(d, false), &p, n);
    node_unref(n); /* its entry holds it now */
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
        f->node = node_ref(n);
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
    node_unref(f->node);
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

/* ---- calls on paths ---- */

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
    int errnum = walk(d, from, NULL, &source);
    struct node *n = errnum == 0 ? node_of(&source) : NULL;
    if (n == NULL) {
        return errnum == 0 ? ENOENT : errnum;
    }
    errnum = walk(d, to, n, &target);
    if (errnum != 0) {
        return errnum;
    }
    if (source.name_len == 0 || target.name_len == 0) {
        return EBUSY; /* the root stays where it is */
    }
    struct node *replaced = node_of(&target);
    if (replaced == n) {
        return 0;
    }
    errnum = replaced == NULL ? 0 : may_replace(n, replaced);
    if (errnum != 0) {
        return errnum;
    }
    struct pending *p = pending_add(d, n->is_dir);
    change_live(p, &target, n);
    change_live(p, &source, NULL);
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
    int errnum = walk(d, path, NULL, &p);
    if (errnum == 0) {
        const struct node *n = node_of(&p);
        errnum = n == NULL ? ENOENT : n->is_dir ? EISDIR : 0;
    }
    if (errnum == 0) {
        change_live(pending_add(d, false), &p, NULL);
    }
    return finish(d, errnum, "remove", path, ec);
}

static enum err mem_mkdir(struct vfs *v, const char *path, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct place p;
    lock(d);
    int errnum = walk(d, path, NULL, &p);
    if (errnum == 0 && node_of(&p) != NULL) {
        errnum = EEXIST;
    }
    if (errnum == 0) {
        struct node *n = node_create(d, true);
        change_live(pending_add(d, false), &p, n);
        node_unref(n); /* its entry holds it now */
    }
    return finish(d, errnum, "create directory", path, ec);
}

static enum err mem_stat(struct vfs *v, const char *path, struct vfs_stat *out, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct node *n = NULL;
    lock(d);
    int errnum = look_up(d, path, &n);
    if (errnum == 0) {
        *out = (struct vfs_stat){.size = n->data.size,
                                 .mode = n->is_dir ? FOLDER_MODE : FILE_MODE,
                                 .is_dir = n->is_dir};
    }
    return finish(d, errnum, "stat", path, ec);
}

static int look_up_dir(struct mem_disk *d, const char *path, struct node **out)
{
    int errnum = look_up(d, path, out);
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
        sync_names(d, dir);
    }
    return finish(d, errnum, "fsync directory", path, ec);
}

static enum err mem_free_bytes(struct vfs *v, const char *path, uint64_t *out, struct err_ctx *ec)
{
    struct mem_disk *d = disk_of(v);
    struct node *n = NULL;
    lock(d);
    int errnum = look_up(d, path, &n);
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
    d->root = node_create(d, true);
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
    for (size_t i = 0; i < d->n_pending; i++) {
        pending_deinit(&d->pending[i]);
    }
    free(d->pending);
    node_unref(d->root);
    ASSERT(d->nodes.next == &d->nodes);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

/* What is live in the folder or file `n` becomes what survived. */
static void node_crash(struct node *n, uint64_t *random)
{
    for (size_t i = 0; i < n->n_entries; i++) {
        slot_set(&n->entries[i]->live, n->entries[i]->synced);
    }
    sweep(n);
    n->locked_by = NULL;
    mem_data_crash(&n->data, random);
}

void vfs_mem_crash(struct vfs *v, uint64_t seed)
{
    ASSERT(v->ops == &mem_ops);
    struct mem_disk *d = disk_of(v);
    uint64_t random = seed;
    lock(d);
    crash_names(d, &random);
    /* A reference on every node while they change: none goes away under the walk, and on the way
     * out only nodes that the walk has left behind can. */
    for (struct node *n = d->nodes.next; n != &d->nodes; n = n->next) {
        (void)node_ref(n);
    }
    for (struct node *n = d->nodes.next; n != &d->nodes; n = n->next) {
        node_crash(n, &random);
    }
    for (struct node *n = d->nodes.next; n != &d->nodes;) {
        struct node *next = n->next;
        node_unref(n);
        n = next;
    }
    d->n_crashes++;
    unlock(d);
}

enum err vfs_mem_flip(struct vfs *v, const char *path, uint64_t bit)
{
    ASSERT(v->ops == &mem_ops);
    struct mem_disk *d = disk_of(v);
    struct node *n = NULL;
    lock(d);
    int errnum = look_up(d, path, &n);
    bool flipped = errnum == 0 && mem_data_flip(&n->data, bit);
    unlock(d);
    if (errnum != 0) {
        return err_from_errno(errnum);
    }
    return flipped ? OK : ERR_INVALID;
}
