# SPDX-License-Identifier: Apache-2.0
"""lingerd's side of deliveries, spoken to as an httpd child does: what contents it takes, what it
does with hostile ones, and that restarts and stops lose no byte."""
import os
import signal
import socket
import threading
import time

import pytest

from harness import clients, places
from harness.bystander import Bystander
from harness.deliveries import BODY, SIZE, deliver, memfd, offer, small_pair
from harness.record import (ACCEPTED, DELIVER, NO_ROOM, UNFIT, WELCOME, Child, record,
                            tcp_pair)
from harness.stats import adds_up, deliveries_under_way, read_page
from harness.waiting import wait_equal, wait_until

MANY = int(os.environ.get("OFFLOAD_READERS", "2000"))


def still_ours(client, server):
    """An offer that came to nothing: lingerd has done nothing to the connection."""
    sender = threading.Thread(target=lambda: (server.sendall(BODY), server.close()), daemon=True)
    sender.start()
    with client:
        assert clients.read_to_fin(client) == BODY
    sender.join()


@pytest.fixture(name="lingerd")
def lingerd_fixture(sandbox):
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += ["handing over", "took over", "listens at", "refused "]
    return lingerd


@pytest.fixture(name="child")
def child_fixture(lingerd):
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        yield child


def wait_taken(lingerd, count):
    wait_until(lambda: lingerd.counters()["LingerOffloads"] == count,
               lambda: f"taken: {lingerd.counters()}")


def wait_nothing_left(lingerd, fds):
    wait_equal(lingerd.queue, 0, "sockets")
    wait_equal(lambda: len(lingerd.fds()), fds, "descriptors")
    assert adds_up(lingerd.counters()), lingerd.counters()


def test_sealed_memory_and_read_only_files(lingerd, child, tmp_path):
    """From an offset on, exactly as long as the record says."""
    fds = len(lingerd.fds())
    path = tmp_path / "file"
    path.write_bytes(BODY)
    for content in (memfd(), os.open(path, os.O_RDONLY)):
        with deliver(child, content, offset=1000, length=SIZE - 3000) as client:
            assert clients.read_to_fin(client) == BODY[1000:-2000]
    wait_nothing_left(lingerd, fds)
    assert lingerd.counters()["LingerDelivered"] == 2


def test_memory_is_counted(lingerd, child):
    with deliver(child, memfd()) as client:
        wait_taken(lingerd, 1)
        counters = lingerd.counters()
        assert SIZE <= counters["LingerOffloadMemory"] < SIZE + 8192
        assert 0 < counters["LingerOffloadPending"] < SIZE
        assert clients.read_to_fin(client) == BODY
    wait_until(lambda: lingerd.counters()["LingerOffloadMemory"] == 0, "given back")


def pipe_end():
    read, write = os.pipe()
    os.close(write)
    return read


def local_socket():
    one, other = socket.socketpair()
    other.close()
    return one.detach()


def file_of(tmp_path, flags, data=BODY):
    path = tmp_path / "content"
    path.write_bytes(data)
    return os.open(path, flags)


