/* backend_lmdb_env.c - opening an environment, its free pages, its copy.
 *
 * Modes       MDB_NOMETASYNC: one fdatasync a commit; a power cut may undo the last one. MDB_NOTLS:
 * a read belongs to its struct, not to its thread. No MDB_WRITEMAP: a stray write must not reach
 * the file. Map         All the address space the file may ever need is reserved at open; where the
 * process may not have so much, half of it, and so on. Copy        Every bucket is appended pair by
 * pair to a fresh environment. LMDB's own compacting copy would keep half-empty pages as they are,
 * and refuses a file that has ever leaked a page. Tail        The highest pages that a transaction
 * took and gave back are never written, so a sound file may be shorter than its last page number
 * says. Such a tail is free; any other missing page is damage.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/backend_lmdb_internal.h"

#define LOCK_BYTES (LMDB_READERS_MAX * 64 + 256) /* of the lock file: its slots and what is before them */
#define FREE_DBI 0                 /* LMDB's own tree of free pages: transaction -> count, pages */
#define COPY_TXN_BYTES (16u << 20) /* appended per transaction of a copy */
#define TAIL_PAGES_MAX (1u << 20)  /* a missing tail longer than 4 GiB is not looked into */

static int open_mapped(MDB_env **out, const char *path, uint64_t map_bytes, unsigned flags)
{
    MDB_env *mdb = NULL;
    int rc = mdb_env_create(&mdb);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    rc = mdb_env_set_maxdbs(mdb, N_BUCKETS);
    if (rc == MDB_SUCCESS) {
        rc = mdb_env_set_maxreaders(mdb, LMDB_READERS_MAX);
    }
    if (rc == MDB_SUCCESS) {
        rc = mdb_env_set_mapsize(mdb, map_bytes);
    }
    if (rc == MDB_SUCCESS) {
        rc = mdb_env_open(mdb, path, flags, 0600);
    }
    if (rc != MDB_SUCCESS) {
        mdb_env_close(mdb);
        return rc;
    }
    *out = mdb;
    return MDB_SUCCESS;
}

static enum err open_buckets(struct lmdb_env *env, bool create, struct err_ctx *ec)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(env->mdb, NULL, 0, &txn);
    if (rc != MDB_SUCCESS) {
        return lmdb_fail(ec, rc, "begin");
    }
    for (unsigned i = 0; i < N_BUCKETS; i++) {
        rc = mdb_dbi_open(txn, bucket_name((enum bucket)i), create ? MDB_CREATE : 0, &env->dbis[i]);
        if (rc != MDB_SUCCESS) {
            mdb_txn_abort(txn);
            enum err e = lmdb_fail(ec, rc, bucket_name((enum bucket)i));
            /* All buckets are made before the file gets its name, so none may be missing. */
            return err_wrap(ec, e == ERR_NOT_FOUND ? ERR_CORRUPT : e, "bucket");
        }
    }
    rc = mdb_txn_commit(txn);
    return rc == MDB_SUCCESS ? OK : lmdb_fail(ec, rc, "commit");
}

/* LMDB writes to its lock file through a map, and a file that has no room then for a page of it would end the process with a
 * signal: so all of it gets its blocks before. */
static enum err reserve_lock_file(const char *path, struct err_ctx *ec)
{
    char *name = xasprintf("%s-lock", path);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int rc = fd < 0 ? errno : posix_fallocate(fd, 0, LOCK_BYTES);
    if (fd >= 0) {
        (void)close(fd); /* LMDB syncs nothing in it either */
    }
    enum err e = rc == 0 ? OK : err_set(ec, err_from_errno(rc), "reserve %s: %s", name, strerror(rc));
    free(name);
    return e;
}

