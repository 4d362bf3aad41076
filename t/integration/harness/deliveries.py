# SPDX-License-Identifier: Apache-2.0
"""Deliveries as a child of httpd's would hand them over: a socket with little room, and the rest of a
response in sealed memory."""
import fcntl
import os
import socket

from harness import clients
from harness.record import ACCEPTED

SIZE = 3_000_000
BODY = b"".join(b"%08d" % i for i in range(SIZE // 8))
F_ADD_SEALS = 1033
SEALED = 0x1 | 0x2 | 0x4 | 0x8  # SEAL, SHRINK, GROW, WRITE


def memfd(data=BODY, seals=SEALED):
    fd = os.memfd_create("rest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def small_pair():
    """(client, server) with little room in the kernel."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = clients.connect(listener.getsockname()[1], 16384)
        server, _ = listener.accept()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    return client, server


def offer(child, server, content, *, length=SIZE, stall_ms=60_000, **fields):
    """lingerd's answer; `content` is closed here."""
    answer = child.offer(server, content, length=length, stall_ms=stall_ms, **fields)
    if content is not None:
        os.close(content)
    return answer


def deliver(child, content, *, ticket=7, **fields):
    """The client's end of a connection that comes with `content`, which is closed here."""
    client, server = small_pair()
    assert offer(child, server, content, ticket=ticket, **fields) == ACCEPTED
    child.begin(ticket)
    server.close()
    return client
