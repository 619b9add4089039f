"""pintlectl beside the stock etcdctl: the same words, the same output on both channels, the same exit code.

Two servers that have seen the same requests are asked, one by each program, so that revisions agree after writes, too. The etcdctl to
compare with is PINTLE_ETCDCTL (3.7.1: everything), else the etcdctl in PATH (3.4: what has not changed since), else nothing is tested.
"""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from harness import BINARY_DIR, Server

OURS = os.path.join(BINARY_DIR, "bin", "pintlectl")
THEIRS = os.environ.get("PINTLE_ETCDCTL") or shutil.which("etcdctl")
FORMATS = ("simple", "json", "fields", "protobuf", "table")
SECONDS = 30
LOAD_SECONDS = 120


def version_of(program):
    if program is None:
        return ""
    out = subprocess.run([program, "version"], capture_output=True, text=True, env={**os.environ, "ETCDCTL_API": "3"})
    return out.stdout.split("\n")[0].split(": ")[-1]


VERSION = version_of(THEIRS)
NEW = VERSION.startswith("3.7")


class Step:
    """Words, what stands on standard input, variables, and whether etcdctl 3.4 says the same."""

    def __init__(self, words, stdin="", old=False, env=None, formats=("simple",), first_line=False):
        self.words = words.split(" ") if isinstance(words, str) else words
        self.stdin, self.old, self.env, self.formats, self.first_line = stdin, old, env or {}, formats, first_line


# What differs from run to run and from server to server.
VARYING = [
    (re.compile(rb"\d+(\.\d+)?(ns|\xc2\xb5s|ms|s)\b"), b"TIME"),
    (re.compile(rb"127\.0\.0\.1:\d+"), b"ADDRESS"),
    (re.compile(rb"\b[0-9a-f]{16}\b"), b"HEX"),
    (re.compile(rb'("ID"|"id"|"lease"|"Lease"|"raftIndex"|"raftAppliedIndex"|"dbSize"|"dbSizeInUse")( ?): ?\d+'), rb"\1\2:N"),
    (re.compile(rb'"(RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse|Took)" : .*'), rb'"\1" : N'),
    (re.compile(rb"\b\d+ kB\b|\b\d+%"), b"SIZE"),
    (re.compile(rb"[\xe2\x94\x80-\xe2\x94\xbf]+"), b"-"),
    (re.compile(rb" +"), b" "),
]


def plain(data, first_line=False):
    """Without etcdctl's own log lines and stty's complaints, which are no part of the contract, and without what varies."""
    lines = [line for line in data.split(b"\n") if not (line.startswith(b'{"level":') and b"retry_interceptor" in line)
             and not line.startswith(b"stty: ")]
    data = lines[0] if first_line and lines else b"\n".join(lines)
    for pattern, by in VARYING:
        data = pattern.sub(by, data)
    return data


