/* commands.c - the table, in etcdctl's order of registration, on which its suggestions depend. */
#include "tools/pintlectl/commands.h"

#include <stdio.h>
#include <string.h>

const struct flag global_flags[] = {
    {"auth-jwt-token", 0, FLAG_STRING, NULL,
     "a token to authenticate with, in the place of user and password"},
    {"cacert", 0, FLAG_STRING, NULL,
     "file of the authorities that servers' certificates are checked with"},
    {"cert", 0, FLAG_STRING, NULL, "file of our own certificate"},
    {"command-timeout", 0, FLAG_DURATION, "5s", "longest time that a short command may take"},
    {"debug", 0, FLAG_BOOL, NULL, "show the settings that are used"},
    {"dial-timeout", 0, FLAG_DURATION, "2s", "longest time that logging in may take"},
    {"discovery-srv", 'd', FLAG_STRING, NULL, "domain whose SRV records name the endpoints"},
    {"discovery-srv-name", 0, FLAG_STRING, NULL, "suffix of the service name of those records"},
    {"endpoints", 0, FLAG_STRINGS, "127.0.0.1:2379", "servers to ask, separated by commas"},
    {"hex", 0, FLAG_BOOL, NULL, "show bytes and IDs as hexadecimal numbers"},
    {"insecure-discovery", 0, FLAG_BOOL, "true", "take SRV records of servers without TLS, too"},
    {"insecure-skip-tls-verify", 0, FLAG_BOOL, NULL,
     "believe every server's certificate (only for tests)"},
    {"insecure-transport", 0, FLAG_BOOL, "true", "no TLS where nothing else asks for it"},
    {"keepalive-time", 0, FLAG_DURATION, "2s",
     "silence after which a server is asked for a sign of life"},
    {"keepalive-timeout", 0, FLAG_DURATION, "6s", "longest wait for that sign"},
    {"key", 0, FLAG_STRING, NULL, "file of the key of our own certificate"},
    {"max-recv-bytes", 0, FLAG_INT, NULL, "largest answer that is taken; 0 is 2147483647"},
    {"max-request-bytes", 0, FLAG_INT, NULL, "largest request that is sent; 0 is 2097152"},
    {"password", 0, FLAG_STRING, NULL, "password of the user, who is then named alone"},
    {"user", 0, FLAG_STRING, NULL, "name or name:password; asks for what is missing"},
    {"write-out", 'w', FLAG_STRING, "simple",
     "format of the output: fields, json, protobuf, simple or table"},
    {0}};

