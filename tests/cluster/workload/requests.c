/* requests.c - etcd's messages by hand, as far as the clients here need them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/wire.h"
#include "tests/cluster/workload/workload.h"

static const char prefix[] = "/cluster/k/";
static const char prefix_end[] = "/cluster/k0"; /* '0' follows '/' */

void key_text(uint32_t key, char out[64])
{
    (void)snprintf(out, 64, "%s%" PRIu32, prefix, key);
}

uint32_t key_number(struct slice text)
{
    char digits[32] = {0};
    size_t skip = sizeof(prefix) - 1;
    if (text.len <= skip || text.len - skip >= sizeof(digits)) {
        return UINT32_MAX;
    }
    memcpy(digits, text.data + skip, text.len - skip);
    return (uint32_t)strtoul(digits, NULL, 10);
}

void encode_put(struct bytes *b, uint32_t key, uint64_t value, unsigned value_bytes, int64_t lease)
{
    char text[64];
    key_text(key, text);
    wire_add_bytes(b, 1, slice_str(text));
    struct bytes v = {0};
    bytes_printf(&v, "%" PRIu64, value);
    if (v.len < value_bytes) {
        size_t pad = value_bytes - v.len;
        memset(bytes_reserve(&v, pad), ' ', pad);
        v.len += pad;
    }
    wire_add_bytes(b, 2, bytes_slice(&v));
    bytes_deinit(&v);
    wire_add_int(b, 3, lease);
}

void encode_range(struct bytes *b, uint32_t key, bool serializable)
{
    char text[64];
    key_text(key, text);
    wire_add_bytes(b, 1, slice_str(text));
    wire_add_bool(b, 7, serializable);
}

void encode_delete(struct bytes *b, uint32_t key)
{
    char text[64];
    key_text(key, text);
    wire_add_bytes(b, 1, slice_str(text));
}

/* One operation of a txn branch; `request` is the oneof's field. */
static void add_branch(struct bytes *txn, uint32_t branch, uint32_t request, struct bytes *body)
{
    struct bytes op = {0};
    wire_add_message(&op, request, bytes_slice(body));
    wire_add_message(txn, branch, bytes_slice(&op));
    bytes_deinit(&op);
    bytes_reset(body);
}

void encode_cas(struct bytes *b, uint32_t key, int64_t mod, uint64_t value, unsigned value_bytes)
{
    char text[64];
    struct bytes part = {0};
    key_text(key, text);
    wire_add_uint(&part, 2, 2); /* MOD, EQUAL */
    wire_add_bytes(&part, 3, slice_str(text));
    wire_add_int(&part, 6, mod);
    wire_add_message(b, 1, bytes_slice(&part));
    bytes_reset(&part);
    encode_put(&part, key, value, value_bytes, 0);
    add_branch(b, 2, 2, &part);
    encode_range(&part, key, false);
    add_branch(b, 3, 1, &part);
    bytes_deinit(&part);
}

void encode_pair(struct bytes *b, uint32_t key, uint32_t key2, uint64_t value, unsigned value_bytes)
{
    struct bytes part = {0};
    encode_put(&part, key, value, value_bytes, 0);
    add_branch(b, 2, 2, &part);
    encode_put(&part, key2, value, value_bytes, 0);
    add_branch(b, 2, 2, &part);
    bytes_deinit(&part);
}

void encode_watch(struct bytes *b, int64_t start_rev)
{
    struct bytes create = {0};
    wire_add_bytes(&create, 1, slice_str(prefix));
    wire_add_bytes(&create, 2, slice_str(prefix_end));
    wire_add_int(&create, 3, start_rev);
    wire_add_message(b, 1, bytes_slice(&create));
    bytes_deinit(&create);
}

void encode_grant(struct bytes *b, int64_t ttl_s)
{
    wire_add_int(b, 1, ttl_s);
}

void encode_keepalive(struct bytes *b, int64_t id)
{
    wire_add_int(b, 1, id);
}

void decode_kv(struct slice kv, uint32_t *key, uint64_t *value, int64_t *mod)
{
    struct wire_field f;
    *value = 0;
    *mod = 0;
    *key = UINT32_MAX;
    while (wire_next(&kv, &f) == OK) {
        if (f.number == 1) {
            *key = key_number(f.bytes);
        } else if (f.number == 3) {
            *mod = (int64_t)f.value;
        } else if (f.number == 5) {
            char digits[32] = {0};
            memcpy(digits, f.bytes.data, f.bytes.len < 31 ? f.bytes.len : 31);
            *value = strtoull(digits, NULL, 10);
        }
    }
}

static void decode_header(struct slice header, struct reply *out)
{
    struct wire_field f;
    while (wire_next(&header, &f) == OK) {
        if (f.number == 3) {
            out->rev = (int64_t)f.value;
        }
    }
}

/* Range, put, delete, txn and lease replies have few fields, and the numbers do not collide where
 * it matters: 1 is the header, 2 a number (deleted, succeeded, lease id), a list of key values, or
 * in a txn 3 the list of replies. */
void decode_reply(struct slice message, struct reply *out)
{
    struct wire_field f;
    uint32_t key;
    *out = (struct reply){0};
    while (wire_next(&message, &f) == OK) {
        if (f.number == 1 && f.type == WIRE_LEN) {
            decode_header(f.bytes, out);
        } else if (f.number == 2 && f.type == WIRE_VARINT) {
            out->succeeded = f.value != 0;
            out->deleted = (int64_t)f.value;
            out->id = (int64_t)f.value;
        } else if (f.number == 2 && f.type == WIRE_LEN) {
            decode_kv(f.bytes, &key, &out->value, &out->mod);
        } else if (f.number == 3 && f.type == WIRE_VARINT) {
            out->ttl = (int64_t)f.value;
        } else if (f.number == 3 && f.type == WIRE_LEN) {
            struct slice op = f.bytes;
            struct wire_field one;
            while (wire_next(&op, &one) == OK) {
                struct slice range = one.bytes;
                struct wire_field kv;
                while (one.number == 1 && one.type == WIRE_LEN && wire_next(&range, &kv) == OK) {
                    if (kv.number == 2 && kv.type == WIRE_LEN) {
                        decode_kv(kv.bytes, &key, &out->value, &out->mod);
                    }
                }
            }
        }
    }
}
