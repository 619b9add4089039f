/* gateway_tcp.c - see gateway_tcp.h.
 *
 * A pair is a client and the connection to its endpoint. All read into one buffer, and what was read is written at once; reading stops while what
 * the other side did not take is being written, so that a slow side holds the other back, memory stays flat, and an idle pair holds no buffer. Whichever side ends first ends the pair, as in etcd.
 */
#include "tools/pintle/gateway_tcp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "tools/pintle/flags.h"
#include "tools/pintle/sd_notify.h"
#include "tools/pintle/srv_clients.h"

#define ENDPOINTS_MAX 1024u
#define PAIRS_MAX 32768u           /* clients at a time; more are closed at once */
#define BUFFER_BYTES (32u * 1024u) /* of one read, and at most of what waits in each direction */
#define BACKLOG 1024
#define NS_PER_MS 1000000
#define ADDRESS_BYTES (INET6_ADDRSTRLEN + 16u)

struct gateway;

struct endpoint {
    char *text; /* owned; host:port */
    char *host; /* owned */
    char *port; /* owned */
    uint16_t priority, weight; /* of its SRV record; 0 without one */
    bool inactive;
    bool dialling; /* the monitor tries it */
};

struct gateway {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_timer_t monitor;
    struct logger *log;
    struct endpoint endpoints[ENDPOINTS_MAX];
    size_t n_endpoints;
    size_t next;
    size_t n_pairs;
    char buffer[BUFFER_BYTES]; /* what was read last */
    const char *listen;
    int64_t retry_ns;
    char retry_text[32];
};

/* One attempt to reach an endpoint: names to addresses, then the addresses in turn. */
struct dial {
    struct gateway *gateway;
    struct endpoint *endpoint;
    uv_getaddrinfo_t lookup;
    uv_connect_t connect;
    uv_tcp_t *tcp; /* owned until handed over */
    struct addrinfo *found; /* owned */
    struct addrinfo *at;
    char address[ADDRESS_BYTES];
    void (*done)(struct dial *d, int status); /* on success it takes d->tcp */
    void *arg;
};

struct pair;
struct direction {
    struct pair *pair;
    uv_stream_t *from, *to;
    uv_write_t write;
    char *rest; /* owned; what `to` has not taken yet */
};
struct pair {
    struct gateway *gateway;
    uv_tcp_t *client, *server; /* owned; server NULL: not yet */
    size_t tried;              /* endpoints */
    bool closing;
    int n_open; /* handles and the dial that still use this */
    struct direction up, down;
};

/* --- dialling -------------------------------------------------------------------------------------------------- */

static void free_handle(uv_handle_t *h)
{
    free(h);
}

static void dial_next(struct dial *d, int status);

static void dial_end(struct dial *d, int status)
{
    if (d->found != NULL) {
        uv_freeaddrinfo(d->found);
    }
    if (status != 0 && d->tcp != NULL) {
        uv_close((uv_handle_t *)d->tcp, free_handle);
        d->tcp = NULL;
    }
    d->done(d, status);
    free(d);
}

static void on_connected(uv_connect_t *c, int status)
{
    struct dial *d = c->data;
    if (status == 0) {
        dial_end(d, 0);
        return;
    }
    uv_close((uv_handle_t *)d->tcp, free_handle);
    d->tcp = NULL;
    d->at = d->at->ai_next;
    dial_next(d, status);
}

