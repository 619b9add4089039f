/* duration.c - Go's text form of a duration, both ways.
 *
 * Written: below a second one unit (ns, us with the micro sign, ms) with a decimal fraction; above
 * it hours, minutes and seconds, the leading ones left out. Read: a sign, then numbers with units,
 * in any order, each with an optional fraction.
 */
#include "base/log.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MIN (60 * NS_PER_S)
#define NS_PER_H (60 * NS_PER_MIN)
#define NS_MAGNITUDE_MAX (UINT64_C(1) << 63) /* of the most negative duration */
#define TEXT_BYTES 32u

struct unit {
    const char *name;
    uint64_t ns;
};

static const struct unit units[] = {
    {"ns", 1},         {"us", NS_PER_US}, {"\xC2\xB5s", NS_PER_US}, {"\xCE\xBCs", NS_PER_US},
    {"ms", NS_PER_MS}, {"s", NS_PER_S},   {"m", NS_PER_MIN},        {"h", NS_PER_H},
};

/* Write before `p`: value / unit with as many fraction digits as needed. Returns the new start. */
static char *put_back(char *p, uint64_t value, uint64_t unit)
{
    uint64_t fraction = value % unit;
    bool started = false;
    for (uint64_t u = unit; u > 1; u /= 10) {
        unsigned digit = (unsigned)(fraction % 10);
        fraction /= 10;
        started = started || digit != 0;
        if (started) {
            *--p = (char)('0' + digit);
        }
    }
    if (started) {
        *--p = '.';
    }
    uint64_t whole = value / unit;
    do {
        *--p = (char)('0' + whole % 10);
        whole /= 10;
    } while (whole > 0);
    return p;
}

static char *put_text_back(char *p, const char *text)
{
    size_t len = strlen(text);
    p -= len;
    memcpy(p, text, len);
    return p;
}

static char *format_back(char *p, uint64_t ns)
{
    if (ns == 0) {
        return put_text_back(p, "0s");
    }
    if (ns < NS_PER_US) {
        return put_back(put_text_back(p, "ns"), ns, 1);
    }
    if (ns < NS_PER_MS) {
        return put_back(put_text_back(p, "\xC2\xB5s"), ns, NS_PER_US);
    }
    if (ns < NS_PER_S) {
        return put_back(put_text_back(p, "ms"), ns, NS_PER_MS);
    }
    p = put_back(put_text_back(p, "s"), ns % NS_PER_MIN, NS_PER_S);
    if (ns >= NS_PER_MIN) {
        p = put_back(put_text_back(p, "m"), ns / NS_PER_MIN % 60, 1);
    }
    if (ns >= NS_PER_H) {
        p = put_back(put_text_back(p, "h"), ns / NS_PER_H, 1);
    }
    return p;
}

void go_duration_format(int64_t ns, char *out, size_t out_bytes)
{
    char text[TEXT_BYTES]; /* the longest is -2562047h47m16.854775808s */
    char *end = text + sizeof(text);
    char *p = format_back(end, ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns);
    if (ns < 0) {
        *--p = '-';
    }
    size_t len = (size_t)(end - p);
    ASSERT(len < out_bytes);
    memcpy(out, p, len);
    out[len] = '\0';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits before the point, at most NS_MAGNITUDE_MAX. */
static bool take_whole(const char **s, uint64_t *out)
{
    uint64_t v = 0;
    for (; is_digit(**s); (*s)++) {
        if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
            __builtin_add_overflow(v, (uint64_t)(**s - '0'), &v) || v > NS_MAGNITUDE_MAX) {
            return false;
        }
    }
    *out = v;
    return true;
}

/* Digits after the point, as a number and the power of ten it stands over. Digits past what fits
 * are read and dropped. */
static uint64_t take_fraction(const char **s, double *scale)
{
    uint64_t v = 0;
    bool full = false;
    *scale = 1;
    for (; is_digit(**s); (*s)++) {
        uint64_t next = v * 10 + (uint64_t)(**s - '0');
        full = full || v > (NS_MAGNITUDE_MAX - 1) / 10 || next > NS_MAGNITUDE_MAX;
        if (!full) {
            v = next;
            *scale *= 10;
        }
    }
    return v;
}

static uint64_t take_unit(const char **s)
{
    size_t len = 0;
    while ((*s)[len] != '\0' && (*s)[len] != '.' && !is_digit((*s)[len])) {
        len++;
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strlen(units[i].name) == len && memcmp(units[i].name, *s, len) == 0) {
            *s += len;
            return units[i].ns;
        }
    }
    return 0;
}

/* One number with its unit, added to *sum. */
static bool take_part(const char **s, uint64_t *sum)
{
    uint64_t whole = 0;
    uint64_t fraction = 0;
    double scale = 1;
    const char *start = *s;
    if (!take_whole(s, &whole)) {
        return false;
    }
    size_t n_digits = (size_t)(*s - start);
    if (**s == '.') {
        (*s)++;
        start = *s;
        fraction = take_fraction(s, &scale);
        n_digits += (size_t)(*s - start);
    }
    uint64_t unit = n_digits == 0 ? 0 : take_unit(s);
    if (unit == 0 || whole > NS_MAGNITUDE_MAX / unit) {
        return false;
    }
    /* Both products stay below 2^63 + 2^42, so only the sum has to be looked at. */
    uint64_t part = whole * unit + (uint64_t)((double)fraction * ((double)unit / scale));
    return part <= NS_MAGNITUDE_MAX && !__builtin_add_overflow(*sum, part, sum) &&
           *sum <= NS_MAGNITUDE_MAX;
}

enum err go_duration_parse(const char *text, int64_t *ns)
{
    const char *s = text;
    bool negative = *s == '-';
    if (*s == '-' || *s == '+') {
        s++;
    }
    if (strcmp(s, "0") == 0) {
        *ns = 0;
        return OK;
    }
    if (*s == '\0') {
        return ERR_INVALID;
    }
    uint64_t sum = 0;
    while (*s != '\0') {
        if (!take_part(&s, &sum)) {
            return ERR_INVALID;
        }
    }
    if (!negative && sum == NS_MAGNITUDE_MAX) {
        return ERR_INVALID;
    }
    *ns = negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return OK;
}
