# SPDX-License-Identifier: Apache-2.0
"""What /proc says about a process: descriptors, children, shared mappings, its session."""
import contextlib
import ctypes
import os
import pathlib
import re
import signal

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def end_with_us():
    """For Popen's preexec_fn: a test run that is killed leaves no server behind."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stat(pid):
    """(state, ppid, session) of a process, or None when it is gone."""
    try:
        # Of every process, many times a second: without what pathlib and text files do besides.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(1024)
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2:].split(None, 4)
    return fields[0].decode(), int(fields[1]), int(fields[3])


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def alive(pid):
    entry = _stat(pid)
    return entry is not None and entry[0] != "Z"


def has_pending(pid, number):
    """Whether this signal waits to be read or delivered."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    pending = int(re.search(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)[1], 16)
    return bool(pending >> (number - 1) & 1)


def state(pid):
    entry = _stat(pid)
    return entry[0] if entry else None


def sleeping_threads(pids):
    """{thread: how often it has gone to sleep}, or None while one of them is not asleep."""
    switches = {}
    try:
        for pid in pids:
            for thread in os.listdir(f"/proc/{pid}/task"):
                status = pathlib.Path(f"/proc/{pid}/task/{thread}/status").read_text()
                if not re.search(r"^State:\s*S", status, re.MULTILINE):
                    return None
                switches[thread] = re.findall(r"ctxt_switches:\s*(\d+)", status)
    except OSError:  # it has just ended
        return None
    return switches


# epoll_wait, epoll_pwait and epoll_pwait2 as x86-64, i386 and arm64 number them.
_EPOLL_WAITS = {"x86_64": ("232", "281", "441"), "i686": ("256", "319", "441"),
                "aarch64": ("22", "441")}.get(os.uname().machine)


def waits_for_events(pid):
    """Whether it sleeps in epoll_wait(2), so that what it did before is done. Unknown counts as yes."""
    try:
        call = pathlib.Path(f"/proc/{pid}/syscall").read_text().split()
    except OSError:
        return True
    return _EPOLL_WAITS is None or call[0] in _EPOLL_WAITS


def children(pid):
    return sorted(p for p in _pids() if (s := _stat(p)) and s[1] == pid and s[0] != "Z")


def session_members(session):
    """Living processes of a session: what a server that led it has left behind."""
    return sorted(p for p in _pids() if (s := _stat(p)) and s[2] == session and s[0] != "Z")


def fds(pid):
    """{descriptor: what it is}, without the one that reading the directory takes."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            pass
    return found


def shared_mappings(pid):
    """Shared memory that a process has mapped, by address: a leak shows as one line more."""
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in lines if line.split()[1].endswith("s")]


def cmdline(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def uid(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    raise AssertionError(f"no Uid line for {pid}")


def server_ends(port):
    """{client's port: inode} of the connections that a loopback port's server has not closed."""
    found = {}
    local = f"0100007F:{port:04X}"
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and int(fields[9]):  # what only the kernel holds has the inode 0
            found[int(fields[2].rpartition(":")[2], 16)] = int(fields[9])
    return found


def listens(path):
    """Whether somebody listens at this Unix socket: it has a file before that."""
    lines = pathlib.Path("/proc/net/unix").read_text().splitlines()
    return any(line.split()[3] == "00010000" and line.endswith(f" {path}") for line in lines[1:])


def count_held(clients, pids):
    """How many of the clients' connections these processes hold the server's end of."""
    held = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            held.update(fds(pid).values())
    ends = server_ends(clients[0].getpeername()[1])
    inodes = [ends.get(client.getsockname()[1]) for client in clients]
    return sum(f"socket:[{inode}]" in held for inode in inodes if inode)
