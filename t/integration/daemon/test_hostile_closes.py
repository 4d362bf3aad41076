# SPDX-License-Identifier: Apache-2.0
"""What makes close(2) wait, for as long as a peer likes: each of these stopped lingerd for good. Its
loop must go on, its honest clients be served, and all that was sent be gone in the end."""
import array
import contextlib
import os
import signal
import socket
import struct
import threading
import time

import pytest

from harness import deliveries, places, proc, stats
from harness.bystander import Bystander
from harness.fuse_peer import FusePeer
from harness.record import (DELIVER, DENIED, IDLE, WAY_BACK, WELCOME, Child, clinging_socket,
                            record, tcp_pair, welcomed)
from harness.stand_in import ANSWER, StandIn, park
from harness.waiting import wait_equal, wait_until

REFUSED = r"lingerd: refused "
needs_root = pytest.mark.skipif(not places.am_root(), reason="needs users to be")


@pytest.fixture(name="lingerd")
def lingerd_fixture(sandbox):
    lingerd = sandbox.lingerd("--max-time", "3600")
    lingerd.allowed_lines.append(REFUSED)
    return lingerd


@contextlib.contextmanager
def goes_on(lingerd):
    """Clients that must be served all the while; afterwards lingerd holds what it held before."""
    before = len(lingerd.fds())
    with Bystander(lingerd) as bystander:
        yield
        for _ in range(3):
            bystander.wait_progress()
            bystander.hands_off()
    wait_equal(lambda: len(lingerd.fds()), before, lambda: f"lingerd.s descriptors {lingerd.fds()} {lingerd.counters()}")
    wait_until(lambda: stats.adds_up(lingerd.counters()), "its books balance")


def let_go(server):
    """Our copy goes, which isn't the last one while lingerd is stopped."""
    thread = threading.Thread(target=server.close, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def rejected(lingerd):
    return lingerd.counters()["LingerRejected"]


@pytest.mark.parametrize("place", [0, 1, 2, 252])
def test_a_socket_that_clings(lingerd, place):
    """As a descriptor that a record has no use for. Would catch one that the kernel drops because there is no
    room, inside recvmmsg."""
    with goes_on(lingerd), Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        client, server = clinging_socket()
        lingerd.pause()
        with open(os.devnull, "rb") as harmless:
            child.send(record(), [*[harmless] * place, server])
        let_go(server)
        lingerd.resume()
        wait_equal(lambda: rejected(lingerd), 0 if place == 0 else 1, "refusals")
        client.close()


def nested(inner, depth=1):
    """A Unix socket in whose queue that descriptor lies, and no other copy of it."""
    for _ in range(depth):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                               array.array("i", [inner.fileno()]))])
        let_go(inner)
        near.close()
        inner = far
    return inner


@pytest.mark.parametrize("depth", [1, 3])
def test_a_socket_inside_a_socket(lingerd, depth):
    """Would catch a close that looks at the outer one only."""
    with goes_on(lingerd), Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        clients = []
        lingerd.pause()
        for _ in range(5):
            client, server = clinging_socket()
            clients.append(client)
            outer = nested(server, depth)
            child.send(record(), [outer])
            let_go(outer)
        lingerd.resume()
        wait_equal(lambda: rejected(lingerd), 5, "refusals")
        wait_until(lambda: lingerd.counters()["LingerClosersStuck"] > 0, "one that is in the way")
        wait_equal(lambda: lingerd.counters()["LingerUnclosed"], 0, "descriptors to close")
        wait_equal(lambda: lingerd.counters()["LingerClosersStuck"], 0, "stuck processes")
        for client in clients:
            client.close()


@needs_root
def test_what_a_refused_peer_has_queued(sandbox):
    """It connects, sends, and is turned away: its queue goes with it. Would catch a close of the
    connection in the loop."""
    lingerd = sandbox.lingerd("--max-time", "3600", "--allow-user", "root")
    lingerd.allowed_lines.append(REFUSED)
    with goes_on(lingerd):
        lingerd.pause()
        os.seteuid(4711)
        child = Child(lingerd.socket_path)
        os.seteuid(0)
        client, server = clinging_socket()
        child.send(record(), [server])
        let_go(server)
        lingerd.resume()
        wait_equal(lambda: rejected(lingerd), 1, "refusals")
        try:
            assert child.greeting() == DENIED
        except ConnectionResetError:  # said once, of what was left unread
            assert child.greeting() == DENIED
        client.close()
        child.socket.close()


@contextlib.contextmanager
def fuse_peer(lingerd, **options):
    with FusePeer(lingerd.socket_path, lingerd.directory / "fuse", **options) as peer:
        if peer.problem:
            pytest.skip(f"no file system of one's own here: {peer.problem}")
        yield peer


