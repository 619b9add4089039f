/* membership.h - the rows about members: who is in the cluster, who voted how, what version is
 * agreed on.
 *
 * What        Applies configuration changes and the membership entries of the log to the buckets
 * members, members_removed, cluster and the row confState, with etcd's JSON; keeps the same in
 * memory. Callers     engine/apply, engine/engine_restore. Thread      member loop for changes.
 * Invariants  Checks come before any change: a refused change leaves rows and confState as they
 * were.
 */
#ifndef ENGINE_MEMBERSHIP_H
#define ENGINE_MEMBERSHIP_H

#include "api/proto/raft.pb-c.h"
#include "base/json.h"
#include "engine/engine_internal.h"

#define MEMBERS_MAX 64u     /* as many as raft's configuration holds; ERR_LIMIT */
#define MEMBER_URLS_MAX 64u /* of each kind; ERR_INVALID */

/* ERR_MEMBER_EXISTS, ERR_PEER_URL_EXISTS, ERR_MEMBER_NOT_FOUND (unknown, or removed before),
 * ERR_NOT_LEARNER_MEMBER, ERR_TOO_MANY_LEARNERS, ERR_INVALID, ERR_LIMIT. */
MUST_CHECK enum err membership_apply_v1(struct engine *e, const Raftpb__ConfChange *cc);
MUST_CHECK enum err membership_apply_v2(struct engine *e, const Raftpb__ConfChangeV2 *cc);
void membership_set_attributes(struct engine *e, uint64_t id, const Membershippb__Attributes *a);
/* ERR_INVALID when it is no version. */
MUST_CHECK enum err membership_set_version(struct engine *e, const char *version);
void membership_set_downgrade(struct engine *e, bool enabled, const char *target);
/* What etcd 3.4 and 3.5 write for the first two: a request of the v2 API. Those that are about
 * something else have no effect (ERR_UNSUPPORTED). *id is the request's. */
MUST_CHECK enum err membership_apply_old(struct engine *e, struct slice request, uint64_t *id);
bool membership_was_removed(const struct members *m, uint64_t id);

/* Rows of the store. ERR_CORRUPT. */
MUST_CHECK enum err membership_restore_member(struct engine *e, struct slice key,
                                              struct slice value);
MUST_CHECK enum err membership_restore_removed(struct engine *e, struct slice key);
MUST_CHECK enum err membership_restore_version(struct engine *e, struct slice value);
MUST_CHECK enum err membership_restore_downgrade(struct engine *e, struct slice value);
MUST_CHECK enum err membership_restore_conf(struct engine *e, struct slice value);
void membership_deinit(struct engine *e);

/* --- membership_conf.c: raft's configuration --- */
void conf_deinit(struct conf_state *c);
bool conf_contains(const struct id_list *l, uint64_t id);
void conf_add_voter(struct conf_state *c, uint64_t id);
void conf_add_learner(struct conf_state *c, uint64_t id);
void conf_remove(struct conf_state *c, uint64_t id);
/* Copy voters to voters_outgoing; or end the joint state. */
void conf_enter_joint(struct conf_state *c, bool auto_leave);
void conf_leave_joint(struct conf_state *c);
void conf_encode(const struct conf_state *c, struct bytes *out);
MUST_CHECK enum err conf_decode(struct slice json, struct conf_state *out);
void conf_tell(const struct conf_state *c, struct engine_conf *out);
void conf_take(struct conf_state *c, const struct engine_conf *in); /* c is empty */

/* --- membership_json.c: the little JSON that these rows need --- */

/* What a member's JSON holds. Strings are decoded into `text`, each with a NUL; offsets point
 * there. */
struct member_json {
    struct bytes text;
    uint64_t id;
    size_t name;
    size_t peer_urls[MEMBER_URLS_MAX];
    size_t n_peer_urls;
    size_t client_urls[MEMBER_URLS_MAX];
    size_t n_client_urls;
    bool is_learner;
    bool is_promote;
};
MUST_CHECK enum err member_json_decode(struct slice json,
                                       struct member_json *out); /* ERR_INVALID */
void member_json_deinit(struct member_json *m);
/* As Go's encoding/json writes it. */
void member_json_encode(const struct member_info *m, struct bytes *out);

#endif
