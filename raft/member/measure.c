/* measure.c - how long requests and their entries take, by kind, and the word about those that take too long.
 *
 * The kind is found by looking at the tags of the encoded request, so nothing is decoded twice. Series come into being with their first value, as etcd's
 * do, except for those of a Put: dashboards look for the families on a fresh cluster.
 */
#include "raft/member/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"
#include "engine/describe.h"

enum { FIELD_LEASE_REVOKE = 9 };
#define APPLY_SECONDS 0.0001, 2, 20
#define REQUEST_SECONDS 0.001, 2, 14

/* Fields of InternalRaftRequest by number, with etcd's names; the first is for what has none of them. */
static const struct {
    uint32_t field;
    const char *name;
} kinds[] = {
    {0, "unknown"},
    {3, "Range"},
    {4, "Put"},
    {5, "DeleteRange"},
    {6, "Txn"},
    {7, "Compaction"},
    {8, "LeaseGrant"},
    {FIELD_LEASE_REVOKE, "LeaseRevoke"},
    {10, "Alarm"},
    {11, "LeaseCheckpoint"},
    {1000, "AuthEnable"},
    {1011, "AuthDisable"},
    {1012, "Authenticate"},
    {1013, "AuthStatus"},
    {1100, "AuthUserAdd"},
    {1101, "AuthUserDelete"},
    {1102, "AuthUserGet"},
    {1103, "AuthUserChangePassword"},
    {1104, "AuthUserGrantRole"},
    {1105, "AuthUserRevokeRole"},
    {1106, "AuthUserList"},
    {1107, "AuthRoleList"},
    {1200, "AuthRoleAdd"},
    {1201, "AuthRoleDelete"},
    {1202, "AuthRoleGet"},
    {1203, "AuthRoleGrantPermission"},
    {1204, "AuthRoleRevokePermission"},
    {1300, "ClusterVersionSet"},
    {1301, "ClusterMemberAttrSet"},
    {1302, "DowngradeInfoSet"},
};
#define KIND_PUT 2u

struct measure {
    struct metrics *metrics;
    struct histogram *apply[ARRAY_LEN(kinds)][2]; /* failed, done */
    struct histogram *request[ARRAY_LEN(kinds)][2];
    struct counter *slow_apply;
    struct gauge *installing;
};

unsigned measure_kind(struct slice data)
{
    while (data.len > 0) {
        struct wire_field f;
        if (wire_next(&data, &f) != OK) {
            return 0;
        }
        for (unsigned i = 1; i < ARRAY_LEN(kinds); i++) {
            if (kinds[i].field == f.number) {
                return i;
            }
        }
    }
    return 0;
}

bool measure_is_priority(unsigned kind)
{
    return kinds[kind].field == FIELD_LEASE_REVOKE;
}

static struct histogram *apply_seconds(struct measure *x, unsigned kind, bool ok)
{
    struct histogram **h = &x->apply[kind][ok ? 1 : 0];
    if (*h == NULL) {
        char labels[96];
        (void)snprintf(labels, sizeof(labels), "op=\"%s\",success=\"%s\",version=\"v3\"", kinds[kind].name, ok ? "true" : "false");
        *h = metrics_histogram(x->metrics, "etcd_server_apply_duration_seconds", "The latency distributions of v3 apply called by backend.", labels,
                               APPLY_SECONDS);
    }
    return *h;
}

static struct histogram *request_seconds(struct measure *x, unsigned kind, bool ok)
{
    struct histogram **h = &x->request[kind][ok ? 1 : 0];
    if (*h == NULL) {
        char labels[96];
        (void)snprintf(labels, sizeof(labels), "success=\"%s\",type=\"%s\"", ok ? "true" : "false", kinds[kind].name);
        *h = metrics_histogram(x->metrics, "etcd_server_request_duration_seconds", "Response latency distribution in seconds for each type.", labels,
                               REQUEST_SECONDS);
    }
    return *h;
}

