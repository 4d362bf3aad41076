# SPDX-License-Identifier: Apache-2.0
"""A successor that fails, at any step of its start and in any way, loses nothing."""
import collections
import contextlib
import os
import pathlib
import shutil
import signal
import socket

import pytest

from harness import places
from harness.record import Child
from harness.service import Service
from harness.waiting import wait_until

FAILS = ["handing over", "took over", "listens at", "the successor failed", "systemd passed"]
STRACE = shutil.which("strace")
# How many of the system calls of a start are tried as its last one; 0: each.
KILLS = int(os.environ.get("HANDOVER_KILLS", "6"))
needs_strace = pytest.mark.skipif(not STRACE, reason="needs strace")


class Upgraded:
    """A lingerd at whose path another program is put: one that passes the check, and then does `how`,
    a line of bash in which $REAL is lingerd."""

    def __init__(self, sandbox, monkeypatch, name="lingerd"):
        self.program = sandbox.directory / f"{name}-program"
        shutil.copy(places.LINGERD, self.program)
        self.pidfile = sandbox.directory / f"{name}.pid"
        monkeypatch.setattr(places, "LINGERD", self.program)
        self.lingerd = sandbox.lingerd("--pidfile", str(self.pidfile), name=name)
        self.lingerd.allowed_lines += FAILS
        monkeypatch.undo()
        self.pid = self.lingerd.pid

    def succeed_by(self, how):
        fresh = self.program.with_suffix(".new")
        fresh.write_text(f'#!/bin/bash\nREAL={places.LINGERD}\ncase "$*" in\n'
                         f'  *--check-config*) exec "$REAL" "$@" ;;\nesac\n{how}\n')
        fresh.chmod(0o755)
        fresh.rename(self.program)
        seen = self.log().count("took over")
        os.kill(self.pid, signal.SIGUSR2)
        wait_until(lambda: self.log().count("took over") > seen and self.serves(),
                   lambda: "somebody serves\n" + self.lingerd.log.tail(), deadline=60)

    def serves(self):
        """As the page and the pidfile say."""
        with contextlib.suppress(ValueError, AssertionError):
            self.pid = int(self.pidfile.read_text())
            return self.lingerd.counters()["pid"] == self.pid and self.lingerd.counters()["heartbeat_ns"]
        return False

    def log(self):
        return self.lingerd.log.text()

    def end(self):
        if self.pid != self.lingerd.pid:
            self.lingerd._killed = True  # by its keeper
            os.kill(self.pid, signal.SIGTERM)
            wait_until(lambda: not os.path.exists(f"/proc/{self.pid}"), "it ends")


@pytest.fixture(name="upgraded")
def upgraded_fixture(sandbox, monkeypatch):
    upgraded = Upgraded(sandbox, monkeypatch)
    yield upgraded
    upgraded.end()


def _all_still_linger(clients, child, counters):
    """And each ends as its client wants."""
    late = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
    for client in [*clients, late]:
        client.sendall(b"still taken")
        assert client.recv(1) == b"", "our FIN, and no RST"
        client.close()
    wait_until(lambda: counters()["LingerClosedByClient"] == len(clients) + 1
               == counters()["LingerTotal"], lambda: f"they end: {counters()}")


@pytest.mark.parametrize("how, same_process", [
    ("exit 1", False), ("kill -SEGV $$", False), ("kill -STOP $$", False),
    ('sleep 2; exec "$REAL" "$@"', True),
    ('unset LINGERD_KEEPER LISTEN_FDNAMES; exec "$REAL" "$@"', False),
], ids=["exits", "crashes", "hangs", "is slow", "knows other names"])
def test_a_successor(upgraded, how, same_process):
    """Would catch sockets that go with a successor which never serves, and one that is given up
    although it would have; a rollback without its pidfile, its page, or a future."""
    with Child(upgraded.lingerd.socket_path) as child:
        child.greeting()
        clients = [child.lingering_client(idle_ms=600_000, cap_ms=600_000) for _ in range(20)]
        wait_until(lambda: upgraded.lingerd.queue() == 20, "all linger")
        before = upgraded.pid
        upgraded.succeed_by(how)
        assert (upgraded.pid == before) == same_process, upgraded.log()
        assert ("the successor failed" in upgraded.log()) != same_process
        wait_until(lambda: upgraded.lingerd.queue() == 20, "all are there")
        before = upgraded.pid
        upgraded.succeed_by('exec "$REAL" "$@"')  # and the next one is fine
        assert upgraded.pid == before
        _all_still_linger(clients, child, upgraded.lingerd.counters)


