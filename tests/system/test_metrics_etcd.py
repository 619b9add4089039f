"""/metrics beside etcd's after the same work: names, types, labels and help texts; and whether everything that is shown is counted somewhere."""
import http.client
import json
import os
import re
import signal
import time
import unittest

import grpc

import oracle_server
from harness import Server, etcdctl
from test_services_cluster import PUT, RANGE, ClusterCase
from wire import field

# Of etcd's families, those that are not ours: there is no Go run time, and numbers of one that are made up would mislead.
NOT_OURS = re.compile("go_")

# Of ours, those that etcd shows only when there is something to show. A series at 0 is what alert rules want.
ONLY_OURS = {
    "etcd_debugging_server_alarms": "etcd shows members with an alarm alone; here 0 for the others",
    "etcd_network_server_stream_failures_total": "etcd shows what has failed; here 0 before",
}

HELP_DIFFERS = {"etcd_server_apply_duration_seconds": "etcd's says v2"}

# Series that etcd makes with their first value and that are here from the start.
SERIES_FROM_START = {"etcd_debugging_server_alarms", "etcd_server_range_duration_seconds", "etcd_server_request_duration_seconds", "grpc_server_handled_total",
                     "grpc_server_handling_seconds", "grpc_server_msg_received_total", "grpc_server_msg_sent_total", "grpc_server_started_total"}

# What is registered and stays at 0 in the work below, and why.
STILL = {
    # etcd's own parts, which this server does not have
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds": "bbolt's: LMDB's trees are balanced as they are written",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds": "bbolt's: pages are split as they are written",
    "etcd_debugging_disk_backend_commit_write_duration_seconds": "bbolt's part of a commit; LMDB's is one: etcd_disk_backend_commit_duration_seconds",
    "etcd_debugging_snap_save_marshalling_duration_seconds": "no snapshots of the v2 store",
    "etcd_debugging_snap_save_total_duration_seconds": "no snapshots of the v2 store",
    "etcd_snap_fsync_duration_seconds": "no snapshots of the v2 store",
    "etcd_debugging_store_expires_total": "no v2 store",
    "etcd_debugging_store_watch_requests_total": "no v2 store",
    "etcd_debugging_store_watchers": "no v2 store",
    "etcd_grpc_proxy_cache_hits_total": "no proxy in a server",
    "etcd_grpc_proxy_cache_keys_total": "no proxy in a server",
    "etcd_grpc_proxy_cache_misses_total": "no proxy in a server",
    "etcd_grpc_proxy_events_coalescing_total": "no proxy in a server",
    "etcd_grpc_proxy_watchers_coalescing_total": "no proxy in a server",
    "etcd_debugging_mvcc_pending_events_total": "events go straight to their stream, or are read from history when it has room",
    "etcd_debugging_server_alarms": "1 while one stands",
    # moved by the cluster below, or by other tests
    "etcd_server_is_learner": "tests/system/test_cluster.py",
    "etcd_server_learner_promote_successes": "tests/system/test_services_cluster.py",
    "etcd_server_snapshot_apply_in_progress_total": "1 for the moment of taking over a leader's snapshot",
    "etcd_snap_db_fsync_duration_seconds": "the cluster below",
    "etcd_snap_db_save_total_duration_seconds": "the cluster below",
    "etcd_server_heartbeat_send_failures_total": "the cluster below",
    "etcd_server_proposals_failed_total": "the cluster below",
    "etcd_server_read_indexes_failed_total": "the cluster below",
    "etcd_server_slow_read_indexes_total": "the cluster below",
    "etcd_server_health_failures": "the cluster below",
    "etcd_server_slow_apply_total": "tests/system/test_operations.py, with a limit of a microsecond",
    "etcd_debugging_mvcc_slow_watcher_total": "tests/engine/watch: of the moment in which a watcher is behind",
    "etcd_disk_defrag_inflight": "1 while the store is rewritten",
    "etcd_server_proposals_pending": "of the moment",
    "etcd_mvcc_db_open_read_transactions": "of the moment; etcd has one all the time",
}


def parse(text):
    """{family: (help, type, {(series, labels): value})}"""
    out, current = {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, current, words = line.split(" ", 3)
            out[current] = [words, None, {}]
        elif line.startswith("# TYPE "):
            out[line.split()[2]][1] = line.split()[3]
        elif line:
            name, labels, value = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line).groups()
            out[current][2][(name, tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""))))] = float(value)
    return out


def get(s, path, body=None):
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=30)
    try:
        c.request("POST" if body is not None else "GET", path, json.dumps(body) if body is not None else None)
        return c.getresponse().read().decode()
    finally:
        c.close()


def garbage(s, method):
    """A message that is none, on a stream."""
    with grpc.insecure_channel(f"127.0.0.1:{s.port}") as channel:
        call = channel.stream_stream(method, request_serializer=bytes, response_deserializer=bytes)(iter([b"\xff"]), timeout=20)
        try:
            for _ in call:
                pass
        except grpc.RpcError:
            pass


