"""Clusters of real processes, on loopback or each member in a network namespace of its own, and the faults they meet.

The server is any program with etcd's flags. Processes are stopped by their ids, only those started here, and the kernel ends them
if this process dies; namespaces carry this process's id in their names and are removed at the end, or by the next run.
"""
import atexit
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from ports import free_ports  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY_DIR = os.environ.get("PINTLE_BINARY_DIR", os.path.join(ROOT, "build", "release"))
SERVER = os.environ.get("PINTLE_CLUSTER_SERVER", os.path.join(BINARY_DIR, "bin", "pintle"))
START_S = 30
STOP_S = 30
AGREE_S = 30
END_S = 200
NETWORK = "10.199.77"
PREFIX = "pinclu"
CLIENT_PORT, PEER_PORT = 2379, 2380
ETCD_ID = re.compile(r"^[0-9a-f]{1,16}$")


class Failure(AssertionError):
    """Something that should have come true did not, in its time."""


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def wait_for(what, condition, seconds=AGREE_S, pause=0.05):
    """Poll until the condition gives something true, and return it."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise Failure("not within %g s: %s" % (seconds, what))
        time.sleep(pause)


# --- the network ------------------------------------------------------------------------------------------------------------

def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=20)


def sweep_namespaces():
    """Remove what a run that was killed left behind."""
    if not os.path.isdir("/run/netns"):
        return
    for name in os.listdir("/run/netns"):
        found = re.match(PREFIX + r"(\d+)-\d+$", name)
        if found and not os.path.exists("/proc/" + found.group(1)):
            ip("netns", "del", name, check=False)


def namespaces_missing():
    """Why there can be no network namespaces here; None when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "no ip or no nsenter (packages iproute2 and util-linux)"
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun"
    name = "%s%d-99" % (PREFIX, os.getpid())
    try:
        made = ip("netns", "add", name, check=False)
        if made.returncode != 0:
            return "ip netns add: " + made.stderr.strip()
        tun = subprocess.run(["nsenter", "--net=/run/netns/" + name, "ip", "tuntap", "add", "dev", "t0", "mode", "tun"],
                             capture_output=True, text=True, timeout=20, check=False)
        return None if tun.returncode == 0 else "TUN: " + tun.stderr.strip()
    finally:
        ip("netns", "del", name, check=False)


class Network:
    """Namespaces for n ends and cluster-wires between them. Ends are numbered from 0; the last one is for clients."""

    def __init__(self, n, seed):
        sweep_namespaces()
        self.names = ["%s%d-%d" % (PREFIX, os.getpid(), i) for i in range(n)]
        self.n = n
        self.wires = None
        atexit.register(self.close)
        try:
            for name in self.names:
                ip("netns", "add", name)
            self.wires = subprocess.Popen([os.path.join(BINARY_DIR, "tests", "cluster-wires"), str(seed), *self.names],
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
            self.expect("ready")
            for i, name in enumerate(self.names):
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "addr", "add", self.address(i) + "/24", "dev", "t0")
                ip("-n", name, "link", "set", "t0", "mtu", "16000", "up")
        except BaseException:
            self.close()
            raise

    def address(self, i):
        return "%s.%d" % (NETWORK, i + 1)

    def enter(self, i):
        """The words before a command that run it at end i; the process keeps its id."""
        return ["nsenter", "--net=/run/netns/" + self.names[i]]

    def expect(self, answer):
        line = self.wires.stdout.readline().strip()
        if line != answer:
            raise Failure("cluster-wires says %r" % line)

    def command(self, text):
        self.wires.stdin.write(text + "\n")
        self.wires.stdin.flush()
        self.expect("ok")

    def wire(self, a, b, loss=0, delay_ms=0, jitter_ms=0):
        """One direction; loss per thousand."""
        self.command("wire %d %d %d %d %d" % (a, b, loss, delay_ms * 1000, jitter_ms * 1000))

    def cut(self, group, others, both=True):
        for a in group:
            for b in others:
                self.wire(a, b, loss=1000)
                if both:
                    self.wire(b, a, loss=1000)

    def heal(self):
        self.command("heal")

    def close(self):
        atexit.unregister(self.close)
        if self.wires is not None and self.wires.poll() is None:
            self.wires.stdin.close()
            try:
                self.wires.wait(5)
            except subprocess.TimeoutExpired:
                self.wires.kill()
                self.wires.wait()
        for name in self.names:
            ip("netns", "del", name, check=False)


