/* test_bolt.c - bbolt files: bytes as bbolt has them, write and read agree, damage is found. */
#include "bolt_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/bolt_internal.h"

/* --- fixed bytes ------------------------------------------------------------------------------ */

struct pair {
    size_t bucket;
    struct slice key;
    struct slice value;
};
#define BYTES(s)                                                                                   \
    {                                                                                              \
        (const uint8_t *)(s), sizeof(s) - 1                                                        \
    }

/* etcd's store after one put of foo=bar. */
static const struct pair small_pairs[] = {
    {0, BYTES("\0\0\0\0\0\0\0\2_\0\0\0\0\0\0\0\0"), BYTES("\x0a\3foo\x10\2\x18\2\x20\1\x2a\3bar")},
    {1, BYTES("consistent_index"), BYTES("\0\0\0\0\0\0\0\5")},
    {1, BYTES("term"), BYTES("\0\0\0\0\0\0\0\2")},
};

static bool small_pair(void *arg, size_t bucket, uint64_t i, struct slice *key, struct slice *value)
{
    (void)arg;
    for (size_t k = 0; k < ARRAY_LEN(small_pairs); k++) {
        if (small_pairs[k].bucket == bucket && i-- == 0) {
            *key = small_pairs[k].key;
            *value = small_pairs[k].value;
            return true;
        }
    }
    return false;
}

static const char *const small_names[] = {"key", "meta", NULL};
static const struct bolt_plan small = {small_names, small_pair, NULL};

static const char small_meta[] = "\0\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0"
                                 "\xed\xda\x0c\xed\2\0\0\0\0\x10\0\0\0\0\0\0"
                                 "\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\xff\xff\xff\xff\xff\xff\xff\xff"
                                 "\3\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
                                 "\x40\x67\xaf\x04\xa0\xb1\x68\xe3";
static const char small_root[] = "\2\0\0\0\0\0\0\0\2\0\2\0\0\0\0\0"
                                 "\1\0\0\0\x20\0\0\0\3\0\0\0\x51\0\0\0"
                                 "\1\0\0\0\x64\0\0\0\4\0\0\0\x64\0\0\0"
                                 "key"
                                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\0\0\2\0\1\0\0\0\0\0"
                                 "\0\0\0\0\x10\0\0\0\x11\0\0\0\x10\0\0\0"
                                 "\0\0\0\0\0\0\0\2_\0\0\0\0\0\0\0\0"
                                 "\x0a\3foo\x10\2\x18\2\x20\1\x2a\3bar"
                                 "meta"
                                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\0\0\2\0\2\0\0\0\0\0"
                                 "\0\0\0\0\x20\0\0\0\x10\0\0\0\x08\0\0\0"
                                 "\0\0\0\0\x28\0\0\0\4\0\0\0\x08\0\0\0"
                                 "consistent_index\0\0\0\0\0\0\0\5term\0\0\0\0\0\0\0\2";

static void a_small_store_is_what_bbolt_makes(void **state)
{
    (void)state;
    struct bytes file = {0};
    bolt_write_plan(&small, &file);
    assert_int_equal(file.len, 12288);
    assert_memory_equal(file.data, small_meta, sizeof(small_meta) - 1);
    assert_memory_equal(file.data + 8192, small_root, sizeof(small_root) - 1);
    /* Of a file whose SHA-256 is c94eb6d2cb383668dd99291dc5f8af81ba88194cfd42f1bef0acafc3f05b73e2.
     */
    assert_int_equal(crc32c(0, file.data, file.len), 0x1ae02a74);
    bolt_expect_plan(&file, &small);
    bytes_deinit(&file);
}

