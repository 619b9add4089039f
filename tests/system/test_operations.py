"""Looking after a cluster: compaction by itself, members whose data differ, downgrade jobs, warnings about what is slow."""
import json
import os
import signal
import subprocess
import time
import unittest

from harness import BINARY_DIR, Server, ServerCase, etcdctl
from test_services_cluster import FAST, Case
from wire import field

ALTER = os.path.join(BINARY_DIR, "bin", "alter_store")
DOWNGRADE = "/etcdserverpb.Maintenance/Downgrade"
VALIDATE, ENABLE, CANCEL = 0, 1, 2
CORRUPT = 2
GATES = "--feature-gates"


def logged(server, message):
    return [json.loads(x) for x in server.log_text().splitlines() if f'"msg":"{message}"' in x]


class AutoCompaction(Case):
    def test_periodic_on_the_leader_alone(self):
        members = self.cluster(3, more=["--auto-compaction-retention=1s", *FAST])
        leader = self.leader(members)
        for i in range(5):
            self.ctl(leader, "put", "k", str(i))
        done = self.until("a compaction", lambda: [x for m in members for x in logged(m.server, "completed auto periodic compaction")])
        self.assertEqual(done[0]["compact-period"], "1s")
        self.assertIn("took", done[0])
        self.assertTrue(logged(leader.server, "starting auto periodic compaction"))
        for m in members:
            if m is not leader and self.leader(members) is leader:
                self.assertEqual(logged(m.server, "starting auto periodic compaction"), [])
        # What is old goes everywhere, and the newest revision stays.
        self.until("compacted everywhere", lambda: all("required revision has been compacted" in
                   etcdctl(m.server, "get", "k", "--rev", "2").err for m in members))
        self.assertEqual(self.ctl(leader, "get", "k", "--print-value-only"), "4\n")
        self.until("the pass's end", lambda: logged(leader.server, "finished scheduled compaction"))
        self.stop_all(members)

    def test_flags(self):
        for flags, error in ((["--auto-compaction-retention=x"], 'error parsing CompactionRetention: time: invalid duration "x"'),
                             (["--auto-compaction-retention=-1"], 'error parsing CompactionRetention: time: missing unit in duration "-1"')):
            m = self.member("m" + str(len(error)))
            m.server.flags = m.flags(f"{m.name}={m.peer}", more=flags)
            self.assertEqual(self.refused(m), error)
        for flags in (["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"], ["--auto-compaction-retention=8"], ["--auto-compaction-retention=72h"]):
            server = Server(flags).start()
            self.addCleanup(server.close)
            self.assertEqual(etcdctl(server, "put", "a", "b").code, 0)
            self.assertEqual(server.stop(), -signal.SIGTERM)


class Corruption(Case):
    def alter(self, m, key, value):
        subprocess.run([ALTER, os.path.join(m.server.data_dir, "member", "snap"), key, value], check=True, timeout=60)

    def with_an_altered_member(self, more):
        """A cluster one of whose members, not the leader, holds another value of k. It runs again with `more`."""
        members = self.cluster(3, more=FAST)
        leader = self.leader(members)
        for i in range(5):
            self.ctl(leader, "put", "k", f"value-{i}")
        victim = next(m for m in members if m is not leader)
        ids = self.ids(leader)
        revision = self.json(leader, "get", "k")["header"]["revision"]
        self.until("everything there", lambda: json.loads(etcdctl(victim.server, "get", "k", "--consistency=s", "-w", "json").out)["header"]["revision"] == revision)
        self.stop_all(members)
        self.alter(victim, "k", "other--")
        for m in members:
            m.server.flags = m.flags(self.initial, more=[*FAST, *more])
        return members, victim, ids[victim.name]

    def alarms(self, m):
        return sorted((x.get("memberID", 0), x["alarm"]) for x in self.json(m, "alarm", "list").get("alarms", []))

    def check_effects(self, members, m):
        """What a CORRUPT alarm forbids, what it leaves."""
        for words in (["put", "k", "v"], ["del", "k"], ["compact", "2"], ["lease", "grant", "60"]):
            self.assertIn("etcdserver: corrupt cluster", self.ctl(m, *words, code=1))
        self.assertEqual(self.http(m, "/health"), (503, '{"health":"false","reason":"ALARM CORRUPT"}\n'))
        self.assertEqual(self.http(m, "/readyz")[0], 503)
        self.assertEqual(self.http(m, "/livez")[0], 200)
        self.ctl(m, "get", "k")
        self.ctl(m, "member", "list")

    def test_periodic_names_the_offender(self):
        members, victim, victim_id = self.with_an_altered_member(["--corrupt-check-time=1s"])
        self.start_all(members)
        leader = self.leader(members)
        if leader is victim:  # the leader takes itself for right: the first other one is named
            others = [i for name, i in self.ids(leader).items() if name != victim.name]
        else:
            others = [victim_id]
        alarms = self.until("an alarm", lambda: self.alarms(leader))
        self.assertEqual(len(alarms), 1)
        self.assertIn(alarms[0][0], others)
        self.assertEqual(alarms[0][1], CORRUPT)
        self.assertTrue(any(logged(m.server, "same compact revision then hashes must match") for m in members))
        self.check_effects(members, members[0])
        self.stop_all(members)

    def test_periodic_finds_nothing(self):
        members = self.cluster(3, more=["--corrupt-check-time=300ms", *FAST])
        leader = self.leader(members)
        for i in range(30):
            self.ctl(leader, "put", f"k{i}", "v")
        rounds = self.until("three rounds", lambda: len(x := logged(self.leader(members).server, "finished peer corruption check")) >= 3 and x)
        self.assertEqual(rounds[-1]["number-of-peers-checked"], 2)
        self.assertEqual(self.alarms(leader), [])
        self.stop_all(members)

    def test_after_compactions(self):
        members, victim, victim_id = self.with_an_altered_member([GATES, "CompactHashCheck=true", "--compact-hash-check-time=4s"])
        self.start_all(members)
        leader = self.leader(members)
        # Right behind a look, so that all have compacted by the next one; a member that has not does not count, and two are no majority of three.
        self.until("a look", lambda: logged(leader.server, "finished compaction hash check"))
        revision = self.json(leader, "get", "k")["header"]["revision"]
        self.ctl(leader, "compact", str(revision), "--physical")
        self.assertEqual(self.until("an alarm", lambda: self.alarms(leader)), [(victim_id, CORRUPT)])  # two against one, whoever leads
        self.assertTrue(any(logged(m.server, "Detected compaction hash mismatch") for m in members))
        # Disarmed, and the member gone: the cluster goes on.
        self.ctl(leader, "alarm", "disarm")
        self.stop_all(members)

    def test_before_serving(self):
        """A member that differs does not begin to serve; the others do."""
        members, victim, victim_id = self.with_an_altered_member([GATES, "InitialCorruptCheck=true"])
        sound = [m for m in members if m is not victim]
        self.start_all(sound)
        for m in sound:
            self.assertTrue(logged(m.server, "initial corruption checking passed; no corruption"))
        self.assertIn("%x found data inconsistency with peers" % victim_id, self.refused(victim))
        self.ctl(sound[0], "put", "k", "v")
        self.stop_all(sound)


