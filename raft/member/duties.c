/* duties.c - what a member does without being asked.
 *
 * Publishing its name and client URLs through the log, deciding the cluster version when it leads, letting leases expire when it
 * leads, and raising NOSPACE. Everything here proposes; nothing here changes replicated state directly.
 */
#include "raft/member/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/proto/raft_internal.pb-c.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"
#include "engine/auth.h"
#include "engine/lease.h"

#define VERSION_UNDECIDED "3.0.0" /* what etcd begins with when not every member can be asked */
#define PUBLISH_PATIENCE_MS 10000u  /* after the start; then the others are taken for members like this one */
#define LEASE_CHECKPOINT_MS 300000u /* how often remaining times are written down, ... */
#define LEASE_CHECKPOINT_MIN_S 300  /* ... of leases with more left than this, ... */
#define LEASE_CHECKPOINTS_MAX 1000u /* ... so many in one entry; all etcd's */

struct duty {
    struct member_op op;
    struct member *member;
};

static struct duty *duty_of(struct member_op *op)
{
    return CONTAINER_OF(op, struct duty, op);
}

/* Propose bytes on the member's own behalf; `done` runs on the member loop and owns the duty. */
static void propose_bytes(struct member *m, struct buf *data, uint64_t request_id, void (*done)(struct member_op *op))
{
    struct duty *d = xcalloc(1, sizeof(*d));
    d->member = m;
    d->op.kind = MEMBER_PROPOSE;
    d->op.done = done;
    d->op.request_id = request_id;
    d->op.data = data;
    member_take_proposal(m, &d->op);
}

static void propose_request(struct member *m, Etcdserverpb__InternalRaftRequest *r, void (*done)(struct member_op *op))
{
    Etcdserverpb__RequestHeader header = ETCDSERVERPB__REQUEST_HEADER__INIT;
    header.id = member_next_request_id(m);
    if (auth_enabled(engine_auth(m->engine))) {
        /* The cluster's own work: an expired lease goes, whoever may write its keys. */
        header.username = (char *)(uintptr_t) "root";
        header.auth_revision = auth_revision(engine_auth(m->engine));
    }
    r->header = &header;
    struct buf *data = buf_create(etcdserverpb__internal_raft_request__get_packed_size(r));
    etcdserverpb__internal_raft_request__pack(r, data->data);
    propose_bytes(m, data, header.id, done);
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
    if (!m->ready_told) {
        m->ready_told = true;
        m->cfg.ready(m->cfg.arg);
    }
}

/* Members before 3.6 take attributes as a request of the long gone v2 API: a PUT of JSON at the member's path. */
static void publish_v2(struct member *m)
{
    struct bytes json = {0};
    struct bytes v2 = {0};
    struct bytes whole = {0};
    struct bytes header = {0};
    char path[64];
    uint64_t id = member_next_request_id(m);
    bytes_add_str(&json, "{\"name\":");
    change_json_text(&json, m->cfg.name);
    bytes_add_str(&json, ",\"clientURLs\":[");
    for (size_t i = 0; m->cfg.client_urls[i] != NULL; i++) {
        bytes_add_str(&json, i > 0 ? "," : "");
        change_json_text(&json, m->cfg.client_urls[i]);
    }
    bytes_add_str(&json, "]}");
    (void)snprintf(path, sizeof(path), "/0/members/%" PRIx64 "/attributes", m->cfg.member_id);
    wire_add_uint(&v2, 1, id);
    wire_add_bytes(&v2, 2, slice_str("PUT"));
    wire_add_bytes(&v2, 3, slice_str(path));
    wire_add_bytes(&v2, 4, bytes_slice(&json));
    wire_add_uint(&header, 1, id);
    wire_add_message(&whole, 2, bytes_slice(&v2));
    wire_add_message(&whole, 100, bytes_slice(&header));
    struct buf *data = buf_create(whole.len);
    memcpy(data->data, whole.data, whole.len);
    m->publishing = true;
    propose_bytes(m, data, id, on_published);
    bytes_deinit(&json);
    bytes_deinit(&v2);
    bytes_deinit(&whole);
    bytes_deinit(&header);
}

