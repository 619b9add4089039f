/* flags.c - see flags.h. */
#include "tools/pintle/flags.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "tools/pintle/url.h"

/* --- values ------------------------------------------------------------------------------------------------- */

bool flag_bool_parse(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

/* Go's base prefixes (0x, 0o, 0b, a leading 0) and underscores between digits. NULL when fine, else Go's reason. */
static const char *parse_number(const char *text, bool is_signed, uint64_t *out)
{
    bool negative = is_signed && *text == '-';
    if (is_signed && (*text == '-' || *text == '+')) {
        text++;
    }
    unsigned base = 10;
    if (text[0] == '0' && text[1] != '\0') {
        char c = (char)tolower((unsigned char)text[1]);
        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        text += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    uint64_t v = 0;
    if (*text == '\0') {
        return "parse error";
    }
    for (; *text != '\0'; text++) {
        if (*text == '_') {
            continue;
        }
        unsigned d = isdigit((unsigned char)*text) ? (unsigned)(*text - '0') : isalpha((unsigned char)*text) ? (unsigned)(tolower((unsigned char)*text) - 'a' + 10) : 99u;
        if (d >= base) {
            return "parse error";
        }
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v)) {
            return "value out of range";
        }
    }
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1u : (uint64_t)INT64_MAX;
    if (is_signed && v > limit) {
        return "value out of range";
    }
    *out = negative ? 0u - v : v;
    return NULL;
}

static void free_urls(char ***urls)
{
    for (size_t i = 0; *urls != NULL && (*urls)[i] != NULL; i++) {
        free((*urls)[i]);
    }
    free(*urls);
    *urls = NULL;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One element of the list `text` of this type. */
static enum err check_element(enum flag_type type, const char *text, const char *element, struct err_ctx *ec)
{
    bool any = type == FLAG_NAMES || (type == FLAG_ORIGINS && strcmp(text, "*") == 0);
    return any ? OK : url_check(element, ec);
}

static enum err parse_list(enum flag_type type, const char *text, char ***out, struct err_ctx *ec)
{
    size_t cap = 2;
    for (const char *p = text; *p != '\0'; p++) {
        cap += *p == ',' ? 1u : 0u;
    }
    char **urls = xcalloc(cap, sizeof(*urls));
    size_t n = 0;
    for (const char *p = text;;) {
        size_t len = strcspn(p, ",");
        const char *from = p;
        size_t flen = len;
        while (flen > 0 && isspace((unsigned char)*from)) {
            from++;
            flen--;
        }
        while (flen > 0 && isspace((unsigned char)from[flen - 1])) {
            flen--;
        }
        urls[n++] = xstrndup(from, flen);
        enum err e = check_element(type, text, urls[n - 1], ec);
        if (e != OK) {
            free_urls(&urls);
            return e;
        }
        if (p[len] == '\0') {
            break;
        }
        p += len + 1;
    }
    qsort(urls, n, sizeof(*urls), compare_strings);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && strcmp(urls[kept - 1], urls[i]) == 0) {
            free(urls[i]);
        } else {
            urls[kept++] = urls[i];
        }
    }
    urls[kept] = NULL;
    *out = urls;
    return OK;
}

/* What strconv.ParseUint says of 32 bits, whose flag has no other words around it. */
static bool parse_uint32(const char *text, uint64_t *out, struct err_ctx *ec)
{
    const char *why = parse_number(text, false, out);
    bool fits = why == NULL && *out <= UINT32_MAX;
    if (!fits) {
        bool range = why == NULL || strcmp(why, "parse error") != 0;
        (void)err_set(ec, ERR_INVALID, "strconv.ParseUint: parsing \"%s\": %s", text, range ? "value out of range" : "invalid syntax");
    }
    return fits;
}

static bool is_choice(const char *choices, const char *text, size_t len)
{
    for (const char *p = choices;; p++) {
        size_t n = strcspn(p, ",");
        if (n == len && strncmp(p, text, n) == 0) {
            return true;
        }
        p += n;
        if (*p == '\0') {
            return false;
        }
    }
}

static bool are_choices(const char *choices, const char *text, struct err_ctx *ec)
{
    for (const char *p = text;;) {
        size_t len = strcspn(p, ",");
        if (!is_choice(choices, p, len)) {
            (void)err_set(ec, ERR_INVALID, "invalid value \"%.*s\"", (int)len, p);
            return false;
        }
        if (p[len] == '\0') {
            return true;
        }
        p += len + 1;
    }
}

