# SPDX-License-Identifier: Apache-2.0
"""The same clients against stock httpd and httpd with the module leave the same lines in the
access log and in the error log."""
import contextlib
import re
import time

import pytest

from harness import clients, logs, tls
from harness.waiting import wait_until

CONFIG = """
LimitRequestBody 1000
<IfModule mod_reqtimeout.c>
  RequestReadTimeout handshake=0 header=1 body=1
</IfModule>
"""
COLUMNS = ("host", "status", "bytes", "out", "in", "end", "keepalives", "method", "url",
           "protocol", "file", "micros", "note")


def plain(port, *requests):
    with clients.connect(port) as client:
        client.sendall(b"".join(requests))
        clients.read_to_fin(client)


def mid_response_reset(port):
    client = clients.connect(port, receive_buffer=4096)
    client.sendall(clients.request("/4m.bin"))
    client.recv(100)
    clients.reset(client)


def run_clients(httpd):
    """One after the other, so that the log has an order; returns how many requests that were."""
    port = httpd.port
    before = len(httpd.access_log.lines())
    count = 0

    def then(requests, action, *arguments):
        nonlocal count
        action(*arguments)
        count += requests
        wait_until(lambda: len(httpd.access_log.lines()) == before + count,
                   lambda: f"{count} lines in the access log\n{httpd.access_log.tail()}")

    keep = {"close": False}
    then(1, plain, port, clients.request())
    then(1, plain, port, b"GET /64k.bin HTTP/1.0\r\n\r\n")
    then(3, plain, port, clients.request(**keep), clients.request("/64k.bin", **keep),
         clients.request("/none"))
    then(1, plain, port, clients.request("/64k.bin", method="HEAD"))
    then(1, plain, port, clients.request("/300k.bin", "Range: bytes=10-19"))
    then(1, clients.early_closer, port, "/64k.bin")
    then(1, plain, port, b"POST /hello.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
                         b"Connection: close\r\n\r\n")
    then(1, plain, port, b"GET /hello.txt HTTP/1.1\r\nHo")  # 408
    then(1, plain, port, b"NONSENSE\r\n\r\n")
    then(1, plain, port, clients.request("/%zz"))
    then(1, mid_response_reset, port)
    with tls.TlsClient(httpd.ports["tls"]) as client:
        client.send(clients.request("/64k.bin"))
        then(1, client.read_to_close_notify)
    then(1, plain, httpd.ports["tls"], clients.request())  # HTTP to a TLS port
    return count


def normalized_access(lines):
    rows = []
    for line in lines:
        row = dict(zip(COLUMNS, line.split(), strict=True))
        assert 0 <= int(row.pop("micros")) < 30_000_000
        row["file"] = row["file"].rpartition("/")[2]
        if row["end"] == "X":  # how far a response got before the RST is a matter of luck
            row["out"] = row["bytes"] = "?"
        del row["note"]  # ours: stock has none
        rows.append(row)
    return rows


def normalized_errors(lines):
    found = []
    for line in lines:
        module, level, message = logs.parse_httpd_line(line)
        message = re.sub(r"\[(client|remote) [^]]+\]", "[client]", message)
        message = re.sub(r"127\.0\.0\.1:\d+|localhost:\d+", "ADDRESS", message)
        message = re.sub(r"/\S*/httpd\d+", "DIR", message)
        message = re.sub(r"session id \S+|0x[0-9a-f]+|pid \d+|child \d+|\(conn \S+\)", "N", message)
        found.append((module, level, message))
    return found


@pytest.fixture(scope="module")
def both(mpm, module_sandbox):
    """{"stock": httpd, "linger": httpd} after the same clients, stopped."""
    certificate = tls.make_certificate(module_sandbox.directory, tls.RSA_KEY)
    options = {"ports": ("tls",), "modules": ("ssl", "socache_shmcb", "reqtimeout"),
               "config": CONFIG + tls.vhost(certificate), "log_level": "info"}
    servers = {"stock": module_sandbox.httpd(mpm, **options),
               "linger": module_sandbox.site(mpm, **options)[0]}
    for httpd in servers.values():
        httpd.mark = httpd.error_log.mark()
        httpd.allowed_lines.append("AH10244: invalid URI path")  # a client asks for one
        httpd.requests = run_clients(httpd)
    time.sleep(0.2)  # a line that shouldn't be there may come a little late
    return servers


def test_access_logs_are_equal(both):
    """%X, %O and %D among the columns. Would catch a module that marks a connection as aborted
    before its request is logged, or bytes that it sends or counts by itself."""
    stock, linger = (normalized_access(both[kind].access_log.lines()) for kind in both)
    assert len(stock) == both["stock"].requests
    assert linger == stock
    assert {row["end"] for row in stock} == {"-", "+", "X"}  # the sequence has all three


def test_note_for_the_log(both):
    """%{linger}n is the one column that the module adds. Would catch a note on a connection that
    stays open, or none on its last response."""
    lines = (dict(zip(COLUMNS, line.split())) for line in both["linger"].access_log.lines())
    notes = {(row["end"], row["note"]) for row in lines}
    assert notes == {("+", "-"), ("-", "offer"), ("X", "offer")}


def test_error_logs_are_equal(both):
    """At LogLevel info, while lingerd is up. Would catch chatter, and errors that the hand-off
    makes other modules see."""
    def lines():
        stock, linger = (sorted(normalized_errors(both[kind].error_log.since(both[kind].mark)))
                         for kind in both)
        assert stock  # a comparison of nothing proves nothing
        return linger, stock

    # What httpd says of a connection's end may come late; a line too many doesn't go away.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: len(set(map(len, lines()))) == 1, "as many lines", 10)
    linger, stock = lines()
    assert linger == stock
