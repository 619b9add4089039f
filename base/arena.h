/* arena.h - memory of one request, freed at once.
 *
 * What        Bump allocation from chunks, with a cap. Nothing long-lived points into an arena:
 *             what outlives the request is copied into a struct buf.
 * Callers     api (one per call), engine (scratch of one apply).
 * Thread      its owner's.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena; /* opaque */

/* An arena that hands out at most `bytes_max` in total. The first chunk is `first_bytes`, kept by
 * arena_reset. */
struct arena *arena_create(size_t first_bytes, size_t bytes_max);
void arena_destroy(struct arena **a);
void arena_reset(struct arena *a);

/* 16-byte aligned memory, not zeroed; NULL past the cap (the caller answers ERR_LIMIT). */
void *arena_alloc(struct arena *a, size_t size);
void *arena_calloc(struct arena *a, size_t n, size_t size);
void *arena_dup(struct arena *a, const void *data, size_t len);
size_t arena_used(const struct arena *a);

#endif
