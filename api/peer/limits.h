/* limits.h - the bounds of the transport, beside those of raft/peer/limits.h.
 *
 * What        Numbers with unit and origin, and what happens at each.   Callers  api/peer.   Thread  constants.
 */
#ifndef API_PEER_LIMITS_H
#define API_PEER_LIMITS_H

#define PEER_CONNECTIONS_MAX 1024u /* to the peer URLs, some eight from each member; at it no more are accepted, and the descriptors are the others' */
#define PEER_HANDOVER_MAX 65536u   /* messages on their way from the member loop; more are lost and reported, as with a full stream */
#define PEER_STRANGERS_MAX 32u     /* senders in no configuration yet; the oldest is forgotten */
#define PEER_QUEUED_BYTES (4u << 20) /* encoded for one stream and not yet taken by the kernel; above it, messages stay in the link */
#define PEER_REFUSAL_BYTES 512u    /* of another member's refusal; the rest is not looked at */
#define PEER_REASON_BYTES 512u     /* of a failure's text, with its NUL, as ERR_TEXT_MAX; longer text is cut */
#define PEER_URL_BYTES 512u        /* of an address with a path; longer ones cannot be asked */
#define PEER_URLS_HEADER_MAX 4096u /* of X-PeerURLs; a longer one is not remembered */
#define PEER_ACTIVE_MAX 256u       /* members whose activity is told; RAFT_MEMBERS_MAX is less */

#define SNAPSHOT_PIECE_BYTES (512u * 1024u) /* read or written by one visit to a worker */
#define SNAPSHOT_SIGN_MS 10000u /* between two signs of life while the store is walked, or the other side checks what it got; and ... */
#define SNAPSHOT_SIGNS_MAX 180u /* ... so many of them (half an hour); after that the link gives up as it does on silence */
#define SPOOL_PENDING_BYTES (2u * SNAPSHOT_PIECE_BYTES) /* received, not yet written; above it, the sender waits */

#define SPOOL_LOOK_MS 60000u         /* a sender that is not made to wait brings ... */
#define SPOOL_SLOWEST_BYTES 262144u  /* ... at least this much in that time; less: given up, for the place is needed */

#define ASKS_MAX 1024u            /* questions under way; more fail with ERR_LIMIT */
#define ASK_VERSION_MS 1500u      /* for the version of one member; over: it could not be asked */
#define PROBE_MS 4000u            /* between two probes of one member; etcd's */
#define STOP_GRACE_MS 300u        /* for answers that are on their way when the transport stops */
#define NET_KEEPALIVE_S 30L       /* TCP's probes on idle connections, as etcd */
#define NET_IDLE_CONNECTIONS 64L  /* kept for posts; the oldest goes */
#define NET_NAMES_S 5L            /* a name's address is asked for again; members move */

#endif
