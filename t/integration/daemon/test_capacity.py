# SPDX-License-Identifier: Apache-2.0
"""At its limit lingerd ends the linger nearest its deadline and takes the new one."""
import contextlib
import os
import signal

import pytest

from harness import clients, stand_in, stats
from harness.httpd import content
from harness.record import WELCOME, Child
from harness.sandbox import wait_halves_agree
from harness.stand_in import StandIn
from harness.waiting import wait_equal, wait_until

LIMIT, CLIENTS = 50, 80


def test_eviction(mpm, sandbox):
    """80 clients that stay, 50 places. Would catch a queue that grows over its limit, one that
    refuses what comes, and evictions that nobody counts."""
    httpd, lingerd = sandbox.site(mpm, "--max-connections", str(LIMIT), "--max-time", "3600",
                                  linger_directives="LingerTimeout 3600\nLingerTime 3600\n")
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            client, status, body = clients.late_closer(httpd.port)
            stack.enter_context(client)
            assert (status, body) == (200, content("hello.txt"))
            assert lingerd.queue() <= LIMIT
        wait_equal(lambda: lingerd.counters()["LingerTotal"], CLIENTS, "sockets taken over")
        wait_equal(lingerd.queue, LIMIT, "sockets in lingerd")
        wait_halves_agree(httpd, lingerd)
        status = httpd.status()
        assert status["LingerEvicted"] == CLIENTS - LIMIT
        assert status["LingerQueueLimit"] == LIMIT
        assert status["LingerQueuePeak"] == LIMIT
        assert status["LingerFallbacks"] == status["LingerRejected"] == 0
        assert status["LingerHandoffs"] == CLIENTS
        assert stats.adds_up(status)
    wait_equal(lingerd.queue, 0, "sockets in lingerd")


def test_evicts_the_nearest_deadline(sandbox):
    """Would catch the eviction of what came first, or last, or is at hand."""
    lingerd = sandbox.lingerd("--max-connections", "2", "--max-time", "3600")
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        far = child.lingering_client(idle_ms=3_000_000, cap_ms=3_600_000)
        near = child.lingering_client(idle_ms=60_000, cap_ms=3_600_000)
        wait_equal(lingerd.queue, 2, "sockets in lingerd")
        middle = child.lingering_client(idle_ms=600_000, cap_ms=3_600_000)
        wait_equal(lambda: lingerd.counters()["LingerEvicted"], 1, "evictions")
        wait_until(lambda: clients_is_gone(near), "the one nearest its deadline to be closed")
        assert not clients_is_gone(far) and not clients_is_gone(middle)
        for client in (far, near, middle):
            client.close()


def clients_is_gone(client):
    """Whether lingerd has closed its end: a byte to a closed socket is answered with RST."""
    try:
        client.send(b"x")
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True


@pytest.mark.parametrize("burst", [1000])
def test_a_burst_over_the_limit(sandbox, burst):
    """More than the limit in one go. Would catch a count that breaks when arrivals and evictions
    come in one batch."""
    lingerd = sandbox.lingerd("--max-connections", "20")
    with Child(lingerd.socket_path) as child, contextlib.ExitStack() as stack:
        assert child.greeting() == WELCOME
        for _ in range(burst):
            stack.enter_context(child.lingering_client())
        wait_equal(lambda: lingerd.counters()["LingerTotal"], burst, "sockets taken over")
        counters = lingerd.counters()
        assert counters["LingerQueue"] == counters["LingerQueuePeak"] == 20
        assert counters["LingerEvicted"] == burst - 20
        assert stats.adds_up(counters)
    wait_equal(lingerd.queue, 0, "sockets in lingerd")


@pytest.mark.parametrize("how", ["successor", "reload"])
def test_a_lower_limit_counts_at_once(sandbox, how):
    """Parked connections end first. Would catch a limit that counts only when the next one comes."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("max-connections = 100\n")
    lingerd = sandbox.lingerd("--config", str(config))
    lingerd.allowed_lines += ["handing over", "took over", "configuration read again"]
    with StandIn(sandbox.directory, rate=1_000) as httpd, Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        ends = stand_in.park(child, httpd.way, 40)
        ends += [child.lingering_client(idle_ms=600_000, cap_ms=600_000) for _ in range(10)]

        def held():
            counters = lingerd.counters()
            return counters["LingerQueueLimit"], counters["LingerQueue"], counters["LingerParked"]

        wait_equal(held, (100, 10, 40), "limit, lingering, parked")
        config.write_text("max-connections = 20\n")
        os.kill(lingerd.pid, signal.SIGHUP if how == "reload" else signal.SIGUSR2)
        wait_equal(held, (20, 10, 10), "limit, lingering, parked")
        ends.append(child.lingering_client(idle_ms=600_000, cap_ms=600_000))
        wait_equal(held, (20, 11, 9), "limit, lingering, parked")
        for end in ends:
            end.close()
