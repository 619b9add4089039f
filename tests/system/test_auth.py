"""Users, roles and tokens: who may what, with etcdctl, by hand and over JSON; on one member, on three, and beside etcd."""
import base64
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import grpc

import oracle_server
from harness import PINTLE, Server, ServerCase, etcdctl
from test_services_cluster import ClusterCase, Stream
from wire import field, fields

KV, AUTH, LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Auth/", "/etcdserverpb.Lease/"
CLUSTER, MAINTENANCE = "/etcdserverpb.Cluster/", "/etcdserverpb.Maintenance/"
KEEP_ALIVE, WATCH = LEASE + "LeaseKeepAlive", "/etcdserverpb.Watch/Watch"
READ, WRITE, READWRITE = 0, 1, 2
FAST_HASH = ["--bcrypt-cost", "4"]

USER_EMPTY = ("INVALID_ARGUMENT", "etcdserver: user name is empty")
DENIED = ("PERMISSION_DENIED", "etcdserver: permission denied")
BAD_TOKEN = ("UNAUTHENTICATED", "etcdserver: invalid auth token")
FAILED = ("INVALID_ARGUMENT", "etcdserver: authentication failed, invalid user ID or password")
OLD = ("INVALID_ARGUMENT", "etcdserver: revision of auth store is old")
MANAGEMENT = ("INVALID_ARGUMENT", "etcdserver: invalid auth management")
OK = None


def plain(data):
    return data


def permission(kind, key, end=b""):
    return field(1, kind) + field(2, key) + (field(3, end) if end else b"")


def put(key, value=b"v", lease=0, prev_kv=False):
    return field(1, key) + field(2, value) + field(3, lease) + field(4, int(prev_kv))


def span(key, end=b""):
    return field(1, key) + (field(2, end) if end else b"")


def op(kind, message):
    """One RequestOp: 1 range, 2 put, 3 delete, 4 txn."""
    return field(kind, message)


def watch(key, end=b"", watch_id=0):
    return field(1, span(key, end) + field(7, watch_id))


class Client:
    """Calls by hand, as somebody."""

    def __init__(self, endpoint):
        self.channel = grpc.insecure_channel(endpoint.removeprefix("http://"), options=[("grpc.use_local_subchannel_pool", 1)])

    def call(self, path, message=b"", token=None, timeout=30, stream=False, metadata=None):
        metadata = metadata if token is None else [("token", token)]
        if stream:
            return [fields(m) for m in self.channel.unary_stream(path, plain, plain)(message, metadata=metadata, timeout=timeout)]
        return fields(self.channel.unary_unary(path, plain, plain)(message, metadata=metadata, timeout=timeout))

    def outcome(self, path, message=b"", token=None, **more):
        """None, or code and text."""
        try:
            self.call(path, message, token, **more)
            return OK
        except grpc.RpcError as e:
            return e.code().name, e.details()

    def login(self, user, password):
        return self.call(AUTH + "Authenticate", field(1, user) + field(2, password))[2][0].decode()

    def auth(self, method, *texts, token=None):
        return self.call(AUTH + method, b"".join(field(i + 1, t) for i, t in enumerate(texts)), token)

    def grant(self, role, *p, token=None):
        self.call(AUTH + "RoleGrantPermission", field(1, role) + field(2, permission(*p)), token)

    def people(self, enable=True):
        """root; al, who may do everything with a..b and read from z on; bo, who has no role. Returns their tokens."""
        for name in ("root", "al", "bo"):
            self.auth("UserAdd", name, name + "-password")
        self.auth("RoleAdd", "letters")
        self.grant("letters", READWRITE, b"a", b"b")
        self.grant("letters", READ, b"z", b"\0")
        self.auth("UserGrantRole", "root", "root")
        self.auth("UserGrantRole", "al", "letters")
        if enable:
            self.auth("AuthEnable")
            return {name: self.login(name, name + "-password") for name in ("root", "al", "bo")}
        return None


class Case(ServerCase):
    flags = FAST_HASH

    def setUp(self):
        super().setUp()
        self.client = Client(self.server.endpoint)
        self.addCleanup(self.client.channel.close)

    def check(self, expected, path, message=b"", token=None, **more):
        self.assertEqual(self.client.outcome(path, message, token, **more), expected, (path, message))

    def stream(self, path, token):
        return Stream(self.client.channel, path, metadata=[("token", token)] if token else None)

    def restart(self):
        self.assertEqual(self.server.stop(), -signal.SIGTERM)
        self.server.start()


class Secrets(Case):
    def test_never_written_down(self):
        """Neither in the log of requests nor in that of events."""
        self.client.people()
        token = self.client.login("al", "al-password")
        self.client.auth("UserChangePassword", "al", "another-secret", token=self.client.login("root", "root-password"))
        self.check(BAD_TOKEN, KV + "Put", put(b"a"), token)
        self.assertEqual(self.server.stop(), -signal.SIGTERM)
        for folder, _, names in os.walk(self.server.data_dir):
            for name in names:
                with open(os.path.join(folder, name), "rb") as f:
                    data = f.read()
                for secret in (b"al-password", b"another-secret"):
                    self.assertNotIn(secret, data, name)
        text = self.server.log_text()
        for secret in ("-password", "another-secret", token.split(".")[0]):
            self.assertNotIn(secret, text)


