"""TLS as users see it: etcdctl and curl, clusters with certificates, files that are exchanged under load, and clients that misbehave."""
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import harness
import oracle_server
from certs import Authority
from harness import PINTLE, Server, free_port

IDLE = int(os.environ.get("PINTLE_TLS_IDLE", "300"))


def read(path):
    with open(path) as f:
        return f.read()


class SecureServer(Server):
    """With https for clients; `scheme` of both kinds of URLs can be chosen."""

    def __init__(self, flags=(), urls=None, **more):
        super().__init__(flags, **more)
        self.urls = urls or f"https://127.0.0.1:{self.port}"
        self.endpoint = f"https://127.0.0.1:{self.port}"

    def command(self):
        return [PINTLE, "--data-dir", self.data_dir, "--listen-client-urls", self.urls,
                "--advertise-client-urls", self.endpoint, "--listen-peer-urls", "http://127.0.0.1:0", *self.flags]

    def refused(self):
        """It does not start; what it says last."""
        done = subprocess.run(self.command(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, done.returncode
        return done.stderr


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pintle-tls-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.ca = Authority(self.dir, "ca")
        self.cert, self.key = self.ca.make("server")

    def start(self, *flags, **more):
        s = SecureServer(["--cert-file", self.cert, "--key-file", self.key, *flags], **more)
        self.addCleanup(self.end, s)
        return s.start()

    def end(self, s):
        text = s.log_text() if os.path.exists(s.log_path) else ""
        s.close()
        self.assertNotIn("Sanitizer", text)

    def etcdctl(self, server, *words, cert="client", ca=None, code=0, endpoint=None):
        tls = ["--cacert", ca or self.ca.cert]
        if cert:
            tls += ["--cert", self.ca.path(cert + ".pem"), "--key", self.ca.path(cert + ".key")]
        done = subprocess.run(["etcdctl", "--endpoints", endpoint or server.endpoint, "--dial-timeout", "3s", "--command-timeout", "8s", *tls, *words],
                              capture_output=True, text=True, timeout=60, env={**os.environ, "ETCDCTL_API": "3"})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout

    def context(self, cert="client"):
        c = ssl.create_default_context(cafile=self.ca.cert)
        if cert:
            c.load_cert_chain(self.ca.path(cert + ".pem"), self.ca.path(cert + ".key"))
        return c

    def get(self, port, path="/version", context=None):
        """An HTTP/1.1 request over TLS, whole."""
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            with (context or self.context(None)).wrap_socket(raw, server_hostname="127.0.0.1") as s:
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b""
                while piece := s.recv(65536):
                    answer += piece
        return answer

    def wait_log(self, server, text, seconds=30):
        deadline = time.monotonic() + seconds
        while text not in server.log_text():
            self.assertLess(time.monotonic(), deadline, f"{text!r} is not in the log")
            time.sleep(0.02)


class Clients(Case):
    def test_etcdctl_and_curl(self):
        self.ca.make("client")
        s = self.start()
        self.etcdctl(s, "put", "a", "b", cert=None)
        self.assertEqual(self.etcdctl(s, "get", "a", cert=None), "a\nb\n")
        watch = subprocess.Popen(["etcdctl", "--endpoints", s.endpoint, "--cacert", self.ca.cert, "watch", "a"], stdout=subprocess.PIPE, text=True,
                                 env={**os.environ, "ETCDCTL_API": "3"})
        self.addCleanup(watch.stdout.close)
        self.addCleanup(watch.wait)
        self.addCleanup(watch.kill)
        seen = []
        reader = threading.Thread(target=lambda: seen.extend(watch.stdout.readline() for _ in range(3)))
        reader.start()
        deadline = time.monotonic() + 30
        while reader.is_alive() and time.monotonic() < deadline:  # until the watch stands
            self.etcdctl(s, "put", "a", "c", cert=None)
        self.assertEqual(seen, ["PUT\n", "a\n", "c\n"])
        for words in ([], ["--http1.1"], ["--http2"], ["--tls-max", "1.2"]):
            done = subprocess.run(["curl", "-sS", "--cacert", self.ca.cert, *words, s.endpoint + "/health"], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout[:16]), (0, '{"health":"true"'), done.stderr)
        done = subprocess.run(["curl", "-sS", "--cacert", self.ca.cert, s.endpoint + "/v3/kv/range", "-d", '{"key":"YQ=="}'], capture_output=True, text=True)
        self.assertEqual(json.loads(done.stdout)["kvs"][0]["value"], "Yw==", done.stderr)
        self.assertIn('"serving client traffic securely","traffic":"grpc+http"', s.log_text())

    def test_a_large_value_and_many_replies(self):
        s = self.start()
        value = "x" * 1000000
        for i in range(8):
            subprocess.run(["etcdctl", "--endpoints", s.endpoint, "--cacert", self.ca.cert, "put", f"big{i}"], input=value, text=True, check=True,
                           capture_output=True, env={**os.environ, "ETCDCTL_API": "3"})
        out = self.etcdctl(s, "get", "big", "--prefix", "--print-value-only", cert=None)
        self.assertEqual(out, (value + "\n") * 8)

    def test_who_needs_a_certificate(self):
        other = Authority(tempfile.mkdtemp(dir=self.dir), "other")
        self.ca.make("client")
        self.ca.make("late", days=-1)
        self.ca.make("revoked")
        crl = self.ca.revoke("crl.der", self.ca.serial)
        shutil.copy(other.make("foreign")[0], self.ca.path("foreign.pem"))
        shutil.copy(other.path("foreign.key"), self.ca.path("foreign.key"))
        s = self.start("--trusted-ca-file", self.ca.cert, "--client-cert-auth", "--client-crl-file", crl)
        self.etcdctl(s, "put", "a", "b")
        for cert, reason in ((None, "tls: client didn't provide a certificate"), ("foreign", "tls: failed to verify certificate: x509: "),
                             ("late", "certificate has expired"), ("revoked", "transport: certificate serial %04x revoked" % self.ca.serial)):
            with self.subTest(cert=cert):
                with self.assertRaises((ssl.SSLError, OSError)):
                    answer = self.get(s.port, context=self.context(cert))
                    raise OSError("no answer") if not answer else AssertionError(answer)
                self.wait_log(s, reason)
        self.assertIn("rejected connection on client endpoint", s.log_text())
        self.etcdctl(s, "get", "a", cert=None, code=1)

    def test_the_certificate_says_who_it_is(self):
        self.ca.make("root-cert", cn="root")
        self.ca.make("joe-cert", cn="joe")
        s = self.start("--trusted-ca-file", self.ca.cert, "--client-cert-auth")
        for words in (("user", "add", "root:secret"), ("role", "add", "root"), ("user", "grant-role", "root", "root"), ("user", "add", "joe:secret"),
                      ("role", "add", "r"), ("role", "grant-permission", "r", "readwrite", "joes", "joet"), ("user", "grant-role", "joe", "r"),
                      ("auth", "enable")):
            self.etcdctl(s, *words, cert="root-cert")
        self.etcdctl(s, "put", "joes", "1", cert="joe-cert")
        self.etcdctl(s, "put", "others", "1", cert="joe-cert", code=1)
        self.etcdctl(s, "put", "others", "1", cert="root-cert")
        self.assertIn("joes", self.etcdctl(s, "lock", "joes", "echo", "joes", cert="joe-cert"))
        done = subprocess.run(["curl", "-sS", "--cacert", self.ca.cert, "--cert", self.ca.path("joe-cert.pem"), "--key", self.ca.path("joe-cert.key"),
                               s.endpoint + "/v3/kv/range", "-d", '{"key":"am9lcw=="}'], capture_output=True, text=True)
        self.assertIn("CommonName of client sending a request against gateway will be ignored", done.stdout, done.stderr)

    def test_one_port_for_both(self):
        port = free_port()
        s = self.start(urls=f"https://127.0.0.1:{port},http://127.0.0.1:{port}", port=port)
        self.etcdctl(s, "put", "a", "b", cert=None)
        self.assertIn("a\nb", self.etcdctl(s, "get", "a", cert=None, endpoint=f"http://127.0.0.1:{port}"))
        self.assertIn(b"etcdserver", self.get(port))
        plain = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{port}/version"], capture_output=True, text=True)
        self.assertIn("etcdserver", plain.stdout)
        self.assertIn("ignoring key and cert files", s.log_text())

    def test_unix_socket(self):
        path = os.path.join(self.dir, "s")
        s = self.start(urls=f"unixs://{path}")
        done = subprocess.run(["curl", "-sS", "--unix-socket", path, "--cacert", self.ca.cert, "https://localhost/version"], capture_output=True, text=True)
        self.assertIn("etcdserver", done.stdout, done.stderr)
        self.assertEqual(s.stop(), -signal.SIGTERM)

    def test_versions_and_suites(self):
        suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
        for flags, version, suite in ((["--tls-min-version", "TLS1.3"], "TLSv1.3", None), (["--tls-max-version", "TLS1.2"], "TLSv1.2", None),
                                      (["--cipher-suites", suites, "--tls-max-version", "TLS1.2"], "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")):
            s = self.start(*flags)
            for v, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
                c = self.context(None)
                c.minimum_version = c.maximum_version = v
                with socket.create_connection(("127.0.0.1", s.port)) as raw:
                    if name != version:
                        with self.assertRaises(OSError):
                            c.wrap_socket(raw, server_hostname="localhost")
                        continue
                    with c.wrap_socket(raw, server_hostname="localhost") as t:
                        self.assertEqual(t.version(), name)
                        if suite:
                            self.assertEqual(t.cipher()[0], suite)
            self.assertEqual(s.stop(), -signal.SIGTERM)

    def test_auto_tls(self):
        s = SecureServer(["--auto-tls"])
        self.addCleanup(self.end, s)
        s.start()
        made = os.path.join(s.data_dir, "fixtures", "client", "cert.pem")
        self.etcdctl(s, "put", "a", "b", cert=None, ca=made)
        with open(made) as f:
            before = f.read()
        self.assertEqual(s.stop(), -signal.SIGTERM)
        s.start()
        with open(made) as f:
            self.assertEqual(f.read(), before)
        self.assertEqual(os.stat(made.replace("cert.pem", "key.pem")).st_mode & 0o777, 0o600)
        self.assertEqual(self.etcdctl(s, "get", "a", cert=None, ca=made), "a\nb\n")


class Refused(Case):
    def test_starts_that_fail(self):
        pair = ["--cert-file", self.cert, "--key-file", self.key]
        rows = (
            ([], "must be provided for client url https://127.0.0.1:"),
            (["--cert-file", self.cert], "KeyFile and CertFile must both be present[key: , cert: "),
            ([*pair, "--tls-min-version", "TLS1.1"], 'unexpected TLS version \\"TLS1.1\\" (must be one of: TLS1.2, TLS1.3)'),
            ([*pair, "--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"], "min version (TLS1.3) is greater than max version (TLS1.2)"),
            ([*pair, "--tls-min-version", "TLS1.3", "--cipher-suites", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
             "cipher suites cannot be configured when only TLS1.3 is enabled"),
            ([*pair, "--cipher-suites", "TLS_NULL"], 'unexpected TLS cipher suite \\"TLS_NULL\\"'),
            (["--auto-tls", "--self-signed-cert-validity", "0"], "selfSignedCertValidity is invalid,it should be greater than 0"),
            ([*pair, "--peer-cert-file", self.cert, "--peer-key-file", self.key, "--peer-cert-allowed-cn", "a,b", "--peer-cert-allowed-hostname", "c"],
             "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[a b], hostnames=[c])"),
            ([*pair, "--listen-client-http-urls", "http://127.0.0.1:%d"], "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url"),
        )
        for flags, text in rows:
            with self.subTest(text=text):
                s = SecureServer([])
                self.addCleanup(s.close)
                s.flags = [f % s.port if "%d" in f else f for f in flags]
                self.assertIn(text, s.refused())

    def test_metrics_need_the_certificate_too(self):
        s = SecureServer(["--listen-metrics-urls", "https://127.0.0.1:0"])
        self.addCleanup(s.close)
        s.urls = s.endpoint = s.endpoint.replace("https", "http")
        self.assertIn("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url", s.refused())


class Split(Case):
    def test_listeners_of_their_own(self):
        http, secure_http, metrics, secure_metrics = (free_port() for _ in range(4))
        s = self.start("--listen-client-http-urls", f"http://127.0.0.1:{http},https://127.0.0.1:{secure_http}",
                       "--listen-metrics-urls", f"http://127.0.0.1:{metrics},https://127.0.0.1:{secure_metrics}")
        self.etcdctl(s, "put", "a", "b", cert=None)
        try:
            self.assertEqual(self.get(s.port), b"")  # gRPC alone
        except OSError:
            pass
        self.assertIn(b"etcdserver", self.get(secure_http))
        self.assertIn(b"200 OK", self.get(secure_metrics, "/health"))
        for path, status in (("/metrics", "200"), ("/health", "200"), ("/livez", "200"), ("/readyz/serializable_read", "200"), ("/version", "404"),
                             ("/livezz", "404"), ("/v3/kv/range", "404")):
            done = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{metrics}{path}"], capture_output=True, text=True)
            self.assertEqual(done.stdout, status, path)
        done = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{http}/v3/kv/range", "-d", '{"key":"YQ=="}'], capture_output=True, text=True)
        self.assertIn("Yg==", done.stdout)
        self.assertEqual(s.stop(), -signal.SIGTERM)
        for text in ('"traffic":"grpc"', '"traffic":"http"', '"serving metrics"'):
            self.assertIn(text, s.log_text())


class Misbehaviour(Case):
    def test_half_a_handshake_ends_in_time_and_harms_nobody(self):
        s = self.start()
        hello = bytes.fromhex("16030100c8010000c40303") + bytes(100)
        began = time.monotonic()
        stuck = []
        for piece in (b"", hello[:1], hello[:5], hello):
            c = socket.create_connection(("127.0.0.1", s.port), timeout=60)
            c.sendall(piece)
            stuck.append(c)
        for garbage in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), os.urandom(5000)):
            with socket.create_connection(("127.0.0.1", s.port), timeout=20) as c:
                c.sendall(garbage)
                try:
                    while c.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        self.etcdctl(s, "put", "a", "b", cert=None)
        for c in stuck:
            try:
                self.assertEqual(c.recv(1), b"")
            except ConnectionResetError:
                pass
            c.close()
        took = time.monotonic() - began
        self.assertLess(took, 40)
        self.assertIn("tls: first record does not look like a TLS handshake", s.log_text())
        self.assertIn("tls: handshake not completed in time", s.log_text())

    def test_renegotiation_is_refused(self):
        s = self.start()
        done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.port}", "-tls1_2", "-CAfile", self.ca.cert], input="R\nR\n",
                              capture_output=True, text=True, timeout=60)
        self.assertIn("no renegotiation", done.stderr + done.stdout)

    def test_idle_connections_are_cheap(self):
        s = self.start()
        context = self.context(None)

        def resident():
            with open(f"/proc/{s.process.pid}/status") as f:
                return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))

        def connect(n):
            out = []
            for _ in range(n):
                raw = socket.create_connection(("127.0.0.1", s.port), timeout=60)
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                c = context.wrap_socket(raw, server_hostname="localhost")
                c.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertIn(b"200 OK", c.recv(4096))
                out.append(c)
            return out
        first = connect(20)
        before = resident()
        idle = connect(IDLE)
        each = (resident() - before) / IDLE
        with open(PINTLE, "rb") as f:
            if b"__asan_" not in f.read():  # whose own memory is many times that
                print(f"{each:.0f} bytes for an idle TLS connection ({IDLE} of them)", flush=True)
                self.assertLess(each, 30000)
        self.etcdctl(s, "put", "a", "b", cert=None)
        for c in first + idle:
            c.close()


