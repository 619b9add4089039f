/* test_snapshot.c - what a snapshot holds, that it stays of one moment, and what ends it. */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "bolt_support.h"

/* Read it whole, `room` bytes at a time. */
static enum err drain(struct engine_snapshot *s, const struct snapshot_info *info, size_t room,
                      struct bytes *out)
{
    size_t n;
    do {
        uint8_t *dst = bytes_reserve(out, room);
        enum err e = engine_snapshot_read(s, dst, room, &n, NULL);
        if (e != OK) {
            return e;
        }
        assert_true(n <= room);
        out->len += n;
        assert_true(n == room || out->len == info->bytes);
    } while (n > 0);
    assert_int_equal(out->len, info->bytes);
    return OK;
}

static void take(struct engine *e, size_t room, struct bytes *out, struct snapshot_info *info)
{
    struct engine_snapshot *s = NULL;
    bytes_reset(out);
    assert_int_equal(engine_snapshot_open(e, &s, info, NULL), OK);
    assert_int_equal(drain(s, info, room, out), OK);
    engine_snapshot_close(&s);
    assert_null(s);
}

/* The row that a file has and the store does not. */
static bool is_version(enum bucket b, struct slice key)
{
    return b == BUCKET_META && slice_eq(key, slice_str("storageVersion"));
}

/* The file has exactly what the store has; returns HashKV of everything in it, by etcd's rule for a
 * store that was never compacted. */
static uint32_t expect_store(struct fixture *f, const struct bytes *file)
{
    const struct backend_ops *ops = f->backend->ops;
    struct bolt_source src = bolt_source_of(file);
    struct bolt_reader *r = NULL;
    struct bolt_info info;
    struct backend_read *read = NULL;
    uint32_t crc = crc32c(0, "key", 3);
    bool versioned = false;
    assert_int_equal(bolt_open(&src, &r, &info, NULL), OK);
    assert_int_equal(ops->read_begin(f->backend, &read, NULL), OK);
    for (int b = 0; b < BUCKET_PINTLE; b++) {
        struct slice name;
        struct slice key;
        struct slice value;
        struct slice want_key;
        struct slice want_value;
        struct backend_cursor *c = NULL;
        assert_int_equal(bolt_next_bucket(r, &name, NULL), OK);
        assert_true(slice_eq(name, slice_str(bucket_name((enum bucket)b))));
        assert_int_equal(ops->cursor_open(read, (enum bucket)b, (struct slice){0}, &c, NULL), OK);
        while (bolt_next(r, &key, &value, NULL) == OK) {
            if (is_version((enum bucket)b, key)) {
                assert_true(slice_eq(value, slice_str(ENGINE_STORAGE_VERSION)));
                versioned = true;
                continue;
            }
            assert_int_equal(ops->cursor_next(c, &want_key, &want_value), OK);
            if (b == BUCKET_KEY) {
                assert_int_equal(record_check(want_key, want_value, &want_value), OK);
                crc = crc32c(crc32c(crc, key.data, key.len), value.data, value.len);
            }
            assert_true(slice_eq(key, want_key));
            assert_true(slice_eq(value, want_value));
        }
        assert_int_equal(ops->cursor_next(c, &want_key, &want_value), ERR_END);
        ops->cursor_close(&c);
    }
    struct slice none;
    assert_int_equal(bolt_next_bucket(r, &none, NULL), ERR_END);
    assert_true(versioned);
    ops->read_end(&read);
    bolt_close(&r);
    assert_int_equal(bolt_check(&src, &info, NULL), OK);
    bolt_expect_sound_trees(file);
    return crc;
}

static void fill(struct fixture *f, int n)
{
    char key[32];
    char *large = xcalloc(1, 300001);
    memset(large, 'x', 300000);
    assert_int_equal(fixture_grant(f, 77 + n, 60), OK);
    for (int i = 0; i < n; i++) {
        (void)snprintf(key, sizeof(key), "key%d", i * 7 % 97);
        large[i % 3000] = '\0';
        fixture_put_full(f, key, large, i % 5 == 0 ? 77 + n : 0, false, false, false);
        large[i % 3000] = 'x';
        if (i % 11 == 0) {
            fixture_delete(f, key, "");
        }
    }
    fixture_put(f, "large", large);
    free(large);
}

static void a_snapshot_is_the_store(void **state)
{
    static const size_t rooms[] = {1, 4095, 4096, 32768, 1u << 20};
    struct fixture f;
    struct bytes file = {0};
    struct bytes again = {0};
    struct snapshot_info info;
    fixture_init(&f, *(enum fixture_kind *)*state);
    fixture_flush(&f);
    take(f.e, 1000, &file, &info);
    expect_store(&f, &file);
    fill(&f, 300);
    fixture_flush(&f);
    take(f.e, 32768, &file, &info);
    assert_int_equal(info.index, engine_applied_index(f.e));
    assert_int_equal(info.term, engine_applied_term(f.e));
    assert_int_equal(expect_store(&f, &file), fixture_hash_kv(&f, 0));
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
        take(f.e, rooms[i], &again, &info);
        assert_true(slice_eq(bytes_slice(&file), bytes_slice(&again)));
    }
    /* After a compaction its rows are there too. */
    assert_int_equal(fixture_compact(&f, 100), OK);
    fixture_settle(&f);
    take(f.e, 32768, &file, &info);
    expect_store(&f, &file);
    bytes_deinit(&file);
    bytes_deinit(&again);
    fixture_deinit(&f);
}

