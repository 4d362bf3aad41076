# SPDX-License-Identifier: Apache-2.0
"""Every connection ends in exactly one of the module's counts, and every socket in exactly one of
lingerd's."""
import pytest

from harness import clients, stats
from harness.httpd import FATES, content
from harness.sandbox import settle
from harness.waiting import wait_equal

CONFIG = """
<VirtualHost 127.0.0.1:@main@>
  ServerName localhost
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName off.test
  Linger Off
</VirtualHost>
"""


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    return module_sandbox.site(mpm, workers=4, processes=2, config=CONFIG,
                               linger_directives="LingerTimeout 60\nLingerTime 60\n")


def fates(httpd):
    """{fate: count} without our looks at the counters, each of which is a connection that ends too
    (LeftOff), but only after it has told the numbers."""
    status = httpd.status()
    found = {fate.removeprefix("Linger"): status[fate] for fate in FATES}
    found["LeftOff"] -= httpd.looks - 1
    return found


def wait_counted(httpd, before, **expected):
    """Waits until the fates have grown by `expected`, and by nothing else."""
    wanted = dict.fromkeys(before, 0) | expected
    wait_equal(lambda: {fate: count - before[fate] for fate, count in fates(httpd).items()},
               wanted, "connections by fate")


def test_late_close_is_a_hand_off(site):
    """Would catch a hand-off that counts twice, or not."""
    httpd, _ = site
    before = fates(httpd)
    held = [clients.late_closer(httpd.port)[0] for _ in range(10)]
    wait_counted(httpd, before, Handoffs=10)
    for client in held:
        client.close()


def test_early_close_is_none(site):
    """The client's FIN was there first. Would catch a pointless hand-off, or a lost count."""
    httpd, lingerd = site
    total = settle(httpd)["LingerTotal"]
    before = fates(httpd)
    for _ in range(10):
        assert clients.early_closer(httpd.port) == (200, content("hello.txt"))
    wait_counted(httpd, before, AlreadyClosed=10)
    assert lingerd.counters()["LingerTotal"] == total


def test_reset_is_aborted(site):
    """An RST in the middle of a response. Would catch a hand-off of a dead connection."""
    httpd, lingerd = site
    total = settle(httpd)["LingerTotal"]
    before = fates(httpd)
    for _ in range(5):
        client = clients.connect(httpd.port, receive_buffer=4096)
        client.sendall(clients.request("/4m.bin"))  # more than all buffers on the way hold
        client.recv(100)
        clients.reset(client)
    wait_counted(httpd, before, Aborted=5)
    assert lingerd.counters()["LingerTotal"] == total


def test_linger_off(site):
    """Would catch a vhost's Linger Off that its address's default server overrules."""
    httpd, lingerd = site
    total = settle(httpd)["LingerTotal"]
    before = fates(httpd)
    for _ in range(5):
        assert clients.fetch(httpd.port, host="off.test") == (200, content("hello.txt"))
    wait_counted(httpd, before, LeftOff=5)
    assert lingerd.counters()["LingerTotal"] == total


def test_nothing_but_a_connection(site):
    """A client that connects and goes away: httpd closes that connection as well. Would catch a
    count that depends on a request."""
    httpd, _ = site
    before = fates(httpd)
    for _ in range(5):
        clients.connect(httpd.port).close()
    wait_counted(httpd, before, AlreadyClosed=5)


def test_a_mix_adds_up(site):
    """All of them at once, on all processes. Would catch counters that lose updates, and lingerd's
    totals when they part from the module's."""
    httpd, lingerd = site
    ends_before = settle(httpd)
    before = fates(httpd)
    held, resetters = [], []
    for _ in range(10):
        held.append(clients.late_closer(httpd.port)[0])
        resetters.append(clients.late_closer(httpd.port)[0])
        clients.early_closer(httpd.port)
        clients.fetch(httpd.port, host="off.test")
        clients.connect(httpd.port).close()
    wait_counted(httpd, before, Handoffs=20, AlreadyClosed=20, LeftOff=10)
    wait_equal(lingerd.queue, 20, "sockets in lingerd")
    for client in held:
        client.close()
    for client in resetters:
        clients.reset(client)
    ends = settle(httpd)
    assert ends["LingerClosedByClient"] - ends_before["LingerClosedByClient"] == 10
    assert ends["LingerClosedByReset"] - ends_before["LingerClosedByReset"] == 10


def test_the_halves_agree(site):
    """Would catch a socket that the module counts as handed off and lingerd as nothing. All that
    ran before on this httpd is in these numbers."""
    httpd, lingerd = site
    status = settle(httpd)
    assert status["LingerTotal"] == status["LingerHandoffs"] > 0
    assert status["LingerRejected"] == 0
    assert status["LingerFallbacks"] == sum(
        status["LingerFallbacks" + reason] for reason in ("Down", "Busy", "Denied"))
    assert stats.adds_up(status) and stats.adds_up(lingerd.counters())


def test_invariant_while_busy(site):
    """LingerTotal = LingerQueue + every way of ending, in each reading while the numbers move.
    Would catch a page that is torn, or an end counted before its socket has left the queue."""
    httpd, lingerd = site
    for round_number in range(30):
        held = [clients.late_closer(httpd.port)[0] for _ in range(5)]
        assert stats.adds_up(lingerd.counters())
        assert stats.adds_up(httpd.status())
        for client in held:
            if round_number % 2:
                client.close()
            else:
                clients.reset(client)
        assert stats.adds_up(lingerd.counters())
