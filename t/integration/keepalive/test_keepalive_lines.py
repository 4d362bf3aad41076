# SPDX-License-Identifier: Apache-2.0
"""Many parked connections that ask at the same time, and an httpd that can't take them all at once: each
gets its turn, and its answer."""
import pathlib
import time

import pytest

from harness import httpd_conf, keepalive, logs, record, stand_in
from harness.keepalive import KeepAlive, wait_counted, wait_parked
from harness.stand_in import StandIn
from harness.waiting import wait_until

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", [1_200, 2_000])
def test_everybody_is_answered_by_an_httpd_at_full_speed(sandbox, count):
    """400 a second, with a listen queue of 511; each asks again when it has its answer. Would catch
    newcomers that overtake those that wait, and connections that are closed while others get through."""
    lingerd = sandbox.lingerd()
    with record.Child(lingerd.socket_path) as child, \
            StandIn(sandbox.directory, rate=400, child=child) as httpd:
        assert child.greeting() == record.WELCOME
        ends = stand_in.park(child, httpd.way, count)
        wait_parked(lingerd, count)
        # More than what is over by the time after which the first ones would be closed.
        assert stand_in.ask(ends, REQUEST, answers=7_000).keys() == {"answered"}
        assert lingerd.counters()["LingerReturnFailed"] == 0
        for end in ends:
            end.close()


@pytest.mark.timeout(240)
def test_a_long_line_costs_next_to_nothing(sandbox):
    """9,000 that wait for an httpd that takes nobody. Would catch one attempt for each of them, again
    and again: that was nine tenths of a processor."""
    lingerd = sandbox.lingerd()
    with StandIn(sandbox.directory, rate=3_000, backlog=8) as httpd, \
            record.Child(lingerd.socket_path) as child:
        assert child.greeting() == record.WELCOME
        httpd.went_on.clear()
        ends = stand_in.park(child, httpd.way, 9_000)
        wait_parked(lingerd, 9_000)
        for end in ends:
            end.sendall(REQUEST)
        time.sleep(1)  # for those that have room in the queue
        before, began = _processor_seconds(lingerd.pid), time.monotonic()
        time.sleep(3)
        share = (_processor_seconds(lingerd.pid) - before) / (time.monotonic() - began)
        print(f"{share:.1%} of a processor")
        assert share < 0.2
        httpd.went_on.set()
        assert stand_in.ask(ends, b"", answers=9_000).keys() == {"answered"}
        wait_counted(lingerd, ReturnFailed=0, Parked=0)
        for end in ends:
            end.close()


@pytest.mark.timeout(300)
def test_five_thousand_ask_in_the_same_second(sandbox):
    """A real httpd: 50 processes, and pages that take 20 ms."""
    load = httpd_conf.php_module()
    if load is None:
        pytest.skip("mod_php isn't installed")
    httpd, lingerd = keepalive.site(sandbox, "prefork", workers=50, config=f"""{load}
<FilesMatch "\\.php$">
  SetHandler application/x-httpd-php
</FilesMatch>
KeepAliveTimeout 300
MaxKeepAliveRequests 0
""")
    httpd.allowed_lines.append(logs.ALL_BUSY)
    (httpd.directory / "www" / "slow.php").write_text(
        '<?php usleep(20000); header("Content-Length: 2"); echo "ok";')
    connections = []
    wait_until(lambda: lingerd.counters()["LingerPeers"] == 50, "all processes are connected")
    for _ in range(5_000):
        connections.append(KeepAlive(httpd.port))
        assert connections[-1].ask()[0] == 200
    wait_parked(lingerd, len(connections))
    for connection in connections:
        connection.send("/slow.php")
    assert all(connection.response()[0] == 200 for connection in connections)
    assert lingerd.counters()["LingerReturnFailed"] == 0
    for connection in connections:
        connection.socket.close()
