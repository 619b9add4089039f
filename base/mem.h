/* mem.h - allocation that cannot fail, for small structures of fixed size.
 *
 * What        xalloc and friends end the process when memory is gone: a restart replays the log,
 *             and the code stays free of paths nobody can test. Sizes chosen by a client are
 *             bounded before they get here; see base/arena.h for the request's own memory.
 * Callers     everything.   Thread  any.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *xalloc(size_t size) __attribute__((malloc, returns_nonnull));             /* not zeroed */
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));  /* zeroed */
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t len) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

#endif
