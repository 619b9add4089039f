/* TLS sessions in memory: kinds of certificates x options, files that change, and what peers do wrong. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/http/tls_internal.h"
#include "base/assert.h"
#include "tls_certs.h"

static char dir[64];
static struct authority root, other, middle;

static const char *path_of(const char *name)
{
    static char paths[8][160];
    static unsigned next;
    char *p = paths[next++ % 8];
    (void)snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
    return p;
}

/* --- a client ------------------------------------------------------------------------------------------------- */

struct client {
    SSL_CTX *ctx;
    SSL *ssl;
    BIO *in, *out;
};

struct client_spec {
    const char *cert; /* file name; NULL: none */
    int min, max;     /* versions; 0: any */
    const char *alpn; /* in wire form; NULL: none */
    const char *ciphers;
};

static void client_open(struct client *c, const struct client_spec *s)
{
    c->ctx = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_set_min_proto_version(c->ctx, s->min), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(c->ctx, s->max), 1);
    assert_int_equal(SSL_CTX_load_verify_file(c->ctx, path_of("ca.pem")), 1);
    SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
    if (s->cert != NULL) {
        char name[64];
        (void)snprintf(name, sizeof(name), "%s.pem", s->cert);
        assert_int_equal(SSL_CTX_use_certificate_chain_file(c->ctx, path_of(name)), 1);
        (void)snprintf(name, sizeof(name), "%s.key", s->cert);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(c->ctx, path_of(name), SSL_FILETYPE_PEM), 1);
    }
    if (s->ciphers != NULL) {
        assert_int_equal(SSL_CTX_set_cipher_list(c->ctx, s->ciphers), 1);
    }
    c->ssl = SSL_new(c->ctx);
    c->in = BIO_new(BIO_s_mem());
    c->out = BIO_new(BIO_s_mem());
    (void)BIO_set_mem_eof_return(c->in, -1);
    SSL_set_bio(c->ssl, c->in, c->out);
    SSL_set_connect_state(c->ssl);
    if (s->alpn != NULL) {
        assert_int_equal(SSL_set_alpn_protos(c->ssl, (const unsigned char *)s->alpn, (unsigned)strlen(s->alpn)), 0);
    }
}

static void client_close(struct client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    ERR_clear_error();
}

/* --- between both --------------------------------------------------------------------------------------------------- */

struct pair {
    struct client client;
    struct tls_session *session;
    enum tls_step last;
    char plain[256]; /* what the server has got */
    size_t n_plain;
};

static void feed(struct pair *p, struct slice in)
{
    uint8_t plain[TLS_RECORD_BYTES];
    struct bytes out = {0};
    enum tls_step step;
    do {
        size_t n = 0;
        step = tls_session_read(p->session, &in, plain, sizeof(plain), &n, &out);
        if (step == TLS_DATA) {
            assert_true(p->n_plain + n < sizeof(p->plain));
            memcpy(p->plain + p->n_plain, plain, n);
            p->n_plain += n;
        }
    } while (step == TLS_UP || step == TLS_DATA);
    assert_true(step != TLS_HUNGRY || in.len == 0);
    p->last = step;
    if (out.len > 0) {
        assert_int_equal(BIO_write(p->client.in, out.data, (int)out.len), out.len);
    }
    bytes_deinit(&out);
}

/* One byte at a time when `slowly`. */
static void carry(struct pair *p, bool slowly)
{
    uint8_t buf[4096];
    int n;
    while (p->last == TLS_HUNGRY && (n = BIO_read(p->client.out, buf, slowly ? 1 : (int)sizeof(buf))) > 0) {
        feed(p, slice_of(buf, (size_t)n));
    }
}

static void shake(struct pair *p, struct tls *t, const struct client_spec *s, bool slowly)
{
    memset(p, 0, sizeof(*p));
    p->last = TLS_HUNGRY;
    client_open(&p->client, s);
    p->session = tls_session_open(t, true, true);
    for (unsigned i = 0; i < 10 && p->last == TLS_HUNGRY; i++) {
        (void)SSL_do_handshake(p->client.ssl);
        carry(p, slowly);
    }
    (void)SSL_do_handshake(p->client.ssl); /* what the server said last */
}

static void part(struct pair *p)
{
    tls_session_close(&p->session);
    client_close(&p->client);
}

static bool is_up(const struct pair *p)
{
    return p->last == TLS_HUNGRY && tls_session_is_up(p->session);
}

/* --- the matrix --------------------------------------------------------------------------------------------------------- */

static const char *const one_name[] = {"good", NULL};
static const char *const two_hosts[] = {"elsewhere.example", "client.example", NULL};
static const char *const one_address[] = {"10.1.2.3", NULL};

