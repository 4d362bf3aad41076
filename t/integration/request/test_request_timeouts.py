# SPDX-License-Identifier: Apache-2.0
"""A request that isn't there in time: answered, logged and let go of as with mod_reqtimeout."""
import os
import re

import pytest

from harness import clients, logs, slow
from harness.slow import wait_counted
from harness.waiting import wait_until

REQTIMEOUT = "RequestReadTimeout header=1 body=1\nLogLevel reqtimeout:info linger:info\n"
POST = clients.request("/cgi/digest", "Content-Length: 1000", method="POST")
SLOW = {
    "silent": b"",
    "line": b"GET /hello.txt HT",
    "head": b"GET /hello.txt HTTP/1.1\r\nHost: local",
    "later head": clients.request(close=False) + b"GET /hello.txt HTTP/1.1\r\nHost: local",
    "body of a script": POST + b"x" * 10,
    "body of a file": clients.request("/hello.txt", "Content-Length: 1000", method="POST") + b"x" * 10,
    "chunks": clients.request("/cgi/digest", "Transfer-Encoding: chunked", method="POST") +
    b"a\r\n0123456789\r\n",
}


@pytest.fixture(scope="module", params=slow.MPMS)
def mpm(request):
    return request.param


def _site(box, mpm, directives, config=REQTIMEOUT, modules=("reqtimeout",), **options):
    httpd, lingerd = slow.site(box, mpm, config=config, modules=modules, workers=2,
                               directives=directives, **options)
    return httpd, lingerd


@pytest.fixture(scope="module")
def sites(module_sandbox, mpm):
    """Without LingerRequest, and with it; its time is as mod_reqtimeout's."""
    stock, _ = _site(module_sandbox, mpm, "LingerRequest Off\n")
    return stock, *_site(module_sandbox, mpm, "LingerRequestTimeout 1\n")


def _outcome(httpd, data):
    """(answer without its times, lines of the logs without theirs)"""
    access, error = httpd.access_log.mark(), httpd.error_log.mark()
    httpd.allowed_lines += [logs.ALL_BUSY, "reqtimeout:info", "AH02651", "cgid?:error", "AH01220"]
    with clients.connect(httpd.ports["silent"]) as client:
        client.sendall(data)
        answer = clients.read_to_fin(client)
    wait_until(lambda: httpd.error_log.matching("read timeout", error), "the log says so")

    def lines(log, mark):
        return [re.sub(r"^\[.*?\] |\[?(pid|tid) [\d:a-z ]+\] |client [\d.:]+|127.0.0.1:\d+|/work\S+|\d\.\d+", "", line)
                for line in log.since(mark)]

    answer = re.sub(rb"Date: [^\r]*\r\n", b"", answer)
    reads = [line for line in lines(httpd.error_log, error) if "read timeout" in line]
    # Without %D, which counts from when httpd reads, and %I, where stock httpd counts the first byte of a
    # later request twice: it looks at it first.
    return answer, [re.sub(r"^((?:\S+ ){4})\S+ (.*) \S+ \S+$", r"\1\2", line)
                    for line in lines(httpd.access_log, access)], reads


@pytest.mark.parametrize("what", SLOW)
def test_it_ends_as_with_mod_reqtimeout(sites, what):
    stock, httpd, lingerd = sites
    before = lingerd.counters()["LingerGatherTimedOut"]
    expected = _outcome(stock, SLOW[what])
    assert _outcome(httpd, SLOW[what]) == expected
    wait_counted(lingerd, GatherTimedOut=before + 1, Gathering=0)
    assert slow.add_up(lingerd.counters())


def test_it_is_logged_without_mod_reqtimeout(sandbox, mpm):
    httpd, lingerd = _site(sandbox, mpm, "LingerRequestTimeout 300ms\n", "LogLevel linger:info\n", ())
    httpd.allowed_lines.append("linger:info")
    with clients.connect(httpd.port) as client:
        client.sendall(SLOW["head"])
        assert clients.split(clients.read_to_fin(client))[0] == 408
    wait_counted(lingerd, GatherTimedOut=1)
    assert len(httpd.error_log.matching("Request read timeout")) == 1


