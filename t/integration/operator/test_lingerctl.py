# SPDX-License-Identifier: Apache-2.0
"""lingerctl tells the truth about a lingerd that is up, busy, gone, or of another version, and its
check and its exit codes are what monitoring expects."""
import json
import os
import re
import signal
import struct

import pytest

from harness import clients, lingerctl, proc
from harness.record import Child
from harness.waiting import wait_until

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_VERSION_OFFSET = 8


def check(*arguments, lingerd):
    """(exit code, the one line)"""
    result = lingerctl.run("check", *arguments, lingerd=lingerd)
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    return result.returncode, result.stdout.strip()


def auto_of_daemon(httpd):
    keys = ("LingerTotal", "LingerClosedByClient", "LingerQueue", "LingerRejected",
            "LingerWorkerMillisFreed")
    status = httpd.status()
    return {key: status[key] for key in keys}


def test_it_says_what_httpd_says(sandbox):
    """Would catch a lingerctl that reads another place or another layout than the module."""
    httpd, lingerd = sandbox.site("prefork")
    waiting = [clients.late_closer(httpd.port)[0] for _ in range(5)]
    wait_until(lambda: lingerd.queue() == 5, "five linger")
    for client in waiting:
        client.close()
    wait_until(lambda: lingerd.counters()["LingerClosedByClient"] == 5, "five lingers ended")
    daemon = auto_of_daemon(httpd)
    told = json.loads(lingerctl.print_of("--json", lingerd=lingerd))
    assert {key: told[key] for key in daemon} == daemon
    assert told["state"] == "up" and told["pid"] == lingerd.pid
    assert "LingerHandoffs" not in told  # only httpd knows
    screen = lingerctl.print_of(lingerd=lingerd)
    assert "lingerd is up for " in screen
    assert re.search(r"Taken over +5\n", screen)
    connected = told["LingerPeers"]
    assert connected >= 1
    assert f"process {lingerd.pid}, {connected} process" in screen
    assert f"socket {lingerd.socket_path}" in screen
    assert "\x1b" not in screen  # no terminal, no colours


def test_stopped_killed_gone_and_back(sandbox):
    lingerd = sandbox.lingerd()
    lingerd.pause()
    wait_until(lambda: "lingerd is busy: no sign of life for" in lingerctl.print_of(lingerd=lingerd),
               "busy is seen")
    code, line = check(lingerd=lingerd)
    assert code == CRITICAL and line.startswith("LINGERD CRITICAL - busy: no sign of life for ")
    lingerd.resume()
    wait_until(lambda: check(lingerd=lingerd)[0] == OK, "up again is seen")

    lingerd.kill()
    assert re.match(r"lingerd is down: gone for .*: stopped or killed\n",
                    lingerctl.print_of(lingerd=lingerd))
    assert check(lingerd=lingerd)[0] == CRITICAL
    told = json.loads(lingerctl.print_of("--json", lingerd=lingerd))
    assert told["LingerUp"] == 0 and "LingerQueue" not in told
    assert "lingerd_up 0\n" in lingerctl.print_of("--metrics", lingerd=lingerd)
    assert "lingerd_queue" not in lingerctl.print_of("--metrics", lingerd=lingerd)

    lingerd.stop()
    lingerd.stats_path.unlink()
    assert f"there is no {lingerd.stats_path}" in lingerctl.print_of(lingerd=lingerd)
    code, line = check(lingerd=lingerd)
    assert code == CRITICAL and line.startswith("LINGERD CRITICAL - down: there is no ")


def test_another_version_is_named(sandbox):
    lingerd = sandbox.lingerd()
    with open(lingerd.stats_path, "r+b") as page:
        page.seek(_VERSION_OFFSET)
        page.write(struct.pack("=I", 77))
    assert "of another version of lingerd (its page has version 77" in \
        lingerctl.print_of(lingerd=lingerd)
    code, line = check(lingerd=lingerd)
    assert code == UNKNOWN and line.startswith("LINGERD UNKNOWN - ")


@pytest.mark.parametrize("make", ["fifo", "empty", "directory", "garbage"])
def test_something_else_at_the_path(sandbox, make):
    """Neither waits nor crashes: a FIFO without a writer would hold an open() for ever."""
    path = sandbox.directory / "other.sock.stats"
    if make == "fifo":
        os.mkfifo(path)
    elif make == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"" if make == "empty" else b"\xff" * 100_000)
    socket = path.with_suffix("")
    assert "lingerd is down: " in lingerctl.print_of("--socket", socket)
    assert lingerctl.run("--socket", socket, "check").returncode == UNKNOWN


