/* http.c - /version, /health, /livez, /readyz and /metrics.
 *
 * Source: etcd-v3-api.md 15. A probe is a list of checks; each passes or names its error.
 */
#include "api/etcd/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/gateway/access.h"
#include "api/gateway/gateway.h"
#include "base/assert.h"
#include "base/mem.h"

#define TEXT "text/plain; charset=utf-8"
#define NOSNIFF "X-Content-Type-Options: nosniff\r\n"

/* --- one probe under way ------------------------------------------------------------------------------------- */

enum check { CHECK_CORRUPTION, CHECK_SERIALIZABLE, CHECK_LINEARIZABLE, CHECK_LEARNER, N_CHECKS };

static const char *const check_names[N_CHECKS] = {"data_corruption", "serializable_read", "linearizable_read", "non_learner"};

struct probe {
    struct request r; /* the read index, when one is needed; r.call stays NULL */
    struct etcd_server *server;
    struct http_exchange *exchange;
    bool health;       /* /health, else livez or readyz */
    const char *type;  /* of a probe that is not /health: "livez", "readyz" */
    bool verbose;
    unsigned checks;   /* BIT of each check to run */
    const char *errors[N_CHECKS]; /* NULL: passed */
};

static bool query_has(const char *query, const char *key, const char *value)
{
    size_t klen = strlen(key);
    for (const char *p = query; *p != '\0';) {
        size_t n = strcspn(p, "&");
        if (n >= klen && strncmp(p, key, klen) == 0 && (p[klen] == '=' || n == klen)) {
            const char *v = p + klen + (p[klen] == '=' ? 1 : 0);
            size_t vlen = n - (size_t)(v - p);
            if (value == NULL || (strlen(value) == vlen && strncmp(v, value, vlen) == 0)) {
                return true;
            }
        }
        p += n;
        p += *p == '&' ? 1 : 0;
    }
    return false;
}

static void send_health(struct probe *p, const char *reason)
{
    struct bytes b = {0};
    if (reason == NULL) {
        counter_add(p->server->health_success, 1);
        bytes_add_str(&b, "{\"health\":\"true\",\"reason\":\"\"}");
        http_respond(p->exchange, 200, TEXT, NULL, bytes_slice(&b));
    } else {
        counter_add(p->server->health_failures, 1);
        bytes_printf(&b, "{\"health\":\"false\",\"reason\":\"%s\"}\n", reason);
        http_respond(p->exchange, 503, TEXT, NOSNIFF, bytes_slice(&b));
    }
    bytes_deinit(&b);
}

static void count_check(struct probe *p, unsigned i)
{
    struct metrics *m = p->server->cfg.metrics;
    bool ok = p->errors[i] == NULL;
    struct bytes labels = {0};
    metrics_label(&labels, "type", p->type);
    metrics_label(&labels, "name", check_names[i]);
    bytes_add(&labels, "", 1);
    gauge_set(metrics_gauge(m, "etcd_server_healthcheck", "The result of each kind of healthcheck.", (const char *)labels.data), ok ? 1 : 0);
    labels.len--;
    metrics_label(&labels, "status", ok ? "success" : "error");
    bytes_add(&labels, "", 1);
    counter_add(metrics_counter(m, "etcd_server_healthchecks_total", "The total number of each kind of healthcheck.", (const char *)labels.data), 1);
    bytes_deinit(&labels);
}

static void send_checks(struct probe *p)
{
    struct bytes b = {0};
    bool failed = false;
    for (unsigned i = 0; i < N_CHECKS; i++) {
        if ((p->checks >> i & 1u) != 0) {
            failed = failed || p->errors[i] != NULL;
            count_check(p, i);
        }
    }
    for (unsigned i = 0; i < N_CHECKS && (failed || p->verbose); i++) {
        if ((p->checks >> i & 1u) == 0) {
            continue;
        }
        if (p->errors[i] == NULL) {
            bytes_printf(&b, "[+]%s ok\n", check_names[i]);
        } else {
            bytes_printf(&b, "[-]%s failed: %s\n", check_names[i], p->errors[i]);
        }
    }
    bytes_add_str(&b, failed ? "\n" : "ok\n");
    http_respond(p->exchange, failed ? 503 : 200, TEXT, NOSNIFF, bytes_slice(&b));
    bytes_deinit(&b);
}

static void probe_finish(struct probe *p)
{
    if (!p->health) {
        send_checks(p);
    } else {
        const char *error = p->errors[CHECK_LINEARIZABLE];
        char reason[128];
        (void)snprintf(reason, sizeof(reason), "RANGE ERROR:%s", error == NULL ? "" : error);
        send_health(p, error == NULL ? NULL : reason);
    }
    free(p);
}

