/* client.c - those who use the cluster, and remember what they were told.
 *
 * Every request is judged by its answer; one whose member dies, or that times out, has an unknown end, and the log decides. The
 * highest revision that anybody was told of is what later linearizable reads, at any member, have to reach.
 */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/lease.h"

enum kind {
    ASK_PUT,
    ASK_DELETE,
    ASK_TXN,
    ASK_GRANT,
    ASK_REVOKE,
    ASK_COMPACT,
    ASK_READ,
    ASK_READ_LOCAL,
    ASK_READ_OLD,
    ASK_READ_SLOWLY,
    ASK_KEEPALIVE,
    ASK_ADD,
    ASK_REMOVE,
    ASK_PROMOTE,
    ASK_TRANSFER,
    ASK_DEFRAG,
    ASK_FLUSH,
    ASK_WAIT_APPLIED,
    ASK_CONFIRM_LEADER,
    N_KINDS
};

static const char *const names[N_KINDS] = {
    [ASK_PUT] = "put",
    [ASK_DELETE] = "delete",
    [ASK_TXN] = "txn",
    [ASK_GRANT] = "grant",
    [ASK_REVOKE] = "revoke",
    [ASK_COMPACT] = "compact",
    [ASK_READ] = "read",
    [ASK_READ_LOCAL] = "local read",
    [ASK_READ_OLD] = "read of the past",
    [ASK_READ_SLOWLY] = "slow read",
    [ASK_KEEPALIVE] = "keepalive",
    [ASK_ADD] = "add member",
    [ASK_REMOVE] = "remove member",
    [ASK_PROMOTE] = "promote member",
    [ASK_TRANSFER] = "transfer leadership",
    [ASK_DEFRAG] = "defragment",
    [ASK_FLUSH] = "flush",
    [ASK_WAIT_APPLIED] = "wait for applied",
    [ASK_CONFIRM_LEADER] = "confirm leader",
};

struct client_op {
    struct member_op op;
    struct client_op *next;
    struct node *node;
    enum kind kind;
    int64_t seen; /* told to anybody before this was asked */
    uint64_t asked_at;
    int64_t lease;
    uint32_t key; /* reads */
    struct member_change change;
    const char *urls[2];
    char url[40];
    bool probe;
};

static struct client_op *op_create(struct node *n, enum kind kind)
{
    struct client_op *c = xcalloc(1, sizeof(*c));
    c->node = n;
    c->kind = kind;
    c->seen = n->sim->seen_revision;
    c->asked_at = n->sim->now;
    c->op.port = &n->port;
    return c;
}

static void op_free(struct client_op *c)
{
    buf_unref(&c->op.result.body);
    free(c);
}

static void submit(struct client_op *c)
{
    struct node *n = c->node;
    struct sim *s = n->sim;
    enum err e = member_submit(n->m, &c->op);
    sim_note(s, n, c->op.request_id + (uint64_t)c->kind, "asked: %s%s, m%" PRIu64, names[c->kind], e == OK ? "" : " (not taken)",
             (c->change.id != 0 ? c->change.id : c->op.target) & 0xffffu);
    if (e != OK) {
        buf_unref(&c->op.data);
        s->stats.refused++;
        if (c->probe) {
            n->probes[c->kind == ASK_PUT ? 0 : 1] = PROBE_WANTED;
        }
        op_free(c);
        return;
    }
    c->next = n->ops;
    n->ops = c;
    node_wake(n);
}

static void unlink_op(struct client_op *c)
{
    for (struct client_op **p = &c->node->ops; *p != NULL; p = &(*p)->next) {
        if (*p == c) {
            *p = c->next;
            return;
        }
    }
    UNREACHABLE();
}

/* --- proposals -------------------------------------------------------------------------------------------------------- */

static void propose(struct client_op *c, Etcdserverpb__InternalRaftRequest *r)
{
    Etcdserverpb__RequestHeader h = ETCDSERVERPB__REQUEST_HEADER__INIT;
    h.id = member_next_request_id(c->node->m);
    r->header = &h;
    c->op.kind = MEMBER_PROPOSE;
    c->op.request_id = h.id;
    c->op.data = buf_create(etcdserverpb__internal_raft_request__get_packed_size(r));
    etcdserverpb__internal_raft_request__pack(r, c->op.data->data);
    submit(c);
}

