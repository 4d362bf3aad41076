# SPDX-License-Identifier: Apache-2.0
"""lingerd absent, stuck, killed or forbidden: no client notices, Apache lingers itself, and hand-offs
resume by themselves."""
import contextlib
import re
import socket

import pytest

from harness import clients, logs, places, proc
from harness.httpd import content
from harness.waiting import wait_equal, wait_until

DOWN = r"\[linger:warn\].* lingerd is down"
DENIED = r"\[linger:warn\].* lingerd denied"
BUSY = r"\[linger:warn\].* lingerd is busy"
BACK = r"\[linger:notice\].* lingerd is back .*; (\d+) connections fell back meanwhile"


def fetch_whole(httpd):
    """A client whose response an early close would destroy gets it."""
    with clients.stalled_reader(httpd.port, "/300k.bin") as client:
        assert clients.answered(client, 20)
        response, was_reset = clients.truncation_check(client, stall=0.2)
    assert not was_reset
    assert clients.split(response) == (200, content("300k.bin"))


def fallbacks(httpd):
    status = httpd.status()
    assert status["LingerFallbacks"] == sum(
        status["LingerFallbacks" + reason] for reason in ("Down", "Busy", "Denied"))
    return {reason: status["LingerFallbacks" + reason] for reason in ("Down", "Busy", "Denied")}


def hand_off_one(httpd):
    """One request; whether its connection went to lingerd."""
    before, handed_off = httpd.ended(), httpd.status()["LingerHandoffs"]
    client, status, body = clients.late_closer(httpd.port)
    with client:
        assert (status, body) == (200, content("hello.txt"))
        wait_until(lambda: httpd.ended() > before, "the connection to be counted")
        return httpd.status()["LingerHandoffs"] > handed_off


def wait_hand_offs_resume(httpd):
    """By themselves: nothing but requests."""
    wait_until(lambda: hand_off_one(httpd), "hand-offs resume", every=0.1)


def wait_lingering_inside(httpd):
    """Apache's own linger: the child keeps the socket; prefork and worker are in state C. For two
    seconds only, which a busy machine may miss: then with another client."""
    def seen():
        client, _, _ = clients.late_closer(httpd.port)
        with client:
            held = proc.count_held([client], httpd.children())
            # event lingers without a worker.
            return held and (httpd.mpm == "event" or "C" in httpd.scoreboard())

    wait_until(seen, "httpd holds a socket, in state C")


def test_absent_at_start(mpm, sandbox):
    """Would catch an httpd that doesn't start or serve without its lingerd, a client that is cut
    off, a log line for each child or connection, and hand-offs that never begin."""
    lingerd = sandbox.lingerd(start=False)
    httpd = sandbox.httpd(mpm, lingerd=lingerd, workers=4)
    httpd.allowed_lines += [DOWN, BACK]
    assert "LingerQueue" not in httpd.status()
    fetch_whole(httpd)
    wait_lingering_inside(httpd)
    for _ in range(8):
        clients.fetch(httpd.port)
    # A quick client may have closed before httpd looks; the two that stayed were there.
    down = wait_until(lambda: max(0, fallbacks(httpd)["Down"] - 1), "fallbacks") + 1
    assert len(httpd.error_log.matching(DOWN)) == 1, httpd.error_log.tail()

    lingerd.start()
    wait_hand_offs_resume(httpd)
    counted = sum(fallbacks(httpd).values())
    back = wait_until(lambda: httpd.error_log.matching(BACK), "a line about lingerd being back")
    assert len(back) == 1
    # A connection that fell back while another child already said so isn't in that line.
    assert down <= int(re.search(BACK, back[0])[1]) <= counted
    fetch_whole(httpd)


def test_absent_at_another_socket(mpm, sandbox):
    """LingerSocket is corrected, wrongly again, and then well. Would catch a log that says nothing of
    the second path because lingerd was down already, and one in which children of the configuration
    before go on about theirs."""
    nowhere = sandbox.directory / "nowhere.sock"
    lingerd = sandbox.lingerd()
    httpd = sandbox.httpd(mpm, socket_path=sandbox.directory / "never.sock")
    httpd.allowed_lines += [DOWN, BACK]
    fetch_whole(httpd)
    for path, pattern in ((nowhere, DOWN), (lingerd.socket_path, BACK)):
        httpd.socket_path = path
        httpd.write_config()
        httpd.graceful()

        def told(path=path, pattern=pattern):
            fetch_whole(httpd)
            return [line for line in httpd.error_log.matching(pattern) if str(path) in line]

        assert len(wait_until(told, f"a line about {path}")) == 1
    assert len(httpd.error_log.matching(DOWN)) == 2
    assert len(httpd.error_log.matching(BACK)) == 1


