# SPDX-License-Identifier: Apache-2.0
"""A peer of lingerd's that does anything: connects, sends records of all kinds with descriptors of all kinds,
whole and in part, makes offers and forgets them, floods, and goes at any moment. What it does follows
from its seed; it lives for some seconds, as the user that it was started as, and then dies as it is."""
import array
import contextlib
import ctypes
import os
import pathlib
import random
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from harness.record import BEGIN, DELIVER, IDLE, LINGER, LINGER_AN_HOUR, WAY_BACK, fill, record  # noqa: E402

RST = struct.pack("ii", 1, 0)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class Hostile:
    def __init__(self, path, seed, directory):
        self.path, self.directory = path, directory
        self.random = random.Random(seed)
        self.peers = []
        self.kept = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.full = self._way_back(0)
        self.counts = {}

    def _way_back(self, backlog):
        """A Unix listener of ours that accepts nothing: (socket, path)."""
        name = f"{self.directory}/back-{os.getpid()}-{self.random.getrandbits(32):x}"
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.listen(backlog)
        return server, name

    # ---- Descriptors; each factory gives one that we don't need any more ----

    def tcp(self):
        client = socket.create_connection(self.listener.getsockname())
        server, _ = self.listener.accept()
        return client, server

    def lingering(self):
        client, server = self.tcp()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        fate = self.random.randrange(6)
        if fate == 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        if fate == 1:
            client.send(bytes(self.random.randrange(1, 100_000)), socket.MSG_DONTWAIT)
        if fate < 4:
            client.close()
        else:
            self.kept.append(client)
        return server

    def clinging(self):
        client, server = self.tcp()
        fill(client, server)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_AN_HOUR)
        self.kept.append(client)
        return server

    def disconnected(self):
        client, server = self.tcp()
        self.kept.append(client)
        ctypes.CDLL(None).connect(server.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16)
        return server

    def nested(self):
        inner = self.random.choice((self.clinging, self.lingering, self.memory))()
        for _ in range(self.random.randrange(1, 4)):
            near, far = socket.socketpair(socket.AF_UNIX, self.random.choice(
                (socket.SOCK_SEQPACKET, socket.SOCK_STREAM, socket.SOCK_DGRAM)))
            self.pass_on(near, b"x", [inner])
            near.close()
            inner = far
        return inner

    def cycle(self):
        """Two sockets, each in the other's queue: the kernel's collector finds them."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        clinging = self.clinging()
        with contextlib.suppress(OSError):
            one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                  array.array("i", [one.fileno(), clinging.fileno()]))],
                        socket.MSG_DONTWAIT)
        self.kept.append(clinging)
        one.close()
        return other

    def memory(self):
        fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
        os.write(fd, bytes(self.random.randrange(1, 200_000)))
        if self.random.random() < 0.7:
            with contextlib.suppress(OSError):
                import fcntl  # pylint: disable=import-outside-toplevel
                fcntl.fcntl(fd, 1033, 15)
        return fd

    def deleted(self):
        name = f"{self.directory}/big-{os.getpid()}-{self.random.getrandbits(32):x}"
        fd = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
        os.truncate(fd, 1 << 30)
        os.pwrite(fd, bytes(1 << 20), 0)
        reader = os.open(name, os.O_RDONLY)
        os.unlink(name)
        os.close(fd)
        return reader

    def way_back(self):
        if self.random.random() < 0.5:
            return os.open(self.full[1], os.O_PATH)
        server, name = self._way_back(self.random.choice((0, 1, 100)))
        fd = os.open(name, os.O_PATH)
        os.unlink(name)
        if self.random.random() < 0.5:
            self.kept.append(server)
        else:
            server.close()
        return fd

    def odd(self):
        return self.random.choice((
            lambda: os.open("/", os.O_RDONLY), lambda: os.open("/dev/zero", os.O_RDWR),
            lambda: os.open("/proc/self/stat", os.O_RDONLY), lambda: os.eventfd(1),
            lambda: os.pidfd_open(os.getpid()), socket.socket, lambda: os.pipe()[0],
            lambda: socket.create_server(("127.0.0.1", 0)),
            lambda: self.random.choice(self.peers or [socket.socket()]).dup()))()

    def anything(self):
        return self.random.choices(
            (self.lingering, self.clinging, self.disconnected, self.nested, self.cycle, self.memory,
             self.deleted, self.way_back, self.odd), (20, 3, 2, 2, 1, 4, 1, 5, 8))[0]()

    # ---- Messages ----

    def pass_on(self, peer, message, things):
        fds = array.array("i", [t if isinstance(t, int) else t.fileno() for t in things])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        with contextlib.suppress(OSError):
            peer.sendmsg([message], ancillary, socket.MSG_DONTWAIT)
        for thing in things:
            self.let_go(thing)

    def let_go(self, thing):
        """In a thread: close(2) may be what hurts, and it may be we who close last."""
        close = (lambda: os.close(thing)) if isinstance(thing, int) else thing.close
        threading.Thread(target=lambda: contextlib.suppress(OSError).__enter__() or close(),
                         daemon=True).start()

    def message(self, kind):
        numbers = self.random
        good = record(kind=kind, idle_ms=numbers.choice((1, 50, 2000, 3_600_000)),
                      cap_ms=numbers.choice((1, 500, 3_600_000)), offset=numbers.choice((0, 0, 1, 1 << 49)),
                      length=numbers.choice((1, 1000, 1 << 40)), stall_ms=numbers.choice((1, 300, 60_000)),
                      ticket=numbers.randrange(4), keepalives=numbers.randrange(100))
        fate = numbers.randrange(20)
        if fate == 0:
            return good[:numbers.randrange(len(good))]
        if fate == 1:
            return good + bytes(numbers.randrange(5000))
        if fate == 2:
            changed = bytearray(good)
            changed[numbers.randrange(len(good))] = numbers.randrange(256)
            return bytes(changed)
        return b"" if fate == 3 else good

    def send_one(self):
        peer = self.a_peer()
        kind = self.random.choice((LINGER, LINGER, LINGER, DELIVER, DELIVER, IDLE, IDLE, BEGIN, WAY_BACK,
                                   9))
        first = self.random.random()
        if kind == LINGER and first < 0.7:
            things = [self.lingering()]
        elif kind == DELIVER and first < 0.7:
            things = [self.lingering(), self.memory()]
        elif kind == IDLE and first < 0.7:
            client, server = self.tcp()
            self.kept.append(client)
            things = [server, self.way_back()]
        elif kind == WAY_BACK and first < 0.7:
            things = [self.way_back()]
        else:
            things = [self.anything() for _ in range(self.random.choice((0, 0, 1, 1, 2, 2, 3, 10)))]
        if self.random.random() < 0.03:
            things += [os.dup(0) for _ in range(self.random.randrange(253 - len(things)))]
        self.pass_on(peer, self.message(kind), things)

    def a_peer(self):
        if not self.peers or (len(self.peers) < 12 and self.random.random() < 0.1):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            peer.setblocking(False)
            with contextlib.suppress(OSError):
                peer.connect(self.path)
            self.peers.append(peer)
        return self.random.choice(self.peers)

    def flood(self):
        peer = self.a_peer()
        junk = self.random.choice((b"", b"junk", record(), record(kind=BEGIN)))
        for _ in range(self.random.randrange(2000)):
            try:
                peer.send(junk, socket.MSG_DONTWAIT)
            except OSError:
                return

    def leave(self):
        if self.peers:
            peer = self.peers.pop(self.random.randrange(len(self.peers)))
            if self.random.random() < 0.5:
                with contextlib.suppress(OSError):
                    peer.shutdown(self.random.choice((socket.SHUT_RD, socket.SHUT_WR)))
            self.let_go(peer)

    def forget(self):
        self.random.shuffle(self.kept)
        while len(self.kept) > 150:
            self.let_go(self.kept.pop())

    def go_on(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            act = self.random.choices((self.send_one, self.flood, self.leave, self.forget),
                                      (100, 1, 4, 3))[0]
            with contextlib.suppress(OSError):  # of our own: a limit, a queue that is full
                act()
            if self.random.random() < 0.2:
                time.sleep(self.random.random() * 0.02)


class Hoarder(Hostile):
    """Takes all that it can get and lets go of nothing: lingers, parked connections and responses for an
    hour each, and a way back for every other connection."""
    ENOUGH = 700  # more than lingerd has for all

    def take_one(self):
        kind = self.random.choice((LINGER, IDLE, IDLE, DELIVER, WAY_BACK))
        if kind == WAY_BACK:
            things = [self.way_back()]
        else:
            client, server = self.tcp()
            self.kept.append(client)
            things = [server] + {LINGER: [], IDLE: [self.way_back()], DELIVER: [self.memory()]}[kind]
        ticket = self.random.getrandbits(16)
        peer = self.a_peer()
        self.pass_on(peer, record(kind=kind, idle_ms=3_600_000, cap_ms=3_600_000, stall_ms=3_600_000,
                                  length=1, ticket=ticket), things)
        if kind == DELIVER:
            self.pass_on(peer, record(kind=BEGIN, ticket=ticket), [])

    def way_back(self):
        server, name = self._way_back(0)
        fd = os.open(name, os.O_PATH)
        self.kept.append(server)
        os.unlink(name)
        return fd

    def go_on(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                self.take_one()
            if len(self.kept) > 2 * self.ENOUGH:
                self.let_go(self.kept.pop(0))
            if len(self.kept) > self.ENOUGH:
                time.sleep(0.005)


def own_network():
    """Any user's: with addresses that are nobody else's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return
    import fcntl  # pylint: disable=import-outside-toplevel
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up


def main():
    path, seed, seconds, directory = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    kind = Hoarder if sys.argv[5] == "hoarder" else Hostile
    if seed % 5 == 0:
        with contextlib.suppress(OSError):
            own_network()
    try:
        kind(path, seed, directory).go_on(seconds)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
