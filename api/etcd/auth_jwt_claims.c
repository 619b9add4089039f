/* auth_jwt_claims.c - see auth_jwt_claims.h. The reader below it is the engine's
 * (base/json.h). */
#include "api/etcd/auth_jwt_claims.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/json.h"

#define NUMBER_BYTES_MAX 32u

struct header {
    char *alg;
    bool has_alg;
};

/* Nothing but white space is left. */
static bool at_end(const struct json *j)
{
    for (size_t i = 0; i < j->rest.len; i++) {
        if (memchr(" \t\r\n", j->rest.data[i], 4) == NULL) {
            return false;
        }
    }
    return true;
}

static enum err header_field(void *arg, const char *name, struct json *j)
{
    struct header *h = arg;
    if (strcmp(name, "crit") == 0 || (strcmp(name, "alg") == 0 && h->has_alg)) {
        return ERR_INVALID;
    }
    if (strcmp(name, "alg") != 0) {
        return json_skip(j);
    }
    struct bytes text = {0};
    enum err err = json_string(j, &text);
    if (err == OK && text.len < JWT_ALG_BYTES) {
        if (text.len > 0) {
            memcpy(h->alg, text.data, text.len);
        }
        h->alg[text.len] = 0;
        h->has_alg = true;
    } else {
        err = ERR_INVALID;
    }
    bytes_deinit(&text);
    return err;
}

enum err jwt_read_header(struct slice text, char alg[JWT_ALG_BYTES])
{
    struct header h = {.alg = alg};
    struct json j = {.rest = text};
    enum err err = json_object(&j, header_field, &h);
    return err == OK && h.has_alg && at_end(&j) ? OK : ERR_INVALID;
}

/* --- claims
 * ------------------------------------------------------------------------------------ */

/* JSON's grammar of numbers, which strtod's is wider than. Returns the length; 0: no number. */
static size_t number_len(struct slice s)
{
    size_t i = 0;
    size_t digits;
#define DIGITS()                                                                                   \
    for (digits = 0; i < s.len && s.data[i] >= '0' && s.data[i] <= '9'; i++) {                     \
        digits++;                                                                                  \
    }
    if (i < s.len && s.data[i] == '-') {
        i++;
    }
    bool zero = i < s.len && s.data[i] == '0';
    DIGITS();
    if (digits == 0 || (zero && digits > 1)) {
        return 0;
    }
    if (i < s.len && s.data[i] == '.') {
        i++;
        DIGITS();
        if (digits == 0) {
            return 0;
        }
    }
    if (i < s.len && (s.data[i] | 32) == 'e') {
        i++;
        i += i < s.len && (s.data[i] == '+' || s.data[i] == '-');
        DIGITS();
        if (digits == 0) {
            return 0;
        }
    }
#undef DIGITS
    return i;
}

static enum err take_number(struct json *j, double *out, char text[NUMBER_BYTES_MAX])
{
    while (j->rest.len > 0 && memchr(" \t\r\n", *j->rest.data, 4) != NULL) {
        j->rest = slice_of(j->rest.data + 1, j->rest.len - 1);
    }
    size_t n = number_len(j->rest);
    if (n == 0 || n >= NUMBER_BYTES_MAX) {
        return ERR_INVALID;
    }
    memcpy(text, j->rest.data, n);
    text[n] = 0;
    j->rest = slice_of(j->rest.data + n, j->rest.len - n);
    *out = strtod(text, NULL);
    return *out > -1e18 && *out < 1.8446744073709549e19 ? OK : ERR_INVALID;
}

/* Whole numbers are taken exactly; another form is cut to one, as Go's conversion does. */
static enum err take_revision(struct json *j, uint64_t *out)
{
    char text[NUMBER_BYTES_MAX];
    double v = 0;
    enum err err = take_number(j, &v, text);
    if (err != OK || v < 0) {
        return ERR_INVALID;
    }
    char *end;
    unsigned long long whole = strtoull(text, &end, 10);
    *out = *end == 0 && text[0] != '-' ? (uint64_t)whole : (uint64_t)v;
    return OK;
}

enum { SEEN_USER = 1, SEEN_REVISION = 2, SEEN_EXP = 4, SEEN_NBF = 8 };

struct reading {
    struct jwt_claims *c;
    unsigned seen;
};

static enum err claim_field(void *arg, const char *name, struct json *j)
{
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = {
        {"username", SEEN_USER}, {"revision", SEEN_REVISION}, {"exp", SEEN_EXP}, {"nbf", SEEN_NBF}};
    struct reading *r = arg;
    char text[NUMBER_BYTES_MAX];
    unsigned bit = 0;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        bit = strcmp(known[i].name, name) == 0 ? known[i].bit : bit;
    }
    if ((r->seen & bit) != 0) {
        return ERR_INVALID;
    }
    r->seen |= bit;
    if (bit == SEEN_USER) {
        enum err err = json_string(j, &r->c->user);
        bytes_add(&r->c->user, "", 1);
        return err;
    }
    if (bit == SEEN_REVISION) {
        return take_revision(j, &r->c->revision);
    }
    if (bit == SEEN_EXP) {
        return take_number(j, &r->c->exp, text);
    }
    return bit == SEEN_NBF ? take_number(j, &r->c->nbf, text) : json_skip(j);
}

enum err jwt_read_claims(struct slice text, struct jwt_claims *out)
{
    *out = (struct jwt_claims){0};
    struct reading r = {.c = out};
    struct json j = {.rest = text};
    enum err err = json_object(&j, claim_field, &r);
    bool complete = (r.seen & (SEEN_USER | SEEN_REVISION)) == (SEEN_USER | SEEN_REVISION);
    out->has_exp = (r.seen & SEEN_EXP) != 0;
    out->has_nbf = (r.seen & SEEN_NBF) != 0;
    return err == OK && complete && at_end(&j) ? OK : ERR_INVALID;
}

void jwt_write_claims(struct bytes *out, const char *user, uint64_t revision, uint64_t exp_s)
{
    bytes_printf(out, "{\"exp\":%llu,\"revision\":%llu,\"username\":", (unsigned long long)exp_s,
                 (unsigned long long)revision);
    json_add_string(out, user);
    bytes_add_str(out, "}");
}
