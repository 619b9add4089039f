"""What each service does when there is more than one member: who answers, who asks the leader, and what is said while there is none."""
import os
import queue
import signal
import threading
import time
import unittest
import urllib.error
import urllib.request

import grpc

import oracle_server
import test_bootstrap
from harness import etcdctl
from wire import field, fields

ELECTION_SECONDS = 0.5
FAST = ["--heartbeat-interval", "50", "--election-timeout", "500"]
REQUEST_TIMEOUT = 5 + 2 * ELECTION_SECONDS
LEASE_GRANT = "/etcdserverpb.Lease/LeaseGrant"
KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"
TIME_TO_LIVE = "/etcdserverpb.Lease/LeaseTimeToLive"
RANGE, PUT, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"
STATUS, SNAPSHOT = "/etcdserverpb.Maintenance/Status", "/etcdserverpb.Maintenance/Snapshot"
MOVE = "/etcdserverpb.Maintenance/MoveLeader"
CLUSTER = "/etcdserverpb.Cluster/Member"
LED = [("hasleader", "true")]


class Stream:
    """A stream both ways; `get` gives decoded messages, or the error that ended it."""

    def __init__(self, channel, path, metadata=None):
        self.requests = queue.Queue()
        self.replies = queue.Queue()
        self.call = channel.stream_stream(path)(iter(self.requests.get, None), metadata=metadata)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for m in self.call:
                self.replies.put(fields(m))
            self.replies.put(None)
        except grpc.RpcError as e:
            self.replies.put(e)

    def send(self, message):
        self.requests.put(message)

    def get(self, timeout=20):
        return self.replies.get(timeout=timeout)


class Case(test_bootstrap.Case):
    def channel(self, m):
        c = grpc.insecure_channel(f"127.0.0.1:{m.server.port}", options=[("grpc.max_receive_message_length", -1)])
        self.addCleanup(c.close)
        return c

    def call(self, m, path, message=b"", metadata=None, timeout=30):
        return fields(self.channel(m).unary_unary(path)(message, metadata=metadata, timeout=timeout))

    def error(self, m, path, message=b"", metadata=None, timeout=30):
        with self.assertRaises(grpc.RpcError) as raised:
            self.channel(m).unary_unary(path)(message, metadata=metadata, timeout=timeout)
        return raised.exception.code().name, raised.exception.details()

    def http(self, m, path):
        try:
            with urllib.request.urlopen(m.server.endpoint + path, timeout=20) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def metric(self, m, name):
        for line in self.http(m, "/metrics")[1].splitlines():
            if line.startswith(name + " ") or line.startswith(name + "{"):
                return float(line.rsplit(" ", 1)[1])
        self.fail(f"no metric {name}")

    def id_of(self, m):
        return fields(self.call(m, STATUS)[1][0])[2][0] & (1 << 64) - 1


class ClusterCase(Case):
    more = []

    def setUp(self):
        super().setUp()
        self.members = self.cluster(3, more=FAST + self.more)
        self.led = self.leader(self.members)
        self.followers = [m for m in self.members if m is not self.led]

    def tearDown(self):
        """Calls that waited and streams that stayed open are no reason to stop badly."""
        alive = [m for m in self.members if m.server.process.poll() is None]
        self.stop_all(alive)


