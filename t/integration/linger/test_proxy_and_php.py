# SPDX-License-Identifier: Apache-2.0
"""mod_proxy has connections of its own, and may call the lingering close on them; mod_php is what
prefork is kept for. Both end as without the module."""
import base64
import os

import pytest

from harness import backend, clients, httpd_conf
from harness.sandbox import settle
from harness.waiting import wait_equal

ALPHABET = b"abcdefghijklmnopqrstuvwxyz"
PROXY_MODULES = ("proxy", "proxy_http", "proxy_connect", "proxy_wstunnel")


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    with backend.backend() as port:
        httpd, lingerd = module_sandbox.site(
            mpm, modules=PROXY_MODULES, ports=("forward",), config=f"""
ProxyTimeout 10
ProxyPass /back/ http://127.0.0.1:{port}/
ProxyPass /ws ws://127.0.0.1:{port}/ws
Listen 127.0.0.1:@forward@
<VirtualHost 127.0.0.1:@forward@>
  ProxyRequests On
  AllowCONNECT {port}
</VirtualHost>
""")
        yield httpd, lingerd, port


@pytest.fixture
def total(site):
    return settle(site[0])["LingerTotal"]


def wait_one_hand_off(site, total):
    """One, for the client: the connection to the backend isn't httpd's to linger on."""
    httpd, lingerd, _ = site
    wait_equal(lambda: lingerd.counters()["LingerTotal"], total + 1, "hand-offs")
    wait_equal(lambda: httpd.status()["LingerHandoffs"], total + 1, "hand-offs, as httpd has them")
    status = httpd.status()
    assert status["LingerTotal"] == total + 1
    assert status["LingerRejected"] == status["LingerFallbacks"] == 0


def test_reverse_proxy(site, total):
    """Would catch a lost response, or a hand-off of the backend's connection."""
    httpd, _, _ = site
    client, status, body = clients.late_closer(httpd.port, "/back/")
    with client:
        assert (status, body) == (200, ALPHABET)
        wait_one_hand_off(site, total)


def test_connect(site, total):
    """mod_proxy_connect calls ap_lingering_close on its backend's socket. Would catch a hand-off of
    that one."""
    httpd, _, port = site
    with clients.connect(httpd.ports["forward"]) as client:
        client.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
                       .encode())
        assert backend.read_head(client).startswith(b"HTTP/1.0 200")
        client.sendall(clients.request("/"))
        assert clients.split(clients.read_to_fin(client)) == (200, ALPHABET)
    wait_tunnel_closed(httpd, total)


def wait_tunnel_closed(httpd, total):
    """A tunnel ends when both ends have closed: Apache finds the client's FIN, hands nothing over,
    and no socket of the backend's either."""
    wait_equal(lambda: httpd.status()["BusyWorkers"], "1", "busy workers")
    status = httpd.status()
    assert status["LingerHandoffs"] == status["LingerTotal"] == total
    assert status["LingerFallbacks"] == status["LingerRejected"] == 0


def test_websocket(site, total):
    """An upgraded connection. Would catch a hand-off before the tunnel ends, or none after."""
    httpd, _, _ = site
    key = base64.b64encode(os.urandom(16))
    with clients.connect(httpd.port) as client:
        client.sendall(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                       b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")
        head = backend.read_head(client)
        assert head.startswith(b"HTTP/1.1 101")
        assert backend.websocket_accept(key) in head
        for size in (1, 1000, 60000):
            client.sendall(b"e" * size)
            echoed = b""
            while len(echoed) < size:
                echoed += client.recv(65536)
            assert echoed == b"e" * size
    wait_tunnel_closed(httpd, total)


def test_forbidden_tunnel(site, total):
    """A refusal is a response like any other. Would catch a lost one, on a connection that might
    have become a tunnel."""
    httpd, _, _ = site
    httpd.allowed_lines.append("AH01030|AH00898")
    with clients.connect(httpd.ports["forward"]) as client:
        client.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        status, _ = clients.split(clients.read_to_fin(client))
        assert status == 403
        wait_one_hand_off(site, total)


@pytest.fixture(scope="module")
def php(module_sandbox):
    load = httpd_conf.php_module()
    if not load:
        pytest.skip("mod_php isn't installed")
    httpd, lingerd = module_sandbox.site("prefork", start=False, config=f"""
{load}
<FilesMatch "\\.php$">
  SetHandler application/x-httpd-php
</FilesMatch>
""")
    (httpd.directory / "www" / "size.php").write_text(
        '<?php header("Content-Type: text/plain"); echo str_repeat("p", (int)$_GET["n"]);')
    (httpd.directory / "www" / "shutdown.php").write_text(
        '<?php register_shutdown_function(function () { touch(__DIR__ . "/../run/ran"); });'
        'echo "done";')
    httpd.start()
    return httpd, lingerd


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_mod_php(php, size):
    """Would catch a response of PHP's that is lost or cut."""
    httpd, lingerd = php
    total = lingerd.counters()["LingerTotal"]
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request(f"/size.php?n={size}", version="1.0"))  # not chunked
        assert clients.split(clients.read_to_fin(client)) == (200, b"p" * size)
        wait_equal(lambda: lingerd.counters()["LingerTotal"], total + 1, "hand-offs")


def test_php_shutdown_functions(php):
    """PHP runs them after the response. Would catch a module that ends the request early."""
    httpd, _ = php
    client, status, body = clients.late_closer(httpd.port, "/shutdown.php")
    with client:
        assert (status, body) == (200, b"done")
        assert (httpd.directory / "run" / "ran").exists()
