# SPDX-License-Identifier: Apache-2.0
"""Restart and upgrade: every lingering socket, its deadlines, the counters and httpd's connections
go from one lingerd to the next."""
import array
import contextlib
import os
import shutil
import signal
import socket
import struct

import pytest

from harness import clients, deliveries, inject, places, proc, stand_in
from harness.httpd import content
from harness.record import WELCOME, Child
from harness.service import Service
from harness.stand_in import StandIn
from harness.stats import adds_up
from harness.waiting import wait_equal, wait_until

SO_PEEK_OFF = 42  # <asm-generic/socket.h>
TAKING_OVER = ["handing over", "took over", "listens at"]
MANY = int(os.environ.get("HANDOVER_SOCKETS", "5000"))


def _fill(child, count, **fields):
    """`count` clients whose sockets linger."""
    return [child.lingering_client(**fields) for _ in range(count)]


def _send_from_half(lingering):
    for client in lingering[::2]:
        client.sendall(b"x" * 1000)


@pytest.fixture(name="lingerd")
def lingerd_fixture(sandbox):
    return sandbox.lingerd()


def test_the_next_lingerd_goes_on_in_the_same_process(sandbox):
    """Would catch a lost socket, a lost deadline, an RST, a connection of httpd's that broke."""
    lingerd = sandbox.lingerd("--max-connections", str(MANY + 100))
    lingerd.allowed_lines += ["handing over", "took over", "listens at"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = _fill(child, MANY, idle_ms=600_000, cap_ms=600_000)
        _send_from_half(lingering)
        wait_until(lambda: lingerd.counters()["LingerDrainedBytes"] >= 1000 * len(lingering[::2])
                   and lingerd.queue() == MANY,
                   lambda: f"taken, and drained before it: {lingerd.counters()}")
        before = lingerd.counters()

        for _ in range(3):  # and the one after that
            started = lingerd.log.text().count("took over")
            os.kill(lingerd.pid, signal.SIGUSR2)
            wait_until(lambda seen=started: lingerd.log.text().count("took over") > seen,
                       lambda: "the successor reports\n" + lingerd.log.tail())
        wait_until(lambda: lingerd.queue() == MANY, lambda: f"all are back: {lingerd.counters()}")
        after = lingerd.counters()
        for key in ("LingerTotal", "LingerRescued", "LingerDrainedBytes", "started_ns"):
            assert after[key] == before[key], key

        # The connection that httpd's child holds goes on, without a second greeting.
        late = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == MANY + 1, "the old connection hands off")
        child.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            child.socket.recv(100)
        late.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 1, "and its socket ends")

        for client in lingering:
            client.sendall(b"still taken")
            assert client.recv(1) == b"", "our FIN, and no RST"
            client.close()
        wait_until(lambda: lingerd.queue() == 0, lambda: f"they end: {lingerd.counters()}")
        page = lingerd.counters()
        assert page["LingerClosedByClient"] == page["LingerTotal"] == MANY + 1
        assert page["LingerDrainedBytes"] == after["LingerDrainedBytes"] + 11 * MANY
        assert adds_up(page)


def test_deadlines_go_on(lingerd):
    """Would catch a successor that gives every socket its time again."""
    lingerd.allowed_lines += ["handing over", "took over", "listens at"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = [child.lingering_client(idle_ms=1500, cap_ms=600_000) for _ in range(20)]
        lingering += [child.lingering_client(idle_ms=600_000, cap_ms=1500) for _ in range(20)]
        stays = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 41, "all are there")
        # Handed over again and again: if each gave them their time again, they would never end.
        while lingerd.queue() > 1:
            seen = lingerd.log.text().count("took over")
            os.kill(lingerd.pid, signal.SIGUSR2)
            wait_until(lambda n=seen: lingerd.log.text().count("took over") > n, "taken over")
        page = lingerd.counters()
        assert (page["LingerClosedIdle"], page["LingerClosedCap"]) == (20, 20)
        for client in [*lingering, stays]:
            client.close()


@pytest.fixture(name="service")
def service_fixture(sandbox):
    service = Service(sandbox)
    yield service
    if service.process and service.process.poll() is None:  # the test has failed
        service.process.kill()
        service.process.wait(30)


