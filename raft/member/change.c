/* change.c - changes of membership, and leadership handed over on demand. */
#include "raft/member/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/json.h"
#include "base/mem.h"
#include "raft/member/reconfig.h"

/* --- the entry -------------------------------------------------------------------------------------------- */

void change_context(struct bytes *out, uint64_t id, const char *name, const char *const *peer_urls, bool learner, int promote)
{
    bytes_printf(out, "{\"id\":%" PRIu64 ",\"peerURLs\":", id);
    if (peer_urls == NULL) {
        bytes_add_str(out, "null");
    } else {
        bytes_add_str(out, "[");
        for (size_t i = 0; peer_urls[i] != NULL; i++) {
            bytes_add_str(out, i > 0 ? "," : "");
            json_add_string(out, peer_urls[i]);
        }
        bytes_add_str(out, "]");
    }
    if (learner) {
        bytes_add_str(out, ",\"isLearner\":true");
    }
    if (name[0] != '\0') {
        bytes_add_str(out, ",\"name\":");
        json_add_string(out, name);
    }
    if (promote >= 0) {
        bytes_add_str(out, promote > 0 ? ",\"isPromote\":true" : ",\"isPromote\":false");
    }
    bytes_add_str(out, "}");
}

struct buf *change_entry(enum raft_conf_change_type type, uint64_t node, uint64_t request_id, struct slice context)
{
    struct raft_conf_change *cc = xcalloc(1, sizeof(*cc));
    cc->v1 = true;
    cc->id = request_id;
    cc->n_changes = 1;
    cc->changes[0] = (struct raft_conf_change_single){type, node};
    cc->context = context;
    struct buf *out = raft_conf_change_encode(cc);
    free(cc);
    return out;
}

static struct buf *encode(const struct member_change *c, uint64_t request_id)
{
    struct bytes context = {0};
    enum raft_conf_change_type type = RAFT_CONF_ADD_NODE;
    switch (c->kind) {
    case MEMBER_ADD:
        change_context(&context, c->id, "", c->peer_urls, false, 0);
        break;
    case MEMBER_ADD_LEARNER:
        type = RAFT_CONF_ADD_LEARNER;
        change_context(&context, c->id, "", c->peer_urls, true, 0);
        break;
    case MEMBER_REMOVE:
        type = RAFT_CONF_REMOVE_NODE;
        break;
    case MEMBER_UPDATE:
        type = RAFT_CONF_UPDATE_NODE;
        change_context(&context, c->id, "", c->peer_urls, false, -1);
        break;
    case MEMBER_PROMOTE:
        change_context(&context, c->id, "", NULL, false, 1);
        break;
    }
    struct buf *out = change_entry(type, c->id, request_id, bytes_slice(&context));
    bytes_deinit(&context);
    return out;
}

/* --- the checks --------------------------------------------------------------------------------------------- */

static bool is_active(const struct member *m, uint64_t id, uint64_t for_ms)
{
    if (id == m->cfg.member_id) {
        return true;
    }
    const struct member_transport *t = m->cfg.transport;
    uint64_t since = t == NULL ? 0 : t->active_since_ms(t->arg, id);
    return since != 0 && m->now_ms >= since + for_ms;
}

static void note_progress(const struct member *m, uint64_t id, struct census *c)
{
    struct raft_peer peers[RAFT_MEMBERS_MAX];
    size_t n = raft_peers(m->raft, peers, ARRAY_LEN(peers));
    for (size_t i = 0; i < n; i++) {
        c->match = peers[i].id == id ? peers[i].match : c->match;
        c->own_match = peers[i].id == m->cfg.member_id ? peers[i].match : c->own_match;
    }
}

static struct census take_census(const struct member *m, uint64_t target)
{
    struct census c = {
        .strict = m->cfg.strict_reconfig,
        .leads = atomic_load_explicit(&m->is_leader, memory_order_relaxed),
        .target_is_self = target == m->cfg.member_id,
    };
    size_t n = 0;
    struct member_info *members = engine_members(m->engine, &n);
    for (size_t i = 0; i < n; i++) {
        bool started = members[i].name[0] != '\0';
        if (members[i].id == target) {
            c.target_known = true;
            c.target_started = started;
            c.target_learner = members[i].is_learner;
            c.target_active = is_active(m, target, 0);
        }
        if (members[i].is_learner) {
            continue;
        }
        c.voters++;
        c.started += started ? 1u : 0u;
        c.active += is_active(m, members[i].id, MEMBER_ACTIVE_MS) ? 1u : 0u;
    }
    free(members);
    note_progress(m, target, &c);
    return c;
}

void change_begin(struct member *m, struct member_op *op)
{
    struct census c = take_census(m, op->change->id);
    enum err e = reconfig_check(&c, op->change->kind);
    if (e == OK && op->change->id == RAFT_NONE) {
        e = ERR_MEMBER_NOT_FOUND; /* raft would take a change of nobody for no change, and succeed */
    }
    if (e != OK) {
        member_complete(m, op, e);
        return;
    }
    op->request_id = member_next_request_id(m);
    op->data = encode(op->change, op->request_id);
    member_take_proposal(m, op);
}

