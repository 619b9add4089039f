/* store.c - see store.h. */
#include "tools/pintleutl/store.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/vfs.h"
#include "tools/pintle/layout.h"

#define STORE_FILE "store.mdb"
#define SNAP_FOLDER "/" LAYOUT_MEMBER "/snap"
#define RETRY_NS 20000000 /* of the lock */

static bool is_file(const char *dir)
{
    struct vfs_stat st;
    struct err_ctx ignored = {{0}};
    char *path = xasprintf("%s/" STORE_FILE, dir);
    bool found = vfs_real()->ops->stat(vfs_real(), path, &st, &ignored) == OK && !st.is_dir;
    free(path);
    return found;
}

char *store_dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    char *candidates[] = {
        xasprintf("%s" SNAP_FOLDER, path),
        xstrdup(path),
        strcmp(name, STORE_FILE) != 0 ? NULL
        : slash == NULL               ? xstrdup(".")
                                      : xstrndup(path, (size_t)(slash - path) + 1),
    };
    char *found = NULL;
    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
        if (found == NULL && candidates[i] != NULL && is_file(candidates[i])) {
            found = candidates[i];
        } else {
            free(candidates[i]);
        }
    }
    return found;
}

enum err store_open(struct utl *u, const char *dir, struct backend **out, struct err_ctx *ec)
{
    int64_t timeout_ns = flag_number(&u->flags, "timeout");
    uint64_t start_ns = clock_now_ns(clock_real());
    for (;;) {
        enum err e = backend_lmdb_open(dir, BACKEND_MAP_BYTES_DEFAULT, false, out, ec);
        if (e != ERR_LOCKED) {
            return e;
        }
        if (timeout_ns != 0 && (int64_t)(clock_now_ns(clock_real()) - start_ns) >= timeout_ns) {
            char *path = xasprintf("%s/" STORE_FILE, dir);
            log_fatal(u->log, "failed to open database", F_STR("path", path),
                      F_STR("error", "timeout"));
            free(path);
            return e;
        }
        const struct timespec pause = {.tv_nsec = RETRY_NS};
        (void)nanosleep(&pause, NULL);
    }
}
