/* node.c - one member: its machine, its process, its log thread and its store thread, moved on by events.
 *
 * The process is the real member (raft/member/step.h). The log thread is played here: requests queue up, a batch takes its simulated
 * time, and only when that time is over is it written with wal_append and reported. A crash before that loses it, as it would. The
 * store thread is played in the same way.
 */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define TURN_NS 20000u          /* a turn begins so long after something came in, at most */
#define BUSY_TURNS_MAX 3000u    /* in a row; more: it runs in circles */
#define COMPACTION_PAUSE_NS (100u * MS)
#define FOUNDING_CLUSTER UINT64_C(0x51a7c0de)

/* --- clocks ------------------------------------------------------------------------------------------------------ */

uint64_t node_local_ns(const struct node *n, uint64_t at)
{
    if (at < n->clock_since) { /* asked about the past, by links that were up before */
        uint64_t back = n->clock_since - at;
        return n->clock_base > back + MS ? n->clock_base - back : MS;
    }
    uint64_t real = at - n->clock_since;
    int64_t drift = (int64_t)(real / 1000000u) * n->clock_ppm;
    return n->clock_base + (uint64_t)((int64_t)real + drift);
}

static uint64_t monotonic(void *self)
{
    struct node *n = self;
    return node_local_ns(n, n->sim->now);
}

static uint64_t wall(void *self)
{
    struct node *n = self;
    return n->wall_base + n->sim->now;
}

void node_set_rate(struct node *n, int64_t ppm)
{
    n->clock_base = node_local_ns(n, n->sim->now);
    n->clock_since = n->sim->now;
    n->clock_ppm = ppm;
}

void node_jump(struct node *n, uint64_t ns)
{
    n->clock_base += ns;
}

/* When the member's clock shows `local_ms`; never before now. */
static uint64_t when_local(const struct node *n, uint64_t local_ms)
{
    uint64_t local = node_local_ns(n, n->sim->now);
    uint64_t want = local_ms * MS;
    if (local_ms >= UINT64_MAX / (2u * MS)) {
        return n->sim->now + 10000u * MS;
    }
    if (want <= local) {
        return n->sim->now;
    }
    uint64_t wait = want - local;
    int64_t back = (int64_t)(wait / 1000000u) * n->clock_ppm;
    return n->sim->now + (uint64_t)((int64_t)wait - back) + 1000u;
}

/* --- turns --------------------------------------------------------------------------------------------------------- */

static void turn_event(struct sim *s, struct event *e);

static void schedule_turn(struct node *n, uint64_t at)
{
    if (n->state != NODE_UP || at >= n->turn_at) {
        return;
    }
    n->turn_at = at;
    sim_schedule(n->sim, &(struct event){.at = at, .name = "turn", .run = turn_event, .node = n, .life = n->life});
}

void node_wake(struct node *n)
{
    if (n->state == NODE_UP && n->turn_at > n->sim->now + TURN_NS) {
        schedule_turn(n, n->sim->now + rng_below(&n->sim->rng, TURN_NS));
    }
}

static void drop_batches(struct node *n)
{
    for (size_t i = 0; i < n->n_batches; i++) {
        event_batch_unref(&n->batches[i]);
    }
    n->n_batches = 0;
    n->was_restored = false;
}

/* In the order of a real loop's inbox: the snapshot, revisions, answers. */
static void deliver(struct node *n)
{
    if (n->was_restored) {
        watch_hub_restored(n->hub, n->restored);
        n->was_restored = false;
    }
    for (size_t i = 0; i < n->n_batches; i++) {
        watch_hub_feed(n->hub, n->batches[i]);
    }
    n->n_batches = 0;
    struct member_op *op = n->answers;
    n->answers = NULL;
    n->answers_last = &n->answers;
    while (op != NULL) {
        struct member_op *next = (struct member_op *)(void *)op->node.next;
        client_answered(n, op);
        op = next;
    }
    for (int i = 0; i < 2 && watch_hub_step(n->hub); i++) {
    }
}

