# SPDX-License-Identifier: Apache-2.0
"""An honest child of httpd with clients that keep sending while somebody else misbehaves: what
must not suffer."""
import contextlib
import socket
import threading
import time

from harness.record import WELCOME, Child, tcp_pair
from harness.waiting import wait_until

_CHUNK = bytes(64 * 1024)
_MORE_THAN_FITS = 512 * 1024


class Bystander:
    """`clients` sockets that linger, each sent to without a pause. More than the kernel's buffers
    hold goes through only if lingerd keeps draining: a stalled lingerd stalls the counts."""

    def __init__(self, lingerd, clients=4):
        self._lingerd = lingerd
        self._stop = threading.Event()
        self.child = Child(lingerd.socket_path)
        assert self.child.greeting() == WELCOME
        self.sent = [0] * clients
        self.failures = []
        self.longest_wait = 0.0  # for the record: of one send
        self._clients = [self._lingering_client() for _ in range(clients)]
        self._threads = [threading.Thread(target=self._send, args=(number, client), daemon=True)
                         for number, client in enumerate(self._clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.wait_progress()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()
        self.child.socket.close()

    def _lingering_client(self):
        """With little room in the kernel for what nobody has drained."""
        client, server = tcp_pair()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.child.hand_off(server, idle_ms=3_600_000, cap_ms=3_600_000)
        return client

    def _send(self, number, client):
        try:
            while not self._stop.is_set():
                before = time.monotonic()
                self.sent[number] += client.send(_CHUNK)
                self.longest_wait = max(self.longest_wait, time.monotonic() - before)
                time.sleep(0.005)  # two processors are everybody's
        except OSError as failure:
            if not self._stop.is_set():
                self.failures.append(f"client {number}: {failure!r}")

    def wait_progress(self):
        """Every client gets more through than fits into any buffer on the way."""
        goals = [sent + _MORE_THAN_FITS for sent in self.sent]
        wait_until(lambda: self.failures or all(sent >= goal for sent, goal
                                                in zip(self.sent, goals)),
                   lambda: f"the bystander's clients get rid of their bytes: {self.sent}, "
                           f"{goals} wanted")
        assert not self.failures, self.failures

    def hands_off(self):
        """And the next hand-off is taken as well."""
        before = self._lingerd.counters()["LingerTotal"]
        self.child.lingering_client().close()
        wait_until(lambda: self._lingerd.counters()["LingerTotal"] > before, "a hand-off is taken")
