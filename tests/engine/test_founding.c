/* test_founding.c - a snapshot as the beginning of a new cluster, and what its file says without a store. */
#include "install_support.h"

#include <stdlib.h>
#include <string.h>

#include "engine/bolt_store.h"
#include "engine/record.h"

#define KEYS 200

static char *const no_urls[] = {NULL};
static char *const urls_a[] = {(char *)(uintptr_t) "http://n1:1", (char *)(uintptr_t) "http://n2:1", NULL};
static char *const urls_b[] = {(char *)(uintptr_t) "http://m:1", NULL};

static const struct member_info founders[] = {
    {0x5, (char *)(uintptr_t) "a", (char **)(uintptr_t)urls_a, (char **)(uintptr_t)no_urls, false},
    {0xabcdef0123456789, (char *)(uintptr_t) "b", (char **)(uintptr_t)urls_b, (char **)(uintptr_t)no_urls, false},
};

static void fill(struct fixture *f, int64_t compact, struct bytes *file)
{
    struct snapshot_info info;
    fixture_init(f, ON_MEMORY);
    install_fill(f, KEYS);
    if (compact > 0) {
        assert_int_equal(fixture_compact(f, compact), OK);
    }
    fixture_settle(f);
    install_raise_alarm(f, 1, 1);
    fixture_flush(f);
    install_take(f->e, file, &info);
}

static enum err found(struct target *t, const struct bytes *file, uint64_t bump, int64_t *revision, struct err_ctx *ec)
{
    struct bolt_source src = bolt_source_of(file);
    struct snapshot_founding founding = {.members = founders, .n = 2, .bump = bump};
    struct staged *s = NULL;
    enum err e = engine_stage_founding(&t->cfg, &t->place, &src, &founding, &s, ec);
    if (e != OK) {
        return e;
    }
    *revision = founding.revision;
    assert_int_equal(staged_index(s), 2);
    assert_int_equal(staged_term(s), 1);
    assert_int_equal(staged_install(s, NULL), OK);
    engine_adopt(t->e, &s);
    target_crash(t, false); /* as it is found at the first start */
    return OK;
}

static void expect_founders(struct engine *e)
{
    size_t n = 0;
    struct member_info *m = engine_members(e, &n);
    struct engine_conf conf;
    assert_int_equal(n, 2);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(m[i].id, founders[i].id);
        assert_string_equal(m[i].name, founders[i].name);
        assert_string_equal(m[i].peer_urls[0], founders[i].peer_urls[0]);
        assert_null(m[i].client_urls[0]);
    }
    free(m);
    engine_conf(e, &conf);
    assert_int_equal(conf.n_voters, 2);
    assert_int_equal(conf.n_learners, 0);
    assert_int_equal(conf.voters[1], founders[1].id);
    assert_false(engine_member_removed(e, 2));
    assert_int_equal(engine_applied_index(e), 2);
    assert_int_equal(engine_applied_term(e), 1);
}

static int64_t live_keys(struct engine *e)
{
    Etcdserverpb__RangeRequest r = ETCDSERVERPB__RANGE_REQUEST__INIT;
    struct range_read *rr = NULL;
    struct range_info info;
    r.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "\0"};
    r.range_end = r.key;
    r.count_only = true;
    assert_int_equal(engine_range_open(e, &r, 0, &rr, &info, NULL), OK);
    engine_range_close(&rr);
    return info.count;
}

static void expect_hash(struct engine *e, const struct bytes *file, int64_t revision)
{
    struct bolt_source src = bolt_source_of(file);
    struct hash_kv a;
    struct hash_kv b;
    enum err want = engine_hash_kv(e, revision, &a, NULL);
    assert_int_equal(bolt_store_hash_kv(&src, revision, &b, NULL), want);
    if (want == OK) {
        assert_int_equal(a.hash, b.hash);
        assert_int_equal(a.hash_revision, b.hash_revision);
        assert_int_equal(a.compact_revision, b.compact_revision);
        assert_int_equal(a.live_revision, b.live_revision);
    }
}

