# SPDX-License-Identifier: Apache-2.0
"""The packages on a booted systemd with a stock apache2, from installation to reboot. One machine,
and each test goes on from where the one before has left it."""
import contextlib
import pathlib
import resource
import threading

import pytest
from harness import clients
from harness.waiting import wait_equal, wait_until

import machine
import visits
from load import Load
from site_on_machine import RUN, SERVICE, SOCKET
from visits import PAGE

CLIENTS = 100
LINGERING = min(5000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 4)


@pytest.fixture(name="loaded")
def loaded_fixture(site):
    """The site under load; at the end every client has got everything."""
    with Load("/page", PAGE) as load:
        wait_until(lambda: load.whole > 50, "load")
        yield load
        whole = load.whole
        wait_until(lambda: load.whole > whole + 50 or load.problems, "load after the test")
    assert not load.problems, load.problems[:5]


@pytest.fixture(name="mpm", params=["prefork", "event"])
def mpm_fixture(site, request):
    if request.param not in site.status()["ServerMPM"].lower():
        site.use_mpm(request.param)
        site.wait_up()
    return request.param


def test_one_command_installs_a_working_pair(site):
    """Would catch a package that needs a further step: the module not enabled, the socket not
    started, or one that httpd's user can't connect to."""
    assert "Linger" not in str(site.status())
    site.install("l*.deb")
    site.put("page", PAGE)
    # A large response leaves httpd long before a slow client has it.
    (site.machine.root / "etc/apache2/conf-enabled/test.conf").write_text("SendBufferSize 1048576\n")
    site.machine.run("systemctl", "reload", "apache2")
    assert site.machine.out("systemctl", "is-enabled", SOCKET) == "enabled"
    assert site.active(SOCKET) == "active"
    site.wait_up()
    with Load("/page", PAGE) as load:
        site.wait_handoffs()
    assert not load.problems


def test_first_hand_off_starts_the_daemon(site, mpm):
    """Would catch a socket unit that starts nothing, and a module that doesn't find its way back."""
    site.machine.run("systemctl", "stop", SERVICE)
    assert (site.active(SERVICE), site.active(SOCKET)) == ("inactive", "active")
    with clients.connect(80) as client:
        client.sendall(clients.request("/page"))
        assert clients.split(clients.read_to_fin(client)) == (200, PAGE)
        # It stays: there is nothing to hand off once a client has closed.
        assert site.wait_pid()
    site.wait_up()


def test_who_may_use_the_socket(site):
    """Would catch a socket that anybody may hand sockets to, and a directory that keeps lingerd from
    writing its numbers or httpd from reading them. The daemon has run: systemd has had its chance to
    change the directory's owner and everything in it."""
    names = site.machine.out("stat", "-c", "%n %U %G %a", RUN, *(f"{RUN}/lingerd.sock{suffix}"
                                                                 for suffix in ("", ".stats")))
    assert names.splitlines() == [f"{RUN} lingerd lingerd 755",
                                  f"{RUN}/lingerd.sock root www-data 660",
                                  f"{RUN}/lingerd.sock.stats lingerd lingerd 644"]


def test_confinement(site):
    """Would catch a line of the unit that systemd ignores."""
    pid = site.wait_pid()
    lines = site.machine.out("cat", f"/proc/{pid}/status").splitlines()
    status = {key: value.split() for key, value in (line.split(":", 1) for line in lines)}
    uid = site.machine.out("id", "-u", "lingerd")
    assert status["Uid"] == [uid] * 4
    assert not int(status["CapEff"][0] + status["CapBnd"][0] + status["CapPrm"][0], 16)
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])
    network = "readlink", "/proc/1/ns/net", f"/proc/{pid}/ns/net"
    assert len(set(site.machine.out(*network).split())) == 2
    assert site.machine.show(SERVICE, "FileDescriptorStoreMax", "NRestarts") == {
        "FileDescriptorStoreMax": "16", "NRestarts": "0"}


