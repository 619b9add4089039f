/* describe.h - what a request says, as text for logs.
 *
 * What        The words that etcd has for its requests: protobuf's text form on one line, but for puts, transactions and logins, whose values and
 *             passwords are left out (sizes stand for values).
 * Callers     raft/member and api/etcd, when something took long or failed.
 * Thread      values.
 * Bounds      DESCRIBE_BYTES_MAX of text; what is longer ends with "...".
 * Source      etcd-server.md 8.
 */
#ifndef ENGINE_DESCRIBE_H
#define ENGINE_DESCRIBE_H

#include "api/proto/rpc.pb-c.h"
#include "base/slice.h"

#define DESCRIBE_BYTES_MAX (16u * 1024u)

/* Each makes `out` a NUL-terminated string; the caller frees it with bytes_deinit. */
void describe_message(const ProtobufCMessage *m, struct bytes *out);
void describe_put(const Etcdserverpb__PutRequest *p, struct bytes *out);
void describe_txn(const Etcdserverpb__TxnRequest *t, struct bytes *out);
/* An encoded InternalRaftRequest; empty when it is none. */
void describe_entry(struct slice entry, struct bytes *out);

#endif
