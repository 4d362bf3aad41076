# SPDX-License-Identifier: Apache-2.0
"""Speaks to lingerd as an httpd child does, from the words of record.h alone: what two programs
must agree on, written down a second time."""
import array
import contextlib
import functools
import os
import socket
import struct
import threading
import time

MAGIC, GREETING_MAGIC, ANSWER_MAGIC = 0x4C4E4752, 0x4C4E4759, 0x4C4E4741
_RECORD = struct.Struct("=IHHHHIIIQQQIIQ")
_GREETING = struct.Struct("=IHHQ")
WELCOME, DENIED, FULL = 0, 1, 2
LINGER, DELIVER, IDLE, WAY_BACK, REQUEST, BEGIN = 1, 2, 4, 5, 6, 32
ALL_KINDS = (1 << LINGER | 1 << DELIVER | 1 << IDLE | 1 << WAY_BACK | 1 << REQUEST | 1 << BEGIN)
ACCEPTED, NO_ROOM, UNFIT, REFUSED = 0, 1, 2, 3


def record(idle_ms=60_000, cap_ms=60_000, *, magic=MAGIC, version=1, size=_RECORD.size, kind=1,
           handed_off_ns=None, offset=0, length=0, stall_ms=0, keepalives=0,
           ticket=0):
    stamp = time.monotonic_ns() if handed_off_ns is None else handed_off_ns
    return _RECORD.pack(magic, version, size, kind, 0, idle_ms, cap_ms, 0, stamp,
                        offset, length, stall_ms, keepalives, ticket)


@functools.cache
def _listener(_network_namespace):
    """One for all: thousands of them would use up the ports of a busy machine."""
    return socket.create_server(("127.0.0.1", 0))


_ONE_AT_A_TIME = threading.Lock()


def tcp_pair():
    """(client, server) ends of a loopback connection."""
    with _ONE_AT_A_TIME:
        listener = _listener(os.stat("/proc/self/ns/net").st_ino)
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    client.settimeout(60)
    return client, server


LINGER_AN_HOUR = struct.pack("ii", 1, 3600)


def fill(client, server):
    """The client takes nothing more, and the server's end, nonblocking from now on, has unsent data."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            server.send(bytes(100_000))


def full_pair():
    """(client, server): the client takes nothing, and the server's end has unsent data."""
    client, server = tcp_pair()
    fill(client, server)
    return client, server


def clinging_socket():
    """(client, server): closing the server's end takes an hour, or the client."""
    client, server = full_pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_AN_HOUR)
    return client, server


class Child:
    """A connection as each httpd child holds one."""

    def __init__(self, socket_path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Without a timeout: Python would wait for POLLOUT, which a Unix socket gives only while
        # three quarters of its queue are free.
        self.socket.connect(str(socket_path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def greeting(self):
        """The verdict; fails on anything but a greeting of this version."""
        magic, version, verdict, kinds = _GREETING.unpack(self.socket.recv(100))
        assert (magic, version, kinds) == (GREETING_MAGIC, 1, ALL_KINDS)
        return verdict

    def answer(self, ticket=0):
        """What it says to that offer."""
        magic, version, acceptance, of = _GREETING.unpack(self.socket.recv(100))
        assert (magic, version, of) == (ANSWER_MAGIC, 1, ticket)
        return acceptance

    def offer(self, server_end, content, *, ticket=0, more=(), **fields):
        """A delivery, as far as lingerd's answer."""
        self.send(record(kind=DELIVER, ticket=ticket, **fields),
                  [server_end, *([content] if content is not None else []), *more])
        return self.answer(ticket)

    def announce(self, way, *, ticket=0):
        """What lingerd says to this way back."""
        self.send(record(kind=WAY_BACK, ticket=ticket), [way] if way is not None else [])
        return self.answer(ticket)

    def begin(self, ticket=0):
        self.send(record(kind=BEGIN, ticket=ticket))

    def send(self, message, descriptors=()):
        fds = array.array("i", [d if isinstance(d, int) else d.fileno() for d in descriptors])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
        self.socket.sendmsg([message], ancillary)

    def hand_off(self, server_end, **fields):
        """FIN, record, and our copy of the descriptor is gone: as the module does it."""
        server_end.shutdown(socket.SHUT_WR)
        self.send(record(**fields), [server_end])
        server_end.close()

    def lingering_client(self, **fields):
        """The client's end of a connection that is lingerd's now."""
        client, server = tcp_pair()
        self.hand_off(server, **fields)
        return client


@contextlib.contextmanager
def welcomed(lingerd):
    """A child that lingerd has let in."""
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
        yield child
