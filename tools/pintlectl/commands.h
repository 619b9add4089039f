/* commands.h - the table of all commands.
 *
 * What        Each command's name, usage, help, flags and function.
 * Callers     main.c, help.c, completion.c.   Thread  any.
 */
#ifndef TOOLS_PINTLECTL_COMMANDS_H
#define TOOLS_PINTLECTL_COMMANDS_H

#include <stdio.h>

#include "tools/pintlectl/ctl.h"

enum command_group {
    GROUP_KV,
    GROUP_CLUSTER,
    GROUP_CONCURRENCY,
    GROUP_AUTH,
    GROUP_UTILITY,
    N_GROUPS
};

struct command {
    const char *path; /* "endpoint health" */
    const char *use;  /* what stands behind the path in the usage line */
    const char *text; /* one line of help */
    const struct flag *flags;
    int (*run)(struct ctl *ctl); /* the exit code; NULL: a group of commands */
    enum command_group group;    /* of those without parents */
    bool any_place;              /* its flags are its children's, too */
};

extern const struct command commands[]; /* in order of registration, ended by one without a path */
extern const struct flag global_flags[];
const char *command_name(const struct command *c); /* the last word of its path */
/* `parent` NULL: it has no parent. */
bool command_is_child(const struct command *parent, const struct command *c);
/* The command that `word` or a beginning of it names among the children. NULL: none, or several. */
const struct command *command_child(const struct command *parent, const char *word);
/* The flags of a command with all it inherits. */
void command_flags(const struct command *c, struct arena *arena, struct flag_set *out);

/* help.c */
/* `c` NULL: the program's own. */
void help_page(const char *program, const struct command *c, FILE *out);
void help_usage(const char *program, const struct command *c, FILE *out);

/* completion.c: what may come for `partial` behind n words that name the command `at`, whose flags
 * are the run's; the exit code. */
int completion_answer(const struct ctl *ctl, const struct command *at, const char *const *words,
                      size_t n, const char *partial);

#define COMMAND(name) int name(struct ctl *ctl)
COMMAND(get_run);
COMMAND(put_run);
COMMAND(del_run);
COMMAND(txn_run);
COMMAND(compaction_run);
COMMAND(alarm_disarm_run);
COMMAND(alarm_list_run);
COMMAND(defrag_run);
COMMAND(endpoint_health_run);
COMMAND(endpoint_status_run);
COMMAND(endpoint_hashkv_run);
COMMAND(move_leader_run);
COMMAND(watch_run);
COMMAND(version_run);
COMMAND(lease_grant_run);
COMMAND(lease_revoke_run);
COMMAND(lease_timetolive_run);
COMMAND(lease_list_run);
COMMAND(lease_keepalive_run);
COMMAND(member_add_run);
COMMAND(member_remove_run);
COMMAND(member_update_run);
COMMAND(member_list_run);
COMMAND(member_promote_run);
COMMAND(snapshot_save_run);
COMMAND(make_mirror_run);
COMMAND(lock_run);
COMMAND(elect_run);
COMMAND(auth_enable_run);
COMMAND(auth_disable_run);
COMMAND(auth_status_run);
COMMAND(user_add_run);
COMMAND(user_delete_run);
COMMAND(user_get_run);
COMMAND(user_list_run);
COMMAND(user_passwd_run);
COMMAND(user_grant_role_run);
COMMAND(user_revoke_role_run);
COMMAND(role_add_run);
COMMAND(role_delete_run);
COMMAND(role_get_run);
COMMAND(role_list_run);
COMMAND(role_grant_permission_run);
COMMAND(role_revoke_permission_run);
COMMAND(downgrade_validate_run);
COMMAND(downgrade_enable_run);
COMMAND(downgrade_cancel_run);
COMMAND(check_perf_run);
COMMAND(check_datascale_run);
COMMAND(completion_run);
COMMAND(options_run);
COMMAND(help_run);
extern const struct flag check_perf_flags[], check_datascale_flags[], get_flags[], put_flags[],
    del_flags[], txn_flags[], compaction_flags[], defrag_flags[], endpoint_flags[],
    endpoint_hashkv_flags[], watch_flags[], lease_timetolive_flags[], lease_keepalive_flags[],
    member_add_flags[], member_update_flags[], member_list_flags[], make_mirror_flags[],
    lock_flags[], elect_flags[], user_add_flags[], user_get_flags[], user_passwd_flags[],
    role_permission_flags[];

#endif
