/* chain.h - is a certificate signed by somebody who is trusted?
 *
 * What        OpenSSL's verification, and two things in which Go is milder. A certificate may bear its authority's very name: when it does not say
 *             which key signed it, either, OpenSSL takes it for one that signed itself, although its signature says otherwise. And its extended key
 *             usage may be "anything", and its plain key usage any.
 * Callers     api/http's sessions, api/peer's and api/client's connections, from within a handshake.
 * Thread      the handshake's.
 */
#ifndef API_TLS_CHAIN_H
#define API_TLS_CHAIN_H

#include <openssl/x509_vfy.h>

/* In the place of X509_verify_cert: 1 if it holds, else the context has the error. The shape is
 * SSL_CTX_set_cert_verify_callback's. */
int tls_chain_verify(X509_STORE_CTX *x, void *unused);

#endif
