/* watch.c - the hub: who stands where in the feed.
 *
 *     WAITING ──► LIVE        when placed, its next revision is above the hub's
 *     WAITING ──► CATCHING    when placed, otherwise
 *     CATCHING ──► LIVE       at the feed's end
 *     CATCHING ──► DEAD       compacted
 *     LIVE, CATCHING ──► WAITING   its stream is full
 *     LIVE ──► CATCHING       a snapshot took the place of what would have come by the feed
 *
 * A watcher is WAITING when it is new, or when its stream was full and watch_resume has not been
 * called. Only LIVE ones are matched against batches, only CATCHING ones against history; both by
 * group, and the watchers of one group and kind share their events.
 *
 * Scan        One slice of history serves every CATCHING watcher whose `next` lies within it; those
 *             before it wait and those behind it are skipped. The scan goes upwards and starts
 *             anew from the lowest when nobody far from the feed's end is ahead of it, so that
 *             late joiners cannot hold it at the far end for ever. Every other slice goes to
 *             those near the feed's end, so that a stream that was full for a moment does not
 *             wait for a long scan. All read up to the hub's revision, and whoever has got that
 *             far is LIVE: the next batch is the first it has not seen.
 *
 * Callbacks   may add, resume and remove watchers. While one runs no list changes under the loops:
 *             additions and resumptions are remembered and take place at the end of the dispatch;
 *             removals only mark.
 */
#include "engine/watch.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/watch_dispatch.h"
#include "engine/watch_match.h"

enum watcher_state { WAITING, CATCHING, LIVE, DEAD, N_STATES };

#define BIT(s) (1u << (unsigned)(s))
static const unsigned legal[N_STATES] = {
    [WAITING] = BIT(CATCHING) | BIT(LIVE),
    [CATCHING] = BIT(WAITING) | BIT(LIVE) | BIT(DEAD),
    [LIVE] = BIT(WAITING) | BIT(CATCHING),
    [DEAD] = 0,
};
static const enum watch_list list_of[N_STATES] = {
    [WAITING] = LIST_PARKED, [CATCHING] = LIST_CATCHING, [LIVE] = LIST_LIVE, [DEAD] = LIST_PARKED};

struct watcher {
    struct watch_group *group;
    struct watcher *following; /* of the same list of the group */
    struct watcher **pointed_at_by;
    /* Lowest revision not given. Kept up for LIVE ones only when something is given to them: what
     * they have seen is all before the hub's revision too. */
    int64_t next;
    int64_t start; /* progress may be told from here on */
    const struct watch_owner *owner;
    void *arg;
    uint32_t catcher; /* place among the hub's catchers while CATCHING */
    uint8_t filters;
    bool prev_kv;
    uint8_t state;
    bool removed;  /* in a dispatch: to be freed at its end */
    bool resumed;  /* in a dispatch: to be placed at its end */
    bool deferred; /* stands in the hub's list for the end of the dispatch */
};

struct watch_hub {
    struct engine *engine;
    struct watch_matcher *matcher;
    struct watch_dispatch *dispatch;
    int64_t revision;
    bool dispatching;
    struct watcher **catchers; /* owned */
    size_t n_catchers, cap_catchers;
    struct watcher **deferred; /* owned */
    size_t n_deferred, cap_deferred;
    int64_t scan_from;                         /* the slice after this one begins here or later */
    bool near_turn;                            /* the next slice is for those near the feed's end */
    struct gauge *watchers_gauge, *slow_gauge; /* NULL without metrics */
    struct counter *events_counter;
};

/* --- lists and states
 * --------------------------------------------------------------------------------- */

static void link_to(struct watcher *w, enum watch_list list)
{
    struct watcher **head = &w->group->lists[list];
    w->following = *head;
    w->pointed_at_by = head;
    if (*head != NULL) {
        (*head)->pointed_at_by = &w->following;
    }
    *head = w;
}

static void unlink_from_list(struct watcher *w)
{
    *w->pointed_at_by = w->following;
    if (w->following != NULL) {
        w->following->pointed_at_by = w->pointed_at_by;
    }
}

static struct watcher **append(struct watcher **list, size_t *n, size_t *cap, struct watcher *w)
{
    if (*n == *cap) {
        *cap = *cap == 0 ? 16 : *cap * 2;
        list = xrealloc(list, *cap * sizeof(struct watcher *));
    }
    list[(*n)++] = w;
    return list;
}

static void leave_catchers(struct watch_hub *h, struct watcher *w)
{
    struct watcher *last = h->catchers[--h->n_catchers];
    ASSERT(h->catchers[w->catcher] == w);
    h->catchers[w->catcher] = last;
    last->catcher = w->catcher;
}

