"""A world with name servers of its own, and one of them.

As a module: `inside(test_file)` runs that file again in network and mount namespaces of its own, where /etc/resolv.conf names a server at 127.0.0.1
and /etc/hosts nobody. As a class: `Names` is that server, over UDP, and TCP for those who are told to come back.
"""
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

MARK = "PINTLE_TEST_OWN_NAMES"
A, SRV = 1, 33
NO_SUCH_NAME, REFUSED = 3, 5


def inside(test_file):
    """Does not return in the world outside. Where namespaces are not allowed, everything is skipped."""
    if os.environ.get(MARK):
        return
    if subprocess.run(["unshare", "-n", "-m", "true"], capture_output=True).returncode != 0:
        print("no namespaces here: skipped")
        sys.exit(0)
    with tempfile.TemporaryDirectory() as d:
        for name, text in (("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"), ("hosts", "127.0.0.1 localhost\n"),
                           ("nsswitch.conf", "hosts: files dns\n")):
            with open(os.path.join(d, name), "w") as f:
                f.write(text)
        script = 'ip link set lo up; for f in resolv.conf hosts nsswitch.conf; do mount --bind "$0/$f" "$(readlink -f /etc/$f)"; done; exec "$@"'
        sys.exit(subprocess.run(["unshare", "-n", "-m", "sh", "-ec", script, d, sys.executable, test_file, *sys.argv[1:]],
                                env={**os.environ, MARK: "1"}).returncode)


def labels(name):
    return b"".join(bytes([len(x)]) + x.encode() for x in name.strip(".").split(".")) + b"\0"


class Names:
    """`hosts`: name to IPv4; `services`: "_service._tcp.domain" to (priority, weight, port, host)s. Both may change meanwhile."""

    def __init__(self):
        self.hosts, self.services, self.broken, self.truncate = {}, {}, False, False
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 53))
        self.tcp = socket.create_server(("127.0.0.1", 53))
        self.asked = []
        for run in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=run, daemon=True).start()

    def answer(self, query, short):
        at, parts = 12, []
        while query[at]:
            parts.append(query[at + 1:at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        name, kind = ".".join(parts), struct.unpack(">H", query[at + 1:at + 3])[0]
        question = query[12:at + 5]
        self.asked.append((name, kind))
        records, code = [], 0
        if self.broken:
            code = REFUSED
        elif kind == SRV and name in self.services:
            for priority, weight, port, host in self.services[name]:
                target = host if isinstance(host, bytes) else labels(host)
                records.append(struct.pack(">HHH", priority, weight, port) + target)
        elif kind == A and name in self.hosts:
            records.append(socket.inet_aton(self.hosts[name]))
        elif name not in self.hosts:
            code = NO_SUCH_NAME
        cut = short and self.truncate and len(records) > 0
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | (0x0200 if cut else 0) | code, 1, 0 if cut else len(records), 0, 0)
        body = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(r)) + r for r in records)
        return head + question + (b"" if cut else body)

    def serve_udp(self):
        while True:
            query, who = self.udp.recvfrom(4096)
            self.udp.sendto(self.answer(query, True), who)

    def serve_tcp(self):
        while True:
            c, _ = self.tcp.accept()
            with c:
                while len(head := c.recv(2, socket.MSG_WAITALL)) == 2:
                    reply = self.answer(c.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL), False)
                    c.sendall(struct.pack(">H", len(reply)) + reply)