static void publish_v3(struct member *m)
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

/* --- the cluster's version ------------------------------------------------------------------------------ */

struct version {
    unsigned major, minor;
};

static bool version_parse(const char *text, struct version *out)
{
    return sscanf(text, "%u.%u", &out->major, &out->minor) == 2;
}

static int version_cmp(struct version a, struct version b)
{
    if (a.major != b.major) {
        return a.major < b.major ? -1 : 1;
    }
    return (a.minor > b.minor) - (a.minor < b.minor);
}

static bool speaks_v2(struct member *m)
{
    char text[16];
    struct version now;
    engine_cluster_version(m->engine, text);
    return version_parse(text, &now) && version_cmp(now, (struct version){3, 6}) < 0 && strcmp(text, VERSION_UNDECIDED) != 0;
}

/* What the others understand is known once the cluster's version is; an etcd before 3.6 does not survive an entry that it does not know. An
 * undecided 3.0.0 says little: who joins waits a while for better, who founds takes the others for its equals. */
static bool may_publish(struct member *m)
{
    struct raft_conf_state conf;
    raft_conf_state(m->raft, &conf);
    size_t n = conf.voters.n + conf.learners.n;
    if (n == 0) {
        return false; /* it joins, and has heard nothing yet */
    }
    if (m->cfg.transport == NULL || n == 1 || m->now_ms >= m->started_ms + PUBLISH_PATIENCE_MS) {
        return true;
    }
    char text[16];
    engine_cluster_version(m->engine, text);
    return text[0] != '\0' && !(m->cfg.joining && strcmp(text, VERSION_UNDECIDED) == 0);
}

static void publish(struct member *m)
{
    if (speaks_v2(m)) {
        publish_v2(m);
    } else {
        publish_v3(m);
    }
}

static void on_version_set(struct member_op *op)
{
    struct member *m = duty_of(op)->member;
    m->version_proposed = false;
    m->version_at_ms = m->now_ms + (op->err == OK ? MEMBER_VERSION_MS : MEMBER_DUTY_RETRY_MS);
    forget(op);
}

static void set_version(struct member *m, const char *version)
{
    Membershippb__ClusterVersionSetRequest set = MEMBERSHIPPB__CLUSTER_VERSION_SET_REQUEST__INIT;
    set.ver = (char *)(uintptr_t)version;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.cluster_version_set = &set;
    m->version_proposed = true;
    propose_request(m, &r, on_version_set);
}

/* What the cluster's version should be: the lowest of all members, never lower than it was, unless a downgrade is under way. `lowest` is that of
 * the others; "" when one could not be asked. */
static void decide_version(struct member *m, const char *lowest)
{
    char now_text[16];
    char target[16];
    struct version own, low, now;
    engine_cluster_version(m->engine, now_text);
    bool decided = version_parse(now_text, &now);
    bool own_known = version_parse(m->cfg.version, &own);
    ASSERT(own_known);
    bool known = version_parse(lowest, &low);
    if (known && version_cmp(own, low) < 0) {
        low = own;
    }
    if (!known) {
        if (!decided) {
            set_version(m, VERSION_UNDECIDED);
        }
        return;
    }
    if (engine_downgrade(m->engine, target)) {
        struct version to;
        if (version_parse(target, &to) && decided && version_cmp(now, to) != 0) {
            low = to;
        } else {
            return;
        }
    } else if (decided && version_cmp(low, now) <= 0) {
        return;
    }
    char text[32];
    (void)snprintf(text, sizeof(text), "%u.%u.0", low.major, low.minor);
    log_info(m->cfg.log, decided ? "updating cluster version using v3 API" : "setting up initial cluster version using v3 API", F_STR("from", now_text),
             F_STR("to", text));
    set_version(m, text);
}

