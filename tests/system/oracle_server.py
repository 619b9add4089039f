"""An etcd beside us, for tests that ask both the same. Found where tests/oracle/run puts it; None when there is none."""
import os
import re
import subprocess
import tempfile
import time
import urllib.request

import harness


def programs():
    """{version: program}, of those that are there."""
    place = os.path.join(harness.BINARY_DIR, "oracle")
    found = [os.path.join(place, "etcd-go"), os.path.join(place, "debian", "x", "usr", "bin", "etcd")]
    found = [p for p in found + os.environ.get("PINTLE_ORACLES", "").split(":") if p and os.path.exists(p)]
    out = {}
    for p in found:
        said = subprocess.run([p, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"etcd Version: (\d+\.\d+)", said)
        if version:
            out.setdefault(version.group(1), p)
    return out


class Etcd(harness.Server):
    """One etcd process with the face of harness.Server."""

    def __init__(self, program, flags=()):
        super().__init__(flags)
        self.program = program
        self.peer = f"http://127.0.0.1:{harness.free_port()}"

    def command(self):
        return [self.program, "--name", "m", "--data-dir", os.path.join(self.data_dir, "m"), "--listen-client-urls", self.endpoint,
                "--advertise-client-urls", self.endpoint, "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
                "--initial-cluster", "m=" + self.peer, "--logger", "zap", *self.flags]

    def start(self):
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.command(), stderr=self.log, stdout=self.log)
        deadline = time.monotonic() + harness.START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.endpoint + "/health", timeout=5) as r:
                    if b"true" in r.read():
                        return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"etcd did not get ready:\n{self.log_text()[-3000:]}")
