/* buf.h - counted, immutable bytes that threads share without locks.
 *
 * What        Keys, values, records, events, log entries. Fill it right after buf_create, then
 *             never change it again; from then on any thread may hold a reference.
 * Callers     everything.
 * Thread      the count is atomic; the bytes are immutable once shared.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/slice.h"

struct buf {
    _Atomic uint32_t refs;
    uint32_t len;
    uint8_t data[];
};

#define BUF_BYTES_MAX (1u << 31) /* a larger request is a programmer error */

struct buf *buf_create(size_t len);          /* count 1, bytes not set */
struct buf *buf_copy(struct slice s);        /* count 1 */
struct buf *buf_ref(struct buf *b);          /* returns b */
void buf_unref(struct buf **b);              /* accepts NULL; leaves NULL */

static inline struct slice buf_slice(const struct buf *b)
{
    return b == NULL ? (struct slice){NULL, 0} : (struct slice){b->data, b->len};
}

#endif
