/* endpoints.h - endpoints one by one.
 *
 * What        Which endpoints a command asks each for itself, and a connection to one of them.
 * Callers     endpoint.c, maintenance.c.   Thread  one.
 */
#ifndef TOOLS_PINTLECTL_ENDPOINTS_H
#define TOOLS_PINTLECTL_ENDPOINTS_H

#include "tools/pintlectl/ctl.h"

struct endpoint_list {
    const char *const *texts; /* the arena's */
    size_t n;
};

/* The words of --endpoints, or with --cluster what the members say that they serve. After
 * ctl_configure. */
struct endpoint_list endpoints_of(struct ctl *ctl);

#endif
