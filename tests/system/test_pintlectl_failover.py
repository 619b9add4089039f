"""pintlectl with several endpoints: what runs goes on when the member it is connected to dies.

PINTLE_CTL names another program with etcdctl's commands to tell the same story of.
"""
import os
import re
import signal
import subprocess
import threading
import unittest

from harness import BINARY_DIR
from test_bootstrap import Case as Members

PROGRAM = os.environ.get("PINTLE_CTL", os.path.join(BINARY_DIR, "bin", "pintlectl"))
SECONDS = 60
TTL = 12  # seconds; leases are renewed every third of it, and an election takes less


class Running:
    """A command that goes on, and the lines it has written."""

    def __init__(self, test, members, *words):
        endpoints = ",".join(m.server.endpoint for m in members)
        self.words, self.lines = words, []
        self.process = subprocess.Popen([PROGRAM, "--endpoints", endpoints, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")))
        self.reader.start()
        test.addCleanup(self.close)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def interrupt(self):
        """The exit code and what was written to standard error."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=SECONDS), self.process.stderr.read()

    def text(self):
        return "".join(self.lines)


class FailOver(Members):
    def run_one(self, members, *words):
        endpoints = ",".join(m.server.endpoint for m in members)
        done = subprocess.run([PROGRAM, "--endpoints", endpoints, *words], capture_output=True, text=True, timeout=SECONDS)
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def await_line(self, running, pattern):
        self.until(f"{running.words} to say {pattern}", lambda: running.process.poll() is not None or re.search(pattern, running.text()))
        self.assertIsNone(running.process.poll(), f"{running.words} has ended")

    @staticmethod
    def lease_of(key):
        return key.strip().split("/")[1]

    def waiting(self, members, first):
        """The key of the other one who wants the lock."""
        return next(k for k in self.run_one(members, "get", "name/", "--prefix", "--keys-only").split() if k != first.strip())

    def remaining(self, members, lease):
        return int(re.search(r"remaining\((\d+)s\)", self.run_one(members, "lease", "timetolive", lease))[1])

    def test_the_death_of_the_member_in_use(self):
        members = self.cluster(3)
        others = members[1:]
        self.run_one(others, "put", "w/first", "0")
        watch = Running(self, members, "watch", "w/", "--prefix", "--rev", "2")
        self.await_line(watch, "w/first")
        holder = Running(self, members, "lock", "name", "--ttl", str(TTL))
        self.await_line(holder, "name/")
        waiter = Running(self, members, "lock", "name", "--ttl", str(TTL))
        leader = Running(self, members, "elect", "office", "one")
        self.await_line(leader, "one")
        follower = Running(self, members, "elect", "office", "two")
        observer = Running(self, members, "elect", "-l", "office")
        self.await_line(observer, "one")
        self.until("two to wait for the lock, and two to stand", lambda: len(
            re.findall("^(?:name|office)/", self.run_one(others, "get", "n", "p", "--keys-only"), re.M)) == 4)
        granted = self.run_one(others, "lease", "grant", str(TTL))
        lease = re.search(r"lease (\w+) granted", granted)[1]
        keeper = Running(self, members, "lease", "keep-alive", lease)
        self.await_line(keeper, "keepalived")
        place = holder.lines[0]

        self.run_one(others, "put", "w/before", "1")
        members[0].server.kill()
        self.until("a leader", lambda: subprocess.run(
            [PROGRAM, "--endpoints", others[0].server.endpoint, "put", "w/after", "2"], capture_output=True, timeout=SECONDS).returncode == 0)
        with self.subTest("a watch misses nothing and says nothing twice"):
            self.await_line(watch, "w/after")
            self.run_one(others, "put", "w/last", "3")
            self.await_line(watch, "w/last")
            keys = [line.strip() for line in watch.lines if line.startswith("w/")]
            self.assertEqual(keys[:2], ["w/first", "w/before"])
            self.assertEqual(set(keys), {"w/first", "w/before", "w/after", "w/last"})
            revisions = self.run_one(others, "get", "w/after", "-w", "fields")
            self.assertEqual(keys.count("w/after"), int(re.search(r'"Version" : (\d+)', revisions)[1]))
            self.assertEqual((keys.count("w/first"), keys.count("w/before"), keys.count("w/last")), (1, 1, 1))
        with self.subTest("leases are renewed"):
            leases = [lease, self.lease_of(place), self.lease_of(self.waiting(others, place))]
            lowest = [self.remaining(others, x) for x in leases]
            renewed = set()

            def all_renewed():
                for i, x in enumerate(leases):
                    now = self.remaining(others, x)
                    renewed.update([x] if now > lowest[i] else [])
                    lowest[i] = min(now, lowest[i])
                return renewed == set(leases)
            self.until("every lease to live longer again", all_renewed)
            self.assertIsNone(keeper.process.poll())
        with self.subTest("a lock is kept, and handed on"):
            self.assertIsNone(holder.process.poll())
            self.assertEqual(waiter.lines, [])
            self.assertEqual(self.run_one(others, "get", place.strip(), "--keys-only").split(), [place.strip()])
            self.assertEqual(holder.interrupt(), (0, ""))
            self.await_line(waiter, "name/")
            self.assertNotEqual(waiter.lines[0], place)
            self.assertEqual(waiter.interrupt(), (0, ""))
        with self.subTest("an office is kept, and handed on"):
            self.assertIsNone(leader.process.poll())
            self.assertEqual(follower.lines, [])
            self.assertEqual(leader.interrupt(), (0, ""))
            self.await_line(follower, "two")
            self.await_line(observer, "two")
            self.assertEqual([line.strip() for line in observer.lines[1::2]], ["one", "two"])
            self.assertEqual(follower.interrupt(), (0, ""))


del Members
if __name__ == "__main__":
    unittest.main()
