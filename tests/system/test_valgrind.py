"""A whole life of the server under valgrind's memcheck: no error, nothing lost at the end."""
import os
import re
import shutil
import signal
import subprocess
import unittest

import harness
from harness import Server, etcdctl


class UnderValgrind(Server):
    def command(self):
        return ["valgrind", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect", "--error-exitcode=99",
                *super().command()]


@unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
class Memcheck(unittest.TestCase):
    def test_life(self):
        with open(harness.PINTLE, "rb") as f:
            if b"__asan_init" in f.read() or b"__tsan_init" in f.read():
                self.skipTest("this build carries a sanitizer of its own")
        harness.START_SECONDS = 120
        server = UnderValgrind().start()
        self.addCleanup(server.close)

        def ctl(*words, **more):
            r = etcdctl(server, "--command-timeout=60s", *words, timeout=120, **more)
            self.assertEqual(r.code, 0, f"{words}: {r.out}{r.err}")
            return r.out

        for i in range(20):
            ctl("put", f"k{i}", "v" * 100 * i)
        self.assertEqual(len(ctl("get", "--prefix", "k", "--keys-only").split()), 20)
        self.assertIn("SUCCESS", ctl("txn", stdin='version("k1") = "1"\n\nput a 1\nget k1\ndel k2\n\n\n'))
        lease = re.search(r"lease ([0-9a-f]+) ", ctl("lease", "grant", "60")).group(1)
        ctl("put", "leased", "v", f"--lease={lease}")
        ctl("lease", "keep-alive", "--once", lease)
        ctl("lease", "revoke", lease)
        ctl("compaction", "10", "--physical")
        ctl("defrag")
        ctl("endpoint", "status")
        ctl("endpoint", "hashkv")
        ctl("member", "list")
        watch = subprocess.Popen(["etcdctl", "--endpoints", server.endpoint, "watch", "--prefix", "", "--rev=15"], stdout=subprocess.PIPE,
                                 text=True, env={**os.environ, "ETCDCTL_API": "3"})
        self.assertIn(watch.stdout.readline().strip(), ("PUT", "DELETE"))
        code = server.stop(within=60)
        watch.kill()
        watch.wait()
        watch.stdout.close()
        log = server.log_text()
        self.assertEqual(code, -signal.SIGTERM, log[-2000:])
        self.assertIn("ERROR SUMMARY: 0 errors", log)


if __name__ == "__main__":
    unittest.main()
