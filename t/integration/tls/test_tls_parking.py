# SPDX-License-Identifier: Apache-2.0
"""LingerKeepAliveTLS: TLS connections wait in lingerd, and any process goes on with them."""
import ssl
import time

import pytest

from harness import clients, tls, tls_parking
from harness.httpd import content
from harness.keepalive import wait_parked
from harness.tls_parking import TlsKeepAlive
from harness.waiting import wait_until

PARKING = ("prefork", "worker")
_VARIABLES = ("SSL_PROTOCOL", "SSL_CIPHER", "SSL_CIPHER_USEKEYSIZE", "SSL_TLS_SNI", "SSL_CLIENT_VERIFY",
              "SSL_CLIENT_S_DN", "SSL_CLIENT_M_SERIAL", "SSL_SERVER_S_DN_CN",
              "SSL_SESSION_ID", "SSL_COMPRESS_METHOD", "SSL_SECURE_RENEG")
_SHOW = 'Header always set X-Variables "' + "|".join(f"%{{{name}}}s" for name in _VARIABLES) + '"\n'


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


@pytest.fixture(scope="module")
def server(module_sandbox, mpm):
    return tls_parking.site(module_sandbox, mpm, extra=_SHOW)


@pytest.fixture
def site(server):
    _, lingerd = server
    wait_parked(lingerd, 0)  # of a test that has failed
    return server


def _asks_across_stays(connection, lingerd, times=3, path="/hello.txt", expected=b"hello, world\n"):
    """Each request but the first finds the connection parked."""
    seen = []
    for _ in range(times):
        before = lingerd.counters()["LingerParkedTotal"]
        status, headers, body = connection.ask(path)
        assert (status, body) == (200, expected)
        seen.append(headers)
        wait_parked(lingerd, 1, total=before + 1)
    return seen


def test_idle_connections_free_their_workers(sandbox, mpm):
    """With two workers, eight TLS connections; each request finds a worker."""
    httpd, lingerd = tls_parking.site(sandbox, mpm, workers=2)
    connections = []
    for turn in range(4):
        for number in range(8):
            if turn == 0:  # a handshake holds a worker until the first request
                connections.append(TlsKeepAlive(httpd.ports["tls"]))
            connection = connections[number]
            status, _, body = connection.ask()
            assert (status, body) == (200, b"hello, world\n"), (turn, number)
        wait_parked(lingerd, 8, total=8 * (turn + 1))
    assert httpd.status()["LingerParkedTls"] == 8
    for connection in connections:
        connection.goodbye()
    wait_parked(lingerd, 0)
    status = httpd.status()
    assert status["LingerTlsResumed"] == 24
    assert status["LingerParkedTlsTotal"] == 32
    assert status["LingerTlsRefused"] == status["LingerReturnsRefused"] == 0
    assert status["LingerTlsResumeMicros"] > 0


@pytest.mark.parametrize("suite", tls_parking.SUITES)
def test_each_cipher(sandbox, mpm, suite):
    httpd, lingerd = tls_parking.site(sandbox, mpm, extra=f"SSLCipherSuite TLSv1.3 {suite}\n")
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        assert connection.tls.cipher()[0] == suite
        _asks_across_stays(connection, lingerd, times=5)


# The second by way of a HelloRetryRequest: clients begin with X25519.
GROUPS = ("X25519", "P-384") + (("X25519MLKEM768",) if ssl.OPENSSL_VERSION_INFO >= (3, 5) else ())


@pytest.mark.parametrize("group", GROUPS)
def test_each_group(sandbox, mpm, group):
    """The client's own exchange of keys; what is resumed in httpd has none."""
    httpd, lingerd = tls_parking.site(sandbox, mpm, extra=f"SSLOpenSSLConfCmd Groups {group}\n")
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        _asks_across_stays(connection, lingerd)


def test_many_trips(site):
    """Twenty in a row, on one connection."""
    httpd, lingerd = site
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        _asks_across_stays(connection, lingerd, times=20)


@pytest.mark.parametrize("name", ["64k.bin", "300k.bin", "4m.bin"])
def test_large_responses(site, name):
    httpd, lingerd = site
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        _asks_across_stays(connection, lingerd, path=f"/{name}", expected=content(name))


def test_large_requests(sandbox, mpm):
    """What the client sends arrives, byte for byte, and 8 MB of it."""
    httpd, lingerd = tls_parking.site(
        sandbox, mpm, modules=("reflector",),
        extra="<Location /echo>\nSetHandler reflector\n</Location>\n")
    body = content("300k.bin")
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        connection.ask()
        for turn in range(1, 4):
            wait_parked(lingerd, 1, total=2 * turn - 1)
            connection.send("/echo", f"Content-Length: {len(body)}", method="POST")
            connection.write(body)
            assert connection.response()[2] == body
            wait_parked(lingerd, 1, total=2 * turn)
            connection.send("/hello.txt", f"Content-Length: {8 << 20}", method="POST")
            for _ in range(8):
                connection.write(bytes(1 << 20))
            assert connection.response()[0] in (200, 405)


def test_what_modules_see(site):
    """Variables of mod_ssl's are the same after a stay."""
    httpd, lingerd = site
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        seen = _asks_across_stays(connection, lingerd)
    assert seen[0]["x-variables"].startswith("TLSv1.3|TLS_AES_256_GCM_SHA384|256|localhost|NONE|")
    assert len({headers["x-variables"] for headers in seen}) == 1, seen


