/* metrics_families.c - the families whose series stand from the start, so that no dashboard or alert rule looks for them in vain.
 *
 * Some count what only etcd's own parts do (bbolt's rebalancing, its second kind of snapshot, the v2 store, the proxy mode): they are there and stay
 * at 0. tests/system/test_metrics_etcd.py has the list, with reasons, and sees to it that everything else moves.
 * Names, types and buckets: etcd-v3-api.md 16.
 */
#include "api/etcd/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct buckets {
    double start, factor;
    unsigned n;
};
#define OF_DISK {0.001, 2, 14}

static const struct {
    const char *name;
    const char *help;
    struct buckets buckets;
} still_histograms[] = {
    {"etcd_snap_fsync_duration_seconds", "The latency distributions of fsync called by snap.", OF_DISK},
    {"etcd_snap_db_fsync_duration_seconds", "The latency distributions of fsyncing .snap.db file", OF_DISK},
    {"etcd_snap_db_save_total_duration_seconds", "The total latency distributions of v3 snapshot save", {0.1, 2, 10}},
    {"etcd_debugging_snap_save_marshalling_duration_seconds", "The marshalling cost distributions of save called by snapshot.", OF_DISK},
    {"etcd_debugging_snap_save_total_duration_seconds", "The total latency distributions of save called by snapshot.", OF_DISK},
    {"etcd_debugging_disk_backend_commit_rebalance_duration_seconds", "The latency distributions of commit.rebalance called by bboltdb backend.", OF_DISK},
    {"etcd_debugging_disk_backend_commit_spill_duration_seconds", "The latency distributions of commit.spill called by bboltdb backend.", OF_DISK},
    {"etcd_debugging_disk_backend_commit_write_duration_seconds", "The latency distributions of commit.write called by bboltdb backend.", OF_DISK},
};

enum still { STILL_COUNTER, STILL_GAUGE };
static const struct {
    enum still kind;
    const char *name;
    const char *labels;
    const char *help;
} still[] = {
    {STILL_GAUGE, "etcd_debugging_mvcc_pending_events_total", NULL, "Total number of pending events to be sent."},
    {STILL_COUNTER, "etcd_debugging_store_expires_total", NULL, "Total number of expired keys."},
    {STILL_COUNTER, "etcd_debugging_store_watch_requests_total", NULL, "Total number of incoming watch requests (new or reestablished)."},
    {STILL_GAUGE, "etcd_debugging_store_watchers", NULL, "Count of currently active watchers."},
    {STILL_GAUGE, "etcd_grpc_proxy_cache_hits_total", NULL, "Total number of cache hits"},
    {STILL_GAUGE, "etcd_grpc_proxy_cache_keys_total", NULL, "Total number of keys/ranges cached"},
    {STILL_GAUGE, "etcd_grpc_proxy_cache_misses_total", NULL, "Total number of cache misses"},
    {STILL_COUNTER, "etcd_grpc_proxy_events_coalescing_total", NULL, "Total number of events coalescing"},
    {STILL_GAUGE, "etcd_grpc_proxy_watchers_coalescing_total", NULL, "Total number of current watchers coalescing"},
    {STILL_COUNTER, "promhttp_metric_handler_requests_total", "code=\"500\"", "Total number of scrapes by HTTP status code."},
    {STILL_COUNTER, "promhttp_metric_handler_requests_total", "code=\"503\"", "Total number of scrapes by HTTP status code."},
};

/* By enum watch_send. */
static const struct {
    const char *name, *help;
} watch_send[N_WATCH_SENDS] = {
    [WATCH_SEND_EVENTS] = {"etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
                           "The total duration in seconds of running through the send loop watch stream response all events."},
    [WATCH_SEND_EVENT] = {"etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
                          "The average duration in seconds of running through the send loop watch stream response, per event."},
    [WATCH_SEND_CONTROL] = {"etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
                            "The total duration in seconds of running through the send loop control stream response."},
    [WATCH_SEND_PROGRESS] = {"etcd_debugging_server_watch_send_loop_progress_duration_seconds",
                             "The total duration in seconds of running through the progress loop control stream response."},
};

static void pair(struct metrics *m, struct histogram *out[2], const char *name, const char *help, const char *failed, const char *done, struct buckets b)
{
    out[0] = metrics_histogram(m, name, help, failed, b.start, b.factor, b.n);
    out[1] = metrics_histogram(m, name, help, done, b.start, b.factor, b.n);
}

