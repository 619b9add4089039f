/* config_file.c - see config_file.h.
 *
 * As in etcd all types are checked before any value is: types in the order of the sorted keys, then gates, then URLs.
 */
#include "tools/pintle/config_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "tools/pintle/flag_table.h"
#include "tools/pintle/yaml.h"

#define DECODING "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "

/* What a key wants, as Go calls it. */
enum want { WANT_STRING, WANT_BOOL, WANT_UINT, WANT_UINT32, WANT_UINT64, WANT_INT, WANT_INT64, WANT_DURATION, WANT_V2, WANT_STRINGS };
static const char *const want_names[] = {"string", "bool", "uint", "uint32", "uint64", "int", "int64", "time.Duration", "config.V2DeprecationEnum", "[]string"};

struct decode {
    struct flag_set *flags;
    struct err_ctx *ec;
    /* What is to be set once all types are right; the texts are owned. */
    struct pending {
        const char *flag;
        char *text;
    } *pending;
    size_t n;
};

/* A key inside one of the maps. */
struct inner {
    const char *map;     /* path of the map that it stands in, from the root */
    const char *key;
    enum want want;
    const char *flag;    /* NULL: known to etcd, without effect here */
    const char *go_type; /* of the map */
};

static const struct inner inners[] = {
    {"client-transport-security", "cert-file", WANT_STRING, "cert-file", "securityConfig.configJSON"},
    {"client-transport-security", "key-file", WANT_STRING, "key-file", "securityConfig.configJSON"},
    {"client-transport-security", "client-cert-file", WANT_STRING, "client-cert-file", "securityConfig.configJSON"},
    {"client-transport-security", "client-key-file", WANT_STRING, "client-key-file", "securityConfig.configJSON"},
    {"client-transport-security", "client-cert-auth", WANT_BOOL, "client-cert-auth", "securityConfig.configJSON"},
    {"client-transport-security", "trusted-ca-file", WANT_STRING, "trusted-ca-file", "securityConfig.configJSON"},
    {"client-transport-security", "auto-tls", WANT_BOOL, "auto-tls", "securityConfig.configJSON"},
    {"client-transport-security", "allowed-cn", WANT_STRINGS, NULL, "securityConfig.configJSON"},
    {"client-transport-security", "allowed-hostname", WANT_STRINGS, "client-cert-allowed-hostname", "securityConfig.configJSON"},
    {"client-transport-security", "skip-client-san-verification", WANT_BOOL, NULL, "securityConfig.configJSON"},
    {"peer-transport-security", "cert-file", WANT_STRING, "peer-cert-file", "securityConfig.configJSON"},
    {"peer-transport-security", "key-file", WANT_STRING, "peer-key-file", "securityConfig.configJSON"},
    {"peer-transport-security", "client-cert-file", WANT_STRING, "peer-client-cert-file", "securityConfig.configJSON"},
    {"peer-transport-security", "client-key-file", WANT_STRING, "peer-client-key-file", "securityConfig.configJSON"},
    {"peer-transport-security", "client-cert-auth", WANT_BOOL, "peer-client-cert-auth", "securityConfig.configJSON"},
    {"peer-transport-security", "trusted-ca-file", WANT_STRING, "peer-trusted-ca-file", "securityConfig.configJSON"},
    {"peer-transport-security", "auto-tls", WANT_BOOL, "peer-auto-tls", "securityConfig.configJSON"},
    {"peer-transport-security", "allowed-cn", WANT_STRINGS, "peer-cert-allowed-cn", "securityConfig.configJSON"},
    {"peer-transport-security", "allowed-hostname", WANT_STRINGS, "peer-cert-allowed-hostname", "securityConfig.configJSON"},
    {"peer-transport-security", "skip-client-san-verification", WANT_BOOL, "peer-skip-client-san-verification", "securityConfig.configJSON"},
    {"socket-options", "reuse-port", WANT_BOOL, "socket-reuse-port", "SocketOpts.Config"},
    {"socket-options", "reuse-address", WANT_BOOL, "socket-reuse-address", "SocketOpts.Config"},
    {"discovery-config", "token", WANT_STRING, "discovery-token", "DiscoveryConfig.Config"},
    {"discovery-config.client", "endpoints", WANT_STRINGS, "discovery-endpoints", "ConfigSpec.Config"},
    {"discovery-config.client", "request-timeout", WANT_DURATION, "discovery-request-timeout", "ConfigSpec.Config"},
    {"discovery-config.client", "dial-timeout", WANT_DURATION, "discovery-dial-timeout", "ConfigSpec.Config"},
    {"discovery-config.client", "keepalive-time", WANT_DURATION, "discovery-keepalive-time", "ConfigSpec.Config"},
    {"discovery-config.client", "keepalive-timeout", WANT_DURATION, "discovery-keepalive-timeout", "ConfigSpec.Config"},
    {"discovery-config.client", "max-request-bytes", WANT_INT, NULL, "ConfigSpec.Config"},
    {"discovery-config.client", "max-recv-bytes", WANT_INT, NULL, "ConfigSpec.Config"},
    {"discovery-config.client.secure", "cert", WANT_STRING, "discovery-cert", "SecureConfig.Config"},
    {"discovery-config.client.secure", "key", WANT_STRING, "discovery-key", "SecureConfig.Config"},
    {"discovery-config.client.secure", "cacert", WANT_STRING, "discovery-cacert", "SecureConfig.Config"},
    {"discovery-config.client.secure", "server-name", WANT_STRING, "discovery-config.client.secure.server-name", "SecureConfig.Config"},
    {"discovery-config.client.secure", "insecure-transport", WANT_BOOL, "discovery-insecure-transport", "SecureConfig.Config"},
    {"discovery-config.client.secure", "insecure-skip-tls-verify", WANT_BOOL, "discovery-insecure-skip-tls-verify", "SecureConfig.Config"},
    {"discovery-config.client.auth", "username", WANT_STRING, "discovery-user", "AuthConfig.Config"},
    {"discovery-config.client.auth", "password", WANT_STRING, "discovery-password", "AuthConfig.Config"},
    {"discovery-config.client.auth", "token", WANT_STRING, "discovery-config.client.auth.token", "AuthConfig.Config"},
};

