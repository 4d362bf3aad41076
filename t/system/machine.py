# SPDX-License-Identifier: Apache-2.0
"""A machine that boots: a Debian root, a throw-away layer over it in memory, and systemd as its first
process, in namespaces of its own (systemd-nspawn). Its network is a loopback of its own, which a
thread of the test may enter."""
import contextlib
import ctypes
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import zlib

from harness.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "system"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# As small as it gets with systemd as init and a stock apache2. man-db and its like are left out:
# dpkg's triggers for them would take longer than the tests.
PACKAGES = "systemd,systemd-sysv,dbus,apache2,iproute2,procps,curl"
_IS_UP = "/run/machine-is-up"
_REBOOT = 133  # the exit status of systemd-nspawn --keep-unit
# nspawn clears its own directory in /run at the end, and refuses to where that is on a disk.
_NSPAWN = ('mkdir -p /run/systemd/nspawn && mount -t tmpfs tmpfs /run/systemd/nspawn && '
           'exec "$0" "$@"')

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

_HOSTS_NETWORK = os.open("/proc/self/ns/net", os.O_RDONLY)


def on_the_host(*command, **options):
    """Runs a command in the network that this process came from."""
    return subprocess.run(["nsenter", f"--net=/proc/self/fd/{_HOSTS_NETWORK}", *command],
                          pass_fds=[_HOSTS_NETWORK], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False, **options)


class CannotBoot(Exception):
    """What this machine lacks."""


def _suite():
    words = dict(line.strip().split("=", 1)
                 for line in pathlib.Path("/etc/os-release").read_text().splitlines() if "=" in line)
    if words.get("ID", "").strip('"') != "debian" or "VERSION_CODENAME" not in words:
        raise CannotBoot("not a Debian, whose packages are what is tested")
    return words["VERSION_CODENAME"].strip('"')


def _mirror(suite):
    """Where this machine gets its own packages."""
    told = os.environ.get("DEBIAN_MIRROR") or subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages",
         f"Codename: {suite}", "Component: main"],
        capture_output=True, text=True, check=False).stdout
    return (told.split() or ["http://deb.debian.org/debian"])[0]


@functools.cache
def _own_mounts():
    """What is mounted from here on is this process's alone, and goes when it does, however it ends."""
    if _LIBC.unshare(_CLONE_NEWNS) != 0:
        raise CannotBoot(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True,
                          check=False)
    if done.returncode:  # in a chroot, for one
        raise CannotBoot("no mounts of its own: " + done.stderr.strip().splitlines()[0])


def _own_groups(name):
    """Control groups below this process's own: a machine's systemd looks into its groups for
    processes, and wouldn't know those of a machine beside it."""
    made = []
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, kind, own = line.split(":", 2)
        for hierarchy in {"name=systemd": ["systemd"], "": ["unified", "."]}.get(kind, []):
            parent = pathlib.Path(f"/sys/fs/cgroup/{hierarchy}{own}")
            if (parent / "cgroup.procs").exists():
                with contextlib.suppress(OSError):
                    (parent / name).mkdir()
                    made.append(parent / name)
    return made


def _remove_groups(groups):
    for group in groups:
        for path, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _debootstrap(root, packages, suite, arch):
    # With mounts of its own: it makes some in there, and it may be interrupted.
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={packages}",
               *([f"--arch={arch}"] if arch else []), suite, str(root), _mirror(suite)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            said, _ = process.communicate(timeout=900)
        except BaseException as why:
            os.killpg(process.pid, signal.SIGKILL)  # and the programs that it runs in there
            if isinstance(why, subprocess.TimeoutExpired):
                raise CannotBoot("debootstrap has no Debian root after 15 minutes") from None
            raise
    if process.returncode:
        last = (said.strip().splitlines() or ["no reason given"])[-1]
        raise CannotBoot(f"debootstrap makes no Debian root: {last}")


def debian_root(packages=PACKAGES, suite=None, more="", prepare=None, arch=""):
    """A bare Debian with some packages, of this machine's release and architecture or another, made once
    and kept below build/. `prepare(root)` adds to it what `more` says."""
    suite = suite or _suite()
    root = BUILD / f"root-{suite}{arch}-{zlib.crc32((packages + more).encode()):08x}"
    if root.exists():
        return root
    BUILD.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix="debootstrap.", dir=BUILD))
    try:
        _debootstrap(partial, packages, suite, arch)
        partial.chmod(0o755)
        if prepare:
            prepare(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):  # somebody else's may be there by now
        partial.rename(root)
    return root


def missing_tools():
    return [tool for tool in ("debootstrap", "systemd-nspawn", "nsenter", "mount")
            if not shutil.which(tool)]