/* `status` is why the address before this failed. */
static void dial_next(struct dial *d, int status)
{
    while (d->at != NULL) {
        char ip[INET6_ADDRSTRLEN] = "";
        (void)uv_ip_name(d->at->ai_addr, ip, sizeof(ip));
        (void)snprintf(d->address, sizeof(d->address), d->at->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", ip, d->endpoint->port);
        d->tcp = xcalloc(1, sizeof(*d->tcp));
        ASSERT(uv_tcp_init(&d->gateway->loop, d->tcp) == 0);
        d->connect.data = d;
        status = uv_tcp_connect(&d->connect, d->tcp, d->at->ai_addr, on_connected);
        if (status == 0) {
            return;
        }
        uv_close((uv_handle_t *)d->tcp, free_handle);
        d->tcp = NULL;
        d->at = d->at->ai_next;
    }
    dial_end(d, status);
}

static void on_resolved(uv_getaddrinfo_t *r, int status, struct addrinfo *found)
{
    struct dial *d = r->data;
    d->found = found;
    d->at = found;
    dial_next(d, status != 0 ? status : UV_EAI_NONAME);
}

static void dial_start(struct gateway *g, struct endpoint *e, void (*done)(struct dial *, int), void *arg)
{
    struct dial *d = xcalloc(1, sizeof(*d));
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    d->gateway = g;
    d->endpoint = e;
    d->done = done;
    d->arg = arg;
    d->lookup.data = d;
    (void)snprintf(d->address, sizeof(d->address), "%s", "");
    int rc = uv_getaddrinfo(&g->loop, &d->lookup, on_resolved, e->host, e->port, &hints);
    if (rc != 0) {
        dial_end(d, rc);
    }
}

/* As Go tells of it. */
static char *dial_story(const struct dial *d, int status)
{
    const char *where = d->address[0] != '\0' ? d->address : d->endpoint->text;
    return xasprintf("dial tcp %s: connect: %s", where, uv_strerror(status));
}

/* --- pairs -------------------------------------------------------------------------------------------------------- */

static void release(struct pair *p)
{
    if (--p->n_open == 0) {
        p->gateway->n_pairs--;
        free(p->up.rest);
        free(p->down.rest);
        free(p);
    }
}

static void on_pair_handle_closed(uv_handle_t *h)
{
    struct pair *p = h->data;
    free(h);
    release(p);
}

static void close_pair(struct pair *p)
{
    if (p->closing) {
        return;
    }
    p->closing = true;
    uv_close((uv_handle_t *)p->client, on_pair_handle_closed);
    if (p->server != NULL) {
        uv_close((uv_handle_t *)p->server, on_pair_handle_closed);
    }
}

static void on_room(uv_handle_t *h, size_t hint, uv_buf_t *out)
{
    const struct pair *p = h->data;
    (void)hint;
    *out = uv_buf_init(p->gateway->buffer, BUFFER_BYTES);
}

static void on_bytes(uv_stream_t *s, ssize_t n, const uv_buf_t *buf);

static void on_written(uv_write_t *w, int status)
{
    struct direction *d = w->data;
    if (d->pair->closing) {
        return;
    }
    free(d->rest);
    d->rest = NULL;
    if (status != 0 || uv_read_start(d->from, on_room, on_bytes) != 0) {
        close_pair(d->pair);
    }
}

static void on_bytes(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct pair *p = s->data;
    struct direction *d = (uv_tcp_t *)s == p->client ? &p->up : &p->down;
    if (n == 0) {
        return;
    }
    if (n < 0) {
        close_pair(p);
        return;
    }
    uv_buf_t out = uv_buf_init(buf->base, (unsigned)n);
    int rc = uv_try_write(d->to, &out, 1); /* an error shows in the write below */
    size_t taken = rc > 0 ? (size_t)rc : 0;
    if (taken == (size_t)n) {
        return;
    }
    (void)uv_read_stop(s); /* always 0 */
    d->rest = xalloc((size_t)n - taken);
    memcpy(d->rest, buf->base + taken, (size_t)n - taken);
    out = uv_buf_init(d->rest, (unsigned)((size_t)n - taken));
    d->write.data = d;
    if (uv_write(&d->write, d->to, &out, 1, on_written) != 0) {
        close_pair(p);
    }
}

static void try_next(struct pair *p);

static void on_pair_dialled(struct dial *d, int status)
{
    struct pair *p = d->arg;
    struct gateway *g = p->gateway;
    if (status != 0) {
        char *story = dial_story(d, status);
        d->endpoint->inactive = true;
        log_warn(g->log, "deactivated endpoint", F_STR("address", d->endpoint->text), F_STR("interval", g->retry_text), F_STR("error", story));
        free(story);
        try_next(p);
        release(p);
        return;
    }
    p->server = d->tcp; /* whose hold on the pair the dial leaves to it */
    p->server->data = p;
    p->up = (struct direction){.pair = p, .from = (uv_stream_t *)p->client, .to = (uv_stream_t *)p->server};
    p->down = (struct direction){.pair = p, .from = (uv_stream_t *)p->server, .to = (uv_stream_t *)p->client};
    if (uv_read_start(p->up.from, on_room, on_bytes) != 0 || uv_read_start(p->down.from, on_room, on_bytes) != 0) {
        close_pair(p);
    }
}

static bool is_choice(const struct endpoint *e, uint16_t priority, bool weighted)
{
    return !e->inactive && e->priority == priority && (e->weight > 0) == weighted;
}

/* Among the active endpoints of the best priority: by chance, as much as each weighs, and where none weighs anything in turn. NULL: there is none. */
static struct endpoint *pick(struct gateway *g)
{
    uint32_t sum = 0;
    int32_t best = INT32_MAX;
    for (size_t i = 0; i < g->n_endpoints; i++) {
        const struct endpoint *e = &g->endpoints[i];
        best = !e->inactive && e->priority < best ? e->priority : best;
    }
    for (size_t i = 0; i < g->n_endpoints; i++) {
        sum += is_choice(&g->endpoints[i], (uint16_t)best, true) ? g->endpoints[i].weight : 0;
    }
    uint32_t at = 0;
    ssize_t got = getrandom(&at, sizeof(at), 0); /* cannot fail for so few bytes; 0 would do as well */
    at = got == (ssize_t)sizeof(at) && sum > 0 ? at % sum : 0;
    for (size_t i = 0; best != INT32_MAX && i < g->n_endpoints; i++) {
        struct endpoint *e = &g->endpoints[sum > 0 ? i : g->next++ % g->n_endpoints];
        if (!is_choice(e, (uint16_t)best, sum > 0)) {
            continue;
        }
        if (sum == 0 || at < e->weight) {
            return e;
        }
        at -= e->weight;
    }
    return NULL;
}

static void try_next(struct pair *p)
{
    struct endpoint *e = p->tried++ < p->gateway->n_endpoints ? pick(p->gateway) : NULL;
    if (e == NULL) {
        close_pair(p);
        return;
    }
    p->n_open++;
    dial_start(p->gateway, e, on_pair_dialled, p);
}

static void on_client(uv_stream_t *listener, int status)
{
    struct gateway *g = listener->data;
    if (status != 0) {
        return;
    }
    uv_tcp_t *client = xcalloc(1, sizeof(*client));
    ASSERT(uv_tcp_init(&g->loop, client) == 0);
    if (uv_accept(listener, (uv_stream_t *)client) != 0 || g->n_pairs == PAIRS_MAX) {
        uv_close((uv_handle_t *)client, free_handle);
        return;
    }
    struct pair *p = xcalloc(1, sizeof(*p));
    p->gateway = g;
    p->client = client;
    p->n_open = 1;
    client->data = p;
    g->n_pairs++;
    try_next(p);
}

/* --- endpoints that were left out ----------------------------------------------------------------------------------- */

static void on_monitor_dialled(struct dial *d, int status)
{
    struct gateway *g = d->gateway;
    d->endpoint->dialling = false;
    if (status == 0) {
        d->endpoint->inactive = false;
        log_info(g->log, "activated", F_STR("address", d->endpoint->text));
        uv_close((uv_handle_t *)d->tcp, free_handle);
        return;
    }
    char *story = dial_story(d, status);
    log_warn(g->log, "failed to activate endpoint (stay inactive for another interval)", F_STR("address", d->endpoint->text),
             F_STR("interval", g->retry_text), F_STR("error", story));
    free(story);
}

static void on_monitor(uv_timer_t *t)
{
    struct gateway *g = t->data;
    for (size_t i = 0; i < g->n_endpoints; i++) {
        struct endpoint *e = &g->endpoints[i];
        if (e->inactive && !e->dialling) {
            e->dialling = true;
            dial_start(g, e, on_monitor_dialled, NULL);
        }
    }
}

/* --- the start ------------------------------------------------------------------------------------------------------ */

static void print_usage(FILE *to)
{
    (void)fputs("Usage:\n  pintle gateway start [flags]\n\nFlags:\n"
                "      --listen-addr string           listen address (default \"127.0.0.1:23790\")\n"
                "      --endpoints strings            comma separated servers (default [127.0.0.1:2379])\n"
                "      --retry-delay duration         pause before a server that failed is tried again (default 1m0s)\n"
                "      --discovery-srv string         DNS domain whose SRV records name the servers\n"
                "      --discovery-srv-name string    suffix of the service's name there\n"
                "      --insecure-discovery           take servers without TLS, or whose certificate is not the domain's\n"
                "      --trusted-ca-file string       authorities of those certificates\n"
                "  -h, --help                         this help\n",
                to);
}

struct options {
    const char *listen, *endpoints;
    struct srv_wanted srv;
    int64_t retry_ns;
    bool start; /* the word was there; flags may stand before it */
};

static int bad(const char *text)
{
    (void)fprintf(stderr, "Error: %s\n", text);
    print_usage(stderr);
    return 1;
}

/* One flag with its value; -1: fine. */
static int take(struct options *o, const char *name, const char *value)
{
    char text[256];
    if (strcmp(name, "listen-addr") == 0) {
        o->listen = value;
    } else if (strcmp(name, "endpoints") == 0) {
        o->endpoints = value;
    } else if (strcmp(name, "retry-delay") == 0) {
        if (go_duration_parse(value, &o->retry_ns) != OK) {
            (void)snprintf(text, sizeof(text), "invalid argument \"%s\" for \"--retry-delay\" flag: time: invalid duration \"%s\"", value, value);
            return bad(text);
        }
    } else if (strcmp(name, "discovery-srv") == 0) {
        o->srv.domain = value;
    } else if (strcmp(name, "discovery-srv-name") == 0) {
        o->srv.name = value;
    } else if (strcmp(name, "trusted-ca-file") == 0) {
        o->srv.ca_file = value;
    } else if (!flag_bool_parse(value, &o->srv.insecure)) { /* insecure-discovery is the last of the names */
        (void)snprintf(text, sizeof(text), "invalid argument \"%s\" for \"--insecure-discovery\" flag: strconv.ParseBool: parsing \"%s\": invalid syntax",
                       value, value);
        return bad(text);
    }
    return -1;
}

static int parse(struct options *o, int argc, char **argv)
{
    static const char *const names[] = {"listen-addr", "endpoints", "retry-delay", "discovery-srv", "discovery-srv-name", "trusted-ca-file",
                                        "insecure-discovery"};
    for (int i = 2; i < argc; i++) {
        const char *word = argv[i];
        char text[256];
        if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
            print_usage(stdout);
            return 0;
        }
        if (word[0] == '-' && word[1] != '-' && word[1] != '\0') {
            (void)snprintf(text, sizeof(text), "unknown shorthand flag: '%c' in %s", word[1], word);
            return bad(text);
        }
        if (strncmp(word, "--", 2) != 0 || word[2] == '\0') {
            o->start = o->start || strcmp(word, "start") == 0;
            continue; /* others are stray words */
        }
        size_t len = strcspn(word + 2, "=");
        const char *name = NULL;
        for (size_t k = 0; k < ARRAY_LEN(names); k++) {
            name = strlen(names[k]) == len && strncmp(names[k], word + 2, len) == 0 ? names[k] : name;
        }
        if (name == NULL) {
            (void)snprintf(text, sizeof(text), "unknown flag: --%.*s", (int)(len > 200 ? 200 : len), word + 2);
            return bad(text);
        }
        bool boolean = strcmp(name, "insecure-discovery") == 0;
        const char *value = word[2 + len] == '=' ? word + 3 + len : boolean ? "true" : i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL) {
            (void)snprintf(text, sizeof(text), "flag needs an argument: --%s", name);
            return bad(text);
        }
        int status = take(o, name, value);
        if (status >= 0) {
            return status;
        }
    }
    return -1;
}

