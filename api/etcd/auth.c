/* auth.c - the Auth service. Everything goes through the log; what is special are passwords.
 *
 * They are hashed and compared on libuv's workers, since that is meant to be slow, and no more than PASSWORD_WORK_MAX of a loop at a time. The log has
 * hashes only.
 *
 *     Authenticate:  read barrier -> hash of the user -> compare -> propose -> token in the reply? -> answer
 *                                         ^                            \-> sign it (JWT) -----------^
 *                                         \------- users have changed meanwhile ----/
 *
 * Names are C strings from here on, so one with a NUL byte is refused before it can be taken for a shorter one.
 * Source: etcd-v3-api.md 8.3; CVE-2021-28235.
 */
#include <stdlib.h>

#include <openssl/rand.h>
#include <uv.h>

#include "api/etcd/auth_method.h"
#include "api/etcd/auth_prepare.h"
#include "api/etcd/caller.h"
#include "base/mem.h"
#include "engine/auth_password.h"

enum { FIELD_AUTHENTICATE = 1012, FIELD_USER_ADD = 1100, FIELD_USER_CHANGE_PASSWORD = 1103 }; /* of InternalRaftRequest */
enum { REPLY_TOKEN = 2 };                                                                     /* of AuthenticateResponse */

/* Requests that go into the log as they come. */
static const struct {
    const char *path;
    const ProtobufCMessageDescriptor *request;
    uint32_t field; /* of InternalRaftRequest */
} proposed[] = {
    {auth_path_auth_enable, &etcdserverpb__auth_enable_request__descriptor, 1000},
    {auth_path_auth_disable, &etcdserverpb__auth_disable_request__descriptor, 1011},
    {auth_path_auth_status, &etcdserverpb__auth_status_request__descriptor, 1013},
    {auth_path_auth_user_get, &etcdserverpb__auth_user_get_request__descriptor, 1102},
    {auth_path_auth_user_list, &etcdserverpb__auth_user_list_request__descriptor, 1106},
    {auth_path_auth_user_delete, &etcdserverpb__auth_user_delete_request__descriptor, 1101},
    {auth_path_auth_user_grant_role, &etcdserverpb__auth_user_grant_role_request__descriptor, 1104},
    {auth_path_auth_user_revoke_role, &etcdserverpb__auth_user_revoke_role_request__descriptor, 1105},
    {auth_path_auth_role_add, &etcdserverpb__auth_role_add_request__descriptor, 1200},
    {auth_path_auth_role_get, &etcdserverpb__auth_role_get_request__descriptor, 1202},
    {auth_path_auth_role_list, &etcdserverpb__auth_role_list_request__descriptor, 1107},
    {auth_path_auth_role_delete, &etcdserverpb__auth_role_delete_request__descriptor, 1201},
    {auth_path_auth_role_grant_permission, &etcdserverpb__auth_role_grant_permission_request__descriptor, 1203},
    {auth_path_auth_role_revoke_permission, &etcdserverpb__auth_role_revoke_permission_request__descriptor, 1204},
};

/* No field of type string holds a NUL. Keys are bytes and may. */
static bool strings_fit(const ProtobufCMessageDescriptor *d, struct slice message)
{
    struct wire_field f;
    while (wire_next(&message, &f) == OK) {
        const ProtobufCFieldDescriptor *fd = protobuf_c_message_descriptor_get_field(d, f.number);
        if (f.type == WIRE_LEN && f.bytes.len > 0 && fd != NULL && fd->type == PROTOBUF_C_TYPE_STRING && memchr(f.bytes.data, 0, f.bytes.len) != NULL) {
            return false;
        }
    }
    return true;
}

/* NULL after ending the call. */
static void *decode(struct grpc_call *c, const ProtobufCMessageDescriptor *d, struct slice bytes, enum err unfit)
{
    void *q = request_decode(c, d, bytes);
    if (q != NULL && !strings_fit(d, bytes)) {
        status_finish(c, unfit);
        return NULL;
    }
    return q;
}

static void on_proposed(struct grpc_call *c, struct slice bytes)
{
    size_t i = 0;
    while (strcmp(proposed[i].path, grpc_call_method(c)->path) != 0) {
        i++;
        ASSERT(i < ARRAY_LEN(proposed));
    }
    if (decode(c, proposed[i].request, bytes, ERR_AUTH_MANAGEMENT) == NULL) {
        return;
    }
    struct request *r = request_create(c, MEMBER_PROPOSE, request_finish_proposal);
    if (r != NULL) {
        request_propose(r, proposed[i].field, bytes);
    }
}

/* --- work on passwords ------------------------------------------------------------------------------------------- */