@needs_root
@pytest.mark.parametrize("what", ["files", "delivery"])
def test_a_file_system_of_ones_own(lingerd, what):
    """Its server doesn't answer: any use of the file waits for it, close(2) in D state. Would catch
    fstat(2), fstatfs(2), pread(2) and every close in the loop's process."""
    with goes_on(lingerd), fuse_peer(lingerd) as peer:
        message = (record() if what == "files"
                   else record(kind=DELIVER, length=1000, stall_ms=1000, ticket=1))
        for _ in range(8):
            assert peer.send(message, what=what) == "sent"
        wait_equal(lambda: rejected(lingerd), 8, "refusals")
        wait_equal(lambda: lingerd.counters()["LingerClosersStuck"], 2, "stuck processes")
        # No more than two at a time: the others wait in lingerd's table, with what came beside them.
        waiting = 6 if what == "files" else 12
        wait_equal(lambda: lingerd.counters()["LingerUnclosed"], waiting, "descriptors to close")
        with Child(lingerd.socket_path) as child:
            assert child.greeting() == WELCOME
            child.send(b"no record", [open(os.devnull, "rb")])
            wait_equal(lambda: rejected(lingerd), 9, "another user's refusal")
            wait_equal(lambda: lingerd.counters()["LingerUnclosed"], waiting,
                       "is closed all the same")


@needs_root
def test_a_way_back_in_a_file_system_of_ones_own(lingerd):
    """Would catch a look at the name that asks the server, or a connect(2) that does."""
    with goes_on(lingerd), fuse_peer(lingerd) as peer:
        for _ in range(3):
            assert peer.send(record(kind=IDLE, stall_ms=60_000), what="way") == "sent"
        wait_equal(lambda: rejected(lingerd), 3, "refusals")
        assert lingerd.counters()["LingerParkedTotal"] == 0


@needs_root
def test_a_way_back_in_an_overlay_of_such_files(lingerd):
    """An overlay of one's own asks with the rights of who mounted it, so the file system behind it refuses
    nobody. Would catch a connect(2) by a name on a file system that lingerd doesn't see."""
    with goes_on(lingerd), fuse_peer(lingerd) as peer:
        answer = peer.send(record(kind=WAY_BACK, ticket=1), what="overlay")
        if answer != "sent":
            pytest.skip(f"no overlay of one's own here: {answer}")
        wait_equal(lambda: rejected(lingerd), 1, "refusals")


@needs_root
def test_a_flood_of_such_files(lingerd):
    """Would catch a table that fills, and a peer of another user that pays for it."""
    with goes_on(lingerd), fuse_peer(lingerd) as peer:
        answers = [peer.send(record(), count=253) for _ in range(200)]
        print({answer: answers.count(answer) for answer in set(answers)})
        wait_until(lambda: lingerd.counters()["LingerPeersHeldBack"] > 0, "it is held back")
        assert lingerd.counters()["LingerUnclosed"] < 2500
        assert len(lingerd.fds()) < 3000
        with Child(lingerd.socket_path) as child:
            assert child.greeting() == WELCOME
            clients = [child.lingering_client() for _ in range(50)]
            wait_until(lambda: lingerd.queue() >= 50, "others' hand-offs are taken")
            for client in clients:
                client.close()


@needs_root
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_with_a_stuck_closer(lingerd, end):
    """A process in D state keeps the descriptor table that it shares with lingerd. Would catch clients
    that wait for its sake."""
    with fuse_peer(lingerd) as peer, Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        client = child.lingering_client()
        wait_equal(lingerd.queue, 1, "sockets in lingerd")
        for _ in range(3):
            peer.send(record())
        wait_equal(lambda: lingerd.counters()["LingerClosersStuck"], 2, "stuck processes")
        if end == signal.SIGKILL:
            lingerd.kill(helpers_end=False)
        else:
            lingerd.terminate()
            time.sleep(0.1)
            lingerd.terminate()  # it means it
            assert lingerd.wait() == 0
        client.settimeout(30)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        # The connection is gone, not only its FIN here.
        def gone():
            try:
                client.send(b"x")
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True
        wait_until(gone, "its client's connection has ended")


def test_a_closer_that_somebody_kills(lingerd):
    """Would catch descriptors that nobody closes from then on."""
    closers = wait_until(lambda: proc.children(lingerd.pid), "it has one")
    with goes_on(lingerd), Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        for _ in range(3):
            for pid in proc.children(lingerd.pid):
                os.kill(pid, signal.SIGKILL)
            for _ in range(20):
                child.send(record(), [child.socket])
            wait_equal(lambda: lingerd.counters()["LingerUnclosed"], 0, "descriptors to close")
    assert proc.children(lingerd.pid) != closers


