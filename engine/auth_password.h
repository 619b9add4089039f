/* auth_password.h - bcrypt.
 *
 * What        Hashes and comparisons with libcrypt, in the text form of Go's bcrypt ($2a$), which
 * etcd's members verify. Callers     api/etcd, on a worker of libuv's pool: a hash of cost 10 takes
 * some 60 ms, each further step of the cost doubles it. Never on a loop. engine/auth_apply only for
 * entries of members older than etcd 3.5, which logged the clear text. Thread      any; pure
 * functions of their arguments. The caller wipes the clear text when he is done (password_wipe).
 * Source      etcd-v3-api.md 8.3 and 1.7; OpenBSD's bcrypt as libcrypt has it under $2b$.
 */
#ifndef ENGINE_AUTH_PASSWORD_H
#define ENGINE_AUTH_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PASSWORD_BYTES_MAX 72u /* what bcrypt can tell apart */
#define PASSWORD_SALT_BYTES 16u
#define PASSWORD_TEXT_BYTES 61u /* "$2a$10$", 22 characters of salt, 31 of hash, NUL */
#define PASSWORD_COST_MIN 4u
#define PASSWORD_COST_MAX 31u
#define PASSWORD_COST_DEFAULT 10u

/* `salt` is random and used once. ERR_PASSWORD_LENGTH over 72 bytes; ERR_INVALID for a cost out of
 * range. */
MUST_CHECK enum err password_hash(const char *password, unsigned cost,
                                  const uint8_t salt[PASSWORD_SALT_BYTES],
                                  char out[PASSWORD_TEXT_BYTES]);
/* Is `password` the one of this hash? Bytes behind the 72nd do not count, as in etcd. A text that
 * is no bcrypt hash is no password's. */
bool password_verify(const char *password, const char *hash);
/* Overwrite with zeros in a way the compiler keeps. */
void password_wipe(void *data, size_t len);

#endif
