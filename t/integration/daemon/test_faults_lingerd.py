# SPDX-License-Identifier: Apache-2.0
"""What breaks around lingerd: it is stopped, it is killed, descriptors and memory run out, system
calls fail, the calendar jumps. No client may lose what could be kept, every socket must end in a
count, and lingerd must be as before when the fault has passed."""
import contextlib
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

import pytest

from harness import inject, places, stats
from harness.bystander import Bystander
from harness.clients import read_to_fin, reset
from harness.lingerd import environment
from harness.record import WELCOME, Child
from harness.waiting import wait_equal, wait_until

RESPONSE = b"".join(b"%08d" % number for number in range(40_000))  # 320,000 bytes, all different
FOREVER = {"idle_ms": 3_600_000, "cap_ms": 3_600_000}


def age_ns(monotonic_ns):
    """How long ago that was."""
    return time.monotonic_ns() - monotonic_ns


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def connected(lingerd):
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        yield child


def client_with_response(child, response, receive_buffer=None, **fields):
    """A client with all of `response` under way to it, and with a socket that lingers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        client.settimeout(60)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    server.setblocking(False)
    assert server.send(response) == len(response)
    child.hand_off(server, **fields)
    return client


def outcome(client):
    """What the client gets in the end: "whole", or "cut off" by an RST."""
    with client:
        try:
            return "whole" if read_to_fin(client) == RESPONSE else "wrong"
        except ConnectionResetError:
            return "cut off"


# ---- Killed and stopped ----

def _four_clients(child):
    """By what they do about a response of which the kernel still holds most."""
    habits = ("has it all", "still takes it", "sends later", "has sent")
    clients = {habit: client_with_response(child, RESPONSE, receive_buffer=4096, **FOREVER)
               for habit in habits}
    done = clients["has it all"]
    received = bytearray()
    while len(received) < len(RESPONSE):
        received += done.recv(65536)
    assert received == RESPONSE
    assert done.recv(1) == b""  # and our FIN
    return clients


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "alive"])
def test_who_loses_what_when_it_is_killed(sandbox, killed):
    """SIGKILL with sockets in the queue: the kernel closes them. A client that has all of its
    response, or sends nothing more, loses nothing, because the kernel goes on delivering. One whose
    bytes lie unread in that moment, or that sends some later, is cut off: what any close without a
    lingering one would have done to it. With lingerd alive all four get everything, or the test
    would prove nothing."""
    lingerd = sandbox.lingerd("--max-time", "3600")
    with connected(lingerd) as child:
        clients = _four_clients(child)
        wait_equal(lingerd.queue, 4, "sockets in lingerd")
        lingerd.pause()
        clients["has sent"].sendall(b"x" * 100)
        if killed:
            lingerd.kill()
        else:
            lingerd.resume()
        clients["has it all"].close()
        del clients["has it all"]
        clients["sends later"].sendall(b"x" * 100)
        found = {habit: outcome(client) for habit, client in clients.items()}
        assert found == {"still takes it": "whole",
                         "sends later": "cut off" if killed else "whole",
                         "has sent": "cut off" if killed else "whole"}


def test_what_was_in_flight_when_it_was_killed(sandbox):
    """Hand-offs that lie in the socket between the two when lingerd is killed. Would catch a child
    that isn't told; and shows that these clients, too, keep what they don't disturb."""
    lingerd = sandbox.lingerd()
    with connected(lingerd) as child:
        lingerd.pause()
        clients = [client_with_response(child, RESPONSE, receive_buffer=4096) for _ in range(20)]
        lingerd.kill()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            child.lingering_client()
        assert [outcome(client) for client in clients] == ["whole"] * 20


def test_stopped_for_longer_than_every_deadline(sandbox):
    """SIGSTOP, then SIGCONT. Would catch a client that is given up as silent although its bytes lie
    there, an end that is counted as something else because lingerd saw it late, and a queue that
    takes its time. More sockets than lingerd looks at in one go."""
    lingerd = sandbox.lingerd("--max-time", "3600")
    with connected(lingerd) as child:
        def taken(count, **fields):
            return [child.lingering_client(**fields) for _ in range(count)]

        # Long enough for a busy machine to hand all of them over meanwhile.
        idle = {"idle_ms": 6_000, "cap_ms": 3_600_000}
        closing, resetting, silent = (taken(250, **idle) for _ in range(3))
        sending = taken(400, **idle)
        over = taken(50, idle_ms=3_600_000, cap_ms=6_000)
        wait_equal(lingerd.queue, 1200, "sockets in lingerd")
        lingerd.pause()
        stopped = time.monotonic_ns()
        for client in closing:
            client.close()
        for client in resetting:
            reset(client)
        for client in sending + over:
            client.sendall(b"late")
        wait_until(lambda: age_ns(stopped) > 6_500_000_000, "every deadline is over")
        late = [child.lingering_client(**FOREVER) for _ in range(50)]
        lingerd.resume()

        wait_equal(lambda: lingerd.counters()["LingerTotal"], 1250, "hand-offs")
        wait_until(lambda: lingerd.counters()["LingerClosedIdle"] >= 250, "the silent ones end")
        counters = lingerd.counters()
        assert counters["LingerClosedByClient"] == 250
        assert counters["LingerClosedByReset"] == 250
        assert counters["LingerClosedCap"] == 50
        assert counters["LingerDrainedBytes"] == 4 * 450 and counters["LingerRescued"] == 450
        # Those that had sent something have their time again: their next word is heard.
        for client in sending:
            client.sendall(b"on time")
        wait_equal(lambda: lingerd.counters()["LingerDrainedBytes"], 4 * 450 + 7 * 400, "bytes")
        wait_equal(lambda: lingerd.counters()["LingerClosedIdle"], 650, "all that fell silent")
        assert lingerd.queue() == 50
        for client in silent + sending + over:
            assert client.recv(1) == b""  # FIN, no RST
            client.close()
        for client in late:
            client.close()
        wait_equal(lingerd.queue, 0, "sockets in lingerd")
        assert stats.adds_up(lingerd.counters())


# ---- Out of descriptors ----

ACCEPT = r"lingerd: can't accept a connection: "
LOST = r"lingerd: refused a record whose descriptor got lost"


@contextlib.contextmanager
def only_descriptors(pid, number):
    """Leaves `pid` with descriptors below `number`."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (number, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_out_of_descriptors(sandbox):
    """For accepting peers and for taking sockets. Would catch a loop that spins on its listener,
    a log that fills, sockets that vanish uncounted, and a lingerd that needs a restart."""
    lingerd = sandbox.lingerd("--max-time", "3600")
    lingerd.allowed_lines += [ACCEPT, LOST]
    with Bystander(lingerd) as bystander:
        before = lingerd.counters()
        with only_descriptors(lingerd.pid, len(lingerd.fds())):
            waiting = [Child(lingerd.socket_path) for _ in range(10)]
            wait_until(lambda: lingerd.log.matching(ACCEPT), "the refusal to accept is logged")
            cut_off = [bystander.child.lingering_client() for _ in range(50)]
            wait_equal(lambda: lingerd.counters()["LingerRejected"], 50, "lost descriptors")
            assert all(client.recv(1) == b"" for client in cut_off)  # closed, not forgotten
            bystander.wait_progress()
            spent = cpu_seconds(lingerd.pid)
            wait_until(lambda: age_ns(before["heartbeat_ns"]) > 2_000_000_000, "a while")
            bystander.wait_progress()
            print(f"processor time meanwhile: {cpu_seconds(lingerd.pid) - spent:.2f} s")
        for child in waiting:
            assert child.greeting() == WELCOME
            child.lingering_client().close()
        wait_equal(lambda: lingerd.counters()["LingerTotal"], before["LingerTotal"] + 10,
                   "hand-offs of those that had to wait")
        for child in waiting:
            child.socket.close()
        assert len(lingerd.log.matching(ACCEPT)) <= 2, lingerd.log.tail()
        assert len(lingerd.log.matching(LOST)) <= 2, lingerd.log.tail()