HOSTILE = {
    "unsealed memfd": lambda _: memfd(seals=0),
    "memfd that may be written": lambda _: memfd(seals=0x2 | 0x4),
    "memfd that may shrink": lambda _: memfd(seals=0x4 | 0x8),
    "too short memfd": lambda _: memfd(BODY[:-1]),
    "empty memfd": lambda _: memfd(b""),
    "pipe": lambda _: pipe_end(),
    "socket": lambda _: local_socket(),
    "TCP socket": lambda _: tcp_pair()[1].detach(),
    "directory": lambda path: os.open(path, os.O_RDONLY),
    "device": lambda _: os.open("/dev/zero", os.O_RDONLY),
    "file for writing": lambda path: file_of(path, os.O_RDWR),
    "file for writing only": lambda path: file_of(path, os.O_WRONLY),
    "file by path only": lambda path: file_of(path, os.O_PATH),
    "too short file": lambda path: file_of(path, os.O_RDONLY, BODY[:-1]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_contents(lingerd, child, tmp_path, kind):
    """Refused and counted, and the response is still the worker's; nothing stays; and nobody else
    notices."""
    fds = len(lingerd.fds())
    with Bystander(lingerd):
        client, server = small_pair()
        assert offer(child, server, HOSTILE[kind](tmp_path)) == UNFIT
        child.begin()  # all the same
        wait_until(lambda: lingerd.counters()["LingerRejected"] == 2, "counted")
        still_ours(client, server)
    counters = lingerd.counters()
    assert counters["LingerOffloads"] == counters["LingerOffloadPending"] == 0
    wait_nothing_left(lingerd, fds)


@pytest.mark.parametrize("fields", [
    {"length": 0}, {"length": 1 << 63}, {"offset": 1 << 63}, {"offset": (1 << 64) - 1000},
    {"offset": SIZE}, {"offset": 1}, {"stall_ms": 0}, {"stall_ms": 3_600_001}])
def test_hostile_numbers(lingerd, child, fields):
    fds = len(lingerd.fds())
    client, server = small_pair()
    content = memfd()
    child.send(record(kind=DELIVER, **{"length": SIZE, "stall_ms": 60_000, **fields}),
               [server, content])
    os.close(content)
    wait_until(lambda: lingerd.counters()["LingerRejected"] == 1, "counted")
    still_ours(client, server)
    wait_nothing_left(lingerd, fds)


@pytest.mark.parametrize("more", [0, 1, 5])
def test_wrong_number_of_descriptors(lingerd, child, more):
    """None beside the socket; or too many."""
    fds = len(lingerd.fds())
    extra = [pipe_end() for _ in range(more)]
    client, server = small_pair()
    assert offer(child, server, memfd() if more else None, more=extra) == UNFIT
    for fd in extra:
        os.close(fd)
    wait_until(lambda: lingerd.counters()["LingerRejected"] == 1, "counted")
    still_ours(client, server)
    wait_nothing_left(lingerd, fds)


def test_an_offer_is_the_peers_until_it_is_begun(lingerd, child):
    """No byte before that; and none at all if the peer goes, thinks better of it, or means another
    one. Would catch a response that two send."""
    fds = len(lingerd.fds())
    client, server = small_pair()
    assert offer(child, server, memfd(), ticket=1) == ACCEPTED
    child.begin(2)
    wait_until(lambda: lingerd.counters()["LingerRejected"] == 1, "there is no such offer")
    assert lingerd.counters()["LingerOffloadMemory"] >= SIZE
    with Child(lingerd.socket_path) as other:
        other.greeting()
        other.begin(1)
        wait_until(lambda: lingerd.counters()["LingerRejected"] == 2, "it is another's")
        gone, ours = small_pair()
        assert offer(other, ours, memfd(), ticket=1) == ACCEPTED
    wait_until(lambda: lingerd.counters()["LingerOffloadMemory"] < 2 * SIZE, "forgotten")
    still_ours(gone, ours)
    child.begin(1)
    server.close()
    with client:
        assert clients.read_to_fin(client) == BODY
    child.begin(1)
    wait_until(lambda: lingerd.counters()["LingerRejected"] == 3, "it has begun")
    wait_nothing_left(lingerd, fds)
    assert lingerd.counters()["LingerOffloads"] == 1


@pytest.mark.parametrize("last_words", ["SIGTERM", "SIGUSR2"])
def test_offers_when_lingerd_goes(lingerd, child, last_words):
    """What has been begun is delivered; what hasn't stays with the peer, which finds out."""
    clients_and_servers = [small_pair() for _ in range(3)]
    for i, (_, server) in enumerate(clients_and_servers):
        assert offer(child, server, memfd(), ticket=i) == ACCEPTED
    os.kill(lingerd.pid, signal.SIGSTOP)
    child.begin(1)
    os.kill(lingerd.pid, getattr(signal, last_words))
    os.kill(lingerd.pid, signal.SIGCONT)
    wait_until(lambda: any(words in lingerd.log.text() for words in ("stopping", "took over")),
               "it goes")
    with pytest.raises(OSError):  # on the heels of the signal it may take a moment
        while True:
            child.begin(99)
            time.sleep(0.01)
    clients_and_servers[1][1].close()
    assert clients.read_to_fin(clients_and_servers[1][0]) == BODY
    clients_and_servers[1][0].close()
    for i in (0, 2):
        still_ours(*clients_and_servers[i])
    if last_words == "SIGTERM":
        assert lingerd.wait() == 0
    else:
        wait_equal(lingerd.queue, 0, "sockets")
        assert lingerd.counters()["LingerOffloads"] == 1


def test_memory_has_a_limit(sandbox):
    """However many offer at the same time: what has been accepted never exceeds it, and files don't
    count. Would catch a limit that is looked at before others have come."""
    lingerd = sandbox.lingerd("--offload-memory", "10M")
    path = lingerd.socket_path.parent / "file"
    path.write_bytes(BODY)
    with Child(lingerd.socket_path) as child:
        child.greeting()
        pairs = [small_pair() for _ in range(8)]
        for i, (_, server) in enumerate(pairs):
            content = memfd()
            child.send(record(kind=DELIVER, length=SIZE, stall_ms=60_000, ticket=i),
                       [server, content])
            os.close(content)
        assert [child.answer(i) for i in range(8)] == [ACCEPTED] * 3 + [NO_ROOM] * 5
        wait_equal(lambda: lingerd.counters()["LingerOffloadsRefused"], 5, "refusals on the page")
        counters = lingerd.counters()
        assert 0 < counters["LingerOffloadMemory"] <= 10 << 20 and counters["LingerRejected"] == 0
        readers = []
        for i in range(3):
            child.begin(i)
            pairs[i][1].close()
            readers.append(pairs[i][0])
        readers.append(deliver(child, os.open(path, os.O_RDONLY)))
        for client in readers:
            assert clients.read_to_fin(client) == BODY
            client.close()
        wait_until(lambda: lingerd.counters()["LingerOffloadMemory"] == 0, "all is given back")
        with deliver(child, memfd()) as client:  # and there is room again
            assert clients.read_to_fin(client) == BODY
        for client, server in pairs[3:]:
            still_ours(client, server)


def test_a_peer_has_few_offers(lingerd, child):
    """More than any child makes: they would cost descriptors."""
    one = memfd()
    pairs = [small_pair() for _ in range(20)]
    answers = [offer(child, server, os.dup(one), ticket=i) for i, (_, server) in enumerate(pairs)]
    os.close(one)
    assert answers == [ACCEPTED] * 16 + [NO_ROOM] * 4
    for pair in pairs:
        for end in pair:
            end.close()


def test_content_with_a_plain_linger(lingerd, child):
    """A record of the other kind with two descriptors."""
    fds = len(lingerd.fds())
    client, server = small_pair()
    content = memfd()
    child.send(record(), [server, content])
    server.close()
    os.close(content)
    wait_until(lambda: lingerd.counters()["LingerRejected"] == 1, "counted")
    client.close()
    wait_nothing_left(lingerd, fds)


def test_file_is_truncated_meanwhile(lingerd, child, tmp_path):
    """Ends that delivery, and nothing else."""
    fds = len(lingerd.fds())
    path = tmp_path / "file"
    path.write_bytes(BODY)
    with Bystander(lingerd), deliver(child, memfd()) as other:
        with deliver(child, os.open(path, os.O_RDONLY)) as client:
            wait_taken(lingerd, 2)
            os.truncate(path, 500_000)
            received = bytearray()
            try:
                while chunk := client.recv(65536):
                    received += chunk
            except ConnectionResetError:
                pass
            assert BODY.startswith(received) and len(received) < SIZE
        wait_until(lambda: lingerd.counters()["LingerDeliveryAborted"] == 1, "counted")
        assert clients.read_to_fin(other) == BODY
    wait_nothing_left(lingerd, fds)


def test_they_are_carried_to_the_next_lingerd(lingerd, child, tmp_path):
    """SIGUSR2 again and again while clients read: memory and files, beside plain lingers. Would catch
    a byte lost or sent twice, contents that get mixed up, counters that begin again."""
    os.kill(lingerd.pid, signal.SIGUSR2)
    wait_until(lambda: "took over" in lingerd.log.text(), "one handover")
    fds = len(lingerd.fds())  # some low numbers are free from then on: what was passed lay there
    bodies = [bytes([65 + i]) * 7 + BODY for i in range(12)]
    readers = []
    expected = []
    for i, body in enumerate(bodies):
        if i % 3 == 0:
            path = tmp_path / f"file{i}"
            path.write_bytes(body)
            content = os.open(path, os.O_RDONLY)
        else:
            content = memfd(body)
        readers.append(deliver(child, content, length=len(body), idle_ms=600_000, cap_ms=600_000))
        expected.append(body)
        if i % 4 == 0:
            readers.append(child.lingering_client(idle_ms=600_000, cap_ms=600_000))
            expected.append(b"")
    wait_taken(lingerd, 12)
    pending = lingerd.counters()
    received = [bytearray() for _ in readers]
    for round_ in range(4):
        for client, got in zip(readers, received):
            for _ in range(6):
                client.settimeout(0.05)
                try:
                    got += client.recv(30_000)
                except TimeoutError:
                    break
        seen = lingerd.log.text().count("took over")
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda n=seen: lingerd.log.text().count("took over") > n, f"round {round_}")
    page = lingerd.counters()
    assert page["LingerOffloads"] == 12 and page["LingerRejected"] == 0
    assert deliveries_under_way(page) == 12
    assert page["LingerOffloadMemory"] == pending["LingerOffloadMemory"]
    assert page["LingerOffloadPending"] < pending["LingerOffloadPending"]
    for client, got, body in zip(readers, received, expected, strict=True):
        client.settimeout(60)
        got += clients.read_to_fin(client)
        assert bytes(got) == body
        client.close()
    wait_nothing_left(lingerd, fds)
    assert lingerd.counters()["LingerDelivered"] == 12


def test_sigterm_delivers_what_it_holds(sandbox):
    """And then exits; nobody new is let in meanwhile."""
    lingerd = sandbox.lingerd("--max-time", "60")
    with Child(lingerd.socket_path) as child:
        child.greeting()
        readers = [deliver(child, memfd()) for _ in range(5)]
        wait_taken(lingerd, 5)
        lingerd.terminate()
        wait_until(lambda: "stopping" in lingerd.log.text(), "it stops")
        for client in readers:
            assert clients.read_to_fin(client) == BODY
            client.close()
    assert lingerd.wait() == 0


def test_sigterm_has_a_limit(sandbox):
    """--max-time, for clients that don't read."""
    lingerd = sandbox.lingerd("--max-time", "1")
    with Child(lingerd.socket_path) as child:
        child.greeting()
        with deliver(child, memfd()):
            wait_taken(lingerd, 1)
            lingerd.terminate()
            assert lingerd.wait() == 0


def test_a_full_table_ends_lingers_before_responses(sandbox):
    """Each delivery has two descriptors; the last eighth is for lingers. Would catch an eviction that loses a response while there
    are lingers to end, and a delivery whose content got lost because descriptors had run out."""
    lingerd = sandbox.lingerd("--max-connections", "20")
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = [child.lingering_client(idle_ms=600_000, cap_ms=600_000) for _ in range(20)]
        wait_until(lambda: lingerd.queue() == 20, "full")
        readers = [deliver(child, memfd(), idle_ms=600_000, cap_ms=600_000) for _ in range(8)]
        wait_taken(lingerd, 8)
        counters = lingerd.counters()
        assert (counters["LingerQueue"], counters["LingerEvicted"]) == (12, 16), counters
        # No more: the rest of the table is for lingers, which never have to end a delivery.
        client, server = small_pair()
        assert offer(child, server, memfd()) == NO_ROOM
        still_ours(client, server)
        lingering += [child.lingering_client(idle_ms=600_000, cap_ms=600_000) for _ in range(20)]
        wait_until(lambda: lingerd.counters()["LingerEvicted"] == 36, "they end each other")
        for client in readers:
            assert clients.read_to_fin(client) == BODY
        for client in [*readers, *lingering]:
            client.close()
    wait_until(lambda: lingerd.counters()["LingerDelivered"] == 8, "all delivered")
    assert lingerd.counters()["LingerDeliveryAborted"] == 0


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def test_readers_that_never_read(lingerd, child):
    """lingerd's own memory doesn't grow with what it holds; the contents are what it says."""
    one = memfd(BODY[:400_000])
    before = resident_kb(lingerd.pid)
    readers = []
    for _ in range(MANY):
        readers.append(deliver(child, os.dup(one), length=400_000))
        if len(readers) % 100 == 0:  # no more in flight than the queue holds
            wait_taken(lingerd, len(readers))
    os.close(one)
    wait_taken(lingerd, MANY)
    page = lingerd.counters()
    assert deliveries_under_way(page) == MANY
    assert page["LingerOffloadMemory"] >= MANY * 400_000
    grown = resident_kb(lingerd.pid) - before
    if b"__sanitizer" not in places.LINGERD.read_bytes():  # which keeps what is freed for a while
        assert grown < 1024 + MANY, f"{grown} kB more for {MANY} readers"
    for client in readers:
        clients.reset(client)
    wait_until(lambda: lingerd.counters()["LingerDeliveryAborted"] == MANY, "all are gone")
    wait_equal(lingerd.queue, 0, "sockets")
    assert read_page(lingerd.stats_path)["LingerOffloadMemory"] == 0
