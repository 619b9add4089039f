/* frame.h - messages on a stream, out of and into bytes that come in any pieces.
 *
 * What        One peer_encoder and one peer_decoder per connection. Three forms: the message
 * stream, the append stream with its compact form, and the head of a posted snapshot. The compact
 *             form leaves out what both ends know: each remembers the term and last index of the
 * last append that went over this connection, and starts from zero with a new one. Between Pintle
 * members that agreed on it (headers.h), a message stream also carries extra messages: a kind and
 * bytes, which etcd's decoders would refuse. Callers     the transport and the simulator. Thread
 * the connection's owner. Invariants  The same bytes give the same frames, however they are cut.
 * After an error every further call fails. A frame costs memory only as its bytes arrive. Format
 * docs/peer-protocol.md
 */
#ifndef RAFT_PEER_FRAME_H
#define RAFT_PEER_FRAME_H

#include <stdbool.h>

#include "base/err.h"
#include "base/slice.h"
#include "raft/core/raft.h"
#include "raft/peer/limits.h"

enum peer_stream {
    PEER_STREAM_APPEND,   /* /raft/stream/msgapp: appends and heartbeats of the link */
    PEER_STREAM_MESSAGE,  /* /raft/stream/message: any message */
    PEER_STREAM_SNAPSHOT, /* the one message at the head of a body for /raft/snapshot */
};

/* "stream MsgApp v2", "stream Message", "sendMsgSnap": etcd's names in logs. */
const char *peer_stream_name(enum peer_stream stream);

/* ---- writing ---- */

struct peer_encoder {
    enum peer_stream stream;
    uint64_t local;
    uint64_t remote;
    uint64_t term; /* APPEND: of the last whole message */
    uint64_t index;
};

void peer_encoder_init(struct peer_encoder *e, enum peer_stream stream, uint64_t local,
                       uint64_t remote);

/* Append one frame to `out`. An append stream takes only MsgApp, a snapshot only one MsgSnap. */
void peer_encode(struct peer_encoder *e, const struct raft_message *m, struct bytes *out);

/* Append the frame that only says that the link lives. Not for a snapshot. */
void peer_encode_heartbeat(struct peer_encoder *e, struct bytes *out);

/* Append an extra message; only on a message stream, and only when both ends agreed. `kind` is
 * below PEER_EXTRA_KINDS, the body at most PEER_EXTRA_BYTES_MAX. */
#define PEER_EXTRA_KINDS 0x8000u
void peer_encode_extra(struct peer_encoder *e, uint32_t kind, struct slice body, struct bytes *out);

/* ---- reading ---- */

enum peer_frame {
    PEER_FRAME_NONE, /* everything was taken, more bytes are needed; behind a snapshot's head: the
                        rest is the database and was left alone */
    PEER_FRAME_HEARTBEAT, /* the link lives */
    PEER_FRAME_MESSAGE,   /* *message is the caller's */
    PEER_FRAME_SKIPPED,   /* a message of a type that is not known here */
    PEER_FRAME_EXTRA,     /* extra_kind and extra, valid until the next call */
};

enum peer_decoder_state {
    PEER_AT_TYPE,
    PEER_AT_LENGTH,
    PEER_AT_BODY,
    PEER_AT_EXTRA,
    PEER_AT_COUNT,
    PEER_AT_ENTRY_LENGTH,
    PEER_AT_ENTRY,
    PEER_AT_COMMIT,
    PEER_AT_DATABASE,
    PEER_BROKEN,
};

struct peer_decoder {
    enum peer_stream stream;
    enum peer_decoder_state state;
    bool extras; /* extra messages were agreed on */
    uint64_t local;
    uint64_t remote;
    uint64_t term; /* APPEND: as in the encoder */
    uint64_t index;
    size_t need;        /* bytes of the part that is read now */
    struct bytes part;  /* owned; of a part that did not come in one piece */
    bool part_used;     /* `part` was handed out and is void at the next call */
    uint64_t n_entries; /* of a compact append: how many were announced */
    size_t n_read;      /* how many are in `entries` */
    size_t cap;
    struct raft_entry *entries; /* owned */
    uint32_t extra_kind;
    struct slice extra;
};

void peer_decoder_init(struct peer_decoder *d, enum peer_stream stream, uint64_t local,
                       uint64_t remote, bool extras);
void peer_decoder_deinit(struct peer_decoder *d);

/* Take bytes off the front of *in up to the end of the next frame. Call it until it says NONE.
 * ERR_INVALID, ERR_LIMIT: the connection is to be closed. ERR_UNSUPPORTED: the same, a message of a
 * type that has no place here. ERR_CLOSED: it was broken before. */
MUST_CHECK enum err peer_decode(struct peer_decoder *d, struct slice *in, enum peer_frame *frame,
                                struct raft_message **message, struct err_ctx *ec);

/* Whether the bytes so far end between two frames: what a clean end of a stream looks like. */
bool peer_decoder_at_boundary(const struct peer_decoder *d);

#endif