# ---- System calls that fail ----

# What lingerd calls while it runs; for each, what may become of a hand-off that meets the failure.
CALLS = {
    "accept4": "taken", "recvmmsg": "taken", "epoll_wait": "taken", "nanosleep": "taken",
    "poll": "taken", "send": "taken", "recv": "taken", "ioctl": "taken", "setsockopt": "taken",
    "epoll_ctl": "evicted", "getsockopt": "rejected",
}
NEEDED_EACH_TIME = CALLS.keys() - {"nanosleep", "poll", "setsockopt"}  # the others now and then
INJECTED = [r"lingerd: refused ", ACCEPT]


@pytest.fixture(name="page", scope="module")
def page_fixture(module_sandbox):
    return inject.Rules(module_sandbox.directory)


@pytest.fixture(name="injected", scope="module")
def injected_fixture(module_sandbox, page):
    return inject.lingerd(module_sandbox, page, "--max-time", "3600")


@pytest.fixture(name="rules")
def rules_fixture(page):
    """A failed test leaves no fault behind for the next."""
    yield page
    page.clear()


def _new_children(lingerd, count, clients):
    """Children that come while something fails, as httpd's do: one that isn't greeted tries again.
    Each hands off; the clients' ends go to `clients`."""
    for _ in range(count):
        for _ in range(100):
            with Child(lingerd.socket_path) as child:
                with contextlib.suppress(ConnectionError):
                    child.socket.settimeout(20)  # neither yes nor no is a failure
                    if child.socket.recv(100)[6:8] == b"\0\0":
                        clients += [child.lingering_client(idle_ms=150) for _ in range(5)]
                        break
        else:
            raise AssertionError("never greeted")


