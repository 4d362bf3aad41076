# SPDX-License-Identifier: Apache-2.0
"""Clients that mean no good, or behave as if: at full speed for ever, a byte at a time, out of band,
reset at every moment. Each ends by a deadline, in a count of its own, and costs nobody else."""
import contextlib
import socket
import threading
import time

import pytest

from harness import clients, logs, stats
from harness.bystander import Bystander
from harness.httpd import FATES, content
from harness.record import full_pair, tcp_pair, welcomed
from harness.sandbox import wait_halves_agree
from harness.waiting import wait_equal, wait_until

RESPONSE = b"".join(b"%08d" % number for number in range(40_000))


@pytest.fixture(name="lingerd", scope="module")
def lingerd_fixture(module_sandbox):
    return module_sandbox.lingerd("--max-time", "3600")


@pytest.fixture(name="bystander")
def bystander_fixture(lingerd):
    with Bystander(lingerd) as bystander:
        yield bystander
        bystander.wait_progress()
        bystander.hands_off()
        print(f"longest wait of a bystander's send: {bystander.longest_wait * 1000:.0f} ms")
    wait_equal(lingerd.queue, 0, "sockets in lingerd")
    assert stats.adds_up(lingerd.counters())


@contextlib.contextmanager
def repeatedly(action, pause):
    """`action()` again and again in a thread, until it fails or the block ends."""
    stop = threading.Event()

    def run():
        with contextlib.suppress(OSError):
            while not stop.wait(pause):
                action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def grown(lingerd, before, *names):
    counters = lingerd.counters()
    return [counters[name] - before[name] for name in names]


def test_full_speed_for_ever(lingerd, bystander):
    """Eight of them. Would catch a linger that data keeps alive for ever, and a loop that serves
    the loudest."""
    before = lingerd.counters()
    chunk = bytes(1 << 20)
    with contextlib.ExitStack() as stack, welcomed(lingerd) as child:
        senders = [stack.enter_context(child.lingering_client(idle_ms=60_000, cap_ms=1_500))
                   for _ in range(8)]
        for sender in senders:
            stack.enter_context(repeatedly(lambda one=sender: one.sendall(chunk), 0))
        bystander.wait_progress()
        wait_until(lambda: grown(lingerd, before, "LingerClosedCap") == [8], "all reach their cap")
        print(f"{grown(lingerd, before, 'LingerDrainedBytes')[0] >> 20} MB drained")
    assert grown(lingerd, before, "LingerClosedIdle", "LingerClosedByReset") == [0, 0]


def test_a_byte_at_a_time(lingerd, bystander):
    """Would catch a trickle that isn't a sign of life, and one that is one for ever."""
    before = lingerd.counters()
    with welcomed(lingerd) as child:
        client = child.lingering_client(idle_ms=1_500, cap_ms=4_000)
        with repeatedly(lambda: client.send(b"x"), 0.02):
            wait_until(lambda: grown(lingerd, before, "LingerClosedCap") == [1], "its cap")
        client.close()
    assert grown(lingerd, before, "LingerClosedIdle") == [0]


@pytest.mark.parametrize("pause", [0, 0.02])
def test_only_out_of_band(lingerd, bystander, pause):
    """Urgent bytes, which no event tells of until the next one comes. Would catch a loop that spins
    on what it doesn't read, and a client that never ends."""
    before = lingerd.counters()
    with welcomed(lingerd) as child:
        client = child.lingering_client(idle_ms=400, cap_ms=2_000)
        with repeatedly(lambda: client.send(b"!", socket.MSG_OOB), pause):
            wait_until(lambda: sum(grown(lingerd, before, "LingerClosedCap",
                                         "LingerClosedIdle")) == 1, "its end")
        client.close()


def test_one_byte_out_of_band_costs_no_response(lingerd, bystander):
    """An urgent byte is all that comes, the client reads on, and stays. Would catch a close over an
    unread urgent byte, which the kernel answers with RST."""
    before = lingerd.counters()
    with welcomed(lingerd) as child, socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        client.settimeout(60)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        server.setblocking(False)
        assert server.send(RESPONSE) == len(RESPONSE)
        child.hand_off(server, idle_ms=700, cap_ms=60_000)
        client.send(b"!", socket.MSG_OOB)
        with client:
            received = b"".join(iter(lambda: client.recv(4096), b""))
            assert received == RESPONSE
            wait_until(lambda: grown(lingerd, before, "LingerClosedIdle") == [1], "its end")
            assert client.recv(1) == b""  # FIN again, no RST


