# SPDX-License-Identifier: Apache-2.0
"""A program that can reach lingerd's socket sends what no httpd child sends. lingerd counts and logs it,
holds nothing of it, and goes on for everybody else: each test has a bystander, an honest child
whose clients keep sending, and whose bytes must keep being drained."""
import contextlib
import ctypes
import fcntl
import os
import pathlib
import pwd
import random
import re
import select
import socket
import struct
import threading

import pytest

from harness import places, stats
from harness.bystander import Bystander
from harness.record import (BEGIN, DELIVER, DENIED, FULL, IDLE, LINGER, LINGER_AN_HOUR, WAY_BACK, WELCOME,
                            Child, clinging_socket, full_pair, record, tcp_pair, welcomed)
from harness.users import as_user, needs_root
from harness.waiting import wait_equal, wait_until

REFUSED = r"lingerd: refused "
SANITIZED = b"__sanitizer" in places.LINGERD.read_bytes()
F_OFD_SETLK = 37
FOREVER = {"idle_ms": 3_600_000, "cap_ms": 3_600_000}


@pytest.fixture(name="lingerd", scope="module")
def lingerd_fixture(module_sandbox):
    return module_sandbox.lingerd("--max-time", "3600")


@pytest.fixture(name="bystander")
def bystander_fixture(lingerd):
    """Also looks that lingerd holds as many descriptors afterwards as before."""
    lingerd.allowed_lines.append(REFUSED)
    wait_equal(lingerd.queue, 0, "sockets of an earlier test")
    wait_equal(lambda: lingerd.counters()["LingerPeers"], 0, "and its peers")
    before = len(lingerd.fds())
    with Bystander(lingerd) as bystander:
        yield bystander
        bystander.wait_progress()
        bystander.hands_off()
        print(f"longest wait of a bystander's send: {bystander.longest_wait * 1000:.0f} ms")
    wait_equal(lambda: len(lingerd.fds()), before, "lingerd's descriptors")
    assert stats.adds_up(lingerd.counters())


def rejected(lingerd):
    return lingerd.counters()["LingerRejected"]


def was_closed(client):
    """lingerd has closed its copy, and nobody else has one: FIN or RST."""
    client.settimeout(30)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


# ---- Records ----

GOOD = record()
RECORDS = {
    "empty": b"",
    "one byte": b"R",
    "head only": GOOD[:8],
    "a byte short": GOOD[:-1],
    "a byte long": GOOD + b"\0",
    "twice as long": GOOD + GOOD,
    "60,000 bytes": GOOD + bytes(60_000 - len(GOOD)),
    "text": b"GET / HTTP/1.1\r\nHost: lingerd\r\n\r\n",
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "wrong magic": record(magic=0x4C4E4753),
    "version 0": record(version=0),
    "version 2": record(version=2),
    "version 65535": record(version=65535),
    "states another size": record(size=63),
    "kind 0": record(kind=0),
    "kind 2": record(kind=2),
    "no time": record(idle_ms=0),
    "no cap": record(cap_ms=0),
    "too long a time": record(idle_ms=3_600_001),
    "the longest time": record(cap_ms=0xFFFFFFFF),
}


@pytest.mark.parametrize("message", RECORDS.values(), ids=RECORDS.keys())
def test_records_that_are_none(lingerd, bystander, message):
    """Each with a good socket. Would catch a misread record, a socket that is kept, a peer's other
    hand-offs that suffer, and a refusal that nobody counts."""
    before = rejected(lingerd)
    with welcomed(lingerd) as child:
        client, server = tcp_pair()
        with client:
            child.send(message, [server])
            server.close()
            assert was_closed(client)
        wait_equal(lambda: rejected(lingerd), before + 1, "refusals")
        total = lingerd.counters()["LingerTotal"]
        child.lingering_client().close()
        wait_equal(lambda: lingerd.counters()["LingerTotal"], total + 1, "its next, honest hand-off")
    assert rejected(lingerd) == before + 1