@pytest.mark.parametrize("call,error", [
    # A connection's recv that fails for a reason which it can't have is taken for its end.
    (call, "ENOBUFS" if call == "recv" and error == "EMFILE" else error)
    for call in CALLS for error in ("EMFILE", "ENOMEM")])
def test_a_call_fails(injected, rules, call, error):
    """The next call, and some after it, while children come and hand off. Would catch an exit, a
    socket that is neither counted nor closed, a peer that is left without a greeting, and a
    bystander that suffers."""
    lingerd = injected
    lingerd.allowed_lines += INJECTED
    before = lingerd.counters()
    held = len(lingerd.fds())
    clients = []
    with Bystander(lingerd, clients=2) as bystander:
        taken = before["LingerTotal"] + 2
        rule = rules.fail(call, error, count=5 if call == "accept4" else 20)
        _new_children(lingerd, 4, clients)
        for client in clients[::2]:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"late")
        if call in NEEDED_EACH_TIME - {"accept4"}:
            wait_until(lambda: rule.applied >= 10, lambda: f"it has failed {rule.applied} times")
        assert rule.applied > 0 or call not in NEEDED_EACH_TIME
        rules.clear()
        print(f"{call} failed {rule.applied} times")
        bystander.wait_progress()
        bystander.hands_off()

        def ended():
            counters = lingerd.counters()
            return (counters["LingerTotal"] - taken - 1
                    + counters["LingerRejected"] - before["LingerRejected"])

        # A rejected connection counts as well, so it may be more.
        wait_until(lambda: ended() >= len(clients), lambda: f"{ended()} of {len(clients)}")
        wait_equal(lingerd.queue, 2, "only the bystander's are left")
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
            client.close()
        counters = lingerd.counters()
        if CALLS[call] != "rejected" and call not in ("accept4", "send", "epoll_ctl"):
            assert counters["LingerRejected"] == before["LingerRejected"]
        if CALLS[call] == "taken" and call != "recv":
            assert counters["LingerEvicted"] == before["LingerEvicted"]
    wait_equal(lambda: len(lingerd.fds()), held, "lingerd's descriptors")
    assert stats.adds_up(lingerd.counters())


def test_the_listener_rests_while_nothing_can_be_accepted(injected, rules):
    """Would catch a loop that asks again and again: thousands of times in the same time."""
    injected.allowed_lines += INJECTED
    rule = rules.fail("accept4", "EMFILE")
    with Child(injected.socket_path) as child:
        started = injected.counters()["heartbeat_ns"]
        wait_until(lambda: age_ns(started) > 1_500_000_000, "a while")
        asked = rule.calls
        rules.clear()
        assert child.greeting() == WELCOME
    assert 0 < asked < 100


def test_a_childs_last_word(injected, rules):
    """A child hands off and exits just when lingerd has been told that there is something to read.
    Would catch the end of its connection counted as records that it never sent."""
    before = injected.counters()
    with Child(injected.socket_path) as child:
        assert child.greeting() == WELCOME
        rule = rules.delay("recvmmsg", 300)
        client = child.lingering_client()
        wait_until(lambda: rule.applied > 0, "lingerd is about to read")
    wait_equal(lambda: injected.counters()["LingerTotal"], before["LingerTotal"] + 1, "hand-offs")
    rules.clear()
    client.close()
    wait_equal(injected.queue, 0, "sockets in lingerd")
    assert injected.counters()["LingerRejected"] == before["LingerRejected"]


