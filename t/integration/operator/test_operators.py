# SPDX-License-Identifier: Apache-2.0
"""The pages that operators and their agents read: right while lingerd is up, busy, down and back, and
in the way of nothing else that reads server-status."""
import concurrent.futures
import contextlib
import html.parser
import http.client
import json
import re
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import clients, logs, places
from harness.sandbox import settle
from harness.waiting import wait_until

OPS = """
Listen 127.0.0.1:@ops@
<VirtualHost 127.0.0.1:@ops@>
  Linger Off
  KeepAlive Off
  <Location /linger-status>
    SetHandler linger-status
    Require all granted
  </Location>
  <Location /private>
    SetHandler linger-status
    Require ip 192.0.2.1
  </Location>
</VirtualHost>
"""
DOWN_LINE = r"\[linger:warn\] .*lingerd is down: "
BACK_LINE = r"\[linger:notice\] .*lingerd is back "
DENIED_LINE = r"\[authz_core:error\] .*AH01630: client denied by server configuration"


@pytest.fixture(scope="module")
def site(module_sandbox):
    return module_sandbox.site("event", ports=("ops",), config=OPS)


def ask(httpd, query="", method="GET", path="/linger-status", accept=None):
    """(status, headers, text)"""
    connection = http.client.HTTPConnection("127.0.0.1", httpd.ports["ops"], timeout=20)
    try:
        connection.request(method, path + query, headers={"Accept": accept} if accept else {})
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()


def text_of(httpd, query="", accept=None):
    status, _, text = ask(httpd, query, accept=accept)
    assert status == 200
    return text


def hand_off(httpd, lingerd, count=3):
    """`count` connections that lingerd has finished."""
    ended = lingerd.counters()["LingerClosedByClient"] + count
    waiting = [clients.late_closer(httpd.port)[0] for _ in range(count)]
    for client in waiting:
        client.settimeout(None)
    wait_until(lambda: lingerd.queue() >= count, "they linger")
    for client in waiting:
        client.close()
    wait_until(lambda: lingerd.counters()["LingerClosedByClient"] >= ended, "they have ended")
    settle(httpd)


class Balanced(html.parser.HTMLParser):
    """Fails on an element that is closed in the wrong place or not at all."""

    VOID = {"hr", "meta", "br", "path", "rect", "img", "input", "link"}

    def __init__(self):
        super().__init__()
        self.open = []
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()


def tags_of(section):
    parser = Balanced()
    parser.feed(section)
    parser.close()
    assert parser.open == []
    return parser.tags


def section_of(page):
    """Our part of mod_status's page, which ends with the server's signature."""
    found = re.search(r'<hr />\s*<style>.*<div id="linger".*</div>\n', page, re.DOTALL)
    assert found, page[-3000:]
    return found[0]


def test_the_section_of_server_status(site):
    httpd, lingerd = site
    hand_off(httpd, lingerd)
    page = httpd.status_page()
    section = section_of(page)
    assert "lingerd is up</b> for " in section
    assert {"svg", "table", "style"} <= tags_of(section)
    assert "script" not in tags_of(section) and "src=" not in section
    # The rest is mod_status's, as it was.
    assert page.replace(section, "").count("linger-") == 0
    assert page.index("Scoreboard Key") < page.index(section)
    assert page.rstrip().endswith("</body></html>")


def test_the_page_of_its_own_in_each_form(site):
    httpd, lingerd = site
    hand_off(httpd, lingerd)
    status, headers, page = ask(httpd)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert "http-equiv" not in page
    tags_of(page.split("<body>")[1].split("</body>")[0])

    assert '<meta http-equiv="refresh" content="7">' in text_of(httpd, "?refresh=7")

    _, headers, lines = ask(httpd, "?auto")
    assert headers["Content-Type"].startswith("text/plain")
    assert set(dict(line.split(": ") for line in lines.splitlines())) == {
        key for key in httpd.status() if key.startswith("Linger")}

    _, headers, text = ask(httpd, "?json")
    assert headers["Content-Type"].startswith("application/json")
    told = json.loads(text)
    assert told["state"] == "up" and told["socket"] == str(lingerd.socket_path)
    assert told["LingerTotal"] == lingerd.counters()["LingerTotal"]
    assert told["LingerHandoffs"] == httpd.status()["LingerHandoffs"]
    lengths = {len(told["history"][name]) for name in told["history"] if name != "seconds"}
    assert len(lengths) == 1 and lengths.pop() * told["history"]["seconds"] >= 590


