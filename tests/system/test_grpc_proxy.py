"""`pintle grpc-proxy start` between the stock etcdctl and a server: each kind of call, watchers merged, endpoints that die, namespace, TLS, login."""
import concurrent.futures
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import wire
from certs import Authority, run
from raw_http2 import WINDOW_UPDATE, Connection, frame, message
from harness import PINTLE, Server, etcdctl, free_port

READY = b'"msg":"started gRPC proxy"'


class Child:
    """A process with its log in a file of its own."""

    def __init__(self, words, ready):
        self.log = tempfile.NamedTemporaryFile(prefix="pintle-proxy-")
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 30
        while ready not in self.text() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        text = self.text()
        if ready not in text:
            self.close()
            raise AssertionError("not ready: " + text.decode()[-2000:])

    def text(self):
        with open(self.log.name, "rb") as f:
            return f.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        text = self.text()
        self.log.close()
        assert b"Sanitizer" not in text and b"runtime error" not in text, text.decode()[-4000:]


class Proxy(Child):
    def __init__(self, endpoints, *flags):
        self.port = free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        super().__init__([PINTLE, "grpc-proxy", "start", "--listen-addr", self.endpoint, "--advertise-client-url", self.endpoint,
                          "--endpoints", ",".join(endpoints), *flags], READY)

    def page(self, path):
        with urllib.request.urlopen(f"http://{self.endpoint}{path}", timeout=10) as r:
            return r.read().decode()

    def metric(self, name):
        for line in self.page("/proxy/metrics").splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise AssertionError(name)


