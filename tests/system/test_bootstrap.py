"""How clusters come to be and change: founding, joining, restarting, removal, force-new-cluster, and a leader that stops."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from harness import Server, etcdctl, free_port

WAIT_SECONDS = 60


class Member:
    """One member's addresses, directory and process."""

    def __init__(self, folder, name):
        self.name = name
        self.peer = f"http://127.0.0.1:{free_port()}"
        self.server = Server(data_dir=os.path.join(folder, name))
        self.server.log_path = os.path.join(folder, name + ".log")

    def flags(self, cluster, state="new", token="test-cluster", more=()):
        return ["--name", self.name, "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer, "--initial-cluster", cluster,
                "--initial-cluster-state", state, "--initial-cluster-token", token, *more]


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="pintle-test-")
        self.addCleanup(shutil.rmtree, self.dir, True)

    def member(self, name):
        m = Member(self.dir, name)
        self.addCleanup(m.server.close)
        return m

    def start_all(self, members):
        """A quorum has to be there before anybody gets ready, so all of them start at once."""
        problems = []

        def start(m):
            try:
                m.server.start()
            except AssertionError as e:
                problems.append(e)
        threads = [threading.Thread(target=start, args=[m]) for m in members]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if problems:
            raise problems[0]

    def cluster(self, n, more=()):
        members = [self.member(f"m{i}") for i in range(n)]
        self.initial = ",".join(f"{m.name}={m.peer}" for m in members)
        for m in members:
            m.server.flags = m.flags(self.initial, more=more)
        self.start_all(members)
        return members

    def ctl(self, m, *words, code=0):
        r = etcdctl(m.server, *words)
        self.assertEqual(r.code, code, f"etcdctl {words}: {r.out}{r.err}")
        return r.out if code == 0 else r.err

    def json(self, m, *words):
        return json.loads(self.ctl(m, *words, "-w", "json"))

    def until(self, what, check):
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            got = check()
            if got:
                return got
            time.sleep(0.05)
        self.fail(f"never came: {what}")

    def leader(self, members):
        def find():
            for m in members:
                r = etcdctl(m.server, "endpoint", "status", "-w", "json")
                if r.code == 0:
                    status = json.loads(r.out)[0]["Status"]
                    if status["header"]["member_id"] == status.get("leader"):
                        return m
            return None
        return self.until("a leader", find)

    def ids(self, m):
        return {x.get("name", ""): x["ID"] for x in self.json(m, "member", "list")["members"]}

    def lines(self, m, message):
        """The log's lines with that message."""
        found = []
        for line in m.server.log_text().splitlines():
            if f'"msg":"{message}"' in line:
                found.append(json.loads(line))
        return found

    def refused(self, m, level="fatal"):
        """The error of a start that fails."""
        done = subprocess.run(m.server.command(), capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertNotIn("Sanitizer", done.stderr)
        last = [json.loads(x) for x in done.stderr.splitlines() if f'"level":"{level}"' in x]
        return last[-1]["error"]

    def stop_all(self, members):
        for m in members:
            m.server.process.send_signal(signal.SIGTERM)
        for m in members:
            self.assertEqual(m.server.process.wait(timeout=60), -signal.SIGTERM, m.server.log_text()[-3000:])
            self.assertNotIn("Sanitizer", m.server.log_text())
            m.server.log.close()

    def join(self, m, of, state="existing", more=()):
        """Announce and start a member as etcd's documentation says."""
        self.until("a place for another member", lambda: etcdctl(
            of.server, "member", "add", m.name, "--peer-urls", m.peer).code == 0)
        names = {x["ID"]: x.get("name", "") for x in self.json(of, "member", "list")["members"]}
        urls = {x["ID"]: x["peerURLs"] for x in self.json(of, "member", "list")["members"]}
        cluster = ",".join(f"{names[i] or m.name}={u}" for i in urls for u in urls[i])
        m.server.flags = m.flags(cluster, state, "other-token-does-not-matter", more)
        m.server.start()


class Founding(Case):
    def test_three(self):
        """Written through each, read from each; ids as etcd computes them; and all of it again after a restart."""
        members = self.cluster(3)
        for i, m in enumerate(members):
            self.ctl(m, "put", f"k{i}", f"v{i}")
        want = {f"k{i}": f"v{i}" for i in range(3)}

        def check():
            for m in members:
                pairs = self.ctl(m, "get", "--prefix", "k").split("\n")[:-1]
                self.assertEqual(dict(zip(pairs[::2], pairs[1::2])), want)
        check()
        listed = self.json(members[0], "member", "list")
        self.assertEqual(sorted(x["name"] for x in listed["members"]), ["m0", "m1", "m2"])
        self.assertEqual({x["name"]: x["peerURLs"] for x in listed["members"]}, {m.name: [m.peer] for m in members})
        self.assertEqual({x["name"]: x["clientURLs"] for x in listed["members"]}, {m.name: [m.server.endpoint] for m in members})
        before = (listed["header"]["cluster_id"], self.ids(members[0]))
        self.stop_all(members)
        for m in members:  # what a log knows is not asked of the flags
            m.server.flags = m.flags(f"{m.name}={m.peer}", token="another")
        self.start_all(members)
        check()
        self.assertEqual((self.json(members[1], "member", "list")["header"]["cluster_id"], self.ids(members[2])), before)
        hashes = {x["HashKV"]["hash"] for m in members for x in self.json(m, "endpoint", "hashkv")}
        self.assertEqual(len(hashes), 1)
        self.stop_all(members)

    def test_ids(self):
        m = self.member("one")
        m.peer = "http://127.0.0.1:23801"
        m.server.flags = ["--name", "one", "--initial-advertise-peer-urls", m.peer, "--initial-cluster", "one=" + m.peer]
        m.server.start()
        self.addCleanup(m.server.close)
        header = self.json(m, "get", "k")["header"]
        self.assertEqual((header["member_id"], header["cluster_id"]), (0xbdae9bbc11dd390d, 0xd1cfaf999eb97a2a))
        self.stop_all([m])

    def test_several_peer_urls(self):
        """A member may listen on more than one, and its URLs may be written in any order."""
        members = [self.member(f"m{i}") for i in range(3)]
        more = [f"http://127.0.0.1:{free_port()}" for _ in members]
        initial = ",".join(f"{m.name}={u}" for i, m in enumerate(members) for u in (m.peer, more[i]))
        for i, m in enumerate(members):
            both = f"{more[i]},{m.peer}"
            m.server.flags = ["--name", m.name, "--listen-peer-urls", both, "--initial-advertise-peer-urls", both, "--initial-cluster", initial]
        self.start_all(members)
        for m in members:
            self.ctl(m, "put", m.name, "x")
        self.stop_all(members)

    def test_a_minority_is_not_served(self):
        """One of three waits for the others, and a signal ends it."""
        m = self.member("m0")
        m.server.flags = m.flags(f"m0={m.peer},m1=http://127.0.0.1:{free_port()},m2=http://127.0.0.1:{free_port()}")
        with open(m.server.log_path, "wb") as log:
            m.server.process = subprocess.Popen(m.server.command(), stderr=log, stdout=log)
        m.server.log = log
        self.until("the member to run", lambda: self.lines(m, "starting etcd server"))
        self.assertNotEqual(etcdctl(m.server, "--command-timeout", "3s", "put", "k", "v").code, 0)
        self.assertNotIn("ready to serve client requests", m.server.log_text())
        m.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(m.server.process.wait(timeout=30), -signal.SIGTERM)
        self.assertNotIn("Sanitizer", m.server.log_text())

    def test_refusals(self):
        a, b = free_port(), free_port()
        other = f"http://127.0.0.1:{a}"
        rows = [("new", f"x={other}", "couldn't find local name \"m\" in the initial cluster configuration"),
                ("new", f"m={other}", f"--initial-cluster has m={other} but missing from --initial-advertise-peer-urls=OWN "
                 f"(resolved urls: \"OWN\" != \"{other}\")"),
                ("new", f"m=OWN,m={other}", f"--initial-cluster has m={other} but missing from --initial-advertise-peer-urls=OWN "
                 f"(len([OWN]) != len([SORTED]))"),
                ("new", "m=OWN,y=OWN", "initial cluster m=OWN,y=OWN has duplicate url"),
                ("new", "m=OWN,y=ftp://a", "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ftp://a"),
                ("new", "m=OWN,y=http://a", "error setting up initial cluster: URL address does not have the form \"host:port\": http://a"),
                ("existing", f"x={other}", "couldn't find local name \"m\" in the initial cluster configuration"),
                ("existing", "m=OWN,y=OWN", "initial cluster m=OWN,y=OWN has duplicate url"),
                ("existing", f"m=OWN,y=http://127.0.0.1:{b}",
                 "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"),
                ("existing", "m=OWN", "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs")]
        for state, cluster, error in rows:
            with self.subTest(state=state, cluster=cluster):
                m = self.member("m")
                m.server.flags = m.flags(cluster.replace("OWN", m.peer), state)
                text = error.replace("OWN", m.peer).replace("SORTED", " ".join(sorted([m.peer, other])))
                self.assertEqual(self.refused(m), text)
                self.assertEqual(glob.glob(m.server.data_dir + "/member/wal/*.seg"), [], "nothing was founded")

    def test_names_are_resolved(self):
        """127.1 and 127.0.0.1 are one address; which one the ids are made of is what --initial-cluster says."""
        m = self.member("m")
        port = m.peer.rsplit(":", 1)[1]
        m.server.flags = ["--name", "m", "--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", f"http://127.1:{port}",
                          "--initial-cluster", f"m={m.peer}"]
        m.server.start()
        self.assertEqual(self.json(m, "member", "list")["members"][0]["peerURLs"], [m.peer])
        self.stop_all([m])

    def test_a_lost_disk_is_no_founder(self):
        """It may have acknowledged what it forgot: the others say that it was there."""
        members = self.cluster(3)
        lost = members[0]
        lost_id = self.ids(members[1])["m0"]
        lost.server.kill()
        lost.server.log.close()
        shutil.rmtree(lost.server.data_dir)
        self.assertEqual(self.refused(lost), f"member {lost_id:x} has already been bootstrapped")
        self.ctl(members[1], "put", "k", "v")
        self.stop_all(members[1:])

    def test_other_token(self):
        """With another token the ids differ, and nobody listens to the stranger: the cluster goes on, it never gets ready."""
        members = self.cluster(3)
        members[0].server.kill()
        members[0].server.log.close()
        shutil.rmtree(members[0].server.data_dir)
        stranger = members[0]
        stranger.server.flags = stranger.flags(self.initial, token="another")
        with open(stranger.server.log_path, "wb") as log:
            stranger.server.process = subprocess.Popen(stranger.server.command(), stderr=log, stdout=log)
        stranger.server.log = log
        self.until("word of the other cluster", lambda: re.search("cluster.ID.mismatch|ClusterID|cluster ID", "".join(
            m.server.log_text() for m in members), re.I))
        self.ctl(members[1], "put", "k", "v")
        self.assertEqual(self.ctl(members[2], "get", "k"), "k\nv\n")
        self.assertNotIn("ready to serve client requests", stranger.server.log_text())
        stranger.server.process.send_signal(signal.SIGTERM)
        self.assertIsNotNone(stranger.server.process.wait(timeout=30))
        self.stop_all(members[1:])


class Joining(Case):
    def test_grow_and_shrink(self):
        """From one to three, each by etcd's documented steps; the removed one ends by itself, and again when it is started."""
        members = self.cluster(1)
        for i in range(20):
            self.ctl(members[0], "put", f"k{i:02}", "v")
        for name in ("m1", "m2"):
            m = self.member(name)
            self.join(m, members[0])
            self.assertEqual(len(self.ctl(m, "get", "--prefix", "k", "--keys-only").split()), 20)
            self.ctl(m, "put", name, "joined")
            members.append(m)
        self.assertEqual(sorted(self.ids(members[2])), ["m0", "m1", "m2"])
        gone = members[1]
        gone_id = self.ids(members[0])["m1"]
        self.until("a healthy cluster", lambda: etcdctl(members[0].server, "member", "remove", f"{gone_id:x}").code == 0)
        self.assertEqual(gone.server.process.wait(timeout=30), 0)
        gone.server.log.close()
        said = self.lines(gone, "server error")
        self.assertEqual([x["error"] for x in said], ["the member has been permanently removed from the cluster"])
        self.assertEqual(len(self.lines(gone, "data-dir used by this member must be removed")), 1)
        self.assertNotIn("Sanitizer", gone.server.log_text())
        self.assertEqual(sorted(self.ids(members[0])), ["m0", "m2"])
        self.ctl(members[2], "put", "after", "removal")
        again = subprocess.run(gone.server.command(), capture_output=True, text=True, timeout=60)
        self.assertEqual(again.returncode, 0, again.stderr[-3000:])
        self.assertIn("data-dir used by this member must be removed", again.stderr)
        members.remove(gone)
        self.stop_all(members)

    def test_restart_of_a_joiner(self):
        """Its flags still say existing, and do not count: its log does."""
        members = self.cluster(1)
        m = self.member("m1")
        self.join(m, members[0])
        self.ctl(m, "put", "k", "v")
        m.server.kill()
        m.server.log.close()
        m.server.flags = m.flags("nonsense=http://127.0.0.1:1", "existing")
        m.server.start()
        self.assertEqual(self.ctl(m, "get", "k"), "k\nv\n")
        self.stop_all(members + [m])

    def test_replace(self):
        """A member that lost its disk: remove, add, start with state existing."""
        members = self.cluster(3)
        self.ctl(members[0], "put", "k", "v")
        lost = members[2]
        lost_id = self.ids(members[0])["m2"]
        lost.server.kill()
        lost.server.log.close()
        shutil.rmtree(lost.server.data_dir)
        self.until("removal", lambda: etcdctl(members[0].server, "member", "remove", f"{lost_id:x}").code == 0)
        self.join(lost, members[1])
        self.assertEqual(self.ctl(lost, "get", "k"), "k\nv\n")
        self.assertNotEqual(self.ids(lost)["m2"], lost_id)
        self.stop_all(members)

    def test_learner(self):
        members = self.cluster(1)
        m = self.member("m1")
        self.ctl(members[0], "member", "add", m.name, "--peer-urls", m.peer, "--learner")
        m.server.flags = m.flags(f"m0={members[0].peer},m1={m.peer}", "existing")
        m.server.start()
        listed = {x["name"]: x.get("isLearner", False) for x in self.json(members[0], "member", "list")["members"]}
        self.assertEqual(listed, {"m0": False, "m1": True})
        m_id = self.ids(members[0])["m1"]
        self.until("promotion", lambda: etcdctl(members[0].server, "member", "promote", f"{m_id:x}").code == 0)
        self.ctl(m, "put", "k", "v")
        self.stop_all(members + [m])

    def test_no_learners(self):
        members = self.cluster(1, more=["--max-learners=0"])
        self.assertIn("too many learner members in cluster",
                      self.ctl(members[0], "member", "add", "x", "--learner", "--peer-urls", "http://127.0.0.1:1", code=1))
        self.stop_all(members)

    def test_refusals(self):
        members = self.cluster(1, more=["--max-learners=2"])
        m = self.member("m1")
        m.server.flags = m.flags(f"m0={members[0].peer},m1={m.peer}", "existing")
        self.assertRegex(self.refused(m), r"^error validating peerURLs \{ClusterID:[0-9a-f]+ Members:\[&\{ID:[0-9a-f]+ RaftAttributes:\{PeerURLs:\["
                         + re.escape(members[0].peer) + r"\] IsLearner:false\} Attributes:\{Name:m0 ClientURLs:\["
                         + re.escape(members[0].server.endpoint) + r"\]\}\}\] RemovedMemberIDs:\[\]\}: member count is unequal$")
        self.ctl(members[0], "member", "add", "m1", "--peer-urls", f"http://127.0.0.1:{free_port()}", "--learner")
        self.assertRegex(self.refused(m), r": PeerURLs: no match found for existing member \([0-9a-f]+, \[http://127.0.0.1:\d+\]\), "
                         r'last resolver error \(resolved urls: ".*" != ".*"\)$')
        added = [x for x in self.json(members[0], "member", "list")["members"] if "name" not in x][0]
        m.peer = added["peerURLs"][0]
        another = f"http://127.0.0.1:{free_port()}"
        self.until("another learner", lambda: etcdctl(members[0].server, "member", "add", "m2", "--peer-urls", another, "--learner").code == 0)
        m.server.flags = m.flags(f"m0={members[0].peer},m1={m.peer},m2={another}", "existing")
        self.assertEqual(self.refused(m), "membership: too many learner members in cluster")
        self.assertEqual(glob.glob(m.server.data_dir + "/member/wal/*.seg"), [])
        self.stop_all(members)


class Disaster(Case):
    def test_force_new_cluster(self):
        """Two of three are gone for good: the third goes on alone with everything that was acknowledged, under its old id."""
        members = self.cluster(3)
        for i in range(20):
            self.ctl(members[i % 3], "put", f"k{i:02}", f"v{i}")
        survivor = members[0]
        self.assertEqual(len(self.ctl(survivor, "get", "--prefix", "k", "--keys-only").split()), 20)
        own_id = self.ids(survivor)["m0"]
        self.stop_all([survivor])
        for m in members[1:]:
            m.server.kill()
            m.server.log.close()
        survivor.server.flags = survivor.flags(self.initial, more=["--force-new-cluster"])
        survivor.server.start()
        self.assertEqual(self.ids(survivor), {"m0": own_id})
        self.assertEqual(len(self.ctl(survivor, "get", "--prefix", "k", "--keys-only").split()), 20)
        self.ctl(survivor, "put", "more", "x")
        self.stop_all([survivor])
        survivor.server.flags = survivor.flags(self.initial)
        survivor.server.start()
        self.assertEqual(self.ctl(survivor, "get", "more"), "more\nx\n")
        another = self.member("m3")
        self.join(another, survivor)
        self.assertEqual(self.ctl(another, "get", "more"), "more\nx\n")
        self.stop_all([survivor, another])


class Stopping(Case):
    def test_the_leader_hands_over(self):
        members = self.cluster(3)
        old = self.leader(members)
        self.until("links that have been up for a while", lambda: etcdctl(old.server, "endpoint", "health").code == 0)
        self.stop_all([old])
        self.assertEqual(len(self.lines(old, "leadership transfer starting")), 1)
        done = self.lines(old, "leadership transfer finished")
        self.assertEqual(len(done), 1, old.server.log_text()[-3000:])
        rest = [m for m in members if m is not old]
        leader = self.leader(rest)
        self.assertEqual(done[0]["transferee-member-id"], f"{self.ids(leader)[leader.name]:x}")
        self.ctl(rest[0], "put", "k", "v")
        follower = [m for m in rest if m is not leader][0]
        self.stop_all([follower])
        self.assertEqual(len(self.lines(follower, "skipped leadership transfer; local server is not leader")), 1)
        leader.server.process.send_signal(signal.SIGTERM)  # the last of three has no quorum and nobody to hand over to
        self.assertEqual(leader.server.process.wait(timeout=60), -signal.SIGTERM)
        self.assertNotIn("Sanitizer", leader.server.log_text())

    def test_alone(self):
        members = self.cluster(1)
        self.stop_all(members)
        self.assertEqual(len(self.lines(members[0], "skipped leadership transfer for single voting member cluster")), 1)


if __name__ == "__main__":
    unittest.main()
