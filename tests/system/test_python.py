"""python3-etcd3, as Debian has it, against pintle."""
import threading
import unittest

import etcd3

from harness import ServerCase


class Client(ServerCase):
    def setUp(self):
        super().setUp()
        self.client = etcd3.client(host="127.0.0.1", port=self.server.port, timeout=10)
        self.addCleanup(self.client.close)

    def test_put_get_delete(self):
        self.client.put("/k", "v")
        value, meta = self.client.get("/k")
        self.assertEqual((value, meta.key, meta.version), (b"v", b"/k", 1))
        self.assertTrue(self.client.delete("/k"))
        self.assertEqual(self.client.get("/k"), (None, None))

    def test_prefix_and_order(self):
        for i in range(20):
            self.client.put(f"/p/{i:02}", str(i))
        got = [v for v, _ in self.client.get_prefix("/p/", sort_order="descend", sort_target="key")]
        self.assertEqual(got, [str(i).encode() for i in reversed(range(20))])

    def test_transaction(self):
        self.client.put("/t", "old")
        t = self.client.transactions
        done, replies = self.client.transaction(compare=[t.value("/t") == "old", t.version("/t") > 0],
                                                success=[t.put("/t", "new"), t.get("/t")], failure=[t.delete("/t")])
        self.assertTrue(done)
        self.assertEqual(replies[1][0][0], b"new")
        self.assertFalse(self.client.replace("/t", "old", "x"))
        self.assertTrue(self.client.replace("/t", "new", "newer"))

    def test_watch(self):
        seen = threading.Event()
        events = []

        def on_event(response):
            events.extend(response.events)
            if len(events) >= 3:
                seen.set()

        watch = self.client.add_watch_callback("/w", on_event)
        self.client.put("/w", "1")
        self.client.put("/w", "2")
        self.client.delete("/w")
        self.assertTrue(seen.wait(20))
        self.client.cancel_watch(watch)
        self.assertEqual([type(e).__name__ for e in events], ["PutEvent", "PutEvent", "DeleteEvent"])
        self.assertEqual([e.value for e in events[:2]], [b"1", b"2"])

    def test_lease(self):
        lease = self.client.lease(60)
        self.client.put("/l", "v", lease=lease)
        self.assertEqual(lease.keys, [b"/l"])
        self.assertLessEqual(lease.remaining_ttl, 60)
        self.assertEqual(list(lease.refresh())[0].TTL, 60)
        lease.revoke()
        self.assertEqual(self.client.get("/l"), (None, None))

    def test_lock(self):
        # Waiting for a lock that is taken does not work with the tenacity of Debian 12, whatever the server; so the two take turns.
        first = self.client.lock("job", ttl=30)
        second = self.client.lock("job", ttl=30)
        self.assertTrue(first.acquire(timeout=10))
        self.assertTrue(first.is_acquired())
        self.assertFalse(second.is_acquired())
        self.assertTrue(first.release())
        self.assertTrue(second.acquire(timeout=10))
        self.assertTrue(second.is_acquired())
        self.assertTrue(second.release())

    def test_members_and_status(self):
        members = list(self.client.members)
        self.assertEqual([m.name for m in members], ["default"])
        self.assertEqual(self.client.status().leader.id, members[0].id)

    def test_compaction(self):
        for i in range(5):
            self.client.put("/c", str(i))
        self.client.compact(4)
        self.assertEqual(self.client.get("/c")[0], b"4")


if __name__ == "__main__":
    unittest.main()