class Leases(ClusterCase):
    def test_through_followers(self):
        follower = self.followers[0]
        ids = [self.call(follower, LEASE_GRANT, field(1, 60 + i))[2][0] for i in range(40)]
        # One stream, all at once: answers in order, unknown leases among them.
        for m in (follower, self.led):
            s = Stream(self.channel(m), KEEP_ALIVE)
            asked = [x for i in ids for x in (i, 12345)]
            for i in asked:
                s.send(field(1, i))
            for i in asked:
                got = s.get()
                self.assertEqual(got[2], [i])
                self.assertEqual(got.get(3, [0]), [60 + ids.index(i)] if i in ids else [0])
                header = fields(got[1][0])
                self.assertEqual(header[2][0] & (1 << 64) - 1, self.id_of(m))
            s.requests.put(None)
            self.assertIsNone(s.get())
        self.assertGreaterEqual(self.metric(self.led, "etcd_debugging_lease_renewed_total"), 2 * len(ids))
        # Remaining times come from the leader, keys with them.
        self.call(follower, PUT, field(1, "k1") + field(2, "v") + field(3, ids[0]))
        self.call(follower, PUT, field(1, "k2") + field(2, "v") + field(3, ids[0]))
        for m in self.members:
            got = self.call(m, TIME_TO_LIVE, field(1, ids[0]) + field(2, 1))
            self.assertEqual((got[2], got[4], sorted(got[5])), ([ids[0]], [60], [b"k1", b"k2"]))
            self.assertTrue(0 < got[3][0] <= 60)
            self.assertNotIn(5, self.call(m, TIME_TO_LIVE, field(1, ids[0])))
            gone = self.call(m, TIME_TO_LIVE, field(1, 4711))
            self.assertEqual((gone[2], gone[3], gone.get(4)), ([4711], [-1], None))

    def test_expiry_is_seen_everywhere(self):
        follower = self.followers[0]
        lease = self.call(follower, LEASE_GRANT, field(1, 2))[2][0]
        self.call(follower, PUT, field(1, "k") + field(2, "v") + field(3, lease))
        s = Stream(self.channel(follower), KEEP_ALIVE)
        until = time.monotonic() + 4  # twice its time
        while time.monotonic() < until:
            s.send(field(1, lease))
            self.assertEqual(s.get()[3], [2])
            time.sleep(0.5)
        for m in self.members:
            self.assertEqual(len(self.call(m, RANGE, field(1, "k"))[2]), 1)
        self.until("the end of the lease", lambda: 2 not in self.call(self.followers[1], RANGE, field(1, "k")))
        s.send(field(1, lease))
        self.assertNotIn(3, s.get())

    def test_a_new_leader_takes_over(self):
        follower = self.followers[0]
        lease = self.call(follower, LEASE_GRANT, field(1, 60))[2][0]
        s = Stream(self.channel(follower), KEEP_ALIVE)
        s.send(field(1, lease))
        self.assertEqual(s.get()[3], [60])
        self.led.server.kill()
        s.send(field(1, lease))  # waits for the new one
        self.assertEqual(s.get()[3], [60])


    def test_a_leader_that_hangs(self):
        """Its followers do not wait for it, and when it wakes up it soon knows that others have decided without it."""
        lease = self.call(self.led, LEASE_GRANT, field(1, 60))[2][0]
        asker = self.followers[0]
        s = Stream(self.channel(asker), KEEP_ALIVE)
        s.send(field(1, lease))
        self.assertEqual(s.get()[3], [60])
        self.led.server.process.send_signal(signal.SIGSTOP)
        try:
            s.send(field(1, lease))
            self.assertEqual(s.get()[3], [60])
            self.until("the revocation", lambda: self.revoked(asker, lease))
        finally:
            self.led.server.process.send_signal(signal.SIGCONT)

        woken = Stream(self.channel(self.led), KEEP_ALIVE)
        woken.send(field(1, lease))
        got = woken.get()
        if isinstance(got, dict):
            self.assertNotIn(3, got)
        else:
            self.assertIn(got.details(), ("not a primary lessor", "etcdserver: no leader", "etcdserver: leader changed"))

    def revoked(self, m, lease):
        """A proposal may be lost with the leader that it was sent to, so ask again."""
        try:
            self.call(m, "/etcdserverpb.Lease/LeaseRevoke", field(1, lease))
            return True
        except grpc.RpcError as e:
            self.assertIn(e.code().name, ("UNAVAILABLE", "NOT_FOUND"))
            return e.code().name == "NOT_FOUND"