static void sums_of_metas(void **state)
{
    (void)state;
    static const struct {
        uint64_t txid;
        uint8_t sum[8];
    } rows[] = {{0, {0xee, 0xfd, 0x89, 0x46, 0x11, 0x6e, 0x51, 0x07}},
                {1, {0x0f, 0x48, 0x79, 0x51, 0x1a, 0x35, 0x4c, 0x26}}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t m[BOLT_META_BYTES] = {0};
        le_put(m + BOLT_META_MAGIC, BOLT_MAGIC, 4);
        le_put(m + BOLT_META_VERSION, BOLT_VERSION, 4);
        le_put(m + BOLT_META_PAGE_BYTES, 4096, 4);
        le_put(m + BOLT_META_ROOT, 3, 8);
        le_put(m + BOLT_META_FREELIST, 2, 8);
        le_put(m + BOLT_META_PAGES, 4, 8);
        le_put(m + BOLT_META_TXID, rows[i].txid, 8);
        assert_int_equal(bolt_meta_sum(m), le_get(rows[i].sum, 8));
    }
}

/* --- many shapes ------------------------------------------------------------------------------ */

/* Keys are the number in `key_bytes` bytes at least, filled up in front or behind; sizes vary with
 * the seed up to the given ones. */
struct shape {
    const char *name;
    uint64_t n[4]; /* pairs of each bucket */
    size_t key_bytes;
    size_t value_bytes;
    bool vary;
    bool long_in_front; /* keys differ only at their end */
};

struct shaper {
    const struct shape *shape;
    uint8_t *key;
    uint8_t *value;
};

static uint64_t mix(uint64_t a)
{
    return hash64(&a, sizeof(a));
}

static bool shaped_pair(void *arg, size_t bucket, uint64_t i, struct slice *key,
                        struct slice *value)
{
    const struct shaper *sh = arg;
    const struct shape *s = sh->shape;
    if (i >= s->n[bucket]) {
        return false;
    }
    uint64_t r = mix(i * 4 + bucket);
    size_t key_len = s->key_bytes;
    size_t value_len = s->value_bytes;
    if (s->vary) {
        key_len = 8 + (size_t)(r % (s->key_bytes - 7));
        value_len = (size_t)((r >> 32) % (s->value_bytes + 1));
        value_len = r % 7 == 0 ? value_len : value_len / 50;
    }
    if (s->long_in_front) {
        key_len = s->key_bytes;
    }
    memset(sh->key, 'k', key_len);
    uint8_t *number = s->long_in_front ? sh->key + key_len - 8 : sh->key;
    for (size_t b = 0; b < 8; b++) {
        number[b] = (uint8_t)(i >> (56 - 8 * b));
    }
    memset(sh->value, (int)(r & 0xff), value_len);
    *key = slice_of(sh->key, key_len);
    *value = slice_of(sh->value, value_len);
    return true;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {"empty buckets", {0, 0, 0, 0}, 8, 0, false, false},
        {"one pair", {1, 0, 0, 0}, 8, 1, false, false},
        {"one pair in the last bucket", {0, 0, 0, 1}, 8, 10, false, false},
        {"an inline bucket as large as it gets", {1, 0, 0, 0}, 8, 1024 - 16 - 16 - 8, false, false},
        {"a bucket just too large for that", {1, 0, 0, 0}, 8, 1024 - 16 - 16 - 7, false, false},
        {"a leaf filled to its last byte", {4, 0, 0, 0}, 8, 1020 - 16 - 8, false, false},
        {"a pair as large as a page", {2, 1, 0, 0}, 8, 4096 - 16 - 16 - 8, false, false},
        {"a pair one byte larger than a page", {2, 1, 0, 0}, 8, 4096 - 16 - 16 - 7, false, false},
        {"values of a megabyte", {3, 0, 2, 0}, 17, 1u << 20, false, false},
        {"the longest keys", {40, 3, 0, 1}, 32768, 5, false, true},
        {"keys of a page", {300, 1, 0, 0}, 4096, 0, false, true},
        {"three keys to a branch", {700, 1, 0, 0}, 1300, 0, false, true},
        {"two leaves", {241, 0, 0, 0}, 8, 1, false, false},
        {"as etcd has them", {5000, 2, 3, 4}, 17, 300, true, false},
        {"all sizes", {3000, 500, 1000, 77}, 2000, 9000, true, false},
    };
    static const char *const names[] = {"a", "b", "cc", "d", NULL};
    struct bytes file = {0};
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct shaper sh = {&shapes[i], xalloc(shapes[i].key_bytes + 8),
                            xalloc(shapes[i].value_bytes + 1)};
        struct bolt_plan plan = {names, shaped_pair, &sh};
        print_message("%s\n", shapes[i].name);
        bolt_write_plan(&plan, &file);
        bolt_expect_plan(&file, &plan);
        bolt_expect_sound_trees(&file);
        free(sh.key);
        free(sh.value);
    }
    bytes_deinit(&file);
}

