/* tls.c - see tls.h. */
#include "tools/pintle/tls.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/slice.h"
#include "tools/pintle/self_signed.h"

#define YEARS_MAX 100u /* of a certificate that signs itself; more are as good as that */

bool url_is_secure(const char *url)
{
    return strncmp(url, "https:", 6) == 0 || strncmp(url, "unixs:", 6) == 0;
}

static bool any_secure(char *const *urls, bool secure)
{
    for (; urls != NULL && *urls != NULL; urls++) {
        if (url_is_secure(*urls) == secure) {
            return true;
        }
    }
    return false;
}

static const char *text_of(const struct config *c, const char *flag)
{
    return flag_get((struct flag_set *)(uintptr_t)&c->flags, flag)->text;
}

static bool bool_of(const struct config *c, const char *flag)
{
    return flag_get((struct flag_set *)(uintptr_t)&c->flags, flag)->b;
}

static bool is_set(const char *text)
{
    return text[0] != '\0';
}

/* --- lists -------------------------------------------------------------------------------------------------------- */

/* The words of a comma list, blanks around them gone, NULL-terminated; one allocation each. */
static char **split(const char *text)
{
    char **list = xcalloc(strlen(text) + 2, sizeof(*list));
    size_t n = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        const char *word = text + strspn(text, " ");
        const char *end = text + len;
        text += text[len] == ',' ? len + 1 : len;
        while (end > word && end[-1] == ' ') {
            end--;
        }
        if (end > word) {
            list[n++] = xstrndup(word, (size_t)(end - word));
        }
    }
    return list;
}

static void free_list(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        free(list[i]);
    }
    free(list);
}

static void print_list(struct bytes *b, char *const *list)
{
    for (size_t i = 0; list[i] != NULL; i++) {
        bytes_printf(b, "%s%s", i > 0 ? " " : "", list[i]);
    }
    bytes_add(b, "", 1);
}

/* --- versions and suites ---------------------------------------------------------------------------------------------- */

static enum err version_of(const char *text, enum tls_version *out, struct err_ctx *ec)
{
    if (text[0] != '\0' && strcmp(text, "TLS1.2") != 0 && strcmp(text, "TLS1.3") != 0) {
        return err_set(ec, ERR_INVALID, "unexpected TLS version \"%s\" (must be one of: TLS1.2, TLS1.3)", text);
    }
    *out = text[0] == '\0' ? TLS_ANY : strcmp(text, "TLS1.2") == 0 ? TLS_1_2 : TLS_1_3;
    return OK;
}

static enum err versions(struct flag_set *f, enum tls_version *min, enum tls_version *max, struct err_ctx *ec)
{
    enum err e = version_of(flag_get(f, "tls-min-version")->text, min, ec);
    return e == OK ? version_of(flag_get(f, "tls-max-version")->text, max, ec) : e;
}

enum err tls_flags_check(struct flag_set *f, struct err_ctx *ec)
{
    enum tls_version min = TLS_ANY;
    enum tls_version max = TLS_ANY;
    enum err e = versions(f, &min, &max, ec);
    if (e == OK && max != TLS_ANY && min > max) {
        e = err_set(ec, ERR_INVALID, "min version (%s) is greater than max version (%s)", flag_get(f, "tls-min-version")->text,
                    flag_get(f, "tls-max-version")->text);
    }
    if (e == OK && min == TLS_1_3 && is_set(flag_get(f, "cipher-suites")->text)) {
        e = err_set(ec, ERR_INVALID, "cipher suites cannot be configured when only TLS1.3 is enabled");
    }
    return e;
}

static enum err open_ciphers(const struct config *c, struct server_tls *t, struct err_ctx *ec)
{
    if (!is_set(text_of(c, "cipher-suites"))) {
        return OK;
    }
    char **names = split(text_of(c, "cipher-suites"));
    enum err e = tls_ciphers((const char *const *)names, &t->ciphers, ec);
    free_list(names);
    return e;
}

/* --- certificates that sign themselves ----------------------------------------------------------------------------------- */

static enum err self_sign(const struct config *c, const char *side, char *const *urls, char **cert, char **key, struct err_ctx *ec)
{
    uint64_t years = flag_get((struct flag_set *)(uintptr_t)&c->flags, "self-signed-cert-validity")->u;
    if (years == 0) {
        return err_set(ec, ERR_INVALID, "selfSignedCertValidity is invalid,it should be greater than 0");
    }
    struct self_signed s = {.hosts = urls, .years = years > YEARS_MAX ? YEARS_MAX : (uint32_t)years};
    char *dir = xasprintf("%s/fixtures/%s", c->data_dir, side);
    free(*cert);
    free(*key);
    *cert = xasprintf("%s/cert.pem", dir);
    *key = xasprintf("%s/key.pem", dir);
    bool made = false;
    enum err e = self_signed_make(c->data_dir, dir, &s, &made, ec);
    if (e == OK) {
        log_warn(c->log, made ? "automatically generate certificates" : "certificates of an earlier start are used again",
                 F_STR("cert-file", *cert), F_STR("key-file", *key));
    }
    free(dir);
    return e;
}

