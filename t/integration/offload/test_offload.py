# SPDX-License-Identifier: Apache-2.0
"""LingerOffload: the rest of a connection's last response goes to lingerd with the socket, and the
client gets it to the last byte, whatever made it and however it is read."""
import contextlib
import re
import threading
import time

import pytest

from harness import backend, clients, h2, httpd_conf, offload, tls
from harness.httpd import content
from harness.offload import BIG, Reader, body_of, wait_offloaded, wait_over
from harness.stats import adds_up
from harness.waiting import wait_equal, wait_until

WHOLE = content(BIG[1:])
TRANSPORTS = ("plain", "1.2", "1.3")


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    return offload.site(module_sandbox, mpm, workers=8,
                        modules=["http2"] if mpm != "prefork" else [],
                        config="Protocols h2 h2c http/1.1\n" if mpm != "prefork" else "")


@pytest.fixture
def offloads(site):
    """Waits until as many more have been offloaded; all are over at the end, and the books balance."""
    _, lingerd = site
    wait_over(lingerd)
    before = lingerd.counters()["LingerOffloads"]
    yield lambda count=1: wait_offloaded(lingerd, before + count)
    wait_over(lingerd)
    assert adds_up(lingerd.counters())


@pytest.fixture
def none(site):
    """Fails if anything has been offloaded."""
    _, lingerd = site
    before = lingerd.counters()["LingerOffloads"]
    yield
    wait_over(lingerd)
    assert lingerd.counters()["LingerOffloads"] == before


KINDS = {
    "file": (BIG, WHOLE),
    "file by sendfile": ("/sendfile" + BIG, WHOLE),
    "gzipped": ("/zipped" + BIG, WHOLE),
    "cgi": ("/cgi/big", WHOLE),
    "ssi": ("/page.shtml", b"before " + WHOLE + b" after\n"),
}
# How a client reads is lingerd's matter, which knows two kinds: a file's rest, and memory.
PACES = [("steady", kind) for kind in KINDS] + [
    (pace, kind) for pace in ("bursts", "drops") for kind in ("file", "cgi")]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("pace, kind", PACES)
def test_every_byte_arrives(site, offloads, transport, kind, pace):
    """A client that reads nothing until lingerd has its response. Would catch a byte that is lost,
    sent twice or out of order, and a goodbye of TLS that is missing."""
    httpd, lingerd = site
    path, expected = KINDS[kind]
    delivered = lingerd.counters()["LingerDelivered"]
    with Reader(httpd, clients.request(path, "Accept-Encoding: gzip"), transport) as client:
        offloads()
        assert body_of(client.read_all(pace)) == expected
        wait_until(lambda: lingerd.counters()["LingerDelivered"] == delivered + 1, "delivered")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_http_1_0(site, offloads, transport):
    """Without a length, where only the end says that it is the end."""
    httpd, _ = site
    with Reader(httpd, clients.request("/cgi/big", version="1.0"), transport) as client:
        offloads()
        head, _, body = client.read_all("bites").partition(b"\r\n\r\n")
        assert b"Content-Length" not in head and body == WHOLE


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ranges(site, offloads, transport):
    """One range, which stays a part of the file; and several, whose last is offloaded."""
    httpd, _ = site
    with Reader(httpd, clients.request(BIG, "Range: bytes=1001-3999000"), transport) as client:
        offloads(1)
        assert body_of(client.read_all()) == WHOLE[1001:3999001]
    ranges = [(0, 99), (5000, 5999), (100_000, 3_999_999)]
    wanted = "Range: bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)
    with Reader(httpd, clients.request(BIG, wanted), transport) as client:
        offload.expected_multipart(client.read_all("bursts"), ranges)


def test_head(site, none):
    """Nothing to offload, and nothing to lose."""
    httpd, _ = site
    with Reader(httpd, clients.request(BIG, method="HEAD")) as client:
        head, _, body = client.read_all().partition(b"\r\n\r\n")
        assert b"Content-Length: 4000000" in head and body == b""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_after_keep_alive_responses(site, offloads, transport):
    """Pipelined: what the core's filter holds of earlier responses goes first. Would catch responses
    out of order."""
    httpd, _ = site
    wanted = clients.request(BIG, close=False) + clients.request("/hello.txt", close=False) + \
        clients.request(BIG)
    with Reader(httpd, wanted, transport) as client:
        first = b""
        while len(first) < 4_000_000:  # the worker waits for it, as without offload
            first += client.read()
        offloads()
        rest = first + client.read_all()
    head, _, rest = rest.partition(b"\r\n\r\n")
    assert rest[:len(WHOLE)] == WHOLE
    head, _, rest = rest[len(WHOLE):].partition(b"\r\n\r\n")
    assert rest[:13] == content("hello.txt")
    head, _, rest = rest[13:].partition(b"\r\n\r\n")
    assert b"Connection: close" in head and rest == WHOLE


