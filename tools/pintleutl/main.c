/* main.c - find the command, read its flags, run it.
 *
 * A beginning of a name will do when only one name begins so. etcdutl prints what is wrong with the
 * words twice, before its usage and at the end.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/mem.h"
#include "tools/cli/completion.h"
#include "tools/cli/text.h"
#include "tools/pintleutl/utl.h"

#define ARENA_FIRST (64u * 1024u)
#define ARENA_MAX (64u * 1024u * 1024u)
#define SUGGEST_DISTANCE 2u

/* This word is a flag that takes the next word with it. */
static bool takes_next(const struct flag_set *known, const char *w)
{
    size_t i = 0;
    if (strncmp(w, "--", 2) == 0) {
        return strchr(w, '=') == NULL && strcmp(w, "--help") != 0 &&
               !(flags_find(known, w + 2, &i) && known->flags[i]->kind == FLAG_BOOL);
    }
    return w[0] == '-' && w[1] != '\0' && w[2] == '\0' && w[1] != 'h';
}

/* Index of the first word that is no flag; n when there is none. */
static size_t first_word(const struct flag_set *known, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n && strcmp(words[i], "--") != 0; i++) {
        if (takes_next(known, words[i])) {
            i++;
        } else if (words[i][0] != '-' && words[i][0] != '\0') {
            return i;
        }
    }
    return n;
}

/* Walk down the table, taking each name out of the words. */
static const struct utl_command *find_command(struct arena *arena, const char **words, size_t *n)
{
    const struct utl_command *at = NULL;
    for (;;) {
        struct flag_set known;
        utl_flags_of(at, arena, &known);
        size_t i = first_word(&known, words, *n);
        const struct utl_command *child = i == *n ? NULL : utl_child(at, words[i]);
        if (child == NULL) {
            return at;
        }
        memmove(&words[i], &words[i + 1], (*n - i - 1) * sizeof(*words));
        (*n)--;
        at = child;
    }
}

static int unknown_command(const char *program, const char *word)
{
    char *error = xasprintf("Error: unknown command \"%s\" for \"%s\"\n", word, program);
    (void)fputs(error, stderr);
    bool any = false;
    for (const struct utl_command *c = utl_commands; c->path != NULL; c++) {
        bool near = text_distance(word, c->path) <= SUGGEST_DISTANCE ||
                    strncasecmp(c->path, word, strlen(word)) == 0;
        if (utl_is_child(NULL, c) && near) {
            (void)fprintf(stderr, "%s\t%s\n", any ? "" : "\nDid you mean this?\n", c->path);
            any = true;
        }
    }
    (void)fprintf(stderr, "%sRun '%s --help' for usage.\n%s", any ? "\n" : "", program, error);
    free(error);
    return EXIT_ERROR;
}

static int wrong_words(struct utl *u, const struct utl_command *c, const char *why)
{
    (void)fprintf(stderr, "Error: %s\n", why);
    utl_usage(u->program, c, true, stderr);
    (void)fprintf(stderr, "\nError: %s\n", why);
    return EXIT_ERROR;
}

static int help(struct utl *u, const char *const *words, size_t n)
{
    const struct utl_command *c = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct utl_command *child = utl_child(c, words[i]);
        if (child == NULL && c == NULL) {
            (void)fputs("Unknown help topic [", stderr);
            for (size_t k = 0; k < n; k++) {
                (void)fprintf(stderr, "%s`%s`", k == 0 ? "" : " ", words[k]);
            }
            (void)fputs("]\n", stderr);
            utl_usage(u->program, NULL, false, stderr);
            return 0;
        }
        c = child == NULL ? c : child;
    }
    utl_usage(u->program, c, true, stdout);
    return 0;
}

/* Flags and words are as the command wants them; else the text. NULL: they are. */
static char *lacks(const struct utl *u, const struct utl_command *c)
{
    const char *const names[] = {c->required, c->required_too};
    char *text = NULL;
    if (c->one_word && u->flags.n_args != 1) {
        return xasprintf("accepts 1 arg(s), received %zu", u->flags.n_args);
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (names[i] != NULL && !flag(&u->flags, names[i])->changed) {
            char *more = text == NULL ? xasprintf("\"%s\"", names[i])
                                      : xasprintf("%s, \"%s\"", text, names[i]);
            free(text);
            text = more;
        }
    }
    char *all = text == NULL ? NULL : xasprintf("required flag(s) %s not set", text);
    free(text);
    return all;
}

static int run(struct utl *u, struct arena *arena, const char **words, size_t n)
{
    if (n > 0 && strncmp(words[0], COMPLETION_ASKED, strlen(COMPLETION_ASKED)) == 0) {
        return complete_run(u, arena, words + 1, n - 1);
    }
    const struct utl_command *c = find_command(arena, words, &n);
    utl_flags_of(c, arena, &u->flags);
    size_t i = first_word(&u->flags, words, n);
    if (c == NULL && i < n) {
        return unknown_command(u->program, words[i]);
    }
    struct err_ctx why = {{0}};
    enum err e = flags_parse(&u->flags, words, n, &why);
    if (e == ERR_INVALID) {
        return wrong_words(u, c, why.text);
    }
    if (c != NULL && strcmp(c->path, "help") == 0 && e == OK) {
        return help(u, u->flags.args, u->flags.n_args);
    }
    if (e == ERR_END || c == NULL || c->run == NULL) {
        utl_usage(u->program, c, true, stdout);
        return 0;
    }
    char *lacking = lacks(u, c);
    if (lacking != NULL) {
        int code = wrong_words(u, c, lacking);
        free(lacking);
        return code;
    }
    return c->run(u);
}

int main(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    struct utl u = {.program = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "pintleutl"};
    struct arena *arena = arena_create(ARENA_FIRST, ARENA_MAX);
    size_t n = argc > 0 ? (size_t)argc - 1 : 0;
    const char **words = cli_alloc(arena, (n + 1) * sizeof(*words));
    for (size_t i = 0; i < n; i++) {
        words[i] = argv[i + 1];
    }
    u.log = log_create(2, LOG_INFO, LOG_CONSOLE, clock_real());
    int code = run(&u, arena, words, n);
    log_destroy(&u.log);
    arena_destroy(&arena);
    return fflush(stdout) == 0 ? code : EXIT_ERROR;
}
