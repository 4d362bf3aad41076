# SPDX-License-Identifier: Apache-2.0
"""What breaks inside httpd's children: system calls of the hand-off fail, descriptors run out, a
child is killed in the middle, queues are as short as they can be. No client notices, each connection
is counted, and hand-offs resume by themselves."""
import contextlib
import ctypes
import os
import pathlib
import pwd
import resource
import signal
import subprocess
import time

import pytest

from harness import clients, inject, logs, places, proc, stats
from harness.httpd import FATES, content
from harness.sandbox import wait_halves_agree
from harness.waiting import wait_equal, wait_until

NOTED = r"\[linger:(warn|notice)\].* lingerd (is (down|busy|back)|denied)"


def fetch_whole(httpd):
    """A client whose response an early close would destroy gets it."""
    with clients.stalled_reader(httpd.port, "/300k.bin") as client:
        assert clients.answered(client, 20)
        response, was_reset = clients.truncation_check(client, stall=0.1)
    assert not was_reset
    assert clients.split(response) == (200, content("300k.bin"))


def grown(httpd, before):
    """The fates of connections since `before`, those of our looks at it left out."""
    status = httpd.status()
    found = {fate.removeprefix("Linger"): status[fate] - before[fate] for fate in FATES}
    for reason in ("Down", "Busy", "Denied"):
        found[reason] = status[f"LingerFallbacks{reason}"] - before[f"LingerFallbacks{reason}"]
    assert found["Fallbacks"] == found["Down"] + found["Busy"] + found["Denied"]
    return found


def wait_hand_offs_resume(httpd):
    def handed_off():
        before = httpd.status()["LingerHandoffs"]
        client, status, body = clients.late_closer(httpd.port)
        with client:
            assert (status, body) == (200, content("hello.txt"))
        return httpd.status()["LingerHandoffs"] > before

    wait_until(handed_off, "hand-offs resume", every=0.1)


def fill_the_queue(httpd, before):
    """Hands off, one after the other, until one is left to Apache."""
    def one_more_is_left_to_apache():
        client, status, body = clients.late_closer(httpd.port)
        with client:  # until it is decided
            assert (status, body) == (200, content("hello.txt"))
            return grown(httpd, before)["Busy"] > 0

    wait_until(one_more_is_left_to_apache, "the queue is full", every=0)


# ---- System calls of the hand-off ----

@pytest.fixture(name="server", scope="module", params=["prefork", "event"])
def server_fixture(request, module_sandbox):
    rules = inject.Rules(module_sandbox.directory)
    lingerd = module_sandbox.lingerd()
    # One child: a second one might still be waiting before it connects again, from the test before.
    httpd = inject.httpd(module_sandbox, rules.environment(), request.param, lingerd=lingerd,
                         workers=1)
    return httpd, lingerd, rules


@pytest.fixture(name="site")
def site_fixture(server):
    """A failed test leaves no fault behind for the next."""
    server[0].allowed_lines.append(logs.ALL_BUSY)
    yield server
    server[2].clear()


# What fails, and which kind of fallback that is. Errors of a connection that is gone make the
# child connect again: all but those that come before it is greeted are handed off.
SENDING = {
    "EAGAIN": "Busy", "ETOOMANYREFS": "Busy", "ENOMEM": "Busy", "ENOBUFS": "Busy",
    "EMFILE": "Busy", "EINTR": "Busy", "EACCES": "Denied", "EPERM": "Denied", "EBADF": "Aborted",
    "EPIPE": "Handoffs", "ECONNRESET": "Handoffs", "ENOTCONN": "Handoffs", "ECONNREFUSED": "Handoffs",
}
CONNECTING = {
    ("socket", "EMFILE"): "Busy", ("socket", "ENOMEM"): "Busy", ("connect", "EAGAIN"): "Busy",
    ("connect", "ENOMEM"): "Busy", ("connect", "ECONNREFUSED"): "Down",
    ("connect", "ENOENT"): "Down", ("connect", "EACCES"): "Denied", ("dup3", "EMFILE"): "Busy",
    ("dup3", "EBUSY"): "Busy", ("socket", "EACCES"): "Denied", ("socket", "EAFNOSUPPORT"): "Denied",
}


