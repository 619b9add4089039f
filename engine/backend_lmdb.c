/* backend_lmdb.c - the backend on LMDB.
 *
 * Files in the directory, which is locked with flock as long as the backend is open:
 *
 *     store.mdb, store.mdb-lock             the environment
 *     store.mdb.new, store.mdb.new-lock     one being made, by creation or defragmentation
 *     store.mdb.incoming, ...-lock          one being made of a snapshot (store_place_lmdb)
 *
 * A new environment is opened under its temporary name, filled, synced, and then renamed together
 * with its lock file; it works on through its open descriptors. So two environments that are open
 * at the same time never share a lock file, and a crash at any point leaves store.mdb whole, with
 * at most files named store.mdb.new* that the next open removes. (A stale store.mdb-lock is set up
 * anew by LMDB.)
 *
 * Readers     A read is lent from a pool of reset transactions that keep their slots in LMDB's
 * reader table; to renew one takes no system call. Each holds a reference to its environment: the
 * one that defragmentation replaced is closed by its last reader. Writer      An error while
 * storing is final: `failed` answers every later begin. Trying again after a failed sync would
 *             corrupt the file. A transaction may be large: beyond 131,071 dirty pages LMDB spills
 * by itself, but the engine's flushes stay far below.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/backend_lmdb_internal.h"
#include "engine/install.h"

#define STORE_NAME "store.mdb"
#define STORE_LOCK STORE_NAME "-lock"
#define NEW_NAME STORE_NAME ".new"
#define NEW_LOCK NEW_NAME "-lock"
#define INCOMING_NAME STORE_NAME ".incoming"
#define INCOMING_LOCK INCOMING_NAME "-lock"

#define READS_MAX                                                                                  \
    (LMDB_READERS_MAX - 8u) /* a few slots stay for free-page walks and foreign tools */
#define FREE_LISTS_EVERY_COMMIT                                                                    \
    4096u /* with more lists than this, free pages are counted once a second */
#define DISK_FULL_BYTES (1u << 20) /* with less room left, a failed write is the disk's fullness   \
                                    */

struct lmdb {
    struct backend base;
    char *dir;      /* owned */
    char *path;     /* owned; dir/store.mdb */
    char *new_path; /* owned */
    int dir_fd;     /* holds the flock */
    uint64_t map_bytes;
    bool no_sync;
    bool staged;   /* its file is store.mdb.incoming, and nobody's yet */
    bool replaced; /* its file has no name any more */
    /* Writer only. */
    MDB_txn *txn;    /* NULL outside a transaction */
    enum err failed; /* final */
    uint64_t free_pages;
    struct timespec counted_at;
    /* Any thread. */
    pthread_mutex_t lock; /* guards the counts and pools of all environments, and the next two */
    struct lmdb_env *current; /* owned through its first reference */
    size_t open_reads;
    _Atomic int64_t file_bytes;
    _Atomic int64_t in_use_bytes;
};

struct backend_cursor {
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    int rc; /* of the step that fetched key and value; they are given next */
};

static struct lmdb *lmdb_of(struct backend *b)
{
    return CONTAINER_OF(b, struct lmdb, base);
}

static MDB_val val_of(struct slice s)
{
    return (MDB_val){.mv_size = s.len, .mv_data = (void *)(uintptr_t)s.data};
}

static struct slice slice_of_val(MDB_val v)
{
    return slice_of(v.mv_data, v.mv_size);
}

static bool key_fits(struct slice key)
{
    return key.len > 0 && key.len <= BACKEND_KEY_BYTES_MAX;
}

/* --- environments in use
 * --------------------------------------------------------------------------- */

/* Under the lock. Returns the environment when nobody holds it any more, for the caller to close
 * without the lock. */
static struct lmdb_env *env_unref(struct lmdb_env *env)
{
    ASSERT(env->refs > 0);
    env->refs--;
    return env->refs == 0 ? env : NULL;
}

static void lock(struct lmdb *l)
{
    (void)pthread_mutex_lock(&l->lock);
}

static void unlock(struct lmdb *l)
{
    (void)pthread_mutex_unlock(&l->lock);
}

static bool add_pages(void *arg, const size_t *pages, size_t n)
{
    (void)pages;
    *(uint64_t *)arg += n;
    return true;
}

