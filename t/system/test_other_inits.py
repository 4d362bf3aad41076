# SPDX-License-Identifier: Apache-2.0
"""Hosts without systemd: the sysvinit script of the package, and the OpenRC one, with exit statuses
as LSB has them. One machine without an init for each."""
import subprocess

import pytest

import machine as machines
import visits
from harness import clients
from harness.waiting import wait_equal, wait_until

RUNNING, DEAD, STOPPED = 0, 1, 3
PIDFILE = "/run/lingerd.pid"


class Service:
    """lingerd, by the init system's command."""

    def __init__(self, site, *command):
        self.site = site
        self.machine = site.machine
        self._command = command

    def __call__(self, action):
        done = self.machine.run(*self._command, action, check=False)
        print(action, done.returncode, done.stdout, done.stderr)
        return done.returncode

    def pid(self):
        return int(self.machine.out("cat", PIDFILE))

    def alive(self, pid):
        return self.machine.run("kill", "-0", pid, check=False).returncode == 0


@pytest.fixture(scope="module", name="sysv")
def sysv_fixture(bare_site):
    """The package's installation starts it: there is no systemd to activate it by its socket."""
    # What sysvinit would have done: made a directory, and told the runlevel.
    bare_site.machine.run("mkdir", "-p", "/run/lock")
    runlevel = bare_site.machine.root / "sbin/runlevel"
    runlevel.unlink()
    runlevel.write_text("#!/bin/sh\necho N 2\n")
    runlevel.chmod(0o755)
    bare_site.install("l*.deb")
    return Service(bare_site, "/etc/init.d/lingerd")


def test_installation_starts_it(sysv):
    assert sysv("status") == RUNNING
    assert sysv.machine.out("ps", "-o", "user=", "-p", str(sysv.pid())) == "lingerd"
    assert sysv.machine.out("stat", "-c", "%U %G %a", "/run/lingerd/lingerd.sock",
                            "/run/lingerd").splitlines() == ["lingerd www-data 660",
                                                             "lingerd lingerd 755"]


def test_httpd_hands_over(sysv):
    sysv.site.httpd("start")
    assert sysv.site.late_closer()[0] == 200
    sysv.site.wait_up()
    sysv.site.wait_handoffs(1)


def test_stop_and_start(sysv):
    pid = sysv.pid()
    assert [sysv(action) for action in ("stop", "status", "stop")] == [0, STOPPED, 0]
    assert not sysv.alive(pid)
    assert [sysv(action) for action in ("start", "status", "start")] == [0, RUNNING, 0]
    sysv.site.wait_handoffs(1)


def test_stop_waits_for_a_client(sysv):
    """lingerd lets what it holds finish: the script must neither give up nor kill it."""
    held = []

    def one_lingers():  # a child of httpd's hands off from its second connection on
        held.append(clients.late_closer(80)[0])
        return sysv.site.counter("LingerQueue") >= 1
    wait_until(one_lingers, "a lingering socket")
    pid = sysv.pid()
    stopping = subprocess.Popen(
        ["nsenter", "-t", str(sysv.machine.leader), "-a", "/etc/init.d/lingerd", "stop"],
        stdout=subprocess.DEVNULL)
    wait_until(lambda: sysv.site.counter("LingerUp") == 0 or not sysv.alive(pid)
               or stopping.poll() is None, "the stop has begun")
    for client in held:
        client.close()
    assert stopping.wait(60) == 0
    assert not sysv.alive(pid)
    assert sysv("start") == 0


def test_restart_and_reload(sysv):
    pid = sysv.pid()
    assert sysv("reload") == 0
    assert sysv.pid() == pid and sysv.alive(pid)
    held = []

    def one_lingers():
        held.append(clients.late_closer(80)[0])
        return sysv.site.counter("LingerQueue") >= 1
    wait_until(one_lingers, "a lingering socket")
    # The same process, another program: what lingers goes on.
    for action in ("restart", "force-reload", "try-restart"):
        assert sysv(action) == 0
        assert sysv.pid() == pid and sysv("status") == RUNNING
    sysv.site.wait_up()
    assert sysv.site.counter("LingerQueue") >= 1
    assert sysv.site.counter("LingerClosedByReset") == 0
    for client in held:
        client.close()
    # Other arguments take a stop and a start.
    defaults = sysv.machine.root / "etc/default/lingerd"
    defaults.write_text("DAEMON_ARGS='--max-time 20'\n")
    assert sysv("restart") == 0
    assert sysv.pid() != pid and sysv("status") == RUNNING
    defaults.unlink()
    assert sysv("restart") == 0
    sysv("stop")
    assert (sysv("reload"), sysv("try-restart"), sysv("status")) == (7, 0, STOPPED)
    sysv("start")
    sysv.site.wait_handoffs(1)


