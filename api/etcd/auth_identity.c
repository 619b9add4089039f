/* auth_identity.c - see auth_identity.h. */
#include "api/etcd/auth_identity.h"

#include <stdio.h>

#include <openssl/sha.h>

static struct slice without_bearer(struct slice s)
{
    static const char prefix[] = "Bearer ";
    size_t n = sizeof(prefix) - 1;
    bool has = s.len >= n && memcmp(s.data, prefix, n) == 0;
    return has ? slice_of(s.data + n, s.len - n) : s;
}

static enum err by_token(struct auth *a, struct auth_tokens *t, struct slice token,
                         uint64_t applied_index, struct auth_who *out, struct err_ctx *ec)
{
    struct bytes user = {0};
    uint64_t revision = 0;
    enum err err = auth_tokens_look_up(t, token, applied_index, auth_revision(a), &user, &revision,
                                       &out->wait_index, ec);
    if (err == OK && user.len > sizeof(out->user)) {
        err = err_set(ec, ERR_AUTH_TOKEN, "a name of %zu bytes", user.len);
    }
    if (err == OK) {
        memcpy(out->user, user.data, user.len);
        out->revision = revision;
        out->source = AUTH_BY_TOKEN;
    }
    bytes_deinit(&user);
    return err;
}

/* A name with a NUL, or one that no user can have, is nobody's. */
static void by_certificate(struct auth *a, struct slice name, struct auth_who *out)
{
    if (name.len > AUTH_NAME_BYTES_MAX ||
        (name.len > 0 && memchr(name.data, 0, name.len) != NULL)) {
        return;
    }
    if (name.len > 0) {
        memcpy(out->user, name.data, name.len);
    }
    out->user[name.len] = 0;
    out->revision = auth_revision(a);
    out->source = AUTH_BY_CERTIFICATE;
}

enum err auth_identify(struct auth *a, struct auth_tokens *t, const struct auth_evidence *ev,
                       uint64_t applied_index, struct auth_who *out, struct err_ctx *ec)
{
    *out = (struct auth_who){.source = AUTH_BY_NOTHING};
    if (!auth_enabled(a)) {
        return OK;
    }
    if (ev->token.data != NULL || ev->authorization.data != NULL) {
        struct slice token = ev->token.data != NULL ? ev->token : ev->authorization;
        return by_token(a, t, without_bearer(token), applied_index, out, ec);
    }
    if (ev->client_cert_auth && ev->common_name.data != NULL && ev->gateway.data == NULL) {
        by_certificate(a, ev->common_name, out);
    }
    return OK;
}

void auth_token_fingerprint(struct slice token, char out[AUTH_FINGERPRINT_BYTES])
{
    uint8_t sum[SHA256_DIGEST_LENGTH];
    (void)SHA256(token.data, token.len, sum);
    for (size_t i = 0; i < 6; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", sum[i]);
    }
}