enum err lmdb_env_open(const char *path, uint64_t map_bytes, bool no_sync, bool create,
                       struct lmdb_env **out, struct err_ctx *ec)
{
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | (no_sync ? MDB_NOSYNC : MDB_NOMETASYNC);
    enum err e = reserve_lock_file(path, ec);
    if (e != OK) {
        return e;
    }
    struct lmdb_env *env = xcalloc(1, sizeof(*env));
    int rc = open_mapped(&env->mdb, path, map_bytes, flags);
    /* Address space may be short (ENOMEM) or capped, as under valgrind (EINVAL). */
    while ((rc == ENOMEM || rc == EINVAL) && map_bytes / 2 >= LMDB_MAP_BYTES_MIN) {
        map_bytes /= 2;
        rc = open_mapped(&env->mdb, path, map_bytes, flags);
    }
    e = rc == MDB_SUCCESS ? OK : lmdb_fail(ec, rc, "open environment");
    if (e == OK) {
        e = open_buckets(env, create, ec);
    }
    if (e != OK) {
        lmdb_env_close(&env);
        return err_wrap(ec, e, "%s", path);
    }
    env->refs = 1;
    *out = env;
    return OK;
}

void lmdb_env_close(struct lmdb_env **env)
{
    struct lmdb_env *x = *env;
    if (x == NULL) {
        return;
    }
    while (x->idle != NULL) {
        struct backend_read *r = x->idle;
        x->idle = r->next_idle;
        mdb_txn_abort(r->txn);
        free(r);
    }
    if (x->mdb != NULL) {
        mdb_env_close(x->mdb);
    }
    free(x);
    *env = NULL;
}

/* --- free pages
 * -------------------------------------------------------------------------------------- */

static enum err walk_free_lists(MDB_cursor *c,
                                bool (*each)(void *arg, const size_t *pages, size_t n), void *arg,
                                struct err_ctx *ec)
{
    MDB_val key;
    MDB_val value;
    int rc = mdb_cursor_get(c, &key, &value, MDB_FIRST);
    for (; rc == MDB_SUCCESS; rc = mdb_cursor_get(c, &key, &value, MDB_NEXT)) {
        size_t n = 0;
        if (value.mv_size >= sizeof(n)) {
            memcpy(&n, value.mv_data, sizeof(n));
        }
        if (value.mv_size < sizeof(n) || n > value.mv_size / sizeof(n) - 1) {
            return err_set(ec, ERR_CORRUPT, "list of free pages: %zu pages in %zu bytes", n,
                           value.mv_size);
        }
        if (!each(arg, (const size_t *)value.mv_data + 1, n)) {
            return ERR_CANCELED;
        }
    }
    return rc == MDB_NOTFOUND ? OK : lmdb_fail(ec, rc, "lists of free pages");
}

enum err lmdb_free_lists(struct lmdb_env *env,
                         bool (*each)(void *arg, const size_t *pages, size_t n), void *arg,
                         struct err_ctx *ec)
{
    MDB_txn *txn = NULL;
    MDB_cursor *c = NULL;
    int rc = mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn);
    if (rc != MDB_SUCCESS) {
        return lmdb_fail(ec, rc, "begin read");
    }
    rc = mdb_cursor_open(txn, FREE_DBI, &c);
    enum err e =
        rc == MDB_SUCCESS ? walk_free_lists(c, each, arg, ec) : lmdb_fail(ec, rc, "open cursor");
    if (c != NULL) {
        mdb_cursor_close(c);
    }
    mdb_txn_abort(txn);
    return e;
}

struct tail {
    uint64_t first;
    uint64_t n;
    uint64_t n_free;
    uint8_t *is_free; /* one byte a page */
};

static bool mark_tail(void *arg, const size_t *pages, size_t n)
{
    struct tail *t = arg;
    for (size_t i = 0; i < n; i++) {
        uint64_t at = pages[i] - t->first;
        if (pages[i] >= t->first && at < t->n && t->is_free[at] == 0) {
            t->is_free[at] = 1;
            t->n_free++;
        }
    }
    return true;
}

