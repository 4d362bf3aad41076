# SPDX-License-Identifier: Apache-2.0
"""LingerKeepAliveTLS: what isn't parked, and why; each such connection is served as without it."""
import ssl
import subprocess
import time

import pytest

from harness import clients, tls_parking
from harness.keepalive import KeepAlive, wait_parked
from harness.tls_parking import TlsKeepAlive, client_context
from harness.waiting import wait_until

MPM = "prefork"  # what decides is the same in worker
_DEBUG = "notice linger:debug linger_tls:debug"


def _stays(httpd, lingerd, connection, reason, **asked):
    """Three requests, none of them across a stay."""
    before = lingerd.counters()["LingerParkedTotal"]
    for _ in range(3):
        assert connection.ask(**asked)[0] == 200
        time.sleep(0.1)  # long enough to be parked
    assert lingerd.counters()["LingerParkedTotal"] == before
    if reason:
        assert httpd.error_log.matching(f"not parked: it has {reason}"), httpd.log_tails()


def test_an_older_version(sandbox):
    httpd, lingerd = tls_parking.site(sandbox, MPM, log_level=_DEBUG)
    context = client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with TlsKeepAlive(httpd.ports["tls"], context=context) as connection:
        _stays(httpd, lingerd, connection, "an older TLS than 1.3")


def test_another_cipher(sandbox):
    httpd, lingerd = tls_parking.site(sandbox, MPM, log_level=_DEBUG,
                                      extra="SSLCipherSuite TLSv1.3 TLS_AES_128_CCM_SHA256\n")
    # Python can't ask for it.
    output = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{httpd.ports['tls']}", "-ciphersuites",
         "TLS_AES_128_CCM_SHA256", "-ign_eof"], capture_output=True, timeout=60, check=False,
        input=clients.request(close=False) + clients.request())
    assert output.stdout.count(b"hello, world\n") == 2, output
    assert lingerd.counters()["LingerParkedTotal"] == 0


@pytest.mark.parametrize("where", ["location", "htaccess"])
@pytest.mark.parametrize("offers", [True, False])
def test_late_client_certificates(sandbox, where, offers):
    """Where a directory may ask a client for its certificate, one that would let itself be asked stays;
    others could never get in there anyway."""
    extra = "<Location /private>\nSSLVerifyClient require\n</Location>\n" if where == "location" \
        else '<Directory "@dir@/www">\nAllowOverride AuthConfig\n</Directory>\n'
    httpd, lingerd = tls_parking.site(sandbox, MPM, log_level=_DEBUG, extra=extra)
    context = client_context()
    context.post_handshake_auth = offers
    with TlsKeepAlive(httpd.ports["tls"], context=context) as connection:
        if offers:
            _stays(httpd, lingerd, connection, "a client that directories may ask for a certificate")
            return
        connection.ask()
        wait_parked(lingerd, 1)
        if where == "location":
            httpd.allowed_lines += ["cannot perform post-handshake", "extension not received"]
            assert connection.ask("/private/")[0] == 403


@pytest.mark.parametrize("verify", ["optional", "require", "optional_no_ca"])
def test_client_certificates(sandbox, verify):
    """What mod_ssl has found of one isn't all in OpenSSL's object, and a restart may revoke it. Clients
    that show none are parked."""
    own = tls_parking.client_certificate(sandbox.directory)
    httpd, lingerd = tls_parking.site(
        sandbox, MPM, log_level=_DEBUG,
        extra=f'SSLVerifyClient {verify}\nSSLVerifyDepth 1\nSSLCACertificateFile "{own}"\n')
    context = client_context()
    context.load_cert_chain(own, own.with_suffix(".key"))
    with TlsKeepAlive(httpd.ports["tls"], context=context) as connection:
        _stays(httpd, lingerd, connection, "a client's certificate")
    if verify != "require":
        with TlsKeepAlive(httpd.ports["tls"]) as connection:
            connection.ask()
            wait_parked(lingerd, 1)
            assert connection.ask()[0] == 200


