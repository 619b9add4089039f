/* fuzz_record.c - bytes from a damaged store: revision keys, KeyValues, checked records.
 *
 * The first byte says how many of the following stand for the backend key; the rest is the stored
 * value. What decodes must, encoded again, decode to the same.
 */
#include <stdint.h>

#include "base/assert.h"
#include "engine/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_key(struct slice key)
{
    struct rev r;
    bool tombstone = false;
    if (record_key_decode(key, &r, &tombstone) != OK) {
        return;
    }
    uint8_t again[RECORD_KEY_BYTES_MAX];
    size_t len = record_key_encode(again, r, tombstone);
    ASSERT(slice_eq(key, slice_of(again, len)));
}

static void check_kv(struct slice encoded)
{
    struct kv_view kv;
    if (kv_decode(encoded, &kv) != OK) {
        return;
    }
    struct buf *again = kv_encode_buf(&kv);
    struct kv_view back;
    enum err e = kv_decode(buf_slice(again), &back);
    ASSERT(e == OK);
    ASSERT(slice_eq(kv.key, back.key));
    ASSERT(slice_eq(kv.value, back.value));
    ASSERT(kv.create_revision == back.create_revision);
    ASSERT(kv.mod_revision == back.mod_revision);
    ASSERT(kv.version == back.version);
    ASSERT(kv.lease == back.lease);
    buf_unref(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    size_t key_len = data[0] < size - 1 ? data[0] : size - 1;
    struct slice key = slice_of(data + 1, key_len);
    struct slice stored = slice_of(data + 1 + key_len, size - 1 - key_len);
    check_key(key);
    check_kv(stored);
    struct slice kv;
    if (record_check(key, stored, &kv) == OK) {
        check_kv(kv);
    }
    return 0;
}
