/* main.c - runs worlds.
 *
 *     sim --seed S              one world
 *     sim --seeds N --from S    N of them, one after the other
 *     sim --seconds T           fresh ones for T seconds; the first seed is printed
 *     sim --file PATH           those listed there, one a line; # begins a comment
 *     --trace                   everything that happens, line by line
 *     --twice                   each world twice: both have to go the same way
 *     --fault NAME              only this kind of fault (once more: that one too), as named in faults.c
 *     --plant N                 with a bug of the simulator's own machines (tests/sim/planted)
 *
 * Ends with 1 at the first violation, which it names with seed, simulated time and judge.
 */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

struct options {
    uint64_t seed, n_seeds, seconds;
    const char *file;
    enum plant plant;
    uint64_t faults; /* only these kinds; 0: each world its own */
    bool trace, twice;
};

struct totals {
    uint64_t worlds, ns_simulated;
    struct stats stats;
};

/* For the handler below, which may look at nothing else. */
static volatile uint64_t running_seed;

/* An assertion inside the product: say which world it was. */
static void on_abort(int sig)
{
    char text[96];
    int n = snprintf(text, sizeof(text), "seed %" PRIu64 ": ended by signal %d\n", running_seed, sig);
    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0) {
        _exit(3);
    }
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

static void add_stats(struct totals *t, const struct sim *s)
{
    const uint64_t *from = (const uint64_t *)(const void *)&s->stats;
    uint64_t *to = (uint64_t *)(void *)&t->stats;
    for (size_t i = 0; i < sizeof(s->stats) / sizeof(*from); i++) {
        to[i] += from[i];
    }
    t->worlds++;
    t->ns_simulated += s->now;
}

static bool run_once(const struct options *o, uint64_t seed, uint64_t *hash, struct totals *t)
{
    struct sim *s = sim_create(seed, o->plant, o->trace);
    s->set.faults = o->faults != 0 ? o->faults : s->set.faults;
    bool ok = sim_run(s);
    if (!ok) {
        (void)fflush(stdout);
        fprintf(stderr, "VIOLATION %s\n", s->violation);
        return false; /* what lies around tells the debugger more than an orderly end would */
    }
    *hash = s->trace_hash;
    add_stats(t, s);
    sim_destroy(&s);
    return true;
}

static bool run_seed(const struct options *o, uint64_t seed, struct totals *t)
{
    running_seed = seed;
    uint64_t first = 0;
    uint64_t second = 0;
    if (!run_once(o, seed, &first, t)) {
        return false;
    }
    if (o->twice && (!run_once(o, seed, &second, t) || first != second)) {
        fprintf(stderr, "VIOLATION seed %" PRIu64 ": replay: the same seed went another way\n", seed);
        return false;
    }
    return true;
}

static bool run_file(const struct options *o, struct totals *t)
{
    FILE *f = fopen(o->file, "r");
    if (f == NULL) {
        fprintf(stderr, "cannot read %s\n", o->file);
        return false;
    }
    char line[256];
    bool ok = true;
    while (ok && fgets(line, sizeof(line), f) != NULL) {
        char *end = NULL;
        uint64_t seed = strtoull(line, &end, 10);
        ok = end == line || run_seed(o, seed, t);
    }
    (void)fclose(f);
    return ok;
}

static void report(const struct totals *t, uint64_t ns)
{
    const struct stats *x = &t->stats;
    printf("%" PRIu64 " worlds, %.0f simulated seconds in %.1f s (%.1f worlds/s): %" PRIu64 " events, %" PRIu64 " messages, %" PRIu64 " elections, %" PRIu64
           " faults, %" PRIu64 " starts, %" PRIu64 " snapshots sent, %" PRIu64 " installed, %" PRIu64 " refused, %" PRIu64 " changes of membership asked, %" PRIu64
           " requests acknowledged, %" PRIu64 " unknown, %" PRIu64 " reads, %" PRIu64 " watch events, %" PRIu64 " leaders' disks hung, %" PRIu64 " worlds stranded by a removal\n",
           t->worlds, (double)t->ns_simulated / 1e9, (double)ns / 1e9, ns == 0 ? 0 : (double)t->worlds * 1e9 / (double)ns, x->events, x->messages, x->elections,
           x->faults, x->restarts, x->snapshots_sent, x->snapshots_installed, x->refused_snapshots, x->changes, x->acked, x->unknown, x->reads,
           x->watch_events, x->hung_leaders, x->stranded);
}

static bool parse_fault(const char *name, uint64_t *faults)
{
    for (size_t i = 0; i < faults_count(); i++) {
        if (strcmp(fault_name(i), name) == 0) {
            *faults |= UINT64_C(1) << i;
            return true;
        }
    }
    return false;
}

static bool parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--trace") == 0) {
            o->trace = true;
            continue;
        }
        if (strcmp(a, "--twice") == 0) {
            o->twice = true;
            continue;
        }
        if (i + 1 == argc) {
            return false;
        }
        const char *v = argv[++i];
        if (strcmp(a, "--seed") == 0) {
            o->seed = strtoull(v, NULL, 10);
            o->n_seeds = 1;
        } else if (strcmp(a, "--seeds") == 0) {
            o->n_seeds = strtoull(v, NULL, 10);
        } else if (strcmp(a, "--from") == 0) {
            o->seed = strtoull(v, NULL, 10);
        } else if (strcmp(a, "--seconds") == 0) {
            o->seconds = strtoull(v, NULL, 10);
        } else if (strcmp(a, "--file") == 0) {
            o->file = v;
        } else if (strcmp(a, "--fault") == 0) {
            if (!parse_fault(v, &o->faults)) {
                return false;
            }
        } else if (strcmp(a, "--plant") == 0) {
            o->plant = (enum plant)strtoul(v, NULL, 10);
        } else {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options o = {.seed = 1};
    const char *environment = getenv("PINTLE_SIM_SECONDS");
    if (argc == 1 && environment != NULL) {
        o.seconds = strtoull(environment, NULL, 10);
    } else if (argc == 1) {
        o.seconds = 20;
    }
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: sim [--seed S | --seeds N --from S | --seconds T | --file PATH] [--trace] [--twice] [--fault NAME] [--plant N]\n");
        return 2;
    }
    (void)signal(SIGABRT, on_abort);
    (void)signal(SIGSEGV, on_abort);
    struct totals t = {0};
    uint64_t begun = clock_now_ns(clock_real());
    bool ok = true;
    if (o.file != NULL) {
        ok = run_file(&o, &t);
    } else if (o.seconds > 0) {
        uint64_t seed = clock_wall_ns(clock_real()) / 1000u;
        printf("first seed %" PRIu64 "\n", seed);
        (void)fflush(stdout);
        while (ok && clock_now_ns(clock_real()) - begun < o.seconds * UINT64_C(1000000000)) {
            ok = run_seed(&o, seed++, &t);
        }
    } else {
        uint64_t n = o.n_seeds == 0 ? 1 : o.n_seeds;
        for (uint64_t i = 0; ok && i < n; i++) {
            ok = run_seed(&o, o.seed + i, &t);
        }
    }
    report(&t, clock_now_ns(clock_real()) - begun);
    return ok ? 0 : 1;
}
