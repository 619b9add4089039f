/* url.h - is this an address of a member?
 *
 * What        The rules that all lists of URLs share.
 * Callers     tools/pintle/flags.c, cluster.c; tools/pintleutl.   Thread  any.
 * Source      etcd-server.md 1.1.
 */
#ifndef TOOLS_PINTLE_URL_H
#define TOOLS_PINTLE_URL_H

#include "base/err.h"

/* ERR_INVALID with etcd's text. */
MUST_CHECK enum err url_check(const char *url, struct err_ctx *ec);

#endif