/* "host:port", "[host]:port" into two owned texts. */
static bool split(const char *text, char **host, char **port)
{
    const char *colon = strrchr(text, ':');
    bool v6 = text[0] == '[';
    if (colon == NULL || (v6 && (colon == text || colon[-1] != ']')) || (!v6 && strchr(text, ':') != colon)) {
        return false;
    }
    *host = v6 ? xstrndup(text + 1, (size_t)(colon - text) - 2) : xstrndup(text, (size_t)(colon - text));
    *port = xstrdup(colon + 1);
    return true;
}

/* Nobody is forwarded to ourselves. False after saying why on standard output, as etcd does. */
static bool check_endpoint(const struct gateway *g, const struct endpoint *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(e->host, NULL, &hints, &found) != 0) {
        printf("failed to resolve endpoint host: %s\n", e->host);
        return false;
    }
    bool fine = true;
    for (const struct addrinfo *a = found; a != NULL && fine; a = a->ai_next) {
        char ip[INET6_ADDRSTRLEN] = "";
        (void)uv_ip_name(a->ai_addr, ip, sizeof(ip));
        char *address = xasprintf(a->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", ip, e->port);
        fine = strcmp(address, g->listen) != 0;
        if (!fine) {
            printf("SRV or endpoint (%s->%s) should not resolve to the gateway listen addr (%s)\n", e->text, address, g->listen);
        }
        free(address);
    }
    freeaddrinfo(found);
    return fine;
}

