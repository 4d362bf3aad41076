# SPDX-License-Identifier: Apache-2.0
"""What must never happen: a sequence number used twice, a state that goes on with another connection,
bytes from a process that has given its connection away. The test sits where lingerd does."""
import pathlib
import shutil
import subprocess
import time

import pytest

from harness import clients, inject, places, tap, tls_parking
from harness.httpd import PERTURBED
from harness.keepalive import KeepAlive
from harness.tap import REFUSED, is_refused
from harness.tls_parking import TlsKeepAlive
from harness.waiting import wait_until

PARKING = ("prefork", "worker")

pytestmark = pytest.mark.skipif(not places.am_root(), reason="needs root")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


@pytest.fixture
def tapped(sandbox, mpm, request):
    """(httpd, tap). Where a worker is to serve the connection still, it waits itself for a second."""
    between = tap.Tap(sandbox)
    between.owned_by(0)
    after_ms = 1000 if request.node.callspec.params.get("when") == "served" else 20
    httpd = sandbox.httpd(mpm, socket_path=between.socket_path,
                          **tls_parking.configuration(sandbox, after_ms=after_ms))
    return httpd, between


def _parked_one(httpd, between):
    """(client, its connection as httpd parked it)"""
    client = TlsKeepAlive(httpd.ports["tls"])
    assert client.ask()[0] == 200
    return client, between.next_parked()


def _has_got_nothing(client):
    """Neither a byte nor an end."""
    client.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.socket.recv(1)
    client.socket.settimeout(60)


def test_as_it_was(tapped):
    """The tap does what lingerd does: what is refused below is not refused for its own sake."""
    httpd, between = tapped
    client, idle = _parked_one(httpd, between)
    tap.as_it_was(httpd, between, client, idle)
    assert httpd.status()["LingerTlsResumed"] == 3
    client.socket.close()


@pytest.mark.parametrize("when", ["served", "parked again"])
def test_comes_back_once(tapped, when):
    """A second process that went on from the same state would use its sequence numbers again, with other
    bytes: that breaks GCM for both sides. Refused whether the first one still serves it or has parked it
    again; and that one isn't harmed."""
    httpd, between = tapped
    client, idle = _parked_one(httpd, between)
    client.send()
    idle.bring().close()
    assert client.response()[0] == 200
    again = between.next_parked() if when == "parked again" else None
    if again is None:
        is_refused(httpd, idle.bring(), "has come back before")
    else:
        is_refused(httpd, idle.bring(), "hasn't parked")
    _has_got_nothing(client)
    again = again or between.next_parked()
    assert httpd.status()["LingerReturnsRefused"] == 1
    if when == "served":
        assert httpd.status()["LingerTlsRefused"] == 1
    client.send()
    again.bring().close()
    assert client.response()[0] == 200
    client.socket.close()


def test_many_at_once(tapped):
    """Sixteen attempts in the same moment: one of them gets it."""
    httpd, between = tapped
    client, idle = _parked_one(httpd, between)
    httpd.allowed_lines.append(REFUSED)
    client.send()
    attempts = [idle.bring() for _ in range(16)]
    assert client.response()[0] == 200
    for attempt in attempts:
        tap.hears_nothing(attempt)
    # Counted a moment after the connection has been closed.
    wait_until(lambda: httpd.status()["LingerReturnsRefused"] == 15, "fifteen are refused")
    assert httpd.status()["LingerTlsResumed"] == 1
    client.socket.close()


def test_of_another_connection(tapped):
    """Two clients' connections under each other's names: neither gets a byte of the other's."""
    httpd, between = tapped
    one, its = _parked_one(httpd, between)
    two, others = _parked_one(httpd, between)
    one.send("/hello.txt?one")
    two.send("/hello.txt?two")
    is_refused(httpd, its.bring(client=others.client), "hasn't parked")
    is_refused(httpd, others.bring(client=its.client), "hasn't parked")
    _has_got_nothing(one)
    _has_got_nothing(two)
    its.bring().close()
    others.bring().close()
    assert one.response()[0] == two.response()[0] == 200
    for each in (one, two):
        each.socket.close()


