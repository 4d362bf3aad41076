# SPDX-License-Identifier: Apache-2.0
"""Files that lingerd delivers keep their file system busy; LingerOffloadFiles Off, and what lingerctl
says of it."""
import subprocess

import pytest

from harness import clients, lingerctl, offload, places
from harness.httpd import content
from harness.offload import BIG, Reader, body_of, wait_offloaded, wait_over
from harness.waiting import wait_until

WHOLE = content(BIG[1:])
ON_MOUNT = "/mnt/4m.bin"


@pytest.fixture
def mounted(sandbox):
    """Makes sites whose www/mnt is a file system of its own, and unmounts it."""
    points = []

    def make(mpm, directives):
        def prepare(httpd):
            point = httpd.directory / "www" / "mnt"
            point.mkdir()
            result = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "linger-test", point],
                                    capture_output=True, text=True, check=False)
            if result.returncode != 0:
                pytest.skip(f"can't mount here: {result.stderr.strip()}")
            points.append(point)
            (point / "4m.bin").write_bytes(WHOLE)
            point.chmod(0o755)

        httpd, lingerd = offload.site(sandbox, mpm, directives=directives, prepare=prepare)
        return httpd, lingerd, points[-1]

    yield make
    for point in points:
        umount(point, "-l")


def umount(point, *options):
    return subprocess.run(["umount", *options, point], capture_output=True, text=True, check=False)


def test_umount_after_httpds_stop(mounted, mpm):
    """Would catch a file system that lingerd keeps busy in spite of the directive."""
    httpd, lingerd, point = mounted(mpm, "LingerOffloadFiles Off\n")
    with Reader(httpd, clients.request(ON_MOUNT)) as client:
        wait_offloaded(lingerd, 1)
        assert lingerd.counters()["LingerOffloadMemory"] > 0
        assert lingerctl.print_of("files", lingerd=lingerd) == "No delivery holds a file.\n"
        assert httpd.stop() == []
        result = umount(point)
        assert result.returncode == 0, result.stderr
        assert body_of(client.read_all("bursts")) == WHOLE
    wait_over(lingerd)
    assert lingerd.counters()["LingerDelivered"] == 1


def test_what_keeps_a_file_system_busy(mounted, mpm):
    """By default a delivery holds its file: lingerctl names it, and its file system."""
    httpd, lingerd, point = mounted(mpm, "")
    with Reader(httpd, clients.request(ON_MOUNT)) as client, \
            Reader(httpd, clients.request(ON_MOUNT)) as second, \
            Reader(httpd, clients.request(BIG)) as elsewhere:
        wait_offloaded(lingerd, 3)
        assert httpd.stop() == []
        assert "busy" in umount(point).stderr
        told = lingerctl.print_of("files", lingerd=lingerd)
        assert f"{point} (linger-test): 2 deliveries\n  2  {point}/4m.bin\n" in told, told
        assert f"1  {httpd.directory}/www/4m.bin\n" in told, told
        assert "kill -KILL " + str(lingerd.pid) in told, told
        for reader in (client, second, elsewhere):
            assert body_of(reader.read_all()) == WHOLE
        wait_over(lingerd)
    assert lingerctl.print_of("files", lingerd=lingerd) == "No delivery holds a file.\n"
    wait_until(lambda: umount(point).returncode == 0, "it can be unmounted")


def test_a_file_that_is_too_large_for_memory(sandbox, mpm):
    """With LingerOffloadFiles Off httpd sends it as without the module."""
    httpd, lingerd = offload.site(
        sandbox, mpm, workers=3,
        directives="LingerOffloadFiles Off\nLingerOffloadMax 1M\n")
    with Reader(httpd, clients.request(BIG)) as client, \
            Reader(httpd, clients.request(BIG)) as second:
        assert body_of(client.read_all("bursts")) == WHOLE
        assert body_of(second.read_all("bursts")) == WHOLE
    wait_over(lingerd)
    assert lingerd.counters()["LingerOffloads"] == 0


def test_mounts_come_and_go(mounted):
    """Each time lingerd has to look again which file systems are this machine's, and does so at once.
    Would catch local files that it refuses for a second, with a line that calls them remote."""
    httpd, lingerd, point = mounted("prefork", "")
    elsewhere = point / "elsewhere"
    elsewhere.mkdir()
    for turn in range(1, 6):
        subprocess.run(["mount", "-t", "tmpfs", "linger-test", elsewhere], check=True)
        assert umount(elsewhere).returncode == 0
        with Reader(httpd, clients.request(BIG)) as client:
            wait_offloaded(lingerd, turn)
            assert body_of(client.read_all("bursts")) == WHOLE


def test_lingerctl_files_without_lingerd(sandbox):
    lingerd = sandbox.lingerd()
    lingerd.stop()
    result = lingerctl.run("files", lingerd=lingerd)
    assert result.returncode == 7 and result.stdout == ""
    assert result.stderr == f"lingerctl: files: no lingerd runs at {lingerd.socket_path}: it holds none\n"


@pytest.mark.skipif(not places.am_root(), reason="becomes another user")
def test_lingerctl_files_without_privilege(sandbox):
    """Says what to do. Would catch an empty answer that looks like a good one."""
    lingerd = sandbox.lingerd()
    nobody = 65534
    result = lingerctl.run("files", lingerd=lingerd, user=nobody, group=nobody, extra_groups=[])
    assert result.returncode == 4 and result.stdout == ""
    assert f"can't look into /proc/{lingerd.pid}/fd (Permission denied): run it as root" in result.stderr
