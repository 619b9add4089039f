/* main.c - find the command, read its flags, run it.
 *
 * The command is found as cobra finds it: flags that need a value take the next word with them, and
 * a beginning of a name will do when only one name begins so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/cli/completion.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"

#define ARENA_FIRST (64u * 1024u)
#define ARENA_MAX (1024u * 1024u * 1024u)
#define SUGGEST_DISTANCE 2u

/* This word is a flag that takes the next word. */
static bool takes_next(const struct flag_set *known, const char *w)
{
    size_t i = 0;
    if (strncmp(w, "--", 2) == 0) {
        return strchr(w, '=') == NULL &&
               !(flags_find(known, w + 2, &i) && known->flags[i]->kind == FLAG_BOOL) &&
               strcmp(w, "--help") != 0;
    }
    return w[0] == '-' && w[1] != '\0' && w[2] == '\0' && w[1] != 'h';
}

/* Index of the first word that is no flag; n when there is none. */
static size_t first_word(const struct flag_set *known, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(words[i], "--") == 0) {
            return n;
        }
        if (takes_next(known, words[i])) {
            i++;
        } else if (words[i][0] != '-' && words[i][0] != '\0') {
            return i;
        }
    }
    return n;
}

/* Walk down the table, removing each name from the words. */
static const struct command *find_command(struct arena *arena, const char **words, size_t *n)
{
    const struct command *at = NULL;
    for (;;) {
        struct flag_set known;
        command_flags(at, arena, &known);
        size_t i = first_word(&known, words, *n);
        const struct command *child = i == *n ? NULL : command_child(at, words[i]);
        if (child == NULL) {
            return at;
        }
        memmove(&words[i], &words[i + 1], (*n - i - 1) * sizeof(*words));
        (*n)--;
        at = child;
        if (at->run != NULL) {
            return at;
        }
    }
}

static int unknown_command(const char *program, const char *word)
{
    (void)fprintf(stderr, "Error: unknown command \"%s\" for \"%s\"\n", word, program);
    bool any = false;
    for (const struct command *c = commands; c->path != NULL; c++) {
        bool near = text_distance(word, c->path) <= SUGGEST_DISTANCE ||
                    strncasecmp(c->path, word, strlen(word)) == 0;
        if (command_is_child(NULL, c) && near) {
            (void)fprintf(stderr, "%s\t%s\n", any ? "" : "\nDid you mean this?\n", c->path);
            any = true;
        }
    }
    (void)fprintf(stderr, "%sRun '%s --help' for usage.\n", any ? "\n" : "", program);
    return EXIT_ERROR;
}

/* What the scripts of "completion" ask: the last word is not finished yet. */
static int complete(struct ctl *ctl, const char **words, size_t n)
{
    const char *partial = n == 0 ? "" : words[--n];
    const char **left = cli_alloc(ctl->arena, (n + 1) * sizeof(*left));
    memcpy(left, words, n * sizeof(*left));
    size_t n_left = n;
    const struct command *c = find_command(ctl->arena, left, &n_left);
    command_flags(c, ctl->arena, &ctl->flags);
    if (c != NULL && c->run == help_run) {
        c = NULL;
        for (size_t i = 0; i < n_left; i++) {
            c = command_child(c, left[i]);
        }
    }
    return completion_answer(ctl, c, words, n, partial);
}

static int run(struct ctl *ctl, const char **words, size_t n)
{
    if (n > 0 && strncmp(words[0], COMPLETION_ASKED, strlen(COMPLETION_ASKED)) == 0) {
        return complete(ctl, words + 1, n - 1);
    }
    const struct command *c = find_command(ctl->arena, words, &n);
    struct err_ctx why = {{0}};
    command_flags(c, ctl->arena, &ctl->flags);
    ctl->command = c;
    if (c == NULL) {
        size_t i = first_word(&ctl->flags, words, n);
        if (i < n) {
            return unknown_command(ctl->program, words[i]);
        }
    }
    enum err e = flags_parse(&ctl->flags, words, n, &why);
    if (e == ERR_INVALID) {
        (void)fprintf(stderr, "Error: %s\n", why.text);
        help_usage(ctl->program, c, stderr);
        (void)fputs("\n", stderr);
        return EXIT_ERROR;
    }
    if (e == ERR_END || c == NULL || c->run == NULL) {
        help_page(ctl->program, c, stdout);
        return 0;
    }
    ctl->args = ctl->flags.args;
    ctl->n_args = ctl->flags.n_args;
    return c->run(ctl);
}

int main(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    struct ctl ctl = {.program = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "pintlectl"};
    ctl.arena = arena_create(ARENA_FIRST, ARENA_MAX);
    size_t n = argc > 0 ? (size_t)argc - 1 : 0;
    const char **words = cli_alloc(ctl.arena, (n + 1) * sizeof(*words));
    for (size_t i = 0; i < n; i++) {
        words[i] = argv[i + 1];
    }
    int code = run(&ctl, words, n);
    conn_close(&ctl.conn);
    arena_destroy(&ctl.arena);
    return fflush(stdout) == 0 ? code : EXIT_ERROR;
}
