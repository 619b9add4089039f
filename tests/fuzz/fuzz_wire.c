/* fuzz_wire.c - walks the reader over any bytes, into every field that may be a message. What was
 * read must lie inside the input, and must come back the same after it is written again. */
#include <string.h>

#include "base/assert.h"
#include "base/wire.h"

#define DEPTH_MAX 8u

/* Write `f` anew and read that: the same field must come out, and nothing must be left. */
static void check_again(const struct wire_field *f)
{
    struct bytes b = {0};
    uint8_t *p = bytes_reserve(&b, 2 * WIRE_VARINT_MAX);
    uint8_t *start = p;
    p = wire_put_tag(p, f->number, f->type);
    ASSERT((size_t)(p - start) == wire_tag_size(f->number));
    if (f->type == WIRE_VARINT) {
        p = wire_put_varint(p, f->value);
        ASSERT((size_t)(p - start) == wire_tag_size(f->number) + wire_varint_size(f->value));
        b.len = (size_t)(p - start);
    } else if (f->type == WIRE_LEN) {
        wire_add_message(&b, f->number, f->bytes);
    } else {
        bytes_deinit(&b);
        return;
    }
    struct slice rest = bytes_slice(&b);
    struct wire_field again = {0};
    ASSERT(wire_next(&rest, &again) == OK);
    ASSERT(rest.len == 0);
    ASSERT(again.number == f->number && again.type == f->type && again.value == f->value);
    ASSERT(slice_eq(again.bytes, f->bytes));
    bytes_deinit(&b);
}

static void walk(struct slice message, unsigned depth)
{
    struct slice rest = message;
    struct wire_field f = {0};
    for (;;) {
        struct slice before = rest;
        enum err e = wire_next(&rest, &f);
        if (e != OK) {
            ASSERT(e == ERR_INVALID || (e == ERR_END && rest.len == 0));
            ASSERT(rest.data == before.data && rest.len == before.len);
            return;
        }
        ASSERT(rest.len < before.len);
        ASSERT(f.number > 0);
        if (f.type == WIRE_LEN) {
            ASSERT(f.bytes.data >= message.data);
            ASSERT(f.bytes.data + f.bytes.len <= message.data + message.len);
            if (depth < DEPTH_MAX) {
                walk(f.bytes, depth + 1);
            }
        }
        check_again(&f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    walk(slice_of(data, size), 0);
    uint64_t v = 0;
    struct slice rest = slice_of(data, size);
    while (rest.len > 0 && wire_take_varint(&rest, &v) == OK) {
        ASSERT(wire_varint_size(v) <= WIRE_VARINT_MAX);
    }
    return 0;
}
