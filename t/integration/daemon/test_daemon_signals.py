# SPDX-License-Identifier: Apache-2.0
"""Signals that others send by habit, and what lingerd waits for while it serves: its log, its
configuration."""
import os
import signal
import subprocess

import pytest

from harness import places, proc
from harness.record import Child
from harness.waiting import wait_equal, wait_until

HABITS = ["SIGALRM", "SIGHUP", "SIGUSR1", "SIGWINCH", "SIGPIPE", "SIGVTALRM", "SIGPROF", "SIGTTOU",
          "SIGTTIN", "SIGIO", "SIGPWR", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGSTKFLT", "SIGCONT",
          "SIGCHLD", "SIGRTMIN", "SIGRTMAX"]


def test_signals_sent_by_habit(sandbox):
    """Would catch a logrotate script that ends lingerd with all it holds."""
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines += ["configuration read again", "SIGUSR1 ignored"]
    with Child(lingerd.socket_path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_equal(lingerd.queue, 1, "it lingers")
        for number in [*(getattr(signal, name) for name in HABITS),
                       *range(signal.SIGRTMIN, signal.SIGRTMAX)]:
            os.kill(lingerd.pid, number)
        wait_until(lambda: "SIGUSR1 ignored: lingerd has no log file" in lingerd.log.text(),
                   "it says so")
        client.sendall(b"still taken")
        assert client.recv(1) == b"", "no RST"
        client.close()
        wait_equal(lambda: lingerd.counters()["LingerClosedByClient"], 1, "its client ends it")
    assert lingerd.running()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_that_stop(sandbox, number):
    """In order: would catch a core dump, a socket's file that stays, a client that is reset."""
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines.append("stopping: 1 sockets")
    with Child(lingerd.socket_path) as child:
        child.greeting()
        client = child.lingering_client(idle_ms=600_000, cap_ms=600_000)
        wait_equal(lingerd.queue, 1, "it lingers")
        os.kill(lingerd.pid, number)
        wait_until(lambda: "stopping: 1 sockets" in lingerd.log.text(), "it stops")
        client.sendall(b"still taken")
        assert client.recv(1) == b"", "no RST"
        client.close()
    assert lingerd.wait() == 0
    assert not lingerd.socket_path.exists()


def _is_served(lingerd, child):
    """While something else is waited for."""
    before = lingerd.counters()["LingerClosedByClient"]
    child.lingering_client(idle_ms=600_000, cap_ms=600_000).close()
    wait_equal(lambda: lingerd.counters()["LingerClosedByClient"], before + 1, "served meanwhile")


def test_a_configuration_that_is_a_fifo(sandbox):
    """Would catch a loop that waits for a writer there, of which there is none."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("max-connections = 10\n")
    lingerd = sandbox.lingerd("--config", str(config))
    lingerd.allowed_lines.append("configuration ")
    with Child(lingerd.socket_path) as child:
        child.greeting()
        config.unlink()
        os.mkfifo(config)
        lingerd.hang_up()
        _is_served(lingerd, child)
        wait_until(lambda: "configuration left as it was: reading the file, or looking up" in
                   lingerd.log.text(), lingerd.log.tail)
        config.unlink()
        config.write_text("max-connections = 20\n")
        lingerd.hang_up()
        wait_equal(lambda: lingerd.counters()["LingerQueueLimit"], 20, "the limit")
        _is_served(lingerd, child)


def test_a_new_program_that_hangs_in_its_check(sandbox, monkeypatch):
    """SIGUSR2. Would catch a loop that waits for it, and a stop that does."""
    program = sandbox.directory / "lingerd"
    program.write_bytes(places.LINGERD.read_bytes())
    program.chmod(0o755)
    monkeypatch.setattr(places, "LINGERD", program)
    lingerd = sandbox.lingerd()
    lingerd.allowed_lines.append("no successor, going on: its --check-config didn't end")
    fresh = sandbox.directory / "new"
    fresh.write_text("#!/bin/sh\nexec sleep 600\n")
    fresh.chmod(0o755)
    fresh.rename(program)
    with Child(lingerd.socket_path) as child:
        child.greeting()
        os.kill(lingerd.pid, signal.SIGUSR2)
        _is_served(lingerd, child)
        wait_until(lambda: "its --check-config didn't end within 10 seconds" in lingerd.log.text(),
                   lingerd.log.tail)
        os.kill(lingerd.pid, signal.SIGUSR2)
        _is_served(lingerd, child)
    lingerd.terminate()
    assert lingerd.wait(9) == 0


def test_a_log_that_nobody_reads(sandbox):
    """stderr is a pipe, full. Would catch a loop that waits for its reader; lines that are lost without a
    word."""
    path = sandbox.directory / "l.sock"
    ours, its = os.pipe()
    process = subprocess.Popen([str(places.LINGERD), "--socket", str(path)], stderr=its,
                               stdin=subprocess.DEVNULL)
    try:
        wait_until(path.is_socket, "it listens")
        os.set_blocking(its, False)
        try:
            while True:
                os.write(its, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(its, True)  # for lingerd, which shares it
        for order in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):  # SIGUSR1: a line at once
            os.kill(process.pid, order)
            with Child(path) as child:
                child.greeting()
                client = child.lingering_client()
                client.close()
        with Child(path) as child:
            child.greeting()
        wait_until(lambda: proc.waits_for_events(process.pid), "it has read its signals")
        os.set_blocking(ours, False)
        said = b""

        def all_said():
            nonlocal said
            try:
                said += os.read(ours, 1 << 20)
            except BlockingIOError:
                pass
            return b"log lines were lost: nobody read the log" in said
        wait_until(all_said, "it says so later")
    finally:
        process.terminate()
        assert process.wait(20) == 0
        os.close(its)
        os.close(ours)