/* So many leaves that branches fill up in every possible way. */
static void every_number_of_pairs(void **state)
{
    (void)state;
    static const char *const names[] = {"a", NULL};
    struct bytes file = {0};
    for (uint64_t n = 0; n < 160; n++) {
        struct shape s = {"", {n, 0, 0, 0}, 700, 3000, false, true};
        struct shaper sh = {&s, xalloc(708), xalloc(3001)};
        struct bolt_plan plan = {names, shaped_pair, &sh};
        bolt_write_plan(&plan, &file);
        bolt_expect_plan(&file, &plan);
        bolt_expect_sound_trees(&file);
        free(sh.key);
        free(sh.value);
    }
    bytes_deinit(&file);
}

static void a_million_pairs(void **state)
{
    (void)state;
    static const char *const names[] = {"a", NULL};
    struct shape s = {"", {1000000, 0, 0, 0}, 17, 12, false, false};
    struct shaper sh = {&s, xalloc(32), xalloc(32)};
    struct bolt_plan plan = {names, shaped_pair, &sh};
    struct bytes file = {0};
    bolt_write_plan(&plan, &file);
    bolt_expect_plan(&file, &plan);
    bolt_expect_sound_trees(&file);
    bytes_deinit(&file);
    free(sh.key);
    free(sh.value);
}

static bool no_pair(void *arg, size_t bucket, uint64_t i, struct slice *key, struct slice *value)
{
    (void)arg;
    (void)bucket;
    (void)i;
    (void)key;
    (void)value;
    return false;
}

static void files_of_buckets(void **state)
{
    (void)state;
    static const char *const none[] = {NULL};
    char texts[2000][8];
    const char *names[2001];
    for (size_t i = 0; i < 2000; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "%06zu", i);
        names[i] = texts[i];
    }
    names[2000] = NULL;
    struct bytes file = {0};
    const struct bolt_plan plans[] = {{none, no_pair, NULL}, {names, no_pair, NULL}};
    for (size_t i = 0; i < ARRAY_LEN(plans); i++) {
        bolt_write_plan(&plans[i], &file);
        bolt_expect_plan(&file, &plans[i]);
        bolt_expect_sound_trees(&file);
    }
    bytes_deinit(&file);
}

/* --- what the writer refuses ------------------------------------------------------------------ */

static enum err full(void *arg, struct slice bytes)
{
    size_t *left = arg;
    if (bytes.len > *left) {
        return ERR_NO_DISK;
    }
    *left -= bytes.len;
    return OK;
}

