/* test_membership.c - configuration changes, members, versions; and their rows, byte by byte. */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "engine/membership.h"

enum { ADD, REMOVE, UPDATE, ADD_LEARNER };

static enum err change(struct fixture *f, int type, uint64_t id, const char *context)
{
    return fixture_conf_change(f, type, id, context);
}

static void row_is(struct fixture *f, enum bucket b, const char *key, const char *expected)
{
    struct backend_read *r = NULL;
    struct slice v = {0};
    const struct backend_ops *ops = f->backend->ops;
    fixture_flush(f);
    assert_int_equal(ops->read_begin(f->backend, &r, NULL), OK);
    enum err err = ops->get(r, b, slice_str(key), &v);
    if (expected == NULL) {
        assert_int_equal(err, ERR_NOT_FOUND);
    } else {
        assert_int_equal(err, OK);
        char *got = xstrndup((const char *)v.data, v.len);
        assert_string_equal(got, expected);
        free(got);
    }
    ops->read_end(&r);
}

#define BIG "10276657743932975437" /* 8e9e05c52164694d: above what a signed number holds */

static void members_come_and_go(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    uint64_t big = 0x8e9e05c52164694dull;
    assert_int_equal(change(&f, ADD, big,
                            "{\"id\":" BIG
                            ",\"peerURLs\":[\"http://b:2380\",\"http://a:2380\"],\"name\":\"\"}"),
                     OK);
    row_is(&f, BUCKET_MEMBERS, "8e9e05c52164694d",
           "{\"id\":" BIG ",\"peerURLs\":[\"http://a:2380\",\"http://b:2380\"]}");
    row_is(&f, BUCKET_META, "confState", "{\"voters\":[" BIG "],\"auto_leave\":false}");
    assert_int_equal(change(&f, ADD, big, "{\"id\":" BIG ",\"peerURLs\":[\"http://c\"]}"),
                     ERR_MEMBER_EXISTS);
    assert_int_equal(change(&f, ADD, 7, "{\"id\":7,\"peerURLs\":[\"http://a:2380\"]}"),
                     ERR_PEER_URL_EXISTS);
    assert_int_equal(change(&f, ADD, 7, "not json"), ERR_INVALID);
    assert_int_equal(change(&f, REMOVE, 7, NULL), ERR_MEMBER_NOT_FOUND);
    assert_int_equal(change(&f, UPDATE, 7, "{\"id\":7,\"peerURLs\":[\"http://x\"]}"),
                     ERR_MEMBER_NOT_FOUND);
    assert_int_equal(change(&f, ADD_LEARNER, 7,
                            "{\"id\":7,\"peerURLs\":[\"http://"
                            "x?a&b\"],\"isLearner\":true,\"isPromote\":false,\"more\":[{}]}"),
                     OK);
    row_is(&f, BUCKET_MEMBERS, "7",
           "{\"id\":7,\"peerURLs\":[\"http://x?a\\u0026b\"],\"isLearner\":true}");
    row_is(&f, BUCKET_META, "confState",
           "{\"voters\":[" BIG "],\"learners\":[7],\"auto_leave\":false}");
    assert_int_equal(change(&f, ADD, 7, "{\"id\":7,\"peerURLs\":[],\"isPromote\":true}"), OK);
    assert_int_equal(change(&f, ADD, 7, "{\"id\":7,\"peerURLs\":null,\"isPromote\":true}"),
                     ERR_NOT_LEARNER_MEMBER);
    row_is(&f, BUCKET_META, "confState", "{\"voters\":[7," BIG "],\"auto_leave\":false}");
    assert_int_equal(change(&f, UPDATE, 7, "{\"id\":7,\"peerURLs\":[\"http://y\"]}"), OK);
    assert_int_equal(change(&f, UPDATE, 7, "{\"id\":7,\"peerURLs\":[\"http://b:2380\"]}"),
                     ERR_PEER_URL_EXISTS);
    fixture_reopen(&f);
    size_t n;
    struct member_info *m = engine_members(f.e, &n);
    assert_int_equal(n, 2);
    assert_int_equal(m[0].id, 7);
    assert_string_equal(m[0].peer_urls[0], "http://y");
    assert_null(m[0].peer_urls[1]);
    assert_null(m[0].client_urls[0]);
    assert_false(m[0].is_learner);
    assert_int_equal(m[1].id, big);
    free(m);
    assert_int_equal(change(&f, REMOVE, 7, NULL), OK);
    row_is(&f, BUCKET_MEMBERS, "7", NULL);
    row_is(&f, BUCKET_MEMBERS_REMOVED, "7", "removed");
    fixture_reopen(&f);
    assert_int_equal(change(&f, ADD, 7, "{\"id\":7,\"peerURLs\":[\"http://z\"]}"),
                     ERR_MEMBER_NOT_FOUND);
    struct engine_conf c;
    engine_conf(f.e, &c);
    assert_int_equal(c.n_voters, 1);
    assert_int_equal(c.voters[0], big);
    assert_int_equal(c.n_learners, 0);
    assert_int_equal(change(&f, ADD, 0, NULL), OK); /* refused before: no change */
    fixture_deinit(&f);
}