def test_random_records(lingerd, bystander):
    """Bytes of all lengths, half of them a good record with one byte changed. Would catch whatever
    the list above has forgotten."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    numbers = random.Random(seed)
    before = lingerd.counters()
    with welcomed(lingerd) as child:
        for _ in range(2000):
            if numbers.random() < 0.5:
                message = numbers.randbytes(numbers.choice((0, 1, 12, 63, 64, 65, 200, 5000)))
            else:
                message = bytearray(GOOD)
                message[numbers.randrange(len(message))] = numbers.randrange(256)
            child.send(bytes(message))  # without a socket none of them is a hand-off
        wait_equal(lambda: rejected(lingerd), before["LingerRejected"] + 2000, "refusals")
    assert lingerd.counters()["LingerTotal"] == before["LingerTotal"]


# ---- Descriptors ----

_OFFER = {"kind": DELIVER, "stall_ms": 60_000, "length": 1}


@pytest.mark.parametrize("fields, count", [
    *[({"kind": LINGER}, count) for count in (0, 2, 3, 64, 253)],
    *[(_OFFER, count) for count in (0, 1, 3)],
    ({"kind": IDLE, "stall_ms": 60_000}, 0),
    *[({"kind": WAY_BACK}, count) for count in (0, 2, 3)],
    *[({"kind": BEGIN}, count) for count in (1, 2)],
])
def test_number_of_descriptors(lingerd, bystander, fields, count):
    """Would catch descriptors that pile up, and a record whose second socket lingers instead."""
    before = lingerd.counters()
    with contextlib.ExitStack() as stack, welcomed(lingerd) as child:
        pairs = [tcp_pair() for _ in range(min(count, 3))]
        clients = [stack.enter_context(client) for client, _ in pairs]
        servers = [server for _, server in pairs]
        for _ in range(20):
            child.send(record(**fields), [servers[i % len(servers)] for i in range(count)])
        for server in servers:
            server.close()
        wait_equal(lambda: rejected(lingerd), before["LingerRejected"] + 20, "refusals")
        assert all(was_closed(client) for client in clients)
    assert lingerd.counters()["LingerTotal"] == before["LingerTotal"]


def _listening():
    return socket.create_server(("127.0.0.1", 0))


def _connecting():
    """To a listener that has no room for it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    _KEPT.append(listener)
    while True:
        connecting = socket.socket()
        connecting.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connecting.connect(listener.getsockname())
        if not select.select([], [connecting], [], 0.1)[1]:
            return connecting
        _KEPT.append(connecting)


def _disconnected():
    """Was connected, and was then made a socket like any other."""
    client, server = tcp_pair()
    client.close()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(server.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16) == 0
    return server


def _unix_pair(kind):
    """One end, with the other kept alive by it."""
    ours, other = socket.socketpair(socket.AF_UNIX, kind)
    _KEPT.append(other)
    return ours


def _pipe(end):
    ends = os.pipe()
    _KEPT.append(os.fdopen(ends[1 - end], "rb" if end else "wb", buffering=0))
    return ends[end]


def _raw():
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)


_KEPT = []
KINDS = {
    "file": lambda: os.open(__file__, os.O_RDONLY),
    "directory": lambda: os.open("/", os.O_RDONLY | os.O_DIRECTORY),
    "O_PATH": lambda: os.open("/", os.O_PATH),
    "device": lambda: os.open("/dev/zero", os.O_RDWR),
    "proc": lambda: os.open("/proc/self/status", os.O_RDONLY),
    "pipe, reader": lambda: _pipe(0),
    "pipe, writer": lambda: _pipe(1),
    "eventfd": lambda: os.eventfd(1),
    "epoll": select.epoll,
    "memfd": lambda: os.memfd_create("x"),
    "pidfd": lambda: os.pidfd_open(os.getpid()),
    "terminal": lambda: os.openpty()[0],
    "TCP, new": socket.socket,
    "TCP over IPv6, new": lambda: socket.socket(socket.AF_INET6),
    "multipath TCP, new": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
    "TCP, listening": _listening,
    "TCP, connecting": _connecting,
    "TCP, disconnected": _disconnected,
    "UDP": lambda: socket.socket(type=socket.SOCK_DGRAM),
    "raw TCP": _raw,
    "netlink, protocol 6": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6),
    "Unix stream": lambda: _unix_pair(socket.SOCK_STREAM),
    "Unix datagram": lambda: _unix_pair(socket.SOCK_DGRAM),
    "Unix seqpacket": lambda: _unix_pair(socket.SOCK_SEQPACKET),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_kinds_of_descriptors(lingerd, bystander, make):
    """Would catch one that is taken for a client's connection, kept open, or watched."""
    before = lingerd.counters()
    try:
        thing = make()
    except (PermissionError, OSError) as failure:
        pytest.skip(f"can't be had here: {failure}")
    with welcomed(lingerd) as child:
        for _ in range(5):
            child.send(record(**FOREVER), [thing])
        wait_equal(lambda: rejected(lingerd), before["LingerRejected"] + 5, "refusals")
    if isinstance(thing, int):
        os.close(thing)
    else:
        thing.close()
    while _KEPT:
        _KEPT.pop().close()
    assert lingerd.counters()["LingerTotal"] == before["LingerTotal"]


