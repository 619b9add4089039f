/* help.c - the pages of help in cobra's layout. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/text.h"

#define NAME_COLUMN 11
#define CHILDREN_MAX 64u

static const char *const group_titles[N_GROUPS] = {
    [GROUP_KV] = "Key-value commands",
    [GROUP_CLUSTER] = "Cluster maintenance commands",
    [GROUP_CONCURRENCY] = "Concurrency commands",
    [GROUP_AUTH] = "Authentication commands",
    [GROUP_UTILITY] = "Utility commands",
};

static int by_name(const void *a, const void *b)
{
    const struct command *const *x = a;
    const struct command *const *y = b;
    return strcmp(command_name(*x), command_name(*y));
}

/* The children by name; `group` counts only for those without parents. */
static void list_children(const struct command *parent, enum command_group group, FILE *out)
{
    const struct command *found[CHILDREN_MAX];
    size_t n = 0;
    for (const struct command *c = commands; c->path != NULL && n < CHILDREN_MAX; c++) {
        if (command_is_child(parent, c) && (parent != NULL || c->group == group)) {
            found[n++] = c;
        }
    }
    qsort(found, n, sizeof(found[0]), by_name);
    for (size_t i = 0; i < n; i++) {
        (void)fprintf(out, "  %-*s %s\n", NAME_COLUMN, command_name(found[i]), found[i]->text);
    }
}

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

void help_flags(const struct flag *const *flags, size_t n, const char *help_for, FILE *out)
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

static bool has_children(const struct command *c)
{
    for (const struct command *p = commands; p->path != NULL; p++) {
        if (command_is_child(c, p)) {
            return true;
        }
    }
    return false;
}

static void list_flags(const struct command *c, FILE *out)
{
    const struct flag *own[FLAGS_MAX];
    const struct flag *inherited[FLAGS_MAX];
    size_t n = 0;
    size_t n_inherited = 0;
    for (const struct flag *f = c->flags; f != NULL && f->name != NULL; f++) {
        own[n++] = f;
    }
    for (const struct command *p = commands; p->path != NULL; p++) {
        for (const struct flag *f = p->flags; p->any_place && command_is_child(p, c) && f->name != NULL; f++) {
            inherited[n_inherited++] = f;
        }
    }
    qsort(own, n, sizeof(own[0]), by_flag_name);
    (void)fputs("\nFlags:\n", out);
    help_flags(own, n, command_name(c), out);
    if (n_inherited > 0) {
        (void)fputs("\nGlobal Flags:\n", out);
        help_flags(inherited, n_inherited, NULL, out);
    }
}

static void root_usage(const char *program, FILE *out)
{
    (void)fprintf(out, "Usage:\n  %s [command]\n", program);
    for (enum command_group g = 0; g < N_GROUPS; g++) {
        (void)fprintf(out, "\n%s\n", group_titles[g]);
        list_children(NULL, g, out);
    }
    (void)fprintf(out, "\nUse \"%s [command] --help\" for more information about a command.\n", program);
}

void help_usage(const char *program, const struct command *c, FILE *out)
{
    if (c == NULL) {
        root_usage(program, out);
        return;
    }
    (void)fputs("Usage:\n", out);
    if (c->run != NULL) {
        bool no_flags = strcmp(c->path, "completion") == 0;
        (void)fprintf(out, "  %s%s%s%s%s%s\n", program, *program == '\0' ? "" : " ", c->path, *c->use == '\0' ? "" : " ", c->use,
                      no_flags ? "" : " [flags]");
    }
    if (has_children(c)) {
        (void)fprintf(out, "  %s %s [command]\n\nAvailable Commands:\n", program, c->path);
        list_children(c, GROUP_KV, out);
    }
    list_flags(c, out);
    if (has_children(c)) {
        (void)fprintf(out, "\nUse \"%s %s [command] --help\" for more information about a command.\n", program, c->path);
    }
}

void help_page(const char *program, const struct command *c, FILE *out)
{
    (void)fprintf(out, "%s\n\n", c == NULL ? "Asks and changes etcd and pintle servers from the command line." : c->text);
    help_usage(program, c, out);
    (void)fprintf(out, "Use \"%s options\" for a list of global command-line options (applies to all commands).\n", program);
}

int options_run(struct ctl *ctl)
{
    (void)puts("The following options can be passed to any command:\n");
    const struct flag *all[FLAGS_MAX];
    size_t n = 0;
    for (const struct flag *f = global_flags; f->name != NULL; f++) {
        all[n++] = f;
    }
    help_flags(all, n, NULL, stdout);
    (void)ctl;
    return 0;
}

int help_run(struct ctl *ctl)
{
    const struct command *c = NULL;
    for (size_t i = 0; i < ctl->n_args; i++) {
        const struct command *child = command_child(c, ctl->args[i]);
        if (child == NULL && c == NULL) {
            (void)fputs("Unknown help topic [", stderr);
            for (size_t k = 0; k < ctl->n_args; k++) {
                (void)fprintf(stderr, "%s`%s`", k == 0 ? "" : " ", ctl->args[k]);
            }
            (void)fputs("]\n", stderr);
            help_usage(ctl->program, NULL, stderr);
            return 0;
        }
        if (child == NULL) {
            break;
        }
        c = child;
    }
    help_page(ctl->program, c, stdout);
    return 0;
}