/* A watcher that is neither live nor dead is behind: etcd calls it slow. */
static bool is_slow(const struct watcher *w)
{
    return w->state == WAITING || w->state == CATCHING;
}

static void count_slow(struct watch_hub *h, const struct watcher *w, double n)
{
    if (h->slow_gauge != NULL && is_slow(w)) {
        gauge_add(h->slow_gauge, n);
    }
}

static void move(struct watch_hub *h, struct watcher *w, enum watcher_state to)
{
    ASSERT((legal[w->state] & BIT(to)) != 0);
    if (w->state == CATCHING) {
        leave_catchers(h, w);
    }
    count_slow(h, w, -1);
    unlink_from_list(w);
    w->state = (uint8_t)to;
    link_to(w, list_of[to]);
    count_slow(h, w, 1);
    if (to == CATCHING) {
        w->catcher = (uint32_t)h->n_catchers;
        h->catchers = append(h->catchers, &h->n_catchers, &h->cap_catchers, w);
    }
}

/* Where a waiting watcher belongs. */
static void place(struct watch_hub *h, struct watcher *w)
{
    w->resumed = false;
    move(h, w, w->next > h->revision ? LIVE : CATCHING);
}

static void watcher_free(struct watch_hub *h, struct watcher *w)
{
    struct watch_group *g = w->group;
    if (w->state == CATCHING) {
        leave_catchers(h, w);
    }
    count_slow(h, w, -1);
    unlink_from_list(w);
    free(w);
    g->n_watchers--;
    if (g->n_watchers == 0) {
        watch_matcher_remove(h->matcher, &g);
    }
    if (h->watchers_gauge != NULL) {
        gauge_add(h->watchers_gauge, -1);
    }
}

/* --- dispatching: no list changes between begin and end, except by the loops themselves
 * --------------------- */

static void defer(struct watch_hub *h, struct watcher *w)
{
    if (!w->deferred) {
        w->deferred = true;
        h->deferred = append(h->deferred, &h->n_deferred, &h->cap_deferred, w);
    }
}

static void begin_dispatch(struct watch_hub *h)
{
    ASSERT(!h->dispatching);
    h->dispatching = true;
}

static void end_dispatch(struct watch_hub *h)
{
    watch_dispatch_reset(h->dispatch);
    for (size_t i = 0; i < h->n_deferred; i++) {
        struct watcher *w = h->deferred[i];
        w->deferred = false;
        if (w->removed) {
            watcher_free(h, w);
        } else if (w->resumed && w->state == WAITING) {
            place(h, w);
        }
    }
    h->n_deferred = 0;
    h->dispatching = false;
}

/* The invariants of a delivery: see watch.h. */
static void check_delivery(const struct watcher *w, const struct watch_delivery *d, int64_t first,
                           int64_t last)
{
    ASSERT(first >= w->next);
    ASSERT(first >= w->start);
    ASSERT(last >= first);
    ASSERT(last <= d->header_revision);
}

/* Offer the chosen group's events from w->next on. On success, also when there are none, `next` is
 * `done`; else the watcher waits. */
static void offer(struct watch_hub *h, struct watcher *w, int64_t done)
{
    struct watch_delivery d;
    int64_t first = 0;
    int64_t last = 0;
    watch_dispatch_events(h->dispatch, w->filters, w->prev_kv, w->next, &d, &first, &last);
    if (d.n_events == 0) {
        w->next = done;
        return;
    }
    d.header_revision = h->revision;
    check_delivery(w, &d, first, last);
    ASSERT(last < done);
    w->resumed = false;
    bool taken = w->owner->deliver(w->arg, w, &d);
    if (taken) {
        w->next = done;
        if (h->events_counter != NULL) {
            counter_add(h->events_counter, d.n_events);
        }
    } else if (!w->removed) {
        /* What lies before the first event is not for this watcher. */
        w->next = first;
        move(h, w, WAITING);
        if (w->resumed) {
            defer(h, w);
        }
    }
}

/* --- live
 * ------------------------------------------------------------------------------------------------------
 */

