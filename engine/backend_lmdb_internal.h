/* backend_lmdb_internal.h - one LMDB environment and its file, below the backend's table.
 *
 * What        backend_lmdb_file.c checks a file before LMDB may map it; backend_lmdb_env.c opens
 *             environments and lends their read transactions; backend_lmdb.c is the table.
 * Callers     the three files named.
 * Thread      an environment's counts and pool belong to the lock of the struct that holds it.
 */
#ifndef ENGINE_BACKEND_LMDB_INTERNAL_H
#define ENGINE_BACKEND_LMDB_INTERNAL_H

#include <lmdb.h>

#include "engine/backend.h"

#define LMDB_PAGE_BYTES 4096u
#define LMDB_READERS_MAX 1024u /* slots of the reader table; more reads at a time: ERR_BUSY */
#define LMDB_MAP_BYTES_MIN (1ull << 30) /* with less address space than this we do not start */

/* --- the file ------------------------------------------------------------------------------------
 */

struct lmdb_layout {
    uint64_t file_pages; /* whole pages that are there */
    uint64_t last_page;  /* highest page number the newest state knows */
};

/* Look at both meta pages. ERR_NOT_FOUND; ERR_CORRUPT with the reason. */
MUST_CHECK enum err lmdb_file_check(const char *path, struct lmdb_layout *out, struct err_ctx *ec);
MUST_CHECK enum err lmdb_file_resize(const char *path, uint64_t pages, struct err_ctx *ec);
MUST_CHECK enum err lmdb_dir_sync(int dir_fd, struct err_ctx *ec);

/* The error for LMDB's return code, with a text. */
enum err lmdb_err(int rc);
enum err lmdb_fail(struct err_ctx *ec, int rc, const char *what);

/* --- an environment
 * ------------------------------------------------------------------------------- */

struct lmdb_env {
    MDB_env *mdb;
    MDB_dbi dbis[N_BUCKETS];
    size_t refs;    /* one of the backend's while it is the current one, one of each open read */
    size_t n_reads; /* made so far, lent or not */
    struct backend_read *idle; /* reset read transactions, ready to be renewed */
};

struct backend_read {
    struct lmdb *lmdb;
    struct lmdb_env *env; /* ref */
    MDB_txn *txn;
    struct backend_read *next_idle;
};

/* `create`: make the buckets; without it each must be there (ERR_CORRUPT). */
MUST_CHECK enum err lmdb_env_open(const char *path, uint64_t map_bytes, bool no_sync, bool create,
                                  struct lmdb_env **out, struct err_ctx *ec);
void lmdb_env_close(struct lmdb_env **env); /* no read is lent */

/* Calls `each` with every list of free pages of the committed state; false stops with ERR_CANCELED.
 */
MUST_CHECK enum err lmdb_free_lists(struct lmdb_env *env,
                                    bool (*each)(void *arg, const size_t *pages, size_t n),
                                    void *arg, struct err_ctx *ec);
/* Are pages first..last all free? ERR_CORRUPT when not. */
MUST_CHECK enum err lmdb_tail_is_free(struct lmdb_env *env, uint64_t first, uint64_t last,
                                      struct err_ctx *ec);
/* Append everything `from` holds to the empty `to`, unsynced, then sync. */
MUST_CHECK enum err lmdb_env_copy(struct lmdb_env *from, struct lmdb_env *to, bool no_sync,
                                  struct err_ctx *ec);
/* End the unsynced life of an environment that was opened so: sync, and again at each commit. */
MUST_CHECK enum err lmdb_env_make_durable(struct lmdb_env *env, struct err_ctx *ec);

#endif
