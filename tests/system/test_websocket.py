"""WebSockets on the gateway's paths: an independent client, the same exchanges with etcd, and what is wrong on purpose."""
import asyncio
import base64
import http.client
import json
import signal
import ssl
import struct
import tempfile
import unittest

import websockets

import certs
import oracle_server
from harness import Server, SharedServerCase, etcdctl
from websocket_client import BINARY, CLOSE, PING, PONG, Closed, WebSocket, frame

MIB = 1024 * 1024


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def create(key, **more):
    return json.dumps({"create_request": {"key": b64(key), **more}})


def put(server, key, value="v", token=None):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    c.request("POST", "/v3/kv/put", json.dumps({"key": b64(key), "value": b64(value)}), {"Authorization": token} if token else {})
    r = c.getresponse()
    body = r.read()
    c.close()
    assert r.status == 200, body


def plain(value):
    own = {"cluster_id", "member_id", "raft_term"}
    if isinstance(value, dict):
        return {k: "own" if k in own else plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


class Alone(SharedServerCase):
    maxDiff = None

    def open(self, path="/v3/watch", headers=(), **more):
        w = WebSocket(self.server.port, path, headers, **more)
        self.addCleanup(w.close)
        return w

    def closed(self, w):
        with self.assertRaises(Closed) as e:
            w.message()
        return e.exception.code

    def test_a_client_of_others(self):
        async def run():
            async with websockets.connect(f"ws://127.0.0.1:{self.server.port}/v3/watch", max_size=64 * MIB) as ws:
                await ws.send(create("others"))
                created = json.loads(await ws.recv())
                self.assertTrue(created["result"]["created"])
                for i in range(100):
                    put(self.server, "others", str(i))
                    got = json.loads(await ws.recv())
                    self.assertEqual(base64.b64decode(got["result"]["events"][0]["kv"]["value"]).decode(), str(i))
                big = "x" * (1400 * 1024)
                put(self.server, "others", big)
                got = json.loads(await ws.recv())
                self.assertEqual(base64.b64decode(got["result"]["events"][0]["kv"]["value"]).decode(), big)
                await asyncio.wait_for(await ws.ping(b"here"), 10)
            self.assertEqual(ws.close_code, 1000)
        asyncio.run(run())

    def test_unary_calls_answer_and_close(self):
        put(self.server, "unary", "value")
        w = self.open("/v3/kv/range")
        self.assertTrue(w.accepted())
        w.send(json.dumps({"key": b64("unary")}))
        got = json.loads(w.message())
        self.assertEqual(base64.b64decode(got["kvs"][0]["value"]), b"value")
        self.assertEqual(self.closed(w), 1000)

    def test_a_large_reply_is_one_message(self):
        for i in range(8):
            put(self.server, f"large/{i}", "y" * MIB)
        w = self.open("/v3/kv/range")
        w.send(json.dumps({"key": b64("large/"), "range_end": b64("large0")}))
        self.assertEqual([len(base64.b64decode(kv["value"])) for kv in json.loads(w.message())["kvs"]], [MIB] * 8)
        self.assertEqual(self.closed(w), 1000)

    def test_errors_are_messages(self):
        rows = [
            ("/v3/nothing", None, {"code": 5, "message": "Not Found"}),
            ("/v3/kv/range", "{}", {"code": 3, "message": "etcdserver: key is not provided"}),
            ("/v3/kv/range", "{'}", {"code": 3, "message": "invalid character '\\'' looking for beginning of object key string"}),
            ("/v3/kv/put", "x", {"code": 3, "message": "invalid character 'x' looking for beginning of value"}),
        ]
        for path, sent, error in rows:
            with self.subTest(path=path, sent=sent):
                w = self.open(path)
                self.assertTrue(w.accepted())
                if sent is not None:
                    w.send(sent)
                self.assertEqual(json.loads(w.message()), error)
                self.assertEqual(self.closed(w), 1000)

    def test_handshakes_that_are_wrong(self):
        rows = [
            ({"Sec-WebSocket-Version": "12"}, 400), ({"Sec-WebSocket-Version": None}, 400), ({"Sec-WebSocket-Key": "AAAA"}, 400),
            ({"Sec-WebSocket-Key": None}, 400), ({"Sec-WebSocket-Key": b64("123456789012345")}, 400),
            ({"Upgrade": "h2c"}, 501), ({"Connection": "keep-alive"}, 501), ({"Upgrade": "h2c, WebSocket", "Connection": "UPGRADE"}, 101),
            ({"Sec-WebSocket-Version": "8, 13"}, 101), ({"Host": None}, 400),
        ]
        for headers, status in rows:
            with self.subTest(headers=headers):
                w = self.open(headers=headers)
                self.assertEqual(w.status, status)
                if status == 400 and "Host" not in headers:
                    self.assertEqual(w.headers["sec-websocket-version"], "13")
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        c.request("POST", "/v3/watch", "", {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                            "Sec-WebSocket-Key": b64("1234567890123456")})
        self.assertEqual(c.getresponse().status, 405)
        c.close()
        self.assertEqual(self.open("/health").status, 200)

    def test_frames_of_any_shape(self):
        """Values over many frames, many in one, behind the handshake at once, binary ones; pings between fragments."""
        text = create("shape") + create("shape", watch_id="9")
        w = self.open(behind=frame(text[:10], fin=False) + frame(b"in between", PING) + frame(text[10:60], 0, fin=False) + frame(text[60:], 0))
        self.assertEqual([json.loads(w.message())["result"].get("watch_id") for _ in range(2)], [None, "9"])
        self.assertEqual(w.control, [(PONG, b"in between")])
        one = create("shape", watch_id="10")
        for i, c in enumerate(one):
            if c in '{}:[] ,':
                w.send(one[:i])
                one = one[i:]
                break
        w.send(one, BINARY)
        self.assertEqual(json.loads(w.message())["result"]["watch_id"], "10")
        w.send(struct.pack(">H", 1001) + b"bye", CLOSE)
        self.assertEqual(self.closed(w), 1001)
        with self.assertRaises(Closed):
            w.read_frame()

    def test_what_is_no_message_ends_the_requests_but_not_the_watch(self):
        w = self.open()
        w.send(create("alive"))
        self.assertTrue(json.loads(w.message())["result"]["created"])
        w.send("oops")
        w.send(create("never"))
        put(self.server, "alive")
        self.assertEqual(len(json.loads(w.message())["result"]["events"]), 1)

    def test_faults_in_frames(self):
        rows = [("not masked", frame("{}", mask=False), 1002), ("reserved bits", frame("{}", rsv=4), 1002), ("unknown opcode", frame("{}", 5), 1002),
                ("a long ping", frame(b"x" * 126, PING), 0), ("a continuation of nothing", frame("{}", 0), 1002),
                ("no UTF-8", frame(b'{"x":"\xff"}'), 1007), ("a message too long", bytes([0x81, 0xff]) + struct.pack(">Q", 9 * MIB) + b"\0\0\0\0{", 1009)]
        for name, sent, code in rows:
            with self.subTest(name):
                w = self.open()
                w.s.sendall(sent)
                self.assertEqual(self.closed(w), code)
                with self.assertRaises(Closed):
                    w.read_frame()

    def test_a_value_that_never_ends(self):
        w = self.open()
        try:
            w.send("{")
            for _ in range(10):
                w.send(b'"' + b"x" * MIB + b'",')
        except (ConnectionResetError, BrokenPipeError):
            return
        self.assertIn(self.closed(w), (1009, None))

    def test_who_does_not_read_is_not_read_either(self):
        """Pings make pongs: without a bound a client that reads nothing would fill the server's memory."""
        w = self.open()
        w.s.settimeout(2)
        flood = frame(b"x" * 125, PING) * 1000
        sent = 0
        try:
            while sent < 64 * MIB:
                w.s.sendall(flood)
                sent += len(flood)
        except TimeoutError:
            pass
        self.assertLess(sent, 48 * MIB)
        with open(f"/proc/{self.server.process.pid}/status", encoding="ascii") as f:
            peak = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        self.assertLess(peak, 1024 * 1024)
        w.s.settimeout(20)
        got = 0
        while got < 1000:
            self.assertEqual(w.read_frame()[0], PONG)
            got += 1

    def test_many_values_in_one_frame(self):
        w = self.open("/v3/lease/keepalive")
        w.send('{"ID":"77"} ' * 20000)
        for _ in range(20000):
            self.assertEqual(json.loads(w.message())["result"]["ID"], "77")

    def test_clients_that_vanish(self):
        for i in range(50):
            w = self.open()
            if i % 2 == 0:
                w.send(create("vanish"))
                w.message()
            w.s.sendall(frame(create("more"))[:i % 8])
            w.close()
        self.assertIn("etcd_debugging_mvcc_watcher_total 0", self.until("etcd_debugging_mvcc_watcher_total 0"))

    def until(self, words):
        for _ in range(200):
            c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
            c.request("GET", "/metrics")
            text = c.getresponse().read().decode()
            c.close()
            if words in text:
                break
        return text

    def test_requests_of_other_hosts_and_old_path(self):
        w = self.open("/v3beta/watch")
        w.send(create("beta"))
        self.assertTrue(json.loads(w.message())["result"]["created"])


class Users(unittest.TestCase):
    def test_tokens(self):
        server = Server().start()
        self.addCleanup(server.close)
        for words in (("user", "add", "root:pw"), ("user", "grant-role", "root", "root"), ("auth", "enable")):
            self.assertEqual(etcdctl(server, *words).code, 0)
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        c.request("POST", "/v3/auth/authenticate", json.dumps({"name": "root", "password": "pw"}))
        token = json.loads(c.getresponse().read())["token"]
        c.close()
        rows = [
            ({"Sec-WebSocket-Protocol": f"Bearer, {token}"}, "Bearer", True), ({"Sec-WebSocket-Protocol": f"Bearer,{token}"}, "Bearer", True),
            ({"Cookie": f"a=b; token={token}"}, None, True), ({"Sec-WebSocket-Protocol": "Bearer, no", "Cookie": f"token={token}"}, "Bearer", True),
            ({"Sec-WebSocket-Protocol": "Bearer, no"}, "Bearer", False), ({"Sec-WebSocket-Protocol": "json"}, None, False),
            ({}, None, False), ({"Authorization": token}, None, False),
        ]
        for headers, protocol, allowed in rows:
            with self.subTest(headers=headers):
                w = WebSocket(server.port, "/v3/watch", headers)
                self.assertTrue(w.accepted())
                self.assertEqual(w.headers.get("sec-websocket-protocol"), protocol)
                w.send(create("k"))
                got = json.loads(w.message())
                self.assertEqual(got.get("result", {}).get("canceled", False) or "error" in got, not allowed, got)
                w.close()


class Secure(unittest.TestCase):
    def test_over_tls(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        ca = certs.Authority(place.name, "ca")
        ca.make("server")
        cert, key = ca.path("server.pem"), ca.path("server.key")
        server = Server()
        server.endpoint = f"https://127.0.0.1:{server.port}"
        server.flags = ["--cert-file", cert, "--key-file", key]
        server.start()
        self.addCleanup(server.close)
        context = ssl.create_default_context(cafile=ca.cert)
        w = WebSocket(server.port, "/v3/watch", tls=context)
        self.assertTrue(w.accepted())
        w.send(create("k") + create("k"))
        self.assertTrue(all(json.loads(w.message())["result"]["created"] for _ in range(2)))
        w.close()


class Ending(unittest.TestCase):
    def test_a_server_that_goes_down_says_so(self):
        server = Server().start()
        self.addCleanup(server.close)
        watching, idle = WebSocket(server.port, "/v3/watch"), WebSocket(server.port, "/v3/kv/range")
        watching.send(create("k"))
        watching.message()
        server.process.send_signal(signal.SIGTERM)
        self.addCleanup(watching.close)
        self.addCleanup(idle.close)
        with self.assertRaises(Closed) as e:
            idle.message()
        self.assertEqual(e.exception.code, 1001)
        with self.assertRaises(Closed) as e:
            while True:
                watching.message()
        self.assertIsNotNone(e.exception.code)
        self.assertEqual(server.process.wait(timeout=30), -signal.SIGTERM)


@unittest.skipUnless("3.7" in oracle_server.programs(), "no etcd 3.7 here")
class AgainstEtcd(unittest.TestCase):
    """The same messages to both; etcd never answers unary calls over a socket (it waits for the end of the requests), and does not say goodbye."""

    maxDiff = None

    def test_the_same_replies(self):
        servers = Server().start(), oracle_server.Etcd(oracle_server.programs()["3.7"]).start()
        for s in servers:
            self.addCleanup(s.close)
            for i in range(5):
                put(s, f"w{i}")
        rows = [
            ("/v3/watch", [create("w", range_end=b64("x"), start_revision="2")], 2),
            ("/v3/watch", [create("w0"), create("w1", watch_id="7"), '{"cancel_request":{"watch_id":"7"}}'], 3),
            ("/v3/watch", [create("w0") + "\n" + create("w1")], 2),
            ("/v3/watch", [create("w0")[:20].split('"create')[0], create("w0")[1:]], 1),
            ("/v3beta/watch", [create("w0")], 1),
            ("/v3/watch", [create("b", range_end=b64("a"))], 1),
            ("/v3/lease/keepalive", ['{"ID":"77"}', '{"ID":78}'], 2),
            ("/v3/nothing", [], 1),
            ("/v3/watch?method=GET", [create("w0")], 1),
        ]
        for path, sent, n in rows:
            with self.subTest(path=path, sent=sent):
                got = []
                for s in servers:
                    w = WebSocket(s.port, path, {"Sec-WebSocket-Protocol": "Bearer, none"})
                    lines = []
                    for text in sent:
                        w.send(text)
                    for _ in range(n):
                        lines.append(plain(json.loads(w.message())))
                    got.append((w.status, w.headers, lines))
                    w.close()
                for status, headers, lines in got:
                    headers.pop("sec-websocket-accept")
                self.assertEqual(got[0], got[1])

    def test_the_same_refusals(self):
        servers = Server().start(), oracle_server.Etcd(oracle_server.programs()["3.7"]).start()
        for s in servers:
            self.addCleanup(s.close)
        for headers in ({"Sec-WebSocket-Version": "12"}, {"Sec-WebSocket-Key": "AAAA"}, {"Sec-WebSocket-Key": None}, {"Upgrade": "other"},
                        {"Connection": "close"}, {"Upgrade": "a, websocket"}):
            with self.subTest(headers=headers):
                ours, theirs = (WebSocket(s.port, "/v3/watch", headers) for s in servers)
                self.assertEqual((ours.status, ours.headers.get("sec-websocket-version")), (theirs.status, theirs.headers.get("sec-websocket-version")))
                ours.close()
                theirs.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
