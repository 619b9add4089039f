"""The JSON gateway: the same requests to pintle and to etcd, where there is one; and curl, as people use it."""
import base64
import concurrent.futures
import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

import oracle_server
from harness import Server, SharedServerCase, etcdctl

# What differs between two servers that are right.
OWN = {"cluster_id", "member_id", "raft_term", "dbSize", "dbSizeInUse", "leader", "raftIndex", "raftTerm", "raftAppliedIndex", "hash",
       "compact_hash", "hash_revision", "ID", "clientURLs", "peerURLs", "name", "blob", "remaining_bytes"}


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def plain(value):
    """Without what is each server's own; its presence is kept."""
    if isinstance(value, dict):
        return {k: "own" if k in OWN else plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


class Reply:
    def __init__(self, r):
        self.status, self.body = r.status, r.read()
        self.headers = {k.lower(): v for k, v in r.getheaders()}

    def shown(self):
        """What must be equal: status, headers but those of the moment and of framing, the lines' values."""
        headers = {k: v for k, v in self.headers.items() if k not in ("date", "content-length", "transfer-encoding")}
        lines = [plain(json.loads(line)) for line in self.body.decode().splitlines() if line]
        return self.status, headers, lines


def ask(server, path, body="", method="POST", headers=None):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        c.request(method, path, body=body if isinstance(body, (str, bytes)) else json.dumps(body), headers=headers or {})
        return Reply(c.getresponse())
    finally:
        c.close()


def lines_of(server, path, body, n, headers=None):
    """The first n lines of a stream that does not end."""
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        c.request("POST", path, body=body if isinstance(body, str) else json.dumps(body), headers=headers or {})
        r = c.getresponse()
        assert r.status == 200, r.read()
        return [json.loads(r.readline()) for _ in range(n)]
    finally:
        c.close()


K, V = b64("k"), b64("v")
LEASE = "1234567"
# (path, body, headers): in order, so that revisions agree. Error texts of the JSON parsers are not compared (`parser` rows): etcd's vary by build.
SAME = [
    ("kv/put", {"key": K, "value": V}),
    ("kv/put", {"key": K, "value": b64("v2"), "prev_kv": True}),
    ("kv/put", {"key": K, "value": b64("v3"), "prevKv": True, "what": [{"ever": None}]}),
    ("kv/range", {"key": K}),
    ("kv/range", {"key": K, "revision": "2"}),
    ("kv/range", {"key": K, "revision": 2}),
    ("kv/range", {"key": K, "count_only": True}),
    ("kv/range", {"key": b64("nothing")}),
    ("kv/range", {"key": "AA==", "range_end": "AA==", "limit": 1, "sort_order": "DESCEND", "sort_target": 2}),
    ("kv/range", {"key": K, "serializable": True, "keysOnly": True}),
    ("kv/range", {"key": K, "revision": "99"}),
    ("kv/range", {"key": K, "sort_order": 99}),
    ("kv/range", {"key": K, "sort_order": "SIDEWAYS"}),
    ("kv/range", {"key": K, "limit": 1.0, "revision": "2e0"}),
    ("kv/range", {"key": K, "limit": None, "range_end": None}),
    ("kv/range", {}),
    ("kv/range", ""),
    ("kv/range", " \n "),
    ("kv/range", '{"key":"%s"} and more' % K),
    ("kv/put", {"value": V}),
    ("kv/put", {"key": "_-8", "value": "-_8"}),
    ("kv/range", {"key": "/+8="}),
    ("kv/put", {"key": b64("\x00\xff"), "value": b64("é\n\"")}),
    ("kv/put", {"key": K, "lease": "77"}),
    ("kv/put", {"key": K, "ignore_value": True, "value": V}),
    ("kv/txn", {"compare": [{"target": "VERSION", "result": "EQUAL", "key": K, "version": "3"}],
                "success": [{"request_put": {"key": b64("t"), "value": V}}, {"requestRange": {"key": K}},
                            {"request_delete_range": {"key": b64("t2")}},
                            {"request_txn": {"success": [{"request_range": {"key": K}}], "failure": []}}],
                "failure": [{"request_range": {"key": K}}]}),
    ("kv/txn", {"compare": [{"target": "VALUE", "result": "GREATER", "key": K, "value": ""}], "success": [{"request_range": {"key": K}}]}),
    ("kv/txn", {"compare": [{"target": "CREATE", "key": b64("absent"), "create_revision": 0}], "success": [{"request_put": {"key": b64("c")}}]}),
    ("kv/txn", {"success": [{"request_put": {"key": K}}, {"request_put": {"key": K}}]}),
    ("kv/txn", {}),
    ("kv/txn", {"success": [{}]}),
    ("kv/deleterange", {"key": b64("t"), "prev_kv": True}),
    ("kv/deleterange", {"key": b64("t")}),
    ("kv/deleterange", {}),
    ("kv/compaction", {"revision": "3"}),
    ("kv/compaction", {"revision": "3"}),
    ("kv/compaction", {"revision": "999"}),
    ("kv/range", {"key": K, "revision": "2"}),
    ("lease/grant", {"TTL": "60", "ID": LEASE}),
    ("lease/grant", {"TTL": 60, "ID": int(LEASE)}),
    ("lease/grant", {"ttl": "60", "id": "5"}),
    ("lease/grant", {"TTL": "9999999999"}),
    ("kv/put", {"key": b64("l"), "value": V, "lease": LEASE}),
    ("lease/timetolive", {"ID": "77", "keys": True}),
    ("kv/lease/timetolive", {"ID": "77"}),
    ("lease/leases", {}),
    ("kv/lease/leases", ""),
    ("lease/keepalive", {"ID": "77"}),
    ("lease/keepalive", '{"ID":"%s"}{"ID":77}' % LEASE),
    ("lease/keepalive", '{"ID":"%s"} oops {"ID":77}' % LEASE),
    ("lease/keepalive", '{"ID":true}'),
    ("lease/keepalive", ""),
    ("lease/revoke", {"ID": LEASE}),
    ("kv/lease/revoke", {"ID": LEASE}),
    ("kv/range", {"key": b64("l")}),
    ("cluster/member/list", {}),
    ("cluster/member/remove", {"ID": "5"}),
    ("cluster/member/remove", {}),
    ("cluster/member/update", {"peerURLs": ["http://127.0.0.1:9"]}),
    ("cluster/member/promote", {}),
    ("maintenance/alarm", {}),
    ("maintenance/alarm", {"action": "ACTIVATE", "memberID": 18446744073709551615, "alarm": "NOSPACE"}),
    ("maintenance/alarm", {"action": "GET"}),
    ("kv/put", {"key": K}),
    ("maintenance/alarm", {"action": 2, "memberID": "18446744073709551615", "alarm": 1}),
    ("maintenance/status", {}),
    ("maintenance/alarm", {"action": "ACTIVATE", "alarm": "NOSPACE"}),
    ("maintenance/status", {}),
    ("maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE"}),
    ("maintenance/hash", {}),
    ("maintenance/hashkv", {"revision": "0"}),
    ("maintenance/hashkv", {"revision": "9999"}),
    ("maintenance/defragment", {}),
    ("maintenance/transfer-leadership", {"targetID": "5"}),
    ("lock/lock", {"name": b64("m"), "lease": "77"}),
    ("lock/unlock", {"key": b64("never")}),
    ("lock/unlock", {}),
    ("election/leader", {"name": b64("e")}),
    ("election/proclaim", {"value": V}),
    ("election/proclaim", {"leader": {"name": b64("e"), "key": b64("e/1"), "rev": "5", "lease": "77"}, "value": V}),
    ("election/resign", {}),
    ("kv/nothing", {}),
    ("kv", {}),
    ("kv/put/", {}),
    ("kv/put", {"key": K, "value": V}, {"Grpc-Timeout": "5S"}),
    ("kv/put", {"key": K, "value": V}, {"Grpc-Timeout": "0S"}),
    ("kv/put", {"key": K, "value": V}, {"Grpc-Timeout": "5x"}),
    ("kv/put", {"key": K, "value": V}, {"Grpc-Timeout": "S"}),
    ("kv/put", {"key": K, "value": V}, {"Grpc-Timeout": "-5S"}),
    ("kv/range", {"key": K}, {"Grpc-Metadata-Hasleader": "true", "Authorization": "what", "Content-Type": "text/plain"}),
    ("kv/range", {"key": K}, {"Origin": "http://elsewhere.example"}),
    ("kv/put", {"key": K, "value": "A" * 2800000}),
    ("kv/put", {"key": K, "value": "A" * 2300000}),
]
PARSER = [
    ("kv/range", "{"), ("kv/range", "x"), ("kv/range", "[]"), ("kv/range", "5"), ("kv/range", '"text"'), ("kv/range", "null"),
    ("kv/range", '{"key":5}'), ("kv/range", '{"key":"!"}'), ("kv/range", '{"key":"aaa=="}'), ("kv/range", '{"limit":"x"}'),
    ("kv/range", '{"limit":1.5}'), ("kv/range", '{"limit":" 1"}'), ("kv/range", '{"limit":""}'), ("kv/range", '{"limit":9223372036854775808}'),
    ("kv/range", '{"limit":"0x10"}'), ("kv/range", '{"serializable":"true"}'), ("kv/range", '{"serializable":1}'),
    ("kv/range", '{"limit":1,"limit":1}'), ("kv/range", '{"range_end":"","rangeEnd":""}'), ("kv/range", '{"key":"%s",}' % K),
    ("kv/range", "{'key':1}"), ("kv/range", '{"key":{}}'), ("kv/range", '{"x":[1 2]}'), ("kv/range", '{"x":"\\ud800"}'),
    ("kv/txn", '{"success":{}}'), ("kv/txn", '{"success":[null]}'), ("kv/txn", '{"success":[{"request_put":{},"request_range":{}}]}'),
    ("kv/txn", '{"compare":[{"version":1,"value":""}]}'), ("kv/txn", '{"success":[1]}'),
    ("maintenance/alarm", '{"memberID":-1}'), ("maintenance/alarm", '{"memberID":18446744073709551616}'),
    ("maintenance/alarm", '{"action":[]}'), ("cluster/member/add", '{"peerURLs":[5]}'), ("maintenance/snapshot", "{"),
]


