# SPDX-License-Identifier: Apache-2.0
"""httpd between httpds: the rest of a response that lingerd delivers into a tunnel, or into a proxy of
the same httpd, is whole at the far end."""
import subprocess

import pytest

from harness import clients, offload, tls
from harness.httpd import content
from harness.offload import wait_offloaded, wait_over

SIZES = {"300k.bin": content("300k.bin"), "4m.bin": content("4m.bin")}
PROXY_MODULES = ("proxy", "proxy_http", "proxy_connect")


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    """Origin in the clear and over TLS; forward proxies in the clear and over TLS; reverse proxies to
    itself, one and two deep."""
    ports = ("forward", "tls_forward")
    config = """
SSLProxyEngine On
SSLProxyVerify none
SSLProxyCheckPeerName Off
SSLProxyCheckPeerExpire Off
ProxyPass /self/ http://127.0.0.1:@main@/
ProxyPass /tls-self/ https://127.0.0.1:@tls@/
ProxyPass /twice/ http://127.0.0.1:@main@/tls-self/
Listen 127.0.0.1:@forward@
Listen 127.0.0.1:@tls_forward@
<VirtualHost 127.0.0.1:@forward@>
  ProxyRequests On
  AllowCONNECT @main@ @tls@ @forward@ @tls_forward@
</VirtualHost>
<VirtualHost 127.0.0.1:@tls_forward@>
  SSLEngine On
  SSLCertificateFile "%(certificate)s"
  SSLCertificateKeyFile "%(key)s"
  ProxyRequests On
  AllowCONNECT @main@ @tls@ @forward@ @tls_forward@
</VirtualHost>
""" % {"certificate": module_sandbox.directory / "tls.crt",
       "key": module_sandbox.directory / "tls.key"}
    httpd, lingerd = offload.site(module_sandbox, mpm, ports=ports, modules=PROXY_MODULES, workers=16,
                                  config=config, directives="LingerOffloadClose 64k\n")
    yield httpd, lingerd
    wait_over(lingerd)


def curl(httpd, url, *options):
    return subprocess.run(["curl", "-sS", "-k", "--http1.1", "--proxy-insecure", "--max-time", "60", *options,
                           "--limit-rate", "20M", url], capture_output=True, check=False)


ROUTES = {
    "direct": ("main", "/", None, False),
    "direct tls": ("tls", "/", None, False),
    "connect plain-plain": ("main", "/", "forward", True),
    "connect plain-tls": ("tls", "/", "forward", True),
    "connect tls-plain": ("main", "/", "tls_forward", True),
    "connect tls-tls": ("tls", "/", "tls_forward", True),
    "forward plain": ("main", "/", "forward", False),
    "forward tls": ("main", "/", "tls_forward", False),
    "reverse": ("main", "/self/", None, False),
    "reverse tls": ("tls", "/tls-self/", None, False),
    "reverse twice": ("main", "/twice/", None, False),
    "reverse twice through a tunnel": ("tls", "/twice/", "tls_forward", True),
}


@pytest.mark.parametrize("close", [False, True], ids=["keeps", "closes"])
@pytest.mark.parametrize("file", SIZES)
@pytest.mark.parametrize("route", ROUTES)
def test_whole_through_tunnels_and_proxies(site, route, file, close):
    httpd, _ = site
    port, path, proxy, tunnel = ROUTES[route]
    scheme = "https" if "tls" in port else "http"
    options = ["-H", "Connection: close"] if close else []
    if proxy:
        proxy_scheme = "https" if "tls" in proxy else "http"
        options += ["-x", f"{proxy_scheme}://127.0.0.1:{httpd.ports[proxy]}"]
        options += ["--proxytunnel"] if tunnel else []
    url = f"{scheme}://127.0.0.1:{httpd.ports[port]}{path}{file}"
    for _ in range(5):
        got = curl(httpd, url, *options)
        assert got.returncode == 0, (got.stderr, len(got.stdout))
        assert got.stdout == SIZES[file], len(got.stdout)


def over_tls(socket):
    # What ends is the tunnel: like stock, httpd says no goodbye there.
    return tls.client_context().wrap_socket(socket, suppress_ragged_eofs=True)


def read_head(socket):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = socket.recv(1)
        assert byte, head
        head += byte
    return head


# Python has no TLS in TLS: curl does that above.
@pytest.mark.parametrize(("proxy", "origin"),
                         [("forward", "main"), ("forward", "tls"), ("tls_forward", "main")])
def test_whole_at_a_client_that_keeps_its_tunnel_waiting(site, proxy, origin):
    """The origin's rest is lingerd's, and the tunnel's end stands full: what the proxy has taken from the
    origin is its own to send, and is out before it ends the tunnel."""
    httpd, lingerd = site
    before = lingerd.counters()["LingerOffloads"]
    with clients.connect(httpd.ports[proxy], 16384) as plain:
        tunnel = over_tls(plain) if proxy == "tls_forward" else plain
        with tunnel:
            target = f"127.0.0.1:{httpd.ports[origin]}"
            tunnel.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert b" 200 " in read_head(tunnel)
            inner = over_tls(tunnel) if origin == "tls" else tunnel
            with inner:
                inner.sendall(f"GET /4m.bin HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
                wait_offloaded(lingerd, before + 1, "the origin's rest is lingerd's")
                assert b"Connection: close" in read_head(inner)
                body = bytearray()
                while chunk := inner.recv(65536):
                    body += chunk
    assert bytes(body) == SIZES["4m.bin"], len(body)