static void finish_read(struct request *r)
{
    struct probe *p = CONTAINER_OF(r, struct probe, r);
    if (r->op.err != OK) {
        p->errors[CHECK_LINEARIZABLE] = status_of(r->op.err).text;
    }
    probe_finish(p);
}

/* The checks that need no waiting, then the read barrier if it is among them. */
static void probe_run(struct probe *p)
{
    struct etcd_server *s = p->server;
    if (engine_alarm_active(s->engine, ETCDSERVERPB__ALARM_TYPE__CORRUPT)) {
        p->errors[CHECK_CORRUPTION] = "alarm activated: CORRUPT";
    }
    if (member_status(s->member).is_learner) {
        p->errors[CHECK_LEARNER] = "not supported for learner";
    }
    if ((p->checks >> CHECK_LINEARIZABLE & 1u) == 0 || member_read_is_current(s->member)) {
        probe_finish(p);
        return;
    }
    struct etcd_loop *l = loop_of(s, http_exchange_loop(p->exchange));
    p->r.finish = finish_read;
    p->r.op.kind = MEMBER_READ_INDEX;
    request_submit_on(l, &p->r);
}

static struct probe *probe_create(struct etcd_server *s, struct http_exchange *x, const struct http_request *r)
{
    struct probe *p = xcalloc(1, sizeof(*p));
    p->server = s;
    p->exchange = x;
    p->verbose = query_has(r->query, "verbose", NULL);
    return p;
}

/* --- the endpoints ------------------------------------------------------------------------------------------------ */

static void health(struct etcd_server *s, struct http_exchange *x, const struct http_request *r, unsigned unused)
{
    (void)unused;
    struct probe *p = probe_create(s, x, r);
    p->health = true;
    bool serializable = query_has(r->query, "serializable", "true");
    p->checks = serializable ? 0 : 1u << CHECK_LINEARIZABLE;
    const char *reason = NULL;
    if (engine_alarm_active(s->engine, ETCDSERVERPB__ALARM_TYPE__NOSPACE) && !query_has(r->query, "exclude", "NOSPACE")) {
        reason = "ALARM NOSPACE";
    } else if (engine_alarm_active(s->engine, ETCDSERVERPB__ALARM_TYPE__CORRUPT) && !query_has(r->query, "exclude", "CORRUPT")) {
        reason = "ALARM CORRUPT";
    } else if (!serializable && member_status(s->member).leader == 0) {
        reason = "RAFT NO LEADER";
    }
    if (reason != NULL) {
        send_health(p, reason);
        free(p);
        return;
    }
    probe_run(p);
}

static void checks(struct etcd_server *s, struct http_exchange *x, const struct http_request *r, unsigned set)
{
    struct probe *p = probe_create(s, x, r);
    p->type = strncmp(r->path, "/livez", 6) == 0 ? "livez" : "readyz";
    bool root = strchr(r->path + 1, '/') == NULL; /* a check asked for by name cannot be left out */
    for (unsigned i = 0; i < N_CHECKS; i++) {
        if ((set >> i & 1u) != 0 && !(root && query_has(r->query, "exclude", check_names[i]))) {
            p->checks |= 1u << i;
        }
    }
    probe_run(p);
}

void http_version_body(const struct etcd_server *s, struct bytes *out)
{
    char cluster[16];
    char storage[16];
    engine_cluster_version(s->engine, cluster);
    server_storage_version(s, storage);
    bytes_printf(out, "{\"etcdserver\":\"%s\",\"etcdcluster\":\"%s\",\"storage\":\"%s\"}", ETCD_VERSION,
                 cluster[0] != '\0' ? cluster : "not_decided", storage);
}

static void version(struct etcd_server *s, struct http_exchange *x, const struct http_request *r, unsigned unused)
{
    (void)r;
    (void)unused;
    struct bytes b = {0};
    http_version_body(s, &b);
    http_respond(x, 200, "application/json", NULL, bytes_slice(&b));
    bytes_deinit(&b);
}

static void metrics(struct etcd_server *s, struct http_exchange *x, const struct http_request *r, unsigned unused)
{
    (void)r;
    (void)unused;
    server_show_version(loop_of(s, http_exchange_loop(x)));
    server_show_alarms(s);
    counter_add(s->scrapes, 1);
    struct bytes b = {0};
    metrics_render(s->cfg.metrics, &b);
    http_respond(x, 200, "text/plain; version=0.0.4; charset=utf-8", NULL, bytes_slice(&b));
    bytes_deinit(&b);
}

#define LIVEZ (1u << CHECK_SERIALIZABLE)
#define READYZ (1u << CHECK_CORRUPTION | 1u << CHECK_SERIALIZABLE | 1u << CHECK_LINEARIZABLE | 1u << CHECK_LEARNER)

