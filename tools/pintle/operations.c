/* operations.c - see operations.h. */
#include "tools/pintle/operations.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define NS_PER_MS 1000000
#define MS_PER_HOUR 3600000
#define SLOW_APPLY_NS 100000000 /* etcd's defaults for 0 */
#define SLOW_UNARY_NS 300000000

static bool whole_number(const char *text, int64_t *out)
{
    size_t sign = text[0] == '+' ? 1 : 0;
    if (text[sign] == '\0' || text[sign + strspn(text + sign, "0123456789")] != '\0') {
        return false;
    }
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno == 0;
}

/* A bare number is hours or revisions; anything else a duration, whose nanoseconds etcd takes for a number of revisions too. */
enum err retention_read(const char *mode, const char *text, struct auto_compact_config *out, struct err_ctx *ec)
{
    bool by_revision = strcmp(mode, "revision") == 0;
    int64_t n = 0;
    if (whole_number(text, &n)) {
        n = by_revision ? n : n > INT64_MAX / MS_PER_HOUR ? INT64_MAX : n * MS_PER_HOUR;
    } else if (go_duration_parse(text, &n) == OK) {
        n = by_revision ? n : n > 0 && n < NS_PER_MS ? 1 : n / NS_PER_MS;
    } else {
        return err_set(ec, ERR_INVALID, "error parsing CompactionRetention: time: %s duration \"%s\"",
                       text[strspn(text, "+-0123456789.")] == '\0' && strpbrk(text, "0123456789") != NULL ? "missing unit in" : "invalid", text);
    }
    *out = (struct auto_compact_config){.mode = n <= 0 ? AUTO_COMPACT_OFF : by_revision ? AUTO_COMPACT_REVISION : AUTO_COMPACT_PERIODIC,
                                        .retention = n <= 0 ? 0 : n};
    return OK;
}

static uint64_t positive_ms(struct flag_set *f, const char *name, uint64_t fallback)
{
    int64_t ns = flag_get(f, name)->i;
    return ns <= 0 ? fallback : ns < NS_PER_MS ? 1 : (uint64_t)ns / NS_PER_MS;
}

static uint64_t positive_ns(struct flag_set *f, const char *name, int64_t fallback)
{
    int64_t ns = flag_get(f, name)->i;
    return (uint64_t)(ns <= 0 ? fallback : ns);
}

enum err operations_read(struct flag_set *f, struct operations *out, struct err_ctx *ec)
{
    *out = (struct operations){
        .initial_check = flag_gate(f, GATE_INITIAL_CORRUPT_CHECK),
        .corrupt_check_ms = positive_ms(f, "corrupt-check-time", 0),
        .compact_hash_check_ms = flag_gate(f, GATE_COMPACT_HASH_CHECK) ? positive_ms(f, "compact-hash-check-time", 0) : 0,
        .extensive_metrics = strcmp(flag_get(f, "metrics")->text, "extensive") == 0,
        .slow_apply_ns = positive_ns(f, "warning-apply-duration", SLOW_APPLY_NS),
        .slow_unary_ns = positive_ns(f, "warning-unary-request-duration", SLOW_UNARY_NS),
        .priority_requests = flag_gate(f, GATE_PRIORITY_REQUEST),
    };
    return retention_read(flag_get(f, "auto-compaction-mode")->text, flag_get(f, "auto-compaction-retention")->text, &out->auto_compact, ec);
}

static void show_gate(struct metrics *m, const char *name, bool alpha, bool on)
{
    struct bytes labels = {0};
    metrics_label(&labels, "name", name);
    metrics_label(&labels, "stage", alpha ? "ALPHA" : "BETA");
    bytes_add(&labels, "", 1);
    gauge_set(metrics_gauge(m, "etcd_server_feature_enabled", "Whether or not a feature is enabled. 1 is enabled, 0 is not.",
                            (const char *)labels.data),
              on ? 1 : 0);
    bytes_deinit(&labels);
}

void operations_metrics(struct flag_set *f, struct metrics *m)
{
    for (size_t i = 0; i < FLAG_N_GATES; i++) {
        show_gate(m, flag_gates[i].name, flag_gates[i].alpha, flag_gate(f, (enum flag_gate_id)i));
    }
    show_gate(m, "AllAlpha", true, flag_gate_stage(f, true));
    show_gate(m, "AllBeta", false, flag_gate_stage(f, false));
}
