# SPDX-License-Identifier: Apache-2.0
"""What is installed on the machine: apache2 and lingerd as services, looked at as an admin does."""
import contextlib
import time

from harness import clients
from harness.waiting import wait_equal, wait_until

SOCKET, SERVICE = "lingerd.socket", "lingerd.service"
RUN = "/run/lingerd"


class Site:
    """`booted`: systemd is its init, so apache2 is a service of it; else it is told by apache2ctl."""

    def __init__(self, machine, booted=True):
        self.machine = machine
        self.booted = booted
        self.machine.enter_network()

    def debs(self, pattern):
        """The packages that lie on the machine, by their paths there."""
        root = self.machine.root
        found = [f"/{path.relative_to(root)}" for path in (root / "root/debs").glob(pattern)]
        assert found, pattern
        return found

    def install(self, pattern):
        """One command, as an admin gives it; a configuration file that was changed stays."""
        self.machine.run("apt-get", "-q", "install", "-y", "-o", "Dpkg::Options::=--force-confold",
                         *self.debs(pattern))

    def use_mpm(self, mpm):
        for other in ("prefork", "worker", "event"):
            if other != mpm:
                self.machine.run("a2dismod", "-q", "-f", f"mpm_{other}")
        self.machine.run("a2enmod", "-q", f"mpm_{mpm}")
        if self.booted:
            self.machine.run("systemctl", "reset-failed", "apache2")  # of its limit of restarts
        self.httpd("restart")
        assert f"{mpm}" in self.status()["ServerMPM"].lower()

    def httpd(self, action):
        """start, stop, restart or reload."""
        if self.booted:
            self.machine.run("systemctl", action, "apache2")
            return
        # Debian's apache2ctl, also called by its init script, insists on systemd's doing it.
        words = {"reload": ["graceful"], "restart": ["stop", "start"]}.get(action, [action])
        for word in words:
            self.machine.run("env", "APACHE_STARTED_BY_SYSTEMD=true", "apache2ctl", word)
            if word == "stop":  # which only tells it; its port is free when it has ended
                wait_equal(lambda: self.machine.run("pgrep", "-x", "apache2", check=False).stdout,
                           "", "processes of apache2")
            elif word == "start":  # which returns before the daemon has written its pid file
                self.status()

    @contextlib.contextmanager
    def configured(self, text):
        """httpd with these lines more."""
        conf = self.machine.root / "etc/apache2/conf-enabled/more.conf"
        conf.write_text(text)
        self.httpd("reload")
        yield
        conf.unlink()
        self.httpd("reload")

    def put(self, name, content):
        (self.machine.root / "var/www/html" / name).write_bytes(content)

    def status(self):
        """server-status?auto; asked again while apache2 restarts."""
        def ask():
            with contextlib.suppress(OSError, AssertionError):
                code, body = clients.fetch(80, "/server-status?auto")
                if code == 200:
                    return body.decode()
            return None
        lines = wait_until(ask, "server-status").splitlines()
        pairs = dict(line.split(": ", 1) for line in lines if ": " in line)
        return {key: int(value) if key.startswith("Linger") else value
                for key, value in pairs.items()}

    def counter(self, name):
        return self.status().get(name, 0)

    def wait_up(self):
        wait_until(lambda: self.counter("LingerUp") == 1, "lingerd is up")

    def wait_handoffs(self, count=20):
        """Hand-offs happen, from now on."""
        before = self.counter("LingerHandoffs")
        wait_until(lambda: self.counter("LingerHandoffs") >= before + count,
                   lambda: f"{count} more hand-offs: {self.status()}")

    def pid(self):
        return int(self.machine.show(SERVICE, "MainPID")["MainPID"])

    def wait_pid(self, other_than=0):
        """The process id of a lingerd that is ready."""
        def ready():
            shown = self.machine.show(SERVICE, "MainPID", "ActiveState")
            pid = int(shown["MainPID"])
            return pid if shown["ActiveState"] == "active" and pid not in (0, other_than) else 0
        return wait_until(ready, lambda: "lingerd runs\n" + self.logs())

    def active(self, unit):
        return self.machine.show(unit, "ActiveState")["ActiveState"]

    def drop_in(self, unit, text):
        """As `systemctl edit` does; an empty text takes it away."""
        directory = self.machine.root / f"etc/systemd/system/{unit}.d"
        directory.mkdir(exist_ok=True)
        if text:
            (directory / "test.conf").write_text(text)
        else:
            (directory / "test.conf").unlink()
            directory.rmdir()
        self.machine.run("systemctl", "daemon-reload")

    def journal(self, unit=SERVICE):
        return self.machine.run("journalctl", "-u", unit, "--no-pager", check=False).stdout

    def error_log(self):
        return (self.machine.root / "var/log/apache2/error.log").read_text(errors="replace")

    def logs(self):
        return "\n".join((self.machine.run("systemctl", "status", "--no-pager", SOCKET, SERVICE,
                                           check=False).stdout,
                          self.journal()[-3000:], self.error_log()[-3000:]))

    @contextlib.contextmanager
    def lingering(self, count):
        """`count` sockets linger, half of them still sent to. At the end each of them is still there,
        is read from, and ends as its client wants."""
        conf = self.machine.root / "etc/apache2/conf-enabled/long.conf"
        conf.write_text("LingerTimeout 60\nLingerTime 60\n")
        self.machine.run("systemctl", "reload", "apache2")
        with contextlib.ExitStack() as stack:
            held = []
            while len(held) < count:
                # In portions that fit into the socket between the two, however busy this host is.
                held += [stack.enter_context(clients.late_closer(80)[0]) for _ in range(100)]
                wait_until(lambda: self.counter("LingerQueue") >= len(held), "the queue")
            stack.enter_context(clients.Tricklers(held[::2], every=0.2))
            before = self.status()
            yield
            self.wait_up()
            after = self.status()
            assert after["LingerQueue"] >= count
            assert after["LingerTotal"] >= before["LingerTotal"]
            for client in held:  # an RST would show here
                client.send(b"x")
        wait_until(lambda: self.counter("LingerClosedByClient") >= count,
                   lambda: f"each ends in its own way: {self.status()}")
        assert self.counter("LingerClosedByReset") == before["LingerClosedByReset"]
        conf.unlink()
        self.machine.run("systemctl", "reload", "apache2")

    def late_closer(self, path="/", stay=0.0):
        """Reads a whole response and closes after a moment: something to linger for."""
        with clients.connect(80) as client:
            client.sendall(clients.request(path))
            answer = clients.split(clients.read_to_fin(client))
            time.sleep(stay)
        return answer