def test_padded_records(sandbox):
    """They hide how long a response is; those of a connection that has been parked wouldn't."""
    httpd, lingerd = tls_parking.site(sandbox, MPM, log_level=_DEBUG,
                                      extra="SSLOpenSSLConfCmd RecordPadding 1024\n")
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        _stays(httpd, lingerd, connection, "padded TLS records")


def test_http_where_tls_is_spoken(sandbox):
    """mod_ssl frees its object at once, and answers. Freed memory has a pattern in it here."""
    httpd, _ = tls_parking.site(sandbox, MPM)
    for _ in range(5):
        with clients.connect(httpd.ports["tls"]) as connection:
            connection.sendall(clients.request())
            answer = connection.makefile("rb").read()
        assert b" 400 " in answer and b"plain HTTP" in answer
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        assert connection.ask()[0] == 200


@pytest.mark.parametrize("what", ["TLS", "keep-alive", "Linger"])
def test_switched_off(sandbox, what):
    directive = {"TLS": "LingerKeepAliveTLS Off", "keep-alive": "LingerKeepAlive Off",
                 "Linger": "Linger Off"}[what]
    httpd, lingerd = tls_parking.site(sandbox, MPM, extra=directive + "\n")
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        _stays(httpd, lingerd, connection, None)


def test_http2(sandbox):
    """Its connections stay; those of clients that choose HTTP/1.1 don't."""
    httpd, lingerd = tls_parking.site(sandbox, "worker", modules=("http2",),
                                      extra="Protocols h2 http/1.1\n")
    output = subprocess.run(["curl", "-sk", "--http2", "-o", "/dev/null", "-w", "%{http_version}",
                             f"https://127.0.0.1:{httpd.ports['tls']}/hello.txt"],
                            capture_output=True, text=True, timeout=60, check=True)
    assert output.stdout == "2"
    assert lingerd.counters()["LingerParkedTotal"] == 0
    with TlsKeepAlive(httpd.ports["tls"], alpn="http/1.1") as connection:
        for turn in range(1, 4):
            assert connection.ask()[0] == 200
            wait_parked(lingerd, 1, total=turn)
        assert connection.tls.selected_alpn_protocol() == "http/1.1"


def test_event(sandbox):
    """This MPM parks nothing: idle connections hold no worker there."""
    httpd, lingerd = tls_parking.site(sandbox, "event")
    httpd.allowed_lines.append("LingerKeepAlive has no effect: this MPM")
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        _stays(httpd, lingerd, connection, None)


def test_without_mod_ssl(sandbox):
    httpd, lingerd = sandbox.site(
        MPM, linger_directives="LingerKeepAlive On\n" + tls_parking.directives())
    httpd.allowed_lines.append("LingerKeepAliveTLS has no effect: mod_ssl isn't loaded")
    with KeepAlive(httpd.port) as connection:
        connection.ask()
        wait_parked(lingerd, 1)


def test_without_mod_linger(sandbox):
    """The module alone does nothing, and says so."""
    options = tls_parking.configuration(sandbox)
    loads = options.pop("linger_directives").replace("LingerKeepAlive On\n", "")
    httpd = sandbox.httpd(MPM, loads_before=loads, **options)
    httpd.allowed_lines.append("LingerKeepAliveTLS has no effect: mod_linger isn't loaded")
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        for _ in range(3):
            assert connection.ask()[0] == 200
    wait_until(lambda: httpd.error_log.matching("mod_linger isn't loaded"), "it says so")


@pytest.mark.parametrize("line, problem", [
    ("LingerKeepAliveTLS Maybe", "LingerKeepAliveTLS: 'Maybe' is neither On nor Off"),
    ("LingerKeepAliveTLSAfter 1001", "LingerKeepAliveTLSAfter: '1001' is not a number of milliseconds"),
    ("LingerKeepAliveTLSAfter 5s", "LingerKeepAliveTLSAfter: '5s' is not a number of milliseconds"),
])
def test_bad_values(sandbox, line, problem):
    httpd = sandbox.httpd(MPM, socket_path="/nowhere", start=False,
                          linger_directives=tls_parking.directives() + line + "\n")
    code, output = httpd.config_test()
    assert code != 0 and problem in output
