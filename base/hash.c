/* hash.c - CRC-32C in two ways, and XXH3 from its library.
 *
 * A CRC is linear: the CRC of a xor b is the xor of both CRCs. Two things follow. A table of 256
 * values is made by the compiler from the eight values of the single bits. And several parts of the
 * input can be worked on side by side, and brought together afterwards: to append n bytes to a part
 * is to multiply its remainder by x^(8n), which is one carry-less multiplication.
 *
 * Portable    Slicing by 8: table k answers for a byte that k more bytes follow.
 * SSE4.2      The crc32 instruction has a latency of three cycles but starts every cycle, so three
 *             lanes run at once over blocks of 3 * LONG_LANE, then of 3 * SHORT_LANE bytes.
 */
#include "base/hash.h"

#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

#define BIT(i, n, v) (((i) >> (n)) & 1u ? (v##u) : 0u)
#define BYTE(i, b0, b1, b2, b3, b4, b5, b6, b7)                                                    \
    (BIT(i, 0, b0) ^ BIT(i, 1, b1) ^ BIT(i, 2, b2) ^ BIT(i, 3, b3) ^ BIT(i, 4, b4) ^               \
     BIT(i, 5, b5) ^ BIT(i, 6, b6) ^ BIT(i, 7, b7))
#define ROW4(i, ...)                                                                               \
    BYTE(i, __VA_ARGS__), BYTE((i) + 1u, __VA_ARGS__), BYTE((i) + 2u, __VA_ARGS__),                \
        BYTE((i) + 3u, __VA_ARGS__)
#define ROW16(i, ...)                                                                              \
    ROW4(i, __VA_ARGS__), ROW4((i) + 4u, __VA_ARGS__), ROW4((i) + 8u, __VA_ARGS__),                \
        ROW4((i) + 12u, __VA_ARGS__)
#define ROW64(i, ...)                                                                              \
    ROW16(i, __VA_ARGS__), ROW16((i) + 16u, __VA_ARGS__), ROW16((i) + 32u, __VA_ARGS__),           \
        ROW16((i) + 48u, __VA_ARGS__)
#define TABLE(...)                                                                                 \
    {                                                                                              \
        ROW64(0u, __VA_ARGS__), ROW64(64u, __VA_ARGS__), ROW64(128u, __VA_ARGS__),                 \
            ROW64(192u, __VA_ARGS__)                                                               \
    }

/* Row k: the remainders of the bytes 0x01, 0x02, 0x04 ... 0x80 with k zero bytes after them, by the
 * polynomial 0x82F63B78 (Castagnoli's, lowest bit first). */
static const uint32_t tables[8][256] = {
    TABLE(0xF26B8303, 0xE13B70F7, 0xC79A971F, 0x8AD958CF,
          0x105EC76F, 0x20BD8EDE, 0x417B1DBC, 0x82F63B78),
    TABLE(0x13A29877, 0x274530EE, 0x4E8A61DC, 0x9D14C3B8,
          0x3FC5F181, 0x7F8BE302, 0xFF17C604, 0xFBC3FAF9),
    TABLE(0xA541927E, 0x4F6F520D, 0x9EDEA41A, 0x38513EC5,
          0x70A27D8A, 0xE144FB14, 0xC76580D9, 0x8B277743),
    TABLE(0xDD45AAB8, 0xBF672381, 0x7B2231F3, 0xF64463E6,
          0xE964B13D, 0xD725148B, 0xABA65FE7, 0x52A0C93F),
    TABLE(0x38116FAC, 0x7022DF58, 0xE045BEB0, 0xC5670B91,
          0x8F2261D3, 0x1BA8B557, 0x37516AAE, 0x6EA2D55C),
    TABLE(0xEF306B19, 0xDB8CA0C3, 0xB2F53777, 0x6006181F,
          0xC00C303E, 0x85F4168D, 0x0E045BEB, 0x1C08B7D6),
    TABLE(0x68032CC8, 0xD0065990, 0xA5E0C5D1, 0x4E2DFD53,
          0x9C5BFAA6, 0x3D5B83BD, 0x7AB7077A, 0xF56E0EF4),
    TABLE(0x493C7D27, 0x9278FA4E, 0x211D826D, 0x423B04DA,
          0x847609B4, 0x0D006599, 0x1A00CB32, 0x34019664),
};

static uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    return tables[0][(crc ^ byte) & 0xFFu] ^ (crc >> 8);
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                              (uint32_t)p[3] << 24);
        crc = tables[7][low & 0xFFu] ^ tables[6][(low >> 8) & 0xFFu] ^
              tables[5][(low >> 16) & 0xFFu] ^ tables[4][low >> 24] ^ tables[3][p[4]] ^
              tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
    }
    for (; len > 0; len--, p++) {
        crc = crc_byte(crc, *p);
    }
    return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>

#define FAST __attribute__((target("sse4.2,pclmul")))

#define LONG_LANE 1024u
#define SHORT_LANE 128u

/* x^(8n - 33) and x^(16n - 33) for lanes of n bytes: the product of two 32-bit remainders, lowest
 * bit first, has one factor x too much, and reducing it with the crc32 instruction adds x^32. */
struct lane_shift {
    uint32_t one;
    uint32_t two;
};
static const struct lane_shift long_shift = {0x170076FAu, 0xA51B6135u};
static const struct lane_shift short_shift = {0x0D3B6092u, 0xB9E02B86u};

FAST static inline uint64_t load_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

FAST static inline uint64_t shift_crc(uint64_t crc, uint32_t factor)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc),
                                           _mm_cvtsi64_si128((long long)(uint64_t)factor), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

FAST static inline uint64_t crc_lanes(uint64_t crc, const uint8_t *p, size_t lane,
                                      const struct lane_shift *shift)
{
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < lane; i += 8) {
        crc = _mm_crc32_u64(crc, load_u64(p + i));
        b = _mm_crc32_u64(b, load_u64(p + lane + i));
        c = _mm_crc32_u64(c, load_u64(p + 2 * lane + i));
    }
    return shift_crc(crc, shift->two) ^ shift_crc(b, shift->one) ^ c;
}

FAST static uint32_t crc32c_fast(uint32_t crc, const uint8_t *p, size_t len)
{
    uint64_t r = (uint32_t)~crc;
    for (; len >= 3 * LONG_LANE; len -= 3 * LONG_LANE, p += 3 * LONG_LANE) {
        r = crc_lanes(r, p, LONG_LANE, &long_shift);
    }
    for (; len >= 3 * SHORT_LANE; len -= 3 * SHORT_LANE, p += 3 * SHORT_LANE) {
        r = crc_lanes(r, p, SHORT_LANE, &short_shift);
    }
    for (; len >= 8; len -= 8, p += 8) {
        r = _mm_crc32_u64(r, load_u64(p));
    }
    uint32_t tail = (uint32_t)r;
    for (; len > 0; len--, p++) {
        tail = _mm_crc32_u8(tail, *p);
    }
    return ~tail;
}

/* Two loads from what the C runtime found out at start-up. */
static bool has_fast(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}
#else
static uint32_t crc32c_fast(uint32_t crc, const uint8_t *p, size_t len)
{
    return crc32c_portable(crc, p, len);
}

static bool has_fast(void)
{
    return false;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return has_fast() ? crc32c_fast(crc, data, len) : crc32c_portable(crc, data, len);
}

uint64_t hash64(const void *data, size_t len)
{
    return XXH3_64bits(data, len);
}