/* An empty text leaves the list as it is. */
static bool set_list(enum flag_type type, struct flag_value *v, const char *text, struct err_ctx *ec)
{
    char **list = NULL;
    if (text[0] != '\0' && parse_list(type, text, &list, ec) != OK) {
        return false;
    }
    if (list != NULL) {
        free_urls(&v->urls);
        v->urls = list;
    }
    return true;
}

/* Set from text; *reason is Go's when it does not fit. */
static bool set_value(const struct flag *f, struct flag_value *v, const char *text, const char **reason, struct err_ctx *ec)
{
    *reason = "parse error";
    switch (f->type) {
    case FLAG_STRING:
        break;
    case FLAG_BOOL:
    case FLAG_IGNORED:
        if (!flag_bool_parse(text, &v->b) && f->type == FLAG_BOOL) {
            return false;
        }
        break;
    case FLAG_UINT:
    case FLAG_INT: {
        uint64_t n = 0;
        const char *why = parse_number(text, f->type == FLAG_INT, &n);
        if (why != NULL) {
            *reason = why;
            return false;
        }
        v->u = n;
        v->i = (int64_t)n;
        break;
    }
    case FLAG_UINT32:
        if (!parse_uint32(text, &v->u, ec)) {
            *reason = ec->text;
            return false;
        }
        v->i = (int64_t)v->u;
        break;
    case FLAG_DURATION:
        if (go_duration_parse(text, &v->i) != OK) {
            return false;
        }
        break;
    case FLAG_URLS:
    case FLAG_ORIGINS:
    case FLAG_NAMES:
        if (!set_list(f->type, v, text, ec)) {
            *reason = ec->text;
            return false;
        }
        break;
    case FLAG_ENUM:
        if (!is_choice(f->choices, text, strlen(text))) {
            *reason = "invalid value";
            return false;
        }
        break;
    case FLAG_ENUMS:
        if (!are_choices(f->choices, text, ec)) {
            *reason = ec->text;
            return false;
        }
        break;
    case FLAG_GATES:
        if (flag_gates_parse(v, text, ec) != OK) {
            *reason = ec->text;
            return false;
        }
        break;
    }
    v->text = text;
    return true;
}

/* --- the set -------------------------------------------------------------------------------------------------- */

void flag_set_init(struct flag_set *s, const struct flag *flags)
{
    s->flags = flags;
    s->n = 0;
    while (flags[s->n].name != NULL) {
        s->n++;
    }
    s->values = xcalloc(s->n, sizeof(*s->values));
    s->texts = NULL;
    s->n_texts = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct err_ctx ec;
        const char *reason;
        s->values[i].text = "";
        if (flags[i].type == FLAG_GATES) {
            flag_gates_reset(&s->values[i]);
        }
        if (flags[i].type != FLAG_IGNORED && flags[i].type != FLAG_ENUMS && !(flags[i].type == FLAG_ENUM && flags[i].fallback[0] == '\0')) {
            ASSERT(set_value(&flags[i], &s->values[i], flags[i].fallback, &reason, &ec));
        }
    }
}

void flag_set_deinit(struct flag_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free_urls(&s->values[i].urls);
    }
    for (size_t i = 0; i < s->n_texts; i++) {
        free(s->texts[i]);
    }
    free(s->texts);
    free(s->values);
    s->values = NULL;
    s->texts = NULL;
    s->n_texts = 0;
}

static size_t find(const struct flag_set *s, const char *name, size_t len)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strlen(s->flags[i].name) == len && strncmp(s->flags[i].name, name, len) == 0) {
            return i;
        }
    }
    return s->n;
}

struct flag_value *flag_get(struct flag_set *s, const char *name)
{
    size_t i = find(s, name, strlen(name));
    ASSERT(i < s->n);
    return &s->values[i];
}

bool flag_is_set(struct flag_set *s, const char *name)
{
    const struct flag_value *v = flag_get(s, name);
    return v->given || v->from_env;
}

static void keep_text(struct flag_set *s, struct flag_value *v, char *text)
{
    s->texts = xrealloc(s->texts, (s->n_texts + 1) * sizeof(*s->texts));
    s->texts[s->n_texts++] = text;
    v->text = text;
    v->given = true;
}

void flag_set_unchecked(struct flag_set *s, const char *name, const char *text)
{
    keep_text(s, flag_get(s, name), xstrdup(text));
}

