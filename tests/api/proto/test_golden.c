/* The wire form of our messages against bytes that etcd writes for the same content.
 *
 * Each case builds a message, encodes it and compares it with the expected bytes; then the bytes
 * are decoded, which must leave no unknown field at the top, and encoded again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/proto/election.pb-c.h"
#include "api/proto/health.pb-c.h"
#include "api/proto/lease.pb-c.h"
#include "api/proto/lock.pb-c.h"
#include "api/proto/raft.pb-c.h"
#include "api/proto/raft_internal.pb-c.h"
#include "api/proto/rpc.pb-c.h"

#define WIRE_MAX 256u

static ProtobufCBinaryData binary(const char *s)
{
    return (ProtobufCBinaryData){.len = strlen(s), .data = (uint8_t *)(uintptr_t)s};
}

static void check(const ProtobufCMessage *m, const char *want, size_t n_want)
{
    uint8_t got[WIRE_MAX];
    assert_true(protobuf_c_message_get_packed_size(m) <= sizeof(got));
    assert_int_equal(protobuf_c_message_pack(m, got), n_want);
    assert_memory_equal(got, want, n_want);

    ProtobufCMessage *back =
        protobuf_c_message_unpack(m->descriptor, NULL, n_want, (const uint8_t *)want);
    assert_non_null(back);
    assert_int_equal(back->n_unknown_fields, 0);
    memset(got, 0, sizeof(got));
    assert_int_equal(protobuf_c_message_pack(back, got), n_want);
    assert_memory_equal(got, want, n_want);
    protobuf_c_message_free_unpacked(back, NULL);
}

#define CHECK(message, bytes) check(&(message).base, bytes, sizeof(bytes) - 1)

static void test_kv_requests(void **state)
{
    (void)state;
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = binary("foo");
    put.value = binary("bar");
    CHECK(put, "\x0a\x03"
               "foo\x12\x03"
               "bar");
    put.value = binary("");
    put.lease = -1;
    put.prev_kv = put.ignore_value = put.ignore_lease = 1;
    CHECK(put, "\x0a\x03"
               "foo\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x20\x01\x28\x01\x30\x01");

    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    range.key = (ProtobufCBinaryData){.len = 1, .data = (uint8_t *)(uintptr_t) ""};
    range.range_end = range.key;
    range.limit = 500;
    range.revision = 7;
    range.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
    range.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE;
    range.serializable = range.keys_only = range.count_only = 1;
    range.min_mod_revision = 1;
    range.max_mod_revision = 2;
    range.min_create_revision = 3;
    range.max_create_revision = 4;
    CHECK(range, "\x0a\x01\x00\x12\x01\x00\x18\xf4\x03\x20\x07\x28\x02\x30\x04\x38\x01\x40\x01"
                 "\x48\x01\x50\x01\x58\x02\x60\x03\x68\x04");
}

static void test_txn(void **state)
{
    (void)state;
    Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT;
    compare.result = ETCDSERVERPB__COMPARE__COMPARE_RESULT__NOT_EQUAL;
    compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__LEASE;
    compare.key = binary("k");
    compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE;
    compare.lease = 0;
    compare.range_end = binary("l");
    /* A member of a oneof is written even when zero: that it is there is the information. */
    CHECK(compare, "\x08\x03\x10\x04\x1a\x01k\x40\x00\x82\x04\x01l");

    Etcdserverpb__DeleteRangeRequest del = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    del.key = binary("k");
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT;
    op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    op.request_delete_range = &del;
    Etcdserverpb__RequestOp *ops[] = {&op};
    Etcdserverpb__Compare *compares[] = {&compare};
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    txn.n_compare = txn.n_success = 1;
    txn.compare = compares;
    txn.success = ops;
    CHECK(txn, "\x0a\x0d\x08\x03\x10\x04\x1a\x01k\x40\x00\x82\x04\x01l\x12\x05\x1a\x03\x0a\x01k");
}

static void test_watch(void **state)
{
    (void)state;
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    Etcdserverpb__WatchCreateRequest__FilterType filters[] = {
        ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT,
        ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE};
    create.key = binary("k");
    create.start_revision = 3;
    create.progress_notify = create.prev_kv = create.fragment = 1;
    create.filters = filters;
    create.n_filters = 2;
    create.watch_id = 9;
    CHECK(create, "\x0a\x01k\x18\x03\x20\x01\x2a\x02\x00\x01\x30\x01\x38\x09\x40\x01");

    Mvccpb__KeyValue kv = MVCCPB__KEY_VALUE__INIT;
    kv.key = binary("k");
    kv.create_revision = 2;
    kv.mod_revision = 3;
    kv.version = 2;
    kv.value = binary("v");
    kv.lease = 1;
    Mvccpb__Event event = MVCCPB__EVENT__INIT;
    event.type = MVCCPB__EVENT__EVENT_TYPE__DELETE;
    event.kv = &kv;
    Mvccpb__Event *events[] = {&event};
    Etcdserverpb__WatchResponse response = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    response.watch_id = 1;
    response.n_events = 1;
    response.events = events;
    CHECK(response, "\x10\x01\x5a\x12\x08\x01\x12\x0e\x0a\x01k\x10\x02\x18\x03\x20\x02\x2a\x01v"
                    "\x30\x01");
}