# --- members ----------------------------------------------------------------------------------------------------------------

class Member:
    """One server process and its directory."""

    def __init__(self, cluster, index, program, ports):
        self.cluster, self.index, self.program = cluster, index, program
        self.name = "m%d" % index
        self.directory = os.path.join(cluster.directory, self.name)
        self.log_path = os.path.join(cluster.directory, self.name + ".log")
        net = cluster.network
        self.host = net.address(index) if net else "127.0.0.1"
        self.client_port, self.peer_port = (CLIENT_PORT, PEER_PORT) if net else ports
        self.endpoint = "%s:%d" % (self.host, self.client_port)
        self.client_url = "http://" + self.endpoint
        self.peer_url = "http://%s:%d" % (self.host, self.peer_port)
        self.process = None
        self.paused = False
        self.learner = False
        self.initial = None  # (what --initial-cluster says, its state)
        self.extra = []

    def start(self):
        words, state = self.initial
        command = [self.program, "--name", self.name, "--data-dir", self.directory,
                   "--listen-client-urls", self.client_url, "--advertise-client-urls", self.client_url,
                   "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
                   "--initial-cluster", words, "--initial-cluster-state", state,
                   "--initial-cluster-token", self.cluster.token, *self.cluster.flags, *self.extra]
        if self.cluster.network:
            command = self.cluster.network.enter(self.index) + command
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)
        self.paused = False
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def serving(self):
        return self.alive() and not self.paused

    def kill(self):
        if self.alive():
            self.process.kill()
            self.process.wait()

    def stop(self):
        """The graceful end."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                raise Failure("%s did not end within %d s of SIGTERM" % (self.name, STOP_S)) from None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def close(self):
        if self.alive():
            if self.paused:
                self.resume()
            self.kill()

    def status(self):
        """What `endpoint status` says, or None."""
        done = self.cluster.ctl("endpoint", "status", "-w", "json", endpoints=[self], check=False, timeout=3)
        try:
            return json.loads(done.stdout)[0]["Status"]
        except (ValueError, IndexError, KeyError, TypeError):
            return None

    def id(self):
        return self.status()["header"]["member_id"]

    def revision(self):
        s = self.status()
        return s["header"].get("revision", 0) if s else 0

    def metrics(self):
        """The text of /metrics; empty when there is none. Only on loopback."""
        try:
            with urllib.request.urlopen(self.client_url + "/metrics", timeout=5) as reply:
                return reply.read().decode()
        except (urllib.error.URLError, OSError):
            return ""

    def metric(self, pattern):
        """The sum of all series whose name and labels match."""
        lines = re.findall(r"^(?:%s) ([0-9.e+]+)$" % pattern, self.metrics(), re.M)
        return sum(float(v) for v in lines)

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()


class Cluster:
    """Members 0..n-1 begin together; room for more up to `most`, which are created with add()."""

    def __init__(self, n=3, most=None, program=None, programs=None, network=None, flags=(), directory=None):
        self.directory = directory or tempfile.mkdtemp(prefix="pintle-cluster-")
        self.own_directory = directory is None
        self.network = network
        self.flags = list(flags)
        self.token = "t%d" % os.getpid()
        most = most or n
        programs = programs or [program or SERVER] * most
        ports = free_ports(2 * most)
        self.all = [Member(self, i, programs[i], ports[2 * i:2 * i + 2]) for i in range(most)]
        self.members = self.all[:n]  # of the configuration, started or not
        words = ",".join("%s=%s" % (m.name, m.peer_url) for m in self.members)
        for m in self.members:
            m.initial = (words, "new")
        self.failed = False

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.failed = kind is not None
        self.close()

    def start(self):
        for m in self.members:
            m.start()
        self.wait_ready()
        return self

    def close(self):
        for m in self.all:
            m.close()
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def endpoints(self, members=None):
        return ",".join(m.endpoint for m in members or self.members)

    def ctl(self, *words, endpoints=None, check=True, timeout=15):
        command = ["etcdctl", "--endpoints", self.endpoints(endpoints), "--dial-timeout=1s",
                   "--command-timeout=%ds" % timeout, *words]
        if self.network:
            command = self.network.enter(self.network.n - 1) + command
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout + 10, check=False,
                                  env={**os.environ, "ETCDCTL_API": "3"})
        except subprocess.TimeoutExpired:
            raise Failure("etcdctl %s hangs" % " ".join(words)) from None
        if check and done.returncode != 0:
            raise Failure("etcdctl %s: %s%s" % (" ".join(words), done.stdout, done.stderr))
        return done

    def json(self, *words, **more):
        return json.loads(self.ctl(*words, "-w", "json", **more).stdout)

    # --- what is

    def serving(self):
        return [m for m in self.members if m.serving()]

    def voters(self):
        """Serving members that are no learners: those answer nearly nothing, and etcdctl gives up at their refusal."""
        return [m for m in self.serving() if not m.learner]

    def statuses(self, members=None):
        """Pairs of a member and its status, of those that answer."""
        found = [(m, m.status()) for m in members or self.serving()]
        return [(m, s) for m, s in found if s is not None]

    def leader(self, seconds=AGREE_S, pause=0.05):
        """The member that all serving members take for the leader."""
        def agreed():
            for m in self.members:
                if not m.alive() and m.process is not None and m.process.returncode not in (None, 0, -9, -15, 0):
                    raise Failure("%s ended by itself with %d:\n%s" % (m.name, m.process.returncode, m.log_text()[-2000:]))
            serving = self.serving()
            found = self.statuses(serving)
            leaders = {s.get("leader", 0) for _, s in found}
            if len(found) < len(serving) or len(leaders) != 1 or leaders == {0}:
                return None
            for m, s in found:
                if s["header"]["member_id"] in leaders:
                    return m
            return None
        return wait_for("one leader that all members name", agreed, seconds, pause)

    def followers(self):
        leader = self.leader()
        return [m for m in self.serving() if m is not leader]

    def wait_ready(self, seconds=START_S):
        return self.leader(seconds)

    def wait_caught_up(self, member, seconds=60):
        """`member` has applied what the leader had a moment ago."""
        goal = max(s["header"]["revision"] for _, s in self.statuses([m for m in self.serving() if m is not member]))
        wait_for("%s at revision %d" % (member.name, goal), lambda: member.revision() >= goal, seconds)

    def hashes(self):
        done = self.ctl("endpoint", "hashkv", "-w", "json", endpoints=self.serving(), check=False)
        try:
            return [(e["Endpoint"], e["HashKV"]["header"]["revision"], e["HashKV"].get("compact_revision", 0),
                     e["HashKV"]["hash"]) for e in json.loads(done.stdout)]
        except (ValueError, KeyError, TypeError):
            return []

    def check_hashes(self, seconds=AGREE_S):
        """HashKV is the same on all members; waits for those that are behind."""
        last = []
        gone = [m for m in self.members if not m.alive()]
        if gone:
            raise Failure("%s ended by itself: %s" % (gone[0].name, gone[0].log_text()[-2000:]))

        def same():
            last[:] = self.hashes()
            states = {(rev, compact) for _, rev, compact, _ in last}
            if len(last) < len(self.serving()) or len(states) != 1:
                return False
            if len({h for _, _, _, h in last}) != 1:
                raise Failure("HashKV differs at one revision: %r" % last)
            return True
        try:
            wait_for("the same revision everywhere", same, seconds)
        except Failure as failure:
            raise Failure("%s: %r" % (failure, last)) from None

    # --- what is done to it

    def compact(self, keep=10):
        """Compact all but the last few revisions."""
        goal = max(s["header"]["revision"] for _, s in self.statuses()) - keep
        if goal > 1:
            self.retried("compaction", str(goal), "--physical", enough="required revision has been compacted")

    def move_leader(self, to):
        return self.ctl("move-leader", "%x" % to.id(), endpoints=[self.leader()])

    def member_ids(self):
        """Name to id. A member that was added and has not started has no name: it goes by its peer URL."""
        found = self.json("member", "list", endpoints=self.voters())["members"]
        return {m.get("name") or m["peerURLs"][0]: m["ID"] for m in found}

    def learners(self):
        found = self.json("member", "list", endpoints=self.voters())["members"]
        return {m.get("name") or m["peerURLs"][0] for m in found if m.get("isLearner")}

    def retried(self, *words, seconds=30, enough=None):
        """etcdctl until it succeeds, as a person would whom the cluster tells to wait. `enough`: an answer that says, after an attempt
        of unknown fate, that it had succeeded."""
        said = []

        def once():
            done = self.ctl(*words, endpoints=self.voters(), check=False)
            if done.returncode == 0 or (enough and said and enough in done.stderr):
                return done
            text = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.stdout
            if text not in said:
                said.append(text)
            return None
        try:
            return wait_for("etcdctl " + " ".join(words), once, seconds, 0.2)
        except Failure as failure:
            raise Failure("%s; said: %s" % (failure, "; ".join(said))) from None

    def remove(self, member):
        """`member remove`; the process is left as it is."""
        ids = self.member_ids()
        self.members = [m for m in self.members if m is not member]
        self.retried("member", "remove", "%x" % ids[member.name], enough="member not found")

    def add(self, member, learner=False, program=None):
        """`member add` and a start with an empty directory, as etcd's documents say."""
        member.close()
        shutil.rmtree(member.directory, ignore_errors=True)
        words = ["member", "add", member.name, "--peer-urls=" + member.peer_url] + (["--learner"] if learner else [])
        done = self.retried(*words, enough="Peer URLs already exists")
        printed = re.search(r'ETCD_INITIAL_CLUSTER="([^"]*)"', done.stdout)
        if done.returncode == 0 and (printed is None or 'ETCD_INITIAL_CLUSTER_STATE="existing"' not in done.stdout):
            raise Failure("member add printed: " + done.stdout)
        words = printed.group(1) if printed else ",".join("%s=%s" % (m.name, m.peer_url) for m in self.members + [member])
        member.initial = (words, "existing")
        member.program = program or member.program
        member.learner = learner
        self.members = self.members + [member]
        member.start()

    def promote(self, member, seconds=60):
        ids = self.member_ids()
        self.retried("member", "promote", "%x" % wait_for(
            "%s is listed by name" % member.name, lambda: (ids.update(self.member_ids()) or ids.get(member.name))),
            seconds=seconds)
        member.learner = False

    def check_logs(self):
        """Nothing that only happens in a broken server."""
        for m in self.all:
            if os.path.exists(m.log_path):
                found = re.search(r"^.*(Sanitizer|assertion failed|panic:).*$", m.log_text(), re.M)
                if found:
                    raise Failure("%s: %s" % (m.name, found.group(0)[:2000]))