class Watch:
    """An etcdctl that watches; its output by lines."""

    def __init__(self, proxy, *words):
        self.process = subprocess.Popen(["etcdctl", "--endpoints", proxy.endpoint, "watch", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env={**os.environ, "ETCDCTL_API": "3"})

    def lines(self, n, within=20):
        """The next lines; fewer when they do not come."""
        late = threading.Timer(within, self.process.kill)
        late.start()
        try:
            return [line.rstrip("\n") for line in (self.process.stdout.readline() for _ in range(n)) if line]
        finally:
            late.cancel()

    def close(self):
        self.process.kill()
        self.process.communicate()


class Watching:
    """A Watch stream by hand: what each of its watchers is told, in order."""

    def __init__(self, port):
        self.connection = Connection(port, timeout=60)
        self.stream = self.connection.open("/etcdserverpb.Watch/Watch")
        self.told = {}  # by watch id

    def create(self, key, end="", revision=0):
        """Returns its id, once it is created."""
        before = len(self.told)
        body = wire.field(1, key) + (wire.field(2, end) if end else b"") + (wire.field(3, revision) if revision else b"")
        self.connection.data(self.stream, message(wire.field(1, body)), end=False)
        self.until(lambda: len(self.told) > before)
        return next(reversed(self.told))

    def take(self):
        r = self.connection.response(self.stream)
        for m in wire.messages(r.data):
            f = wire.fields(m)
            self.told.setdefault(f.get(2, [0])[0], []).append(f)
            del r.data[:5 + len(m)]

    def until(self, condition):
        def look():
            self.take()
            return condition()
        if not self.connection.until(look):
            raise AssertionError("the stream has ended")

    def verdicts(self, watch_id):
        """(created, canceled, compact revision, reason) of answers without events."""
        return [(f.get(3), f.get(4), f.get(5), f.get(6)) for f in self.told[watch_id] if 11 not in f]

    def events(self, watch_id):
        """(revision, key, value) in the order in which they came."""
        kvs = [wire.fields(wire.fields(e)[2][0]) for f in self.told[watch_id] for e in f.get(11, [])]
        return [(kv[3][0], kv[1][0], kv.get(5, [b""])[0]) for kv in kvs]

    def close(self):
        self.connection.close()


def watches(server):
    """How many the server has: with a proxy in between one is for the leader, since etcdctl wants to know when there is none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as r:
        return next(int(float(line.split()[1])) for line in r.read().decode().splitlines() if line.startswith("etcd_debugging_mvcc_watcher_total "))


def run_out(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=20).stdout


class Case(unittest.TestCase):
    def serve(self, *flags):
        server = Server(flags).start()
        self.addCleanup(server.close)
        return server

    def serve_cluster(self, n, *flags):
        peers = [free_port() for _ in range(n)]
        cluster = ",".join(f"m{i}=http://127.0.0.1:{port}" for i, port in enumerate(peers))
        members = [Server(["--name", f"m{i}", "--listen-peer-urls", f"http://127.0.0.1:{port}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{port}",
                           "--initial-cluster", cluster, *flags]) for i, port in enumerate(peers)]
        with concurrent.futures.ThreadPoolExecutor(n) as pool:
            for m in members:
                self.addCleanup(m.close)
            list(pool.map(Server.start, members))
        return members

    def proxy(self, endpoints, *flags):
        p = Proxy(endpoints, *flags)
        self.addCleanup(p.close)
        return p

    def ctl(self, target, *words, code=0, **more):
        r = etcdctl(target, *words, **more)
        self.assertEqual(r.code, code, f"etcdctl {words}: {r.out}{r.err}")
        return r.out if code == 0 else r.out + r.err

    def watch(self, proxy, *words):
        w = Watch(proxy, *words)
        self.addCleanup(w.close)
        return w

    def watching(self, target):
        w = Watching(target.port)
        self.addCleanup(w.close)
        return w

    def revision(self, target, *words):
        return json.loads(self.ctl(target, *words, "-w", "json"))["header"]["revision"]

    def await_(self, what, want, within=10):
        deadline = time.monotonic() + within
        while what() != want and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(what(), want)


class Calls(Case):
    """One server, one proxy, all kinds of calls."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server().start()
        cls.addClassCleanup(cls.server.close)
        cls.shared = Proxy([cls.server.endpoint])
        cls.addClassCleanup(cls.shared.close)
        first = Watch(cls.shared, "nothing")
        cls.addClassCleanup(first.close)
        deadline = time.monotonic() + 20
        while watches(cls.server) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)

    def test_keys(self):
        p = self.shared
        self.assertEqual(self.ctl(p, "put", "k/a", "1"), "OK\n")
        self.assertEqual(self.ctl(p, "put", "k/a", "2", "--prev-kv"), "OK\nk/a\n1\n")
        self.ctl(p, "put", "k/b", "3")
        self.assertEqual(self.ctl(p, "get", "k/", "--prefix"), "k/a\n2\nk/b\n3\n")
        self.assertEqual(self.ctl(p, "get", "k/", "--prefix", "--order=DESCEND", "--sort-by=KEY", "--limit=1"), "k/b\n3\n")
        txn = 'value("k/a") = "2"\n\nput k/c yes\nget k/c\n\nput k/c no\n\n'
        self.assertEqual(self.ctl(p, "txn", stdin=txn), "SUCCESS\n\nOK\n\nk/c\nyes\n")
        self.assertEqual(self.ctl(p, "del", "k/", "--prefix"), "3\n")
        self.assertIn("etcdserver: key is not provided", self.ctl(p, "put", "", "x", code=1))

    def test_cache(self):
        p = self.shared
        self.ctl(p, "put", "c/a", "1")
        hits = p.metric("etcd_grpc_proxy_cache_hits_total")
        self.assertEqual(self.ctl(p, "get", "c/a"), "c/a\n1\n")  # fills it
        self.assertEqual(self.ctl(p, "get", "c/a", "--consistency=s"), "c/a\n1\n")
        self.assertEqual(p.metric("etcd_grpc_proxy_cache_hits_total"), hits + 1)
        self.ctl(p, "put", "c/a", "2")
        self.assertEqual(self.ctl(p, "get", "c/a", "--consistency=s"), "c/a\n2\n")
        self.ctl(self.server, "put", "c/a", "3")  # past the proxy: not seen, until a linearizable read
        self.assertEqual(self.ctl(p, "get", "c/a", "--consistency=s"), "c/a\n2\n")
        self.assertEqual(self.ctl(p, "get", "c/a"), "c/a\n3\n")
        self.assertEqual(self.ctl(p, "get", "c/a", "--consistency=s"), "c/a\n3\n")

    def test_compaction(self):
        p = self.shared
        self.ctl(p, "put", "old", "1")
        revision = json.loads(self.ctl(p, "get", "old", "-w", "json"))["header"]["revision"]
        self.ctl(p, "get", "old", f"--rev={revision}", "--consistency=s")
        self.ctl(p, "put", "old", "2")
        self.ctl(p, "put", "old", "3")
        self.ctl(p, "compact", str(revision + 1))
        text = self.ctl(p, "get", "old", f"--rev={revision}", "--consistency=s", code=1)
        self.assertIn("etcdserver: mvcc: required revision has been compacted", text)
        w = self.watch(p, "old", f"--rev={revision}")
        out, err = w.process.communicate(timeout=20)
        self.assertIn("required revision has been compacted", out + err)

    def test_leases(self):
        p = self.shared
        lease = self.ctl(p, "lease", "grant", "60").split()[1]
        self.ctl(p, "put", "l/a", "1", "--lease", lease)
        self.assertRegex(self.ctl(p, "lease", "timetolive", lease, "--keys"), rf"lease {lease} granted with TTL\(60s\), remaining\(\d+s\), attached keys\(\[l/a\]\)")
        self.assertIn(lease, self.ctl(p, "lease", "list"))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for out in pool.map(lambda _: self.ctl(p, "lease", "keep-alive", "--once", lease), range(8)):
                self.assertEqual(out, f"lease {lease} keepalived with TTL(60)\n")
        self.assertIn("requested lease not found", self.ctl(p, "lease", "keep-alive", "--once", "1234", code=2))
        self.ctl(p, "lease", "revoke", lease)
        self.assertEqual(self.ctl(p, "get", "l/a"), "")

    def test_locks_and_elections(self):
        p = self.shared
        self.assertEqual(self.ctl(p, "lock", "mutex", "echo", "held"), "held\n")
        e = subprocess.Popen(["etcdctl", "--endpoints", p.endpoint, "elect", "post", "me"], stdout=subprocess.PIPE, text=True,
                             env={**os.environ, "ETCDCTL_API": "3"})
        self.addCleanup(e.communicate)
        self.addCleanup(e.kill)
        self.assertTrue(e.stdout.readline().startswith("post/"))
        self.assertEqual(e.stdout.readline(), "me\n")

    def test_cluster_and_maintenance(self):
        p = self.shared
        members = json.loads(self.ctl(p, "member", "list", "-w", "json"))["members"]
        self.assertEqual([(m["name"], m["clientURLs"]) for m in members], [(socket.gethostname(), [p.endpoint])])
        self.assertIn("member not found", self.ctl(p, "member", "promote", "1234", code=1))
        status = json.loads(self.ctl(p, "endpoint", "status", "-w", "json"))[0]["Status"]
        direct = json.loads(self.ctl(self.server, "endpoint", "status", "-w", "json"))[0]["Status"]
        self.assertEqual((status["header"]["member_id"], status["version"]), (direct["header"]["member_id"], direct["version"]))
        self.assertIn("is healthy", etcdctl(p, "endpoint", "health").err + etcdctl(p, "endpoint", "health").out)
        self.assertEqual(self.ctl(p, "endpoint", "hashkv").split()[1], self.ctl(self.server, "endpoint", "hashkv").split()[1])
        self.assertIn("Finished defragmenting", self.ctl(p, "defrag"))
        self.assertEqual(self.ctl(p, "alarm", "list"), "")
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "x.db")
            self.ctl(p, "snapshot", "save", path)
            self.assertIn("|", self.ctl(p, "snapshot", "status", path, "-w", "table"))

    def test_pages(self):
        p = self.shared
        healthy = '{"health":"true","reason":""}'
        self.assertEqual((p.page("/health"), p.page("/proxy/health")), (healthy, healthy))
        self.assertIn("etcd_server_has_leader 1", p.page("/metrics"))
        self.assertIn("etcd_grpc_proxy_cache_keys_total", p.page("/proxy/metrics"))

    def test_watchers_are_merged(self):
        p = self.shared
        upstream = lambda: watches(self.server)
        before = upstream()
        watchers = [self.watch(p, "w/", "--prefix", "--prev-kv") for _ in range(12)]
        watchers += [self.watch(p, "w/", "--prefix") for _ in range(12)]
        self.await_(lambda: p.metric("etcd_grpc_proxy_watchers_coalescing_total") + upstream() - before, 24)
        self.ctl(p, "put", "w/a", "1")
        self.await_(lambda: (p.metric("etcd_grpc_proxy_watchers_coalescing_total"), upstream()), (23, before + 1))
        self.ctl(self.server, "put", "w/a", "2")  # whoever writes
        for i, w in enumerate(watchers):
            want = ["PUT", "w/a", "1", "PUT", "w/a", "1", "w/a", "2"] if i < 12 else ["PUT", "w/a", "1", "PUT", "w/a", "2"]
            self.assertEqual(w.lines(len(want)), want)
        for w in watchers[:-1]:
            w.close()
        self.await_(lambda: p.metric("etcd_grpc_proxy_watchers_coalescing_total"), 0)
        self.ctl(p, "del", "w/a")
        self.assertEqual(watchers[-1].lines(2), ["DELETE", "w/a"])
        watchers[-1].close()
        self.await_(upstream, before)

    def test_watch_from_the_past(self):
        p = self.shared
        revision = json.loads(self.ctl(p, "put", "past/0", "x", "-w", "json"))["header"]["revision"]
        for i in range(1, 4):
            self.ctl(p, "put", f"past/{i}", "x")
        before = watches(self.server)
        now = self.watch(p, "past/", "--prefix")
        self.await_(lambda: watches(self.server), before + 1)
        early = self.watch(p, "past/", "--prefix", f"--rev={revision}")
        late = self.watch(p, "past/", "--prefix", f"--rev={revision + 2}")
        keys = lambda w, n: w.lines(3 * n)[1::3]
        self.assertEqual(keys(early, 4), [f"past/{i}" for i in range(4)])
        self.assertEqual(keys(late, 2), ["past/2", "past/3"])
        self.ctl(p, "put", "past/9", "x")
        for w in (now, early, late):
            self.assertEqual(keys(w, 1), ["past/9"])


