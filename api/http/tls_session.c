/* tls_session.c - one connection's records: sealed bytes in, plain bytes out, and back.
 *
 * OpenSSL reads from a slice that is lent for the call and writes into the caller's buffer, so that an idle session holds no buffers of its own
 * (SSL_MODE_RELEASE_BUFFERS frees OpenSSL's). Everything given is taken, up to the last byte of an incomplete record.
 */
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/http/tls_internal.h"
#include "api/tls/chain.h"
#include "base/assert.h"
#include "base/mem.h"

struct tls_session {
    SSL *ssl;
    struct tls_material *material;
    bool h1, h2;
    bool up;
    bool broken;
    size_t silent_bytes; /* taken since the last plain byte */
    struct slice *in;  /* lent for the call */
    struct bytes *out; /* lent for the call */
    char *common_name; /* owned; NULL: none */
    char *reason;      /* owned; NULL: none */
};

/* --- OpenSSL's side ----------------------------------------------------------------------------------------- */

static void set_reason(struct tls_session *s, const char *text)
{
    if (s->reason == NULL) {
        s->reason = xstrndup(text, strnlen(text, TLS_REASON_BYTES - 1));
    }
}

int tls_bio_read(BIO *b, char *out, int n)
{
    struct tls_session *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (s->in == NULL || s->in->len == 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    if (s->silent_bytes > TLS_SILENT_BYTES_MAX) {
        set_reason(s, "tls: too many bytes that carry no data");
        return -1;
    }
    size_t take = s->in->len < (size_t)n ? s->in->len : (size_t)n;
    memcpy(out, s->in->data, take);
    s->in->data += take;
    s->in->len -= take;
    s->silent_bytes += take;
    return (int)take;
}

int tls_bio_write(BIO *b, const char *in, int n)
{
    struct tls_session *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    ASSERT(s->out != NULL);
    bytes_add(s->out, in, (size_t)n);
    return n;
}

long tls_bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

/* Chain first, as OpenSSL sees it; then what etcd adds. */
static int verify(X509_STORE_CTX *sc, void *arg)
{
    (void)arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(sc, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_session *s = SSL_get_app_data(ssl);
    char reason[TLS_REASON_BYTES];
    if (tls_chain_verify(sc, NULL) != 1) {
        (void)snprintf(reason, sizeof(reason), "tls: failed to verify certificate: x509: %s",
                       X509_verify_cert_error_string(X509_STORE_CTX_get_error(sc)));
        set_reason(s, reason);
        return 0;
    }
    X509 *leaf = X509_STORE_CTX_get0_cert(sc);
    STACK_OF(X509) *presented = X509_STORE_CTX_get0_untrusted(sc);
    bool revoked = tls_is_revoked(&s->material->revoked, leaf, reason);
    for (int i = 0; !revoked && i < sk_X509_num(presented); i++) {
        revoked = tls_is_revoked(&s->material->revoked, sk_X509_value(presented, i), reason);
    }
    if (revoked) {
        set_reason(s, reason);
        X509_STORE_CTX_set_error(sc, X509_V_ERR_CERT_REVOKED);
        return 0;
    }
    if (!tls_is_allowed(s->material->cfg, leaf)) {
        set_reason(s, "client certificate authentication failed");
        X509_STORE_CTX_set_error(sc, X509_V_ERR_APPLICATION_VERIFICATION);
        return 0;
    }
    return 1;
}

static bool offers(const unsigned char *list, unsigned len, const char *name)
{
    size_t n = strlen(name);
    for (unsigned i = 0; i < len; i += list[i] + 1u) {
        if (list[i] == n && i + 1u + n <= len && memcmp(list + i + 1, name, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Who offers both is served HTTP/1.1: over HTTP/2 there is gRPC and nothing else, and gRPC's clients offer nothing but h2. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg)
{
    static const char h1[] = "http/1.1";
    static const char h2[] = "h2";
    (void)arg;
    const struct tls_session *s = SSL_get_app_data(ssl);
    const char *chosen = s->h1 && offers(in, in_len, h1) ? h1 : s->h2 && offers(in, in_len, h2) ? h2 : NULL;
    if (chosen == NULL) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = (const unsigned char *)chosen;
    *out_len = (unsigned char)strlen(chosen);
    return SSL_TLSEXT_ERR_OK;
}

void tls_session_rules(SSL_CTX *ctx, bool demand)
{
    SSL_CTX_set_verify(ctx, demand ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, verify, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
}

/* --- ours ------------------------------------------------------------------------------------------------------ */

struct tls_session *tls_session_open(struct tls *t, bool h1, bool h2)
{
    struct tls_session *s = xcalloc(1, sizeof(*s));
    s->h1 = h1;
    s->h2 = h2;
    s->material = tls_material_get(t);
    s->ssl = SSL_new(s->material->ctx);
    BIO *b = BIO_new(tls_bio_method(t));
    ASSERT(s->ssl != NULL && b != NULL);
    BIO_set_data(b, s);
    BIO_set_init(b, 1);
    SSL_set_bio(s->ssl, b, b);
    SSL_set_app_data(s->ssl, s);
    SSL_set_accept_state(s->ssl);
    return s;
}

void tls_session_close(struct tls_session **sp)
{
    struct tls_session *s = *sp;
    if (s == NULL) {
        return;
    }
    *sp = NULL;
    SSL_free(s->ssl);
    tls_material_unref(&s->material);
    free(s->common_name);
    free(s->reason);
    free(s);
}

static void note_failure(struct tls_session *s)
{
    char text[TLS_REASON_BYTES];
    tls_reason(text, sizeof(text));
    set_reason(s, text);
}

static enum tls_step after(struct tls_session *s, int rc)
{
    switch (SSL_get_error(s->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return TLS_HUNGRY;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_END;
    default: /* OpenSSL's numbers */
        s->broken = true;
        note_failure(s);
        return TLS_BROKEN;
    }
}

static enum tls_step shake(struct tls_session *s)
{
    int rc = SSL_do_handshake(s->ssl);
    if (rc != 1) {
        return after(s, rc);
    }
    s->up = true;
    X509 *peer = SSL_get0_peer_certificate(s->ssl);
    if (peer != NULL && SSL_get_verify_result(s->ssl) == X509_V_OK) {
        s->common_name = tls_common_name(peer);
    }
    return TLS_UP;
}

enum tls_step tls_session_read(struct tls_session *s, struct slice *in, uint8_t *plain, size_t room, size_t *n, struct bytes *out)
{
    if (s->broken) {
        return TLS_BROKEN;
    }
    s->in = in;
    s->out = out;
    ERR_clear_error();
    enum tls_step step;
    *n = 0;
    if (!s->up) {
        step = shake(s);
    } else {
        int rc = SSL_read_ex(s->ssl, plain, room, n);
        s->silent_bytes = rc == 1 ? 0 : s->silent_bytes;
        step = rc == 1 ? TLS_DATA : after(s, rc);
    }
    s->in = NULL;
    s->out = NULL;
    ERR_clear_error();
    return step;
}

bool tls_session_write(struct tls_session *s, const uint8_t *p, size_t n, struct bytes *out)
{
    ASSERT(s->up);
    s->out = out;
    ERR_clear_error();
    while (n > 0 && !s->broken) {
        size_t taken = 0;
        s->broken = SSL_write_ex(s->ssl, p, n, &taken) != 1; /* there is always room, so it never has to wait */
        p += taken;
        n -= taken;
    }
    s->out = NULL;
    ERR_clear_error();
    return !s->broken;
}

void tls_session_shut(struct tls_session *s, struct bytes *out)
{
    if (!s->up || s->broken) {
        return;
    }
    s->out = out;
    (void)SSL_shutdown(s->ssl); /* 0: the peer's has not come yet, and is not waited for */
    s->out = NULL;
    ERR_clear_error();
}

bool tls_session_is_up(const struct tls_session *s)
{
    return s->up;
}

const char *tls_session_reason(const struct tls_session *s)
{
    return s->reason != NULL ? s->reason : "";
}

const char *tls_session_server_name(const struct tls_session *s)
{
    const char *name = SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
    return name != NULL ? name : "";
}

X509 *tls_session_peer(const struct tls_session *s)
{
    return SSL_get0_peer_certificate(s->ssl);
}

const char *tls_session_common_name(const struct tls_session *s)
{
    return s->common_name != NULL ? s->common_name : "";
}

const struct tls_config *tls_session_config(const struct tls_session *s)
{
    return s->material->cfg;
}
