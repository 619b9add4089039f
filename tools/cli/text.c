/* text.c - quoting, numbers, sizes and words the way Go's library has them. */
#include "tools/cli/text.h"

#include <ctype.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <wctype.h>

#include "base/assert.h"
#include "base/utf8.h"

#define DISTANCE_WORD_MAX 63u
#define RUNE_MAX 0x10ffffu

bool text_rune(struct slice s, uint32_t *rune, size_t *len)
{
    size_t n = utf8_first(s, rune);
    *len = n == 0 ? 1 : n;
    return n != 0;
}

/* What Go's unicode.IsPrint calls printable: assigned characters but no spaces, format
 * characters or private ones. */
static bool printable(uint32_t r, locale_t unicode)
{
    static const struct {
        uint32_t first, last;
    } hidden[] = {{0x7f, 0xa0},       {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
                  {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x1680, 0x1680},   {0x180e, 0x180e},
                  {0x2000, 0x200f},   {0x2028, 0x202f},   {0x205f, 0x206f},   {0x3000, 0x3000},
                  {0xe000, 0xf8ff},   {0xfeff, 0xfeff},   {0xfff0, 0xfffb},   {0xfffe, 0xffff},
                  {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe00ff}, {0xf0000, RUNE_MAX}};
    if (r < 0x7f) {
        return r >= ' ';
    }
    for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
        if (r >= hidden[i].first && r <= hidden[i].last) {
            return false;
        }
    }
    return unicode == (locale_t)0 || iswprint_l((wint_t)r, unicode) != 0;
}

static void quote_rune(struct bytes *out, uint32_t r, struct slice raw, bool shown)
{
    static const char escapes[] = "abtnvfr"; /* from 7 on */
    if (r == '"' || r == '\\') {
        bytes_printf(out, "\\%c", (int)r);
    } else if (shown) {
        bytes_add(out, raw.data, raw.len);
    } else if (r >= 7 && r <= 13) {
        bytes_printf(out, "\\%c", escapes[r - 7]);
    } else if (r < 0x80) {
        bytes_printf(out, "\\x%02x", (unsigned)r);
    } else if (r < 0x10000) {
        bytes_printf(out, "\\u%04x", (unsigned)r);
    } else {
        bytes_printf(out, "\\U%08x", (unsigned)r);
    }
}

void text_quote(struct bytes *out, struct slice s)
{
    locale_t unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    bytes_add_str(out, "\"");
    for (size_t i = 0; i < s.len;) {
        uint32_t r = 0;
        size_t n = 0;
        if (text_rune(slice_of(s.data + i, s.len - i), &r, &n)) {
            quote_rune(out, r, slice_of(s.data + i, n), printable(r, unicode));
        } else {
            bytes_printf(out, "\\x%02x", s.data[i]);
        }
        i += n;
    }
    bytes_add_str(out, "\"");
    if (unicode != (locale_t)0) {
        freelocale(unicode);
    }
}

void text_hex_escape(struct bytes *out, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        bytes_printf(out, "\\x%02x", s.data[i]);
    }
}

void text_base64(struct bytes *out, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *p = bytes_reserve(out, (s.len + 2) / 3 * 4);
    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = (uint32_t)s.data[i] << 16;
        v |= n > 1 ? (uint32_t)s.data[i + 1] << 8 : 0;
        v |= n > 2 ? s.data[i + 2] : 0;
        *p++ = (uint8_t)digits[v >> 18];
        *p++ = (uint8_t)digits[(v >> 12) & 63];
        *p++ = n > 1 ? (uint8_t)digits[(v >> 6) & 63] : '=';
        *p++ = n > 2 ? (uint8_t)digits[v & 63] : '=';
    }
    out->len += (s.len + 2) / 3 * 4;
}

static void json_rune(struct bytes *out, uint32_t r, struct slice raw)
{
    if (r == '"' || r == '\\') {
        bytes_printf(out, "\\%c", (int)r);
    } else if (r == '\n' || r == '\r' || r == '\t' || r == '\b' || r == '\f') {
        bytes_printf(out, "\\%c",
                     r == '\n'   ? 'n'
                     : r == '\r' ? 'r'
                     : r == '\t' ? 't'
                     : r == '\b' ? 'b'
                                 : 'f');
    } else if (r < ' ' || r == '<' || r == '>' || r == '&' || r == 0x2028 || r == 0x2029) {
        bytes_printf(out, "\\u%04x", (unsigned)r);
    } else {
        bytes_add(out, raw.data, raw.len);
    }
}

