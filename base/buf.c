/* buf.c - one allocation holds count, length and bytes. */
#include "base/buf.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

struct buf *buf_create(size_t len)
{
    ASSERT(len <= BUF_BYTES_MAX);
    struct buf *b = xalloc(sizeof(*b) + len);
    atomic_init(&b->refs, 1);
    b->len = (uint32_t)len;
    return b;
}

struct buf *buf_copy(struct slice s)
{
    struct buf *b = buf_create(s.len);
    if (s.len > 0) {
        memcpy(b->data, s.data, s.len);
    }
    return b;
}

struct buf *buf_ref(struct buf *b)
{
    /* Relaxed: whoever calls holds a reference already, so the bytes are visible to it. */
    uint32_t before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    ASSERT(before != 0 && before != UINT32_MAX);
    return b;
}

void buf_unref(struct buf **bp)
{
    struct buf *b = *bp;
    *bp = NULL;
    if (b == NULL) {
        return;
    }
    /* The only holder need not pay for a locked instruction: nobody can take a new reference
     * without having one. The acquire here, and in the subtraction, pairs with the release in the
     * subtractions of those who let go before. */
    if (atomic_load_explicit(&b->refs, memory_order_acquire) == 1) {
        free(b);
        return;
    }
    uint32_t before = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
    ASSERT(before != 0);
    if (before == 1) {
        free(b);
    }
}