def test_its_own_connection(lingerd, bystander):
    """A peer's end of the connection that it sends on, and of another: references that go in a
    circle. Would catch descriptors that only the kernel's collector ends."""
    before = rejected(lingerd)
    with welcomed(lingerd) as child, welcomed(lingerd) as other:
        for _ in range(20):
            child.send(record(), [child.socket])
            child.send(record(), [other.socket])
            other.send(record(), [child.socket])
        wait_equal(lambda: rejected(lingerd), before + 60, "refusals")


def _steal(pid, number):
    """A descriptor of another process."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    fd = libc.syscall(438, pidfd, number, 0)  # pidfd_getfd
    os.close(pidfd)
    return fd


def test_lingerds_own_descriptors(lingerd, bystander):
    """Its epoll instance, its listener, its log, the sockets that it drains: sent back to it. Would
    catch a close that takes the original along, or one socket that is drained as two."""
    if _steal(lingerd.pid, 0) < 0:
        pytest.skip("needs pidfd_getfd and the right to use it")
    held = sorted(lingerd.fds())
    before = lingerd.counters()
    with welcomed(lingerd) as child:
        stolen = [fd for fd in (_steal(lingerd.pid, number) for number in held) if fd >= 0]
        assert len(stolen) >= len(held) - 1
        for fd in stolen:
            child.send(record(**FOREVER), [fd])
            os.close(fd)

        def taken():
            counters = lingerd.counters()
            return (counters["LingerRejected"] - before["LingerRejected"]
                    + counters["LingerTotal"] - before["LingerTotal"])

        wait_equal(taken, len(stolen), "descriptors that came back")
        # Only the bystander's are TCP connections. Each lingers twice, and is drained all the same.
        assert lingerd.queue() == 2 * before["LingerQueue"]
        bystander.wait_progress()


# ---- Sockets with a sting ----


@pytest.mark.parametrize("when", ["before", "after"])
def test_so_linger(lingerd, bystander, when):
    """close() would wait for the client, which takes nothing: for an hour. Set before the hand-off,
    or later through a copy. Would catch a lingerd that stands still."""
    before = lingerd.counters()
    with welcomed(lingerd) as child:
        client, server = full_pair()
        if when == "before":
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_AN_HOUR)
        server.shutdown(socket.SHUT_WR)
        child.send(record(idle_ms=300, cap_ms=3_600_000), [server])
        wait_equal(lambda: lingerd.counters()["LingerTotal"], before["LingerTotal"] + 1, "hand-offs")
        if when == "after":
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_AN_HOUR)
        server.close()
        wait_equal(lambda: lingerd.counters()["LingerClosedIdle"], before["LingerClosedIdle"] + 1,
                   "ends")
        bystander.wait_progress()
        client.close()


def test_so_linger_on_what_is_refused(lingerd, bystander):
    """The same with a record that is none."""
    before = rejected(lingerd)
    with welcomed(lingerd) as child:
        client, server = clinging_socket()
        child.send(b"no record", [server])
        server.close()
        wait_equal(lambda: rejected(lingerd), before + 1, "refusals")
        bystander.wait_progress()
        client.close()


@pytest.mark.parametrize("habit", ["reads", "shuts down", "disconnects", "listens", "blocks it"])
def test_a_socket_that_somebody_else_has_too(lingerd, bystander, habit):
    """A process keeps its copy and uses it. Would catch a loop that spins on an event with nothing
    behind it, a linger that never ends, and a wait for the other one."""
    before = lingerd.counters()
    with welcomed(lingerd) as child:
        client, server = tcp_pair()
        client.settimeout(30)
        child.send(record(idle_ms=600, cap_ms=1500), [server])
        wait_equal(lambda: lingerd.counters()["LingerTotal"], before["LingerTotal"] + 1, "hand-offs")
        stop = threading.Event()

        def send():
            with contextlib.suppress(OSError):
                while not stop.wait(0.001):
                    client.send(bytes(5000))

        def use():
            with contextlib.suppress(OSError):
                if habit == "reads":
                    while server.recv(100):
                        pass
                elif habit == "shuts down":
                    server.shutdown(socket.SHUT_RD)
                elif habit == "blocks it":
                    server.recv(1 << 30, socket.MSG_WAITALL)
                else:
                    ctypes.CDLL(None).connect(server.fileno(),
                                              struct.pack("H14x", socket.AF_UNSPEC), 16)
                    if habit == "listens":
                        server.listen()

        threads = [threading.Thread(target=run, daemon=True) for run in (send, use)]
        for thread in threads:
            thread.start()
        bystander.wait_progress()
        wait_until(lambda: lingerd.queue() == before["LingerQueue"], "its end")
        stop.set()
        client.close()
        server.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    wait_until(lambda: stats.adds_up(lingerd.counters()), "the books balance")


def test_one_socket_many_times(lingerd, bystander):
    """The same connection, five hundred times: each is a linger of its own. Would catch an end that
    takes another's registration along, or one that is left watched."""
    before = lingerd.counters()
    with welcomed(lingerd) as child:
        client, server = tcp_pair()
        server.shutdown(socket.SHUT_WR)
        for _ in range(500):
            child.send(record(**FOREVER), [server])
        server.close()
        wait_equal(lambda: lingerd.queue() - before["LingerQueue"], 500, "lingers")
        for _ in range(20):
            client.sendall(bytes(1000))
        bystander.wait_progress()
        client.close()
        wait_equal(lingerd.queue, before["LingerQueue"], "sockets in lingerd")
    counters = lingerd.counters()
    ended = counters["LingerClosedByClient"] + counters["LingerClosedByReset"]
    assert ended == before["LingerClosedByClient"] + before["LingerClosedByReset"] + 500


