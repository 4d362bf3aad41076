# SPDX-License-Identifier: Apache-2.0
"""A private directory and the servers in it. Leaving it stops them and says what went wrong:
unexpected log lines, processes left over, sanitizer reports."""
import shutil

from harness import logs, places, sanitized, stock
from harness.httpd import Httpd
from harness.lingerd import Lingerd
from harness.waiting import wait_until

OPEN = []  # every sandbox that is in use, for the checks after each test


def settle(httpd):
    """Waits until httpd serves nobody and lingerd has got, and ended, everything that it was handed;
    the status then. Each half counts when it is through, so either may be ahead for a moment."""
    last = {}

    def settled():
        last.update(httpd.status())
        return (last["LingerTotal"] == last["LingerHandoffs"] and last["LingerQueue"] == 0
                and last["BusyWorkers"] == "1")

    wait_until(settled, lambda: f"a settled status, instead of {last}")
    return last


def wait_halves_agree(httpd, lingerd):
    """Waits until lingerd has got all that httpd has handed off: either counts when it is through."""
    seen = {}

    def agree():
        seen.update(taken=lingerd.counters()["LingerTotal"],
                    handed_off=httpd.status()["LingerHandoffs"])
        return seen["taken"] == seen["handed_off"]

    wait_until(agree, lambda: f"the halves agree: {seen}")


class Sandbox:
    def __init__(self, name):
        self.directory = places.private_dir(name)
        self.servers = []
        self.at_end = []  # called when the servers have stopped
        self._count = 0
        OPEN.append(self)

    def lingerd(self, *arguments, **options):
        """A lingerd with `arguments` besides its private socket."""
        options.setdefault("name", f"lingerd{len(self.servers) or ''}")
        server = Lingerd(self.directory, *arguments, **options)
        self.servers.append(server)
        return server

    def httpd(self, mpm, **options):
        """A stock httpd, or with `lingerd` or `socket_path` one with the module."""
        self._count += 1
        directory = self.directory / f"httpd{self._count}"
        directory.mkdir(mode=0o755)
        start = options.pop("start", True)
        server = Httpd(directory, mpm, start=False, **options)
        self.servers.append(server)
        if start:
            server.start()
        return server

    def site(self, mpm, *lingerd_arguments, **options):
        """(httpd with the module, its lingerd)"""
        lingerd = self.lingerd(*lingerd_arguments)
        return self.httpd(mpm, lingerd=lingerd, **options), lingerd

    def unexpected_lines(self):
        """What the logs have got since the last look, and neither a test has announced nor stock httpd
        says in the same set-up."""
        problems = []
        for server in self.servers:
            if isinstance(server, Httpd):
                allowed = [*server.allowed_lines, *sanitized.allowed_lines()]
                lines = logs.unexpected(server.error_log.unchecked(), logs.httpd_line_is_quiet,
                                        allowed) + server.console.unchecked()
                problems += stock.without_stocks(lines, server)
            else:
                problems += logs.unexpected(server.log.unchecked(), logs.lingerd_line_is_quiet,
                                            server.allowed_lines)
        return problems

    def tails(self):
        return "\n".join(server.log_tails() if isinstance(server, Httpd)
                         else f"--- {server.log.path.name}\n{server.log.tail()}"
                         for server in self.servers)

    def close(self):
        """Stops the servers, removes the directory, and returns what went wrong."""
        OPEN.remove(self)
        problems = []
        for server in reversed(self.servers):
            problems += server.close()
        for action in self.at_end:
            action()
        problems += self.unexpected_lines()
        if problems:
            problems.append(self.tails())
        shutil.rmtree(self.directory)
        return problems
