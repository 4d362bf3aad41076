# SPDX-License-Identifier: Apache-2.0
"""The harness itself: httpd serves with and without the module, and stops without a trace."""
import pytest

from harness import clients
from harness.httpd import content


@pytest.mark.parametrize("linger", [False, True], ids=["stock", "linger"])
def test_serves(mpm, sandbox, linger):
    """Would catch a module that keeps httpd from starting, serving or stopping."""
    httpd = sandbox.site(mpm)[0] if linger else sandbox.httpd(mpm)
    assert clients.fetch(httpd.port) == (200, content("hello.txt"))
    assert clients.fetch(httpd.port, "/300k.bin") == (200, content("300k.bin"))
    assert ("LingerHandoffs" in httpd.status()) == linger