def test_durations_of_a_peers_own(lingerd, bystander):
    """More different times than anybody has, all of them short. Would catch another's socket that
    has to go by one of them."""
    before = lingerd.counters()
    with welcomed(lingerd) as hostile, welcomed(lingerd) as honest:
        def make_up():
            return [hostile.lingering_client(idle_ms=600 + number, cap_ms=1200 + number)
                    for number in range(100)]

        made_up = make_up()
        wait_equal(lambda: lingerd.counters()["LingerTotal"] - before["LingerTotal"], 100, "lingers")
        client = honest.lingering_client(idle_ms=7_777, cap_ms=33_333)
        made_up += make_up()
        wait_equal(lambda: lingerd.counters()["LingerClosedIdle"], before["LingerClosedIdle"] + 200,
                   "all but the honest one have ended")
        assert lingerd.queue() == before["LingerQueue"] + 1
        client.sendall(b"still there")
        client.close()
        wait_equal(lambda: lingerd.counters()["LingerClosedByClient"],
                   before["LingerClosedByClient"] + 1, "its own end")
        for one in made_up:
            one.close()


# ---- Floods ----

def memory(pid):
    """Bytes, without what is mapped from files."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE)[1]) * 1024


def _send_junk(path, stop, junk, sent):
    """Until `stop`; a full queue doesn't wait."""
    with Child(path) as child:
        assert child.greeting() == WELCOME
        while not stop.is_set():
            try:
                child.socket.sendmsg([junk], [], socket.MSG_DONTWAIT)
                sent[0] += 1
            except BlockingIOError:
                stop.wait(0.0005)


def test_a_flood_of_junk(lingerd, bystander):
    """Two peers at full speed. Would catch a lingerd that serves only them, grows, or writes a line
    for each."""
    grown, mark = memory(lingerd.pid), lingerd.log.mark()
    before = rejected(lingerd)
    stop, sent = threading.Event(), [0]
    floods = [threading.Thread(target=_send_junk, daemon=True,
                               args=(lingerd.socket_path, stop, junk, sent))
              for junk in (b"junk", GOOD)]
    for flood in floods:
        flood.start()
    for _ in range(5):
        bystander.wait_progress()
        bystander.hands_off()
    stop.set()
    for flood in floods:
        flood.join()
    wait_equal(lambda: rejected(lingerd) - before, sent[0], "refusals")
    print(f"{sent[0]} refused")
    assert sent[0] > 1000
    lines = lingerd.log.matching(REFUSED, mark)
    assert len(lines) <= 2 * 3, lines  # of two kinds, one in ten seconds
    assert SANITIZED or memory(lingerd.pid) - grown < 1 << 20


