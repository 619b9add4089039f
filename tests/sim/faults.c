/* faults.c - what goes wrong, as a table.
 *
 * Each seed enables a random part of the table, with its own pace and length; a fault is injected, lasts, and is healed. To add a
 * kind, write a row: `inject` says whether it found something to break, `heal` (may be NULL) undoes it, and has to cope with members that
 * came, went or were replaced meanwhile.
 */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

struct fault_kind;

struct fault {
    struct fault *next;
    const struct fault_kind *kind;
    uint64_t id;   /* the member it is about */
    uint64_t mask; /* slots on one side of a partition */
    unsigned slot, other;
    uint64_t serial;
};

struct fault_kind {
    const char *name;
    unsigned weight;
    bool (*inject)(struct sim *s, struct fault *f);
    void (*heal)(struct sim *s, struct fault *f);
};

/* --- processes and machines ---------------------------------------------------------------------------------------------- */

static struct node *victim(struct sim *s, struct fault *f)
{
    struct node *n = rng_chance(&s->rng, 300) ? sim_leader(s) : NULL;
    n = n != NULL ? n : sim_random_up(s);
    if (n == NULL || n->doomed) {
        return NULL;
    }
    f->id = n->id;
    f->slot = n->slot;
    return n;
}

/* The member of the fault, if it is still the same one. */
static struct node *still(struct sim *s, const struct fault *f)
{
    struct node *n = &s->nodes[f->slot];
    return n->state != NODE_FREE && n->id == f->id ? n : NULL;
}

static void heal_start(struct sim *s, struct fault *f)
{
    struct node *n = still(s, f);
    if (n != NULL && n->state == NODE_DOWN && (!s->calm || !model_is_gone(&s->model, n->id))) {
        node_start(n);
    }
}

static bool stop(struct sim *s, struct fault *f, enum stop_kind how)
{
    struct node *n = victim(s, f);
    if (n == NULL) {
        return false;
    }
    node_stop(n, how);
    return true;
}

static bool kill_process(struct sim *s, struct fault *f)
{
    return stop(s, f, STOP_KILL);
}

static bool cut_power(struct sim *s, struct fault *f)
{
    return stop(s, f, STOP_POWER);
}

static bool stop_gracefully(struct sim *s, struct fault *f)
{
    return stop(s, f, STOP_GRACEFUL);
}

static bool cut_power_everywhere(struct sim *s, struct fault *f)
{
    bool any = false;
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        if (s->nodes[i].state == NODE_UP && !s->nodes[i].doomed) {
            node_stop(&s->nodes[i], STOP_POWER);
            f->mask |= UINT64_C(1) << i;
            any = true;
        }
    }
    return any;
}

static void heal_everywhere(struct sim *s, struct fault *f)
{
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        struct node *n = &s->nodes[i];
        if ((f->mask >> i & 1u) != 0 && n->state == NODE_DOWN && !n->stay_down && !model_is_gone(&s->model, n->id)) {
            node_start(n);
        }
    }
}

/* It starts again by itself (node_stop sees to that). */
static bool tear_append(struct sim *s, struct fault *f)
{
    struct node *n = victim(s, f);
    if (n == NULL) {
        return false;
    }
    n->crash_in_append = true;
    return true;
}

static bool crash_in_recovery(struct sim *s, struct fault *f)
{
    struct node *n = victim(s, f);
    if (n == NULL) {
        return false;
    }
    node_stop(n, STOP_POWER);
    n->crash_in_open = (uint32_t)rng_between(&s->rng, 1, 60);
    return true;
}

/* The process stands still, its connections do not. */
static bool pause(struct sim *s, struct fault *f)
{
    struct node *n = victim(s, f);
    if (n == NULL) {
        return false;
    }
    n->paused_to = s->now + rng_between(&s->rng, 10, 5000) * MS;
    return true;
}

static void heal_pause(struct sim *s, struct fault *f)
{
    struct node *n = still(s, f);
    if (n != NULL && n->state == NODE_UP) {
        n->paused_to = 0;
        node_wake(n);
    }
}

/* --- disks ------------------------------------------------------------------------------------------------------------------- */

