/* config_check.h - do the flags fit together?
 *
 * What        etcd's checks, in its order and with its texts.   Callers  tools/pintle/config.c.   Thread  main.
 * Source      etcd-server.md 1.7.
 */
#ifndef TOOLS_PINTLE_CONFIG_CHECK_H
#define TOOLS_PINTLE_CONFIG_CHECK_H

#include "tools/pintle/config.h"

/* ERR_INVALID with etcd's text. c->log is there; warnings go to it. */
MUST_CHECK enum err config_check(struct config *c, struct err_ctx *ec);
/* What this version does not do is said aloud, and refused (ERR_UNSUPPORTED) where ignoring it would leave the user less safe than they think. */
MUST_CHECK enum err config_check_support(struct config *c, struct err_ctx *ec);

#endif