@needs_root
@pytest.mark.parametrize("nofile", [None, 4096], ids=["as-it-comes", "few-descriptors"])
def test_orders_while_something_hangs(sandbox, nofile):
    """What is forked would have the descriptors that wait. Would catch a SIGHUP or SIGUSR2 that leaves a
    process in D state, is forgotten without a word, or isn't followed because of a peer that hangs."""
    lingerd = sandbox.lingerd("--max-time", "3600", nofile=nofile)
    lingerd.allowed_lines += [REFUSED, "handing over", "what a peer has sent can't be closed", "configuration read again"]
    with goes_on(lingerd), fuse_peer(lingerd) as peer:
        for _ in range(8):
            peer.send(record())
        wait_until(lambda: lingerd.counters()["LingerClosersStuck"] == 2
                   and lingerd.counters()["LingerUnclosed"] > 0, "some hang, others wait")
        before = set(proc.children(lingerd.pid))
        # One that reads and answers needs no descriptor; an exec has to close them all.
        obeys = [] if nofile else [(signal.SIGHUP, "configuration read again")]
        refuses = [(signal.SIGHUP, "not now")] if nofile else []
        for order, line in [*obeys, *refuses, (signal.SIGUSR2, "can't be closed")]:
            seen = len(lingerd.log.matching(line))
            os.kill(lingerd.pid, order)
            wait_until(lambda: len(lingerd.log.matching(line)) > seen, f"{order}: {line}")
        wait_until(lambda: set(proc.children(lingerd.pid)) <= before, "what was sent out has ended")
    wait_equal(lambda: lingerd.counters()["LingerUnclosed"], 0, "descriptors to close")
    lingerd.hang_up()
    wait_until(lambda: lingerd.log.matching("configuration read again"), "it reads its configuration again")


def test_a_closer_that_somebody_stops(lingerd):
    """Would catch one that is waited for for ever, and what it holds open."""
    closers = wait_until(lambda: proc.children(lingerd.pid), "it has one")
    for pid in closers:
        os.kill(pid, signal.SIGSTOP)
    with goes_on(lingerd), Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        for _ in range(20):
            child.send(record(), [child.socket])
        wait_equal(lambda: lingerd.counters()["LingerRejected"], 20, "refusals")
        wait_equal(lambda: lingerd.counters()["LingerUnclosed"], 0, "descriptors to close")
    assert proc.children(lingerd.pid) != closers


def test_what_the_guard_finds_in_a_queue(lingerd, sandbox):
    """While lingerd stands still its guard looks at what peers have sent, with copies of their
    descriptors, in lingerd's own table. Would catch copies that stay there."""
    with contextlib.ExitStack() as stack:
        stand_in = stack.enter_context(StandIn(sandbox.directory, rate=100))
        honest, hostile = (stack.enter_context(welcomed(lingerd)) for _ in range(2))
        for client in park(honest, stand_in.way, 1):
            stack.enter_context(client)
        wait_until(lambda: len(proc.children(lingerd.pid)) == 2, "it has a closer and a guard")
        before = len(lingerd.fds())
        for refusals in (1, 2):
            lingerd.pause()
            with open(os.devnull, "rb") as harmless:
                hostile.send(record(kind=IDLE, stall_ms=60_000), [harmless, harmless])
            wait_until(lambda: len(lingerd.fds()) > before, "the guard has looked at it")
            lingerd.resume()
            wait_equal(lambda: rejected(lingerd), refusals, "refusals")
        wait_equal(lambda: len(lingerd.fds()), before, "descriptors")


def test_a_record_that_the_guard_has_answered_comes_again(lingerd, sandbox):
    """With the same connection and another way back, which clings. Would catch a close in the loop."""
    with contextlib.ExitStack() as stack:
        stand_in = stack.enter_context(StandIn(sandbox.directory, rate=100))
        honest, hostile = (stack.enter_context(welcomed(lingerd)) for _ in range(2))
        stack.enter_context(park(honest, stand_in.way, 1)[0])
        wait_until(lambda: len(proc.children(lingerd.pid)) == 2, "it has a closer and a guard")
        lingerd.allowed_lines.append("this process has stood still")
        lingerd.pause()
        parked = record(kind=IDLE, stall_ms=60_000)
        client, server = (stack.enter_context(end) for end in tcp_pair())
        client.sendall(b"a request")
        hostile.send(parked, [server, stand_in.way])
        assert client.recv(1000) == ANSWER, "by way of the guard"
        lingerd.resume()
        wait_equal(lambda: lingerd.counters()["LingerReturned"], 1, "returns")
        lingerd.pause()
        slow, clings = clinging_socket()
        hostile.send(parked, [server, clings])
        let_go(clings)
        lingerd.resume()
        stack.enter_context(welcomed(lingerd)).lingering_client().close()
        wait_equal(lambda: lingerd.counters()["LingerClosedByClient"], 1, "ends")
        slow.close()