def _fetch_during(httpd, fault, count):
    """`count` clients while `fault()` is in force; (fates, rule)."""
    before = httpd.status()
    fault()
    for _ in range(count):
        fetch_whole(httpd)
    wait_until(lambda: sum(grown(httpd, before)[fate.removeprefix("Linger")] for fate in FATES
                           if fate != "LingerLeftOff") == count, "each is counted")
    return grown(httpd, before)


def _recover(site, pids):
    httpd, lingerd, rules = site
    rules.clear()
    wait_hand_offs_resume(httpd)
    assert httpd.children() == pids
    wait_halves_agree(httpd, lingerd)
    wait_equal(lingerd.queue, 0, "sockets in lingerd")


@pytest.mark.parametrize("error", SENDING)
def test_sending_fails(site, error):
    """Would catch a client that is cut off, a connection that is counted twice or not at all, and a
    child that gives up for good."""
    httpd, _, rules = site
    httpd.allowed_lines.append(NOTED)
    pids, mark = httpd.children(), httpd.error_log.mark()
    rule = None

    def fault():
        nonlocal rule
        # Of an error that makes it connect again only the first comes: the next send succeeds.
        rule = rules.fail("sendmsg", error, count=1 if SENDING[error] == "Handoffs" else 1000)

    found = _fetch_during(httpd, fault, 3)
    assert rule.applied == (1 if SENDING[error] == "Handoffs" else 3)
    if SENDING[error] == "Handoffs":
        assert found["Handoffs"] + found["Busy"] == 3 and found["Handoffs"] > 0, found
    else:
        assert found[SENDING[error]] == 3, found
    assert len(httpd.error_log.matching(NOTED, mark)) <= 2
    _recover(site, pids)


@pytest.mark.parametrize("call,error", CONNECTING)
def test_connecting_fails(site, call, error):
    """lingerd's connection broke and no other can be had. Would catch the same."""
    httpd, _, rules = site
    httpd.allowed_lines.append(NOTED)
    pids = httpd.children()
    rule = None

    def fault():
        nonlocal rule
        rule = rules.fail(call, error)
        rules.fail("sendmsg", "EPIPE")

    found = _fetch_during(httpd, fault, 3)
    assert rule.applied > 0
    assert found[CONNECTING[call, error]] == 3, found
    _recover(site, pids)


@pytest.mark.parametrize("call,error", [("shutdown", "ENOTCONN"), ("recv", "ECONNRESET")])
def test_the_client_is_gone_already(site, call, error):
    """What these say of a connection that the client has reset. Would catch a hand-off of it."""
    httpd, _, rules = site
    pids = httpd.children()

    def fault():
        # Apache's own linger, if it took place, would shut down as well, and harmlessly.
        rules.fail(call, error, count=1000)

    before = httpd.status()
    fault()
    for _ in range(3):
        clients.fetch(httpd.port)
    wait_until(lambda: grown(httpd, before)["AlreadyClosed"] >= 3, "each is counted")
    assert grown(httpd, before)["Handoffs"] == 0
    _recover(site, pids)


def test_no_descriptor_when_the_children_start(site):
    """Would catch a child that never hands off because its first socket() failed."""
    httpd, _, rules = site
    httpd.allowed_lines.append(NOTED)
    rule = rules.fail("socket", "EMFILE")
    httpd.graceful()
    fetch_whole(httpd)
    wait_until(lambda: rule.applied > 0, "a new child has started")
    rules.clear()
    wait_hand_offs_resume(httpd)