def test_nobody_reads(lingerd, bystander):
    """The client takes nothing, not even our FIN. Would catch a linger that waits for it."""
    before = lingerd.counters()
    with welcomed(lingerd) as child:
        client, server = full_pair()
        child.hand_off(server, idle_ms=400, cap_ms=60_000)
        wait_until(lambda: grown(lingerd, before, "LingerClosedIdle") == [1], "its end")
        client.close()


def test_multipath_tcp(lingerd, bystander):
    """Whose sockets are TCP's, but not of TCP's own kind. Would catch their refusal."""
    before = lingerd.counters()
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    except OSError as failure:
        pytest.skip(f"no MPTCP here: {failure}")
    with listener, welcomed(lingerd) as child:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for end in ("close", "reset", "reset on its way", "silence"):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as client:
                client.connect(listener.getsockname())
                server, _ = listener.accept()
                if end == "reset on its way":
                    lingerd.pause()
                child.hand_off(server, idle_ms=400)
                if end == "reset on its way":
                    clients.reset(client)
                    lingerd.resume()
                    continue
                client.sendall(b"late")
                wait_until(lambda: lingerd.queue() == 5 or end == "silence", "it lingers")
                if end == "reset":
                    clients.reset(client)
                elif end == "silence":
                    wait_until(lambda: grown(lingerd, before, "LingerClosedIdle") == [1], "end")
        wait_until(lambda: grown(lingerd, before, "LingerTotal") == [4], "all are taken")
        wait_equal(lingerd.queue, 4, "only the bystander's")
        assert grown(lingerd, before, "LingerRejected", "LingerDrainedBytes")[0] == 0


# ---- RST at every moment ----

@pytest.fixture(name="servers", scope="module", params=["prefork", "event"])
def servers_fixture(request, module_sandbox):
    return module_sandbox.site(request.param, workers=2)


@pytest.fixture(name="site")
def site_fixture(servers):
    servers[0].allowed_lines.append(logs.ALL_BUSY)  # ten in a row, and two workers
    return servers


def _whole_request(client):
    client.sendall(clients.request("/300k.bin"))


def _some_response(client):
    _whole_request(client)
    client.recv(1000)


def _whole_response(client):
    client.sendall(clients.request("/hello.txt"))
    clients.read_to_fin(client)


def _late_bytes(client):
    _whole_response(client)
    client.sendall(b"late" * 1000)


MOMENTS = {
    "half a request": lambda client: client.sendall(b"GET / HTTP/1.1\r\nHo"),
    "a whole request": _whole_request,
    "some of the response": _some_response,
    "all of the response": _whole_response,
    "bytes after it": _late_bytes,
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
@pytest.mark.parametrize("wait_ms", [0, 30])
def test_reset(site, moment, wait_ms):
    """Would catch a connection that is counted twice or never, one that is refused although it was
    a client's, a hand-off of a dead one that stays, and a child that dies."""
    httpd, lingerd = site
    pids = httpd.children()
    ended = httpd.ended()
    for _ in range(10):
        client = clients.connect(httpd.port, receive_buffer=4096)
        moment(client)
        time.sleep(wait_ms / 1000)
        clients.reset(client)
    wait_equal(lambda: httpd.ended() - ended, 10, "connections that ended")
    wait_halves_agree(httpd, lingerd)
    wait_equal(lingerd.queue, 0, "sockets in lingerd")
    counters = lingerd.counters()
    assert counters["LingerRejected"] == 0
    assert stats.adds_up(counters)
    assert httpd.children() == pids


def test_reset_on_its_way(site):
    """lingerd is stopped: the sockets are in neither process when their clients reset them, some
    with bytes unread. Would catch one that is refused as no connection, because it is none any
    more."""
    httpd, lingerd = site
    before = lingerd.counters()
    handed_off = httpd.status()["LingerHandoffs"]
    lingerd.pause()
    held = [clients.late_closer(httpd.port)[0] for _ in range(20)]
    wait_equal(lambda: httpd.status()["LingerHandoffs"] - handed_off, 20, "hand-offs")
    for number, client in enumerate(held):
        if number % 2:
            client.sendall(b"late")
        clients.reset(client)
    lingerd.resume()
    wait_equal(lambda: grown(lingerd, before, "LingerTotal"), [20], "sockets taken over")
    wait_equal(lambda: grown(lingerd, before, "LingerClosedByReset"), [20], "ends")
    assert grown(lingerd, before, "LingerRejected") == [0]


def test_the_server_is_as_before(site):
    """After all of it. Would catch a worker that was lost."""
    httpd, lingerd = site
    for _ in range(4):
        assert clients.fetch(httpd.port, "/300k.bin") == (200, content("300k.bin"))
    status = httpd.status()
    assert sum(status[fate] for fate in FATES) > 0
    assert status["LingerFallbacks"] == 0 and lingerd.counters()["LingerEvicted"] == 0