static bool free_lists_are_short(const struct lmdb_env *env)
{
    MDB_txn *txn = NULL;
    MDB_stat st = {0};
    if (mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn) != MDB_SUCCESS) {
        return false;
    }
    bool is_short =
        mdb_stat(txn, 0, &st) == MDB_SUCCESS && st.ms_entries <= FREE_LISTS_EVERY_COMMIT;
    mdb_txn_abort(txn);
    return is_short;
}

/* Writer's thread. Sizes are news, not state: when free pages cannot be counted the last number
 * stays. */
static void measure(struct lmdb *l, bool always)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (always || now.tv_sec > l->counted_at.tv_sec + 1 || free_lists_are_short(l->current)) {
        uint64_t n = 0;
        struct err_ctx ec;
        if (lmdb_free_lists(l->current, add_pages, &n, &ec) == OK) {
            l->free_pages = n;
        }
        l->counted_at = now;
    }
    MDB_envinfo info;
    (void)mdb_env_info(l->current->mdb, &info); /* fails only for a NULL argument */
    uint64_t pages = (uint64_t)info.me_last_pgno + 1;
    uint64_t used = pages > l->free_pages ? pages - l->free_pages : 0;
    atomic_store_explicit(&l->file_bytes, (int64_t)(pages * LMDB_PAGE_BYTES), memory_order_relaxed);
    atomic_store_explicit(&l->in_use_bytes, (int64_t)(used * LMDB_PAGE_BYTES),
                          memory_order_relaxed);
}

/* --- writing
 * ------------------------------------------------------------------------------------------ */

/* LMDB reports a write that was cut short as EIO. */
static enum err or_full(const struct lmdb *l, enum err e, struct err_ctx *ec)
{
    struct statvfs st;
    bool full = e == ERR_IO && statvfs(l->dir, &st) == 0 &&
                (uint64_t)st.f_bavail * st.f_frsize < DISK_FULL_BYTES;
    return full ? err_wrap(ec, ERR_NO_DISK, "the disk is full") : e;
}

static enum err failed_write(struct lmdb *l, int rc, const char *what, struct err_ctx *ec)
{
    enum err e = or_full(l, lmdb_fail(ec, rc, what), ec);
    l->failed = e;
    return err_wrap(ec, e, "store in %s", l->dir);
}

static enum err l_begin(struct backend *b, struct err_ctx *ec)
{
    struct lmdb *l = lmdb_of(b);
    ASSERT(l->txn == NULL);
    if (l->failed != OK) {
        return err_set(ec, l->failed, "store in %s: failed before", l->dir);
    }
    int rc = mdb_txn_begin(l->current->mdb, NULL, 0, &l->txn);
    return rc == MDB_SUCCESS ? OK : failed_write(l, rc, "begin", ec);
}

static enum err l_put(struct backend *b, enum bucket k, struct slice key, struct slice value1,
                      struct slice value2, bool append, struct err_ctx *ec)
{
    struct lmdb *l = lmdb_of(b);
    ASSERT(l->txn != NULL);
    if (!key_fits(key)) {
        return err_set(ec, ERR_LIMIT, "key of %zu bytes in %s", key.len, bucket_name(k));
    }
    MDB_val mk = val_of(key);
    MDB_val mv = {.mv_size = value1.len + value2.len};
    int rc =
        mdb_put(l->txn, l->current->dbis[k], &mk, &mv, MDB_RESERVE | (append ? MDB_APPEND : 0u));
    ASSERT(rc != MDB_KEYEXIST); /* the hint was not true */
    if (rc != MDB_SUCCESS) {
        return failed_write(l, rc, "put", ec);
    }
    uint8_t *p = mv.mv_data;
    if (value1.len > 0) {
        memcpy(p, value1.data, value1.len);
    }
    if (value2.len > 0) {
        memcpy(p + value1.len, value2.data, value2.len);
    }
    return OK;
}

static enum err l_del(struct backend *b, enum bucket k, struct slice key, struct err_ctx *ec)
{
    struct lmdb *l = lmdb_of(b);
    ASSERT(l->txn != NULL);
    if (!key_fits(key)) {
        return OK; /* such a key is never there */
    }
    MDB_val mk = val_of(key);
    int rc = mdb_del(l->txn, l->current->dbis[k], &mk, NULL);
    return rc == MDB_SUCCESS || rc == MDB_NOTFOUND ? OK : failed_write(l, rc, "del", ec);
}

