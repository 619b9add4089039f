/* auth_range.h - sets of keys as sorted, disjoint intervals.
 *
 * What        The union of a user's permissions, separately for reading and writing. Overlapping
 * and adjacent intervals become one, so a request may be covered by the permissions of several
 * roles together. Callers     engine/auth, engine/demand. Thread      its owner's. Slices are
 * borrowed: whoever owns the keys drops the set before he frees them. Invariants  Ascending; a gap
 * lies between one interval and the next. A lookup costs O(log n) comparisons. Source
 * etcd-v3-api.md 8.4.
 */
#ifndef ENGINE_AUTH_RANGE_H
#define ENGINE_AUTH_RANGE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

/* The end of an interval: right before `bytes`, right behind it (the one key), or nowhere. */
enum end_kind { END_BEFORE, END_BEHIND, END_NEVER };
struct key_end {
    enum end_kind kind;
    struct slice bytes;
};
struct key_span {
    struct slice from;
    struct key_end to;
};

struct span_set {
    struct key_span *v; /* owned */
    size_t n;
    size_t cap;
};

/* What (key, range_end) of a request or a permission means. */
struct key_span key_span_of(struct slice key, struct slice range_end);

/* Non-empty key; and one key, or from the key on, or an end above the key. */
bool permission_range_valid(struct slice key, struct slice range_end);

/* Collect spans in any order; those that hold no key are left out. Then merge once. */
void span_set_add(struct span_set *s, struct key_span span);
void span_set_merge(struct span_set *s);
void span_set_deinit(struct span_set *s);

/* One interval of the merged set holds the whole range. Of a range that ends at or before its key,
 * which matches nothing, both ends have to lie in one interval. */
bool span_set_covers(const struct span_set *s, struct slice key, struct slice range_end);

/* The same of a single range, given as key and range_end. */
bool key_range_covers(struct slice outer_key, struct slice outer_end, struct slice key,
                      struct slice range_end);

#endif