class Endpoints(Case):
    def test_one_of_two_dies(self):
        server = self.serve()
        port = free_port()
        gateway = Child([PINTLE, "gateway", "start", "--listen-addr", f"127.0.0.1:{port}", "--endpoints", f"127.0.0.1:{server.port}"],
                        b"ready to proxy client requests")
        self.addCleanup(gateway.close)
        p = self.proxy([f"127.0.0.1:{port}", f"127.0.0.1:{server.port}"])
        self.await_(lambda: p.text().count(b"connected to an endpoint"), 2)
        watchers = [self.watch(p, f"e/{i}") for i in range(4)]  # on one and on the other
        self.await_(lambda: watches(server), 5)
        lease = self.ctl(p, "lease", "grant", "60").split()[1]
        gateway.process.kill()
        for i in range(4):
            self.ctl(p, "put", f"e/{i}", "1")
            self.assertEqual(self.ctl(p, "get", f"e/{i}"), f"e/{i}\n1\n")
            self.ctl(p, "lease", "keep-alive", "--once", lease)
        for i, w in enumerate(watchers):
            self.assertEqual(w.lines(3), ["PUT", f"e/{i}", "1"])

    def test_server_comes_back(self):
        server = self.serve()
        p = self.proxy([server.endpoint])
        w = self.watch(p, "b")
        self.await_(lambda: watches(server), 2)
        self.ctl(p, "put", "b", "1")
        self.assertEqual(w.lines(3), ["PUT", "b", "1"])
        self.assertEqual(server.stop(), -signal.SIGTERM)
        with self.assertRaises(urllib.error.HTTPError) as e:
            p.page("/health")
        self.assertEqual(e.exception.code, 503)
        self.assertIn('{"health":"false","reason":"GET ERROR:', e.exception.read().decode())
        server.log.close()
        server.start()
        self.ctl(p, "put", "b", "2")
        self.assertEqual(w.lines(3), ["PUT", "b", "2"])

    def test_watch_that_may_not_go_on(self):
        """The cluster refuses it after a reconnect. Its client, who was told long ago that it is created, is told that it is canceled, and not that it is created."""
        server = self.serve()
        p = self.proxy([server.endpoint])
        with Connection(p.port) as c:
            s = c.open("/etcdserverpb.Watch/Watch")
            c.data(s, message(wire.field(1, wire.field(1, "k"))), end=False)
            answers = lambda: [wire.fields(m) for m in wire.messages(c.response(s).data)]
            c.until(lambda: len(answers()) == 1)
            self.assertEqual((answers()[0].get(3), answers()[0].get(4)), ([1], None))
            for words in (["user", "add", "root:r"], ["role", "add", "root"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
                self.ctl(server, *words)
            self.assertEqual(server.stop(), -signal.SIGTERM)
            server.log.close()
            server.start()
            c.until(lambda: len(answers()) == 2)
            self.assertEqual((answers()[1].get(3), answers()[1].get(4)), (None, [1]))
            self.assertEqual(answers()[1].get(2), answers()[0].get(2))

    def test_stream_that_is_cut_short(self):
        """A snapshot that came whole, but whose client had not read it when the connection went, does not end well."""
        server = self.serve()
        p = self.proxy([server.endpoint])
        for i in range(3):
            self.ctl(server, "put", f"k{i}", stdin="x" * 1000000)
        with Connection(p.port, settings=struct.pack(">HI", 4, 65535), window=0) as c:
            s = c.open("/etcdserverpb.Maintenance/Snapshot")
            c.data(s, message(b""))
            self.await_(lambda: any(x.startswith("grpc_server_handled_total") and '"Snapshot"' in x and '"OK"' in x and not x.endswith(" 0")
                                    for x in p.page("/metrics").splitlines()), True)
            server.kill()
            self.await_(lambda: b"lost the connection" in p.text(), True)
            for stream in (0, s):
                c.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 30)))
            self.assertEqual(c.wait(s).status()[0], 14)

    def test_ordering(self):
        """Two clusters of one, one of them behind: once something was read from the other, nothing older is told, from the cache neither."""
        ahead, behind = self.serve(), self.serve()
        for i in range(5):
            self.ctl(ahead, "put", f"k{i}", "1")
        p = self.proxy([ahead.endpoint, behind.endpoint], "--experimental-serializable-ordering")
        self.await_(lambda: p.text().count(b"connected to an endpoint"), 2)
        with Connection(p.port) as c:
            def read(key):
                r = c.call("/etcdserverpb.KV/Range", message(wire.field(1, key) + wire.field(7, 1)))
                self.assertEqual(r.status(), (0, ""))
                return wire.fields(wire.fields(wire.messages(r.data)[0])[1][0])[3][0]
            revisions = [read(f"k{i % 5}") for i in range(15)]
            self.assertEqual((revisions, revisions[1:]), (sorted(revisions), 14 * [6]))
            ahead.kill()
            self.await_(lambda: b"lost the connection" in p.text(), True)
            r = c.call("/etcdserverpb.KV/Range", message(wire.field(1, "new") + wire.field(7, 1)))
            self.assertEqual(r.status(), (2, "etcdclient: no cluster members have a revision higher than the previously received revision"))
            self.assertEqual(len(r.data), 0)

    def test_registered(self):
        server = self.serve()
        flags = ("--resolver-prefix", "proxies", "--resolver-ttl", "2")
        both = [self.proxy([server.endpoint], *flags) for _ in range(2)]
        urls = lambda: sorted(m["clientURLs"][0] for m in json.loads(self.ctl(both[0], "member", "list", "-w", "json"))["members"])
        self.await_(urls, sorted(p.endpoint for p in both))
        value = self.ctl(server, "get", f"proxies/{both[0].endpoint}", "--print-value-only")
        meta = json.dumps({"name": socket.gethostname()}, separators=(",", ":"))
        self.assertEqual(value, json.dumps({"Op": 0, "Addr": both[0].endpoint, "Metadata": meta}, separators=(",", ":")) + "\n")
        time.sleep(3)  # past the lease's time: it is kept alive
        self.assertEqual(len(urls()), 2)
        both[1].process.kill()
        self.await_(urls, [both[0].endpoint])