/* The maps themselves. */
static const struct {
    const char *path;
    const char *go_struct;
    const char *go_type;
} maps[] = {
    {"client-transport-security", "configYAML.configJSON", "embed.securityConfig"},
    {"peer-transport-security", "configYAML.configJSON", "embed.securityConfig"},
    {"socket-options", "configYAML.Config", "transport.SocketOpts"},
    {"discovery-config", "configYAML.Config", "v3discovery.DiscoveryConfig"},
    {"discovery-config.client", "DiscoveryConfig.Config", "clientv3.ConfigSpec"},
    {"discovery-config.client.secure", "ConfigSpec.Config", "clientv3.SecureConfig"},
    {"discovery-config.client.auth", "ConfigSpec.Config", "clientv3.AuthConfig"},
};

/* Flags that stand in the maps, or nowhere. */
static bool has_key(const char *flag)
{
    static const char *const without[] = {"raft-read-timeout", "raft-write-timeout", "discovery-fallback", "version", "config-file",
                                          "peer-skip-client-san-verification", "client-crl-file", "peer-crl-file"};
    for (size_t i = 0; i < ARRAY_LEN(without); i++) {
        if (strcmp(without[i], flag) == 0) {
            return false;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(inners); i++) {
        if (inners[i].flag != NULL && strcmp(inners[i].flag, flag) == 0) {
            return false;
        }
    }
    return true;
}

static enum want want_of(const struct flag *f)
{
    static const char *const sixty_four[] = {"snapshot-count", "snapshot-catchup-entries", "quota-backend-bytes"};
    bool wide = false;
    for (size_t i = 0; i < ARRAY_LEN(sixty_four); i++) {
        wide = wide || strcmp(sixty_four[i], f->name) == 0;
    }
    switch (f->type) {
    case FLAG_BOOL:
        return WANT_BOOL;
    case FLAG_UINT:
        return wide ? WANT_UINT64 : WANT_UINT;
    case FLAG_UINT32:
        return WANT_UINT32;
    case FLAG_INT:
        return wide ? WANT_INT64 : WANT_INT;
    case FLAG_DURATION:
        return WANT_DURATION;
    case FLAG_ENUMS:
        return WANT_V2;
    case FLAG_STRING:
    case FLAG_NAMES: {
        bool list = strcmp(f->name, "log-outputs") == 0 || strcmp(f->name, "cipher-suites") == 0;
        return list ? WANT_STRINGS : WANT_STRING;
    }
    case FLAG_URLS:
    case FLAG_ORIGINS:
    case FLAG_ENUM:
    case FLAG_GATES:
    case FLAG_IGNORED:
        break;
    }
    return WANT_STRING;
}

/* Where etcd keeps what a flat key says: what it must look at again stands in a struct of its own. */
static const char *go_struct_of(const struct flag *f)
{
    static const char *const looked_at[] = {"cors", "host-whitelist", "feature-gates"};
    bool again = f->type == FLAG_URLS;
    for (size_t i = 0; i < ARRAY_LEN(looked_at); i++) {
        again = again || strcmp(looked_at[i], f->name) == 0;
    }
    return again ? "configYAML.configJSON" : "configYAML.Config";
}

/* --- types ------------------------------------------------------------------------------------------------------ */

static bool fits(const struct doc_node *v, enum want want)
{
    if (v->kind != DOC_NUMBER || strspn(v->text, "-0123456789") != strlen(v->text)) {
        return false;
    }
    bool negative = v->text[0] == '-';
    errno = 0;
    unsigned long long u = strtoull(v->text + (negative ? 1 : 0), NULL, 10);
    if (errno != 0) {
        return false;
    }
    bool is_signed = want == WANT_INT || want == WANT_INT64 || want == WANT_DURATION;
    if (is_signed) {
        return u <= (unsigned long long)INT64_MAX + (negative ? 1u : 0u);
    }
    return !negative && (want != WANT_UINT32 || u <= UINT32_MAX);
}

static enum err mismatch(const struct decode *d, const struct doc_node *v, const char *go_struct, const char *path, const char *go_type)
{
    bool number = v->kind == DOC_NUMBER && (go_type[0] == 'u' || go_type[0] == 'i' || strncmp(go_type, "time.", 5) == 0);
    return err_set(d->ec, ERR_INVALID, DECODING "%s%s%s into Go struct field %s.%s of type %s", doc_kind_name(v->kind), number ? " " : "",
                   number ? v->text : "", go_struct, path, go_type);
}

static void pend(struct decode *d, const char *flag, char *text)
{
    d->pending = xrealloc(d->pending, (d->n + 1) * sizeof(*d->pending));
    d->pending[d->n++] = (struct pending){flag, text};
}

static enum err take_list(struct decode *d, const struct doc_node *v, const char *go_struct, const char *path, const char *flag)
{
    struct bytes b = {0};
    enum err e = OK;
    for (size_t i = 0; i < v->n && e == OK; i++) {
        if (v->children[i].kind == DOC_STRING) {
            bytes_printf(&b, "%s%s", b.len > 0 ? "," : "", v->children[i].text);
        } else if (v->children[i].kind != DOC_NULL) {
            e = mismatch(d, &v->children[i], go_struct, path, "string");
        }
    }
    if (e == OK && flag != NULL) {
        pend(d, flag, xstrndup(b.len == 0 ? "" : (const char *)b.data, b.len));
    }
    bytes_deinit(&b);
    return e;
}

/* One value of the type that its key wants. */
static enum err take(struct decode *d, const struct doc_node *v, enum want want, const char *go_struct, const char *path, const char *flag)
{
    bool right = false;
    switch (want) {
    case WANT_STRING:
    case WANT_V2:
        right = v->kind == DOC_STRING;
        break;
    case WANT_BOOL:
        right = v->kind == DOC_BOOL;
        break;
    case WANT_UINT:
    case WANT_UINT32:
    case WANT_UINT64:
    case WANT_INT:
    case WANT_INT64:
    case WANT_DURATION:
        right = fits(v, want);
        break;
    case WANT_STRINGS:
        right = v->kind == DOC_LIST;
        break;
    }
    if (!right) {
        return mismatch(d, v, go_struct, path, want_names[(unsigned)want]);
    }
    if (want == WANT_STRINGS) {
        return take_list(d, v, go_struct, path, flag);
    }
    if (flag != NULL) {
        pend(d, flag, want == WANT_DURATION ? xasprintf("%sns", v->text) : xstrdup(v->text));
    }
    return OK;
}

/* --- keys -------------------------------------------------------------------------------------------------------- */

static enum err take_map(struct decode *d, const struct doc_node *v, const char *path, const char *go_struct, const char *go_type);

/* `path` may be that of a map. */
static enum err take_if_map(struct decode *d, const struct doc_node *v, const char *path, bool *found)
{
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        if (strcasecmp(maps[i].path, path) == 0) {
            *found = true;
            return take_map(d, v, maps[i].path, maps[i].go_struct, maps[i].go_type);
        }
    }
    return OK;
}

