# SPDX-License-Identifier: Apache-2.0
"""lingerd under an enforcing SELinux and an enforcing AppArmor: everything works and nothing is
complained about; and what a denial looks like, for docs/install.md."""
import pytest

from virtual_machine import BOOT_SECONDS

pytestmark = pytest.mark.timeout(BOOT_SECONDS + 300)  # making it, and waiting for its end


class Report:
    """What the guest said: {name: [values]}, before and after it began to provoke."""

    def __init__(self, console):
        self.console = console
        lines = [line.split("RESULT ", 1)[1].strip() for line in console.splitlines()
                 if "RESULT " in line]
        assert "end" in lines, "the guest didn't come to its end:\n" + console[-3000:]
        split = lines.index("provoked")
        self.quiet, self.provoked = lines[:split], lines[split + 1:]

    def get(self, name, lines=None):
        found = self.all(name, lines)
        assert len(found) == 1, (name, found, self.console[-3000:])
        return found[0]

    def all(self, name, lines=None):
        return [line[len(name) + 1:] for line in lines or self.quiet + self.provoked
                if line.startswith(name + " ")]


@pytest.fixture(scope="module")
def selinux(vm):
    # Permissive until the guest says otherwise: Debian's own start has its denials.
    return Report(vm.boot("security=selinux selinux=1 enforcing=0"))


@pytest.fixture(scope="module")
def apparmor(vm):
    return Report(vm.boot("security=apparmor apparmor=1"))


def _works(report):
    assert report.get("restarted") == "1"
    assert report.get("reload") == "0"
    assert int(report.get("LingerUp")) == 1
    assert int(report.get("LingerHandoffs")) >= 9
    assert int(report.get("LingerTotal")) >= 9
    assert int(report.get("LingerRescued")) >= 9
    assert int(report.get("LingerDrainedBytes")) >= 90
    assert report.get("LingerFallbacks") == report.get("LingerRejected") == "0"
    assert report.get("LingerClosedByReset") == "0"
    # A restart carries what lingers, and the counters with it.
    assert any(line.startswith("took over 3 sockets") for line in report.all("journal"))


def _extras_work(report):
    assert report.get("answered") == "3", report.console[-6000:]
    assert int(report.get("extras.LingerReturned")) >= 2
    assert report.get("extras.LingerReturnFailed") == report.get("extras.LingerReturnsRefused") == "0"
    assert report.get("delivered") == "20000000"
    assert int(report.get("extras.LingerOffloads")) >= 1
    assert report.get("extras.LingerRejected") == "0"


def _processes_of_its_own_work(report):
    """Whatever lingerd starts or becomes, it is confined as before."""
    confined = report.get("domain")
    # SIGUSR2 by hand, with a parked connection.
    assert report.get("exec.took_over") == "2"  # of which the first was systemd's restart
    assert report.get("exec.same_process") == report.get("exec.answered") == "1"
    assert report.get("exec.domain") == confined
    # Its guard.
    assert report.get("guard.answered") == "1"
    # Its closer.
    assert report.get("junk.sent") == "3"
    assert report.get("junk.rejected") == "6"  # each with two descriptors
    assert int(report.get("junk.processes")) >= 1
    assert report.get("junk.waiting") == "0"
    # --user, and a successor that serves, or doesn't.
    assert report.get("daemon") == report.get("daemon.stopped") == "0"
    assert report.get("daemon.user") == "lingerd"
    assert report.get("daemon.domain") == report.get("daemon.domain_then") == confined
    assert report.get("daemon.succeeded") == report.get("daemon.rolled_back") == "1"


def test_selinux_lets_it_work(selinux):
    assert selinux.get("enforcing") == "1"
    assert selinux.get("domain") == "system_u:system_r:lingerd_t:s0"
    assert selinux.get("directory") == "lingerd 755 system_u:object_r:lingerd_runtime_t:s0"
    _works(selinux)
    _extras_work(selinux)
    _processes_of_its_own_work(selinux)
    assert selinux.all("complaint", selinux.quiet) == []


def test_selinux_without_the_right_to_descriptors(selinux):
    """The record arrives, the socket doesn't: counted, and told with SELinux's name."""
    assert int(selinux.get("rejected")) > 0
    assert any("a record whose descriptor got lost" in line and "SELinux" in line
               for line in selinux.all("journal"))
    assert any("{ use }" in line and 'comm="lingerd"' in line
               for line in selinux.all("complaint", selinux.provoked))


def test_selinux_without_the_right_to_connect(selinux):
    """Apache lingers itself, says why, and goes back by itself."""
    assert int(selinux.get("denied")) > 0
    assert any("lingerd denied" in line and "SELinux's audit log" in line
               for line in selinux.all("httpd"))
    assert any("lingerd is back" in line for line in selinux.all("httpd"))
    assert any("connectto" in line or "sock_file" in line
               for line in selinux.all("complaint", selinux.provoked))


def test_apparmor_lets_it_work(apparmor):
    assert apparmor.get("domain") == "lingerd (enforce)"
    _works(apparmor)
    _extras_work(apparmor)
    _processes_of_its_own_work(apparmor)
    assert apparmor.all("complaint") == []
