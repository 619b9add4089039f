/* flags_old.c - flags as etcd 3.4 to 3.6 called them. See flags.h.
 *
 * Manifests outlive versions: kubeadm's for etcd 3.5 name flags that 3.7 has no more. What such a flag said is said to
 * the flag, or the feature gate, that took its place; the rest of the server knows today's names alone.
 */
#include "tools/pintle/flags.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"


static const struct {
    const char *old;
    const char *now;  /* a flag, or the name of a gate */
    bool gate;
    enum flag_gate_id id;
} renamed[] = {
    {"experimental-initial-corrupt-check", "InitialCorruptCheck", true, GATE_INITIAL_CORRUPT_CHECK},
    {"experimental-compact-hash-check-enabled", "CompactHashCheck", true, GATE_COMPACT_HASH_CHECK},
    {"experimental-enable-lease-checkpoint", "LeaseCheckpoint", true, GATE_LEASE_CHECKPOINT},
    {"experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist", true, GATE_LEASE_CHECKPOINT_PERSIST},
    {"experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer", true, GATE_TXN_SHARED_BUFFER},
    {"experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag", true, GATE_STOP_GRPC_ON_DEFRAG},
    {"experimental-corrupt-check-time", "corrupt-check-time", false, 0},
    {"experimental-compact-hash-check-time", "compact-hash-check-time", false, 0},
    {"experimental-compaction-batch-limit", "compaction-batch-limit", false, 0},
    {"experimental-compaction-sleep-interval", "compaction-sleep-interval", false, 0},
    {"experimental-watch-progress-notify-interval", "watch-progress-notify-interval", false, 0},
    {"experimental-downgrade-check-time", "downgrade-check-time", false, 0},
    {"experimental-warning-apply-duration", "warning-apply-duration", false, 0},
    {"experimental-warning-unary-request-duration", "warning-unary-request-duration", false, 0},
    {"experimental-memory-mlock", "memory-mlock", false, 0},
    {"experimental-bootstrap-defrag-threshold-megabytes", "bootstrap-defrag-threshold-megabytes", false, 0},
    {"experimental-max-learners", "max-learners", false, 0},
    {"experimental-snapshot-catchup-entries", "snapshot-catchup-entries", false, 0},
    {"experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification", false, 0},
    {"experimental-enable-distributed-tracing", "enable-distributed-tracing", false, 0},
    {"experimental-distributed-tracing-address", "distributed-tracing-address", false, 0},
    {"experimental-distributed-tracing-service-name", "distributed-tracing-service-name", false, 0},
    {"experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id", false, 0},
    {"experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate", false, 0},
    {"experimental-backend-bbolt-freelist-type", "backend-bbolt-freelist-type", false, 0},
    {"log-output", "log-outputs", false, 0},
};

static enum err to_gate(struct flag_set *s, size_t i, struct err_ctx *ec)
{
    struct flag_value *gates = flag_get(s, "feature-gates");
    const struct flag_value *old = flag_get(s, renamed[i].old);
    uint64_t bit = UINT64_C(1) << (unsigned)renamed[i].id;
    if (((uint64_t)gates->i & bit) != 0) {
        const char *on = (gates->u & bit) != 0 ? "true" : "false";
        return err_set(ec, ERR_INVALID,
                       "cannot specify both flags: --%s=%s and --feature-gates=%s=%s at the same time, please just use --feature-gates=%s=%s",
                       renamed[i].old, old->b ? "true" : "false", renamed[i].now, on, renamed[i].now, on);
    }
    gates->u = old->b ? gates->u | bit : gates->u & ~bit;
    gates->i = (int64_t)((uint64_t)gates->i | bit);
    return OK;
}

static enum err to_flag(struct flag_set *s, size_t i, struct err_ctx *ec)
{
    if (flag_is_set(s, renamed[i].now)) {
        return err_set(ec, ERR_INVALID, "cannot set --%s and --%s at the same time, please use --%s only", renamed[i].old, renamed[i].now,
                       renamed[i].now);
    }
    return flag_set_assign(s, renamed[i].now, flag_get(s, renamed[i].old)->text, ec);
}

enum err flag_set_modernize(struct flag_set *s, void (*each)(void *arg, const char *old, const char *instead), void *arg, struct err_ctx *ec)
{
    for (size_t i = 0; i < ARRAY_LEN(renamed); i++) {
        if (!flag_is_set(s, renamed[i].old)) {
            continue;
        }
        enum err e = renamed[i].gate ? to_gate(s, i, ec) : to_flag(s, i, ec);
        if (e != OK) {
            return e;
        }
        bool on = flag_get(s, renamed[i].old)->b;
        char *instead = renamed[i].gate ? xasprintf("--feature-gates=%s=%s", renamed[i].now, on ? "true" : "false") : xasprintf("--%s", renamed[i].now);
        each(arg, renamed[i].old, instead);
        free(instead);
    }
    /* etcd 3.4's way of asking for --log-level=debug. */
    if (flag_is_set(s, "debug")) {
        enum err e = flag_get(s, "debug")->b && !flag_is_set(s, "log-level") ? flag_set_assign(s, "log-level", "debug", ec) : OK;
        if (e != OK) {
            return e;
        }
        each(arg, "debug", "--log-level=debug");
    }
    return OK;
}
