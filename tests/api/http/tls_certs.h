/* tls_certs.h - certificates for tests, made in a directory of the test's own.
 *
 * What        Authorities, certificates of every kind and revocation lists, as PEM or DER files.
 * Callers     tests of api/http.   Thread  the test's.
 */
#ifndef TESTS_API_HTTP_TLS_CERTS_H
#define TESTS_API_HTTP_TLS_CERTS_H

#include <openssl/x509.h>
#include <stdbool.h>

enum key_kind { KEY_EC, KEY_RSA, KEY_ED25519 };

struct authority {
    X509 *cert;
    EVP_PKEY *key;
};

struct cert_spec {
    const char *name; /* common name; NULL: none */
    const char *sans; /* "IP:...,DNS:..."; NULL: none */
    const char *usage; /* extendedKeyUsage; NULL: none */
    const char *key_usage; /* keyUsage; NULL: none */
    enum key_kind kind;
    int from_days, to_days; /* from now; both 0: good for a day around now */
    long serial;
    bool ca;
    bool weak;          /* signed with SHA-1 */
    const char *limits; /* nameConstraints; NULL: none */
};

struct authority certs_authority(const char *name, const struct authority *issuer); /* NULL: it signs itself */
/* One that signs itself and is not like the others; `kind` is always EC. */
struct authority certs_odd_authority(const struct cert_spec *s);
struct authority certs_signed_authority(const struct cert_spec *s, const struct authority *issuer); /* the same, signed by somebody else */
void certs_authority_free(struct authority *a);
/* DIR/NAME.pem with the certificate and then `chain` (may be NULL), DIR/NAME.key. */
void certs_make(const char *dir, const char *file, const struct cert_spec *s, const struct authority *issuer, X509 *chain);
void certs_write_authority(const char *dir, const char *file, const struct authority *a, const struct authority *more);
/* A revocation list of these serial numbers (0 ends them), next update `next_days` from now. */
void certs_revoke(const char *dir, const char *file, const struct authority *issuer, const long *serials, int next_days, bool der);

#endif
