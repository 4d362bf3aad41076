# SPDX-License-Identifier: Apache-2.0
"""What packages do to a machine over their life: installed, upgraded under load, disabled by the
admin, removed, purged. One machine, and each test goes on from where the one before has left it."""
import pytest
from harness.waiting import wait_equal, wait_until

from load import Load
from site_on_machine import RUN, SERVICE, SOCKET

PAGE = b"".join(b"%08d" % i for i in range(2048))
LINGERING = 500
ADMINS = "# the admin's\nmax-time = 33\n"

# What changes on any system, or is the package manager's own business.
_ANY_SYSTEMS = (
    "/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/var/log", "/var/cache", "/var/tmp",
    "/var/lib/dpkg", "/var/lib/apt", "/var/lib/systemd/random-seed", "/var/lib/systemd/timers",
    "/var/lib/systemd/catalog", "/var/www/html/page",
    # Backups of the lists of users: Debian's packages leave their users behind.
    "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock")


def _everything(site):
    """Every path on the machine with its kind, owner and mode."""
    listing = site.machine.run("find", "/", "-xdev", "-printf", "%p %y %u:%g %m\\n",
                               check=False).stdout
    return {line for line in listing.splitlines()
            if not line.split()[0].startswith(_ANY_SYSTEMS)}


@pytest.fixture(scope="module", name="untouched")
def untouched_fixture(site):
    """The machine before anything of ours was there."""
    site.put("page", PAGE)
    for who in ("admin", "maint"):  # a2enmod's and a2dismod's own, made when first needed
        for what in ("enabled", "disabled"):
            site.machine.run("mkdir", "-p", f"/var/lib/apache2/module/{what}_by_{who}")
    return _everything(site)


@pytest.fixture(name="config")
def config_fixture(site):
    return site.machine.root / "etc/lingerd/lingerd.conf"


def test_install(site, untouched):
    site.install("l*.deb")
    with Load("/page", PAGE) as load:
        site.wait_handoffs()
    assert not load.problems
    assert _everything(site) > untouched


def test_upgrade_under_load(site, config):
    """Would catch an upgrade that costs a client its response, drops what lingers, goes on with the
    old program, closes the socket, or writes over the admin's configuration."""
    config.write_text(ADMINS)
    linger_conf = site.machine.root / "etc/apache2/mods-available/linger.conf"
    with linger_conf.open("a") as file:
        file.write("LingerTimeout 6\n")
    before, pid = site.machine.show(SOCKET, "ActiveEnterTimestampMonotonic"), site.wait_pid()
    with site.lingering(LINGERING), Load("/page", PAGE) as load:
        wait_until(lambda: load.whole > 50, "load")
        site.install("newer-lingerd*.deb")
        site.wait_pid(other_than=pid)
        site.wait_handoffs()
    assert not load.problems
    assert site.machine.show(SOCKET, "ActiveEnterTimestampMonotonic") == before
    site.install("newer-libapache2*.deb")
    httpd = site.machine.show("apache2", "MainPID")["MainPID"]
    mapped = site.machine.out("grep", "mod_linger.so", f"/proc/{httpd}/maps")
    assert "(deleted)" not in mapped, "apache2 still runs the old module"
    site.wait_handoffs(1)
    assert config.read_text() == ADMINS
    assert linger_conf.read_text().endswith("LingerTimeout 6\n")
    versions = site.machine.out("dpkg-query", "-W", "-f", "${Version}\n", "lingerd",
                                "libapache2-mod-linger").split()
    assert len(versions) == 2 and all(version.endswith("+newer") for version in versions)


def test_admin_disables_the_module(site):
    """a2dismod works, and outlives an upgrade."""
    site.machine.run("a2dismod", "-q", "linger")
    site.machine.run("systemctl", "restart", "apache2")
    assert "LingerUp" not in site.status()
    site.machine.run("apt-get", "-q", "install", "-y", "--reinstall",
                     *site.debs("newer-libapache2*.deb"))
    assert "LingerUp" not in site.status()
    assert not (site.machine.root / "etc/apache2/mods-enabled/linger.load").exists()
    site.machine.run("a2enmod", "-q", "linger")
    site.machine.run("systemctl", "restart", "apache2")
    site.late_closer()
    site.wait_up()


def test_daemon_removed(site, config):
    """httpd goes on alone; the admin's configuration stays; nothing runs or listens any more."""
    with Load("/page", PAGE) as load:
        wait_until(lambda: load.whole > 50, "load")
        site.machine.run("apt-get", "-q", "remove", "-y", "lingerd")
        whole = load.whole
        wait_until(lambda: load.whole > whole + 50 or load.problems, "load without lingerd")
        wait_equal(lambda: site.counter("LingerUp"), 0, "LingerUp")
    assert not load.problems
    assert site.counter("LingerFallbacksDown") > 0
    for unit in (SOCKET, SERVICE):
        assert site.machine.show(unit, "LoadState", "ActiveState") == {
            "LoadState": "not-found", "ActiveState": "inactive"}
    assert not (site.machine.root / RUN.lstrip("/")).exists()
    assert config.read_text() == ADMINS


def test_daemon_installed_again(site, config):
    """And httpd finds it without a restart."""
    site.install("l*d_*.deb")
    site.wait_handoffs(1)
    assert config.read_text() == ADMINS


def test_module_removed(site):
    site.machine.run("apt-get", "-q", "remove", "-y", "libapache2-mod-linger")
    assert "LingerUp" not in site.status()
    assert site.active("apache2") == "active"


def test_purge_leaves_nothing(site, untouched):
    site.machine.run("apt-get", "-q", "purge", "-y", "lingerd", "libapache2-mod-linger",
                     "libapache2-mod-linger-tls")
    after = _everything(site)
    assert (sorted(after - untouched), sorted(untouched - after)) == ([], [])
    assert site.active("apache2") == "active"
