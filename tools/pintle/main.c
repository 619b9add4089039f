/* main.c - the server: flags in, member and services up, signals, down again.
 *
 * The main thread runs the first I/O loop; the other loops, the member loop, the log and the store have threads of their own. Going
 * down happens in the order: stop accepting and let calls end, stop the loops, stop the member (what it still answers goes to the stopped
 * loops, which drop it), free. Then the signal is raised again, so that the parent sees death by signal, as with etcd.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "api/etcd/server.h"
#include "base/assert.h"
#include "base/mem.h"
#include "tools/pintle/cluster.h"
#include "tools/pintle/config.h"
#include "tools/pintle/datadir.h"
#include "wal/wal.h"

extern char **environ;

#define OWN_DESCRIPTORS 150u /* log, store, listeners and loops */
#define QUOTA_DEFAULT (2ll << 30)

struct server {
    struct config config;
    struct founders founders;
    struct datadir datadir;
    struct metrics *metrics;
    struct loop **loops;
    pthread_t *threads; /* of loops 1 and on */
    struct etcd_server *etcd;
    struct grpc_server *grpc;
    struct member *member;
    uv_signal_t signals[2];
    int signal; /* that ended us; 0: none yet */
    bool serving;
};

static _Noreturn void die(struct server *s, enum err e, const char *text)
{
    log_fatal(s->config.log, "discovery failed", F_STR("error", text[0] != '\0' ? text : err_text(e)));
    exit(1);
}

/* --- readiness ------------------------------------------------------------------------------------------------ */

static void notify_systemd(const struct server *s)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (path == NULL || strlen(path) >= sizeof(a.sun_path)) {
        return;
    }
    memcpy(a.sun_path, path, strlen(path));
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (path[0] == '@') {
        a.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, "READY=1", 7, 0, (struct sockaddr *)&a, len) != 7) {
        log_error(s->config.log, "failed to notify systemd for readiness", F_STR("error", strerror(errno)));
    }
    if (fd >= 0) {
        close(fd);
    }
}

struct ready_item {
    struct loop_item item;
    struct server *server;
};

static void run_ready(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct server *s = CONTAINER_OF(item, struct ready_item, item)->server;
    free(CONTAINER_OF(item, struct ready_item, item));
    if (s->signal != 0) {
        return;
    }
    s->serving = true;
    grpc_server_serve(s->grpc, s->loops, s->config.n_loops);
    log_msg(s->config.log, LOG_INFO, "ready to serve client requests");
    for (char **u = s->config.listen_client; *u != NULL; u++) {
        log_info(s->config.log, "serving client traffic insecurely; this is strongly discouraged!", F_STR("traffic", "grpc+http"),
                 F_STR("address", strstr(*u, "://") + 3));
    }
    notify_systemd(s);
}