void watch_hub_feed(struct watch_hub *h, struct event_batch *b)
{
    ASSERT(!h->dispatching);
    /* Batches that were under way when the hub was made, or when it was told of a snapshot, are in
     * its past already. */
    if (b->revision <= h->revision) {
        event_batch_unref(&b);
        return;
    }
    ASSERT(b->revision == h->revision + 1);
    begin_dispatch(h);
    h->revision = b->revision;
    for (size_t i = 0; i < b->n; i++) {
        ASSERT(b->changes[i].rev.main == b->revision);
        watch_dispatch_add(h->dispatch, h->matcher, LIST_LIVE, &b->changes[i]);
    }
    struct watch_group *g = NULL;
    for (size_t i = 0; (g = watch_dispatch_group(h->dispatch, i)) != NULL; i++) {
        struct watcher *following = NULL;
        for (struct watcher *w = g->lists[LIST_LIVE]; w != NULL; w = following) {
            following = w->following;
            if (!w->removed && w->next <= b->revision) {
                offer(h, w, b->revision + 1);
            }
        }
    }
    end_dispatch(h);
    event_batch_unref(&b);
}

struct restoring {
    struct watch_hub *h;
    int64_t seen; /* by those who were live */
};

static void restore_group(void *arg, struct watch_group *g)
{
    const struct restoring *r = arg;
    struct watcher *following = NULL;
    for (struct watcher *w = g->lists[LIST_LIVE]; w != NULL; w = following) {
        following = w->following;
        w->next = w->next > r->seen ? w->next : r->seen + 1;
        if (w->next <= r->h->revision) {
            move(r->h, w, CATCHING);
        }
    }
}

void watch_hub_restored(struct watch_hub *h, int64_t revision)
{
    ASSERT(!h->dispatching);
    /* A hub made after the engine took the snapshot knows its revision, or a later one. */
    if (revision <= h->revision) {
        return;
    }
    struct restoring r = {.h = h, .seen = h->revision};
    h->revision = revision;
    watch_matcher_each(h->matcher, restore_group, &r);
}

/* --- catching up
 * -------------------------------------------------------------------------------------------------
 */

static void collect(void *arg, const struct change *c)
{
    struct watch_hub *h = arg;
    watch_dispatch_add(h->dispatch, h->matcher, LIST_CATCHING, c);
}

/* Where the next slice begins: always at some watcher's `next`. */
static int64_t choose_slice(struct watch_hub *h)
{
    int64_t near_from = h->revision - (int64_t)WATCH_SLICE_REVISIONS;
    int64_t lowest = INT64_MAX;
    int64_t ahead = INT64_MAX;
    int64_t near = INT64_MAX;
    for (size_t i = 0; i < h->n_catchers; i++) {
        int64_t next = h->catchers[i]->next;
        lowest = next < lowest ? next : lowest;
        if (next > near_from) {
            near = next < near ? next : near;
        } else if (next >= h->scan_from) {
            ahead = next < ahead ? next : ahead;
        }
    }
    h->near_turn = !h->near_turn;
    if (h->near_turn && near != INT64_MAX) {
        return near;
    }
    int64_t from = ahead != INT64_MAX ? ahead : lowest;
    h->scan_from = from;
    return from;
}

static void kill_compacted(struct watch_hub *h)
{
    int64_t compact_revision = engine_compact_revision(h->engine);
    begin_dispatch(h);
    /* Backwards, because who leaves is replaced by the last. */
    for (size_t i = h->n_catchers; i > 0; i--) {
        struct watcher *w = h->catchers[i - 1];
        if (w->next < compact_revision && !w->removed) {
            move(h, w, DEAD);
            w->owner->compacted(w->arg, w, compact_revision);
        }
    }
    end_dispatch(h);
}

static bool within(const struct watcher *w, int64_t from, int64_t to)
{
    return !w->removed && w->next >= from && w->next < to;
}

/* Everything collected is of revisions from..to-1, and all of theirs. */
static void serve(struct watch_hub *h, int64_t from, int64_t to)
{
    struct watch_group *g = NULL;
    for (size_t i = 0; (g = watch_dispatch_group(h->dispatch, i)) != NULL; i++) {
        struct watcher *following = NULL;
        for (struct watcher *w = g->lists[LIST_CATCHING]; w != NULL; w = following) {
            following = w->following;
            if (within(w, from, to)) {
                offer(h, w, to);
            }
        }
    }
    for (size_t i = h->n_catchers; i > 0; i--) {
        struct watcher *w = h->catchers[i - 1];
        if (within(w, from, to)) { /* nothing in the slice was for its range */
            w->next = to;
        }
        if (!w->removed && w->next > h->revision) {
            move(h, w, LIVE);
        }
    }
}