def test_systemds_own_opinion(site):
    """Verified without a word; exposure at most 1.5."""
    for unit in (SOCKET, SERVICE):
        done = site.machine.run("systemd-analyze", "verify", "--man=no",
                                f"/lib/systemd/system/{unit}")
        assert (done.stdout, done.stderr) == ("", "")
    done = site.machine.run("systemd-analyze", "security", "--no-pager", "--threshold=15", SERVICE)
    assert "Overall exposure level" in done.stdout


def test_workers_are_free(site, mpm):
    """A hundred clients that stay cost no worker."""
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            client, status, body = clients.late_closer(80, "/page")
            stack.enter_context(client)
            assert (status, body) == (200, PAGE)
        wait_until(lambda: site.counter("LingerQueue") >= CLIENTS, "sockets in lingerd")
        assert site.status()["Scoreboard"].count("C") < 5  # this test's own questions


def test_response_arrives_whole(site, mpm):
    """Would catch a sandbox in which lingerd can't drain what it is handed."""
    before = site.counter("LingerRescued")
    with clients.stalled_reader(80, "/page") as client:
        wait_until(lambda: site.counter("LingerQueue") >= 1, "the hand-off")
        response, was_reset = clients.truncation_check(client, pause=0.001)
    assert not was_reset
    assert clients.split(response) == (200, PAGE)
    wait_equal(lambda: site.counter("LingerRescued"), before + 1, "rescued")


def test_restart_under_load(site, mpm, loaded):
    """Would catch a restart that costs a client its response, or after which nobody hands off."""
    for _ in range(3):
        pid = site.wait_pid()
        site.machine.run("systemctl", "restart", SERVICE)
        site.wait_pid(other_than=pid)
        site.wait_handoffs()


def test_restart_carries_what_lingers(site):
    """Thousands of sockets, half of them sending, go from one process to the next and lose nothing:
    would catch a sandbox that keeps lingerd from leaving them with systemd, or from taking them."""
    with site.lingering(LINGERING):
        pid = site.wait_pid()
        site.machine.run("systemctl", "restart", SERVICE)
        site.wait_pid(other_than=pid)


def test_idle_connections_wait_in_lingerd(site):
    """Would catch a sandbox in which lingerd can't give a connection back (its system calls, /proc, who
    it is to httpd), and a restart of either that loses one."""
    visits.idle_connections_wait(site, CLIENTS, (
        lambda: site.machine.run("systemctl", "restart", SERVICE), lambda: site.httpd("reload")))


def test_the_rest_of_a_response_is_delivered(site, mpm):  # pylint: disable=unused-argument
    """Would catch a sandbox in which lingerd can't read or write what it is to deliver."""
    visits.rest_is_delivered(site)


def test_reload(site, loaded):
    """systemctl reload changes what can be changed, in the same process."""
    pid = site.wait_pid()
    config = site.machine.root / "etc/lingerd/lingerd.conf"
    shipped = config.read_text()
    config.write_text("max-time = 7\n")
    site.machine.run("systemctl", "reload", SERVICE)
    wait_until(lambda: "max-time 7" in site.journal(), "the new value in the journal")
    config.write_text(shipped)
    site.machine.run("systemctl", "reload", SERVICE)
    assert site.wait_pid() == pid


def test_killed_daemon_comes_back(site, mpm, loaded):
    pid = site.wait_pid()
    site.machine.run("kill", "-KILL", pid)
    site.wait_pid(other_than=pid)
    site.wait_handoffs()


def test_hung_daemon_is_replaced(site, mpm, loaded):
    """The watchdog: a lingerd that is stopped serves again, as another process, and no client has
    noticed."""
    site.drop_in(SERVICE, "[Service]\nWatchdogSec=4\n")
    site.machine.run("systemctl", "restart", SERVICE)
    pid = site.wait_pid()
    site.wait_handoffs()
    site.machine.run("kill", "-STOP", pid)
    site.wait_pid(other_than=pid)
    site.wait_handoffs()
    assert f"Watchdog timeout" in site.journal()
    site.drop_in(SERVICE, "")
    site.machine.run("systemctl", "restart", SERVICE)


