/* auth_identity.h - who asks.
 *
 * What        From what a call brings (a token in its metadata, a client certificate) to a user name and an auth revision.
 * Callers     api/etcd, once a call; on streams anew for each watch that is created and each keepalive.
 * Thread      any.
 * Source      etcd-v3-api.md 8.5 and 1.3; CVE-2018-16886.
 */
#ifndef API_ETCD_AUTH_IDENTITY_H
#define API_ETCD_AUTH_IDENTITY_H

#include "api/etcd/auth_tokens.h"

enum auth_source { AUTH_BY_NOTHING, AUTH_BY_TOKEN, AUTH_BY_CERTIFICATE };

/* What the call brings; slices without data are absent. */
struct auth_evidence {
    struct slice token;         /* metadata "token" */
    struct slice authorization; /* metadata "authorization", looked at when there is no "token" */
    struct slice gateway;       /* metadata "grpcgateway-accept": the certificate is then the gateway's own and says nothing */
    struct slice common_name;   /* of the verified chain's first certificate; absent without one */
    bool client_cert_auth;      /* the flag --client-cert-auth */
};

struct auth_who {
    char user[AUTH_NAME_BYTES_MAX + 1]; /* "" without an identity */
    uint64_t revision;                  /* 0: nobody */
    enum auth_source source;
    uint64_t wait_index; /* with ERR_BUSY: ask again when this has been applied */
};
static inline struct auth_identity auth_identity_of(const struct auth_who *w)
{
    return (struct auth_identity){.user = w->user, .revision = w->revision};
}

/* While authentication is off everybody is nobody, and tokens are not looked at. ERR_AUTH_TOKEN: a token is there and not good, with the reason for the
 * log; ERR_BUSY, see wait_index. */
MUST_CHECK enum err auth_identify(struct auth *a, struct auth_tokens *t, const struct auth_evidence *ev, uint64_t applied_index, struct auth_who *out, struct err_ctx *ec);

/* What a log line may show of a token: twelve hex digits of its SHA-256. */
#define AUTH_FINGERPRINT_BYTES 13u
void auth_token_fingerprint(struct slice token, char out[AUTH_FINGERPRINT_BYTES]);

#endif
