/* auth_method.h - what each method of every service needs while authentication is on.
 *
 * What        One list. A method that is served and not listed does not build: cmake/methods.cmake compares the tables of all services with this list before
 *             the library is linked; and auth_path_<id> below, the name to be used in such a table, exists only for what is listed.
 * Callers     api/etcd before it runs a call; tests.   Thread  any.
 * Source      etcd-v3-api.md 1.1 and 8.6; GHSA-q8m4-xhhv-38mg (methods that were reachable by nobody).
 */
#ifndef API_ETCD_AUTH_METHOD_H
#define API_ETCD_AUTH_METHOD_H

#include "engine/auth.h"

enum auth_need {
    AUTH_NEED_NOTHING,
    AUTH_NEED_KNOWN,   /* any identity */
    AUTH_NEED_ROOT,    /* before the call is run */
    AUTH_NEED_ALARM,   /* GET: any identity, else root (auth_alarm_admit) */
    AUTH_NEED_DEMANDS, /* what the request demands: local reads and watches when they are served (auth_check_demands), the rest when it is applied */
    AUTH_NEED_LEASE,   /* any identity, and the demands about the lease's keys */
    AUTH_NEED_APPLIED, /* root, or about oneself: when it is applied (auth_gate) */
    AUTH_NEED_CALLS,   /* nothing by itself: the calls that it makes on the caller's behalf are checked with his identity */
};

