"""/metrics as dashboards and alert rules of etcd want it: every family with its type and labels, accepted by promtool, with right values."""
import glob
import os
import re
import shutil
import subprocess
import unittest

from harness import BINARY_DIR, ServerCase, etcdctl
from test_services_cluster import Case

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

# Name, type and label names, as etcd 3.7 tells them.
FAMILIES = {
    "etcd_server_has_leader": (GAUGE, ""), "etcd_server_is_leader": (GAUGE, ""), "etcd_server_is_learner": (GAUGE, ""),
    "etcd_server_leader_changes_seen_total": (COUNTER, ""), "etcd_server_learner_promote_successes": (COUNTER, ""),
    "etcd_server_heartbeat_send_failures_total": (COUNTER, ""), "etcd_server_snapshot_apply_in_progress_total": (GAUGE, ""),
    "etcd_server_proposals_committed_total": (GAUGE, ""), "etcd_server_proposals_applied_total": (GAUGE, ""),
    "etcd_server_proposals_pending": (GAUGE, ""), "etcd_server_proposals_failed_total": (COUNTER, ""),
    "etcd_server_slow_apply_total": (COUNTER, ""), "etcd_server_slow_read_indexes_total": (COUNTER, ""),
    "etcd_server_read_indexes_failed_total": (COUNTER, ""), "etcd_server_apply_duration_seconds": (HISTOGRAM, "op success version"),
    "etcd_server_range_duration_seconds": (HISTOGRAM, "success"), "etcd_server_request_duration_seconds": (HISTOGRAM, "success type"),
    "etcd_server_client_requests_total": (COUNTER, "client_api_version type"), "etcd_server_quota_backend_bytes": (GAUGE, ""),
    "etcd_server_version": (GAUGE, "server_version"), "etcd_server_go_version": (GAUGE, "server_go_version"), "etcd_server_id": (GAUGE, "server_id"),
    "etcd_server_feature_enabled": (GAUGE, "name stage"), "etcd_server_health_success": (COUNTER, ""), "etcd_server_health_failures": (COUNTER, ""),
    "etcd_server_healthcheck": (GAUGE, "name type"), "etcd_server_healthchecks_total": (COUNTER, "name status type"),
    "etcd_cluster_version": (GAUGE, "cluster_version"), "os_fd_used": (GAUGE, ""), "os_fd_limit": (GAUGE, ""),
    "etcd_mvcc_range_total": (COUNTER, ""), "etcd_mvcc_put_total": (COUNTER, ""), "etcd_mvcc_delete_total": (COUNTER, ""), "etcd_mvcc_txn_total": (COUNTER, ""),
    "etcd_mvcc_db_total_size_in_bytes": (GAUGE, ""), "etcd_mvcc_db_total_size_in_use_in_bytes": (GAUGE, ""), "etcd_mvcc_db_open_read_transactions": (GAUGE, ""),
    "etcd_mvcc_hash_duration_seconds": (HISTOGRAM, ""), "etcd_mvcc_hash_rev_duration_seconds": (HISTOGRAM, ""),
    "etcd_disk_wal_fsync_duration_seconds": (HISTOGRAM, ""), "etcd_disk_wal_write_duration_seconds": (HISTOGRAM, ""),
    "etcd_disk_wal_write_bytes_total": (GAUGE, ""), "etcd_disk_backend_commit_duration_seconds": (HISTOGRAM, ""),
    "etcd_disk_backend_defrag_duration_seconds": (HISTOGRAM, ""), "etcd_disk_backend_snapshot_duration_seconds": (HISTOGRAM, ""),
    "etcd_disk_defrag_inflight": (GAUGE, ""), "etcd_snap_fsync_duration_seconds": (HISTOGRAM, ""), "etcd_snap_db_fsync_duration_seconds": (HISTOGRAM, ""),
    "etcd_snap_db_save_total_duration_seconds": (HISTOGRAM, ""),
    "etcd_network_client_grpc_sent_bytes_total": (COUNTER, ""), "etcd_network_client_grpc_received_bytes_total": (COUNTER, ""),
    "etcd_network_server_stream_failures_total": (COUNTER, "API Type"),
    "etcd_debugging_mvcc_keys_total": (GAUGE, ""), "etcd_debugging_mvcc_current_revision": (GAUGE, ""), "etcd_debugging_mvcc_compact_revision": (GAUGE, ""),
    "etcd_debugging_mvcc_watch_stream_total": (GAUGE, ""), "etcd_debugging_mvcc_watcher_total": (GAUGE, ""), "etcd_debugging_mvcc_slow_watcher_total": (GAUGE, ""),
    "etcd_debugging_mvcc_events_total": (COUNTER, ""), "etcd_debugging_mvcc_pending_events_total": (GAUGE, ""),
    "etcd_debugging_mvcc_total_put_size_in_bytes": (GAUGE, ""), "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds": (HISTOGRAM, ""),
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds": (HISTOGRAM, ""), "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds": (HISTOGRAM, ""),
    "etcd_debugging_mvcc_db_compaction_last": (GAUGE, ""), "etcd_debugging_mvcc_db_compaction_keys_total": (COUNTER, ""),
    "etcd_debugging_lease_granted_total": (COUNTER, ""), "etcd_debugging_lease_revoked_total": (COUNTER, ""), "etcd_debugging_lease_renewed_total": (COUNTER, ""),
    "etcd_debugging_lease_ttl_total": (HISTOGRAM, ""), "etcd_debugging_server_lease_expired_total": (COUNTER, ""),
    "etcd_debugging_server_alarms": (GAUGE, "alarm_type server_id"), "etcd_debugging_auth_revision": (GAUGE, ""),
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds": (HISTOGRAM, ""),
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds": (HISTOGRAM, ""),
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds": (HISTOGRAM, ""),
    "etcd_debugging_server_watch_send_loop_progress_duration_seconds": (HISTOGRAM, ""),
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds": (HISTOGRAM, ""), "etcd_debugging_disk_backend_commit_spill_duration_seconds": (HISTOGRAM, ""),
    "etcd_debugging_disk_backend_commit_write_duration_seconds": (HISTOGRAM, ""), "etcd_debugging_snap_save_marshalling_duration_seconds": (HISTOGRAM, ""),
    "etcd_debugging_snap_save_total_duration_seconds": (HISTOGRAM, ""), "etcd_debugging_store_expires_total": (COUNTER, ""),
    "etcd_debugging_store_watch_requests_total": (COUNTER, ""), "etcd_debugging_store_watchers": (GAUGE, ""),
    "etcd_grpc_proxy_cache_hits_total": (GAUGE, ""), "etcd_grpc_proxy_cache_keys_total": (GAUGE, ""), "etcd_grpc_proxy_cache_misses_total": (GAUGE, ""),
    "etcd_grpc_proxy_watchers_coalescing_total": (GAUGE, ""), "etcd_grpc_proxy_events_coalescing_total": (COUNTER, ""),
    "grpc_server_started_total": (COUNTER, "grpc_method grpc_service grpc_type"),
    "grpc_server_handled_total": (COUNTER, "grpc_code grpc_method grpc_service grpc_type"),
    "grpc_server_msg_received_total": (COUNTER, "grpc_method grpc_service grpc_type"),
    "grpc_server_msg_sent_total": (COUNTER, "grpc_method grpc_service grpc_type"),
    "grpc_server_handling_seconds": (HISTOGRAM, "grpc_method grpc_service grpc_type"),
    "process_cpu_seconds_total": (COUNTER, ""), "process_open_fds": (GAUGE, ""), "process_max_fds": (GAUGE, ""), "process_resident_memory_bytes": (GAUGE, ""),
    "process_virtual_memory_bytes": (GAUGE, ""), "process_virtual_memory_max_bytes": (GAUGE, ""), "process_start_time_seconds": (GAUGE, ""),
    "process_network_receive_bytes_total": (COUNTER, ""), "process_network_transmit_bytes_total": (COUNTER, ""),
    "promhttp_metric_handler_requests_total": (COUNTER, "code"), "promhttp_metric_handler_requests_in_flight": (GAUGE, ""),
}