void server_metrics_families(struct etcd_server *s)
{
    struct metrics *m = s->cfg.metrics;
    for (size_t i = 0; i < ARRAY_LEN(still_histograms); i++) {
        const struct buckets *b = &still_histograms[i].buckets;
        (void)metrics_histogram(m, still_histograms[i].name, still_histograms[i].help, NULL, b->start, b->factor, b->n);
    }
    for (size_t i = 0; i < ARRAY_LEN(still); i++) {
        if (still[i].kind == STILL_COUNTER) {
            (void)metrics_counter(m, still[i].name, still[i].help, still[i].labels);
        } else {
            (void)metrics_gauge(m, still[i].name, still[i].help, still[i].labels);
        }
    }
    for (size_t i = 0; i < N_WATCH_SENDS; i++) {
        s->watch_send[i] = metrics_histogram(m, watch_send[i].name, watch_send[i].help, NULL, 0.001, 2, 14);
    }
    for (unsigned i = 0; i < 2; i++) {
        s->stream_failures[i] = metrics_counter(m, "etcd_network_server_stream_failures_total", "The total number of stream failures from the local server.",
                                                i == 0 ? "API=\"watch\",Type=\"receive\"" : "API=\"lease-keepalive\",Type=\"receive\"");
    }
    pair(m, s->range_seconds, "etcd_server_range_duration_seconds", "The latency distributions of txn.Range", "success=\"false\"", "success=\"true\"",
         (struct buckets){0.0001, 2, 20});
    pair(m, s->range_request_seconds, "etcd_server_request_duration_seconds", "Response latency distribution in seconds for each type.",
         "success=\"false\",type=\"Range\"", "success=\"true\",type=\"Range\"", (struct buckets)OF_DISK);
    s->snapshot_seconds = metrics_histogram(m, "etcd_disk_backend_snapshot_duration_seconds", "The latency distribution of backend snapshots.", NULL, 0.01, 2, 17);
    s->scrapes = metrics_counter(m, "promhttp_metric_handler_requests_total", "Total number of scrapes by HTTP status code.", "code=\"200\"");
    gauge_set(metrics_gauge(m, "promhttp_metric_handler_requests_in_flight", "Current number of scrapes being served.", NULL), 1); /* the one that reads it */
    gauge_set(metrics_gauge(m, "etcd_server_go_version", "Which Go version server is running with. 1 for 'server_go_version' label with current version.",
                            "server_go_version=\"none\""),
              1);
}

static void show_alarm(struct etcd_server *s, uint64_t id, const char *type, bool raised)
{
    char labels[96];
    (void)snprintf(labels, sizeof(labels), "alarm_type=\"%s\",server_id=\"%" PRIx64 "\"", type, id);
    gauge_set(metrics_gauge(s->cfg.metrics, "etcd_debugging_server_alarms", "Alarms for every member in cluster. 1 for 'server_id' label with current ID. "
                            "2 for 'alarm_type' label with type of this alarm", labels),
              raised ? 1 : 0);
}

/* A series for each member and type; those of alarms for somebody else (an unknown member's, or one's that was removed) are there while they stand. */
void server_show_alarms(struct etcd_server *s)
{
    static const char *const types[] = {[1] = "NOSPACE", [2] = "CORRUPT"};
    size_t n_members = 0;
    struct member_info *members = engine_members(s->engine, &n_members);
    struct alarm *alarms = xcalloc(ENGINE_ALARMS_MAX, sizeof(*alarms));
    size_t n_alarms = engine_alarms(s->engine, alarms, ENGINE_ALARMS_MAX);
    n_alarms = n_alarms < ENGINE_ALARMS_MAX ? n_alarms : ENGINE_ALARMS_MAX;
    for (size_t i = 0; i < n_members; i++) {
        for (int type = 1; type <= 2; type++) {
            bool raised = false;
            for (size_t k = 0; k < n_alarms; k++) {
                raised = raised || (alarms[k].member_id == members[i].id && alarms[k].type == type);
            }
            show_alarm(s, members[i].id, types[type], raised);
        }
    }
    for (size_t k = 0; k < n_alarms; k++) {
        if (alarms[k].type == 1 || alarms[k].type == 2) {
            show_alarm(s, alarms[k].member_id, types[alarms[k].type], true);
        }
    }
    free(alarms);
    free(members);
}
