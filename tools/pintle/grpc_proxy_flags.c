/* grpc_proxy_flags.c - see grpc_proxy_flags.h. One table says what there is; defaults go the way of what is given. */
#include "tools/pintle/grpc_proxy_flags.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "tools/pintle/flags.h"

enum kind { TEXT, LIST, BOOL, DURATION, INT, UINT };

struct row {
    const char *name;
    enum kind kind;
    size_t at; /* in struct proxy_options */
    const char *fallback, *help;
};

#define AT(field) offsetof(struct proxy_options, field)

static const struct row rows[] = {
    {"advertise-client-url", TEXT, AT(advertise), "127.0.0.1:23790", "address that clients reach this proxy at, told to them and registered"},
    {"auto-tls", BOOL, AT(auto_tls), "false", "serve TLS with a certificate made here"},
    {"cacert", TEXT, AT(ca), "", "authorities of the servers' certificates"},
    {"cert", TEXT, AT(cert), "", "certificate to show to the servers; it may have no common name"},
    {"cert-file", TEXT, AT(listen_cert), "", "certificate to show to clients"},
    {"client-crl-file", TEXT, AT(listen_crl), "", "revoked client certificates"},
    {"data-dir", TEXT, AT(data_dir), "default.proxy", "where made certificates are kept"},
    {"debug", BOOL, AT(debug), "false", "log debug lines"},
    {"dial-keepalive-time", DURATION, AT(dial_keepalive_ns), "0s", "silence after which a server is asked for a sign of life (0: never)"},
    {"dial-keepalive-timeout", DURATION, AT(dial_keepalive_timeout_ns), "20s", "how long to wait for it"},
    {"discovery-srv", TEXT, AT(discovery_srv), "", "DNS domain whose SRV records name the servers, instead of --endpoints"},
    {"discovery-srv-name", TEXT, AT(discovery_srv_name), "", "suffix of the service's name there"},
    {"enable-pprof", BOOL, AT(pprof), "false", "accepted without effect"},
    {"endpoints", LIST, AT(endpoints), "127.0.0.1:2379", "comma separated servers"},
    {"endpoints-auto-sync-interval", DURATION, AT(sync_ns), "0s", "how often to ask the cluster for its endpoints (0: never)"},
    {"experimental-enable-grpc-logging", BOOL, AT(log_calls), "false", "log every call"},
    {"experimental-leasing-prefix", TEXT, AT(leasing_prefix), "", "not in this version"},
    {"experimental-serializable-ordering", BOOL, AT(ordering), "false", "no read is older than one before it"},
    {"grpc-keepalive-interval", DURATION, AT(interval_ns), "2h0m0s", "silence after which a client is asked for a sign of life (0: never)"},
    {"grpc-keepalive-min-time", DURATION, AT(min_ns), "5s", "clients that ask for one more often are disconnected"},
    {"grpc-keepalive-timeout", DURATION, AT(timeout_ns), "20s", "how long to wait for it"},
    {"insecure-discovery", BOOL, AT(insecure_discovery), "false", "accept servers that TLS does not vouch for"},
    {"insecure-skip-tls-verify", BOOL, AT(skip_verify), "false", "accept any certificate of servers; for tests alone"},
    {"key", TEXT, AT(key), "", "key of --cert"},
    {"key-file", TEXT, AT(listen_key), "", "key of --cert-file"},
    {"listen-addr", TEXT, AT(listen), "127.0.0.1:23790", "listen address"},
    {"listen-cipher-suites", LIST, AT(ciphers), "", "suites of TLS 1.2 for clients, comma separated (empty: the usual)"},
    {"max-concurrent-streams", UINT, AT(streams_max), "4294967295", "calls of one connection at a time"},
    {"max-recv-bytes", INT, AT(recv_bytes_max), "2147483647", "largest answer of a server"},
    {"max-send-bytes", INT, AT(send_bytes_max), "1572864", "largest request to a server"},
    {"metrics-addr", TEXT, AT(metrics), "", "URL of one more listener for /metrics and /health"},
    {"namespace", TEXT, AT(name_space), "", "put before all keys"},
    {"permit-without-stream", BOOL, AT(permit_without_stream), "false", "accepted without effect: only connections with calls are asked"},
    {"resolver-prefix", TEXT, AT(resolver_prefix), "", "register under this key, with the other proxies that use it"},
    {"resolver-ttl", INT, AT(resolver_ttl), "0", "seconds that a registration lives without this proxy"},
    {"self-signed-cert-validity", UINT, AT(years), "1", "years that a made certificate is good for"},
    {"tls-max-version", TEXT, AT(tls_max), "", "TLS1.2 or TLS1.3 for clients (empty: the newest)"},
    {"tls-min-version", TEXT, AT(tls_min), "TLS1.2", "TLS1.2 or TLS1.3 for clients"},
    {"trusted-ca-file", TEXT, AT(listen_ca), "", "authorities of clients' certificates, which they need then"},
};

