/* auth_prepare.h - requests that bring a password, made fit for the log.
 *
 * What        Hash the password, put the hash in the place where all members look for it, and forget the clear text: neither the log nor a debugging
 *             print of the request ever has it.
 * Callers     api/etcd, on a worker (a hash takes some 60 ms at cost 10): copy the decoded request, prepare, propose the bytes.
 * Thread      any; pure functions but for the wiping.
 * Source      etcd-v3-api.md 8.3; GHSA-528j-9r78-wffx, CVE-2021-28235.
 */
#ifndef API_ETCD_AUTH_PREPARE_H
#define API_ETCD_AUTH_PREPARE_H

#include "api/proto/raft_internal.pb-c.h"
#include "base/err.h"
#include "base/slice.h"
#include "engine/auth.h"
#include "engine/auth_password.h"

/* Append the encoded request as it is to be proposed. r->password is overwritten with zeros, on errors too. `salt` is random. ERR_PASSWORD_LENGTH. */
MUST_CHECK enum err auth_prepare_user_add(Etcdserverpb__AuthUserAddRequest *r, unsigned cost, const uint8_t salt[PASSWORD_SALT_BYTES], struct bytes *out);
MUST_CHECK enum err auth_prepare_change_password(Etcdserverpb__AuthUserChangePasswordRequest *r, unsigned cost, const uint8_t salt[PASSWORD_SALT_BYTES], struct bytes *out);

/* Append an InternalAuthenticateRequest: a name and the letters of the token (auth_tokens_letters), no password. */
void auth_prepare_authenticate(const char *user, const char *letters, struct bytes *out);

/* Append the header field of an entry (InternalRaftRequest.header): the id, and on whose behalf. */
void auth_add_entry_header(struct bytes *out, uint64_t id, const struct auth_identity *who);

#endif
