/* tls_names.h - asking the name servers whether a certificate's names are those of an address.
 *
 * What        One question on libuv's pool: the address's own name, then the addresses of each name.
 * Callers     api/http/sock.c.   Thread  the loop's; the asking itself is done on the pool.
 * Lifetime    Frees itself once answered, owner or no owner.
 * Source      etcd-server.md 7.1, SAN check.
 */
#ifndef API_HTTP_TLS_NAMES_H
#define API_HTTP_TLS_NAMES_H

#include "api/http/loop.h"
#include "api/http/tls_internal.h"

struct tls_ask; /* opaque */

/* `sans` is taken. `*n_running` counts it until the answer, and lives as long as the loop. */
struct tls_ask *tls_ask_start(struct loop *l, unsigned *n_running, const char *address, struct tls_sans *sans,
                              void (*answered)(void *owner, bool right, const char *reason), void *owner);
/* `answered` is not called any more. */
void tls_ask_forget(struct tls_ask *a);

#endif
