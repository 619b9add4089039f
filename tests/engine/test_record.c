/* test_record.c - revision keys, KeyValue bytes as protobuf-c makes them, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/proto/kv.pb-c.h"
#include "base/assert.h"
#include "engine/record.h"

#define REV(m, s) ((struct rev){(m), (s)})

static void keys_have_etcds_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct rev rev;
        bool tombstone;
        const char *bytes;
        size_t len;
    } rows[] = {
        {"first write", {2, 0}, false, "\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0", 17},
        {"deletion", {0x0102, 3}, true, "\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t", 18},
        {"largest",
         {INT64_MAX, INT64_MAX},
         false,
         "\x7f\xff\xff\xff\xff\xff\xff\xff_\x7f\xff\xff\xff\xff\xff\xff\xff",
         17},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t key[RECORD_KEY_BYTES_MAX];
        size_t len = record_key_encode(key, rows[i].rev, rows[i].tombstone);
        print_message("%s\n", rows[i].name);
        assert_int_equal(len, rows[i].len);
        assert_memory_equal(key, rows[i].bytes, len);
        struct rev r = {0};
        bool tombstone = !rows[i].tombstone;
        assert_int_equal(record_key_decode(slice_of(key, len), &r, &tombstone), OK);
        assert_int_equal(rev_cmp(r, rows[i].rev), 0);
        assert_int_equal(tombstone, rows[i].tombstone);
    }
}

static void bad_keys_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
    } rows[] = {
        {"empty", "", 0},
        {"short", "\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0", 16},
        {"long", "\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0tt", 19},
        {"wrong separator", "\0\0\0\0\0\0\0\x02-\0\0\0\0\0\0\0\0", 17},
        {"wrong mark", "\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0u", 18},
        {"negative main", "\x80\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0", 17},
        {"negative sub", "\0\0\0\0\0\0\0\x02_\xff\0\0\0\0\0\0\0", 17},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct rev r = {7, 7};
        bool tombstone = false;
        print_message("%s\n", rows[i].name);
        assert_int_equal(record_key_decode(slice_of(rows[i].bytes, rows[i].len), &r, &tombstone),
                         ERR_CORRUPT);
        assert_int_equal(r.main, 7);
    }
}

static void revisions_are_ordered_by_main_then_sub(void **state)
{
    (void)state;
    assert_true(rev_cmp(REV(1, 9), REV(2, 0)) < 0);
    assert_true(rev_cmp(REV(2, 1), REV(2, 0)) > 0);
    assert_true(rev_cmp(REV(2, 1), REV(2, 1)) == 0);
    uint8_t a[RECORD_KEY_BYTES_MAX];
    uint8_t b[RECORD_KEY_BYTES_MAX];
    static const struct rev rising[] = {{0, 0},   {1, 255}, {1, 256},
                                        {255, 0}, {256, 0}, {1LL << 40, 5}};
    for (size_t i = 1; i < ARRAY_LEN(rising); i++) {
        size_t a_len = record_key_encode(a, rising[i - 1], true);
        size_t b_len = record_key_encode(b, rising[i], false);
        assert_true(slice_cmp(slice_of(a, a_len), slice_of(b, b_len)) < 0);
    }
}

static const struct kv_row {
    const char *name;
    const char *key, *value;
    int64_t create, mod, version, lease;
} kv_rows[] = {
    {"all fields", "foo", "bar", 2, 300, 70000, 0x7587fe1},
    {"no value, no lease", "k", "", 5, 5, 1, 0},
    {"tombstone", "gone", "", 0, 0, 0, 0},
    {"negative numbers take ten bytes", "n", "v", -1, INT64_MIN, -2, -3},
    {"largest", "n", "v", INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX},
};

/* The judge is protobuf-c with the published message. */
static void encoding_equals_protobufs(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kv_rows); i++) {
        const struct kv_row *r = &kv_rows[i];
        print_message("%s\n", r->name);
        struct kv_view kv = {slice_str(r->key), r->create,           r->mod,
                             r->version,        slice_str(r->value), r->lease};
        struct buf *ours = kv_encode_buf(&kv);
        Mvccpb__KeyValue m = MVCCPB__KEY_VALUE__INIT;
        m.key = (ProtobufCBinaryData){kv.key.len, (uint8_t *)(uintptr_t)kv.key.data};
        m.value = (ProtobufCBinaryData){kv.value.len, (uint8_t *)(uintptr_t)kv.value.data};
        m.create_revision = r->create;
        m.mod_revision = r->mod;
        m.version = r->version;
        m.lease = r->lease;
        uint8_t theirs[256];
        size_t len = mvccpb__key_value__pack(&m, theirs);
        assert_int_equal(ours->len, len);
        assert_memory_equal(ours->data, theirs, len);
        struct kv_view back;
        assert_int_equal(kv_decode(buf_slice(ours), &back), OK);
        assert_true(slice_eq(back.key, kv.key));
        assert_true(slice_eq(back.value, kv.value));
        assert_int_equal(back.create_revision, r->create);
        assert_int_equal(back.mod_revision, r->mod);
        assert_int_equal(back.version, r->version);
        assert_int_equal(back.lease, r->lease);
        buf_unref(&ours);
    }
}

