/* peer_http.c - what members ask each other beside raft's own traffic.
 *
 * Runs on the peer loop. Paths, statuses and texts are those of etcd's packages etcdhttp and leasehttp and of its corruption check, so that members
 * of both kinds understand each other (etcd-v3-api.md 15.3).
 */
#include "api/etcd/caller.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "base/mem.h"
#include "engine/membership.h"

#define TEXT "text/plain; charset=utf-8"
#define NOSNIFF "X-Content-Type-Options: nosniff\r\n"
#define JSON "application/json"
#define PROTOBUF "application/protobuf"
#define LEASE_BODY_MAX (64u << 10) /* of a question about a lease; over: 413 */
#define PROMOTE_PREFIX "/members/promote/"

/* --- answers -------------------------------------------------------------------------------------------- */

/* "X-Etcd-Cluster-ID: ..." and `more` behind it. */
static const char *with_cluster(const struct etcd_server *s, const char *more, char out[160])
{
    (void)snprintf(out, 160, "X-Etcd-Cluster-ID: %" PRIx64 "\r\n%s", member_cluster_id(s->member), more);
    return out;
}

/* As Go's http.Error. `headers` may be NULL. */
static void send_error(struct http_exchange *x, int status, const char *headers, const char *text)
{
    char head[256];
    char body[320];
    (void)snprintf(head, sizeof(head), "%s%s", headers == NULL ? "" : headers, NOSNIFF);
    (void)snprintf(body, sizeof(body), "%s\n", text);
    http_respond(x, status, TEXT, head, slice_str(body));
}

void members_json(const struct member_info *members, size_t n, struct bytes *out)
{
    bytes_add_str(out, "[");
    for (size_t i = 0; i < n; i++) {
        bytes_add_str(out, i == 0 ? "" : ",");
        member_json_encode(&members[i], out);
    }
    bytes_add_str(out, "]\n");
}

static void send_members(struct etcd_server *s, struct http_exchange *x)
{
    char head[160];
    size_t n = 0;
    struct member_info *members = engine_members(s->engine, &n);
    struct bytes b = {0};
    members_json(members, n, &b);
    http_respond(x, 200, JSON, with_cluster(s, "", head), bytes_slice(&b));
    bytes_deinit(&b);
    free(members);
}

/* --- members, version ------------------------------------------------------------------------------------- */

static void serve_members(struct etcd_server *s, struct http_exchange *x, const struct http_request *r)
{
    (void)r;
    send_members(s, x);
}

static void serve_version(struct etcd_server *s, struct http_exchange *x, const struct http_request *r)
{
    (void)r;
    struct bytes b = {0};
    http_version_body(s, &b);
    http_respond(x, 200, JSON, NULL, bytes_slice(&b));
    bytes_deinit(&b);
}

/* --- promote ------------------------------------------------------------------------------------------------ */

struct peer_promotion {
    struct promotion promotion;
    struct http_exchange *exchange;
};

static void send_refusal(const struct etcd_server *s, struct http_exchange *x)
{
    char head[160];
    http_respond(x, 500, JSON, with_cluster(s, "", head), slice_str("{\"message\":\"Internal Server Error\"}"));
}

static void on_promoted(struct leader_ask *a)
{
    struct peer_promotion *p = CONTAINER_OF(CONTAINER_OF(a, struct promotion, ask), struct peer_promotion, promotion);
    struct etcd_server *s = a->loop->server;
    char head[160];
    if (a->err == OK) {
        send_members(s, p->exchange);
    } else if (a->err == ERR_MEMBER_NOT_FOUND) {
        send_error(p->exchange, 404, with_cluster(s, "", head), membership_error_text(a->err));
    } else if (a->err == ERR_NOT_LEARNER_MEMBER || a->err == ERR_LEARNER_NOT_READY) {
        send_error(p->exchange, 412, with_cluster(s, "", head), membership_error_text(a->err));
    } else {
        send_refusal(s, p->exchange);
    }
    free(p);
}

/* The member that asks has asked who its caller is; this one asks again, by the token that came along. */
static bool promote_is_permitted(struct etcd_server *s, const struct http_request *r)
{
    const char *token = http_request_header(r, "Authorization");
    struct auth_who who;
    if (caller_identify_token(s, token[0] == '\0' ? (struct slice){NULL, 0} : slice_str(token), &who) != OK) {
        return false;
    }
    const struct auth_identity id = auth_identity_of(&who);
    return auth_check_root(engine_auth(s->engine), &id) == OK;
}

