/* completion.h - what a shell may offer next.
 *
 * What        Scripts for shells, which call `PROGRAM __complete WORDS... PARTIAL`, and the pieces of
 *             the answer: a candidate a line with its text behind a tab, and at the end `:4`, or
 *             `:0` where names of files may follow instead.
 * Callers     pintlectl, pintleutl.   Thread  any.
 */
#ifndef TOOLS_CLI_COMPLETION_H
#define TOOLS_CLI_COMPLETION_H

#include <stdbool.h>
#include <stdio.h>

#include "tools/cli/flags.h"

#define COMPLETION_ASKED "__complete" /* what the first word of a script's question begins with */

/* Print the script for a shell. false: there is no such shell. */
bool completion_script(const char *shell, const char *program, FILE *out);
/* `words` of the command "completion" are one known shell; else what is wrong. Owned; NULL: they
 * are good. */
char *completion_complaint(const char *path, const char *const *words, size_t n);

/* Values that a flag may have; a list of them ends with one without a flag. */
struct completion_values {
    const char *flag;
    const char *const *values; /* ended by NULL */
};
extern const char *const completion_formats[];
extern const char *const completion_shells[];

struct completion {
    const char *partial; /* the word so far */
    FILE *out;
    bool any; /* something was offered */
};

void completion_offer(struct completion *c, const char *name, const char *text);
void completion_offer_list(struct completion *c, const char *const *names);
/* All flags of a set with --help, when the word begins with '-'. false: it does not. */
bool completion_offer_flags(struct completion *c, const struct flag_set *set);
/* The values of the flag whose value the word is: behind the flag as `words[n-1]`, or behind "=".
 * false: it is no flag's value, or one that can be anything. */
bool completion_offer_values(struct completion *c, const struct completion_values *known,
                             const struct flag_set *set, const char *const *words, size_t n);
/* The last line. */
void completion_end(const struct completion *c);

#endif
