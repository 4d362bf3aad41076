# SPDX-License-Identifier: Apache-2.0
"""The races: what happens again and again while clients send their requests around it, and what may
become of those. What counts as an error is in racer.py.

Only hard restarts allow anything but an answer to a request that came within KeepAliveTimeout: they
kill workers in the middle of a request as ever. There each worker may cut the
one connection in its hands, as stock httpd's do, so workers times restarts is the most that may end;
what is parked doesn't notice."""
import os
import signal
import time

from harness import racer
from harness.racer import Racers
from harness.waiting import wait_until

MPMS = ("prefork", "worker")
WORKERS = 8
# The private listener's queue holds 512: not all of the crowd.
CROWD, QUEUE = 700, 512
# Before, at and after the moment of parking (the worker waits 5 ms itself); and after a stay, when
# parking doesn't wait.
AROUND_PARKING = ((0.0, 0.012), (0.004, 0.007), (0.02, 0.1))
TIMEOUT = 0.06
KEEP_ALIVE_TIMEOUT = 5  # of the other races
# worker takes a second for a new process, and has only this one.
PER_CHILD = {"prefork": 20, "worker": 300}
AROUND_TIMEOUT = ((0.055, 0.065), (0.0595, 0.0605))


def _graceful(httpd, lingerd, _racers):
    httpd.graceful()


def _hard(httpd, lingerd, _racers):
    httpd.restart(quiet=False)


def _upgrade(httpd, lingerd, _racers):
    before = len(lingerd.log.matching("took over"))
    os.kill(lingerd.pid, signal.SIGUSR2)
    wait_until(lambda: len(lingerd.log.matching("took over")) > before, "a successor")


def _full_queue(httpd, lingerd, racers):
    """Workers that stand still for longer than any client thinks: all come back, and the listener's
    queue is too short. True if it was: not when half of the crowd has gone home."""
    wait_until(lambda: lingerd.counters()["LingerParked"] > QUEUE + 50 or not racers.running(),
               lambda: f"a crowd is parked: {lingerd.counters()}")
    # Their parent too, and first: it would start another child.
    stopped = [httpd.pid, *httpd.children()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(racers.longest_pause + 0.2)
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
# Each of the crowd needs some; and what happens has to happen again before a quick machine is through.
LEAST = {"queue": 5_000} | dict.fromkeys(("graceful", "hard", "SIGUSR2"), 3_000)


def each_race(requests):
    """How many requests a race makes, if all races of all MPMs share so many."""
    return requests // (len(RACES) * len(MPMS)) + 1


def config(race, mpm):
    return racer.CONFIG + RACES[race][1].format(per_child=PER_CHILD[mpm])


def run(race, httpd, lingerd, requests, **options):
    """{how requests ended: count}. Prints what became of them; fails if anything did that must not."""
    event, _, own = RACES[race]
    httpd.allowed_lines += ["AH00161", "AH00286"]
    lingerd.allowed_lines += ["handing over", "took over"]
    options = {"port": httpd.port, "pauses": AROUND_PARKING, "clients": CLIENTS,
               "keep_alive_timeout": KEEP_ALIVE_TIMEOUT, **own, **options}
    racers = Racers(seconds=3600, requests=max(requests, LEAST.get(race, 0)), **options)
    events, overflowed = 0, False
    while racers.running():
        if event is not None:
            overflowed = event(httpd, lingerd, racers) or overflowed
            events += 1
        time.sleep(0.25)
    ends, reports = racers.wait()
    counters = lingerd.counters()
    missing = sum(ends.values()) - ends["ok"] - ends["late"]
    print(f"\n{httpd.mpm}, {race}: {dict(ends)}, {events} times; "
          f"{counters['LingerParkedTotal']:,} parked, "
          f"{counters['LingerReturned']:,} returned, {counters['LingerParkExpired']:,} expired")
    # On a machine that keeps clients from running for so long, their request comes too late in any race.
    allowed = {"ok", "late"} | ({"fin", "reset", "cut"} if race == "hard" else set())
    assert set(ends) <= allowed, (ends, reports)
    assert race != "hard" or missing <= events * WORKERS, (ends, reports)
    assert counters["LingerReturnFailed"] == 0
    # The timeout's edge has two sides; where exactly clients ask depends on the machine.
    least = ends["ok"] // (50 if race == "timeout" else 20)
    assert counters["LingerReturned"] > least, "they waited in httpd: nothing was raced"
    assert race != "timeout" or counters["LingerParkExpired"] > least
    assert event is None or events > 1
    assert race != "queue" or overflowed
    return ends


def named(race, ends):
    """For a sum over all races."""
    return {f"{end}, hard restarts" if race == "hard" and end != "ok" else end: count
            for end, count in ends.items()}
