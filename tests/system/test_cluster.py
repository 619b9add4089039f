"""A cluster of real processes in daily life: members die, come back, join, leave and are restarted, under load that is judged.

PINTLE_CLUSTER_SERVER names another server with etcd's flags to run the same stories against.
"""
import json
import os
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "cluster"))
import harness  # noqa: E402
from harness import BINARY_DIR, Cluster, Workload, wait_for  # noqa: E402

WRITES = int(os.environ.get("PINTLE_CLUSTER_WRITES", "100000"))
IS_PINTLE = os.path.basename(harness.SERVER) == "pintle"
RATE = 250


class Case(unittest.TestCase):
    def cluster(self, n=3, most=None, flags=()):
        cluster = Cluster(n, most, flags=flags)
        self.addCleanup(cluster.close)
        self.addCleanup(self.show_logs, cluster)
        return cluster.start()

    def show_logs(self, cluster):
        result = self._outcome.result
        if any(test is self for test, _ in result.errors + result.failures):
            for m in cluster.all:
                if os.path.exists(m.log_path):
                    print("--- %s\n%s" % (m.name, "\n".join(line[:300] for line in m.log_text().splitlines()[-12:])), flush=True)

    def load(self, cluster, members=None, **options):
        options.setdefault("rate", RATE)
        load = Workload(cluster, members, **options)
        self.addCleanup(load.__exit__, None, None, None)
        return load

    def judge(self, cluster, load, cut=0, failed=0):
        counts = load.finish(cut=cut, failed=failed)
        self.assertGreater(counts["ok"], 50)
        self.assertEqual(counts["undecided"], 0)
        cluster.check_hashes()
        cluster.check_logs()
        return counts

    def say(self, text):
        print("%s: %s" % (self._testMethodName, text), flush=True)