static void stop_event(struct sim *s, struct event *e)
{
    (void)s;
    node_stop(e->node, (enum stop_kind)e->a);
}

static void doom(struct node *n)
{
    if (!n->doomed) {
        n->doomed = true;
        sim_schedule(n->sim, &(struct event){.at = n->sim->now, .name = "process ends", .run = stop_event, .node = n, .life = n->life, .a = STOP_KILL});
    }
}

static void turn_event(struct sim *s, struct event *e)
{
    struct node *n = e->node;
    if (n->turn_at != e->at || n->doomed) {
        return;
    }
    n->turn_at = UINT64_MAX;
    if (n->paused_to > s->now) {
        schedule_turn(n, n->paused_to);
        return;
    }
    n->in_call = true;
    bool more = member_turn(n->m);
    n->in_call = false;
    judge_turn(n);
    if (n->heard_removed && !model_is_gone(&s->model, n->id)) {
        sim_violation(s, "membership", "%s stops as removed, but nobody removed it", n->name);
    }
    deliver(n);
    uint64_t wake = more ? s->now : when_local(n, member_wake_at_ms(n->m));
    n->busy_turns = wake <= s->now ? n->busy_turns + 1u : 0;
    if (n->busy_turns > BUSY_TURNS_MAX) {
        sim_violation(s, "progress", "%s has had %u turns in a row, and wants another at once (%s)", n->name, n->busy_turns, more ? "more to do" : "due");
    }
    schedule_turn(n, wake > s->now ? wake : s->now + 1000u + rng_below(&s->rng, TURN_NS));
}

/* --- what the member tells ------------------------------------------------------------------------------------------ */

static void on_answered(void *arg, struct member_op *first, struct member_op *last, size_t n_ops)
{
    struct node *n = arg;
    (void)n_ops;
    last->node.next = NULL;
    *n->answers_last = first;
    n->answers_last = (struct member_op **)(void *)&last->node.next;
    if (!n->in_call) {
        node_wake(n);
    }
}

static void on_changed(void *arg, struct event_batch *const *batches, size_t count)
{
    struct node *n = arg;
    if (n->n_batches + count > n->cap_batches) {
        n->cap_batches = 2 * n->cap_batches + count;
        n->batches = xrealloc(n->batches, n->cap_batches * sizeof(*n->batches));
    }
    for (size_t i = 0; i < count; i++) {
        n->batches[n->n_batches++] = batches[i];
    }
}

static void on_restored(void *arg, int64_t revision)
{
    struct node *n = arg;
    drop_batches(n); /* changes of the old state that were not handed on: history has them, or the snapshot */
    n->sim->stats.snapshots_installed++;
    n->restored = revision;
    n->was_restored = true;
}

static void on_failed(void *arg, enum err e, const char *what)
{
    struct node *n = arg;
    if (n->dying) {
        return;
    }
    sim_note(n->sim, n, 0xfa11, "failed: %s: %s", err_text(e), what);
    if (!n->fault_armed) {
        sim_violation(n->sim, "member", "%s failed without a fault: %s: %s", n->name, err_text(e), what);
    }
    doom(n);
}

static void on_ready(void *arg)
{
    sim_note(arg == NULL ? NULL : ((struct node *)arg)->sim, arg, 0x4ead, "ready");
}

static void on_removed(void *arg)
{
    struct node *n = arg;
    if (n->dying) {
        return;
    }
    sim_note(n->sim, n, 0x4e40, "heard that it was removed");
    n->heard_removed = true;
    uint64_t at = n->sim->now + rng_between(&n->sim->rng, 1, 1000) * MS;
    sim_schedule(n->sim, &(struct event){.at = at, .name = "removed member ends", .run = stop_event, .node = n, .life = n->life, .a = STOP_GRACEFUL});
}

/* --- the log thread ---------------------------------------------------------------------------------------------------- */