CLUSTER_FAMILIES = {
    "etcd_network_active_peers": (GAUGE, "Local Remote"), "etcd_network_known_peers": (GAUGE, "Local Remote"),
    "etcd_network_disconnected_peers_total": (COUNTER, "Local Remote"), "etcd_network_peer_sent_bytes_total": (COUNTER, "To"),
    "etcd_network_peer_sent_failures_total": (COUNTER, "To"), "etcd_network_peer_received_bytes_total": (COUNTER, "From"),
    "etcd_network_peer_received_failures_total": (COUNTER, "From"), "etcd_network_peer_round_trip_time_seconds": (HISTOGRAM, "To"),
    "etcd_network_snapshot_send_success": (COUNTER, "To"), "etcd_network_snapshot_send_failures": (COUNTER, "To"),
    "etcd_network_snapshot_send_inflights_total": (GAUGE, "To"), "etcd_network_snapshot_send_total_duration_seconds": (HISTOGRAM, "To"),
}

# The series that etcd's published alert rules and dashboard ask for.
RULES = """etcd_network_peer_sent_failures_total etcd_server_has_leader etcd_server_leader_changes_seen_total grpc_server_handled_total
grpc_server_handling_seconds_bucket etcd_network_peer_round_trip_time_seconds_bucket etcd_server_proposals_failed_total
etcd_disk_wal_fsync_duration_seconds_bucket etcd_disk_backend_commit_duration_seconds_bucket etcd_mvcc_db_total_size_in_bytes
etcd_server_quota_backend_bytes etcd_mvcc_db_total_size_in_use_in_bytes grpc_server_started_total process_resident_memory_bytes
etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total etcd_network_peer_received_bytes_total
etcd_network_peer_sent_bytes_total etcd_server_proposals_pending etcd_server_proposals_committed_total etcd_server_proposals_applied_total
etcd_server_heartbeat_send_failures_total etcd_server_health_failures""".split()

