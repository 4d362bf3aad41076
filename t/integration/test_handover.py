# SPDX-License-Identifier: Apache-2.0
"""Restart and upgrade: every lingering socket, its deadlines, the counters and httpd's connections
go from one lingerd to the next."""
import array
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import threading

import pytest

from harness import clients, deliveries, inject, places, proc
from harness.httpd import content
from harness.lingerd import environment, run_lingerd
from harness.logs import sanitizer_lines
from harness.record import WELCOME, Child
from harness.stats import adds_up, read_page
from harness.waiting import wait_equal, wait_until

TAKING_OVER = ["handing over", "took over", "listens at"]
MANY = int(os.environ.get("HANDOVER_SOCKETS", "5000"))


def _fill(child, count, **fields):
    """`count` clients whose sockets linger."""
    return [child.lingering_client(**fields) for _ in range(count)]


def _send_from_half(lingering):
    for client in lingering[::2]:
        client.sendall(b"x" * 1000)


@pytest.fixture(name="lingerd")
def lingerd_fixture(sandbox):
    return sandbox.lingerd()


def test_the_next_lingerd_goes_on_in_the_same_process(sandbox):
    """Would catch a lost socket, a lost deadline, an RST, a connection of httpd's that broke."""
    lingerd = sandbox.lingerd("--max-connections", str(MANY + 100))
    lingerd.allowed_lines += ["handing over", "took over", "listens at"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = _fill(child, MANY, idle_ms=600_000, cap_ms=600_000)
        _send_from_half(lingering)
        wait_until(lambda: lingerd.counters()["LingerDrainedBytes"] >= 1000 * len(lingering[::2])
                   and lingerd.queue() == MANY,
                   lambda: f"taken, and drained before it: {lingerd.counters()}")
        before = lingerd.counters()

        for _ in range(3):  # and the one after that
            started = lingerd.log.text().count("took over")
            os.kill(lingerd.pid, signal.SIGUSR2)
            wait_until(lambda seen=started: lingerd.log.text().count("took over") > seen,
                       lambda: "the successor reports\n" + lingerd.log.tail())
        wait_until(lambda: lingerd.queue() == MANY, lambda: f"all are back: {lingerd.counters()}")
        after = lingerd.counters()
        for key in ("LingerTotal", "LingerRescued", "LingerDrainedBytes", "started_ns"):
            assert after[key] == before[key], key

        # The connection that httpd's child holds goes on, without a second greeting.
        late = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == MANY + 1, "the old connection hands over")
        child.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            child.socket.recv(100)
        late.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 1, "and its socket ends")

        for client in lingering:
            client.sendall(b"still taken")
            assert client.recv(1) == b"", "our FIN, and no RST"
            client.close()
        wait_until(lambda: lingerd.queue() == 0, lambda: f"they end: {lingerd.counters()}")
        page = lingerd.counters()
        assert page["LingerClosedByClient"] == page["LingerTotal"] == MANY + 1
        assert page["LingerDrainedBytes"] == after["LingerDrainedBytes"] + 11 * MANY
        assert adds_up(page)


# ---- Between two processes ----