@pytest.mark.parametrize("transport", ["plain", "1.3"])
def test_client_resets_in_the_middle(site, offloads, transport):
    """Counted, and nothing of it stays."""
    httpd, lingerd = site
    before = lingerd.counters()["LingerDeliveryAborted"]
    client = Reader(httpd, clients.request(BIG), transport)
    offloads()
    assert client.read(10_000)
    client.reset()
    wait_until(lambda: lingerd.counters()["LingerDeliveryAborted"] == before + 1, "aborted")


def test_client_that_sends_meanwhile(site, offloads):
    """Late bytes lie there until the delivery is over, and are drained then: no RST."""
    httpd, _ = site
    with Reader(httpd, clients.request(BIG)) as client:
        offloads()
        client.socket.sendall(b"late" * 1000)
        assert body_of(client.read_all()) == WHOLE


def test_half_closed_client(site, offloads):
    """Its FIN comes with the request; it still wants the whole response."""
    httpd, _ = site
    with clients.connect(httpd.port, 16384) as client:
        clients.send_with_fin(client, clients.request(BIG))
        offloads()
        assert body_of(clients.read_to_fin(client)) == WHOLE


def test_quick_clients_cost_nothing(site, none):
    """A client that takes the response as it comes has no part in it."""
    httpd, _ = site
    for _ in range(20):
        assert clients.fetch(httpd.port) == (200, content("hello.txt"))


def test_keep_alive_is_left_alone(site, none):
    """Would catch a response that travels though its connection stays."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        for _ in range(2):
            client.sendall(clients.request(BIG, close=False))
            received = b""
            while len(received.partition(b"\r\n\r\n")[2]) < len(WHOLE):
                received += client.recv(65536)
            assert body_of(received) == WHOLE


def test_upgrade_is_left_alone(site, none):
    """A request that asks for another protocol, as WebSocket's does, isn't touched."""
    httpd, _ = site
    with clients.connect(httpd.port, 16384) as client:
        client.sendall(clients.request(BIG, "Upgrade: websocket"))
        assert body_of(clients.read_to_fin(client)) == WHOLE


def test_http2_is_left_alone(site, none, mpm):
    httpd, _ = site
    if mpm == "prefork":
        pytest.skip("mod_http2 is inactive on prefork")
    with tls.TlsClient(httpd.ports["tls"], alpn="h2") as client:
        client.send(h2.opening() + h2.get("/64k.bin", scheme="https") + h2.acknowledge_settings())
        received = b""
        while h2_length(received) < 65535:  # the default window
            received += client.read()


def h2_length(received):
    """Bytes of DATA in whole frames."""
    total = at = 0
    while len(received) >= at + 9:
        length = int.from_bytes(received[at:at + 3], "big")
        total += length if received[at + 3] == h2.DATA else 0
        at += 9 + length
    return total


def test_access_log_is_honest(site, offloads):
    """%O is what httpd has written or given away, %X says that the connection closes, and
    %{linger}n that the rest has gone to lingerd."""
    httpd, _ = site
    mark = httpd.access_log.mark()
    with Reader(httpd, clients.request(BIG + "?logged")) as client:
        offloads()
        response = client.read_all()
    line = wait_until(lambda: httpd.access_log.matching(r"logged|/4m\.bin", mark), "a line")[0]
    words = line.split()
    assert int(words[2]) == len(WHOLE), line
    assert int(words[3]) == len(response), line
    assert words[5] == "-" and words[-1] == "offload", line


def test_the_freed_worker(sandbox, mpm):
    """All workers have served a slow client, and the next request is answered while those still
    read. Would catch a worker that waits."""
    httpd, lingerd = offload.site(sandbox, mpm, workers=4)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(httpd, clients.request(BIG), "1.3"))
                   for _ in range(12)]
        wait_offloaded(lingerd, 12)
        assert lingerd.counters()["LingerOffloadPending"] > 12 * 3_000_000
        assert clients.fetch(httpd.port) == (200, content("hello.txt"))
        wait_equal(lambda: httpd.status()["BusyWorkers"], "1", "busy workers")
        assert lingerd.counters()["LingerDelivered"] == 0
        for reader in readers:
            assert body_of(reader.read_all()) == WHOLE
    wait_over(lingerd)
    counters = lingerd.counters()
    assert (counters["LingerDelivered"], counters["LingerOffloadMemory"]) == (12, 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_early_hints(sandbox, mpm, transport):
    """103 before the response, forwarded from a backend: both arrive, in order, at once. Would catch
    a filter that takes the interim response for the last one."""
    head = (b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    go_on = threading.Event()
    with backend.interim(head, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(WHOLE) + WHOLE,
                         go_on) as port:
        httpd, lingerd = offload.site(
            sandbox, mpm, modules=("proxy", "proxy_http"),
            config=f"ProxyPass /hints http://127.0.0.1:{port}/\nProxyTimeout 60\n")
        with Reader(httpd, clients.request("/hints"), transport) as client:
            received = b""
            while b"preload\r\n" not in received:
                received += client.read()
            assert received.startswith(b"HTTP/1.1 103 "), received
            go_on.set()
            wait_offloaded(lingerd, 1)
            received += client.read_all("bursts")
        interim, _, final = received.partition(b"\r\n\r\n")
        assert b"103" in interim.split(b"\r\n")[0] and body_of(final) == WHOLE
        wait_over(lingerd)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_server_sent_events(sandbox, mpm, transport):
    """Proxied without a length: each event arrives before the next one is made. Would catch an event
    that waits for the next one, or for the end."""
    with backend.events(20) as (port, heard):
        httpd, _ = offload.site(
            sandbox, mpm, modules=("proxy", "proxy_http"),
            config=f"ProxyPass /events http://127.0.0.1:{port}/ flushpackets=on\n")
        with Reader(httpd, clients.request("/events"), transport) as client:
            received, stamps = b"", []
            for i in range(20):
                while f"id: {i}\n\n".encode() not in received:
                    chunk = client.read()
                    assert chunk, received
                    received += chunk
                stamps.append(time.monotonic_ns())
                heard.release()
            received += client.read_all()
        body = body_of(received)
        made = [int(line.split()[1]) for line in body.split(b"\n") if line.startswith(b"data: ")]
        assert len(made) == 20
        for i in range(19):
            assert made[i] <= stamps[i] <= made[i + 1], "an event and its arrival, then the next"


# ---- mod_php ----

PHP = {
    "large": '<?php echo file_get_contents(__DIR__ . "/4m.bin");',
    "pieces": '<?php $f = fopen(__DIR__ . "/4m.bin", "r");'
              ' while (($s = fread($f, 997)) !== false && $s !== "") { echo $s; }',
    "flushed": '<?php $f = fopen(__DIR__ . "/4m.bin", "r"); $n = 0;'
               ' while (($s = fread($f, 5003)) !== false && $s !== "") { echo $s; flush(); }',
    # A piece each time that the reader has asked for it.
    "stream": '<?php while (@ob_end_flush()) {} for ($i = 0; $i < 5; $i++) {'
              ' echo "piece $i\n"; flush();'
              ' while (!file_exists(__DIR__ . "/../run/got$i")) { usleep(2000); clearstatcache(); }'
              ' } echo "end";',
}


@pytest.fixture(scope="module")
def php(module_sandbox):
    load = httpd_conf.php_module()
    if not load:
        pytest.skip("mod_php isn't installed")
    httpd, lingerd = offload.site(module_sandbox, "prefork", config=load + """
