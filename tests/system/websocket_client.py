"""A WebSocket client that can also do what is wrong: frames as bytes (RFC 6455)."""
import base64
import hashlib
import os
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Closed(Exception):
    """The server's close, with its code; None: the connection ended without one."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class WebSocket:
    def __init__(self, port, path, headers=(), tls=None, behind=b""):
        self.key = base64.b64encode(os.urandom(16)).decode()
        s = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.s = tls.wrap_socket(s, server_hostname="localhost") if tls else s
        lines = {"Host": f"127.0.0.1:{port}", "Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": self.key, **dict(headers)}
        head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None) + "\r\n"
        self.s.sendall(head.encode() + behind)
        self.buffer = b""
        self.control = []
        while b"\r\n\r\n" not in self.buffer:
            self.read_more()
        answer, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        status, *fields = answer.decode().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {k.lower(): v for k, v in (f.split(": ", 1) for f in fields)}

    def accepted(self):
        want = base64.b64encode(hashlib.sha1((self.key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        return self.status == 101 and self.headers.get("sec-websocket-accept") == want

    def read_more(self):
        try:
            got = self.s.recv(65536)
        except ConnectionResetError:
            got = b""
        if not got:
            raise Closed(None)
        self.buffer += got

    def send(self, payload, opcode=TEXT, fin=True, mask=True, rsv=0):
        self.s.sendall(frame(payload, opcode, fin, mask, rsv))

    def read_frame(self):
        while True:
            b = self.buffer
            if len(b) >= 2:
                assert b[1] & 0x80 == 0, "a server does not mask"
                n, at = b[1] & 0x7f, 2
                if n == 126 and len(b) >= 4:
                    n, at = struct.unpack(">H", b[2:4])[0], 4
                elif n == 127 and len(b) >= 10:
                    n, at = struct.unpack(">Q", b[2:10])[0], 10
                elif n >= 126:
                    n = 1 << 62
                if len(b) >= at + n:
                    self.buffer = b[at + n:]
                    return b[0] & 15, b[0] >> 7, b[at:at + n]
            self.read_more()

    def message(self):
        """The next message; pings and pongs are kept aside."""
        pieces = []
        while True:
            opcode, fin, payload = self.read_frame()
            if opcode == CLOSE:
                raise Closed(struct.unpack(">H", payload[:2])[0] if payload else 0)
            if opcode >= 8:
                self.control.append((opcode, payload))
                continue
            assert opcode == (0 if pieces else TEXT), opcode
            pieces.append(payload)
            if fin:
                return b"".join(pieces)

    def close(self):
        self.s.close()


def frame(payload, opcode=TEXT, fin=True, mask=True, rsv=0):
    payload = payload.encode() if isinstance(payload, str) else payload
    n = len(payload)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    head += bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack(">H", n) if n < 65536 else bytes([bit | 127]) + struct.pack(">Q", n)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + (int.from_bytes(payload, "big") ^ int.from_bytes((key * (n // 4 + 1))[:n], "big")).to_bytes(n, "big")
