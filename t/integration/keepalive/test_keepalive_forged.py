# SPDX-License-Identifier: Apache-2.0
"""What comes back to httpd must be a connection that this httpd has parked, as it was. Here the test
sits where lingerd does, or where a script of httpd's user does that can write to lingerd's socket,
and has a descriptor of the private listener's name as well."""
import contextlib
import ctypes
import os
import socket
import subprocess

import pytest

from harness import clients, inject, keepalive, places, record, tap
from harness.keepalive import KeepAlive
from harness.tap import REFUSED, is_refused
from harness.waiting import wait_until

PARKING = ("prefork", "worker")
CONFIG = "KeepAliveTimeout 60\n"
STOPS = "LingerKeepAlive stops"

pytestmark = pytest.mark.skipif(not places.am_root(), reason="needs root")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


def tapped(sandbox, mpm, owner=0, **options):
    """(httpd, tap); `owner`: of lingerd's stats page."""
    between = tap.Tap(sandbox)
    between.owned_by(owner)
    httpd = sandbox.httpd(mpm, socket_path=between.socket_path, config=CONFIG,
                          linger_directives="LingerKeepAlive On\n", **options)
    return httpd, between


def parked_one(httpd, between):
    """(client, its connection as httpd parked it). The child that serves the first one may not be
    connected yet, and keeps it."""
    client = KeepAlive(httpd.port)
    assert client.ask()[0] == 200
    return client, between.next_parked()


def refusals(httpd):
    return httpd.status()["LingerReturnsRefused"]


def test_as_it_was(sandbox, mpm):
    """The tap does what lingerd does: what is refused below is not refused for its own sake."""
    httpd, between = tapped(sandbox, mpm)
    client, idle = parked_one(httpd, between)
    idle = tap.as_it_was(httpd, between, client, idle)
    assert idle.keepalives == 4 and refusals(httpd) == 0
    client.socket.close()


