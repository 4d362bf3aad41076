# SPDX-License-Identifier: Apache-2.0
"""A lingerd that stands still (stopped, spinning, in an endless system call) and LingerKeepAlive."""
import collections
import contextlib
import os
import pathlib
import signal
import statistics
import time

import pytest

from harness import keepalive, racer
from harness.keepalive import KeepAlive, wait_counted, wait_parked
from harness.racer import Racers
from harness.waiting import wait_until

PARKING = ("prefork", "worker")
STOOD_STILL = "this process has stood still"


def _site(sandbox, mpm, **options):
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\nMaxKeepAliveRequests 0\n"
                                    + racer.CONFIG, **options)
    lingerd.allowed_lines.append(STOOD_STILL)
    # A child whose first connection goes idle meanwhile; and one that lingerd was just giving back.
    httpd.allowed_lines += ["lingerd is busy", "lingerd is back", "it brought no client"]
    return httpd, lingerd


@pytest.mark.parametrize("mpm", PARKING)
def test_requests_of_parked_connections_are_answered_though_lingerd_is_stopped(sandbox, mpm):
    """Again and again, each by another connection and at another moment; those that don't ask stay
    where they are."""
    # Enough for all that come back: nobody is parked meanwhile.
    httpd, lingerd = _site(sandbox, mpm, workers=50)
    connections = [KeepAlive(httpd.port) for _ in range(40)]
    for number, connection in enumerate(connections, 1):
        connection.ask()
        wait_parked(lingerd, number)
    keepalive.guard_of(lingerd)
    lingerd.pause()
    waits = []
    for connection in connections[:30]:
        began = time.monotonic()
        assert connection.ask()[0] == 200
        waits.append(time.monotonic() - began)
    print(f"{mpm}: longest wait {max(waits):.2f} s, then {max(waits[1:]):.2f} s")
    assert lingerd.counters()["LingerParked"] == 40  # as it was: it is stopped
    lingerd.resume()
    wait_until(lambda: lingerd.log.matching(STOOD_STILL), "it says so")
    for connection in connections:
        assert connection.ask()[0] == 200
        connection.socket.close()
    wait_parked(lingerd, 0)
    assert keepalive.parks_add_up(lingerd.counters())


@pytest.mark.parametrize("mpm", PARKING)
def test_a_connection_that_goes_idle_when_lingerd_has_just_stopped(sandbox, mpm):
    """At each moment after it, whether its record is read or not; with others parked or without."""
    httpd, lingerd = _site(sandbox, mpm)
    waits = []
    with KeepAlive(httpd.port) as parked:
        parked.ask()
        wait_parked(lingerd, 1)
        keepalive.guard_of(lingerd)
        for delay in (0, 0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.5):
            with KeepAlive(httpd.port) as connection:
                connection.ask()
                lingerd.pause()
                time.sleep(delay)
                for _ in range(3):
                    began = time.monotonic()
                    assert connection.ask()[0] == 200
                    waits.append(time.monotonic() - began)
                    time.sleep(0.02)
                lingerd.resume()
                assert connection.ask()[0] == 200
        assert parked.ask()[0] == 200
    print(f"{mpm}: longest wait {max(waits):.2f} s")
    wait_parked(lingerd, 0)
    assert keepalive.parks_add_up(lingerd.counters())


@pytest.mark.parametrize("mpm", PARKING)
def test_no_connection_goes_home_twice(sandbox, mpm):
    """Stopped and continued at random moments under load, for longer and shorter than the guard's
    patience. Would catch a connection that two workers have: both would answer, or neither."""
    httpd, lingerd = _site(sandbox, mpm, workers=16)
    racers = Racers(httpd.port, seconds=20, pauses=((0.0, 0.1), (0.01, 0.4)))
    ended = collections.Counter()
    turns = 0
    while racers.running():
        time.sleep(0.4)
        with contextlib.suppress(ProcessLookupError):
            os.kill(lingerd.pid, signal.SIGSTOP)
            time.sleep((0.9, 1.05, 1.2, 1.6)[turns % 4])
            os.kill(lingerd.pid, signal.SIGCONT)
        turns += 1
    ends, reports = racers.wait()
    ended.update(ends)
    print(f"{mpm}: {dict(ended)}, longest wait {max(r['worst'] for r in reports):.2f} s")
    assert set(ended) == {"ok"}, (ended, reports)
    wait_parked(lingerd, 0)
    assert keepalive.parks_add_up(lingerd.counters())


