/* srv_clients.h - --discovery-srv of programs that forward clients: where do servers listen?
 *
 * What        SRV records, and unless insecure ones are welcome, a TLS handshake with each to see that it is who the domain says.
 * Callers     `pintle gateway`, `pintle grpc-proxy`.   Thread  main; waits for name servers and servers.
 * Source      etcd-server.md 2.6, 9.1.
 */
#ifndef TOOLS_PINTLE_SRV_CLIENTS_H
#define TOOLS_PINTLE_SRV_CLIENTS_H

#include "api/srv/srv.h"
#include "base/log.h"

struct srv_wanted {
    const char *domain;  /* empty: nothing is asked, nothing found */
    const char *name;    /* of the service; may be empty */
    const char *ca_file; /* NULL or empty: whom the system trusts */
    bool insecure;       /* --insecure-discovery */
};

/* Those that may be used, possibly none. Errors: that of srv_clients, for standard error; exit status 1 belongs to it. *out is to be given to
 * srv_endpoints_deinit in any case. */
MUST_CHECK enum err srv_clients_find(const struct srv_wanted *w, struct logger *log, struct srv_endpoints *out, struct err_ctx *ec);

#endif
