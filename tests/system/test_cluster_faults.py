"""A few runs of random faults; tools/soak has the long ones. PINTLE_CLUSTER_SEED repeats a seed, PINTLE_CLUSTER_RUNS asks for more."""
import os
import subprocess
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SEED = os.environ.get("PINTLE_CLUSTER_SEED", str(int(time.time()) * 100 % (1 << 31)))
RUNS = os.environ.get("PINTLE_CLUSTER_RUNS", "1")


class Faults(unittest.TestCase):
    def run_faults(self, *words):
        command = [sys.executable, os.path.join(ROOT, "tests", "cluster", "run"), "--seed", SEED, "--runs", RUNS, *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=590, check=False)
        if done.returncode == 77:
            self.skipTest(done.stdout.strip())
        self.assertEqual(done.returncode, 0, done.stdout)
        print(done.stdout, flush=True)

    def test_three_processes(self):
        self.run_faults("--members", "3")

    def test_three_namespaces(self):
        self.run_faults("--members", "3", "--netns")

    def test_five_namespaces(self):
        self.run_faults("--members", "5", "--netns")


if __name__ == "__main__":
    unittest.main(verbosity=2)
