/* grpc_proxy.c - see grpc_proxy.h. As with etcd there is no way down: a signal ends the process, and clients find another proxy. */
#include "tools/pintle/grpc_proxy.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/http/server.h"
#include "api/proxy/proxy.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "tools/pintle/grpc_proxy_flags.h"
#include "tools/pintle/grpc_proxy_http.h"
#include "tools/pintle/sd_notify.h"
#include "tools/pintle/self_signed.h"
#include "tools/pintle/server.h"
#include "tools/pintle/srv_clients.h"

#define RECV_BYTES_MAX (4u * 1024u * 1024u) /* of a client's request, grpc-go's default, as with etcd's proxy */
#define HOST_NAME_BYTES 256u
#define YEARS_MAX 100
#define NS_PER_MS 1000000
#define LOOK_MS 1000u /* how often connections are looked at for signs of life, if at all */

struct grpc_proxy {
    struct proxy_options o;
    struct logger *log;
    struct metrics *metrics;
    struct loop *loop;
    struct tls *tls; /* NULL: plain */
    struct client_options upstream;
    struct srv_endpoints found;
    const char *const *endpoints; /* NULL-terminated; of `found` or `o` */
    size_t n_endpoints;
    struct proxy *proxy;
    struct grpc_server *server;
    struct http_server *metrics_server; /* NULL: none */
    struct proxy_pages pages;
    char host_name[HOST_NAME_BYTES];
    char *cert, *key; /* that clients are shown; NULL: none */
};

static bool is_set(const char *text)
{
    return text[0] != '\0';
}

_Noreturn static void die(const char *text)
{
    (void)fprintf(stderr, "%s\n", text);
    exit(1);
}

static uint64_t ms_of(int64_t ns)
{
    return ns <= 0 ? 0 : ns < NS_PER_MS ? 1 : (uint64_t)(ns / NS_PER_MS);
}

/* --- what is checked before anything happens --------------------------------------------------------------------- */

static enum tls_version version_of(const char *flag, const char *text)
{
    if (is_set(text) && strcmp(text, "TLS1.2") != 0 && strcmp(text, "TLS1.3") != 0) {
        (void)fprintf(stderr, "%s is invalid: unexpected TLS version \"%s\" (must be one of: TLS1.2, TLS1.3)\n", flag, text);
        exit(1);
    }
    return !is_set(text) ? TLS_ANY : strcmp(text, "TLS1.2") == 0 ? TLS_1_2 : TLS_1_3;
}

static void check(const struct proxy_options *o)
{
    if (is_set(o->resolver_prefix) && o->resolver_ttl < 1) {
        (void)fprintf(stderr, "invalid resolver-ttl %" PRId64 "\n", o->resolver_ttl);
        exit(1);
    }
    if (!is_set(o->resolver_prefix) && o->resolver_ttl > 0) {
        die("invalid resolver-prefix \"\"");
    }
    if (is_set(o->resolver_prefix) && !is_set(o->advertise)) {
        die("invalid advertise-client-url \"\"");
    }
    if (o->resolver_ttl > UINT32_MAX) {
        die("resolver-ttl is too large");
    }
    if (o->auto_tls && o->years == 0) {
        die("selfSignedCertValidity is invalid,it should be greater than 0");
    }
    enum tls_version min = version_of("tls-min-version", o->tls_min);
    enum tls_version max = version_of("tls-max-version", o->tls_max);
    if (max != TLS_ANY && min > max) {
        (void)fprintf(stderr, "min version (%s) is greater than max version (%s)\n", o->tls_min, o->tls_max);
        exit(1);
    }
    if (min == TLS_1_3 && o->ciphers.n > 0) {
        die("cipher suites cannot be configured when only TLS1.3 is enabled");
    }
    if (is_set(o->leasing_prefix)) {
        die("--experimental-leasing-prefix is not supported by this version");
    }
}

/* A certificate with a name would make every client of ours that user. */
static void check_nameless(const char *file)
{
    FILE *f = fopen(file, "re");
    X509 *cert = f == NULL ? NULL : PEM_read_X509(f, NULL, NULL, NULL);
    if (f != NULL) {
        (void)fclose(f);
    }
    if (cert == NULL) {
        (void)fprintf(stderr, "%s holds no certificate that can be read\n", file);
        exit(1);
    }
    char name[256] = "";
    (void)X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof(name));
    X509_free(cert);
    if (is_set(name)) {
        (void)fprintf(stderr, "cert has non empty Common Name (%s): %s\n", name, file);
        exit(1);
    }
}

