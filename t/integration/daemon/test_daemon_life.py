# SPDX-License-Identifier: Apache-2.0
"""lingerd while it runs and when it ends, with a peer that speaks the record itself: no httpd."""
import contextlib
import os
import socket
import subprocess

import pytest

from harness import clients, places, stats
from harness.lingerd import environment
from harness.record import WELCOME, Child, record, tcp_pair
from harness.waiting import wait_equal, wait_until


def closed_by_lingerd(client):
    """A byte to a socket that nobody holds any more is answered with RST."""
    try:
        client.send(b"x")
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True


@pytest.fixture
def served(sandbox):
    """(lingerd, a peer of it)"""
    lingerd = sandbox.lingerd("--max-time", "3600")
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        yield lingerd, child


def test_ways_to_end(served):
    """One of each. Would catch an end that is counted as another, or twice."""
    lingerd, child = served
    silent = child.lingering_client(idle_ms=200)
    capped = child.lingering_client(cap_ms=200)
    wait_equal(lambda: lingerd.counters()["LingerClosedIdle"], 1, "silent ones")
    wait_equal(lambda: lingerd.counters()["LingerClosedCap"], 1, "capped ones")
    child.lingering_client().close()
    clients.reset(child.lingering_client())
    wait_equal(lambda: stats.ends(lingerd.counters()), 4, "ends")
    counters = lingerd.counters()
    assert stats.adds_up(counters)
    assert counters["LingerClosedByClient"] == counters["LingerClosedByReset"] == 1
    for client in (silent, capped):
        assert client.recv(10) == b""  # a FIN, no RST: nothing was unread
        client.close()


def test_started_without_standard_descriptors(sandbox):
    """By a program that has closed them. Would catch log lines that go to what was opened next."""
    lingerd = sandbox.lingerd(start=False)
    process = subprocess.Popen([str(places.LINGERD), *lingerd.arguments], env=environment(),
                               preexec_fn=lambda: os.closerange(0, 3))
    try:
        wait_until(lingerd.socket_path.is_socket, "it listens")
        for number in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{number}") == os.devnull
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_drains_everything(served):
    """50 MB after the end. Would catch a drain that stops, leaves bytes unread at the close (RST),
    or counts wrongly."""
    lingerd, child = served
    client = child.lingering_client(idle_ms=5000)
    chunk = b"d" * 1_000_000
    for _ in range(50):
        client.sendall(chunk)
    client.shutdown(socket.SHUT_WR)
    assert client.recv(10) == b""
    wait_equal(lambda: lingerd.counters()["LingerClosedByClient"], 1, "ends by the client")
    counters = lingerd.counters()
    assert counters["LingerDrainedBytes"] == 50_000_000
    assert counters["LingerRescued"] == 1
    client.close()


def test_max_time_is_a_ceiling(sandbox):
    """Would catch a peer that can make lingerd wait for as long as it likes."""
    lingerd = sandbox.lingerd("--max-time", "1")
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        client = child.lingering_client(idle_ms=3_600_000, cap_ms=3_600_000)
        with clients.Tricklers([client]):
            wait_until(lambda: lingerd.counters()["LingerClosedCap"] == 1, "the cap")
        client.close()


def test_so_linger_is_cleared(served):
    """A module may have set SO_LINGER: close() would block until the client has taken everything.
    Would catch a lingerd that stands still for all because of one."""
    lingerd, child = served
    client, server = tcp_pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little")
                      + (3600).to_bytes(4, "little"))
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while server.send(b"r" * 65536):
            pass
    child.hand_off(server, idle_ms=200)
    wait_equal(lambda: lingerd.counters()["LingerClosedIdle"], 1, "silent ones")
    other = child.lingering_client()
    other.close()
    wait_equal(lambda: lingerd.counters()["LingerClosedByClient"], 1, "ends by the client")
    client.close()


GARBAGE = [
    ("empty", b""), ("one byte", b"x"), ("text", b"GET / HTTP/1.1\r\n\r\n"),
    ("zeros", b"\0" * 64), ("wrong magic", record(magic=0x12345678)),
    ("version 0", record(version=0)), ("future version", record(version=9)),
    ("wrong size", record(size=32)), ("short", record()[:40]), ("long", record() + b"\0" * 64),
    ("huge", record() * 1000), ("unknown kind", record(kind=77)),
    ("no idle time", record(idle_ms=0)), ("no cap", record(cap_ms=0)),
    ("too long", record(idle_ms=3_600_001)), ("far too long", record(cap_ms=0xFFFFFFFF)),
]


