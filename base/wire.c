/* wire.c - protobuf fields, out and in. The reader moves on only after the whole field was seen to
 * be sound, so a failed call leaves the rest as it was. */
#include "base/wire.h"

#define FIELD_MAX ((UINT32_C(1) << 29) - 1u) /* protobuf's highest field number */
#define TAG_BYTES_MAX 5u

void wire_add_uint(struct bytes *b, uint32_t field, uint64_t v)
{
    if (v == 0) {
        return;
    }
    uint8_t *start = bytes_reserve(b, TAG_BYTES_MAX + WIRE_VARINT_MAX);
    uint8_t *p = wire_put_varint(wire_put_tag(start, field, WIRE_VARINT), v);
    b->len += (size_t)(p - start);
}

void wire_add_int(struct bytes *b, uint32_t field, int64_t v)
{
    wire_add_uint(b, field, (uint64_t)v);
}

void wire_add_bool(struct bytes *b, uint32_t field, bool v)
{
    wire_add_uint(b, field, v ? 1u : 0u);
}

void wire_add_message_head(struct bytes *b, uint32_t field, size_t len)
{
    uint8_t *start = bytes_reserve(b, TAG_BYTES_MAX + WIRE_VARINT_MAX);
    uint8_t *p = wire_put_varint(wire_put_tag(start, field, WIRE_LEN), len);
    b->len += (size_t)(p - start);
}

void wire_add_message(struct bytes *b, uint32_t field, struct slice message)
{
    wire_add_message_head(b, field, message.len);
    bytes_add(b, message.data, message.len);
}

void wire_add_bytes(struct bytes *b, uint32_t field, struct slice s)
{
    if (s.len > 0) {
        wire_add_message(b, field, s);
    }
}

enum err wire_take_varint(struct slice *rest, uint64_t *out)
{
    size_t n_max = rest->len < WIRE_VARINT_MAX ? rest->len : WIRE_VARINT_MAX;
    uint64_t v = 0;
    for (size_t i = 0; i < n_max; i++) {
        uint8_t byte = rest->data[i];
        v |= (uint64_t)(byte & 0x7Fu) << (7u * i);
        if (byte < 0x80u) {
            /* The tenth byte holds bit 63 alone. */
            if (i == WIRE_VARINT_MAX - 1u && byte > 1) {
                return ERR_INVALID;
            }
            *out = v;
            *rest = slice_of(rest->data + i + 1, rest->len - i - 1);
            return OK;
        }
    }
    return ERR_INVALID;
}

/* Little-endian number of `n` bytes off the front. */
static enum err take_fixed(struct slice *rest, size_t n, uint64_t *out)
{
    if (rest->len < n) {
        return ERR_INVALID;
    }
    uint64_t v = 0;
    for (size_t i = n; i > 0; i--) {
        v = v << 8 | rest->data[i - 1];
    }
    *out = v;
    *rest = slice_of(rest->data + n, rest->len - n);
    return OK;
}

static enum err take_bytes(struct slice *rest, struct slice *out)
{
    uint64_t len = 0;
    enum err e = wire_take_varint(rest, &len);
    if (e != OK || len > rest->len) {
        return ERR_INVALID;
    }
    *out = slice_of(rest->data, (size_t)len);
    *rest = slice_of(rest->data + len, rest->len - (size_t)len);
    return OK;
}

enum err wire_next(struct slice *rest, struct wire_field *out)
{
    if (rest->len == 0) {
        return ERR_END;
    }
    struct slice s = *rest;
    uint64_t tag = 0;
    if (wire_take_varint(&s, &tag) != OK || tag >> 3 == 0 || tag >> 3 > FIELD_MAX) {
        return ERR_INVALID;
    }
    struct wire_field f = {.number = (uint32_t)(tag >> 3)};
    enum err e = ERR_INVALID;
    /* The type is a number from outside: groups (3 and 4) and the unused values 6 and 7 are none of
     * the enum's. */
    switch ((unsigned)(tag & 7u)) {
    case WIRE_VARINT:
        f.type = WIRE_VARINT;
        e = wire_take_varint(&s, &f.value);
        break;
    case WIRE_I64:
        f.type = WIRE_I64;
        e = take_fixed(&s, 8, &f.value);
        break;
    case WIRE_LEN:
        f.type = WIRE_LEN;
        e = take_bytes(&s, &f.bytes);
        break;
    case WIRE_I32:
        f.type = WIRE_I32;
        e = take_fixed(&s, 4, &f.value);
        break;
    default:
        break;
    }
    if (e != OK) {
        return ERR_INVALID;
    }
    *rest = s;
    *out = f;
    return OK;
}