/* Member loop: published, so there was a quorum. */
static void on_ready(void *arg)
{
    struct server *s = arg;
    char cluster[20];
    (void)snprintf(cluster, sizeof(cluster), "%" PRIx64, s->founders.cluster_id);
    log_info(s->config.log, "published local member to cluster through raft", F_HEX("local-member-id", s->founders.member_id),
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

/* --- going down -------------------------------------------------------------------------------------------------- */

static void on_drained(void *arg)
{
    struct server *s = arg;
    for (unsigned i = 0; i < s->config.n_loops; i++) {
        loop_stop(s->loops[i]);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    if (s->signal != 0) {
        return;
    }
    s->signal = number;
    log_info(s->config.log, "received signal; shutting down", F_STR("signal", number == SIGTERM ? "terminated" : "interrupt"));
    log_info(s->config.log, "closing etcd server", F_STR("name", s->config.name), F_STR("data-dir", s->config.data_dir));
    for (size_t i = 0; i < ARRAY_LEN(s->signals); i++) {
        uv_close((uv_handle_t *)&s->signals[i], NULL);
    }
    if (s->serving) {
        grpc_server_shutdown(s->grpc, member_request_timeout_ms(s->member), on_drained, s);
    } else {
        on_drained(s); /* nobody has been let in yet */
    }
}

static void catch_signals(struct server *s)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        ASSERT(uv_signal_init(loop_uv(s->loops[0]), &s->signals[i]) == 0);
        s->signals[i].data = s;
        ASSERT(uv_signal_start(&s->signals[i], on_signal, numbers[i]) == 0);
    }
}

/* --- coming up ------------------------------------------------------------------------------------------------------ */

static void open_member(struct server *s)
{
    struct err_ctx ec = {{0}};
    const struct config *c = &s->config;
    struct backend *backend = NULL;
    enum err e = backend_lmdb_open(c->snap_dir, BACKEND_MAP_BYTES_DEFAULT, c->no_sync, &backend, &ec);
    if (e != OK) {
        die(s, e, ec.text);
    }
    log_info(c->log, "opened backend db", F_STR("path", c->snap_dir));
    struct member_config mc = {
        .cluster_id = s->founders.cluster_id,
        .member_id = s->founders.member_id,
        .name = c->name,
        .client_urls = (const char *const *)c->advertise_client,
        .initial = s->founders.peers,
        .n_initial = s->founders.n,
        .vfs = vfs_real(),
        .clock = clock_real(),
        .log = c->log,
        .metrics = s->metrics,
        .wal_dir = c->wal_dir,
        .segment_bytes = WAL_SEGMENT_BYTES_DEFAULT,
        .no_sync = c->no_sync,
        .backend = backend,
        .heartbeat_ms = c->heartbeat_ms,
        .election_ms = c->election_ms,
        .pre_vote = c->pre_vote,
        .catch_up_entries = c->catch_up_entries,
        .quota_bytes = c->quota_flag == 0 ? QUOTA_DEFAULT : c->quota_flag < 0 ? INT64_MAX : c->quota_flag,
        .compaction_batch_limit = c->compaction_batch_limit,
        .max_request_bytes = c->max_request_bytes,
        .ports = etcd_server_ports(s->etcd),
        .failed = on_failed,
        .ready = on_ready,
        .arg = s,
    };
    e = member_open(&mc, &s->member, &ec);
    if (e != OK) {
        die(s, e, ec.text);
    }
    etcd_server_attach(s->etcd, s->member);
}

static void bind_all(struct server *s)
{
    struct err_ctx ec = {{0}};
    for (char **u = s->config.listen_client; *u != NULL; u++) {
        const char *address = strstr(*u, "://") + 3;
        enum err e;
        if (strncmp(*u, "unix", 4) == 0) {
            e = grpc_server_bind_unix(s->grpc, address, &ec);
        } else {
            const char *colon = strrchr(address, ':');
            bool v6 = address[0] == '[';
            char *host = xstrndup(address + (v6 ? 1 : 0), (size_t)(colon - address) - (v6 ? 2u : 0u));
            e = grpc_server_bind(s->grpc, host, colon + 1, &ec);
            free(host);
        }
        if (e != OK) {
            die(s, e, ec.text);
        }
    }
}

/* As many as there are descriptors, without those for our own files (as etcd). The soft limit goes up to the hard one first, as Go does. */
static unsigned connections_max(void)
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

static void create_services(struct server *s)
{
    const struct config *c = &s->config;
    s->metrics = metrics_create();
    s->loops = xcalloc(c->n_loops, sizeof(struct loop *));
    for (unsigned i = 0; i < c->n_loops; i++) {
        s->loops[i] = loop_create(i);
    }
    struct etcd_server_config ec = {
        .clock = clock_real(),
        .log = c->log,
        .metrics = s->metrics,
        .max_request_bytes = c->max_request_bytes,
        .max_txn_ops = c->max_txn_ops,
        .quota_flag = c->quota_flag,
        .progress_interval_ms = c->progress_interval_ms,
    };
    s->etcd = etcd_server_create(&ec, s->loops, c->n_loops);
    struct grpc_server_config gc = {
        .limits = {.recv_bytes_max = c->max_request_bytes + (512u << 10),
                   .concurrent_streams_max = c->max_streams,
                   .keepalive_min_ms = c->keepalive_min_ms,
                   .keepalive_interval_ms = c->keepalive_interval_ms,
                   .keepalive_timeout_ms = c->keepalive_timeout_ms},
        .tables = etcd_server_tables(s->etcd),
        .http = etcd_server_http(s->etcd),
        .metrics = s->metrics,
        .connections_max = connections_max(),
        .admit = etcd_server_admit,
        .admit_arg = s->etcd,
    };
    s->grpc = grpc_server_create(&gc);
}

static void *loop_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void run(struct server *s)
{
    unsigned n = s->config.n_loops;
    s->threads = xcalloc(n, sizeof(*s->threads));
    catch_signals(s);
    member_start(s->member);
    for (unsigned i = 1; i < n; i++) {
        ASSERT(pthread_create(&s->threads[i], NULL, loop_main, s->loops[i]) == 0);
    }
    loop_run(s->loops[0]);
    for (unsigned i = 1; i < n; i++) {
        pthread_join(s->threads[i], NULL);
    }
    member_stop(s->member);
}

static void tear_down(struct server *s)
{
    for (unsigned i = 0; i < s->config.n_loops; i++) {
        loop_destroy(&s->loops[i]);
    }
    grpc_server_destroy(&s->grpc);
    etcd_server_destroy(&s->etcd);
    member_close(&s->member);
    metrics_destroy(&s->metrics);
    datadir_close(&s->datadir);
    founders_deinit(&s->founders);
    free(s->threads);
    free(s->loops);
    log_info(s->config.log, "closed etcd server", F_STR("name", s->config.name), F_STR("data-dir", s->config.data_dir));
    config_deinit(&s->config);
}

int main(int argc, char **argv)
{
    struct server server;
    struct server *s = &server;
    struct err_ctx ec = {{0}};
    memset(s, 0, sizeof(*s));
    int status = config_load(&s->config, argc, argv, environ);
    if (status >= 0) {
        config_deinit(&s->config);
        return status;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* a client that goes away is an error value, not an end */
    log_info(s->config.log, "starting an etcd server", F_STR("etcd-version", ETCD_VERSION), F_STR("pintle-version", PINTLE_VERSION),
             F_STR("name", s->config.name), F_STR("data-dir", s->config.data_dir), F_STR("wal-dir", s->config.wal_dir),
             F_UINT("heartbeat-interval-ms", s->config.heartbeat_ms), F_UINT("election-timeout-ms", s->config.election_ms),
             F_STRS("listen-client-urls", (const char *const *)s->config.listen_client),
             F_STRS("advertise-client-urls", (const char *const *)s->config.advertise_client), F_UINT("io-loops", s->config.n_loops));
    enum err e = founders_parse(s->config.initial_cluster, s->config.cluster_token, s->config.name, s->config.advertise_peer, &s->founders, &ec);
    if (e == OK && s->founders.n > 1) {
        e = err_set(&ec, ERR_UNSUPPORTED, "--initial-cluster names %zu members; this version runs a cluster of one", s->founders.n);
    }
    if (e == OK) {
        e = datadir_open(vfs_real(), &s->config, &s->datadir, &ec);
    }
    if (e != OK) {
        die(s, e, ec.text);
    }
    create_services(s);
    bind_all(s);
    open_member(s);
    log_info(s->config.log, "starting etcd server", F_HEX("local-member-id", s->founders.member_id), F_HEX("cluster-id", s->founders.cluster_id),
             F_STR("local-server-version", ETCD_VERSION));
    run(s);
    int number = s->signal;
    tear_down(s);
    if (getpid() != 1 && number != 0) {
        (void)signal(number, SIG_DFL);
        (void)raise(number);
    }
    return 0;
}
