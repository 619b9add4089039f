/* watch.h - the same watchers on both servers, and their events compared.
 *
 * What        A few watch streams with a few watchers each. How a server cuts events into
 *             responses is its own affair, so what is compared is each watcher's sequence of
 *             events, and each answer to create, cancel and progress requests.
 * Callers     the oracle test.   Thread  one.
 * Invariants  Requests on a stream go in lock step: both sides answer before the next one. Between
 *             barriers events are compared as far as both sides have delivered them; after a
 *             barrier both have delivered everything.
 */
#ifndef TESTS_ORACLE_WATCH_H
#define TESTS_ORACLE_WATCH_H

#include "pair.h"

#define WATCH_STREAMS 3u
#define WATCHERS_MAX 5u      /* on one stream */
#define CONTROLS_MAX 16u     /* answers waiting on one side of a stream */
#define PENDING_MAX 200000u  /* events of one watcher that one side is ahead */
#define WATCH_WAIT_MS 20000u /* for an answer or a barrier */

struct watches; /* opaque */

/* Borrows `p` until watches_destroy. NULL when the streams do not open. */
struct watches *watches_create(struct pair *p);
void watches_destroy(struct watches **w);

/* One random request: create, cancel, progress, nonsense, or a stream closed and opened anew. */
bool watches_random(struct watches *w);

/* Take what has come and compare it. Never waits. */
bool watches_drain(struct watches *w);

/* Write sentinels that every watcher must see and wait until it has, so that all is compared. Must
 * come before a compaction, since how far a watcher is decides whether that cancels it. */
bool watches_barrier(struct watches *w);

uint64_t watches_events(const struct watches *w);

#endif
