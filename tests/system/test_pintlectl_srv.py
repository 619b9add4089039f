"""pintlectl's --discovery-srv, in a world with a name server of its own.

PINTLE_CTL names another program with etcdctl's commands to ask the same of.
"""
import name_server

name_server.inside(__file__)

import os
import shutil
import subprocess
import tempfile
import unittest

from certs import Authority
from harness import BINARY_DIR, Server, free_port

PROGRAM = os.environ.get("PINTLE_CTL", os.path.join(BINARY_DIR, "bin", "pintlectl"))
NAMES = name_server.Names()
DOMAIN = "cluster.test"
SECONDS = 60


class Discovery(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pintle-ctl-srv-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        NAMES.services.clear()
        NAMES.hosts.clear()
        NAMES.broken = NAMES.truncate = False
        for i in range(2):
            NAMES.hosts[f"n{i}.{DOMAIN}"] = "127.0.0.1"

    def server(self, who, *flags, secure=False, words=()):
        s = Server(flags)
        self.addCleanup(s.close)
        if secure:
            s.endpoint = f"https://127.0.0.1:{s.port}"
        s.start()
        self.assertEqual(self.ctl("--endpoints", s.endpoint, *words, "put", "who", who)[0], 0)
        return s

    def ctl(self, *words):
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=SECONDS)
        return done.returncode, done.stdout, done.stderr

    def found(self, *words):
        return self.ctl("--discovery-srv", DOMAIN, *words, "get", "who", "--print-value-only")

    def test_plain(self):
        server = self.server("plain")
        NAMES.services = {f"_etcd-client._tcp.{DOMAIN}": [(0, 0, server.port, f"n0.{DOMAIN}")]}
        self.assertEqual(self.found(), (0, "plain\n", ""))
        NAMES.truncate = True
        self.assertEqual(self.found(), (0, "plain\n", ""))

    def test_with_a_name(self):
        server = self.server("named")
        NAMES.services = {f"_etcd-client-x._tcp.{DOMAIN}": [(0, 0, server.port, f"n0.{DOMAIN}")]}
        self.assertEqual(self.found("--discovery-srv-name", "x"), (0, "named\n", ""))

    def test_one_of_two_is_dead(self):
        server = self.server("alive")
        NAMES.services = {f"_etcd-client._tcp.{DOMAIN}": [(0, 0, free_port(), f"n1.{DOMAIN}"), (0, 0, server.port, f"n0.{DOMAIN}")]}
        self.assertEqual(self.found(), (0, "alive\n", ""))

    def test_insecure_ones_are_left_out(self):
        """The certificate has to be the host's, as the record names it."""
        ca = Authority(self.dir, "ca")
        cert, key = ca.make("server", sans=f"DNS:n0.{DOMAIN}")
        trust = ("--cacert", ca.cert)
        secure = self.server("secure", "--cert-file", cert, "--key-file", key, secure=True, words=("--insecure-skip-tls-verify",))
        plain = self.server("plain")
        NAMES.services = {f"_etcd-client._tcp.{DOMAIN}": [(0, 0, plain.port, f"n1.{DOMAIN}")],
                          f"_etcd-client-ssl._tcp.{DOMAIN}": [(0, 0, secure.port, f"n0.{DOMAIN}")]}
        code, out, err = self.found(*trust, "--insecure-discovery=false")
        self.assertEqual((code, out), (0, "secure\n"), err)
        self.assertRegex(err, rf'^ignoring discovered insecure endpoint "http://n1.{DOMAIN}.?:{plain.port}"\n$')
        NAMES.services[f"_etcd-client-ssl._tcp.{DOMAIN}"] = [(0, 0, secure.port, f"n1.{DOMAIN}")]
        self.assertNotEqual(self.found(*trust, "--insecure-discovery=false", "--command-timeout", "1s")[0], 0)

    def test_nobody(self):
        code, out, err = self.found()
        self.assertEqual((code, out), (1, ""))
        self.assertIn("no such host", err)
        self.assertIn(f"_etcd-client._tcp.{DOMAIN}", err)


if __name__ == "__main__":
    unittest.main()
