/* cluster.c - the Cluster service: who is a member, and changing that. */
#include "api/etcd/internal.h"

#include <stdlib.h>

#include "api/etcd/peer_url.h"

#define NANOSECONDS 1000000000u

/* `promoted`: the id of one that is known to be a voter by now, whatever this member has applied. */
static void add_member(struct bytes *out, uint32_t field, const struct member_info *m, uint64_t promoted)
{
    struct bytes b = {0};
    wire_add_uint(&b, 1, m->id);
    wire_add_bytes(&b, 2, slice_str(m->name));
    for (size_t i = 0; m->peer_urls[i] != NULL; i++) {
        wire_add_message(&b, 3, slice_str(m->peer_urls[i]));
    }
    for (size_t i = 0; m->client_urls[i] != NULL; i++) {
        wire_add_message(&b, 4, slice_str(m->client_urls[i]));
    }
    wire_add_bool(&b, 5, m->is_learner && m->id != promoted);
    wire_add_message(out, field, bytes_slice(&b));
    bytes_deinit(&b);
}

static void add_members(struct bytes *b, uint32_t field, const struct etcd_server *s, uint64_t promoted)
{
    size_t n = 0;
    struct member_info *members = engine_members(s->engine, &n);
    for (size_t i = 0; i < n; i++) {
        add_member(b, field, &members[i], promoted);
    }
    free(members);
}

static void send_members(struct grpc_call *c, uint64_t promoted)
{
    struct bytes b = {0};
    add_members(&b, 2, server_of(c), promoted);
    reply_send(c, 0, bytes_slice(&b)); /* no reply of this service has a revision */
    bytes_deinit(&b);
}

/* --- list ------------------------------------------------------------------------------------------------ */

static void list_serve(struct grpc_call *c, void *message)
{
    (void)message;
    send_members(c, 0);
}

static void on_member_list(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__MemberListRequest *q = request_decode(c, &etcdserverpb__member_list_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    if (q->linearizable) {
        request_read_barrier(c, q, list_serve);
    } else {
        list_serve(c, q);
    }
}

/* --- add, remove, update ------------------------------------------------------------------------------------ */

/* One change under way, in the call's arena: the client may go, the change goes on. */
struct change_request {
    struct request r;
    struct member_change change;
};

static struct change_request *change_create(struct grpc_call *c, enum member_change_kind kind, uint64_t id, void (*finish)(struct request *r))
{
    struct change_request *q = arena_calloc(grpc_call_arena(c), 1, sizeof(*q));
    if (q == NULL) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return NULL;
    }
    q->change.kind = kind;
    q->change.id = id;
    q->r.finish = finish;
    q->r.op.kind = MEMBER_CHANGE;
    q->r.op.change = &q->change;
    return q;
}

static void change_submit(struct change_request *q, struct grpc_call *c)
{
    q->r.call = grpc_call_ref(c);
    request_submit(&q->r);
}

static void finish_change(struct request *r)
{
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err);
    } else {
        send_members(r->call, 0);
    }
}

static void finish_add(struct request *r)
{
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err);
        return;
    }
    const struct change_request *q = CONTAINER_OF(r, struct change_request, r);
    char *none = NULL;
    struct member_info added = {.id = q->change.id, .name = (char[]){""}, .client_urls = &none,
                                .peer_urls = (char **)(uintptr_t)q->change.peer_urls, .is_learner = q->change.kind == MEMBER_ADD_LEARNER};
    struct bytes b = {0};
    add_member(&b, 2, &added, 0);
    add_members(&b, 3, server_of(r->call), 0);
    reply_send(r->call, 0, bytes_slice(&b));
    bytes_deinit(&b);
}

