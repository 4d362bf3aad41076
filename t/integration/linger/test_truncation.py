# SPDX-License-Identifier: Apache-2.0
"""The reason for everything: a response survives bytes that the client sends after the end."""
import pytest

from harness import clients
from harness.abrupt import abrupt_server
from harness.httpd import content
from harness.waiting import wait_equal, wait_until


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    httpd, lingerd = module_sandbox.site(mpm)
    yield httpd, lingerd


def test_closing_at_once_truncates():
    """The control: without any lingering the same client loses its response to an RST. If it
    doesn't, the tests below prove nothing on this kernel."""
    with abrupt_server("64k.bin") as port:
        for _ in range(5):
            with clients.stalled_reader(port, "/64k.bin") as client:
                assert clients.answered(client, 10)
                response, was_reset = clients.truncation_check(client, stall=0.05)
                assert was_reset
                assert len(response) < len(content("64k.bin"))


@pytest.mark.parametrize("path", ["64k.bin", "300k.bin"])
def test_response_arrives_whole(site, path):
    """Would catch a hand-off that closes with unread bytes, that stops draining, or a daemon that
    ends the linger of a client which still reads."""
    httpd, lingerd = site
    before = lingerd.counters()
    for count in range(1, 6):
        with clients.stalled_reader(httpd.port, "/" + path) as client:
            # Late bytes have to come after the FIN, that is, after the hand-off.
            wait_until(lambda: lingerd.counters()["LingerTotal"] == before["LingerTotal"] + count,
                       "the hand-off")
            response, was_reset = clients.truncation_check(client, pause=0.001)
        assert not was_reset
        assert clients.split(response) == (200, content(path))
    wait_equal(lambda: lingerd.counters()["LingerRescued"], before["LingerRescued"] + 5, "rescued")
    wait_equal(lambda: lingerd.counters()["LingerDrainedBytes"],
               before["LingerDrainedBytes"] + 5000, "drained bytes")


def test_stalled_client_gets_its_response(site):
    """Would catch a daemon that gives up as early as stock prefork and worker do (2 s of silence):
    those lose every one of these responses."""
    httpd, lingerd = site
    rescued = lingerd.counters()["LingerRescued"]
    with clients.stalled_reader(httpd.port, "/300k.bin") as client:
        response, was_reset = clients.truncation_check(client, stall=3, pause=0.005)
    assert not was_reset
    assert clients.split(response) == (200, content("300k.bin"))
    wait_equal(lambda: lingerd.counters()["LingerRescued"], rescued + 1, "rescued")


def test_stock_loses_a_stalled_client(mpm, sandbox):
    """The control for the test above: stock prefork and worker lose that response, event (which
    waits 30 s) doesn't. If stock httpd learns better, the README's claim has to go."""
    httpd = sandbox.httpd(mpm)
    with clients.stalled_reader(httpd.port, "/300k.bin") as client:
        response, was_reset = clients.truncation_check(client, stall=3, pause=0.005)
    if mpm == "event":
        assert not was_reset and clients.split(response) == (200, content("300k.bin"))
    else:
        assert was_reset and len(response) < len(content("300k.bin"))