/* --- what is ignored -------------------------------------------------------------------------------------------------------- */

static void warn_ignored(const struct config *c, char *const *urls, bool certs, bool auth, const char *about_certs, const char *about_auth)
{
    for (; urls != NULL && *urls != NULL; urls++) {
        if (url_is_secure(*urls)) {
            continue;
        }
        if (certs) {
            log_warn(c->log, about_certs, F_STR("url", *urls));
        }
        if (auth) {
            log_warn(c->log, about_auth, F_STR("url", *urls));
        }
    }
}

static enum err check_pair(const char *key, const char *cert, struct err_ctx *ec)
{
    if (is_set(key) == is_set(cert)) {
        return OK;
    }
    return err_set(ec, ERR_INVALID, "ClientKeyFile and ClientCertFile must both be present or both absent: key: %s, cert: %s]", key, cert);
}

/* --- members among each other ------------------------------------------------------------------------------------------------ */

static enum err peer_rules(const struct config *c, char **names, char **hosts, struct err_ctx *ec)
{
    if (names[0] == NULL || hosts[0] == NULL) {
        return check_pair(text_of(c, "peer-client-key-file"), text_of(c, "peer-client-cert-file"), ec);
    }
    struct bytes a = {0};
    struct bytes b = {0};
    print_list(&a, names);
    print_list(&b, hosts);
    enum err e = err_set(ec, ERR_INVALID, "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[%s], hostnames=[%s])", (char *)a.data,
                         (char *)b.data);
    bytes_deinit(&a);
    bytes_deinit(&b);
    return e;
}

static void fill_dial(struct config *c, const struct server_tls *t, const struct tls_config *listen, bool self)
{
    const char *cert = text_of(c, "peer-client-cert-file");
    const char *key = text_of(c, "peer-client-key-file");
    c->dial = (struct peer_tls){
        .ca_file = is_set(text_of(c, "peer-trusted-ca-file")) ? text_of(c, "peer-trusted-ca-file") : NULL,
        .cert_file = is_set(cert) ? cert : is_set(t->peer_cert) ? t->peer_cert : NULL,
        .key_file = is_set(key) ? key : is_set(t->peer_key) ? t->peer_key : NULL,
        /* Nobody but the domain vouches for names that come from its name servers. */
        .server_name = is_set(text_of(c, "discovery-srv")) && !is_set(text_of(c, "peer-trusted-ca-file")) ? text_of(c, "discovery-srv") : NULL,
        .local_address = c->local_address,
        .ciphers = t->ciphers,
        .min = listen->min,
        .max = listen->max,
        .insecure = self,
        .allowed_names = (const char *const *)t->peer_names,
        .allowed_hosts = (const char *const *)t->peer_hosts,
    };
}

static enum err open_peer(struct config *c, struct server_tls *t, struct tls_config *base, struct err_ctx *ec)
{
    bool certs = is_set(t->peer_cert) || is_set(t->peer_key);
    bool self = bool_of(c, "peer-auto-tls") && !certs;
    enum err e = OK;
    if (bool_of(c, "peer-auto-tls") && certs) {
        log_warn(c->log, "ignoring peer auto TLS since certs given", F_STR("cert-file", t->peer_cert));
    }
    if (self) {
        e = self_sign(c, "peer", c->listen_peer, &t->peer_cert, &t->peer_key, ec);
    }
    t->peer_names = split(text_of(c, "peer-cert-allowed-cn"));
    t->peer_hosts = split(text_of(c, "peer-cert-allowed-hostname"));
    struct tls_config tc = *base;
    tc.cert_file = t->peer_cert;
    tc.key_file = t->peer_key;
    tc.ca_file = text_of(c, "peer-trusted-ca-file");
    tc.crl_file = text_of(c, "peer-crl-file");
    tc.client_auth = bool_of(c, "peer-client-cert-auth");
    tc.allowed_names = (const char *const *)t->peer_names;
    tc.allowed_hosts = (const char *const *)t->peer_hosts;
    tc.check_address = !bool_of(c, "peer-skip-client-san-verification");
    tc.rejected = "rejected connection on peer endpoint";
    if (e == OK) {
        e = peer_rules(c, t->peer_names, t->peer_hosts, ec);
    }
    if (e == OK) {
        fill_dial(c, t, base, self);
        warn_ignored(c, c->listen_peer, certs || self, tc.client_auth,
                     "scheme is HTTP while key and cert files are present; ignoring key and cert files",
                     "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL");
    }
    if (e == OK && any_secure(c->listen_peer, true)) {
        e = tls_create(&tc, &t->peer, ec);
    }
    return e;
}

