# SPDX-License-Identifier: Apache-2.0
"""Keep-alive clients that send their next request at random moments around an event. Each request
carries a number, and the response must bring it back: nobody gets another's. Run as a program, so that
several use several processors."""
import collections
import json
import os
import pathlib
import random
import selectors
import socket
import subprocess
import sys
import time

CONFIG = 'Header always set X-Query "expr=%{QUERY_STRING}"\n'
# How a request may end. "fin" and "reset": the connection ended before a byte of the response came,
# after one that had stayed idle; "refused": a new connection was.
ENDS = ("ok", "fin", "reset", "cut", "wrong", "stuck", "refused")
_STUCK_AFTER = 40.0


class _Client:
    def __init__(self, race, number):
        self.race = race
        self.number = number
        self.requests = 0
        self.socket = None
        self.received = b""
        self.waits_since = None  # for a response
        self.due = time.monotonic()

    def _drop(self):
        self.race.selector.unregister(self.socket)
        self.socket.close()
        self.socket = None

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
        return True

    def send(self):
        fresh = self.socket is None
        if fresh and not self._connect():
            return
        self.requests += 1
        self.tag = f"{self.race.pid}.{self.number}.{self.requests}"
        request = (f"GET /hello.txt?{self.tag} HTTP/1.1\r\nHost: localhost\r\n\r\n").encode()
        self.waits_since, self.due = time.monotonic(), None
        pieces = [request]
        if self.race.split and random.random() < 0.3:
            cut = random.randrange(1, len(request))
            pieces = [request[:cut], request[cut:]]
        try:
            for piece in pieces:
                self.socket.send(piece)
        except OSError:
            self._end("reset")

    def readable(self):
        try:
            chunk = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            return self._lost("reset")
        if not chunk:
            return self._lost("fin")
        self.received += chunk
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if separator and len(body) >= 13:
            self._whole(head, body)

    def _lost(self, how):
        """The connection's end; while it was idle that is no request's end."""
        if self.waits_since is None:
            self.race.idle_ends[how] += 1
            self._drop()
        else:
            self._end("cut" if self.received else how)

    def _whole(self, head, body):
        good = (head.startswith(b"HTTP/1.1 200 ") and body == b"hello, world\n"
                and f"X-Query: {self.tag}".encode() in head)
        self.race.waits.append(time.monotonic() - self.waits_since)
        closing = b"connection: close" in head.lower()
        self._end("ok" if good else "wrong", keep=good and not closing)

    def _end(self, how, keep=False):
        self.race.ends[how] += 1
        if how in ("wrong", "cut"):
            self.race.samples.append(self.received[:300].decode(errors="replace"))
        self.received, self.waits_since = b"", None
        low, high = random.choice(self.race.pauses)
        self.due = time.monotonic() + random.uniform(low, high)
        if not keep:
            self._drop()


class _Race:
    def __init__(self, port, clients, pauses, split):
        self.port, self.pauses, self.split = port, pauses, split
        self.selector = selectors.DefaultSelector()
        self.pid = os.getpid()
        self.ends, self.idle_ends = collections.Counter(), collections.Counter()
        self.waits, self.samples = [], []
        self.clients = [_Client(self, number) for number in range(clients)]

    def run(self, seconds, requests):
        until = time.monotonic() + seconds
        while time.monotonic() < until and sum(self.ends.values()) < requests:
            now = time.monotonic()
            for client in self.clients:
                if client.due is not None and client.due <= now:
                    client.send()
                if client.waits_since is not None and now - client.waits_since > _STUCK_AFTER:
                    client._end("stuck")
            for key, _ in self.selector.select(0.0005):
                key.data.readable()

    def report(self):
        self.waits.sort()
        at = lambda share: self.waits[int(len(self.waits) * share)] if self.waits else 0
        return {"ends": self.ends, "idle_ends": self.idle_ends, "samples": self.samples[:5],
                "p50": at(0.5), "p99": at(0.99), "worst": self.waits[-1] if self.waits else 0}


class Racers:
    """`processes` of `clients` each, for `seconds` or until they have ended `requests` together."""

    def __init__(self, port, *, processes=2, clients=30, pauses=((0.0, 0.012),), seconds=10,
                 requests=1 << 60, split=False):
        self._processes = [subprocess.Popen(
            [sys.executable, "-m", "harness.racer", json.dumps(
                {"port": port, "clients": clients, "pauses": pauses, "seconds": seconds,
                 "requests": requests // processes, "split": split})],
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
    _race = _Race(_with["port"], _with["clients"], _with["pauses"], _with["split"])
    _race.run(_with["seconds"], _with["requests"])
    print(json.dumps(_race.report()))
