# SPDX-License-Identifier: Apache-2.0
"""Keep-alive clients that send their next request at random moments around an event. Each request
carries a number, and the response must bring it back: nobody gets another's. Run as a program, so that
several use several processors.

Every request that was sent ends in one of ENDS, those under way at the end of the race included:

ok       the whole answer to this request came, and nothing else
late     a FIN and no byte of an answer, for a request that may have crossed the server's FIN: it went out
         KeepAliveTimeout or more after the one before it. The server can't have begun to wait before
         that one was sent, nor can it close earlier than KeepAliveTimeout after it began; so a client
         that asks sooner, by the client's own clock, must get an answer. What comes later, browsers send
         again by a new connection, and so does this client
fin      the same for any other request, the first of a connection among them
reset    an RST, whenever it comes: before an answer, or while the connection is idle
cut      the beginning of an answer, and then the end of the connection
wrong    another answer
tls      anything that isn't TLS, or is an alert but close_notify
stuck    none within 40 s
refused  no connection
"""
import collections
import json
import os
import pathlib
import random
import selectors
import socket
import ssl
import subprocess
import sys
import time

from harness.tls import client_context

CONFIG = 'Header always set X-Query "expr=%{QUERY_STRING}"\n'
ENDS = ("ok", "late", "fin", "reset", "cut", "wrong", "tls", "stuck", "refused")
_STUCK_AFTER = 40.0
# At a time: who waits in the listener's queue for a worker keeps this process from its handshakes with
# the workers, once the queue is full.
_MOST_OPENING = 200


class _Tls:
    """A client's side of TLS, over buffers of its own."""

    def __init__(self, context):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.open = False

    def take(self, chunk):
        """(what the server says, whether it has said goodbye). Raises ssl.SSLError."""
        self._incoming.write(chunk)
        said = b""
        try:
            if not self.open:
                self._tls.do_handshake()
                self.open = True
            while part := self._tls.read(65536):
                said += part
            return said, True
        except ssl.SSLWantReadError:
            return said, False

    def records(self, data=b""):
        """What is to be sent, with that in it."""
        if data:
            self._tls.write(data)
        return self._outgoing.read()


class _Client:
    def __init__(self, race, number):
        self.race = race
        self.number = number
        self.requests = 0
        self.socket = None
        self.tls = None
        self.request = b""  # until it is sent
        self.received = b""
        self.waits_since = None  # for a response
        self.asked = None  # by this connection, just before the last request was sent
        self.late = False  # it went out too late for an answer to be certain
        self.due = time.monotonic()

    def _drop(self):
        self.race.selector.unregister(self.socket)
        self.socket.close()
        self.socket = self.asked = self.tls = None

    def _connect(self):
        try:
            self.socket = socket.create_connection(("127.0.0.1", self.race.port), timeout=20)
        except OSError:
            self.race.ends["refused"] += 1
            self.due = time.monotonic() + 0.1
            return False
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.race.selector.register(self.socket, selectors.EVENT_READ, self)
        if self.race.context is not None:
            self.tls = _Tls(self.race.context)
            self._take(b"")
        return True

    def opens(self):
        """Its handshake isn't over."""
        return self.tls is not None and not self.tls.open

    def send(self):
        fresh = self.socket is None
        if fresh and not self._connect():
            return
        self.requests += 1
        self.tag = f"{self.race.pid}.{self.number}.{self.requests}"
        self.request = (f"GET /hello.txt?{self.tag} HTTP/1.1\r\nHost: localhost\r\n\r\n").encode()
        self.waits_since, self.due = time.monotonic(), None
        if self.tls is None or self.tls.open:
            self._ask()

    def _ask(self):
        request, self.request = self.request, b""
        data = request if self.tls is None else self.tls.records(request)
        pieces = [data]
        if self.race.split and random.random() < 0.3:
            cut = random.randrange(1, len(data))
            pieces = [data[:cut], data[cut:]]
        began = time.monotonic()
        try:
            for piece in pieces:
                self.socket.send(piece)
        except OSError:
            return self._end("reset")
        timeout = self.race.keep_alive_timeout
        self.late = (timeout is not None and self.asked is not None
                     and time.monotonic() - self.asked >= timeout)
        self.asked = began

    def _take(self, chunk):
        """(what the server says, whether that was all); None: the connection has ended."""
        if self.tls is None:
            return chunk, False
        try:
            took = self.tls.take(chunk)
            if data := self.tls.records():
                self.socket.send(data)
            return took
        except ssl.SSLError as error:
            self.race.samples.append(str(error))
            return self._end("tls")
        except OSError:
            return self._lost("reset")

    def readable(self):
        try:
            chunk = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            return self._lost("reset")
        if not chunk:
            return self._lost("fin")
        took = self._take(chunk)
        if took is None:
            return
        said, goodbye = took
        if self.request and self.tls.open:
            self._ask()
        self.received += said
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if separator and len(body) >= 13:
            self._whole(head, body)
        if goodbye and self.socket is not None:
            self._lost("fin")

    def _lost(self, how):
        """The connection's end; a FIN while it was idle is no request's end."""
        if self.waits_since is None and how == "fin":
            self.race.idle_fins += 1
            self._drop()
        elif self.waits_since is None or not self.received:
            self._end("late" if how == "fin" and self.late else how)
        else:
            self._end("cut")

    def _whole(self, head, body):
        good = (head.startswith(b"HTTP/1.1 200 ") and body == b"hello, world\n"
                and f"X-Query: {self.tag}".encode() in head)
        self.race.waits.append(time.monotonic() - self.waits_since)
        closing = b"connection: close" in head.lower()
        self._end("ok" if good else "wrong", keep=good and not closing)

    def _since(self):
        """When the pause begins: with the answer. But the server's timeout began at some moment after the
        request and before the answer was seen here, which on a starved machine are far apart."""
        now = time.monotonic()
        if not self.race.at_edge or self.asked is None:
            return now
        return random.uniform(self.asked, now)

    def _end(self, how, keep=False):
        self.race.ends[how] += 1
        if how in ("wrong", "cut"):
            self.race.samples.append(self.received[:300].decode(errors="replace"))
        self.received, self.waits_since = b"", None
        low, high = random.choice(self.race.pauses)
        self.due = self._since() + random.uniform(low, high)
        if not keep:
            self._drop()


