/* access.h - which HTTP requests are let in at all.
 *
 * What        The checks before every HTTP request of the client port, the gateway's and the others': cross-origin headers, and the Host header on
 *             plain-text connections, which a web page that rebinds a name cannot forge.
 * Callers     api/etcd.   Thread  any: pure functions.
 * Source      etcd-server.md 7.4, etcd-v3-api.md 15.
 */
#ifndef API_GATEWAY_ACCESS_H
#define API_GATEWAY_ACCESS_H

#include <stdbool.h>

#include "base/slice.h"

/* `list` is NULL-terminated; NULL, an empty one, and one with "*" allow all. */
bool access_allows(const char *const *list, const char *name);

/* Append the cross-origin header lines that belong to a request from `origin` ("" when it names none); none when it is not allowed. */
void access_cors(const char *const *list, const char *origin, struct bytes *headers);

/* The host of a Host header: without port and without the brackets of an IPv6 address. Borrowed from `header`. */
struct slice access_host(const char *header);

/* Whether a request with this Host header may pass on a plain-text connection. */
bool access_host_allowed(const char *const *list, const char *header);

/* The body of the 421 answer. */
void access_host_refusal(const char *header, struct bytes *body);

#endif
