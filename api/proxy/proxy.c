/* proxy.c - the proxy's parts, its table of methods, and where its endpoints come from. */
#include "api/proxy/proxy.h"

#include <stdlib.h>

#include "api/proxy/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

#define NS_PER_MS 1000000u

enum { LIST_MEMBERS = 2 };                             /* of MemberListResponse */
enum { MEMBER_NAME = 2, MEMBER_CLIENT_URLS = 4, MEMBER_IS_LEARNER = 5 }; /* of Member */

static const struct route *const all_routes[] = {kv_routes, watch_routes, lease_routes, cluster_routes, plain_routes};

static void build_methods(struct proxy *p)
{
    size_t n = 0;
    for (size_t t = 0; t < ARRAY_LEN(all_routes); t++) {
        for (const struct route *r = all_routes[t]; r->path != NULL; r++) {
            n++;
        }
    }
    p->methods = xcalloc(n + 1, sizeof(*p->methods));
    p->routes = xcalloc(n, sizeof(*p->routes));
    n = 0;
    for (size_t t = 0; t < ARRAY_LEN(all_routes); t++) {
        for (const struct route *r = all_routes[t]; r->path != NULL; r++, n++) {
            p->routes[n] = (struct route_of){.proxy = p, .route = r};
            p->methods[n] = (struct grpc_method){
                .path = r->path,
                .kind = r->kind,
                .message = r->message != NULL ? r->message : forward_message,
                .started = r->started,
                .half_closed = r->half_closed,
                .ended = r->message != NULL ? r->ended : forward_ended,
                .service = &p->routes[n],
            };
        }
    }
    p->tables[0] = p->methods;
}

static void create_metrics(struct proxy *p)
{
    struct metrics *m = p->cfg.metrics;
    p->cache_keys = metrics_gauge(m, "etcd_grpc_proxy_cache_keys_total", "Total number of keys/ranges cached", NULL);
    p->cache_hits = metrics_gauge(m, "etcd_grpc_proxy_cache_hits_total", "Total number of cache hits", NULL);
    p->cache_misses = metrics_gauge(m, "etcd_grpc_proxy_cache_misses_total", "Total number of cache misses", NULL);
    p->watchers_coalescing =
        metrics_gauge(m, "etcd_grpc_proxy_watchers_coalescing_total", "Total number of current watchers coalescing", NULL);
    p->events_coalescing = metrics_counter(m, "etcd_grpc_proxy_events_coalescing_total", "Total number of events coalescing", NULL);
}

/* --- endpoints from the cluster --------------------------------------------------------------------------------- */

struct found {
    char *urls[PROXY_ENDPOINTS_MAX]; /* owned */
    size_t n;
};

static bool is_votes(struct slice member)
{
    struct wire_field f;
    bool named = false;
    bool learner = false;
    while (wire_next(&member, &f) == OK) {
        named = named || (f.number == MEMBER_NAME && f.type == WIRE_LEN && f.bytes.len > 0);
        learner = learner || (f.number == MEMBER_IS_LEARNER && f.value != 0);
    }
    return named && !learner;
}

static void find_urls(struct slice list, struct found *out)
{
    struct wire_field f;
    while (wire_next(&list, &f) == OK) {
        if (f.number != LIST_MEMBERS || f.type != WIRE_LEN || !is_votes(f.bytes)) {
            continue;
        }
        struct wire_field g;
        while (wire_next(&f.bytes, &g) == OK && out->n < PROXY_ENDPOINTS_MAX) {
            if (g.number == MEMBER_CLIENT_URLS && g.type == WIRE_LEN) {
                out->urls[out->n++] = xstrndup((const char *)g.bytes.data, g.bytes.len);
            }
        }
    }
}

static bool are_same(const struct proxy *p, const struct found *found)
{
    const char **now = xcalloc(PROXY_ENDPOINTS_MAX, sizeof(*now));
    size_t n = upstream_endpoints(p->up, now, PROXY_ENDPOINTS_MAX);
    bool same = n == found->n;
    for (size_t i = 0; i < found->n && same; i++) {
        same = false;
        for (size_t k = 0; k < n && !same; k++) {
            same = strcmp(found->urls[i], now[k]) == 0;
        }
    }
    free(now);
    return same;
}

