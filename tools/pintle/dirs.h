/* dirs.h - making directories.
 *
 * What        A directory with every one above it, for nobody but their owner.
 * Callers     tools/pintle/datadir.c; tools/pintleutl.   Thread  any.
 */
#ifndef TOOLS_PINTLE_DIRS_H
#define TOOLS_PINTLE_DIRS_H

#include "base/vfs.h"

/* Make what is missing of `path`; *made (may be NULL): the last one was. Something that is no
 * directory but has its name is taken for one: who needs to know looks. */
MUST_CHECK enum err dirs_make(struct vfs *v, const char *path, bool *made, struct err_ctx *ec);

#endif
