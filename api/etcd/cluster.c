/* cluster.c - the Cluster service: who is a member. */
#include "api/etcd/internal.h"

#include <stdlib.h>

static void add_member(struct bytes *out, const struct member_info *m)
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
    wire_add_bool(&b, 5, m->is_learner);
    wire_add_message(out, 2, bytes_slice(&b));
    bytes_deinit(&b);
}

static void list_serve(struct grpc_call *c, void *message)
{
    (void)message;
    struct bytes b = {0};
    size_t n = 0;
    struct member_info *members = engine_members(server_of(c)->engine, &n);
    for (size_t i = 0; i < n; i++) {
        add_member(&b, &members[i]);
    }
    free(members);
    reply_send(c, 0, bytes_slice(&b));
    bytes_deinit(&b);
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

const struct grpc_method cluster_methods[] = {
    {.path = "/etcdserverpb.Cluster/MemberList", .kind = GRPC_UNARY, .message = on_member_list},
    {.path = NULL},
};
