# SPDX-License-Identifier: Apache-2.0
"""Parked connections outlive what happens to httpd and to lingerd: restarts, ends, full queues."""
import os
import signal
import socket
import time

import pytest

from harness import clients, inject, keepalive
from harness.keepalive import (KeepAlive, all_answered, outlive_restarts, outlive_successions,
                               wait_counted, wait_parked, wait_parks)
from harness.tap import REFUSED
from harness.waiting import wait_until

PARKING = ("prefork", "worker")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


def _parked(httpd, lingerd, count):
    connections = [KeepAlive(httpd.port) for _ in range(count)]
    for connection in connections:
        assert connection.ask()[0] == 200
    wait_parks(lingerd, count)
    return connections


def _asked_until_kept(httpd):
    """A connection whose child doesn't end with its first request."""
    while True:
        connection = KeepAlive(httpd.port)
        if connection.ask()[1].get("connection") != "close":
            return connection
        connection.socket.close()


@pytest.mark.parametrize("restart", ["graceful", "restart"])
def test_restart_of_httpd(sandbox, mpm, restart):
    """Stock httpd closes idle connections then; parked ones don't notice, however often."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\n")
    connections = _parked(httpd, lingerd, 5)
    outlive_restarts(httpd, lingerd, restart, connections)
    for connection in connections:
        connection.socket.close()


@pytest.mark.parametrize("ahead", ["whole", "in two", "three", "half"])
def test_asked_before_the_child_ends(sandbox, mpm, ahead):
    """A restart while the child sends an answer that has promised to keep the connection, and the next
    request is there before it is through: httpd has read it ahead, or it is unread. Stock httpd closes
    then, and answers the second with a FIN."""
    size = 16 << 20
    # worker's parent looks for room for a new process only in the first MaxRequestWorkers /
    # ThreadsPerChild slots: one may be taken until the answer is through (AH00288).
    httpd, lingerd = keepalive.site(sandbox, mpm, workers=4, processes=3,
                                    config="KeepAliveTimeout 60\n")
    (httpd.directory / "www" / "large").write_bytes(bytes(size))
    connection = KeepAlive(httpd.port, receive_buffer=65536)
    connection.send("/large")
    while b"\r\n\r\n" not in connection.received:
        connection.received += connection.socket.recv(1024)
    assert b"connection: close" not in connection.received.lower()
    old = set(httpd.children())
    httpd.graceful()
    wait_until(lambda: len(old & set(httpd.children())) == 1, "the others are gone")
    whole = clients.request(close=False)
    first = {"whole": whole, "in two": whole + whole[:7], "three": whole * 3, "half": whole[:7]}[ahead]
    connection.socket.sendall(first)
    time.sleep(0.2)  # the old child finds it when it is through
    assert len(connection.response()[2]) == size
    time.sleep(0.1 if ahead == "half" else 0)
    connection.socket.sendall({"in two": whole[7:], "half": whole[7:]}.get(ahead, b""))
    status, headers, body = connection.response()
    assert (status, body) == (200, b"hello, world\n")
    assert headers.get("connection") == "close"  # what comes behind it is the next connection's
    assert connection.closed_cleanly()
    connection.socket.close()
    wait_until(lambda: not old & set(httpd.children()), "the last is gone")
    with KeepAlive(httpd.port) as other:
        other.ask()
        wait_parked(lingerd, 1)


def test_switched_off_by_a_restart(sandbox, mpm):
    """What is parked comes back, and stays."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\n")
    connections = _parked(httpd, lingerd, 3)
    httpd.write_config(linger_directives="")
    old = set(httpd.children())
    httpd.graceful()
    wait_until(lambda: not old & set(httpd.children()), "the old children are gone")
    all_answered(connections)
    all_answered(connections)
    wait_counted(lingerd, Parked=0, Returned=3)
    for connection in connections:
        connection.socket.close()