def test_check_warns_by_the_queues_share_and_by_evictions(sandbox):
    httpd, lingerd = sandbox.site("prefork", "--max-connections", "10", workers=4)
    waiting = [clients.late_closer(httpd.port)[0] for _ in range(8)]
    wait_until(lambda: lingerd.queue() == 8, "eight linger")
    code, line = check("--warn", "80", "--crit", "queue=90%", lingerd=lingerd)
    assert code == WARNING and "queue 8 of 10 (80%)" in line
    assert re.search(r" \| queue=8;8;9;0;10 oldest=\d+\.\d+s taken_over=8c ", line)
    assert check("--warn", "70", "--crit", "80", lingerd=lingerd)[0] == CRITICAL
    assert check("--warn", "81", "--crit", "90", lingerd=lingerd)[0] == OK

    waiting += [clients.late_closer(httpd.port)[0] for _ in range(4)]
    wait_until(lambda: lingerd.counters()["LingerEvicted"] == 2, "two are evicted")
    for client in waiting:
        client.close()
    wait_until(lambda: lingerd.queue() == 0, "the queue is empty")
    code, line = check(lingerd=lingerd)
    assert code == WARNING and "2 evicted in 10 minutes" in line
    assert check("--crit", "evicted=2", lingerd=lingerd)[0] == CRITICAL
    assert check("--warn", "evicted=3", lingerd=lingerd)[0] == OK
    assert check("--warn", "evicted=off", lingerd=lingerd)[0] == OK


def test_check_knows_of_fallbacks_once_httpd_can_tell(sandbox):
    """lingerd isn't there when they happen: httpd says so with the next hand-off."""
    httpd, lingerd = sandbox.site("prefork")
    httpd.allowed_lines += [r"lingerd is (down|back)"]
    assert check(lingerd=lingerd)[0] == OK

    lingerd.kill()
    with clients.late_closer(httpd.port)[0]:
        wait_until(lambda: httpd.status()["LingerFallbacks"] >= 1, "a fallback")
    fallen = httpd.status()["LingerFallbacks"]
    lingerd.start()

    def told():
        with clients.late_closer(httpd.port)[0]:
            wait_until(lambda: httpd.status()["BusyWorkers"] == "1"
                       or httpd.status()["LingerHandoffs"] > 0, "it is over")
        # All of them: one more may have fallen back before its child had been greeted.
        reported = lingerd.counters()["LingerFallbacksReported"]
        return reported >= fallen and reported == httpd.status()["LingerFallbacks"]
    wait_until(told, lambda: f"lingerd knows: {lingerd.counters()}")
    code, line = check(lingerd=lingerd)
    assert code == WARNING and "of httpd's connections fell back in 10 minutes" in line
    assert check("--crit", "fallbacks=1", lingerd=lingerd)[0] == CRITICAL
    assert check("--warn", "fallbacks=off", lingerd=lingerd)[0] == OK
    assert re.search(r"Fallbacks reported +\d+\n", lingerctl.print_of(lingerd=lingerd))


def test_check_can_miss_httpd(sandbox):
    """Nothing else tells lingerd that httpd's user may not use its socket."""
    lingerd = sandbox.lingerd()
    code, line = check("--crit", "peers=1", lingerd=lingerd)
    assert code == CRITICAL and "no httpd connected" in line
    assert check(lingerd=lingerd)[0] == OK
    httpd = sandbox.httpd("prefork", lingerd=lingerd)
    wait_until(lambda: lingerd.counters()["LingerPeers"] >= 1, "a child has connected")
    assert check("--crit", "peers=1", lingerd=lingerd)[0] == OK
    httpd.stop()
    wait_until(lambda: lingerd.counters()["LingerPeers"] == 0, "they are gone")


@pytest.mark.parametrize("how", ["SIGUSR2", "kill"])
def test_the_last_ten_minutes_outlive_lingerd(sandbox, how):
    """Would catch charts, and a check, that know nothing after an upgrade."""
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += ["handing over", "took over", "listens at"]

    def longest():
        told = json.loads(lingerctl.print_of("--json", lingerd=lingerd))
        return max(value or 0 for value in told["history"]["queue"])
    with Child(lingerd.socket_path) as child:
        child.greeting()
        waiting = [child.lingering_client() for _ in range(3)]
        wait_until(lambda: longest() == 3, "they are in the history")
        for client in waiting:
            client.close()
        wait_until(lambda: lingerd.queue() == 0, "they have ended")
        if how == "kill":
            lingerd.kill()
            lingerd.start()
        else:
            os.kill(lingerd.pid, signal.SIGUSR2)
            wait_until(lambda: "took over" in lingerd.log.text(), "the next one goes on")
        assert longest() == 3


