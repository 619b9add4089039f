/* transport.h - what a member asks of whoever carries its messages.
 *
 * What        A table of functions. Implementations: api/peer (sockets), tests/sim (a simulated network), and none at all
 *             for a member that is alone (member_config.transport is NULL).
 * Callers     raft/member. The news that come back are member_receive and member_link_news (member.h).
 * Thread      everything is called on the member loop and must only hand on, except active_since_ms, which answers from any
 *             thread at once.
 */
#ifndef RAFT_MEMBER_TRANSPORT_H
#define RAFT_MEMBER_TRANSPORT_H

#include "raft/core/raft.h"

struct member_transport {
    /* n messages for other members, all taken. Each one is sent or lost; a lost one is reported as LINK_NEWS_UNREACHABLE, and of each MsgSnap
     * exactly one of the two fates is reported. A MsgSnap stands for "send what your store holds now": index, term and configuration
     * are filled in from the database that really goes out. */
    void (*send)(void *arg, struct raft_message *const *messages, size_t n);
    /* Members or their addresses have changed: look at member_peers and engine_member_removed again. */
    void (*members_changed)(void *arg);
    /* Since when the link to `id` has been active without a break, on the member's clock; 0: it is not. [any] */
    uint64_t (*active_since_ms)(void *arg, uint64_t id);
    /* Ask every other member for its version; the answer is one member_versions. */
    void (*ask_versions)(void *arg);
    void *arg;
};

#endif