def test_systemds_descriptor_store_carries_everything(service):
    """The same through systemd's store, with a stand-in for systemd: would catch descriptors that
    aren't stored, aren't taken out, or stay in the store for the restart after the next."""
    service.start(with_store=False)
    child = Child(service.path)
    child.greeting()
    lingering = _fill(child, MANY, idle_ms=600_000, cap_ms=600_000)
    readers = [deliveries.deliver(child, deliveries.memfd()) for _ in range(8)]
    wait_until(lambda: service.page()["LingerQueue"] == MANY + 8, "all are there")
    _send_from_half(lingering)
    service.restart_begins()

    # While nobody is there, hand-offs wait in the connection. (With a timeout Python asks poll
    # first, which takes a quarter of the queue for full.)
    child.socket.settimeout(None)
    lingering += _fill(child, 100, idle_ms=600_000, cap_ms=600_000)
    _send_from_half(lingering)
    service.restart_ends()
    wait_until(lambda: service.page().get("LingerQueue") == MANY + 108,
               lambda: f"all are back, and the new ones: {service.page()}")
    sent = 1000 * (len(range(0, MANY, 2)) + len(range(0, MANY + 100, 2)))
    wait_until(lambda: service.page()["LingerDrainedBytes"] == sent, "what was sent meanwhile")
    for client in lingering:
        assert client.recv(1) == b"", "no RST"
        client.close()
    for client in readers:
        assert clients.read_to_fin(client) == deliveries.BODY
        client.close()
    wait_until(lambda: service.page()["LingerClosedByClient"] == MANY + 108, "all have ended")
    assert service.page()["LingerDelivered"] == 8
    assert adds_up(service.page())
    child.socket.close()
    service.stop()


def test_hand_offs_beside_the_signal(service):
    """lingerd learns of both in one go. Would catch an old process that still takes what it has
    promised to the new one, and closes it with itself."""
    service.start(with_store=False)
    with Child(service.path) as child:
        child.greeting()
        lingering = _fill(child, 10, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: service.page()["LingerQueue"] == 10, "all are there")
        os.kill(service.process.pid, signal.SIGSTOP)
        wait_until(lambda: proc.state(service.process.pid) == "T", "it is stopped")
        os.kill(service.process.pid, signal.SIGUSR2)
        lingering += _fill(child, 50, idle_ms=600_000, cap_ms=600_000)
        os.kill(service.process.pid, signal.SIGCONT)
        service.restart_begins()
        service.restart_ends()
        wait_until(lambda: service.page().get("LingerQueue") == 60,
                   lambda: f"all are there: {service.page()}")
        for client in lingering:
            client.sendall(b"still taken")
            assert client.recv(1) == b"", "no RST"
            client.close()
        wait_until(lambda: service.page()["LingerClosedByClient"] == 60, "all have ended")
    service.stop()


@contextlib.contextmanager
def _state_in(parcel):
    """The memfd with the state of a parcel, which keeps it."""
    with socket.socket(fileno=os.dup(parcel)) as line:
        line.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
        for kind in (b"L", b"S"):
            data, ancillary, _, _ = line.recvmsg(1, socket.CMSG_SPACE(8), socket.MSG_PEEK)
            (_, _, payload), = ancillary
            fd, = array.array("i", payload)
            assert data == kind
            if kind == b"S":
                yield fd
            os.close(fd)


@pytest.mark.parametrize("at,says", [(8, "another version"), (12, "another version"),
                                     (0, "an unknown kind")],
                         ids=["version", "size of a socket's state", "magic"])
