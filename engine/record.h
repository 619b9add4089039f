/* record.h - how one change stands in the store and on the wire.
 *
 * What        The stored form of a change is its encoded mvccpb.KeyValue, the very bytes that Range
 *             replies and watch events carry, so that the read path splices instead of re-encoding.
 *             In the backend it is followed by an 8-byte checksum over revision key and KeyValue.
 *             A tombstone's KeyValue holds only the key.
 * Callers     engine.   Thread  pure functions.
 * Format      backend key: 8-byte big-endian main, '_', 8-byte big-endian sub, and 't' for a tombstone.
 *             KeyValue: fields ascending, zero fields left out (etcd-server.md 5.2).
 */
#ifndef ENGINE_RECORD_H
#define ENGINE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

/* An MVCC revision: the transaction and the change within it. */
struct rev {
    int64_t main;
    int64_t sub;
};

static inline int rev_cmp(struct rev a, struct rev b)
{
    return a.main != b.main ? (a.main > b.main) - (a.main < b.main) : (a.sub > b.sub) - (a.sub < b.sub);
}

#define RECORD_KEY_BYTES 17u
#define RECORD_KEY_BYTES_MAX 18u /* with the tombstone mark */
#define RECORD_SUM_BYTES 8u

/* Write the backend key; returns its length, 17 or 18. */
size_t record_key_encode(uint8_t out[RECORD_KEY_BYTES_MAX], struct rev r, bool tombstone);
/* ERR_CORRUPT when it is no revision key. */
MUST_CHECK enum err record_key_decode(struct slice key, struct rev *r, bool *tombstone);

/* A KeyValue seen through its encoded bytes; slices are borrowed. */
struct kv_view {
    struct slice key;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t version;
    struct slice value;
    int64_t lease;
};

size_t kv_encoded_size(const struct kv_view *kv);
uint8_t *kv_encode(uint8_t *p, const struct kv_view *kv); /* returns the byte after */
struct buf *kv_encode_buf(const struct kv_view *kv);
MUST_CHECK enum err kv_decode(struct slice encoded, struct kv_view *out); /* ERR_CORRUPT */
/* The same for a record of a store, in which a change without a single byte is sound, too: etcd's way to raise the revision of
 * a restored store. It stands for the key "" (all else 0), which no request can name. ERR_CORRUPT. */
MUST_CHECK enum err record_view(struct slice kv, bool tombstone, struct kv_view *out);

/* The checksum that follows the KeyValue in the backend, and its check: on OK *kv is the
 * KeyValue's bytes without the sum, borrowed from `stored`. ERR_CORRUPT. */
uint64_t record_sum(struct slice record_key, struct slice kv);
/* The same as it is stored, big-endian: what the writer puts behind the KeyValue. */
void record_sum_encode(uint8_t out[RECORD_SUM_BYTES], struct slice record_key, struct slice kv);
MUST_CHECK enum err record_check(struct slice record_key, struct slice stored, struct slice *kv);

#endif
