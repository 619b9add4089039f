/* tls_check.c - the rules about certificates that stand beside the chain of signatures. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/http/tls_internal.h"
#include "base/mem.h"

/* --- revocation --------------------------------------------------------------------------------------- */

static int compare_serials(const void *a, const void *b)
{
    return ASN1_INTEGER_cmp(*(const ASN1_INTEGER *const *)a, *(const ASN1_INTEGER *const *)b);
}

enum err tls_revoked_load(const char *file, struct tls_revoked *out, struct err_ctx *ec)
{
    *out = (struct tls_revoked){0};
    BIO *b = BIO_new_file(file, "r");
    if (b == NULL) {
        ERR_clear_error();
        return err_set(ec, ERR_IO, "open %s: no such file, or not to be read", file);
    }
    X509_CRL *crl = d2i_X509_CRL_bio(b, NULL);
    if (crl == NULL) {
        (void)BIO_reset(b);
        crl = PEM_read_bio_X509_CRL(b, NULL, NULL, NULL);
    }
    BIO_free(b);
    ERR_clear_error();
    if (crl == NULL) {
        return err_set(ec, ERR_INVALID, "%s: no certificate revocation list", file);
    }
    STACK_OF(X509_REVOKED) *list = X509_CRL_get_REVOKED(crl);
    int n = list == NULL ? 0 : sk_X509_REVOKED_num(list);
    out->crl = crl;
    out->serials = xcalloc((size_t)n + 1, sizeof(*out->serials));
    for (int i = 0; i < n; i++) {
        out->serials[out->n++] = X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(list, i));
    }
    qsort(out->serials, out->n, sizeof(*out->serials), compare_serials);
    return OK;
}

void tls_revoked_deinit(struct tls_revoked *r)
{
    X509_CRL_free(r->crl);
    free(r->serials);
    *r = (struct tls_revoked){0};
}

bool tls_is_revoked(const struct tls_revoked *r, X509 *cert, char reason[TLS_REASON_BYTES])
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    if (r->n == 0 || bsearch(&serial, r->serials, r->n, sizeof(*r->serials), compare_serials) == NULL) {
        return false;
    }
    char hex[64] = "";
    for (int i = 0; i < serial->length && (size_t)i * 2 + 3 < sizeof(hex); i++) {
        (void)snprintf(hex + i * 2, 3, "%02x", serial->data[i]);
    }
    (void)snprintf(reason, TLS_REASON_BYTES, "transport: certificate serial %s revoked", hex);
    return true;
}

/* --- names -------------------------------------------------------------------------------------------- */

char *tls_common_name(X509 *cert)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = -1;
    for (int next = at; (next = X509_NAME_get_index_by_NID(subject, NID_commonName, next)) >= 0;) {
        at = next; /* the last counts, as in Go */
    }
    if (at < 0) {
        return NULL;
    }
    unsigned char *text = NULL;
    int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (n < 0) {
        ERR_clear_error();
        return NULL;
    }
    char *name = memchr(text, 0, (size_t)n) == NULL && n > 0 ? xstrndup((const char *)text, (size_t)n) : NULL;
    OPENSSL_free(text);
    return name;
}

static bool is_address(const char *host)
{
    uint8_t ip[16];
    return inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1;
}

