# SPDX-License-Identifier: Apache-2.0
"""`make hostile`: peers that do anything (peer.py), as several users at once, beside an honest httpd under load,
whose clients must notice nothing.

HOSTILE_SECONDS  how long; default 60. A third of it is for comparison: the same peers at the same
                 speed, but at another lingerd than httpd's; in turns, because a machine's other
                 work comes and goes
HOSTILE_SEED     of all that is random; default a new one, which is printed
"""
import contextlib
import math
import multiprocessing
import os
import pathlib
import random
import resource
import shutil
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))
from harness import places, sandbox, stats  # noqa: E402
from harness.fuse_peer import FusePeer  # noqa: E402
from harness.httpd import content  # noqa: E402
from harness.record import record  # noqa: E402

USERS = (4711, 4712, 4713)
HOARDERS = (4715, 4716)
LIMIT = 600  # of lingerd's connections: each hoarder alone takes them all
LIFE = 4.0  # seconds of a hostile process
TURN = 30.0  # seconds at the other lingerd and at httpd's, at most
BODY = content("64k.bin")
HELLO = content("hello.txt")


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def read_response(client):
    """(body, whether the server closes) of one response."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {len(data)} bytes")
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line for line in head.lower().split(b"\r\n")
                      if line.startswith(b"content-length:")).split(b":")[1])
    while len(body) < length:
        part = client.recv(65536)
        if not part:
            raise ConnectionError(f"cut short: {len(body)} of {length}")
        body += part
    return body, b"connection: close" in head.lower()


def late_closer(port, numbers):
    """A response, late bytes, a late FIN: handed off."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        before = time.monotonic()
        client.sendall(b"GET /64k.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        body, _ = read_response(client)
        took = time.monotonic() - before
        if body != BODY:
            raise ConnectionError("another body")
        client.settimeout(30)
        if client.recv(1) != b"":
            raise ConnectionError("more than the response")
        client.send(bytes(1000))
        time.sleep(numbers.random() * 0.05)
        client.send(b"x")  # a reset would be an error: nobody lingered
        return took


def keeper(port, numbers):
    """Requests with pauses on one connection: parked and returned."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        worst = 0.0
        for _ in range(4):
            before = time.monotonic()
            client.sendall(b"GET /hello.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            body, closes = read_response(client)
            worst = max(worst, time.monotonic() - before)
            if body != HELLO:
                raise ConnectionError("another body")
            if closes:
                break
            time.sleep(0.02 + numbers.random() * 0.05)
        return worst


def honest(port, seed, stop, results):
    """Honest clients until told to stop; (when, kind, seconds or what went wrong)."""
    numbers = random.Random(seed)
    while not stop.is_set():
        client = numbers.choice((late_closer, keeper))
        try:
            results.put((time.monotonic(), client.__name__, client(port, numbers)))
        except OSError as problem:
            results.put((time.monotonic(), client.__name__, f"{type(problem).__name__}: {problem}"))
        time.sleep(0.004)


def watch(path, pid, stop, results):
    """How old the heartbeat gets, and what lingerd takes up."""
    oldest, since = 0.0, time.monotonic()
    while not stop.is_set():
        page = None
        with contextlib.suppress(AssertionError):  # never at rest: this process gets no time
            page = stats.read_page(path)
        if page:
            oldest = max(oldest, (time.monotonic_ns() - page["heartbeat_ns"]) / 1e9)
        if time.monotonic() > since + 1:
            with contextlib.suppress(OSError):
                rss = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
                results.put((time.monotonic(), "watch",
                             (oldest, rss, len(os.listdir(f"/proc/{pid}/fd")))))
            oldest, since = 0.0, time.monotonic()
        time.sleep(0.004)


class Mob:
    """Hostile processes of several users, each followed by another one when it has had its time."""

    def __init__(self, lingerd, seed, directory):
        self.lingerd, self.random, self.directory = lingerd, random.Random(seed), directory
        self.processes = []
        self.hoarders = []
        self.started = 0
        self.fuse = None

    def go_on(self, until):
        fuse_until = 0
        while time.monotonic() < until:
            self.processes = [p for p in self.processes if p.poll() is None]
            while len(self.processes) < len(USERS):
                self.processes.append(self._start(USERS, "anything"))
            self.hoarders = [p for p in self.hoarders if p.poll() is None]
            while len(self.hoarders) < len(HOARDERS):
                self.hoarders.append(self._start(HOARDERS, "hoarder"))
            if time.monotonic() > fuse_until:
                self._other_fuse()
                fuse_until = time.monotonic() + 3 + 4 * self.random.random()
            if self.fuse and not self.fuse.problem and self.random.random() < 0.3:
                with contextlib.suppress(OSError):
                    self.fuse.send(record(), count=self.random.choice((1, 1, 2, 30)))
            if self.random.random() < 0.02 and self.processes:
                self.random.choice(self.processes).kill()
            time.sleep(0.05)

    def _start(self, users, kind):
        uid = users[self.started % len(users)]
        self.started += 1

        def as_user():
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)

        return subprocess.Popen(
            [sys.executable, str(HERE / "peer.py"), str(self.lingerd.socket_path),
             str(self.random.getrandbits(32)), str(LIFE * (0.2 + self.random.random())),
             str(self.directory), kind], preexec_fn=as_user, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _other_fuse(self):
        if self.fuse:
            self.fuse.__exit__()
        place = self.directory / f"fuse-{time.monotonic_ns()}"
        self.fuse = FusePeer(self.lingerd.socket_path, place, uid=self.random.choice(USERS))

    def end(self):
        if self.fuse:
            self.fuse.__exit__()
        for process in self.processes + self.hoarders:
            process.kill()
            process.wait()


def summary(samples, turns):
    """Of what was seen in these times: (from, to)s."""
    mine = [(kind, value) for when, kind, value in samples
            if any(begin <= when < end for begin, end in turns)]
    times = {name: [v for kind, v in mine if kind == name and not isinstance(v, str)]
             for name in ("late_closer", "keeper")}
    seen = [value for kind, value in mine if kind == "watch"]
    return {
        "problems": [f"{kind}: {v}" for kind, v in mine if isinstance(v, str)],
        "requests": sum(map(len, times.values())),
        "p99": {name: percentile(values, 0.99) for name, values in times.items()},
        "heartbeat": max((age for age, _, _ in seen), default=0.0),
        "rss": [rss for _, rss, _ in seen], "fds": [fds for _, _, fds in seen],
    }


class Honest:
    """Honest clients of `httpd`, and a look at `lingerd` again and again, each in a process of its own."""

    def __init__(self, httpd, lingerd, seed):
        self.samples = []
        self._stop, self._results = multiprocessing.Event(), multiprocessing.Queue()
        self._helpers = [multiprocessing.Process(target=honest, args=(httpd.port, seed + i, self._stop, self._results))
                         for i in range(3)]
        self._helpers.append(multiprocessing.Process(
            target=watch, args=(lingerd.stats_path, lingerd.pid, self._stop, self._results)))

    def __enter__(self):
        for helper in self._helpers:
            helper.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for helper in self._helpers:
            while helper.is_alive():
                self.collect()
                helper.join(0.1)

    def collect(self):
        while not self._results.empty():
            self.samples.append(self._results.get())


def turn(mob, seconds, helpers):
    """When it began and ended."""
    begin = time.monotonic()
    while time.monotonic() < begin + seconds:
        mob.go_on(min(begin + seconds, time.monotonic() + 1))
        helpers.collect()
    mob.end()
    return begin, time.monotonic()


def run(seconds, seed, mpm="prefork"):
    """(what happened while the mob was elsewhere, and here; the last counters; what went wrong)"""
    box = sandbox.Sandbox("hostile")
    directory = box.directory / "mob"
    directory.mkdir()
    directory.chmod(0o777)
    options = ("--max-time", "20", "--offload-memory", "64M", "--max-connections", str(LIMIT))
    lingerd = box.lingerd(*options)
    decoy = box.lingerd(*options)
    for one in (lingerd, decoy):
        one.allowed_lines += [r"lingerd: (refused |can't accept)",
                              r"lingerd: (at the limit .*|user \d+ had )more than its share"]
    httpd = box.httpd(mpm, lingerd=lingerd,
                      linger_directives="LingerOffload On\nLingerKeepAlive On\nLingerKeepAliveAfter 0\n")
    elsewhere, here = [], []
    pairs = math.ceil(seconds / TURN)
    with Honest(httpd, lingerd, seed) as helpers:
        for number in range(pairs):
            elsewhere.append(turn(Mob(decoy, seed + number, directory), seconds / 3 / pairs, helpers))
            here.append(turn(Mob(lingerd, seed + number, directory), seconds * 2 / 3 / pairs, helpers))
        time.sleep(3)  # offers expire, closers come to their end
    here.append((here[-1][1], time.monotonic()))
    counters = lingerd.counters()
    shutil.rmtree(directory, ignore_errors=True)
    problems = [] if lingerd.running() else ["lingerd has ended"]
    return (summary(helpers.samples, elsewhere), summary(helpers.samples, here), counters,
            problems + [line for line in box.close() if line])


def report(elsewhere, here, counters, problems, seed):
    print(f"seed {seed}")
    for name, part in (("the mob elsewhere", elsewhere), ("the mob here", here)):
        print(f"{name}: {part['requests']} honest connections, {len(part['problems'])} lost; p99 "
              + ", ".join(f"{kind} {value * 1000:.1f} ms" for kind, value in part["p99"].items())
              + f"; oldest heartbeat {part['heartbeat'] * 1000:.0f} ms; "
              f"at most {max(part['fds'], default=0)} descriptors, "
              f"{max(part['rss'], default=0) / 1e6:.1f} MB; in the end "
              f"{part['fds'][-1] if part['fds'] else 0}, "
              f"{(part['rss'][-1] if part['rss'] else 0) / 1e6:.1f} MB")
        for problem in part["problems"][:10]:
            print("   ", problem)
    print("counters:", {name: value for name, value in counters.items() if value})
    for problem in problems:
        print(problem)
    sys.stdout.flush()


def main():
    seconds = float(os.environ.get("HOSTILE_SECONDS", "60"))
    seed = int(os.environ.get("HOSTILE_SEED") or random.randrange(1 << 31))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"seed {seed}, {seconds:.0f} s, {places.LINGERD}", flush=True)
    result = run(seconds, seed)
    report(*result, seed)
    elsewhere, here, _, problems = result
    return 1 if problems or elsewhere["problems"] or here["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
