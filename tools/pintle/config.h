/* config.h - what the server was told: etcd's flags, checked.
 *
 * What        From argv and environment to one struct, with etcd's rules, texts and exit codes.
 * Callers     tools/pintle/main.c.   Thread  main.
 * Source      etcd-server.md 1 and 10.
 */
#ifndef TOOLS_PINTLE_CONFIG_H
#define TOOLS_PINTLE_CONFIG_H

#include "api/peer/secure.h"
#include "base/log.h"
#include "tools/pintle/flags.h"

struct config {
    struct flag_set flags;
    char *file;         /* owned; all of it comes from there; NULL: from flags and environment */
    struct logger *log; /* owned */
    const char *name;
    char *data_dir; /* owned */
    char *wal_dir;  /* owned */
    char *snap_dir; /* owned */
    char **listen_client, **advertise_client, **listen_peer, **advertise_peer; /* NULL-terminated, sorted; in the flag values */
    char *initial_cluster; /* owned; "name=url,..." */
    const char *cluster_token;
    const char *srv_domain; /* --discovery-srv: the name servers know the members; "": no */
    bool discovers; /* --discovery-endpoints: initial_cluster is this member alone, and the registry has the others */
    uint32_t heartbeat_ms, election_ms;
    int64_t quota_flag;
    uint32_t max_request_bytes, max_txn_ops, max_streams;
    uint64_t progress_interval_ms;
    uint64_t keepalive_min_ms, keepalive_interval_ms, keepalive_timeout_ms;
    uint32_t compaction_batch_limit;
    uint64_t compaction_pause_ms; /* 0: the default */
    uint64_t catch_up_entries;
    uint32_t max_learners;
    bool existing_cluster; /* --initial-cluster-state */
    bool force_new_cluster, strict_reconfig, fast_forward;
    bool pre_vote, no_sync;
    unsigned n_loops;
    char *local_address;  /* owned; of the gate SetMemberLocalAddr; NULL: none */
    struct peer_tls dial; /* of requests to other members; server_tls_open fills it */
};

/* Fills `c` and returns -1 when the server should go on; else the process's exit status, everything having been said. */
int config_load(struct config *c, int argc, char **argv, char **environ_list);
void config_deinit(struct config *c);

#endif
