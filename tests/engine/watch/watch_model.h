/* watch_model.h - the feed's past as a model: what the engine would say, whose functions these take
 * the place of.
 *
 * Callers     tests/engine/watch.   Thread  the test's.
 */
#ifndef TESTS_ENGINE_WATCH_MODEL_H
#define TESTS_ENGINE_WATCH_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/watch.h"

#define N_KEYS 60
#define KEY_BYTES 3
#define N_REVISIONS_MAX 20000

struct engine {
    int64_t live; /* revisions 2..live have changes */
    int64_t compact;
    bool broken;
    struct event_batch *batches[N_REVISIONS_MAX];
    int64_t version[N_KEYS]; /* 0: not there */
    size_t n_history_calls;
};

struct model_key {
    uint8_t bytes[KEY_BYTES];
    size_t len;
};

uint64_t next_random(uint64_t *s);
struct model_key model_key(unsigned i);
struct engine *model_create(void);
void model_destroy(struct engine *e);
/* One more revision with up to `n_max` changes of different keys. */
void model_write(struct engine *e, uint64_t *rng, unsigned n_max);
struct buf *model_kv_at(struct engine *e, struct slice key, int64_t at);

#endif