static void attributes_and_versions(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    assert_int_equal(
        change(&f, ADD, 255, "{\"id\":255,\"peerURLs\":[\"http://a\"],\"name\":\"first\"}"), OK);
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Membershippb__ClusterMemberAttrSetRequest set =
        MEMBERSHIPPB__CLUSTER_MEMBER_ATTR_SET_REQUEST__INIT;
    Membershippb__Attributes a = MEMBERSHIPPB__ATTRIBUTES__INIT;
    char *urls[] = {(char *)(uintptr_t) "http://c:2379"};
    a.name = (char *)(uintptr_t) "node \"1\"";
    a.client_urls = urls;
    a.n_client_urls = 1;
    set.member_id = 255;
    set.member_attributes = &a;
    r.cluster_member_attr_set = &set;
    assert_int_equal(fixture_request(&f, &r).err, OK);
    row_is(&f, BUCKET_MEMBERS, "ff",
           "{\"id\":255,\"peerURLs\":[\"http://a\"],\"name\":\"node "
           "\\\"1\\\"\",\"clientURLs\":[\"http://c:2379\"]}");
    set.member_id = 254; /* unknown: no effect */
    assert_int_equal(fixture_request(&f, &r).err, OK);

    char version[16];
    engine_cluster_version(f.e, version);
    assert_string_equal(version, "");
    Membershippb__ClusterVersionSetRequest v = MEMBERSHIPPB__CLUSTER_VERSION_SET_REQUEST__INIT;
    r = (Etcdserverpb__InternalRaftRequest)ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    v.ver = (char *)(uintptr_t) "3.7.0";
    r.cluster_version_set = &v;
    assert_int_equal(fixture_request(&f, &r).err, OK);
    v.ver = (char *)(uintptr_t) "3.7";
    assert_int_equal(fixture_request(&f, &r).err, ERR_INVALID);
    row_is(&f, BUCKET_CLUSTER, "clusterVersion", "3.7.0");

    Membershippb__DowngradeInfoSetRequest d = MEMBERSHIPPB__DOWNGRADE_INFO_SET_REQUEST__INIT;
    r = (Etcdserverpb__InternalRaftRequest)ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    d.enabled = true;
    d.ver = (char *)(uintptr_t) "3.6.0";
    r.downgrade_info_set = &d;
    assert_int_equal(fixture_request(&f, &r).err, OK);
    row_is(&f, BUCKET_CLUSTER, "downgrade", "{\"target-version\":\"3.6.0\",\"enabled\":true}");
    fixture_reopen(&f);
    assert_true(engine_downgrade(f.e, version));
    assert_string_equal(version, "3.6.0");
    d.enabled = false;
    assert_int_equal(fixture_request(&f, &r).err, OK);
    row_is(&f, BUCKET_CLUSTER, "downgrade", "{\"target-version\":\"\",\"enabled\":false}");
    assert_false(engine_downgrade(f.e, version));
    assert_string_equal(version, "");
    fixture_reopen(&f);
    engine_cluster_version(f.e, version);
    assert_string_equal(version, "3.7.0");
    size_t n;
    struct member_info *m = engine_members(f.e, &n);
    assert_string_equal(m[0].name, "node \"1\"");
    free(m);
    fixture_deinit(&f);
}

