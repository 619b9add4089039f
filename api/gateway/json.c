/* json.c - see json.h. */
#include "api/gateway/json.h"

#include <stdio.h>

#include "api/gateway/limits.h"
#include "base/assert.h"

void gjson_init(struct gjson *j, struct slice text, struct err_ctx *ec)
{
    *j = (struct gjson){.start = text.data, .at = text.data, .end = text.data + text.len, .ec = ec};
    if (text.data == NULL) {
        static const uint8_t none[1] = {0};
        j->start = j->at = j->end = none;
    }
}

void gjson_deinit(struct gjson *j)
{
    bytes_deinit(&j->text);
}

/* --- faults ----------------------------------------------------------------------------------------------------- */

/* The byte at `at` does not belong there; `where` goes on from "invalid character 'x' ". */
static enum err bad_byte(struct gjson *j, const char *where)
{
    if (j->at >= j->end) {
        return err_set(j->ec, ERR_INVALID, "unexpected EOF");
    }
    uint8_t c = *j->at;
    if (c == '\'') {
        return err_set(j->ec, ERR_INVALID, "invalid character '\\'' %s", where);
    }
    if (c < 0x20 || c >= 0x7f) {
        return err_set(j->ec, ERR_INVALID, "invalid character '\\x%02x' %s", c, where);
    }
    return err_set(j->ec, ERR_INVALID, "invalid character '%c' %s", c, where);
}

enum err gjson_fault(struct gjson *j, const uint8_t *where, const char *fmt, ...)
{
    if (j->ec == NULL) {
        return ERR_INVALID;
    }
    size_t line = 1;
    const uint8_t *line_start = j->start;
    for (const uint8_t *p = j->start; p < where; p++) {
        if (*p == '\n') {
            line++;
            line_start = p + 1;
        }
    }
    char words[ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(words, sizeof(words), fmt, args);
    va_end(args);
    return err_set(j->ec, ERR_INVALID, "proto: (line %zu:%zu): %s", line, (size_t)(where - line_start) + 1, words);
}

/* --- structure ------------------------------------------------------------------------------------------------------ */

static void skip_space(struct gjson *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r')) {
        j->at++;
    }
}

enum gjson_kind gjson_peek(struct gjson *j)
{
    skip_space(j);
    if (j->at >= j->end) {
        return JSON_END;
    }
    switch (*j->at) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
        return JSON_TRUE;
    case 'f':
        return JSON_FALSE;
    case 'n':
        return JSON_NULL;
    default:
        return *j->at == '-' || (*j->at >= '0' && *j->at <= '9') ? JSON_NUMBER : JSON_FAULT;
    }
}

enum err gjson_enter(struct gjson *j, char open, bool *first)
{
    skip_space(j);
    if (j->at >= j->end || *j->at != (uint8_t)open) {
        return bad_byte(j, "looking for beginning of value");
    }
    if (j->depth >= JSON_DEPTH_MAX) {
        return err_set(j->ec, ERR_INVALID, "exceeded max depth");
    }
    j->depth++;
    j->at++;
    *first = true;
    return OK;
}

enum err gjson_next(struct gjson *j, char close, bool *first)
{
    skip_space(j);
    bool was_first = *first;
    *first = false;
    if (j->at < j->end && *j->at == (uint8_t)close) {
        j->depth--;
        j->at++;
        return ERR_END;
    }
    if (was_first) {
        return OK;
    }
    if (j->at >= j->end || *j->at != ',') {
        return bad_byte(j, close == '}' ? "after object key:value pair" : "after array element");
    }
    j->at++;
    return OK;
}

enum err gjson_name(struct gjson *j, struct slice *name)
{
    if (gjson_peek(j) != JSON_STRING) {
        return bad_byte(j, "looking for beginning of object key string");
    }
    enum err e = gjson_string(j, name);
    if (e != OK) {
        return e;
    }
    skip_space(j);
    if (j->at >= j->end || *j->at != ':') {
        return bad_byte(j, "after object key");
    }
    j->at++;
    return OK;
}

/* --- strings --------------------------------------------------------------------------------------------------------- */

static enum err take_hex4(struct gjson *j, uint32_t *out)
{
    *out = 0;
    for (unsigned i = 0; i < 4; i++, j->at++) {
        uint8_t c = j->at < j->end ? *j->at : 0;
        uint32_t digit = c >= '0' && c <= '9' ? (uint32_t)c - '0' : (c | 32u) >= 'a' && (c | 32u) <= 'f' ? (c | 32u) - 'a' + 10u : 16u;
        if (digit == 16u) {
            return bad_byte(j, "in \\u hexadecimal character escape");
        }
        *out = *out << 4 | digit;
    }
    return OK;
}