class Exchange(Case):
    def test_certificates_and_authorities_change_under_load(self):
        new = Authority(tempfile.mkdtemp(dir=self.dir), "new")
        both = self.ca.path("both.pem")
        live = {n: self.ca.path("live-" + n) for n in ("cert", "key", "ca")}
        self.ca.make("client")
        new_cert, new_key = new.make("server")
        with open(both, "w") as f:
            f.write(read(self.ca.cert) + read(new.cert))

        def put(what, source):
            shutil.copy(source, live[what] + ".tmp")
            os.rename(live[what] + ".tmp", live[what])
        put("cert", self.cert)
        put("key", self.key)
        put("ca", self.ca.cert)
        self.cert, self.key = live["cert"], live["key"]
        s = self.start("--trusted-ca-file", live["ca"])
        old_client = self.ca.path("client.pem"), self.ca.path("client.key")
        shutil.copy(new.make("client")[0], self.ca.path("new-client.pem"))
        shutil.copy(new.path("client.key"), self.ca.path("new-client.key"))
        failures, done, stop = [], [0], threading.Event()

        def load():
            context = ssl.create_default_context(cafile=both)
            context.load_cert_chain(*old_client)
            while not stop.is_set():
                try:
                    if b"200 OK" not in self.get(s.port, "/health", context):
                        failures.append("no answer")
                except OSError as e:
                    failures.append(repr(e))
                done[0] += 1
        threads = [threading.Thread(target=load) for _ in range(3)]
        for t in threads:
            t.start()

        def some_more():
            goal = done[0] + 15
            while done[0] < goal:
                time.sleep(0.01)
        try:
            some_more()
            put("ca", both)
            some_more()
            for _ in range(5):
                put("cert", new_cert)
                some_more()  # between both, what was there before serves on
                put("key", new_key)
                some_more()
                put("cert", self.ca.path("server.pem"))
                put("key", self.ca.path("server.key"))
                some_more()
        finally:
            stop.set()
            for t in threads:
                t.join()
        self.assertEqual(failures, [])
        self.assertGreater(done[0], 100)
        # The old authority goes: its certificates are turned away without a restart, those of the new one let in.
        put("ca", new.cert)
        with self.assertRaises(OSError):
            raise OSError if not self.get(s.port, context=self.context("client")) else AssertionError("let in")
        self.assertIn(b"etcdserver", self.get(s.port, context=self.context("new-client")))