static bool hang_disk(struct sim *s, struct fault *f)
{
    struct node *n = victim(s, f);
    if (n == NULL) {
        return false;
    }
    n->disk_hung = true;
    n->hung_since = s->now;
    n->led_then = sim_leader(s) == n;
    return true;
}

static bool slow_disk(struct sim *s, struct fault *f)
{
    struct node *n = victim(s, f);
    if (n == NULL) {
        return false;
    }
    n->disk_slow = (uint32_t)rng_between(&s->rng, 2, 60);
    return true;
}

static void heal_disk(struct sim *s, struct fault *f)
{
    struct node *n = still(s, f);
    if (n != NULL) {
        judge_hung(n);
        n->disk_hung = false;
        n->disk_slow = 1;
        node_log_pump(n);
    }
}

/* The next write or sync fails, once. The process has to end, and finds its log at the next start. */
static bool fail_write(struct sim *s, struct fault *f)
{
    struct node *n = victim(s, f);
    if (n == NULL || n->crash_in_append) {
        return false;
    }
    struct vfs_fault_plan plan = {.fail_at = rng_between(&s->rng, 1, 4), .writes_only = true, .with = ERR_IO, .tear_bytes = rng_below(&s->rng, 4096)};
    vfs_fault_arm(n->vfs, &plan);
    n->fault_armed = true;
    return true;
}

/* --- networks ---------------------------------------------------------------------------------------------------------------- */

static bool on_side(uint64_t mask, unsigned slot)
{
    return (mask >> slot & 1u) != 0;
}

static void cut_between(struct sim *s, uint64_t mask, bool back, bool cut)
{
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        for (unsigned j = 0; j < SIM_SLOTS; j++) {
            if (i != j && on_side(mask, i) && !on_side(mask, j)) {
                net_set_cut(s, i, j, cut);
                if (back) {
                    net_set_cut(s, j, i, cut);
                }
            }
        }
    }
}

static bool partition(struct sim *s, struct fault *f)
{
    f->mask = rng_below(&s->rng, 1u << SIM_SLOTS);
    cut_between(s, f->mask, true, true);
    return true;
}

static bool partition_one_way(struct sim *s, struct fault *f)
{
    f->mask = rng_below(&s->rng, 1u << SIM_SLOTS);
    cut_between(s, f->mask, false, true);
    return true;
}

static bool isolate(struct sim *s, struct fault *f)
{
    if (victim(s, f) == NULL) {
        return false;
    }
    f->mask = UINT64_C(1) << f->slot;
    cut_between(s, f->mask, rng_chance(&s->rng, 700), true);
    return true;
}

static void heal_partition(struct sim *s, struct fault *f)
{
    cut_between(s, f->mask, true, false);
}

/* Whoever leads is cut off, again and again, with a disk that may stand still: leaders with entries that nobody else has, and
 * new ones that cannot write their first entry. */
static void storm_event(struct sim *s, struct event *e)
{
    struct fault *f = s->faults;
    while (f != NULL && f->serial != e->a) {
        f = f->next;
    }
    if (f == NULL) {
        return;
    }
    struct node *old = still(s, f);
    cut_between(s, f->mask, true, false);
    if (old != NULL) {
        old->disk_hung = false;
        node_log_pump(old);
        if (rng_chance(&s->rng, 300)) {
            node_stop(old, STOP_POWER);
        }
        if (old->state == NODE_DOWN && !old->stay_down && !model_is_gone(&s->model, old->id)) {
            node_start(old);
        }
    }
    struct node *n = sim_leader(s);
    f->mask = 0;
    if (n != NULL) {
        f->id = n->id;
        f->slot = n->slot;
        n->disk_hung = rng_chance(&s->rng, 400);
        n->led_then = false;
        if (rng_chance(&s->rng, 700)) {
            f->mask = UINT64_C(1) << n->slot;
            cut_between(s, f->mask, rng_chance(&s->rng, 700), true);
        }
    }
    struct event next = *e;
    next.at = s->now + rng_between(&s->rng, 1, 4u * s->set.heartbeat_ms * s->set.election_ticks) * MS;
    sim_schedule(s, &next);
}

