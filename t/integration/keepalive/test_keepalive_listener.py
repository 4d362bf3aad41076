# SPDX-License-Identifier: Apache-2.0
"""Where httpd's private listener is made, what is left there, and what the log says where it can't be;
lingerd seen from inside of ChrootDir."""
import os
import shutil
import signal
import subprocess

import pytest

from harness import keepalive, places, proc
from harness.keepalive import KeepAlive
from harness.waiting import wait_until

PARKING = ("prefork", "worker")
NO_EFFECT = "LingerKeepAlive has no effect"


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


def _left(httpd):
    return [name for name in os.listdir(httpd.directory / "run") if name.startswith("linger.")]


def _use_runtime_directory(httpd, path):
    config = (httpd.directory / "httpd.conf").read_text().splitlines(keepends=True)
    (httpd.directory / "httpd.conf").write_text("".join(
        f"DefaultRuntimeDir {path}\n" if line.startswith("DefaultRuntimeDir") else line
        for line in config))


def test_no_runtime_directory(sandbox, mpm):
    """The log says what to do, once for each reason; when that is done and httpd restarted, it parks.
    httpd itself refuses a DefaultRuntimeDir that isn't there, but not its built-in one: /proc says
    the same to mkdir(2)."""
    httpd, lingerd = keepalive.site(sandbox, mpm, start=False)
    httpd.allowed_lines.append(NO_EFFECT)
    _use_runtime_directory(httpd, "/proc")
    httpd.start()
    with KeepAlive(httpd.port) as client:
        assert client.ask()[0] == client.ask()[0] == 200
    httpd.graceful()
    line, = httpd.error_log.matching(NO_EFFECT)
    assert "No such file" in line and "mkdir -p /proc" in line and "DefaultRuntimeDir" in line
    _use_runtime_directory(httpd, "/sys")
    httpd.graceful()
    _, line = httpd.error_log.matching(NO_EFFECT)  # another reason
    assert "permissions of /sys" in line
    _use_runtime_directory(httpd, "run")
    httpd.graceful()
    keepalive.wait_parks_at_all(httpd, lingerd)
    _use_runtime_directory(httpd, "/proc")
    httpd.graceful()  # the listener is there all the same
    assert len(httpd.error_log.matching(NO_EFFECT)) == 2


def test_what_the_killed_leave(sandbox, mpm):
    """kill -9 of httpd's parent leaves its directory to the next httpd, which leaves alone what a
    living one has."""
    httpd, _ = keepalive.site(sandbox, mpm)
    httpd.allowed_lines.append("AH00098")  # its pid file is there
    neighbour, _ = keepalive.site(sandbox, mpm, start=False)
    shutil.rmtree(neighbour.directory / "run")
    (neighbour.directory / "run").symlink_to(httpd.directory / "run")
    neighbour.write_config(config="PidFile logs/httpd.pid\n")
    neighbour.start()
    assert sorted(_left(httpd)) == sorted(f"linger.{each.pid}" for each in (httpd, neighbour))
    members = proc.session_members(httpd.pid)
    os.kill(httpd.pid, signal.SIGKILL)
    httpd._process.wait(30)  # pylint: disable=protected-access
    for pid in members:
        if pid != httpd.pid:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not proc.session_members(httpd.pid), "its children are gone")
    killed, httpd.pid = httpd.pid, None
    assert f"linger.{killed}" in _left(httpd)
    httpd.start()
    assert sorted(_left(httpd)) == sorted(f"linger.{each.pid}" for each in (httpd, neighbour))
    assert not neighbour.stop()
    assert _left(httpd) == [f"linger.{httpd.pid}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_process(sandbox, mpm, number):
    """httpd -X leaves nothing behind: at its end where it is still the user who made it, else at the
    next start."""
    httpd, _ = keepalive.site(sandbox, mpm, start=False)
    httpd.allowed_lines.append("AH00098")
    for turn in range(2):
        with open(httpd.directory / "logs" / "x.log", "ab") as console:
            process = subprocess.Popen(httpd._command("-X"), stdin=subprocess.DEVNULL,  # pylint: disable=protected-access
                                       stdout=console, stderr=console, start_new_session=True,
                                       preexec_fn=proc.end_with_us)
        wait_until(lambda p=process: f"linger.{p.pid}" in _left(httpd), "it is there")
        wait_until(httpd._answers, "it serves")  # pylint: disable=protected-access
        assert _left(httpd) == [f"linger.{process.pid}"]
        process.send_signal(number)
        process.wait(30)
        if not places.am_root():
            assert not _left(httpd), turn


def test_another_users_memory(sandbox, mpm):
    """SECURITY.md's word: processes of httpd's user, scripts say, can't read or trace its children,
    and so not get the key of what comes back."""
    if not places.am_root():
        pytest.skip("httpd's children change their user only if root starts them")
    httpd, _ = keepalive.site(sandbox, mpm)
    if "CoreDumpDirectory" in (httpd.directory / "httpd.conf").read_text():
        pytest.skip("with CoreDumpDirectory they are dumpable")
    _, uid, gid = places.httpd_user()
    script = ("import ctypes, sys\n"
              "pid = int(sys.argv[1])\n"
              "try:\n"
              "    open(f'/proc/{pid}/mem', 'rb')\n"
              "    sys.exit(1)\n"
              "except PermissionError:\n"
              "    pass\n"
              "libc = ctypes.CDLL(None, use_errno=True)\n"
              "PTRACE_SEIZE = 0x4206\n"
              "sys.exit(0 if libc.ptrace(PTRACE_SEIZE, pid, 0, 0) == -1 else 2)\n")
    for pid in httpd.children():
        status = subprocess.run(
            ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "/usr/bin/python3",
             "-c", script, str(pid)], check=False).returncode
        assert status == 0, (pid, status)


def _in_chroot(sandbox, mpm):
    """(httpd in a ChrootDir of its own, that directory)"""
    root = sandbox.directory / "root"
    inside = root / str(sandbox.directory).lstrip("/")
    for directory in (root / "run", inside):
        directory.mkdir(parents=True)
    httpd = sandbox.httpd(mpm, socket_path="/run/lingerd.sock", start=False,
                          linger_directives="LingerKeepAlive On\n",
                          config=f"ChrootDir {root}\nKeepAliveTimeout 60\n")
    shutil.copytree(httpd.directory, root / str(httpd.directory).lstrip("/"))
    return httpd, root


@pytest.mark.skipif(not places.am_root(), reason="needs root")
def test_chroot_dir(sandbox, mpm):
    """Children connect from inside: lingerd's socket must be there. Everything works then; where it
    isn't, the log says where it is looked for."""
    httpd, root = _in_chroot(sandbox, mpm)
    httpd.allowed_lines += ["lingerd is down", "lingerd is back"]
    httpd.start()
    wait_until(lambda: httpd.error_log.matching("lingerd is down"), "the log says so")
    assert f"inside of ChrootDir {root}" in httpd.error_log.matching("lingerd is down")[0]
    assert f"--socket {root}/run/lingerd.sock" in httpd.error_log.matching("lingerd is down")[0]
    inside = sandbox.lingerd(name="root/run/lingerd")
    keepalive.wait_parks_at_all(httpd, inside)
    assert httpd.status()["LingerUp"] == 1


def test_the_documents_say_so():
    """What the messages ask for."""
    page = (places.ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for word in ("ChrootDir", "DefaultRuntimeDir", "LingerKeepAlive stops"):
        assert word in page, word
