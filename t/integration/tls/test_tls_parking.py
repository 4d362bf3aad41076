# SPDX-License-Identifier: Apache-2.0
"""LingerKeepAliveTLS: TLS connections wait in lingerd, and any process goes on with them."""
import pytest

from harness import tls_parking
from harness.keepalive import wait_parked
from harness.tls_parking import TlsKeepAlive

PARKING = ("prefork", "worker")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


def test_idle_connections_free_their_workers(sandbox, mpm):
    """With two workers, eight TLS connections; each request finds a worker."""
    httpd, lingerd = tls_parking.site(sandbox, mpm, workers=2)
    connections = []
    for turn in range(4):
        for number in range(8):
            if turn == 0:  # a handshake holds a worker until the first request
                connections.append(TlsKeepAlive(httpd.ports["tls"]))
            connection = connections[number]
            status, _, body = connection.ask()
            assert (status, body) == (200, b"hello, world\n"), (turn, number)
        wait_parked(lingerd, 8, total=8 * (turn + 1))
    for connection in connections:
        connection.goodbye()
    wait_parked(lingerd, 0)
    status = httpd.status()
    assert status["LingerTlsResumed"] == 24
    assert status["LingerParkedTlsTotal"] == 32