static void a_snapshot_is_of_one_moment(void **state)
{
    struct fixture f;
    struct bytes file = {0};
    struct bytes slow = {0};
    struct snapshot_info info;
    struct snapshot_info info_of_slow;
    struct engine_snapshot *s = NULL;
    fixture_init(&f, *(enum fixture_kind *)*state);
    fill(&f, 200);
    fixture_flush(&f);
    take(f.e, 32768, &file, &info);
    assert_int_equal(engine_snapshot_open(f.e, &s, &info_of_slow, NULL), OK);
    assert_int_equal(info_of_slow.bytes, info.bytes);
    assert_int_equal(info_of_slow.index, info.index);
    size_t n;
    assert_int_equal(engine_snapshot_read(s, bytes_reserve(&slow, 9000), 9000, &n, NULL), OK);
    slow.len += n;
    fill(&f, 100);
    assert_int_equal(fixture_compact(&f, engine_revision(f.e)), OK);
    fixture_settle(&f);
    assert_int_equal(engine_defrag(f.e, NULL), OK);
    fixture_put(&f, "more", "more");
    fixture_flush(&f);
    assert_int_equal(drain(s, &info_of_slow, 5000, &slow), OK);
    assert_true(slice_eq(bytes_slice(&file), bytes_slice(&slow)));
    engine_snapshot_close(&s);
    bytes_deinit(&file);
    bytes_deinit(&slow);
    fixture_deinit(&f);
}

static void put_row(struct fixture *f, enum bucket b, struct slice key, struct slice value)
{
    const struct backend_ops *ops = f->backend->ops;
    assert_int_equal(ops->begin(f->backend, NULL), OK);
    assert_int_equal(ops->put(f->backend, b, key, value, (struct slice){0}, false, NULL), OK);
    assert_int_equal(ops->commit(f->backend, NULL), OK);
}

static void damage_ends_it(void **state)
{
    struct fixture f;
    struct bytes file = {0};
    struct snapshot_info info;
    struct engine_snapshot *s = NULL;
    uint8_t key[RECORD_KEY_BYTES_MAX];
    fixture_init(&f, *(enum fixture_kind *)*state);
    fill(&f, 100);
    fixture_flush(&f);
    size_t len = record_key_encode(key, (struct rev){60, 0}, false);
    put_row(&f, BUCKET_KEY, slice_of(key, len), slice_str("wrong, and long enough"));
    assert_int_equal(engine_snapshot_open(f.e, &s, &info, NULL), OK);
    assert_int_equal(drain(s, &info, 4096, &file), ERR_CORRUPT);
    engine_snapshot_close(&s);
    put_row(&f, BUCKET_KEY, slice_of(key, len), slice_str("short"));
    assert_int_equal(engine_snapshot_open(f.e, &s, &info, NULL), ERR_CORRUPT);
    assert_null(s);
    bytes_deinit(&file);
    fixture_deinit(&f);
}

static void a_version_of_its_own_is_kept(void **state)
{
    struct fixture f;
    struct bytes file = {0};
    struct snapshot_info info;
    struct bolt_reader *r = NULL;
    struct bolt_info bi;
    struct slice name;
    struct slice key;
    struct slice value;
    size_t n_found = 0;
    fixture_init(&f, *(enum fixture_kind *)*state);
    fixture_put(&f, "a", "b");
    fixture_flush(&f);
    put_row(&f, BUCKET_META, slice_str("storageVersion"), slice_str("3.6.0"));
    take(f.e, 4096, &file, &info);
    struct bolt_source src = bolt_source_of(&file);
    assert_int_equal(bolt_open(&src, &r, &bi, NULL), OK);
    while (bolt_next_bucket(r, &name, NULL) == OK) {
        while (bolt_next(r, &key, &value, NULL) == OK) {
            if (slice_eq(key, slice_str("storageVersion"))) {
                assert_true(slice_eq(value, slice_str("3.6.0")));
                n_found++;
            }
        }
    }
    assert_int_equal(n_found, 1);
    bolt_close(&r);
    bytes_deinit(&file);
    fixture_deinit(&f);
}

static void snapshots_are_counted(void **state)
{
    struct fixture f;
    struct engine_snapshot *s[ENGINE_SNAPSHOTS_MAX + 1] = {NULL};
    struct snapshot_info info;
    fixture_init(&f, *(enum fixture_kind *)*state);
    fixture_flush(&f);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < ENGINE_SNAPSHOTS_MAX; i++) {
            assert_int_equal(engine_snapshot_open(f.e, &s[i], &info, NULL), OK);
        }
        struct engine_snapshot **last = &s[ENGINE_SNAPSHOTS_MAX];
        assert_int_equal(engine_snapshot_open(f.e, last, &info, NULL), ERR_TOO_MANY_REQUESTS);
        for (size_t i = 0; i <= ENGINE_SNAPSHOTS_MAX; i++) {
            engine_snapshot_close(&s[i]);
        }
    }
    fixture_deinit(&f);
}

int main(void)
{
    static enum fixture_kind kinds[] = {ON_MEMORY, ON_LMDB};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(a_snapshot_is_the_store, &kinds[0]),
        cmocka_unit_test_prestate(a_snapshot_is_the_store, &kinds[1]),
        cmocka_unit_test_prestate(a_snapshot_is_of_one_moment, &kinds[0]),
        cmocka_unit_test_prestate(a_snapshot_is_of_one_moment, &kinds[1]),
        cmocka_unit_test_prestate(damage_ends_it, &kinds[0]),
        cmocka_unit_test_prestate(damage_ends_it, &kinds[1]),
        cmocka_unit_test_prestate(a_version_of_its_own_is_kept, &kinds[1]),
        cmocka_unit_test_prestate(snapshots_are_counted, &kinds[0]),
        cmocka_unit_test_prestate(snapshots_are_counted, &kinds[1]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