static void log_event(struct sim *s, struct event *e);

static void add_item(struct node *n, struct log_item item)
{
    if (n->n_items == n->cap_items) {
        n->cap_items = n->cap_items == 0 ? 64 : 2 * n->cap_items;
        n->items = xrealloc(n->items, n->cap_items * sizeof(*n->items));
    }
    n->items[n->n_items++] = item;
    node_log_pump(n);
}

static void on_submit(void *arg, struct wal_request *r)
{
    struct node *n = arg;
    if (n->dying) {
        return;
    }
    add_item(n, (struct log_item){.request = r});
}

static void on_release(void *arg, uint64_t index)
{
    struct node *n = arg;
    if (n->dying) {
        return;
    }
    add_item(n, (struct log_item){.release = index});
}

void node_log_pump(struct node *n)
{
    struct sim *s = n->sim;
    if (n->log_busy || n->n_items == 0 || n->disk_hung || n->state != NODE_UP) {
        return;
    }
    n->log_busy = true;
    uint64_t us = rng_between(&s->rng, 20, s->set.fsync_max_us) * n->disk_slow;
    sim_schedule(s, &(struct event){.at = s->now + us * 1000u, .name = "log", .run = log_event, .node = n, .life = n->life});
}

/* The requests that make up the next batch: a restart begins one. */
static size_t gather(const struct node *n)
{
    size_t k = 0;
    while (k < n->n_items && n->items[k].request != NULL && (k == 0 || n->items[k].request->restart_at == 0)) {
        k++;
    }
    return k;
}

static void fill_batch(const struct node *n, size_t k, struct wal_batch *b, struct wal_entry *entries)
{
    for (size_t i = 0; i < k; i++) {
        const struct wal_request *r = n->items[i].request;
        if (r->has_hard_state) {
            b->has_hard_state = true;
            b->hard_state = r->hard_state;
            if (n->sim->plant == PLANT_VOTE_FORGOTTEN) {
                b->hard_state.vote = 0;
            }
        }
        b->restart_at = r->restart_at != 0 ? r->restart_at : b->restart_at;
        for (size_t j = 0; j < r->n_entries; j++) {
            entries[b->n_entries++] = r->entries[j];
        }
    }
    b->entries = entries;
}

static void report_done(struct node *n, size_t k, const struct wal_position *positions, struct wal_position before)
{
    size_t at = 0;
    for (size_t i = 0; i < k; i++) {
        struct wal_request *r = n->items[i].request;
        if (r->restart_at != 0) {
            before = (struct wal_position){r->restart_at - 1, 0, 0};
        }
        at += r->n_entries;
        if (r->n_entries > 0) {
            before = positions[at - 1];
        }
        r->last = before;
        r->node.next = i + 1 < k ? &n->items[i + 1].request->node : NULL;
    }
    member_log_done(n->m, n->items[0].request, n->items[k - 1].request, k);
    node_wake(n);
}

/* What may be in the log although nobody was told: the lowest entry of a batch that a crash tore. Within it entries may step back. */
static void set_maybe(struct node *n, const struct wal_batch *b)
{
    n->maybe_valid = true;
    n->maybe_from = b->restart_at != 0 ? 0 : UINT64_MAX;
    for (size_t i = 0; i < b->n_entries; i++) {
        n->maybe_from = b->entries[i].index < n->maybe_from ? b->entries[i].index : n->maybe_from;
    }
}

