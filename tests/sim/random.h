/* random.h - the one stream of numbers that decides everything a simulated world does.
 *
 * What        splitmix64 from a seed: the same seed gives the same numbers on every machine.
 * Callers     tests/sim.   Thread  its owner's.
 */
#ifndef TESTS_SIM_RANDOM_H
#define TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
    r->state += 0x9e3779b97f4a7c15u;
    uint64_t z = r->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Below `n`, which is not 0. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return rng_next(r) % n;
}

/* From `low` to `high`, both included. */
static inline uint64_t rng_between(struct rng *r, uint64_t low, uint64_t high)
{
    return low + rng_below(r, high - low + 1u);
}

/* True in `of_thousand` out of 1000. */
static inline bool rng_chance(struct rng *r, uint64_t of_thousand)
{
    return rng_below(r, 1000u) < of_thousand;
}

#endif
