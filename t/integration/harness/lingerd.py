# SPDX-License-Identifier: Apache-2.0
"""A private lingerd. It may be a sanitized one: its reports fail the test."""
import contextlib
import fcntl
import os
import resource
import signal
import struct
import subprocess
import time

from harness import places, proc, stats
from harness.logs import LogFile, sanitizer_lines
from harness.waiting import wait_until

_SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "halt_on_error=0:exitcode=99",
}


def environment(extra=None):
    """The daemon's environment: nothing of systemd's that the tests themselves may run under."""
    env = {key: value for key, value in os.environ.items()
           if key not in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
                          "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM")}
    return {**_SANITIZERS, **env, **(extra or {})}


def run_lingerd(*arguments, env=None, timeout=30):
    """Runs lingerd to its end, for what it refuses: the completed process."""
    return subprocess.run([str(places.LINGERD), *map(str, arguments)], capture_output=True,
                          text=True, timeout=timeout, env=environment(env), check=False,
                          stdin=subprocess.DEVNULL)


class Lingerd:
    def __init__(self, directory, *arguments, name="lingerd", mode="0666", env=None, start=True,
                 nofile=None):
        self.directory = directory
        self.socket_path = directory / f"{name}.sock"
        self.stats_path = directory / f"{name}.sock.stats"
        self.log = LogFile(directory / f"{name}.log")
        self.arguments = ["--socket", str(self.socket_path), "--socket-mode", mode, *arguments]
        self.allowed_lines = []
        self.pid = None
        self._env = env
        self._nofile = nofile  # its descriptor limit
        self._process = None
        self._killed = False
        if start:
            self.start()

    def start(self, *more, env=None):
        self._killed = False
        with open(self.log.path, "ab") as log:
            self._process = subprocess.Popen(
                [str(places.LINGERD), *self.arguments, *more], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=environment(env or self._env), start_new_session=True,
                preexec_fn=self._before_exec)
        self.pid = self._process.pid
        wait_until(self._ready, lambda: "lingerd is ready\n" + self.log.tail())

    def _before_exec(self):
        proc.end_with_us()
        if self._nofile:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._nofile, self._nofile))

    def _ready(self):
        if self._process.poll() is not None:
            raise AssertionError(f"lingerd exited with {self._process.returncode}\n"
                                 + self.log.tail())
        page = stats.read_page(self.stats_path)
        return (self.socket_path.is_socket() and page and page["pid"] == self.pid
                and page["heartbeat_ns"])

    def counters(self):
        """The page as it is after the turn in which lingerd did what the test has just seen: it is
        written at a turn's end."""
        self._wait_for_the_turns_end()
        page = stats.read_page(self.stats_path)
        assert page is not None, "there is no stats page"
        return page

    def queue(self):
        return self.counters()["LingerQueue"]

    def fds(self):
        """At the end of such a turn, or of its start."""
        self._wait_for_the_turns_end()
        return proc.fds(self.pid)

    def _wait_for_the_turns_end(self):
        at_most = time.monotonic() + 1  # one that is stopped, or busy all the time
        while not proc.waits_for_events(self.pid) and time.monotonic() < at_most:
            time.sleep(0.001)

    def pause(self):
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: proc.state(self.pid) == "T", "lingerd is stopped")

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def hang_up(self):
        os.kill(self.pid, signal.SIGHUP)

    def terminate(self):
        """Asks it to end; `wait` tells how it did."""
        os.kill(self.pid, signal.SIGTERM)

    def running(self):
        return self._process is not None and self._process.poll() is None

    def wait(self, timeout=30):
        return self._process.wait(timeout)

    def kill(self, *, helpers_end=True):
        self._killed = True
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait(30)
        # What helps lingerd ends a moment later, and has the page's lock until then.
        if not helpers_end:
            return
        with contextlib.suppress(FileNotFoundError), open(self.stats_path, "rb") as page:
            wait_until(lambda: self._unlocked(page), "the stats page is let go of")

    @staticmethod
    def _unlocked(page):
        query = struct.pack("hh4xqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
        kind, *_ = struct.unpack("hh4xqqi4x", fcntl.fcntl(page, fcntl.F_OFD_GETLK, query))
        return kind == fcntl.F_UNLCK

    def restart(self):
        problems = self.stop()
        assert not problems, problems
        self.start()

    def stop(self):
        """Stops it and returns what is wrong with the way it went."""
        if self._process is None:
            return []
        problems = []
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            problems += self._terminate()
        if self._process.returncode and not self._killed:
            problems.append(f"lingerd exited with {self._process.returncode}")
        problems += sanitizer_lines(self.log.text())
        # Its closer ends after it, unless it ended in an orderly way.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not proc.session_members(self.pid), "none is left", deadline=10)
        problems += [f"left over: {pid} {proc.cmdline(pid)}"
                     for pid in proc.session_members(self.pid)]
        self._process = None
        return problems

    def _terminate(self):
        """SIGTERM, and another one if it waits for clients that a failed test has left behind."""
        for _ in range(2):
            os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                return []
        self._process.kill()
        self._process.wait(30)
        return ["lingerd didn't end on SIGTERM"]

    def close(self):
        return self.stop()
