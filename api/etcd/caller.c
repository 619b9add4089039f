/* caller.c - see caller.h. */
#include "api/etcd/caller.h"

#include "api/etcd/auth_method.h"

/* --- identity ------------------------------------------------------------------------------------------------ */

/* Of the client's verified certificate. */
static struct slice common_name_of(const struct grpc_call *c)
{
    struct slice name = grpc_call_common_name(c);
    return name.len > 0 ? name : (struct slice){NULL, 0};
}

static struct auth_evidence evidence_of(const struct grpc_call *c)
{
    return (struct auth_evidence){
        .token = grpc_call_metadata(c, "token"),
        .authorization = grpc_call_metadata(c, "authorization"),
        .gateway = grpc_call_metadata(c, "grpcgateway-accept"),
        .common_name = common_name_of(c),
        .client_cert_auth = server_of(c)->cfg.client_cert_auth,
    };
}

static enum err identify(struct etcd_server *s, const struct auth_evidence *ev, struct auth_who *out, struct err_ctx *ec)
{
    return auth_identify(engine_auth(s->engine), s->cfg.tokens, ev, member_status(s->member).applied_index, out, ec);
}

/* What is not applied by now is not waited for any more: that is done before a call runs. */
static enum err identify_now(struct etcd_server *s, const struct auth_evidence *ev, struct auth_who *out)
{
    struct err_ctx ec = {{0}};
    if (!auth_enabled(engine_auth(s->engine))) {
        *out = (struct auth_who){.source = AUTH_BY_NOTHING};
        return OK;
    }
    enum err e = identify(s, ev, out, &ec);
    if (e != OK) {
        char print[AUTH_FINGERPRINT_BYTES];
        auth_token_fingerprint(ev->token.data != NULL ? ev->token : ev->authorization, print);
        log_warn(s->cfg.log, "invalid auth token", F_STR("token-fingerprint", print), F_STR("error", e == ERR_BUSY ? "of an index to come" : ec.text));
        return ERR_AUTH_TOKEN;
    }
    return OK;
}

enum err caller_identify(struct grpc_call *c, struct auth_who *out)
{
    const struct auth_evidence ev = evidence_of(c);
    return identify_now(server_of(c), &ev, out);
}

enum err caller_identify_token(struct etcd_server *s, struct slice token, struct auth_who *out)
{
    const struct auth_evidence ev = {.token = token};
    return identify_now(s, &ev, out);
}

bool caller_is_ahead(struct grpc_call *c)
{
    struct etcd_server *s = server_of(c);
    struct err_ctx ec = {{0}};
    struct auth_who who;
    if (!auth_enabled(engine_auth(s->engine)) || auth_tokens_kind(s->cfg.tokens) != AUTH_TOKENS_SIMPLE) {
        return false;
    }
    const struct auth_evidence ev = evidence_of(c);
    return identify(s, &ev, &who, &ec) == ERR_BUSY;
}

/* --- before a call runs ---------------------------------------------------------------------------------------- */

/* The row as its service wrote it. */
static const struct grpc_method *plain_row(struct grpc_call *c)
{
    const struct etcd_server *s = server_of(c);
    return s->plain[grpc_call_method(c) - s->methods];
}

static bool is_permitted(struct grpc_call *c)
{
    const char *path = grpc_call_method(c)->path;
    enum auth_need need = AUTH_NEED_NOTHING;
    bool listed = auth_method_need(path, &need);
    if (listed && need != AUTH_NEED_KNOWN && need != AUTH_NEED_ROOT && need != AUTH_NEED_LEASE) {
        return true; /* asked later, where its request is understood */
    }
    struct auth_who who;
    enum err e = caller_identify(c, &who);
    if (e == OK) {
        const struct auth_identity id = auth_identity_of(&who);
        e = auth_method_admit(path, engine_auth(server_of(c)->engine), &id);
    }
    if (e != OK) {
        status_finish(c, e);
    }
    return e == OK;
}

struct late_message {
    size_t len;
    uint8_t data[];
};

static void run_late(struct grpc_call *c, void *message)
{
    const struct late_message *m = message;
    if (is_permitted(c)) {
        plain_row(c)->message(c, slice_of(m->data, m->len));
    }
}

void caller_admit(struct grpc_call *c, struct slice bytes)
{
    if (!auth_enabled(engine_auth(server_of(c)->engine))) {
        plain_row(c)->message(c, bytes);
        return;
    }
    if (!caller_is_ahead(c)) {
        if (is_permitted(c)) {
            plain_row(c)->message(c, bytes);
        }
        return;
    }
    struct late_message *m = arena_alloc(grpc_call_arena(c), sizeof(*m) + bytes.len);
    if (m == NULL) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return;
    }
    m->len = bytes.len;
    if (bytes.len > 0) {
        memcpy(m->data, bytes.data, bytes.len);
    }
    request_read_barrier(c, m, run_late);
}

/* --- local reads ------------------------------------------------------------------------------------------------- */

/* ERR_AUTH_OLD_REVISION: users have changed before, or while, it was read. */
static enum err try_read(struct grpc_call *c, const struct caller_read *r, struct auth_who *who)
{
    struct auth *a = engine_auth(server_of(c)->engine);
    enum err e = caller_identify(c, who);
    const struct auth_identity id = auth_identity_of(who);
    if (e == OK) {
        e = auth_check_demands(a, &id, r->demands, NULL);
    }
    if (e != OK || r->read == NULL) {
        return e;
    }
    e = r->read(c, r->arg);
    if (e == OK) {
        e = auth_check_current(a, &id);
        if (e != OK && r->undo != NULL) {
            r->undo(r->arg);
        }
    }
    return e;
}

enum err caller_read(struct grpc_call *c, const struct caller_read *r, struct auth_who *who)
{
    uint64_t before = 0;
    for (unsigned tries = 0; tries < CALLER_TRIES_MAX; tries++) {
        enum err e = try_read(c, r, who);
        if (e != ERR_AUTH_OLD_REVISION || who->revision == before) {
            return e; /* a token that carries its revision is not going to have a newer one */
        }
        before = who->revision;
    }
    return ERR_AUTH_OLD_REVISION;
}

void caller_renew(const struct etcd_server *s, struct auth_who *who)
{
    bool carried = who->source == AUTH_BY_TOKEN && auth_tokens_kind(s->cfg.tokens) == AUTH_TOKENS_JWT;
    if (who->revision != 0 && !carried) {
        who->revision = auth_revision(engine_auth(s->engine));
    }
}
