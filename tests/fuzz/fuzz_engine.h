/* fuzz_engine.h - an engine in memory that outlives crashes.
 *
 * Callers     fuzz_apply, fuzz_request.   Thread  the harness's.
 */
#ifndef TESTS_FUZZ_FUZZ_ENGINE_H
#define TESTS_FUZZ_FUZZ_ENGINE_H

#include "base/assert.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/watch.h"

struct fuzz_engine {
    struct backend *backend;
    struct backend_ops kept_ops; /* the backend's, without its close */
    struct engine *e;
};

static inline void fuzz_engine_changed(void *arg, struct event_batch *batch)
{
    (void)arg;
    ASSERT(batch->n > 0);
    event_batch_unref(&batch);
}

static inline void fuzz_engine_stored(void *arg, uint64_t index, uint64_t index_before)
{
    (void)arg;
    ASSERT(index >= index_before);
}

static inline void fuzz_engine_compacted(void *arg, const struct compaction_report *report)
{
    (void)arg;
    ASSERT(report->revision > report->before);
}

/* A backend in memory does not fail, and no entry may halt the engine. */
static inline void fuzz_engine_failed(void *arg, enum err e, const struct err_ctx *ec)
{
    (void)arg;
    (void)e;
    (void)ec;
    UNREACHABLE();
}

static inline void fuzz_engine_load(struct fuzz_engine *f)
{
    static const struct engine_events events = {fuzz_engine_changed, fuzz_engine_stored,
                                                fuzz_engine_compacted, fuzz_engine_failed};
    const struct engine_config cfg = {.backend = f->backend,
                                      .cluster_id = 1,
                                      .member_id = 2,
                                      .quota_bytes = INT64_MAX,
                                      .min_lease_ttl_s = 2,
                                      .compaction_batch_limit = 10,
                                      .events = &events};
    struct err_ctx ec = {{0}};
    enum err e = engine_open(&cfg, &f->e, &ec);
    ASSERT(e == OK);
}

static inline void fuzz_engine_open(struct fuzz_engine *f)
{
    f->backend = backend_mem_create();
    fuzz_engine_load(f);
}

static inline void fuzz_engine_keep(struct backend **b)
{
    *b = NULL;
}

/* Power goes and comes back: what was not committed is gone, and with `undo_last` the last commit
 * too. */
static inline void fuzz_engine_crash(struct fuzz_engine *f, bool undo_last)
{
    const struct backend_ops *own = f->backend->ops;
    f->kept_ops = *own;
    f->kept_ops.close = fuzz_engine_keep;
    f->backend->ops = &f->kept_ops;
    engine_close(&f->e);
    f->backend->ops = own;
    backend_mem_crash(f->backend, undo_last);
    fuzz_engine_load(f);
}

static inline void fuzz_engine_flush(struct fuzz_engine *f)
{
    bool more = false;
    struct err_ctx ec = {{0}};
    enum err e = engine_flush(f->e, false, &more, &ec);
    ASSERT(e == OK);
    (void)engine_step(f->e);
}

#endif
