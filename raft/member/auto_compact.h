/* auto_compact.h - when history is compacted without being asked.
 *
 * What        etcd's two schedules, as a pure function of the times and revisions handed in. PERIODIC keeps about `retention` of history: the revision is
 *             sampled every tenth of min(retention, 1 h); after the first whole retention, history goes up to the oldest sample, and from then on
 *             every min(retention, 1 h). REVISION keeps the last `retention` revisions, looked at every five minutes.
 * Callers     raft/member/duties_compact.c.
 * Thread      the member loop.
 * Invariants  Every member samples; who does not lead compacts nothing. Nothing is proposed while a proposal is under way.
 * Source      etcd-server.md 6.1
 */
#ifndef RAFT_MEMBER_AUTO_COMPACT_H
#define RAFT_MEMBER_AUTO_COMPACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUTO_COMPACT_SAMPLES_MAX 100001u   /* kept; with a longer retention (over 10,000 h) samples are taken farther apart */
#define AUTO_COMPACT_INTERVAL_MS 3600000u  /* longest time between two compactions of PERIODIC */
#define AUTO_COMPACT_REVISION_MS 300000u   /* between two looks of REVISION */

enum auto_compact_mode { AUTO_COMPACT_OFF, AUTO_COMPACT_PERIODIC, AUTO_COMPACT_REVISION };

struct auto_compact_config {
    enum auto_compact_mode mode;
    int64_t retention; /* > 0; PERIODIC: milliseconds; REVISION: revisions */
};

struct auto_compact {
    struct auto_compact_config cfg;
    uint64_t interval_ms; /* between two compactions */
    uint64_t tick_ms;
    uint64_t next_ms;     /* of the next tick */
    uint64_t success_ms;  /* the last one; at first the start */
    int64_t target;       /* of the last one */
    bool tried;           /* the first retention has gone by */
    bool busy;            /* a compaction was asked for and has not ended */
    int64_t *samples;     /* owned; a ring, oldest at `first` */
    size_t first, n, cap, n_max;
};

/* The first tick is one tick after `now_ms`; `revision` is the first sample. */
void auto_compact_init(struct auto_compact *a, const struct auto_compact_config *cfg, uint64_t now_ms, int64_t revision);
void auto_compact_deinit(struct auto_compact *a);
/* To be called now and then, and no later than next_ms. true: compact to *target now, and tell auto_compact_done. */
bool auto_compact_tick(struct auto_compact *a, uint64_t now_ms, int64_t revision, bool leads, int64_t *target);
/* The compaction has ended; `ok` also when that revision was compacted before. */
void auto_compact_done(struct auto_compact *a, uint64_t now_ms, int64_t target, bool ok);

#endif
