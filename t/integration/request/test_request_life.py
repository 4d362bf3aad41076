# SPDX-License-Identifier: Apache-2.0
"""Requests that are still coming outlive what happens to httpd and to lingerd."""
import contextlib
import os
import random
import signal
import threading
import time

import pytest

from harness import clients, slow
from harness.slow import wait_counted, wait_gathering
from harness.waiting import wait_until

BODY = os.urandom(20_000)
POST = clients.request("/cgi/digest", f"Content-Length: {len(BODY)}", method="POST") + BODY
HANDED_OVER = ["handing over", "took over", "listens at"]
REQUESTS = {"head": (clients.request(), 30, b"hello, world\n"), "body": (POST, 9_000, slow.digest(BODY))}


@pytest.fixture(scope="module", params=slow.MPMS)
def mpm(request):
    return request.param


class Half:
    """A client that has sent a part of its request."""

    def __init__(self, httpd, what):
        self.data, self.cut, self.expected = REQUESTS[what]
        self.socket = clients.connect(httpd.port)
        self.socket.sendall(self.data[:self.cut])

    def finish(self):
        self.socket.sendall(self.data[self.cut:])
        return slow.split(clients.read_to_fin(self.socket))

    def is_answered(self):
        with self.socket:
            assert self.finish() == (200, self.expected)


def _halves(httpd, lingerd, count=6, others=0):
    halves = [Half(httpd, list(REQUESTS)[number % 2]) for number in range(count)]
    wait_gathering(lingerd, count + others)
    return halves


@pytest.mark.parametrize("restart", ["graceful", "restart"])
def test_restart_of_httpd(sandbox, mpm, restart):
    httpd, lingerd = slow.site(sandbox, mpm)
    halves = _halves(httpd, lingerd)
    for _ in range(2):
        getattr(httpd, restart)()
    for half in halves:
        half.is_answered()
    wait_counted(lingerd, Gathering=0, Gathered=6, GatherReturnFailed=0)


def test_children_that_end_with_each_connection(sandbox, mpm):
    httpd, lingerd = slow.site(sandbox, mpm, config="MaxConnectionsPerChild 1\n")
    for half in _halves(httpd, lingerd, 4):
        half.is_answered()


def test_lingerd_becomes_another(sandbox, mpm):
    """Deadlines, and what is waited for, go on."""
    httpd, lingerd = slow.site(sandbox, mpm, directives="LingerRequestTimeout 5\n")
    lingerd.allowed_lines += HANDED_OVER
    late = Half(httpd, "head")
    halves = _halves(httpd, lingerd, 5, others=1)
    for turn in range(1, 3):
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda: len(lingerd.log.matching("took over")) == turn, "another one has taken over")
    wait_gathering(lingerd, 6)
    for half in halves:
        half.is_answered()
    assert b" 408 " in clients.read_to_fin(late.socket).splitlines()[0]
    late.socket.close()
    wait_counted(lingerd, Gathering=0, Gathered=5, GatherTimedOut=1, GatherMemory=0)
    assert slow.add_up(lingerd.counters())


def test_lingerd_stops(sandbox, mpm):
    """It gives back what it has, and workers read the rest."""
    httpd, lingerd = slow.site(sandbox, mpm, workers=8)
    httpd.allowed_lines.append("lingerd is down")
    halves = _halves(httpd, lingerd)
    lingerd.terminate()
    for half in halves:
        half.is_answered()


def test_lingerd_is_killed(sandbox, mpm):
    """A client sees a closed connection, before any answer."""
    httpd, lingerd = slow.site(sandbox, mpm)
    httpd.allowed_lines += ["lingerd is down"]
    halves = _halves(httpd, lingerd)
    lingerd.kill()
    for half in halves:
        with contextlib.suppress(ConnectionError):
            assert clients.read_to_fin(half.socket) == b""
        half.socket.close()
    assert clients.fetch(httpd.port) == (200, b"hello, world\n")


