/* limits.h - the bounds of the member's shell.
 *
 * What        Constants with unit and origin; what happens at each.   Callers  raft/member.   Thread  none.
 */
#ifndef RAFT_MEMBER_LIMITS_H
#define RAFT_MEMBER_LIMITS_H

#define MEMBER_INBOX_MAX 262144u        /* ops handed over and not yet seen by the member loop; full: ERR_TOO_MANY_REQUESTS */
#define MEMBER_MESSAGES_MAX 8192u       /* from other members, not yet seen by the member loop; more are dropped, as etcd (4096 a link) */
#define MEMBER_APPLY_LAG_MAX 5000u      /* committed, not applied entries; over: ERR_TOO_MANY_REQUESTS, as etcd */
#define MEMBER_LOG_INFLIGHT_MAX 64u     /* appends at the log thread; full: raft's actions wait */
#define MEMBER_UNCOMMITTED_BYTES_MAX 268435456u /* proposed, not yet applied; over: ERR_TOO_MANY_REQUESTS */
#define MEMBER_DUTY_RETRY_MS 500u       /* until a refused proposal of the member's own is made again */
#define MEMBER_LEASE_SCAN_MS 500u       /* how often expired leases are looked for, as etcd */
#define MEMBER_LEASE_REVOKE_MAX 1000u   /* revocations proposed per scan; the rest waits for the next */
#define MEMBER_REQUEST_BASE_MS 5000u    /* ReqTimeout = this + 2 election timeouts, as etcd */
#define MEMBER_STEP_BUDGET 64u          /* pieces of background work per idle turn */

#endif