@unittest.skipIf(THEIRS is None, "no etcdctl to compare with: set PINTLE_ETCDCTL")
class Twins(unittest.TestCase):
    """Two servers in the same state for each test."""

    maxDiff = 4000

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="pintle-ctl-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.ours = os.path.join(self.folder, "etcdctl")  # usage and errors name the program
        os.symlink(OURS, self.ours)
        self.servers = [Server().start(), Server().start()]
        for s in self.servers:
            self.addCleanup(s.close)

    def run_one(self, program, server, words, step):
        env = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
        if not NEW:
            env["ETCDCTL_API"] = "3"
        env.update(step.env)
        at = [] if "ETCDCTL_ENDPOINTS" in step.env or "--endpoints" in " ".join(words) else ["--endpoints", f"127.0.0.1:{server.port}"]
        words = [w.replace("ENDPOINT", f"127.0.0.1:{server.port}") for w in words]
        return subprocess.run([program, *at, *words], input=step.stdin.encode(), capture_output=True, timeout=SECONDS, env=env,
                              cwd=self.folder)

    def check(self, *steps):
        for step in steps:
            if not NEW and not step.old:
                continue
            for form in step.formats:
                words = step.words if form == "simple" else ["-w", form, *step.words]
                with self.subTest(words=" ".join(words)):
                    theirs = self.run_one(THEIRS, self.servers[0], words, step)
                    ours = self.run_one(self.ours, self.servers[1], words, step)
                    self.assertEqual(plain(theirs.stdout, step.first_line), plain(ours.stdout, step.first_line))
                    self.assertEqual(plain(theirs.stderr, step.first_line), plain(ours.stderr, step.first_line))
                    self.assertEqual(theirs.returncode, ours.returncode)

    def test_get_and_put(self):
        self.check(
            Step("put a 1", old=True),
            Step("put a 2 --prev-kv", formats=FORMATS),
            Step("put b", stdin="from stdin\n", old=True),
            Step("put b"),
            Step("put"),
            Step("put a --ignore-value", formats=FORMATS),
            Step("put a x --ignore-value"),
            Step("put none --ignore-value", old=True),
            Step(["put", "odd", "\x01\n\"\\<&>\u2028\u00e9\u200b\U0001f600"]),
            Step(["put", "a c", ""]),
            Step("put c -- -5", old=True),
            Step("put c -5", first_line=True),
            Step("put k v --lease zz"),
            Step("put k v --lease 1234"),
            Step("get a", old=True, formats=FORMATS),
            Step("get none", old=True, formats=FORMATS),
            Step("get --hex odd", formats=FORMATS),
            Step("get odd", formats=FORMATS),
            Step(["get", "", "--prefix"], formats=FORMATS),
            Step(["get", "", "--from-key", "--limit", "2"], formats=FORMATS),
            Step("get a --prefix --keys-only", old=True),
            Step("get a --prefix --print-value-only"),
            Step("get a --print-value-only -w json"),
            Step("get a --prefix --count-only", formats=FORMATS),
            Step("get a --prefix --count-only --keys-only"),
            Step("get a z --sort-by=modify --order=descend", old=True),
            Step("get a z --sort-by=value"),
            Step("get a z --sort-by=foo"),
            Step("get a z --order foo"),
            Step("get a --consistency=s", old=True),
            Step("get a --consistency=x"),
            Step("get a b --prefix"),
            Step("get a --prefix --from-key"),
            Step("get a --rev 2", old=True),
            Step("get a --rev 99"),
            Step("get a --rev abc", first_line=True),
            Step("get a --rev", first_line=True),
            Step("get a z --min-mod-rev 4 --max-mod-rev 6", formats=FORMATS),
            Step("get a z --min-create-rev 5 --max-create-rev 3"),
            Step("get a z --stream", formats=FORMATS),
            Step("get"),
            Step(["get", ""]),
        )

    def test_delete_and_compact(self):
        self.check(
            *[Step(f"put k{i} {i}", old=True) for i in range(5)],
            Step("del k0 --prev-kv", formats=FORMATS),
            Step("del none", old=True, formats=FORMATS),
            Step("del k1 k3 --range --prev-kv"),
            Step("del k3 k4"),
            Step("del a b c"),
            Step("del"),
            Step("del k --prefix", old=True),
            Step("compaction 3", old=True),
            Step("compaction 3"),
            Step("compaction 99"),
            Step("compaction abc"),
            Step("compaction"),
            Step("compaction --physical 4", formats=("simple", "json")),
            Step("get k0 --rev 2"),
        )

    def test_transactions(self):
        script = 'mod("k") > "0"\n\nput k over\nget k\n\nput k made\nput l "x y"\nget k --prefix\ndel none\n\n'
        bad = ["garbage", 'mod(foo) > "0"', 'xx("foo") > "0"', 'mod("foo") > "abc"', 'mod("foo")>"0"', 'val("a") = b']
        self.check(
            Step("txn", stdin=script, old=True),
            Step("txn", stdin=script, formats=FORMATS),
            Step("txn -i", stdin=script),
            Step("txn", stdin='val("k") = "over"\nver("k") != "7"\nc("k") < "9"\n\n\n\n'),
            *[Step("txn", stdin=line + "\n\n\n\n") for line in bad],
            *[Step("txn", stdin="\n" + line + "\n\n\n") for line in ["put", "foo bar", "put onlykey", "get", "del 'a b' \"c\\x41\" --range"]],
            Step("txn", stdin="\n\n"),
            Step("txn", stdin="\nput a b\nput a c\n\n\n"),
            Step("txn x"),
            Step("get a --prefix", formats=FORMATS),
        )

    def test_leases(self):
        self.check(
            Step("lease grant 60", formats=FORMATS),
            Step("lease grant abc"),
            Step("lease grant"),
            Step("lease grant 99999999999"),
            Step("lease list", formats=FORMATS),
            Step("lease list --hex -w fields"),
            Step("lease timetolive 1234", formats=FORMATS),
            Step("lease timetolive zz"),
            Step("lease timetolive"),
            Step("lease revoke 1234", formats=FORMATS),
            Step("lease revoke"),
            Step("lease keep-alive --once 1234"),
            Step("lease keep-alive 1234", formats=("simple", "json")),
            Step("lease keep-alive"),
        )

    def test_members_and_endpoints(self):
        self.check(
            Step("member list", old=True),
            Step("member list", formats=FORMATS),
            Step("member list --hex", formats=FORMATS),
            Step("member list --consistency s"),
            Step("member add"),
            Step("member add x"),
            Step("member add x http://1.2.3.4:5 --peer-urls http://1.2.3.4:5"),
            Step("member add x --peer-urls abc"),
            Step("member add x --peer-urls http://127.0.0.1:1/path"),
            Step("member add x --peer-urls http://127.0.0.1"),
            Step("member update 1 --peer-urls http://127.0.0.1:1/path"),
            Step("member remove zz"),
            Step("member remove"),
            Step("member remove 1234", old=True),
            Step("member promote 1234"),
            Step("member update 1234"),
            Step("member update 8e9e05c52164694d --peer-urls http://localhost:2380", formats=("simple", "json")),
            Step("member add new --learner --peer-urls http://localhost:47999"),
            Step("member list -w json --hex"),
            Step("endpoint health", formats=FORMATS),
            Step("endpoint health --cluster"),
            Step("endpoint status", formats=FORMATS),
            Step("endpoint status --cluster -w fields"),
            Step("endpoint hashkv", formats=FORMATS),
            Step("endpoint hashkv --rev 99"),
            Step("endpoint hashkv --rev -1", formats=FORMATS),
            Step("endpoint health", env={"ETCDCTL_CLUSTER": "true"}),
            Step("endpoint status --endpoints ENDPOINT,127.0.0.1:1 --command-timeout 300ms"),
            Step("alarm list", formats=FORMATS),
            Step("alarm disarm", formats=FORMATS),
            Step("alarm list x"),
            Step("defrag", old=False),
            Step("move-leader"),
            Step("move-leader zz"),
            Step("move-leader 8e9e05c52164694d", formats=FORMATS),
            Step("move-leader 1234"),
            Step("downgrade validate"),
            Step("downgrade validate abc"),
            Step("downgrade validate 3.6", formats=FORMATS),
            Step("downgrade cancel"),
        )

    def test_users_and_roles(self):
        root = "--user root:pw "
        self.check(
            Step("auth status", formats=("simple", "json", "fields", "protobuf")),
            Step("auth enable"),
            Step("user add root:pw", formats=("simple",), old=True),
            Step("user add :pw"),
            Step("user add bob", stdin="secret\nsecret\n"),
            Step("user add eve", stdin="a\nb\n"),
            Step("user add eve", stdin="\n"),
            Step("user add eve --interactive=false", stdin="word\n"),
            Step("user add sue --interactive=false", stdin="\n"),
            Step("user add ann --no-password", formats=("json",)),
            Step("user add joe:x --new-user-password y", formats=("fields",)),
            Step("user list", formats=FORMATS, old=False),
            Step("user passwd bob", stdin="n\nn\n"),
            Step("user delete joe:x"),
            Step("user delete joe"),
            Step("role add r1", old=True),
            Step("role add r1"),
            Step("role grant-permission r1 readwrite foo"),
            Step("role grant-permission r1 READ a z"),
            Step("role grant-permission r1 write pre --prefix"),
            Step(["role", "grant-permission", "r1", "read", "", "--from-key"]),
            Step("role grant-permission r1 bad foo"),
            Step("role grant-permission r1 read foo bar --prefix"),
            Step("role grant-permission r1"),
            Step("role get r1", formats=FORMATS),
            Step("role get none"),
            Step("role list", formats=FORMATS),
            Step("role revoke-permission r1 a z"),
            Step("role revoke-permission r1 pre --prefix"),
            Step("role revoke-permission r1 none"),
            Step("role revoke-permission r1 foo", formats=("json",)),
            Step("user grant-role bob r1"),
            Step("user get bob", formats=FORMATS),
            Step("user get bob --detail", formats=("simple", "json", "fields")),
            Step("user revoke-role bob r1"),
            Step("user revoke-role bob"),
            Step("auth enable"),
            Step("auth status"),
            Step("get a"),
            Step(root + "get a"),
            Step("--user root:wrong get a"),
            Step("--user root get a", stdin="pw\n"),
            Step("--user bob --password n get a"),
            Step(root + "role get root", formats=("simple", "fields")),
            Step(root + "auth disable"),
        )

    def test_checks(self):
        """What ends them before any load."""
        self.check(
            Step("check perf --load x"),
            Step("check datascale --load xlarge"),
            Step("put /etcdctl-check-perf/a 1"),
            Step("put /etcdctl-check-datascale/a 1"),
            Step(["put", "\u00e9\t", "1"]),
            Step("check perf"),
            Step("check datascale --load xLarge"),
            Step(["check", "perf", "--prefix", "\u00e9\t"]),
            Step(["check", "datascale", "--prefix", ""]),
            Step("check perf --load", first_line=True),
            Step("check perf --command-timeout 1ns -w table"),
            Step("completion", first_line=True),
            Step("completion foo", first_line=True),
            Step("completion bash zsh", first_line=True),
        )

    def test_completions(self):
        """The same words are offered, in another order and without a preference for files."""
        for words in (["ge"], [""], ["get", "--pre"], ["get", "-"], ["-w", ""], ["--write-out", "j"], ["check", "perf", "--load", ""],
                      ["endpoint", ""], ["endpoint", "health", "--cl"], ["completion", ""], ["get", "k", ""], ["help", ""], ["help", "l"],
                      ["lease", "t"], ["get", "k", "--sort-by", ""], ["--endpoints", "x", "me"], ["--user", "get", "me"]):
            offered = []
            for program, server in zip((THEIRS, self.ours), self.servers):
                done = self.run_one(program, server, ["__complete", *words], Step("", env={"ETCDCTL_ENDPOINTS": "x"}))
                lines = [line.split(b"\t")[0].decode() for line in done.stdout.split(b"\n")[:-2]]
                offered.append({w for w in lines if w.startswith(words[-1])})
            if NEW:
                self.assertLessEqual(offered[0] - {"-h"}, offered[1], words)
                self.assertEqual([w for w in offered[1] - offered[0] if not w.startswith("--")], [], words)

    def test_help_is_no_error(self):
        for words in ([], ["help"], ["--help"], ["get", "-h"], ["member"], ["member", "foo"], ["lease", "--help"]):
            done = self.run_one(self.ours, self.servers[1], words, Step(""))
            self.assertEqual((done.returncode, done.stderr), (0, b""), words)
            self.assertIn(b"etcdctl", done.stdout)

    def test_words(self):
        self.check(
            *[Step(w) for w in ["foo", "e", "gett", "mem li", "snapshot save", "watch", "watch a --", "lock", "elect", "elect x",
                                "elect x y -l", "version", "put a b -w yaml", "--endpoints= get a", "watch a b --prefix",
                                "move-leader", "make-mirror", "make-mirror x y"]],
            *[Step(w, first_line=True) for w in ["get --bad", "get -z", "get -w", "get a --limit abc", "get a --prefix=maybe",
                                                 "get a --command-timeout 5", "get a --command-timeout x", "--prefix get a", "get --=x"]],
            Step("get a", env={"ETCDCTL_WRITE_OUT": "json"}),
            Step("get a", env={"ETCDCTL_COMMAND_TIMEOUT": "bad"}),
            Step("get a --cert x"),
            Step("get a --cert x --key y"),
            Step("get a --cacert /nonexistent"),
            Step(["get", "a", "--cert", ""]),
            Step("get a --command-timeout 100ms --endpoints 127.0.0.1:1"),
            Step("get a --command-timeout 100ms --endpoints ftp://ENDPOINT"),
            Step("put a 0123456789"),
            Step("get a --max-recv-bytes 10"),
            Step("get a --max-recv-bytes 10 --max-request-bytes 11"),
            Step("--user root:pw --dial-timeout 100ms get a --endpoints 127.0.0.1:1"),
            Step("watch -i", stdin="\nfoo\nwatch\n"),
            Step("watch -i", stdin="watch a --\n"),
            Step("watch k", env={"ETCDCTL_WATCH_KEY": "x"}),
            Step("watch", env={"ETCDCTL_WATCH_RANGE_END": "x"}),
        )

    def test_watch(self):
        self.check(
            *[Step(f"put w{i % 2} {i}", old=True) for i in range(4)],
            Step("del w0", old=True),
            Step("compaction 3"),
            Step("watch w --prefix --rev 2", formats=("simple", "json", "fields")),
            Step(["watch", "w", "--prefix", "--rev", "4", "--", "sh", "-c",
                  "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE; test $ETCD_WATCH_KEY != '\"w0\"'"]),
            Step("watch w0 --rev 4 -- /nonexistent"),
        )

    def test_lock_and_elect(self):
        self.check(
            Step(["lock", "l", "--", "sh", "-c", "echo $ETCD_LOCK_REV ${ETCD_LOCK_KEY%/*}; exit 7"]),
            Step("lock l /nonexistent"),
            Step("lock l --ttl 20 true"),
            Step("get l --prefix"),
        )
        for program, server in ((THEIRS, self.servers[0]), (self.ours, self.servers[1])):
            at = [program, "--endpoints", f"127.0.0.1:{server.port}"]
            first = subprocess.Popen([*at, "elect", "e", "one"], stdout=subprocess.PIPE)
            self.addCleanup(first.stdout.close)
            self.assertRegex(first.stdout.readline(), rb"^e/[0-9a-f]+\n$")
            self.assertEqual(first.stdout.readline(), b"one\n")
            listener = subprocess.Popen([*at, "elect", "e", "-l"], stdout=subprocess.PIPE)
            self.addCleanup(listener.stdout.close)
            self.assertRegex(listener.stdout.readline(), rb"^e/[0-9a-f]+\n$")
            self.assertEqual(listener.stdout.readline(), b"one\n")
            second = subprocess.Popen([*at, "elect", "e", "two"], stdout=subprocess.PIPE)
            self.addCleanup(second.stdout.close)
            first.terminate()
            self.assertEqual(first.wait(SECONDS), 0)
            self.assertRegex(listener.stdout.readline(), rb"^e/[0-9a-f]+\n$")
            self.assertEqual(listener.stdout.readline(), b"two\n")
            for p in (listener, second):
                p.terminate()
                self.assertEqual(p.wait(SECONDS), 0)

    def test_make_mirror(self):
        source, destination = self.servers
        for k in range(3):
            self.run_one(self.ours, source, ["put", f"a/{k}", str(k)], Step(""))
        mirror = subprocess.Popen([self.ours, "--endpoints", f"127.0.0.1:{source.port}", "make-mirror", "--prefix", "a/", "--dest-prefix", "b/",
                                   f"127.0.0.1:{destination.port}"])
        self.addCleanup(mirror.wait)
        self.addCleanup(mirror.kill)
        watch = subprocess.Popen([self.ours, "--endpoints", f"127.0.0.1:{destination.port}", "watch", "b/", "--prefix", "--rev", "2"],
                                 stdout=subprocess.PIPE)
        self.addCleanup(watch.stdout.close)
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)
        lines = [watch.stdout.readline() for _ in range(9)]
        self.assertEqual(lines, [b"PUT\n", b"b/0\n", b"0\n", b"PUT\n", b"b/1\n", b"1\n", b"PUT\n", b"b/2\n", b"2\n"])
        self.run_one(self.ours, source, ["txn"], Step("", stdin="\nput a/new x\ndel a/0\nput other y\n\n\n"))
        lines = sorted(b"".join(watch.stdout.readline() for _ in range(3)) for _ in range(2))
        self.assertEqual(lines, [b"DELETE\nb/0\n\n", b"PUT\nb/new\nx\n"])

    def test_snapshot(self):
        for program, server in ((THEIRS, self.servers[0]), (self.ours, self.servers[1])):
            done = self.run_one(program, server, ["snapshot", "save", os.path.join(self.folder, "s.db")], Step(""))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.decode().split("\n")[0], f"Snapshot saved at {self.folder}/s.db")
            self.assertEqual(os.path.getsize(os.path.join(self.folder, "s.db")) % 512, 32)
            self.assertFalse(os.path.exists(os.path.join(self.folder, "s.db.part")))
        self.check(Step("snapshot save a b"), Step("snapshot save x --endpoints a:1,b:2"), Step("snapshot save /none/x"))