struct put_parts {
    char name[8];
    struct buf *value;
    Etcdserverpb__PutRequest put;
};

static void make_put(struct sim *s, struct put_parts *p, uint32_t key)
{
    model_key_name(key, p->name);
    p->value = model_value(++s->next_value, (uint32_t)rng_between(&s->rng, 8, s->set.value_max));
    p->put = (Etcdserverpb__PutRequest)ETCDSERVERPB__PUT_REQUEST__INIT;
    p->put.key = (ProtobufCBinaryData){3, (uint8_t *)p->name};
    p->put.value = (ProtobufCBinaryData){p->value->len, p->value->data};
}

static int64_t some_lease(struct sim *s)
{
    for (int i = 0; i < 8; i++) {
        const struct model_lease *l = &s->model.leases[rng_below(&s->rng, SIM_LEASES)];
        if (l->alive) {
            return l->id;
        }
    }
    return 0;
}

static void put_something(struct node *n, bool probe)
{
    struct sim *s = n->sim;
    struct client_op *c = op_create(n, ASK_PUT);
    c->probe = probe;
    struct put_parts p;
    make_put(s, &p, (uint32_t)rng_below(&s->rng, SIM_KEYS));
    p.put.lease = !probe && rng_chance(&s->rng, 150) ? some_lease(s) : 0;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.put = &p.put;
    propose(c, &r);
    buf_unref(&p.value);
}

static void ask_put(struct node *n)
{
    put_something(n, false);
}

static void ask_delete(struct node *n)
{
    struct sim *s = n->sim;
    char from[8];
    char to[8];
    uint32_t key = (uint32_t)rng_below(&s->rng, SIM_KEYS);
    model_key_name(key, from);
    model_key_name(key + (uint32_t)rng_below(&s->rng, 4), to);
    Etcdserverpb__DeleteRangeRequest d = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    d.key = (ProtobufCBinaryData){3, (uint8_t *)from};
    if (rng_chance(&s->rng, 300)) {
        d.range_end = (ProtobufCBinaryData){3, (uint8_t *)to};
    }
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.delete_range = &d;
    propose(op_create(n, ASK_DELETE), &r);
}

/* Compare and swap: the change that the client believes to be the newest, which sometimes is true. */
static void ask_txn(struct node *n)
{
    struct sim *s = n->sim;
    uint32_t key = (uint32_t)rng_below(&s->rng, SIM_KEYS);
    struct put_parts yes;
    struct put_parts no;
    make_put(s, &yes, key);
    make_put(s, &no, (key + 1) % SIM_KEYS);
    const struct model_event *e = model_at(&s->model, key, s->model.revision);
    Etcdserverpb__Compare cmp = ETCDSERVERPB__COMPARE__INIT;
    cmp.key = (ProtobufCBinaryData){3, (uint8_t *)yes.name};
    if (rng_chance(&s->rng, 500)) {
        cmp.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
        cmp.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
        cmp.mod_revision = e == NULL ? 0 : e->revision;
    } else {
        cmp.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION;
        cmp.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
        cmp.version = e == NULL ? 0 : e->version;
    }
    Etcdserverpb__RequestOp put_yes = ETCDSERVERPB__REQUEST_OP__INIT;
    put_yes.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    put_yes.request_put = &yes.put;
    Etcdserverpb__DeleteRangeRequest d = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    d.key = (ProtobufCBinaryData){3, (uint8_t *)no.name};
    Etcdserverpb__RequestOp delete_yes = ETCDSERVERPB__REQUEST_OP__INIT;
    delete_yes.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    delete_yes.request_delete_range = &d;
    Etcdserverpb__RequestOp put_no = ETCDSERVERPB__REQUEST_OP__INIT;
    put_no.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    put_no.request_put = &no.put;
    Etcdserverpb__Compare *compares[] = {&cmp};
    Etcdserverpb__RequestOp *success[] = {&put_yes, &delete_yes};
    Etcdserverpb__RequestOp *failure[] = {&put_no};
    Etcdserverpb__TxnRequest t = ETCDSERVERPB__TXN_REQUEST__INIT;
    t.n_compare = 1;
    t.compare = compares;
    t.n_success = rng_below(&s->rng, 3);
    t.success = success;
    t.n_failure = rng_below(&s->rng, 2);
    t.failure = failure;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.txn = &t;
    propose(op_create(n, ASK_TXN), &r);
    buf_unref(&yes.value);
    buf_unref(&no.value);
}