@pytest.mark.parametrize("message", [g[1] for g in GARBAGE], ids=[g[0] for g in GARBAGE])
@pytest.mark.parametrize("with_socket", [True, False], ids=["with-socket", "without"])
def test_garbage(served, message, with_socket):
    """Whatever a peer sends: closed and counted, and the next one is served. Would catch a crash, a
    descriptor that stays open, and a record that is taken without being one."""
    lingerd, child = served
    lingerd.allowed_lines.append("refused ")
    held = len(lingerd.fds())
    client, server = tcp_pair()
    child.send(message, [server] if with_socket else [])
    server.close()
    wait_equal(lambda: lingerd.counters()["LingerRejected"], 1, "rejected")
    wait_equal(lambda: len(lingerd.fds()), held, "lingerd's descriptors")
    if with_socket:
        assert client.recv(10) == b""
    client.close()
    with Child(lingerd.socket_path) as another:
        assert another.greeting() == WELCOME
        another.lingering_client().close()
        wait_equal(lambda: lingerd.counters()["LingerClosedByClient"], 1, "ends by the client")


def descriptor(kind):
    """(what to send, what to close afterwards)"""
    if kind == "file":
        file = open("/etc/passwd", "rb")
        return file, [file]
    if kind == "pipe":
        ends = [os.fdopen(fd, "rb" if i == 0 else "wb") for i, fd in enumerate(os.pipe())]
        return ends[0], ends
    if kind == "udp":
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return udp, [udp]
    if kind == "unix":
        pair = socket.socketpair()
        return pair[0], list(pair)
    if kind == "listener":
        listener = socket.create_server(("127.0.0.1", 0))
        return listener, [listener]
    fresh = socket.socket()
    return fresh, [fresh]


@pytest.mark.parametrize("kind", ["file", "pipe", "udp", "unix", "listener", "unconnected"])
def test_not_a_connected_socket(served, kind):
    """Would catch a lingerd that waits on, reads from or shuts down what isn't its business."""
    lingerd, child = served
    lingerd.allowed_lines.append("refused ")
    held = len(lingerd.fds())
    thing, to_close = descriptor(kind)
    child.send(record(), [thing])
    wait_equal(lambda: lingerd.counters()["LingerRejected"], 1, "rejected")
    wait_equal(lambda: len(lingerd.fds()), held, "lingerd's descriptors")
    counters = lingerd.counters()
    assert counters["LingerTotal"] == counters["LingerQueue"] == 0
    for each in to_close:
        each.close()


def test_more_than_one_descriptor(served):
    """Would catch extra descriptors that pile up in lingerd."""
    lingerd, child = served
    lingerd.allowed_lines.append("refused ")
    held = len(lingerd.fds())
    pairs = [tcp_pair() for _ in range(5)]
    child.send(record(), [server for _, server in pairs])
    for _, server in pairs:
        server.close()
    wait_equal(lambda: lingerd.counters()["LingerRejected"], 1, "rejected")
    wait_equal(lambda: len(lingerd.fds()), held, "lingerd's descriptors")
    for client, _ in pairs:
        assert client.recv(10) == b""
        client.close()


@pytest.mark.parametrize("order", ["before", "after"])
def test_peer_that_dies(served, order):
    """A child may die right after its hand-off. Would catch sockets that are lost with it, whether
    lingerd has read them yet or not."""
    lingerd, _ = served
    with contextlib.ExitStack() as stack:
        if order == "before":
            lingerd.pause()
        child = Child(lingerd.socket_path)
        if order == "after":
            assert child.greeting() == WELCOME
        for _ in range(20):
            stack.enter_context(child.lingering_client())
        child.socket.close()
        if order == "before":
            lingerd.resume()
        wait_equal(lingerd.queue, 20, "sockets in lingerd")
    wait_equal(lingerd.queue, 0, "sockets in lingerd")
    assert lingerd.counters()["LingerRejected"] == 0


def test_many_peers_come_and_go(served):
    """Would catch a connection of a dead child that lingerd keeps."""
    lingerd, _ = served
    held = len(lingerd.fds())
    for _ in range(300):
        with Child(lingerd.socket_path) as child:
            assert child.greeting() == WELCOME
    wait_equal(lambda: len(lingerd.fds()), held, "lingerd's descriptors")


def test_handed_off_time_of_a_liar(served):
    """The record's time is the peer's word. Would catch an age from the future or from the dawn of
    time in LingerOldestMillis or LingerWorkerMillisFreed."""
    lingerd, child = served
    for stamp in (0, 1, 2**63, 2**64 - 1):
        client = child.lingering_client(handed_off_ns=stamp)
        client.close()
    # Those that say they are ancient are over LingerTime: that or their client's FIN ends them,
    # whichever lingerd sees first.
    wait_equal(lambda: stats.ends(lingerd.counters()), 4, "ends")
    assert lingerd.counters()["LingerWorkerMillisFreed"] <= 4 * 3_600_000


