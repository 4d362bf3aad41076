# SPDX-License-Identifier: Apache-2.0
"""Where LingerOffload ends: its limits, its directives, and a lingerd that can't or won't. Whatever
it is, the client gets the whole response, from the worker if need be."""
import socket
import struct
import threading

import pytest

from harness import backend, clients, offload
from harness.httpd import content
from harness.offload import BIG, Reader, body_of, wait_offloaded, wait_over
from harness.record import GREETING_MAGIC
from harness.stats import adds_up
from harness.waiting import wait_equal, wait_until

WHOLE = content(BIG[1:])


def reads_on(reader):
    """The worker is the one that waits: the scoreboard says so, then the client reads."""
    return body_of(reader.read_all())


def busy_with_it(httpd):
    """A worker sends, or closes: it isn't free."""
    wait_until(lambda: int(httpd.status()["BusyWorkers"]) >= 2, "the worker waits for the client")


# ---- The worker's limits ----

@pytest.mark.parametrize("transport", ["1.2", "1.3"])
def test_offload_max(sandbox, mpm, transport):
    """A response far larger than the limit still arrives; the worker waits until the rest of it fits.
    Would catch a limit that cuts, and none at all."""
    httpd, lingerd = offload.site(sandbox, mpm, directives="LingerOffloadMax 300K\n")
    with Reader(httpd, clients.request(BIG), transport) as client:
        busy_with_it(httpd)
        assert lingerd.counters()["LingerOffloads"] == 0
        assert body_of(client.read_all("bursts")) == WHOLE
    wait_over(lingerd)
    counters = lingerd.counters()
    assert counters["LingerOffloadBytes"] <= 300 * 1024


def test_a_file_takes_no_memory(sandbox, mpm):
    """Would catch a file that is read into memory, and limits of memory that count it."""
    httpd, lingerd = offload.site(sandbox, mpm, "--offload-memory", "1",
                                  directives="LingerOffloadMax 1\n")
    with Reader(httpd, clients.request(BIG)) as client:
        wait_offloaded(lingerd, 1)
        assert lingerd.counters()["LingerOffloadMemory"] == 0
        assert body_of(client.read_all()) == WHOLE


def test_ranges_beyond_the_limit(sandbox, mpm):
    """Bytes behind files that don't fit: the worker waits for each."""
    httpd, _ = offload.site(sandbox, mpm, directives="LingerOffloadMax 200K\n")
    ranges = [(0, 1_999_999), (2_100_000, 2_100_099), (2_200_000, 3_999_999)]
    wanted = "Range: bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)
    for pace in ("steady", "bursts"):
        with Reader(httpd, clients.request(BIG, wanted)) as client:
            offload.expected_multipart(client.read_all(pace), ranges)


@pytest.mark.parametrize("path", ["/cgi/big", BIG])
def test_no_memory_left(sandbox, mpm, path):
    """lingerd has no room: the response is httpd's own, whole. On event no worker waits for it
    either, as without the module."""
    httpd, lingerd = offload.site(sandbox, mpm, "--offload-memory", "10K")
    with Reader(httpd, clients.request(path), "1.3") as client:
        assert body_of(client.read_all("bursts")) == WHOLE
    wait_over(lingerd)
    assert lingerd.counters()["LingerOffloadMemory"] == 0
    assert httpd.status()["LingerFallbacks"] == 0


def test_memory_is_shared(sandbox, mpm):
    """The first fit; when they are through there is room again."""
    httpd, lingerd = offload.site(sandbox, mpm, "--offload-memory", "5M", workers=8)
    with Reader(httpd, clients.request(BIG), "1.3") as first:
        wait_offloaded(lingerd, 1)
        with Reader(httpd, clients.request(BIG), "1.3") as second:
            wait_until(lambda: int(httpd.status()["BusyWorkers"]) >= 2 or mpm == "event", "it waits")
            assert lingerd.counters()["LingerOffloads"] == 1
            assert body_of(second.read_all("bursts")) == WHOLE
        assert body_of(first.read_all()) == WHOLE
    wait_over(lingerd)
    before = lingerd.counters()["LingerOffloads"]
    with Reader(httpd, clients.request(BIG), "1.3") as third:
        wait_offloaded(lingerd, before + 1)
        assert body_of(third.read_all()) == WHOLE


