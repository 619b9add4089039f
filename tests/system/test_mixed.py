"""Clusters of etcd and Pintle members: one joins the other's cluster, members are replaced one by one, there and back again.

The etcds are those that tests/oracle/run can have; without any, the tests are skipped.
"""
import importlib.machinery
import importlib.util
import os
import sys
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "cluster"))
import harness  # noqa: E402
from harness import Cluster, Workload, wait_for  # noqa: E402

PINTLE = harness.SERVER


def oracle_script():
    loader = importlib.machinery.SourceFileLoader("oracle_run", os.path.join(ROOT, "tests", "oracle", "run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("oracle_run", loader))
    loader.exec_module(module)
    return module


def etcd(version):
    """The etcd of that version, or a skipped test."""
    named = os.environ.get("PINTLE_ETCD_" + version.replace(".", "_"))
    script = oracle_script()
    program = named or {"3.4": script.fetch_package, "3.7": script.build_module}[version](harness.BINARY_DIR)
    if program is None:
        raise unittest.SkipTest("no etcd %s to be had here" % version)
    return program


class Mixed(unittest.TestCase):
    def cluster(self, programs, most=None, flags=()):
        cluster = Cluster(len(programs), most, programs=programs + [PINTLE] * ((most or len(programs)) - len(programs)),
                          flags=flags)
        self.addCleanup(cluster.close)
        self.addCleanup(self.show_logs, cluster)
        return cluster.start()

    def show_logs(self, cluster):
        result = self._outcome.result
        if any(test is self for test, _ in result.errors + result.failures):
            for m in cluster.all:
                if os.path.exists(m.log_path):
                    print("--- %s, %s\n%s" % (m.name, m.program, "\n".join(
                        line[:300] for line in m.log_text().splitlines()[-15:])), flush=True)

    def load(self, cluster, **options):
        load = Workload(cluster, rate=150, **options)
        self.addCleanup(load.__exit__, None, None, None)
        return load

    def judge(self, cluster, load):
        counts = load.finish()
        self.assertEqual(counts["undecided"], 0)
        self.assertGreater(counts["ok"], 30)
        cluster.check_hashes()
        cluster.check_logs()

    def everyone_leads(self, cluster):
        for m in cluster.members:
            if cluster.leader() is not m:
                cluster.move_leader(m)
                wait_for("%s leads" % m.name, lambda m=m: cluster.leader() is m)
            cluster.retried("put", "led-by", m.name)
            cluster.check_hashes()

    def replace(self, cluster, member, program):
        """The documented way: remove, empty directory, add, start as existing."""
        cluster.remove(member)
        member.stop()
        cluster.add(member, program=program)
        cluster.leader()
        cluster.wait_caught_up(member)

    def began_together(self, version):
        """Both kinds from the first moment, under load, with deaths; each of them leads."""
        other = etcd(version)
        cluster = self.cluster([other, PINTLE, other])
        load = self.load(cluster, leases=1)
        self.everyone_leads(cluster)
        for m in cluster.members:
            m.kill()
            cluster.leader()
            m.start()
            cluster.leader()
            cluster.wait_caught_up(m)
        self.judge(cluster, load)

    def there_and_back(self, version, keep=0):
        """`keep`: members that stay what they are. When the last old etcd is gone the cluster's version goes up, and none may return."""
        other = etcd(version)
        cluster = self.cluster([other] * 3)
        load = self.load(cluster)
        time.sleep(0.5)
        replaced = list(cluster.members)[keep:]
        for program in (PINTLE, other):
            for m in replaced:
                self.replace(cluster, m, program)
                cluster.check_hashes()
        self.judge(cluster, load)

    def put_many(self, cluster, n):
        endpoint = cluster.members[0].endpoint
        done = harness.subprocess.run(
            [os.path.join(harness.BINARY_DIR, "bin", "pintle-bench"), "load", "--endpoint", endpoint,
             "--requests", str(n), "--keys", "2000", "--value-bytes", "32", "--depth", "128"],
            capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def by_snapshot(self, version, source, joiner):
        """A joiner that needs a snapshot from the other kind: the log is gone."""
        other = etcd(version)
        program = {"etcd": other, "pintle": PINTLE}
        # The newer etcd has no such flag and this as its default.
        flags = ["--snapshot-count=10000"] if version == "3.4" else []
        # A cluster founded without an etcd is of a version that an older etcd must not join.
        founders = [program[source]] * 3 if source == "etcd" else [other, PINTLE, PINTLE]
        cluster = self.cluster(founders, most=4, flags=flags)
        if cluster.leader().program != program[source]:
            cluster.move_leader([m for m in cluster.members if m.program == program[source]][0])
            wait_for("the new leader", lambda: cluster.leader().program == program[source])
        self.put_many(cluster, 30000)
        fourth = cluster.all[3]
        cluster.add(fourth, program=program[joiner])

        def serves():
            # An etcd 3.7 takes no proposal, not even its own name, until it has applied an entry behind its snapshot.
            self.put_many(cluster, 1)
            return fourth.status() is not None
        wait_for("the joiner", serves)
        cluster.leader()
        cluster.wait_caught_up(fourth)
        self.assertGreaterEqual(fourth.metric(r"etcd_network_snapshot_receive_success\S*"), 1)
        cluster.check_hashes()

    def test_began_together_with_etcd_3_4(self):
        self.began_together("3.4")

    def test_began_together_with_etcd_3_7(self):
        self.began_together("3.7")

    def test_there_and_back_with_etcd_3_4(self):
        self.there_and_back("3.4", keep=1)

    def test_there_and_back_with_etcd_3_7(self):
        self.there_and_back("3.7")

    def test_pintle_takes_a_snapshot_from_etcd_3_4(self):
        self.by_snapshot("3.4", "etcd", "pintle")

    def test_pintle_takes_a_snapshot_from_etcd_3_7(self):
        self.by_snapshot("3.7", "etcd", "pintle")

    def test_etcd_3_4_takes_a_snapshot_from_pintle(self):
        self.by_snapshot("3.4", "pintle", "etcd")

    def test_etcd_3_7_takes_a_snapshot_from_pintle(self):
        self.by_snapshot("3.7", "pintle", "etcd")


if __name__ == "__main__":
    unittest.main(verbosity=2)
