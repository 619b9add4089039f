/* slice.h - a borrowed run of bytes, and a growable one.
 *
 * What        `struct slice` points at bytes that somebody else owns. `struct bytes` owns a
 *             growable array that encoders write into.
 * Callers     everything.   Thread  values; a struct bytes belongs to its owner.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data; /* may be NULL when len is 0 */
    size_t len;
};

static inline struct slice slice_of(const void *data, size_t len)
{
    return (struct slice){(const uint8_t *)data, len};
}

static inline struct slice slice_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, strlen(s)};
}

/* Bytewise order, a prefix before what it prefixes: negative, 0 or positive as memcmp. */
static inline int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n == 0 ? 0 : memcmp(a.data, b.data, n);
    return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

struct bytes {
    uint8_t *data; /* owned */
    size_t len;
    size_t cap;
};

/* Make room for `n` more bytes and return where they go (len is not changed). */
uint8_t *bytes_reserve(struct bytes *b, size_t n);
void bytes_add(struct bytes *b, const void *data, size_t n);
void bytes_add_str(struct bytes *b, const char *s);
void bytes_printf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bytes_reset(struct bytes *b);  /* empties, keeps the memory */
void bytes_deinit(struct bytes *b); /* frees; the struct is empty and usable again */

static inline struct slice bytes_slice(const struct bytes *b)
{
    return (struct slice){b->data, b->len};
}

#endif
