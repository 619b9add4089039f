/* usage_page.c - etcdutl's help is its usage and nothing else. */
#include <string.h>

#include "tools/cli/usage.h"
#include "tools/pintleutl/utl.h"

#define NAME_COLUMN 11

static size_t list(const struct flag *flags, const struct flag **out)
{
    size_t n = 0;
    for (const struct flag *f = flags; f != NULL && f->name != NULL; f++) {
        out[n++] = f;
    }
    usage_sort(out, n);
    return n;
}

static bool list_children(const struct utl_command *parent, FILE *out)
{
    bool any = false;
    for (const struct utl_command *c = utl_commands; c->path != NULL; c++) {
        if (utl_is_child(parent, c)) {
            (void)fprintf(out, "%s  %-*s %s\n", any ? "" : "\nAvailable Commands:\n", NAME_COLUMN,
                          utl_command_name(c), c->text);
            any = true;
        }
    }
    return any;
}

void utl_usage(const char *program, const struct utl_command *c, bool with_help, FILE *out)
{
    const struct flag *flags[FLAGS_MAX];
    const char *path = c == NULL ? "" : c->path;
    const char *blank = c == NULL ? "" : " ";
    bool group = c == NULL || c->use == NULL;
    (void)fprintf(out, "Usage:\n  %s%s%s %s\n", program, blank, path, group ? "[command]" : c->use);
    bool parent = list_children(c, out);
    size_t n = list(c == NULL ? utl_global_flags : c->flags, flags);
    (void)fputs("\nFlags:\n", out);
    usage_flags(flags, n, !with_help ? NULL : c == NULL ? program : utl_command_name(c), out);
    if (c != NULL) {
        n = list(utl_global_flags, flags);
        (void)fputs("\nGlobal Flags:\n", out);
        usage_flags(flags, n, NULL, out);
    }
    if (parent) {
        (void)fprintf(out,
                      "\nUse \"%s%s%s [command] --help\" for more information about a command.\n",
                      program, blank, path);
    }
}