BUCKETS = {
    "etcd_disk_wal_fsync_duration_seconds": [0.001 * 2 ** i for i in range(14)],
    "etcd_server_apply_duration_seconds": [0.0001 * 2 ** i for i in range(20)],
    "grpc_server_handling_seconds": [.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10],
}


def parse(text):
    """Types by family, and {name: {labels as a sorted tuple: value}}."""
    types, series = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            types[name] = kind
        elif line and not line.startswith("#"):
            name, labels, value = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line).groups()
            pairs = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")))
            assert pairs not in series.setdefault(name, {}), line
            series[name][pairs] = float(value)
    return types, series


def promtool():
    """Debian's, unpacked beside the build and never installed; None where it cannot be had."""
    found = shutil.which("promtool")
    place = os.path.join(BINARY_DIR, "prometheus")
    program = os.path.join(place, "x", "usr", "bin", "promtool")
    if found or os.path.exists(program):
        return found or program
    os.makedirs(place, exist_ok=True)
    try:
        subprocess.run(["apt-get", "-q", "download", "prometheus"], cwd=place, check=True, timeout=300, capture_output=True)
        subprocess.run(["dpkg", "-x", glob.glob(os.path.join(place, "prometheus_*.deb"))[0], os.path.join(place, "x")], check=True)
    except (OSError, subprocess.SubprocessError, IndexError):
        return None
    return program if os.path.exists(program) else None


class Exposition(Case):
    def scrape(self, m):
        return self.http(m, "/metrics")[1]

    def check(self, families, text):
        types, series = parse(text)
        for name, (kind, labels) in families.items():
            self.assertEqual(types.get(name), kind, name)
            for have in series[name + "_bucket" if kind == HISTOGRAM else name]:
                self.assertEqual(sorted(k for k, _ in have if k != "le"), labels.split(), name)
        return types, series

    def test_families_rules_and_promtool(self):
        members = self.cluster(3, more=["--metrics", "extensive"])
        for m in members:
            self.ctl(m, "put", "k", "v")
            self.ctl(m, "get", "k")
            self.http(m, "/health")
            self.http(m, "/readyz")
        tool = promtool()
        for m in members:
            self.until("round trips", lambda m=m: "etcd_network_peer_round_trip_time_seconds_bucket" in self.scrape(m))
            text = self.scrape(m)
            types, series = self.check({**FAMILIES, **CLUSTER_FAMILIES}, text)
            for name in RULES:
                self.assertIn(name, series)
            for name, bounds in BUCKETS.items():
                ends = {float(dict(x)["le"]) for x in series[name + "_bucket"]}
                self.assertEqual(sorted(ends)[:-1], [float(f"{b:.10g}") for b in bounds], name)
            if tool is not None:
                done = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
                # Its linter has opinions on etcd's names too (a gauge that ends in _total); what it cannot parse it calls an error.
                self.assertNotIn("error while linting", done.stdout + done.stderr)
                self.assertIn(done.returncode, (0, 3), done.stdout + done.stderr)
        leaders = sum(parse(self.scrape(m))[1]["etcd_server_is_leader"][()] for m in members)
        self.assertEqual(leaders, 1)
        self.stop_all(members)


