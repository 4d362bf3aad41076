# SPDX-License-Identifier: Apache-2.0
"""Parked TLS connections outlive what happens to httpd and to lingerd, as those without TLS do."""
import contextlib
import pathlib
import time

import pytest

from harness import clients, inject, logs, tls_parking
from harness.keepalive import (all_answered, guard_of, outlive_restarts, outlive_successions,
                               parks_add_up, wait_counted, wait_parked, wait_parks)
from harness.tap import REFUSED
from harness.tls_parking import TlsKeepAlive
from harness.waiting import wait_until

PARKING = ("prefork", "worker")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


def _parked(httpd, lingerd, count):
    connections = []
    for turn in range(count):
        connections.append(TlsKeepAlive(httpd.ports["tls"]))
        assert connections[-1].ask()[0] == 200
        wait_parks(lingerd, turn + 1)
    return connections


def _ended(connection):
    """Waits for the end: whether there was no byte before it."""
    with contextlib.suppress(ConnectionResetError):
        return connection.socket.recv(65536) == b""
    return True


@pytest.mark.parametrize("restart", ["graceful", "restart"])
def test_restart_of_httpd(sandbox, mpm, restart):
    """The states are the parent's: new children go on with what old ones have parked, however often."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    connections = _parked(httpd, lingerd, 4)
    outlive_restarts(httpd, lingerd, restart, connections)
    assert httpd.status()["LingerTlsResumed"] == 12
    for connection in connections:
        connection.goodbye()


def test_restarts_take_no_more_of_openssl(sandbox, mpm):
    """Each number for data in its objects would make all of them larger, and none is ever given back."""
    numbers = sandbox.directory / "numbers"
    numbers.touch()
    shim = inject.compiled(sandbox, pathlib.Path(__file__).with_name("places_shim.c"))
    lingerd = sandbox.lingerd()
    httpd = inject.httpd(sandbox, {"LD_PRELOAD": shim, "NUMBERS": str(numbers)}, mpm, lingerd=lingerd,
                         **tls_parking.configuration(sandbox))
    httpd.allowed_lines.append(logs.ALL_BUSY)
    for restart in ("graceful", "restart", "graceful"):
        assert numbers.stat().st_size == 2  # of a connection, and of a server
        getattr(httpd, restart)()
        with TlsKeepAlive(httpd.ports["tls"]) as connection:
            connection.ask()
            wait_parked(lingerd, 1)
            connection.ask()
    assert numbers.stat().st_size == 2


@pytest.mark.parametrize("ahead", ["whole", "three", "nothing"])
def test_asked_before_the_child_ends(sandbox, mpm, ahead):
    """A restart in mid-response, and the next request is there before the child is through, or not: it
    parks the connection instead of closing it, or answers first what is there."""
    size = 16 << 20
    httpd, lingerd = tls_parking.site(sandbox, mpm, workers=4, processes=3)
    (httpd.directory / "www" / "large").write_bytes(bytes(size))
    connection = TlsKeepAlive(httpd.ports["tls"], receive_buffer=65536)
    connection.send("/large")
    while b"\r\n\r\n" not in connection.received:
        connection._fill()
    assert b"connection: close" not in connection.received[:1000].lower()
    old = set(httpd.children())
    httpd.graceful()
    wait_until(lambda: len(old & set(httpd.children())) == 1, "the others are gone")
    whole = clients.request(close=False)
    connection.write({"whole": whole, "three": whole * 3, "nothing": b""}[ahead] or b"")
    time.sleep(0.2)
    assert len(connection.response()[2]) == size
    if ahead == "nothing":
        wait_parked(lingerd, 1)
        status, headers, body = connection.ask()
        assert headers.get("connection") != "close"
    else:
        status, headers, body = connection.response()
        assert headers.get("connection") == "close"
    assert (status, body) == (200, b"hello, world\n")
    connection.socket.close()
    wait_until(lambda: not old & set(httpd.children()), "the last is gone")


def test_children_end(sandbox, mpm):
    """MaxConnectionsPerChild: a trip is a connection, and nobody is lost between two children."""
    httpd, lingerd = tls_parking.site(sandbox, mpm, config="MaxConnectionsPerChild 5\n")
    connection = TlsKeepAlive(httpd.ports["tls"])

    def asks():
        nonlocal connection
        if connection.ask()[1].get("connection") == "close":  # the child knew already
            connection.socket.close()
            connection = TlsKeepAlive(httpd.ports["tls"])
        time.sleep(0.03)
        return httpd.status()["LingerTlsResumed"] > 15

    wait_until(asks, lambda: f"some children end: {httpd.status()}", 60)
    connection.goodbye()
    wait_until(lambda: lingerd.counters()["LingerParked"] == 0, "none is parked")


def test_switched_off_by_a_restart(sandbox, mpm):
    """What is parked comes back, and stays."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    connections = _parked(httpd, lingerd, 3)
    httpd.write_config(linger_directives=httpd.configuration["linger_directives"].replace(
        "LingerKeepAliveTLS On", "LingerKeepAliveTLS Off"))
    old = set(httpd.children())
    httpd.graceful()
    wait_until(lambda: not old & set(httpd.children()), "the old children are gone")
    all_answered(connections)
    all_answered(connections)
    wait_counted(lingerd, Parked=0, Returned=3)
    for connection in connections:
        connection.goodbye()