static void ask_grant(struct node *n)
{
    struct sim *s = n->sim;
    struct model_lease *l = NULL;
    for (size_t i = 0; i < SIM_LEASES && l == NULL; i++) {
        l = s->model.leases[i].id == 0 ? &s->model.leases[i] : NULL;
    }
    if (l == NULL) {
        return;
    }
    l->id = 1 + (int64_t)(l - s->model.leases) + (int64_t)(rng_below(&s->rng, 1u << 30) << 8);
    l->ttl = rng_chance(&s->rng, 700) ? (int64_t)rng_between(&s->rng, 1, 4) : 100000;
    l->granted_at = s->now;
    struct client_op *c = op_create(n, ASK_GRANT);
    c->lease = l->id;
    Etcdserverpb__LeaseGrantRequest g = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    g.id = l->id;
    g.ttl = l->ttl;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.lease_grant = &g;
    propose(c, &r);
}

static void ask_revoke(struct node *n)
{
    int64_t id = some_lease(n->sim);
    if (id == 0) {
        return;
    }
    model_lease(&n->sim->model, id)->revoke_asked = true;
    Etcdserverpb__LeaseRevokeRequest v = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    v.id = id;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.lease_revoke = &v;
    propose(op_create(n, ASK_REVOKE), &r);
}

static void ask_compact(struct node *n)
{
    struct sim *s = n->sim;
    int64_t newest = s->model.revision;
    int64_t from = s->model.compacted < 1 ? 1 : s->model.compacted;
    Etcdserverpb__CompactionRequest x = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    x.revision = (int64_t)rng_between(&s->rng, (uint64_t)from, (uint64_t)newest + (rng_chance(&s->rng, 50) ? 5u : 0u));
    x.physical = rng_chance(&s->rng, 200);
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.compaction = &x;
    propose(op_create(n, ASK_COMPACT), &r);
}

/* --- reads -------------------------------------------------------------------------------------------------------------- */

static void range_request(struct sim *s, Etcdserverpb__RangeRequest *r, uint8_t key[4], bool whole)
{
    *r = (Etcdserverpb__RangeRequest)ETCDSERVERPB__RANGE_REQUEST__INIT;
    if (whole) {
        key[0] = 'a';
        key[1] = 'z';
        r->key = (ProtobufCBinaryData){1, key};
        r->range_end = (ProtobufCBinaryData){1, key + 1};
        return;
    }
    char name[8];
    model_key_name((uint32_t)rng_below(&s->rng, SIM_KEYS), name);
    memcpy(key, name, 4);
    r->key = (ProtobufCBinaryData){3, key};
}

static void read_now(struct node *n, int64_t at, int64_t at_least, const char *what)
{
    struct sim *s = n->sim;
    Etcdserverpb__RangeRequest r;
    uint8_t key[4];
    range_request(s, &r, key, rng_chance(&s->rng, 300));
    r.revision = at;
    struct range_read *rr = NULL;
    struct range_info info;
    struct err_ctx ec = {{0}};
    struct engine *e = member_engine(n->m);
    enum err err = engine_range_open(e, &r, node_local_ns(n, s->now) / MS, &rr, &info, &ec);
    if (err == ERR_COMPACTED && at != 0 && at < engine_compact_revision(e)) {
        return;
    }
    if (err == ERR_FUTURE_REV && at > engine_revision(e)) {
        return;
    }
    if (err != OK) {
        sim_violation(s, what, "%s at revision %" PRId64 ": %s: %s", n->name, at, err_text(err), ec.text);
        return;
    }
    struct bytes b = {0};
    size_t got = engine_range_pull(rr, bytes_reserve(&b, info.kvs_bytes + 1), info.kvs_bytes, &err);
    engine_range_close(&rr);
    judge_range(n, &r, &info, slice_of(b.data, got), what);
    bytes_deinit(&b);
    if (info.header_revision < at_least) {
        sim_violation(s, what, "%s answers at revision %" PRId64 ", and %" PRId64 " had been acknowledged before the read was asked", n->name,
                      info.header_revision, at_least);
    }
    if (at_least >= 0 && info.header_revision > s->seen_revision) {
        s->seen_revision = info.header_revision;
    }
}

