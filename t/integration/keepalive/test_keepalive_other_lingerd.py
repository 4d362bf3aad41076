# SPDX-License-Identifier: Apache-2.0
"""httpd gets another lingerd while connections are parked: another LingerSocket, or another process at
the same one. What the one before brings back is as good as it was, and what the log said of it holds
for the next one no more."""
import contextlib
import os
import queue
import struct

import pytest

from harness import places, stats, tap
from harness.keepalive import KeepAlive
from harness.waiting import wait_until

CONFIG = "KeepAliveTimeout 60\n"
STOPS = "LingerKeepAlive stops"
_PID = 48  # where in the page

pytestmark = pytest.mark.skipif(not places.am_root(), reason="needs root")


@pytest.fixture(scope="module", params=("prefork", "worker"))
def mpm(request):
    return request.param


def _site(sandbox, mpm, between):
    httpd = sandbox.httpd(mpm, socket_path=between.socket_path, config=CONFIG,
                          linger_directives="LingerKeepAlive On\n")
    httpd.allowed_lines += ["AH00161", "AH00286"]
    return httpd


def _parked(httpd, between):
    client = KeepAlive(httpd.port)
    assert client.ask()[0] == 200
    return client, between.next_parked()


def _answered(client, idle):
    client.send()
    idle.bring().close()
    assert client.response()[0] == 200


def test_a_socket_of_another_users_lingerd(sandbox, mpm):
    """LingerSocket leads to a lingerd of another user since a graceful restart, as where a site gets one
    of its own. The one before brings back what it still has: that is no reason to give the new one
    nothing. Would catch it being taken for a lingerd that has changed its user."""
    before, after = tap.Tap(sandbox), tap.Tap(sandbox)
    after.owned_by(places.httpd_user()[1])
    httpd = _site(sandbox, mpm, before)
    client, idle = _parked(httpd, before)
    late, last = _parked(httpd, before)
    old = set(httpd.children())
    httpd.socket_path = after.socket_path
    httpd.write_config()
    httpd.graceful()
    wait_until(lambda: not old & set(httpd.children()), "the old children are gone")
    _answered(client, idle)
    again = after.next_parked()
    # Also when it has ended meanwhile, and its page is gone.
    before.lingerd.stop()
    before.forget()
    _answered(late, last)
    after.next_parked()
    assert again.keepalives == 2
    assert not httpd.error_log.matching(STOPS)
    client.socket.close()
    late.socket.close()


def test_another_process_of_the_same_number(sandbox, mpm):
    """In a container lingerd is process 1, and so is the next one. Where parking has stopped because its
    user can't be told, the log says to start it as another one: then it must go on."""
    between = tap.Tap(sandbox)
    between.owned_by(1)
    httpd = _site(sandbox, mpm, between)
    httpd.allowed_lines.append(STOPS)
    client, idle = _parked(httpd, between)
    _answered(client, idle)
    wait_until(lambda: httpd.error_log.matching(STOPS), "the log says so")
    following = sandbox.lingerd()
    number = stats.read_page(between.lingerd.stats_path)["pid"]
    with open(following.stats_path, "r+b") as page:
        assert struct.unpack("=Q", os.pread(page.fileno(), 8, _PID))[0] == following.pid
        os.pwrite(page.fileno(), struct.pack("=Q", number), _PID)
    between.shows_page_of(following)
    client.socket.close()

    def parks():
        with KeepAlive(httpd.port) as another:
            assert another.ask()[0] == 200
            with contextlib.suppress(queue.Empty):
                _answered(another, between.parked.get(timeout=0.3))
                return True
            return False

    wait_until(parks, "idle connections are parked again")
    assert len(httpd.error_log.matching(STOPS)) == 1
