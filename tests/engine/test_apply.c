/* test_apply.c - what entries do, in the words of the API reference. */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void dump_is(struct fixture *f, const char *key, const char *end, int64_t revision,
                    const char *expected)
{
    char got[4096];
    fixture_dump(f, key, end, revision, got, sizeof(got));
    assert_string_equal(got, expected);
}

static void revisions_versions_and_incarnations(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    assert_int_equal(engine_revision(f.e), 1);
    assert_int_equal(engine_compact_revision(f.e), -1);
    assert_int_equal(fixture_put(&f, "a", "1"), 2);
    assert_int_equal(fixture_put(&f, "a", "2"), 3);
    assert_int_equal(fixture_put(&f, "b", "3"), 4);
    dump_is(&f, "a", "*", 0, "a=2@3,2,2,0;b=3@4,4,1,0;");
    assert_int_equal(fixture_delete(&f, "a", ""), 1);
    assert_int_equal(engine_revision(f.e), 5);
    assert_int_equal(fixture_delete(&f, "a", ""), 0);
    assert_int_equal(engine_revision(f.e), 5);
    assert_int_equal(fixture_put(&f, "a", "4"), 6);
    dump_is(&f, "a", "*", 0, "a=4@6,6,1,0;b=3@4,4,1,0;");
    dump_is(&f, "a", "*", 3, "a=2@3,2,2,0;");
    dump_is(&f, "a", "*", 5, "b=3@4,4,1,0;");
    dump_is(&f, "a", "*", 7, "required revision is a future revision");
    dump_is(&f, "a", "*", -3, "a=4@6,6,1,0;b=3@4,4,1,0;");
    assert_int_equal(fixture_delete(&f, "a", "c"), 2);
    assert_int_equal(engine_revision(f.e), 7);
    assert_int_equal(f.n_changes, 7);
    assert_int_equal(f.changed_revision, 7);
    fixture_deinit(&f);
}

static Mvccpb__KeyValue *put_prev(struct apply_result *r)
{
    assert_int_equal(r->err, OK);
    if (r->body == NULL) {
        return NULL;
    }
    Etcdserverpb__PutResponse *resp =
        etcdserverpb__put_response__unpack(NULL, r->body->len, r->body->data);
    assert_non_null(resp);
    Mvccpb__KeyValue *kv = resp->prev_kv;
    resp->prev_kv = NULL;
    etcdserverpb__put_response__free_unpacked(resp, NULL);
    buf_unref(&r->body);
    return kv;
}

static void a_put_can_show_and_keep_what_was_there(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    struct apply_result r = fixture_put_full(&f, "k", "v1", 0, true, false, false);
    assert_null(put_prev(&r));
    r = fixture_put_full(&f, "k", "v2", 0, true, false, false);
    Mvccpb__KeyValue *kv = put_prev(&r);
    assert_memory_equal(kv->value.data, "v1", 2);
    assert_int_equal(kv->mod_revision, 2);
    mvccpb__key_value__free_unpacked(kv, NULL);
    fixture_flush(&f); /* from now on the record is in the backend */
    r = fixture_put_full(&f, "k", "", 0, true, true, false);
    kv = put_prev(&r);
    assert_memory_equal(kv->value.data, "v2", 2);
    mvccpb__key_value__free_unpacked(kv, NULL);
    dump_is(&f, "k", "", 0, "k=v2@4,2,3,0;");
    assert_int_equal(fixture_grant(&f, 77, 100), OK);
    r = fixture_put_full(&f, "k", "v3", 77, false, false, false);
    assert_int_equal(r.err, OK);
    r = fixture_put_full(&f, "k", "v4", 0, false, false, true);
    assert_int_equal(r.err, OK);
    dump_is(&f, "k", "", 0, "k=v4@6,2,5,77;");
    r = fixture_put_full(&f, "k", "", 0, false, true, true);
    assert_int_equal(r.err, OK);
    dump_is(&f, "k", "", 0, "k=v4@7,2,6,77;");
    r = fixture_put_full(&f, "k", "v5", 0, false, false, false);
    dump_is(&f, "k", "", 0, "k=v5@8,2,7,0;");
    assert_int_equal(lease_of_key(engine_leases(f.e), slice_str("k")), 0);
    fixture_deinit(&f);
}