/* As etcd 3.4 and 3.5 write it: every scalar is there, zero or not. Without a value: as nobody should. */
static struct apply_result old_request(struct fixture *f, bool wrapped, const char *method,
                                       const char *path, const char *value)
{
    struct bytes b = {0};
    struct bytes outer = {0};
    wire_add_uint(&b, 1, 4711);
    wire_add_message(&b, 2, slice_str(method));
    wire_add_message(&b, 3, slice_str(path));
    if (value != NULL) {
        wire_add_message(&b, 4, slice_str(value));
    }
    bytes_add(&b, "\x28\x00\x32\x00\x38\x00\x48\x00\x50\x00\x58\x00\x60\x00\x68\x00\x70\x00\x78\x00"
                  "\x80\x01\x00", 23);
    wire_add_message(&outer, 2, bytes_slice(&b));
    struct apply_result r = fixture_apply(f, 0, bytes_slice(wrapped ? &outer : &b), true);
    bytes_deinit(&b);
    bytes_deinit(&outer);
    return r;
}

static void old_members_publish(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *value;
        enum err err;
    } rows[] = {
        {"PUT", "/0/members/8E9E05c52164694d/attributes",
         "{\"name\":\"old\",\"clientURLs\":[\"http://o:2379\"]}", OK},
        {"PUT", "/0/members/77/attributes", "{\"name\":\"unknown\"}", OK},
        {"PUT", "/0/members/8e9e05c52164694d/attributes", "{\"name\":", ERR_INVALID},
        {"PUT", "/0/members/8e9e05c52164694d1/attributes", "{}", ERR_UNSUPPORTED},
        {"PUT", "/0/members//attributes", "{}", ERR_UNSUPPORTED},
        {"PUT", "/0/members/8e9e05c52164694g/attributes", "{}", ERR_UNSUPPORTED},
        {"PUT", "/0/members/8e9e05c52164694d/raftAttributes", "{}", ERR_UNSUPPORTED},
        {"PUT", "/1/anything", "x", ERR_UNSUPPORTED},
        {"DELETE", "/0/members/8e9e05c52164694d/attributes", "{}", ERR_UNSUPPORTED},
        {"SYNC", "", "", ERR_UNSUPPORTED},
        {"PUT", "/0/version", "3.5", ERR_INVALID},
        {"PUT", "/0/version", NULL, ERR_INVALID},
        {"PUT", "/0/members/77/attributes", NULL, ERR_INVALID},
        {"PUT", "/0/version", "3.5.0", OK},
    };
    for (int wrapped = 0; wrapped < 2; wrapped++) {
        struct fixture f;
        fixture_init(&f, ON_MEMORY);
        assert_int_equal(change(&f, ADD, 0x8e9e05c52164694dull,
                                "{\"id\":" BIG ",\"peerURLs\":[\"http://a:2380\"]}"),
                         OK);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            struct apply_result r =
                old_request(&f, wrapped == 1, rows[i].method, rows[i].path, rows[i].value);
            if (r.err != rows[i].err || r.request_id != 4711) {
                fail_msg("%s %s: %s", rows[i].method, rows[i].path, err_text(r.err));
            }
        }
        row_is(&f, BUCKET_MEMBERS, "8e9e05c52164694d",
               "{\"id\":" BIG ",\"peerURLs\":[\"http://a:2380\"],\"name\":\"old\","
               "\"clientURLs\":[\"http://o:2379\"]}");
        row_is(&f, BUCKET_CLUSTER, "clusterVersion", "3.5.0");
        assert_int_equal(engine_revision(f.e), 1);
        fixture_deinit(&f);
    }
}

#define LEARNER(id, url) "{\"id\":" id ",\"peerURLs\":[\"" url "\"],\"isLearner\":true}"

