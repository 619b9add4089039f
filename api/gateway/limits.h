/* limits.h - the bounds of the gateway, each with what happens when it is reached.
 *
 * What        Sizes of requests and replies on their way through it; the body of a request is bounded by api/http (H1_BODY_BYTES_MAX: 413).
 * Callers     api/gateway.   Thread  constants.
 */
#ifndef API_GATEWAY_LIMITS_H
#define API_GATEWAY_LIMITS_H

#define JSON_DEPTH_MAX 512u  /* objects and arrays in each other: InvalidArgument */
#define JSON_FIELDS_MAX 64u  /* of one message type: programmer error beyond */
#define GATEWAY_PIECE_BYTES (64u * 1024u)  /* JSON handed to the connection at a time; a reply up to this size goes with its length, not in chunks */
#define GATEWAY_QUEUE_BYTES (512u * 1024u) /* waiting for a slow client: over it nothing is taken from the service */
#define GATEWAY_FIELD_BYTES_MAX (64u * 1024u * 1024u) /* one field of a reply (a key with its value, a response of a txn): ResourceExhausted */
#define SOCKET_MESSAGE_BYTES_MAX (8u * 1024u * 1024u) /* of JSON that a WebSocket brought and that is no whole value yet, as of a body: closed with 1009 */

#endif