def test_access_is_httpds(site):
    httpd, _ = site
    httpd.allowed_lines.append(DENIED_LINE)
    assert ask(httpd, path="/private")[0] == 403
    assert ask(httpd, method="POST")[0] == 404  # as mod_status answers


def test_the_shipped_configuration_shows_it_to_local_clients_only(sandbox):
    """mod_remoteip lends us an address that isn't local."""
    shipped = (places.ROOT / "conf" / "linger.conf").read_text()
    httpd = sandbox.httpd("event", ports=("ops",), modules=("remoteip",),
                          socket_path=sandbox.directory / "no.sock",
                          config=shipped + "RemoteIPHeader X-Client\n"
                                           "RemoteIPInternalProxy 127.0.0.1\nListen 127.0.0.1:@ops@\n")
    httpd.allowed_lines += [DENIED_LINE, DOWN_LINE]

    def status_for(client):
        connection = http.client.HTTPConnection("127.0.0.1", httpd.ports["ops"], timeout=20)
        connection.request("GET", "/linger-status", headers={"X-Client": client} if client else {})
        with contextlib.closing(connection):
            return connection.getresponse().status
    assert status_for(None) == 200
    assert status_for("192.0.2.1") == 403


def test_openmetrics(site):
    """Read by the reference parser, which is strict about names, suffixes and the end."""
    httpd, lingerd = site
    hand_off(httpd, lingerd)
    _, headers, text = ask(httpd, "?metrics")
    assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert text.endswith("\n# EOF\n")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["lingerd_up"].samples[0].value == 1
    status = httpd.status()
    for key, family in (("LingerTotal", "lingerd_sockets"),
                        ("LingerHandoffs", "mod_linger_handoffs"),
                        ("LingerQueueLimit", "lingerd_queue_limit")):
        assert families[family].samples[0].value == status[key]
    assert families["lingerd_drained_bytes"].unit == "bytes"
    for family in families.values():
        assert family.documentation and family.name.startswith(("lingerd_", "mod_linger_"))
    # Each number of ?auto is there.
    assert len(families) == 1 + sum(key.startswith("Linger") for key in status)


def test_prometheus_text_for_those_who_ask_for_text(site):
    httpd, _ = site
    _, headers, text = ask(httpd, "?metrics", accept="text/plain;version=0.0.4")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert headers["Vary"] == "Accept"
    result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                            text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_each_state_is_told_everywhere(sandbox):
    httpd, lingerd = sandbox.site("event", ports=("ops",), config=OPS)
    lingerd.pause()
    wait_until(lambda: "lingerd is busy</b>: no sign of life for " in httpd.status_page(), "busy")
    assert json.loads(text_of(httpd, "?json"))["state"] == "busy"
    assert httpd.status()["LingerUp"] == 1 and "LingerQueue" in httpd.status()
    lingerd.resume()
    wait_until(lambda: "lingerd is up</b>" in httpd.status_page(), "up")

    httpd.allowed_lines += [DOWN_LINE, BACK_LINE]
    lingerd.kill()
    # Its helpers, which hold the page's lock with it, end a moment later.
    wait_until(lambda: httpd.status()["LingerUp"] == 0, "it is gone")
    with clients.late_closer(httpd.port)[0]:  # still there when httpd looks: else it had closed first
        wait_until(lambda: httpd.status()["LingerFallbacksDown"] == 1, "the fallback is counted")
    page = httpd.status_page()
    assert re.search(r"lingerd is down</b>: gone for .*: stopped or killed", page)
    tags_of(section_of(page))
    status = httpd.status()
    assert status["LingerUp"] == 0 and status["LingerFallbacksDown"] == 1
    assert not {"LingerQueue", "LingerTotal", "LingerUptimeSeconds"} & set(status)
    families = {f.name for f in text_string_to_metric_families(text_of(httpd, "?metrics"))}
    assert "lingerd_up" in families and "lingerd_queue" not in families

    lingerd.stop()
    lingerd.start()
    assert "lingerd is up</b>" in httpd.status_page()

    def handed_off():  # a child looks for lingerd once a second
        clients.late_closer(httpd.port)[0].close()
        return lingerd.counters()["LingerTotal"] > 0
    wait_until(handed_off, "hand-offs resume")
    wait_until(lambda: httpd.error_log.matching(BACK_LINE), "the log says that it is back")