const struct command commands[] = {
    {"get", "[options] <key> [range_end]", "Shows a key or a range of keys", get_flags, get_run,
     GROUP_KV, false},
    {"put", "[options] <key> <value> (<value> can also be given from stdin)", "Writes a key",
     put_flags, put_run, GROUP_KV, false},
    {"del", "[options] <key> [range_end]", "Deletes a key or a range of keys", del_flags, del_run,
     GROUP_KV, false},
    {"txn", "[options]", "Runs a transaction that is read from standard input", txn_flags, txn_run,
     GROUP_KV, false},
    {"compaction", "[options] <revision>", "Forgets the history before a revision",
     compaction_flags, compaction_run, GROUP_KV, false},
    {"alarm", "", "Commands about alarms", NULL, NULL, GROUP_CLUSTER, false},
    {"alarm disarm", "", "Ends all alarms", NULL, alarm_disarm_run, GROUP_CLUSTER, false},
    {"alarm list", "", "Shows all alarms", NULL, alarm_list_run, GROUP_CLUSTER, false},
    {"defrag", "", "Gives free space in the files of the endpoints' stores back to the disk",
     defrag_flags, defrag_run, GROUP_CLUSTER, false},
    {"endpoint", "", "Commands about single endpoints", endpoint_flags, NULL, GROUP_CLUSTER, true},
    {"endpoint health", "", "Tells whether endpoints can write", NULL, endpoint_health_run,
     GROUP_CLUSTER, false},
    {"endpoint status", "", "Shows how endpoints are", NULL, endpoint_status_run, GROUP_CLUSTER,
     false},
    {"endpoint hashkv", "", "Shows the hash of each endpoint's keys and history",
     endpoint_hashkv_flags, endpoint_hashkv_run, GROUP_CLUSTER, false},
    {"move-leader", "<transferee-member-id>", "Makes another member the leader", NULL,
     move_leader_run, GROUP_CLUSTER, false},
    {"watch", "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
     "Shows changes of keys as they come", watch_flags, watch_run, GROUP_KV, false},
    {"version", "", "Shows the version of this program", NULL, version_run, GROUP_UTILITY, false},
    {"lease", "", "Commands about leases", NULL, NULL, GROUP_KV, false},
    {"lease grant", "<ttl>", "Makes a lease", NULL, lease_grant_run, GROUP_KV, false},
    {"lease revoke", "<leaseID>", "Ends a lease and deletes its keys", NULL, lease_revoke_run,
     GROUP_KV, false},
    {"lease timetolive", "<leaseID> [options]", "Shows how long a lease still lives",
     lease_timetolive_flags, lease_timetolive_run, GROUP_KV, false},
    {"lease list", "", "Shows all leases", NULL, lease_list_run, GROUP_KV, false},
    {"lease keep-alive", "[options] <leaseID>", "Renews a lease again and again",
     lease_keepalive_flags, lease_keepalive_run, GROUP_KV, false},
    {"member", "", "Commands about the members of the cluster", NULL, NULL, GROUP_CLUSTER, false},
    {"member add", "<memberName> [options]", "Adds a member", member_add_flags, member_add_run,
     GROUP_CLUSTER, false},
    {"member remove", "<memberID>", "Removes a member", NULL, member_remove_run, GROUP_CLUSTER,
     false},
    {"member update", "<memberID> [options]", "Changes the URLs of a member for its peers",
     member_update_flags, member_update_run, GROUP_CLUSTER, false},
    {"member list", "", "Shows all members", member_list_flags, member_list_run, GROUP_CLUSTER,
     false},
    {"member promote", "<memberID>", "Lets a learner vote", NULL, member_promote_run, GROUP_CLUSTER,
     false},
    {"snapshot", "", "Commands about copies of the store", NULL, NULL, GROUP_CLUSTER, false},
    {"snapshot save", "<filename>", "Copies the store of one endpoint to a file", NULL,
     snapshot_save_run, GROUP_CLUSTER, false},
    {"make-mirror", "[options] <destination>",
     "Copies keys to another cluster and follows their changes", make_mirror_flags, make_mirror_run,
     GROUP_UTILITY, false},
    {"lock", "<lockname> [exec-command arg1 arg2 ...]", "Takes a lock and holds it", lock_flags,
     lock_run, GROUP_CONCURRENCY, false},
    {"elect", "<election-name> [proposal]", "Stands for election, or shows who leads", elect_flags,
     elect_run, GROUP_CONCURRENCY, false},
    {"auth", "", "Commands about whether users have to log in", NULL, NULL, GROUP_AUTH, false},
    {"auth enable", "", "From now on users have to log in", NULL, auth_enable_run, GROUP_AUTH,
     false},
    {"auth disable", "", "From now on nobody has to log in", NULL, auth_disable_run, GROUP_AUTH,
     false},
    {"auth status", "", "Shows whether users have to log in", NULL, auth_status_run, GROUP_AUTH,
     false},
    {"user", "", "Commands about users", NULL, NULL, GROUP_AUTH, false},
    {"user add", "<user name or user:password> [options]", "Makes a user", user_add_flags,
     user_add_run, GROUP_AUTH, false},
    {"user delete", "<user name>", "Deletes a user", NULL, user_delete_run, GROUP_AUTH, false},
    {"user get", "<user name> [options]", "Shows a user's roles", user_get_flags, user_get_run,
     GROUP_AUTH, false},
    {"user list", "", "Shows all users", NULL, user_list_run, GROUP_AUTH, false},
    {"user passwd", "<user name> [options]", "Changes a password", user_passwd_flags,
     user_passwd_run, GROUP_AUTH, false},
    {"user grant-role", "<user name> <role name>", "Gives a role to a user", NULL,
     user_grant_role_run, GROUP_AUTH, false},
    {"user revoke-role", "<user name> <role name>", "Takes a role from a user", NULL,
     user_revoke_role_run, GROUP_AUTH, false},
    {"role", "", "Commands about roles", NULL, NULL, GROUP_AUTH, false},
    {"role add", "<role name>", "Makes a role", NULL, role_add_run, GROUP_AUTH, false},
    {"role delete", "<role name>", "Deletes a role", NULL, role_delete_run, GROUP_AUTH, false},
    {"role get", "<role name>", "Shows what a role permits", NULL, role_get_run, GROUP_AUTH, false},
    {"role list", "", "Shows all roles", NULL, role_list_run, GROUP_AUTH, false},
    {"role grant-permission", "[options] <role name> <permission type> <key> [endkey]",
     "Lets a role use keys", role_permission_flags, role_grant_permission_run, GROUP_AUTH, false},
    {"role revoke-permission", "<role name> <key> [endkey]", "Takes keys from a role",
     role_permission_flags, role_revoke_permission_run, GROUP_AUTH, false},
    {"check", "", "Commands that put a cluster to the test", NULL, NULL, GROUP_UTILITY, false},
    {"check perf", "[options]", "Tells whether a cluster is fast enough", check_perf_flags,
     check_perf_run, GROUP_UTILITY, false},
    {"check datascale", "[options]", "Tells how much memory a server needs for keys",
     check_datascale_flags, check_datascale_run, GROUP_UTILITY, false},
    {"completion", "[bash|zsh|fish|powershell]", "Writes a script that lets a shell complete words",
     NULL, completion_run, GROUP_UTILITY, false},
    {"downgrade", "", "Commands about going back to an older version", NULL, NULL, GROUP_CLUSTER,
     false},
    {"downgrade validate", "<TARGET_VERSION>", "Tells whether the cluster can go back to a version",
     NULL, downgrade_validate_run, GROUP_CLUSTER, false},
    {"downgrade enable", "<TARGET_VERSION>", "Prepares the cluster for a version", NULL,
     downgrade_enable_run, GROUP_CLUSTER, false},
    {"downgrade cancel", "", "Ends such a preparation", NULL, downgrade_cancel_run, GROUP_CLUSTER,
     false},
    {"options", "", "Shows the flags that all commands have", NULL, options_run, GROUP_UTILITY,
     false},
    {"help", "[command]", "Shows how to use a command", NULL, help_run, GROUP_UTILITY, false},
    {0}};

