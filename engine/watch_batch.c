/* watch_batch.c - the life of a batch of changes, which all loops share. */
#include <stdlib.h>

#include "base/assert.h"
#include "engine/watch.h"

struct event_batch *event_batch_ref(struct event_batch *b)
{
    uint32_t before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    ASSERT(before > 0);
    return b;
}

void event_batch_unref(struct event_batch **b)
{
    struct event_batch *x = *b;
    *b = NULL;
    /* Acquire-release: whoever frees it comes after every other holder's last look. */
    if (x == NULL || atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < x->n; i++) {
        buf_unref(&x->changes[i].kv);
    }
    free(x);
}
