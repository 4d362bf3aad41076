# SPDX-License-Identifier: Apache-2.0
"""LingerRequest beside TLS: such requests stay with their worker, and LingerKeepAliveTLS goes on as without."""
import os
import ssl
import threading

import pytest

from harness import clients, logs, slow, tls_parking
from harness.keepalive import KeepAlive, wait_parked
from harness.slow import wait_counted, wait_gathering
from harness.tls_parking import TlsKeepAlive


@pytest.fixture(scope="module", params=slow.MPMS)
def mpm(request):
    return request.param


@pytest.fixture(scope="module")
def server(module_sandbox, mpm):
    keep_alive = "" if mpm == "event" else "LingerKeepAlive On\n" + tls_parking.directives()
    return tls_parking.site(module_sandbox, mpm, linger_directives=keep_alive + "LingerRequest On\n")


@pytest.fixture
def site(server):
    httpd, lingerd = server
    httpd.allowed_lines.append(logs.ALL_BUSY)
    wait_gathering(lingerd, 0)  # of a test that has failed
    wait_parked(lingerd, 0)
    return httpd, lingerd


def _half(connection, data):
    """What is left to send, after half of it."""
    middle = len(data) // 2
    connection.write(data[:middle])
    return data[middle:]


def test_a_slow_head_over_tls_keeps_its_worker(site):
    httpd, lingerd = site
    before = lingerd.counters()
    connection = TlsKeepAlive(httpd.ports["tls"])
    rest = _half(connection, clients.request(close=False))
    with clients.connect(httpd.port) as plain:  # and one in the clear beside it doesn't
        data = clients.request()
        plain.sendall(data[:20])
        wait_gathering(lingerd, 1, before["LingerGatherTotal"] + 1)
        plain.sendall(data[20:])
        assert slow.split(clients.read_to_fin(plain)) == (200, b"hello, world\n")
    connection.write(rest)
    status, _, body = connection.response()
    assert (status, body) == (200, b"hello, world\n")
    connection.goodbye()
    wait_counted(lingerd, Gathering=0, GatherTotal=before["LingerGatherTotal"] + 1,
                 Gathered=before["LingerGathered"] + 1)


def test_half_a_client_hello_keeps_its_worker(site):
    """It is no HTTP: the worker waits as ever, and nothing is lost."""
    httpd, lingerd = site
    before = lingerd.counters()["LingerGatherTotal"]
    context = tls_parking.client_context()
    with clients.connect(httpd.ports["tls"]) as client:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        client.sendall(hello[:50])
        assert clients.fetch(httpd.port) == (200, b"hello, world\n")
        client.sendall(hello[50:])
        assert client.recv(1)
    assert lingerd.counters()["LingerGatherTotal"] == before


def test_both_kinds_of_stay(site, mpm):
    """TLS connections are parked between requests, plain ones as well, and those with half of their next
    request gathered."""
    if mpm == "event":
        pytest.skip("event waits for idle connections itself")
    httpd, lingerd = site
    before = lingerd.counters()
    over_tls, plain = TlsKeepAlive(httpd.ports["tls"]), KeepAlive(httpd.port)
    body = os.urandom(3_000)
    data = clients.request("/hello.txt", f"Content-Length: {len(body)}", method="POST", close=False) + body
    parked = before["LingerParkedTotal"]
    gathered = before["LingerGathered"]
    for _ in range(3):
        for connection in (over_tls, plain):
            status, _, answer = connection.ask()
            assert (status, answer) == (200, b"hello, world\n")
        wait_parked(lingerd, 2, total=parked + 2)
        plain.socket.sendall(data[:200])  # it comes back with that, and goes again for the rest
        gathered += 1
        wait_gathering(lingerd, 1, before["LingerGatherTotal"] + gathered - before["LingerGathered"])
        over_tls.write(data[:200])
        plain.socket.sendall(data[200:])
        over_tls.write(data[200:])
        for connection in (over_tls, plain):
            status, _, answer = connection.response()
            assert (status, answer) == (200, b"hello, world\n")
        wait_counted(lingerd, Gathering=0, Gathered=gathered)
        parked += 4
        wait_parked(lingerd, 2, total=parked)
    plain.socket.close()
    over_tls.goodbye()
    wait_parked(lingerd, 0)
    assert slow.add_up(lingerd.counters())
    assert httpd.status()["LingerTlsRefused"] == 0


def test_a_crowd_of_both(site):
    """Clients over TLS and in the clear, all of them slow and at once: each is answered right."""
    httpd, lingerd = site
    wrong = []

    def over_tls(number):
        try:
            for _ in range(4):  # each its own: event closes idle connections where all are busy
                connection = TlsKeepAlive(httpd.ports["tls"])
                connection.write(_half(connection, clients.request(close=False)))
                status, _, body = connection.response()
                assert (status, body) == (200, b"hello, world\n")
                connection.goodbye()
        except (OSError, AssertionError, clients.NoResponse) as problem:
            wrong.append((number, problem))

    threads = [threading.Thread(target=over_tls, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    crowd = slow.Crowd(httpd.port, [clients.request()] * 24, 4, 0.05)
    answers = crowd.join()
    for thread in threads:
        thread.join()
    assert not wrong
    assert answers == [(200, b"hello, world\n")] * 24
    wait_gathering(lingerd, 0)
