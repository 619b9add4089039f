/* urls.h - do two lists of peer URLs mean the same addresses?
 *
 * What        Compares sorted lists as text, and when they differ, as resolved addresses.
 * Callers     tools/pintle/bootstrap.c, config.c.   Thread  main; comparing may wait for name servers.
 * Source      etcd-server.md 2.3: localhost and unix URLs are never resolved; a failed lookup is tried again every second.
 */
#ifndef TOOLS_PINTLE_URLS_H
#define TOOLS_PINTLE_URLS_H

#include "base/err.h"
#include "base/log.h"

#define URLS_RESOLVE_MS 30000u /* for everything that one bootstrap resolves */

/* Both lists are NULL-terminated and sorted; resolving ends at `deadline_ms` of the real clock. ERR_INVALID with the difference when they are not equal. */
MUST_CHECK enum err urls_compare(const char *const *a, const char *const *b, uint64_t deadline_ms, struct logger *log, struct err_ctx *ec);
/* The IP of a URL's host, unless it is one of loopback or stands for all; the caller frees. NULL: a name, or such an address. */
char *url_outer_address(const char *url);
/* How many there are. */
size_t urls_count(const char *const *urls);
/* Comma list; the caller frees. */
char *urls_join(const char *const *urls, const char *prefix, const char *separator);

#endif