struct measure *measure_create(struct metrics *m)
{
    struct measure *x = xcalloc(1, sizeof(*x));
    x->metrics = m;
    x->slow_apply = metrics_counter(m, "etcd_server_slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk).", NULL);
    x->installing = metrics_gauge(m, "etcd_server_snapshot_apply_in_progress_total",
                                  "1 if the server is applying the incoming snapshot. 0 if none.", NULL);
    (void)apply_seconds(x, KIND_PUT, true);
    (void)request_seconds(x, KIND_PUT, true);
    return x;
}

void measure_destroy(struct measure **x)
{
    free(*x);
    *x = NULL;
}

/* The word about an entry that took long, or that was refused; etcd has two, with the same fields but for three. */
static void tell_apply(struct member *m, struct slice data, const struct apply_result *r, uint64_t took_ns, bool slow)
{
    const char *msg = slow ? "apply request took too long" : "failed to apply request";
    if (!log_take(m->cfg.log, LOG_WARN, msg)) { /* of a flood few lines are written; the others are not even put into words */
        return;
    }
    struct bytes request = {0};
    char response[32] = "";
    struct log_field fields[6] = {F_NS("took", took_ns)};
    size_t n = 1;
    describe_entry(data, &request);
    if (r->err == OK) {
        (void)snprintf(response, sizeof(response), "size:%zu", r->body == NULL ? (size_t)0 : r->body->len);
    }
    if (slow) {
        fields[n++] = (struct log_field)F_NS("expected-duration", m->cfg.slow_apply_ns);
        fields[n++] = (struct log_field)F_STR("prefix", "");
    }
    fields[n++] = (struct log_field)F_STR("request", (const char *)request.data);
    fields[n++] = (struct log_field)F_STR("response", response);
    if (r->err != OK) {
        fields[n++] = (struct log_field)F_STR("error", err_text(r->err));
    }
    log_write(m->cfg.log, LOG_WARN, __FILE__, __LINE__, msg, fields, n);
    bytes_deinit(&request);
}

void measure_apply(struct member *m, const struct raft_entry *e, const struct apply_result *r, uint64_t took_ns)
{
    if (e->type != RAFT_ENTRY_NORMAL || e->data == NULL) {
        return;
    }
    struct slice data = buf_slice(e->data);
    unsigned kind = measure_kind(data);
    bool ok = r->err == OK || r->err == ERR_COMPACTED;
    histogram_observe_ns(apply_seconds(m->measure, kind, ok), took_ns);
    uint64_t limit_ns = m->cfg.slow_apply_ns;
    bool slow = limit_ns != 0 && took_ns > limit_ns;
    counter_add(m->measure->slow_apply, slow ? 1 : 0);
    if (slow) {
        tell_apply(m, data, r, took_ns, true);
    }
    if (!ok) {
        tell_apply(m, data, r, took_ns, false);
    }
}

void measure_request(struct member *m, unsigned kind, bool ok, uint64_t took_ns)
{
    histogram_observe_ns(request_seconds(m->measure, kind, ok), took_ns);
}

void measure_installing(struct member *m, bool yes)
{
    gauge_set(m->measure->installing, yes ? 1 : 0);
}

void measure_compacted(struct member *m, const struct compaction_report *r)
{
    struct backend_stats b = engine_backend_stats(m->engine);
    log_info(m->cfg.log, "finished scheduled compaction", F_INT("compact-revision", r->revision), F_NS("took", r->took_ns),
             F_UINT("number-of-keys-compacted", r->n_deleted), F_UINT("hash", r->hash), F_INT("current-db-size-bytes", b.file_bytes),
             F_INT("current-db-size-in-use-bytes", b.in_use_bytes));
    if (r->hashed) {
        log_info(m->cfg.log, "storing new hash", F_UINT("hash", r->hash), F_INT("revision", r->revision), F_INT("compact-revision", r->before));
    } else {
        log_msg(m->cfg.log, LOG_INFO, "previous compaction was interrupted, skip storing compaction hash value");
    }
}
