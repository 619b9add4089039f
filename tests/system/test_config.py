"""--config-file: YAML as etcd reads it."""
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
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


class Logs(Case):
    def serve(self, *flags):
        s = Server(flags=["--name=n", *flags])
        s.log_path = os.path.join(self.dir, "usual")
        self.addCleanup(s.close)
        s.log = open(s.log_path, "ab")
        s.process = subprocess.Popen(s.command(), stderr=s.log, stdout=s.log)
        return s

    def wait_for(self, s, path, text):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and s.process.poll() is None:
            if os.path.exists(path) and text in open(path, encoding="utf-8").read():
                return
            time.sleep(0.01)
        self.fail(s.log_text())

    def test_several(self):
        """Two files and standard output get the same lines, in the format that was asked for."""
        a, b = (os.path.join(self.dir, x) for x in ("a.log", "b.log"))
        s = self.serve(f"--log-outputs={a},{b},stdout", "--log-format=console", "--log-level=WARN")
        self.wait_for(s, a, "single port")
        self.assertEqual(etcd_ready(s), True)
        self.assertEqual(s.stop(), -signal.SIGTERM)
        texts = [open(x, encoding="utf-8").read() for x in (a, b)]
        self.assertEqual(texts[0], texts[1])
        self.assertIn(texts[0], s.log_text())
        self.assertTrue(all(x.split("\t")[1] in ("warn", "error") for x in texts[0].splitlines()), texts[0])
        self.assertEqual(os.stat(a).st_mode & 0o777, 0o600)

    def test_nowhere(self):
        s = self.serve(f"--log-outputs=/dev/null,{self.dir}/x")
        self.assertEqual(etcd_ready(s), True)
        self.assertEqual(s.stop(), -signal.SIGTERM)
        self.assertEqual((open(os.path.join(self.dir, "x"), encoding="utf-8").read(), s.log_text().count("etcd server")), ("", 0))

    def test_by_file(self):
        path = os.path.join(self.dir, "rotating.log")
        flags = (f"--log-outputs={path}", "--enable-log-rotation", '--log-rotation-config-json={"maxsize": 1, "compress": true}')
        s = self.serve(*flags)
        self.wait_for(s, path, "ready to serve client requests")
        self.assertEqual(s.stop(), -signal.SIGTERM)
        old = os.path.join(self.dir, "rotating-2026-01-01T00-00-00.000.log")
        with open(old, "w", encoding="utf-8") as f:
            f.write("old\n")
        with open(path, "a", encoding="utf-8") as f:
            f.write("x" * (1024 * 1024) + "\n")
        s = self.serve(*flags)
        self.wait_for(s, path, "ready to serve client requests")
        deadline = time.monotonic() + 60
        while os.path.exists(old):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        with gzip.open(old + ".gz", "rt", encoding="utf-8") as f:
            self.assertEqual(f.read(), "old\n")


