# SPDX-License-Identifier: Apache-2.0
"""The server that no careful server is: it closes at once. What it does to a client is what a
lingering close is for, and proves that the truncation test can fail."""
import contextlib
import socket
import threading

from harness.httpd import content


def _serve(listener, path):
    body = content(path)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1048576)
                client.recv(65536)
                client.sendall(head + body)


@contextlib.contextmanager
def abrupt_server(path):
    """Answers every request with content(path); gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, path), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
