/* net.c - the simulated network between members, as the transport that a member is given.
 *
 * Messages travel as the bytes of raft/peer's codec. Each direction between two machines has its own delays, losses and cuts. What
 * is proposed is never duplicated: the real links are TCP, which does not, and a proposal that arrives twice is applied twice, in etcd
 * too. A snapshot goes the way that api/peer takes: what is applied is flushed, the database is read, travels, is checked and
 * staged, and then installed; each of the steps takes its time, and any of the two members may die in between.
 */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "raft/peer/codec.h"

struct packet {
    uint64_t from, to;
    struct bytes bytes;
};

struct transfer {
    struct sim *sim;
    struct transfer *next;
    struct node *from, *to;
    uint32_t from_life, to_life;
    uint64_t from_id, to_id;
    struct raft_message *message; /* owned */
    struct engine_snapshot *reading; /* owned */
    struct snapshot_info info;
    struct bytes db;
    uint64_t sum; /* of what was sent: the transport's own check */
    struct staged *staged; /* owned */
    struct member_op op;
    bool submitted; /* to the receiver: message and staged are the member's */
    bool over;
};

void net_init(struct sim *s)
{
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        for (size_t j = 0; j < SIM_SLOTS; j++) {
            s->wires[i][j] = (struct wire){.delay_min = 100u * 1000u, .delay_max = 2u * MS};
        }
    }
}

static struct wire *wire_of(struct sim *s, const struct node *from, const struct node *to)
{
    return &s->wires[from->slot][to->slot];
}

static uint64_t delay(struct sim *s, const struct wire *w)
{
    uint64_t d = rng_between(&s->rng, w->delay_min, w->delay_max);
    return rng_chance(&s->rng, w->tail) ? 10u * d : d;
}

/* --- news about links ----------------------------------------------------------------------------------------------- */

struct news {
    uint64_t id;
    enum link_news kind;
};

static void drop_plain(struct event *e)
{
    free(e->p);
}

static void news_event(struct sim *s, struct event *e)
{
    struct news *x = e->p;
    sim_note(s, e->node, x->id + (uint64_t)x->kind, "link to m%" PRIu64 ": news %d", x->id & 0xffffu, (int)x->kind);
    member_link_news(e->node->m, x->id, x->kind);
    node_wake(e->node);
    free(x);
}

static void tell(struct node *n, uint64_t about, enum link_news kind, uint64_t after)
{
    if (n->state != NODE_UP) {
        return;
    }
    struct news *x = xalloc(sizeof(*x));
    *x = (struct news){about, kind};
    sim_schedule(n->sim, &(struct event){.at = n->sim->now + after, .name = "news", .run = news_event, .drop = drop_plain, .node = n,
                                         .life = n->life, .p = x});
}

void net_set_cut(struct sim *s, unsigned from, unsigned to, bool cut)
{
    struct wire *w = &s->wires[from][to];
    if (w->cut && !cut) {
        w->whole_since = s->now;
        struct node *a = &s->nodes[from];
        struct node *b = &s->nodes[to];
        if (a->state == NODE_UP && b->state == NODE_UP && !s->wires[to][from].cut) {
            tell(a, b->id, LINK_NEWS_ACTIVE, rng_between(&s->rng, 1, 100) * MS);
            tell(b, a->id, LINK_NEWS_ACTIVE, rng_between(&s->rng, 1, 100) * MS);
        }
    }
    w->cut = cut;
}

static bool linked(struct sim *s, const struct node *a, const struct node *b)
{
    return a->state == NODE_UP && b->state == NODE_UP && !wire_of(s, a, b)->cut && !wire_of(s, b, a)->cut;
}

/* Its links dial all the time, and who knows that it was removed tells it so. */
static void dial_event(struct sim *s, struct event *e)
{
    struct node *n = e->node;
    const struct node *o = &s->nodes[rng_below(&s->rng, SIM_SLOTS)];
    if (o != n && linked(s, n, o) && engine_member_removed(member_engine(o->m), n->id)) {
        tell(n, o->id, LINK_NEWS_REMOVED, MS);
    }
    struct event next = *e;
    next.at = s->now + rng_between(&s->rng, 100, 1000) * MS;
    sim_schedule(s, &next);
}