class Stalled(Case):
    def test_a_client_that_does_not_read(self):
        """It loses its stream once too much waits for it; who shares its upstream watch gets everything, and the proxy forgets what it held."""
        server = self.serve()
        p = self.proxy([server.endpoint])
        reader = self.watch(p, "s")
        create = wire.field(1, wire.field(1, "s"))
        settings = struct.pack(">HI", 4, 65535)
        with Connection(p.port, settings=settings, window=0) as c:
            streams = [c.open("/etcdserverpb.Watch/Watch") for _ in range(4)]
            for s in streams:
                c.data(s, message(create), end=False)
            self.await_(lambda: p.metric("etcd_grpc_proxy_watchers_coalescing_total"), 4)
            for _ in range(12):
                self.ctl(p, "put", "s", stdin="x" * 1000000)
            self.assertEqual(len("".join(reader.lines(36))), 12 * (3 + 1 + 1000000))
            self.await_(lambda: p.text().count(b"the client does not read"), 4)
            self.await_(lambda: p.metric("etcd_grpc_proxy_watchers_coalescing_total"), 0)
            for s in streams:
                while not c.response(s).ended:
                    self.assertTrue(c.read_frame())
                self.assertEqual(c.response(s).reset, 8)  # CANCEL
            for s in [c.open("/etcdserverpb.KV/Range") for _ in range(100)]:
                c.data(s, message(wire.field(1, "s")))
            patient = "--command-timeout=25s"  # behind those, on a machine that has other things to do
            self.assertEqual(self.ctl(p, patient, "put", "other", "1"), "OK\n")
            self.assertEqual(self.ctl(p, patient, "get", "other"), "other\n1\n")