@pytest.mark.parametrize("sending", [False, True], ids=["silent", "sending"])
def test_another_process_takes_over(sandbox, sending):
    """`lingerd --takeover`, and another one after it. Would catch a lost socket, deadline or
    counter, an RST, a socket's file that goes with the predecessor, a pidfile that names it."""
    pidfile = sandbox.directory / "l.pid"
    lingerd = sandbox.lingerd("--max-connections", str(MANY + 100), "--pidfile", str(pidfile))
    lingerd.allowed_lines += TAKING_OVER
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = _fill(child, MANY, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == MANY, "all linger")
        before = lingerd.counters()
        for _ in range(2):
            predecessor = lingerd.pid
            if sending:
                _send_from_half(lingering)
            held = len(lingerd.fds())
            lingerd.take_over()
            wait_equal(lambda: len(lingerd.fds()), held, "lingerd's descriptors")
            assert lingerd.counters()["pid"] == lingerd.pid != predecessor
            wait_equal(pidfile.read_text, f"{lingerd.pid}\n", "the pidfile")
        sent = 2 * 1000 * len(lingering[::2]) if sending else 0
        wait_until(lambda: lingerd.counters()["LingerDrainedBytes"] == sent,
                   lambda: f"drained by either: {lingerd.counters()}")
        after = lingerd.counters()
        assert after["LingerQueue"] == MANY
        for key in ("LingerTotal", "started_ns"):
            assert after[key] == before[key], key
        late = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == MANY + 1, "the old connection hands over")
        with Child(lingerd.socket_path) as other:
            assert other.greeting() == WELCOME, "and new ones come"
        for client in [*lingering, late]:
            client.sendall(b"still taken")
            assert client.recv(1) == b"", "our FIN, and no RST"
            client.close()
        wait_until(lambda: lingerd.queue() == 0, lambda: f"they end: {lingerd.counters()}")
        page = lingerd.counters()
        assert page["LingerClosedByClient"] == page["LingerTotal"] == MANY + 1
        assert page["LingerDrainedBytes"] == sent + 11 * (MANY + 1)
        assert adds_up(page)
    assert not lingerd.stop()
    assert not list(sandbox.directory.glob("*.sock*")) and not pidfile.exists()


def test_a_successor_that_fails_at_the_last_moment(sandbox):
    """It has all descriptors and has put its own stats page there, and then dies. Would catch a
    predecessor that is gone by then, or goes on without a page, a pidfile or its socket's file."""
    pidfile = sandbox.directory / "l.pid"
    lingerd = sandbox.lingerd("--pidfile", str(pidfile))
    lingerd.allowed_lines += [*TAKING_OVER, "no successor, going on", "the predecessor didn't wait"]
    rules = inject.Rules(sandbox.directory)
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = _fill(child, 20, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 20, "all linger")
        rules.fail("send", "EPIPE", count=1)
        assert lingerd.exit_of_successor(env=rules.environment()) == 1
        wait_until(lambda: "no successor, going on" in lingerd.log.text(), "it says so")
        wait_until(lambda: (page := read_page(lingerd.stats_path)) and page["pid"] == lingerd.pid,
                   "its page is back")
        wait_equal(pidfile.read_text, f"{lingerd.pid}\n", "the pidfile")
        lingering += _fill(child, 20, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 40, "it goes on")
        with Child(lingerd.socket_path) as other:
            assert other.greeting() == WELCOME
        for client in lingering:
            client.sendall(b"still taken")
            assert client.recv(1) == b""
            client.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 40, "to the end")
        lingerd.take_over()
        assert lingerd.counters()["LingerTotal"] == 40


@pytest.mark.skipif(not places.am_root(), reason="needs users to be")
def test_daemons_that_take_over(sandbox):
    """As init scripts start them: in the background, as a user of their own, with root's pidfile.
    Would catch a successor that may not write the pidfile, or can't be reached by who isn't root."""
    run = sandbox.directory / "run"
    run.mkdir(mode=0o755)
    os.chown(run, pwd.getpwnam("nobody").pw_uid, -1)
    path, pidfile = run / "l.sock", sandbox.directory / "l.pid"
    options = ["--daemon", "--user", "nobody", "--socket", path, "--pidfile", pidfile]
    assert run_lingerd(*options).returncode == 0
    seen = set()
    try:
        with Child(path) as child:
            child.greeting()
            client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
            for _ in range(3):
                wait_until(lambda: read_page(pathlib.Path(f"{path}.stats"))["LingerQueue"] == 1,
                           "it lingers")
                result = run_lingerd(*options, "--takeover")
                assert result.returncode == 0, result.stderr
                seen.add(int(pidfile.read_text()))
                assert read_page(pathlib.Path(f"{path}.stats"))["pid"] in seen
            client.close()
        assert len(seen) == 3
    finally:
        pid = int(pidfile.read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in {pid, *seen}),
                   "all end")
    assert not list(run.iterdir())


