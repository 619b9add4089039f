/* cluster.h - a small cluster driven by the commands of etcd-io/raft's interaction scripts.
 *
 * What        Members with a log and a state machine in memory, a network that delivers on demand,
 *             and a handler that runs one command and prints what happened.
 * Callers     test_vectors.c.   Thread  one.
 */
#ifndef TESTS_RAFT_CORE_CLUSTER_H
#define TESTS_RAFT_CORE_CLUSTER_H

#include "tests/raft/core/script.h"

struct cluster;

struct cluster *cluster_create(void);
void cluster_destroy(struct cluster **c);
void cluster_handle(struct cluster *c, const struct script_case *s, struct bytes *out);

#endif
