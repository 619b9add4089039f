/* fuzz_jwt.c - tokens from outside.
 *
 * The first byte chooses: a whole token; the header's or the claims' JSON; or a token whose first
 * two parts are the input's and whose signature is right, so that what lies behind the signature is
 * reached. What is accepted has to be what the other side of the same code would have written.
 */
#include <stdint.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "api/etcd/auth_jwt.h"
#include "api/etcd/auth_jwt_claims.h"
#include "api/etcd/auth_token_simple.h"
#include "base/assert.h"
#include "engine/auth_base64.h"

#define NOW 1700000000u
#define SECRET "a secret"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct jwt *verifier(void)
{
    struct jwt *j = NULL;
    struct err_ctx ec;
    enum err e = jwt_create("HS256", (struct slice){0}, slice_str(SECRET), 60, &j, &ec);
    ASSERT(e == OK);
    return j;
}

static void check_token(struct slice token)
{
    struct jwt *j = verifier();
    struct bytes user = {0};
    uint64_t revision = 0;
    struct err_ctx ec = {{0}};
    enum err e = jwt_verify(j, token, NOW, &user, &revision, &ec);
    ASSERT(e == OK || e == ERR_AUTH_TOKEN);
    if (e == OK) {
        struct bytes again = {0};
        struct bytes user_again = {0};
        uint64_t revision_again = 0;
        ASSERT(user.len > 0 && strlen((const char *)user.data) == user.len - 1);
        e = jwt_sign(j, (const char *)user.data, revision, NOW, &again);
        ASSERT(e == OK);
        e = jwt_verify(j, bytes_slice(&again), NOW, &user_again, &revision_again, &ec);
        ASSERT(e == OK);
        ASSERT(slice_eq(bytes_slice(&user), bytes_slice(&user_again)));
        ASSERT(revision == revision_again);
        bytes_deinit(&again);
        bytes_deinit(&user_again);
    } else {
        ASSERT(user.len == 0);
    }
    bytes_deinit(&user);
    jwt_destroy(&j);
}

static void check_json(struct slice json)
{
    char alg[JWT_ALG_BYTES];
    struct jwt_claims c;
    if (jwt_read_header(json, alg) == OK) {
        ASSERT(strnlen(alg, sizeof(alg)) < sizeof(alg));
    }
    if (jwt_read_claims(json, &c) == OK) {
        ASSERT(c.user.len > 0 && c.user.data[c.user.len - 1] == 0);
    }
    bytes_deinit(&c.user);
}

static void check_signed(struct slice claims)
{
    struct bytes token = {0};
    uint8_t mac[64];
    size_t len = 0;
    base64url_encode(slice_str("{\"alg\":\"HS256\"}"), &token);
    bytes_add_str(&token, ".");
    base64url_encode(claims, &token);
    const uint8_t *done = EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, SECRET, sizeof(SECRET) - 1,
                                    token.data, token.len, mac, sizeof(mac), &len);
    ASSERT(done != NULL);
    bytes_add_str(&token, ".");
    base64url_encode(slice_of(mac, len), &token);
    check_token(bytes_slice(&token));
    bytes_deinit(&token);
}

static void check_base64(struct slice text)
{
    struct bytes plain = {0};
    struct bytes back = {0};
    if (base64url_decode(text, &plain) == OK) {
        base64url_encode(bytes_slice(&plain), &back);
        ASSERT(slice_eq(bytes_slice(&back), text)); /* one value, one text */
    }
    bytes_reset(&plain);
    if (base64_decode(text, &plain) == OK) {
        struct bytes again = {0};
        bytes_reset(&back);
        base64_encode(bytes_slice(&plain), &back);
        enum err e = base64_decode(bytes_slice(&back), &again);
        ASSERT(e == OK);
        ASSERT(slice_eq(bytes_slice(&again), bytes_slice(&plain)));
        bytes_deinit(&again);
    }
    bytes_deinit(&plain);
    bytes_deinit(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct slice rest = slice_of(data + 1, size - 1);
    uint64_t index;
    switch (data[0] % 4) {
    case 0:
        check_token(rest);
        (void)simple_token_index(rest, &index);
        break;
    case 1:
        check_json(rest);
        break;
    case 2:
        check_signed(rest);
        break;
    default:
        check_base64(rest);
        break;
    }
    return 0;
}
