/* peer_url.h - the addresses of a member that is to be added, and the id that follows from them.
 *
 * What        Checks as etcd's MemberAdd makes them, and its way to an id.
 * Callers     api/etcd/cluster.   Thread  any.
 * Source      etcd-server.md 2.2, etcd-v3-api.md 6.2.
 */
#ifndef API_ETCD_PEER_URL_H
#define API_ETCD_PEER_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

/* One URL as Go's url package writes it again: blanks around it gone, scheme in lower case. http and https need host:port and no
 * path; unix and unixs take what there is. `out` has the room of the URL and a NUL. false: not such a URL. */
bool peer_url_clean(const char *url, char *out);

/* All of a request, cleaned and sorted, NULL-terminated, in `a`. ERR_INVALID: none given, too many, too long, or one that is bad; ERR_NO_MEM. */
MUST_CHECK enum err peer_urls_clean(char *const *urls, size_t n, struct arena *a, const char *const **out);
/* Copied in order, NULL-terminated, in `a`; not looked at. NULL: no memory. */
const char *const *peer_urls_sorted(char *const *urls, size_t n, struct arena *a);

/* The id of a member with these sorted URLs that is added at this time. */
uint64_t member_id_compute(const char *const *sorted_urls, uint64_t unix_seconds);

#endif