/* One visit to a worker. In the call's arena, whose call is referenced meanwhile; nobody else touches what belongs to the work. */
struct work {
    uv_work_t work;
    struct grpc_call *call;
    enum err err;
    void (*run)(struct work *w);  /* worker */
    void (*done)(struct work *w); /* loop; the call goes on */
    /* Hashing. */
    void *message; /* AuthUserAddRequest or AuthUserChangePasswordRequest */
    unsigned cost;
    uint8_t salt[PASSWORD_SALT_BYTES];
    struct bytes encoded; /* what is to be proposed; released when it is */
    /* Logging in. */
    Etcdserverpb__AuthenticateRequest *login;
    char hash[AUTH_HASH_BYTES];
    uint64_t revision; /* of the users that `hash` is from */
    unsigned tries;
    struct auth_tokens *tokens;
    struct bytes token;
    int64_t reply_revision;
};

static struct work *work_create(struct grpc_call *c)
{
    struct work *w = arena_calloc(grpc_call_arena(c), 1, sizeof(*w));
    if (w == NULL) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return NULL;
    }
    w->call = c;
    w->work.data = w;
    w->tokens = server_of(c)->cfg.tokens;
    w->cost = server_of(c)->cfg.bcrypt_cost;
    return w;
}

static void work_run(uv_work_t *work)
{
    struct work *w = work->data;
    w->run(w);
}

/* Nothing stays behind when the call does not go on. */
static void work_drop(struct work *w)
{
    if (w->login != NULL) {
        password_wipe(w->login->password, strlen(w->login->password));
    }
    bytes_deinit(&w->encoded);
    bytes_deinit(&w->token);
}

static void work_done(uv_work_t *work, int status)
{
    struct work *w = work->data;
    struct grpc_call *c = w->call;
    loop_of(server_of(c), grpc_call_loop(c))->n_password_work--;
    enum err e = status != 0 ? ERR_STOPPED : w->err;
    if (e != OK) {
        work_drop(w);
        status_finish(c, e);
    } else if (grpc_call_ended(c)) {
        work_drop(w);
    } else {
        w->done(w);
    }
    grpc_call_unref(&c);
}

static void work_start(struct work *w, void (*run)(struct work *w), void (*done)(struct work *w))
{
    struct etcd_loop *l = loop_of(server_of(w->call), grpc_call_loop(w->call));
    if (l->n_password_work >= PASSWORD_WORK_MAX) {
        work_drop(w);
        status_finish(w->call, ERR_TOO_MANY_REQUESTS);
        return;
    }
    w->run = run;
    w->done = done;
    w->err = OK;
    l->n_password_work++;
    (void)grpc_call_ref(w->call);
    if (uv_queue_work(loop_uv(l->loop), &w->work, work_run, work_done) != 0) {
        work_done(&w->work, UV_ECANCELED);
    }
}

/* --- users with passwords ---------------------------------------------------------------------------------------- */

static void run_user_add(struct work *w)
{
    w->err = auth_prepare_user_add(w->message, w->cost, w->salt, &w->encoded);
}

static void run_change_password(struct work *w)
{
    w->err = auth_prepare_change_password(w->message, w->cost, w->salt, &w->encoded);
}

static void propose_hashed(struct work *w, uint32_t field)
{
    struct request *r = request_create(w->call, MEMBER_PROPOSE, request_finish_proposal);
    if (r != NULL) {
        request_propose(r, field, bytes_slice(&w->encoded));
    }
    work_drop(w);
}

static void done_user_add(struct work *w)
{
    propose_hashed(w, FIELD_USER_ADD);
}

static void done_change_password(struct work *w)
{
    propose_hashed(w, FIELD_USER_CHANGE_PASSWORD);
}

/* Who may not administer users anyway is told so before any time is spent on his password. */
static enum err check_administrator(struct grpc_call *c)
{
    struct auth_who who;
    enum err e = caller_identify(c, &who);
    const struct auth_identity id = auth_identity_of(&who);
    return e != OK ? e : auth_check_root(engine_auth(server_of(c)->engine), &id);
}

static void hash_start(struct grpc_call *c, void *message, void (*run)(struct work *w), void (*done)(struct work *w))
{
    enum err e = check_administrator(c);
    if (e != OK) {
        status_finish(c, e);
        return;
    }
    struct work *w = work_create(c);
    if (w == NULL) {
        return;
    }
    w->message = message;
    if (RAND_bytes(w->salt, sizeof(w->salt)) != 1) {
        status_finish(c, ERR_IO);
        return;
    }
    work_start(w, run, done);
}

static void on_user_add(struct grpc_call *c, struct slice bytes)
{
    void *q = decode(c, &etcdserverpb__auth_user_add_request__descriptor, bytes, ERR_AUTH_MANAGEMENT);
    if (q != NULL) {
        hash_start(c, q, run_user_add, done_user_add);
    }
}

