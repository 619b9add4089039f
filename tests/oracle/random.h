/* random.h - a small seeded generator, the same on every machine.
 *
 * What        splitmix64.   Callers  the oracle test.   Thread  values.
 * Source      Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014.
 */
#ifndef TESTS_ORACLE_RANDOM_H
#define TESTS_ORACLE_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 0 to n - 1. */
static inline uint32_t random_below(struct random *r, uint32_t n)
{
    return (uint32_t)(((random_next(r) >> 32) * n) >> 32);
}

/* True in `permille` of a thousand cases. */
static inline bool random_in(struct random *r, uint32_t permille)
{
    return random_below(r, 1000) < permille;
}

#endif
