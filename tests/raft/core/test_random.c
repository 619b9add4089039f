/* test_random.c - clusters under random events; what must hold is checked in sim.c.
 *
 * PINTLE_SEED=n runs that seed alone, PINTLE_SEEDS=n that many of them. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/raft/core/sim.h"

#define SEEDS 200u
#define STEPS 20000u

struct totals {
    uint64_t applied;
    uint64_t elections;
    uint64_t snapshots;
    uint64_t crashes;
    uint64_t losses;
    uint64_t conf_changes;
    uint64_t reads;
    uint64_t trapped;
};

static struct sim_options options_of(uint64_t seed)
{
    uint64_t bits = seed * UINT64_C(0x9E3779B97F4A7C15);
    return (struct sim_options){
        .seed = seed,
        .n_members = 3 + (size_t)((bits >> 8) % 5),
        .n_voters = 1 + (size_t)((bits >> 16) % 3),
        .pre_vote = ((bits >> 24) & 1u) != 0,
        .check_quorum = ((bits >> 25) & 1u) != 0,
        .apply_before_durable = ((bits >> 26) & 1u) != 0,
        .step_down_on_removal = ((bits >> 30) & 1u) != 0,
        .stormy = ((bits >> 31) & 1u) != 0,
        .max_append_bytes = ((bits >> 27) & 1u) != 0 ? 64 : RAFT_APPEND_BYTES,
        .max_committed_bytes = ((bits >> 28) & 1u) != 0 ? 128 : 0,
        .max_inflight = ((bits >> 29) & 1u) != 0 ? 2 : RAFT_INFLIGHT,
    };
}

static void run(uint64_t seed, struct totals *t)
{
    struct sim_options options = options_of(seed);
    struct sim *s = sim_create(&options);
    for (size_t i = 0; i < STEPS; i++) {
        sim_step(s);
    }
    bool settled = sim_settle(s, 2000);
    t->trapped += !settled && sim_trapped(s);
    if (!settled && !sim_trapped(s)) {
        (void)fprintf(stderr, "seed %" PRIu64 ": the cluster does not settle\n", seed);
        sim_print(s);
        fail();
    }
    t->applied += s->max_applied;
    t->elections += s->n_elections;
    t->snapshots += s->n_snapshots;
    t->crashes += s->n_crashes;
    t->losses += s->n_losses;
    t->conf_changes += s->n_conf_changes;
    t->reads += s->n_read_answers;
    sim_destroy(&s);
}

static void random_events_break_no_promise(void **state)
{
    (void)state;
    struct totals t = {0};
    const char *one = getenv("PINTLE_SEED");
    const char *many = getenv("PINTLE_SEEDS");
    uint64_t first = one != NULL ? strtoull(one, NULL, 10) : 1;
    uint64_t n = one != NULL ? 1 : many != NULL ? strtoull(many, NULL, 10) : SEEDS;
    for (uint64_t seed = first; seed < first + n; seed++) {
        if (getenv("PINTLE_VERBOSE") != NULL) {
            (void)fprintf(stderr, "seed %" PRIu64 "\n", seed);
        }
        run(seed, &t);
    }
    (void)fprintf(stderr,
                  "%" PRIu64 " seeds: %" PRIu64 " entries, %" PRIu64 " elections, %" PRIu64
                  " snapshots, %" PRIu64 " crashes, %" PRIu64 " losses, %" PRIu64
                  " conf changes, %" PRIu64 " reads, %" PRIu64 " trapped\n",
                  n, t.applied, t.elections, t.snapshots, t.crashes, t.losses, t.conf_changes,
                  t.reads, t.trapped);
    if (one == NULL) { /* the simulation reaches what it is there for */
        assert_true(t.applied > n * 50 && t.elections > n && t.crashes > n && t.reads > n);
        assert_true(t.trapped <= n / 10);
        assert_true(t.snapshots > 0 && t.losses > 0 && t.conf_changes > n);
    }
}

static void same_seed_same_run(void **state)
{
    (void)state;
    struct totals a = {0};
    struct totals b = {0};
    run(7, &a);
    run(7, &b);
    assert_memory_equal(&a, &b, sizeof(a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_run),
        cmocka_unit_test(random_events_break_no_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
