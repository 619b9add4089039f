/* cluster.h - the members that --initial-cluster names, and the ids that follow from it.
 *
 * What        Parses --initial-cluster and computes member and cluster ids exactly as etcd does.
 * Callers     tools/pintle/bootstrap.c.   Thread  main.
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
    struct member_peer peers[FOUNDERS_MAX]; /* by ascending id; strings owned */
    size_t n;
};

/* ERR_INVALID with etcd's text. *out is to be given to founders_deinit in any case. */
MUST_CHECK enum err founders_parse(const char *initial_cluster, const char *token, struct founders *out, struct err_ctx *ec);
void founders_deinit(struct founders *f);
/* NULL: no such member. */
const struct member_peer *founders_named(const struct founders *f, const char *name);
/* "name=url,..." in etcd's order; the caller frees. */
char *founders_text(const struct founders *f);
/* Is any URL there twice? */
bool founders_share_url(const struct founders *f);
/* After ids were changed. */
void founders_sort(struct founders *f);

#endif
