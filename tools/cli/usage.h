/* usage.h - the block of flags on a help page, as cobra lays it out.
 *
 * What        One line a flag: letter, name, kind of value, text and default, in columns.
 * Callers     the help pages of pintlectl and pintleutl.   Thread  any.
 * Source      cli.md 1.2.
 */
#ifndef TOOLS_CLI_USAGE_H
#define TOOLS_CLI_USAGE_H

#include <stdio.h>

#include "tools/cli/flags.h"

/* The lines of `flags`, which are in order of their names. `help_for`: with a line of --help
 * among them, which names this command; NULL: without. */
void usage_flags(const struct flag *const *flags, size_t n, const char *help_for, FILE *out);
void usage_sort(const struct flag **flags, size_t n);

#endif