def test_httpd_stops(sandbox, mpm):
    """Its idle connections end with it, as ever, though nobody asks anything."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\n")
    connections = _parked(httpd, lingerd, 5)
    assert not httpd.stop()
    assert all(connection.closed_cleanly() for connection in connections)
    wait_counted(lingerd, Parked=0, ReturnFailed=5)
    assert keepalive.parks_add_up(lingerd.counters())
    for connection in connections:
        connection.socket.close()


@pytest.mark.parametrize("how", ["SIGUSR2", "twice"])
def test_lingerd_is_replaced(sandbox, mpm, how):
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\n")
    connections = _parked(httpd, lingerd, 5)
    outlive_successions(lingerd, 2 if how == "twice" else 1, 5)
    all_answered(connections)
    wait_counted(lingerd, ParkedTotal=10, Returned=5)
    assert keepalive.parks_add_up(lingerd.counters())
    for connection in connections:
        connection.socket.close()


def test_timeouts_go_on_in_the_next_lingerd(sandbox, mpm):
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 3\n")
    lingerd.allowed_lines += ["handing over", "took over"]
    began = time.monotonic()
    connections = _parked(httpd, lingerd, 3)
    os.kill(lingerd.pid, signal.SIGUSR2)
    wait_until(lambda: lingerd.log.matching("took over"), "a successor")
    assert all(connection.closed_cleanly() for connection in connections)
    assert time.monotonic() - began >= 3
    wait_counted(lingerd, ParkExpired=3)
    for connection in connections:
        connection.socket.close()


def test_lingerd_is_killed(sandbox, mpm):
    """Idle clients see a normal close, and httpd waits itself until lingerd is back."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\n")
    httpd.allowed_lines += ["lingerd is down", "lingerd is back"]
    connections = _parked(httpd, lingerd, 5)
    lingerd.kill()
    assert all(connection.closed_cleanly() for connection in connections)
    with KeepAlive(httpd.port) as connection:
        for _ in range(3):
            assert connection.ask()[0] == 200
            time.sleep(0.05)
    lingerd.start()

    def parks_again():
        with KeepAlive(httpd.port) as connection:
            connection.ask()
            connection.ask()
            time.sleep(0.1)
            return lingerd.counters()["LingerParkedTotal"] > 0

    wait_until(parks_again, "connections are parked again")
    for connection in connections:
        connection.socket.close()


def test_lingerd_is_stopped(sandbox, mpm):
    """SIGTERM: parked connections end as at their timeout."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\n")
    httpd.allowed_lines.append("lingerd is down")  # a child that starts only now
    connections = _parked(httpd, lingerd, 5)
    lingerd.terminate()
    assert all(connection.closed_cleanly() for connection in connections)
    for connection in connections:
        connection.socket.close()
    assert lingerd.wait() == 0


def test_lingerd_hangs(sandbox, mpm):
    """Once its page says so nothing more is parked."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\n")
    connections = _parked(httpd, lingerd, 1)
    lingerd.pause()
    wait_until(lambda: "no sign of life" in httpd.status_page(), "server-status says so")
    with KeepAlive(httpd.port) as connection:
        for _ in range(3):
            assert connection.ask()[0] == 200
            time.sleep(0.2)
    lingerd.resume()
    all_answered(connections)
    for connection in connections:
        connection.socket.close()