enum err flag_set_assign(struct flag_set *s, const char *name, const char *text, struct err_ctx *ec)
{
    size_t i = find(s, name, strlen(name));
    ASSERT(i < s->n);
    struct err_ctx inner = {{0}};
    const char *reason = NULL;
    char *copy = xstrdup(text);
    if (!set_value(&s->flags[i], &s->values[i], copy, &reason, &inner)) {
        enum err e = err_set(ec, ERR_INVALID, "%s", reason);
        free(copy);
        return e;
    }
    keep_text(s, &s->values[i], copy);
    return OK;
}

enum flag_outcome flag_set_parse(struct flag_set *s, int argc, char **argv, const char **rest, struct err_ctx *ec)
{
    *rest = NULL;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (word[0] != '-' || word[1] == '\0') {
            *rest = word;
            return FLAGS_OK;
        }
        const char *name = word + (word[1] == '-' ? 2 : 1);
        if (name[0] == '\0') {
            *rest = i + 1 < argc ? argv[i + 1] : NULL;
            return FLAGS_OK;
        }
        if (name[0] == '-' || name[0] == '=') {
            (void)err_set(ec, ERR_INVALID, "bad flag syntax: %s", word);
            return FLAGS_ERROR;
        }
        size_t len = strcspn(name, "=");
        size_t k = find(s, name, len);
        if (k == s->n) {
            if ((len == 1 && name[0] == 'h') || (len == 4 && strncmp(name, "help", 4) == 0)) {
                return FLAGS_HELP;
            }
            (void)err_set(ec, ERR_INVALID, "flag provided but not defined: -%.*s", (int)len, name);
            return FLAGS_ERROR;
        }
        const struct flag *f = &s->flags[k];
        bool boolean = f->type == FLAG_BOOL || f->type == FLAG_IGNORED;
        const char *text = name[len] == '=' ? name + len + 1 : boolean ? "true" : NULL;
        if (text == NULL && ++i < argc) {
            text = argv[i];
        }
        if (text == NULL) {
            (void)err_set(ec, ERR_INVALID, "flag needs an argument: -%s", f->name);
            return FLAGS_ERROR;
        }
        struct err_ctx inner = {{0}};
        const char *reason = NULL;
        if (!set_value(f, &s->values[k], text, &reason, &inner)) {
            (void)err_set(ec, ERR_INVALID, "invalid %svalue \"%s\" for %s-%s: %s", boolean ? "boolean " : "", text, boolean ? "" : "flag ", f->name, reason);
            return FLAGS_ERROR;
        }
        s->values[k].given = true;
    }
    return FLAGS_OK;
}

static size_t find_variable(const struct flag_set *s, const char *variable, size_t len)
{
    for (size_t i = 0; i < s->n; i++) {
        const char *name = s->flags[i].name;
        size_t k = 0;
        while (k < len && name[k] != '\0' && variable[k] == (name[k] == '-' ? '_' : (char)toupper((unsigned char)name[k]))) {
            k++;
        }
        if (k == len && name[k] == '\0' && s->flags[i].type != FLAG_IGNORED) {
            return i;
        }
    }
    return s->n;
}

enum err flag_set_environment(struct flag_set *s, char **environ_list, void (*each)(void *arg, const char *entry, bool known), void *arg,
                              struct err_ctx *ec)
{
    for (char **p = environ_list; *p != NULL; p++) {
        if (strncmp(*p, "ETCD_", 5) != 0) {
            continue;
        }
        const char *equals = strchr(*p, '=');
        size_t len = equals == NULL ? strlen(*p) : (size_t)(equals - *p);
        const char *text = equals == NULL ? "" : equals + 1;
        size_t k = find_variable(s, *p + 5, len - 5);
        if (k == s->n) {
            each(arg, *p, false);
            continue;
        }
        if (strcmp(s->flags[k].name, "version") == 0) {
            each(arg, *p, false); /* a flag of the command line alone */
            continue;
        }
        if (s->values[k].given) {
            return err_set(ec, ERR_EXISTS, "%.*s", (int)len, *p);
        }
        if (text[0] == '\0') {
            continue;
        }
        struct err_ctx inner = {{0}};
        const char *reason = NULL;
        if (!set_value(&s->flags[k], &s->values[k], text, &reason, &inner)) {
            return err_set(ec, ERR_INVALID, "invalid value \"%s\" for %.*s: %s", text, (int)len, *p, reason);
        }
        s->values[k].from_env = true;
        each(arg, *p, true);
    }
    return OK;
}
