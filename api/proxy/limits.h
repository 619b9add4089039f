/* limits.h - the bounds of the proxy, each with what happens when it is reached.
 *
 * What        Counts, sizes and times.   Callers  api/proxy.   Thread  constants.
 */
#ifndef API_PROXY_LIMITS_H
#define API_PROXY_LIMITS_H

#define PROXY_ENDPOINTS_MAX 1024u   /* of the cluster; more are left out */
#define PROXY_DIAL_MS 5000u         /* to connect to one endpoint */
#define PROXY_REDIAL_MIN_MS 250u    /* after the first failure, doubling up to ... */
#define PROXY_REDIAL_MAX_MS 10000u
#define PROXY_WAIT_MS 5000u         /* a call waits so long for any endpoint: Unavailable */
#define PROXY_WAITING_MAX 16384u    /* calls waiting for an endpoint or their next try: Unavailable */
#define PROXY_RETRY_MS 25u          /* before a read is asked for again, as clientv3 */
#define PROXY_RETRIES_MAX 100u      /* of one read, as clientv3: the last status stands */
#define PROXY_HELD_BYTES_MAX                                                                       \
    (512u * 1024u * 1024u)          /* requests and replies in memory; over: ResourceExhausted */

#define PROXY_CACHE_ENTRIES_MAX 2048u                /* answers kept, as etcd: the one used longest ago goes */
#define PROXY_CACHE_ENTRY_BYTES_MAX (1024u * 1024u)  /* request and answer; larger ones are not kept */
#define PROXY_CACHE_BYTES_MAX (64u * 1024u * 1024u)  /* all of them: as above */

#define PROXY_NESTING_MAX 32u       /* txns within txns that are rewritten: InvalidArgument */

#define PROXY_STREAM_PAUSE_BYTES (1024u * 1024u)  /* a forwarded stream's unsent bytes: upstream is held back */
#define PROXY_STREAM_RESUME_BYTES (256u * 1024u)  /* ... until they fall to this */

#define PROXY_WATCH_QUEUE_BYTES (8u * 1024u * 1024u) /* unsent on one Watch stream: it is cancelled, as etcd does */
#define PROXY_WATCH_REQUESTS_MAX 65536u  /* of one stream, waiting for the one before them: ResourceExhausted */
#define PROXY_LANE_WATCHES_MAX 256u  /* upstream watches on one stream; the next ones get another */
#define PROXY_COALESCE_RECEIVERS_MAX 5u  /* a group with so many joins larger ones alone */
#define PROXY_KEEPALIVES_MAX 65536u      /* renewals of one stream without an answer: ResourceExhausted */
#define PROXY_MEMBERS_MAX 1024u          /* registered proxies that MemberList tells of */

#endif
