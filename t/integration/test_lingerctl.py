# SPDX-License-Identifier: Apache-2.0
"""lingerctl tells the truth about a lingerd that is up, busy, gone, or of another version, and its
check and its exit codes are what monitoring expects."""
import json
import os
import re
import signal
import struct

import pytest

from harness import clients, lingerctl
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
    assert f"process {lingerd.pid}, socket {lingerd.socket_path}" in screen
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
    assert code == WARNING and "at its limit in the last 10 minutes, lingers evicted" in line
    assert check("--crit", "evicted=2", lingerd=lingerd)[0] == CRITICAL


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
    (["--warn", "lots"], "--warn: 'lots' is not a percentage of the queue's limit, 0 to 100"),
    (["--crit", "101"], "--crit: '101' is not a percentage"),
    (["--crit", "evicted=-1"], "--crit: 'evicted=-1' is not a whole number"),
    (["--warn", "size=1"], "--warn: 'size' is not queue, evicted or rejected"),
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
