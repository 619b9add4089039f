/* clock.h - time as a service that can be simulated.
 *
 * What        Monotonic nanoseconds for everything that measures or expires; the wall clock only
 *             for log lines and for numbers that etcd makes from it (lease and request ids).
 * Callers     shells only: cores get time as a field of their events.
 * Thread      any.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

struct clock {
    uint64_t (*monotonic_ns)(void *self); /* CLOCK_BOOTTIME: counts while the machine sleeps */
    uint64_t (*wall_ns)(void *self);      /* since 1970, UTC */
    void *self;
};

/* The machine's clock; static. */
const struct clock *clock_real(void);

static inline uint64_t clock_now_ns(const struct clock *c)
{
    return c->monotonic_ns(c->self);
}

static inline uint64_t clock_now_ms(const struct clock *c)
{
    return c->monotonic_ns(c->self) / 1000000u;
}

static inline uint64_t clock_wall_ns(const struct clock *c)
{
    return c->wall_ns(c->self);
}

#endif
