"""What the runners of other people's test suites share: namespaces to run in, the list of what is expected, the comparison with it."""
import collections
import re
import subprocess
import sys

SKIPPED = 77
# A network of its own: loopback, and a way out that leads nowhere, for tests that look for an address that is not loopback.
NETWORK = ("ip link set lo up && ip addr add 192.0.2.10/24 dev lo && ip route add default dev lo src 192.0.2.10 2>/dev/null; exec \"$@\"")

Line = collections.namedtuple("Line", "suite name kind want why")
Ran = collections.namedtuple("Ran", "got seconds bad log")


def read_expected(path):
    """One line for each test: suite, test, class, expected, why."""
    lines = []
    with open(path, encoding="utf-8") as f:
        for text in f:
            text = "" if text.startswith("#") else text.strip()
            if text:
                part = text.split(None, 4)
                lines.append(Line(*(part + [""])[:5]))
    return lines


def give_up(why):
    print("skipped: " + why)
    sys.exit(SKIPPED)


def in_namespaces(command):
    """The command with network and processes of its own: whatever it leaves running ends with it."""
    return ["unshare", "-n", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", NETWORK, "sh"] + command


def need_namespaces():
    probe = subprocess.run(in_namespaces(["true"]), capture_output=True, check=False)
    if probe.returncode != 0:
        give_up("no namespaces here: " + probe.stderr.decode().strip())


def go_verdict(text, name):
    """What a test program of Go said of the test as a whole, and which of its parts failed."""
    whole = re.search(r"^--- (PASS|FAIL|SKIP): %s " % re.escape(name), text, re.M)
    parts = re.findall(r"^ +--- FAIL: (\S+)", text, re.M)
    good = re.findall(r"^ +--- PASS: (\S+)", text, re.M)
    got = whole.group(1).lower() if whole else "fail"
    if not parts:
        return got, ""
    leaves = [p for p in parts if not any(q.startswith(p + "/") for q in parts)]
    return got, "%d of %d parts: %s" % (len(leaves), len(leaves) + len(good), " ".join(p.split("/", 1)[-1] for p in leaves[:6]))


def report(line, ran):
    mark = " " if ran.got == line.want else "!"
    print("%s %-4s %-2s %6.1f s  %s/%s  %s" % (mark, ran.got, line.kind, ran.seconds, line.suite, line.name, ran.bad or ""), flush=True)


def summary(results):
    """Says how the results compare with what was expected; 1 if they differ."""
    count = collections.Counter((line.kind, ran.got) for line, ran in results)
    print("\nclass  pass  fail  skip")
    for kind in sorted({line.kind for line, _ in results}):
        print("%-5s %5d %5d %5d" % (kind, count[kind, "pass"], count[kind, "fail"], count[kind, "skip"]))
    total = collections.Counter(ran.got for _, ran in results)
    print("all   %5d %5d %5d   of %d run" % (total["pass"], total["fail"], total["skip"], len(results)))
    odd = [(line, ran) for line, ran in results if ran.got != line.want]
    for line, ran in odd:
        print("expected %s, was %s: %s/%s (%s)" % (line.want, ran.got, line.suite, line.name, ran.log))
    return 1 if odd else 0
