/* limits.h - the bounds of the transport, each with what happens when it is reached.
 *
 * What        Sizes, counts and times that hold for every connection.
 * Callers     api/http, api/grpc.   Thread  constants.
 */
#ifndef API_HTTP_LIMITS_H
#define API_HTTP_LIMITS_H

#define CONN_READ_BYTES                                                                            \
    (128u * 1024u) /* one read(2), and what one connection may bring in a turn; the buffer is the  \
                      loop's, not the connection's */
/* A loop whose turns take longer lets each connection bring less, so that the others wait less for the few that send
 * much; half of it with each such turn, twice as much again with each short one. */
#define TURN_LONG_MS 4u
#define CONN_READ_LEAST_BYTES (16u * 1024u)
#define CONN_WARY_BYTES                                                                            \
    1024u /* in a turn, of a connection that asks and gives up, again and again */
#define CONN_WRITE_BYTES                                                                           \
    (256u * 1024u) /* gathered for one write(2) of a connection and turn; the rest waits a turn */
#define CONN_SETUP_MS 10000u  /* from accept to a protocol and its first request head: closed */
#define CONN_HEAD_MS 10000u   /* from the first byte of a later request head to its last: closed */
#define CONN_IDLE_MS 300000u  /* HTTP/1.1 between requests: closed */
#define CONN_STALL_MS 120000u /* HTTP/1.1 body, or a peer that takes no bytes of ours: closed */
#define CONN_BODY_STEP_BYTES                                                                       \
    (1024u * 1024u) /* of an HTTP/1.1 body that is gathered have to come in each CONN_STALL_MS */
#define CONN_LINGER_MS 1000u  /* after our last byte, for the peer to read it: closed */

/* Bytes that connections make a loop hold: unread answers, unfinished requests, open streams. The
 * loops share HELD_BYTES, but each may have HELD_BYTES_LEAST; over: whoever holds most is closed. */
#define HELD_BYTES (1024u * 1024u * 1024u)
#define HELD_BYTES_LEAST (256u * 1024u * 1024u)

#define LISTEN_BACKLOG 4096
#define SHAKES_PER_TURN                                                                            \
    8u /* steps of TLS handshakes, each up to some ms of CPU; the others wait a turn */
#define ACCEPTS_PER_TURN 64u /* connections taken from one listener before others get their turn   \
                              */
#define ACCEPT_RETRY_MS 100u /* after EMFILE and its kin */
#define LISTENERS_MAX 64u    /* ERR_LIMIT */
#define LOOPS_MAX 256u       /* programmer error beyond */
#define TCP_KEEPALIVE_S 30u  /* Go's listener default, as etcd */

#define H2_STREAM_WINDOW_BYTES (1024u * 1024u)
#define H2_CONN_WINDOW_BYTES (16u * 1024u * 1024u)
#define H2_HEADER_LIST_BYTES_MAX                                                                   \
    (64u * 1024u) /* as RFC 9113 6.5.2 counts: RST_STREAM(FRAME_SIZE_ERROR), as grpc-go; twice    \
                     that: closed, for a small block can stand for a huge list */
#define H2_STREAMS_MAX 1048576u /* whatever the configuration says: REFUSED_STREAM */
#define H2_ACKS_MAX 1000u       /* PING and SETTINGS answers waiting: closed (nghttp2 FLOODED) */
#define H2_SETTINGS_MAX 32u     /* entries of one SETTINGS frame: GOAWAY */
#define H2_CONTINUATIONS_MAX 8u /* frames of one header block: closed */
#define H2_STREAM_BYTES 1024u   /* what an open stream counts for among the bytes held */
#define H2_RESETS_BURST 2000u   /* streams that ended young and unanswered, at once, and ... */
#define H2_RESETS_PER_S 500u    /* ... for ever: GOAWAY ENHANCE_YOUR_CALM */
#define H2_RESETS_FEW 100u      /* of them: from then on CONN_WARY_BYTES, until they are forgotten */
#define H2_YOUNG_MS 1000u       /* calls that are given up later have most likely timed out */
#define H2_CHATTER_BURST 10000u /* frames that carry no request, less those that answers explain, */
#define H2_CHATTER_PER_S 1000u  /* ... and for ever: GOAWAY ENHANCE_YOUR_CALM */
#define H2_SETTINGS_STREAMS 64u /* SETTINGS are worth one such frame more for so many streams */
#define H2_FRAMES_WAITING_MAX                                                                      \
    10000u /* for a peer that does not read: we stop reading what it sends */
#define H2_QUEUED_BYTES_MAX                                                                        \
    (64u * 1024u * 1024u) /* replies of one connection in memory: new streams REFUSED_STREAM */
#define H2_PARTIAL_BYTES_MAX                                                                       \
    (128u * 1024u * 1024u) /* half-received messages of one connection: ResourceExhausted */
#define H2_GOAWAY_MS                                                                               \
    1000u /* between the shutdown notice and the final GOAWAY, when its ping stays away */
#define H2_PING_STRIKES_MAX 2u   /* as grpc-go: one more ends the connection */
#define H2_IDLE_PING_MS 7200000u /* without streams a ping may come this often, as grpc-go */

#define H1_HEAD_BYTES_MAX (64u * 1024u)        /* request line and headers: 431 */
#define H1_HEADERS_MAX 256u                    /* 431 */
#define H1_BODY_BYTES_MAX (8u * 1024u * 1024u) /* 413 */
#define H1_QUEUED_BYTES_MAX                                                                        \
    (64u * 1024u * 1024u) /* of a streamed reply that its client does not read: closed */

#endif
