/* hashkv.c - HashKV of a store that nobody serves from: ours, or a file in etcd's form. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/bolt_store.h"
#include "tools/pintleutl/source.h"
#include "tools/pintleutl/store.h"
#include "tools/pintleutl/utl.h"

const struct flag hashkv_flags[] = {
    {"rev", '\0', FLAG_INT64, NULL, "maximum revision to hash (default: latest revision)"},
    {.name = NULL},
};

static enum err hash_store(struct utl *u, const char *dir, int64_t revision, struct hash_kv *out,
                           struct err_ctx *ec)
{
    struct backend *b = NULL;
    struct engine *e = NULL;
    enum err err = store_open(u, dir, &b, ec);
    if (err != OK) {
        return err;
    }
    struct engine_config cfg = {.backend = b, .quota_bytes = INT64_MAX};
    err = engine_open(&cfg, &e, ec);
    if (err == OK) {
        err = engine_hash_kv(e, revision, out, ec);
    }
    engine_close(&e);
    return err;
}

static enum err hash_file(const char *path, int64_t revision, struct hash_kv *out,
                          struct err_ctx *ec)
{
    struct source s;
    struct bolt_info info;
    enum err e = source_open(path, &s, ec);
    if (e == OK) {
        e = bolt_check(&s.bolt, &info, ec);
    }
    if (e == OK) {
        e = bolt_store_hash_kv(&s.bolt, revision, out, ec);
    }
    source_close(&s);
    return e;
}

static void print_hash(enum utl_format format, const struct hash_kv *h)
{
    const struct {
        const char *title, *column, *json;
        int64_t value;
    } rows[] = {
        {"Hash", "hash", "hash", h->hash},
        {"Hash revision", "hash revision", "hashRevision", h->hash_revision},
        {"Compact revision", "compact revision", "compactRevision", h->compact_revision},
    };
    struct utl_field f[ARRAY_LEN(rows)];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        f[i] = (struct utl_field){
            .title = rows[i].title, .column = rows[i].column, .json = rows[i].json};
        (void)snprintf(f[i].shown, sizeof(f[i].shown), "%" PRId64, rows[i].value);
        memcpy(f[i].plain, f[i].shown, sizeof(f[i].plain));
    }
    utl_print(format, f, ARRAY_LEN(f));
}

int hashkv_run(struct utl *u)
{
    struct err_ctx why = {{0}};
    struct hash_kv h;
    enum utl_format format;
    int code = utl_format(u, &format);
    if (code != 0) {
        return code;
    }
    const char *path = u->flags.args[0];
    if (utl_stat(path, &why) != OK) {
        return utl_fail(EXIT_ERROR, "%s", why.text);
    }
    int64_t revision = flag_number(&u->flags, "rev");
    char *dir = store_dir_of(path);
    enum err e =
        dir != NULL ? hash_store(u, dir, revision, &h, &why) : hash_file(path, revision, &h, &why);
    free(dir);
    if (e == ERR_LOCKED) {
        return EXIT_LOCKED;
    }
    if (e == ERR_FUTURE_REV || e == ERR_COMPACTED) {
        return utl_fail(EXIT_ERROR, "mvcc: %s", err_text(e));
    }
    if (e != OK) {
        return utl_fail(EXIT_ERROR, "%s", why.text[0] != '\0' ? why.text : err_text(e));
    }
    print_hash(format, &h);
    return 0;
}
