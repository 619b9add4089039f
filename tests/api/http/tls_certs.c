/* tls_certs.c - see tls_certs.h. */
#include "tls_certs.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/assert.h"

#define DAY_S 86400L

static EVP_PKEY *make_key(enum key_kind kind)
{
    EVP_PKEY *key = NULL;
    switch (kind) {
    case KEY_EC:
        key = EVP_EC_gen("P-256");
        break;
    case KEY_RSA:
        key = EVP_RSA_gen(2048);
        break;
    case KEY_ED25519:
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        break;
    }
    ASSERT(key != NULL);
    return key;
}

static void extend(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ASSERT(e != NULL);
    ASSERT(X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static X509 *make(const struct cert_spec *s, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);
    bool days = s->from_days != 0 || s->to_days != 0;
    ASSERT(X509_set_version(x, X509_VERSION_3) == 1);
    ASSERT(ASN1_INTEGER_set(X509_get_serialNumber(x), s->serial == 0 ? 1 : s->serial) == 1);
    ASSERT(X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"tests", -1, -1, 0) == 1);
    if (s->name != NULL) {
        ASSERT(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)s->name, -1, -1, 0) == 1);
    }
    ASSERT(X509_set_issuer_name(x, issuer == NULL ? name : X509_get_subject_name(issuer)) == 1);
    ASSERT(X509_gmtime_adj(X509_getm_notBefore(x), (days ? s->from_days : -1) * DAY_S) != NULL);
    ASSERT(X509_gmtime_adj(X509_getm_notAfter(x), (days ? s->to_days : 1) * DAY_S) != NULL);
    ASSERT(X509_set_pubkey(x, key) == 1);
    extend(x, issuer == NULL ? x : issuer, NID_basic_constraints, s->ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (s->sans != NULL) {
        extend(x, issuer, NID_subject_alt_name, s->sans);
    }
    if (s->usage != NULL) {
        extend(x, issuer, NID_ext_key_usage, s->usage);
    }
    if (s->key_usage != NULL) {
        extend(x, issuer, NID_key_usage, s->key_usage);
    }
    if (s->limits != NULL) {
        extend(x, issuer, NID_name_constraints, s->limits);
    }
    ASSERT(X509_sign(x, issuer_key, s->weak ? EVP_sha1() : EVP_sha256()) > 0);
    return x;
}

struct authority certs_authority(const char *name, const struct authority *issuer)
{
    const struct cert_spec s = {.name = name, .ca = true, .from_days = -2, .to_days = 30};
    struct authority a = {.key = make_key(KEY_EC)};
    a.cert = make(&s, a.key, issuer == NULL ? NULL : issuer->cert, issuer == NULL ? a.key : issuer->key);
    return a;
}

struct authority certs_odd_authority(const struct cert_spec *s)
{
    struct authority a = {.key = make_key(KEY_EC)};
    a.cert = make(s, a.key, NULL, a.key);
    return a;
}

struct authority certs_signed_authority(const struct cert_spec *s, const struct authority *issuer)
{
    struct authority a = {.key = make_key(KEY_EC)};
    a.cert = make(s, a.key, issuer->cert, issuer->key);
    return a;
}

void certs_authority_free(struct authority *a)
{
    X509_free(a->cert);
    EVP_PKEY_free(a->key);
}

static FILE *open_file(const char *dir, const char *file, const char *ending)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s%s", dir, file, ending);
    FILE *f = fopen(path, "w");
    ASSERT(f != NULL);
    return f;
}

void certs_make(const char *dir, const char *file, const struct cert_spec *s, const struct authority *issuer, X509 *chain)
{
    EVP_PKEY *key = make_key(s->kind);
    X509 *x = make(s, key, issuer->cert, issuer->key);
    FILE *f = open_file(dir, file, ".pem");
    ASSERT(PEM_write_X509(f, x) == 1);
    if (chain != NULL) {
        ASSERT(PEM_write_X509(f, chain) == 1);
    }
    ASSERT(fclose(f) == 0);
    f = open_file(dir, file, ".key");
    ASSERT(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    ASSERT(fclose(f) == 0);
    X509_free(x);
    EVP_PKEY_free(key);
}

void certs_write_authority(const char *dir, const char *file, const struct authority *a, const struct authority *more)
{
    FILE *f = open_file(dir, file, ".pem");
    ASSERT(PEM_write_X509(f, a->cert) == 1);
    if (more != NULL) {
        ASSERT(PEM_write_X509(f, more->cert) == 1);
    }
    ASSERT(fclose(f) == 0);
}

void certs_revoke(const char *dir, const char *file, const struct authority *issuer, const long *serials, int next_days, bool der)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *then = X509_gmtime_adj(NULL, -30 * DAY_S);
    ASN1_TIME *next = X509_gmtime_adj(NULL, next_days * DAY_S);
    ASSERT(X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1);
    ASSERT(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->cert)) == 1);
    ASSERT(X509_CRL_set1_lastUpdate(crl, then) == 1);
    ASSERT(X509_CRL_set1_nextUpdate(crl, next) == 1);
    for (; *serials != 0; serials++) {
        X509_REVOKED *r = X509_REVOKED_new();
        ASN1_INTEGER *n = ASN1_INTEGER_new();
        ASSERT(ASN1_INTEGER_set(n, *serials) == 1);
        ASSERT(X509_REVOKED_set_serialNumber(r, n) == 1);
        ASSERT(X509_REVOKED_set_revocationDate(r, then) == 1);
        ASSERT(X509_CRL_add0_revoked(crl, r) == 1);
        ASN1_INTEGER_free(n);
    }
    ASSERT(X509_CRL_sign(crl, issuer->key, EVP_sha256()) > 0);
    FILE *f = open_file(dir, file, "");
    ASSERT((der ? i2d_X509_CRL_fp(f, crl) : PEM_write_X509_CRL(f, crl)) == 1);
    ASSERT(fclose(f) == 0);
    ASN1_TIME_free(then);
    ASN1_TIME_free(next);
    X509_CRL_free(crl);
}
