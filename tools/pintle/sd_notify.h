/* sd_notify.h - tells systemd that we are ready.
 *
 * What        One datagram to the socket that $NOTIFY_SOCKET names; nothing without it.
 * Callers     serve.c, gateway_tcp.c, grpc_proxy.c.   Thread  main.
 * Source      sd_notify(3).
 */
#ifndef TOOLS_PINTLE_SD_NOTIFY_H
#define TOOLS_PINTLE_SD_NOTIFY_H

#include "base/log.h"

void sd_notify_ready(struct logger *log);

#endif
