/* secure.c - see secure.h. */
#include "api/peer/secure.h"

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
    (void)curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, t->insecure ? 0L : 2L);
    if (t->ca_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_CAINFO, t->ca_file);
        (void)curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);            /* nobody else is trusted */
        (void)curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L); /* the next connection reads it anew */
    }
    if (t->cert_file != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_SSLCERT, t->cert_file);
        (void)curl_easy_setopt(easy, CURLOPT_SSLKEY, t->key_file);
    }
    if (t->ciphers != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_SSL_CIPHER_LIST, t->ciphers);
    }
}