def etcd_ready(s):
    """A write goes through, within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and s.process.poll() is None:
        if etcdctl(s, "put", "k", "v").code == 0:
            return True
    return False


class Gateway(Case):
    def start(self, *flags):
        log = open(os.path.join(self.dir, "gateway"), "wb")
        self.addCleanup(log.close)
        p = subprocess.Popen([PINTLE, "gateway", "start", *flags], stderr=log, stdout=log)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        self.wait_for("ready to proxy client requests")
        return p

    def lines(self):
        with open(os.path.join(self.dir, "gateway"), encoding="utf-8") as f:
            return f.read()

    def wait_for(self, text):
        deadline = time.monotonic() + 60
        while text not in self.lines():
            self.assertLess(time.monotonic(), deadline, self.lines())
            time.sleep(0.01)

    def test_forwards(self):
        """Through a server that is not there to one that is; large values both ways; the absent one is tried again once it is there."""
        absent = free_port()
        listen = f"127.0.0.1:{free_port()}"
        s = Server().start()
        self.addCleanup(s.close)
        self.start("--listen-addr", listen, f"--endpoints=127.0.0.1:{absent},{s.endpoint}", "--retry-delay=100ms")
        through = Server()
        through.endpoint = listen
        self.addCleanup(through.close)
        value = "v" * 100000
        for _ in range(3):
            self.assertEqual(etcdctl(through, "put", "k", value).code, 0)
            self.assertEqual(etcdctl(through, "get", "k").out, f"k\n{value}\n")
        self.assertIn('"msg":"deactivated endpoint","address":"127.0.0.1:%d","interval":"100ms","error":"dial tcp 127.0.0.1:%d: connect: connection refused"'
                      % (absent, absent), self.lines())
        self.wait_for("failed to activate endpoint (stay inactive for another interval)")
        with socket.socket() as late:
            late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            late.bind(("127.0.0.1", absent))
            late.listen()
            self.wait_for('"msg":"activated"')
        self.assertNotIn("Sanitizer", self.lines())

    def test_nobody(self):
        """A client whom nobody can serve is let go; one that leaves, and a server that leaves, end the pair."""
        listen = free_port()
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            self.start(f"--listen-addr=127.0.0.1:{listen}", f"--endpoints=127.0.0.1:{server.getsockname()[1]}")
            with socket.create_connection(("127.0.0.1", listen), timeout=30) as c:
                self.assertEqual(c.recv(1), b"")
        self.assertIn('"interval":"1m0s"', self.lines())
        self.assertNotIn("Sanitizer", self.lines())

    def test_ends(self):
        listen = free_port()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(30)
            p = self.start(f"--listen-addr=127.0.0.1:{listen}", f"--endpoints=127.0.0.1:{server.getsockname()[1]}")
            for first in ("client", "server"):
                c = socket.create_connection(("127.0.0.1", listen), timeout=30)
                peer, _ = server.accept()
                peer.settimeout(30)
                c.sendall(b"ping")
                self.assertEqual(peer.recv(4), b"ping")
                (c if first == "client" else peer).close()
                self.assertEqual((peer if first == "client" else c).recv(1), b"")
                c.close()
                peer.close()
            p.send_signal(signal.SIGTERM)
            self.assertEqual(p.wait(timeout=30), -signal.SIGTERM)

    def test_slow_reader(self):
        """Who does not read holds the other side back rather than filling memory."""
        listen = free_port()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(30)
            p = self.start(f"--listen-addr=127.0.0.1:{listen}", f"--endpoints=127.0.0.1:{server.getsockname()[1]}")
            c = socket.create_connection(("127.0.0.1", listen), timeout=30)
            self.addCleanup(c.close)
            peer, _ = server.accept()
            self.addCleanup(peer.close)
            peer.settimeout(2)
            sent = 0
            with self.assertRaises(TimeoutError):
                while sent < 1 << 30:
                    sent += peer.send(bytes(1 << 16))
            self.assertLess(sent, 64 << 20)
            got = 0
            while got < sent:
                got += len(c.recv(1 << 20))
            self.assertIsNone(p.poll())

    @unittest.skipUnless(os.access(ETCD, os.X_OK), "no etcd 3.7 beside us")
    def test_refused_as_by_etcd(self):
        for flags in (["--endpoints=x"], ["--endpoints=127.0.0.1:23790"], ["--endpoints=http://localhost:23790"], ["--bogus"], ["--retry-delay=x"],
                      ["-endpoints=x"], ["--listen-addr=x"], ["--endpoints"], ["--endpoints=nosuch.invalid:1"]):
            with self.subTest(flags):
                ours, theirs = (self.run_to_end(x, "gateway", "start", *flags) for x in (PINTLE, ETCD))
                plain = [[x for x in r.stderr.splitlines() if x.startswith("Error: ")] for r in (ours, theirs)]
                self.assertEqual((ours.returncode, ours.stdout.strip(), plain[0]), (theirs.returncode, theirs.stdout.strip(), plain[1]))


if __name__ == "__main__":
    unittest.main()
