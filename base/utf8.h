/* utf8.h - sound UTF-8, character by character.
 *
 * What        Sound is what Go's unicode/utf8 takes: nothing cut, overlong, of a surrogate or past
 *             U+10FFFF.
 * Callers     base/log, base/json, engine/describe, api/etcd, api/gateway, tools/cli.   Thread  none of its own.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* The length of the character at the front of `s`, which is not empty, and its number. 0: it is not
 * sound; *code is then anything. */
size_t utf8_first(struct slice s, uint32_t *code);
/* Is all of it sound? */
bool utf8_valid(struct slice s);

/* Append the bytes of one character; its number is at most 0x10FFFF. */
void utf8_add(struct bytes *out, uint32_t c);

#endif