def test_names(sandbox, mpm):
    """Virtual hosts by SNI: each connection stays with its own, whose certificate it has seen."""
    certificate = tls.make_certificate(sandbox.directory)
    vhosts = "".join(f"""
<VirtualHost 127.0.0.1:@tls@>
  ServerName {name}.test
  SSLEngine On
  SSLCertificateFile "{certificate}"
  SSLCertificateKeyFile "{certificate.with_suffix(".key")}"
  {_SHOW}Header always set X-Host {name}
  {more}
</VirtualHost>
""" for name, more in (("one", ""), ("two", ""), ("off", "LingerKeepAliveTLS Off")))
    httpd, lingerd = tls_parking.site(sandbox, mpm, extra="SSLStrictSNIVHostCheck On\n" + _SHOW,
                                      config=vhosts)
    for name in ("one", "two"):
        with TlsKeepAlive(httpd.ports["tls"], name=f"{name}.test") as connection:
            for turn in range(3):
                before = lingerd.counters()["LingerParkedTotal"]
                status, headers, _ = connection.ask(host=f"{name}.test")
                assert (status, headers["x-host"]) == (200, name)
                assert f"|{name}.test|" in headers["x-variables"]
                wait_parked(lingerd, 1, total=before + 1)
        wait_parked(lingerd, 0)
    before = lingerd.counters()["LingerParkedTotal"]
    with TlsKeepAlive(httpd.ports["tls"], name="off.test") as connection:
        for _ in range(3):
            assert connection.ask(host="off.test")[0] == 200
            time.sleep(0.1)
    assert lingerd.counters()["LingerParkedTotal"] == before


def test_a_goodbye_ends_in_lingerd(site):
    """close_notify and FIN: no process of httpd's wakes up for it."""
    httpd, lingerd = site
    before = lingerd.counters()
    resumed = httpd.status()["LingerTlsResumed"]
    connection = TlsKeepAlive(httpd.ports["tls"])
    connection.ask()
    wait_parked(lingerd, 1)
    connection.goodbye()
    wait_parked(lingerd, 0)
    after = lingerd.counters()
    assert after["LingerParkClosedByClient"] == before["LingerParkClosedByClient"] + 1
    assert httpd.status()["LingerTlsResumed"] == resumed


def test_close_notify_without_fin(site):
    """httpd answers it, as ever."""
    httpd, lingerd = site
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
        connection._run(connection.tls.unwrap)  # waits for the server's
        assert connection.closed_cleanly()


def test_sessions_are_resumed_after_a_stay(sandbox, mpm):
    """The ticket of a connection that was parked is good for the next connection; so is a session in
    mod_ssl's cache."""
    httpd, lingerd = tls_parking.site(
        sandbox, mpm, extra='SSLSessionTickets Off\nHeader set X-Resumed "%{SSL_SESSION_RESUMED}s"\n')
    context = tls_parking.client_context()
    with TlsKeepAlive(httpd.ports["tls"], context=context) as connection:
        assert connection.ask()[1]["x-resumed"] == "Initial"
        wait_parked(lingerd, 1)
        connection.ask()
        wait_parked(lingerd, 1, total=2)
        session = connection.tls.session
    with TlsKeepAlive(httpd.ports["tls"], context=context, session=session) as connection:
        assert connection.ask()[1]["x-resumed"] == "Resumed"
        wait_parked(lingerd, 1, total=3)
        assert connection.ask()[0] == 200


def test_pipelined_and_half(site):
    """Two requests in one record, half of one in a record, half a record: each is answered."""
    httpd, lingerd = site
    whole = clients.request(close=False)
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
        connection.write(whole * 2)
        assert connection.response()[0] == connection.response()[0] == 200
        _wait_parked_again(lingerd)
        connection.write(whole[:9])
        time.sleep(0.1)  # long enough to be parked, were it not for the half
        connection.write(whole[9:])
        assert connection.response()[0] == 200
        for cut in (3, 5, 20):  # within the header, behind it, within the body
            _wait_parked_again(lingerd)
            record = connection.records(whole)
            connection.socket.sendall(record[:cut])
            time.sleep(0.1)
            connection.socket.sendall(record[cut:])
            assert connection.response()[0] == 200


def _wait_parked_again(lingerd):
    """Parked, and lingerd's page is of a time when all that has come back had been taken."""
    wait_until(lambda: lingerd.counters()["LingerParked"] == 1, "parked")


def test_reqtimeout_begins_with_the_request(sandbox, mpm):
    """mod_reqtimeout gives the header its time from the first byte on, across a stay in lingerd."""
    httpd, lingerd = tls_parking.site(sandbox, mpm,
                                      extra="RequestReadTimeout handshake=1 header=1 body=1\n")
    with TlsKeepAlive(httpd.ports["tls"]) as connection:
        connection.ask()
        wait_parked(lingerd, 1)
        time.sleep(1.3)
        assert connection.ask()[0] == 200
        wait_parked(lingerd, 1, total=2)
        connection.write(b"GET /hello.txt HTTP/1.1\r\nHost: ")
        assert connection.response()[0] == 408
