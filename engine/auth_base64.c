/* auth_base64.c - see auth_base64.h. */
#include "engine/auth_base64.h"

static const char standard[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(const char *alphabet, bool pad, struct slice data, struct bytes *out)
{
    for (size_t i = 0; i < data.len; i += 3) {
        size_t n = data.len - i < 3 ? data.len - i : 3;
        uint32_t v = (uint32_t)data.data[i] << 16;
        v |= n > 1 ? (uint32_t)data.data[i + 1] << 8 : 0;
        v |= n > 2 ? (uint32_t)data.data[i + 2] : 0;
        char c[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63u],
                     n > 1 ? alphabet[v >> 6 & 63u] : '=', n > 2 ? alphabet[v & 63u] : '='};
        bytes_add(out, c, pad ? 4 : n + 1);
    }
}

void base64_encode(struct slice data, struct bytes *out)
{
    encode(standard, true, data, out);
}

void base64url_encode(struct slice data, struct bytes *out)
{
    encode(url, false, data, out);
}

static int value_of(const char *alphabet, uint8_t c)
{
    const char *at = c == 0 ? NULL : strchr(alphabet, c);
    return at == NULL ? -1 : (int)(at - alphabet);
}

/* Bits gather from the left; a byte goes out for each eight. */
struct gather {
    uint32_t bits;
    unsigned n_bits;
    size_t n_chars;
};

static bool take(struct gather *g, const char *alphabet, uint8_t c, struct bytes *out)
{
    int v = value_of(alphabet, c);
    if (v < 0) {
        return false;
    }
    g->bits = g->bits << 6 | (uint32_t)v;
    g->n_bits += 6;
    g->n_chars++;
    if (g->n_bits >= 8) {
        g->n_bits -= 8;
        uint8_t byte = (uint8_t)(g->bits >> g->n_bits);
        bytes_add(out, &byte, 1);
    }
    return true;
}

enum err base64_decode(struct slice text, struct bytes *out)
{
    struct gather g = {0};
    size_t start = out->len;
    size_t n_pads = 0;
    bool sound = true;
    for (size_t i = 0; sound && i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '\n' || c == '\r') {
            continue;
        }
        if (c == '=') {
            n_pads++;
        } else {
            sound = n_pads == 0 && take(&g, standard, c, out);
        }
    }
    size_t pads = g.n_chars % 4 == 0 ? 0 : 4 - g.n_chars % 4;
    if (!sound || pads == 3 || n_pads != pads) {
        out->len = start;
        return ERR_INVALID;
    }
    return OK;
}

enum err base64url_decode(struct slice text, struct bytes *out)
{
    struct gather g = {0};
    size_t start = out->len;
    bool sound = text.len % 4 != 1;
    for (size_t i = 0; sound && i < text.len; i++) {
        sound = take(&g, url, text.data[i], out);
    }
    if (!sound || (g.bits & ((1u << g.n_bits) - 1u)) != 0) {
        out->len = start;
        return ERR_INVALID;
    }
    return OK;
}
