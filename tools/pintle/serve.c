/* serve.c - the way up: services, listeners, member, threads. See server.h. */
#include "tools/pintle/server.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/http/server.h"
#include "base/assert.h"
#include "base/mem.h"
#include "engine/auth_password.h"
#include "tools/pintle/sd_notify.h"
#include "wal/wal.h"

#define OWN_DESCRIPTORS 150u /* log, store, listeners, loops and links */
#define QUOTA_DEFAULT (2ll << 30)

_Noreturn void server_die(struct server *s, enum err e, const char *text)
{
    log_fatal(s->config.log, "discovery failed", F_STR("error", text[0] != '\0' ? text : err_text(e)));
    exit(1);
}

/* --- readiness ------------------------------------------------------------------------------------------------ */

struct ready_item {
    struct loop_item item;
    struct server *server;
};

static void let_clients_in(struct server *s);

static void on_checked(void *arg, bool consistent)
{
    struct server *s = arg;
    if (s->closing) {
        return;
    }
    if (!consistent) {
        char text[64];
        (void)snprintf(text, sizeof(text), "%" PRIx64 " found data inconsistency with peers", s->origin.member_id);
        log_error(s->config.log, "checkInitialHashKV failed", F_STR("error", text));
        server_die(s, ERR_CORRUPT, text);
    }
    let_clients_in(s);
}

static void run_ready(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct server *s = CONTAINER_OF(item, struct ready_item, item)->server;
    free(CONTAINER_OF(item, struct ready_item, item));
    if (s->closing) {
        return;
    }
    if (s->operations.initial_check && s->origin.restarting) {
        etcd_server_check_initial(s->etcd, on_checked, s);
    } else {
        let_clients_in(s);
    }
}

static void let_clients_in(struct server *s)
{
    s->serving = true;
    etcd_server_check_data(s->etcd);
    server_serve_clients(s);
    sd_notify_ready(s->config.log);
}

/* Member loop: published, so there was a quorum. */
static void on_ready(void *arg)
{
    struct server *s = arg;
    char cluster[20];
    (void)snprintf(cluster, sizeof(cluster), "%" PRIx64, s->origin.cluster_id);
    log_info(s->config.log, "published local member to cluster through raft", F_HEX("local-member-id", s->origin.member_id),
             F_STR("cluster-id", cluster));
    struct ready_item *r = xcalloc(1, sizeof(*r));
    r->item.run = run_ready;
    r->server = s;
    loop_post(s->loops[0], &r->item);
}

/* Any thread: log or store cannot be trusted any more. Nothing is retried; a restart reads what is on disk. */
static void on_failed(void *arg, enum err e, const char *what)
{
    struct server *s = arg;
    log_fatal(s->config.log, "storage failed; exiting to restart from disk", F_STR("error", what), F_STR("kind", err_text(e)));
    _exit(1);
}

/* --- services -------------------------------------------------------------------------------------------------- */

/* As many as there are descriptors, without those for our own files (as etcd). The soft limit goes up to the hard one first, as Go does. */
unsigned server_connections_max(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) {
        return 0;
    }
    if (r.rlim_cur < r.rlim_max) {
        struct rlimit more = {.rlim_cur = r.rlim_max, .rlim_max = r.rlim_max};
        r = setrlimit(RLIMIT_NOFILE, &more) == 0 ? more : r;
    }
    rlim_t n = r.rlim_cur > 2 * OWN_DESCRIPTORS ? r.rlim_cur - OWN_DESCRIPTORS : r.rlim_cur / 2;
    return n > UINT_MAX ? UINT_MAX : n < 1 ? 1u : (unsigned)n;
}

