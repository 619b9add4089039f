/* auth.c - auth, user and role. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/proto/auth.pb-c.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/print.h"

const struct flag user_add_flags[] = {
    {"interactive", 0, FLAG_BOOL, "true",
     "ask for the password; else take a word of standard input"},
    {"new-user-password", 0, FLAG_STRING, NULL, "the password"},
    {"no-password", 0, FLAG_BOOL, NULL, "a user who is known by certificate only"},
    {0}};
const struct flag user_get_flags[] = {
    {"detail", 0, FLAG_BOOL, NULL, "show what the roles permit, too"}, {0}};
const struct flag user_passwd_flags[] = {
    {"interactive", 0, FLAG_BOOL, "true",
     "ask for the password; else take a word of standard input"},
    {0}};
const struct flag role_permission_flags[] = {
    {"from-key", 0, FLAG_BOOL, NULL, "all keys from the given one on"},
    {"prefix", 0, FLAG_BOOL, NULL, "all keys that begin with the given one"},
    {0}};

static void need_args(const struct ctl *ctl, size_t n, const char *text)
{
    if (ctl->n_args != n) {
        ctl_fail(EXIT_BAD_ARGS, "%s", text);
    }
}

/* A call whose answer is nothing but a header, which is the first field of all of them. */
struct plain {
    const char *path;
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *answer;
};

/* true: the format is not the simple one, and the answer is printed. */
static bool run_plain(struct ctl *ctl, const struct plain *p)
{
    ctl_connect(ctl);
    ProtobufCMessage *m = ctl_call(ctl, p->path, p->request, false, p->answer, 0, EXIT_ERROR);
    bool printed =
        print_bare(ctl, m, ((const Etcdserverpb__AuthRoleAddResponse *)(const void *)m)->header);
    protobuf_c_message_free_unpacked(m, NULL);
    return printed;
}

/* ---- auth ---- */

static void no_args(const struct ctl *ctl)
{
    if (ctl->n_args != 0) {
        ctl_fail(EXIT_BAD_ARGS, "%s command does not accept any arguments", ctl->command->path);
    }
}