/* One of "[scheme://]host:port". */
static bool take_endpoint(struct gateway *g, const char *item, const struct srv_record *record)
{
    if (g->n_endpoints == ENDPOINTS_MAX) {
        printf("more than %u endpoints\n", ENDPOINTS_MAX);
        return false;
    }
    struct endpoint *e = &g->endpoints[g->n_endpoints++];
    const char *scheme = strstr(item, "://");
    e->text = xstrdup(scheme == NULL ? item : scheme + 3);
    e->priority = record != NULL ? record->priority : 0;
    e->weight = record != NULL ? record->weight : 0;
    if (!split(e->text, &e->host, &e->port)) {
        printf("error parsing endpoint \"%s\"\n", e->text);
        return false;
    }
    return check_endpoint(g, e);
}

/* What the name servers say, or else what the flag says. */
static bool take_endpoints(struct gateway *g, const struct options *o)
{
    struct srv_endpoints found = {0};
    struct err_ctx ec = {{0}};
    bool fine = srv_clients_find(&o->srv, g->log, &found, &ec) == OK;
    if (!fine) {
        (void)fprintf(stderr, "%s\n", ec.text);
    }
    for (size_t i = 0; fine && i < found.records.n; i++) {
        fine = take_endpoint(g, found.texts[i], &found.records.records[i]);
    }
    for (const char *p = o->endpoints; fine && found.records.n == 0 && p != NULL;) {
        size_t len = strcspn(p, ",");
        char *item = xstrndup(p, len);
        fine = take_endpoint(g, item, NULL);
        free(item);
        p = p[len] == ',' ? p + len + 1 : NULL;
    }
    srv_endpoints_deinit(&found);
    return fine;
}