/* --- towards clients ------------------------------------------------------------------------------------------------ */

static void make_certificate(struct grpc_proxy *g)
{
    char *url = xasprintf("https://%s", g->o.listen);
    char *const hosts[] = {url, NULL};
    const struct self_signed s = {.hosts = hosts, .years = (uint32_t)(g->o.years > YEARS_MAX ? YEARS_MAX : g->o.years)};
    char *dir = xasprintf("%s/fixtures/proxy", g->o.data_dir);
    struct err_ctx ec = {{0}};
    bool made = false;
    if (mkdir(g->o.data_dir, 0700) != 0 && errno != EEXIST) {
        (void)fprintf(stderr, "mkdir %s: %s\n", g->o.data_dir, strerror(errno));
        exit(1);
    }
    if (self_signed_make(g->o.data_dir, dir, &s, &made, &ec) != OK) {
        die(ec.text);
    }
    g->cert = xasprintf("%s/cert.pem", dir);
    g->key = xasprintf("%s/key.pem", dir);
    free(dir);
    free(url);
}

static void open_tls(struct grpc_proxy *g)
{
    const struct proxy_options *o = &g->o;
    struct err_ctx ec = {{0}};
    if (is_set(o->listen_cert) || is_set(o->listen_key) || is_set(o->listen_ca)) {
        g->cert = xstrdup(o->listen_cert);
        g->key = xstrdup(o->listen_key);
    } else if (o->auto_tls) {
        make_certificate(g);
    } else {
        return;
    }
    char *ciphers = NULL;
    if (o->ciphers.n > 0 && tls_ciphers((const char *const *)o->ciphers.words, &ciphers, &ec) != OK) {
        die(ec.text);
    }
    const struct tls_config tc = {
        .cert_file = g->cert,
        .key_file = g->key,
        .ca_file = is_set(o->listen_ca) ? o->listen_ca : NULL,
        .crl_file = is_set(o->listen_crl) ? o->listen_crl : NULL,
        .min = version_of("tls-min-version", o->tls_min),
        .max = version_of("tls-max-version", o->tls_max),
        .ciphers = ciphers,
        .log = g->log,
        .rejected = "rejected connection on client endpoint",
    };
    char *info = xasprintf("cert = %s, key = %s, client-cert=, client-key=, trusted-ca = %s, client-cert-auth = false, crl-file = %s", g->cert, g->key,
                           o->listen_ca, o->listen_crl);
    log_info(g->log, "gRPC proxy server TLS", F_STR("tls-info", info));
    free(info);
    if (!is_set(g->cert) || !is_set(g->key)) {
        log_fatal(g->log, "failed to create TLS listener", F_STR("error", "KeyFile and CertFile must both be present"));
        exit(1);
    }
    if (tls_create(&tc, &g->tls, &ec) != OK) {
        log_fatal(g->log, "failed to create TLS listener", F_STR("error", ec.text));
        exit(1);
    }
    free(ciphers);
}

/* "host:port" into two owned texts; ends the process when it is none. */
static void split(const char *address, char **host, char **port)
{
    const char *colon = strrchr(address, ':');
    bool v6 = address[0] == '[';
    if (colon == NULL || (v6 && (colon == address || colon[-1] != ']'))) {
        (void)fprintf(stderr, "listen tcp: address %s: missing port in address\n", address);
        exit(1);
    }
    *host = v6 ? xstrndup(address + 1, (size_t)(colon - address) - 2) : xstrndup(address, (size_t)(colon - address));
    *port = xstrdup(colon + 1);
}

static void listen_for_clients(struct grpc_proxy *g)
{
    char *host = NULL;
    char *port = NULL;
    struct err_ctx ec = {{0}};
    split(g->o.listen, &host, &port);
    grpc_server_secure(g->server, g->tls, g->tls == NULL);
    if (grpc_server_bind(g->server, host, port, &ec) != OK) {
        die(ec.text);
    }
    log_info(g->log, "listening for gRPC proxy client requests", F_STR("address", g->o.listen));
    free(host);
    free(port);
}

