# SPDX-License-Identifier: Apache-2.0
"""Restarts of httpd, under load: no response is lost, nothing leaks, the counters go on."""
import contextlib
import re

import pytest

from harness import clients, logs, proc
from harness.httpd import FATES, content
from harness.sandbox import settle, wait_halves_agree
from harness.waiting import wait_equal, wait_steady, wait_until

RESTARTS = 20
QUEUE_FULL = r"\[linger:(warn|notice)\] .*lingerd is (busy at .*Resource temporarily|back)"
FOREVER = "LingerTimeout 3600\nLingerTime 3600\n"


@pytest.fixture
def site(mpm, sandbox):
    httpd, lingerd = sandbox.site(mpm, "--max-time", "3600", linger_directives=FOREVER, workers=4,
                                  processes=2)
    httpd.allowed_lines.append(logs.ALL_BUSY)
    return httpd, lingerd


def stalled(httpd, lingerd):
    """A client whose response is still on its way while its connection is in lingerd."""
    queue = lingerd.queue()
    client = clients.stalled_reader(httpd.port, "/300k.bin")
    wait_equal(lingerd.queue, queue + 1, "sockets in lingerd")
    wait_halves_agree(httpd, lingerd)  # httpd counts it last
    return client


def finish(client):
    """Late bytes, then the whole response: an RST at any moment would have destroyed it."""
    response, was_reset = clients.truncation_check(client)
    assert not was_reset
    assert clients.split(response) == (200, content("300k.bin"))
    client.close()


def wait_generation(httpd, children):
    """Waits until only children of the new generation are there."""
    wait_until(lambda: not set(httpd.children()) & set(children), "the old children are gone")


def test_graceful_restart_under_load(site):
    """Would catch a connection refused or cut while children are replaced, a lingering one that
    dies with its child, and counters that start again."""
    httpd, lingerd = site
    httpd.allowed_lines.append(QUEUE_FULL)
    held = stalled(httpd, lingerd)
    undisturbed = 0
    with clients.Load(httpd.port) as load:
        # A machine that gives lingerd no processor for a second makes its queue run full: what falls
        # back then is no restart's doing. If a restart made some, each would.
        for _ in range(20):
            if undisturbed == 3:
                break
            before, children, answered = httpd.status(), httpd.children(), load.answered
            httpd.graceful()
            wait_until(lambda: load.answered > answered + 50, "answers after the restart")
            wait_generation(httpd, children)
            after = httpd.status()
            for counter in (*FATES, "LingerHandoffMicros", "LingerTotal"):
                assert after[counter] >= before[counter], counter
            assert after["LingerHandoffs"] + after["LingerAlreadyClosed"] > \
                before["LingerHandoffs"] + before["LingerAlreadyClosed"]
            undisturbed += after["LingerFallbacks"] == before["LingerFallbacks"]
    assert not load.failures, load.failures[:5]
    finish(held)
    status = settle(httpd)
    assert undisturbed == 3, status
    assert status["LingerFallbacksDown"] == status["LingerFallbacksDenied"] == 0


def test_twenty_graceful_restarts_leak_nothing(mpm, sandbox):
    """Would catch a shared-memory segment or a descriptor of the parent's for each restart, and a
    connection of each dead child that lingerd keeps."""
    # Otherwise httpd may go on with fewer children than it began with, as long as one is idle.
    always_all = "MinSpareServers 4\nMaxSpareServers 5\n" if mpm == "prefork" else ""
    httpd, lingerd = sandbox.site(mpm, workers=4, processes=1, config=always_all)
    httpd.allowed_lines.append(logs.ALL_BUSY)

    def cycle():
        children = httpd.children()
        httpd.graceful()
        assert clients.load(httpd.port, 4) == []
        wait_generation(httpd, children)

    def held():
        return {"parent's descriptors": len(proc.fds(httpd.pid)),
                "parent's shared memory": len(proc.shared_mappings(httpd.pid)),
                "children's descriptors": sorted(httpd.child_fds().values()),
                "lingerd's descriptors": len(lingerd.fds())}

    def held_at_rest():
        """Children that are still starting have a descriptor more, and come one after the other."""
        wait_until(httpd.all_children, "all children have started")
        return wait_steady(held, "descriptors and shared memory")

    for _ in range(2):  # what httpd itself allocates once
        cycle()
    before = held_at_rest()
    for _ in range(RESTARTS):
        cycle()
    after = held_at_rest()
    assert after == before, f"{after}, before {before}"


