/* watch.h - who wants to know what changed.
 *
 * What        Each I/O loop owns one hub with the watchers of its connections, so that matching needs no lock. A
 *             watcher is a cursor over the one ordered feed of changes: `next` is the lowest revision it has not been given.
 *             Live watchers are matched against each batch as it arrives; all others are catching up: one shared scan of history, in bounded
 *             slices, brings them to the feed's end, where they turn live. A watcher whose stream is full just goes back to catching up: it
 *             is never buffered without bound and never dropped.
 * Callers     api/etcd/watch.
 * Thread      the hub's loop. Batches come from the member loop through the loop's inbox.
 * Invariants  For each watcher, checked at every delivery: revisions ascend, none below its start, none twice, none of one revision apart
 *             from the rest of it; progress never names a revision whose changes were not delivered.
 */
#ifndef ENGINE_WATCH_H
#define ENGINE_WATCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

/* One change. Everything here is immutable; the encodings are made once, by whoever builds the batch. */
struct change {
    struct rev rev;
    bool deleted;
    bool created;    /* a put with version 1 */
    struct slice key; /* within kv */
    struct buf *kv;  /* encoded KeyValue of the event: the record itself, or key and mod_revision of a deletion */
};
struct event_batch {
    _Atomic uint32_t refs;
    int64_t revision;
    size_t n;
    struct change changes[]; /* by ascending sub */
};
struct event_batch *event_batch_ref(struct event_batch *b);
void event_batch_unref(struct event_batch **b);

struct watch_hub; /* opaque */
struct watcher;   /* opaque */

enum watch_filter { WATCH_NO_PUT = 1, WATCH_NO_DELETE = 2 };

/* What a watcher is given at a time: whole revisions, ascending. */
struct watch_delivery {
    const struct slice *events; /* each an encoded `events` field of WatchResponse: tag, length, Event */
    size_t n_events;
    size_t bytes;            /* sum of their lengths */
    int64_t header_revision; /* for the response header */
    bool last_of_revision;   /* always true today */
};

struct watch_owner {
    /* false: no room now; the watcher has kept its place and waits for watch_resume. */
    bool (*deliver)(void *arg, struct watcher *w, const struct watch_delivery *d);
    /* The revision it needs is compacted; the watcher is dead and stays so until watch_remove. */
    void (*compacted)(void *arg, struct watcher *w, int64_t compact_revision);
};

struct watch_spec {
    struct slice key;       /* copied */
    struct slice range_end; /* copied; empty: one key; "\0": all from key */
    int64_t start_revision; /* 0: from the live revision on */
    unsigned filters;
    bool prev_kv;
    const struct watch_owner *owner;
    void *arg;
};

#define WATCH_SLICE_REVISIONS 1000u     /* most revisions in one delivery of history */
#define WATCH_SLICE_BYTES (1u << 20)    /* history read per watch_hub_step */

struct watch_hub *watch_hub_create(struct engine *e, struct metrics *m);
void watch_hub_destroy(struct watch_hub **h);

/* Returns the watcher; *live_revision is the revision for the created response. */
struct watcher *watch_add(struct watch_hub *h, const struct watch_spec *spec, int64_t *live_revision);
void watch_remove(struct watch_hub *h, struct watcher **w);
void *watcher_arg(const struct watcher *w);
/* Room again after deliver said false. */
void watch_resume(struct watch_hub *h, struct watcher *w);

/* A batch from the feed; revisions arrive in order, each exactly once. Takes the reference. */
void watch_hub_feed(struct watch_hub *h, struct event_batch *b);
/* The engine's state was replaced by a snapshot (engine_adopt): the feed goes on behind `revision`. Live watchers go back to catching up from where they
 * are; batches at or below `revision` that arrive later are dropped. */
void watch_hub_restored(struct watch_hub *h, int64_t revision);
/* One slice of history for those who catch up. true: more to do (call again next turn). */
bool watch_hub_step(struct watch_hub *h);

/* Live, with nothing undelivered up to the hub's revision, and that is not before its start revision. */
bool watcher_synced(const struct watch_hub *h, const struct watcher *w);
int64_t watch_hub_revision(const struct watch_hub *h); /* of the last batch seen, or live at creation */

/* --- the feed's past, from the engine [any] ------------------------------------------------------------- */

/* Changes with main revision in [from, to], whole revisions, until n_revisions_max or bytes_max is passed: calls `each` with every one.
 * *next is the revision to go on with (to + 1 when done). ERR_COMPACTED when `from` is below the compact revision; ERR_CORRUPT, ERR_IO. */
MUST_CHECK enum err engine_history(struct engine *e, int64_t from, int64_t to, size_t n_revisions_max, size_t bytes_max,
                                   void (*each)(void *arg, const struct change *c), void *arg, int64_t *next, struct err_ctx *ec);
/* The KeyValue of `key` as of revision `at`: *out is a new reference, NULL when there was none or it is compacted. */
MUST_CHECK enum err engine_kv_at(struct engine *e, struct slice key, int64_t at, struct buf **out, struct err_ctx *ec);

#endif
