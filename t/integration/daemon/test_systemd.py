# SPDX-License-Identifier: Apache-2.0
"""The protocols of systemd, spoken by systemd's own tool and by a socket of ours: activation,
readiness, watchdog."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

from harness import clients, places, proc
from harness.httpd import content
from harness.lingerd import environment
from harness.record import WELCOME, Child, welcomed
from harness.waiting import wait_equal, wait_until

ACTIVATE = shutil.which("systemd-socket-activate")


@contextlib.contextmanager
def activated(path, *arguments):
    """systemd-socket-activate: listens, and becomes lingerd on the first connection."""
    with open(path.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(
            [ACTIVATE, "--seqpacket", "-l", str(path), str(places.LINGERD), *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(),
            start_new_session=True)
    try:
        wait_until(lambda: proc.listens(path), "the activation socket")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        path.unlink(missing_ok=True)
    assert proc.session_members(process.pid) == []


needs_activate = pytest.mark.skipif(not ACTIVATE, reason="needs systemd-socket-activate")


@needs_activate
def test_socket_activation(sandbox):
    """The first httpd child's connection starts lingerd. Would catch a lingerd that binds a socket
    of its own, loses that first connection, or puts its stats page elsewhere."""
    path = sandbox.directory / "activated.sock"
    with activated(path, "--socket", "/nonexistent/unused.sock") as process:
        with Child(path) as child:
            assert child.greeting() == WELCOME
            client = child.lingering_client()
            stats_path = path.with_name(path.name + ".stats")
            wait_until(stats_path.exists, "the stats page")
            wait_equal(lambda: read(stats_path)["LingerQueue"], 1, "sockets in lingerd")
            assert read(stats_path)["pid"] == process.pid
            client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert path.is_socket()  # systemd's, not lingerd's to remove


def read(path):
    from harness import stats
    return stats.read_page(path)


@needs_activate
def test_activated_by_httpd(mpm, sandbox):
    """End to end: nobody has started lingerd when httpd starts. Would catch the first connections
    of each child falling back because no greeting has come."""
    path = sandbox.directory / "activated.sock"
    with activated(path):
        path.chmod(0o666)
        httpd = sandbox.httpd(mpm, socket_path=path)
        client, status, body = clients.late_closer(httpd.port)
        with client:
            assert (status, body) == (200, content("hello.txt"))
            wait_equal(lambda: httpd.status().get("LingerQueue"), 1, "sockets in lingerd")
        assert httpd.status()["LingerFallbacks"] == 0


@needs_activate
def test_wrong_kind_of_socket(sandbox):
    """ListenStream= instead of ListenSequentialPacket=. Would catch a lingerd that listens there
    and never gets a message it understands."""
    path = sandbox.directory / "stream.sock"
    with open(path.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen([ACTIVATE, "-l", str(path), str(places.LINGERD)],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env=environment())
    wait_until(lambda: proc.listens(path), "the activation socket")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert process.wait(20) == 6
    assert "ListenSequentialPacket" in path.with_suffix(".log").read_text()


class Notifications:
    """What a service manager hears on $NOTIFY_SOCKET."""

    def __init__(self, directory):
        self.path = directory / "notify.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def wait_for(self, word):
        """The time of the next message with this line."""
        while word not in self.socket.recv(4096).decode().splitlines():
            pass
        return time.monotonic()


@pytest.mark.parametrize("abstract", [False])
def test_ready_and_stopping(sandbox, abstract):
    """Would catch READY=1 before the socket listens, none at all, and a reload or a stop that the
    manager isn't told of."""
    with Notifications(sandbox.directory) as manager:
        lingerd = sandbox.lingerd(env={"NOTIFY_SOCKET": str(manager.path)}, start=False)
        lingerd.allowed_lines.append("configuration read again")
        lingerd.start()
        manager.wait_for("READY=1")
        with Child(lingerd.socket_path) as child:
            assert child.greeting() == WELCOME
            client = child.lingering_client()
            wait_equal(lingerd.queue, 1, "sockets in lingerd")
            lingerd.hang_up()
            manager.wait_for("RELOADING=1")
            manager.wait_for("READY=1")
            lingerd.terminate()
            manager.wait_for("STOPPING=1")
            client.close()
        assert lingerd.wait() == 0


def test_a_manager_that_does_not_read(sandbox):
    """Its queue is full, as that of a frozen systemd. Would catch a handover that waits for it."""
    with Notifications(sandbox.directory) as manager, contextlib.ExitStack() as stack:
        lingerd = sandbox.lingerd(env={"NOTIFY_SOCKET": str(manager.path)})
        lingerd.allowed_lines += ["handing over", "took over", "descriptor store: "]
        child = stack.enter_context(welcomed(lingerd))
        client = stack.enter_context(child.lingering_client())
        wait_equal(lingerd.queue, 1, "sockets in lingerd")
        other = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        other.setblocking(False)
        other.connect(str(manager.path))
        with contextlib.suppress(BlockingIOError):
            while True:
                other.send(b"X=1")
        # By an operator: from its parent it would be the manager's stop.
        subprocess.run(["kill", "-USR2", str(lingerd.pid)], check=True)
        wait_until(lambda: lingerd.log.text().count("listens at") == 2, "its successor serves")
        stack.enter_context(child.lingering_client())
        wait_equal(lingerd.queue, 2, "sockets in lingerd")
        assert client


@pytest.mark.parametrize("interval_ms", [600, 4000])
def test_watchdog(sandbox, interval_ms):
    """Would catch a lingerd that is killed by its watchdog while it is well: idle, or with a short
    WatchdogSec=. The middle one of the pauses tells, so that a busy test machine doesn't."""
    count = 11 if interval_ms < 1000 else 4
    with Notifications(sandbox.directory) as manager:
        sandbox.lingerd(env={"NOTIFY_SOCKET": str(manager.path),
                             "WATCHDOG_USEC": str(interval_ms * 1000)})
        times = [manager.wait_for("WATCHDOG=1") for _ in range(count)]
    pauses = sorted(later - earlier for earlier, later in zip(times, times[1:]))
    assert pauses[len(pauses) // 2] < interval_ms / 1000, pauses


def test_no_watchdog_without_being_asked(sandbox):
    """And none for another process: WATCHDOG_PID. Would catch a child that speaks for its parent."""
    with Notifications(sandbox.directory) as manager:
        sandbox.lingerd(env={"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "200000",
                             "WATCHDOG_PID": str(os.getpid())})
        manager.wait_for("READY=1")
        manager.socket.settimeout(1.5)
        with pytest.raises(TimeoutError):
            manager.wait_for("WATCHDOG=1")


def test_journal_priorities(sandbox):
    """A notice of ours must not be an error in the journal. Would catch lines without systemd's
    prefix, and the prefix where no journal reads."""
    log = sandbox.directory / "journal.log"
    with open(log, "wb") as out:
        identity = os.fstat(out.fileno())
        process = subprocess.Popen(
            [str(places.LINGERD), "--socket", str(sandbox.directory / "j.sock")],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=environment({"JOURNAL_STREAM": f"{identity.st_dev}:{identity.st_ino}"}))
    wait_until(lambda: b"listens at" in log.read_bytes(), "the first line")
    process.terminate()
    assert process.wait(20) == 0
    assert all(line.startswith("<5>") for line in log.read_text().splitlines()), log.read_text()
