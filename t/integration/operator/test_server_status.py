# SPDX-License-Identifier: Apache-2.0
"""server-status while lingerd is up, stopped, gone and back: always there at once, and true."""
import html.parser
import re

import pytest

from harness import clients, logs
from harness.httpd import content
from harness.stats import COUNTERS
from harness.waiting import wait_equal, wait_until

MODULE_KEYS = {"LingerUp", "LingerHandoffs", "LingerAlreadyClosed", "LingerFallbacks",
               "LingerFallbacksDown", "LingerFallbacksBusy", "LingerFallbacksDenied",
               "LingerHandoffMicros", "LingerAborted", "LingerLeftOff"}
DAEMON_KEYS = set(COUNTERS)
STATE_LINES = r"\[linger:(warn|notice)\] .*lingerd is (down|back|busy)"


@pytest.fixture
def site(mpm, sandbox):
    httpd, lingerd = sandbox.site(mpm, linger_directives="LingerTimeout 60\nLingerTime 60\n")
    httpd.allowed_lines.append(STATE_LINES)
    return httpd, lingerd


def our_keys(httpd):
    return {key for key in httpd.status() if key.startswith("Linger")}


class Text(html.parser.HTMLParser):
    """The words of a page; fails on elements that aren't closed in order."""

    VOID = {"meta", "link", "br", "hr", "img", "input"}

    def __init__(self):
        super().__init__()
        self.words, self.open = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.words += data.split()


def words(page):
    parser = Text()
    parser.feed(page)
    return " ".join(parser.words)


def linger_section(httpd):
    """What the page says of linger, as text."""
    text = words(httpd.status_page())
    assert text.count("Apache Server Status") == 1
    start = text.find("Linger")
    assert start > 0, text
    return text[start:]


def test_auto_lines(site):
    """Agents split these lines at ': ' and overwrite by suffix. Would catch a heading, an empty
    value, a fraction, and a key that isn't the contract's."""
    httpd, lingerd = site
    client, _, _ = clients.late_closer(httpd.port)
    wait_equal(lingerd.queue, 1, "sockets in lingerd")
    lines = [line for line in httpd.status_text().splitlines() if "inger" in line]
    for line in lines:
        assert re.fullmatch(r"Linger[A-Za-z0-9]*: [0-9]+", line), line
    keys = [line.split(":")[0] for line in lines]
    assert len(keys) == len(set(keys))
    assert set(keys) >= MODULE_KEYS | DAEMON_KEYS
    client.close()


def test_stock_lines_are_untouched(site, sandbox):
    """Would catch lines that run into stock ones, or a stock key that a newer one shadows."""
    httpd, _ = site
    stock = sandbox.httpd(httpd.mpm)
    stock.allowed_lines.append(logs.ALL_BUSY)  # it is asked when it has hardly begun

    def keys(server):
        return {k for k in server.status() if not k.startswith("Linger")}

    # An httpd in its first second, or that has used no processor time yet, has fewer.
    wait_until(lambda: keys(httpd) == keys(stock), lambda: f"{keys(httpd)} as {keys(stock)}")
    for key in our_keys(httpd):
        assert not any(other.endswith(key) or key.endswith(other) for other in stock.status())


def test_up(site):
    """Would catch numbers that don't move, or move late."""
    httpd, lingerd = site
    first = httpd.status()
    assert first["LingerUp"] == 1
    held = [clients.late_closer(httpd.port)[0] for _ in range(3)]
    wait_equal(lambda: httpd.status()["LingerQueue"], 3, "LingerQueue")
    wait_equal(lambda: httpd.status()["LingerHandoffs"], first["LingerHandoffs"] + 3, "hand-offs")
    status = httpd.status()
    assert status["LingerQueuePeak"] == 3
    assert 3 < status["LingerQueueLimit"] <= 20_000_000
    assert status["LingerHandoffMicros"] > first["LingerHandoffMicros"]
    wait_until(lambda: httpd.status()["LingerOldestMillis"] > status["LingerOldestMillis"],
               "LingerOldestMillis grows")
    for client in held:
        client.sendall(b"five!")
        client.close()
    wait_equal(lambda: httpd.status()["LingerQueue"], 0, "LingerQueue")
    status = httpd.status()
    assert status["LingerClosedByClient"] == first["LingerClosedByClient"] + 3
    assert status["LingerRescued"] == first["LingerRescued"] + 3
    assert status["LingerDrainedBytes"] == first["LingerDrainedBytes"] + 15
    assert status["LingerWorkerMillisFreed"] > first["LingerWorkerMillisFreed"]
    assert status["LingerOldestMillis"] == 0
    wait_until(lambda: httpd.status()["LingerUptimeSeconds"] > first["LingerUptimeSeconds"],
               "LingerUptimeSeconds grows")