class WhoMayWhat(Case):
    def test_every_method(self):
        """Nobody, one without permissions, root."""
        tokens = self.client.people()
        need_root = [(CLUSTER + "MemberAdd", field(1, "no URL")), (CLUSTER + "MemberRemove", field(1, 5)),
                     (CLUSTER + "MemberUpdate", field(1, 5)), (CLUSTER + "MemberPromote", field(1, 5)), (KV + "Compact", field(1, 1)),
                     (MAINTENANCE + "Defragment", b""), (MAINTENANCE + "Hash", b""), (MAINTENANCE + "HashKV", b""),
                     (MAINTENANCE + "MoveLeader", field(1, 5)), (MAINTENANCE + "Alarm", field(1, 1) + field(3, 1)),
                     (MAINTENANCE + "Alarm", field(1, 2) + field(3, 1)), (AUTH + "AuthEnable", b""), (AUTH + "AuthDisable", b""),
                     (AUTH + "UserAdd", field(1, "x")), (AUTH + "UserList", b""), (AUTH + "UserDelete", field(1, "x")),
                     (AUTH + "UserChangePassword", field(1, "x")), (AUTH + "UserGrantRole", field(1, "x")),
                     (AUTH + "UserRevokeRole", field(1, "x")), (AUTH + "UserGet", field(1, "al")), (AUTH + "RoleAdd", field(1, "x")),
                     (AUTH + "RoleGet", field(1, "letters")), (AUTH + "RoleList", b""), (AUTH + "RoleDelete", field(1, "x")),
                     (AUTH + "RoleGrantPermission", field(1, "x") + field(2, permission(READ, b"q"))),
                     (AUTH + "RoleRevokePermission", field(1, "x") + field(2, b"q"))]
        for path, message in need_root:
            self.check(USER_EMPTY, path, message)
            self.check(DENIED, path, message, tokens["bo"])
            self.check(BAD_TOKEN, path, message, "abc")
            if path != AUTH + "AuthDisable":
                self.assertNotIn(self.client.outcome(path, message, tokens["root"]), (USER_EMPTY, DENIED, BAD_TOKEN), path)
        self.client.call(MAINTENANCE + "Alarm", field(1, 2) + field(3, 1), tokens["root"])
        for path, message in ((LEASE + "LeaseGrant", field(1, 60)), (CLUSTER + "MemberList", b""), (MAINTENANCE + "Status", b""),
                              (MAINTENANCE + "Alarm", b""), (LEASE + "LeaseTimeToLive", field(1, 77)), (LEASE + "LeaseLeases", b"")):
            self.check(USER_EMPTY, path, message)
            self.check(OK, path, message, tokens["bo"])
            self.check(BAD_TOKEN, path, message, "abc.1")
        self.check(USER_EMPTY, MAINTENANCE + "Snapshot", stream=True)
        self.check(DENIED, MAINTENANCE + "Snapshot", token=tokens["al"], stream=True)
        self.check(OK, MAINTENANCE + "Snapshot", token=tokens["root"], stream=True)
        self.check(OK, AUTH + "AuthStatus")
        self.check(BAD_TOKEN, AUTH + "AuthStatus", token="abc")
        self.check(OK, "/grpc.health.v1.Health/Check")
        status = self.client.call(AUTH + "AuthStatus")
        self.assertEqual((status[2], status[3]), ([1], self.client.call(AUTH + "AuthStatus", token=tokens["bo"])[3]))
        self.assertIn(f"etcd_debugging_auth_revision {status[3][0]}\n",
                      urllib.request.urlopen(self.server.endpoint + "/metrics", timeout=20).read().decode())
        # About oneself.
        self.check(OK, AUTH + "UserGet", field(1, "al"), tokens["al"])
        self.check(OK, AUTH + "RoleGet", field(1, "letters"), tokens["al"])
        self.check(DENIED, AUTH + "UserGet", field(1, "bo"), tokens["al"])
        self.check(DENIED, AUTH + "RoleGet", field(1, "letters"), tokens["bo"])

    def test_ranges(self):
        tokens = self.client.people()
        al = tokens["al"]
        for key in (b"a", b"ab", b"b", b"z1"):
            self.client.call(KV + "Put", put(key), tokens["root"])
        for expected, path, message in (
                (OK, "Put", put(b"a1")), (DENIED, "Put", put(b"b")), (DENIED, "Put", put(b"z")), (OK, "Put", put(b"a1", prev_kv=True)),
                (OK, "Range", span(b"a", b"b")), (DENIED, "Range", span(b"a", b"b\0")), (DENIED, "Range", span(b"a", b"\0")),
                (OK, "Range", span(b"z", b"\0")), (OK, "Range", span(b"zz", b"zzz")), (DENIED, "Range", span(b"y", b"\0")),
                (DENIED, "Range", span(b"\0", b"\0")), (OK, "DeleteRange", span(b"aa", b"ab")), (DENIED, "DeleteRange", span(b"z1")),
                (DENIED, "DeleteRange", span(b"a", b"\0"))):
            self.check(expected, KV + path, message, al)
            if path == "Range":
                self.check(expected, KV + path, message + field(7, 1), al)  # serializable
                self.check(expected, KV + "RangeStream", message, al, stream=True)
                self.check(USER_EMPTY, KV + "RangeStream", message, stream=True)
            self.check(USER_EMPTY, KV + path, message)
            self.check(DENIED, KV + path, message, tokens["bo"])
            self.check(OK, KV + path, message, tokens["root"])
        # What is wrong with a request is said before who may make it.
        self.check(("INVALID_ARGUMENT", "etcdserver: key is not provided"), KV + "Put", put(b""))
        # Ranges of two roles that touch each other are one.
        root = tokens["root"]
        self.client.auth("RoleAdd", "more", token=root)
        self.client.grant("more", READ, b"b", b"c", token=root)
        self.client.auth("UserGrantRole", "al", "more", token=root)
        self.check(OK, KV + "Range", span(b"a", b"c"), al)
        self.check(DENIED, KV + "DeleteRange", span(b"a", b"c"), al)
        self.client.auth("RoleRevokePermission", "more", b"b", b"c", token=root)
        self.check(DENIED, KV + "Range", span(b"a", b"c"), al)

    def test_transactions(self):
        """Every branch counts, at every depth, executed or not."""
        al = self.client.people()["al"]
        compare = field(1, field(1, 0) + field(2, 0) + field(3, b"a") + field(4, 0))

        def txn(then=b"", otherwise=b"", compares=compare):
            return compares + (field(2, then) if then else b"") + (field(3, otherwise) if otherwise else b"")
        self.check(OK, KV + "Txn", txn(op(2, put(b"a1")), op(1, span(b"z"))), al)
        self.check(DENIED, KV + "Txn", txn(op(2, put(b"a1")), op(1, span(b"y"))), al)
        self.check(DENIED, KV + "Txn", txn(op(2, put(b"z1"))), al)
        self.check(DENIED, KV + "Txn", txn(op(2, put(b"a1")), compares=field(1, field(3, b"y"))), al)
        self.check(DENIED, KV + "Txn", txn(otherwise=op(4, txn(otherwise=op(3, span(b"y"))))), al)
        self.check(OK, KV + "Txn", txn(op(1, span(b"a")), op(1, span(b"z"))), al)  # read only
        self.check(DENIED, KV + "Txn", txn(op(1, span(b"a")), op(1, span(b"y"))), al)
        self.check(DENIED, KV + "Txn", txn(op(4, txn(op(1, span(b"y") + field(7, 1)), compares=b"")), compares=b""), al)
        self.check(USER_EMPTY, KV + "Txn", txn(op(1, span(b"a"))))

    def test_watches(self):
        tokens = self.client.people()
        prefix = b"rpc error: code = %s desc = %s"
        for token, code, text in ((None, b"InvalidArgument", USER_EMPTY), (tokens["bo"], b"PermissionDenied", DENIED),
                                  ("abc.1", b"Unauthenticated", BAD_TOKEN), ("abc", b"Unauthenticated", BAD_TOKEN),
                                  ("abc.99999999", b"Unauthenticated", BAD_TOKEN)):
            s = self.stream(WATCH, token)
            s.send(watch(b"a"))
            got = s.get()
            self.assertEqual((got[2], got[3], got[4]), ([-1], [1], [1]))
            self.assertEqual(got[6], [prefix % (code, text[1].encode())])
            s.send(None)
        s = self.stream(WATCH, tokens["al"])
        for key, end, allowed in ((b"a", b"b", True), (b"a", b"\0", False), (b"z", b"\0", True), (b"", b"\0", False), (b"a", b"", True),
                                  (b"b", b"a", False)):
            s.send(watch(key, end))
            self.assertEqual(4 not in s.get(), allowed, (key, end))
        # Created is created, whatever becomes of its user.
        self.client.call(KV + "Put", put(b"a"), tokens["root"])
        self.assertIn(11, s.get())
        self.assertIn(11, s.get())
        self.client.auth("UserRevokeRole", "al", "letters", token=tokens["root"])
        self.client.auth("UserDelete", "al", token=tokens["root"])
        self.client.call(KV + "Put", put(b"ab"), tokens["root"])
        self.assertIn(11, s.get())
        s.send(watch(b"a"))
        self.assertIn(b"invalid auth token", s.get()[6][0])
        s.send(None)

    def test_leases(self):
        tokens = self.client.people()
        root, al, bo = tokens["root"], tokens["al"], tokens["bo"]
        mine, shared = [self.client.call(LEASE + "LeaseGrant", field(1, 600), al)[2][0] for _ in range(2)]
        self.client.call(KV + "Put", put(b"a1", lease=mine), al)
        self.client.call(KV + "Put", put(b"a2", lease=shared), al)
        self.client.call(KV + "Put", put(b"x", lease=shared), root)
        self.check(DENIED, KV + "Put", put(b"a3", lease=shared), al)  # would make x live or die with it
        self.check(OK, KV + "Put", put(b"a3", lease=mine), al)
        for token, lease, expected in ((al, mine, OK), (al, shared, DENIED), (bo, mine, DENIED), (root, shared, OK), (None, mine, USER_EMPTY)):
            s = self.stream(KEEP_ALIVE, token)
            s.send(field(1, lease))
            got = s.get()
            if expected is OK:
                self.assertEqual(got[3], [600])
            else:
                self.assertEqual((got.code().name, got.details()), expected)
            s.send(None)
            self.check(expected, LEASE + "LeaseTimeToLive", field(1, lease) + field(2, 1), token)
            self.check(USER_EMPTY if token is None else OK, LEASE + "LeaseTimeToLive", field(1, lease), token)
        # A stream that is as long as its token: each message is asked for anew.
        s = self.stream(KEEP_ALIVE, al)
        for _ in range(40):
            s.send(field(1, mine))
        self.assertEqual([s.get()[3] for _ in range(40)], [[600]] * 40)
        self.check(DENIED, LEASE + "LeaseLeases", token=al)
        self.check(OK, LEASE + "LeaseLeases", token=root)
        self.check(DENIED, LEASE + "LeaseRevoke", field(1, shared), al)
        self.check(DENIED, LEASE + "LeaseRevoke", field(1, mine), bo)
        self.check(USER_EMPTY, LEASE + "LeaseRevoke", field(1, mine))
        self.check(OK, LEASE + "LeaseRevoke", field(1, mine), al)
        self.client.auth("UserChangePassword", "al", "x", token=root)
        s.send(field(1, shared))
        got = s.get()
        self.assertEqual((got.code().name, got.details()), BAD_TOKEN)
        # What expires goes by itself.
        short = self.client.call(LEASE + "LeaseGrant", field(1, 1), root)[2][0]
        self.client.call(KV + "Put", put(b"short", lease=short), root)
        deadline = time.monotonic() + 30
        while 2 in self.client.call(KV + "Range", span(b"short"), root) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertNotIn(2, self.client.call(KV + "Range", span(b"short"), root))

    def test_steps_in_the_process(self):
        """Locks are made of calls on the caller's behalf."""
        tokens = self.client.people()
        self.assertEqual(self.client.outcome("/v3lockpb.Lock/Lock", field(1, b"x"), tokens["al"]), ("UNKNOWN", DENIED[1]))
        self.assertEqual(self.client.outcome("/v3lockpb.Lock/Lock", field(1, b"x")), ("UNKNOWN", USER_EMPTY[1]))
        key = self.client.call("/v3lockpb.Lock/Lock", field(1, b"a"), tokens["al"])[2][0]
        self.assertEqual(self.client.outcome("/v3lockpb.Lock/Unlock", field(1, key), tokens["bo"]), ("UNKNOWN", DENIED[1]))
        self.client.call("/v3lockpb.Lock/Unlock", field(1, key), tokens["al"])

    def json_call(self, path, body, token=None, header="Authorization"):
        r = urllib.request.Request(self.server.endpoint + path, json.dumps(body).encode(), {header: token} if token else {})
        try:
            with urllib.request.urlopen(r, timeout=20) as got:
                return got.status, json.load(got)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)["message"]

    def test_gateway(self):
        self.client.people(enable=False)
        self.assertEqual(self.json_call("/v3/auth/authenticate", {"name": "al", "password": "al-password"}),
                         (400, "etcdserver: authentication is not enabled"))
        self.assertEqual(self.json_call("/v3/auth/enable", {})[0], 200)
        status, got = self.json_call("/v3/auth/authenticate", {"name": "al", "password": "al-password"})
        self.assertEqual(status, 200)
        a, b = base64.b64encode(b"a").decode(), base64.b64encode(b"b").decode()
        self.assertEqual(self.json_call("/v3/kv/put", {"key": a, "value": a}, got["token"])[0], 200)
        self.assertEqual(self.json_call("/v3/kv/range", {"key": a}, got["token"])[1]["count"], "1")
        self.assertEqual(self.json_call("/v3/kv/range", {"key": a}, got["token"], "Grpc-Metadata-Token")[1]["count"], "1")
        self.assertEqual(self.json_call("/v3/kv/range", {"key": a}, "Bearer " + got["token"])[0], 200)
        self.assertEqual(self.json_call("/v3/kv/put", {"key": b}, got["token"]), (403, DENIED[1]))
        self.assertEqual(self.json_call("/v3/kv/put", {"key": a}), (400, USER_EMPTY[1]))
        self.assertEqual(self.json_call("/v3/kv/put", {"key": a}, "nonsense"), (401, BAD_TOKEN[1]))
        self.assertEqual(self.json_call("/v3/auth/authenticate", {"name": "al", "password": "x"}), (400, FAILED[1]))