static void the_writer_refuses(void **state)
{
    (void)state;
    struct bolt_layout layout;
    static const uint8_t long_key[BOLT_KEY_BYTES_MAX + 1];
    struct slice none = {NULL, 0};
    struct bolt_writer *w = bolt_measure_create();
    assert_int_equal(bolt_bucket(w, none), ERR_LIMIT);
    assert_int_equal(bolt_bucket(w, slice_str("b")), OK);
    assert_int_equal(bolt_put(w, none, none), ERR_LIMIT);
    assert_int_equal(bolt_put(w, slice_of(long_key, sizeof(long_key)), none), ERR_LIMIT);
    assert_int_equal(bolt_put(w, slice_str("k"), slice_of(NULL, BOLT_VALUE_BYTES_MAX + 1u)),
                     ERR_LIMIT);
    assert_int_equal(bolt_put(w, slice_str("k"), slice_of(NULL, BOLT_VALUE_BYTES_MAX)), OK);
    assert_int_equal(bolt_put(w, slice_str("k"), none), ERR_INVALID);
    assert_int_equal(bolt_put(w, slice_str("j"), none), ERR_INVALID);
    assert_int_equal(bolt_put(w, slice_str("k2"), none), OK);
    assert_int_equal(bolt_bucket(w, slice_str("b")), ERR_INVALID);
    bolt_writer_destroy(&w);
    /* More than was measured. */
    w = bolt_measure_create();
    assert_int_equal(bolt_bucket(w, slice_str("b")), OK);
    assert_int_equal(bolt_finish(w, &layout), OK);
    bolt_writer_destroy(&w);
    size_t left = SIZE_MAX;
    w = bolt_writer_create(&layout, full, &left);
    assert_int_equal(bolt_bucket(w, slice_str("b")), OK);
    assert_int_equal(bolt_put(w, slice_str("k"), slice_of(long_key, 5000)), OK);
    assert_int_equal(bolt_finish(w, &layout), ERR_INVALID);
    bolt_writer_destroy(&w);
    /* The callback's error comes back, wherever it is. */
    for (left = 0; left < 4 * BOLT_PAGE_BYTES; left += 1000) {
        size_t room = left;
        w = bolt_writer_create(&layout, full, &room);
        enum err e = bolt_bucket(w, slice_str("b"));
        if (e == OK) {
            e = bolt_put(w, slice_str("k"), slice_of(long_key, 5000));
        }
        if (e == OK) {
            e = bolt_finish(w, &layout);
        }
        assert_int_equal(e, ERR_NO_DISK);
        bolt_writer_destroy(&w);
    }
}

/* --- damage ----------------------------------------------------------------------------------- */

/* Every byte of the files' pages is changed in some ways: the reader answers, and never crashes. */
static void damage_is_survived(void **state)
{
    (void)state;
    static const struct shape s = {"", {60, 1, 3, 0}, 300, 500, true, false};
    static const char *const names[] = {"a", "b", "cc", "d", NULL};
    static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x12};
    struct shaper sh = {&s, xalloc(308), xalloc(501)};
    struct bolt_plan plan = {names, shaped_pair, &sh};
    struct bytes file = {0};
    size_t n_found = 0;
    bolt_write_plan(&plan, &file);
    struct bolt_source src = bolt_source_of(&file);
    for (size_t at = 0; at < file.len; at += at % 4096 < 600 ? 1 : 61) {
        for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
            struct bolt_info info;
            struct err_ctx ec = {{0}};
            file.data[at] ^= masks[m];
            enum err e = bolt_check(&src, &info, &ec);
            assert_true(e == OK || e == ERR_CORRUPT || e == ERR_UNSUPPORTED);
            n_found += e != OK;
            file.data[at] ^= masks[m];
        }
    }
    assert_true(n_found > 1000);
    for (size_t len = 0; len < file.len; len += 333) {
        struct bolt_info info;
        src.size = len;
        assert_int_not_equal(bolt_check(&src, &info, NULL), OK);
    }
    bytes_deinit(&file);
    free(sh.key);
    free(sh.value);
}

static void put_meta(struct bytes *file, uint64_t id, int at, uint64_t v, size_t n)
{
    uint8_t *m = file->data + id * BOLT_PAGE_BYTES + BOLT_HEAD;
    le_put(m + at, v, n);
    le_put(m + BOLT_META_SUM, bolt_meta_sum(m), 8);
}