void text_json(struct bytes *out, struct slice s)
{
    bytes_add_str(out, "\"");
    for (size_t i = 0; i < s.len;) {
        uint32_t r = 0;
        size_t n = 0;
        if (text_rune(slice_of(s.data + i, s.len - i), &r, &n)) {
            json_rune(out, r, slice_of(s.data + i, n));
        } else {
            bytes_add_str(out, "\\ufffd");
        }
        i += n;
    }
    bytes_add_str(out, "\"");
}

static bool hex_digits(struct slice s, size_t at, size_t n, uint32_t *out)
{
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (at + i >= s.len || !isxdigit(s.data[at + i])) {
            return false;
        }
        int c = tolower(s.data[at + i]);
        v = v * 16 + (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *out = v;
    return true;
}

/* The escape after the backslash at s[at]; returns where it ends, 0 when it is none. */
static size_t unescape(struct slice s, size_t at, struct bytes *out)
{
    static const char names[] = "abfnrtv\\\"";
    static const char values[] = "\a\b\f\n\r\t\v\\\"";
    char c = (char)s.data[at];
    const char *p = c == '\0' ? NULL : strchr(names, c);
    uint32_t v = 0;
    if (p != NULL) {
        bytes_add(out, &values[p - names], 1);
        return at + 1;
    }
    if (c == 'x' && hex_digits(s, at + 1, 2, &v)) {
        uint8_t b = (uint8_t)v;
        bytes_add(out, &b, 1);
        return at + 3;
    }
    size_t n = c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (n > 0) {
        if (!hex_digits(s, at + 1, n, &v) || v > RUNE_MAX || (v >= 0xd800 && v < 0xe000)) {
            return 0;
        }
        utf8_add(out, v);
        return at + 1 + n;
    }
    for (size_t i = 0; i < 3; i++) {
        if (at + i >= s.len || s.data[at + i] < '0' || s.data[at + i] > '7') {
            return 0;
        }
        v = v * 8 + (uint32_t)(s.data[at + i] - '0');
    }
    uint8_t b = (uint8_t)v;
    bytes_add(out, &b, 1);
    return v > 255 ? 0 : at + 3;
}

enum err text_unquote(struct slice s, struct bytes *out, size_t *used)
{
    if (s.len < 2 || (s.data[0] != '"' && s.data[0] != '`')) {
        return ERR_INVALID;
    }
    char quote = (char)s.data[0];
    for (size_t i = 1; i < s.len;) {
        char c = (char)s.data[i];
        if (c == quote) {
            *used = i + 1;
            return OK;
        }
        if (quote == '"' && c == '\\') {
            i = i + 1 < s.len ? unescape(s, i + 1, out) : 0;
            if (i == 0) {
                return ERR_INVALID;
            }
        } else {
            bytes_add(out, &s.data[i], 1);
            i++;
        }
    }
    return ERR_INVALID;
}

static enum err number_failed(const char *function, const char *s, const char *what,
                              struct err_ctx *why)
{
    struct bytes q = {0};
    text_quote(&q, slice_str(s));
    enum err e = err_set(why, ERR_INVALID, "strconv.%s: parsing %.*s: %s", function, (int)q.len,
                         (const char *)q.data, what);
    bytes_deinit(&q);
    return e;
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : isalpha((unsigned char)c) ? tolower(c) - 'a' + 10 : 36;
}

/* Take off 0x, 0o, 0b or 0. */
static const char *take_base(const char *s, unsigned *base)
{
    *base = 10;
    if (s[0] != '0' || s[1] == '\0') {
        return s;
    }
    int c = tolower(s[1]);
    *base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
    return c == 'x' || c == 'b' || c == 'o' ? s + 2 : s + 1;
}

/* 0: well; 1: syntax; 2: out of range, *out being the largest. */
static int magnitude(const char *s, unsigned base, uint64_t *out)
{
    bool any_base = base == 0;
    const char *start = s;
    if (any_base) {
        s = take_base(s, &base);
    }
    if (*s == '\0') {
        return 1;
    }
    uint64_t v = 0;
    bool over = false;
    for (const char *p = s; *p != '\0'; p++) {
        if (any_base && *p == '_' && p > start && p[1] != '\0' && p[1] != '_') {
            continue;
        }
        int d = digit_of(*p);
        if (d >= (int)base) {
            return 1;
        }
        over = over || __builtin_mul_overflow(v, (uint64_t)base, &v) ||
               __builtin_add_overflow(v, (uint64_t)d, &v);
    }
    *out = over ? UINT64_MAX : v;
    return over ? 2 : 0;
}

enum err text_uint(const char *s, unsigned base, uint64_t *out, struct err_ctx *why)
{
    int failed = magnitude(s, base, out);
    return failed == 0 ? OK
                       : number_failed("ParseUint", s,
                                       failed == 1 ? "invalid syntax" : "value out of range", why);
}

enum err text_int(const char *s, unsigned base, int64_t *out, struct err_ctx *why)
{
    bool negative = *s == '-';
    uint64_t v = 0;
    int failed = magnitude(*s == '-' || *s == '+' ? s + 1 : s, base, &v);
    if (failed == 0 && v > (uint64_t)INT64_MAX + (negative ? 1u : 0u)) {
        failed = 2;
    }
    if (failed != 0) {
        return number_failed("ParseInt", s, failed == 1 ? "invalid syntax" : "value out of range",
                             why);
    }
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return OK;
}

enum err text_bool(const char *s, bool *out, struct err_ctx *why)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(s, yes[i]) == 0 || strcmp(s, no[i]) == 0) {
            *out = strcmp(s, yes[i]) == 0;
            return OK;
        }
    }
    return number_failed("ParseBool", s, "invalid syntax", why);
}