def test_restart(site):
    """SIGHUP kills httpd's children at once, and with them what they themselves linger for; what
    lingerd holds isn't theirs. Would catch a lingering connection that ends with its child, and
    hand-offs that don't begin again."""
    httpd, lingerd = site
    held = [stalled(httpd, lingerd) for _ in range(3)]
    children = httpd.children()
    httpd.restart()
    wait_generation(httpd, children)
    for client in held:
        finish(client)
    ended = httpd.ended()  # not before: a look may fail while httpd restarts
    assert clients.load(httpd.port, 20) == []
    wait_equal(lambda: httpd.ended() - ended, 20, "connections that ended")
    assert settle(httpd)["LingerFallbacks"] == 0


def test_stock_restart_cuts_lingering_clients(sandbox):
    """The control: stock prefork's lingering clients do end with their child."""
    httpd = sandbox.httpd("prefork")
    with clients.stalled_reader(httpd.port, "/300k.bin") as client:
        wait_until(lambda: "C" in httpd.scoreboard(), "a child in state C")
        children = httpd.children()
        httpd.restart()
        wait_generation(httpd, children)
        _, was_reset = clients.truncation_check(client)
        assert was_reset


def test_graceful_stop_under_load(site):
    """Would catch a request that is accepted and then cut, and an httpd that waits for lingering
    clients: they are lingerd's, which outlives it."""
    httpd, lingerd = site
    held = [stalled(httpd, lingerd) for _ in range(3)]
    trickling = clients.late_closer(httpd.port)[0]
    with contextlib.ExitStack() as stack:
        stack.enter_context(clients.Tricklers([trickling]))
        load = stack.enter_context(clients.Load(httpd.port))
        wait_until(lambda: load.answered > 50, "answers")
        httpd.graceful_stop()
        httpd.wait_gone()
    # A new connection is refused, or reset with the listener's queue; one that got in is answered.
    assert all(re.search(r"refused.* after 0 bytes|reset.* after 0 bytes", failure)
               for failure in load.failures), load.failures[:5]
    for client in held:
        finish(client)
    trickling.close()
    wait_equal(lingerd.queue, 0, "sockets in lingerd")


def test_max_connections_per_child_under_load(mpm, sandbox):
    """Children come and go all the time. Would catch what a child takes with it when it goes: a
    hand-off, a response, a peer's descriptor in lingerd."""
    httpd, lingerd = sandbox.site(mpm, "--max-time", "3600", linger_directives=FOREVER, workers=4,
                                  processes=2, config="MaxConnectionsPerChild 20\n")
    httpd.allowed_lines.append(logs.ALL_BUSY)
    held = stalled(httpd, lingerd)
    first, ended = set(httpd.children()), httpd.ended()
    failures = clients.load(httpd.port, 200)
    # Stock event now and then drops a connection that a dying child has accepted but not looked at;
    # such a one never gets as far as a module. One that does is answered.
    dropped = [f for f in failures if f.endswith("reset by peer') after 0 bytes")]
    assert failures == dropped and len(dropped) < (20 if mpm == "event" else 1), failures
    wait_equal(lambda: httpd.ended() - ended, 200 - len(dropped), "connections that ended")
    wait_until(lambda: not set(httpd.children()) & first, "every child has been replaced")
    finish(held)
    settle(httpd)
    # A peer for each child that lives, none for those that have gone.
    wait_until(lambda: peers(lingerd) <= len(httpd.children()) + 1,
               lambda: f"{peers(lingerd)} peers, {len(httpd.children())} children")
    assert httpd.status()["LingerFallbacks"] == 0


def peers(lingerd):
    return sum(name.startswith("socket:") for name in lingerd.fds().values()) - 1  # the listener


def test_counters_are_httpds_own(site):
    """A restarted lingerd starts its own counts again; httpd's go on. Would catch one that takes
    the other's life for its own."""
    httpd, lingerd = site
    httpd.allowed_lines.append(r"\[linger:(warn|notice)\] .*lingerd is (down|back)")
    client, _, _ = clients.late_closer(httpd.port)
    wait_equal(lambda: httpd.status()["LingerHandoffs"], 1, "hand-offs")
    client.close()
    wait_equal(lingerd.queue, 0, "sockets in lingerd")
    lingerd.restart()
    status = httpd.status()
    assert status["LingerHandoffs"] == 1
    assert status["LingerTotal"] == status["LingerQueuePeak"] == 0
    httpd.stop()
    httpd.start()
    assert httpd.status()["LingerHandoffs"] == 0
