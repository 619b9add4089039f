/* context.c - see context.h. */
#include "api/tls/context.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"

#define PEER_CHAIN_BYTES 65536u /* of certificates that a peer presents: handshake failure */

/* As Go: no exchange without forward secrecy. */
static const char usual_ciphers[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"
                                    "ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA";

static enum err ssl_failed(struct err_ctx *ec, const char *what, const char *file)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    enum err e = err_set(ec, ERR_INVALID, "%s %s: %s", what, file, reason != NULL ? reason : "not usable");
    ERR_clear_error();
    return e;
}

/* A key that needs a password cannot be used: nobody is there to be asked. */
static int no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

enum err tls_file_check(const char *file, struct err_ctx *ec)
{
    struct stat st;
    if (stat(file, &st) != 0) {
        return err_set(ec, ERR_IO, "open %s: no such file or directory", file);
    }
    return st.st_size > (off_t)TLS_FILE_BYTES_MAX ? err_set(ec, ERR_LIMIT, "%s: longer than %u bytes", file, TLS_FILE_BYTES_MAX) : OK;
}

static enum err load_pair(SSL_CTX *ctx, const struct tls_context_config *c, struct err_ctx *ec)
{
    enum err e = tls_file_check(c->cert_file, ec);
    if (e == OK) {
        e = tls_file_check(c->key_file, ec);
    }
    if (e != OK) {
        return e;
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, c->cert_file) != 1) {
        return ssl_failed(ec, "certificate", c->cert_file);
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, c->key_file, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        return ssl_failed(ec, "private key", c->key_file);
    }
    return OK;
}

static enum err load_authorities(SSL_CTX *ctx, const struct tls_context_config *c, struct err_ctx *ec)
{
    if (c->ca_file == NULL) {
        return SSL_CTX_set_default_verify_paths(ctx) == 1 ? OK : ssl_failed(ec, "authorities of", "the system");
    }
    enum err e = tls_file_check(c->ca_file, ec);
    if (e != OK) {
        return e;
    }
    if (SSL_CTX_load_verify_file(ctx, c->ca_file) != 1) {
        return ssl_failed(ec, "authorities in", c->ca_file);
    }
    if (c->server) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(c->ca_file);
        if (names == NULL) {
            return ssl_failed(ec, "authorities in", c->ca_file);
        }
        SSL_CTX_set_client_CA_list(ctx, names);
    }
    return OK;
}

static void set_rules(SSL_CTX *ctx, const struct tls_context_config *c)
{
    static const int versions[] = {[TLS_ANY] = 0, [TLS_1_2] = TLS1_2_VERSION, [TLS_1_3] = TLS1_3_VERSION};
    ASSERT(SSL_CTX_set_min_proto_version(ctx, versions[c->min] == 0 ? TLS1_2_VERSION : versions[c->min]) == 1);
    ASSERT(SSL_CTX_set_max_proto_version(ctx, versions[c->max]) == 1);
    /* Nothing is resumed: every connection proves its certificate anew, and none is remembered. */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(ctx, 0);
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_max_cert_list(ctx, (long)PEER_CHAIN_BYTES);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    (void)X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
}

enum err tls_context_create(const struct tls_context_config *c, SSL_CTX **out, struct err_ctx *ec)
{
    SSL_CTX *ctx = SSL_CTX_new(c->server ? TLS_server_method() : TLS_client_method());
    ASSERT(ctx != NULL);
    set_rules(ctx, c);
    const char *ciphers = c->ciphers != NULL ? c->ciphers : usual_ciphers;
    enum err e = SSL_CTX_set_cipher_list(ctx, ciphers) == 1 ? OK : ssl_failed(ec, "cipher suites", ciphers);
    if (e == OK && c->cert_file != NULL) {
        e = load_pair(ctx, c, ec);
    }
    if (e == OK && c->trust) {
        e = load_authorities(ctx, c, ec);
    }
    if (e != OK) {
        SSL_CTX_free(ctx);
        return e;
    }
    *out = ctx;
    return OK;
}

void tls_reason(char *out, size_t n)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    if (code == 0 || ERR_GET_LIB(code) != ERR_LIB_SSL) {
        const char *other = code != 0 ? ERR_reason_error_string(code) : NULL;
        (void)snprintf(out, n, "tls: %s", other != NULL ? other : "connection broken");
    } else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        (void)snprintf(out, n, "tls: client didn't provide a certificate");
    } else if (reason == SSL_R_HTTP_REQUEST || reason == SSL_R_HTTPS_PROXY_REQUEST || reason == SSL_R_WRONG_VERSION_NUMBER) {
        (void)snprintf(out, n, "tls: first record does not look like a TLS handshake");
    } else if (reason == SSL_R_UNSUPPORTED_PROTOCOL) {
        (void)snprintf(out, n, "tls: client offered only unsupported versions");
    } else if (reason == SSL_R_NO_SHARED_CIPHER) {
        (void)snprintf(out, n, "tls: no cipher suite supported by both client and server");
    } else if (reason == SSL_R_NO_APPLICATION_PROTOCOL) {
        (void)snprintf(out, n, "tls: client requested unsupported application protocols");
    } else if (reason > SSL_AD_REASON_OFFSET) {
        int alert = reason - SSL_AD_REASON_OFFSET;
        bool unnamed = alert == TLS13_AD_CERTIFICATE_REQUIRED; /* OpenSSL 3.0 has no text for it */
        (void)snprintf(out, n, "remote error: tls: %s", unnamed ? "certificate required" : SSL_alert_desc_string_long(alert));
    } else {
        const char *other = ERR_reason_error_string(code);
        (void)snprintf(out, n, "tls: %s", other != NULL ? other : "handshake failure");
    }
}
