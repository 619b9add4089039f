"""What the log says of slow and refused requests, beside etcd's words for the same requests."""
import base64
import http.client
import json
import re
import unittest

import oracle_server
from harness import Server, etcdctl


def b64(x):
    return base64.b64encode(x if isinstance(x, bytes) else x.encode()).decode()


K, Z, V = b64("key"), b64("z"), b64("value")
REQUESTS = [
    ("kv/put", {"key": K, "value": V}),
    ("kv/put", {"key": b64(b'\x00\xff"\\na\n\xc2\x85\xe2\x9c\x93'), "value": V, "prev_kv": True}),
    ("kv/put", {"key": K, "ignore_value": True, "ignore_lease": True}),
    ("kv/put", {"key": b64("none"), "ignore_value": True}),
    ("kv/put", {"key": K, "value": V, "lease": "999"}),
    ("kv/range", {"key": K}),
    ("kv/range", {"key": K, "range_end": "AA==", "limit": "5", "revision": "2", "sort_order": "DESCEND", "sort_target": "MOD", "serializable": True,
                  "keys_only": True, "count_only": True, "min_mod_revision": "1", "max_mod_revision": "9", "min_create_revision": "1",
                  "max_create_revision": "7"}),
    ("kv/range", {"key": b64("✓\x01\u0085")}),
    ("kv/range", {}),
    ("kv/range", {"key": K, "revision": "99"}),
    ("kv/txn", {"compare": [{"target": "VALUE", "key": K, "value": V}, {"result": "GREATER", "target": "MOD", "key": K, "mod_revision": "1"},
                            {"target": "VERSION", "key": K, "range_end": Z, "version": "0"}, {"target": "CREATE", "result": "NOT_EQUAL", "key": K}],
                "success": [{"request_put": {"key": Z, "value": V}}, {"request_range": {"key": Z}}],
                "failure": [{"request_txn": {"success": [{"request_put": {"key": K, "value": V}}]}},
                            {"request_delete_range": {"key": Z, "prev_kv": True}}]}),
    ("kv/txn", {"success": [{"request_range": {"key": K}}]}),
    ("kv/txn", {}),
    ("kv/deleterange", {"key": K, "range_end": Z, "prev_kv": True}),
    ("lease/grant", {"TTL": "60", "ID": "77"}),
    ("kv/put", {"key": K, "value": V, "lease": "77"}),
    ("lease/timetolive", {"ID": "77"}),
    ("lease/leases", {}),
    ("lease/revoke", {"ID": "77"}),
    ("lease/revoke", {"ID": "77"}),
    ("maintenance/alarm", {"action": "ACTIVATE", "memberID": "5", "alarm": "NOSPACE"}),
    ("maintenance/alarm", {"action": "DEACTIVATE", "memberID": "5", "alarm": "NOSPACE"}),
    ("auth/user/add", {"name": "u", "password": "secret"}),
    ("auth/role/add", {"name": "r"}),
    ("auth/role/add", {"name": "r"}),
    ("auth/role/grant", {"name": "r", "perm": {"permType": "READWRITE", "key": K, "range_end": Z}}),
    ("auth/user/grant", {"user": "u", "role": "r"}),
    ("auth/user/changepw", {"name": "u", "password": "secret2"}),
    ("auth/user/get", {"name": "u"}),
    ("auth/authenticate", {"name": "u", "password": "wrong"}),
    ("auth/status", {}),
    ("cluster/member/list", {}),
    ("maintenance/status", {}),
]
FLAGS = ["--warning-unary-request-duration=1ns", "--warning-apply-duration=1ns"]
STATS, APPLY, FAILED = "request stats", "apply request took too long", "failed to apply request"


def run(server):
    for path, body in REQUESTS:
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        c.request("POST", "/v3/" + path, json.dumps(body))
        c.getresponse().read()
        c.close()


def words(server):
    out = {STATS: [], APPLY: [], FAILED: []}
    for line in server.log_text().splitlines():
        try:
            d = json.loads(line)
        except ValueError:
            continue
        if d.get("msg") in out:
            out[d["msg"]].append(d)
    return out


