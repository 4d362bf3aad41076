# SPDX-License-Identifier: Apache-2.0
"""LingerKeepAlive: idle connections wait in lingerd and come back to any free worker."""
import os
import time

import pytest

from harness import clients, keepalive, logs, tls
from harness.keepalive import KeepAlive, wait_counted, wait_parked, wait_parks
from harness.waiting import wait_until

PARKING = ("prefork", "worker")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


@pytest.fixture(scope="module")
def server(module_sandbox, mpm):
    return keepalive.site(module_sandbox, mpm)


@pytest.fixture
def site(server):
    httpd, lingerd = server
    httpd.allowed_lines.append(logs.ALL_BUSY)
    wait_parked(lingerd, 0)  # of a test that has failed
    return server


def test_idle_connections_free_their_workers(sandbox, mpm):
    """With two workers, twelve connections; each request finds a worker."""
    httpd, lingerd = keepalive.site(sandbox, mpm, workers=2, config="KeepAliveTimeout 60\n")
    connections = [KeepAlive(httpd.port) for _ in range(12)]
    for turn in range(3):
        for number, connection in enumerate(connections):
            status, _, body = connection.ask()
            assert (status, body) == (200, b"hello, world\n"), (turn, number)
        wait_parked(lingerd, 12, total=12 * (turn + 1))
    for connection in connections:
        connection.socket.close()
    wait_parked(lingerd, 0)
    counters = lingerd.counters()
    assert counters["LingerParkedTotal"] == 36
    assert counters["LingerReturned"] == 24
    assert counters["LingerParkClosedByClient"] == 12
    assert keepalive.parks_add_up(counters)


def test_who_asks_and_asks_stays_with_his_worker(sandbox, mpm):
    """Would catch a trip to lingerd for each request, and a client that is waited for too long once it
    thinks."""
    httpd, lingerd = keepalive.site(sandbox, mpm, directives="LingerKeepAliveAfter 1000\n")
    with KeepAlive(httpd.port) as connection:
        for _ in range(20):
            assert connection.ask()[0] == 200
        assert lingerd.counters()["LingerParkedTotal"] == 0
        wait_parked(lingerd, 1)
        assert connection.ask()[0] == 200


@pytest.mark.parametrize("seconds, parked", [(3600, True), (3601, False)])
def test_lingerd_keeps_nobody_for_more_than_an_hour(sandbox, mpm, seconds, parked):
    """A client that has been promised more stays with httpd. Would catch a record that lingerd refuses, and with it
    the client, or one that it cuts."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config=f"KeepAliveTimeout {seconds}\n")
    with KeepAlive(httpd.port) as connection:
        for turn in range(1, 3):
            assert connection.ask()[0] == 200
            if parked:
                wait_parked(lingerd, 1, total=turn)
            else:
                time.sleep(0.2)  # long enough to be parked
                assert lingerd.counters()["LingerParkedTotal"] == 0
    assert lingerd.counters()["LingerRejected"] == 0


def _fields(httpd, count):
    """The access log's lines, split, once there are `count`."""
    wait_until(lambda: len(httpd.access_log.text().splitlines()) >= count, "the access log is there")
    return [line.split() for line in httpd.access_log.text().splitlines()]


def test_state_comes_back(sandbox, mpm):
    """The client's address, the keep-alive count (%k) and with it MaxKeepAliveRequests: each request
    is a stay in lingerd, and the log is the one that stock httpd writes."""
    seen_logs = []
    for stock in (True, False):
        options = {"config": "MaxKeepAliveRequests 4\nKeepAliveTimeout 60\n", "workers": 2}
        httpd = sandbox.httpd(mpm, **options) if stock else None
        if httpd is None:
            httpd, lingerd = keepalive.site(sandbox, mpm, **options)
        with KeepAlive(httpd.port) as connection:
            seen = []
            for number in range(5):
                if number and not stock:
                    wait_parks(lingerd, number)
                _, headers, _ = connection.ask()
                seen.append((headers.get("connection"), headers.get("keep-alive")))
            assert connection.closed_cleanly()
        fields = _fields(httpd, 5)
        # Without %I, where stock httpd counts a byte of the next request if that is quick.
        seen_logs.append(([line[:4] + line[5:10] for line in fields], seen))
    assert seen_logs[0] == seen_logs[1]
    assert [line[5] for line in seen_logs[1][0]] == ["0", "1", "2", "3", "4"]
    wait_counted(lingerd, Returned=4)