void net_node_up(struct node *n)
{
    struct sim *s = n->sim;
    sim_schedule(s, &(struct event){.at = s->now + 100u * MS, .name = "dial", .run = dial_event, .node = n, .life = n->life});
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        struct node *o = &s->nodes[i];
        if (o != n && linked(s, n, o)) {
            tell(o, n->id, LINK_NEWS_ACTIVE, rng_between(&s->rng, 1, 50) * MS);
            tell(n, o->id, LINK_NEWS_ACTIVE, rng_between(&s->rng, 1, 50) * MS);
        }
    }
}

/* Its machine is there and refuses connections: some of the others see that, unless it is cut off. */
void net_node_down(struct node *n)
{
    struct sim *s = n->sim;
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        struct node *o = &s->nodes[i];
        if (o != n && o->state == NODE_UP && !wire_of(s, n, o)->cut && !wire_of(s, o, n)->cut && rng_chance(&s->rng, 700)) {
            tell(o, n->id, LINK_NEWS_GONE, rng_between(&s->rng, 1, 40) * MS);
        }
    }
}

/* --- plain messages --------------------------------------------------------------------------------------------------- */

static void drop_packet(struct event *e)
{
    struct packet *p = e->p;
    bytes_deinit(&p->bytes);
    free(p);
}

static void not_delivered(struct sim *s, const struct packet *p)
{
    struct node *from = sim_node_of(s, p->from);
    if (from != NULL && from->state == NODE_UP) {
        tell(from, p->to, LINK_NEWS_UNREACHABLE, rng_between(&s->rng, 1, 20) * MS);
    }
}

static void packet_event(struct sim *s, struct event *e)
{
    struct packet *p = e->p;
    struct node *from = sim_node_of(s, p->from);
    struct node *to = sim_node_of(s, p->to);
    if (to == NULL || to->state != NODE_UP) {
        not_delivered(s, p);
        drop_packet(e);
        return;
    }
    if (from == NULL || wire_of(s, from, to)->cut) {
        drop_packet(e);
        return;
    }
    if (to->paused_to > s->now) { /* lies in the socket's buffer */
        struct event again = *e;
        again.at = to->paused_to + 1000u;
        sim_schedule(s, &again);
        return;
    }
    if (engine_member_removed(member_engine(to->m), p->from)) {
        tell(from, p->to, LINK_NEWS_REMOVED, rng_between(&s->rng, 1, 5) * MS);
        drop_packet(e);
        return;
    }
    struct raft_message *m = NULL;
    struct err_ctx ec;
    enum err err = peer_message_decode(bytes_slice(&p->bytes), &m, &ec);
    if (err != OK) {
        sim_violation(s, "codec", "a message that was encoded does not decode: %s", ec.text);
        drop_packet(e);
        return;
    }
    s->stats.messages++;
    sim_note(s, to, hash64(p->bytes.data, p->bytes.len), "got %s from m%" PRIu64 ", term %" PRIu64 ", index %" PRIu64 ", %zu entries%s",
             raft_message_type_name(m->type), m->from & 0xffffu, m->term, m->index, m->n_entries, m->reject ? ", reject" : "");
    member_receive(to->m, m);
    node_wake(to);
    drop_packet(e);
}

static void post(struct node *from, const struct node *to, const struct raft_message *m)
{
    struct sim *s = from->sim;
    struct packet *p = xcalloc(1, sizeof(*p));
    p->from = from->id;
    p->to = m->to;
    peer_message_encode(m, &p->bytes);
    const struct wire *w = wire_of(s, from, to);
    if (w->cut || rng_chance(&s->rng, w->loss)) {
        if (rng_chance(&s->rng, 500)) {
            not_delivered(s, p);
        }
        bytes_deinit(&p->bytes);
        free(p);
        return;
    }
    sim_schedule(s, &(struct event){.at = s->now + delay(s, w), .name = "packet", .run = packet_event, .drop = drop_packet, .p = p});
}