def test_a_lingerd_that_is_killed_leaves_no_descriptor_open(sandbox):
    """Its guard has the same table: would catch clients that wait for a process that is gone."""
    httpd, lingerd = _site(sandbox, "prefork")
    httpd.allowed_lines += ["lingerd is down", "lingerd is back"]
    with KeepAlive(httpd.port) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
        guard = keepalive.guard_of(lingerd)
        lingerd.pause()
        lingerd.kill()
        assert connection.closed_cleanly()
        wait_until(lambda: not pathlib.Path(f"/proc/{guard}").exists(), "the guard is gone")


def test_the_guard_is_replaced(sandbox):
    """When it is killed; and by a successor's own, which the old one doesn't outlive."""
    httpd, lingerd = _site(sandbox, "prefork")
    lingerd.allowed_lines += ["handing over", "took over"]
    with KeepAlive(httpd.port) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
        first = keepalive.guard_of(lingerd)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: keepalive.guard_of(lingerd) != first, "there is another one")
        second = keepalive.guard_of(lingerd)
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda: lingerd.log.matching("took over"), "a successor")
        wait_until(lambda: keepalive.guard_of(lingerd) != second, "with a guard of its own")
        wait_until(lambda: not pathlib.Path(f"/proc/{second}").exists(), "the old one has ended")
        lingerd.pause()
        assert connection.ask()[0] == 200
        lingerd.resume()
        wait_counted(lingerd, Returned=1)


def test_signs_of_life_come_more_often_while_httpd_runs(sandbox):
    """Would catch a heartbeat of a second, by which nobody can tell a stuck lingerd from a sleeping
    one within less than that."""
    httpd, lingerd = keepalive.site(sandbox, "prefork")
    with KeepAlive(httpd.port) as connection:  # a child that had no greeting in time has one now
        connection.ask()
        wait_parked(lingerd, 1)
    beats = []

    def seen():
        beat = lingerd.counters()["heartbeat_ns"]
        if not beats or beat != beats[-1]:
            beats.append(beat)
        return len(beats) >= 12

    wait_until(seen, "twelve heartbeats")
    between = [later - before for before, later in zip(beats, beats[1:])]
    assert statistics.median(between) < 600_000_000, between


@pytest.mark.parametrize("away", ["stopped", "gone"])
@pytest.mark.parametrize("mpm", PARKING)
def test_idle_while_lingerd_is_away(sandbox, mpm, away):
    """Would catch a worker that is held for all of KeepAliveTimeout because of a moment in which lingerd
    couldn't take the connection."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 300\n")
    lingerd.allowed_lines.append(STOOD_STILL)
    httpd.allowed_lines += ["lingerd is busy", "lingerd is down", "lingerd is back"]
    keepalive.wait_parks_at_all(httpd, lingerd)
    if away == "gone":
        assert not lingerd.stop()
    else:
        lingerd.pause()
        time.sleep(0.5)  # its heartbeat is old
    with KeepAlive(httpd.port) as connection:
        assert connection.ask()[0] == 200
        time.sleep(1.5)  # it has been tried, and waits
        if away == "gone":
            lingerd.start()
        else:
            lingerd.resume()
        wait_parked(lingerd, 1)
        assert connection.ask()[0] == 200


@pytest.mark.parametrize("mpm", PARKING)
def test_a_worker_waits_for_keep_alive_timeout_in_all(sandbox, mpm):
    """Without lingerd, which it asks for now and then."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 3\n")
    httpd.allowed_lines += ["lingerd is down"]
    assert not lingerd.stop()
    with KeepAlive(httpd.port) as connection:
        assert connection.ask()[0] == 200
        time.sleep(1.2)
        assert connection.ask()[0] == 200  # each wait is one of its own
        time.sleep(1.2)
        assert connection.ask()[0] == 200
        assert connection.closed_cleanly()


@pytest.mark.parametrize("module", ["module", "stock"])
@pytest.mark.parametrize("mpm", PARKING)
def test_a_line_that_begins_at_the_last_moment(sandbox, mpm, module):
    """In two parts, the second after the time at which the connection would have been closed. Would catch
    a rest of KeepAliveTimeout that httpd's reads get instead of all of it."""
    config = "KeepAliveTimeout 3\n"
    if module == "stock":
        httpd = sandbox.httpd(mpm, config=config)
    else:
        httpd, lingerd = keepalive.site(sandbox, mpm, config=config)
        httpd.allowed_lines += ["lingerd is down"]
        assert not lingerd.stop()
    for _ in range(10):
        with KeepAlive(httpd.port) as connection:
            began = time.monotonic()
            assert connection.ask()[0] == 200
            time.sleep(max(0.0, began + 2.75 - time.monotonic()))
            connection.socket.sendall(b"GET /hello.txt HT")
            if time.monotonic() > began + 2.9:
                continue  # a machine with more to do: perhaps too late
            time.sleep(1)
            connection.socket.sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.response()[0] == 200
            return
    pytest.skip("this machine never came to it in time")
