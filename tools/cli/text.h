/* text.h - texts as Go's fmt, strconv and encoding packages write and read them.
 *
 * What        Quoting, numbers, sizes, and the splitting of a line into words as etcdctl's txn and
 *             watch take them.
 * Callers     pintlectl, pintleutl.   Thread  any.
 * Source      Go's strconv; cli.md 5.4, 5.8, 7.4.
 */
#ifndef TOOLS_CLI_TEXT_H
#define TOOLS_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define TEXT_SIZE_BYTES 32u /* enough for text_size */

/* Append `s` as %q writes it. */
void text_quote(struct bytes *out, struct slice s);
/* Append every byte as \x and two digits. */
void text_hex_escape(struct bytes *out, struct slice s);
/* Append standard base64 with padding. */
void text_base64(struct bytes *out, struct slice s);
/* Append a JSON string as encoding/json writes it; bytes that are no UTF-8 become U+FFFD. */
void text_json(struct bytes *out, struct slice s);

/* Read a Go string literal, quoted or raw, at the start of `s` and append what it stands for; *used
 * is its length. ERR_INVALID: no literal there. */
MUST_CHECK enum err text_unquote(struct slice s, struct bytes *out, size_t *used);

/* strconv.ParseInt and ParseUint with 64 bits. `base` 0 takes 0x, 0o, 0b and underscores. On
 * failure `why` has Go's text. */
MUST_CHECK enum err text_int(const char *s, unsigned base, int64_t *out, struct err_ctx *why);
MUST_CHECK enum err text_uint(const char *s, unsigned base, uint64_t *out, struct err_ctx *why);
MUST_CHECK enum err text_bool(const char *s, bool *out, struct err_ctx *why);

/* "25 kB": powers of 1000. */
void text_size(uint64_t n, char out[TEXT_SIZE_BYTES]);

/* The words of a line: bare, 'literal' or "with escapes". Calls `word` for each.
 * ERR_INVALID: a bad escape. */
MUST_CHECK enum err text_words(const char *line, void (*word)(void *arg, struct slice w), void *arg,
                               struct err_ctx *why);

/* Edit distance, ignoring case, of words up to 63 bytes; longer ones are far from everything. */
unsigned text_distance(const char *a, const char *b);

/* Take one UTF-8 character: its length and code point, or 1 and false when there is none. */
bool text_rune(struct slice s, uint32_t *rune, size_t *len);

#endif