def test_a_state_of_another_version(service, sandbox, at, says):
    """Left by an older or newer lingerd. Would catch deadlines and counters that are misread, clients
    that are dropped because of it (their time begins again), and a way back that is taken for a peer."""
    service.start(with_store=False)
    with Child(service.path) as child, StandIn(sandbox.directory, rate=100) as httpd:
        child.greeting()
        lingering = _fill(child, 49, idle_ms=600_000, cap_ms=600_000)
        lingering += stand_in.park(child, httpd.way, 1)
        wait_until(lambda: service.page()["LingerQueue"] == 49 and service.page()["LingerParked"] == 1,
                   "all are there")
        service.restart_begins()
        with _state_in(service.systemd.stored["out"]) as state:
            number, = struct.unpack("=I", os.pread(state, 4, at))
            os.pwrite(state, struct.pack("=I", number + 1), at)
        service.restart_ends()
        wait_until(lambda: "took over 50 sockets" in service.log.read_text(), "they linger")
        assert f"have a state of {says}" in service.log.read_text()
        late = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        for client in [*lingering, late]:
            client.sendall(b"still taken")
            assert client.recv(1) == b"", "no RST"
            client.close()
        wait_until(lambda: service.page()["LingerTotal"] == 51 and not service.page()["LingerQueue"],
                   lambda: f"all have ended: {service.page()}")
        page = service.page()
        # On a machine that stands still for 5 s some may be taken for silent; over their time, none.
        assert page["LingerClosedCap"] == page["LingerClosedByReset"] == page["LingerEvicted"] == 0
        assert "refused" not in service.log.read_text()
        assert adds_up(page)
    service.stop()


def _messages(line):
    """All that lie in it, taken out: (bytes, descriptors)."""
    with socket.socket(fileno=os.dup(line)) as taker, contextlib.suppress(BlockingIOError):
        while True:
            data, ancillary, _, _ = taker.recvmsg(64, socket.CMSG_SPACE(253 * 4), socket.MSG_DONTWAIT)
            fds = array.array("i")
            for _, _, payload in ancillary:
                fds.frombytes(payload)
            yield data, fds


def _put_back(line, messages):
    with socket.socket(fileno=os.dup(line)) as sender:
        for data, fds in messages:
            sender.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            for fd in fds:
                os.close(fd)


ROLE_SOCKET, ROLE_CONTENT = 2, 3  # parcel.h


def _lose(parcel, role, which):
    """Takes one descriptor of that role out of a parcel: the first or the last one."""
    def without(data, fds):
        kind, its_role, first = struct.unpack("=c3xII", data)
        if kind != b"D" or its_role != role:
            return data, fds
        os.close(fds.pop(which))
        return struct.pack("=c3xII", kind, role, first + (which == 0)), fds
    outer = list(_messages(parcel["out"]))
    for data, fds in outer:
        if data[:1] == b"P":
            _put_back(fds[0], [without(*message) for message in list(_messages(fds[1]))])
    _put_back(parcel["in"], outer)


@pytest.mark.parametrize("role, which", [(ROLE_SOCKET, -1), (ROLE_SOCKET, 0), (ROLE_CONTENT, 0)],
                         ids=["a socket", "a socket that delivers", "a content"])
def test_a_descriptor_gets_lost(service, role, which):
    """A security policy takes it away, or the table is full. Would catch one whose neighbours are taken for
    it: what is sent to the wrong client, and whose time is whose."""
    service.start(with_store=False)
    with Child(service.path) as child:
        child.greeting()
        bodies = [bytes([ord("a") + i]) * deliveries.SIZE for i in range(4)]
        readers = [deliveries.deliver(child, deliveries.memfd(body)) for body in bodies]
        lingering = _fill(child, 20, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: service.page()["LingerQueue"] == 24, "all are there")
        service.restart_begins()
        _lose(service.systemd.stored, role, which)
        service.restart_ends()
        wait_until(lambda: service.page().get("LingerQueue") == 23, service.log.read_text)
        assert "descriptors have come with the start" in service.log.read_text()
        assert service.page()["LingerTotal"] == 24 and service.page()["LingerEvicted"] == 1
        if which == 0:  # descriptors' numbers grow: the first reader's
            with contextlib.suppress(ConnectionResetError):
                assert bodies[0].startswith(clients.read_to_fin(readers.pop(0)))
            bodies.pop(0)
        else:
            assert lingering.pop().recv(1) == b""
        for client, body in zip(readers, bodies):
            assert clients.read_to_fin(client) == body
            client.close()
        for client in lingering:
            client.sendall(b"still taken")
            assert client.recv(1) == b"", "no RST"
            client.close()
        wait_until(lambda: service.page()["LingerClosedByClient"] == 23, "all have ended")
        page = service.page()
        assert page["LingerDelivered"] == len(bodies)
        assert page["LingerDeliveryAborted"] == 4 - len(bodies)
        assert adds_up(page)
    service.stop()


