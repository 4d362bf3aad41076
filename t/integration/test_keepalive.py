# SPDX-License-Identifier: Apache-2.0
"""LingerKeepAlive: idle connections wait in lingerd and come back to any free worker."""
import pytest

from harness import keepalive
from harness.keepalive import KeepAlive, wait_parked

PARKING = ("prefork", "worker")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


@pytest.fixture(scope="module")
def site(module_sandbox, mpm):
    return keepalive.site(module_sandbox, mpm)


def test_idle_connections_free_their_workers(sandbox, mpm):
    """With two workers, twelve connections; each request finds a worker."""
    httpd, lingerd = keepalive.site(sandbox, mpm, workers=2)
    connections = [KeepAlive(httpd.port) for _ in range(12)]
    for turn in range(3):
        for number, connection in enumerate(connections):
            status, _, body = connection.ask()
            assert (status, body) == (200, b"hello, world\n"), (turn, number)
        wait_parked(lingerd, 12)
    for connection in connections:
        connection.socket.close()
    wait_parked(lingerd, 0)
    counters = lingerd.counters()
    assert counters["LingerParkedTotal"] == 36
    assert counters["LingerReturned"] == 24
    assert counters["LingerParkClosedByClient"] == 12
    assert keepalive.parks_add_up(counters)
