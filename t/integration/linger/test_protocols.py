# SPDX-License-Identifier: Apache-2.0
"""Each way in which httpd speaks to a client ends as without the module: whole, with its goodbyes,
and in lingerd's hands."""
import re
import subprocess

import pytest

from harness import clients, h2, logs, tls
from harness.httpd import content
from harness.sandbox import settle
from harness.waiting import wait_equal, wait_until

CONFIG = """
Timeout 5
KeepAliveTimeout 1
# The kernel would hold a connection without data back from httpd for half a minute.
AcceptFilter http none
LimitRequestBody 1000
ScriptAlias /cgi/ "@dir@/cgi/"
<Directory "@dir@/cgi">
  Require all granted
</Directory>
<IfModule mod_cgid.c>
  ScriptSock cgid.sock
</IfModule>
<IfModule mod_reqtimeout.c>
  RequestReadTimeout handshake=0 header=1 body=1
</IfModule>
<VirtualHost 127.0.0.1:@main@>
  ServerName localhost
</VirtualHost>
<VirtualHost 127.0.0.1:@main@>
  ServerName close.test
  KeepAlive Off
</VirtualHost>
"""
H2_MPMS = ("worker", "event")  # mod_http2 says itself that it doesn't work on prefork
SCRIPTS = {
    "length": "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nwc -c\n",
    "slow": "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n"
            "touch @dir@/run/slow\nsleep 2\necho slowly\n",
    # No length, and pieces over time: httpd has to send it chunked.
    "pieces": "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n"
              "for i in 1 2 3; do echo piece $i; sleep 0.05; done\n",
}


def add_scripts(httpd):
    for name, text in SCRIPTS.items():
        script = httpd.directory / "cgi" / name
        script.write_text(text.replace("@dir@", str(httpd.directory)))
        script.chmod(0o755)


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    certificate = tls.make_certificate(module_sandbox.directory)
    modules = ["ssl", "socache_shmcb", "reqtimeout", "cgi" if mpm == "prefork" else "cgid"]
    protocols = "Protocols http/1.1\n"
    if mpm in H2_MPMS:
        modules.append("http2")
        protocols = "Protocols h2 h2c http/1.1\n"
    # Enough workers that event doesn't end idle HTTP/2 connections because all are busy.
    httpd, lingerd = module_sandbox.site(
        mpm, workers=16, ports=("tls",), modules=modules, start=False,
        config=protocols + CONFIG + tls.vhost(certificate))
    add_scripts(httpd)
    httpd.start()
    return httpd, lingerd


@pytest.fixture
def handed_off(site):
    """Checks that a connection, still open at the client's end, has come to lingerd."""
    httpd, lingerd = site
    before = settle(httpd)["LingerTotal"]

    def check(count=1):
        wait_equal(lambda: lingerd.counters()["LingerTotal"], before + count, "hand-offs")

    return check


def test_http_1_0(site, handed_off):
    """Would catch a response whose end (the FIN is all that ends it) comes late or not at all."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(b"GET /64k.bin HTTP/1.0\r\n\r\n")
        assert clients.split(clients.read_to_fin(client)) == (200, content("64k.bin"))
        handed_off()


def test_http_1_1_close(site, handed_off):
    """Would catch a lost response or a missing FIN with Connection: close."""
    httpd, _ = site
    client, status, body = clients.late_closer(httpd.port, "/64k.bin")
    with client:
        assert (status, body) == (200, content("64k.bin"))
        handed_off()


def test_keepalive_is_untouched(site, handed_off):
    """Would catch a hand-off between two requests of one connection."""
    httpd, lingerd = site
    total = lingerd.counters()["LingerTotal"]
    with clients.connect(httpd.port) as client:
        for _ in range(3):
            client.sendall(clients.request(close=False))
            response = client.recv(65536)
            assert response.endswith(content("hello.txt"))
            assert b"Connection: close" not in response
        assert lingerd.counters()["LingerTotal"] == total
        client.sendall(clients.request())
        assert clients.split(clients.read_to_fin(client)) == (200, content("hello.txt"))
        handed_off()


def test_keepalive_off(site, handed_off):
    """KeepAlive Off: httpd closes though the client would stay. Would catch a hand-off that depends
    on what the client asked for."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request(host="close.test", close=False))
        response = clients.read_to_fin(client)
        assert re.search(rb"Connection: .*close", response)
        assert clients.split(response) == (200, content("hello.txt"))
        handed_off()


