/* reconfig.h - whether a change of membership is a good idea now.
 *
 * What        etcd's strict-reconfig-check and its rule for promotions: they keep a cluster from a change after which it may have no
 *             quorum. They rest on links and are one member's opinion; what has to be decided alike by every member is checked when the
 *             change is applied (engine/membership).
 * Callers     raft/member/change.c.
 * Thread      pure.
 * Source      etcd-server.md 3.8.
 */
#ifndef RAFT_MEMBER_RECONFIG_H
#define RAFT_MEMBER_RECONFIG_H

#include "raft/member/member.h"

/* The cluster as this member sees it. */
struct census {
    bool strict; /* --strict-reconfig-check */
    bool leads;  /* this member does */
    size_t voters;
    size_t started; /* voters that have published a name */
    size_t active;  /* voters whose link has been up for MEMBER_ACTIVE_MS, this member included */
    /* The member that the change is about. */
    bool target_known;
    bool target_started;
    bool target_learner;
    bool target_active; /* its link is up */
    bool target_is_self;
    uint64_t match;     /* how far its log is known to go; a leader's knowledge */
    uint64_t own_match; /* this member's own */
};

/* OK, or ERR_NOT_ENOUGH_STARTED, ERR_UNHEALTHY; for PROMOTE also ERR_NOT_LEADER, ERR_MEMBER_NOT_FOUND, ERR_LEARNER_NOT_READY. */
enum err reconfig_check(const struct census *c, enum member_change_kind kind);

#endif