class Membership(ClusterCase):
    def test_errors_and_replies(self):
        m = self.followers[0]
        ids = {x["name"]: x["ID"] for x in self.json(m, "member", "list")["members"]}
        bad = ("INVALID_ARGUMENT", "etcdserver: given member URLs are invalid")
        for urls in ([], ["http://a"], ["a:1"], ["http://a:1/x"], ["http://a:1", "ftp://a:1"]):
            self.assertEqual(self.error(m, CLUSTER + "Add", b"".join(field(1, u) for u in urls)), bad)
        exists = ("FAILED_PRECONDITION", "etcdserver: Peer URLs already exists")
        # Connections count after five seconds; until then no member may be added at all.
        self.until("connections that count", lambda: self.error(m, CLUSTER + "Add", field(1, self.led.peer) + field(2, 1)) == exists)
        for path in ("Remove", "Update", "Promote"):
            self.assertEqual(self.error(m, CLUSTER + path, field(1, 4711)), ("NOT_FOUND", "etcdserver: member not found"), path)
        for x in self.members:
            self.assertEqual(self.error(x, CLUSTER + "Promote", field(1, ids["m0"])),
                             ("FAILED_PRECONDITION", "etcdserver: can only promote a learner member"))
        url = f"http://127.0.0.1:{self.members[0].server.port + 1}"
        added = self.call(m, CLUSTER + "Add", field(1, " HTTP" + url[4:] + " ") + field(2, 1))
        new = fields(added[2][0])
        self.assertEqual((new[3], new[5], new.get(2)), ([url.encode()], [1], None))
        self.assertEqual(len(added[3]), 4)
        header = fields(added[1][0])
        self.assertNotIn(3, header)
        self.assertEqual(set(header), {1, 2, 4})
        listed = [fields(x)[1][0] & (1 << 64) - 1 for x in added[3]]
        self.assertEqual(listed, sorted(listed))
        self.assertEqual(self.error(m, CLUSTER + "Add", field(1, "http://127.0.0.1:1") + field(2, 1)),
                         ("FAILED_PRECONDITION", "etcdserver: too many learner members in cluster"))
        for x in self.members:
            self.assertEqual(self.error(x, CLUSTER + "Promote", field(1, new[1][0])),
                             ("FAILED_PRECONDITION", "etcdserver: can only promote a learner member which is in sync with leader"))
        self.assertGreater(self.metric(self.led, "etcd_server_learner_promote_failures"), 0)
        updated = self.call(m, CLUSTER + "Update", field(1, new[1][0]) + field(2, "unix://b") + field(2, "unix://a"))
        mine = [fields(x) for x in updated[2] if fields(x)[1] == new[1]]
        self.assertEqual((mine[0][3], mine[0][5]), ([b"unix://a", b"unix://b"], [1]))
        removed = self.call(m, CLUSTER + "Remove", field(1, new[1][0]))
        self.assertEqual(len(removed[2]), 3)
        self.assertEqual(self.error(m, CLUSTER + "Remove", field(1, new[1][0])), ("NOT_FOUND", "etcdserver: member not found"))
        for x in self.members:
            self.assertEqual(len(self.call(x, CLUSTER + "List", field(1, 1))[2]), 3)

    def attempt(self, m, path, message):
        try:
            return self.call(m, path, message)
        except grpc.RpcError:
            return None

    def test_moving_the_leader(self):
        follower, other = self.followers
        target = field(1, self.id_of(other))
        self.assertEqual(self.error(follower, MOVE, target), ("FAILED_PRECONDITION", "etcdserver: not leader"))
        self.assertEqual(self.error(self.led, MOVE, field(1, 4711)), ("FAILED_PRECONDITION", "etcdserver: bad leader transferee"))
        self.assertEqual(self.call(self.led, MOVE, field(1, self.id_of(self.led))), {})
        self.assertEqual(self.call(self.led, MOVE, target), {})
        self.assertEqual(self.id_of(other), self.call(self.led, STATUS)[4][0] & (1 << 64) - 1)
        self.assertEqual((self.metric(other, "etcd_server_is_leader"), self.metric(self.led, "etcd_server_is_leader")), (1, 0))


