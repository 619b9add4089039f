/* datadir.h - the member's directory on disk.
 *
 * What        Layout, permissions and the lock that keeps a second process out.
 * Callers     tools/pintle/main.c.   Thread  main.
 * Source      etcd-server.md 2.1; ours: the .seg files of member/wal are the log, member/snap/store.mdb the store.
 */
#ifndef TOOLS_PINTLE_DATADIR_H
#define TOOLS_PINTLE_DATADIR_H

#include "base/vfs.h"
#include "tools/pintle/config.h"

struct datadir {
    struct vfs_file *lock; /* owned */
};

/* Make what is missing, look at what is there, lock it. Errors: ERR_FOREIGN, etcd's own files; ERR_LOCKED; ERR_PERM, ERR_IO. */
MUST_CHECK enum err datadir_open(struct vfs *v, const struct config *c, struct datadir *out, struct err_ctx *ec);
void datadir_close(struct datadir *d);

#endif
