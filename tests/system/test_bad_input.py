"""What no sound client sends: the answer is etcd's error, and everybody else is served as before."""
import gzip
import os
import random
import resource
import select
import signal
import socket
import struct
import time
import unittest

from harness import Server
from raw_http2 import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
                       Connection, frame, header_block, message, request_headers)
from wire import INT64_MAX, INT64_MIN, field, fields, messages

KV, WATCH, LEASE, MAINTENANCE = "/etcdserverpb.KV/", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/", "/etcdserverpb.Maintenance/"
OK, CANCELED, UNKNOWN, INVALID, NOT_FOUND, EXHAUSTED, PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL = 0, 1, 2, 3, 5, 8, 9, 11, 12, 13
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 1, 3, 6, 7, 9, 11
UNMARSHAL = "grpc: error unmarshalling request: "
OVERLONG = b"\x78" + b"\xff" * 9 + b"\x7f"  # an unknown field; not every reader minds
CANNOT_PARSE = "proto: cannot parse invalid wire-format data"
TOO_MANY_OPS = (INVALID, "etcdserver: too many operations in txn request")
EMPTY_KEY = (INVALID, "etcdserver: key is not provided")
TOO_LARGE = (INVALID, "etcdserver: request is too large")
RECV_MAX = 2097152


class BadInput(unittest.TestCase):
    """One server for each method. It must live through it with its data, and end as it should."""

    flags = ()

    def setUp(self):
        # Freed memory goes back at once, so that what the process holds can be judged.
        self.server = Server(self.flags, environment={"ASAN_OPTIONS": "quarantine_size_mb=1"}).start()
        self.addCleanup(self.server.close)
        self.connections = []
        self.revision = 1
        self.put("kept", "value")

    def tearDown(self):
        for c in self.connections:
            c.close()  # else the server lets open calls end for some seconds
        self.assertIsNone(self.server.process.poll(), self.server.log_text()[-4000:])
        self.assertEqual(self.server.stop(), -signal.SIGTERM, self.server.log_text()[-4000:])
        self.assertNotIn("Sanitizer", self.server.log_text())

    def connect(self, **more):
        c = Connection(self.server.port, **more)
        self.connections.append(c)
        self.addCleanup(c.close)
        return c

    def call(self, path, request=b"", raw=None, **more):
        """Status of a call, its reply decoded in self.reply."""
        with Connection(self.server.port) as c:
            r = c.call(path, message(request) if raw is None else raw, **more)
        self.assertIsNone(r.reset, path)
        self.reply = fields(r.data[5:])
        return r.status()

    def put(self, key, value):
        self.assertEqual(self.call(KV + "Put", field(1, key) + field(2, value)), (OK, ""))
        self.revision += 1

    def get(self, key):
        self.assertEqual(self.call(KV + "Range", field(1, key)), (OK, ""))
        return [fields(kv)[5][0] for kv in self.reply.get(2, [])]

    def assert_sound(self):
        self.assertIsNone(self.server.process.poll(), self.server.log_text()[-4000:])
        self.put("probe", str(self.revision))
        self.assertEqual(self.get("probe"), [str(self.revision - 1).encode()])
        self.assertEqual(self.get("kept"), [b"value"])
        self.assertEqual(fields(self.reply[1][0])[3], [self.revision])

    def table(self, rows):
        """Rows of name, path, request, (code, message)."""
        for name, path, request, status in rows:
            with self.subTest(name):
                self.assertEqual(self.call(path, request), status)
                self.assert_sound()

    def memory(self):
        with open(f"/proc/{self.server.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon:"))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))