static void ask_read(struct node *n, bool probe)
{
    if (member_read_is_current(n->m)) {
        read_now(n, 0, n->sim->seen_revision, "read");
    }
    struct client_op *c = op_create(n, ASK_READ);
    c->probe = probe;
    c->op.kind = MEMBER_READ_INDEX;
    submit(c);
}

static void close_read(struct open_read *o)
{
    engine_range_close(&o->read);
    bytes_deinit(&o->kvs);
}

static void slow_event(struct sim *s, struct event *e)
{
    struct node *n = e->node;
    struct open_read *o = &n->reads[e->a];
    enum err err = OK;
    size_t room = (size_t)rng_between(&s->rng, 1, o->info.kvs_bytes / 3 + 100);
    size_t got = engine_range_pull(o->read, bytes_reserve(&o->kvs, room), room, &err);
    o->kvs.len += got;
    if (got > 0 && o->kvs.len < o->info.kvs_bytes) {
        sim_schedule(s, &(struct event){.at = s->now + rng_between(&s->rng, 1, 2000) * MS, .name = "slow read", .run = slow_event, .node = n,
                                        .life = n->life, .a = e->a});
        return;
    }
    if (o->kvs.len == o->info.kvs_bytes) {
        judge_range(n, &o->request, &o->info, bytes_slice(&o->kvs), "slow read");
    } else if (err != ERR_LEADER_CHANGED && err != ERR_COMPACTED) {
        sim_violation(s, "slow read", "%s ends with %s", n->name, err_text(err));
    }
    close_read(o);
}

static void ask_read_slowly(struct node *n)
{
    static uint8_t whole[2] = {'a', 'z'};
    struct sim *s = n->sim;
    for (size_t i = 0; i < SIM_OPEN_READS; i++) {
        struct open_read *o = &n->reads[i];
        if (o->read != NULL) {
            continue;
        }
        o->request = (Etcdserverpb__RangeRequest)ETCDSERVERPB__RANGE_REQUEST__INIT;
        o->request.key = (ProtobufCBinaryData){1, whole};
        o->request.range_end = (ProtobufCBinaryData){1, whole + 1};
        struct err_ctx ec;
        if (engine_range_open(member_engine(n->m), &o->request, node_local_ns(n, s->now) / MS, &o->read, &o->info, &ec) == OK) {
            sim_schedule(s, &(struct event){.at = s->now + MS, .name = "slow read", .run = slow_event, .node = n, .life = n->life, .a = i});
        }
        return;
    }
}

/* --- leases, leadership, the store ------------------------------------------------------------------------------------------ */

static bool renew(struct member *m, struct member_op *op)
{
    struct client_op *c = CONTAINER_OF(op, struct client_op, op);
    int64_t ttl = 0;
    op->err = lease_renew(engine_leases(member_engine(m)), c->lease, member_now_ms(m), &ttl);
    return true;
}

static void ask_keepalive(struct node *n)
{
    struct sim *s = n->sim;
    int64_t id = some_lease(s);
    struct node *leader = sim_leader(s);
    if (id == 0 || leader == NULL || s->calm) {
        return;
    }
    struct client_op *c = op_create(leader, ASK_KEEPALIVE);
    c->lease = id;
    c->op.kind = MEMBER_CALL;
    c->op.call = renew;
    submit(c);
}