class _Race:
    def __init__(self, port, clients, pauses, split, keep_alive_timeout, tls):
        self.port, self.pauses, self.split = port, pauses, split
        self.keep_alive_timeout = keep_alive_timeout
        self.at_edge = (keep_alive_timeout is not None
                        and keep_alive_timeout <= max(high for _, high in pauses))
        self.context = client_context() if tls else None
        self.selector = selectors.DefaultSelector()
        self.pid = os.getpid()
        self.ends, self.idle_fins = collections.Counter(), 0
        self.waits, self.samples = [], []
        self.clients = [_Client(self, number) for number in range(clients)]

    def run(self, seconds, requests):
        until = time.monotonic() + seconds
        goes_on = True
        while goes_on or any(client.waits_since is not None for client in self.clients):
            now = time.monotonic()
            goes_on = goes_on and now < until and sum(self.ends.values()) < requests
            opening = sum(client.opens() for client in self.clients)
            for client in self.clients:
                if goes_on and client.due is not None and client.due <= now and opening < _MOST_OPENING:
                    client.send()
                    opening += client.opens()
                if client.waits_since is not None and now - client.waits_since > _STUCK_AFTER:
                    client._end("stuck")
            for key, _ in self.selector.select(0.0005):
                key.data.readable()

    def report(self):
        self.waits.sort()
        at = lambda share: self.waits[int(len(self.waits) * share)] if self.waits else 0
        return {"ends": self.ends, "idle_fins": self.idle_fins, "samples": self.samples[:5],
                "p50": at(0.5), "p99": at(0.99), "worst": self.waits[-1] if self.waits else 0}


class Racers:
    """`processes` of `clients` each, for `seconds` or until they have ended `requests` together.
    `keep_alive_timeout`, in seconds: the server's, for which a request may come too late."""

    def __init__(self, port, *, processes=2, clients=30, pauses=((0.0, 0.012),), seconds=10,
                 requests=1 << 60, split=False, keep_alive_timeout=None, tls=False):
        self.longest_pause = max(high for _, high in pauses)
        self._processes = [subprocess.Popen(
            [sys.executable, "-m", "harness.racer", json.dumps(
                {"port": port, "clients": clients, "pauses": pauses, "seconds": seconds,
                 "requests": requests // processes, "split": split,
                 "keep_alive_timeout": keep_alive_timeout, "tls": tls})],
            cwd=pathlib.Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)]

    def running(self):
        return any(process.poll() is None for process in self._processes)

    def wait(self):
        """{how requests ended: count}, and the reports of each process."""
        reports = [json.loads(process.communicate(timeout=600)[0]) for process in self._processes]
        ends = collections.Counter()
        for report in reports:
            ends.update(report["ends"])
        return ends, reports


if __name__ == "__main__":
    _with = json.loads(sys.argv[1])
    _race = _Race(_with["port"], _with["clients"], _with["pauses"], _with["split"],
                  _with["keep_alive_timeout"], _with["tls"])
    _race.run(_with["seconds"], _with["requests"])
    print(json.dumps(_race.report()))