class Stories(Case):
    def test_a_write_survives_the_death_of_its_leader(self):
        cluster = self.cluster()
        times = []
        for i in range(4):
            leader = cluster.leader()
            cluster.ctl("put", "survivor", "value %d" % i, endpoints=[leader])
            began = time.monotonic()
            leader.kill()
            others = cluster.serving()

            def read():
                got = cluster.ctl("get", "survivor", "--print-value-only", endpoints=others, check=False, timeout=2)
                return got.stdout.strip() if got.returncode == 0 else None
            self.assertEqual(wait_for("a read after the leader's death", read, pause=0.02), "value %d" % i)
            times.append(time.monotonic() - began)
            cluster.ctl("put", "next", str(i), endpoints=others)
            leader.start()
            cluster.leader()
            cluster.wait_caught_up(leader)
        cluster.check_hashes()
        self.say("read again after " + ", ".join("%.2f s" % t for t in times))

    def test_a_damaged_member_is_replaced_by_the_documented_steps(self):
        cluster = self.cluster()
        load = self.load(cluster, leases=1)
        broken = cluster.followers()[0]
        time.sleep(0.5)  # so that there is something to lose
        broken.kill()
        damage(broken.directory)
        listed = cluster.ctl("member", "list", endpoints=cluster.serving()).stdout
        member_id = re.search(r"^(\w+), started, %s," % broken.name, listed, re.M).group(1)
        done = cluster.retried("member", "remove", member_id)
        self.assertIn("Member %s removed from cluster" % member_id, done.stdout)
        cluster.members.remove(broken)
        cluster.add(broken)  # empties the directory and starts with --initial-cluster-state existing
        cluster.leader()
        cluster.wait_caught_up(broken)
        listed = cluster.ctl("member", "list").stdout
        self.assertEqual(len(re.findall(r", started, ", listed)), 3, listed)
        self.assertNotIn(member_id, listed)
        # Full strength: any one of the others may go now.
        other = [m for m in cluster.members if m is not broken][0]
        other.kill()
        cluster.leader()
        cluster.retried("put", "full", "strength")
        other.start()
        cluster.leader()
        counts = self.judge(cluster, load)
        self.say("%(operations)d operations, %(events)d events" % counts)

    def test_a_follower_away_for_many_writes_returns_by_snapshot(self):
        cluster = self.cluster(flags=["--snapshot-count=10000"])
        load = self.load(cluster, rate=50)
        away = cluster.followers()[0]
        away.kill()
        began = time.monotonic()
        done = subprocess.run([os.path.join(BINARY_DIR, "bin", "pintle-bench"), "load", "--endpoint", cluster.leader().endpoint,
                               "--requests", str(WRITES), "--keys", "5000", "--value-bytes", "64", "--depth", "128"],
                              capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        wrote = time.monotonic() - began
        began = time.monotonic()
        away.start()
        cluster.leader()
        cluster.wait_caught_up(away)
        took = time.monotonic() - began
        self.assertGreaterEqual(away.metric(r"etcd_network_snapshot_receive_success\S*"), 1)
        self.judge(cluster, load)
        self.say("%d writes in %.1f s, back after %.1f s" % (WRITES, wrote, took))

    def test_a_learner_joins_and_is_promoted(self):
        cluster = self.cluster(3, most=4)
        load = self.load(cluster, members=cluster.all, leases=1)
        learner = cluster.all[3]
        cluster.add(learner, learner=True)
        wait_for("the learner is listed by name", lambda: learner.name in cluster.learners())
        refused = cluster.ctl("get", "x", endpoints=[learner], check=False, timeout=3)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("rpc not supported for learner", refused.stdout + refused.stderr)
        again = cluster.ctl("member", "add", "more", "--peer-urls=http://127.0.0.1:1", "--learner", check=False,
                            endpoints=cluster.members[:3])
        self.assertIn("too many learner members in cluster", again.stderr)
        cluster.promote(learner)
        self.assertEqual(cluster.learners(), set())
        cluster.leader()
        cluster.ctl("get", "x", endpoints=[learner])
        # It counts: with one of the old members away three of four are a quorum, and it can lead.
        away = [m for m in cluster.members if m is not learner][0]
        away.kill()
        cluster.leader()
        cluster.move_leader(learner)
        wait_for("the promoted learner leads", lambda: cluster.leader() is learner)
        cluster.retried("put", "led", "by the learner")
        away.start()
        cluster.leader()
        self.judge(cluster, load)

    def test_three_to_five_to_three_members(self):
        cluster = self.cluster(3, most=5)
        founders = list(cluster.members)
        leaving = founders[:2]
        load = self.load(cluster, members=cluster.all, leaving=leaving)
        for m in cluster.all[3:]:
            cluster.add(m)
            cluster.leader()
            cluster.wait_caught_up(m)
        self.assertEqual(len(cluster.statuses()), 5)
        # Any two of the five.
        pair = [cluster.leader(), cluster.followers()[0]]
        for m in pair:
            m.kill()
        cluster.leader()
        cluster.retried("put", "three", "of five")
        for m in pair:
            m.start()
        cluster.leader()
        for m in leaving:
            cluster.remove(m)
            wait_for("%s ends, having been removed" % m.name, lambda m=m: not m.alive())
            cluster.leader()
        self.assertEqual(len(cluster.member_ids()), 3)
        counts = self.judge(cluster, load, cut=2)
        self.say("%(operations)d operations, slowest request %(worst_ms)d ms" % counts)

    def test_rolling_restart_without_a_failed_request(self):
        cluster = self.cluster()
        load = self.load(cluster, rate=400, leases=1)
        for m in cluster.members:
            m.stop()
            m.start()
            cluster.leader()
            cluster.wait_caught_up(m)
        counts = self.judge(cluster, load)
        self.assertEqual(counts["failed"], 0)
        self.assertLess(counts["worst_ms"], 5000)
        self.say("%(requests)d requests, %(unknown)d writes without an answer, slowest %(worst_ms)d ms" % counts)
        if IS_PINTLE:
            # etcd's clients repeat by themselves reads and what no server has seen, but no other write.
            self.assertEqual(counts["unknown"], 0, counts["text"])

    def test_leadership_moves_on_request(self):
        cluster = self.cluster()
        load = self.load(cluster, leases=1)
        for m in cluster.members * 2:
            if cluster.leader() is not m:
                cluster.move_leader(m)
                wait_for("%s leads" % m.name, lambda m=m: cluster.leader() is m)
        refused = cluster.ctl("move-leader", "1", endpoints=[cluster.leader()], check=False)
        self.assertNotEqual(refused.returncode, 0)
        counts = self.judge(cluster, load)
        self.say("slowest request %(worst_ms)d ms" % counts)

    def test_without_a_quorum_nothing_is_acknowledged(self):
        cluster = self.cluster()
        last = cluster.followers()[0]
        for m in cluster.members:
            if m is not last:
                m.kill()
        put = cluster.ctl("put", "alone", "1", endpoints=[last], check=False, timeout=3)
        self.assertNotEqual(put.returncode, 0)
        stale = cluster.ctl("get", "alone", "--consistency=s", endpoints=[last], timeout=3)
        self.assertEqual(stale.stdout, "")
        for m in cluster.members:
            if m is not last:
                m.start()
        cluster.leader()
        cluster.retried("put", "alone", "2")
        self.assertEqual(json.loads(cluster.ctl("get", "alone", "-w", "json").stdout)["count"], 1)
        cluster.check_hashes()


def damage(directory):
    """Overwrite the middle of every file of a data directory."""
    hit = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            size = os.path.getsize(path)
            if size >= 4096:
                with open(path, "r+b") as f:
                    f.seek(size // 4)
                    f.write(os.urandom(min(size // 2, 1 << 20)))
                hit += 1
    if hit == 0:
        raise AssertionError("no file to damage in " + directory)


if __name__ == "__main__":
    unittest.main(verbosity=2)
