# SPDX-License-Identifier: Apache-2.0
"""A stand-in for systemd: what of it a restart needs."""
import array
import contextlib
import os
import pathlib
import select
import signal
import socket
import subprocess

from harness import places
from harness.lingerd import environment
from harness.logs import sanitizer_lines
from harness.stats import read_page


class Systemd:
    """What of systemd a handover needs: a notify socket, a descriptor store, and LISTEN_FDS."""

    def __init__(self, directory, most=16):
        self.path = directory / "notify"
        self.most = most  # FileDescriptorStoreMax=
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(30)
        self.socket.bind(str(self.path))
        self.stored = {}
        self.removed = []

    def read_until(self, done):
        while not done():
            data, ancillary, _, _ = self.socket.recvmsg(4096, 1024)
            fds = array.array("i")
            for level, kind, payload in ancillary:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                fds.frombytes(payload)
            lines = data.decode().split("\n")
            name = next((line.split("=", 1)[1] for line in lines if line.startswith("FDNAME=")), "")
            if "FDSTORE=1" in lines:
                assert len(fds) == 1
                if len(self.stored) < self.most:
                    self.stored[name] = fds[0]
                else:
                    os.close(fds[0])
            elif "FDSTOREREMOVE=1" in lines:
                self.removed.append(name)
                if name in self.stored:
                    os.close(self.stored.pop(name))
            else:
                for fd in fds:  # a barrier: closing it answers
                    os.close(fd)

    def drop_those_that_hang_up(self):
        for name, fd in list(self.stored.items()):
            poll = select.poll()
            poll.register(fd, 0)
            if poll.poll(0):
                os.close(self.stored.pop(name))

    def start(self, listener, log, with_store, wrapper=(), arguments=()):
        """lingerd as systemd starts it: descriptors from 3 on, which stay in the store."""
        names = ["lingerd.socket", *(self.stored if with_store else [])]
        fds = [listener.fileno(), *(self.stored.values() if with_store else [])]
        env = environment({"NOTIFY_SOCKET": str(self.path), "LISTEN_FDS": str(len(fds)),
                           "LISTEN_FDNAMES": ":".join(names)})
        high = [os.dup(fd) for fd in fds]
        # LISTEN_PID is the process's own, known only after the fork: a shell sets it and becomes
        # lingerd.
        # No second copies: they would keep a parcel, and what is in flight in it.
        redirects = " ".join(f"{3 + i}<&{fd}" for i, fd in enumerate(high))
        redirects += "".join(f" {fd}<&-" for fd in high if fd >= 3 + len(high))
        process = subprocess.Popen(
            ["bash", "-c", f"export LISTEN_PID=$$; exec \"$@\" {redirects}", "bash",
             *wrapper, str(places.LINGERD), *arguments], env=env, pass_fds=high, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True)
        for fd in high:
            os.close(fd)
        return process


class Service:
    """A listener of systemd's, a child that is connected to it, and one lingerd after the other."""

    def __init__(self, sandbox, most=16):
        self.systemd = Systemd(sandbox.directory, most)
        self.path = sandbox.directory / "l.sock"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        self.listener.listen(100)
        self.log = sandbox.directory / "lingerd-under-systemd.log"
        self.process = None

    def start(self, with_store, wrapper=(), arguments=()):
        with open(self.log, "ab") as log:
            self.process = self.systemd.start(self.listener, log, with_store, wrapper, arguments)

    def page(self):
        return read_page(pathlib.Path(f"{self.path}.stats")) or {}

    def restart_begins(self):
        """Until the old one has stored everything and is gone."""
        os.kill(self.process.pid, signal.SIGUSR2)
        self.systemd.socket.settimeout(1)
        while self.process.poll() is None:
            with contextlib.suppress(TimeoutError):
                self.systemd.read_until(lambda: self.process.poll() is not None)
        self.systemd.socket.settimeout(30)
        assert self.process.returncode == 0
        self.systemd.drop_those_that_hang_up()
        assert len(self.systemd.stored) == 2, "few, however many sockets"

    def restart_ends(self, **how):
        self.start(with_store=True, **how)
        self.systemd.read_until(lambda: not self.systemd.stored)

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log.read_text()
        assert not sanitizer_lines(self.log.read_text())
        self.listener.close()
