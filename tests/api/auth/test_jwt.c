/* test_jwt.c - tokens of every method, forged and broken ones, and two that other software made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "api/etcd/auth_jwt.h"
#include "base/assert.h"
#include "engine/auth_base64.h"

#define NOW 1700000000u

struct keys {
    struct bytes private, public;
};

static void take_bio(BIO *b, struct bytes *out)
{
    char *data;
    long n = BIO_get_mem_data(b, &data);
    bytes_add(out, data, (size_t)n);
    (void)BIO_free(b);
}

static struct keys make_keys(const char *type, const char *curve)
{
    struct keys k = {{0}, {0}};
    EVP_PKEY *p = strcmp(type, "RSA") == 0  ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048)
                  : strcmp(type, "EC") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve)
                                            : EVP_PKEY_Q_keygen(NULL, NULL, type);
    assert_non_null(p);
    BIO *private = BIO_new(BIO_s_mem());
    BIO *public = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(private, p, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(PEM_write_bio_PUBKEY(public, p), 1);
    take_bio(private, &k.private);
    take_bio(public, &k.public);
    EVP_PKEY_free(p);
    return k;
}

static void drop_keys(struct keys *k)
{
    bytes_deinit(&k->private);
    bytes_deinit(&k->public);
}

static struct jwt *create(const char *method, struct slice public, struct slice private)
{
    struct jwt *j = NULL;
    struct err_ctx ec = {{0}};
    enum err e = jwt_create(method, public, private, 60, &j, &ec);
    if (e != OK) {
        print_message("%s\n", ec.text);
    }
    assert_int_equal(e, OK);
    return j;
}

static enum err verify_at(const struct jwt *j, struct slice token, uint64_t now_s)
{
    struct bytes user = {0};
    uint64_t revision = 0;
    struct err_ctx ec = {{0}};
    enum err e = jwt_verify(j, token, now_s, &user, &revision, &ec);
    if (e == OK) {
        assert_string_equal((const char *)user.data, "ann");
        assert_int_equal(revision, 42);
    } else {
        assert_int_equal(e, ERR_AUTH_TOKEN);
        assert_true(ec.text[0] != 0);
        assert_int_equal(user.len, 0);
    }
    bytes_deinit(&user);
    return e;
}

static enum err verify(const struct jwt *j, struct slice token)
{
    return verify_at(j, token, NOW);
}

static const struct {
    const char *method, *type, *curve;
} all[] = {
    {"RS256", "RSA", NULL},        {"RS384", "RSA", NULL},       {"RS512", "RSA", NULL},
    {"PS256", "RSA", NULL},        {"PS384", "RSA", NULL},       {"PS512", "RSA", NULL},
    {"ES256", "EC", "prime256v1"}, {"ES384", "EC", "secp384r1"}, {"ES512", "EC", "secp521r1"},
    {"EdDSA", "ED25519", NULL},    {"HS256", "HS", NULL},        {"HS384", "HS", NULL},
    {"HS512", "HS", NULL},
};

static void check_method(const char *method, const struct keys *k, struct bytes *token)
{
    bool hmac = method[0] == 'H';
    struct jwt *signer = create(method, (struct slice){0}, bytes_slice(&k->private));
    struct jwt *verifier = hmac ? NULL : create(method, bytes_slice(&k->public), (struct slice){0});
    bytes_reset(token);
    assert_int_equal(jwt_sign(signer, "ann", 42, NOW, token), OK);
    assert_int_equal(verify(signer, bytes_slice(token)), OK);
    assert_int_equal(verify_at(signer, bytes_slice(token), NOW + 59), OK);
    assert_int_equal(verify_at(signer, bytes_slice(token), NOW + 60), ERR_AUTH_TOKEN);
    if (verifier != NULL) {
        struct bytes none = {0};
        assert_int_equal(verify(verifier, bytes_slice(token)), OK);
        assert_int_equal(jwt_sign(verifier, "ann", 42, NOW, &none), ERR_AUTH_VERIFY_ONLY);
        assert_int_equal(none.len, 0);
    }
    /* No byte of it may be another, none may be missing, none may follow. */
    for (size_t i = 0; i < token->len; i += 1 + token->len / 97) {
        uint8_t was = token->data[i];
        token->data[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(verify(signer, bytes_slice(token)), ERR_AUTH_TOKEN);
        token->data[i] = was;
        assert_int_equal(verify(signer, slice_of(token->data, i)), ERR_AUTH_TOKEN);
    }
    bytes_add(token, "A", 1);
    assert_int_equal(verify(signer, bytes_slice(token)), ERR_AUTH_TOKEN);
    token->len--;
    jwt_destroy(&signer);
    jwt_destroy(&verifier);
}