def compared(version, program):
    class Compared(unittest.TestCase):
        maxDiff = None

        @classmethod
        def setUpClass(cls):
            cls.ours, cls.theirs = Server().start(), oracle_server.Etcd(program).start()

        @classmethod
        def tearDownClass(cls):
            cls.ours.stop()
            log = cls.ours.log_text()
            cls.ours.close()
            cls.theirs.close()
            assert "Sanitizer" not in log, log[-4000:]

        def both(self, *args, **more):
            return ask(self.ours, *args, **more), ask(self.theirs, *args, **more)

        def test_1_same_replies(self):
            for path, body, *headers in SAME:
                with self.subTest(path=path, body=str(body)[:200], headers=headers):
                    ours, theirs = self.both("/v3/" + path, body, headers=headers[0] if headers else None)
                    self.assertEqual(ours.shown(), theirs.shown())

        def test_2_same_refusals_of_bodies(self):
            for path, body in PARSER:
                with self.subTest(path=path, body=body):
                    ours, theirs = self.both("/v3/" + path, body)
                    self.assertEqual((ours.status, json.loads(ours.body)["code"]), (theirs.status, json.loads(theirs.body)["code"]))

        def test_3_same_methods_and_paths(self):
            for method in ("GET", "PUT", "DELETE", "OPTIONS", "PATCH"):
                for path in ("/v3/kv/range", "/v3/nothing", "/v3beta/kv/range", "/v3alpha/kv/range"):
                    with self.subTest(method=method, path=path):
                        ours, theirs = self.both(path, method=method)
                        self.assertEqual((ours.status, ours.headers.get("content-type"), ours.body.replace(b" ", b"")),
                                         (theirs.status, theirs.headers.get("content-type"), theirs.body.replace(b" ", b"")))

        def test_4_same_watches(self):
            for s in (self.ours, self.theirs):
                for i in range(5):
                    ask(s, "/v3/kv/put", {"key": b64("w%d" % i), "value": V})
                ask(s, "/v3/kv/deleterange", {"key": b64("w1")})
            revision = int(json.loads(ask(self.theirs, "/v3/kv/range", {"key": K}).body)["header"]["revision"])
            rows = [
                ({"create_request": {"key": b64("w"), "range_end": b64("x"), "start_revision": str(revision - 5)}}, 2),
                ({"createRequest": {"key": b64("w"), "rangeEnd": b64("x"), "startRevision": revision - 5, "prevKv": True, "filters": ["NOPUT"]}}, 2),
                ({"create_request": {"key": K, "start_revision": "1"}}, 2),
                ({"create_request": {"key": b64("b"), "range_end": b64("a")}}, 1),
                ('{"create_request":{"key":"%s"}}{"create_request":{"key":"%s","watch_id":"7"}}{"cancel_request":{"watch_id":"7"}}' % (K, K), 3),
            ]
            for body, n in rows:
                with self.subTest(body=body):
                    self.assertEqual(plain(lines_of(self.ours, "/v3/watch", body, n)), plain(lines_of(self.theirs, "/v3/watch", body, n)))

    Compared.__name__ = Compared.__qualname__ = "Against" + version.replace(".", "_")
    return Compared


