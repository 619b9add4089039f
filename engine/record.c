/* record.c - revision keys, KeyValues and their checksum.
 *
 * Backend key   0..7 main, big-endian; 8 '_'; 9..16 sub, big-endian; 17 't' when it is a tombstone.
 * Stored value  the encoded KeyValue, then 8 bytes of checksum, big-endian.
 * Checksum      hash64 of (backend key, hash64 of the KeyValue as 8 bytes big-endian): one pass
 * over the long part, and a record that landed under another key does not verify.
 *
 * Every KeyValue field number is below 16, so a tag is one byte.
 */
#include "engine/record.h"

#include "base/assert.h"
#include "base/hash.h"
#include "base/wire.h"

enum kv_field { KV_KEY = 1, KV_CREATE = 2, KV_MOD = 3, KV_VERSION = 4, KV_VALUE = 5, KV_LEASE = 6 };

#define SEPARATOR ((uint8_t)'_')
#define TOMBSTONE ((uint8_t)'t')

static uint8_t *put_be64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (56u - 8u * i));
    }
    return p + 8;
}

static uint64_t take_be64(const uint8_t *p)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

size_t record_key_encode(uint8_t out[RECORD_KEY_BYTES_MAX], struct rev r, bool tombstone)
{
    ASSERT(r.main >= 0);
    ASSERT(r.sub >= 0);
    uint8_t *p = put_be64(out, (uint64_t)r.main);
    *p++ = SEPARATOR;
    p = put_be64(p, (uint64_t)r.sub);
    if (tombstone) {
        *p++ = TOMBSTONE;
    }
    return (size_t)(p - out);
}

enum err record_key_decode(struct slice key, struct rev *r, bool *tombstone)
{
    bool marked = key.len == RECORD_KEY_BYTES_MAX;
    if ((!marked && key.len != RECORD_KEY_BYTES) || key.data[8] != SEPARATOR ||
        (marked && key.data[RECORD_KEY_BYTES] != TOMBSTONE)) {
        return ERR_CORRUPT;
    }
    uint64_t revision = take_be64(key.data);
    uint64_t sub = take_be64(key.data + 9);
    if (revision > INT64_MAX || sub > INT64_MAX) {
        return ERR_CORRUPT;
    }
    *r = (struct rev){(int64_t)revision, (int64_t)sub};
    *tombstone = marked;
    return OK;
}

static size_t int_size(int64_t v)
{
    return v == 0 ? 0 : 1 + wire_varint_size((uint64_t)v);
}

static size_t bytes_size(struct slice s)
{
    return s.len == 0 ? 0 : 1 + wire_varint_size(s.len) + s.len;
}

size_t kv_encoded_size(const struct kv_view *kv)
{
    return bytes_size(kv->key) + int_size(kv->create_revision) + int_size(kv->mod_revision) +
           int_size(kv->version) + bytes_size(kv->value) + int_size(kv->lease);
}

static uint8_t *put_int(uint8_t *p, enum kv_field field, int64_t v)
{
    if (v == 0) {
        return p;
    }
    return wire_put_varint(wire_put_tag(p, (uint32_t)field, WIRE_VARINT), (uint64_t)v);
}

static uint8_t *put_bytes(uint8_t *p, enum kv_field field, struct slice s)
{
    if (s.len == 0) {
        return p;
    }
    p = wire_put_varint(wire_put_tag(p, (uint32_t)field, WIRE_LEN), s.len);
    memcpy(p, s.data, s.len);
    return p + s.len;
}

uint8_t *kv_encode(uint8_t *p, const struct kv_view *kv)
{
    p = put_bytes(p, KV_KEY, kv->key);
    p = put_int(p, KV_CREATE, kv->create_revision);
    p = put_int(p, KV_MOD, kv->mod_revision);
    p = put_int(p, KV_VERSION, kv->version);
    p = put_bytes(p, KV_VALUE, kv->value);
    return put_int(p, KV_LEASE, kv->lease);
}

struct buf *kv_encode_buf(const struct kv_view *kv)
{
    size_t len = kv_encoded_size(kv);
    struct buf *b = buf_create(len);
    uint8_t *end = kv_encode(b->data, kv);
    ASSERT((size_t)(end - b->data) == len);
    return b;
}

/* Take one field over into `kv`. Fields of numbers we do not know are skipped, as protobuf asks; a
 * known one of another type is damage. */
static enum err take_field(const struct wire_field *f, struct kv_view *kv)
{
    int64_t *number = NULL;
    struct slice *bytes = NULL;
    switch (f->number) {
    case KV_KEY:
        bytes = &kv->key;
        break;
    case KV_CREATE:
        number = &kv->create_revision;
        break;
    case KV_MOD:
        number = &kv->mod_revision;
        break;
    case KV_VERSION:
        number = &kv->version;
        break;
    case KV_VALUE:
        bytes = &kv->value;
        break;
    case KV_LEASE:
        number = &kv->lease;
        break;
    default: /* a number from outside, not our enum */
        return OK;
    }
    if (f->type != (bytes != NULL ? WIRE_LEN : WIRE_VARINT)) {
        return ERR_CORRUPT;
    }
    if (bytes != NULL) {
        *bytes = f->bytes;
    } else {
        *number = (int64_t)f->value;
    }
    return OK;
}

enum err kv_decode(struct slice encoded, struct kv_view *out)
{
    struct kv_view kv = {0};
    for (;;) {
        struct wire_field f;
        enum err e = wire_next(&encoded, &f);
        if (e == ERR_END) {
            break;
        }
        if (e != OK || take_field(&f, &kv) != OK) {
            return ERR_CORRUPT;
        }
    }
    /* No key is ever empty, and zeroed bytes must not pass for a KeyValue. */
    if (kv.key.len == 0) {
        return ERR_CORRUPT;
    }
    *out = kv;
    return OK;
}

enum err record_view(struct slice kv, bool tombstone, struct kv_view *out)
{
    if (kv.len > 0 || tombstone) {
        return kv_decode(kv, out);
    }
    *out = (struct kv_view){.key = kv};
    return OK;
}

uint64_t record_sum(struct slice record_key, struct slice kv)
{
    uint8_t head[RECORD_KEY_BYTES_MAX + 8];
    ASSERT(record_key.len <= RECORD_KEY_BYTES_MAX);
    memcpy(head, record_key.data, record_key.len);
    uint8_t *end = put_be64(head + record_key.len, hash64(kv.data, kv.len));
    return hash64(head, (size_t)(end - head));
}

void record_sum_encode(uint8_t out[RECORD_SUM_BYTES], struct slice record_key, struct slice kv)
{
    (void)put_be64(out, record_sum(record_key, kv));
}

enum err record_check(struct slice record_key, struct slice stored, struct slice *kv)
{
    if (stored.len < RECORD_SUM_BYTES || record_key.len > RECORD_KEY_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    struct slice body = slice_of(stored.data, stored.len - RECORD_SUM_BYTES);
    if (record_sum(record_key, body) != take_be64(stored.data + body.len)) {
        return ERR_CORRUPT;
    }
    *kv = body;
    return OK;
}