static enum err take_inner(struct decode *d, const struct doc_node *v, const char *map, const char *key)
{
    char *path = xasprintf("%s.%s", map, key);
    bool found = false;
    enum err e = take_if_map(d, v, path, &found);
    for (size_t i = 0; i < ARRAY_LEN(inners) && !found; i++) {
        if (strcmp(inners[i].map, map) == 0 && strcasecmp(inners[i].key, key) == 0) {
            found = true;
            e = take(d, v, inners[i].want, inners[i].go_type, path, inners[i].flag);
            bool names = strcmp(inners[i].key, "allowed-cn") == 0 && inners[i].flag == NULL && v->n > 0;
            if (e == OK && names) {
                e = err_set(d->ec, ERR_UNSUPPORTED, "%s is not supported by this version", path);
            }
        }
    }
    free(path);
    return e;
}

static enum err take_map(struct decode *d, const struct doc_node *v, const char *path, const char *go_struct, const char *go_type)
{
    enum err e = OK;
    if (v->kind != DOC_MAP) {
        return mismatch(d, v, go_struct, path, go_type);
    }
    for (size_t i = 0; i < v->n && e == OK; i++) {
        e = v->children[i].kind == DOC_NULL ? OK : take_inner(d, &v->children[i], path, v->keys[i]);
    }
    return e;
}

