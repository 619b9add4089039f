/* backend.h - where state lies on disk, behind one small table.
 *
 * What        Named buckets of ordered key-value pairs; one writer with atomic commits; snapshots for readers.
 *             Implementations: LMDB (backend_lmdb_open), and one in memory with the same durability rules for
 *             simulation and tests (backend_mem_create).
 * Callers     engine/store only (and pintleutl).
 * Thread      one thread writes (the store thread); reads from any thread, each with its own struct
 *             backend_read. Swapping the file under readers (defragmentation) is safe: a read keeps the
 *             environment it began on.
 * Durability  LMDB in MDB_NOMETASYNC: a power cut keeps integrity and may undo the last commit, never more.
 *             So the log must be kept back to the last but one commit.
 * Errors      ERR_IO or ERR_NO_DISK from a commit is final: the caller stops using the backend (a retried sync would corrupt
 *             it). ERR_CORRUPT when the file is damaged.
 */
#ifndef ENGINE_BACKEND_H
#define ENGINE_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

/* In name order, etcd's ten; and one of our own that no hash or snapshot covers. */
enum bucket {
    BUCKET_ALARM,
    BUCKET_AUTH,
    BUCKET_AUTH_ROLES,
    BUCKET_AUTH_USERS,
    BUCKET_CLUSTER,
    BUCKET_KEY,
    BUCKET_LEASE,
    BUCKET_MEMBERS,
    BUCKET_MEMBERS_REMOVED,
    BUCKET_META,
    BUCKET_PINTLE, /* stored counters and the log's witness */
    N_BUCKETS
};
#define BACKEND_KEY_BYTES_MAX 511u /* LMDB's; a put of a longer key, or of an empty one, changes nothing: ERR_LIMIT */
const char *bucket_name(enum bucket b); /* "alarm", "auth", "authRoles", ... */

struct backend;
struct backend_read; /* a consistent snapshot of one moment */
struct backend_cursor;

struct backend_stats {
    int64_t file_bytes;   /* physical size in use by pages: what etcd calls dbSize */
    int64_t in_use_bytes; /* minus free pages */
    int64_t open_reads;
};

struct backend_ops {
    void (*close)(struct backend **b);
    /* One write transaction at a time, from begin to commit or abort. */
    enum err (*begin)(struct backend *b, struct err_ctx *ec);
    /* `append`: the key is above every key of the bucket (a hint that must be true). */
    enum err (*put)(struct backend *b, enum bucket k, struct slice key, struct slice value1, struct slice value2, bool append, struct err_ctx *ec); /* value = value1 || value2 */
    enum err (*del)(struct backend *b, enum bucket k, struct slice key, struct err_ctx *ec); /* absent: OK */
    enum err (*commit)(struct backend *b, struct err_ctx *ec);
    void (*abort)(struct backend *b);

    enum err (*read_begin)(struct backend *b, struct backend_read **out, struct err_ctx *ec);
    void (*read_end)(struct backend_read **r);
    /* ERR_NOT_FOUND. *value is valid until read_end. */
    enum err (*get)(struct backend_read *r, enum bucket k, struct slice key, struct slice *value);
    /* A cursor at the first key >= from. */
    enum err (*cursor_open)(struct backend_read *r, enum bucket k, struct slice from, struct backend_cursor **out, struct err_ctx *ec);
    /* ERR_END after the last. Slices valid until read_end. */
    enum err (*cursor_next)(struct backend_cursor *c, struct slice *key, struct slice *value);
    void (*cursor_close)(struct backend_cursor **c);

    struct backend_stats (*stats)(struct backend *b);
    /* Writer's thread, no transaction open: rewrite the file without free space and put it in place of the old one. Readers
     * go on meanwhile. After an error the old file is still in use, unless the writer's next begin says otherwise. */
    enum err (*defrag)(struct backend *b, struct err_ctx *ec);
    /* `b` was installed in the place of `older`, which is still open for its readers: what belongs to the place (the lock on the
     * directory) is shared from now on. May be NULL. */
    void (*succeed)(struct backend *b, struct backend *older);
};
struct backend {
    const struct backend_ops *ops;
};

/* Open or create the LMDB environment `dir`/store.mdb (made by a rename when first complete). `map_bytes` of address space are
 * reserved once; less when the process may not have so much. Leftovers of an interrupted defragmentation are removed. `no_sync` is for
 * tests and throw-away files. Errors: ERR_LOCKED, the directory's store is open already; ERR_CORRUPT; ERR_IO, ERR_PERM, ERR_NO_DISK. */
MUST_CHECK enum err backend_lmdb_open(const char *dir, uint64_t map_bytes, bool no_sync, struct backend **out, struct err_ctx *ec);
#define BACKEND_MAP_BYTES_DEFAULT (256ull << 30)

/* In memory. backend_mem_crash forgets what was not committed and, when `undo_last`, the last commit too; the handle
 * stays usable as after reopening. */
struct backend *backend_mem_create(void);
void backend_mem_crash(struct backend *b, bool undo_last);

#endif
