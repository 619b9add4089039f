/* store.c - the store's side: what is done with what was applied, and the news about it.
 *
 * The log carries durability, so there is no hurry: whoever plays the store flushes when ENGINE_FLUSH_BYTES are pending or the first of
 * them is ENGINE_FLUSH_MS old.
 */
#include "raft/member/internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

/* --- news from the engine -------------------------------------------------------------------------------- */

static void on_changed(void *arg, struct event_batch *batch)
{
    ops_changed(arg, batch);
}

static void on_stored(void *arg, uint64_t index, uint64_t index_before)
{
    struct news *n = xcalloc(1, sizeof(*n));
    n->head.kind = MEMBER_NEWS_STORED;
    n->index = index;
    n->index_before = index_before;
    member_post(arg, n);
}

static void on_compacted(void *arg, const struct compaction_report *r)
{
    measure_compacted(arg, r);
    struct news *n = xcalloc(1, sizeof(*n));
    n->head.kind = MEMBER_NEWS_COMPACTED;
    n->revision = r->revision;
    member_post(arg, n);
}

static void on_failed(void *arg, enum err e, const struct err_ctx *ec)
{
    member_fail(arg, e, ec->text);
}

const struct engine_events member_engine_events = {
    .changed = on_changed,
    .stored = on_stored,
    .compacted = on_compacted,
    .failed = on_failed,
};

/* --- serving --------------------------------------------------------------------------------------------------- */

enum err member_store_flush(struct member *m, bool force, bool *more)
{
    struct err_ctx ec = {{0}};
    enum err e = engine_flush(m->engine, force, more, &ec);
    if (e == ERR_BUSY) {
        atomic_store(&m->flush_waits, true);
        e = engine_flush(m->engine, force, more, &ec); /* of what became durable before the line above nobody is told */
    }
    if (e == ERR_BUSY) {
        return e;
    }
    if (e != OK) {
        member_fail(m, e, ec.text);
        *more = false;
    }
    return e;
}

static void answer(struct member_op *op, enum err e)
{
    op->err = e;
    op->node.next = NULL;
    if (op->port != NULL) {
        op->port->answered(op->port->arg, op, op, 1);
    } else if (op->done != NULL) {
        op->done(op);
    }
}

static void install(struct member *m, struct member_op *op, enum err e)
{
    struct err_ctx ec = {{0}};
    if (e == OK) {
        e = staged_install(op->staged, &ec);
    }
    if (e != OK) {
        log_error(m->cfg.log, "failed to install a snapshot", F_STR("error", ec.text[0] != '\0' ? ec.text : err_text(e)));
    }
    op->err = e;
    struct news *n = xcalloc(1, sizeof(*n));
    n->head.kind = MEMBER_NEWS_INSTALLED;
    n->op = op;
    member_post(m, n);
}

void member_store_serve(struct member *m, struct member_op *op, enum err flushed)
{
    struct err_ctx ec = {{0}};
    enum err e = flushed;
    if (op->kind == MEMBER_INSTALL) {
        install(m, op, e);
        return;
    }
    if (e == OK && op->kind == MEMBER_DEFRAG) {
        e = engine_defrag(m->engine, &ec);
        if (e != OK) {
            log_error(m->cfg.log, "failed to defragment the store", F_STR("error", ec.text));
        }
    }
    answer(op, e);
}
