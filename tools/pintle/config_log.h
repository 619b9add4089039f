/* config_log.h - the logger that the flags ask for.
 *
 * What        --logger, --log-level, --log-outputs, --log-format and rotation, with etcd's checks in its order.
 * Callers     tools/pintle/config.c.   Thread  main.
 * Source      etcd-server.md 8.2.
 */
#ifndef TOOLS_PINTLE_CONFIG_LOG_H
#define TOOLS_PINTLE_CONFIG_LOG_H

#include "base/log.h"
#include "tools/pintle/flags.h"

/* ERR_INVALID and others with etcd's text; ERR_UNSUPPORTED with that of Go's panic, for a level that does not exist. */
MUST_CHECK enum err config_log_open(struct flag_set *f, struct logger **out, struct err_ctx *ec);

#endif