static enum err take_root(struct decode *d, const struct doc_node *v, const char *key)
{
    bool found = false;
    enum err e = take_if_map(d, v, key, &found);
    if (strcasecmp(key, "experimental-snapshot-catch-up-entries") == 0) {
        key = "experimental-snapshot-catchup-entries"; /* the flag has another name than the key */
    }
    for (size_t i = 0; i < d->flags->n && !found; i++) {
        const struct flag *f = &d->flags->flags[i];
        if (strcasecmp(f->name, key) != 0 || f->type == FLAG_IGNORED || !has_key(f->name)) {
            continue;
        }
        found = true;
        e = take(d, v, want_of(f), go_struct_of(f), f->name, f->name);
        if (e != OK && flag_section(f) == NULL) {
            e = OK; /* a key of older versions is unknown to today's etcd, which ignores it whatever it says */
            *d->ec = (struct err_ctx){{0}};
        }
    }
    return e;
}

/* --- values -------------------------------------------------------------------------------------------------------- */

/* URLs come in etcd's order; the text for one of them names another flag there. */
static enum err set_urls(struct decode *d, bool *is_url)
{
    static const char *const order[][2] = {{"listen-peer-urls", "listen-peer-urls"},
                                           {"listen-client-urls", "listen-client-urls"},
                                           {"listen-client-http-urls", "listen-client-http-urls"},
                                           {"initial-advertise-peer-urls", "initial-advertise-peer-urls"},
                                           {"advertise-client-urls", "advertise-peer-urls"},
                                           {"listen-metrics-urls", "listen-metrics-urls"}};
    for (size_t k = 0; k < ARRAY_LEN(order); k++) {
        for (size_t i = 0; i < d->n; i++) {
            struct err_ctx why = {{0}};
            if (strcmp(d->pending[i].flag, order[k][0]) == 0 && flag_set_assign(d->flags, order[k][0], d->pending[i].text, &why) != OK) {
                *is_url = true;
                return err_set(d->ec, ERR_INVALID, "unexpected error setting up %s: %s", order[k][1], why.text);
            }
        }
    }
    return OK;
}

