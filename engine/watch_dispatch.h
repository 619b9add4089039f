/* watch_dispatch.h - what one batch, or one slice of history, holds for whom.
 *
 * What        Collects changes and the groups they hit, and encodes each change's `events` field
 * once per variant (with and without prev_kv), whoever asks for it. A group's watchers that want
 * the same kind of events share one array of slices. Callers     engine/watch.c only.   Thread  its
 * hub's. Lifetime    everything handed out is valid until the reset.
 */
#ifndef ENGINE_WATCH_DISPATCH_H
#define ENGINE_WATCH_DISPATCH_H

#include "engine/watch.h"
#include "engine/watch_match.h"

struct watch_dispatch; /* opaque */

struct watch_dispatch *watch_dispatch_create(struct engine *e);
void watch_dispatch_destroy(struct watch_dispatch **d);
void watch_dispatch_reset(struct watch_dispatch *d); /* forget all; groups lose their hits */

/* Take in a change, later than all before, and note it for every group of `m` with a watcher on
 * `list`. Keeps a reference to its KeyValue. */
void watch_dispatch_add(struct watch_dispatch *d, const struct watch_matcher *m,
                        enum watch_list list, const struct change *c);

/* The i-th group that was hit; NULL past the last. Choosing a group drops what was made for the one
 * before. */
struct watch_group *watch_dispatch_group(struct watch_dispatch *d, size_t i);

/* The chosen group's events at or after revision `from` for watchers of this kind; n_events 0 when
 * there are none. *first is the revision of the first event, *last of the last. header_revision is
 * left to the caller. */
void watch_dispatch_events(struct watch_dispatch *d, unsigned filters, bool prev_kv, int64_t from,
                           struct watch_delivery *out, int64_t *first, int64_t *last);

#endif