def test_restart_with_a_mistake_in_the_configuration(site):
    """Would catch a typo that costs every socket: the next lingerd goes on with what the old one had, says
    so, and takes the mended file by a reload."""
    config = site.machine.root / "etc/lingerd/lingerd.conf"
    shipped = config.read_text()
    with site.lingering(100):
        pid = site.wait_pid()
        config.write_text("max-time = never\n")
        site.machine.run("systemctl", "restart", SERVICE)
        site.wait_pid(other_than=pid)
        assert "lingerd.conf:1: max-time: 'never' is not a whole number" in site.journal()
        assert "Runs with its old configuration" in site.machine.show(SERVICE, "StatusText")["StatusText"]
        config.write_text(shipped)
        site.machine.run("systemctl", "reload", SERVICE)
        wait_equal(lambda: site.machine.show(SERVICE, "StatusText")["StatusText"], "", "STATUS=")


def test_a_store_without_room(site):
    """FileDescriptorStoreMax=0: would catch an end that counts as success, with nobody holding anything."""
    site.drop_in(SERVICE, "[Service]\nFileDescriptorStoreMax=0\n")
    with clients.stalled_reader(80, "/page") as client:
        wait_until(lambda: site.counter("LingerQueue") >= 1, "the hand-off")
        restart = threading.Thread(target=site.machine.run, args=("systemctl", "restart", SERVICE))
        restart.start()
        wait_until(lambda: "it takes nothing; the unit needs FileDescriptorStoreMax=" in site.journal(),
                   "it says so")
        response, was_reset = clients.truncation_check(client, pause=0.001)
    restart.join()
    assert not was_reset
    assert clients.split(response) == (200, PAGE)
    site.drop_in(SERVICE, "")
    site.machine.run("systemctl", "restart", SERVICE)
    site.wait_up()


def test_bad_configuration_is_final_and_told(site, loaded):
    """A daemon that can't start, and has inherited nothing, says why, stays down instead of trying for
    ever, and costs no client anything; with the mistake mended it starts by one command."""
    config = site.machine.root / "etc/lingerd/lingerd.conf"
    shipped = config.read_text()
    config.write_text("max-time = never\n")
    site.machine.run("systemctl", "stop", SOCKET, SERVICE)
    site.machine.run("systemctl", "start", SOCKET)
    wait_equal(lambda: site.active(SOCKET), "failed", "the socket unit")
    assert "lingerd.conf:1: max-time: 'never' is not a whole number" in site.journal()
    wait_until(lambda: "lingerd is down: nobody listens at /run/lingerd/lingerd.sock" in
               site.error_log(), "a line in httpd's error log")
    config.write_text(shipped)
    site.machine.run("systemctl", "reset-failed", SERVICE, SOCKET)
    site.machine.run("systemctl", "start", SOCKET)
    site.wait_handoffs()


def test_autopkgtest_of_the_services(site):
    """What debian/tests/service says of a system where the packages are installed."""
    script = machine.ROOT / "packaging/deb/debian/tests/service"
    (site.machine.root / "root/service").write_bytes(script.read_bytes())
    site.machine.run("sh", "-e", "/root/service")


def test_another_directory_owner_is_mended(site):
    """Somebody removes the directory: a restart of the socket brings it back, numbers included."""
    site.machine.run("systemctl", "stop", SOCKET, SERVICE)
    site.machine.run("rm", "-rf", RUN)
    site.machine.run("systemctl", "start", SOCKET)
    site.late_closer()
    site.wait_up()
    test_who_may_use_the_socket(site)


def test_reboot(site):
    """Would catch a pair that works until the next boot."""
    site.machine.reboot()
    site.machine.enter_network()
    assert site.active(SOCKET) == "active"
    assert site.late_closer("/page") == (200, PAGE)
    site.wait_up()
    assert site.counter("LingerHandoffs") >= 1
    test_who_may_use_the_socket(site)
    assert not pathlib.Path(site.machine.root / "var/crash").exists()
    assert site.machine.out("systemctl", "--failed", "--no-legend") == ""
