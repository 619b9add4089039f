/* clock.c - the machine's clock. */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

#include "base/assert.h"

#define NS_PER_S UINT64_C(1000000000)

static uint64_t read_ns(clockid_t id)
{
    struct timespec ts;
    int rc = clock_gettime(id, &ts);
    ASSERT(rc == 0);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t boot_ns(void *self)
{
    (void)self;
    return read_ns(CLOCK_BOOTTIME);
}

static uint64_t wall_ns(void *self)
{
    (void)self;
    return read_ns(CLOCK_REALTIME);
}

static const struct clock machine = {boot_ns, wall_ns, NULL};

const struct clock *clock_real(void)
{
    return &machine;
}
