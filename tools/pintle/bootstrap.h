/* bootstrap.h - who this member is: from its log, from the flags, or from the cluster that it joins.
 *
 * What        Decides the ids that a member opens with. A log that holds entries knows them, and the --initial-cluster flags do not count any
 *             more. Without one, the flags name the founders of a new cluster, or the members of one that runs, which is then asked.
 * Callers     tools/pintle/main.c.
 * Thread      main; asks other members and waits for them, bounded by etcd's own timeouts.
 * Source      etcd-server.md 2.2, 2.3, 2.4, 2.7.
 */
#ifndef TOOLS_PINTLE_BOOTSTRAP_H
#define TOOLS_PINTLE_BOOTSTRAP_H

#include "tools/pintle/cluster.h"
#include "tools/pintle/config.h"

struct origin {
    uint64_t cluster_id, member_id;
    struct founders members; /* by the flags, with their ids; empty when restarting */
    bool joining;
    bool restarting;
    bool undiscovered; /* an error of --discovery-endpoints */
    char *story; /* owned; of an error that may be longer than an err_ctx holds, else NULL */
};

/* Errors: ERR_INVALID and others, with etcd's text (out->story goes before `ec`). *out is to be given to origin_deinit in any case. */
MUST_CHECK enum err origin_find(struct config *c, struct vfs *v, struct origin *out, struct err_ctx *ec);
void origin_deinit(struct origin *o);

#endif