@pytest.mark.parametrize("arguments, words", [
    (["--bogus"], "--bogus"),
    (["bogus"], "bogus"),
    (["--socket"], "--socket"),
    (["--json", "--metrics"], "--json excludes --metrics"),
    (["top", "--interval", "0"], "--interval: '0' is not a number of seconds from 0.1 to 3600"),
    (["top", "--interval", "soon"], "--interval: 'soon' is not"),
])
def test_a_wrong_argument_is_named(arguments, words):
    result = lingerctl.run(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert words in result.stderr


@pytest.mark.parametrize("arguments, words", [
    (["--warn", "lots"], "--warn: 'lots' is not a percentage, 0 to 100, or off"),
    (["--crit", "101"], "--crit: '101' is not a percentage"),
    (["--crit", "evicted=-1"], "--crit: 'evicted=-1' is not a whole number"),
    (["--warn", "size=1"], "--warn: 'size' is not queue, fallbacks, evicted, rejected or peers"),
    (["--bogus"], "--bogus"),
])
def test_a_plugin_called_wrongly_is_unknown(arguments, words):
    """Exit code 1 or 2 would be an alarm about lingerd."""
    result = lingerctl.run("check", *arguments)
    assert result.returncode == UNKNOWN and result.stderr == ""
    assert result.stdout.startswith("LINGERD UNKNOWN - ") and words in result.stdout


def test_a_full_disk_is_noticed():
    with open("/dev/full", "w") as full:
        result = lingerctl.run("--metrics", stdout=full)
    assert result.returncode == 1 and "standard output" in result.stderr


def test_top_says_so_without_a_terminal(sandbox):
    result = lingerctl.run("top", lingerd=sandbox.lingerd())
    assert result.returncode == 2 and result.stdout == ""
    assert "standard output is not a terminal" in result.stderr


def frames(text):
    return text.count("lingerd is ")


@pytest.mark.parametrize("leave", ["q", "SIGINT", "SIGTERM"])
def test_top_is_live_and_leaves_the_terminal_as_it_was(sandbox, leave):
    lingerd = sandbox.lingerd()
    with lingerctl.InTerminal("--socket", lingerd.socket_path, "top", "--interval", "0.1") as top:
        before = top.settings_before
        top.read_until(lambda text: frames(text) >= 3, "three frames")
        assert top.settings() != before  # keys come one at a time
        lingerd.pause()
        top.read_until(lambda text: "no sign of life for" in text, "the state changes")
        lingerd.resume()
        if leave == "q":
            top.type("q")
        else:
            top.signal(getattr(signal, leave))
        assert top.wait() == 0
        assert top.settings() == before
        assert top.text.endswith("\x1b[?7h\x1b[?25h")  # wrapping and cursor are back
        assert "per second" in top.text and "q quits" in top.text


def test_top_on_a_terminal_that_can_do_nothing(sandbox):
    lingerd = sandbox.lingerd()
    arguments = ("--socket", lingerd.socket_path, "top", "--interval", "0.1")
    with lingerctl.InTerminal(*arguments, env={"TERM": "dumb"}) as top:
        top.read_until(lambda text: frames(text) >= 3, "three frames")
        top.type("q")
        assert top.wait() == 0
        assert "\x1b" not in top.text


def test_top_fits_its_terminal_and_follows_its_size(sandbox):
    lingerd = sandbox.lingerd()
    with lingerctl.InTerminal("--socket", lingerd.socket_path, "top", "--interval", "3600") as top:
        def last_frame():
            return top.text.rpartition("\x1b[H")[2]
        for rows, columns in ((24, 80), (9, 40), (40, 132)):
            seen = frames(top.text)
            if rows != 24:
                top.resize(rows, columns)
            top.read_until(lambda text, n=seen: frames(text) > n and text.endswith("\x1b[J"),
                           f"a frame for {rows} rows")
            assert last_frame().count("\r\n") < rows
        assert "q quits" in last_frame()
        top.type("q")
        assert top.wait() == 0


def test_top_gives_the_terminal_back_while_it_is_suspended(sandbox):
    lingerd = sandbox.lingerd()
    with lingerctl.InTerminal("--socket", lingerd.socket_path, "top", "--interval", "3600") as top:
        top.read_until(lambda text: frames(text) >= 1, "a frame")
        top.signal(signal.SIGTSTP)
        wait_until(lambda: proc.state(top.process.pid) == "T", "it is stopped")
        assert top.settings() == top.settings_before
        assert top.read().endswith("\x1b[?7h\x1b[?25h")
        seen = frames(top.text)
        top.signal(signal.SIGCONT)
        top.read_until(lambda text: frames(text) > seen, "a frame after that")
        assert top.settings() != top.settings_before
        top.type("q")
        assert top.wait() == 0