@pytest.mark.parametrize("transport", ["plain", "1.3"])
def test_refused_when_it_is_offered(sandbox, mpm, transport):
    """There is room when the response begins, and none for the whole of it: lingerd says so, and the
    worker sends it. Would catch a response that is lost with the refusal, and one over the limit."""
    httpd, lingerd = offload.site(sandbox, mpm, "--offload-memory", "1M", workers=4)
    with Reader(httpd, clients.request("/cgi/big"), transport) as client:
        wait_until(lambda: lingerd.counters()["LingerOffloadsRefused"] == 1, "refused")
        assert body_of(client.read_all("bursts")) == WHOLE
    wait_over(lingerd)
    counters = lingerd.counters()
    assert counters["LingerOffloads"] == counters["LingerOffloadMemory"] == 0
    assert counters["LingerRejected"] == 0
    wait_equal(lambda: httpd.status()["LingerHandoffs"] >= 1, True, "the linger is lingerd's")
    assert httpd.status()["LingerFallbacks"] == 0


@pytest.mark.parametrize("path", ["/cgi/big", BIG])
def test_no_descriptors_left(sandbox, mpm, path):
    """lingerd is full of deliveries: no more of them, and none of those that it has is ended."""
    httpd, lingerd = offload.site(sandbox, mpm, "--max-connections", "5", workers=8)
    with Reader(httpd, clients.request(BIG)) as first, \
            Reader(httpd, clients.request("/cgi/big"), "1.3") as second:
        wait_offloaded(lingerd, 2)
        with Reader(httpd, clients.request(path), "1.3") as third:
            assert body_of(third.read_all("bursts")) == WHOLE
        for _ in range(10):
            assert clients.fetch(httpd.port) == (200, content("hello.txt"))
        for reader in (first, second):
            assert body_of(reader.read_all()) == WHOLE
    wait_over(lingerd)
    counters = lingerd.counters()
    assert (counters["LingerOffloads"], counters["LingerDelivered"]) == (2, 2)


# ---- Directives ----

def test_offload_close(sandbox, mpm):
    """On a keep-alive site responses known to be larger close the connection, and travel."""
    httpd, lingerd = offload.site(sandbox, mpm, directives="LingerOffloadClose 1M\n")
    with Reader(httpd, clients.request(BIG, close=False)) as client:
        wait_offloaded(lingerd, 1)
        response = client.read_all()
        assert b"\r\nConnection: close\r\n" in response.partition(WHOLE[:50])[0]
        assert body_of(response) == WHOLE
    with clients.connect(httpd.port) as client:
        for method, path in (("GET", "/hello.txt"), ("HEAD", BIG), ("GET", "/hello.txt")):
            client.sendall(clients.request(path, close=False, method=method))
            head = client.recv(65536)
            assert b"Connection: close" not in head
            assert method == "HEAD" or head.endswith(content("hello.txt"))
    assert lingerd.counters()["LingerOffloads"] == 1


@pytest.mark.parametrize("asked,closes", [
    ("bytes=0-99", False), ("bytes=-100", False), ("bytes=0-99,200-299", False),
    ("bytes=99999999-", False), ("bytes=0-", True), ("bytes=100-2999999", True), ("bytes=x", True)])
def test_offload_close_and_ranges(sandbox, asked, closes):
    """What is sent counts: players and viewers of documents ask for one range after another. Would
    catch a connection that closes because the file is large."""
    httpd, _ = offload.site(sandbox, "prefork", directives="LingerOffloadClose 1M\n")
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request(BIG, f"Range: {asked}", close=False))
        assert (b"\r\nConnection: close\r\n" in client.recv(1000)) == closes


def test_offload_close_and_compression(sandbox):
    """mod_deflate makes a response whose length nobody knows."""
    httpd, _ = offload.site(sandbox, "prefork", modules=("deflate", "filter"),
                            directives="LingerOffloadClose 1M\n",
                            config="SetOutputFilter DEFLATE\n")
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request(BIG, "Accept-Encoding: gzip", close=False))
        head = client.recv(1000)
        assert b"\r\nContent-Encoding: gzip\r\n" in head and b"Connection: close" not in head


def test_offload_timeout(sandbox, mpm):
    """A client that takes nothing for that long: ended, and counted as such."""
    httpd, lingerd = offload.site(sandbox, mpm, directives="LingerOffloadTimeout 400ms\n")
    with Reader(httpd, clients.request(BIG)):
        wait_until(lambda: lingerd.counters()["LingerDeliveryTimedOut"] == 1,
                   lambda: f"it ends: {lingerd.counters()}")
    wait_over(lingerd)
    assert adds_up(lingerd.counters())