def test_expires_after_keep_alive_timeout(sandbox, mpm):
    """With a FIN, not a reset, although the client sends something in the same moment; its own
    server's KeepAliveTimeout counts."""
    httpd, lingerd = keepalive.site(
        sandbox, mpm, ports=("short",), config="KeepAliveTimeout 20\nListen 127.0.0.1:@short@\n"
        "<VirtualHost 127.0.0.1:@short@>\nServerName short\nKeepAliveTimeout 700ms\n</VirtualHost>\n")
    with KeepAlive(httpd.port) as long, KeepAlive(httpd.ports["short"]) as short:
        long.ask()
        began = time.monotonic()
        short.ask()
        wait_parks(lingerd, 2)
        assert short.closed_cleanly()
        assert time.monotonic() - began >= 0.7
        short.socket.sendall(b"too late")
        assert short.closed_cleanly()
        wait_counted(lingerd, Parked=1, ParkExpired=1, Total=1)  # it lingers like any other
        assert long.ask()[0] == 200


@pytest.mark.parametrize("keep_alive, timeout", [(2, 60), (60, 2)])
@pytest.mark.parametrize("begins", [b"G", b"\r\nGET / HT"])
def test_half_a_line_has_the_shorter_timeout(sandbox, mpm, keep_alive, timeout, begins):
    """KeepAliveTimeout, as in stock prefork, or Timeout, as in stock event: a client that sends the beginning of
    a request line only holds a worker no longer than with either."""
    httpd, lingerd = keepalive.site(
        sandbox, mpm, config=f"KeepAliveTimeout {keep_alive}\nTimeout {timeout}\n")
    with KeepAlive(httpd.port) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
        began = time.monotonic()
        connection.socket.sendall(begins)
        assert connection.closed_cleanly()
        assert 2 <= time.monotonic() - began < 40
    wait_counted(lingerd, Returned=1)


@pytest.mark.parametrize("blank", [b"\r\n", b"\n"])
@pytest.mark.parametrize("limits", [None, "header=20-40,MinRate=500"])
def test_blank_lines_hold_no_worker(sandbox, mpm, blank, limits):
    """After each the connection is parked again, with its count of requests and its KeepAliveTimeout."""
    limits = f"RequestReadTimeout {limits}\n" if limits else ""
    if blank == b"\n":
        limits += "HttpProtocolOptions Unsafe\n"  # a bad request otherwise
    httpd, lingerd = keepalive.site(
        sandbox, mpm, workers=1, modules=("reqtimeout",), directives="LingerKeepAliveAfter 200\n",
        config="KeepAliveTimeout 60\nMaxKeepAliveRequests 1\n" + limits)
    with KeepAlive(httpd.port) as connection:
        assert connection.ask()[0] == 200
        connection.socket.sendall(blank)  # most likely while the worker waits
        wait_parked(lingerd, 1)
        for number in range(1, 5):
            before = lingerd.counters()["LingerParkedTotal"]
            connection.socket.sendall(blank * number)
            wait_parked(lingerd, 1, total=before + 1)
        assert clients.fetch(httpd.port)[0] == 200  # the only worker is free
        status, headers, _ = connection.ask()
        assert (status, headers.get("connection")) == (200, "close")


def test_blank_lines_end_with_keep_alive_timeout(sandbox, mpm):
    httpd, lingerd = keepalive.site(sandbox, mpm, config="KeepAliveTimeout 2\nTimeout 60\n")
    with KeepAlive(httpd.port) as connection:
        assert connection.ask()[0] == 200
        wait_parked(lingerd, 1)
        connection.socket.sendall(b"\r\n")
        assert connection.closed_cleanly()
    wait_counted(lingerd, Returned=1, ParkExpired=1, ParkedTotal=2)


@pytest.mark.parametrize("where", ["request", "answer", "list"])
@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate"])
def test_authenticated_connections_stay(sandbox, mpm, where, scheme):
    """These schemes authenticate the connection: after the handshake clients send no header. Not even
    where the site takes it from the request before it is logged."""
    config = "RequestHeader unset Authorization\n"
    if where != "request":
        config = (f'Header always set WWW-Authenticate "{"Basic, " if where == "list" else ""}{scheme}" '
                  '"expr=%{REQUEST_URI} == \'/other.txt\'"\n')
    httpd, lingerd = keepalive.site(sandbox, mpm, config=config)
    with KeepAlive(httpd.port) as connection, KeepAlive(httpd.port) as other:
        if where == "request":
            connection.ask("/hello.txt", f"Authorization: {scheme} TlRMTVNTUAAB")
        else:
            connection.ask("/other.txt")
        for _ in range(3):
            time.sleep(0.05)
            assert connection.ask()[0] == 200
        time.sleep(0.05)
        other.ask("/hello.txt", "Authorization: Basic dXNlcjpwdw==")
        wait_parked(lingerd, 1)
        assert lingerd.counters()["LingerParkedTotal"] == 1


