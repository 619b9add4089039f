/* auth_jwt.c - keys, signatures and the three parts of a token, over OpenSSL's EVP.
 *
 * An elliptic curve's signature is two numbers side by side in a token, and a DER sequence in the
 * library; the rest goes through as it is.
 */
#include "api/etcd/auth_jwt.h"

#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "api/etcd/auth_jwt_claims.h"
#include "base/assert.h"
#include "base/mem.h"
#include "engine/auth_base64.h"

enum family { FAMILY_RS, FAMILY_PS, FAMILY_ES, FAMILY_HS, FAMILY_ED };

struct method {
    const char *name;
    enum family family;
    const char *digest; /* NULL: the algorithm has its own */
    const char *curve;  /* ES: the only one that fits */
    unsigned half;      /* ES: bytes of each of the two numbers */
};

static const struct method methods[] = {
    {"RS256", FAMILY_RS, "SHA256", NULL, 0},
    {"RS384", FAMILY_RS, "SHA384", NULL, 0},
    {"RS512", FAMILY_RS, "SHA512", NULL, 0},
    {"PS256", FAMILY_PS, "SHA256", NULL, 0},
    {"PS384", FAMILY_PS, "SHA384", NULL, 0},
    {"PS512", FAMILY_PS, "SHA512", NULL, 0},
    {"ES256", FAMILY_ES, "SHA256", "prime256v1", 32},
    {"ES384", FAMILY_ES, "SHA384", "secp384r1", 48},
    {"ES512", FAMILY_ES, "SHA512", "secp521r1", 66},
    {"HS256", FAMILY_HS, "SHA256", NULL, 0},
    {"HS384", FAMILY_HS, "SHA384", NULL, 0},
    {"HS512", FAMILY_HS, "SHA512", NULL, 0},
    {"EdDSA", FAMILY_ED, NULL, NULL, 0},
};

struct jwt {
    const struct method *method;
    EVP_PKEY *key;       /* owned; NULL with HS */
    struct bytes secret; /* HS */
    bool verify_only;
    uint64_t ttl_s;
};

/* --- keys
 * ------------------------------------------------------------------------------------------- */

static EVP_PKEY *read_private(struct slice pem)
{
    BIO *b = BIO_new_mem_buf(pem.data, (int)pem.len);
    /* An empty password, so that an encrypted key is refused and nothing is asked on the terminal.
     */
    EVP_PKEY *k = b == NULL ? NULL : PEM_read_bio_PrivateKey(b, NULL, NULL, (void *)(uintptr_t) "");
    (void)BIO_free(b);
    ERR_clear_error();
    return k;
}

static EVP_PKEY *key_of_certificate(struct slice pem)
{
    BIO *b = BIO_new_mem_buf(pem.data, (int)pem.len);
    X509 *x = b == NULL ? NULL : PEM_read_bio_X509(b, NULL, NULL, (void *)(uintptr_t) "");
    EVP_PKEY *k = x == NULL ? NULL : X509_get_pubkey(x);
    X509_free(x);
    (void)BIO_free(b);
    return k;
}

/* A public key, RSA's old form of one, or a certificate. */
static EVP_PKEY *read_public(struct slice pem)
{
    BIO *b = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *k = b == NULL ? NULL : PEM_read_bio_PUBKEY(b, NULL, NULL, (void *)(uintptr_t) "");
    (void)BIO_free(b);
    if (k == NULL) {
        k = key_of_certificate(pem);
    }
    ERR_clear_error();
    return k;
}

static bool key_fits(const struct method *m, EVP_PKEY *k)
{
    char curve[32];
    size_t len = 0;
    switch (m->family) {
    case FAMILY_RS:
    case FAMILY_PS:
        return EVP_PKEY_get_base_id(k) == EVP_PKEY_RSA;
    case FAMILY_ED:
        return EVP_PKEY_get_base_id(k) == EVP_PKEY_ED25519;
    case FAMILY_ES:
        return EVP_PKEY_get_base_id(k) == EVP_PKEY_EC &&
               EVP_PKEY_get_group_name(k, curve, sizeof(curve), &len) == 1 &&
               strcmp(curve, m->curve) == 0;
    case FAMILY_HS:
        return false;
    }
    UNREACHABLE();
}

