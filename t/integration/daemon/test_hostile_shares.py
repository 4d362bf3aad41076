# SPDX-License-Identifier: Apache-2.0
"""One user takes all that it can get of what there is a limit for, and another one, which has some and
needs a little more, must not notice."""
import contextlib
import os
import signal
import socket
import subprocess

import pytest

from harness import stand_in, stats
from harness.deliveries import SIZE, memfd, small_pair
from harness.record import ACCEPTED, IDLE, NO_ROOM, WELCOME, Child, record, tcp_pair
from harness.stand_in import StandIn
from harness.users import as_user, needs_root
from harness.waiting import wait_equal, wait_until

pytestmark = needs_root

HOARDER, HONEST = 4711, 33
LIMIT = 60
WAYS = 256
FOREVER = {"idle_ms": 3_600_000, "cap_ms": 3_600_000}
OVER_SHARE = r"at the limit \(max-connections 60\): user 4711 holds \d+, more than its share among 2 users"
CLOSE_WAIT = 8


def child_of(lingerd, uid):
    with as_user(uid):
        child = Child(lingerd.socket_path)
    assert child.greeting() == WELCOME
    return child


def linger(child, _, count):
    return [child.lingering_client(**FOREVER) for _ in range(count)]


def park(child, httpd, count):
    return stand_in.park(child, httpd.way, count, **FOREVER, stall_ms=3_600_000)


HOLDS = {"lingers": linger, "parked": park}


def held(lingerd):
    counters = lingerd.counters()
    return counters["LingerQueue"] + counters["LingerParked"]


def brought(lingerd):
    counters = lingerd.counters()
    return counters["LingerTotal"] + counters["LingerParkedTotal"]


def all_linger(lingerd, ends):
    """What each sends is drained, and answered with no RST."""
    before = lingerd.counters()["LingerDrainedBytes"]
    for end in ends:
        end.send(b"8 bytes.")
    wait_equal(lambda: lingerd.counters()["LingerDrainedBytes"], before + 8 * len(ends), "drained")
    assert all(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == CLOSE_WAIT for end in ends)


def all_return(_, ends):
    for end in ends:
        end.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert stand_in.ask(ends, b"", len(ends)) == {"answered": len(ends)}


@pytest.fixture(name="httpd")
def httpd_fixture(sandbox):
    with StandIn(sandbox.directory, rate=10_000) as httpd:
        yield httpd


@pytest.mark.parametrize("its", HOLDS)
@pytest.mark.parametrize("ours", HOLDS)
@pytest.mark.parametrize("restarted", [False, True], ids=["", "restarted"])
def test_whoever_holds_most_makes_room(sandbox, httpd, its, ours, restarted):
    """Five times the limit from a hoarder, then some more of the other one's. Would catch room that is made
    by what is nearest a deadline, parked connections that always go first, and a successor that has
    forgotten whose is what."""
    lingerd = sandbox.lingerd("--max-connections", str(LIMIT), "--max-time", "3600")
    lingerd.allowed_lines += [OVER_SHARE, "handing over", "took over"]
    with child_of(lingerd, HONEST) as honest, child_of(lingerd, HOARDER) as hoarder:
        # Nearest their deadlines: they would be the first to go.
        mine = HOLDS[ours](honest, httpd, 5)
        wait_equal(lambda: held(lingerd), 5, "ours")
        hoard = []
        if restarted:
            hoard += HOLDS[its](hoarder, httpd, LIMIT - 5)
            wait_equal(lambda: held(lingerd), LIMIT, "all places")
            os.kill(lingerd.pid, signal.SIGUSR2)
            wait_until(lambda: lingerd.log.matching("took over"), "a successor")
        before = brought(lingerd)
        hoard += HOLDS[its](hoarder, httpd, 5 * LIMIT)
        wait_equal(lambda: brought(lingerd), before + 5 * LIMIT, "all of the hoarder's")
        assert held(lingerd) <= LIMIT
        more = HOLDS[ours](honest, httpd, 20)
        wait_equal(lambda: brought(lingerd), before + 5 * LIMIT + 20, "all of ours")
        hoard += HOLDS[its](hoarder, httpd, LIMIT)
        wait_equal(lambda: brought(lingerd), before + 6 * LIMIT + 20, "the hoarder's again")
        counters = lingerd.counters()
        assert held(lingerd) == LIMIT
        assert counters["LingerOverShare"] == 6 * LIMIT + 20 + (0 if restarted else -LIMIT + 5), counters
        assert lingerd.log.matching(OVER_SHARE)
        {"lingers": all_linger, "parked": all_return}[ours](lingerd, mine + more)
        assert stats.adds_up(lingerd.counters())
        for end in mine + more + hoard:
            end.close()


def test_a_user_that_is_alone_may_have_all(sandbox, httpd):
    """Would catch a share that is kept free for nobody, or counted where there is none."""
    lingerd = sandbox.lingerd("--max-connections", str(LIMIT), "--max-time", "3600")
    with child_of(lingerd, HOARDER) as child:
        ends = linger(child, httpd, LIMIT)
        wait_equal(lingerd.queue, LIMIT, "lingering")
        ends += linger(child, httpd, 10)
        wait_equal(lambda: lingerd.counters()["LingerEvicted"], 10, "evictions")
        assert lingerd.counters()["LingerOverShare"] == 0
        for end in ends:
            end.close()