static void ask_plain(struct node *n, enum kind kind, enum member_op_kind op_kind)
{
    struct client_op *c = op_create(n, kind);
    c->op.kind = op_kind;
    if (op_kind == MEMBER_TRANSFER) {
        const struct node *to = sim_random_up(n->sim);
        struct node *leader = sim_leader(n->sim);
        c->op.target = to->id;
        if (leader != NULL && rng_chance(&n->sim->rng, 900)) {
            c->node = leader;
            c->op.port = &leader->port;
        }
    }
    submit(c);
}

static void ask_some_read(struct node *n)
{
    ask_read(n, false);
}

static void ask_read_local(struct node *n)
{
    read_now(n, 0, -1, "local read");
}

static void ask_read_old(struct node *n)
{
    read_now(n, (int64_t)rng_between(&n->sim->rng, 1, (uint64_t)n->sim->model.revision), -1, "read of the past");
}

static const struct {
    unsigned weight;
    void (*ask)(struct node *n); /* NULL: an op without anything to fill in, of the kind that follows */
    enum kind kind;
    enum member_op_kind op_kind;
} requests[] = {
    {300, ask_put, ASK_PUT, MEMBER_PROPOSE},
    {60, ask_delete, ASK_DELETE, MEMBER_PROPOSE},
    {120, ask_txn, ASK_TXN, MEMBER_PROPOSE},
    {15, ask_grant, ASK_GRANT, MEMBER_PROPOSE},
    {8, ask_revoke, ASK_REVOKE, MEMBER_PROPOSE},
    {25, ask_compact, ASK_COMPACT, MEMBER_PROPOSE},
    {200, ask_some_read, ASK_READ, MEMBER_PROPOSE},
    {60, ask_read_local, ASK_READ_LOCAL, MEMBER_PROPOSE},
    {40, ask_read_old, ASK_READ_OLD, MEMBER_PROPOSE},
    {20, ask_read_slowly, ASK_READ_SLOWLY, MEMBER_PROPOSE},
    {20, ask_keepalive, ASK_KEEPALIVE, MEMBER_PROPOSE},
    {4, NULL, ASK_TRANSFER, MEMBER_TRANSFER},
    {2, NULL, ASK_DEFRAG, MEMBER_DEFRAG},
    {4, NULL, ASK_FLUSH, MEMBER_FLUSH},
    {6, NULL, ASK_WAIT_APPLIED, MEMBER_WAIT_APPLIED},
    {8, NULL, ASK_CONFIRM_LEADER, MEMBER_CONFIRM_LEADER},
};

static void client_event(struct sim *s, struct event *e)
{
    if (s->calm) {
        return;
    }
    unsigned total = 0;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        total += requests[i].weight;
    }
    uint64_t pick = rng_below(&s->rng, total);
    size_t i = 0;
    while (pick >= requests[i].weight) {
        pick -= requests[i++].weight;
    }
    struct node *n = sim_random_up(s);
    if (n != NULL && !n->doomed && requests[i].ask != NULL) {
        requests[i].ask(n);
    } else if (n != NULL && !n->doomed) {
        ask_plain(n, requests[i].kind, requests[i].op_kind);
    }
    struct event next = *e;
    next.at = s->now + rng_between(&s->rng, 1, 2 * s->set.client_every);
    sim_schedule(s, &next);
}

/* --- membership ----------------------------------------------------------------------------------------------------------------- */

static struct node *free_slot(struct sim *s)
{
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        struct node *n = &s->nodes[i];
        if (n->state == NODE_FREE) {
            return n;
        }
        if (n->state == NODE_DOWN && model_is_gone(&s->model, n->id)) {
            node_wipe(n);
            return n;
        }
    }
    return NULL;
}

static size_t present(struct sim *s, struct node *out[SIM_SLOTS])
{
    size_t k = 0;
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        if (s->nodes[i].state != NODE_FREE && !model_is_gone(&s->model, s->nodes[i].id)) {
            out[k++] = &s->nodes[i];
        }
    }
    return k;
}

static void ask_change(struct node *n, enum kind kind, enum member_change_kind change, const struct node *who)
{
    struct client_op *c = op_create(n, kind);
    c->change = (struct member_change){.kind = change, .id = who->id, .peer_urls = c->urls};
    memcpy(c->url, who->url, sizeof(c->url));
    c->urls[0] = c->url;
    c->op.kind = MEMBER_CHANGE;
    c->op.change = &c->change;
    n->sim->stats.changes++;
    submit(c);
}