static const struct matrix_row {
    const char *name;
    struct tls_config server; /* files by their names in `dir` */
    struct client_spec client;
    const char *reason; /* NULL: it gets through */
    const char *common_name;
} matrix[] = {
    {"nobody asks for a certificate", {.cert_file = "ec"}, {.cert = NULL}, NULL, ""},
    {"one that was not asked for says nothing", {.cert_file = "ec"}, {.cert = "good"}, NULL, ""},
    {"an RSA key", {.cert_file = "rsa"}, {.cert = NULL}, NULL, ""},
    {"an Ed25519 key", {.cert_file = "ed"}, {.cert = NULL}, NULL, ""},
    {"an RSA key and TLS 1.2", {.cert_file = "rsa"}, {.max = TLS1_2_VERSION}, NULL, ""},
    {"a chain with an authority between", {.cert_file = "chain"}, {.cert = NULL}, NULL, ""},
    {"a good client", {.cert_file = "ec", .ca_file = "ca.pem", .client_auth = true}, {.cert = "good"}, NULL, "good"},
    {"an authority alone asks for a certificate", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = NULL}, "tls: client didn't provide a certificate", ""},
    {"the flag asks for one", {.cert_file = "ec", .ca_file = "ca.pem", .client_auth = true}, {.cert = NULL}, "didn't provide", ""},
    {"none, with TLS 1.2", {.cert_file = "ec", .ca_file = "ca.pem"}, {.max = TLS1_2_VERSION}, "didn't provide", ""},
    {"a client with an RSA key", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "rsa-client"}, NULL, "rsa-client"},
    {"a client with an Ed25519 key", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "ed-client"}, NULL, "ed-client"},
    {"a client with TLS 1.2", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "good", .max = TLS1_2_VERSION}, NULL, "good"},
    {"a client's chain", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "chain-client"}, NULL, "chain-client"},
    {"a client's chain without what is between", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "broken-chain"}, "unable to get", ""},
    {"an authority between is trusted by itself", {.cert_file = "ec", .ca_file = "middle.pem"}, {.cert = "broken-chain"}, NULL, "broken-chain"},
    {"another authority", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "foreign"}, "tls: failed to verify certificate: x509: ", ""},
    {"its authority's namesake", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "namesake"}, NULL, "root"},
    {"a namesake that brings its authority along", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "namesake-chain"}, NULL, "root"},
    {"a namesake that is not allowed", {.cert_file = "ec", .ca_file = "ca.pem", .allowed_names = one_name}, {.cert = "namesake"}, "authentication failed", ""},
    {"a revoked namesake", {.cert_file = "ec", .ca_file = "ca.pem", .crl_file = "crl.der"}, {.cert = "namesake-revoked"}, "revoked", ""},
    {"a namesake of another authority of that name", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "namesake-forged"}, "self-signed certificate", ""},
    {"... that brings it along", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "namesake-forged-chain"}, "self-signed certificate", ""},
    {"two authorities of one name", {.cert_file = "ec", .ca_file = "namesakes.pem"}, {.cert = "namesake-forged"}, NULL, "root"},
    {"an expired namesake", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "namesake-expired"}, "certificate has expired", ""},
    {"a namesake for servers alone", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "namesake-server"}, "failed to verify", ""},
    {"a namesake with a weak signature", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "namesake-weak"}, "self-signed certificate", ""},
    {"an expired authority's namesake", {.cert_file = "ec", .ca_file = "ca-late.pem"}, {.cert = "late"}, "self-signed certificate", ""},
    {"the namesake of one that is no authority", {.cert_file = "ec", .ca_file = "ca-plain.pem"}, {.cert = "plain"}, "self-signed certificate", ""},
    {"the namesake of one for servers alone", {.cert_file = "ec", .ca_file = "ca-narrow.pem"}, {.cert = "narrow"}, "self-signed certificate", ""},
    {"the namesake of one with limits", {.cert_file = "ec", .ca_file = "ca-limited.pem"}, {.cert = "limited"}, "self-signed certificate", ""},
    {"two authorities in one file", {.cert_file = "ec", .ca_file = "both.pem"}, {.cert = "foreign"}, NULL, "foreign"},
    {"the system trusts no test", {.cert_file = "ec", .client_auth = true}, {.cert = "good"}, "failed to verify", ""},
    {"an expired certificate", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "expired"}, "certificate has expired", ""},
    {"one that is not valid yet", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "future"}, "not yet valid", ""},
    {"one that is for servers alone", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "server-only"}, "failed to verify", ""},
    {"one that is for anything", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "for-all"}, NULL, "for-all"},
    {"one that is for signing code", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "for-code"}, "failed to verify", ""},
    {"a key that is to encipher keys", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "encipher"}, NULL, "encipher"},
    {"... of a server's certificate", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "encipher-server"}, "failed to verify", ""},
    {"a signer for anything", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "by-wide"}, NULL, "by-wide"},
    {"a signer for servers alone", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "by-slim"}, "failed to verify", ""},
    {"a signer that is none", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "by-none"}, "failed to verify", ""},
    {"a revoked one", {.cert_file = "ec", .ca_file = "ca.pem", .crl_file = "crl.der"}, {.cert = "revoked"}, "transport: certificate serial 04d2 revoked", ""},
    {"a revoked one, the list as text", {.cert_file = "ec", .ca_file = "ca.pem", .crl_file = "crl.pem"}, {.cert = "revoked"}, "serial 04d2 revoked", ""},
    {"a list that has expired still counts", {.cert_file = "ec", .ca_file = "ca.pem", .crl_file = "old.der"}, {.cert = "revoked"}, "revoked", ""},
    {"a list of another authority counts too", {.cert_file = "ec", .ca_file = "ca.pem", .crl_file = "other.der"}, {.cert = "revoked"}, "revoked", ""},
    {"a revoked one between", {.cert_file = "ec", .ca_file = "ca.pem", .crl_file = "middle.der"}, {.cert = "chain-client"}, "revoked", ""},
    {"others are not revoked", {.cert_file = "ec", .ca_file = "ca.pem", .crl_file = "crl.der"}, {.cert = "good"}, NULL, "good"},
    {"an allowed name", {.cert_file = "ec", .ca_file = "ca.pem", .allowed_names = one_name}, {.cert = "good"}, NULL, "good"},
    {"another name", {.cert_file = "ec", .ca_file = "ca.pem", .allowed_names = one_name}, {.cert = "rsa-client"}, "client certificate authentication failed", ""},
    {"no name at all", {.cert_file = "ec", .ca_file = "ca.pem", .allowed_names = one_name}, {.cert = "nameless"}, "authentication failed", ""},
    {"no name, and none is asked for", {.cert_file = "ec", .ca_file = "ca.pem"}, {.cert = "nameless"}, NULL, ""},
    {"an allowed host", {.cert_file = "ec", .ca_file = "ca.pem", .allowed_hosts = two_hosts}, {.cert = "good"}, NULL, "good"},
    {"an allowed address", {.cert_file = "ec", .ca_file = "ca.pem", .allowed_hosts = one_address}, {.cert = "placed"}, NULL, "placed"},
    {"a host that stands in the name alone", {.cert_file = "ec", .ca_file = "ca.pem", .allowed_hosts = two_hosts}, {.cert = "client.example"}, "authentication failed", ""},
    {"another host", {.cert_file = "ec", .ca_file = "ca.pem", .allowed_hosts = two_hosts}, {.cert = "placed"}, "authentication failed", ""},
    {"TLS 1.3 alone", {.cert_file = "ec", .min = TLS_1_3}, {.max = TLS1_2_VERSION}, "tls: client offered only unsupported versions", ""},
    {"TLS 1.3 alone, and a client that can", {.cert_file = "ec", .min = TLS_1_3}, {.cert = NULL}, NULL, ""},
    {"TLS 1.2 alone", {.cert_file = "ec", .max = TLS_1_2}, {.min = TLS1_3_VERSION}, "unsupported versions", ""},
    {"TLS 1.2 alone, and a client that can", {.cert_file = "ec", .max = TLS_1_2}, {.cert = NULL}, NULL, ""},
    {"TLS 1.1 is never spoken", {.cert_file = "rsa"}, {.min = TLS1_1_VERSION, .max = TLS1_1_VERSION, .ciphers = "ALL:@SECLEVEL=0"}, "unsupported versions", ""},
    {"a suite that both have", {.cert_file = "rsa", .ciphers = "ECDHE-RSA-AES256-GCM-SHA384"}, {.max = TLS1_2_VERSION}, NULL, ""},
    {"suites that they do not share", {.cert_file = "rsa", .ciphers = "ECDHE-RSA-AES256-GCM-SHA384"}, {.max = TLS1_2_VERSION, .ciphers = "ECDHE-RSA-AES128-GCM-SHA256"}, "no cipher suite supported by both", ""},
    {"no forward secrecy, no connection", {.cert_file = "rsa"}, {.max = TLS1_2_VERSION, .ciphers = "AES128-GCM-SHA256"}, "no cipher suite", ""},
};

