/* wire.h - protobuf's wire format by hand, for the places that splice bytes.
 *
 * What        Writers append to a struct bytes or a raw pointer whose room the caller has checked;
 *             the reader walks the fields of one message and checks every length. Whole messages
 *             off the hot path go through protobuf-c instead.
 * Callers     engine (records, replies), api (framing, splicing), raft.
 * Thread      values.
 * Source      protobuf.dev, "Encoding".
 */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

enum wire_type { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_LEN = 2, WIRE_I32 = 5 };

#define WIRE_VARINT_MAX 10u /* bytes of the longest varint */

/* Bytes that `v` takes as a varint: 1 to 10. */
static inline size_t wire_varint_size(uint64_t v)
{
    return (size_t)((9u * (64u - (unsigned)__builtin_clzll(v | 1u)) + 64u) / 64u);
}

/* Write at `p`, which has room; return the byte after. */
static inline uint8_t *wire_put_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80u) {
        *p++ = (uint8_t)(v | 0x80u);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

static inline uint8_t *wire_put_tag(uint8_t *p, uint32_t field, enum wire_type type)
{
    return wire_put_varint(p, ((uint64_t)field << 3) | (uint64_t)type);
}

static inline size_t wire_tag_size(uint32_t field)
{
    return wire_varint_size((uint64_t)field << 3);
}

/* Append a field; a zero number or an empty slice is left out, as proto3 does. */
void wire_add_uint(struct bytes *b, uint32_t field, uint64_t v);
void wire_add_int(struct bytes *b, uint32_t field, int64_t v);
void wire_add_bool(struct bytes *b, uint32_t field, bool v);
void wire_add_bytes(struct bytes *b, uint32_t field, struct slice s);
/* Append tag and length of a message of `len` bytes that the caller writes next; never left out. */
void wire_add_message_head(struct bytes *b, uint32_t field, size_t len);
/* Append a whole sub-message or element, even when empty. */
void wire_add_message(struct bytes *b, uint32_t field, struct slice message);

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t value;     /* VARINT, I64, I32 */
    struct slice bytes; /* LEN; borrowed from the message */
};

/* Take the next field off the front of `*rest`. ERR_END at the end of the message; ERR_INVALID on
 * a cut field, an overlong varint, a group, or field number 0. */
MUST_CHECK enum err wire_next(struct slice *rest, struct wire_field *out);

/* Read one varint off the front. ERR_INVALID when it is cut or overlong. */
MUST_CHECK enum err wire_take_varint(struct slice *rest, uint64_t *out);

#endif