static enum err take_keys(struct jwt *j, struct slice public_key, struct slice private_key,
                          struct err_ctx *ec)
{
    EVP_PKEY *private = private_key.len == 0 ? NULL : read_private(private_key);
    EVP_PKEY *public = public_key.len == 0 ? NULL : read_public(public_key);
    enum err err = OK;
    if (private_key.len > 0 && (private == NULL || !key_fits(j->method, private))) {
        err =
            err_set(ec, ERR_INVALID, "auth: the private key is no PEM key for %s", j->method->name);
    } else if (public_key.len > 0 && (public == NULL || !key_fits(j->method, public))) {
        err =
            err_set(ec, ERR_INVALID, "auth: the public key is no PEM key for %s", j->method->name);
    } else if (private == NULL && public == NULL) {
        err = err_set(ec, ERR_INVALID, "auth: missing key data");
    } else if (private != NULL && public != NULL && EVP_PKEY_eq(private, public) != 1) {
        err = err_set(ec, ERR_INVALID, "auth: public and private keys don't match");
    }
    if (err == OK) {
        j->verify_only = private == NULL;
        j->key = private != NULL ? private : public;
        private = private != NULL ? NULL : private;
        public = j->key == public ? NULL : public;
    }
    EVP_PKEY_free(private);
    EVP_PKEY_free(public);
    ERR_clear_error();
    return err;
}

enum err jwt_create(const char *method, struct slice public_key, struct slice private_key,
                    uint64_t ttl_s, struct jwt **out, struct err_ctx *ec)
{
    const struct method *m = NULL;
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        m = strcmp(methods[i].name, method) == 0 ? &methods[i] : m;
    }
    if (m == NULL) {
        return err_set(ec, ERR_INVALID, "auth: invalid auth options");
    }
    struct jwt *j = xcalloc(1, sizeof(*j));
    enum err err = OK;
    j->method = m;
    j->ttl_s = ttl_s;
    if (m->family != FAMILY_HS) {
        err = take_keys(j, public_key, private_key, ec);
    } else if (private_key.len == 0) {
        err = err_set(ec, ERR_INVALID, "auth: missing key data");
    } else {
        bytes_add(&j->secret, private_key.data, private_key.len);
    }
    if (err != OK) {
        jwt_destroy(&j);
        return err;
    }
    *out = j;
    return OK;
}

void jwt_destroy(struct jwt **jp)
{
    struct jwt *j = *jp;
    if (j == NULL) {
        return;
    }
    EVP_PKEY_free(j->key);
    if (j->secret.data != NULL) {
        OPENSSL_cleanse(j->secret.data, j->secret.len);
    }
    bytes_deinit(&j->secret);
    free(j);
    *jp = NULL;
}

/* --- signatures
 * ------------------------------------------------------------------------------------- */

static bool sign_hmac(const struct jwt *j, struct slice data, struct bytes *out)
{
    unsigned len = 0;
    uint8_t *to = bytes_reserve(out, EVP_MAX_MD_SIZE);
    const EVP_MD *md = EVP_get_digestbyname(j->method->digest);
    bool done = HMAC(md, j->secret.data, (int)j->secret.len, data.data, data.len, to, &len) != NULL;
    out->len += done ? len : 0;
    return done;
}

/* With PSS the salt is as long as the hash; when verifying it may have any length, as in etcd. */
static bool set_padding(const struct jwt *j, EVP_PKEY_CTX *p, bool sign)
{
    if (j->method->family != FAMILY_PS) {
        return true;
    }
    return EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(p, sign ? RSA_PSS_SALTLEN_DIGEST
                                                    : RSA_PSS_SALTLEN_AUTO) == 1;
}