class Downgrade(Case):
    def downgrade(self, m, action, version=""):
        return self.call(m, DOWNGRADE, (field(1, action) if action else b"") + (field(2, version) if version else b""))

    def refusal(self, m, action, version=""):
        return self.error(m, DOWNGRADE, (field(1, action) if action else b"") + (field(2, version) if version else b""))

    def status(self, m):
        return json.loads(self.http(m, "/version")[1])

    def test_jobs(self):
        members = self.cluster(3, more=FAST)
        m = members[0]
        self.until("a version", lambda: self.status(m)["etcdcluster"] == "3.7.0")
        for bad in ("", "3", "3.", "3.6.", "x", "3.6.0.1", "-3.6"):
            self.assertEqual(self.refusal(m, VALIDATE, bad), ("INVALID_ARGUMENT", "etcdserver: wrong downgrade target version format"), bad)
        for bad in ("3.5", "3.7", "3.8", "2.6", "4.6"):
            self.assertEqual(self.refusal(m, VALIDATE, bad), ("INVALID_ARGUMENT", "etcdserver: invalid downgrade target version"), bad)
        self.assertEqual(self.refusal(m, 7, "3.6"), ("UNKNOWN", "etcdserver: unknown method"))
        for good in ("3.6", "3.6.0", "3.6.9"):
            self.assertEqual(self.downgrade(m, VALIDATE, good)[2], [b"3.7"])
        self.assertEqual(self.downgrade(m, CANCEL)[2], [b"3.7"])  # nothing to cancel is no failure
        self.downgrade(m, ENABLE, "3.6")
        self.assertEqual(self.refusal(members[1], ENABLE, "3.6")[0], "FAILED_PRECONDITION" if self.status(members[1])["etcdcluster"] == "3.7.0" else "INVALID_ARGUMENT")
        for x in members:
            self.until("the lower version", lambda x=x: self.status(x) == {"etcdserver": "3.7.1", "etcdcluster": "3.6.0", "storage": "3.6.0"})
            self.until("the word of it", lambda x=x: logged(x.server, "The server is ready to downgrade"))
            self.assertEqual(logged(x.server, "set initial cluster version")[0]["cluster-id"], logged(x.server, "updated cluster version")[0]["cluster-id"])
        self.assertEqual(self.refusal(m, ENABLE, "3.5"), ("FAILED_PRECONDITION", "etcdserver: cluster has a downgrade job in progress"))
        self.ctl(m, "put", "a", "b")
        self.assertEqual(self.downgrade(m, CANCEL)[2], [b"3.6"])
        for x in members:
            self.until("the old version", lambda x=x: self.status(x) == {"etcdserver": "3.7.1", "etcdcluster": "3.7.0", "storage": "3.7.0"})
        self.stop_all(members)


class Warnings(ServerCase):
    flags = ["--warning-apply-duration=1ns", "--warning-unary-request-duration=1ms"]

    def test_apply_and_requests(self):
        self.ctl("put", "k", "v" * 100)
        slow = logged(self.server, "apply request took too long")[-1]
        self.assertEqual(slow["level"], "warn")
        self.assertEqual(slow["expected-duration"], "1ns")
        for key in ("took", "prefix", "request", "response"):
            self.assertIn(key, slow)
        for _ in range(200):
            if logged(self.server, "request stats"):
                break
            self.ctl("put", "k", "v" * 10000)
        stats = logged(self.server, "request stats")[-1]
        self.assertEqual(stats["level"], "warn")
        for key in ("start time", "time spent", "response type", "request count", "request size", "response count", "response size", "request content"):
            self.assertIn(key, stats)


if __name__ == "__main__":
    unittest.main()
