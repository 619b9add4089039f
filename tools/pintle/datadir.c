/* datadir.c - see datadir.h. */
#include "tools/pintle/datadir.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "tools/pintle/dirs.h"
#include "tools/pintle/layout.h"

static void mode_text(uint32_t mode, char out[11])
{
    static const char letters[] = "rwxrwxrwx";
    out[0] = 'd';
    for (unsigned i = 0; i < 9; i++) {
        out[1 + i] = (mode >> (8 - i) & 1u) != 0 ? letters[i] : '-';
    }
    out[10] = '\0';
}

/* Make `path`, with every folder above it, and see that it can be written to. */
static enum err make_dir(struct vfs *v, const struct config *c, const char *path, struct err_ctx *ec)
{
    enum err e = dirs_make(v, path, NULL, ec);
    struct vfs_stat st;
    if (e == OK) {
        e = v->ops->stat(v, path, &st, ec);
    }
    if (e == OK && !st.is_dir) {
        return err_set(ec, ERR_INVALID, "%s is not a directory", path);
    }
    if (e == OK && (st.mode & 0777u) != 0700u) {
        char mode[11];
        mode_text(st.mode, mode);
        char *text = xasprintf("directory \"%s\" exist, but the permission is \"%s\". The recommended permission is \"-rwx------\" to prevent "
                               "possible unprivileged access to the data", path, mode);
        log_warn(c->log, "check file permission", F_STR("error", text));
        free(text);
    }
    char *touch = xasprintf("%s/.touch", path);
    struct vfs_file *f = NULL;
    if (e == OK) {
        e = v->ops->open(v, touch, VFS_CREATE, &f, ec);
    }
    if (e == OK) {
        f->ops->close(f);
        e = v->ops->unlink(v, touch, ec);
    }
    free(touch);
    return e;
}

struct listing {
    const struct config *c;
    bool member;
};

static void look(void *arg, const char *name)
{
    struct listing *l = arg;
    if (strcmp(name, LAYOUT_MEMBER) == 0) {
        l->member = true;
    } else if (strcmp(name, LAYOUT_LOCK) != 0 && strcmp(name, "fixtures") != 0) {
        log_warn(l->c->log, "found invalid file under data directory", F_STR("filename", name), F_STR("data-dir", l->c->data_dir));
    }
}

static void look_for_wal(void *arg, const char *name)
{
    bool *found = arg;
    size_t n = strlen(name);
    *found = *found || (n > 4 && strcmp(name + n - 4, ".wal") == 0);
}

/* What pintleutl was about to put here is wanted, and not there: starting without it would found an empty cluster. */
static enum err check_restored(struct vfs *v, const struct config *c, struct err_ctx *ec)
{
    struct vfs_stat st;
    struct err_ctx ignored = {{0}};
    char *path = xasprintf("%s/" LAYOUT_RESTORING, c->data_dir);
    bool unfinished = v->ops->stat(v, path, &st, &ignored) == OK;
    free(path);
    return unfinished ? err_set(ec, ERR_INVALID, "%s holds a restore that did not end; restore again, or remove the directory", c->data_dir) : OK;
}

/* What an etcd server keeps there is left as it is: looked for before anything of ours is made. */
static enum err check_foreign(struct vfs *v, const struct config *c, struct err_ctx *ec)
{
    struct vfs_stat st;
    struct err_ctx ignored = {{0}}; /* what is not there yet is not foreign, and what cannot be read fails below, with its reason */
    char *db = xasprintf("%s/db", c->snap_dir);
    bool store = v->ops->stat(v, db, &st, &ignored) == OK;
    free(db);
    bool log = false;
    bool listed = v->ops->list(v, c->wal_dir, look_for_wal, &log, &ignored) == OK;
    if (store || (listed && log)) {
        return err_set(ec, ERR_FOREIGN, "%s holds the %s of an etcd server; this version does not take over etcd's data directories", c->data_dir,
                       store ? "store" : "log");
    }
    return OK;
}

enum err datadir_open(struct vfs *v, const struct config *c, struct datadir *out, struct err_ctx *ec)
{
    out->lock = NULL;
    enum err e = make_dir(v, c, c->data_dir, ec);
    if (e != OK) {
        return err_wrap(ec, e, "cannot access data directory");
    }
    e = check_foreign(v, c, ec);
    if (e != OK) {
        return e;
    }
    char *path = xasprintf("%s/" LAYOUT_LOCK, c->data_dir);
    e = v->ops->open(v, path, VFS_CREATE, &out->lock, ec);
    if (e == OK) {
        e = out->lock->ops->lock(out->lock, ec);
    }
    free(path);
    if (e != OK) {
        datadir_close(out);
        return err_wrap(ec, e, "cannot lock data directory %s", c->data_dir);
    }
    e = check_restored(v, c, ec);
    if (e != OK) {
        datadir_close(out);
        return e;
    }
    struct listing l = {.c = c};
    e = v->ops->list(v, c->data_dir, look, &l, ec);
    if (e == OK) {
        log_info(c->log, l.member ? "server has already been initialized" : "Initialize and start etcd server", F_STR("data-dir", c->data_dir),
                 F_STR("dir-type", l.member ? "member" : "empty"));
    }
    path = xasprintf("%s/member", c->data_dir);
    e = e != OK ? e : err_wrap(ec, make_dir(v, c, path, ec), "cannot access member directory");
    e = e != OK ? e : err_wrap(ec, make_dir(v, c, c->snap_dir, ec), "cannot write to member directory");
    e = e != OK ? e : err_wrap(ec, make_dir(v, c, c->wal_dir, ec), "cannot write to WAL directory");
    free(path);
    if (e != OK) {
        datadir_close(out);
    }
    return e;
}

void datadir_close(struct datadir *d)
{
    if (d->lock != NULL) {
        d->lock->ops->close(d->lock);
        d->lock = NULL;
    }
}
