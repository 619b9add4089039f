"""A joiner that is killed right after its first start, together with all others, whose members then tell what they knew long ago."""
import glob
import http.server
import json
import os
import subprocess
import threading
import time
import unittest

from test_bootstrap import Case, WAIT_SECONDS

CLUSTER = 0xc1
OLD, JOINER = 0xa1, 0xb2


class Told(http.server.BaseHTTPRequestHandler):
    """A member that tells `server.members`, and nothing else."""

    def do_GET(self):
        answers = {"/members": self.server.members, "/version": {"etcdserver": "3.7.1", "etcdcluster": "3.7.0"}}
        body = json.dumps(answers.get(self.path, {})).encode()
        self.send_response(200 if self.path in answers else 404)
        self.send_header("X-Etcd-Cluster-ID", f"{CLUSTER:x}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


class Joiner(Case):
    def setUp(self):
        super().setUp()
        self.told = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)
        self.told.daemon_threads = True
        threading.Thread(target=self.told.serve_forever, daemon=True).start()
        self.addCleanup(self.told.server_close)
        self.addCleanup(self.told.shutdown)
        peer = f"http://127.0.0.1:{self.told.server_address[1]}"
        self.joiner = self.member("m1")
        self.joiner.server.flags = self.joiner.flags(f"m0={peer},m1={self.joiner.peer}", state="existing")
        self.before = [{"id": OLD, "peerURLs": [peer], "name": "m0", "clientURLs": ["http://127.0.0.1:1"]}]
        self.after = self.before + [{"id": JOINER, "peerURLs": [self.joiner.peer], "name": ""}]

    def begin(self):
        """The process runs; it gets ready only once a leader has told it what there is."""
        s = self.joiner.server
        s.log = open(s.log_path, "ab")
        s.process = subprocess.Popen(s.command(), stdout=s.log, stderr=s.log)

    def until_it(self, what, check):
        deadline = time.monotonic() + WAIT_SECONDS
        while not check():
            self.assertIsNone(self.joiner.server.process.poll(), f"ended instead of: {what}\n{self.joiner.server.log_text()[-3000:]}")
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.02)

    def serves(self, times):
        return len(self.lines(self.joiner, "now serving peer/client/metrics")) == times

    def test_it_starts_again_although_the_others_do_not_know_it_any_more(self):
        self.told.members = self.after
        self.begin()
        self.until_it("a log", lambda: self.serves(1))
        self.assertTrue(glob.glob(os.path.join(self.joiner.server.data_dir, "member", "wal", "*.seg")))
        self.joiner.server.kill()
        self.joiner.server.log.close()
        self.told.members = self.before
        self.begin()
        self.until_it("waiting", lambda: self.lines(self.joiner, "could not ask the cluster again; waiting for its leader"))
        said = self.lines(self.joiner, "could not ask the cluster again; waiting for its leader")[0]
        self.assertEqual((said["local-member-id"], said["cluster-id"]), (f"{JOINER:x}", f"{CLUSTER:x}"))
        self.assertIn("member count is unequal", said["error"])
        self.until_it("an ear for its leader", lambda: self.serves(2))

    def test_who_was_never_let_in_is_refused(self):
        self.told.members = self.before
        self.assertIn("member count is unequal", self.refused(self.joiner))


if __name__ == "__main__":
    unittest.main()