static void refused_puts_leave_no_trace(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    static const struct {
        const char *name;
        const char *key;
        int64_t lease;
        bool ignore_value, ignore_lease;
        enum err expected;
    } cases[] = {
        {"an unknown lease", "k", 5, false, false, ERR_LEASE_NOT_FOUND},
        {"an absent key to keep the value of", "k", 0, true, false, ERR_KEY_NOT_FOUND},
        {"an absent key to keep the lease of", "k", 0, false, true, ERR_KEY_NOT_FOUND},
        {"the lease is looked at first", "k", 5, true, false, ERR_LEASE_NOT_FOUND},
        {"no key", "", 0, false, false, ERR_EMPTY_KEY},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct apply_result r = fixture_put_full(&f, cases[i].key, "", cases[i].lease, true,
                                                 cases[i].ignore_value, cases[i].ignore_lease);
        if (r.err != cases[i].expected) {
            fail_msg("%s: %s", cases[i].name, err_text(r.err));
        }
        assert_null(r.body);
        assert_int_equal(r.revision, 1);
        assert_int_equal(engine_applied_index(f.e), i + 1);
    }
    assert_int_equal(f.n_changes, 0);
    fixture_deinit(&f);
}

static void a_lease_takes_its_keys_along(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    assert_int_equal(fixture_grant(&f, 9, 1), OK);
    assert_int_equal(fixture_grant(&f, 9, 1), ERR_LEASE_EXISTS);
    assert_int_equal(fixture_grant(&f, 10, LEASE_TTL_MAX_S + 1), ERR_LEASE_TTL);
    assert_int_equal(engine_revision(f.e), 1);
    fixture_put_full(&f, "c", "1", 9, false, false, false);
    fixture_put_full(&f, "a", "1", 9, false, false, false);
    fixture_put_full(&f, "b", "1", 9, false, false, false);
    fixture_put(&f, "b", "2"); /* off the lease */
    f.n_changes = 0;
    assert_int_equal(fixture_revoke(&f, 9), OK);
    assert_int_equal(f.n_changes, 2);
    assert_int_equal(engine_revision(f.e), 6);
    dump_is(&f, "a", "*", 0, "b=2@5,4,2,0;");
    assert_int_equal(fixture_revoke(&f, 9), ERR_LEASE_NOT_FOUND);
    assert_int_equal(fixture_grant(&f, 11, 60), OK);
    assert_int_equal(fixture_revoke(&f, 11), OK);
    assert_int_equal(engine_revision(f.e), 6);
    fixture_deinit(&f);
}

static struct apply_result alarm(struct fixture *f, int action, uint64_t member, int type)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AlarmRequest a = ETCDSERVERPB__ALARM_REQUEST__INIT;
    a.action = (Etcdserverpb__AlarmRequest__AlarmAction)action;
    a.memberid = member;
    a.alarm = (Etcdserverpb__AlarmType)type;
    r.alarm = &a;
    return fixture_request(f, &r);
}

static size_t n_listed(struct apply_result r)
{
    assert_int_equal(r.err, OK);
    if (r.body == NULL) {
        return 0;
    }
    Etcdserverpb__AlarmResponse *resp =
        etcdserverpb__alarm_response__unpack(NULL, r.body->len, r.body->data);
    assert_non_null(resp);
    size_t n = resp->n_alarms;
    etcdserverpb__alarm_response__free_unpacked(resp, NULL);
    buf_unref(&r.body);
    return n;
}

enum { GET, ACTIVATE, DEACTIVATE };