/* What Go publishes of a process, as far as there is such a thing here: where this member stands. */
static void debug_vars(struct etcd_server *s, struct http_exchange *x, const struct http_request *r, unsigned unused)
{
    (void)r;
    (void)unused;
    struct member_status st = member_status(s->member);
    struct bytes b = {0};
    bytes_printf(&b, "{\n\"raft.status\": {\"id\":\"%" PRIx64 "\",\"term\":%" PRIu64 ",\"commit\":%" PRIu64 ",", member_id(s->member), st.term, st.committed_index);
    bytes_printf(&b, "\"lead\":\"%" PRIx64 "\",\"raftState\":\"%s\",\"applied\":%" PRIu64 "}\n}\n", st.leader, st.is_leader ? "StateLeader" : "StateFollower",
                 st.applied_index);
    http_respond(x, 200, "application/json; charset=utf-8", NULL, bytes_slice(&b));
    bytes_deinit(&b);
}

static const struct endpoint {
    const char *path;
    bool any_method;
    void (*serve)(struct etcd_server *s, struct http_exchange *x, const struct http_request *r, unsigned set);
    unsigned set;
} endpoints[] = {
    {"/version", false, version, 0},
    {"/health", false, health, 0},
    {"/metrics", true, metrics, 0},
    {"/debug/vars", false, debug_vars, 0},
    {"/livez", false, checks, LIVEZ},
    {"/livez/serializable_read", false, checks, LIVEZ},
    {"/readyz", false, checks, READYZ},
    {"/readyz/data_corruption", false, checks, 1u << CHECK_CORRUPTION},
    {"/readyz/serializable_read", false, checks, 1u << CHECK_SERIALIZABLE},
    {"/readyz/linearizable_read", false, checks, 1u << CHECK_LINEARIZABLE},
    {"/readyz/non_learner", false, checks, 1u << CHECK_LEARNER},
};

/* What comes before everything else. True: the request may go on. */
static bool let_in(struct etcd_server *s, struct http_exchange *x, const struct http_request *r)
{
    const struct etcd_http_config *cfg = &s->http;
    if (!http_exchange_is_secure(x) && !access_host_allowed(cfg->hosts, r->host)) {
        struct slice host = access_host(r->host);
        struct bytes body = {0};
        char *name = xstrndup((const char *)host.data, host.len);
        log_warn(s->cfg.log, "rejecting HTTP request to prevent DNS rebinding attacks", F_STR("host", name));
        free(name);
        access_host_refusal(r->host, &body);
        http_respond(x, 421, TEXT, NOSNIFF, bytes_slice(&body));
        bytes_deinit(&body);
        return false;
    }
    struct bytes cors = {0};
    access_cors(cfg->cors, r->origin, &cors);
    if (cors.len > 0) {
        bytes_add(&cors, "", 1);
        http_exchange_headers(x, (const char *)cors.data);
    }
    bytes_deinit(&cors);
    if (strcmp(r->method, "OPTIONS") == 0) {
        http_respond(x, 200, NULL, NULL, (struct slice){NULL, 0});
        return false;
    }
    return true;
}

/* A certificate that is somebody elsewhere would be nobody here, which its owner should hear rather than find out. */
static bool names_nobody(struct etcd_server *s, struct http_exchange *x)
{
    if (!s->cfg.client_cert_auth || http_exchange_common_name(x)[0] == '\0' || !auth_enabled(engine_auth(s->engine))) {
        return true;
    }
    http_respond(x, 400, TEXT, NOSNIFF,
                 slice_str("CommonName of client sending a request against gateway will be ignored and not used as expected\n"));
    return false;
}

void http_handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct etcd_server *s = arg;
    if (!let_in(s, x, r)) {
        return;
    }
    if (s->http.grpc != NULL && gateway_takes(r->path)) {
        if (!names_nobody(s, x)) {
            return;
        }
        gateway_handle(s->http.grpc, x, r);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
        if (strcmp(r->path, endpoints[i].path) != 0) {
            continue;
        }
        if (!endpoints[i].any_method && strcmp(r->method, "GET") != 0) {
            http_respond(x, 405, TEXT, "Allow: GET\r\n" NOSNIFF, slice_str("Method Not Allowed\n"));
            return;
        }
        endpoints[i].serve(s, x, r, endpoints[i].set);
        return;
    }
    http_respond(x, 404, TEXT, NOSNIFF, slice_str("404 page not found\n"));
}

void etcd_server_attach_http(struct etcd_server *s, const struct etcd_http_config *cfg)
{
    s->http = *cfg;
}
