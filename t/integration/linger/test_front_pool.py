# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of event keeps its connections as long as without the module. event closes idle
keep-alive connections while none of its workers is idle, also those on which a request is under way."""
from harness import front_pool

REQUESTS = 8_000
THREADS, CLIENTS = 25, 20  # five workers are always free
# Of 8,000: a busy machine lets stock httpd run out of workers now and then, too. With a worker that
# gave way once a millisecond it was some hundred.
NOISE = 8
CLOSES = "All workers are busy or dying, will shutdown"
CONFIG = """
MaxKeepAliveRequests 7
LogLevel mpm_event:trace1
"""


def _closes_and_bad_gateways(httpd):
    ends = front_pool.post(httpd.port, REQUESTS)
    assert sum(ends.values()) == REQUESTS
    return len(httpd.error_log.matching(CLOSES)), ends["bad gateway"]


def test_keepalive_pool_of_a_proxy(sandbox):
    """Would catch a hand-off that keeps a worker of event's from being counted as idle."""
    stock = sandbox.httpd("event", workers=THREADS, config=CONFIG)
    httpd, _ = sandbox.site("event", workers=THREADS, config=CONFIG)
    for server in (stock, httpd):
        server.allowed_lines += ["mpm_event:trace1", "mpm_event:debug"]
    stocks_closes, stocks_502 = _closes_and_bad_gateways(stock)
    closes, bad_gateways = _closes_and_bad_gateways(httpd)
    assert httpd.status()["LingerHandoffs"] > 0
    assert closes <= stocks_closes + NOISE, (closes, stocks_closes)
    assert bad_gateways <= stocks_502 + NOISE, (bad_gateways, stocks_502)
