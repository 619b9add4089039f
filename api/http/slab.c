/* slab.c - free lists by size class. Each block carries its class in front, since free is told no
 * size. */
#include "api/http/slab.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_LARGE SLAB_CLASSES

struct slab_block {
    _Alignas(16) size_t class;
    size_t bytes; /* usable */
    union {
        struct slab_block *next;
        _Alignas(16) unsigned char data[SLAB_STEP];
    } u;
};

#define HEAD_BYTES offsetof(struct slab_block, u)

static struct slab_block *block_of(void *p)
{
    return (struct slab_block *)(void *)((unsigned char *)p - HEAD_BYTES);
}

static void *take(size_t size, void *arg)
{
    struct slab *s = arg;
    size_t class = size == 0 ? 0 : (size - 1) / SLAB_STEP;
    class = class < SLAB_CLASSES ? class : CLASS_LARGE;
    if (class < CLASS_LARGE && s->free[class] != NULL) {
        struct slab_block *b = s->free[class];
        s->free[class] = b->u.next;
        s->free_bytes -= b->bytes;
        return &b->u;
    }
    size_t bytes = class < CLASS_LARGE ? (class + 1) * SLAB_STEP : size;
    if (bytes > SIZE_MAX - HEAD_BYTES) {
        return NULL;
    }
    struct slab_block *b = malloc(HEAD_BYTES + bytes);
    if (b == NULL) {
        return NULL; /* nghttp2 reports it and the connection ends */
    }
    b->class = class;
    b->bytes = bytes;
    return &b->u;
}

static void give(void *p, void *arg)
{
    struct slab *s = arg;
    if (p == NULL) {
        return;
    }
    struct slab_block *b = block_of(p);
    if (b->class == CLASS_LARGE || s->free_bytes + b->bytes > SLAB_FREE_BYTES_MAX) {
        free(b);
        return;
    }
    s->free_bytes += b->bytes;
    b->u.next = s->free[b->class];
    s->free[b->class] = b;
}

static void *take_zeroed(size_t n, size_t size, void *arg)
{
    if (size != 0 && n > SIZE_MAX / size) {
        return NULL;
    }
    void *p = take(n * size, arg);
    if (p != NULL) {
        memset(p, 0, n * size);
    }
    return p;
}

static void *resize(void *p, size_t size, void *arg)
{
    if (p == NULL) {
        return take(size, arg);
    }
    size_t had = block_of(p)->bytes;
    if (size <= had && size > 0) {
        return p;
    }
    void *q = take(size, arg);
    if (q != NULL) {
        memcpy(q, p, had < size ? had : size);
        give(p, arg);
    }
    return q;
}

void slab_init(struct slab *s)
{
    *s = (struct slab){.mem = {s, take, give, take_zeroed, resize}};
}

void slab_deinit(struct slab *s)
{
    for (size_t i = 0; i < SLAB_CLASSES; i++) {
        while (s->free[i] != NULL) {
            struct slab_block *b = s->free[i];
            s->free[i] = b->u.next;
            free(b);
        }
    }
    s->free_bytes = 0;
}
