/* intervals.h - ranges of keys, found by what overlaps them.
 *
 * What        A tree of [key, end) ranges in the order of their keys. Each node knows which range below it ends last, so that the ones that
 *             overlap another range are found without looking at the rest. Its shape hangs on a counter alone (a treap).
 * Callers     api/proxy/cache.c.   Thread  pure.
 * Cost        intervals_add and intervals_remove: log n steps. intervals_take: log n steps, and as many for each that it takes.
 * Lifetime    Nodes are embedded in what they stand for; their bytes stay the owner's.
 */
#ifndef API_PROXY_INTERVALS_H
#define API_PROXY_INTERVALS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct interval {
    /* The owner's, not to be changed while it is in a tree. `end` as in a RangeRequest: empty, the key alone; "\0", all that follow. */
    struct slice key, end;
    /* Private. */
    struct interval *left, *right;
    struct interval *last; /* of this and all below, one that no other outlasts */
    uint64_t number; /* of equal keys the one that was added first comes first */
    uint64_t weight; /* no less than of any below */
};

/* Zeroed at first. */
struct intervals {
    struct interval *root;
    uint64_t n_added;
};

void intervals_add(struct intervals *t, struct interval *i);
void intervals_remove(struct intervals *t, struct interval *i); /* which is in it */
/* Take out all that overlap [key, end). They come as a list by `right`, in the order of their keys. */
struct interval *intervals_take(struct intervals *t, struct slice key, struct slice end);

#endif
