/* downgrade.c - Maintenance.Downgrade: may the cluster go back one minor version, and the job that does it.
 *
 *   VALIDATE  version known? -> read barrier -> exactly one minor lower? no job yet? -> reply
 *   ENABLE    the same, then the job goes through the log; the leader lowers the cluster's version (raft/member/duties_version.c)
 *   CANCEL    the job's end goes through the log; what fails is only logged
 *
 * The job ends by itself once every member runs the target. This program never does, so as long as one of ours leads there is nothing to end: the etcd
 * that leads after the last of ours has gone does it. Source: etcd-v3-api.md 7.8, etcd-server.md 3.9.
 */
#include "api/etcd/internal.h"

#include <stdio.h>

enum { FIELD_DOWNGRADE_INFO_SET = 1302 }; /* of InternalRaftRequest */

static const struct {
    enum grpc_code code;
    const char *text;
} refusals[] = {
    {GRPC_INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"},
    {GRPC_FAILED_PRECONDITION, "etcdserver: cluster version not found during downgrade"},
    {GRPC_INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"},
    {GRPC_FAILED_PRECONDITION, "etcdserver: cluster has a downgrade job in progress"},
    {GRPC_UNKNOWN, "etcdserver: unknown method"},
};
enum refusal { WRONG_FORMAT, NO_VERSION, INVALID_TARGET, IN_PROGRESS, UNKNOWN_METHOD };

static void refuse(struct grpc_call *c, enum refusal why)
{
    grpc_finish(c, refusals[why].code, refusals[why].text);
}

struct minor {
    unsigned major, minor;
};

static bool take_number(const char **p, unsigned *out)
{
    size_t digits = strspn(*p, "0123456789");
    if (digits == 0 || digits > 9) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < digits; i++) {
        *out = *out * 10 + (unsigned)((*p)[i] - '0');
    }
    *p += digits;
    return true;
}

/* X.Y or X.Y.Z */
static bool parse(const char *p, struct minor *out)
{
    unsigned patch;
    if (!take_number(&p, &out->major) || *p++ != '.' || !take_number(&p, &out->minor)) {
        return false;
    }
    return *p == '\0' || (*p++ == '.' && take_number(&p, &patch) && *p == '\0');
}

static bool cluster_version(const struct etcd_server *s, struct minor *out)
{
    char text[16];
    engine_cluster_version(s->engine, text);
    return parse(text, out);
}

void server_storage_version(const struct etcd_server *s, char out[16])
{
    struct minor cluster;
    struct minor own;
    bool known = parse(ETCD_STORAGE_VERSION, &own);
    ASSERT(known);
    /* Undecided clusters say 3.0.0; no store was ever that old. */
    bool older = cluster_version(s, &cluster) && cluster.major == own.major && cluster.minor >= 5 && cluster.minor < own.minor;
    (void)snprintf(out, 16, "%u.%u.0", older ? cluster.major : own.major, older ? cluster.minor : own.minor);
}

static void reply(struct grpc_call *c)
{
    const struct etcd_server *s = server_of(c);
    struct minor now;
    struct bytes b = {0};
    if (cluster_version(s, &now)) {
        char text[32];
        (void)snprintf(text, sizeof(text), "%u.%u", now.major, now.minor);
        wire_add_bytes(&b, 2, slice_str(text));
    }
    reply_send(c, engine_revision(s->engine), bytes_slice(&b));
    bytes_deinit(&b);
}

static void finish_enable(struct request *r)
{
    buf_unref(&r->op.result.body);
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err);
    } else {
        reply(r->call);
    }
}

static void finish_cancel(struct request *r)
{
    buf_unref(&r->op.result.body);
    if (r->op.err != OK) {
        log_error(server_of(r->call)->cfg.log, "failed to cancel downgrade", F_STR("error", status_of(r->op.err).text));
    }
    reply(r->call);
}

static void propose(struct grpc_call *c, bool enabled, const char *target, void (*finish)(struct request *r))
{
    struct bytes b = {0};
    wire_add_bool(&b, 1, enabled);
    wire_add_bytes(&b, 2, slice_str(target));
    struct request *r = request_create(c, MEMBER_PROPOSE, finish);
    if (r != NULL) {
        request_propose(r, FIELD_DOWNGRADE_INFO_SET, bytes_slice(&b));
    }
    bytes_deinit(&b);
}

/* Behind the barrier: whatever another member has begun is known. */
static void judge(struct grpc_call *c, void *message)
{
    const Etcdserverpb__DowngradeRequest *q = message;
    struct etcd_server *s = server_of(c);
    struct minor now;
    struct minor target;
    char running[16];
    bool parsed = parse(q->version, &target);
    ASSERT(parsed); /* on_message asked */
    if (!cluster_version(s, &now)) {
        refuse(c, NO_VERSION);
    } else if (now.minor == 0 || target.major != now.major || target.minor != now.minor - 1) {
        refuse(c, INVALID_TARGET);
    } else if (engine_downgrade(s->engine, running)) {
        refuse(c, IN_PROGRESS);
    } else if (q->action == ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__VALIDATE) {
        reply(c);
    } else {
        char text[32];
        (void)snprintf(text, sizeof(text), "%u.%u.0", target.major, target.minor);
        propose(c, true, text, finish_enable);
    }
}

static void cancel(struct grpc_call *c)
{
    char running[16];
    const struct etcd_server *s = server_of(c);
    if (engine_downgrade(s->engine, running)) {
        propose(c, false, "", finish_cancel);
        return;
    }
    log_error(s->cfg.log, "failed to cancel downgrade", F_STR("error", "etcdserver: no inflight downgrade job"));
    reply(c);
}

void downgrade_on_message(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__DowngradeRequest *q = request_decode(c, &etcdserverpb__downgrade_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    struct minor target;
    struct minor now;
    if (q->action == ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__CANCEL) {
        cancel(c);
    } else if (q->action != ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__VALIDATE &&
               q->action != ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__ENABLE) {
        refuse(c, UNKNOWN_METHOD);
    } else if (!parse(q->version, &target)) {
        refuse(c, WRONG_FORMAT);
    } else if (!cluster_version(server_of(c), &now)) {
        refuse(c, NO_VERSION);
    } else {
        request_read_barrier(c, q, judge);
    }
}
