"""HTTP/2 by hand: frames as a test wants them, right or wrong. Header blocks are sent as plain literals and read with libnghttp2's inflater."""
import ctypes
import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4

_nghttp2 = ctypes.CDLL("libnghttp2.so.14")


class _Pair(ctypes.Structure):
    _fields_ = [("name", ctypes.POINTER(ctypes.c_uint8)), ("value", ctypes.POINTER(ctypes.c_uint8)),
                ("name_len", ctypes.c_size_t), ("value_len", ctypes.c_size_t), ("flags", ctypes.c_uint8)]


_nghttp2.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
_nghttp2.nghttp2_hd_inflate_hd2.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Pair), ctypes.POINTER(ctypes.c_int), ctypes.c_char_p,
                                            ctypes.c_size_t, ctypes.c_int]


class Inflater:
    def __init__(self):
        self.handle = ctypes.c_void_p()
        assert _nghttp2.nghttp2_hd_inflate_new(ctypes.byref(self.handle)) == 0

    def close(self):
        if self.handle:
            _nghttp2.nghttp2_hd_inflate_del(self.handle)
            self.handle = None

    def decode(self, block):
        pairs = []
        while True:
            pair, flags = _Pair(), ctypes.c_int()
            n = _nghttp2.nghttp2_hd_inflate_hd2(self.handle, ctypes.byref(pair), ctypes.byref(flags), block, len(block), 1)
            assert n >= 0, n
            block = block[n:]
            if flags.value & 2:
                pairs.append((ctypes.string_at(pair.name, pair.name_len).decode(), ctypes.string_at(pair.value, pair.value_len).decode("latin-1")))
            if flags.value & 1:
                _nghttp2.nghttp2_hd_inflate_end_headers(self.handle)
                return pairs


def _string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    n = len(raw)
    if n < 127:
        return bytes([n]) + raw
    out, n = bytearray([127]), n - 127
    while n >= 128:
        out.append(n % 128 + 128)
        n //= 128
    out.append(n)
    return bytes(out) + raw


def header_block(pairs):
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in pairs)


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(body, flag=0, announced=None):
    """A gRPC message with its head; `announced` lies about its length."""
    return struct.pack(">BI", flag, len(body) if announced is None else announced) + body


def request_headers(path, method="POST", content_type="application/grpc", more=()):
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost"), ("content-type", content_type),
            ("te", "trailers"), *more]


class Response:
    def __init__(self):
        self.headers = []  # of all header blocks, trailers included
        self.data = bytearray()
        self.reset = None  # error code of RST_STREAM
        self.ended = False

    def get(self, name):
        return dict(self.headers).get(name)

    def status(self):
        """gRPC code and message, percent-decoded."""
        raw = (self.get("grpc-message") or "").encode("latin-1")
        out, i = bytearray(), 0
        while i < len(raw):
            if raw[i:i + 1] == b"%":
                out.append(int(raw[i + 1:i + 3], 16))
                i += 3
            else:
                out.append(raw[i])
                i += 1
        code = self.get("grpc-status")
        return None if code is None else int(code), out.decode()


class Connection:
    """One connection. Reading stops at a timeout with an exception, so that no test hangs."""

    def __init__(self, port, settings=struct.pack(">HI", 4, 0x7FFFFFFF), timeout=30, window=1 << 30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inflater = Inflater()
        self.buffer = bytearray()
        self.responses = {}
        self.next_stream = 1
        self.goaway = None  # (error code, debug data)
        self.pongs = []
        self.acked = False
        self.settings = {}  # the server's
        self.closed = False
        self.windows = {0: 65535}  # what the server still takes, of the connection and each stream
        self.initial_window = 65535
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))
        if window:
            self.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", window)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        self.inflater.close()

    def send(self, data):
        self.socket.sendall(data)

    def read_frame(self):
        """One frame taken in, or False at the connection's end."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                more = self.socket.recv(1 << 20)
            except ConnectionResetError:
                more = b""
            if more == b"":
                self.closed = True
                return False
            self.buffer += more
        n = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
        payload = bytes(self.buffer[9:9 + n])
        del self.buffer[:9 + n]
        self._take(kind, flags, stream, payload)
        return True

    def _take(self, kind, flags, stream, payload):
        r = self.response(stream)
        if kind == HEADERS:
            assert flags & END_HEADERS, "the server's header blocks fit in one frame"
            r.headers += self.inflater.decode(payload)
        elif kind == DATA:
            r.data += payload
        elif kind == RST_STREAM:
            r.reset = struct.unpack(">I", payload)[0]
            r.ended = True
        elif kind == SETTINGS:
            if flags & ACK:
                self.acked = True
            else:
                self._take_settings(payload)
                try:
                    self.send(frame(SETTINGS, ACK, 0))
                except (BrokenPipeError, ConnectionResetError):
                    pass  # what the server sent before it closed is still read
        elif kind == WINDOW_UPDATE:
            self.windows[stream] = self.windows.get(stream, self.initial_window) + struct.unpack(">I", payload)[0]
        elif kind == PING and flags & ACK:
            self.pongs.append(payload)
        elif kind == GOAWAY:
            self.goaway = (struct.unpack(">I", payload[4:8])[0], payload[8:])
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            r.ended = True

    def _take_settings(self, payload):
        for at in range(0, len(payload), 6):
            key, value = struct.unpack(">HI", payload[at:at + 6])
            self.settings[key] = value
            if key == 4:
                for stream in self.windows:
                    self.windows[stream] += value - self.initial_window if stream else 0
                self.initial_window = value

    def open(self, path, end=False, **more):
        stream = self.next_stream
        self.next_stream += 2
        self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, header_block(request_headers(path, **more))))
        return stream

    def data(self, stream, payload, end=True):
        """Send within the server's windows; what is left when the stream ends early is not sent."""
        self.windows.setdefault(stream, self.initial_window)
        r = self.response(stream)
        at = 0
        while at < len(payload) and not r.ended:
            n = min(16384, len(payload) - at, self.windows[0], self.windows[stream])
            if n <= 0:
                if not self.read_frame():
                    return
                continue
            self.send(frame(DATA, 0, stream, payload[at:at + n]))
            self.windows[0] -= n
            self.windows[stream] -= n
            at += n
        if end and not r.ended:
            self.send(frame(DATA, END_STREAM, stream))

    def wait(self, stream):
        """The response of a stream once it has ended, whole or by a reset or with its connection."""
        self.until(lambda: self.response(stream).ended)
        return self.response(stream)

    def response(self, stream):
        """As far as it has come."""
        return self.responses.setdefault(stream, Response())

    def until(self, condition):
        while not condition():
            if not self.read_frame():
                return condition()
        return True

    def drain(self):
        """Read until the server closes the connection."""
        while self.read_frame():
            pass

    def call(self, path, payload=message(b""), **more):
        stream = self.open(path, **more)
        self.data(stream, payload)
        return self.wait(stream)
