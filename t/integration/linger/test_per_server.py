# SPDX-License-Identifier: Apache-2.0
"""Which settings govern a connection, and for how long lingerd then waits. Times are told by the
order of events, not by a clock."""
import contextlib
import re
import time

import pytest

from harness import clients
from harness.httpd import content
from harness.waiting import wait_equal, wait_until

# A name for each behaviour; the address's default server has the most patient one.
CONFIG = """
RequestReadTimeout handshake=0 header=1 body=1
<VirtualHost 127.0.0.1:@main@>
  ServerName patient.test
  LingerTimeout 3600
  LingerTime 3600
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName silence.test
  LingerTimeout 300ms
  LingerTime 3600
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName moving.test
  LingerTimeout 1500ms
  LingerTime 3600
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName cap.test
  LingerTimeout 3600
  LingerTime 2500ms
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName inherits.test
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName off.test
  Linger Off
</VirtualHost>
"""


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    return module_sandbox.site(
        mpm, "--max-time", "3600", config=CONFIG, modules=("reqtimeout",),
        linger_directives="LingerTimeout 400ms\nLingerTime 7\n", log_level="notice linger:debug")


@pytest.fixture
def lingering(site):
    """lingering(host) gives a client whose connection is in lingerd."""
    httpd, lingerd = site
    wait_equal(lingerd.queue, 0, "sockets of an earlier test in lingerd")
    total = [lingerd.counters()["LingerTotal"]]
    with contextlib.ExitStack() as stack:

        def open_one(host, *, first_host=None):
            client = stack.enter_context(clients.connect(httpd.port))
            if first_host:
                client.sendall(clients.request(host=first_host, close=False))
                assert client.recv(65536).endswith(content("hello.txt"))
            client.sendall(clients.request(host=host))
            assert clients.split(clients.read_to_fin(client)) == (200, content("hello.txt"))
            total[0] += 1
            wait_equal(lambda: lingerd.counters()["LingerTotal"], total[0], "sockets taken over")
            return client

        yield open_one
    wait_equal(lingerd.queue, 0, "sockets in lingerd")


def ends(lingerd):
    counters = lingerd.counters()
    return {name: counters["LingerClosed" + name] for name in ("Idle", "Cap", "ByClient", "ByReset")}


def wait_end(lingerd, before, **grown):
    wait_equal(lambda: {k: v - before[k] for k, v in ends(lingerd).items()},
               dict.fromkeys(before, 0) | grown, "ends by kind")


def test_silent_client(site, lingering):
    """Ended after LingerTimeout, while one that came before it but has a longer one stays. Would
    catch a timeout of the wrong server, a cap that acts as a timeout, or none at all."""
    _, lingerd = site
    before = ends(lingerd)
    patient = lingering("patient.test")
    silent = lingering("silence.test")
    wait_end(lingerd, before, Idle=1)
    assert lingerd.queue() == 1
    silent.close()
    patient.close()
    wait_end(lingerd, before, Idle=1, ByClient=1)


def test_trickling_client(site, lingering):
    """Ended after LingerTime however much it sends; one with only a LingerTimeout, shorter than that,
    lives on as long as it trickles. Would catch a cap that bytes push back, an idle clock that they
    don't, and deadlines in the order of arrival: the first to come is the last to go."""
    _, lingerd = site
    before = ends(lingerd)
    patient = lingering("patient.test")
    with clients.Tricklers([], every=0.05) as tricklers:
        tricklers.add(lingering("moving.test"))
        tricklers.add(lingering("cap.test"))
        wait_end(lingerd, before, Cap=1)
        assert lingerd.queue() == 2
    wait_end(lingerd, before, Cap=1, Idle=1)
    patient.close()
    wait_end(lingerd, before, Cap=1, Idle=1, ByClient=1)


@pytest.mark.parametrize("first, last, end", [
    ("silence.test", "cap.test", "Cap"), ("cap.test", "silence.test", "Idle"),
    ("patient.test", "inherits.test", "Idle")])
def test_last_requests_server_governs(site, lingering, first, last, end):
    """Name-based virtual hosts share connections. Would catch settings of the first request's
    server, or of the address's default."""
    _, lingerd = site
    before = ends(lingerd)
    client = lingering(last, first_host=first)
    with clients.Tricklers([client] if end == "Cap" else []):
        wait_end(lingerd, before, **{end: 1})