def test_one_without_tls_stays_one(tapped):
    """No return makes of a TLS connection one in the clear, or the other way round."""
    httpd, between = tapped
    client, idle = _parked_one(httpd, between)
    with KeepAlive(httpd.port) as plain:
        assert plain.ask()[0] == 200
        its = between.next_parked()
        plain.send()
        is_refused(httpd, idle.bring(client=its.client), "hasn't parked")
        is_refused(httpd, its.bring(client=idle.client), "hasn't parked")
        its.bring().close()
        assert plain.response()[0] == 200
    client.socket.close()


def test_nothing_is_written_after_it_has_gone(tapped):
    """The process that has parked it ends its connection, with all that modules do at an end; the client
    hears nothing of that."""
    httpd, between = tapped
    client, idle = _parked_one(httpd, between)
    wait_until(lambda: httpd.status()["BusyWorkers"] == "1", "the worker is free")
    _has_got_nothing(client)
    client.send()
    idle.bring().close()
    assert client.response()[0] == 200
    again = between.next_parked()
    wait_until(lambda: httpd.status()["BusyWorkers"] == "1", "that of the second stay, too")
    _has_got_nothing(client)
    again.bring().close()
    client.send()
    assert client.response()[0] == 200
    client.socket.close()


CARELESS = """
#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
static int say_goodbye(conn_rec* c) {
  int aborted = c->aborted;
  c->aborted = 0;
  ap_flush_conn(c);
  c->aborted = aborted;
  return DECLINED;
}
static void hooks(apr_pool_t* pool) {
  (void)pool;
  ap_hook_pre_close_connection(say_goodbye, NULL, NULL, APR_HOOK_MIDDLE);
}
module AP_MODULE_DECLARE_DATA careless_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, hooks};
"""


def test_not_even_a_careless_module_writes(sandbox, mpm):
    """One that flushes a connection that has ended, with TLS's goodbye at its end."""
    if not shutil.which("apxs"):
        pytest.skip("there is no apxs here")
    (sandbox.directory / "mod_careless.c").write_text(CARELESS)
    subprocess.run(["apxs", "-c", "mod_careless.c"], cwd=sandbox.directory, check=True, capture_output=True)
    library = sandbox.directory / ".libs" / "mod_careless.so"
    between = tap.Tap(sandbox)
    between.owned_by(0)
    options = tls_parking.configuration(
        sandbox, config=f'LoadModule careless_module "{library}"\nLingerKeepAliveTrust mod_careless.c\n')
    httpd = sandbox.httpd(mpm, socket_path=between.socket_path, **options)
    client, idle = _parked_one(httpd, between)
    for _ in range(2):
        wait_until(lambda: httpd.status()["BusyWorkers"] == "1", "the worker is free")
        _has_got_nothing(client)
        client.send()
        idle.bring().close()
        assert client.response()[0] == 200
        idle = between.next_parked()
    client.socket.close()


def _shim(sandbox, name):
    return inject.compiled(sandbox, pathlib.Path(__file__).with_name(f"{name}.c"))


@pytest.mark.parametrize("side", ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "none"])
def test_keys_are_tried_first(sandbox, mpm, side):
    """An OpenSSL that tells something else than it uses: nothing is parked, and nobody is harmed."""
    lingerd = sandbox.lingerd()
    environment = {"LD_PRELOAD": _shim(sandbox, "keylog_shim"), "WRONG_SECRET": side}
    httpd = inject.httpd(sandbox, environment, mpm, lingerd=lingerd,
                         **tls_parking.configuration(sandbox, log_level="notice linger:debug"))
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        for _ in range(3):
            assert connection.ask()[0] == 200
            time.sleep(0.1)
        if side == "none":
            assert lingerd.counters()["LingerParkedTotal"] > 0
            return
        assert lingerd.counters()["LingerParkedTotal"] == 0
        assert httpd.error_log.matching("records that its secrets don't open")


def test_child_ends_within_openssl(sandbox):
    """Prefork ends a child in its signal handler, at any instruction; also where OpenSSL then frees mod_ssl's
    object without telling anybody, because the lock for that is held. Freed memory has a pattern in it, and
    a crash is a line in the log."""
    environment = {"LD_PRELOAD": _shim(sandbox, "ending_shim"), **PERTURBED}
    httpd = inject.httpd(sandbox, environment, "prefork", lingerd=sandbox.lingerd(),
                         **tls_parking.configuration(sandbox))
    before = set(httpd.children())
    with pytest.raises((clients.NoResponse, ConnectionResetError)):
        TlsKeepAlive(httpd.ports["tls"])
    wait_until(lambda: before - set(httpd.children()), "the child has ended")
