/* utf8.c - see utf8.h. */
#include "base/utf8.h"

size_t utf8_first(struct slice s, uint32_t *code)
{
    uint8_t c = s.data[0];
    size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (n == 0 || n > s.len) {
        return 0;
    }
    *code = n == 1 ? c : c & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s.data[i] & 0xc0) != 0x80) {
            return 0;
        }
        *code = *code << 6 | (s.data[i] & 0x3fu);
    }
    bool overlong = (n == 3 && *code < 0x800) || (n == 4 && *code < 0x10000);
    bool surrogate = *code >= 0xd800 && *code <= 0xdfff;
    return overlong || surrogate || *code > 0x10ffff ? 0 : n;
}

bool utf8_valid(struct slice s)
{
    while (s.len > 0) {
        uint32_t code;
        size_t n = utf8_first(s, &code);
        if (n == 0) {
            return false;
        }
        s = slice_of(s.data + n, s.len - n);
    }
    return true;
}

void utf8_add(struct bytes *out, uint32_t c)
{
    uint8_t b[4];
    size_t n = c < 0x80u ? 1 : c < 0x800u ? 2 : c < 0x10000u ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        b[i] = (uint8_t)(0x80u | (c & 0x3Fu));
        c >>= 6;
    }
    b[0] = (uint8_t)(n == 1 ? c : n == 2 ? 0xC0u | c : n == 3 ? 0xE0u | c : 0xF0u | c);
    bytes_add(out, b, n);
}