def test_messages_behind_empty_ones(lingerd):
    """A peer that has sent and gone. Would catch an empty message that is taken for the end."""
    with goes_on(lingerd):
        lingerd.pause()
        clients = []
        with Child(lingerd.socket_path) as child:
            for _ in range(10):
                for _ in range(7):
                    child.send(b"")
                clients.append(child.lingering_client())
        lingerd.resume()
        wait_until(lambda: lingerd.queue() >= 10, "sockets in lingerd")
        for client in clients:
            client.close()


def test_offers_that_nobody_begins(sandbox):
    """Would catch descriptors that are set aside for ever, and lingers that are evicted for them."""
    lingerd = sandbox.lingerd("--max-time", "3600", "--max-connections", "400")
    lingerd.allowed_lines.append(REFUSED)
    with contextlib.ExitStack() as stack:
        honest = stack.enter_context(Child(lingerd.socket_path))
        assert honest.greeting() == WELCOME
        lingering = [stack.enter_context(honest.lingering_client(idle_ms=3_600_000,
                                                                 cap_ms=3_600_000))
                     for _ in range(100)]
        wait_equal(lingerd.queue, 100, "sockets in lingerd")
        for _ in range(12):
            child = stack.enter_context(Child(lingerd.socket_path))
            assert child.greeting() == WELCOME
            for ticket in range(16):
                client, server = tcp_pair()
                stack.enter_context(client)
                content = deliveries.memfd(b"rest")
                child.offer(server, content, ticket=ticket, length=4, stall_ms=60_000)
                os.close(content)
                server.close()
        assert lingerd.counters()["LingerEvicted"] == 0
        wait_until(lambda: lingerd.counters()["LingerOffersExpired"] >= 50, "they expire")
        wait_equal(lambda: lingerd.counters()["LingerOffers"], 0, "offers")
        assert lingerd.counters()["LingerOffloadMemory"] == 0
        assert lingerd.counters()["LingerEvicted"] == 0
        assert lingerd.counters()["LingerOffloadsRefused"] > 0
        assert lingering


@pytest.mark.parametrize("descriptor", [True, False])
def test_what_a_peer_reports(lingerd, descriptor):
    """Would catch a number that is believed of any peer that says it, and one without end."""
    with goes_on(lingerd), Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        before = lingerd.counters()["LingerFallbacksReported"]
        message = bytearray(record())
        message[20:24] = struct.pack("=I", 0xFFFFFFFF)
        client, server = tcp_pair()
        child.send(bytes(message), [server] if descriptor else [])
        server.close()
        client.close()
        child.lingering_client().close()
        time.sleep(0)
        wait_until(lambda: lingerd.counters()["LingerTotal"] >= 1, "hand-offs")
        wait_equal(lambda: lingerd.counters()["LingerFallbacksReported"] - before,
                   1_000_000 if descriptor else 0, "what it says")


def test_memory_that_passes_as_a_file(sandbox):
    """A memfd that is open for reading only and not sealed. Would catch one that is taken for a file,
    which takes none of --offload-memory."""
    lingerd = sandbox.lingerd("--offload-memory", "1M")
    lingerd.allowed_lines.append(REFUSED)
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        for flags in (0, os.MFD_ALLOW_SEALING):
            writable = os.memfd_create("rest", flags)
            os.write(writable, bytes(4096))
            content = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)
            client, server = tcp_pair()
            assert child.offer(server, content, length=4096, stall_ms=1000) == 2  # unfit
            os.close(writable)
            os.close(content)
            client.close()
            server.close()


@needs_root
def test_a_small_table(sandbox):
    """A burst over it, of which the kernel must close nothing."""
    lingerd = sandbox.lingerd("--max-time", "3600", nofile=1024)
    limit = lingerd.counters()["LingerQueueLimit"]
    assert 400 < limit < 1024 - 2 * 253
    with contextlib.ExitStack() as stack:
        child = stack.enter_context(Child(lingerd.socket_path))
        assert child.greeting() == WELCOME
        lingerd.pause()
        for _ in range(limit + 100 if limit + 100 < 250 else 250):
            stack.enter_context(child.lingering_client())
        lingerd.resume()
        for _ in range(limit + 100 - 250):
            stack.enter_context(child.lingering_client())
        wait_equal(lambda: lingerd.counters()["LingerTotal"], limit + 100, "taken over")
        assert lingerd.counters()["LingerEvicted"] == 100
        assert rejected(lingerd) == 0