static void create_grpc(struct server *s)
{
    const struct config *c = &s->config;
    struct grpc_server_config gc = {
        .limits = {.recv_bytes_max = c->max_request_bytes + (512u << 10),
                   .concurrent_streams_max = c->max_streams,
                   .keepalive_min_ms = c->keepalive_min_ms,
                   .keepalive_interval_ms = c->keepalive_interval_ms,
                   .keepalive_timeout_ms = c->keepalive_timeout_ms},
        .tables = etcd_server_tables(s->etcd),
        .http = server_splits_http(s) ? (struct http_handler){.handle = NULL} : etcd_server_http(s->etcd),
        .metrics = s->metrics,
        .connections_max = server_connections_max(),
        .admit = etcd_server_admit,
        .admit_arg = s->etcd,
        .handling_seconds = s->operations.extensive_metrics,
        .ended = etcd_server_ended,
    };
    s->grpc = grpc_server_create(&gc);
    struct flag_set *flags = &s->config.flags;
    struct etcd_http_config hc = {
        .grpc = flag_get(flags, "enable-grpc-gateway")->b ? s->grpc : NULL,
        .cors = (const char *const *)flag_get(flags, "cors")->urls,
        .hosts = (const char *const *)flag_get(flags, "host-whitelist")->urls,
    };
    etcd_server_attach_http(s->etcd, &hc);
}

static void create_peers(struct server *s)
{
    const struct config *c = &s->config;
    s->peer_loop = loop_create(c->n_loops);
    struct peer_transport_config pc = {
        .loop = s->peer_loop,
        .clock = clock_real(),
        .log = c->log,
        .metrics = s->metrics,
        .cluster_id = s->origin.cluster_id,
        .member_id = s->origin.member_id,
        .version = ETCD_VERSION,
        .advertised_urls = (const char *const *)c->advertise_peer,
        .election_ms = c->election_ms,
        .spool_dir = c->snap_dir,
        .tls = &c->dial,
        .other = etcd_server_peer_http(s->etcd),
    };
    s->peers = peer_transport_create(&pc);
}

/* Key files are read now: a start with keys that do not fit fails. */
static struct auth_tokens *create_tokens(struct server *s)
{
    struct auth_tokens *t = NULL;
    struct err_ctx ec = {{0}};
    const char *option = flag_get(&s->config.flags, "auth-token")->text;
    enum err e = auth_tokens_create(option, flag_get(&s->config.flags, "auth-token-ttl")->u, vfs_real(), clock_real(), &t, &ec);
    if (e != OK) {
        log_warn(s->config.log, "failed to create token provider", F_STR("error", ec.text));
        server_die(s, e, ec.text);
    }
    if (auth_tokens_unknown_options(t)[0] != '\0') {
        log_warn(s->config.log, "unknown options of --auth-token", F_STR("options", auth_tokens_unknown_options(t)));
    }
    return t;
}

static unsigned bcrypt_cost(struct server *s)
{
    uint64_t cost = flag_get(&s->config.flags, "bcrypt-cost")->u;
    if (cost >= PASSWORD_COST_MIN && cost <= PASSWORD_COST_MAX) {
        return (unsigned)cost;
    }
    log_warn(s->config.log, "use default bcrypt cost instead of the invalid given cost", F_UINT("min-cost", PASSWORD_COST_MIN),
             F_UINT("max-cost", PASSWORD_COST_MAX), F_UINT("default-cost", PASSWORD_COST_DEFAULT), F_UINT("given-cost", cost));
    return PASSWORD_COST_DEFAULT;
}