/* Signed by one, verified by all: only the method and the key that signed will do. */
static void test_methods(void **state)
{
    (void)state;
    struct keys keys[ARRAY_LEN(all)];
    struct bytes tokens[ARRAY_LEN(all)] = {{0}};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        keys[i] = (struct keys){{0}, {0}};
        if (strcmp(all[i].type, "HS") == 0) {
            bytes_add_str(&keys[i].private, "one secret for all of this family\n");
        } else if (i > 0 && strcmp(all[i].type, "RSA") == 0) {
            bytes_add(&keys[i].private, keys[0].private.data, keys[0].private.len);
            bytes_add(&keys[i].public, keys[0].public.data, keys[0].public.len);
        } else {
            keys[i] = make_keys(all[i].type, all[i].curve);
        }
        check_method(all[i].method, &keys[i], &tokens[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct jwt *j =
            create(all[i].method, bytes_slice(&keys[i].public), bytes_slice(&keys[i].private));
        for (size_t k = 0; k < ARRAY_LEN(all); k++) {
            assert_int_equal(verify(j, bytes_slice(&tokens[k])), i == k ? OK : ERR_AUTH_TOKEN);
        }
        jwt_destroy(&j);
    }
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        drop_keys(&keys[i]);
        bytes_deinit(&tokens[i]);
    }
}

/* A token from its three parts in clear. */
static struct bytes token_of(const char *header, const char *claims, struct slice signature)
{
    struct bytes t = {0};
    base64url_encode(slice_str(header), &t);
    bytes_add_str(&t, ".");
    base64url_encode(slice_str(claims), &t);
    bytes_add_str(&t, ".");
    base64url_encode(signature, &t);
    return t;
}

/* With HS any text can be signed properly here: take the signature of the library's own for these
 * bytes. */
static struct bytes signed_token(struct slice secret, const char *header, const char *claims)
{
    struct bytes t = token_of(header, claims, (struct slice){0});
    uint8_t mac[64];
    size_t len = 0;
    assert_non_null(EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, secret.data, secret.len, t.data,
                              t.len - 1, mac, sizeof(mac), &len));
    base64url_encode(slice_of(mac, len), &t);
    return t;
}

#define CLAIMS "{\"username\":\"ann\",\"revision\":42,\"exp\":1700000060}"

/* Who lets the token choose its method can be given one signed with the public key as a secret, or
 * not at all. */
static void test_confusion(void **state)
{
    (void)state;
    struct keys k = make_keys("RSA", NULL);
    struct jwt *j = create("RS256", bytes_slice(&k.public), (struct slice){0});
    static const char *const headers[] = {
        "{\"alg\":\"HS256\",\"typ\":\"JWT\"}",
        "{\"alg\":\"none\"}",
        "{\"alg\":\"None\"}",
        "{\"alg\":\"\"}",
        "{}",
        "{\"alg\":null}",
        "{\"alg\":[\"RS256\"]}",
        "{\"alg\":\"RS256\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"alg\":\"RS256\"}",
        "{\"alg\":\"RS256\\u0000\"}",
        "{\"alg\":\"rs256\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        struct bytes with_mac = signed_token(bytes_slice(&k.public), headers[i], CLAIMS);
        struct bytes bare = token_of(headers[i], CLAIMS, (struct slice){0});
        assert_int_equal(verify(j, bytes_slice(&with_mac)), ERR_AUTH_TOKEN);
        assert_int_equal(verify(j, bytes_slice(&bare)), ERR_AUTH_TOKEN);
        bytes_deinit(&with_mac);
        bytes_deinit(&bare);
    }
    jwt_destroy(&j);
    drop_keys(&k);
}