def test_a_lingerd_that_is_up_but_refuses_httpd(sandbox):
    """'up' alone would be the wrong news: why httpd can't use it is on the page, in words."""
    lingerd = sandbox.lingerd("--allow-user", "nobody")
    lingerd.allowed_lines.append("allow-user doesn't name this user")
    httpd = sandbox.httpd("event", lingerd=lingerd, ports=("ops",), config=OPS)
    httpd.allowed_lines.append(r"\[linger:warn\] .*lingerd denied")
    with clients.late_closer(httpd.port)[0]:
        wait_until(lambda: httpd.status()["LingerFallbacksDenied"] == 1, "the fallback is counted")
    page = httpd.status_page()
    assert "lingerd is up</b>" in page and "httpd's last hand-off was denied: see lingerd's " in page
    told = json.loads(text_of(httpd, "?json"))
    assert told["state"] == "up" and told["obstacle"].startswith("httpd's last hand-off was denied")


@pytest.mark.parametrize("given, used", [("refresh=0", 1), ("refresh=-5", 1), ("refresh=soon", 1),
                                         ("refresh=", 1), ("refresh", None), ("refresh=1e9", 1),
                                         ("refresh=99999999999999999999", 86400),
                                         ("x=1&refresh=7&refresh=9", 7), ("arefresh=7", None),
                                         ("refresh=3%22%3E%3Cscript%3E", 3), ("", None)])
def test_a_refresh_that_makes_no_sense(site, given, used):
    """Never an error, never a page that reloads itself without a pause, never what was given."""
    httpd, _ = site
    page = text_of(httpd, "?" + given)
    found = re.search(r'http-equiv="refresh" content="(\d+)"', page)
    assert (found and int(found[1])) == used
    assert "<script" not in page


@pytest.mark.parametrize("query", ["", "?auto", "?json", "?metrics", "?refresh=5"])
def test_head_has_the_heads_of_get(site, query):
    httpd, _ = site
    status, headers, text = ask(httpd, query, method="HEAD")
    assert (status, text) == (200, "")
    got = ask(httpd, query)[1]
    for name in ("Content-Type", "Cache-Control", "Vary"):
        assert headers[name] == got[name], name


def test_many_ask_at_once(site):
    """Each gets a whole answer that adds up, while connections come and go."""
    httpd, lingerd = site
    httpd.allowed_lines.append(logs.ALL_BUSY)

    def one(number):
        if number % 4 == 0:
            clients.late_closer(httpd.port)[0].close()
        told = json.loads(text_of(httpd, "?json"))
        text = text_of(httpd, "?metrics")
        assert text.endswith("\n# EOF\n") and told["state"] == "up"
        list(text_string_to_metric_families(text))
        ends = ("ClosedByClient", "ClosedByReset", "ClosedIdle", "ClosedCap", "Evicted", "Queue")
        assert told["LingerTotal"] == sum(told["Linger" + end] for end in ends)
        return True
    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        assert all(threads.map(one, range(120)))
    wait_until(lambda: lingerd.queue() == 0, "nothing is left")


def test_the_charts_show_what_happened(sandbox):
    """Samples appear in the slot after the one in which things happened: within ten seconds."""
    httpd, lingerd = sandbox.site("event", ports=("ops",), config=OPS)
    hand_off(httpd, lingerd, 5)

    def history():
        return json.loads(text_of(httpd, "?json"))["history"]

    def whole_story():
        told = history()
        fives = [value for value in told["queue"] if value == 5]
        return told if fives and sum(told["handoffsPerSecond"]) >= 4.9 / told["seconds"] else None

    told = wait_until(whole_story, history)
    assert sum(told["handoffsPerSecond"]) == pytest.approx(5 / told["seconds"])
    assert max(value or 0 for value in told["queue"]) == 5
    assert 'class="linger-h-line"' in httpd.status_page()