def test_virtual_hosts_decide(sandbox, mpm):
    """The server of the last request: here it parks, there it doesn't."""
    httpd, lingerd = sandbox.site(mpm, config="""
<VirtualHost 127.0.0.1:@main@>
  ServerName localhost
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName parks
  LingerKeepAlive On
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName leaves
  LingerKeepAlive On
  Linger Off
</VirtualHost>
""")
    with KeepAlive(httpd.port) as connection:
        connection.ask()
        connection.ask(host="leaves")
        connection.ask(host="parks")
        wait_parked(lingerd, 1)
        connection.ask(host="localhost")
        connection.ask(host="parks")
        wait_parked(lingerd, 1, total=2)
    wait_parked(lingerd, 0)
    assert lingerd.counters()["LingerParkedTotal"] == 2


@pytest.mark.parametrize("what", ["pipelined", "upgrade", "half", "body"])
def test_what_is_not_parked(site, what):
    """Each of them is answered, and none leaves for lingerd before its next request is read; after a
    request of the ordinary kind the same connection does."""
    httpd, lingerd = site
    before = lingerd.counters()["LingerParkedTotal"]
    with KeepAlive(httpd.port) as connection:
        if what == "pipelined":
            connection.socket.sendall(clients.request(close=False) * 20)
            for _ in range(20):
                assert connection.response()[0] == 200
            expected = 1
        elif what == "half":
            whole = clients.request(close=False)
            connection.socket.sendall(whole + whole[:10])
            assert connection.response()[0] == 200
            time.sleep(0.05)
            connection.socket.sendall(whole[10:])
            assert connection.response()[0] == 200
            expected = 1
        elif what == "body":
            connection.send("/hello.txt", "Content-Length: 5", method="POST")
            time.sleep(0.05)
            connection.socket.sendall(b"12345")
            assert connection.response()[0] in (200, 405)
            expected = 1
        else:
            connection.ask("/hello.txt", "Upgrade: h2c")
            connection.ask("/hello.txt", "Upgrade: h2c")
            time.sleep(0.05)
            assert lingerd.counters()["LingerParkedTotal"] == before
            connection.ask()
            expected = 1
        wait_parked(lingerd, 1)
        assert lingerd.counters()["LingerParkedTotal"] - before == expected
    wait_parked(lingerd, 0)


def test_tls_is_not_parked(sandbox, mpm):
    certificate = tls.make_certificate(sandbox.directory)
    httpd, lingerd = keepalive.site(sandbox, mpm, ports=("tls",), modules=("ssl", "socache_shmcb"),
                                    config=tls.vhost(certificate))
    with tls.TlsClient(httpd.ports["tls"], "1.3") as client:
        for _ in range(2):
            client.send(clients.request(close=False))
            received = b""
            while not received.endswith(b"hello, world\n"):
                received += client.read(65536)
            time.sleep(0.1)
    with KeepAlive(httpd.port) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
    wait_parked(lingerd, 0)
    assert lingerd.counters()["LingerParkedTotal"] == 1


def test_proxy_protocol_is_not_parked(sandbox, mpm):
    """mod_remoteip: the client has another address than the socket says."""
    httpd, lingerd = keepalive.site(sandbox, mpm, modules=("remoteip",), ports=("plain",), config="""
Listen 127.0.0.1:@plain@
<VirtualHost 127.0.0.1:@plain@>
  ServerName plain
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName localhost
  RemoteIPProxyProtocol On
</VirtualHost>
""")
    httpd.allowed_lines.append("RemoteIPProxyProtocol")
    with KeepAlive(httpd.port) as connection:
        connection.socket.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n")
        for _ in range(2):
            assert connection.ask()[0] == 200
            time.sleep(0.05)
    assert _fields(httpd, 2)[1][0] == "192.0.2.7"
    with KeepAlive(httpd.ports["plain"]) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
    wait_parked(lingerd, 0)
    assert lingerd.counters()["LingerParkedTotal"] == 1


def test_reqtimeout_begins_with_the_request(sandbox, mpm):
    """mod_reqtimeout gives the header its time from the first byte on, across a stay in lingerd."""
    httpd, lingerd = keepalive.site(sandbox, mpm, modules=("reqtimeout",),
                                    config="RequestReadTimeout header=1 body=1\n")
    with KeepAlive(httpd.port) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
        time.sleep(1.3)
        assert connection.ask()[0] == 200
        wait_parked(lingerd, 1, total=2)
        connection.socket.sendall(b"GET /hello.txt HTTP/1.1\r\nHost: ")
        assert connection.response()[0] == 408


# As without systemd: lingerd begins as root, and makes its page before it becomes another user.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_lingerd_that_changes_its_user(sandbox, mpm):
    httpd, lingerd = keepalive.site(sandbox, mpm, "--user", "daemon")
    with KeepAlive(httpd.port) as client:
        assert client.ask()[0] == 200
        for stay in range(1, 4):
            keepalive.wait_parked(lingerd, 1, stay)
            assert client.ask()[0] == 200