CHANGES = {
    "tag": lambda idle: {"tag": idle.tag ^ 1},
    "no-tag": lambda idle: {"tag": 0},
    "keepalives": lambda idle: {"keepalives": 0},
    "timeout": lambda idle: {"keepalive_ms": 3_600_000},
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_on_its_way(sandbox, mpm, change):
    httpd, between = tapped(sandbox, mpm)
    client, idle = parked_one(httpd, between)
    client.send()
    is_refused(httpd, idle.bring(**CHANGES[change](idle)), "hasn't parked the connection")
    # Nor does it stop what is honest.
    idle.bring().close()
    assert client.response()[0] == 200
    assert refusals(httpd) == 1
    client.socket.close()


def test_of_another_connection(sandbox, mpm):
    """Two clients' connections under each other's names, and one that httpd never saw."""
    httpd, between = tapped(sandbox, mpm)
    one, its = parked_one(httpd, between)
    two, others = parked_one(httpd, between)
    is_refused(httpd, its.bring(client=others.client), "hasn't parked")
    stranger, server_end = record.tcp_pair()
    stranger.sendall(clients.request())
    is_refused(httpd, its.bring(client=server_end), "hasn't parked")
    server_end.close()
    with contextlib.suppress(ConnectionResetError):
        assert stranger.recv(100) == b""
    wait_until(lambda: refusals(httpd) == 2, "both are counted")
    for each in (one, two, stranger):
        getattr(each, "socket", each).close()


def test_of_another_httpd(sandbox, mpm):
    """Of the same configuration, the same lingerd, and the same machine."""
    httpd, between = tapped(sandbox, mpm)
    other = sandbox.httpd(mpm, socket_path=between.socket_path, config=CONFIG,
                          linger_directives="LingerKeepAlive On\n")
    client, idle = parked_one(httpd, between)
    others_client, others_idle = parked_one(other, between)
    client.send()
    is_refused(other, idle.bring(way_back=others_idle.way_back), "hasn't parked")
    idle.bring().close()
    assert client.response()[0] == 200
    client.socket.close()
    others_client.socket.close()


def _listening():
    return socket.create_server(("127.0.0.1", 0)), None


def _datagram():
    one, two = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    one.bind(("127.0.0.1", 0))
    two.bind(("127.0.0.1", 0))
    one.connect(two.getsockname())
    return one, two


def _unconnected():
    return socket.socket(), None


KINDS = {"unix": socket.socketpair, "datagram": _datagram,
         "file": lambda: (open("/dev/null", "rb"), None),
         # Without a client's address, as a connection that has been reset: not worth a line.
         "listening": _listening, "unconnected": _unconnected}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_connection(sandbox, mpm, kind):
    """lingerd sends none of them; if one came all the same nobody must serve it."""
    httpd, between = tapped(sandbox, mpm)
    client, idle = parked_one(httpd, between)
    one, two = KINDS[kind]()
    if kind in ("listening", "unconnected"):
        assert tap.hears_nothing(idle.bring(client=one))
    else:
        is_refused(httpd, idle.bring(client=one), "hasn't parked")
    client.send()
    idle.bring().close()
    assert client.response()[0] == 200
    for each in (one, two, client.socket):
        if each is not None:
            each.close()


# ---- An address of the script's own choice ----

CLONE_NEWNET = 0x40000000
FORGED = "198.51.100.77"


def _in_a_network_of_its_own(action):
    """Runs `action` in a child process whose loopback has an address of its choice."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    code = 1
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            code = 42
        else:
            subprocess.run(["ip", "addr", "add", f"{FORGED}/32", "dev", "lo"], check=True)
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            action()
            code = 0
    finally:
        os._exit(code)


def _as_itself_from(address, port):
    """A connection from `address` to where httpd listens outside: (client, server end)."""
    listener = socket.create_server(("127.0.0.1", port))
    client = socket.socket()
    client.settimeout(30)
    client.bind((address, 0))
    client.connect(("127.0.0.1", port))
    return client, listener.accept()[0]


@pytest.mark.parametrize("tag", [0, 0x123456789ABCDEF0])
def test_an_address_of_ones_own_choice(sandbox, mpm, tag):
    """A script in a network namespace of its own connects to itself, and sends lingerd the server's
    end as an idle connection of httpd's. Would catch httpd taking it for a client at that address."""
    httpd, lingerd = keepalive.site(
        sandbox, mpm, config=CONFIG + f"<Location /hello.txt>\nRequire ip {FORGED}\n</Location>\n")
    httpd.allowed_lines += [REFUSED, "AH01630"]
    assert clients.fetch(httpd.port)[0] == 403
    way_back = os.open(keepalive.listener_of(httpd), os.O_PATH)

    def forge():
        client, server_end = _as_itself_from(FORGED, httpd.port)
        with record.Child(lingerd.socket_path) as child:
            assert child.greeting() == record.WELCOME
            child.send(record.record(kind=record.IDLE, stall_ms=60_000, keepalives=1, ticket=tag),
                       [server_end, way_back])
            server_end.close()
            client.sendall(clients.request())
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1000) == b""

    status = _in_a_network_of_its_own(forge)
    os.close(way_back)
    if os.waitstatus_to_exitcode(status) == 42:
        pytest.skip("can't have a network namespace here")
    assert status == 0
    wait_until(lambda: refusals(httpd) == 1, "it is counted")
    assert FORGED not in httpd.access_log.text()
    # What others park isn't affected.
    with KeepAlive(httpd.port) as client:
        for _ in range(2):
            assert client.ask()[0] == 403
            keepalive.wait_parked(lingerd, 1)


# ---- Refusals that would cost an honest client its request ----

def test_lingerd_that_cannot_be_told(sandbox, mpm):
    """Its page belongs to somebody else (a lingerd that changed its user after it had made it), or
    its user is one that httpd's user namespace doesn't know. The first request is answered, nothing
    more is parked, and the log says once what to do."""
    httpd, between = tapped(sandbox, mpm, owner=1, workers=2)
    httpd.allowed_lines += [STOPS, "AH00161", "AH00286"]
    client, idle = parked_one(httpd, between)
    client.send()
    idle.bring().close()
    assert client.response()[0] == 200
    for _ in range(3):
        assert client.ask()[0] == 200
    with KeepAlive(httpd.port) as another:
        assert another.ask()[0] == another.ask()[0] == 200
    wait_until(lambda: httpd.error_log.matching(STOPS), "the log says so")
    line, = httpd.error_log.matching(STOPS)
    assert "user 0" in line and "user 1" in line and "--user" in line
    assert between.parked.empty()
    assert refusals(httpd) == 0
    client.socket.close()


