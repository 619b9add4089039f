/* main.c - changes one value in the store of a member that does not run, as no disk error could: its checksum is right again afterwards.
 *
 *     alter_store SNAP_DIR KEY NEW_VALUE
 *
 * For the tests of corruption checks (tests/system/test_operations.py). Every record of the key gets the new value. Exit code 0: at least one did.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/backend.h"
#include "engine/record.h"

#define CHANGES_MAX 64u

struct change {
    uint8_t key[RECORD_KEY_BYTES_MAX];
    size_t key_len;
    struct buf *kv; /* owned */
};

static size_t find_changes(struct backend *b, const char *key, const char *value, struct change *out)
{
    struct backend_read *read = NULL;
    struct backend_cursor *c = NULL;
    struct err_ctx ec = {{0}};
    struct slice k;
    struct slice stored;
    size_t n = 0;
    enum err e = b->ops->read_begin(b, &read, &ec);
    ASSERT(e == OK);
    e = b->ops->cursor_open(read, BUCKET_KEY, (struct slice){0}, &c, &ec);
    ASSERT(e == OK);
    while (n < CHANGES_MAX && b->ops->cursor_next(c, &k, &stored) == OK) {
        struct slice encoded;
        struct kv_view kv;
        if (record_check(k, stored, &encoded) != OK || kv_decode(encoded, &kv) != OK || !slice_eq(kv.key, slice_str(key))) {
            continue;
        }
        kv.value = slice_str(value);
        memcpy(out[n].key, k.data, k.len);
        out[n].key_len = k.len;
        out[n++].kv = kv_encode_buf(&kv);
    }
    b->ops->cursor_close(&c);
    b->ops->read_end(&read);
    return n;
}

int main(int argc, char **argv)
{
    struct err_ctx ec = {{0}};
    struct backend *b = NULL;
    struct change changes[CHANGES_MAX];
    if (argc != 4) {
        (void)fprintf(stderr, "usage: alter_store SNAP_DIR KEY NEW_VALUE\n");
        return 2;
    }
    if (backend_lmdb_open(argv[1], BACKEND_MAP_BYTES_DEFAULT, false, &b, &ec) != OK) {
        (void)fprintf(stderr, "%s\n", ec.text);
        return 2;
    }
    size_t n = find_changes(b, argv[2], argv[3], changes);
    enum err e = b->ops->begin(b, &ec);
    for (size_t i = 0; i < n; i++) {
        uint8_t sum[RECORD_SUM_BYTES];
        struct slice key = slice_of(changes[i].key, changes[i].key_len);
        record_sum_encode(sum, key, buf_slice(changes[i].kv));
        if (e == OK) {
            e = b->ops->put(b, BUCKET_KEY, key, buf_slice(changes[i].kv), slice_of(sum, sizeof(sum)), false, &ec);
        }
        buf_unref(&changes[i].kv);
    }
    if (e == OK) {
        e = b->ops->commit(b, &ec);
    }
    b->ops->close(&b);
    if (e != OK) {
        (void)fprintf(stderr, "%s\n", ec.text);
        return 2;
    }
    return n > 0 ? 0 : 1;
}