def test_nobody_to_take_over_from(sandbox):
    """Would catch an init script that fails because the last lingerd was killed."""
    lingerd = sandbox.lingerd()
    lingerd.kill()
    lingerd.start("--takeover")
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME


@pytest.mark.skipif(not places.am_root(), reason="needs users to be")
def test_a_strangers_takeover(sandbox):
    """Whoever can make files beside the socket listens where a successor would. Would catch all
    sockets of all sites handed to him."""
    sandbox.directory.chmod(0o777)
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += TAKING_OVER
    place = pathlib.Path(f"{lingerd.socket_path}.takeover")
    with Child(lingerd.socket_path) as child, \
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as thief:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
        try:
            thief.bind(str(place))
            thief.listen()
        finally:
            os.seteuid(0)
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda: "took over 1 sockets" in lingerd.log.text(), "it follows itself")
        thief.settimeout(10)
        with contextlib.suppress(TimeoutError):
            line, _ = thief.accept()  # it came, saw who that was,
            assert line.recvmsg(100, 1000)[:2] == (b"", []), "and left"
            line.close()
        wait_until(lambda: lingerd.queue() == 1, "nothing is lost")
        client.close()


def test_deadlines_go_on(lingerd):
    """Would catch a successor that gives every socket its time anew."""
    lingerd.allowed_lines += ["handing over", "took over", "listens at"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = [child.lingering_client(idle_ms=1500, cap_ms=600_000) for _ in range(20)]
        lingering += [child.lingering_client(idle_ms=600_000, cap_ms=1500) for _ in range(20)]
        stays = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 41, "all are there")
        # Handed over again and again: if each gave them their time anew, they would never end.
        while lingerd.queue() > 1:
            seen = lingerd.log.text().count("took over")
            os.kill(lingerd.pid, signal.SIGUSR2)
            wait_until(lambda n=seen: lingerd.log.text().count("took over") > n, "taken over")
        page = lingerd.counters()
        assert (page["LingerClosedIdle"], page["LingerClosedCap"]) == (20, 20)
        for client in [*lingering, stays]:
            client.close()


class Systemd:
    """What of systemd a handover needs: a notify socket, a descriptor store, and LISTEN_FDS."""

    def __init__(self, directory):
        self.path = directory / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(30)
        self.socket.bind(str(self.path))
        self.stored = {}
        self.removed = []

    def read_until(self, done):
        while not done():
            data, ancillary, _, _ = self.socket.recvmsg(4096, 1024)
            fds = array.array("i")
            for level, kind, payload in ancillary:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                fds.frombytes(payload)
            lines = data.decode().split("\n")
            name = next((line.split("=", 1)[1] for line in lines if line.startswith("FDNAME=")), "")
            if "FDSTORE=1" in lines:
                assert len(fds) == 1
                self.stored[name] = fds[0]
            elif "FDSTOREREMOVE=1" in lines:
                self.removed.append(name)
            else:
                for fd in fds:  # a barrier: closing it answers
                    os.close(fd)

    def start(self, listener, log, with_store):
        """lingerd as systemd starts it: descriptors from 3 on."""
        names = ["lingerd.socket", *(self.stored if with_store else [])]
        fds = [listener.fileno(), *(self.stored.values() if with_store else [])]
        env = environment({"NOTIFY_SOCKET": str(self.path), "LISTEN_FDS": str(len(fds)),
                           "LISTEN_FDNAMES": ":".join(names)})
        high = [os.dup(fd) for fd in fds]
        # LISTEN_PID is the process's own, known only after the fork: a shell sets it and becomes
        # lingerd.
        redirects = " ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(high))
        process = subprocess.Popen(
            ["bash", "-c", f"export LISTEN_PID=$$; exec \"$@\" {redirects}", "bash",
             str(places.LINGERD)], env=env, pass_fds=high, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True)
        for fd in high:
            os.close(fd)
        return process


