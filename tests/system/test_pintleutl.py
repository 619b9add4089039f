"""pintleutl: what it says of snapshot files is what etcd's tools say, and what it restores serves what the snapshot held.

PINTLE_ETCDUTL names a real etcdutl 3.7; without one, what it prints is compared with sums made here and with etcdctl's.
"""
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import BINARY_DIR, PINTLE, Server, ServerCase, etcdctl, free_port
from test_snapshot import BoltFile, Etcd, oracles

UTL = os.path.join(BINARY_DIR, "bin", "pintleutl")
ETCDUTL = os.environ.get("PINTLE_ETCDUTL") or shutil.which("etcdutl")
FORMATS = ("simple", "json", "fields", "table")
READY = b'"msg":"ready to serve client requests"'


def utl(*words, program=UTL, timeout=120):
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=timeout)


class Member:
    """One restored member. `endpoint` is what etcdctl needs."""

    def __init__(self, case, name, number, cluster, port, data_dir, more=()):
        self.name = name
        self.case = case
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self.data_dir = data_dir
        self.log_path = data_dir + ".log"
        self.command = [PINTLE, "--name", name, "--data-dir", data_dir, "--listen-client-urls", self.endpoint,
                        "--advertise-client-urls", self.endpoint, "--listen-peer-urls", port,
                        "--initial-advertise-peer-urls", port, "--initial-cluster", cluster, "--initial-cluster-token", "restored", *more]
        self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        self.case.addCleanup(self.close)

    def wait(self):
        deadline = time.monotonic() + 60
        while READY not in self.log():
            self.case.assertIsNone(self.process.poll(), self.log()[-3000:])
            self.case.assertLess(time.monotonic(), deadline, self.log()[-3000:])
            time.sleep(0.01)

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Base(ServerCase):
    def setUp(self):
        super().setUp()
        self.dir = tempfile.mkdtemp(prefix="pintle-utl-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.path = os.path.join(self.dir, "snapshot")

    def fill(self, server):
        """Some of everything; gives the lease's id."""
        lease = etcdctl(server, "lease", "grant", "1000").out.split()[1]
        for i in range(40):
            self.assertEqual(etcdctl(server, "put", f"k{i % 15}", f"value {i} " + "x" * (i * 200)).code, 0)
        self.assertEqual(etcdctl(server, "put", "leased", "v", f"--lease={lease}").code, 0)
        self.assertEqual(etcdctl(server, "compaction", "20").code, 0)
        self.assertEqual(etcdctl(server, "del", "k3").code, 0)
        for words in (("role", "add", "reader"), ("role", "grant-permission", "reader", "read", "k1"), ("user", "add", "root:r"),
                      ("user", "grant-role", "root", "root"), ("user", "add", "u:p"), ("user", "grant-role", "u", "reader")):
            r = etcdctl(server, *words)
            self.assertEqual(r.code, 0, r.err)
        return lease

    def hash_kv(self, server, revision=0):
        r = etcdctl(server, "endpoint", "hashkv", f"--rev={revision}", "-w", "json")
        self.assertEqual(r.code, 0, r.err)
        got = json.loads(r.out)[0]["HashKV"]
        return got["hash"], got.get("compact_revision")

    def all(self, server):
        r = etcdctl(server, "get", "--prefix", "", "-w", "json")
        self.assertEqual(r.code, 0, r.err)
        answer = json.loads(r.out)
        return answer["header"]["revision"], answer["kvs"]

    def save(self, server):
        r = etcdctl(server, "snapshot", "save", self.path)
        self.assertEqual(r.code, 0, r.err)

    def restore(self, n=3, *more):
        """Restore n members and start them."""
        urls = [f"http://127.0.0.1:{free_port()}" for _ in range(n)]
        self.cluster = ",".join(f"r{i}={url}" for i, url in enumerate(urls))
        members = []
        for i, url in enumerate(urls):
            data_dir = os.path.join(self.dir, f"r{i}")
            r = utl("snapshot", "restore", self.path, "--name", f"r{i}", "--initial-cluster", self.cluster, "--initial-cluster-token",
                    "restored", "--initial-advertise-peer-urls", url, "--data-dir", data_dir, *more)
            self.assertEqual((r.returncode, r.stdout), (0, ""), r.stderr)
            self.assertIn("restored snapshot", r.stderr)
            self.assertEqual(sorted(os.listdir(data_dir)), ["LOCK", "member"])
            members.append((i, url, data_dir))
        started = [Member(self, f"r{i}", i, self.cluster, url, data_dir) for i, url, data_dir in members]
        for m in started:
            m.wait()
        return started


class Restore(Base):
    def check_restored(self, source, lease, members):
        wanted, hashed = self.all(source), self.hash_kv(source, 43)
        for m in members:
            self.assertEqual(self.all(m), wanted)
            self.assertEqual(self.hash_kv(m, 43), hashed)
            self.assertIn("attached keys([leased])", etcdctl(m, "lease", "timetolive", lease, "--keys").out)
            self.assertIn("has been compacted", etcdctl(m, "get", "k1", "--rev=19").err)
            self.assertEqual(etcdctl(m, "get", "k1", "--rev=25").out, etcdctl(source, "get", "k1", "--rev=25").out)
        names = [line.split(", ")[2] for line in etcdctl(members[0], "member", "list").out.splitlines()]
        self.assertEqual(sorted(names), [m.name for m in members])
        self.assertEqual(etcdctl(members[1], "put", "new", "v").code, 0)
        self.assertEqual(etcdctl(members[2], "get", "new", "--print-value-only").out, "v\n")

    def joins(self, members):
        """A member that comes later has what the snapshot had, which no log has."""
        url = f"http://127.0.0.1:{free_port()}"
        deadline = time.monotonic() + 30
        while True:
            r = etcdctl(members[0], "member", "add", "late", f"--peer-urls={url}")
            if r.code == 0:
                break
            self.assertIn("unhealthy cluster", r.err)  # the members have not been connected for five seconds yet
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        late = Member(self, "late", 9, self.cluster + f",late={url}", url, os.path.join(self.dir, "late"), ["--initial-cluster-state", "existing"])
        late.wait()
        self.assertEqual(self.all(late), self.all(members[0]))
        self.assertEqual(self.hash_kv(late), self.hash_kv(members[0]))

    def test_of_pintle(self):
        lease = self.fill(self.server)
        self.save(self.server)
        members = self.restore()
        self.check_restored(self.server, lease, members)
        self.joins(members)
        members[1].close()  # and a restart finds it all again
        members[1].start()
        members[1].wait()
        self.assertEqual(self.all(members[1]), self.all(members[0]))
        self.assertEqual(etcdctl(members[0], "auth", "enable").code, 0)
        self.assertEqual(etcdctl(members[2], "get", "k1", "--user", "u:p", "--print-value-only").code, 0)
        self.assertIn("permission denied", etcdctl(members[2], "get", "k2", "--user", "u:p").err)

    def test_of_etcd(self):
        programs = oracles()
        if not programs:
            self.skipTest("no etcd to be had: its package cannot be downloaded")
        for i, program in enumerate(programs):
            etcd = Etcd(program, os.path.join(self.dir, f"etcd{i}"), os.path.join(self.dir, f"etcd{i}.log"))
            self.addCleanup(etcd.close)
            lease = self.fill(etcd)
            self.save(etcd)
            members = self.restore()
            self.check_restored(etcd, lease, members)
            for m in members:
                m.close()
                shutil.rmtree(m.data_dir)
            etcd.close()

    def test_with_auth_enabled(self):
        self.fill(self.server)
        self.ctl("auth", "enable")
        self.assertEqual(etcdctl(self.server, "--user", "root:r", "snapshot", "save", self.path).code, 0)
        (m,) = self.restore(1)
        self.assertIn("user name is empty", etcdctl(m, "get", "k1").err)
        self.assertEqual(etcdctl(m, "get", "k1", "--user", "u:p", "--print-value-only").out,
                         etcdctl(self.server, "get", "k1", "--user", "u:p", "--print-value-only").out)

    def test_raised_revision(self):
        self.fill(self.server)
        self.save(self.server)
        revision, kvs = self.all(self.server)
        members = self.restore(2, "--bump-revision", "1000", "--mark-compacted")
        for m in members:
            self.assertEqual(self.all(m), (revision + 1000, kvs))
            self.assertIn("has been compacted", etcdctl(m, "get", "k1", f"--rev={revision}").err)
            watch = etcdctl(m, "watch", "k1", f"--rev={revision}")
            self.assertIn("has been compacted", watch.out + watch.err)
        self.assertEqual(self.hash_kv(members[0]), self.hash_kv(members[1]))
        self.assertEqual(etcdctl(members[0], "put", "new", "v").code, 0)
        self.assertEqual(self.all(members[1])[0], revision + 1001)
        # What stands there now for the raised revision goes through snapshots, too.
        self.save(members[0])
        again = utl("snapshot", "status", self.path, "-w", "json")
        self.assertEqual(json.loads(again.stdout)["revision"], revision + 1001)
        wanted = self.hash_kv(members[0])
        self.assertEqual(utl("hashkv", self.path, "-w", "json").stdout,
                         '{"hash":%d,"hashRevision":%d,"compactRevision":%d}\n' % (wanted[0], revision + 1001, wanted[1]))
        for m in members:
            m.close()
            shutil.rmtree(m.data_dir)
        (m,) = self.restore(1)
        self.assertEqual(self.hash_kv(m), wanted)

    def test_log_apart(self):
        self.fill(self.server)
        self.save(self.server)
        data, wal = os.path.join(self.dir, "data"), os.path.join(self.dir, "logs", "wal")
        r = utl("snapshot", "restore", self.path, "--data-dir", data + "/", "--wal-dir", wal + "/")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(os.listdir(os.path.join(data, "member")), ["snap"])
        server = Server(["--wal-dir", wal], data_dir=data).start()
        self.addCleanup(server.close)
        self.assertEqual(self.all(server), self.all(self.server))
        r = utl("snapshot", "restore", self.path, "--data-dir", data + "2", "--wal-dir", wal)
        self.assertEqual((r.returncode, r.stderr), (1, f'Error: wal-dir "{wal}" exists\n'))

    def test_refused(self):
        self.ctl("put", "a", "b")
        self.save(self.server)
        with open(self.path, "rb") as f:
            good = f.read()
        data = os.path.join(self.dir, "data")
        page = next(at for at in range(len(good) // 4096 * 4096 - 4096, 0, -4096) if b"consistent_index" in good[at:at + 4096]) + 30
        cases = [
            (b"", ()), (good[:5000], ()), (good[:-32], ()), (good[:-4128] + good[-32:], ()), (good[:-32], ("--skip-hash-check", "cut")),
            (good[:-1] + bytes([good[-1] ^ 1]), ()), (good[:9000] + b"?" + good[9001:], ()),
            (good[:page] + bytes([good[page] ^ 0x40]) + good[page + 1:], ("--skip-hash-check",)),
            (good[:4096 * 2] + b"\xff" * 8 + good[4096 * 2 + 8:], ("--skip-hash-check",)),
        ]
        for i, (content, flags) in enumerate(cases):
            if "cut" in flags:  # half of its pages are gone
                content, flags = good[:len(good) // 8192 * 4096], flags[:1]
            with open(self.path, "wb") as f:
                f.write(content)
            r = utl("snapshot", "restore", self.path, "--data-dir", data, *flags)
            self.assertEqual(r.returncode, 1, f"case {i}: {r.stderr}")
            self.assertIn("Error: ", r.stderr)
            self.assertFalse(os.path.exists(data), f"case {i}")
        with open(self.path, "wb") as f:
            f.write(good)
        os.mkdir(data)
        with open(os.path.join(data, "file"), "w"):
            pass
        r = utl("snapshot", "restore", self.path, "--data-dir", data)
        self.assertEqual((r.returncode, r.stderr), (1, f'Error: data-dir "{data}" not empty or could not be read\n'))
        os.unlink(os.path.join(data, "file"))
        texts = [
            (["--name", "x"], 1, "couldn't find local name \"x\" in the initial cluster configuration"),
            (["--bump-revision", "5"], 128, "--mark-compacted required if --revision-bump > 0"),
            (["--mark-compacted"], 128, "--mark-compacted required if --revision-bump > 0"),
            (["--initial-cluster", "default=http://localhost:2380,b=http://localhost:2380"], 1,
             "initial cluster b=http://localhost:2380,default=http://localhost:2380 has duplicate url"),
            (["--bump-revision", "9223372036854775807", "--mark-compacted"], 1, "cannot be raised"),
        ]
        for flags, code, text in texts:
            r = utl("snapshot", "restore", self.path, "--data-dir", data, *flags)
            self.assertEqual(r.returncode, code, r.stderr)
            self.assertIn(text, r.stderr)
            self.assertLessEqual(set(os.listdir(data)), {"LOCK"})
        self.assertEqual(utl("snapshot", "restore", self.path, "--data-dir", data).returncode, 0)  # an empty one will do

    def test_killed(self):
        """A restore that is killed at any time leaves a directory in which no server starts, and which the next restore takes."""
        for start in range(0, 3000, 100):
            puts = "".join(f"put fill/{i} {'z' * 9000}\n" for i in range(start, start + 100))
            self.ctl("txn", stdin=f"\n{puts}\n\n")
        self.save(self.server)
        data = os.path.join(self.dir, "data")
        command = [UTL, "snapshot", "restore", self.path, "--data-dir", data]
        began = time.monotonic()
        self.assertEqual(subprocess.run(command, capture_output=True, timeout=60).returncode, 0)
        took = time.monotonic() - began
        shutil.rmtree(data)
        states = set()
        for i in range(12):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            time.sleep(took * (i + 1) / 12)
            process.kill()
            process.wait()
            names = set(os.listdir(data)) if os.path.exists(data) else set()
            states.add(tuple(sorted(names)))
            if "member" in names:  # it had ended
                shutil.rmtree(data)
            elif "member.restoring" in names:
                with open(os.path.join(self.dir, "log"), "wb") as log:
                    code = subprocess.run([PINTLE, "--data-dir", data, "--listen-peer-urls", "http://127.0.0.1:0", "--listen-client-urls",
                                           "http://127.0.0.1:0", "--advertise-client-urls", "http://127.0.0.1:0"], stdout=log, stderr=log, timeout=60)
                self.assertEqual(code.returncode, 1)
                with open(os.path.join(self.dir, "log")) as log:
                    self.assertIn("holds a restore that did not end", log.read())
        self.assertTrue(any("member.restoring" in s for s in states), states)
        self.assertEqual(subprocess.run(command, capture_output=True, timeout=60).returncode, 0)
        server = Server(data_dir=data).start()
        self.addCleanup(server.close)
        self.assertEqual(self.hash_kv(server), self.hash_kv(self.server))


class Status(Base):
    def test_status(self):
        self.fill(self.server)
        self.save(self.server)
        with open(self.path, "rb") as f:
            file = BoltFile(f.read()[:-32])
        live = {}
        for key, value in file.buckets["key"]:
            live[value[2:2 + value[1]]] = len(key) == 17
        got = json.loads(utl("snapshot", "status", self.path, "-w", "json").stdout)
        self.assertEqual(got, {"hash": file.hash(), "revision": file.revision(), "totalKey": sum(live.values()), "totalSize": len(file.data),
                               "version": "3.7.0"})
        old = etcdctl(self.server, "snapshot", "status", self.path, "-w", "json")
        self.assertEqual({k: v for k, v in json.loads(old.out).items() if k != "totalKey"},
                         {k: v for k, v in got.items() if k not in ("totalKey", "version")})
        size = etcdctl(self.server, "snapshot", "status", self.path).out.strip().split(", ")[3]
        self.assertEqual(utl("snapshot", "status", self.path).stdout, f"{got['hash']:x}, {got['revision']}, {got['totalKey']}, {size}, 3.7.0\n")
        self.assertEqual(utl("snapshot", "status", self.path, "-w", "protobuf").returncode, 4)
        self.assertEqual(utl("snapshot", "status", self.path + "x").stderr, f"Error: stat {self.path}x: no such file or directory\n")
        with open(self.path, "r+b") as f:
            f.seek(4096 * 2)
            f.write(b"\xff" * 8)
        r = utl("snapshot", "status", self.path)
        self.assertEqual(r.returncode, 1)
        self.assertIn("Error: snapshot file integrity check failed. 1 errors found.\n", r.stderr)

    def test_hashkv(self):
        self.fill(self.server)
        self.save(self.server)
        revision = self.all(self.server)[0]
        wanted = {rev: self.hash_kv(self.server, rev) for rev in (25, 40, revision)}
        text = {rev: f"{h}, {rev}, {c}\n" for rev, (h, c) in wanted.items()}
        r = utl("--timeout", "100ms", "hashkv", self.server.data_dir)
        self.assertEqual(r.returncode, 2)
        self.assertIn("failed to open database", r.stderr)
        self.server.stop()
        places = [self.path] + [os.path.join(self.server.data_dir, x) for x in ("", "member/snap", "member/snap/store.mdb")]
        for place in places:
            self.assertEqual(utl("hashkv", place).stdout, text[revision], place)
            for rev in wanted:
                self.assertEqual(utl("hashkv", place, "--rev", str(rev)).stdout, text[rev], place)
            r = utl("hashkv", place, "--rev", "19")
            self.assertEqual((r.returncode, r.stderr), (1, "Error: mvcc: required revision has been compacted\n"))
            r = utl("hashkv", place, "--rev", "99999")
            self.assertEqual((r.returncode, r.stderr), (1, "Error: mvcc: required revision is a future revision\n"))
        self.server.start()

    def test_defrag(self):
        for i in range(30):
            self.ctl("put", f"k{i}", stdin="x" * 400000)
        self.ctl("del", "--prefix", "k")
        self.ctl("compaction", "30", "--physical")
        before = self.hash_kv(self.server)
        store = os.path.join(self.server.data_dir, "member/snap/store.mdb")
        self.assertEqual(utl("--timeout", "100ms", "defrag", "--data-dir", self.server.data_dir).returncode, 2)
        self.server.stop()
        size = os.path.getsize(store)
        r = utl("defrag", "--data-dir", self.server.data_dir)
        self.assertEqual((r.returncode, r.stdout), (0, ""), r.stderr)
        self.assertLess(os.path.getsize(store), size)
        self.server.start()
        self.assertEqual(self.hash_kv(self.server), before)
        r = utl("defrag", "--data-dir", self.dir)
        self.assertEqual((r.returncode, r.stderr), (1, f"Error: Failed to defragment etcd data[{self.dir}] "
                                                       f"(stat {self.dir}/member/snap/store.mdb: no such file or directory)\n"))

    @unittest.skipUnless(ETCDUTL, "no etcdutl here (PINTLE_ETCDUTL)")
    def test_as_etcdutl(self):
        self.fill(self.server)
        self.save(self.server)
        link = os.path.join(self.dir, "etcdutl")
        os.symlink(UTL, link)
        etcdutl_db = os.path.join(self.dir, "db")
        shutil.copy(self.path, etcdutl_db)
        lines = [["snapshot", "status", self.path, "-w", f] for f in FORMATS + ("protobuf", "xml")]
        lines += [["hashkv", etcdutl_db, "-w", f] for f in FORMATS] + [["hashkv", etcdutl_db, "--rev", r] for r in ("19", "20", "30", "99999")]
        lines += [x.split() for x in ("version", "snapshot", "snap foo", "help", "help hashkv", "help foo", "foo", "snapsho", "s", "--foo", "hashkv",
                                      "defrag", "hashkv a b", "migrate --data-dir x", "snapshot status", "snapshot status nofile", "hashkv nofile",
                                      "hashkv --rev x y", "--timeout 5 version", "completion", "completion foo", "snapshot restore --help",
                                      "snapshot restore --bump-revision 3 x", "snapshot restore nofile --name x", "--help", "-w", "completion bash -h",
                                      "snapshot restore x --initial-cluster a=http://127.0.0.1:1 --name a",
                                      "snapshot restore x --initial-advertise-peer-urls ftp://x", "defrag --data-dir nodir")]
        for words in lines:
            a, b = utl(*words, program=ETCDUTL), utl(*words, program=link)
            errors = [re.sub(r"^20\d\d-.*\n", "", x.stderr, flags=re.M) for x in (a, b)]  # without the lines of the log
            errors[0] = errors[0].replace("member/snap/db", "member/snap/store.mdb")
            self.assertEqual((a.returncode, a.stdout, errors[0]), (b.returncode, b.stdout, errors[1]), words)


class Words(unittest.TestCase):
    def test_words(self):
        self.assertEqual(utl("version").stdout, "pintleutl version: 3.7.1\nAPI version: 3.7\n")
        r = utl("nonsense")
        self.assertEqual(r.returncode, 1)
        self.assertEqual(r.stderr.count('Error: unknown command "nonsense" for "pintleutl"\n'), 2)
        self.assertEqual(utl("defrag").stderr.count('Error: required flag(s) "data-dir" not set\n'), 2)
        self.assertIn("--bump-revision uint", utl("snap", "rest", "-h").stdout)
        r = utl("migrate", "--data-dir", "x", "--target-version", "3.6")
        self.assertEqual(r.returncode, 1)
        self.assertIn("no data directory of pintle", r.stderr)
        for version, said in (
                ("3.a", 'failed to parse target version: strconv.ParseInt: parsing "a": invalid syntax'),
                ("v3.7", 'failed to parse target version: strconv.ParseInt: parsing "v3": invalid syntax'),
                (".5", 'failed to parse target version: strconv.ParseInt: parsing "": invalid syntax'),
                ("3.6-rc", "failed to parse target version: 3.6 is not in dotted-tri format"),
                ("-3.6", "failed to parse target version:  is not in dotted-tri format"),
                ("3", 'wrong target version format, expected "X.Y", got "3"'),
                ("3.4", 'target version "3.4" not supported. Minimal "3.5"')):
            r = utl("migrate", "--data-dir", "x", "--target-version", version)
            self.assertEqual((r.returncode, r.stderr), (128, f"Error: {said}\n"))

    def test_completion(self):
        self.assertEqual(utl("__complete", "snapshot", "").stdout, "restore\tRestores an etcd member snapshot to an etcd directory\n"
                         "status\tGets backend snapshot status of a given file\n:4\n")
        self.assertEqual(utl("__complete", "-w", "j").stdout, "json\n:4\n")
        script = utl("completion", "bash").stdout
        asked = "COMP_WORDS=(%s snap); COMP_CWORD=1; _pintleutl_complete; echo ${COMPREPLY[@]}" % UTL
        done = subprocess.run(["bash", "-c", script + asked], capture_output=True, text=True, timeout=20)
        self.assertEqual(done.stdout, "snapshot\n", done.stderr)


if __name__ == "__main__":
    unittest.main()
