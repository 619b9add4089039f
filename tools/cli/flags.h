/* flags.h - command line flags as Go's pflag package takes them.
 *
 * What        A set of flags with their values, filled from words: --name value, --name=value, -n
 *             value, -nvalue, "--".
 * Callers     main (every command), txn and watch (a command in a line of input).
 * Thread      one.
 * Invariants  Every flag of a set has a value that its kind can have: its default at first.
 * Source      cli.md 1.
 */
#ifndef TOOLS_CLI_FLAGS_H
#define TOOLS_CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

#define FLAGS_MAX 64u        /* of one command with those it inherits */
#define FLAGS_LIST_MAX 1024u /* items of a list; over: refused */

enum flag_kind {
    FLAG_BOOL,
    FLAG_INT,
    FLAG_INT64,
    FLAG_UINT,
    FLAG_STRING,
    FLAG_STRINGS,
    FLAG_DURATION
};

struct flag {
    const char *name;
    char letter; /* '\0': none */
    enum flag_kind kind;
    const char *preset; /* the default as text; NULL: false, 0 or empty */
    const char *text;   /* for the help page */
};

struct flag_value {
    bool changed; /* given, by word or environment */
    bool given;   /* by a word */
    bool yes;
    int64_t number; /* FLAG_UINT: the same bits */
    const char *text;
    const char **list; /* n_list texts and a NULL */
    size_t n_list;
};

struct flag_set {
    struct arena *arena; /* borrowed as long as the values are used */
    const struct flag *flags[FLAGS_MAX];
    struct flag_value values[FLAGS_MAX];
    size_t n;
    size_t n_inherited; /* the first ones: what the command has from its parents */
    const char **args;  /* the words that are no flags */
    size_t n_args;
    size_t n_before; /* of them, those before "--"; SIZE_MAX: there was none */
};

void flags_init(struct flag_set *s, struct arena *arena);
/* `flags` ends with a flag without a name; NULL: none. */
void flags_add(struct flag_set *s, const struct flag *flags);
/* Read all words. ERR_INVALID with pflag's text. ERR_END: help was asked for. */
MUST_CHECK enum err flags_parse(struct flag_set *s, const char *const *words, size_t n,
                                struct err_ctx *why);
/* Set flag `i` from a text: ERR_INVALID with the text of the failed conversion. */
MUST_CHECK enum err flags_set(struct flag_set *s, size_t i, const char *text, struct err_ctx *why);
/* A flag of the set has this name; the other functions ask only for those that are there. */
bool flags_find(const struct flag_set *s, const char *name, size_t *i);
const struct flag_value *flag(const struct flag_set *s, const char *name);
bool flag_yes(const struct flag_set *s, const char *name);
int64_t flag_number(const struct flag_set *s, const char *name);
const char *flag_text(const struct flag_set *s, const char *name);

/* Memory of the arena; ends the program when there is no more. */
void *cli_alloc(struct arena *a, size_t n);
char *cli_dup(struct arena *a, const void *data, size_t len); /* with a NUL behind it */

#endif
