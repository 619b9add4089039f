"""The loop of kills (tests/kills): nothing acknowledged is lost, and every restart needs nobody."""
import os
import shutil
import subprocess
import tempfile
import unittest

from harness import BINARY_DIR, PINTLE, free_port

KILLS = os.environ.get("PINTLE_KILLS", "220")


class Kills(unittest.TestCase):
    def test_kills_under_load(self):
        directory = tempfile.mkdtemp(prefix="pintle-kills-")
        self.addCleanup(shutil.rmtree, directory, True)
        done = subprocess.run([os.path.join(BINARY_DIR, "tests", "kills"), PINTLE, os.path.join(directory, "data"), str(free_port()), KILLS],
                              capture_output=True, text=True, timeout=540)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"{KILLS} kills", done.stdout)
        print(done.stdout)


if __name__ == "__main__":
    unittest.main()
