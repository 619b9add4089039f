/* run.c - the queue of events, and the life of a world: founding, trouble, calm.
 *
 * In the end all faults are healed and everybody who is a member is up. Within a bounded simulated time there has to be a leader,
 * everything committed has to be applied everywhere, each member has to serve a write and a linearizable read, watches have to be
 * complete and leases that nobody keeps alive have to be gone.
 */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

#define EVENTS_MAX 2000000u /* of one world; more: it runs in circles */

/* --- the queue ------------------------------------------------------------------------------------------------------------ */

static bool before(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

void sim_schedule(struct sim *s, const struct event *e)
{
    if (s->n_heap == s->cap_heap) {
        s->cap_heap = s->cap_heap == 0 ? 1024 : 2 * s->cap_heap;
        s->heap = xrealloc(s->heap, s->cap_heap * sizeof(*s->heap));
    }
    struct event x = *e;
    ASSERT(x.at >= s->now);
    x.seq = ++s->seq;
    size_t i = s->n_heap++;
    while (i > 0 && before(&x, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = x;
}

static struct event take(struct sim *s)
{
    struct event top = s->heap[0];
    struct event x = s->heap[--s->n_heap];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= s->n_heap) {
            break;
        }
        if (c + 1 < s->n_heap && before(&s->heap[c + 1], &s->heap[c])) {
            c++;
        }
        if (!before(&s->heap[c], &x)) {
            break;
        }
        s->heap[i] = s->heap[c];
        i = c;
    }
    s->heap[i] = x;
    return top;
}

/* --- telling -------------------------------------------------------------------------------------------------------------- */

void sim_note(struct sim *s, const struct node *n, uint64_t what, const char *fmt, ...)
{
    uint64_t parts[4] = {s->trace_hash, s->now, what, n == NULL ? 0 : n->id};
    s->trace_hash = hash64(parts, sizeof(parts));
    if (!s->trace) {
        return;
    }
    printf("%10.3f ms %5s  ", (double)s->now / 1e6, n == NULL ? "-" : n->name);
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

void sim_violation(struct sim *s, const char *judge, const char *fmt, ...)
{
    if (s->violated) {
        return;
    }
    s->violated = true;
    int n = snprintf(s->violation, sizeof(s->violation), "seed %llu at %.3f ms: %s: ", (unsigned long long)s->seed, (double)s->now / 1e6, judge);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(s->violation + n, sizeof(s->violation) - (size_t)n, fmt, ap);
    va_end(ap);
    if (s->trace) {
        printf("VIOLATION %s\n", s->violation);
    }
}

/* --- finding members -------------------------------------------------------------------------------------------------------- */

struct node *sim_node_of(struct sim *s, uint64_t id)
{
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        if (s->nodes[i].state != NODE_FREE && s->nodes[i].id == id) {
            return &s->nodes[i];
        }
    }
    return NULL;
}

struct node *sim_random_up(struct sim *s)
{
    struct node *up[SIM_SLOTS];
    size_t n = 0;
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        if (s->nodes[i].state == NODE_UP) {
            up[n++] = &s->nodes[i];
        }
    }
    return n == 0 ? NULL : up[rng_below(&s->rng, n)];
}

struct node *sim_leader(struct sim *s)
{
    struct node *best = NULL;
    uint64_t term = 0;
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        struct node *n = &s->nodes[i];
        if (n->state != NODE_UP) {
            continue;
        }
        struct member_status st = member_status(n->m);
        if (st.is_leader && (best == NULL || st.term > term)) {
            best = n;
            term = st.term;
        }
    }
    return best;
}

/* --- one world ---------------------------------------------------------------------------------------------------------------- */

static void draw_settings(struct sim *s)
{
    static const uint32_t founders[] = {3, 3, 3, 3, 5, 5, 3, 3, 5, 1, 3, 7};
    static const uint32_t heartbeats[] = {20, 50, 100};
    struct rng *r = &s->rng;
    struct settings *set = &s->set;
    set->n_founders = founders[rng_below(r, ARRAY_LEN(founders))];
    set->heartbeat_ms = heartbeats[rng_below(r, ARRAY_LEN(heartbeats))];
    set->election_ticks = (uint32_t)rng_between(r, 5, 12);
    set->catch_up = (uint32_t)rng_between(r, 3, 40);
    set->compaction_batch = (uint32_t)rng_between(r, 1, 20);
    set->client_every = rng_between(r, 2, 20) * MS;
    set->admin_every = rng_chance(r, 500) ? rng_between(r, 100, 2000) * MS : 0;
    set->fault_every = rng_between(r, 100, 1500) * MS;
    set->fault_long = rng_between(r, 50, 3000) * MS;
    set->duration = rng_between(r, 2000, 8000) * MS;
    set->pre_vote = rng_chance(r, 800);
    set->strict_reconfig = rng_chance(r, 500);
    set->value_max = rng_chance(r, 300) ? 4000 : 200;
    set->fsync_max_us = (uint32_t)rng_between(r, 100, 8000);
    set->clock_steady = true;
    uint64_t some = rng_next(r) & rng_next(r);
    set->faults = (rng_chance(r, 50) ? UINT64_MAX : some) & ((UINT64_C(1) << faults_count()) - 1u);
    s->snapshot_damage = 0;
}

