# SPDX-License-Identifier: Apache-2.0
"""What stands behind a proxy: an HTTP server and a WebSocket echo, in threads of the test."""
import base64
import contextlib
import hashlib
import socket
import threading
import time

_TIMEOUT = 30
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def read_head(client):
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = client.recv(4096)
        if not chunk:
            return head
        head += chunk
    return head


def _websocket_key(head):
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            return value.strip()
    return None


def websocket_accept(key):
    return base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID).digest())


def _answer(client):
    """A page of 26 bytes; or a WebSocket that echoes whatever it is sent, until EOF."""
    with client, contextlib.suppress(OSError):
        head = read_head(client)
        if not head:
            return
        key = _websocket_key(head)
        if not key:
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\nConnection: close\r\n\r\n"
                           b"abcdefghijklmnopqrstuvwxyz")
            return
        client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                       b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
                       + websocket_accept(key) + b"\r\n\r\n")
        while data := client.recv(65536):
            client.sendall(data)


def backend():
    """Gives the port."""
    return accepting(_answer, _TIMEOUT)


@contextlib.contextmanager
def accepting(answer, timeout):
    """Each connection gets a thread that runs answer(client); gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.settimeout(timeout)
                threads.append(threading.Thread(target=answer, args=(client,), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join(timeout)


@contextlib.contextmanager
def serving(answer):
    """The port of a server that reads a request's head and leaves the rest to `answer`."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(_TIMEOUT)
    threads = []

    def one(client):
        with client, contextlib.suppress(OSError):
            client.settimeout(_TIMEOUT)
            if read_head(client):
                answer(client)

    def run():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(client,), daemon=True))
            threads[-1].start()

    runner = threading.Thread(target=run, daemon=True)
    runner.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        runner.join(_TIMEOUT)
        for thread in threads:
            thread.join(_TIMEOUT)


@contextlib.contextmanager
def interim(first, then, go_on):
    """Answers with `first`, and when `go_on` is set with `then`."""
    def answer(client):
        client.sendall(first)
        go_on.wait(_TIMEOUT)
        client.sendall(then)

    with serving(answer) as port:
        yield port


@contextlib.contextmanager
def events(count):
    """(port, semaphore): server-sent events, each with the time it was made, after the one before has
    been heard of."""
    heard = threading.Semaphore(0)

    def answer(client):
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                       b"Connection: close\r\n\r\n")
        for i in range(count):
            client.sendall(f"data: {time.monotonic_ns()}\nid: {i}\n\n".encode())
            if not heard.acquire(timeout=_TIMEOUT):
                return

    with serving(answer) as port:
        yield port, heard
