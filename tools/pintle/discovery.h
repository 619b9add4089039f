/* discovery.h - v3 discovery: who founds the cluster, by a registry in another cluster.
 *
 * What        Registers this member under --discovery-token and waits until as many have come as the registry asks for.
 * Callers     tools/pintle/bootstrap.c.
 * Thread      main. A service that cannot be asked is asked again for ever, as by etcd; whoever waits is ended by a signal.
 * Source      etcd-server.md 2.5.
 */
#ifndef TOOLS_PINTLE_DISCOVERY_H
#define TOOLS_PINTLE_DISCOVERY_H

#include <stdint.h>

#include "base/log.h"
#include "tools/pintle/flags.h"

/* Register `own` ("name=url,...") as member `id`; the flags say where. On OK the caller frees *cluster, which is as --initial-cluster. ERR_INVALID,
 * ERR_LIMIT and others: etcd's text. */
MUST_CHECK enum err discovery_join(struct flag_set *flags, struct logger *log, uint64_t id, const char *own, char **cluster, struct err_ctx *ec);

#endif