/* --- clients ------------------------------------------------------------------------------------------------------------------- */

static enum err check_client_certs(struct config *c, const struct server_tls *t, char *const *http, char *const *metrics, struct err_ctx *ec)
{
    bool certs = is_set(t->client_cert) || is_set(t->client_key);
    char *const *const lists[] = {c->listen_client, http};
    for (size_t i = 0; i < 2 && !certs; i++) {
        for (char *const *u = lists[i]; u != NULL && *u != NULL; u++) {
            if (url_is_secure(*u)) {
                return err_set(ec, ERR_INVALID, "TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme", *u);
            }
        }
    }
    if (!certs && any_secure(metrics, true)) {
        return err_set(ec, ERR_INVALID, "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url");
    }
    return check_pair(text_of(c, "client-key-file"), text_of(c, "client-cert-file"), ec);
}

static enum err open_client(struct config *c, struct server_tls *t, struct tls_config *base, struct err_ctx *ec)
{
    char *const *http = flag_get(&c->flags, "listen-client-http-urls")->urls;
    char *const *metrics = flag_get(&c->flags, "listen-metrics-urls")->urls;
    bool given = is_set(t->client_cert) || is_set(t->client_key);
    enum err e = OK;
    if (bool_of(c, "auto-tls") && given) {
        log_warn(c->log, "ignoring client auto TLS since certs given", F_STR("cert-file", t->client_cert));
    } else if (bool_of(c, "auto-tls")) {
        e = self_sign(c, "client", c->listen_client, &t->client_cert, &t->client_key, ec);
    }
    if (e == OK) {
        e = check_client_certs(c, t, http, metrics, ec);
    }
    if (e != OK) {
        return e;
    }
    char **hosts = split(text_of(c, "client-cert-allowed-hostname"));
    struct tls_config tc = *base;
    tc.cert_file = t->client_cert;
    tc.key_file = t->client_key;
    tc.ca_file = text_of(c, "trusted-ca-file");
    tc.crl_file = text_of(c, "client-crl-file");
    tc.client_auth = bool_of(c, "client-cert-auth");
    tc.allowed_hosts = (const char *const *)hosts;
    tc.rejected = "rejected connection on client endpoint";
    static const char about_certs[] = "scheme is http or unix while key and cert files are present; ignoring key and cert files";
    static const char about_auth[] = "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL";
    warn_ignored(c, c->listen_client, is_set(t->client_cert), tc.client_auth, about_certs, about_auth);
    warn_ignored(c, http, is_set(t->client_cert), tc.client_auth, about_certs, about_auth);
    if (any_secure(c->listen_client, true) || any_secure(http, true)) {
        e = tls_create(&tc, &t->client, ec);
    }
    if (e == OK && any_secure(metrics, true)) {
        tc.check_address = true;
        e = tls_create(&tc, &t->metrics, ec);
    }
    free_list(hosts);
    return e;
}

/* --- public ------------------------------------------------------------------------------------------------------------------------ */

enum err server_tls_open(struct config *c, struct server_tls *out, struct err_ctx *ec)
{
    struct tls_config base = {.log = c->log};
    *out = (struct server_tls){
        .client_cert = xstrdup(text_of(c, "cert-file")),
        .client_key = xstrdup(text_of(c, "key-file")),
        .peer_cert = xstrdup(text_of(c, "peer-cert-file")),
        .peer_key = xstrdup(text_of(c, "peer-key-file")),
    };
    enum err e = versions(&c->flags, &base.min, &base.max, ec);
    if (e == OK) {
        e = open_ciphers(c, out, ec);
        base.ciphers = out->ciphers;
    }
    if (e == OK) {
        e = open_peer(c, out, &base, ec);
    }
    if (e == OK) {
        e = open_client(c, out, &base, ec);
    }
    return e;
}

void server_tls_close(struct server_tls *t)
{
    tls_destroy(&t->client);
    tls_destroy(&t->metrics);
    tls_destroy(&t->peer);
    free_list(t->peer_names);
    free_list(t->peer_hosts);
    free(t->ciphers);
    free(t->client_cert);
    free(t->client_key);
    free(t->peer_cert);
    free(t->peer_key);
    *t = (struct server_tls){0};
}