def _calls_before(trace, word):
    """The system calls that a start has made before the one with `word`: (name, how often by then);
    KILLS of them, spread evenly."""
    calls, seen = [], collections.Counter()
    for line in trace.read_text().splitlines():
        if word in line:
            break
        name = line.split("(", 1)[0]
        if name.isidentifier() and name != "execve":
            seen[name] += 1
            calls.append((name, seen[name]))
    last = len(calls) - 1
    return calls if KILLS == 0 else [calls[i * last // (KILLS - 1)] for i in range(KILLS)]


def _killed_after(call):
    name, nth = call
    return [STRACE, "-D", "-qq", "-o", "/dev/null", "-e", f"inject={name}:signal=KILL:when={nth}"]


def _untraced(pid):
    """strace goes on with what it has begun with."""
    def tracer():
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("TracerPid")))
    if tracer():
        os.kill(tracer(), signal.SIGKILL)  # it has inherited what lingerd blocks
    wait_until(lambda: tracer() == 0, "strace lets go")


@needs_strace
@pytest.mark.timeout(900)
def test_a_successor_killed_after_each_system_call(sandbox, monkeypatch, upgraded):
    """By exec. Would catch the step at which nobody else has what it takes."""
    trace = sandbox.directory / "trace"
    traced = Upgraded(sandbox, monkeypatch, "traced")
    with Child(traced.lingerd.socket_path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: traced.lingerd.queue() == 1, "it lingers")
        traced.succeed_by(f'exec {STRACE} -D -qq -o {trace} "$REAL" "$@"')
        client.close()
    calls = _calls_before(trace, '"S"')
    _untraced(traced.pid)
    with Child(upgraded.lingerd.socket_path) as child:
        child.greeting()
        clients = [child.lingering_client(idle_ms=600_000, cap_ms=600_000) for _ in range(20)]
        wait_until(lambda: upgraded.lingerd.queue() == 20, "all linger")
        for call in calls:
            before = upgraded.pid
            upgraded.succeed_by(f'exec {" ".join(_killed_after(call))} "$REAL" "$@"')
            assert upgraded.pid != before, f"not killed after {call}\n" + upgraded.log()
            wait_until(lambda: upgraded.lingerd.queue() == 20, f"all are there after call {call}")
        _all_still_linger(clients, child, upgraded.lingerd.counters)


@needs_strace
@pytest.mark.timeout(900)
def test_systemds_successor_killed_after_each_system_call(sandbox):
    """The same with systemd's store, which keeps everything for the one after."""
    trace = sandbox.directory / "trace"
    service = Service(sandbox)
    service.start(with_store=False)
    with Child(service.path) as child:
        child.greeting()
        clients = [child.lingering_client(idle_ms=600_000, cap_ms=600_000) for _ in range(20)]
        wait_until(lambda: service.page().get("LingerQueue") == 20, "all linger")
        service.restart_begins()
        service.start(with_store=True, wrapper=[STRACE, "-D", "-qq", "-o", str(trace)])
        service.systemd.read_until(lambda: not service.systemd.stored)
        wait_until(lambda: service.page().get("pid") == service.process.pid, "it serves")
        for call in _calls_before(trace, "FDSTOREREMOVE"):
            service.restart_begins()
            service.start(with_store=True, wrapper=_killed_after(call))
            assert service.process.wait(30) == -signal.SIGKILL
            assert sorted(service.systemd.stored) == ["in", "out"]
            service.restart_ends()
            wait_until(lambda: service.page().get("pid") == service.process.pid
                       and service.page().get("LingerQueue") == 20, f"all are there after {call}")
        _all_still_linger(clients, child, service.page)
    service.stop()


