/* auth_token_simple.h - simple tokens: opaque words that every member knows, in memory only.
 *
 * What        Who a token belongs to, and until when. A token is made when an Authenticate entry is applied ("<16 letters>.<raft index>"), lives for
 *             the TTL since its last use, and goes when its user or authentication as a whole does. A restart forgets all.
 * Callers     api/etcd/auth_tokens.
 * Thread      its owner's; the time is handed in and never goes back.
 * Invariants  Since all tokens live equally long, the order of last use is the order of expiry: expiring costs O(1) a token.
 *             At most SIMPLE_TOKENS_MAX; a further one pushes the one out that was used longest ago.
 * Source      etcd-v3-api.md 8.5.
 */
#ifndef API_ETCD_AUTH_TOKEN_SIMPLE_H
#define API_ETCD_AUTH_TOKEN_SIMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define SIMPLE_TOKENS_MAX (1u << 18)
#define SIMPLE_TOKEN_LETTERS 16u
#define SIMPLE_TOKEN_RANDOM_BYTES 64u

struct simple_tokens; /* opaque */

struct simple_tokens *simple_tokens_create(uint64_t ttl_ms);
void simple_tokens_destroy(struct simple_tokens **t);

/* The random part, NUL at the end, from as many random bytes. */
void simple_token_letters(const uint8_t random[SIMPLE_TOKEN_RANDOM_BYTES], char out[SIMPLE_TOKEN_LETTERS + 1]);
/* The raft index in a token: "<something>.<decimal>". false: it has not this form. */
bool simple_token_index(struct slice token, uint64_t *index);

/* A token known already gets its new owner. */
void simple_tokens_add(struct simple_tokens *t, const char *token, const char *user, uint64_t now_ms);
/* Its owner, until the next call; the time begins anew. NULL: unknown or expired. */
const char *simple_tokens_use(struct simple_tokens *t, struct slice token, uint64_t now_ms);
void simple_tokens_drop_user(struct simple_tokens *t, const char *user);
void simple_tokens_clear(struct simple_tokens *t);
size_t simple_tokens_count(const struct simple_tokens *t);

#endif
