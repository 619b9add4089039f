/* tls_internal.h - what the files of TLS share.
 *
 * What        tls.c: files and contexts; tls_session.c: one connection's records; tls_check.c: rules about certificates; tls_names.c: what the
 *             name servers say; tls_cipher.c: names of suites.
 * Callers     api/http and its tests.
 * Thread      as tls.h; sessions belong to their connection's loop.
 */
#ifndef API_HTTP_TLS_INTERNAL_H
#define API_HTTP_TLS_INTERNAL_H

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdint.h>

#include "api/http/tls.h"
#include "base/slice.h"

#define TLS_RECORD_BYTES 16384u
#define TLS_REASON_BYTES 256u       /* of a refusal's text; longer text is cut */
#define TLS_SILENT_BYTES_MAX                                                                       \
    (192u * 1024u) /* of records without a byte for us, as in a handshake (a hello and a chain at their largest) or a flood of \
                      key updates: broken */
#define TLS_SANS_MAX 32u            /* addresses and names of one certificate that are looked at */
#define TLS_ADDRESS_BYTES 64u

/* Serial numbers, sorted; NULL: none are refused. */
struct tls_revoked {
    X509_CRL *crl; /* owned */
    const ASN1_INTEGER **serials;
    size_t n;
};

/* What the files held at one time. Immutable; the last to let go frees it. */
struct tls_material {
    _Atomic unsigned refs;
    SSL_CTX *ctx;
    struct tls_revoked revoked;
    const struct tls_config *cfg; /* the struct tls's */
};

/* The newest; takes a reference. */
struct tls_material *tls_material_get(struct tls *t);
void tls_material_unref(struct tls_material **m);
const struct tls_config *tls_config_of(const struct tls *t);
const BIO_METHOD *tls_bio_method(const struct tls *t);

/* --- tls_check.c: pure */
MUST_CHECK enum err tls_revoked_load(const char *file, struct tls_revoked *out, struct err_ctx *ec);
void tls_revoked_deinit(struct tls_revoked *r);
/* Is it among them? The reason says which. */
bool tls_is_revoked(const struct tls_revoked *r, X509 *cert, char reason[TLS_REASON_BYTES]);
/* The last common name, if it is text without NULs. The caller frees; NULL: none. */
char *tls_common_name(X509 *cert);
bool tls_is_allowed(const struct tls_config *cfg, X509 *cert);

/* What a certificate says about where its owner is. */
struct tls_sans {
    char *addresses[TLS_SANS_MAX + 1]; /* NULL-terminated */
    char *names[TLS_SANS_MAX + 1];
};
void tls_sans_read(X509 *cert, struct tls_sans *out);
void tls_sans_deinit(struct tls_sans *s);
enum tls_place { TLS_PLACE_RIGHT, TLS_PLACE_WRONG, TLS_PLACE_ASK /* the name servers */ };
enum tls_place tls_place_of(const struct tls_sans *s, const char *address, char reason[TLS_REASON_BYTES]);
/* Does one of the names (some begin with "*.") cover this host? */
bool tls_names_cover(char *const *names, const char *host);
/* etcd's line about a certificate that names none of the hosts at `address`. */
void tls_place_reason(const struct tls_sans *s, const char *address, const char *why, char reason[TLS_REASON_BYTES]);

/* --- tls_session.c */
/* What holds for every session of a context; with `demand` a client has to prove who it is. */
void tls_session_rules(SSL_CTX *ctx, bool demand);
/* A session's side of its BIO. */
int tls_bio_read(BIO *b, char *out, int n);
int tls_bio_write(BIO *b, const char *in, int n);
long tls_bio_ctrl(BIO *b, int cmd, long num, void *ptr);
struct tls_session; /* opaque */
enum tls_step {
    TLS_HUNGRY, /* all of the input is taken */
    TLS_UP,     /* the handshake is complete; call again */
    TLS_DATA,   /* plain bytes; call again */
    TLS_END,    /* the peer will send no more */
    TLS_BROKEN  /* tls_session_reason says why; what is in `out` should still go out */
};
/* `h1`, `h2`: what may be spoken over it. */
struct tls_session *tls_session_open(struct tls *t, bool h1, bool h2);
void tls_session_close(struct tls_session **s);
/* Take from *in, put up to `room` plain bytes at `plain`; records for the peer are appended to `out`. */
enum tls_step tls_session_read(struct tls_session *s, struct slice *in, uint8_t *plain, size_t room, size_t *n, struct bytes *out);
/* Seal; only after TLS_UP. false: broken. */
bool tls_session_write(struct tls_session *s, const uint8_t *p, size_t n, struct bytes *out);
void tls_session_shut(struct tls_session *s, struct bytes *out); /* close_notify */
bool tls_session_is_up(const struct tls_session *s);
const char *tls_session_reason(const struct tls_session *s);
const char *tls_session_server_name(const struct tls_session *s); /* that the client asked for; "" */
X509 *tls_session_peer(const struct tls_session *s);      /* borrowed; NULL: no certificate */
/* Of the verified client certificate, borrowed; "" without one. */
const char *tls_session_common_name(const struct tls_session *s);
const struct tls_config *tls_session_config(const struct tls_session *s);

#endif
