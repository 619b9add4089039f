/* operations.h - what the flags say about looking after a running server: compaction by itself, comparing members, metrics, warnings.
 *
 * What        Reads flags into a struct; each value goes where it is used.   Callers  tools/pintle/serve.c.   Thread  main.
 */
#ifndef TOOLS_PINTLE_OPERATIONS_H
#define TOOLS_PINTLE_OPERATIONS_H

#include "base/metrics.h"
#include "raft/member/auto_compact.h"
#include "tools/pintle/flags.h"

struct operations {
    struct auto_compact_config auto_compact;
    bool initial_check;             /* compare with the others before serving */
    uint64_t corrupt_check_ms;      /* 0: never */
    uint64_t compact_hash_check_ms; /* 0: never */
    bool extensive_metrics;
    uint64_t slow_apply_ns, slow_unary_ns;
    bool priority_requests;
};

/* ERR_INVALID with etcd's text when --auto-compaction-retention is neither a number nor a duration. */
MUST_CHECK enum err operations_read(struct flag_set *f, struct operations *out, struct err_ctx *ec);
/* --auto-compaction-mode and -retention by themselves. */
MUST_CHECK enum err retention_read(const char *mode, const char *text, struct auto_compact_config *out, struct err_ctx *ec);
/* etcd_server_feature_enabled */
void operations_metrics(struct flag_set *f, struct metrics *m);

#endif
