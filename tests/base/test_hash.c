/* test_hash.c - known answers, and both ways of CRC-32C against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/hash.h"

/* Bit by bit, straight from the definition. */
static uint32_t crc_by_bits(const uint8_t *p, size_t len)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82F63B78u : 0u);
        }
    }
    return ~crc;
}

static void known_vectors(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0};
    uint8_t ones[32];
    uint8_t rising[32];
    uint8_t falling[32];
    memset(ones, 0xFF, sizeof(ones));
    for (unsigned i = 0; i < 32; i++) {
        rising[i] = (uint8_t)i;
        falling[i] = (uint8_t)(31 - i);
    }
    /* RFC 3720, B.4, and the customary check value. */
    const struct {
        const void *data;
        size_t len;
        uint32_t want;
    } rows[] = {
        {"", 0, 0},
        {"123456789", 9, 0xE3069283},
        {zeros, 32, 0x8A9136AA},
        {ones, 32, 0x62A8AB43},
        {rising, 32, 0x46DD794E},
        {falling, 32, 0x113FDB5C},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(crc32c(0, rows[i].data, rows[i].len), rows[i].want);
        assert_int_equal(crc32c_portable(0, rows[i].data, rows[i].len), rows[i].want);
    }
}

static uint64_t next(uint64_t *x)
{
    *x = *x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *x >> 33;
}

static void both_ways_agree_at_any_length_and_alignment(void **state)
{
    (void)state;
    static uint8_t data[40000];
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)next(&x);
    }
    for (size_t len = 0; len < 1000; len++) {
        const uint8_t *p = data + len % 17;
        assert_int_equal(crc32c_portable(0, p, len), crc_by_bits(p, len));
        assert_int_equal(crc32c(0, p, len), crc_by_bits(p, len));
    }
    for (int i = 0; i < 2000; i++) {
        size_t at = next(&x) % 64;
        size_t len = next(&x) % (sizeof(data) - 64);
        uint32_t seed = (uint32_t)next(&x);
        assert_int_equal(crc32c(seed, data + at, len), crc32c_portable(seed, data + at, len));
    }
}

static void parts_chain(void **state)
{
    (void)state;
    uint8_t data[9000];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 31 >> 3);
    }
    uint32_t whole = crc32c(0, data, sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut += 97) {
        uint32_t first = crc32c(0, data, cut);
        assert_int_equal(crc32c(first, data + cut, sizeof(data) - cut), whole);
        assert_int_equal(crc32c_portable(first, data + cut, sizeof(data) - cut), whole);
    }
}

static void hash64_is_xxh3(void **state)
{
    (void)state;
    assert_true(hash64("", 0) == UINT64_C(0x2D06800538D394C2));
    assert_true(hash64("abc", 3) == XXH3_64bits("abc", 3));
    assert_true(hash64("abc", 3) != hash64("abd", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors),
        cmocka_unit_test(both_ways_agree_at_any_length_and_alignment),
        cmocka_unit_test(parts_chain),
        cmocka_unit_test(hash64_is_xxh3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
