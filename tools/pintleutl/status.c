/* status.c - `snapshot status` and `version`. */
#include <inttypes.h>

#include "base/assert.h"
#include "engine/bolt_store.h"
#include "tools/cli/text.h"
#include "tools/pintleutl/source.h"
#include "tools/pintleutl/utl.h"

static void print_status(enum utl_format format, const struct bolt_store_status *st)
{
    struct utl_field f[] = {
        {"Hash", "hash", "hash", "", "", false},
        {"Revision", "revision", "revision", "", "", false},
        {"Keys", "total keys", "totalKey", "", "", false},
        {"Size", "total size", "totalSize", "", "", false},
        {"Version", "version", "version", "", "", true},
    };
    (void)snprintf(f[0].shown, sizeof(f[0].shown), "%" PRIx32, st->hash);
    (void)snprintf(f[0].plain, sizeof(f[0].plain), "%" PRIu32, st->hash);
    (void)snprintf(f[1].shown, sizeof(f[1].shown), "%" PRId64, st->revision);
    (void)snprintf(f[1].plain, sizeof(f[1].plain), "%" PRId64, st->revision);
    (void)snprintf(f[2].shown, sizeof(f[2].shown), "%" PRIu64, st->n_keys);
    (void)snprintf(f[2].plain, sizeof(f[2].plain), "%" PRIu64, st->n_keys);
    char size[TEXT_SIZE_BYTES];
    text_size(st->bytes, size);
    (void)snprintf(f[3].shown, sizeof(f[3].shown), "%s", size);
    (void)snprintf(f[3].plain, sizeof(f[3].plain), "%" PRIu64, st->bytes);
    (void)snprintf(f[4].shown, sizeof(f[4].shown), "%s", st->version);
    (void)snprintf(f[4].plain, sizeof(f[4].plain), "%s", st->version);
    utl_print(format, f, ARRAY_LEN(f));
}

int status_run(struct utl *u)
{
    struct err_ctx why = {{0}};
    struct source s;
    struct bolt_info info;
    struct bolt_store_status st;
    enum utl_format format;
    if (u->flags.n_args != 1) {
        return utl_fail(EXIT_BAD_ARGS, "snapshot status requires exactly one argument");
    }
    const char *path = u->flags.args[0];
    if (utl_stat(path, &why) != OK) {
        return utl_fail(EXIT_ERROR, "%s", why.text);
    }
    int code = utl_format(u, &format);
    if (code != 0) {
        return code;
    }
    enum err e = source_open(path, &s, &why);
    if (e == OK) {
        e = bolt_check(&s.bolt, &info, &why);
        if (e != OK) {
            code = utl_fail(EXIT_ERROR, "snapshot file integrity check failed. 1 errors found.\n%s",
                            why.text[0] != '\0' ? why.text : err_text(e));
        }
    }
    if (code == 0 && e == OK) {
        e = bolt_store_status(&s.bolt, &st, &why);
    }
    source_close(&s);
    if (code == 0 && e != OK) {
        code = utl_fail(EXIT_ERROR, "%s", why.text[0] != '\0' ? why.text : err_text(e));
    }
    if (code == 0) {
        print_status(format, &st);
    }
    return code;
}

int version_run(struct utl *u)
{
    (void)printf("%s version: %s\nAPI version: %s\n", u->program, ETCD_VERSION, ETCD_API_VERSION);
    return 0;
}
