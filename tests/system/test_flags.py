"""How the server starts, refuses to start, and ends: flags, environment, data directory, listeners, signals."""
import glob
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

from harness import PINTLE, ROOT, Server, etcdctl, free_port
from raw_http2 import Connection, message
from wire import field


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pintle-test-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.url = f"http://127.0.0.1:{free_port()}"

    def run_to_end(self, *flags, environment=None, user=None, prefix=()):
        """Exit code, standard output and error of a run that is to end by itself."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        r = subprocess.run([*prefix, PINTLE, *flags], capture_output=True, text=True, timeout=60, cwd=self.dir,
                           env={**inherited, **(environment or {})}, user=user, group=user, extra_groups=[] if user else None)
        self.assertNotIn("Sanitizer", r.stderr)
        return r.returncode, r.stdout, r.stderr

    def server(self):
        """With its data in self.dir/data and its log beside it."""
        s = Server(data_dir=os.path.join(self.dir, "data"))
        s.log_path = os.path.join(self.dir, "log")
        self.addCleanup(s.close)
        return s

    def urls(self):
        return "--listen-client-urls", self.url, "--advertise-client-urls", self.url, "--listen-peer-urls", "http://127.0.0.1:0"

    def error_of(self, log, level):
        """The `error` of the one line of that level; every line is a JSON object."""
        lines = [json.loads(line) for line in log.splitlines()]
        found = [x for x in lines if x["level"] == level and "error" in x]
        self.assertEqual(len(found), 1, log)
        return found[0]["msg"], found[0]["error"]

    def verify_error(self, log):
        """What the flags were refused for."""
        found = [x["error"] for x in map(json.loads, log.splitlines()) if x["msg"] == "failed to verify flags"]
        self.assertEqual(len(found), 1, log)
        return found[0]

    def refuses(self, *flags, **more):
        """The error of a start that fails after the flags were understood."""
        code, out, err = self.run_to_end("--data-dir", os.path.join(self.dir, "data"), *self.urls(), *flags, **more)
        self.assertEqual((code, out), (1, ""))
        return self.error_of(err, "fatal")[1]


class Flags(Case):
    def test_syntax(self):
        rows = [(["--bogus"], "flag provided but not defined: -bogus"), (["-bogus=1"], "flag provided but not defined: -bogus"),
                (["--name"], "flag needs an argument: -name"), (["---name=x"], "bad flag syntax: ---name=x"), (["--=x"], "bad flag syntax: --=x"),
                (["--heartbeat-interval=abc"], 'invalid value "abc" for flag -heartbeat-interval: parse error'),
                (["--heartbeat-interval", "-1"], 'invalid value "-1" for flag -heartbeat-interval: parse error'),
                (["--heartbeat-interval="], 'invalid value "" for flag -heartbeat-interval: parse error'),
                (["--max-txn-ops=99999999999999999999"], 'invalid value "99999999999999999999" for flag -max-txn-ops: value out of range'),
                (["--quota-backend-bytes=9223372036854775808"],
                 'invalid value "9223372036854775808" for flag -quota-backend-bytes: value out of range'),
                (["--grpc-keepalive-interval=5"], 'invalid value "5" for flag -grpc-keepalive-interval: parse error'),
                (["--grpc-keepalive-interval=5parsecs"], 'invalid value "5parsecs" for flag -grpc-keepalive-interval: parse error'),
                (["--pre-vote=x"], 'invalid boolean value "x" for -pre-vote: parse error'),
                (["--initial-cluster-state=foo"], 'invalid value "foo" for flag -initial-cluster-state: invalid value'),
                (["--listen-client-urls=ftp://a"],
                 'invalid value "ftp://a" for flag -listen-client-urls: URL scheme must be http, https, unix, or unixs: ftp://a'),
                (["--listen-client-urls=http://a"],
                 'invalid value "http://a" for flag -listen-client-urls: URL address does not have the form "host:port": http://a'),
                (["--listen-client-urls=http://a:1/x"],
                 'invalid value "http://a:1/x" for flag -listen-client-urls: URL must not contain a path: http://a:1/x'),
                (["--listen-client-urls=http://127.0.0.1:x"],
                 'invalid value "http://127.0.0.1:x" for flag -listen-client-urls: parse "http://127.0.0.1:x": invalid port ":x" after host')]
        for flags, line in rows:
            with self.subTest(flags):
                code, out, err = self.run_to_end(*flags)
                self.assertEqual((code, out, err.split("\n")[0]), (2, "", line))
                self.assertIn("Usage:", err)
        self.assertEqual(os.listdir(self.dir), [])

    def test_stray_words(self):
        for flags, word in [(["foo"], "foo"), (["--pre-vote", "true"], "true"), (["--", "x"], "x"), (["--version", "x"], "x")]:
            with self.subTest(flags):
                code, out, err = self.run_to_end(*flags)
                self.assertEqual((code, out, self.verify_error(err)), (1, "", f'"{word}" is not a valid flag'))

    def test_help_and_version(self):
        for flags in (["--help"], ["-h"], ["--name", "x", "-help"]):
            code, out, err = self.run_to_end(*flags)
            self.assertEqual(code, 0)
            self.assertIn("Usage:", err)
            self.assertIn("--listen-client-urls", out)
        for flags in (["--version"], ["-version=true"], ["--version", "--data-dir=x"]):
            code, out, err = self.run_to_end(*flags, environment={"ETCD_HEARTBEAT_INTERVAL": "bad"})
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(out.split("\n")[0], "etcd Version: 3.7.1")
            self.assertRegex(out, r"\nGit SHA: .*\nGo Version: .*\nGo OS/Arch: .*\n$")
        self.assertEqual(os.listdir(self.dir), [])

    def test_rules(self):
        rows = [(["--listen-client-urls", self.url], "--advertise-client-urls is required when --listen-client-urls is set explicitly"),
                (["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
                (["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
                (["--election-timeout=499"], "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]"),
                (["--election-timeout=50001"], "--election-timeout[50001ms] is too long, and should be set less than 50000ms"),
                (["--heartbeat-interval=18446744073709551615"],
                 "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[18446744073709551615ms]"),
                (["--listen-client-urls=http://foo:1", "--advertise-client-urls=http://foo:1"], "expected IP in URL for binding (http://foo:1)"),
                (["--listen-client-urls=http://:1", "--advertise-client-urls=http://foo:1"], "expected IP in URL for binding (http://:1)"),
                (["--listen-client-urls=http://127.0.0.1:99999", "--advertise-client-urls=http://foo:1"],
                 "listen tcp: address 99999: invalid port"),
                (["--initial-advertise-peer-urls=http://:2380"],
                 '--initial-advertise-peer-urls "http://:2380" must be "host:port" (unexpected empty host (http://:2380))'),
                (["--advertise-client-urls=http://:2379"], '--advertise-client-urls "http://:2379" must be in the format "host:port", '
                 '"unix:/path/to/socket" or "unixs:/path/to/socket" (unexpected empty host (http://:2379))'),
                (["--heartbeat-interval=201"], "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[201ms]"),
                (["--listen-peer-urls=http://foo:1"], "expected IP in URL for binding (http://foo:1)")]
        for flags, text in rows:
            with self.subTest(flags):
                code, out, err = self.run_to_end(*flags)
                self.assertEqual((code, out), (1, ""))
                self.assertEqual(self.verify_error(err), text)
        self.assertEqual(os.listdir(self.dir), [])

    def test_what_this_version_refuses(self):
        for flag in ("--max-learners=-1", "--experimental-max-learners=-1", "--discovery=x", "--discovery-proxy=x", "--proxy=on", "--experimental-enable-v2v3=/x"):
            with self.subTest(flag):
                code, _, err = self.run_to_end(flag)
                self.assertEqual(code, 1)
                self.assertIn("not supported by this version", self.verify_error(err))

    def test_old_names(self):
        """Flags as they were called before etcd 3.6."""
        for old, new in (("experimental-max-learners", "max-learners"), ("experimental-snapshot-catchup-entries", "snapshot-catchup-entries")):
            with self.subTest(old):
                code, _, err = self.run_to_end(f"--{old}=2", f"--{new}=2")
                self.assertEqual(code, 1)
                self.assertEqual(self.verify_error(err), f"cannot set --{old} and --{new} at the same time, please use --{new} only")
        s = Server(flags=["--experimental-max-learners=3", "--experimental-snapshot-catchup-entries", "77", "--snapshot-count=10000"]).start()
        self.addCleanup(s.close)
        self.assertEqual(s.stop(), -signal.SIGTERM)
        lines = [json.loads(x) for x in s.log_text().splitlines()]
        started = [x for x in lines if x["msg"] == "starting an etcd server"][0]
        self.assertEqual((started["max-learners"], started["snapshot-catchup-entries"]), (3, 77))
        self.assertEqual([x["msg"].split()[0] for x in lines if "which 3.7 has no more" in x["msg"]],
                         ["--experimental-max-learners", "--experimental-snapshot-catchup-entries"])
        self.assertTrue(any(x.get("snapshot-count") == 10000 and "not needed" in x["msg"] for x in lines))

    def test_gates(self):
        for old, gate in (("experimental-initial-corrupt-check", "InitialCorruptCheck"), ("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag")):
            code, _, err = self.run_to_end(f"--{old}=false", f"--feature-gates={gate}=true")
            self.assertEqual((code, self.verify_error(err)), (1, f"cannot specify both flags: --{old}=false and --feature-gates={gate}=true at the same time, "
                                                              f"please just use --feature-gates={gate}=true"))
        code, _, err = self.run_to_end("--experimental-enable-lease-checkpoint-persist")
        self.assertEqual(self.verify_error(err), "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint")

    def test_manifest_of_kubeadm(self):
        """Both generations of its static pod, as far as they name no certificate."""
        for more in (["--experimental-initial-corrupt-check=true", "--experimental-watch-progress-notify-interval=5s"],
                     ["--feature-gates=InitialCorruptCheck=true", "--watch-progress-notify-interval=5s"]):
            s = Server(flags=["--snapshot-count=10000", "--name=node", f"--listen-metrics-urls=http://127.0.0.1:{free_port()}", *more]).start()
            self.addCleanup(s.close)
            self.assertEqual(s.stop(), -signal.SIGTERM)
            self.assertNotIn("Sanitizer", s.log_text())

    def test_initial_cluster(self):
        rows = [("other=http://localhost:2380", 'couldn\'t find local name "default" in the initial cluster configuration'),
                ("default=http://localhost:1", "--initial-cluster has default=http://localhost:1 but missing from "
                 "--initial-advertise-peer-urls=http://localhost:2380"), ("x", "is not of the form name=url"), (",", "initial cluster unset")]
        for text, error in rows:
            with self.subTest(text):
                self.assertIn(error, self.refuses("--initial-cluster", text))

    def test_log_level(self):
        code, _, err = self.run_to_end("--log-level=bad")
        self.assertEqual(code, 2)
        self.assertIn('unrecognized level: "bad"', err)


ETCD = os.path.join(ROOT, "build", "release", "oracle", "etcd-go")
NEVER = "--heartbeat-interval=0"  # ends every start, after most other checks


@unittest.skipUnless(os.access(ETCD, os.X_OK), "no etcd 3.7 beside us")
class AsEtcd(Case):
    """The same command line, given to etcd 3.7: exit code, first line of standard error or the error of the log."""

    def outcome(self, program, flags, environment):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        r = subprocess.run([program, *flags], capture_output=True, text=True, timeout=60, cwd=self.dir, env={**inherited, **environment})
        self.assertNotIn("Sanitizer", r.stderr)
        if r.returncode == 2:
            return 2, r.stderr.split("\n")[0]
        kinds = ("failed to verify flags", "conflicting environment variable")
        lines = [json.loads(x) for x in r.stderr.splitlines() if x.startswith("{")]
        said = [(x["level"], x["msg"], x.get("error")) for x in lines if x["msg"].startswith(kinds)]
        return r.returncode, said or r.stderr.split("\n")[0]

    def same(self, rows):
        for row in rows:
            flags, environment = row if isinstance(row, tuple) else (row, {})
            with self.subTest(flags=flags, environment=environment):
                self.assertEqual(self.outcome(PINTLE, flags, environment), self.outcome(ETCD, flags, environment))
        self.assertEqual([x for x in os.listdir(self.dir) if x.endswith(".etcd")], [])

    def test_syntax(self):
        self.same([["--bogus"], ["---x"], ["--=x"], ["--name"], ["x"], ["--pre-vote", "true"], ["--pre-vote=2"], ["--heartbeat-interval=x"],
                   ["--heartbeat-interval=99999999999999999999"], ["--max-concurrent-streams=4294967296"], ["--max-concurrent-streams=x"],
                   ["--max-concurrent-streams="], ["--max-learners=x"], ["--compaction-batch-limit=1.5"], ["--grpc-keepalive-interval=1"],
                   ["--initial-cluster-state=x"], ["--discovery-fallback=x"], ["--v2-deprecation=not-yet"], ["--v2-deprecation=gone,x"],
                   ["--v2-deprecation=", NEVER], ["--feature-gates=Foo=true"], ["--feature-gates=AllAlpha"], ["--feature-gates=LeaseCheckpoint=x"],
                   ["--feature-gates=LeaseCheckpoint = true , AllBeta=false", NEVER], ["--feature-gates=", NEVER],
                   ["--listen-peer-urls=ftp://a"], ["--listen-metrics-urls=http://a"], ["--advertise-client-urls=http://a:1/"],
                   ["--quota-backend-bytes=0x", NEVER], ["--quota-backend-bytes=0b101", NEVER], ["--quota-backend-bytes=1_000", NEVER],
                   ["--backend-batch-limit=x"], ["--v=2", NEVER], ["--snapshot", NEVER], ["--enable-v2v3"], ["--cors=x"], ["--cors=*,http://a:1", NEVER]])

    def test_rules(self):
        self.same([["--log-format=x"], ["--log-format=", NEVER], ["--logger=capnslog"], ["--logger=x"], ["--log-outputs=default,stderr"],
                   ["--log-outputs=systemd/journal,stderr"], ["--log-outputs=/nonexistent/x"], ["--log-level=bad"], ["--log-level=bad", "--log-format=x"],
                   ["--enable-log-rotation"], ["--enable-log-rotation", "--log-outputs=a,b"],
                   ["--enable-log-rotation", "--log-outputs=l", "--log-rotation-config-json="],
                   ["--enable-log-rotation", "--log-outputs=l", '--log-rotation-config-json={"maxsize":"x"}'],
                   ["--enable-log-rotation", "--log-outputs=l", '--log-rotation-config-json={"compress":1}'],
                   ["--enable-log-rotation", "--log-outputs=l", '--log-rotation-config-json=[1]'],
                   ["--enable-log-rotation", "--log-outputs=l", '--log-rotation-config-json={"maxsize":1.5}'],
                   ["--listen-peer-urls=http://foo:1"], ["--listen-client-http-urls=http://foo:1"], ["--listen-metrics-urls=http://:1"],
                   ["--initial-advertise-peer-urls=http://:1"], ["--advertise-client-urls=http://:1"],
                   ["--listen-peer-urls=http://foo:1", NEVER], ["--advertise-client-urls=http://:1", NEVER],
                   ["--discovery-token=x"], ["--discovery-endpoints=x"], ["--discovery-endpoints=,", "--discovery-token=x"],
                   ["--discovery-endpoints=x", "--discovery-srv=y"], ["--initial-cluster=x", "--discovery-srv=y", NEVER],
                   ["--initial-cluster=", "--discovery-token=y", NEVER], ["--discovery-fallback=proxy", NEVER], ["--discovery-srv=y", NEVER],
                   [NEVER], ["--election-timeout=0"], ["--election-timeout=499"], ["--election-timeout=50001"],
                   ["--listen-client-urls=http://127.0.0.1:1"], ["--listen-client-urls=http://127.0.0.1:1", NEVER],
                   ["--auto-compaction-mode=x"], ["--auto-compaction-mode="], ["--auto-compaction-mode=x", NEVER],
                   ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
                   ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"],
                   ["--distributed-tracing-sampling-rate=-1", NEVER], ["--compact-hash-check-time=0"], ["--compact-hash-check-time=-1m"],
                   ["--feature-gates=LeaseCheckpointPersist=true"], ["--feature-gates=AllAlpha=true,LeaseCheckpoint=false"],
                   ["--feature-gates=LeaseCheckpoint=false", "--feature-gates=AllAlpha=true"],
                   ["--tls-min-version=x"], ["--tls-max-version=x"], ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
                   ["--tls-min-version=TLS1.3", "--cipher-suites=x"], ["--config-file=nonexistent"], ["--config-file=."]])

    def test_environment(self):
        self.same([([], {"ETCD_HEARTBEAT_INTERVAL": "x"}), (["--name=a"], {"ETCD_NAME": "a"}), ([NEVER], {"ETCD_NAME": "a", "ETCD_NONE": "x"}),
                   ([NEVER], {"ETCD_PRE_VOTE": "maybe"}), ([NEVER], {"ETCD_FEATURE_GATES": "Foo=true"}), ([NEVER], {"ETCD_VERSION": "true"}),
                   ([NEVER], {"ETCD_V2_DEPRECATION": "x"}), ([NEVER], {"ETCD_LISTEN_PEER_URLS": "x"}), ([], {"ETCD_CONFIG_FILE": "nonexistent"}),
                   ([NEVER], {"ETCD_MAX_CONCURRENT_STREAMS": "-1"}), ([], {"ETCD_INITIAL_CLUSTER_STATE": "x"}), (["--name=a", NEVER], {"ETCD_NAME": ""})])


class Environment(Case):
    def test_used(self):
        s = Server(environment={"ETCD_NAME": "named", "ETCD_MAX_TXN_OPS": "", "ETCD_NOPE": "1", "ETCD_VERSION": "9", "ETCDCTL_X": "1"}).start()
        self.addCleanup(s.close)
        self.assertEqual(json.loads(etcdctl(s, "member", "list", "-w", "json").out)["members"][0]["name"], "named")
        self.assertEqual(s.stop(), -signal.SIGTERM)
        lines = [json.loads(x) for x in s.log_text().splitlines()]
        used = [x for x in lines if x["msg"] == "recognized and used environment variable"]
        self.assertEqual([(x["variable-name"], x["variable-value"]) for x in used], [("ETCD_NAME", "named")])
        self.assertEqual([x["environment-variable"] for x in lines if x["msg"] == "unrecognized environment variable"], ["ETCD_NOPE=1"])
        self.assertEqual([x["key"] for x in lines if x["msg"] == "cannot set special environment variable"], ["ETCD_VERSION"])

    def test_shadowed(self):
        code, _, err = self.run_to_end("--name=a", environment={"ETCD_NAME": "a"})
        self.assertEqual(code, 1)
        fatal = [json.loads(x) for x in err.splitlines()][-1]
        self.assertEqual((fatal["level"], fatal["environment-variable"]), ("fatal", "ETCD_NAME"))
        self.assertTrue(fatal["msg"].startswith("conflicting environment variable is shadowed by corresponding command-line flag"))

    def test_bad(self):
        code, _, err = self.run_to_end(environment={"ETCD_HEARTBEAT_INTERVAL": "x"})
        self.assertEqual(code, 1)
        self.assertEqual(self.verify_error(err), 'invalid value "x" for ETCD_HEARTBEAT_INTERVAL: parse error')


class Directory(Case):
    def test_a_file_in_its_place(self):
        with open(os.path.join(self.dir, "data"), "wb"):
            pass
        self.assertRegex(self.refuses(), "^cannot access data directory: .*not a directory")

    def test_not_writable(self):
        os.mkdir(os.path.join(self.dir, "data"), 0o500)
        if os.geteuid() != 0:
            self.assertRegex(self.refuses(), "^cannot access data directory: .*[Pp]ermission denied")
            return
        os.chmod(self.dir, 0o755)
        binary = os.path.join(self.dir, "pintle")  # the build's own folder need not be open to others
        shutil.copy(PINTLE, binary)
        r = subprocess.run([binary, "--data-dir", os.path.join(self.dir, "data"), *self.urls()], capture_output=True, text=True, timeout=60,
                           cwd=self.dir, user=65534, group=65534, extra_groups=[])
        self.assertEqual(r.returncode, 1)
        self.assertRegex(self.error_of(r.stderr, "fatal")[1], "^cannot access data directory: .*[Pp]ermission denied")

    def test_mode(self):
        data = os.path.join(self.dir, "data")
        s = self.server().start()
        self.assertEqual(stat.S_IMODE(os.stat(data).st_mode), 0o700)
        self.assertEqual(s.stop(), -signal.SIGTERM)
        self.assertNotIn("check file permission", s.log_text())
        os.chmod(data, 0o755)
        s.log.close()
        s.start()
        self.assertEqual(s.stop(), -signal.SIGTERM)
        self.assertIn('directory \\"' + data + '\\" exist, but the permission is \\"drwxr-xr-x\\"', s.log_text())

    def test_of_etcd(self):
        """What etcd left there is refused by name and stays as it was."""
        for kind, name in [("store", "snap/db"), ("log", "wal/0000000000000000-0000000000000000.wal")]:
            with self.subTest(kind):
                data = os.path.join(self.dir, "data")
                path = os.path.join(data, "member", name)
                os.makedirs(os.path.dirname(path), 0o700)
                with open(path, "wb") as f:
                    f.write(os.urandom(8192))
                before = sorted(glob.glob(data + "/**", recursive=True))
                self.assertIn(f"holds the {kind} of an etcd server", self.refuses())
                self.assertEqual(sorted(glob.glob(data + "/**", recursive=True)), before)
                shutil.rmtree(data)

    def test_two_processes(self):
        s = self.server().start()
        self.assertEqual(etcdctl(s, "put", "k", "v").code, 0)
        self.assertRegex(self.refuses(), "^cannot lock data directory .*")
        self.assertEqual(etcdctl(s, "get", "k").out, "k\nv\n")
        self.assertEqual(etcdctl(s, "put", "k", "w").code, 0)
        self.assertEqual(s.stop(), -signal.SIGTERM)

    def filled(self):
        """A stopped server with a hundred keys, its log synced and its store written."""
        s = self.server().start()
        for i in range(100):
            self.assertEqual(etcdctl(s, "put", f"k{i:02}", f"v{i}" * 50).code, 0)
        self.assertEqual(s.stop(), -signal.SIGTERM)
        return s

    def start_or_refuse(self, s):
        """A damaged directory is either refused with the story, or holds every key: never a crash, never less."""
        code = None
        s.log.close()
        try:
            s.start()
        except AssertionError:
            code = s.process.wait(timeout=30)
        log = s.log_text()
        self.assertNotIn("Sanitizer", log)
        if code is not None:
            self.assertEqual(code, 1, log[-3000:])
            fatal = [json.loads(x) for x in log.splitlines() if '"level":"fatal"' in x]
            self.assertTrue(fatal and fatal[-1]["error"], log[-3000:])
            return fatal[-1]["error"]
        got = etcdctl(s, "get", "--prefix", "k")
        if got.code == 0:
            pairs = got.out.split("\n")[:-1]
            self.assertEqual(dict(zip(pairs[::2], pairs[1::2])), {f"k{i:02}": f"v{i}" * 50 for i in range(100)})
        else:
            self.assertRegex(got.err, "corrupt|server stopped|unavailable|connection refused|EOF|deadline", "an answer is right or none")
        if s.process.poll() is None:
            s.kill()
        self.assertIn(s.process.wait(), (1, -signal.SIGKILL))
        self.assertNotIn("Sanitizer", s.log_text())
        return None

    def flips(self, s, path, offsets):
        data = s.data_dir
        shutil.copytree(data, data + ".sound")
        outcomes = []
        for offset in offsets:
            with self.subTest(path=os.path.basename(path), offset=offset):
                shutil.rmtree(data)
                shutil.copytree(data + ".sound", data)
                with open(path, "r+b") as f:
                    f.seek(offset)
                    byte = f.read(1)[0]
                    f.seek(offset)
                    f.write(bytes([byte ^ 0x10]))
                os.truncate(s.log_path, 0)
                outcomes.append(self.start_or_refuse(s))
        return outcomes

    def test_damaged_log(self):
        s = self.filled()
        segment = sorted(glob.glob(s.data_dir + "/member/wal/*.seg"))[0]
        with open(segment, "rb") as f:
            used = len(f.read().rstrip(b"\0"))
        self.assertGreater(used, 10000)
        outcomes = self.flips(s, segment, [0, 9, 40, 64, 300, 4100, used // 3, used // 2, used - 3000])
        self.assertTrue(any(x is not None for x in outcomes), "acknowledged entries that no longer read are seen")

    def test_damaged_store(self):
        s = self.filled()
        store = s.data_dir + "/member/snap/store.mdb"
        size = os.path.getsize(store)
        offsets = [16, 20, 30, 4096 + 16, 8192 + 8] + list(range(2 * 4096 + 100, size, max(4096, size // 12 // 4096 * 4096)))
        self.flips(s, store, offsets)

    def test_lost_files(self):
        s = self.filled()
        data = s.data_dir
        shutil.copytree(data, data + ".sound")
        for name, expect in [("member/wal", True), ("member/snap/store.mdb", None)]:
            with self.subTest(name):
                shutil.rmtree(data)
                shutil.copytree(data + ".sound", data)
                path = os.path.join(data, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
                os.truncate(s.log_path, 0)
                refused = self.start_or_refuse(s)
                if expect:
                    self.assertIsNotNone(refused, "a store without its log is refused")


class Listeners(Case):
    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            self.assertEqual(self.refuses(), f"listen tcp {self.url[7:]}: bind: address already in use")

    def test_no_such_address(self):
        self.url = "http://192.0.2.1:7777"
        self.assertEqual(self.refuses(), "listen tcp 192.0.2.1:7777: bind: cannot assign requested address")

    def test_unix_socket(self):
        path = os.path.join(self.dir, "s.sock")
        url = "unix://" + path
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)  # left behind by one that died
        s = Server(flags=["--listen-client-urls", f"{url},http://127.0.0.1:{free_port()}", "--advertise-client-urls", url])
        s.start()
        self.addCleanup(s.close)
        done = subprocess.run(["curl", "-s", "-m", "20", "--unix-socket", path, "http://localhost/health"], capture_output=True, text=True,
                              timeout=30)
        self.assertEqual(done.stdout, '{"health":"true","reason":""}')
        self.assertEqual(s.stop(), -signal.SIGTERM)

    def test_several(self):
        ports = [free_port() for _ in range(3)]
        urls = ",".join(f" http://127.0.0.1:{p}" for p in ports + ports)
        s = Server(flags=["--listen-client-urls", urls, "--advertise-client-urls", f"http://127.0.0.1:{ports[0]}"]).start()
        self.addCleanup(s.close)
        for p in ports:
            done = subprocess.run(["curl", "-s", "-m", "20", f"http://127.0.0.1:{p}/health"], capture_output=True, text=True, timeout=30)
            self.assertEqual(done.stdout, '{"health":"true","reason":""}')
        self.assertEqual(s.stop(), -signal.SIGTERM)


class Signals(Case):
    def test_death_by_signal(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                s = Server().start()
                self.addCleanup(s.close)
                self.assertEqual(etcdctl(s, "put", "k", "v").code, 0)
                self.assertEqual(s.stop(number), -number)
                self.assertIn("received signal; shutting down", s.log_text())
                self.assertIn("closed etcd server", s.log_text())
                self.assertNotIn("Sanitizer", s.log_text())

    def test_with_clients(self):
        """An open watch stream and idle connections do not keep it; the shell sees 143."""
        s = Server().start()
        self.addCleanup(s.close)
        idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(20)]
        watch = subprocess.Popen(["etcdctl", "--endpoints", s.endpoint, "watch", "x", "--rev=1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(watch.stdout.close)
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)
        self.assertEqual(etcdctl(s, "put", "x", "1").code, 0)
        self.assertEqual(watch.stdout.readline(), b"PUT\n")
        self.assertEqual(s.stop(), -signal.SIGTERM)
        for c in idle:
            c.close()

    def test_under_load(self):
        """Calls of all kinds are under way, some of whose clients have just left."""
        calls = [("KV/Put", field(1, "a") + field(2, bytes(5000))), ("KV/Range", field(1, "a") + field(2, b"\0")),
                 ("KV/Txn", field(2, field(1, field(1, "a"))) + field(3, field(2, field(1, "b")))), ("KV/RangeStream", field(1, "a")),
                 ("KV/Compact", field(1, 2) + field(2, 1)), ("Watch/Watch", field(1, field(1, "a") + field(3, 1))),
                 ("Lease/LeaseGrant", field(1, 2)), ("Lease/LeaseKeepAlive", field(1, 7)), ("Lease/LeaseLeases", b""),
                 ("Maintenance/HashKV", b""), ("Maintenance/Hash", b""), ("Maintenance/Defragment", b""), ("Maintenance/Status", b"")]
        for round_ in range(2):
            s = Server().start()
            self.addCleanup(s.close)
            connections = [Connection(s.port) for _ in range(8)]
            for c in connections:
                self.addCleanup(c.close)
                for i in range(130):
                    path, request = calls[(i + round_) % len(calls)]
                    c.data(c.open("/etcdserverpb." + path), message(request), end=i % 5 != 0)
            for c in connections[::2]:
                c.close()
            self.assertTrue(connections[1].until(lambda: len(connections[1].responses) > 20 + round_))
            started = time.monotonic()
            self.assertEqual(s.stop(), -signal.SIGTERM, s.log_text()[-4000:])
            self.assertLess(time.monotonic() - started, 15)
            self.assertNotIn("Sanitizer", s.log_text())

    def test_twice(self):
        s = Server().start()
        self.addCleanup(s.close)
        for _ in range(3):
            s.process.send_signal(signal.SIGTERM)
        self.assertEqual(s.process.wait(timeout=30), -signal.SIGTERM)
        self.assertNotIn("Sanitizer", s.log_text())

    def test_before_it_serves(self):
        """The signal waits while the process stands still just after its start, so that it comes before the first client could."""
        for i in range(8):
            s = self.server()
            with open(s.log_path, "wb") as log:
                p = subprocess.Popen(s.command(), stderr=subprocess.PIPE, stdout=log)
            self.addCleanup(p.kill)
            with p.stderr:
                seen = b""
                for line in p.stderr:
                    seen += line
                    if b'"msg":"starting etcd server"' in line if i % 2 else b'"msg":"starting an etcd server"' in line:
                        break
                p.send_signal(signal.SIGSTOP)
                p.send_signal(signal.SIGTERM)
                p.send_signal(signal.SIGCONT)
                seen += p.stderr.read()
            self.assertEqual(p.wait(timeout=30), -signal.SIGTERM, seen[-3000:])
            self.assertNotIn(b"Sanitizer", seen)
            self.assertNotIn(b"assertion", seen.lower())

    def test_hangup_and_pipe(self):
        s = Server().start()
        self.addCleanup(s.close)
        s.process.send_signal(signal.SIGPIPE)
        self.assertEqual(etcdctl(s, "put", "k", "v").code, 0)
        self.assertEqual(s.stop(), -signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()
