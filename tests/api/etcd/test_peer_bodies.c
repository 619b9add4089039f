/* What members say to each other about leases, members and hashes; and what a learner serves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/etcd/internal.h"

static void test_questions_about_leases(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        int64_t id;
        bool lookup, keys;
        const char *body;
        size_t len;
    } rows[] = {
        {"a renewal is LeaseKeepAliveRequest", 300, false, false, "\x08\xac\x02", 3},
        {"a negative id takes ten bytes", -1, false, false, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
        {"id 0 is left out", 0, false, false, "", 0},
        {"a lookup stands in a message of its own", 300, true, false, "\x0a\x03\x08\xac\x02", 5},
        {"with its keys", 300, true, true, "\x0a\x05\x08\xac\x02\x10\x01", 7},
        {"an empty lookup is still there", 0, true, false, "\x0a\x00", 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t out[32];
        size_t n = lease_body_write(out, rows[i].id, rows[i].lookup, rows[i].keys);
        if (!slice_eq(slice_of(out, n), slice_of(rows[i].body, rows[i].len))) {
            fail_msg("%s: written wrongly", rows[i].claim);
        }
        int64_t id = 7;
        bool keys = true;
        if (lease_body_read(slice_of(out, n), rows[i].lookup, &id, &keys) != OK || id != rows[i].id || keys != rows[i].keys) {
            fail_msg("%s: read wrongly", rows[i].claim);
        }
    }
}

static void test_questions_that_are_none(void **state)
{
    (void)state;
    int64_t id = 0;
    bool keys = false;
    assert_int_equal(lease_body_read(slice_of("\x08", 1), false, &id, &keys), ERR_INVALID);
    assert_int_equal(lease_body_read(slice_of("\x0a\x05\x08", 3), true, &id, &keys), ERR_INVALID);
    assert_int_equal(lease_body_read(slice_of("\x0a\x01\x08", 3), true, &id, &keys), ERR_INVALID);
    /* Fields that are not known are passed over. */
    assert_int_equal(lease_body_read(slice_of("\x08\x05\x7a\x01x", 5), false, &id, &keys), OK);
    assert_int_equal(id, 5);
}

static void test_an_answer_comes_back_as_it_was(void **state)
{
    (void)state;
    for (unsigned lookup = 0; lookup < 2; lookup++) {
        struct lease_ask a = {.id = 300, .lookup = lookup == 1, .keys = true, .ttl_s = 7, .granted_s = 60};
        if (a.lookup) {
            wire_add_message(&a.key_fields, 5, slice_str("k1"));
            wire_add_message(&a.key_fields, 5, slice_str(""));
        }
        struct bytes b = {0};
        lease_answer_write(&b, &a);
        struct lease_ask back = {.id = 300, .lookup = a.lookup, .keys = true};
        assert_int_equal(lease_answer_read(bytes_slice(&b), &back), OK);
        assert_int_equal(back.ttl_s, 7);
        assert_int_equal(back.granted_s, a.lookup ? 60 : 0);
        assert_true(slice_eq(bytes_slice(&back.key_fields), bytes_slice(&a.key_fields)));
        back.id = 301;
        assert_int_equal(lease_answer_read(bytes_slice(&b), &back), ERR_INVALID);
        back.id = 300;
        assert_int_equal(lease_answer_read(slice_of(b.data, b.len - 1), &back), ERR_INVALID);
        bytes_deinit(&b);
        bytes_deinit(&a.key_fields);
        bytes_deinit(&back.key_fields);
    }
}

static void test_an_answer_as_etcd_encodes_it(void **state)
{
    (void)state;
    /* {1: {1: {}, 2: 300, 3: -1}} */
    static const char body[] = "\x0a\x10\x0a\x00\x10\xac\x02\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    struct lease_ask a = {.id = 300, .lookup = true};
    assert_int_equal(lease_answer_read(slice_of(body, sizeof(body) - 1), &a), OK);
    assert_int_equal(a.ttl_s, -1);
    assert_int_equal(a.granted_s, 0);
    struct bytes b = {0};
    lease_answer_write(&b, &a);
    assert_true(slice_eq(bytes_slice(&b), slice_of(body, sizeof(body) - 1)));
    bytes_deinit(&b);
}