def test_keepalive_timeout(site, handed_off):
    """Would catch an idle keep-alive connection that Apache ends by itself."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request(close=False))
        assert clients.split(clients.read_to_fin(client)) == (200, content("hello.txt"))
        handed_off()


def test_pipelined(site, handed_off):
    """Would catch a FIN before the last of several responses, or with requests still unread."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request("/64k.bin", close=False) * 3 + clients.request())
        received = clients.read_to_fin(client)
        assert received.count(b"HTTP/1.1 200 OK") == 4
        assert received.count(content("64k.bin")) == 3
        assert received.endswith(content("hello.txt"))
        handed_off()


def test_pipelined_beyond_the_end(site, handed_off):
    """Requests after one with Connection: close are never read by Apache. Would catch a close with
    them still unread: the RST would take the response along."""
    httpd, lingerd = site
    with clients.connect(httpd.port, receive_buffer=4096) as client:
        client.sendall(clients.request("/300k.bin") + clients.request() * 50)
        handed_off()
        assert clients.split(clients.read_to_fin(client)) == (200, content("300k.bin"))
        # The kernel may have given the first of them to httpd along with the request.
        assert lingerd.queue() == 1


def test_head(site, handed_off):
    """Would catch a wait for a body that a HEAD doesn't have."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request("/64k.bin", method="HEAD"))
        status, body = clients.split(clients.read_to_fin(client))
        assert (status, body) == (200, b"")
        handed_off()


def test_not_modified(site, handed_off):
    """Would catch the same for 304."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request("/hello.txt", close=False))
        tag = re.search(rb'ETag: ("[^"]+")', client.recv(65536))[1].decode()
        client.sendall(clients.request("/hello.txt", f"If-None-Match: {tag}"))
        assert clients.split(clients.read_to_fin(client)) == (304, b"")
        handed_off()


def test_chunked_from_cgi(site, handed_off):
    """mod_cgid on worker and event, mod_cgi on prefork. Would catch a missing last chunk, or a
    script's descriptor that keeps the connection open."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request("/cgi/pieces"))
        head, _, body = clients.read_to_fin(client).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert body.endswith(b"\r\n0\r\n\r\n")
        assert b"piece 1\n" in body and b"piece 3\n" in body
        handed_off()


def test_early_413(site, handed_off):
    """httpd refuses an upload that the client goes on with. Would catch the classic: the client
    gets an RST, and never the 413."""
    httpd, lingerd = site
    httpd.allowed_lines.append("AH01587|AH01588")
    with clients.connect(httpd.port) as client:
        client.sendall(b"POST /hello.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                       b"Content-Length: 50000000\r\n\r\n" + b"u" * 5000)
        handed_off()
        for _ in range(200):  # RST would make one of these fail
            client.sendall(b"u" * 10000)
        status, _ = clients.split(clients.read_to_fin(client))
        assert status == 413
    wait_equal(lingerd.queue, 0, "sockets in lingerd")


def test_408(site, handed_off):
    """mod_reqtimeout's answer to an unfinished request. Would catch its loss."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(b"GET /hello.txt HTTP/1.1\r\nHo")
        status, _ = clients.split(clients.read_to_fin(client))
        assert status == 408
        handed_off()


