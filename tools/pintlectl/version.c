/* version.c - the version of etcdctl that this program stands in for. */
#include <stdio.h>

#include "tools/pintlectl/commands.h"

int version_run(struct ctl *ctl)
{
    (void)ctl;
    (void)puts("etcdctl version: 3.7.1\nAPI version: 3.7");
    return 0;
}