static void damaged_key_values_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *bytes;
        size_t len;
        enum err err;
    } rows[] = {
        {"nothing at all", "", 0, ERR_CORRUPT},
        {"zeroes", "\0\0\0\0", 4, ERR_CORRUPT},
        {"no key", "\x10\x05", 2, ERR_CORRUPT},
        {"key as number", "\x08\x05", 2, ERR_CORRUPT},
        {"version as bytes", "\x0a\x01k\x22\x01z", 6, ERR_CORRUPT},
        {"key runs past the end", "\x0a\x05key", 5, ERR_CORRUPT},
        {"cut number", "\x0a\x01k\x10\x85", 5, ERR_CORRUPT},
        {"eleven-byte number", "\x0a\x01k\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 15,
         ERR_CORRUPT},
        {"an unknown field is skipped", "\x0a\x01k\x38\x05\x42\x02zz", 9, OK},
        {"the last of a field counts", "\x0a\x01j\x0a\x01k", 6, OK},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        print_message("%s\n", rows[i].name);
        struct kv_view kv;
        assert_int_equal(kv_decode(slice_of(rows[i].bytes, rows[i].len), &kv), rows[i].err);
        if (rows[i].err == OK) {
            assert_true(slice_eq(kv.key, slice_str("k")));
        }
    }
}

static void every_flipped_bit_breaks_the_checksum(void **state)
{
    (void)state;
    struct kv_view kv = {slice_str("key"), 2, 3, 2, slice_str("some value"), 9};
    uint8_t key[RECORD_KEY_BYTES_MAX];
    size_t key_len = record_key_encode(key, REV(3, 1), false);
    uint8_t stored[128];
    uint8_t *end = kv_encode(stored, &kv);
    record_sum_encode(end, slice_of(key, key_len), slice_of(stored, (size_t)(end - stored)));
    size_t len = (size_t)(end - stored) + RECORD_SUM_BYTES;
    struct slice body;
    assert_int_equal(record_check(slice_of(key, key_len), slice_of(stored, len), &body), OK);
    assert_int_equal(body.len, kv_encoded_size(&kv));
    for (size_t bit = 0; bit < len * 8; bit++) {
        stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(record_check(slice_of(key, key_len), slice_of(stored, len), &body),
                         ERR_CORRUPT);
        stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t bit = 0; bit < key_len * 8; bit++) {
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(record_check(slice_of(key, key_len), slice_of(stored, len), &body),
                         ERR_CORRUPT);
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t n = 0; n < len; n++) {
        assert_int_equal(record_check(slice_of(key, key_len), slice_of(stored, n), &body),
                         ERR_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_have_etcds_bytes),
        cmocka_unit_test(bad_keys_are_refused),
        cmocka_unit_test(revisions_are_ordered_by_main_then_sub),
        cmocka_unit_test(encoding_equals_protobufs),
        cmocka_unit_test(damaged_key_values_are_refused),
        cmocka_unit_test(every_flipped_bit_breaks_the_checksum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