void server_create_services(struct server *s)
{
    const struct config *c = &s->config;
    struct err_ctx problem = {{0}};
    enum err e = operations_read(&s->config.flags, &s->operations, &problem);
    if (e != OK) {
        server_die(s, e, problem.text);
    }
    s->metrics = metrics_create();
    operations_metrics(&s->config.flags, s->metrics);
    s->loops = xcalloc(c->n_loops, sizeof(struct loop *));
    for (unsigned i = 0; i < c->n_loops; i++) {
        s->loops[i] = loop_create(i);
    }
    s->tokens = create_tokens(s);
    struct etcd_server_config ec = {
        .clock = clock_real(),
        .log = c->log,
        .slow_apply_ns = s->operations.slow_apply_ns,
        .slow_unary_ns = s->operations.slow_unary_ns,
        .metrics = s->metrics,
        .max_request_bytes = c->max_request_bytes,
        .max_txn_ops = c->max_txn_ops,
        .quota_flag = c->quota_flag,
        .progress_interval_ms = c->progress_interval_ms,
        .corrupt_check_ms = s->operations.corrupt_check_ms,
        .compact_hash_check_ms = s->operations.compact_hash_check_ms,
        .tokens = s->tokens,
        .bcrypt_cost = bcrypt_cost(s),
        .client_cert_auth = flag_get(&s->config.flags, "client-cert-auth")->b,
    };
    s->etcd = etcd_server_create(&ec, s->loops, c->n_loops);
    create_grpc(s);
    create_peers(s);
}

/* --- the member ----------------------------------------------------------------------------------------------------- */

static struct member_config member_config_of(struct server *s, struct backend *backend)
{
    const struct config *c = &s->config;
    return (struct member_config){
        .cluster_id = s->origin.cluster_id,
        .member_id = s->origin.member_id,
        .name = c->name,
        .client_urls = (const char *const *)c->advertise_client,
        .initial = s->origin.members.peers,
        .n_initial = s->origin.members.n,
        .joining = s->origin.joining,
        .force_new_cluster = c->force_new_cluster && s->origin.restarting,
        .own_peer_urls = (const char *const *)c->advertise_peer,
        .vfs = vfs_real(),
        .clock = clock_real(),
        .log = c->log,
        .metrics = s->metrics,
        .wal_dir = c->wal_dir,
        .segment_bytes = WAL_SEGMENT_BYTES_DEFAULT,
        .no_sync = c->no_sync,
        .backend = backend,
        .place = &s->place,
        .transport = peer_transport_table(s->peers),
        .heartbeat_ms = c->heartbeat_ms,
        .election_ms = c->election_ms,
        .pre_vote = c->pre_vote,
        .catch_up_entries = c->catch_up_entries,
        .quota_bytes = c->quota_flag == 0 ? QUOTA_DEFAULT : c->quota_flag < 0 ? INT64_MAX : c->quota_flag,
        .compaction_batch_limit = c->compaction_batch_limit,
        .compaction_pause_ms = c->compaction_pause_ms,
        .max_request_bytes = c->max_request_bytes,
        .auto_compact = s->operations.auto_compact,
        .slow_apply_ns = s->operations.slow_apply_ns,
        .priority_requests = s->operations.priority_requests,
        .max_learners = c->max_learners == 0 ? ENGINE_NO_LEARNERS : c->max_learners,
        .strict_reconfig = c->strict_reconfig,
        .fast_forward = c->fast_forward,
        .version = ETCD_VERSION,
        .ports = etcd_server_ports(s->etcd),
        .failed = on_failed,
        .ready = on_ready,
        .removed = server_on_removed,
        .arg = s,
    };
}

/* --bootstrap-defrag-threshold-megabytes: the file is rewritten when that would give so much back. 0: never. */
static void defragment_at_start(struct server *s, struct backend *b)
{
    uint64_t threshold = flag_get(&s->config.flags, "bootstrap-defrag-threshold-megabytes")->u;
    if (threshold == 0) {
        return;
    }
    struct err_ctx ec = {{0}};
    struct backend_stats st = b->ops->stats(b);
    int64_t free_bytes = st.file_bytes - st.in_use_bytes;
    threshold = threshold > INT64_MAX >> 20 ? INT64_MAX : threshold << 20;
    if (free_bytes < (int64_t)threshold) {
        log_info(s->config.log, "Skipping defragmentation", F_INT("current-db-size-bytes", st.file_bytes),
                 F_INT("current-db-size-in-use-bytes", st.in_use_bytes), F_UINT("bootstrap-defrag-threshold-bytes", threshold));
        return;
    }
    enum err e = b->ops->defrag(b, &ec);
    if (e != OK) {
        server_die(s, e, ec.text);
    }
    log_info(s->config.log, "defragmented at start", F_INT("freeable-bytes", free_bytes), F_UINT("bootstrap-defrag-threshold-bytes", threshold));
}

