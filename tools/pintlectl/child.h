/* child.h - other programs, for watch and lock.
 *
 * What        Starts a program without a shell, standard input empty, and waits for it.
 * Callers     watch.c, lock.c.   Thread  one.
 */
#ifndef TOOLS_PINTLECTL_CHILD_H
#define TOOLS_PINTLECTL_CHILD_H

#include <stddef.h>
#include <sys/types.h>

#include "base/slice.h"

#define CHILD_VARIABLES_MAX 8u

/* Start words[0..n). `variables` ("NAME=value") are added to the environment; with `ours_win`
 * they replace what is there.
 * false: `why` has Go's text. */
bool child_start(const char *const *words, size_t n, const char *const *variables,
                 size_t n_variables, bool ours_win, pid_t *out, struct bytes *why);
/* Wait to the end. 0, or its exit status (-1 for a signal) with Go's text in `why`. */
int child_wait(pid_t pid, struct bytes *why);
/* The same from what waitpid told. */
int child_status(int status, struct bytes *why);

#endif