def test_a_slow_client_never_holds_a_worker(sandbox, mpm):
    """Two workers, a dozen that take their time to the end: each quick request finds a worker, also while
    the answers of 408 are given, and their clients don't close."""
    httpd, lingerd = _site(sandbox, mpm, "LingerRequestTimeout 1\n")
    httpd.allowed_lines += ["reqtimeout:info"]
    crowd = [clients.connect(httpd.ports["silent"]) for _ in range(12)]
    for number, client in enumerate(crowd):
        client.sendall(list(SLOW.values())[number % 3])
    slow.wait_gathering(lingerd, 12)
    while lingerd.counters()["LingerGatherTimedOut"] < 12:
        assert clients.fetch(httpd.port) == (200, b"hello, world\n")
    # They linger, in lingerd, and nobody waits for them.
    assert clients.fetch(httpd.port) == (200, b"hello, world\n")
    answers = [clients.read_to_fin(client) for client in crowd]
    assert [bool(answer) for answer in answers] == [False, False, True] * 4
    for client in crowd:
        client.close()


def test_a_body_has_time_for_its_bytes(sandbox, mpm):
    """At twice LingerRequestMinRate it may take long; below it doesn't."""
    httpd, lingerd = _site(sandbox, mpm, "LingerRequestTimeout 1\nLingerRequestMinRate 1000\n",
                           "RequestReadTimeout body=0\nLogLevel linger:info\n")
    httpd.allowed_lines += ["linger:info", "cgid?:error"]
    body = b"y" * 6_000
    data = clients.request("/cgi/digest", "Content-Length: 6000", method="POST") + body
    with clients.connect(httpd.port) as client:
        slow.send_in_parts(client, data, 12, 0.25)
        assert slow.split(clients.read_to_fin(client)) == (200, slow.digest(body))
    wait_counted(lingerd, Gathered=1, GatherTimedOut=0)
    with clients.connect(httpd.port) as client:
        client.sendall(data[:1_000])
        assert b" 408 " in clients.read_to_fin(client).splitlines()[0]
    wait_counted(lingerd, Gathered=1, GatherTimedOut=1)
    assert len(httpd.error_log.matching("linger:info.*Request read timeout")) == 1
    assert lingerd.counters()["LingerGatherMemory"] == 0


def test_mod_reqtimeout_limits_hold_in_lingerd(sandbox, mpm):
    """However much time LingerRequest gives."""
    httpd, lingerd = _site(sandbox, mpm, "LingerRequestTimeout 3600\n")
    httpd.allowed_lines += ["reqtimeout:info", "cgid?:error"]
    for what in ("head", "body of a script"):
        with clients.connect(httpd.port) as client:
            client.sendall(SLOW[what])
            assert b" 408 " in clients.read_to_fin(client).splitlines()[0]
    wait_counted(lingerd, GatherTimedOut=2, Gathering=0)


def test_late_and_yet_there_is_forgiven(sandbox):
    """The rest has come before a worker was free to answer 408: the connection goes on as any other."""
    httpd, lingerd = slow.site(sandbox, "prefork", workers=1, directives="LingerRequestTimeout 4\n")
    gate = httpd.directory / "gate"
    os.mkfifo(gate)
    hold = httpd.directory / "cgi" / "hold"
    hold.write_text(f"#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nexec cat {gate}\n")
    hold.chmod(0o755)
    head = clients.request(close=False)
    with clients.connect(httpd.port) as client, clients.connect(httpd.port) as other:
        client.sendall(head[:-2])
        slow.wait_gathering(lingerd, 1)
        other.sendall(clients.request("/cgi/hold"))
        with open(gate, "wb"):  # once the script has it open
            wait_counted(lingerd, GatherTimedOut=1)
            client.sendall(head[-2:])
        assert clients.split(clients.read_to_fin(other))[0] == 200
        received = b""
        while not received.endswith(b"hello, world\n"):
            received += client.recv(65536) or pytest.fail(f"it has ended: {received}")
        assert clients.split(received)[0] == 200
        client.sendall(clients.request())
        assert clients.split(clients.read_to_fin(client)) == (200, b"hello, world\n")
