/* listen.c - from URLs to listeners, and who says what on them. See server.h.
 *
 * URLs that mean the same address share one socket; when one of them is https and another http, each connection's first byte decides.
 */
#include <stdlib.h>
#include <string.h>

#include "api/http/server.h"
#include "base/assert.h"
#include "base/mem.h"
#include "tools/pintle/server.h"

struct target {
    struct server *server;
    struct http_server *http; /* NULL: the clients' or the members' */
    struct tls *tls;
    bool peers;
    bool host_only; /* a unix socket is what stands where a host would, as in etcd for all but clients */
};

static bool is_unix(const char *url)
{
    return strncmp(url, "unix", 4) == 0;
}

static const char *address_of(const char *url)
{
    return strstr(url, "://") + 3;
}

static bool same_address(const char *a, const char *b)
{
    return is_unix(a) == is_unix(b) && strcmp(address_of(a), address_of(b)) == 0;
}

static enum err bind_tcp(const struct target *t, const char *host, const char *port, struct err_ctx *ec)
{
    struct server *s = t->server;
    return t->http != NULL ? http_server_bind(t->http, host, port, ec)
           : t->peers      ? peer_transport_bind(s->peers, host, port, ec)
                           : grpc_server_bind(s->grpc, host, port, ec);
}

static enum err bind_path(const struct target *t, const char *path, struct err_ctx *ec)
{
    struct server *s = t->server;
    return t->http != NULL ? http_server_bind_unix(t->http, path, ec)
           : t->peers      ? peer_transport_bind_unix(s->peers, path, ec)
                           : grpc_server_bind_unix(s->grpc, path, ec);
}

/* What the next listener speaks. */
static void secure(const struct target *t, bool tls, bool plain)
{
    struct tls *with = tls ? t->tls : NULL;
    if (t->http != NULL) {
        http_server_secure(t->http, with, plain);
    } else if (t->peers) {
        peer_transport_secure(t->server->peers, with, plain);
    } else {
        grpc_server_secure(t->server->grpc, with, plain);
    }
}

static enum err bind_url(const struct target *t, const char *url, struct err_ctx *ec)
{
    const char *address = address_of(url);
    enum err e;
    if (is_unix(url)) {
        char *path = t->host_only ? xstrndup(address, strcspn(address, "/")) : xstrdup(address);
        e = bind_path(t, path, ec);
        free(path);
        return e;
    }
    const char *colon = strrchr(address, ':');
    bool v6 = address[0] == '[';
    char *host = xstrndup(address + (v6 ? 1 : 0), (size_t)(colon - address) - (v6 ? 2u : 0u));
    e = bind_tcp(t, host, colon + 1, ec);
    free(host);
    return e;
}

static void bind_urls(const struct target *t, char *const *urls)
{
    struct err_ctx ec = {{0}};
    for (char *const *u = urls; u != NULL && *u != NULL; u++) {
        bool again = false;
        for (char *const *before = urls; before < u; before++) {
            /* Port 0 is another one each time. */
            again = again || (same_address(*before, *u) && strcmp(*u + strlen(*u) - 2, ":0") != 0);
        }
        if (again) {
            continue;
        }
        bool tls = url_is_secure(*u);
        bool plain = !tls;
        for (char *const *other = urls; *other != NULL; other++) {
            bool same = same_address(*other, *u) && strcmp(*u + strlen(*u) - 2, ":0") != 0;
            tls = tls || (same && url_is_secure(*other));
            plain = plain || (same && !url_is_secure(*other));
        }
        ASSERT(!tls || t->tls != NULL);
        secure(t, tls, plain);
        enum err e = bind_url(t, *u, &ec);
        if (e != OK) {
            server_die(t->server, e, ec.text);
        }
    }
}

/* --- metrics alone ------------------------------------------------------------------------------------------------ */

static bool is_for_metrics(const char *path)
{
    static const char *const trees[] = {"/livez", "/readyz"};
    for (size_t i = 0; i < ARRAY_LEN(trees); i++) {
        size_t n = strlen(trees[i]);
        if (strncmp(path, trees[i], n) == 0 && (path[n] == '\0' || path[n] == '/')) {
            return true;
        }
    }
    return strcmp(path, "/metrics") == 0 || strcmp(path, "/health") == 0;
}