static bool write_items(struct node *n, size_t k)
{
    struct sim *s = n->sim;
    size_t n_entries = 0;
    for (size_t i = 0; i < k; i++) {
        n_entries += n->items[i].request->n_entries;
    }
    struct wal_entry *entries = xcalloc(n_entries + 1, sizeof(*entries));
    struct wal_position *positions = xcalloc(n_entries + 1, sizeof(*positions));
    struct wal_batch b = {.positions = positions};
    fill_batch(n, k, &b, entries);
    if (n->crash_in_append) {
        struct vfs_fault_plan plan = {.fail_at = rng_between(&s->rng, 1, 3), .sticky = true, .writes_only = true, .with = ERR_IO,
                                      .tear_bytes = rng_below(&s->rng, 3) == 0 ? 0 : rng_below(&s->rng, 8192)};
        vfs_fault_arm(n->vfs, &plan);
        n->fault_armed = true;
    }
    struct wal_position before = wal_last(n->wal);
    struct err_ctx ec = {{0}};
    enum err e = wal_append(n->wal, &b, NULL, &ec);
    if (e != OK || n->crash_in_append) {
        set_maybe(n, &b);
        sim_note(s, n, 0xc4a5, "append: %s", e == OK ? "written, and then the power went" : ec.text);
    }
    if (e != OK && !n->fault_armed) {
        sim_violation(s, "log", "%s: append failed without a fault: %s", n->name, ec.text);
    }
    if (e == OK && !n->crash_in_append) {
        for (size_t i = 0; i < k; i++) {
            judge_appended(n, n->items[i].request);
        }
        report_done(n, k, positions, before);
    }
    free(entries);
    free(positions);
    return e == OK && !n->crash_in_append;
}

static void forget_items(struct node *n, size_t k)
{
    n->n_items -= k;
    memmove(n->items, n->items + k, n->n_items * sizeof(*n->items));
}

/* The planted bug: told first, written at some later time, or never. */
static void lie(struct node *n, size_t k)
{
    struct wal_position last = wal_last(n->wal);
    struct wal_position positions[1024];
    size_t at = 0;
    for (size_t i = 0; i < k; i++) {
        for (size_t j = 0; j < n->items[i].request->n_entries && at < ARRAY_LEN(positions); j++) {
            const struct wal_entry *e = &n->items[i].request->entries[j];
            positions[at++] = (struct wal_position){e->index, e->term, 0};
        }
    }
    report_done(n, k, positions, last);
}

static void log_event(struct sim *s, struct event *e)
{
    struct node *n = e->node;
    (void)s;
    n->log_busy = false;
    if (n->disk_hung || n->doomed) {
        return; /* goes on when the disk does */
    }
    size_t k = gather(n);
    if (k > 0) {
        if (s->plant == PLANT_ANSWER_BEFORE_SYNC && rng_chance(&s->rng, 20)) {
            lie(n, k);
            forget_items(n, k);
            node_log_pump(n);
            return;
        }
        if (!write_items(n, k)) {
            bool power = n->crash_in_append;
            sim_schedule(s, &(struct event){.at = s->now, .name = "crash in append", .run = stop_event, .node = n, .life = n->life,
                                            .a = power ? STOP_POWER : STOP_KILL});
            n->doomed = true;
            return;
        }
        forget_items(n, k);
    }
    struct err_ctx ec = {{0}};
    while (n->n_items > 0 && n->items[0].request == NULL) {
        enum err r = wal_release(n->wal, n->items[0].release, &ec);
        if (r != OK) {
            on_failed(n, r, ec.text);
            return;
        }
        forget_items(n, 1);
    }
    if (wal_prepare_wanted(n->wal) && rng_chance(&s->rng, 300)) {
        enum err p = wal_prepare(n->wal, &ec);
        if (p != OK && p != ERR_NO_DISK) {
            on_failed(n, p, ec.text);
            return;
        }
    }
    node_log_pump(n);
}

/* --- the store thread ----------------------------------------------------------------------------------------------------- */

static void flush_event(struct sim *s, struct event *e);

static void schedule_flush(struct node *n, uint64_t at)
{
    if (at >= n->flush_at) {
        return;
    }
    n->flush_at = at;
    sim_schedule(n->sim, &(struct event){.at = at, .name = "flush", .run = flush_event, .node = n, .life = n->life});
}

