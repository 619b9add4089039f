/* source.h - a bbolt file as the engine's reader takes it, and the sum at its end.
 *
 * What        Opens a file for reading and looks whether the last bytes are a SHA-256 of all
 *             before.
 * Callers     the commands.   Thread  one.
 * Source      etcd appends the sum to snapshots it hands out; a file of whole 512-byte sectors has
 *             none.
 */
#ifndef TOOLS_PINTLEUTL_SOURCE_H
#define TOOLS_PINTLEUTL_SOURCE_H

#include "base/vfs.h"
#include "engine/bolt.h"

struct source {
    struct vfs_file *file; /* owned */
    struct bolt_source bolt;
    bool has_sum; /* by its length */
};

/* *s is borrowed by s->bolt. Errors with Go's text: "open x: no such file or directory". */
MUST_CHECK enum err source_open(const char *path, struct source *s, struct err_ctx *ec);
void source_close(struct source *s);
/* ERR_INVALID: there is no sum; ERR_CORRUPT: another one. Both with etcdutl's text. */
MUST_CHECK enum err source_verify(struct source *s, struct err_ctx *ec);

#endif
