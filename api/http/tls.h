/* tls.h - what a listener's TLS is made of: certificates, authorities, revocations, rules.
 *
 * What        A struct tls names files and rules. Each handshake looks whether a file has changed and then reads all of them anew; what cannot be
 *             read leaves what was read before in force, and the log says so.
 * Callers     tools/pintle makes them; api/http serves with them.
 * Thread      create and destroy on any; the rest from any loop at once.
 * Lifetime    Destroyed after every server that uses it.
 * Source      etcd-server.md 7.1. Go's rules where it matters to others: names are looked for in the SANs alone, a certificate among the trusted
 *             ones is trusted whatever signed it, TLS 1.2 offers ECDHE suites unless told otherwise.
 */
#ifndef API_HTTP_TLS_H
#define API_HTTP_TLS_H

#include <stdbool.h>

#include "api/tls/context.h"
#include "base/err.h"
#include "base/log.h"

struct tls; /* opaque */

/* Copied; lists end with NULL; texts may be NULL for none. */
struct tls_config {
    const char *cert_file, *key_file;
    const char *ca_file;  /* who signs clients' certificates; none: whom the system trusts */
    const char *crl_file; /* serial numbers that are refused, DER or PEM; issuer, signature and age are not looked at */
    bool client_auth;     /* a client needs a certificate; a ca_file alone means the same */
    enum tls_version min, max;
    const char *ciphers; /* of TLS 1.2, from tls_ciphers; none: the usual */
    const char *const *allowed_names; /* common names, or ... */
    const char *const *allowed_hosts; /* ... hosts, one of which the client's certificate has to be for */
    bool check_address; /* a client's certificate that names addresses has to name the one it comes from */
    struct logger *log; /* may be NULL */
    const char *rejected; /* what the log says of a connection that is turned away */
};

/* Reads everything once. ERR_INVALID or ERR_IO, with the text of etcd where it has one. */
MUST_CHECK enum err tls_create(const struct tls_config *cfg, struct tls **out, struct err_ctx *ec);
void tls_destroy(struct tls **t);

/* Suites by the names that Go gives them, NULL-terminated, as OpenSSL's list; the caller frees. ERR_INVALID: `unexpected TLS cipher suite "x"`.
 * ERR_UNSUPPORTED: this OpenSSL has none of them. */
MUST_CHECK enum err tls_ciphers(const char *const *names, char **out, struct err_ctx *ec);

#endif