class Service:
    """A listener of systemd's, a child that is connected to it, and one lingerd after the other."""

    def __init__(self, sandbox):
        self.systemd = Systemd(sandbox.directory)
        self.path = sandbox.directory / "l.sock"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        self.listener.listen(100)
        self.log = sandbox.directory / "lingerd-under-systemd.log"
        self.process = None

    def start(self, with_store):
        with open(self.log, "ab") as log:
            self.process = self.systemd.start(self.listener, log, with_store)
        for fd in self.systemd.stored.values() if with_store else ():
            os.close(fd)

    def page(self):
        return read_page(pathlib.Path(f"{self.path}.stats")) or {}

    def restart_begins(self):
        """Until the old one has stored everything and is gone."""
        os.kill(self.process.pid, signal.SIGUSR2)
        self.systemd.socket.settimeout(1)
        while self.process.poll() is None:
            with contextlib.suppress(TimeoutError):
                self.systemd.read_until(lambda: self.process.poll() is not None)
        self.systemd.socket.settimeout(30)
        assert self.process.returncode == 0
        assert len(self.systemd.stored) == 3, "few, however many sockets"

    def restart_ends(self):
        self.start(with_store=True)
        self.systemd.read_until(lambda: len(self.systemd.removed) == 3)
        assert sorted(self.systemd.removed) == sorted(self.systemd.stored)

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log.read_text()
        assert not sanitizer_lines(self.log.read_text())
        self.listener.close()


@pytest.fixture(name="service")
def service_fixture(sandbox):
    service = Service(sandbox)
    yield service
    if service.process and service.process.poll() is None:  # the test has failed
        service.process.kill()
        service.process.wait(30)


def test_systemds_descriptor_store_carries_everything(service):
    """The same through systemd's store, with a stand-in for systemd: would catch descriptors that
    aren't stored, aren't taken out, or stay in the store for the restart after the next."""
    service.start(with_store=False)
    child = Child(service.path)
    child.greeting()
    lingering = _fill(child, MANY, idle_ms=600_000, cap_ms=600_000)
    readers = [deliveries.deliver(child, deliveries.memfd()) for _ in range(8)]
    wait_until(lambda: service.page()["LingerQueue"] == MANY + 8, "all are there")
    _send_from_half(lingering)
    service.restart_begins()

    # While nobody is there, hand-offs wait in the connection. (With a timeout Python asks poll
    # first, which takes a quarter of the queue for full.)
    child.socket.settimeout(None)
    lingering += _fill(child, 100, idle_ms=600_000, cap_ms=600_000)
    _send_from_half(lingering)
    service.restart_ends()
    wait_until(lambda: service.page().get("LingerQueue") == MANY + 108,
               lambda: f"all are back, and the new ones: {service.page()}")
    sent = 1000 * (len(range(0, MANY, 2)) + len(range(0, MANY + 100, 2)))
    wait_until(lambda: service.page()["LingerDrainedBytes"] == sent, "what was sent meanwhile")
    for client in lingering:
        assert client.recv(1) == b"", "no RST"
        client.close()
    for client in readers:
        assert clients.read_to_fin(client) == deliveries.BODY
        client.close()
    wait_until(lambda: service.page()["LingerClosedByClient"] == MANY + 108, "all have ended")
    assert service.page()["LingerDelivered"] == 8
    assert adds_up(service.page())
    child.socket.close()
    service.stop()


def test_hand_offs_beside_the_signal(service):
    """lingerd learns of both in one go. Would catch an old process that still takes what it has
    promised to the new one, and closes it with itself."""
    service.start(with_store=False)
    with Child(service.path) as child:
        child.greeting()
        lingering = _fill(child, 10, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: service.page()["LingerQueue"] == 10, "all are there")
        os.kill(service.process.pid, signal.SIGSTOP)
        wait_until(lambda: proc.state(service.process.pid) == "T", "it is stopped")
        os.kill(service.process.pid, signal.SIGUSR2)
        lingering += _fill(child, 50, idle_ms=600_000, cap_ms=600_000)
        os.kill(service.process.pid, signal.SIGCONT)
        service.restart_begins()
        service.restart_ends()
        wait_until(lambda: service.page().get("LingerQueue") == 60,
                   lambda: f"all are there: {service.page()}")
        for client in lingering:
            client.sendall(b"still taken")
            assert client.recv(1) == b"", "no RST"
            client.close()
        wait_until(lambda: service.page()["LingerClosedByClient"] == 60, "all have ended")
    service.stop()


