/* secure.h - TLS of this member's own requests to others, and the address they come from.
 *
 * What        Files and rules for libcurl. Files are read by each new connection.
 * Callers     api/peer/net.c; tools/pintle, which makes it of flags and uses it before there is a transport.   Thread  immutable.
 * Source      etcd-server.md 7.2: the address's own host has to stand in the other's certificate.
 */
#ifndef API_PEER_SECURE_H
#define API_PEER_SECURE_H

#include <curl/curl.h>

#include "api/http/tls.h"

/* Texts may be NULL for none. */
struct peer_tls {
    const char *ca_file; /* none: whom the system trusts */
    const char *cert_file, *key_file;
    const char *server_name; /* that the other's certificate has to be for; none: the host of its address */
    const char *ciphers; /* of TLS 1.2, from tls_ciphers; none: the usual */
    enum tls_version min, max;
    bool insecure; /* the other's certificate is not looked at */
    const char *local_address; /* an IP of this host that connections are made from; none: as the system chooses */
    /* As in struct tls_config: common names or hosts, one of which the other's certificate has to be for. NULL-terminated; NULL: any. */
    const char *const *allowed_names, *const *allowed_hosts;
};

/* `tls` may be NULL: no certificate of one's own, and the system's authorities. Texts are copied; *tls and its lists have to outlive `easy`. */
void peer_tls_apply(CURL *easy, const struct peer_tls *tls);

#endif