static void serve_promote(struct etcd_server *s, struct http_exchange *x, const struct http_request *r)
{
    const char *text = r->path + sizeof(PROMOTE_PREFIX) - 1;
    size_t digits = strspn(text, "0123456789");
    errno = 0;
    unsigned long long id = strtoull(text, NULL, 10);
    if (digits == 0 || text[digits] != '\0' || errno == ERANGE) {
        char head[160];
        char body[256];
        (void)snprintf(body, sizeof(body), "member %.200s not found in cluster", text);
        send_error(x, 404, with_cluster(s, "", head), body);
        return;
    }
    if (!promote_is_permitted(s, r)) {
        send_refusal(s, x);
        return;
    }
    struct peer_promotion *p = xcalloc(1, sizeof(*p));
    p->exchange = x;
    p->promotion.id = id;
    p->promotion.ask.done = on_promoted;
    p->promotion.ask.only_here = true; /* the one who asks tries again, and knows better by then */
    promotion_start(&p->promotion, &s->peer_loop, NULL);
}

/* --- leases --------------------------------------------------------------------------------------------------- */

struct peer_lease {
    struct lease_ask lease;
    struct http_exchange *exchange;
};

static void on_lease_done(struct leader_ask *a)
{
    struct peer_lease *p = CONTAINER_OF(CONTAINER_OF(a, struct lease_ask, ask), struct peer_lease, lease);
    if (a->err == OK) {
        struct bytes b = {0};
        lease_answer_write(&b, &p->lease);
        http_respond(p->exchange, 200, PROTOBUF, NULL, bytes_slice(&b));
        bytes_deinit(&b);
    } else if (a->err == ERR_LEASE_NOT_FOUND) {
        send_error(p->exchange, 404, NULL, "lease not found");
    } else if (a->err == ERR_TIMEOUT_APPLIED) {
        send_error(p->exchange, 408, NULL, "waiting for node to catch up its applied index has timed out");
    } else {
        send_error(p->exchange, p->lease.lookup ? 500 : 400, NULL, "not a primary lessor");
    }
    bytes_deinit(&p->lease.key_fields);
    free(p);
}

static void serve_lease(struct etcd_server *s, struct http_exchange *x, const struct http_request *r)
{
    if (r->body.len > LEASE_BODY_MAX) {
        send_error(x, 413, NULL, "request body too large");
        return;
    }
    bool lookup = strcmp(r->path, "/leases/internal") == 0;
    int64_t id = 0;
    bool keys = false;
    if (lease_body_read(r->body, lookup, &id, &keys) != OK) {
        send_error(x, 400, NULL, "error unmarshalling request");
        return;
    }
    struct peer_lease *p = xcalloc(1, sizeof(*p));
    p->exchange = x;
    p->lease.id = id;
    p->lease.lookup = lookup;
    p->lease.keys = keys;
    p->lease.ask.done = on_lease_done;
    p->lease.ask.only_here = true;
    lease_ask_start(&p->lease, &s->peer_loop, NULL);
}

/* --- downgrade --------------------------------------------------------------------------------------------------- */

struct peer_read {
    struct request r; /* r.call stays NULL */
    struct etcd_server *server;
    struct http_exchange *exchange;
};

static void finish_downgrade(struct request *r)
{
    struct peer_read *p = CONTAINER_OF(r, struct peer_read, r);
    char head[160];
    char text[256];
    char target[16];
    if (r->op.err != OK) {
        (void)snprintf(text, sizeof(text), "failed linearized read: %s", status_of(r->op.err).text);
        send_error(p->exchange, 500, with_cluster(p->server, "", head), text);
    } else {
        const char *answer = engine_downgrade(p->server->engine, target) ? "true" : "false";
        http_respond(p->exchange, 200, "text/plain", with_cluster(p->server, "", head), slice_str(answer));
    }
    free(p);
}

static void serve_downgrade(struct etcd_server *s, struct http_exchange *x, const struct http_request *r)
{
    (void)r;
    struct peer_read *p = xcalloc(1, sizeof(*p));
    p->server = s;
    p->exchange = x;
    p->r.finish = finish_downgrade;
    p->r.op.kind = MEMBER_READ_INDEX;
    request_submit_on(&s->peer_loop, &p->r);
}

/* --- hashes ---------------------------------------------------------------------------------------------------------- */

struct peer_hash {
    uv_work_t work;
    struct etcd_server *server;
    struct http_exchange *exchange;
    int64_t revision;
    enum err err;
    struct hash_kv kv;
};

static void hash_run(uv_work_t *work)
{
    struct peer_hash *h = work->data;
    struct err_ctx ec = {{0}};
    h->err = engine_hash_kv(h->server->engine, h->revision, &h->kv, &ec);
}

/* Zeroes are left out, as Go's omitempty does. */
static void add_number(struct bytes *b, const char *name, int64_t v)
{
    if (v != 0) {
        bytes_printf(b, ",\"%s\":%" PRId64, name, v);
    }
}