bool watch_hub_step(struct watch_hub *h)
{
    ASSERT(!h->dispatching);
    if (h->n_catchers == 0) {
        return false;
    }
    int64_t from = choose_slice(h);
    int64_t next = from;
    struct err_ctx ec;
    enum err e = engine_history(h->engine, from, h->revision, WATCH_SLICE_REVISIONS,
                                WATCH_SLICE_BYTES, collect, h, &next, &ec);
    if (e != OK) {
        watch_dispatch_reset(h->dispatch);
        if (e == ERR_COMPACTED) {
            kill_compacted(h);
            return h->n_catchers > 0;
        }
        /* A damaged store is the engine's to report. Everybody keeps the place; nothing is gained
         * by calling again at once. */
        return false;
    }
    ASSERT(next > from);
    ASSERT(next <= h->revision + 1);
    if (from == h->scan_from) {
        h->scan_from = next;
    }
    begin_dispatch(h);
    serve(h, from, next);
    end_dispatch(h);
    return h->n_catchers > 0;
}

/* --- the hub and its watchers
 * ----------------------------------------------------------------------------------------- */

struct watch_hub *watch_hub_create(struct engine *e, struct metrics *m)
{
    struct watch_hub *h = xcalloc(1, sizeof(*h));
    h->engine = e;
    h->matcher = watch_matcher_create();
    h->dispatch = watch_dispatch_create(e);
    h->revision = engine_revision(e);
    if (m != NULL) {
        h->watchers_gauge = metrics_gauge(m, "etcd_debugging_mvcc_watcher_total",
                                          "Total number of watchers.", NULL);
        h->slow_gauge = metrics_gauge(m, "etcd_debugging_mvcc_slow_watcher_total",
                                      "Total number of unsynced slow watchers.", NULL);
        h->events_counter = metrics_counter(m, "etcd_debugging_mvcc_events_total",
                                            "Total number of events sent by this member.", NULL);
    }
    return h;
}

static void free_group_watchers(void *arg, struct watch_group *g)
{
    struct watch_hub *h = arg;
    for (size_t i = 0; i < N_LISTS; i++) {
        while (g->lists[i] != NULL) {
            struct watcher *w = g->lists[i];
            g->lists[i] = w->following;
            count_slow(h, w, -1);
            if (h->watchers_gauge != NULL) {
                gauge_add(h->watchers_gauge, -1);
            }
            free(w);
        }
    }
}

void watch_hub_destroy(struct watch_hub **hp)
{
    struct watch_hub *h = *hp;
    *hp = NULL;
    if (h == NULL) {
        return;
    }
    ASSERT(!h->dispatching);
    watch_matcher_clear(h->matcher, free_group_watchers, h);
    watch_matcher_destroy(&h->matcher);
    watch_dispatch_destroy(&h->dispatch);
    free(h->catchers);
    free(h->deferred);
    free(h);
}

struct watcher *watch_add(struct watch_hub *h, const struct watch_spec *spec,
                          int64_t *live_revision)
{
    int64_t live = engine_revision(h->engine);
    struct watcher *w = xcalloc(1, sizeof(*w));
    w->group = watch_matcher_group(h->matcher, spec->key, spec->range_end);
    w->group->n_watchers++;
    /* The live revision may be ahead of the hub's: what is on its way here happened before this
     * watcher. */
    w->next = spec->start_revision > 0 ? spec->start_revision : live + 1;
    w->start = spec->start_revision > 0 ? spec->start_revision : live;
    w->owner = spec->owner;
    w->arg = spec->arg;
    w->filters = (uint8_t)(spec->filters & (WATCH_NO_PUT | WATCH_NO_DELETE));
    w->prev_kv = spec->prev_kv;
    w->state = WAITING;
    link_to(w, LIST_PARKED);
    count_slow(h, w, 1);
    if (h->watchers_gauge != NULL) {
        gauge_add(h->watchers_gauge, 1);
    }
    if (h->dispatching) {
        w->resumed = true;
        defer(h, w);
    } else {
        place(h, w);
    }
    *live_revision = live;
    return w;
}

void watch_remove(struct watch_hub *h, struct watcher **wp)
{
    struct watcher *w = *wp;
    *wp = NULL;
    if (w == NULL) {
        return;
    }
    ASSERT(!w->removed);
    if (h->dispatching) {
        w->removed = true;
        defer(h, w);
    } else {
        watcher_free(h, w);
    }
}

void *watcher_arg(const struct watcher *w)
{
    return w->arg;
}

void watch_resume(struct watch_hub *h, struct watcher *w)
{
    ASSERT(!w->removed);
    if (h->dispatching) {
        /* Perhaps from within its own delivery, about to be refused. */
        w->resumed = true;
        if (w->state == WAITING) {
            defer(h, w);
        }
    } else if (w->state == WAITING) {
        place(h, w);
    }
}

bool watcher_synced(const struct watch_hub *h, const struct watcher *w)
{
    return w->state == LIVE && h->revision >= w->start;
}

int64_t watch_hub_revision(const struct watch_hub *h)
{
    return h->revision;
}
