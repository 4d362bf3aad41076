# SPDX-License-Identifier: Apache-2.0
"""Sites with LingerKeepAlive, and clients that keep their connection."""
import contextlib
import os
import pathlib
import signal
import time

from harness import clients, logs
from harness.waiting import wait_equal, wait_until


def site(box, mpm, *lingerd_arguments, directives="", config="", **options):
    """(httpd with LingerKeepAlive On, lingerd)"""
    httpd, lingerd = box.site(mpm, *lingerd_arguments, config=config,
                              linger_directives="LingerKeepAlive On\n" + directives, **options)
    # Workers wait some milliseconds themselves: a few quick clients make all of them busy.
    httpd.allowed_lines.append(logs.ALL_BUSY)
    return httpd, lingerd


class KeepAlive:
    """A connection that asks again and again."""

    def __init__(self, port, receive_buffer=None, address="127.0.0.1"):
        self.socket = clients.connect(port, receive_buffer, address=address)
        self.received = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, path="/hello.txt", *headers, **options):
        self.socket.sendall(clients.request(path, *headers, close=False, **options))

    def _fill(self):
        chunk = self.socket.recv(65536)
        if not chunk:
            raise clients.NoResponse(f"FIN after {bytes(self.received[:200])!r}")
        self.received += chunk

    def response(self):
        """(status code, {header: value}, body) of the next response, which must say its length."""
        while b"\r\n\r\n" not in self.received:
            self._fill()
        head, _, _ = bytes(self.received).partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = {name.decode().lower(): value.strip().decode() for name, _, value in
                   (line.partition(b":") for line in lines[1:])}
        end = len(head) + 4 + int(headers["content-length"])
        while len(self.received) < end:
            self._fill()
        body = bytes(self.received[len(head) + 4:end])
        del self.received[:end]
        return int(lines[0].split()[1]), headers, body

    def ask(self, path="/hello.txt", *headers, **options):
        self.send(path, *headers, **options)
        return self.response()

    def closed_cleanly(self):
        """Waits for the end: whether it is a FIN without a byte before it."""
        with contextlib.suppress(ConnectionResetError):
            return self.socket.recv(65536) == b"" and not self.received
        return False


def all_answered(connections):
    for connection in connections:
        status, _, body = connection.ask()
        assert (status, body) == (200, b"hello, world\n")


def outlive_restarts(httpd, lingerd, restart, connections):
    """Three of httpd's, while all of them are parked: each is answered after each, and parked again."""
    count = len(connections)
    for turn in range(3):
        getattr(httpd, restart)()
        all_answered(connections)
        wait_parked(lingerd, count, total=count * (turn + 2))
    assert lingerd.counters()["LingerReturnFailed"] == 0


def outlive_successions(lingerd, times, count):
    """`count` are parked in each successor of lingerd, too."""
    lingerd.allowed_lines += ["handing over", "took over"]
    for turn in range(1, times + 1):
        os.kill(lingerd.pid, signal.SIGUSR2)
        wait_until(lambda n=turn: len(lingerd.log.matching("took over")) >= n, "a successor")
        wait_parked(lingerd, count)


def wait_parked(lingerd, count, total=0):
    """`count` connections are, after `total` times so far: lingerd's page may still show one that has
    just come back."""
    def parked():
        counters = lingerd.counters()
        return counters["LingerParked"] == count and counters["LingerParkedTotal"] >= total

    wait_until(parked, lambda: f"{count} are parked, {total} times: {lingerd.counters()}")


def wait_parks_at_all(httpd, lingerd):
    """Until a connection is parked and comes back. A child of before, or one that doesn't know yet that
    lingerd is there, may serve the first ones."""
    def parks():
        before = lingerd.counters()["LingerReturned"]
        with KeepAlive(httpd.port) as client:
            assert client.ask()[0] == 200
            time.sleep(0.1)  # a client that thinks
            assert client.ask()[0] == 200
        return lingerd.counters()["LingerReturned"] > before

    wait_until(parks, "idle connections are parked, and come back")


def wait_parks(lingerd, count):
    """So many times so far, whether they are still parked or not."""
    wait_until(lambda: lingerd.counters()["LingerParkedTotal"] >= count,
               lambda: f"parked {count} times: {lingerd.counters()}")


def wait_counted(lingerd, **expected):
    """Waits for these counters, LingerParked… without the first word: lingerd shows what it has done at
    the end of a round, when a client may know already."""
    def seen():
        counters = lingerd.counters()
        return {name: counters[f"Linger{name}"] for name in expected}

    wait_equal(seen, expected, "counters")


def parks_add_up(counters):
    return counters["LingerParkedTotal"] == sum(counters[key] for key in (
        "LingerParked", "LingerReturned", "LingerParkExpired", "LingerParkClosedByClient",
        "LingerReturnFailed"))


def listener_of(httpd):
    """The path of httpd's Unix listener by the kernel's account; None: there is none."""
    inodes = {os.readlink(f"/proc/{httpd.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{httpd.pid}/fd")}
    with open("/proc/net/unix", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[6]}]" in inodes and fields[3] == "00010000" and len(fields) > 7:
                return fields[7]
    return None


def guard_of(lingerd):
    """Its process, once it is there."""
    def found():
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                text = status.read_text()
                if f"PPid:\t{lingerd.pid}\n" in text and "Name:\tlingerd-guard\n" in text:
                    return int(status.parent.name)
        return None

    return wait_until(found, "lingerd has a guard")