def shape(line):
    """Without times and numbers of the one server. Etcd's text of a message has one space or two between fields, by a hash of its own program."""
    own = {"ts", "caller", "start time", "time spent", "remote", "took", "response", "error", "response size"}
    d = {k: "own" if k in own else re.sub(" +", " ", v) if isinstance(v, str) else v for k, v in line.items()}
    if "response size" in line:
        d["response size"] = min(line["response size"], 1)
    if "request" in d:
        d["request"] = re.sub(r"(cluster|member)_version.*|ID:\d+|client_urls:\S+|member_ID:\d+", "own", d["request"])
    return d


class Words(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server(FLAGS).start()
        run(cls.server)
        cls.words = words(cls.server)
        cls.server.stop()
        cls.text = cls.server.log_text()
        cls.server.close()

    def test_no_values_and_no_passwords(self):
        self.assertNotIn("secret", self.text)
        self.assertNotIn(V, self.text)
        self.assertNotIn('\\"value\\"', self.text)
        self.assertNotIn("Sanitizer", self.text)

    def test_contents(self):
        contents = [d["request content"] for d in self.words[STATS]]
        self.assertEqual(len(contents), len(REQUESTS))
        self.assertEqual(contents[0], 'key:"key" value_size:5 ')
        self.assertEqual(contents[7], 'key:"✓\\x01\\u0085"')
        self.assertTrue(all(re.fullmatch(r"[\d.]+(ns|µs|ms|s)", d["time spent"]) for d in self.words[STATS]))

    def test_the_client_is_named(self):
        server = Server(FLAGS).start()
        self.addCleanup(server.close)
        self.assertEqual(etcdctl(server, "put", "k", "v").code, 0)
        remote = [d["remote"] for d in words(server)[STATS] if d["response type"].endswith("/Put")][0]
        self.assertRegex(remote, r"127\.0\.0\.1:\d+")

    def test_nothing_without_reason(self):
        server = Server().start()
        self.addCleanup(server.close)
        self.assertEqual(etcdctl(server, "put", "k", "v").code, 0)
        self.assertEqual(words(server)[FAILED], [])

    def test_all_calls_at_debug_level(self):
        """Each with its level: a slow one stays a warning."""
        server = Server(["--log-level=debug"]).start()
        self.addCleanup(server.close)
        self.assertEqual(etcdctl(server, "put", "k", "v").code, 0)
        self.assertEqual(etcdctl(server, "compact", "99").code, 1)
        said = {d["response type"]: d for d in words(server)[STATS]}
        self.assertEqual(said["/etcdserverpb.KV/Put"]["request content"], 'key:"k" value_size:1 ')
        self.assertEqual(said["/etcdserverpb.KV/Compact"]["request count"], -1)
        for d in said.values():
            slow = re.fullmatch(r"[\d.]+s", d["time spent"]) or float(re.match(r"[\d.]+", d["time spent"])[0]) > 300 and d["time spent"].endswith("ms")
            self.assertEqual(d["level"], "warn" if slow else "debug")

    @unittest.skipUnless("3.7" in oracle_server.programs(), "no etcd 3.7 here")
    def test_the_same_words_as_etcd(self):
        etcd = oracle_server.Etcd(oracle_server.programs()["3.7"], FLAGS).start()
        self.addCleanup(etcd.close)
        run(etcd)
        theirs = words(etcd)
        # Etcd's health check, by which its start is awaited, and what a server tells the cluster of itself are no client's requests.
        for kind in theirs:
            def wanted(d):
                own = ("cluster_version_set", "cluster_member_attr_set")
                health = d.get("request") == "" or d.get("request", "") == "limit:1 keys_only:true"
                return not any(w in d.get("request", "") for w in own) and not health
            a, b = ([d for d in map(shape, lines[kind]) if wanted(d)] for lines in (self.words, theirs))
            with self.subTest(kind):
                self.assertEqual([x for x in a if x not in b], [])
                self.assertEqual([x for x in b if x not in a], [])
                self.assertEqual(len(a), len(b))


if __name__ == "__main__":
    unittest.main(verbosity=2)
