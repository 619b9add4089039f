/* metrics.c - the server's families of /metrics that are asked for when rendered. */
#include "api/etcd/internal.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/assert.h"
#include "engine/auth.h"

static double has_leader(void *arg)
{
    return member_status(((struct etcd_server *)arg)->member).leader != 0 ? 1 : 0;
}

static double is_leader(void *arg)
{
    return member_status(((struct etcd_server *)arg)->member).is_leader ? 1 : 0;
}

static double is_learner(void *arg)
{
    return member_status(((struct etcd_server *)arg)->member).is_learner ? 1 : 0;
}

static double committed(void *arg)
{
    return (double)member_status(((struct etcd_server *)arg)->member).committed_index;
}

static double applied(void *arg)
{
    return (double)member_status(((struct etcd_server *)arg)->member).applied_index;
}

static double quota(void *arg)
{
    return (double)engine_quota_bytes(((struct etcd_server *)arg)->engine);
}

static double fd_used(void *arg)
{
    (void)arg;
    DIR *d = opendir("/proc/self/fd");
    double n = 0;
    while (d != NULL && readdir(d) != NULL) {
        n++;
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return n > 3 ? n - 3 : 0; /* without . and .. and the folder's own */
}

static double fd_limit(void *arg)
{
    (void)arg;
    struct rlimit r;
    return getrlimit(RLIMIT_NOFILE, &r) == 0 ? (double)r.rlim_cur : 0;
}

static double auth_revision_now(void *arg)
{
    const struct etcd_server *s = arg;
    return (double)auth_revision(engine_auth(s->engine));
}

/* --- the process, as every Prometheus client library tells it; from proc(5) ------------------------------------------ */

enum { STAT_UTIME = 14, STAT_STIME = 15, STAT_START_TIME = 22, STAT_VSIZE = 23, STAT_RSS = 24 };

/* A field of /proc/self/stat, counted from 1; 0 when it cannot be read. The second one is a name in parentheses. */
static double stat_field(int number)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f == NULL ? 0 : fread(text, 1, sizeof(text) - 1, f);
    if (f != NULL) {
        (void)fclose(f);
    }
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    for (int i = 2; p != NULL && i < number; i++) {
        p = strchr(p + 1, ' ');
    }
    return p == NULL ? 0 : strtod(p + 1, NULL);
}

static double cpu_seconds(void *arg)
{
    (void)arg;
    return (stat_field(STAT_UTIME) + stat_field(STAT_STIME)) / (double)sysconf(_SC_CLK_TCK);
}

static double resident_bytes(void *arg)
{
    (void)arg;
    return stat_field(STAT_RSS) * (double)sysconf(_SC_PAGESIZE);
}

static double virtual_bytes(void *arg)
{
    (void)arg;
    return stat_field(STAT_VSIZE);
}