static struct tls *open_tls(const struct tls_config *spec)
{
    struct tls_config c = *spec;
    struct err_ctx ec = {{0}};
    struct tls *t = NULL;
    char cert[64], key[64];
    (void)snprintf(cert, sizeof(cert), "%s.pem", spec->cert_file);
    (void)snprintf(key, sizeof(key), "%s.key", spec->cert_file);
    c.cert_file = path_of(cert);
    c.key_file = path_of(key);
    c.ca_file = spec->ca_file != NULL ? path_of(spec->ca_file) : NULL;
    c.crl_file = spec->crl_file != NULL ? path_of(spec->crl_file) : NULL;
    if (tls_create(&c, &t, &ec) != OK) {
        fail_msg("%s", ec.text);
    }
    return t;
}

static void test_matrix(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(matrix) / sizeof(matrix[0]); i++) {
        const struct matrix_row *r = &matrix[i];
        for (unsigned slowly = 0; slowly < 2; slowly++) {
            struct tls *t = open_tls(&r->server);
            struct pair p;
            shake(&p, t, &r->client, slowly == 1);
            const char *reason = tls_session_reason(p.session);
            if (r->reason == NULL && !is_up(&p)) {
                fail_msg("%s: %s", r->name, reason);
            }
            if (r->reason != NULL && (p.last != TLS_BROKEN || strstr(reason, r->reason) == NULL)) {
                fail_msg("%s: let in, or turned away with another reason: %s", r->name, reason);
            }
            assert_string_equal(tls_session_common_name(p.session), r->common_name);
            part(&p);
            tls_destroy(&t);
        }
    }
}