static enum err l_commit(struct backend *b, struct err_ctx *ec)
{
    struct lmdb *l = lmdb_of(b);
    ASSERT(l->txn != NULL);
    MDB_txn *txn = l->txn;
    l->txn = NULL; /* LMDB frees it in any case */
    /* After an error the transaction is half made. */
    if (l->failed != OK) {
        mdb_txn_abort(txn);
        return err_set(ec, l->failed, "store in %s: failed before", l->dir);
    }
    int rc = mdb_txn_commit(txn);
    if (rc != MDB_SUCCESS) {
        return failed_write(l, rc, "commit", ec);
    }
    measure(l, false);
    return OK;
}

static void l_abort(struct backend *b)
{
    struct lmdb *l = lmdb_of(b);
    ASSERT(l->txn != NULL);
    mdb_txn_abort(l->txn);
    l->txn = NULL;
}

/* --- reading
 * -------------------------------------------------------------------------------------------- */

/* A read struct of the current environment with one more reference to that, idle or not yet begun;
 * NULL when all are lent. */
static struct backend_read *take_read(struct lmdb *l)
{
    lock(l);
    struct lmdb_env *env = l->current;
    struct backend_read *r = env->idle;
    if (r != NULL) {
        env->idle = r->next_idle;
    } else if (env->n_reads < READS_MAX) {
        env->n_reads++;
        r = xcalloc(1, sizeof(*r));
        r->lmdb = l;
        r->env = env;
    }
    if (r != NULL) {
        env->refs++;
        l->open_reads++;
    }
    unlock(l);
    return r;
}

/* Its transaction is reset, or was never begun (then the struct goes). */
static void give_back(struct backend_read *r)
{
    struct lmdb *l = r->lmdb;
    struct lmdb_env *env = r->env;
    lock(l);
    if (r->txn != NULL) {
        r->next_idle = env->idle;
        env->idle = r;
    } else {
        env->n_reads--;
        free(r);
    }
    l->open_reads--;
    struct lmdb_env *unused = env_unref(env);
    unlock(l);
    lmdb_env_close(&unused);
}

static enum err l_read_begin(struct backend *b, struct backend_read **out, struct err_ctx *ec)
{
    struct lmdb *l = lmdb_of(b);
    struct backend_read *r = take_read(l);
    if (r == NULL) {
        return err_set(ec, ERR_BUSY, "store in %s: %u reads are open", l->dir, READS_MAX);
    }
    int rc = r->txn == NULL ? mdb_txn_begin(r->env->mdb, NULL, MDB_RDONLY, &r->txn)
                            : mdb_txn_renew(r->txn);
    if (rc != MDB_SUCCESS) {
        give_back(r);
        return err_wrap(ec, lmdb_fail(ec, rc, "begin read"), "store in %s", l->dir);
    }
    *out = r;
    return OK;
}

static void l_read_end(struct backend_read **r)
{
    if (*r != NULL) {
        mdb_txn_reset((*r)->txn);
        give_back(*r);
        *r = NULL;
    }
}

static enum err l_get(struct backend_read *r, enum bucket k, struct slice key, struct slice *value)
{
    if (!key_fits(key)) {
        return ERR_NOT_FOUND;
    }
    MDB_val mk = val_of(key);
    MDB_val mv;
    int rc = mdb_get(r->txn, r->env->dbis[k], &mk, &mv);
    if (rc != MDB_SUCCESS) {
        return lmdb_err(rc);
    }
    *value = slice_of_val(mv);
    return OK;
}

static enum err l_cursor_open(struct backend_read *r, enum bucket k, struct slice from,
                              struct backend_cursor **out, struct err_ctx *ec)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(r->txn, r->env->dbis[k], &cursor);
    if (rc != MDB_SUCCESS) {
        return lmdb_fail(ec, rc, "open cursor");
    }
    struct backend_cursor *c = xcalloc(1, sizeof(*c));
    c->cursor = cursor;
    if (from.len == 0) {
        c->rc = mdb_cursor_get(cursor, &c->key, &c->value, MDB_FIRST);
    } else {
        /* Of a start longer than any key only the front is asked for, so a key just that long may
         * come and is below it. */
        c->key = val_of(slice_of(
            from.data, from.len < BACKEND_KEY_BYTES_MAX ? from.len : BACKEND_KEY_BYTES_MAX));
        c->rc = mdb_cursor_get(cursor, &c->key, &c->value, MDB_SET_RANGE);
        if (c->rc == MDB_SUCCESS && slice_cmp(slice_of_val(c->key), from) < 0) {
            c->rc = mdb_cursor_get(cursor, &c->key, &c->value, MDB_NEXT);
        }
    }
    *out = c;
    return OK;
}

