# SPDX-License-Identifier: Apache-2.0
"""The harness itself: httpd serves with and without the module, and stops without a trace."""
import pytest

from harness import clients, logs, tls
from harness.httpd import content


@pytest.mark.parametrize("linger", [False, True], ids=["stock", "linger"])
def test_serves(mpm, sandbox, linger):
    """Would catch a module that keeps httpd from starting, serving or stopping."""
    httpd = sandbox.site(mpm)[0] if linger else sandbox.httpd(mpm)
    assert clients.fetch(httpd.port) == (200, content("hello.txt"))
    assert clients.fetch(httpd.port, "/300k.bin") == (200, content("300k.bin"))
    assert ("LingerHandoffs" in httpd.status()) == linger


MISNAMED = """
Listen 127.0.0.1:@tls@
<VirtualHost 127.0.0.1:@tls@>
  ServerName elsewhere.example
  SSLEngine On
  SSLCertificateFile "@dir@/tls.crt"
  SSLCertificateKeyFile "@dir@/tls.key"
  LingerTimeout 7
</VirtualHost>
"""
FOREIGN = "[Thu Nov 26 13:41:13.123456 2026] [linger:error] [pid 7:tid 7] no line of stock httpd's\n"


def test_stocks_own_warnings_are_no_failure(mpm, sandbox):
    """mod_ssl warns of a certificate for another name at each start, with our module or without.
    Would catch a harness that blames the module for it, and one that lets any other line pass."""
    httpd = sandbox.site(mpm, modules=("ssl",), ports=("tls",), config=MISNAMED, start=False)[0]
    tls.make_certificate(httpd.directory)
    httpd.start()
    warned = httpd.error_log.matching(r"\[ssl:warn\] .*AH01909")
    assert warned and not any(logs.httpd_line_is_quiet(line) for line in warned)
    assert sandbox.unexpected_lines() == []
    with httpd.error_log.path.open("a") as log:
        log.write(FOREIGN)
    assert sandbox.unexpected_lines() == [FOREIGN.rstrip()]
