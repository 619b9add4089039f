/* codec.h - raftpb's messages, entries and snapshots from and to bytes.
 *
 * What        struct raft_message (raft/core/raft.h) in the bytes that etcd's members exchange.
 * What is written is, byte for byte, what etcd's raft library up to 3.6 writes: every number, zeros
 *             too. What is read may leave zeros out (3.7 does), carry an empty snapshot in every
 *             message (3.4 and 3.5 do), or have fields that are not known here.
 * Callers     raft/peer (streams, posts), tests.
 * Thread      any; there is no state.
 * Invariants  Reading never looks outside its input, whatever that holds. Memory taken is bounded
 * by the input's length times PEER_DECODE_FACTOR, and a constant. Format      docs/peer-protocol.md
 */
#ifndef RAFT_PEER_CODEC_H
#define RAFT_PEER_CODEC_H

#include "base/err.h"
#include "base/slice.h"
#include "raft/core/raft.h"
#include "raft/peer/limits.h"

/* Bytes of the encoded message; of an entry they are raft_entry_bytes. */
size_t peer_message_bytes(const struct raft_message *m);
size_t peer_snapshot_bytes(const struct raft_snapshot *s);

/* Append the encoding. An empty context and data that are NULL are left out; data of length 0 are
 * written as an empty field, as etcd does. */
void peer_message_encode(const struct raft_message *m, struct bytes *out);
void peer_entry_encode(const struct raft_entry *e, struct bytes *out);
void peer_snapshot_encode(const struct raft_snapshot *s, struct bytes *out);

/* Read one message; data are copied out of `in`. Of a field that comes twice the last one counts.
 * Ids of a configuration are put in order, each once. A snapshot without index and term is none,
 * except in a MsgSnap. Whether numbers make sense is for raft_receive to say.
 * ERR_INVALID: no such message. ERR_UNSUPPORTED: a message type that is not known here.
 * ERR_LIMIT: more entries, members or context than there may be. */
MUST_CHECK enum err peer_message_decode(struct slice in, struct raft_message **out,
                                        struct err_ctx *ec);

/* Read one entry into *out, whose data (a new reference, or NULL) are then the caller's. */
MUST_CHECK enum err peer_entry_decode(struct slice in, struct raft_entry *out, struct err_ctx *ec);

/* Read a raftpb.Snapshot; the caller frees it with raft_snapshot_destroy. */
MUST_CHECK enum err peer_snapshot_decode(struct slice in, struct raft_snapshot **out,
                                         struct err_ctx *ec);

#endif
