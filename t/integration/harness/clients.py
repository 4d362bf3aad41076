# SPDX-License-Identifier: Apache-2.0
"""Clients on raw sockets, each with the one habit that its name says."""
import select
import socket
import struct
import threading
import time

TIMEOUT = 60  # of one socket operation: over it something is stuck


class NoResponse(AssertionError):
    """The connection ended without a response's head."""


def connect(port, receive_buffer=None, timeout=TIMEOUT, address="127.0.0.1"):
    """A connection; a small receive buffer has to be asked for before the handshake."""
    client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    client.settimeout(timeout)
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.connect((address, port))
    return client


def request(path="/hello.txt", *headers, method="GET", version="1.1", host="localhost",
            close=True):
    """The bytes of a request without a body."""
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *headers]
    if close and version == "1.1":
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_to_fin(client, at_most=1 << 30, pause=0.0):
    """What the server sends until its FIN. An RST raises ConnectionResetError."""
    received = bytearray()
    while chunk := client.recv(min(65536, at_most)):
        received += chunk
        if pause:
            time.sleep(pause)
    return bytes(received)


def split(response):
    """(status code, body) of a response that ends with the connection."""
    head, separator, body = response.partition(b"\r\n\r\n")
    if not separator:
        raise NoResponse(f"{response[:200]!r}")
    return int(head.split(None, 2)[1]), body


def fetch(port, path="/hello.txt", *headers, **options):
    """(status code, body); closes at once."""
    with connect(port) as client:
        client.sendall(request(path, *headers, **options))
        return split(read_to_fin(client))


def late_closer(port, path="/hello.txt", host="localhost"):
    """Reads the whole response and the FIN, and keeps its end open. (socket, status, body)"""
    client = connect(port)
    client.sendall(request(path, host=host))
    status, body = split(read_to_fin(client))
    return client, status, body


def send_with_fin(client, data):
    """Sends `data` and the client's FIN in one segment: the server sees both or neither."""
    client.send(data, socket.MSG_MORE)
    client.shutdown(socket.SHUT_WR)


def early_closer(port, path="/hello.txt", host="localhost"):
    """Its FIN comes with the request: when the server is through, nobody is left to wait for."""
    with connect(port) as client:
        send_with_fin(client, request(path, host=host))
        return split(read_to_fin(client))


def reset(client):
    """Closes with an RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def answered(client, timeout):
    """Whether a byte or the end has come within `timeout` seconds."""
    poll = select.poll()  # select(2) knows no descriptor above 1023
    poll.register(client, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


class Tricklers:
    """Sends a byte on each socket every `every` seconds until they are closed or it is stopped."""

    def __init__(self, sockets, every=0.1):
        self._sockets = list(sockets)
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def add(self, client):
        self._sockets.append(client)

    def _run(self):
        while not self._stop.wait(self._every):
            for client in list(self._sockets):
                try:
                    client.send(b"x")
                except OSError:  # the server has given up on this one
                    self._sockets.remove(client)


def stalled_reader(port, path, receive_buffer=4096):
    """Asks for something larger than its window and reads nothing yet."""
    client = connect(port, receive_buffer)
    client.sendall(request(path))
    return client


def truncation_check(client, late=b"x" * 1000, stall=0.0, pause=0.0, bite=8192):
    """Stalls, sends bytes that nobody will read, then reads on slowly: the response as far as it
    comes, and whether an RST cut it short."""
    time.sleep(stall)
    received = bytearray()
    try:
        client.sendall(late)
        while chunk := client.recv(bite):
            received += chunk
            time.sleep(pause)
        return bytes(received), False
    except (ConnectionResetError, BrokenPipeError):
        return bytes(received), True


def _one_request(port, path="/hello.txt"):
    """None, or what went wrong and after how many bytes. Reads to the FIN and closes at once."""
    received = bytearray()
    try:
        with connect(port) as client:
            client.sendall(request(path))
            while chunk := client.recv(65536):
                received += chunk
    except OSError as failure:
        return f"{failure!r} after {len(received)} bytes"
    if received.startswith(b"HTTP/1.1 200 ") and received.endswith(b"\r\n\r\nhello, world\n"):
        return None
    return f"FIN after {len(received)} bytes: {bytes(received[:200])!r}"


def load(port, count, threads=4):
    """`count` connections with one request each; what went wrong with any of them."""
    failures = []

    def run(share):
        for _ in range(share):
            if failure := _one_request(port):
                failures.append(failure)

    shares = [count // threads + (i < count % threads) for i in range(threads)]
    workers = [threading.Thread(target=run, args=(share,)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return failures


class Load:
    """The same without an end, while a test does something to the servers."""

    def __init__(self, port, threads=2):
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        self.answered = 0
        self.failures = []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        while not self._stop.is_set():
            if failure := _one_request(self._port):
                self.failures.append(failure)
            self.answered += 1