class Bytes(BadInput):
    def send_raw(self, data):
        """What comes back until the server closes, for bytes that begin no sound connection."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=30) as s:
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                got = b""
                while True:
                    more = s.recv(65536)
                    if more == b"":
                        return got
                    got += more
            except (ConnectionResetError, BrokenPipeError):
                return b""

    def test_garbage(self):
        noise = random.Random(7)
        rows = [("nothing", b""), ("zeros", bytes(1000)), ("a cut preface", PREFACE[:10]), ("a wrong preface", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
                ("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(190)), ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
                ("a long line", b"G" * 300000), ("a half request", b"GET /version HTTP/1.1\r\nHost: x\r\n")]
        rows += [(f"noise {i}", noise.randbytes(noise.choice((1, 9, 24, 5000)))) for i in range(20)]
        rows += [(f"noise behind the preface {i}", PREFACE + noise.randbytes(500)) for i in range(20)]
        for name, data in rows:
            with self.subTest(name):
                self.assertNotIn(b"200 OK", self.send_raw(data))
        self.assert_sound()

    def test_frames(self):
        def head(more=b"", flags=END_HEADERS, stream=1):
            return frame(HEADERS, flags, stream, header_block(request_headers(KV + "Range")) + more)

        rows = [("a frame beyond the announced size", frame(DATA, 0, 1, bytes(16385)), FRAME_SIZE_ERROR),
                ("DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
                ("a stream of the server's", head(stream=2), PROTOCOL_ERROR),
                ("HEADERS on stream 0", head(stream=0), PROTOCOL_ERROR),
                ("a header block that is none", frame(HEADERS, END_HEADERS, 1, b"\xff" * 40), COMPRESSION_ERROR),
                ("SETTINGS of a wrong length", frame(SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR),
                ("SETTINGS with a forbidden window", frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0x80000000)), FLOW_CONTROL_ERROR),
                ("PING of a wrong length", frame(PING, 0, 0, b"1234"), FRAME_SIZE_ERROR),
                ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 9, bytes(4)), PROTOCOL_ERROR),
                ("WINDOW_UPDATE by nothing", frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR),
                ("a window beyond its limit", frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF)), FLOW_CONTROL_ERROR),
                ("CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 1), PROTOCOL_ERROR),
                ("DATA inside a header block", head(flags=0) + frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR)]
        for name, data, code in rows:
            with self.subTest(name), Connection(self.server.port) as c:
                try:
                    c.send(data)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                self.assertTrue(c.until(lambda: c.goaway is not None))
                self.assertEqual(c.goaway[0], code, c.goaway)
                c.drain()
        self.assert_sound()

    def test_header_fields(self):
        """What makes a request head malformed (RFC 9113 8.2, 8.3) resets the stream, whatever the rest of it asks for."""
        sound = request_headers(KV + "Range")
        rows = [("a second path", sound[:3] + [(":path", "/no.Such/Call")] + sound[3:]),
                ("a path behind the fields", sound + [(":path", "/no.Such/Call")]),
                ("a second path before the one that is known", [(":path", "/no.Such/Call")] + sound),
                ("a second method", sound[:1] + sound),
                ("a pseudo-header that is none", [(":status", "200")] + sound),
                ("a pseudo-header behind the fields", sound + [(":authority", "x")]),
                ("capital letters", sound + [("Foo", "x")]),
                ("a name of nothing", sound + [("", "x")]),
                ("a space in a name", sound + [("a b", "x")]),
                ("NUL in a value", sound + [("foo", "a\0b")]),
                ("a line's end in a value", sound + [("foo", "a\r\nb")]),
                ("a field of HTTP/1", sound + [("connection", "close")])]
        for name, pairs in rows:
            with self.subTest(name), Connection(self.server.port) as c:
                c.send(frame(HEADERS, END_HEADERS, 1, header_block(pairs)) + frame(DATA, END_STREAM, 1, message(field(1, "kept"))))
                c.next_stream = 3
                r = c.wait(1)
                self.assertEqual((r.headers, r.reset), ([], PROTOCOL_ERROR))
                self.assertEqual(c.call(KV + "Range", message(field(1, "kept"))).status(), (OK, ""))
        self.assert_sound()

    def test_what_is_to_be_ignored(self):
        with Connection(self.server.port) as c:
            c.send(frame(0x42, 0xFF, 0, b"unknown"))
            c.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 7)))
            c.send(frame(2, 0, 5, struct.pack(">IB", 3, 9)))  # PRIORITY
            self.assertEqual(c.call(KV + "Range", message(field(1, "kept"))).status(), (OK, ""))

    def test_large_headers(self):
        """More than the list may have: that stream is refused, the connection goes on."""
        for n in (70000, 200000):
            with self.subTest(n), Connection(self.server.port) as c:
                block = header_block(request_headers(KV + "Range") + [(f"x-{i}", "v" * 1000) for i in range(n // 1000)])
                parts = [block[i:i + 16384] for i in range(0, len(block), 16384)]
                c.send(frame(HEADERS, END_STREAM, 1, parts[0]))
                try:
                    for i, part in enumerate(parts[1:]):
                        c.send(frame(CONTINUATION, END_HEADERS if i == len(parts) - 2 else 0, 1, part))
                    c.next_stream = 3
                    r = c.wait(1)
                except (BrokenPipeError, ConnectionResetError):
                    c.drain()
                    r = c.response(1)
                self.assertNotEqual(r.status()[0], OK)
                self.assertTrue(r.reset is not None or c.goaway is not None or c.closed)
                if n == 70000:  # few enough CONTINUATIONs for the connection to go on
                    self.assertEqual(c.call(KV + "Range", message(field(1, "kept"))).status(), (OK, ""))
        self.assert_sound()


class Calls(BadInput):
    def test_messages(self):
        r = KV + "Range"
        rows = [("no message", b"", (UNKNOWN, "EOF")),
                ("half a head", b"\0\0", (UNKNOWN, "unexpected EOF")),
                ("a cut message", message(b"\x0a", announced=2), (UNKNOWN, "unexpected EOF")),
                ("a length beyond the limit", message(b"ab", announced=RECV_MAX + 1),
                 (EXHAUSTED, f"grpc: received message larger than max ({RECV_MAX + 1} vs. {RECV_MAX})")),
                ("the largest length", message(b"ab", announced=0xFFFFFFFF),
                 (EXHAUSTED, f"grpc: received message larger than max (4294967295 vs. {RECV_MAX})")),
                ("the compressed flag", message(b"", flag=1), (INTERNAL, "grpc: compressed flag set with identity or empty encoding")),
                ("an unknown flag", message(b"", flag=2), (INTERNAL, "grpc: received unexpected payload format 2")),
                ("a second message", message(field(1, "kept")) * 2, (OK, "")),
                ("bytes behind the message", message(field(1, "kept")) + b"\0\0", (OK, ""))]
        for name, raw, status in rows:
            with self.subTest(name):
                self.assertEqual(self.call(r, raw=raw), status)
                self.assert_sound()

    def test_invalid_protobuf(self):
        bad = (INTERNAL, UNMARSHAL + CANNOT_PARSE)
        utf8 = (INTERNAL, UNMARSHAL + "string field contains invalid UTF-8")
        self.table([("not a field", KV + "Range", b"\xff\xff", bad),
                    ("a cut field", KV + "Put", b"\x0a\x05ab", bad),
                    ("field number 0", KV + "Range", b"\x02\x00", bad),
                    ("a varint without end", KV + "Range", b"\x18" + b"\xff" * 11, bad),
                    ("a length of nearly 2^64", KV + "Range", b"\x0a" + b"\xff" * 9 + b"\x01", bad),
                    ("a cut nested message", KV + "Txn", b"\x12\x03\x0a\x05\x0a", bad),
                    ("a varint of more than 64 bits", KV + "Put", field(1, "a") + OVERLONG, bad),
                    ("one deep within", KV + "Txn", field(2, field(2, field(1, "a") + OVERLONG)), bad),
                    ("one before 100000 levels", KV + "Txn", OVERLONG + nested_txn(100000), bad),
                    ("one before 100000 levels of an op", KV + "Txn", field(2, OVERLONG + field(4, nested_txn(100000))), bad),
                    ("nothing of this in a reply", LEASE + "LeaseGrant", b"\x08", bad),
                    ("an unknown field", KV + "Range", field(1, "kept") + field(100, "x"), (OK, "")),
                    ("no UTF-8 in a string", "/grpc.health.v1.Health/Check", field(1, b"\xff"), utf8),
                    ("any bytes in a key", KV + "Range", field(1, b"\xff\xfe\0"), (OK, ""))])

    def test_methods(self):
        def unknown(service):
            return UNIMPLEMENTED, f"unknown service {service}"

        self.table([("a method", KV + "Nope", b"", (UNIMPLEMENTED, "unknown method Nope for service etcdserverpb.KV")),
                    ("a service", "/no.Such/Thing", b"", unknown("no.Such")),
                    ("no method", "/nope", b"", (UNIMPLEMENTED, 'malformed method name: "/nope"')),
                    ("a slash", "/", b"", (UNIMPLEMENTED, 'malformed method name: "/"')),
                    ("case matters", "/etcdserverpb.kv/Range", b"", unknown("etcdserverpb.kv")),
                    ("no text of %", "/a%0a%zz/b", b"", unknown("a%0a%zz"))])
        with Connection(self.server.port) as c:
            r = c.call("/" + "s" * 15000 + "/m")
            self.assertEqual(r.status()[0], UNIMPLEMENTED)
            self.assertTrue(r.status()[1].startswith("unknown service sss"))

    def test_request_heads(self):
        rows = [("another content type", {"content_type": "text/plain"}, "415", (INVALID, 'invalid gRPC request content-type "text/plain"')),
                ("GET", {"method": "GET"}, "405", (INTERNAL, 'Received a HEADERS frame with :method "GET" which should be POST')),
                ("a bad timeout", {"more": [("grpc-timeout", "5x")]}, "400", None),
                ("a timeout of nothing", {"more": [("grpc-timeout", "0m")]}, "200", (4, "context deadline exceeded")),
                ("an encoding", {"more": [("grpc-encoding", "deflate")]}, "200",
                 (UNIMPLEMENTED, 'grpc: Decompressor is not installed for grpc-encoding "deflate"')),
                ("a client version that is no UTF-8", {"more": [("client-api-version", b"\xff\xfe")]}, "200",
                 (INVALID, "etcdserver: invalid client api version")),
                ("a client version", {"more": [("client-api-version", "3.7")]}, "200", (OK, "")),
                ("a leader is wanted", {"more": [("hasleader", "true")]}, "200", (OK, "")),
                ("a subtype", {"content_type": "application/grpc+proto"}, "200", (OK, ""))]
        for name, more, http, status in rows:
            with self.subTest(name), Connection(self.server.port) as c:
                r = c.call(KV + "Range", message(field(1, "kept")), **more)
                self.assertEqual(r.get(":status"), http)
                if status is not None:
                    self.assertEqual(r.status(), status)
        self.assert_sound()


    def test_gzip(self):
        whole = gzip.compress(field(1, "kept"), mtime=0)
        named = whole[:3] + b"\x08" + whole[4:10] + b"a name\0" + whole[10:]
        sum_off = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
        broken = whole[:10] + b"\xff" + whole[11:]
        opening, reading = "grpc: failed to decompress the message: ", "grpc: failed to read decompressed data: "
        rows = [("a whole one", whole, (OK, "")), ("with a name", named, (OK, "")), ("nothing in it", gzip.compress(b""), EMPTY_KEY),
                ("in members", gzip.compress(field(1, "kept")[:3]) + gzip.compress(b"") + gzip.compress(b"ept"), (OK, "")),
                ("none", field(1, "kept") + bytes(20), (INTERNAL, opening + "gzip: invalid header")),
                ("nothing", b"", (INTERNAL, opening + "EOF")),
                ("a cut head", whole[:9], (INTERNAL, opening + "unexpected EOF")),
                ("a cut name", named[:13], (INTERNAL, opening + "unexpected EOF")),
                ("the head alone", whole[:10], (INTERNAL, reading + "unexpected EOF")),
                ("cut", whole[:-9], (INTERNAL, reading + "unexpected EOF")),
                ("a cut sum", whole[:-1], (INTERNAL, reading + "unexpected EOF")),
                ("a wrong sum", sum_off, (INTERNAL, reading + "gzip: invalid checksum")),
                ("a wrong length", whole[:-1] + b"\1", (INTERNAL, reading + "gzip: invalid checksum")),
                ("more behind it", whole + b"x" * 20, (INTERNAL, reading + "gzip: invalid header")),
                ("what becomes too large", gzip.compress(bytes(RECV_MAX + 1)),
                 (EXHAUSTED, f"grpc: received message after decompression larger than max {RECV_MAX}")),
                ("no message", gzip.compress(b"\xff"), (INTERNAL, UNMARSHAL + CANNOT_PARSE))]
        for name, body, status in rows:
            with self.subTest(name):
                self.assertEqual(self.call(KV + "Range", raw=message(body, flag=1), more=[("grpc-encoding", "gzip")]), status)
                if status == (OK, ""):
                    self.assertEqual(fields(self.reply[2][0])[5], [b"value"])
        code, text = self.call(KV + "Range", raw=message(broken, flag=1), more=[("grpc-encoding", "gzip")])
        self.assertEqual((code, text[:-2]), (INTERNAL, reading + "flate: corrupt input before offset "))  # where, the two count differently
        self.assert_sound()


def nested_txn(levels):
    t = b""
    for _ in range(levels):
        t = field(2, field(4, t))
    return t


def put_ops(n, branch=2):
    return b"".join(field(branch, field(2, field(1, f"op{i}"))) for i in range(n))


class KeyValue(BadInput):
    def test_range(self):
        r, k, future = KV + "Range", field(1, "kept"), (OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
        sort = (INVALID, "etcdserver: invalid sort option")
        self.table([("no key", r, b"", EMPTY_KEY), ("an order that is none", r, k + field(5, 3), sort), ("order -1", r, k + field(5, -1), sort),
                    ("a target that is none", r, k + field(6, 5), sort), ("the largest target", r, k + field(6, 0x7FFFFFFF), sort),
                    ("revision -1", r, k + field(4, -1), (OK, "")), ("the least revision", r, k + field(4, INT64_MIN), (OK, "")),
                    ("the largest revision", r, k + field(4, INT64_MAX), future)])
        for name, more, found in [("limit -1", field(3, -1), 1), ("the least limit", field(3, INT64_MIN), 1), ("the largest", field(3, INT64_MAX), 1),
                                  ("a negative least revision", field(10, INT64_MIN), 1), ("a negative largest revision", field(11, -1), 0),
                                  ("an inverted filter", field(10, 9) + field(11, 1), 0), ("an inverted range", field(2, "a"), 0),
                                  ("an empty range", field(2, "kept"), 0), ("all keys", field(2, b"\0"), None)]:
            with self.subTest(name):
                self.assertEqual(self.call(r, k + more), (OK, ""))
                if found is not None:
                    self.assertEqual(len(self.reply.get(2, [])), found)
        self.assert_sound()

    def test_put(self):
        p, k = KV + "Put", field(1, "k")
        lost = (NOT_FOUND, "etcdserver: requested lease not found")
        self.table([("no key", p, field(2, "v"), EMPTY_KEY), ("nothing", p, b"", EMPTY_KEY),
                    ("a value that is to be ignored", p, k + field(2, "v") + field(5, 1), (INVALID, "etcdserver: value is provided")),
                    ("a lease that is to be ignored", p, k + field(3, 5) + field(6, 1), (INVALID, "etcdserver: lease is provided")),
                    ("nothing to keep", p, k + field(5, 1), (INVALID, "etcdserver: key not found")),
                    ("lease -1", p, k + field(3, -1), lost), ("the least lease", p, k + field(3, INT64_MIN), lost)])

    def test_delete_and_compact(self):
        compact = KV + "Compact"
        compacted = (OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
        future = (OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
        self.table([("delete nothing", KV + "DeleteRange", b"", EMPTY_KEY),
                    ("an inverted range", KV + "DeleteRange", field(1, "z") + field(2, "a"), (OK, "")),
                    ("-1", compact, field(1, -1), compacted), ("least", compact, field(1, INT64_MIN), compacted),
                    ("largest", compact, field(1, INT64_MAX), future), ("largest, physical", compact, field(1, INT64_MAX) + field(2, 1), future),
                    ("least, physical", compact, field(1, INT64_MIN) + field(2, 1), compacted),
                    ("0 once", compact, b"", (OK, "")), ("0 twice", compact, b"", compacted)])

    def test_sizes(self):
        """etcd's limit for a proposal is below gRPC's for a message."""
        for n, status in [(1572864 - 64, (OK, "")), (1572865, TOO_LARGE), (RECV_MAX - 16, TOO_LARGE)]:
            with self.subTest(n):
                self.assertEqual(self.call(KV + "Put", field(1, "large") + field(2, bytes(n))), status)
                self.revision += status[0] == OK
        over = field(1, "large") + field(2, bytes(RECV_MAX))
        self.assertEqual(self.call(KV + "Put", over), (EXHAUSTED, f"grpc: received message larger than max ({len(over)} vs. {RECV_MAX})"))
        self.assertEqual(self.call(KV + "Txn", field(2, field(2, field(1, "k") + field(2, bytes(1572865))))), TOO_LARGE)
        self.assertEqual(len(self.get("large")[0]), 1572864 - 64)
        self.assert_sound()

    def test_txn(self):
        t = KV + "Txn"
        not_found = (INVALID, "etcdserver: key not found")
        self.table([("nothing at all", t, b"", (OK, "")), ("an op that is none", t, field(2, b""), not_found),
                    ("an op that is none, else", t, field(3, b""), not_found), ("a compare of nothing", t, field(1, b""), EMPTY_KEY),
                    ("a put of nothing", t, field(2, field(2, b"")), EMPTY_KEY),
                    ("a key twice", t, put_ops(1) * 2, (INVALID, "etcdserver: duplicate key given in txn request")),
                    ("129 puts", t, put_ops(129), TOO_MANY_OPS), ("129 puts, else", t, put_ops(129, 3), TOO_MANY_OPS),
                    ("129 compares", t, field(1, field(3, "k")) * 129, TOO_MANY_OPS),
                    # Checks go level by level: what is wrong at the top is said before what is wrong below it.
                    ("a compare of nothing above 129 puts", t, field(1, b"") + field(2, field(4, put_ops(129))), EMPTY_KEY),
                    ("129 puts below", t, field(2, field(4, put_ops(129))), TOO_MANY_OPS),
                    ("a million compares", t, field(1, b"") * 1000000, TOO_MANY_OPS),
                    ("a million ops", t, field(2, b"") * 1000000, TOO_MANY_OPS),
                    ("a million compares, nested", t, field(2, field(4, field(1, b"") * 1000000)), TOO_MANY_OPS),
                    ("128 levels", t, nested_txn(128), (OK, "")), ("129 levels", t, nested_txn(129), TOO_MANY_OPS),
                    ("5000 levels", t, nested_txn(5000), TOO_MANY_OPS), ("100000 levels", t, nested_txn(100000), TOO_MANY_OPS),
                    ("a range of the future", t, field(2, field(1, field(1, "kept") + field(4, INT64_MAX))),
                     (OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")),
                    ("an order that is none", t, field(2, field(1, field(1, "kept") + field(5, 7))), (INVALID, "etcdserver: invalid sort option"))])
        self.assertEqual(self.call(t, put_ops(128)), (OK, ""))
        self.assertEqual(len(self.reply[3]), 128)
        self.revision += 1
        self.assert_sound()

    def test_compares_out_of_enum(self):
        """An unknown result holds, an unknown target is equal; an operand of another member is 0."""
        for name, compare, succeeded in [("result 9", field(1, 9) + field(3, "kept"), True), ("target 9", field(2, 9) + field(3, "kept"), True),
                                         ("target 9, not equal", field(1, 3) + field(2, 9) + field(3, "kept"), False),
                                         ("no operand", field(3, "kept"), False), ("of another", field(3, "kept") + field(7, "x"), False),
                                         ("a missing key", field(3, "missing"), True)]:
            with self.subTest(name):
                self.assertEqual(self.call(KV + "Txn", field(1, compare)), (OK, ""))
                self.assertEqual(2 in self.reply, succeeded)
        self.assert_sound()


class Others(BadInput):
    def test_leases(self):
        grant, too_large = LEASE + "LeaseGrant", (OUT_OF_RANGE, "etcdserver: too large lease TTL")
        lost = (NOT_FOUND, "etcdserver: requested lease not found")
        self.table([("too long", grant, field(1, 9000000001), too_large), ("the longest", grant, field(1, INT64_MAX), too_large),
                    ("revoke none", LEASE + "LeaseRevoke", b"", lost), ("revoke -1", LEASE + "LeaseRevoke", field(1, -1), lost)])
        for asked, granted in [(0, 2), (-1, 2), (INT64_MIN, 2), (1, 2), (9000000000, 9000000000)]:
            self.assertEqual(self.call(grant, field(1, asked)), (OK, ""))
            self.assertEqual(self.reply[3], [granted])
            self.assertGreater(self.reply[2][0], 0)
        for number in (-5, INT64_MIN, INT64_MAX):
            self.assertEqual(self.call(grant, field(1, 1000) + field(2, number)), (OK, ""))
            self.assertEqual(self.reply[2], [number])
            self.assertEqual(self.call(grant, field(1, 1000) + field(2, number)), (PRECONDITION, "etcdserver: lease already exists"))
        for number in (0, 12345, -6):
            self.assertEqual(self.call(LEASE + "LeaseTimeToLive", field(1, number) + field(2, 1)), (OK, ""))
            self.assertEqual((self.reply.get(2, [0]), self.reply[3]), ([number], [-1]))
        self.assert_sound()

    def test_keepalive(self):
        with Connection(self.server.port) as c:
            s = c.open(LEASE + "LeaseKeepAlive")
            c.data(s, b"".join(message(field(1, n)) for n in (0, -1, 77, INT64_MIN, INT64_MAX)))
            r = c.wait(s)
            self.assertEqual(r.status(), (OK, ""))
            self.assertEqual([fields(m).get(2, [0])[0] for m in messages(r.data)], [0, -1, 77, INT64_MIN, INT64_MAX])
            self.assertEqual([fields(m).get(3) for m in messages(r.data)], [None] * 5)
        failed = (INTERNAL, "grpc: failed to unmarshal the received message: " + CANNOT_PARSE)
        self.assertEqual(self.call(LEASE + "LeaseKeepAlive", b"\xff\xff"), failed)
        self.assert_sound()

    def test_maintenance(self):
        alarm, kv = MAINTENANCE + "Alarm", MAINTENANCE + "HashKV"
        self.table([("activate none", alarm, field(1, 1), (OK, "")), ("an unknown action", alarm, field(1, 9), (OK, "")),
                    ("action -1", alarm, field(1, -1), (OK, "")), ("disarm what is not armed", alarm, field(1, 2) + field(3, 1), (OK, "")),
                    ("an unknown alarm", alarm, field(3, 9), (OK, "")), ("HashKV -1", kv, field(1, -1), (OK, "")),
                    ("HashKV of the least revision", kv, field(1, INT64_MIN), (OK, "")),
                    ("HashKV of the future", kv, field(1, INT64_MAX), (OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")),
                    ("lead who is not there", MAINTENANCE + "MoveLeader", field(1, 5), (PRECONDITION, "etcdserver: bad leader transferee")),
                    ("health of what is not there", "/grpc.health.v1.Health/Check", field(1, "x"), (NOT_FOUND, "unknown service"))])

    def test_range_stream(self):
        s, k = KV + "RangeStream", field(1, "kept")
        self.table([("no key", s, b"", EMPTY_KEY), ("sorted", s, k + field(5, 2), (UNIMPLEMENTED, "RangeStream does not support custom sort orders")),
                    ("filtered", s, k + field(10, 1), (UNIMPLEMENTED, "RangeStream does not support revision filters")),
                    ("no order", s, k + field(5, 9), (INVALID, "etcdserver: invalid sort option")),
                    ("not a message", s, b"\xff", (INTERNAL, "grpc: failed to unmarshal the received message: " + CANNOT_PARSE))])

    def test_noise_as_messages(self):
        """Whatever the bytes are, each method answers."""
        noise = random.Random(11)
        paths = [KV + m for m in ("Range", "Put", "DeleteRange", "Txn", "RangeStream")]
        paths += [LEASE + m for m in ("LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases", "LeaseKeepAlive")]
        paths += [MAINTENANCE + m for m in ("Alarm", "Status", "Hash", "HashKV", "MoveLeader")] + ["/etcdserverpb.Cluster/MemberList"]
        with Connection(self.server.port) as c:
            for i in range(600):
                body = b"".join(field(noise.randrange(1, 14), noise.choice((noise.randbytes(noise.randrange(30)), noise.getrandbits(64))))
                                for _ in range(noise.randrange(1, 5)))
                path = noise.choice(paths)
                if path.endswith("Alarm"):
                    body = field(1, noise.getrandbits(64)) + field(3, noise.getrandbits(64) | 8)
                if path.endswith(("Put", "DeleteRange", "Txn")) and noise.random() < 0.5:
                    body = noise.randbytes(20)
                r = c.call(path, message(body))
                self.assertIsNotNone(r.status()[0], (i, path, body))
        self.assertIsNone(self.server.process.poll(), self.server.log_text()[-4000:])
        self.assertEqual(self.call(KV + "Put", field(1, "after") + field(2, "noise")), (OK, ""))
        self.assertEqual(self.get("after"), [b"noise"])


class Watches(BadInput):
    def open(self):
        self.c = self.connect()
        self.stream = self.c.open(WATCH)
        self.seen = 0

    def send(self, *requests):
        self.c.data(self.stream, b"".join(message(r) for r in requests), end=False)

    def next(self):
        def got():
            return messages(self.c.response(self.stream).data)

        self.c.until(lambda: len(got()) > self.seen or self.c.response(self.stream).ended)
        self.assertGreater(len(got()), self.seen, self.c.response(self.stream).status())
        self.seen += 1
        f = fields(got()[self.seen - 1])
        return {"revision": fields(f[1][0]).get(3, [0])[0], "id": f.get(2, [0])[0], "created": 3 in f, "canceled": 4 in f,
                "reason": f.get(6, [b""])[0].decode(), "events": len(f.get(11, []))}

    def test_refusals(self):
        self.open()
        rows = [("an inverted range", field(1, "b") + field(2, "a"), "mvcc: watcher range is empty"),
                ("an empty range", field(1, "b") + field(2, "b"), "mvcc: watcher range is empty"),
                ("a range below the first key", field(2, b"\0\0"), None),
                ("revision -1", field(1, "b") + field(3, -1), "etcdserver: mvcc: required revision has been compacted"),
                ("the least revision", field(1, "b") + field(3, INT64_MIN), "etcdserver: mvcc: required revision has been compacted"),
                ("an id twice", field(1, "b") + field(7, 5), "mvcc: duplicate watch ID provided on the WatchStream")]
        self.send(field(1, field(1, "a") + field(7, 5)))
        self.assertEqual(self.next(), {"revision": 2, "id": 5, "created": True, "canceled": False, "reason": "", "events": 0})
        for name, request, reason in rows:
            with self.subTest(name):
                self.send(field(1, request))
                r = self.next()
                self.assertTrue(r["created"])
                if reason is None:
                    self.assertFalse(r["canceled"])
                else:
                    self.assertEqual((r["id"], r["canceled"], r["reason"], r["revision"]), (-1, True, reason, 2))
        # The stream lives on: an unknown id, an empty request and unknown filters change nothing.
        self.send(field(2, field(1, 99)), b"", field(2, field(1, -1)), field(1, field(1, "a") + field(5, 7) + field(7, -9) + field(3, INT64_MAX)))
        self.assertEqual((self.next()["id"]), -9)
        self.put("a", "1")
        r = self.next()
        self.assertEqual((r["id"], r["events"], r["revision"]), (5, 1, 3))
        self.send(field(2, field(1, 5)))
        r = self.next()
        self.assertEqual((r["id"], r["canceled"], r["reason"]), (5, True, ""))
        self.assert_sound()

    def test_not_a_message(self):
        self.open()
        self.send(b"\xff\xff")
        self.assertEqual(self.c.wait(self.stream).status(), (INTERNAL, "grpc: failed to unmarshal the received message: " + CANNOT_PARSE))
        self.assert_sound()

    def test_requests_leave_nothing_behind(self):
        """A stream may live for years: what it has been asked does not add up in memory."""
        self.open()
        before = self.memory()
        refused = field(1, field(1, b"z" * 1000000) + field(2, "a"))
        for _ in range(100):
            self.send(refused)
            self.assertEqual(self.next()["reason"], "mvcc: watcher range is empty")
        for i in range(100):
            self.send(field(1, field(1, b"y" * 1000000) + field(7, 1 + i)), field(2, field(1, 1 + i)))
            self.assertEqual((self.next()["created"], self.next()["canceled"]), (True, True))
        self.assertLess(self.memory() - before, 40 << 20)
        self.assert_sound()


class Floods(BadInput):
    def flood(self, c, pieces):
        """Send until the server has had enough; True when it ended the connection."""
        try:
            for piece in pieces:
                c.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        c.drain()
        return c.closed

    def test_resets(self):
        c = self.connect()
        block = header_block(request_headers(KV + "Range"))
        pieces = [b"".join(frame(HEADERS, END_HEADERS, 1 + 2 * i, block) + frame(RST_STREAM, 0, 1 + 2 * i, struct.pack(">I", 8))
                           for i in range(k, k + 100)) for k in range(0, 40000, 100)]
        self.assertTrue(self.flood(c, pieces))
        if c.goaway is not None:  # else the connection was cut before we could read it
            self.assertEqual(c.goaway, (ENHANCE_YOUR_CALM, b"too_many_resets"))
        self.assert_sound()

    def test_frames_that_ask_for_nothing(self):
        for name, data in [("PRIORITY", frame(PRIORITY, 0, 3, struct.pack(">IB", 0, 16))), ("unknown", frame(0x42, 0, 0, b"x")),
                           ("SETTINGS", frame(SETTINGS, 0, 0)), ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)))]:
            with self.subTest(name):
                c = self.connect(window=0)
                self.assertTrue(self.flood(c, [data * 200] * 200))
                if c.goaway is not None:
                    self.assertEqual(c.goaway, (ENHANCE_YOUR_CALM, b"too_many_frames"))
        self.assert_sound()

    def test_pings(self):
        c = self.connect()
        c.send(frame(PING, 0, 0, bytes(8)) * 4)
        c.drain()
        self.assertTrue(self.flood(self.connect(), [frame(PING, 0, 0, bytes(8)) * 100] * 1000))
        self.assertEqual(c.goaway, (ENHANCE_YOUR_CALM, b"too_many_pings"))
        self.assert_sound()

    def test_settings(self):
        """Nobody reads the acknowledgements: they must not pile up."""
        before = self.memory()
        c = self.connect()
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.socket.settimeout(3)
        try:
            for _ in range(2000):
                c.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 1000)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass  # it has closed, or no longer reads
        self.assert_sound()
        self.assertLess(self.memory() - before, 20 << 20)

    def test_continuations(self):
        c = self.connect()
        start = frame(HEADERS, 0, 1, header_block(request_headers(KV + "Range")))
        self.assertTrue(self.flood(c, [start] + [frame(CONTINUATION, 0, 1, header_block([("x", "y" * 1000)])) * 10] * 1000))
        self.assert_sound()

    def test_empty_frames(self):
        """DATA of nothing on an open stream, without end, is work for both sides alike; others are served meanwhile."""
        c = self.connect()
        s = c.open(WATCH)
        for _ in range(50):
            c.send(frame(DATA, 0, s) * 1000)
        self.assert_sound()

    def test_open_streams(self):
        """Streams that are opened and never filled."""
        before = self.memory()
        c = self.connect()
        for _ in range(5000):
            c.open(KV + "Put")
        self.assert_sound()
        self.assertLess(self.memory() - before, 60 << 20)
        last = c.open(KV + "Range")
        c.data(last, message(field(1, "kept")))
        self.assertEqual(c.wait(last).status(), (OK, ""))

    def test_half_messages(self):
        """Messages of 2 MiB that never come whole, from many connections: what stands in memory is what was sent."""
        before = self.memory()
        connections = [self.connect() for _ in range(20)]
        for c in connections:
            s = c.open(KV + "Put")
            c.data(s, message(bytes(1000), announced=RECV_MAX), end=False)
        self.assert_sound()
        self.assertLess(self.memory() - before, 20 << 20)

    def test_a_thousand_idle_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        descriptors, memory = self.descriptors(), self.memory()
        idle = [self.connect() for _ in range(500)]  # speak HTTP/2, ask nothing
        for c in idle:
            self.assertTrue(c.until(lambda c=c: c.acked))
        silent = [socket.create_connection(("127.0.0.1", self.server.port)) for _ in range(500)]
        self.assert_sound()
        self.assertLess(self.memory() - memory, 100 << 20)
        for s in silent:
            s.close()
        for c in idle:
            c.close()
        while self.descriptors() > descriptors:  # ctest's timeout ends this
            self.assert_sound()


class Flags(BadInput):
    flags = ("--max-concurrent-streams", "3", "--grpc-keepalive-interval", "1s", "--grpc-keepalive-timeout", "1s")

    def test_streams(self):
        c = self.connect()
        self.assertTrue(c.until(lambda: c.acked and 3 in c.settings))
        self.assertEqual(c.settings[3], 3)
        streams = [c.open(WATCH) for _ in range(4)]
        c.until(lambda: c.response(streams[3]).ended)
        self.assertEqual([c.response(s).reset for s in streams[:3]], [None, None, None])
        # nghttp2 takes it for a client that counts wrong, once the client has seen the bound.
        self.assertTrue(c.response(streams[3]).reset == REFUSED_STREAM or c.goaway[0] == PROTOCOL_ERROR)
        self.assert_sound()

    def test_who_does_not_answer_pings_goes(self):
        begin = time.monotonic()
        c = self.connect()  # answers none
        self.assertFalse(c.until(lambda: False))
        self.assertTrue(c.closed)
        self.assertGreater(time.monotonic() - begin, 1.9)
        self.assert_sound()


class StalledReaders(BadInput):
    flags = ("--quota-backend-bytes", str(1 << 30))

    def test_large_ranges_are_not_buffered(self):
        n, size, readers = 32, 1 << 20, 40
        for i in range(n):
            self.put(f"big/{i:02}", random.Random(i).randbytes(size))
        before = self.memory()
        connections = [self.connect() for _ in range(readers)]
        for c in connections:
            s = c.open(KV + "Range")
            c.data(s, message(field(1, "big/") + field(2, "big0")))
        for c in connections:
            self.assertTrue(select.select([c.socket], [], [], 30)[0], "an answer has begun")
        for _ in range(20):
            self.assert_sound()
        self.assertLess(self.memory() - before, 100 << 20, f"{readers} replies of {n} MiB stand in memory")
        # One of them reads after all.
        reply = fields(connections[7].wait(1).data[5:])
        self.assertEqual(reply[4], [n])
        for i, kv in enumerate(reply[2]):
            self.assertEqual(fields(kv)[5][0], random.Random(i).randbytes(size))

    def test_a_txn_that_reads_too_much(self):
        """Its reply cannot be sent, and nothing of it stays."""
        for i in range(12):
            self.put(f"big/{i:02}", bytes(1 << 20))
        before = self.memory()
        read_all = field(2, field(1, field(1, "big/") + field(2, "big0"))) * 128
        with Connection(self.server.port) as c:
            r = c.call(KV + "Txn", message(read_all))
            self.assertTrue(r.reset is not None or r.status()[0] == EXHAUSTED, r.status())
        self.assert_sound()
        self.assertLess(self.memory() - before, 100 << 20)

    def test_a_watcher_that_does_not_read(self):
        c = self.connect(settings=b"", window=0)  # 65,535 bytes may come, no more
        s = c.open(WATCH)
        c.data(s, message(field(1, field(1, "w"))), end=False)
        self.assertTrue(c.until(lambda: messages(c.response(s).data)))
        before = self.memory()
        for _ in range(100):
            self.put("w", bytes(1 << 20))
        self.assert_sound()
        self.assertLess(self.memory() - before, 300 << 20)
        # It reads at last: every event is there, in order.
        c.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)) + frame(WINDOW_UPDATE, 0, s, struct.pack(">I", 1 << 30)))
        revisions = []
        at = [0]

        def collect():
            data = c.response(s).data
            while len(data) - at[0] >= 5:
                size = int.from_bytes(data[at[0] + 1:at[0] + 5], "big")
                if len(data) - at[0] - 5 < size:
                    break
                for event in fields(data[at[0] + 5:at[0] + 5 + size]).get(11, []):
                    revisions.append(fields(fields(event)[2][0])[3][0])
                at[0] += 5 + size
            return len(revisions) >= 100

        self.assertTrue(c.until(collect))
        self.assertEqual(revisions, list(range(3, 103)))


if __name__ == "__main__":
    unittest.main()