def test_lingerd_has_just_stuck(sandbox, mpm):
    """Nothing more is parked as soon as a sign of life is due, long before its page says that it is
    stuck. Would catch connections that are given to it meanwhile."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 60\n")
    connections = _parked(httpd, lingerd, 1)
    lingerd.pause()
    stuck = lingerd.counters()["heartbeat_ns"] + 750_000_000
    wait_until(lambda: time.monotonic_ns() > stuck, "a sign of life is overdue")
    asking = [KeepAlive(httpd.port) for _ in range(2)]
    for connection in asking * 3:
        assert connection.ask()[0] == 200
    lingerd.resume()
    all_answered(connections)
    for connection in connections + asking:
        connection.socket.close()


def test_connections_per_child(sandbox, mpm):
    """Each return is a connection to MaxConnectionsPerChild; the client doesn't notice."""
    httpd, lingerd = keepalive.site(
        sandbox, mpm, config="KeepAliveTimeout 60\nMaxConnectionsPerChild 3\n")
    httpd.allowed_lines += ["AH00161", "AH00286"]  # few slots, and their children come and go
    connections = _parked(httpd, lingerd, 3)
    for _ in range(10):
        for number, connection in enumerate(connections):
            status, headers, _ = connection.ask()
            assert status == 200
            # A child that knows already that it ends says so.
            if headers.get("connection") == "close":
                assert connection.closed_cleanly()
                connection.socket.close()
                connections[number] = _asked_until_kept(httpd)
        wait_parked(lingerd, 3)
    assert lingerd.counters()["LingerReturnFailed"] == 0
    for connection in connections:
        connection.socket.close()