static void learners_are_bounded(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    assert_int_equal(change(&f, ADD, 1, "{\"id\":1,\"peerURLs\":[\"http://a\"]}"), OK);
    engine_set_max_learners(f.e, 1);
    assert_int_equal(change(&f, ADD_LEARNER, 2, LEARNER("2", "http://b")), OK);
    assert_int_equal(change(&f, ADD_LEARNER, 3, LEARNER("3", "http://c")), ERR_TOO_MANY_LEARNERS);
    /* In etcd's order: what is wrong with the member itself comes first. */
    assert_int_equal(change(&f, ADD_LEARNER, 2, LEARNER("2", "http://c")), ERR_MEMBER_EXISTS);
    assert_int_equal(change(&f, ADD_LEARNER, 3, LEARNER("3", "http://a")), ERR_PEER_URL_EXISTS);
    row_is(&f, BUCKET_MEMBERS, "3", NULL);
    row_is(&f, BUCKET_META, "confState",
           "{\"voters\":[1],\"learners\":[2],\"auto_leave\":false}");
    /* Another place is free once it was promoted. */
    assert_int_equal(change(&f, ADD, 2, "{\"id\":2,\"peerURLs\":null,\"isPromote\":true}"), OK);
    assert_int_equal(change(&f, ADD_LEARNER, 3, LEARNER("3", "http://c")), OK);
    engine_set_max_learners(f.e, ENGINE_NO_LEARNERS);
    assert_int_equal(change(&f, ADD_LEARNER, 4, LEARNER("4", "http://d")), ERR_TOO_MANY_LEARNERS);
    engine_set_max_learners(f.e, 0);
    assert_int_equal(change(&f, ADD_LEARNER, 4, LEARNER("4", "http://d")), OK);
    struct engine_conf c;
    engine_conf(f.e, &c);
    assert_int_equal(c.n_voters, 2);
    assert_int_equal(c.n_learners, 2);
    assert_int_equal(c.learners[1], 4);
    fixture_deinit(&f);
}

/* Raft refuses it, and the rows must not say otherwise. */
static void the_last_voter_stays(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    assert_int_equal(change(&f, ADD, 1, "{\"id\":1,\"peerURLs\":[\"http://a\"]}"), OK);
    assert_int_equal(change(&f, ADD_LEARNER, 2, LEARNER("2", "http://b")), OK);
    assert_int_equal(change(&f, REMOVE, 1, NULL), ERR_INVALID);
    row_is(&f, BUCKET_MEMBERS_REMOVED, "1", NULL);
    row_is(&f, BUCKET_META, "confState",
           "{\"voters\":[1],\"learners\":[2],\"auto_leave\":false}");
    fixture_deinit(&f);
}

static void a_change_is_answered_by_its_id(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t packed[256];
    Raftpb__ConfChange cc = RAFTPB__CONF_CHANGE__INIT;
    fixture_init(&f, ON_MEMORY);
    cc.has_id = 1;
    cc.id = 99;
    cc.has_node_id = 1;
    cc.node_id = 5;
    cc.has_type = 1;
    cc.type = RAFTPB__CONF_CHANGE_TYPE__ConfChangeRemoveNode;
    size_t len = raftpb__conf_change__pack(&cc, packed);
    struct apply_result r = fixture_apply(&f, 1, slice_of(packed, len), true);
    assert_int_equal(r.request_id, 99);
    assert_int_equal(r.err, ERR_MEMBER_NOT_FOUND);
    fixture_deinit(&f);
}

static enum err change_v2(struct fixture *f, int transition, const int *types, const uint64_t *ids,
                          size_t n, const char *context)
{
    Raftpb__ConfChangeV2 cc = RAFTPB__CONF_CHANGE_V2__INIT;
    Raftpb__ConfChangeSingle single[4];
    Raftpb__ConfChangeSingle *list[4];
    for (size_t i = 0; i < n; i++) {
        raftpb__conf_change_single__init(&single[i]);
        single[i].has_type = 1;
        single[i].type = (Raftpb__ConfChangeType)types[i];
        single[i].has_node_id = 1;
        single[i].node_id = ids[i];
        list[i] = &single[i];
    }
    cc.has_transition = 1;
    cc.transition = (Raftpb__ConfChangeTransition)transition;
    cc.n_changes = n;
    cc.changes = list;
    cc.has_context = context != NULL;
    if (context != NULL) {
        cc.context = fixture_bytes(context);
    }
    uint8_t packed[512];
    size_t len = raftpb__conf_change_v2__pack(&cc, packed);
    return fixture_apply(f, 2, slice_of(packed, len), true).err;
}

