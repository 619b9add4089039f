/* server.c - the method table, and the calls of each loop on top of api/http. */
#include <pthread.h>
#include <stdlib.h>

#include "api/grpc/call.h"
#include "api/http/server.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

struct grpc_server {
    struct grpc_server_config cfg;
    struct http_server *http;    /* owned */
    struct metrics *own_metrics; /* owned; when the configuration has none */
    struct method_row *rows; /* owned; open addressing by hash of the path, method NULL: empty */
    size_t rows_mask;
    struct counter *received_bytes;
    struct counter *sent_bytes;
    pthread_mutex_t lock;    /* guards homes while loops attach */
    struct call_home *homes; /* owned */
};

/* --- methods
 * ---------------------------------------------------------------------------------------- */

struct method_row *server_find(struct grpc_server *s, struct slice path)
{
    uint64_t hash = hash64(path.data, path.len);
    for (size_t i = hash & s->rows_mask; s->rows[i].method != NULL; i = (i + 1) & s->rows_mask) {
        struct method_row *r = &s->rows[i];
        if (r->hash == hash && r->path_len == path.len &&
            memcmp(r->method->path, path.data, path.len) == 0) {
            return r;
        }
    }
    return NULL;
}

bool server_knows_service(const struct grpc_server *s, struct slice service)
{
    for (size_t i = 0; i <= s->rows_mask; i++) {
        const struct method_row *r = &s->rows[i];
        if (r->method != NULL && r->path_len > service.len + 2 &&
            r->method->path[service.len + 1] == '/' &&
            memcmp(r->method->path + 1, service.data, service.len) == 0) {
            return true;
        }
    }
    return false;
}

static const char *kind_label(enum grpc_kind kind)
{
    switch (kind) {
    case GRPC_UNARY:
        return "unary";
    case GRPC_CLIENT_STREAM:
        return "client_stream";
    case GRPC_SERVER_STREAM:
        return "server_stream";
    case GRPC_BIDI:
        return "bidi_stream";
    }
    UNREACHABLE();
}

/* The families and label order of go-grpc-prometheus. */
static void row_counters(struct metrics *m, struct method_row *r, bool seconds)
{
    static const double bounds[] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10};
    const char *path = r->method->path;
    const char *slash = strrchr(path, '/');
    char *labels = xasprintf("grpc_method=\"%s\",grpc_service=\"%.*s\",grpc_type=\"%s\"", slash + 1,
                             (int)(slash - path - 1), path + 1, kind_label(r->method->kind));
    r->started = metrics_counter(m, "grpc_server_started_total",
                                 "Total number of RPCs started on the server.", labels);
    r->received =
        metrics_counter(m, "grpc_server_msg_received_total",
                        "Total number of RPC stream messages received on the server.", labels);
    r->sent = metrics_counter(m, "grpc_server_msg_sent_total",
                              "Total number of gRPC stream messages sent by the server.", labels);
    for (unsigned i = 0; i < GRPC_CODE_N; i++) {
        char *with_code =
            xasprintf("grpc_code=\"%s\",%s", grpc_code_name((enum grpc_code)i), labels);
        r->handled[i] = metrics_counter(
            m, "grpc_server_handled_total",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            with_code);
        free(with_code);
    }
    if (seconds) {
        r->seconds = metrics_histogram_of(m, "grpc_server_handling_seconds",
                                          "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
                                          labels, bounds, ARRAY_LEN(bounds));
    }
    free(labels);
}

static void add_row(struct grpc_server *s, struct metrics *m, const struct grpc_method *method)
{
    const char *slash = strrchr(method->path, '/');
    ASSERT(method->path[0] == '/' && slash > method->path && method->message != NULL);
    struct slice path = slice_str(method->path);
    ASSERT(server_find(s, path) == NULL);
    uint64_t hash = hash64(path.data, path.len);
    size_t i = hash & s->rows_mask;
    while (s->rows[i].method != NULL) {
        i = (i + 1) & s->rows_mask;
    }
    s->rows[i] = (struct method_row){.method = method, .hash = hash, .path_len = path.len};
    row_counters(m, &s->rows[i], s->cfg.handling_seconds);
}

static void build_rows(struct grpc_server *s, struct metrics *m)
{
    size_t n = 0;
    for (size_t t = 0; s->cfg.tables[t] != NULL; t++) {
        for (const struct grpc_method *r = s->cfg.tables[t]; r->path != NULL; r++) {
            n++;
        }
    }
    size_t size = 16;
    while (size < n * 4) {
        size *= 2;
    }
    s->rows = xcalloc(size, sizeof(*s->rows));
    s->rows_mask = size - 1;
    for (size_t t = 0; s->cfg.tables[t] != NULL; t++) {
        for (const struct grpc_method *r = s->cfg.tables[t]; r->path != NULL; r++) {
            add_row(s, m, r);
        }
    }
}

/* --- the transport's handler
 * ------------------------------------------------------------------------ */

static struct grpc_call *call_of(struct h2_stream *s)
{
    return CONTAINER_OF(s, struct grpc_call, stream);
}

static void *on_attach(void *arg, struct loop *l)
{
    struct grpc_server *s = arg;
    struct call_home *h = xcalloc(1, sizeof(*h));
    h->loop = l;
    h->server = s;
    call_slow_attach(h);
    (void)pthread_mutex_lock(&s->lock);
    h->next = s->homes;
    s->homes = h;
    (void)pthread_mutex_unlock(&s->lock);
    return h;
}

