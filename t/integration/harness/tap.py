# SPDX-License-Identifier: Apache-2.0
"""Sits between httpd and lingerd: passes everything on, but keeps the idle connections that httpd
parks, so that a test can be the lingerd that sends them back, a bad one or a good one."""
import array
import contextlib
import os
import queue
import select
import socket
import struct
import threading

from harness import record
from harness.waiting import wait_until

REFUSED = "refused a connection to the private listener"
_RETURN = struct.Struct("=IHHIIQQ")
_RETURN_MAGIC = 0x4C4E4742
_KIND, _STALL, _KEEPALIVES, _TICKET = 8, 48, 52, 56  # where in a record


class Idle:
    """An idle connection as httpd has sent it."""

    def __init__(self, message, descriptors):
        self.kind, = struct.unpack_from("=H", message, _KIND)
        self.keepalive_ms, self.keepalives, self.tag = struct.unpack_from("=IIQ", message, _STALL)
        self.client, self.way_back = descriptors

    def close(self):
        for descriptor in (self.client, self.way_back):
            os.close(descriptor)

    def bring(self, *, client=None, way_back=None, **changes):
        """Sends it back, with `changes`; the connection to httpd's private listener."""
        fields = {"keepalives": self.keepalives, "keepalive_ms": self.keepalive_ms, "tag": self.tag}
        return bring(self.way_back if way_back is None else way_back,
                     self.client if client is None else client, **{**fields, **changes})


def bring(way_back, client, *, keepalives=1, keepalive_ms=5_000, tag=0, parked_ns=0):
    """As lingerd does it. `way_back`: a descriptor of the listener's name. `client` False: none."""
    to_httpd = socket.socket(socket.AF_UNIX)
    to_httpd.settimeout(30)
    to_httpd.connect(f"/proc/self/fd/{way_back}")
    message = _RETURN.pack(_RETURN_MAGIC, 1, _RETURN.size, keepalives, keepalive_ms, parked_ns, tag)
    if client is False:
        to_httpd.sendall(message)
    else:
        socket.send_fds(to_httpd, [message],
                        [client if isinstance(client, int) else client.fileno()])
    return to_httpd


def hears_nothing(to_httpd):
    """Whether httpd hangs up without a byte: with one it would speak HTTP to lingerd."""
    with to_httpd:
        with contextlib.suppress(ConnectionResetError):
            return to_httpd.recv(1000) == b""
        return True


def is_refused(httpd, to_httpd, why):
    """The log says it at most once a second."""
    httpd.allowed_lines.append(REFUSED)
    assert hears_nothing(to_httpd)
    wait_until(lambda: why in "".join(httpd.error_log.matching(REFUSED)), "it is logged")


def as_it_was(httpd, between, client, idle):
    """The tap does what lingerd does, beside restarts too; the connection as it is parked in the end."""
    for restart in (None, httpd.graceful, httpd.restart):
        if restart:
            restart()
        client.send()
        idle.bring().close()
        assert client.response()[0] == 200
        idle.close()
        idle = between.next_parked()
    return idle


class Tap:
    """Listens beside a lingerd, whose stats page it shows as its own."""

    def __init__(self, sandbox):
        lingerd = sandbox.lingerd()
        sandbox.at_end.append(self._close)
        self.lingerd = lingerd
        self.socket_path = lingerd.socket_path.with_name(f"{lingerd.socket_path.stem}-tap.sock")
        self._page = self.socket_path.with_suffix(".sock.stats")
        self.parked = queue.Queue()
        os.link(lingerd.stats_path, self._page)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.socket_path))
        os.chmod(self.socket_path, 0o666)
        self._listener.listen(100)
        threading.Thread(target=self._accept, daemon=True).start()

    def _close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def owned_by(self, user):
        """The stats page is this user's."""
        os.chown(self._page, user, -1)

    def shows_page_of(self, lingerd):
        """Instead of its own one's."""
        fresh = self._page.with_suffix(".fresh")
        os.link(lingerd.stats_path, fresh)
        os.replace(fresh, self._page)

    def forget(self):
        """There is no stats page any more."""
        self._page.unlink()

    def next_parked(self):
        return self.parked.get(timeout=30)

    def _accept(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(peer,), daemon=True).start()

    def _relay(self, peer):
        with peer, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as daemon:
            daemon.connect(str(self.lingerd.socket_path))
            other = {peer: daemon, daemon: peer}
            with contextlib.suppress(OSError):
                while all(self._pass_on(end, other[end])
                          for end in select.select([peer, daemon], [], [])[0]):
                    pass

    def _pass_on(self, source, target):
        message, descriptors, _, _ = socket.recv_fds(source, 100, 4, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        if struct.unpack_from("=I", message)[0] == record.MAGIC and \
                struct.unpack_from("=H", message, _KIND)[0] == record.IDLE:
            self.parked.put(Idle(message, descriptors))
            return True
        fds = array.array("i", descriptors)
        target.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
        for descriptor in descriptors:
            os.close(descriptor)
        return True