class Values(ServerCase):
    """Numbers that follow what is done."""

    def series(self):
        import urllib.request
        with urllib.request.urlopen(self.server.endpoint + "/metrics", timeout=20) as r:
            return parse(r.read().decode())[1]

    def test_counts(self):
        before = self.series()
        for i in range(20):
            self.ctl("put", f"k{i}", "v")
        self.ctl("get", "", "--prefix")
        self.ctl("del", "k0")
        self.ctl("put", "", "v", code=1)
        after = self.series()

        def grown(name, **labels):
            key = tuple(sorted(labels.items()))
            return after[name][key] - before.get(name, {}).get(key, 0)
        self.assertEqual(grown("etcd_mvcc_put_total"), 20)
        self.assertEqual(grown("etcd_mvcc_delete_total"), 1)
        self.assertEqual(grown("etcd_server_apply_duration_seconds_count", version="v3", op="Put", success="true"), 20)
        self.assertEqual(grown("etcd_server_request_duration_seconds_count", type="Put", success="true"), 20)
        self.assertEqual(grown("etcd_server_request_duration_seconds_count", type="DeleteRange", success="true"), 1)
        self.assertEqual(grown("etcd_server_request_duration_seconds_count", type="Range", success="true"), 1)
        self.assertEqual(grown("etcd_server_range_duration_seconds_count", success="true"), 1)
        put = {"grpc_service": "etcdserverpb.KV", "grpc_method": "Put", "grpc_type": "unary"}
        self.assertEqual(grown("grpc_server_started_total", **put), 21)
        self.assertEqual(grown("grpc_server_handled_total", grpc_code="OK", **put), 20)
        self.assertEqual(grown("grpc_server_handled_total", grpc_code="InvalidArgument", **put), 1)
        self.assertEqual(grown("grpc_server_msg_received_total", **put), 21)
        self.assertEqual(grown("grpc_server_msg_sent_total", **put), 20)
        self.assertGreater(grown("etcd_disk_wal_write_bytes_total"), 20)
        self.assertGreaterEqual(grown("etcd_disk_wal_write_duration_seconds_count"), 1)
        self.assertEqual(after["etcd_debugging_mvcc_keys_total"][()], 19)
        self.assertNotIn("grpc_server_handling_seconds_bucket", after)  # only with --metrics=extensive
        self.assertEqual(after["etcd_server_feature_enabled"][(("name", "FastLeaseKeepAlive"), ("stage", "BETA"))], 1)

    def test_alarms_snapshot_compaction(self):
        self.ctl("put", "a", "1")
        self.ctl("put", "a", "2")
        self.ctl("compact", "3", "--physical")
        self.ctl("snapshot", "save", self.server.data_dir + "/s.db")
        done = etcdctl(self.server, "endpoint", "status", "-w", "json")
        self.assertEqual(done.code, 0)
        import json
        own = "%x" % json.loads(done.out)[0]["Status"]["header"]["member_id"]
        series = self.series()
        self.assertEqual(series["etcd_debugging_server_alarms"][(("alarm_type", "CORRUPT"), ("server_id", own))], 0)
        self.assertEqual(series["etcd_disk_backend_snapshot_duration_seconds_count"][()], 1)
        self.assertGreater(series["etcd_debugging_mvcc_db_compaction_keys_total"][()], 0)
        finished = [json.loads(x) for x in self.server.log_text().splitlines() if '"msg":"finished scheduled compaction"' in x]
        self.assertEqual(finished[-1]["compact-revision"], 3)
        for key in ("took", "number-of-keys-compacted", "hash", "current-db-size-bytes", "current-db-size-in-use-bytes"):
            self.assertIn(key, finished[-1])


if __name__ == "__main__":
    unittest.main()