class Member(Server):
    def __init__(self, program):
        super().__init__()
        self.program = program

    def command(self):
        """Without the harness's own listener for members: each flag once."""
        words = super().command()
        at = words.index("--listen-peer-urls")
        return [self.program, *words[1:at], *words[at + 2:], *(["--logger", "zap"] if self.program != PINTLE else [])]

    def start(self):
        if self.program == PINTLE:
            return super().start()
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.command(), stderr=self.log, stdout=self.log)
        deadline = time.monotonic() + harness.START_SECONDS
        while harness.etcdctl(self, "endpoint", "health").code != 0:
            assert time.monotonic() < deadline and self.process.poll() is None, self.log_text()[-2000:]
        return self


class Members(Case):
    """Three members that speak TLS to each other."""

    def launch(self, flags, scheme="https", programs=(PINTLE,) * 3, waited=3):
        ports = [free_port() for _ in range(3)]
        cluster = ",".join(f"m{i}={scheme}://127.0.0.1:{p}" for i, p in enumerate(ports))
        servers = []
        for i, p in enumerate(ports):
            s = Member(programs[i])
            s.flags = ["--name", f"m{i}", "--listen-peer-urls", f"{scheme}://127.0.0.1:{p}", "--initial-advertise-peer-urls", f"{scheme}://127.0.0.1:{p}",
                       "--initial-cluster", cluster, *flags(i)]
            self.addCleanup(self.end, s)
            servers.append(s)
        threads = [threading.Thread(target=s.start) for s in servers[:waited]]
        for t in threads:
            t.start()
        for s in servers[waited:]:
            s.log = open(s.log_path, "ab")
            s.process = subprocess.Popen(s.command(), stderr=s.log, stdout=s.log)
        for t in threads:
            t.join()
        return servers

    def ctl(self, server, *words):
        r = harness.etcdctl(server, *words)
        self.assertEqual(r.code, 0, r.out + r.err)
        return r.out

    def check(self, servers):
        for i, s in enumerate(servers):
            self.ctl(s, "put", f"k{i}", "v")
        for s in servers:
            self.assertEqual(self.ctl(s, "get", "k", "--prefix", "--keys-only").split(), ["k0", "k1", "k2"])

    def test_certificates_of_their_own(self):
        for i in range(3):
            self.ca.make(f"m{i}", cn="member")
        servers = self.launch(lambda i: ["--peer-cert-file", self.ca.path(f"m{i}.pem"), "--peer-key-file", self.ca.path(f"m{i}.key"), "--peer-client-cert-auth",
                                         "--peer-trusted-ca-file", self.ca.cert, "--peer-cert-allowed-cn", "member"])
        self.check(servers)
        # One with another name is not listened to, whatever the authority says of it.
        self.ca.make("stranger")
        context = self.context("stranger")
        port = int(servers[0].flags[servers[0].flags.index("--listen-peer-urls") + 1].rsplit(":", 1)[1])
        with self.assertRaises(OSError):
            raise OSError if not self.get(port, context=context) else AssertionError("let in")
        self.wait_log(servers[0], "client certificate authentication failed")
        self.assertIn(b"etcdserver", self.get(port, context=self.context("m1")))
        # New certificates of a new authority, in the usual order, while writes go on.
        new = Authority(tempfile.mkdtemp(dir=self.dir), "new")
        old = read(self.ca.cert)
        with open(self.ca.cert + ".tmp", "w") as f:
            f.write(old + read(new.cert))
        os.rename(self.ca.cert + ".tmp", self.ca.cert)
        for i in range(3):
            cert, key = new.make(f"n{i}", cn="member")
            os.rename(cert, self.ca.path(f"m{i}.pem"))
            os.rename(key, self.ca.path(f"m{i}.key"))
            self.check(servers)
        shutil.copy(new.cert, self.ca.cert + ".tmp")
        os.rename(self.ca.cert + ".tmp", self.ca.cert)
        victim = servers[2]
        self.assertEqual(victim.stop(), -signal.SIGTERM)
        victim.start()  # all its connections are new
        self.check(servers)

    def test_a_member_of_another_name(self):
        """The rule for names holds for whom a member calls, too: it says goodbye before anything is said."""
        for i in range(3):
            self.ca.make(f"m{i}", cn="member" if i < 2 else "other")
        servers = self.launch(lambda i: ["--peer-cert-file", self.ca.path(f"m{i}.pem"), "--peer-key-file", self.ca.path(f"m{i}.key"), "--peer-client-cert-auth",
                                         "--peer-trusted-ca-file", self.ca.cert, *(["--peer-cert-allowed-cn", "member"] if i < 2 else [])], waited=2)
        self.ctl(servers[0], "put", "k", "v")
        self.assertEqual(self.ctl(servers[1], "get", "k", "--print-value-only"), "v\n")
        self.wait_log(servers[2], "tls: bad certificate")
        self.assertNotIn("elected leader", servers[2].log_text())

    def test_certificates_that_bear_their_authoritys_name(self):
        """Scripts make such ones, and Go does not mind."""
        for i in range(3):
            self.ca.make(f"m{i}", cn="ca", key_id=False)
        self.check(self.launch(lambda i: ["--peer-cert-file", self.ca.path(f"m{i}.pem"), "--peer-key-file", self.ca.path(f"m{i}.key"), "--peer-client-cert-auth",
                                          "--peer-trusted-ca-file", self.ca.cert]))

    def test_certificates_made_here(self):
        servers = self.launch(lambda i: ["--peer-auto-tls"])
        self.check(servers)

    def test_members_of_etcd_among_them(self):
        programs = oracle_server.programs()
        if not programs:
            self.skipTest("no etcd is there")
        for i in range(3):
            self.ca.make(f"m{i}", cn="member")
        for version, program in sorted(programs.items()):
            with self.subTest(version):
                servers = self.launch(lambda i: ["--peer-cert-file", self.ca.path(f"m{i}.pem"), "--peer-key-file", self.ca.path(f"m{i}.key"),
                                                 "--peer-client-cert-auth", "--peer-trusted-ca-file", self.ca.cert, "--peer-cert-allowed-cn", "member"],
                                      programs=[program, PINTLE, PINTLE])
                self.check(servers)
                for s in servers:
                    s.close()

    def test_addresses_in_certificates(self):
        """Names are looked up, addresses compared; a certificate for elsewhere is turned away unless that check is off."""
        self.ca.make("named", sans="DNS:localhost")
        self.ca.make("elsewhere", sans="IP:10.9.8.7")
        self.ca.make("far", sans="DNS:pintle.invalid")
        self.ca.make("bare", sans=None)
        self.ca.make("peer")
        for skip in (False, True):
            port = free_port()
            s = Server(["--peer-cert-file", self.ca.path("peer.pem"), "--peer-key-file", self.ca.path("peer.key"), "--peer-trusted-ca-file", self.ca.cert,
                        "--listen-peer-urls", f"https://127.0.0.1:{port}", "--initial-advertise-peer-urls", f"https://127.0.0.1:{port}",
                        "--initial-cluster", f"default=https://127.0.0.1:{port}", *(["--peer-skip-client-san-verification"] if skip else [])])
            self.addCleanup(self.end, s)
            s.start()
            for cert, good in (("named", True), ("bare", True), ("peer", True), ("elsewhere", skip), ("far", skip)):
                with self.subTest(cert=cert, skip=skip):
                    try:
                        answer = self.get(port, context=self.context(cert))
                    except OSError:
                        answer = b""
                    self.assertEqual(b"etcdserver" in answer, good)
            if not skip:
                self.wait_log(s, "x509: certificate is valid for 10.9.8.7, not 127.0.0.1")
                self.wait_log(s, 'tls: \\"127.0.0.1\\" does not match any of DNSNames [\\"pintle.invalid\\"]')
                self.assertIn("rejected connection on peer endpoint", s.log_text())


if __name__ == "__main__":
    unittest.main(verbosity=2)
