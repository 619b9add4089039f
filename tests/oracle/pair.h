/* pair.h - the same request to both servers, and their replies compared.
 *
 * What        A step is one request with both outcomes. Steps of one run are outstanding together,
 *             so they must not depend on each other's order.
 * Callers     the oracle test.   Thread  one.
 * Invariants  After a run every step has a status on both sides, and replies where both are OK.
 */
#ifndef TESTS_ORACLE_PAIR_H
#define TESTS_ORACLE_PAIR_H

#include "api/client/client.h"
#include "world.h"

#define STEPS_MAX 64u   /* in one run */
#define CALL_MS 30000u  /* no answer by then is a difference */
#define SHOWN_MAX 6000u /* bytes of a reply printed in a report */

enum side_id { ORACLE = 0, SUBJECT = 1, N_SIDES = 2 };

/* X(name, "/service/Method", request, reply): short names of generated descriptors. */
#define METHODS(X)                                                                                 \
    X(RANGE, "etcdserverpb.KV/Range", range_request, range_response)                               \
    X(PUT, "etcdserverpb.KV/Put", put_request, put_response)                                       \
    X(DELETE, "etcdserverpb.KV/DeleteRange", delete_range_request, delete_range_response)          \
    X(TXN, "etcdserverpb.KV/Txn", txn_request, txn_response)                                       \
    X(COMPACT, "etcdserverpb.KV/Compact", compaction_request, compaction_response)                 \
    X(GRANT, "etcdserverpb.Lease/LeaseGrant", lease_grant_request, lease_grant_response)           \
    X(REVOKE, "etcdserverpb.Lease/LeaseRevoke", lease_revoke_request, lease_revoke_response)       \
    X(TIME_TO_LIVE, "etcdserverpb.Lease/LeaseTimeToLive", lease_time_to_live_request,              \
      lease_time_to_live_response)                                                                 \
    X(LEASES, "etcdserverpb.Lease/LeaseLeases", lease_leases_request, lease_leases_response)       \
    X(ALARM, "etcdserverpb.Maintenance/Alarm", alarm_request, alarm_response)                      \
    X(STATUS, "etcdserverpb.Maintenance/Status", status_request, status_response)                  \
    X(HASH_KV, "etcdserverpb.Maintenance/HashKV", hash_kvrequest, hash_kvresponse)                 \
    X(DEFRAGMENT, "etcdserverpb.Maintenance/Defragment", defragment_request, defragment_response)  \
    X(MOVE_LEADER, "etcdserverpb.Maintenance/MoveLeader", move_leader_request,                     \
      move_leader_response)                                                                        \
    X(DOWNGRADE, "etcdserverpb.Maintenance/Downgrade", downgrade_request, downgrade_response)      \
    X(MEMBER_LIST, "etcdserverpb.Cluster/MemberList", member_list_request, member_list_response)   \
    X(MEMBER_ADD, "etcdserverpb.Cluster/MemberAdd", member_add_request, member_add_response)       \
    X(MEMBER_UPDATE, "etcdserverpb.Cluster/MemberUpdate", member_update_request,                   \
      member_update_response)                                                                      \
    X(MEMBER_PROMOTE, "etcdserverpb.Cluster/MemberPromote", member_promote_request,                \
      member_promote_response)

enum method {
#define METHOD_ENUM(name, path, request, reply) M_##name,
    METHODS(METHOD_ENUM)
#undef METHOD_ENUM
        N_METHODS
};

struct outcome {
    bool done;
    struct client_status status;
    ProtobufCMessage *reply; /* NULL unless the code is OK; owned */
    struct step *step;
    enum side_id side;
};

struct step {
    enum method method;
    const ProtobufCMessage *request[N_SIDES]; /* borrowed; mostly the same one twice */
    struct outcome outcome[N_SIDES];
    uint64_t number; /* of the request in this program run */
};

struct pair {
    struct client *clients[N_SIDES]; /* owned */
    const char *names[N_SIDES];
    struct world *world;
    uint64_t seed;
    uint64_t n_requests;
    uint64_t n_by_method[N_METHODS];
    uint64_t n_errors;  /* requests that both refused alike */
    uint64_t n_allowed; /* differences that a rule passed over */
    bool gave_up;       /* the oracle timed out or went away where the subject answered */
};

const char *method_name(enum method m);

/* Make a step of one request for both sides. */
struct step step_of(enum method m, const void *request);

/* Send all, wait for all, compare in order. False when they differ or a side is lost; the report is
 * printed then. Replies stay until pair_release. */
bool pair_run(struct pair *p, struct step *steps, size_t n);
void pair_release(struct step *steps, size_t n);

/* Run one step and release it; the live revision is taken over from the reply. */
bool pair_one(struct pair *p, enum method m, const void *request);

/* Compare two replies to a Range by the rules, in any order of equal sort keys. Prints and returns
 * false when they differ. */
bool pair_compare(struct pair *p, struct step *s);

/* The header.revision of a reply, 0 without one. */
int64_t reply_revision(const ProtobufCMessage *reply);

#endif