/* Ticks since boot, and when that was. */
static double start_time(void *arg)
{
    (void)arg;
    char line[256];
    double boot = 0;
    FILE *f = fopen("/proc/stat", "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        boot = strncmp(line, "btime ", 6) == 0 ? strtod(line + 6, NULL) : boot;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return boot + stat_field(STAT_START_TIME) / (double)sysconf(_SC_CLK_TCK);
}

static double virtual_limit(void *arg)
{
    (void)arg;
    struct rlimit r;
    return getrlimit(RLIMIT_AS, &r) == 0 ? (double)r.rlim_cur : 0;
}

/* Bytes of all that shares the process's network namespace, from proc_pid_net(5): a line of names, then one of numbers. */
static double network_bytes(const char *name)
{
    char names[4096], numbers[4096];
    double value = 0;
    FILE *f = fopen("/proc/self/net/netstat", "re");
    while (f != NULL && value == 0 && fgets(names, sizeof(names), f) != NULL && fgets(numbers, sizeof(numbers), f) != NULL) {
        char *n_state = NULL, *v_state = NULL;
        const char *n = strtok_r(names, " \n", &n_state), *v = strtok_r(numbers, " \n", &v_state);
        bool ours = n != NULL && strcmp(n, "IpExt:") == 0;
        while (ours && n != NULL && v != NULL) {
            value = strcmp(n, name) == 0 ? strtod(v, NULL) : value;
            n = strtok_r(NULL, " \n", &n_state);
            v = strtok_r(NULL, " \n", &v_state);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return value;
}

static double network_received(void *arg)
{
    (void)arg;
    return network_bytes("InOctets");
}

static double network_sent(void *arg)
{
    (void)arg;
    return network_bytes("OutOctets");
}

static double one(void *arg)
{
    (void)arg;
    return 1;
}

/* Clients name their version themselves, so the number of names is bounded. */
static struct client_version *version_row(struct etcd_loop *l, struct slice version)
{
    struct slice unknown = slice_str("unknown");
    version = version.len == 0 || version.len > CLIENT_VERSION_MAX || memchr(version.data, 0, version.len) != NULL ? unknown : version;
    for (size_t i = 0; i < CLIENT_VERSIONS_MAX; i++) {
        struct client_version *v = &l->client_versions[i];
        if (v->text[0] == '\0') {
            /* The last row is kept for those that found no place. */
            version = i + 1 == CLIENT_VERSIONS_MAX ? unknown : version;
            memcpy(v->text, version.data, version.len);
        } else if (i + 1 < CLIENT_VERSIONS_MAX && !slice_eq(slice_str(v->text), version)) {
            continue;
        }
        return v;
    }
    UNREACHABLE();
}

void server_count_request(struct etcd_loop *l, bool stream, struct slice client_version)
{
    struct client_version *v = version_row(l, client_version);
    struct counter **requests = &v->requests[stream ? 1 : 0];
    if (*requests == NULL) {
        struct bytes labels = {0};
        metrics_label(&labels, "client_api_version", v->text);
        metrics_label(&labels, "type", stream ? "stream" : "unary");
        bytes_add(&labels, "", 1);
        *requests = metrics_counter(l->server->cfg.metrics, "etcd_server_client_requests_total",
                                    "The total number of client requests per client version.", (const char *)labels.data);
        bytes_deinit(&labels);
    }
    counter_add(*requests, 1);
}

/* Its label is the value, so a new version is a new series and the old one goes to 0. Each loop remembers what it has shown last: all end with the
 * same. */
void server_show_version(struct etcd_loop *l)
{
    char now[16];
    engine_cluster_version(l->server->engine, now);
    char *dot = strchr(now, '.');
    dot = dot == NULL ? NULL : strchr(dot + 1, '.');
    if (dot != NULL) {
        *dot = '\0';
    }
    const char *shown[2] = {l->version_shown, now};
    if (strcmp(shown[0], now) == 0) {
        return;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct bytes labels = {0};
        if (shown[i][0] != '\0') {
            metrics_label(&labels, "cluster_version", shown[i]);
            bytes_add(&labels, "", 1);
            gauge_set(metrics_gauge(l->server->cfg.metrics, "etcd_cluster_version",
                                    "Which version is running. 1 for 'cluster_version' label with current cluster version",
                                    (const char *)labels.data),
                      i);
        }
        bytes_deinit(&labels);
    }
    memcpy(l->version_shown, now, sizeof(now));
}

void server_metrics(struct etcd_server *s)
{
    struct metrics *m = s->cfg.metrics;
    char id[96];
    server_metrics_families(s);
    (void)snprintf(id, sizeof(id), "server_id=\"%" PRIx64 "\"", member_id(s->member));
    static const struct {
        const char *name, *help;
        double (*value)(void *);
    } gauges[] = {
        {"etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", has_leader},
        {"etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", is_leader},
        {"etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.", is_learner},
        {"etcd_server_proposals_committed_total", "The total number of consensus proposals committed.", committed},
        {"etcd_server_proposals_applied_total", "The total number of consensus proposals applied.", applied},
        {"etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.", quota},
        {"etcd_debugging_auth_revision", "The current revision of auth store.", auth_revision_now},
        {"os_fd_used", "The number of used file descriptors.", fd_used},
        {"os_fd_limit", "The file descriptor limit.", fd_limit},
        {"process_open_fds", "Number of open file descriptors.", fd_used},
        {"process_max_fds", "Maximum number of open file descriptors.", fd_limit},
        {"process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes},
        {"process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual_bytes},
        {"process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.", virtual_limit},
        {"process_start_time_seconds", "Start time of the process since unix epoch in seconds.", start_time},
    };
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++) {
        metrics_callback(m, gauges[i].name, gauges[i].help, NULL, 0, gauges[i].value, s);
    }
    metrics_callback(m, "process_network_receive_bytes_total", "Number of bytes received by the process over the network.", NULL, 1, network_received, s);
    metrics_callback(m, "process_network_transmit_bytes_total", "Number of bytes sent by the process over the network.", NULL, 1, network_sent, s);
    metrics_callback(m, "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", NULL, 1, cpu_seconds, s);
    metrics_callback(m, "etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.",
                     "server_version=\"" ETCD_VERSION "\"", 0, one, s);
    metrics_callback(m, "etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.", id, 0, one, s);
    (void)snprintf(id, sizeof(id), "Local=\"%" PRIx64 "\",Remote=\"%" PRIx64 "\"", member_id(s->member), member_id(s->member));
    gauge_set(metrics_gauge(m, "etcd_network_known_peers", "The current number of known peers.", id), 1); /* as etcd, which knows itself */
    s->lease_renewed = metrics_counter(m, "etcd_debugging_lease_renewed_total", "The number of renewed leases seen by the leader.", NULL);
    s->slow_apply = metrics_counter(m, "etcd_server_slow_apply_total", "The total number of slow apply requests (likely overloaded from slow disk).", NULL);
    s->promote_successes = metrics_counter(m, "etcd_server_learner_promote_successes",
                                           "The total number of successful learner promotions while this member is leader.", NULL);
    s->read_indexes_failed = metrics_counter(m, "etcd_server_read_indexes_failed_total", "The total number of failed read indexes seen.", NULL);
    s->health_success = metrics_counter(m, "etcd_server_health_success", "The total number of successful health checks", NULL);
    s->health_failures = metrics_counter(m, "etcd_server_health_failures", "The total number of failed health checks", NULL);
    s->watch_streams = metrics_gauge(m, "etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", NULL);
}
