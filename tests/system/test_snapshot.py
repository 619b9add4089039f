"""Backups: etcdctl saves a snapshot of pintle, its own tools take it, and a real etcd serves from it what pintle serves."""
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from harness import BINARY_DIR, ROOT, ServerCase, etcdctl, free_port

BUCKETS = ["alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"]


def oracles():
    """The etcds that the differential test uses: the package, and the newer one where that test has built it."""
    path = os.path.join(ROOT, "tests", "oracle", "run")
    loader = importlib.machinery.SourceFileLoader("oracle_run", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("oracle_run", loader))
    loader.exec_module(module)
    built = os.path.join(BINARY_DIR, "oracle", "etcd-go")
    return [p for p in (module.fetch_package(BINARY_DIR), built) if p is not None and os.path.exists(p)]


def bolt_check():
    """bbolt's own check, built from tests/interop, or None where there is no Go."""
    program = os.path.join(BINARY_DIR, "oracle", "boltcheck")
    if shutil.which("go") is None:
        return None
    os.makedirs(os.path.dirname(program), exist_ok=True)
    done = subprocess.run(["nice", "go", "build", "-mod=readonly", "-o", program, "./boltcheck"], capture_output=True,
                          text=True, cwd=os.path.join(ROOT, "tests", "interop"), timeout=300)
    if done.returncode != 0:
        print("boltcheck does not build: " + done.stderr)
        return None
    return program


def crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class BoltFile:
    """A bbolt file by the letter of its format, without our code."""

    def __init__(self, data):
        self.data = data
        page_size, root, pages = struct.unpack_from("<I4xQ16xQ", data, 24)
        assert page_size == 4096 and pages * page_size == len(data)
        self.buckets = {}
        for flags, name, value in self.leaf_elements(root):
            assert flags == 1
            root = struct.unpack_from("<Q", value)[0]
            elements = self.leaf_elements(root) if root else self.page_elements(value, 16)
            self.buckets[name.decode()] = [(key, v) for _, key, v in elements]

    def page_elements(self, data, at):
        kind, count = struct.unpack_from("<HH", data, at + 8)
        elements = []
        for i in range(count):
            own = at + 16 + 16 * i
            if kind == 2:
                flags, pos, key_len, value_len = struct.unpack_from("<IIII", data, own)
                key = own + pos
                elements.append((flags, data[key:key + key_len], data[key + key_len:key + key_len + value_len]))
            else:
                elements += self.leaf_elements(struct.unpack_from("<IIQ", data, own)[2])
        return elements

    def leaf_elements(self, page):
        assert struct.unpack_from("<Q", self.data, page * 4096)[0] == page
        return self.page_elements(self.data, page * 4096)

    def hash(self):
        parts = []
        for name, pairs in self.buckets.items():
            parts.append(name.encode())
            parts += [x for pair in pairs for x in pair]
        return crc32c(b"".join(parts))

    def revision(self):
        return struct.unpack(">Q", self.buckets["key"][-1][0][:8])[0]


