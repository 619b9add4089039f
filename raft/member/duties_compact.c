/* duties_compact.c - a leader compacts history by the schedule of auto_compact.h. */
#include "raft/member/internal.h"

#include "base/assert.h"

static void log_step(struct member *m, enum log_level level, const char *periodic, const char *revision, int64_t target, struct log_field last,
                     struct log_field error)
{
    const struct auto_compact_config *c = &m->auto_compact.cfg;
    bool by_time = c->mode == AUTO_COMPACT_PERIODIC;
    struct log_field fields[4] = {F_INT("revision", target), F_INT("revision-compaction-retention", c->retention), last, error};
    if (by_time) {
        fields[1] = (struct log_field)F_NS("compact-period", (uint64_t)c->retention * 1000000u);
    }
    size_t n = last.key == NULL ? 2 : error.key == NULL ? 3 : 4;
    log_emit(m->cfg.log, level, __FILE__, __LINE__, by_time ? periodic : revision, fields, n);
}

static void on_compacted(struct member_op *op)
{
    struct member *m = duty_member(op);
    struct auto_compact *a = &m->auto_compact;
    int64_t target = m->auto_compact_target;
    bool ok = op->err == OK || op->err == ERR_COMPACTED;
    if (ok) {
        log_step(m, LOG_INFO, "completed auto periodic compaction", "completed auto revision compaction", target,
                 (struct log_field)F_NS("took", (m->now_ms - m->auto_compact_since_ms) * 1000000u), (struct log_field){0});
    } else {
        log_step(m, LOG_WARN, "failed auto periodic compaction", "failed auto revision compaction", target,
                 (struct log_field)F_NS("retry-interval", a->tick_ms * 1000000u), (struct log_field)F_STR("error", err_text(op->err)));
    }
    auto_compact_done(a, m->now_ms, target, ok);
    duty_forget(op);
}

void duties_auto_compact(struct member *m)
{
    struct auto_compact *a = &m->auto_compact;
    if (m->cfg.auto_compact.mode == AUTO_COMPACT_OFF) {
        return;
    }
    if (a->cfg.mode == AUTO_COMPACT_OFF) { /* the first turn */
        auto_compact_init(a, &m->cfg.auto_compact, m->now_ms, engine_revision(m->engine));
    }
    if (m->now_ms < a->next_ms) {
        return;
    }
    int64_t target = 0;
    bool leads = atomic_load_explicit(&m->is_leader, memory_order_relaxed);
    if (!auto_compact_tick(a, m->now_ms, engine_revision(m->engine), leads, &target)) {
        return;
    }
    m->auto_compact_target = target;
    m->auto_compact_since_ms = m->now_ms;
    log_step(m, LOG_INFO, "starting auto periodic compaction", "starting auto revision compaction", target, (struct log_field){0}, (struct log_field){0});
    Etcdserverpb__CompactionRequest compaction = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    compaction.revision = target;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.compaction = &compaction;
    duty_propose(m, &r, on_compacted);
}