static void take_endpoints(struct proxy *p, struct slice list)
{
    struct found *found = xcalloc(1, sizeof(*found) + sizeof(char *)); /* a NULL behind a full list */
    find_urls(list, found);
    if (found->n > 0 && !are_same(p, found)) {
        log_info(p->cfg.log, "the cluster's endpoints have changed", F_STRS("endpoints", (const char *const *)found->urls));
        upstream_set_endpoints(p->up, (const char *const *)found->urls, found->n);
    }
    for (size_t i = 0; i < found->n; i++) {
        free(found->urls[i]);
    }
    free(found);
}

static void sync_later(struct proxy *p)
{
    loop_timer_set(p->cfg.loop, &p->sync_timer, loop_now_ms(p->cfg.loop) + p->cfg.sync_interval_ms);
}

static void on_synced(struct up_call *u)
{
    struct proxy *p = CONTAINER_OF(u, struct proxy, sync);
    const struct client_status *status = up_status(u);
    struct slice list;
    if (status == NULL) {
        return;
    }
    if (status->code == CLIENT_CODE_OK && up_front(u, &list)) {
        take_endpoints(p, list);
    } else {
        log_warn(p->cfg.log, "auto sync of endpoints failed", F_STR("error", status->text));
    }
    up_close(u);
    sync_later(p);
}

static void on_sync(struct loop *l, struct loop_timer *t)
{
    (void)l;
    struct proxy *p = CONTAINER_OF(t, struct proxy, sync_timer);
    const struct up_head head = {.path = "/etcdserverpb.Cluster/MemberList", .repeatable = true};
    up_open(p->up, &p->sync, &head, slice_of("", 0));
}

/* --- public ---------------------------------------------------------------------------------------------------------- */

struct proxy *proxy_create(const struct proxy_config *cfg)
{
    struct proxy *p = xcalloc(1, sizeof(*p));
    p->cfg = *cfg;
    p->prefix = slice_str(cfg->name_space);
    p->up = upstream_create(
        &(struct upstream_config){.loop = cfg->loop, .log = cfg->log, .dial = cfg->dial, .dial_arg = cfg->dial_arg, .look_ms = cfg->look_ms});
    p->cache = cache_create();
    p->groups = watch_groups_create(p);
    p->keeper = keeper_create(p);
    p->leader = leader_create(p);
    p->members = members_create(p);
    p->sync.news = on_synced;
    p->sync_timer.fire = on_sync;
    create_metrics(p);
    build_methods(p);
    return p;
}

const struct grpc_method *const *proxy_tables(struct proxy *p)
{
    return p->tables;
}

bool proxy_admit(void *proxy, struct grpc_call *c)
{
    const struct proxy *p = proxy;
    if (upstream_is_full(p->up)) {
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests");
        return false;
    }
    return true;
}

void proxy_log_call(void *proxy, struct grpc_call *c, const struct grpc_end *how)
{
    const struct proxy *p = proxy;
    log_info(p->cfg.log, "finished call", F_STR("grpc.method", grpc_call_method(c)->path), F_INT("grpc.code", how->code),
             F_UINT("grpc.time_ms", how->took_ns / NS_PER_MS), F_UINT("received-bytes", how->received_bytes), F_UINT("sent-bytes", how->sent_bytes));
}

void proxy_start(struct proxy *p, struct grpc_server *s)
{
    p->server = s;
    upstream_set_endpoints(p->up, p->cfg.endpoints, p->cfg.n_endpoints);
    if (p->cfg.sync_interval_ms > 0) {
        sync_later(p);
    }
    members_start(p->members);
}

size_t proxy_endpoints(const struct proxy *p, const char **out, size_t max)
{
    return upstream_endpoints(p->up, out, max);
}
