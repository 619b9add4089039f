/* auth_base64.h - base64 as passwords and tokens travel.
 *
 * What        The standard alphabet with padding (hashedPassword of etcd's log entries) and the
 * URL-safe one without (JWT). Callers     engine/auth, api/etcd.   Thread  any. Source      RFC
 * 4648; Go's encoding/base64 StdEncoding and RawURLEncoding.
 */
#ifndef ENGINE_AUTH_BASE64_H
#define ENGINE_AUTH_BASE64_H

#include "base/err.h"
#include "base/slice.h"

/* Both append. The decoders fail with ERR_INVALID and leave `out` as it was. */
void base64_encode(struct slice data, struct bytes *out);
void base64url_encode(struct slice data, struct bytes *out); /* no padding */
/* As Go's StdEncoding: line breaks between the characters are skipped, unused bits of the last
 * character may be set. Every member has to judge a text alike, etcd's included. */
MUST_CHECK enum err base64_decode(struct slice text, struct bytes *out);
/* Strict: nothing but the alphabet, no padding, unused bits are zero. So one value has one text. */
MUST_CHECK enum err base64url_decode(struct slice text, struct bytes *out);

#endif
