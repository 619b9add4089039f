/* metrics.c - the etcd_network families. */
#include "api/peer/internal.h"

#include "base/metrics.h"

#define RTT_START 0.0001 /* seconds; the buckets are etcd's */
#define RTT_BUCKETS 16u
#define SNAPSHOT_START 0.1
#define SNAPSHOT_BUCKETS 10u
#define FSYNC_START 0.001
#define FSYNC_BUCKETS 14u

void metrics_count(struct counter *c, uint64_t n)
{
    if (c != NULL) {
        counter_add(c, n);
    }
}

static struct counter *counter_of(struct peer_transport *t, const char *name, const char *help, const char *labels)
{
    return metrics_counter(t->cfg.metrics, name, help, labels);
}

static void open_pair(struct peer *p, const char *remote)
{
    struct peer_transport *t = p->t;
    struct metrics *m = t->cfg.metrics;
    char local[PEER_ID_TEXT_BYTES];
    struct bytes pair = {0};
    peer_id_format(t->identity.member, local);
    metrics_label(&pair, "Local", local);
    metrics_label(&pair, "Remote", remote);
    bytes_add(&pair, "", 1);
    const char *labels = (const char *)pair.data;
    p->metrics.active = metrics_gauge(m, "etcd_network_active_peers", "The current number of active peer connections.", labels);
    p->metrics.disconnected = counter_of(t, "etcd_network_disconnected_peers_total", "The total number of disconnected peers.", labels);
    p->metrics.known = metrics_gauge(m, "etcd_network_known_peers", "The current number of known peers.", labels);
    gauge_set(p->metrics.known, 1);
    bytes_deinit(&pair);
}

void peer_metrics_open(struct peer *p)
{
    struct peer_transport *t = p->t;
    struct metrics *m = t->cfg.metrics;
    struct peer_metrics *out = &p->metrics;
    if (m == NULL) {
        return;
    }
    open_pair(p, p->id_text);
    struct bytes to = {0};
    struct bytes from = {0};
    metrics_label(&to, "To", p->id_text);
    bytes_add(&to, "", 1);
    metrics_label(&from, "From", p->id_text);
    bytes_add(&from, "", 1);
    const char *t_to = (const char *)to.data;
    const char *t_from = (const char *)from.data;
    out->sent_bytes = counter_of(t, "etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.", t_to);
    out->sent_failures = counter_of(t, "etcd_network_peer_sent_failures_total", "The total number of send failures from peers.", t_to);
    out->received_bytes = counter_of(t, "etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.", t_from);
    out->received_failures =
        counter_of(t, "etcd_network_peer_received_failures_total", "The total number of receive failures from peers.", t_from);
    out->snapshots_sent = counter_of(t, "etcd_network_snapshot_send_success", "Total number of successful snapshot sends.", t_to);
    out->snapshots_failed = counter_of(t, "etcd_network_snapshot_send_failures", "Total number of snapshot send failures.", t_to);
    out->sending = metrics_gauge(m, "etcd_network_snapshot_send_inflights_total", "Total number of inflight snapshot sends.", t_to);
    out->snapshot_seconds = metrics_histogram(m, "etcd_network_snapshot_send_total_duration_seconds",
                                              "Total latency distributions of v3 snapshot sends.", t_to, SNAPSHOT_START, 2, SNAPSHOT_BUCKETS);
    out->round_trip = metrics_histogram(m, "etcd_network_peer_round_trip_time_seconds", "Round-trip-time histogram between peers.", t_to, RTT_START,
                                        2, RTT_BUCKETS);
    bytes_deinit(&to);
    bytes_deinit(&from);
}

static void from_label(uint64_t from, struct bytes *out)
{
    char id[PEER_ID_TEXT_BYTES];
    peer_id_format(from, id);
    metrics_label(out, "From", id);
    bytes_add(out, "", 1);
}

/* Databases come seldom, and from whom is known only then: the series are looked up by name. */
void metrics_spool(struct peer_transport *t, uint64_t from, bool ok, uint64_t ns)
{
    struct metrics *m = t->cfg.metrics;
    if (m == NULL) {
        return;
    }
    struct bytes label = {0};
    from_label(from, &label);
    const char *labels = (const char *)label.data;
    if (ok) {
        counter_add(metrics_counter(m, "etcd_network_snapshot_receive_success", "Total number of successful snapshot receives.", labels), 1);
        histogram_observe_ns(metrics_histogram(m, "etcd_network_snapshot_receive_total_duration_seconds",
                                               "Total latency distributions of v3 snapshot receives.", labels, SNAPSHOT_START, 2, SNAPSHOT_BUCKETS),
                             ns);
        histogram_observe_ns(metrics_histogram(m, "etcd_snap_db_save_total_duration_seconds", "The total latency distributions of v3 snapshot save", NULL,
                                               SNAPSHOT_START, 2, SNAPSHOT_BUCKETS),
                             ns);
    } else {
        counter_add(metrics_counter(m, "etcd_network_snapshot_receive_failures", "Total number of snapshot receive failures.", labels), 1);
    }
    bytes_deinit(&label);
}

void metrics_spool_synced(struct peer_transport *t, uint64_t ns)
{
    if (t->cfg.metrics != NULL) {
        histogram_observe_ns(metrics_histogram(t->cfg.metrics, "etcd_snap_db_fsync_duration_seconds",
                                               "The latency distributions of fsyncing .snap.db file", NULL, FSYNC_START, 2, FSYNC_BUCKETS),
                             ns);
    }
}

void metrics_spool_change(struct peer_transport *t, uint64_t from, double change)
{
    struct metrics *m = t->cfg.metrics;
    if (m == NULL) {
        return;
    }
    struct bytes label = {0};
    from_label(from, &label);
    gauge_add(metrics_gauge(m, "etcd_network_snapshot_receive_inflights_total", "Total number of inflight snapshot receives.",
                            (const char *)label.data),
              change);
    bytes_deinit(&label);
}
