/* watch_match.h - which watched ranges contain a key.
 *
 * What        Watchers of the same range stand in one group. Groups of single keys are in a hash
 * table, groups of ranges in an interval tree, so a key costs one probe and O(log n + hits).
 * Callers     engine/watch.c only.   Thread  its hub's.
 */
#ifndef ENGINE_WATCH_MATCH_H
#define ENGINE_WATCH_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct watcher;

/* Lists of a group's watchers, by what may be given to them. */
enum watch_list {
    LIST_LIVE,     /* matched against each batch */
    LIST_CATCHING, /* served from history */
    LIST_PARKED,   /* waiting for room, or dead */
    N_LISTS
};

struct watch_group {
    /* The matcher's. */
    struct watch_group *left; /* the next of the same bucket, for a single key */
    struct watch_group *right;
    const struct watch_group *furthest; /* of the subtree: the one whose range ends last */
    uint64_t hash;
    uint32_t key_len;
    uint32_t end_len;
    bool single;
    bool endless;
    /* The hub's. */
    bool touched;                 /* has hits in the dispatch that is going on */
    uint32_t first_hit, last_hit; /* valid while touched */
    uint32_t n_watchers;          /* on all lists */
    struct watcher *lists[N_LISTS];
    uint8_t data[]; /* key, range end */
};

struct watch_matcher; /* opaque */

struct watch_matcher *watch_matcher_create(void);
void watch_matcher_destroy(struct watch_matcher **m); /* no groups are left */

/* The group of this range, made when there is none. `range_end` as in struct watch_spec. */
struct watch_group *watch_matcher_group(struct watch_matcher *m, struct slice key,
                                        struct slice range_end);
/* The group has no watchers; it is freed. */
void watch_matcher_remove(struct watch_matcher *m, struct watch_group **g);

/* Calls `each` with every group whose range contains `key`. */
void watch_matcher_stab(const struct watch_matcher *m, struct slice key,
                        void (*each)(void *arg, struct watch_group *g), void *arg);
/* Calls `each` with every group; it makes and removes none. */
void watch_matcher_each(const struct watch_matcher *m,
                        void (*each)(void *arg, struct watch_group *g), void *arg);
/* Free all groups, each after a last call of `each`. */
void watch_matcher_clear(struct watch_matcher *m, void (*each)(void *arg, struct watch_group *g),
                         void *arg);

/* Structure check for tests: order, heap, furthest ends; aborts through ASSERT. Returns the number
 * of groups. */
size_t watch_matcher_check(const struct watch_matcher *m);

#endif