/* One lie each about the small store, with sound sums. `page` below 2: a place in the meta. */
static void lies_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t at; /* in the root page */
        uint64_t value;
        size_t n;
        const char *text;
    } rows[] = {
        {"another page's id", 0, 7, 8, "self identifies as 7"},
        {"a freelist for a root", 8, 0x10, 2, "invalid type"},
        {"leaf and branch at once", 8, 3, 2, "invalid type"},
        {"a branch whose children are key lengths", 8, 1, 2, "out of bounds"},
        {"more elements than fit", 10, 300, 2, "more elements than there is room for"},
        {"pages behind the end", 12, 1, 4, "overflow out of bounds"},
        {"pages far behind the end", 12, UINT32_MAX, 4, "overflow out of bounds"},
        {"a pair among the buckets", 16, 0, 4, "a pair among the buckets"},
        {"an unknown kind", 16, 2, 4, "unknown kind"},
        {"a key within the heads", 20, 31, 4, "out of bounds"},
        {"a key behind the page", 20, 0xffffff00, 4, "out of bounds"},
        {"no key", 24, 0, 4, "impossible length"},
        {"a value behind the page", 28, 5000, 4, "out of bounds"},
        {"a bucket of no bytes", 28, 0, 4, "without a head"},
        {"a bucket that is cut", 28, 20, 4, "is cut"},
        {"names out of order", 48, 'z', 1, "is not above"},
        {"a bucket whose root is the page above", 51, 2, 8, "multiple references"},
        {"a bucket whose root is a meta", 51, 1, 8, "out of bounds"},
        {"a bucket whose root is nowhere", 51, UINT64_MAX, 8, "out of bounds"},
        {"an inline page with an id", 67, 9, 8, "is no leaf"},
        {"an inline branch", 75, 1, 2, "is no leaf"},
        {"an inline page with more elements", 77, 9, 2, "more elements"},
        {"an inline pair behind its bucket", 95, 17, 4, "out of bounds"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes file = {0};
        struct bolt_info info;
        struct err_ctx ec = {{0}};
        bolt_write_plan(&small, &file);
        le_put(file.data + 2 * BOLT_PAGE_BYTES + rows[i].at, rows[i].value, rows[i].n);
        struct bolt_source src = bolt_source_of(&file);
        print_message("%s: ", rows[i].name);
        assert_int_equal(bolt_check(&src, &info, &ec), ERR_CORRUPT);
        print_message("%s\n", ec.text);
        assert_non_null(strstr(ec.text, rows[i].text));
        bytes_deinit(&file);
    }
}

static void the_newest_valid_meta_counts(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t page; /* whose meta is changed */
        int at;
        uint64_t value;
        size_t n;
        bool sum; /* put it right */
        enum err err;
        uint64_t txid;
    } rows[] = {
        {"as written", 0, BOLT_META_TXID, 2, 8, true, OK, 2},
        {"the second is newer", 1, BOLT_META_TXID, 9, 8, true, OK, 9},
        {"the second is newer and points nowhere", 1, BOLT_META_ROOT, 3, 8, true, OK, 2},
        {"the first has a wrong sum", 0, BOLT_META_TXID, 77, 8, false, OK, 1},
        {"the first is another version", 0, BOLT_META_VERSION, 3, 4, true, OK, 1},
        {"the first has pages of 5000 bytes", 0, BOLT_META_PAGE_BYTES, 5000, 4, true, OK, 1},
        {"the first has no pages", 0, BOLT_META_PAGES, 2, 8, true, OK, 1},
        {"the first has more pages than there are", 0, BOLT_META_PAGES, 4, 8, true, OK, 1},
        {"the first has endless pages", 0, BOLT_META_PAGES, UINT64_MAX, 8, true, OK, 1},
        {"the first is big-endian", 0, BOLT_META_MAGIC, BOLT_MAGIC_SWAPPED, 4, true,
         ERR_UNSUPPORTED, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes file = {0};
        struct bolt_info info;
        bolt_write_plan(&small, &file);
        if (rows[i].sum) {
            put_meta(&file, rows[i].page, rows[i].at, rows[i].value, rows[i].n);
        } else {
            le_put(file.data + rows[i].page * BOLT_PAGE_BYTES + BOLT_HEAD + rows[i].at,
                   rows[i].value, rows[i].n);
        }
        struct bolt_source src = bolt_source_of(&file);
        print_message("%s\n", rows[i].name);
        assert_int_equal(bolt_check(&src, &info, NULL), rows[i].err);
        if (rows[i].err == OK) {
            assert_int_equal(info.txid, rows[i].txid);
        }
        bytes_deinit(&file);
    }
}