class Etcd:
    """A real etcd on a restored data directory. The kernel ends it with this test."""

    def __init__(self, program, data_dir, log_path):
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self.log_path = log_path
        with open(log_path, "wb") as log:
            self.process = subprocess.Popen(
                [program, "--data-dir", data_dir, "--listen-client-urls", self.endpoint, "--advertise-client-urls",
                 self.endpoint, "--listen-peer-urls", f"http://127.0.0.1:{free_port()}"], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while etcdctl(self, "endpoint", "health").code != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                with open(log_path, errors="replace") as log:
                    raise AssertionError("etcd does not serve:\n" + log.read()[-3000:])
            time.sleep(0.1)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Snapshot(ServerCase):
    def setUp(self):
        super().setUp()
        self.dir = tempfile.mkdtemp(prefix="pintle-snapshot-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.path = os.path.join(self.dir, "file")

    def save(self):
        """Save, check the digest, read the file."""
        self.ctl("snapshot", "save", self.path, timeout=120)
        with open(self.path, "rb") as f:
            data = f.read()
        self.assertEqual(len(data) % 512, 32)
        self.assertEqual(hashlib.sha256(data[:-32]).digest(), data[-32:])
        return BoltFile(data[:-32])

    def status(self):
        done = subprocess.run(["etcdctl", "snapshot", "status", self.path, "-w", "json"], capture_output=True, text=True,
                              timeout=60, env={**os.environ, "ETCDCTL_API": "3"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def check(self):
        """What is in the file is what etcdctl finds there."""
        file = self.save()
        status = self.status()
        self.assertEqual(list(file.buckets), BUCKETS)
        self.assertEqual(status["totalKey"], sum(len(pairs) for pairs in file.buckets.values()))
        self.assertEqual(status["totalSize"], len(file.data))
        self.assertEqual(status["hash"], file.hash())
        self.assertEqual(status["revision"], file.revision() if file.buckets["key"] else 0)
        meta = dict(file.buckets["meta"])
        self.assertEqual(meta[b"storageVersion"], b"3.7.0")
        self.assertEqual(json.loads(meta[b"confState"])["voters"], [0x8e9e05c52164694d])
        self.assertEqual([len(meta[name]) for name in (b"consistent_index", b"term")], [8, 8])
        return file

    def restored(self):
        """Each etcd there is, serving from the file, one after the other."""
        programs = oracles()
        if not programs:
            self.skipTest("no etcd to be had: its package cannot be downloaded")
        for i, program in enumerate(programs):
            data_dir = os.path.join(self.dir, f"restored{i}")
            done = subprocess.run(["etcdctl", "snapshot", "restore", self.path, "--data-dir", data_dir],
                                  capture_output=True, text=True, timeout=60, env={**os.environ, "ETCDCTL_API": "3"})
            self.assertEqual(done.returncode, 0, done.stderr)
            etcd = Etcd(program, data_dir, os.path.join(self.dir, f"etcd{i}.log"))
            self.addCleanup(etcd.close)
            yield etcd
            etcd.close()

    def hash_kv(self, server, revision):
        r = etcdctl(server, "endpoint", "hashkv", f"--rev={revision}", "-w", "json")
        self.assertEqual(r.code, 0, r.err)
        got = json.loads(r.out)[0]["HashKV"]
        return got["hash"], got.get("compact_revision")

    def all(self, server, revision):
        r = etcdctl(server, "get", "--prefix", "", f"--rev={revision}", "-w", "json")
        self.assertEqual(r.code, 0, r.err)
        return json.loads(r.out)["kvs"]

    def open_reads(self):
        with urllib.request.urlopen(self.server.endpoint + "/metrics", timeout=10) as r:
            for line in r.read().decode().splitlines():
                if line.startswith("etcd_mvcc_db_open_read_transactions "):
                    return float(line.split()[1])
        raise AssertionError("no such metric")

    def test_empty(self):
        self.assertEqual(self.check().buckets["key"], [])

    def test_small(self):
        self.ctl("put", "foo", "bar")
        self.ctl("put", "x", "y")
        self.ctl("del", "x")
        file = self.check()
        self.assertEqual([len(k) for k, _ in file.buckets["key"]], [17, 17, 18])
        self.assertEqual(file.revision(), 4)
        self.assertEqual(self.status(), self.status())

    def test_etcd_serves_it(self):
        lease = self.ctl("lease", "grant", "1000").split()[1]
        for i in range(60):
            self.ctl("put", f"k{i % 20}", f"value {i} " + "x" * (i * 100))
        self.ctl("put", "leased", "v", f"--lease={lease}")
        self.ctl("put", "large", stdin="y" * (1024 * 1024))
        self.ctl("compaction", "30", "--physical")
        self.ctl("del", "--prefix", "k1")
        revision = self.check().revision()
        for etcd in self.restored():
            self.assertEqual(self.all(etcd, revision), self.all(self.server, revision))
            self.assertEqual(self.all(etcd, 40), self.all(self.server, 40))
            self.assertEqual(self.hash_kv(etcd, revision), self.hash_kv(self.server, revision))
            self.assertIn("attached keys([leased])", etcdctl(etcd, "lease", "timetolive", lease, "--keys").out)
            self.assertIn("has been compacted", etcdctl(etcd, "get", "k1", "--rev=29").err)
            self.assertEqual(etcdctl(etcd, "put", "new", "v").out, "OK\n")

    def bolt_check(self, file):
        """bbolt finds nothing wrong, and goes on finding nothing wrong when it has written to the file."""
        program = bolt_check()
        if program is None:
            self.skipTest("no bbolt to be had: there is no Go here, or no module")
        path = os.path.join(self.dir, "db")
        with open(path, "wb") as f:
            f.write(file.data)
        for flags in ([], ["-write"]):
            done = subprocess.run([program, *flags, path], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout, f"pairs: {sum(len(pairs) for pairs in file.buckets.values())}\n")

    def fill(self, n, value_bytes):
        """n keys, a hundred in each transaction."""
        value = "z" * value_bytes
        for start in range(0, n, 100):
            puts = "".join(f"put fill/{i} {value}\n" for i in range(start, min(start + 100, n)))
            self.ctl("txn", stdin=f"\n{puts}\n\n")

    def test_bbolt_takes_it(self):
        self.fill(300, 9000)
        self.fill(5000, 10)
        self.bolt_check(self.check())

    def test_saved_under_writes(self):
        self.fill(2000, 10000)
        stop = threading.Event()

        def write():
            i = 0
            while not stop.is_set():
                etcdctl(self.server, "put", f"fill/{i % 50}", f"new {i}")
                i += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            revision = self.save().revision()
        finally:
            stop.set()
            writer.join()
        self.assertGreater(os.path.getsize(self.path), 20000000)
        for etcd in self.restored():
            self.assertEqual(self.hash_kv(etcd, revision), self.hash_kv(self.server, revision))
        self.assertEqual(self.open_reads(), 0)

    def stopped_client(self, name="file"):
        """An etcdctl that began to save and does nothing more: it takes what fits into the socket's buffers."""
        path = os.path.join(self.dir, name)
        if os.path.exists(path + ".part"):
            os.unlink(path + ".part")
        process = subprocess.Popen(["etcdctl", "--endpoints", self.server.endpoint, "snapshot", "save", path],
                                   stderr=subprocess.DEVNULL, env={**os.environ, "ETCDCTL_API": "3"})
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            if os.path.exists(path + ".part") and os.path.getsize(path + ".part") > 0:
                break
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        return process

    def test_too_many_at_a_time(self):
        self.fill(6000, 10000)  # so much that none of them has got everything when it is stopped
        clients = [self.stopped_client(f"file{i}") for i in range(8)]
        try:
            self.assertEqual(self.open_reads(), 8)
            self.assertIn("too many requests", self.ctl("snapshot", "save", self.path, code=5))
        finally:
            for process in clients:
                process.kill()
                process.wait()

    def test_the_server_stops_meanwhile(self):
        self.fill(2000, 10000)
        process = self.stopped_client()
        self.assertEqual(self.server.stop(), -signal.SIGTERM)
        process.kill()
        process.wait()
        self.server.start()
        self.check()

    def test_clients_that_go_away(self):
        self.fill(2000, 10000)
        n_waiting = 0
        for _ in range(12):
            process = self.stopped_client()
            self.ctl("put", "meanwhile", "v")
            n_waiting += self.open_reads() > 0
            process.kill()
            process.wait()
        # The file is more than what lies between two processes, so reading it waits for the client.
        self.assertGreater(n_waiting, 0)
        deadline = time.monotonic() + 20
        while self.open_reads() != 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.open_reads(), 0)
        self.check()


if __name__ == "__main__":
    unittest.main()