static void change_something(struct sim *s)
{
    struct node *nodes[SIM_SLOTS];
    size_t k = present(s, nodes);
    struct node *at = sim_random_up(s);
    if (at == NULL || at->doomed) {
        return;
    }
    struct node *leader = sim_leader(s);
    uint64_t pick = rng_below(&s->rng, 100);
    if (pick < 40 && k < 6) {
        struct node *slot = free_slot(s);
        if (slot == NULL) {
            return;
        }
        node_create(s, slot, ++s->next_id, true);
        slot->stay_down = true;
        ask_change(at, ASK_ADD, rng_chance(&s->rng, 600) ? MEMBER_ADD_LEARNER : MEMBER_ADD, slot);
    } else if (pick < 70 && k > 2) {
        ask_change(at, ASK_REMOVE, MEMBER_REMOVE, nodes[rng_below(&s->rng, k)]);
    } else if (leader != NULL && !leader->doomed && k > 0) {
        ask_change(leader, ASK_PROMOTE, MEMBER_PROMOTE, nodes[rng_below(&s->rng, k)]);
    }
}

static bool listed_by(struct node *o, uint64_t id)
{
    size_t n = 0;
    struct member_info *v = engine_members(member_engine(o->m), &n);
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        found = found || v[i].id == id;
    }
    free(v);
    return found;
}

/* Whoever is in somebody's list of members, and was never started, is started now. */
static void start_added(struct sim *s)
{
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        struct node *n = &s->nodes[i];
        if (n->state != NODE_DOWN || !n->stay_down) {
            continue;
        }
        bool listed = false;
        for (size_t j = 0; j < SIM_SLOTS; j++) {
            listed = listed || (s->nodes[j].state == NODE_UP && listed_by(&s->nodes[j], n->id));
        }
        if (listed) {
            n->stay_down = false;
            node_start(n);
        }
    }
}

static void admin_event(struct sim *s, struct event *e)
{
    start_added(s);
    if (!s->calm && s->set.admin_every != 0 && s->now >= e->a) {
        change_something(s);
        e->a = s->now + rng_between(&s->rng, 1, 2 * s->set.admin_every);
    }
    struct event next = *e;
    next.at = s->now + 100u * MS;
    sim_schedule(s, &next);
}

/* Refused before it was proposed, or when it was applied: the id never becomes a member. */
static bool never_added(enum err e)
{
    return e == ERR_NOT_ENOUGH_STARTED || e == ERR_UNHEALTHY || e == ERR_MEMBER_EXISTS || e == ERR_PEER_URL_EXISTS || e == ERR_TOO_MANY_LEARNERS;
}

static void change_answered(struct client_op *c)
{
    struct sim *s = c->node->sim;
    if (c->kind == ASK_ADD && never_added(c->op.err)) {
        struct node *n = sim_node_of(s, c->change.id);
        if (n != NULL && n->state == NODE_DOWN && n->stay_down) {
            node_wipe(n);
        }
    }
    if (c->kind == ASK_REMOVE && c->op.err == OK && !model_is_gone(&s->model, c->change.id)) {
        sim_violation(s, "membership", "%s says that m%" PRIu64 " was removed, and it was not", c->node->name, c->change.id & 0xffffu);
    }
}

/* --- answers -------------------------------------------------------------------------------------------------------------------------- */

static bool from_applying(enum err e)
{
    return e == OK || e == ERR_LEASE_NOT_FOUND || e == ERR_LEASE_EXISTS || e == ERR_COMPACTED || e == ERR_FUTURE_REV;
}

static void judge_txn(struct client_op *c, bool want)
{
    struct slice body = buf_slice(c->op.result.body);
    Etcdserverpb__TxnResponse *t = etcdserverpb__txn_response__unpack(NULL, body.len, body.data);
    if (t == NULL || (t->succeeded != 0) != want) {
        sim_violation(c->node->sim, "answer", "%s says that a txn %s, and it did not", c->node->name, want ? "failed" : "succeeded");
    }
    etcdserverpb__txn_response__free_unpacked(t, NULL);
}

