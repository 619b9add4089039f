/* limits.h - every bound of the links between members.
 *
 * What        Numbers with their unit, where they come from, and what happens when one is reached.
 * Callers     raft/peer and the shells around it.   Thread  constants.
 */
#ifndef RAFT_PEER_LIMITS_H
#define RAFT_PEER_LIMITS_H

#include <stdint.h>

/* ---- bytes ---- */

#define PEER_MESSAGE_BYTES_MAX                                                                     \
    (512u * 1024u * 1024u) /* etcd's bound of one message; over: the stream                        \
                              ends. Room grows as bytes arrive, a length                           \
                              alone takes none */
#define PEER_SNAPSHOT_HEAD_BYTES_MAX                                                               \
    (64u * 1024u * 1024u) /* the message before a database; etcd's;                                \
                             over: refused */
#define PEER_ENTRIES_MAX                                                                           \
    262144u /* of one message: 1 MiB of the smallest entries; over: ERR_LIMIT */
#define PEER_EXTRA_BYTES_MAX                                                                       \
    (16u * 1024u * 1024u)      /* a message of our own; over: the stream ends                      \
                                */
#define PEER_DECODE_FACTOR 16u /* an entry of no fields takes 2 bytes of input and 32 of memory */

/* ---- queues ---- */

#define LINK_STREAM_MESSAGES_MAX                                                                   \
    4096u /* waiting on one stream; etcd's; full: dropped and reported */
#define LINK_STREAM_BYTES_MAX                                                                      \
    (64u * 1024u * 1024u) /* ... and so many bytes, of which one message may be more; as above. Ours: \
                             4,096 appends are gigabytes */
#define LINK_PIPELINE_MESSAGES_MAX                                                                 \
    64u                        /* waiting for a post; etcd's; full: dropped and reported           \
                                */
#define LINK_POSTS_MAX 4u      /* posts under way at once; etcd's; the others wait */
#define LINK_SNAPSHOTS_MAX 1u  /* under way; another one is reported as failed */
#define LINK_URLS_MAX 16u      /* addresses of one member; the rest is not tried */
#define LINK_ACTIONS_MAX 96u   /* of one step */
#define LINK_REASON_BYTES 192u /* of a failure's text, with its NUL; longer text is cut */

/* ---- times ---- */

#define LINK_READ_TIMEOUT_MS 5000u  /* a stream that brings nothing is given up; etcd's */
#define LINK_WRITE_TIMEOUT_MS 5000u /* a stream that takes nothing is given up; etcd's */
#define LINK_HEARTBEAT_MS 1666u     /* a third of the read timeout; etcd's */
#define LINK_POST_TIMEOUT_MS 10000u /* a post without an answer is given up */
#define LINK_SNAPSHOT_STALL_MS                                                                     \
    60000u                      /* a snapshot that makes no progress is given up; the other side   \
                                   syncs and checks the file before it answers */
#define LINK_REDIAL_MS 100u     /* between two dials of a stream; etcd's */
#define LINK_REDIAL_FAST_MS 10u /* the same, for the first dials after a connection died */
#define LINK_REDIAL_FAST_TRIES 3u
#define LINK_REDIAL_SLOW_MS                                                                        \
    1000u /* after LINK_REDIAL_TRIES failures in a row; a peer that came back                      \
             dials us, and that ends the wait */
#define LINK_REDIAL_TRIES 100u
#define LINK_GONE_REFUSALS                                                                         \
    3u /* refused dials in a row that count as evidence; and each address                          \
        */

#endif
