/* advertised.h - a founder is announced to the others under the very addresses that the flags list for it.
 *
 * What        Compares --initial-advertise-peer-urls with the member's own part of --initial-cluster.
 * Callers     tools/pintle/bootstrap.c; tools/pintleutl.   Thread  main; may wait for name servers, URLS_RESOLVE_MS at most.
 */
#ifndef TOOLS_PINTLE_ADVERTISED_H
#define TOOLS_PINTLE_ADVERTISED_H

#include "base/log.h"
#include "raft/member/member.h"

/* `advertised` is sorted, NULL-terminated. ERR_INVALID with etcd's text. */
MUST_CHECK enum err advertised_check(const struct member_peer *own, const char *const *advertised, struct logger *log, struct err_ctx *ec);

#endif