static bool bind_listener(struct gateway *g)
{
    char *host = NULL;
    char *port = NULL;
    if (!split(g->listen, &host, &port)) {
        printf("failed to validate listen address: %s\n", g->listen);
        return false;
    }
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host[0] == '\0' ? NULL : host, port, &hints, &found);
    const char *why = rc != 0 ? gai_strerror(rc) : NULL;
    ASSERT(uv_tcp_init(&g->loop, &g->listener) == 0);
    g->listener.data = g;
    if (rc == 0 && ((rc = uv_tcp_bind(&g->listener, found->ai_addr, 0)) != 0 || (rc = uv_listen((uv_stream_t *)&g->listener, BACKLOG, on_client)) != 0)) {
        why = uv_strerror(rc);
    }
    if (found != NULL) {
        freeaddrinfo(found);
    }
    if (why != NULL) {
        (void)fprintf(stderr, "listen tcp %s: %s\n", g->listen, why);
    }
    free(host);
    free(port);
    return why == NULL;
}

static void log_ready(struct gateway *g)
{
    const char **texts = xcalloc(g->n_endpoints + 1, sizeof(*texts));
    for (size_t i = 0; i < g->n_endpoints; i++) {
        texts[i] = g->endpoints[i].text;
    }
    log_info(g->log, "ready to proxy client requests", F_STRS("endpoints", texts));
    free(texts);
}

static void destroy(struct gateway *g)
{
    for (size_t i = 0; i < g->n_endpoints; i++) {
        free(g->endpoints[i].text);
        free(g->endpoints[i].host);
        free(g->endpoints[i].port);
    }
    log_destroy(&g->log);
    free(g);
}

/* Until the end: a signal. */
static void serve(struct gateway *g)
{
    uint64_t retry_ms = g->retry_ns <= NS_PER_MS ? 1 : (uint64_t)(g->retry_ns / NS_PER_MS);
    ASSERT(uv_timer_init(&g->loop, &g->monitor) == 0);
    g->monitor.data = g;
    ASSERT(uv_timer_start(&g->monitor, on_monitor, retry_ms, retry_ms) == 0);
    sd_notify_ready(g->log);
    log_ready(g);
    (void)uv_run(&g->loop, UV_RUN_DEFAULT); /* the listener never closes */
}

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    uv_close(h, NULL); /* of listener and timer alone: clients come in only while serve runs, and that ends with the process */
}

int gateway_main(int argc, char **argv)
{
    struct options o = {
        .listen = "127.0.0.1:23790", .endpoints = "127.0.0.1:2379", .srv = {.domain = "", .name = ""}, .retry_ns = INT64_C(60000000000)};
    int status = parse(&o, argc, argv);
    if (status >= 0) {
        return status;
    }
    if (!o.start) {
        print_usage(stdout);
        return 0;
    }
    struct gateway *g = xcalloc(1, sizeof(*g));
    g->log = log_create(STDERR_FILENO, LOG_INFO, LOG_JSON, clock_real());
    g->listen = o.listen;
    g->retry_ns = o.retry_ns;
    go_duration_format(o.retry_ns, g->retry_text, sizeof(g->retry_text));
    log_info(g->log, "Running: ", F_STRS("args", (const char *const *)argv));
    (void)signal(SIGPIPE, SIG_IGN);
    if (take_endpoints(g, &o)) {
        ASSERT(uv_loop_init(&g->loop) == 0);
        if (bind_listener(g)) {
            serve(g);
        }
        uv_walk(&g->loop, close_handle, NULL);
        (void)uv_run(&g->loop, UV_RUN_DEFAULT); /* to the end of what was closed */
        (void)uv_loop_close(&g->loop);
    }
    destroy(g);
    return 1;
}
