/* dir.c - see dir.h. */
#include "wal/dir.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HEX_DIGITS 16u

/* 16 lower-case hex digits at `s`. */
static bool parse_hex(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < HEX_DIGITS; i++) {
        char c = s[i];
        if (c >= '0' && c <= '9') {
            v = v << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *out = v;
    return true;
}

static void add(uint64_t **list, size_t *n, uint64_t v, bool *too_many)
{
    if (*n >= WAL_SEGMENTS_MAX) {
        *too_many = true;
        return;
    }
    if ((*n & (*n - 1)) == 0) { /* full at powers of two */
        *list = xrealloc(*list, (*n == 0 ? 1 : *n * 2) * sizeof **list);
    }
    (*list)[(*n)++] = v;
}

static void each_name(void *arg, const char *name)
{
    struct wal_names *out = arg;
    uint64_t a;
    uint64_t b;
    if (strcmp(name, WAL_NEXT_NAME) == 0) {
        out->has_next = true;
        return;
    }
    if (strlen(name) <= HEX_DIGITS || !parse_hex(name, &a)) {
        return;
    }
    const char *rest = name + HEX_DIGITS;
    if (strcmp(rest, ".seg") == 0) {
        add(&out->segments, &out->n_segments, a, &out->too_many);
    } else if (strcmp(rest, ".spare") == 0) {
        add(&out->spares, &out->n_spares, a, &out->too_many);
    } else if (rest[0] == '-' && strlen(rest) > HEX_DIGITS && parse_hex(rest + 1, &b) &&
               strcmp(rest + 1 + HEX_DIGITS, ".wal") == 0) {
        out->has_etcd = true;
    }
}

enum err wal_names_read(struct vfs *vfs, const char *dir, struct wal_names *out, struct err_ctx *ec)
{
    struct wal_names n = {0};
    enum err e =
        vfs->ops->list(vfs, dir, each_name, &n, ec); /* sorted, and so are fixed-width names */
    if (e == OK && n.too_many) {
        e = err_set(ec, ERR_LIMIT, "%s holds more than %u segments", dir, WAL_SEGMENTS_MAX);
    }
    if (e != OK) {
        wal_names_deinit(&n);
        return e;
    }
    *out = n;
    return OK;
}

void wal_names_deinit(struct wal_names *n)
{
    free(n->segments);
    free(n->spares);
    *n = (struct wal_names){0};
}

void wal_segment_name(uint64_t sequence, char out[WAL_NAME_BYTES])
{
    (void)snprintf(out, WAL_NAME_BYTES, "%016" PRIx64 ".seg", sequence);
}

void wal_spare_name(uint64_t sequence, char out[WAL_NAME_BYTES])
{
    (void)snprintf(out, WAL_NAME_BYTES, "%016" PRIx64 ".spare", sequence);
}

char *wal_path(const char *dir, const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

char *wal_parent(const char *dir)
{
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/') {
        len--;
    }
    while (len > 0 && dir[len - 1] != '/') {
        len--;
    }
    while (len > 1 && dir[len - 1] == '/') {
        len--;
    }
    return len == 0 ? xstrdup(".") : xstrndup(dir, len);
}
