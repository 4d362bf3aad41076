# SPDX-License-Identifier: Apache-2.0
"""A private httpd: Debian's program, a configuration of its own, loopback ports of its own."""
import contextlib
import functools
import os
import signal
import subprocess
import time

from harness import clients, httpd_conf, places, proc, sanitized
from harness.logs import LogFile
from harness.ports import ReservedPort
from harness.waiting import wait_until

# Every connection that httpd closes ends in exactly one of these.
FATES = ("LingerHandoffs", "LingerAlreadyClosed", "LingerFallbacks", "LingerAborted",
         "LingerLeftOff")
_CONTENT = {"hello.txt": 13, "64k.bin": 64 * 1024, "300k.bin": 300_000, "4m.bin": 4_000_000}


@functools.cache
def content(name):
    """What httpd serves as /name: no two nearby stretches of it are the same."""
    if name == "hello.txt":
        return b"hello, world\n"
    size = _CONTENT[name]
    return b"".join(b"%08d" % i for i in range(size // 8 + 1))[:size]


# OpenSSL's objects belong to mod_ssl, and ASan doesn't see what libcrypto does with memory that has
# been freed: glibc fills it with a pattern instead, on which anything that still looks at it fails.
PERTURBED = {"MALLOC_PERTURB_": "165"}


class Httpd:
    """`lingerd` None runs stock httpd; else the server whose socket the module is given."""

    def __init__(self, directory, mpm, *, lingerd=None, socket_path=None, ports=(), start=True,
                 **configuration):
        self.directory = directory
        self.mpm = mpm
        self.lingerd = lingerd
        self.socket_path = socket_path or (lingerd.socket_path if lingerd else None)
        self._reserved = {name: ReservedPort() for name in ("main", "status", *ports)}
        self.ports = {name: port.number for name, port in self._reserved.items()}
        self.port = self.ports["main"]
        self.configuration = configuration
        self.error_log = LogFile(directory / "logs" / "error.log")
        self.access_log = LogFile(directory / "logs" / "access.log")
        self.console = LogFile(directory / "logs" / "console.log")
        self.allowed_lines = []
        self.looks = 0  # at server-status: each is a connection too, of a server with Linger Off
        self.pid = None
        self._process = None
        self.lay_out()
        if start:
            self.start()

    def lay_out(self):
        for name in ("run", "logs", "www", "cgi"):
            (self.directory / name).mkdir(exist_ok=True)
        if places.am_root():  # mod_cgid's socket is made by the children's user
            os.chown(self.directory / "run", *places.httpd_user()[1:])
        for name in _CONTENT:
            file = self.directory / "www" / name
            file.write_bytes(content(name))
            os.utime(file, (1_000_000_000, 1_000_000_000))  # as in the ETags of every httpd
        self.write_config()

    def write_config(self, **changes):
        self.configuration.update(changes)
        text = httpd_conf.render(self.directory, self.mpm, self.ports,
                                 socket_path=self.socket_path, **self.configuration)
        (self.directory / "httpd.conf").write_text(text)

    def environment(self):
        """Set for its processes, besides what the tests themselves have."""
        over_tls = "linger_tls_module" in str(self.configuration)
        if not self.socket_path and not over_tls:
            return {}
        return sanitized.httpd_environment(
            PERTURBED if over_tls else None,
            leaks=not sanitized.foreign_leaks(self.configuration.get("config", "")))

    def _command(self, *arguments):
        pairs = [f"{key}={value}" for key, value in self.environment().items()]
        return [*(["/usr/bin/env", *pairs] if pairs else []), places.HTTPD, "-d", str(self.directory), "-f", str(self.directory / "httpd.conf"),
                *arguments]

    def config_test(self):
        """(exit code, output) of `apache2 -t`."""
        result = subprocess.run(self._command("-t"), capture_output=True, text=True, timeout=30,
                                check=False)
        return result.returncode, result.stdout + result.stderr

    def start(self):
        starts = self._starts()
        with open(self.console.path, "ab") as console:
            self._process = subprocess.Popen(
                self._command("-DFOREGROUND"), stdin=subprocess.DEVNULL, stdout=console,
                stderr=console, start_new_session=True, preexec_fn=proc.end_with_us)
        self.pid = self._process.pid
        wait_until(lambda: self._started(starts), lambda: "httpd serves\n" + self.log_tails())
        self._wait_greeted()

    def _wait_greeted(self):
        """A child that lingerd hasn't greeted within a quarter of a second, on a busy machine, leaves
        its first connection to Apache. Where lingerd doesn't want it, no longer than it takes to be
        told so."""
        end = time.monotonic() + 2
        while (self.lingerd is not None and self.lingerd.running()
               and proc.state(self.lingerd.pid) != "T" and time.monotonic() < end
               and self.lingerd.counters()["LingerPeers"] < self._first_children()):
            time.sleep(0.02)

    def _starts(self):
        return len(self.error_log.matching("resuming normal operations"))

    def _started(self, starts):
        if self._process.poll() is not None:
            raise AssertionError(f"httpd exited with {self._process.returncode}\n"
                                 + self.log_tails())
        return self._starts() > starts and self.all_children() and self._answers()

    def all_children(self):
        """Whether as many are there as this MPM starts with (mod_cgid has one of its own)."""
        return len(self.children()) >= self._first_children()

    def _first_children(self):
        return self.configuration.get("workers", 4) if self.mpm == "prefork" else \
            self.configuration.get("processes", 1)

    def _answers(self):
        """One connection may be lost to a child that just ends: not the whole deadline is its."""
        try:
            self.status_text(timeout=5)
            return True
        except (OSError, clients.NoResponse):
            return False

    # Signals, as apachectl sends them.

    def graceful(self):
        self._restart(signal.SIGUSR1)

    def restart(self, *, quiet=True):
        """`quiet`: not while its workers are at work, where stock httpd itself may crash."""
        if quiet:
            self._let_workers_sleep()
        self._restart(signal.SIGHUP)

    def _restart(self, number):
        starts = self._starts()
        os.kill(self.pid, number)
        wait_until(lambda: self._starts() > starts, lambda: "restart\n" + self.log_tails())
        wait_until(self._answers, "an answer after a restart")

    def _let_workers_sleep(self):
        """Stock event: a child that is told to end at once closes its workers' sockets, also the one
        whose worker is just done with it, in memory that may be gone by then (close_worker_sockets()),
        and dies of SIGSEGV. With nothing to do for the workers it doesn't; with load it may.
        Stock prefork: such a child ends in its signal handler, where mod_ssl frees its object, also the
        one that it is just freeing (ssl_filter_io_shutdown()), and dies of SIGSEGV or SIGABRT."""
        end = time.monotonic() + 5
        before = None
        while self._fears_signals() and time.monotonic() < end:
            now = proc.sleeping_threads(self.children())
            if now is not None and now == before:
                return
            before = now
            time.sleep(0.02)

    def _fears_signals(self):
        return self.mpm == "event" or (
            self.mpm == "prefork" and "ssl" in self.configuration.get("modules", ()))

    def graceful_stop(self):
        """Returns at once; `wait_gone` waits for the end."""
        os.kill(self.pid, signal.SIGWINCH)

    def wait_gone(self):
        wait_until(lambda: self._process.poll() is not None, "httpd's parent has exited")

    def stop(self):
        """Stops it and returns what is wrong with the way it went."""
        if self._process is None:
            return []
        if self._process.poll() is None:
            # Stock event: a child that is told to end may meet a connection that begins to linger.
            self.allowed_lines.append(r"\(9\)Bad file descriptor: AH03092: ")
            self._let_workers_sleep()
            os.kill(self.pid, signal.SIGTERM)
        problems = []
        try:
            self._process.wait(30)
            if self._process.returncode:
                problems.append(f"httpd exited with {self._process.returncode}")
            wait_until(lambda: not proc.session_members(self.pid), "httpd's children are gone", 10)
        except (AssertionError, subprocess.TimeoutExpired) as failure:
            problems.append(str(failure))
            for pid in proc.session_members(self.pid):
                problems.append(f"left over: {pid} {proc.cmdline(pid)}")
                os.kill(pid, signal.SIGKILL)
            self._process.wait(30)
        self._process = None
        return problems

    def close(self):
        problems = self.stop()
        for port in self._reserved.values():
            port.release()
        return problems

    # What it says of itself.

    def get(self, path, port=None, timeout=20):
        """(status, body), the FIN waited for: by then the connection's end has been counted where
        Linger is Off."""
        with clients.connect(port or self.port, timeout=timeout) as client:
            client.sendall(clients.request(path, version="1.0"))
            return clients.split(clients.read_to_fin(client))

    def status_text(self, timeout=20):
        code, body = self.get("/server-status?auto", self.ports["status"], timeout)
        self.looks += 1  # one that fails, because httpd just restarts, has mostly got to nobody
        assert code == 200, (code, body)
        return body.decode()

    def status_page(self):
        code, body = self.get("/server-status", self.ports["status"])
        self.looks += 1
        assert code == 200, (code, body)
        return body.decode()

    def status(self):
        """server-status?auto as {key: text}; numbers of ours as integers."""
        pairs = dict(line.split(": ", 1) for line in self.status_text().splitlines()
                     if ": " in line)
        return {key: int(value) if key.startswith("Linger") else value
                for key, value in pairs.items()}

    def scoreboard(self):
        return self.status()["Scoreboard"]

    def ended(self):
        """Connections that have ended by the module's account, without our looks at it. A look
        counts when it is over, so the one that tells the number isn't in it."""
        status = self.status()
        return sum(status[fate] for fate in FATES) - (self.looks - 1)

    def children(self):
        return proc.children(self.pid)

    def child_fds(self):
        """{pid: number of open descriptors}"""
        found = {}
        for pid in self.children():
            with contextlib.suppress(FileNotFoundError):  # it has just gone
                found[pid] = len(proc.fds(pid))
        return found

    def log_tails(self):
        return "\n".join(f"--- {log.path.name}\n{log.tail()}"
                         for log in (self.error_log, self.console))