class WithOld(unittest.TestCase):
    """etcd 3.4's gateway is another program: what it serves we serve the same; its refusals have another form."""

    maxDiff = None
    PATHS = ("kv/", "lease/", "lock/", "election/")

    def test_same_replies(self):
        program = oracle_server.programs().get("3.4")
        if program is None:
            self.skipTest("no etcd 3.4 here")
        ours, theirs = Server().start(), oracle_server.Etcd(program).start()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        compared_rows = 0
        for path, body, *headers in SAME:
            with self.subTest(path=path, body=str(body)[:200]):
                more = headers[0] if headers else None
                b = ask(theirs, "/v3/" + path, body, headers=more)
                if b.status == 200:
                    a = ask(ours, "/v3/" + path, body, headers=more)
                    if path.startswith(self.PATHS) and "'sort_order': 99" not in str(body):  # which it overlooks
                        compared_rows += 1
                        self.assertEqual((a.status, a.shown()[2]), (b.status, b.shown()[2]))
        self.assertGreater(compared_rows, 30)


if "3.7" in oracle_server.programs():
    Against3_7 = compared("3.7", oracle_server.programs()["3.7"])


class Alone(SharedServerCase):
    def test_curl(self):
        def curl(path, body):
            done = subprocess.run(["curl", "-sS", "-L", self.server.endpoint + path, "-X", "POST", "-d", body], capture_output=True, text=True,
                                  check=True, timeout=30)
            return json.loads(done.stdout)
        put = curl("/v3/kv/put", '{"key": "Zm9v", "value": "YmFy"}')
        self.assertEqual(set(put["header"]), {"cluster_id", "member_id", "revision", "raft_term"})
        got = curl("/v3/kv/range", '{"key": "Zm9v"}')
        self.assertEqual((got["kvs"][0]["value"], got["count"]), ("YmFy", "1"))
        self.assertEqual(etcdctl(self.server, "get", "foo").out, "foo\nbar\n")

    def test_every_path_is_served(self):
        source = re.findall(r'\{"(/v3/[^"]+)", "([^"]+)"', open(oracle_server.harness.ROOT + "/api/gateway/routes.c", encoding="utf-8").read())
        self.assertEqual(len(source), 51)
        for path, _ in source:
            if path in ("/v3/watch", "/v3/election/observe", "/v3/election/campaign", "/v3/lock/lock", "/v3/maintenance/defragment"):
                continue
            with self.subTest(path):
                r = ask(self.server, path, {"ID": "1"} if "remove" in path or "update" in path or "promote" in path else {})
                self.assertNotIn(r.status, (404 if "revoke" not in path and "member" not in path else 0, 501), r.body)

    def test_a_watch_goes_on(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        c.request("POST", "/v3/watch", body=json.dumps({"create_request": {"key": b64("live")}}))
        r = c.getresponse()
        self.assertTrue(json.loads(r.readline())["result"]["created"])
        for i in range(20):
            ask(self.server, "/v3/kv/put", {"key": b64("live"), "value": b64(str(i))})
            event, = json.loads(r.readline())["result"]["events"]
            self.assertEqual(event["kv"]["value"], b64(str(i)))
        c.close()

    def test_observe_and_campaign(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        c.request("POST", "/v3/election/observe", body=json.dumps({"name": b64("obs")}))
        won = json.loads(ask(self.server, "/v3/election/campaign", {"name": b64("obs"), "value": V}).body)
        r = c.getresponse()
        self.assertEqual(json.loads(r.readline())["result"]["kv"]["value"], V)
        ask(self.server, "/v3/election/proclaim", {"leader": won["leader"], "value": b64("second")})
        self.assertEqual(json.loads(r.readline())["result"]["kv"]["value"], b64("second"))
        c.close()
        self.assertEqual(ask(self.server, "/v3/election/resign", {"leader": won["leader"]}).status, 200)

    def test_a_lock_that_is_given_up(self):
        held = json.loads(ask(self.server, "/v3/lock/lock", {"name": b64("gl")}).body)["key"]
        late = ask(self.server, "/v3/lock/lock", {"name": b64("gl")}, headers={"Grpc-Timeout": "300m"})
        self.assertEqual((late.status, json.loads(late.body)), (504, {"code": 4, "message": "context deadline exceeded"}))
        s = socket.create_connection(("127.0.0.1", self.server.port), timeout=30)
        body = json.dumps({"name": b64("gl")})
        s.sendall(b"POST /v3/lock/lock HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
        keys = lambda: [kv["key"] for kv in json.loads(ask(self.server, "/v3/kv/range", {"key": b64("gl/"), "range_end": b64("gl0")}).body)["kvs"]]
        deadline = time.monotonic() + 20
        while len(keys()) != 2 and time.monotonic() < deadline:
            pass
        s.close()
        while keys() != [held]:
            self.assertLess(time.monotonic(), deadline)
        ask(self.server, "/v3/lock/unlock", {"key": held})

    def test_large_replies(self):
        value = b64(b"x" * 100000)
        for i in range(200):
            ask(self.server, "/v3/kv/put", {"key": b64("big%03d" % i), "value": value})
        r = ask(self.server, "/v3/kv/range", {"key": b64("big"), "range_end": b64("bih")})
        self.assertNotIn("content-length", r.headers)
        got = json.loads(r.body)
        self.assertEqual((got["count"], len(got["kvs"])), ("200", 200))
        self.assertTrue(all(kv["value"] == value for kv in got["kvs"]))

    def test_snapshot(self):
        r = ask(self.server, "/v3/maintenance/snapshot", {})
        chunks = [json.loads(line)["result"] for line in r.body.decode().splitlines()]
        data = b"".join(base64.b64decode(c.get("blob", "")) for c in chunks)
        self.assertEqual(data[16:20], b"\xed\xda\x0c\xed")
        self.assertEqual(len(data) % 512, 32)

    def test_many_at_once(self):
        def work(n):
            for i in range(20):
                key = b64("m%d-%d" % (n, i))
                assert ask(self.server, "/v3/kv/put", {"key": key, "value": key}).status == 200
                assert json.loads(ask(self.server, "/v3/kv/range", {"key": key}).body)["kvs"][0]["value"] == key
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for f in [pool.submit(work, n) for n in range(16)]:
                f.result()

    def test_a_reader_that_does_not_read(self):
        """Its watch waits; nobody else notices, and the server's memory stays as it is."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", self.server.port))
        body = json.dumps({"create_request": {"key": b64("slow")}})
        s.sendall(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
        self.assertIn(b"200 OK", s.recv(4096))
        value = b64(b"y" * 300000)
        before = self.resident()
        for _ in range(100):
            self.assertEqual(ask(self.server, "/v3/kv/put", {"key": b64("slow"), "value": value}).status, 200)
        grown = self.resident() - before
        s.close()
        self.assertLess(grown, 400 << 20)

    def resident(self):
        with open(f"/proc/{self.server.process.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * 4096


class Stopping(unittest.TestCase):
    def test_streams_end_with_the_server(self):
        server = Server().start()
        self.addCleanup(server.close)
        got = []
        ready = threading.Event()

        def watch():
            c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            c.request("POST", "/v3/watch", body=json.dumps({"create_request": {"key": K}}))
            r = c.getresponse()
            r.readline()
            ready.set()
            got.append(r.read())

        thread = threading.Thread(target=watch)
        thread.start()
        ready.wait(20)
        began = time.monotonic()
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertLess(time.monotonic() - began, 5)
        thread.join()
        self.assertEqual(got, [b'{"error":{"code":14,"message":"etcdserver: server stopped"}}\n'])
        self.assertNotIn("Sanitizer", server.log_text())


class Access(unittest.TestCase):
    """--cors and --host-whitelist."""

    @classmethod
    def setUpClass(cls):
        cls.flags = ["--cors=http://a.example:80,https://b.example:443", "--host-whitelist=localhost,127.0.0.1"]
        cls.servers = [Server(cls.flags).start()]
        if "3.7" in oracle_server.programs():
            cls.servers.append(oracle_server.Etcd(oracle_server.programs()["3.7"], cls.flags).start())

    @classmethod
    def tearDownClass(cls):
        for s in cls.servers:
            s.close()

    def test_origins(self):
        for path, method in (("/v3/kv/range", "POST"), ("/health", "GET"), ("/nothing", "GET"), ("/v3/kv/range", "OPTIONS")):
            for origin, allowed in (("http://a.example:80", True), ("https://b.example:443", True), ("http://b.example:443", False), (None, False)):
                for s in self.servers:
                    with self.subTest(path=path, method=method, origin=origin):
                        r = ask(s, path, {} if method == "POST" else "", method=method, headers={"Origin": origin} if origin else None)
                        self.assertEqual(r.headers.get("access-control-allow-origin"), origin if allowed else None)
                        self.assertEqual("access-control-allow-methods" in r.headers, allowed)
                        self.assertEqual(r.status, {"/nothing": 404, "/health": 200}.get(path, 200 if method == "OPTIONS" else 400))

    def test_hosts(self):
        for host, status in (("localhost", 200), ("localhost:5", 200), ("127.0.0.1", 200), ("evil.example", 421), ("evil.example:2379", 421)):
            for path, method in (("/health", "GET"), ("/v3/maintenance/status", "POST"), ("/v3/maintenance/status", "OPTIONS")):
                for s in self.servers:
                    with self.subTest(host=host, path=path):
                        r = ask(s, path, "", method=method, headers={"Host": host})
                        self.assertEqual(r.status, status)
                        self.assertEqual(r.headers.get("content-type"), "text/plain; charset=utf-8" if status == 421 else r.headers.get("content-type"))
                        if status == 421:
                            self.assertTrue(r.body.startswith(b"\netcd received your request, but the Host header was unrecognized.\n"), r.body)
                            self.assertIn(b'--host-whitelist "evil.example"', r.body)
                            self.assertNotIn("access-control-allow-origin", r.headers)
        self.assertIn("rejecting HTTP request to prevent DNS rebinding attacks", self.servers[0].log_text())


class Without(unittest.TestCase):
    def test_no_gateway(self):
        server = Server(["--enable-grpc-gateway=false"]).start()
        self.addCleanup(server.close)
        r = ask(server, "/v3/kv/range", {"key": K})
        self.assertEqual((r.status, r.body), (404, b"404 page not found\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