static bool cert_is_for(X509 *cert, const char *host)
{
    bool yes = is_address(host) ? X509_check_ip_asc(cert, host, 0) == 1
                                : X509_check_host(cert, host, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
    ERR_clear_error();
    return yes;
}

bool tls_is_allowed(const struct tls_config *cfg, X509 *cert)
{
    bool names = cfg->allowed_names != NULL && cfg->allowed_names[0] != NULL;
    bool hosts = cfg->allowed_hosts != NULL && cfg->allowed_hosts[0] != NULL;
    if (!names && !hosts) {
        return true;
    }
    bool allowed = false;
    char *own = names ? tls_common_name(cert) : NULL;
    for (size_t i = 0; own != NULL && cfg->allowed_names[i] != NULL; i++) {
        allowed = allowed || strcmp(cfg->allowed_names[i], own) == 0;
    }
    free(own);
    for (size_t i = 0; hosts && cfg->allowed_hosts[i] != NULL; i++) {
        allowed = allowed || cert_is_for(cert, cfg->allowed_hosts[i]);
    }
    return allowed;
}

/* --- where a client is ---------------------------------------------------------------------------------- */

static char *address_text(const ASN1_OCTET_STRING *ip)
{
    char text[INET6_ADDRSTRLEN];
    int family = ip->length == 4 ? AF_INET : AF_INET6;
    if ((ip->length != 4 && ip->length != 16) || inet_ntop(family, ip->data, text, sizeof(text)) == NULL) {
        return NULL;
    }
    return xstrdup(text);
}

void tls_sans_read(X509 *cert, struct tls_sans *out)
{
    memset(out, 0, sizeof(*out));
    GENERAL_NAMES *list = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int n = list == NULL ? 0 : sk_GENERAL_NAME_num(list);
    size_t n_addresses = 0;
    size_t n_names = 0;
    for (int i = 0; i < n; i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(list, i);
        if (g->type == GEN_IPADD && n_addresses < TLS_SANS_MAX) {
            out->addresses[n_addresses] = address_text(g->d.iPAddress);
            n_addresses += out->addresses[n_addresses] != NULL ? 1u : 0u;
        } else if (g->type == GEN_DNS && n_names < TLS_SANS_MAX) {
            const ASN1_IA5STRING *s = g->d.dNSName;
            if (memchr(s->data, 0, (size_t)s->length) == NULL) {
                out->names[n_names++] = xstrndup((const char *)s->data, (size_t)s->length);
            }
        }
    }
    GENERAL_NAMES_free(list);
    ERR_clear_error();
}

void tls_sans_deinit(struct tls_sans *s)
{
    for (size_t i = 0; i < TLS_SANS_MAX; i++) {
        free(s->addresses[i]);
        free(s->names[i]);
    }
    memset(s, 0, sizeof(*s));
}

bool tls_names_cover(char *const *names, const char *host)
{
    size_t len = strlen(host);
    len -= len > 0 && host[len - 1] == '.' ? 1u : 0u;
    for (; *names != NULL; names++) {
        const char *name = *names;
        size_t n = strlen(name);
        bool wild = n > 2 && name[0] == '*' && name[1] == '.';
        if (wild && len > n - 1 && strncasecmp(host + len - (n - 1), name + 1, n - 1) == 0) {
            return true;
        }
        if (!wild && len == n && strncasecmp(host, name, n) == 0) {
            return true;
        }
    }
    return false;
}

void tls_place_reason(const struct tls_sans *s, const char *address, const char *why, char reason[TLS_REASON_BYTES])
{
    struct bytes b = {0};
    bytes_printf(&b, "tls: \"%s\" does not match any of DNSNames [", address);
    for (size_t i = 0; s->names[i] != NULL; i++) {
        bytes_printf(&b, "%s\"%s\"", i > 0 ? " " : "", s->names[i]);
    }
    bytes_printf(&b, "]%s%s%s", why[0] != '\0' ? " (" : "", why, why[0] != '\0' ? ")" : "");
    (void)snprintf(reason, TLS_REASON_BYTES, "%.*s", (int)b.len, (const char *)b.data);
    bytes_deinit(&b);
}

/* An address in one form: of mapped IPv4 the IPv4 part. */
static bool same_address(const char *a, const char *b)
{
    a += strncasecmp(a, "::ffff:", 7) == 0 && strchr(a, '.') != NULL ? 7 : 0;
    b += strncasecmp(b, "::ffff:", 7) == 0 && strchr(b, '.') != NULL ? 7 : 0;
    return strcasecmp(a, b) == 0;
}

enum tls_place tls_place_of(const struct tls_sans *s, const char *address, char reason[TLS_REASON_BYTES])
{
    if (s->addresses[0] == NULL && s->names[0] == NULL) {
        return TLS_PLACE_RIGHT;
    }
    for (size_t i = 0; s->addresses[i] != NULL; i++) {
        if (same_address(s->addresses[i], address)) {
            return TLS_PLACE_RIGHT;
        }
    }
    if (s->names[0] != NULL) {
        return TLS_PLACE_ASK;
    }
    struct bytes b = {0};
    for (size_t i = 0; s->addresses[i] != NULL; i++) {
        bytes_printf(&b, "%s%s", i > 0 ? ", " : "", s->addresses[i]);
    }
    (void)snprintf(reason, TLS_REASON_BYTES, "x509: certificate is valid for %.*s, not %s", (int)b.len, (const char *)b.data, address);
    bytes_deinit(&b);
    return TLS_PLACE_WRONG;
}