def test_the_calendar_jumps(site):
    """A day back and a day on, for httpd alone. Would catch a hand-off that carries the calendar's
    time, or a child that waits for tomorrow before it connects again."""
    httpd, lingerd, rules = site
    httpd.allowed_lines.append(NOTED)
    for days in (-1, 1, 0):
        rules.page.calendar_offset_s = days * 86_400
        rules.fail("sendmsg", "EPIPE", count=1)  # and so it connects again
        wait_hand_offs_resume(httpd)
        wait_halves_agree(httpd, lingerd)
        before = lingerd.counters()
        client, _, _ = clients.late_closer(httpd.port)
        with client:
            wait_until(lambda: lingerd.counters()["LingerTotal"] > before["LingerTotal"], "taken")
            assert 0 <= time_since(lingerd.counters()["oldest_ns"]) < 60
        wait_equal(lingerd.queue, 0, "sockets in lingerd")
        rules.clear()
    assert rules.page.calendar_calls > 0


def time_since(monotonic_ns):
    return (time.monotonic_ns() - monotonic_ns) / 1e9


# ---- Descriptors ----

needs_root = pytest.mark.skipif(not places.am_root(), reason="needs root")



def own_user():
    """A user that no other test's children run as: the kernel counts descriptors in flight by
    user. Some name that each system has, and another one for each process that tests."""
    names = [entry.pw_name for entry in pwd.getpwall()
             if 0 < entry.pw_uid < 100 and entry.pw_name != places.HTTPD_USER]
    name = names[os.getpid() % len(names)]
    return f"User {name}\nGroup #{pwd.getpwnam(name).pw_gid}\n"


def _set_limit(pid, soft):
    """As the child's user, who alone may without CAP_SYS_RESOURCE."""
    user = pwd.getpwuid(proc.uid(pid))
    subprocess.run(["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
                    "prlimit", f"--pid={pid}", f"--nofile={soft}:"], check=True)


@contextlib.contextmanager
def only_descriptors(pid, number):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    _set_limit(pid, number)
    try:
        yield
    finally:
        _set_limit(pid, before)


@needs_root
def test_too_many_in_flight(sandbox):
    """ETOOMANYREFS: lingerd is stopped, and more sockets are under way than the child may have
    descriptors. Would catch a client that is cut off, a child that takes lingerd for dead, and a log
    that doesn't say which limit it is."""
    lingerd = sandbox.lingerd()
    httpd = sandbox.httpd("prefork", lingerd=lingerd, workers=1,
                          config=own_user())
    httpd.allowed_lines += [NOTED, logs.ALL_BUSY]
    wait_hand_offs_resume(httpd)
    child, = httpd.children()
    before = httpd.status()
    lingerd.pause()
    with only_descriptors(child, 40):
        fill_the_queue(httpd, before)
        fetch_whole(httpd)
        found = grown(httpd, before)
        assert found["Busy"] > 0 and found["Handoffs"] > 0
        assert found["Down"] == found["Denied"] == 0
        busy, = httpd.error_log.matching("lingerd is busy")
        assert "Too many references" in busy and "RLIMIT_NOFILE" in busy
    lingerd.resume()
    wait_hand_offs_resume(httpd)
    wait_halves_agree(httpd, lingerd)
    assert httpd.children() == [child]


@needs_root
def test_out_of_descriptors(sandbox):
    """A child with room for its client's socket and nothing else, whose lingerd has just been
    restarted. Would catch a child that is lost to hand-offs, or that dies."""
    lingerd = sandbox.lingerd()
    httpd = sandbox.httpd("prefork", lingerd=lingerd, workers=1,
                          config=own_user() + "Redirect gone /gone\nErrorDocument 410 gone\n")
    httpd.allowed_lines += [NOTED, r"EMFILE|Too many open files|AH00136|AH0\d{4}"]
    wait_hand_offs_resume(httpd)
    child, = httpd.children()
    lingerd.restart()
    before = httpd.status()  # finds lingerd gone, and doesn't hand off itself
    # The connection of that look is closed when the child has seen its client's end.
    idle = min(lowest_free(child) for _ in range(50) if not time.sleep(0.01))
    with only_descriptors(child, idle + 1):
        for _ in range(3):
            client, status, body = clients.late_closer(httpd.port, "/gone")
            assert (status, body) == (410, b"gone")
            time.sleep(0.1)  # or it might be gone before the child looks whether it is
            client.close()
    found = grown(httpd, before)
    assert found["Busy"] > 0 and found["Busy"] + found["AlreadyClosed"] == 3, found
    wait_hand_offs_resume(httpd)
    assert httpd.children() == [child]