def test_hand_offs_beside_a_takeover(sandbox):
    """The same between two processes."""
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += TAKING_OVER
    with Child(lingerd.socket_path) as child:
        child.greeting()
        predecessor, lingering = lingerd.pid, []

        def hand_off_when_asked():
            try:
                wait_until(lambda: proc.has_pending(predecessor, signal.SIGUSR2), "is asked")
                lingering.extend(_fill(child, 50, idle_ms=600_000, cap_ms=600_000))
            finally:
                os.kill(predecessor, signal.SIGCONT)

        lingerd.pause()
        busy = threading.Thread(target=hand_off_when_asked)
        busy.start()
        lingerd.take_over()
        busy.join()
        wait_until(lambda: lingerd.queue() == 50, lambda: f"all linger: {lingerd.counters()}")
        for client in lingering:
            client.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 50, "all have ended")


@pytest.mark.parametrize("at,says", [(8, "another version"), (12, "another version"),
                                     (0, "an unknown kind")],
                         ids=["version", "size of a socket's state", "magic"])
def test_a_state_of_another_version(service, at, says):
    """Left by an older or newer lingerd. Would catch deadlines and counters that are misread, and
    clients that are dropped because of it: their time begins anew."""
    service.start(with_store=False)
    with Child(service.path) as child:
        child.greeting()
        lingering = _fill(child, 50, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: service.page()["LingerQueue"] == 50, "all are there")
        service.restart_begins()
        state = service.systemd.stored["state"]
        number, = struct.unpack("=I", os.pread(state, 4, at))
        os.pwrite(state, struct.pack("=I", number + 1), at)
        service.restart_ends()
        wait_until(lambda: "took over 50 sockets" in service.log.read_text(), "they linger")
        assert f"have a state of {says}" in service.log.read_text()
        late = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        for client in [*lingering, late]:
            client.sendall(b"still taken")
            assert client.recv(1) == b"", "no RST"
            client.close()
        wait_until(lambda: service.page()["LingerTotal"] == 51 and not service.page()["LingerQueue"],
                   lambda: f"all have ended: {service.page()}")
        page = service.page()
        # On a machine that stands still for 5 s some may be taken for silent; over their time, none.
        assert page["LingerClosedCap"] == page["LingerClosedByReset"] == page["LingerEvicted"] == 0
        assert adds_up(page)
    service.stop()


@pytest.mark.parametrize("call", ["memfd_create", "pwrite", "socketpair", "sendmsg"])
@pytest.mark.parametrize("error", ["EMFILE", "ENOMEM"])
def test_packing_fails(sandbox, call, error):
    """Would catch sockets that are lost with a parcel that couldn't be made, and descriptors that
    stay with it."""
    rules = inject.Rules(sandbox.directory)
    lingerd = inject.lingerd(sandbox, rules)
    lingerd.allowed_lines += [*TAKING_OVER, "can't hand over, going on"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        lingering = _fill(child, 20, idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 20, "all linger")
        held = len(lingerd.fds())
        rule = rules.fail(call, error, count=1)
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda: "can't hand over, going on" in lingerd.log.text(), "it says so")
        assert rule.applied == 1
        wait_equal(lambda: len(lingerd.fds()), held, "lingerd's descriptors")
        rules.clear()
        os.kill(lingerd.pid, signal.SIGUSR2)  # and the next time it goes
        wait_until(lambda: "took over 20 sockets" in lingerd.log.text(), "it follows itself")
        for client in lingering:
            client.sendall(b"still taken")
            assert client.recv(1) == b""
            client.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 20, "to the end")