static bool storm(struct sim *s, struct fault *f)
{
    sim_schedule(s, &(struct event){.at = s->now + MS, .name = "storm", .run = storm_event, .a = f->serial});
    return true;
}

static void heal_storm(struct sim *s, struct fault *f)
{
    heal_disk(s, f);
    cut_between(s, f->mask, true, false);
}

static bool cut_link(struct sim *s, struct fault *f)
{
    f->slot = (unsigned)rng_below(&s->rng, SIM_SLOTS);
    f->other = (unsigned)rng_below(&s->rng, SIM_SLOTS);
    net_set_cut(s, f->slot, f->other, true);
    if (rng_chance(&s->rng, 500)) {
        net_set_cut(s, f->other, f->slot, true);
    }
    return f->slot != f->other;
}

static void heal_link(struct sim *s, struct fault *f)
{
    net_set_cut(s, f->slot, f->other, false);
    net_set_cut(s, f->other, f->slot, false);
}

/* Wires from or to one machine, or all. */
static bool touches(const struct fault *f, unsigned i, unsigned j)
{
    return f->other != 0 || i == f->slot || j == f->slot;
}

static bool bad_wires(struct sim *s, struct fault *f)
{
    f->slot = (unsigned)rng_below(&s->rng, SIM_SLOTS);
    f->other = (unsigned)rng_below(&s->rng, 2);
    struct wire bad = {.loss = (uint32_t)rng_below(&s->rng, 400), .duplicate = (uint32_t)rng_below(&s->rng, 300),
                       .tail = (uint32_t)rng_below(&s->rng, 200), .delay_min = 100000u,
                       .delay_max = rng_between(&s->rng, 1, 40u * s->set.heartbeat_ms / 10u) * MS};
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        for (unsigned j = 0; j < SIM_SLOTS; j++) {
            if (touches(f, i, j)) {
                struct wire *w = &s->wires[i][j];
                bad.cut = w->cut;
                bad.whole_since = w->whole_since;
                *w = bad;
            }
        }
    }
    return true;
}

static void heal_wires(struct sim *s, struct fault *f)
{
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        for (unsigned j = 0; j < SIM_SLOTS; j++) {
            struct wire *w = &s->wires[i][j];
            if (touches(f, i, j)) {
                *w = (struct wire){.delay_min = 100u * 1000u, .delay_max = 2u * MS, .cut = w->cut, .whole_since = w->whole_since};
            }
        }
    }
}

static bool damage_snapshots(struct sim *s, struct fault *f)
{
    (void)f;
    s->snapshot_damage = (uint32_t)rng_between(&s->rng, 100, 900);
    return true;
}

static void heal_snapshots(struct sim *s, struct fault *f)
{
    (void)f;
    s->snapshot_damage = 0;
}

/* --- clocks -------------------------------------------------------------------------------------------------------------------- */

static bool drift(struct sim *s, struct fault *f)
{
    struct node *n = victim(s, f);
    if (n == NULL) {
        return false;
    }
    node_set_rate(n, (int64_t)rng_below(&s->rng, 100000) - 50000); /* 5 of 100, either way */
    return true;
}

static void heal_drift(struct sim *s, struct fault *f)
{
    struct node *n = still(s, f);
    if (n != NULL) {
        node_set_rate(n, 0);
    }
}

static bool jump(struct sim *s, struct fault *f)
{
    struct node *n = victim(s, f);
    if (n == NULL) {
        return false;
    }
    node_jump(n, rng_between(&s->rng, 1, 20000) * MS);
    n->wall_base += rng_below(&s->rng, UINT64_C(1000000000000)) - UINT64_C(500000000000);
    node_wake(n);
    s->set.clock_steady = false;
    return true;
}

/* --- the table ------------------------------------------------------------------------------------------------------------------ */

