/* wire.c - the connection's bytes, plain or under TLS.
 *
 * The socket never blocks. Under TLS a call may want the other direction first: reading asks for room only in a handshake, which waits for it by
 * itself; a send that asks for input is repeated after the next read. OpenSSL keeps what it has deciphered and nobody took, and poll knows nothing
 * of that: `more` says so.
 */
#include "api/client/client_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/tls/chain.h"
#include "base/assert.h"
#include "base/clock.h"

/* --- the socket as OpenSSL sees it; its own way would raise SIGPIPE ---------------------------------------------- */

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static int bio_read(BIO *b, char *out, int n)
{
    const struct client *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    ssize_t got = recv(c->fd, out, (size_t)n, 0);
    if (got < 0 && would_block()) {
        BIO_set_retry_read(b);
    }
    return (int)got;
}

static int bio_write(BIO *b, const char *in, int n)
{
    const struct client *c = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    ssize_t sent = send(c->fd, in, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && would_block()) {
        BIO_set_retry_write(b);
    }
    return (int)sent;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static void attach(struct client *c, SSL_CTX *ctx)
{
    c->bio_method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "connection");
    ASSERT(c->bio_method != NULL);
    ASSERT(BIO_meth_set_read(c->bio_method, bio_read) == 1);
    ASSERT(BIO_meth_set_write(c->bio_method, bio_write) == 1);
    ASSERT(BIO_meth_set_ctrl(c->bio_method, bio_ctrl) == 1);
    c->ssl = SSL_new(ctx);
    BIO *b = BIO_new(c->bio_method);
    ASSERT(c->ssl != NULL);
    ASSERT(b != NULL);
    BIO_set_data(b, c);
    BIO_set_init(b, 1);
    SSL_set_bio(c->ssl, b, b);
    SSL_set_connect_state(c->ssl);
}

/* --- handshake --------------------------------------------------------------------------------------------------- */

/* The certificate has to be for `host`, by its alternative names alone. Addresses are not told to the server, which RFC 6066 forbids. */
static enum err expect_host(SSL *ssl, const char *host, struct err_ctx *ec)
{
    unsigned char address[sizeof(struct in6_addr)];
    X509_VERIFY_PARAM *p = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    bool is_address = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
    bool good = is_address ? X509_VERIFY_PARAM_set1_ip_asc(p, host) == 1
                           : SSL_set_tlsext_host_name(ssl, host) == 1 && X509_VERIFY_PARAM_set1_host(p, host, 0) == 1;
    ERR_clear_error();
    return good && host[0] != '\0' ? OK : err_set(ec, ERR_INVALID, "no server name in \"%s\"", host);
}

/* In Go's words where it has some of its own. */
static const char *verdict(long result)
{
    switch (result) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return "certificate signed by unknown authority";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "certificate has expired or is not yet valid";
    default: /* OpenSSL's numbers */
        return X509_verify_cert_error_string(result);
    }
}

/* Why TLS failed; "" when the connection was lost instead. */
static void failure_text(struct client *c, int error, char *out, size_t n)
{
    long result = SSL_get_verify_result(c->ssl);
    bool unverified = ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    if (unverified) {
        (void)snprintf(out, n, "tls: failed to verify certificate: x509: %s", verdict(result));
    } else if (error == SSL_ERROR_SYSCALL && ERR_peek_error() == 0) {
        (void)snprintf(out, n, "%s", errno != 0 ? strerror(errno) : "EOF");
    } else {
        tls_reason(out, n);
    }
    ERR_clear_error();
}

static enum err wait_for(int fd, short events, uint64_t deadline_ms, struct err_ctx *ec)
{
    uint64_t now = clock_now_ms(clock_real());
    if (now >= deadline_ms) {
        return err_set(ec, ERR_DEADLINE, "no TLS handshake in time");
    }
    struct pollfd p = {.fd = fd, .events = events};
    if (poll(&p, 1, (int)(deadline_ms - now)) < 0 && errno != EINTR) {
        return err_set(ec, ERR_IO, "poll: %s", strerror(errno));
    }
    return OK;
}

static enum err shake_hands(struct client *c, uint64_t deadline_ms, struct err_ctx *ec)
{
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int rc = SSL_do_handshake(c->ssl);
        if (rc == 1) {
            return OK;
        }
        int error = SSL_get_error(c->ssl, rc);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
            char text[256];
            failure_text(c, error, text, sizeof(text));
            return err_set(ec, ERR_PERM, "authentication handshake failed: %s", text);
        }
        enum err e = wait_for(c->fd, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline_ms, ec);
        if (e != OK) {
            return e;
        }
    }
}

