"""DNS discovery: founders and servers by SRV records, in a world with a name server of its own."""
import name_server

name_server.inside(__file__)

import json
import os
import socket
import subprocess
import unittest

from certs import Authority
from harness import PINTLE, Server, etcdctl, free_port
from test_bootstrap import Case, Member

NAMES = name_server.Names()
DOMAIN = "cluster.test"


class World(Case):
    def setUp(self):
        super().setUp()
        NAMES.hosts.clear()
        NAMES.services.clear()
        NAMES.broken = NAMES.truncate = False
        NAMES.asked.clear()
        for i in range(3):
            NAMES.hosts[f"n{i}.{DOMAIN}"] = "127.0.0.1"

    def founders(self, n, service="_etcd-server._tcp", scheme="http", more=()):
        members = []
        for i in range(n):
            m = self.member(f"m{i}")
            port = free_port()
            m.peer = f"{scheme}://n{i}.{DOMAIN}:{port}"
            NAMES.services.setdefault(f"{service}.{DOMAIN}", []).append((0, 0, port, f"n{i}.{DOMAIN}"))
            m.server.flags = ["--name", m.name, "--listen-peer-urls", f"{scheme}://127.0.0.1:{port}", "--initial-advertise-peer-urls", m.peer,
                              "--discovery-srv", DOMAIN, *more]
            members.append(m)
        return members


class Founding(World):
    def test_three(self):
        members = self.founders(3)
        self.start_all(members)
        self.ctl(members[0], "put", "k", "v")
        self.assertEqual(self.ctl(members[2], "get", "k").split(), ["k", "v"])
        urls = sorted(x["peerURLs"][0] for x in self.json(members[1], "member", "list")["members"])
        self.assertEqual(urls, sorted(m.peer for m in members))
        nodes = sorted(x["node"] for x in self.lines(members[1], "got bootstrap from DNS for etcd-server"))
        self.assertEqual(nodes, sorted([f"0={members[0].peer}", f"m1={members[1].peer}", f"1={members[2].peer}"]))
        self.stop_all(members)
        NAMES.services.clear()  # whoever has a log asks nobody
        self.start_all(members)
        self.stop_all(members)

    def test_a_name_and_an_answer_that_needs_tcp(self):
        NAMES.truncate = True
        members = self.founders(1, "_etcd-server-x._tcp", more=["--discovery-srv-name", "x"])
        members[0].server.start()
        self.stop_all(members)

    def test_tls_with_the_name_of_the_domain(self):
        """The certificates are the domain's; nobody else vouches for hosts that came from its name servers."""
        ca = Authority(self.dir, "ca")
        cert, key = ca.make("peer", sans=f"DNS:{DOMAIN}")
        members = self.founders(2, "_etcd-server-ssl._tcp", "https", ["--peer-cert-file", cert, "--peer-key-file", key])
        system = "/etc/ssl/certs/ca-certificates.crt"
        if not os.path.exists(system):
            self.skipTest("this system trusts nobody")
        subprocess.run(["mount", "--bind", ca.cert, system], check=True)
        self.addCleanup(subprocess.run, ["umount", system], check=True)
        self.start_all(members)
        self.ctl(members[0], "put", "k", "v")
        self.stop_all(members)

    def test_errors(self):
        m = self.founders(1)[0]
        port = int(m.peer.rsplit(":", 1)[1])
        name = f"_etcd-server._tcp.{DOMAIN}"
        none = (f"error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl lookup _etcd-server-ssl._tcp.{DOMAIN} on "
                f"127.0.0.1:53: no such host\nerror querying DNS SRV records for _etcd-server lookup {name} on 127.0.0.1:53: ")
        rows = [("nobody", {}, none + "no such host"),
                ("others alone", {name: [(0, 0, port + 1, f"n1.{DOMAIN}")]},
                 'error setting up initial cluster: cannot find local etcd member "m0" in SRV records'),
                ("ours with TLS", {name.replace("server", "server-ssl"): [(0, 0, port, f"n0.{DOMAIN}")]},
                 f"bootstrap at https://n0.{DOMAIN}:{port} from DNS for etcd-server-ssl has scheme mismatch with expected peer {m.peer}"),
                ("no host", {name: [(0, 0, port, b"\x05a b/c\x00")]}, "SRV response contained invalid names"),
                ("a broken record", {name: [(0, 0, port, b"\x40")]}, "SRV response contained invalid names"),
                ("a name that points at itself", {name: [(0, 0, port, b"\xc0\xff")]}, "error querying DNS SRV records")]
        for claim, services, text in rows:
            with self.subTest(claim):
                NAMES.services = services
                self.assertIn(text, self.refused(m))
        NAMES.broken = True
        with self.subTest("a server that refuses"):
            self.assertIn("lookup", self.refused(m))


