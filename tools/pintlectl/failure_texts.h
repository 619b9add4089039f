/* failure_texts.h - what is known about servers' answers and endpoints' texts; pure.
 *
 * What        Which error texts etcd's client shows bare, the names of gRPC's codes, and what an
 *             endpoint's text means.
 * Callers     conn.c, tests.   Thread  any.
 * Source      cli.md 2, 4.1.
 */
#ifndef TOOLS_PINTLECTL_FAILURE_TEXTS_H
#define TOOLS_PINTLECTL_FAILURE_TEXTS_H

#include <stdbool.h>
#include <stdint.h>

bool failure_text_known(const char *text);
const char *failure_code_name(uint32_t code);
/* What api/client shall connect to for `endpoint`, when `first` is the first of the list, whose
 * scheme decides for all. Owned by the caller. */
char *conn_target(const char *first, const char *endpoint, bool secure);

#endif