def test_lingerd_stands_still(sandbox, mpm):
    """Its guard gives back what has begun."""
    httpd, lingerd = slow.site(sandbox, mpm, workers=8)
    lingerd.allowed_lines.append("this process has stood still")
    httpd.allowed_lines += ["lingerd is busy", "lingerd is back"]
    halves = _halves(httpd, lingerd)
    time.sleep(1.1)  # the guard is started with the chores
    lingerd.pause()
    for half in halves:
        half.is_answered()
    lingerd.resume()
    wait_counted(lingerd, Gathering=0, GatherEarly=6)
    assert slow.add_up(lingerd.counters())


def test_no_memory_for_bodies(sandbox, mpm):
    httpd, lingerd = slow.site(sandbox, mpm, "--request-memory", "15000", workers=8)
    first = Half(httpd, "body")
    wait_gathering(lingerd, 1)
    second = Half(httpd, "body")
    wait_counted(lingerd, GatherEarly=1, Gathering=1)
    second.is_answered()
    first.is_answered()
    wait_counted(lingerd, Gathering=0, GatherMemory=0)


@pytest.mark.parametrize("size", [0, 1, 7_999, 8_000, 8_001, 65_536, 1_048_576, 1_048_577, 9_000_000])
def test_bodies_of_all_sizes(sandbox_for_all, size):
    """As fast as they can, plain and in chunks, one behind the other."""
    httpd, _ = sandbox_for_all
    body = os.urandom(size)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in
                      (body[i:i + 10_000] for i in range(0, size, 10_000))) + b"0\r\n\r\n"
    plain = clients.request("/cgi/digest", f"Content-Length: {size}", method="POST", close=False) + body
    last = clients.request("/cgi/digest", "Transfer-Encoding: chunked", method="POST") + chunks
    with clients.connect(httpd.port) as client:
        sender = threading.Thread(target=client.sendall, args=(plain + last,))
        sender.start()
        received = clients.read_to_fin(client)
        sender.join()
    assert received.count(slow.digest(body)) == 2, received[:300]


@pytest.fixture(scope="module")
def sandbox_for_all(module_sandbox, mpm):
    return slow.site(module_sandbox, mpm)


def test_requests_race_with_restarts(sandbox, mpm):
    """Clients that send in random pieces, while httpd restarts gracefully and lingerd becomes another."""
    httpd, lingerd = slow.site(sandbox, mpm, workers=4, config="KeepAliveTimeout 30\nMaxKeepAliveRequests 0\n")
    httpd.allowed_lines += ["lingerd is", "AH00045", "AH00046", "cgid:"]
    lingerd.allowed_lines += HANDED_OVER
    rounds = int(os.environ.get("RACE_REQUESTS", "400")) // 8
    wrong = []
    # mod_cgid loses requests itself while it is restarted; a static file takes a POST as well.
    post = clients.request("/hello.txt", f"Content-Length: {len(BODY)}", method="POST") + BODY
    kinds = [REQUESTS["head"], REQUESTS["body"] if mpm == "prefork" else (post, 0, b"hello, world\n")]
    done = threading.Event()

    def race(seed):
        dice = random.Random(seed)
        for _ in range(rounds):
            data, _, expected = dice.choice(kinds)
            try:
                with clients.connect(httpd.port) as client:
                    slow.send_in_parts(client, data, dice.randint(1, 4), dice.random() * 0.03)
                    answer = slow.split(clients.read_to_fin(client))
            except (OSError, AssertionError) as problem:
                answer = problem
            if answer != (200, expected):
                wrong.append(answer)

    threads = [threading.Thread(target=race, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()

    def disturb():
        while not done.wait(0.7):
            before = len(lingerd.log.matching("took over"))
            os.kill(lingerd.pid, signal.SIGUSR2)
            wait_until(lambda n=before: len(lingerd.log.matching("took over")) > n, "another one")
            if done.wait(0.7):
                return
            os.kill(httpd.pid, signal.SIGUSR1)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    for thread in threads:
        thread.join()
    done.set()
    disturber.join()
    assert not wrong, (len(wrong), wrong[:5])
    wait_until(lambda: lingerd.counters()["LingerGathering"] == 0, "all are answered")
    assert slow.add_up(lingerd.counters())
