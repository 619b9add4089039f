/* server.c - the server and its loops: what comes from the member, and what goes to it once a turn. */
#include "api/etcd/caller.h"
#include "api/etcd/waiter.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "engine/watch.h"

/* --- from the member to a loop ---------------------------------------------------------------------------- */

struct answers_item {
    struct loop_item item;
    struct member_op *first;
};

static void run_answers(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct answers_item *a = CONTAINER_OF(item, struct answers_item, item);
    struct qnode *node = &a->first->node;
    free(a);
    while (node != NULL) {
        struct request *r = CONTAINER_OF(CONTAINER_OF(node, struct member_op, node), struct request, op);
        node = node->next;
        struct grpc_call *c = r->call;
        if (request_goes_again(r)) {
            continue; /* and so does the reference */
        }
        r->finish(r);
        grpc_call_unref(&c); /* the request may be gone with it */
    }
}

static void on_answered(void *arg, struct member_op *first, struct member_op *last, size_t n)
{
    struct etcd_loop *l = arg;
    (void)last;
    (void)n;
    struct answers_item *a = xcalloc(1, sizeof(*a));
    a->item.run = run_answers;
    a->first = first;
    loop_post(l->loop, &a->item);
}

struct changes_item {
    struct loop_item item;
    struct etcd_loop *loop;
    size_t n;
    struct event_batch *batches[];
};

static void run_changes(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct changes_item *c = CONTAINER_OF(item, struct changes_item, item);
    for (size_t i = 0; i < c->n; i++) {
        watch_hub_feed(c->loop->hub, c->batches[i]);
    }
    free(c);
}

static void on_changed(void *arg, struct event_batch *const *batches, size_t n)
{
    struct etcd_loop *l = arg;
    struct changes_item *c = xalloc(sizeof(*c) + n * sizeof(struct event_batch *));
    *c = (struct changes_item){.item.run = run_changes, .loop = l, .n = n};
    memcpy(c->batches, batches, n * sizeof(struct event_batch *));
    loop_post(l->loop, &c->item);
}

struct restored_item {
    struct loop_item item;
    struct etcd_loop *loop;
    int64_t revision;
};

static void run_restored(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct restored_item *r = CONTAINER_OF(item, struct restored_item, item);
    watch_hub_restored(r->loop->hub, r->revision);
    free(r);
}

/* Through the same inbox as the changes, so that the hub sees both in the member's order. */
static void on_restored(void *arg, int64_t revision)
{
    struct etcd_loop *l = arg;
    struct restored_item *r = xcalloc(1, sizeof(*r));
    *r = (struct restored_item){.item.run = run_restored, .loop = l, .revision = revision};
    loop_post(l->loop, &r->item);
}

/* Nobody watches over the peer port. */
static void on_changed_unseen(void *arg, struct event_batch *const *batches, size_t n)
{
    (void)arg;
    for (size_t i = 0; i < n; i++) {
        struct event_batch *b = batches[i];
        event_batch_unref(&b);
    }
}

/* --- from a loop to the member ------------------------------------------------------------------------------- */

static void refuse(struct request *r, enum err e)
{
    struct grpc_call *c = r->call;
    buf_unref(&r->op.data);
    buf_unref(&r->proposed);
    r->op.err = e;
    r->finish(r);
    grpc_call_unref(&c);
}

/* Once a turn: whatever was read from all sockets goes over together, so that one log write can take it. */
static void submit_all(struct loop *loop, void *arg)
{
    (void)loop;
    struct etcd_loop *l = arg;
    while (l->first != NULL) {
        struct member_op *op = l->first;
        l->first = op->node.next == NULL ? NULL : CONTAINER_OF(op->node.next, struct member_op, node);
        if (l->first == NULL) {
            l->last = NULL;
        }
        op->node.next = NULL;
        struct request *r = CONTAINER_OF(op, struct request, op);
        enum err e = r->refused != OK ? r->refused : member_submit(l->server->member, op);
        if (e != OK) {
            refuse(r, e);
        }
    }
}

static void fire_step(struct loop *loop, struct loop_timer *t)
{
    (void)loop;
    (void)t; /* it only makes a turn happen; the hook does the work */
}

/* Watchers that catch up get one slice of history a turn, so that they never hold up the others. */
static void step_hub(struct loop *loop, void *arg)
{
    struct etcd_loop *l = arg;
    if (watch_hub_step(l->hub)) {
        loop_timer_set(loop, &l->step_timer, loop_now_ms(loop));
    }
}

static void on_loop_stopped(struct loop *loop, void *arg)
{
    (void)loop;
    asks_drop(arg);
    led_streams_drop(arg);
}

/* --- life -------------------------------------------------------------------------------------------------------- */

static const struct grpc_method *const all_tables[] = {kv_methods,      watch_methods,       lease_methods,
                                                       cluster_methods, maintenance_methods, health_methods,
                                                       lock_methods,    election_methods,    auth_methods};