void hash_kv_json(const struct hash_kv *kv, struct bytes *out)
{
    bytes_add_str(out, "{\"header\":{");
    if (kv->live_revision != 0) {
        bytes_printf(out, "\"revision\":%" PRId64, kv->live_revision);
    }
    bytes_add_str(out, "}");
    add_number(out, "hash", kv->hash);
    add_number(out, "compact_revision", kv->compact_revision);
    add_number(out, "hash_revision", kv->hash_revision);
    bytes_add_str(out, "}");
}

static void hash_done(uv_work_t *work, int status)
{
    struct peer_hash *h = work->data;
    if (status != 0) {
        send_error(h->exchange, 503, NULL, "etcdserver: server stopped");
    } else if (h->err == ERR_COMPACTED) {
        send_error(h->exchange, 400, NULL, "mvcc: required revision has been compacted");
    } else if (h->err == ERR_FUTURE_REV) {
        send_error(h->exchange, 400, NULL, "mvcc: required revision is a future revision");
    } else if (h->err != OK) {
        send_error(h->exchange, 400, NULL, status_of(h->err).text);
    } else {
        char head[160];
        struct bytes b = {0};
        hash_kv_json(&h->kv, &b);
        http_respond(h->exchange, 200, JSON, with_cluster(h->server, "", head), bytes_slice(&b));
        bytes_deinit(&b);
    }
    free(h);
}

static enum err take_revision(void *arg, const char *name, struct json *j)
{
    if (strcmp(name, "revision") != 0) {
        return json_skip(j);
    }
    uint64_t v = 0;
    bool negative = json_take(j, '-');
    enum err e = json_u64(j, &v);
    if (e == OK && v > INT64_MAX) {
        e = ERR_INVALID;
    }
    if (e == OK) {
        *(int64_t *)arg = negative ? -(int64_t)v : (int64_t)v;
    }
    return e;
}

enum err hash_kv_request_read(struct slice body, int64_t *revision)
{
    struct json j = {.rest = body};
    *revision = 0;
    return json_object(&j, take_revision, revision);
}

static void serve_hash(struct etcd_server *s, struct http_exchange *x, const struct http_request *r)
{
    char own[24];
    (void)snprintf(own, sizeof(own), "%" PRIx64, member_cluster_id(s->member));
    const char *theirs = http_request_header(r, "X-Etcd-Cluster-ID");
    if (theirs[0] != '\0' && strcmp(theirs, own) != 0) {
        send_error(x, 412, NULL, "cluster ID mismatch");
        return;
    }
    int64_t revision = 0;
    if (hash_kv_request_read(r->body, &revision) != OK) {
        send_error(x, 400, NULL, "error unmarshalling request");
        return;
    }
    struct peer_hash *h = xcalloc(1, sizeof(*h));
    h->work.data = h;
    h->server = s;
    h->exchange = x;
    h->revision = revision;
    if (uv_queue_work(loop_uv(http_exchange_loop(x)), &h->work, hash_run, hash_done) != 0) {
        hash_done(&h->work, UV_ECANCELED);
    }
}

/* --- the paths ------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *path;
    bool prefix;
    const char *method;
    void (*serve)(struct etcd_server *s, struct http_exchange *x, const struct http_request *r);
} paths[] = {
    {"/members", false, "GET", serve_members},
    {"/members/hashkv", false, "GET", serve_hash},
    {PROMOTE_PREFIX, true, "POST", serve_promote},
    {"/version", false, "GET", serve_version},
    {"/leases", false, "POST", serve_lease},
    {"/leases/internal", false, "POST", serve_lease},
    {"/downgrade/enabled", false, "GET", serve_downgrade},
};

void peer_http_handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct etcd_server *s = arg;
    if (s->peer_loop.loop == NULL) {
        s->peer_loop.loop = http_exchange_loop(x);
        loop_hook_add(s->peer_loop.loop, &s->peer_loop.submit_hook);
        loop_hook_add_stop(s->peer_loop.loop, &s->peer_loop.stop_hook);
    }
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        if (paths[i].prefix ? strncmp(r->path, paths[i].path, strlen(paths[i].path)) != 0 : strcmp(r->path, paths[i].path) != 0) {
            continue;
        }
        if (strcmp(r->method, paths[i].method) == 0) {
            paths[i].serve(s, x, r);
        } else {
            char allow[32];
            (void)snprintf(allow, sizeof(allow), "Allow: %s\r\n", paths[i].method);
            send_error(x, 405, allow, "Method Not Allowed");
        }
        return;
    }
    send_error(x, 404, NULL, "404 page not found");
}
