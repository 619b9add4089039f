/* assert.h - checks that stay on in release.
 *
 * What        ASSERT(condition) ends the process with file, line and condition on stderr. It is
 *             for programmer errors and for state we have checked before; bytes from outside, our
 *             own disk included, are checked with errors instead.
 * Callers     everything.   Thread  any.
 */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

#include <stddef.h>

_Noreturn void assert_failed(const char *file, int line, const char *condition);

#define ASSERT(condition)                                                                          \
    ((condition) ? (void)0 : assert_failed(__FILE__, __LINE__, #condition))

/* A place that control flow cannot reach, such as after a switch that lists every enum value. */
#define UNREACHABLE() assert_failed(__FILE__, __LINE__, "unreachable")

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member)                                                            \
    ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#endif