static enum err l_cursor_next(struct backend_cursor *c, struct slice *key, struct slice *value)
{
    if (c->rc != MDB_SUCCESS) {
        return c->rc == MDB_NOTFOUND ? ERR_END : lmdb_err(c->rc);
    }
    *key = slice_of_val(c->key);
    *value = slice_of_val(c->value);
    c->rc = mdb_cursor_get(c->cursor, &c->key, &c->value, MDB_NEXT);
    return OK;
}

static void l_cursor_close(struct backend_cursor **c)
{
    if (*c != NULL) {
        mdb_cursor_close((*c)->cursor);
        free(*c);
        *c = NULL;
    }
}

static struct backend_stats l_stats(struct backend *b)
{
    struct lmdb *l = lmdb_of(b);
    lock(l);
    size_t open_reads = l->open_reads;
    unlock(l);
    return (struct backend_stats){
        .file_bytes = atomic_load_explicit(&l->file_bytes, memory_order_relaxed),
        .in_use_bytes = atomic_load_explicit(&l->in_use_bytes, memory_order_relaxed),
        .open_reads = (int64_t)open_reads,
    };
}

/* --- making, opening, replacing the file
 * -------------------------------------------------------------------- */

/* A file that has not got its name yet, and its lock file. */
struct unplaced {
    const char *file;
    const char *lock;
};
static const struct unplaced made_new = {NEW_NAME, NEW_LOCK};
static const struct unplaced incoming = {INCOMING_NAME, INCOMING_LOCK};

static enum err remove_unplaced(struct lmdb *l, const struct unplaced *u, struct err_ctx *ec)
{
    const char *const names[] = {u->file, u->lock};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (unlinkat(l->dir_fd, names[i], 0) != 0 && errno != ENOENT) {
            return err_set(ec, err_from_errno(errno), "remove %s: %s", names[i], strerror(errno));
        }
    }
    return OK;
}

static enum err remove_new(struct lmdb *l, struct err_ctx *ec)
{
    return remove_unplaced(l, &made_new, ec);
}

/* Give the environment that was opened under another name its own. *placed: the old file, if any,
 * is gone. */
static enum err put_in_place(struct lmdb *l, const struct unplaced *u, bool *placed,
                             struct err_ctx *ec)
{
    *placed = false;
    if (renameat(l->dir_fd, u->file, l->dir_fd, STORE_NAME) != 0) {
        return err_set(ec, err_from_errno(errno), "rename %s: %s", u->file, strerror(errno));
    }
    *placed = true;
    if (renameat(l->dir_fd, u->lock, l->dir_fd, STORE_LOCK) != 0) {
        return err_set(ec, err_from_errno(errno), "rename %s: %s", u->lock, strerror(errno));
    }
    return l->no_sync ? OK : lmdb_dir_sync(l->dir_fd, ec);
}

static enum err create_store(struct lmdb *l, struct err_ctx *ec)
{
    struct lmdb_env *env = NULL;
    enum err e = lmdb_env_open(l->new_path, l->map_bytes, l->no_sync, true, &env, ec);
    if (e == OK && !l->no_sync) {
        int rc = mdb_env_sync(env->mdb, 1);
        e = rc == MDB_SUCCESS ? OK : lmdb_fail(ec, rc, "sync new store");
    }
    bool placed = false;
    if (e == OK) {
        e = put_in_place(l, &made_new, &placed, ec);
    }
    if (e != OK) {
        lmdb_env_close(&env);
        return e;
    }
    l->current = env;
    return OK;
}