/* --- leadership ------------------------------------------------------------------------------------------------ */

void transfer_begin(struct member *m, struct member_op *op)
{
    if (!atomic_load_explicit(&m->is_leader, memory_order_relaxed)) {
        member_complete(m, op, ERR_NOT_LEADER);
        return;
    }
    if (op->target == m->cfg.member_id) {
        member_complete(m, op, OK);
        return;
    }
    if (!raft_ids_has(&raft_conf(m->raft)->voters, op->target)) {
        member_complete(m, op, ERR_BAD_TRANSFEREE);
        return;
    }
    log_info(m->cfg.log, "leadership transfer starting", F_HEX("local-member-id", m->cfg.member_id), F_HEX("current-leader-member-id", m->cfg.member_id),
             F_HEX("transferee-member-id", op->target));
    raft_transfer_leader(m->raft, op->target);
    op_list_add(&m->transfers, op);
}

/* A planned stop: the op lives on the stack of the thread that waits. */
struct hand_over {
    struct member_op op;
    uint64_t timeout_ms;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void on_handed_over(struct member_op *op)
{
    struct hand_over *h = CONTAINER_OF(op, struct hand_over, op);
    pthread_mutex_lock(&h->lock);
    h->done = true;
    pthread_cond_signal(&h->cond);
    pthread_mutex_unlock(&h->lock);
}

/* On the member loop. */
static bool hand_over(struct member *m, struct member_op *op)
{
    struct hand_over *h = CONTAINER_OF(op, struct hand_over, op);
    op->err = OK;
    if (!atomic_load_explicit(&m->is_leader, memory_order_relaxed)) {
        log_info(m->cfg.log, "skipped leadership transfer; local server is not leader", F_HEX("local-member-id", m->cfg.member_id));
        return true;
    }
    if (raft_conf(m->raft)->voters.n <= 1) {
        log_info(m->cfg.log, "skipped leadership transfer for single voting member cluster", F_HEX("local-member-id", m->cfg.member_id));
        return true;
    }
    op->target = follow_best_voter(m);
    if (op->target == RAFT_NONE) {
        op->err = ERR_UNHEALTHY;
        return true;
    }
    op->deadline_ms = m->now_ms + h->timeout_ms;
    transfer_begin(m, op);
    return false;
}

/* Before a stop the others get two heartbeats to hear of the new leader: until then they forward proposals here, and here they are passed on. */
static bool is_over(const struct member *m, struct member_op *op)
{
    if (op->target != atomic_load_explicit(&m->leader, memory_order_relaxed)) {
        return false;
    }
    if (op->done != on_handed_over) {
        return true;
    }
    if (op->wait_index == 0) {
        op->wait_index = m->now_ms;
    }
    return m->now_ms >= op->wait_index + 2u * m->cfg.heartbeat_ms;
}

/* The target went, or this member lost its followers: before a stop nobody waits for what cannot come. */
static bool is_vain(const struct member *m, const struct member_op *op)
{
    const struct member_transport *t = m->cfg.transport;
    return op->done == on_handed_over && op->wait_index == 0 && (t == NULL || t->active_since_ms(t->arg, op->target) == 0);
}

void transfer_turn(struct member *m)
{
    struct member_op *next;
    for (struct member_op *op = m->transfers.first; op != NULL; op = next) {
        next = op->list_next;
        bool over = is_over(m, op);
        bool late = op->deadline_ms <= m->now_ms; /* each has its own time */
        if (over) {
            log_info(m->cfg.log, "leadership transfer finished", F_HEX("local-member-id", m->cfg.member_id), F_HEX("transferee-member-id", op->target));
        }
        if (over || late || is_vain(m, op)) {
            op_list_remove(&m->transfers, op);
            member_complete(m, op, over ? OK : late ? ERR_TIMEOUT_TRANSFER : ERR_UNHEALTHY);
        }
    }
}

enum err member_hand_over(struct member *m, uint64_t timeout_ms)
{
    struct hand_over h = {.timeout_ms = timeout_ms};
    pthread_mutex_init(&h.lock, NULL);
    pthread_cond_init(&h.cond, NULL);
    h.op.kind = MEMBER_CALL;
    h.op.call = hand_over;
    h.op.done = on_handed_over;
    enum err e = member_submit(m, &h.op);
    if (e == OK) {
        pthread_mutex_lock(&h.lock);
        while (!h.done) {
            pthread_cond_wait(&h.cond, &h.lock);
        }
        pthread_mutex_unlock(&h.lock);
        e = h.op.err;
    }
    pthread_cond_destroy(&h.cond);
    pthread_mutex_destroy(&h.lock);
    return e;
}
