/* store.h - a member's store, opened while its server does not run.
 *
 * What        Finds it, and waits for whoever has it open, as long as --timeout says.
 * Callers     hashkv.c, defrag.c.   Thread  one.
 */
#ifndef TOOLS_PINTLEUTL_STORE_H
#define TOOLS_PINTLEUTL_STORE_H

#include "engine/backend.h"
#include "tools/pintleutl/utl.h"

/* The folder of our store that `path` means: a data directory, the folder itself, or the file in
 * it. NULL: none of ours. The caller frees. */
char *store_dir_of(const char *path);
/* ERR_LOCKED after the timeout, which is then logged; else as backend_lmdb_open. */
MUST_CHECK enum err store_open(struct utl *u, const char *dir, struct backend **out,
                               struct err_ctx *ec);

#endif
