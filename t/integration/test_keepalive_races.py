# SPDX-License-Identifier: Apache-2.0
"""No request is lost: clients that send around the moment of parking, around KeepAliveTimeout, and
while httpd and lingerd restart. KEEPALIVE_RACE_SECONDS makes them as long as one likes."""
import os
import signal
import time

import pytest

from harness import keepalive, racer
from harness.racer import Racers
from harness.waiting import wait_until

PARKING = ("prefork", "worker")
SECONDS = float(os.environ.get("KEEPALIVE_RACE_SECONDS", "6"))
# Before, at and after the moment of parking.
AROUND_PARKING = ((0.0, 0.012), (0.004, 0.007))


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


def _site(sandbox, mpm, config="", **options):
    options.setdefault("workers", 8)
    httpd, lingerd = keepalive.site(sandbox, mpm, config=racer.CONFIG + config, **options)
    httpd.allowed_lines += ["AH00161", "AH00286"]
    return httpd, lingerd


def _all_ok(racers, lingerd):
    ends, reports = racers.wait()
    assert set(ends) == {"ok"}, (ends, reports)
    counters = lingerd.counters()
    assert counters["LingerReturnFailed"] == 0
    return ends["ok"], counters


def test_around_parking(sandbox, mpm):
    httpd, lingerd = _site(sandbox, mpm)
    count, counters = _all_ok(Racers(httpd.port, pauses=AROUND_PARKING, seconds=SECONDS, split=True),
                              lingerd)
    print(f"{count} requests, {counters['LingerReturned']} returned")
    assert counters["LingerReturned"] > count // 20, "most waited in httpd: nothing was raced"


def test_around_keep_alive_timeout(sandbox, mpm):
    """A request that comes too late finds a FIN, never a reset and never half a response."""
    httpd, lingerd = _site(sandbox, mpm, "KeepAliveTimeout 60ms\n")
    ends, reports = Racers(httpd.port, pauses=((0.055, 0.065), (0.0595, 0.0605)),
                           seconds=SECONDS).wait()
    assert set(ends) <= {"ok", "fin"}, (ends, reports)
    counters = lingerd.counters()
    print(f"{ends}, {counters['LingerParkExpired']} expired")
    assert counters["LingerReturned"] > 20 and counters["LingerParkExpired"] > 20


@pytest.mark.parametrize("what", ["graceful", "lingerd"])
def test_restarts(sandbox, mpm, what):
    """Again and again; no connection ends, but for those that are told so."""
    httpd, lingerd = _site(sandbox, mpm)
    lingerd.allowed_lines += ["handing over", "took over"]
    racers = Racers(httpd.port, pauses=AROUND_PARKING, seconds=SECONDS)
    restarts = 0
    while racers.running():
        if what == "graceful":
            httpd.graceful()
        else:
            takeovers = len(lingerd.log.matching("took over"))
            os.kill(lingerd.pid, signal.SIGUSR2)
            wait_until(lambda n=takeovers: len(lingerd.log.matching("took over")) > n, "a successor")
        restarts += 1
        time.sleep(0.3)
    count, _ = _all_ok(racers, lingerd)
    print(f"{count} requests, {restarts} restarts")


def test_connections_per_child(sandbox, mpm):
    httpd, lingerd = _site(sandbox, mpm, "MaxConnectionsPerChild 20\n")
    count, _ = _all_ok(Racers(httpd.port, pauses=AROUND_PARKING, seconds=SECONDS), lingerd)
    print(f"{count} requests")


def test_hard_restarts(sandbox, mpm):
    """They kill children in the middle of a request, as ever: no more of those ends than there are
    workers at each restart. Who was parked doesn't notice."""
    httpd, lingerd = _site(sandbox, mpm)
    racers = Racers(httpd.port, pauses=((0.02, 0.1),), seconds=SECONDS)
    restarts = 0
    while racers.running():
        httpd.restart()
        restarts += 1
        time.sleep(0.3)
    ends, reports = racers.wait()
    broken = sum(ends.values()) - ends["ok"]
    assert broken <= restarts * 8 * 2 and not ends["wrong"] and not ends["stuck"], (ends, reports)
    print(f"{ends}, {restarts} restarts")


def test_few_workers(sandbox, mpm):
    """More connections than workers by far: whoever returns finds the listen queue long."""
    httpd, lingerd = _site(sandbox, mpm, workers=2)
    count, counters = _all_ok(
        Racers(httpd.port, clients=150, pauses=((0.0, 0.05),), seconds=SECONDS), lingerd)
    print(f"{count} requests, {counters['LingerReturned']} returned")
