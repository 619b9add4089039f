/* txn_text.h - the lines of a transaction.
 *
 * What        A comparison from its text; pure.
 * Callers     txn.c, tests.   Thread  any.
 * Source      cli.md 7.4.
 */
#ifndef TOOLS_PINTLECTL_TXN_TEXT_H
#define TOOLS_PINTLECTL_TXN_TEXT_H

#include "api/proto/rpc.pb-c.h"
#include "base/arena.h"
#include "base/err.h"
#include "base/slice.h"

/* `out` points into the arena. ERR_INVALID with etcdctl's text. */
MUST_CHECK enum err txn_compare(struct arena *a, const char *line, Etcdserverpb__Compare *out,
                                struct bytes *why);

#endif
