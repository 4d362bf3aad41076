# SPDX-License-Identifier: Apache-2.0
"""Sites with LingerRequest, and clients that send slowly."""
import contextlib
import hashlib
import threading
import time

from harness import clients, logs
from harness.waiting import wait_equal, wait_until

MPMS = ("prefork", "worker", "event")

# /cgi/digest answers with the SHA-1 of the request's body. At one port the kernel doesn't hold back
# connections that are silent.
CONFIG = """
Listen 127.0.0.1:@silent@ silent
AcceptFilter silent none
ScriptAlias /cgi/ "@dir@/cgi/"
<Directory "@dir@/cgi">
  Require all granted
</Directory>
<IfModule mod_cgid.c>
  ScriptSock cgid.sock
</IfModule>
"""


def site(box, mpm, *lingerd_arguments, directives="", config="", modules=(), **options):
    """(httpd with LingerRequest On, lingerd)"""
    modules = ("cgi" if mpm == "prefork" else "cgid", *modules)
    httpd, lingerd = box.site(mpm, *lingerd_arguments, config=CONFIG + config, modules=modules,
                              linger_directives="LingerRequest On\n" + directives,
                              ports=("silent",), **options)
    script = httpd.directory / "cgi" / "digest"
    script.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n"
                      "exec sha1sum\n")
    script.chmod(0o755)
    httpd.allowed_lines.append(logs.ALL_BUSY)
    return httpd, lingerd


def digest(body):
    return hashlib.sha1(body).hexdigest().encode() + b"  -\n"


def split(response):
    """(status code, body) of a response that ends with the connection, out of its chunks."""
    status, body = clients.split(response)
    if b"\r\nTransfer-Encoding: chunked\r\n" in response.partition(b"\r\n\r\n")[0] + b"\r\n":
        rest, body = body, b""
        while not rest.startswith(b"0\r\n"):
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[:int(size, 16)], rest[int(size, 16) + 2:]
    return status, body


def wait_gathering(lingerd, count, total=0):
    """`count` connections wait for the rest of a request, after `total` times so far."""
    def gathering():
        counters = lingerd.counters()
        return counters["LingerGathering"] == count and counters["LingerGatherTotal"] >= total

    wait_until(gathering, lambda: f"{count} gather, {total} times: {lingerd.counters()}")


def wait_counted(lingerd, **expected):
    """Waits for these counters, LingerGather… without the first word."""
    def seen():
        counters = lingerd.counters()
        return {name: counters[f"Linger{name}"] for name in expected}

    wait_equal(seen, expected, "counters")


def add_up(counters):
    return counters["LingerGatherTotal"] == sum(counters[key] for key in (
        "LingerGathering", "LingerGathered", "LingerGatherEarly", "LingerGatherTimedOut",
        "LingerGatherClosedByClient", "LingerGatherReturnFailed"))


def send_in_parts(client, data, parts, pause):
    """All of `data`, in so many parts, with a pause between two."""
    step = -(-len(data) // parts)
    for start in range(0, len(data), step):
        if start:
            time.sleep(pause)
        client.sendall(data[start:start + step])


class Crowd:
    """Clients that each send a request in parts, at the same time; their answers are kept."""

    def __init__(self, port, requests, parts, pause):
        self.answers = [None] * len(requests)
        self.threads = [threading.Thread(target=self._ask, args=(port, number, data, parts, pause))
                        for number, data in enumerate(requests)]
        for thread in self.threads:
            thread.start()

    def _ask(self, port, number, data, parts, pause):
        with contextlib.suppress(OSError), clients.connect(port) as client:
            send_in_parts(client, data, parts, pause)
            self.answers[number] = split(clients.read_to_fin(client))

    def join(self):
        for thread in self.threads:
            thread.join()
        return self.answers
