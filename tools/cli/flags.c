/* flags.c - one pass over the words; a flag that needs a value takes the next word whatever it
 * is. */
#include "tools/cli/flags.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "tools/cli/text.h"

void *cli_alloc(struct arena *a, size_t n)
{
    void *p = arena_calloc(a, 1, n);
    if (p == NULL) {
        (void)fputs("Error: out of memory\n", stderr);
        exit(1);
    }
    return p;
}

char *cli_dup(struct arena *a, const void *data, size_t len)
{
    char *p = cli_alloc(a, len + 1);
    if (len > 0) {
        memcpy(p, data, len);
    }
    return p;
}

void flags_init(struct flag_set *s, struct arena *arena)
{
    memset(s, 0, sizeof(*s));
    s->arena = arena;
    s->n_before = SIZE_MAX;
}

void flags_add(struct flag_set *s, const struct flag *flags)
{
    for (const struct flag *f = flags; f != NULL && f->name != NULL; f++) {
        ASSERT(s->n < FLAGS_MAX);
        size_t at = s->n++;
        s->flags[at] = f;
        s->values[at].text = "";
        if (f->preset != NULL) {
            enum err e = flags_set(s, at, f->preset, NULL);
            ASSERT(e == OK);
            s->values[at].changed = false;
        }
    }
}

bool flags_find(const struct flag_set *s, const char *name, size_t *i)
{
    for (size_t k = 0; k < s->n; k++) {
        if (strcmp(s->flags[k]->name, name) == 0) {
            *i = k;
            return true;
        }
    }
    return false;
}

const struct flag_value *flag(const struct flag_set *s, const char *name)
{
    size_t i = 0;
    bool found = flags_find(s, name, &i);
    ASSERT(found);
    return &s->values[i];
}

bool flag_yes(const struct flag_set *s, const char *name)
{
    return flag(s, name)->yes;
}

int64_t flag_number(const struct flag_set *s, const char *name)
{
    return flag(s, name)->number;
}

const char *flag_text(const struct flag_set *s, const char *name)
{
    return flag(s, name)->text;
}

/* Where the field that begins at `s` ends; its text goes to `out`. NULL: a quote is wrong. */
static const char *csv_field(const char *s, char *out)
{
    if (*s != '"') {
        while (*s != '\0' && *s != ',') {
            if (*s == '"') {
                return NULL;
            }
            *out++ = *s++;
        }
        *out = '\0';
        return s;
    }
    for (s++; *s != '\0'; s++) {
        if (*s == '"' && s[1] == '"') {
            *out++ = *s++;
        } else if (*s == '"') {
            *out = '\0';
            return s[1] == '\0' || s[1] == ',' ? s + 1 : NULL;
        } else {
            *out++ = *s;
        }
    }
    return NULL;
}

/* One CSV record; the first time it takes the place of the default. */
static enum err set_list(struct flag_set *s, struct flag_value *v, const char *text,
                         struct err_ctx *why)
{
    const char **list = cli_alloc(s->arena, (FLAGS_LIST_MAX + 1) * sizeof(*list));
    size_t n = 0;
    if (v->changed) {
        memcpy(list, v->list, v->n_list * sizeof(*list));
        n = v->n_list;
    }
    for (const char *p = text; *text != '\0';) {
        char *field = cli_alloc(s->arena, strlen(p) + 1);
        p = csv_field(p, field);
        if (p == NULL) {
            return err_set(why, ERR_INVALID,
                           "parse error on line 1, column %zu: bare \" in non-quoted field", n + 1);
        }
        if (n == FLAGS_LIST_MAX) {
            return err_set(why, ERR_INVALID, "more than %u items", FLAGS_LIST_MAX);
        }
        list[n++] = field;
        if (*p == '\0') {
            break;
        }
        p++;
    }
    v->list = list;
    v->n_list = n;
    return OK;
}

static enum err set_duration(struct flag_value *v, const char *text, struct err_ctx *why)
{
    if (go_duration_parse(text, &v->number) == OK) {
        return OK;
    }
    size_t digits = strspn(text, "0123456789.+-");
    struct bytes q = {0};
    text_quote(&q, slice_str(text));
    const char *what = digits > 0 && text[digits] == '\0' && strpbrk(text, "0123456789") != NULL
                           ? "missing unit in"
                           : "invalid";
    enum err e =
        err_set(why, ERR_INVALID, "time: %s duration %.*s", what, (int)q.len, (const char *)q.data);
    bytes_deinit(&q);
    return e;
}

