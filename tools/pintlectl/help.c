/* help.c - the pages of help in cobra's layout. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tools/cli/usage.h"
#include "tools/pintlectl/commands.h"

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
        for (const struct flag *f = p->flags;
             p->any_place && command_is_child(p, c) && f->name != NULL; f++) {
            inherited[n_inherited++] = f;
        }
    }
    usage_sort(own, n);
    (void)fputs("\nFlags:\n", out);
    usage_flags(own, n, command_name(c), out);
    if (n_inherited > 0) {
        (void)fputs("\nGlobal Flags:\n", out);
        usage_flags(inherited, n_inherited, NULL, out);
    }
}

static void root_usage(const char *program, FILE *out)
{
    (void)fprintf(out, "Usage:\n  %s [command]\n", program);
    for (enum command_group g = 0; g < N_GROUPS; g++) {
        (void)fprintf(out, "\n%s\n", group_titles[g]);
        list_children(NULL, g, out);
    }
    (void)fprintf(out, "\nUse \"%s [command] --help\" for more information about a command.\n",
                  program);
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
        (void)fprintf(out, "  %s%s%s%s%s%s\n", program, *program == '\0' ? "" : " ", c->path,
                      *c->use == '\0' ? "" : " ", c->use, no_flags ? "" : " [flags]");
    }
    if (has_children(c)) {
        (void)fprintf(out, "  %s %s [command]\n\nAvailable Commands:\n", program, c->path);
        list_children(c, GROUP_KV, out);
    }
    list_flags(c, out);
    if (has_children(c)) {
        (void)fprintf(out,
                      "\nUse \"%s %s [command] --help\" for more information about a command.\n",
                      program, c->path);
    }
}

void help_page(const char *program, const struct command *c, FILE *out)
{
    (void)fprintf(out, "%s\n\n",
                  c == NULL ? "Asks and changes etcd and pintle servers from the command line."
                            : c->text);
    help_usage(program, c, out);
    (void)fprintf(
        out,
        "Use \"%s options\" for a list of global command-line options (applies to all commands).\n",
        program);
}

int options_run(struct ctl *ctl)
{
    (void)puts("The following options can be passed to any command:\n");
    const struct flag *all[FLAGS_MAX];
    size_t n = 0;
    for (const struct flag *f = global_flags; f->name != NULL; f++) {
        all[n++] = f;
    }
    usage_flags(all, n, NULL, stdout);
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
