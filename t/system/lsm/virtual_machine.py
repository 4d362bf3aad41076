# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with a kernel of its own, because security modules belong to the kernel: a Debian
root with the packages installed, made into a disk, and booted by qemu without hardware's help."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import machine
from machine import BUILD, ROOT, CannotBoot

PACKAGES = ("systemd,systemd-sysv,dbus,apache2,curl,procps,linux-image-cloud-amd64,apparmor,"
            "selinux-policy-default,policycoreutils,selinux-utils,auditd")
TOOLS = ("qemu-system-x86_64", "mke2fs", "chroot", "make", "c++")
BOOT_SECONDS = 900  # a processor in software, on a machine that may be busy
HERE = pathlib.Path(__file__).resolve().parent


def _run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, **options)


def _policy_with_switches(directory):
    """The SELinux module, but with two of its rules under booleans, so that a test can take them
    away for a moment."""
    for name in ("te", "fc", "if"):
        shutil.copy(ROOT / f"packaging/selinux/lingerd.{name}", directory)
    source = directory / "lingerd.te"
    text = source.read_text()
    for switch, rule in (
            ("fd_use", "allow lingerd_t httpd_t:fd use;"),
            ("connect", "stream_connect_pattern(httpd_t, lingerd_runtime_t, lingerd_runtime_t, "
                        "lingerd_t)")):
        assert text.count(rule) == 1, rule
        name = f"lingerd_test_{switch}"
        text = text.replace(rule, f"bool {name} true;\nif ({name}) {{\n{rule}\n}}")
    source.write_text(text)
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL")}
    _run("make", "-f", "/usr/share/selinux/devel/Makefile", "lingerd.pp", cwd=directory, env=env)
    return directory / "lingerd.pp"


class VirtualMachine:
    def __init__(self, packages):
        missing = [tool for tool in (*TOOLS, "debootstrap") if not shutil.which(tool)]
        if missing:
            raise CannotBoot("no " + ", no ".join(missing))
        if os.geteuid() != 0:
            raise CannotBoot("not root")
        base = machine.debian_root(PACKAGES)
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="vm-", dir=BUILD))
        self._root = self._directory / "root"
        try:
            _run("cp", "-a", "--reflink=auto", str(base), str(self._root))
            self._install(packages)
            self._label()
            self._make_disk()
        except BaseException:
            self.close()
            raise

    def _in_root(self, *command):
        return _run("chroot", str(self._root), *command)

    def _install(self, packages):
        policy = self._root / "usr/sbin/policy-rc.d"  # nothing starts in a chroot
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        (self._root / "root/debs").mkdir()
        for package in packages:
            shutil.copy(package, self._root / "root/debs")
        self._in_root("sh", "-c", "dpkg -i /root/debs/*.deb")
        policy.unlink()
        for name, place in (("guest", "root"), ("guest.service", "etc/systemd/system")):
            shutil.copy(HERE / name, self._root / place)
        for name in ("junk_sender", "failing_lingerd"):
            _run("c++", "-std=c++20", "-O1", "-static", "-o",
                 str(self._root / "usr/local/sbin" / name), str(HERE / f"{name}.cpp"))
        units = self._root / "etc/systemd/system"
        (units / "multi-user.target.wants/guest.service").symlink_to("../guest.service")
        (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
        # Time enough for a slow machine to look at what lingers.
        (self._root / "etc/apache2/conf-enabled/test.conf").write_text(
            "LingerTimeout 60\nLingerTime 60\n")

    def _label(self):
        module = self._directory / "policy"
        module.mkdir()
        shutil.copy(_policy_with_switches(module), self._root / "root")
        self._in_root("semodule", "-n", "-s", "default", "-i", "/root/lingerd.pp")
        _run("mount", "-t", "proc", "proc", str(self._root / "proc"))
        try:
            self._in_root("setfiles", "-F",
                          "/etc/selinux/default/contexts/files/file_contexts", "/")
        finally:
            _run("umount", str(self._root / "proc"))

    def _make_disk(self):
        with open(self._directory / "disk", "wb") as disk:
            disk.truncate(2 << 30)
        _run("mke2fs", "-q", "-t", "ext4", "-d", str(self._root), str(self._directory / "disk"))
        for name in ("vmlinuz", "initrd"):
            source, = (self._root / "boot").glob(f"{name}*")
            shutil.copy(source, self._directory / name)
        shutil.rmtree(self._root)

    def boot(self, *kernel_arguments):
        """Boots, lets the guest have its say, and returns the console's text."""
        command = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "1024",
                   "-display", "none", "-no-reboot", "-nic", "none", "-serial", "stdio",
                   "-kernel", "vmlinuz", "-initrd", "initrd",
                   "-drive", "file=disk,if=virtio,format=raw,snapshot=on",
                   "-append", " ".join(["root=/dev/vda rw console=ttyS0 quiet", *kernel_arguments])]
        done = subprocess.run(command, cwd=self._directory, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=BOOT_SECONDS, check=False)
        return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")

    def close(self):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._directory)
