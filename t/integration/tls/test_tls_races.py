# SPDX-License-Identifier: Apache-2.0
"""No request over TLS is lost either, by the same races as without: each answer is the whole answer
to its request, under the right keys. `make race` makes half of RACE_REQUESTS over TLS."""
import collections
import os

import pytest

from harness import races, tls_parking

REQUESTS = races.each_race(int(os.environ.get("RACE_REQUESTS") or 20_000) // 2)
pytestmark = pytest.mark.timeout(120 + REQUESTS // 50)


# Crowds that this side can make, which costs more with TLS.
OPTIONS = {"queue": {"pauses": ((1.0, 3.0),)}}
# See Httpd._let_workers_sleep: now and then, and test_child_ends_within_openssl looks at our own part.
STOCK_CRASHES = (r"exit signal (Segmentation fault|Abort)", r"^(free\(\):|double free|corrupted|malloc|Fatal glibc error: malloc)")


@pytest.fixture(scope="module", params=races.MPMS)
def mpm(request):
    return request.param


@pytest.fixture(scope="module")
def total():
    """How the requests of all races of an MPM ended."""
    counts = collections.Counter()
    yield counts
    print(f"in all: {sum(counts.values()):,} requests: {dict(counts)}")


@pytest.mark.parametrize("race", races.RACES)
def test_race(sandbox, mpm, race, total):
    httpd, lingerd = tls_parking.site(sandbox, mpm, workers=races.WORKERS, after_ms=5,
                                      config="KeepAliveTimeout 5\n" + races.config(race, mpm))
    if (race, mpm) == ("hard", "prefork"):
        httpd.allowed_lines += STOCK_CRASHES
    ends = races.run(race, httpd, lingerd, REQUESTS, port=httpd.ports["tls"], tls=True,
                     **OPTIONS.get(race, {}))
    total.update(races.named(race, ends))
    status = httpd.status()
    assert status["LingerTlsRefused"] == 0
    assert status["LingerTlsResumed"] > ends["ok"] // 50
