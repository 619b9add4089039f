/* bolt_internal.h - names of places in a bbolt file, for its writer and its reader.
 *
 * What        Offsets, page kinds, little-endian numbers, the sum of a meta.
 * Callers     engine/bolt_*.c and tests that make damaged files.   Thread  pure.
 */
#ifndef ENGINE_BOLT_INTERNAL_H
#define ENGINE_BOLT_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#define BOLT_MAGIC 0xED0CDAEDu
#define BOLT_MAGIC_SWAPPED 0xEDDA0CEDu
#define BOLT_VERSION 2u
#define BOLT_NO_FREELIST UINT64_MAX

enum {
    BOLT_PAGE_BRANCH = 0x01,
    BOLT_PAGE_LEAF = 0x02,
    BOLT_PAGE_META = 0x04,
    BOLT_PAGE_FREELIST = 0x10
};
enum { BOLT_FLAG_BUCKET = 1 };

#define BOLT_FIRST_PAGE 2u /* behind the metas */
#define BOLT_HEAD 16u      /* bytes of a page's head, */
#define BOLT_ELEMENT 16u   /* of an element, */
#define BOLT_BUCKET 16u    /* of a bucket's head: root page and sequence */

/* Head of a page. */
enum { BOLT_AT_ID = 0, BOLT_AT_KIND = 8, BOLT_AT_COUNT = 10, BOLT_AT_OVERFLOW = 12 };
/* Elements; `pos` counts from the element's own first byte. */
enum { BOLT_LEAF_FLAGS = 0, BOLT_LEAF_POS = 4, BOLT_LEAF_KEY = 8, BOLT_LEAF_VALUE = 12 };
enum { BOLT_BRANCH_POS = 0, BOLT_BRANCH_KEY = 4, BOLT_BRANCH_CHILD = 8 };
/* Meta, behind the page's head. */
enum {
    BOLT_META_MAGIC = 0,
    BOLT_META_VERSION = 4,
    BOLT_META_PAGE_BYTES = 8,
    BOLT_META_ROOT = 16,
    BOLT_META_FREELIST = 32,
    BOLT_META_PAGES = 40,
    BOLT_META_TXID = 48,
    BOLT_META_SUM = 56,
    BOLT_META_BYTES = 64
};

/* A page with a sum is the last one and free, so that bbolt never looks at it: behind its head come
 * this magic and the CRC-32C of all pages before it. A file that bbolt has written to since has a
 * later transaction, and then the page says nothing. */
#define BOLT_SUM_MAGIC "pintle: crc32c\n"
#define BOLT_SUM_MAGIC_BYTES 16u /* with its NUL */
#define BOLT_SUM_TXID_MAX 2u
enum { BOLT_AT_SUM_MAGIC = 16, BOLT_AT_SUM = 32, BOLT_SUM_PAGE_BYTES = 36 };

static inline void le_put(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static inline uint64_t le_get(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = n; i > 0; i--) {
        v = v << 8 | p[i - 1];
    }
    return v;
}

static inline uint32_t le_get32(const uint8_t *p)
{
    return (uint32_t)le_get(p, 4);
}

/* FNV-1a over the meta's bytes before the sum. */
static inline uint64_t bolt_meta_sum(const uint8_t *meta)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < BOLT_META_SUM; i++) {
        h = (h ^ meta[i]) * 0x100000001b3u;
    }
    return h;
}

#endif
