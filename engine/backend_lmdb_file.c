/* backend_lmdb_file.c - a store file looked at from outside, before LMDB maps it.
 *
 * LMDB trusts its file: a wrong page number or a missing tail ends in a signal. So both meta pages
 * are checked here first. Meta page, all little-endian on the machines we run on:
 *
 *     0 page number 8, 8 pad 2, 10 flags 2, 12 unused 4
 *     16 magic 4, 20 version 4, 24 map address 8, 32 map size 8
 *     40 tree of free pages 48, 88 main tree 48       (each: pad 4, flags 2, depth 2, branch, leaf
 * and overflow pages, entries, root: 8 each) 136 last page 8, 144 transaction 8
 *
 * The free tree's pad is the page size. Transaction t writes slot t mod 2, so the two slots are
 * never more than one transaction apart.
 *
 * Source: lmdb.h and mdb.c of LMDB 0.9.24 (struct MDB_meta).
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "engine/backend_lmdb_internal.h"

#define META_MAGIC 0xBEEFC0DEu
#define META_VERSION 1u
#define META_FLAG 0x08u
#define N_META 2u
#define NO_PAGE UINT64_MAX /* root of an empty tree */
#define META_BYTES 152u

struct meta {
    uint64_t roots[2];
    uint64_t last_page;
    uint64_t txn;
};

static uint64_t number_at(const uint8_t *page, size_t at, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = bytes; i > 0; i--) {
        v = v << 8 | page[at + i - 1];
    }
    return v;
}

static enum err read_meta(int fd, unsigned slot, struct meta *out, struct err_ctx *ec)
{
    uint8_t page[META_BYTES];
    ssize_t n = pread(fd, page, sizeof(page), (off_t)(slot * LMDB_PAGE_BYTES));
    if (n < 0) {
        return err_set(ec, err_from_errno(errno), "read meta page %u: %s", slot, strerror(errno));
    }
    if ((size_t)n < sizeof(page)) {
        return err_set(ec, ERR_CORRUPT, "meta page %u: cut off after %zd bytes", slot, n);
    }
    const struct {
        const char *name;
        size_t at;
        size_t bytes;
        uint64_t want;
    } fixed[] = {
        {"page number", 0, 8, slot},           {"flags", 10, 2, META_FLAG},
        {"magic", 16, 4, META_MAGIC},          {"version", 20, 4, META_VERSION},
        {"page size", 40, 4, LMDB_PAGE_BYTES},
    };
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        uint64_t v = number_at(page, fixed[i].at, fixed[i].bytes);
        if (v != fixed[i].want) {
            return err_set(ec, ERR_CORRUPT, "meta page %u: %s is %#llx, not %#llx", slot,
                           fixed[i].name, (unsigned long long)v, (unsigned long long)fixed[i].want);
        }
    }
    *out = (struct meta){
        .roots = {number_at(page, 80, 8), number_at(page, 128, 8)},
        .last_page = number_at(page, 136, 8),
        .txn = number_at(page, 144, 8),
    };
    for (size_t i = 0; i < ARRAY_LEN(out->roots); i++) {
        uint64_t root = out->roots[i];
        if (root != NO_PAGE && (root < N_META || root > out->last_page)) {
            return err_set(ec, ERR_CORRUPT, "meta page %u: root page %llu of %llu", slot,
                           (unsigned long long)root, (unsigned long long)out->last_page);
        }
    }
    return OK;
}

static enum err check_open_file(int fd, struct lmdb_layout *out, struct err_ctx *ec)
{
    struct meta m[N_META];
    for (unsigned i = 0; i < N_META; i++) {
        enum err e = read_meta(fd, i, &m[i], ec);
        if (e != OK) {
            return e;
        }
    }
    const struct meta *newest = m[1].txn > m[0].txn ? &m[1] : &m[0];
    const struct meta *other = newest == &m[0] ? &m[1] : &m[0];
    if (newest->txn - other->txn > 1 ||
        (newest->txn > 0 && newest->txn % N_META != (size_t)(newest - m))) {
        return err_set(ec, ERR_CORRUPT, "meta pages: transactions %llu and %llu",
                       (unsigned long long)m[0].txn, (unsigned long long)m[1].txn);
    }
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return err_set(ec, err_from_errno(errno), "stat: %s", strerror(errno));
    }
    *out = (struct lmdb_layout){.file_pages = (uint64_t)st.st_size / LMDB_PAGE_BYTES,
                                .last_page = newest->last_page};
    return OK;
}

enum err lmdb_file_check(const char *path, struct lmdb_layout *out, struct err_ctx *ec)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_set(ec, err_from_errno(errno), "open %s: %s", path, strerror(errno));
    }
    enum err e = check_open_file(fd, out, ec);
    (void)close(fd); /* read only: nothing can be lost */
    return err_wrap(ec, e, "%s", path);
}

enum err lmdb_file_resize(const char *path, uint64_t pages, struct err_ctx *ec)
{
    if (truncate(path, (off_t)(pages * LMDB_PAGE_BYTES)) != 0) {
        return err_set(ec, err_from_errno(errno), "resize %s: %s", path, strerror(errno));
    }
    return OK;
}

enum err lmdb_dir_sync(int dir_fd, struct err_ctx *ec)
{
    if (fsync(dir_fd) != 0) {
        return err_set(ec, err_from_errno(errno), "sync directory: %s", strerror(errno));
    }
    return OK;
}

enum err lmdb_err(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return OK;
    case MDB_NOTFOUND:
        return ERR_NOT_FOUND;
    case MDB_MAP_FULL:
        return ERR_NO_DISK;
    case MDB_READERS_FULL:
        return ERR_BUSY;
    case MDB_BAD_VALSIZE:
        return ERR_LIMIT;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
        return ERR_CORRUPT;
    default: /* the library's numbers and errno's, no enum of ours */
        return rc > 0 ? err_from_errno(rc) : ERR_IO;
    }
}

enum err lmdb_fail(struct err_ctx *ec, int rc, const char *what)
{
    return err_set(ec, lmdb_err(rc), "%s: %s", what, mdb_strerror(rc));
}
