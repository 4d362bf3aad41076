# SPDX-License-Identifier: Apache-2.0
"""The way back is tried before anything is parked; where it is forbidden nothing is, and both logs say
so. Permissions of the listener's file stand for what AppArmor and SELinux do: to connect(2) it's the
same EACCES."""
import os
import pwd
import socket
import time

import pytest

from harness import keepalive, record, stand_in
from harness.keepalive import KeepAlive, wait_counted, wait_parked
from harness.stand_in import StandIn
from harness.waiting import wait_until

PARKING = ("prefork", "worker")
MAY_NOT = "lingerd may not connect to httpd's private listener"
NO_EFFECT = "LingerKeepAlive has no effect for now"


def _listener(httpd):
    (path,) = (httpd.directory / "run").glob("linger.*/return.sock")
    return path


def _site(sandbox, mpm):
    """lingerd as somebody who isn't allowed everything anyway."""
    sandbox.directory.chmod(0o755)
    httpd, lingerd = keepalive.site(sandbox, mpm, "--user", "daemon", 
                                    config="KeepAliveTimeout 60\nMaxKeepAliveRequests 0\n")
    os.chown(lingerd.stats_path, pwd.getpwnam("daemon").pw_uid, -1)
    return httpd, lingerd


def _said(server, line):
    return len(server.matching(line))


@pytest.mark.parametrize("mpm", PARKING)
def test_where_the_way_back_is_forbidden_nobody_is_parked(sandbox, mpm):
    """Would catch an idle connection that is given away although it can't come back: its next request
    would get no answer."""
    httpd, lingerd = _site(sandbox, mpm)
    httpd.allowed_lines.append(NO_EFFECT)
    lingerd.allowed_lines.append(MAY_NOT)
    _listener(httpd).chmod(0o600)
    with KeepAlive(httpd.port) as connection:
        assert connection.ask()[0] == 200
        wait_until(lambda: _said(lingerd.log, MAY_NOT) and _said(httpd.error_log, NO_EFFECT),
                   "both logs say so")
        for _ in range(3):
            assert connection.ask()[0] == 200
        assert lingerd.counters()["LingerParkedTotal"] == 0
        assert _said(httpd.error_log, NO_EFFECT) == 1
        _listener(httpd).chmod(0o666)

        def parked():
            time.sleep(0.1)
            assert connection.ask()[0] == 200
            return lingerd.counters()["LingerParkedTotal"] > 0

        wait_until(parked, "lingerd is asked again some seconds later")
        assert connection.ask()[0] == 200


@pytest.mark.parametrize("mpm", PARKING)
def test_a_way_back_that_is_forbidden_later(sandbox, mpm):
    """A connection that waits then can't come back; from then on nobody is parked. Would catch a lingerd that tries
    for ten seconds, says nothing, and takes more."""
    httpd, lingerd = _site(sandbox, mpm)
    httpd.allowed_lines.append(NO_EFFECT)
    lingerd.allowed_lines += ["no longer connect", MAY_NOT]
    with KeepAlive(httpd.port) as first, KeepAlive(httpd.port) as second:
        for number, connection in enumerate((first, second), 1):
            connection.ask()
            wait_parked(lingerd, number)
        _listener(httpd).chmod(0o600)
        first.send()
        assert first.closed_cleanly()
        assert second.closed_cleanly()
    wait_counted(lingerd, ReturnFailed=2, Parked=0)
    assert _said(lingerd.log, "no longer connect") == 1
    before = lingerd.counters()["LingerParkedTotal"]
    with KeepAlive(httpd.port) as connection:
        for _ in range(3):
            assert connection.ask()[0] == 200
        wait_until(lambda: connection.ask()[0] == 200 and _said(httpd.error_log, NO_EFFECT),
                   "httpd says so")
        assert lingerd.counters()["LingerParkedTotal"] == before


def test_what_lingerd_says_to_a_way_back(sandbox):
    sandbox.directory.chmod(0o755)
    lingerd = sandbox.lingerd("--user", "daemon")
    lingerd.allowed_lines.append("refused")
    with StandIn(sandbox.directory, rate=1_000) as httpd, record.Child(lingerd.socket_path) as child:
        assert child.greeting() == record.WELCOME
        assert child.announce(httpd.way, ticket=5) == record.ACCEPTED
        assert child.announce(httpd.way) == record.ACCEPTED  # again: a peer has one
        assert child.announce(None) == record.UNFIT
        with open(os.devnull, "rb") as no_socket:
            assert child.announce(no_socket) == record.UNFIT
        path = sandbox.directory / "closed.sock"
        with socket.socket(socket.AF_UNIX) as closed:
            closed.bind(str(path))
            closed.listen()
            path.chmod(0o600)
            way = os.open(path, os.O_PATH)
            assert child.announce(way) == record.REFUSED
            os.close(way)
        (end,) = stand_in.park(child, httpd.way, 1)  # what was good before still is
        wait_parked(lingerd, 1)
        end.close()
        wait_parked(lingerd, 0)