void proxy_options_usage(void)
{
    static const char *const types[] = {"string", "strings", "", "duration", "int", "uint"};
    printf("Usage:\n  pintle grpc-proxy start [flags]\n\nFlags:\n");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        int n = printf("      --%s %s", r->name, types[r->kind]);
        printf("%*s %s", n < 50 ? 50 - n : 0, "", r->help);
        bool bare = r->fallback[0] == '\0' || strcmp(r->fallback, "false") == 0 || strcmp(r->fallback, "0") == 0 || strcmp(r->fallback, "0s") == 0;
        if (!bare) {
            const char *quote = r->kind == TEXT ? "\"" : "";
            printf(" (default %s%s%s)", quote, r->fallback, quote);
        }
        printf("\n");
    }
    printf("  -h, --help%*s this help\n", 39, "");
}

static int bad(const char *text)
{
    (void)fprintf(stderr, "Error: %s\nRun `pintle grpc-proxy --help` for its flags.\n", text);
    return 1;
}

static void clear(struct proxy_list *l)
{
    while (l->n > 0) {
        free(l->words[--l->n]);
        l->words[l->n] = NULL;
    }
}

static bool add_words(struct proxy_list *l, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        if (l->n == PROXY_LIST_MAX) {
            return false;
        }
        if (len > 0) {
            l->words[l->n++] = xstrndup(text, len);
        }
        text += len + (text[len] == ',');
    }
    return true;
}

static bool parse_number(const char *text, int64_t min, int64_t max, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    long long v = strtoll(text, &end, 0);
    if (text[0] == '\0' || *end != '\0' || errno != 0 || v < min || v > max) {
        return false;
    }
    *out = v;
    return true;
}

/* NULL: fine, else what Go says of such a value. */
static const char *take(struct proxy_options *o, const struct row *r, const char *value, bool given)
{
    void *at = (char *)o + r->at;
    switch (r->kind) {
    case TEXT:
        *(const char **)at = value;
        return NULL;
    case LIST: {
        struct proxy_list *l = at;
        if (given && !l->given) {
            clear(l);
        }
        l->given = given;
        return add_words(l, value) ? NULL : "too many words";
    }
    case BOOL:
        return flag_bool_parse(value, at) ? NULL : "invalid syntax";
    case DURATION:
        return go_duration_parse(value, at) == OK ? NULL : "time: invalid duration";
    case INT:
        return parse_number(value, INT64_MIN, INT64_MAX, at) ? NULL : "invalid syntax";
    case UINT:
        return parse_number(value, 0, UINT32_MAX, at) ? NULL : "invalid syntax";
    }
    return "";
}

static const struct row *find(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (strlen(rows[i].name) == len && strncmp(rows[i].name, name, len) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

/* argv[*i] is "--name..." and may have its value behind it. */
static int take_flag(struct proxy_options *o, int argc, char **argv, int *i)
{
    const char *word = argv[*i] + 2;
    size_t len = strcspn(word, "=");
    const struct row *r = find(word, len);
    char text[512];
    if (r == NULL) {
        (void)snprintf(text, sizeof(text), "unknown flag: --%.*s", (int)(len > 200 ? 200 : len), word);
        return bad(text);
    }
    const char *value = word[len] == '=' ? word + len + 1 : r->kind == BOOL ? "true" : *i + 1 < argc ? argv[++*i] : NULL;
    if (value == NULL) {
        (void)snprintf(text, sizeof(text), "flag needs an argument: --%s", r->name);
        return bad(text);
    }
    const char *why = take(o, r, value, true);
    if (why != NULL) {
        (void)snprintf(text, sizeof(text), "invalid argument \"%.200s\" for \"--%s\" flag: %s", value, r->name, why);
        return bad(text);
    }
    return -1;
}

int proxy_options_parse(struct proxy_options *o, int argc, char **argv)
{
    memset(o, 0, sizeof(*o));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void)take(o, &rows[i], rows[i].fallback, false); /* the table's own are fine */
    }
    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
            proxy_options_usage();
            return 0;
        }
        if (word[0] == '-' && word[1] != '-' && word[1] != '\0') {
            char text[256];
            (void)snprintf(text, sizeof(text), "unknown shorthand flag: '%c' in %.200s", word[1], word);
            return bad(text);
        }
        if (strncmp(word, "--", 2) != 0 || word[2] == '\0') {
            o->start = o->start || strcmp(word, "start") == 0;
            continue;
        }
        int status = take_flag(o, argc, argv, &i);
        if (status >= 0) {
            return status;
        }
    }
    return -1;
}

void proxy_options_deinit(struct proxy_options *o)
{
    clear(&o->endpoints);
    clear(&o->ciphers);
}