def lowest_free(pid):
    held = proc.fds(pid)
    return next(number for number in range(len(held) + 1) if number not in held)


# ---- Killed in the middle ----

@pytest.mark.parametrize("killed_mpm", ["prefork", "event"])
def test_children_are_killed(sandbox, killed_mpm):
    """SIGKILL, at any moment of a hand-off, again and again under load. Would catch a record without
    its socket, half a record, a peer that lingerd keeps, and books that no longer balance."""
    lingerd = sandbox.lingerd()
    httpd = sandbox.httpd(killed_mpm, lingerd=lingerd, workers=4, processes=2)
    httpd.allowed_lines += [NOTED, logs.ALL_BUSY, "AH00052"]
    held = len(lingerd.fds())
    kills = 0
    with clients.Load(httpd.port) as load:
        for _ in range(6):
            answered = load.answered
            wait_until(lambda seen=answered: load.answered > seen + 20, "answers")
            for child in httpd.children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                    kills += 1
            wait_until(lambda: len(httpd.children()) > 0, "httpd's parent starts others")
    wait_equal(lingerd.queue, 0, "sockets in lingerd")
    # Sent, and killed before it was counted: one for each thread that died at most.
    handed_off = httpd.status()["LingerHandoffs"]
    wait_until(lambda: 0 <= lingerd.counters()["LingerTotal"] - handed_off <= kills * 4,
               lambda: f"{handed_off} handed off: {lingerd.counters()}")
    counters = lingerd.counters()
    assert counters["LingerRejected"] == 0
    assert stats.adds_up(counters)
    wait_until(lambda: len(lingerd.fds()) <= held + len(httpd.children()), "the dead are gone")
    load.failures.clear()  # clients of a killed child were cut off: by the kill


# ---- The machine's limits at their minimum ----

CLONE_NEWNET = 0x40000000
LEAST = {"core/somaxconn": "1", "unix/max_dgram_qlen": "0", "ipv4/tcp_wmem": "4096 4096 4096"}


@pytest.fixture(name="narrow")
def narrow_fixture():
    """A network namespace of this test's own with the shortest queues that the kernel allows."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET) != 0:
        os.close(ours)
        pytest.skip("can't have a network namespace here")
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for name, value in LEAST.items():
            try:
                pathlib.Path("/proc/sys/net", name).write_text(value)
            except OSError as failure:
                pytest.skip(f"net.{name} can't be set here: {failure}")
        yield
    finally:
        assert libc.setns(ours, CLONE_NEWNET) == 0
        os.close(ours)


@pytest.mark.parametrize("narrow_mpm", ["prefork", "event"])
def test_the_shortest_queues(narrow, sandbox, narrow_mpm):
    """somaxconn, max_dgram_qlen and tcp_wmem of the namespace, and the smallest send buffer of the
    sockets between the two, whose limit no namespace has of its own. Would catch a child that waits
    for room, or doesn't come back once there is some."""
    rules = inject.Rules(sandbox.directory)
    rules.page.send_buffer = 1  # which the kernel rounds up to its least
    lingerd = sandbox.lingerd()
    httpd = inject.httpd(sandbox, rules.environment(), narrow_mpm, lingerd=lingerd, workers=8)
    httpd.allowed_lines += [NOTED, logs.ALL_BUSY]
    wait_hand_offs_resume(httpd)
    before = httpd.status()
    lingerd.pause()

    fill_the_queue(httpd, before)
    lingerd.resume()
    wait_hand_offs_resume(httpd)
    clients.load(httpd.port, 1000)
    wait_halves_agree(httpd, lingerd)
    found = grown(httpd, before)
    assert found["Down"] == found["Denied"] == 0
