"""The stock etcdctl 3.4 against pintle: every command a user of one member types."""
import base64
import re
import signal
import subprocess
import threading
import unittest

from harness import ServerCase, etcdctl


def b64(text):
    return base64.b64encode(text.encode()).decode()


class KeyValue(ServerCase):
    def test_put_and_get(self):
        self.assertEqual(self.ctl("put", "k", "v1"), "OK\n")
        self.assertEqual(self.ctl("get", "k"), "k\nv1\n")
        self.assertEqual(self.ctl("put", "k", "v2", "--prev-kv"), "OK\nk\nv1\n")
        self.assertEqual(self.ctl("get", "k", "--print-value-only"), "v2\n")
        self.assertEqual(self.ctl("get", "absent"), "")

    def test_put_options(self):
        self.assertIn("key not found", self.ctl("put", "new", "--ignore-value", code=1))
        self.ctl("put", "a", "one")
        self.ctl("put", "a", "--ignore-value")
        kv = self.json("get", "a")["kvs"][0]
        self.assertEqual((kv["version"], kv["value"]), (2, b64("one")))
        self.assertIn("requested lease not found", self.ctl("put", "a", "x", "--lease=1234", code=1))
        self.assertIn("key is not provided", self.ctl("put", "", "x", code=1))

    def test_get_options(self):
        for i, key in enumerate(["b1", "a2", "a1", "c", "a3"]):
            self.ctl("put", key, f"v{9 - i}")
        keys = ("--print-value-only",)
        self.assertEqual(self.ctl("get", "--prefix", "a", "--keys-only").split(), ["a1", "a2", "a3"])
        self.assertEqual(self.ctl("get", "--prefix", "a", "--limit=2", "--keys-only").split(), ["a1", "a2"])
        self.assertEqual(self.ctl("get", "--from-key", "a3", "--keys-only").split(), ["a3", "b1", "c"])
        self.assertEqual(self.ctl("get", "a2", "b2", *keys).split(), ["v8", "v5", "v9"])
        self.assertEqual(self.ctl("get", "--prefix", "", "--order=DESCEND", "--sort-by=KEY", "--keys-only").split(),
                         ["c", "b1", "a3", "a2", "a1"])
        self.assertEqual(self.ctl("get", "--prefix", "", "--sort-by=VALUE", "--order=ASCEND", "--keys-only").split(),
                         ["a3", "c", "a1", "a2", "b1"])
        self.assertEqual(self.ctl("get", "--prefix", "", "--sort-by=MODIFY", "--order=DESCEND", "--keys-only").split(),
                         ["a3", "c", "a1", "a2", "b1"])
        self.assertEqual(self.json("get", "--prefix", "a", "--limit=1")["count"], 3)
        self.assertTrue(self.json("get", "--prefix", "a", "--limit=1")["more"])
        self.assertEqual(self.ctl("get", "a1", "--consistency=s", *keys), "v7\n")

    def test_get_revision(self):
        for value in ["one", "two", "three"]:
            self.ctl("put", "k", value)
        self.assertEqual(self.ctl("get", "k", "--rev=3", "--print-value-only"), "two\n")
        self.assertIn("required revision is a future revision", self.ctl("get", "k", "--rev=9", code=1))
        self.assertEqual(self.ctl("compaction", "3"), "compacted revision 3\n")
        self.assertIn("required revision has been compacted", self.ctl("get", "k", "--rev=2", code=1))
        self.assertEqual(self.ctl("get", "k", "--rev=3", "--print-value-only"), "two\n")

    def test_delete(self):
        for key in ["a", "b", "c", "d"]:
            self.ctl("put", key, key.upper())
        self.assertEqual(self.ctl("del", "zzz"), "0\n")
        self.assertEqual(self.ctl("del", "a", "--prev-kv"), "1\na\nA\n")
        self.assertEqual(self.ctl("del", "b", "d"), "2\n")
        self.assertEqual(self.ctl("del", "--prefix", ""), "1\n")

    def test_txn(self):
        self.ctl("put", "k", "v")
        script = 'value("k") = "v"\nversion("k") = "1"\n\nput k v2\nget k\n\nput k no\n\n'
        self.assertEqual(self.ctl("txn", stdin=script), "SUCCESS\n\nOK\n\nk\nv2\n")
        self.assertEqual(self.ctl("txn", stdin=script), "FAILURE\n\nOK\n")
        self.assertIn("duplicate key", self.ctl("txn", stdin="\nput x 1\nput x 2\n\n\n", code=1))

    def test_large_value(self):
        ok = "x" * (1024 * 1024)
        self.assertEqual(self.ctl("put", "large", stdin=ok), "OK\n")
        self.assertEqual(len(self.ctl("get", "large", "--print-value-only")), len(ok) + 1)
        self.assertIn("request is too large", self.ctl("put", "large", stdin="x" * (1572864 + 1), code=1))

    def test_compaction(self):
        self.ctl("put", "k", "v")
        self.assertEqual(self.ctl("compaction", "2", "--physical"), "compacted revision 2\n")
        self.assertIn("has been compacted", self.ctl("compaction", "2", code=1))
        self.assertIn("future revision", self.ctl("compaction", "100", code=1))