void server_open_member(struct server *s)
{
    struct err_ctx ec = {{0}};
    const struct config *c = &s->config;
    struct backend *backend = NULL;
    s->place = store_place_lmdb(c->snap_dir, BACKEND_MAP_BYTES_DEFAULT, c->no_sync);
    enum err e = backend_lmdb_open(c->snap_dir, BACKEND_MAP_BYTES_DEFAULT, c->no_sync, &backend, &ec);
    if (e != OK) {
        server_die(s, e, ec.text);
    }
    log_info(c->log, "opened backend db", F_STR("path", c->snap_dir));
    defragment_at_start(s, backend);
    struct member_config mc = member_config_of(s, backend);
    e = member_open(&mc, &s->member, &ec);
    if (e != OK) {
        log_error(c->log, "bootstrap failed", F_STR("error", ec.text[0] != '\0' ? ec.text : err_text(e)));
        server_die(s, e, ec.text);
    }
    auth_set_events(engine_auth(member_engine(s->member)), &auth_tokens_events, s->tokens);
    peer_transport_attach(s->peers, s->member);
    etcd_server_attach(s->etcd, s->member);
    etcd_server_attach_peers(s->etcd, s->peers);
}

/* --- threads ---------------------------------------------------------------------------------------------------------- */

static void *loop_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

/* The other members are served from before this one may be ready until after it has handed leadership over. */
void server_run(struct server *s)
{
    unsigned n = s->config.n_loops;
    s->threads = xcalloc(n, sizeof(*s->threads));
    server_catch_signals(s);
    peer_transport_start(s->peers);
    ASSERT(pthread_create(&s->peer_thread, NULL, loop_main, s->peer_loop) == 0);
    (void)pthread_setname_np(s->peer_thread, "peers");
    log_info(s->config.log, "now serving peer/client/metrics", F_HEX("local-member-id", s->origin.member_id),
             F_STRS("initial-advertise-peer-urls", (const char *const *)s->config.advertise_peer),
             F_STRS("listen-peer-urls", (const char *const *)s->config.listen_peer),
             F_STRS("advertise-client-urls", (const char *const *)s->config.advertise_client),
             F_STRS("listen-client-urls", (const char *const *)s->config.listen_client));
    member_start(s->member);
    for (unsigned i = 1; i < n; i++) {
        ASSERT(pthread_create(&s->threads[i], NULL, loop_main, s->loops[i]) == 0);
    }
    server_serve_metrics(s);
    loop_run(s->loops[0]);
    for (unsigned i = 1; i < n; i++) {
        pthread_join(s->threads[i], NULL);
    }
    server_hand_over(s);
    member_stop(s->member);
    server_stop_peers(s);
}

void server_tear_down(struct server *s)
{
    for (unsigned i = 0; i < s->config.n_loops; i++) {
        loop_destroy(&s->loops[i]);
    }
    grpc_server_destroy(&s->grpc);
    loop_destroy(&s->peer_loop);
    etcd_server_destroy(&s->etcd);
    member_close(&s->member);
    auth_tokens_destroy(&s->tokens);
    peer_transport_destroy(&s->peers);
    http_server_destroy(&s->http);
    http_server_destroy(&s->metrics_http);
    server_tls_close(&s->tls);
    metrics_destroy(&s->metrics);
    datadir_close(&s->datadir);
    origin_deinit(&s->origin);
    free(s->threads);
    free(s->loops);
    log_info(s->config.log, "closed etcd server", F_STR("name", s->config.name), F_STR("data-dir", s->config.data_dir));
    config_deinit(&s->config);
}
