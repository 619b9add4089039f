/* status.c - see status.h. */
#include "api/etcd/status.h"

#include "base/assert.h"

static const struct status table[ERR_N] = {
    [OK] = {GRPC_OK, ""},
    /* This machine's troubles: the member is about to stop, or one record is bad. */
    [ERR_IO] = {GRPC_UNAVAILABLE, "etcdserver: server stopped"},
    [ERR_NO_DISK] = {GRPC_UNAVAILABLE, "etcdserver: server stopped"},
    [ERR_NO_MEM] = {GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests"},
    [ERR_CORRUPT] = {GRPC_DATA_LOSS, "etcdserver: corrupt cluster"},
    [ERR_FOREIGN] = {GRPC_INTERNAL, "foreign data"},
    [ERR_LOCKED] = {GRPC_INTERNAL, "in use"},
    [ERR_NOT_FOUND] = {GRPC_NOT_FOUND, "not found"},
    [ERR_EXISTS] = {GRPC_ALREADY_EXISTS, "exists already"},
    [ERR_PERM] = {GRPC_PERMISSION_DENIED, "etcdserver: permission denied"},
    [ERR_INVALID] = {GRPC_INVALID_ARGUMENT, "invalid request"},
    [ERR_LIMIT] = {GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests"},
    [ERR_BUSY] = {GRPC_UNKNOWN, "raft proposal dropped"},
    [ERR_CLOSED] = {GRPC_UNAVAILABLE, "etcdserver: server stopped"},
    [ERR_END] = {GRPC_INTERNAL, "end of data"},
    [ERR_UNSUPPORTED] = {GRPC_UNIMPLEMENTED, "not supported"},
    [ERR_ADDR_IN_USE] = {GRPC_INTERNAL, "address already in use"},
    [ERR_CANCELED] = {GRPC_CANCELED, "etcdserver: request canceled"},
    [ERR_DEADLINE] = {GRPC_DEADLINE_EXCEEDED, "context deadline exceeded"},
    /* etcd's. */
    [ERR_EMPTY_KEY] = {GRPC_INVALID_ARGUMENT, "etcdserver: key is not provided"},
    [ERR_KEY_NOT_FOUND] = {GRPC_INVALID_ARGUMENT, "etcdserver: key not found"},
    [ERR_VALUE_PROVIDED] = {GRPC_INVALID_ARGUMENT, "etcdserver: value is provided"},
    [ERR_LEASE_PROVIDED] = {GRPC_INVALID_ARGUMENT, "etcdserver: lease is provided"},
    [ERR_TOO_MANY_OPS] = {GRPC_INVALID_ARGUMENT, "etcdserver: too many operations in txn request"},
    [ERR_DUPLICATE_KEY] = {GRPC_INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"},
    [ERR_SORT_OPTION] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid sort option"},
    [ERR_COMPACTED] = {GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"},
    [ERR_FUTURE_REV] = {GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"},
    [ERR_NO_SPACE] = {GRPC_RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"},
    [ERR_LEASE_NOT_FOUND] = {GRPC_NOT_FOUND, "etcdserver: requested lease not found"},
    [ERR_LEASE_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: lease already exists"},
    [ERR_LEASE_TTL] = {GRPC_OUT_OF_RANGE, "etcdserver: too large lease TTL"},
    [ERR_MEMBER_NOT_FOUND] = {GRPC_NOT_FOUND, "etcdserver: member not found"},
    [ERR_REQUEST_TOO_LARGE] = {GRPC_INVALID_ARGUMENT, "etcdserver: request is too large"},
    [ERR_TOO_MANY_REQUESTS] = {GRPC_UNKNOWN, "etcdserver: too many requests"},
    [ERR_NO_LEADER] = {GRPC_UNAVAILABLE, "etcdserver: no leader"},
    [ERR_NOT_LEADER] = {GRPC_FAILED_PRECONDITION, "etcdserver: not leader"},
    [ERR_LEADER_CHANGED] = {GRPC_UNAVAILABLE, "etcdserver: leader changed"},
    [ERR_TIMEOUT] = {GRPC_UNAVAILABLE, "etcdserver: request timed out"},
    [ERR_STOPPED] = {GRPC_UNAVAILABLE, "etcdserver: server stopped"},
    [ERR_MEMBER_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: member ID already exist"},
    [ERR_PEER_URL_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"},
    [ERR_NOT_ENOUGH_STARTED] = {GRPC_UNKNOWN, "etcdserver: re-configuration failed due to not enough started members"},
    [ERR_UNHEALTHY] = {GRPC_UNAVAILABLE, "etcdserver: unhealthy cluster"},
    [ERR_NOT_LEARNER_MEMBER] = {GRPC_FAILED_PRECONDITION, "etcdserver: can only promote a learner member"},
    [ERR_LEARNER_NOT_READY] = {GRPC_FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader"},
    [ERR_TOO_MANY_LEARNERS] = {GRPC_FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"},
    [ERR_LEARNER] = {GRPC_FAILED_PRECONDITION, "etcdserver: rpc not supported for learner"},
    [ERR_BAD_TRANSFEREE] = {GRPC_FAILED_PRECONDITION, "etcdserver: bad leader transferee"},
    [ERR_TIMEOUT_LEADER] = {GRPC_UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure"},
    [ERR_TIMEOUT_CONN] = {GRPC_UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost"},
    [ERR_TIMEOUT_APPLIED] = {GRPC_UNAVAILABLE, "etcdserver: request timed out, waiting for the applied index took too long"},
    [ERR_TIMEOUT_TRANSFER] = {GRPC_UNKNOWN, "etcdserver: request timed out, leader transfer took too long"},
    [ERR_NOT_PRIMARY] = {GRPC_UNKNOWN, "not a primary lessor"},
    [ERR_CORRUPT_CLUSTER] = {GRPC_DATA_LOSS, "etcdserver: corrupt cluster"},
    [ERR_ROOT_USER_MISSING] = {GRPC_FAILED_PRECONDITION, "etcdserver: root user does not exist"},
    [ERR_ROOT_ROLE_MISSING] = {GRPC_FAILED_PRECONDITION, "etcdserver: root user does not have root role"},
    [ERR_USER_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: user name already exists"},
    [ERR_USER_EMPTY] = {GRPC_INVALID_ARGUMENT, "etcdserver: user name is empty"},
    [ERR_USER_NOT_FOUND] = {GRPC_FAILED_PRECONDITION, "etcdserver: user name not found"},
    [ERR_ROLE_EXISTS] = {GRPC_FAILED_PRECONDITION, "etcdserver: role name already exists"},
    [ERR_ROLE_NOT_FOUND] = {GRPC_FAILED_PRECONDITION, "etcdserver: role name not found"},
    [ERR_ROLE_EMPTY] = {GRPC_INVALID_ARGUMENT, "etcdserver: role name is empty"},
    [ERR_AUTH_FAILED] = {GRPC_INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"},
    [ERR_PERMISSION_NOT_GIVEN] = {GRPC_INVALID_ARGUMENT, "etcdserver: permission not given"},
    [ERR_PERMISSION_DENIED] = {GRPC_PERMISSION_DENIED, "etcdserver: permission denied"},
    [ERR_ROLE_NOT_GRANTED] = {GRPC_FAILED_PRECONDITION, "etcdserver: role is not granted to the user"},
    [ERR_PERMISSION_NOT_GRANTED] = {GRPC_FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"},
    [ERR_AUTH_NOT_ENABLED] = {GRPC_FAILED_PRECONDITION, "etcdserver: authentication is not enabled"},
    [ERR_AUTH_TOKEN] = {GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token"},
    [ERR_AUTH_MANAGEMENT] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid auth management"},
    [ERR_AUTH_OLD_REVISION] = {GRPC_INVALID_ARGUMENT, "etcdserver: revision of auth store is old"},
    [ERR_NO_PASSWORD_USER] = {GRPC_UNKNOWN, "auth: authentication failed, password was given for no password user"},
    [ERR_PASSWORD_LENGTH] = {GRPC_UNKNOWN, "bcrypt: password length exceeds 72 bytes"},
    [ERR_AUTH_VERIFY_ONLY] = {GRPC_UNKNOWN, "auth: token signing attempted with verify-only key"},
};

struct status status_of(enum err e)
{
    ASSERT(e >= OK && e < ERR_N);
    ASSERT(table[e].text != NULL);
    return table[e];
}

void status_finish(struct grpc_call *c, enum err e)
{
    ASSERT(e != OK);
    struct status s = status_of(e);
    grpc_finish(c, s.code, s.text);
}