static void on_user_change_password(struct grpc_call *c, struct slice bytes)
{
    void *q = decode(c, &etcdserverpb__auth_user_change_password_request__descriptor, bytes, ERR_AUTH_MANAGEMENT);
    if (q != NULL) {
        hash_start(c, q, run_change_password, done_change_password);
    }
}

/* --- logging in ------------------------------------------------------------------------------------------------------ */

static void login_begin(struct work *w);

static void login_refuse(struct work *w, enum err e)
{
    if (e != ERR_AUTH_NOT_ENABLED) {
        log_warn(server_of(w->call)->cfg.log, "invalid authentication was requested", F_STR("user", w->login->name), F_STR("error", err_text(e)));
    }
    work_drop(w);
    status_finish(w->call, e);
}

static void login_answer(struct work *w)
{
    struct bytes body = {0};
    wire_add_bytes(&body, REPLY_TOKEN, bytes_slice(&w->token));
    reply_send(w->call, w->reply_revision, bytes_slice(&body));
    bytes_deinit(&body);
    work_drop(w);
}

static void run_sign(struct work *w)
{
    w->err = auth_tokens_sign(w->tokens, w->login->name, w->revision, &w->token);
}

static void finish_login(struct request *r)
{
    struct work *w = r->message;
    struct auth *a = engine_auth(server_of(r->call)->engine);
    struct buf *body = r->op.result.body;
    r->op.result.body = NULL;
    if (grpc_call_ended(r->call)) {
        work_drop(w);
    } else if (r->op.err != OK) {
        work_drop(w);
        status_finish(r->call, r->op.err);
    } else if (auth_revision(a) != w->revision) {
        log_info(server_of(r->call)->cfg.log, "revision when password checked became stale; retrying", F_UINT("revision", w->revision));
        login_begin(w);
    } else if (buf_slice(body).len > 0) {
        reply_send(r->call, r->op.result.revision, buf_slice(body));
        work_drop(w);
    } else {
        w->reply_revision = r->op.result.revision;
        work_start(w, run_sign, login_answer);
    }
    buf_unref(&body);
}

static void done_compare(struct work *w)
{
    char letters[AUTH_TOKEN_LETTERS_BYTES];
    enum err e = w->hash[0] == '\0' ? ERR_AUTH_FAILED : auth_tokens_letters(w->tokens, letters);
    if (e != OK) {
        login_refuse(w, e);
        return;
    }
    struct request *r = request_create(w->call, MEMBER_PROPOSE, finish_login);
    if (r == NULL) {
        work_drop(w);
        return;
    }
    struct bytes encoded = {0};
    auth_prepare_authenticate(w->login->name, letters, &encoded);
    r->message = w;
    request_propose_as_nobody(r, FIELD_AUTHENTICATE, bytes_slice(&encoded));
    bytes_deinit(&encoded);
}

/* A hash that does not match is made none. */
static void run_compare(struct work *w)
{
    if (!password_verify(w->login->password, w->hash)) {
        w->hash[0] = '\0';
    }
}

static void login_begin(struct work *w)
{
    if (w->tries == CALLER_TRIES_MAX) {
        work_drop(w);
        status_finish(w->call, ERR_AUTH_OLD_REVISION);
        return;
    }
    w->tries++;
    enum err e = auth_password_of(engine_auth(server_of(w->call)->engine), w->login->name, w->hash, &w->revision);
    if (e != OK) {
        login_refuse(w, e);
    } else {
        work_start(w, run_compare, done_compare);
    }
}

static void login_serve(struct grpc_call *c, void *message)
{
    struct work *w = work_create(c);
    if (w != NULL) {
        w->login = message;
        login_begin(w);
    }
}

static void on_authenticate(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__AuthenticateRequest *q = decode(c, &etcdserverpb__authenticate_request__descriptor, bytes, ERR_AUTH_FAILED);
    if (q != NULL) {
        request_read_barrier(c, q, login_serve);
    }
}

const struct grpc_method auth_methods[] = {
    {.path = "/etcdserverpb.Auth/AuthEnable", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/AuthDisable", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/AuthStatus", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/Authenticate", .kind = GRPC_UNARY, .message = on_authenticate},
    {.path = "/etcdserverpb.Auth/UserAdd", .kind = GRPC_UNARY, .message = on_user_add},
    {.path = "/etcdserverpb.Auth/UserGet", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/UserList", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/UserDelete", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/UserChangePassword", .kind = GRPC_UNARY, .message = on_user_change_password},
    {.path = "/etcdserverpb.Auth/UserGrantRole", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/UserRevokeRole", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/RoleAdd", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/RoleGet", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/RoleList", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/RoleDelete", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/RoleGrantPermission", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = "/etcdserverpb.Auth/RoleRevokePermission", .kind = GRPC_UNARY, .message = on_proposed},
    {.path = NULL},
};
