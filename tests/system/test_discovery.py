"""v3 discovery: founders that find each other by a registry in another cluster."""
import json
import os
import signal
import subprocess
import threading
import time
import unittest

from certs import Authority
from harness import PINTLE, Server, etcdctl, free_port
from test_bootstrap import Case, Member

TOKEN = "some-token"
PREFIX = f"/_etcd/registry/{TOKEN}"


class Registered(Member):
    """A member that knows nobody."""

    def discover(self, *endpoints, token=TOKEN, more=()):
        self.server.flags = ["--name", self.name, "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer, "--discovery-token", token,
                             "--discovery-endpoints", ",".join(endpoints), *more]
        return self


class Discovery(Case):
    def registry(self, flags=(), size=None, **more):
        s = Server(flags, **more)
        self.addCleanup(s.close)
        s.start()
        if size is not None:
            self.put(s, PREFIX + "/_config/size", str(size))
        return s

    def put(self, s, key, value):
        self.assertEqual(etcdctl(s, "put", "--", key, value).code, 0)

    def founder(self, name):
        m = Registered(self.dir, name)
        self.addCleanup(m.server.close)
        return m

    def members_of(self, m):
        return sorted(x.get("name", "") for x in self.json(m, "member", "list")["members"])

    def errors(self, m):
        """What a start says that ends: the errors of its warnings, and its last error."""
        done = subprocess.run(m.server.command(), capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertNotIn("Sanitizer", done.stderr)
        return [json.loads(x) for x in done.stderr.splitlines() if x.startswith("{")]


class Founding(Discovery):
    def test_three_and_one_too_many(self):
        s = self.registry(size=3)
        self.put(s, PREFIX + "/members/bad", "no equals sign")
        members = [self.founder(n).discover("127.0.0.1:1", s.endpoint) for n in ("a", "b", "c")]
        self.start_all(members)
        self.ctl(members[0], "put", "k", "v")
        self.assertEqual(self.ctl(members[2], "get", "k").split(), ["k", "v"])
        self.assertEqual(self.members_of(members[1]), ["a", "b", "c"])
        found = self.lines(members[0], "discovery joined cluster successfully")
        self.assertEqual(sorted(found[0]["cluster"].split(",")), sorted(f"{m.name}={m.peer}" for m in members))
        self.assertEqual(found[0]["discovery-token"], TOKEN)
        self.assertEqual(len(self.lines(members[0], "invalid peer info returned from discovery service")) > 0, True)

        late = self.founder("d").discover(s.endpoint)
        lines = self.errors(late)
        self.assertEqual(lines[-2]["error"], "failed to join discovery cluster (discovery: cluster is full)")
        self.assertEqual([x["msg"] for x in lines[-2:]], ["failed to bootstrap; discovery token was already used",
                                                         "do not reuse discovery token; generate a new one to bootstrap a cluster"])
        self.assertEqual(self.keys(s), 4)  # it did not register

        self.stop_all(members[:1])
        members[0].server.start()  # whoever has a log needs no registry
        self.assertEqual(len(self.lines(members[0], "discovery token is ignored since cluster already initialized; valid logs are found")), 1)
        self.assertEqual(self.members_of(members[0]), ["a", "b", "c"])
        self.stop_all(members)

    def keys(self, s):
        r = etcdctl(s, "get", PREFIX + "/members", "--prefix", "-w", "json")
        return json.loads(r.out)["count"]

    def test_ids_are_those_of_etcd(self):
        """The token of the registry takes the place of the cluster's."""
        s = self.registry(size=1)
        m = self.founder("a").discover(s.endpoint, more=["--initial-cluster-token", "ignored"])
        m.server.start()
        key = etcdctl(s, "get", PREFIX + "/members", "--prefix", "--keys-only").out.split()[0]
        self.assertEqual(int(key.rsplit("/", 1)[1], 16), self.ids(m)["a"])
        twin = self.member("t")
        twin.peer = m.peer
        self.stop_all([m])
        twin.server.flags = twin.flags(f"t={m.peer}", token=TOKEN)
        twin.server.start()
        self.assertEqual(self.ids(twin)["t"], int(key.rsplit("/", 1)[1], 16))

    def test_the_registry_comes_late(self):
        port = free_port()
        m = self.founder("a").discover(f"127.0.0.1:{port}")
        starting = threading.Thread(target=m.server.start)
        starting.start()
        self.until("a warning", lambda: os.path.exists(m.server.log_path) and self.lines(m, "retry connecting to discovery service"))
        self.registry(size=1, port=port)
        starting.join()
        self.assertEqual(self.lines(m, "retry connecting to discovery service")[0]["backoff"], "2s")

    def test_the_registry_goes_away_meanwhile(self):
        s = self.registry(size=2)
        members = [self.founder(n).discover(s.endpoint) for n in ("a", "b")]
        starting = threading.Thread(target=members[0].server.start)
        starting.start()
        self.until("waiting", lambda: os.path.exists(members[0].server.log_path) and self.lines(members[0], "waiting for peers from discovery service"))
        s.stop()
        self.until("a warning", lambda: self.lines(members[0], "lost the watch of the discovery service"))
        s.start()
        members[1].server.start()
        starting.join()
        self.assertEqual(self.members_of(members[0]), ["a", "b"])


class Secure(Discovery):
    def test_tls_user_and_file(self):
        ca = Authority(self.dir, "ca")
        cert, key = ca.make("server", sans="DNS:registry.test")
        mine, my_key = ca.make("client")
        s = Server(["--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca.cert])
        s.endpoint = f"https://127.0.0.1:{s.port}"
        self.addCleanup(s.close)
        s.start()
        secure = ["--cacert", ca.cert, "--cert", mine, "--key", my_key, "--insecure-skip-tls-verify"]
        root = [*secure, "--user", "root:pw"]
        for words in (["put", PREFIX + "/_config/size", "2"], ["user", "add", "root:pw"], ["user", "grant-role", "root", "root"],
                      ["role", "add", "finder"], ["role", "grant-permission", "finder", "readwrite", PREFIX, "--prefix"],
                      ["user", "add", "finder:secret"], ["user", "grant-role", "finder", "finder"], ["auth", "enable"]):
            r = etcdctl(s, *secure, *words)
            self.assertEqual(r.code, 0, r.err)
        files = ["--discovery-cacert", ca.cert, "--discovery-cert", mine, "--discovery-key", my_key]
        wrong = self.founder("w").discover(f"127.0.0.1:{s.port}", more=[*files, "--discovery-insecure-skip-tls-verify", "--discovery-user", "finder",
                                                                        "--discovery-password", "wrong"])
        self.assertEqual(self.errors(wrong)[-2]["error"],
                         "failed to join discovery cluster (etcdserver: authentication failed, invalid user ID or password)")
        a = self.founder("a").discover(f"127.0.0.1:{s.port}", more=[*files, "--discovery-insecure-skip-tls-verify", "--discovery-user", "finder",
                                                                    "--discovery-password", "secret"])
        b = self.founder("b")
        path = os.path.join(self.dir, "b.yaml")
        with open(path, "w") as f:
            json.dump({"name": "b", "data-dir": b.server.data_dir, "listen-client-urls": b.server.endpoint, "advertise-client-urls": b.server.endpoint,
                       "listen-peer-urls": b.peer, "initial-advertise-peer-urls": b.peer,
                       "discovery-config": {"token": TOKEN, "client": {
                           "endpoints": [s.endpoint], "dial-timeout": 2000000000, "request-timeout": 5000000000,
                           "secure": {"cacert": ca.cert, "cert": mine, "key": my_key, "server-name": "registry.test"},
                           "auth": {"username": "finder", "password": "secret"}}}}, f)
        b.server.command = lambda: [PINTLE, "--config-file", path]
        self.start_all([a, b])
        self.assertEqual(self.members_of(a), ["a", "b"])
        self.assertEqual(etcdctl(s, *root, "get", PREFIX + "/members", "--prefix", "--keys-only").out.count(PREFIX), 2)
        self.stop_all([a, b])

    def test_a_certificate_that_nobody_trusts_is_no_end(self):
        ca, other = Authority(self.dir, "ca"), Authority(self.dir, "other")
        cert, key = ca.make("server")
        s = Server(["--cert-file", cert, "--key-file", key])
        self.addCleanup(s.close)
        s.endpoint = f"https://127.0.0.1:{s.port}"
        s.start()
        m = self.founder("a").discover(s.endpoint, more=["--discovery-cacert", other.cert])
        with open(m.server.log_path, "ab") as log:
            m.server.log = log
            m.server.process = subprocess.Popen(m.server.command(), stderr=log, stdout=log)
        warning = self.until("a warning", lambda: self.lines(m, "failed to get cluster size from discovery service"))[0]
        self.assertIn("x509: certificate signed by unknown authority", warning["error"])
        m.server.process.send_signal(signal.SIGTERM)  # it would ask for ever
        self.assertEqual(m.server.process.wait(timeout=30), -signal.SIGTERM)


class Refused(Discovery):
    def test_errors(self):
        s = self.registry()
        rows = [(None, "discovery: size key not found"), ("0", "discovery: size key is bad"), ("-1", "discovery: size key is bad"),
                ("x", "discovery: size key is bad"), ("", "discovery: size key is bad"), ("99999999999999999999", "discovery: size key is bad")]
        m = self.founder("a").discover(s.endpoint)
        for size, text in rows:
            with self.subTest(size):
                if size is not None:
                    self.put(s, PREFIX + "/_config/size", size)
                began = time.monotonic()
                self.assertEqual(self.errors(m)[-2]["error"], f"failed to join discovery cluster ({text})")
                self.assertLess(time.monotonic() - began, 20)
        self.put(s, PREFIX + "/_config/size", "2")
        self.put(s, PREFIX + "/members/1", "z=notaurl")
        self.assertEqual(self.errors(m)[-2]["error"], "failed to join discovery cluster (discovery: invalid peer URL)")

    def test_files_that_are_no_use(self):
        m = self.founder("a").discover("127.0.0.1:1", more=["--discovery-cacert", "/nonexistent/ca"])
        self.assertEqual(self.errors(m)[-2]["error"], "failed to join discovery cluster (open /nonexistent/ca: no such file or directory)")
        m = self.founder("b").discover("127.0.0.1:1", more=["--discovery-cert", "/nonexistent/c"])
        self.assertIn("KeyFile and CertFile must both be present", self.errors(m)[-2]["error"])

    def test_joining(self):
        m = self.founder("a").discover("127.0.0.1:1", more=["--initial-cluster-state", "existing"])
        self.assertEqual(self.errors(m)[-1]["error"], "discovery URL should not be set when joining existing initial cluster")


del Case
if __name__ == "__main__":
    unittest.main()
