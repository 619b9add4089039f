/* cluster.h - who founds the cluster, and the ids that follow from it.
 *
 * What        Parses --initial-cluster and computes member and cluster ids exactly as etcd does.
 * Callers     tools/pintle/main.c.   Thread  main.
 * Source      etcd-server.md 2.2, 2.3.
 */
#ifndef TOOLS_PINTLE_CLUSTER_H
#define TOOLS_PINTLE_CLUSTER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft/member/member.h"

#define FOUNDERS_MAX 64u

struct founders {
    uint64_t cluster_id;
    uint64_t member_id; /* ours */
    struct member_peer peers[FOUNDERS_MAX]; /* by ascending id; strings owned */
    size_t n;
};

/* `own_urls` is the sorted list of our advertised peer URLs. Errors: ERR_INVALID with etcd's text. */
MUST_CHECK enum err founders_parse(const char *initial_cluster, const char *token, const char *own_name, char *const *own_urls,
                                   struct founders *out, struct err_ctx *ec);
void founders_deinit(struct founders *f);

#endif