enum err lmdb_tail_is_free(struct lmdb_env *env, uint64_t first, uint64_t last, struct err_ctx *ec)
{
    struct tail t = {.first = first, .n = last - first + 1};
    if (t.n > TAIL_PAGES_MAX) {
        return err_set(ec, ERR_CORRUPT, "file ends at page %llu of %llu", (unsigned long long)first,
                       (unsigned long long)last);
    }
    t.is_free = xcalloc(t.n, 1);
    enum err e = lmdb_free_lists(env, mark_tail, &t, ec);
    if (e == OK && t.n_free < t.n) {
        e = err_set(ec, ERR_CORRUPT,
                    "file ends at page %llu of %llu, and %llu of the missing pages are in use",
                    (unsigned long long)first, (unsigned long long)last,
                    (unsigned long long)(t.n - t.n_free));
    }
    free(t.is_free);
    return e;
}

/* --- copying
 * ------------------------------------------------------------------------------------------ */

struct copier {
    struct lmdb_env *to;
    MDB_txn *txn; /* of `to` */
    size_t n_bytes;
};

static int append(struct copier *c, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
    if (c->n_bytes >= COPY_TXN_BYTES) {
        MDB_txn *done = c->txn;
        c->txn = NULL;
        c->n_bytes = 0;
        int rc = mdb_txn_commit(done);
        if (rc == MDB_SUCCESS) {
            rc = mdb_txn_begin(c->to->mdb, NULL, 0, &c->txn);
        }
        if (rc != MDB_SUCCESS) {
            return rc;
        }
    }
    c->n_bytes += key->mv_size + value->mv_size;
    return mdb_put(c->txn, dbi, key, value, MDB_APPEND);
}

static int copy_bucket(MDB_txn *from, MDB_dbi from_dbi, struct copier *c, MDB_dbi to_dbi)
{
    MDB_cursor *cursor = NULL;
    int rc = mdb_cursor_open(from, from_dbi, &cursor);
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    MDB_val key;
    MDB_val value;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == MDB_SUCCESS) {
        rc = append(c, to_dbi, &key, &value);
        if (rc == MDB_SUCCESS) {
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

static int copy_buckets(MDB_txn *from, const struct lmdb_env *from_env, struct copier *c)
{
    int rc = mdb_txn_begin(c->to->mdb, NULL, 0, &c->txn);
    for (unsigned i = 0; i < N_BUCKETS && rc == MDB_SUCCESS; i++) {
        rc = copy_bucket(from, from_env->dbis[i], c, c->to->dbis[i]);
    }
    if (rc == MDB_SUCCESS) {
        rc = mdb_txn_commit(c->txn);
    } else if (c->txn != NULL) {
        mdb_txn_abort(c->txn);
    }
    return rc;
}

enum err lmdb_env_copy(struct lmdb_env *from, struct lmdb_env *to, bool no_sync, struct err_ctx *ec)
{
    MDB_txn *txn = NULL;
    struct copier c = {.to = to};
    int rc = mdb_txn_begin(from->mdb, NULL, MDB_RDONLY, &txn);
    if (rc != MDB_SUCCESS) {
        return lmdb_fail(ec, rc, "begin read");
    }
    /* Nobody can see the new file yet: one sync at its end is enough. */
    rc = mdb_env_set_flags(to->mdb, MDB_NOSYNC, 1);
    if (rc == MDB_SUCCESS) {
        rc = copy_buckets(txn, from, &c);
    }
    mdb_txn_abort(txn);
    if (rc != MDB_SUCCESS) {
        return lmdb_fail(ec, rc, "copy");
    }
    return no_sync ? OK : lmdb_env_make_durable(to, ec);
}

enum err lmdb_env_make_durable(struct lmdb_env *env, struct err_ctx *ec)
{
    int rc = mdb_env_set_flags(env->mdb, MDB_NOSYNC, 0);
    if (rc == MDB_SUCCESS) {
        rc = mdb_env_set_flags(env->mdb, MDB_NOMETASYNC, 1);
    }
    if (rc == MDB_SUCCESS) {
        rc = mdb_env_sync(env->mdb, 1);
    }
    return rc == MDB_SUCCESS ? OK : lmdb_fail(ec, rc, "sync");
}
