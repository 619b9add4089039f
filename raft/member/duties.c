/* duties.c - what a member does without being asked, once a turn.
 *
 * Publishing its name and client URLs through the log and deciding the cluster version (duties_version.c), letting leases expire
 * (duties_lease.c), compacting by itself (duties_compact.c), raising alarms. Everything here proposes; nothing here changes replicated state directly.
 */
#include "raft/member/internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/auth.h"

struct duty {
    struct member_op op;
    struct member *member;
};

static struct duty *duty_of(struct member_op *op)
{
    return CONTAINER_OF(op, struct duty, op);
}

struct member *duty_member(struct member_op *op)
{
    return duty_of(op)->member;
}

void duty_propose_bytes(struct member *m, struct buf *data, uint64_t request_id, void (*done)(struct member_op *op))
{
    struct duty *d = xcalloc(1, sizeof(*d));
    d->member = m;
    d->op.kind = MEMBER_PROPOSE;
    d->op.done = done;
    d->op.request_id = request_id;
    d->op.data = data;
    member_take_proposal(m, &d->op);
}

void duty_propose(struct member *m, Etcdserverpb__InternalRaftRequest *r, void (*done)(struct member_op *op))
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
    duty_propose_bytes(m, data, header.id, done);
}

void duty_forget(struct member_op *op)
{
    buf_unref(&op->result.body);
    free(duty_of(op));
}

/* --- alarms -------------------------------------------------------------------------------------------------- */

static void on_alarm(struct member_op *op)
{
    duty_member(op)->alarm_proposed = false;
    duty_forget(op);
}

static void raise_alarm(struct member *m, Etcdserverpb__AlarmType type, uint64_t id, void (*done)(struct member_op *op))
{
    Etcdserverpb__AlarmRequest alarm = ETCDSERVERPB__ALARM_REQUEST__INIT;
    alarm.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
    alarm.memberid = id;
    alarm.alarm = type;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.alarm = &alarm;
    duty_propose(m, &r, done);
}

void member_raise_corrupt(struct member *m, uint64_t id)
{
    raise_alarm(m, ETCDSERVERPB__ALARM_TYPE__CORRUPT, id, duty_forget);
}

void member_raise_nospace(struct member *m)
{
    if (m->alarm_proposed || engine_alarm_active(m->engine, ETCDSERVERPB__ALARM_TYPE__NOSPACE)) {
        return;
    }
    log_warn(m->cfg.log, "message exceeded backend quota; raising alarm", F_INT("quota-size-bytes", engine_quota_bytes(m->engine)));
    m->alarm_proposed = true;
    raise_alarm(m, ETCDSERVERPB__ALARM_TYPE__NOSPACE, m->cfg.member_id, on_alarm);
}

/* --- turns ----------------------------------------------------------------------------------------------------- */

void duties_role_changed(struct member *m, bool is_leader)
{
    duties_lease_role(m, is_leader);
}

void duties_turn(struct member *m)
{
    if (m->lease_waits.first != NULL) {
        duties_answer_lease_waits(m);
    }
    gauge_set(m->proposals_pending, (double)m->n_waiters);
    duties_auto_compact(m);
    duties_note_version(m);
    if (atomic_load_explicit(&m->leader, memory_order_relaxed) == 0) {
        return;
    }
    bool due = m->now_ms >= m->duty_again_ms;
    if (due && !m->published && !m->publishing && duties_may_publish(m)) {
        duties_publish(m);
    }
    if (!atomic_load_explicit(&m->is_leader, memory_order_relaxed)) {
        return;
    }
    struct raft_status rs;
    raft_status(m->raft, &rs);
    if (engine_applied_term(m->engine) != rs.hard_state.term) {
        return; /* entries of earlier terms are still being applied */
    }
    duties_mind_versions(m);
    duties_lease_turn(m);
}
