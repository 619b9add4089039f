/* defrag.c - `defrag` and `migrate`. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tools/cli/text.h"
#include "tools/pintle/layout.h"
#include "tools/pintleutl/store.h"
#include "tools/pintleutl/utl.h"

#define STORE_PATH "/" LAYOUT_MEMBER "/snap/store.mdb"
#define MIGRATE_OLDEST_MINOR 5u
#define MIGRATE_NEWEST_MINOR 7u

const struct flag defrag_flags[] = {
    {"data-dir", '\0', FLAG_STRING, NULL,
     "Required. Defragments a data directory not in use by etcd."},
    {.name = NULL},
};

const struct flag migrate_flags[] = {
    {"data-dir", '\0', FLAG_STRING, NULL, "Path to the etcd data dir"},
    {"force", '\0', FLAG_BOOL, NULL,
     "Ignore migration failure and forcefully override storage version. Not recommended."},
    {"target-version", '\0', FLAG_STRING, NULL,
     "Target etcd version to migrate contents of data dir. Minimal value 3.5. Format \"X.Y\" for "
     "example 3.6."},
    {.name = NULL},
};

static enum err defragment(struct utl *u, const char *dir, struct err_ctx *ec)
{
    struct backend *b = NULL;
    enum err e = store_open(u, dir, &b, ec);
    if (e != OK) {
        return e;
    }
    struct backend_stats before = b->ops->stats(b);
    log_info(u->log, "defragmenting", F_STR("path", dir),
             F_INT("current-db-size-bytes", before.file_bytes),
             F_INT("current-db-size-in-use-bytes", before.in_use_bytes));
    e = b->ops->defrag(b, ec);
    struct backend_stats after = b->ops->stats(b);
    if (e == OK) {
        log_info(u->log, "finished defragmenting directory", F_STR("path", dir),
                 F_INT("current-db-size-bytes-diff", after.file_bytes - before.file_bytes),
                 F_INT("current-db-size-bytes", after.file_bytes),
                 F_INT("current-db-size-in-use-bytes", after.in_use_bytes));
    }
    b->ops->close(&b);
    return e;
}

int defrag_run(struct utl *u)
{
    const char *data_dir = flag_text(&u->flags, "data-dir");
    struct err_ctx why = {{0}};
    char *path = xasprintf("%s" STORE_PATH, data_dir);
    enum err e = utl_stat(path, &why);
    *strrchr(path, '/') = '\0';
    if (e == OK) {
        e = defragment(u, path, &why);
    }
    free(path);
    if (e == OK || e == ERR_LOCKED) {
        return e == OK ? 0 : EXIT_LOCKED;
    }
    return utl_fail(EXIT_ERROR, "Failed to defragment etcd data[%s] (%s)", data_dir,
                    why.text[0] != '\0' ? why.text : err_text(e));
}

/* X.Y, with the texts that etcdutl has for whatever else it is given. */
static enum err parse_target(const char *text, int64_t *major, int64_t *minor, struct err_ctx *why)
{
    const char *dot = strchr(text, '.');
    if (dot == NULL || strchr(dot + 1, '.') != NULL) {
        struct bytes quoted = {0};
        text_quote(&quoted, slice_str(text));
        enum err e = err_set(why, ERR_INVALID,
                             "wrong target version format, expected \"X.Y\", got %.*s",
                             (int)quoted.len, (const char *)quoted.data);
        bytes_deinit(&quoted);
        return e;
    }
    size_t plain = strcspn(text, "+-"); /* what follows belongs to a pre-release or a build */
    if (text[plain] != '\0') {
        return err_set(why, ERR_INVALID,
                       "failed to parse target version: %.*s is not in dotted-tri format",
                       (int)plain, text);
    }
    struct err_ctx number = {{0}};
    char *first = xstrndup(text, (size_t)(dot - text));
    enum err e = text_int(first, 10, major, &number);
    if (e == OK) {
        e = text_int(dot + 1, 10, minor, &number);
    }
    free(first);
    return e == OK ? OK : err_set(why, e, "failed to parse target version: %s", number.text);
}

/* Our data directories have one form for every version of etcd whose cluster the member is in,
 * so there is nothing to be changed; an etcd's own
 * directory is etcdutl's. */
int migrate_run(struct utl *u)
{
    const char *target = flag_text(&u->flags, "target-version");
    const char *data_dir = flag_text(&u->flags, "data-dir");
    int64_t major = 0;
    int64_t minor = 0;
    struct err_ctx why = {{0}};
    if (parse_target(target, &major, &minor, &why) != OK) {
        return utl_fail(EXIT_BAD_ARGS, "%s", why.text);
    }
    if (major != 3 || minor < MIGRATE_OLDEST_MINOR) {
        return utl_fail(EXIT_BAD_ARGS, "target version \"%s\" not supported. Minimal \"3.%u\"",
                        target, MIGRATE_OLDEST_MINOR);
    }
    char *dir = store_dir_of(data_dir);
    bool ours = dir != NULL;
    free(dir);
    if (!ours) {
        return utl_fail(EXIT_ERROR,
                        "%s is no data directory of pintle; those of etcd are migrated by etcdutl",
                        data_dir);
    }
    if (minor == MIGRATE_NEWEST_MINOR) {
        log_info(u->log, "storage version up-to-date", F_STR("storage-version", target));
        return 0;
    }
    return utl_fail(EXIT_ERROR,
                    "cannot migrate to version %s: a data directory of pintle has one form. For "
                    "etcd %s, save a snapshot and restore it with the "
                    "etcdutl of that version",
                    target, target);
}
