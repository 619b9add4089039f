/* json.h - a reader of JSON text, one value after the other (the engine has a smaller one of its own, hence the names).
 *
 * What        Walks a text in memory and checks it against RFC 8259; numbers are handed out as they are written, so that nothing passes through
 *             a double, and strings as UTF-8. Keeps no tree: memory is one string's.
 * Callers     api/gateway and its tests.
 * Thread      values.
 * Invariants  After an error `at` stays where it was seen, and every further call fails.
 * Source      docs/decisions/0007-json.md says why it is our own; texts of faults as Go's encoding/json has them.
 */
#ifndef API_GATEWAY_JSON_H
#define API_GATEWAY_JSON_H

#include "base/err.h"
#include "base/slice.h"

enum gjson_kind { JSON_END, JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON_NUMBER, JSON_TRUE, JSON_FALSE, JSON_NULL, JSON_FAULT };

struct gjson {
    const uint8_t *start, *at, *end;
    unsigned depth;
    struct bytes text;  /* owned; the last string that had escapes */
    struct err_ctx *ec; /* may be NULL */
};

void gjson_init(struct gjson *j, struct slice text, struct err_ctx *ec);
void gjson_deinit(struct gjson *j);

/* What the next value is, by its first byte, after any space. JSON_END: the text is over. */
enum gjson_kind gjson_peek(struct gjson *j);

/* Into an object or array, and out of it at its end. `first` is set by enter and kept by the caller between calls of next. */
MUST_CHECK enum err gjson_enter(struct gjson *j, char open, bool *first);
/* ERR_END: that was the last element, the closing bracket is taken. */
MUST_CHECK enum err gjson_next(struct gjson *j, char close, bool *first);
/* The name of the next member, with its colon; borrowed until the next string is read. */
MUST_CHECK enum err gjson_name(struct gjson *j, struct slice *name);

MUST_CHECK enum err gjson_string(struct gjson *j, struct slice *s); /* borrowed until the next one */
MUST_CHECK enum err gjson_number(struct gjson *j, struct slice *s); /* as written */
MUST_CHECK enum err gjson_word(struct gjson *j, enum gjson_kind word); /* TRUE, FALSE or NULL */
MUST_CHECK enum err gjson_skip(struct gjson *j);                      /* any value */

/* A fault in meaning at `where`: "proto: (line 1:8): " and the words. */
enum err gjson_fault(struct gjson *j, const uint8_t *where, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* A number as written, to an integer. False when it is none, or out of range: 1.0 and 2e3 are integers, 1.5 is not. */
bool gjson_to_int(struct slice number, int64_t *out);
bool gjson_to_uint(struct slice number, uint64_t *out);

#endif
