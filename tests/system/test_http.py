"""The HTTP/1.1 side of the client port: version, health, probes, metrics, and the manners of the protocol."""
import http.client
import json
import re
import socket
import time
import unittest

from harness import SharedServerCase, etcdctl
from raw_http2 import Connection, message
from wire import field

TEXT = "text/plain; charset=utf-8"
CORS = {"access-control-allow-methods": "POST, GET, OPTIONS, PUT, DELETE", "access-control-allow-origin": "*",
        "access-control-allow-headers": "accept, content-type, authorization"}


class Reply:
    def __init__(self, r):
        self.status, self.body = r.status, r.read()
        self.headers = {k.lower(): v for k, v in r.getheaders()}

    def type(self):
        return self.headers.get("content-type")


class HttpCase(SharedServerCase):
    def ask(self, path, method="GET", body=None, headers=None):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            c.request(method, path, body=body, headers=headers or {})
            return Reply(c.getresponse())
        finally:
            c.close()

    def raw(self, data):
        """Everything that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            got = b""
            while True:
                more = s.recv(65536)
                if more == b"":
                    return got
                got += more


class Endpoints(HttpCase):
    def test_bodies(self):
        checks = ["data_corruption", "serializable_read", "linearizable_read", "non_learner"]
        rows = [("/health", '{"health":"true","reason":""}'), ("/health?serializable=true", '{"health":"true","reason":""}'),
                ("/health?exclude=NOSPACE&exclude=CORRUPT&exclude=X", '{"health":"true","reason":""}'),
                ("/livez", "ok\n"), ("/readyz", "ok\n"), ("/livez?verbose", "[+]serializable_read ok\nok\n"),
                ("/livez?verbose=0", "[+]serializable_read ok\nok\n"), ("/livez?exclude=serializable_read&verbose", "ok\n"),
                ("/livez?exclude=nothing&verbose", "[+]serializable_read ok\nok\n"),
                ("/livez/serializable_read?verbose", "[+]serializable_read ok\nok\n"),
                ("/livez/serializable_read?verbose&exclude=serializable_read", "[+]serializable_read ok\nok\n"),
                ("/readyz?verbose&" + "&".join("exclude=" + c for c in checks), "ok\n"),
                ("/readyz?verbose&exclude=linearizable_read", "".join(f"[+]{c} ok\n" for c in checks if c != "linearizable_read") + "ok\n")]
        rows += [(f"/readyz/{c}?verbose", f"[+]{c} ok\nok\n") for c in checks]
        for path, body in rows:
            with self.subTest(path):
                r = self.ask(path)
                self.assertEqual((r.status, r.body.decode(), r.type()), (200, body, TEXT))
                self.assertEqual(r.headers["content-length"], str(len(body)))
                self.assertEqual({k: r.headers.get(k) for k in CORS}, CORS)
                if not path.startswith("/health"):
                    self.assertEqual(r.headers.get("x-content-type-options"), "nosniff")
        lines = self.ask("/readyz?verbose").body.decode().split("\n")
        self.assertEqual(sorted(lines[:4]), sorted(f"[+]{c} ok" for c in checks))
        self.assertEqual(lines[4:], ["ok", ""])

    def test_version(self):
        r = self.ask("/version")
        self.assertEqual((r.status, r.type()), (200, "application/json"))
        self.assertEqual(r.body, b'{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}')

    def test_what_is_not_there(self):
        for path in ("/", "/nope", "/Version", "/version/", "/livez/nope", "/readyz/", "/health%00", "/../version", "/v2/keys", "/metricsx"):
            with self.subTest(path):
                r = self.ask(path)
                self.assertEqual((r.status, r.body, r.type()), (404, b"404 page not found\n", TEXT))
                self.assertEqual(r.headers.get("x-content-type-options"), "nosniff")
                self.assertEqual({k: r.headers.get(k) for k in CORS}, CORS)

    def test_methods(self):
        for path in ("/version", "/health", "/livez", "/readyz", "/readyz/non_learner"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                with self.subTest(path=path, method=method):
                    r = self.ask(path, method, body=b"x")
                    self.assertEqual((r.status, r.headers.get("allow"), r.body, r.type()), (405, "GET", b"Method Not Allowed\n", TEXT))
            r = self.ask(path, "HEAD")
            self.assertEqual((r.status, r.body), (405, b""))
        for path in ("/version", "/nope", "/metrics", "*"):
            r = self.ask(path, "OPTIONS")
            self.assertEqual((r.status, r.body), (200, b""), path)
            self.assertEqual({k: r.headers.get(k) for k in CORS}, CORS)

    def test_metrics_method(self):
        self.assertEqual(self.ask("/metrics", "POST").status, 200)
        r = self.ask("/metrics", "HEAD")
        self.assertEqual((r.status, r.body), (200, b""))
        self.assertGreater(int(r.headers["content-length"]), 1000)


class Metrics(HttpCase):
    SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? '
                        r"([-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|Inf|NaN))")
    REQUIRED = {"etcd_server_has_leader": "gauge", "etcd_server_is_leader": "gauge", "etcd_server_proposals_committed_total": "gauge",
                "etcd_server_proposals_applied_total": "gauge", "etcd_server_version": "gauge", "etcd_server_quota_backend_bytes": "gauge",
                "etcd_server_client_requests_total": "counter", "etcd_server_health_success": "counter",
                "etcd_mvcc_put_total": "counter", "etcd_mvcc_range_total": "counter", "etcd_mvcc_delete_total": "counter",
                "etcd_mvcc_txn_total": "counter", "etcd_mvcc_db_total_size_in_bytes": "gauge", "etcd_mvcc_db_total_size_in_use_in_bytes": "gauge",
                "etcd_debugging_mvcc_keys_total": "gauge", "etcd_disk_wal_fsync_duration_seconds": "histogram",
                "etcd_disk_backend_commit_duration_seconds": "histogram", "grpc_server_started_total": "counter",
                "grpc_server_handled_total": "counter", "grpc_server_msg_received_total": "counter", "grpc_server_msg_sent_total": "counter",
                "etcd_network_client_grpc_received_bytes_total": "counter", "etcd_network_client_grpc_sent_bytes_total": "counter",
                "process_open_fds": "gauge", "process_resident_memory_bytes": "gauge", "process_start_time_seconds": "gauge"}

    def scrape(self):
        """({family: type}, {sample with labels: value}); every line is looked at."""
        r = self.ask("/metrics")
        self.assertEqual(r.status, 200)
        self.assertTrue(r.type().startswith("text/plain; version=0.0.4; charset=utf-8"), r.type())
        text = r.body.decode()
        self.assertTrue(text.endswith("\n"))
        types, samples, helped, current = {}, {}, set(), None
        for line in text[:-1].split("\n"):
            if line.startswith("# HELP "):
                current = line.split(" ")[2]
                self.assertNotIn(current, helped, "each family once")
                helped.add(current)
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.assertEqual(name, current)
                self.assertIn(kind, ("counter", "gauge", "histogram", "summary"))
                types[name] = kind
            else:
                m = self.SAMPLE.fullmatch(line)
                self.assertIsNotNone(m, line)
                name = m.group(1)
                if types[current] == "histogram":
                    self.assertIn(name, (current + "_bucket", current + "_sum", current + "_count"))
                else:
                    self.assertEqual(name, current)
                key = name + ("{" + ",".join(sorted((m.group(2) or "").rstrip(",").split(","))) + "}" if m.group(2) else "")
                self.assertNotIn(key, samples, "each series once")
                samples[key] = float(m.group(3))
        return types, samples

    def test_families(self):
        types, samples = self.scrape()
        missing = {k: (v, types.get(k)) for k, v in self.REQUIRED.items() if types.get(k) != v}
        self.assertEqual(missing, {})
        self.assertEqual(samples["etcd_server_has_leader"], 1)
        self.assertEqual(samples["etcd_server_is_leader"], 1)
        self.assertEqual(samples['etcd_server_version{server_version="3.7.1"}'], 1)
        self.assertLess(abs(samples["process_start_time_seconds"] - time.time()), 600)
        self.assertGreater(samples["process_resident_memory_bytes"], 1 << 20)
        for name, kind in types.items():
            if kind == "histogram" and name + "_count" in samples:
                self.assertEqual(samples[name + '_bucket{le="+Inf"}'], samples[name + "_count"], name)

    def test_counting(self):
        def of(samples, name, **labels):
            text = ",".join(sorted(f'{k}="{v}"' for k, v in labels.items()))
            return samples.get(f"{name}{{{text}}}" if labels else name, 0)

        put = {"grpc_method": "Put", "grpc_service": "etcdserverpb.KV", "grpc_type": "unary"}
        before = self.scrape()[1]
        for i in range(5):
            self.assertEqual(etcdctl(self.server, "put", f"m{i}", "x").code, 0)
        self.assertNotEqual(etcdctl(self.server, "put", "", "x").code, 0)
        with Connection(self.server.port) as c:
            for version in ("9.9", "9.9", 'q"\\', "x" * 100):
                self.assertEqual(c.call("/etcdserverpb.KV/Range", message(field(1, "m1")), more=[("client-api-version", version)]).status(), (0, ""))
        after = self.scrape()[1]

        def grown(name, **labels):
            return of(after, name, **labels) - of(before, name, **labels)

        self.assertEqual(grown("grpc_server_started_total", **put), 6)
        self.assertEqual(grown("grpc_server_handled_total", grpc_code="OK", **put), 5)
        self.assertEqual(grown("grpc_server_handled_total", grpc_code="InvalidArgument", **put), 1)
        self.assertEqual(grown("etcd_mvcc_put_total"), 5)
        self.assertGreaterEqual(grown("etcd_disk_wal_fsync_duration_seconds_count"), 5)
        self.assertGreater(grown("etcd_network_client_grpc_received_bytes_total"), 0)
        self.assertEqual(grown("etcd_server_client_requests_total", client_api_version="9.9", type="unary"), 2)
        self.assertEqual(grown("etcd_server_client_requests_total", client_api_version='q\\"\\\\', type="unary"), 1)
        self.assertGreaterEqual(grown("etcd_server_client_requests_total", client_api_version="unknown", type="unary"), 1)

    def test_names_of_clients_are_bounded(self):
        with Connection(self.server.port) as c:
            for i in range(100):
                c.call("/etcdserverpb.KV/Range", message(field(1, "m")), more=[("client-api-version", f"v{i}")])
        names = [k for k in self.scrape()[1] if k.startswith("etcd_server_client_requests_total")]
        self.assertLess(len(names), 64)


class Alarms(HttpCase):
    flags = ("--quota-backend-bytes", str(1 << 20))

    def test_health_follows_the_alarm(self):
        for i in range(100):
            if etcdctl(self.server, "put", f"k{i}", "x" * 100000).code != 0:
                break
        self.assertIn("NOSPACE", etcdctl(self.server, "alarm", "list").out)
        for path in ("/health", "/health?serializable=true", "/health?exclude=CORRUPT"):
            r = self.ask(path)
            self.assertEqual((r.status, r.body, r.type()), (503, b'{"health":"false","reason":"ALARM NOSPACE"}\n', TEXT), path)
            self.assertEqual(r.headers.get("x-content-type-options"), "nosniff")
        self.assertEqual(self.ask("/health?exclude=NOSPACE").status, 200)
        self.assertEqual((self.ask("/livez").status, self.ask("/readyz").status), (200, 200))
        member = json.loads(etcdctl(self.server, "member", "list", "-w", "json").out)["members"][0]["ID"]
        with Connection(self.server.port) as c:
            # CORRUPT, as a corruption check would raise it.
            c.call("/etcdserverpb.Maintenance/Alarm", message(field(1, 1) + field(2, member) + field(3, 2)))
        r = self.ask("/readyz")
        self.assertEqual(r.status, 503)
        lines = r.body.decode().split("\n")
        self.assertIn("[-]data_corruption failed: alarm activated: CORRUPT", lines)
        self.assertIn("[+]serializable_read ok", lines)
        self.assertEqual(lines[-2:], ["", ""])
        self.assertEqual(self.ask("/readyz?exclude=data_corruption").body, b"ok\n")
        self.assertEqual(self.ask("/readyz/data_corruption").status, 503)
        self.assertEqual(self.ask("/health?exclude=NOSPACE").body, b'{"health":"false","reason":"ALARM CORRUPT"}\n')


class Protocol(HttpCase):
    def test_keep_alive(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        c.connect()
        port = c.sock.getsockname()[1]
        for _ in range(50):
            c.request("GET", "/health")
            self.assertEqual(Reply(c.getresponse()).status, 200)
            self.assertEqual(c.sock.getsockname()[1], port)
        c.close()

    def test_pipelined(self):
        n = 200
        got = self.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /nope HTTP/1.1\r\nHost: x\r\n\r\n" * n)
        self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", got), [b"200", b"404"] * n)
        self.assertEqual(got.count(b'{"health":"true","reason":""}'), n)

    def test_old(self):
        got = self.raw(b"GET /version HTTP/1.0\r\n\r\n")
        head, body = got.split(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.0 200 OK\r\n"), head)
        self.assertIn(b'"etcdserver":"3.7.1"', body)
        self.assertNotIn(b"chunked", head.lower())
        two = self.raw(b"GET /version HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /version HTTP/1.0\r\n\r\n")
        self.assertEqual(two.count(b"HTTP/1.0 200 OK"), 2)

    def test_close(self):
        got = self.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(got.count(b"HTTP/1.1 200"), 1)
        self.assertIn(b"Connection: close", got)

    def test_bad_requests(self):
        ok_host = b"Host: x\r\n"
        rows = [(b"GET /health HTTP/1.1\r\n\r\n", 400), (b"GET /health HTTP/1.1\r\n" + ok_host * 2 + b"\r\n", 400),
                (b"GET /health HTTP/3.0\r\n" + ok_host + b"\r\n", 505), (b"GET /health\r\n\r\n", 400),
                (b"GET /health HTTP/1.1\r\n" + ok_host + b"Content-Length: -1\r\n\r\n", 400),
                (b"GET /health HTTP/1.1\r\n" + ok_host + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
                (b"POST /metrics HTTP/1.1\r\n" + ok_host + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
                (b"GET /health HTTP/1.1\r\n" + ok_host + b"X: " + b"y" * 100000 + b"\r\n\r\n", 431),
                (b"GET /" + b"y" * 100000 + b" HTTP/1.1\r\n" + ok_host + b"\r\n", 431),
                (b"GET /health HTTP/1.1\r\n" + ok_host + b"a: b\r\n" * 300 + b"\r\n", 431),
                (b"POST /metrics HTTP/1.1\r\n" + ok_host + b"Content-Length: 100000000\r\n\r\n", 413)]
        for data, status in rows:
            with self.subTest(data[:60]):
                try:
                    got = self.raw(data)
                except ConnectionResetError:
                    got = b""  # it answered and closed before all of ours was sent
                self.assertTrue(got.startswith(b"HTTP/1.1 %d " % status) or (got == b"" and len(data) > 50000), got[:100])
        self.assertEqual(self.ask("/health").status, 200)

    def test_slow_head(self):
        """Byte by byte it is the same request."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
                s.sendall(bytes([byte]))
            got = b""
            while more := s.recv(4096):
                got += more
            self.assertIn(b'"etcdserver":"3.7.1"', got)

    def test_leaving_early(self):
        """Clients that ask and go at once hurt nobody."""
        for i in range(200):
            s = socket.create_connection(("127.0.0.1", self.server.port), timeout=30)
            s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"[: 1 + i % 40] if i % 2 else b"GET /readyz?verbose HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
            s.close()
        self.assertEqual(self.ask("/readyz").body, b"ok\n")


if __name__ == "__main__":
    unittest.main()