static void judge_proposal(struct client_op *c)
{
    struct sim *s = c->node->sim;
    if (!from_applying(c->op.err)) {
        s->stats.unknown++;
        return;
    }
    const struct model_result *r = model_result(&s->model, c->op.request_id);
    if (r == NULL) {
        sim_violation(s, "answer", "%s acknowledges a %s that is not in the committed log", c->node->name, names[c->kind]);
        return;
    }
    if (r->err != c->op.err || r->revision != c->op.result.revision) {
        sim_violation(s, "answer", "%s answers a %s with %s at revision %" PRId64 ", the model has %s at %" PRId64, c->node->name, names[c->kind],
                      err_text(c->op.err), c->op.result.revision, err_text(r->err), r->revision);
        return;
    }
    if (r->revision < c->seen || (c->kind == ASK_PUT && r->err == OK && r->revision <= c->seen)) {
        sim_violation(s, "answer", "%s: a %s took effect at revision %" PRId64 ", and %" PRId64 " had been seen before it was asked", c->node->name,
                      names[c->kind], r->revision, c->seen);
    }
    if (c->kind == ASK_TXN) {
        judge_txn(c, r->succeeded);
    }
    s->stats.acked++;
    if (r->revision > s->seen_revision) {
        s->seen_revision = r->revision;
    }
}

void client_answered(struct node *n, struct member_op *op)
{
    struct client_op *c = CONTAINER_OF(op, struct client_op, op);
    struct sim *s = n->sim;
    unlink_op(c);
    sim_note(s, n, c->op.request_id * 31u + (uint64_t)op->err, "answered: %s, %s, revision %" PRId64, names[c->kind], err_text(op->err),
             op->result.revision);
    if (op->kind == MEMBER_PROPOSE) {
        judge_proposal(c);
    } else if (op->kind == MEMBER_READ_INDEX && op->err == OK) {
        read_now(n, 0, c->seen, "read");
    } else if (op->kind == MEMBER_CHANGE) {
        change_answered(c);
    }
    if (c->probe) {
        n->probes[c->kind == ASK_PUT ? 0 : 1] = op->err == OK ? PROBE_DONE : PROBE_WANTED;
    }
    op_free(c);
}

void client_forget(struct node *n)
{
    while (n->ops != NULL) {
        struct client_op *c = n->ops;
        n->ops = c->next;
        n->sim->stats.unknown++;
        if (c->probe) {
            n->probes[c->kind == ASK_PUT ? 0 : 1] = PROBE_WANTED;
        }
        op_free(c);
    }
    n->answers = NULL;
    n->answers_last = &n->answers;
}

/* --- beginning and end ---------------------------------------------------------------------------------------------- */

void client_node_gone(struct node *n)
{
    watch_node_gone(n);
    for (size_t i = 0; i < SIM_OPEN_READS; i++) {
        if (n->reads[i].read != NULL) {
            close_read(&n->reads[i]);
        }
    }
}

void client_init(struct sim *s)
{
    sim_schedule(s, &(struct event){.at = s->now + rng_between(&s->rng, 1, 500) * MS, .name = "client", .run = client_event});
    sim_schedule(s, &(struct event){.at = s->now + 100u * MS, .name = "admin", .run = admin_event, .a = s->now + 1000u * MS});
    watch_init(s);
}

bool client_probe(struct sim *s)
{
    bool all = true;
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        struct node *n = &s->nodes[i];
        if (n->state == NODE_FREE || n->stay_down || model_is_gone(&s->model, n->id)) {
            continue;
        }
        all = all && n->probes[0] == PROBE_DONE && n->probes[1] == PROBE_DONE;
        for (size_t k = 0; k < 2 && n->state == NODE_UP; k++) {
            if (n->probes[k] == PROBE_WANTED) {
                n->probes[k] = PROBE_ASKED;
                (k == 0 ? put_something : ask_read)(n, true);
            }
        }
    }
    return all;
}
