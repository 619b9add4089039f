/* flag_table.h - the server's flags: etcd's names, types and defaults.
 *
 * What        One row a flag.   Callers  tools/pintle/config.c.   Thread  constant.
 * Source      etcd-server.md 1.3, 1.5.
 */
#ifndef TOOLS_PINTLE_FLAG_TABLE_H
#define TOOLS_PINTLE_FLAG_TABLE_H

#include "tools/pintle/flags.h"

extern const struct flag flag_table[];

/* The heading of --help under which a flag stands; NULL: it is not shown. */
const char *flag_section(const struct flag *f);

#endif