class Watch(ServerCase):
    def watch(self, *words, lines, while_watching=()):
        """The first `lines` lines that `etcdctl watch` prints; `while_watching` are commands run meanwhile."""
        process = subprocess.Popen(["etcdctl", "--endpoints", self.server.endpoint, "watch", *words], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"})
        stuck = threading.Timer(20, process.kill)
        stuck.start()
        got = []
        try:
            for command in while_watching:
                self.ctl(*command)
            while len(got) < lines:
                line = process.stdout.readline()
                if line == "":
                    break
                got.append(line.rstrip("\n"))
        finally:
            stuck.cancel()
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        return got

    def test_from_the_past(self):
        self.ctl("put", "k", "one")
        self.ctl("put", "k", "two")
        self.ctl("del", "k")
        self.assertEqual(self.watch("k", "--rev=2", lines=8), ["PUT", "k", "one", "PUT", "k", "two", "DELETE", "k"])

    def test_prev_kv(self):
        self.ctl("put", "k", "one")
        self.ctl("put", "k", "two")
        self.assertEqual(self.watch("k", "--rev=3", "--prev-kv", lines=5), ["PUT", "k", "one", "k", "two"])

    def test_live_with_prefix(self):
        puts = [("put", f"p/{i}", str(i)) for i in range(5)]
        # The watch begins at revision 2, so that nothing depends on which comes first.
        got = self.watch("--prefix", "p/", "--rev=2", lines=15, while_watching=puts)
        self.assertEqual(got, [x for i in range(5) for x in ("PUT", f"p/{i}", str(i))])

    def test_shutdown_does_not_wait_for_watchers(self):
        self.ctl("put", "k", "v")
        watch = subprocess.Popen(["etcdctl", "--endpoints", self.server.endpoint, "watch", "k", "--rev=2"], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"})
        self.assertEqual(watch.stdout.readline(), "PUT\n")
        # The time of grace for calls is 7 s; a watcher would use all of it.
        self.assertEqual(self.server.stop(within=5), -signal.SIGTERM)
        watch.kill()
        watch.wait()
        watch.stdout.close()

    def test_compacted(self):
        for i in range(4):
            self.ctl("put", "k", str(i))
        self.ctl("compaction", "4")
        self.assertIn("required revision has been compacted", "\n".join(self.watch("k", "--rev=2", lines=1)))


class Lease(ServerCase):
    def grant(self, ttl, *more):
        out = self.ctl("lease", "grant", str(ttl), *more)
        return re.fullmatch(r"lease ([0-9a-f]+) granted with TTL\((\d+)s\)\n", out).groups()

    def test_life(self):
        lease, ttl = self.grant(100)
        self.assertEqual(ttl, "100")
        self.ctl("put", "k", "v", f"--lease={lease}")
        out = self.ctl("lease", "timetolive", lease, "--keys")
        self.assertRegex(out, rf"lease {lease} granted with TTL\(100s\), remaining\((100|9\d)s\), attached keys\(\[k\]\)")
        self.assertIn(lease, self.ctl("lease", "list"))
        self.assertEqual(self.ctl("lease", "keep-alive", "--once", lease), f"lease {lease} keepalived with TTL(100)\n")
        self.assertEqual(self.ctl("lease", "revoke", lease), f"lease {lease} revoked\n")
        self.assertEqual(self.ctl("get", "k"), "")
        self.assertIn("requested lease not found", self.ctl("lease", "revoke", lease, code=1))
        self.assertEqual(self.ctl("lease", "timetolive", lease), f"lease {lease} already expired\n")

    def test_expiry_deletes_keys(self):
        lease, ttl = self.grant(1)
        self.assertEqual(ttl, "2")  # the shortest there is
        self.ctl("put", "k", "v", f"--lease={lease}")
        expired = etcdctl(self.server, "watch", "k", "--rev=3", "--", "sh", "-c", "kill $PPID", timeout=20)
        self.assertIn("DELETE", expired.out)
        self.assertEqual(self.ctl("get", "k"), "")


class Maintenance(ServerCase):
    def test_endpoint(self):
        self.assertIn("is healthy", etcdctl(self.server, "endpoint", "health").err)
        status = self.json("endpoint", "status")[0]["Status"]
        self.assertEqual(status["header"]["member_id"], status["leader"])
        self.assertEqual(status["version"], "3.7.1")
        self.assertGreater(status["dbSize"], 0)
        self.ctl("put", "k", "v")
        first = self.json("endpoint", "hashkv")[0]["HashKV"]
        self.ctl("put", "k", "w")
        second = self.json("endpoint", "hashkv")[0]["HashKV"]
        self.assertNotEqual(first["hash"], second["hash"])
        self.assertEqual(self.json("endpoint", "hashkv", f"--rev={first['header']['revision']}")[0]["HashKV"]["hash"], first["hash"])

    def test_member_list(self):
        members = self.json("member", "list")["members"]
        self.assertEqual([m["clientURLs"] for m in members], [[self.server.endpoint]])
        self.assertEqual(members[0]["ID"], 0x8e9e05c52164694d)

    def test_defrag(self):
        for i in range(50):
            self.ctl("put", "k", "x" * 1000)
        self.assertIn("Finished defragmenting", self.ctl("defrag"))
        self.assertEqual(len(self.ctl("get", "k", "--print-value-only")), 1001)

    def test_alarm(self):
        self.assertEqual(self.ctl("alarm", "list"), "")
        self.assertEqual(self.ctl("alarm", "disarm"), "")

    def test_check_perf(self):
        r = etcdctl(self.server, "check", "perf", "--load=s", timeout=120)
        # Whether this machine is fast enough is not asked here: that it ran to its end, wrote, and left nothing.
        self.assertRegex(r.out + r.err, r"(PASS: Throughput|FAIL: Throughput too low:) \D*\d+ writes/s")
        self.assertIn("Slowest request", r.out + r.err)
        self.assertNotIn("too many errors", r.out + r.err)
        self.assertGreater(self.json("get", "none")["header"]["revision"], 100)
        self.assertEqual(self.ctl("get", "/etcdctl-check-perf/", "--prefix"), "")


class Quota(ServerCase):
    flags = ("--quota-backend-bytes", str(2 * 1024 * 1024))

    def test_no_space_and_back(self):
        value = "x" * 100000
        message = ""
        for i in range(200):
            r = etcdctl(self.server, "put", f"k{i}", value)
            if r.code != 0:
                message = r.err
                break
        self.assertIn("database space exceeded", message)
        self.assertIn("alarm:NOSPACE", self.ctl("alarm", "list"))
        self.assertIn("database space exceeded", self.ctl("put", "small", "v", code=1))
        self.assertEqual(self.ctl("get", "k0", "--print-value-only").strip(), value)
        self.ctl("del", "--prefix", "k")
        revision = self.json("get", "x")["header"]["revision"]
        self.ctl("compaction", str(revision), "--physical")
        self.ctl("defrag")
        self.assertIn("alarm:NOSPACE", self.ctl("alarm", "disarm"))
        self.assertEqual(self.ctl("put", "small", "v"), "OK\n")


class Restart(ServerCase):
    def test_everything_is_kept(self):
        self.ctl("put", "a", "1")
        self.ctl("put", "b", "2")
        self.ctl("del", "a")
        lease = re.search(r"lease ([0-9a-f]+) ", self.ctl("lease", "grant", "500")).group(1)
        self.ctl("put", "leased", "v", f"--lease={lease}")
        before = self.json("endpoint", "hashkv")[0]["HashKV"]
        for kill in (True, False):
            if kill:
                self.server.kill()
            else:
                self.assertEqual(self.server.stop(), -signal.SIGTERM)
            self.server.start()
            after = self.json("endpoint", "hashkv")[0]["HashKV"]
            self.assertEqual((after["hash"], after["header"]["revision"]), (before["hash"], before["header"]["revision"]))
            self.assertEqual(self.ctl("get", "b"), "b\n2\n")
            self.assertIn("attached keys([leased])", self.ctl("lease", "timetolive", lease, "--keys"))


if __name__ == "__main__":
    unittest.main()