static void test_claims(void **state)
{
    (void)state;
    struct slice secret = slice_str("a secret");
    struct jwt *j = create("HS256", (struct slice){0}, secret);
    static const struct {
        const char *name, *claims;
        bool good;
    } rows[] = {
        {"as it should be", CLAIMS, true},
        {"white space, order, more claims",
         " { \"exp\" : 1.70000006e9 , \"iss\":{\"a\":[1,true,null]}, "
         "\"revision\":42.0,\n\"username\":\"a\\u006en\" } ",
         true},
        {"never expires", "{\"username\":\"ann\",\"revision\":42}", true},
        {"expired", "{\"username\":\"ann\",\"revision\":42,\"exp\":1700000000}", false},
        {"long expired", "{\"username\":\"ann\",\"revision\":42,\"exp\":-5}", false},
        {"not yet", "{\"username\":\"ann\",\"revision\":42,\"nbf\":1700000001}", false},
        {"just now", "{\"username\":\"ann\",\"revision\":42,\"nbf\":1700000000}", true},
        {"no user", "{\"revision\":42}", false},
        {"no revision", "{\"username\":\"ann\"}", false},
        {"user is no text", "{\"username\":7,\"revision\":42}", false},
        {"revision is a text", "{\"username\":\"ann\",\"revision\":\"42\"}", false},
        {"revision below zero", "{\"username\":\"ann\",\"revision\":-42}", false},
        {"revision too large", "{\"username\":\"ann\",\"revision\":1e30}", false},
        {"a number with a leading zero", "{\"username\":\"ann\",\"revision\":042}", false},
        {"a hexadecimal number", "{\"username\":\"ann\",\"revision\":0x2a}", false},
        {"no finite number", "{\"username\":\"ann\",\"revision\":42,\"exp\":1e999}", false},
        {"exp is a text", "{\"username\":\"ann\",\"revision\":42,\"exp\":\"1700000060\"}", false},
        {"a user twice", "{\"username\":\"root\",\"username\":\"ann\",\"revision\":42}", false},
        {"an exp twice",
         "{\"username\":\"ann\",\"revision\":42,\"exp\":1700000060,\"exp\":1800000000}", false},
        {"a NUL in the name", "{\"username\":\"ann\\u0000\",\"revision\":42}", false},
        {"something behind", CLAIMS "x", false},
        {"no object", "[]", false},
        {"nothing", "", false},
        {"too deep",
         "{\"username\":\"ann\",\"revision\":42,\"x\":[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]}",
         false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes t = signed_token(secret, "{\"alg\":\"HS256\"}", rows[i].claims);
        if (verify(j, bytes_slice(&t)) != (rows[i].good ? OK : ERR_AUTH_TOKEN)) {
            fail_msg("%s", rows[i].name);
        }
        bytes_deinit(&t);
    }
    struct bytes t =
        signed_token(secret, "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", CLAIMS);
    assert_int_equal(verify(j, bytes_slice(&t)), ERR_AUTH_TOKEN);
    bytes_deinit(&t);
    struct bytes large = {0};
    (void)bytes_reserve(&large, JWT_BYTES_MAX + 1);
    memset(large.data, 'A', JWT_BYTES_MAX + 1);
    large.len = JWT_BYTES_MAX + 1;
    assert_int_equal(verify(j, bytes_slice(&large)), ERR_AUTH_TOKEN);
    bytes_deinit(&large);
    jwt_destroy(&j);
}

/* RFC 7515, appendix A.1: an HMAC over bytes with line breaks inside; its claims are not ours, so
 * only the claims are what is wrong with it. */
static void test_the_standards_example(void **state)
{
    (void)state;
    static const char token[] = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
                                "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcG"
                                "xlLmNvbS9pc19yb290Ijp0cnVlfQ."
                                "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    struct bytes secret = {0};
    struct bytes user = {0};
    uint64_t revision;
    struct err_ctx ec = {{0}};
    assert_int_equal(base64url_decode(slice_str("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-"
                                                "1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"),
                                      &secret),
                     OK);
    struct jwt *j = create("HS256", (struct slice){0}, bytes_slice(&secret));
    assert_int_equal(jwt_verify(j, slice_str(token), 1, &user, &revision, &ec), ERR_AUTH_TOKEN);
    assert_string_equal(ec.text, "the claims do not read");
    jwt_destroy(&j);
    bytes_deinit(&secret);
}

/* Made by golang-jwt 5.2, which etcd uses; without an end. */
static const struct {
    const char *method, *public, *token;
} from_go[] = {
    {"ES256",
     "-----BEGIN PUBLIC KEY-----\n"
     "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJQ9uMYLMF8/zZ47PoXWrvlbLkwE3\n"
     "fmGrpTtmg9lgYLjQ9XGYHT6VDjzxiGvao5jCL/oYMl4QN1iL56pIIPNFeg==\n"
     "-----END PUBLIC KEY-----\n",
     "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJyZXZpc2lvbiI6NDIsInVzZXJuYW1lIjoiYW5uIn0.aBc0NXqpU"
     "DAW0eyvSz5rsm2Zx6sMljO2AdknPekiCjbk1LN4_kUw31Xpp3cbGmP-XBUzuPS85CznQ6sTVLkjYA"},
    {"EdDSA",
     "-----BEGIN PUBLIC KEY-----\n"
     "MCowBQYDK2VwAyEAr4pMmw9yn1QYv1b5JK85i/nKOcxvlMAM11FyhABee0E=\n"
     "-----END PUBLIC KEY-----\n",
     "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJyZXZpc2lvbiI6NDIsInVzZXJuYW1lIjoiYW5uIn0.htE9o-eZX"
     "uUnrCR3BYQX_Xlq3-POnIqSjR0MfsLoEMJeUyFM-mNCWsJamaBZOzyMvPLhDr8aW1e_nZLzSDpZBQ"},
    {"PS256",
     "-----BEGIN PUBLIC KEY-----\n"
     "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAx6GmpZOp33vuaMlII1x6\n"
     "579IUkv6g8gSNZCV9bgbdTcsM36ev+myl9rtQShbHFnqjs4thhnUKYF7jtbiOknu\n"
     "BzPS02hZLgmu15wH5TNBVmxkQm2l3asIstTi1a6ONAv78GAt4CLQTHx2rQdWbe2v\n"
     "bgIhgQbDWae9kx6MP/zq+Q0H2rNV82HpeSR4ML9JubmC88ueNYF84+JQ03ChqDa2\n"
     "x5GTA8Xg+m37FxvH/YtVe9w6p78k0KcX5U5D/fiOn+vTvA5BUSNRs0qr4BPXbaN1\n"
     "ckMxeoUY/EVEi+h5sR8B1sMfpYglNivHcBEXmDGNkVhN1gjFznxN0Rqt+8L1Kq5M\n"
     "MwIDAQAB\n"
     "-----END PUBLIC KEY-----\n",
     "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCJ9.eyJyZXZpc2lvbiI6NDIsInVzZXJuYW1lIjoiYW5uIn0.F-1TZ6ylZ"
     "zKRZq7nwdByngOnJE8hIQbFTiDvq8ExlzNEvU_hIGBOWKcc8jNKkGQhGEwMTfvgy-2w0Q0CgPKM2BLjMSVxLVa0N_v"
     "dLt9Q9n6ID9vLM-l9pjsiY9XiRbgZ4OZ-RJJcgok9CVmNLKlHwbSlJXK7Fynq_M7Fl4bFWsKPuCyKvobwqOqhYxbTx"
     "5JQ2xBy3d3C-sjqspef41kOFqAD_uCsSRrJT7faff1vawlM98HRuQLm8Kxgef3jnpwkYcCxyo63rBDk3YYf8YLwuY9"
     "POvv33lw94EQZ84tmLHQIoBxNDISmyEkC6hJgw5POAE9lgaYAbRnWwONiGmoqrQ"},
};

static void test_tokens_that_go_made(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(from_go); i++) {
        struct jwt *j = create(from_go[i].method, slice_str(from_go[i].public), (struct slice){0});
        assert_int_equal(verify(j, slice_str(from_go[i].token)), OK);
        jwt_destroy(&j);
    }
}

