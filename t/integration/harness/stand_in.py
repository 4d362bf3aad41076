# SPDX-License-Identifier: Apache-2.0
"""A listener for returning connections as httpd has one, whose pace a test sets; and connections that
are parked with it as their way back."""
import collections
import os
import select
import socket
import threading
import time

from harness import record

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class StandIn:
    """Takes at most `rate` connections a second, and answers the request of each; with `child`, parks
    it again."""

    def __init__(self, directory, *, rate, backlog=511, name="return.sock", child=None):
        self.path = directory / name
        self._pause = 1 / rate
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o666)
        self._socket.listen(backlog)
        self.way = os.open(self.path, os.O_PATH)
        self._child = child
        self.went_on = threading.Event()
        self.went_on.set()
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ends = True
        self.went_on.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._socket.close()
        os.close(self.way)

    def _run(self):
        while not self._ends:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._take(connection)
            time.sleep(self._pause)
            self.went_on.wait()

    def _take(self, connection):
        connection.settimeout(30)
        message, descriptors, _, _ = socket.recv_fds(connection, 100, 4)
        if not message:
            return  # lingerd has tried whether it may connect
        with socket.socket(fileno=descriptors[0]) as client:
            client.settimeout(30)
            client.recv(1000)
            client.sendall(ANSWER)
            if self._child is not None:
                _park(self._child, client, self.way)


def _park(child, connection, way, **fields):
    child.send(record.record(kind=record.IDLE, **{"stall_ms": 600_000, **fields}), [connection, way])


def park(child, way, count, **fields):
    """The clients' ends of `count` connections that `child` has parked."""
    ends = []
    for _ in range(count):
        client, server = record.tcp_pair()
        _park(child, server, way, **fields)
        server.close()
        ends.append(client)
    return ends


def ask(ends, request, answers, within=240):
    """Each of them asks, and again when it has its answer, until there are so many answers; with an
    empty `request`, which it has sent already, only once. How requests have
    ended: {"answered": …, "closed": …, "reset": …, "garbled": …}."""
    ended = collections.Counter()
    by_number = {end.fileno(): end for end in ends}
    poll = select.poll()
    for number, end in by_number.items():
        poll.register(number, select.POLLIN)
        end.sendall(request)
    until = time.monotonic() + within
    while by_number and ended["answered"] < answers and time.monotonic() < until:
        for number, _ in poll.poll(200):
            try:
                chunk = by_number[number].recv(1000)
            except ConnectionResetError:
                chunk = None
            ended[{ANSWER: "answered", b"": "closed", None: "reset"}.get(chunk, "garbled")] += 1
            if chunk == ANSWER and request:
                by_number[number].sendall(request)
                continue
            poll.unregister(number)
            del by_number[number]
    return ended
