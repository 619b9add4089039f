/* caller.h - who makes a call, and what he may, while authentication is on.
 *
 * What        Ties auth_identity.h and auth_method.h to calls. An identity is established when it is used, not when the call comes: a token may expire
 *             and users may change while a call waits for its turn. While authentication is off everything here costs one load.
 * Callers     api/etcd.
 * Thread      the call's loop, but for what is said to be any thread's.
 * Source      etcd-v3-api.md 8.5, 8.6.
 */
#ifndef API_ETCD_CALLER_H
#define API_ETCD_CALLER_H

#include "api/etcd/auth_identity.h"
#include "api/etcd/internal.h"
#include "engine/demand.h"

#define CALLER_TRIES_MAX 64u /* of what is done anew because users changed meanwhile; then the client is told so. Changes that come one behind the other meet a call 5 times in a row */

/* The `message` of every row with one request message: what can be said before the call is run is said, and then its own function runs. A call with a
 * token that this member does not know yet waits until it has applied what the token's maker had. */
void caller_admit(struct grpc_call *c, struct slice bytes);

/* This member has not yet applied the entry that made the call's token: wait (request_read_barrier), then ask again. */
bool caller_is_ahead(struct grpc_call *c);

/* Nobody (revision 0) while authentication is off, or when the call brings nothing. ERR_AUTH_TOKEN, the log has the reason. */
MUST_CHECK enum err caller_identify(struct grpc_call *c, struct auth_who *out);
/* The same for a token that comes without a call, over the peer port. Any thread. */
MUST_CHECK enum err caller_identify_token(struct etcd_server *s, struct slice token, struct auth_who *out);

/* A local read that demands `d`: asked before `read` runs, and asked after it whether anything about users has changed meanwhile; then `undo` (may be
 * NULL) runs, and all of it again. Without `read` it is only asked. The error is what is to be answered. `who` gets the identity that it was done for. */
struct caller_read {
    const struct demand_request *demands;
    enum err (*read)(struct grpc_call *c, void *arg);
    void (*undo)(void *arg);
    void *arg;
};
MUST_CHECK enum err caller_read(struct grpc_call *c, const struct caller_read *r, struct auth_who *who);

/* Any thread. An identity that was established a moment ago is to be used now: unless it carries its revision, it is as good as new. */
void caller_renew(const struct etcd_server *s, struct auth_who *who);

#endif