CREATED = ([1], None, None, None)


class Coalesced(Case):
    """Watchers that share an upstream watch, when that cannot go on for all of them."""

    def canceled(self, revision):
        return (None, [1], [revision], None)

    def test_joining_behind_a_compaction(self):
        server = self.serve()
        p = self.proxy([server.endpoint])
        w = self.watching(p)
        self.ctl(server, "put", "k", "0")
        on = [w.create("idle"), w.create("k"), w.create("k", revision=2)]  # a group of `idle` that stays where it is
        for i in range(10):
            last = self.revision(server, "put", "k", str(i))
        w.until(lambda: [len(w.events(x)) for x in on] == [0, 10, 11])
        on.append(w.create("k", revision=last + 1))  # joins one of them
        self.ctl(server, "compact", str(last - 2))
        direct = self.watching(server)
        for key, revision in (("k", 3), ("k", last - 3), ("idle", 4), ("idle", last - 3), ("other", 4)):
            late = [(s, s.create(key, revision=revision)) for s in (w, direct)]
            for s, x in late:
                s.until(lambda s=s, x=x: len(s.told[x]) == 2)
                self.assertEqual(s.verdicts(x), [CREATED, self.canceled(last - 2)], (key, revision))
        in_time = {w.create(key, revision=last - 2): key for key in ("k", "idle")}
        new = {key: (self.revision(p, "put", key, "new"), key.encode(), b"new") for key in ("k", "idle")}
        w.until(lambda: all(new["k" if x in on[1:] else "idle"] in w.events(x) for x in on) and all(new[key] in w.events(x) for x, key in in_time.items()))
        self.assertEqual([len(w.events(x)) for x in on + list(in_time)], [1, 11, 12, 1, 4, 1])
        for x in on + list(in_time):
            self.assertEqual(w.verdicts(x), [CREATED])

    def test_coming_back_behind_a_compaction(self):
        """The group has to go back behind it; those of its watchers that have not go on."""
        server = self.serve()
        p = self.proxy([server.endpoint])
        w = self.watching(p)
        upstream = watches(server)
        behind = [w.create("idle")]
        for i in range(20):
            last = self.revision(server, "put", "k", str(i))
        compact = last - 5
        behind += [w.create("idle", revision=compact - 1)]
        ahead = [w.create("idle", revision=r) for r in (compact, last, last + 1)]
        self.assertEqual((watches(server) - upstream, p.metric("etcd_grpc_proxy_watchers_coalescing_total")), (1, 4))
        self.ctl(server, "compact", str(compact))
        self.assertEqual(server.stop(), -signal.SIGTERM)
        server.log.close()
        server.start()
        w.until(lambda: all(len(w.told[x]) == 2 for x in behind))
        for x in behind:
            self.assertEqual(w.verdicts(x), [CREATED, self.canceled(compact)])
        event = (self.revision(p, "put", "idle", "1"), b"idle", b"1")
        w.until(lambda: all(w.events(x) for x in ahead))
        for x in ahead:
            self.assertEqual((w.verdicts(x), w.events(x)), ([CREATED], [event]))

    def test_members_are_killed(self):
        """Nothing is lost, doubled or out of order, whichever member the upstream watches were with."""
        members = self.serve_cluster(3, "--heartbeat-interval", "50", "--election-timeout", "500")
        p = self.proxy([m.endpoint for m in members])
        self.await_(lambda: p.text().count(b"connected to an endpoint"), 3)
        groups = [f"g{i}/" for i in range(6)]
        watchers = []  # its stream, its id, its prefix, its first revision

        def watch(stream, group, revision=0):
            watchers.append((stream, stream.create(group, group[:-1] + "0", revision), group, revision))

        streams = [self.watching(p) for _ in range(2)]
        for group in groups:
            for stream in streams:
                watch(stream, group)
        puts = Connection(p.port, timeout=60)
        self.addCleanup(puts.close)
        made = 0

        def write(n):
            nonlocal made
            deadline = time.monotonic() + 60
            while n > 0 and time.monotonic() < deadline:
                body = wire.field(1, f"{groups[made % len(groups)]}{made % 5}") + wire.field(2, str(made))
                made += 1
                n -= puts.call("/etcdserverpb.KV/Put", message(body)).status()[0] == 0
            self.assertEqual(n, 0)

        for m in members:
            write(60)
            m.kill()
            write(60)
            for group in groups:
                watch(streams[0], group, revision=2 + made // 2)
            m.log.close()
            m.start()
        write(30)
        history = self.watching(members[0])
        end = self.revision(p, "put", "h", "the end")
        everything = history.create("a", "z", revision=2)
        history.until(lambda: history.events(everything)[-1:] == [(end, b"h", b"the end")])
        for stream, x, group, first in watchers:
            want = [e for e in history.events(everything) if e[1].startswith(group.encode()) and e[0] >= first]
            stream.until(lambda: stream.events(x)[-1:] == want[-1:])
            self.assertEqual(stream.events(x), want, (group, first))
            self.assertEqual(stream.verdicts(x), [CREATED])


    def test_streams_are_shared(self):
        """Many different watches through a cluster that allows a connection few streams; those that are given up end upstream, too."""
        server = self.serve("--max-concurrent-streams", "8")
        p = self.proxy([server.endpoint])
        w, other = self.watching(p), self.watching(p)
        watch = lambda s, key: s.connection.data(s.stream, message(wire.field(1, wire.field(1, key))), end=False)
        for i in range(600):
            watch(w, f"k{i}")
        for i in range(100):
            watch(other, f"o{i}")
        for s, n in ((w, 600), (other, 100)):
            s.until(lambda s=s, n=n: len(s.told) == n)
        self.assertEqual(watches(server), 700)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as r:
            self.assertIn('grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 3\n', r.read().decode())
        other.close()
        self.await_(lambda: watches(server), 600)
        for x in range(0, 600, 7):
            w.connection.data(w.stream, message(wire.field(2, wire.field(1, x))), end=False)
        self.await_(lambda: watches(server), 600 - 86)
        self.assertEqual(server.stop(), -signal.SIGTERM)
        server.log.close()
        server.start()
        self.await_(lambda: watches(server), 600 - 86)
        keys = range(0, 600, 15)
        for i in keys:
            self.assertEqual(w.connection.call("/etcdserverpb.KV/Put", message(wire.field(1, f"k{i}"))).status()[0], 0)
        w.until(lambda: sum(len(w.events(x)) for x in range(600)) == sum(i % 7 > 0 for i in keys))
        for x in range(600):
            self.assertEqual([e[1] for e in w.events(x)], [f"k{x}".encode()] if x in keys and x % 7 else [])
            self.assertEqual(w.verdicts(x), [CREATED] if x % 7 else [CREATED, (None, [1], None, None)])


class Leader(Case):
    def test_watch_ends_without_one(self):
        """etcdctl's watch wants a leader: of two members, the one that is left has none."""
        members = self.serve_cluster(2, "--heartbeat-interval", "50", "--election-timeout", "250")
        p = self.proxy([members[0].endpoint])
        w = self.watch(p, "a")
        self.await_(lambda: watches(members[0]), 2)
        self.ctl(p, "put", "a", "1")
        self.assertEqual(w.lines(3), ["PUT", "a", "1"])
        members[1].kill()
        out, err = w.process.communicate(timeout=20)
        self.assertIn("no leader", out + err)


class Namespace(Case):
    def test_all(self):
        server = self.serve()
        p = self.proxy([server.endpoint], "--namespace", "ns/")
        self.ctl(server, "put", "out", "side")
        self.ctl(server, "put", "nt", "behind")
        w = self.watch(p, "", "--prefix", "--prev-kv")
        self.await_(lambda: watches(server), 2)
        self.ctl(p, "put", "a", "1")
        self.assertEqual(self.ctl(server, "get", "", "--prefix", "--keys-only").split(), ["ns/a", "nt", "out"])
        self.assertEqual(self.ctl(p, "get", "", "--from-key"), "a\n1\n")
        self.assertEqual(self.ctl(p, "put", "a", "2", "--prev-kv"), "OK\na\n1\n")
        txn = 'value("a") = "2"\n\nput b 3\nget a\ndel c\n\n\n'
        self.assertEqual(self.ctl(p, "txn", stdin=txn), "SUCCESS\n\nOK\n\na\n2\n\n0\n")
        self.assertEqual(w.lines(11), ["PUT", "a", "1", "PUT", "a", "1", "a", "2", "PUT", "b", "3"])
        lease = self.ctl(p, "lease", "grant", "60").split()[1]
        self.ctl(p, "put", "l", "1", "--lease", lease)
        self.ctl(server, "put", "outside", "1", "--lease", lease)
        self.assertIn("attached keys([l])", self.ctl(p, "lease", "timetolive", lease, "--keys"))
        self.assertEqual(self.ctl(p, "lock", "m", "echo", "held"), "held\n")
        self.assertEqual(self.ctl(p, "del", "", "--from-key"), "3\n")
        self.assertEqual(self.ctl(server, "get", "", "--prefix", "--keys-only").split(), ["nt", "out", "outside"])


class Login(Case):
    def test_tokens_go_through(self):
        server = self.serve()
        p = self.proxy([server.endpoint])
        for words in (["user", "add", "root:r"], ["user", "grant-role", "root", "root"], ["role", "add", "half"], ["user", "add", "u:p"],
                      ["role", "grant-permission", "half", "readwrite", "mine/", "--prefix"], ["user", "grant-role", "u", "half"]):
            if words[:2] == ["user", "grant-role"] and words[2] == "root":
                etcdctl(p, "role", "add", "root")
            self.ctl(p, *words)
        self.ctl(p, "auth", "enable")
        user = ("--user", "u:p")
        self.ctl(p, *user, "put", "mine/a", "1")
        self.assertEqual(self.ctl(p, *user, "get", "mine/a"), "mine/a\n1\n")
        self.assertEqual(self.ctl(p, *user, "get", "mine/a", "--consistency=s"), "mine/a\n1\n")
        self.assertIn("permission denied", self.ctl(p, *user, "put", "other", "1", code=1))
        self.assertIn("user name is empty", self.ctl(p, "get", "mine/a", code=1))
        self.assertIn("user name is empty", self.ctl(p, "get", "mine/a", "--consistency=s", code=1))  # nor from the cache
        with self.assertRaises(urllib.error.HTTPError) as e:  # as with etcd's: nobody is denied, there is no user
            p.page("/health")
        self.assertIn("user name is empty", e.exception.read().decode())
        allowed = self.watch(p, *user, "mine/a")
        denied = self.watch(p, *user, "other")
        out, err = denied.process.communicate(timeout=20)
        self.assertIn("permission denied", out + err)
        self.await_(lambda: watches(server), 1)  # that for the leader is refused, but its stream stays
        self.ctl(p, "--user", "root:r", "put", "mine/a", "2")
        self.assertEqual(allowed.lines(3), ["PUT", "mine/a", "2"])


    def test_cache_forgets_with_rights(self):
        """What anybody could read before logins were asked for is not answered from memory afterwards; nor what a revoked lease has taken along."""
        server = self.serve()
        p = self.proxy([server.endpoint])
        lease = self.ctl(p, "lease", "grant", "60").split()[1]
        self.ctl(p, "put", "leased", "1", "--lease", lease)
        self.assertEqual(self.ctl(p, "get", "leased", "--consistency=s"), "leased\n1\n")
        self.ctl(p, "lease", "revoke", lease)
        self.assertEqual(self.ctl(p, "get", "leased", "--consistency=s"), "")
        self.ctl(p, "put", "a", "1")
        self.assertEqual(self.ctl(p, "get", "a", "--consistency=s"), "a\n1\n")
        for words in (["user", "add", "root:r"], ["role", "add", "root"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            self.ctl(p, *words)
        self.assertIn("user name is empty", self.ctl(p, "get", "a", "--consistency=s", code=1))


class Secure(Case):
    def test_both_sides(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        ca = Authority(directory.name, "ca")
        cert, key = ca.make("server", cn="server")
        named, named_key = ca.make("named", cn="somebody")
        request = ca.path("nameless.csr")
        Authority.new_key(ca.path("nameless.key"), "ec")
        run("openssl", "req", "-new", "-key", ca.path("nameless.key"), "-subj", "/O=tests", "-out", request)
        run("openssl", "x509", "-req", "-in", request, "-CA", ca.cert, "-CAkey", ca.key, "-set_serial", "77", "-days", "1", "-out", ca.path("nameless.pem"))
        port = free_port()
        server = Server(["--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca.cert, "--client-cert-auth"], port=port)
        server.endpoint = f"https://127.0.0.1:{port}"
        self.addCleanup(server.close)
        server.start()
        ours = ("--cert", ca.path("nameless.pem"), "--key", ca.path("nameless.key"), "--cacert", ca.cert)
        p = self.proxy([f"127.0.0.1:{port}"], *ours, "--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca.cert,
                       "--tls-min-version", "TLS1.2", "--tls-max-version", "TLS1.2", "--listen-cipher-suites",
                       "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
        flags = ("--cacert", ca.cert, "--cert", named, "--key", named_key)
        page = lambda path: run_out("curl", "-s", *flags, f"https://{p.endpoint}{path}")
        self.ctl(p, *flags, "put", "a", stdin="x" * 1000000)
        self.assertEqual(self.ctl(p, *flags, "get", "a"), "a\n" + "x" * 1000000 + "\n")
        w = self.watch(p, *flags, "a")
        self.await_(lambda: "etcd_debugging_mvcc_watcher_total 2\n" in page("/metrics"), True)
        self.ctl(p, *flags, "put", "a", "2")
        self.assertEqual(w.lines(3), ["PUT", "a", "2"])
        self.assertNotEqual(etcdctl(p, "--cacert", ca.cert, "--dial-timeout=2s", "--command-timeout=2s", "get", "a").code, 0)  # no certificate
        for path in ("/health", "/proxy/health"):
            self.assertIn('"health":"true"', page(path))
        r = subprocess.run([PINTLE, "grpc-proxy", "start", "--cert", named, "--key", named_key], capture_output=True, text=True, timeout=20)
        self.assertEqual(r.returncode, 1)
        self.assertIn(f"cert has non empty Common Name (somebody): {named}", r.stderr)

    def test_certificates_of_our_own(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        server = self.serve()
        p = self.proxy([server.endpoint], "--auto-tls", "--data-dir", os.path.join(directory.name, "proxy"))
        self.assertEqual(self.ctl(p, "--insecure-transport=false", "--insecure-skip-tls-verify", "put", "a", "1"), "OK\n")


class CommandLine(unittest.TestCase):
    def test_refused(self):
        for flags, why in ((["--bogus"], "Error: unknown flag: --bogus"),
                           (["--resolver-prefix=x"], "invalid resolver-ttl 0"),
                           (["--resolver-ttl=3"], 'invalid resolver-prefix ""'),
                           (["--tls-min-version=TLS1.1"], 'tls-min-version is invalid: unexpected TLS version "TLS1.1"'),
                           (["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "min version (TLS1.3) is greater than max version (TLS1.2)"),
                           (["--tls-min-version=TLS1.3", "--listen-cipher-suites=x"], "cipher suites cannot be configured when only TLS1.3 is enabled"),
                           (["--debug=perhaps"], 'invalid argument "perhaps" for "--debug" flag'),
                           (["--discovery-srv=nowhere.invalid"], "dns lookup errors"),
                           (["--experimental-leasing-prefix=x"], "not supported"),
                           (["--listen-addr=nowhere"], "missing port in address")):
            with self.subTest(flags):
                r = subprocess.run([PINTLE, "grpc-proxy", "start", *flags], capture_output=True, text=True, timeout=20)
                self.assertEqual((r.returncode, r.stdout), (1, ""))
                self.assertIn(why, r.stderr)

    def test_help(self):
        for words in ([], ["--help"], ["start", "--help"]):
            r = subprocess.run([PINTLE, "grpc-proxy", *words], capture_output=True, text=True, timeout=20)
            self.assertEqual((r.returncode, r.stderr), (0, ""))
            self.assertIn('--listen-addr string', r.stdout)


if __name__ == "__main__":
    unittest.main()