static void add_point(struct bytes *b, uint32_t c)
{
    uint8_t u[4];
    size_t n;
    if (c < 0x80) {
        u[0] = (uint8_t)c;
        n = 1;
    } else if (c < 0x800) {
        u[0] = (uint8_t)(0xc0 | c >> 6);
        n = 2;
    } else if (c < 0x10000) {
        u[0] = (uint8_t)(0xe0 | c >> 12);
        n = 3;
    } else {
        u[0] = (uint8_t)(0xf0 | c >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++) {
        u[i] = (uint8_t)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
    }
    bytes_add(b, u, n);
}

/* Behind "\u". A surrogate without its other half is no character; protobuf's JSON refuses it. */
static enum err take_point(struct gjson *j)
{
    const uint8_t *where = j->at - 2;
    uint32_t c = 0;
    enum err e = take_hex4(j, &c);
    if (e != OK) {
        return e;
    }
    if (c >= 0xd800 && c < 0xe000) {
        uint32_t low = 0;
        if (c >= 0xdc00 || j->end - j->at < 2 || j->at[0] != '\\' || j->at[1] != 'u') {
            return gjson_fault(j, where, "invalid escape code in string");
        }
        j->at += 2;
        e = take_hex4(j, &low);
        if (e != OK) {
            return e;
        }
        if (low < 0xdc00 || low >= 0xe000) {
            return gjson_fault(j, where, "invalid escape code in string");
        }
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    add_point(&j->text, c);
    return OK;
}

static enum err take_escape(struct gjson *j)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    j->at++;
    if (j->at >= j->end) {
        return bad_byte(j, "");
    }
    if (*j->at == 'u') {
        j->at++;
        return take_point(j);
    }
    const char *p = *j->at == '\0' ? NULL : strchr(from, *j->at);
    if (p == NULL) {
        return bad_byte(j, "in string escape code");
    }
    bytes_add(&j->text, &to[p - from], 1);
    j->at++;
    return OK;
}

enum err gjson_string(struct gjson *j, struct slice *s)
{
    if (gjson_peek(j) != JSON_STRING) {
        return bad_byte(j, "looking for beginning of value");
    }
    const uint8_t *run = ++j->at;
    bool escaped = false;
    bytes_reset(&j->text);
    while (j->at < j->end && *j->at != '"') {
        if (*j->at < 0x20) {
            return bad_byte(j, "in string literal");
        }
        if (*j->at != '\\') {
            j->at++;
            continue;
        }
        escaped = true;
        bytes_add(&j->text, run, (size_t)(j->at - run));
        enum err e = take_escape(j);
        if (e != OK) {
            return e;
        }
        run = j->at;
    }
    if (j->at >= j->end) {
        return bad_byte(j, "");
    }
    size_t n = (size_t)(j->at - run);
    j->at++;
    if (!escaped) {
        *s = slice_of(run, n);
        return OK;
    }
    bytes_add(&j->text, run, n);
    *s = bytes_slice(&j->text);
    return OK;
}

/* --- numbers, words ------------------------------------------------------------------------------------------------------ */

static bool digit_at(const struct gjson *j)
{
    return j->at < j->end && *j->at >= '0' && *j->at <= '9';
}

static enum err take_digits(struct gjson *j, const char *where)
{
    if (!digit_at(j)) {
        return bad_byte(j, where);
    }
    while (digit_at(j)) {
        j->at++;
    }
    return OK;
}

enum err gjson_number(struct gjson *j, struct slice *s)
{
    if (gjson_peek(j) != JSON_NUMBER) {
        return bad_byte(j, "looking for beginning of value");
    }
    const uint8_t *from = j->at;
    enum err e = OK;
    j->at += *j->at == '-' ? 1 : 0;
    if (j->at < j->end && *j->at == '0') {
        j->at++;
    } else {
        e = take_digits(j, "in numeric literal");
    }
    if (e == OK && j->at < j->end && *j->at == '.') {
        j->at++;
        e = take_digits(j, "after decimal point in numeric literal");
    }
    if (e == OK && j->at < j->end && (*j->at | 32u) == 'e') {
        j->at++;
        j->at += j->at < j->end && (*j->at == '+' || *j->at == '-') ? 1 : 0;
        e = take_digits(j, "in exponent of numeric literal");
    }
    *s = slice_of(from, (size_t)(j->at - from));
    return e;
}

enum err gjson_word(struct gjson *j, enum gjson_kind word)
{
    const char *text = word == JSON_TRUE ? "true" : word == JSON_FALSE ? "false" : "null";
    if (gjson_peek(j) != word) {
        return bad_byte(j, "looking for beginning of value");
    }
    for (const char *p = text; *p != '\0'; p++, j->at++) {
        if (j->at >= j->end || *j->at != (uint8_t)*p) {
            char where[64];
            (void)snprintf(where, sizeof(where), "in literal %s (expecting '%c')", text, *p);
            return bad_byte(j, where);
        }
    }
    return OK;
}

/* Its recursion is bounded by JSON_DEPTH_MAX. */
enum err gjson_skip(struct gjson *j)
{
    struct slice s;
    bool first;
    enum gjson_kind kind = gjson_peek(j);
    switch (kind) {
    case JSON_STRING:
        return gjson_string(j, &s);
    case JSON_NUMBER:
        return gjson_number(j, &s);
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL:
        return gjson_word(j, kind);
    case JSON_END:
    case JSON_FAULT:
        return bad_byte(j, "looking for beginning of value");
    case JSON_OBJECT:
    case JSON_ARRAY:
        break;
    }
    char close = kind == JSON_OBJECT ? '}' : ']';
    enum err e = gjson_enter(j, kind == JSON_OBJECT ? '{' : '[', &first);
    while (e == OK) {
        e = gjson_next(j, close, &first);
        if (e == OK && kind == JSON_OBJECT) {
            e = gjson_name(j, &s);
        }
        if (e == OK) {
            e = gjson_skip(j);
        }
    }
    return e == ERR_END ? OK : e;
}

/* --- integers ---------------------------------------------------------------------------------------------------------------- */

struct parts {
    bool negative;
    struct slice whole, fraction; /* digits; the fraction without zeroes at its end */
    int exponent;
};

static struct slice take_run(struct slice *s)
{
    size_t n = 0;
    while (n < s->len && s->data[n] >= '0' && s->data[n] <= '9') {
        n++;
    }
    struct slice run = slice_of(s->data, n);
    *s = slice_of(s->data + n, s->len - n);
    return run;
}

static bool split(struct slice s, struct parts *p)
{
    *p = (struct parts){0};
    p->negative = s.len > 0 && s.data[0] == '-';
    s = p->negative ? slice_of(s.data + 1, s.len - 1) : s;
    p->whole = take_run(&s);
    if (s.len > 0 && s.data[0] == '.') {
        s = slice_of(s.data + 1, s.len - 1);
        p->fraction = take_run(&s);
        while (p->fraction.len > 0 && p->fraction.data[p->fraction.len - 1] == '0') {
            p->fraction.len--;
        }
    }
    if (s.len == 0) {
        return true;
    }
    bool minus = s.len > 1 && s.data[1] == '-';
    bool sign = minus || (s.len > 1 && s.data[1] == '+');
    s = slice_of(s.data + 1 + sign, s.len - 1 - sign);
    for (size_t i = 0; i < s.len; i++) {
        p->exponent = p->exponent * 10 + (s.data[i] - '0');
        if (p->exponent > 1000000) {
            return false; /* no digits of a request make an integer of that */
        }
    }
    p->exponent = minus ? -p->exponent : p->exponent;
    return true;
}

/* The absolute value. */
static bool magnitude(const struct parts *p, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = p->whole.len + p->fraction.len;
    int64_t digits = (int64_t)p->whole.len + p->exponent; /* that the integer has */
    for (size_t i = 0; i < n; i++) {
        unsigned digit = (unsigned)(i < p->whole.len ? p->whole.data[i] : p->fraction.data[i - p->whole.len]) - '0';
        if ((int64_t)i >= digits) {
            if (digit != 0) {
                return false;
            }
            continue;
        }
        if (v > (UINT64_MAX - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    for (int64_t i = (int64_t)n; i < digits && v != 0; i++) {
        if (v > UINT64_MAX / 10) {
            return false;
        }
        v *= 10;
    }
    *out = v;
    return true;
}

bool gjson_to_uint(struct slice number, uint64_t *out)
{
    struct parts p;
    uint64_t v = 0;
    if (!split(number, &p) || !magnitude(&p, &v) || (p.negative && v != 0)) {
        return false;
    }
    *out = v;
    return true;
}

bool gjson_to_int(struct slice number, int64_t *out)
{
    struct parts p;
    uint64_t v = 0;
    if (!split(number, &p) || !magnitude(&p, &v) || v > (uint64_t)INT64_MAX + (p.negative ? 1 : 0)) {
        return false;
    }
    *out = (int64_t)(p.negative ? 0 - v : v);
    return true;
}