class Machine:
    """`systemd` False: nothing is its init, so that init scripts have their say. `make_root` gives
    another root than this release's."""

    def __init__(self, systemd=True, make_root=debian_root):
        self._systemd = systemd
        if os.geteuid() != 0:
            raise CannotBoot("not root")
        if missing_tools():
            raise CannotBoot("no " + ", no ".join(missing_tools()))
        _own_mounts()
        lower = make_root()
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="machine-", dir=BUILD))
        self.root = self._directory / "root"
        self.console = self._directory.with_name(self._directory.name + ".console")
        self._groups = _own_groups(self._directory.name)
        self._nspawn = None
        self.leader = None
        try:
            self._lay_over(lower)
            self.boot()
        except BaseException:
            self.close()
            raise

    def _lay_over(self, lower):
        self._mount("-t", "tmpfs", "-o", "size=3g,mode=755", "tmpfs", str(self._directory))
        for name in ("upper", "work", "root"):
            (self._directory / name).mkdir()
        self._mount("-t", "overlay", "-o", f"lowerdir={lower},upperdir={self._directory}/upper,"
                    f"workdir={self._directory}/work", "overlay", str(self.root))
        (self.root / "etc/machine-id").write_text("")
        (self.root / "var/log/journal").mkdir(exist_ok=True)  # a journal that survives a reboot

    def _mount(self, *arguments):
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBoot(done.stderr.strip())

    def boot(self):
        with open(self.console, "ab") as console:
            self._nspawn = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _NSPAWN, "systemd-nspawn", "-q",
                 "--register=no", "--keep-unit", "-M", self._directory.name.replace("_", "x"),
                 "-D", str(self.root), "--console=pipe", "--private-network",
                 *(["--boot"] if self._systemd else
                   ["--as-pid2", "sh", "-c", f": >{_IS_UP}; exec sleep infinity"])],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                # Whatever this host has: systemd 258 and later boot with nothing else.
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                preexec_fn=self._become_nspawn)
        self._wait_running()

    def _become_nspawn(self):
        """In the new process: it ends with its parent, and is in groups of its own."""
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        for group in self._groups:
            with contextlib.suppress(OSError):
                (group / "cgroup.procs").write_text("0")

    def _wait_running(self):
        def running():
            if self._nspawn.poll() is not None:
                raise CannotBoot("systemd-nspawn: " + self._console_tail())
            self.leader = self._find_leader()
            return self.leader and self._is_up()
        try:
            wait_until(running, "systemd runs", deadline=120, every=0.1)
        except AssertionError:
            raise CannotBoot("systemd doesn't boot: " + self._console_tail()) from None

    def _console_tail(self):
        said = self.console.read_text(errors="replace").strip()
        return " / ".join(said.split("\n")[-4:]) or "not a word on its console"

    def _find_leader(self):
        """The machine's first process: nspawn's child."""
        path = f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children"
        children = pathlib.Path(path).read_text().split()
        return int(children[0]) if children else None

    def _is_up(self):
        if not self._systemd:
            # nspawn's first child isn't the machine yet, and goes.
            return self.run("test", "-e", _IS_UP, check=False).returncode == 0
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def inside(self, *command):
        """The command that runs this one in the machine, as its root."""
        return ["nsenter", "-t", str(self.leader), "-a", "env", "-i", f"PATH={PATH}", "LC_ALL=C",
                "DEBIAN_FRONTEND=noninteractive", *map(str, command)]

    def run(self, *command, check=True, timeout=120):
        """Runs a command in the machine, as its root."""
        done = subprocess.run(self.inside(*command), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(f"{command} exited with {done.returncode}\n{done.stdout}"
                                 f"{done.stderr}")
        return done

    def out(self, *command):
        return self.run(*command).stdout.strip()

    def show(self, unit, *properties):
        """{property: value} of a unit."""
        lines = self.out("systemctl", "show", unit, *(f"-p{name}" for name in properties))
        return dict(line.split("=", 1) for line in lines.splitlines())

    def enter_network(self):
        """From here on sockets of this thread, and of those that it starts, are in the machine."""
        with open(f"/proc/{self.leader}/ns/net", "rb") as namespace:
            if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def reboot(self):
        """Of the machine's own doing: nspawn ends with a status of its own, and is started again."""
        self.run("systemctl", "reboot", check=False)  # the connection may end before it answers
        status = self._nspawn.wait(120)
        assert status == _REBOOT, f"systemd-nspawn exited with {status}: {self._console_tail()}"
        self.boot()

    def close(self):
        if self._nspawn and self._nspawn.poll() is None:
            if self.leader and self._systemd:
                self.run("systemctl", "poweroff", check=False)
            else:
                self._nspawn.terminate()
            try:
                self._nspawn.wait(60)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        for mounted in (self.root, self._directory):
            subprocess.run(["umount", "-l", str(mounted)], capture_output=True, check=False)
        self._directory.rmdir()
        self.console.unlink(missing_ok=True)
        _remove_groups(self._groups)
