/* grpc_proxy_http.c - see grpc_proxy_http.h. */
#include "tools/pintle/grpc_proxy_http.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/assert.h"
#include "base/mem.h"

#define FETCHES_MAX 8u                     /* of /metrics at a time; more: 503 */
#define FETCH_BYTES_MAX (64u * 1024u * 1024u) /* of a page; a longer one is cut off and refused */
#define FETCH_MS 30000L

static const char plain_text[] = "text/plain; charset=utf-8";

static void fail(struct http_exchange *x, int status, const char *text)
{
    http_respond(x, status, plain_text, "X-Content-Type-Options: nosniff\r\n", slice_str(text));
}

/* --- /metrics ---------------------------------------------------------------------------------------------------- */

struct fetch {
    uv_work_t work;
    struct proxy_pages *pages;
    struct http_exchange *exchange;
    char *url;         /* owned */
    struct bytes body; /* owned */
    bool fine;
};

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct fetch *f = arg;
    if (f->body.len + size * n > FETCH_BYTES_MAX) {
        return 0;
    }
    bytes_add(&f->body, data, size * n);
    return size * n;
}

static void on_fetch(uv_work_t *w)
{
    struct fetch *f = w->data;
    const struct proxy_pages *p = f->pages;
    CURL *c = curl_easy_init();
    ASSERT(c != NULL);
    (void)curl_easy_setopt(c, CURLOPT_URL, f->url);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, FETCH_MS);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
    if (p->ca[0] != '\0' && p->cert[0] != '\0' && p->key[0] != '\0') {
        (void)curl_easy_setopt(c, CURLOPT_CAINFO, p->ca);
        (void)curl_easy_setopt(c, CURLOPT_SSLCERT, p->cert);
        (void)curl_easy_setopt(c, CURLOPT_SSLKEY, p->key);
    } else if (p->skip_verify) {
        (void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    f->fine = curl_easy_perform(c) == CURLE_OK;
    curl_easy_cleanup(c);
}

static void on_fetched(uv_work_t *w, int status)
{
    struct fetch *f = w->data;
    (void)status; /* nobody cancels it */
    if (f->fine) {
        http_respond(f->exchange, 200, "text/plain; version=0.0.4", NULL, bytes_slice(&f->body));
    } else {
        fail(f->exchange, 500, "Internal server error\n");
    }
    f->pages->n_fetches--;
    bytes_deinit(&f->body);
    free(f->url);
    free(f);
}

static void metrics_of_server(struct proxy_pages *p, struct http_exchange *x)
{
    if (p->n_fetches >= FETCHES_MAX) {
        fail(x, 503, "too many requests\n");
        return;
    }
    struct fetch *f = xcalloc(1, sizeof(*f));
    bool has_scheme = strncmp(p->endpoint, "http", 4) == 0;
    const char *scheme = has_scheme ? "" : http_exchange_is_secure(x) ? "https://" : "http://";
    f->pages = p;
    f->exchange = x;
    f->url = xasprintf("%s%s/metrics", scheme, p->endpoint);
    f->work.data = f;
    p->n_fetches++;
    ASSERT(uv_queue_work(loop_uv(http_exchange_loop(x)), &f->work, on_fetch, on_fetched) == 0);
}

/* --- health ------------------------------------------------------------------------------------------------------- */

struct probe {
    struct proxy_pages *pages;
    struct http_exchange *exchange;
};

static void add_json(struct bytes *b, const char *text)
{
    for (; *text != '\0'; text++) {
        uint8_t c = (uint8_t)*text;
        if (c == '"' || c == '\\') {
            bytes_printf(b, "\\%c", c);
        } else if (c < 0x20 || c == '<' || c == '>' || c == '&') {
            bytes_printf(b, "\\u%04x", c); /* as Go writes them */
        } else {
            bytes_add(b, &c, 1);
        }
    }
}

static void on_health(void *arg, const char *reason)
{
    struct probe *probe = arg;
    struct proxy_pages *p = probe->pages;
    struct bytes b = {0};
    bool healthy = reason[0] == '\0';
    bytes_printf(&b, "{\"health\":\"%s\",\"reason\":\"", healthy ? "true" : "false");
    add_json(&b, reason);
    bytes_add_str(&b, "\"}");
    counter_add(healthy ? p->success : p->failures, 1);
    if (healthy) {
        http_respond(probe->exchange, 200, plain_text, NULL, bytes_slice(&b));
    } else {
        bytes_add(&b, "", 1);
        log_warn(p->log, "/health error", F_STR("output", (const char *)b.data), F_INT("status-code", 503));
        b.data[b.len - 1] = '\n';
        http_respond(probe->exchange, 503, plain_text, "X-Content-Type-Options: nosniff\r\n", bytes_slice(&b));
    }
    bytes_deinit(&b);
    free(probe);
}

static void health(struct proxy_pages *p, struct http_exchange *x, const struct http_request *r, bool through_proxy)
{
    if (strcmp(r->method, "GET") != 0) {
        http_respond(x, 405, plain_text, "Allow: GET\r\nX-Content-Type-Options: nosniff\r\n", slice_str("Method Not Allowed\n"));
        log_warn(p->log, "/health error", F_INT("status-code", 405));
        return;
    }
    struct probe *probe = xcalloc(1, sizeof(*probe));
    probe->pages = p;
    probe->exchange = x;
    proxy_check(p->proxy, through_proxy, on_health, probe);
}

/* --- all ------------------------------------------------------------------------------------------------------------ */

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct proxy_pages *p = arg;
    if (strcmp(r->path, "/metrics") == 0) {
        metrics_of_server(p, x);
    } else if (strcmp(r->path, "/health") == 0) {
        health(p, x, r, false);
    } else if (strcmp(r->path, "/proxy/health") == 0) {
        health(p, x, r, true);
    } else if (strcmp(r->path, "/proxy/metrics") == 0) {
        struct bytes b = {0};
        metrics_render(p->metrics, &b);
        http_respond(x, 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", NULL, bytes_slice(&b));
        bytes_deinit(&b);
    } else {
        fail(x, 404, "404 page not found\n");
    }
}

struct http_handler proxy_pages_handler(struct proxy_pages *pages)
{
    pages->success = metrics_counter(pages->metrics, "etcd_server_health_success", "The total number of successful health checks", NULL);
    pages->failures = metrics_counter(pages->metrics, "etcd_server_health_failures", "The total number of failed health checks", NULL);
    return (struct http_handler){.handle = handle, .arg = pages};
}