static void collect_methods(struct etcd_server *s)
{
    size_t n = 0;
    for (size_t t = 0; t < ARRAY_LEN(all_tables); t++) {
        for (const struct grpc_method *m = all_tables[t]; m->path != NULL; m++) {
            n++;
        }
    }
    s->methods = xcalloc(n + 1, sizeof(*s->methods));
    s->plain = xcalloc(n + 1, sizeof(const struct grpc_method *));
    size_t i = 0;
    for (size_t t = 0; t < ARRAY_LEN(all_tables); t++) {
        for (const struct grpc_method *m = all_tables[t]; m->path != NULL; m++) {
            bool one_message = m->kind == GRPC_UNARY || m->kind == GRPC_SERVER_STREAM;
            s->plain[i] = m;
            s->methods[i] = *m;
            s->methods[i].message = one_message ? caller_admit : m->message;
            s->methods[i++].service = s;
        }
    }
    s->tables[0] = s->methods;
}

struct etcd_server *etcd_server_create(const struct etcd_server_config *cfg, struct loop *const *loops, unsigned n_loops)
{
    struct etcd_server *s = xcalloc(1, sizeof(*s));
    s->cfg = *cfg;
    s->n_loops = n_loops;
    s->loops = xcalloc(n_loops, sizeof(*s->loops));
    s->ports = xcalloc(n_loops + 2u, sizeof(struct member_port *));
    for (unsigned i = 0; i < n_loops; i++) {
        struct etcd_loop *l = &s->loops[i];
        ASSERT(loop_number(loops[i]) == i);
        l->server = s;
        l->loop = loops[i];
        l->port = (struct member_port){.answered = on_answered, .changed = on_changed, .restored = on_restored, .arg = l};
        l->step_timer.fire = fire_step;
        l->message = arena_create(4096, STREAM_MESSAGE_BYTES);
        l->step_hook = (struct loop_hook){.run = step_hub, .arg = l};
        l->stop_hook = (struct loop_hook){.run = on_loop_stopped, .arg = l};
        l->submit_hook = (struct loop_hook){.run = submit_all, .arg = l};
        s->ports[i] = &l->port;
    }
    s->peer_loop.server = s;
    s->peer_loop.port = (struct member_port){.answered = on_answered, .changed = on_changed_unseen, .arg = &s->peer_loop};
    s->peer_loop.submit_hook = (struct loop_hook){.run = submit_all, .arg = &s->peer_loop};
    s->peer_loop.stop_hook = (struct loop_hook){.run = on_loop_stopped, .arg = &s->peer_loop};
    s->ports[n_loops] = &s->peer_loop.port;
    collect_methods(s);
    return s;
}

struct member_port *const *etcd_server_ports(struct etcd_server *s)
{
    return s->ports;
}

void etcd_server_attach(struct etcd_server *s, struct member *m)
{
    s->member = m;
    s->engine = member_engine(m);
    for (unsigned i = 0; i < s->n_loops; i++) {
        s->loops[i].hub = watch_hub_create(s->engine, s->cfg.metrics);
        loop_hook_add(s->loops[i].loop, &s->loops[i].step_hook);
        loop_hook_add(s->loops[i].loop, &s->loops[i].submit_hook);
        loop_hook_add_stop(s->loops[i].loop, &s->loops[i].stop_hook);
    }
    server_metrics(s);
}

void etcd_server_attach_peers(struct etcd_server *s, struct peer_transport *t)
{
    s->peers = t;
}

void etcd_server_destroy(struct etcd_server **sp)
{
    struct etcd_server *s = *sp;
    if (s == NULL) {
        return;
    }
    *sp = NULL;
    for (unsigned i = 0; i < s->n_loops; i++) {
        watch_hub_destroy(&s->loops[i].hub);
        bytes_deinit(&s->loops[i].scratch);
        arena_destroy(&s->loops[i].message);
    }
    free(s->loops);
    free(s->ports);
    free(s->methods);
    free(s->plain);
    free(s);
}

const struct grpc_method *const *etcd_server_tables(struct etcd_server *s)
{
    return s->tables;
}

/* etcd's interceptors, etcd-v3-api.md 1.4. */
bool etcd_server_admit(void *server, struct grpc_call *c)
{
    struct etcd_server *s = server;
    struct etcd_loop *l = loop_of(s, grpc_call_loop(c));
    bool stream = grpc_call_method(c)->kind != GRPC_UNARY;
    struct member_status st = member_status(s->member);
    if (st.is_learner && learner_serves(grpc_call_method(c)->path) == LEARNER_REFUSES) {
        status_finish(c, ERR_LEARNER);
        return false;
    }
    struct slice version = grpc_call_metadata(c, "client-api-version");
    if (!utf8_valid(version)) {
        grpc_finish(c, GRPC_INVALID_ARGUMENT, "etcdserver: invalid client api version");
        return false;
    }
    server_count_request(l, stream, version);
    if (slice_eq(grpc_call_metadata(c, "hasleader"), slice_str("true"))) {
        if (st.leader == 0) {
            status_finish(c, ERR_NO_LEADER);
            return false;
        }
        if (stream) {
            led_stream_add(l, c);
        }
    }
    return true;
}

struct http_handler etcd_server_http(struct etcd_server *s)
{
    return (struct http_handler){.handle = http_handle, .arg = s};
}

struct http_handler etcd_server_peer_http(struct etcd_server *s)
{
    return (struct http_handler){.handle = peer_http_handle, .arg = s};
}