static void alarms_block_what_they_must(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    fixture_put(&f, "k", "v");
    assert_int_equal(n_listed(alarm(&f, GET, 0, 0)), 0);
    assert_int_equal(n_listed(alarm(&f, ACTIVATE, 3, 0)), 0);
    assert_int_equal(n_listed(alarm(&f, ACTIVATE, 3, 1)), 1);
    assert_int_equal(n_listed(alarm(&f, ACTIVATE, 3, 1)), 1);
    assert_int_equal(n_listed(alarm(&f, ACTIVATE, 4, 1)), 1);
    assert_int_equal(n_listed(alarm(&f, GET, 9, 0)), 2);
    assert_int_equal(fixture_put_full(&f, "k", "v", 0, false, false, false).err, ERR_NO_SPACE);
    assert_int_equal(fixture_grant(&f, 5, 9), ERR_NO_SPACE);
    assert_int_equal(fixture_delete(&f, "nothing", ""), 0);
    assert_int_equal(fixture_compact(&f, 2), OK);
    assert_int_equal(n_listed(alarm(&f, ACTIVATE, 3, 2)), 1);
    assert_int_equal(fixture_put_full(&f, "k", "v", 0, false, false, false).err,
                     ERR_CORRUPT_CLUSTER);
    assert_int_equal(fixture_compact(&f, 2), ERR_CORRUPT_CLUSTER);
    assert_int_equal(fixture_revoke(&f, 5), ERR_CORRUPT_CLUSTER);
    assert_int_equal(n_listed(alarm(&f, GET, 0, 2)), 1);
    fixture_flush(&f);
    fixture_reopen(&f);
    assert_true(engine_alarm_active(f.e, 1));
    assert_true(engine_alarm_active(f.e, 2));
    assert_int_equal(n_listed(alarm(&f, DEACTIVATE, 0, 2)), 0);
    assert_int_equal(n_listed(alarm(&f, DEACTIVATE, 3, 2)), 1);
    assert_int_equal(n_listed(alarm(&f, DEACTIVATE, 3, 1)), 1);
    assert_true(engine_alarm_active(f.e, 1));
    assert_int_equal(n_listed(alarm(&f, DEACTIVATE, 4, 1)), 1);
    assert_int_equal(fixture_put(&f, "k", "v"), 3);
    fixture_flush(&f);
    fixture_reopen(&f);
    assert_false(engine_alarm_active(f.e, 1));
    fixture_deinit(&f);
}

static void entries_are_applied_once(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    struct apply_result r = fixture_apply(&f, 0, (struct slice){0}, true);
    assert_int_equal(r.err, OK);
    assert_int_equal(r.request_id, 0);
    r = fixture_apply(&f, 0, slice_str("\xff\xff\xff"), true);
    assert_int_equal(r.err, ERR_INVALID);
    assert_int_equal(engine_applied_index(f.e), 2);
    fixture_put(&f, "k", "v");
    Etcdserverpb__InternalRaftRequest q = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__RequestHeader h = ETCDSERVERPB__REQUEST_HEADER__INIT;
    Etcdserverpb__RangeRequest range = fixture_range_request("k", "", 0);
    h.id = 4711;
    q.header = &h;
    q.range = &range;
    r = fixture_request(&f, &q);
    assert_int_equal(r.request_id, 4711);
    assert_int_equal(r.err, OK);
    assert_int_equal(r.revision, 2);
    engine_apply(f.e, 3, 1, 0, buf_slice(f.log[2].data), true, f.now_ms, &r);
    assert_int_equal(r.err, OK);
    assert_int_equal(engine_revision(f.e), 2);
    assert_int_equal(engine_applied_index(f.e), 4);
    fixture_deinit(&f);
}

static void the_quota_is_told_at_apply(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    struct engine_config cfg = {
        .backend = backend_mem_create(), .quota_bytes = 600, .min_lease_ttl_s = 1};
    struct engine *e = NULL;
    assert_int_equal(engine_open(&cfg, &e, NULL), OK);
    assert_true(engine_quota_fits(e, 0));
    assert_true(engine_quota_fits(e, 599));
    assert_false(engine_quota_fits(e, 600));
    Etcdserverpb__InternalRaftRequest q = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__PutRequest p = ETCDSERVERPB__PUT_REQUEST__INIT;
    p.key = fixture_bytes("k");
    uint8_t value[400] = {0};
    p.value = (ProtobufCBinaryData){sizeof(value), value};
    q.put = &p;
    uint8_t packed[1024];
    size_t len = etcdserverpb__internal_raft_request__pack(&q, packed);
    struct apply_result r;
    engine_apply(e, 1, 1, 0, slice_of(packed, len), true, 1, &r);
    assert_int_equal(r.err, OK);
    assert_true(r.over_quota);
    assert_int_equal(engine_revision(e), 2); /* applied all the same */
    engine_close(&e);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revisions_versions_and_incarnations),
        cmocka_unit_test(a_put_can_show_and_keep_what_was_there),
        cmocka_unit_test(refused_puts_leave_no_trace),
        cmocka_unit_test(a_lease_takes_its_keys_along),
        cmocka_unit_test(alarms_block_what_they_must),
        cmocka_unit_test(entries_are_applied_once),
        cmocka_unit_test(the_quota_is_told_at_apply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