def work(s):
    """Something of everything; /metrics while a watch is open."""
    def ctl(*words, **more):
        return etcdctl(s, *words, **more).out
    for i in range(5):
        ctl("put", f"k{i}", "v")
    ctl("put", "k0", "again")
    ctl("get", "", "--prefix")
    ctl("del", "k0")
    ctl("put", "", "x")
    ctl("txn", stdin='mod("k1") > "0"\n\nput a b\nput c d\n\n\n')
    lease = ctl("lease", "grant", "60").split()[1]
    ctl("put", "l", "v", "--lease", lease)
    ctl("lease", "keep-alive", "--once", lease)
    ctl("lease", "timetolive", lease, "--keys")
    ctl("lease", "revoke", lease)
    ctl("lease", "grant", "1")
    ctl("lock", "x", "true")
    ctl("compact", "8", "--physical")
    ctl("defrag")
    ctl("snapshot", "save", os.path.join(s.data_dir, "snapshot.db"))
    for words in (("endpoint", "hashkv"), ("endpoint", "status"), ("member", "list"), ("alarm", "list"), ("user", "add", "u:p"), ("role", "add", "r")):
        ctl(*words)
    get(s, "/v3/maintenance/hash", {})
    for path in ("/health", "/readyz", "/livez", "/version", "/metrics"):
        get(s, path)
    for method in ("/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"):
        garbage(s, method)
    get(s, "/v3/maintenance/alarm", {"action": "ACTIVATE", "memberID": "1", "alarm": "CORRUPT"})
    get(s, "/health")
    get(s, "/v3/maintenance/alarm", {"action": "DEACTIVATE", "memberID": "1", "alarm": "CORRUPT"})
    c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=30)
    c.request("POST", "/v3/watch", json.dumps({"create_request": {"key": "azE=", "progress_notify": True}}))
    r = c.getresponse()
    r.readline()
    ctl("put", "k1", "w")
    r.readline()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        text = get(s, "/metrics")
        found = parse(text)
        if moved(found, "etcd_debugging_server_lease_expired_total") and moved(found, "etcd_debugging_server_watch_send_loop_progress_duration_seconds"):
            break
        time.sleep(0.1)
    c.close()
    return found


def moved(found, name):
    return any(v > 0 for v in found[name][2].values())


FLAGS = ("--metrics=extensive", "--watch-progress-notify-interval=1s")


class Families(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server(FLAGS).start()
        cls.ours = work(cls.server)
        cls.server.stop()
        assert "Sanitizer" not in cls.server.log_text()
        cls.server.close()

    def test_everything_that_is_shown_is_counted(self):
        still = {name for name, (_, _, series) in self.ours.items() if all(v == 0 for v in series.values())}
        self.assertEqual(still - set(STILL), set(), "registered and never counted: count it, or say why not")
        self.assertEqual(set(STILL) - set(self.ours), set(), "these are gone")

    @unittest.skipUnless("3.7" in oracle_server.programs(), "no etcd 3.7 here")
    def test_the_same_as_etcd(self):
        etcd = oracle_server.Etcd(oracle_server.programs()["3.7"], FLAGS).start()
        self.addCleanup(etcd.close)
        theirs = work(etcd)
        self.assertEqual({n for n in set(theirs) - set(self.ours) if not NOT_OURS.match(n)}, set())
        self.assertEqual(set(self.ours) - set(theirs) - set(ONLY_OURS), set())
        for name in set(theirs) & set(self.ours):
            with self.subTest(name):
                (help_a, type_a, a), (help_b, type_b, b) = self.ours[name], theirs[name]
                self.assertEqual(type_a, type_b)
                if name not in HELP_DIFFERS:
                    self.assertEqual(help_a, help_b)

                def shape(series):
                    return {(n, tuple(k if "id" in k or k in ("Local", "Remote", "server_go_version") else (k, v) for k, v in labels)) for n, labels in series}
                self.assertEqual(shape(b) - shape(a), set())
                if name not in SERIES_FROM_START:
                    self.assertEqual(shape(a) - shape(b), set())


class InACluster(ClusterCase):
    more = ["--snapshot-catchup-entries", "100"]

    def test_what_only_trouble_moves(self):
        """A member that was away takes a snapshot; a leader stands still for a moment; then nobody follows it any more."""
        away = self.followers[0]
        away.server.kill()
        put = self.channel(self.led).unary_unary(PUT)
        value = "v" * 50000
        for _ in range(6):
            for f in [put.future(field(1, "k") + field(2, value)) for i in range(100)]:
                f.result(timeout=30)
        away.server.start()
        for name in ("etcd_snap_db_fsync_duration_seconds_count", "etcd_snap_db_save_total_duration_seconds_count"):
            self.until(name, lambda name=name: self.metric(away, name) > 0)
        self.led.server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)  # several heartbeats, less than an election
        self.led.server.process.send_signal(signal.SIGCONT)
        self.until("late heartbeats", lambda: self.metric(self.led, "etcd_server_heartbeat_send_failures_total") > 0)
        led = self.leader(self.members)
        for m in self.members:
            if m is not led:
                m.server.kill()
        waiting = self.channel(led).unary_unary(RANGE).future(field(1, "k"), timeout=30)
        self.assertEqual(self.error(led, PUT, field(1, "k"))[0], "UNAVAILABLE")
        self.assertEqual(waiting.code().name, "UNAVAILABLE")
        self.assertEqual(self.http(led, "/health")[0], 503)
        for name in ("etcd_server_slow_read_indexes_total", "etcd_server_read_indexes_failed_total", "etcd_server_proposals_failed_total",
                     "etcd_server_health_failures"):
            self.assertGreater(self.metric(led, name), 0, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