static void on_metrics_request(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct server *s = arg;
    if (is_for_metrics(r->path)) {
        struct http_handler all = etcd_server_http(s->etcd);
        all.handle(all.arg, x, r);
        return;
    }
    http_respond(x, 404, "text/plain; charset=utf-8", "X-Content-Type-Options: nosniff\r\n", slice_str("404 page not found\n"));
}

/* --- binding ---------------------------------------------------------------------------------------------------------- */

static void check_split(struct server *s, char *const *grpc, char *const *http)
{
    for (; *http != NULL; http++) {
        for (char *const *g = grpc; *g != NULL; g++) {
            if (same_address(*g, *http) && strcmp(*g + strlen(*g) - 2, ":0") != 0) {
                char *text = xasprintf("cannot bind both --listen-client-urls and --listen-client-http-urls on the same url %s", *http);
                server_die(s, ERR_INVALID, text);
            }
        }
    }
}

static void bind_http(struct server *s)
{
    char *const *urls = flag_get(&s->config.flags, "listen-client-http-urls")->urls;
    if (!server_splits_http(s)) {
        return;
    }
    check_split(s, s->config.listen_client, urls);
    const struct http_config hc = {.http = etcd_server_http(s->etcd), .connections_max = server_connections_max()};
    s->http = http_server_create(&hc);
    const struct target t = {.server = s, .http = s->http, .tls = s->tls.client};
    bind_urls(&t, urls);
}

static void bind_metrics(struct server *s)
{
    char *const *urls = flag_get(&s->config.flags, "listen-metrics-urls")->urls;
    if (urls == NULL || urls[0] == NULL) {
        return;
    }
    const struct http_config hc = {.http = {.handle = on_metrics_request, .arg = s}, .connections_max = server_connections_max()};
    s->metrics_http = http_server_create(&hc);
    const struct target t = {.server = s, .http = s->metrics_http, .tls = s->tls.metrics, .host_only = true};
    bind_urls(&t, urls);
}

bool server_splits_http(const struct server *s)
{
    char *const *urls = flag_get((struct flag_set *)(uintptr_t)&s->config.flags, "listen-client-http-urls")->urls;
    return urls != NULL && urls[0] != NULL;
}

void server_bind(struct server *s)
{
    struct config *c = &s->config;
    log_info(c->log, "configuring peer listeners", F_STRS("listen-peer-urls", (const char *const *)c->listen_peer));
    const struct target peers = {.server = s, .tls = s->tls.peer, .peers = true, .host_only = true};
    bind_urls(&peers, c->listen_peer);
    log_info(c->log, "configuring client listeners", F_STRS("listen-client-urls", (const char *const *)c->listen_client));
    const struct target clients = {.server = s, .tls = s->tls.client};
    bind_urls(&clients, c->listen_client);
    bind_http(s);
    bind_metrics(s);
}

/* --- serving ------------------------------------------------------------------------------------------------------------ */

static void tell_serving(struct server *s, char *const *urls, const char *traffic)
{
    for (; *urls != NULL; urls++) {
        log_info(s->config.log,
                 url_is_secure(*urls) ? "serving client traffic securely" : "serving client traffic insecurely; this is strongly discouraged!",
                 F_STR("traffic", traffic), F_STR("address", address_of(*urls)));
    }
}

void server_serve_clients(struct server *s)
{
    grpc_server_serve(s->grpc, s->loops, s->config.n_loops);
    if (s->http != NULL) {
        http_server_serve(s->http, s->loops, s->config.n_loops);
    }
    log_msg(s->config.log, LOG_INFO, "ready to serve client requests");
    tell_serving(s, s->config.listen_client, s->http != NULL ? "grpc" : "grpc+http");
    if (s->http != NULL) {
        tell_serving(s, flag_get(&s->config.flags, "listen-client-http-urls")->urls, "http");
    }
}

void server_serve_metrics(struct server *s)
{
    if (s->metrics_http == NULL) {
        return;
    }
    http_server_serve(s->metrics_http, s->loops, 1);
    for (char *const *u = flag_get(&s->config.flags, "listen-metrics-urls")->urls; *u != NULL; u++) {
        log_info(s->config.log, "serving metrics", F_STR("address", *u));
    }
}