void text_size(uint64_t n, char out[TEXT_SIZE_BYTES])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (n < 10) {
        (void)snprintf(out, TEXT_SIZE_BYTES, "%u B", (unsigned)n);
        return;
    }
    size_t u = 0;
    uint64_t unit = 1;
    while (u + 1 < ARRAY_LEN(units) && n / unit >= 1000) {
        unit *= 1000;
        u++;
    }
    /* Half up to one decimal first, and then to none when there are two digits before the point. */
    double tenths = (double)n / (double)unit * 10 + 0.5;
    double value = (double)(uint64_t)tenths / 10;
    (void)snprintf(out, TEXT_SIZE_BYTES, value < 10 ? "%.1f %s" : "%.0f %s", value, units[u]);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

/* Length of the quoted word at `s`, or 0 when its quote is never closed. */
static size_t quoted_len(const char *s)
{
    for (size_t i = 1; s[i] != '\0'; i++) {
        if (s[0] == '"' && s[i] == '\\' && s[i + 1] != '\0') {
            i++;
        } else if (s[i] == s[0]) {
            return i + 1;
        }
    }
    return 0;
}

/* A bare word runs to the next blank, except that its first character may not be a quote. */
static size_t bare_len(const char *s)
{
    size_t n = 0;
    while (s[n] != '\0' && !is_blank(s[n])) {
        n++;
    }
    return n;
}

enum err text_words(const char *line, void (*word)(void *arg, struct slice w), void *arg,
                    struct err_ctx *why)
{
    for (const char *s = line; *s != '\0';) {
        bool quote = *s == '"' || *s == '\'';
        size_t n = quote ? quoted_len(s) : bare_len(s);
        if (n == 0) {
            s++; /* a blank, or a quote without an end */
            continue;
        }
        if (*s == '"') {
            struct bytes plain = {0};
            size_t used = 0;
            if (text_unquote(slice_of(s, n), &plain, &used) != OK) {
                bytes_deinit(&plain);
                return err_set(why, ERR_INVALID, "invalid syntax");
            }
            word(arg, bytes_slice(&plain));
            bytes_deinit(&plain);
        } else {
            word(arg, quote ? slice_of(s + 1, n - 2) : slice_of(s, n));
        }
        s += n;
    }
    return OK;
}

unsigned text_distance(const char *a, const char *b)
{
    unsigned row[DISTANCE_WORD_MAX + 1];
    size_t na = strlen(a);
    size_t nb = strlen(b);
    if (na > DISTANCE_WORD_MAX || nb > DISTANCE_WORD_MAX) {
        return DISTANCE_WORD_MAX;
    }
    for (unsigned j = 0; j <= nb; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; i <= na; i++) {
        unsigned corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            unsigned change = corner + (tolower(a[i - 1]) == tolower(b[j - 1]) ? 0u : 1u);
            corner = row[j];
            unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = change < least ? change : least;
        }
    }
    return row[nb];
}
