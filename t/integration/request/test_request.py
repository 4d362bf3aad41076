# SPDX-License-Identifier: Apache-2.0
"""LingerRequest: requests that are still coming wait in lingerd."""
import os
import socket
import time

import pytest

from harness import clients, logs, slow
from harness.slow import wait_counted, wait_gathering

# The ends of a stay, as a test expects them to grow.
ENDS = ("Gathered", "GatherEarly", "GatherTimedOut", "GatherClosedByClient", "GatherReturnFailed")


@pytest.fixture(scope="module", params=slow.MPMS)
def mpm(request):
    return request.param


@pytest.fixture(scope="module")
def server(module_sandbox, mpm):
    return slow.site(module_sandbox, mpm, config="LogLevel linger:debug\n")


@pytest.fixture
def site(server):
    httpd, lingerd = server
    httpd.allowed_lines.append(logs.ALL_BUSY)
    wait_gathering(lingerd, 0)  # of a test that has failed
    return httpd, lingerd


class Ends:
    """Counts from now on."""

    def __init__(self, lingerd):
        self.lingerd = lingerd
        self.before = lingerd.counters()

    def wait(self, **grown):
        wait_counted(self.lingerd, Gathering=0, GatherMemory=0, **{
            name: self.before[f"Linger{name}"] + grown.get(name, 0) for name in ENDS})
        assert slow.add_up(self.lingerd.counters())

    def wait_gathering(self, count=1):
        wait_gathering(self.lingerd, 1, self.before["LingerGatherTotal"] + count)


def post(body, *headers, path="/cgi/digest", close=True):
    return clients.request(path, f"Content-Length: {len(body)}", *headers, method="POST",
                           close=close) + body


def chunked(body, size, trailer=b""):
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


def post_chunked(body, size=1000, path="/cgi/digest", trailer=b""):
    return clients.request(path, "Transfer-Encoding: chunked", method="POST") + \
        chunked(body, size, trailer)


def answer(client):
    return slow.split(clients.read_to_fin(client))


def test_a_slow_head_waits_in_lingerd(site):
    httpd, lingerd = site
    ends = Ends(lingerd)
    data = clients.request()
    with clients.connect(httpd.port) as client:
        client.sendall(data[:20])
        ends.wait_gathering()
        client.sendall(data[20:-2])
        time.sleep(0.05)
        assert lingerd.counters()["LingerGathering"] == 1
        client.sendall(data[-2:])
        assert answer(client) == (200, b"hello, world\n")
    ends.wait(Gathered=1)


def test_a_slow_body_waits_in_lingerd(site):
    """Larger than a receive buffer as it comes: the kernel makes room."""
    httpd, lingerd = site
    ends = Ends(lingerd)
    body = os.urandom(900_000)
    data = post(body)
    with clients.connect(httpd.port) as client:
        client.sendall(data[:1_000])
        ends.wait_gathering()
        client.sendall(data[1_000:800_000])
        time.sleep(1.2)  # a look or two
        assert lingerd.counters()["LingerGathering"] == 1
        assert lingerd.counters()["LingerGatherMemory"] > 700_000
        client.sendall(data[800_000:])
        assert answer(client) == (200, slow.digest(body))
    ends.wait(Gathered=1)


def test_a_slow_head_and_a_slow_body_wait_twice(site):
    httpd, lingerd = site
    ends = Ends(lingerd)
    body = os.urandom(5_000)
    data = post(body)
    with clients.connect(httpd.port) as client:
        client.sendall(data[:30])
        ends.wait_gathering()
        client.sendall(data[30:2_000])
        ends.wait_gathering(2)
        client.sendall(data[2_000:])
        assert answer(client) == (200, slow.digest(body))
    ends.wait(Gathered=2)


@pytest.mark.parametrize("size", [1, 100, 20_000])
def test_a_slow_body_in_chunks(site, size):
    httpd, lingerd = site
    ends = Ends(lingerd)
    body = os.urandom(30_000)
    data = post_chunked(body, size, trailer=b"X-Trailer: 1\r\n")
    with clients.connect(httpd.port) as client:
        client.sendall(data[:-40])
        ends.wait_gathering()
        client.sendall(data[-40:-1])
        time.sleep(0.05)
        assert lingerd.counters()["LingerGathering"] == 1
        client.sendall(data[-1:])
        assert answer(client) == (200, slow.digest(body))
    ends.wait(Gathered=1)


