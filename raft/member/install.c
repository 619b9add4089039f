/* install.c - a snapshot from the leader takes the place of all state.
 *
 * The order matters at a crash: the new store, durable and complete, is renamed over the old one; only then the log is
 * started again behind it. Between the two the store says itself that the log has to follow (engine_installed), and recover.c makes it so.
 *
 *     op from the transport ─► raft_receive(MsgSnap) ─► raft's actions: snapshot ─► store: staged_install (rename)
 *           (staged before)        │ refused: answer             (nothing else is done meanwhile)     │
 *                                                                 log: restart_at, then `after` ◄── engine_adopt
 */
#include "raft/member/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

static void copy_ids(uint64_t *out, size_t *n, const struct raft_ids *ids)
{
    static_assert(RAFT_MEMBERS_MAX <= ENGINE_CONF_MAX, "every configuration of raft fits into the engine's");
    *n = ids->n;
    memcpy(out, ids->id, ids->n * sizeof(*out));
}

static void origin_of(const struct raft_snapshot *s, struct snapshot_origin *out)
{
    out->index = s->index;
    out->term = s->term;
    copy_ids(out->conf.voters, &out->conf.n_voters, &s->conf.voters);
    copy_ids(out->conf.learners, &out->conf.n_learners, &s->conf.learners);
    copy_ids(out->conf.voters_outgoing, &out->conf.n_voters_outgoing, &s->conf.voters_outgoing);
    copy_ids(out->conf.learners_next, &out->conf.n_learners_next, &s->conf.learners_next);
    out->conf.auto_leave = s->conf.auto_leave;
}

enum err member_stage(struct member *m, const struct bolt_source *src, const struct raft_message *message, struct staged **out, struct err_ctx *ec)
{
    *out = NULL;
    if (m->cfg.place == NULL) {
        return err_set(ec, ERR_UNSUPPORTED, "no place for a snapshot");
    }
    if (message->snapshot == NULL) {
        return err_set(ec, ERR_INVALID, "a message without a snapshot");
    }
    if (atomic_exchange_explicit(&m->staging, true, memory_order_acq_rel)) {
        return err_set(ec, ERR_BUSY, "another snapshot is being received");
    }
    struct snapshot_origin *origin = xcalloc(1, sizeof(*origin));
    origin_of(message->snapshot, origin);
    enum err e = engine_stage_of(&m->engine_cfg, m->cfg.place, src, origin, out, ec);
    free(origin);
    if (e != OK) {
        atomic_store_explicit(&m->staging, false, memory_order_release);
    }
    return e;
}

void member_stage_discard(struct member *m, struct staged **s)
{
    if (*s != NULL) {
        staged_discard(s);
        atomic_store_explicit(&m->staging, false, memory_order_release);
    }
}

static void finish(struct member *m, struct member_op *op, enum err e)
{
    member_stage_discard(m, &op->staged);
    raft_message_destroy(&op->message);
    m->install = NULL;
    measure_installing(m, false);
    member_complete(m, op, e);
}

void install_begin(struct member *m, struct member_op *op)
{
    ASSERT(m->install == NULL); /* one at a time: `staging` */
    m->install = op;
    /* Whether raft takes it has to show at once (take_inbox), which it does only while act() may run. */
    enum err e = m->n_log_inflight < MEMBER_LOG_INFLIGHT_MAX ? raft_receive(m->raft, op->message) : ERR_BUSY;
    if (e != OK) {
        log_warn(m->cfg.log, "refused a snapshot", F_HEX("from", op->message->from), F_STR("error", err_text(e)));
        finish(m, op, e);
    }
}

void install_refused(struct member *m)
{
    log_info(m->cfg.log, "ignored a snapshot that is not needed", F_UINT("snapshot-index", m->install->message->snapshot->index));
    finish(m, m->install, OK);
}

void install_place(struct member *m, struct log_batch *b)
{
    ASSERT(m->install != NULL && b->request.restart_at == staged_index(m->install->staged) + 1);
    m->installing = true;
    measure_installing(m, true);
    m->install_batch = b;
    m->store.request(m->store.arg, m->install);
}

/* The store's part is done: op->err says how. */
void install_placed(struct member *m, struct member_op *op)
{
    struct log_batch *b = m->install_batch;
    m->install_batch = NULL;
    if (op->err != OK) { /* raft has taken what the store does not hold: only a restart helps */
        log_batch_free(b);
        member_fail(m, op->err, "a snapshot could not be installed");
        finish(m, op, op->err);
        return;
    }
    uint64_t index = staged_index(op->staged);
    uint64_t term = staged_term(op->staged);
    ops_hand_on(m); /* what was changed before goes out before */
    engine_adopt(m->engine, &op->staged);
    atomic_store_explicit(&m->staging, false, memory_order_release);
    apply_drop(m, index);
    m->installing = false;
    m->n_positions = 0;
    ops_compacted(m, engine_physical_compact_revision(m->engine));
    m->store.kick(m->store.arg, false); /* an unfinished compaction may have come with the snapshot */
    m->published = false; /* the new state may not know this member's name yet */
    int64_t revision = engine_revision(m->engine);
    for (struct member_port *const *p = m->cfg.ports; *p != NULL; p++) {
        if ((*p)->restored != NULL) {
            (*p)->restored((*p)->arg, revision);
        }
    }
    act_submit(m, b);
    if (m->cfg.transport != NULL) {
        m->cfg.transport->members_changed(m->cfg.transport->arg);
    }
    log_info(m->cfg.log, "applied snapshot", F_UINT("snapshot-index", index), F_UINT("snapshot-term", term), F_INT("revision", revision));
    finish(m, op, OK);
}