def test_what_it_does_for_clients(sysv):
    """Started by root, which becomes lingerd: would catch a page, a socket or a descriptor that stays
    root's, and a restart of either that loses a connection."""
    visits.idle_connections_wait(sysv.site, 20, (
        lambda: sysv("restart"), lambda: sysv.site.httpd("reload")))
    visits.rest_is_delivered(sysv.site)


def test_dead_daemon(sysv):
    """Killed: the status says so, and a start needs no cleaning up."""
    pid = sysv.pid()
    sysv.machine.run("kill", "-KILL", pid)
    wait_equal(lambda: sysv.alive(pid), False, "lingerd lives")
    assert sysv("status") == DEAD
    assert [sysv(action) for action in ("start", "status")] == [0, RUNNING]


def test_bad_configuration(sysv):
    """A restart doesn't stop what runs; a start says what lingerd says."""
    config = sysv.machine.root / "etc/lingerd/lingerd.conf"
    shipped, pid = config.read_text(), sysv.pid()
    config.write_text("max-time = never\n")
    assert sysv("restart") == 2
    assert sysv.pid() == pid and sysv.alive(pid)
    sysv("stop")
    assert sysv("start") == 2
    # What the file says goes before what the script would.
    config.write_text("socket-group = root\n")
    assert sysv("start") == 0
    assert sysv.machine.out("stat", "-c", "%G", "/run/lingerd/lingerd.sock") == "root"
    sysv("stop")
    config.write_text(shipped)
    assert sysv("start") == 0


def test_usage(sysv):
    assert sysv("dance") == 2


def test_removal_stops_it(sysv):
    pid = sysv.pid()
    sysv.machine.run("apt-get", "-q", "purge", "-y", "lingerd")
    assert not sysv.alive(pid)
    assert "linger" not in sysv.machine.out("ls", "/run")


@pytest.fixture(scope="module", name="openrc")
def openrc_fixture(bare_site):
    """OpenRC in the machine where sysvinit's script was: its packages come from Debian."""
    debs = machines.BUILD / "openrc"
    debs.mkdir(exist_ok=True)
    if not list(debs.glob("openrc_*.deb")):
        done = machines.on_the_host("apt-get", "-q", "download", "openrc", "librc1", "libeinfo1",
                                    "insserv", cwd=debs)
        if done.returncode:
            pytest.skip("OpenRC can't be downloaded: " + done.stderr.strip())
    inside = bare_site.machine.root / "root/openrc"
    inside.mkdir()
    for deb in debs.glob("*.deb"):
        (inside / deb.name).write_bytes(deb.read_bytes())
    bare_site.machine.run("sh", "-c", "dpkg -i /root/openrc/*.deb")
    bare_site.install("l*.deb")
    bare_site.machine.run("/etc/init.d/lingerd", "stop", check=False)
    script = bare_site.machine.root / "etc/init.d/lingerd"
    script.write_text((machines.ROOT / "packaging/init/lingerd.openrc").read_text())
    script.chmod(0o755)
    (bare_site.machine.root / "etc/conf.d").mkdir(exist_ok=True)
    (bare_site.machine.root / "etc/conf.d/lingerd").write_text("httpd_group=www-data\n")
    bare_site.machine.run("mkdir", "-p", "/run/openrc")
    bare_site.machine.run("touch", "/run/openrc/softlevel")
    return Service(bare_site, "rc-service", "lingerd")


def test_openrc(openrc):
    assert openrc("start") == 0
    assert openrc("status") == RUNNING
    assert openrc.machine.out("stat", "-c", "%U %G %a", "/run/lingerd/lingerd.sock",
                              "/run/lingerd").splitlines() == ["lingerd www-data 660",
                                                               "lingerd lingerd 755"]
    assert openrc.site.late_closer()[0] == 200
    openrc.site.wait_handoffs(1)
    pid = openrc.pid()
    assert openrc("reload") == 0
    assert openrc("restart") == 0
    assert openrc.pid() == pid and openrc("status") == RUNNING
    openrc.site.wait_handoffs(1)
    visits.idle_connections_wait(openrc.site, 20, (
        lambda: openrc("restart"), lambda: openrc.site.httpd("reload")))
    visits.rest_is_delivered(openrc.site)
    assert openrc("stop") == 0
    assert openrc("status") == STOPPED
