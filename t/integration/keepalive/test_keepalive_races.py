# SPDX-License-Identifier: Apache-2.0
"""No request is lost: clients send around the moment of parking, around KeepAliveTimeout, and while
httpd and lingerd restart. `make race` makes RACE_REQUESTS of them, shared among the races."""
import collections
import os

import pytest

from harness import keepalive, races

REQUESTS = races.each_race(int(os.environ.get("RACE_REQUESTS") or 20_000))
pytestmark = pytest.mark.timeout(120 + REQUESTS // 50)


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
    httpd, lingerd = keepalive.site(sandbox, mpm, workers=races.WORKERS,
                                    config=races.config(race, mpm))
    total.update(races.named(race, races.run(race, httpd, lingerd, REQUESTS)))