static void kick(struct node *n, bool urgent)
{
    struct sim *s = n->sim;
    uint64_t ms = urgent ? 0 : rng_below(&s->rng, ENGINE_FLUSH_MS);
    schedule_flush(n, s->now + ms * MS + rng_between(&s->rng, 50, 2000) * 1000u * n->disk_slow);
}

static void on_kick(void *arg, bool urgent)
{
    struct node *n = arg;
    if (n->flush.waits) {
        n->flush.kicked = true;
        n->flush.urgent = n->flush.urgent || urgent;
    } else if (!n->dying) {
        kick(n, urgent);
    }
}

static void on_retry(void *arg)
{
    struct node *n = arg;
    if (!n->dying) {
        kick(n, true);
    }
}

/* Answer the first `k`. */
static void serve(struct node *n, size_t k, enum err err)
{
    struct member_op *requests[ARRAY_LEN(n->requests)];
    memcpy(requests, n->requests, k * sizeof(requests[0]));
    n->n_requests -= k;
    memmove(n->requests, n->requests + k, n->n_requests * sizeof(requests[0]));
    for (size_t i = 0; i < k; i++) {
        member_store_serve(n->m, requests[i], err);
    }
}

/* A flush that waited is over. */
static void catch_up_kicks(struct node *n)
{
    if (n->flush.waits && (n->flush.kicked || n->n_requests > 0)) {
        kick(n, n->flush.urgent || n->n_requests > 0);
    }
    n->flush = (struct flush){0};
}

static void flush_event(struct sim *s, struct event *e)
{
    struct node *n = e->node;
    if (n->flush_at != e->at || n->doomed) {
        return;
    }
    n->flush_at = UINT64_MAX;
    if (n->disk_hung) {
        schedule_flush(n, s->now + 50u * MS);
        return;
    }
    bool more = false;
    size_t k = n->flush.waits ? n->flush.n_before : n->n_requests;
    enum err err = member_store_flush(n->m, k > 0, &more);
    if (err == ERR_BUSY) { /* a retry comes */
        n->flush.waits = true;
        n->flush.n_before = k;
        return;
    }
    serve(n, k, err);
    catch_up_kicks(n);
    node_wake(n);
    if (err == OK && more) {
        schedule_flush(n, s->now + COMPACTION_PAUSE_NS);
    }
}

static void on_request(void *arg, struct member_op *op)
{
    struct node *n = arg;
    ASSERT(n->n_requests < ARRAY_LEN(n->requests));
    n->requests[n->n_requests++] = op;
    if (!n->dying) {
        on_kick(n, true);
    }
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

void node_create(struct sim *s, struct node *n, uint64_t id, bool joining)
{
    unsigned slot = n->slot;
    *n = (struct node){.sim = s, .slot = slot, .life = n->life + 1, .id = id, .joining = joining};
    n->state = NODE_DOWN;
    n->turn_at = UINT64_MAX;
    n->flush_at = UINT64_MAX;
    n->disk_slow = 1;
    (void)snprintf(n->name, sizeof(n->name), "m%" PRIu64, id & 0xffffu);
    (void)snprintf(n->url, sizeof(n->url), "http://sim:%" PRIu64, 1000u + (id & 0xffffu));
    n->urls[0] = n->url;
    n->disk = vfs_mem_create();
    n->vfs = vfs_fault_create(n->disk, &(struct vfs_fault_plan){0});
    n->store = backend_mem_disk_create();
    n->place = sim_store_place(n);
    n->clock = (struct clock){monotonic, wall, n};
    n->clock_base = rng_between(&s->rng, 1, 1000000) * MS;
    n->clock_since = s->now;
    n->wall_base = UINT64_C(1700000000000000000) + rng_below(&s->rng, UINT64_C(1000000000000000));
}

void node_wipe(struct node *n)
{
    ASSERT(n->state != NODE_UP);
    if (n->state == NODE_FREE) {
        return;
    }
    n->state = NODE_FREE;
    n->life++;
    shadow_deinit(&n->shadow);
    backend_mem_disk_destroy(&n->store);
    vfs_fault_destroy(&n->vfs);
    vfs_mem_destroy(&n->disk);
    free(n->items);
    n->items = NULL;
    n->cap_items = 0;
    free(n->batches);
    n->batches = NULL;
    n->cap_batches = 0;
}

/* Who founds the cluster, or who is in it now. */
static size_t initial_members(struct node *n, struct member_peer *out)
{
    struct sim *s = n->sim;
    size_t k = 0;
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        struct node *o = &s->nodes[i];
        if (o->state == NODE_FREE || (n->joining ? model_is_gone(&s->model, o->id) : o->joining)) {
            continue;
        }
        struct member_peer p = {o->id, o->name, o->urls};
        size_t at = k++;
        while (at > 0 && out[at - 1].id > p.id) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = p;
    }
    return k;
}