<FilesMatch "\\.php$">
  SetHandler application/x-httpd-php
</FilesMatch>
""")
    for name, text in PHP.items():
        (httpd.directory / "www" / f"{name}.php").write_text(text)
    (httpd.directory / "run").chmod(0o777)
    return httpd, lingerd


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["large", "pieces", "flushed"])
def test_mod_php(php, transport, kind):
    httpd, lingerd = php
    before = lingerd.counters()["LingerOffloads"]
    with Reader(httpd, clients.request(f"/{kind}.php"), transport) as client:
        wait_offloaded(lingerd, before + 1)
        assert body_of(client.read_all("bursts")) == WHOLE
    wait_over(lingerd)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_streams_keeps_streaming(php, transport):
    """The script goes on only when the client has got each piece. Would catch a piece that waits
    for the next one, or for the end."""
    httpd, _ = php
    for old in (httpd.directory / "run").glob("got*"):
        old.unlink()
    with Reader(httpd, clients.request("/stream.php"), transport) as client:
        received = b""
        for i in range(5):
            while f"piece {i}\n".encode() not in received:
                chunk = client.read()
                assert chunk, received
                received += chunk
            (httpd.directory / "run" / f"got{i}").touch()
        received += client.read_all()
    assert body_of(received) == b"".join(b"piece %d\n" % i for i in range(5)) + b"end"


def test_status_page_shows_deliveries_once_there_are_some(sandbox, mpm):
    httpd, lingerd = offload.site(sandbox, mpm)
    assert "Delivered" not in httpd.status_page()
    assert httpd.status()["LingerOffloads"] == 0
    with Reader(httpd, clients.request(BIG)) as client:
        wait_offloaded(lingerd, 1)
        page = httpd.status_page()
        assert re.search(r"Still to deliver", page) and "Delivered" in page
        assert 0 < httpd.status()["LingerOffloadPending"] < len(WHOLE)
        assert body_of(client.read_all()) == WHOLE
    wait_equal(lambda: httpd.status()["LingerDelivered"], 1, "delivered, by server-status")
