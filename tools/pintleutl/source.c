/* source.c - see source.h. */
#include "tools/pintleutl/source.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define SECTOR_BYTES 512u
#define PIECE_BYTES (256u << 10)

static enum err read_at(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec)
{
    struct source *s = arg;
    size_t got = 0;
    enum err e = s->file->ops->pread(s->file, dst, n, offset, &got, ec);
    return e == OK && got < n ? err_set(ec, ERR_CORRUPT, "the file became shorter") : e;
}

enum err source_open(const char *path, struct source *s, struct err_ctx *ec)
{
    struct vfs *v = vfs_real();
    struct err_ctx said = {{0}};
    *s = (struct source){0};
    enum err e = v->ops->open(v, path, VFS_READ, &s->file, &said);
    if (e == ERR_NOT_FOUND) {
        return err_set(ec, e, "open %s: no such file or directory", path);
    }
    if (e == OK) {
        s->bolt = (struct bolt_source){.read_at = read_at, .arg = s};
        e = s->file->ops->size(s->file, &s->bolt.size, &said);
    }
    s->has_sum = s->bolt.size % SECTOR_BYTES == BOLT_TRAILER_BYTES;
    return e == OK ? OK : err_set(ec, e, "%s", said.text);
}

void source_close(struct source *s)
{
    if (s->file != NULL) {
        s->file->ops->close(s->file);
    }
    *s = (struct source){0};
}

static void add_list(struct bytes *out, const uint8_t *sum)
{
    for (unsigned i = 0; i < BOLT_TRAILER_BYTES; i++) {
        bytes_printf(out, "%s%u", i == 0 ? "[" : " ", sum[i]);
    }
    bytes_add_str(out, "]");
}

static enum err digest(struct source *s, uint64_t n, uint8_t out[EVP_MAX_MD_SIZE],
                       struct err_ctx *ec)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    ASSERT(md != NULL);
    ASSERT(EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1);
    uint8_t *piece = xalloc(PIECE_BYTES);
    enum err e = OK;
    for (uint64_t at = 0; e == OK && at < n;) {
        size_t now = n - at < PIECE_BYTES ? (size_t)(n - at) : PIECE_BYTES;
        e = read_at(s, at, piece, now, ec);
        if (e == OK) {
            ASSERT(EVP_DigestUpdate(md, piece, now) == 1);
        }
        at += now;
    }
    ASSERT(EVP_DigestFinal_ex(md, out, NULL) == 1);
    EVP_MD_CTX_free(md);
    free(piece);
    return e;
}

enum err source_verify(struct source *s, struct err_ctx *ec)
{
    uint8_t stored[BOLT_TRAILER_BYTES];
    uint8_t found[EVP_MAX_MD_SIZE];
    if (!s->has_sum) {
        return err_set(ec, ERR_INVALID, "snapshot missing hash but --skip-hash-check=false");
    }
    uint64_t n = s->bolt.size - BOLT_TRAILER_BYTES;
    enum err e = read_at(s, n, stored, sizeof(stored), ec);
    if (e == OK) {
        e = digest(s, n, found, ec);
    }
    if (e != OK || memcmp(stored, found, sizeof(stored)) == 0) {
        return e;
    }
    struct bytes text = {0};
    bytes_add_str(&text, "expected sha256 ");
    add_list(&text, stored);
    bytes_add_str(&text, ", got ");
    add_list(&text, found);
    e = err_set(ec, ERR_CORRUPT, "%.*s", (int)text.len, (const char *)text.data);
    bytes_deinit(&text);
    return e;
}