static enum err set_other(struct decode *d, const struct pending *p)
{
    const char *text = p->text;
    if (strcmp(p->flag, "initial-cluster-state") == 0) {
        flag_set_unchecked(d->flags, p->flag, text[0] == '\0' ? "new" : text);
        return OK;
    }
    if (strcmp(p->flag, "v2-deprecation") == 0) {
        flag_set_unchecked(d->flags, p->flag, text); /* whatever it says, there is no v2 store */
        return OK;
    }
    struct err_ctx why = {{0}};
    enum err e = flag_set_assign(d->flags, p->flag, text, &why);
    return e == OK ? OK : err_set(d->ec, e, "%s", why.text);
}

static bool is_type(const struct decode *d, const struct pending *p, enum flag_type type)
{
    for (size_t i = 0; i < d->flags->n; i++) {
        if (strcmp(d->flags->flags[i].name, p->flag) == 0) {
            return d->flags->flags[i].type == type;
        }
    }
    return false;
}

static enum err set_all(struct decode *d, bool *is_url)
{
    enum err e = OK;
    for (size_t i = 0; i < d->n && e == OK; i++) {
        e = is_type(d, &d->pending[i], FLAG_GATES) ? set_other(d, &d->pending[i]) : OK;
    }
    if (e == OK) {
        e = set_urls(d, is_url);
    }
    for (size_t i = 0; i < d->n && e == OK; i++) {
        bool done = is_type(d, &d->pending[i], FLAG_GATES) || is_type(d, &d->pending[i], FLAG_URLS);
        e = done ? OK : set_other(d, &d->pending[i]);
    }
    return e;
}

enum err config_file_apply(struct flag_set *s, struct slice text, bool *is_url, struct err_ctx *ec)
{
    struct decode d = {.flags = s, .ec = ec};
    struct doc_node root = {0};
    *is_url = false;
    enum err e = doc_parse(text, &root, ec);
    if (e != OK) {
        return e;
    }
    if (root.kind != DOC_MAP && root.kind != DOC_NULL) {
        e = err_set(ec, ERR_INVALID, DECODING "%s into Go value of type embed.configYAML", doc_kind_name(root.kind));
    }
    for (size_t i = 0; i < root.n && e == OK; i++) {
        e = root.children[i].kind == DOC_NULL ? OK : take_root(&d, &root.children[i], root.keys[i]);
    }
    if (e == OK) {
        e = set_all(&d, is_url);
    }
    for (size_t i = 0; i < d.n; i++) {
        free(d.pending[i].text);
    }
    free(d.pending);
    doc_deinit(&root);
    return e;
}