static void test_keys(void **state)
{
    (void)state;
    struct keys rsa = make_keys("RSA", NULL);
    struct keys other = make_keys("RSA", NULL);
    struct keys ec256 = make_keys("EC", "prime256v1");
    const struct slice none = {0};
    const struct {
        const char *method;
        struct slice public, private;
        const char *text;
    } rows[] = {
        {"RS256", none, none, "auth: missing key data"},
        {"HS256", bytes_slice(&rsa.public), none, "auth: missing key data"},
        {"RS256", bytes_slice(&other.public), bytes_slice(&rsa.private),
         "auth: public and private keys don't match"},
        {"none", none, bytes_slice(&rsa.private), "auth: invalid auth options"},
        {"", none, bytes_slice(&rsa.private), "auth: invalid auth options"},
        {"rs256", none, bytes_slice(&rsa.private), "auth: invalid auth options"},
        {"RS256", none, bytes_slice(&ec256.private),
         "auth: the private key is no PEM key for RS256"},
        {"ES384", none, bytes_slice(&ec256.private),
         "auth: the private key is no PEM key for ES384"},
        {"ES256", bytes_slice(&rsa.public), none, "auth: the public key is no PEM key for ES256"},
        {"EdDSA", slice_str("no key"), none, "auth: the public key is no PEM key for EdDSA"},
        {"RS256", none, bytes_slice(&rsa.public), "auth: the private key is no PEM key for RS256"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct jwt *j = NULL;
        struct err_ctx ec = {{0}};
        assert_int_equal(jwt_create(rows[i].method, rows[i].public, rows[i].private, 60, &j, &ec),
                         ERR_INVALID);
        assert_string_equal(ec.text, rows[i].text);
        assert_null(j);
    }
    drop_keys(&rsa);
    drop_keys(&other);
    drop_keys(&ec256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_confusion),
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_the_standards_example),
        cmocka_unit_test(test_tokens_that_go_made),
        cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