enum err flags_set(struct flag_set *s, size_t i, const char *text, struct err_ctx *why)
{
    struct flag_value *v = &s->values[i];
    enum err e = OK;
    switch (s->flags[i]->kind) {
    case FLAG_BOOL:
        e = text_bool(text, &v->yes, why);
        break;
    case FLAG_INT:
    case FLAG_INT64:
        e = text_int(text, 0, &v->number, why);
        break;
    case FLAG_UINT: {
        uint64_t n = 0;
        e = text_uint(text, 0, &n, why);
        v->number = e == OK ? (int64_t)n : v->number;
        break;
    }
    case FLAG_STRING:
        v->text = text;
        break;
    case FLAG_STRINGS:
        e = set_list(s, v, text, why);
        break;
    case FLAG_DURATION:
        e = set_duration(v, text, why);
        break;
    }
    v->changed = v->changed || e == OK;
    return e;
}

static enum err set_from_word(struct flag_set *s, size_t i, const char *text, struct err_ctx *why)
{
    struct err_ctx inner = {{0}};
    enum err e = flags_set(s, i, text, &inner);
    s->values[i].given = true;
    if (e == OK) {
        return OK;
    }
    struct bytes q = {0};
    text_quote(&q, slice_str(text));
    const struct flag *f = s->flags[i];
    char letter[] = "-x, ";
    letter[1] = f->letter;
    e = err_set(why, ERR_INVALID, "invalid argument %.*s for \"%s--%s\" flag: %s", (int)q.len,
                (const char *)q.data, f->letter == '\0' ? "" : letter, f->name, inner.text);
    bytes_deinit(&q);
    return e;
}

/* "--name" or "--name=value"; takes the next word when it needs to. */
static enum err long_flag(struct flag_set *s, const char *const *words, size_t n, size_t *at,
                          bool *help, struct err_ctx *why)
{
    const char *name = words[*at] + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals == NULL ? strlen(name) : (size_t)(equals - name);
    if (len == 0 || name[0] == '-') {
        return err_set(why, ERR_INVALID, "bad flag syntax: %s", words[*at]);
    }
    size_t i = 0;
    char *wanted = cli_dup(s->arena, name, len);
    if (!flags_find(s, wanted, &i)) {
        *help = strcmp(wanted, "help") == 0;
        return *help ? OK : err_set(why, ERR_INVALID, "unknown flag: --%s", wanted);
    }
    if (equals != NULL) {
        return set_from_word(s, i, equals + 1, why);
    }
    if (s->flags[i]->kind == FLAG_BOOL) {
        return set_from_word(s, i, "true", why);
    }
    if (*at + 1 == n) {
        return err_set(why, ERR_INVALID, "flag needs an argument: --%s", wanted);
    }
    (*at)++;
    return set_from_word(s, i, words[*at], why);
}

static bool find_letter(const struct flag_set *s, char c, size_t *i)
{
    for (size_t k = 0; k < s->n; k++) {
        if (s->flags[k]->letter == c) {
            *i = k;
            return true;
        }
    }
    return false;
}

/* "-abc", "-wjson", "-w=json", "-w json". */
static enum err short_flags(struct flag_set *s, const char *const *words, size_t n, size_t *at,
                            bool *help, struct err_ctx *why)
{
    const char *group = words[*at] + 1;
    for (const char *p = group; *p != '\0'; p++) {
        size_t i = 0;
        if (!find_letter(s, *p, &i)) {
            *help = *p == 'h';
            return *help ? OK
                         : err_set(why, ERR_INVALID, "unknown shorthand flag: '%c' in -%s", *p, p);
        }
        if (p[1] == '=') {
            return set_from_word(s, i, p + 2, why);
        }
        if (s->flags[i]->kind == FLAG_BOOL) {
            enum err e = set_from_word(s, i, "true", why);
            if (e != OK) {
                return e;
            }
            continue;
        }
        if (p[1] != '\0') {
            return set_from_word(s, i, p + 1, why);
        }
        if (*at + 1 == n) {
            return err_set(why, ERR_INVALID, "flag needs an argument: '%c' in -%s", *p, p);
        }
        (*at)++;
        return set_from_word(s, i, words[*at], why);
    }
    return OK;
}

enum err flags_parse(struct flag_set *s, const char *const *words, size_t n, struct err_ctx *why)
{
    bool help = false;
    s->args = cli_alloc(s->arena, (n + 1) * sizeof(*s->args));
    for (size_t i = 0; i < n; i++) {
        const char *w = words[i];
        bool asks = false;
        enum err e = OK;
        if (w[0] != '-' || w[1] == '\0') {
            s->args[s->n_args++] = w;
        } else if (strcmp(w, "--") == 0) {
            s->n_before = s->n_args;
            for (i++; i < n; i++) {
                s->args[s->n_args++] = words[i];
            }
        } else if (w[1] == '-') {
            e = long_flag(s, words, n, &i, &asks, why);
        } else {
            e = short_flags(s, words, n, &i, &asks, why);
        }
        if (e != OK) {
            return e;
        }
        help = help || asks;
    }
    return help ? ERR_END : OK;
}
