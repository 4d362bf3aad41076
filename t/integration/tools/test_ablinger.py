# SPDX-License-Identifier: Apache-2.0
"""The load of the benchmarks and of the soak: it must notice what a server does wrong, or its figures
and its zeros mean nothing. The servers here are wrong on purpose."""
import contextlib
import json
import socket
import ssl
import struct
import subprocess
import threading

import pytest

from harness import places, tls

ABLINGER = places.BUILD / "ablinger"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
NOTHING_WRONG = dict.fromkeys(
    ("connect", "reset", "short", "malformed", "status", "length", "body", "timeout", "tls"), 0)


def run(url, *options):
    """What it found, as a dictionary, and its exit status."""
    done = subprocess.run([ABLINGER, url, "--json", "-", *options], capture_output=True, text=True,
                          timeout=60, check=False)
    assert not done.stderr, done.stderr
    return json.loads(done.stdout), done.returncode


def answer(response, reset=False):
    def serve(client):
        client.recv(65536)
        client.sendall(response)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return serve


@contextlib.contextmanager
def server(serve):
    """Calls `serve` with each client and closes; gives the URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        def loop():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(ConnectionError):
                        serve(client)
        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_good_responses():
    with server(answer(GOOD)) as url:
        result, status = run(url, "-n", "20", "-c", "2", "--length", "5")
    assert status == 0 and result["failed"] == 0 and result["errors"] == NOTHING_WRONG
    assert result["requests"] == 20 and result["latency_us"]["p50"] > 0


@pytest.mark.parametrize("serve, options, error", [
    (answer(GOOD[:-1]), (), "short"),
    (answer(b""), (), "short"),
    (answer(GOOD[:-1], reset=True), (), "reset"),
    (answer(b"220 mail.test ESMTP\r\n\r\n"), (), "malformed"),
    (answer(GOOD.replace(b"200 OK", b"500 No")), (), "status"),
    (answer(GOOD), ("--length", "6"), "length"),
    (answer(GOOD), ("--status", "404"), "status"),
    (lambda client: client.recv(65536) and client.recv(1), ("--timeout", "0.5"), "timeout"),
], ids=["cut_off", "empty", "reset", "no_http", "status", "length", "other_status", "silent"])
def test_wrong_responses(serve, options, error):
    """Each counts, under its own name, and the exit status says so."""
    with server(serve) as url:
        result, status = run(url, "-n", "3", "-c", "1", *options)
    assert status == 1
    assert result["errors"] == NOTHING_WRONG | {error: 3} and result["failed"] == 3
    assert result["requests"] == 0


CHUNKED = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
           b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


@pytest.mark.parametrize("response", [GOOD, CHUNKED, UNTIL_CLOSE],
                         ids=["length", "chunked", "until_close"])
@pytest.mark.parametrize("body, good", [(b"hello", True), (b"hallo", False), (b"hell", False),
                                        (b"hello!", False), (b"", False)])
@pytest.mark.parametrize("piecewise", [False, True])
def test_bodies(tmp_path, response, body, good, piecewise):
    """Byte for byte. Would catch a comparison that forgets one, or the rest."""
    def slowly(client):
        client.recv(65536)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in response:
            client.sendall(bytes([byte]))

    (tmp_path / "body").write_bytes(body)
    with server(slowly if piecewise else answer(response)) as url:
        result, status = run(url, "-n", "3", "-c", "1", "--body", tmp_path / "body")
    assert result["errors"] == NOTHING_WRONG | {"body": 0 if good else 3}
    assert status == (0 if good else 1)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result, status = run(f"http://127.0.0.1:{port}/", "-n", "3", "-c", "1")
    assert status == 1 and result["errors"]["connect"] == 3


@pytest.mark.parametrize("options", [(), ("--late-tables", "2")], ids=["one_table", "tables"])
def test_late_closes(options):
    """The slot goes on at once, the socket stays for as long as it is told to."""
    stayed = []

    def serve(client):
        answer(GOOD)(client)
        client.shutdown(socket.SHUT_WR)
        stayed.append(client.dup())

    with server(serve) as url:
        load = subprocess.Popen([ABLINGER, url, "-n", "300", "-c", "2", "--detach", "-l", "3000",
                                 "--json", "-", *options], stdout=subprocess.PIPE, text=True)
        output, _ = load.communicate(timeout=60)
    result = json.loads(output)
    assert load.returncode == 0 and result["requests"] == 300
    assert result["late_closes"] == 300 and result["late_cut_short"] == 0
    assert result["late_peak"] > 2  # clients that stayed while their slot went on
    for client in stayed:
        with client:
            assert client.recv(1) == b""  # FIN, no RST


@pytest.mark.parametrize("options, words", [
    (("-n", "1", "--close-late", "10-5"), "the second is the smaller one"),
    ((), "--requests or --duration"),
    (("-n", "1", "--late-tables", "2", "--rst", "--detach", "-l", "5"), "--late-tables"),
])
def test_wrong_options(options, words):
    done = subprocess.run([ABLINGER, "http://127.0.0.1:1/", *options], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 2 and words in done.stdout + done.stderr


@pytest.mark.parametrize("resume", [True, False])
def test_sessions_are_resumed_only_if_asked(tmp_path, resume):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.make_certificate(tmp_path), tmp_path / "tls.key")
    resumed = []

    def serve(client):
        with context.wrap_socket(client, server_side=True) as secure:
            secure.recv(65536)
            resumed.append(secure.session_reused)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
            with contextlib.suppress(OSError):
                secure.unwrap()

    with server(serve) as url:
        result, status = run(url.replace("http:", "https:"), "-n", "4", "-c", "1",
                             *(["--resume"] if resume else []))
    assert (status, result["requests"], result["failed"]) == (0, 4, 0)
    assert resumed == [False, *[resume] * 3]