def test_parks_again_when_mended(sandbox, mpm):
    httpd, between = tapped(sandbox, mpm, owner=1)
    httpd.allowed_lines.append(STOPS)
    client, idle = parked_one(httpd, between)
    client.send()
    idle.bring().close()
    assert client.response()[0] == 200
    between.owned_by(0)
    httpd.graceful()
    another, again = parked_one(httpd, between)
    another.send()
    again.bring().close()
    assert another.response()[0] == 200
    client.socket.close()
    another.socket.close()


def test_the_descriptor_gets_lost(sandbox, mpm):
    """As where a security policy takes it away from the message."""
    httpd, between = tapped(sandbox, mpm)
    httpd.allowed_lines.append(STOPS)
    client, idle = parked_one(httpd, between)
    client.send()
    is_refused(httpd, idle.bring(client=False), "it brought no client")
    with KeepAlive(httpd.port) as another:
        for _ in range(3):
            assert another.ask()[0] == 200
    line, = httpd.error_log.matching(STOPS)
    assert "without its descriptor" in line
    assert between.parked.empty()
    client.socket.close()


def test_no_number_for_the_client(sandbox):
    """dup3() fails where the client's socket is to take the place of lingerd's connection. Would
    catch httpd speaking HTTP to lingerd."""
    rules = inject.Rules(sandbox.directory)
    between = tap.Tap(sandbox)
    httpd = inject.httpd(sandbox, rules.environment(), "prefork",
                         socket_path=between.socket_path, config=CONFIG,
                         linger_directives="LingerKeepAlive On\n")
    client, idle = parked_one(httpd, between)
    rules.fail("dup3", "EBUSY", count=1)
    client.send()
    is_refused(httpd, idle.bring(), "no descriptor")
    idle.bring().close()
    assert client.response()[0] == 200
    client.socket.close()


# ---- Connections that are odd, and honest ----

def test_half_closed(sandbox, mpm):
    """A client that has sent its FIN behind its request is answered."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config=CONFIG)
    client = KeepAlive(httpd.port)
    assert client.ask()[0] == 200
    keepalive.wait_parked(lingerd, 1)
    client.send()
    client.socket.shutdown(socket.SHUT_WR)
    assert client.response()[0] == 200
    assert client.closed_cleanly()
    assert refusals(httpd) == 0
    client.socket.close()


@pytest.mark.parametrize("listen,addresses", [
    ("@more@", ["127.0.0.1", "127.0.0.2", "::1"]), ("[::1]:@more@", ["::1"]),
    ("0.0.0.0:@more@", ["127.0.0.1", "127.0.0.3"])], ids=["all", "ipv6", "ipv4"])
def test_every_kind_of_listener(sandbox, mpm, listen, addresses):
    """IPv4 through an IPv6 socket too."""
    if "::1" in addresses:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError as failure:
            pytest.skip(f"no IPv6 here: {failure}")
    httpd, lingerd = keepalive.site(sandbox, mpm, config=f"{CONFIG}Listen {listen}\n",
                                    ports=["more"])
    for number, address in enumerate(addresses):
        with KeepAlive(httpd.ports["more"], address=address) as client:
            for turn in range(2):
                assert client.ask()[0] == 200
                keepalive.wait_parks(lingerd, 2 * number + turn + 1)
    assert refusals(httpd) == 0


def test_its_listener_is_gone(sandbox, mpm):
    """A graceful restart takes a port away, and with it the site there. Stock httpd closes idle
    connections then; a parked one is closed, as cleanly, with its next request."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config=CONFIG + "Listen 127.0.0.1:@more@\n",
                                    ports=["more"])
    httpd.allowed_lines.append(REFUSED)
    client, stays = KeepAlive(httpd.ports["more"]), KeepAlive(httpd.port)
    assert client.ask()[0] == stays.ask()[0] == 200
    keepalive.wait_parked(lingerd, 2)
    httpd.write_config(config=CONFIG)
    before = set(httpd.children())
    httpd.graceful()
    wait_until(lambda: not before & set(httpd.children()), "the old children are gone")
    client.send()
    assert client.closed_cleanly()
    assert stays.ask()[0] == 200
    wait_until(lambda: "no longer listens" in "".join(httpd.error_log.matching(REFUSED)), "logged")
    client.socket.close()
    stays.socket.close()