/* X(id, path, need) */
#define AUTH_METHODS(X)                                                                                                \
    X(kv_range, "/etcdserverpb.KV/Range", AUTH_NEED_DEMANDS)                                                           \
    X(kv_range_stream, "/etcdserverpb.KV/RangeStream", AUTH_NEED_DEMANDS)                                              \
    X(kv_put, "/etcdserverpb.KV/Put", AUTH_NEED_DEMANDS)                                                               \
    X(kv_delete_range, "/etcdserverpb.KV/DeleteRange", AUTH_NEED_DEMANDS)                                              \
    X(kv_txn, "/etcdserverpb.KV/Txn", AUTH_NEED_DEMANDS)                                                               \
    X(kv_compact, "/etcdserverpb.KV/Compact", AUTH_NEED_ROOT)                                                          \
    X(watch_watch, "/etcdserverpb.Watch/Watch", AUTH_NEED_DEMANDS)                                                     \
    X(lease_grant, "/etcdserverpb.Lease/LeaseGrant", AUTH_NEED_KNOWN)                                                  \
    X(lease_revoke, "/etcdserverpb.Lease/LeaseRevoke", AUTH_NEED_LEASE)                                                \
    X(lease_keep_alive, "/etcdserverpb.Lease/LeaseKeepAlive", AUTH_NEED_LEASE)                                         \
    X(lease_time_to_live, "/etcdserverpb.Lease/LeaseTimeToLive", AUTH_NEED_LEASE)                                      \
    X(lease_leases, "/etcdserverpb.Lease/LeaseLeases", AUTH_NEED_LEASE)                                                \
    X(cluster_member_add, "/etcdserverpb.Cluster/MemberAdd", AUTH_NEED_ROOT)                                           \
    X(cluster_member_remove, "/etcdserverpb.Cluster/MemberRemove", AUTH_NEED_ROOT)                                     \
    X(cluster_member_update, "/etcdserverpb.Cluster/MemberUpdate", AUTH_NEED_ROOT)                                     \
    X(cluster_member_promote, "/etcdserverpb.Cluster/MemberPromote", AUTH_NEED_ROOT)                                   \
    X(cluster_member_list, "/etcdserverpb.Cluster/MemberList", AUTH_NEED_KNOWN)                                        \
    X(maintenance_alarm, "/etcdserverpb.Maintenance/Alarm", AUTH_NEED_ALARM)                                           \
    X(maintenance_status, "/etcdserverpb.Maintenance/Status", AUTH_NEED_KNOWN)                                         \
    X(maintenance_defragment, "/etcdserverpb.Maintenance/Defragment", AUTH_NEED_ROOT)                                  \
    X(maintenance_hash, "/etcdserverpb.Maintenance/Hash", AUTH_NEED_ROOT)                                              \
    X(maintenance_hash_kv, "/etcdserverpb.Maintenance/HashKV", AUTH_NEED_ROOT)                                         \
    X(maintenance_snapshot, "/etcdserverpb.Maintenance/Snapshot", AUTH_NEED_ROOT)                                      \
    X(maintenance_move_leader, "/etcdserverpb.Maintenance/MoveLeader", AUTH_NEED_ROOT)                                 \
    X(maintenance_downgrade, "/etcdserverpb.Maintenance/Downgrade", AUTH_NEED_ROOT)                                    \
    X(auth_enable, "/etcdserverpb.Auth/AuthEnable", AUTH_NEED_APPLIED)                                                 \
    X(auth_disable, "/etcdserverpb.Auth/AuthDisable", AUTH_NEED_APPLIED)                                               \
    X(auth_status, "/etcdserverpb.Auth/AuthStatus", AUTH_NEED_NOTHING)                                                 \
    X(auth_authenticate, "/etcdserverpb.Auth/Authenticate", AUTH_NEED_NOTHING)                                         \
    X(auth_user_add, "/etcdserverpb.Auth/UserAdd", AUTH_NEED_APPLIED)                                                  \
    X(auth_user_get, "/etcdserverpb.Auth/UserGet", AUTH_NEED_APPLIED)                                                  \
    X(auth_user_list, "/etcdserverpb.Auth/UserList", AUTH_NEED_APPLIED)                                                \
    X(auth_user_delete, "/etcdserverpb.Auth/UserDelete", AUTH_NEED_APPLIED)                                            \
    X(auth_user_change_password, "/etcdserverpb.Auth/UserChangePassword", AUTH_NEED_APPLIED)                           \
    X(auth_user_grant_role, "/etcdserverpb.Auth/UserGrantRole", AUTH_NEED_APPLIED)                                     \
    X(auth_user_revoke_role, "/etcdserverpb.Auth/UserRevokeRole", AUTH_NEED_APPLIED)                                   \
    X(auth_role_add, "/etcdserverpb.Auth/RoleAdd", AUTH_NEED_APPLIED)                                                  \
    X(auth_role_get, "/etcdserverpb.Auth/RoleGet", AUTH_NEED_APPLIED)                                                  \
    X(auth_role_list, "/etcdserverpb.Auth/RoleList", AUTH_NEED_APPLIED)                                                \
    X(auth_role_delete, "/etcdserverpb.Auth/RoleDelete", AUTH_NEED_APPLIED)                                            \
    X(auth_role_grant_permission, "/etcdserverpb.Auth/RoleGrantPermission", AUTH_NEED_APPLIED)                         \
    X(auth_role_revoke_permission, "/etcdserverpb.Auth/RoleRevokePermission", AUTH_NEED_APPLIED)                       \
    X(lock_lock, "/v3lockpb.Lock/Lock", AUTH_NEED_CALLS)                                                               \
    X(lock_unlock, "/v3lockpb.Lock/Unlock", AUTH_NEED_CALLS)                                                           \
    X(election_campaign, "/v3electionpb.Election/Campaign", AUTH_NEED_CALLS)                                           \
    X(election_proclaim, "/v3electionpb.Election/Proclaim", AUTH_NEED_CALLS)                                           \
    X(election_leader, "/v3electionpb.Election/Leader", AUTH_NEED_CALLS)                                               \
    X(election_observe, "/v3electionpb.Election/Observe", AUTH_NEED_CALLS)                                             \
    X(election_resign, "/v3electionpb.Election/Resign", AUTH_NEED_CALLS)                                               \
    X(health_check, "/grpc.health.v1.Health/Check", AUTH_NEED_NOTHING)                                                 \
    X(health_list, "/grpc.health.v1.Health/List", AUTH_NEED_NOTHING)                                                   \
    X(health_watch, "/grpc.health.v1.Health/Watch", AUTH_NEED_NOTHING)

#define AUTH_METHOD_PATH(id, path, need) extern const char auth_path_##id[];
AUTH_METHODS(AUTH_METHOD_PATH)
#undef AUTH_METHOD_PATH

/* false: no such method is listed. */
bool auth_method_need(const char *path, enum auth_need *out);

/* What can be said before the call is run: AUTH_NEED_KNOWN, _ROOT and the first half of _LEASE; the rest passes here and is asked where the
 * comments above say. ERR_PERMISSION_DENIED for a method that is not listed. */
MUST_CHECK enum err auth_method_admit(const char *path, struct auth *a, const struct auth_identity *id);
/* Maintenance/Alarm, by its action. */
MUST_CHECK enum err auth_alarm_admit(const Etcdserverpb__AlarmRequest *r, struct auth *a, const struct auth_identity *id);

#endif
