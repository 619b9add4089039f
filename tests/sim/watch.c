/* watch.c - clients that watch, and go from member to member without missing anything.
 *
 * A watching client goes on where it was: at the revision behind the last one that it was given, on whatever member it finds. What it is
 * given is judged event by event (judge_delivery). The first client's stream is full every now and then.
 */
#include "tests/sim/sim.h"

#include <inttypes.h>

static bool deliver(void *arg, struct watcher *watcher, const struct watch_delivery *d)
{
    struct watching *w = arg;
    (void)watcher;
    if (rng_chance(&w->sim->rng, w->refuse)) {
        return false; /* the stream is full; a later tick resumes it */
    }
    return judge_delivery(w, d);
}

static void skip_to(struct watching *w, int64_t revision)
{
    const struct model *m = &w->sim->model;
    while (w->cursor < m->n_events && m->events[w->cursor].revision < revision) {
        w->cursor++;
    }
    w->next = revision;
}

static void compacted(void *arg, struct watcher *watcher, int64_t revision)
{
    struct watching *w = arg;
    struct sim *s = w->sim;
    (void)watcher;
    if (revision > s->model.compacted || w->next >= revision) {
        sim_violation(s, "watch", "%s: a watch at revision %" PRId64 " hears that %" PRId64 " is compacted (the model: %" PRId64 ")", w->node->name, w->next,
                      revision, s->model.compacted);
    }
    w->dead = true;
    skip_to(w, revision);
}

static const struct watch_owner owner = {deliver, compacted};

static void attach(struct watching *w)
{
    struct sim *s = w->sim;
    struct node *n = sim_random_up(s);
    if (n == NULL || n->doomed) {
        return;
    }
    uint8_t key[4];
    char name[8];
    model_key_name(w->key, name);
    struct watch_spec spec = {.owner = &owner, .arg = w, .start_revision = w->next};
    key[0] = 'a';
    key[1] = 'z';
    spec.key = w->whole ? slice_of(key, 1) : slice_str(name);
    spec.range_end = w->whole ? slice_of(key + 1, 1) : slice_of(NULL, 0);
    int64_t live = 0;
    w->node = n;
    w->dead = false;
    w->w = watch_add(n->hub, &spec, &live);
}

static void leave(struct watching *w)
{
    watch_remove(w->node->hub, &w->w);
    w->node = NULL;
}

static void watch_event(struct sim *s, struct event *e)
{
    struct watching *w = &s->watches[e->a];
    if (w->node == NULL) {
        attach(w);
    } else if (w->dead || (!s->calm && rng_chance(&s->rng, 30))) {
        leave(w);
    } else {
        watch_resume(w->node->hub, w->w);
        (void)watch_hub_step(w->node->hub);
    }
    struct event next = *e;
    next.at = s->now + rng_between(&s->rng, 5, 200) * MS;
    sim_schedule(s, &next);
}

bool watch_all_done(struct sim *s)
{
    const struct model *m = &s->model;
    for (size_t i = 0; i < SIM_WATCHES; i++) {
        const struct watching *w = &s->watches[i];
        if (w->node == NULL) {
            return false;
        }
        for (size_t j = w->cursor; j < m->n_events; j++) {
            if (w->whole || m->events[j].key == w->key) {
                return false;
            }
        }
    }
    return true;
}

void watch_node_gone(struct node *n)
{
    for (size_t i = 0; i < SIM_WATCHES; i++) {
        struct watching *w = &n->sim->watches[i];
        if (w->node == n) {
            leave(w);
        }
    }
}

void watch_init(struct sim *s)
{
    for (size_t i = 0; i < SIM_WATCHES; i++) {
        s->watches[i] = (struct watching){.sim = s, .whole = i % 2 == 0, .key = (uint32_t)rng_below(&s->rng, SIM_KEYS), .next = 1};
        s->watches[i].refuse = i == 0 ? 200 : 0;
        sim_schedule(s, &(struct event){.at = s->now + rng_between(&s->rng, 1, 500) * MS, .name = "watch", .run = watch_event, .a = i});
    }
}
