/* base64.c - see base64.h. */
#include "api/gateway/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_add(struct bytes *out, struct slice raw)
{
    size_t n = (raw.len + 2) / 3 * 4;
    uint8_t *p = bytes_reserve(out, n);
    out->len += n;
    size_t i = 0;
    for (; raw.len - i >= 3; i += 3) {
        uint32_t v = (uint32_t)raw.data[i] << 16 | (uint32_t)raw.data[i + 1] << 8 | raw.data[i + 2];
        *p++ = (uint8_t)alphabet[v >> 18];
        *p++ = (uint8_t)alphabet[v >> 12 & 63];
        *p++ = (uint8_t)alphabet[v >> 6 & 63];
        *p++ = (uint8_t)alphabet[v & 63];
    }
    if (i < raw.len) {
        bool two = raw.len - i == 2;
        uint32_t v = (uint32_t)raw.data[i] << 16 | (two ? (uint32_t)raw.data[i + 1] << 8 : 0);
        *p++ = (uint8_t)alphabet[v >> 18];
        *p++ = (uint8_t)alphabet[v >> 12 & 63];
        *p++ = (uint8_t)(two ? alphabet[v >> 6 & 63] : '=');
        *p++ = '=';
    }
}

static unsigned value_of(uint8_t c, bool url)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26u;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52u;
    }
    if (c == (url ? '-' : '+')) {
        return 62;
    }
    return c == (url ? '_' : '/') ? 63 : 64;
}

bool base64_take(struct bytes *out, struct slice text)
{
    bool url = text.len > 0 && (memchr(text.data, '-', text.len) != NULL || memchr(text.data, '_', text.len) != NULL);
    bool padded = text.len % 4 == 0;
    size_t before = out->len;
    (void)bytes_reserve(out, text.len / 4 * 3 + 3);
    uint32_t v = 0;
    unsigned n = 0, n_pads = 0; /* of the current four */
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '\r' || c == '\n') {
            continue;
        }
        bool pad = padded && c == '=' && n >= 2;
        unsigned digit = pad ? 0 : value_of(c, url);
        if (digit > 63 || (n_pads > 0 && !pad) || n == 4) {
            out->len = before;
            return false;
        }
        n_pads += pad;
        v = v << 6 | digit;
        n++;
        if (n == 4) {
            uint8_t raw[3] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
            bytes_add(out, raw, 3 - n_pads);
            v = 0;
            n = n_pads > 0 ? 4 : 0; /* nothing may follow padding */
        }
    }
    if (n == 0 || (n == 4 && n_pads > 0)) {
        return true;
    }
    if (padded || n == 1) {
        out->len = before;
        return false;
    }
    uint8_t raw[2] = {(uint8_t)(v >> (6 * n - 8)), (uint8_t)(n == 3 ? v >> 2 : 0)};
    bytes_add(out, raw, n - 1);
    return true;
}
