# SPDX-License-Identifier: Apache-2.0
"""Browsers across stays: a page with many images, from a site with few processes."""
import time

import pytest

from harness import browsers, tls_parking
from harness.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # a browser alone takes long to begin on a busy machine

_TURNS = 3
# Nothing comes from the browser's cache.
_FRESH = 'Header always set Cache-Control no-store\nAddType text/html .html\nAddType image/png .png\n'


def _images_in(log):
    """The status codes of all images so far; a line begins with the client's address."""
    return [line.split()[1] for line in log.matching(r" /image\d+\.png ")]


@pytest.mark.parametrize("kind", browsers.BROWSERS, ids=lambda kind: kind.program)
def test_page_with_images(sandbox, kind):
    """It is loaded, and reloaded, two seconds later, twice; between that its connections are parked."""
    if not kind.is_installed():
        pytest.skip(f"no {kind.program} here")
    httpd, lingerd = tls_parking.site(sandbox, "prefork", workers=8, extra=_FRESH)
    browsers.write_page(httpd.directory / "www")
    with kind(sandbox.directory) as browser:
        browser.open(f"https://localhost:{httpd.ports['tls']}/page.html")
        for turn in range(1, _TURNS + 1):
            browsers.wait_loaded(browser)
            wait_until(lambda: lingerd.counters()["LingerParked"] >= 2, "connections are parked")
            wait_until(lambda n=turn: len(_images_in(httpd.access_log)) == n * browsers.IMAGES,
                       lambda: f"all images: {len(_images_in(httpd.access_log))}")
            before = httpd.status()["LingerTlsResumed"]
            if turn < _TURNS:
                time.sleep(2)
                browser.reload()
                wait_until(lambda n=before: httpd.status()["LingerTlsResumed"] > n, "they go on")
    assert set(_images_in(httpd.access_log)) == {"200"}
    status = httpd.status()
    print({key: status[key] for key in ("LingerParkedTlsTotal", "LingerTlsResumed")})
    assert status["LingerTlsRefused"] == status["LingerReturnsRefused"] == 0