static void a_file_hashes_as_its_store(void **state)
{
    static const int64_t compactions[] = {0, 2, 60, 190};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(compactions); i++) {
        struct fixture f;
        struct bytes file = {0};
        fill(&f, compactions[i], &file);
        int64_t live = engine_revision(f.e);
        for (int64_t revision = 0; revision <= live + 1; revision += 7) {
            expect_hash(f.e, &file, revision);
        }
        expect_hash(f.e, &file, live);
        expect_hash(f.e, &file, live + 1);
        struct bolt_source src = bolt_source_of(&file);
        struct bolt_store_status st;
        assert_int_equal(bolt_store_status(&src, &st, NULL), OK);
        assert_int_equal(st.revision, live);
        assert_int_equal(st.bytes, file.len);
        assert_int_equal(st.n_keys, live_keys(f.e));
        assert_string_equal(st.version, ENGINE_STORAGE_VERSION);
        bytes_deinit(&file);
        fixture_deinit(&f);
    }
}

static void a_new_cluster_has_the_data_and_its_own_members(void **state)
{
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    int64_t revision = 0;
    fill(&f, 60, &file);
    target_init(&t, *(enum fixture_kind *)*state);
    target_put(&t, "old", "state");
    assert_int_equal(found(&t, &file, 0, &revision, NULL), OK);
    expect_founders(t.e);
    assert_false(target_is_installed(&t, 0));
    assert_int_equal(revision, engine_revision(f.e));
    assert_int_equal(engine_revision(t.e), revision);
    for (int64_t at = 61; at <= revision; at += 50) { /* of 60 itself the source remembers what the compaction saw */
        struct hash_kv a;
        struct hash_kv b;
        assert_int_equal(engine_hash_kv(f.e, at, &a, NULL), OK);
        assert_int_equal(engine_hash_kv(t.e, at, &b, NULL), OK);
        assert_int_equal(a.hash, b.hash);
    }
    assert_true(engine_alarm_active(t.e, 1));
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

static void settle(struct target *t)
{
    bool more = true;
    while (more) {
        assert_int_equal(engine_flush(t->e, false, &more, NULL), OK);
        while (engine_step(t->e)) {
        }
    }
}

static void a_raised_revision_stays(void **state)
{
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    struct hash_kv before;
    struct hash_kv after;
    int64_t revision = 0;
    fill(&f, 0, &file);
    target_init(&t, *(enum fixture_kind *)*state);
    assert_int_equal(found(&t, &file, 1000, &revision, NULL), OK);
    assert_int_equal(engine_revision(t.e), revision + 1000);
    assert_int_equal(engine_compact_revision(t.e), revision + 1000);
    assert_int_equal(engine_hash_kv(t.e, revision, &before, NULL), ERR_COMPACTED);
    assert_int_equal(engine_hash_kv(t.e, 0, &before, NULL), OK);
    settle(&t);
    assert_int_equal(engine_physical_compact_revision(t.e), revision + 1000);
    assert_int_equal(engine_hash_kv(t.e, 0, &after, NULL), OK);
    assert_int_equal(after.hash, before.hash);
    /* The record without bytes goes into snapshots, and through another beginning. */
    install_take(t.e, &file, &info);
    expect_hash(t.e, &file, 0);
    assert_int_equal(found(&t, &file, 0, &revision, NULL), OK);
    assert_int_equal(engine_hash_kv(t.e, 0, &after, NULL), OK);
    assert_int_equal(after.hash, before.hash);
    struct err_ctx ec = {{0}};
    assert_int_equal(found(&t, &file, INT64_MAX, &revision, &ec), ERR_INVALID);
    assert_non_null(strstr(ec.text, "cannot be raised"));
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

static void only_a_change_may_be_without_bytes(void **state)
{
    (void)state;
    struct kv_view kv;
    assert_int_equal(record_view(slice_of("", 0), false, &kv), OK);
    assert_int_equal(kv.key.len, 0);
    assert_int_equal(record_view(slice_of("", 0), true, &kv), ERR_CORRUPT);
    assert_int_equal(record_view(slice_of("\0", 1), false, &kv), ERR_CORRUPT);
    assert_int_equal(record_view(slice_of("\x0a\x01k", 3), true, &kv), OK);
}

int main(void)
{
    static enum fixture_kind memory = ON_MEMORY;
    static enum fixture_kind lmdb = ON_LMDB;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_hashes_as_its_store),
        cmocka_unit_test_prestate(a_new_cluster_has_the_data_and_its_own_members, &memory),
        cmocka_unit_test_prestate(a_new_cluster_has_the_data_and_its_own_members, &lmdb),
        cmocka_unit_test_prestate(a_raised_revision_stays, &memory),
        cmocka_unit_test_prestate(a_raised_revision_stays, &lmdb),
        cmocka_unit_test(only_a_change_may_be_without_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
