/* auth_jwt.h - signed tokens that say by themselves whose they are.
 *
 * What        JSON web tokens in the compact form with the claims username, revision and exp: signed, and verified with the one algorithm and key of the
 *             configuration. What a token says about its algorithm must be exactly that, so no token can choose how it is verified.
 * Callers     api/etcd/auth_tokens, tests/fuzz/fuzz_jwt.
 * Thread      any; a struct jwt is immutable. Verifying costs 20 to 200 microseconds of processor time, signing with RSA some milliseconds: on a worker.
 * Limits      JWT_BYTES_MAX; longer is no token of ours.
 * Source      RFC 7515, 7518, 7519, 8037; etcd-v3-api.md 8.5.
 */
#ifndef API_ETCD_AUTH_JWT_H
#define API_ETCD_AUTH_JWT_H

#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define JWT_BYTES_MAX (16u << 10)

struct jwt; /* opaque */

/* `method` is the value of sign-method: RS, PS, ES and HS with 256, 384 or 512, and EdDSA. Keys are the content of files: PEM, for HS the secret itself (as private
 * key). An empty slice is a key that is not given; without a private key tokens are only verified. Errors, with etcd's texts: ERR_INVALID. */
MUST_CHECK enum err jwt_create(const char *method, struct slice public_key, struct slice private_key, uint64_t ttl_s, struct jwt **out, struct err_ctx *ec);
void jwt_destroy(struct jwt **j);

/* Appends the token. ERR_AUTH_VERIFY_ONLY; ERR_INVALID when the library fails. */
MUST_CHECK enum err jwt_sign(const struct jwt *j, const char *user, uint64_t revision, uint64_t now_s, struct bytes *out);
/* Appends the user's name, with a NUL behind it. Claims exp and nbf count when they are there, as in etcd. ERR_AUTH_TOKEN, with the reason (which never shows the
 * token); then `user` is as before. */
MUST_CHECK enum err jwt_verify(const struct jwt *j, struct slice token, uint64_t now_s, struct bytes *user, uint64_t *revision, struct err_ctx *ec);

#endif
