/* routes.c - see routes.h. */
#include "api/gateway/routes.h"

#include <string.h>

#include "api/proto/election.pb-c.h"
#include "api/proto/lock.pb-c.h"
#include "api/proto/rpc.pb-c.h"

const struct route gateway_routes[] = {
    {"/v3/kv/range", "/etcdserverpb.KV/Range", GRPC_UNARY, &etcdserverpb__range_request__descriptor, &etcdserverpb__range_response__descriptor},
    {"/v3/kv/put", "/etcdserverpb.KV/Put", GRPC_UNARY, &etcdserverpb__put_request__descriptor, &etcdserverpb__put_response__descriptor},
    {"/v3/kv/deleterange", "/etcdserverpb.KV/DeleteRange", GRPC_UNARY, &etcdserverpb__delete_range_request__descriptor, &etcdserverpb__delete_range_response__descriptor},
    {"/v3/kv/txn", "/etcdserverpb.KV/Txn", GRPC_UNARY, &etcdserverpb__txn_request__descriptor, &etcdserverpb__txn_response__descriptor},
    {"/v3/kv/compaction", "/etcdserverpb.KV/Compact", GRPC_UNARY, &etcdserverpb__compaction_request__descriptor, &etcdserverpb__compaction_response__descriptor},
    {"/v3/watch", "/etcdserverpb.Watch/Watch", GRPC_BIDI, &etcdserverpb__watch_request__descriptor, &etcdserverpb__watch_response__descriptor},
    {"/v3/lease/grant", "/etcdserverpb.Lease/LeaseGrant", GRPC_UNARY, &etcdserverpb__lease_grant_request__descriptor, &etcdserverpb__lease_grant_response__descriptor},
    {"/v3/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke", GRPC_UNARY, &etcdserverpb__lease_revoke_request__descriptor, &etcdserverpb__lease_revoke_response__descriptor},
    {"/v3/kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke", GRPC_UNARY, &etcdserverpb__lease_revoke_request__descriptor, &etcdserverpb__lease_revoke_response__descriptor},
    {"/v3/lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive", GRPC_BIDI, &etcdserverpb__lease_keep_alive_request__descriptor, &etcdserverpb__lease_keep_alive_response__descriptor},
    {"/v3/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive", GRPC_UNARY, &etcdserverpb__lease_time_to_live_request__descriptor, &etcdserverpb__lease_time_to_live_response__descriptor},
    {"/v3/kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive", GRPC_UNARY, &etcdserverpb__lease_time_to_live_request__descriptor, &etcdserverpb__lease_time_to_live_response__descriptor},
    {"/v3/lease/leases", "/etcdserverpb.Lease/LeaseLeases", GRPC_UNARY, &etcdserverpb__lease_leases_request__descriptor, &etcdserverpb__lease_leases_response__descriptor},
    {"/v3/kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases", GRPC_UNARY, &etcdserverpb__lease_leases_request__descriptor, &etcdserverpb__lease_leases_response__descriptor},
    {"/v3/cluster/member/add", "/etcdserverpb.Cluster/MemberAdd", GRPC_UNARY, &etcdserverpb__member_add_request__descriptor, &etcdserverpb__member_add_response__descriptor},
    {"/v3/cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove", GRPC_UNARY, &etcdserverpb__member_remove_request__descriptor, &etcdserverpb__member_remove_response__descriptor},
    {"/v3/cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate", GRPC_UNARY, &etcdserverpb__member_update_request__descriptor, &etcdserverpb__member_update_response__descriptor},
    {"/v3/cluster/member/list", "/etcdserverpb.Cluster/MemberList", GRPC_UNARY, &etcdserverpb__member_list_request__descriptor, &etcdserverpb__member_list_response__descriptor},
    {"/v3/cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote", GRPC_UNARY, &etcdserverpb__member_promote_request__descriptor, &etcdserverpb__member_promote_response__descriptor},
    {"/v3/maintenance/alarm", "/etcdserverpb.Maintenance/Alarm", GRPC_UNARY, &etcdserverpb__alarm_request__descriptor, &etcdserverpb__alarm_response__descriptor},
    {"/v3/maintenance/status", "/etcdserverpb.Maintenance/Status", GRPC_UNARY, &etcdserverpb__status_request__descriptor, &etcdserverpb__status_response__descriptor},
    {"/v3/maintenance/defragment", "/etcdserverpb.Maintenance/Defragment", GRPC_UNARY, &etcdserverpb__defragment_request__descriptor, &etcdserverpb__defragment_response__descriptor},
    {"/v3/maintenance/hash", "/etcdserverpb.Maintenance/Hash", GRPC_UNARY, &etcdserverpb__hash_request__descriptor, &etcdserverpb__hash_response__descriptor},
    {"/v3/maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV", GRPC_UNARY, &etcdserverpb__hash_kvrequest__descriptor, &etcdserverpb__hash_kvresponse__descriptor},
    {"/v3/maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot", GRPC_SERVER_STREAM, &etcdserverpb__snapshot_request__descriptor, &etcdserverpb__snapshot_response__descriptor},
    {"/v3/maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader", GRPC_UNARY, &etcdserverpb__move_leader_request__descriptor, &etcdserverpb__move_leader_response__descriptor},
    {"/v3/maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade", GRPC_UNARY, &etcdserverpb__downgrade_request__descriptor, &etcdserverpb__downgrade_response__descriptor},
    {"/v3/auth/enable", "/etcdserverpb.Auth/AuthEnable", GRPC_UNARY, &etcdserverpb__auth_enable_request__descriptor, &etcdserverpb__auth_enable_response__descriptor},
    {"/v3/auth/disable", "/etcdserverpb.Auth/AuthDisable", GRPC_UNARY, &etcdserverpb__auth_disable_request__descriptor, &etcdserverpb__auth_disable_response__descriptor},
    {"/v3/auth/status", "/etcdserverpb.Auth/AuthStatus", GRPC_UNARY, &etcdserverpb__auth_status_request__descriptor, &etcdserverpb__auth_status_response__descriptor},
    {"/v3/auth/authenticate", "/etcdserverpb.Auth/Authenticate", GRPC_UNARY, &etcdserverpb__authenticate_request__descriptor, &etcdserverpb__authenticate_response__descriptor},
    {"/v3/auth/user/add", "/etcdserverpb.Auth/UserAdd", GRPC_UNARY, &etcdserverpb__auth_user_add_request__descriptor, &etcdserverpb__auth_user_add_response__descriptor},
    {"/v3/auth/user/get", "/etcdserverpb.Auth/UserGet", GRPC_UNARY, &etcdserverpb__auth_user_get_request__descriptor, &etcdserverpb__auth_user_get_response__descriptor},
    {"/v3/auth/user/list", "/etcdserverpb.Auth/UserList", GRPC_UNARY, &etcdserverpb__auth_user_list_request__descriptor, &etcdserverpb__auth_user_list_response__descriptor},
    {"/v3/auth/user/delete", "/etcdserverpb.Auth/UserDelete", GRPC_UNARY, &etcdserverpb__auth_user_delete_request__descriptor, &etcdserverpb__auth_user_delete_response__descriptor},
    {"/v3/auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword", GRPC_UNARY, &etcdserverpb__auth_user_change_password_request__descriptor, &etcdserverpb__auth_user_change_password_response__descriptor},
    {"/v3/auth/user/grant", "/etcdserverpb.Auth/UserGrantRole", GRPC_UNARY, &etcdserverpb__auth_user_grant_role_request__descriptor, &etcdserverpb__auth_user_grant_role_response__descriptor},
    {"/v3/auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole", GRPC_UNARY, &etcdserverpb__auth_user_revoke_role_request__descriptor, &etcdserverpb__auth_user_revoke_role_response__descriptor},
    {"/v3/auth/role/add", "/etcdserverpb.Auth/RoleAdd", GRPC_UNARY, &etcdserverpb__auth_role_add_request__descriptor, &etcdserverpb__auth_role_add_response__descriptor},
    {"/v3/auth/role/get", "/etcdserverpb.Auth/RoleGet", GRPC_UNARY, &etcdserverpb__auth_role_get_request__descriptor, &etcdserverpb__auth_role_get_response__descriptor},
    {"/v3/auth/role/list", "/etcdserverpb.Auth/RoleList", GRPC_UNARY, &etcdserverpb__auth_role_list_request__descriptor, &etcdserverpb__auth_role_list_response__descriptor},
    {"/v3/auth/role/delete", "/etcdserverpb.Auth/RoleDelete", GRPC_UNARY, &etcdserverpb__auth_role_delete_request__descriptor, &etcdserverpb__auth_role_delete_response__descriptor},
    {"/v3/auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission", GRPC_UNARY, &etcdserverpb__auth_role_grant_permission_request__descriptor, &etcdserverpb__auth_role_grant_permission_response__descriptor},
    {"/v3/auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission", GRPC_UNARY, &etcdserverpb__auth_role_revoke_permission_request__descriptor, &etcdserverpb__auth_role_revoke_permission_response__descriptor},
    {"/v3/lock/lock", "/v3lockpb.Lock/Lock", GRPC_UNARY, &v3lockpb__lock_request__descriptor, &v3lockpb__lock_response__descriptor},
    {"/v3/lock/unlock", "/v3lockpb.Lock/Unlock", GRPC_UNARY, &v3lockpb__unlock_request__descriptor, &v3lockpb__unlock_response__descriptor},
    {"/v3/election/campaign", "/v3electionpb.Election/Campaign", GRPC_UNARY, &v3electionpb__campaign_request__descriptor, &v3electionpb__campaign_response__descriptor},
    {"/v3/election/proclaim", "/v3electionpb.Election/Proclaim", GRPC_UNARY, &v3electionpb__proclaim_request__descriptor, &v3electionpb__proclaim_response__descriptor},
    {"/v3/election/leader", "/v3electionpb.Election/Leader", GRPC_UNARY, &v3electionpb__leader_request__descriptor, &v3electionpb__leader_response__descriptor},
    {"/v3/election/observe", "/v3electionpb.Election/Observe", GRPC_SERVER_STREAM, &v3electionpb__leader_request__descriptor, &v3electionpb__leader_response__descriptor},
    {"/v3/election/resign", "/v3electionpb.Election/Resign", GRPC_UNARY, &v3electionpb__resign_request__descriptor, &v3electionpb__resign_response__descriptor},
    {.path = NULL},
};

const struct route *route_find(const char *path)
{
    for (const struct route *r = gateway_routes; r->path != NULL; r++) {
        if (strcmp(r->path, path) == 0) {
            return r;
        }
    }
    return NULL;
}