static void on_member_add(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__MemberAddRequest *q = request_decode(c, &etcdserverpb__member_add_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    const char *const *urls = NULL;
    enum err e = peer_urls_clean(q->peerurls, q->n_peerurls, grpc_call_arena(c), &urls);
    if (e == ERR_INVALID) {
        grpc_finish(c, GRPC_INVALID_ARGUMENT, "etcdserver: given member URLs are invalid");
        return;
    }
    if (e != OK) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return;
    }
    uint64_t id = member_id_compute(urls, clock_wall_ns(server_of(c)->cfg.clock) / NANOSECONDS);
    struct change_request *r = change_create(c, q->islearner ? MEMBER_ADD_LEARNER : MEMBER_ADD, id, finish_add);
    if (r != NULL) {
        r->change.peer_urls = urls;
        change_submit(r, c);
    }
}

static void on_member_remove(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__MemberRemoveRequest *q = request_decode(c, &etcdserverpb__member_remove_request__descriptor, bytes);
    struct change_request *r = q == NULL ? NULL : change_create(c, MEMBER_REMOVE, q->id, finish_change);
    if (r != NULL) {
        change_submit(r, c);
    }
}

/* etcd takes the URLs of an update as they are. */
static void on_member_update(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__MemberUpdateRequest *q = request_decode(c, &etcdserverpb__member_update_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    if (q->n_peerurls > MEMBER_URLS_ASKED_MAX) {
        grpc_finish(c, GRPC_INVALID_ARGUMENT, "etcdserver: given member URLs are invalid");
        return;
    }
    struct change_request *r = change_create(c, MEMBER_UPDATE, q->id, finish_change);
    if (r == NULL) {
        return;
    }
    r->change.peer_urls = peer_urls_sorted(q->peerurls, q->n_peerurls, grpc_call_arena(c));
    if (r->change.peer_urls == NULL) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return;
    }
    change_submit(r, c);
}

/* --- promote -------------------------------------------------------------------------------------------------- */

static void finish_barrier(struct request *r)
{
    const struct promotion *p = r->message;
    send_members(r->call, p->id); /* it is a voter, even when this member could not make sure of everything else */
}

static void on_promoted(struct leader_ask *a)
{
    struct promotion *p = CONTAINER_OF(a, struct promotion, ask);
    struct grpc_call *c = a->call;
    if (a->err != OK) {
        status_finish(c, a->err);
    } else if (!p->elsewhere) {
        send_members(c, p->id);
    } else if (!grpc_call_ended(c)) {
        struct request *r = request_create(c, MEMBER_READ_INDEX, finish_barrier);
        if (r != NULL) {
            r->message = p;
            request_submit(r);
        }
    }
}

static bool keep_token(struct grpc_call *c, const char **out)
{
    struct slice token = grpc_call_metadata(c, "token");
    token = token.len > 0 ? token : grpc_call_metadata(c, "authorization");
    char *copy = token.len == 0 ? NULL : arena_calloc(grpc_call_arena(c), token.len + 1, 1);
    if (copy != NULL) {
        memcpy(copy, token.data, token.len);
    }
    *out = copy;
    return token.len == 0 || copy != NULL;
}

static void on_member_promote(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__MemberPromoteRequest *q = request_decode(c, &etcdserverpb__member_promote_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    struct promotion *p = arena_calloc(grpc_call_arena(c), 1, sizeof(*p));
    if (p == NULL || !keep_token(c, &p->authorization)) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return;
    }
    p->id = q->id;
    p->ask.done = on_promoted;
    promotion_start(p, loop_of(server_of(c), grpc_call_loop(c)), c);
}

const struct grpc_method cluster_methods[] = {
    {.path = "/etcdserverpb.Cluster/MemberAdd", .kind = GRPC_UNARY, .message = on_member_add},
    {.path = "/etcdserverpb.Cluster/MemberRemove", .kind = GRPC_UNARY, .message = on_member_remove},
    {.path = "/etcdserverpb.Cluster/MemberUpdate", .kind = GRPC_UNARY, .message = on_member_update},
    {.path = "/etcdserverpb.Cluster/MemberList", .kind = GRPC_UNARY, .message = on_member_list},
    {.path = "/etcdserverpb.Cluster/MemberPromote", .kind = GRPC_UNARY, .message = on_member_promote},
    {.path = NULL},
};