int auth_status_run(struct ctl *ctl)
{
    no_args(ctl);
    Etcdserverpb__AuthStatusRequest request = ETCDSERVERPB__AUTH_STATUS_REQUEST__INIT;
    ctl_connect(ctl);
    Etcdserverpb__AuthStatusResponse *r =
        ctl_call(ctl, "/etcdserverpb.Auth/AuthStatus", &request.base, true,
                 &etcdserverpb__auth_status_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    if (ctl->format == FORMAT_FIELDS) {
        print_unsupported(FORMAT_FIELDS);
    }
    if (!print_message(ctl, &r->base)) {
        (void)printf("Authentication Status: %s\nAuthRevision: %" PRIu64 "\n", yes_no(r->enabled),
                     r->authrevision);
    }
    etcdserverpb__auth_status_response__free_unpacked(r, NULL);
    return 0;
}

static void make_root_role(struct ctl *ctl, deadline_ns deadline)
{
    Etcdserverpb__AuthRoleAddRequest role = ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT;
    Etcdserverpb__AuthUserGrantRoleRequest grant = ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT;
    role.name = text_field("root");
    grant.user = text_field("root");
    grant.role = text_field("root");
    protobuf_c_message_free_unpacked(ctl_call(ctl, "/etcdserverpb.Auth/RoleAdd", &role.base, false,
                                              &etcdserverpb__auth_role_add_response__descriptor,
                                              deadline, EXIT_ERROR),
                                     NULL);
    protobuf_c_message_free_unpacked(
        ctl_call(ctl, "/etcdserverpb.Auth/UserGrantRole", &grant.base, false,
                 &etcdserverpb__auth_user_grant_role_response__descriptor, deadline, EXIT_ERROR),
        NULL);
}

int auth_enable_run(struct ctl *ctl)
{
    no_args(ctl);
    ctl_connect(ctl);
    deadline_ns deadline = ctl_deadline(ctl);
    Etcdserverpb__AuthEnableRequest request = ETCDSERVERPB__AUTH_ENABLE_REQUEST__INIT;
    for (;;) {
        struct failure f;
        ProtobufCMessage *r = NULL;
        if (conn_call(ctl->conn, "/etcdserverpb.Auth/AuthEnable", &request.base, false,
                      &etcdserverpb__auth_enable_response__descriptor, deadline, &r, &f)) {
            protobuf_c_message_free_unpacked(r, NULL);
            (void)puts("Authentication Enabled");
            return 0;
        }
        if (!failure_is(&f, "etcdserver: root user does not have root role")) {
            ctl_fail_with(EXIT_ERROR, &f);
        }
        make_root_role(ctl, deadline);
    }
}

int auth_disable_run(struct ctl *ctl)
{
    no_args(ctl);
    Etcdserverpb__AuthDisableRequest request = ETCDSERVERPB__AUTH_DISABLE_REQUEST__INIT;
    ctl_connect(ctl);
    protobuf_c_message_free_unpacked(
        ctl_call(ctl, "/etcdserverpb.Auth/AuthDisable", &request.base, false,
                 &etcdserverpb__auth_disable_response__descriptor, ctl_deadline(ctl), EXIT_ERROR),
        NULL);
    (void)puts("Authentication Disabled");
    return 0;
}

/* ---- user ---- */

static const char *new_password(struct ctl *ctl, const char *user)
{
    if (!flag_yes(&ctl->flags, "interactive")) {
        return ctl_read_word(ctl);
    }
    struct bytes prompt = {0};
    bytes_printf(&prompt, "Password of %s: ", user);
    const char *first = ctl_ask_password(ctl, cli_dup(ctl->arena, prompt.data, prompt.len));
    if (*first == '\0') {
        ctl_fail(EXIT_BAD_ARGS, "empty password");
    }
    bytes_reset(&prompt);
    bytes_printf(&prompt, "Type password of %s again for confirmation: ", user);
    const char *second = ctl_ask_password(ctl, cli_dup(ctl->arena, prompt.data, prompt.len));
    bytes_deinit(&prompt);
    if (strcmp(first, second) != 0) {
        ctl_fail(EXIT_BAD_ARGS, "given passwords are different");
    }
    return first;
}

int user_add_run(struct ctl *ctl)
{
    need_args(ctl, 1, "user add command requires user name as its argument");
    const char *user = ctl->args[0];
    const char *password = "";
    const char *colon = strchr(user, ':');
    Authpb__UserAddOptions options = AUTHPB__USER_ADD_OPTIONS__INIT;
    options.no_password = flag_yes(&ctl->flags, "no-password");
    if (options.no_password) {
        password = "";
    } else if (*flag_text(&ctl->flags, "new-user-password") != '\0') {
        password = flag_text(&ctl->flags, "new-user-password");
    } else if (colon == user) {
        ctl_fail(EXIT_BAD_ARGS, "empty user name is not allowed");
    } else if (colon != NULL) {
        user = cli_dup(ctl->arena, user, (size_t)(colon - user));
        password = colon + 1;
    } else {
        password = new_password(ctl, user);
    }
    Etcdserverpb__AuthUserAddRequest request = ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
    request.name = text_field(user);
    request.password = text_field(password);
    request.options = &options;
    if (!run_plain(ctl, &(struct plain){"/etcdserverpb.Auth/UserAdd", &request.base,
                                        &etcdserverpb__auth_user_add_response__descriptor})) {
        (void)printf("User %s created\n", user);
    }
    return 0;
}

int user_delete_run(struct ctl *ctl)
{
    need_args(ctl, 1, "user delete command requires user name as its argument");
    Etcdserverpb__AuthUserDeleteRequest request = ETCDSERVERPB__AUTH_USER_DELETE_REQUEST__INIT;
    request.name = text_field(ctl->args[0]);
    if (!run_plain(ctl, &(struct plain){"/etcdserverpb.Auth/UserDelete", &request.base,
                                        &etcdserverpb__auth_user_delete_response__descriptor})) {
        (void)printf("User %s deleted\n", ctl->args[0]);
    }
    return 0;
}

int user_passwd_run(struct ctl *ctl)
{
    need_args(ctl, 1, "user passwd command requires user name as its argument");
    Etcdserverpb__AuthUserChangePasswordRequest request =
        ETCDSERVERPB__AUTH_USER_CHANGE_PASSWORD_REQUEST__INIT;
    request.name = text_field(ctl->args[0]);
    request.password = text_field(new_password(ctl, ctl->args[0]));
    if (!run_plain(
            ctl, &(struct plain){"/etcdserverpb.Auth/UserChangePassword", &request.base,
                                 &etcdserverpb__auth_user_change_password_response__descriptor})) {
        (void)puts("Password updated");
    }
    return 0;
}

int user_grant_role_run(struct ctl *ctl)
{
    need_args(ctl, 2, "user grant command requires user name and role name as its argument");
    Etcdserverpb__AuthUserGrantRoleRequest request =
        ETCDSERVERPB__AUTH_USER_GRANT_ROLE_REQUEST__INIT;
    request.user = text_field(ctl->args[0]);
    request.role = text_field(ctl->args[1]);
    if (!run_plain(ctl,
                   &(struct plain){"/etcdserverpb.Auth/UserGrantRole", &request.base,
                                   &etcdserverpb__auth_user_grant_role_response__descriptor})) {
        (void)printf("Role %s is granted to user %s\n", ctl->args[1], ctl->args[0]);
    }
    return 0;
}

int user_revoke_role_run(struct ctl *ctl)
{
    need_args(ctl, 2, "user revoke-role requires user name and role name as its argument");
    Etcdserverpb__AuthUserRevokeRoleRequest request =
        ETCDSERVERPB__AUTH_USER_REVOKE_ROLE_REQUEST__INIT;
    request.name = text_field(ctl->args[0]);
    request.role = text_field(ctl->args[1]);
    if (!run_plain(ctl,
                   &(struct plain){"/etcdserverpb.Auth/UserRevokeRole", &request.base,
                                   &etcdserverpb__auth_user_revoke_role_response__descriptor})) {
        (void)printf("Role %s is revoked from user %s\n", ctl->args[1], ctl->args[0]);
    }
    return 0;
}

static Etcdserverpb__AuthRoleGetResponse *get_role(struct ctl *ctl, const char *name)
{
    Etcdserverpb__AuthRoleGetRequest request = ETCDSERVERPB__AUTH_ROLE_GET_REQUEST__INIT;
    request.role = text_field(name);
    return ctl_call(ctl, "/etcdserverpb.Auth/RoleGet", &request.base, true,
                    &etcdserverpb__auth_role_get_response__descriptor, 0, EXIT_ERROR);
}

static void print_role(struct ctl *ctl, const char *name,
                       const Etcdserverpb__AuthRoleGetResponse *r);

int user_get_run(struct ctl *ctl)
{
    need_args(ctl, 1, "user get command requires user name as its argument");
    Etcdserverpb__AuthUserGetRequest request = ETCDSERVERPB__AUTH_USER_GET_REQUEST__INIT;
    request.name = text_field(ctl->args[0]);
    ctl_connect(ctl);
    Etcdserverpb__AuthUserGetResponse *r =
        ctl_call(ctl, "/etcdserverpb.Auth/UserGet", &request.base, true,
                 &etcdserverpb__auth_user_get_response__descriptor, 0, EXIT_ERROR);
    if (flag_yes(&ctl->flags, "detail")) {
        (void)printf("User: %s\n", ctl->args[0]);
        for (size_t i = 0; i < r->n_roles; i++) {
            (void)puts("");
            Etcdserverpb__AuthRoleGetResponse *role = get_role(ctl, r->roles[i]);
            print_role(ctl, r->roles[i], role);
            etcdserverpb__auth_role_get_response__free_unpacked(role, NULL);
        }
    } else if (ctl->format == FORMAT_FIELDS) {
        print_unsupported(FORMAT_FIELDS);
    } else if (!print_message(ctl, &r->base)) {
        (void)printf("User: %s\nRoles:", ctl->args[0]);
        for (size_t i = 0; i < r->n_roles; i++) {
            (void)printf(" %s", r->roles[i]);
        }
        (void)puts("");
    }
    etcdserverpb__auth_user_get_response__free_unpacked(r, NULL);
    return 0;
}

int user_list_run(struct ctl *ctl)
{
    need_args(ctl, 0, "user list command requires no arguments");
    Etcdserverpb__AuthUserListRequest request = ETCDSERVERPB__AUTH_USER_LIST_REQUEST__INIT;
    ctl_connect(ctl);
    Etcdserverpb__AuthUserListResponse *r =
        ctl_call(ctl, "/etcdserverpb.Auth/UserList", &request.base, true,
                 &etcdserverpb__auth_user_list_response__descriptor, 0, EXIT_ERROR);
    if (ctl->format == FORMAT_FIELDS) {
        print_unsupported(FORMAT_FIELDS);
    }
    if (!print_message(ctl, &r->base)) {
        for (size_t i = 0; i < r->n_users; i++) {
            (void)puts(r->users[i]);
        }
    }
    etcdserverpb__auth_user_list_response__free_unpacked(r, NULL);
    return 0;
}

/* ---- role ---- */

static void print_raw(struct slice s)
{
    if (s.len > 0) {
        (void)fwrite(s.data, 1, s.len, stdout);
    }
}

static void print_range(struct ctl *ctl, const Authpb__Permission *p)
{
    struct slice key = slice_of_binary(p->key);
    struct slice end = slice_of_binary(p->range_end);
    (void)putchar('\t');
    if (end.len == 0) {
        print_raw(key);
        (void)puts("");
        return;
    }
    (void)putchar('[');
    print_raw(key);
    (void)fputs(", ", stdout);
    if (slice_eq(end, slice_of("\0", 1))) {
        (void)fputs("<open ended>", stdout);
    } else {
        print_raw(end);
        (void)putchar(')');
    }
    if (key.len > 0 && slice_eq(ctl_prefix_end(ctl->arena, key), end)) {
        (void)fputs(" (prefix ", stdout);
        print_raw(key);
        (void)putchar(')');
    }
    (void)puts("");
}

static void print_permissions(struct ctl *ctl, const Etcdserverpb__AuthRoleGetResponse *r,
                              Authpb__Permission__Type type, bool everything)
{
    (void)puts(type == AUTHPB__PERMISSION__TYPE__READ ? "KV Read:" : "KV Write:");
    if (everything) {
        (void)puts("\t[, <open ended>");
    }
    for (size_t i = 0; i < r->n_perm; i++) {
        if (r->perm[i]->permtype == type ||
            r->perm[i]->permtype == AUTHPB__PERMISSION__TYPE__READWRITE) {
            print_range(ctl, r->perm[i]);
        }
    }
}

static void print_role(struct ctl *ctl, const char *name,
                       const Etcdserverpb__AuthRoleGetResponse *r)
{
    static const char *const types[] = {"READ", "WRITE", "READWRITE"};
    if (print_message(ctl, &r->base)) {
        return;
    }
    if (ctl->format == FORMAT_SIMPLE) {
        bool everything = strcmp(name, "root") == 0 && r->n_perm == 0;
        (void)printf("Role %s\n", name);
        print_permissions(ctl, r, AUTHPB__PERMISSION__TYPE__READ, everything);
        print_permissions(ctl, r, AUTHPB__PERMISSION__TYPE__WRITE, everything);
        return;
    }
    fields_header(ctl, r->header);
    for (size_t i = 0; i < r->n_perm; i++) {
        const Authpb__Permission *p = r->perm[i];
        (void)printf("\"PermType\" :  %s\n",
                     (size_t)p->permtype < ARRAY_LEN(types) ? types[p->permtype] : "");
        fields_text("Key", slice_of_binary(p->key));
        fields_text("RangeEnd", slice_of_binary(p->range_end));
    }
}

int role_add_run(struct ctl *ctl)
{
    need_args(ctl, 1, "role add command requires role name as its argument");
    Etcdserverpb__AuthRoleAddRequest request = ETCDSERVERPB__AUTH_ROLE_ADD_REQUEST__INIT;
    request.name = text_field(ctl->args[0]);
    if (!run_plain(ctl, &(struct plain){"/etcdserverpb.Auth/RoleAdd", &request.base,
                                        &etcdserverpb__auth_role_add_response__descriptor})) {
        (void)printf("Role %s created\n", ctl->args[0]);
    }
    return 0;
}

int role_delete_run(struct ctl *ctl)
{
    need_args(ctl, 1, "role delete command requires role name as its argument");
    Etcdserverpb__AuthRoleDeleteRequest request = ETCDSERVERPB__AUTH_ROLE_DELETE_REQUEST__INIT;
    request.role = text_field(ctl->args[0]);
    if (!run_plain(ctl, &(struct plain){"/etcdserverpb.Auth/RoleDelete", &request.base,
                                        &etcdserverpb__auth_role_delete_response__descriptor})) {
        (void)printf("Role %s deleted\n", ctl->args[0]);
    }
    return 0;
}

int role_get_run(struct ctl *ctl)
{
    need_args(ctl, 1, "role get command requires role name as its argument");
    ctl_connect(ctl);
    Etcdserverpb__AuthRoleGetResponse *r = get_role(ctl, ctl->args[0]);
    print_role(ctl, ctl->args[0], r);
    etcdserverpb__auth_role_get_response__free_unpacked(r, NULL);
    return 0;
}

int role_list_run(struct ctl *ctl)
{
    need_args(ctl, 0, "role list command requires no arguments");
    Etcdserverpb__AuthRoleListRequest request = ETCDSERVERPB__AUTH_ROLE_LIST_REQUEST__INIT;
    ctl_connect(ctl);
    Etcdserverpb__AuthRoleListResponse *r =
        ctl_call(ctl, "/etcdserverpb.Auth/RoleList", &request.base, true,
                 &etcdserverpb__auth_role_list_response__descriptor, 0, EXIT_ERROR);
    if (!print_message(ctl, &r->base)) {
        if (ctl->format == FORMAT_FIELDS) {
            fields_header(ctl, r->header);
            fields_text_list("Roles", r->roles, r->n_roles);
        }
        for (size_t i = 0; i < r->n_roles && ctl->format == FORMAT_SIMPLE; i++) {
            (void)puts(r->roles[i]);
        }
    }
    etcdserverpb__auth_role_list_response__free_unpacked(r, NULL);
    return 0;
}

/* The range of the words from `first` on. */
static struct key_range permission_range(const struct ctl *ctl, size_t first)
{
    bool prefix = flag_yes(&ctl->flags, "prefix");
    bool from_key = flag_yes(&ctl->flags, "from-key");
    struct slice key = slice_str(ctl->args[first]);
    bool has_end = ctl->n_args > first + 1;
    if (prefix && from_key && (key.len == 0 || !has_end)) {
        ctl_fail(EXIT_BAD_ARGS, "--from-key and --prefix flags are mutually exclusive");
    }
    if (key.len == 0) {
        return (struct key_range){slice_of("\0", 1), slice_of("\0", prefix || from_key ? 1 : 0)};
    }
    if (has_end && (prefix || from_key)) {
        ctl_fail(EXIT_BAD_ARGS, "unexpected endkey argument with --%s flag",
                 prefix ? "prefix" : "from-key");
    }
    if (prefix) {
        return ctl_prefix_range(ctl->arena, key);
    }
    return from_key ? ctl_from_range(key)
                    : (struct key_range){key, slice_str(has_end ? ctl->args[first + 1] : "")};
}

int role_grant_permission_run(struct ctl *ctl)
{
    static const char *const types[] = {"read", "write", "readwrite"};
    if (ctl->n_args < 3) {
        ctl_fail(EXIT_BAD_ARGS, "role grant command requires role name, permission type, and key "
                                "[endkey] as its argument");
    }
    size_t type = 0;
    while (type < ARRAY_LEN(types) && strcasecmp(types[type], ctl->args[1]) != 0) {
        type++;
    }
    if (type == ARRAY_LEN(types)) {
        ctl_fail(EXIT_BAD_ARGS, "invalid permission type: %s", ctl->args[1]);
    }
    struct key_range range = permission_range(ctl, 2);
    Authpb__Permission permission = AUTHPB__PERMISSION__INIT;
    permission.permtype = (Authpb__Permission__Type)type;
    permission.key = binary(range.key);
    permission.range_end = binary(range.end);
    Etcdserverpb__AuthRoleGrantPermissionRequest request =
        ETCDSERVERPB__AUTH_ROLE_GRANT_PERMISSION_REQUEST__INIT;
    request.name = text_field(ctl->args[0]);
    request.perm = &permission;
    if (!run_plain(
            ctl, &(struct plain){"/etcdserverpb.Auth/RoleGrantPermission", &request.base,
                                 &etcdserverpb__auth_role_grant_permission_response__descriptor})) {
        (void)printf("Role %s updated\n", ctl->args[0]);
    }
    return 0;
}

int role_revoke_permission_run(struct ctl *ctl)
{
    if (ctl->n_args < 2) {
        ctl_fail(
            EXIT_BAD_ARGS,
            "role revoke-permission command requires role name and key [endkey] as its argument");
    }
    struct key_range range = permission_range(ctl, 1);
    Etcdserverpb__AuthRoleRevokePermissionRequest request =
        ETCDSERVERPB__AUTH_ROLE_REVOKE_PERMISSION_REQUEST__INIT;
    request.role = text_field(ctl->args[0]);
    request.key = binary(range.key);
    request.range_end = binary(range.end);
    if (run_plain(ctl, &(struct plain){
                           "/etcdserverpb.Auth/RoleRevokePermission", &request.base,
                           &etcdserverpb__auth_role_revoke_permission_response__descriptor})) {
        return 0;
    }
    if (range.end.len == 0) {
        (void)printf("Permission of key %s is revoked from role %s\n", ctl->args[1], ctl->args[0]);
        return 0;
    }
    (void)printf("Permission of range [%s, ", ctl->args[1]);
    if (slice_eq(range.end, slice_of("\0", 1))) {
        (void)fputs("<open ended>", stdout);
    } else {
        print_raw(range.end);
        (void)putchar(')');
    }
    (void)printf(" is revoked from role %s\n", ctl->args[0]);
    return 0;
}