const char *command_name(const struct command *c)
{
    const char *space = strrchr(c->path, ' ');
    return space == NULL ? c->path : space + 1;
}

bool command_is_child(const struct command *parent, const struct command *c)
{
    if (parent == NULL) {
        return strchr(c->path, ' ') == NULL;
    }
    size_t n = strlen(parent->path);
    return strncmp(c->path, parent->path, n) == 0 && c->path[n] == ' ' &&
           strchr(c->path + n + 1, ' ') == NULL;
}

const struct command *command_child(const struct command *parent, const char *word)
{
    const struct command *found = NULL;
    size_t n_found = 0;
    for (const struct command *c = commands; c->path != NULL; c++) {
        if (!command_is_child(parent, c)) {
            continue;
        }
        if (strcmp(command_name(c), word) == 0) {
            return c;
        }
        if (strncmp(command_name(c), word, strlen(word)) == 0) {
            found = c;
            n_found++;
        }
    }
    return n_found == 1 ? found : NULL;
}

void command_flags(const struct command *c, struct arena *arena, struct flag_set *out)
{
    flags_init(out, arena);
    flags_add(out, global_flags);
    for (const struct command *p = commands; c != NULL && p->path != NULL; p++) {
        if (p->any_place && (p == c || command_is_child(p, c))) {
            flags_add(out, p->flags);
        }
    }
    out->n_inherited = out->n;
    if (c != NULL && !c->any_place) {
        flags_add(out, c->flags);
    }
}