/* --- what is said over it ------------------------------------------------------------------------------------------------------ */

static void test_bytes_both_ways(void **state)
{
    (void)state;
    struct tls *t = open_tls(&(struct tls_config){.cert_file = "ec"});
    struct pair p;
    shake(&p, t, &(struct client_spec){.cert = NULL}, false);
    assert_true(is_up(&p));
    assert_int_equal(SSL_write(p.client.ssl, "hello", 5), 5);
    assert_int_equal(SSL_key_update(p.client.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_write(p.client.ssl, " again", 6), 6);
    carry(&p, true);
    assert_int_equal(p.n_plain, 11);
    assert_memory_equal(p.plain, "hello again", 11);
    /* More than a record, and under the keys that were asked for. */
    size_t n = 100000;
    uint8_t *big = calloc(1, n);
    uint8_t *back = malloc(n);
    for (size_t i = 0; i < n; i++) {
        big[i] = (uint8_t)(i * 7);
    }
    struct bytes out = {0};
    assert_true(tls_session_write(p.session, big, n, &out));
    tls_session_shut(p.session, &out);
    assert_true(out.len > n && out.len < n + 1000);
    assert_int_equal(BIO_write(p.client.in, out.data, (int)out.len), out.len);
    size_t got = 0;
    int more;
    while ((more = SSL_read(p.client.ssl, back + got, (int)(n - got))) > 0) {
        got += (size_t)more;
    }
    assert_int_equal(got, n);
    assert_memory_equal(big, back, n);
    assert_int_equal(SSL_read(p.client.ssl, back, 1), 0);
    assert_int_equal(SSL_get_error(p.client.ssl, 0), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(SSL_shutdown(p.client.ssl), 1);
    carry(&p, false);
    assert_int_equal(p.last, TLS_END);
    free(big);
    free(back);
    bytes_deinit(&out);
    part(&p);
    tls_destroy(&t);
}

static void test_protocols(void **state)
{
    (void)state;
    static const struct {
        const char *offered;
        bool h1, h2;
        const char *chosen; /* NULL: refused; "": none */
    } rows[] = {
        {"\x02h2", true, true, "h2"},
        {"\x02h2\x08http/1.1", true, true, "http/1.1"}, /* curl and Go's net/http: what they ask is answered over HTTP/1.1 */
        {"\x08http/1.1", true, true, "http/1.1"},
        {"\x02h2\x08http/1.1", false, true, "h2"},
        {"\x02h2\x08http/1.1", true, false, "http/1.1"},
        {"\x02h2", true, false, NULL},
        {"\x08http/1.1", false, true, NULL},
        {"\x06spdy/3", true, true, NULL},
        {NULL, true, true, ""},
    };
    struct tls *t = open_tls(&(struct tls_config){.cert_file = "ec"});
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pair p = {.last = TLS_HUNGRY};
        client_open(&p.client, &(struct client_spec){.alpn = rows[i].offered});
        p.session = tls_session_open(t, rows[i].h1, rows[i].h2);
        for (unsigned k = 0; k < 5; k++) {
            (void)SSL_do_handshake(p.client.ssl);
            carry(&p, false);
        }
        const unsigned char *chosen = NULL;
        unsigned len = 0;
        SSL_get0_alpn_selected(p.client.ssl, &chosen, &len);
        assert_int_equal(is_up(&p), rows[i].chosen != NULL);
        if (rows[i].chosen != NULL) {
            assert_int_equal(len, strlen(rows[i].chosen));
            assert_memory_equal(chosen, rows[i].chosen, len);
        }
        part(&p);
    }
    tls_destroy(&t);
}

static void test_renegotiation_is_refused(void **state)
{
    (void)state;
    struct tls *t = open_tls(&(struct tls_config){.cert_file = "ec"});
    struct pair p;
    shake(&p, t, &(struct client_spec){.max = TLS1_2_VERSION}, false);
    assert_true(is_up(&p));
    assert_int_equal(SSL_renegotiate(p.client.ssl), 1);
    (void)SSL_do_handshake(p.client.ssl);
    carry(&p, false);
    /* Told so, and nothing was begun: the client's handshake comes to nothing. */
    assert_int_not_equal(SSL_do_handshake(p.client.ssl), 1);
    part(&p);
    tls_destroy(&t);
}

/* New keys cost both sides work, and their records carry nothing. */
static void test_records_without_data(void **state)
{
    (void)state;
    const struct tls_config c = {.cert_file = "ec"};
    struct tls *t = open_tls(&c);
    struct pair p;
    shake(&p, t, &(struct client_spec){.min = TLS1_3_VERSION}, false);
    unsigned n = 0;
    while (p.last == TLS_HUNGRY && n < 20000) {
        assert_int_equal(SSL_key_update(p.client.ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        (void)SSL_do_handshake(p.client.ssl);
        carry(&p, false);
        n++;
        if (n == 4000) { /* data in between make it good */
            assert_int_equal(SSL_write(p.client.ssl, "x", 1), 1);
            carry(&p, false);
            assert_int_equal(p.n_plain, 1);
        }
    }
    assert_int_equal(p.last, TLS_BROKEN);
    assert_in_range(n, 4000 + TLS_SILENT_BYTES_MAX / 40, 4000 + TLS_SILENT_BYTES_MAX / 20);
    assert_string_equal(tls_session_reason(p.session), "tls: too many bytes that carry no data");
    part(&p);
    tls_destroy(&t);
}

static void test_nothing_is_resumed(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct tls *t = open_tls(&(struct tls_config){.cert_file = "ec"});
    for (unsigned i = 0; i < 2; i++) {
        struct pair p;
        shake(&p, t, &(struct client_spec){.max = versions[i]}, false);
        assert_true(is_up(&p));
        assert_int_equal(SSL_SESSION_is_resumable(SSL_get0_session(p.client.ssl)), 0);
        part(&p);
    }
    tls_destroy(&t);
}

static void test_garbage(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *reason;
    } rows[] = {
        {"GET / HTTP/1.1\r\n\r\n", 18, "tls: first record does not look like a TLS handshake"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, "tls: first record does not look like a TLS handshake"},
        {"\x16\x03\x01\xff\xff garbage garbage", 24, "tls: "},
        {"\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, "tls: "}, /* a hello of 16 MiB */
        {"\x00\x00\x00\x00\x00\x00", 6, "tls: "},
        {"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", 11, "tls: "}, /* SSL 2 */
    };
    static const uint8_t filler[64] = {1, 2, 3};
    struct tls *t = open_tls(&(struct tls_config){.cert_file = "ec"});
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pair p = {.last = TLS_HUNGRY};
        client_open(&p.client, &(struct client_spec){.cert = NULL});
        p.session = tls_session_open(t, true, true);
        feed(&p, slice_of(rows[i].bytes, rows[i].n));
        feed(&p, slice_of(filler, sizeof(filler)));
        assert_int_equal(p.last, TLS_BROKEN);
        assert_ptr_equal(strstr(tls_session_reason(p.session), rows[i].reason), tls_session_reason(p.session));
        feed(&p, slice_str("more"));
        assert_int_equal(p.last, TLS_BROKEN);
        part(&p);
    }
    /* A true hello, each byte of it damaged in turn: refused or not, nothing breaks. */
    struct client c;
    client_open(&c, &(struct client_spec){.cert = NULL});
    (void)SSL_do_handshake(c.ssl);
    uint8_t hello[1024];
    int n = BIO_read(c.out, hello, sizeof(hello));
    assert_true(n > 100);
    for (int i = 0; i < n; i++) {
        struct pair p = {.last = TLS_HUNGRY};
        client_open(&p.client, &(struct client_spec){.cert = NULL});
        p.session = tls_session_open(t, true, true);
        hello[i] ^= 0x55;
        feed(&p, slice_of(hello, (size_t)n));
        hello[i] ^= 0x55;
        part(&p);
    }
    client_close(&c);
    tls_destroy(&t);
}

/* --- files ------------------------------------------------------------------------------------------------------------------------ */

static long serial_seen(struct tls *t)
{
    struct pair p;
    shake(&p, t, &(struct client_spec){.cert = "good"}, false);
    assert_true(is_up(&p));
    X509 *x = SSL_get0_peer_certificate(p.client.ssl);
    long serial = ASN1_INTEGER_get(X509_get0_serialNumber(x));
    part(&p);
    return serial;
}

static void copy(const char *from, const char *to)
{
    char a[160], b[160], tmp[170], buf[16384];
    (void)snprintf(a, sizeof(a), "%s", path_of(from));
    (void)snprintf(b, sizeof(b), "%s", path_of(to));
    (void)snprintf(tmp, sizeof(tmp), "%s.new", b);
    FILE *in = fopen(a, "r");
    FILE *out = fopen(tmp, "w");
    size_t n = fread(buf, 1, sizeof(buf), in);
    assert_int_equal(fwrite(buf, 1, n, out), n);
    assert_int_equal(fclose(in), 0);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(rename(tmp, b), 0);
}

static void test_files_that_change(void **state)
{
    (void)state;
    certs_make(dir, "first", &(struct cert_spec){.name = "server", .serial = 101}, &root, NULL);
    certs_make(dir, "second", &(struct cert_spec){.name = "server", .serial = 102, .kind = KEY_RSA}, &root, NULL);
    copy("first.pem", "live.pem");
    copy("first.key", "live.key");
    copy("ca.pem", "live-ca.pem");
    copy("none.der", "live.der");
    struct tls *t = open_tls(&(struct tls_config){.cert_file = "live", .ca_file = "live-ca.pem", .crl_file = "live.der"});
    assert_int_equal(serial_seen(t), 101);
    /* Between both files the pair does not fit: the one before stays in force. */
    copy("second.pem", "live.pem");
    assert_int_equal(serial_seen(t), 101);
    copy("second.key", "live.key");
    assert_int_equal(serial_seen(t), 102);
    assert_int_equal(unlink(path_of("live.key")), 0);
    assert_int_equal(serial_seen(t), 102);
    copy("first.key", "live.key");
    copy("first.pem", "live.pem");
    assert_int_equal(serial_seen(t), 101);
    /* An authority that is no longer trusted, and one that is now. */
    struct pair p;
    copy("other.pem", "live-ca.pem");
    shake(&p, t, &(struct client_spec){.cert = "good"}, false);
    assert_false(is_up(&p));
    part(&p);
    shake(&p, t, &(struct client_spec){.cert = "foreign"}, false);
    assert_true(is_up(&p));
    copy("ca.pem", "live-ca.pem");
    assert_int_equal(SSL_write(p.client.ssl, "still", 5), 5); /* connections that are there stay */
    carry(&p, false);
    assert_int_equal(p.n_plain, 5);
    part(&p);
    /* A certificate is revoked while the server runs. */
    shake(&p, t, &(struct client_spec){.cert = "revoked"}, false);
    assert_true(is_up(&p));
    part(&p);
    copy("crl.der", "live.der");
    shake(&p, t, &(struct client_spec){.cert = "revoked"}, false);
    assert_false(is_up(&p));
    part(&p);
    tls_destroy(&t);
}

static void test_files_that_are_no_use(void **state)
{
    (void)state;
    static const struct {
        const char *cert, *key, *ca, *crl, *text;
    } rows[] = {
        {"ec.pem", NULL, NULL, NULL, "KeyFile and CertFile must both be present[key: , cert: "},
        {"nowhere.pem", "ec.key", NULL, NULL, "no such file"},
        {"ec.pem", "rsa.key", NULL, NULL, "private key"},
        {"ec.key", "ec.key", NULL, NULL, "certificate "},
        {"ec.pem", "ec.key", "ec.key", NULL, "authorities in "},
        {"ec.pem", "ec.key", "nowhere.pem", NULL, "no such file"},
        {"ec.pem", "ec.key", "ca.pem", "ca.pem", "no certificate revocation list"},
        {"ec.pem", "ec.key", "ca.pem", "nowhere.der", "no such file"},
        {"ec.pem", "locked.key", NULL, NULL, "private key"},
    };
    FILE *f = fopen(path_of("locked.key"), "w");
    assert_int_equal(PEM_write_PKCS8PrivateKey(f, root.key, EVP_aes_128_cbc(), "password", 8, NULL, NULL), 1);
    assert_int_equal(fclose(f), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tls *t = NULL;
        struct err_ctx ec = {{0}};
        const struct tls_config c = {
            .cert_file = path_of(rows[i].cert),
            .key_file = rows[i].key != NULL ? path_of(rows[i].key) : NULL,
            .ca_file = rows[i].ca != NULL ? path_of(rows[i].ca) : NULL,
            .crl_file = rows[i].crl != NULL ? path_of(rows[i].crl) : NULL,
        };
        assert_int_not_equal(tls_create(&c, &t, &ec), OK);
        assert_null(t);
        assert_non_null(strstr(ec.text, rows[i].text));
    }
}

/* --- rules alone --------------------------------------------------------------------------------------------------------------------- */

static void test_suites_by_name(void **state)
{
    (void)state;
    static const char *const good[] = {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", NULL};
    static const char *const bad[] = {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-SHA", NULL};
    static const char *const none[] = {"TLS_RSA_WITH_RC4_128_SHA", NULL};
    struct err_ctx ec = {{0}};
    char *list = NULL;
    assert_int_equal(tls_ciphers(good, &list, &ec), OK);
    assert_string_equal(list, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305");
    free(list);
    assert_int_equal(tls_ciphers(bad, &list, &ec), ERR_INVALID);
    assert_string_equal(ec.text, "unexpected TLS cipher suite \"ECDHE-RSA-AES128-SHA\"");
    ec = (struct err_ctx){{0}};
    assert_int_equal(tls_ciphers(none, &list, &ec), ERR_UNSUPPORTED);
}

static void test_places(void **state)
{
    (void)state;
    static const struct {
        const char *addresses[3], *names[3], *from;
        enum tls_place place;
        const char *reason;
    } rows[] = {
        {{NULL}, {NULL}, "10.0.0.1", TLS_PLACE_RIGHT, ""},
        {{"10.0.0.2", "10.0.0.1"}, {NULL}, "10.0.0.1", TLS_PLACE_RIGHT, ""},
        {{"10.0.0.2"}, {NULL}, "10.0.0.1", TLS_PLACE_WRONG, "x509: certificate is valid for 10.0.0.2, not 10.0.0.1"},
        {{"10.0.0.2"}, {"a.example"}, "10.0.0.1", TLS_PLACE_ASK, ""},
        {{NULL}, {"a.example"}, "10.0.0.1", TLS_PLACE_ASK, ""},
        {{"2001:db8::1"}, {NULL}, "2001:DB8::1", TLS_PLACE_RIGHT, ""},
        {{"::ffff:10.0.0.1"}, {NULL}, "10.0.0.1", TLS_PLACE_RIGHT, ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tls_sans s = {.addresses = {NULL}};
        for (size_t k = 0; k < 2; k++) {
            s.addresses[k] = (char *)(uintptr_t)rows[i].addresses[k];
            s.names[k] = (char *)(uintptr_t)rows[i].names[k];
        }
        char reason[TLS_REASON_BYTES] = "";
        assert_int_equal(tls_place_of(&s, rows[i].from, reason), rows[i].place);
        assert_string_equal(reason, rows[i].reason);
    }
    char a[] = "a.example", b[] = "*.wild.example";
    char *names[] = {a, b, NULL};
    assert_true(tls_names_cover(names, "a.example."));
    assert_true(tls_names_cover(names, "A.example"));
    assert_true(tls_names_cover(names, "x.wild.example"));
    assert_false(tls_names_cover(names, "wild.example"));
    assert_false(tls_names_cover(names, "b.example"));
    assert_false(tls_names_cover(names, ""));
    struct tls_sans s = {.names = {a, b}};
    char reason[TLS_REASON_BYTES];
    tls_place_reason(&s, "10.0.0.1", "", reason);
    assert_string_equal(reason, "tls: \"10.0.0.1\" does not match any of DNSNames [\"a.example\" \"*.wild.example\"]");
}

/* --- setting ----------------------------------------------------------------------------------------------------------------------------- */

/* Certificates that bear the name of who signed them. */
static void make_namesakes(void)
{
    static const struct {
        const char *file;
        struct cert_spec spec;
    } of_root[] = {
        {"namesake", {.name = "root"}},
        {"namesake-revoked", {.name = "root", .serial = 1234}},
        {"namesake-expired", {.name = "root", .from_days = -2, .to_days = -1}},
        {"namesake-server", {.name = "root", .usage = "serverAuth"}},
        {"namesake-weak", {.name = "root", .weak = true}},
    };
    static const struct cert_spec odd[] = {
        {.name = "late", .ca = true, .from_days = -2, .to_days = -1},
        {.name = "plain"},
        {.name = "narrow", .ca = true, .usage = "serverAuth"},
        {.name = "limited", .ca = true, .limits = "permitted;DNS:example"},
    };
    for (size_t i = 0; i < sizeof(of_root) / sizeof(of_root[0]); i++) {
        certs_make(dir, of_root[i].file, &of_root[i].spec, &root, NULL);
    }
    certs_make(dir, "namesake-chain", &of_root[0].spec, &root, root.cert);
    struct authority forger = certs_authority("root", NULL);
    certs_make(dir, "namesake-forged", &of_root[0].spec, &forger, NULL);
    certs_make(dir, "namesake-forged-chain", &of_root[0].spec, &forger, forger.cert);
    certs_write_authority(dir, "namesakes", &root, &forger);
    certs_authority_free(&forger);
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct authority a = certs_odd_authority(&odd[i]);
        char file[32];
        (void)snprintf(file, sizeof(file), "ca-%s", odd[i].name);
        certs_write_authority(dir, file, &a, NULL);
        certs_make(dir, odd[i].name, &(struct cert_spec){.name = odd[i].name}, &a, NULL);
        certs_authority_free(&a);
    }
}

/* What they say that they are for, and what their signers say. */
static void make_usages(void)
{
    static const struct cert_spec leaves[] = {
        {.name = "for-all", .usage = "codeSigning,anyExtendedKeyUsage"},
        {.name = "for-code", .usage = "codeSigning"},
        {.name = "encipher", .key_usage = "critical,keyEncipherment"},
        {.name = "encipher-server", .key_usage = "keyEncipherment", .usage = "serverAuth"},
    };
    static const struct cert_spec signers[] = {
        {.name = "wide", .ca = true, .usage = "anyExtendedKeyUsage"},
        {.name = "slim", .ca = true, .usage = "serverAuth"},
        {.name = "none", .key_usage = "keyCertSign", .usage = "anyExtendedKeyUsage"},
    };
    for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
        certs_make(dir, leaves[i].name, &leaves[i], &root, NULL);
    }
    for (size_t i = 0; i < sizeof(signers) / sizeof(signers[0]); i++) {
        struct authority a = certs_signed_authority(&signers[i], &root);
        char file[32];
        (void)snprintf(file, sizeof(file), "by-%s", signers[i].name);
        certs_make(dir, file, &(struct cert_spec){.name = file}, &a, a.cert);
        certs_authority_free(&a);
    }
}

static int make_files(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        struct cert_spec spec;
    } certs[] = {
        {"ec", {.name = "server", .sans = "DNS:localhost,IP:127.0.0.1"}},
        {"rsa", {.name = "server", .kind = KEY_RSA}},
        {"ed", {.name = "server", .kind = KEY_ED25519}},
        {"good", {.name = "good", .sans = "DNS:client.example", .usage = "clientAuth", .serial = 7}},
        {"rsa-client", {.name = "rsa-client", .kind = KEY_RSA}},
        {"ed-client", {.name = "ed-client", .kind = KEY_ED25519}},
        {"expired", {.name = "expired", .from_days = -2, .to_days = -1}},
        {"future", {.name = "future", .from_days = 1, .to_days = 2}},
        {"server-only", {.name = "server-only", .usage = "serverAuth"}},
        {"revoked", {.name = "revoked", .serial = 1234}},
        {"nameless", {.sans = "DNS:client.example"}},
        {"placed", {.name = "placed", .sans = "IP:10.1.2.3"}},
        {"client.example", {.name = "client.example", .sans = "DNS:unlike.example"}},
    };
    (void)snprintf(dir, sizeof(dir), "/tmp/pintle-tls-XXXXXX");
    ASSERT(mkdtemp(dir) != NULL);
    root = certs_authority("root", NULL);
    other = certs_authority("other", NULL);
    middle = certs_authority("middle", &root);
    certs_write_authority(dir, "ca", &root, NULL);
    certs_write_authority(dir, "other", &other, NULL);
    certs_write_authority(dir, "both", &root, &other);
    certs_write_authority(dir, "middle", &middle, NULL);
    for (size_t i = 0; i < sizeof(certs) / sizeof(certs[0]); i++) {
        certs_make(dir, certs[i].file, &certs[i].spec, &root, NULL);
    }
    certs_make(dir, "chain", &(struct cert_spec){.name = "server"}, &middle, middle.cert);
    certs_make(dir, "chain-client", &(struct cert_spec){.name = "chain-client", .serial = 9}, &middle, middle.cert);
    certs_make(dir, "broken-chain", &(struct cert_spec){.name = "broken-chain", .serial = 9}, &middle, NULL);
    certs_make(dir, "foreign", &(struct cert_spec){.name = "foreign"}, &other, NULL);
    make_namesakes();
    make_usages();
    const long revoked[] = {1000, 1234, 77, 0};
    const long ones[] = {1, 0};
    const long none[] = {0};
    certs_revoke(dir, "crl.der", &root, revoked, 1, true);
    certs_revoke(dir, "crl.pem", &root, revoked, 1, false);
    certs_revoke(dir, "old.der", &root, revoked, -1, true);
    certs_revoke(dir, "other.der", &other, revoked, 1, true);
    certs_revoke(dir, "middle.der", &root, ones, 1, true); /* of the authority between */
    certs_revoke(dir, "none.der", &root, none, 1, true);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    char command[128];
    certs_authority_free(&root);
    certs_authority_free(&other);
    certs_authority_free(&middle);
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_bytes_both_ways),
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_renegotiation_is_refused),
        cmocka_unit_test(test_records_without_data),
        cmocka_unit_test(test_nothing_is_resumed),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_files_that_change),
        cmocka_unit_test(test_files_that_are_no_use),
        cmocka_unit_test(test_suites_by_name),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
