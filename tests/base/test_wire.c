/* test_wire.c - varints at their edges, fields there and back, and malformed messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/assert.h"
#include "base/wire.h"

static void varints_at_every_size(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t top = bits == 0 ? 0 : UINT64_C(1) << (bits - 1);
        const uint64_t values[] = {top, top == 0 ? 0 : top - 1, top | 1, top | (top - (top != 0))};
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
            uint8_t out[WIRE_VARINT_MAX];
            size_t len = (size_t)(wire_put_varint(out, values[i]) - out);
            assert_int_equal(len, wire_varint_size(values[i]));
            struct slice rest = slice_of(out, len);
            uint64_t back = 0;
            assert_int_equal(wire_take_varint(&rest, &back), OK);
            assert_true(back == values[i]);
            assert_int_equal(rest.len, 0);
            for (size_t cut = 0; cut < len; cut++) {
                rest = slice_of(out, cut);
                assert_int_equal(wire_take_varint(&rest, &back), ERR_INVALID);
                assert_int_equal(rest.len, cut);
            }
        }
    }
    assert_int_equal(wire_varint_size(127), 1);
    assert_int_equal(wire_varint_size(128), 2);
    assert_int_equal(wire_varint_size(UINT64_MAX), 10);
}

static void fields_come_back(void **state)
{
    (void)state;
    struct bytes b = {0};
    wire_add_uint(&b, 1, 150);
    wire_add_uint(&b, 2, 0); /* left out */
    wire_add_int(&b, 3, -1);
    wire_add_bool(&b, 4, true);
    wire_add_bool(&b, 5, false); /* left out */
    wire_add_bytes(&b, 6, slice_str("key"));
    wire_add_bytes(&b, 7, slice_of(NULL, 0)); /* left out */
    wire_add_message(&b, 8, slice_of(NULL, 0));
    wire_add_message_head(&b, 536870911, 2);
    bytes_add(&b, "\x08\x01", 2);
    const struct wire_field want[] = {
        {.number = 1, .type = WIRE_VARINT, .value = 150},
        {.number = 3, .type = WIRE_VARINT, .value = UINT64_MAX},
        {.number = 4, .type = WIRE_VARINT, .value = 1},
        {.number = 6, .type = WIRE_LEN, .bytes = slice_str("key")},
        {.number = 8, .type = WIRE_LEN},
        {.number = 536870911, .type = WIRE_LEN, .bytes = slice_str("\x08\x01")},
    };
    struct slice rest = bytes_slice(&b);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct wire_field f = {0};
        assert_int_equal(wire_next(&rest, &f), OK);
        assert_int_equal(f.number, want[i].number);
        assert_int_equal(f.type, want[i].type);
        assert_true(f.value == want[i].value);
        assert_true(slice_eq(f.bytes, want[i].bytes));
    }
    struct wire_field f;
    assert_int_equal(wire_next(&rest, &f), ERR_END);
    bytes_deinit(&b);
}

static void fixed_numbers_are_little_endian(void **state)
{
    (void)state;
    struct slice rest = slice_of("\x0d\x01\x02\x03\x84\x11\x01\x02\x03\x04\x05\x06\x07\x88", 14);
    struct wire_field f;
    assert_int_equal(wire_next(&rest, &f), OK);
    assert_int_equal(f.type, WIRE_I32);
    assert_true(f.value == UINT64_C(0x84030201));
    assert_int_equal(wire_next(&rest, &f), OK);
    assert_int_equal(f.type, WIRE_I64);
    assert_true(f.value == UINT64_C(0x8807060504030201));
}

static void malformed_messages(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        const char *data;
        size_t len;
        enum err want;
    } rows[] = {
        {"nothing is the end", "", 0, ERR_END},
        {"a padded varint is legal", "\x08\x80\x00", 3, OK},
        {"the largest varint", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, OK},
        {"a varint past 64 bits", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, ERR_INVALID},
        {"an eleven byte varint", "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12,
         ERR_INVALID},
        {"a tag alone", "\x08", 1, ERR_INVALID},
        {"a cut tag", "\x80", 1, ERR_INVALID},
        {"a cut varint", "\x08\x80", 2, ERR_INVALID},
        {"field 0", "\x00\x01", 2, ERR_INVALID},
        {"the highest field", "\xf8\xff\xff\xff\x0f\x01", 6, OK},
        {"a field past the highest", "\x80\x80\x80\x80\x10\x01", 6, ERR_INVALID},
        {"the start of a group", "\x0b\x0c", 2, ERR_INVALID},
        {"the end of a group", "\x0c", 1, ERR_INVALID},
        {"wire type 6", "\x0e\x00", 2, ERR_INVALID},
        {"wire type 7", "\x0f\x00", 2, ERR_INVALID},
        {"cut bytes",
         "\x0a\x03"
         "ab",
         4, ERR_INVALID},
        {"whole bytes",
         "\x0a\x02"
         "ab",
         4, OK},
        {"a length near 2^64", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, ERR_INVALID},
        {"a cut 32-bit number", "\x0d\x01\x02\x03", 4, ERR_INVALID},
        {"a cut 64-bit number", "\x09\x01\x02\x03\x04\x05\x06\x07", 8, ERR_INVALID},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice rest = slice_of(rows[i].data, rows[i].len);
        struct wire_field f = {.number = 77};
        enum err e = wire_next(&rest, &f);
        if (e != rows[i].want) {
            fail_msg("%s: %s", rows[i].claim, err_text(e));
        }
        assert_int_equal(rest.len, e == OK ? 0 : rows[i].len);
        assert_true(e == OK || f.number == 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(varints_at_every_size),
        cmocka_unit_test(fields_come_back),
        cmocka_unit_test(fixed_numbers_are_little_endian),
        cmocka_unit_test(malformed_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
