/* number.c - shortest digits by trial.
 *
 * Printing with one significant digit more each time until the text reads back as the same double
 * gives the shortest digits; seventeen always suffice. Whole numbers below 2^53, which most samples
 * are, need no trial.
 */
#include "base/number.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 17
#define WHOLE_MAX 9007199254740992.0 /* 2^53 */
#define G_EXPONENT_MIN (-4)
#define G_EXPONENT_END 6

/* 0.d1d2d3... * 10^point, without zeros at the end; zero has no digits. */
struct decimal {
    char digits[DIGITS_MAX + 7];
    int n;
    int point;
};

static void trim_zeros(struct decimal *d)
{
    while (d->n > 0 && d->digits[d->n - 1] == '0') {
        d->n--;
    }
    d->digits[d->n] = '\0';
}

static void shortest(double v, struct decimal *d)
{
    if (v < WHOLE_MAX && v == (double)(uint64_t)v) {
        d->n = snprintf(d->digits, sizeof(d->digits), "%llu", (unsigned long long)v);
        d->point = d->n;
        trim_zeros(d);
        return;
    }
    char text[40];
    for (int n = 1; n <= DIGITS_MAX; n++) {
        (void)snprintf(text, sizeof(text), "%.*e", n - 1, v);
        if (strtod(text, NULL) == v) {
            break;
        }
    }
    /* d.ddde[+-]xx */
    d->n = 0;
    const char *p = text;
    for (; *p != 'e' && d->n < DIGITS_MAX; p++) {
        if (*p != '.') {
            d->digits[d->n++] = *p;
        }
    }
    const char *e = strchr(text, 'e');
    d->point = (e == NULL ? 0 : (int)strtol(e + 1, NULL, 10)) + 1;
    trim_zeros(d);
}

/* Handles what is no finite number, and the sign. Returns where the digits go, NULL when done. */
static char *start(double *v, char *out)
{
    if (isnan(*v)) {
        memcpy(out, "NaN", 4);
        return NULL;
    }
    if (isinf(*v)) {
        memcpy(out, *v > 0 ? "+Inf" : "-Inf", 5);
        return NULL;
    }
    if (signbit(*v)) {
        *v = -*v;
        *out++ = '-';
    }
    return out;
}

static char *put_zeros(char *p, int n)
{
    for (int i = 0; i < n; i++) {
        *p++ = '0';
    }
    return p;
}

static void put_plain(const struct decimal *d, char *p)
{
    if (d->n == 0) {
        memcpy(p, "0", 2);
        return;
    }
    int whole = d->point < 0 ? 0 : d->point < d->n ? d->point : d->n; /* digits before the point */
    if (d->point <= 0) {
        *p++ = '0';
    }
    memcpy(p, d->digits, (size_t)whole);
    p = put_zeros(p + whole, d->point - whole);
    if (whole < d->n) {
        *p++ = '.';
        p = put_zeros(p, -d->point);
        memcpy(p, d->digits + whole, (size_t)(d->n - whole));
        p += d->n - whole;
    }
    *p = '\0';
}

void number_format_f(double v, char out[NUMBER_F_BYTES])
{
    char *p = start(&v, out);
    if (p != NULL) {
        struct decimal d;
        shortest(v, &d);
        put_plain(&d, p);
    }
}

void number_format_g(double v, char out[NUMBER_G_BYTES])
{
    char *p = start(&v, out);
    if (p == NULL) {
        return;
    }
    struct decimal d;
    shortest(v, &d);
    int exponent = d.point - 1;
    if (d.n == 0 || (exponent >= G_EXPONENT_MIN && exponent < G_EXPONENT_END)) {
        put_plain(&d, p);
        return;
    }
    *p++ = d.digits[0];
    if (d.n > 1) {
        *p++ = '.';
        memcpy(p, d.digits + 1, (size_t)d.n - 1);
        p += d.n - 1;
    }
    (void)snprintf(p, NUMBER_G_BYTES - (size_t)(p - out), "e%c%02d", exponent < 0 ? '-' : '+',
                   abs(exponent));
}
