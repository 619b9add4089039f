/* slice.c - the growable array of bytes: its room doubles, so that adding costs O(1) on average. */
#include "base/slice.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define BYTES_CAP_FIRST 64u

static void grow(struct bytes *b, size_t n)
{
    ASSERT(n <= SIZE_MAX / 2 - b->len);
    size_t need = b->len + n;
    size_t cap = b->cap < BYTES_CAP_FIRST ? BYTES_CAP_FIRST : b->cap;
    while (cap < need) {
        cap *= 2;
    }
    b->data = xrealloc(b->data, cap);
    b->cap = cap;
}

uint8_t *bytes_reserve(struct bytes *b, size_t n)
{
    if (b->data == NULL || b->cap - b->len < n) {
        grow(b, n);
    }
    return b->data + b->len;
}

void bytes_add(struct bytes *b, const void *data, size_t n)
{
    if (n == 0) {
        return;
    }
    memcpy(bytes_reserve(b, n), data, n);
    b->len += n;
}

void bytes_add_str(struct bytes *b, const char *s)
{
    bytes_add(b, s, strlen(s));
}

void bytes_printf(struct bytes *b, const char *fmt, ...)
{
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    uint8_t *at = bytes_reserve(b, 1);
    size_t room = b->cap - b->len;
    int len = vsnprintf((char *)at, room, fmt, args);
    ASSERT(len >= 0);
    if ((size_t)len >= room) {
        at = bytes_reserve(b, (size_t)len + 1);
        len = vsnprintf((char *)at, (size_t)len + 1, fmt, again);
        ASSERT(len >= 0);
    }
    va_end(again);
    va_end(args);
    b->len += (size_t)len;
}

void bytes_reset(struct bytes *b)
{
    b->len = 0;
}

void bytes_deinit(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}
