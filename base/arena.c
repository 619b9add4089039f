/* arena.c - bump allocation.
 *
 * The first chunk lies behind the header in one allocation. When the current chunk is used up the
 * next one is twice as large, until ARENA_CHUNK_MAX. An allocation too large to share a chunk gets
 * one of its own, and the current chunk goes on being filled. Under AddressSanitizer the bytes that
 * are not handed out are poisoned, so that a pointer kept across a reset is found.
 */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#define ARENA_ALIGN 16u
#define ARENA_CHUNK_MIN ((size_t)256)
#define ARENA_CHUNK_MAX ((size_t)256 * 1024) /* of shared chunks; what is larger stands alone */

struct chunk {
    _Alignas(ARENA_ALIGN) struct chunk *next;
    size_t size;
    _Alignas(ARENA_ALIGN) uint8_t data[];
};

struct arena {
    uint8_t *at;  /* next free byte of the current chunk */
    uint8_t *end; /* of the current chunk */
    size_t used;
    size_t bytes_max;
    size_t next_bytes;   /* size of the next shared chunk */
    struct chunk *extra; /* owned; every chunk but the first */
    size_t first_bytes;
    _Alignas(ARENA_ALIGN) uint8_t first[];
};

static size_t round_up(size_t size)
{
    return (size + (ARENA_ALIGN - 1u)) & ~(size_t)(ARENA_ALIGN - 1u);
}

static size_t clamp(size_t v, size_t low, size_t high)
{
    return v < low ? low : v > high ? high : v;
}

static void start(struct arena *a)
{
    a->at = a->first;
    a->end = a->first + a->first_bytes;
    a->used = 0;
    a->next_bytes = clamp(a->first_bytes * 2, ARENA_CHUNK_MIN, ARENA_CHUNK_MAX);
    ASAN_POISON_MEMORY_REGION(a->first, a->first_bytes);
}

struct arena *arena_create(size_t first_bytes, size_t bytes_max)
{
    ASSERT(first_bytes <= SIZE_MAX / 4);
    size_t first = round_up(first_bytes);
    struct arena *a = xalloc(sizeof(*a) + first);
    a->first_bytes = first;
    a->bytes_max = bytes_max;
    a->extra = NULL;
    start(a);
    return a;
}

static void free_extra(struct arena *a)
{
    while (a->extra != NULL) {
        struct chunk *c = a->extra;
        a->extra = c->next;
        ASAN_UNPOISON_MEMORY_REGION(c->data, c->size);
        free(c);
    }
}

void arena_destroy(struct arena **ap)
{
    struct arena *a = *ap;
    *ap = NULL;
    if (a == NULL) {
        return;
    }
    free_extra(a);
    ASAN_UNPOISON_MEMORY_REGION(a->first, a->first_bytes);
    free(a);
}

void arena_reset(struct arena *a)
{
    free_extra(a);
    start(a);
}

static struct chunk *add_chunk(struct arena *a, size_t size)
{
    struct chunk *c = malloc(sizeof(*c) + size);
    if (c == NULL) {
        return NULL; /* the size may be a client's choice, so this is no reason to end */
    }
    c->next = a->extra;
    c->size = size;
    a->extra = c;
    ASAN_POISON_MEMORY_REGION(c->data, size);
    return c;
}

/* The current chunk has no room for `size` bytes, which is rounded and within the cap. */
static uint8_t *alloc_slow(struct arena *a, size_t size)
{
    if (size > a->next_bytes / 4) {
        struct chunk *own = add_chunk(a, size);
        return own == NULL ? NULL : own->data;
    }
    struct chunk *c = add_chunk(a, a->next_bytes);
    if (c == NULL) {
        return NULL;
    }
    a->next_bytes = clamp(a->next_bytes * 2, ARENA_CHUNK_MIN, ARENA_CHUNK_MAX);
    a->at = c->data + size;
    a->end = c->data + c->size;
    return c->data;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > a->bytes_max - a->used) {
        return NULL;
    }
    size_t rounded = size == 0 ? ARENA_ALIGN : round_up(size);
    if (rounded < size || rounded > a->bytes_max - a->used) {
        return NULL;
    }
    uint8_t *p = a->at;
    if (rounded <= (size_t)(a->end - p)) {
        a->at = p + rounded;
    } else {
        p = alloc_slow(a, rounded);
        if (p == NULL) {
            return NULL;
        }
    }
    a->used += rounded;
    ASAN_UNPOISON_MEMORY_REGION(p, size);
    return p;
}

void *arena_calloc(struct arena *a, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        return NULL;
    }
    void *p = arena_alloc(a, total);
    return p == NULL ? NULL : memset(p, 0, total);
}

void *arena_dup(struct arena *a, const void *data, size_t len)
{
    void *p = arena_alloc(a, len);
    if (p != NULL && len > 0) {
        memcpy(p, data, len);
    }
    return p;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}
