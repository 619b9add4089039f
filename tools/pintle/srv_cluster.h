/* srv_cluster.h - --discovery-srv of the server: the founders by SRV records.
 *
 * What        Makes the text of --initial-cluster from what the name servers say; the record that leads to this member's own address gets its name.
 * Callers     tools/pintle/bootstrap.c.   Thread  main; waits for name servers.
 * Source      etcd-server.md 2.6.
 */
#ifndef TOOLS_PINTLE_SRV_CLUSTER_H
#define TOOLS_PINTLE_SRV_CLUSTER_H

#include "tools/pintle/config.h"

/* On OK the caller frees *cluster. ERR_NOT_FOUND and others, with etcd's text. */
MUST_CHECK enum err srv_cluster(struct config *c, char **cluster, struct err_ctx *ec);

#endif
