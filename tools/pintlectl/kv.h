/* kv.h - the requests of get, put and del.
 *
 * What        From flags and words to a message; the same for the commands and for the operations
 *             of txn.
 * Callers     kv.c, txn.c.
 * Thread      one.
 * Invariants  What a request points at lies in the arena of its flags, or in the words.
 * Source      cli.md 6, 7.
 */
#ifndef TOOLS_PINTLECTL_KV_H
#define TOOLS_PINTLECTL_KV_H

#include "api/proto/rpc.pb-c.h"
#include "tools/pintlectl/ctl.h"

/* They end the program when the words are wrong. */
void kv_get_request(const struct flag_set *f, Etcdserverpb__RangeRequest *out);
void kv_put_request(const struct flag_set *f, Etcdserverpb__PutRequest *out);
void kv_del_request(const struct flag_set *f, Etcdserverpb__DeleteRangeRequest *out);

/* The range of a key, with an end or not, as --prefix and --from-key have it. */
struct key_range kv_range(const struct flag_set *f);

#endif
