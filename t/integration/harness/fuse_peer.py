# SPDX-License-Identifier: Apache-2.0
"""A peer with a file system of its own, as any user may have one where user namespaces are allowed:
a FUSE server that answers everything but FLUSH, which close(2) waits for, in D state, and what
connect(2) asks about its socket. It runs as a
process of its own, because nobody else should have to close such a file. Words on its standard input
say what to send; each is answered with a line."""
import array
import contextlib
import ctypes
import os
import signal
import socket
import stat
import struct
import subprocess
import sys

_ROOT, _FILE, _SOCKET = 1, 2, 3
_SIZE = 1 << 20
_IN = struct.Struct("=IIQQIIII")  # len, opcode, unique, nodeid, uid, gid, pid, padding
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE, _FLUSH, _INIT, _OPENDIR, _READDIR = (
    1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 28)
_GETXATTR, _INTERRUPT, _BATCH_FORGET, _ACCESS, _RELEASEDIR = 22, 36, 42, 34, 29
_NO_ANSWER = (_FORGET, _BATCH_FORGET, _INTERRUPT)
_ENOSYS = 38
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_DEVICE = (10, 229)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


def _attributes(node):
    mode = {_ROOT: stat.S_IFDIR | 0o755, _FILE: stat.S_IFREG | 0o644,
            _SOCKET: stat.S_IFSOCK | 0o777}[node]
    return struct.pack("=QQQQQQIIIIIIIIII", node, _SIZE, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class _Server:
    """A file, `f`, and a socket, `s`. Holds back answers to what `stuck` names, and about the socket."""

    def __init__(self, device, stuck):
        self._device, self._stuck = device, set(stuck)

    def run(self):
        while True:
            try:
                request = os.read(self._device, 1 << 18)
            except OSError:
                return
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            if opcode in self._stuck or opcode in _NO_ANSWER or (opcode, node) == (_GETATTR, _SOCKET):
                continue
            error, body = self._answer(opcode, node, request[_IN.size:])
            answer = struct.pack("=IiQ", 16 + len(body), -error, unique) + body
            with contextlib.suppress(OSError):
                os.write(self._device, answer)

    @staticmethod
    def _answer(opcode, node, body):
        if opcode == _INIT:
            return 0, struct.pack("=IIIIHHIIHHI28x", 7, 31, 65536, 0, 16, 12, 1 << 17, 1, 0, 0, 0)
        if opcode == _LOOKUP:
            found = _SOCKET if body == b"s\0" else _FILE
            known_for = 0 if found == _SOCKET else 3600
            return 0, struct.pack("=QQQQII", found, 0, 3600, known_for, 0, 0) + _attributes(found)
        if opcode == _GETATTR:
            return 0, struct.pack("=QII", 3600, 0, 0) + _attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            return 0, struct.pack("=QII", 1, 0, 0)
        if opcode == _READ:
            return 0, bytes(struct.unpack_from("=QQI", body)[2])
        if opcode == _STATFS:
            return 0, struct.pack("=QQQQQIIII24x", 9, 9, 9, 9, 9, 4096, 255, 4096, 0)
        if opcode in (_RELEASE, _RELEASEDIR, _FLUSH, _ACCESS):
            return 0, b""
        return _ENOSYS, b""


def _into_namespaces():
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        file = os.open(f"/proc/self/{name}", os.O_WRONLY)
        os.write(file, line.encode())
        os.close(file)
    return libc


def mount(libc, node, directory):
    device = os.open(node, os.O_RDWR)
    _mount(libc, "fuse", directory,
           f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions")
    return device


def _mount(libc, kind, directory, options=""):
    if libc.mount(kind.encode(), str(directory).encode(), kind.encode(), 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {kind}")


def _under_an_overlay(libc, directory):
    """The same files, as those of another file system, which asks in the name of who mounted it."""
    _mount(libc, "tmpfs", "/tmp")
    for name in ("empty", "m"):
        os.mkdir(f"/tmp/{name}")
    _mount(libc, "overlay", "/tmp/m", f"lowerdir={directory}:/tmp/empty,userxattr")
    return "/tmp/m"


def _act(libc, socket_path, directory):
    """The peer's part; ends with the test's end of standard input, or with the server."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(socket_path)
    peer.recv(100)
    print("ready", flush=True)
    path = os.path.join(directory, "f")
    kept = []
    for line in sys.stdin:
        words = line.split()
        message, count = bytes.fromhex(words[1]), int(words[2])
        kept.append(os.open(path, os.O_RDONLY))  # closing it would wait for the server
        files = [kept[-1]] * count
        if words[0] == "way":
            files = [os.open(path, os.O_PATH)] * count
        if words[0] == "overlay":
            files = [os.open(os.path.join(_under_an_overlay(libc, directory), "s"), os.O_PATH)]
        if words[0] in ("delivery", "way"):
            listener = socket.create_server(("127.0.0.1", 0))
            kept += [listener, socket.create_connection(listener.getsockname()),
                     listener.accept()[0]]
            files.insert(0, kept[-1].fileno())
        fds = array.array("i", files)
        try:
            peer.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)],
                         socket.MSG_DONTWAIT)
            print("sent", flush=True)
        except OSError as failure:
            print(failure, flush=True)


def _child(socket_path, node, directory, uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)  # or /proc/self is root's still
    libc = _into_namespaces()
    device = mount(libc, node, directory)
    # Two processes: one that ends closes its files before its devices, and would wait for itself.
    if os.fork() == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(device)
        _act(libc, socket_path, directory)
        os._exit(0)
    for descriptor in (0, 1):
        os.close(descriptor)
    _Server(device, {_FLUSH, _READ}).run()


class FusePeer:
    """The test's side of it."""

    def __init__(self, socket_path, directory, uid=4711):
        directory.mkdir()
        directory.chmod(0o777)
        node = directory / "fuse"
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(*_DEVICE))
        node.chmod(0o666)
        mountpoint = directory / "mnt"
        mountpoint.mkdir()
        mountpoint.chmod(0o777)
        os.chown(mountpoint, uid, uid)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(socket_path), str(node), str(mountpoint), str(uid)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.problem = None
        if self._process.stdout.readline() != "ready\n":
            self.problem = self._process.stderr.read().strip().splitlines()[-1:]

    @property
    def pid(self):
        return self._process.pid

    def send(self, message, *, what="files", count=1):
        """A record with `count` files of its own, behind a good socket if it is a delivery or a way
        back; "overlay": the name of a socket, as an overlay shows it."""
        self._process.stdin.write(f"{what} {message.hex()} {count}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """With the server gone every wait for it ends."""
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
