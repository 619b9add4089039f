/* tls.h - from flags to certificates: what listeners and links use.
 *
 * What        One struct tls for each kind of listener that needs one, and the options of requests to other members.
 * Callers     tools/pintle/main.c, listen.c; config.c for what can be checked without files.
 * Thread      main.
 * Source      etcd-server.md 7.1, 7.2, 1.7.
 */
#ifndef TOOLS_PINTLE_TLS_H
#define TOOLS_PINTLE_TLS_H

#include "api/http/tls.h"
#include "tools/pintle/config.h"

struct server_tls {
    struct tls *client;  /* owned; NULL: no listener needs one */
    struct tls *metrics; /* owned; the client's, and addresses are checked */
    struct tls *peer;    /* owned */
    char *ciphers;       /* owned; NULL: the usual ones */
    char **peer_names, **peer_hosts; /* owned; whom other members have to be */
    char *client_cert, *client_key, *peer_cert, *peer_key; /* owned; "" for none */
};

/* Versions and suites against each other. ERR_INVALID with etcd's text. */
MUST_CHECK enum err tls_flags_check(struct flag_set *f, struct err_ctx *ec);
/* The data directory is there. Makes certificates where that was asked for, fills c->dial, and says in the log what is ignored. */
MUST_CHECK enum err server_tls_open(struct config *c, struct server_tls *out, struct err_ctx *ec);
void server_tls_close(struct server_tls *t); /* after all servers */
/* https and unixs. */
bool url_is_secure(const char *url);

#endif