class Learner(ClusterCase):
    def test_a_learner(self):
        learner = self.member("learner")
        self.join(learner, self.led)
        refused = ("FAILED_PRECONDITION", "etcdserver: rpc not supported for learner")
        self.call(self.led, PUT, field(1, "k") + field(2, "v"))
        self.until("the learner's copy", lambda: 2 in self.call(learner, RANGE, field(1, "k") + field(7, 1)))
        for path, message in ((RANGE, field(1, "k")), (PUT, field(1, "k")), (CLUSTER + "List", b""), (LEASE_GRANT, field(1, 5)),
                              (TIME_TO_LIVE, field(1, 5)), ("/grpc.health.v1.Health/Check", b""), (MOVE, b"")):
            self.assertEqual(self.error(learner, path, message), refused, path)
        for path in (WATCH, KEEP_ALIVE):
            e = Stream(self.channel(learner), path).get()
            self.assertEqual((e.code().name, e.details()), refused, path)
        status = self.call(learner, STATUS)
        self.assertEqual((status[10], status[4][0] & (1 << 64) - 1), ([1], self.id_of(self.led)))
        chunks = list(self.channel(learner).unary_stream(SNAPSHOT)(b""))
        self.assertEqual(len(fields(chunks[-1])[3][0]), 32)
        code, text = self.http(learner, "/readyz")
        self.assertEqual(code, 503)
        self.assertIn("[-]non_learner failed: not supported for learner\n", text)
        self.assertIn("[+]linearizable_read ok\n", text)
        self.assertEqual(self.http(learner, "/health")[0], 200)
        self.assertEqual(self.metric(learner, "etcd_server_is_learner"), 1)
        # A follower asks the leader, and its reply knows of it at once.
        new = self.id_of(learner)
        got = self.call(self.followers[0], CLUSTER + "Promote", field(1, new))
        mine = [fields(x) for x in got[2] if fields(x)[1][0] & (1 << 64) - 1 == new]
        self.assertEqual((len(got[2]), mine[0].get(5)), (4, None))
        self.assertEqual(self.metric(self.led, "etcd_server_learner_promote_successes"), 1)
        self.until("a voter's rights", lambda: self.metric(learner, "etcd_server_is_learner") == 0)
        self.assertEqual(self.call(learner, RANGE, field(1, "k"))[4], [1])

    def join(self, m, of, state="existing", more=()):
        added = self.until("a place", lambda: Membership.attempt(self, of, CLUSTER + "Add", field(1, m.peer) + field(2, 1)))
        self.assertEqual(len(added[3]), 4)
        m.server.flags = m.flags(f"{self.initial},{m.name}={m.peer}", state, more=FAST)
        m.server.start()


class NoLeader(ClusterCase):
    def test_what_is_said(self):
        alone = self.followers[0]
        lease = self.call(alone, LEASE_GRANT, field(1, 600))[2][0]
        create = field(1, field(1, "k"))
        led, free = Stream(self.channel(alone), WATCH, LED), Stream(self.channel(alone), WATCH)
        for s in (led, free):
            s.send(create)
            self.assertEqual(s.get()[3], [1])
        self.led.server.kill()
        self.followers[1].server.kill()
        self.until("no leader", lambda: 4 not in self.call(alone, STATUS))
        seen = time.monotonic()
        no_leader = ("UNAVAILABLE", "etcdserver: no leader")
        self.assertIn(b"etcdserver: no leader", self.call(alone, STATUS)[8])
        self.assertEqual(self.error(alone, RANGE, field(1, "k"), LED), no_leader)
        self.assertEqual(self.error(alone, RANGE, field(1, "k") + field(7, 1), LED), no_leader)
        e = Stream(self.channel(alone), WATCH, LED).get()
        self.assertEqual((e.code().name, e.details()), no_leader)
        self.call(alone, RANGE, field(1, "k") + field(7, 1))  # serializable needs nobody
        self.assertEqual(self.http(alone, "/health"), (503, '{"health":"false","reason":"RAFT NO LEADER"}\n'))
        self.assertEqual(self.http(alone, "/health?serializable=true")[0], 200)
        self.assertEqual(self.http(alone, "/livez")[0], 200)
        self.assertEqual(self.metric(alone, "etcd_server_has_leader"), 0)
        e = led.get()
        self.assertEqual((e.code().name, e.details()), no_leader)
        self.assertLess(time.monotonic() - seen, 10 * ELECTION_SECONDS)
        # The other stream lives on.
        free.send(field(1, field(1, "k2")))
        self.assertEqual(free.get()[3], [1])
        began = time.monotonic()
        keep = Stream(self.channel(alone), KEEP_ALIVE)
        keep.send(field(1, lease))
        self.assertEqual(self.error(alone, TIME_TO_LIVE, field(1, lease)), no_leader)
        e = keep.get()
        self.assertEqual((e.code().name, e.details()), no_leader)
        self.assertGreater(time.monotonic() - began, REQUEST_TIMEOUT - 0.5)
        code, text = self.http(alone, "/readyz")
        self.assertEqual(code, 503)
        self.assertIn("[-]linearizable_read failed: etcdserver: request timed out\n", text)
        self.assertIn("[+]serializable_read ok\n", text)
        self.assertEqual(self.error(alone, PUT, field(1, "k"), timeout=1)[0], "DEADLINE_EXCEEDED")