def test_page_while_up(site):
    """Would catch a section that is missing, or that says nothing of the queue, the ends, the
    fallbacks and the time that workers have been spared."""
    httpd, lingerd = site
    client, _, _ = clients.late_closer(httpd.port)
    wait_equal(lingerd.queue, 1, "sockets in lingerd")
    text = linger_section(httpd).lower()
    assert "up" in text.split()
    for word in ("queue", "peak", "limit", "closed by the client", "reset by the client",
                 "evicted", "fallbacks", "lingerd down", "lingerd busy", "access denied", "freed"):
        assert word in text, f"{word!r} is not in: {text}"
    client.close()


def test_stopped(site):
    """SIGSTOP: the page comes at once, from what lingerd last wrote, and says that it's busy. Would
    catch a status that asks lingerd, and one that takes 'stopped' for 'gone'."""
    httpd, lingerd = site
    client, _, _ = clients.late_closer(httpd.port)
    wait_equal(lingerd.queue, 1, "sockets in lingerd")
    lingerd.pause()
    try:
        status = httpd.status()
        assert status["LingerUp"] == 1
        assert status["LingerQueue"] == 1
        wait_until(lambda: "busy" in linger_section(httpd).lower().split()[:12],
                   lambda: f"the page says busy: {linger_section(httpd)[:200]}", every=0.2)
        assert httpd.status()["LingerUp"] == 1
        assert our_keys(httpd) >= MODULE_KEYS | DAEMON_KEYS
        assert clients.fetch(httpd.port) == (200, content("hello.txt"))
    finally:
        lingerd.resume()
    wait_until(lambda: "up" in linger_section(httpd).lower().split()[:12], "the page says up")
    client.close()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_gone_and_back(site, how):
    """Would catch daemon keys that stay at their last value, or at zero, when nobody is there to
    have counted; and a page that fails."""
    httpd, lingerd = site
    assert our_keys(httpd) >= DAEMON_KEYS
    if how == "kill":
        lingerd.kill()
        # Its helpers, which hold the page's lock with it, end a moment later.
        wait_until(lambda: httpd.status()["LingerUp"] == 0, "it is gone")
    else:
        assert lingerd.stop() == []
    keys = our_keys(httpd)
    assert keys >= MODULE_KEYS
    assert not keys & DAEMON_KEYS
    assert httpd.status()["LingerUp"] == 0
    text = linger_section(httpd).lower()
    assert "down" in text.split()[:12], text[:200]
    lingerd.start()
    assert httpd.status()["LingerUp"] == 1
    assert our_keys(httpd) >= MODULE_KEYS | DAEMON_KEYS
    assert "up" in linger_section(httpd).lower().split()[:12]


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * 100, b"\0" * 4096, b"\xff" * 8192])
def test_damaged_page(site, damage):
    """Somebody has put something else where the stats page was. Would catch a crash (a mapped file
    that shrinks is SIGBUS) and numbers read from nonsense."""
    httpd, lingerd = site
    lingerd.stats_path.unlink()
    lingerd.stats_path.write_bytes(damage)
    children = httpd.children()
    for _ in range(4):
        status = httpd.status()
        assert status["LingerUp"] == 0 and "LingerQueue" not in status
        httpd.status_page()
    assert httpd.children() == children


def test_truncated_while_mapped(site):
    """The same file, cut short under lingerd's and httpd's hands."""
    httpd, lingerd = site
    children = httpd.children()
    with open(lingerd.stats_path, "r+b") as page:
        page.truncate(10)
        # lingerd maps it: writing would kill lingerd, so it is not given the time.
        lingerd.pause()
    try:
        for _ in range(4):
            assert httpd.status()["LingerUp"] == 0
            httpd.status_page()
        assert httpd.children() == children
    finally:
        lingerd.kill()


def test_without_mod_status(mpm, sandbox):
    """The module doesn't need mod_status. Would catch an unresolved symbol."""
    lingerd = sandbox.lingerd()
    httpd = sandbox.httpd(mpm, lingerd=lingerd, start=False)
    text = (httpd.directory / "httpd.conf").read_text()
    lines = [line for line in text.splitlines() if "status_module" not in line]
    (httpd.directory / "httpd.conf").write_text("\n".join(lines))
    code, output = httpd.config_test()
    assert code == 0, output
