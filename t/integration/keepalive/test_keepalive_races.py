# SPDX-License-Identifier: Apache-2.0
"""No request is lost: clients send around the moment of parking, around KeepAliveTimeout, and while
httpd and lingerd restart. `make race` makes RACE_REQUESTS of them, shared among the races.

What counts as an error is in harness/racer.py. Only two races allow anything but an answer:
KeepAliveTimeout, where a request may have come too late; and hard restarts, which kill workers in the
middle of a request as ever. There each worker may cut the one connection in its hands, as stock
httpd's do, so workers times restarts is the most that may end; what is parked doesn't notice."""
import collections
import os
import signal
import time

import pytest

from harness import keepalive, racer
from harness.racer import Racers
from harness.waiting import wait_until

MPMS = ("prefork", "worker")
WORKERS = 8
# The private listener's queue holds 512: not all of the crowd.
CROWD, QUEUE = 700, 512
# Before, at and after the moment of parking (LingerKeepAliveAfter: 5 ms); and after a stay, when
# parking doesn't wait.
AROUND_PARKING = ((0.0, 0.012), (0.004, 0.007), (0.02, 0.1))
TIMEOUT = 0.06
# worker takes a second for a new process, and has only this one.
PER_CHILD = {"prefork": 20, "worker": 300}
AROUND_TIMEOUT = ((0.055, 0.065), (0.0595, 0.0605))


def _graceful(httpd, lingerd, _racers):
    httpd.graceful()


def _hard(httpd, lingerd, _racers):
    httpd.restart()


def _upgrade(httpd, lingerd, _racers):
    before = len(lingerd.log.matching("took over"))
    os.kill(lingerd.pid, signal.SIGUSR2)
    wait_until(lambda: len(lingerd.log.matching("took over")) > before, "a successor")


def _full_queue(httpd, lingerd, racers):
    """Workers that stand still for longer than any client thinks: all come back, and the listener's
    queue is too short. True if it was: not when half of the crowd has gone home."""
    wait_until(lambda: lingerd.counters()["LingerParked"] > QUEUE + 50 or not racers.running(),
               "a crowd is parked")
    # Their parent too, and first: it would start another child.
    stopped = [httpd.pid, *httpd.children()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(0.8)
        return lingerd.counters()["LingerParked"] > 0
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


# What happens again and again meanwhile, httpd's configuration, the clients.
RACES = {
    "parking": (None, "", {"split": True}),
    "timeout": (None, f"KeepAliveTimeout {TIMEOUT * 1000:.0f}ms\n",
                {"pauses": AROUND_TIMEOUT, "keep_alive_timeout": TIMEOUT}),
    # However many clients: one that can't connect keeps its process, and others' idle connections, waiting.
    "graceful": (_graceful, "ListenBacklog 4096\n", {}),
    "hard": (_hard, "", {}),
    "children": (None, "MaxConnectionsPerChild {per_child}\n", {}),
    "SIGUSR2": (_upgrade, "", {}),
    "queue": (_full_queue, "", {"clients": CROWD // 2, "pauses": ((0.2, 0.6),)}),
}
# Of each of two processes. worker stands still for a second with each restart: a long run takes more.
CLIENTS = int(os.environ.get("RACE_CLIENTS") or 30)
REQUESTS = int(os.environ.get("RACE_REQUESTS") or 20_000) // (len(RACES) * len(MPMS)) + 1
# Each of the crowd needs some; and what happens has to happen again before a quick machine is through.
LEAST = dict.fromkeys(("queue", "graceful", "hard", "SIGUSR2"), 3_000)
pytestmark = pytest.mark.timeout(120 + REQUESTS // 50)


@pytest.fixture(scope="module", params=MPMS)
def mpm(request):
    return request.param


@pytest.fixture(scope="module")
def total():
    """How the requests of all races of an MPM ended."""
    counts = collections.Counter()
    yield counts
    print(f"in all: {sum(counts.values()):,} requests: {dict(counts)}")


@pytest.mark.parametrize("race", RACES)
def test_race(sandbox, mpm, race, total):
    event, config, options = RACES[race]
    httpd, lingerd = keepalive.site(sandbox, mpm, workers=WORKERS,
                                    config=racer.CONFIG + config.format(per_child=PER_CHILD[mpm]))
    httpd.allowed_lines += ["AH00161", "AH00286"]
    lingerd.allowed_lines += ["handing over", "took over"]
    options = {"pauses": AROUND_PARKING, "clients": CLIENTS, **options}
    racers = Racers(httpd.port, seconds=3600, requests=max(REQUESTS, LEAST.get(race, 0)),
                    **options)
    events, overflowed = 0, False
    while racers.running():
        if event is not None:
            overflowed = event(httpd, lingerd, racers) or overflowed
            events += 1
        time.sleep(0.25)
    ends, reports = racers.wait()
    counters = lingerd.counters()
    missing = sum(ends.values()) - ends["ok"]
    total.update({f"{end}, hard restarts" if race == "hard" and end != "ok" else end: count
                  for end, count in ends.items()})
    print(f"\n{mpm}, {race}: {dict(ends)}, {events} times; "
          f"{counters['LingerParkedTotal']:,} parked, "
          f"{counters['LingerReturned']:,} returned, {counters['LingerParkExpired']:,} expired")
    allowed = {"timeout": {"ok", "late"}, "hard": {"ok", "fin", "reset", "cut"}}.get(race, {"ok"})
    assert set(ends) <= allowed, (ends, reports)
    assert race != "hard" or missing <= events * WORKERS, (ends, reports)
    assert counters["LingerReturnFailed"] == 0
    assert counters["LingerReturned"] > ends["ok"] // 20, "they waited in httpd: nothing was raced"
    assert race != "timeout" or counters["LingerParkExpired"] > ends["ok"] // 50
    assert event is None or events > 1
    assert race != "queue" or overflowed