void duties_versions(struct member *m, const char *lowest)
{
    m->versions_asked = false;
    m->version_at_ms = m->now_ms + MEMBER_VERSION_MS;
    if (atomic_load_explicit(&m->is_leader, memory_order_relaxed) && !m->version_proposed) {
        decide_version(m, lowest);
    }
}

static void mind_versions(struct member *m)
{
    if (m->now_ms < m->version_at_ms || m->version_proposed || m->versions_asked) {
        return;
    }
    struct raft_conf_state conf;
    raft_conf_state(m->raft, &conf);
    if (m->cfg.transport == NULL || conf.voters.n + conf.learners.n <= 1) {
        duties_versions(m, m->cfg.version);
        return;
    }
    m->versions_asked = true;
    m->cfg.transport->ask_versions(m->cfg.transport->arg);
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

/* Remaining times are written down now and then, so that a new leader does not give every lease its whole time again. */
struct checkpointing {
    struct member *member;
    size_t n;
    Etcdserverpb__LeaseCheckpoint items[LEASE_CHECKPOINTS_MAX];
    Etcdserverpb__LeaseCheckpoint *list[LEASE_CHECKPOINTS_MAX];
};

static void propose_checkpoints(struct checkpointing *c)
{
    Etcdserverpb__LeaseCheckpointRequest request = ETCDSERVERPB__LEASE_CHECKPOINT_REQUEST__INIT;
    request.n_checkpoints = c->n;
    request.checkpoints = c->list;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.lease_checkpoint = &request;
    if (c->n > 0) {
        propose_request(c->member, &r, forget);
    }
    c->n = 0;
}

static void add_checkpoint(struct checkpointing *c, int64_t id, int64_t remaining_s)
{
    Etcdserverpb__LeaseCheckpoint *item = &c->items[c->n];
    etcdserverpb__lease_checkpoint__init(item);
    item->id = id;
    item->remaining_ttl = remaining_s;
    c->list[c->n++] = item;
    if (c->n == LEASE_CHECKPOINTS_MAX) {
        propose_checkpoints(c);
    }
}

static void checkpoint_one(void *arg, int64_t id)
{
    struct checkpointing *c = arg;
    struct lease_info info;
    if (lease_lookup(engine_leases(c->member->engine), id, c->member->now_ms, &info) == OK && info.remaining_s > LEASE_CHECKPOINT_MIN_S) {
        add_checkpoint(c, id, info.remaining_s);
    }
}

static void checkpoint_leases(struct member *m)
{
    struct checkpointing *c = xcalloc(1, sizeof(*c));
    c->member = m;
    lease_each(engine_leases(m->engine), checkpoint_one, c);
    propose_checkpoints(c);
    free(c);
}

void member_lease_renewed(struct member *m, int64_t id)
{
    struct checkpointing *c = xcalloc(1, sizeof(*c));
    c->member = m;
    add_checkpoint(c, id, 0);
    propose_checkpoints(c);
    free(c);
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

void duties_role_changed(struct member *m, bool is_leader)
{
    if (!is_leader && m->promoted) {
        m->promoted = false;
        lease_demote(engine_leases(m->engine));
    }
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
    if (due && !m->published && !m->publishing && may_publish(m)) {
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
        m->checkpoint_at_ms = m->now_ms + LEASE_CHECKPOINT_MS;
        lease_promote(engine_leases(m->engine), m->now_ms, m->cfg.election_ms);
    }
    mind_versions(m);
    if (m->now_ms >= m->lease_scan_at_ms) {
        m->lease_scan_at_ms = m->now_ms + MEMBER_LEASE_SCAN_MS;
        expire_leases(m);
    }
    if (m->now_ms >= m->checkpoint_at_ms) {
        m->checkpoint_at_ms = m->now_ms + LEASE_CHECKPOINT_MS;
        checkpoint_leases(m);
    }
}
