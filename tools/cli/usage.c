/* usage.c - see usage.h. */
#include "tools/cli/usage.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

static const char *kind_word(enum flag_kind k)
{
    switch (k) {
    case FLAG_BOOL:
        return "";
    case FLAG_INT:
    case FLAG_INT64:
        return " int";
    case FLAG_UINT:
        return " uint";
    case FLAG_STRING:
        return " string";
    case FLAG_STRINGS:
        return " strings";
    case FLAG_DURATION:
        return " duration";
    }
    ASSERT(false);
}

static char *flag_left(const struct flag *f)
{
    return f->letter == '\0' ? xasprintf("      --%s%s", f->name, kind_word(f->kind))
                             : xasprintf("  -%c, --%s%s", f->letter, f->name, kind_word(f->kind));
}

static void flag_line(const struct flag *f, const char *text, size_t width, FILE *out)
{
    char *left = flag_left(f);
    (void)fprintf(out, "%-*s   %s", (int)width, left, text);
    free(left);
    if (f->preset != NULL) {
        const char *open = f->kind == FLAG_STRING ? "\"" : f->kind == FLAG_STRINGS ? "[" : "";
        const char *close = f->kind == FLAG_STRING ? "\"" : f->kind == FLAG_STRINGS ? "]" : "";
        (void)fprintf(out, " (default %s%s%s)", open, f->preset, close);
    }
    (void)fputs("\n", out);
}

void usage_flags(const struct flag *const *flags, size_t n, const char *help_for, FILE *out)
{
    static const struct flag help = {"help", 'h', FLAG_BOOL, NULL, ""};
    size_t width = help_for == NULL ? 0 : strlen("  -h, --help");
    for (size_t i = 0; i < n; i++) {
        char *left = flag_left(flags[i]);
        width = strlen(left) > width ? strlen(left) : width;
        free(left);
    }
    bool helped = help_for == NULL;
    char *text = xasprintf("help for %s", helped ? "" : help_for);
    for (size_t i = 0; i < n; i++) {
        if (!helped && strcmp(flags[i]->name, "help") > 0) {
            flag_line(&help, text, width, out);
            helped = true;
        }
        flag_line(flags[i], flags[i]->text, width, out);
    }
    if (!helped) {
        flag_line(&help, text, width, out);
    }
    free(text);
}

static int by_flag_name(const void *a, const void *b)
{
    const struct flag *const *x = a;
    const struct flag *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

void usage_sort(const struct flag **flags, size_t n)
{
    qsort(flags, n, sizeof(*flags), by_flag_name);
}
