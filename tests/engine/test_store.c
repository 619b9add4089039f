/* test_store.c - flushing, restoring, damage, and failing backends. */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void the_store_remembers(void **state)
{
    struct fixture f;
    fixture_init(&f, *(enum fixture_kind *)*state);
    assert_int_equal(engine_pending_bytes(f.e), 0);
    assert_int_equal(fixture_grant(&f, -5, 60), OK);
    fixture_put_full(&f, "a", "1", -5, false, false, false);
    fixture_put(&f, "b", "2");
    fixture_delete(&f, "b", "");
    assert_true(engine_pending_bytes(f.e) > 0);
    engine_set_witness(f.e, 4, 1, 0xabcdef);
    fixture_flush(&f);
    assert_int_equal(engine_pending_bytes(f.e), 0);
    assert_int_equal(f.stored_index, 4);
    assert_int_equal(f.stored_before, 0);
    fixture_put(&f, "c", "3");
    fixture_flush(&f);
    assert_int_equal(f.stored_index, 5);
    assert_int_equal(f.stored_before, 4);
    uint32_t hash = fixture_hash_kv(&f, 0);
    fixture_reopen(&f);
    assert_int_equal(engine_applied_index(f.e), 5);
    assert_int_equal(engine_applied_term(f.e), 1);
    assert_int_equal(engine_revision(f.e), 5);
    assert_int_equal(fixture_hash_kv(&f, 0), hash);
    uint64_t index;
    uint64_t term;
    uint64_t chain;
    engine_witness(f.e, &index, &term, &chain);
    assert_int_equal(index, 4);
    assert_int_equal(chain, 0xabcdef);
    assert_int_equal(lease_of_key(engine_leases(f.e), slice_str("a")), -5);
    assert_int_equal(fixture_revoke(&f, -5), OK);
    char got[128];
    fixture_dump(&f, "a", "*", 0, got, sizeof(got));
    assert_string_equal(got, "c=3@5,5,1,0;");
    fixture_settle(&f);
    assert_int_equal(engine_defrag(f.e, NULL), OK);
    fixture_dump(&f, "a", "*", 5, got, sizeof(got));
    assert_string_equal(got, "a=1@2,2,1,-5;c=3@5,5,1,0;");
    fixture_deinit(&f);
}

static void a_lost_commit_is_applied_again(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    fixture_put(&f, "a", "1");
    fixture_flush(&f);
    fixture_put(&f, "a", "2");
    fixture_flush(&f);
    fixture_put(&f, "a", "3");
    uint32_t hash = fixture_hash_kv(&f, 0);
    fixture_crash(&f,
                  true); /* the log reaches back to the last but one commit, so nothing is lost */
    assert_int_equal(engine_revision(f.e), 4);
    assert_int_equal(fixture_hash_kv(&f, 0), hash);
    fixture_flush(&f);
    fixture_crash(&f, false);
    assert_int_equal(fixture_hash_kv(&f, 0), hash);
    fixture_deinit(&f);
}

/* Replace a stored value behind the engine's back. */
static void damage(struct fixture *f, enum bucket b, struct slice key, struct slice value)
{
    const struct backend_ops *ops = f->backend->ops;
    assert_int_equal(ops->begin(f->backend, NULL), OK);
    assert_int_equal(ops->put(f->backend, b, key, value, (struct slice){0}, false, NULL), OK);
    assert_int_equal(ops->commit(f->backend, NULL), OK);
}

static void rot_is_never_served(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    fixture_put(&f, "a", "right");
    fixture_put(&f, "b", "right");
    fixture_flush(&f);
    uint8_t key[RECORD_KEY_BYTES_MAX];
    size_t len = record_key_encode(key, (struct rev){2, 0}, false);
    damage(&f, BUCKET_KEY, slice_of(key, len), slice_str("wrong, and long enough"));
    char got[128];
    fixture_dump(&f, "a", "", 0, got, sizeof(got));
    assert_string_equal(got, "corrupt data");
    fixture_dump(&f, "a", "*", 0, got, sizeof(got));
    assert_string_equal(got, "corrupt data");
    fixture_dump(&f, "b", "*", 0, got, sizeof(got));
    assert_string_equal(got, "b=right@3,3,1,0;");
    struct hash_kv h;
    assert_int_equal(engine_hash_kv(f.e, 0, &h, NULL), ERR_CORRUPT);
    /* What only the reply needs does not stop the entry ... */
    struct apply_result r = fixture_put_full(&f, "a", "new", 0, true, false, false);
    assert_int_equal(r.err, ERR_CORRUPT);
    assert_int_equal(engine_revision(f.e), 4);
    fixture_dump(&f, "a", "", 0, got, sizeof(got));
    assert_string_equal(got, "a=new@4,2,2,0;");
    /* ... but what decides the new state does, before anything is changed. */
    len = record_key_encode(key, (struct rev){3, 0}, false);
    damage(&f, BUCKET_KEY, slice_of(key, len), slice_str("wrong, and long enough"));
    r = fixture_put_full(&f, "b", "", 0, false, true, false);
    assert_int_equal(r.err, ERR_CORRUPT);
    assert_int_equal(engine_revision(f.e), 4);
    assert_int_equal(f.n_failed, 1);
    assert_int_equal(engine_applied_index(f.e), f.n_log - 1);
    fixture_deinit(&f);
}