static bool numbers_of_der(const struct method *m, struct slice der, struct bytes *out)
{
    const unsigned char *at = der.data;
    ECDSA_SIG *s = d2i_ECDSA_SIG(NULL, &at, (long)der.len);
    uint8_t *to = bytes_reserve(out, 2 * m->half);
    bool done = s != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(s), to, (int)m->half) > 0 &&
                BN_bn2binpad(ECDSA_SIG_get0_s(s), to + m->half, (int)m->half) > 0;
    out->len += done ? 2 * m->half : 0;
    ECDSA_SIG_free(s);
    return done;
}

static bool der_of_numbers(const struct method *m, struct slice raw, struct bytes *out)
{
    if (raw.len != 2 * m->half) {
        return false;
    }
    ECDSA_SIG *s = ECDSA_SIG_new();
    BIGNUM *a = BN_bin2bn(raw.data, (int)m->half, NULL);
    BIGNUM *b = BN_bin2bn(raw.data + m->half, (int)m->half, NULL);
    ASSERT(s != NULL && a != NULL && b != NULL);
    int set = ECDSA_SIG_set0(s, a, b); /* takes both */
    ASSERT(set == 1);
    unsigned char *der = NULL;
    int len = i2d_ECDSA_SIG(s, &der);
    if (len > 0) {
        bytes_add(out, der, (size_t)len);
    }
    OPENSSL_free(der);
    ECDSA_SIG_free(s);
    return len > 0;
}

static bool sign_key(const struct jwt *j, struct slice data, struct bytes *out)
{
    EVP_PKEY_CTX *p = NULL;
    struct bytes sig = {0};
    size_t len = 0;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool done = c != NULL &&
                EVP_DigestSignInit_ex(c, &p, j->method->digest, NULL, NULL, j->key, NULL) == 1 &&
                set_padding(j, p, true) &&
                EVP_DigestSign(c, NULL, &len, data.data, data.len) == 1 &&
                EVP_DigestSign(c, bytes_reserve(&sig, len), &len, data.data, data.len) == 1;
    sig.len = done ? len : 0;
    if (done && j->method->family == FAMILY_ES) {
        done = numbers_of_der(j->method, bytes_slice(&sig), out);
    } else if (done) {
        bytes_add(out, sig.data, sig.len);
    }
    bytes_deinit(&sig);
    EVP_MD_CTX_free(c);
    ERR_clear_error();
    return done;
}

static bool verify_hmac(const struct jwt *j, struct slice data, struct slice signature)
{
    struct bytes ours = {0};
    bool same = sign_hmac(j, data, &ours) && ours.len == signature.len &&
                CRYPTO_memcmp(ours.data, signature.data, ours.len) == 0;
    bytes_deinit(&ours);
    return same;
}

static bool verify_key(const struct jwt *j, struct slice data, struct slice signature)
{
    EVP_PKEY_CTX *p = NULL;
    struct bytes der = {0};
    bool sound = true;
    if (j->method->family == FAMILY_ES) {
        sound = der_of_numbers(j->method, signature, &der);
        signature = bytes_slice(&der);
    }
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    sound = sound && c != NULL &&
            EVP_DigestVerifyInit_ex(c, &p, j->method->digest, NULL, NULL, j->key, NULL) == 1 &&
            set_padding(j, p, false) &&
            EVP_DigestVerify(c, signature.data, signature.len, data.data, data.len) == 1;
    EVP_MD_CTX_free(c);
    bytes_deinit(&der);
    ERR_clear_error(); /* other users of this thread's error queue shall not find ours */
    return sound;
}

/* --- tokens
 * ------------------------------------------------------------------------------------------ */

enum err jwt_sign(const struct jwt *j, const char *user, uint64_t revision, uint64_t now_s,
                  struct bytes *out)
{
    if (j->verify_only) {
        return ERR_AUTH_VERIFY_ONLY;
    }
    size_t start = out->len;
    struct bytes part = {0};
    struct bytes signature = {0};
    bytes_printf(&part, "{\"alg\":\"%s\",\"typ\":\"JWT\"}", j->method->name);
    base64url_encode(bytes_slice(&part), out);
    bytes_add_str(out, ".");
    bytes_reset(&part);
    jwt_write_claims(&part, user, revision, now_s + j->ttl_s);
    base64url_encode(bytes_slice(&part), out);
    struct slice data = slice_of(out->data + start, out->len - start);
    bool done = j->method->family == FAMILY_HS ? sign_hmac(j, data, &signature)
                                               : sign_key(j, data, &signature);
    bytes_add_str(out, ".");
    base64url_encode(bytes_slice(&signature), out);
    bytes_deinit(&part);
    bytes_deinit(&signature);
    out->len = done ? out->len : start;
    return done ? OK : ERR_INVALID;
}