def test_no_request_at_all(site, handed_off):
    """A client that connects and waits. Would catch a crash or a leak where there is no request."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        assert clients.read_to_fin(client)[:12] in (b"", b"HTTP/1.1 408", b"HTTP/1.0 408")
        handed_off()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_says_goodbye(site, handed_off, version):
    """close_notify, then FIN, both while the client's end is still open. Would catch a hand-off
    before mod_ssl has spoken, which a TLS client must take for a truncation."""
    httpd, _ = site
    with tls.TlsClient(httpd.ports["tls"], version) as client:
        client.send(clients.request("/300k.bin"))
        response = client.read_to_close_notify()
        assert not client.fin
        client.wait_fin()
        assert clients.split(response) == (200, content("300k.bin"))
        assert client.tls.version() == f"TLSv{version}"
        handed_off()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_survives_late_bytes(site, handed_off, version):
    """The truncation test over TLS."""
    httpd, _ = site
    with tls.TlsClient(httpd.ports["tls"], version, receive_buffer=4096) as client:
        client.send(clients.request("/300k.bin"))
        handed_off()
        client.socket.sendall(b"late bytes, of no TLS record")
        assert clients.split(client.read_to_close_notify()) == (200, content("300k.bin"))


def test_tls_for_curl(site):
    """curl with OpenSSL 3 fails (56) when a TLS connection ends without close_notify."""
    httpd, _ = site
    result = subprocess.run(
        ["curl", "-sS", "--cacert", httpd.directory.parent / "tls.crt", "--http1.1",
         "-H", "Connection: close", f"https://localhost:{httpd.ports['tls']}/300k.bin",
         "--resolve", f"localhost:{httpd.ports['tls']}:127.0.0.1"],
        capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == content("300k.bin")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_for_s_client(site, version):
    """openssl s_client tells a missing close_notify as 'unexpected eof while reading'."""
    httpd, _ = site
    result = subprocess.run(
        ["openssl", "s_client", "-quiet", "-ign_eof", f"-tls{version.replace('.', '_')}",
         "-connect", f"127.0.0.1:{httpd.ports['tls']}"],
        input=clients.request("/64k.bin"), capture_output=True, timeout=60, check=False)
    assert b"unexpected eof" not in result.stderr, result.stderr
    assert result.returncode == 0, result.stderr
    assert clients.split(result.stdout) == (200, content("64k.bin"))


def need_h2(mpm):
    if mpm not in H2_MPMS:
        pytest.skip("mod_http2 is inactive on prefork")


def read_frames(client):
    return h2.frames(clients.read_to_fin(client))


def test_h2c_goaway(site, mpm, handed_off):
    """An idle HTTP/2 connection that httpd ends. Would catch a FIN before mod_http2 had its
    GOAWAY out (or a hook that never sees HTTP/2 connections)."""
    need_h2(mpm)
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(h2.opening() + h2.acknowledge_settings() + h2.get("/hello.txt"))
        frames = read_frames(client)
        assert frames[-1].kind == h2.GOAWAY
        assert h2.body(frames) == content("hello.txt")
        handed_off()


def test_h2_goaway(site, mpm, handed_off):
    """The same over TLS: GOAWAY, close_notify, FIN."""
    need_h2(mpm)
    httpd, _ = site
    with tls.TlsClient(httpd.ports["tls"], alpn="h2") as client:
        assert client.tls.selected_alpn_protocol() == "h2"
        client.send(h2.opening() + h2.acknowledge_settings() + h2.get("/hello.txt", scheme="https"))
        frames = h2.frames(client.read_to_close_notify())
        client.wait_fin()
        assert h2.body(frames) == content("hello.txt")
        assert frames[-1].kind == h2.GOAWAY
        handed_off()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nghttp(site, mpm, scheme):
    """A graceful restart while nghttp waits for a slow script: nghttp sees the GOAWAY and still
    gets its page."""
    need_h2(mpm)
    httpd, _ = site
    port = httpd.port if scheme == "http" else httpd.ports["tls"]
    (httpd.directory / "run" / "slow").unlink(missing_ok=True)
    with subprocess.Popen(["nghttp", "-v", f"{scheme}://127.0.0.1:{port}/cgi/slow"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as nghttp:
        wait_until((httpd.directory / "run" / "slow").exists, "the script runs")
        httpd.graceful()
        output = nghttp.communicate(timeout=60)[0]
    assert nghttp.returncode == 0
    assert "slowly" in output
    assert re.search(r"recv GOAWAY frame", output), output


def test_h2_load(site, mpm):
    """Many streams on several connections at once, each closed by the client."""
    need_h2(mpm)
    httpd, _ = site
    httpd.allowed_lines.append(logs.ALL_BUSY)
    result = subprocess.run(
        ["h2load", "-n", "400", "-c", "8", "-m", "10", f"http://127.0.0.1:{httpd.port}/64k.bin"],
        capture_output=True, text=True, timeout=100, check=False)
    assert "400 succeeded, 0 failed, 0 errored" in result.stdout, result.stdout


def test_uploads_and_answers(site, handed_off):
    """A POST to a script that is small enough to be taken. Would catch lost request bodies."""
    httpd, _ = site
    with clients.connect(httpd.port) as client:
        client.sendall(b"POST /cgi/length HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                       b"Content-Length: 900\r\n\r\n" + b"b" * 900)
        assert b"900" in clients.split(clients.read_to_fin(client))[1]
        handed_off()


def test_no_child_has_died(site):
    """Would catch a crash that a new child papered over."""
    httpd, _ = site
    assert not httpd.error_log.matching(r"exit signal|AH0005[012]")