static void listen_for_metrics(struct grpc_proxy *g)
{
    const char *url = g->o.metrics;
    const char *address = strstr(url, "://");
    char *host = NULL;
    char *port = NULL;
    struct err_ctx ec = {{0}};
    if (!is_set(url)) {
        return;
    }
    if (address == NULL) {
        (void)fprintf(stderr, "cannot parse \"%s\"", url);
        exit(1);
    }
    bool secure = strncmp(url, "https:", 6) == 0;
    if (secure && g->tls == NULL) {
        (void)fprintf(stderr, "cannot listen on TLS for %s: KeyFile and CertFile are not presented\n", address + 3);
        exit(1);
    }
    const struct http_config hc = {.http = proxy_pages_handler(&g->pages), .connections_max = server_connections_max()};
    g->metrics_server = http_server_create(&hc);
    http_server_secure(g->metrics_server, secure ? g->tls : NULL, !secure);
    char *bare = xstrndup(address + 3, strcspn(address + 3, "/"));
    split(bare, &host, &port);
    if (http_server_bind(g->metrics_server, host, port, &ec) != OK) {
        die(ec.text);
    }
    log_info(g->log, "gRPC proxy listening for metrics", F_STR("address", url));
    free(bare);
    free(host);
    free(port);
}

/* --- towards the cluster ---------------------------------------------------------------------------------------------- */

/* On a worker. */
static enum err dial(void *arg, const char *endpoint, uint32_t timeout_ms, struct client **out, struct err_ctx *ec)
{
    const struct grpc_proxy *g = arg;
    return client_connect_with(endpoint, &g->upstream, timeout_ms, out, ec);
}

static const char *text_or_null(const char *text)
{
    return is_set(text) ? text : NULL;
}

static void choose_upstream(struct grpc_proxy *g)
{
    const struct proxy_options *o = &g->o;
    uint64_t keepalive = ms_of(o->dial_keepalive_ns);
    uint64_t timeout = ms_of(o->dial_keepalive_timeout_ns);
    bool tls = is_set(o->ca) || is_set(o->cert) || is_set(o->key);
    g->upstream = (struct client_options){
        .secure = tls || o->skip_verify,
        .tls = {.ca_file = text_or_null(o->ca), .cert_file = text_or_null(o->cert), .key_file = text_or_null(o->key), .insecure_skip_verify = o->skip_verify},
        .keepalive_ms = keepalive == 0 ? 0 : keepalive < CLIENT_KEEPALIVE_MIN_MS ? CLIENT_KEEPALIVE_MIN_MS : keepalive > UINT32_MAX ? UINT32_MAX : (uint32_t)keepalive,
        .keepalive_timeout_ms = timeout > UINT32_MAX ? UINT32_MAX : (uint32_t)timeout,
    };
    if (is_set(o->cert)) {
        check_nameless(o->cert);
    }
    if (is_set(o->cert) != is_set(o->key)) {
        (void)fprintf(stderr, "KeyFile and CertFile must both be present[key: %s, cert: %s]\n", o->key, o->cert);
        exit(1);
    }
    if (o->skip_verify) {
        log_msg(g->log, LOG_WARN,
                "--insecure-skip-tls-verify was given, this grpc proxy process skips authentication of etcd server TLS certificates. "
                "This option should be enabled only for testing purposes.");
    }
    if (g->upstream.secure) {
        char *info = xasprintf("cert = %s, key = %s, client-cert=, client-key=, trusted-ca = %s, client-cert-auth = false, crl-file = ", o->cert, o->key, o->ca);
        log_info(g->log, "gRPC proxy client TLS", F_STR("tls-info", info));
        free(info);
    }
}

/* --endpoints, or what the name servers say. */
static void find_endpoints(struct grpc_proxy *g)
{
    const struct proxy_options *o = &g->o;
    const struct srv_wanted wanted = {.domain = o->discovery_srv, .name = o->discovery_srv_name, .ca_file = o->ca, .insecure = o->insecure_discovery};
    struct err_ctx ec = {{0}};
    if (srv_clients_find(&wanted, g->log, &g->found, &ec) != OK) {
        die(ec.text);
    }
    g->endpoints = (const char *const *)(g->found.texts != NULL && g->found.texts[0] != NULL ? g->found.texts : g->o.endpoints.words);
    while (g->endpoints[g->n_endpoints] != NULL) {
        g->n_endpoints++;
    }
    if (g->n_endpoints == 0) {
        die("etcdclient: no available endpoints");
    }
}