def test_all_workers_are_busy(sandbox, mpm):
    """A request that finds no worker waits for one, longer than anybody's KeepAliveTimeout."""
    httpd, lingerd = keepalive.site(sandbox, mpm, workers=2, config="KeepAliveTimeout 3\n")
    httpd.allowed_lines += ["AH00161", "AH00286"]
    with KeepAlive(httpd.port) as connection:
        # Both workers read a request that doesn't end.
        hogs = [clients.connect(httpd.port) for _ in range(2)]
        connection.ask()
        wait_parked(lingerd, 1)
        for hog in hogs:
            hog.sendall(b"POST /hello.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        time.sleep(0.3)
        connection.send()
        time.sleep(4)
        for hog in hogs:
            hog.sendall(b"123456789")
        assert connection.response()[0] == 200
        for hog in hogs:
            hog.close()


def test_makes_room(sandbox, mpm):
    """At the limit the connection that is nearest its timeout ends."""
    httpd, lingerd = keepalive.site(sandbox, mpm, "--max-connections", "4",
                                    config="KeepAliveTimeout 60\n")
    httpd.allowed_lines += ["AH00161", "AH00286"]
    connections = []
    for _ in range(7):
        connection = KeepAlive(httpd.port)
        connection.ask()
        connections.append(connection)
        wait_parked(lingerd, min(len(connections), 4))
    for gone in connections[:3]:
        assert gone.closed_cleanly()
    all_answered(connections[3:])
    wait_counted(lingerd, ParkExpired=3)
    for connection in connections:
        connection.socket.close()


def test_the_private_listener(sandbox, mpm):
    """Nobody but root and lingerd gets to it; it goes with httpd."""
    httpd, _ = keepalive.site(sandbox, mpm)
    path = keepalive.listener_of(httpd)
    directory = os.path.dirname(path)
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert os.stat(directory).st_uid == os.getuid()
    for _ in range(3):
        httpd.graceful()
        httpd.restart()
        assert keepalive.listener_of(httpd) == path
    assert len(httpd.child_fds()) and "return.sock" in path
    assert not httpd.stop()
    assert not os.path.exists(directory)


def test_no_listener_without_it(sandbox, mpm):
    httpd, _ = sandbox.site(mpm)
    assert keepalive.listener_of(httpd) is None
    assert os.listdir(httpd.directory / "run") and not [
        name for name in os.listdir(httpd.directory / "run") if name.startswith("linger")]


def test_config_test_makes_nothing(sandbox, mpm):
    httpd, _ = keepalive.site(sandbox, mpm, start=False)
    before = sorted(os.listdir(httpd.directory / "run"))
    assert httpd.config_test() == (0, "Syntax OK\n")
    assert sorted(os.listdir(httpd.directory / "run")) == before


@pytest.mark.parametrize("sends", ["nothing", "garbage", "descriptor", "http"])
def test_strangers_at_the_listener(sandbox, mpm, sends):
    """A process that gets there but isn't lingerd, or is lingerd's user and brings no client, is refused,
    logged and counted; the children go on. The test runs lingerd as itself."""
    httpd, lingerd = keepalive.site(sandbox, mpm, workers=2)
    httpd.allowed_lines += [REFUSED, "LingerKeepAlive stops"]
    strangers = []
    for _ in range(4):
        stranger = socket.socket(socket.AF_UNIX)
        strangers.append(stranger)
        stranger.connect(keepalive.listener_of(httpd))
        if sends == "garbage":
            stranger.sendall(os.urandom(32))
        elif sends == "http":
            stranger.sendall(clients.request())
        elif sends == "descriptor":
            with open("/dev/null", "rb") as null:
                socket.send_fds(stranger, [bytes(32)], [null.fileno()])
    wait_until(lambda: httpd.status()["LingerReturnsRefused"] == 4, "four are refused")
    wait_until(lambda: httpd.error_log.matching(REFUSED),
               "and logged")
    with KeepAlive(httpd.port) as connection:
        for _ in range(5):
            assert connection.ask()[0] == 200
    for stranger in strangers:
        stranger.close()


@pytest.mark.parametrize("moment", ["getsockopt", "dup3", "dup3 done"])
def test_a_child_ends_beside_a_return(sandbox, moment):
    """Told to end at once, worker's child closes the sockets of its workers, one of which is just
    looking what has come, or puts the client's socket into the place of what came. Would catch
    lingerd taken for a stranger, and what it brought for forged."""
    rules = inject.Rules(sandbox.directory)
    lingerd = sandbox.lingerd()
    httpd = inject.httpd(sandbox, rules.environment(), "worker", lingerd=lingerd,
                         config="KeepAliveTimeout 60\n", linger_directives="LingerKeepAlive On\n")
    connection, = _parked(httpd, lingerd, 1)
    looking = rules.delay(moment, 700, count=1)
    connection.send()
    wait_until(lambda: looking.applied > 0, "a worker looks what it is")
    httpd.restart()
    assert httpd.status()["LingerReturnsRefused"] == 0
    connection.socket.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_user_is_a_stranger(sandbox, mpm):
    """Even with a descriptor of the listener's name in its hands."""
    httpd, lingerd = keepalive.site(sandbox, mpm)
    httpd.allowed_lines.append(REFUSED)
    name = os.open(keepalive.listener_of(httpd), os.O_PATH)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        stranger = socket.socket(socket.AF_UNIX)
        stranger.connect(f"/proc/self/fd/{name}")
        os._exit(0 if stranger.recv(1) == b"" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(name)
    wait_until(lambda: httpd.status()["LingerReturnsRefused"] == 1, "refused")
    wait_until(lambda: httpd.error_log.matching("it isn't lingerd's .*user 65534"), "and logged")


def test_several_buckets_decline(sandbox, mpm):
    if os.cpu_count() < 2:
        pytest.skip("httpd makes one bucket for one processor")
    httpd, lingerd = keepalive.site(sandbox, mpm, config="ListenCoresBucketsRatio 1\n",
                                    workers=4, processes=2)
    httpd.allowed_lines.append("LingerKeepAlive has no effect: it doesn't go together with "
                               "ListenCoresBucketsRatio")
    with KeepAlive(httpd.port) as connection:
        for _ in range(3):
            assert connection.ask()[0] == 200
            time.sleep(0.05)
    httpd.graceful()
    assert len(httpd.error_log.matching("LingerKeepAlive has no effect")) == 1
    assert lingerd.counters()["LingerParkedTotal"] == 0


def test_event_declines(sandbox):
    httpd, lingerd = keepalive.site(sandbox, "event")
    httpd.allowed_lines.append("LingerKeepAlive has no effect")
    with KeepAlive(httpd.port) as connection:
        for _ in range(3):
            assert connection.ask()[0] == 200
            time.sleep(0.05)
    httpd.graceful()
    httpd.restart()
    assert len(httpd.error_log.matching("LingerKeepAlive has no effect")) == 1
    assert lingerd.counters()["LingerParkedTotal"] == 0
    assert keepalive.listener_of(httpd) is None