static enum err open_store(struct lmdb *l, struct err_ctx *ec)
{
    struct lmdb_layout layout;
    enum err e = lmdb_file_check(l->path, &layout, ec);
    if (e == ERR_NOT_FOUND) {
        return create_store(l, ec);
    }
    if (e != OK) {
        return e;
    }
    /* Reading a page that the file does not have would be a signal; so the file first gets its full
     * length. */
    bool is_short = layout.file_pages <= layout.last_page;
    if (is_short) {
        e = lmdb_file_resize(l->path, layout.last_page + 1, ec);
        if (e != OK) {
            return e;
        }
    }
    struct lmdb_env *env = NULL;
    e = lmdb_env_open(l->path, l->map_bytes, l->no_sync, false, &env, ec);
    if (e == OK && is_short) {
        e = lmdb_tail_is_free(env, layout.file_pages, layout.last_page, ec);
    }
    if (e != OK) {
        lmdb_env_close(&env);
        if (is_short) {
            /* The damage stays as it was found. */
            struct err_ctx undo;
            if (lmdb_file_resize(l->path, layout.file_pages, &undo) != OK) {
                return err_wrap(ec, e, "now extended to %llu pages",
                                (unsigned long long)layout.last_page + 1);
            }
        }
        return e;
    }
    l->current = env;
    return OK;
}

/* Readers that begin from now on get `fresh`. */
static void switch_to(struct lmdb *l, struct lmdb_env *fresh)
{
    lock(l);
    struct lmdb_env *unused = env_unref(l->current);
    l->current = fresh;
    unlock(l);
    lmdb_env_close(&unused);
}

static enum err l_defrag(struct backend *b, struct err_ctx *ec)
{
    struct lmdb *l = lmdb_of(b);
    ASSERT(l->txn == NULL);
    if (l->failed != OK) {
        return err_set(ec, l->failed, "store in %s: failed before", l->dir);
    }
    struct lmdb_env *fresh = NULL;
    bool placed = false;
    enum err e = remove_new(l, ec);
    if (e == OK) {
        e = lmdb_env_open(l->new_path, l->map_bytes, l->no_sync, true, &fresh, ec);
    }
    if (e == OK) {
        e = or_full(l, lmdb_env_copy(l->current, fresh, l->no_sync, ec), ec);
    }
    if (e == OK) {
        e = put_in_place(l, &made_new, &placed, ec);
    }
    if (placed) {
        switch_to(l, fresh);
        measure(l, true);
        /* The name is not durable: after a power cut the old file could be back, without what is
         * committed from now on. */
        l->failed = e;
    } else if (e != OK) {
        lmdb_env_close(&fresh);
        struct err_ctx ignored;
        (void)remove_new(l, &ignored); /* tried again at the next open */
    }
    return err_wrap(ec, e, "defragment store in %s", l->dir);
}

static void l_close(struct backend **b)
{
    if (*b == NULL) {
        return;
    }
    struct lmdb *l = lmdb_of(*b);
    ASSERT(l->open_reads == 0);
    if (l->txn != NULL) {
        l_abort(*b);
    }
    bool named = !l->staged && !l->replaced;
    if (l->current != NULL && l->failed == OK && !l->no_sync && named) {
        (void)mdb_env_sync(l->current->mdb,
                           1); /* a courtesy: only the last commit's meta page can be unsynced */
    }
    lmdb_env_close(&l->current);
    if (l->dir_fd >= 0) {
        (void)close(l->dir_fd); /* and with it the lock */
    }
    (void)pthread_mutex_destroy(&l->lock);
    free(l->new_path);
    free(l->path);
    free(l->dir);
    free(l);
    *b = NULL;
}

/* One that was installed shares the lock of the one before: both descriptors are of one open
 * directory. Where that fails it goes on without; the data directory has a lock of its own. */
static void l_succeed(struct backend *b, struct backend *older)
{
    struct lmdb *l = lmdb_of(b);
    struct lmdb *before = lmdb_of(older);
    before->replaced = true;
    int fd = fcntl(before->dir_fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) {
        (void)close(l->dir_fd);
        l->dir_fd = fd;
    }
}

static enum err open_dir(struct lmdb *l, struct err_ctx *ec)
{
    l->dir_fd = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return l->dir_fd >= 0
               ? OK
               : err_set(ec, err_from_errno(errno), "open directory: %s", strerror(errno));
}

static enum err lock_dir(struct lmdb *l, struct err_ctx *ec)
{
    enum err opened = open_dir(l, ec);
    if (opened != OK) {
        return opened;
    }
    if (flock(l->dir_fd, LOCK_EX | LOCK_NB) != 0) {
        enum err e = errno == EWOULDBLOCK ? ERR_LOCKED : err_from_errno(errno);
        return err_set(ec, e, "lock directory: %s", strerror(errno));
    }
    return OK;
}