class Gateway(World):
    def gateway(self, *flags):
        port = free_port()
        log = open(os.path.join(self.dir, "gateway.log"), "wb")
        p = subprocess.Popen([PINTLE, "gateway", "start", "--listen-addr", f"127.0.0.1:{port}", "--discovery-srv", DOMAIN, *flags], stderr=log, stdout=log)
        self.addCleanup(log.close)
        self.addCleanup(lambda: (p.kill(), p.wait()))
        self.until("the gateway", lambda: p.poll() is not None or "ready to proxy client requests" in self.text())
        return f"127.0.0.1:{port}", p

    def text(self):
        with open(os.path.join(self.dir, "gateway.log")) as f:
            return f.read()

    def server(self, *flags, secure=False):
        s = Server(flags)
        self.addCleanup(s.close)
        if secure:
            s.endpoint = f"https://127.0.0.1:{s.port}"
        return s.start()

    def test_priorities(self):
        """The better one serves; the other when it is gone."""
        first, second = self.server(), self.server()
        NAMES.services = {f"_etcd-client._tcp.{DOMAIN}": [(2, 5, second.port, f"n1.{DOMAIN}"), (1, 0, first.port, f"n0.{DOMAIN}")]}
        self.assertEqual(etcdctl(first, "put", "who", "first").code, 0)
        self.assertEqual(etcdctl(second, "put", "who", "second").code, 0)
        endpoint, _ = self.gateway("--insecure-discovery")

        class Front:
            pass
        front = Front()
        front.endpoint = endpoint
        for _ in range(4):
            self.assertEqual(etcdctl(front, "get", "who").out.split(), ["who", "first"])
        first.stop()
        self.assertEqual(etcdctl(front, "get", "who").out.split(), ["who", "second"])

    def test_of_the_grpc_proxy(self):
        """It finds its servers in the same way."""
        server = self.server()
        NAMES.services = {f"_etcd-client-mine._tcp.{DOMAIN}": [(0, 0, server.port, f"n0.{DOMAIN}")]}
        port = free_port()
        with open(os.path.join(self.dir, "gateway.log"), "wb") as log:
            p = subprocess.Popen([PINTLE, "grpc-proxy", "start", "--listen-addr", f"127.0.0.1:{port}", "--discovery-srv", DOMAIN, "--discovery-srv-name=mine",
                                  "--insecure-discovery"], stderr=log, stdout=log)
        self.addCleanup(lambda: (p.kill(), p.wait()))
        self.until("the proxy", lambda: p.poll() is not None or "started gRPC proxy" in self.text())

        class Front:
            endpoint = f"127.0.0.1:{port}"
        self.assertEqual(etcdctl(Front, "put", "who", "me").code, 0, self.text())

    def test_secure_alone(self):
        ca = Authority(self.dir, "ca")
        cert, key = ca.make("server", sans=f"DNS:{DOMAIN}")
        bad_cert, bad_key = ca.make("bad", sans="DNS:other.test")
        good = self.server("--cert-file", cert, "--key-file", key, secure=True)
        bad = self.server("--cert-file", bad_cert, "--key-file", bad_key, secure=True)
        plain = self.server()
        NAMES.services = {f"_etcd-client-ssl._tcp.{DOMAIN}": [(0, 0, good.port, f"n0.{DOMAIN}"), (0, 0, bad.port, f"n1.{DOMAIN}")],
                          f"_etcd-client._tcp.{DOMAIN}": [(0, 0, plain.port, f"n2.{DOMAIN}")]}
        self.gateway("--trusted-ca-file", ca.cert)
        lines = [json.loads(x) for x in self.text().splitlines() if x.startswith("{")]
        ready = [x for x in lines if x["msg"] == "ready to proxy client requests"][0]
        self.assertEqual(ready["endpoints"], [f"n0.{DOMAIN}:{good.port}"])
        warned = [x for x in lines if x["msg"] == "failed to validate discovered endpoints"][0]
        self.assertIn(f'"http://n2.{DOMAIN}:{plain.port}" is insecure', warned["error"])
        self.assertIn(f'"https://n1.{DOMAIN}:{bad.port}" failed to dial', warned["error"])

    def test_nobody(self):
        _, p = self.gateway()
        self.assertEqual(p.wait(), 1)
        self.assertIn(f"dns lookup errors: lookup _etcd-client-ssl._tcp.{DOMAIN} on 127.0.0.1:53: no such host and lookup _etcd-client._tcp.{DOMAIN}",
                      self.text())


del Case
if __name__ == "__main__":
    unittest.main()
