# SPDX-License-Identifier: Apache-2.0
"""Sites with LingerOffload, and clients that don't read until they are told to."""
import gzip
import time

from harness import clients, tls
from harness.httpd import content
from harness.waiting import wait_until

BIG = "/4m.bin"
MODULES = ("ssl", "socache_shmcb", "include", "filter", "deflate")
# So small that nothing large fits into the kernel.
SMALL_BUFFERS = "SendBufferSize 65536\n"
CONFIG = SMALL_BUFFERS + """
ScriptAlias /cgi/ "@dir@/cgi/"
<Directory "@dir@/cgi">
  Require all granted
</Directory>
<IfModule mod_cgid.c>
  ScriptSock cgid.sock
</IfModule>
Alias /zipped/ "@dir@/www/"
<Location /zipped/>
  SetOutputFilter DEFLATE
</Location>
Alias /sendfile/ "@dir@/www/"
<Location /sendfile/>
  EnableSendfile On
</Location>
<Directory "@dir@/www">
  Options +Includes
</Directory>
<FilesMatch "\\.shtml$">
  SetOutputFilter INCLUDES
</FilesMatch>
"""


def site(box, mpm, *lingerd_arguments, directives="", modules=(), config="", **options):
    """(httpd with LingerOffload On and a TLS port, lingerd)"""
    certificate = tls.make_certificate(box.directory)
    prepare = options.pop("prepare", None)  # is called with the httpd before it starts
    cgi = "cgi" if mpm == "prefork" else "cgid"
    httpd, lingerd = box.site(
        mpm, *lingerd_arguments, ports=("tls", *options.pop("ports", ())), start=False,
        modules=(*MODULES, cgi, *modules), config=CONFIG + config + tls.vhost(certificate),
        linger_directives="LingerOffload On\n" + directives, **options)
    script = httpd.directory / "cgi" / "big"
    script.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n"
                      f"cat {httpd.directory}/www/4m.bin\n")
    script.chmod(0o755)
    (httpd.directory / "www" / "page.shtml").write_text(
        'before <!--#include virtual="/4m.bin" --> after\n')
    if prepare:
        prepare(httpd)
    httpd.start()
    return httpd, lingerd


class Reader:
    """A client with little room, on plain TCP or TLS, which reads when it is told to."""

    def __init__(self, httpd, request, transport="plain"):
        if transport == "plain":
            self._tls = None
            self.socket = clients.connect(httpd.port, 16384)
            self.socket.sendall(request)
        else:
            self._tls = tls.TlsClient(httpd.ports["tls"], transport, receive_buffer=16384)
            self.socket = self._tls.socket
            self._tls.send(request)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        if self._tls:
            self._tls.send(data)
        else:
            self.socket.sendall(data)

    def read(self, size=65536):
        return self._tls.read(size) if self._tls else self.socket.recv(size)

    def read_all(self, pace="steady"):
        """Whole, at a pace. To the end, which over TLS must be a close_notify, and then the FIN."""
        received = bytearray()
        for _ in range(8 if pace == "drops" else 0):  # 1 KB/s, for as long as a test can stand it
            received += self.read(128)
            time.sleep(0.125)
        bite = {"steady": 65536, "bites": 3000, "bursts": 65536, "drops": 65536}[pace]
        next_pause = 300_000
        while chunk := self.read(bite):
            received += chunk
            if pace == "bursts" and len(received) > next_pause:
                next_pause += 300_000
                time.sleep(0.05)
        if self._tls:
            self._tls.wait_fin()
        return bytes(received)

    def reset(self):
        clients.reset(self.socket)


def dechunked(body):
    out, at = bytearray(), 0
    while True:
        begin = body.index(b"\r\n", at) + 2
        length = int(body[at:begin], 16)
        at = begin + length
        assert body[at:at + 2] == b"\r\n"
        if length == 0:
            assert at + 2 == len(body), "something behind the last chunk"
            return bytes(out)
        out += body[begin:at]
        at += 2


def body_of(response):
    """The body as its head says: chunked, gzipped."""
    head, separator, body = response.partition(b"\r\n\r\n")
    assert separator, response[:200]
    assert head.split(None, 2)[1] in (b"200", b"206"), head
    if b"Transfer-Encoding: chunked" in head:
        body = dechunked(body)
    elif length := [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")]:
        assert int(length[0].split()[1]) == len(body)
    return gzip.decompress(body) if b"Content-Encoding: gzip" in head else body


def wait_offloaded(lingerd, count, what="responses are lingerd's"):
    wait_until(lambda: lingerd.counters()["LingerOffloads"] >= count,
               lambda: f"{what}: {lingerd.counters()}")


def wait_over(lingerd):
    wait_until(lambda: lingerd.queue() == 0, lambda: f"all are over: {lingerd.counters()}")


def expected_multipart(response, ranges):
    """Checks a multipart/byteranges response against content(BIG)."""
    head, _, body = response.partition(b"\r\n\r\n")
    boundary = head.partition(b"boundary=")[2].split(b"\r\n")[0]
    parts = body.split(b"\r\n--" + boundary)
    assert parts[0] == b"" and parts[-1] == b"--\r\n", "not a whole multipart"
    whole = content(BIG[1:])
    for part, (first, last) in zip(parts[1:-1], ranges, strict=True):
        assert part.partition(b"\r\n\r\n")[2] == whole[first:last + 1]
