/* srv.h - services by the name servers: SRV records.
 *
 * What        Asks the system's name servers, as resolv.conf has them, for a service of a domain, and makes endpoints of the answers.
 * Callers     tools/pintle (founding, gateway, gRPC proxy), pintlectl.
 * Thread      any; waits for name servers, bounded by resolv.conf's own timeouts.
 * Source      RFC 2782; etcd-server.md 2.6, cli.md 4.2.
 */
#ifndef API_SRV_SRV_H
#define API_SRV_SRV_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SRV_RECORDS_MAX 256u /* of one answer; more are not looked at */

struct srv_record {
    char *host; /* owned; without the dot at its end */
    uint16_t port, priority, weight;
};

/* By priority, and by chance among equals so that heavy ones come early more often. */
struct srv_list {
    struct srv_record *records; /* owned */
    size_t n;
};

/* "_service._tcp.domain". ERR_NOT_FOUND: no such records; ERR_IO, ERR_INVALID: no usable answer; with Go's text. */
MUST_CHECK enum err srv_lookup(const char *service, const char *domain, struct srv_list *out, struct err_ctx *ec);
void srv_list_deinit(struct srv_list *l);

/* Endpoints that serve clients, "https://host:port" before "http://host:port"; record i belongs to endpoint i. */
struct srv_endpoints {
    char **texts;             /* owned, NULL-terminated */
    struct srv_list records;  /* owned */
};

/* "_etcd-client-ssl[-NAME]" and "_etcd-client[-NAME]" of the domain; `name` may be empty. ERR_NOT_FOUND when neither gives an answer:
 * `dns lookup errors: X and Y`. */
MUST_CHECK enum err srv_clients(const char *domain, const char *name, struct srv_endpoints *out, struct err_ctx *ec);
void srv_endpoints_deinit(struct srv_endpoints *e);

#endif