# --- load ---------------------------------------------------------------------------------------------------------------------

class Workload:
    """cluster-workload against some endpoints; finish() ends it and has its history judged."""

    def __init__(self, cluster, members=None, leaving=(), **options):
        self.cluster = cluster
        self.history = os.path.join(cluster.directory, "history-%d" % time.monotonic_ns())
        command = [os.path.join(BINARY_DIR, "tests", "cluster-workload"), "--out", self.history,
                   "--endpoints", cluster.endpoints(members or cluster.members)]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-")] + ([] if value is True else [str(value)])
        for m in leaving:
            command += ["--leaving", str((members or cluster.members).index(m))]
        if cluster.network:
            command = cluster.network.enter(cluster.network.n - 1) + command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, preexec_fn=die_with_parent)
        line = self.process.stdout.readline()
        if not line.startswith("started"):
            self.process.wait()
            raise Failure("the workload did not start: " + line)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def finish(self, cut=0, failed=None):
        """Counts by name. `cut`: watchers whose member is not there any more; `failed`: requests that may have failed."""
        try:
            out = self.process.communicate(timeout=END_S)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure("the workload did not end within %d s" % END_S) from None
        counts = {k: int(v) for k, v in re.findall(r"(\w+)=(-?\d+)", out)}
        if self.process.returncode != 0 or counts.get("watchers_cut", 0) != cut:
            raise Failure("the workload: " + out)
        if failed is not None and counts["failed"] > failed:
            raise Failure("%d requests failed: %s" % (counts["failed"], out))
        judged = subprocess.run([os.path.join(BINARY_DIR, "tests", "cluster-check"), self.history], capture_output=True,
                                text=True, timeout=END_S, check=False)
        counts.update({k: int(v) for k, v in re.findall(r"(\w+)=(-?\d+)", judged.stdout)})
        if judged.returncode != 0:
            raise Failure("%s%s%s" % (out, judged.stdout, judged.stderr))
        counts["text"] = out
        return counts
