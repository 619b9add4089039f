/* environment.h - flags from variables ETCDCTL_NAME.
 *
 * What        Sets inherited flags that no word has given; ends the program when both are there.
 * Callers     ctl.c.   Thread  one.
 * Source      cli.md 3.1.
 */
#ifndef TOOLS_PINTLECTL_ENVIRONMENT_H
#define TOOLS_PINTLECTL_ENVIRONMENT_H

#include "tools/pintlectl/ctl.h"

void environment_apply(struct ctl *ctl);

#endif