def test_a_broken_epoll_ends_it(sandbox):
    """Would catch a lingerd that goes round and round, content with itself and of no use: ended, it
    is started again."""
    rules = inject.Rules(sandbox.directory)
    path = sandbox.directory / "s.sock"
    with subprocess.Popen([places.LINGERD, "--socket", path], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          env=environment(rules.environment())) as process:
        assert "listens at" in process.stderr.readline()
        rules.fail("epoll_wait", "EBADF")
        assert process.wait(30) == 1
        assert process.stderr.readlines() == ["lingerd: epoll_wait: Bad file descriptor\n"]
    assert sorted(sandbox.directory.iterdir()) == [rules.path]


# ---- Starts that fail ----

STARTS_WITHOUT = {"epoll_create1": 1, "signalfd": 1, "bind": 1, "listen": 1, "epoll_ctl": 1}


@pytest.mark.parametrize("call", STARTS_WITHOUT)
def test_a_start_that_fails(sandbox, call):
    """Would catch a lingerd that goes on without what it needs, or doesn't say what that is, or
    leaves a socket behind that nobody listens at."""
    rules = inject.Rules(sandbox.directory)
    rules.fail(call, "ENOMEM", count=1)
    path = sandbox.directory / "s.sock"
    result = subprocess.run([places.LINGERD, "--socket", path], capture_output=True, text=True,
                            timeout=60, check=False, env=environment(rules.environment()))
    assert result.returncode == STARTS_WITHOUT[call], result
    assert "Cannot allocate memory" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert sorted(sandbox.directory.iterdir()) == [rules.path]


@contextlib.contextmanager
def without_a_page(sandbox, path, env=None, command=()):
    """A lingerd that says that it has no stats page: (process, log's text)."""
    log = sandbox.directory / "pageless.log"
    with open(log, "wb") as file, subprocess.Popen(
            [*command, places.LINGERD, "--socket", path, "--socket-mode", "0666"], stdout=file,
            stderr=file, stdin=subprocess.DEVNULL, env=environment(env)) as process:
        try:
            wait_until(lambda: process.poll() is not None or "listens at" in log.read_text(),
                       log.read_text)
            yield process, log.read_text()
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()


def _works_without_a_page(path):
    with Child(path) as child:
        assert child.greeting() == WELCOME
        client = client_with_response(child, RESPONSE, receive_buffer=4096, idle_ms=400)
        client.sendall(b"late")
        assert outcome(client) == "whole"


@pytest.mark.parametrize("call", ["open", "posix_fallocate", "fcntl", "mmap", "rename"])
def test_no_stats_page(sandbox, call):
    """Each step of making it fails. Would catch a lingerd that doesn't start without a page, is
    silent about it, or leaves half of it behind."""
    rules = inject.Rules(sandbox.directory)
    path = sandbox.directory / "s.sock"
    rules.fail(call, "ENOSPC", first={"open": 4}.get(call, 1), count=1)
    with without_a_page(sandbox, path, rules.environment()) as (_, text):
        assert f"no stats page, so server-status and lingerctl will say that lingerd is down: " \
               f"{path}.stats: No space left on device" in text
        assert not list(sandbox.directory.glob("*.stats*"))
        _works_without_a_page(path)


needs_root = pytest.mark.skipif(not places.am_root(), reason="needs root")