static bool on_turn_end(void *loop_state)
{
    struct call_home *h = loop_state;
    if (h->received_bytes > 0) {
        counter_add(h->server->received_bytes, h->received_bytes);
        h->received_bytes = 0;
    }
    if (h->sent_bytes > 0) {
        counter_add(h->server->sent_bytes, h->sent_bytes);
        h->sent_bytes = 0;
    }
    bool drained = call_run_drains(h);
    return local_run(h) || drained;
}

/* Calls whose references outlive the loop free themselves; the home waits for grpc_server_destroy.
 */
static void on_detach(void *loop_state)
{
    struct call_home *h = loop_state;
    (void)on_turn_end(h);
    h->detached = true;
    local_detach(h);
    call_slow_detach(h);
    call_pool_free(h);
}

static struct h2_stream *on_open(void *loop_state)
{
    return &call_open(loop_state)->stream;
}

static void on_header(struct h2_stream *s, struct slice name, struct slice value)
{
    call_header(call_of(s), name, value);
}

static void on_request(struct h2_stream *s)
{
    call_request(call_of(s));
}

static void on_data(struct h2_stream *s, struct slice piece)
{
    call_data(call_of(s), piece);
}

static void on_half_closed(struct h2_stream *s)
{
    call_half_closed(call_of(s));
}

static int64_t on_pull(struct h2_stream *s, uint8_t *dst, size_t room, bool *last)
{
    return call_pull(call_of(s), dst, room, last);
}

static void on_closed(struct h2_stream *s, uint32_t error_code)
{
    (void)error_code;
    call_closed(call_of(s));
}

static void on_draining(struct h2_stream *s)
{
    call_draining(call_of(s));
}

static const struct h2_handler handler = {
    .attach = on_attach,
    .detach = on_detach,
    .open = on_open,
    .header = on_header,
    .request = on_request,
    .data = on_data,
    .half_closed = on_half_closed,
    .pull = on_pull,
    .closed = on_closed,
    .draining = on_draining,
    .turn_end = on_turn_end,
};

/* --- public
 * ----------------------------------------------------------------------------------------- */

struct call_home *server_home(struct grpc_server *s, const struct loop *l)
{
    (void)pthread_mutex_lock(&s->lock);
    struct call_home *h = s->homes;
    while (h != NULL && h->loop != l) {
        h = h->next;
    }
    (void)pthread_mutex_unlock(&s->lock);
    return h;
}

const struct grpc_server_config *server_config(const struct grpc_server *s)
{
    return &s->cfg;
}

bool server_admit(struct grpc_call *c)
{
    const struct grpc_server_config *cfg = &c->home->server->cfg;
    if (cfg->admit == NULL || cfg->admit(cfg->admit_arg, c)) {
        return true;
    }
    ASSERT(c->finished); /* who refuses a call has answered it */
    return false;
}

void grpc_http_config(struct grpc_server *s, struct http_config *out)
{
    const struct grpc_limits *l = &s->cfg.limits;
    *out = (struct http_config){
        .h2 = &handler,
        .h2_arg = s,
        .http = s->cfg.http,
        .connections_max = s->cfg.connections_max,
        .streams_max = l->concurrent_streams_max,
        .keepalive_min_ms = l->keepalive_min_ms,
        .keepalive_interval_ms = l->keepalive_interval_ms,
        .keepalive_timeout_ms = l->keepalive_timeout_ms,
    };
}

struct grpc_server *grpc_server_create(const struct grpc_server_config *cfg)
{
    struct grpc_server *s = xcalloc(1, sizeof(*s));
    s->cfg = *cfg;
    ASSERT(pthread_mutex_init(&s->lock, NULL) == 0);
    struct metrics *m = cfg->metrics;
    if (m == NULL) {
        s->own_metrics = metrics_create();
        m = s->own_metrics;
    }
    s->received_bytes =
        metrics_counter(m, "etcd_network_client_grpc_received_bytes_total",
                        "The total number of bytes received from grpc clients.", NULL);
    s->sent_bytes = metrics_counter(m, "etcd_network_client_grpc_sent_bytes_total",
                                    "The total number of bytes sent to grpc clients.", NULL);
    build_rows(s, m);
    struct http_config http;
    grpc_http_config(s, &http);
    s->http = http_server_create(&http);
    return s;
}

void grpc_server_destroy(struct grpc_server **sp)
{
    struct grpc_server *s = *sp;
    if (s == NULL) {
        return;
    }
    *sp = NULL;
    http_server_destroy(&s->http);
    while (s->homes != NULL) {
        struct call_home *h = s->homes;
        s->homes = h->next;
        call_pool_free(h);
        free(h);
    }
    metrics_destroy(&s->own_metrics);
    (void)pthread_mutex_destroy(&s->lock);
    free(s->rows);
    free(s);
}

enum err grpc_server_bind(struct grpc_server *s, const char *host, const char *port,
                          struct err_ctx *ec)
{
    return http_server_bind(s->http, host, port, ec);
}

enum err grpc_server_bind_unix(struct grpc_server *s, const char *path, struct err_ctx *ec)
{
    return http_server_bind_unix(s->http, path, ec);
}

void grpc_server_secure(struct grpc_server *s, struct tls *tls, bool plain)
{
    http_server_secure(s->http, tls, plain);
}

uint16_t grpc_server_port(const struct grpc_server *s, unsigned i)
{
    return http_server_port(s->http, i);
}

void grpc_server_serve(struct grpc_server *s, struct loop *const *loops, unsigned n_loops)
{
    http_server_serve(s->http, loops, n_loops);
}

void grpc_server_shutdown(struct grpc_server *s, uint64_t grace_ms, void (*done)(void *arg),
                          void *arg)
{
    http_server_shutdown(s->http, grace_ms, done, arg);
}