static void a_trailer_is_no_part_of_the_file(void **state)
{
    (void)state;
    static const uint8_t trailer[BOLT_TRAILER_BYTES];
    struct bytes file = {0};
    struct bolt_info info;
    bolt_write_plan(&small, &file);
    bytes_add(&file, trailer, sizeof(trailer));
    struct bolt_source src = bolt_source_of(&file);
    assert_int_equal(bolt_check(&src, &info, NULL), OK);
    assert_true(info.has_trailer);
    assert_int_equal(info.file_bytes, 12288);
    bytes_deinit(&file);
}

/* The small store with three more pages: a freelist at 3, and 4 and 5. */
static void freelists(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t n;
        uint64_t ids[3];
        const char *text; /* NULL: sound */
    } rows[] = {
        {"whole", 2, {4, 5, 0}, NULL},
        {"a page missing", 1, {4, 0, 0}, "page 5: unreachable unfreed"},
        {"a page twice", 3, {4, 5, 4}, "page 4: already freed"},
        {"a page in use", 3, {2, 4, 5}, "page 2: reachable freed"},
        {"a page that is not there", 3, {4, 5, 6}, "page 6: out of bounds"},
        {"the freelist itself", 3, {3, 4, 5}, "page 3: reachable freed"},
        {"longer than its page", 600, {4, 5, 0}, "longer than its pages"},
        {"a long form that is longer still",
         UINT16_MAX,
         {UINT64_MAX, 4, 5},
         "longer than its pages"},
        {"a long form", UINT16_MAX, {2, 4, 5}, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes file = {0};
        struct bolt_info info;
        struct err_ctx ec = {{0}};
        static const uint8_t more[3 * BOLT_PAGE_BYTES];
        bolt_write_plan(&small, &file);
        bytes_add(&file, more, sizeof(more));
        put_meta(&file, 0, BOLT_META_PAGES, 6, 8);
        put_meta(&file, 0, BOLT_META_FREELIST, 3, 8);
        uint8_t *p = file.data + 3 * BOLT_PAGE_BYTES;
        le_put(p + BOLT_AT_ID, 3, 8);
        le_put(p + BOLT_AT_KIND, BOLT_PAGE_FREELIST, 2);
        le_put(p + BOLT_AT_COUNT, rows[i].n, 2);
        for (size_t k = 0; k < 3; k++) {
            le_put(p + BOLT_HEAD + 8 * k, rows[i].ids[k], 8);
        }
        struct bolt_source src = bolt_source_of(&file);
        enum err e = bolt_check(&src, &info, &ec);
        print_message("%s: %s\n", rows[i].name, ec.text);
        assert_int_equal(e, rows[i].text == NULL ? OK : ERR_CORRUPT);
        assert_true(rows[i].text == NULL || strstr(ec.text, rows[i].text) != NULL);
        bytes_deinit(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_store_is_what_bbolt_makes),
        cmocka_unit_test(sums_of_metas),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(every_number_of_pairs),
        cmocka_unit_test(a_million_pairs),
        cmocka_unit_test(files_of_buckets),
        cmocka_unit_test(the_writer_refuses),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(lies_are_found),
        cmocka_unit_test(the_newest_valid_meta_counts),
        cmocka_unit_test(a_trailer_is_no_part_of_the_file),
        cmocka_unit_test(freelists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
