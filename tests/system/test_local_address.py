"""The gate SetMemberLocalAddr: members call each other from the address that they advertise, in a world with addresses of its own."""
import name_server

name_server.inside(__file__)

import socket
import subprocess
import unittest

from harness import Server, free_port
from test_bootstrap import Case

GATE = ["--feature-gates=SetMemberLocalAddr=true"]


def connections(port):
    """Local addresses of the connections to that port."""
    found = set()
    with open("/proc/net/tcp") as f:
        for line in f.readlines()[1:]:
            local, remote, state = line.split()[1:4]
            if state == "01" and int(remote.split(":")[1], 16) == port:
                found.add(socket.inet_ntoa(bytes.fromhex(local.split(":")[0])[::-1]))
    return found


class LocalAddress(Case):
    def setUp(self):
        super().setUp()
        for a in ("10.42.0.1", "10.42.0.2"):
            subprocess.run(["ip", "addr", "replace", a + "/24", "dev", "lo"], check=True)

    def pair(self, *more):
        members = []
        for i in (1, 2):
            m = self.member(f"m{i}")
            m.port = free_port()
            m.peer = f"http://10.42.0.{i}:{m.port}"
            members.append(m)
        for m, flags in zip(members, more):
            m.server.flags = m.flags(",".join(f"{m.name}={m.peer}" for m in members), more=flags)
        self.start_all(members)
        return members

    def test_from_the_advertised_address(self):
        a, b = self.pair(GATE, [])
        self.assertEqual(connections(b.port), {"10.42.0.1"})
        self.assertEqual(connections(a.port), {"10.42.0.1"})  # as the system chooses: the other end's own
        self.assertEqual(self.lines(a, "setting member local address")[0]["LocalAddr"], "10.42.0.1")
        self.assertEqual(self.lines(b, "searching for a suitable member local address in AdvertisePeerURLs"), [])
        self.stop_all([a, b])

    def test_no_such_address(self):
        s = Server(GATE)
        self.addCleanup(s.close)
        s.start()
        self.assertIn("unable to set a member local address due to lack of suitable local addresses", s.log_text())


del Case
if __name__ == "__main__":
    unittest.main()