/* One of them, for /metrics; as etcd any of them, chosen at start. */
static const char *some_endpoint(const struct grpc_proxy *g)
{
    return g->endpoints[clock_now_ns(clock_real()) % g->n_endpoints];
}

static void create_proxy(struct grpc_proxy *g)
{
    const struct proxy_options *o = &g->o;
    const struct proxy_config pc = {
        .loop = g->loop,
        .log = g->log,
        .metrics = g->metrics,
        .dial = dial,
        .dial_arg = g,
        .look_ms = g->upstream.keepalive_ms > 0 ? LOOK_MS : 0,
        .endpoints = g->endpoints,
        .n_endpoints = g->n_endpoints,
        .sync_interval_ms = ms_of(o->sync_ns),
        .name_space = o->name_space,
        .advertise_url = o->advertise,
        .resolver_prefix = o->resolver_prefix,
        .host_name = g->host_name,
        .resolver_ttl_s = (uint32_t)o->resolver_ttl,
        .send_bytes_max = o->send_bytes_max > 0 ? (uint64_t)o->send_bytes_max : 2u * 1024u * 1024u,
        .recv_bytes_max = o->recv_bytes_max > 0 ? (uint64_t)o->recv_bytes_max : INT32_MAX,
        .ordering = o->ordering,
    };
    g->proxy = proxy_create(&pc);
    g->pages = (struct proxy_pages){
        .proxy = g->proxy,
        .metrics = g->metrics,
        .log = g->log,
        .endpoint = some_endpoint(g),
        .ca = o->ca,
        .cert = o->cert,
        .key = o->key,
        .skip_verify = o->skip_verify,
    };
    const struct grpc_server_config gc = {
        .limits =
            {
                .recv_bytes_max = RECV_BYTES_MAX,
                .concurrent_streams_max = (uint32_t)o->streams_max,
                .keepalive_min_ms = ms_of(o->min_ns),
                .keepalive_interval_ms = ms_of(o->interval_ns),
                .keepalive_timeout_ms = ms_of(o->timeout_ns),
            },
        .tables = proxy_tables(g->proxy),
        .http = proxy_pages_handler(&g->pages),
        .metrics = g->metrics,
        .connections_max = server_connections_max(),
        .admit = proxy_admit,
        .admit_arg = g->proxy,
        .ended = o->log_calls ? proxy_log_call : NULL,
    };
    g->server = grpc_server_create(&gc);
}

static void serve(struct grpc_proxy *g)
{
    grpc_server_serve(g->server, &g->loop, 1);
    if (g->metrics_server != NULL) {
        http_server_serve(g->metrics_server, &g->loop, 1);
        log_msg(g->log, LOG_INFO, "gRPC proxy server metrics URL serving");
    }
    proxy_start(g->proxy, g->server);
    log_info(g->log, "started gRPC proxy", F_STR("address", g->o.listen));
    sd_notify_ready(g->log);
    loop_run(g->loop);
}

int grpc_proxy_main(int argc, char **argv)
{
    struct grpc_proxy *g = xcalloc(1, sizeof(*g));
    int status = proxy_options_parse(&g->o, argc, argv);
    if (status < 0 && !g->o.start) {
        proxy_options_usage();
        status = 0;
    }
    if (status >= 0) {
        proxy_options_deinit(&g->o);
        free(g);
        return status;
    }
    check(&g->o);
    (void)signal(SIGPIPE, SIG_IGN);
    g->log = log_create(STDERR_FILENO, g->o.debug ? LOG_DEBUG : LOG_INFO, LOG_JSON, clock_real());
    log_info(g->log, "Running: ", F_STRS("args", (const char *const *)argv));
    if (gethostname(g->host_name, sizeof(g->host_name) - 1) != 0) {
        g->host_name[0] = '\0';
    }
    if (g->o.pprof) {
        log_msg(g->log, LOG_WARN, "--enable-pprof has no effect: there is no Go runtime to profile");
    }
    g->metrics = metrics_create();
    g->loop = loop_create(0);
    open_tls(g);
    choose_upstream(g);
    find_endpoints(g);
    create_proxy(g);
    listen_for_clients(g);
    listen_for_metrics(g);
    serve(g);
    return 1;
}