static void a_damaged_store_does_not_open(void **state)
{
    (void)state;
    uint8_t key[RECORD_KEY_BYTES_MAX];
    size_t len = record_key_encode(key, (struct rev){2, 0}, false);
    uint8_t past[RECORD_KEY_BYTES_MAX];
    size_t past_len = record_key_encode(past, (struct rev){9, 0}, false);
    /* A sound record of a revision that was never committed. */
    struct kv_view view = {
        .key = slice_str("x"), .create_revision = 9, .mod_revision = 9, .version = 1};
    struct buf *kv = kv_encode_buf(&view);
    struct bytes record = {0};
    uint8_t sum[RECORD_SUM_BYTES];
    record_sum_encode(sum, slice_of(past, past_len), buf_slice(kv));
    bytes_add(&record, kv->data, kv->len);
    bytes_add(&record, sum, sizeof(sum));
    const struct {
        const char *name;
        enum bucket bucket;
        struct slice key, value;
        const char *said;
    } cases[] = {
        {"a rotten record", BUCKET_KEY, slice_of(key, len), slice_str("0123456789"),
         "checksum mismatch"},
        {"no revision", BUCKET_KEY, slice_str("zz"), slice_str("0123456789"), "not a revision"},
        {"a record above the revision", BUCKET_KEY, slice_of(past, past_len), bytes_slice(&record),
         "records go to 9"},
        {"a cut counter", BUCKET_META, slice_str("consistent_index"), slice_str("123"),
         "consistent_index: 3 bytes"},
        {"a foreign format", BUCKET_PINTLE, slice_str("format"), slice_of("\0\0\0\0\0\0\0\7", 8),
         "format 7"},
        {"a bad member", BUCKET_MEMBERS, slice_str("7"), slice_str("{"), "bucket members"},
        {"a bad lease", BUCKET_LEASE, slice_str("12345678"), slice_str("\x08\x01"), "bucket lease"},
        {"a bad confState", BUCKET_META, slice_str("confState"), slice_str("[]"), "confState"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        fixture_init(&f, ON_MEMORY);
        fixture_put(&f, "a", "1");
        fixture_flush(&f);
        damage(&f, cases[i].bucket, cases[i].key, cases[i].value);
        struct engine_config cfg = {
            .backend = f.backend, .quota_bytes = INT64_MAX, .min_lease_ttl_s = 1};
        fixture_release(&f);
        struct engine *e = NULL;
        struct err_ctx ec = {{0}};
        enum err err = engine_open(&cfg, &e, &ec);
        if (err == OK || strstr(ec.text, cases[i].said) == NULL) {
            fail_msg("%s: %s: %s", cases[i].name, err_text(err), ec.text);
        }
        assert_null(e);
        fixture_deinit(&f);
    }
    buf_unref(&kv);
    bytes_deinit(&record);
}

/* --- a backend that fails
 * ------------------------------------------------------------------------------- */

static enum err failing_commit(struct backend *b, struct err_ctx *ec)
{
    (void)b;
    return err_set(ec, ERR_NO_DISK, "no room");
}

static void a_failed_commit_is_final(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    fixture_put(&f, "a", "1");
    struct backend_ops ops = *f.backend->ops;
    const struct backend_ops *own = f.backend->ops;
    ops.commit = failing_commit;
    f.backend->ops = &ops;
    bool more;
    struct err_ctx ec = {{0}};
    assert_int_equal(engine_flush(f.e, false, &more, &ec), ERR_NO_DISK);
    assert_string_equal(ec.text, "store: no room");
    assert_int_equal(f.n_failed, 1);
    f.backend->ops = own;
    assert_int_equal(engine_flush(f.e, false, &more, &ec), ERR_IO);
    char got[64];
    fixture_dump(&f, "a", "", 0, got, sizeof(got)); /* still in the tail */
    assert_string_equal(got, "a=1@2,2,1,0;");
    own->abort(f.backend);
    fixture_deinit(&f);
}

/* An entry may be applied before the own log holds it. The store must not remember what the log might forget. */
static void the_store_stays_behind_the_log(void **state)
{
    (void)state;
    struct fixture f;
    bool more;
    char got[64];
    fixture_init(&f, ON_MEMORY);
    fixture_put(&f, "a", "1");
    uint64_t durable = engine_applied_index(f.e);
    engine_log_durable(f.e, durable);
    fixture_put(&f, "a", "2");
    assert_int_equal(engine_flush(f.e, true, &more, NULL), ERR_BUSY);
    fixture_put(&f, "a", "3"); /* behind the seal that waits */
    engine_log_durable(f.e, durable + 1);
    assert_int_equal(engine_flush(f.e, true, &more, NULL), OK);
    assert_int_equal(engine_flush(f.e, true, &more, NULL), ERR_BUSY);
    assert_int_equal(f.n_failed, 0);
    fixture_dump(&f, "a", "", 0, got, sizeof(got)); /* reads do not mind */
    assert_string_equal(got, "a=3@4,2,3,0;");
    struct engine_config cfg = {.backend = f.backend, .quota_bytes = INT64_MAX, .min_lease_ttl_s = 1};
    fixture_release(&f);
    struct engine *e = NULL;
    assert_int_equal(engine_open(&cfg, &e, NULL), OK);
    assert_int_equal(engine_applied_index(e), durable + 1);
    engine_close(&e);
    fixture_deinit(&f);
}

static void large_ranges_come_in_steps(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    char key[16];
    char value[700];
    memset(value, 'v', sizeof(value));
    value[sizeof(value) - 1] = 0;
    for (int i = 0; i < 3000; i++) {
        snprintf(key, sizeof(key), "k%05d", (i * 7) % 3000);
        fixture_put(&f, key, value);
        if (i == 1500) {
            fixture_flush(&f);
        }
    }
    for (int order = 0; order < 3; order++) {
        for (int keys_only = 0; keys_only < 2; keys_only++) {
            Etcdserverpb__RangeRequest r = fixture_range_request("k", "l", 0);
            r.sort_order = (Etcdserverpb__RangeRequest__SortOrder)order;
            r.keys_only = keys_only;
            enum err err;
            Etcdserverpb__RangeResponse *resp = fixture_range(&f, &r, &err);
            assert_int_equal(err, OK);
            assert_int_equal(resp->n_kvs, 3000);
            for (size_t i = 0; i < resp->n_kvs; i++) {
                snprintf(key, sizeof(key), "k%05d", order == 2 ? 2999 - (int)i : (int)i);
                assert_memory_equal(resp->kvs[i]->key.data, key, 6);
                assert_int_equal(resp->kvs[i]->value.len, keys_only ? 0 : sizeof(value) - 1);
            }
            etcdserverpb__range_response__free_unpacked(resp, NULL);
        }
    }
    /* The same in whole pieces, as a stream takes them. */
    Etcdserverpb__RangeRequest r = fixture_range_request("k", "l", 0);
    struct range_read *rr = NULL;
    struct range_info info;
    assert_int_equal(engine_range_open(f.e, &r, 1, &rr, &info, NULL), OK);
    size_t total = 0;
    for (size_t n = 1; n > 0;) {
        struct bytes chunk = {0};
        assert_int_equal(engine_range_chunk(rr, 100, 20000, &chunk, &n), OK);
        assert_true(n <= 100);
        assert_true(chunk.len < 20000 + 1000);
        Etcdserverpb__RangeResponse *resp =
            etcdserverpb__range_response__unpack(NULL, chunk.len, chunk.data);
        assert_int_equal(resp->n_kvs, n);
        total += n;
        etcdserverpb__range_response__free_unpacked(resp, NULL);
        bytes_deinit(&chunk);
    }
    assert_int_equal(total, 3000);
    engine_range_close(&rr);
    assert_int_equal(fixture_delete(&f, "k", "l"), 3000);
    assert_int_equal(fixture_delete(&f, "k", "l"), 0);
    fixture_deinit(&f);
}

int main(void)
{
    static enum fixture_kind memory = ON_MEMORY;
    static enum fixture_kind lmdb = ON_LMDB;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_store_remembers, &memory),
        cmocka_unit_test_prestate(the_store_remembers, &lmdb),
        cmocka_unit_test(a_lost_commit_is_applied_again),
        cmocka_unit_test(rot_is_never_served),
        cmocka_unit_test(a_damaged_store_does_not_open),
        cmocka_unit_test(a_failed_commit_is_final),
        cmocka_unit_test(the_store_stays_behind_the_log),
        cmocka_unit_test(large_ranges_come_in_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