@needs_root
def test_full_disk(sandbox):
    """A real one. Would catch the SIGBUS that a page without space behind it would be."""
    disk = sandbox.directory / "full"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "linger-test", disk],
                      capture_output=True, check=False).returncode != 0:
        pytest.skip("can't mount a small disk here")
    try:
        with contextlib.suppress(OSError), open(disk / "rest", "wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4096))
        with without_a_page(sandbox, disk / "s.sock") as (_, text):
            assert "No space left on device" in text
            _works_without_a_page(disk / "s.sock")
        assert sorted(name.name for name in disk.iterdir()) == ["rest"]
        (disk / "rest").unlink()
        lingerd = sandbox.lingerd()  # and one that fills up later does no harm
        with open(disk / "rest", "wb"):
            assert lingerd.counters()["pid"] == lingerd.pid
    finally:
        subprocess.run(["umount", disk], check=True)


# sd_listen_fds(3): what systemd does, with a socket that this test has bound.
_ACTIVATE = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'


@needs_root
def test_read_only_directory(sandbox):
    """A socket of systemd's in a directory that lingerd's user can't write to."""
    directory = sandbox.directory / "root's"
    directory.mkdir(mode=0o755)
    path = directory / "s.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        log = sandbox.directory / "activated.log"
        with open(log, "wb") as file, subprocess.Popen(
                ["setpriv", "--reuid=nobody", "--clear-groups", "sh", "-c", _ACTIVATE, "sh",
                 places.LINGERD], stdin=listener, stdout=file, stderr=file,
                env=environment()) as process:
            wait_until(lambda: process.poll() is not None or "listens at" in log.read_text(),
                       log.read_text)
            assert f"no stats page, so server-status and lingerctl will say that lingerd is " \
                   f"down: {path}.stats: Permission denied" in log.read_text()
            _works_without_a_page(path)
            process.terminate()
            assert process.wait(30) == 0, log.read_text()
    assert sorted(name.name for name in directory.iterdir()) == ["s.sock"]


def test_a_directory_where_the_page_should_be(sandbox):
    path = sandbox.directory / "s.sock"
    pathlib.Path(f"{path}.stats").mkdir()
    with without_a_page(sandbox, path) as (_, text):
        assert "Is a directory" in text
        _works_without_a_page(path)
    assert sorted(name.name for name in sandbox.directory.glob("s.sock*")) == ["s.sock.stats"]


# ---- Signals, files, the calendar ----

def test_sigpipe(sandbox):
    """Its log's reader goes away, and peers go away before they are greeted. Would catch a lingerd
    that dies of either."""
    reader, writer = os.pipe()
    path = sandbox.directory / "s.sock"
    with subprocess.Popen([places.LINGERD, "--socket", path], stdin=subprocess.DEVNULL,
                          stdout=writer, stderr=writer, env=environment()) as process:
        os.close(writer)
        assert b"listens at" in os.read(reader, 4096)
        os.close(reader)
        for _ in range(3):
            with Child(path) as child:
                child.send(b"makes a line in the log")
        process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            Child(path).socket.close()
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGPIPE)
        _works_without_a_page(path)
        assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 0


def test_another_lingerd_at_the_same_path(sandbox):
    """The socket's file is removed, and another lingerd binds its own there. Would catch the old one
    that takes the new one's files along when it ends, and a child that is cut off from either."""
    old = sandbox.lingerd(name="l")
    with connected(old) as child:
        old.socket_path.unlink()
        old.stats_path.unlink()
        child.lingering_client(**FOREVER).close()
        new = sandbox.lingerd(name="l")
        with connected(new) as other:
            client = child.lingering_client(**FOREVER)
            other.lingering_client().close()
            wait_equal(lambda: new.counters()["LingerTotal"], 1, "hand-offs to the new one")
            wait_equal(new.queue, 0, "of that client")
            old.terminate()
            client.close()
            assert old.wait() == 0
            assert new.socket_path.is_socket() and new.counters()["pid"] == new.pid
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                child.lingering_client()
            with connected(new):
                pass


@pytest.mark.parametrize("days", [-400, 400])
def test_the_calendar_jumps(sandbox, days):
    """CLOCK_REALTIME set back and forth. Would catch a deadline, a heartbeat or an age that follows
    the calendar: lingers that end at once or never."""
    rules = inject.Rules(sandbox.directory)
    lingerd = inject.lingerd(sandbox, rules, "--max-time", "3600")
    with connected(lingerd) as child:
        staying = child.lingering_client(**FOREVER)
        ending = [child.lingering_client(idle_ms=1_500, cap_ms=3_600_000) for _ in range(5)]
        capped = [child.lingering_client(idle_ms=3_600_000, cap_ms=1_500) for _ in range(5)]
        wait_equal(lingerd.queue, 11, "sockets in lingerd")
        rules.page.calendar_offset_s = days * 86_400
        ending += [child.lingering_client(idle_ms=1_500, cap_ms=3_600_000) for _ in range(5)]
        wait_equal(lingerd.queue, 16, "sockets in lingerd after the jump")
        wait_equal(lingerd.queue, 1, "those whose time was over")
        counters = lingerd.counters()
        assert counters["LingerClosedIdle"] == 10 and counters["LingerClosedCap"] == 5
        assert 1_500 * 15 <= counters["LingerWorkerMillisFreed"] < 60_000 * 15
        beat = counters["heartbeat_ns"]
        wait_until(lambda: lingerd.counters()["heartbeat_ns"] > beat, "its heart beats on")
        assert 0 < counters["oldest_ns"] < counters["heartbeat_ns"]
        assert rules.page.calendar_calls == 0  # nothing in it has ever asked
        for client in (staying, *ending, *capped):
            client.close()
