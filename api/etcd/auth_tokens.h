/* auth_tokens.h - the tokens of this server, of whatever kind --auth-token names.
 *
 * What        "simple": a table that every member fills when Authenticate is applied. "jwt,...": signed by the member that is asked. "": none,
 *             nobody can log in.
 * Callers     the member loop tells it what was applied (auth_tokens_events); I/O loops look tokens up; logins take letters or a signature.
 * Thread      any; one mutex around the simple table, held for a lookup. JWT needs none.
 * Source      etcd-v3-api.md 8.5; etcd-server.md 1.3.
 */
#ifndef API_ETCD_AUTH_TOKENS_H
#define API_ETCD_AUTH_TOKENS_H

#include "base/clock.h"
#include "base/err.h"
#include "base/slice.h"
#include "base/vfs.h"
#include "engine/auth.h"

#define AUTH_TOKEN_TTL_S_DEFAULT 300u
#define AUTH_KEY_FILE_BYTES_MAX (1u << 20) /* of a JWT key; more: ERR_INVALID */

enum auth_token_kind { AUTH_TOKENS_NONE, AUTH_TOKENS_SIMPLE, AUTH_TOKENS_JWT };

struct auth_tokens; /* opaque */

/* `option` is the value of --auth-token; key files are read now. `simple_ttl_s` 0 means the default. Borrows `clock` until destroy. Errors, with etcd's texts:
 * ERR_INVALID ("auth: invalid auth options" and the like). */
MUST_CHECK enum err auth_tokens_create(const char *option, uint64_t simple_ttl_s, struct vfs *vfs, const struct clock *clock, struct auth_tokens **out, struct err_ctx *ec);
void auth_tokens_destroy(struct auth_tokens **t);
enum auth_token_kind auth_tokens_kind(const struct auth_tokens *t);
/* Names of options that nothing is done with, for a warning at start; "" when there are none. */
const char *auth_tokens_unknown_options(const struct auth_tokens *t);

/* For auth_set_events, with the table as its argument. */
extern const struct auth_events auth_tokens_events;

/* What goes into an Authenticate entry as simple_token: random letters, or nothing with JWT. ERR_AUTH_FAILED without tokens; ERR_IO, the machine has no random bytes. */
#define AUTH_TOKEN_LETTERS_BYTES 17u
MUST_CHECK enum err auth_tokens_letters(struct auth_tokens *t, char out[AUTH_TOKEN_LETTERS_BYTES]);
/* After an Authenticate entry was applied whose reply names no token: append one. `revision` is the auth revision that the password was compared at.
 * ERR_AUTH_VERIFY_ONLY; ERR_AUTH_FAILED when tokens are not JWT. */
MUST_CHECK enum err auth_tokens_sign(struct auth_tokens *t, const char *user, uint64_t revision, struct bytes *out);

/* Whose is it? `revision_now` becomes the revision of a simple token, which is never old. ERR_AUTH_TOKEN, with the reason for the log; ERR_BUSY: this member has
 * not applied the entry *wait_index that made the token, ask again then (and no longer than the request may take). `user` gets the name with a NUL. */
MUST_CHECK enum err auth_tokens_look_up(struct auth_tokens *t, struct slice token, uint64_t applied_index, uint64_t revision_now, struct bytes *user, uint64_t *revision,
                                        uint64_t *wait_index, struct err_ctx *ec);

#endif