def test_a_store_that_takes_nothing(sandbox):
    """FileDescriptorStoreMax=0, or too few: would catch an end with status 0 after which nobody has what
    lingered. systemd waits for the end: it stops as on SIGTERM, and its clients may finish."""
    service = Service(sandbox, most=1)
    service.start(with_store=False)
    with Child(service.path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: service.page().get("LingerQueue") == 1, "it lingers")
        os.kill(service.process.pid, signal.SIGUSR2)
        service.systemd.socket.settimeout(1)

        def stopping():
            with contextlib.suppress(TimeoutError):
                service.systemd.read_until(lambda: "stopping: 1 sockets" in service.log.read_text())
            return "stopping: 1 sockets" in service.log.read_text()
        wait_until(stopping, service.log.read_text)
        assert "it takes nothing; the unit needs FileDescriptorStoreMax=" in service.log.read_text()
        client.sendall(b"still taken")
        assert client.recv(1) == b"", "no RST"
        client.close()
    assert service.process.wait(30) == 0


@pytest.mark.parametrize("mistake", ["file", "command line", "name"])
def test_systemds_successor_with_a_mistake_in_its_configuration(sandbox, mistake):
    """`systemctl restart` with a typo in lingerd.conf or in the unit. Would catch one that ends, with all
    that was left to it; that is silent about it; or that doesn't take the mended file."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("max-connections = 77\n")
    service = Service(sandbox)
    service.start(False, arguments=["--config", str(config)])
    with Child(service.path) as child:
        child.greeting()
        clients = [child.lingering_client(idle_ms=600_000, cap_ms=600_000) for _ in range(20)]
        wait_until(lambda: service.page().get("LingerQueue") == 20, "all linger")
        service.restart_begins()
        config.write_text({"file": "max-connections = 88\nmax-tme = 60\n",
                           "name": "max-connections = 88\nallow-user = no-such-user\n",
                           "command line": "max-connections = 88\n"}[mistake])
        more = ["--max-tme=60"] if mistake == "command line" else []
        service.restart_ends(arguments=["--config", str(config), *more])
        wait_until(lambda: service.page().get("LingerQueue") == 20, service.log.read_text)
        assert service.page()["LingerQueueLimit"] == 77
        words = {"name": "no-such-user"}.get(mistake, "max-tme")
        assert "this configuration doesn't do: " in service.log.read_text()
        assert words in service.log.read_text()
        if mistake != "command line":
            config.write_text("max-connections = 99\n")
            os.kill(service.process.pid, signal.SIGHUP)
            wait_until(lambda: service.page()["LingerQueueLimit"] == 99, service.log.read_text)
        _all_still_linger(clients, child, service.page)
    service.stop()


@needs_strace
def test_a_parcel_that_kills(sandbox):
    """What its successors die of is not given to them for ever."""
    service = Service(sandbox)
    service.start(with_store=False)
    with Child(service.path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: service.page().get("LingerQueue") == 1, "it lingers")
        service.restart_begins()
        for _ in range(3):
            service.start(with_store=True, wrapper=[
                STRACE, "-D", "-qq", "-o", "/dev/null", "-e", "inject=sendto:signal=KILL"])
            assert service.process.wait(30) == -signal.SIGKILL
        service.restart_ends()
        wait_until(lambda: "letting go of them" in service.log.read_text(), service.log.read_text)
        client.close()
    with Child(service.path) as child:
        child.greeting()
    service.stop()


def test_sent_by_hand_under_systemd(sandbox):
    """SIGUSR2 that isn't systemd's: it wouldn't start another lingerd, and would drop its store. Would
    catch one that ends."""
    service = Service(sandbox)
    service.start(with_store=False)
    with Child(service.path) as child:
        child.greeting()
        clients = [child.lingering_client(idle_ms=600_000, cap_ms=600_000) for _ in range(20)]
        wait_until(lambda: service.page().get("LingerQueue") == 20, "all linger")
        os.system(f"kill -USR2 {service.process.pid}")
        service.systemd.socket.settimeout(1)

        def taken_over():
            with contextlib.suppress(TimeoutError):
                service.systemd.read_until(lambda: "took over" in service.log.read_text())
            return "took over" in service.log.read_text()
        wait_until(taken_over, service.log.read_text)
        service.systemd.read_until(lambda: not service.systemd.stored)
        assert service.process.poll() is None
        _all_still_linger(clients, child, service.page)
    service.stop()