static void fill_config(struct node *n)
{
    const struct settings *set = &n->sim->set;
    n->transport = net_transport(n);
    n->port = (struct member_port){.answered = on_answered, .changed = on_changed, .restored = on_restored, .arg = n};
    n->ports[0] = &n->port;
    n->ports[1] = NULL;
    n->cfg = (struct member_config){
        .cluster_id = FOUNDING_CLUSTER,
        .member_id = n->id,
        .name = n->name,
        .client_urls = n->urls,
        .initial = n->peers,
        .n_initial = initial_members(n, n->peers),
        .joining = n->joining,
        .own_peer_urls = n->urls,
        .vfs = n->vfs,
        .clock = &n->clock,
        .metrics = n->sim->metrics,
        .wal_dir = "wal",
        .segment_bytes = WAL_SEGMENT_BYTES_MIN,
        .backend = backend_mem_disk_open(n->store),
        .place = &n->place,
        .transport = &n->transport,
        .heartbeat_ms = set->heartbeat_ms,
        .election_ms = set->heartbeat_ms * set->election_ticks,
        .pre_vote = set->pre_vote,
        .catch_up_entries = set->catch_up,
        .quota_bytes = INT64_MAX / 2,
        .compaction_batch_limit = set->compaction_batch,
        .max_request_bytes = 1536u * 1024u,
        .max_learners = 2,
        .strict_reconfig = set->strict_reconfig,
        .fast_forward = rng_chance(&n->sim->rng, 500),
        .version = "3.7.0",
        .ports = n->ports,
        .failed = on_failed,
        .ready = on_ready,
        .removed = on_removed,
        .arg = n,
    };
}

static void restart_event(struct sim *s, struct event *e)
{
    (void)s;
    node_start(e->node);
}

static void start_later(struct node *n, uint64_t ms)
{
    sim_schedule(n->sim, &(struct event){.at = n->sim->now + ms * MS, .name = "start", .run = restart_event, .node = n, .life = n->life,
                                       .when_down = true});
}

static void reset_process(struct node *n)
{
    n->life++;
    n->turn_at = UINT64_MAX;
    n->flush_at = UINT64_MAX;
    n->flush = (struct flush){0};
    n->paused_to = 0;
    n->busy_turns = 0;
    n->log_busy = false;
    n->dying = false;
    n->doomed = false;
    n->answers = NULL;
    n->answers_last = &n->answers;
    n->was_restored = false;
    n->removed_at = 0;
    n->heard_removed = false;
    n->lead_before = false;
    n->lead_term = 0;
    n->checked_applied = 0;
    n->conf_checked = 0;
    n->clock_base = n->clock_base > MS ? n->clock_base : MS;
}

/* The log did not exist: what member_open wrote is read back by the judge at the second start. */
static enum err open_member(struct node *n, struct err_ctx *ec)
{
    bool exists = false;
    enum err e = wal_exists(n->vfs, "wal", &exists, ec);
    if (e == OK && exists) {
        judge_log(n);
        if (n->sim->violated) {
            return ERR_CORRUPT;
        }
    }
    if (e == OK) {
        fill_config(n);
        e = member_open(&n->cfg, &n->m, ec);
    }
    if (e == OK && !exists) {
        member_close(&n->m);
        return open_member(n, ec);
    }
    return e;
}

