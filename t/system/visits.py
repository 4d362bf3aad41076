# SPDX-License-Identifier: Apache-2.0
"""What lingerd does for clients, the same whatever started it: idle connections wait in it and come back, the
rest of a response is delivered."""
import contextlib

from harness import clients
from harness.keepalive import KeepAlive
from harness.waiting import wait_equal, wait_until

PAGE = b"".join(b"%08d" % i for i in range(8192))  # 64 KB, no two stretches alike


def idle_connections_wait(site, count, events):
    """`count` clients ask, wait in lingerd, ask again after each of the events: (what restarts, ...)."""
    site.use_mpm("prefork")
    site.wait_up()
    site.put("page", PAGE)
    with site.configured("LingerKeepAlive On\nKeepAliveTimeout 300\n"), contextlib.ExitStack() as stack:
        before = site.status()
        kept = [stack.enter_context(KeepAlive(80)) for _ in range(count)]
        for event in (None, *events):
            if event:
                event()
            for client in kept:
                assert client.ask("/page")[::2] == (200, PAGE)
            wait_until(lambda: site.counter("LingerParked") >= count,
                       lambda: f"they wait in lingerd: {site.status()}")
        after = site.status()
        assert after["LingerReturned"] >= before["LingerReturned"] + len(events) * count
        assert after["LingerReturnFailed"] == after["LingerReturnsRefused"] == 0
        assert after["Scoreboard"].count("K") < 5


def rest_is_delivered(site):
    site.put("large", PAGE * 200)
    with site.configured("LingerOffload On\n"), contextlib.ExitStack() as stack:
        before = site.counter("LingerDelivered")
        slow = stack.enter_context(clients.stalled_reader(80, "/large"))
        wait_until(lambda: site.counter("LingerOffloadPending") >= 1,
                   lambda: f"a delivery is under way: {site.status()}")
        assert clients.split(clients.read_to_fin(slow)) == (200, PAGE * 200)
        wait_equal(lambda: site.counter("LingerDelivered"), before + 1, "delivered")