/* --- snapshots ---------------------------------------------------------------------------------------------------------- */

static bool sender_lives(const struct transfer *x)
{
    return x->from->state == NODE_UP && x->from->life == x->from_life;
}

static bool receiver_lives(const struct transfer *x)
{
    return x->to != NULL && x->to->state == NODE_UP && x->to->life == x->to_life;
}

static void finish(struct transfer *x, bool delivered, const char *why)
{
    if (x->over) {
        return;
    }
    struct sim *s = x->sim;
    sim_note(s, x->from, delivered ? 0x50e1 : 0x50e2, "snapshot of %" PRIu64 " to m%" PRIu64 ": %s", x->info.index, x->to_id & 0xffffu, why);
    if (sender_lives(x)) {
        if (x->reading != NULL) {
            engine_snapshot_close(&x->reading);
        }
        tell(x->from, x->to_id, delivered ? LINK_NEWS_SNAPSHOT_DELIVERED : LINK_NEWS_SNAPSHOT_FAILED, rng_between(&s->rng, 1, 20) * MS);
    }
    if (x->staged != NULL) {
        ASSERT(receiver_lives(x)); /* its end comes here first */
        member_stage_discard(x->to->m, &x->staged);
    }
    raft_message_destroy(&x->message);
    bytes_deinit(&x->db);
    x->over = true; /* the struct stays until the world ends: events and the member may point at it */
}

void net_node_closing(struct node *n)
{
    struct sim *s = n->sim;
    for (struct transfer *x = s->transfers; x != NULL; x = x->next) {
        if (x->over) {
            continue;
        }
        if (x->from == n && x->from_life == n->life && !x->submitted) {
            finish(x, false, "the sender is gone");
        } else if (x->to == n && x->to_life == n->life) {
            finish(x, false, "the receiver is gone");
        }
    }
}

static void on_installed(struct member_op *op)
{
    struct transfer *x = CONTAINER_OF(op, struct transfer, op);
    finish(x, op->err == OK, op->err == OK ? "installed" : err_text(op->err));
}

static void install_event(struct sim *s, struct event *e)
{
    struct transfer *x = e->p;
    if (x->over) {
        return;
    }
    if (!receiver_lives(x)) {
        finish(x, false, "the receiver is gone");
        return;
    }
    x->op = (struct member_op){.kind = MEMBER_INSTALL, .done = on_installed, .message = x->message, .staged = x->staged};
    enum err err = member_submit(x->to->m, &x->op);
    if (err != OK) {
        finish(x, false, err_text(err));
        return;
    }
    x->message = NULL;
    x->staged = NULL;
    x->submitted = true;
    sim_note(s, x->to, 0x1257a, "a snapshot of %" PRIu64 " goes in", x->info.index);
    node_wake(x->to);
}

static void step(struct transfer *x, uint64_t after, const char *name, void (*run)(struct sim *, struct event *))
{
    sim_schedule(x->sim, &(struct event){.at = x->sim->now + after, .name = name, .run = run, .p = x});
}

static enum err read_at(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec)
{
    const struct bytes *b = arg;
    if (offset > b->len || n > b->len - offset) {
        return err_set(ec, ERR_IO, "outside of what was received");
    }
    memcpy(dst, b->data + offset, n);
    return OK;
}