def test_min_rate(sandbox):
    """A floor of 1 GB a second ends what moves, but not that fast, after the first window."""
    httpd, lingerd = offload.site(sandbox, "prefork", "--min-rate", "1G")
    with Reader(httpd, clients.request(BIG)) as client:
        wait_offloaded(lingerd, 1)
        client.read(10_000)
        wait_until(lambda: lingerd.counters()["LingerDeliveryTimedOut"] == 1, "too slow")


@pytest.mark.parametrize("directives", ["LingerOffload Off", "LingerOffload On\nLinger Off"])
def test_off(sandbox, mpm, directives):
    """Would catch an offload that nobody asked for."""
    httpd, lingerd = offload.site(sandbox, mpm, directives=directives + "\n",
                                  status_off="Linger Off\n  LingerOffload Off")
    with Reader(httpd, clients.request(BIG)) as client:
        assert body_of(client.read_all("bursts")) == WHOLE
    wait_over(lingerd)
    assert lingerd.counters()["LingerOffloads"] == 0


def test_tunnels_are_left_alone(sandbox, mpm):
    """CONNECT and WebSocket, with more in them than the kernel holds."""
    with backend.backend() as port:
        httpd, lingerd = offload.site(
            sandbox, mpm, ports=("forward",), workers=8,
            modules=("proxy", "proxy_http", "proxy_connect", "proxy_wstunnel"), config=f"""
ProxyPass /ws ws://127.0.0.1:{port}/ws
Listen 127.0.0.1:@forward@
<VirtualHost 127.0.0.1:@forward@>
  ProxyRequests On
  AllowCONNECT {port}
</VirtualHost>
""")
        wanted = (b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                  b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        for through_connect in (False, True):
            with clients.connect(httpd.ports["forward"] if through_connect else httpd.port) as client:
                if through_connect:
                    client.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                    assert backend.read_head(client).startswith(b"HTTP/1.0 200")
                client.sendall(wanted)
                assert backend.read_head(client).startswith(b"HTTP/1.1 101")
                sender = threading.Thread(target=client.sendall, args=(WHOLE,), daemon=True)
                sender.start()
                echoed = bytearray()
                while len(echoed) < len(WHOLE):
                    chunk = client.recv(65536)
                    assert chunk, len(echoed)
                    echoed += chunk
                sender.join()
                assert bytes(echoed) == WHOLE
        wait_equal(lambda: httpd.status()["BusyWorkers"], "1", "busy workers")
    assert lingerd.counters()["LingerOffloads"] == 0


SIZES = ["0", "-1", "1.5M", "1T", "1KB", "lots", "1025G", "99999999999999999999"]


@pytest.mark.parametrize("directive", ["LingerOffloadMax", "LingerOffloadClose"])
@pytest.mark.parametrize("value", SIZES)
def test_bad_sizes(sandbox, directive, value):
    httpd = sandbox.httpd("event", socket_path=sandbox.directory / "nobody.sock", start=False)
    httpd.write_config(linger_directives=f'{directive} "{value}"')
    code, output = httpd.config_test()
    assert code == 1 and f"{directive}: '{value}'" in output and "1 to 1024G" in output, output


@pytest.mark.parametrize("line, wrong", [
    ("LingerOffload Perhaps", "'Perhaps'"), ("LingerOffloadFiles 1", "'1'"),
    ("LingerOffloadTimeout 0", "'0'"),
    ("LingerOffloadTimeout 2h", "'2h'"), ("LingerOffloadMax Off", "'Off'")])
def test_bad_values(sandbox, line, wrong):
    httpd = sandbox.httpd("event", socket_path=sandbox.directory / "nobody.sock", start=False)
    httpd.write_config(linger_directives=line)
    code, output = httpd.config_test()
    assert code == 1 and f"{line.split()[0]}: {wrong}" in output, output


@pytest.mark.parametrize("line", [
    "LingerOffload on", "LingerOffloadFiles off", "LingerOffloadFiles On", "LingerOffloadMax 1",
    "LingerOffloadMax 1024G", "LingerOffloadMax 64m",
    "LingerOffloadClose off", "LingerOffloadClose 300k", "LingerOffloadTimeout 90ms"])
def test_good_values(sandbox, line):
    httpd = sandbox.httpd("event", socket_path=sandbox.directory / "nobody.sock", start=False)
    httpd.write_config(linger_directives=line)
    code, output = httpd.config_test()
    assert code == 0, output


# ---- lingerd can't, or isn't there ----

def whole_from_the_worker(httpd, transport):
    with Reader(httpd, clients.request(BIG), transport) as client:
        assert body_of(client.read_all("bursts")) == WHOLE


@pytest.mark.parametrize("transport", ["plain", "1.3"])
def test_lingerd_is_down(sandbox, mpm, transport):
    httpd, lingerd = offload.site(sandbox, mpm)
    httpd.allowed_lines.append("lingerd is down|lingerd is back")
    lingerd.kill()
    for _ in range(3):
        whole_from_the_worker(httpd, transport)
    lingerd.start()
    wait_until(lambda: clients.fetch(httpd.port)[0] and lingerd.counters()["LingerTotal"], "back")
    for _ in range(8):  # each child finds out by itself
        clients.fetch(httpd.port)
    with Reader(httpd, clients.request(BIG), transport) as client:
        assert body_of(client.read_all("bursts")) == WHOLE


def late_script(httpd):
    """/cgi/late writes all of its response and ends only when told to: (it has written, let it end)."""
    script = httpd.directory / "cgi" / "late"
    written, gate = (httpd.directory / "run" / name for name in ("written", "gate"))
    script.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n"
                      f"cat {httpd.directory}/www/4m.bin\n"
                      f"touch {written}\n"
                      f"while [ ! -e {gate} ]; do sleep 0.02; done\n")
    script.chmod(0o755)
    return written, gate


