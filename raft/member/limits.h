/* limits.h - the bounds of the member's shell.
 *
 * What        Constants with unit and origin; what happens at each.   Callers  raft/member.   Thread  none.
 */
#ifndef RAFT_MEMBER_LIMITS_H
#define RAFT_MEMBER_LIMITS_H

#define MEMBER_INBOX_MAX 262144u        /* ops handed over and not yet seen by the member loop; full: ERR_TOO_MANY_REQUESTS */
#define MEMBER_MESSAGES_MAX 8192u       /* from other members, not yet seen by the member loop; more are dropped, as etcd (4096 a link) */
#define MEMBER_HELD_PROPOSALS_MAX 1024u /* forwarded by others, while leadership moves; more are dropped */
#define MEMBER_APPLY_LAG_MAX 5000u      /* committed, not applied entries; over: ERR_TOO_MANY_REQUESTS, as etcd */
#define MEMBER_LOG_INFLIGHT_MAX 16384u  /* batches at the log thread; full: raft's actions wait. Bytes are bounded by what raft lets be uncommitted */
#define MEMBER_PRIORITY_LAG_MAX 10000u  /* the same for revocations of leases, with the gate PriorityRequest */
#define MEMBER_UNCOMMITTED_BYTES_MAX 268435456u /* proposed, not yet applied; over: ERR_TOO_MANY_REQUESTS */
/* Under way to one follower, and one message more; full: the rest waits for its answers. A link drops what passes LINK_STREAM_BYTES_MAX of encoded messages,
 * and a leader that hears of it begins again. Of small entries the payload, which counts here, is less than half of what is encoded: so a quarter. */
#define MEMBER_INFLIGHT_BYTES_MAX 16777216u
#define MEMBER_CATCH_UP_BYTES 16777216u  /* of entries kept behind the applied index, however many --snapshot-catchup-entries allows */
#define MEMBER_HELD_BYTES_MAX 268435456u /* kept in memory for a follower that takes a snapshot; over: compacted all the same */
#define MEMBER_SNAPSHOT_RETRY_MS 200u    /* after a refused snapshot; twice that after the next, ... */
#define MEMBER_SNAPSHOT_RETRY_MAX_MS 10000u /* ... and so on up to this */
#define MEMBER_SNAPSHOT_HOLD_MS 30000u  /* the log is kept so long behind a snapshot that was delivered, as etcd */
#define MEMBER_POSITIONS_MAX 128u       /* durable positions remembered, as candidates for the store's witness */
#define MEMBER_DUTY_RETRY_MS 500u       /* until a refused proposal of the member's own is made again */
#define MEMBER_VERSION_MS 4000u         /* how often a leader compares the members' versions, as etcd */
#define MEMBER_VERSION_LOOK_MS 100u     /* how often a member looks whether the cluster's version has changed, for its log */
#define MEMBER_LEASE_SCAN_MS 500u       /* how often expired leases are looked for, as etcd */
#define MEMBER_LEASE_REVOKE_MAX 1000u   /* revocations proposed per scan; the rest waits for the next */
#define MEMBER_REQUEST_BASE_MS 5000u    /* ReqTimeout = this + 2 election timeouts, as etcd */
#define MEMBER_APPLIED_WAIT_MS 1000u    /* of MEMBER_WAIT_APPLIED, as etcd */
#define MEMBER_ACTIVE_MS 5000u          /* a link has to be up so long to count in the checks of a change of membership, as etcd */
#define MEMBER_FORWARD_POLL_MS 50u      /* start-up: how often connected members are counted ... */
#define MEMBER_FORWARD_MAX_MS 5000u     /* ... and for how long, as etcd */
#define MEMBER_FAILOVER_STEP_MS 30u     /* between the attempts of the voters that saw the leader's process go */
#define MEMBER_REMOVAL_WAIT_MS 10000u  /* a removed member stays so long for those who stay to hear of it; then it goes all the same */
#define MEMBER_STEP_BUDGET 64u          /* pieces of background work per idle turn */

#endif