void node_start(struct node *n)
{
    struct sim *s = n->sim;
    if (n->state != NODE_DOWN || s->violated) {
        return;
    }
    reset_process(n);
    struct vfs_fault_plan plan = {.fail_at = n->crash_in_open, .sticky = true, .with = ERR_IO};
    vfs_fault_arm(n->vfs, &plan);
    bool planned = n->crash_in_open != 0;
    n->crash_in_open = 0;
    n->fault_armed = planned;
    n->crash_in_append = false;
    struct err_ctx ec = {{0}};
    enum err e = open_member(n, &ec);
    if (e != OK && planned && !s->violated) {
        sim_note(s, n, 0xc4a6, "crashed in recovery: %s", ec.text);
        if (n->m != NULL) {
            member_close(&n->m);
        }
        vfs_mem_crash(n->disk, rng_next(&s->rng));
        backend_mem_disk_crash(n->store, rng_chance(&s->rng, 500));
        n->life++;
        start_later(n, rng_between(&s->rng, 1, 500));
        return;
    }
    if (e != OK) {
        sim_violation(s, "recovery", "%s cannot start: %s", n->name, ec.text);
        return;
    }
    vfs_fault_arm(n->vfs, &(struct vfs_fault_plan){0});
    n->fault_armed = false;
    n->state = NODE_UP;
    n->up_since = s->now;
    n->maybe_valid = false;
    member_connect(n->m, &(struct member_log){on_submit, on_release, n}, &(struct member_store){on_kick, on_request, on_retry, n});
    n->wal = member_take_wal(n->m);
    n->hub = watch_hub_create(member_engine(n->m), NULL);
    s->stats.restarts++;
    judge_opened(n);
    sim_note(s, n, n->life, "started, applied %" PRIu64, engine_applied_index(member_engine(n->m)));
    judge_turn(n);
    net_node_up(n);
    schedule_turn(n, s->now + 1000u);
}

/* A planned end: what was submitted is written, what was applied is stored. */
static void write_all(struct node *n)
{
    size_t k = 0;
    while (n->n_items > 0 && !n->disk_hung) {
        k = gather(n);
        if (k == 0) {
            forget_items(n, 1);
        } else if (!write_items(n, k)) {
            return;
        } else {
            forget_items(n, k);
        }
    }
    bool more = false;
    (void)member_store_flush(n->m, true, &more); /* an error has been reported */
}

void node_stop(struct node *n, enum stop_kind how)
{
    struct sim *s = n->sim;
    if (n->state != NODE_UP) {
        return;
    }
    static const char *const names[] = {"killed", "power cut", "stopped"};
    sim_note(s, n, how, "%s", names[how]);
    client_node_gone(n);
    net_node_closing(n);
    n->dying = true;
    n->state = NODE_DOWN;
    watch_hub_destroy(&n->hub);
    member_last_turn(n->m);
    if (how == STOP_GRACEFUL && !n->doomed) {
        write_all(n);
    }
    for (size_t i = 0; i < n->n_requests; i++) {
        member_store_serve(n->m, n->requests[i], ERR_STOPPED);
    }
    n->n_requests = 0;
    if (how == STOP_POWER) {
        vfs_mem_crash(n->disk, rng_next(&s->rng));
    }
    wal_close(&n->wal);
    member_close(&n->m);
    client_forget(n);
    drop_batches(n);
    n->n_items = 0;
    if (how == STOP_POWER) {
        backend_mem_disk_crash(n->store, rng_chance(&s->rng, 500));
    }
    n->life++;
    net_node_down(n);
    if (!model_is_gone(&s->model, n->id)) {
        if (n->doomed) {
            start_later(n, rng_between(&s->rng, 1, 2000));
        }
    }
}