@pytest.mark.parametrize("call", ["memfd_create", "pwrite", "socketpair", "sendmsg"])
@pytest.mark.parametrize("error", ["EMFILE", "ENOMEM"])
def test_packing_fails(sandbox, call, error):
    """Would catch sockets that are lost with a parcel that couldn't be made, and descriptors that
    stay with it."""
    rules = inject.Rules(sandbox.directory)
    lingerd = inject.lingerd(sandbox, rules)
    lingerd.allowed_lines += [*TAKING_OVER, "can't hand over, going on"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = _fill(child, 20, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 20, "all linger")
        held = len(lingerd.fds())
        rule = rules.fail(call, error, count=1)
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda: "can't hand over, going on" in lingerd.log.text(), "it says so")
        assert rule.applied == 1
        wait_equal(lambda: len(lingerd.fds()), held, "lingerd's descriptors")
        rules.clear()
        os.kill(lingerd.pid, signal.SIGUSR2)  # and the next time it goes
        wait_until(lambda: "took over 20 sockets" in lingerd.log.text(), "it follows itself")
        for client in lingering:
            client.sendall(b"still taken")
            assert client.recv(1) == b""
            client.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 20, "to the end")


def test_a_successor_that_would_not_start_gets_nothing(sandbox):
    """Would catch an upgrade that drops every socket because of a typo in lingerd.conf."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("max-time = 60\n")
    lingerd = sandbox.lingerd("--config", str(config))
    with Child(lingerd.socket_path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 1, "it lingers")
        config.write_text("max-tme = 60\n")
        lingerd.allowed_lines += ["handing over", "no successor, going on", "max-tme"]
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda: "no successor, going on" in lingerd.log.text(), "it says so")
        another = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 2, "and goes on")
        for socket_ in (client, another):
            socket_.sendall(b"still taken")
            socket_.close()
        wait_until(lambda: lingerd.queue() == 0, "to the end")
        assert lingerd.counters()["LingerClosedByReset"] == 0


def test_an_upgrade(sandbox, monkeypatch):
    """Another program is put at lingerd's path, as packages do; one that doesn't run first. Would
    catch a lingerd that follows itself with its old program, or with one that can't."""
    program = sandbox.directory / "lingerd"
    shutil.copy(places.LINGERD, program)
    old = program.stat().st_ino
    monkeypatch.setattr(places, "LINGERD", program)
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += [*TAKING_OVER, "no successor, going on"]

    def put(make):
        fresh = sandbox.directory / "lingerd.new"
        make(fresh)
        fresh.chmod(0o755)
        fresh.rename(program)
        os.kill(lingerd.pid, signal.SIGUSR2)

    with Child(lingerd.socket_path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 1, "it lingers")
        # Keeps the old one's inode number from coming back.
        os.link(program, sandbox.directory / "kept")
        for broken in (b"\x7fELF but not much more", b"#!/bin/false\n"):
            seen = lingerd.log.text().count("no successor, going on")
            put(lambda path, text=broken: path.write_bytes(text))
            wait_until(lambda n=seen: lingerd.log.text().count("no successor, going on") > n,
                       "it goes on")
        put(lambda path: shutil.copy(sandbox.directory / "kept", path))
        wait_until(lambda: "took over 1 sockets" in lingerd.log.text(), "the new one")
        running = os.stat(f"/proc/{lingerd.pid}/exe").st_ino
        assert running == program.stat().st_ino != old
        client.sendall(b"still taken")
        client.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 1, "and its socket ends")


def test_httpd_sees_no_restart(sandbox, mpm):
    """Would catch a fallback, or a reset client, because lingerd was replaced."""
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += ["handing over", "took over", "listens at"]
    httpd = sandbox.httpd(mpm, lingerd=lingerd)
    before = httpd.status()
    for round_ in range(5):
        for _ in range(20):
            assert clients.fetch(httpd.port) == (200, content("hello.txt"))
        seen = lingerd.log.text().count("took over")
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda n=seen: lingerd.log.text().count("took over") > n, f"round {round_}")
    after = httpd.status()
    assert int(after["LingerFallbacks"]) == int(before["LingerFallbacks"])