static void joint_configurations(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    assert_int_equal(change_v2(&f, 0, (int[]){ADD}, (uint64_t[]){1}, 1,
                               "{\"id\":1,\"peerURLs\":[\"http://a\"]}"),
                     OK);
    assert_int_equal(change(&f, ADD, 2, "{\"id\":2,\"peerURLs\":[\"http://b\"]}"), OK);
    row_is(&f, BUCKET_META, "confState", "{\"voters\":[1,2],\"auto_leave\":false}");
    assert_int_equal(change_v2(&f, 0, (int[]){REMOVE, ADD}, (uint64_t[]){2, 3}, 2,
                               "{\"id\":3,\"peerURLs\":[\"http://c\"]}"),
                     OK);
    row_is(&f, BUCKET_META, "confState",
           "{\"voters\":[1,3],\"voters_outgoing\":[1,2],\"auto_leave\":true}");
    assert_int_equal(change_v2(&f, 0, NULL, NULL, 0, NULL), OK);
    row_is(&f, BUCKET_META, "confState", "{\"voters\":[1,3],\"auto_leave\":false}");
    assert_int_equal(change_v2(&f, 2, (int[]){ADD_LEARNER}, (uint64_t[]){3}, 1, NULL), OK);
    row_is(&f, BUCKET_META, "confState",
           "{\"voters\":[1],\"voters_outgoing\":[1,3],\"learners_next\":[3],\"auto_leave\":false}");
    fixture_reopen(&f);
    assert_int_equal(change_v2(&f, 0, NULL, NULL, 0, NULL), OK);
    row_is(&f, BUCKET_META, "confState", "{\"voters\":[1],\"learners\":[3],\"auto_leave\":false}");
    fixture_deinit(&f);
}

static void json_reader(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
        const char *name;
    } cases[] = {
        {"{}", true, ""},
        {" { \"name\" : \"a\\u00e9\\n\\\"\" , \"id\" : 18446744073709551615 } ", true,
         "a\xc3\xa9\n\""},
        {"{\"name\":\"\\ud83d\\ude00\"}", true, "\xf0\x9f\x98\x80"},
        {"{\"x\":[1,-2.5e3,true,null,{\"y\":\"z\"}],\"name\":\"n\"}", true, "n"},
        {"{\"peerURLs\":null}", true, ""},
        {"", false, NULL},
        {"{", false, NULL},
        {"{\"id\":18446744073709551616}", false, NULL},
        {"{\"id\":-1}", false, NULL},
        {"{\"name\":\"\\ud83d\"}", false, NULL},
        {"{\"name\":\"a\\u0000b\"}", false, NULL},
        {"{\"name\":\"\x01\"}", false, NULL},
        {"{\"name\":\"open}", false, NULL},
        {"{\"a\":1,}", false, NULL},
        {"{} x", false, NULL},
        {"[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]", false, NULL},
        {"{\"x\":[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]}", false, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct member_json m;
        enum err err = member_json_decode(slice_str(cases[i].text), &m);
        if ((err == OK) != cases[i].good) {
            fail_msg("%s: %s", cases[i].text, err_text(err));
        }
        if (err == OK) {
            assert_string_equal((const char *)m.text.data + m.name, cases[i].name);
        }
        member_json_deinit(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_and_go),
        cmocka_unit_test(attributes_and_versions),
        cmocka_unit_test(old_members_publish),
        cmocka_unit_test(learners_are_bounded),
        cmocka_unit_test(the_last_voter_stays),
        cmocka_unit_test(a_change_is_answered_by_its_id),
        cmocka_unit_test(joint_configurations),
        cmocka_unit_test(json_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