static const struct fault_kind kinds[] = {
    {"kill", 20, kill_process, heal_start},
    {"power cut", 20, cut_power, heal_start},
    {"power cut everywhere", 2, cut_power_everywhere, heal_everywhere},
    {"power cut in an append", 15, tear_append, NULL},
    {"power cut in recovery", 8, crash_in_recovery, heal_start},
    {"graceful stop", 8, stop_gracefully, heal_start},
    {"pause", 8, pause, heal_pause},
    {"hung disk", 6, hang_disk, heal_disk},
    {"slow disk", 8, slow_disk, heal_disk},
    {"failed write", 4, fail_write, NULL},
    {"partition", 12, partition, heal_partition},
    {"one-way partition", 8, partition_one_way, heal_partition},
    {"isolated member", 12, isolate, heal_partition},
    {"storm", 8, storm, heal_storm},
    {"cut link", 10, cut_link, heal_link},
    {"bad wires", 12, bad_wires, heal_wires},
    {"damaged snapshots", 6, damage_snapshots, heal_snapshots},
    {"clock drift", 6, drift, heal_drift},
    {"clock jump", 3, jump, NULL},
};

size_t faults_count(void)
{
    return ARRAY_LEN(kinds);
}

const char *fault_name(size_t i)
{
    return kinds[i].name;
}

static void heal(struct sim *s, struct fault *f)
{
    for (struct fault **p = &s->faults; *p != NULL; p = &(*p)->next) {
        if (*p == f) {
            *p = f->next;
            break;
        }
    }
    sim_note(s, NULL, (uint64_t)(f->kind - kinds) + 0x4ea1, "healed: %s (m%" PRIu64 ")", f->kind->name, f->id & 0xffffu);
    if (f->kind->heal != NULL) {
        f->kind->heal(s, f);
    }
    free(f);
}

static void heal_event(struct sim *s, struct event *e)
{
    for (struct fault *f = s->faults; f != NULL; f = f->next) {
        if (f->serial == e->a) {
            heal(s, f);
            return;
        }
    }
}

static const struct fault_kind *pick(struct sim *s)
{
    unsigned total = 0;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        total += (s->set.faults >> i & 1u) != 0 ? kinds[i].weight : 0;
    }
    if (total == 0) {
        return NULL;
    }
    uint64_t at = rng_below(&s->rng, total);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        unsigned weight = (s->set.faults >> i & 1u) != 0 ? kinds[i].weight : 0;
        if (at < weight) {
            return &kinds[i];
        }
        at -= weight;
    }
    UNREACHABLE();
}

static void fault_event(struct sim *s, struct event *e)
{
    if (s->calm) {
        return;
    }
    const struct fault_kind *k = pick(s);
    if (k != NULL) {
        struct fault *f = xcalloc(1, sizeof(*f));
        f->kind = k;
        f->serial = ++s->stats.faults;
        f->next = s->faults;
        s->faults = f;
        if (k->inject(s, f)) {
            sim_note(s, NULL, f->serial, "fault: %s (m%" PRIu64 ", %" PRIx64 ")", k->name, f->id & 0xffffu, f->mask);
            uint64_t at = s->now + rng_between(&s->rng, 1, 2 * s->set.fault_long);
            sim_schedule(s, &(struct event){.at = at, .name = "heal", .run = heal_event, .a = f->serial});
        } else {
            heal(s, f);
        }
    }
    struct event next = *e;
    next.at = s->now + rng_between(&s->rng, 1, 2 * s->set.fault_every);
    sim_schedule(s, &next);
}

void faults_init(struct sim *s)
{
    sim_schedule(s, &(struct event){.at = s->now + rng_between(&s->rng, 1, 2 * s->set.fault_every), .name = "fault", .run = fault_event});
}

void faults_heal_all(struct sim *s)
{
    while (s->faults != NULL) {
        heal(s, s->faults);
    }
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        struct node *n = &s->nodes[i];
        for (unsigned j = 0; j < SIM_SLOTS; j++) {
            net_set_cut(s, i, j, false);
        }
        if (n->state == NODE_FREE) {
            continue;
        }
        n->paused_to = 0;
        n->crash_in_append = false;
        n->crash_in_open = 0;
        if (n->state == NODE_DOWN && !n->stay_down && !model_is_gone(&s->model, n->id)) {
            node_start(n);
        }
    }
}

void faults_deinit(struct sim *s)
{
    while (s->faults != NULL) {
        struct fault *f = s->faults;
        s->faults = f->next;
        free(f);
    }
}