static void damage(struct sim *s, struct transfer *x)
{
    if (rng_chance(&s->rng, 500)) {
        x->db.len = rng_below(&s->rng, x->db.len);
    } else {
        uint64_t bit = rng_below(&s->rng, 8u * x->db.len);
        x->db.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void arrive_event(struct sim *s, struct event *e)
{
    struct transfer *x = e->p;
    if (x->over) {
        return;
    }
    x->to = sim_node_of(s, x->to_id);
    if (x->to == NULL || x->to->state != NODE_UP || wire_of(s, x->from, x->to)->cut || !sender_lives(x)) {
        x->to = NULL;
        finish(x, false, "not delivered");
        return;
    }
    x->to_life = x->to->life;
    if (engine_member_removed(member_engine(x->to->m), x->from_id)) {
        tell(x->from, x->to_id, LINK_NEWS_REMOVED, MS);
        finish(x, false, "refused: the sender was removed");
        return;
    }
    if (rng_chance(&s->rng, s->snapshot_damage)) {
        damage(s, x);
    }
    bool whole = hash64(x->db.data, x->db.len) == x->sum;
    struct bolt_source src = {read_at, &x->db, x->db.len};
    struct err_ctx ec = {{0}};
    enum err err = member_stage(x->to->m, &src, x->message, &x->staged, &ec);
    if (!whole) {
        s->stats.refused_snapshots++;
        finish(x, false, err == OK ? "altered on the way" : ec.text);
        return;
    }
    if (err != OK && err != ERR_BUSY && !x->to->doomed) {
        sim_violation(s, "snapshot", "%s refuses a whole snapshot: %s: %s", x->to->name, err_text(err), ec.text);
    }
    if (err != OK) {
        finish(x, false, ec.text);
        return;
    }
    step(x, rng_between(&s->rng, 1, 200) * MS * x->to->disk_slow, "install", install_event);
}

static void fill_message(struct transfer *x)
{
    struct raft_snapshot *sn = xcalloc(1, sizeof(*sn));
    const struct engine_conf *c = &x->info.conf;
    sn->index = x->info.index;
    sn->term = x->info.term;
    const uint64_t *from[] = {c->voters, c->learners, c->voters_outgoing, c->learners_next};
    size_t n[] = {c->n_voters, c->n_learners, c->n_voters_outgoing, c->n_learners_next};
    struct raft_ids *to[] = {&sn->conf.voters, &sn->conf.learners, &sn->conf.voters_outgoing, &sn->conf.learners_next};
    for (size_t i = 0; i < 4; i++) {
        to[i]->n = n[i];
        memcpy(to[i]->id, from[i], n[i] * sizeof(uint64_t));
    }
    sn->conf.auto_leave = c->auto_leave;
    raft_snapshot_destroy(&x->message->snapshot);
    x->message->snapshot = sn;
    /* As bytes and back: what the receiver sees came over a wire. */
    struct bytes b = {0};
    peer_message_encode(x->message, &b);
    raft_message_destroy(&x->message);
    struct err_ctx ec;
    enum err err = peer_message_decode(bytes_slice(&b), &x->message, &ec);
    ASSERT(err == OK);
    bytes_deinit(&b);
}

static void read_event(struct sim *s, struct event *e)
{
    struct transfer *x = e->p;
    if (x->over) {
        return;
    }
    struct err_ctx ec = {{0}};
    size_t n = 0;
    enum err err = OK;
    do {
        size_t room = (size_t)rng_between(&s->rng, 500, 65536);
        err = engine_snapshot_read(x->reading, bytes_reserve(&x->db, room), room, &n, &ec);
        x->db.len += err == OK ? n : 0;
    } while (err == OK && n > 0);
    engine_snapshot_close(&x->reading);
    if (err != OK || x->db.len != x->info.bytes) {
        sim_violation(s, "snapshot", "%s cannot read its snapshot: %s", x->from->name, ec.text);
        finish(x, false, ec.text);
        return;
    }
    x->sum = hash64(x->db.data, x->db.len);
    fill_message(x);
    s->stats.snapshots_sent++;
    sim_note(s, x->from, x->sum, "snapshot of %" PRIu64 " goes to m%" PRIu64 ", %zu bytes", x->info.index, x->to_id & 0xffffu, x->db.len);
    step(x, rng_between(&s->rng, 1, 300) * MS, "snapshot arrives", arrive_event);
}

static void open_event(struct sim *s, struct event *e)
{
    struct transfer *x = e->p;
    if (x->over) {
        return;
    }
    if (!sender_lives(x)) {
        finish(x, false, "the sender is gone");
        return;
    }
    struct err_ctx ec = {{0}};
    enum err err = engine_snapshot_open(member_engine(x->from->m), &x->reading, &x->info, &ec);
    if (err != OK) {
        finish(x, false, ec.text);
        return;
    }
    step(x, rng_between(&s->rng, 0, 100) * MS, "snapshot is read", read_event);
}

static void on_flushed(struct member_op *op)
{
    struct transfer *x = CONTAINER_OF(op, struct transfer, op);
    if (op->err != OK) {
        finish(x, false, err_text(op->err));
        return;
    }
    step(x, rng_between(&x->sim->rng, 0, 50) * MS, "snapshot is opened", open_event);
}

static void begin_transfer(struct node *n, struct raft_message *m)
{
    struct sim *s = n->sim;
    struct transfer *x = xcalloc(1, sizeof(*x));
    *x = (struct transfer){.sim = s, .next = s->transfers, .from = n, .from_life = n->life, .from_id = n->id, .to_id = m->to, .message = m};
    s->transfers = x;
    x->op = (struct member_op){.kind = MEMBER_FLUSH, .done = on_flushed};
    if (member_submit(n->m, &x->op) != OK) {
        finish(x, false, "not taken");
        return;
    }
    node_wake(n);
}

void net_deinit(struct sim *s)
{
    while (s->transfers != NULL) {
        struct transfer *x = s->transfers;
        s->transfers = x->next;
        raft_message_destroy(&x->message);
        bytes_deinit(&x->db);
        free(x);
    }
}

/* --- the table ------------------------------------------------------------------------------------------------------------ */

static void on_send(void *arg, struct raft_message *const *messages, size_t count)
{
    struct node *n = arg;
    struct sim *s = n->sim;
    for (size_t i = 0; i < count; i++) {
        struct raft_message *m = messages[i];
        if (n->dying || s->violated) {
            raft_message_destroy(&m);
            continue;
        }
        judge_send(n, m);
        if (m->type == RAFT_MSG_SNAP) {
            begin_transfer(n, m);
            continue;
        }
        struct node *to = sim_node_of(s, m->to);
        if (to == NULL) {
            tell(n, m->to, LINK_NEWS_UNREACHABLE, 10u * MS);
        } else {
            post(n, to, m);
            if (m->type != RAFT_MSG_PROP && rng_chance(&s->rng, wire_of(s, n, to)->duplicate)) {
                post(n, to, m);
            }
        }
        raft_message_destroy(&m);
    }
}

static void on_members_changed(void *arg)
{
    struct node *n = arg;
    if (!n->dying && n->m != NULL && n->state == NODE_UP) {
        size_t count = 0;
        free(member_peers(n->m, &count));
    }
}

static uint64_t on_active_since(void *arg, uint64_t id)
{
    struct node *n = arg;
    struct sim *s = n->sim;
    const struct node *o = sim_node_of(s, id);
    if (o == NULL || !linked(s, n, o)) {
        return 0;
    }
    uint64_t since = n->up_since > o->up_since ? n->up_since : o->up_since;
    uint64_t whole[] = {wire_of(s, n, o)->whole_since, wire_of(s, o, n)->whole_since};
    since = whole[0] > since ? whole[0] : since;
    since = whole[1] > since ? whole[1] : since;
    uint64_t ms = node_local_ns(n, since) / MS;
    return ms == 0 ? 1 : ms;
}

static void versions_event(struct sim *s, struct event *e)
{
    struct node *n = e->node;
    size_t count = 0;
    struct member_info *v = member_peers(n->m, &count);
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        const struct node *o = sim_node_of(s, v[i].id);
        all = all && (v[i].id == n->id || (o != NULL && linked(s, n, o)));
    }
    free(v);
    member_versions(n->m, all ? "3.7.0" : "", all);
    node_wake(n);
}

static void on_ask_versions(void *arg)
{
    struct node *n = arg;
    if (n->dying || n->state != NODE_UP) {
        return;
    }
    uint64_t at = n->sim->now + rng_between(&n->sim->rng, 1, 50) * MS;
    sim_schedule(n->sim, &(struct event){.at = at, .name = "versions", .run = versions_event, .node = n, .life = n->life});
}

struct member_transport net_transport(struct node *n)
{
    return (struct member_transport){.send = on_send, .members_changed = on_members_changed, .active_since_ms = on_active_since,
                                     .ask_versions = on_ask_versions, .arg = n};
}
