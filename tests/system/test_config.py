"""--config-file: YAML as etcd reads it."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

from harness import PINTLE, ROOT, Server, etcdctl, free_port

ETCD = os.path.join(ROOT, "build", "release", "oracle", "etcd-go")
NEVER = "heartbeat-interval: 0\n"  # ends every start, after most other checks


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pintle-test-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.path = os.path.join(self.dir, "config.yml")

    def write(self, text):
        with open(self.path, "w", encoding="utf-8") as f:
            f.write(text)

    def run_to_end(self, program, *flags, environment=None):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        r = subprocess.run([program, *flags], capture_output=True, text=True, timeout=60, cwd=self.dir, env={**inherited, **(environment or {})})
        self.assertNotIn("Sanitizer", r.stderr)
        return r


class Server_(Server):
    """Its flags are all in a file."""

    def command(self):
        return [PINTLE, *self.flags]


class Used(Case):
    def test_whole(self):
        """The file alone counts: neither a flag nor a variable beside it, even where they contradict each other."""
        data = os.path.join(self.dir, "data")
        port = free_port()
        self.write(f"""
name: from-file
data-dir: {data}
listen-client-urls: http://127.0.0.1:{port}
advertise-client-urls: http://127.0.0.1:{port}
listen-peer-urls: http://127.0.0.1:0
initial-cluster-token: of-file
Heartbeat-Interval: 0x32
election-timeout: 1_000
pre-vote: off
watch-progress-notify-interval: 600000000000
snapshot-catchup-entries: 77
unknown-key: [1, {{a: b}}]
experimental-max-learners: 3
feature-gates: InitialCorruptCheck=true
discovery:
""")
        s = Server_(data_dir=data, port=port, flags=["--config-file", self.path, "--name=x"], environment={"ETCD_NAME": "y", "ETCD_HEARTBEAT_INTERVAL": "z"})
        s.log_path = os.path.join(self.dir, "log")
        s.start()
        self.addCleanup(s.close)
        self.assertEqual(json.loads(etcdctl(s, "member", "list", "-w", "json").out)["members"][0]["name"], "from-file")
        self.assertEqual(s.stop(), -signal.SIGTERM)
        lines = [json.loads(x) for x in s.log_text().splitlines()]
        loaded = [x for x in lines if x["msg"].startswith("loaded server configuration, other configuration command line flags")]
        self.assertEqual([(x["level"], x["path"]) for x in loaded], [("info", self.path)])
        started = [x for x in lines if x["msg"] == "starting an etcd server"][0]
        self.assertEqual([started[k] for k in ("name", "heartbeat-interval-ms", "election-timeout-ms", "pre-vote", "max-learners", "snapshot-catchup-entries",
                                               "initial-cluster-token")], ["from-file", 50, 1000, False, 3, 77, "of-file"])
        self.assertNotIn("Sanitizer", s.log_text())

    def test_by_variable(self):
        self.write(NEVER)
        r = self.run_to_end(PINTLE, environment={"ETCD_CONFIG_FILE": self.path})
        self.assertEqual(r.returncode, 1)
        self.assertIn("--heartbeat-interval must be >0", r.stderr)
        r = self.run_to_end(PINTLE, "--config-file", self.path, "--bogus")
        self.assertEqual((r.returncode, r.stderr.split("\n")[0]), (2, "flag provided but not defined: -bogus"))

    def test_bombs(self):
        """Aliases that multiply, nesting without end, a file without end: an error, at once."""
        many = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
        for text in (many, "a: " + "[" * 5000, "a: " * 3000 + "b", "a: &a [*a]\n", "x" * (2 << 20)):
            self.write(text)
            r = self.run_to_end(PINTLE, "--config-file", self.path)
            self.assertEqual(r.returncode, 1)
            self.assertIn("error converting YAML to JSON: yaml: ", r.stderr)


@unittest.skipUnless(os.access(ETCD, os.X_OK), "no etcd 3.7 beside us")
class AsEtcd(Case):
    def outcome(self, program):
        r = self.run_to_end(program, "--config-file", self.path)
        if r.returncode == 2:
            return 2, r.stderr.split("\n")[0]
        lines = [json.loads(x) for x in r.stderr.splitlines() if x.startswith("{")]
        said = [(x["level"], x["error"]) for x in lines if x["msg"] == "failed to verify flags"]
        return r.returncode, said or [x for x in r.stderr.splitlines() if not x.startswith("{")]

    def same(self, texts):
        for text in texts:
            self.write(text)
            with self.subTest(text):
                self.assertEqual(self.outcome(PINTLE), self.outcome(ETCD))

    def test_types(self):
        self.same(["heartbeat-interval: abc", "backend-batch-interval: 10m", "pre-vote: 1", "name: [a]", "name: 5", "name: 1.5", "name: y", "name: {a: b}",
                   "max-txn-ops: -1", "max-txn-ops: 1.5", "max-txn-ops: '5'", "cipher-suites: abc", "log-outputs: [5]", "log-outputs: x",
                   "max-concurrent-streams: 99999999999", "snapshot-count: -1", "quota-backend-bytes: x", "feature-gates: [a]", "feature-gates: {a: true}",
                   "listen-client-urls: [a]", "socket-options: 5", "socket-options: {reuse-port: 5}", "cors: [a]", "host-whitelist: [a]",
                   "auto-compaction-retention: 1", "v2-deprecation: [x]", "compaction-batch-limit: x", "bootstrap-defrag-threshold-megabytes: x",
                   "max-learners: x", "max-wals: x", "self-signed-cert-validity: x", "warning-apply-duration: 1s", "NAME: [b]",
                   "max-txn-ops: x\nheartbeat-interval: y", "tls-min-version: 5", "metrics: [1]", "discovery-srv: 5",
                   "client-transport-security: x", "peer-transport-security: [1]", "client-transport-security: {cert-file: 5}",
                   "client-transport-security: {cert-file: 5, allowed-cn: x}", "peer-transport-security: {allowed-cn: [1]}",
                   "peer-transport-security: {auto-tls: x}", "discovery-config: 5", "discovery-config: {client: 5}", "discovery-config: {token: 5}",
                   "discovery-config: {client: {dial-timeout: 1s}}", "discovery-config: {client: {endpoints: a}}",
                   "discovery-config: {client: {secure: {cert: 5}}}", "discovery-config: {client: {auth: {username: 5}}}", "- a", "abc", "5",
                   "corrupt-check-time: 99999999999999999999", "quota-backend-bytes: 9223372036854775808"])

    def test_values(self):
        self.same([NEVER, "name: null\nelection-timeout: 3", "heartbeat-interval: 0x10\nelection-timeout: 010", "bcrypt-cost: 1.0\n" + NEVER,
                   "quota-backend-bytes: 1e3\n" + NEVER, "1: 2\n" + NEVER, "no-such-key: 1\n" + NEVER, "discovery-fallback: proxy\n" + NEVER,
                   "raft-read-timeout: x\n" + NEVER, "v2-deprecation: foo\n" + NEVER, "initial-cluster-state: foo", "initial-cluster-state: ''\n" + NEVER,
                   "listen-client-urls: ''\n" + NEVER, "listen-client-urls: http://127.0.0.1:1\n" + NEVER, "log-level: bad", "logger: foo", "log-format: x",
                   "auto-compaction-mode: ''", "log-outputs: [stderr, default]", "enable-log-rotation: true", "discovery-config: {token: x}",
                   "discovery-srv: x\ninitial-cluster: y", "discovery-srv: x\n" + NEVER,
                   "feature-gates: Foo=true", "feature-gates: LeaseCheckpointPersist=true", "tls-min-version: x", "compact-hash-check-time: 0",
                   "a: &a {name: x, heartbeat-interval: 0}\n<<: *a\n", "<<: 5", NEVER + "---\nheartbeat-interval: y\n",
                   "heartbeat-interval: 5\nheartbeat-interval: 0", "HEARTBEAT-INTERVAL: 0", "listen-peer-urls: http://foo:1"])

    def test_urls(self):
        self.same(["listen-peer-urls: ftp://x", "listen-client-urls: http://x", "listen-client-http-urls: x", "initial-advertise-peer-urls: http://a:1/x",
                   "advertise-client-urls: http://x", "listen-metrics-urls: ftp://x", "listen-metrics-urls: x\nlisten-peer-urls: y"])

    def test_syntax(self):
        self.same(["a: b: c", "\t: x", "{a: 1\n", "name: 'a\n", "a: *x\n", "%%%%", "name: x\n name: y", "a: 1\nb", "- a\n- b\nname: x\n", "a: [1\n"])

    def test_files(self):
        for path in ("nonexistent", "."):
            outcomes = []
            for program in (PINTLE, ETCD):
                r = self.run_to_end(program, "--config-file", path)
                outcomes.append((r.returncode, json.loads(r.stderr.splitlines()[-1])["error"]))
            self.assertEqual(outcomes[0], outcomes[1])


if __name__ == "__main__":
    unittest.main()