struct parts {
    struct bytes header, claims, signature;
    struct slice data; /* what is signed: the first two as they came */
};

static enum err split(struct slice token, struct parts *p)
{
    const uint8_t *dot[2] = {NULL, NULL};
    size_t n = 0;
    for (size_t i = 0; i < token.len; i++) {
        if (token.data[i] != '.') {
            continue;
        }
        if (n == 2) {
            return ERR_INVALID;
        }
        dot[n++] = token.data + i;
    }
    if (n != 2) {
        return ERR_INVALID;
    }
    size_t first = (size_t)(dot[0] - token.data);
    size_t second = (size_t)(dot[1] - token.data);
    p->data = slice_of(token.data, second);
    enum err err = base64url_decode(slice_of(token.data, first), &p->header);
    if (err == OK) {
        err = base64url_decode(slice_of(dot[0] + 1, second - first - 1), &p->claims);
    }
    if (err == OK) {
        err = base64url_decode(slice_of(dot[1] + 1, token.len - second - 1), &p->signature);
    }
    return err;
}

/* The signature comes before the claims: nothing that nobody signed is read further than the
 * header. */
static enum err verify_parts(const struct jwt *j, const struct parts *p, struct err_ctx *ec)
{
    char alg[JWT_ALG_BYTES];
    if (jwt_read_header(bytes_slice(&p->header), alg) != OK) {
        return err_set(ec, ERR_AUTH_TOKEN, "the header does not read");
    }
    if (strcmp(alg, j->method->name) != 0) {
        return err_set(ec, ERR_AUTH_TOKEN, "signed with another method than %s", j->method->name);
    }
    struct slice signature = bytes_slice(&p->signature);
    bool sound = j->method->family == FAMILY_HS ? verify_hmac(j, p->data, signature)
                                                : verify_key(j, p->data, signature);
    return sound ? OK : err_set(ec, ERR_AUTH_TOKEN, "the signature is wrong");
}

static enum err check_claims(const struct jwt_claims *c, uint64_t now_s, struct err_ctx *ec)
{
    if (c->has_exp && (double)now_s >= c->exp) {
        return err_set(ec, ERR_AUTH_TOKEN, "expired %.0f seconds ago", (double)now_s - c->exp);
    }
    if (c->has_nbf && (double)now_s < c->nbf) {
        return err_set(ec, ERR_AUTH_TOKEN, "not valid for another %.0f seconds",
                       c->nbf - (double)now_s);
    }
    return OK;
}

enum err jwt_verify(const struct jwt *j, struct slice token, uint64_t now_s, struct bytes *user,
                    uint64_t *revision, struct err_ctx *ec)
{
    struct parts p = {0};
    struct jwt_claims c = {0};
    enum err err = OK;
    if (token.len > JWT_BYTES_MAX || split(token, &p) != OK) {
        err = err_set(ec, ERR_AUTH_TOKEN, "not three parts of base64url");
    } else {
        err = verify_parts(j, &p, ec);
    }
    if (err == OK && jwt_read_claims(bytes_slice(&p.claims), &c) != OK) {
        err = err_set(ec, ERR_AUTH_TOKEN, "the claims do not read");
    }
    if (err == OK) {
        err = check_claims(&c, now_s, ec);
    }
    if (err == OK) {
        bytes_add(user, c.user.data, c.user.len);
        *revision = c.revision;
    }
    bytes_deinit(&c.user);
    bytes_deinit(&p.header);
    bytes_deinit(&p.claims);
    bytes_deinit(&p.signature);
    return err;
}