class Restored(ClusterCase):
    more = ["--snapshot-catchup-entries", "100"]

    def test_watch_over_a_snapshot(self):
        """A member that slept through more than the leader keeps gets a snapshot; its watchers see all of it, once and in order."""
        sleeper = self.followers[0]
        s = Stream(self.channel(sleeper), WATCH)
        s.send(field(1, field(1, "k")))
        start = fields(s.get()[1][0])[3][0]
        sleeper.server.process.send_signal(signal.SIGSTOP)
        put = self.channel(self.led).unary_unary(PUT)
        n, value = 600, "v" * 50000  # far more than the sockets hold between the leader and the sleeper
        for calls in range(0, n, 100):
            for f in [put.future(field(1, "k") + field(2, value)) for i in range(100)]:
                f.result(timeout=30)
        # The log's beginning goes with the store's commits, of which there is one a second; what the leader's link has gathered goes when the link is
        # given up.
        def gave_up():
            lost = self.lines(self.led, "lost TCP streaming connection with remote peer")
            return any("stream MsgApp v2" == line.get("stream-writer-type") for line in lost)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            self.call(self.led, PUT, field(1, "other"))
        self.until("the leader to give up the stream", gave_up)
        os.kill(sleeper.server.process.pid, signal.SIGCONT)
        end = fields(self.call(self.led, RANGE, field(1, "k"))[1][0])[3][0]
        revisions = []
        while len(revisions) < n:
            got = s.get(timeout=60)
            self.assertIsInstance(got, dict)
            revisions += [fields(fields(e)[2][0])[3][0] for e in got.get(11, [])]
            if got.get(11):
                self.assertGreaterEqual(fields(got[1][0])[3][0], revisions[-1])
        self.assertEqual(revisions, list(range(start + 1, start + n + 1)))
        self.assertTrue(self.lines(sleeper, "applied snapshot"), "it came back without a snapshot")
        self.call(self.led, PUT, field(1, "k") + field(2, "after"))
        self.assertEqual(fields(fields(s.get()[11][0])[2][0])[3][0], end + 1)


class Mixed(Case):
    """What members ask each other works between Pintle and etcd, both ways."""

    def test_with_etcd_3_4(self):
        self.leases_and_promotion("3.4")

    def test_with_etcd_3_7(self):
        self.leases_and_promotion("3.7")

    def leases_and_promotion(self, version):
        program = oracle_server.programs().get(version)
        if program is None:
            self.skipTest(f"no etcd {version} here")
        # Founded by etcd, so that its version is agreed on before anybody else writes to the log.
        members = [self.member(f"m{i}") for i in range(3)]
        oracle = oracle_server.Etcd(program)
        self.addCleanup(oracle.close)
        oracle.command = lambda: [program, "--data-dir", os.path.join(oracle.data_dir, "m"), "--listen-client-urls", oracle.endpoint,
                                  "--advertise-client-urls", oracle.endpoint, "--logger", "zap",
                                  *members[0].flags(f"m0={members[0].peer}", more=FAST)]
        members[0].server = oracle
        oracle.start()
        for m in members[1:]:
            self.join(m, members[0], more=FAST)
        ids = self.ids(members[1])
        for led in (members[0], members[1]):
            self.until("the wanted leader", lambda: self.moved(members, led, ids[led.name]))
            asker = members[2] if led is members[0] else members[0]
            lease = self.call( asker, LEASE_GRANT, field(1, 60))[2][0]
            self.call( asker, PUT, field(1, "k") + field(2, "v") + field(3, lease))
            s = Stream(self.channel( asker), KEEP_ALIVE)
            for i in (lease, 4711, lease):
                s.send(field(1, i))
            for ttl in ([60], None, [60]):
                got = s.get()
                self.assertIsInstance(got, dict, got)
                self.assertEqual(got.get(3), ttl)
            got = self.call( asker, TIME_TO_LIVE, field(1, lease) + field(2, 1))
            self.assertEqual((got[4], got[5]), ([60], [b"k"]))
            self.assertEqual(self.call( asker, TIME_TO_LIVE, field(1, 4711))[3], [-1])
            # Whether it is in sync is looked at first, and in so young a log two entries are too many to be behind.
            self.until("the voter to be refused as a voter", lambda: self.error(asker, CLUSTER + "Promote", field(1, ids["m2"])) ==
                       ("FAILED_PRECONDITION", "etcdserver: can only promote a learner member"))
            self.assertEqual(self.error( asker, CLUSTER + "Promote", field(1, 4711)), ("NOT_FOUND", "etcdserver: member not found"))

    def moved(self, members, to, target):
        for m in members:
            r = etcdctl(m.server, "move-leader", f"{target:x}")
            if r.code == 0 or "bad leader" in r.err:
                break
        return self.leader(members) is to


if __name__ == "__main__":
    unittest.main()