struct sim *sim_create(uint64_t seed, enum plant plant, bool trace)
{
    struct sim *s = xcalloc(1, sizeof(*s));
    s->seed = seed;
    s->rng.state = seed * 0x2545f4914f6cdd1du + 1u;
    s->now = MS;
    s->plant = plant;
    s->trace = trace;
    draw_settings(s);
    model_init(&s->model);
    s->metrics = metrics_create();
    net_init(s);
    s->next_id = 0x1000u + rng_below(&s->rng, 0x100000u) * 0x10000u;
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        s->nodes[i].slot = (unsigned)i;
        s->nodes[i].sim = s;
    }
    for (size_t i = 0; i < s->set.n_founders; i++) {
        node_create(s, &s->nodes[i], ++s->next_id, false);
    }
    return s;
}

/* Everything up to `until`, or until a judge finds something. */
static void run_until(struct sim *s, uint64_t until)
{
    while (!s->violated && s->n_heap > 0 && s->heap[0].at <= until) {
        struct event e = take(s);
        s->now = e.at;
        if (e.node != NULL && (e.life != e.node->life || (e.node->state != NODE_UP && !e.when_down))) {
            if (e.drop != NULL) {
                e.drop(&e);
            }
            continue;
        }
        if (++s->stats.events > EVENTS_MAX) {
            sim_violation(s, "progress", "too many events");
            return;
        }
        e.run(s, &e);
    }
    s->now = s->now < until ? until : s->now;
}

static bool leases_done(const struct sim *s)
{
    for (size_t i = 0; i < SIM_LEASES; i++) {
        const struct model_lease *l = &s->model.leases[i];
        if (l->alive && l->ttl < 1000) {
            return false;
        }
    }
    return true;
}

/* What is still missing for the end; NULL: nothing. */
static const char *missing(struct sim *s)
{
    const struct node *leader = sim_leader(s);
    if (leader == NULL) {
        return "there is no leader";
    }
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        const struct node *n = &s->nodes[i];
        if (n->state == NODE_FREE || n->stay_down) {
            continue;
        }
        bool gone = model_is_gone(&s->model, n->id);
        if (gone && n->state == NODE_UP) {
            return "a removed member does not know it";
        }
        if (!gone && n->state != NODE_UP) {
            return "a member is down";
        }
        if (!gone && engine_applied_index(member_engine(n->m)) != s->model.n) {
            return "a member has not applied everything";
        }
    }
    if (!leases_done(s)) {
        return "a lease that nobody keeps alive does not expire";
    }
    return watch_all_done(s) ? NULL : "a watch has not got everything";
}

/* A member that never heard that a removal was committed needs the vote of the one that was removed, and that one ended for good. So ends a
 * cluster of two of which one is removed and at once destroyed, in etcd too. What was judged before stands; progress cannot be asked for. */
static bool stranded(struct sim *s)
{
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        const struct node *n = &s->nodes[i];
        if (n->state != NODE_UP) {
            continue;
        }
        struct engine_conf c;
        engine_conf(member_engine(n->m), &c);
        size_t left = 0;
        for (size_t j = 0; j < c.n_voters; j++) {
            left += model_is_gone(&s->model, c.voters[j]) ? 0u : 1u;
        }
        if (2u * left <= c.n_voters && c.n_voters > left) {
            return true;
        }
    }
    return false;
}

/* Slices of simulated time until `missing` is content. */
/* False: there is nothing more to ask for. */
static bool settle(struct sim *s, const char *when, uint64_t bound)
{
    uint64_t until = s->now + bound;
    const char *why = missing(s);
    while (why != NULL && s->now < until && !s->violated) {
        run_until(s, s->now + 20u * MS);
        why = missing(s);
    }
    if (why != NULL && sim_leader(s) == NULL && stranded(s)) {
        s->stats.stranded++;
        return false;
    }
    if (why != NULL) {
        sim_violation(s, "progress", "%s: %s", when, why);
    }
    return !s->violated;
}

static void final_judgement(struct sim *s)
{
    for (size_t i = 0; i < SIM_SLOTS && !s->violated; i++) {
        if (s->nodes[i].state == NODE_UP) {
            judge_turn(&s->nodes[i]);
            judge_content(&s->nodes[i]);
        }
    }
}

bool sim_run(struct sim *s)
{
    for (size_t i = 0; i < s->set.n_founders && !s->violated; i++) {
        node_start(&s->nodes[i]);
    }
    client_init(s);
    faults_init(s);
    run_until(s, s->now + s->set.duration);
    if (s->violated) {
        return false;
    }
    s->calm = true;
    sim_note(s, NULL, 0xca13, "calm");
    faults_heal_all(s);
    net_init(s);
    uint64_t election = (uint64_t)s->set.heartbeat_ms * s->set.election_ticks * MS;
    uint64_t bound = 30u * election + 30000u * MS;
    bool whole = settle(s, "after everything was healed", bound);
    if (whole) {
        uint64_t until = s->now + bound;
        bool served = client_probe(s);
        while (!served && s->now < until && !s->violated) {
            run_until(s, s->now + 20u * MS);
            served = client_probe(s);
        }
        if (!served) {
            sim_violation(s, "progress", "a member does not serve a write and a read in the end");
        }
    }
    if (whole && !s->violated) {
        (void)settle(s, "after the last requests", bound);
    }
    final_judgement(s);
    return !s->violated;
}

void sim_destroy(struct sim **sp)
{
    struct sim *s = *sp;
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        node_stop(&s->nodes[i], STOP_KILL);
    }
    for (size_t i = 0; i < s->n_heap; i++) {
        if (s->heap[i].drop != NULL) {
            s->heap[i].drop(&s->heap[i]);
        }
    }
    for (size_t i = 0; i < SIM_SLOTS; i++) {
        node_wipe(&s->nodes[i]);
    }
    faults_deinit(s);
    net_deinit(s);
    model_deinit(&s->model);
    metrics_destroy(&s->metrics);
    free(s->heap);
    free(s);
    *sp = NULL;
}
