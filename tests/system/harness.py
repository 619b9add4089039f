"""A server of one's own for each test: started on free loopback ports with a fresh data directory, stopped by pid."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from ports import free_port  # noqa: E402,F401 (the tests take it from here)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY_DIR = os.environ.get("PINTLE_BINARY_DIR", os.path.join(ROOT, "build", "release"))
PINTLE = os.path.join(BINARY_DIR, "bin", "pintle")
START_SECONDS = 60


class Server:
    """One pintle process. `flags` are added to the usual ones."""

    def __init__(self, flags=(), data_dir=None, port=None, environment=None):
        self.own_dir = data_dir is None
        self.data_dir = data_dir or tempfile.mkdtemp(prefix="pintle-test-")
        self.port = port or free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.flags = list(flags)
        self.environment = environment or {}
        self.process = None
        self.log_path = os.path.join(self.data_dir, "..", os.path.basename(self.data_dir) + ".log")

    def command(self):
        return [PINTLE, "--data-dir", self.data_dir, "--listen-client-urls", self.endpoint,
                "--advertise-client-urls", self.endpoint, "--listen-peer-urls", "http://127.0.0.1:0", *self.flags]

    def start(self):
        self.log = open(self.log_path, "ab")
        offset = self.log.tell()
        self.process = subprocess.Popen(self.command(), stderr=self.log, stdout=self.log,
                                        env={**os.environ, **self.environment})
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with open(self.log_path, "rb") as f:
                f.seek(offset)
                if b'"msg":"ready to serve client requests"' in f.read():
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f"server did not get ready (exit {self.process.poll()}):\n{self.log_text()[-3000:]}")

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, signum=signal.SIGTERM, within=30):
        self.process.send_signal(signum)
        return self.process.wait(timeout=within)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self.process is not None:
            self.log.close()
        if self.own_dir:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            if os.path.exists(self.log_path):
                os.unlink(self.log_path)


class Result:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr


def etcdctl(server, *words, stdin=None, timeout=30):
    done = subprocess.run(["etcdctl", "--endpoints", server.endpoint, *words], input=stdin, capture_output=True,
                          text=True, timeout=timeout, env={**os.environ, "ETCDCTL_API": "3"})
    return Result(done)


class ServerCase(unittest.TestCase):
    """A test class with one server for each test method."""

    flags = ()

    def setUp(self):
        self.server = Server(self.flags).start()
        self.addCleanup(self.server.close)

    def ctl(self, *words, code=0, **more):
        """Run etcdctl, expect an exit code, return standard output."""
        r = etcdctl(self.server, *words, **more)
        self.assertEqual(r.code, code, f"etcdctl {words}: {r.out}{r.err}")
        return r.out if code == 0 else r.out + r.err

    def json(self, *words):
        return json.loads(self.ctl(*words, "-w", "json"))

    def tearDown(self):
        if self.server.process.poll() is not None:
            return
        self.assertEqual(self.server.stop(), -signal.SIGTERM)
        self.assertNotIn("Sanitizer", self.server.log_text())


class SharedServerCase(unittest.TestCase):
    """A test class with one server for all of its methods."""

    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(cls.flags).start()

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        log = cls.server.log_text()
        cls.server.close()
        assert code == -signal.SIGTERM and "Sanitizer" not in log, log[-4000:]