def test_a_silent_new_connection_waits(site):
    httpd, lingerd = site
    ends = Ends(lingerd)
    with clients.connect(httpd.ports["silent"]) as client:
        ends.wait_gathering()
        client.sendall(clients.request())
        assert answer(client) == (200, b"hello, world\n")
    ends.wait(Gathered=1)


@pytest.mark.parametrize("what", ["fin", "reset"])
@pytest.mark.parametrize("sent", [0, 25])
def test_a_client_that_goes(site, what, sent):
    httpd, lingerd = site
    ends = Ends(lingerd)
    client = clients.connect(httpd.ports["silent"])
    client.sendall(clients.request()[:sent])
    ends.wait_gathering()
    if what == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    ends.wait(**{"GatherClosedByClient" if sent == 0 or what == "reset" else "GatherEarly": 1})


def test_half_closed_clients_are_answered(site):
    """They send all, say that it was all, and read."""
    httpd, lingerd = site
    ends = Ends(lingerd)
    data = post(b"x" * 3_000)
    with clients.connect(httpd.port) as client:
        client.sendall(data[:-10])
        ends.wait_gathering()
        client.sendall(data[-10:])
        client.shutdown(socket.SHUT_WR)
        assert answer(client) == (200, slow.digest(b"x" * 3_000))
    ends.wait(Gathered=1)


def test_urgent_data_is_for_a_worker(site):
    """It hides what is behind it from whoever looks."""
    httpd, lingerd = site
    ends = Ends(lingerd)
    data = clients.request()
    with clients.connect(httpd.port) as client:
        client.sendall(data[:20])
        ends.wait_gathering()
        client.send(b"!", socket.MSG_OOB)
        ends.wait(GatherEarly=1)
        client.sendall(data[20:])
        assert answer(client) == (200, b"hello, world\n")


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_one_request_behind_another(site, parts):
    """The first one's body ends in the middle of a segment, with a part of the next head behind it."""
    httpd, lingerd = site
    ends = Ends(lingerd)
    first = post(b"a" * 2_500, close=False)
    second = post(b"b" * 700)
    with clients.connect(httpd.port) as client:
        client.sendall(first + second[:20])
        ends.wait_gathering()
        slow.send_in_parts(client, second[20:], parts, 0.02)
        received = clients.read_to_fin(client)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.index(slow.digest(b"a" * 2_500)) < received.index(slow.digest(b"b" * 700))
    assert lingerd.counters()["LingerGathered"] > ends.before["LingerGathered"]


def test_a_byte_at_a_time(site):
    httpd, _ = site
    body = os.urandom(300)
    data = post(body)
    with clients.connect(httpd.port) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        slow.send_in_parts(client, data, len(data), 0.001)
        assert answer(client) == (200, slow.digest(body))


def test_many_requests_at_once_are_not_slow(site):
    """Pipelined: none of them waits for lingerd."""
    httpd, lingerd = site
    ends = Ends(lingerd)
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request(close=False) * 20 + post(b"z" * 100, close=False) + clients.request())
        received = clients.read_to_fin(client)
    assert received.count(b"HTTP/1.1 200 OK") == 22
    assert received.count(b"hello, world\n") == 21 and slow.digest(b"z" * 100) in received
    ends.wait()


@pytest.mark.parametrize("head", [
    b"GET /hello.txt\r\n", b"nonsense\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_what_is_no_http_is_for_a_worker(site, head):
    httpd, lingerd = site
    ends = Ends(lingerd)
    with clients.connect(httpd.port) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        clients.read_to_fin(client)
    ends.wait()


def test_expect_is_answered_at_once(site):
    httpd, lingerd = site
    ends = Ends(lingerd)
    body = b"e" * 1_000
    head = clients.request("/cgi/digest", f"Content-Length: {len(body)}", "Expect: 100-continue",
                           method="POST")
    with clients.connect(httpd.port) as client:
        client.sendall(head)
        interim = client.recv(1_000)
        assert interim.startswith(b"HTTP/1.1 100 ")
        client.sendall(body)
        assert answer(client) == (200, slow.digest(body))
    ends.wait()


def test_a_body_that_fills_the_window_at_first(site):
    """The kernel has room for so much more only when it is asked, and the client has to hear of it."""
    httpd, lingerd = site
    ends = Ends(lingerd)
    body = os.urandom(1_000_000)
    data = post(body)
    with clients.connect(httpd.port) as client:
        client.sendall(data[:900_000])
        ends.wait_gathering()
        client.sendall(data[900_000:])
        assert answer(client) == (200, slow.digest(body))
    ends.wait(Gathered=1)