def test_responses_under_way_end_nobody_elses_lingers(sandbox, httpd):
    """Responses aren't ended for others: so their user may have no more of them than its share. Would
    catch a hoarder that offers until only its own are left."""
    lingerd = sandbox.lingerd("--max-connections", str(LIMIT), "--max-time", "3600")
    lingerd.allowed_lines.append(OVER_SHARE)
    with child_of(lingerd, HONEST) as honest, child_of(lingerd, HOARDER) as hoarder, \
            contextlib.ExitStack() as stack:
        mine = linger(honest, httpd, 20)
        answers = []
        for ticket in range(LIMIT):
            client, server = small_pair()
            stack.enter_context(client)
            content = memfd()
            answers.append(hoarder.offer(server, content, ticket=ticket, length=SIZE,
                                         stall_ms=3_600_000, **FOREVER))
            if answers[-1] == ACCEPTED:
                hoarder.begin(ticket)
            server.close()
            os.close(content)
        assert answers.count(ACCEPTED) == 20, answers  # of two descriptors each
        assert answers[-1] == NO_ROOM
        counters = lingerd.counters()
        assert counters["LingerEvicted"] == 0 and counters["LingerOffloadsRefused"] == LIMIT - 20
        # Nor do its lingers: there is no room for them.
        hoard = linger(hoarder, httpd, 5)
        wait_equal(lambda: lingerd.counters()["LingerEvicted"], 5, "evictions")
        all_linger(lingerd, mine)
        for end in mine + hoard:
            end.close()


# ---- Ways back ----

class Ways:
    """Listeners at paths of their own."""

    def __init__(self, directory, count):
        self.sockets, self.ways = [], []
        for number in range(count):
            listener = socket.socket(socket.AF_UNIX)
            path = directory / f"way-{number}"
            listener.bind(str(path))
            listener.listen()
            path.chmod(0o666)
            self.sockets.append(listener)
            self.ways.append(os.open(path, os.O_PATH))

    def __enter__(self):
        return self.ways

    def __exit__(self, *_):
        for listener, way in zip(self.sockets, self.ways):
            listener.close()
            os.close(way)


def park_by(child, way):
    client, server = tcp_pair()
    child.send(record(kind=IDLE, stall_ms=600_000), [server, way])
    server.close()
    return client


def test_all_ways_back(sandbox, httpd):
    """A hoarder has them all. Would catch another user that can't park; ways that are taken from one that
    has few; and a process that goes on parking where its way back is no more."""
    lingerd = sandbox.lingerd("--max-time", "3600")
    lingerd.allowed_lines += [r"user 4711 had more than its share of the 256 ways back",
                              r"refused an idle connection with a way back of its own"]
    with Ways(sandbox.directory, WAYS + 1) as ways, child_of(lingerd, HONEST) as honest, \
            child_of(lingerd, HOARDER) as hoarder, child_of(lingerd, HOARDER) as announced:
        hoard = [park_by(hoarder, way) for way in ways[:WAYS - 1]]
        wait_equal(lambda: lingerd.counters()["LingerParked"], WAYS - 1, "the hoarder's parked")
        hoard += [park_by(hoarder, way) for way in ways[:WAYS - 1]]  # again: each way has two
        wait_equal(lambda: lingerd.counters()["LingerParked"], 2 * (WAYS - 1), "the hoarder's parked")
        assert announced.announce(ways[WAYS - 1]) == ACCEPTED
        assert announced.announce(ways[WAYS]) == NO_ROOM  # alone or not: there are no more

        assert honest.announce(httpd.way) == ACCEPTED
        assert announced.socket.recv(1) == b"", "whose way has gone is told"
        assert lingerd.counters()["LingerOverShare"] == 1
        assert lingerd.counters()["LingerParked"] == 2 * (WAYS - 1)
        mine = stand_in.park(honest, httpd.way, 5)
        wait_equal(lambda: lingerd.counters()["LingerParked"], 2 * (WAYS - 1) + 5, "and ours")
        with child_of(lingerd, HOARDER) as again:
            assert again.announce(ways[WAYS]) == NO_ROOM
        with Ways(_below(sandbox, "more"), 1) as (second,):
            assert honest.announce(second) == ACCEPTED
            # What was parked with it gets an end, not a reset.
            wait_equal(lambda: lingerd.counters()["LingerReturnFailed"], 2, "parked by it")
            assert lingerd.counters()["LingerOverShare"] == 2
        all_return(lingerd, mine)
        assert len(lingerd.log.matching("had more than its share")) == 1
        for end in mine + hoard:
            end.close()


def _below(sandbox, name):
    directory = sandbox.directory / name
    directory.mkdir()
    return directory


def test_mounts_come_and_go(sandbox):
    """Whether the way back of an httpd that isn't root's is on one of this machine's own file systems is
    looked up again at once. Would catch idle connections that end for a second, and are called remote."""
    lingerd = sandbox.lingerd()
    point = _below(sandbox, "elsewhere")
    with Ways(sandbox.directory, 1) as (way,), child_of(lingerd, HONEST) as child:
        os.chown(sandbox.directory / "way-0", HONEST, HONEST)
        ends = []
        for turn in range(1, 6):
            subprocess.run(["mount", "-t", "tmpfs", "linger-test", point], check=True)
            subprocess.run(["umount", point], check=True)
            ends.append(park_by(child, way))
            wait_equal(lambda: lingerd.counters()["LingerParkedTotal"], turn, "parked")
        for end in ends:
            end.close()


def test_an_honest_user_with_all_ways_keeps_nobody_out(sandbox):
    """A lone user's are all its own. Would catch a way that is taken from it for one more of its own."""
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines.append("refused an idle connection with a way back of its own")
    with Ways(sandbox.directory, WAYS + 1) as ways, child_of(lingerd, HONEST) as child:
        ends = [park_by(child, way) for way in ways]
        wait_equal(lambda: lingerd.counters()["LingerParked"], WAYS, "parked")
        wait_equal(lambda: lingerd.counters()["LingerRejected"], 1, "refused")
        assert lingerd.counters()["LingerOverShare"] == 0
        for end in ends:
            end.close()