def test_sigterm_lets_lingers_finish(served):
    """Would catch a stop that cuts its clients off, one that still takes sockets, and one that
    doesn't end when the last client has gone."""
    lingerd, child = served
    staying = child.lingering_client(idle_ms=3_600_000, cap_ms=3_600_000)
    silent = child.lingering_client(idle_ms=1_500)
    wait_equal(lingerd.queue, 2, "sockets in lingerd")
    lingerd.terminate()
    wait_until(lambda: not lingerd.socket_path.exists(), "the socket is gone")
    with pytest.raises(OSError):
        Child(lingerd.socket_path)
    with pytest.raises(OSError):
        for _ in range(2000):
            child.send(record(), [])
    wait_equal(lambda: lingerd.counters()["LingerClosedIdle"], 1, "silent ones")
    staying.sendall(b"late")
    assert not closed_by_lingerd(staying)
    assert lingerd.running()
    staying.close()
    silent.close()
    assert lingerd.wait() == 0
    assert not lingerd.stats_path.exists()


def test_sigterm_with_sockets_on_their_way(served):
    """What was sent before the stop is taken. Would catch sockets that are lost in the queue."""
    lingerd, child = served
    lingerd.pause()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(child.lingering_client()) for _ in range(100)]
        lingerd.terminate()
        lingerd.resume()
        wait_equal(lingerd.queue, 100, "sockets in lingerd")
        for client in held:
            assert not closed_by_lingerd(client)
    assert lingerd.wait() == 0


def test_sigterm_waits_for_max_time_at_most(sandbox):
    """Would catch a stop that a trickling client holds up for ever."""
    lingerd = sandbox.lingerd("--max-time", "1")
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        client = child.lingering_client(cap_ms=3_600_000)
        wait_equal(lingerd.queue, 1, "sockets in lingerd")
        with clients.Tricklers([client]):
            lingerd.terminate()
            assert lingerd.wait() == 0
        client.close()


def test_second_sigterm(served):
    """Would catch an admin who can't stop it but with SIGKILL."""
    lingerd, child = served
    client = child.lingering_client(idle_ms=3_600_000, cap_ms=3_600_000)
    wait_equal(lingerd.queue, 1, "sockets in lingerd")
    lingerd.terminate()
    wait_until(lambda: not lingerd.socket_path.exists(), "it is stopping")
    lingerd.terminate()
    assert lingerd.wait() == 0
    client.close()


def test_sighup(sandbox):
    """What can change does, what can't is named, what is wrong changes nothing. Would catch a
    reload that drops lingering clients, or half of a bad file."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("max-connections = 10\nmax-time = 60\n")
    lingerd = sandbox.lingerd("--config", str(config))
    lingerd.allowed_lines += ["configuration ", "takes effect after a stop and a start"]
    with Child(lingerd.socket_path) as child, contextlib.ExitStack() as stack:
        assert child.greeting() == WELCOME
        for _ in range(5):
            stack.enter_context(child.lingering_client(idle_ms=60_000, cap_ms=60_000))
        wait_equal(lingerd.queue, 5, "sockets in lingerd")

        config.write_text("max-connections = 30\nmax-time = 60\npidfile = /tmp/x.pid\n")
        lingerd.hang_up()
        wait_equal(lambda: lingerd.counters()["LingerQueueLimit"], 30, "the limit")
        wait_until(lambda: lingerd.log.matching("pidfile.* takes effect after a stop and a start"),
                   lambda: lingerd.log.tail())

        config.write_text("max-connections = 40\nmax-time = never\n")
        lingerd.hang_up()
        wait_until(lambda: lingerd.log.matching(r"left as it was.*max-time.*never"),
                   lambda: lingerd.log.tail())
        assert lingerd.counters()["LingerQueueLimit"] == 30

        config.write_text("max-connections = 3\nmax-time = 60\n")
        lingerd.hang_up()
        wait_equal(lingerd.queue, 3, "sockets in lingerd")
        assert lingerd.counters()["LingerEvicted"] == 2
        assert stats.adds_up(lingerd.counters())


def test_descriptor_table_is_full(sandbox):
    """RLIMIT_NOFILE leaves room for the limit and a reserve. Would catch a hand-off whose
    descriptor the kernel drops (MSG_CTRUNC) below --max-connections."""
    import resource
    soft_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, soft_hard[1]))
    try:
        lingerd = sandbox.lingerd("--max-time", "3600")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, soft_hard)
    limit = lingerd.counters()["LingerQueueLimit"]
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(lingerd.socket_path)) for _ in range(4)]
        for child in children:
            assert child.greeting() == WELCOME
        count = min(limit, 500) + 60
        for i in range(count):
            stack.enter_context(children[i % 4].lingering_client())
        wait_equal(lambda: lingerd.counters()["LingerTotal"], count, "sockets taken over")
        assert lingerd.counters()["LingerRejected"] == 0
    wait_equal(lingerd.queue, 0, "sockets in lingerd")
