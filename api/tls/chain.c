/* chain.c - see chain.h. */
#include "api/tls/chain.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>

#include "base/assert.h"

/* OpenSSL looks at the strength of every signature but the last one of a chain, and here the last
 * one matters. */
static bool is_strong(X509_STORE_CTX *x, X509 *cert)
{
    static const int bits_of_level[] = {80, 80, 112, 128, 192, 256};
    static const int top = (int)(sizeof(bits_of_level) / sizeof(bits_of_level[0])) - 1;
    int level = X509_VERIFY_PARAM_get_auth_level(X509_STORE_CTX_get0_param(x));
    int wanted = bits_of_level[level < 0 ? 0 : (level < top ? level : top)];
    int bits = 0;
    return X509_get_signature_info(cert, NULL, NULL, &bits, NULL) == 1 && bits >= wanted;
}

/* By itself: in its time, and among those that `x` trusts. */
static bool is_trusted(X509_STORE_CTX *x, X509 *authority, int trust)
{
    X509_STORE_CTX *own = X509_STORE_CTX_new();
    ASSERT(own != NULL);
    bool yes = X509_STORE_CTX_init(own, X509_STORE_CTX_get0_store(x), authority, NULL) == 1;
    if (yes) {
        X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(own);
        X509_VERIFY_PARAM_set_auth_level(
            p, X509_VERIFY_PARAM_get_auth_level(X509_STORE_CTX_get0_param(x)));
        yes = X509_VERIFY_PARAM_set_trust(p, trust) == 1 &&
              X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN) == 1 &&
              X509_verify_cert(own) == 1;
    }
    X509_STORE_CTX_free(own);
    return yes;
}

/* May it sign such a certificate, and did it? One that limits the names it signs for is left out:
 * nothing here compares them. */
static bool is_signer(X509_STORE_CTX *x, X509 *authority, X509 *cert)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
    bool client = SSL_is_server(ssl) == 1; /* is what the certificate is for */
    return X509_check_purpose(authority, client ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER,
                              1) == 1 &&
           X509_get_ext_by_NID(authority, NID_name_constraints, -1) < 0 &&
           X509_check_issued(authority, cert) == X509_V_OK &&
           X509_verify(cert, X509_get0_pubkey(authority)) == 1 &&
           is_trusted(x, authority, client ? X509_TRUST_SSL_CLIENT : X509_TRUST_SSL_SERVER);
}

static bool has_trusted_signer(X509_STORE_CTX *x, X509 *cert)
{
    STACK_OF(X509) *authorities = X509_STORE_CTX_get1_certs(x, X509_get_issuer_name(cert));
    bool yes = false;
    for (int i = 0; !yes && i < sk_X509_num(authorities); i++) {
        yes = is_signer(x, sk_X509_value(authorities, i), cert);
    }
    sk_X509_pop_free(authorities, X509_free);
    ERR_clear_error();
    return yes;
}

/* As in Go a certificate is for what its extended key usage lists, or for anything without a list. OpenSSL does not know the entry
 * that stands for everything, and looks at the plain key usage as well. */
static bool is_meant_for_this(X509_STORE_CTX *x, X509 *cert)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
    int wanted = SSL_is_server(ssl) == 1 ? NID_client_auth : NID_server_auth;
    int how = 0; /* -1: it has none; other than that without an answer: it has some that nobody can read */
    EXTENDED_KEY_USAGE *list = X509_get_ext_d2i(cert, NID_ext_key_usage, &how, NULL);
    bool yes = list == NULL && how == -1;
    for (int i = 0; i < sk_ASN1_OBJECT_num(list); i++) {
        int usage = OBJ_obj2nid(sk_ASN1_OBJECT_value(list, i));
        yes = yes || usage == wanted || usage == NID_anyExtendedKeyUsage;
    }
    sk_ASN1_OBJECT_pop_free(list, ASN1_OBJECT_free);
    ERR_clear_error();
    return yes;
}

/* Asked about each fault that OpenSSL finds; what is forgiven here is still looked at for all others. */
static int on_verdict(int ok, X509_STORE_CTX *x)
{
    X509 *cert = X509_STORE_CTX_get_current_cert(x);
    int fault = X509_STORE_CTX_get_error(x);
    bool fine = ok == 1;
    if (fault == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT && !fine) {
        fine = is_strong(x, cert) && has_trusted_signer(x, cert);
    } else if (fault == X509_V_ERR_INVALID_PURPOSE && !fine) {
        bool leaf = X509_STORE_CTX_get_error_depth(x) == 0;
        fine = (leaf || X509_check_ca(cert) == 1) && is_meant_for_this(x, cert);
    }
    if (fine && ok != 1) {
        X509_STORE_CTX_set_error(x, X509_V_OK);
    }
    return fine ? 1 : ok;
}

int tls_chain_verify(X509_STORE_CTX *x, void *unused)
{
    (void)unused;
    X509_STORE_CTX_set_verify_cb(x, on_verdict);
    return X509_verify_cert(x);
}