def test_a_store_that_takes_nothing(sandbox):
    """systemd waits for the end of a process that it has told to restart: would catch one that goes
    on for ever and is killed in the end, with all that it holds."""
    manager = sandbox.directory / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(manager))
        lingerd = sandbox.lingerd(env={"NOTIFY_SOCKET": str(manager)})
    manager.unlink()
    lingerd.allowed_lines += ["handing over", "no successor, going on: systemd's descriptor store",
                              "stopping: 1 sockets"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 1, "it lingers")
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda: lingerd.log.matching("stopping: 1 sockets"), "it stops as on SIGTERM")
        client.sendall(b"still taken")
        assert client.recv(1) == b"", "no RST"
        client.close()
    assert lingerd.wait() == 0


def test_a_successor_that_would_not_start_gets_nothing(sandbox):
    """Would catch an upgrade that drops every socket because of a typo in lingerd.conf."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("max-time = 60\n")
    lingerd = sandbox.lingerd("--config", str(config))
    with Child(lingerd.socket_path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 1, "it lingers")
        config.write_text("max-tme = 60\n")
        lingerd.allowed_lines += ["handing over", "no successor, going on", "max-tme"]
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda: "no successor, going on" in lingerd.log.text(), "it says so")
        another = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 2, "and goes on")
        for socket_ in (client, another):
            socket_.sendall(b"still taken")
            socket_.close()
        wait_until(lambda: lingerd.queue() == 0, "to the end")
        assert lingerd.counters()["LingerClosedByReset"] == 0


def test_an_upgrade(sandbox, monkeypatch):
    """Another program is put at lingerd's path, as packages do; one that doesn't run first. Would
    catch a lingerd that follows itself with its old program, or with one that can't."""
    program = sandbox.directory / "lingerd"
    shutil.copy(places.LINGERD, program)
    old = program.stat().st_ino
    monkeypatch.setattr(places, "LINGERD", program)
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += [*TAKING_OVER, "no successor, going on"]

    def put(make):
        fresh = sandbox.directory / "lingerd.new"
        make(fresh)
        fresh.chmod(0o755)
        fresh.rename(program)
        os.kill(lingerd.pid, signal.SIGUSR2)

    with Child(lingerd.socket_path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_until(lambda: lingerd.queue() == 1, "it lingers")
        # Keeps the old one's inode number from coming back.
        os.link(program, sandbox.directory / "kept")
        for broken in (b"\x7fELF but not much more", b"#!/bin/false\n"):
            seen = lingerd.log.text().count("no successor, going on")
            put(lambda path, text=broken: path.write_bytes(text))
            wait_until(lambda n=seen: lingerd.log.text().count("no successor, going on") > n,
                       "it goes on")
        put(lambda path: shutil.copy(sandbox.directory / "kept", path))
        wait_until(lambda: "took over 1 sockets" in lingerd.log.text(), "the new one")
        running = os.stat(f"/proc/{lingerd.pid}/exe").st_ino
        assert running == program.stat().st_ino != old
        client.sendall(b"still taken")
        client.close()
        wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 1, "and its socket ends")


@pytest.mark.parametrize("by", ["SIGUSR2", "--takeover"])
def test_httpd_sees_no_restart(sandbox, mpm, by):
    """Would catch a fallback, or a reset client, because lingerd was replaced."""
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += ["handing over", "took over", "listens at"]
    httpd = sandbox.httpd(mpm, lingerd=lingerd)
    before = httpd.status()
    for round_ in range(5):
        for _ in range(20):
            assert clients.fetch(httpd.port) == (200, content("hello.txt"))
        seen = lingerd.log.text().count("took over")
        if by == "SIGUSR2":
            os.kill(lingerd.pid, signal.SIGUSR2)
        else:
            lingerd.take_over()
        wait_until(lambda n=seen: lingerd.log.text().count("took over") > n, f"round {round_}")
    after = httpd.status()
    assert int(after["LingerFallbacks"]) == int(before["LingerFallbacks"])
