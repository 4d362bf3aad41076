# SPDX-License-Identifier: Apache-2.0
"""A worker is free as soon as it has said its last byte, however long the client stays."""
import contextlib

import pytest

from harness import clients, logs, proc
from harness.httpd import content
from harness.waiting import wait_equal

# Over the clients that stay, and far over a test's time limit: nothing ends by itself.
FOREVER = "LingerTimeout 3600\nLingerTime 3600\n"
CLIENTS = 100


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    return module_sandbox.site(mpm, "--max-time", "3600", linger_directives=FOREVER, workers=4)


@pytest.mark.parametrize("trickling", [False, True], ids=["silent", "trickling"])
def test_workers_are_free(site, trickling):
    """Four workers answer 100 clients none of which closes. Would catch a worker that waits for
    its client: the fifth would never be answered, as no linger here ends by itself."""
    httpd, lingerd = site
    ended = lingerd.counters()["LingerTotal"]
    with contextlib.ExitStack() as stack:
        held = []
        tricklers = stack.enter_context(clients.Tricklers([])) if trickling else None
        for _ in range(CLIENTS):
            client, status, body = clients.late_closer(httpd.port)
            held.append(stack.enter_context(client))
            assert (status, body) == (200, content("hello.txt"))
            if tricklers:
                tricklers.add(client)
        wait_equal(lingerd.queue, CLIENTS, "sockets in lingerd")
        status = httpd.status()
        assert status["LingerQueue"] == CLIENTS
        assert "C" not in status["Scoreboard"]
        # event lingers without a worker, but not without the socket.
        assert proc.count_held(held, httpd.children()) == 0
        assert proc.count_held(held, [lingerd.pid]) == CLIENTS
        assert int(status["BusyWorkers"]) == 1  # the one that answers this question
    wait_equal(lingerd.queue, 0, "sockets in lingerd after the clients have closed")
    assert lingerd.counters()["LingerTotal"] == ended + CLIENTS


@pytest.mark.parametrize("blocking_mpm", ["prefork", "worker"])
def test_stock_workers_are_not(sandbox, blocking_mpm):
    """The control: four trickling clients hold stock httpd's four workers, and a fifth waits until
    one of them closes."""
    httpd = sandbox.httpd(blocking_mpm, workers=4)
    httpd.allowed_lines.append(logs.ALL_BUSY)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(clients.late_closer(httpd.port)[0]) for _ in range(4)]
        stack.enter_context(clients.Tricklers(held))
        fifth = stack.enter_context(clients.connect(httpd.port))
        fifth.sendall(clients.request())
        assert not clients.answered(fifth, 1.5)
        held[0].close()
        assert clients.split(clients.read_to_fin(fifth)) == (200, content("hello.txt"))
