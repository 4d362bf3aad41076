# SPDX-License-Identifier: Apache-2.0
"""A minute of t/hostile: peers that do anything, beside an honest httpd. HOSTILE_SEED plays it again."""
import os
import random
import sys

import pytest

from harness import places

sys.path.insert(0, str(places.ROOT / "t" / "hostile"))
import run  # noqa: E402


@pytest.mark.skipif(not places.am_root(), reason="needs users to be")
@pytest.mark.timeout(600)
def test_peers_that_do_anything():
    """Would catch an honest client that is lost, a lingerd that stands still, dies or keeps what it was
    sent, and refusals that nobody counts."""
    seconds = float(os.environ.get("HOSTILE_SECONDS", "60"))
    seed = int(os.environ.get("HOSTILE_SEED") or random.randrange(1 << 31))
    elsewhere, here, counters, problems = run.run(seconds, seed)
    run.report(elsewhere, here, counters, problems, seed)
    assert not problems
    assert not elsewhere["problems"] and not here["problems"]
    assert here["requests"] > 50 and counters["LingerRejected"] > 100
    assert counters["LingerOverShare"] > 100, "nobody was kept from hoarding"
    # How late it may be is the machine's affair, which is why it is compared; this is standing still.
    assert here["heartbeat"] < elsewhere["heartbeat"] + 5
    assert counters["LingerUnclosed"] < 100 and counters["LingerOffers"] == 0
