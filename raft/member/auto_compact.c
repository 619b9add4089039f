/* auto_compact.c - see auto_compact.h.
 *
 * A tick that comes late counts once: what was missed while the machine stood still is not made up for.
 */
#include "raft/member/auto_compact.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define TICKS_PER_INTERVAL 10u
#define RING_FIRST 16u

static void sample(struct auto_compact *a, int64_t revision)
{
    if (a->cfg.mode != AUTO_COMPACT_PERIODIC) {
        return;
    }
    if (a->n == a->cap && a->cap < a->n_max) {
        size_t cap = a->cap == 0 ? RING_FIRST : 2 * a->cap;
        cap = cap > a->n_max ? a->n_max : cap;
        int64_t *more = xcalloc(cap, sizeof(*more));
        for (size_t i = 0; i < a->n; i++) {
            more[i] = a->samples[(a->first + i) % a->cap];
        }
        free(a->samples);
        a->samples = more;
        a->first = 0;
        a->cap = cap;
    }
    if (a->n == a->n_max) {
        a->first = (a->first + 1) % a->cap;
        a->n--;
    }
    a->samples[(a->first + a->n++) % a->cap] = revision;
}

void auto_compact_init(struct auto_compact *a, const struct auto_compact_config *cfg, uint64_t now_ms, int64_t revision)
{
    memset(a, 0, sizeof(*a));
    a->cfg = *cfg;
    a->success_ms = now_ms;
    if (cfg->mode == AUTO_COMPACT_OFF) {
        a->next_ms = UINT64_MAX;
        return;
    }
    ASSERT(cfg->retention > 0);
    if (cfg->mode == AUTO_COMPACT_REVISION) {
        a->interval_ms = AUTO_COMPACT_REVISION_MS;
        a->tick_ms = AUTO_COMPACT_REVISION_MS;
    } else {
        uint64_t period = (uint64_t)cfg->retention;
        a->interval_ms = period < AUTO_COMPACT_INTERVAL_MS ? period : AUTO_COMPACT_INTERVAL_MS;
        a->tick_ms = a->interval_ms / TICKS_PER_INTERVAL;
        uint64_t coarse = period / (AUTO_COMPACT_SAMPLES_MAX - 1);
        a->tick_ms = a->tick_ms < coarse ? coarse : a->tick_ms;
        a->tick_ms = a->tick_ms == 0 ? 1 : a->tick_ms;
        uint64_t n_max = period / a->tick_ms + 1;
        a->n_max = n_max > AUTO_COMPACT_SAMPLES_MAX ? AUTO_COMPACT_SAMPLES_MAX : (size_t)n_max;
    }
    a->next_ms = now_ms + a->tick_ms;
    sample(a, revision);
}

void auto_compact_deinit(struct auto_compact *a)
{
    free(a->samples);
    a->samples = NULL;
}

static bool due_periodic(struct auto_compact *a, uint64_t now_ms, int64_t *target)
{
    uint64_t wait = a->tried ? a->interval_ms : (uint64_t)a->cfg.retention;
    int64_t oldest = a->samples[a->first];
    if (now_ms - a->success_ms < wait || oldest == a->target) {
        return false;
    }
    a->tried = true;
    *target = oldest;
    return true;
}

static bool due_revision(const struct auto_compact *a, int64_t revision, int64_t *target)
{
    int64_t t = revision - a->cfg.retention; /* both are positive: no overflow */
    if (t <= 0 || t == a->target) {
        return false;
    }
    *target = t;
    return true;
}

bool auto_compact_tick(struct auto_compact *a, uint64_t now_ms, int64_t revision, bool leads, int64_t *target)
{
    if (now_ms < a->next_ms) {
        return false;
    }
    a->next_ms = now_ms + a->tick_ms;
    bool due = leads && !a->busy &&
               (a->cfg.mode == AUTO_COMPACT_PERIODIC ? due_periodic(a, now_ms, target) : due_revision(a, revision, target));
    sample(a, revision);
    a->busy = a->busy || due;
    return due;
}

void auto_compact_done(struct auto_compact *a, uint64_t now_ms, int64_t target, bool ok)
{
    a->busy = false;
    if (ok) {
        a->success_ms = now_ms;
        a->target = target;
    }
}