def test_killed_and_restarted(mpm, sandbox):
    """Would catch children that write into a dead connection for ever, a SIGPIPE, and clients
    that see any of it."""
    lingerd = sandbox.lingerd()
    httpd = sandbox.httpd(mpm, lingerd=lingerd, workers=4)
    httpd.allowed_lines += [DOWN, BACK]
    wait_hand_offs_resume(httpd)
    pids = httpd.children()
    for _ in range(3):
        lingerd.kill()
        for _ in range(6):  # each child finds out for itself
            assert clients.fetch(httpd.port) == (200, content("hello.txt"))
        fetch_whole(httpd)
        lingerd.start()
        wait_hand_offs_resume(httpd)
    assert fallbacks(httpd)["Down"] > 0
    assert httpd.children() == pids
    wait_equal(lambda: [len(httpd.error_log.matching(line)) for line in (DOWN, BACK)], [3, 3],
               "lines that lingerd is down, and back")


def test_killed_with_clients(mpm, sandbox):
    """What lingerd held when it was killed is closed by the kernel. Would catch clients that lose
    a response which they have received already, and those after the kill that lose theirs."""
    lingerd = sandbox.lingerd()
    httpd = sandbox.httpd(mpm, lingerd=lingerd)
    httpd.allowed_lines += [DOWN, BACK]
    held = [clients.late_closer(httpd.port) for _ in range(10)]
    wait_equal(lingerd.queue, 10, "sockets in lingerd")
    lingerd.kill()
    for client, status, body in held:
        assert (status, body) == (200, content("hello.txt"))
        client.close()
    fetch_whole(httpd)
    lingerd.start()
    wait_hand_offs_resume(httpd)


def test_stopped_with_its_queue_full(mpm, sandbox):
    """SIGSTOP: connections pile up in the socket between the two, until it is full. Would catch a
    worker that waits for lingerd, a client that does, a lost connection, and a descriptor that is
    in flight for ever."""
    lingerd = sandbox.lingerd()
    # Two processes at most, so that their queues fill soon.
    httpd = sandbox.httpd(mpm, lingerd=lingerd, workers=2, processes=1)
    httpd.allowed_lines += [BUSY, BACK, logs.ALL_BUSY]
    wait_hand_offs_resume(httpd)
    lingerd.pause()
    before = fallbacks(httpd)
    for _ in range(3000):
        # Half-closed by the server before the client is told: no client waits for lingerd.
        client, status, body = clients.late_closer(httpd.port)
        assert (status, body) == (200, content("hello.txt"))
        client.close()
        if fallbacks(httpd)["Busy"] > before["Busy"]:
            break
    else:
        raise AssertionError("the queue never filled")
    fetch_whole(httpd)
    assert httpd.status()["LingerUp"] == 1  # stopped isn't gone
    lingerd.resume()
    wait_hand_offs_resume(httpd)
    # Whatever was in the queue arrives: no hand-off is lost on the way.
    wait_until(lambda: lingerd.counters()["LingerTotal"] == httpd.status()["LingerHandoffs"],
               lambda: f"the halves agree: {httpd.status()}")
    after = fallbacks(httpd)
    assert after["Down"] == before["Down"] and after["Denied"] == before["Denied"]
    assert len(httpd.error_log.matching(BUSY)) <= 2, httpd.error_log.tail()


def test_stopped_before_httpd_starts(mpm, sandbox):
    """lingerd accepts (its kernel does) and greets nobody. Would catch an httpd that waits for the
    greeting, and one that falls back for ever without a word."""
    lingerd = sandbox.lingerd()
    lingerd.pause()
    httpd = sandbox.httpd(mpm, lingerd=lingerd, workers=2, processes=1)
    httpd.allowed_lines += [BUSY, BACK, logs.ALL_BUSY]
    fetch_whole(httpd)

    def told():
        assert not hand_off_one(httpd)
        return httpd.error_log.matching(BUSY)

    wait_until(told, "a line that says why", every=0.1)
    assert fallbacks(httpd)["Busy"] > 0 and httpd.status()["LingerUp"] == 1
    lingerd.resume()
    wait_hand_offs_resume(httpd)
    wait_until(lambda: httpd.error_log.matching(BACK), "the line that it's back")
    assert len(httpd.error_log.matching(BUSY)) == 1, httpd.error_log.tail()


