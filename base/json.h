/* json.h - a small reader of JSON, and the writing of its strings.
 *
 * What        Walks a text piece by piece and builds nothing: the caller's functions take names and values as they come.
 * Callers     engine and raft/member (membership rows), api/etcd (what other members say, claims of tokens), tools/pintle.
 * Thread      none of its own; a reader belongs to its caller.
 * Invariants  Nesting is bounded by JSON_DEPTH_MAX. Numbers are unsigned with 64 bits, whole.
 * Source      RFC 8259. Why not the packaged library: docs/decisions/0004-json-library.md.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

/* Append a string in quotes, escaped as Go's encoding/json does. */
void json_add_string(struct bytes *out, const char *s);

/* A reader over a text; every function skips white space first and fails with ERR_INVALID. */
struct json {
    struct slice rest;
    unsigned depth;
};
#define JSON_DEPTH_MAX 16u
bool json_take(struct json *j, char c); /* true when the next character is `c`, which is then taken */
bool json_ended(struct json *j); /* nothing but white space is left */
MUST_CHECK enum err json_string(struct json *j, struct bytes *out); /* appends without a NUL */
MUST_CHECK enum err json_u64(struct json *j, uint64_t *out);
MUST_CHECK enum err json_bool(struct json *j, bool *out);
MUST_CHECK enum err json_skip(struct json *j);
/* Walk an object: calls `field` for each name; it takes the value. */
MUST_CHECK enum err json_object(struct json *j,
                                enum err (*field)(void *arg, const char *name, struct json *j),
                                void *arg);
/* Walk an array; null counts as empty. */
MUST_CHECK enum err json_array(struct json *j, enum err (*item)(void *arg, struct json *j),
                               void *arg);

#endif