def test_ten_thousand_connections(lingerd, bystander):
    """Would catch a lingerd that takes them all and has no descriptor left for sockets, one that
    grows, and a refusal without a word."""
    grown, mark = memory(lingerd.pid), lingerd.log.mark()
    before = lingerd.counters()
    held = len(lingerd.fds())
    verdicts = []
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(Child(lingerd.socket_path)) for _ in range(10_000)]
        bystander.wait_progress()
        bystander.hands_off()
        for child in crowd:
            verdicts.append(child.greeting())
        welcome = verdicts.count(WELCOME)
        assert welcome + verdicts.count(FULL) == 10_000
        assert 100 < welcome < 10_000
        assert len(lingerd.fds()) <= held + welcome + 5
        # A peer that is in stays in, and never sends nor reads; one that isn't is told, counted and logged.
        wait_equal(lambda: rejected(lingerd) - before["LingerRejected"], 10_000 - welcome, "refusals")
        assert 1 <= len(lingerd.log.matching(REFUSED + "a connection", mark)) <= 3
        assert SANITIZED or memory(lingerd.pid) - grown < 4 << 20
        bystander.wait_progress()
    wait_until(lambda: len(lingerd.fds()) == held, "the crowd is gone")
    with welcomed(lingerd):
        pass


def test_they_come_and_go(lingerd, bystander):
    """Peers that connect and close at once, with and without a hand-off, and some that half-close.
    Would catch a peer that is kept, and an end that is taken for an empty record."""
    before = lingerd.counters()
    mark = lingerd.log.mark()
    clients = []
    for number in range(600):
        with Child(lingerd.socket_path) as child:
            if number % 3 == 0:
                continue
            assert child.greeting() == WELCOME
            clients += [child.lingering_client() for _ in range(2)]
            if number % 3 == 1:
                child.socket.shutdown(socket.SHUT_WR)
                clients[-1].close()
    wait_equal(lambda: lingerd.counters()["LingerTotal"] - before["LingerTotal"], 800, "hand-offs")
    for client in clients:
        client.close()
    assert rejected(lingerd) == before["LingerRejected"], lingerd.log.since(mark)


# ---- Which users may ----

@needs_root
def test_allow_user(sandbox):
    """By name and by number, whatever the socket's mode says. Would catch a list of which only the
    first or the last counts, and root let in because it is root."""
    lingerd = sandbox.lingerd("--allow-user", "nobody", "--allow-user", "4711")
    lingerd.allowed_lines.append(REFUSED + "a connection")
    nobody = pwd.getpwnam("nobody").pw_uid
    for uid, verdict in ((nobody, WELCOME), (4711, WELCOME), (4712, DENIED), (0, DENIED)):
        with as_user(uid):
            child = Child(lingerd.socket_path)
        with child:
            assert child.greeting() == verdict
            if verdict == DENIED:
                assert child.socket.recv(1) == b""  # and that was all
                with pytest.raises(OSError):
                    child.send(record())
            else:
                child.lingering_client().close()
    wait_equal(lambda: lingerd.counters()["LingerTotal"], 2, "hand-offs")
    wait_equal(lambda: rejected(lingerd), 2, "refusals")


@needs_root
def test_readers_of_the_stats_page_only_read(lingerd):
    """Would catch a page that another user can change, replace, or lock lingerd out of."""
    path = lingerd.stats_path
    with as_user(pwd.getpwnam("nobody").pw_uid):
        for attempt in (lambda: os.open(path, os.O_RDWR), lambda: os.truncate(path, 0),
                        lambda: os.unlink(path), lambda: os.chmod(path, 0o666),
                        lambda: os.rename(path, f"{path}.old"),
                        lambda: os.open(f"{path}.new", os.O_CREAT | os.O_WRONLY)):
            with pytest.raises(PermissionError):
                attempt()
        with open(path, "rb") as page:
            with pytest.raises(OSError):
                os.open(f"/proc/self/fd/{page.fileno()}", os.O_RDWR)
            for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK):
                with pytest.raises(OSError):
                    fcntl.fcntl(page, F_OFD_SETLK, struct.pack("hh4xqqi4x", kind, 0, 0, 0, 0))
            assert page.read(8) == struct.pack("=Q", 0x53545253444E474C)
    assert lingerd.counters()["pid"] == lingerd.pid


def test_allow_user_changed_while_running(sandbox):
    """Would catch a peer that goes on handing off after a SIGHUP has taken its user off the list."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("allow-user = root\n")
    lingerd = sandbox.lingerd("--config", str(config))
    lingerd.allowed_lines += ["configuration read again"]
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        config.write_text("allow-user = nobody\n")
        lingerd.hang_up()
        assert child.socket.recv(1) == b"", "parted with"
        wait_until(lambda: lingerd.queue() == 1, "what it had handed off lingers on")
        client.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 1, "to its end")