static const struct backend_ops lmdb_ops = {
    .close = l_close,
    .begin = l_begin,
    .put = l_put,
    .del = l_del,
    .commit = l_commit,
    .abort = l_abort,
    .read_begin = l_read_begin,
    .read_end = l_read_end,
    .get = l_get,
    .cursor_open = l_cursor_open,
    .cursor_next = l_cursor_next,
    .cursor_close = l_cursor_close,
    .stats = l_stats,
    .defrag = l_defrag,
    .succeed = l_succeed,
};

static struct lmdb *create(const char *dir, uint64_t map_bytes, bool no_sync)
{
    struct lmdb *l = xcalloc(1, sizeof(*l));
    l->base.ops = &lmdb_ops;
    l->dir = xstrdup(dir);
    l->dir_fd = -1;
    l->path = xasprintf("%s/" STORE_NAME, dir);
    l->new_path = xasprintf("%s/" NEW_NAME, dir);
    l->map_bytes = map_bytes;
    l->no_sync = no_sync;
    (void)pthread_mutex_init(&l->lock, NULL);
    return l;
}

enum err backend_lmdb_open(const char *dir, uint64_t map_bytes, bool no_sync, struct backend **out,
                           struct err_ctx *ec)
{
    struct lmdb *l = create(dir, map_bytes, no_sync);
    struct backend *b = &l->base;
    enum err e = lock_dir(l, ec);
    if (e == OK) {
        e = remove_new(l, ec);
    }
    if (e == OK) {
        e = remove_unplaced(l, &incoming, ec);
    }
    if (e == OK) {
        e = open_store(l, ec);
    }
    if (e != OK) {
        l_close(&b);
        return err_wrap(ec, e, "open store in %s", dir);
    }
    measure(l, true);
    *out = b;
    return OK;
}

/* --- the place of stores ---------------------------------------------------------------------- */

static enum err place_stage(const struct store_place *p, struct backend **out, struct err_ctx *ec)
{
    struct lmdb *l = create(p->dir, p->map_bytes, p->no_sync);
    struct backend *b = &l->base;
    char *path = xasprintf("%s/" INCOMING_NAME, p->dir);
    l->staged = true;
    enum err e = open_dir(l, ec);
    if (e == OK) {
        e = remove_unplaced(l, &incoming, ec);
    }
    if (e == OK) {
        /* Nobody can see the new file yet: one sync, by `finish`, is enough. */
        e = lmdb_env_open(path, p->map_bytes, true, true, &l->current, ec);
    }
    free(path);
    if (e != OK) {
        l_close(&b);
        return err_wrap(ec, e, "stage store in %s", p->dir);
    }
    *out = b;
    return OK;
}

static enum err place_finish(const struct store_place *p, struct backend *staged,
                             struct err_ctx *ec)
{
    struct lmdb *l = lmdb_of(staged);
    if (p->no_sync) {
        return OK;
    }
    enum err e = lmdb_env_make_durable(l->current, ec);
    return e == OK ? OK : err_wrap(ec, e, "staged store in %s", p->dir);
}

static enum err place_install(const struct store_place *p, struct backend *staged,
                              struct err_ctx *ec)
{
    struct lmdb *l = lmdb_of(staged);
    bool placed = false;
    enum err e = put_in_place(l, &incoming, &placed, ec);
    l->staged = !placed;
    l->failed = placed ? e : OK;
    return e == OK ? OK : err_wrap(ec, e, "install store in %s", p->dir);
}

static void place_discard(const struct store_place *p, struct backend **staged)
{
    (void)p;
    struct lmdb *l = lmdb_of(*staged);
    if (l->staged) {
        struct err_ctx ignored;
        (void)remove_unplaced(l, &incoming, &ignored); /* tried again when the next one is staged */
    }
    l_close(staged);
}

struct store_place store_place_lmdb(const char *dir, uint64_t map_bytes, bool no_sync)
{
    return (struct store_place){
        .stage = place_stage,
        .finish = place_finish,
        .install = place_install,
        .discard = place_discard,
        .dir = dir,
        .map_bytes = map_bytes,
        .no_sync = no_sync,
    };
}
