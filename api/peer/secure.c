/* secure.c - see secure.h. */
#include "api/peer/secure.h"

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "api/http/tls_internal.h"
#include "api/tls/chain.h"

/* The usual verification, and then the name: the same rules hold for whom this member calls as for who calls it. The other side hears
 * `bad certificate`. */
static int verify(X509_STORE_CTX *x, void *arg)
{
    const struct peer_tls *t = arg;
    if (tls_chain_verify(x, NULL) != 1) {
        return 0;
    }
    const struct tls_config rules = {.allowed_names = t->allowed_names, .allowed_hosts = t->allowed_hosts};
    if (!tls_is_allowed(&rules, X509_STORE_CTX_get0_cert(x))) {
        X509_STORE_CTX_set_error(x, X509_V_ERR_CERT_REJECTED);
        return 0;
    }
    return 1;
}

static CURLcode on_context(CURL *easy, void *context, void *arg)
{
    (void)easy;
    const struct peer_tls *t = arg;
    SSL_CTX_set_cert_verify_callback(context, verify, arg);
    if (t->server_name != NULL) {
        X509_VERIFY_PARAM *p = SSL_CTX_get0_param(context);
        X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        return X509_VERIFY_PARAM_set1_host(p, t->server_name, 0) == 1 ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
    }
    return CURLE_OK;
}

void peer_tls_apply(CURL *easy, const struct peer_tls *tls)
{
    static const struct peer_tls none = {.min = TLS_1_2};
    const struct peer_tls *t = tls != NULL ? tls : &none;
    static const long lowest[] = {[TLS_ANY] = CURL_SSLVERSION_TLSv1_2, [TLS_1_2] = CURL_SSLVERSION_TLSv1_2, [TLS_1_3] = CURL_SSLVERSION_TLSv1_3};
    static const long highest[] = {
        [TLS_ANY] = CURL_SSLVERSION_MAX_DEFAULT, [TLS_1_2] = CURL_SSLVERSION_MAX_TLSv1_2, [TLS_1_3] = CURL_SSLVERSION_MAX_TLSv1_3};
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_SSLVERSION, lowest[t->min] | highest[t->max]);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L); /* members resume nothing */
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, t->insecure ? 0L : 1L);
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, t->insecure || t->server_name != NULL ? 0L : 2L);
    if (t->local_address != NULL) {
        char from[sizeof("host!") + INET6_ADDRSTRLEN];
        (void)snprintf(from, sizeof(from), "host!%s", t->local_address); /* an address, whatever an interface may be called */
        (void)curl_easy_setopt(easy, CURLOPT_INTERFACE, from);
    }
    if (t->ca_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, t->ca_file);
        (void)curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);            /* nobody else is trusted */
        (void)curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L); /* the next connection reads it anew */
    }
    if (t->cert_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_SSLCERT, t->cert_file);
        (void)curl_easy_setopt(easy, CURLOPT_SSLKEY, t->key_file);
    }
    if (!t->insecure) {
        (void)curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_context);
        (void)curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, (void *)(uintptr_t)t);
    }
    if (t->ciphers != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_SSL_CIPHER_LIST, t->ciphers);
    }
}