enum err client_wire_secure(struct client *c, const struct client_tls *t, const char *host, uint64_t deadline_ms, struct err_ctx *ec)
{
    static const unsigned char h2[] = {2, 'h', '2'};
    const struct tls_context_config rules = {.cert_file = t->cert_file,
                                             .key_file = t->key_file,
                                             .trust = !t->insecure_skip_verify,
                                             .ca_file = t->ca_file,
                                             .min = t->min,
                                             .max = t->max,
                                             .ciphers = t->ciphers};
    if ((t->cert_file == NULL) != (t->key_file == NULL)) {
        return err_set(ec, ERR_INVALID, "KeyFile and CertFile must both be present[key: %s, cert: %s]", t->key_file != NULL ? t->key_file : "",
                       t->cert_file != NULL ? t->cert_file : "");
    }
    SSL_CTX *ctx = NULL;
    enum err e = tls_context_create(&rules, &ctx, ec);
    if (e != OK) {
        return e;
    }
    SSL_CTX_set_verify(ctx, t->insecure_skip_verify ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, tls_chain_verify, NULL);
    attach(c, ctx);
    SSL_CTX_free(ctx); /* the connection has its own hold of it */
    ASSERT(SSL_set_alpn_protos(c->ssl, h2, sizeof(h2)) == 0);
    e = expect_host(c->ssl, t->server_name != NULL ? t->server_name : host, ec);
    if (e == OK) {
        e = shake_hands(c, deadline_ms, ec);
    }
    const unsigned char *chosen = NULL;
    unsigned n_chosen = 0;
    SSL_get0_alpn_selected(c->ssl, &chosen, &n_chosen);
    if (e == OK && (n_chosen != 2 || memcmp(chosen, "h2", 2) != 0)) {
        e = err_set(ec, ERR_PERM, "authentication handshake failed: credentials: cannot check peer: missing selected ALPN property");
    }
    c->more = e == OK; /* something may have come behind the handshake */
    return e;
}

/* --- bytes ------------------------------------------------------------------------------------------------------- */

static enum err socket_lost(char why[CLIENT_STATUS_TEXT_MAX])
{
    if (would_block()) {
        return ERR_BUSY;
    }
    (void)snprintf(why, CLIENT_STATUS_TEXT_MAX, "%s", strerror(errno));
    return ERR_CLOSED;
}

static enum err ended(char why[CLIENT_STATUS_TEXT_MAX])
{
    (void)snprintf(why, CLIENT_STATUS_TEXT_MAX, "connection closed by the server");
    return ERR_CLOSED;
}

/* Who hangs up often says why: the alert lies in the socket although nothing can be sent any more. It tells more than `why`. */
static void last_words(struct client *c, char why[CLIENT_STATUS_TEXT_MAX])
{
    uint8_t ignored;
    size_t n = 0;
    if (SSL_read_ex(c->ssl, &ignored, 1, &n) != 1 && ERR_GET_REASON(ERR_peek_error()) > SSL_AD_REASON_OFFSET) {
        tls_reason(why, CLIENT_STATUS_TEXT_MAX);
    }
    ERR_clear_error();
}

enum err client_wire_send(struct client *c, const uint8_t *data, size_t len, size_t *n, char why[CLIENT_STATUS_TEXT_MAX])
{
    if (c->ssl == NULL) {
        ssize_t sent = send(c->fd, data, len, MSG_NOSIGNAL);
        *n = sent >= 0 ? (size_t)sent : 0;
        return sent >= 0 ? OK : socket_lost(why);
    }
    ERR_clear_error();
    errno = 0;
    c->send_wants_input = false;
    if (SSL_write_ex(c->ssl, data, len, n) == 1) {
        return OK;
    }
    int error = SSL_get_error(c->ssl, 0);
    if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) {
        c->send_wants_input = error == SSL_ERROR_WANT_READ;
        return ERR_BUSY;
    }
    failure_text(c, error, why, CLIENT_STATUS_TEXT_MAX);
    last_words(c, why);
    return ERR_CLOSED;
}

enum err client_wire_receive(struct client *c, size_t *n, char why[CLIENT_STATUS_TEXT_MAX])
{
    if (c->ssl == NULL) {
        ssize_t got = recv(c->fd, c->read_buffer, READ_MAX, 0);
        if (got == 0) {
            return ended(why);
        }
        *n = got > 0 ? (size_t)got : 0;
        return got > 0 ? OK : socket_lost(why);
    }
    *n = 0;
    c->more = false;
    c->send_wants_input = false; /* whatever it was, it may have come */
    while (*n < READ_MAX) {
        size_t got = 0;
        ERR_clear_error();
        errno = 0;
        if (SSL_read_ex(c->ssl, c->read_buffer + *n, READ_MAX - *n, &got) == 1) {
            *n += got;
            continue;
        }
        int error = SSL_get_error(c->ssl, 0);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
            return *n > 0 ? OK : ERR_BUSY;
        }
        if (*n > 0) {
            c->more = true; /* first what came, then the end, which OpenSSL tells again */
            return OK;
        }
        if (error == SSL_ERROR_ZERO_RETURN) {
            return ended(why);
        }
        failure_text(c, error, why, CLIENT_STATUS_TEXT_MAX);
        return ERR_CLOSED;
    }
    c->more = true;
    return OK;
}

void client_wire_close(struct client *c)
{
    if (c->ssl != NULL && SSL_is_init_finished(c->ssl)) {
        (void)SSL_shutdown(c->ssl); /* the peer's own is not waited for */
    }
    ERR_clear_error();
    SSL_free(c->ssl);
    BIO_meth_free(c->bio_method);
    if (c->fd >= 0) {
        (void)close(c->fd);
    }
}
