/* duties.c - what a member does without being asked.
 *
 * Publishing its name and client URLs through the log, deciding the cluster version when it leads, letting leases expire when it
 * leads, and raising NOSPACE. Everything here proposes; nothing here changes replicated state directly.
 */
#include "raft/member/internal.h"

#include <stdlib.h>

#include "api/proto/raft_internal.pb-c.h"
#include "base/assert.h"
#include "base/mem.h"
#include "engine/lease.h"

#define CLUSTER_VERSION "3.7.0"

struct duty {
    struct member_op op;
    struct member *member;
};

static struct duty *duty_of(struct member_op *op)
{
    return CONTAINER_OF(op, struct duty, op);
}

/* Propose on the member's own behalf; `done` runs on the member loop and owns the duty. */
static void propose_request(struct member *m, Etcdserverpb__InternalRaftRequest *r, void (*done)(struct member_op *op))
{
    Etcdserverpb__RequestHeader header = ETCDSERVERPB__REQUEST_HEADER__INIT;
    header.id = member_next_request_id(m);
    r->header = &header;
    struct duty *d = xcalloc(1, sizeof(*d));
    d->member = m;
    d->op.kind = MEMBER_PROPOSE;
    d->op.done = done;
    d->op.request_id = header.id;
    d->op.data = buf_create(etcdserverpb__internal_raft_request__get_packed_size(r));
    etcdserverpb__internal_raft_request__pack(r, d->op.data->data);
    member_take_proposal(m, &d->op);
}

static void forget(struct member_op *op)
{
    buf_unref(&op->result.body);
    free(duty_of(op));
}

/* --- publishing ----------------------------------------------------------------------------------------- */

static void on_published(struct member_op *op)
{
    struct member *m = duty_of(op)->member;
    enum err e = op->err;
    forget(op);
    m->publishing = false;
    if (e != OK) {
        m->duty_again_ms = m->now_ms + MEMBER_DUTY_RETRY_MS;
        return;
    }
    m->published = true;
    m->cfg.ready(m->cfg.arg);
}

static void publish(struct member *m)
{
    size_t n = 0;
    while (m->cfg.client_urls[n] != NULL) {
        n++;
    }
    char **urls = xcalloc(n + 1, sizeof(*urls));
    for (size_t i = 0; i < n; i++) {
        urls[i] = (char *)(uintptr_t)m->cfg.client_urls[i];
    }
    Membershippb__Attributes attributes = MEMBERSHIPPB__ATTRIBUTES__INIT;
    attributes.name = (char *)(uintptr_t)m->cfg.name;
    attributes.n_client_urls = n;
    attributes.client_urls = urls;
    Membershippb__ClusterMemberAttrSetRequest set = MEMBERSHIPPB__CLUSTER_MEMBER_ATTR_SET_REQUEST__INIT;
    set.member_id = m->cfg.member_id;
    set.member_attributes = &attributes;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.cluster_member_attr_set = &set;
    m->publishing = true;
    propose_request(m, &r, on_published);
    free(urls);
}

static void on_version_set(struct member_op *op)
{
    struct member *m = duty_of(op)->member;
    if (op->err != OK) {
        m->version_proposed = false;
        m->duty_again_ms = m->now_ms + MEMBER_DUTY_RETRY_MS;
    }
    forget(op);
}

static void decide_version(struct member *m)
{
    char version[16];
    engine_cluster_version(m->engine, version);
    if (version[0] != '\0') {
        m->version_proposed = true;
        return;
    }
    Membershippb__ClusterVersionSetRequest set = MEMBERSHIPPB__CLUSTER_VERSION_SET_REQUEST__INIT;
    set.ver = (char *)(uintptr_t)CLUSTER_VERSION;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.cluster_version_set = &set;
    m->version_proposed = true;
    propose_request(m, &r, on_version_set);
}

/* --- leases ------------------------------------------------------------------------------------------------ */

static void expire_leases(struct member *m)
{
    int64_t ids[MEMBER_LEASE_REVOKE_MAX];
    size_t n = lease_expired(engine_leases(m->engine), m->now_ms, m->request_timeout_ms, ids, ARRAY_LEN(ids));
    for (size_t i = 0; i < n; i++) {
        Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
        revoke.id = ids[i];
        Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
        r.lease_revoke = &revoke;
        propose_request(m, &r, forget);
    }
    counter_add(m->lease_expired, n);
}

static void answer_lease_waits(struct member *m)
{
    struct member_op *next;
    for (struct member_op *op = m->lease_waits.first; op != NULL; op = next) {
        next = op->list_next;
        if (!lease_exists(engine_leases(m->engine), op->revision)) {
            op_list_remove(&m->lease_waits, op);
            member_complete(m, op, ERR_LEASE_NOT_FOUND);
        }
    }
}

void member_wait_lease_revoked(struct member *m, struct member_op *op, int64_t id)
{
    op->revision = id;
    op_list_add(&m->lease_waits, op);
}

/* --- alarms -------------------------------------------------------------------------------------------------- */

static void on_alarm(struct member_op *op)
{
    duty_of(op)->member->alarm_proposed = false;
    forget(op);
}

void member_raise_nospace(struct member *m)
{
    if (m->alarm_proposed || engine_alarm_active(m->engine, ETCDSERVERPB__ALARM_TYPE__NOSPACE)) {
        return;
    }
    log_warn(m->cfg.log, "message exceeded backend quota; raising alarm", F_INT("quota-size-bytes", engine_quota_bytes(m->engine)));
    Etcdserverpb__AlarmRequest alarm = ETCDSERVERPB__ALARM_REQUEST__INIT;
    alarm.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
    alarm.memberid = m->cfg.member_id;
    alarm.alarm = ETCDSERVERPB__ALARM_TYPE__NOSPACE;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.alarm = &alarm;
    m->alarm_proposed = true;
    propose_request(m, &r, on_alarm);
}

/* --- turns ----------------------------------------------------------------------------------------------------- */

void duties_role_changed(struct member *m, uint64_t leader, bool is_leader)
{
    (void)leader;
    if (!is_leader && m->promoted) {
        m->promoted = false;
        lease_demote(engine_leases(m->engine));
    }
    m->version_proposed = false;
}

void duties_turn(struct member *m)
{
    if (m->lease_waits.first != NULL) {
        answer_lease_waits(m);
    }
    gauge_set(m->proposals_pending, (double)m->n_waiters);
    if (atomic_load_explicit(&m->leader, memory_order_relaxed) == 0) {
        return;
    }
    bool due = m->now_ms >= m->duty_again_ms;
    if (due && !m->published && !m->publishing) {
        publish(m);
    }
    if (!atomic_load_explicit(&m->is_leader, memory_order_relaxed)) {
        return;
    }
    struct raft_status rs;
    raft_status(m->raft, &rs);
    if (engine_applied_term(m->engine) != rs.hard_state.term) {
        return; /* entries of earlier terms are still being applied */
    }
    if (!m->promoted) {
        m->promoted = true;
        m->lease_scan_at_ms = m->now_ms;
        lease_promote(engine_leases(m->engine), m->now_ms, m->cfg.election_ms);
    }
    if (due && m->published && !m->version_proposed) {
        decide_version(m);
    }
    if (m->now_ms >= m->lease_scan_at_ms) {
        m->lease_scan_at_ms = m->now_ms + MEMBER_LEASE_SCAN_MS;
        expire_leases(m);
    }
}