def test_linger_off_after_on(site):
    """The last request's server may have Linger Off. Would catch a hand-off all the same."""
    httpd, lingerd = site
    total = lingerd.counters()["LingerTotal"]
    left_off = httpd.status()["LingerLeftOff"] - httpd.looks
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request(host="patient.test", close=False))
        assert client.recv(65536).endswith(content("hello.txt"))
        client.sendall(clients.request(host="off.test"))
        assert clients.split(clients.read_to_fin(client)) == (200, content("hello.txt"))
    assert httpd.status()["LingerLeftOff"] - httpd.looks == left_off + 1
    assert lingerd.counters()["LingerTotal"] == total


def test_short_lingering_close(site, lingering):
    """mod_reqtimeout asks for a short linger: two seconds, however long LingerTime is. Would catch
    a module that doesn't look at the note: neither limit of this server ever ends."""
    httpd, lingerd = site
    before = ends(lingerd)
    patient = lingering("patient.test")
    total = lingerd.counters()["LingerTotal"]
    with clients.connect(httpd.port) as client:
        client.sendall(b"GET /hello.txt HTTP/1.1\r\nHost: patient.test\r\n")
        status, _ = clients.split(clients.read_to_fin(client))
        assert status == 408
        wait_equal(lambda: lingerd.counters()["LingerTotal"], total + 1, "sockets taken over")
        with clients.Tricklers([client, patient]):
            wait_end(lingerd, before, Cap=1)
            assert lingerd.queue() == 1


def test_slow_reader_is_not_silent(site):
    """A client that takes the response slowly sends nothing for far longer than LingerTimeout.
    Would catch an idle clock that runs while the kernel's buffer empties: its end would be an RST
    as soon as the client speaks, and the response would be cut."""
    httpd, lingerd = site
    rescued = lingerd.counters()["LingerRescued"]
    client = clients.connect(httpd.port, receive_buffer=4096)
    with client:
        client.sendall(clients.request("/300k.bin", host="moving.test"))
        received = bytearray()
        while len(received) < 250_000:  # twice LingerTimeout at least
            received += client.recv(2048)
            time.sleep(0.025)
        client.sendall(b"late")
        received += clients.read_to_fin(client)
    assert clients.split(bytes(received)) == (200, content("300k.bin"))
    wait_equal(lambda: lingerd.counters()["LingerRescued"], rescued + 1, "rescued")


def test_stalled_reader_ends(site):
    """But one that takes nothing any more is silent. Would catch a linger that lasts for ever
    because the kernel still holds bytes for the client."""
    httpd, lingerd = site
    wait_equal(lingerd.queue, 0, "sockets of an earlier test in lingerd")
    before = ends(lingerd)
    with clients.connect(httpd.port, receive_buffer=4096) as client:
        client.sendall(clients.request("/300k.bin", host="silence.test"))
        assert clients.answered(client, 20)
        wait_end(lingerd, before, Idle=1)


def test_debug_log_tells_each_fate(site, lingering):
    """LogLevel linger:debug has a line for each connection's end. Would catch a fate that nobody
    logs."""
    httpd, lingerd = site
    mark = httpd.error_log.mark()
    lingering("silence.test").close()
    clients.early_closer(httpd.port)
    clients.fetch(httpd.port, host="off.test")
    broken = clients.connect(httpd.port, receive_buffer=4096)
    broken.sendall(clients.request("/4m.bin"))
    broken.recv(100)
    clients.reset(broken)
    for fate in (r"handed off to lingerd in \d+ us \(LingerTimeout 300 ms, LingerTime 3600000 ms\)",
                 "already closed by the client", "Linger Off", "broke before its last byte"):
        wait_until(lambda: re.search(rf"\[linger:debug\].*\[client 127\.0\.0\.1:\d+\].*{fate}",
                                     "\n".join(httpd.error_log.since(mark))),
                   lambda: f"a line about {fate}\n{httpd.error_log.tail()}")
    wait_equal(lingerd.queue, 0, "sockets in lingerd")