static void test_members_as_json(void **state)
{
    (void)state;
    char *one[] = {(char[]){"http://a:2380"}, NULL};
    char *two[] = {(char[]){"http://b:1"}, (char[]){"http://b:2"}, NULL};
    char *none[] = {NULL};
    struct member_info m[] = {
        {.id = 1, .name = (char[]){"n<1>"}, .peer_urls = one, .client_urls = two},
        {.id = UINT64_MAX, .name = (char[]){""}, .peer_urls = two, .client_urls = none, .is_learner = true},
    };
    struct bytes b = {0};
    members_json(m, 2, &b);
    bytes_add(&b, "", 1);
    assert_string_equal((char *)b.data, "[{\"id\":1,\"peerURLs\":[\"http://a:2380\"],\"name\":\"n\\u003c1\\u003e\",\"clientURLs\":[\"http://b:1\",\"http://b:2\"]},"
                                        "{\"id\":18446744073709551615,\"peerURLs\":[\"http://b:1\",\"http://b:2\"],\"isLearner\":true}]\n");
    bytes_reset(&b);
    members_json(NULL, 0, &b);
    assert_true(slice_eq(bytes_slice(&b), slice_str("[]\n")));
    bytes_deinit(&b);
}

static void test_hashes_as_json(void **state)
{
    (void)state;
    struct bytes b = {0};
    hash_kv_json(&(struct hash_kv){.hash = 4294967295u, .compact_revision = -1, .hash_revision = 9, .live_revision = 12}, &b);
    assert_true(slice_eq(bytes_slice(&b), slice_str("{\"header\":{\"revision\":12},\"hash\":4294967295,\"compact_revision\":-1,\"hash_revision\":9}")));
    bytes_reset(&b);
    hash_kv_json(&(struct hash_kv){0}, &b);
    assert_true(slice_eq(bytes_slice(&b), slice_str("{\"header\":{}}")));
    bytes_deinit(&b);
}

static void test_questions_about_hashes(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum err err;
        int64_t revision;
    } rows[] = {
        {"{\"revision\":12}", OK, 12},
        {"{}", OK, 0},
        {" { \"other\" : [1, {}] , \"revision\" : 3 } ", OK, 3},
        {"{\"revision\":-1}", OK, -1},
        {"{\"revision\":9223372036854775807}", OK, INT64_MAX},
        {"{\"revision\":9223372036854775808}", ERR_INVALID, 0},
        {"{\"revision\":\"12\"}", ERR_INVALID, 0},
        {"", ERR_INVALID, 0},
        {"revision", ERR_INVALID, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t revision = 5;
        enum err e = hash_kv_request_read(slice_str(rows[i].body), &revision);
        if (e != rows[i].err || (e == OK && revision != rows[i].revision)) {
            fail_msg("%s: %s, %lld", rows[i].body, err_text(e), (long long)revision);
        }
    }
}

static void test_what_a_learner_serves(void **state)
{
    (void)state;
    static const struct grpc_method *const tables[] = {kv_methods,      watch_methods,       lease_methods,
                                                       cluster_methods, maintenance_methods, health_methods};
    size_t n_served = 0;
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        for (const struct grpc_method *m = tables[t]; m->path != NULL; m++) {
            n_served += learner_serves(m->path) != LEARNER_REFUSES;
        }
    }
    assert_int_equal(n_served, 3); /* and each of the three below is a method that there is */
    assert_int_equal(learner_serves("/etcdserverpb.Maintenance/Status"), LEARNER_SERVES);
    assert_int_equal(learner_serves("/etcdserverpb.Maintenance/Snapshot"), LEARNER_SERVES);
    assert_int_equal(learner_serves("/etcdserverpb.KV/Range"), LEARNER_SERVES_SERIALIZABLE);
    assert_int_equal(learner_serves("/etcdserverpb.Lease/LeaseKeepAlive"), LEARNER_REFUSES);
    assert_int_equal(learner_serves("/grpc.health.v1.Health/Check"), LEARNER_REFUSES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions_about_leases),     cmocka_unit_test(test_questions_that_are_none),
        cmocka_unit_test(test_an_answer_comes_back_as_it_was), cmocka_unit_test(test_an_answer_as_etcd_encodes_it),
        cmocka_unit_test(test_members_as_json),            cmocka_unit_test(test_hashes_as_json),
        cmocka_unit_test(test_questions_about_hashes),     cmocka_unit_test(test_what_a_learner_serves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