class Tokens(Case):
    def test_life(self):
        tokens = self.client.people()
        c = self.client
        self.assertRegex(tokens["al"], r"^[a-zA-Z]{16}\.[0-9]+$")
        self.assertNotEqual(tokens["al"], c.login("al", "al-password"))
        self.check(OK, KV + "Put", put(b"a"), tokens["al"])
        for metadata in ([("authorization", tokens["al"])], [("authorization", "Bearer " + tokens["al"])], [("token", "Bearer " + tokens["al"])]):
            self.check(OK, KV + "Put", put(b"a"), metadata=metadata)
        for bad in ("", "x", "x.1", "x.y", "x." + "9" * 40, "a" * 9000, tokens["al"] + "0", tokens["al"][1:], "x.18446744073709551615"):
            self.check(BAD_TOKEN, KV + "Put", put(b"a"), bad)
            self.check(BAD_TOKEN, KV + "Range", span(b"a"), bad)
        # Simple tokens are never old.
        c.auth("UserAdd", "cy", "cy", token=tokens["root"])
        self.check(OK, KV + "Put", put(b"a"), tokens["al"])
        # A new password, or none to have it: the user's tokens are void, others' are not.
        c.auth("UserChangePassword", "al", "new", token=tokens["root"])
        self.check(BAD_TOKEN, KV + "Put", put(b"a"), tokens["al"])
        self.check(DENIED, KV + "Put", put(b"a"), tokens["bo"])
        self.check(FAILED, AUTH + "Authenticate", field(1, "al") + field(2, "al-password"))
        self.check(FAILED, AUTH + "Authenticate", field(1, "nobody") + field(2, "x"))
        self.check(FAILED, AUTH + "Authenticate", field(1, "al\0") + field(2, "new"))
        self.check(OK, AUTH + "Authenticate", field(1, "al") + field(2, "new"), token="not looked at")
        c.auth("UserDelete", "bo", token=tokens["root"])
        self.check(BAD_TOKEN, KV + "Put", put(b"a"), tokens["bo"])
        # Off: everything is open, tokens are not looked at. On again: all are void.
        c.auth("AuthDisable", token=tokens["root"])
        self.check(OK, KV + "Put", put(b"q"))
        self.check(OK, KV + "Put", put(b"q"), "nonsense")
        self.check(("FAILED_PRECONDITION", "etcdserver: authentication is not enabled"), AUTH + "Authenticate", field(1, "al") + field(2, "new"))
        c.auth("AuthEnable")
        self.check(BAD_TOKEN, KV + "Put", put(b"a"), tokens["root"])
        # A restart forgets them, and nothing else.
        token = c.login("al", "new")
        self.check(OK, KV + "Put", put(b"a"), token)
        self.restart()
        self.check(BAD_TOKEN, KV + "Put", put(b"a"), token)
        self.check(OK, KV + "Put", put(b"a"), c.login("al", "new"))

    def test_administration(self):
        c = self.client
        precondition = "FAILED_PRECONDITION"
        self.check((precondition, "etcdserver: root user does not exist"), AUTH + "AuthEnable")
        c.auth("UserAdd", "root", "r")
        self.check((precondition, "etcdserver: root user does not have root role"), AUTH + "AuthEnable")
        for expected, method, message in (
                (USER_EMPTY, "UserAdd", field(2, "x")), ((precondition, "etcdserver: user name already exists"), "UserAdd", field(1, "root")),
                (MANAGEMENT, "UserAdd", field(1, "a\0b") + field(2, "x")), (MANAGEMENT, "RoleAdd", field(1, "a\0b")),
                (MANAGEMENT, "UserGrantRole", field(1, "root") + field(2, "root\0x")),
                (("UNKNOWN", "bcrypt: password length exceeds 72 bytes"), "UserAdd", field(1, "u") + field(2, "x" * 73)),
                ((precondition, "etcdserver: user name not found"), "UserChangePassword", field(1, "u") + field(2, "x")),
                (("INVALID_ARGUMENT", "etcdserver: permission not given"), "RoleGrantPermission", field(1, "r")),
                (MANAGEMENT, "RoleGrantPermission", field(1, "r") + field(2, permission(READ, b"b", b"a"))),
                ((precondition, "etcdserver: role name not found"), "RoleGrantPermission", field(1, "r") + field(2, permission(READ, b"\0", b"\0"))),
                (OK, "UserAdd", field(1, "no") + field(3, field(1, 1)))):
            self.check(expected, AUTH + method, message)
        c.auth("UserAdd", "empty", "")
        c.auth("UserGrantRole", "root", "root")
        c.auth("AuthEnable")
        root = c.login("root", "r")
        self.check(OK, AUTH + "Authenticate", field(1, "empty"))
        self.check(("UNKNOWN", "auth: authentication failed, password was given for no password user"), AUTH + "Authenticate",
                   field(1, "no") + field(2, "x"))
        for method, message in (("UserDelete", field(1, "root")), ("UserRevokeRole", field(1, "root") + field(2, "root"))):
            self.check(MANAGEMENT, AUTH + method, message, root)

    def test_floods_of_logins(self):
        """Most of them are told to come later; the others are served, and so is everybody else."""
        tokens = self.client.people()
        with concurrent.futures.ThreadPoolExecutor(150) as pool:
            futures = [pool.submit(self.client.outcome, AUTH + "Authenticate", field(1, "al") + field(2, "x")) for _ in range(600)]
            self.check(OK, KV + "Put", put(b"a"), tokens["al"])
            got = {f.result() for f in futures}
        self.assertLessEqual(got, {FAILED, ("UNKNOWN", "etcdserver: too many requests")})
        self.assertIn(FAILED, got)
        self.check(OK, AUTH + "Authenticate", field(1, "al") + field(2, "al-password"))

    def test_users_change_all_the_time(self):
        """Who has a simple token never notices."""
        tokens = self.client.people()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            def change():
                for i in range(60):
                    self.client.auth("RoleAdd", f"r{i}", token=tokens["root"])

            changing = pool.submit(change)

            def use(path, message):
                n = 0
                while not changing.done() or n == 0:
                    self.check(OK, path, message, tokens["al"])
                    n += 1
                return n
            for f in [pool.submit(use, KV + "Put", put(b"a")), pool.submit(use, KV + "Range", span(b"a", b"b")),
                      pool.submit(use, KV + "Txn", field(2, op(1, span(b"a"))))]:
                self.assertGreater(f.result(), 0)
            changing.result()


