/* cache.h - answers to reads that may be given again.
 *
 * What        Answers of Range by request, the newest used ones. A write through this proxy drops what it may have changed. Others' writes are not
 *             seen: that is what a serializable read accepts. Requests of one client's token are not answered with what another was given.
 * Callers     api/proxy/kv.c.   Thread  pure; the loop's.
 * Bounds      PROXY_CACHE_*.
 * Source      etcd-server.md 9.2; etcd's server/proxy/grpcproxy/cache.
 */
#ifndef API_PROXY_CACHE_H
#define API_PROXY_CACHE_H

#include "base/err.h"
#include "base/slice.h"

struct cache; /* opaque */

/* What one read is about. `request` and `token` name it; the rest says when its answer is of no use any more. */
struct cache_read {
    struct slice request; /* in one form, whether serializable or not */
    struct slice token;
    struct slice key, end;
    int64_t revision; /* 0: the newest */
    uint64_t era;     /* cache_era when it was asked */
};

struct cache *cache_create(void);
void cache_destroy(struct cache **c);
/* Keep an answer that was given at store revision `answer_revision`: not when a write has been seen or all was forgotten since then, or the revision
 * is compacted. */
void cache_put(struct cache *c, const struct cache_read *read, int64_t answer_revision, struct slice answer);
/* OK with *answer borrowed until the cache changes; ERR_NOT_FOUND; ERR_COMPACTED. */
MUST_CHECK enum err cache_get(struct cache *c, const struct cache_read *read, struct slice *answer);
/* A write to [key, end) goes out, or has come back. */
void cache_drop(struct cache *c, struct slice key, struct slice end);
/* Nothing older may be put any more: the revision that a write of this proxy made. */
void cache_wrote(struct cache *c, int64_t revision);
/* Forget everything, what is being asked now too: someone's rights have changed. */
void cache_clear(struct cache *c);
uint64_t cache_era(const struct cache *c);
void cache_compact(struct cache *c, int64_t revision);
size_t cache_size(const struct cache *c);

#endif