class Alone(unittest.TestCase):
    """What has no twin: loads, and scripts of our own."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server().start()
        cls.addClassCleanup(cls.server.close)

    def ctl(self, *words):
        return subprocess.run([OURS, "--endpoints", self.server.endpoint, *words], capture_output=True, text=True, timeout=LOAD_SECONDS)

    def n_keys(self, prefix):
        out = self.ctl("get", prefix, "--prefix", "--count-only", "-w", "fields").stdout
        return int(re.search(r'"Count" : (\d+)', out)[1])

    def test_check_perf(self):
        """An interrupt ends the load early; there is a verdict all the same, and nothing is left."""
        done = subprocess.Popen([OURS, "--endpoints", self.server.endpoint, "check", "perf", "--auto-compact", "--auto-defrag"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: done.poll() is None and done.kill())
        deadline = time.monotonic() + LOAD_SECONDS
        while self.n_keys("/etcdctl-check-perf/") < 20 and time.monotonic() < deadline:
            self.assertIsNone(done.poll())
        done.send_signal(signal.SIGINT)
        out, err = done.communicate(timeout=LOAD_SECONDS)
        self.assertEqual(err, "")
        self.assertRegex(out, r"^Compacting with revision (\d+)\nCompacted with revision \1\n"
                         r'Defragmenting "(http://127.0.0.1:\d+)"\nDefragmented "\2"\n'
                         r"(PASS: Throughput is|FAIL: Throughput too low:) \d+ writes/s\n"
                         r"(PASS: Slowest request took|Slowest request took too long:) \d+\.\d{6}s\n"
                         r"(PASS: Stddev is|Stddev too high:) \d+\.\d{6}s\n(PASS|FAIL)\n$")
        self.assertEqual(done.returncode, 0 if out.endswith("\nPASS\n") else 1)
        self.assertEqual(self.n_keys("/etcdctl-check-perf/"), 0)

    def test_check_datascale(self):
        done = self.ctl("check", "datascale", "--prefix", "scale/", "--auto-compact", "--auto-defrag")
        self.assertEqual(done.stderr, "")
        self.assertRegex(done.stdout, r"^Start data scale check for work load \[10000 key-value pairs, 1024 bytes per key-value, "
                         r"50 concurrent clients\].\nCompacting with revision (\d+)\nCompacted with revision \1\n"
                         r'Defragmenting "(http://127.0.0.1:\d+)"\nDefragmented "\2"\n'
                         r"PASS: Approximate system memory used : -?\d+\.\d\d MB.\n$")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.n_keys("scale/"), 0)

    def test_check_datascale_ends_with_its_server(self):
        server = Server().start()
        self.addCleanup(server.close)
        done = subprocess.Popen([OURS, "--endpoints", server.endpoint, "check", "datascale", "--load", "xl"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: done.poll() is None and done.kill())
        self.assertIn("[3000000 key-value pairs", done.stdout.readline())
        server.kill()
        out = done.communicate(timeout=LOAD_SECONDS)[0]
        self.assertRegex(out, r'^fetch error: Get "http://127.0.0.1:\d+/metrics": .+\n'
                         "FAIL: Could not read process_resident_memory_bytes after the put operations.\n$")
        self.assertEqual(done.returncode, 1)

    def test_lock_with_no_time_to_live(self):
        """The usual minute then."""
        for ttl in ("0", "-5"):
            held = subprocess.Popen([OURS, "--endpoints", self.server.endpoint, "lock", "x", "--ttl", ttl], stdout=subprocess.PIPE, text=True)
            self.addCleanup(held.stdout.close)
            self.addCleanup(lambda p=held: p.poll() is None and (p.kill(), p.wait()))
            lease = held.stdout.readline().strip().split("/")[1]
            self.assertIn("granted with TTL(60s)", self.ctl("lease", "timetolive", lease).stdout)
            held.send_signal(signal.SIGINT)
            self.assertEqual(held.wait(timeout=SECONDS), 0)

    def test_completion_in_bash(self):
        script = self.ctl("completion", "bash").stdout
        for words, want in (("member pro", "promote"), ("get --count", "--count-only"), ("mem", "member"), ("-w js", "json"),
                            ("--write-out = t", "table"), ("check perf --load m", "medium")):
            asked = f"COMP_WORDS=({OURS} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _pintlectl_complete; echo ${{COMPREPLY[@]}}"
            done = subprocess.run(["bash", "-c", script + asked], capture_output=True, text=True, timeout=SECONDS)
            self.assertEqual((done.stdout, done.stderr), (want + "\n", ""), words)
        for shell in ("zsh", "fish", "powershell"):
            self.assertIn("__complete", self.ctl("completion", shell).stdout)


if __name__ == "__main__":
    unittest.main()
