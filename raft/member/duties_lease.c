/* duties_lease.c - what a leader does for leases: letting them expire, and writing down what is left of long ones. */
#include "raft/member/internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/lease.h"

#define LEASE_CHECKPOINT_MS 300000u /* how often remaining times are written down, ... */
#define LEASE_CHECKPOINT_MIN_S 300  /* ... of leases with more left than this, ... */
#define LEASE_CHECKPOINTS_MAX 1000u /* ... so many in one entry; all etcd's */

static void expire_leases(struct member *m)
{
    int64_t ids[MEMBER_LEASE_REVOKE_MAX];
    size_t n = lease_expired(engine_leases(m->engine), m->now_ms, m->request_timeout_ms, ids, ARRAY_LEN(ids));
    for (size_t i = 0; i < n; i++) {
        Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
        revoke.id = ids[i];
        Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
        r.lease_revoke = &revoke;
        duty_propose(m, &r, duty_forget);
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
        duty_propose(c->member, &r, duty_forget);
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

void duties_answer_lease_waits(struct member *m)
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

void duties_lease_role(struct member *m, bool is_leader)
{
    if (!is_leader && m->promoted) {
        m->promoted = false;
        lease_demote(engine_leases(m->engine));
    }
}

void duties_lease_turn(struct member *m)
{
    if (!m->promoted) {
        m->promoted = true;
        m->lease_scan_at_ms = m->now_ms;
        m->checkpoint_at_ms = m->now_ms + LEASE_CHECKPOINT_MS;
        lease_promote(engine_leases(m->engine), m->now_ms, m->cfg.election_ms);
    }
    if (m->now_ms >= m->lease_scan_at_ms) {
        m->lease_scan_at_ms = m->now_ms + MEMBER_LEASE_SCAN_MS;
        expire_leases(m);
    }
    if (m->now_ms >= m->checkpoint_at_ms) {
        m->checkpoint_at_ms = m->now_ms + LEASE_CHECKPOINT_MS;
        checkpoint_leases(m);
    }
}
