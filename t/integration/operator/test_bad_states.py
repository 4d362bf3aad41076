# SPDX-License-Identifier: Apache-2.0
"""Each state in which the two can't work together is told once, in words that name the remedy. (What
SELinux does is produced on a machine that has it: t/system/lsm. Here is what each of its denials
looks like from inside: a connection that isn't permitted, a record without its descriptor.)"""
import resource
import socket
import struct
import threading

import pytest

from harness import clients, logs, proc
from harness.httpd import content
from harness.lingerd import run_lingerd
from harness.record import GREETING_MAGIC, WELCOME, Child, record, tcp_pair
from harness.waiting import wait_until

NEXT_VERSION = 2


@pytest.fixture(name="mpm")
def mpm_fixture():
    """What is told doesn't depend on the MPM."""
    return "prefork"


def told_once(httpd, words, remedy):
    """The line is in the error log, names the remedy, and is there only once however many
    connections meet that state; every client is served."""
    # Its few workers linger themselves meanwhile, so all of them may be busy.
    httpd.allowed_lines += [words, logs.ALL_BUSY]
    for _ in range(10):
        assert clients.fetch(httpd.port) == (200, content("hello.txt"))
    line, = wait_until(lambda: httpd.error_log.matching(words), lambda: words + httpd.log_tails())
    assert "[linger:warn]" in line
    assert remedy in line, line


def test_module_without_a_daemon(mpm, sandbox):
    httpd = sandbox.httpd(mpm, lingerd=sandbox.lingerd(start=False))
    told_once(httpd, "lingerd is down: nobody listens at",
              "Start it (systemctl start lingerd.socket) or correct LingerSocket")


def test_socket_not_permitted(mpm, sandbox):
    """The socket's mode; a policy that forbids the connection gives the same errno."""
    httpd = sandbox.httpd(mpm, lingerd=sandbox.lingerd(mode="0600"))
    told_once(httpd, "lingerd denied: httpd's user may not use",
              "See lingerd's --socket-group, --socket-mode and --allow-user, the directory's "
              "permissions, SELinux's audit log")


def _greet_like_the_next_version(listener):
    greeting = struct.pack("=IHHQ", GREETING_MAGIC, NEXT_VERSION, WELCOME, 0)
    connections = []
    try:
        while True:
            connection, _ = listener.accept()
            connections.append(connection)
            connection.send(greeting)
    except OSError:
        pass
    for connection in connections:
        connection.close()


def test_daemon_of_another_record_version(mpm, sandbox):
    """Told by the module; nothing is handed off to be misread."""
    path = sandbox.directory / "next.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(100)
        thread = threading.Thread(target=_greet_like_the_next_version, args=(listener,))
        thread.start()
        httpd = sandbox.httpd(mpm, socket_path=path)
        told_once(httpd, "takes records of another version than this module's",
                  "Upgrade both and restart them")
        assert httpd.status()["LingerHandoffs"] == 0
        assert not httpd.stop()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_module_of_another_record_version(sandbox):
    """The same from the other end: a module that doesn't look at the greeting. Its clients' sockets
    are closed, not misread, and lingerd says whose they were."""
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines.append("refused a record of a newer version")
    with Child(lingerd.socket_path) as child:
        child.greeting()
        client, server = tcp_pair()
        with client, server:
            child.send(record(version=NEXT_VERSION), [server])
            wait_until(lambda: lingerd.counters()["LingerRejected"] == 1, "it is rejected")
    line, = lingerd.log.matching("refused a record of a newer version")
    assert "from process" in line


def test_record_without_its_descriptor(sandbox):
    """What arrives under a policy that forbids lingerd to use httpd's descriptors, and also when
    lingerd has no room for one more: the record, but not the socket."""
    lingerd = sandbox.lingerd()
    words = "refused a record whose descriptor got lost"
    lingerd.allowed_lines += [words, "can't accept a connection: out of descriptors"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        client, server = tcp_pair()
        with client, server:
            full = max(proc.fds(lingerd.pid)) + 1
            limits = resource.prlimit(lingerd.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(lingerd.pid, resource.RLIMIT_NOFILE, (full, limits[1]))
            child.send(record(), [server])
            wait_until(lambda: lingerd.counters()["LingerRejected"] == 1, "it is rejected")
            resource.prlimit(lingerd.pid, resource.RLIMIT_NOFILE, limits)
    line, = lingerd.log.matching(words)
    assert "too many open, or a policy (SELinux) took it away" in line


def test_two_lingerds_on_one_path(sandbox):
    """The second one is refused with the reason, and the first one goes on."""
    lingerd = sandbox.lingerd()
    second = run_lingerd("--socket", lingerd.socket_path)
    assert second.returncode == 1
    assert second.stderr == (
        f"lingerd: socket {lingerd.socket_path}: another lingerd is running there; stop it first, "
        "or choose another --socket\n")
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        child.lingering_client().close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 1, "it still serves")