@pytest.mark.parametrize("transport", ["plain", "1.3"])
def test_lingerd_dies_while_the_response_is_made(sandbox, mpm, transport):
    """The rest is there already when the hand-off fails. Would catch a response that is lost
    then, or that waits no longer than event's 2 seconds: the client reads on only after 3."""
    httpd, lingerd = offload.site(sandbox, mpm)
    httpd.allowed_lines.append("lingerd is down")
    written, gate = late_script(httpd)
    with Reader(httpd, clients.request("/cgi/late"), transport) as client:
        wait_until(written.exists, "httpd has it all, although nobody reads")
        lingerd.kill()
        gate.touch()
        wait_until(lambda: httpd.error_log.matching("lingerd is down"), "the worker gives up")
        threading.Event().wait(3)
        assert body_of(client.read_all()) == WHOLE


@pytest.mark.parametrize("transport", ["plain", "1.3"])
def test_lingerd_is_stopped_when_it_is_offered(sandbox, mpm, transport):
    """No answer: the worker sends the response, and lingerd, when it goes on, doesn't. Would catch two
    that send, and a worker that waits for lingerd for ever."""
    httpd, lingerd = offload.site(sandbox, mpm)
    httpd.allowed_lines.append("lingerd is busy|lingerd is back")
    written, gate = late_script(httpd)
    with Reader(httpd, clients.request("/cgi/late"), transport) as client:
        wait_until(written.exists, "httpd has it all, although nobody reads")
        lingerd.pause()
        gate.touch()
        wait_until(lambda: httpd.error_log.matching("lingerd is busy"), "the worker gives up")
        received = b"".join(client.read(50_000) for _ in range(10))
        lingerd.resume()
        assert body_of(received + client.read_all()) == WHOLE
    wait_over(lingerd)
    counters = lingerd.counters()
    assert counters["LingerOffloads"] == counters["LingerOffloadMemory"] == 0


class OlderLingerd:
    """Takes lingers only, and keeps what it gets."""

    def __init__(self, path):
        self.records = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen(100)
        self._peers = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            peer.send(struct.pack("=IHHQ", GREETING_MAGIC, 1, 0, 0))
            self._peers.append(peer)
            self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
            self._threads[-1].start()

    def _serve(self, peer):
        while True:
            try:
                record, fds, _, _ = socket.recv_fds(peer, 200, 4)
            except OSError:
                return
            if not record:
                return
            self.records.append((struct.unpack_from("=H", record, 8)[0], len(fds)))
            for fd in fds:
                socket.close(fd)

    def close(self):
        for one in (self._listener, *self._peers):
            one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)


def test_an_older_lingerd(sandbox, mpm):
    """Its greeting says nothing of deliveries: it gets none, and the responses are whole."""
    httpd, lingerd = offload.site(sandbox, mpm)
    lingerd.stop()
    old = OlderLingerd(lingerd.socket_path)
    httpd.allowed_lines.append("lingerd is down|lingerd is back")
    try:
        for transport in ("plain", "1.3") * 4:
            whole_from_the_worker(httpd, transport)
        wait_until(lambda: old.records, "it was handed lingering sockets")
        assert set(old.records) == {(1, 1)}, old.records
    finally:
        old.close()
        lingerd.socket_path.unlink()
        lingerd.start()