static void test_raft_zeros_are_written(void **state)
{
    (void)state;
    Raftpb__Entry entry = RAFTPB__ENTRY__INIT;
    entry.has_type = entry.has_term = entry.has_index = 1;
    entry.type = RAFTPB__ENTRY_TYPE__EntryNormal;
    entry.index = 300;
    CHECK(entry, "\x08\x00\x10\x00\x18\xac\x02");

    Raftpb__HardState hard = RAFTPB__HARD_STATE__INIT;
    hard.has_term = hard.has_vote = hard.has_commit = 1;
    hard.term = 2;
    hard.commit = 5;
    CHECK(hard, "\x08\x02\x10\x00\x18\x05");

    Raftpb__Message m = RAFTPB__MESSAGE__INIT;
    m.has_type = m.has_to = m.has_from = m.has_term = m.has_logterm = m.has_index = 1;
    m.has_commit = m.has_reject = m.has_rejecthint = 1;
    m.type = RAFTPB__MESSAGE_TYPE__MsgHeartbeat;
    m.to = 1;
    m.from = 2;
    m.term = 3;
    CHECK(m, "\x08\x08\x10\x01\x18\x02\x20\x03\x28\x00\x30\x00\x40\x00\x50\x00\x58\x00");

    Raftpb__ConfChange change = RAFTPB__CONF_CHANGE__INIT;
    change.has_id = change.has_type = change.has_node_id = change.has_context = 1;
    change.type = RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddLearnerNode;
    change.node_id = 6;
    change.context = binary("{}");
    CHECK(change, "\x08\x00\x10\x03\x18\x06\x22\x02{}");
}

static void test_internal_requests(void **state)
{
    (void)state;
    Etcdserverpb__RequestHeader header = ETCDSERVERPB__REQUEST_HEADER__INIT;
    header.id = 5;
    Membershippb__ClusterVersionSetRequest version =
        MEMBERSHIPPB__CLUSTER_VERSION_SET_REQUEST__INIT;
    version.ver = (char *)(uintptr_t) "3.7.0";
    Etcdserverpb__InternalRaftRequest request = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    request.header = &header;
    request.cluster_version_set = &version;
    CHECK(request, "\xa2\x06\x02\x08\x05\xa2\x51\x07\x0a\x05"
                   "3.7.0");

    Etcdserverpb__AuthRoleRevokePermissionRequest revoke =
        ETCDSERVERPB__AUTH_ROLE_REVOKE_PERMISSION_REQUEST__INIT;
    request = (Etcdserverpb__InternalRaftRequest)ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    request.id = 1;
    request.auth_role_revoke_permission = &revoke;
    CHECK(request, "\x08\x01\xa2\x4b\x00");

    Etcdserverpb__DowngradeVersionTestRequest down =
        ETCDSERVERPB__DOWNGRADE_VERSION_TEST_REQUEST__INIT;
    request = (Etcdserverpb__InternalRaftRequest)ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    request.downgrade_version_test = &down;
    CHECK(request, "\xe2\xea\x04\x00");
}

static void test_small_services(void **state)
{
    (void)state;
    V3lockpb__LockRequest lock = V3LOCKPB__LOCK_REQUEST__INIT;
    lock.name = binary("n");
    lock.lease = 2;
    CHECK(lock, "\x0a\x01n\x10\x02");

    V3electionpb__LeaderKey leader = V3ELECTIONPB__LEADER_KEY__INIT;
    leader.name = binary("n");
    leader.key = binary("k");
    leader.rev = 3;
    leader.lease = 4;
    CHECK(leader, "\x0a\x01n\x12\x01k\x18\x03\x20\x04");

    Leasepb__Lease lease = LEASEPB__LEASE__INIT;
    lease.id = 1;
    lease.ttl = 60;
    lease.remainingttl = 30;
    CHECK(lease, "\x08\x01\x10\x3c\x18\x1e");

    Grpc__Health__V1__HealthCheckResponse health = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    health.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    CHECK(health, "\x08\x01");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_requests),
        cmocka_unit_test(test_txn),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_raft_zeros_are_written),
        cmocka_unit_test(test_internal_requests),
        cmocka_unit_test(test_small_services),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