class ShortLived(Case):
    flags = FAST_HASH + ["--auth-token-ttl", "2"]

    def test_expiry(self):
        """The time counts from the last use."""
        tokens = self.client.people()
        end = time.monotonic() + 3.5
        while time.monotonic() < end:
            self.check(OK, KV + "Put", put(b"a"), tokens["al"])
            time.sleep(0.3)
        self.check(BAD_TOKEN, KV + "Put", put(b"a"), tokens["bo"])
        time.sleep(3.5)
        self.check(BAD_TOKEN, KV + "Put", put(b"a"), tokens["al"])


def keys(folder, method):
    """Files for one way to sign: --auth-token's words for them, and those without the private one."""
    private, public = os.path.join(folder, method + ".pem"), os.path.join(folder, method + ".pub")
    kind = {"RS": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "PS": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            "ES": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "Ed": ["-algorithm", "ed25519"]}.get(method[:2])
    if kind is None:
        with open(private, "wb") as f:
            f.write(b"a secret of more than thirty-two bytes")
        return f"jwt,sign-method={method},priv-key={private}", None
    subprocess.run(["openssl", "genpkey", "-out", private, *kind], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    verify = f"jwt,sign-method={method},pub-key={public}"
    return verify + f",priv-key={private}", verify


class Signed(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="pintle-test-")
        self.addCleanup(self.dir.cleanup)

    def serve(self, option, data_dir=None):
        server = Server([*FAST_HASH, "--auth-token", option], data_dir=data_dir).start()
        self.addCleanup(server.close)
        client = Client(server.endpoint)
        self.addCleanup(client.channel.close)
        return server, client

    def test_methods(self):
        for method in ("RS256", "PS512", "ES256", "HS256", "EdDSA"):
            with self.subTest(method):
                sign, verify = keys(self.dir.name, method)
                data = os.path.join(self.dir.name, method)
                os.mkdir(data)
                server, c = self.serve(sign + ",ttl=1h", data)
                tokens = c.people()
                al = tokens["al"]
                claims = json.loads(base64.urlsafe_b64decode(al.split(".")[1] + "=="))
                revision = c.call(AUTH + "AuthStatus")[3][0]
                self.assertEqual((claims["username"], claims["revision"]), ("al", revision))
                self.assertAlmostEqual(claims["exp"], time.time() + 3600, delta=60)
                self.assertEqual(c.outcome(KV + "Put", put(b"a"), al), OK)
                self.assertEqual(c.outcome(KV + "Put", put(b"b"), al), DENIED)
                self.assertEqual(c.outcome(KV + "Put", put(b"a"), al[:-6] + "AAAAAA"), BAD_TOKEN)
                self.assertEqual(c.outcome(KV + "Put", put(b"a"), "x.1"), BAD_TOKEN)
                self.assertEqual(server.stop(), -signal.SIGTERM)
                server.start()
                self.assertEqual(c.outcome(KV + "Put", put(b"a"), al), OK)  # as long as it lasts
                if verify is not None:
                    self.assertEqual(server.stop(), -signal.SIGTERM)
                    server.flags[-1] = verify
                    server.start()
                    self.assertEqual(c.outcome(KV + "Range", span(b"a"), al), OK)
                    self.assertEqual(c.outcome(AUTH + "Authenticate", field(1, "al") + field(2, "al-password")),
                                     ("UNKNOWN", "auth: token signing attempted with verify-only key"))
                # Any change makes it old.
                c.auth("RoleAdd", "r", token=tokens["root"])
                for path, message in (("Put", put(b"a")), ("Range", span(b"a")), ("Txn", field(2, op(1, span(b"a"))))):
                    self.assertEqual(c.outcome(KV + path, message, al), OLD)
                self.assertEqual(server.stop(), -signal.SIGTERM)
                self.assertNotIn("Sanitizer", server.log_text())

    def test_ctl(self):
        server, c = self.serve(keys(self.dir.name, "RS512")[0])
        c.people()
        self.assertEqual(etcdctl(server, "--user", "al:al-password", "put", "a", "1").code, 0)
        self.assertEqual(etcdctl(server, "--user", "root:root-password", "role", "add", "r").code, 0)
        self.assertEqual(etcdctl(server, "--user", "al:al-password", "get", "a").out, "a\n1\n")

    def test_bad_options(self):
        with open(os.path.join(self.dir.name, "bad"), "w", encoding="ascii") as f:
            f.write("no key")
        bad = os.path.join(self.dir.name, "bad")
        for option in ("nonsense", "jwt,sign-method", "jwt,sign-method=XX256,priv-key=" + bad, "jwt,sign-method=RS256,priv-key=" + bad,
                       "jwt,sign-method=RS256,pub-key=/nowhere", "jwt"):
            done = subprocess.run([PINTLE, "--data-dir", os.path.join(self.dir.name, "d"), "--listen-client-urls", "http://127.0.0.1:0",
                                   "--advertise-client-urls", "http://127.0.0.1:0", "--listen-peer-urls", "http://127.0.0.1:0", "--auth-token", option],
                                  capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 1, option)
            self.assertRegex(done.stderr, r'"error":"auth: ')

    def test_no_tokens_at_all(self):
        _, c = self.serve("")
        with self.assertRaises(grpc.RpcError) as raised:
            c.people()
        self.assertEqual(raised.exception.details(), FAILED[1])

    def test_cost(self):
        server = Server(["--bcrypt-cost", "99"]).start()
        self.addCleanup(server.close)
        self.assertIn("use default bcrypt cost instead of the invalid given cost", server.log_text())


class Members(ClusterCase):
    more = FAST_HASH

    def setUp(self):
        super().setUp()
        self.clients = {m: Client(m.server.endpoint) for m in self.members}
        for c in self.clients.values():
            self.addCleanup(c.channel.close)

    def test_one_for_all(self):
        tokens = self.clients[self.led].people()
        # At once, wherever it was made.
        for i in range(20):
            made, used = self.members[i % 3], self.members[(i + 1) % 3]
            token = self.clients[made].login("al", "al-password")
            self.assertEqual(self.clients[used].outcome(KV + ("Put" if i % 2 else "Range"), put(b"a") if i % 2 else span(b"a"), token), OK)
            s = Stream(self.clients[used].channel, WATCH, metadata=[("token", token)])
            s.send(watch(b"a"))
            self.assertNotIn(4, s.get())
            s.send(None)
        follower = self.clients[self.followers[0]]
        lease = follower.call(LEASE + "LeaseGrant", field(1, 600), tokens["al"])[2][0]
        follower.call(KV + "Put", put(b"a", lease=lease), tokens["al"])
        for c in self.clients.values():
            for token, expected in ((tokens["al"], OK), (tokens["bo"], DENIED), (None, USER_EMPTY)):
                self.assertEqual(c.outcome(LEASE + "LeaseTimeToLive", field(1, lease) + field(2, 1), token), expected)
                s = Stream(c.channel, KEEP_ALIVE, metadata=[("token", token)] if token else None)
                s.send(field(1, lease))
                got = s.get()
                self.assertEqual(got[3] if expected is OK else (got.code().name, got.details()), [600] if expected is OK else expected)
                s.send(None)
            self.assertEqual(c.outcome(CLUSTER + "MemberPromote", field(1, 99), tokens["bo"]), DENIED)
            self.assertEqual(c.outcome(CLUSTER + "MemberPromote", field(1, 99), tokens["root"]), ("NOT_FOUND", "etcdserver: member not found"))
        # A member that comes back knows the users, and no tokens of before.
        victim = self.followers[0]
        self.assertEqual(victim.server.stop(), -signal.SIGTERM)
        victim.server.start()
        self.until("the users", lambda: follower.outcome(KV + "Put", put(b"a"), tokens["al"]) == BAD_TOKEN)
        self.assertEqual(self.clients[self.followers[1]].outcome(KV + "Put", put(b"a"), tokens["al"]), OK)
        # A new password is one everywhere.
        self.clients[self.followers[1]].auth("UserChangePassword", "al", "new", token=tokens["root"])
        fresh = follower.login("al", "new")
        for c in self.clients.values():
            self.until("void", lambda c=c: c.outcome(KV + "Put", put(b"a"), tokens["al"]) == BAD_TOKEN)
            self.assertEqual(c.outcome(KV + "Put", put(b"a"), fresh), OK)

    def test_promotion(self):
        """Asked of a member that does not lead."""
        root = self.clients[self.led].people()["root"]
        new = self.member("m3")
        add = field(1, new.peer) + field(2, 1)
        self.until("links that have stood for a while", lambda: self.clients[self.led].outcome(CLUSTER + "MemberAdd", add, root) is OK)
        members = [fields(m) for m in self.clients[self.led].call(CLUSTER + "MemberList", token=root)[2]]
        new.server.flags = new.flags(self.initial + f",m3={new.peer}", state="existing", more=self.more + ["--election-timeout", "500",
                                                                                                            "--heartbeat-interval", "50"])
        new.server.start()
        self.members.append(new)
        member_id = next(m[1][0] for m in members if m[3] == [new.peer.encode()]) & (1 << 64) - 1
        follower = self.clients[self.followers[0]]
        self.assertEqual(follower.outcome(CLUSTER + "MemberPromote", field(1, member_id)), USER_EMPTY)
        self.until("the promotion", lambda: follower.outcome(CLUSTER + "MemberPromote", field(1, member_id), root) is OK)
        self.assertEqual(self.http_status(self.led, f"/members/promote/{member_id}"), 500)

    def http_status(self, m, path):
        try:
            with urllib.request.urlopen(urllib.request.Request(m.peer + path, method="POST"), timeout=20) as r:
                return r.status
        except urllib.error.HTTPError as e:
            return e.code


SCRIPT = """
auth enable | user add root:rp | auth enable | user add al:ap | user add al:ap | user add no --no-password | user list | user get al
role add r | role add r | role list | role grant-permission r read k | role grant-permission r readwrite p --prefix
role grant-permission r write w --from-key | role grant-permission r read b a | role grant-permission q read k | role get r | role get q
user grant-role al r | user grant-role al q | user grant-role xx r | user grant-role root root | user get al --detail | user get xx
put k 1 | put p1 1 | put y 1 | auth enable | put k 2 | get k | al get k | al put k 2 | al put p1 2 | al get p --prefix | al get p p2
al get k p2 | al get w --from-key | al put wx 3 | al put zz 3 | al put v 3 | al del p1 --prev-kv | al del wx --prev-kv | al del k
al:bad get k | xx:bad get k | no:x get k | no get k | al user list | al user get al | al user get root | al role get r | al role list
al role get root | al user add u:p | al user delete al | al role delete r | al auth disable | al compact 1
al defrag | root user delete root | root role delete root | root user revoke-role root root
root user revoke-role al q | root role revoke-permission r k | root role revoke-permission r k | root role revoke-permission r p --prefix
al get k | al get p --prefix | root user get al | root role delete r | root role get r | root user get al --detail | al put wx 1
root user delete al | root user delete al | al get k | root user list | root role list | root put k 9 | root get k
root auth disable | get k | user list | root get k
"""


class BesideEtcd(unittest.TestCase):
    """The same words to etcdctl, the same words back. Left out is what has changed since 3.4: what is said of the role root, who may grant leases."""

    def run_script(self, server):
        out = []
        for line in re.split(r"[|\n]", SCRIPT):
            words = line.split()
            if not words:
                continue
            passwords = {"root": "root:rp", "al": "al:ap", "no": "no:"}
            who = words[0] if words[0] in passwords or ":" in words[0] else None
            if who is not None:
                words = ["--user", passwords.get(who, who), *words[1:]]
            r = etcdctl(server, *words)
            said = [x for x in r.err.splitlines() if not x.startswith("{")]
            out.append((line.strip(), r.code, r.out, said))
        return out

    def test_script(self):
        program = oracle_server.programs().get("3.4")
        if program is None:
            self.skipTest("no etcd 3.4 on this machine")
        etcd = oracle_server.Etcd(program, FAST_HASH)
        self.addCleanup(etcd.close)
        etcd.start()
        server = Server(FAST_HASH).start()
        self.addCleanup(server.close)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            theirs, ours = pool.map(self.run_script, (etcd, server))
        for a, b in zip(theirs, ours):
            with self.subTest(a[0]):
                self.assertEqual(b, a)
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertNotIn("Sanitizer", server.log_text())


if __name__ == "__main__":
    unittest.main()