needs_root = pytest.mark.skipif(not places.am_root(), reason="permissions don't stop this user")


@needs_root
def test_denied_by_the_sockets_mode(mpm, sandbox):
    """Would catch EACCES taken for 'down', which sends the admin the wrong way."""
    lingerd = sandbox.lingerd(mode="0600")
    httpd = sandbox.httpd(mpm, lingerd=lingerd)
    httpd.allowed_lines += [DENIED, BACK]
    fetch_whole(httpd)
    for _ in range(6):
        assert clients.fetch(httpd.port) == (200, content("hello.txt"))
    found = fallbacks(httpd)
    assert found["Denied"] > 0 and found["Down"] == found["Busy"] == 0
    assert len(httpd.error_log.matching(DENIED)) == 1, httpd.error_log.tail()
    assert lingerd.counters()["LingerTotal"] == 0
    lingerd.socket_path.chmod(0o666)
    wait_hand_offs_resume(httpd)


@needs_root
def test_denied_by_allow_user(mpm, sandbox):
    """The same, refused in lingerd's greeting. Would catch a socket that is sent to a lingerd that
    will throw it away: that client would be cut off."""
    lingerd = sandbox.lingerd("--allow-user", "nobody")
    lingerd.allowed_lines.append("refused a connection")
    httpd = sandbox.httpd(mpm, lingerd=lingerd)
    httpd.allowed_lines.append(DENIED)
    fetch_whole(httpd)
    for _ in range(6):
        assert clients.fetch(httpd.port) == (200, content("hello.txt"))
    found = fallbacks(httpd)
    assert found["Denied"] > 0 and found["Down"] == found["Busy"] == 0
    assert len(httpd.error_log.matching(DENIED)) == 1, httpd.error_log.tail()
    counters = lingerd.counters()
    assert counters["LingerTotal"] == 0 and counters["LingerRejected"] > 0


def test_fallback_close(mpm, sandbox):
    """LingerFallback close: the worker is free at once, at the price that the client's response may
    be destroyed, which is why it isn't the default. Would catch an Apache that lingers all the
    same."""
    lingerd = sandbox.lingerd(start=False)
    httpd = sandbox.httpd(mpm, lingerd=lingerd, linger_directives="LingerFallback close\n",
                          workers=2)
    httpd.allowed_lines.append(DOWN)
    with contextlib.ExitStack() as stack:
        for _ in range(10):  # on two workers: each would hold one for two seconds
            client, status, body = clients.late_closer(httpd.port)
            stack.enter_context(client)
            assert (status, body) == (200, content("hello.txt"))
            wait_until(lambda: not proc.count_held([client], httpd.children()), "httpd has closed")
        assert "C" not in httpd.scoreboard()
    with clients.stalled_reader(httpd.port, "/300k.bin") as client:
        assert clients.answered(client, 20)
        _, was_reset = clients.truncation_check(client, stall=0.2)
    assert was_reset
    assert fallbacks(httpd)["Down"] == 11


def test_lingerd_of_another_program(mpm, sandbox):
    """Something listens at LingerSocket that isn't lingerd and says nothing. Would catch a child
    that waits for its greeting for ever, and sockets sent to a stranger."""
    path = sandbox.directory / "stranger.sock"
    with silent_listener(path):
        httpd = sandbox.httpd(mpm, socket_path=path)
        # A child waits a moment for a greeting before it serves: none may be idle when prefork looks.
        httpd.allowed_lines += [r"\[linger:warn\]", "AH00161"]
        fetch_whole(httpd)
        for _ in range(4):
            assert clients.fetch(httpd.port) == (200, content("hello.txt"))
        status = httpd.status()
        assert status["LingerHandoffs"] == 0 and status["LingerFallbacks"] > 0
        assert status["LingerUp"] == 0


@contextlib.contextmanager
def silent_listener(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(64)
        yield