def test_no_tls_any_more(sandbox, mpm):
    """A restart makes of the port one without TLS: what was parked there is closed, and nothing of it is
    taken for a request."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    connection, = _parked(httpd, lingerd, 1)
    config = httpd.configuration["config"]
    httpd.write_config(config=config.replace("SSLEngine On", "SSLEngine Off"))
    httpd.graceful()
    connection.send()
    assert _ended(connection)
    connection.socket.close()
    wait_counted(lingerd, Parked=0, Returned=1)


_VERIFY = 'SSLVerifyClient optional\nSSLCACertificateFile "@dir@/../tls.crt"\n'
_ALLOW = '<Directory "@dir@/www">\nAllowOverride All\n</Directory>\n'


@pytest.mark.parametrize("before, after, offers, goes_on", [
    (_VERIFY, _VERIFY, False, True),
    (_ALLOW, _ALLOW, False, True),
    ("", _ALLOW, False, True),
    ("", _ALLOW, True, False),  # a .htaccess may ask it for a certificate now
    ("", _VERIFY, False, False),
    (_VERIFY, "", False, False),
])
def test_restarts_that_change_what_is_asked_of_clients(sandbox, mpm, before, after, offers, goes_on):
    """Who was asked for a certificate by other rules ends with a FIN, as stock httpd ends idle
    connections at a restart; no other restart ends anything."""
    httpd, lingerd = tls_parking.site(sandbox, mpm, extra=before + "# the end\n")
    context = tls_parking.client_context()
    context.post_handshake_auth = offers
    connection = TlsKeepAlive(httpd.ports["tls"], context=context)
    for turn in range(1, 3):
        assert connection.ask()[0] == 200
        wait_parked(lingerd, 1, total=turn)
    httpd.write_config(config=httpd.configuration["config"].replace(
        before + "# the end\n", after + "# the end\n"))
    httpd.graceful()
    connection.send()
    if goes_on:
        assert connection.response()[0] == 200
    else:
        assert connection.closed_cleanly()
    connection.socket.close()
    status = httpd.status()
    assert status["LingerTlsRefused"] == status["LingerReturnsRefused"] == 0


def test_the_module_is_gone(sandbox, mpm):
    """Without it nobody can go on with what it has kept: closed, and the log says so."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    connection, = _parked(httpd, lingerd, 1)
    httpd.write_config(linger_directives="LingerKeepAlive On\n")
    httpd.allowed_lines.append(REFUSED)
    httpd.graceful()
    connection.send()
    assert _ended(connection)
    connection.socket.close()


@pytest.mark.parametrize("how", ["SIGUSR2", "twice"])
def test_lingerd_is_replaced(sandbox, mpm, how):
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    connections = _parked(httpd, lingerd, 4)
    outlive_successions(lingerd, 2 if how == "twice" else 1, 4)
    resumed = httpd.status()["LingerTlsResumed"]
    leaver = connections.pop()
    leaver.goodbye()  # the next lingerd knows that this is one
    wait_counted(lingerd, Parked=3, ParkClosedByClient=1)
    assert httpd.status()["LingerTlsResumed"] == resumed
    all_answered(connections)
    wait_counted(lingerd, ParkedTotal=7, Returned=3)
    assert parks_add_up(lingerd.counters())
    for connection in connections:
        connection.goodbye()


def test_lingerd_is_killed(sandbox, mpm):
    """Idle clients see an end without a goodbye (RFC 9112, 9.5), and httpd waits itself until lingerd is
    back; the states that nobody will ask for are in nobody's way."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    httpd.allowed_lines += ["lingerd is down", "lingerd is back"]
    connections = _parked(httpd, lingerd, 4)
    lingerd.kill()
    assert all(connection.closed_cleanly() for connection in connections)
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        for _ in range(3):
            assert connection.ask()[0] == 200
            time.sleep(0.05)
        lingerd.start()

        def parks_again():
            assert connection.ask()[0] == 200
            time.sleep(0.1)
            return lingerd.counters()["LingerParkedTotal"] > 0

        wait_until(parks_again, "connections are parked again")
        assert connection.ask()[0] == 200
    for each in connections:
        each.socket.close()


def test_lingerd_stands_still(sandbox, mpm):
    """Its guard sends home who asks meanwhile, with what httpd has kept."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    lingerd.allowed_lines.append("has stood still")
    connections = _parked(httpd, lingerd, 3)
    guard_of(lingerd)
    lingerd.pause()
    all_answered(connections)
    lingerd.resume()
    wait_counted(lingerd, ReturnFailed=0)
    all_answered(connections)
    for connection in connections:
        connection.goodbye()


def test_expires_after_keep_alive_timeout(sandbox, mpm):
    """With a FIN, and without a word of TLS's: nothing of a parked connection is ever written."""
    httpd, lingerd = tls_parking.site(sandbox, mpm, extra="KeepAliveTimeout 1\n")
    connection, = _parked(httpd, lingerd, 1)
    assert connection.closed_cleanly()
    connection.socket.close()
    wait_counted(lingerd, Parked=0, ParkExpired=1)
