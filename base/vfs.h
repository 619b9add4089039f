/* vfs.h - every file call of the durability path, as a table that tests can replace.
 *
 * What        The calls that log and small files make. Implementations: the machine's (vfs_real),
 *             a wrapper that makes the n-th call fail (vfs_fault), and a disk in memory that
 *             forgets, tears or reorders unsynced writes at a simulated power cut (vfs_mem).
 * Callers     wal, raft/member, tools. LMDB does its own file calls (see engine/backend.h).
 * Thread      one struct vfs may be used from any thread; one struct vfs_file from one at a time.
 * Errors      ERR_NO_DISK, ERR_NOT_FOUND, ERR_EXISTS, ERR_PERM, ERR_LOCKED, else ERR_IO; with path and
 *             errno's text in the err_ctx. No call is retried except after EINTR.
 */
#ifndef BASE_VFS_H
#define BASE_VFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/slice.h"

struct vfs;
struct vfs_file;

enum vfs_open_flags {
    VFS_READ = 1,    /* read only; without it read and write */
    VFS_CREATE = 2,  /* create when absent */
    VFS_EXCL = 4,    /* with CREATE: ERR_EXISTS when present */
};

struct vfs_stat {
    uint64_t size;
    uint32_t mode; /* permission bits */
    bool is_dir;
};

struct vfs_ops {
    enum err (*open)(struct vfs *, const char *path, int flags, struct vfs_file **out, struct err_ctx *);
    void (*close)(struct vfs_file *);
    /* Reads up to `len` bytes; *n_read is short only at the end of the file. */
    enum err (*pread)(struct vfs_file *, void *data, size_t len, uint64_t offset, size_t *n_read, struct err_ctx *);
    /* Writes all or fails. */
    enum err (*pwritev)(struct vfs_file *, const struct iovec *iov, int n_iov, uint64_t offset, struct err_ctx *);
    enum err (*datasync)(struct vfs_file *, struct err_ctx *);
    enum err (*sync)(struct vfs_file *, struct err_ctx *);
    enum err (*truncate)(struct vfs_file *, uint64_t size, struct err_ctx *);
    enum err (*allocate)(struct vfs_file *, uint64_t size, struct err_ctx *); /* grows the file, zero filled */
    enum err (*size)(struct vfs_file *, uint64_t *out, struct err_ctx *);
    enum err (*lock)(struct vfs_file *, struct err_ctx *); /* exclusive, at once; ERR_LOCKED */
    enum err (*rename)(struct vfs *, const char *from, const char *to, struct err_ctx *);
    enum err (*unlink)(struct vfs *, const char *path, struct err_ctx *);
    enum err (*mkdir)(struct vfs *, const char *path, struct err_ctx *); /* 0700; ERR_EXISTS */
    enum err (*stat)(struct vfs *, const char *path, struct vfs_stat *out, struct err_ctx *);
    /* Calls `each` with every name but . and .., in bytewise order. */
    enum err (*list)(struct vfs *, const char *path, void (*each)(void *arg, const char *name), void *arg, struct err_ctx *);
    enum err (*sync_dir)(struct vfs *, const char *path, struct err_ctx *);
    enum err (*free_bytes)(struct vfs *, const char *path, uint64_t *out, struct err_ctx *);
};

/* Implementations embed these as their first member. */
struct vfs {
    const struct vfs_ops *ops;
};
struct vfs_file {
    const struct vfs_ops *ops;
};

/* Files are created 0600, directories 0700, descriptors close-on-exec. Static. */
struct vfs *vfs_real(void);

/* A wrapper that counts calls and makes some fail. `inner` is borrowed until destroy. Counting
 * starts at 1. */
struct vfs_fault_plan {
    uint64_t fail_at;   /* this call fails; 0: none */
    bool sticky;        /* and every later one */
    bool writes_only;   /* count only pwritev, datasync, sync, truncate, allocate, rename, unlink, mkdir, sync_dir */
    enum err with;      /* ERR_IO or ERR_NO_DISK */
    uint64_t tear_bytes; /* a failing pwritev first writes this many bytes; 0: none */
};
struct vfs *vfs_fault_create(struct vfs *inner, const struct vfs_fault_plan *plan);
void vfs_fault_destroy(struct vfs **v);
uint64_t vfs_fault_calls(const struct vfs *v); /* counted so far */
/* Another plan from now on; counting starts again. */
void vfs_fault_arm(struct vfs *v, const struct vfs_fault_plan *plan);

/* A disk in memory. After vfs_mem_crash every open file is dead (ERR_IO) and the disk holds what a
 * real one may hold after a power cut: synced bytes for sure; each unsynced 512-byte sector in its
 * old or its new state, decided by `seed`; names as of the last sync_dir of their folder, or
 * newer. */
struct vfs *vfs_mem_create(void);
void vfs_mem_destroy(struct vfs **v);
void vfs_mem_crash(struct vfs *v, uint64_t seed);
/* Flip bit `bit` (0 is the lowest of byte 0) of a file, behind everybody's back. */
MUST_CHECK enum err vfs_mem_flip(struct vfs *v, const char *path, uint64_t bit);

/* The whole of a small file, at most `bytes_max` (else ERR_LIMIT). Appends to `out`. */
MUST_CHECK enum err vfs_read_file(struct vfs *v, const char *path, size_t bytes_max, struct bytes *out, struct err_ctx *ec);
/* Replace a small file by write to `path`.tmp, sync, rename, sync_dir. */
MUST_CHECK enum err vfs_write_file(struct vfs *v, const char *path, struct slice content, struct err_ctx *ec);

#endif
